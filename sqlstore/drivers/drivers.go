// Package drivers holds the tests that run package sqlstore with every driver that
// it knows. It is a module so that the drivers are in no user's dependencies.
package drivers

import (
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
	"github.com/jwtrenew/renew/storetest"
)

// Test holds both stores to their laws, on an empty database.
func Test(t *testing.T, dialect sqlstore.Dialect, open func() (*sql.DB, error), opts ...sqlstore.Option) {
	t.Helper()
	pool := func(tb testing.TB) *sql.DB {
		tb.Helper()
		db, err := open()
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = db.Close() })
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
		return db
	}
	require.NoError(t, sqlstore.Migrate(t.Context(), pool(t), dialect))
	pools := [2]*sql.DB{pool(t), pool(t)} // most of the time would go into opening connections
	var handles atomic.Int64
	storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
		store, err := sqlstore.NewTokenStore(tb.Context(), pools[handles.Add(1)%2], dialect, opts...)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = store.Close() })
		return store
	}, storetest.WithSlowness(3), storetest.WithRounds(share(t)), storetest.WithListLimit(sqlstore.MaxSubjectSessions))
	testKeys(t, pool(t), dialect, opts...)
}

// share is the part of the rounds that a run makes: what a driver does wrong shows
// without a race.
func share(t *testing.T) float64 {
	t.Helper()
	return min(0.3, rounds.Share(t)) // package sqlstore makes all
}

func testKeys(t *testing.T, db *sql.DB, dialect sqlstore.Dialect, opts ...sqlstore.Option) {
	t.Helper()
	ctx := t.Context()
	encrypter, err := sqlstore.NewEncrypter(make([]byte, sqlstore.EncryptionKeyBytes))
	require.NoError(t, err)
	keys, err := sqlstore.NewKeyStore(ctx, db, dialect, encrypter, opts...)
	require.NoError(t, err)
	defer func() { _ = keys.Close() }()
	app := renew.App{ID: "app", Issuer: "issuer"}
	require.NoError(t, keys.CreateApp(ctx, app))
	require.ErrorIs(t, keys.CreateApp(ctx, app), renew.ErrAppExists)
	for range 2 {
		key, err := renew.GenerateSigningKey(renew.ES256)
		require.NoError(t, err)
		require.NoError(t, keys.PublishSigningKey(ctx, app.ID, key))
		require.ErrorIs(t, keys.PublishSigningKey(ctx, app.ID, key), renew.ErrKeyExists)
		require.NoError(t, keys.RotateSigningKey(ctx, app.ID, key, time.Now()))
		active, err := keys.SigningKey(ctx, app.ID)
		require.NoError(t, err)
		require.Equal(t, key.KeyID(), active.KeyID())
	}
	all, err := keys.VerificationKeys(ctx, app.ID)
	require.NoError(t, err)
	require.Len(t, all, 2)
	n, err := keys.DeleteExpiredKeys(ctx, time.Now().AddDate(1, 0, 0))
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
