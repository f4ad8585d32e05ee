package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// anySessions makes calls of every method in random order, through both handles,
// about a few sessions of two apps that share IDs, token IDs and subjects.
func anySessions(e *tokenEnv) {
	random := e.random()
	list := e.values()
	for round := range e.rounds(3) {
		c := newScene(e, round%3, func(*renew.Session) {})
		apps, subjects := []string{e.app, e.app + "-twin"}, []string{c.s.Subject, c.s.Subject + "-other"}
		for range 60 {
			key := rowKey{apps[random.IntN(2)], []string{c.s.ID, c.neighbor.ID}[random.IntN(2)]}
			s := c.world[key]
			if !c.has(key) {
				s = newSession(e)
			}
			next := successor(s)
			next.AppID, next.ID, next.RevokedAt = key.app, key.id, time.Time{}
			list[random.IntN(len(list))].change(&next)
			next.Subject = subjects[random.IntN(2)]
			at := revokedAt.Add(time.Duration(random.IntN(1e6)) * time.Millisecond)
			var op tokenOp
			switch n := random.IntN(20); {
			case n < 10:
				op = rotateSessionOp(s.TokenID, next)
			case n < 11:
				op = rotateSessionOp(s.TokenID, s)
			case n < 13: // from a token ID that is not, or no longer, the current one
				op = rotateSessionOp([]string{s.PreviousTokenID, newID(), c.s.TokenID, c.world[rowKey{apps[0], key.id}].TokenID}[random.IntN(4)], next)
			case n < 15:
				op = createSessionOp(next)
			case n < 16:
				op = revokeSessionOp(key, at)
			case n < 17:
				fresh := newSession(e)
				fresh.AppID, fresh.Subject = key.app, next.Subject
				op = createSessionOp(fresh)
			default:
				op = readOp(key)
				if e.a.hasSubjects() && n == 17 {
					op = revokeSubjectOp(key.app, next.Subject, at, c.s.ID)
				}
			}
			if !c.do(e, e.handle(random.IntN(2)), op) {
				return
			}
			if s := c.world[key]; !s.RevokedAt.IsZero() && random.IntN(2) == 0 { // others take the place
				fresh := newSession(e)
				fresh.Subject = subjects[0]
				if key.id == c.s.ID {
					c.s = fresh
				} else {
					c.neighbor = fresh
				}
				c.do(e, e.a, createSessionOp(fresh))
				twin := twinOf(e, fresh)
				c.world[keyOf(twin)] = twin
			}
		}
	}
}

// raceOfSessions returns a case that makes two calls at the same moment, of which one is
// of this method: each pair, on one session and on neighbors of one subject, at
// generation 0 and later, with every value.
func raceOfSessions(method string) func(e *tokenEnv) {
	return raceOf(3, func(e *tokenEnv) (ops []tokenOp, race func(pass, i, j int)) {
		random := e.random()
		list := e.values()
		ops = newScene(e, 0, plainValue.change).ops(e)
		return ops, func(pass, i, j int) {
			if oneStep(ops[i], ops[j]) {
				raceTwo(e, list[random.IntN(len(list))], pass%2*2, i, j)
			}
		}
	}, method)
}

// oneStep reports whether two calls must do what they do one after the other.
// Reads alone need not; and a call that is about several sessions may take a step
// for each, and may find them before they move to another subject.
func oneStep(a, b tokenOp) bool {
	several := func(op tokenOp) bool { return op.name == "RevokeSubject" || op.name == "SubjectSessions" }
	switch {
	case reads(a) && reads(b), several(a) && several(b):
		return false
	case several(a) && b.moves, several(b) && a.moves:
		return false
	}
	return true
}

func raceTwo(e *tokenEnv, v value, generations, i, j int) {
	duels := make([]duel[*tokens, world], 3)
	e.spread(len(duels), func(n int) {
		c := newScene(e, generations, v.change)
		all := c.ops(e)
		duels[n].before, duels[n].ops = c.world, [2]tokenOp{all[i], all[j]}
	})
	for n, diff := range fight(e, duels) {
		if d := &duels[n]; diff != "" {
			hint := e.lagHint(func() string { return d.fitsNoOrder(e) })
			plainly(e, v)
			d.reports(e, diff+hint)
		}
	}
}

