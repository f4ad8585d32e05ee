package httpadapter_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Promise: each row of the documented table, to the byte.
func TestRenewedIsTheBundle(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	issued := f.issue()
	b := f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(issued.RefreshToken))))
	key, err := f.store.SigningKey(t.Context(), appID)
	if err != nil {
		t.Fatal(err)
	}
	if b.KeyID != key.VerificationKey().KeyID() || b.PublicKey != key.VerificationKey().PublicKey() {
		t.Errorf("key_id and public_key are %s and %s, not the signing key's", b.KeyID, b.PublicKey)
	}
	claims, err := f.renewer.VerifyAuthToken(t.Context(), appID, b.AuthToken)
	if err != nil {
		t.Fatal(err)
	}
	if claims.IP != ip || claims.UserAgent != agent || claims.SessionID != issued.SessionID {
		t.Errorf("auth token has ip %q, useragent %q, session %q", claims.IP, claims.UserAgent, claims.SessionID)
	}
	f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(b.RefreshToken))))
	if text := f.logs.text(); text != "" {
		t.Errorf("a success was logged: %s", text)
	}
}

// Promise: each field that is wrong is named, all in one response, in the order of
// the documentation.
func TestInvalidRequests(t *testing.T) {
	long := strings.Repeat("x", 1025)
	for _, test := range []struct {
		name string
		body string
		edit func(*http.Request)
		want string
	}{
		{"no body", ``, nil, fields("body", "is not a single JSON object")},
		{"not JSON", `ip=192.0.2.1`, nil, fields("body", "is not a single JSON object")},
		{"an array", `[]`, nil, fields("body", "is not a single JSON object")},
		{"a member twice", `{"ip":"192.0.2.1","ip":"192.0.2.1"}`, nil, fields("body", "has a duplicate member (ignoring case)")},
		{"a member in another case", `{"refresh_token":"a","IP":"192.0.2.1","useragent":"a"}`, nil, fields("body", "has a duplicate member (ignoring case)")},
		{"invalid UTF-8", "{\"useragent\":\"\xff\"}", nil, fields("body", "is not valid Unicode")},
		{"over 64 KiB", `{"pad":"` + strings.Repeat("x", 64<<10) + `"}`, nil, fields("body", "is longer than 65536 bytes")},
		{"all missing", `{}`, nil, fields("refresh_token", required, "ip", required, "useragent", required)},
		{"all empty", `{"useragent":"","ip":"","refresh_token":""}`, nil, fields("refresh_token", required, "ip", required, "useragent", required)},
		{"all of the wrong type", `{"useragent":[],"ip":1,"refresh_token":null}`, nil, fields("refresh_token", "is not a string", "ip", "is not a string", "useragent", "is not a string")},
		{"each wrong in its way", `{"refresh_token":{},"ip":"192.0.2.1:80"}`, nil, fields("refresh_token", "is not a string", "ip", noIP, "useragent", required)},
		{"wrong type and long", `{"refresh_token":"a","ip":false,"useragent":"` + long + `"}`, nil, fields("ip", "is not a string")},
		{"content type", body("a"), withHeader("Content-Type", "text/plain"), fields("Content-Type", "is not application/json, with charset utf-8 or none")},
		{"content encoding", body("a"), withHeader("Content-Encoding", "gzip"), fields("Content-Encoding", "is not identity: send the body as it is")},
		{"both", body("a"), func(req *http.Request) {
			withHeader("Content-Type")(req)
			withHeader("Content-Encoding", "br")(req)
		}, fields("Content-Type", "is not application/json, with charset utf-8 or none", "Content-Encoding", "is not identity: send the body as it is")},
		{"idempotency key too short", body("a"), withHeader("Idempotency-Key", "123456789012345"), fields("Idempotency-Key", "must be 16 to 255 characters long")},
		{"idempotency key twice", body("a"), withHeader("Idempotency-Key", "1234567890123456", "1234567890123456"), fields("Idempotency-Key", "is sent more than once")},
		{"idempotency key empty", body("a"), withHeader("Idempotency-Key", ""), fields("Idempotency-Key", "is empty")},
		{"idempotency key twice and others", `{"ip":2}`, withHeader("Idempotency-Key", "a", "b"), fields("refresh_token", required, "ip", "is not a string", "useragent", required, "Idempotency-Key", "is sent more than once")},
		{"idempotency key wrong and a wrong type", `{"refresh_token":"a","ip":2,"useragent":"a"}`, withHeader("Idempotency-Key", "a"), fields("ip", "is not a string", "Idempotency-Key", "must be 16 to 255 characters long")},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.store.fault("Session", func(context.Context) error { return errors.New("the store was asked") })
			server := f.serve(f.handler())
			var edits []func(*http.Request)
			if test.edit != nil {
				edits = append(edits, test.edit)
			}
			check(t, f.do(f.post(server.URL+"/app/shop/renew", test.body, edits...)), http.StatusBadRequest, test.want)
		})
	}
}

