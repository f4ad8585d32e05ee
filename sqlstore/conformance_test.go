package sqlstore_test

import (
	"context"
	"database/sql"
	"sync"
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
	atOnce(t, killable, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		proxied := d.throughProxy(t)
		pools := d.openTwoPools(t, d.open)
		open := func(tb testing.TB) renew.TokenStore { return d.tokenStore(tb, pools.next(tb)) }
		if d.server != nil {
			storetest.TestTokenStore(t, open, append(append(d.failures(t), listLimit), proxied...)...)
			return
		}
		process := storetest.StartProcess(t, d.name)
		var handles turns
		storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
			if handles.next(tb)%2 == 0 {
				return process.Open(tb)
			}
			return open(tb)
		}, slowness, fewerRounds(t), listLimit, storetest.WithCrash(process.Crash))
	})
}

// twoPools are two pools, which the handles of a case get by turns. Most of the time of
// the laws would go into opening connections if each case had its own. After a crash
// there are new ones, as new processes have.
type twoPools struct {
	tb    testing.TB
	open  func(tb testing.TB) *sql.DB
	cases turns
	mu    sync.Mutex
	pools [2]*sql.DB
}

func (d *database) openTwoPools(tb testing.TB, open func(tb testing.TB) *sql.DB) *twoPools {
	tb.Helper()
	p := &twoPools{tb: tb, open: open}
	p.reopen()
	d.onCrash = p.reopen
	return p
}

func (p *twoPools) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pools = [2]*sql.DB{p.open(p.tb), p.open(p.tb)}
}

func (p *twoPools) next(tb testing.TB) *sql.DB {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pools[p.cases.next(tb)%2]
}

// turns counts for each case.
type turns struct{ counts sync.Map }

func (c *turns) next(tb testing.TB) int64 {
	tb.Helper()
	n, _ := c.counts.LoadOrStore(tb.Name(), new(atomic.Int64))
	return n.(*atomic.Int64).Add(1)
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
	atOnce(t, killable, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		proxied := d.throughProxy(t)
		pools := d.openTwoPools(t, d.breakable())
		storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return d.keyStore(tb, pools.next(tb)) }, append(d.failures(t), proxied...)...)
	})
}

// TestSQLiteKeysSurviveAKill holds the key store on SQLite to its laws in a
// separate process, which a crash kills.
func TestSQLiteKeysSurviveAKill(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	process := storetest.StartProcess(t, d.name)
	storetest.TestKeyStore(t, process.OpenKeys, slowness, storetest.WithRounds(0.02), storetest.WithCrash(process.Crash))
}
