package httpadapter_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Promise: an invalid option is logged when the handler is made, by a clear text,
// and again for each request, which fails.
func TestInvalidOptions(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		name    string
		renewer *renew.Renewer
		opts    []httpadapter.Option
		want    string
	}{
		{"no Renewer", nil, nil, "the Renewer is nil; make one with renew.New"},
		{"status 200", f.renewer, []httpadapter.Option{httpadapter.WithInvalidTokenStatus(200)}, "WithInvalidTokenStatus: 200 is neither 400 nor 404"},
		{"status 0", f.renewer, []httpadapter.Option{httpadapter.WithInvalidTokenStatus(0)}, "WithInvalidTokenStatus: 0 is neither 400 nor 404"},
		{"status 401", f.renewer, []httpadapter.Option{httpadapter.WithInvalidTokenStatus(401)}, "WithInvalidTokenStatus: 401 is neither 400 nor 404"},
		{"no function", f.renewer, []httpadapter.Option{httpadapter.WithAppID(nil)}, "WithAppID: the function is nil"},
		{"no logger", f.renewer, []httpadapter.Option{httpadapter.WithLogger(nil)}, "WithLogger: the logger is nil"},
		{"no option", f.renewer, []httpadapter.Option{nil}, "an option is nil"},
		{"session check", f.renewer, []httpadapter.Option{httpadapter.WithSessionCheck()}, "WithSessionCheck: only Authenticate takes auth tokens"},
		{"audience", f.renewer, []httpadapter.Option{httpadapter.WithAudience("api")}, "WithAudience: only Authenticate takes auth tokens"},
	} {
		for name, construct := range map[string]func(*renew.Renewer, ...httpadapter.Option) http.Handler{
			"New": httpadapter.New, "RenewHandler": httpadapter.RenewHandler, "RevokeHandler": httpadapter.RevokeHandler, "KeySetHandler": httpadapter.KeySetHandler,
		} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				checkMisconfigured(t, "httpadapter."+name+": ", test.want, func(logger httpadapter.Option) http.Handler {
					return construct(test.renewer, append(test.opts, logger)...)
				})
			})
		}
	}
}

// Promise: the same for the middleware, whose next handler is never called.
func TestInvalidOptionsOfAuthenticate(t *testing.T) {
	f := newFixture(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the next handler was called") })
	for _, test := range []struct {
		name    string
		renewer *renew.Renewer
		appID   string
		opt     httpadapter.Option
		want    string
	}{
		{"no Renewer", nil, appID, httpadapter.WithSessionCheck(), "the Renewer is nil; make one with renew.New"},
		{"no app ID", f.renewer, "", httpadapter.WithSessionCheck(), "the app ID is empty"},
		{"no option", f.renewer, appID, nil, "an option is nil"},
		{"app ID twice", f.renewer, appID, httpadapter.WithAppID(func(*http.Request) string { return appID }), "WithAppID: Authenticate and NewBrowser take the app ID as an argument"},
		{"status", f.renewer, appID, httpadapter.WithInvalidTokenStatus(404), "WithInvalidTokenStatus: it is for the documented endpoint"},
		{"no audience", f.renewer, appID, httpadapter.WithAudience(), "WithAudience: a name is missing or empty"},
		{"an empty audience", f.renewer, appID, httpadapter.WithAudience("api", ""), "WithAudience: a name is missing or empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkMisconfigured(t, "httpadapter.Authenticate: ", test.want, func(logger httpadapter.Option) http.Handler {
				return httpadapter.Authenticate(test.renewer, test.appID, test.opt, logger)(next)
			})
		})
	}
}

// checkMisconfigured checks a handler that could not be made: what it logs when it
// is made and for a request, and its response.
func checkMisconfigured(t *testing.T, prefix, want string, construct func(logger httpadapter.Option) http.Handler) {
	t.Helper()
	logs := &logs{}
	handler := construct(httpadapter.WithLogger(slog.New(slog.NewJSONHandler(logs, nil))))
	checkRecords := func(n int) {
		t.Helper()
		records := logs.records(t)
		if len(records) != n {
			t.Fatalf("records are %v, want %d", records, n)
		}
		record := records[n-1]
		text, _ := record["error"].(string)
		if record["level"] != "ERROR" || record["msg"] != "handler misconfigured" || !strings.HasPrefix(text, prefix) || !strings.Contains(text, want) {
			t.Errorf("record is %v, want %q", record, want)
		}
	}
	checkRecords(1)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/app/shop/renew", strings.NewReader(body("a"))))
	check(t, response{recorder.Code, recorder.Header(), recorder.Body.String()}, http.StatusInternalServerError, bodyInternalError)
	checkRecords(2)
}

// Promise: without WithLogger failures go to slog.Default.
func TestDefaultLogger(t *testing.T) {
	f := newFixture(t)
	before := slog.Default()
	slog.SetDefault(f.logger())
	t.Cleanup(func() { slog.SetDefault(before) })
	server := f.serve(httpadapter.New(f.renewer))
	check(t, f.do(f.post(server.URL+"/app/shop/renew", body("not a token"))), http.StatusBadRequest, bodyInvalidToken)
	if records := f.logs.records(t); len(records) != 1 || records[0]["reason"] != string(renew.ReasonMalformed) {
		t.Errorf("records are %v", records)
	}
}
