// Package fleettest has what the tests of redisstore and dynamostore share: sessions
// and apps to store, calls to disturb, and a login whose secrets must not be stored.
package fleettest

import (
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
)

// AppID is the app of all sessions.
const AppID = "app"

// Base is when sessions are created.
var Base = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

// App returns the app without app keys.
func App() renew.App { return renew.App{ID: AppID, Issuer: "https://issuer.example"} }

// NewSession returns a session that ends an hour after Base.
func NewSession(id string) renew.Session {
	return renew.Session{
		AppID: AppID, ID: id, Subject: "subject", Audience: []string{"a", "b"}, Claims: []byte(`{"n":9007199254740993}`),
		CreatedAt: Base, TokenID: rand.Text(), IssuedAt: Base, RefreshNotBefore: Base, RefreshExpiresAt: Base.Add(time.Hour),
		IP: "192.0.2.1", UserAgent: "test",
	}
}

// Successor is the session after a renewal, a minute later.
func Successor(s renew.Session) renew.Session {
	next := s.Clone()
	next.Generation++
	next.PreviousTokenID, next.TokenID = s.TokenID, rand.Text()
	next.IssuedAt = s.IssuedAt.Add(time.Minute)
	next.RefreshNotBefore, next.RefreshExpiresAt = next.IssuedAt, s.RefreshExpiresAt.Add(time.Minute)
	hash := sha256.Sum256([]byte(next.TokenID))
	next.IdempotencyKeyHash = hash[:]
	return next
}

// NewKey returns a signing key.
func NewKey(tb testing.TB) *renew.SigningKey {
	tb.Helper()
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	require.NoError(tb, err)
	return key
}

// NewIdempotencyKey draws an idempotency key.
func NewIdempotencyKey() string { return rand.Text() + rand.Text() }

// EncryptionKey is that of NewEncrypter.
func EncryptionKey() []byte {
	key := make([]byte, keycrypt.KeyBytes)
	for i := range key {
		key[i] = byte(i*7) ^ 1
	}
	return key
}

// NewEncrypter returns the encrypter of all KeyStores.
func NewEncrypter(tb testing.TB) keycrypt.Encrypter {
	tb.Helper()
	e, err := keycrypt.New(EncryptionKey())
	require.NoError(tb, err)
	return e
}
