package httpadapter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

const bodyRevoked = `{}`

// revocation is the documented request.
func revocation(token string) string { return fmt.Sprintf(`{"token":%q}`, token) }

// Promise: a token of either kind ends its session, also when it is used, expired
// or not yet valid, and again when the session has ended already.
func TestRevocation(t *testing.T) {
	renewed := func(t *testing.T, f *fixture, b *renew.Bundle) {
		t.Helper()
		next, err := f.renewer.Renew(t.Context(), renew.RenewRequest{AppID: appID, RefreshToken: b.RefreshToken, IP: ip, UserAgent: agent})
		if err != nil {
			t.Fatal(err)
		}
		f.keepSecret(next.AuthToken, next.RefreshToken)
	}
	for _, test := range []struct {
		name   string
		token  func(b *renew.Bundle) string
		before func(t *testing.T, f *fixture, b *renew.Bundle)
	}{
		{name: "auth token", token: func(b *renew.Bundle) string { return b.AuthToken }},
		{name: "refresh token", token: func(b *renew.Bundle) string { return b.RefreshToken }},
		{name: "used refresh token", token: func(b *renew.Bundle) string { return b.RefreshToken }, before: renewed},
		{name: "auth token of a renewed session", token: func(b *renew.Bundle) string { return b.AuthToken }, before: renewed},
		{name: "expired auth token", token: func(b *renew.Bundle) string { return b.AuthToken }, before: func(_ *testing.T, f *fixture, _ *renew.Bundle) {
			f.advance(renew.DefaultAuthTTL)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			server := f.serve(f.handler())
			b := f.issue()
			if test.before != nil {
				test.before(t, f, b)
			}
			for range 2 {
				check(t, f.do(f.post(server.URL+"/app/shop/revoke", revocation(test.token(b)))), http.StatusOK, bodyRevoked)
				if sessionOf(t, f, b).RevokedAt.IsZero() {
					t.Fatal("the session is not revoked")
				}
				f.advance(time.Minute)
			}
			check(t, f.do(f.post(server.URL+"/app/shop/renew", body(b.RefreshToken))), http.StatusBadRequest, bodyInvalidToken)
		})
	}
}

// Promise: an invalid token gets the response of a revoked one (RFC 7009 section
// 2.2) and ends nothing; the log says why.
func TestRevocationOfAnInvalidToken(t *testing.T) {
	f := newFixture(t)
	otherKey := f.createApp("other")
	server := f.serve(f.handler())
	b := f.issue()
	forged := b.RefreshToken[:strings.LastIndexByte(b.RefreshToken, '.')] + b.AuthToken[strings.LastIndexByte(b.AuthToken, '.'):]
	f.keepSecret(forged)
	for _, test := range []struct {
		name, target, key, token string
		reason                   renew.Reason
	}{
		{"not a token", "/app/shop/revoke", f.appKey, "x", renew.ReasonMalformed},
		{"an app key", "/app/shop/revoke", f.appKey, f.appKey, renew.ReasonMalformed},
		{"60 KB", "/app/shop/revoke", f.appKey, strings.Repeat("x", 60_000), renew.ReasonMalformed},
		{"forged", "/app/shop/revoke", f.appKey, forged, renew.ReasonSignature},
		{"another app's", "/app/other/revoke", otherKey, b.RefreshToken, renew.ReasonUnknownKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.logs.reset()
			check(t, f.do(f.post(server.URL+test.target, revocation(test.token), withHeader("Authorization", test.key))), http.StatusOK, bodyRevoked)
			records := f.logs.records(t)
			if len(records) != 1 || records[0]["level"] != "INFO" || records[0]["msg"] != "nothing revoked" || records[0]["reason"] != string(test.reason) {
				t.Errorf("records are %v", records)
			}
			if !sessionOf(t, f, b).RevokedAt.IsZero() {
				t.Error("the session is revoked")
			}
		})
	}
}

