//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/sqlstore"
)

// backend is a pair of stores with the app and its key.
type backend struct {
	keys   renew.KeyStore
	tokens renew.TokenStore
	engine engine
	appKey string
	kind   storeKind
	filled int // sessions that multiply has stored
}

// engine is what a backend's sessions are stored in.
type engine interface {
	// multiply stores n more sessions like this one, of other subjects, with the IDs
	// that idLike returns for from and the numbers after it.
	multiply(ctx context.Context, sessionID string, from, n int) error
	// size is what the sessions take: the heap's for memory and for Redis, the
	// table's and its indexes' on the disk for a database.
	size(ctx context.Context) (int64, error)
	// settle has the engine write its statistics, and what it would write some time
	// later.
	settle(ctx context.Context) error
	// statements counts what reaches the engine for one renewal.
	statements(ctx context.Context, b *backend) (float64, error)
	close()
}

// storeKind says where a backend keeps its sessions.
type storeKind struct {
	Name    string
	Driver  string // empty: memory; redisDriver; else one of database/sql
	Dialect sqlstore.Dialect
}

var (
	inMemory     = storeKind{Name: "memstore"}
	inSQLite     = storeKind{"SQLite", "sqlite", sqlstore.SQLite}
	inPostgreSQL = storeKind{"PostgreSQL", "pgx", sqlstore.PostgreSQL}
	inMariaDB    = storeKind{"MariaDB", "mysql", sqlstore.MySQL}
	inRedis      = storeKind{Name: "Redis, appendfsync always", Driver: redisDriver}
	inEverysec   = storeKind{Name: "Redis, appendfsync everysec", Driver: redisDriver}
	inCluster    = storeKind{Name: "Redis Cluster of three, appendfsync always", Driver: redisDriver}
)

// maxConns is the size of a pool.
const maxConns = 64

// statusInterval is how long a service trusts what it has read about keys.
const statusInterval = 5 * time.Second

// encryptionKey encrypts the private keys in every database of this process.
var encryptionKey = func() []byte {
	secret := make([]byte, sqlstore.EncryptionKeyBytes)
	rand.Read(secret) // never fails
	return secret
}()

// openBackend makes the stores in an empty database.
func openBackend(ctx context.Context, kind storeKind, dsn string) (*backend, error) {
	b := &backend{kind: kind}
	var err error
	switch kind.Driver {
	case "":
		store, appKey, err := newMemory(ctx, renew.ES256)
		b.keys, b.tokens, b.engine, b.appKey = store, store, memoryEngine{store}, appKey
		return b, err
	case redisDriver:
		err = openRedis(ctx, b, dsn)
	default:
		err = openDatabase(ctx, b, dsn)
	}
	if err != nil {
		return nil, err
	}
	app, appKey := newApp()
	b.appKey = appKey
	keys := b.keys.(renew.KeyAdmin)
	if err := keys.CreateApp(ctx, app); err != nil {
		return nil, err
	}
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		return nil, err
	}
	return b, keys.RotateSigningKey(ctx, appID, key, time.Now())
}

// system is the library on this backend.
func (b *backend) system() (system, error) {
	r, err := renew.New(b.keys, b.tokens)
	if err != nil {
		return system{}, err
	}
	return system{
		name:  "renew on " + b.kind.Name,
		login: func(ctx context.Context) (renewal, error) { return renewing(ctx, r, issueRequest(0)) },
		stop:  b.engine.close,
	}, nil
}

// multiply stores so many more sessions like this one.
func (b *backend) multiply(ctx context.Context, sessionID string, n int) error {
	if n == 0 {
		return nil
	}
	defer func() { b.filled += n }()
	return b.engine.multiply(ctx, sessionID, b.filled, n)
}

// idLike is an ID that is spread around the session's as ULIDs of the same time are.
func idLike(sessionID string, n int) string { return fmt.Sprintf("%s%016d", sessionID[:10], n) }

// createLike stores one more session like s.
func createLike(ctx context.Context, tokens renew.TokenStore, s renew.Session, n int) error {
	s.ID = idLike(s.ID, n)
	s.Subject = "user-" + s.ID
	return tokens.CreateSession(ctx, s)
}

// memoryEngine is the heap of this process.
type memoryEngine struct{ store *memstore.Store }

func (e memoryEngine) multiply(ctx context.Context, sessionID string, from, n int) error {
	s, err := e.store.Session(ctx, appID, sessionID)
	for i := range n {
		if err != nil {
			break
		}
		err = createLike(ctx, e.store, s, from+i)
	}
	return err
}

func (memoryEngine) size(context.Context) (int64, error) {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), nil //nolint:gosec // far below 1<<63
}

func (memoryEngine) settle(context.Context) error { return nil }

func (memoryEngine) statements(context.Context, *backend) (float64, error) { return 0, nil }

func (memoryEngine) close() {}
