package httpadapter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

const bodyInvalidAuthToken = `{"message":"invalid auth token"}`

var (
	wantChallenge   = want{status: http.StatusUnauthorized, body: bodyInvalidAuthToken, header: []string{"Www-Authenticate", `Bearer realm="shop"`}}
	wantBadToken    = want{status: http.StatusUnauthorized, body: bodyInvalidAuthToken, header: []string{"Www-Authenticate", `Bearer realm="shop", error="invalid_token"`}}
	wantServerError = want{status: http.StatusInternalServerError, body: bodyInternalError}
)

// protected serves a resource behind Authenticate that responds with the subject
// and counts its requests.
func (f *fixture) protected(calls *int, opts ...httpadapter.Option) *httptest.Server {
	f.tb.Helper()
	resource := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		*calls++
		fmt.Fprintf(w, "hello %s", httpadapter.Claims(req.Context()).Subject)
	})
	opts = append([]httpadapter.Option{httpadapter.WithLogger(f.logger())}, opts...)
	return f.serve(httpadapter.Authenticate(f.renewer, appID, opts...)(resource))
}

// request asks for the resource with the values as Authorization.
func (f *fixture) request(url string, authorization ...string) response {
	f.tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		f.tb.Fatal(err)
	}
	req.Header["Authorization"] = authorization
	return f.do(req)
}

// checkPassed checks that the resource responded, and nothing of the middleware
// shows in the response.
func checkPassed(t *testing.T, got response) {
	t.Helper()
	if got.status != http.StatusOK || got.body != "hello ann" || got.header.Get("Www-Authenticate") != "" || got.header.Get("Cache-Control") != "" {
		t.Errorf("response is %d %s, headers %v", got.status, got.body, got.header)
	}
}

// Promise: a valid auth token passes, its scheme in any case, and the handler gets
// its claims.
func TestAuthenticatePasses(t *testing.T) {
	f := newFixture(t)
	calls := 0
	server := f.protected(&calls)
	token := f.issue().AuthToken
	for _, authorization := range []string{"Bearer " + token, "bearer " + token, "BEARER " + token, "Bearer   " + token} {
		checkPassed(t, f.request(server.URL, authorization))
	}
	if calls != 4 {
		t.Errorf("the resource was called %d times, want 4", calls)
	}
	if text := f.logs.text(); text != "" {
		t.Errorf("a success was logged: %s", text)
	}
}

// Promise: the claims are those of VerifyAuthToken, and the request is the client's.
func TestAuthenticateClaims(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	var got *renew.AuthClaims
	next := http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		got = httpadapter.Claims(req.Context())
		if req.Method != http.MethodPut || req.URL.Path != "/x" || req.Context().Value(struct{ k int }{}) != "kept" {
			t.Errorf("request is %s %s", req.Method, req.URL)
		}
	})
	req := httptest.NewRequest(http.MethodPut, "/x", nil)
	req = req.WithContext(context.WithValue(req.Context(), struct{ k int }{}, "kept"))
	req.Header.Set("Authorization", "Bearer "+b.AuthToken)
	httpadapter.Authenticate(f.renewer, appID)(next).ServeHTTP(httptest.NewRecorder(), req)
	want, err := f.renewer.VerifyAuthToken(t.Context(), appID, b.AuthToken)
	if err != nil {
		t.Fatal(err)
	}
	if got == nil || fmt.Sprint(*got) != fmt.Sprint(*want) || got.SessionID != b.SessionID {
		t.Errorf("claims are %v, want %v", got, want)
	}
	if claims := httpadapter.Claims(t.Context()); claims != nil {
		t.Errorf("claims without the middleware are %v, want nil", claims)
	}
}

