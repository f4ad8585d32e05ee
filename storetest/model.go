package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// model is what a store must hold, after all that was done: a world of sessions, or a
// tenant.
type model[H, M any] interface {
	clone() M
	// differs compares all of it with what a handle shows, and returns the law that is
	// broken, empty for that of the case, and how.
	differs(e *env[H], h H) (law, diff string)
	// rowsDiffer does so without what is derived, such as lists.
	rowsDiffer(e *env[H], h H) (law, diff string)
}

// check reads something from the store, and returns the law that is broken, empty for
// that of the case, and how; nothing if it is as it must be.
type check func() (law, diff string)

// finding is what a check has found.
type finding struct{ law, diff string }

// together makes checks at the same time.
func (e *env[H]) together(checks ...check) []finding {
	found := make([]finding, len(checks))
	if !e.each(len(checks), func(i int) { found[i].law, found[i].diff = checks[i]() }) {
		panic(stop{}) // the store has panicked
	}
	return found
}

// first makes checks, a few at the same time, for a store that is far away, until one
// finds something, and returns what the first one has found.
func (e *env[H]) first(checks []check) (law, diff string) {
	const few = 4
	for some := range slices.Chunk(checks, few) {
		for _, f := range e.together(some...) {
			if f.diff != "" {
				return f.law, f.diff
			}
		}
	}
	return "", ""
}

// onBoth returns what differs from a model on each of the case's handles.
func onBoth[H any, M model[H, M]](e *env[H], m M) (a, b finding) {
	found := e.together(
		func() (law, diff string) { return m.differs(e, e.a) },
		func() (law, diff string) { return m.differs(e, e.b) })
	return found[0], found[1]
}

// wholly compares what is stored with the model before a call, and then with the one after
// it. One of the two is empty if all of the call was done or nothing, even if the server
// does it only now: what has begun to look done is so in all that is read later.
func wholly[H any, M model[H, M]](e *env[H], before M, a H, after M, b H) (undone, done string) {
	_, undone = before.differs(e, a)
	_, done = after.differs(e, b)
	return undone, done
}

// op is a call of a store, and what it must do: apply changes the model as the laws say,
// or returns the error that the call must return, and then changes nothing. Both return
// what the call returns in addition to its error.
type op[H any, M model[H, M]] struct {
	name  string
	what  string // in what way it is called, for a failure
	moves bool   // the session to another subject
	call  func(ctx context.Context, h H) (string, error)
	apply func(m M) (string, error)
}

// writeOp is a call that returns nothing but an error.
func writeOp[H any, M model[H, M]](name string, call func(ctx context.Context, h H) error, apply func(m M) error) op[H, M] {
	return op[H, M]{
		name:  name,
		call:  func(ctx context.Context, h H) (string, error) { return "", call(ctx, h) },
		apply: func(m M) (string, error) { return "", apply(m) },
	}
}

// as says in what way the call is made.
func (o op[H, M]) as(what string) op[H, M] {
	o.what = " " + what
	return o
}

// on is the call through a handle.
func (o op[H, M]) on(h H) namedCall {
	return namedCall{o.name, func(ctx context.Context) error { _, err := o.call(ctx, h); return err }}
}

// patience is how often a call is made that returns an error which does not tell
// its outcome, where nothing else is under way. The Renewer repeats a call once;
// a store may ask for that at every tenth call.
const patience = 10

// unclear is the result of a call that was done, and whose result was lost.
const unclear = "unclear"

// settle makes a call, and again after an error that does not tell its outcome,
// until the store is as it must be after the call, or returns a named error.
func (o op[H, M]) settle(e *env[H], h H, after M) (result string, err error) {
	return o.repeat(e, h, func() bool { _, diff := after.rowsDiffer(e, h); return diff == "" })
}

// fails makes a call that must not succeed, and again after an error that does not tell
// its outcome.
func (o op[H, M]) fails(e *env[H], h H) error {
	_, err := o.repeat(e, h, func() bool { return false })
	return err
}

