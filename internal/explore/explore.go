// Package explore visits every schedule of a small world around the real
// Renewer: an owner with several tabs, a thief, a store that loses replies and
// writes, clocks that step, keys that are replaced. It checks in every state that
// the promises of the design hold, and says how to get to one in which they do
// not.
//
// The search goes breadth first over states, each visited once, so that it ends
// and the schedule that it prints is a shortest one. What of a state decides
// about what follows is written out and hashed, with 128 bits: nothing is
// renamed or left out, so that equal states do have equal futures. Of the Renewer
// it holds the history of each request in flight (see process).
package explore

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
)

// Report is what an exploration has seen.
type Report struct {
	States      int
	Transitions int
	Runs        int // executions of the Renewer
	Violations  []*Violation
}

type seen struct {
	parent int32
	nth    uint16 // of the parent's actions
}

type hash [2]uint64

// Explore visits every state of the configuration. It reports one schedule, a
// shortest, for each rule that is broken, and looks no further behind a broken
// one.
func Explore(c *Config) (*Report, error) {
	w, start, err := newWorld(c)
	if err != nil {
		return nil, err
	}
	x := &search{world: w, start: start, report: &Report{}, visited: map[hash]struct{}{}, rules: map[string]bool{}}
	for i := range x.seeds {
		x.seeds[i] = maphash.MakeSeed()
	}
	err = x.run()
	x.report.Runs = len(w.process.nodes) - 1
	return x.report, err
}

type search struct {
	*world
	start   *state
	report  *Report
	visited map[hash]struct{}
	path    []seen
	rules   map[string]bool
	seeds   [2]maphash.Seed
	buffer  []byte
}

// queued is a state that is still to be looked at.
type queued struct {
	state *state
	id    int32
}

func (x *search) run() error {
	x.enter(x.start, -1, 0)
	queue := []queued{{x.start, 0}}
	for len(queue) > 0 {
		var next []queued
		for i, q := range queue {
			queue[i].state = nil // the memory is wanted for others
			for nth, a := range x.enabled(q.state) {
				s, v := x.apply(q.state, a)
				x.report.Transitions++
				if v == nil {
					v = x.checkAlways(s)
				}
				if v != nil {
					x.violated(q.id, nth, v)
					continue
				}
				if x.enter(s, q.id, nth) {
					next = append(next, queued{s, int32(len(x.path)) - 1}) //nolint:gosec // fewer
				}
			}
			if x.MaxStates > 0 && len(x.path) > x.MaxStates {
				return fmt.Errorf("%s: more than %d states", x.Name, x.MaxStates)
			}
		}
		queue = next
	}
	x.report.States = len(x.path)
	return nil
}

func (w *world) checkAlways(s *state) *Violation { return w.checkRest(s) }

// enter reports whether the state is new.
func (x *search) enter(s *state, parent int32, nth int) bool {
	x.buffer = s.encode(x.buffer[:0])
	h := hash{maphash.Bytes(x.seeds[0], x.buffer), maphash.Bytes(x.seeds[1], x.buffer)}
	if _, known := x.visited[h]; known {
		return false
	}
	x.visited[h] = struct{}{}
	x.path = append(x.path, seen{parent, uint16(nth)}) //nolint:gosec // few
	return true
}

func (x *search) violated(id int32, nth int, v *Violation) {
	if x.rules[v.Rule] {
		return
	}
	x.rules[v.Rule] = true
	choices := []int{nth}
	for ; id > 0; id = x.path[id].parent {
		choices = append(choices, int(x.path[id].nth))
	}
	reverse(choices)
	v.Config = x.Name
	var again *Violation
	if v.Schedule, again = x.tell(x.start, choices); again != nil {
		v.Detail = again.Detail // with the names of the schedule
	}
	texts := make([]string, len(choices))
	for i, c := range choices {
		texts[i] = strconv.Itoa(c)
	}
	v.Replay = x.Name + ":" + strings.Join(texts, ",")
	x.report.Violations = append(x.report.Violations, v)
}

// tell runs a schedule and says what happens in it, and what it breaks.
func (w *world) tell(s *state, choices []int) ([]string, *Violation) {
	var told []string
	w.names = nil
	w.nameOf(s.storage[owner])
	for _, nth := range choices {
		actions := w.enabled(s)
		if nth >= len(actions) {
			return append(told, fmt.Sprintf("there is no choice %d here, of %d", nth, len(actions))), nil
		}
		a := actions[nth]
		text := clockWords(s.clock) + "  " + w.words(s, a)
		next, v := w.apply(s, a)
		text += w.outcome(s, next, a)
		told = append(told, text)
		if v == nil {
			v = w.checkAlways(next)
		}
		if v != nil {
			return told, v
		}
		s = next
	}
	return told, nil
}

// Replay runs the schedule of a violation again. It returns what happened, step
// by step, and what was broken.
func Replay(c *Config, schedule string) ([]string, *Violation, error) {
	w, start, err := newWorld(c)
	if err != nil {
		return nil, nil, err
	}
	var choices []int
	for text := range strings.SplitSeq(schedule, ",") {
		nth, err := strconv.Atoi(text)
		if err != nil || nth < 0 {
			return nil, nil, fmt.Errorf("schedule: %q is not a choice", text)
		}
		choices = append(choices, nth)
	}
	told, v := w.tell(start, choices)
	if v != nil {
		v.Config, v.Replay, v.Schedule = c.Name, c.Name+":"+schedule, told
	}
	return told, v, nil
}
