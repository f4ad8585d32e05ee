package redisstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/redisstore"
	"github.com/jwtrenew/renew/redisstore/internal/redistest"
	"github.com/jwtrenew/renew/storetest"
)

const testApp = fleettest.AppID

var (
	base         = fleettest.Base
	app          = fleettest.App
	newSession   = fleettest.NewSession
	successor    = fleettest.Successor
	newKey       = fleettest.NewKey
	newEncrypter = fleettest.NewEncrypter

	newIdempotencyKey = fleettest.NewIdempotencyKey
)

// form is one of the three forms of Redis, running.
type form struct {
	name    string
	servers []*redistest.Server // that hold data
	settle  func(tb testing.TB) // waits until all is as after a start
	options redis.UniversalOptions
	proxy   *storetest.Proxy // before the server, if there is one; it loses replies
}

// slowly is for how long a server may be away before it is replaced, in tests that
// kill all of them and start them again.
const slowly = 20 * time.Second

func oneServer(tb testing.TB) *form {
	tb.Helper()
	s := redistest.Start(tb)
	p := storetest.NewProxy(tb, s.Addr())
	return &form{
		name: "one", servers: []*redistest.Server{s}, settle: func(testing.TB) {},
		options: redis.UniversalOptions{Addrs: []string{p.Address()}}, proxy: p,
	}
}

// sentinel returns the form with Sentinels, which take long to start, like a cluster.
func sentinel(tb testing.TB) *form {
	tb.Helper()
	longUnlessAsked(tb)
	s := redistest.StartSentinel(tb, slowly)
	return &form{name: "Sentinel", servers: s.Servers, settle: s.Settle, options: redis.UniversalOptions{MasterName: redistest.Master, Addrs: s.Addrs()}}
}

func cluster(tb testing.TB) *form {
	tb.Helper()
	longUnlessAsked(tb)
	c := redistest.StartCluster(tb, slowly)
	return &form{name: "Cluster", servers: c.Servers, settle: c.Settle, options: redis.UniversalOptions{Addrs: c.Addrs(), IsClusterMode: true}}
}

// client is another process's.
func (f *form) client(tb testing.TB, change ...func(*redis.UniversalOptions)) redis.UniversalClient {
	tb.Helper()
	options := f.options
	options.PoolSize = 16
	options.DialerRetries, options.MaxRetryBackoff = 1, 20*time.Millisecond // a server that is away is soon known to be
	for _, c := range change {
		c(&options)
	}
	client := redis.NewUniversalClient(&options)
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func withoutRetries(o *redis.UniversalOptions) { o.MaxRetries = -1 }

func (f *form) tokens(tb testing.TB, client redis.UniversalClient, opts ...redisstore.Option) *redisstore.TokenStore {
	tb.Helper()
	store, err := redisstore.NewTokenStore(context.Background(), client, opts...)
	require.NoError(tb, err)
	return store
}

func (f *form) keys(tb testing.TB, client redis.UniversalClient, opts ...redisstore.Option) *redisstore.KeyStore {
	tb.Helper()
	store, err := redisstore.NewKeyStore(context.Background(), client, newEncrypter(tb),
		append([]redisstore.Option{redisstore.WithStatusInterval(0)}, opts...)...)
	require.NoError(tb, err)
	return store
}

// stores are both, of another process.
func (f *form) stores(tb testing.TB, client redis.UniversalClient, opts ...redisstore.Option) fleettest.Stores {
	tb.Helper()
	return fleettest.Stores{Tokens: f.tokens(tb, client, opts...), Keys: f.keys(tb, client, opts...)}
}

func (f *form) kill() {
	var all sync.WaitGroup
	for _, s := range f.servers {
		all.Go(s.Kill)
	}
	all.Wait()
}

func (f *form) start(tb testing.TB) {
	tb.Helper()
	for _, s := range f.servers {
		s.Start(tb)
	}
	f.settle(tb)
}

// failures are the ways in which Redis can fail, without a failover.
func (f *form) failures() []storetest.Option {
	opts := []storetest.Option{
		storetest.WithSlowness(3),
		storetest.WithOutage(func(tb testing.TB) func() {
			f.kill()
			return func() { f.start(tb) }
		}),
		storetest.WithCrash(func(tb testing.TB) {
			f.kill()
			f.start(tb)
		}),
	}
	if f.proxy != nil {
		opts = append(opts, storetest.WithProxy(f.proxy))
	}
	return opts
}
