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
	if _, err := findDialect(dialect); err != nil {
		return nil, fmt.Errorf("sqlstore.Migrations: %w", err)
	}
	return fs.Sub(migrationFiles, "migrations/"+string(dialect))
}

// Migrate makes the tables, or brings those of an earlier version up to date. On
// tables that are up to date it changes nothing. Any number of processes may
// call it simultaneously: one does the work, the others wait, until ctx is done.
// [ErrNewerSchema]: the tables are those of a later version; nothing has changed.
//
// It needs the right to create tables, which the stores do not. On PostgreSQL and
// SQLite it happens whole or not at all. MySQL and MariaDB have no such
// transactions: there, an interrupted migration resumes on the next call.
func Migrate(ctx context.Context, db *sql.DB, dialect Dialect, opts ...Option) error {
	c, err := newConfig(db, dialect, opts)
	if err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	all, err := c.migrations()
	if err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	if err := c.migrate(ctx, db, all); err != nil {
		return fmt.Errorf("sqlstore.Migrate: %w", err)
	}
	return nil
}

func (c config) migrate(ctx context.Context, db *sql.DB, all []migration) error {
	r := newRunner(c, db)
	if err := c.dialect.check(ctx, &checker{r, false}); err != nil {
		return r.poolerError(err)
	}
	// An account that may only read and write the tables need not do more.
	if version, err := c.version(ctx, db); err == nil && version == len(all)-1 {
		return nil
	}
	return r.repeated(ctx, false, func(ctx context.Context) error {
		return c.dialect.migrateExclusively(ctx, db, c.prefix+"schema", func(tx execer) error {
			if c.dialect.name == PostgreSQL {
				if err := checkMigrationSchema(ctx, tx, c.prefix); err != nil {
					return err
				}
			}
			return c.apply(ctx, tx, all)
		})
	})
}

func (c config) version(ctx context.Context, db execer) (version int, err error) {
	err = db.QueryRowContext(ctx, c.sql("SELECT COALESCE(MAX(version), 0) FROM {schema}")).Scan(&version)
	return version, err
}

// migration is one statement and the version of the schema that it makes.
type migration struct {
	version   int
	statement string
}

// migrations returns all of the dialect's, in order, without the one that makes
// the version table: that one is version 0.
func (c config) migrations() ([]migration, error) {
	files, err := Migrations(c.dialect.name)
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

func (c config) sql(statement string) string { return c.dialect.render(statement, c.prefix) }

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
	version, err := c.version(ctx, tx)
	if err != nil {
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

// applyOne runs a migration, unless it was run before: by another tool, or by a
// Migrate that was interrupted before it could record the version.
func (c config) applyOne(ctx context.Context, tx execer, statement string) error {
	if names := addColumn.FindStringSubmatch(statement); names != nil && c.dialect.columnExists != "" {
		var n int
		if err := tx.QueryRowContext(ctx, c.dialect.columnExists, names[1], names[2]).Scan(&n); err != nil || n > 0 {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, statement)
	return err
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
