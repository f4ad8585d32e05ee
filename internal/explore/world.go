package explore

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// party is one who presents tokens.
type party int8

const (
	nobody party = iota
	owner
	thief
)

func (p party) String() string { return [...]string{"nobody", "owner", "thief"}[p] }

func (p party) other() party { return owner + thief - p }

// Thief is one who copies the owner's current token once, at any moment.
type Thief struct {
	Requests int
	Remote   bool // from another network than the owner
	KnowsKey bool // copies the idempotency key kept beside the token too
	OwnKeys  bool // sends idempotency keys for its own tokens
}

// Config is a small world: its clients, how much may go wrong in it, and how the
// Renewer is set. Every number is how often that may happen in one schedule, at
// any moment.
type Config struct {
	Name string

	Tabs     int  // requests of the owner in flight at once; tabs share their storage
	Requests int  // of the owner
	Keys     bool // the owner keeps an idempotency key beside each token
	Roams    bool // every second request of the owner comes from another network
	Thief    *Thief

	Lost            int // responses that do not reach their client
	HangUps         int // clients that give up; the server may notice
	Faults          int // calls of the token store that fail, having happened, not, or later
	Timeouts        bool
	Failovers       int // the store goes back to what it has acknowledged
	Restores        int // the store goes back to any earlier state
	Denials         int // by the renew function
	Logouts         int
	Deletions       int // of the session, if it has expired
	KeyReplacements int
	KeyRevocations  int
	Steps           int // of the clock
	Clock           []time.Duration

	Slow       bool // a store's reply may take its time: other things happen in between
	Hook       bool // there is a renew function, whose call is a scheduling point
	KeyCalls   bool // calls of the key store are scheduling points
	Descending bool // random bits of later requests are smaller, not greater

	AuthTTL, RefreshTTL, RefreshNotBefore, SessionTTL time.Duration

	RetryWindow, ReuseLeeway time.Duration
	Ahead                    renew.AheadPolicy

	MaxStates int // more are an error; 0: no limit
}

// home is the party from whose network a party sends.
func (c *Config) home(p party) party {
	if p == thief && !c.Thief.Remote {
		return owner
	}
	return p
}

// budget is what may still happen.
type budget int8

const (
	ownerRequests budget = iota
	thiefRequests
	copies
	lost
	hangUps
	faults
	failovers
	restores
	denials
	logouts
	deletions
	keyReplacements
	keyRevocations
	steps
	budgets
)

func (c *Config) budgets() (b [budgets]int8) {
	for kind, n := range map[budget]int{
		ownerRequests: c.Requests, lost: c.Lost, hangUps: c.HangUps, faults: c.Faults,
		failovers: c.Failovers, restores: c.Restores, denials: c.Denials, logouts: c.Logouts,
		deletions: c.Deletions, keyReplacements: c.KeyReplacements, keyRevocations: c.KeyRevocations, steps: c.Steps,
	} {
		b[kind] = int8(n) //nolint:gosec // small
	}
	if c.Thief != nil {
		b[copies], b[thiefRequests] = 1, int8(c.Thief.Requests) //nolint:gosec // small
	}
	return b
}

// state is a state of the world. What decides which schedules can follow, and
// whether they keep the promises, is all in it, and nothing else: two schedules
// that lead to equal states are explored once from there.
type state struct {
	left    [budgets]int8
	clock   int64
	store   int32 // the session that a read returns; 0: deleted
	durable version
	past    []version // earlier states of the store, while one may be restored
	late    []write   // writes that their connection has lost, and that may still happen
	active  int8      // signing key
	until   int64     // when the last token expires that the replaced key has signed; 0: it is not replaced
	revoked [2]bool   // keys
	started int8
	tabs    int8 // busy ones of the owner
	busy    bool // the thief is
	storage [3]int32
	copied  int32 // the token that the thief has copied
	flights []flight

	// What the promises are judged by.
	uses           []use
	loggedOut      bool // a logout has arrived
	ended          bool // a logout or a rejection for reuse was acknowledged
	thiefPresented bool
	ownerLate      bool // the owner has presented a used token in a way that is reuse
	restored       bool
	expired        bool // time has passed the end of a session
	back           bool // the clock was set back
}

