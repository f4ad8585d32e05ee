package sqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/storetest"
)

// TestTokenStoreLaws holds the store to the laws of renew.TokenStore on every
// database. Each handle has a pool of its own, as two processes have.
func TestTokenStoreLaws(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		db := d.breakable()
		storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore { return d.tokenStore(tb, db(tb)) }, d.failures()...)
	})
}

// TestKeyStoreLaws is the same for renew.KeyStore.
func TestKeyStoreLaws(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		db := d.breakable()
		storetest.TestKeyStore(t, func(tb testing.TB) storetest.Keys {
			store := d.keyStore(tb, db(tb))
			return storetest.Keys{
				Store:        store,
				CreateApp:    store.CreateApp,
				UpdateApp:    store.UpdateApp,
				AddAppKey:    store.AddAppKey,
				RemoveAppKey: store.RemoveAppKey,
				RotateSigningKey: func(ctx context.Context, appID string) (string, error) {
					key, err := renew.GenerateSigningKey(renew.ES256)
					if err != nil {
						return "", err
					}
					return key.VerificationKey().KeyID(), store.RotateSigningKey(ctx, appID, key, time.Now())
				},
				RevokeKey: func(ctx context.Context, appID, keyID string) error {
					return store.RevokeKey(ctx, appID, keyID, time.Now())
				},
			}
		}, d.failures()...)
	})
}