// interrupted makes each call with contexts that end while it is under way.
func interrupted(e *tokenEnv) {
	plainly(e, plainValue)
	for i := range newScene(e, 0, plainValue.change).ops(e) {
		for _, interruption := range e.interruptions() {
			c := newScene(e, i%2, plainValue.change)
			c.ops(e)[i].interrupts(e, interruption, e.handle(i), c.world)
		}
	}
	if e.a.hasSubjects() {
		interruptedSubject(e)
	}
}

// interruptedSubject ends the context while RevokeSubject is at work on many
// sessions: some may be revoked, and their number is returned with the error.
func interruptedSubject(e *tokenEnv) {
	for _, interruption := range e.interruptions() {
		const many = 12
		subject := "subject-" + newID()
		var all []renew.Session
		for i := range many {
			s := of(e, subject, time.Duration(i)*time.Second)
			create(e, s)
			all = append(all, s)
		}
		ctx, cancel := interruption(e.ctx)
		n, err := e.a.RevokeSubject(ctx, e.app, subject, revokedAt)
		cancel()
		revoked := 0
		for _, s := range all {
			if !read(e, e.b, s).RevokedAt.IsZero() {
				revoked++
			}
		}
		switch {
		case err == nil && (revoked != many || n != many):
			e.fatalf("expected RevokeSubject to revoke all %d sessions, or to return an error when its context ends during the call\nthe store returned %d and nil, and has %d revoked", many, n, revoked)
		case err != nil && n > revoked:
			e.fatalf("expected the number of sessions that were revoked before the error\nthe store returned %d and the error %q, and has %d revoked", n, err, revoked)
		}
	}
}

// noTornReads writes a session of which every field tells the generation, and
// reads it at the same moments, alone and in a list.
func noTornReads(e *tokenEnv) {
	plainly(e, plainValue)
	plainly(e, value{"tags", func(s *renew.Session) { *s = tagged(*s, s.Generation) }})
	for range e.rounds(2) {
		s := tagged(newSession(e), 0)
		create(e, s)
		appID, id, subject := s.AppID, s.ID, s.Subject
		end := e.endOf(3 * e.budget)
		e.readsBeside(func(m *meeting) {
			for n := int64(1); n < 6 || n < 50_000 && time.Now().Before(end); n++ {
				m.meet()
				next := tagged(successor(s), n)
				if e.a.store.Rotate(e.ctx, s.TokenID, next) == nil {
					s = next
				} else if got, err := e.a.Session(e.ctx, s.AppID, s.ID); err == nil {
					s = got
				}
			}
		}, func(n int) { readsWhole(e, e.b, appID, id, subject, n) })
	}
}

func readsWhole(e *tokenEnv, h *tokens, appID, id, subject string, reads int) {
	store, ok := h.store.(renew.SubjectStore)
	if !ok || reads%2 == 0 {
		if got, err := h.store.Session(e.ctx, appID, id); err == nil {
			wantWhole(e, "Session", got)
		}
		return
	}
	list, err := store.SubjectSessions(e.ctx, appID, subject, base)
	if err == nil && len(list) != 1 {
		e.breaks("S1", "expected the one session of a subject while it is renewed\nthe store returned %d", len(list))
		panic(stop{})
	}
	for _, got := range list {
		wantWhole(e, "SubjectSessions", got)
	}
}

// tagged returns s with the generation in every field that a rotation may change.
func tagged(s renew.Session, n int64) renew.Session {
	text := fmt.Sprint(n)
	at := time.Duration(n) * time.Millisecond
	s.Generation, s.TokenID = n, s.ID[:16]+fmt.Sprintf("%010d", n)
	s.Audience, s.Claims = []string{text}, []byte(`{"n":`+text+`}`)
	s.IssuedAt, s.RefreshNotBefore = base.Add(at), base.Add(at)
	s.RefreshExpiresAt, s.EndsAt = base.Add(time.Hour+at), base.Add(2*time.Hour+at)
	s.IdempotencyKeyHash = []byte(fmt.Sprintf("%032d", n))
	s.IP, s.UserAgent, s.PreviousTokenID = "192.0.2."+text, text, s.ID[:16]+fmt.Sprintf("%010d", n-1)
	return s
}

func wantWhole(e *tokenEnv, method string, got renew.Session) {
	want := tagged(got.Clone(), got.Generation)
	if diff := difference(want, got); diff != "" {
		e.fatalf("expected a session as one Rotate wrote it\nthe store returned from %s fields of two: at generation %d, %s", method, got.Generation, diff)
	}
}

