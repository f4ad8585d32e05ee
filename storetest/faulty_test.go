package storetest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/storetest"
)

var errFault = errors.New("a fault")

func TestFaulty(t *testing.T) {
	session := renew.Session{AppID: "app", ID: "id", Subject: "s", TokenID: "1"}
	next := session
	next.TokenID = "2"
	calls := map[storetest.Method]func(context.Context, renew.TokenStore) error{
		storetest.CreateSession: func(ctx context.Context, s renew.TokenStore) error { return s.CreateSession(ctx, session) },
		storetest.ReadSession: func(ctx context.Context, s renew.TokenStore) error {
			got, err := s.Session(ctx, "app", "id")
			if err != nil && got.ID != "" {
				return fmt.Errorf("a session beside the error: %w", err)
			}
			return err
		},
		storetest.Rotate: func(ctx context.Context, s renew.TokenStore) error { return s.Rotate(ctx, "1", next) },
		storetest.RevokeSession: func(ctx context.Context, s renew.TokenStore) error {
			return s.RevokeSession(ctx, "app", "id", time.Unix(1, 0))
		},
	}
	// isDone reports whether a method has had its effect.
	isDone := func(t *testing.T, store *memstore.Store, method storetest.Method) bool {
		s, err := store.Session(t.Context(), "app", "id")
		switch method {
		case storetest.CreateSession:
			return err == nil
		case storetest.Rotate:
			return s.TokenID == "2"
		case storetest.RevokeSession:
			return !s.RevokedAt.IsZero()
		}
		return false
	}
	for method, call := range calls {
		for _, c := range []struct {
			name  string
			fault storetest.Fault
			err   error
			done  bool
		}{
			{"no fault", storetest.Fault{}, nil, true},
			{"fail", storetest.Fault{Fail: errFault}, errFault, false},
			{"lose", storetest.Fault{Lose: errFault}, errFault, true},
			{"late", storetest.Fault{Late: errFault}, errFault, true},
			{"delay", storetest.Fault{Delay: time.Hour}, nil, true},
			{"delay past the context", storetest.Fault{Delay: 3 * time.Hour}, context.DeadlineExceeded, false},
		} {
			t.Run(string(method)+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memstore.New()
					if method != storetest.CreateSession {
						require.NoError(t, store.CreateSession(t.Context(), session))
					}
					var asked []storetest.Call
					faulty := storetest.NewFaulty(store, func(c2 storetest.Call) storetest.Fault {
						asked = append(asked, c2)
						return c.fault
					})
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
					defer cancel()
					began := time.Now()
					require.ErrorIs(t, call(ctx, faulty), c.err)
					require.Equal(t, min(c.fault.Delay, 2*time.Hour), time.Since(began))
					require.Equal(t, []storetest.Call{{Method: method, AppID: "app", SessionID: "id"}}, asked)
					faulty.Wait()
					if method != storetest.ReadSession {
						require.Equal(t, c.done, isDone(t, store, method))
					}
				})
			})
		}
	}
}

var scheduleSeed = flag.Uint64("schedule-seed", 0, "the one schedule that TestSchedules runs; 0: all")

// TestSchedules renews sessions while calls of the store fail, wait and lose
// their results, responses are lost on the way to the client, and requests arrive
// twice. It keeps the promises of the library:
//
//   - no token ever has two successors
//   - a client that repeats its request, inside the window or with its
//     idempotency key, loses no session
//   - a renewal that failed and has not happened leaves the token good
//
// A failure names its seed. How requests that arrive concurrently take turns is not
// drawn from it, so that it may take some runs to see the failure again.
func TestSchedules(t *testing.T) {
	t.Parallel()
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	require.NoError(t, err)
	for _, kind := range []scheduleKind{
		{name: "single use"},
		{name: "retry window", window: time.Minute},
		{name: "idempotency key", keys: true},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			if *scheduleSeed != 0 {
				newSchedule(t, kind, key, *scheduleSeed).run()
				return
			}
			for range rounds.Of(t, 200) {
				newSchedule(t, kind, key, rand.Uint64()).run()
			}
		})
	}
}

// scheduleKind is how clients get a lost response again, if at all.
type scheduleKind struct {
	name   string
	window time.Duration
	keys   bool
}

func (k scheduleKind) repeats() bool { return k.window > 0 || k.keys }

// schedule is one session's life, drawn from a seed.
type schedule struct {
	t       *testing.T
	kind    scheduleKind
	seed    uint64
	store   *memstore.Store
	renewer *renew.Renewer

	mu         sync.Mutex
	random     *rand.Rand
	now        time.Time
	faults     bool              // whether there are any just now
	successors map[string]string // token ID to the one that took its place
}

func newSchedule(t *testing.T, kind scheduleKind, key *renew.SigningKey, seed uint64) *schedule {
	s := &schedule{
		t: t, kind: kind, seed: seed,
		store:      memstore.New(),
		random:     rand.New(rand.NewPCG(seed, 0)),
		now:        time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		successors: map[string]string{},
	}
	s.must(s.store.CreateApp(t.Context(), renew.App{ID: "app", Issuer: "issuer", RefreshTTL: 24 * time.Hour}))
	s.must(s.store.RotateSigningKey(t.Context(), "app", key, s.now))
	var err error
	s.renewer, err = renew.New(s.store, storetest.NewFaulty(s.store, s.plan),
		renew.WithClock(s.clock), renew.WithRetryWindow(kind.window), renew.WithReuseLeeway(10*time.Second))
	s.must(err)
	return s
}

