package ncruces_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver"
	_ "github.com/ncruces/go-sqlite3/embed"

	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
	"github.com/jwtrenew/renew/sqlstore/drivers"
)

// TestDriver promises that the laws of both stores hold with ncruces/go-sqlite3. It runs
// if RENEW_TEST_ROUNDS is set.
func TestDriver(t *testing.T) {
	rounds.Long(t)
	file := filepath.Join(t.TempDir(), "renew.db")
	drivers.Test(t, sqlstore.SQLite, func() (*sql.DB, error) {
		return sql.Open("sqlite3", "file:"+file+"?_pragma=busy_timeout(2000)")
	})
}
