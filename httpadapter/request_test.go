package httpadapter_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"unsafe"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Promise: a request that no server has made, whose fields may be nil, is served
// like any other. Programs make them to call a handler directly.
func TestHandMadeRequests(t *testing.T) {
	f := newFixture(t)
	path := func(p string) *url.URL { return &url.URL{Path: p} }
	header := http.Header{"Authorization": {f.appKey}, "Content-Type": {"application/json"}}
	wantNoBody := want{status: http.StatusBadRequest, body: fields("body", "is not a single JSON object")}
	for _, test := range []struct {
		name    string
		handler http.Handler
		req     *http.Request
		want    want
	}{
		{"renewal without a body", f.handler(), &http.Request{Method: "POST", URL: path("/app/shop/renew"), Header: header}, wantNoBody},
		{"revocation without a body", f.handler(), &http.Request{Method: "POST", URL: path("/app/shop/revoke"), Header: header}, wantNoBody},
		{"from http.NewRequest", f.handler(), newRequest(t, header), wantNoBody},
		{"renewal without headers", f.handler(), &http.Request{Method: "POST", URL: path("/app/shop/renew")}, wantForbidden},
		{"without a URL", f.handler(), &http.Request{Method: "POST", Header: header}, wantNotFound},
		{"with nothing", f.handler(), &http.Request{}, wantNotFound},
		{"renewal alone without a URL", httpadapter.RenewHandler(f.renewer, constantApp), &http.Request{Method: "POST", Header: header}, wantNoBody},
		{"renewal alone with nothing", httpadapter.RenewHandler(f.renewer, constantApp), &http.Request{}, wantBadMethod},
		{"revocation alone without a URL", httpadapter.RevokeHandler(f.renewer, constantApp), &http.Request{Method: "POST", Header: header}, wantNoBody},
		{"key set alone with nothing", httpadapter.KeySetHandler(f.renewer, constantApp), &http.Request{}, want{status: 405, body: bodyBadMethod, header: []string{"Allow", "GET, HEAD"}}},
		{"middleware with nothing", httpadapter.Authenticate(f.renewer, appID)(nil), &http.Request{}, wantChallenge},
	} {
		t.Run(test.name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			test.handler.ServeHTTP(recorder, test.req)
			check(t, response{recorder.Code, recorder.Header(), recorder.Body.String()}, test.want.status, test.want.body, test.want.header...)
		})
	}

	recorder := httptest.NewRecorder()
	httpadapter.KeySetHandler(f.renewer, constantApp).ServeHTTP(recorder, &http.Request{Method: "GET"})
	check(t, response{recorder.Code, recorder.Header(), recorder.Body.String()}, http.StatusOK, recorder.Body.String(), keySetHeader...)

	var claims *renew.AuthClaims
	next := http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { claims = httpadapter.Claims(req.Context()) })
	httpadapter.Authenticate(f.renewer, appID)(next).ServeHTTP(httptest.NewRecorder(), &http.Request{Header: http.Header{"Authorization": {"Bearer " + f.issue().AuthToken}}})
	if claims == nil || claims.Subject != "ann" {
		t.Errorf("claims are %v, want ann's", claims)
	}
}

// Promise: what outlives a request does not share its memory, which servers other
// than net/http's reuse: the app ID of an event, the request of a renew function.
func TestRequestMemoryIsNotKept(t *testing.T) {
	const key = "0123456789abcdef"
	var kept renew.RenewRequest
	var events []renew.Event
	f := newFixture(t,
		renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error { kept = rn.Request; return nil }),
		renew.WithEventFunc(func(_ context.Context, e renew.Event) { events = append(events, e) }))
	b := f.issue()
	id, header := []byte(appID), []byte(key)
	shared := func(memory []byte) string { return unsafe.String(&memory[0], len(memory)) }
	handler := httpadapter.RenewHandler(f.renewer, httpadapter.WithAppID(func(*http.Request) string { return shared(id) }))
	handler.ServeHTTP(httptest.NewRecorder(), f.post("/", body(b.RefreshToken), withHeader("Idempotency-Key", shared(header))))
	clear(id)
	clear(header)
	if len(events) != 2 || events[1].Kind != renew.EventRenewed || events[1].AppID != appID {
		t.Errorf("events are %+v", events)
	}
	if kept.AppID != appID || kept.IdempotencyKey != key || kept.RefreshToken != b.RefreshToken || kept.IP != ip || kept.UserAgent != agent {
		t.Error("the request that the renew function has kept has changed")
	}
}

var constantApp = httpadapter.WithAppID(func(*http.Request) string { return appID })

func newRequest(t *testing.T, header http.Header) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/app/shop/renew", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	return req
}
