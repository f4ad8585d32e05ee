package dynamostore_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/storetest"
)

const (
	testApp   = fleettest.AppID
	testTable = "renew"
)

var (
	base         = fleettest.Base
	app          = fleettest.App
	newSession   = fleettest.NewSession
	successor    = fleettest.Successor
	newKey       = fleettest.NewKey
	newEncrypter = fleettest.NewEncrypter

	newIdempotencyKey = fleettest.NewIdempotencyKey
)

// tableVariable names the environment variable that has the suites of laws run on a
// table of DynamoDB, which must exist and should be empty. Region, credentials and,
// for another emulator, AWS_ENDPOINT_URL come from the variables of the SDK.
const tableVariable = "RENEW_TEST_DYNAMODB_TABLE"

// backend is a table, and how to reach it.
type backend struct {
	table    string
	emulator *dbtest.Dynalite // nil: a table of DynamoDB
	proxy    *storetest.Proxy // before the emulator; it loses responses
	config   aws.Config
}

// dynalite starts an emulator with an empty table.
func dynalite(tb testing.TB) *backend {
	tb.Helper()
	return withTable(tb, dbtest.StartDynalite(tb, false))
}

// plainDynalite starts one that has no time to live and returns no item when a
// condition has failed.
func plainDynalite(tb testing.TB) *backend {
	tb.Helper()
	return withTable(tb, dbtest.StartDynalite(tb, true))
}

func withTable(tb testing.TB, emulator *dbtest.Dynalite) *backend {
	tb.Helper()
	proxy := storetest.NewProxy(tb, strings.TrimPrefix(emulator.URL, "http://"))
	b := &backend{testTable, emulator, proxy, aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://" + proxy.Address()),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}}
	require.NoError(tb, dynamostore.CreateTable(context.Background(), b.client(tb), testTable))
	return b
}

// realTable is the table that the environment names, or nil.
func realTable(tb testing.TB) *backend {
	tb.Helper()
	table := os.Getenv(tableVariable)
	if table == "" {
		return nil
	}
	c, err := config.LoadDefaultConfig(context.Background())
	require.NoError(tb, err)
	return &backend{table: table, config: c}
}

// client is another process's.
func (b *backend) client(tb testing.TB, change ...func(*dynamodb.Options)) *dynamodb.Client {
	tb.Helper()
	return dynamodb.NewFromConfig(b.config, change...)
}

func withoutRetries(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }

func (b *backend) tokens(tb testing.TB, client *dynamodb.Client, opts ...dynamostore.Option) *dynamostore.TokenStore {
	tb.Helper()
	store, err := dynamostore.NewTokenStore(context.Background(), client, b.table, opts...)
	require.NoError(tb, err)
	return store
}

func (b *backend) keys(tb testing.TB, client *dynamodb.Client, opts ...dynamostore.Option) *dynamostore.KeyStore {
	tb.Helper()
	store, err := dynamostore.NewKeyStore(context.Background(), client, b.table, newEncrypter(tb),
		append([]dynamostore.Option{dynamostore.WithStatusInterval(0)}, opts...)...)
	require.NoError(tb, err)
	return store
}

// stores are both, of another process.
func (b *backend) stores(tb testing.TB, client *dynamodb.Client) fleettest.Stores {
	tb.Helper()
	s, err := b.open(tb, client)
	require.NoError(tb, err)
	return s
}

// open returns both, of another process, or why they cannot be made.
func (b *backend) open(tb testing.TB, client *dynamodb.Client) (s fleettest.Stores, err error) {
	tb.Helper()
	if s.Tokens, err = dynamostore.NewTokenStore(context.Background(), client, b.table); err != nil {
		return fleettest.Stores{}, err
	}
	s.Keys, err = dynamostore.NewKeyStore(context.Background(), client, b.table, newEncrypter(tb), dynamostore.WithStatusInterval(0))
	return s, err
}

// failures are the ways in which the emulator can fail. No one can kill DynamoDB.
func (b *backend) failures() []storetest.Option {
	if b.emulator == nil {
		return []storetest.Option{storetest.WithSlowness(3)}
	}
	opts := []storetest.Option{
		storetest.WithSlowness(3),
		storetest.WithOutage(func(tb testing.TB) func() {
			b.emulator.Kill()
			return func() { b.emulator.Start(tb) }
		}),
		storetest.WithCrash(func(tb testing.TB) {
			b.emulator.Kill()
			b.emulator.Start(tb)
		}),
	}
	if everything() { // TestLostReplies does it otherwise
		opts = append(opts, storetest.WithProxy(b.proxy))
	}
	return opts
}
