package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/redisstore"
)

// migration moves a slot of a cluster from one server to another, step by step.
type migration struct {
	t        *testing.T
	slot     int64
	from, to *redis.Client
	ids      map[*redis.Client]string
	others   []*redis.Client
}

func migrate(t *testing.T, cluster *redis.ClusterClient, slot int64) *migration {
	t.Helper()
	m := &migration{t: t, slot: slot, ids: map[*redis.Client]string{}}
	owner, err := cluster.MasterForKey(t.Context(), keyOfSlot(cluster, t, slot))
	require.NoError(t, err)
	servers := make(chan *redis.Client, 3)
	onAll(t, cluster, func(_ context.Context, c *redis.Client) error {
		servers <- c
		return nil
	})
	close(servers)
	for c := range servers {
		m.ids[c] = c.Do(t.Context(), "CLUSTER", "MYID").Val().(string)
		switch {
		case c.Options().Addr == owner.Options().Addr:
			m.from = c
		case m.to == nil:
			m.to = c
		default:
			m.others = append(m.others, c)
		}
	}
	return m
}

// keyOfSlot returns a key that is in the slot.
func keyOfSlot(cluster *redis.ClusterClient, t *testing.T, slot int64) string {
	t.Helper()
	for i := 0; ; i++ {
		key := fmt.Sprintf("{%03x}", i)
		if cluster.ClusterKeySlot(t.Context(), key).Val() == slot {
			return key
		}
	}
}

func (m *migration) begin() {
	m.t.Helper()
	require.NoError(m.t, m.to.Do(m.t.Context(), "CLUSTER", "SETSLOT", m.slot, "IMPORTING", m.ids[m.from]).Err())
	require.NoError(m.t, m.from.Do(m.t.Context(), "CLUSTER", "SETSLOT", m.slot, "MIGRATING", m.ids[m.to]).Err())
}

// move moves the keys that f chooses.
func (m *migration) move(f func(key string) bool) {
	m.t.Helper()
	keys, err := m.from.ClusterGetKeysInSlot(m.t.Context(), int(m.slot), 1000).Result()
	require.NoError(m.t, err)
	keys = slices.DeleteFunc(keys, func(key string) bool { return !f(key) })
	if len(keys) == 0 {
		return
	}
	host, port := "127.0.0.1", m.to.Options().Addr[len("127.0.0.1:"):]
	args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
	for _, key := range keys {
		args = append(args, key)
	}
	require.NoError(m.t, m.from.Do(m.t.Context(), args...).Err())
}

func (m *migration) end() {
	m.t.Helper()
	for _, c := range append([]*redis.Client{m.to, m.from}, m.others...) {
		require.NoError(m.t, c.Do(m.t.Context(), "CLUSTER", "SETSLOT", m.slot, "NODE", m.ids[m.to]).Err())
	}
}

// TestCluster has the tests that need a cluster and nothing of its servers' time.
func TestCluster(t *testing.T) {
	t.Parallel()
	f := cluster(t)
	t.Run("slot is moved", func(t *testing.T) { testSlotIsMoved(t, f) })
	t.Run("lost entry", func(t *testing.T) { testLostEntry(t, f) })
}