type version struct {
	session int32
	uses    int8
}

// write is a Rotate or, if next is 0, a revocation.
type write struct {
	request request
	from    int32
	next    int32
	at      int64
}

// use is a rotation that has happened.
type use struct {
	presented int32 // jid
	successor int32 // jid
	by        party
	key       party // whose idempotency key the request had
	at        int64
	number    int8 // of the request
	handed    bool // a client was told
}

// made returns the rotation that a request has made, if any.
func (s *state) made(r request) *use {
	for i := range s.uses {
		if s.uses[i].number == r.number {
			return &s.uses[i]
		}
	}
	return nil
}

// flight is a request in flight, or its response.
type flight struct {
	node      int32 // 0 once it has its response
	by        party
	response  int32 // a token
	attached  bool  // its client waits
	canceled  bool
	holding   bool // held is on its way from the store
	held      reply
	demand    bool // it arrived with a token that the other party had used
	afterEnd  bool // it arrived when the session had ended
	committed bool
	fault     bool // a call of it failed
}

// clone returns a copy whose flights may be changed. The other slices are shared:
// what changes them makes copies.
func (s *state) clone() *state {
	c := *s
	c.flights = append(make([]flight, 0, len(s.flights)+1), s.flights...)
	return &c
}

// with returns a copy of s that has one element more.
func with[E any](s []E, e E) []E {
	return append(append(make([]E, 0, len(s)+1), s...), e)
}

// without returns a copy of s without its element i.
func without[E any](s []E, i int) []E {
	return append(append(make([]E, 0, len(s)-1), s[:i]...), s[i+1:]...)
}

