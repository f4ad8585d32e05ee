// Package rounds says how often a test repeats what depends on luck: a race, a
// kill, a random schedule. By default each test makes few, so that all modules
// together take minutes. The environment variable RENEW_TEST_ROUNDS, a whole number
// from 1, multiplies the rounds; .ci/run sets it to [All] for the packages that have such
// tests. Tests that take long need it, see [Long].
package rounds

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// Variable names the environment variable that multiplies the rounds.
const Variable = "RENEW_TEST_ROUNDS"

// All is the factor that .ci/run uses.
const All = 10

// Of returns n times the factor that [Variable] names, or n if it is not set.
func Of(tb testing.TB, n int) int {
	tb.Helper()
	factor, err := parse(os.Getenv(Variable))
	if err != nil {
		tb.Fatal(err)
	}
	return n * factor
}

// Slow is [Of] for rounds that take long, kills of a server or a process: at most
// three times n.
func Slow(tb testing.TB, n int) int {
	tb.Helper()
	return min(3*n, Of(tb, n))
}

// Share returns the part of the full effort that a test should make: 1 if
// [Variable] is [All] or more, a tenth by default.
func Share(tb testing.TB) float64 {
	tb.Helper()
	return min(1, float64(Of(tb, 1))/All)
}

// Long skips a test that takes long, unless [Variable] is set.
func Long(tb testing.TB) {
	tb.Helper()
	if os.Getenv(Variable) == "" {
		tb.Skipf("it takes long: set %s=1", Variable)
	}
}

func parse(text string) (factor int, err error) {
	if text == "" {
		return 1, nil
	}
	factor, err = strconv.Atoi(text)
	if err != nil || factor < 1 {
		return 0, fmt.Errorf("%s is %q, but must be a whole number from 1", Variable, text)
	}
	return factor, nil
}
