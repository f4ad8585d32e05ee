package storetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/jwtrenew/renew"
)

// seedVariable names the environment variable that repeats a run's random
// choices.
const seedVariable = "RENEW_STORETEST_SEED"

// limits are for a store of ordinary speed, see [WithSlowness].
type limits struct {
	call     time.Duration // of one call
	recovery time.Duration // until handles work again after an outage
	lag      time.Duration // for which a list is read again that was wrong
	context  time.Duration // of the context of a case, see serialLimit
	watchdog time.Duration // of a case whose store does not heed its context
}

// serialLimit is how many times as long a case may take that runs alone: it may restart
// the backend ten times.
const serialLimit = 5

// raceBudget is how long a case that looks for a race continues, once it has done
// its rounds. A store in memory shows a gap of nanoseconds once in thousands of
// rounds; one on a disk or a network has wide gaps, and is slow.
const raceBudget = 300 * time.Millisecond

// Option tells a suite about the backend. Options are about what differs
// between correct stores; no law can be switched off.
type Option func(*config)

type config struct {
	slowness  float64
	outage    func(testing.TB) (restore func())
	crash     func(testing.TB)
	failover  func(testing.TB)
	proxy     *Proxy
	apps      []string
	listLimit int
	seed      uint64
	effort    float64       // of the cases that look for races; 1 is all of it
	budget    time.Duration // for which such a case continues, once it has done its rounds
	limits
}

// WithSlowness multiplies all time limits by factor, for a backend that is slow
// or far away. Default: 1, with which a case may take a minute, and five minutes if it
// runs alone, as those do that restart the backend.
func WithSlowness(factor float64) Option {
	return func(c *config) { c.slowness = factor }
}

// WithOutage lets the suite test the law about outages. cut makes the backing
// store unreachable for all handles, as when its server is stopped or its
// network is gone, and returns what undoes that. What was stored must be there
// again afterwards. Without this option the law is skipped.
func WithOutage(cut func(tb testing.TB) (restore func())) Option {
	return func(c *config) { c.outage = cut }
}

// WithCrash lets the suite test the law about durability. crash ends whatever
// holds the data as a power failure would, with SIGKILL and not with a clean
// stop, and starts it again. It is called while calls are under way, which may
// return any error or the right result. Handles that open returned before may
// be dead afterwards; new ones must work. Without this option the law is
// skipped, as is right for a store that is not durable.
//
// [StartProcess] has such a function for a store that lives inside the process
// that uses it.
func WithCrash(crash func(tb testing.TB)) Option {
	return func(c *config) { c.crash = crash }
}

// WithFailover lets the suite test the laws about failovers, F1 to F3, for a backend
// that may lose its last acknowledged writes when its primary is replaced, such as
// Redis or any database with asynchronous replicas. failover replaces the primary,
// and returns when clients reach the new one and its replicas have all that it has.
// It is called while calls are under way, which may return any error. To make a loss
// likely it first cuts off the replicas, for some tenths of a second. Handles that
// open returned before must work again afterwards, as after an outage. Without this
// option these laws are skipped, as is right for a store that loses no acknowledged
// write: tell its test of failovers with [WithCrash].
func WithFailover(failover func(tb testing.TB)) Option {
	return func(c *config) { c.failover = failover }
}

// WithProxy lets the suite lose replies: the connections of every handle to the
// server go through p, so that a call can be done without its client learning of it.
// A client library that sends the call again is then told of a conflict with
// itself, unless the store recognizes its own write. Without [WithOutage] the
// proxy's [Proxy.Refuse] is the outage.
func WithProxy(p *Proxy) Option {
	return func(c *config) {
		c.proxy = p
		if c.outage == nil {
			c.outage = func(testing.TB) (restore func()) { return p.Refuse() }
		}
	}
}

// WithListLimit says how many of a subject's sessions SubjectSessions returns at
// most, the newest ones, for a store whose documentation says so. Default: no
// limit.
func WithListLimit(n int) Option {
	return func(c *config) { c.listLimit = n }
}

// WithRounds has the cases that look for races use this share of their rounds and time,
// above 0 and at most 1, for quick runs of a suite that takes minutes. Default: 1.
// A store that is released should have passed with all of them.
func WithRounds(share float64) Option {
	return func(c *config) { c.effort = share }
}

func newConfig(opts []Option) config {
	c := config{
		slowness: 1, effort: 1, budget: raceBudget,
		seed:   rand.Uint64(), //nolint:gosec // a seed is no secret: it is printed
		limits: limits{call: 10 * time.Second, recovery: 8 * time.Second, lag: time.Second, context: time.Minute, watchdog: 90 * time.Second},
	}
	for _, opt := range opts {
		opt(&c)
	}
	return c
}

