package renew_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// exampleLogin is what the first Example does until the login.
func exampleLogin(opts ...renew.Option) (*renew.Renewer, *renew.Bundle) {
	ctx := context.Background()
	store := memstore.New()
	if err := store.CreateApp(ctx, renew.App{ID: "shop", Issuer: "https://shop.example"}); err != nil {
		log.Fatal(err)
	}
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.RotateSigningKey(ctx, "shop", key, time.Now()); err != nil {
		log.Fatal(err)
	}
	renewer, err := renew.New(store, store, opts...)
	if err != nil {
		log.Fatal(err)
	}
	login, err := renewer.Issue(ctx, renew.IssueRequest{
		AppID: "shop", Subject: "ann@example.com", IP: "192.0.2.1", UserAgent: "browser/1.0",
	})
	if err != nil {
		log.Fatal(err)
	}
	return renewer, login
}

// claimsKey is where the middleware of an example keeps the claims.
type claimsKey struct{}

// get calls the handler with a bearer token and returns its response in a line.
func get(h http.Handler, token string) string {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String()))
}

// withoutTime leaves the time out of a log, so that an example can print it.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
