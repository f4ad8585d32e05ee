package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// listCases test law S1.
var listCases = []testCase[*tokens]{
	{name: "whole-sessions", run: listsWholeSessions},
	{name: "unknown-subject", run: listsUnknown},
	{name: "only-the-subject", run: listsOnlySubject},
	{name: "only-live-ones", run: listsOnlyLive},
	{name: "newest-first", run: listsNewestFirst},
	{name: "many", run: listsMany},
	{name: "as-sessions-change", run: listsAsSessionsChange},
	{name: "concurrent-logins", run: concurrentLogins},
	{name: "concurrent", run: raceOfSessions("SubjectSessions")},
}

// revokeSubjectCases test law S2.
var revokeSubjectCases = []testCase[*tokens]{
	{name: "values", run: func(e *tokenEnv) { everyValue(e, revokesSubjectOfValue) }},
	{name: "all-and-only", run: revokesAllAndOnly},
	{name: "keeps-the-first-time", run: revokeSubjectKeepsTime},
	{name: "unknown-subject", run: revokesUnknown},
	{name: "against-rotations", run: revokeSubjectAgainstRotations},
	{name: "many", run: revokesMany},
	{name: "counts-once", run: countsOnce},
	{name: "concurrent", run: raceOfSessions("RevokeSubject")},
}

// list returns the IDs of the subject's sessions at a time, and checks that the
// other handle returns the same.
func list(e *tokenEnv, app, subject string, at time.Time) []renew.Session {
	var lists [2][]renew.Session
	for i := range lists {
		var err error
		if lists[i], err = e.handle(i).SubjectSessions(e.ctx, app, subject, at); err != nil {
			e.fatalf("expected SubjectSessions to return a list\nthe store returned the error %q", err)
		}
	}
	if a, b := ids(lists[0]), ids(lists[1]); !slices.Equal(a, b) {
		e.failf("expected SubjectSessions to return the same from both handles\nthe store returned %q from one, %q from the other", a, b)
	}
	return lists[0]
}

func ids(sessions []renew.Session) []string {
	list := make([]string, len(sessions))
	for i, s := range sessions {
		list[i] = s.ID
	}
	return list
}

// lists checks that SubjectSessions returns these sessions in this order.
func lists(e *tokenEnv, what string, at time.Time, app, subject string, want ...renew.Session) {
	if got := ids(list(e, app, subject, at)); !slices.Equal(got, ids(want)) {
		hint := e.lagHint(func() string {
			now, err := e.b.SubjectSessions(e.ctx, app, subject, at)
			if err != nil || !slices.Equal(ids(now), ids(want)) {
				return "another list"
			}
			return ""
		})
		e.failf("expected SubjectSessions to return %d sessions, %s: %q\nthe store returned %d: %q%s", len(want), what, ids(want), len(got), got, hint)
	}
}

// of returns a new session of the subject that is created at base plus after.
func of(e *tokenEnv, subject string, after time.Duration) renew.Session {
	s := newSession(e)
	s.Subject = subject
	s.CreatedAt = base.Add(after)
	return s
}

func listsWholeSessions(e *tokenEnv) {
	s := newSession(e)
	create(e, s)
	got := list(e, s.AppID, s.Subject, s.RefreshNotBefore)
	if len(got) != 1 {
		e.fatalf("expected the one session of the subject\nthe store returned %d", len(got))
	}
	if diff := difference(read(e, e.a, s), got[0]); diff != "" {
		e.failf("expected the session as Session returns it\nthe store returned something else: %s", diff)
	}
	if zoned := notUTC(got[0]); zoned != "" {
		e.failf("expected times in UTC\nthe store returned others: %s", zoned)
	}
}

func listsUnknown(e *tokenEnv) {
	s := created(e)
	lists(e, "none of an unknown subject", s.RefreshNotBefore, s.AppID, s.Subject+"-unknown")
	lists(e, "none in an unknown app", s.RefreshNotBefore, s.AppID+"-unknown", s.Subject)
}

func listsOnlySubject(e *tokenEnv) {
	s := created(e)
	for _, other := range []func(o *renew.Session){
		func(o *renew.Session) { o.AppID += "-other" },
		func(o *renew.Session) { o.Subject += "-other" },
		func(o *renew.Session) { o.Subject = o.Subject[:len(o.Subject)-1] },
	} {
		o := of(e, s.Subject, 0)
		other(&o)
		create(e, o)
	}
	lists(e, "not those of another app or subject", s.RefreshNotBefore, s.AppID, s.Subject, s)
	lists(e, "not those of another app", s.RefreshNotBefore, s.AppID+"-other", s.Subject, list(e, s.AppID+"-other", s.Subject, s.RefreshNotBefore)...)
	if n := len(list(e, s.AppID+"-other", s.Subject, s.RefreshNotBefore)); n != 1 {
		e.failf("expected the one session of the subject in the other app\nthe store returned %d", n)
	}
}

