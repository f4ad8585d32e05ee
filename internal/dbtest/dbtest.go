// Package dbtest gives tests a PostgreSQL, MariaDB or MySQL server.
//
// It starts private servers from the binaries that are installed. Such a server
// lives in a temporary directory, is reached through a Unix socket in it, and
// never outlives the process that started it. A test may kill it and expect every
// acknowledged write back: nothing that makes data durable is turned off.
//
// These environment variables change that:
//
//	RENEW_REQUIRE_DATABASES=1    a missing database fails a test, which otherwise is skipped
//	RENEW_TEST_POSTGRESQL=URL    use this running server: postgres://user:password@host:port/postgres
//	RENEW_TEST_MYSQL=DSN         use this running server, MySQL 8 for example: user:password@tcp(host:port)/
//
// In a running server a test makes databases named renew_test_… and drops them
// again; the user must be allowed to do both. Tests that kill the server or read
// its files are skipped there.
//
// With -short no server is started: the tests that need one are skipped.
//
// The package imports no driver, so that every module can use it. A test that
// uses it imports jackc/pgx/v5/stdlib and go-sql-driver/mysql.
package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew/storetest"
)

// The environment variables that the package's comment explains.
const (
	RequireVariable    = "RENEW_REQUIRE_DATABASES"
	PostgreSQLVariable = "RENEW_TEST_POSTGRESQL"
	MySQLVariable      = "RENEW_TEST_MYSQL"
)

// startLimit bounds a start or a stop. Recovery after a kill is part of a start.
const startLimit = 60 * time.Second

// errMissing is an error because of which a test is skipped.
var errMissing = errors.New("not installed")

// Server is a database server: a private one, or a running one that an
// environment variable names.
type Server struct {
	kind   *kind
	target target
	dir    string // empty: a running server, not ours to stop
	shared bool   // by tests

	mu      sync.Mutex
	process *process // nil: not running
}

// kind is what differs between PostgreSQL and MariaDB.
type kind struct {
	name     string
	driver   string
	install  string   // what to install, for the message when a binary is missing
	users    []string // to run as, where the test is root; nobody is the last resort
	variable string   // names a running server
	drop     string   // the statement that drops a database
	// find returns the commands that make the data directory and run the server.
	find func(dir string) (initialize, serve *exec.Cmd, err error)
	// private is the target of a server in dir, parse that of a running one.
	private func(dir string) target
	parse   func(dsn string) (target, error)

	mu     sync.Mutex
	failed error // the first start of a server: it would fail again
}

// PostgreSQL returns a server for one test, which stops when the test has ended.
// Without the binaries it skips the test, or fails it: see RequireVariable.
func PostgreSQL(tb testing.TB) *Server {
	tb.Helper()
	notShort(tb)
	return forOne(tb, postgreSQL.server)
}

// MariaDB returns a MariaDB server, or the one that MySQLVariable names, which may
// be MySQL; the rest is as with PostgreSQL.
func MariaDB(tb testing.TB) *Server {
	tb.Helper()
	notShort(tb)
	return forOne(tb, mariaDB.server)
}

// PrivatePostgreSQL is PostgreSQL, but never a running server.
func PrivatePostgreSQL(tb testing.TB) *Server {
	tb.Helper()
	notShort(tb)
	return forOne(tb, postgreSQL.start)
}

// PrivateMariaDB is MariaDB, but never a running server.
func PrivateMariaDB(tb testing.TB) *Server {
	tb.Helper()
	notShort(tb)
	return forOne(tb, mariaDB.start)
}

func forOne(tb testing.TB, server func() (*Server, error)) *Server {
	tb.Helper()
	s, err := server()
	if err != nil {
		give(tb, err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// Shared starts a server when it is first asked for, for all tests of a package.
// Stop it from TestMain.
type Shared struct {
	mu     sync.Mutex
	kind   *kind
	server *Server
}

// SharedPostgreSQL is a PostgreSQL server for several tests.
func SharedPostgreSQL() *Shared { return &Shared{kind: postgreSQL} }

// SharedMariaDB is a MariaDB server for several tests.
func SharedMariaDB() *Shared { return &Shared{kind: mariaDB} }

// Server returns the server, which it starts the first time. A test may not kill it:
// it recovers the longer the more databases the other tests have made.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	notShort(tb)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		server, err := s.kind.server()
		if err != nil {
			give(tb, err)
		}
		s.server = server
	}
	s.server.shared = true
	return s.server
}

// Stop stops the server, if it was ever started.
func (s *Shared) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.Stop()
	}
}

// server returns the running server that the environment names, or starts one.
func (k *kind) server() (*Server, error) {
	dsn := os.Getenv(k.variable)
	if dsn == "" {
		return k.start()
	}
	t, err := k.parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.variable, err)
	}
	s := &Server{kind: k, target: t}
	if err := s.await(nil, time.Now().Add(10*time.Second)); err != nil {
		return nil, fmt.Errorf("%s: %w", k.variable, err)
	}
	return s, nil
}

// start starts a private server. What failed once in this process is not tried
// again, and what a failure leaves is deleted.
func (k *kind) start() (*Server, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		return nil, k.failed
	}
	dir, err := os.MkdirTemp("", "renew-")
	if err != nil {
		return nil, err
	}
	s := &Server{kind: k, dir: dir, target: k.private(dir)}
	if err := s.initialize(); err != nil {
		s.Stop()
		k.failed = err
		return nil, err
	}
	return s, nil
}

