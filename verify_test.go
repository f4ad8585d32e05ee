package renew_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

type nilLister struct{ *memstore.Store }

func (nilLister) VerificationKeys(context.Context, string) ([]*renew.VerificationKey, error) {
	return []*renew.VerificationKey{nil}, nil
}

func TestKeySetWithANilKeyIsAnInternalError(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(nilLister{f.store}, f.store)
	require.NoError(t, err)
	_, err = r.KeySet(f.ctx, f.app.ID)
	requireInternal(t, err)
}

// The promise: an auth token has the claims that it must have, each of its type,
// or is rejected.
func TestAuthTokensWithBadClaims(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := f.forge(b)
	valid := made.authClaims().and("aud", `["a","b"]`)
	verify := func(t *testing.T, claims object) (*renew.AuthClaims, error) {
		t.Helper()
		return f.VerifyAuthToken(f.ctx, f.app.ID, made.withPayload(claims.String()))
	}
	bad := map[string]object{}
	for _, name := range []string{"sub", "ip", "useragent"} {
		bad[name+" missing"] = valid.without(name)
		for _, value := range []string{"null", "1", "true", `["user"]`, "{}"} {
			bad[name+" "+value] = valid.with(name, value)
		}
	}
	for _, value := range []string{"null", "1", "true", "{}", `{"a":"b"}`, "[1]", "[null]", `["a",1]`, `["a",["b"]]`, `[["a"]]`} {
		bad["aud "+value] = valid.with("aud", value)
	}
	for _, name := range []string{"iat", "nbf", "exp", "jid"} {
		bad[name+" missing"] = valid.without(name)
		bad[name+" null"] = valid.with(name, "null")
	}
	bad["sid null"] = valid.with("sid", "null")
	bad["SUB in addition to sub"] = valid.and("SUB", `"admin"`)
	bad["sub twice"] = valid.and("sub", `"admin"`)
	bad["a custom claim twice"] = valid.and("role", `"user"`).and("role", `"admin"`)
	bad["Aud for aud"] = valid.without("aud").and("Aud", `"a"`)
	for name, claims := range bad {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, claims)
			require.Nil(t, got)
			requireInvalidAuth(t, err, renew.ReasonClaims)
		})
	}
	for name, c := range map[string]struct {
		claims object
		aud    []string
	}{
		"several audiences": {valid, []string{"a", "b"}},
		"one audience":      {valid.with("aud", `"a"`), []string{"a"}},
		"an array of one":   {valid.with("aud", `["a"]`), []string{"a"}},
		"no audience":       {valid.without("aud"), nil},
		"an empty array":    {valid.with("aud", `[]`), []string{}},
		"jti is no claim":   {valid.and("jti", `"x"`), []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, c.claims)
			require.NoError(t, err)
			require.Equal(t, c.aud, []string(got.Audience))
			require.Empty(t, got.Claims)
		})
	}
	t.Run("no sid", func(t *testing.T) {
		got, err := verify(t, valid.without("sid"))
		require.NoError(t, err)
		require.Equal(t, b.TokenID, got.SessionID)
	})
}

func requireInvalidAuth(t *testing.T, err error, reason renew.Reason) {
	t.Helper()
	require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
	require.NotErrorIs(t, err, renew.ErrInvalidRefreshToken)
	var rejected *renew.TokenError
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, reason, rejected.Reason, "%v", err)
}

func TestVerifyAuthTokenReturnsItsClaimsAndReadsNoSession(t *testing.T) {
	f := newFixture(t)
	req := f.issueRequest()
	req.Audience = []string{"web", "mobile"}
	req.Claims = map[string]any{"n": json.Number("9007199254740993"), "o": map[string]any{"a": []any{true, nil}}}
	b, err := f.Issue(f.ctx, req)
	require.NoError(t, err)
	f.hooks.calls()
	got, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
	require.NoError(t, err)
	start := epoch.Truncate(time.Second)
	require.Equal(t, &renew.AuthClaims{
		Issuer: "issuer_1", Subject: req.Subject, Audience: req.Audience, IP: req.IP, UserAgent: req.UserAgent,
		KeyID: b.KeyID, TokenID: b.TokenID, SessionID: b.SessionID,
		IssuedAt: start, NotBefore: start, ExpiresAt: start.Add(time.Hour),
		Claims: req.Claims,
	}, got)
	require.Equal(t, [4]int64{}, f.hooks.calls())
}

