//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
)

// onFosite is the refresh flow of ory/fosite on its in-memory storage, with JWT
// access tokens of ES256 and a public client, which has no secret to hash.
//
// Per renewal it parses the form, finds the client, checks the presented token's
// HMAC and looks it up, signs one access token and makes one opaque refresh
// token, deactivates the old pair and stores the new one. It verifies no
// signature and makes one; it ends the session when a used token comes back, and
// keeps every used token. A lost response loses the session.
//
// Each session has its own storage: several concurrent renewals race inside it.
func onFosite() (system, error) {
	return system{name: "ory/fosite", login: func(ctx context.Context) (renewal, error) {
		provider, _, err := newFosite()
		if err != nil {
			return nil, err
		}
		refresh, err := fositeLogin(ctx, provider)
		return func(ctx context.Context) error {
			if err == nil {
				refresh, err = fositeRenew(ctx, provider, refresh)
			}
			return err
		}, err
	}}, nil
}

func newFosite() (fosite.OAuth2Provider, *storage.MemoryStore, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	store := storage.NewMemoryStore()
	store.Clients["app"] = &fosite.DefaultClient{
		ID: "app", Public: true, GrantTypes: []string{"password", "refresh_token"},
		Scopes: []string{"offline"}, Audience: []string{"https://api.example"},
	}
	store.Users["user"] = storage.MemoryUserRelation{Username: "user", Password: "secret"}
	config := &fosite.Config{GlobalSecret: secret, AccessTokenIssuer: issuer, AccessTokenLifespan: time.Hour, RefreshTokenLifespan: 3 * time.Hour}
	keyOf := func(context.Context) (any, error) { return key, nil }
	provider := compose.Compose(config, store,
		&compose.CommonStrategy{CoreStrategy: compose.NewOAuth2JWTStrategy(keyOf, compose.NewOAuth2HMACStrategy(config), config)},
		//lint:ignore SA1019 the shortest way to a first refresh token; only the refresh grant is measured
		compose.OAuth2ResourceOwnerPasswordCredentialsFactory, compose.OAuth2RefreshTokenGrantFactory)

	return provider, store, nil
}

func fositeLogin(ctx context.Context, provider fosite.OAuth2Provider) (refresh string, err error) {
	return fositeToken(ctx, provider, url.Values{
		"grant_type": {"password"}, "username": {"user"}, "password": {"secret"},
		"client_id": {"app"}, "scope": {"offline"}, "audience": {"https://api.example"},
	})
}

func fositeRenew(ctx context.Context, provider fosite.OAuth2Provider, refresh string) (string, error) {
	return fositeToken(ctx, provider, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {"app"}})
}

// fositeToken asks the token endpoint, and returns the refresh token.
func fositeToken(ctx context.Context, provider fosite.OAuth2Provider, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://shop.example/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	session := &oauth2.JWTSession{JWTClaims: &jwt.JWTClaims{Subject: "user@example.com"}, JWTHeader: &jwt.Headers{}}
	access, err := provider.NewAccessRequest(ctx, req, session)
	if err != nil {
		return "", fmt.Errorf("fosite: %w", err)
	}
	for _, scope := range access.GetRequestedScopes() {
		access.GrantScope(scope)
	}
	for _, audience := range access.GetRequestedAudience() {
		access.GrantAudience(audience)
	}
	response, err := provider.NewAccessResponse(ctx, access)
	if err != nil {
		return "", fmt.Errorf("fosite: %w", err)
	}
	if strings.Count(response.GetAccessToken(), ".") != 2 {
		return "", fmt.Errorf("fosite: the access token is no JWT")
	}
	refresh, _ := response.GetExtra("refresh_token").(string)
	return refresh, nil
}
