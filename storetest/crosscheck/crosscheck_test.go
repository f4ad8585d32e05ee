package crosscheck

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/jwtrenew/renew/storetest/internal/history"
)

// session is one in the eyes of a single process.
type session struct {
	exists  bool
	token   string
	revoked int64
}

// apply does what op asks for, and returns its result.
func (s session) apply(op history.Op) (session, history.Result) {
	switch {
	case op.Kind == history.Create && s.exists:
		return s, history.Exists
	case op.Kind == history.Create:
		return session{exists: true, token: op.To}, history.OK
	case !s.exists:
		return s, history.NotFound
	case op.Kind == history.Rotate && (s.revoked != 0 || s.token != op.From):
		return s, history.Conflict
	case op.Kind == history.Rotate:
		s.token = op.To
	case op.Kind == history.Revoke && s.revoked == 0:
		s.revoked = op.At
	}
	return s, history.OK
}

// model is that session for porcupine, with the freedoms that law T4 and unclear
// results leave.
var model = porcupine.Model{
	Init: func() any { return session{} },
	Step: func(state, _, output any) (bool, any) {
		before, op := state.(session), output.(history.Op)
		after, result := before.apply(op)
		switch {
		case op.Result == history.Unknown:
			return true, after
		case op.Kind == history.Rotate && result == history.NotFound && op.Result == history.Conflict:
			return true, after
		case op.Kind == history.Read && result == history.OK:
			return op.Result == result && op.Token == before.token && op.Revoked == before.revoked, after
		}
		return op.Result == result, after
	},
}

// TestAgainstPorcupine compares the two on random histories, half of which had
// one result changed.
func TestAgainstPorcupine(t *testing.T) {
	seed := rand.Uint64()
	if text, set := os.LookupEnv("RENEW_STORETEST_SEED"); set {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	count := map[bool]int{}
	for range 4000 {
		ops := randomHistory(random)
		if random.IntN(2) == 0 {
			spoil(random, &ops[random.IntN(len(ops))])
		}
		order, got := history.Check(ops)
		if want := porcupine.CheckOperations(model, operations(ops)); got != want {
			t.Fatalf("explained %v, porcupine says %v; RENEW_STORETEST_SEED=%d:\n%s", got, want, seed, history.Format(ops, order))
		}
		count[got]++
	}
	if count[true] < 500 || count[false] < 500 {
		t.Errorf("%d histories can be explained and %d cannot: too few of one kind to show much; seed %d", count[true], count[false], seed)
	}
}

func operations(ops []history.Op) (list []porcupine.Operation) {
	for i, op := range ops {
		list = append(list, porcupine.Operation{ClientId: i, Output: op, Call: int64(op.Start), Return: int64(op.End)})
	}
	return list
}

// randomHistory returns what clients saw of a correct session. Operation i takes
// effect at 100*i, and overlaps with some before and after it.
func randomHistory(random *rand.Rand) (ops []history.Op) {
	var s session
	for i := range 10 + random.IntN(60) {
		op := randomOp(random, i, s)
		op.Token, op.Revoked = s.token, s.revoked
		s, op.Result = s.apply(op)
		op.Start, op.End = 100*i-random.IntN(300), 100*i+random.IntN(300)
		if op.Kind != history.Read && random.IntN(12) == 0 {
			op.Result, op.End = history.Unknown, history.Never
		}
		ops = append(ops, op)
	}
	return ops
}

func randomOp(random *rand.Rand, i int, s session) history.Op {
	op := history.Op{Client: i, From: s.token, To: strconv.Itoa(i), At: int64(i + 1)}
	switch n := random.IntN(60); {
	case i == 0 || n < 3:
		op.Kind = history.Create
	case n < 24:
		op.Kind = history.Read
	case n < 59:
		op.Kind = history.Rotate
		if random.IntN(3) == 0 {
			op.From = strconv.Itoa(random.IntN(i))
		}
	default:
		op.Kind = history.Revoke
	}
	return op
}

// spoil changes a result.
func spoil(random *rand.Rand, op *history.Op) {
	switch {
	case op.Result == history.Unknown:
	case op.Kind == history.Read:
		op.Token = strconv.Itoa(random.IntN(10))
	case op.Kind == history.Rotate && op.Result == history.OK:
		op.Result = history.Conflict
	case op.Kind == history.Rotate:
		op.Result = history.OK
	case op.Result == history.OK:
		op.Result = history.NotFound
	}
}
