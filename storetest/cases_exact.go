package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jwtrenew/renew"
)

// exactCases test law T10.
var exactCases = []testCase[*tokens]{
	{name: "session-ids", run: exactSessionIDs},
	{name: "app-ids", run: exactAppIDs},
	{name: "app-and-session-id", run: exactJoined(setID)},
	{name: "token-ids", run: exactTokenIDs},
	{name: "subjects", run: exactSubjects},
	{name: "app-and-subject", run: exactJoined(func(s *renew.Session, subject string) { s.Subject = subject })},
	{name: "unknown-names", run: unknownNames},
	{name: "ulids", run: exactULIDs},
	{name: "hashes", run: exactHashes},
}

// allExact stores a session for each name of each group, and checks that each
// is found by its own name only, and is the only one that a rotation and a
// revocation change. with returns a session under a name.
func allExact(e *tokenEnv, with func(name string) renew.Session) {
	e.spread(len(confusable), func(i int) { groupExact(e, confusable[i], with) })
}

func groupExact(e *tokenEnv, group []string, with func(name string) renew.Session) {
	var sessions []renew.Session
	for _, name := range group {
		s := with(name)
		if _, err := e.a.Session(e.ctx, s.AppID, s.ID); err == nil {
			e.failf("expected ErrSessionNotFound for %s, when only %s were stored\nthe store returned a session", named("name", name), nameAll(group[:len(sessions)]))
		}
		if err := store(e, e.a, s); err != nil {
			e.fatalf("expected CreateSession to store a session for %s, after %s\nthe store returned the error %q", named("name", name), nameAll(group[:len(sessions)]), err)
		}
		sessions = append(sessions, s)
	}
	for i, s := range sessions {
		next := successor(s)
		rotate(e, e.a, s.TokenID, next)
		sessions[i] = next
		for j, other := range sessions {
			got := read(e, e.handle(j), other)
			if got.TokenID != other.TokenID || got.AppID != other.AppID || got.ID != other.ID {
				e.fatalf("expected %s after Rotate of %s\nthe store returned %s", describe(other), describe(next), describe(got))
			}
		}
	}
	revoke(e, e.a, sessions[0], revokedAt)
	for j, other := range sessions[1:] {
		if !read(e, e.handle(j), other).RevokedAt.IsZero() {
			e.fatalf("expected RevokeSession of %s to revoke no other\nthe store has revoked %s too", describe(sessions[0]), describe(other))
		}
	}
}

func nameAll(names []string) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = excerpt([]byte(name))
	}
	return strings.Join(texts, ", ")
}

// demandsULIDs reports whether the store rejects every ID that is not a ULID, as the
// comments on the fields of a session allow.
func demandsULIDs(e *tokenEnv, set func(s *renew.Session, id string)) bool {
	for _, plain := range []string{"plain", "another plain ID", newID() + "x"} {
		s := newSession(e)
		set(&s, plain)
		if e.a.CreateSession(e.ctx, s) == nil {
			return false
		}
	}
	return true
}

func setID(s *renew.Session, id string) { s.ID = id }

func exactSessionIDs(e *tokenEnv) {
	if demandsULIDs(e, setID) {
		e.skip("the store takes ULIDs only")
	}
	allExact(e, func(name string) renew.Session {
		s := newSession(e)
		s.ID = name
		return s
	})
}