// encode appends what is in the state, for hashing.
func (s *state) encode(b []byte) []byte {
	num := func(ns ...int64) {
		for _, n := range ns {
			b = binary.AppendVarint(b, n)
		}
	}
	flag := func(fs ...bool) {
		for _, f := range fs {
			if f {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	for _, n := range s.left {
		b = append(b, byte(n)) //nolint:gosec // any byte
	}
	num(s.clock, s.until, int64(s.store), int64(s.durable.session), int64(s.durable.uses), int64(s.active), int64(s.started), int64(s.tabs))
	num(int64(s.storage[owner]), int64(s.storage[thief]), int64(s.copied))
	num(int64(len(s.past)), int64(len(s.late)), int64(len(s.flights)), int64(len(s.uses)))
	for _, v := range s.past {
		num(int64(v.session), int64(v.uses))
	}
	for _, w := range s.late {
		num(int64(w.request.number), int64(w.from), int64(w.next), w.at)
	}
	for _, f := range s.flights {
		b = f.encode(b)
	}
	for _, u := range s.uses {
		num(int64(u.presented), int64(u.successor), int64(u.by), int64(u.key), u.at, int64(u.number))
		flag(u.handed)
	}
	flag(s.revoked[0], s.revoked[1], s.busy, s.loggedOut, s.ended, s.thiefPresented, s.ownerLate, s.restored, s.expired, s.back)
	return b
}

func (f *flight) encode(b []byte) []byte {
	b = binary.AppendVarint(b, int64(f.node))
	b = binary.AppendVarint(b, int64(f.response))
	b = binary.AppendVarint(b, int64(f.held.session))
	b = binary.AppendVarint(b, f.held.until)
	var flags byte
	for i, set := range [...]bool{f.attached, f.canceled, f.holding, f.demand, f.afterEnd, f.committed, f.fault} {
		if set {
			flags |= 1 << i
		}
	}
	return append(b, flags, byte(f.by), byte(f.held.kind), byte(f.held.key)) //nolint:gosec // small
}

// actionKind is what can happen next.
type actionKind int8

const (
	sends actionKind = iota
	logsOut
	copiesToken
	proceeds // a request's call is carried out
	hears    // a reply reaches its request
	receives // a response reaches its client
	misses   // a response is lost
	hangsUp
	lateWrite
	stepsClock
	deletes
	restoresStore
	failsOver
	replacesKey
	revokesKey
)

// effect is what a call does to the store, whatever it replies.
type effect int8

const (
	happens effect = iota
	nothing
	later
)

type action struct {
	kind   actionKind
	by     party
	flight int
	reply  replyKind
	effect effect
	n      int // clock step, version, late write, key; for hangsUp 1: the server notices
	lands  int // of the late writes, those that happen before this write, bit by bit
}

// world is a Config and the real Renewer in it.
type world struct {
	*Config
	process  *process
	lastNode int32 // of the request that moved last
	names    map[int32]string
	live     *live // nil: each request runs alone
}

func newWorld(c *Config) (*world, *state, error) {
	p, err := newProcess(c)
	if err != nil {
		return nil, nil, err
	}
	session, tok, err := p.issue()
	if err != nil {
		return nil, nil, err
	}
	s := &state{left: c.budgets(), store: session, durable: version{session: session}}
	s.storage[owner] = tok
	p.nodes = append(p.nodes, node{parent: noNode}) // 0: no node
	return &world{Config: c, process: p}, s, nil
}

func (c *Config) refreshTTL() time.Duration {
	return cmp.Or(c.RefreshTTL, 3*cmp.Or(c.AuthTTL, renew.DefaultAuthTTL))
}

// enabled returns all that can happen next.
func (w *world) enabled(s *state) []action {
	var as []action
	if s.left[ownerRequests] > 0 && int(s.tabs) < w.Tabs {
		as = append(as, action{kind: sends, by: owner})
	}
	if s.left[thiefRequests] > 0 && s.copied != 0 && !s.busy {
		as = append(as, action{kind: sends, by: thief})
	}
	if s.left[copies] > 0 {
		as = append(as, action{kind: copiesToken, by: thief})
	}
	if s.left[logouts] > 0 {
		as = append(as, action{kind: logsOut, by: owner})
	}
	for i := range s.flights {
		as = w.enabledOf(as, s, i)
	}
	for i := range s.late {
		as = append(as, action{kind: lateWrite, n: i})
	}
	return w.enabledAround(as, s)
}

// enabledOf appends what can happen to one request.
func (w *world) enabledOf(as []action, s *state, i int) []action {
	f := &s.flights[i]
	switch {
	case f.response != 0:
		as = append(as, action{kind: receives, flight: i})
		if s.left[lost] > 0 {
			as = append(as, action{kind: misses, flight: i})
		}
		return as
	case f.holding:
		as = append(as, action{kind: hears, flight: i})
	default:
		as = w.outcomes(as, s, i)
	}
	if s.left[hangUps] > 0 && f.attached {
		as = append(as, action{kind: hangsUp, flight: i}, action{kind: hangsUp, flight: i, n: 1})
	}
	return as
}

// outcomes appends what the call of a request can do and reply.
func (w *world) outcomes(as []action, s *state, i int) []action {
	f := &s.flights[i]
	c := &w.process.nodes[f.node].call
	add := func(r replyKind, effects ...effect) {
		for _, e := range effects {
			as = append(as, action{kind: proceeds, flight: i, reply: r, effect: e})
		}
	}
	switch c.kind {
	case callApp, callVerificationKey, callSigningKey:
		add(done, happens)
		return as
	case callHook:
		add(done, happens)
		if s.left[denials] > 0 {
			add(denied, happens)
		}
		return as
	}
	if c.dead {
		add(contextDone, nothing) // law T8
		return as
	}
	effects := []effect{happens, nothing, later}
	if c.kind == callSession {
		effects = effects[1:2]
	}
	first := len(as)
	add(done, happens)
	if f.canceled && c.heeds {
		add(contextDone, effects...)
	}
	if s.left[faults] > 0 {
		add(outage, effects...)
		if c.deadline && w.Timeouts && !(f.canceled && c.heeds) {
			add(contextDone, effects...)
		}
		if c.kind == callRotate && w.matches(s, c.from) && !w.confirms(c) {
			add(conflict, happens) // the driver repeats the statement
		}
	}
	return withLate(as, first, c.kind, len(s.late))
}

// confirms says whether a Rotate writes the session as it is: then a statement
// that is repeated finds it so again.
func (w *world) confirms(c *call) bool {
	return *w.process.jids.at(c.from) == w.process.sessions.at(c.next).TokenID
}

// withLate multiplies the writes among the actions from first on: a write waits
// for the earlier ones on its row, each of which has then happened or never will.
func withLate(as []action, first int, kind callKind, pending int) []action {
	if kind == callSession || pending == 0 {
		return as
	}
	for _, a := range as[first:] {
		if a.effect != happens {
			continue
		}
		for lands := 1; lands < 1<<pending; lands++ {
			a.lands = lands
			as = append(as, a)
		}
	}
	return as
}

// enabledAround appends what can happen around the requests.
func (w *world) enabledAround(as []action, s *state) []action {
	if s.left[steps] > 0 {
		for i := range w.Clock {
			as = append(as, action{kind: stepsClock, n: i})
		}
	}
	if s.left[deletions] > 0 && s.store != 0 && w.process.sessions.at(s.store).EndedBefore(at(s.clock)) {
		as = append(as, action{kind: deletes})
	}
	if s.left[restores] > 0 {
		for i := range s.past {
			as = append(as, action{kind: restoresStore, n: i})
		}
	}
	if s.left[failovers] > 0 && s.store != s.durable.session {
		as = append(as, action{kind: failsOver})
	}
	if s.left[keyReplacements] > 0 && s.active == 0 {
		as = append(as, action{kind: replacesKey})
	}
	if s.left[keyRevocations] > 0 {
		for i := range s.revoked {
			if !s.revoked[i] && i <= int(s.active) {
				as = append(as, action{kind: revokesKey, n: i})
			}
		}
	}
	return as
}

// clockTolerance is how far in the future a session may be, by section 5a.
const clockTolerance = time.Minute

// matches says whether a Rotate from this token ID takes effect.
func (w *world) matches(s *state, from int32) bool {
	if s.store == 0 {
		return false
	}
	session := w.process.sessions.at(s.store)
	return session.RevokedAt.IsZero() && session.TokenID == *w.process.jids.at(from)
}

// apply returns the state after an action, and what that breaks.
func (w *world) apply(old *state, a action) (*state, *Violation) {
	s := old.clone()
	switch a.kind {
	case sends, logsOut:
		return s, w.arrive(s, a)
	case copiesToken:
		s.left[copies]--
		s.copied, s.storage[thief] = s.storage[owner], s.storage[owner]
	case proceeds:
		return s, w.proceed(s, a)
	case hears:
		f := &s.flights[a.flight]
		f.holding = false
		return s, w.hear(s, a.flight, f.held)
	case receives, misses:
		w.receive(s, a)
	case hangsUp:
		s.left[hangUps]--
		f := &s.flights[a.flight]
		w.release(s, f)
		f.canceled = a.n == 1
	case lateWrite:
		return s, w.land(s, a.n)
	case stepsClock:
		s.left[steps]--
		s.clock += w.Clock[a.n].Milliseconds()
		s.back = s.back || w.Clock[a.n] < 0
		w.noteExpiry(s)
	case deletes:
		s.left[deletions]--
		s.store = 0
		s.durable = version{0, int8(len(s.uses))} //nolint:gosec // few
	case restoresStore:
		s.left[restores]--
		w.restore(s, s.past[a.n])
		s.past = nil
		s.restored = true
		s.ended = false
		for i := range s.flights {
			s.flights[i].demand, s.flights[i].afterEnd = false, false
		}
	case failsOver:
		s.left[failovers]--
		for _, u := range s.uses[s.durable.uses:] {
			if u.handed {
				return s, &Violation{Rule: "a pair is given out that the store may lose", Promise: 1, Detail: "the rotation to " + w.name(u.successor) + " was not acknowledged, and its pair given out"}
			}
		}
		w.restore(s, s.durable)
	case replacesKey:
		s.left[keyReplacements]--
		s.active = 1
		s.until = s.clock + w.refreshTTL().Milliseconds()
	case revokesKey:
		s.left[keyRevocations]--
		s.revoked[a.n] = true
	}
	sortFlights(s)
	return s, nil
}

func (w *world) restore(s *state, v version) {
	s.store = v.session
	s.durable = v
	s.uses = s.uses[:v.uses]
	s.late = nil
}

func (w *world) noteExpiry(s *state) {
	if s.store == 0 {
		return
	}
	session := w.process.sessions.at(s.store)
	s.expired = s.expired || session.EndedBefore(at(s.clock+1))
}

// sortFlights makes states equal in which the same requests are in flight: no
// two are at one node, and equal responses are equal.
func sortFlights(s *state) {
	if len(s.flights) < 2 {
		return
	}
	slices.SortFunc(s.flights, func(a, b flight) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.response, b.response), cmp.Compare(a.by, b.by))
	})
}

