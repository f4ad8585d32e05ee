package explore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing/synctest"
	"time"

	"github.com/jwtrenew/renew"
)

// live has the requests of a schedule run at the same time, in one process, each
// in its goroutine, and compares what they do with what they did one by one. A
// Renewer may keep something between two requests, such as a count of those that
// wait; this finds out whether that changes what a request does.
//
// It needs a synctest bubble, which tells when a request has come to its next call.
type live struct {
	*process
	renewer  *renew.Renewer
	requests map[int8]*liveRequest
	differs  error
	busy     bool // a revocation was turned away, for one of its session is under way
}

func newLive(p *process) (*live, error) {
	renewer, err := p.newRenewer()
	return &live{process: p, renewer: renewer, requests: map[int8]*liveRequest{}}, err
}

// liveRequest is one that runs. Its fields change only while its goroutine runs
// and nothing else does.
type liveRequest struct {
	run     *run
	replies chan reply
	mu      sync.Mutex // of the two below, while its goroutine runs
	call    *call      // what it waits for a reply to
	result  *result
}

type liveKey struct{}

// start runs a request to its first call.
func (l *live) start(n int32) {
	if l == nil {
		return
	}
	r := l.nodes[n].request
	ctx, cancel := context.WithCancel(context.Background())
	q := &liveRequest{run: &run{request: r, clock: r.clock, cancel: cancel}, replies: make(chan reply)}
	l.requests[r.number] = q
	l.proceed(n, q, func() {
		go func() {
			defer cancel()
			res := l.handle(context.WithValue(ctx, liveKey{}, q), l.renewer, r)
			q.set(nil, &res)
		}()
	})
}

// extend gives a request the reply by which it came to node n, and runs it to its
// next call.
func (l *live) extend(n int32) {
	if l == nil {
		return
	}
	q := l.requests[l.nodes[n].request.number]
	if q == nil || q.call == nil {
		return // it has done something else before
	}
	q.call = nil
	l.proceed(n, q, func() { q.replies <- l.nodes[n].reply })
}

// proceed lets one request continue until it makes a call or has ended.
func (l *live) proceed(n int32, q *liveRequest, letGo func()) {
	executing.Lock()
	defer executing.Unlock()
	l.run = q.run
	defer l.swapRandom()()
	letGo()
	q.settle()
	l.compare(n, q)
}

// settle waits until a request has made a call or has ended.
func (q *liveRequest) settle() {
	for range 60 {
		synctest.Wait()
		if q.settled() {
			return
		}
		time.Sleep(time.Second) // of the bubble: it waits for the end of its context
	}
}

func (l *live) compare(n int32, q *liveRequest) {
	want := l.nodes[n].call
	switch {
	case l.differs != nil:
	case q.call != nil:
		if !q.call.equal(want) {
			l.differs = fmt.Errorf("request %d makes another call than it does alone", q.run.request.number+1)
		}
	case q.result == nil:
		l.differs = fmt.Errorf("request %d neither calls a store nor returns", q.run.request.number+1)
	case want.kind == callRevoke && q.run.request.kind == renewal && q.result.err != nil && l.revoking(q):
		l.busy = true
	case want.kind != returned:
		l.differs = fmt.Errorf("request %d returns (%s), and makes a call when it is alone", q.run.request.number+1, fmt.Sprint(q.result.err))
	case q.result.token != want.result.token || q.result.reason != want.result.reason || (q.result.err == nil) != (want.result.err == nil):
		l.differs = fmt.Errorf("request %d returns another result than alone: %s, not %s", q.run.request.number+1, fmt.Sprint(q.result.err), fmt.Sprint(want.result.err))
	}
}

// revoking reports whether another request than q revokes.
func (l *live) revoking(q *liveRequest) bool {
	for _, other := range l.requests {
		if other != q && other.call != nil && other.call.kind == callRevoke {
			return true
		}
	}
	return false
}

// settled reports whether a request has made a call or has ended. The bubble's
// clock, by which a request may wake up, orders nothing.
func (q *liveRequest) settled() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.call != nil || q.result != nil
}

func (q *liveRequest) set(c *call, r *result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.call, q.result = c, r
}

// await is a call of a request that runs.
func (q *liveRequest) await(ctx context.Context, c call) (reply, error) {
	q.set(&c, nil)
	given := <-q.replies
	q.run.clock = given.clock
	if given.canceled {
		q.run.cancel()
	}
	if given.kind == contextDone {
		<-ctx.Done()
		return given, ctx.Err()
	}
	return given, given.kind.err()
}

// end lets what still runs come to its end.
func (l *live) end() {
	for _, q := range l.requests {
		for range 100 {
			if q.call == nil {
				break
			}
			q.call = nil
			q.replies <- reply{kind: outage, clock: q.run.clock, canceled: true}
			q.settle()
		}
	}
	clear(l.requests)
	l.busy = false
}

// Walk follows random schedules of the configuration, with the requests of each
// in one process, and returns how many steps it took.
func Walk(c *Config, schedules int, seed uint64) (stepsTaken int, err error) {
	w, start, err := newWorld(c)
	if err != nil {
		return 0, err
	}
	if w.live, err = newLive(w.process); err != nil {
		return 0, err
	}
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // for a schedule
	for range schedules {
		s := start
		var choices []int
		for {
			actions := w.enabled(s)
			if len(actions) == 0 {
				break
			}
			nth := random.IntN(len(actions))
			choices = append(choices, nth)
			next, v := w.apply(s, actions[nth])
			stepsTaken++
			if w.live.differs != nil {
				err := w.live.differs
				w.live.end()
				w.live = nil
				told, _ := w.tell(start, choices)
				return stepsTaken, fmt.Errorf("%w: %q", err, told)
			}
			if v != nil || w.live.busy {
				break // TestPromises tells of the one, and the other ends in an internal error
			}
			s = next
		}
		w.live.end()
	}
	return stepsTaken, nil
}
