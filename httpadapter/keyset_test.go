package httpadapter_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/memstore"
)

var keySetHeader = []string{"Cache-Control", "public, max-age=60", "Access-Control-Allow-Origin", "*"}

func newTokenStore(t *testing.T, sessions ...renew.Session) renew.TokenStore {
	t.Helper()
	store := memstore.New()
	for _, s := range sessions {
		if err := store.CreateSession(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func (f *fixture) get(url string) response {
	f.tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		f.tb.Fatal(err)
	}
	return f.do(req)
}

// verifyWithKeySet verifies an auth token by the served bytes alone, and returns
// the set.
func verifyWithKeySet(t *testing.T, f *fixture, url, authToken string) jose.JSONWebKeySet {
	t.Helper()
	got := f.get(url)
	check(t, got, http.StatusOK, got.body, keySetHeader...)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(got.body), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		if !key.IsPublic() || key.Use != "sig" || !key.Valid() {
			t.Errorf("key %s is not a public signing key", key.KeyID)
		}
	}
	jws, err := jose.ParseSignedCompact(authToken, algorithms)
	if err != nil {
		t.Fatal(err)
	}
	keys := set.Key(jws.Signatures[0].Header.KeyID)
	if len(keys) != 1 || keys[0].Algorithm != jws.Signatures[0].Header.Algorithm {
		t.Fatalf("the set has %d keys for the token", len(keys))
	}
	payload, err := jws.Verify(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Sub, IP string }
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Sub != "ann" || claims.IP != ip {
		t.Errorf("claims are %s (%v)", payload, err)
	}
	return set
}

var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Promise: an ordinary JOSE library verifies auth tokens of every algorithm with
// the key set, those of a replaced key too, and none of a revoked one.
func TestKeySetVerifiesAuthTokens(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	url := server.URL + "/app/shop/jwks.json"
	first := f.issue()
	tokens := map[string]string{first.KeyID: first.AuthToken}
	for _, alg := range algorithms {
		key := f.rotateKey(appID, renew.Algorithm(alg))
		tokens[key.VerificationKey().KeyID()] = f.issue().AuthToken
	}
	for _, token := range tokens {
		if set := verifyWithKeySet(t, f, url, token); len(set.Keys) != len(tokens) {
			t.Errorf("the set has %d keys, want %d", len(set.Keys), len(tokens))
		}
	}
	if err := f.store.RevokeKey(t.Context(), appID, first.KeyID, f.clock()); err != nil {
		t.Fatal(err)
	}
	if got := f.get(url); strings.Contains(got.body, first.KeyID) {
		t.Error("the set has a key that was revoked")
	}
}

// Promise: HEAD is GET without the body.
func TestKeySetHead(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	resp, err := http.Head(server.URL + "/app/shop/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	if length := int64(len(f.get(server.URL + "/app/shop/jwks.json").body)); resp.ContentLength != length {
		t.Errorf("Content-Length is %d, want %d", resp.ContentLength, length)
	}
	check(t, read(t, resp), http.StatusOK, "", keySetHeader...)
	resp, err = http.Head(server.URL + "/app/nobody/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	check(t, read(t, resp), http.StatusNotFound, "")
}

// Promise: no key set is 404, another method 405, a store that fails 500, and no
// cache keeps any of them. The KeyStore has not confirmed the app, so that the record
// does not name it.
func TestKeySetFailures(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	for _, id := range []string{"nobody", "", strings.Repeat("a", 256), "shop%00", "%FF", ".."} {
		check(t, f.get(server.URL+"/app/"+id+"/jwks.json"), http.StatusNotFound, bodyNotFound)
	}
	check(t, f.do(f.post(server.URL+"/app/shop/jwks.json", "")), http.StatusMethodNotAllowed, bodyBadMethod, "Allow", "GET, HEAD")
	if text := f.logs.text(); text != "" {
		t.Errorf("logged: %s", text)
	}
	f.store.fault("VerificationKeys", func(context.Context) error { return errors.New("disk on fire") })
	check(t, f.get(server.URL+"/app/shop/jwks.json"), http.StatusInternalServerError, bodyInternalError)
	record := f.logs.records(t)[0]
	if record["level"] != "ERROR" || record["app"] != nil || !strings.Contains(record["error"].(string), "disk on fire") {
		t.Errorf("record is %v", record)
	}
}

// Promise: 404 where the KeyStore does not implement KeyLister; renewals work nevertheless.
func TestKeySetWithoutKeyLister(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(struct{ renew.KeyStore }{f.store}, f.store, renew.WithClock(f.clock))
	if err != nil {
		t.Fatal(err)
	}
	server := f.serve(httpadapter.New(r, httpadapter.WithLogger(f.logger())))
	check(t, f.get(server.URL+"/app/shop/jwks.json"), http.StatusNotFound, bodyNotFound)
	f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(f.issue().RefreshToken))))
}

// Promise: the header is the constant.
func TestKeySetMaxAge(t *testing.T) {
	if httpadapter.KeySetMaxAge != time.Minute {
		t.Errorf("KeySetMaxAge is %v; the tests compare with %q", httpadapter.KeySetMaxAge, keySetHeader)
	}
}
