package redisstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestFullMemory promises that a server whose memory is full starts no session and
// renews none, and still reads, revokes and deletes, so that there is room again.
func TestFullMemory(t *testing.T) {
	f := oneServer(t)
	ctx, client := t.Context(), f.client(t, withoutRetries)
	stores := f.stores(t, client)
	first, second := newSession("first"), newSession("second")
	fleettest.Prepare(t, stores, first)
	require.NoError(t, stores.Tokens.CreateSession(ctx, second))
	key := newKey(t)
	require.NoError(t, stores.Keys.PublishSigningKey(ctx, testApp, key))
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())

	for _, err := range []error{
		stores.Tokens.CreateSession(ctx, newSession("third")),
		stores.Tokens.Rotate(ctx, first.TokenID, successor(first)),
	} {
		require.ErrorContains(t, err, "OOM")
		fleettest.RequireNotNamed(t, err)
	}
	got, err := stores.Tokens.Session(ctx, testApp, first.ID)
	require.NoError(t, err)
	require.Equal(t, first, got)
	listed, err := stores.Tokens.SubjectSessions(ctx, testApp, first.Subject, base)
	require.NoError(t, err)
	require.Len(t, listed, 2)
	_, err = stores.Keys.App(ctx, testApp)
	require.NoError(t, err)
	require.NoError(t, stores.Keys.RevokeKey(ctx, testApp, key.KeyID(), base))
	require.NoError(t, stores.Tokens.RevokeSession(ctx, testApp, first.ID, base))
	n, err := stores.Tokens.RevokeSubject(ctx, testApp, first.Subject, base)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = stores.Tokens.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
}
