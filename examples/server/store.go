package main

import (
	"context"
	"io"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// stores is all that the server needs of its two stores: what the library asks
// for, and what fills and cleans them.
type stores interface {
	renew.KeyStore
	renew.KeyLister
	renew.TokenStore
	renew.SubjectStore
	renew.Purger

	CreateApp(ctx context.Context, app renew.App) error
	UpdateApp(ctx context.Context, app renew.App) error
	AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error
	RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error
	DeleteExpiredKeys(ctx context.Context, now time.Time) (int, error)

	io.Closer
}

const inMemory = "memory"

// storeUsage is the help of the flag -store.
const storeUsage = "`place` where apps, keys and sessions are kept: " + inMemory + ", sqlite:FILE, postgres://…, mysql://…; see also $" + encryptionKeyVariable

// openStore opens the stores that the flag -store names.
func openStore(ctx context.Context, name string) (stores, error) {
	if name == inMemory {
		return memory{memstore.New()}, nil
	}
	return openDatabase(ctx, name)
}

// memory is both stores in memory. It lives as long as the program.
type memory struct{ *memstore.Store }

func (memory) Close() error { return nil }
