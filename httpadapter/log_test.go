package httpadapter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// brokenKeys is a key store that is down, and says for which app.
type brokenKeys struct {
	renew.KeyStore
	fail func(appID string) error
}

func (s brokenKeys) App(_ context.Context, appID string) (renew.App, error) {
	return renew.App{}, s.fail(appID)
}

func (s brokenKeys) VerificationKeys(_ context.Context, appID string) ([]*renew.VerificationKey, error) {
	return nil, s.fail(appID)
}

// Promise: what stands in the place of an app ID is in no record unless the store
// has the app, whatever the store's error or panic says. It may be an app key or a
// token in the wrong place.
func TestOutageLogsNoAppID(t *testing.T) {
	failures := map[string]func(id string) error{
		"plain":         func(string) error { return errors.New("disk on fire") },
		"quoting":       func(id string) error { return fmt.Errorf("disk on fire: app %s", id) },
		"quoting it %q": func(id string) error { return fmt.Errorf("disk on fire: app %q", id) },
		"with a path":   func(id string) error { return fmt.Errorf("disk on fire: /apps/%s", url.PathEscape(id)) },
		"with a query":  func(id string) error { return fmt.Errorf("disk on fire: ?app=%s&x=1", url.QueryEscape(id)) },
		"twice":         func(id string) error { return fmt.Errorf("disk on fire: %s: no app %s", id, id) },
		"in a word":     func(id string) error { return fmt.Errorf("disk on fire: tenant%sx", id) },
		"panic":         func(id string) error { panic(fmt.Sprintf("disk on fire: app %q", id)) },
		"panic, error":  func(id string) error { panic(fmt.Errorf("disk on fire: app %s", id)) },
		"canceled":      func(id string) error { return fmt.Errorf("disk on fire: app %s: %w", id, context.Canceled) },
	}
	f := newFixture(t)
	token := f.issue().RefreshToken
	for failure, fail := range failures {
		r, err := renew.New(brokenKeys{f.store, fail}, f.store, renew.WithClock(f.clock))
		if err != nil {
			t.Fatal(err)
		}
		handler := httpadapter.New(r, httpadapter.WithLogger(f.logger()))
		for name, id := range map[string]string{
			"app key": f.appKey, "refresh token": token[:255], "text with quotes": `a "secret" key/of?30 bytes\n`, "short ID": "gh0st", "not in ASCII": "schlüssel-schlüssel",
		} {
			if failure == "in a word" && len(id) < 16 {
				continue // such an ID is no secret, and must not garble every word that it is part of
			}
			for _, endpoint := range []string{"renew", "revoke", "jwks.json"} {
				t.Run(failure+"/"+name+"/"+endpoint, func(t *testing.T) {
					f.logs.reset()
					method := http.MethodPost
					if endpoint == "jwks.json" {
						method = http.MethodGet
					}
					req := httptest.NewRequest(method, "/app/"+url.PathEscape(id)+"/"+endpoint, nil)
					req.Header.Set("Authorization", f.appKey)
					recorder := httptest.NewRecorder()
					handler.ServeHTTP(recorder, req)
					check(t, response{recorder.Code, recorder.Header(), recorder.Body.String()}, http.StatusInternalServerError, bodyInternalError)
					records := f.logs.records(t)
					if len(records) != 1 || records[0]["level"] != "ERROR" || !strings.Contains(fmt.Sprint(records[0]["error"]), "disk on fire") || records[0]["app"] != nil {
						t.Errorf("records are %v", records)
					}
					for _, form := range []string{id, strings.Trim(fmt.Sprintf("%q", id), `"`), url.PathEscape(id), url.QueryEscape(id)} {
						if strings.Contains(fmt.Sprint(records), form) {
							t.Errorf("the log holds what stood in the place of an app ID: %v", records)
						}
					}
				})
			}
		}
	}
}

// Promise: a short app ID does not garble the record of an outage.
func TestShortAppIDIsMaskedAsAWord(t *testing.T) {
	for id, want := range map[string]string{
		"e":    "read app: the disk of app [redacted] is on fire",
		"is":   "read app: the disk of app [redacted] [redacted] on fire",
		"dis":  "read app: the disk of app [redacted] is on fire",
		"isk":  "read app: the disk of app [redacted] is on fire",
		"fire": "read app: the disk of app [redacted] is on [redacted]",
		"e-e":  "read app: the disk of app [redacted] is on fire",
		"read": "[redacted] app: the disk of app [redacted] is on fire",
	} {
		t.Run(id, func(t *testing.T) {
			f := newFixture(t)
			keys := brokenKeys{f.store, func(id string) error { return fmt.Errorf("the disk of app %s is on fire", id) }}
			r, err := renew.New(keys, f.store)
			if err != nil {
				t.Fatal(err)
			}
			req := httptest.NewRequest(http.MethodPost, "/app/"+id+"/renew", nil)
			req.Header.Set("Authorization", f.appKey)
			httpadapter.New(r, httpadapter.WithLogger(f.logger())).ServeHTTP(httptest.NewRecorder(), req)
			if record := f.logs.records(t)[0]; record["error"] != want {
				t.Errorf("error is %q, want %q", record["error"], want)
			}
		})
	}
}

