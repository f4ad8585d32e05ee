package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// purgeCases test law T11. They run one at a time: a purge is about every
// session there is.
var purgeCases = inTurn(append(rows("only-what-has-ended", ends, purgesOnlyEnded), []testCase[*tokens]{
	{name: "at-most-limit", run: purgesAtMostLimit},
	{name: "no-limit-no-deletion", run: purgesNothing},
	{name: "counts", run: purgeCounts},
	{name: "leaves-no-trace", run: purgeLeavesNoTrace},
	{name: "never-takes-a-renewed-one", run: purgeAgainstRotations},
	{name: "many-apps", run: purgesManyApps},
}...))

// horizon is the time before which law T11 deletes: some minutes ago.
func horizon(e *tokenEnv) time.Time { return e.now.Add(-2 * time.Minute) }

// longEnded returns a session that ended some minutes before the horizon.
func longEnded(e *tokenEnv) renew.Session {
	s := newSession(e)
	h := horizon(e)
	s.CreatedAt = h.Add(-48 * time.Hour)
	s.IssuedAt, s.RefreshNotBefore = h.Add(-3*time.Hour), h.Add(-3*time.Hour)
	s.RefreshExpiresAt, s.EndsAt = h.Add(-10*time.Minute), time.Time{}
	return s
}

// drain deletes what earlier cases and runs have left, or ends the case.
func drain(e *tokenEnv) {
	needsPurger(e)
	const batch, batches = 1000, 1000
	for range batches {
		if purge(e, e.a, horizon(e), batch) < batch {
			return
		}
	}
	e.fatalf("expected DeleteExpired to come to an end\nthe store has deleted %d sessions and more", batch*batches)
}

func purge(e *tokenEnv, h *tokens, before time.Time, limit int) int {
	n, err := h.DeleteExpired(e.ctx, before, limit)
	if err != nil {
		e.fatalf("expected DeleteExpired to delete\nthe store returned the error %q", err)
	}
	return n
}

// deletionOn is a DeleteExpired through a handle.
func deletionOn(e *tokenEnv, h *tokens) namedCall {
	return namedCall{"DeleteExpired", func(ctx context.Context) error { _, err := h.DeleteExpired(ctx, horizon(e), 1<<20); return err }}
}

// gone reports whether the session is not there any more.
func gone(e *tokenEnv, s renew.Session) bool {
	_, err := e.b.Session(e.ctx, s.AppID, s.ID)
	if err != nil && !errors.Is(err, renew.ErrSessionNotFound) {
		e.fatalf("expected Session to return a session or ErrSessionNotFound\nthe store returned the error %q", err)
	}
	return err != nil
}

// ending is how a session ends that would end some minutes before h, where DeleteExpired
// deletes.
type ending struct {
	change    func(s *renew.Session, h time.Time)
	isDeleted bool
}

var ends = []row[ending]{
	{"the refresh token expired some minutes before", ending{func(*renew.Session, time.Time) {}, true}},
	{"the refresh token expired 1 ms before", ending{func(s *renew.Session, h time.Time) { s.RefreshExpiresAt = h.Add(-ms) }, true}},
	{"the refresh token expires at that time", ending{func(s *renew.Session, h time.Time) { s.RefreshExpiresAt = h }, false}},
	{"the refresh token expires 1 ms after", ending{func(s *renew.Session, h time.Time) { s.RefreshExpiresAt = h.Add(ms) }, false}},
	{"the refresh token expires an hour after", ending{func(s *renew.Session, h time.Time) { s.RefreshExpiresAt = h.Add(hour) }, false}},
	{"its life ended 1 ms before its refresh token would", ending{func(s *renew.Session, h time.Time) {
		s.RefreshExpiresAt, s.EndsAt = h.Add(hour), h.Add(-ms)
	}, true}},
	{"its life ends at that time", ending{func(s *renew.Session, h time.Time) { s.RefreshExpiresAt, s.EndsAt = h, h }, false}},
	{"the refresh token expired before the absolute end", ending{func(s *renew.Session, h time.Time) { s.EndsAt = h.Add(hour) }, true}},
	{"it is revoked and has not ended", ending{func(s *renew.Session, h time.Time) {
		s.RefreshExpiresAt, s.RevokedAt = h.Add(hour), h.Add(-hour)
	}, false}},
	{"it is revoked and has ended", ending{func(s *renew.Session, h time.Time) { s.RevokedAt = h.Add(-26 * hour) }, true}},
	{"it ends in years", ending{func(s *renew.Session, _ time.Time) { s.RefreshExpiresAt = base }, false}},
}

