package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// listCases test law S1.
var listCases = []testCase[*tokens]{
	{name: "whole-sessions", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{listOp(s.AppID, s.Subject, s.RefreshNotBefore)}
	})},
	{name: "unknown-subject", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{
			listOp(s.AppID, s.Subject+"-unknown", s.RefreshNotBefore).as("of an unknown subject"),
			listOp(s.AppID+"-unknown", s.Subject, s.RefreshNotBefore).as("in an unknown app"),
		}
	})},
	{name: "only-the-subject", run: sequence(nil, listsOnlySubject)},
	{name: "only-live-ones", run: listsOnlyLive},
	{name: "newest-first", run: listsNewestFirst},
	{name: "many", run: listsMany},
	{name: "as-sessions-change", run: sequence(func(_ *config, s *renew.Session) { s.Subject = "subject" }, listsAsSessionsChange)},
	{name: "concurrent-logins", run: concurrentLogins},
	{name: "concurrent", run: raceOfSessions("SubjectSessions")},
}

// revokeSubjectCases test law S2.
var revokeSubjectCases = append(everyValue(revokesSubjectOfValue), []testCase[*tokens]{
	{name: "all-and-only", run: revokesAllAndOnly},
	{name: "keeps-the-first-time", run: sequence(nil, func(e *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{
			createSessionOp(other(e, s)), revokeSessionOp(keyOf(s), revokedAt),
			revokeSubjectOp(s.AppID, s.Subject, revokedAt.Add(time.Hour)).
				as("of a subject with one session that is revoked, and one that is not"),
			revokeSubjectOp(s.AppID, s.Subject, revokedAt.Add(2*time.Hour)).as("of a subject whose sessions are all revoked"),
		}
	})},
	{name: "unknown-subject", run: sequence(nil, func(_ *tokenEnv, s renew.Session) []tokenOp {
		return []tokenOp{revokeSubjectOp(s.AppID, s.Subject+"-unknown", revokedAt).as("of an unknown subject")}
	})},
	{name: "against-rotations", run: revokeSubjectAgainstRotations},
	{name: "many", run: revokesMany},
	{name: "counts-once", run: countsOnce},
	{name: "concurrent", run: raceOfSessions("RevokeSubject")},
}...)

func ids(sessions []renew.Session) []string {
	list := make([]string, len(sessions))
	for i, s := range sessions {
		list[i] = s.ID
	}
	return list
}

// of returns a new session of the subject that is created at base plus after.
func of(e *tokenEnv, subject string, after time.Duration) renew.Session {
	s := newSession(e)
	s.Subject = subject
	s.CreatedAt = base.Add(after)
	return s
}

func listsOnlySubject(e *tokenEnv, s renew.Session) (ops []tokenOp) {
	for _, change := range []func(o *renew.Session){
		func(o *renew.Session) { o.AppID += "-other" },
		func(o *renew.Session) { o.Subject += "-other" },
		func(o *renew.Session) { o.Subject = o.Subject[:len(o.Subject)-1] },
	} {
		o := other(e, s)
		change(&o)
		ops = append(ops, createSessionOp(o))
	}
	return append(ops,
		listOp(s.AppID, s.Subject, s.RefreshNotBefore).as("beside sessions of another app and of other subjects"),
		listOp(s.AppID+"-other", s.Subject, s.RefreshNotBefore).as("of the subject in another app"))
}

func listsOnlyLive(e *tokenEnv) {
	s, capped := of(e, "subject", 0), of(e, "subject", -time.Minute)
	endless, revoked := of(e, "subject", -time.Hour), of(e, "subject", -2*time.Hour)
	s.RefreshExpiresAt, s.EndsAt = base.Add(2*time.Hour), base.Add(4*time.Hour)
	capped.RefreshExpiresAt, capped.EndsAt = base.Add(4*time.Hour), base.Add(time.Hour)
	endless.RefreshExpiresAt, endless.EndsAt = base.Add(3*time.Hour), time.Time{}
	ops := []tokenOp{
		createSessionOp(s), createSessionOp(capped), createSessionOp(endless), createSessionOp(revoked),
		revokeSessionOp(keyOf(revoked), base.Add(24*time.Hour)), // revoked, whatever the time
	}
	for _, c := range []struct {
		what  string
		after time.Duration
	}{
		{"when three of four sessions are not revoked", 0},
		{"1 ms before the end of one session", time.Hour - ms},
		{"at the end of one session", time.Hour},
		{"1 ms before one session expires", 2*time.Hour - ms},
		{"when one session expires", 2 * time.Hour},
		{"when all sessions have ended", 3 * time.Hour},
	} {
		at := base.Add(c.after)
		ops = append(ops,
			listOp(e.app, "subject", at).as(c.what),
			listOp(e.app, "subject", at.In(zones[0])).as(c.what+", of a time in another zone"))
	}
	world{}.sequence(e, ops...)
}