func listsOnlyLive(e *tokenEnv) {
	const ms = time.Millisecond
	s := of(e, "subject", 0)
	s.RefreshExpiresAt, s.EndsAt = base.Add(2*time.Hour), base.Add(4*time.Hour)
	create(e, s)
	capped := of(e, "subject", -time.Minute)
	capped.RefreshExpiresAt, capped.EndsAt = base.Add(4*time.Hour), base.Add(time.Hour)
	create(e, capped)
	endless := of(e, "subject", -time.Hour)
	endless.RefreshExpiresAt, endless.EndsAt = base.Add(3*time.Hour), time.Time{}
	create(e, endless)
	revoked := of(e, "subject", -2*time.Hour)
	create(e, revoked)
	revoke(e, e.a, revoked, base.Add(24*time.Hour)) // revoked, whatever the time
	for _, c := range []struct {
		what string
		at   time.Time
		want []renew.Session
	}{
		{"all that are not revoked", base, []renew.Session{s, capped, endless}},
		{"one of which ends 1 ms later", base.Add(time.Hour - ms), []renew.Session{s, capped, endless}},
		{"without the one that ends at that time", base.Add(time.Hour), []renew.Session{s, endless}},
		{"one of which expires 1 ms later", base.Add(2*time.Hour - ms), []renew.Session{s, endless}},
		{"without the one that expires at that time", base.Add(2 * time.Hour), []renew.Session{endless}},
		{"when all have ended", base.Add(3 * time.Hour), nil},
	} {
		lists(e, c.what, c.at, e.app, "subject", c.want...)
		lists(e, c.what+", of a time in another zone", c.at.In(zones[0]), e.app, "subject", c.want...)
	}
}

