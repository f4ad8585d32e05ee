package redisstore_test

import (
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestNamesAreApart promises that an app and a session never share a key in Redis,
// whatever their IDs are.
func TestNamesAreApart(t *testing.T) {
	f, ctx := oneServer(t), t.Context()
	stores := f.stores(t, f.client(t))
	s := newSession("x}:app")
	shard := crc32.ChecksumIEEE([]byte("3:"+testApp+":"+s.ID)) % 1024
	a := renew.App{ID: fmt.Sprintf("%03x}:session:3:%s:x", shard, testApp), Issuer: "issuer"}
	require.NoError(t, stores.Keys.CreateApp(ctx, a))
	require.NoError(t, stores.Tokens.CreateSession(ctx, s))
	require.NoError(t, stores.Tokens.Rotate(ctx, s.TokenID, successor(s)))
	got, err := stores.Keys.App(ctx, a.ID)
	require.NoError(t, err)
	require.Equal(t, a.Issuer, got.Issuer)
}

// TestZeroTime promises that a revocation has a time.
func TestZeroTime(t *testing.T) {
	f := oneServer(t)
	store, s := f.tokens(t, f.client(t)), newSession("session")
	require.NoError(t, store.CreateSession(t.Context(), s))
	fleettest.RequireZeroTimeRejected(t, store, s)
}
