package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/dbtest"
)

// TestRestartOnTheSameData shows that a server which was killed goes on where it
// was: sessions, the signing key and the app are what they were, whatever the
// database.
func TestRestartOnTheSameData(t *testing.T) {
	for name, place := range map[string]func(t *testing.T) string{
		"SQLite": func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "a file?.db") },
		"PostgreSQL": func(t *testing.T) string {
			t.Setenv(encryptionKeyVariable, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
			server := dbtest.PostgreSQL(t)
			return server.DSN(server.NewDatabase(t))
		},
		"MariaDB": func(t *testing.T) string {
			t.Setenv(encryptionKeyVariable, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
			server := dbtest.MariaDB(t)
			return "mysql://" + server.DSN(server.NewDatabase(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := place(t)
			p := start(t, "-store", store)
			b := p.renewed(t, p.login(t, loginBody).RefreshToken)
			require.NoError(t, p.Process.Kill())
			_ = p.exited()

			again := start(t, "-store", store)
			a := again.call(t, http.MethodGet, "/me", "Bearer "+b.AuthToken, "")
			require.Equal(t, http.StatusOK, a.status, a.body)
			next := again.renewed(t, b.RefreshToken)
			require.Equal(t, b.KeyID, next.KeyID, "the signing key stays")
			require.Equal(t, segment(t, b.AuthToken, 1)["sid"], segment(t, next.AuthToken, 1)["sid"])
			again.appKey = p.appKey
			again.renewed(t, next.RefreshToken) // the app key of the first start is still one
			requireRefused(t, again.renew(t, b.RefreshToken))
		})
	}
}

// TestTwoServers shows two servers on one database: what one renews, the other
// knows.
func TestTwoServers(t *testing.T) {
	store := "sqlite:" + filepath.Join(t.TempDir(), "renew.db")
	servers := []*process{start(t, "-store", store), start(t, "-store", store)}
	b := servers[0].login(t, loginBody)
	for i := range 10 {
		next := servers[i%2].renewed(t, b.RefreshToken)
		requireRefused(t, servers[1-i%2].renew(t, b.RefreshToken))
		b = next
	}
}

// TestKeyFile shows that the encryption key beside an SQLite file is for its
// owner alone, and that without it the file signs nothing.
func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "renew.db")
	p := start(t, "-store", "sqlite:"+file)
	p.login(t, loginBody)
	require.NoError(t, p.Process.Kill())
	_ = p.exited()
	info, err := os.Stat(file + ".key")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, os.Remove(file+".key"))
	status, _, stderr := ended(t, "-addr", "127.0.0.1:0", "-store", "sqlite:"+file)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "encryption key")
}

// TestBadPlaces shows that a database that makes no sense, or has no key, ends
// the program, and that no password is printed.
func TestBadPlaces(t *testing.T) {
	for name, test := range map[string]struct{ place, message string }{
		"no file":         {"sqlite:", "sqlite: names no file"},
		"another scheme":  {"oracle://scott:hunter2@host/db", `"oracle" is not memory`},
		"no encryption":   {"postgres://user:hunter2@127.0.0.1:1/db", encryptionKeyVariable},
		"no database":     {"mysql://user:hunter2@127.0.0.1:1", "mysql:// is not followed by"},
		"no port at all":  {"mysql://user:hunter2@127.0.0.1:port/db", "mysql:// is not followed by"},
		"no host":         {"mysql:///db", "mysql:// is not followed by"},
		"unknown setting": {"mysql://user:hunter2@127.0.0.1:1/db?timeout=soon", "invalid duration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(encryptionKeyVariable, "")
			status, stdout, stderr := ended(t, "-addr", "127.0.0.1:0", "-store", test.place)
			require.Equal(t, 2, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.message)
			require.NotContains(t, stderr, "hunter2")
		})
	}
}

func TestMySQLDSN(t *testing.T) {
	for from, want := range map[string]string{
		"mysql://root@localhost/renew":                 "root@tcp(localhost:3306)/renew",
		"mysql://user:p%40ss@db.example:3307/renew":    "user:p@ss@tcp(db.example:3307)/renew",
		"mysql://u:p@[::1]/renew?tls=skip-verify":      "u:p@tcp([::1]:3306)/renew?tls=skip-verify",
		"mysql://root@unix(/run/mysqld/sock)/renew":    "root@unix(/run/mysqld/sock)/renew",
		"mariadb://root@tcp(127.0.0.1:3306)/renew?x=y": "root@tcp(127.0.0.1:3306)/renew?x=y",
	} {
		p, err := parsePlace(from)
		require.NoError(t, err, from)
		require.Equal(t, want, p.dsn)
	}
}