// exactULIDs asks for names that look like the ID of a session.
func exactULIDs(e *tokenEnv) {
	s := created(e)
	s.ID, s.TokenID = "0"+newID()[1:24]+"01", newID()
	s.Subject = "subject-" + newID()
	create(e, s)
	for what, id := range lookalikes(s.ID) {
		if got, err := e.a.Session(e.ctx, s.AppID, id); err == nil {
			e.failf("expected no session for %s\nthe store returned %s", what, describe(got))
		}
		if err := e.b.RevokeSession(e.ctx, s.AppID, id, revokedAt); err == nil {
			e.failf("expected renew.ErrSessionNotFound of RevokeSession with %s\nthe store returned nil", what)
		}
		next := successor(s)
		next.ID = id
		if err := e.a.Rotate(e.ctx, s.TokenID, next); err == nil {
			e.failf("expected renew.ErrSessionNotFound of Rotate with %s\nthe store returned nil", what)
		}
		if e.b.hasSubjects() {
			if n, err := e.b.RevokeSubject(e.ctx, s.AppID, id, revokedAt); n != 0 {
				e.failf("expected RevokeSubject of the unknown subject %q to revoke nothing\nthe store returned %d and the error %v", id, n, err)
			}
		}
	}
	unchanged(e, s, "calls with IDs like its own")
}

// exactHashes stores sessions whose IDs, subjects or both have the same 32-bit
// hash, alone or after the app's ID.
func exactHashes(e *tokenEnv) {
	for _, before := range []string{"", e.app, e.app + ":"} {
		for what, names := range collisions(before, hashes) {
			a, b := newSession(e), newSession(e)
			a.ID, b.ID = strings.TrimPrefix(names[0], before), strings.TrimPrefix(names[1], before)
			a.Subject, b.Subject = a.ID, b.ID // of the same hash too
			w := world{}
			if !w.do(e, e.a, createSessionOp(a)) || !w.do(e, e.b, createSessionOp(b)) || !w.do(e, e.a, rotateSessionOp(a.TokenID, successor(a))) || !w.do(e, e.b, revokeSessionOp(keyOf(b), revokedAt)) {
				e.failf("expected sessions to be told apart whose IDs have the same %s, after %q\nthe store did not", what, before)
				return
			}
			if e.a.hasSubjects() {
				w.do(e, e.a, createSessionOp(other(e, a)))
				w.do(e, e.b, createSessionOp(other(e, b)))
				if !w.do(e, e.a, revokeSubjectOp(e.app, a.Subject, revokedAt)) {
					e.failf("expected subjects to be told apart that have the same %s, after %q\nthe store did not", what, before)
					return
				}
			}
			c := newSession(e)
			c.TokenID = a.ID
			w.do(e, e.a, createSessionOp(c))
			if err := e.b.Rotate(e.ctx, b.ID, successor(c)); err == nil {
				e.failf("expected renew.ErrConflict of Rotate from a token ID with the same %s\nthe store returned nil", what)
			}
		}
	}
}

// other returns another session of the subject.
func other(e *tokenEnv, s renew.Session) renew.Session {
	o := newSession(e)
	o.Subject = s.Subject
	return o
}

func exactAppIDs(e *tokenEnv) {
	id := newID()
	allExact(e, func(name string) renew.Session {
		s := newSession(e)
		s.ID = id
		s.AppID = uniqueName(e.app, name)
		return s
	})
}

