package explore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// Violation is a promise of DESIGN.md section 1 that a schedule breaks.
type Violation struct {
	Promise  int
	Rule     string // what was broken, in different words for each check
	Detail   string
	Config   string
	Replay   string   // what -explore.replay takes
	Schedule []string // what happened, step by step
}

func (w *world) broken(promise int, rule, format string, args ...any) *Violation {
	return &Violation{Promise: promise, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

// checkRevocation judges a revocation for reuse that has just happened.
func (w *world) checkRevocation(s *state, r request) *Violation {
	if s.thiefPresented || s.ownerLate || s.restored && (w.Ahead != renew.AheadAdopted || !s.knows(w.process.tokens.at(r.token).jid)) {
		return nil
	}
	if s.back && (r.clock > s.clock || w.process.sessions.at(s.store).IssuedAt.After(at(s.clock))) {
		s.ownerLate = true // the clock was set back under way: no age tells what came first
		return nil
	}
	return w.broken(4, "an owner is punished",
		"the %s's request %d with token %s revoked the session, and no one else has presented a token of it", r.by, r.number+1, w.nameOf(r.token))
}

// knows says whether a token is in the history that the store has not lost.
func (s *state) knows(jid int32) bool {
	return slices.ContainsFunc(s.uses, func(u use) bool { return u.presented == jid || u.successor == jid })
}

// checkResult judges what a request has ended with, which its client does not
// know yet.
func (w *world) checkResult(s *state, f *flight, r *result) *Violation {
	req := w.process.nodes[f.node].request
	if req.kind == logout {
		if r.err != nil && !f.fault {
			return w.broken(0, "a logout fails", "%v", r.err)
		}
		return nil
	}
	for _, check := range []func(*state, *flight, request, *result) *Violation{
		w.checkSuccess, w.checkOwnCommit, w.checkDetection, w.checkCause, w.checkCalls,
	} {
		if v := check(s, f, req, r); v != nil {
			return v
		}
	}
	return nil
}

// checkSuccess judges a pair that is given out: promise 1, and what of promise 3
// is about who gets one.
func (w *world) checkSuccess(s *state, f *flight, req request, r *result) *Violation {
	if r.token == 0 {
		return nil
	}
	presented, successor := w.process.tokens.at(req.token), w.process.tokens.at(r.token)
	var made *use
	uses := slices.Clone(s.uses)
	for i := range uses {
		u := &uses[i]
		switch {
		case u.presented != presented.jid:
		case u.successor == successor.jid:
			made = u
		case u.handed:
			return w.broken(1, "a token has two successors", "token %s was renewed to %s, and now to %s", w.nameOf(req.token), w.name(u.successor), w.name(successor.jid))
		}
	}
	switch {
	case s.restored && made == nil:
		return nil // the store has lost what was acknowledged
	case made == nil:
		return w.broken(1, "a pair is given out that the store does not have", "token %s is given out for %s", w.name(successor.jid), w.nameOf(req.token))
	case f.afterEnd:
		return w.broken(3, "a session continues after its end", "the request arrived after the session had ended, or its key was revoked, and token %s is given out", w.name(successor.jid))
	case !s.back && req.clock >= successor.expiresAt && !w.ends(successor):
		return w.broken(3, "an expired pair is given out", "token %s", w.name(successor.jid))
	case !r.retried && !s.back && req.clock >= presented.expiresAt:
		return w.broken(3, "an expired token is renewed", "token %s", w.nameOf(req.token))
	case !r.retried && !f.committed:
		return w.broken(1, "a pair is given out for another request's rotation", "token %s, and it is not called a retry", w.name(successor.jid))
	}
	made.handed = true
	s.uses = uses
	if !r.retried {
		return nil
	}
	return w.checkRetry(req, made)
}

// ends says whether a session's absolute end makes its tokens so short that
// whole seconds decide.
func (w *world) ends(*token) bool { return w.SessionTTL > 0 }

// checkRetry judges a successor that is given out once more.
func (w *world) checkRetry(req request, made *use) *Violation {
	switch {
	case w.mayRetry(req, made):
		return nil
	case made.key != nobody:
		return w.broken(3, "the retry window beats the proof",
			"token %s was renewed with an idempotency key, and a request without it gets the successor", w.nameOf(req.token))
	}
	return w.broken(3, "a retry without proof",
		"token %s was renewed %v before this request, and the retry window is %v", w.nameOf(req.token), time.Duration(req.clock-made.at)*time.Millisecond, w.RetryWindow)
}

// mayRetry says whether a request has what it takes to get the successor again: the
// idempotency key of the renewal or, if that had none, the retry window.
func (w *world) mayRetry(r request, made *use) bool {
	if made.key != nobody {
		return r.key == made.key
	}
	return w.RetryWindow > 0 && r.clock-made.at <= w.RetryWindow.Milliseconds()
}

// checkOwnCommit judges what becomes of a request whose rotation has happened.
func (w *world) checkOwnCommit(s *state, f *flight, req request, r *result) *Violation {
	if !f.committed || s.restored {
		return nil
	}
	if made := s.made(req); made == nil || slices.ContainsFunc(s.uses, func(u use) bool { return u.presented == made.successor }) {
		return nil // lost since; or given to a client, which has used it
	}
	ended := r.reason == renew.ReasonRevokedSession || r.reason == renew.ReasonUnknownSession || r.reason == renew.ReasonEndedSession
	if r.reason != "" && !ended {
		return w.broken(2, "a request loses to its own rotation", "request %d renewed token %s, and is rejected: %s", req.number+1, w.nameOf(req.token), r.reason)
	}
	if f.fault || ended {
		return nil
	}
	renewed := 0
	for _, e := range r.events {
		if e.kind == renew.EventRenewed {
			renewed++
		}
	}
	if r.token == 0 || renewed != 1 {
		return w.broken(2, "a rotation happens unseen", "request %d renewed token %s, and made %d events of it (error: %v)", req.number+1, w.nameOf(req.token), renewed, r.err)
	}
	return nil
}

// checkDetection judges the rejection of a token that the other party had used
// before this one presented it.
func (w *world) checkDetection(s *state, f *flight, req request, r *result) *Violation {
	for _, e := range r.events {
		if e.kind == renew.EventRevoked && !w.hasRevoked(f.node, e.after) {
			return w.broken(3, "the event of a revocation comes before it", "request %d", req.number+1)
		}
	}
	switch {
	case !f.demand, f.fault, r.token != 0, w.isOver(s):
		return nil
	case f.canceled && !w.hasRead(f.node):
		return nil // it ended before it could see
	case errors.Is(r.err, renew.ErrClock), r.reason == renew.ReasonRevokedKey, r.reason == renew.ReasonDenied:
		return nil
	case len(s.uses) > 0 && s.uses[len(s.uses)-1].at >= req.clock:
		return nil // a renewal came in between: it may have arrived before the use
	case s.back && (r.reason == renew.ReasonExpired || r.reason == renew.ReasonEndedSession || r.reason == renew.ReasonUnknownSession):
		return nil
	}
	return w.broken(3, "a theft is not detected: "+string(cmp.Or(r.reason, "internal error")),
		"the %s presents token %s, which the %s has used; it is rejected (%v) and the session stays alive", req.by, w.nameOf(req.token), req.by.other(), r.err)
}

// hasRevoked says whether one of the first calls of a request revoked.
func (w *world) hasRevoked(n int32, calls int) bool {
	depth := 0
	for i := n; w.process.nodes[i].parent != noNode; i = w.process.nodes[i].parent {
		depth++
	}
	for i := n; w.process.nodes[i].parent != noNode; i, depth = w.process.nodes[i].parent, depth-1 {
		node := &w.process.nodes[i]
		if depth <= calls && node.reply.kind == done && w.process.nodes[node.parent].call.kind == callRevoke {
			return true
		}
	}
	return false
}

// hasRead says whether a request has read the session.
func (w *world) hasRead(n int32) bool {
	for i := n; w.process.nodes[i].parent != noNode; i = w.process.nodes[i].parent {
		node := &w.process.nodes[i]
		if node.reply.kind == done && w.process.nodes[node.parent].call.kind == callSession {
			return true
		}
	}
	return false
}

// counts is how often a request made each call, and was told of a conflict.
func (w *world) counts(n int32) (calls [returned + 1]int, conflicts int) {
	for i := n; w.process.nodes[i].parent != noNode; i = w.process.nodes[i].parent {
		node := &w.process.nodes[i]
		calls[w.process.nodes[node.parent].call.kind]++
		if node.reply.kind == conflict || node.reply.kind == notFound {
			conflicts++
		}
	}
	return calls, conflicts
}

// checkCause finds an internal error, or a malformed request, that nothing in the
// schedule explains.
func (w *world) checkCause(s *state, f *flight, req request, r *result) *Violation {
	if r.err == nil || r.reason != "" || f.canceled {
		return nil
	}
	if _, conflicts := w.counts(f.node); conflicts > 1 || f.fault && !w.isOneFailedRotation(f.node) {
		return nil
	}
	if s.back && errors.Is(r.err, renew.ErrClock) || s.restored && r.ahead && w.Ahead == renew.AheadFails {
		return nil
	}
	return w.broken(2, "an error without a cause", "request %d of the %s with token %s: %v", req.number+1, req.by, w.nameOf(req.token), r.err)
}

// isOneFailedRotation says whether all that failed of a request was one rotation
// whose reply was lost, which costs nothing: it is looked up and repeated.
func (w *world) isOneFailedRotation(n int32) bool {
	failures, rotations := 0, 0
	for i := n; w.process.nodes[i].parent != noNode; i = w.process.nodes[i].parent {
		node := &w.process.nodes[i]
		c := &w.process.nodes[node.parent].call
		if node.reply.kind != outage && node.reply.kind != contextDone {
			continue
		}
		failures++
		if node.reply.kind == outage && c.kind == callRotate && !w.confirms(c) {
			rotations++
		}
	}
	return failures == 1 && rotations == 1
}

// checkCalls is promise 5: one read and one conditional write in the plain case,
// and never more than a few.
func (w *world) checkCalls(s *state, f *flight, req request, r *result) *Violation {
	calls, conflicts := w.counts(f.node)
	plain := r.token != 0 && !f.fault && conflicts == 0 && !f.canceled
	if plain && (calls[callSession] != 1 || calls[callRotate] != 1 || calls[callRevoke] != 0) ||
		calls[callSession] > 6 || calls[callRotate] > 6 || calls[callRevoke] > 1 {
		return w.broken(5, "a renewal costs more calls", "request %d made %d reads, %d rotations, %d revocations",
			req.number+1, calls[callSession], calls[callRotate], calls[callRevoke])
	}
	return nil
}

// checkRest judges a state in which no request is in flight: an owner who asks
// now, with nothing going wrong, must get a pair.
func (w *world) checkRest(s *state) *Violation {
	if len(s.flights) > 0 || w.mayHaveLost(s) {
		return nil
	}
	s = s.clone()
	s.left = [budgets]int8{ownerRequests: 2} // even: from its usual network
	s.late, s.past = nil, nil
	if !w.makeRenewable(s) {
		return nil
	}
	steps := []action{{kind: sends, by: owner}}
	for i := 0; i < len(steps); i++ {
		next, v := w.apply(s, steps[i])
		if v != nil {
			v.Detail = "the owner asks once more, and nothing goes wrong: " + v.Detail
			return v
		}
		s = next
		switch {
		case len(s.flights) == 0:
		case s.flights[0].response != 0:
			return nil
		case s.flights[0].holding:
			steps = append(steps, action{kind: hears})
		default:
			steps = append(steps, action{kind: proceeds, reply: done, effect: happens})
		}
	}
	return w.broken(2, "an owner has lost the session", "no request is in flight; the owner presents token %s, nothing goes wrong, and it gets no pair", w.nameOf(s.storage[owner]))
}

// makeRenewable moves the clock to where the owner's token can be renewed, if it
// is too early. It reports false if it is too late.
func (w *world) makeRenewable(s *state) bool {
	tok := w.process.tokens.at(s.storage[owner])
	session := w.process.sessions.at(s.store)
	ends := clockOf(session.RefreshExpiresAt) // a retry does not end with the token
	if session.TokenID == *w.process.jids.at(tok.jid) {
		s.clock = max(s.clock, tok.notBefore)
		ends = tok.expiresAt
	}
	if issued := clockOf(session.IssuedAt); issued-s.clock > clockTolerance.Milliseconds() {
		s.clock = issued
	}
	return s.clock+1 < ends
}

// mayHaveLost says whether the owner may have lost the session by a rule.
func (w *world) mayHaveLost(s *state) bool {
	tok := w.process.tokens.at(s.storage[owner])
	switch {
	case s.thiefPresented, s.loggedOut, s.expired, s.ownerLate, s.store == 0, s.revoked[tok.key], s.revoked[s.active]:
		return true
	}
	session := w.process.sessions.at(s.store)
	current := session.TokenID
	jid := *w.process.jids.at(tok.jid)
	if s.restored {
		// What was lost is lost; but the newest token is adopted.
		return !(w.Ahead == renew.AheadAdopted && jid > current)
	}
	full := w.budgets()
	clean := s.left[lost] == full[lost] && s.left[hangUps] == full[hangUps] && s.left[faults] == full[faults] && s.left[failovers] == full[failovers]
	inWindow := w.RetryWindow > 0 && session.PreviousTokenID == jid && session.IdempotencyKeyHash == nil &&
		s.clock+1-clockOf(session.IssuedAt) <= w.RetryWindow.Milliseconds()
	return !w.Keys && !clean && jid != current && !inWindow
}