func TestAuthTokenIsValidFromNbfUntilExp(t *testing.T) {
	config := fixtureConfig{app: func(a *renew.App) { a.AuthNotBefore = time.Minute }}
	leeway := config
	leeway.opts = []renew.Option{renew.WithLeeway(5 * time.Second)}
	start := epoch.Truncate(time.Second)
	nbf, exp := start.Add(time.Minute), start.Add(time.Hour)
	for _, c := range []struct {
		name   string
		config fixtureConfig
		at     time.Time
		reason renew.Reason
	}{
		{"more than 5 seconds before nbf", config, nbf.Add(-5*time.Second - time.Millisecond), renew.ReasonTooEarly},
		{"5 seconds before nbf", config, nbf.Add(-5 * time.Second), ""},
		{"at nbf", config, nbf, ""},
		{"a millisecond before exp", config, exp.Add(-time.Millisecond), ""},
		{"at exp", config, exp, renew.ReasonExpired},
		{"before nbf and its leeway", leeway, nbf.Add(-5*time.Second - time.Millisecond), renew.ReasonTooEarly},
		{"at nbf less leeway", leeway, nbf.Add(-5 * time.Second), ""},
		{"a millisecond before exp and leeway", leeway, exp.Add(5*time.Second - time.Millisecond), ""},
		{"at exp and leeway", leeway, exp.Add(5 * time.Second), renew.ReasonExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.config.new(t)
			b := f.issue()
			f.clock.Move(c.at.Sub(f.clock.Now()))
			for _, verify := range []func(context.Context, string, string) (*renew.AuthClaims, error){f.VerifyAuthToken, f.VerifySession} {
				_, err := verify(f.ctx, f.app.ID, b.AuthToken)
				if c.reason == "" {
					require.NoError(t, err)
				} else {
					requireInvalidAuth(t, err, c.reason)
				}
			}
		})
	}
}

func TestVerifyAuthTokenRejects(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	f.addApp("app_2", "issuer_2", nil)
	for _, c := range []struct {
		name, appID, token string
		reason             renew.Reason
	}{
		{"nothing", "app_1", "", renew.ReasonMalformed},
		{"a refresh token", "app_1", b.RefreshToken, renew.ReasonType},
		{"another app's token", "app_2", b.AuthToken, renew.ReasonUnknownKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims, err := f.VerifyAuthToken(f.ctx, c.appID, c.token)
			require.Nil(t, claims)
			requireInvalidAuth(t, err, c.reason)
		})
	}
	t.Run("a token whose key was revoked", func(t *testing.T) {
		require.NoError(t, f.store.RevokeKey(f.ctx, f.app.ID, b.KeyID, f.clock.Now()))
		_, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		requireInvalidAuth(t, err, renew.ReasonRevokedKey)
	})
}

