package renew_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func TestAudienceIsAStringOrAnArray(t *testing.T) {
	for _, c := range []struct {
		name string
		aud  []string
		want any
	}{
		{"none", nil, nil},
		{"one", []string{"a"}, "a"},
		{"several", []string{"a", "b"}, []any{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Audience = c.aud
			b, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
			b = f.renew(b)
			require.Equal(t, c.want, claims(t, b.AuthToken)["aud"])
			got, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
			require.NoError(t, err)
			require.Equal(t, c.aud, got.Audience)
		})
	}
}

func TestBundleMarshalsToTheDocumentedResponse(t *testing.T) {
	encoded, err := json.Marshal(newFixture(t).issue())
	require.NoError(t, err)
	require.Regexp(t, `^\{"auth_token":"[^"]+","key_id":"[0-9A-Z]{26}","public_key":"[^"]+","refresh_token":"[^"]+"\}$`, string(encoded))
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

// The promise: a caller that cannot sign learns nothing about sessions, not even by
// timing. A forgery takes the same steps whatever session and token it names.
func TestForgeryTakesTheSameStepsWhateverItNames(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	stranger := generate(t, renew.ES256)
	live, used, revoked := f.issue(), f.issue(), f.issue()
	current := f.renew(used)
	require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, revoked.SessionID))
	unknown := f.session(live)
	unknown.ID, unknown.TokenID = unknownSession()
	for name, s := range map[string]renew.Session{
		"a live session": f.session(live), "a session renewed since": f.session(current), "a revoked session": f.session(revoked), "no session": unknown,
	} {
		t.Run(name, func(t *testing.T) {
			genuine := forge{key: f.key, issuer: f.app.Issuer, session: s}
			req := f.request(live)
			req.RefreshToken = forge{key: stranger}.sign(genuine.header().String(), genuine.claims().String())
			f.hooks.calls()
			keys.calls = map[string]int{}
			_, err := f.Renew(f.ctx, req)
			requireRejected(t, err, renew.ReasonSignature)
			require.Equal(t, [4]int64{}, f.hooks.calls())
			require.Equal(t, map[string]int{"App": 1, "VerificationKey": 1}, keys.calls)
		})
	}
}

// The limit of an auth token is far above what this library makes, and far below
// what would cost something.
func TestAuthTokensUpTo96KiB(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := f.forge(b)
	longest, longer := made.ofLength(made.authClaims().String(), 96<<10), made.ofLength(made.authClaims().String(), 96<<10+1)
	_, err := f.VerifyAuthToken(f.ctx, f.app.ID, longest)
	require.NoError(t, err)
	_, err = f.VerifyAuthToken(f.ctx, f.app.ID, longer)
	requireInvalidAuth(t, err, renew.ReasonMalformed)
	require.ErrorIs(t, f.Revoke(f.ctx, f.app.ID, longer), renew.ErrInvalidToken)
	require.NoError(t, f.Revoke(f.ctx, f.app.ID, longest))
}

// The promise: a refresh token that has a claim of the auth token was made for
// something else (RFC 7519 section 4.1.3), and is rejected.
func TestRefreshTokenWithForeignClaims(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := forge{key: f.key, issuer: f.app.Issuer, session: f.session(b)}
	for claim, value := range map[string]string{
		"aud": `"https://other.example"`, "sub": `"user@example.com"`, "ip": `"192.0.2.1"`, "useragent": `"x"`,
	} {
		for _, value := range []string{value, "null", `""`, "[]"} {
			req := f.request(b)
			req.RefreshToken = made.withPayload(made.claims().and(claim, value).String())
			_, err := f.Renew(f.ctx, req)
			requireRejected(t, err, renew.ReasonClaims)
			require.ErrorIs(t, f.Revoke(f.ctx, f.app.ID, req.RefreshToken), renew.ErrInvalidToken)
		}
	}
	req := f.request(b)
	req.RefreshToken = made.withPayload(made.claims().and("other", `"claim"`).String())
	_, err := f.Renew(f.ctx, req)
	require.NoError(t, err)
}

// The promise: what is not a JWS with a header of this library costs no call of a
// store, whatever it is presented for, and a header has at most 512 bytes.
func TestTextsThatAreNotTokensCostNoStoreCall(t *testing.T) {
	calls := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { calls.KeyStore = s; return calls }}.new(t)
	b := f.issue()
	made := forge{key: f.key, issuer: f.app.Issuer, session: f.session(b)}
	members := strings.Builder{}
	for i := range 9000 {
		fmt.Fprintf(&members, `"m%d":%d,`, i, i)
	}
	header := made.header().String()
	for name, token := range map[string]string{
		"x": "x", "three dots": "...", "three letters": "a.b.c", "a header that is too long": made.withHeader(header + strings.Repeat(" ", 513-len(header))),
		"9,000 members": made.withHeader("{" + members.String() + header[1:]), "another header": made.withHeader(`{"alg":"ES256","kid":"` + f.key.KeyID() + `","typ":"JWT","x":1}`),
	} {
		t.Run(name, func(t *testing.T) {
			clear(calls.calls)
			f.hooks.calls()
			for _, err := range []error{
				func() error { _, err := f.VerifyAuthToken(f.ctx, f.app.ID, token); return err }(),
				func() error { _, err := f.VerifySession(f.ctx, f.app.ID, token); return err }(),
				func() error { _, err := f.Renew(f.ctx, f.request(&renew.Bundle{RefreshToken: token})); return err }(),
				f.Revoke(f.ctx, f.app.ID, token),
				f.Revoke(f.ctx, "an app that is not there", token),
			} {
				var rejected *renew.TokenError
				require.ErrorAs(t, err, &rejected)
				require.Equal(t, renew.ReasonMalformed, rejected.Reason)
			}
			require.Empty(t, calls.calls)
			require.Equal(t, [4]int64{}, f.hooks.calls())
		})
	}
	t.Run("512 bytes of header are valid", func(t *testing.T) {
		req := f.request(b)
		req.RefreshToken = made.withHeader(header + strings.Repeat(" ", 512-len(header)))
		_, err := f.Renew(f.ctx, req)
		require.NoError(t, err)
	})
}
