package history

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ops writes a history down. Operations that are given one after the other come
// one after the other; together makes them overlap.
func ops(groups ...[]Op) (all []Op) {
	now := 1
	for _, group := range groups {
		for i := range group {
			group[i].Client = len(all)
			group[i].Start = now + i
			group[i].End = now + len(group) + i
			if group[i].Result == Unknown {
				group[i].End = Never
			}
			all = append(all, group[i])
		}
		now += 2 * len(group)
	}
	return all
}

func one(op Op) []Op            { return []Op{op} }
func together(all ...Op) []Op   { return all }
func create(to string) Op       { return Op{Kind: Create, To: to, Result: OK} }
func rotate(from, to string) Op { return Op{Kind: Rotate, From: from, To: to, Result: OK} }
func read(token string) Op      { return Op{Kind: Read, Token: token, Result: OK} }
func revoke(at int64) Op        { return Op{Kind: Revoke, At: at, Result: OK} }
func (op Op) but(a Result) Op   { op.Result = a; return op }
func (op Op) revoked(t int64) Op {
	op.Revoked = t
	return op
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name    string
		history []Op
		ok      bool
	}{
		{"nothing", nil, true},
		{"a session's life", ops(one(create("a")), one(read("a")), one(rotate("a", "b")), one(read("b")), one(revoke(7)), one(read("b").revoked(7))), true},
		{"no session", ops(one(read("").but(NotFound)), one(rotate("a", "b").but(NotFound)), one(revoke(7).but(NotFound))), true},
		{"a rotation of no session that conflicts", ops(one(rotate("a", "b").but(Conflict))), true},
		{"a second create that is rejected", ops(one(create("a")), one(create("b").but(Exists)), one(read("a"))), true},
		{"two concurrent rotations, one of which conflicts", ops(one(create("a")), together(rotate("a", "b").but(Conflict), rotate("a", "c")), one(read("c"))), true},
		{"a read at the time of a rotation, before it", ops(one(create("a")), together(rotate("a", "b"), read("a"))), true},
		{"a read at the time of a rotation, after it", ops(one(create("a")), together(rotate("a", "b"), read("b"))), true},
		{"a rotation that waits for the one before", ops(one(create("a")), together(rotate("b", "c"), rotate("a", "b")), one(read("c"))), true},
		{"a second revocation, which keeps the time", ops(one(create("a")), one(revoke(7)), one(revoke(8)), one(read("a").revoked(7))), true},
		{"two concurrent revocations", ops(one(create("a")), together(revoke(7), revoke(8)), one(read("a").revoked(8))), true},
		{"a rotation that conflicts with a revocation", ops(one(create("a")), one(revoke(7)), one(rotate("a", "b").but(Conflict))), true},
		{"an unclear rotation that happened", ops(one(create("a")), one(rotate("a", "b").but(Unknown)), one(read("b"))), true},
		{"an unclear rotation that did not happen", ops(one(create("a")), one(rotate("a", "b").but(Unknown)), one(rotate("a", "c")), one(read("c"))), true},
		{"an unclear rotation that happened late", ops(one(create("a")), one(rotate("a", "b").but(Unknown)), one(read("a")), one(read("b"))), true},
		{"an unclear create that happened late", ops(one(create("a").but(Unknown)), one(read("").but(NotFound)), one(read("a"))), true},
		{"an unclear revocation that happened", ops(one(create("a")), one(revoke(7).but(Unknown)), one(read("a").revoked(7))), true},

		{"two winners", ops(one(create("a")), together(rotate("a", "b"), rotate("a", "c"))), false},
		{"two winners, one after the other", ops(one(create("a")), one(rotate("a", "b")), one(rotate("a", "c"))), false},
		{"two creators", ops(together(create("a"), create("b"))), false},
		{"no winner", ops(one(create("a")), together(rotate("a", "b").but(Conflict), rotate("a", "c").but(Conflict))), false},
		{"a stale read", ops(one(create("a")), one(rotate("a", "b")), one(read("a"))), false},
		{"a read that goes back", ops(one(create("a")), together(rotate("a", "b"), read("b")), one(read("a"))), false},
		{"a read of what was never written", ops(one(create("a")), one(read("x"))), false},
		{"a lost write", ops(one(create("a")), one(rotate("a", "b")), one(rotate("a", "c").but(Conflict)), one(rotate("b", "d").but(Conflict))), false},
		{"a conflict that changed something", ops(one(create("a")), one(rotate("x", "b").but(Conflict)), one(read("b"))), false},
		{"a session that is gone", ops(one(create("a")), one(read("").but(NotFound))), false},
		{"a session that was there before", ops(one(create("a").but(Exists))), false},
		{"a rotated revoked session", ops(one(create("a")), one(revoke(7)), one(rotate("a", "b"))), false},
		{"a revived session", ops(one(create("a")), one(revoke(7)), one(read("a"))), false},
		{"a revocation that is not there", ops(one(create("a")), one(read("a").revoked(7))), false},
		{"a second revocation, which takes over", ops(one(create("a")), one(revoke(7)), one(revoke(8)), one(read("a").revoked(8))), false},
		{"two times of revocation", ops(one(create("a")), together(revoke(7), revoke(8)), one(read("a").revoked(8)), one(read("a").revoked(7))), false},
		{"an unclear rotation that happened and was undone", ops(one(create("a")), one(rotate("a", "b").but(Unknown)), one(read("b")), one(read("a"))), false},
		{"an unclear rotation that happened before its start", ops(one(create("a")), one(read("b")), one(rotate("a", "b").but(Unknown))), false},
		{"an unclear rotation that happened after another", ops(one(create("a")), one(rotate("a", "b").but(Unknown)), one(rotate("a", "c")), one(read("b"))), false},
	} {
		order, ok := Check(c.history)
		if ok != c.ok {
			t.Errorf("%s: explained %v, expected %v:\n%s", c.name, ok, c.ok, Format(c.history, order))
		}
		if ok {
			explains(t, c.history, order)
		}
	}
}

