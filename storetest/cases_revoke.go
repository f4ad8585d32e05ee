package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/jwtrenew/renew"
)

// revokeCases test law T7.
var revokeCases = append(everyValue(revokesValue), []testCase[*tokens]{
	{name: "sets-the-time", run: revokeSetsTime},
	{name: "whatever-the-token", run: revokesAnyState},
	{name: "never-rotated", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{revokeSessionOp(keyOf(s), revokedAt), rotateSessionOp(s.TokenID, successor(s)).as("of a revoked session")}
	})},
	{name: "never-revived", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{
			revokeSessionOp(keyOf(s), revokedAt),
			rotateSessionOp(s.PreviousTokenID, successor(s)).as("of a revoked session, from its previous token ID"),
			rotateSessionOp(newID(), successor(s)).as("of a revoked session, from another token ID"),
		}
	})},
	{name: "keeps-the-first-time", run: sequence(nil, func(_ *tokenEnv, s renew.Session) (ops []tokenOp) {
		for _, after := range []time.Duration{0, time.Hour, -time.Hour, 0} {
			ops = append(ops, revokeSessionOp(keyOf(s), revokedAt.Add(after)).as("at "+clock(revokedAt.Add(after))))
		}
		return ops
	})},
	{name: "keeps-the-first-time-in-a-race", run: keepsFirstTimeInRace},
	{name: "against-rotations", run: revokeAgainstRotations},
	{name: "stampede", run: revokeStampede},
	{name: "concurrent", run: raceOfSessions("RevokeSession")},
}...)

var revokedAt = base.Add(2*time.Hour + 7*time.Millisecond)

func revokeSetsTime(e *tokenEnv) {
	for _, zone := range append(zones, time.UTC) {
		s := newSession(e)
		create(e, s)
		world{keyOf(s): s}.sequence(e, revokeSessionOp(keyOf(s), revokedAt.In(zone)).as("at "+clock(revokedAt.In(zone))))
	}
}

func revokesAnyState(e *tokenEnv) {
	s, expired := newSession(e), newSession(e)
	e.justEnded(&expired)
	create(e, s)
	create(e, expired)
	world{keyOf(s): s, keyOf(expired): expired}.sequence(e,
		rotateSessionOp(s.TokenID, successor(s)),
		revokeSessionOp(keyOf(s), revokedAt).as("of a rotated session"),
		revokeSessionOp(keyOf(expired), revokedAt).as("of an expired session"))
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
		bothStay(e, fmt.Sprintf("under way (round %d)", round), s, revokeErr, contenders, errs)
	}
}

// bothStay checks, when a session was revoked and rotations of it were under way, that all
// of which nil was returned is stored, and nothing of which a conflict was.
func bothStay(e *tokenEnv, when string, was renew.Session, revoked error, contenders []renew.Session, errs []error) {
	got := read(e, e.b, was)
	if revoked == nil && got.RevokedAt.IsZero() {
		e.fatalf("expected a session to stay revoked when Rotates of it were %s\nthe store returned nil for the revocation, and has the session live", when)
	}
	for i, err := range errs {
		isThere := got.TokenID == contenders[i].TokenID
		if err == nil && !isThere {
			e.fatalf("expected a rotation to stay when a revocation was %s\nthe store returned nil for Rotate to %q, and has the session at %q", when, contenders[i].TokenID, got.TokenID)
		}
		if isThere && errors.Is(err, renew.ErrConflict) {
			e.fatalf("expected that a Rotate that has happened is no conflict, when a revocation was %s\nthe store returned ErrConflict for Rotate to %q, and has the session there", when, got.TokenID)
		}
	}
}
