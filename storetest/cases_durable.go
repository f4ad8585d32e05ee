package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// outageCases test law T12.
var outageCases = []testCase[*tokens]{
	{name: "every-method", run: outage, serial: true},
	{name: "new-handles", run: outageNewHandles, serial: true},
	{name: "lost-replies", run: losesReplies, serial: true},
}

// outage makes every call while the backing store is unreachable, each on its own
// sessions. Afterwards the same handles work again, and each session is as it
// was, or as the whole call leaves it.
func outage(e *tokenEnv) {
	e.needsOutage()
	var scenes []*scene
	var ops []tokenOp
	for i := range len(newScene(e, 1, plainValue.change).ops(e)) {
		c := newScene(e, 1, plainValue.change)
		scenes, ops = append(scenes, c), append(ops, c.ops(e)[i])
	}
	key := keyOf(scenes[0].s)
	unknown := readOp(rowKey{e.app, newID()})
	e.cut(func() {
		for i, op := range append(slices.Clone(ops), unknown, rotateSessionOp(newID(), successor(scenes[0].s))) {
			e.judgeOutage(op.on(e.handle(i)))
		}
		if e.a.purges() {
			e.judgeOutage(deletionOn(e, e.b))
		}
	})
	e.recovers(func(ctx context.Context, h *tokens) error { _, err := h.Session(ctx, key.app, key.id); return err })
	for i, c := range scenes {
		ops[i].isWhole(e, e.handle(i), e.handle(i+1), c.world)
	}
	if e.a.purges() {
		for i := range 2 { // each handle deletes one
			create(e, longEnded(e))
			if n, err := e.handle(i).DeleteExpired(e.ctx, horizon(e), 1); n != 1 || err != nil {
				e.failf("expected DeleteExpired to delete one of the ended sessions, from a handle that has met an outage\nthe store returned %d and the error %v", n, err)
			}
		}
	}
	c := newScene(e, 1, plainValue.change)
	for i := range ops { // and so do all methods, from the handles that have met it
		if !c.do(e, e.handle(i), c.ops(e)[i]) {
			return
		}
	}
}

func outageNewHandles(e *tokenEnv) {
	e.needsOutage()
	s := created(e)
	next := successor(s)
	e.cut(func() {
		ctx, cancel := context.WithTimeout(e.ctx, e.scaled(outageLimit))
		defer cancel()
		_ = e.a.Rotate(ctx, s.TokenID, next) // every-method judges the result
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

// crashQuiet crashes the backend after a call of each method, and asks for all
// that follows from it: the sessions, the lists, and what is left to delete.
func crashQuiet(e *tokenEnv) {
	e.needsCrash()
	c := newScene(e, 1, plainValue.change)
	if !c.is(e, "the calls that made it") {
		return
	}
	next, moved := successor(c.s), successor(c.neighbor)
	once := next.Clone()
	once.UserAgent, once.IdempotencyKeyHash = "written once more", nil
	moved.Subject += "-moved"
	last := newSession(e)
	last.Subject = c.s.Subject
	key := keyOf(next)
	ops := []tokenOp{
		createSessionOp(last), rotateSessionOp(c.s.TokenID, next), rotateSessionOp(next.TokenID, once), rotateSessionOp(next.TokenID, once),
		rotateSessionOp(c.neighbor.TokenID, moved), revokeSessionOp(key, revokedAt), revokeSessionOp(key, revokedAt.Add(time.Hour)),
	}
	if e.a.hasSubjects() {
		ops = append(ops, revokeSubjectOp(e.app, c.s.Subject, revokedAt))
	}
	for _, op := range ops {
		c.step(e, op)
		e.crashNow()
		if !c.is(e, op.name+", which had returned nil, and a crash") {
			return
		}
	}
	e.wantError("Rotate from a token ID that was used before the crash", e.b.Rotate(e.ctx, c.s.TokenID, successor(c.s)), renew.ErrConflict)
	if !e.a.purges() {
		return
	}
	drain(e)
	first, second := longEnded(e), longEnded(e)
	c.step(e, createSessionOp(first))
	c.step(e, createSessionOp(second))
	e.crashNow()
	if n := purge(e, e.a, horizon(e), 1); n != 1 {
		e.failf("expected DeleteExpired with limit 1 to find one of the two ended sessions that were stored before the crash\nthe store returned %d", n)
	}
	e.crashNow()
	if n := purge(e, e.b, horizon(e), 10); n != 1 {
		e.failf("expected DeleteExpired to find the one ended session that was left before the crash\nthe store returned %d", n)
	}
	c.world[keyOf(first)], c.world[keyOf(second)] = renew.Session{}, renew.Session{}
	c.is(e, "DeleteExpired and a crash")
}

// crashAtWork crashes the backend while clients are at work, several times over
// on the same sessions, and checks all that they saw: what was acknowledged before a
// crash must be seen after it.
func crashAtWork(e *tokenEnv) {
	e.needsCrash()
	const clients, sessions, crashes = 4, 4, 5
	random := e.random()
	w := newWorkload(e, sessions)
	w.client(0, 0, e.a.plain()).createAll()
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
			c := w.client(i, seeds[i], e.handle(i).plain())
			// One unclear result a client is enough: each makes the search for
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
