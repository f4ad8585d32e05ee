package dynamostore_test

import (
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
)

// newSession returns a session of testApp that ends an hour after base.
func newSession(id string) renew.Session {
	return renew.Session{
		AppID: testApp, ID: id, Subject: "subject", Audience: []string{"a", "b"}, Claims: []byte(`{"n":9007199254740993}`),
		CreatedAt: base, TokenID: rand.Text(), IssuedAt: base, RefreshNotBefore: base, RefreshExpiresAt: base.Add(time.Hour),
		IP: "192.0.2.1", UserAgent: "test",
	}
}

// successor is the session after a renewal, a minute later.
func successor(s renew.Session) renew.Session {
	next := s.Clone()
	next.Generation++
	next.PreviousTokenID, next.TokenID = s.TokenID, rand.Text()
	next.IssuedAt = s.IssuedAt.Add(time.Minute)
	next.RefreshNotBefore, next.RefreshExpiresAt = next.IssuedAt, s.RefreshExpiresAt.Add(time.Minute)
	hash := sha256.Sum256([]byte(next.TokenID))
	next.IdempotencyKeyHash = hash[:]
	return next
}

func newKey(tb testing.TB) *renew.SigningKey {
	tb.Helper()
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	require.NoError(tb, err)
	return key
}

func newIdempotencyKey() string { return rand.Text() + rand.Text() }

func app() renew.App { return renew.App{ID: testApp, Issuer: "https://issuer.example"} }

func otherEncrypter() (keycrypt.Encrypter, error) {
	return keycrypt.New(make([]byte, keycrypt.KeyBytes))
}
