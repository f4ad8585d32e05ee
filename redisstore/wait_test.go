package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/redisstore"
)

// TestWait promises that with WithWait every write is at a replica when it returns, on
// one primary with replicas and in a cluster; that one which too few replicas have is
// ErrReplicas and has happened; and that a Renewer gives no response that rests on it.
func TestWait(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *form{"Sentinel": sentinel, "Cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, ctx := start(t), t.Context()
			client := f.client(t, patient)
			store := f.tokens(t, client, patiently...)
			var all []renew.Session
			for i := range 20 {
				s := newSession(newIdempotencyKey())
				if i == 2 {
					s.RefreshExpiresAt = base.Add(time.Minute)
				}
				require.NoError(t, store.CreateSession(ctx, s))
				require.ErrorIs(t, store.CreateSession(ctx, s), renew.ErrSessionExists)
				next := successor(s)
				require.NoError(t, store.Rotate(ctx, s.TokenID, next))
				require.ErrorIs(t, store.Rotate(ctx, s.TokenID, successor(s)), renew.ErrConflict)
				all = append(all, next)
			}
			flushScripts(t, client)
			require.NoError(t, store.RevokeSession(ctx, testApp, all[0].ID, base))
			n, err := store.RevokeSubject(ctx, testApp, "subject", base, all[1].ID)
			require.NoError(t, err)
			require.Equal(t, len(all)-2, n)

			keys, err := redisstore.NewKeyStore(ctx, client, newEncrypter(t), patiently...)
			require.NoError(t, err)
			require.NoError(t, keys.CreateApp(ctx, app()))

			// Without a replica, nothing is acknowledged.
			for _, s := range f.servers {
				if s.Info("role") == "slave" {
					s.Kill()
				}
			}
			store = f.tokens(t, client, redisstore.WithWait(1, 200*time.Millisecond))
			live := all[1]
			next := successor(live)
			require.ErrorIs(t, store.Rotate(ctx, live.TokenID, next), redisstore.ErrReplicas)
			got, err := store.Session(ctx, testApp, live.ID)
			require.NoError(t, err)
			require.Equal(t, next, got, "it has happened")
			require.ErrorIs(t, store.Rotate(ctx, next.TokenID, next), redisstore.ErrReplicas, "a confirmation waits, too")
			require.ErrorIs(t, store.RevokeSession(ctx, testApp, all[0].ID, base), redisstore.ErrReplicas, "what was so before waits, too")
			require.ErrorIs(t, store.Rotate(ctx, live.TokenID, successor(live)), renew.ErrConflict, "what has not written does not wait")
			n, err = store.DeleteExpired(ctx, base.Add(10*time.Minute), 10)
			require.ErrorIs(t, err, redisstore.ErrReplicas, "a deletion waits, too")
			require.Equal(t, 1, n, "and is counted")
			f.start(t)
			require.Eventually(t, func() bool { return store.Rotate(ctx, next.TokenID, next) == nil }, time.Minute, 10*time.Millisecond)
		})
	}
}

// With these a WAIT does not time out because the machine is loaded.
func patient(o *redis.UniversalOptions) { o.ReadTimeout = 20 * time.Second }

var patiently = []redisstore.Option{redisstore.WithWait(1, 10*time.Second), redisstore.WithCommandTimeout(30 * time.Second)}

func flushScripts(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	onAll(t, client, func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() })
}

// TestRenewerWaits promises that a renewal which too few replicas have is an error of
// the server, with which a client repeats its request, and gets the same successor
// when the replicas are back.
func TestRenewerWaits(t *testing.T) {
	t.Parallel()
	f, ctx := sentinel(t), t.Context()
	keys := memstore.New()
	require.NoError(t, renew.EnsureApp(ctx, keys, app(), renew.EdDSA))
	store := f.tokens(t, f.client(t), redisstore.WithWait(2, 100*time.Millisecond))
	r, err := renew.New(keys, store)
	require.NoError(t, err)
	b, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "subject", IP: "192.0.2.1", UserAgent: "test"})
	require.NoError(t, err)
	f.servers[2].Kill()
	request := renew.RenewRequest{AppID: testApp, RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: newIdempotencyKey()}
	_, err = r.Renew(ctx, request)
	require.ErrorIs(t, err, redisstore.ErrReplicas)
	require.NotErrorIs(t, err, renew.ErrInvalidRefreshToken)
	stored, err := store.Session(ctx, testApp, b.SessionID)
	require.NoError(t, err)
	require.EqualValues(t, 1, stored.Generation)
	f.start(t)
	var again *renew.Bundle
	require.Eventually(t, func() bool {
		again, err = r.Renew(ctx, request)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.True(t, again.Retried)
	require.Equal(t, stored.TokenID, again.TokenID)
}