func listsNewestFirst(e *tokenEnv) {
	var ops []tokenOp
	for _, after := range []time.Duration{0, 1, 1, 1, -3, 7, 2, 0} {
		ops = append(ops, createSessionOp(of(e, "subject", after*time.Millisecond)))
	}
	world{}.sequence(e, append(ops, listOp(e.app, "subject", base).as("of which some have one CreatedAt: the greater ID comes first"))...)
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
	for _, h := range []*tokens{e.a, e.b} {
		got, err := h.SubjectSessions(e.ctx, e.app, "subject", base)
		switch diff := listDifference(want, got); {
		case err != nil:
			e.failf("expected SubjectSessions to return a list\nthe store returned the error %q", err)
		case len(got) != len(want):
			e.failf("expected SubjectSessions to return %d sessions of %d\nthe store returned %d; a store that bounds the list says so with WithListLimit", len(want), many, len(got))
		case diff != "":
			e.failf("expected SubjectSessions to return %d sessions, newest first, each as it is stored\nthe store returned another list: %s", len(want), excerpt([]byte(diff)))
		}
	}
}

func listsAsSessionsChange(_ *tokenEnv, s renew.Session) (ops []tokenOp) {
	for range 20 {
		next := successor(s)
		ops = append(ops, rotateSessionOp(s.TokenID, next))
		s = next
	}
	list := func(subject string, at time.Time, what string) tokenOp { return listOp(s.AppID, subject, at).as(what) }
	ops = append(ops, list(s.Subject, s.RefreshNotBefore, "of one session that was renewed often"))

	later := successor(s)
	later.RefreshExpiresAt, later.EndsAt = s.RefreshExpiresAt.Add(1000*time.Hour), time.Time{}
	late := s.RefreshExpiresAt.Add(999 * time.Hour)
	ops = append(ops, rotateSessionOp(s.TokenID, later), list(s.Subject, late, "of a session that was renewed to end later"))

	rejected, taken := successor(later), otherThan(later)
	rejected.Subject, taken.Subject = "another subject", "another subject"
	ops = append(ops, rotateSessionOp(newID(), rejected), createSessionOp(taken),
		list(s.Subject, late, "after a rejected Rotate and a rejected CreateSession, which move nothing"),
		list("another subject", late, "of the subject of a rejected call"))

	moved := successor(later)
	moved.Subject = "another subject"
	return append(ops, rotateSessionOp(later.TokenID, moved),
		list(s.Subject, moved.RefreshNotBefore, "of a subject whose one session was rotated to another subject"),
		list(moved.Subject, moved.RefreshNotBefore, "of the subject that a session was rotated to"),
		revokeSessionOp(keyOf(moved), revokedAt), list(moved.Subject, moved.RefreshNotBefore, "of a subject whose one session was revoked"))
}

func revokesAllAndOnly(e *tokenEnv) {
	all := []renew.Session{
		of(e, "subject", 0), of(e, "subject", time.Second), of(e, "subject", time.Minute),
		of(e, "subject-other", 0), of(e, "subjec", 0), of(e, "subject", 0),
	}
	e.justEnded(&all[1])
	all[2].EndsAt = time.Time{}
	all[5].AppID += "-other"
	w := world{}
	for _, s := range all {
		create(e, s)
		w[keyOf(s)] = s
	}
	w.sequence(e, revokeSubjectOp(e.app, "subject", revokedAt).
		as("of three sessions, one of them expired, beside those of other subjects and another app"))
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
			bothStay(e, fmt.Sprintf("under way (round %d)", round), all[i], revokeErr, next[i:i+1], errs[i:i+1])
		}
	}
}