// readSeed takes the seed from the environment, if it is there.
func (c *config) readSeed(tb testing.TB) {
	text, set := os.LookupEnv(seedVariable)
	if !set {
		return
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		tb.Fatalf("storetest: %s is %q, but must be the seed that a failure has printed", seedVariable, text)
	}
	c.seed = seed
}

func (c *config) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * c.slowness)
}

// rounds counts the rounds of a case that looks for a race: n, and then as many
// as the budget has time for, up to a limit.
func (c *config) rounds(n int) iter.Seq[int] {
	const atMost = 50
	return c.roundsUpTo(n, n*atMost, c.budget)
}

func (c *config) roundsUpTo(n, most int, budget time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		n := max(1, int(float64(n)*c.effort))
		end := c.endOf(budget)
		for round := 0; round < n || round < most && time.Now().Before(end); round++ {
			if !yield(round) {
				return
			}
		}
	}
}

// endOf returns when a case has used its share of a budget that begins now.
func (c *config) endOf(budget time.Duration) time.Time {
	return time.Now().Add(time.Duration(float64(budget) * c.effort))
}

// law is one promise and the cases that test it.
type law[H any] struct {
	id    string
	text  string
	cases []testCase[H]
}

// testCase tests one side of a law.
type testCase[H any] struct {
	name   string
	run    func(e *env[H])
	serial bool // it must not run at the same time as others
}

// row is a value of a table, and what it is.
type row[V any] struct {
	what  string
	value V
}

// rows returns a case for each row of a table. Its name is fit for a file or a table of a
// database, which an open function may name after it.
func rows[H, V any](name string, table []row[V], run func(e *env[H], value V)) (cases []testCase[H]) {
	for _, r := range table {
		cases = append(cases, testCase[H]{name: name + "-" + plainName(r.what), run: func(e *env[H]) { run(e, r.value) }})
	}
	return cases
}

// plainName returns a text without what is neither a letter nor a digit, and with hyphens
// between its words.
func plainName(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '-':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r):
			return r
		}
		return -1
	}, text)
}

// inTurn has cases run one at a time.
func inTurn[H any](cases []testCase[H]) []testCase[H] {
	for i := range cases {
		cases[i].serial = true
	}
	return cases
}

// suite is a set of laws and a backend to hold to them.
type suite[H any] struct {
	laws []law[H]
	open func(tb testing.TB) H
	// watch returns h with its calls recorded.
	watch func(h H, number int, log *callLog) H
	// audit looks at what a case has left behind.
	audit func(e *env[H])
	// apart reports whether the second handle does not have what the first stores.
	apart func(e *env[H]) bool
	config
	hung atomic.Pointer[string] // the call of which a case has waited too long
}

// test runs every case as a subtest.
func (s *suite[H]) test(t *testing.T) {
	s.readSeed(t)
	for _, l := range s.laws {
		t.Run(l.id, func(t *testing.T) {
			for _, c := range l.cases {
				t.Run(c.name, func(t *testing.T) {
					if !c.serial {
						t.Parallel()
					}
					if hung := s.hung.Load(); hung != nil {
						t.Skipf("storetest: not run, because a call of the store has hung: %s", *hung)
					}
					s.run(t, l, c).report(t, s.seed)
				})
			}
		})
	}
}

// failure is what a store did that it must not do, and the law that forbids it.
type failure struct{ law, text string }

// result is what became of a case.
type result struct {
	failures []failure
	skipped  string
}

func (r result) report(t *testing.T, seed uint64) {
	for _, failure := range r.failures {
		t.Errorf("%s\n  %s", failure.text, again(t.Name(), seed))
	}
	if len(r.failures) == 0 && r.skipped != "" {
		t.Skip(r.skipped)
	}
}

// again says how to run a case again with the same random choices.
func again(name string, seed uint64) string {
	return fmt.Sprintf("run it again with %s=%d go test -run '%s'", seedVariable, seed, name)
}

// run runs one case in a separate goroutine, and gives up on it when the store
// hangs. Functions of the user's that take a testing.TB run in the caller's
// goroutine, as they must.
func (s *suite[H]) run(tb testing.TB, l law[H], c testCase[H]) result {
	limit := s.scaled(s.context)
	if c.serial {
		limit *= serialLimit
	}
	limited, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	aborted := make(chan struct{}) // the test has ended, through a hook
	defer close(aborted)
	e := &env[H]{
		config:  s.config,
		log:     newCallLog(),
		ctx:     yielding{limited},
		limit:   limit,
		hooks:   make(chan func(testing.TB)),
		aborted: aborted,
		law:     l.id,
		told:    map[string]int{},
		lost:    map[string]int{},
		seed:    s.caseSeed(l.id, c.name),
		app:     "storetest-" + newID(),
		now:     time.Now().Add(-time.Minute).Truncate(time.Second).UTC(),
		suite:   s,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.guard(func() {
			e.a, e.b = e.openHandle(), e.openHandle()
			c.run(e)
		})
		if s.audit != nil && e.skipped == "" && limited.Err() == nil {
			e.guard(func() { s.audit(e) })
		}
		if s.apart != nil && e.failed() && e.handles > 1 && limited.Err() == nil {
			e.guard(func() { e.setApart(s.apart(e)) })
		}
	}()
	return s.await(tb, e, done)
}

