package redisstore_test

import (
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
