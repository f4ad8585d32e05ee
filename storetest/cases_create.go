package storetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jwtrenew/renew"
)

// takenCases test law T2.
var takenCases = []testCase[*tokens]{
	{name: "taken", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{takes(s, "another session"), createSessionOp(s).as("with an ID that is taken by the very same session")}
	})},
	{name: "taken-by-a-revoked-one", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{revokeSessionOp(keyOf(s), base.Add(time.Hour)), takes(s, "a revoked session")}
	})},
	{name: "taken-by-an-expired-one", run: sequence((*config).justEnded, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{takes(s, "an expired session")}
	})},
	{name: "free-in-another-app", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		other := otherThan(s)
		other.AppID += "-other"
		return []tokenOp{createSessionOp(other).as("with an ID that only another app has")}
	})},
	{name: "one-creator", run: oneCreator},
	{name: "stampede", run: createStampede},
	{name: "concurrent", run: raceOfSessions("CreateSession")},
}

// takes is a CreateSession of another session with the ID of s.
func takes(s renew.Session, what string) tokenOp {
	return createSessionOp(otherThan(s)).as("with an ID that is taken by " + what)
}

// otherThan returns a session of the same app and ID and nothing else in common.
func otherThan(s renew.Session) renew.Session {
	other := successor(successor(s))
	other.Subject, other.Audience, other.Claims = "another user", []string{"other"}, json.RawMessage(`{"other":true}`)
	other.CreatedAt, other.EndsAt = s.CreatedAt.Add(time.Minute), s.EndsAt.Add(time.Minute)
	return other
}

// unknownCases test law T3.
var unknownCases = []testCase[*tokens]{
	{name: "unknown-session", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{
			readOp(rowKey{s.AppID, newID()}).as("with an ID that was never stored"),
			readOp(rowKey{s.AppID + "-unknown", newID()}).as("in an app that has no session"),
		}
	})},
	{name: "session-of-another-app", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{readOp(rowKey{s.AppID + "-other", s.ID}).as("with an ID that only another app has")}
	})},
	{name: "revoke-unknown", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		unknown := rowKey{s.AppID, newID()}
		return []tokenOp{
			revokeSessionOp(unknown, base).as("with an ID that was never stored"),
			readOp(unknown).as("after RevokeSession of the unknown session"),
		}
	})},
	{name: "revoke-in-another-app", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{revokeSessionOp(rowKey{s.AppID + "-other", s.ID}, base).as("with an ID that only another app has")}
	})},
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
