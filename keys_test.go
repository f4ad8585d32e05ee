package renew_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func TestKeyStoreFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		keys brokenKeys
	}{
		{"the app cannot be read", brokenKeys{app: func(a *renew.App) error { return errOutage }}},
		{"another app is returned", brokenKeys{app: func(a *renew.App) error { a.ID = "app_2"; return nil }}},
		{"the app makes no sense", brokenKeys{app: func(a *renew.App) error { a.RefreshTTL = -time.Second; return nil }}},
		{"the leeway reaches the auth token's life", brokenKeys{app: func(a *renew.App) error { a.AuthTTL = time.Minute; return nil }}},
		{"the leeway reaches the refresh token's life", brokenKeys{app: func(a *renew.App) error { a.RefreshTTL = time.Minute; return nil }}},
		{"the key cannot be read", brokenKeys{verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) { return nil, errOutage }}},
		{"no key is returned", brokenKeys{verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) { return nil, nil }}},
		{"another key is returned", brokenKeys{verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) {
			other, err := renew.GenerateSigningKey(renew.ES256)
			return other.VerificationKey(), err
		}}},
		{"the signing key cannot be read", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return nil, errOutage }}},
		{"there is no signing key", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return nil, renew.ErrKeyNotFound }}},
		{"no signing key is returned", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return nil, nil }}},
		{"an empty signing key is returned", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return &renew.SigningKey{}, nil }}},
	} {
		t.Run(c.name+": an internal error, and the token stays valid", func(t *testing.T) {
			keys := &brokenKeys{}
			f := fixtureConfig{
				keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys },
				opts: []renew.Option{renew.WithLeeway(time.Minute)},
			}.new(t)
			first := f.issue()
			keys.app, keys.signing, keys.verification = c.keys.app, c.keys.signing, c.keys.verification
			_, err := f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			*keys = brokenKeys{KeyStore: f.store}
			f.renew(first)
		})
	}
}

func TestKeysOverTime(t *testing.T) {
	t.Run("a replaced key still verifies", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		key := f.rotateKey(renew.RS256)
		second := f.renew(first)
		require.Equal(t, key.VerificationKey().KeyID(), second.KeyID)
		require.Equal(t, key.VerificationKey().PublicKey(), second.PublicKey)
		f.renew(second)
	})
	t.Run("a revoked key ends what it signed, and no session", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.rotateKey(renew.ES256)
		require.NoError(t, f.store.RevokeKey(f.ctx, f.app.ID, f.key.VerificationKey().KeyID(), f.clock.Now()))
		f.hooks.calls()
		f.rejected(first, renew.ReasonRevokedKey)
		require.Equal(t, [4]int64{}, f.hooks.calls())
		require.True(t, f.session(first).RevokedAt.IsZero())
		f.renew(f.issue())
	})
	t.Run("a deleted key is unknown", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.rotateKey(renew.ES256)
		n, err := f.store.DeleteExpiredKeys(f.ctx, epoch.Add(24*time.Hour))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		f.rejected(first, renew.ReasonUnknownKey)
	})
}

// The promise: a kid that no key can have is not looked up, or a store that is
// lenient about case or spaces would be asked for what only looks like its key.
func TestKeyIDsAreCheckedBeforeTheStoreIsAsked(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	b := f.issue()
	made := f.forge(b)
	id := f.key.VerificationKey().KeyID()
	for _, kid := range []string{"", strings.ToLower(id), id + " ", " " + id, id[:25], id + "0", "../" + id, "x' OR '1'='1", `\u0000`, "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"} {
		req := f.request(b)
		req.RefreshToken = made.withHeader(made.header().with("kid", quote(kid)).String())
		keys.calls = map[string]int{}
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonUnknownKey)
		require.Equal(t, map[string]int{"App": 1}, keys.calls, kid)
	}
	f.renew(b)
}

// The promise: what made a key store fail is kept for the log.
func TestCauseOfAKeyStoresFailureIsKept(t *testing.T) {
	fail := false
	broken := &brokenKeys{
		verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) {
			if fail {
				return nil, errOutage
			}
			return k, nil
		},
	}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { broken.KeyStore = s; return broken }}.new(t)
	b := f.issue()
	fail = true
	_, err := f.Renew(f.ctx, f.request(b))
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	_, err = f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
	require.ErrorIs(t, err, errOutage)
	fail = false
	f.renew(b)
}

func TestVerificationKeyForms(t *testing.T) {
	key, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(t, err)
	v := key.VerificationKey()
	require.Equal(t, renew.ES256, v.Algorithm())
	require.Equal(t, key.Signer().Public(), v.Public())
	pem, err := base64.StdEncoding.DecodeString(v.PublicKey())
	require.NoError(t, err)
	require.Regexp(t, `^-----BEGIN PUBLIC KEY-----\n`, string(pem))
	jwk := v.JWK()
	require.True(t, jwk.Valid())
	require.Equal(t, []string{v.KeyID(), "ES256", "sig"}, []string{jwk.KeyID, jwk.Algorithm, jwk.Use})
}