// Promise: requests that look odd and mean one thing are served.
func TestOddRequestsThatAreRight(t *testing.T) {
	spaced := func(token string) string {
		return " \t\r\n{ \"useragent\" :\n \"" + agent + "\" , \"ip\" : \"" + ip + "\",\t\"refresh_token\" : \"" + token + "\" } \n"
	}
	with := func(member string) func(string) string {
		return func(token string) string { return "{" + member + "," + body(token)[1:] }
	}
	for _, test := range []struct {
		name   string
		target string
		body   func(token string) string
		edit   func(*http.Request)
	}{
		{name: "white space and another order", body: spaced},
		{name: "an unknown member", body: with(`"device":{"ip":7,"ip":8}`)},
		{name: "an unknown member in depth", body: with(`"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000))},
		{name: "an unknown number out of range", body: with(`"x":1e999999`)},
		{name: "__proto__", body: with(`"__proto__":{"ip":"::"}`)},
		{name: "an escaped name", body: func(token string) string { return strings.Replace(body(token), `"ip"`, `"\u0069\u0070"`, 1) }},
		{name: "exactly 64 KiB", body: func(token string) string {
			return with(`"pad":"` + strings.Repeat("x", 64<<10-len(body(token))-len(`"pad":"",`)) + `"`)(token)
		}},
		{name: "charset", edit: withHeader("Content-Type", `application/json; charset="UTF-8"`)},
		{name: "media type in capitals", edit: withHeader("Content-Type", "Application/JSON")},
		{name: "identity", edit: withHeader("Content-Encoding", "Identity")},
		{name: "a query", target: "/app/shop/renew?app_id=other&refresh_token=x"},
		{name: "an escaped path", target: "/%61pp/sh%6Fp/rene%77"},
		{name: "chunked", edit: func(req *http.Request) { req.ContentLength = -1 }},
		{name: "IPv6", body: func(token string) string { return strings.Replace(body(token), ip, "2001:DB8::1", 1) }},
		{name: "IPv4 mapped into IPv6", body: func(token string) string { return strings.Replace(body(token), ip, "::ffff:192.0.2.1", 1) }},
		{name: "a user agent of 1,024 bytes", body: func(token string) string { return strings.Replace(body(token), agent, strings.Repeat("é", 512), 1) }},
		{name: "a user agent beyond the BMP", body: func(token string) string { return strings.Replace(body(token), agent, `\ud83d\ude00`, 1) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			server := f.serve(f.handler())
			target, body := "/app/shop/renew", body(f.issue().RefreshToken)
			if test.target != "" {
				target = test.target
			}
			if test.body != nil {
				body = test.body(f.issue().RefreshToken)
			}
			var edits []func(*http.Request)
			if test.edit != nil {
				edits = append(edits, test.edit)
			}
			f.checkRenewed(f.do(f.post(server.URL+target, body, edits...)))
		})
	}
}

// invalidTokens are refresh tokens that renew nothing, each for another reason.
func invalidTokens(t *testing.T, f *fixture) map[renew.Reason]string {
	t.Helper()
	ctx := t.Context()
	use := func(b *renew.Bundle) {
		t.Helper()
		renewed, err := f.renewer.Renew(ctx, renew.RenewRequest{AppID: appID, RefreshToken: b.RefreshToken, IP: ip, UserAgent: agent})
		if err != nil {
			t.Fatal(err)
		}
		f.keepSecret(renewed.AuthToken, renewed.RefreshToken)
	}
	tokens := map[renew.Reason]string{renew.ReasonMalformed: "not.a.token"}

	tokens[renew.ReasonExpired] = f.issue().RefreshToken
	f.advance(renew.DefaultRefreshTTL)

	genuine := f.issue()
	tokens[renew.ReasonType] = genuine.AuthToken
	other := f.issue()
	tokens[renew.ReasonSignature] = genuine.RefreshToken[:strings.LastIndexByte(genuine.RefreshToken, '.')] +
		other.RefreshToken[strings.LastIndexByte(other.RefreshToken, '.'):]
	f.keepSecret(tokens[renew.ReasonSignature])

	reused := f.issue()
	use(reused)
	f.advance(time.Minute)
	tokens[renew.ReasonReused] = reused.RefreshToken
	superseded := f.issue()
	use(superseded)
	tokens[renew.ReasonSuperseded] = superseded.RefreshToken

	revoked := f.issue()
	if err := f.renewer.Revoke(ctx, appID, revoked.AuthToken); err != nil {
		t.Fatal(err)
	}
	tokens[renew.ReasonRevokedSession] = revoked.RefreshToken

	key := f.rotateKey(appID, renew.ES256)
	tokens[renew.ReasonRevokedKey] = f.issue().RefreshToken
	f.rotateKey(appID, renew.ES256)
	if err := f.store.RevokeKey(ctx, appID, key.VerificationKey().KeyID(), f.clock()); err != nil {
		t.Fatal(err)
	}
	app, err := f.store.App(ctx, appID)
	if err != nil {
		t.Fatal(err)
	}
	app.RefreshNotBefore = time.Minute
	if err := f.store.UpdateApp(ctx, app); err != nil {
		t.Fatal(err)
	}
	tokens[renew.ReasonTooEarly] = f.issue().RefreshToken
	return tokens
}

// Promise: one response for every reason, with the reason in the log, and 404 in
// place of 400 where that is asked for.
func TestInvalidRefreshToken(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			f := newFixture(t)
			server := f.serve(f.handler(httpadapter.WithInvalidTokenStatus(status)))
			for reason, token := range invalidTokens(t, f) {
				before := len(f.logs.records(t))
				check(t, f.do(f.post(server.URL+"/app/shop/renew", body(token))), status, bodyInvalidToken)
				records := f.logs.records(t)[before:]
				if len(records) != 1 {
					t.Fatalf("%s: records are %v, want one", reason, records)
				}
				record := records[0]
				if record["level"] != "INFO" || record["msg"] != "request rejected" || record["app"] != appID || record["reason"] != string(reason) {
					t.Errorf("%s: record is %v", reason, record)
				}
				if _, hasSession := record["session"]; hasSession != isGenuine(reason) {
					t.Errorf("%s: record is %v; a genuine token has a session, and no other", reason, record)
				}
			}
			wrong := f.post(server.URL+"/app/shop/renew", `{}`)
			if got := f.do(wrong); got.status != http.StatusBadRequest {
				t.Errorf("a request wrong in form is %d, want 400 always", got.status)
			}
		})
	}
}

func isGenuine(reason renew.Reason) bool {
	switch reason {
	case renew.ReasonMalformed, renew.ReasonSignature, renew.ReasonType, renew.ReasonRevokedKey:
		return false
	}
	return true
}

// Promise: one response for every app key and app that is not right, whatever the
// body holds; and the log names no app that does not exist.
func TestInvalidAppKey(t *testing.T) {
	f := newFixture(t)
	otherKey := f.createApp("other")
	server := f.serve(f.handler())
	token := f.issue().RefreshToken
	for _, test := range []struct {
		name  string
		appID string
		keys  []string
		knows bool // the log may name the app
	}{
		{"missing", appID, nil, false},
		{"empty", appID, []string{""}, false},
		{"wrong", appID, []string{"wrong"}, true},
		{"another app's", appID, []string{otherKey}, true},
		{"with a scheme", appID, []string{"Bearer " + f.appKey}, true},
		{"cut short", appID, []string{f.appKey[1:]}, true},
		{"repeated", appID, []string{f.appKey, f.appKey}, false},
		{"right, then wrong", appID, []string{f.appKey, "wrong"}, false},
		{"unknown app", "nobody", []string{f.appKey}, false},
		{"app in another case", "SHOP", []string{f.appKey}, false},
		{"no app", "", []string{f.appKey}, false},
		{"app of 256 bytes", strings.Repeat("a", 256), []string{f.appKey}, false},
		{"app with a control character", "shop%0A", []string{f.appKey}, false},
		{"app that is not UTF-8", "%FF", []string{f.appKey}, false},
		{"app key as app", f.appKey, []string{f.appKey}, false},
		{"refresh token as app", token, []string{f.appKey}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(f.logs.records(t))
			check(t, f.do(f.post(server.URL+"/app/"+test.appID+"/renew", body(token), withHeader("Authorization", test.keys...))),
				http.StatusForbidden, bodyInvalidAppKey)
			for _, record := range f.logs.records(t)[before:] {
				if app, logged := record["app"]; logged != test.knows || logged && app != test.appID {
					t.Errorf("record is %v", record)
				}
			}
		})
	}
	f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(token))))
}

// Promise: whatever of the server fails, the client learns nothing, and the log
// the root cause, with app and session as far as the store has confirmed them.
func TestInternalError(t *testing.T) {
	cause := errors.New("disk on fire")
	fails := func(context.Context) error { return cause }
	for _, test := range []struct {
		method     string
		hasApp     bool
		hasSession bool
	}{
		{"App", false, false},
		{"VerificationKey", true, false},
		{"Session", true, true},
		{"SigningKey", true, true},
		{"Rotate", true, true},
	} {
		t.Run(test.method, func(t *testing.T) {
			f := newFixture(t)
			server := f.serve(f.handler())
			issued := f.issue()
			f.store.fault(test.method, fails)
			check(t, f.do(f.post(server.URL+"/app/shop/renew", body(issued.RefreshToken))), http.StatusInternalServerError, bodyInternalError)
			records := f.logs.records(t)
			if len(records) != 1 {
				t.Fatalf("records are %v, want one", records)
			}
			record := records[0]
			if record["level"] != "ERROR" || record["msg"] != "request failed" || !strings.Contains(record["error"].(string), cause.Error()) {
				t.Errorf("record is %v", record)
			}
			if app, has := record["app"]; has != test.hasApp || has && app != appID {
				t.Errorf("record is %v, want app %s: %v", record, appID, test.hasApp)
			}
			if strings.Contains(record["error"].(string), issued.SessionID) {
				t.Errorf("record is %v; the session is an attribute, and need not stand in the text", record)
			}
			if session, has := record["session"]; has != test.hasSession || has && session != issued.SessionID {
				t.Errorf("record is %v, want session %s: %v", record, issued.SessionID, test.hasSession)
			}
			f.store.fault(test.method, nil)
			f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(issued.RefreshToken))))
		})
	}
}

// Promise: a token ahead of the store is an internal error.
func TestAheadIsAnInternalError(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	issued := f.issue()
	renewed := f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(issued.RefreshToken))))
	backup := memstoreWith(t, f, issued)
	check(t, f.do(f.post(f.serve(backup).URL+"/app/shop/renew", body(renewed.RefreshToken))), http.StatusInternalServerError, bodyInternalError)
	if text := f.logs.text(); !strings.Contains(text, renew.ErrAhead.Error()) {
		t.Errorf("the log does not say that the store is behind: %s", text)
	}
}

// Promise: what a hook's error quotes of the request does not reach the log.
func TestHookErrorsAreRedacted(t *testing.T) {
	const idempotencyKey = "an-idempotency-key"
	for _, test := range []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"failure", errors.New("policy server"), http.StatusInternalServerError, bodyInternalError},
		{"rejection", renew.ErrDenied, http.StatusBadRequest, bodyInvalidToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
				return fmt.Errorf("%w: token %q, key %s", test.err, rn.Request.RefreshToken, rn.Request.IdempotencyKey)
			}))
			f.keepSecret(idempotencyKey)
			server := f.serve(f.handler())
			got := f.do(f.post(server.URL+"/app/shop/renew", body(f.issue().RefreshToken), withHeader("Idempotency-Key", idempotencyKey)))
			check(t, got, test.status, test.body)
			if text := f.logs.text(); !strings.Contains(text, test.err.Error()) || strings.Count(text, "[redacted]") != 2 {
				t.Errorf("log is %s", text)
			}
		})
	}
}

// Promise: the log has the root cause of a failure, word for word.
func TestRootCauseIsNotRedacted(t *testing.T) {
	f := newFixture(t)
	token := f.issue().RefreshToken
	calls := 0
	f.store.fault("App", func(context.Context) error {
		if calls++; calls == 1 { // to authenticate
			return nil
		}
		return errors.New("disk on fire")
	})
	server := f.serve(f.handler())
	check(t, f.do(f.post(server.URL+"/app/shop/renew", body(token))), http.StatusInternalServerError, bodyInternalError)
	if text := f.logs.text(); !strings.Contains(text, "disk on fire") {
		t.Errorf("log is %s", text)
	}
}

// Promise: a user agent fails no renewal, whatever a browser or a client library
// sends.
func TestAnyUserAgentRenews(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	token := f.issue().RefreshToken
	for name, agent := range map[string]string{
		"header injection": `x\r\nSet-Cookie: a=b`, "a line feed": `x\ny`, "a carriage return": `\r`, "a tab": `x\ty`, "NUL": `x\u0000`,
		"escape sequences": `\u001b[2J`, "DEL": `x\u007f`, "a C1 control": `\u0085`, "raw DEL": "x\x7f", "raw C1": "\u009b",
		"1,025 bytes": strings.Repeat("x", 1025), "513 characters in 1,026 bytes": strings.Repeat("é", 513), "10,000 escapes": strings.Repeat(`\u00e9`, 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			got := f.do(f.post(server.URL+"/app/shop/renew", fmt.Sprintf(`{"refresh_token":"%s","ip":"192.0.2.1","useragent":"%s"}`, token, agent)))
			token = f.checkRenewed(got).RefreshToken
		})
	}
}

// Promise: the Idempotency-Key reaches the Renewer.
func TestRepeatedRequestWithIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	token := f.issue().RefreshToken
	send := func(key string) response {
		return f.do(f.post(server.URL+"/app/shop/renew", body(token), withHeader("Idempotency-Key", key)))
	}
	first := f.checkRenewed(send("0123456789abcdef"))
	f.advance(time.Minute)
	again := f.checkRenewed(send("0123456789abcdef"))
	if again.AuthToken != first.AuthToken || again.RefreshToken != first.RefreshToken {
		t.Error("the repeated request has another response; EdDSA signs the same pair alike")
	}
	check(t, send("fedcba9876543210"), http.StatusBadRequest, bodyInvalidToken)
}

// Promise: other methods and paths change nothing.
func TestOtherMethodsAndPaths(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	token := f.issue().RefreshToken
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post"} {
		t.Run(method, func(t *testing.T) {
			want := bodyBadMethod
			if method == "HEAD" {
				want = ""
			}
			got := f.do(f.post(server.URL+"/app/shop/renew", body(token), func(req *http.Request) { req.Method = method }))
			check(t, got, http.StatusMethodNotAllowed, want, "Allow", "POST")
		})
	}
	for _, path := range []string{"", "/", "/app", "/app/shop", "/app/shop/", "/app/shop/renew/", "/app/shop/renew/x", "/x/app/shop/renew", "/app/shop/other", "/APP/shop/renew", "/renew"} {
		t.Run(path, func(t *testing.T) {
			check(t, f.do(f.post(server.URL+path, body(token))), http.StatusNotFound, bodyNotFound)
		})
	}
	stripped := f.serve(http.StripPrefix("/v1", f.handler()))
	check(t, f.do(f.post(stripped.URL+"/v1x/app/shop/renew", body(token))), http.StatusNotFound, bodyNotFound)
	f.checkRenewed(f.do(f.post(stripped.URL+"/v1/app/shop/renew", body(token))))
}

// Promise: New is mountable under any prefix and in any router, and so is each
// endpoint alone.
func TestMounts(t *testing.T) {
	type param struct{}
	f := newFixture(t)
	logger := httpadapter.WithLogger(f.logger())
	fromContext := httpadapter.WithAppID(func(req *http.Request) string {
		id, _ := req.Context().Value(param{}).(string)
		return id
	})
	// router keeps its parameters in the context, as chi and others do.
	router := func(renewal, keySet http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			segments := strings.Split(req.URL.Path, "/")
			req = req.WithContext(context.WithValue(req.Context(), param{}, segments[2]))
			if segments[len(segments)-1] == "keys" {
				keySet.ServeHTTP(w, req)
				return
			}
			renewal.ServeHTTP(w, req)
		})
	}
	mux := func(routes map[string]http.Handler) http.Handler {
		m := http.NewServeMux()
		for pattern, h := range routes {
			m.Handle(pattern, h)
		}
		return m
	}
	constant := httpadapter.WithAppID(func(*http.Request) string { return appID })
	for _, test := range []struct {
		name          string
		handler       http.Handler
		renew, keySet string
	}{
		{"at the root", f.handler(), "/app/shop/renew", "/app/shop/jwks.json"},
		{"under a prefix", http.StripPrefix("/v1/auth", f.handler()), "/v1/auth/app/shop/renew", "/v1/auth/app/shop/jwks.json"},
		{"in a mux", mux(map[string]http.Handler{"/app/": f.handler(), "/": http.NotFoundHandler()}), "/app/shop/renew", "/app/shop/jwks.json"},
		{"in a mux under a prefix", mux(map[string]http.Handler{"/v1/": http.StripPrefix("/v1", f.handler())}), "/v1/app/shop/renew", "/v1/app/shop/jwks.json"},
		{"in a mux under a wildcard", mux(map[string]http.Handler{"/{app_id}/app/": http.StripPrefix("/x", f.handler())}), "/x/app/shop/renew", "/x/app/shop/jwks.json"},
		{"alone in a mux", mux(map[string]http.Handler{
			"POST /tenants/{app_id}/refresh": httpadapter.RenewHandler(f.renewer, logger),
			"GET /tenants/{app_id}/keys":     httpadapter.KeySetHandler(f.renewer, logger),
		}), "/tenants/shop/refresh", "/tenants/shop/keys"},
		{"alone in another router", router(httpadapter.RenewHandler(f.renewer, logger, fromContext), httpadapter.KeySetHandler(f.renewer, logger, fromContext)), "/t/shop/refresh", "/t/shop/keys"},
		{"alone for one app", mux(map[string]http.Handler{
			"/refresh": httpadapter.RenewHandler(f.renewer, logger, constant),
			"/keys":    httpadapter.KeySetHandler(f.renewer, logger, constant),
		}), "/refresh", "/keys"},
		{"New with WithAppID", f.handler(constant), "/app/whatever/renew", "/app/whatever/jwks.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := f.serve(test.handler)
			issued := f.issue()
			f.checkRenewed(f.do(f.post(server.URL+test.renew, body(issued.RefreshToken))))
			check(t, f.do(f.post(server.URL+test.renew, body(issued.RefreshToken))), http.StatusBadRequest, bodyInvalidToken)
			check(t, f.do(f.post(server.URL+test.renew, "", withHeader("Authorization", "wrong"))), http.StatusForbidden, bodyInvalidAppKey)
			verifyWithKeySet(t, f, server.URL+test.keySet, issued.AuthToken)
		})
	}
}

// Promise: the endpoints alone reject other methods themselves.
func TestHandlersAloneCheckTheMethod(t *testing.T) {
	f := newFixture(t)
	renewal := f.serve(httpadapter.RenewHandler(f.renewer, httpadapter.WithLogger(f.logger())))
	keySet := f.serve(httpadapter.KeySetHandler(f.renewer, httpadapter.WithLogger(f.logger())))
	method := func(m string) func(*http.Request) { return func(req *http.Request) { req.Method = m } }
	check(t, f.do(f.post(renewal.URL, "", method("GET"))), http.StatusMethodNotAllowed, bodyBadMethod, "Allow", "POST")
	check(t, f.do(f.post(keySet.URL, "")), http.StatusMethodNotAllowed, bodyBadMethod, "Allow", "GET, HEAD")
}

// Promise: an app ID with a slash in it is one segment of the path.
func TestAppIDWithSlash(t *testing.T) {
	f := newFixture(t)
	const id = "a/b c/%2e"
	key := f.createApp(id)
	for _, h := range []http.Handler{f.handler(), http.StripPrefix("/v1", f.handler())} {
		server := f.serve(h)
		prefix := ""
		if got := f.do(f.post(server.URL+"/v1/app/x/renew", "")); got.status == http.StatusForbidden {
			prefix = "/v1"
		}
		got := f.do(f.post(server.URL+prefix+"/app/a%2Fb%20c%2F%252e/renew", body("a"), withHeader("Authorization", key)))
		check(t, got, http.StatusBadRequest, bodyInvalidToken)
	}
}

// Promise: over HTTP/2 the responses are the same.
func TestHTTP2(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewUnstartedServer(f.handler())
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	do := func(body string, edits ...func(*http.Request)) response {
		t.Helper()
		resp, err := server.Client().Do(f.post(server.URL+"/app/shop/renew", body, edits...))
		if err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != 2 {
			t.Fatalf("protocol is %s", resp.Proto)
		}
		return read(t, resp)
	}
	token := f.issue().RefreshToken
	check(t, do(body(token), withHeader("Authorization", "wrong")), http.StatusForbidden, bodyInvalidAppKey)
	check(t, do(body(token), withHeader("Authorization", f.appKey, f.appKey)), http.StatusForbidden, bodyInvalidAppKey)
	check(t, do(strings.Repeat(" ", 10<<20)), http.StatusBadRequest, fields("body", "is longer than 65536 bytes"))
	f.checkRenewed(do(body(token)))
	check(t, do(body(token)), http.StatusBadRequest, bodyInvalidToken)
}

// Promise: the body is not looked at before the app key is right. A client that
// waits for leave to send it never gets that leave.
func TestAppKeyBeforeBody(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	for _, test := range []struct {
		name, key string
		first     string
	}{
		{"wrong key", "wrong", "HTTP/1.1 403 Forbidden"},
		{"right key", f.appKey, "HTTP/1.1 100 Continue"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := dial(t, server)
			send(t, conn, "POST /app/shop/renew HTTP/1.1\r\nHost: test\r\nAuthorization: "+test.key+
				"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(line) != test.first {
				t.Errorf("first line is %q, want %q", line, test.first)
			}
		})
	}
}

// untouched is a body that tells when it is read.
type untouched struct{ reads int }

func (u *untouched) Read([]byte) (int, error) {
	u.reads++
	return 0, io.EOF
}

// Promise: as above, and for every other request that is rejected by its head.
func TestBodyIsNotReadInVain(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name   string
		target string
		edit   func(*http.Request)
		reads  bool
	}{
		{"wrong key", "/app/shop/renew", withHeader("Authorization", "wrong"), false},
		{"no key", "/app/shop/renew", withHeader("Authorization"), false},
		{"two keys", "/app/shop/renew", withHeader("Authorization", f.appKey, f.appKey), false},
		{"unknown app", "/app/other/renew", nil, false},
		{"unknown path", "/app/shop/other", nil, false},
		{"other method", "/app/shop/renew", func(req *http.Request) { req.Method = "PUT" }, false},
		{"content type", "/app/shop/renew", withHeader("Content-Type", "text/plain"), false},
		{"content encoding", "/app/shop/renew", withHeader("Content-Encoding", "gzip"), false},
		{"right", "/app/shop/renew", nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			touched := &untouched{}
			req := httptest.NewRequest(http.MethodPost, test.target, touched)
			req.Header.Set("Authorization", f.appKey)
			req.Header.Set("Content-Type", "application/json")
			if test.edit != nil {
				test.edit(req)
			}
			recorder := httptest.NewRecorder()
			f.handler().ServeHTTP(recorder, req)
			if (touched.reads > 0) != test.reads {
				t.Errorf("response %d after %d reads of the body", recorder.Code, touched.reads)
			}
		})
	}
}

// Promise: a client that hangs up is no error of the server, but a store that
// fails for another reason is one, with or without a client.
func TestClientHangsUp(t *testing.T) {
	for _, test := range []struct {
		name      string
		failure   func(ctx context.Context) error
		level     string
		text      string
		mustQuote string
	}{
		{"store gives up", func(ctx context.Context) error { return fmt.Errorf("query: %w", ctx.Err()) }, "INFO", "request canceled", "context canceled"},
		{"store fails", func(context.Context) error { return errors.New("disk on fire") }, "ERROR", "request failed", "disk on fire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			waiting := make(chan struct{})
			f.store.fault("Session", func(ctx context.Context) error {
				close(waiting)
				<-ctx.Done()
				return test.failure(ctx)
			})
			finished := make(chan struct{})
			handler := f.handler()
			server := f.serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				defer close(finished)
				handler.ServeHTTP(w, req)
			}))
			issued := f.issue()
			ctx, hangUp := context.WithCancel(t.Context())
			go func() {
				<-waiting
				hangUp()
			}()
			resp, err := http.DefaultClient.Do(f.post(server.URL+"/app/shop/renew", body(issued.RefreshToken)).WithContext(ctx))
			if err == nil {
				resp.Body.Close()
				t.Fatalf("the client got a response, %d", resp.StatusCode)
			}
			<-finished
			records := f.logs.records(t)
			if len(records) == 0 {
				t.Fatal("nothing was logged")
			}
			record := records[0]
			if record["level"] != test.level || record["msg"] != test.text || record["session"] != issued.SessionID || !strings.Contains(record["error"].(string), test.mustQuote) {
				t.Errorf("record is %v", record)
			}
		})
	}
}

// Promise: a store that gives up by itself is no client that hung up.
func TestCanceledStoreIsAnError(t *testing.T) {
	f := newFixture(t)
	f.store.fault("Session", func(context.Context) error { return context.Canceled })
	server := f.serve(f.handler())
	check(t, f.do(f.post(server.URL+"/app/shop/renew", body(f.issue().RefreshToken))), http.StatusInternalServerError, bodyInternalError)
	if record := f.logs.records(t)[0]; record["level"] != "ERROR" || record["msg"] != "request failed" {
		t.Errorf("record is %v", record)
	}
}

// Promise: a deadline that the server itself has set is an internal error.
func TestServerDeadlineIsAnError(t *testing.T) {
	f := newFixture(t)
	f.store.fault("Session", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	handler := f.handler()
	server := f.serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), time.Millisecond)
		defer cancel()
		handler.ServeHTTP(w, req.WithContext(ctx))
	}))
	check(t, f.do(f.post(server.URL+"/app/shop/renew", body(f.issue().RefreshToken))), http.StatusInternalServerError, bodyInternalError)
	if record := f.logs.records(t)[0]; record["level"] != "ERROR" {
		t.Errorf("record is %v", record)
	}
}

// brokenWriter is the connection of a client that is gone.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 0, net.ErrClosed }

// Promise: a response that could not be sent leaves a record.
func TestUnsentResponseIsLogged(t *testing.T) {
	f := newFixture(t)
	req := httptest.NewRequest(http.MethodPost, "/app/shop/renew", strings.NewReader(body(f.issue().RefreshToken)))
	req.Header.Set("Authorization", f.appKey)
	req.Header.Set("Content-Type", "application/json")
	f.handler().ServeHTTP(brokenWriter{httptest.NewRecorder()}, req)
	records := f.logs.records(t)
	if len(records) != 1 || records[0]["msg"] != "writing response failed" || records[0]["error"] != net.ErrClosed.Error() {
		t.Errorf("records are %v", records)
	}
}

// Promise: middleware's headers neither loosen nor leak into what is promised.
func TestCacheControlIsNotInherited(t *testing.T) {
	f := newFixture(t)
	handler := f.handler()
	server := f.serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=86400")
		handler.ServeHTTP(w, req)
	}))
	f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(f.issue().RefreshToken))))
}

func sessionOf(t *testing.T, f *fixture, b *renew.Bundle) renew.Session {
	t.Helper()
	s, err := f.store.Session(t.Context(), appID, b.SessionID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// memstoreWith returns a handler whose token store holds the session of b as it
// was before b was used.
func memstoreWith(t *testing.T, f *fixture, b *renew.Bundle) http.Handler {
	t.Helper()
	s := sessionOf(t, f, b)
	s.TokenID, s.PreviousTokenID, s.Generation = b.TokenID, "", 0
	tokens := newTokenStore(t, s)
	r, err := renew.New(f.store, tokens, renew.WithClock(f.clock))
	if err != nil {
		t.Fatal(err)
	}
	return httpadapter.New(r, httpadapter.WithLogger(f.logger()))
}

func dial(tb testing.TB, server *httptest.Server) net.Conn {
	tb.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil { // a test that hangs, fails
		tb.Fatal(err)
	}
	return conn
}

func send(tb testing.TB, conn net.Conn, text string) {
	tb.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		tb.Fatal(err)
	}
}
