package rounds

import (
	"os"
	"strings"
	"testing"
)

func TestFactor(t *testing.T) {
	for _, c := range []struct {
		name, value string
		rounds      int
		slow        int
		share       float64
	}{
		{name: "not set", value: "", rounds: 20, slow: 20, share: 0.1},
		{name: "one", value: "1", rounds: 20, slow: 20, share: 0.1},
		{name: "two", value: "2", rounds: 40, slow: 40, share: 0.2},
		{name: "five", value: "5", rounds: 100, slow: 60, share: 0.5},
		{name: "all", value: "10", rounds: 200, slow: 60, share: 1},
		{name: "more than all", value: "30", rounds: 600, slow: 60, share: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(Variable, c.value)
			if got := Of(t, 20); got != c.rounds {
				t.Errorf("Of(20) = %d, want %d", got, c.rounds)
			}
			if got := Slow(t, 20); got != c.slow {
				t.Errorf("Slow(20) = %d, want %d", got, c.slow)
			}
			if got := Share(t); got != c.share {
				t.Errorf("Share() = %v, want %v", got, c.share)
			}
		})
	}
}

// TestLong promises that a long test runs if the variable is set, and only then.
func TestLong(t *testing.T) {
	for value, runs := range map[string]bool{"": false, "1": true, "10": true} {
		t.Run(value, func(t *testing.T) {
			t.Setenv(Variable, value)
			ran := false
			t.Run("a test", func(t *testing.T) {
				Long(t)
				ran = true
			})
			if ran != runs {
				t.Errorf("with %q it ran: %t, want %t", value, ran, runs)
			}
		})
	}
}

func TestWrongFactorIsAnError(t *testing.T) {
	for _, value := range []string{"0", "-1", "all", "1.5", " 1", "99999999999999999999"} {
		if _, err := parse(value); err == nil || !strings.Contains(err.Error(), Variable) {
			t.Errorf("%q: error %v, want one that names %s", value, err, Variable)
		}
	}
}

// TestCIRunsAll keeps the two places that name the factor the same.
func TestCIRunsAll(t *testing.T) {
	script, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{Variable + "=1 ", Variable + "=10 "} {
		if All != 10 || !strings.Contains(string(script), want) {
			t.Errorf(".ci/run does not set %s", want)
		}
	}
}
