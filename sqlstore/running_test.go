package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/dbtest"
)

// TestOnARunningServer promises that the suite can run on a server that an
// environment variable names, leaves no database there, and neither kills it nor
// looks into its files.
func TestOnARunningServer(t *testing.T) {
	inTurn(t, servers, func(t *testing.T, d *database) {
		running := map[string]func(testing.TB) *dbtest.Server{"pgx": dbtest.PostgreSQL, "mysql": dbtest.MariaDB}[d.driver]
		t.Setenv(map[string]string{"pgx": dbtest.PostgreSQLVariable, "mysql": dbtest.MySQLVariable}[d.driver], d.dsn)
		b, name := d.backend, ""
		b.server = running
		t.Run("in use", func(t *testing.T) {
			own := b.empty(t)
			name = own.name
			require.False(t, own.server.IsPrivate())
			require.True(t, isThere(t, d, name))
			own.migrate(t, own.open(t))
			store := own.tokenStore(t, own.open(t))
			s := newSession("session")
			require.NoError(t, store.CreateSession(t.Context(), s))

			proxy := own.server.NewProxy(t)
			through := own.tokenStore(t, own.openDSN(t, own.server.DSNThrough(proxy, name)))
			got, err := through.Session(t.Context(), s.AppID, s.ID)
			require.NoError(t, err)
			require.Equal(t, s, got)
			require.Positive(t, proxy.Cut())

			for what, f := range map[string]func(tb testing.TB){
				"kill":  own.server.Kill,
				"files": func(tb testing.TB) { own.server.Dir(tb) },
			} {
				var inner *testing.T
				t.Run(what, func(t *testing.T) { inner = t; f(t) })
				require.True(t, inner.Skipped(), what)
			}
		})
		require.False(t, isThere(t, d, name), "the database was not dropped")
	})
}

func isThere(t *testing.T, d *database, name string) bool {
	t.Helper()
	query := map[string]string{
		"pgx":   "SELECT COUNT(*) FROM pg_database WHERE datname = $1",
		"mysql": "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?",
	}[d.driver]
	var n int
	require.NoError(t, d.open(t).QueryRow(query, name).Scan(&n))
	return n == 1
}
