package httpadapter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/memstore"
)

// exampleRenewer returns a Renewer with an app named shop, and its app key.
func exampleRenewer() (r *renew.Renewer, appKey string) {
	store := memstore.New()
	appKey, hash := renew.NewAppKey()
	app := renew.App{ID: "shop", Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}
	if err := renew.EnsureApp(context.Background(), store, app, renew.ES256); err != nil {
		log.Fatal(err)
	}
	r, err := renew.New(store, store)
	if err != nil {
		log.Fatal(err)
	}
	return r, appKey
}

// post sends a request as the documentation has it, and prints the response.
func post(url, appKey, refreshToken string) {
	body := fmt.Sprintf(`{"refresh_token":%q,"ip":"192.0.2.1","useragent":"example"}`, refreshToken)
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	response, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		response = []byte("a new pair")
	}
	fmt.Println(resp.StatusCode, string(response))
}

// An API mounts all paths under a prefix.
func Example() {
	renewer, appKey := exampleRenewer()

	mux := http.NewServeMux()
	mux.Handle("/auth/", http.StripPrefix("/auth", httpadapter.New(renewer, httpadapter.WithLogger(slog.New(slog.DiscardHandler)))))
	server := httptest.NewServer(mux)
	defer server.Close()

	issued, err := renewer.Issue(context.Background(), renew.IssueRequest{AppID: "shop", Subject: "ann", IP: "192.0.2.1", UserAgent: "example"})
	if err != nil {
		log.Fatal(err)
	}
	url := server.URL + "/auth/app/shop/renew"
	post(url, appKey, issued.RefreshToken)
	post(url, appKey, issued.RefreshToken)
	post(url, "a guess", issued.RefreshToken)
	// Output:
	// 200 a new pair
	// 400 {"message":"invalid refresh token"}
	// 403 {"message":"invalid app key"}
}

// A renewal can be at any path. A ServeMux with {app_id} in its pattern
// needs no option; here the tenant is the host's first label.
func ExampleRenewHandler() {
	renewer, appKey := exampleRenewer()

	tenant := func(req *http.Request) string {
		label, _, _ := strings.Cut(req.Host, ".")
		return label
	}
	mux := http.NewServeMux()
	mux.Handle("POST /session/renew", httpadapter.RenewHandler(renewer, httpadapter.WithAppID(tenant)))
	mux.Handle("GET /.well-known/jwks.json", httpadapter.KeySetHandler(renewer, httpadapter.WithAppID(tenant)))

	issued, err := renewer.Issue(context.Background(), renew.IssueRequest{AppID: "shop", Subject: "ann", IP: "192.0.2.1", UserAgent: "example"})
	if err != nil {
		log.Fatal(err)
	}
	body := fmt.Sprintf(`{"refresh_token":%q,"ip":"192.0.2.1","useragent":"example"}`, issued.RefreshToken)
	req := httptest.NewRequest(http.MethodPost, "https://shop.api.example/session/renew", strings.NewReader(body))
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	mux.ServeHTTP(recorder, req)
	fmt.Println(recorder.Code)
	// Output: 200
}

// An API behind the middleware: a request with a valid auth token comes through, and
// its handler knows whose it is.
func ExampleAuthenticate() {
	renewer, _ := exampleRenewer()
	issued, err := renewer.Issue(context.Background(), renew.IssueRequest{AppID: "shop", Subject: "ann", IP: "192.0.2.1"})
	if err != nil {
		log.Fatal(err)
	}

	authenticated := httpadapter.Authenticate(renewer, "shop")
	mux := http.NewServeMux()
	mux.Handle("GET /me", authenticated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello, %s", httpadapter.Claims(r.Context()).Subject)
	})))

	for _, token := range []string{issued.AuthToken, issued.RefreshToken} {
		req := httptest.NewRequest(http.MethodGet, "https://api.example/me", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		recorder := httptest.NewRecorder()
		mux.ServeHTTP(recorder, req)
		fmt.Println(recorder.Code, recorder.Body)
	}
	// Output:
	// 200 hello, ann
	// 401 {"message":"invalid auth token"}
}

// A logout: the back end of a web site ends the session of the token that it holds.
func ExampleRevokeHandler() {
	renewer, appKey := exampleRenewer()

	mux := http.NewServeMux()
	mux.Handle("POST /{app_id}/logout", httpadapter.RevokeHandler(renewer))

	issued, err := renewer.Issue(context.Background(), renew.IssueRequest{AppID: "shop", Subject: "ann", IP: "192.0.2.1", UserAgent: "example"})
	if err != nil {
		log.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, "/shop/logout", strings.NewReader(fmt.Sprintf(`{"token":%q}`, issued.RefreshToken)))
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	mux.ServeHTTP(recorder, req)
	fmt.Println(recorder.Code, recorder.Body)

	_, err = renewer.VerifySession(context.Background(), "shop", issued.AuthToken)
	fmt.Println(errors.Is(err, renew.ErrInvalidAuthToken))
	// Output:
	// 200 {}
	// true
}

// Behind a load balancer in 10.0.0.0/8, a login gets the address of the client. What
// the client itself has sent as X-Forwarded-For is on the left and does not count.
func ExampleClientIP() {
	balancers := netip.MustParsePrefix("10.0.0.0/8")

	req := httptest.NewRequest(http.MethodPost, "/login", nil)
	req.RemoteAddr = "10.0.0.7:41000"
	req.Header.Set("X-Forwarded-For", "198.51.100.9, 192.0.2.1")

	fmt.Println(httpadapter.ClientIP(req, balancers))
	// Output: 192.0.2.1
}