// release lets the client of a request do something else.
func (w *world) release(s *state, f *flight) {
	if !f.attached {
		return
	}
	f.attached = false
	if f.by == owner {
		s.tabs--
	} else {
		s.busy = false
	}
}

// keyFor is whose idempotency key a party sends with a token.
func (w *world) keyFor(s *state, by party, tok int32) party {
	switch {
	case by == owner && w.Keys:
		return owner
	case by == thief && tok == s.copied && w.Keys && w.Thief.KnowsKey:
		return owner
	case by == thief && w.Thief.OwnKeys:
		return thief
	}
	return nobody
}

// arrive starts a request with the newest token that its client knows.
func (w *world) arrive(s *state, a action) *Violation {
	if slices.ContainsFunc(s.uses, func(u use) bool { return u.at == s.clock }) || slices.ContainsFunc(s.flights, func(f flight) bool { return w.issuedNow(s, f) }) {
		s.clock++ // to arrive after a pair was issued is to arrive in a later millisecond
	}
	r := request{by: a.by, token: s.storage[a.by], number: s.started, clock: s.clock}
	s.started++
	if a.kind == logsOut {
		r.kind = logout
		s.left[logouts]--
		s.loggedOut = true
	} else {
		r.key = w.keyFor(s, a.by, r.token)
		r.away = w.Roams && a.by == owner && s.left[ownerRequests]%2 == 0
		s.left[ownerRequests+budget(a.by-owner)]--
		if a.by == owner {
			s.tabs++
		} else {
			s.busy = true
		}
	}
	f := flight{by: a.by, attached: r.kind == renewal, afterEnd: s.ended || s.revoked[w.process.tokens.at(r.token).key]}
	if r.kind == renewal {
		used, byOther := w.isUsed(s, r)
		f.demand = byOther && !used.duplicate && !used.retry
		s.thiefPresented = s.thiefPresented || a.by == thief
	}
	s.flights = append(s.flights, f)
	n := w.process.start(r)
	w.live.start(n)
	return w.enter(s, len(s.flights)-1, n)
}

