package redisstore_test

import (
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/redisstore/internal/redistest"
	"github.com/jwtrenew/renew/storetest"
)

// longUnlessAsked skips a test that takes long and that no variable asks for.
func longUnlessAsked(tb testing.TB) {
	tb.Helper()
	if !everything() {
		rounds.Long(tb)
	}
}

// TestTokenStoreLaws holds the store to the laws of renew.TokenStore, on one Redis if
// RENEW_TEST_ROUNDS is set. With all rounds it does so on a cluster too, and on one also
// without the client's repetitions, with few rounds where it is not the first time; with
// Sentinels TestFailoverLaws does. The environment variable RENEW_TEST_REDIS_LAWS=1 has it
// run with and without repetitions on every form, with the rounds that RENEW_TEST_ROUNDS
// asks for.
func TestTokenStoreLaws(t *testing.T) {
	longUnlessAsked(t)
	t.Parallel()
	onForms(t, allRounds(t), func(t *testing.T, f *form) {
		withAndWithoutRetries(t, f.name == "one" && allRounds(t), func(t *testing.T, change func(*redis.UniversalOptions), first bool) {
			storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore { return f.tokens(tb, f.client(tb, change)) },
				append(f.failures(), f.rounds(t, first))...)
		})
	})
}

// TestKeyStoreLaws is the same for renew.KeyStore, with Sentinels and without the client's
// repetitions only if RENEW_TEST_REDIS_LAWS is 1.
func TestKeyStoreLaws(t *testing.T) {
	longUnlessAsked(t)
	t.Parallel()
	onForms(t, allRounds(t), func(t *testing.T, f *form) {
		withAndWithoutRetries(t, false, func(t *testing.T, change func(*redis.UniversalOptions), first bool) {
			storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return f.keys(tb, f.client(tb, change)) },
				append(f.failures(), f.rounds(t, first))...)
		})
	})
}

// withAndWithoutRetries runs the test with the client's repetitions, and without them if
// that is asked for.
func withAndWithoutRetries(t *testing.T, without bool, test func(t *testing.T, change func(*redis.UniversalOptions), first bool)) {
	t.Helper()
	t.Run("retries", func(t *testing.T) { test(t, func(*redis.UniversalOptions) {}, true) })
	if without || everything() {
		t.Run("no retries", func(t *testing.T) { test(t, withoutRetries, false) })
	}
}

// rounds are few on all forms but the first one: the scripts are the same everywhere.
func (f *form) rounds(tb testing.TB, first bool) storetest.Option {
	tb.Helper()
	share := rounds.Share(tb)
	if !everything() && (!first || f.name != "one") {
		share = min(share, 0.1)
	}
	return storetest.WithRounds(share)
}

// TestFailoverLaws holds the store to the laws about failovers, F1 to F3, and to the
// others beside them, on a primary with replicas that is replaced by Sentinels, each
// time after its replicas were cut off: what it acknowledges then is lost. The other
// laws are TestTokenStoreLaws' and make few rounds here. It takes a minute and a half,
// so that it runs with all rounds.
func TestFailoverLaws(t *testing.T) {
	if !allRounds(t) {
		t.Skipf("it takes a minute and a half: set %s=%d", rounds.Variable, rounds.All)
	}
	t.Parallel()
	s := redistest.StartSentinel(t, quickly)
	f := &form{name: "Sentinel", servers: s.Servers, settle: s.Settle, options: redis.UniversalOptions{MasterName: redistest.Master, Addrs: s.Addrs()}}
	storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore { return f.tokens(tb, f.client(tb)) },
		storetest.WithSlowness(3), storetest.WithRounds(0.02),
		storetest.WithFailover(func(tb testing.TB) { s.Promote(tb, 300*time.Millisecond) }))
}

// onForms runs the test on one Redis, on a cluster if withCluster is true, and on every
// form if RENEW_TEST_REDIS_LAWS is 1, all at the same time: they mostly wait.
func onForms(t *testing.T, withCluster bool, test func(t *testing.T, f *form)) {
	t.Helper()
	for _, start := range []struct {
		name string
		form func(testing.TB) *form
		runs bool
	}{
		{"one", oneServer, true},
		{"Sentinel", sentinel, everything()},
		{"Cluster", cluster, everything() || withCluster},
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
