//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// One app, one client.
const (
	appID     = "shop"
	issuer    = "https://shop.example"
	ip        = "192.0.2.1"
	userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)

func newApp() (app renew.App, appKey string) {
	appKey, hash := renew.NewAppKey()
	return renew.App{ID: appID, Issuer: issuer, KeyHashes: []renew.AppKeyHash{hash}}, appKey
}

// newMemory returns a memstore with the app and its key.
func newMemory(ctx context.Context, alg renew.Algorithm) (store *memstore.Store, appKey string, err error) {
	store = memstore.New()
	app, appKey := newApp()
	if err := store.CreateApp(ctx, app); err != nil {
		return nil, "", err
	}
	key, err := renew.GenerateSigningKey(alg)
	if err != nil {
		return nil, "", err
	}
	return store, appKey, store.RotateSigningKey(ctx, appID, key, time.Now())
}

// issueRequest has custom claims of so many bytes of JSON; zero: none.
func issueRequest(claimBytes int) renew.IssueRequest {
	req := renew.IssueRequest{AppID: appID, Subject: "user@example.com", Audience: []string{"https://api.example"}, IP: ip, UserAgent: userAgent}
	if claimBytes > 0 {
		req.Claims = map[string]any{"text": strings.Repeat("x", claimBytes-len(`{"text":""}`))}
	}
	return req
}

// renewing issues a session and returns its renewal.
func renewing(ctx context.Context, r *renew.Renewer, req renew.IssueRequest) (renewal, error) {
	bundle, err := r.Issue(ctx, req)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		next, err := r.Renew(ctx, renew.RenewRequest{AppID: appID, RefreshToken: bundle.RefreshToken, IP: ip, UserAgent: userAgent})
		if err == nil {
			bundle = next
		}
		return err
	}, nil
}

// onMemory is this library on memstore.
func onMemory(ctx context.Context, alg renew.Algorithm, claimBytes int) (system, error) {
	store, _, err := newMemory(ctx, alg)
	if err != nil {
		return system{}, err
	}
	r, err := renew.New(store, store)
	if err != nil {
		return system{}, err
	}
	return system{
		name:  "renew on memstore",
		login: func(ctx context.Context) (renewal, error) { return renewing(ctx, r, issueRequest(claimBytes)) },
	}, nil
}

// What a caller without a valid token may send: a token whose signature is
// another's, a text that is not a token at all, a token with a long header.
func forged(refreshToken string) string {
	const signature = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ"
	return refreshToken[:strings.LastIndexByte(refreshToken, '.')+1] + signature
}

func notAToken(string) string { return strings.Repeat("x", 300) }

// longHeader is the token with a header that is far longer than any of this library.
func longHeader(refreshToken string) string {
	return strings.Repeat("A", 6000) + refreshToken[strings.IndexByte(refreshToken, '.'):]
}

// rejections presents what change makes of a valid token, again and again.
func rejections(ctx context.Context, alg renew.Algorithm, change func(string) string) (system, error) {
	store, _, err := newMemory(ctx, alg)
	if err != nil {
		return system{}, err
	}
	r, err := renew.New(store, store)
	if err != nil {
		return system{}, err
	}
	login := func(ctx context.Context) (renewal, error) {
		bundle, err := r.Issue(ctx, issueRequest(0))
		if err != nil {
			return nil, err
		}
		req := renew.RenewRequest{AppID: appID, RefreshToken: change(bundle.RefreshToken), IP: ip, UserAgent: userAgent}
		return func(ctx context.Context) error {
			if _, err := r.Renew(ctx, req); !errors.Is(err, renew.ErrInvalidRefreshToken) {
				return fmt.Errorf("it was not rejected: %w", err)
			}
			return nil
		}, nil
	}
	return system{name: "a rejection", login: login}, nil
}