// Promise: a store that panics once the app is known is an internal error, whose
// record names the app, holds no secret and says where the panic was.
func TestPanicIsAnInternalError(t *testing.T) {
	f := newFixture(t)
	token := f.issue().RefreshToken
	f.store.fault("Session", func(context.Context) error { panic("lost the key " + token) })
	server := f.serve(f.handler())
	for _, endpoint := range []struct{ name, body string }{{"renew", body(token)}, {"revoke", `{"token":"` + token + `"}`}} {
		t.Run(endpoint.name, func(t *testing.T) {
			f.logs.reset()
			check(t, f.do(f.post(server.URL+"/app/shop/"+endpoint.name, endpoint.body)), http.StatusInternalServerError, bodyInternalError)
			records := f.logs.records(t)
			if len(records) != 1 {
				t.Fatalf("records are %v, want one", records)
			}
			record := records[0]
			if record["level"] != "ERROR" || record["msg"] != "request panicked" || record["app"] != appID || record["error"] != "lost the key [redacted]" || !strings.Contains(fmt.Sprint(record["stack"]), "faultyStore") {
				t.Errorf("record is %v", record)
			}
		})
	}
}

// panickyWriter is the connection of a server that ends it by a panic.
type panickyWriter struct{ http.ResponseWriter }

func (panickyWriter) Write([]byte) (int, error) { panic("write") }

// Promise: http.ErrAbortHandler, and a panic while the response is written, are left to
// the server.
func TestPanicsOfTheServer(t *testing.T) {
	f := newFixture(t)
	token := f.issue().RefreshToken
	recovered := func(w http.ResponseWriter) (p any) {
		defer func() { p = recover() }()
		f.handler().ServeHTTP(w, f.post("/app/shop/renew", body(token)))
		return nil
	}
	if p := recovered(panickyWriter{httptest.NewRecorder()}); p != "write" {
		t.Errorf("panic is %v, want the writer's", p)
	}
	f.store.fault("App", func(context.Context) error { panic(http.ErrAbortHandler) })
	if p := recovered(httptest.NewRecorder()); p != any(http.ErrAbortHandler) {
		t.Errorf("panic is %v, want http.ErrAbortHandler", p)
	}
	if text := f.logs.text(); text != "" {
		t.Errorf("logged: %s", text)
	}
}

// Promise: a handler that looks for the app ID in the wrong place says so at level
// error, and what to do; the response is that of a wrong app key.
func TestNoAppIDFromTheRouter(t *testing.T) {
	f := newFixture(t)
	logger := httpadapter.WithLogger(f.logger())
	none := httpadapter.WithAppID(func(*http.Request) string { return "" })
	for _, test := range []struct {
		name    string
		handler http.Handler
		method  string
		want    want
	}{
		{"renewal", httpadapter.RenewHandler(f.renewer, logger), "POST", wantForbidden},
		{"renewal with WithAppID", httpadapter.RenewHandler(f.renewer, logger, none), "POST", wantForbidden},
		{"revocation", httpadapter.RevokeHandler(f.renewer, logger), "POST", wantForbidden},
		{"revocation with WithAppID", httpadapter.RevokeHandler(f.renewer, logger, none), "POST", wantForbidden},
		{"key set", httpadapter.KeySetHandler(f.renewer, logger), "GET", wantNotFound},
		{"key set with WithAppID", httpadapter.KeySetHandler(f.renewer, logger, none), "GET", wantNotFound},
		{"New with WithAppID", f.handler(none), "POST", wantForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.logs.reset()
			server := f.serve(test.handler)
			req := f.post(server.URL+"/app/shop/renew", body("a"), func(req *http.Request) { req.Method = test.method })
			check(t, f.do(req), test.want.status, test.want.body)
			records := f.logs.records(t)
			if len(records) != 1 || records[0]["level"] != "ERROR" || records[0]["msg"] != "no app ID" || !strings.Contains(fmt.Sprint(records[0]["error"]), "WithAppID") {
				t.Errorf("records are %v", records)
			}
		})
	}
}

// Promise: an app ID that the client has left out of the path is the client's
// error and no more.
func TestNoAppIDFromTheClient(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	check(t, f.do(f.post(server.URL+"/app//renew", body("a"))), http.StatusForbidden, bodyInvalidAppKey)
	check(t, f.get(server.URL+"/app//jwks.json"), http.StatusNotFound, bodyNotFound)
	if text := f.logs.text(); strings.Contains(text, "ERROR") {
		t.Errorf("logged: %s", text)
	}
}
