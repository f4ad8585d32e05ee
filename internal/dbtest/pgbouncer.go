package dbtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PgBouncer starts PgBouncer before a PostgreSQL server, a private one, in a pool
// mode: session or transaction. It stops when the test has ended. The result is the
// data source name of a database through it.
func PgBouncer(tb testing.TB, server *Server, mode, database string, size int) (dsn string) {
	tb.Helper()
	server.NeedPrivate(tb)
	binary, err := findBinary("pgbouncer", "/usr/sbin", "/usr/bin")
	if err != nil {
		give(tb, fmt.Errorf("PgBouncer is %w (%w): apt-get install pgbouncer", errMissing, err))
	}
	dir := tb.TempDir()
	port := FreePort(tb)
	for path := dir; path != filepath.Dir(path) && path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // another user's process reads it
			tb.Fatal(err)
		}
	}
	config := filepath.Join(dir, "pgbouncer.ini")
	users := filepath.Join(dir, "users.txt")
	text := fmt.Sprintf(`[databases]
* = host=%s port=5432 user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
max_client_conn = 200
logfile =
pidfile =
`, server.dir, port, mode, size)
	for path, text := range map[string]string{config: text, users: ""} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // another user's process reads it
			tb.Fatal(err)
		}
	}
	cmd := command(binary, config)
	if err := runAs(cmd, server.kind.users); err != nil {
		tb.Fatal(err)
	}
	p, err := startProcess(cmd, filepath.Join(dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.kill)
	through := urlTarget(url.URL{Scheme: "postgres", User: url.User("postgres")},
		url.Values{"host": {"127.0.0.1"}, "port": {fmt.Sprint(port)}, "sslmode": {"disable"}})
	s := &Server{kind: server.kind, target: through}
	if err := s.await(p, time.Now().Add(10*time.Second)); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log")) //nolint:gosec // its own
		tb.Fatalf("PgBouncer does not start: %v\n%s", err, log)
	}
	return through.dsn("", database)
}
