package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/dbtest"

	"github.com/jwtrenew/renew/storeurl"
)

// TestRestartOnTheSameData shows that sessions, the signing key, the app and its
// app key survive a kill of the server, whatever the database.
func TestRestartOnTheSameData(t *testing.T) {
	for name, place := range map[string]func(t *testing.T) string{
		"SQLite": func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "a file?.db") },
		"PostgreSQL": func(t *testing.T) string {
			t.Setenv(storeurl.EncryptionKeyVariable, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
			server := dbtest.PostgreSQL(t)
			return server.DSN(server.NewDatabase(t))
		},
		"MariaDB": func(t *testing.T) string {
			t.Setenv(storeurl.EncryptionKeyVariable, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
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
			require.Empty(t, again.appKey, "the database has only its hash")
			again.appKey = p.appKey
			next := again.renewed(t, b.RefreshToken)
			require.Equal(t, b.KeyID, next.KeyID, "the signing key stays")
			require.Equal(t, segment(t, b.AuthToken, 1)["sid"], segment(t, next.AuthToken, 1)["sid"])
			requireRejected(t, again.renew(t, b.RefreshToken))
		})
	}
}

// TestStoredAppKey shows that the commands of a later start, which cannot print the
// app key, work with the one that the first start printed.
func TestStoredAppKey(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the commands are curl's, and curl is not installed")
	}
	store := "sqlite:" + filepath.Join(t.TempDir(), "renew.db")
	first, second := start(t, "-store", store), start(t, "-store", store)
	require.Empty(t, second.appKey)
	lines := paste(t, "sh", "APP_KEY='"+first.appKey+"'\n"+second.commands[logIn]+second.commands[renewTwice])
	require.Len(t, lines, 2)
	readBundle(t, lines[1])
}

// TestTwoServers shows that what one of two servers on a database renews, the other
// knows.
func TestTwoServers(t *testing.T) {
	store := "sqlite:" + filepath.Join(t.TempDir(), "renew.db")
	servers := []*process{start(t, "-store", store), start(t, "-store", store)}
	servers[1].appKey = servers[0].appKey
	b := servers[0].login(t, loginBody)
	for i := range 10 {
		next := servers[i%2].renewed(t, b.RefreshToken)
		requireRejected(t, servers[1-i%2].renew(t, b.RefreshToken))
		b = next
	}
}

// TestKeyFile shows that only its owner can read the encryption key beside an
// SQLite file, and that the database alone signs nothing.
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

// TestBadPlaces shows that a malformed name of a database, or one without a key,
// ends the program, and that no password is printed.
func TestBadPlaces(t *testing.T) {
	for name, test := range map[string]struct{ place, message string }{
		"no file":         {"sqlite:", "sqlite: names no file"},
		"another scheme":  {"oracle://scott:hunter2@host/db", "is not one of memory"},
		"no encryption":   {"postgres://user:hunter2@127.0.0.1:1/db", storeurl.EncryptionKeyVariable},
		"no database":     {"mysql://user:hunter2@127.0.0.1:1", "mysql:// is not followed by"},
		"no port at all":  {"mysql://user:hunter2@127.0.0.1:port/db", "mysql:// is not followed by"},
		"no host":         {"mysql:///db", "mysql:// is not followed by"},
		"unknown setting": {"mysql://user:hunter2@127.0.0.1:1/db?timeout=soon", "invalid duration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(storeurl.EncryptionKeyVariable, "")
			status, stdout, stderr := ended(t, "-addr", "127.0.0.1:0", "-store", test.place)
			require.Equal(t, 2, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.message)
			require.NotContains(t, stderr, "hunter2")
		})
	}
}