func purgesOnlyEnded(e *tokenEnv, c ending) {
	for _, zone := range append(zones, time.UTC) {
		drain(e)
		s, sibling := longEnded(e), longEnded(e)
		c.change(&s, horizon(e))
		sibling.Subject = s.Subject
		create(e, s)
		create(e, sibling)
		n := purge(e, e.a, horizon(e).In(zone), 10)
		switch isGone := gone(e, s); {
		case isGone && !c.isDeleted:
			e.failf("expected DeleteExpired before %s to leave a session that ends at %s\nthe store has deleted it", clock(horizon(e).In(zone)), clock(s.End()))
		case !isGone && c.isDeleted:
			e.failf("expected DeleteExpired before %s to delete a session that ended at %s\nthe store still has it, and returned %d", clock(horizon(e).In(zone)), clock(s.End()), n)
		}
	}
	drain(e)
}

// purgeInterrupted ends the context while DeleteExpired is at work: nil says that no more
// sessions are left than the number tells.
func purgeInterrupted(e *tokenEnv) {
	for _, interruption := range e.interruptions() {
		drain(e)
		sessions := ended(e, 5)
		ctx, cancel := interruption(e.ctx)
		n, err := e.a.DeleteExpired(ctx, horizon(e), 100)
		cancel()
		got := countGone(e, sessions)
		if err == nil && (n != len(sessions) || got != n) || n > got {
			e.fatalf("expected DeleteExpired to delete and return all %d sessions, or to return an error when its context ends during the call\nthe store returned %d and the error %v, and has deleted %d", len(sessions), n, err, got)
		}
	}
}

// ended stores n sessions that have ended.
func ended(e *tokenEnv, n int) []renew.Session {
	sessions := make([]renew.Session, n)
	for i := range sessions {
		sessions[i] = longEnded(e)
		create(e, sessions[i])
	}
	return sessions
}

func countGone(e *tokenEnv, sessions []renew.Session) (n int) {
	for _, s := range sessions {
		if gone(e, s) {
			n++
		}
	}
	return n
}

// deletes calls DeleteExpired and returns the number that it returns, and how many of the
// sessions it has deleted.
func deletes(e *tokenEnv, sessions []renew.Session, limit int) (n, got int) {
	before := countGone(e, sessions)
	n = purge(e, e.a, horizon(e), limit)
	return n, countGone(e, sessions) - before
}

func purgesAtMostLimit(e *tokenEnv) {
	for _, limit := range []int{1, 2, 5, 7} {
		drain(e)
		sessions := ended(e, 2*limit+1)
		if n, got := deletes(e, sessions, limit); got > limit || n > limit {
			e.failf("expected DeleteExpired with limit %d to delete no more of %d sessions\nthe store has deleted %d, and returned %d", limit, len(sessions), got, n)
		}
	}
	drain(e)
}

func purgesNothing(e *tokenEnv) {
	drain(e)
	sessions := ended(e, 3)
	for _, limit := range []int{0, -1, -1 << 31} {
		if n, got := deletes(e, sessions, limit); got > 0 || n != 0 {
			e.failf("expected DeleteExpired with limit %d to delete nothing, and return 0\nthe store has deleted %d sessions, and returned %d", limit, got, n)
		}
	}
	drain(e)
}

func purgeCounts(e *tokenEnv) {
	drain(e)
	sessions := ended(e, 7)
	for call, want := range []int{3, 3, 1, 0} {
		if n, got := deletes(e, sessions, 3); n != got || n != want {
			e.failf("expected DeleteExpired with limit 3 to delete and return %d of 7 sessions in call %d\nthe store has deleted %d, and returned %d", want, call+1, got, n)
		}
	}
}

