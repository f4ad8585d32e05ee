package redisstore_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/redisstore"
)

// TestNewClient promises what a URL means.
func TestNewClient(t *testing.T) {
	for _, c := range []struct {
		name, url string
		check     func(t *testing.T, client redis.UniversalClient)
	}{
		{"one", "redis://user:pass@h1:1/2?read_timeout=2s", func(t *testing.T, client redis.UniversalClient) {
			o := client.(*redis.Client).Options()
			require.Equal(t, []any{"h1:1", "user", "pass", 2, 2 * time.Second}, []any{o.Addr, o.Username, o.Password, o.DB, o.ReadTimeout})
			require.Nil(t, o.TLSConfig)
		}},
		{"one over TLS", "rediss://h1", func(t *testing.T, client redis.UniversalClient) {
			o := client.(*redis.Client).Options()
			require.Equal(t, "h1:6379", o.Addr)
			require.NotNil(t, o.TLSConfig)
		}},
		{"Sentinel", "redis+sentinel://user:p%40ss@h1,h2:2/mymaster/3?pool_size=7&sentinel_password=x", func(t *testing.T, client redis.UniversalClient) {
			o := client.(*redis.Client).Options()
			require.Equal(t, []any{"user", "p@ss", 3, 7}, []any{o.Username, o.Password, o.DB, o.PoolSize})
		}},
		{"Cluster", "redis+cluster://:pass@h1:1,[::1]:2?max_retries=5", func(t *testing.T, client redis.UniversalClient) {
			o := client.(*redis.ClusterClient).Options()
			require.Equal(t, []string{"h1:1", "[::1]:2"}, o.Addrs)
			require.Equal(t, []any{"pass", 5}, []any{o.Password, o.MaxRetries})
		}},
		{"Cluster over TLS", "rediss+cluster://h1,h2", func(t *testing.T, client redis.UniversalClient) {
			o := client.(*redis.ClusterClient).Options()
			require.Equal(t, []string{"h1:6379", "h2:6379"}, o.Addrs)
			require.NotNil(t, o.TLSConfig)
			require.Empty(t, o.TLSConfig.ServerName)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := redisstore.NewClient(c.url)
			require.NoError(t, err)
			defer func() { _ = client.Close() }()
			c.check(t, client)
		})
	}
}

// TestNewClientShowsNoPassword promises that a malformed URL is an error that says
// what form it must have, and not what it held.
func TestNewClientShowsNoPassword(t *testing.T) {
	for _, url := range []string{
		"", "http://secret@h", "redis", "redis+other://secret@h", "redis://u:secret@h/secret", "redis://u:secret@h?secret=1",
		"redis://u:sec/secret@h", "redis://u:%secret@h",
		"redis+sentinel://u:secret@h1,h2", "redis+sentinel://u:secret@h/m/x", "redis+sentinel://u:secret@h/m/1/2",
		"redis+sentinel://u:secret@/m", "redis+sentinel://u:secret@h,,i/m", "redis+sentinel://u:secret@h:x/m",
		"redis+sentinel://h/m?replica_only=true", "redis+sentinel://h/m?master_name=secret", "redis+sentinel://h/m?secret=1",
		"redis+sentinel://h/m?route_by_latency=true", "redis+sentinel://h/m?route_randomly=true",
		"redis+cluster://h?read_only=true", "redis+cluster://h?route_by_latency=true", "redis+cluster://h?route_randomly=true",
		"redis+cluster://u:secret@h/secret", "redis+cluster://u:secret@h?addr=secret:1", "redis+cluster://u:%secret@h",
	} {
		_, err := redisstore.NewClient(url)
		require.ErrorIs(t, err, redisstore.ErrURL, url)
		require.NotContains(t, err.Error(), "secret", url)
	}
}