// usage is what a token that is presented is to the store.
type usage struct {
	used      bool
	duplicate bool // of a request of the same client, within the reuse leeway
	retry     bool // with the right idempotency key, or within the retry window
}

// isUsed says whether the token of a request is used, and whether the other party
// has used it.
func (w *world) isUsed(s *state, r request) (u usage, byOther bool) {
	if s.store == 0 || s.restored {
		return u, false
	}
	jid := w.process.tokens.at(r.token).jid
	session := w.process.sessions.at(s.store)
	predecessor := session.PreviousTokenID == *w.process.jids.at(jid)
	for _, made := range s.uses {
		if made.presented == jid {
			u.used = true
			u.retry = predecessor && w.mayRetry(r, &made)
			byOther = byOther || made.by != r.by
		}
	}
	u.duplicate = u.used && w.ReuseLeeway > 0 && predecessor &&
		session.IP == address(w.home(r.by), r.away) &&
		at(r.clock).Sub(session.IssuedAt) <= w.ReuseLeeway
	return u, byOther
}

// noteLate notes that the owner presents a used token, without an idempotency
// key, in a way that cannot be told from a theft: it came after the current pair
// was issued, and is no duplicate. The first read of the session counts.
func (w *world) noteLate(s *state, f *flight, r request) {
	if r.kind != renewal || r.by != owner || r.key != nobody || s.store == 0 || w.hasRead(f.node) {
		return
	}
	u, _ := w.isUsed(s, r)
	issued := clockOf(w.process.sessions.at(s.store).IssuedAt)
	s.ownerLate = s.ownerLate || u.used && !u.duplicate && r.clock > issued
}

