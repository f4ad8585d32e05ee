// Package sqlstore keeps apps, keys and sessions in PostgreSQL, in MySQL or
// MariaDB, or in SQLite. [TokenStore] and [KeyStore] are the two stores that
// [renew.New] asks for; either goes together with another kind of the other.
//
// Open the database with a driver of your choice, bring its tables up to date
// with [Migrate], and make the stores:
//
//	db, err := sql.Open("pgx", "postgres://…")
//	err = sqlstore.Migrate(ctx, db, sqlstore.PostgreSQL)
//	tokens, err := sqlstore.NewTokenStore(ctx, db, sqlstore.PostgreSQL)
//	keys, err := sqlstore.NewKeyStore(ctx, db, sqlstore.PostgreSQL, encrypter)
//	renewer, err := renew.New(keys, tokens)
//
// The database stays yours: set the size of its pool, and close it after the
// stores.
//
// A session is one row. A renewal is one SELECT and one conditional UPDATE, both
// by primary key, and no transaction is held between them. The database decides
// which of several renewals is the one, so that any number of processes may
// share it. Reads go where writes go: give the stores the primary, never a
// replica.
//
// No row holds a token or an app key, and private keys are encrypted: see
// [Encrypter].
//
// # Errors
//
// The sentinels of package renew come as its interfaces say; test with
// [errors.Is]. Any other error is the database's, wrapped, with no key and no
// claim in what this package adds to it.
//
// A statement is repeated where that cannot do harm: when the database says that
// it has undone it, as after a deadlock, and a read or a revocation also when the
// connection broke. A rotation or a new session whose connection broke is not
// repeated: whether it happened is unknown, the error says so, and the Renewer
// finds out.
//
// # Databases
//
// PostgreSQL: version 12 or later, with the encoding UTF8. Behind PgBouncer use
// its session mode, or let it track prepared statements.
//
// MySQL 8.0 or later, MariaDB 10.5 or later: turn on the binary log, with
// sync_binlog = 1, and leave innodb_flush_log_at_trx_commit = 1. Otherwise a
// crash of the server can take back a rotation that another request has read
// already: docs/stores.md says more. No setting of the connection matters,
// clientFoundRows least of all.
//
// SQLite: 3.37 or later. Every connection needs a busy timeout, and the stores
// refuse one without; with modernc.org/sqlite the data source name is
// "file:renew.db?_pragma=busy_timeout(2000)". A statement waits that long for
// another process that writes, and is tried six times; while it waits it does not
// hear its context. Migrate turns on the write-ahead log, which the file then
// keeps. The package's own transactions begin with a write, so that the driver
// need not make them immediate. Leave synchronous as it is: a rotation must be on
// the disk before it is answered.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Dialect is the kind of database.
type Dialect string

// The dialects.
const (
	PostgreSQL Dialect = "postgresql"
	MySQL      Dialect = "mysql" // and MariaDB
	SQLite     Dialect = "sqlite"
)

// DefaultTablePrefix is the prefix without [WithTablePrefix].
const DefaultTablePrefix = "renew_"

// Option changes a store, or [Migrate], from its defaults.
type Option func(*config) error

// config is what options set.
type config struct {
	dialect Dialect
	prefix  string
	cache   cacheConfig
}

var validPrefix = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,23}$`)

// WithTablePrefix sets what the names of the tables and indexes begin with: 1 to
// 24 lower-case letters, digits and underscores, and no digit first. Default:
// [DefaultTablePrefix]. Give the same to Migrate and to both stores.
func WithTablePrefix(prefix string) Option {
	return func(c *config) error {
		if !validPrefix.MatchString(prefix) {
			return fmt.Errorf("WithTablePrefix: %q is not 1 to 24 lower-case letters, digits and underscores, no digit first", prefix)
		}
		c.prefix = prefix
		return nil
	}
}

func newConfig(db *sql.DB, dialect Dialect, opts []Option) (config, error) {
	c := config{dialect: dialect, prefix: DefaultTablePrefix, cache: newCacheConfig()}
	if db == nil {
		return config{}, errors.New("the database is nil")
	}
	switch dialect {
	case PostgreSQL, MySQL, SQLite:
	default:
		return config{}, fmt.Errorf("dialect %q is none of PostgreSQL, MySQL and SQLite", dialect)
	}
	for _, opt := range opts {
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	return c, nil
}

// sql returns a statement in the words of the dialect. It is written with ? for
// every argument, {name} for a table, {least} for the smaller of two values, and
// {count} behind the columns that a write sets: see the column writes in the
// schemas for MySQL and SQLite.
func (c config) sql(statement string) string {
	least, count := "LEAST", ""
	switch c.dialect {
	case SQLite:
		least, count = "MIN", ", writes = writes + 1"
	case MySQL:
		count = ", writes = writes + 1"
	default:
	}
	statement = strings.NewReplacer(
		"{sessions}", c.prefix+"sessions",
		"{apps}", c.prefix+"apps",
		"{signing_keys}", c.prefix+"signing_keys",
		"{schema}", c.prefix+"schema",
		"{least}", least,
		"{count}", count,
	).Replace(statement)
	if c.dialect != PostgreSQL {
		return statement
	}
	var b strings.Builder
	for i, part := range strings.Split(statement, "?") {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	return b.String()
}

// statements are prepared once. database/sql prepares each again on a connection
// that has not seen it yet.
type statements []*sql.Stmt

// prepare sets stmt. Whoever owns s closes all of them together.
func (s *statements) prepare(ctx context.Context, db *sql.DB, query string, stmt **sql.Stmt) error {
	prepared, err := db.PrepareContext(ctx, query) //nolint:sqlclosecheck // close does
	if err != nil {
		return fmt.Errorf("prepare a statement (has Migrate been run, with the same table prefix?): %w", err)
	}
	*s = append(*s, prepared)
	*stmt = prepared
	return nil
}

func (s statements) close() error {
	var all error
	for _, stmt := range s {
		all = errors.Join(all, stmt.Close())
	}
	return all
}

// checkConnection refuses what would fail later, and at random.
func (c config) checkConnection(ctx context.Context, db *sql.DB) error {
	switch c.dialect {
	case SQLite:
		var timeout int
		if err := db.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&timeout); err != nil {
			return fmt.Errorf("read the busy timeout: %w", err)
		}
		if timeout <= 0 {
			return errors.New(`the connections have no busy timeout, so that a second writer fails at once; with modernc.org/sqlite add "_pragma=busy_timeout(2000)" to the data source name`)
		}
	case PostgreSQL:
		var encoding string
		if err := db.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
			return fmt.Errorf("read the encoding: %w", err)
		}
		if encoding != "UTF8" {
			return fmt.Errorf("the database's encoding is %s, but must be UTF8 to keep every name", encoding)
		}
	default: // MySQL's columns are binary
	}
	return nil
}
