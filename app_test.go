package renew_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// The promise: an app ID that no app can have is an unknown app, and no store is
// asked for it.
func TestAppIDsThatNoAppCanHave(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	b := f.issue()
	keys.calls = map[string]int{}
	lister, err := renew.New(failingLister{f.store}, f.store)
	require.NoError(t, err)
	for _, appID := range []string{"", "\x00", "a\nb", "\xff", strings.Repeat("a", 256)} {
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, appID, f.appKey), renew.ErrAppNotFound)
		_, err = f.VerifyAuthToken(f.ctx, appID, b.AuthToken)
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		require.ErrorIs(t, f.Revoke(f.ctx, appID, b.AuthToken), renew.ErrAppNotFound)
		_, err = lister.KeySet(f.ctx, appID)
		require.ErrorIs(t, err, renew.ErrAppNotFound)
	}
	require.Empty(t, keys.calls)
}

// The promise: settings that a store should never have kept are the server's
// fault. Without an issuer, a token without one would match.
func TestAppOfAStoreIsValidated(t *testing.T) {
	for name, change := range map[string]func(a *renew.App){
		"no issuer":              func(a *renew.App) { a.Issuer = "" },
		"a negative lifetime":    func(a *renew.App) { a.RefreshTTL = -time.Hour },
		"a lifetime too fine":    func(a *renew.App) { a.AuthTTL = time.Millisecond },
		"never valid":            func(a *renew.App) { a.RefreshNotBefore = 24 * time.Hour },
		"an issuer of two lines": func(a *renew.App) { a.Issuer = "a\nb" },
	} {
		t.Run(name, func(t *testing.T) {
			broken := &brokenKeys{}
			f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { broken.KeyStore = s; return broken }}.new(t)
			b := f.issue()
			made := f.forge(b)
			broken.app = func(a *renew.App) error { change(a); return nil }
			f.hooks.calls()
			req := f.request(b)
			req.RefreshToken = made.withPayload(made.claims().without("iss").String())
			_, err := f.Renew(f.ctx, req)
			requireInternal(t, err)
			_, err = f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
			requireInternal(t, err)
			requireInternal(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
			_, err = f.Issue(f.ctx, f.issueRequest())
			requireInternal(t, err)
			require.Equal(t, [4]int64{}, f.hooks.calls())
		})
	}
}

func TestAppSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*renew.App)
		says string // empty: valid
	}{
		{"defaults", func(*renew.App) {}, ""},
		{"no ID", func(a *renew.App) { a.ID = "" }, "ID is required"},
		{"no issuer", func(a *renew.App) { a.Issuer = "" }, "Issuer is required"},
		{"an ID with a control character", func(a *renew.App) { a.ID = "a\n" }, "ID has a control character"},
		{"a negative life", func(a *renew.App) { a.AuthTTL = -time.Second }, "AuthTTL"},
		{"a life of a fraction", func(a *renew.App) { a.RefreshTTL = 1500 * time.Millisecond }, "RefreshTTL"},
		{"a session of a fraction", func(a *renew.App) { a.SessionTTL = time.Nanosecond }, "SessionTTL"},
		{"an auth token that is never valid", func(a *renew.App) { a.AuthNotBefore = time.Hour }, "AuthNotBefore"},
		{"an auth token that is valid for a second", func(a *renew.App) { a.AuthNotBefore = time.Hour - time.Second }, ""},
		{"a refresh token that is never valid", func(a *renew.App) { a.RefreshTTL, a.RefreshNotBefore = 2*time.Hour, 2*time.Hour }, "RefreshNotBefore"},
		{"a refresh token that is valid for a second", func(a *renew.App) { a.RefreshTTL, a.RefreshNotBefore = 2*time.Hour, 2*time.Hour-time.Second }, ""},
		{"a refresh token that lives no longer than the auth token", func(a *renew.App) { a.AuthTTL, a.RefreshTTL = time.Hour, time.Hour }, "RefreshTTL"},
		{"a long auth token with the default refresh token", func(a *renew.App) { a.AuthTTL = 24 * time.Hour }, ""},
		{"the longest auth token", func(a *renew.App) { a.AuthTTL = math.MaxInt64 / time.Second * time.Second }, "RefreshTTL"},
		{"half of it", func(a *renew.App) { a.AuthTTL = math.MaxInt64 / 2 / time.Second * time.Second }, ""},
		{"a session that is over before its auth token is valid", func(a *renew.App) { a.AuthNotBefore, a.SessionTTL = time.Minute, time.Minute }, "SessionTTL"},
		{"a former issuer", func(a *renew.App) { a.FormerIssuers = []string{"a", "issuer", "a"} }, ""},
		{"a former issuer without a name", func(a *renew.App) { a.FormerIssuers = []string{"a", ""} }, "FormerIssuers[1] is required"},
		{"a former issuer of 256 bytes", func(a *renew.App) { a.FormerIssuers = []string{strings.Repeat("a", 256)} }, "FormerIssuers[0]"},
		{"a former issuer with a control character", func(a *renew.App) { a.FormerIssuers = []string{"a\x00"} }, "FormerIssuers[0]"},
		{"100 former issuers", func(a *renew.App) { a.FormerIssuers = slices.Repeat([]string{"a"}, 100) }, ""},
		{"101 former issuers", func(a *renew.App) { a.FormerIssuers = slices.Repeat([]string{"a"}, 101) }, "at most 100"},
		{"a negative number of sessions", func(a *renew.App) { a.MaxSessions = -1 }, "MaxSessions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := renew.App{ID: "app", Issuer: "issuer"}
			c.edit(&a)
			err := a.Validate()
			if c.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

func TestUnknownApp(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	for name, appID := range map[string]string{"unknown": "app_9", "ill-formed": "a\nb", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, appID, f.appKey), renew.ErrAppNotFound)
			_, err := f.VerifyAuthToken(f.ctx, appID, b.AuthToken)
			require.ErrorIs(t, err, renew.ErrAppNotFound)
			require.ErrorIs(t, f.Revoke(f.ctx, appID, b.AuthToken), renew.ErrAppNotFound)
			_, err = f.KeySet(f.ctx, appID)
			require.ErrorIs(t, err, renew.ErrAppNotFound)
			if name == "unknown" {
				_, err = f.Issue(f.ctx, renew.IssueRequest{AppID: appID, Subject: "s", IP: testIP, UserAgent: testAgent})
				require.ErrorIs(t, err, renew.ErrAppNotFound)
			}
		})
	}
}

// keylessAdmin is a KeyAdmin that is not a KeyStore.
type keylessAdmin struct{ renew.KeyAdmin }

func TestEnsureApp(t *testing.T) {
	_, hash := renew.NewAppKey()
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}, AuthTTL: time.Minute}
	t.Run("on many servers at the same time makes one key", func(t *testing.T) {
		store := memstore.New()
		var servers sync.WaitGroup
		for range 32 {
			servers.Go(func() {
				if err := renew.EnsureApp(t.Context(), store, app, renew.EdDSA); err != nil {
					t.Error(err)
				}
			})
		}
		servers.Wait()
		keys, err := store.VerificationKeys(t.Context(), app.ID)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		active, err := store.SigningKey(t.Context(), app.ID)
		require.NoError(t, err)
		require.Equal(t, keys[0].KeyID(), active.KeyID())
		require.Equal(t, renew.EdDSA, active.VerificationKey().Algorithm())
	})
	t.Run("leaves what is there", func(t *testing.T) {
		f := newFixture(t)
		other := f.app
		other.Issuer, other.KeyHashes = "another issuer", nil
		require.NoError(t, renew.EnsureApp(f.ctx, f.store, other, renew.RS256))
		got, err := f.store.App(f.ctx, f.app.ID)
		require.NoError(t, err)
		require.Equal(t, f.app, got)
		active, err := f.store.SigningKey(f.ctx, f.app.ID)
		require.NoError(t, err)
		require.Same(t, f.key, active)
	})
	t.Run("gives an app without a key one", func(t *testing.T) {
		store := memstore.New()
		require.NoError(t, store.CreateApp(t.Context(), app))
		require.NoError(t, renew.EnsureApp(t.Context(), store, app, renew.ES256))
		_, err := store.SigningKey(t.Context(), app.ID)
		require.NoError(t, err)
	})
	t.Run("gives apps different keys", func(t *testing.T) {
		store := memstore.New()
		other := app
		other.ID = "Shop"
		require.NoError(t, renew.EnsureApp(t.Context(), store, app, renew.ES256))
		require.NoError(t, renew.EnsureApp(t.Context(), store, other, renew.ES256))
		one, err := store.SigningKey(t.Context(), app.ID)
		require.NoError(t, err)
		two, err := store.SigningKey(t.Context(), other.ID)
		require.NoError(t, err)
		require.NotEqual(t, one.KeyID(), two.KeyID())
	})
	t.Run("does not undo a revocation", func(t *testing.T) {
		store := memstore.New()
		require.NoError(t, renew.EnsureApp(t.Context(), store, app, renew.ES256))
		active, err := store.SigningKey(t.Context(), app.ID)
		require.NoError(t, err)
		require.NoError(t, store.RevokeKey(t.Context(), app.ID, active.KeyID(), time.Now()))
		require.NoError(t, renew.EnsureApp(t.Context(), store, app, renew.ES256))
		_, err = store.SigningKey(t.Context(), app.ID)
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
	})
	t.Run("returns errors", func(t *testing.T) {
		store := memstore.New()
		require.ErrorContains(t, renew.EnsureApp(t.Context(), store, renew.App{ID: "shop"}, renew.ES256), "Issuer")
		require.ErrorContains(t, renew.EnsureApp(t.Context(), store, app, "HS256"), "not supported")
		require.ErrorIs(t, renew.EnsureApp(t.Context(), keylessAdmin{store}, app, renew.ES256), errors.ErrUnsupported)
		require.ErrorIs(t, renew.EnsureApp(t.Context(), nil, app, renew.ES256), errors.ErrUnsupported)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, renew.EnsureApp(ctx, store, app, renew.ES256), context.Canceled)
	})
}

