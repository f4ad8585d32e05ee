package storeurl_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/storeurl"
)

const encryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// The promise: whatever the URL names, the stores that it opens serve logins and
// renewals, and those of a database are there again when it is opened again.
func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		url           func(t *testing.T) string
		encryptionKey string
	}{
		"memory":                      {func(*testing.T) string { return "memory" }, ""},
		"SQLite":                      {func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "a file?.db") }, encryptionKey},
		"SQLite with its own key":     {func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "renew.db") }, ""},
		"SQLite with white space":     {func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "renew.db") }, encryptionKey + "\n"},
		"PostgreSQL":                  {postgreSQL, encryptionKey},
		"MariaDB":                     {func(t *testing.T) string { return "mysql://" + mariaDB(t) }, encryptionKey},
		"Redis":                       {redisServer, encryptionKey},
		"DynamoDB":                    {dynamoDB, encryptionKey},
		"MariaDB by its other scheme": {func(t *testing.T) string { return "mariadb://" + mariaDB(t) }, encryptionKey},
	} {
		t.Run(name, func(t *testing.T) {
			url := c.url(t)
			var b *renew.Bundle
			for _, start := range []string{"first", "second"} {
				s, err := storeurl.Open(t.Context(), url, c.encryptionKey)
				require.NoError(t, err, start)
				require.Equal(t, name == "DynamoDB", s.DeleteEvery > time.Hour, "deleting reads its whole table")
				require.Positive(t, s.DeleteEvery)
				require.NoError(t, renew.EnsureApp(t.Context(), s.Keys, renew.App{ID: "shop", Issuer: "shop"}, renew.ES256))
				r, err := renew.New(s.Keys, s.Tokens)
				require.NoError(t, err)
				if b == nil || url == storeurl.Memory {
					b, err = r.Issue(t.Context(), renew.IssueRequest{AppID: "shop", Subject: "ada", IP: "192.0.2.1"})
					require.NoError(t, err)
				}
				b, err = r.Renew(t.Context(), renew.RenewRequest{AppID: "shop", RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test"})
				require.NoError(t, err, start)
				require.NoError(t, s.Close())
			}
		})
	}
}

func postgreSQL(t *testing.T) string {
	server := dbtest.PostgreSQL(t)
	return server.DSN(server.NewDatabase(t))
}

func mariaDB(t *testing.T) string {
	server := dbtest.MariaDB(t)
	return server.DSN(server.NewDatabase(t))
}

func dynamoDB(t *testing.T) string {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	url := "dynamodb://renew?region=eu-central-1&endpoint=" + dbtest.StartDynalite(t, false).URL
	client, table, err := dynamostore.NewClient(t.Context(), url)
	require.NoError(t, err)
	require.NoError(t, dynamostore.CreateTable(t.Context(), client, table))
	return url
}

func redisServer(t *testing.T) string {
	dir, port := dbtest.ProgramDir(t), strconv.Itoa(dbtest.FreePort(t))
	server := dbtest.NewProgram(t, "redis-server", "apt-get install redis-server", filepath.Join(dir, "log"),
		"--port", port, "--bind", "127.0.0.1", "--dir", dir)
	require.NoError(t, server.Start())
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		return err == nil && conn.Close() == nil
	}, 30*time.Second, 10*time.Millisecond)
	return "redis://127.0.0.1:" + port
}

// The promise: what a failover of Redis can lose logs no user out, and the owner
// learns which settings of the server lose more.
func TestRedisLosesWrites(t *testing.T) {
	s, err := storeurl.Open(t.Context(), redisServer(t), encryptionKey)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.Equal(t, renew.AheadAdopted, s.Ahead)
	require.Len(t, s.Diagnosis, 1)
	require.Contains(t, s.Diagnosis[0], "appendonly is off")
}

// The promise: what is malformed is ErrUsage, before anything is opened, and no
// error shows a password.
func TestUsage(t *testing.T) {
	file := "sqlite:" + filepath.Join(t.TempDir(), "renew.db")
	for name, c := range map[string]struct{ url, encryptionKey, says string }{
		"nothing":                  {"", "", "not one of memory"},
		"no scheme":                {"renew.db", "", "not one of memory"},
		"another scheme":           {"oracle://scott:hunter2@host/db", "", "not one of memory"},
		"a scheme in upper case":   {"POSTGRES://scott:hunter2@host/db", "", "not one of memory"},
		"a table and a password":   {"dynamodb://user:hunter2@table?region=eu-central-1", encryptionKey, "dynamodb://TABLE"},
		"an option of a table":     {"dynamodb://table?hunter2=hunter2", encryptionKey, "region, profile or endpoint"},
		"no file":                  {"sqlite:", "", "names no file"},
		"no encryption key":        {"postgres://user:hunter2@127.0.0.1:1/db", "", storeurl.EncryptionKeyVariable},
		"a short encryption key":   {file, "aHVudGVyMg==", storeurl.EncryptionKeyVariable},
		"a hexadecimal one":        {file, strings.Repeat("ab", 32), storeurl.EncryptionKeyVariable},
		"MySQL without a database": {"mysql://user:hunter2@127.0.0.1:1", encryptionKey, "is not followed by"},
		"MySQL without a port":     {"mysql://user:hunter2@127.0.0.1:port/db", encryptionKey, "is not followed by"},
		"MySQL without a host":     {"mysql:///db", encryptionKey, "is not followed by"},
		"Redis without a host":     {"redis+cluster://user:hunter2@", encryptionKey, "it is not redis+cluster://"},
		"Redis, another form":      {"redis+ring://user:hunter2@host", encryptionKey, "it is not one of redis://"},
		"Redis without a key":      {"rediss://user:hunter2@127.0.0.1:1", "", storeurl.EncryptionKeyVariable},
		"an unknown setting":       {"mysql://user:hunter2@127.0.0.1:1/db?timeout=soon", encryptionKey, "invalid duration"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := storeurl.Open(t.Context(), c.url, c.encryptionKey)
			require.Nil(t, s)
			require.ErrorIs(t, err, storeurl.ErrUsage)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	_, err := os.Stat(strings.TrimPrefix(file, "sqlite:"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The promise: a server that does not respond is an error that is not ErrUsage, and
// shows no password.
func TestNoServer(t *testing.T) {
	for _, url := range []string{"postgres://user:hunter2@127.0.0.1:1/db", "mysql://user:hunter2@127.0.0.1:1/db", "redis://user:hunter2@127.0.0.1:1"} {
		_, err := storeurl.Open(t.Context(), url, encryptionKey)
		require.Error(t, err)
		require.NotErrorIs(t, err, storeurl.ErrUsage)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
