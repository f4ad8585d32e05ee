package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/storetest/internal/history"
)

// visibleCases test law T6.
var visibleCases = []testCase[*tokens]{
	{name: "rotation-shows-immediately", run: rotationShows},
	{name: "revocation-shows-immediately", run: revocationShows},
	{name: "rotation-from-what-another-wrote", run: rotatesWhatAnotherWrote},
	{name: "linearizable", run: allLinearizable},
	{name: "torn-reads", run: noTornReads},
	{name: "concurrent", run: raceOfSessions("Session")},
}

func rotationShows(e *tokenEnv) {
	s := created(e)
	read(e, e.b, s) // a cache is filled now
	for i := range e.rounds(50) {
		next := successor(s)
		rotate(e, e.handle(i), s.TokenID, next)
		for _, h := range []*tokens{e.handle(i + 1), e.handle(i)} {
			if got := read(e, h, s); got.TokenID != next.TokenID {
				e.fatalf("expected handle %d to show the rotation that handle %d was told nil for (round %d)\nthe store returned %s, which is older",
					h.number, e.handle(i).number, i, describe(got))
			}
		}
		s = next
	}
}

func revocationShows(e *tokenEnv) {
	for i := range e.rounds(50) {
		s := created(e)
		read(e, e.b, s)
		revoke(e, e.handle(i), s, base.Add(time.Hour))
		for _, h := range []*tokens{e.handle(i + 1), e.handle(i)} {
			if got := read(e, h, s); got.RevokedAt.IsZero() {
				e.fatalf("expected handle %d to show the revocation that handle %d was told nil for\nthe store returned the session as live",
					h.number, e.handle(i).number)
			}
		}
	}
}

func rotatesWhatAnotherWrote(e *tokenEnv) {
	s := created(e)
	read(e, e.b, s)
	for i := range e.rounds(50) {
		used := s.TokenID
		next := successor(s)
		rotate(e, e.handle(i), s.TokenID, next)
		if err := e.handle(i+1).Rotate(e.ctx, used, successor(s)); err == nil {
			e.fatalf("expected ErrConflict of Rotate from a token ID that the other handle has used\nthe store returned nil")
		}
		s = next
	}
	if got := read(e, e.a, s); got.TokenID != s.TokenID {
		e.failf("expected the session at the token ID of the last rotation, %q\nthe store has it at %q", s.TokenID, got.TokenID)
	}
}

// mix is how often clients do what, out of 100.
type mix struct{ create, read, rotate, revoke int }

func winnersLinearizable(e *tokenEnv) { linearizable(e, mix{create: 5, read: 20, rotate: 75}) }
func allLinearizable(e *tokenEnv)     { linearizable(e, mix{create: 10, read: 45, rotate: 40, revoke: 5}) }

// linearizable lets clients do a random mix of operations on a few sessions,
// over both handles, and checks what each session's clients saw.
func linearizable(e *tokenEnv, m mix) {
	const clients, sessions, operations = 6, 3, 24
	random := e.random()
	for round := range e.rounds(40) {
		w := newWorkload(e, sessions)
		seeds := make([]uint64, clients)
		for i := range seeds {
			seeds[i] = random.Uint64()
		}
		e.race(clients, func(i int) {
			c := w.client(i, seeds[i], e.handle(i).plain())
			if i == 0 {
				c.createAll()
			}
			for range operations {
				c.act(m)
			}
		})
		w.readAll(clients, e.a)
		w.readAll(clients+1, e.b)
		w.check(fmt.Sprintf("round %d, %d clients over 2 handles", round, clients))
	}
}

// workload records what clients do to some sessions.
type workload struct {
	e        *tokenEnv
	sessions []renew.Session // as each is created
	clock    atomic.Int64    // orders calls and returns

	mu      sync.Mutex
	history [][]history.Op // of each session
}

func newWorkload(e *tokenEnv, sessions int) *workload {
	w := &workload{e: e, history: make([][]history.Op, sessions)}
	for range sessions {
		w.sessions = append(w.sessions, newSession(e))
	}
	return w
}

func (w *workload) tick() int { return int(w.clock.Add(1)) }

func (w *workload) record(session int, op history.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history[session] = append(w.history[session], op)
}

// client acts as one caller. It knows of each session what it saw last. Its handle makes
// calls once: the conflict of a second write with the first would be recorded as a result.
type client struct {
	*workload
	number  int
	handle  *tokens
	random  *rand.Rand
	seen    []renew.Session
	unclear int // results that did not tell the outcome
}

