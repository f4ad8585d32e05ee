package storeurl

import (
	"context"
	"database/sql"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDataSourceNames shows what the drivers are given: the place, and timeouts
// where it names none.
func TestDataSourceNames(t *testing.T) {
	const timeouts = "timeout=5s&readTimeout=5s&writeTimeout=5s&innodb_lock_wait_timeout=2"
	for from, want := range map[string]string{
		"postgres://u:p@db.example/renew":                     "postgres://u:p@db.example/renew?connect_timeout=5",
		"postgres://u@/renew?host=/run/postgresql":            "postgres://u@/renew?host=/run/postgresql&connect_timeout=5",
		"postgresql://a,b:5433/renew?connect_timeout=2":       "postgresql://a,b:5433/renew?connect_timeout=2",
		"postgres://db/renew?target_session_attrs=primary":    "postgres://db/renew?target_session_attrs=primary&connect_timeout=5",
		"mysql://root@localhost/renew":                        "root@tcp(localhost:3306)/renew?" + timeouts,
		"mysql://user:p%40s%3Fs@db.example:3307/renew":        "user:p@s?s@tcp(db.example:3307)/renew?" + timeouts,
		"mysql://u:p@[::1]/renew?tls=skip-verify":             "u:p@tcp([::1]:3306)/renew?tls=skip-verify&" + timeouts,
		"mysql://root@unix(/run/mysqld/sock)/renew":           "root@unix(/run/mysqld/sock)/renew?" + timeouts,
		"mysql://root@db/renew?readTimeout=0s":                "root@tcp(db:3306)/renew?readTimeout=0s&timeout=5s&writeTimeout=5s&innodb_lock_wait_timeout=2",
		"mariadb://root@tcp(127.0.0.1:3306)/renew?timeout=1s": "root@tcp(127.0.0.1:3306)/renew?timeout=1s&readTimeout=5s&writeTimeout=5s&innodb_lock_wait_timeout=2",
	} {
		scheme, rest, _ := strings.Cut(from, ":")
		d, err := parseSQL(scheme, rest)
		require.NoError(t, err, from)
		require.Equal(t, want, d.dsn)
	}
}

// TestSilentDatabase shows that no connection is waited for without end, even where
// nothing has a deadline, as in database/sql's own opener: the database accepts
// connections and says nothing, as behind a firewall that has forgotten it.
func TestSilentDatabase(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits until the connections time out")
	}
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })
	schemes := []string{"postgres", "mysql"}
	pinged := make(chan error, len(schemes))
	for _, scheme := range schemes {
		d, err := parseSQL(scheme, "//renew@"+silent.Addr().String()+"/renew")
		require.NoError(t, err)
		db, err := sql.Open(d.driver, d.dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		go func() { pinged <- db.PingContext(context.Background()) }()
	}
	for range schemes {
		select {
		case err := <-pinged:
			require.Error(t, err)
		case <-time.After(time.Minute):
			require.Fail(t, "a connection is still waited for")
		}
	}
}
