//go:build unix

package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	_ "github.com/go-sql-driver/mysql" // registers the driver
	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver
	_ "modernc.org/sqlite"             // registers the driver

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// database is an engine that speaks SQL.
type database struct {
	db      *sql.DB
	dialect sqlstore.Dialect
	dsn     string
}

// openDatabase makes the tables and the stores.
func openDatabase(ctx context.Context, b *backend, dsn string) error {
	db, err := sql.Open(b.kind.Driver, dsn)
	if err != nil {
		return err
	}
	if err := sqlstore.Migrate(ctx, db, b.kind.Dialect); err != nil {
		return err
	}
	b.engine = &database{db, b.kind.Dialect, dsn}
	return b.use(ctx, db)
}

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
	b.tokens = tokens
	b.keys, err = sqlstore.NewKeyStore(ctx, db, b.kind.Dialect, encrypter, sqlstore.WithStatusInterval(statusInterval))
	return err
}

func (d *database) close() { d.db.Close() }

func (d *database) multiply(ctx context.Context, sessionID string, from, n int) error {
	series, id := "WITH RECURSIVE series (n) AS (SELECT %d UNION ALL SELECT n + 1 FROM series WHERE n < %d)", "printf('%s%%016d', n)"
	if d.dialect == sqlstore.PostgreSQL {
		series, id = "WITH series (n) AS (SELECT generate_series(%d, %d))", "'%s' || lpad(n::text, 16, '0')"
	}
	id = fmt.Sprintf(id, sessionID[:10])
	columns, err := d.columns(ctx)
	if err != nil {
		return err
	}
	values := strings.Join(columns, ", ")
	values = strings.Replace(values, ", id,", ", "+id+",", 1)
	values = strings.Replace(values, ", subject,", ", 'user-' || "+id+",", 1)
	_, err = d.db.ExecContext(ctx, fmt.Sprintf(series, from, from+n-1)+
		" INSERT INTO renew_sessions ("+strings.Join(columns, ", ")+") SELECT "+values+
		" FROM renew_sessions CROSS JOIN series WHERE id = '"+sessionID+"'")
	return err
}

// columns are those of a session, in their order.
func (d *database) columns(ctx context.Context) ([]string, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT * FROM renew_sessions WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	return columns, errors.Join(err, rows.Err())
}

func (d *database) size(ctx context.Context) (bytes int64, err error) {
	query := "SELECT pg_total_relation_size('renew_sessions')"
	switch d.dialect {
	case sqlstore.SQLite:
		var busy, frames, moved int
		if err := d.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
			return 0, err
		}
		query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	case sqlstore.MySQL:
		if _, err := d.db.ExecContext(ctx, "ANALYZE TABLE renew_sessions"); err != nil {
			return 0, err
		}
		query = "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'renew_sessions' AND table_schema = DATABASE()"
	}
	err = d.db.QueryRowContext(ctx, query).Scan(&bytes)
	return bytes, err
}

func (d *database) settle(ctx context.Context) error {
	if d.dialect != sqlstore.PostgreSQL {
		return nil
	}
	for _, statement := range []string{"VACUUM ANALYZE renew_sessions", "CHECKPOINT"} {
		if _, err := d.db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// statements are counted at the driver. Keys have a cache of their own: what is
// counted is the session's.
func (d *database) statements(ctx context.Context, b *backend) (float64, error) {
	var counted atomic.Int64
	db := sql.OpenDB(countingConnector{d.db.Driver(), d.dsn, &counted})
	defer db.Close()
	watched := &backend{kind: b.kind}
	if err := watched.use(ctx, db); err != nil {
		return 0, err
	}
	return perRenewal(ctx, b.keys, watched.tokens, &counted)
}

// perRenewal is how much further the counter is after a renewal of a session that was
// renewed before: the first renewal in a cluster of Redis costs one more.
func perRenewal(ctx context.Context, keys renew.KeyStore, tokens renew.TokenStore, counted *atomic.Int64) (float64, error) {
	r, err := renew.New(keys, tokens)
	if err != nil {
		return 0, err
	}
	one, err := renewing(ctx, r, issueRequest(0))
	if err != nil {
		return 0, err
	}
	if err := one(ctx); err != nil {
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
