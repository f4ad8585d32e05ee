package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jwtrenew/renew/internal/keycache"
)

// Defaults of the options.
const (
	DefaultTablePrefix      = "renew_"
	DefaultStatementTimeout = 5 * time.Second
	DefaultStatusInterval   = 5 * time.Second
	DefaultOutageLimit      = 15 * time.Minute
)

// Option changes a store, or [Migrate], from its defaults.
type Option func(*config) error

// config is what options set.
type config struct {
	dialect  *dialect
	prefix   string
	timeout  time.Duration
	prepares bool
	cache    keycache.Config
}

var validPrefix = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,23}$`)

// WithTablePrefix sets what the names of the tables and indexes begin with: 1 to
// 24 lower-case letters, digits and underscores, not starting with a digit.
// Default: [DefaultTablePrefix]. Give the same to Migrate and to both stores.
func WithTablePrefix(prefix string) Option {
	return func(c *config) error {
		if !validPrefix.MatchString(prefix) {
			return fmt.Errorf("WithTablePrefix: %q is not 1 to 24 lower-case letters, digits and underscores, not starting with a digit", prefix)
		}
		c.prefix = prefix
		return nil
	}
}

// WithStatementTimeout sets for how long a statement runs at most, its repetitions
// included. Default: [DefaultStatementTimeout]. It must be positive.
//
// Waiting for a connection ends with the caller's context. A statement that has
// begun does not: to end it would cost the connection. The call returns when its
// context is done, and the statement ends by itself or after this time. A write
// may then have happened.
func WithStatementTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("WithStatementTimeout: %v is not positive", d)
		}
		c.timeout = d
		return nil
	}
}

// WithoutPreparedStatements has a store send every statement as text, for poolers
// that cannot keep prepared statements, such as PgBouncer in transaction mode
// before version 1.21. Some drivers prepare by themselves and need a setting as
// well: default_query_exec_mode=exec for pgx, binary_parameters=yes for lib/pq,
// interpolateParams=true for go-sql-driver/mysql.
func WithoutPreparedStatements() Option {
	return func(c *config) error {
		c.prepares = false
		return nil
	}
}

// WithStatusInterval sets for how long a [KeyStore] uses an app or the status of a
// key after it has read it. Default: [DefaultStatusInterval]. Zero: it asks the
// database every time, which costs four statements per renewal in addition to the
// two of the TokenStore. It is for KeyStores only; others ignore it.
//
// d is also how long at most, after a change has returned, another process may
// accept a revoked key's tokens or a removed app key, sign with a replaced or
// revoked key, or use old lifetimes. A process that is stopped between its check of
// a key and its commit, by its debugger or its virtual machine, may do so for as
// long as it is stopped, and acknowledge afterwards. The KeyStore that makes the
// change uses it immediately. Give every process the same d.
func WithStatusInterval(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithStatusInterval: %v is negative; 0 asks the database every time", d)
		}
		c.cache.Interval = d
		return nil
	}
}

// WithOutageLimit sets for how long a [KeyStore] uses an app or a verification key
// that it knows while the database is away or does not respond within a second.
// Default: [DefaultOutageLimit]. With zero, or without a status interval, it uses
// nothing that it has read before. It is for KeyStores only; others ignore it.
//
// In that time auth tokens still verify. The price is that a revocation that cannot
// be read has no effect in this process. Nothing is signed with a key that is not
// known to be the active one. The beginning and the end of an outage are logged
// with [slog.Default].
func WithOutageLimit(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithOutageLimit: %v is negative", d)
		}
		c.cache.OutageLimit = d
		return nil
	}
}

func newConfig(db *sql.DB, name Dialect, opts []Option) (config, error) {
	c := config{
		prefix:   DefaultTablePrefix,
		timeout:  DefaultStatementTimeout,
		prepares: true,
		cache:    keycache.Config{Store: "sqlstore", Interval: DefaultStatusInterval, OutageLimit: DefaultOutageLimit, Now: time.Now},
	}
	if db == nil {
		return config{}, errors.New("the database is nil")
	}
	var err error
	if c.dialect, err = findDialect(name); err != nil {
		return config{}, err
	}
	for _, opt := range opts {
		if opt == nil {
			return config{}, errors.New("an option is nil")
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	return c, nil
}
