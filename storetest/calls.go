package storetest

import (
	"fmt"
	"strings"
	"sync"
)

// callLog keeps the last calls of a case, for the message when it fails.
type callLog struct {
	mu    sync.Mutex
	calls []*call // the last ones, oldest first
	count int
}

// keptCalls is how many calls a failure shows.
const keptCalls = 8

// call is one call of a store's method.
type call struct {
	number int
	handle int
	method string
	args   func() string
	answer func() string // nil: it has not returned
}

func (l *callLog) begin(handle int, method string, args func() string) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	c := &call{number: l.count, handle: handle, method: method, args: args}
	// A call that has not returned stays: it is the one that a watchdog wants.
	for i := 0; len(l.calls) >= keptCalls && i < len(l.calls); i++ {
		if l.calls[i].answer != nil {
			l.calls = append(l.calls[:i], l.calls[i+1:]...)
			break
		}
	}
	l.calls = append(l.calls, c)
	return c
}

// end records the answer of a call that returned no error, or the error.
func (l *callLog) end(c *call, answer func() string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.answer = answer
	if err != nil {
		c.answer = func() string { return "error: " + err.Error() }
	}
}

// done is the answer of a call that returns nothing but an error.
func done() string { return "nil" }

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

// pending lists the calls that have not returned.
func (l *callLog) pending() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting []string
	for _, c := range l.calls {
		if c.answer == nil {
			waiting = append(waiting, c.String())
		}
	}
	if len(waiting) == 0 {
		return "no call is under way; the case itself waits"
	}
	return strings.Join(waiting, "; ")
}

func (c *call) String() string {
	answer := "(no answer yet)"
	if c.answer != nil {
		answer = c.answer()
	}
	return fmt.Sprintf("%d. handle %d: %s(%s): %s", c.number, c.handle, c.method, c.args(), answer)
}
