package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jwtrenew/renew"
)

// outageCases test law T12.
var outageCases = []testCase[*tokens]{
	{name: "every-method", run: outage, serial: true},
	{name: "new-handles", run: outageNewHandles, serial: true},
}

func outage(e *tokenEnv) {
	s := created(e)
	e.cut(func() {
		for i := range 2 {
			for _, c := range outageCalls(e, e.handle(i), s) {
				ctx, cancel := context.WithTimeout(e.ctx, e.scaled(outageLimit))
				judgeOutage(e, c.method, c.call(ctx))
				cancel()
			}
		}
	})
}

type outageCall struct {
	method string
	call   func(ctx context.Context) error
}

func outageCalls(e *tokenEnv, h *tokens, s renew.Session) []outageCall {
	calls := []outageCall{
		{"Session", func(ctx context.Context) error { _, err := h.Session(ctx, s.AppID, s.ID); return err }},
		{"Session of an unknown ID", func(ctx context.Context) error { _, err := h.Session(ctx, s.AppID, newID()); return err }},
		{"Rotate", func(ctx context.Context) error { return h.Rotate(ctx, s.TokenID, successor(s)) }},
		{"Rotate from another token ID", func(ctx context.Context) error { return h.Rotate(ctx, newID(), successor(s)) }},
		{"CreateSession", func(ctx context.Context) error { return h.CreateSession(ctx, newSession(e)) }},
		{"RevokeSession", func(ctx context.Context) error { return h.RevokeSession(ctx, s.AppID, s.ID, revokedAt) }},
	}
	if _, ok := h.store.(renew.SubjectStore); ok {
		by := asSubjects(e, h)
		calls = append(calls,
			outageCall{"SubjectSessions", func(ctx context.Context) error {
				_, err := by.SubjectSessions(ctx, s.AppID, s.Subject, s.RefreshNotBefore)
				return err
			}},
			outageCall{"RevokeSubject", func(ctx context.Context) error {
				_, err := by.RevokeSubject(ctx, s.AppID, s.Subject, revokedAt)
				return err
			}})
	}
	if _, ok := h.store.(renew.Purger); ok {
		calls = append(calls, outageCall{"DeleteExpired", func(ctx context.Context) error {
			_, err := asPurger(e, h).DeleteExpired(ctx, horizon, 1)
			return err
		}})
	}
	return calls
}

func judgeOutage(e *tokenEnv, method string, err error) {
	if err == nil {
		e.failf("expected an error of %s while the backing store is unreachable\nthe store returned nil", method)
		return
	}
	for _, wrong := range []error{renew.ErrSessionNotFound, renew.ErrConflict, renew.ErrSessionExists} {
		if errors.Is(err, wrong) {
			e.failf("expected an error of its own of %s while the backing store is unreachable\nthe store returned %s: %q", method, errorName(wrong), err)
		}
	}
}

func outageNewHandles(e *tokenEnv) {
	s := created(e)
	next := successor(s)
	e.cut(func() {
		ctx, cancel := context.WithTimeout(e.ctx, e.scaled(outageLimit))
		defer cancel()
		_ = e.a.Rotate(ctx, s.TokenID, next) // every-method judges the answer
	})
	h := e.openHandle()
	got := read(e, h, s)
	if got.TokenID != s.TokenID && got.TokenID != next.TokenID {
		e.fatalf("expected the session after an outage at %s, or at %s\nthe store has it at %s", named("token", s.TokenID), named("token", next.TokenID), named("token", got.TokenID))
	}
	rotate(e, h, got.TokenID, successor(got))
}

// crashCases test law T13.
var crashCases = []testCase[*tokens]{
	{name: "quiet", run: crashQuiet, serial: true},
	{name: "in-the-middle-of-work", run: crashAtWork, serial: true},
}

func crashQuiet(e *tokenEnv) {
	e.needsCrash()
	fresh, rotated, revoked := created(e), created(e), created(e)
	next := successor(rotated)
	rotate(e, e.a, rotated.TokenID, next)
	next = read(e, e.a, next)
	revoke(e, e.b, revoked, revokedAt)
	revoked = read(e, e.b, revoked)
	e.crashNow()
	for _, c := range []struct {
		what string
		want renew.Session
	}{{"CreateSession", fresh}, {"Rotate", next}, {"RevokeSession", revoked}} {
		got, err := e.a.Session(e.ctx, c.want.AppID, c.want.ID)
		if err != nil {
			e.failf("expected a session to survive the crash, after %s had returned nil\nthe store returned the error %q", c.what, err)
			continue
		}
		if diff := difference(c.want, got); diff != "" {
			e.failf("expected what %s had returned nil for to survive the crash\nthe store has lost it: %s", c.what, diff)
		}
	}
	wantError(e, "Rotate from a token ID that was spent before the crash", e.b.Rotate(e.ctx, rotated.TokenID, successor(rotated)), renew.ErrConflict)
}

// crashAtWork crashes the backend while clients are at work, several times over
// on the same sessions, and checks all that they saw: what was answered before a
// crash must be seen after it.
func crashAtWork(e *tokenEnv) {
	e.needsCrash()
	const clients, sessions, crashes = 4, 4, 5
	random := e.random()
	w := newWorkload(e, sessions)
	w.client(0, 0, e.a).createAll()
	for round := range crashes {
		seeds := make([]uint64, clients)
		for i := range seeds {
			seeds[i] = random.Uint64()
		}
		operations := int64(10 + random.IntN(60))
		var done atomic.Int64
		var crashed atomic.Bool
		atWork := make(chan struct{})
		begin := sync.OnceFunc(func() { close(atWork) })
		e.race(clients+1, func(i int) {
			if i == clients {
				<-atWork
				e.hook(func(tb testing.TB) { e.crash(tb) })
				crashed.Store(true)
				return
			}
			defer begin()
			c := w.client(i, seeds[i], e.handle(i))
			// One unclear answer a client is enough: each makes the search for
			// an explanation longer.
			for c.unclear == 0 && !crashed.Load() {
				c.act(mix{read: 30, rotate: 68, revoke: 2})
				if done.Add(1) >= operations {
					begin()
				}
			}
		})
		e.a, e.b = e.openHandle(), e.openHandle()
		w.readAll(clients, e.a)
		w.readAll(clients+1, e.b)
		w.check(fmt.Sprintf("after crash %d, %d operations into the work", round+1, operations))
	}
}