// The promise: a renamed app keeps its users. Tokens of a former issuer are valid,
// new ones have the app's, and a name that was never listed stays rejected.
func TestFormerIssuers(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	rename := func(issuer string, former ...string) {
		t.Helper()
		f.app.Issuer, f.app.FormerIssuers = issuer, former
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
	}
	issuerOf := func(token string) string {
		t.Helper()
		claims, err := f.VerifyAuthToken(f.ctx, f.app.ID, token)
		require.NoError(t, err)
		return claims.Issuer
	}
	rejected := func(b *renew.Bundle) {
		t.Helper()
		f.rejected(b, renew.ReasonIssuer)
		_, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
		require.ErrorIs(t, f.Revoke(f.ctx, f.app.ID, b.RefreshToken), renew.ErrInvalidToken)
	}

	rename("issuer_2")
	rejected(first)
	rename("issuer_2", "ISSUER_1", "issuer_1 ", "issuer_12")
	rejected(first)
	rename("issuer_2", "issuer_0", "issuer_1")
	require.Equal(t, "issuer_1", issuerOf(first.AuthToken), "what the token says")
	second := f.renew(first)
	require.Equal(t, "issuer_2", issuerOf(second.AuthToken))
	f.rejected(first, renew.ReasonSuperseded)

	rename("issuer_3", "issuer_1", "issuer_2")
	third := f.renew(second)
	require.Equal(t, "issuer_3", issuerOf(third.AuthToken))
	claims, err := f.VerifySession(f.ctx, f.app.ID, first.AuthToken)
	require.NoError(t, err)
	require.Equal(t, "issuer_1", claims.Issuer)
	require.NoError(t, f.Revoke(f.ctx, f.app.ID, second.RefreshToken))
	f.rejected(third, renew.ReasonRevokedSession)
}

// The promise: a retry across a renaming gives the same pair, in the app's name of
// now.
func TestRetryAcrossARenaming(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	second, err := f.renewWith(first, "0123456789abcdef")
	require.NoError(t, err)
	f.app.Issuer, f.app.FormerIssuers = "issuer_2", []string{"issuer_1"}
	require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
	again, err := f.renewWith(first, "0123456789abcdef")
	require.NoError(t, err)
	require.True(t, again.Retried)
	require.Equal(t, second.TokenID, again.TokenID)
	claims, err := f.VerifyAuthToken(f.ctx, f.app.ID, again.AuthToken)
	require.NoError(t, err)
	require.Equal(t, "issuer_2", claims.Issuer)
}
