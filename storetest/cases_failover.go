package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// failoverLaws are the laws of a store whose last writes a failover may lose.
func failoverLaws() []law[*tokens] {
	return []law[*tokens]{
		{"F1", "a failover takes back the last writes at most: each session is as some call has left it, whole, and what was stored a moment before is there", []testCase[*tokens]{
			{name: "states", run: failoverStates, serial: true},
		}},
		{"F2", "so it stays: every process sees the same, the lists of subjects too, nothing comes back later, and the other laws hold for what is written then", []testCase[*tokens]{
			{name: "stays", run: failoverStays, serial: true},
		}},
		{"F3", "with renew.AheadAdopted a failover logs no client out, and leaves no token with two successors that can both be renewed", []testCase[*tokens]{
			{name: "clients", run: failoverClients, serial: true},
		}},
	}
}

// failoverPause is how long the suite waits before a failover, so that replicas have
// what was written, and after one, for what may come back.
const failoverPause = 300 * time.Millisecond

func needsFailover(e *tokenEnv) {
	if e.failover == nil {
		e.skip("the test of this store gives no WithFailover, as is right for one that loses no acknowledged write")
	}
}

// failovers is how many a case makes.
func failovers(e *tokenEnv) int { return max(1, int(2*e.effort)) }

// failsOver makes a failover while clients act, and waits until both handles work
// again. begun is set when the failover begins.
func failsOver(e *tokenEnv, clients int, begun *atomic.Bool, act func(client int)) {
	const actsBefore, pace = 20, time.Millisecond
	time.Sleep(e.scaled(failoverPause))
	var over atomic.Bool
	var acts atomic.Int64
	atWork := make(chan struct{})
	begin := sync.OnceFunc(func() { close(atWork) })
	e.race(clients+1, func(i int) {
		if i == clients {
			<-atWork
			begun.Store(true)
			e.hook(func(tb testing.TB) { e.failover(tb) })
			over.Store(true)
			return
		}
		defer begin()
		for !over.Load() && !e.failed() && e.ctx.Err() == nil {
			act(i)
			if acts.Add(1) > int64(actsBefore*clients) {
				begin()
			}
			time.Sleep(pace)
		}
	})
	e.recovers(func(ctx context.Context, h *tokens) error {
		if _, err := h.Session(ctx, e.app, newID()); !errors.Is(err, renew.ErrSessionNotFound) {
			return err
		}
		return nil
	})
}

// traced is a session that one client writes, with all that it may be after a
// failover.
type traced struct {
	states map[string][]renew.Session // by token ID
	fresh  bool                       // it was created since the last failover, which may lose it
	latest renew.Session              // as the client has written or read it last
	used   []string                   // token IDs that it has had
}

func newTraced(s renew.Session) *traced {
	t := &traced{states: map[string][]renew.Session{}}
	t.settles(s)
	return t
}

// settles forgets all but one state.
func (t *traced) settles(s renew.Session) {
	clear(t.states)
	t.latest, t.fresh = s, false
	t.may(s)
}

// may adds a state that the session may have.
func (t *traced) may(s renew.Session) {
	t.states[s.TokenID] = append(t.states[s.TokenID], s)
	if n := len(t.used); n == 0 || t.used[n-1] != s.TokenID {
		t.used = append(t.used, s.TokenID)
	}
}

// mayBeRevoked adds what RevokeSession makes of the latest state, or of any: of which
// one is not known while a failover takes states back.
func (t *traced) mayBeRevoked(at time.Time, any bool) {
	for id, states := range t.states {
		if any || id == t.latest.TokenID {
			for _, s := range states {
				if s.RevokedAt.IsZero() {
					s.RevokedAt = at
					t.states[id] = append(t.states[id], s)
				}
			}
		}
	}
}

// differs says how got is different from all states, or is empty.
func (t *traced) differs(got renew.Session) (diff string) {
	diff = fmt.Sprintf("it is at %s, which no call has given it since it was known to be stored", named("token", got.TokenID))
	for _, s := range t.states[got.TokenID] {
		if diff = difference(s, got); diff == "" {
			return ""
		}
	}
	return diff
}

