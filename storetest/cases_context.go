package storetest

import (
	"fmt"
	"slices"

	"github.com/jwtrenew/renew"
)

// contextCases test law T8.
var contextCases = []testCase[*tokens]{
	{name: "create", run: onDoneContext("CreateSession")},
	{name: "session", run: onDoneContext("Session")},
	{name: "rotate", run: onDoneContext("Rotate")},
	{name: "revoke", run: onDoneContext("RevokeSession")},
	{name: "by-subject", run: onDoneContext("SubjectSessions", "RevokeSubject")},
	{name: "delete-expired", run: purgeDone, serial: true},
	{name: "ends-during-a-call", run: interrupted},
	{name: "ends-during-a-deletion", run: purgeInterrupted, serial: true},
}

// onDoneContext returns a case that makes calls of these methods with a context that was
// canceled, and with one whose deadline has passed.
func onDoneContext(methods ...string) func(e *tokenEnv) {
	return func(e *tokenEnv) {
		if methods[0] == "SubjectSessions" {
			needsSubjects(e)
		}
		c := newScene(e, 1, plainValue.change)
		fresh := newSession(e)
		c.world[keyOf(fresh)] = renew.Session{} // nothing stores it
		var calls []namedCall
		for i, op := range append(c.ops(e), createSessionOp(fresh)) {
			if slices.Contains(methods, op.name) {
				calls = append(calls, op.on(e.handle(i)))
			}
		}
		done(e, calls)
		c.is(e, "calls with a context that is done")
	}
}

func purgeDone(e *tokenEnv) {
	needsPurger(e)
	s := longEnded(e)
	create(e, s)
	done(e, []namedCall{deletionOn(e, e.a)})
	unchanged(e, s, "DeleteExpired with a context that is done")
}

// sharingCases test law T9.
var sharingCases = []testCase[*tokens]{
	{name: "handed-in", run: sharesNothingIn},
	{name: "handed-out", run: sharesNothingOut},
	{name: "handed-out-by-subject", run: sharesNothingListed},
}

// scribble changes all that a session refers to.
func scribble(s renew.Session) {
	for i := range s.Audience {
		s.Audience[i] = "changed"
	}
	for i := range s.Claims {
		s.Claims[i] = ' '
	}
	for i := range s.IdempotencyKeyHash {
		s.IdempotencyKeyHash[i] ^= 0xff
	}
}

func sharesNothingIn(e *tokenEnv) {
	s := newSession(e)
	create(e, s)
	was := read(e, e.a, s).Clone()
	scribble(s)
	unchanged(e, was, "a change to the session that CreateSession was given")

	next := successor(was)
	rotate(e, e.b, was.TokenID, next)
	was = read(e, e.a, next).Clone()
	scribble(next)
	unchanged(e, was, "a change to the session that Rotate was given")
}

func sharesNothingOut(e *tokenEnv) {
	s := created(e)
	was := s.Clone()
	scribble(s)
	unchanged(e, was, "a change to the session that Session had returned")

	next := successor(was)
	rotate(e, e.a, was.TokenID, next)
	got := read(e, e.b, next)
	was = got.Clone()
	scribble(got)
	unchanged(e, was, "a change to the session that Session had returned after a Rotate")
}

func sharesNothingListed(e *tokenEnv) {
	needsSubjects(e)
	was := created(e).Clone()
	list, err := e.b.SubjectSessions(e.ctx, was.AppID, was.Subject, was.RefreshNotBefore)
	if err != nil {
		e.fatalf("expected SubjectSessions to return the sessions\nthe store returned the error %q", err)
	}
	for _, s := range list {
		scribble(s)
	}
	unchanged(e, was, fmt.Sprintf("a change to the %d sessions that SubjectSessions had returned", len(list)))
}