// explains checks an order that Check has returned.
func explains(t *testing.T, history []Op, order []int) {
	t.Helper()
	var now state
	placed := map[int]bool{}
	latest := 0
	for _, i := range order {
		var ok bool
		if now, ok = now.step(history[i]); !ok {
			t.Errorf("operation %d cannot be at its place in the order %v", i, order)
		}
		if history[i].End < latest {
			t.Errorf("operation %d had returned before the call of one that is placed before it", i)
		}
		latest = max(latest, history[i].Start)
		placed[i] = true
	}
	for i, op := range history {
		if op.Result != Unknown && !placed[i] {
			t.Errorf("operation %d has a result and no place in the order %v", i, order)
		}
	}
}

// bruteForce tries every order.
func bruteForce(history []Op, now state, placed []bool) bool {
	left := 0
	for i, op := range history {
		if placed[i] {
			continue
		}
		if op.Result != Unknown {
			left++
		}
		tooEarly := slices.ContainsFunc(history, func(other Op) bool {
			j := slices.Index(history, other)
			return !placed[j] && other.Result != Unknown && other.End < op.Start
		})
		next, ok := now.step(op)
		if tooEarly || !ok {
			continue
		}
		placed[i] = true
		found := bruteForce(history, next, placed)
		placed[i] = false
		if found {
			return true
		}
	}
	return left == 0
}

