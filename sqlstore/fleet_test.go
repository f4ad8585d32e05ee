package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// seedVariable names the environment variable that repeats a run's random choices.
const seedVariable = "RENEW_SQLSTORE_SEED"

func seed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("random choices: repeat them with %s=%d", seedVariable, seed)
	return seed
}

const (
	testApp      = "app"
	testWindow   = time.Hour
	fleetTimeout = 10 * time.Minute
)

// server is one API server of a fleet.
type server interface {
	// renew answers as a server would. errRefused: the token renews nothing.
	renew(ctx context.Context, token, idempotencyKey string) (answer, error)
}

var (
	errRefused = errors.New("refused")
	errAhead   = errors.New("ahead of the store")
)

type answer struct {
	RefreshToken, TokenID string
	Retried               bool
}

// renewer is a server in this process.
type renewer struct{ *renew.Renewer }

func (r renewer) renew(ctx context.Context, token, idempotencyKey string) (answer, error) {
	b, err := r.Renew(ctx, renew.RenewRequest{
		AppID: testApp, RefreshToken: token, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: idempotencyKey,
	})
	switch {
	case errors.Is(err, renew.ErrInvalidRefreshToken):
		return answer{}, fmt.Errorf("%w: %w", errRefused, err)
	case errors.Is(err, renew.ErrAhead):
		return answer{}, fmt.Errorf("%w: %w", errAhead, err)
	case err != nil:
		return answer{}, err
	}
	return answer{b.RefreshToken, b.TokenID, b.Retried}, nil
}

// newRenewer returns a server on a pool of its own, of eight connections.
func (d *database) newRenewer(tb testing.TB, dsn string, opts ...renew.Option) renewer {
	tb.Helper()
	return d.newRenewerOn(tb, dsn, 8, opts...)
}

func (d *database) newRenewerOn(tb testing.TB, dsn string, connections int, opts ...renew.Option) renewer {
	tb.Helper()
	db := d.openDSN(tb, dsn)
	db.SetMaxOpenConns(connections)
	r, err := renew.New(d.keyStore(tb, db, sqlstore.WithStatusInterval(time.Second)), d.tokenStore(tb, db), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	return renewer{r}
}

// prepare migrates the database and gives it the app with a key.
func (d *database) prepare(tb testing.TB) {
	tb.Helper()
	db := d.open(tb)
	d.migrate(tb, db)
	keys := d.keyStore(tb, db)
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	if err != nil {
		tb.Fatal(err)
	}
	if err := keys.CreateApp(tb.Context(), renew.App{ID: testApp, Issuer: "issuer"}); err != nil {
		tb.Fatal(err)
	}
	if err := keys.RotateSigningKey(tb.Context(), testApp, key, time.Now()); err != nil {
		tb.Fatal(err)
	}
}

// fleet is users whose clients renew through several servers at once, while a
// test breaks things. A client whose request fails repeats it, with the same
// token and the same idempotency key, until it has an answer.
type fleet struct {
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc
	pick   func(random *rand.Rand) server // one that is up, or seems so

	users    []*user
	renewals atomic.Int64 // steps from one token to the next
	answers  atomic.Int64
	retried  atomic.Int64 // answers given again
	repeats  atomic.Int64 // requests that failed and were repeated

	mu         sync.Mutex
	successors map[string]string // presented token ID: the successor's
	running    sync.WaitGroup
	stopped    chan struct{}
}

// user has one session.
type user struct {
	sessionID  string
	token, id  string // the current refresh token and its ID
	generation int64
	lastToken  string // of the last request
	lastKey    string
	random     *rand.Rand
}

// newFleet logs the users in through issuer.
func newFleet(t *testing.T, seed uint64, users int, issuer *renew.Renewer, pick func(*rand.Rand) server) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fleetTimeout)
	t.Cleanup(cancel)
	f := &fleet{t: t, ctx: ctx, cancel: cancel, pick: pick, successors: make(map[string]string), stopped: make(chan struct{})}
	for i := range users {
		b, err := issuer.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: fmt.Sprintf("user-%d", i), IP: "192.0.2.1", UserAgent: "test"})
		if err != nil {
			t.Fatal(err)
		}
		f.users = append(f.users, &user{sessionID: b.SessionID, token: b.RefreshToken, id: b.TokenID, random: rand.New(rand.NewPCG(seed, uint64(i)))})
	}
	return f
}

