package httpadapter_test

import (
	"context"
	"crypto"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// sampleJSON is the response that the endpoint's documentation shows. It is
// genuine: another issuer's service made it.
//
//go:embed testdata/sample.json
var sampleJSON []byte

// The times of the sample's refresh token, and its ID.
const (
	sampleTokenID   = "01JMWRJEJ71191KP88NDGWVYEW"
	sampleIssuedAt  = 1740427049
	sampleNotBefore = 1740427109
	sampleExpiresAt = 1740437849
)

// takenOver is a key store that also knows the key of the service whose sessions
// were taken over: only its public half, which no app of a memstore has.
type takenOver struct {
	renew.KeyStore
	appID string
	key   *renew.VerificationKey
}

func (s takenOver) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	if appID == s.appID && keyID == s.key.KeyID() {
		return s.key, nil
	}
	return s.KeyStore.VerificationKey(ctx, appID, keyID)
}

func sample(t *testing.T) renew.Bundle {
	t.Helper()
	var b renew.Bundle
	if err := json.Unmarshal(sampleJSON, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// publicKey reads a response's public_key as a front end does.
func publicKey(t *testing.T, encoded string) crypto.PublicKey {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatal("public_key is not one PEM block")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// claimsOf verifies a token by a response's public_key alone, and returns its
// claims.
func claimsOf(token, keyID string, pub crypto.PublicKey) (map[string]any, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	if jws.Signatures[0].Header.KeyID != keyID {
		return nil, errors.New("the token's kid is not the key_id")
	}
	payload, err := jws.Verify(pub)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	return claims, json.Unmarshal(payload, &claims)
}

func mustClaims(t *testing.T, token, keyID string, pub crypto.PublicKey) map[string]any {
	t.Helper()
	claims, err := claimsOf(token, keyID, pub)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// takeOver returns a fixture with the sample's session and key, at the given
// time, and a server for it. The app's settings are those that the sample shows.
func takeOver(t *testing.T, now time.Time) (*fixture, string) {
	t.Helper()
	b := sample(t)
	f := newFixture(t)
	f.now = now
	f.keepSecret(b.AuthToken, b.RefreshToken)
	app, err := f.store.App(t.Context(), appID)
	if err != nil {
		t.Fatal(err)
	}
	app.Issuer, app.RefreshNotBefore = "app_2", time.Minute
	if err := f.store.UpdateApp(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	f.rotateKey(appID, renew.ES256)
	err = f.store.CreateSession(t.Context(), renew.Session{
		AppID:            appID,
		ID:               sampleTokenID,
		TokenID:          sampleTokenID,
		Subject:          "test@test.com",
		Audience:         []string{"web-app"},
		Claims:           json.RawMessage(`{"personal":{"name":"test-user"}}`),
		CreatedAt:        time.Unix(sampleIssuedAt, 0).UTC(),
		IssuedAt:         time.Unix(sampleIssuedAt, 0).UTC(),
		RefreshNotBefore: time.Unix(sampleNotBefore, 0).UTC(),
		RefreshExpiresAt: time.Unix(sampleExpiresAt, 0).UTC(),
		IP:               "1.1.1.1",
		UserAgent:        "my-user-agent",
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := renew.NewVerificationKey(b.KeyID, renew.ES256, publicKey(t, b.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if key.PublicKey() != b.PublicKey {
		t.Error("our form of the sample's key is not the sample's")
	}
	f.renewer, err = renew.New(takenOver{f.store, appID, key}, f.store, renew.WithClock(f.clock))
	if err != nil {
		t.Fatal(err)
	}
	return f, f.serve(httpadapter.New(f.renewer, httpadapter.WithLogger(f.logger()))).URL + "/app/" + appID + "/renew"
}

// documented is the request as the documentation's curl command sends it.
func (f *fixture) documented(url, refreshToken string) *http.Request {
	return f.post(url, `{
"refresh_token":"`+refreshToken+`",
"ip":"1.1.1.1",
"useragent":"test-agent"
}`)
}

// Promise: the documentation's sample is a session like any other: it can be
// taken over and renewed.
func TestSampleIsRenewed(t *testing.T) {
	const now = sampleNotBefore + 1000
	old := sample(t)
	f, url := takeOver(t, time.Unix(now, 0))
	b := f.checkRenewed(f.do(f.documented(url, old.RefreshToken)))

	oldPublic, public := publicKey(t, old.PublicKey), publicKey(t, b.PublicKey)
	for _, token := range []string{b.AuthToken, b.RefreshToken} {
		if _, err := claimsOf(token, b.KeyID, oldPublic); !errors.Is(err, jose.ErrCryptoFailure) {
			t.Errorf("under the sample's key a new token is %v, want a wrong signature", err)
		}
	}
	oldAuth := mustClaims(t, old.AuthToken, old.KeyID, oldPublic)
	oldRefresh := mustClaims(t, old.RefreshToken, old.KeyID, oldPublic)
	auth := mustClaims(t, b.AuthToken, b.KeyID, public)
	refresh := mustClaims(t, b.RefreshToken, b.KeyID, public)

	jid, _ := auth["jid"].(string)
	if jid <= sampleTokenID || len(jid) != len(sampleTokenID) {
		t.Errorf("jid is %q, want a new ULID", jid)
	}
	want := map[string]any{
		"iss": oldAuth["iss"], "sub": oldAuth["sub"], "aud": oldAuth["aud"], "personal": oldAuth["personal"],
		"ip": "1.1.1.1", "useragent": "test-agent",
		"jid": jid, "sid": sampleTokenID,
		"iat": float64(now), "nbf": float64(now), "exp": float64(now + 3600),
	}
	if !reflect.DeepEqual(auth, want) {
		t.Errorf("auth token claims are %v\n                   want %v", auth, want)
	}
	want = map[string]any{
		"iss": oldRefresh["iss"], "type": oldRefresh["type"],
		"jid": jid, "sid": sampleTokenID,
		"iat": float64(now), "nbf": float64(now + 60), "exp": float64(now + 10800),
	}
	if !reflect.DeepEqual(refresh, want) {
		t.Errorf("refresh token claims are %v\n                      want %v", refresh, want)
	}

	check(t, f.do(f.documented(url, old.RefreshToken)), http.StatusBadRequest, bodyInvalidToken)
	f.advance(time.Minute)
	f.checkRenewed(f.do(f.documented(url, b.RefreshToken)))
}

// Promise: the sample is valid from its nbf, until its exp.
func TestSampleTimes(t *testing.T) {
	for _, test := range []struct {
		name    string
		now     int64
		renewed bool
	}{
		{"one second before nbf", sampleNotBefore - 1, false},
		{"at nbf", sampleNotBefore, true},
		{"one second before exp", sampleExpiresAt - 1, true},
		{"at exp", sampleExpiresAt, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, url := takeOver(t, time.Unix(test.now, 0))
			got := f.do(f.documented(url, sample(t).RefreshToken))
			if test.renewed {
				f.checkRenewed(got)
			} else {
				check(t, got, http.StatusBadRequest, bodyInvalidToken)
			}
		})
	}
}