// TestCheckAgainstBruteForce compares the search with one that leaves nothing
// out, on random histories of which some can be explained and some cannot.
func TestCheckAgainstBruteForce(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("RENEW_STORETEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	found := map[bool]int{}
	for range 20_000 {
		history := randomHistory(random, 1+random.IntN(7))
		order, ok := Check(history)
		if want := bruteForce(history, state{}, make([]bool, len(history))); ok != want {
			t.Fatalf("explained %v, but every order tried says %v; RENEW_STORETEST_SEED=%d:\n%s", ok, want, seed, Format(history, order))
		}
		if ok {
			explains(t, history, order)
		}
		found[ok]++
	}
	if found[true] < 1000 || found[false] < 1000 {
		t.Errorf("of the random histories %d can be explained and %d cannot: too few of one kind to show much; seed %d", found[true], found[false], seed)
	}
}

// randomHistory returns what concurrent clients saw of a correct session, with
// some results changed.
func randomHistory(random *rand.Rand, n int) (history []Op) {
	names := []string{"a", "b", "c"}
	var now state
	for i := range n {
		op := Op{Client: i, Kind: []Kind{Create, Read, Rotate, Rotate, Revoke}[random.IntN(5)]}
		if i == 0 {
			op.Kind = Create
		}
		op.From, op.To, op.At = names[random.IntN(3)], names[random.IntN(3)], int64(1+random.IntN(2))
		if now.exists && random.IntN(2) == 0 {
			op.From = now.token
		}
		now = resultOf(now, &op)
		// The operation took effect at 10*i, and lasted from a little before
		// to a little after.
		op.Start, op.End = 10*i-random.IntN(25), 10*i+random.IntN(25)
		if random.IntN(8) == 0 {
			op.Result, op.End = Unknown, Never
		}
		if random.IntN(6) == 0 {
			spoil(random, &op)
		}
		history = append(history, op)
	}
	random.Shuffle(len(history), func(i, j int) { history[i], history[j] = history[j], history[i] })
	return history
}

// resultOf sets what a correct session returns.
func resultOf(now state, op *Op) state {
	for _, a := range []Result{OK, Conflict, NotFound, Exists} {
		op.Result = a
		if op.Kind == Read && a == OK {
			op.Token, op.Revoked = now.token, now.revoked
		}
		if next, ok := now.step(*op); ok && fits(op.Kind, a) {
			return next
		}
	}
	panic("an operation without a result")
}

func fits(kind Kind, a Result) bool {
	switch a {
	case Exists:
		return kind == Create
	case Conflict:
		return kind == Rotate
	case NotFound:
		return kind != Create
	}
	return true
}

func spoil(random *rand.Rand, op *Op) {
	switch {
	case op.Result == Unknown:
	case op.Kind == Read && op.Result == OK:
		op.Token = []string{"a", "b", "c"}[random.IntN(3)]
	case op.Kind == Rotate && op.Result == OK:
		op.Result = Conflict
	case op.Kind == Rotate:
		op.Result = OK
	case op.Kind == Create && op.Result == OK:
		op.Result = Exists
	case op.Kind == Create:
		op.Result = OK
	}
}

// TestFormat shows what a person reads when a history cannot be explained.
func TestFormat(t *testing.T) {
	history := ops(
		one(create("01JA")),
		together(rotate("01JA", "01JB"), rotate("01JA", "01JC"), rotate("01JA", "01JD").but(Unknown)),
		one(read("01JB").revoked(7)),
	)
	history[1].Detail = "handle 2"
	order, ok := Check(history)
	if ok {
		t.Fatal("two winners are explained")
	}
	got := Format(history, order)
	want := strings.TrimSpace(`
place  client  call-return  operation and result
    1  0       1-2          create at t0: nil
    2  1       3-6          rotate t0 to t1: nil (handle 2)
    ?  2       4-7          rotate t0 to t2: nil
    -  3       5-           rotate t0 to t3: outcome unknown
    ?  4       9-10         read: t1, revoked at time 7
place: its turn in the longest order that explains the results; ?: has no place in it; -: need not have happened`)
	if got != want {
		t.Errorf("it reads\n%s\nexpected\n%s", got, want)
	}
}

// TestFormatOfALongHistory shows that a long history is cut around the first
// operation that has no place.
func TestFormatOfALongHistory(t *testing.T) {
	groups := [][]Op{one(create("t"))}
	for range 200 {
		groups = append(groups, one(read("t")))
	}
	groups[120] = one(read("x"))
	history := ops(groups...)
	order, _ := Check(history)
	text := Format(history, order)
	if lines := strings.Count(text, "\n"); lines > shown+5 || !strings.Contains(text, "?  120 ") {
		t.Errorf("a history of 201 operations is printed in %d lines:\n%s", lines, text)
	}
}
