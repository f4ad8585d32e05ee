package redisstore_test

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/storetest"
)

// TestTokenStoreLaws holds the store to the laws of renew.TokenStore, on one Redis. With
// all rounds it does so on every form of Redis, and on one also without the client's
// repetitions; the environment variable RENEW_TEST_REDIS_LAWS=1 has it run without them
// on every form.
func TestTokenStoreLaws(t *testing.T) {
	t.Parallel()
	onForms(t, func(t *testing.T, f *form) {
		for _, c := range []struct {
			name   string
			change func(*redis.UniversalOptions)
			runs   bool
		}{
			{"retries", func(*redis.UniversalOptions) {}, true},
			{"no retries", withoutRetries, everything() || f.name == "one" && allRounds(t)},
		} {
			if !c.runs {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
					return f.tokens(tb, f.client(tb, c.change))
				}, append(f.failures(), storetest.WithRounds(rounds.Share(t)))...)
			})
		}
	})
}

// TestKeyStoreLaws is the same for renew.KeyStore, with the client's repetitions.
func TestKeyStoreLaws(t *testing.T) {
	t.Parallel()
	onForms(t, func(t *testing.T, f *form) {
		storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return f.keys(tb, f.client(tb)) }, append(f.failures(), storetest.WithRounds(rounds.Share(t)))...)
	})
}

// onForms runs the test on one Redis and, with all rounds, on the other forms, all at
// the same time: they mostly wait.
func onForms(t *testing.T, test func(t *testing.T, f *form)) {
	t.Helper()
	for _, start := range []struct {
		name string
		form func(testing.TB) *form
		runs bool
	}{
		{"one", oneServer, true},
		{"Sentinel", sentinel, everything() || allRounds(t)},
		{"Cluster", cluster, everything() || allRounds(t)},
	} {
		if start.runs {
			t.Run(start.name, func(t *testing.T) {
				t.Parallel()
				test(t, start.form(t))
			})
		}
	}
}

// lawsVariable names the environment variable that has all suites run on all forms.
const lawsVariable = "RENEW_TEST_REDIS_LAWS"

func everything() bool { return os.Getenv(lawsVariable) == "1" }

func allRounds(tb testing.TB) bool { tb.Helper(); return rounds.Share(tb) == 1 }
