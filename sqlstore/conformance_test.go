package sqlstore_test

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
	"github.com/jwtrenew/renew/storetest"
)

// listLimit is the documented one.
var listLimit = storetest.WithListLimit(sqlstore.MaxSubjectSessions)

// TestTokenStoreLaws holds the store to the laws of renew.TokenStore on every
// database. Each handle has a pool of its own, as two processes have. On SQLite
// every other one is in another process, which a crash kills.
func TestTokenStoreLaws(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.longOnMariaDB(t)
		d.migrate(t, d.open(t))
		proxied := d.throughProxy(t)
		open := func(tb testing.TB) renew.TokenStore { return d.tokenStore(tb, d.open(tb)) }
		if d.server != nil {
			storetest.TestTokenStore(t, open, append(append(d.failures(t), listLimit), proxied...)...)
			return
		}
		process := storetest.StartProcess(t, d.name)
		var handles atomic.Int64
		storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
			if handles.Add(1)%2 == 0 {
				return process.Open(tb)
			}
			return open(tb)
		}, slowness, fewerRounds(t), listLimit, storetest.WithCrash(process.Crash))
	})
}

// longOnMariaDB skips laws on MariaDB unless RENEW_TEST_ROUNDS is set: they take longest there.
func (d *database) longOnMariaDB(tb testing.TB) {
	tb.Helper()
	if d.dialect == sqlstore.MySQL && d.server.IsPrivate() {
		rounds.Long(tb)
	}
}

// both are the two stores of one database file.
type both struct {
	*sqlstore.TokenStore
	*sqlstore.KeyStore
}

// serveSQLite opens the stores that storetest.StartProcess has named.
func serveSQLite(file string) (*both, error) {
	ctx := context.Background()
	db, err := sql.Open("sqlite", sqliteDSN(file))
	if err != nil {
		return nil, err
	}
	limitPool(db)
	tokens, err := sqlstore.NewTokenStore(ctx, db, sqlstore.SQLite)
	if err != nil {
		return nil, err
	}
	encrypter, err := sqlstore.NewEncrypter(encryptionKey(1))
	if err != nil {
		return nil, err
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, sqlstore.SQLite, encrypter, sqlstore.WithStatusInterval(0))
	if err != nil {
		return nil, err
	}
	return &both{tokens, keys}, nil
}

// TestSQLiteOutage is law T12 for a disk that is gone, for which the driver
// stands in.
func TestSQLiteOutage(t *testing.T) {
	ctx := t.Context()
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	store := d.tokenStore(t, d.breakable()(t))
	s := newSession("session")
	require.NoError(t, store.CreateSession(ctx, s))
	d.broken.Store(true)
	_, readErr := store.Session(ctx, s.AppID, s.ID)
	_, unknownErr := store.Session(ctx, s.AppID, "unknown")
	_, listErr := store.SubjectSessions(ctx, s.AppID, s.Subject, base)
	_, revokeErr := store.RevokeSubject(ctx, s.AppID, s.Subject, base)
	_, purgeErr := store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 1)
	for _, err := range []error{
		readErr, unknownErr, listErr, revokeErr, purgeErr,
		store.CreateSession(ctx, newSession("another")),
		store.Rotate(ctx, s.TokenID, successor(s)),
		store.RevokeSession(ctx, s.AppID, s.ID, base),
	} {
		require.ErrorIs(t, err, errBroken)
	}
	d.broken.Store(false)
	got, err := store.Session(ctx, s.AppID, s.ID)
	require.NoError(t, err)
	require.Equal(t, s, got)
}

// TestKeyStoreLaws is the same for renew.KeyStore.
func TestKeyStoreLaws(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.longOnMariaDB(t)
		d.migrate(t, d.open(t))
		proxied := d.throughProxy(t)
		db := d.breakable()
		storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return d.keyStore(tb, db(tb)) }, append(d.failures(t), proxied...)...)
	})
}

// TestSQLiteKeysSurviveAKill holds the key store on SQLite to its laws in a
// separate process, which a crash kills.
func TestSQLiteKeysSurviveAKill(t *testing.T) {
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	process := storetest.StartProcess(t, d.name)
	storetest.TestKeyStore(t, process.OpenKeys, slowness, storetest.WithRounds(0.02), storetest.WithCrash(process.Crash))
}