// testSlotIsMoved promises that every method works while the slot of a session is moved
// to another server of the cluster, with WithWait and without: before any key is moved,
// when all are, and afterwards. When some keys are moved and others not, a call waits
// for the rest; it fails without a wrong result if that takes too long.
func testSlotIsMoved(t *testing.T, f *form) {
	t.Helper()
	ctx := t.Context()
	for _, c := range []struct {
		name        string
		opts, hasty []redisstore.Option
	}{
		{"no wait", nil, nil},
		{"wait", patiently, []redisstore.Option{redisstore.WithWait(1, 400*time.Millisecond)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := f.client(t, patient).(*redis.ClusterClient)
			flush(t, client)
			store := f.tokens(t, client, c.opts...)
			hasty := f.tokens(t, client, append(c.hasty, redisstore.WithCommandTimeout(500*time.Millisecond))...)
			s := newSession("session")
			require.NoError(t, store.CreateSession(ctx, s))
			var slot int64
			onAll(t, client, func(ctx context.Context, c *redis.Client) error {
				keys, err := c.Keys(ctx, "*:session:*").Result()
				if len(keys) == 1 {
					slot = client.ClusterKeySlot(ctx, keys[0]).Val()
				}
				return err
			})
			rotate := func(store *redisstore.TokenStore) error {
				next := successor(s)
				err := store.Rotate(ctx, s.TokenID, next)
				if err == nil {
					s = next
				}
				return err
			}
			works := func(when string) {
				t.Helper()
				require.NoError(t, rotate(store), when)
				require.ErrorIs(t, store.Rotate(ctx, s.PreviousTokenID, successor(s)), renew.ErrConflict, when)
				require.ErrorIs(t, store.CreateSession(ctx, s), renew.ErrSessionExists, when)
				got, err := store.Session(ctx, testApp, s.ID)
				require.NoError(t, err, when)
				require.Equal(t, s, got, when)
				all, err := store.SubjectSessions(ctx, testApp, s.Subject, base)
				require.NoError(t, err, when)
				require.Len(t, all, 1, when)
			}
			m := migrate(t, client, slot)
			m.begin()
			works("no key is moved")
			isSession := func(key string) bool { return key[len(key)-len(":ends"):] != ":ends" }
			m.move(isSession)
			got, err := store.Session(ctx, testApp, s.ID)
			require.NoError(t, err)
			require.Equal(t, s, got)
			err = rotate(hasty)
			require.Error(t, err, "some keys are moved, and the rest do not follow")
			fleettest.RequireNotNamed(t, err)
			followed := make(chan error, 1)
			go func() { followed <- rotate(store) }()
			time.Sleep(100 * time.Millisecond)
			m.move(func(string) bool { return true })
			require.NoError(t, <-followed, "the rest of the keys follows")
			works("all keys are moved")
			m.end()
			works("the slot is moved")
			require.NoError(t, store.RevokeSession(ctx, testApp, s.ID, base))
			n, err := store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		})
	}
}

// testLostEntry promises that a session of a cluster whose entry in the index of its
// subject a failover has lost is listed again after its first renewal.
func testLostEntry(t *testing.T, f *form) {
	t.Helper()
	ctx, client := t.Context(), f.client(t)
	flush(t, client)
	store := f.tokens(t, client)
	s := newSession("session")
	require.NoError(t, store.CreateSession(ctx, s))
	onAll(t, client, func(ctx context.Context, c *redis.Client) error {
		keys, err := c.Keys(ctx, "*:subject").Result()
		if len(keys) > 0 {
			err = errors.Join(err, c.Del(ctx, keys...).Err())
		}
		return err
	})
	var sent, rotations atomic.Int64
	client.AddHook(around{func(send func() error) error {
		sent.Add(1)
		return send()
	}})
	var all sync.WaitGroup
	for range 8 { // of which one comes first
		all.Go(func() {
			switch err := store.Rotate(ctx, s.TokenID, successor(s)); {
			case err == nil:
				rotations.Add(1)
			case !errors.Is(err, renew.ErrConflict):
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, rotations.Load())
	require.EqualValues(t, 8+1, sent.Load(), "the first renewal is a round trip more")
	next, err := store.Session(ctx, testApp, s.ID)
	require.NoError(t, err)
	listed, err := store.SubjectSessions(ctx, testApp, s.Subject, base)
	require.NoError(t, err)
	require.Equal(t, []renew.Session{next}, listed)
	sent.Store(0)
	require.NoError(t, store.Rotate(ctx, next.TokenID, successor(next)))
	require.EqualValues(t, 1, sent.Load(), "another renewal is not")
	n, err := store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	onAll(t, client, func(ctx context.Context, c *redis.Client) error {
		left, err := c.Keys(ctx, "*:subject").Result()
		if len(left) > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return err
	})
}

// TestReplicasOnly promises that a client of Sentinel which uses replicas only is
// rejected when a store is made.
func TestReplicasOnly(t *testing.T) {
	t.Parallel()
	f := sentinel(t)
	_, err := redisstore.NewTokenStore(t.Context(), f.client(t, func(o *redis.UniversalOptions) { o.ReadOnly = true }))
	require.ErrorContains(t, err, "the stores need the primary")
}
