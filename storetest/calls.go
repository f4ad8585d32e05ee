package storetest

import (
	"fmt"
	"strings"
	"sync"
	"time"
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
	args   string
	answer string // empty: it has not returned
	begun  time.Time
}

func (l *callLog) begin(handle int, method string, args ...string) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	c := &call{number: l.count, handle: handle, method: method, args: strings.Join(args, ", "), begun: time.Now()}
	// A call that has not returned stays: it is the one that a watchdog wants.
	for i := 0; len(l.calls) >= keptCalls && i < len(l.calls); i++ {
		if l.calls[i].answer != "" {
			l.calls = append(l.calls[:i], l.calls[i+1:]...)
			break
		}
	}
	l.calls = append(l.calls, c)
	return c
}

func (l *callLog) end(c *call, answer string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		c.answer = "error: " + err.Error()
	case answer == "":
		c.answer = "nil"
	default:
		c.answer = answer
	}
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

// pending lists the calls that have not returned.
func (l *callLog) pending() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var waiting []string
	for _, c := range l.calls {
		if c.answer == "" {
			waiting = append(waiting, c.String())
		}
	}
	if len(waiting) == 0 {
		return "no call is under way; the case itself waits"
	}
	return strings.Join(waiting, "; ")
}

func (c *call) String() string {
	answer := c.answer
	if answer == "" {
		answer = "(no answer yet)"
	}
	return fmt.Sprintf("%d. handle %d: %s(%s): %s", c.number, c.handle, c.method, c.args, answer)
}
