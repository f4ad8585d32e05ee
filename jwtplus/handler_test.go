package jwtplus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/jwtplus"
)

// front is the compatible front on the fixture, and its clock.
type front struct {
	*httptest.Server
	fixture
	stores
	now time.Time
	log bytes.Buffer
}

func newFront(t *testing.T, wrap func(renew.TokenStore) renew.TokenStore) *front {
	t.Helper()
	f := &front{fixture: readFixture(t), stores: newMemory(t), now: fixtureClock}
	run(t, f.database(t), f.stores, jwtplus.Options{})
	var tokens renew.TokenStore = f.tokens
	if wrap != nil {
		tokens = wrap(tokens)
	}
	r, err := renew.New(f.keys, tokens, renew.WithClock(func() time.Time { return f.now }))
	require.NoError(t, err)
	f.Server = httptest.NewServer(jwtplus.Handler(r, f.keys, jwtplus.WithLogger(slog.New(slog.NewTextHandler(&f.log, nil)))))
	t.Cleanup(f.Close)
	return f
}

// call sends a body as it is, with the app key of the es256 app.
func (f *front) call(t *testing.T, method, endpoint, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.URL+"/app/"+generatedApp+"/"+endpoint, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", f.appKeys[generatedApp])
	status, data := do(t, req)
	return status, string(data)
}

const login = `{"sub":"user","aud":"web","ip":"192.0.2.1","useragent":"test","n":9007199254740993}`

func (f *front) sign(t *testing.T, body string) renew.Bundle {
	t.Helper()
	status, data := f.call(t, http.MethodPost, "sign", body)
	require.Equal(t, http.StatusOK, status, data)
	var b renew.Bundle
	require.NoError(t, json.Unmarshal([]byte(data), &b))
	return b
}

