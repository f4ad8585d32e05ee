package redisstore_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// TestCommandsPerRenewal promises two round trips per renewal, for a retry and a new
// session too, and one key per session however often it is renewed.
func TestCommandsPerRenewal(t *testing.T) {
	f, ctx := oneServer(t), t.Context()
	client := f.client(t)
	keys := memstore.New()
	require.NoError(t, renew.EnsureApp(ctx, keys, app(), renew.EdDSA))
	r, err := renew.New(keys, f.tokens(t, client))
	require.NoError(t, err)
	var sent atomic.Int64
	client.AddHook(around{func(send func() error) error {
		sent.Add(1)
		return send()
	}})
	b, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "subject", IP: "192.0.2.1", UserAgent: "test"})
	require.NoError(t, err)
	require.EqualValues(t, 2, sent.Swap(0))
	for range 5 {
		request := renew.RenewRequest{AppID: testApp, RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: newIdempotencyKey()}
		b, err = r.Renew(ctx, request)
		require.NoError(t, err)
		require.EqualValues(t, 2, sent.Swap(0))
		_, err = r.Renew(ctx, request)
		require.NoError(t, err)
		require.EqualValues(t, 2, sent.Swap(0))
	}
	stored, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, stored, 3, "the session, and the indexes of its subject and its shard")
}

// TestBytesPerSession prints what a renewed session costs in memory, with its entries
// in both indexes. Redis keeps a hash in a compact form only if none of its values is
// longer than hash-max-listpack-value, by default 64 bytes.
func TestBytesPerSession(t *testing.T) {
	const sessions = 2_000
	for limit, most := range map[string]int{"64": 2500, "512": 1300} {
		f, ctx := oneServer(t), t.Context()
		client := f.client(t)
		require.NoError(t, client.ConfigSet(ctx, "hash-max-listpack-value", limit).Err())
		require.NoError(t, client.ConfigSet(ctx, "appendfsync", "no").Err())
		store := f.tokens(t, client)
		used := func() int {
			n, err := strconv.Atoi(f.servers[0].Info("used_memory_dataset"))
			require.NoError(t, err)
			return n
		}
		before := used()
		for i := range sessions {
			s := newSession("01JGFJJZ00000000000000" + strconv.Itoa(1_000+i))
			s.Subject = "user-" + strconv.Itoa(i)
			s.Claims = []byte(`{"role":"editor","tenant":"4711","scope":"read write","level":3,"x":1}`)
			s.UserAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
			require.NoError(t, store.CreateSession(ctx, s))
			require.NoError(t, store.Rotate(ctx, s.TokenID, successor(s)))
		}
		each := (used() - before) / sessions
		t.Logf("hash-max-listpack-value %s: %d bytes per session", limit, each)
		require.Less(t, each, most)
	}
}