// initialize makes the data directory and starts the server for the first time.
func (s *Server) initialize() error {
	command, _, err := s.kind.find(s.dir)
	if err != nil {
		return fmt.Errorf("%s is %w (%w): %s; or name a running server in %s",
			s.kind.name, errMissing, err, s.kind.install, s.kind.variable)
	}
	if err := giveAway(s.dir, s.kind.users); err != nil {
		return err
	}
	if err := runAs(command, s.kind.users); err != nil {
		return err
	}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, output)
	}
	return s.start()
}

// notShort skips a test with -short.
func notShort(tb testing.TB) {
	tb.Helper()
	if testing.Testing() && testing.Short() {
		tb.Skip("no database server is started with -short")
	}
}

// give gives up a test: it is skipped if nothing but an installation is missing
// and none is required.
func give(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, errMissing) && os.Getenv(RequireVariable) != "1" {
		tb.Skip(err)
	}
	tb.Fatal(err)
}

// IsPrivate reports whether the server is the test's own, to kill and to look
// into. It is not if an environment variable names it.
func (s *Server) IsPrivate() bool { return s.dir != "" }

// NeedPrivate skips the test if the server is not private.
func (s *Server) NeedPrivate(tb testing.TB) {
	tb.Helper()
	if !s.IsPrivate() {
		tb.Skipf("this test needs a %s server that it may kill and whose files it may read; %s names a running one",
			s.kind.name, s.kind.variable)
	}
}

// Start starts the server, unless it runs, and returns when it accepts
// connections.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	if err := s.start(); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) start() error {
	if !s.IsPrivate() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline := time.Now().Add(startLimit)
	for s.process == nil || s.process.ended() {
		_, serve, err := s.kind.find(s.dir)
		if err != nil {
			return err
		}
		if err := runAs(serve, s.kind.users); err != nil {
			return err
		}
		p, err := startProcess(serve, filepath.Join(s.dir, "log"))
		if err != nil {
			return err
		}
		if err := s.await(p, deadline); err != nil {
			p.kill()
			if time.Now().After(deadline) {
				return fmt.Errorf("%s does not start: %w\n%s", s.kind.name, err, s.logTail())
			}
			time.Sleep(100 * time.Millisecond) // what was killed may not be gone yet
			continue
		}
		s.process = p
	}
	return nil
}

// await returns when the server accepts connections, or its process, if it is not
// nil, has ended.
func (s *Server) await(p *process, deadline time.Time) error {
	db, err := sql.Open(s.kind.driver, s.DSN(s.target.admin))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := db.PingContext(ctx)
		cancel()
		switch {
		case err == nil:
			return nil
		case p != nil && p.ended():
			return errors.New("the process has ended")
		case time.Now().After(deadline):
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) logTail() string {
	const lines = 30
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Kill ends the server and every process of it with SIGKILL, as the end of the
// machine would. What it had written to files stays. It skips the test if the
// server is not private.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.NeedPrivate(tb)
	if s.shared {
		tb.Fatalf("this %s server serves other tests too: kill one of your own", s.kind.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		tb.Fatalf("%s does not run", s.kind.name)
	}
	s.process.kill()
	s.process = nil
}

// Stop ends a private server and deletes its data.
func (s *Server) Stop() {
	if !s.IsPrivate() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
	_ = os.RemoveAll(s.dir) // of what stays, the system clears its temporary files
}

// Driver is the name under which the driver is registered.
func (s *Server) Driver() string { return s.kind.driver }

// NewDatabase makes an empty database and returns its name. In a running server it
// is dropped when the test has ended.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	name := "renew_test_" + strings.ToLower(ulid.Make().String())
	if err := s.exec(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	if !s.IsPrivate() {
		tb.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), startLimit)
			defer cancel()
			if err := s.exec(ctx, fmt.Sprintf(s.kind.drop, name)); err != nil {
				tb.Error(err)
			}
		})
	}
	return name
}

func (s *Server) exec(ctx context.Context, statement string) error {
	db, err := sql.Open(s.kind.driver, s.DSN(s.target.admin))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// DSN is the data source name of a database of this server: a URL for
// PostgreSQL, the form of go-sql-driver/mysql for MariaDB and MySQL.
func (s *Server) DSN(database string) string { return s.target.dsn("", database) }

// DSNThrough is the same for connections through a proxy of this server.
func (s *Server) DSNThrough(p *storetest.Proxy, database string) string {
	return s.target.dsn(p.Address(), database)
}

// NewProxy starts a proxy to the server. It closes when the test has ended.
func (s *Server) NewProxy(tb testing.TB) *storetest.Proxy {
	tb.Helper()
	return storetest.NewProxy(tb, s.target.address)
}

// Command returns a program of the server's, such as pg_dump, from where the
// server was found. It skips the test if the server is not private.
func (s *Server) Command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	s.NeedPrivate(tb)
	_, serve, err := s.kind.find(s.dir)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(serve.Path), name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			give(tb, fmt.Errorf("%s is %w: %s", name, errMissing, s.kind.install))
		}
	}
	return command(path, args...)
}

// Dir is where a private server keeps its files. It skips the test if the server
// is not private.
func (s *Server) Dir(tb testing.TB) string {
	tb.Helper()
	s.NeedPrivate(tb)
	return s.dir
}
