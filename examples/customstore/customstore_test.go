package customstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/examples/customstore"
	"github.com/jwtrenew/renew/storetest"
)

// TestMain serves the store in the processes that TestCrash starts and kills.
func TestMain(m *testing.M) {
	storetest.ServeProcess(func(file string) (renew.TokenStore, error) { return customstore.Open(file) })
	os.Exit(m.Run())
}

// rounds are all that look for races in CI, which sets the variable. Otherwise they are
// few, so that a change is tested soon, and very few with -short.
func rounds() storetest.Option {
	switch {
	case testing.Short():
		return storetest.WithRounds(0.02)
	case os.Getenv("RENEW_TEST_ROUNDS") != "":
		return storetest.WithRounds(1)
	}
	return storetest.WithRounds(0.1)
}

// slowness is for a disk that others keep busy: bbolt waits for it at every write.
var slowness = storetest.WithSlowness(10)

// TestLaws holds the store to every law that needs no crash. One process alone
// may have a bbolt file open, so that both handles are one store. An outage of a
// database in the same process is a file that is closed.
func TestLaws(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions.db")
	store := open(t, file)
	outage := storetest.WithOutage(func(tb testing.TB) (restore func()) {
		closeStore(tb, store)
		return func() { *store = *open(tb, file) }
	})
	t.Cleanup(func() { closeStore(t, store) })
	storetest.TestTokenStore(t, func(testing.TB) renew.TokenStore { return store }, slowness, outage, rounds())
}

// TestCrash holds the store to every law across the border of a process, which
// is killed in the middle of its work. TestLaws has made all rounds of the others.
func TestCrash(t *testing.T) {
	process := storetest.StartProcess(t, filepath.Join(t.TempDir(), "sessions.db"))
	storetest.TestTokenStore(t, process.Open, slowness,
		storetest.WithCrash(process.Crash), storetest.WithRounds(0.1))
}

func open(tb testing.TB, file string) *customstore.Store {
	tb.Helper()
	store, err := customstore.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

func closeStore(tb testing.TB, store *customstore.Store) {
	tb.Helper()
	if err := store.Close(); err != nil {
		tb.Error(err)
	}
}
