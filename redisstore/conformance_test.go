package redisstore_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/storetest"
)

// TestTokenStoreLaws holds the store to the laws of renew.TokenStore on every form of
// Redis, with the client's repetitions and without.
func TestTokenStoreLaws(t *testing.T) {
	onEach(t, func(t *testing.T, f *form) {
		for name, change := range map[string]func(*redis.UniversalOptions){
			"retries": func(*redis.UniversalOptions) {}, "no retries": withoutRetries,
		} {
			t.Run(name, func(t *testing.T) {
				storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
					return f.tokens(tb, f.client(tb, change))
				}, f.failures()...)
			})
		}
	})
}

// TestKeyStoreLaws is the same for renew.KeyStore.
func TestKeyStoreLaws(t *testing.T) {
	onEach(t, func(t *testing.T, f *form) {
		storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return f.keys(tb, f.client(tb)) }, f.failures()...)
	})
}