func (w *workload) client(number int, seed uint64, h *tokens) *client {
	c := &client{workload: w, number: number, handle: h, random: newRandom(seed, 1)}
	for _, s := range w.sessions {
		c.seen = append(c.seen, s.Clone())
	}
	return c
}

// act does one operation on one session.
func (c *client) act(m mix) {
	session := c.random.IntN(len(c.sessions))
	switch n := c.random.IntN(m.create + m.read + m.rotate + m.revoke); {
	case n < m.create:
		c.create(session)
	case n < m.create+m.read:
		c.read(session)
	case n < m.create+m.read+m.rotate:
		c.rotate(session)
	default:
		c.revoke(session)
	}
}

// do runs an operation and records it with its result.
func (c *client) do(session int, op history.Op, call func(op *history.Op) error) {
	op.Client = c.number
	op.Start = c.tick()
	err := call(&op)
	op.End = c.tick()
	op.Detail = fmt.Sprintf("handle %d", c.handle.number)
	switch {
	case err == nil:
		op.Result = history.OK
	case errors.Is(err, renew.ErrSessionExists) && op.Kind == history.Create:
		op.Result = history.Exists
	case errors.Is(err, renew.ErrConflict) && op.Kind == history.Rotate:
		op.Result = history.Conflict
	case errors.Is(err, renew.ErrSessionNotFound) && op.Kind != history.Create:
		op.Result = history.NotFound
	default:
		op.Result, op.End = history.Unknown, history.Never
		op.Detail += ", " + err.Error()
		c.unclear++
	}
	if op.Kind != history.Read || op.Result != history.Unknown {
		c.record(session, op)
	}
}

func (c *client) create(session int) {
	s := c.sessions[session].Clone()
	s.TokenID = newID()
	c.do(session, history.Op{Kind: history.Create, To: s.TokenID}, func(*history.Op) error {
		err := c.handle.CreateSession(c.e.ctx, s)
		if err == nil {
			c.seen[session] = s
		}
		return err
	})
}

func (c *client) createAll() {
	for session := range c.sessions {
		c.create(session)
	}
}

func (c *client) read(session int) {
	s := c.sessions[session]
	c.do(session, history.Op{Kind: history.Read}, func(op *history.Op) error {
		got, err := c.handle.Session(c.e.ctx, s.AppID, s.ID)
		if err == nil {
			c.seen[session] = got
			op.Token = got.TokenID
			if !got.RevokedAt.IsZero() {
				op.Revoked = got.RevokedAt.UnixMilli()
			}
		}
		return err
	})
}

func (c *client) rotate(session int) {
	from := c.seen[session]
	next := successor(from)
	next.RevokedAt = time.Time{}
	c.do(session, history.Op{Kind: history.Rotate, From: from.TokenID, To: next.TokenID}, func(*history.Op) error {
		err := c.handle.Rotate(c.e.ctx, from.TokenID, next)
		if err == nil {
			c.seen[session] = next
		}
		return err
	})
	// A client that has lost looks again, most times.
	if c.seen[session].TokenID == from.TokenID && c.random.IntN(3) > 0 {
		c.read(session)
	}
}

func (c *client) revoke(session int) {
	s := c.sessions[session]
	at := base.Add(time.Duration(1+c.random.IntN(1e9)) * time.Millisecond)
	c.do(session, history.Op{Kind: history.Revoke, At: at.UnixMilli()}, func(*history.Op) error {
		return c.handle.RevokeSession(c.e.ctx, s.AppID, s.ID, at)
	})
}

// readAll reads every session, when all others have stopped.
func (w *workload) readAll(number int, h *tokens) {
	c := w.client(number, 0, h)
	for session := range w.sessions {
		c.read(session)
	}
	if c.unclear > 0 {
		w.e.fatalf("expected Session to return each session, or ErrSessionNotFound, when all other calls have returned\nthe store returned another error")
	}
}

// check looks for an order that explains what happened to each session.
func (w *workload) check(what string) {
	known := 0
	for session, ops := range w.history {
		for _, op := range ops {
			if op.Result != history.Unknown {
				known++
			}
		}
		order, ok := history.Check(ops)
		if !ok {
			w.e.fatalf("expected that the results can be explained by some order of the operations on one session, each between its call and its return (%s)\nthe store's results about %s cannot:\n%s",
				what, named("session", w.sessions[session].ID), strings.TrimSpace(history.Format(ops, order)))
		}
	}
	if known < len(w.sessions)*2 {
		w.e.fatalf("expected a result that tells the outcome of some operations (%s)\nthe store returned other errors for nearly all of them", what)
	}
}
