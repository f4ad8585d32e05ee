package redisstore_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/redisstore"
)

// lossy are connections to servers. When they are told to, one closes in the place of a
// reply: the server has done what the client asked for, and the client does not know.
type lossy struct {
	armed atomic.Bool
	skip  atomic.Int64 // so many replies pass first
	lost  atomic.Bool
}

// arm has the reply after the next n be lost.
func (l *lossy) arm(n int) {
	l.skip.Store(int64(n))
	l.armed.Store(true)
}

func (l *lossy) option(o *redis.UniversalOptions) {
	o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &lossyConn{conn, l}, nil
	}
}

type lossyConn struct {
	net.Conn
	lossy *lossy
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.lossy.armed.Load() && c.lossy.skip.Add(-1) == -1 {
		c.lossy.lost.Store(true)
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestLostReplies promises that a caller gets success, or an error of unclear outcome,
// when replies are lost, and never an error that says that its own write did not happen:
// for each method, with each of its replies lost in turn, with the client's repetitions
// and without; with RENEW_TEST_REDIS_LAWS=1 also with Sentinel and in a cluster, there
// with WithWait, too.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	onForms(t, false, func(t *testing.T, f *form) {
		for _, c := range []struct {
			name    string
			change  func(*redis.UniversalOptions)
			opts    []redisstore.Option
			repeats bool
			runs    bool
		}{
			{"retries", func(*redis.UniversalOptions) {}, nil, true, true},
			{"no retries", withoutRetries, nil, false, true},
			{"waiting", func(*redis.UniversalOptions) {}, []redisstore.Option{redisstore.WithWait(1, time.Second)}, true, f.name != "one"},
		} {
			if !c.runs {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				s := newSession("session")
				direct := f.client(t)
				for i, method := range fleettest.Calls(t, s) {
					t.Run(method.Name, func(t *testing.T) {
						for at := 0; ; at++ {
							flush(t, direct)
							stores := f.stores(t, direct)
							fleettest.Prepare(t, stores, s)
							method := fleettest.Calls(t, s)[i]
							client, l := f.lossyClient(t, c.change)
							disturbed := f.stores(t, client, c.opts...)
							l.arm(at)
							err := method.Do(t.Context(), disturbed)
							lost := l.lost.Load()
							_ = client.Close()
							fleettest.RequireNotNamed(t, err, "reply %d was lost", at+1)
							if err == nil {
								method.Check(t, stores)
							}
							if c.repeats {
								require.NoError(t, err, "reply %d was lost, and the client has repeated the command", at+1)
							}
							if !lost {
								require.NoError(t, err)
								require.Positive(t, at)
								return
							}
						}
					})
				}
			})
		}
	})
}

// lossyClient returns a client of one connection to each server.
func (f *form) lossyClient(t *testing.T, change func(*redis.UniversalOptions)) (redis.UniversalClient, *lossy) {
	t.Helper()
	l := &lossy{}
	return f.client(t, change, l.option, func(o *redis.UniversalOptions) { o.PoolSize = 1 }), l
}

// onAll calls f for each server that takes writes.
func onAll(t *testing.T, client redis.UniversalClient, f func(ctx context.Context, c *redis.Client) error) {
	t.Helper()
	if cluster, ok := client.(*redis.ClusterClient); ok {
		require.NoError(t, cluster.ForEachMaster(t.Context(), f))
		return
	}
	require.NoError(t, f(t.Context(), client.(*redis.Client)))
}

func flush(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	onAll(t, client, func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() })
}
