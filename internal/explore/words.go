package explore

import (
	"fmt"
	"strings"
	"time"
)

// name is what a token is called in a schedule: A is the first that is named in
// it, and so on.
func (w *world) name(jid int32) string {
	if jid == 0 {
		return "none"
	}
	if w.names == nil {
		w.names = map[int32]string{}
	}
	if w.names[jid] == "" {
		n := len(w.names)
		w.names[jid] = string(rune('A'+n%26)) + strings.Repeat("'", n/26)
	}
	return w.names[jid]
}

func (w *world) nameOf(tok int32) string { return w.name(w.process.tokens.at(tok).jid) }

// words says what an action does, in a state.
func (w *world) words(s *state, a action) string {
	switch a.kind {
	case sends:
		return fmt.Sprintf("the %s sends request %d: renew token %s%s", a.by, s.started+1, w.nameOf(s.storage[a.by]), w.with(s, a.by))
	case logsOut:
		return fmt.Sprintf("the owner sends request %d: log out with token %s", s.started+1, w.nameOf(s.storage[owner]))
	case copiesToken:
		return fmt.Sprintf("the thief copies token %s", w.nameOf(s.storage[owner]))
	case lateWrite:
		return "the write that its connection had lost happens: " + w.writeWords(s, s.late[a.n])
	case stepsClock:
		return fmt.Sprintf("the clock steps by %v", w.Clock[a.n])
	case deletes:
		return "the expired session is deleted"
	case restoresStore:
		return "the store goes back to where its session was at token " + w.currentOf(s.past[a.n].session)
	case failsOver:
		return "the store fails over, and has lost what it had not acknowledged: it is at token " + w.currentOf(s.durable.session)
	case replacesKey:
		return "the signing key is replaced"
	case revokesKey:
		return fmt.Sprintf("signing key %d is revoked", a.n+1)
	}
	f := &s.flights[a.flight]
	switch a.kind {
	case receives:
		return fmt.Sprintf("the %s receives token %s", f.by, w.nameOf(f.response))
	case misses:
		return fmt.Sprintf("the response with token %s does not reach the %s", w.nameOf(f.response), f.by)
	}
	who := fmt.Sprintf("request %d (%s)", w.process.nodes[f.node].request.number+1, f.by)
	switch a.kind {
	case hears:
		return who + " hears the store's reply"
	case hangsUp:
		if a.n == 1 {
			return "the client of " + who + " hangs up; its context is canceled"
		}
		return "the client of " + who + " hangs up; the server does not notice"
	}
	return who + " " + w.callWords(s, a)
}

func (w *world) with(s *state, by party) string {
	switch key := w.keyFor(s, by, s.storage[by]); key {
	case nobody:
		return ""
	case by:
		return ", with its idempotency key"
	default:
		return ", with the idempotency key of the " + key.String()
	}
}

func (w *world) currentOf(session int32) string {
	if session == 0 {
		return "none"
	}
	name := w.name(w.process.jid(w.process.sessions.at(session).TokenID))
	if !w.process.sessions.at(session).RevokedAt.IsZero() {
		name += ", revoked"
	}
	return name
}

func (w *world) writeWords(s *state, wr write) string {
	if wr.next == 0 {
		return "revoke"
	}
	how := "no effect"
	if w.matches(s, wr.from) {
		how = "it matches"
	}
	return fmt.Sprintf("rotate from %s to %s (%s)", w.name(wr.from), w.currentOf(wr.next), how)
}

func (w *world) callWords(s *state, a action) string {
	c := &w.process.nodes[s.flights[a.flight].node].call
	var what string
	switch c.kind {
	case callApp:
		return "reads the app"
	case callVerificationKey:
		return fmt.Sprintf("reads verification key %d", c.key+1)
	case callSigningKey:
		return fmt.Sprintf("reads the signing key: %d", s.active+1)
	case callHook:
		if a.reply == denied {
			return "asks the renew function, which denies"
		}
		return "asks the renew function, which agrees"
	case callSession:
		what = "reads the session, which is at token " + w.currentOf(s.store)
		if a.effect == nothing {
			what = "reads the session"
		}
	default:
		what = "calls " + w.writeWords(s, write{from: c.from, next: c.next, at: c.at})
		what += [...]string{"", ", which does not happen", ", which does not happen yet"}[a.effect]
		if a.lands != 0 {
			what = "waits for the write that its connection had lost, and then " + what
		}
	}
	switch a.reply {
	case outage:
		what += "; the connection is lost"
	case contextDone:
		what += "; its context ends"
	case conflict:
		what += "; the driver repeats it, and replies with a conflict"
	}
	return what
}

// outcome says what a request that an action has ended ended with.
func (w *world) outcome(before, after *state, a action) string {
	if a.kind != sends && a.kind != logsOut && a.kind != proceeds && a.kind != hears {
		return ""
	}
	number := before.started
	if a.kind == proceeds || a.kind == hears {
		number = w.process.nodes[before.flights[a.flight].node].request.number
	}
	for i := range after.flights {
		if f := &after.flights[i]; f.node != 0 && w.process.nodes[f.node].request.number == number {
			return ""
		}
	}
	n := w.lastNode
	r := w.process.nodes[n].call.result
	switch {
	case r == nil:
		return ""
	case r.err != nil:
		return " -> " + r.err.Error()
	case r.token == 0:
		return " -> done"
	case r.retried:
		return " -> token " + w.nameOf(r.token) + ", once more"
	}
	return " -> token " + w.nameOf(r.token)
}

func clockWords(clock int64) string {
	return fmt.Sprintf("%+.1fs", (time.Duration(clock) * time.Millisecond).Seconds())
}

// String is the violation with its schedule, for a reader.
func (v *Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: promise %d: %s: %s\n", v.Config, v.Promise, v.Rule, v.Detail)
	for i, step := range v.Schedule {
		fmt.Fprintf(&b, "%4d. %s\n", i+1, step)
	}
	fmt.Fprintf(&b, "replay: go test ./internal/explore -run TestReplay -explore.replay '%s'\n", v.Replay)
	return b.String()
}