func (o op[H, M]) repeat(e *env[H], h H, done func() bool) (result string, err error) {
	for range patience {
		if result, err = o.call(e.ctx, h); err == nil || isNamed(err) || e.ctx.Err() != nil {
			break
		}
		if done() {
			e.wasUnclear(o.name, err)
			return unclear, nil
		}
	}
	e.wasClear(o.name)
	return result, err
}

// do makes a call with what must be stored before it, and returns what must be after it,
// the result and the error that the laws ask for, and those of the store.
func (o op[H, M]) do(e *env[H], h H, before M) (after M, want string, wantErr error, got string, err error) {
	after = before.clone()
	if want, wantErr = o.apply(after); wantErr != nil {
		return before, want, wantErr, "", o.fails(e, h)
	}
	got, err = o.settle(e, h, after)
	return after, want, nil, got, err
}

// step makes a call that must succeed, and returns what must be stored after it.
func (o op[H, M]) step(e *env[H], h H, before M) M {
	after, _, wantErr, _, err := o.do(e, h, before)
	if wantErr != nil {
		panic(wantErr) // a mistake of the case
	}
	if err != nil {
		e.fatalf("expected nil of %s\nthe store returned the error %q", o.name, err)
	}
	return after
}

// raceOf returns a case that makes two calls at the same moment, of which one is of these
// methods: each pair of the calls that prepare returns, by a function that races them.
// It does so again for some of the budgets of a race.
func raceOf[H any, M model[H, M]](
	budgets time.Duration, prepare func(e *env[H]) (ops []op[H, M], race func(pass, i, j int)), methods ...string,
) func(e *env[H]) {
	return func(e *env[H]) {
		ops, race := prepare(e)
		about := func(o op[H, M]) bool { return slices.Contains(methods, o.name) }
		random := e.random()
		end := e.endOf(budgets * e.budget)
		for pass := 0; pass < 1 || pass < 100 && time.Now().Before(end); pass++ {
			for i := range ops {
				for j := i; j < len(ops); j++ {
					if (about(ops[i]) || about(ops[j])) && random.Float64() < e.effort {
						race(pass, i, j)
					}
				}
			}
		}
	}
}

// duel is two calls at the same moment.
type duel[H any, M model[H, M]] struct {
	before  M
	ops     [2]op[H, M]
	results [2]string
	errs    [2]error
}

// fight makes the calls of each duel, one duel after the other, and returns for each why
// no order of its calls explains their results, empty if one does.
func fight[H any, M model[H, M]](e *env[H], duels []duel[H, M]) []string {
	m := newMeeting(2)
	e.race(2, func(who int) {
		for n := range duels {
			m.meet()
			d := &duels[n]
			d.results[who], d.errs[who] = d.ops[who].call(e.ctx, e.handle(who+n))
		}
	})
	diffs := make([]string, len(duels))
	e.spread(len(duels), func(n int) { diffs[n] = duels[n].fitsNoOrder(e) })
	return diffs
}

// fitsNoOrder says why no order of the two calls explains their results and what is
// stored now; it is empty if one does. An error that the laws do not name may hide a
// success.
func (d *duel[H, M]) fitsNoOrder(e *env[H]) (diff string) {
	diff = "no order allows these results"
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		for skipped := range 4 { // calls with an unclear error that did not happen
			after := d.before.clone()
			fits := true
			for _, who := range order {
				err := d.errs[who]
				isUnclear := err != nil && !isNamed(err)
				if skipped&(1<<who) != 0 {
					fits = fits && isUnclear
					continue
				}
				want, wantErr := d.ops[who].apply(after)
				fits = fits && (isUnclear || matches(err, wantErr) && (err != nil || d.results[who] == want))
			}
			if !fits {
				continue
			}
			a, b := onBoth(e, after)
			if diff = a.diff + b.diff; diff == "" {
				return ""
			}
		}
	}
	return diff
}