func TestVerifySession(t *testing.T) {
	t.Run("reads the session once", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.hooks.calls()
		got, err := f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		require.NoError(t, err)
		require.Equal(t, b.SessionID, got.SessionID)
		require.Equal(t, [4]int64{0, 1, 0, 0}, f.hooks.calls())
	})
	t.Run("accepts a token that was renewed since", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.renew(b)
		_, err := f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		require.NoError(t, err)
	})
	t.Run("rejects a revoked session", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, b.SessionID))
		_, err := f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		requireInvalidAuth(t, err, renew.ReasonRevokedSession)
		_, err = f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		require.NoError(t, err)
	})
	t.Run("rejects a session that is over, deleted or not", func(t *testing.T) {
		f := fixtureConfig{app: func(a *renew.App) { a.RefreshTTL = 90 * time.Minute }}.new(t)
		first := f.issue()
		_, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		f.app.AuthTTL, f.app.RefreshTTL = 2*time.Hour, 3*time.Hour
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
		b, err := f.renewWith(first, testKey1) // the auth token of this retry outlives the session
		require.NoError(t, err)
		f.clock.Move(90 * time.Minute)
		_, err = f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		requireInvalidAuth(t, err, renew.ReasonEndedSession)
		n, err := f.store.DeleteExpired(f.ctx, f.clock.Now(), 1)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		requireInvalidAuth(t, err, renew.ReasonUnknownSession)
	})
	t.Run("rejects a session past its absolute end, whatever the leeway", func(t *testing.T) {
		f := fixtureConfig{
			app:  func(a *renew.App) { a.SessionTTL = 30 * time.Minute },
			opts: []renew.Option{renew.WithLeeway(time.Minute)},
		}.new(t)
		b := f.issue()
		f.clock.Move(b.AuthExpiresAt.Sub(f.clock.Now()))
		_, err := f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		requireInvalidAuth(t, err, renew.ReasonEndedSession)
	})
	t.Run("reports an outage as one", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
			return renew.Session{}, errOutage
		}
		_, err := f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
	})
}

func TestKeySetVerifiesWithAnOrdinaryLibrary(t *testing.T) {
	f := newFixture(t)
	tokens := []string{f.issue().AuthToken}
	for _, alg := range []renew.Algorithm{renew.PS256, renew.EdDSA, renew.ES512} {
		f.rotateKey(alg)
		tokens = append(tokens, f.issue().AuthToken)
	}
	set, err := f.KeySet(f.ctx, f.app.ID)
	require.NoError(t, err)
	encoded, err := json.Marshal(set)
	require.NoError(t, err)
	var read jose.JSONWebKeySet
	require.NoError(t, json.Unmarshal(encoded, &read))
	require.Len(t, read.Keys, 4)
	for _, token := range tokens {
		parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.ES512})
		require.NoError(t, err)
		kid := parsed.Signatures[0].Header.KeyID
		require.Len(t, read.Key(kid), 1)
		key := read.Key(kid)[0]
		require.Equal(t, parsed.Signatures[0].Header.Algorithm, key.Algorithm)
		require.True(t, key.IsPublic())
		_, err = parsed.Verify(key)
		require.NoError(t, err)
	}
	t.Run("says so when the store fails", func(t *testing.T) {
		r, err := renew.New(failingLister{f.store}, f.store)
		require.NoError(t, err)
		_, err = r.KeySet(f.ctx, f.app.ID)
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
	})
}

type failingLister struct{ *memstore.Store }

func (failingLister) VerificationKeys(context.Context, string) ([]*renew.VerificationKey, error) {
	return nil, errors.Join(errOutage)
}

// The promise: the key set has every key that verifies a token, and none other.
func TestKeySetWithoutEndedKeys(t *testing.T) {
	f := newFixture(t)
	set := func() (ids []string) {
		keys, err := f.KeySet(f.ctx, f.app.ID)
		require.NoError(t, err)
		for _, k := range keys.Keys {
			ids = append(ids, k.KeyID)
		}
		return ids
	}
	published := generate(t, renew.EdDSA)
	require.NoError(t, f.store.PublishSigningKey(f.ctx, f.app.ID, published))
	require.ElementsMatch(t, []string{f.key.KeyID(), published.KeyID()}, set())
	b := f.issue()
	require.Equal(t, f.key.KeyID(), b.KeyID)
	f.useKey(published)
	require.Equal(t, []string{published.KeyID(), f.key.KeyID()}, set(), "the active one first")
	f.clock.Move(renew.DefaultRefreshTTL + keyMargin + time.Minute)
	require.Len(t, set(), 2, "servers whose clock is behind still take its tokens")
	f.clock.Move(time.Millisecond)
	require.Equal(t, []string{published.KeyID()}, set())
	require.NoError(t, f.store.RevokeKey(f.ctx, f.app.ID, published.KeyID(), f.clock.Now()))
	require.Empty(t, set())
}