// writer is a client that writes its own sessions, one call at a time.
type writer struct {
	handle   *tokens
	random   *rand.Rand
	sessions []*traced
}

func newWriters(e *tokenEnv, n int) []*writer {
	random := e.random()
	all := make([]*writer, n)
	for i := range all {
		all[i] = &writer{handle: e.handle(i).plain(), random: newRandom(random.Uint64(), 0)}
		for range 2 {
			s := newSession(e)
			create(e, s)
			all[i].sessions = append(all[i].sessions, newTraced(s))
		}
	}
	return all
}

// act makes one call.
func (w *writer) act(e *tokenEnv, begun *atomic.Bool) {
	const most = 4
	t := w.sessions[w.random.IntN(len(w.sessions))]
	switch n := w.random.IntN(40); {
	case n == 0 && len(w.sessions) < most:
		s := newSession(e)
		t = newTraced(s)
		t.fresh = true
		w.sessions = append(w.sessions, t)
		if w.handle.CreateSession(e.ctx, s) != nil {
			w.look(e, t)
		}
	case n == 1 && t.latest.RevokedAt.IsZero():
		at := revokedAt.Add(time.Duration(w.random.IntN(1e6)) * time.Millisecond)
		err := w.handle.RevokeSession(e.ctx, e.app, t.latest.ID, at)
		t.mayBeRevoked(at, err != nil || begun.Load())
		w.look(e, t)
	case t.latest.RevokedAt.IsZero():
		next := successor(t.latest)
		if n < 8 {
			next.Subject = "another " + t.latest.ID
		}
		t.may(next)
		if err := w.handle.Rotate(e.ctx, t.latest.TokenID, next); err != nil {
			w.look(e, t)
			return
		}
		t.latest = next
	default:
		w.look(e, t)
	}
}

// look reads the session, while a failover may be under way.
func (w *writer) look(e *tokenEnv, t *traced) {
	got, err := w.handle.Session(e.ctx, e.app, t.latest.ID)
	switch {
	case errors.Is(err, renew.ErrSessionNotFound) && !t.fresh:
		e.breaks("F1", "expected %s during a failover, which was stored before it\nthe store returned %q", describe(t.latest), err)
	case err != nil:
	default:
		if diff := t.differs(got); diff != "" {
			e.breaks("F1", "expected a state of the session that some call has left\nthe store returned another one during a failover: %s", diff)
		}
		t.latest = got
	}
}

// settle reads every session when the failover is over, and returns what is stored.
func settle(e *tokenEnv, writers []*writer) world {
	w := world{}
	for _, writer := range writers {
		for _, t := range writer.sessions {
			key := keyOf(t.latest)
			got, err := e.a.Session(e.ctx, key.app, key.id)
			switch {
			case errors.Is(err, renew.ErrSessionNotFound) && t.fresh:
				w[key] = renew.Session{}
				continue
			case err != nil:
				e.breaks("F1", "expected %s after a failover, which was stored before it\nthe store returned the error %q", describe(t.latest), err)
				panic(stop{})
			}
			if diff := t.differs(got); diff != "" {
				e.breaks("F1", "expected a state of the session that some call has left, after a failover\nthe store has another one: %s", diff)
				panic(stop{})
			}
			w[key] = got
		}
	}
	return w
}

// failoverStates reads what a failover has left of sessions that were written while it
// came.
func failoverStates(e *tokenEnv) {
	needsFailover(e)
	const clients = 6
	writers := newWriters(e, clients)
	for range failovers(e) {
		var begun atomic.Bool
		failsOver(e, clients, &begun, func(i int) { writers[i].act(e, &begun) })
		w := settle(e, writers)
		for _, writer := range writers {
			live := writer.sessions[:0]
			for _, t := range writer.sessions {
				if got := w[keyOf(t.latest)]; got.ID != "" && got.RevokedAt.IsZero() {
					t.settles(got)
					live = append(live, t)
				}
			}
			if writer.sessions = live; len(live) == 0 {
				s := newSession(e)
				create(e, s)
				writer.sessions = append(live, newTraced(s))
			}
		}
	}
}