func purgeLeavesNoTrace(e *tokenEnv) {
	drain(e)
	s := longEnded(e)
	create(e, s)
	purge(e, e.a, horizon(e), 10)
	if !gone(e, s) {
		e.fatalf("expected DeleteExpired to delete a session that ended some minutes before\nthe store still has it")
	}
	again := newSession(e)
	again.ID = s.ID // of another subject
	w := world{keyOf(s): renew.Session{}}
	ops := []tokenOp{
		revokeSessionOp(keyOf(s), horizon(e)).as("of a session that DeleteExpired has deleted"),
		rotateSessionOp(s.TokenID, successor(s)).as("of a session that DeleteExpired has deleted"),
		createSessionOp(again).as("with the ID of a session that was deleted"),
		rotateSessionOp(again.TokenID, successor(again)).as("of another session with the ID of one that was deleted"),
	}
	if e.a.hasSubjects() {
		revoke := revokeSubjectOp(s.AppID, s.Subject, horizon(e)).as("whose one session was deleted")
		ops = slices.Insert(ops, 2, revoke)
		ops = append(ops, revoke, listOp(s.AppID, s.Subject, base).as("whose one session was deleted, and whose ID another subject's has"),
			revokeSubjectOp(again.AppID, again.Subject, revokedAt))
	}
	w.sequence(e, ops...)
}

func purgeAgainstRotations(e *tokenEnv) {
	drain(e)
	for round := range e.rounds(60) {
		sessions := ended(e, 4)
		next := make([]renew.Session, len(sessions))
		errs := make([]error, len(sessions))
		for i, s := range sessions {
			next[i] = successor(s)
			next[i].RefreshExpiresAt = base
		}
		e.race(len(sessions)+1, func(i int) {
			if i == len(sessions) {
				_, _ = e.a.DeleteExpired(e.ctx, horizon(e), len(sessions))
				return
			}
			errs[i] = e.handle(i).Rotate(e.ctx, sessions[i].TokenID, next[i])
		})
		for i, err := range errs {
			if err == nil && gone(e, next[i]) {
				e.fatalf("expected a session to stay that was renewed while DeleteExpired ran (round %d, session %d)\nthe store returned nil for Rotate, and has the session no more", round, i)
			}
		}
	}
	drain(e)
}

// purgesManyApps deletes the ended sessions of many apps, each beside a live one
// of its subject and a live twin, with one call and with several.
func purgesManyApps(e *tokenEnv) {
	const apps = 101
	for _, limit := range []int{math.MaxInt, 1000, 40} {
		drain(e)
		gone := createMany(e, apps, func(i int) renew.Session {
			s := longEnded(e)
			s.AppID, s.Subject = fmt.Sprintf("%s-%d-%d", e.app, limit, i), "subject"
			if i%7 == 3 {
				s.RevokedAt = s.IssuedAt
			}
			return s
		})
		stay := createMany(e, 2*apps, func(i int) renew.Session {
			s := newSession(e)
			s.AppID, s.Subject = gone[i/2].AppID, "subject"
			if i%2 == 1 {
				s.AppID, s.ID = gone[i/2].AppID+"-twin", gone[i/2].ID
			}
			return s
		})
		deleted := 0
		for n := limit; n >= limit; deleted += n {
			n = purge(e, e.a, horizon(e), limit)
		}
		if deleted != apps {
			e.failf("expected DeleteExpired with limit %d to delete the ended sessions of %d apps, and to return fewer than limit only when none is left\nthe store returned %d in all", limit, apps, deleted)
		}
		w := world{}
		for i := range gone[:20] {
			w[keyOf(gone[i])] = renew.Session{}
			w[keyOf(stay[2*i])], w[keyOf(stay[2*i+1])] = stay[2*i], stay[2*i+1]
		}
		if !w.is(e, "DeleteExpired of ended sessions beside them") {
			return
		}
		for i, s := range gone[:3] { // the ID is free again
			s.RefreshExpiresAt, s.RevokedAt = base, time.Time{}
			w.do(e, e.handle(i), createSessionOp(s))
			w.do(e, e.handle(i+1), rotateSessionOp(s.TokenID, successor(s)))
		}
	}
}