// Promise: a session that has been deleted is as good as revoked.
func TestRevocationOfADeletedSession(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	b := f.issue()
	if _, err := f.store.DeleteExpired(t.Context(), start.Add(24*time.Hour), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Session(t.Context(), appID, b.SessionID); !errors.Is(err, renew.ErrSessionNotFound) {
		t.Fatalf("session: %v", err)
	}
	check(t, f.do(f.post(server.URL+"/app/shop/revoke", revocation(b.RefreshToken))), http.StatusOK, bodyRevoked)
}

// Promise: the rows of the table that are not 200, and none of them revokes.
func TestRevocationFailures(t *testing.T) {
	f := newFixture(t)
	otherKey := f.createApp("other")
	server := f.serve(f.handler())
	b := f.issue()
	token := revocation(b.RefreshToken)
	for _, test := range []struct {
		name, target, body string
		edit               func(*http.Request)
		want               want
	}{
		{"no body", "/app/shop/revoke", "", nil, wantNoObject},
		{"an array", "/app/shop/revoke", "[]", nil, wantNoObject},
		{"no token", "/app/shop/revoke", "{}", nil, wantInvalid("token", required)},
		{"refresh_token", "/app/shop/revoke", body(b.RefreshToken), nil, wantInvalid("token", required)},
		{"an empty token", "/app/shop/revoke", `{"token":""}`, nil, wantInvalid("token", required)},
		{"a number", "/app/shop/revoke", `{"token":1}`, nil, wantInvalid("token", "is not a string")},
		{"null", "/app/shop/revoke", `{"token":null}`, nil, wantInvalid("token", "is not a string")},
		{"two tokens", "/app/shop/revoke", `{"token":"a",` + token[1:], nil, wantDuplicate},
		{"Token", "/app/shop/revoke", strings.Replace(token, "token", "Token", 1), nil, wantDuplicate},
		{"invalid UTF-8", "/app/shop/revoke", "{\"token\":\"\xff\"}", nil, wantNoUnicode},
		{"over 64 KiB", "/app/shop/revoke", `{"pad":"` + strings.Repeat("x", 64<<10) + `",` + token[1:], nil, wantTooLong},
		{"a form", "/app/shop/revoke", "token=" + b.RefreshToken, withHeader("Content-Type", "application/x-www-form-urlencoded"), wantContentType},
		{"gzip", "/app/shop/revoke", token, withHeader("Content-Encoding", "gzip"), wantEncoding},
		{"no app key", "/app/shop/revoke", token, withHeader("Authorization"), wantForbidden},
		{"wrong app key", "/app/shop/revoke", token, withHeader("Authorization", "wrong"), wantForbidden},
		{"another app's key", "/app/shop/revoke", token, withHeader("Authorization", otherKey), wantForbidden},
		{"two app keys", "/app/shop/revoke", token, withHeader("Authorization", f.appKey, f.appKey), wantForbidden},
		{"the token in place of an app key", "/app/shop/revoke", token, withHeader("Authorization", b.RefreshToken), wantForbidden},
		{"unknown app", "/app/nope/revoke", token, nil, wantForbidden},
		{"GET", "/app/shop/revoke", token, func(req *http.Request) { req.Method = "GET" }, wantBadMethod},
		{"DELETE", "/app/shop/revoke", token, func(req *http.Request) { req.Method = "DELETE" }, wantBadMethod},
		{"trailing slash", "/app/shop/revoke/", token, nil, wantNotFound},
		{"capitals", "/app/shop/REVOKE", token, nil, wantNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			var edits []func(*http.Request)
			if test.edit != nil {
				edits = append(edits, test.edit)
			}
			check(t, f.do(f.post(server.URL+test.target, test.body, edits...)), test.want.status, test.want.body, test.want.header...)
			if !sessionOf(t, f, b).RevokedAt.IsZero() {
				t.Error("the session is revoked")
			}
		})
	}
	check(t, f.do(f.post(server.URL+"/app/shop/revoke", `{"token_type_hint":"refresh_token","x":1,`+token[1:])), http.StatusOK, bodyRevoked)
}

// Promise: the body is not read before the app key is right.
func TestRevocationAppKeyBeforeBody(t *testing.T) {
	f := newFixture(t)
	touched := &untouched{}
	req := httptest.NewRequest(http.MethodPost, "/app/shop/revoke", touched)
	req.Header.Set("Authorization", "wrong")
	req.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	f.handler().ServeHTTP(recorder, req)
	if recorder.Code != http.StatusForbidden || touched.reads > 0 {
		t.Errorf("response %d after %d reads of the body", recorder.Code, touched.reads)
	}
}

// Promise: a revocation that may not have happened is 500, and the log says why,
// so that the client repeats it.
func TestRevocationInternalError(t *testing.T) {
	for _, test := range []struct {
		method     string
		hasSession bool
	}{{"VerificationKey", false}, {"Session", true}, {"RevokeSession", true}} {
		t.Run(test.method, func(t *testing.T) {
			f := newFixture(t)
			server := f.serve(f.handler())
			b := f.issue()
			f.store.fault(test.method, func(context.Context) error { return errors.New("disk on fire") })
			check(t, f.do(f.post(server.URL+"/app/shop/revoke", revocation(b.AuthToken))), http.StatusInternalServerError, bodyInternalError)
			records := f.logs.records(t)
			if len(records) != 1 {
				t.Fatalf("records are %v, want one", records)
			}
			record := records[0]
			if record["level"] != "ERROR" || record["app"] != appID || !strings.Contains(fmt.Sprint(record["error"]), "disk on fire") || (record["session"] == b.SessionID) != test.hasSession {
				t.Errorf("record is %v", record)
			}
			f.store.fault(test.method, nil)
			check(t, f.do(f.post(server.URL+"/app/shop/revoke", revocation(b.AuthToken))), http.StatusOK, bodyRevoked)
		})
	}
}

// Promise: RevokeHandler serves at any path.
func TestRevokeHandler(t *testing.T) {
	f := newFixture(t)
	mux := http.NewServeMux()
	mux.Handle("POST /tenants/{app_id}/logout", httpadapter.RevokeHandler(f.renewer, httpadapter.WithLogger(f.logger())))
	mux.Handle("POST /logout", httpadapter.RevokeHandler(f.renewer, httpadapter.WithLogger(f.logger()), constantApp))
	server := f.serve(mux)
	for _, path := range []string{"/tenants/shop/logout", "/logout"} {
		b := f.issue()
		check(t, f.do(f.post(server.URL+path, revocation(b.RefreshToken))), http.StatusOK, bodyRevoked)
		if sessionOf(t, f, b).RevokedAt.IsZero() {
			t.Errorf("%s: the session is not revoked", path)
		}
	}
}