// failoverStays looks for what changes after a failover without a call, and for what
// it has left behind.
func failoverStays(e *tokenEnv) {
	needsFailover(e)
	const clients = 6
	for range failovers(e) {
		writers := newWriters(e, clients)
		var begun atomic.Bool
		failsOver(e, clients, &begun, func(i int) { writers[i].act(e, &begun) })
		all := settle(e, writers)
		if !all.is(e, "a failover") {
			return
		}
		time.Sleep(e.scaled(failoverPause))
		if !all.is(e, "a failover, read for the second time") {
			return
		}
		for i, writer := range writers {
			for n, t := range writer.sessions {
				if !writesOn(e, e.handle(i+n), all, t) {
					return
				}
			}
		}
		time.Sleep(e.scaled(failoverPause))
		if !all.is(e, "a failover, and calls after it") {
			return
		}
	}
}

// writesOn makes calls about a session that has met a failover: from a token ID that
// is not the current one any more, and from the one that is.
func writesOn(e *tokenEnv, h *tokens, all world, t *traced) bool {
	key := keyOf(t.latest)
	own := world{key: all[key]} // its subjects are used by no other session
	defer func() { all[key] = own[key] }()
	current := own[key]
	if !own.has(key) { // its ID is free again
		s := t.latest.Clone()
		s.RevokedAt = time.Time{}
		return own.do(e, h, createSessionOp(s))
	}
	for _, from := range t.used[max(0, len(t.used)-20):] {
		if from == current.TokenID && current.RevokedAt.IsZero() {
			continue
		}
		next := successor(current)
		next.RevokedAt = time.Time{}
		if err := h.Rotate(e.ctx, from, next); !errors.Is(err, renew.ErrConflict) {
			e.failf("expected renew.ErrConflict of Rotate from %s after a failover, when the session is at %s\nthe store returned %v", named("token", from), named("token", current.TokenID), err)
			return false
		}
	}
	if !own.is(e, "Rotates after a failover from token IDs that the session has no more") {
		return false
	}
	if current.RevokedAt.IsZero() && !own.do(e, h, rotateSessionOp(current.TokenID, successor(current))) {
		return false
	}
	if h.hasSubjects() {
		return own.do(e, h, revokeSubjectOp(e.app, current.Subject, revokedAt))
	}
	return own.do(e, h, revokeSessionOp(key, revokedAt))
}

// oneApp is a key store with one app and one key.
type oneApp struct {
	app renew.App
	key *renew.SigningKey
}

func (k *oneApp) App(_ context.Context, appID string) (renew.App, error) {
	if appID != k.app.ID {
		return renew.App{}, renew.ErrAppNotFound
	}
	return k.app, nil
}

func (k *oneApp) SigningKey(context.Context, string) (*renew.SigningKey, error) { return k.key, nil }

func (k *oneApp) VerificationKey(_ context.Context, _, keyID string) (*renew.VerificationKey, error) {
	if keyID != k.key.KeyID() {
		return nil, renew.ErrKeyNotFound
	}
	return k.key.VerificationKey(), nil
}

// renewer returns one over a handle.
func renewer(e *tokenEnv, keys renew.KeyStore, h *tokens, opts ...renew.Option) *renew.Renewer {
	r, err := renew.New(keys, struct{ renew.TokenStore }{h.plain()}, append(opts, renew.WithAhead(renew.AheadAdopted))...)
	if err != nil {
		e.fatalf("expected a Renewer of package renew: %v", err)
	}
	return r
}

// browser is a client of two Renewers. Now and then it sends a request twice, at the
// same moment, as two tabs do.
type browser struct {
	renewers [2]*renew.Renewer
	random   *rand.Rand
	last     *renew.Bundle
	used     []*renew.Bundle // whose refresh tokens must not be renewed any more
	out      bool            // it is logged out
}