func (s *schedule) must(err error) {
	s.t.Helper()
	if err != nil {
		s.fail("%v", err)
	}
}

func (s *schedule) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s, -schedule-seed=%d: %s", s.kind.name, s.seed, fmt.Sprintf(format, args...))
}

func (s *schedule) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *schedule) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// plan makes every third call of the store go wrong.
func (s *schedule) plan(storetest.Call) storetest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults {
		return storetest.Fault{}
	}
	switch s.random.IntN(12) {
	case 0:
		return storetest.Fault{Fail: errFault}
	case 1:
		return storetest.Fault{Lose: errFault}
	case 2:
		return storetest.Fault{Late: errFault}
	case 3:
		return storetest.Fault{Delay: time.Duration(s.random.IntN(50)) * time.Microsecond}
	}
	return storetest.Fault{}
}

func (s *schedule) setFaults(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = on
}

// wait lets time pass: less than the window, or, where a key is sent, any.
func (s *schedule) wait() {
	longest := 5 * time.Minute
	if s.kind.window > 0 {
		longest = s.kind.window / 20
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(time.Duration(s.random.Int64N(int64(longest))))
}

func (s *schedule) run() {
	s.t.Helper()
	held, err := s.renewer.Issue(s.t.Context(), renew.IssueRequest{AppID: "app", Subject: "s", IP: "192.0.2.1", UserAgent: "test"})
	s.must(err)
	for range 1 + s.draw(8) {
		next := s.renewal(held)
		if next == nil {
			return // the session is lost, as single use means
		}
		held = next
	}
}

// renewal is a client that wants a new pair for the one it holds, until it has it.
func (s *schedule) renewal(held *renew.Bundle) *renew.Bundle {
	s.t.Helper()
	req := renew.RenewRequest{AppID: "app", RefreshToken: held.RefreshToken, IP: "192.0.2.1", UserAgent: "test"}
	if s.kind.keys {
		req.IdempotencyKey = fmt.Sprintf("key-%016x", s.draw(1<<30))
	}
	const tries = 12 // the last of them without faults
	for try := 1; try <= tries; try++ {
		s.setFaults(try < tries)
		responses := s.present(held, req, 1+s.draw(3))
		lostOnTheWay := try < tries && s.draw(3) == 0
		if len(responses) > 0 && !lostOnTheWay {
			s.setFaults(false)
			return responses[0]
		}
		s.checkTokenIsValid(held, len(responses) == 0)
		if !s.kind.repeats() && s.isSpent(held) {
			return nil
		}
		s.wait()
	}
	s.fail("token %s: the session is lost", held.TokenID)
	return nil
}

// present sends the request so many times concurrently, and returns the responses.
func (s *schedule) present(held *renew.Bundle, req renew.RenewRequest, times int) []*renew.Bundle {
	s.t.Helper()
	var responses []*renew.Bundle
	var failures []error
	var all sync.WaitGroup
	for range times {
		all.Go(func() {
			b, err := s.renewer.Renew(s.t.Context(), req)
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				failures = append(failures, err)
				return
			}
			responses = append(responses, b)
		})
	}
	all.Wait()
	for _, err := range failures {
		if s.kind.repeats() && errors.Is(err, renew.ErrInvalidRefreshToken) {
			s.fail("token %s: a repeated request was rejected: %v", held.TokenID, err)
		}
	}
	for _, b := range responses {
		if before := s.successors[held.TokenID]; before != "" && before != b.TokenID {
			s.fail("token %s has two successors, %s and %s", held.TokenID, before, b.TokenID)
		}
		s.successors[held.TokenID] = b.TokenID
	}
	return responses
}

func (s *schedule) session(held *renew.Bundle) renew.Session {
	s.t.Helper()
	session, err := s.store.Session(s.t.Context(), "app", held.SessionID)
	s.must(err)
	return session
}

func (s *schedule) isSpent(held *renew.Bundle) bool { return s.session(held).TokenID != held.TokenID }

// checkTokenIsValid checks, after a renewal without a response, that the
// token is still current or has the one successor that the store knows.
func (s *schedule) checkTokenIsValid(held *renew.Bundle, noResponse bool) {
	s.t.Helper()
	session := s.session(held)
	// A rotation that was done late may have used a token that looked valid when
	// the client tried again: only those who repeat are promised a session then.
	if !session.RevokedAt.IsZero() && (s.kind.repeats() || session.TokenID == held.TokenID) {
		s.fail("token %s: the session was revoked", held.TokenID)
	}
	switch {
	case session.TokenID == held.TokenID:
		if !noResponse {
			s.fail("token %s: it had a response, and has no successor", held.TokenID)
		}
	case session.PreviousTokenID != held.TokenID:
		s.fail("token %s: the session went on without it", held.TokenID)
	default:
		if before := s.successors[held.TokenID]; before != "" && before != session.TokenID {
			s.fail("token %s has two successors, %s and %s", held.TokenID, before, session.TokenID)
		}
		s.successors[held.TokenID] = session.TokenID
	}
}