// Promise: no other request passes. The challenge has an error code only if the
// client has sent a token (RFC 6750 section 3); the record has the reason and no
// token, and what is not a JWS costs no store call.
func TestAuthenticateRejects(t *testing.T) {
	f := newFixture(t)
	f.createApp("other")
	calls, storeCalls := 0, 0
	server := f.protected(&calls)
	b := f.issue()
	token := b.AuthToken
	forged := token[:strings.LastIndexByte(token, '.')] + b.RefreshToken[strings.LastIndexByte(b.RefreshToken, '.'):]
	other, err := f.renewer.Issue(t.Context(), renew.IssueRequest{AppID: "other", Subject: "ann", IP: ip, UserAgent: agent})
	if err != nil {
		t.Fatal(err)
	}
	f.keepSecret(forged, other.AuthToken, other.RefreshToken)
	for _, method := range []string{"App", "VerificationKey"} {
		f.store.fault(method, func(context.Context) error { storeCalls++; return nil })
	}
	none := renew.Reason("")
	for _, test := range []struct {
		name          string
		authorization []string
		want          want
		reason        renew.Reason // empty: no record, or one without
		logged        bool
		asksStore     bool
	}{
		{"none", nil, wantChallenge, none, false, false},
		{"empty", []string{""}, wantChallenge, none, false, false},
		{"the token alone", []string{token}, wantChallenge, none, false, false},
		{"the app key", []string{f.appKey}, wantChallenge, none, false, false},
		{"Basic", []string{"Basic YTpi"}, wantChallenge, none, false, false},
		{"DPoP", []string{"DPoP " + token}, wantChallenge, none, false, false},
		{"no space", []string{"Bearer" + token}, wantChallenge, none, false, false},
		{"a tab", []string{"Bearer\t" + token}, wantChallenge, none, false, false},
		{"a scheme with a colon", []string{"Bearer: " + token}, wantChallenge, none, false, false},
		{"a long s", []string{"Bea\u017fer " + token}, wantChallenge, none, false, false},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, wantBadToken, none, true, false},
		{"the token and another scheme", []string{"Bearer " + token, "Basic YTpi"}, wantBadToken, none, true, false},
		{"no token", []string{"Bearer"}, wantBadToken, renew.ReasonMalformed, true, false},
		{"x", []string{"Bearer x"}, wantBadToken, renew.ReasonMalformed, true, false},
		{"the app key as token", []string{"Bearer " + f.appKey}, wantBadToken, renew.ReasonMalformed, true, false},
		{"three segments", []string{"Bearer a.b.c"}, wantBadToken, renew.ReasonMalformed, true, false},
		{"two tokens", []string{"Bearer " + token + ", Bearer " + token}, wantBadToken, renew.ReasonMalformed, true, false},
		{"a parameter", []string{"Bearer " + token + ", realm=x"}, wantBadToken, renew.ReasonMalformed, true, false},
		{"quotes", []string{`Bearer "` + token + `"`}, wantBadToken, renew.ReasonMalformed, true, false},
		{"100 KB", []string{"Bearer " + strings.Repeat("x", 100_000)}, wantBadToken, renew.ReasonMalformed, true, false},
		{"a refresh token", []string{"Bearer " + b.RefreshToken}, wantBadToken, renew.ReasonType, true, true},
		{"forged", []string{"Bearer " + forged}, wantBadToken, renew.ReasonSignature, true, true},
		{"another app's", []string{"Bearer " + other.AuthToken}, wantBadToken, renew.ReasonUnknownKey, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.logs.reset()
			storeCalls = 0
			check(t, f.request(server.URL, test.authorization...), test.want.status, test.want.body, test.want.header...)
			records := f.logs.records(t)
			if (len(records) == 1) != test.logged || len(records) > 1 {
				t.Fatalf("records are %v", records)
			}
			if test.logged {
				record := records[0]
				reason, _ := record["reason"].(string)
				if record["level"] != "INFO" || record["msg"] != "request rejected" || record["app"] != appID || reason != string(test.reason) {
					t.Errorf("record is %v", record)
				}
				f.checkLogs()
			}
			if (storeCalls > 0) != test.asksStore {
				t.Errorf("%d store calls", storeCalls)
			}
		})
	}
	for name, after := range map[string]time.Duration{"expired": renew.DefaultAuthTTL, "not yet valid": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			f.advance(after)
			defer f.advance(-after)
			check(t, f.request(server.URL, "Bearer "+token), wantBadToken.status, wantBadToken.body, wantBadToken.header...)
		})
	}
	if calls != 0 {
		t.Errorf("the resource was called %d times", calls)
	}
	checkPassed(t, f.request(server.URL, "Bearer "+token))
}

// Promise: only with WithSessionCheck a revocation counts at once.
func TestAuthenticateSessionCheck(t *testing.T) {
	f := newFixture(t)
	calls := 0
	stateless, checked := f.protected(&calls), f.protected(&calls, httpadapter.WithSessionCheck())
	b := f.issue()
	checkPassed(t, f.request(checked.URL, "Bearer "+b.AuthToken))
	if err := f.renewer.RevokeSession(t.Context(), appID, b.SessionID); err != nil {
		t.Fatal(err)
	}
	checkPassed(t, f.request(stateless.URL, "Bearer "+b.AuthToken))
	check(t, f.request(checked.URL, "Bearer "+b.AuthToken), wantBadToken.status, wantBadToken.body, wantBadToken.header...)
	record := f.logs.records(t)[0]
	if record["reason"] != string(renew.ReasonRevokedSession) || record["session"] != b.SessionID {
		t.Errorf("record is %v", record)
	}
	if calls != 2 {
		t.Errorf("the resource was called %d times, want 2", calls)
	}
}

