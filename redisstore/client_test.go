package redisstore_test

import (
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/redisstore"
)

// TestClientOptions promises that every method works with the client's options that
// change what it sends, and how it reads a reply.
func TestClientOptions(t *testing.T) {
	f := oneServer(t)
	direct := f.client(t)
	for name, change := range map[string]func(*redis.UniversalOptions){
		"RESP2":            func(o *redis.UniversalOptions) { o.Protocol = 2 },
		"RESP3":            func(o *redis.UniversalOptions) { o.Protocol = 3 },
		"context timeouts": func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true },
		"no read timeout":  func(o *redis.UniversalOptions) { o.ReadTimeout, o.WriteTimeout = -1, -1 },
		"pool of one":      func(o *redis.UniversalOptions) { o.PoolSize = 1 },
		"pool as a queue":  func(o *redis.UniversalOptions) { o.PoolFIFO = true },
		"another database": func(o *redis.UniversalOptions) { o.DB = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession("session")
			client := f.client(t, change)
			for i := range fleettest.Calls(t, s) {
				require.NoError(t, direct.FlushAll(t.Context()).Err())
				stores := f.stores(t, client, redisstore.WithKeyPrefix("p:"))
				fleettest.Prepare(t, stores, s)
				c := fleettest.Calls(t, s)[i]
				require.NoError(t, c.Do(t.Context(), stores), c.Name)
				c.Check(t, stores)
			}
		})
	}
}

// TestClientThatPanics promises that a panic of a hook of the client, which is called in
// a goroutine of this package, does not end the process: it is an error of unclear
// outcome.
func TestClientThatPanics(t *testing.T) {
	f, s := oneServer(t), newSession("session")
	direct := f.client(t)
	for i, c := range fleettest.Calls(t, s) {
		t.Run(c.Name, func(t *testing.T) {
			require.NoError(t, direct.FlushAll(t.Context()).Err())
			client := f.client(t)
			stores := f.stores(t, client)
			fleettest.Prepare(t, stores, s)
			var armed atomic.Bool
			client.AddHook(around{func(send func() error) error {
				if armed.Swap(false) {
					panic("a hook's bug")
				}
				return send()
			}})
			armed.Store(true)
			err := c.Do(t.Context(), stores)
			require.ErrorContains(t, err, "panicked: a hook's bug")
			fleettest.RequireNotNamed(t, err, "the first command panicked")
			again := fleettest.Calls(t, s)[i]
			require.NoError(t, again.Do(t.Context(), stores))
		})
	}
}