// start has every user renew until stop.
func (f *fleet) start() {
	for _, u := range f.users {
		f.running.Go(func() {
			for {
				select {
				case <-f.stopped:
					return
				case <-f.ctx.Done():
					return
				default:
					f.step(u)
				}
			}
		})
	}
}

// tabs is how many clients of a user present one token at once.
const tabs = 2

// step renews a user's session once: both tabs must be given the same successor.
func (f *fleet) step(u *user) {
	u.lastToken, u.lastKey = u.token, fmt.Sprintf("%016x%016x", u.random.Uint64(), u.random.Uint64())
	var answers [tabs]answer
	var both sync.WaitGroup
	for i := range tabs {
		random := rand.New(rand.NewPCG(u.random.Uint64(), uint64(i)))
		both.Go(func() { answers[i] = f.present(u, random) })
	}
	both.Wait()
	if f.ctx.Err() != nil {
		return
	}
	u.token, u.id = answers[0].RefreshToken, answers[0].TokenID
	u.generation++
	f.renewals.Add(1)
}

// present sends the user's last request until it is answered. The pauses double: a
// database cannot recover while it turns away thousands of connections a second.
func (f *fleet) present(u *user, random *rand.Rand) answer {
	for pause := time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		a, err := f.pick(random).renew(f.ctx, u.lastToken, u.lastKey)
		switch {
		case err == nil:
			f.record(u, a)
			return a
		case errors.Is(err, errRefused):
			f.fail("session %s is lost, though its client repeats the same request: %v", u.sessionID, err)
		case errors.Is(err, errAhead):
			f.fail("session %s: an acknowledged renewal is missing: %v", u.sessionID, err)
		}
		if f.ctx.Err() != nil {
			return answer{}
		}
		f.repeats.Add(1)
		time.Sleep(pause/2 + time.Duration(random.Int64N(int64(pause))))
	}
}

// record holds an answer to the promise that a token has one successor.
func (f *fleet) record(u *user, a answer) {
	f.answers.Add(1)
	if a.Retried {
		f.retried.Add(1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, found := f.successors[u.id]; found && known != a.TokenID {
		f.fail("session %s: token %s has two successors, %s and %s", u.sessionID, u.id, known, a.TokenID)
	}
	f.successors[u.id] = a.TokenID
}

// fail may be called from any goroutine.
func (f *fleet) fail(format string, args ...any) {
	f.t.Errorf(format, args...)
	f.cancel()
}

// await returns when n more renewals were made.
func (f *fleet) await(n int) {
	goal := f.renewals.Load() + int64(n)
	for f.renewals.Load() < goal && f.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// finish lets every user end the step that it is at, and then checks every
// session: its state is that of the last acknowledged renewal, the last request
// repeated gets the last answer, and the session renews.
func (f *fleet) finish(store renew.TokenStore, final server, broken int, what string) {
	f.t.Helper()
	close(f.stopped)
	f.running.Wait()
	for _, u := range f.users {
		if f.ctx.Err() != nil {
			break
		}
		f.check(u, store, final)
	}
	if f.ctx.Err() != nil && !f.t.Failed() {
		f.t.Errorf("not done within %v: does every server come back?", fleetTimeout)
	}
	f.t.Logf("%d %s, %d sessions, %d renewals: %d answers, %d of them given again, %d requests failed and were repeated",
		broken, what, len(f.users), f.renewals.Load(), f.answers.Load(), f.retried.Load(), f.repeats.Load())
}

func (f *fleet) check(u *user, store renew.TokenStore, final server) {
	f.t.Helper()
	s, err := store.Session(f.ctx, testApp, u.sessionID)
	if err != nil {
		f.fail("session %s: %v", u.sessionID, err)
		return
	}
	if s.TokenID != u.id || s.Generation != u.generation {
		f.fail("session %s: acknowledged up to token %s, generation %d; the store has token %s, generation %d",
			u.sessionID, u.id, u.generation, s.TokenID, s.Generation)
		return
	}
	if u.lastToken == "" {
		f.fail("session %s was never renewed", u.sessionID)
		return
	}
	again, err := final.renew(f.ctx, u.lastToken, u.lastKey)
	if err != nil || again.TokenID != u.id {
		f.fail("session %s: the last request repeated was answered with token %s, %v; the answer had been token %s", u.sessionID, again.TokenID, err, u.id)
		return
	}
	if _, err := final.renew(f.ctx, u.token, ""); err != nil {
		f.fail("session %s renews no more: %v", u.sessionID, err)
	}
}

func isRefusal(err error) bool { return errors.Is(err, errRefused) }
