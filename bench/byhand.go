//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// byHand is the renewal that a Go developer writes in an afternoon: two JWTs with
// golang-jwt, and a map from token IDs to users behind a mutex.
//
// Per renewal it verifies one ES256 signature and makes two, takes the presented
// token ID out of the map and puts the new one in. A lost response loses the
// session, a used token that comes back ends nothing, and nothing is revoked.
type byHand struct {
	key *ecdsa.PrivateKey

	mu   sync.Mutex
	live map[string]string // user by ID of the refresh token
}

func newHand() (*byHand, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &byHand{key: key, live: make(map[string]string)}, err
}

func newByHand() (system, error) {
	h, err := newHand()
	return system{name: "by hand: golang-jwt/jwt/v5 and a map", login: h.login}, err
}

type handClaims struct {
	jwt.RegisteredClaims
	Type string `json:"type,omitempty"`
}

func (h *byHand) login(context.Context) (renewal, error) {
	_, refresh, err := h.issue("user@example.com")
	return func(context.Context) error {
		if err == nil {
			_, refresh, err = h.renew(refresh)
		}
		return err
	}, err
}

func (h *byHand) issue(user string) (access, refresh string, err error) {
	now := time.Now()
	id := uuid.NewString()
	access, err = h.sign(handClaims{RegisteredClaims: jwt.RegisteredClaims{
		Issuer: issuer, Subject: user, Audience: jwt.ClaimStrings{"https://api.example"},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)), ID: id,
	}})
	if err != nil {
		return "", "", err
	}
	refresh, err = h.sign(handClaims{Type: "refresh", RegisteredClaims: jwt.RegisteredClaims{
		Issuer: issuer, Subject: user, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(3 * time.Hour)), ID: id,
	}})
	if err != nil {
		return "", "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live[id] = user
	return access, refresh, nil
}

func (h *byHand) sign(claims handClaims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = "key-1"
	return token.SignedString(h.key)
}

func (h *byHand) renew(presented string) (access, refresh string, err error) {
	var claims handClaims
	_, err = jwt.ParseWithClaims(presented, &claims, func(*jwt.Token) (any, error) { return &h.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithExpirationRequired())
	if err != nil {
		return "", "", fmt.Errorf("by hand: %w", err)
	}
	if claims.Type != "refresh" {
		return "", "", errors.New("by hand: not a refresh token")
	}
	h.mu.Lock()
	user, live := h.live[claims.ID]
	delete(h.live, claims.ID)
	h.mu.Unlock()
	if !live {
		return "", "", errors.New("by hand: the refresh token is used")
	}
	return h.issue(user)
}
