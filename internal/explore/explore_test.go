package explore

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jwtrenew/renew/internal/rounds"
)

var (
	all    = flag.Bool("explore.all", false, "explore every configuration, the large ones too")
	replay = flag.String("explore.replay", "", "a schedule to replay, as a violation prints it")
)

// raceDetector says that the race detector is compiled in.
var raceDetector bool

// TestPromises visits every state of each configuration, with -short of each third one.
func TestPromises(t *testing.T) {
	if raceDetector {
		t.Skip("one goroutine visits all states, ten times as slowly with the race detector: run it without")
	}
	explored := small()
	if *all {
		explored = configs()
	}
	states := 0
	for i, c := range explored {
		t.Run(c.Name, func(t *testing.T) {
			if testing.Short() && i%3 > 0 {
				t.Skip("left out with -short")
			}
			began := time.Now()
			var r *Report
			var err error
			synctest.Test(t, func(*testing.T) { r, err = Explore(c) })
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states, %d transitions, %d runs, %v", r.States, r.Transitions, r.Runs, time.Since(began).Round(time.Millisecond))
			states += r.States
			for _, v := range r.Violations {
				t.Errorf("%v", v)
			}
		})
	}
	t.Logf("%d states of %d configurations", states, len(explored))
}

// TestOneProcess follows random schedules in which all requests share a Renewer,
// and requires that each does what it does alone.
func TestOneProcess(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, c := range small() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps, err := Walk(c, rounds.Of(t, 20), seed)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d steps", steps)
			})
		})
	}
}

// TestReplay runs one schedule again, as a violation prints it.
func TestReplay(t *testing.T) {
	if *replay == "" {
		t.Skip("no schedule to replay; say -explore.replay")
	}
	name, schedule, _ := strings.Cut(*replay, ":")
	for _, c := range configs() {
		if c.Name != name {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			told, v, err := Replay(c, schedule)
			switch {
			case err != nil:
				t.Fatal(err)
			case v != nil:
				t.Fatal(v)
			}
			t.Logf("no promise is broken:\n%s", strings.Join(told, "\n"))
		})
		return
	}
	t.Fatalf("no configuration is called %q", name)
}