func listsNewestFirst(e *tokenEnv) {
	var want []renew.Session
	for _, after := range []time.Duration{0, 1, 1, 1, -3, 7, 2, 0} {
		s := of(e, "subject", after*time.Millisecond)
		create(e, s)
		want = append(want, s)
	}
	slices.SortFunc(want, func(a, b renew.Session) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	lists(e, "newest first, of equal ones the greater ID first", base, e.app, "subject", want...)
}

func listsMany(e *tokenEnv) {
	plainly(e, plainValue)
	want := createMany(e, many, func(i int) renew.Session {
		s := of(e, "subject", time.Duration(i)*time.Second)
		s.Claims = json.RawMessage(awkwardClaims[i%len(awkwardClaims)].claims)
		return s
	})
	slices.Reverse(want)
	if e.listLimit > 0 {
		want = want[:e.listLimit]
	}
	got := list(e, e.app, "subject", base)
	if diff := listDifference(want, got); len(got) != len(want) {
		e.failf("expected SubjectSessions to return %d sessions of %d\nthe store returned %d; a store that bounds the list says so with WithListLimit", len(want), many, len(got))
	} else if diff != "" {
		e.failf("expected SubjectSessions to return %d sessions, newest first, each as it is stored\nthe store returned another list: %s", len(want), excerpt([]byte(diff)))
	}
}

func listsAsSessionsChange(e *tokenEnv) {
	s := of(e, "subject", 0)
	create(e, s)
	for range 20 {
		next := successor(s)
		rotate(e, e.a, s.TokenID, next)
		s = next
	}
	lists(e, "one, however often it was renewed", s.RefreshNotBefore, e.app, "subject", s)
	if got := list(e, e.app, "subject", s.RefreshNotBefore); len(got) == 1 && got[0].TokenID != s.TokenID {
		e.failf("expected the session as it was renewed last, at %s\nthe store returned it at %s", named("token", s.TokenID), named("token", got[0].TokenID))
	}
	later := successor(s)
	later.RefreshExpiresAt, later.EndsAt = s.RefreshExpiresAt.Add(1000*time.Hour), time.Time{}
	rotate(e, e.b, s.TokenID, later)
	lists(e, "one that was renewed to end later", s.RefreshExpiresAt.Add(999*time.Hour), e.app, "subject", later)

	rejected, taken := successor(later), otherThan(later)
	rejected.Subject, taken.Subject = "another subject", "another subject"
	e.wantError("Rotate from another token ID", e.a.Rotate(e.ctx, newID(), rejected), renew.ErrConflict)
	e.wantError("CreateSession with a taken ID", e.b.CreateSession(e.ctx, taken), renew.ErrSessionExists)
	lists(e, "one, for a rejected Rotate and a rejected CreateSession move nothing", s.RefreshExpiresAt.Add(999*time.Hour), e.app, "subject", later)
	lists(e, "none of the subject of a rejected call", s.RefreshExpiresAt.Add(999*time.Hour), e.app, "another subject")

	moved := successor(later)
	moved.Subject = "another subject"
	rotate(e, e.a, later.TokenID, moved)
	lists(e, "none: its one session was rotated to another subject", moved.RefreshNotBefore, e.app, "subject")
	lists(e, "the one that was rotated to this subject", moved.RefreshNotBefore, e.app, "another subject", moved)
	revoke(e, e.b, moved, revokedAt)
	lists(e, "none: its one session was revoked", moved.RefreshNotBefore, e.app, "another subject")
}

func revokeSubject(e *tokenEnv, h *tokens, app, subject string, at time.Time) int {
	n, err := h.RevokeSubject(e.ctx, app, subject, at)
	if err != nil {
		e.fatalf("expected RevokeSubject to revoke\nthe store returned the error %q", err)
	}
	return n
}

func revokesAllAndOnly(e *tokenEnv) {
	mine := []renew.Session{of(e, "subject", 0), of(e, "subject", time.Second), of(e, "subject", time.Minute)}
	e.justEnded(&mine[1])
	mine[2].EndsAt = time.Time{}
	others := []renew.Session{of(e, "subject-other", 0), of(e, "subjec", 0), of(e, "subject", 0)}
	others[2].AppID += "-other"
	for _, s := range slices.Concat(mine, others) {
		create(e, s)
	}
	for i := range mine {
		mine[i] = read(e, e.a, mine[i])
	}
	if n := revokeSubject(e, e.a, e.app, "subject", revokedAt); n != len(mine) {
		e.failf("expected RevokeSubject to return %d, the number of the subject's sessions, one of them expired\nthe store returned %d", len(mine), n)
	}
	for i, s := range mine {
		want := s
		want.RevokedAt = revokedAt
		if diff := difference(want, read(e, e.b, s)); diff != "" {
			e.failf("expected RevokeSubject to set RevokedAt of every session of the subject, and nothing else\nthe store has session %d otherwise: %s", i, diff)
		}
	}
	for _, s := range others {
		if !read(e, e.b, s).RevokedAt.IsZero() {
			e.failf("expected RevokeSubject to revoke no other's sessions\nthe store has revoked %s of %s", describe(s), named("subject", s.Subject))
		}
	}
}

func revokeSubjectKeepsTime(e *tokenEnv) {
	first, second := of(e, "subject", 0), of(e, "subject", time.Second)
	create(e, first)
	create(e, second)
	revoke(e, e.a, first, revokedAt)
	if n := revokeSubject(e, e.b, e.app, "subject", revokedAt.Add(time.Hour)); n != 1 {
		e.failf("expected RevokeSubject to count the one session that was not revoked yet\nthe store returned %d", n)
	}
	if got := read(e, e.a, first).RevokedAt; !got.Equal(revokedAt) {
		e.failf("expected RevokedAt to stay at the first time, %s\nthe store has changed it to %s", clock(revokedAt), clock(got))
	}
	if n := revokeSubject(e, e.a, e.app, "subject", revokedAt.Add(2*time.Hour)); n != 0 {
		e.failf("expected RevokeSubject to return 0 when all sessions are revoked\nthe store returned %d", n)
	}
}

func revokesUnknown(e *tokenEnv) {
	s := created(e)
	if n := revokeSubject(e, e.a, e.app, s.Subject+"-unknown", revokedAt); n != 0 {
		e.failf("expected RevokeSubject of an unknown subject to return 0\nthe store returned %d", n)
	}
	unchanged(e, s, "RevokeSubject of another subject")
}

func revokeSubjectAgainstRotations(e *tokenEnv) {
	const sessions = 4
	for round := range e.rounds(40) {
		subject := fmt.Sprintf("subject-%d", round)
		var all, next []renew.Session
		for i := range sessions {
			s := of(e, subject, time.Duration(i)*time.Second)
			create(e, s)
			all, next = append(all, s), append(next, successor(s))
		}
		errs := make([]error, sessions)
		var n int
		var revokeErr error
		e.race(sessions+1, func(i int) {
			if i == sessions {
				n, revokeErr = e.handle(round).RevokeSubject(e.ctx, e.app, subject, revokedAt)
				return
			}
			errs[i] = e.handle(i).Rotate(e.ctx, all[i].TokenID, next[i])
		})
		if revokeErr == nil && n != sessions {
			e.fatalf("expected RevokeSubject to return %d while Rotates were under way (round %d)\nthe store returned %d", sessions, round, n)
		}
		for i := range all {
			got := read(e, e.b, all[i])
			if revokeErr == nil && got.RevokedAt.IsZero() {
				e.fatalf("expected a session to stay revoked when a Rotate of it was under way (round %d)\nthe store returned nil for RevokeSubject, and has the session live", round)
			}
			if errs[i] == nil && got.TokenID != next[i].TokenID {
				e.fatalf("expected a rotation to stay when RevokeSubject was under way (round %d)\nthe store returned nil for Rotate to %q, and has the session at %q", round, next[i].TokenID, got.TokenID)
			}
		}
	}
}
