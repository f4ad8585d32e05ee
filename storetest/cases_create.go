package storetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jwtrenew/renew"
)

// takenCases test law T2.
var takenCases = []testCase[*tokens]{
	{name: "taken", run: rejectsTaken},
	{name: "taken-by-a-revoked-one", run: rejectsTakenByRevoked},
	{name: "taken-by-an-expired-one", run: rejectsTakenByExpired},
	{name: "free-in-another-app", run: takesIDOfOtherApp},
	{name: "one-creator", run: oneCreator},
	{name: "stampede", run: createStampede},
	{name: "concurrent", run: raceOfSessions("CreateSession")},
}

// unknownCases test law T3.
var unknownCases = []testCase[*tokens]{
	{name: "unknown-session", run: unknownSession},
	{name: "session-of-another-app", run: sessionOfOtherApp},
	{name: "revoke-unknown", run: revokeUnknown},
	{name: "revoke-in-another-app", run: revokeInOtherApp},
}

// rejects checks that CreateSession of s is rejected, through both handles, and
// changes nothing.
func rejects(e *tokenEnv, what string, s renew.Session) {
	was := read(e, e.a, s)
	for _, h := range []*tokens{e.b, e.a} {
		e.wantError("CreateSession with an ID that is taken by "+what, h.CreateSession(e.ctx, s), renew.ErrSessionExists)
		unchanged(e, was, "CreateSession with an ID that is taken by "+what)
	}
}

// otherThan returns a session of the same app and ID and nothing else in common.
func otherThan(s renew.Session) renew.Session {
	other := successor(successor(s))
	other.Subject, other.Audience, other.Claims = "another user", []string{"other"}, json.RawMessage(`{"other":true}`)
	other.CreatedAt, other.EndsAt = s.CreatedAt.Add(time.Minute), s.EndsAt.Add(time.Minute)
	return other
}

func rejectsTaken(e *tokenEnv) {
	s := created(e)
	rejects(e, "another session", otherThan(s))
	rejects(e, "the very same session", s)
}

func rejectsTakenByRevoked(e *tokenEnv) {
	s := created(e)
	revoke(e, e.a, s, base.Add(time.Hour))
	rejects(e, "a revoked session", otherThan(s))
}

func rejectsTakenByExpired(e *tokenEnv) {
	s := newSession(e)
	e.justEnded(&s)
	create(e, s)
	rejects(e, "an expired session", otherThan(s))
}

func takesIDOfOtherApp(e *tokenEnv) {
	s := newSession(e)
	create(e, s)
	other := otherThan(s)
	other.AppID = e.app + "-other"
	if err := store(e, e.a, other); err != nil {
		e.fatalf("expected CreateSession to store a session whose ID only another app has\nthe store returned the error %q", err)
	}
	if got := read(e, e.b, s); got.TokenID != s.TokenID {
		e.failf("expected the session of the first app, %s\nthe store returned the other app's, %s", describe(s), describe(got))
	}
	if got := read(e, e.b, other); got.TokenID != other.TokenID {
		e.failf("expected the session of the second app, %s\nthe store returned the other app's, %s", describe(other), describe(got))
	}
}

func oneCreator(e *tokenEnv) {
	const clients = 8
	for round := range e.rounds(60) {
		contenders := make([]renew.Session, clients)
		errs := make([]error, clients)
		contenders[0] = newSession(e)
		for i := 1; i < clients; i++ {
			contenders[i] = otherThan(contenders[0])
		}
		e.race(clients, func(i int) { errs[i] = e.handle(i).CreateSession(e.ctx, contenders[i]) })
		oneWinner(e, fmt.Sprintf("%d CreateSessions with one ID (round %d)", clients, round), contenders, errs, "")
	}
}

func unknownSession(e *tokenEnv) {
	created(e)
	_, err := e.a.Session(e.ctx, e.app, newID())
	e.wantError("Session with an ID that was never stored", err, renew.ErrSessionNotFound)
	_, err = e.b.Session(e.ctx, e.app+"-unknown", newID())
	e.wantError("Session in an app that has no session", err, renew.ErrSessionNotFound)
}

func sessionOfOtherApp(e *tokenEnv) {
	s := created(e)
	for _, h := range []*tokens{e.a, e.b} {
		_, err := h.Session(e.ctx, e.app+"-other", s.ID)
		e.wantError("Session with an ID that only another app has", err, renew.ErrSessionNotFound)
	}
}

func revokeUnknown(e *tokenEnv) {
	s := created(e)
	unknown := newID()
	err := e.a.RevokeSession(e.ctx, e.app, unknown, base)
	e.wantError("RevokeSession with an ID that was never stored", err, renew.ErrSessionNotFound)
	if _, err := e.b.Session(e.ctx, e.app, unknown); err == nil {
		e.failf("expected RevokeSession of an unknown session to store nothing\nthe store has a session of that ID now")
	}
	unchanged(e, s, "RevokeSession of another session, an unknown one")
}

func revokeInOtherApp(e *tokenEnv) {
	s := created(e)
	err := e.a.RevokeSession(e.ctx, e.app+"-other", s.ID, base)
	e.wantError("RevokeSession with an ID that only another app has", err, renew.ErrSessionNotFound)
	unchanged(e, s, "RevokeSession with its ID and another app")
}
