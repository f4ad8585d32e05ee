//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // registers the driver
	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver
	_ "modernc.org/sqlite"             // registers the driver

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/sqlstore"
)

// backend is a pair of stores with the app and its key.
type backend struct {
	keys   renew.KeyStore
	tokens renew.TokenStore
	appKey string
	db     *sql.DB // nil: memory
	kind   storeKind
	dsn    string
	filled int // sessions that multiply has stored
}

// storeKind says where a backend keeps its sessions.
type storeKind struct {
	Name    string
	Driver  string // empty: memory
	Dialect sqlstore.Dialect
}

var (
	inMemory     = storeKind{Name: "memstore"}
	inSQLite     = storeKind{"SQLite", "sqlite", sqlstore.SQLite}
	inPostgreSQL = storeKind{"PostgreSQL", "pgx", sqlstore.PostgreSQL}
	inMariaDB    = storeKind{"MariaDB", "mysql", sqlstore.MySQL}
)

// maxConns is the size of a database's pool.
const maxConns = 16

// openBackend makes the stores in an empty database.
func openBackend(ctx context.Context, kind storeKind, dsn string) (*backend, error) {
	if kind.Driver == "" {
		store, appKey, err := newMemory(ctx, renew.ES256)
		return &backend{keys: store, tokens: store, appKey: appKey, kind: kind}, err
	}
	db, err := sql.Open(kind.Driver, dsn)
	if err != nil {
		return nil, err
	}
	if err := sqlstore.Migrate(ctx, db, kind.Dialect); err != nil {
		return nil, err
	}
	b := &backend{kind: kind, dsn: dsn}
	if err := b.use(ctx, db); err != nil {
		return nil, err
	}
	app, appKey := newApp()
	b.appKey = appKey
	keys := b.keys.(*sqlstore.KeyStore)
	if err := keys.CreateApp(ctx, app); err != nil {
		return nil, err
	}
	key, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		return nil, err
	}
	return b, keys.RotateSigningKey(ctx, appID, key, time.Now())
}

// statusInterval is how long a service trusts what it has read about keys.
const statusInterval = 5 * time.Second

// encryptionKey encrypts the private keys in every database of this process.
var encryptionKey = func() []byte {
	secret := make([]byte, sqlstore.EncryptionKeyBytes)
	rand.Read(secret) // never fails
	return secret
}()

// use makes the stores on db, as a service would.
func (b *backend) use(ctx context.Context, db *sql.DB) error {
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	tokens, err := sqlstore.NewTokenStore(ctx, db, b.kind.Dialect)
	if err != nil {
		return err
	}
	encrypter, err := sqlstore.NewEncrypter(encryptionKey)
	if err != nil {
		return err
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, b.kind.Dialect, encrypter, sqlstore.WithStatusInterval(statusInterval))
	if err != nil {
		return err
	}
	b.keys, b.tokens, b.db = keys, tokens, db
	return nil
}

func (b *backend) close() {
	if b.db != nil {
		b.db.Close()
	}
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
		stop:  b.close,
	}, nil
}

