package httpadapter_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// Promise: a request that no server has made, whose fields may be nil, is served
// like any other. Programs make them to call a handler directly.
func TestHandMadeRequests(t *testing.T) {
	f := newFixture(t)
	path := func(p string) *url.URL { return &url.URL{Path: p} }
	header := http.Header{"Authorization": {f.appKey}, "Content-Type": {"application/json"}}
	wantNoBody := want{status: http.StatusBadRequest, body: fields("body", "is not one JSON object")}
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