// TestHandlerLife takes a session through every endpoint.
func TestHandlerLife(t *testing.T) {
	f := newFront(t, nil)
	first := f.sign(t, login)
	require.Equal(t, generatedKey, first.KeyID)
	require.NotEmpty(t, first.PublicKey)
	claims := payload(t, first.AuthToken)
	require.Equal(t, json.Number("9007199254740993"), claims["n"])
	require.Equal(t, "web", claims["aud"])
	verify := func(token, want string) {
		t.Helper()
		status, body := f.call(t, http.MethodPost, "verify", `{"token":"`+token+`"}`)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, want, body)
	}
	verify(first.AuthToken, `{"verified":true}`)
	verify(first.RefreshToken, `{"verified":false}`)
	verify(first.AuthToken[:len(first.AuthToken)-3]+"AAA", `{"verified":false}`)
	verify("x", `{"verified":false}`)

	body := func(token string) string {
		return `{"refresh_token":"` + token + `","ip":"203.0.113.1","useragent":"later"}`
	}
	status, data := f.call(t, http.MethodPost, "renew", body(first.RefreshToken))
	require.Equal(t, http.StatusNotFound, status, "too early")
	require.JSONEq(t, `{"message":"invalid refresh token"}`, data)
	f.now = f.now.Add(time.Minute)
	status, data = f.call(t, http.MethodPost, "renew", body(first.RefreshToken))
	require.Equal(t, http.StatusOK, status, data)
	members := decode(t, []byte(data))
	require.Equal(t, []string{"auth_token", "key_id", "public_key", "refresh_token"}, slices.Sorted(maps.Keys(members)))
	second := members["auth_token"].(string)
	verify(second, `{"verified":true}`)

	status, data = f.call(t, http.MethodPost, "get-session", `{"sub":"user"}`)
	require.Equal(t, http.StatusOK, status)
	listed := decode(t, []byte(data))["sessions"].([]any)
	require.Len(t, listed, 1)
	session := listed[0].(map[string]any)
	issued := json.Number(jsonInt(f.now.Unix()))
	require.Equal(t, map[string]any{
		"token_id": payload(t, second)["jid"], "session_id": payload(t, second)["sid"],
		"auth_token_iat": issued, "auth_token_nbf": issued, "auth_token_exp": json.Number(jsonInt(f.now.Unix() + 3600)),
		"refresh_token_iat": issued, "refresh_token_nbf": json.Number(jsonInt(f.now.Unix() + 60)),
		"refresh_token_exp": json.Number(jsonInt(f.now.Unix() + 30_000_000)),
		"ip_address":        "203.0.113.1", "user_agent": "later",
	}, session)
	status, data = f.call(t, http.MethodPost, "get-session", `{"sub":"unknown"}`)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"sessions":[]}`, data)

	for _, endpoint := range []string{"logout", "revoke-token"} {
		b := f.sign(t, login)
		for range 2 {
			status, data = f.call(t, http.MethodPost, endpoint, `{"token":"`+b.AuthToken+`"}`)
			require.Equal(t, http.StatusOK, status)
			require.JSONEq(t, `{"status":"ok"}`, data)
		}
		verify(b.AuthToken, `{"verified":false}`)
	}
	status, data = f.call(t, http.MethodPost, "logout", `{"token":"of another system"}`)
	require.Equal(t, http.StatusOK, status, data)

	f.now = f.now.Add(2 * time.Hour)
	verify(second, `{"verified":false}`)
	require.Empty(t, f.log.String())
}

func jsonInt(n int64) string {
	encoded, _ := json.Marshal(n)
	return string(encoded)
}

// TestHandlerPublicKeys promises the keys that verify, with JWTPlus's columns.
func TestHandlerPublicKeys(t *testing.T) {
	f := newFront(t, nil)
	status, data := f.call(t, http.MethodGet, "pub-keys", "")
	require.Equal(t, http.StatusOK, status)
	keys := decode(t, []byte(data))["keys"].([]any)
	require.Len(t, keys, 2, "the revoked one is left out")
	for i, keyID := range []string{generatedKey, "01M894QFJZ86JC6YVHAQMHP10Y"} {
		key, row := keys[i].(map[string]any), f.row(t, "app_keys", "key_id", keyID)
		require.Equal(t, keyID, key["key_id"])
		for _, column := range []string{"key_type", "key_algo", "is_expired", "is_revoked"} {
			require.Equal(t, row[column], key[column], column)
		}
	}
}

// TestHandlerRejects promises the statuses and the shapes of JWTPlus, and that a body
// cannot set what the tokens use.
func TestHandlerRejects(t *testing.T) {
	f := newFront(t, nil)
	with := func(members string) string { return strings.TrimSuffix(login, "}") + "," + members + "}" }
	cases := map[string]struct {
		endpoint, body string
		fields         []string // of an array in errors; nil: not an array
	}{
		"an empty body":                   {"sign", "", nil},
		"not JSON":                        {"sign", "sub=user", nil},
		"an array":                        {"renew", "[]", nil},
		"a duplicate member":              {"sign", with(`"sub":"other"`), nil},
		"too long":                        {"sign", with(`"x":"` + strings.Repeat("x", 129<<10) + `"`), nil},
		"nothing that is required":        {"sign", "{}", []string{"sub", "aud", "ip", "useragent"}},
		"an audience that is an array":    {"sign", `{"sub":"u","aud":["a"],"ip":"192.0.2.1","useragent":"t"}`, []string{"aud"}},
		"a host for an address":           {"sign", `{"sub":"u","aud":"a","ip":"localhost","useragent":"t"}`, []string{"ip"}},
		"a subject in another case":       {"sign", `{"Sub":"u","aud":"a","ip":"192.0.2.1","useragent":"t"}`, []string{"sub", "Sub"}},
		"a second subject":                {"sign", with(`"SUB":"admin"`), []string{"SUB"}},
		"claims of over 16 KiB":           {"sign", with(`"x":"` + strings.Repeat("x", 17<<10) + `"`), []string{"claims"}},
		"a renewal without its members":   {"renew", "{}", []string{"refresh_token", "ip", "useragent"}},
		"a renewal in another case":       {"renew", `{"refresh_token":"x","Refresh_Token":"y","ip":"192.0.2.1","useragent":"t"}`, []string{"Refresh_Token"}},
		"a renewal without an address":    {"renew", `{"refresh_token":"x","ip":"x","useragent":"t"}`, []string{"ip"}},
		"a verification without a token":  {"verify", `{"token":""}`, []string{"token"}},
		"a logout of a number":            {"logout", `{"token":1}`, []string{"token"}},
		"a list of no subject":            {"get-session", `{}`, []string{"sub"}},
		"get-session, an unexpected type": {"get-session", `{"sub":null}`, []string{"sub"}},
	}
	for _, name := range []string{"exp", "iss", "iat", "nbf", "jid", "sid", "jti", "type", "EXP", "Iss"} {
		cases["a body that sets "+name] = struct {
			endpoint, body string
			fields         []string
		}{"sign", with(`"` + name + `":1`), []string{name}}
	}
	for name, c := range cases {
		status, data := f.call(t, http.MethodPost, c.endpoint, c.body)
		require.Equal(t, http.StatusBadRequest, status, "%s: %s", name, data)
		var body struct{ Errors any }
		require.NoError(t, json.Unmarshal([]byte(data), &body), name)
		fields, isArray := body.Errors.([]any)
		require.Equal(t, c.fields != nil, isArray, "%s: %s", name, data)
		var got []string
		for _, field := range fields {
			require.NotEmpty(t, field.(map[string]any)["error_message"], name)
			got = append(got, field.(map[string]any)["error_field"].(string))
		}
		require.Equal(t, c.fields, got, name)
	}
	sessions, err := f.tokens.SubjectSessions(t.Context(), generatedApp, "user", f.now)
	require.NoError(t, err)
	require.Empty(t, sessions, "a rejected login has left a session")
}

// TestHandlerAccess promises one response for every wrong app key and app, and that
// nothing but the endpoints is served.
func TestHandlerAccess(t *testing.T) {
	f := newFront(t, nil)
	another := f.appKeys["01M894QFK3TPKNC55EMT4VQ7S1"]
	for name, c := range map[string]struct{ appID, key string }{
		"no app key":              {generatedApp, ""},
		"a wrong app key":         {generatedApp, strings.Repeat("x", 128)},
		"another app's key":       {generatedApp, another},
		"an unknown app":          {generatedID(1), another},
		"a malformed app ID":      {"x", another},
		"an app key that is dead": {"01M894QFNY8ETZWYCY46JKVPWW", f.deadAppKeys["01M894QFNY8ETZWYCY46JKVPWW"][0]},
	} {
		status, body := post(t, f.URL+"/app/"+c.appID+"/sign", c.key, json.RawMessage(login))
		require.Equal(t, http.StatusForbidden, status, name)
		require.JSONEq(t, `{"errors":"invalid app key or id"}`, string(body), name)
	}
	for _, path := range []string{"/", "/root", "/root/rotate", "/app/" + generatedApp, "/app/" + generatedApp + "/", "/app/" + generatedApp + "/sign/", "/app//" + generatedApp + "/sign", "/x/" + generatedApp + "/sign"} {
		status, _ := post(t, f.URL+path, f.appKeys[generatedApp], json.RawMessage(login))
		require.Equal(t, http.StatusNotFound, status, path)
	}
	status, _ := f.call(t, http.MethodGet, "sign", "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	status, _ = f.call(t, http.MethodPost, "pub-keys", "{}")
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

// TestHandlerOutage promises 500, also where JWTPlus said false, and a record without
// a secret.
func TestHandlerOutage(t *testing.T) {
	var down error
	f := newFront(t, func(s renew.TokenStore) renew.TokenStore { return &outage{s, &down} })
	b := f.sign(t, login)
	f.now = f.now.Add(time.Minute)
	down = errors.New("the store is down: " + b.AuthToken + b.RefreshToken + f.appKeys[generatedApp])
	for endpoint, body := range map[string]string{ // each quotes a secret of its request
		"verify":      `{"token":"` + b.AuthToken + `"}`,
		"logout":      `{"token":"` + b.AuthToken + `"}`,
		"renew":       `{"refresh_token":"` + b.RefreshToken + `","ip":"192.0.2.1","useragent":"t"}`,
		"sign":        login,
		"get-session": `{"sub":"user"}`,
	} {
		f.log.Reset()
		status, data := f.call(t, http.MethodPost, endpoint, body)
		require.Equal(t, http.StatusInternalServerError, status, endpoint)
		require.JSONEq(t, `{"message":"error"}`, data, endpoint)
		require.Contains(t, f.log.String(), "request failed", endpoint)
		for _, secret := range []string{b.AuthToken, b.RefreshToken, f.appKeys[generatedApp]} {
			if strings.Contains(body, secret) || secret == f.appKeys[generatedApp] {
				require.NotContains(t, f.log.String(), secret, endpoint)
			}
		}
	}
}

// TestHandlerRequests promises that no request ends in a panic: not one without a
// body, which no server has made, and not one whose store panics.
func TestHandlerRequests(t *testing.T) {
	var down error
	f := newFront(t, func(s renew.TokenStore) renew.TokenStore { return &outage{s, &down} })
	serve := func(req *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		f.Config.Handler.ServeHTTP(w, req)
		return w
	}
	bare := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/app/" + generatedApp + "/renew"},
		Header: http.Header{"Authorization": {f.appKeys[generatedApp]}},
	}
	w := serve(bare)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.JSONEq(t, `{"errors":"the body is empty"}`, w.Body.String())
	require.Equal(t, http.StatusNotFound, serve(&http.Request{Method: http.MethodPost}).Code)

	token := f.sign(t, login).AuthToken
	down = panics("a bug beside " + token)
	status, data := f.call(t, http.MethodPost, "verify", `{"token":"`+token+`"}`)
	require.Equal(t, http.StatusInternalServerError, status)
	require.JSONEq(t, `{"message":"error"}`, data)
	require.Contains(t, f.log.String(), "request panicked")
	require.Contains(t, f.log.String(), "a bug beside [redacted]")
	require.NotContains(t, f.log.String(), token)
}

// TestHandlerShortValues promises that a short value in a request does not make a
// record unreadable.
func TestHandlerShortValues(t *testing.T) {
	f := newFront(t, func(s renew.TokenStore) renew.TokenStore { return &outage{s, new(error)} })
	status, _ := f.call(t, http.MethodPost, "get-session", `{"sub":"e"}`)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, f.log.String(), "not implement SubjectStore")
}

// panics is an error that an outage panics with.
type panics string

func (p panics) Error() string { return string(p) }

// outage is a token store that can be down.
type outage struct {
	renew.TokenStore
	down *error
}

func (o *outage) Session(ctx context.Context, appID, id string) (renew.Session, error) {
	if err := *o.down; err != nil {
		if p, is := err.(panics); is { //nolint:errorlint // it is made here
			panic(p)
		}
		return renew.Session{}, err
	}
	return o.TokenStore.Session(ctx, appID, id)
}

func (o *outage) CreateSession(ctx context.Context, s renew.Session) error {
	if *o.down != nil {
		return *o.down
	}
	return o.TokenStore.CreateSession(ctx, s)
}

// TestHandlerRenewsOldTokens takes every refresh token of the fixture through the
// compatible front, which responds to a rejected one as JWTPlus does.
func TestHandlerRenewsOldTokens(t *testing.T) {
	f := newFront(t, nil)
	for _, e := range f.expectations {
		want := http.StatusNotFound
		if e.ShouldRenew {
			want = http.StatusOK
		}
		status, body := post(t, f.URL+"/app/"+e.AppID+"/renew", f.appKeys[e.AppID], renewal(e.RefreshToken))
		require.Equal(t, want, status, "%s: %s", e.Kind, body)
	}
}