// separators are what a store might join names with.
var separators = []string{"", ":", "/", "|", ".", "-", "_", "#", ",", ";", " ", "::", "\u00a0", `\`, "=", "~", "'"}

// exactJoined returns a case of an app and another name, which set sets, whose text is the
// same when they are joined.
func exactJoined(set func(s *renew.Session, name string)) func(e *tokenEnv) {
	return func(e *tokenEnv) {
		if demandsULIDs(e, set) {
			e.skip("the store takes ULIDs only")
		}
		for _, separator := range separators {
			s, t := newSession(e), newSession(e)
			end := newID()
			s.AppID, t.AppID = e.app+separator+"x", e.app+separator+"x"+separator+"y"
			set(&s, "y"+separator+end)
			set(&t, end)
			create(e, s)
			create(e, t)
			what := fmt.Sprintf("CreateSession of two sessions whose names are the same when they are joined by %q", separator)
			if !(world{keyOf(s): s, keyOf(t): t}).is(e, what) {
				return
			}
		}
	}
}

func exactTokenIDs(e *tokenEnv) {
	if demandsULIDs(e, func(s *renew.Session, id string) { s.TokenID = id }) {
		e.skip("the store takes ULIDs only")
	}
	e.spread(len(confusable), func(i int) { tokenIDsExact(e, confusable[i]) })
}

func tokenIDsExact(e *tokenEnv, group []string) {
	own := newID()[16:] // a store may demand that token IDs are unique
	for i, name := range group {
		s := newSession(e)
		s.TokenID = uniqueName(own, name)
		create(e, s)
		for _, other := range slices.Concat(group[:i], group[i+1:]) {
			e.wantError(fmt.Sprintf("Rotate from %s of a session at %s", named("token", other), named("token", name)),
				e.b.Rotate(e.ctx, uniqueName(own, other), successor(s)), renew.ErrConflict)
		}
		next := successor(s)
		rotate(e, e.a, s.TokenID, next)
		if got := read(e, e.b, s); got.TokenID != next.TokenID || got.PreviousTokenID != s.TokenID {
			e.fatalf("expected the session at %s, and %s before\nthe store has it at %s, and %s before",
				named("token", next.TokenID), named("token", s.TokenID), named("token", got.TokenID), named("token", got.PreviousTokenID))
		}
	}
}

func exactSubjects(e *tokenEnv) {
	needsSubjects(e)
	anyID := !demandsULIDs(e, setID)
	for _, group := range confusable {
		app := e.app + newID()
		sessions := map[string]renew.Session{}
		for i, name := range group {
			s := newSession(e)
			s.AppID, s.Subject = app, name
			if i%2 == 1 && anyID { // IDs that continue the subject
				s.ID = ":" + name + "/" + s.ID
				s.ID = strings.ToValidUTF8(s.ID[:min(len(s.ID), 255)], "")
			}
			create(e, s)
			sessions[name] = s
		}
		for name, s := range sessions {
			list, err := e.b.SubjectSessions(e.ctx, app, name, s.RefreshNotBefore)
			if err != nil {
				e.fatalf("expected the one session of %s\nthe store returned the error %q", named("subject", name), err)
			}
			if len(list) != 1 || list[0].ID != s.ID || list[0].Subject != name {
				e.fatalf("expected the one session of %s\nthe store returned %d sessions: %s", named("subject", name), len(list), describeAll(list))
			}
		}
		n, err := e.b.RevokeSubject(e.ctx, app, group[0], revokedAt)
		if err != nil || n != 1 {
			e.fatalf("expected RevokeSubject to revoke the one session of %s\nthe store returned %d and the error %v", named("subject", group[0]), n, err)
		}
		for _, name := range group[1:] {
			if !read(e, e.a, sessions[name]).RevokedAt.IsZero() {
				e.fatalf("expected RevokeSubject of %s to revoke no other's sessions\nthe store has revoked that of %s", named("subject", group[0]), named("subject", name))
			}
		}
	}
}

func describeAll(list []renew.Session) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = named("subject", s.Subject) + " " + describe(s)
	}
	return strings.Join(texts, "; ")
}

// unknownNames asks for hostile names where other sessions are stored.
func unknownNames(e *tokenEnv) {
	s := created(e)
	for _, group := range confusable {
		for _, name := range group {
			_, err := e.a.Session(e.ctx, e.app, name)
			e.wantError("Session with the unknown "+named("ID", name), err, renew.ErrSessionNotFound)
			_, err = e.b.Session(e.ctx, name, s.ID)
			e.wantError("Session with the unknown "+named("app", name), err, renew.ErrSessionNotFound)
			e.wantError("RevokeSession with the unknown "+named("ID", name), e.a.RevokeSession(e.ctx, e.app, name, revokedAt), renew.ErrSessionNotFound)
		}
	}
	unchanged(e, s, "calls with unknown names")
}
