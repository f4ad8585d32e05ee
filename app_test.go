package renew_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
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

// The promise: an unknown app and a wrong app key take the same steps.
func TestWrongAppKeyTakesTheStepsOfAnUnknownApp(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	for _, c := range []struct {
		appID, appKey string
		want          error
	}{
		{"app_1", "wrong", renew.ErrInvalidAppKey},
		{"app_1", "", renew.ErrInvalidAppKey},
		{"app_1", f.appKey[:42] + "!", renew.ErrInvalidAppKey},
		{"app_1", "!" + f.appKey[1:], renew.ErrInvalidAppKey},
		{"app_2", f.appKey, renew.ErrAppNotFound},
	} {
		keys.calls = map[string]int{}
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, c.appID, c.appKey), c.want)
		require.Equal(t, map[string]int{"App": 1}, keys.calls)
	}
}

func TestAppKeys(t *testing.T) {
	one, hash := renew.NewAppKey()
	two, _ := renew.NewAppKey()
	require.NotEqual(t, one, two)
	again, err := renew.HashAppKey(one)
	require.NoError(t, err)
	require.Equal(t, hash, again)
	secret, err := base64.RawURLEncoding.DecodeString(one)
	require.NoError(t, err)
	require.Len(t, secret, 32)
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

func TestAuthenticateApp(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
	for name, key := range map[string]string{"another": f.appKey + "x", "none": "", "the hash": string(f.app.KeyHashes[0][:])} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey)
		})
	}
	t.Run("while a key is being replaced, both are valid", func(t *testing.T) {
		key, hash := renew.NewAppKey()
		require.Len(t, key, 43)
		require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, hash))
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, key))
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
		require.NoError(t, f.store.RemoveAppKey(f.ctx, f.app.ID, f.app.KeyHashes[0]))
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey), renew.ErrInvalidAppKey)
	})
	t.Run("an app without keys rejects all callers", func(t *testing.T) {
		f.addApp("app_2", "issuer_2", nil)
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, "app_2", ""), renew.ErrInvalidAppKey)
	})
	t.Run("an outage is not a wrong key", func(t *testing.T) {
		f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
			return &brokenKeys{KeyStore: s, app: func(*renew.App) error { return errOutage }}
		}}.new(t)
		err := f.AuthenticateApp(f.ctx, f.app.ID, f.appKey)
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
	})
}

// The promise: what anyone can guess, and what no header can carry, is not an app
// key, and the error says so where the key is hashed.
func TestAppKeysOfNoUse(t *testing.T) {
	const valid = "a-key-of-24-characters-x"
	for name, key := range map[string]string{
		"empty":                          "",
		"15 characters":                  valid[:15],
		"the line break of its file":     valid + "\n",
		"the line break of another file": valid + "\r\n",
		"a space before":                 " " + valid,
		"a tab after":                    valid + "\t",
		"a space inside":                 "a key of 24 characters x",
		"a letter beyond ASCII":          valid + "é",
		"NUL":                            valid + "\x00",
		"DEL":                            valid + "\x7f",
	} {
		t.Run(name, func(t *testing.T) {
			hash, err := renew.HashAppKey(key)
			require.Error(t, err)
			require.Zero(t, hash)
			if key != "" {
				require.NotContains(t, err.Error(), key)
			}
			f := newFixture(t)
			require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, sha256.Sum256([]byte(key))))
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey, "its stored hash lets no one in")
		})
	}
	for _, key := range []string{valid, valid[:16], "!\"#$%&'()*+,-./0", strings.Repeat("k", 4096)} {
		hash, err := renew.HashAppKey(key)
		require.NoError(t, err)
		require.Equal(t, renew.AppKeyHash(sha256.Sum256([]byte(key))), hash)
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

// An app whose hashes are zero, as an array that was never set, lets no one in.
func TestZeroHashIsNoKey(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, renew.AppKeyHash{}))
	for _, key := range []string{"", strings.Repeat("\x00", 32), strings.Repeat("0", 64)} {
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey)
	}
}