// failoverClients has clients renew their sessions while a failover comes.
func failoverClients(e *tokenEnv) {
	needsFailover(e)
	const clients = 8
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	if err != nil {
		e.fatalf("expected a signing key of package renew: %v", err)
	}
	keys := &oneApp{renew.App{ID: e.app, Issuer: "storetest"}, key}
	renewers := [2]*renew.Renewer{renewer(e, keys, e.a), renewer(e, keys, e.b)}
	random := e.random()
	browsers := make([]*browser, clients)
	for i := range browsers {
		b := &browser{renewers: renewers, random: newRandom(random.Uint64(), 0)}
		login := renew.IssueRequest{AppID: e.app, Subject: "subject", IP: "192.0.2.1", UserAgent: "storetest"}
		for range patience {
			if b.last, err = renewers[i%2].Issue(e.ctx, login); err == nil {
				break
			}
		}
		if err != nil {
			e.fatalf("expected Renewer.Issue to begin a session\nit returned the error %q", err)
		}
		browsers[i] = b
	}
	for range failovers(e) {
		var begun atomic.Bool
		failsOver(e, clients, &begun, func(i int) { browsers[i].renew(e) })
	}
	judges := renewer(e, keys, e.a, renew.WithReuseRevocation(false))
	for _, b := range browsers {
		b.judge(e, judges)
	}
}

// renew renews the session, and repeats the request until there is a response.
func (b *browser) renew(e *tokenEnv) {
	if b.out {
		return
	}
	token, key := b.last, newID()+newID()
	twice := b.random.IntN(5) == 0
	var got [2]*renew.Bundle
	var errs [2]error
	var both sync.WaitGroup
	for i, r := range b.renewers {
		if i == 0 || twice {
			both.Go(func() { got[i], errs[i] = repeat(e, r, token, key) })
		}
	}
	both.Wait()
	for i, err := range errs {
		if err != nil {
			b.out = true
			e.breaks("F3", "expected a client to stay logged in through a failover, with renew.AheadAdopted and an idempotency key\nRenewer %d returned %q for its refresh token", i+1, err)
			return
		}
	}
	next := got[0]
	if twice && got[1].TokenID != next.TokenID { // the failover has taken back one of them: the newer one is valid
		older := got[1]
		if older.TokenID > next.TokenID {
			older, next = next, older
		}
		b.used = append(b.used, older)
	}
	b.used = append(b.used, token)
	b.last = next
}

func repeat(e *tokenEnv, r *renew.Renewer, token *renew.Bundle, key string) (*renew.Bundle, error) {
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		got, err := r.Renew(e.ctx, renew.RenewRequest{AppID: e.app, RefreshToken: token.RefreshToken, IdempotencyKey: key, IP: "192.0.2.1", UserAgent: "storetest"})
		if err == nil || errors.Is(err, renew.ErrInvalidRefreshToken) || errors.As(err, new(*renew.ValidationError)) || time.Since(begun) > e.scaled(2*e.recovery) {
			return got, err
		}
	}
}

// judge presents tokens of the client when all is over: the last one is renewed, and
// none of the others, so that no token has two successors.
func (b *browser) judge(e *tokenEnv, r *renew.Renewer) {
	const enough = 50
	for _, used := range b.used[max(0, len(b.used)-enough):] {
		_, err := repeat(e, r, used, newID()+newID())
		if !errors.Is(err, renew.ErrInvalidRefreshToken) {
			e.fatalf("expected renew.ErrInvalidRefreshToken for a refresh token that was renewed, or whose renewal a failover has taken back\nthe Renewer returned %v for token ID %s, when the session is at %s: a token has two successors that can both be renewed", err, used.TokenID, b.last.TokenID)
		}
	}
	if _, err := repeat(e, r, b.last, newID()+newID()); err != nil {
		e.fatalf("expected a client to stay logged in after a failover, with renew.AheadAdopted\nthe Renewer returned %q for its last refresh token", err)
	}
}
