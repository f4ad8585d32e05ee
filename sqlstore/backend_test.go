package sqlstore_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
	"github.com/jwtrenew/renew/storetest"
)

var (
	postgreSQL = dbtest.SharedPostgreSQL()
	mariaDB    = dbtest.SharedMariaDB()
)

func TestMain(m *testing.M) {
	storetest.ServeProcess(serveSQLite)
	if run, isWorker := workers[os.Getenv(workerVariable)]; isWorker {
		os.Exit(run())
	}
	_ = mysql.SetLogger(&mysql.NopLogger{}) // it tells of every connection that a test cuts
	code := m.Run()
	postgreSQL.Stop()
	mariaDB.Stop()
	os.Exit(code)
}

// backend is a kind of database to run a test on.
type backend struct {
	name    string
	dialect sqlstore.Dialect
	driver  string
	// server is the server's, nil for SQLite.
	server func(tb testing.TB) *dbtest.Server
}

func backendsOn(postgreSQL, mariaDB func(tb testing.TB) *dbtest.Server) []backend {
	return []backend{
		{"SQLite", sqlstore.SQLite, "sqlite", nil},
		{"PostgreSQL", sqlstore.PostgreSQL, "pgx", postgreSQL},
		{"MariaDB", sqlstore.MySQL, "mysql", mariaDB},
	}
}

// backends have servers that all tests share, killable one for each test, which takes
// long to start: see [rounds.Long].
var (
	backends = backendsOn(postgreSQL.Server, mariaDB.Server)
	killable = backendsOn(
		long(dbtest.PostgreSQL, dbtest.PostgreSQLVariable),
		long(dbtest.MariaDB, dbtest.MySQLVariable),
	)
)

// servers are those that are not SQLite.
var servers, killableServers = backends[1:], killable[1:]

// long skips a test for which a server would have to be started.
func long(server func(tb testing.TB) *dbtest.Server, running string) func(tb testing.TB) *dbtest.Server {
	return func(tb testing.TB) *dbtest.Server {
		tb.Helper()
		if os.Getenv(running) == "" {
			rounds.Long(tb)
		}
		return server(tb)
	}
}

// onEach runs the test on every kind of database, an empty one each, at the same time:
// they wait for different servers.
func onEach(t *testing.T, test func(t *testing.T, d *database)) {
	t.Helper()
	atOnce(t, backends, test)
}

// onServers leaves SQLite out.
func onServers(t *testing.T, test func(t *testing.T, d *database)) {
	t.Helper()
	atOnce(t, servers, test)
}

func atOnce(t *testing.T, kinds []backend, test func(t *testing.T, d *database)) {
	t.Helper()
	inTurn(t, kinds, func(t *testing.T, d *database) {
		t.Parallel()
		test(t, d)
	})
}

// inTurn is for a test that looks at the whole process, or changes it.
func inTurn(t *testing.T, kinds []backend, test func(t *testing.T, d *database)) {
	t.Helper()
	for _, b := range kinds {
		t.Run(b.name, func(t *testing.T) { test(t, b.empty(t)) })
	}
}

// database is an empty database for one test.
type database struct {
	backend
	dsn    string
	name   string
	server *dbtest.Server // nil: SQLite
	broken atomic.Bool    // SQLite, opened with breakable: every call fails

	onCrash func() // what is to be done after a crash; nil: nothing
}

func sqliteDSN(file string) string { return "file:" + file + "?_pragma=busy_timeout(2000)" }

func (b backend) empty(tb testing.TB) *database {
	tb.Helper()
	if b.server == nil {
		file := filepath.Join(tb.TempDir(), "renew.db")
		return &database{backend: b, dsn: sqliteDSN(file), name: file}
	}
	server := b.server(tb)
	name := server.NewDatabase(tb)
	return &database{backend: b, dsn: server.DSN(name), name: name, server: server}
}

// open returns a pool of its own, as another process would have.
func (d *database) open(tb testing.TB) *sql.DB { return d.openDSN(tb, d.dsn) }

// throughProxy has open go through a proxy from now on, which loses replies. SQLite
// has none.
func (d *database) throughProxy(tb testing.TB) []storetest.Option {
	tb.Helper()
	if d.server == nil {
		return nil
	}
	p := d.server.NewProxy(tb)
	d.dsn = d.server.DSNThrough(p, d.name)
	return []storetest.Option{storetest.WithProxy(p)}
}

