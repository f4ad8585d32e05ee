package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jwtrenew/renew"
)

// callLog keeps the last calls of a case, for the message when it fails.
type callLog struct {
	mu    sync.Mutex
	calls []*call // the last ones, oldest first
	count int
	slow  *call       // the slowest
	busy  atomic.Bool // a race, or an outage, is under way

	sessions map[rowKey]bool    // that calls were about, some
	subjects map[[2]string]bool // of app and subject
	apps     map[string]bool    // that were created
}

func newCallLog() *callLog {
	return &callLog{sessions: map[rowKey]bool{}, subjects: map[[2]string]bool{}, apps: map[string]bool{}}
}

// mention keeps which sessions and subjects a case is about, for a look at what
// it leaves behind.
func (l *callLog) mention(s renew.Session) {
	const enough = 60
	l.mu.Lock()
	defer l.mu.Unlock()
	of := [2]string{s.AppID, s.Subject}
	if len(l.subjects) < enough/2 {
		l.subjects[of] = true
	}
	if l.subjects[of] && len(l.sessions) < enough || l.sessions[keyOf(s)] {
		l.sessions[keyOf(s)] = true
	}
}

// created keeps that an app was created.
func (l *callLog) created(appID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apps[appID] = true
}

// keptCalls is how many calls a failure shows.
const keptCalls = 8

// call is one call of a store's method.
type call struct {
	number int
	handle int
	method string
	args   func() string
	began  time.Time
	took   time.Duration
	result func() string // nil: it has not returned
}

func (l *callLog) begin(handle int, method string, args func() string) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	c := &call{number: l.count, handle: handle, method: method, args: args, began: time.Now()}
	// A call that has not returned stays: it is the one that a watchdog wants.
	for i := 0; len(l.calls) >= keptCalls && i < len(l.calls); i++ {
		if l.calls[i].result != nil {
			l.calls = append(l.calls[:i], l.calls[i+1:]...)
			break
		}
	}
	l.calls = append(l.calls, c)
	return c
}

// keep returns what takes the calls that are made until then off the list.
func (l *callLog) keep() (restore func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := slices.Clone(l.calls)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls = calls
	}
}

// end records the result of a call that returned no error, or the error.
func (l *callLog) end(c *call, result func() string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.result, c.took = result, time.Since(c.began)
	if err != nil {
		c.result = func() string { return "error: " + err.Error() }
	}
	if l.slow == nil || c.took > l.slow.took {
		l.slow = c
	}
}

// caller is a handle whose calls are recorded.
type caller struct {
	number int
	log    *callLog
	once   bool // a call is not made again after an error that may be retried
	reads  bool // the calls change nothing
}

// called makes a call and records it, and again after an error that may be retried.
func called[T any](ctx context.Context, h caller, method string, args func() string, call func() (T, error), show func(T) string) (value T, err error) {
	for range patience {
		c := h.log.begin(h.number, method, args)
		value, err = call()
		h.log.end(c, func() string { return show(value) }, err)
		if err == nil || isNamed(err) || !h.repeats(ctx) {
			break
		}
	}
	return value, err
}

// plain returns a caller whose calls are made once.
func (h caller) plain() caller {
	h.once = true
	return h
}

// reading returns a caller of what changes nothing.
func (h caller) reading() caller {
	h.reads = true
	return h
}

// repeats reports whether a call is made again: its context is the case's own and has
// not ended, and the call changes nothing or nothing else is under way.
func (h caller) repeats(ctx context.Context) bool {
	_, own := ctx.(yielding)
	return own && !h.once && (h.reads || !h.log.busy.Load()) && ctx.Err() == nil
}

// did is called for a method that returns nothing but an error.
func did(ctx context.Context, h caller, method string, args func() string, call func() error) error {
	_, err := called(ctx, h, method, args, func() (struct{}, error) { return struct{}{}, call() }, func(struct{}) string { return "nil" })
	return err
}

// String lists the last calls.
func (l *callLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 {
		return "no call was made"
	}
	var b strings.Builder
	b.WriteString("the last calls:")
	for _, c := range l.calls {
		fmt.Fprintf(&b, "\n  %s", c)
	}
	return b.String()
}

// hanging returns a call that has not returned for so long, or nothing.
func (l *callLog) hanging(limit time.Duration) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.calls {
		if c.result == nil && time.Since(c.began) > limit {
			return c.String()
		}
	}
	return ""
}

func (l *callLog) slowest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slow == nil {
		return "none"
	}
	return fmt.Sprintf("%s, which took %v", l.slow, l.slow.took)
}

func (c *call) String() string {
	result := "(has not returned)"
	if c.result != nil {
		result = c.result()
	}
	return fmt.Sprintf("%d. handle %d: %s(%s): %s", c.number, c.handle, c.method, c.args(), result)
}
