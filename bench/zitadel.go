//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// onZitadel is the refresh grant of zitadel/oidc against the in-memory storage of
// its example, with ES256 in place of the example's RS256, JWT access tokens,
// and a public client. It starts behind the HTTP form.
//
// Per renewal it finds the client, looks the presented token up, an opaque UUID,
// replaces it, stores the new access token's ID, and signs an access token and
// an ID token. It verifies no signature and makes two. A used token is rejected
// and ends nothing; a lost response loses the session.
func onZitadel() (system, error) {
	provider, store, err := newZitadel()
	if err != nil {
		return system{}, err
	}
	return system{name: "zitadel/oidc", login: func(ctx context.Context) (renewal, error) {
		refresh, err := zitadelLogin(ctx, store)
		return func(ctx context.Context) error {
			if err == nil {
				refresh, err = zitadelRenew(ctx, provider, refresh)
			}
			return err
		}, err
	}}, nil
}

func newZitadel() (*op.Provider, *zitadelStorage, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	clients := map[string]*storage.Client{"app": storage.NativeClient("app")}
	store := &zitadelStorage{
		Storage: storage.NewStorageWithClients(storage.NewUserStore(issuer), clients),
		key:     zitadelKey{key},
	}
	provider, err := op.NewProvider(&op.Config{CodeMethodS256: true, GrantTypeRefreshToken: true}, store, op.StaticIssuer(issuer))
	return provider, store, err
}

func zitadelLogin(ctx context.Context, store *zitadelStorage) (refresh string, err error) {
	request, err := store.CreateAuthRequest(ctx, &oidc.AuthRequest{
		ClientID: "app", Scopes: oidc.SpaceDelimitedArray{oidc.ScopeOpenID, oidc.ScopeOfflineAccess}, ResponseType: oidc.ResponseTypeCode,
	}, "id1")
	if err != nil {
		return "", err
	}
	_, refresh, _, err = store.CreateAccessAndRefreshTokens(ctx, request, "")
	return refresh, err
}

func zitadelRenew(ctx context.Context, provider *op.Provider, refresh string) (string, error) {
	ctx = op.ContextWithIssuer(ctx, issuer)
	request, client, err := op.ValidateRefreshTokenRequest(ctx, &oidc.RefreshTokenRequest{RefreshToken: refresh, ClientID: "app"}, provider)
	if err != nil {
		return "", fmt.Errorf("zitadel/oidc: %w", err)
	}
	response, err := op.CreateTokenResponse(ctx, request, client, provider, true, "", refresh)
	if err != nil {
		return "", fmt.Errorf("zitadel/oidc: %w", err)
	}
	if response.AccessToken == "" || response.IDToken == "" || response.RefreshToken == "" {
		return "", errors.New("zitadel/oidc: a token is missing")
	}
	return response.RefreshToken, nil
}

// zitadelStorage is the example's, with a key of ES256 and JWTs as access tokens.
type zitadelStorage struct {
	*storage.Storage
	key zitadelKey
}

func (s *zitadelStorage) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s *zitadelStorage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *zitadelStorage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	client, err := s.Storage.GetClientByClientID(ctx, id)
	return jwtClient{client}, err
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

type zitadelKey struct{ key *ecdsa.PrivateKey }

func (zitadelKey) ID() string                                  { return "key-1" }
func (zitadelKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k zitadelKey) Key() any                                  { return k.key }