// proceed carries out the call of a request.
func (w *world) proceed(s *state, a action) *Violation {
	f := &s.flights[a.flight]
	n := &w.process.nodes[f.node]
	r := reply{kind: a.reply}
	hungUp := a.reply == contextDone && (n.call.dead || f.canceled && n.call.heeds)
	if a.reply == outage || a.reply == conflict || a.reply == contextDone && !hungUp {
		s.left[faults]--
		f.fault = true
	}
	if a.reply == denied {
		s.left[denials]--
	}
	var v *Violation
	switch c := &n.call; c.kind {
	case callVerificationKey:
		if s.revoked[c.key] {
			r.kind = keyRevoked
		} else if c.key == 0 {
			r.until = s.until
		}
	case callSigningKey:
		r.key = s.active
	case callSession:
		if a.reply == done {
			w.noteLate(s, f, n.request)
			r.session = s.store
			if s.store == 0 {
				r.kind = notFound
			}
		}
	case callRotate, callRevoke:
		wr := write{request: n.request, from: c.from, next: c.next, at: c.at}
		switch a.effect {
		case later:
			s.late = with(s.late, wr)
		case happens:
			v = w.write(s, wr, a, &r)
		case nothing:
		}
	case callApp, callHook, returned:
	}
	if v != nil {
		return v
	}
	if f = &s.flights[a.flight]; w.Slow {
		f.holding, f.held = true, r
		sortFlights(s)
		return nil
	}
	return w.hear(s, a.flight, r)
}

// write carries out a write after those before it, and sets what it replies.
func (w *world) write(s *state, wr write, a action, r *reply) *Violation {
	late := s.late
	s.late = nil
	for i, l := range late {
		if a.lands&(1<<i) != 0 {
			if _, v := w.carryOut(s, l); v != nil {
				return v
			}
		}
	}
	kind, v := w.carryOut(s, wr)
	if r.kind == done {
		r.kind = kind
		if kind == done {
			s.durable = version{s.store, int8(len(s.uses))} //nolint:gosec // few
		}
	}
	return v
}

// land carries out a late write.
func (w *world) land(s *state, i int) *Violation {
	wr := s.late[i]
	s.late = without(s.late, i)
	_, v := w.carryOut(s, wr)
	sortFlights(s)
	return v
}

// carryOut changes the store as the laws T4 and T7 say.
func (w *world) carryOut(s *state, wr write) (replyKind, *Violation) {
	if s.store == 0 {
		return notFound, nil
	}
	before := version{s.store, int8(len(s.uses))} //nolint:gosec // few
	if wr.next == 0 {
		return done, w.revoke(s, wr, before)
	}
	if !w.matches(s, wr.from) {
		return conflict, nil
	}
	s.store = wr.next
	next := w.process.sessions.at(wr.next)
	if jid := w.process.jid(next.TokenID); jid != wr.from {
		s.uses = with(s.uses, use{
			presented: w.process.tokens.at(wr.request.token).jid,
			successor: jid,
			by:        wr.request.by,
			key:       wr.request.key,
			at:        clockOf(next.IssuedAt),
			number:    wr.request.number,
		})
		for i := range s.flights {
			f := &s.flights[i]
			if f.node != 0 && w.process.nodes[f.node].request.number == wr.request.number {
				f.committed = true
			}
		}
	}
	w.remember(s, before)
	return done, nil
}

