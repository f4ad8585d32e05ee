package httpadapter_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/memstore"
)

// benchmarkHandler returns a handler as a service makes it, an app key and the
// first refresh token of a session.
func benchmarkHandler(b *testing.B) (h http.Handler, appKey, refreshToken string) {
	b.Helper()
	ctx := context.Background()
	store := memstore.New()
	appKey, hash := renew.NewAppKey()
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		b.Fatal(err)
	}
	if err := store.CreateApp(ctx, renew.App{ID: appID, Issuer: "https://shop.example", KeyHashes: []renew.AppKeyHash{hash}}); err != nil {
		b.Fatal(err)
	}
	if err := store.RotateSigningKey(ctx, appID, key, time.Now()); err != nil {
		b.Fatal(err)
	}
	r, err := renew.New(store, store)
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := r.Issue(ctx, renew.IssueRequest{AppID: appID, Subject: "ann", IP: ip, UserAgent: agent})
	if err != nil {
		b.Fatal(err)
	}
	return httpadapter.New(r), appKey, bundle.RefreshToken
}

func benchmarkRequest(b *testing.B, url, appKey, refreshToken string) *http.Request {
	b.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/app/"+appID+"/renew", strings.NewReader(body(refreshToken)))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	return req
}

func successor(b *testing.B, status int, response []byte) string {
	b.Helper()
	var bundle renew.Bundle
	if err := json.Unmarshal(response, &bundle); err != nil || status != http.StatusOK {
		b.Fatalf("response is %d %s: %v", status, response, err)
	}
	return bundle.RefreshToken
}

// BenchmarkHandler is a renewal without a socket: what the package adds to
// Renewer.Renew.
func BenchmarkHandler(b *testing.B) {
	h, appKey, token := benchmarkHandler(b)
	b.ReportAllocs()
	for b.Loop() {
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, benchmarkRequest(b, "", appKey, token))
		token = successor(b, recorder.Code, recorder.Body.Bytes())
	}
}

// BenchmarkSocket is a renewal over a connection that is kept alive, its client
// included.
func BenchmarkSocket(b *testing.B) {
	h, appKey, token := benchmarkHandler(b)
	server := httptest.NewServer(h)
	defer server.Close()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := server.Client().Do(benchmarkRequest(b, server.URL, appKey, token))
		if err != nil {
			b.Fatal(err)
		}
		response, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		token = successor(b, resp.StatusCode, response)
	}
}