// reports says that the calls did not do what they do one after the other.
func (d *duel[H, M]) reports(e *env[H], diff string) {
	e.fatalf("expected %s and %s at the same moment to do what they do one after the other\nthe store returned %s and %s, and what it holds then fits neither order: %s",
		d.ops[0].name, d.ops[1].name, outcome(d.results[0], d.errs[0]), outcome(d.results[1], d.errs[1]), diff)
}

// readsBeside reads again and again while write runs. Both meet at each write, and the
// reads now and then.
func (e *env[H]) readsBeside(write func(m *meeting), read func(n int)) {
	m := newMeeting(2)
	var over atomic.Bool
	e.race(2, func(who int) {
		if who == 0 {
			defer over.Store(true)
			write(m)
			return
		}
		for n := 0; !over.Load() && e.ctx.Err() == nil; n++ {
			if n%3 == 0 {
				m.meet()
			}
			read(n)
		}
	})
}

// interrupts makes a call with a context that ends while it is under way.
func (o op[H, M]) interrupts(e *env[H], interruption interruption, h H, before M) {
	ctx, cancel := interruption(e.ctx)
	got, err := o.call(ctx, h)
	cancel()
	after := before.clone()
	want, wantErr := o.apply(after)
	undone, done := wholly(e, before, e.a, after, e.b)
	switch {
	case err == nil && (wantErr != nil || got != want || done != ""):
		e.failf("expected the whole effect of %s, which returned %s although its context ended during the call\nthe store has it otherwise: %s", o.name, outcome(got, err), done)
	case err != nil && isNamed(err) && !matches(err, wantErr):
		e.failf("expected %s or the context's error of %s when its context ends during the call\nthe store returned %q", outcome(want, wantErr), o.name, err)
	case undone != "" && done != "" && o.name != "RevokeSubject":
		e.failf("expected all of %s or nothing, whose context ended during the call and which returned %s\nthe store has neither: %s", o.name, outcome(got, err), undone)
	}
}

// isWhole checks after an outage that the store has all of a call which met it, or
// nothing.
func (o op[H, M]) isWhole(e *env[H], a, b H, before M) {
	after := before.clone()
	_, _ = o.apply(after)
	if undone, done := wholly(e, before, a, after, b); undone != "" && done != "" {
		e.failf("expected all of %s or nothing, which met an outage\nthe store has neither, when the outage is over: %s", o.name, undone)
	}
}

// losesReply makes a call without one of its replies, another one each time, until it
// meets no loss. Afterwards the store has all that the call does, or nothing of it.
func losesReply[H any, M model[H, M]](e *env[H], i int, prepare func() (M, op[H, M])) {
	e.loseEach(func() (call namedCall, judge func(error)) {
		before, o := prepare()
		after := before.clone()
		_, want := o.apply(after)
		return o.on(e.handle(i)), func(err error) {
			clear := e.judgeLost(o.name, err, want)
			undone, done := wholly(e, before, e.handle(i), after, e.handle(i+1))
			if done != "" && (clear || undone != "") {
				e.fatalf("expected all of %s, or nothing of it after an error that does not tell the outcome, when a reply of the server is lost\nthe store returned %v, and differs from what it must have: %s", o.name, err, done)
			}
		}
	})
}

// matches reports whether a store may return err where the laws ask for want.
func matches(err, want error) bool {
	switch {
	case want == nil:
		return err == nil
	case errors.Is(want, errInvalid):
		return err != nil && !isNamed(err)
	}
	return errors.Is(err, want)
}

// wantError checks that a call returned one of these errors.
func (e *env[H]) wantError(what string, got error, want ...error) {
	e.wantErrorOf(e.law, what, got, want...)
}

// wantErrorOf does too, and blames another law than that of the case.
func (e *env[H]) wantErrorOf(law, what string, got error, want ...error) {
	names := make([]string, len(want))
	for i, w := range want {
		if matches(got, w) {
			return
		}
		names[i] = outcome("", w)
	}
	e.breaks(law, "expected %s of %s\nthe store returned %s", strings.Join(names, " or "), what, outcome("", got))
}