// await waits for the end of a case, for its hooks, and for a call that hangs.
func (s *suite[H]) await(tb testing.TB, e *env[H], done <-chan struct{}) result {
	watchdog := time.NewTimer(s.scaled(s.watchdog))
	defer watchdog.Stop()
	look := time.NewTicker(max(time.Millisecond, s.scaled(s.call)/20))
	defer look.Stop()
	for {
		select {
		case hook := <-e.hooks:
			hook(tb)
			watchdog.Reset(s.scaled(s.watchdog))
		case <-done:
			return e.result(s)
		case <-look.C:
			if c := e.log.hanging(s.scaled(s.call)); c != "" {
				s.hung.Store(&c)
				e.failf("expected every call to return, if only with an error when its context is done\ntime-out: this call has not returned for %v, and no other case is run: %s\na store that is slow or far away declares it with WithSlowness", s.scaled(s.call), c)
				return e.result(s)
			}
		case <-watchdog.C:
			e.failf("expected the case to end\ntime-out: it has not for %v\na store that is slow or far away declares it with WithSlowness", s.scaled(s.watchdog))
			return e.result(s)
		}
	}
}

func (s *suite[H]) caseSeed(law, name string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s/%s", s.seed, law, name) // a hash takes all
	return h.Sum64()
}

// env is what a case works with: two handles on one backing store, its own app,
// and ways to say what went wrong.
type env[H any] struct {
	config
	a, b    H
	ctx     context.Context
	limit   time.Duration // of ctx
	app     string
	now     time.Time // a minute before the case began
	log     *callLog
	twins   []renew.Session // of sessions that the case has created
	law     string
	seed    uint64
	suite   *suite[H]
	hooks   chan func(testing.TB)
	aborted chan struct{}
	handles int

	mu       sync.Mutex
	told     map[string]int // calls of a method whose result told the outcome
	lost     map[string]int // and that were done, and whose result did not
	failures []failure
	skipped  string
	isApart  bool
}

// stop ends a case from inside it; guard catches it.
type stop struct{}

// guard calls f and records its panic, if it is not the case's own end.
func (e *env[H]) guard(f func()) {
	defer func() {
		switch p := recover(); p.(type) {
		case nil, stop:
		default:
			e.failf("expected no panic\nthe store, or the case, panicked: %v\n%s", p, debug.Stack())
		}
	}()
	f()
}

// hook runs f in the test's own goroutine.
func (e *env[H]) hook(f func(tb testing.TB)) {
	finished := make(chan struct{})
	select {
	case e.hooks <- func(tb testing.TB) { f(tb); close(finished) }:
	case <-e.aborted:
		panic(stop{})
	}
	select {
	case <-finished:
	case <-e.aborted:
		panic(stop{})
	}
}

// openHandle returns a new handle whose calls are recorded.
func (e *env[H]) openHandle() (h H) {
	e.hook(func(tb testing.TB) { h = e.suite.open(tb) })
	e.handles++
	return e.suite.watch(h, e.handles, e.log)
}

// random returns the case's source of random choices.
func (e *env[H]) random() *rand.Rand { return newRandom(e.seed, 0) }

// newRandom returns a source that makes the same choices for the same seed.
func newRandom(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // choices must be repeatable, not secret
}

// failf records a failure: what was expected and what the store did. The case
// continues; fatalf ends it.
func (e *env[H]) failf(format string, args ...any) { e.breaks(e.law, format, args...) }

func (e *env[H]) fatalf(format string, args ...any) {
	e.failf(format, args...)
	panic(stop{})
}

// blames returns the law that a failure breaks which is about another one. The laws
// about failovers are about all that follows from one.
func (e *env[H]) blames(law string) string {
	if strings.HasPrefix(e.law, "F") {
		return e.law
	}
	return law
}

// lagHint looks again, for a while, at what differs, and returns advice if it comes
// right without a call that changes it.
func (e *env[H]) lagHint(differs func() string) string {
	defer e.log.keep()()
	for begun := time.Now(); time.Since(begun) < e.scaled(e.lag) && e.ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
		if differs() == "" {
			return fmt.Sprintf("\n%v later the store returned what was expected: its index lags. S1 and S2 need consistent reads: write the index in the transaction of the session, or before it and check each entry against its session; and read both from the primary, with a consistent read where the database makes a difference", time.Since(begun).Round(time.Millisecond))
		}
	}
	return ""
}