// multiply stores so many more sessions like this one, of other subjects, with
// IDs that are spread around its own as ULIDs of the same time are.
func (b *backend) multiply(ctx context.Context, sessionID string, n int) error {
	if n == 0 {
		return nil
	}
	defer func() { b.filled += n }()
	if b.db != nil {
		return b.multiplyRows(ctx, sessionID, n)
	}
	s, err := b.tokens.Session(ctx, appID, sessionID)
	if err != nil {
		return err
	}
	for i := range n {
		s.ID = fmt.Sprintf("%s%016d", sessionID[:10], b.filled+i)
		s.Subject = "user-" + s.ID
		if err := b.tokens.(*memstore.Store).CreateSession(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) multiplyRows(ctx context.Context, sessionID string, n int) error {
	series, id := "WITH RECURSIVE series (n) AS (SELECT %d UNION ALL SELECT n + 1 FROM series WHERE n < %d)", "printf('%s%%016d', n)"
	if b.kind.Dialect == sqlstore.PostgreSQL {
		series, id = "WITH series (n) AS (SELECT generate_series(%d, %d))", "'%s' || lpad(n::text, 16, '0')"
	}
	id = fmt.Sprintf(id, sessionID[:10])
	columns, err := b.columns(ctx)
	if err != nil {
		return err
	}
	values := strings.Join(columns, ", ")
	values = strings.Replace(values, ", id,", ", "+id+",", 1)
	values = strings.Replace(values, ", subject,", ", 'user-' || "+id+",", 1)
	_, err = b.db.ExecContext(ctx, fmt.Sprintf(series, b.filled, b.filled+n-1)+
		" INSERT INTO renew_sessions ("+strings.Join(columns, ", ")+") SELECT "+values+
		" FROM renew_sessions CROSS JOIN series WHERE id = '"+sessionID+"'")
	return err
}

// columns are those of a session, in their order.
func (b *backend) columns(ctx context.Context) ([]string, error) {
	rows, err := b.db.QueryContext(ctx, "SELECT * FROM renew_sessions WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	return columns, errors.Join(err, rows.Err())
}

// size is what the sessions take: the heap's for memory, the table's and its
// indexes' on the disk.
func (b *backend) size(ctx context.Context) (bytes int64, err error) {
	switch b.kind.Dialect {
	case sqlstore.SQLite:
		var busy, frames, moved int
		if err := b.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
			return 0, err
		}
		err = b.db.QueryRowContext(ctx, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&bytes)
	case sqlstore.PostgreSQL:
		err = b.db.QueryRowContext(ctx, "SELECT pg_total_relation_size('renew_sessions')").Scan(&bytes)
	case sqlstore.MySQL:
		if _, err := b.db.ExecContext(ctx, "ANALYZE TABLE renew_sessions"); err != nil {
			return 0, err
		}
		err = b.db.QueryRowContext(ctx, "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'renew_sessions' AND table_schema = DATABASE()").Scan(&bytes)
	default:
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		bytes = int64(m.HeapAlloc) //nolint:gosec // far below 1<<63
	}
	return bytes, err
}

// settle has the database write its statistics, and what it would write some
// time later.
func (b *backend) settle(ctx context.Context) error {
	if b.kind.Dialect != sqlstore.PostgreSQL {
		return nil
	}
	for _, statement := range []string{"VACUUM ANALYZE renew_sessions", "CHECKPOINT"} {
		if _, err := b.db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// statements counts what reaches the database for one renewal. It is counted at
// the driver.
func (b *backend) statements(ctx context.Context) (float64, error) {
	if b.db == nil {
		return 0, nil
	}
	var counted atomic.Int64
	db := sql.OpenDB(countingConnector{b.db.Driver(), b.dsn, &counted})
	defer db.Close()
	watched := &backend{kind: b.kind}
	if err := watched.use(ctx, db); err != nil {
		return 0, err
	}
	r, err := renew.New(b.keys, watched.tokens) // keys have their own cache: what is counted is the session's
	if err != nil {
		return 0, err
	}
	one, err := renewing(ctx, r, issueRequest(0))
	if err != nil {
		return 0, err
	}
	const renewals = 20
	before := counted.Load()
	if err := repeat(ctx, one, renewals); err != nil {
		return 0, err
	}
	return float64(counted.Load()-before) / renewals, nil
}

// countingConnector counts the statements that reach a driver.
type countingConnector struct {
	driver driver.Driver
	dsn    string
	count  *atomic.Int64
}

func (c countingConnector) Driver() driver.Driver { return c.driver }

func (c countingConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return countingConn{conn, c.count}, nil
}

// countingConn has none of the shortcuts that database/sql would take: every
// statement is prepared.
type countingConn struct {
	driver.Conn
	count *atomic.Int64
}

func (c countingConn) Prepare(query string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	return countingStmt{stmt, c.count}, nil
}

// countingStmt passes on to the methods that every driver here has.
type countingStmt struct {
	driver.Stmt
	count *atomic.Int64
}

func (s countingStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.count.Add(1)
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s countingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.count.Add(1)
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}
