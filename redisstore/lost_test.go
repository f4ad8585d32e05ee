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
)

// lossy are connections to servers. When it is told to, the next one that gets a reply
// closes instead of passing it on: the server has done what the client asked for, and
// the client does not know.
type lossy struct {
	lose atomic.Int64 // so many replies
	lost atomic.Int64
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
	if err == nil && c.lossy.lose.Add(-1) >= 0 {
		c.lossy.lost.Add(1)
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestLostReplies promises that a caller gets success, or an error of unclear outcome,
// when replies are lost, and never an error that says that its own write was in vain:
// for each method, with each of its replies lost in turn, with the client's repetitions
// and without; with all rounds also with Sentinel and in a cluster.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	onForms(t, func(t *testing.T, f *form) {
		for _, c := range []struct {
			name    string
			change  func(*redis.UniversalOptions)
			repeats bool
		}{
			{"retries", func(*redis.UniversalOptions) {}, true},
			{"no retries", withoutRetries, false},
		} {
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
							lost, err := loseReply(t, f, c.change, at, method)
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

// loseReply calls the method while the reply after the first at ones is lost, and
// reports whether there was one.
func loseReply(t *testing.T, f *form, change func(*redis.UniversalOptions), at int, c fleettest.Call) (bool, error) {
	t.Helper()
	var l lossy
	client := f.client(t, change, l.option, func(o *redis.UniversalOptions) { o.PoolSize = 1 })
	defer func() { _ = client.Close() }()
	stores, sent := f.stores(t, client), 0
	client.AddHook(around{func(send func() error) error {
		if sent == at {
			l.lose.Store(1)
		}
		sent++
		return send()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := c.Do(ctx, stores)
	fleettest.RequireNotNamed(t, err, "reply %d was lost", at+1)
	return l.lost.Load() > 0, err
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
