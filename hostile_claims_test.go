package renew_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// The promise: an auth token has the claims that it must have, each of its type,
// or proves nothing.
func TestAuthTokensWithBadClaims(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := f.forge(b)
	good := made.authClaims().and("aud", `["a","b"]`)
	verify := func(t *testing.T, claims object) (*renew.AuthClaims, error) {
		t.Helper()
		return f.VerifyAuthToken(f.ctx, f.app.ID, made.withPayload(claims.String()))
	}
	bad := map[string]object{}
	for _, name := range []string{"sub", "ip", "useragent"} {
		bad[name+" missing"] = good.without(name)
		for _, value := range []string{"null", "1", "true", `["user"]`, "{}"} {
			bad[name+" "+value] = good.with(name, value)
		}
	}
	for _, value := range []string{"null", "1", "true", "{}", `{"a":"b"}`, "[1]", "[null]", `["a",1]`, `["a",["b"]]`, `[["a"]]`} {
		bad["aud "+value] = good.with("aud", value)
	}
	for _, name := range []string{"iat", "nbf", "exp", "jid"} {
		bad[name+" missing"] = good.without(name)
		bad[name+" null"] = good.with(name, "null")
	}
	bad["sid null"] = good.with("sid", "null")
	bad["SUB besides sub"] = good.and("SUB", `"admin"`)
	bad["sub twice"] = good.and("sub", `"admin"`)
	bad["a custom claim twice"] = good.and("role", `"user"`).and("role", `"admin"`)
	bad["Aud for aud"] = good.without("aud").and("Aud", `"a"`)
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
		"several audiences": {good, []string{"a", "b"}},
		"one audience":      {good.with("aud", `"a"`), []string{"a"}},
		"an array of one":   {good.with("aud", `["a"]`), []string{"a"}},
		"no audience":       {good.without("aud"), nil},
		"an empty array":    {good.with("aud", `[]`), []string{}},
		"jti is no claim":   {good.and("jti", `"x"`), []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, c.claims)
			require.NoError(t, err)
			require.Equal(t, c.aud, []string(got.Audience))
			require.Empty(t, got.Claims)
		})
	}
	t.Run("no sid", func(t *testing.T) {
		got, err := verify(t, good.without("sid"))
		require.NoError(t, err)
		require.Equal(t, b.TokenID, got.SessionID)
	})
}

// The promise: a store may write the JSON of custom claims in its own way, as
// databases do that know JSON, and the tokens are good all the same.
func TestClaimsAsAStoreMayWriteThem(t *testing.T) {
	for stored, want := range map[string]map[string]any{
		"":                                {},
		"{}":                              {},
		" {\n} ":                          {},
		" { \"a\" : \"b\" , \"c\":[ ] } ": {"a": "b", "c": []any{}},
		"\t{\"a\":{}}\r\n":                {"a": map[string]any{}},
	} {
		t.Run(stored, func(t *testing.T) {
			f := newFixture(t)
			first := f.issue()
			s := f.session(first)
			s.Claims = []byte(stored)
			require.NoError(t, f.store.Rotate(f.ctx, s.TokenID, s))
			second := f.renew(first)
			got, err := f.VerifyAuthToken(f.ctx, f.app.ID, second.AuthToken)
			require.NoError(t, err)
			require.Equal(t, want, got.Claims)
			f.renew(second)
		})
	}
}

// A refresh token without sid belongs to the session whose ID is its jid: so
// tokens of other issuers are taken over.
func TestTokenWithoutSidBelongsToTheSessionOfItsID(t *testing.T) {
	f := newFixture(t)
	s := loadCorpus().sessions["own"]
	s.ID = s.TokenID
	require.NoError(t, f.store.CreateSession(f.ctx, s))
	made := forge{key: f.key, issuer: f.app.Issuer, session: s}
	req := renew.RenewRequest{
		AppID: f.app.ID, RefreshToken: made.withPayload(made.claims().without("sid").String()), IP: testIP, UserAgent: testAgent,
	}
	second, err := f.Renew(f.ctx, req)
	require.NoError(t, err)
	require.Equal(t, s.ID, second.SessionID)
	require.Equal(t, s.ID, claims(t, second.RefreshToken)["sid"])
	_, err = f.Renew(f.ctx, req)
	requireRejected(t, err, renew.ReasonSuperseded)
	f.renew(second)
}
