package sqlstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestStatusInterval promises how long another process may go by what it has
// read: up to the interval and no longer, and with zero not at all.
func TestStatusInterval(t *testing.T) {
	const interval = 5 * time.Second
	for _, c := range []struct {
		name     string
		interval time.Duration
	}{{"five seconds", interval}, {"zero", 0}} {
		t.Run(c.name, func(t *testing.T) {
			d := backends[0].empty(t)
			admin, _ := keysWithApp(t, d)
			key, next := newKey(t, renew.EdDSA), newKey(t, renew.EdDSA)
			require.NoError(t, admin.RotateSigningKey(t.Context(), testApp, key, base))
			clock := base
			now := func() time.Time { return clock }
			s := d.keyStore(t, d.open(t), sqlstore.WithStatusInterval(c.interval), sqlstore.WithCacheClock(now))
			requireState(t, s, key, false)

			require.NoError(t, admin.UpdateApp(t.Context(), renew.App{ID: testApp, Issuer: "changed"}))
			require.NoError(t, admin.RotateSigningKey(t.Context(), testApp, next, base))
			require.NoError(t, admin.RevokeKey(t.Context(), testApp, keyID(key), base))
			if c.interval > 0 {
				clock = base.Add(interval - 1)
				requireState(t, s, key, false)
				_, err := s.VerificationKey(t.Context(), testApp, keyID(next))
				require.NoError(t, err, "a new key is looked up immediately")
			}
			clock = base.Add(c.interval)
			requireState(t, s, next, true)
			_, err := s.VerificationKey(t.Context(), testApp, keyID(key))
			require.ErrorIs(t, err, renew.ErrKeyRevoked)
		})
	}
}

// requireState checks all that a KeyStore answers about the app.
func requireState(t *testing.T, s *sqlstore.KeyStore, active *renew.SigningKey, changed bool) {
	t.Helper()
	app, err := s.App(t.Context(), testApp)
	require.NoError(t, err)
	require.Equal(t, changed, app.Issuer == "changed")
	signing, err := s.SigningKey(t.Context(), testApp)
	require.NoError(t, err)
	require.Equal(t, keyID(active), keyID(signing))
	_, err = s.VerificationKey(t.Context(), testApp, keyID(active))
	require.NoError(t, err)
	requireKeys(t, s, active)
}

// TestOwnChangesShowAtOnce promises that the KeyStore which makes a change goes
// by it at once, whatever its interval.
func TestOwnChangesShowAtOnce(t *testing.T) {
	d := backends[0].empty(t)
	s, _ := keysWithApp(t, d, sqlstore.WithStatusInterval(time.Hour))
	for range 3 {
		key := newKey(t, renew.EdDSA)
		require.NoError(t, s.RotateSigningKey(t.Context(), testApp, key, base))
		signing, err := s.SigningKey(t.Context(), testApp)
		require.NoError(t, err)
		require.Equal(t, keyID(key), keyID(signing))
		_, err = s.VerificationKey(t.Context(), testApp, keyID(key))
		require.NoError(t, err)
		require.NoError(t, s.RevokeKey(t.Context(), testApp, keyID(key), base))
		_, err = s.VerificationKey(t.Context(), testApp, keyID(key))
		require.ErrorIs(t, err, renew.ErrKeyRevoked)
		_, err = s.SigningKey(t.Context(), testApp)
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
	}
	_, hash := renew.NewAppKey()
	require.NoError(t, s.AddAppKey(t.Context(), testApp, hash))
	app, err := s.App(t.Context(), testApp)
	require.NoError(t, err)
	require.Len(t, app.KeyHashes, 1)
	require.NoError(t, s.RemoveAppKey(t.Context(), testApp, hash))
	app, err = s.App(t.Context(), testApp)
	require.NoError(t, err)
	require.Empty(t, app.KeyHashes)
}

// TestCacheKeepsNothingUnknown promises that names which do not exist leave
// nothing in memory, and that an app which comes to exist is found immediately.
func TestCacheKeepsNothingUnknown(t *testing.T) {
	d := backends[0].empty(t)
	admin, _ := keysWithApp(t, d)
	s := d.keyStore(t, d.open(t), sqlstore.WithStatusInterval(time.Hour))
	_, err := s.App(t.Context(), "later")
	require.ErrorIs(t, err, renew.ErrAppNotFound)
	require.Zero(t, s.Cached())
	require.NoError(t, admin.CreateApp(t.Context(), renew.App{ID: "later", Issuer: "issuer"}))
	_, err = s.App(t.Context(), "later")
	require.NoError(t, err)
	require.Equal(t, 1, s.Cached())
}