// The promise: a replaced key verifies what it can have signed, and nothing beyond:
// a key that leaks when it is no longer used is of no use.
func TestReplacedKeyHasAnEnd(t *testing.T) {
	setUp := func(t *testing.T) (f *fixture, b *renew.Bundle, made forge) {
		f = newFixture(t)
		b = f.issue()
		made = f.forge(b)
		f.clock.Move(time.Minute)
		f.rotateKey(renew.ES256)
		return f, b, made
	}
	end := epoch.Add(time.Minute + renew.DefaultRefreshTTL + keyMargin).Truncate(time.Second)
	for name, c := range map[string]struct {
		exp     time.Time
		retired bool
	}{
		"what it signed last":  {end, false},
		"a second later":       {end.Add(time.Second), true},
		"a year later":         {end.Add(365 * 24 * time.Hour), true},
		"the greatest of them": {time.Unix(1<<53-1, 0), true},
	} {
		t.Run(name, func(t *testing.T) {
			f, b, made := setUp(t)
			req := f.request(b)
			req.RefreshToken = made.withPayload(made.claims().with("exp", seconds(c.exp)).String())
			auth := made.withPayload(made.authClaims().with("exp", seconds(c.exp)).String())
			_, err := f.VerifyAuthToken(f.ctx, f.app.ID, auth)
			if !c.retired {
				require.NoError(t, err)
				_, err = f.Renew(f.ctx, req)
				require.NoError(t, err)
				return
			}
			requireInvalidAuth(t, err, renew.ReasonRetiredKey)
			f.hooks.calls()
			_, err = f.Renew(f.ctx, req)
			requireRejected(t, err, renew.ReasonRetiredKey)
			var revoke *renew.TokenError
			require.ErrorAs(t, f.Revoke(f.ctx, f.app.ID, req.RefreshToken), &revoke)
			require.Equal(t, renew.ReasonRetiredKey, revoke.Reason)
			require.Equal(t, [4]int64{}, f.hooks.calls())
		})
	}
	t.Run("counts lifetimes that were longer", func(t *testing.T) {
		f := fixtureConfig{app: func(a *renew.App) { a.RefreshTTL = 10 * time.Hour }}.new(t)
		long := f.issue()
		f.app.RefreshTTL = 2 * time.Hour
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
		f.rotateKey(renew.ES256)
		f.clock.Move(9 * time.Hour)
		f.renew(long)
	})
	t.Run("counts lifetimes that became longer", func(t *testing.T) {
		f := newFixture(t)
		f.app.RefreshTTL = 10 * time.Hour
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
		long := f.issue()
		f.rotateKey(renew.ES256)
		f.clock.Move(9 * time.Hour)
		f.renew(long)
	})
	t.Run("counts the retries of its predecessor's pairs", func(t *testing.T) {
		f := fixtureConfig{app: func(a *renew.App) { a.RefreshTTL = 10 * time.Hour }}.new(t)
		first := f.issue()
		_, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		f.app.RefreshTTL = 2 * time.Hour
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
		f.rotateKey(renew.ES256)
		f.clock.Move(time.Hour)
		again, err := f.renewWith(first, testKey1) // signed by the second key, for 9 hours more
		require.NoError(t, err)
		f.rotateKey(renew.ES256)
		f.clock.Move(8 * time.Hour)
		f.renew(again)
	})
}

// The limits of [renew.VerificationKey.Until] itself, which custom stores use.
func TestVerificationKeyUntil(t *testing.T) {
	whole := generate(t, renew.ES256).VerificationKey()
	limited := whole.Until(epoch)
	require.NotSame(t, whole, limited)
	require.Equal(t, [2]string{whole.KeyID(), whole.PublicKey()}, [2]string{limited.KeyID(), limited.PublicKey()})
	require.Equal(t, whole.Public(), limited.Public())
	require.Equal(t, whole.JWK(), limited.JWK())
}

func TestSigningPeriod(t *testing.T) {
	app := func(ttl time.Duration) renew.App { return renew.App{RefreshTTL: ttl} }
	var p renew.SigningPeriod
	p.Count(app(2 * time.Hour))
	p.Count(app(time.Hour))
	until, expired := p.Close(epoch)
	require.Equal(t, epoch.Add(2*time.Hour+keyMargin), until)
	require.Equal(t, epoch.Add(4*time.Hour+keyMargin), expired)
	require.Equal(t, renew.SigningPeriod{SignedUntil: until}, p)
	p.Count(app(time.Minute))
	until, expired = p.Close(epoch.Add(time.Hour))
	require.Equal(t, epoch.Add(2*time.Hour+keyMargin), until, "a retry signs the pairs of the key before")
	require.Equal(t, epoch.Add(2*time.Hour+keyMargin+time.Minute), expired)
	p.Count(app(0))
	until, _ = p.Close(epoch.Add(2 * time.Hour))
	require.Equal(t, epoch.Add(2*time.Hour+renew.DefaultRefreshTTL+keyMargin), until)
}

// keyMargin is how much longer a replaced key verifies than the tokens live that it
// signed when it was replaced.
const keyMargin = time.Minute

// The promise: a renewal that is under way while its key is replaced, and that signs
// after the time of the replacement, brings tokens that are valid.
func TestKeyIsReplacedDuringARenewal(t *testing.T) {
	f := newFixture(t)
	b, old, replaced := f.issue(), f.key.KeyID(), f.clock.Now()
	f.clock.Move(2 * time.Second)
	b = f.renew(b)
	require.Equal(t, old, b.KeyID)
	require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, generate(t, renew.ES256), replaced))
	_, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
	require.NoError(t, err)
	b = f.renew(b)
	require.NotEqual(t, old, b.KeyID)
}
