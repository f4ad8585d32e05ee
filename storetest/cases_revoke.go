package storetest

import (
	"errors"
	"time"

	"github.com/jwtrenew/renew"
)

// revokeCases test law T7.
var revokeCases = []testCase[*tokens]{
	{name: "values", run: func(e *tokenEnv) { everyValue(e, revokesValue) }},
	{name: "sets-the-time", run: revokeSetsTime},
	{name: "whatever-the-token", run: revokesAnyState},
	{name: "never-rotated", run: revokedNeverRotates},
	{name: "never-revived", run: revokedNeverRevived},
	{name: "keeps-the-first-time", run: keepsFirstTime},
	{name: "keeps-the-first-time-in-a-race", run: keepsFirstTimeInRace},
	{name: "against-rotations", run: revokeAgainstRotations},
	{name: "stampede", run: revokeStampede},
	{name: "concurrent", run: raceOfSessions("RevokeSession")},
}

var revokedAt = base.Add(2*time.Hour + 7*time.Millisecond)

func revokeSetsTime(e *tokenEnv) {
	s := created(e)
	revoke(e, e.a, s, revokedAt)
	s.RevokedAt = revokedAt
	for _, h := range []*tokens{e.a, e.b} {
		if diff := difference(s, read(e, h, s)); diff != "" {
			e.failf("expected RevokeSession to set RevokedAt and nothing else\nthe store has: %s", diff)
		}
	}
	for _, zone := range zones {
		s := created(e)
		revoke(e, e.a, s, revokedAt.In(zone))
		if got := read(e, e.b, s).RevokedAt; !got.Equal(revokedAt) {
			e.failf("expected RevokedAt to be the instant that was given, in whatever zone: %s\nthe store has %s", clock(revokedAt.In(zone)), clock(got))
		}
	}
}

func revokesAnyState(e *tokenEnv) {
	s := created(e)
	next := successor(s)
	rotate(e, e.a, s.TokenID, next)
	revoke(e, e.b, s, revokedAt)
	if read(e, e.a, s).RevokedAt.IsZero() {
		e.failf("expected RevokeSession to revoke a rotated session\nthe store has it live")
	}
	expired := newSession(e)
	e.justEnded(&expired)
	create(e, expired)
	revoke(e, e.a, expired, revokedAt)
	if read(e, e.b, expired).RevokedAt.IsZero() {
		e.failf("expected RevokeSession to revoke an expired session\nthe store has it as not revoked")
	}
}

func revokedNeverRotates(e *tokenEnv) {
	s := created(e)
	revoke(e, e.a, s, revokedAt)
	for _, h := range []*tokens{e.b, e.a} {
		e.wantError("Rotate of a revoked session", h.Rotate(e.ctx, s.TokenID, successor(s)), renew.ErrConflict)
		if got := read(e, e.a, s); got.TokenID != s.TokenID {
			e.failf("expected a revoked session to stay at its token ID, %q\nthe store has it at %q", s.TokenID, got.TokenID)
		}
	}
}

func revokedNeverRevived(e *tokenEnv) {
	s := created(e)
	revoke(e, e.a, s, revokedAt)
	was := read(e, e.a, s)
	for _, from := range []string{s.TokenID, s.PreviousTokenID, newID()} {
		_ = e.b.Rotate(e.ctx, from, successor(s)) // never-rotated judges the result
		got := read(e, e.a, s)
		if !got.RevokedAt.Equal(was.RevokedAt) {
			e.failf("expected a revoked session to stay revoked after Rotate\nthe store has changed RevokedAt from %s to %s", clock(was.RevokedAt), clock(got.RevokedAt))
		}
	}
}

func keepsFirstTime(e *tokenEnv) {
	s := created(e)
	revoke(e, e.a, s, revokedAt)
	first := read(e, e.a, s)
	for _, at := range []time.Time{revokedAt.Add(time.Hour), revokedAt.Add(-time.Hour), revokedAt} {
		for _, h := range []*tokens{e.b, e.a} {
			if err := h.RevokeSession(e.ctx, s.AppID, s.ID, at); err != nil {
				e.failf("expected nil of RevokeSession of a revoked session\nthe store returned the error %q", err)
			}
			if got := read(e, e.b, s).RevokedAt; !got.Equal(first.RevokedAt) {
				e.failf("expected RevokedAt to stay at the first time, %s, after RevokeSession at %s\nthe store has changed it to %s", clock(first.RevokedAt), clock(at), clock(got))
			}
		}
	}
}

func keepsFirstTimeInRace(e *tokenEnv) {
	const clients = 8
	for round := range e.rounds(60) {
		s := created(e)
		seen := make([]time.Time, clients)
		e.race(clients, func(i int) {
			h := e.handle(i)
			if err := h.RevokeSession(e.ctx, s.AppID, s.ID, revokedAt.Add(time.Duration(i)*time.Minute)); err != nil {
				return // to be retried; calls that returned nil count
			}
			if got, err := h.Session(e.ctx, s.AppID, s.ID); err == nil {
				seen[i] = got.RevokedAt
			}
		})
		last := read(e, e.a, s).RevokedAt
		for _, at := range seen {
			if !at.IsZero() && !at.Equal(last) {
				e.fatalf("expected %d concurrent RevokeSessions to leave the time of the first (round %d)\nthe store showed %s after one of them, and %s in the end",
					clients, round, clock(at), clock(last))
			}
		}
	}
}

func revokeAgainstRotations(e *tokenEnv) {
	const rotations = 3
	for round := range e.rounds(100) {
		s := created(e)
		contenders := make([]renew.Session, rotations)
		errs := make([]error, rotations)
		for i := range contenders {
			contenders[i] = successor(s)
		}
		var revokeErr error
		e.race(rotations+1, func(i int) {
			if i == rotations {
				revokeErr = e.handle(round).RevokeSession(e.ctx, s.AppID, s.ID, revokedAt)
				return
			}
			errs[i] = e.handle(i).Rotate(e.ctx, s.TokenID, contenders[i])
		})
		got := read(e, e.b, s)
		if revokeErr == nil && got.RevokedAt.IsZero() {
			e.fatalf("expected a session to stay revoked when Rotates of it were under way (round %d)\nthe store returned nil for RevokeSession, and has the session live", round)
		}
		for i, err := range errs {
			if err == nil && got.TokenID != contenders[i].TokenID {
				e.fatalf("expected a rotation to stay when RevokeSession was under way (round %d)\nthe store returned nil for Rotate to %q, and has the session at %q", round, contenders[i].TokenID, got.TokenID)
			}
			if err != nil && got.TokenID == contenders[i].TokenID && errors.Is(err, renew.ErrConflict) {
				e.fatalf("expected that a Rotate that has happened is no conflict (round %d)\nthe store returned ErrConflict for Rotate to %q, and has the session there", round, got.TokenID)
			}
		}
	}
}
