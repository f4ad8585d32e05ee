package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/jwtrenew/renew"
)

// contextCases test law T8.
var contextCases = []testCase[*tokens]{
	{name: "create", run: onDoneContext(createDone)},
	{name: "session", run: onDoneContext(sessionDone)},
	{name: "rotate", run: onDoneContext(rotateDone)},
	{name: "revoke", run: onDoneContext(revokeDone)},
	{name: "by-subject", run: onDoneContext(subjectDone)},
	{name: "delete-expired", run: onDoneContext(purgeDone), serial: true},
	{name: "ends-during-a-call", run: interrupted},
	{name: "ends-during-a-deletion", run: purgeInterrupted, serial: true},
}

// onDoneContext returns a case that runs f with a context that was canceled and
// with one whose deadline has passed.
func onDoneContext(f func(ctx context.Context, e *tokenEnv)) func(e *tokenEnv) {
	return func(e *tokenEnv) {
		for _, ctx := range doneContexts(e.ctx) {
			f(ctx, e)
		}
	}
}

func wantContextError(ctx context.Context, e *tokenEnv, method string, err error) {
	if !isContextError(ctx, err) {
		e.failf("expected %v of %s with a context that is done\nthe store returned %v", ctx.Err(), method, err)
	}
}

func createDone(ctx context.Context, e *tokenEnv) {
	s := newSession(e)
	wantContextError(ctx, e, "CreateSession", e.a.CreateSession(ctx, s))
	if _, err := e.b.Session(e.ctx, s.AppID, s.ID); !errors.Is(err, renew.ErrSessionNotFound) { //nolint:contextcheck // ctx is done
		e.failf("expected CreateSession with a context that is done to store nothing\nthe store returned %v for the session", err)
	}
}

func sessionDone(ctx context.Context, e *tokenEnv) {
	s := created(e)
	_, err := e.a.Session(ctx, s.AppID, s.ID)
	wantContextError(ctx, e, "Session", err)
}

func rotateDone(ctx context.Context, e *tokenEnv) {
	s := created(e)
	wantContextError(ctx, e, "Rotate", e.a.Rotate(ctx, s.TokenID, successor(s)))
	unchanged(e, s, "Rotate with a context that is done")
}

func revokeDone(ctx context.Context, e *tokenEnv) {
	s := created(e)
	wantContextError(ctx, e, "RevokeSession", e.a.RevokeSession(ctx, s.AppID, s.ID, revokedAt))
	unchanged(e, s, "RevokeSession with a context that is done")
}

func subjectDone(ctx context.Context, e *tokenEnv) {
	needsSubjects(e)
	s := created(e)
	_, err := e.a.SubjectSessions(ctx, s.AppID, s.Subject, s.RefreshNotBefore)
	wantContextError(ctx, e, "SubjectSessions", err)
	_, err = e.a.RevokeSubject(ctx, s.AppID, s.Subject, revokedAt)
	wantContextError(ctx, e, "RevokeSubject", err)
	unchanged(e, s, "RevokeSubject with a context that is done")
}

func purgeDone(ctx context.Context, e *tokenEnv) {
	needsPurger(e)
	s := longEnded(e)
	create(e, s)
	was := read(e, e.a, s)
	_, err := e.a.DeleteExpired(ctx, horizon(e), 1<<20)
	wantContextError(ctx, e, "DeleteExpired", err)
	unchanged(e, was, "DeleteExpired with a context that is done")
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