// concurrentLogins lets many sessions of one subject begin, and others of it move,
// end and be rejected at the same time.
func concurrentLogins(e *tokenEnv) {
	plainly(e, plainValue)
	const clients = 6
	for round := range e.rounds(30) {
		subject := fmt.Sprintf("subject-%d-%s", round, newID())
		w := world{}
		was := of(e, subject, 0)
		if round%2 == 1 {
			create(e, was)
			w[keyOf(was)] = was
		}
		moved := successor(was)
		moved.Subject += "-moved"
		sessions := []renew.Session{moved}
		for i := range clients {
			sessions = append(sessions, of(e, subject, time.Duration(i)*time.Second))
		}
		errs := make([]error, len(sessions))
		e.race(len(sessions), func(i int) {
			if i == 0 {
				errs[i] = e.handle(round).Rotate(e.ctx, was.TokenID, moved)
				return
			}
			errs[i] = e.handle(i).CreateSession(e.ctx, sessions[i])
		})
		for i, s := range sessions {
			if errs[i] == nil {
				w[keyOf(s)] = s
			} else if got, err := e.a.Session(e.ctx, s.AppID, s.ID); err == nil { // what happened is what is stored
				w[keyOf(s)] = got
			}
		}
		if !w.is(e, "several logins of one subject at the same moment") {
			return
		}
	}
}

// countsOnce lets RevokeSubjects and RevokeSessions of one subject run concurrently:
// each session is revoked by one of them, and counted by that one.
func countsOnce(e *tokenEnv) {
	plainly(e, plainValue)
	const sessions, revokers = 6, 3
	for round := range e.rounds(40) {
		subject := fmt.Sprintf("subject-%d-%s", round, newID())
		all := make([]renew.Session, sessions)
		for i := range all {
			all[i] = of(e, subject, time.Duration(i)*time.Second)
			create(e, all[i])
		}
		at := func(i int) time.Time { return revokedAt.Add(time.Duration(i) * time.Minute) }
		counts := make([]int, revokers)
		errs := make([]error, revokers)
		e.race(revokers+1, func(i int) {
			if i == revokers {
				_ = e.handle(round).RevokeSession(e.ctx, e.app, all[round%sessions].ID, at(i)) // the stored time tells
				return
			}
			counts[i], errs[i] = e.handle(i).RevokeSubject(e.ctx, e.app, subject, at(i))
		})
		byTime := map[int64]int{}
		for _, s := range all {
			byTime[read(e, e.b, s).RevokedAt.UnixMilli()]++
		}
		for i, err := range errs {
			if err == nil && counts[i] != byTime[at(i).UnixMilli()] {
				e.fatalf("expected each of %d concurrent RevokeSubjects to return how many sessions it revoked (round %d)\nthe store returned %d for one, and has %d sessions revoked at its time", revokers, round, counts[i], byTime[at(i).UnixMilli()])
			}
		}
	}
}

// many is above the sizes of pages that are common, also without those to keep.
const many = 1005

// createMany stores sessions of one subject, several at a time.
func createMany(e *tokenEnv, n int, session func(i int) renew.Session) []renew.Session {
	all := make([]renew.Session, n)
	e.spread(n, func(i int) {
		all[i] = session(i)
		if err := store(e, e.handle(i), all[i]); err != nil {
			e.fatalf("expected CreateSession to store a new session\nthe store returned the error %q", err)
		}
	})
	return all
}

func revokesMany(e *tokenEnv) {
	plainly(e, plainValue)
	all := createMany(e, many, func(i int) renew.Session { return of(e, "subject", time.Duration(i)*time.Second) })
	keep := []string{all[3].ID, all[500].ID, newID()}
	for len(keep) < 300 { // most of which are no session's
		keep = append(keep, newID())
	}
	n, err := e.a.RevokeSubject(e.ctx, e.app, "subject", revokedAt, keep...)
	if err != nil || n != many-2 {
		e.failf("expected RevokeSubject to revoke and return %d of %d sessions, all but two to keep\nthe store returned %d and the error %v", many-2, many, n, err)
	}
	e.spread(many, func(i int) {
		s := all[i]
		if s.RevokedAt = revokedAt; slices.Contains(keep, s.ID) {
			s.RevokedAt = time.Time{}
		}
		if diff := difference(s, read(e, e.handle(i), s)); diff != "" {
			e.fatalf("expected RevokeSubject to revoke all %d sessions of a subject but those to keep\nthe store has one otherwise: %s", many, diff)
		}
	})
}
