package memstore_test

import (
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/storetest"
)

// TestTokenStore shows that the store keeps the laws of renew.TokenStore. It
// lives in one process, so that both handles are one value; law T13 is for
// durable stores. Fifty times over, as races want it:
//
//	go test -race -shuffle=on -count=50 -run '^(TestTokenStore|TestKeyStore)$' ./memstore
func TestTokenStore(t *testing.T) {
	store := memstore.New()
	storetest.TestTokenStore(t, func(testing.TB) renew.TokenStore { return store })
}

// TestKeyStore shows that the store keeps the laws of renew.KeyStore.
func TestKeyStore(t *testing.T) {
	store := memstore.New()
	storetest.TestKeyStore(t, func(testing.TB) renew.KeyStore { return store })
}
