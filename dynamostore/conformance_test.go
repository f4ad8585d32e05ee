package dynamostore_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/storetest"
)

// lawsVariable names the environment variable that has the laws of both stores run in all
// variants.
const lawsVariable = "RENEW_TEST_DYNAMODB_LAWS"

func everything() bool { return os.Getenv(lawsVariable) == "1" }

// longUnlessAsked skips laws that no variable asks for: dynalite takes minutes.
func longUnlessAsked(tb testing.TB) {
	tb.Helper()
	if !everything() && os.Getenv(tableVariable) == "" {
		rounds.Long(tb)
	}
}

// TestTokenStoreLaws holds the store to the laws of renew.TokenStore, on dynalite if
// RENEW_TEST_ROUNDS is set, and with all rounds, or RENEW_TEST_DYNAMODB_LAWS=1, also
// without the SDK's repetitions, and on a dynalite that returns no item when a condition
// has failed. With RENEW_TEST_DYNAMODB_TABLE it runs on that table instead.
func TestTokenStoreLaws(t *testing.T) {
	longUnlessAsked(t)
	t.Parallel()
	all := rounds.Share(t) == 1 || everything()
	for _, c := range []struct {
		name    string
		backend func(testing.TB) *backend
		change  func(*dynamodb.Options)
		runs    bool
		rounds  float64
	}{
		{"retries", dynalite, func(*dynamodb.Options) {}, true, share(t)},
		{"no retries", dynalite, withoutRetries, all, 0.1},
		{"no items", plainDynalite, func(*dynamodb.Options) {}, all, 0.1},
	} {
		if !c.runs {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			b := realTable(t)
			if b == nil {
				b = c.backend(t)
			}
			storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
				return b.ofCase(tb).tokens(tb, b.client(tb, c.change))
			}, append(b.failures(), storetest.WithRounds(c.rounds))...)
		})
	}
}

// TestKeyStoreLaws is the same for renew.KeyStore, with the SDK's repetitions, and
// without them if RENEW_TEST_DYNAMODB_LAWS is 1.
func TestKeyStoreLaws(t *testing.T) {
	longUnlessAsked(t)
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*dynamodb.Options)
		runs   bool
	}{
		{"retries", func(*dynamodb.Options) {}, true},
		{"no retries", withoutRetries, everything()},
	} {
		if !c.runs {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			b := realTable(t)
			if b == nil {
				b = dynalite(t)
			}
			storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return b.keys(tb, b.client(tb, c.change)) },
				append(b.failures(), storetest.WithRounds(share(t)))...)
		})
	}
}

// share is a part of the rounds: dynalite, one JavaScript process, takes most of the time.
// With RENEW_TEST_DYNAMODB_LAWS=1 or on a real table it is all that RENEW_TEST_ROUNDS asks
// for.
func share(tb testing.TB) float64 {
	tb.Helper()
	if everything() || os.Getenv(tableVariable) != "" {
		return rounds.Share(tb)
	}
	return min(0.3, rounds.Share(tb))
}

// ofCase gives a case of law T11 its own table: DeleteExpired reads all of it, and
// what the cases of other laws have left makes that slow.
func (b *backend) ofCase(tb testing.TB) *backend {
	tb.Helper()
	law, name, found := strings.Cut(tb.Name(), "/T11/")
	if b.emulator == nil || !found {
		return b
	}
	own := *b
	own.table = strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(law[strings.LastIndex(law, "/")+1:] + "-" + name)
	require.NoError(tb, dynamostore.CreateTable(context.Background(), b.client(tb), own.table))
	return &own
}
