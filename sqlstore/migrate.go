package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrNewerSchema: a later version of this package has migrated the database.
// Test with [errors.Is].
var ErrNewerSchema = errors.New("the database's schema is newer than this version of sqlstore")

//go:embed migrations
var migrationFiles embed.FS

// Migrations returns the SQL that [Migrate] runs, for use with another migration
// tool: files to be applied in the order of their names, each a single statement
// without a semicolon, with [DefaultTablePrefix] in every name. They are numbered
// alike for all dialects. Applying one again changes nothing, except that MySQL and
// SQLite return an error for a column that is there already. The first one makes
// the table in which Migrate records versions; with another tool it stays empty.
func Migrations(dialect Dialect) (fs.FS, error) {
	if _, err := migrationFiles.ReadDir("migrations/" + string(dialect)); err != nil {
		return nil, fmt.Errorf("sqlstore.Migrations: dialect %q is none of PostgreSQL, MySQL and SQLite", dialect)
	}
	return fs.Sub(migrationFiles, "migrations/"+string(dialect))
}

// Migrate makes the tables, or brings those of an earlier version up to date. On
// tables that are up to date it changes nothing. Any number of processes may
// call it at once: one does the work, the others wait, until ctx is done.
// [ErrNewerSchema]: the tables are those of a later version; nothing has changed.
//
// It needs the right to create tables, which the stores do not. On PostgreSQL and
// SQLite it happens whole or not at all. MySQL and MariaDB have no such
// transactions: there, what was broken off is finished by calling it again.
func Migrate(ctx context.Context, db *sql.DB, dialect Dialect, opts ...Option) error {
	c, err := newConfig(db, dialect, opts)
	if err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	all, err := c.migrations()
	if err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	if err := c.checkConnection(ctx, db); err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	if err := c.exclusively(ctx, db, func(tx execer) error { return c.apply(ctx, tx, all) }); err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	return nil
}

// migration is one statement and the version of the schema that it makes.
type migration struct {
	version   int
	statement string
}

// migrations returns all of the dialect's, in order, without the one that makes
// the version table: that one is version 0.
func (c config) migrations() ([]migration, error) {
	files, err := Migrations(c.dialect)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	all := make([]migration, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(name, "_")
		if all[i].version, err = strconv.Atoi(number); err != nil || all[i].version != i {
			return nil, fmt.Errorf("migration %s should have the number %d", name, i)
		}
		all[i].statement = strings.ReplaceAll(string(text), DefaultTablePrefix, c.prefix)
	}
	return all, nil
}

// execer is a connection, or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// apply makes version 0 if it is not there, and every version that is missing.
func (c config) apply(ctx context.Context, tx execer, all []migration) error {
	if _, err := tx.ExecContext(ctx, all[0].statement); err != nil {
		return fmt.Errorf("version 0: %w", err)
	}
	var version int
	if err := tx.QueryRowContext(ctx, c.sql("SELECT COALESCE(MAX(version), 0) FROM {schema}")).Scan(&version); err != nil {
		return fmt.Errorf("read the version: %w", err)
	}
	if version >= len(all) {
		return fmt.Errorf("%w: it has version %d, this package knows %d", ErrNewerSchema, version, len(all)-1)
	}
	for _, m := range all[version+1:] {
		if err := c.applyOne(ctx, tx, m.statement); err != nil {
			return fmt.Errorf("version %d: %w", m.version, err)
		}
		if _, err := tx.ExecContext(ctx, c.sql("INSERT INTO {schema} (version) VALUES (?)"), m.version); err != nil {
			return fmt.Errorf("record version %d: %w", m.version, err)
		}
	}
	return nil
}

var addColumn = regexp.MustCompile(`(?m)^ALTER TABLE (\w+) ADD COLUMN (\w+)`)

// columnExists asks for a column where ADD COLUMN has no IF NOT EXISTS.
var columnExists = map[Dialect]string{
	MySQL:  "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?",
	SQLite: "SELECT COUNT(*) FROM pragma_table_info(?) WHERE name = ?",
}

// applyOne runs a migration, unless it was run before: by another tool, or by a
// Migrate that was interrupted before it could record the version.
func (c config) applyOne(ctx context.Context, tx execer, statement string) error {
	if names := addColumn.FindStringSubmatch(statement); names != nil && columnExists[c.dialect] != "" {
		var n int
		if err := tx.QueryRowContext(ctx, columnExists[c.dialect], names[1], names[2]).Scan(&n); err != nil || n > 0 {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, statement)
	return err
}

// exclusively calls f while no other process is in here.
func (c config) exclusively(ctx context.Context, db *sql.DB, f func(execer) error) error {
	name := c.prefix + "schema"
	switch c.dialect {
	case SQLite:
		return exclusivelySQLite(ctx, db, f)
	case MySQL:
		return exclusivelyMySQL(ctx, db, name, f)
	default:
		return exclusivelyPostgreSQL(ctx, db, name, f)
	}
}

// exclusivelyPostgreSQL takes a lock that ends with the transaction, so that it
// works through a pooler of transactions too.
func exclusivelyPostgreSQL(ctx context.Context, db *sql.DB, name string, f func(execer) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after a commit
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name); err != nil {
		return fmt.Errorf("wait for others that migrate: %w", err)
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// exclusivelyMySQL takes a lock that belongs to the connection. It asks once a
// second, so that ctx can end the wait without ending the connection. Names of
// locks are the server's, not the database's: those who migrate another
// database wait too.
func exclusivelyMySQL(ctx context.Context, db *sql.DB, name string, f func(execer) error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	for got := (sql.NullInt64{}); got.Int64 != 1; {
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 1)", name).Scan(&got); err != nil {
			return fmt.Errorf("wait for others that migrate: %w", err)
		}
	}
	defer func() {
		if releaseErr := cleanUp(ctx, conn, "DO RELEASE_LOCK('"+name+"')"); err == nil {
			err = releaseErr
		}
	}()
	return f(conn)
}

// exclusivelySQLite starts with the lock that others only take to write: to take
// it later would fail where another has written since. It waits longer than the
// busy timeout, if ctx does. The switch to the write-ahead log stays in the file,
// and cannot be made in a transaction.
func exclusivelySQLite(ctx context.Context, db *sql.DB, f func(execer) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	for _, statement := range []string{"PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE"} {
		if err := untilNotBusy(ctx, func() error {
			_, err := conn.ExecContext(ctx, statement)
			return err
		}); err != nil {
			return fmt.Errorf("wait for others that migrate: %w", err)
		}
	}
	if err := f(conn); err != nil {
		return errors.Join(err, cleanUp(ctx, conn, "ROLLBACK"))
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return errors.Join(err, cleanUp(ctx, conn, "ROLLBACK"))
	}
	return nil
}

// cleanUp leaves the connection as it was, even when ctx is done. Where it
// cannot, the connection goes no further than this, and takes what it held with
// it.
func cleanUp(ctx context.Context, conn *sql.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := conn.ExecContext(ctx, statement)
	if err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

func untilNotBusy(ctx context.Context, f func() error) error {
	const pause = 20 * time.Millisecond
	for {
		err := f()
		if err == nil || codeOf(err).sqlite&0xff != sqliteBusy {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