// breaks records that the store breaks a law, which need not be that of the case.
// It does so for the first few times: one broken promise can fail in every round.
func (e *env[H]) breaks(law, format string, args ...any) {
	const enough = 5
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.failures) < enough {
		e.failures = append(e.failures, failure{law, fmt.Sprintf(format, args...) + "\n" + e.log.String()})
	}
}

// note adds to the last failure of which value it came.
func (e *env[H]) note(v value) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.failures); n > 0 {
		e.failures[n-1].text = "with " + v.what + ": " + e.failures[n-1].text
	}
}

// wasClear counts a call whose result told the outcome.
func (e *env[H]) wasClear(method string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told[method]++
}

// wasUnclear counts a call that was done and returned an error which did not tell so.
// The case fails when these are most of the calls of a method.
func (e *env[H]) wasUnclear(method string, err error) {
	const few = 10
	e.mu.Lock()
	e.lost[method]++
	most := e.lost[method] > few && e.lost[method] > e.told[method]
	e.mu.Unlock()
	if most {
		e.fatalf("expected nil of %s at least every other time\nthe store has done it, and returned the error %q", method, err)
	}
}

func (e *env[H]) setApart(apart bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.isApart = apart
}

func (e *env[H]) failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.failures) > 0
}

// has reports whether a store implements an interface.
func has[I any](store any) bool {
	_, ok := store.(I)
	return ok
}

// needs ends the case of a store that does not implement an interface.
func (e *env[H]) needs(implements bool, what string) {
	if !implements {
		e.skip("the store does not implement " + what)
	}
}

// skip ends the case: it does not apply to this store.
func (e *env[H]) skip(why string) {
	e.mu.Lock()
	e.skipped = "storetest: " + why
	e.mu.Unlock()
	panic(stop{})
}

func (e *env[H]) result(s *suite[H]) result {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := result{skipped: e.skipped}
	for _, f := range e.failures {
		text := f.text
		if e.ctx.Err() != nil {
			text += fmt.Sprintf("\nthe case met its time limit of %v; the slowest call was %s\na store that is slow or far away declares it with WithSlowness", e.limit, e.log.slowest())
		}
		if e.isApart {
			text += "\nthe second handle does not have what the first has just stored: open must open the same backing store each time, and read from its primary"
		}
		r.failures = append(r.failures, failure{f.law, fmt.Sprintf("law %s: %s\n  %s", f.law, s.text(f.law), strings.ReplaceAll(text, "\n", "\n  "))})
	}
	return r
}

// text returns a law in its words.
func (s *suite[H]) text(id string) string {
	for _, l := range s.laws {
		if l.id == id {
			return l.text
		}
	}
	return ""
}

// yielding is a context that lets others run whenever it is asked. Between the
// two halves of what should be one step, many stores ask.
type yielding struct{ context.Context }

func (y yielding) Err() error {
	runtime.Gosched()
	return y.Context.Err()
}

func (y yielding) Done() <-chan struct{} {
	runtime.Gosched()
	return y.Context.Done()
}

// race calls f n times concurrently and returns when all calls have returned. If one
// has failed, the case ends.
func (e *env[H]) race(n int, f func(i int)) {
	e.log.busy.Store(true)
	defer e.log.busy.Store(false)
	var finished sync.WaitGroup
	var ready, running atomic.Int64
	start := make(chan struct{})
	together := int64(min(n, runtime.GOMAXPROCS(0)))
	for i := range n {
		finished.Go(func() {
			ready.Add(1)
			<-start
			// Those that run in parallel begin at the same moment.
			running.Add(1)
			for spins := 0; running.Load() < together; spins++ {
				if spins > 1000 {
					runtime.Gosched()
				}
			}
			e.guard(func() { f(i) })
		})
	}
	for int(ready.Load()) < n {
		runtime.Gosched()
	}
	close(start)
	finished.Wait()
	if e.failed() {
		panic(stop{})
	}
}

// each calls f with each number below n, several at a time, and reports whether all calls
// have returned; one that ended the case has not.
func (e *env[H]) each(n int, f func(i int)) bool {
	const workers = 16
	var next, returned atomic.Int64
	var all sync.WaitGroup
	for range min(workers, n) {
		all.Go(func() {
			e.guard(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					f(i)
					returned.Add(1)
				}
			})
		})
	}
	all.Wait()
	return int(returned.Load()) == n
}

// spread does too. If the case has failed, it ends.
func (e *env[H]) spread(n int, f func(i int)) {
	e.each(n, f)
	if e.failed() {
		panic(stop{})
	}
}

// handle returns one of the two handles, by turns.
func (e *env[H]) handle(i int) H {
	if i%2 == 0 {
		return e.a
	}
	return e.b
}
