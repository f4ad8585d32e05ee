package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// world is what a store must hold of some sessions, after all that was done. A
// zero session is one that must not be there.
type world map[rowKey]renew.Session

type rowKey struct{ app, id string }

func keyOf(s renew.Session) rowKey { return rowKey{s.AppID, s.ID} }

func (w world) clone() world { return maps.Clone(w) }

func (w world) has(key rowKey) bool { return w[key].ID != "" }

type tokenOp = op[*tokens, world]

func createSessionOp(s renew.Session) tokenOp {
	return writeOp("CreateSession", func(ctx context.Context, h *tokens) error { return h.plain().CreateSession(ctx, s) }, func(w world) error {
		if w.has(keyOf(s)) {
			return renew.ErrSessionExists
		}
		w[keyOf(s)] = s.Clone()
		return nil
	})
}

func rotateSessionOp(from string, next renew.Session) tokenOp {
	return writeOp("Rotate", func(ctx context.Context, h *tokens) error { return h.plain().Rotate(ctx, from, next) }, func(w world) error {
		switch s := w[keyOf(next)]; {
		case s.ID == "":
			return renew.ErrSessionNotFound
		case s.TokenID != from || !s.RevokedAt.IsZero():
			return renew.ErrConflict
		}
		w[keyOf(next)] = next.Clone()
		return nil
	})
}

func revokeSessionOp(key rowKey, at time.Time) tokenOp {
	return writeOp("RevokeSession", func(ctx context.Context, h *tokens) error {
		return h.plain().RevokeSession(ctx, key.app, key.id, at)
	}, func(w world) error {
		s := w[key]
		if s.ID == "" {
			return renew.ErrSessionNotFound
		}
		if s.RevokedAt.IsZero() {
			s.RevokedAt = at
			w[key] = s
		}
		return nil
	})
}

func revokeSubjectOp(app, subject string, at time.Time, keep ...string) tokenOp {
	return tokenOp{name: "RevokeSubject", call: func(ctx context.Context, h *tokens) (string, error) {
		n, err := h.plain().RevokeSubject(ctx, app, subject, at, keep...)
		return fmt.Sprintf("%d revoked", n), err
	}, apply: func(w world) (string, error) {
		n := 0
		for key, s := range w {
			if s.AppID == app && s.Subject == subject && s.RevokedAt.IsZero() && !slices.Contains(keep, s.ID) {
				s.RevokedAt = at
				w[key] = s
				n++
			}
		}
		return fmt.Sprintf("%d revoked", n), nil
	}}
}

func readOp(key rowKey) tokenOp {
	state := func(s renew.Session) string {
		return fmt.Sprintf("at %s, revoked %s", s.TokenID, clock(s.RevokedAt.UTC()))
	}
	return tokenOp{name: "Session", call: func(ctx context.Context, h *tokens) (string, error) {
		s, err := h.Session(ctx, key.app, key.id)
		if err != nil {
			return "", err
		}
		return state(s), nil
	}, apply: func(w world) (string, error) {
		if !w.has(key) {
			return "", renew.ErrSessionNotFound
		}
		return state(w[key]), nil
	}}
}

func listOp(app, subject string, at time.Time) tokenOp {
	state := func(list []renew.Session) string {
		texts := []string{fmt.Sprintf("%d sessions", len(list))}
		for _, s := range list {
			texts = append(texts, s.ID+" at "+s.TokenID)
		}
		return strings.Join(texts, ", ")
	}
	return tokenOp{name: "SubjectSessions", call: func(ctx context.Context, h *tokens) (string, error) {
		list, err := h.SubjectSessions(ctx, app, subject, at)
		return state(list), err
	}, apply: func(w world) (string, error) { return state(w.list(app, subject, at)), nil }}
}

