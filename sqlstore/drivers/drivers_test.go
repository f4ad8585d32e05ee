package drivers_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"

	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
	"github.com/jwtrenew/renew/sqlstore/drivers"
)

var (
	postgreSQL = dbtest.SharedPostgreSQL()
	mariaDB    = dbtest.SharedMariaDB()
)

func TestMain(m *testing.M) {
	code := m.Run()
	postgreSQL.Stop()
	mariaDB.Stop()
	os.Exit(code)
}

// driver opens an empty database.
type driver struct {
	name    string
	dialect sqlstore.Dialect
	open    func(t *testing.T) func() (*sql.DB, error)
	opts    []sqlstore.Option
}

func onServer(name string, server *dbtest.Shared, query string) func(t *testing.T) func() (*sql.DB, error) {
	return func(t *testing.T) func() (*sql.DB, error) {
		s := server.Server(t)
		dsn := s.DSN(s.NewDatabase(t)) + query
		return func() (*sql.DB, error) { return sql.Open(name, dsn) }
	}
}

func onFile(open func(file string) (*sql.DB, error)) func(t *testing.T) func() (*sql.DB, error) {
	return func(t *testing.T) func() (*sql.DB, error) {
		file := filepath.Join(t.TempDir(), "renew.db")
		return func() (*sql.DB, error) { return open(file) }
	}
}

var all = []driver{
	{name: "jackc/pgx as text", dialect: sqlstore.PostgreSQL, open: onServer("pgx", postgreSQL, "&default_query_exec_mode=exec"), opts: []sqlstore.Option{sqlstore.WithoutPreparedStatements()}},
	{name: "lib/pq", dialect: sqlstore.PostgreSQL, open: onServer("postgres", postgreSQL, "")},
	{name: "lib/pq as text", dialect: sqlstore.PostgreSQL, open: onServer("postgres", postgreSQL, "&binary_parameters=yes"), opts: []sqlstore.Option{sqlstore.WithoutPreparedStatements()}},
	{name: "go-sql-driver/mysql as text", dialect: sqlstore.MySQL, open: onServer("mysql", mariaDB, "?interpolateParams=true"), opts: []sqlstore.Option{sqlstore.WithoutPreparedStatements()}},
	{name: "mattn/go-sqlite3", dialect: sqlstore.SQLite, open: onFile(func(file string) (*sql.DB, error) {
		return sql.Open("sqlite3", "file:"+file+"?_busy_timeout=2000")
	})},
}

// TestDrivers promises that the laws of both stores hold with every driver that the
// documentation names. Package sqlstore's own tests run jackc/pgx,
// go-sql-driver/mysql and modernc.org/sqlite, with prepared statements;
// ncruces/go-sqlite3, which registers the name of another one, has a package to
// itself. It runs if RENEW_TEST_ROUNDS is set.
func TestDrivers(t *testing.T) {
	rounds.Long(t)
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			if d.opts != nil && rounds.Share(t) < 1 {
				t.Skipf("a known driver without prepared statements: set %s=%d", rounds.Variable, rounds.All)
			}
			drivers.Test(t, d.dialect, d.open(t), d.opts...)
		})
	}
}
