// Package history decides whether what concurrent clients saw of one session can
// be explained: whether there is an order of their operations, each somewhere
// between its call and its return, in which a session kept by one process alone
// would have returned the same. This is linearizability (Herlihy and Wing 1990),
// found by a search that never looks at one situation twice (Lowe 2017).
package history

import (
	"encoding/binary"
	"math"
	"slices"
)

// Kind is what an operation does.
type Kind string

// The kinds of operation.
const (
	Create Kind = "create" // stores the session at token ID To
	Read   Kind = "read"   // returned token ID Token, and Revoked
	Rotate Kind = "rotate" // from token ID From to token ID To
	Revoke Kind = "revoke" // at time At
)

// Result is how an operation ended.
type Result string

// The results.
const (
	OK       Result = "nil"
	Exists   Result = "session exists"    // of a create
	Conflict Result = "conflict"          // of a rotation
	NotFound Result = "session not found" // of all but a create
	Unknown  Result = "outcome unknown"   // an error that says neither; a read of this kind says nothing at all
)

// Never is the End of an operation whose outcome is unknown: it may take effect
// at any time after its start, or not at all.
const Never = math.MaxInt

// Op is one operation on the one session that a history is about.
type Op struct {
	Client     int
	Kind       Kind
	From, To   string
	At         int64 // of a revocation; not zero
	Result     Result
	Token      string // what a read returned
	Revoked    int64  // what a read returned; zero: not revoked
	Start, End int    // positions in the order of all calls and returns
	Detail     string // for the reader: which handle, which error
}

// state is a session in the eyes of a single process.
type state struct {
	exists  bool
	token   string
	revoked int64
}

// rotatable reports whether a rotation from this token ID succeeds.
func (s state) rotatable(from string) bool {
	return s.exists && s.revoked == 0 && s.token == from
}

// step returns the state after op; ok is false if op cannot have had its result
// in state s.
func (s state) step(op Op) (next state, ok bool) {
	switch op.Kind {
	case Create:
		return s.create(op)
	case Rotate:
		return s.rotate(op)
	case Revoke:
		return s.revoke(op)
	default:
		return s, s.read(op)
	}
}

func (s state) create(op Op) (state, bool) {
	created := state{exists: true, token: op.To}
	switch op.Result {
	case OK:
		return created, !s.exists
	case Exists:
		return s, s.exists
	case Unknown:
		if !s.exists {
			return created, true
		}
		return s, true
	}
	return s, false
}

func (s state) rotate(op Op) (state, bool) {
	rotated := state{exists: true, token: op.To}
	can := s.rotatable(op.From)
	switch op.Result {
	case OK:
		return rotated, can
	case Conflict: // of a missing session too: law T4
		return s, !can
	case NotFound:
		return s, !s.exists
	case Unknown:
		if can {
			return rotated, true
		}
		return s, true
	}
	return s, false
}

func (s state) revoke(op Op) (state, bool) {
	revoked := s
	if s.exists && s.revoked == 0 {
		revoked.revoked = op.At
	}
	switch op.Result {
	case OK:
		return revoked, s.exists
	case NotFound:
		return s, !s.exists
	case Unknown:
		return revoked, true
	}
	return s, false
}

func (s state) read(op Op) bool {
	switch op.Result {
	case OK:
		return s.exists && s.token == op.Token && s.revoked == op.Revoked
	case NotFound:
		return !s.exists
	}
	return op.Result == Unknown
}

// Check looks for an order that explains all operations of a history, which
// begins without a session. If there is one, it is returned as positions in ops,
// and ok is true. Otherwise ok is false and order is a longest one that was
// found: what is missing from it could not be placed.
func Check(ops []Op) (order []int, ok bool) {
	s := newSearch(ops)
	ok = s.from(state{})
	for _, i := range s.best {
		order = append(order, s.position[i])
	}
	return order, ok
}

// search is a depth-first search over orders. Operations are sorted by start;
// position says where each stands in the caller's slice.
type search struct {
	ops      []Op
	position []int
	placed   []bool
	first    int // all before it are placed
	left     int // operations with a known outcome that are not placed
	order    []int
	best     []int
	seen     map[string]bool
}

func newSearch(ops []Op) *search {
	s := &search{placed: make([]bool, len(ops)), seen: map[string]bool{}}
	for i := range ops {
		s.position = append(s.position, i)
		if ops[i].Result != Unknown {
			s.left++
		}
	}
	slices.SortStableFunc(s.position, func(i, j int) int { return ops[i].Start - ops[j].Start })
	for _, i := range s.position {
		s.ops = append(s.ops, ops[i])
	}
	return s
}

// from reports whether what is not placed yet can follow state now.
func (s *search) from(now state) bool {
	if len(s.order) > len(s.best) {
		s.best = slices.Clone(s.order)
	}
	if s.left == 0 { // what is unknown may never have happened
		s.best = slices.Clone(s.order)
		return true
	}
	if key := s.key(now); s.seen[key] {
		return false
	} else {
		s.seen[key] = true
	}
	for _, i := range s.candidates() {
		next, ok := now.step(s.ops[i])
		if !ok || s.ops[i].Result == Unknown && next == now {
			continue
		}
		first := s.place(i)
		if s.from(next) {
			return true
		}
		s.take(i, first)
	}
	return false
}

// candidates returns the operations that may come next: those that were called
// before any other that is left has returned.
func (s *search) candidates() []int {
	var found []int
	earliest := Never
	for i := s.first; i < len(s.ops) && s.ops[i].Start <= earliest; i++ {
		if !s.placed[i] {
			found = append(found, i)
			earliest = min(earliest, s.end(i))
		}
	}
	return found
}

func (s *search) end(i int) int {
	if s.ops[i].Result == Unknown {
		return Never
	}
	return s.ops[i].End
}

func (s *search) place(i int) (first int) {
	first = s.first
	s.placed[i] = true
	s.order = append(s.order, i)
	if s.ops[i].Result != Unknown {
		s.left--
	}
	for s.first < len(s.ops) && s.placed[s.first] {
		s.first++
	}
	return first
}

func (s *search) take(i, first int) {
	s.placed[i] = false
	s.order = s.order[:len(s.order)-1]
	if s.ops[i].Result != Unknown {
		s.left++
	}
	s.first = first
}

// key names a situation: which operations are placed, and the state after them.
func (s *search) key(now state) string {
	key := binary.AppendVarint(nil, int64(s.first))
	key = binary.AppendVarint(key, now.revoked)
	if now.exists {
		key = append(key, 1)
	}
	key = append(key, now.token...)
	key = append(key, 0)
	last := len(s.ops)
	for last > s.first && !s.placed[last-1] {
		last--
	}
	for i := s.first; i < last; i++ {
		if s.placed[i] {
			key = append(key, '1')
		} else {
			key = append(key, '0')
		}
	}
	return string(key)
}