func (w *world) revoke(s *state, wr write, before version) *Violation {
	session := w.process.sessions.at(s.store).Clone()
	if !session.RevokedAt.IsZero() {
		return nil
	}
	session.RevokedAt = at(wr.at).UTC()
	s.store = w.process.session(session)
	w.remember(s, before)
	if wr.request.kind == renewal {
		return w.checkRevocation(s, wr.request)
	}
	return nil
}

func (w *world) remember(s *state, before version) {
	if before.session == s.store {
		return
	}
	if s.left[restores] > 0 && !slices.Contains(s.past, before) {
		s.past = with(s.past, before)
	}
	if w.Failovers == 0 {
		s.durable = version{s.store, int8(len(s.uses))} //nolint:gosec // few
	}
}

// issuedNow reports whether a request is about to commit a pair that was issued in
// this millisecond.
func (w *world) issuedNow(s *state, f flight) bool {
	c := &w.process.nodes[f.node].call
	return f.response == 0 && c.kind == callRotate && clockOf(w.process.sessions.at(c.next).IssuedAt) == s.clock
}

// arrivedNow reports whether another request than i has arrived in this
// millisecond. A Renewer cannot tell what came first in one millisecond.
func (w *world) arrivedNow(s *state, i int) bool {
	for j, f := range s.flights {
		if j != i && f.node != 0 && f.response == 0 && w.process.nodes[f.node].request.clock == s.clock {
			return true
		}
	}
	return false
}

// hear gives a request the reply to its call.
func (w *world) hear(s *state, i int, r reply) *Violation {
	f := &s.flights[i]
	if w.process.nodes[f.node].call.kind == callSession && w.arrivedNow(s, i) {
		s.clock++ // a pair that is issued now is issued in a later millisecond than they arrived in
	}
	r.clock, r.canceled = s.clock, f.canceled
	f.held = reply{}
	n := w.process.extend(f.node, r)
	w.live.extend(n)
	return w.enter(s, i, n)
}

// enter puts a request at a node, and lets it end there if it does.
func (w *world) enter(s *state, i int, n int32) *Violation {
	f := &s.flights[i]
	f.node, w.lastNode = n, n
	c := &w.process.nodes[n].call
	var v *Violation
	if c.kind == returned {
		v = w.finish(s, i, c.result)
	}
	sortFlights(s)
	return v
}

// finish ends a request. A successful response is on its way then; any other has
// arrived.
func (w *world) finish(s *state, i int, r *result) *Violation {
	f := s.flights[i]
	v := w.checkResult(s, &f, r)
	if w.process.nodes[f.node].request.kind == logout && r.err == nil || r.reason == renew.ReasonReused {
		s.ended = s.ended || w.isOver(s)
	}
	if f.attached && r.token != 0 {
		s.flights[i] = flight{by: f.by, response: r.token, attached: true}
		return v
	}
	w.release(s, &f)
	s.flights = slices.Delete(s.flights, i, i+1)
	return v
}

// receive lets a client have its response, or miss it. It keeps the newest token
// that it knows.
func (w *world) receive(s *state, a action) {
	f := s.flights[a.flight]
	if a.kind == misses {
		s.left[lost]--
	} else if w.isNewer(f.response, s.storage[f.by]) {
		s.storage[f.by] = f.response
	}
	w.release(s, &f)
	s.flights = slices.Delete(s.flights, a.flight, a.flight+1)
}

func (w *world) isNewer(a, b int32) bool {
	jid := func(n int32) string { return *w.process.jids.at(w.process.tokens.at(n).jid) }
	return jid(a) >= jid(b)
}

// isOver says whether the session is revoked, gone or expired.
func (w *world) isOver(s *state) bool {
	return s.store == 0 || !w.process.sessions.at(s.store).Live(at(s.clock))
}
