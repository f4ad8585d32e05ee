package jwtplus_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/sqlstore"
)

var (
	mariaDB    = dbtest.SharedMariaDB()
	postgreSQL = dbtest.SharedPostgreSQL()
)

func TestMain(m *testing.M) {
	if work, isWorker := workers[os.Getenv(workerVariable)]; isWorker {
		os.Exit(work())
	}
	code := m.Run()
	mariaDB.Stop()
	postgreSQL.Stop()
	os.Exit(code)
}

// fixtureClock is when every refresh token of the fixture is within its times.
var fixtureClock = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func atFixtureClock() time.Time { return fixtureClock }

// stores are both stores of a target, as sqlstore and memstore have them.
type stores struct {
	keys interface {
		renew.KeyStore
		renew.KeyAdmin
		renew.KeyLister
	}
	tokens interface {
		renew.TokenStore
		renew.SubjectStore
		renew.Purger
	}
}

// targets are the stores that are imported into, by name.
var targets = map[string]func(testing.TB) stores{
	"memstore": newMemory,
	"SQLite": func(tb testing.TB) stores {
		return openStores(tb, sqlstore.SQLite, "sqlite", sqliteDSN(filepath.Join(tb.TempDir(), "renew.db")))
	},
	"MariaDB": func(tb testing.TB) stores {
		s := mariaDB.Server(tb)
		return openStores(tb, sqlstore.MySQL, s.Driver(), s.DSN(s.NewDatabase(tb)))
	},
	"PostgreSQL": func(tb testing.TB) stores {
		s := postgreSQL.Server(tb)
		return openStores(tb, sqlstore.PostgreSQL, s.Driver(), s.DSN(s.NewDatabase(tb)))
	},
}

func newMemory(testing.TB) stores {
	s := memstore.New()
	return stores{s, s}
}

func sqliteDSN(file string) string { return "file:" + file + "?_pragma=busy_timeout(10000)" }

func openStores(tb testing.TB, dialect sqlstore.Dialect, driver, dsn string) stores {
	tb.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = db.Close() })
	s, err := sqlStores(tb.Context(), db, dialect)
	require.NoError(tb, err)
	return s
}

func sqlStores(ctx context.Context, db *sql.DB, dialect sqlstore.Dialect) (stores, error) {
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	if err := sqlstore.Migrate(ctx, db, dialect); err != nil {
		return stores{}, err
	}
	encrypter, err := sqlstore.NewEncrypter([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		return stores{}, err
	}
	keys, err := sqlstore.NewKeyStore(ctx, db, dialect, encrypter)
	if err != nil {
		return stores{}, err
	}
	tokens, err := sqlstore.NewTokenStore(ctx, db, dialect)
	if err != nil {
		return stores{}, err
	}
	return stores{keys, tokens}, nil
}

// jwtPlusTables are tables of the form that the package reads, with nothing that it
// does not rely on but the primary keys.
var jwtPlusTables = []string{
	`CREATE TABLE settings (setting_key VARCHAR(64) PRIMARY KEY, setting_value VARCHAR(255))`,
	`CREATE TABLE apps (
		app_id CHAR(26) NOT NULL, app_name VARCHAR(255), app_description TEXT, app_key CHAR(128),
		token_expiry INT, token_nbf INT, refresh_expiry INT, refresh_nbf INT,
		key_type VARCHAR(16), algo VARCHAR(16), rotation_period BIGINT,
		add_time BIGINT, update_time BIGINT, last_rotate_time BIGINT, PRIMARY KEY (app_id))`,
	`CREATE TABLE app_keys (
		key_id CHAR(26) NOT NULL, app_id CHAR(26), public_key TEXT, private_key TEXT,
		key_type VARCHAR(16), key_algo VARCHAR(16), add_time BIGINT, exp_time BIGINT,
		is_revoked VARCHAR(8), is_expired VARCHAR(8), PRIMARY KEY (key_id))`,
	`CREATE TABLE tokens (
		token_id CHAR(26) NOT NULL, apps_id CHAR(26), key_id CHAR(26), sub CHAR(128),
		auth_token MEDIUMTEXT, auth_token_hash CHAR(128),
		auth_token_iat BIGINT, auth_token_nbf BIGINT, auth_token_exp BIGINT,
		refresh_token MEDIUMTEXT, refresh_token_hash CHAR(128),
		refresh_token_iat VARCHAR(24), refresh_token_nbf VARCHAR(24), refresh_token_exp VARCHAR(24),
		ip_address VARCHAR(24), user_agent VARCHAR(255), PRIMARY KEY (token_id))`,
}

// oldDatabase is a JWTPlus database.
type oldDatabase struct {
	*sql.DB
	tb   testing.TB
	name string
}

// newOldDatabase makes one without rows. Its tables compare text without regard to
// case, as MariaDB's do by default.
func newOldDatabase(tb testing.TB) *oldDatabase {
	tb.Helper()
	return newOldDatabaseOn(tb, mariaDB.Server(tb))
}

func newOldDatabaseOn(tb testing.TB, s *dbtest.Server) *oldDatabase {
	tb.Helper()
	name := s.NewDatabase(tb)
	db, err := sql.Open(s.Driver(), s.DSN(name))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = db.Close() })
	old := &oldDatabase{db, tb, name}
	old.exec("ALTER DATABASE " + name + " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
	for _, statement := range jwtPlusTables {
		old.exec(statement + " ENGINE=InnoDB")
	}
	return old
}

func (d *oldDatabase) exec(query string, args ...any) {
	d.tb.Helper()
	_, err := d.ExecContext(context.Background(), query, args...)
	require.NoError(d.tb, err)
}

func (d *oldDatabase) insert(table string, r record) {
	d.tb.Helper()
	names, args := r.columns()
	d.exec(fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(names, ", "),
		strings.TrimSuffix(strings.Repeat("?, ", len(names)), ", ")), args...)
}