// list returns the sessions that SubjectSessions must return.
func (w world) list(app, subject string, at time.Time) (list []renew.Session) {
	for _, s := range w {
		if s.AppID == app && s.Subject == subject && s.Live(at) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b renew.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	return list
}

// differs compares the world with what a handle shows: each session, and each
// list of a subject's sessions when all are live, and at the moments when one
// ends. It returns the law that is broken, empty for that of the case, and how.
func (w world) differs(e *tokenEnv, h *tokens) (law, diff string) {
	return e.first(append(w.rowChecks(e, h), w.listChecks(e, h)...))
}

func (w world) rowsDiffer(e *tokenEnv, h *tokens) (law, diff string) {
	return e.first(w.rowChecks(e, h))
}

func (w world) rowChecks(e *tokenEnv, h *tokens) (checks []check) {
	for _, key := range slices.SortedFunc(maps.Keys(w), func(a, b rowKey) int { return cmp.Or(strings.Compare(a.app, b.app), strings.Compare(a.id, b.id)) }) {
		checks = append(checks, func() (law, diff string) {
			got, err := h.Session(e.ctx, key.app, key.id)
			return w.rowDiffers(key, got, err)
		})
	}
	return checks
}

// rowDiffers says how what Session has returned is not as it must be.
func (w world) rowDiffers(key rowKey, got renew.Session, err error) (law, diff string) {
	switch want := w[key]; {
	case !w.has(key) && errors.Is(err, renew.ErrSessionNotFound):
	case !w.has(key) && err == nil:
		return "", fmt.Sprintf("there is a session %q of app %q, which must not be there", key.id, key.app)
	case !w.has(key):
		return "T3", fmt.Sprintf("Session returns the error %q for a session that is not there", err)
	case err != nil:
		return "", fmt.Sprintf("Session returns the error %q for %s", err, describe(want))
	default:
		if diff := difference(want, got); diff != "" {
			return "", describe(want) + ": " + diff
		}
		if zoned := notUTC(got); zoned != "" {
			return "T1", zoned
		}
	}
	return "", ""
}

func (w world) listsDiffer(e *tokenEnv, h *tokens) (law, diff string) {
	return e.first(w.listChecks(e, h))
}

func (w world) listChecks(e *tokenEnv, h *tokens) (checks []check) {
	if !h.hasSubjects() || e.listLimit > 0 && len(w) > e.listLimit {
		return nil
	}
	asked := map[string]bool{}
	for key, s := range w {
		if !w.has(key) {
			continue
		}
		end := s.End().Truncate(time.Millisecond)
		moments := []time.Time{base, end.Add(-2 * time.Millisecond)}
		if h.number%2 == 0 {
			moments = []time.Time{end.Add(time.Millisecond)}
		}
		for _, at := range moments {
			id := fmt.Sprintf("%q %q %d", s.AppID, s.Subject, at.UnixNano())
			if asked[id] {
				continue
			}
			asked[id] = true
			checks = append(checks, func() (law, diff string) {
				got, err := h.SubjectSessions(e.ctx, s.AppID, s.Subject, at)
				if err != nil {
					return "S1", fmt.Sprintf("SubjectSessions returns the error %q", err)
				}
				if diff := listDifference(w.list(s.AppID, s.Subject, at), got); diff != "" {
					return "S1", fmt.Sprintf("SubjectSessions at %s: %s", clock(at), diff)
				}
				return "", ""
			})
		}
	}
	return checks
}

func listDifference(want, got []renew.Session) string {
	if !slices.Equal(ids(want), ids(got)) {
		return fmt.Sprintf("the list is %q, expected %q", ids(got), ids(want))
	}
	for i := range want {
		if diff := difference(want[i], got[i]); diff != "" {
			return "in the list, " + describe(want[i]) + ": " + diff
		}
		if zoned := notUTC(got[i]); zoned != "" {
			return "in the list, " + zoned
		}
	}
	return ""
}

// is checks that both handles show the world as it must be.
func (w world) is(e *tokenEnv, after string) bool { return w.isAs(e, e.law, after) }

// isAs does too, and blames this law unless another is about what differs. T10, T11
// and T13 are about all that follows from a name, a deletion, or a write.
func (w world) isAs(e *tokenEnv, blamed, after string) bool {
	h := e.a
	found, onOther := onBoth(e, w)
	if found.diff == "" {
		h, found = e.b, onOther
	}
	if found.diff == "" {
		return true
	}
	law, hint := found.law, ""
	if law == "S1" {
		hint = e.lagHint(func() string { _, diff := w.listsDiffer(e, h); return diff })
	}
	if blamed == "T10" || blamed == "T11" || blamed == "T13" {
		law = blamed
	}
	e.breaks(e.blames(cmp.Or(law, blamed)), "expected handle %d to show what must be stored after %s\nthe store has it otherwise: %s%s", h.number, after, found.diff, hint)
	return false
}

// do makes a call and checks its result; the store is to be as the world is then.
func (w world) do(e *tokenEnv, h *tokens, op tokenOp) bool {
	blamed := lawsOf[op.name]
	return w.makes(e, h, op, blamed) && w.isAs(e, blamed.effect, op.name)
}

// makes makes a call and checks its result. These laws are to blame.
func (w world) makes(e *tokenEnv, h *tokens, op tokenOp, blamed callLaws) bool {
	after, want, wantErr, got, err := op.do(e, h, w)
	if op.name == "Rotate" && errors.Is(wantErr, renew.ErrSessionNotFound) && errors.Is(err, renew.ErrConflict) {
		err = wantErr
	}
	if !matches(err, wantErr) || err == nil && got != want && got != unclear {
		law := blamed.result
		if wantErr == nil && err != nil && !isNamed(err) {
			law = blamed.effect
		}
		e.breaks(e.blames(law), "expected %s of %s%s\nthe store returned %s%s", outcome(want, wantErr), op.name, op.what, outcome(got, err), indexHint(e, h, op, want, err))
		return false
	}
	maps.Copy(w, after)
	return true
}

// indexHint makes a call again that asks the index of a subject and has returned a wrong
// result, and returns advice if it lags: a list comes right, and RevokeSubject finds more
// sessions than there should be left.
func indexHint(e *tokenEnv, h *tokens, op tokenOp, want string, err error) string {
	if err != nil || op.name != "RevokeSubject" && op.name != "SubjectSessions" {
		return ""
	}
	return e.lagHint(func() string {
		got, err := op.call(e.ctx, h)
		if err == nil && (got == want || op.name == "RevokeSubject" && got != "0 revoked") {
			return ""
		}
		return "the same"
	})
}

// sequence returns a case that stores a session and makes calls then, one after another,
// each through the other handle than the one before; what changes nothing is called
// through both. It checks the result of each call, and what is stored after each write.
// prepare changes the session first; nil: it stays as newSession makes it.
func sequence(prepare func(c *config, s *renew.Session), calls func(e *tokenEnv, s renew.Session) []tokenOp) func(e *tokenEnv) {
	return func(e *tokenEnv) {
		s := newSession(e)
		if prepare != nil {
			prepare(&e.config, &s)
		}
		create(e, s)
		world{keyOf(s): s}.sequence(e, calls(e, s)...)
	}
}

// sequence makes calls. A failure is of the law of the case.
func (w world) sequence(e *tokenEnv, calls ...tokenOp) {
	for i, op := range calls {
		before := w.clone()
		makes := func(h *tokens) bool {
			return w.makes(e, h, op, callLaws{e.law, e.law}) && (reads(op) && i < len(calls)-1 || w.is(e, op.name+op.what))
		}
		if !makes(e.handle(i+1)) || reflect.DeepEqual(w, before) && !makes(e.handle(i)) {
			return
		}
	}
}

// reads reports whether a call only reads.
func reads(op tokenOp) bool { return op.name == "Session" || op.name == "SubjectSessions" }

// callLaws are the laws about the result and the effect of a call.
type callLaws struct{ result, effect string }

// lawsOf are those of a call alone.
var lawsOf = map[string]callLaws{
	"CreateSession":   {"T2", "T1"},
	"Session":         {"T6", "T6"},
	"Rotate":          {"T4", "T4"},
	"RevokeSession":   {"T7", "T7"},
	"SubjectSessions": {"S1", "S1"},
	"RevokeSubject":   {"S2", "S2"},
}

// plainly makes one call after another, each of which must do what it does, before
// a case asks for more than that: a failure is then of the law about that call.
func plainly(e *tokenEnv, v value) {
	w := world{}
	s := sessionWith(e, v)
	next := successor(s)
	v.change(&next)
	last := successor(next)
	for i, op := range []tokenOp{createSessionOp(s), rotateSessionOp(s.TokenID, next), rotateSessionOp(next.TokenID, last), revokeSessionOp(keyOf(s), revokedAt), createSessionOp(newSession(e))} {
		if !w.do(e, e.handle(i), op) {
			panic(stop{})
		}
	}
	if e.a.hasSubjects() && !w.do(e, e.b, revokeSubjectOp(e.app, s.Subject, revokedAt)) {
		panic(stop{})
	}
}

var plainValue = value{"every field set", func(*renew.Session) {}}

func outcome(result string, err error) string {
	switch {
	case isNamed(err):
		return errorName(err)
	case errors.Is(err, errInvalid):
		return "an error that says what is invalid"
	case err != nil:
		return fmt.Sprintf("the error %q", err)
	}
	return cmp.Or(result, "nil")
}

// scene is a session of two, of one subject, with a twin of another app and
// calls that are about them.
type scene struct {
	world
	s, neighbor renew.Session
	twin        renew.Session
}

// newScene stores the sessions; generations says how often they were renewed.
func newScene(e *tokenEnv, generations int, change func(*renew.Session)) *scene {
	c := &scene{world: world{}, s: newSession(e), neighbor: newSession(e)}
	change(&c.s)
	c.s.RevokedAt, c.s.PreviousTokenID, c.s.Generation = time.Time{}, "", 0
	c.neighbor.Subject = c.s.Subject
	for _, s := range []*renew.Session{&c.s, &c.neighbor} {
		c.step(e, createSessionOp(*s))
		for range generations {
			next := successor(*s)
			c.step(e, rotateSessionOp(s.TokenID, next))
			*s = next
		}
	}
	c.twin = twinOf(e, c.s)
	c.world[keyOf(c.twin)] = c.twin
	return c
}

// step makes a call that must succeed.
func (c *scene) step(e *tokenEnv, op tokenOp) {
	c.world = op.step(e, e.a, c.world)
}

// clockBehind is by how much the clock is behind of a server that rotates to earlier
// times. A session that has just ended must not end long enough ago for a store to
// delete it, see justEnded.
const clockBehind = 10 * time.Second

// ops returns calls about the scene, of every method.
func (c *scene) ops(e *tokenEnv) []tokenOp {
	s, n, key := c.s, c.neighbor, keyOf(c.s)
	again := otherThan(s)
	fresh, second := newSession(e), newSession(e)
	fresh.Subject, second.Subject = s.Subject, s.Subject
	moved, earlier, same := successor(s), successor(s), s.Clone()
	moved.Subject += "-moved"
	for _, t := range []*time.Time{&earlier.IssuedAt, &earlier.RefreshNotBefore, &earlier.RefreshExpiresAt} {
		*t = t.Add(-time.Hour - clockBehind)
	}
	same.UserAgent += ", written once more"
	moves := rotateSessionOp(s.TokenID, moved)
	moves.moves = true
	ops := []tokenOp{
		createSessionOp(fresh), createSessionOp(second), createSessionOp(again), createSessionOp(s),
		rotateSessionOp(s.TokenID, successor(s)), rotateSessionOp(s.TokenID, successor(s)), rotateSessionOp(s.TokenID, same),
		moves, rotateSessionOp(s.TokenID, earlier),
		rotateSessionOp(cmp.Or(s.PreviousTokenID, newID()), successor(s)), rotateSessionOp(n.TokenID, successor(s)),
		rotateSessionOp(n.TokenID, successor(n)), rotateSessionOp(n.TokenID, n),
		revokeSessionOp(key, revokedAt), revokeSessionOp(key, revokedAt.Add(time.Minute)), revokeSessionOp(keyOf(n), revokedAt),
		readOp(key),
	}
	if e.a.hasSubjects() {
		ops = append(ops,
			listOp(s.AppID, s.Subject, s.IssuedAt),
			revokeSubjectOp(s.AppID, s.Subject, revokedAt.Add(time.Hour)),
			revokeSubjectOp(s.AppID, s.Subject, revokedAt.Add(2*time.Hour), n.ID),
			revokeSubjectOp(s.AppID, s.Subject, revokedAt.Add(3*time.Hour), s.ID, newID()),
		)
	}
	return ops
}

// twinOf stores a session of another app that has the IDs and the subject of s,
// as it was created, and returns it. A store may demand that token IDs are unique.
func twinOf(e *tokenEnv, s renew.Session) renew.Session {
	twin := s.Clone()
	twin.AppID, twin.RevokedAt = e.app+"-twin", time.Time{}
	twin.RefreshExpiresAt, twin.EndsAt = base.Add(48*time.Hour), time.Time{}
	if err := store(e, e.b, twin); err != nil {
		twin.TokenID, twin.PreviousTokenID = newID(), newID()
		if err := store(e, e.b, twin); err != nil {
			e.breaks("T2", "expected CreateSession to store a session whose ID only another app has\nthe store returned the error %q", err)
			panic(stop{})
		}
	}
	return twin
}