// Promise: with WithAudience a token passes that is for one of the names, and no
// other (RFC 8725 section 3.9); without it, the audience does not matter.
func TestAuthenticateAudience(t *testing.T) {
	for _, test := range []struct {
		name     string
		audience []string
		required []string
		passes   bool
	}{
		{"no requirement, no audience", nil, nil, true},
		{"no requirement", []string{"web"}, nil, true},
		{"the one", []string{"api"}, []string{"api"}, true},
		{"one of two in the token", []string{"web", "api"}, []string{"api"}, true},
		{"one of two required", []string{"api"}, []string{"web", "api"}, true},
		{"another", []string{"web"}, []string{"api"}, false},
		{"no audience", nil, []string{"api"}, false},
		{"another case", []string{"API"}, []string{"api"}, false},
		{"a prefix", []string{"api/v1"}, []string{"api"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			var opts []httpadapter.Option
			required := slices.Clone(test.required)
			if required != nil {
				opts = append(opts, httpadapter.WithAudience(required...))
				required[0] = "changed" // the caller owns its slice
			}
			calls := 0
			server := f.protected(&calls, opts...)
			b, err := f.renewer.Issue(t.Context(), renew.IssueRequest{AppID: appID, Subject: "ann", Audience: test.audience, IP: ip})
			if err != nil {
				t.Fatal(err)
			}
			f.keepSecret(b.AuthToken, b.RefreshToken)
			got := f.request(server.URL, "Bearer "+b.AuthToken)
			if test.passes {
				checkPassed(t, got)
				return
			}
			check(t, got, wantBadToken.status, wantBadToken.body, wantBadToken.header...)
			record := f.logs.records(t)[0]
			if calls != 0 || record["reason"] != "wrong_audience" || record["session"] != b.SessionID {
				t.Errorf("%d calls, record is %v", calls, record)
			}
		})
	}
}

// Promise: a failure of the server is 500 and never 401, so that no client logs a
// user out for it.
func TestAuthenticateInternalError(t *testing.T) {
	for _, test := range []struct {
		name string
		arm  func(f *fixture)
		want string
	}{
		{"App", func(f *fixture) {
			f.store.fault("App", func(context.Context) error { return errors.New("disk on fire") })
		}, "disk on fire"},
		{"VerificationKey", func(f *fixture) {
			f.store.fault("VerificationKey", func(context.Context) error { return errors.New("disk on fire") })
		}, "disk on fire"},
		{"Session", func(f *fixture) {
			f.store.fault("Session", func(context.Context) error { return errors.New("disk on fire") })
		}, "disk on fire"},
		{"the app does not exist", func(f *fixture) {
			f.store.fault("App", func(context.Context) error { return renew.ErrAppNotFound })
		}, renew.ErrAppNotFound.Error()},
		{"a store that gives up", func(f *fixture) {
			f.store.fault("App", func(context.Context) error { return context.Canceled })
		}, "context canceled"},
		{"panic", func(f *fixture) { f.store.fault("App", func(context.Context) error { panic("disk on fire") }) }, "disk on fire"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			calls := 0
			server := f.protected(&calls, httpadapter.WithSessionCheck())
			b := f.issue()
			test.arm(f)
			check(t, f.request(server.URL, "Bearer "+b.AuthToken), wantServerError.status, wantServerError.body)
			records := f.logs.records(t)
			if len(records) != 1 || records[0]["level"] != "ERROR" || records[0]["app"] != appID || !strings.Contains(fmt.Sprint(records[0]["error"]), test.want) {
				t.Errorf("records are %v, want %q", records, test.want)
			}
			if calls != 0 {
				t.Error("the resource was called")
			}
		})
	}
}

// Promise: a client that hangs up while its token is verified is no error.
func TestAuthenticateClientHangsUp(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	ctx, hangUp := context.WithCancel(t.Context())
	f.store.fault("App", func(ctx context.Context) error {
		hangUp()
		<-ctx.Done()
		return ctx.Err()
	})
	req := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
	req.Header.Set("Authorization", "Bearer "+b.AuthToken)
	httpadapter.Authenticate(f.renewer, appID, httpadapter.WithLogger(f.logger()))(nil).ServeHTTP(httptest.NewRecorder(), req)
	if records := f.logs.records(t); len(records) != 1 || records[0]["level"] != "INFO" || records[0]["msg"] != "request canceled" {
		t.Errorf("records are %v", records)
	}
}

// Promise: a panic of the next handler is that handler's.
func TestAuthenticateLeavesPanicsOfTheHandler(t *testing.T) {
	f := newFixture(t)
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("Authorization", "Bearer "+f.issue().AuthToken)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the handler's") })
	defer func() {
		if p := recover(); p != "the handler's" {
			t.Errorf("panic is %v", p)
		}
		if text := f.logs.text(); text != "" {
			t.Errorf("logged: %s", text)
		}
	}()
	httpadapter.Authenticate(f.renewer, appID, httpadapter.WithLogger(f.logger()))(next).ServeHTTP(httptest.NewRecorder(), req)
}

// Promise: the realm is a quoted string (RFC 9110 section 5.6.4), whatever the app
// is called.
func TestAuthenticateRealm(t *testing.T) {
	f := newFixture(t)
	const id = `a "b" \c, error="x"`
	f.createApp(id)
	recorder := httptest.NewRecorder()
	httpadapter.Authenticate(f.renewer, id)(nil).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if got, want := recorder.Header().Get("WWW-Authenticate"), `Bearer realm="a \"b\" \\c, error=\"x\""`; got != want {
		t.Errorf("challenge is %s, want %s", got, want)
	}
}