func (d *database) openDSN(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(d.driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	limitPool(db)
	return db
}

// limitPool keeps connections, as docs/stores.md says: most of a test's time went
// into opening them.
func limitPool(db *sql.DB) {
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
}

// openWatched is open with the driver watched.
func (d *database) openWatched(tb testing.TB) (*sql.DB, *watch) {
	tb.Helper()
	plain := d.open(tb)
	w := &watch{}
	db := sql.OpenDB(&watchedConnector{plain.Driver(), d.dsn, w})
	limitPool(db)
	tb.Cleanup(func() { _ = db.Close() })
	return db, w
}

// breakable returns how to open the database so that failures work.
func (d *database) breakable() func(tb testing.TB) *sql.DB {
	if d.server != nil {
		return d.open
	}
	return func(tb testing.TB) *sql.DB {
		db, w := d.openWatched(tb)
		w.broken = &d.broken
		return db
	}
}

// slowness is for the race detector, which SQLite in Go feels most, on a machine
// that does other things too.
var slowness = storetest.WithSlowness(3)

// fewerRounds makes a part of the rounds, except where all are asked for: under the
// race detector, which slows SQLite in Go most, all take minutes.
func fewerRounds(tb testing.TB) storetest.Option {
	tb.Helper()
	if testing.Short() {
		return storetest.WithRounds(0.02)
	}
	return storetest.WithRounds(rounds.Share(tb))
}

// failures are the ways in which the database can fail. SQLite has no server to
// kill: its driver stands in for a disk that is gone. What a kill of the process
// leaves is another test's, TestKilledRenewals.
func (d *database) failures(tb testing.TB) []storetest.Option {
	tb.Helper()
	if d.server == nil {
		return []storetest.Option{slowness, fewerRounds(tb), storetest.WithOutage(func(testing.TB) func() {
			d.broken.Store(true)
			return func() { d.broken.Store(false) }
		})}
	}
	if !d.server.IsPrivate() {
		return []storetest.Option{slowness, fewerRounds(tb)} // it runs on: what is not ours is not killed
	}
	return []storetest.Option{
		slowness,
		fewerRounds(tb),
		storetest.WithOutage(func(tb testing.TB) func() {
			d.server.Kill(tb)
			return func() { d.server.Start(tb) }
		}),
		storetest.WithCrash(func(tb testing.TB) {
			d.server.Kill(tb)
			d.server.Start(tb)
			if d.onCrash != nil {
				d.onCrash()
			}
		}),
	}
}

func (d *database) migrate(tb testing.TB, db *sql.DB, opts ...sqlstore.Option) {
	tb.Helper()
	if err := sqlstore.Migrate(tb.Context(), db, d.dialect, opts...); err != nil {
		tb.Fatal(err)
	}
}

func (d *database) tokenStore(tb testing.TB, db *sql.DB, opts ...sqlstore.Option) *sqlstore.TokenStore {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, err := sqlstore.NewTokenStore(ctx, db, d.dialect, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	return store
}

func (d *database) keyStore(tb testing.TB, db *sql.DB, opts ...sqlstore.Option) *sqlstore.KeyStore {
	tb.Helper()
	return d.keyStoreWith(tb, db, newEncrypter(tb, encryptionKey(1)), opts...)
}

func (d *database) keyStoreWith(tb testing.TB, db *sql.DB, e sqlstore.Encrypter, opts ...sqlstore.Option) *sqlstore.KeyStore {
	tb.Helper()
	opts = append([]sqlstore.Option{sqlstore.WithStatusInterval(0)}, opts...)
	store, err := sqlstore.NewKeyStore(tb.Context(), db, d.dialect, e, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	return store
}

// encryptionKey returns the n-th key.
func encryptionKey(n byte) []byte {
	key := make([]byte, sqlstore.EncryptionKeyBytes)
	for i := range key {
		key[i] = n ^ byte(i*7)
	}
	return key
}

func newEncrypter(tb testing.TB, keys ...[]byte) sqlstore.Encrypter {
	tb.Helper()
	e, err := sqlstore.NewEncrypter(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}
