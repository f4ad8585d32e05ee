// Package dbtest starts private database servers for tests, from the binaries
// that are installed: PostgreSQL and MariaDB. A server lives in a temporary
// directory, is reached through a Unix socket in it, and never outlives the
// process that started it. A test may kill it and expect everything back that
// was answered: nothing that makes data durable is turned off.
//
// The package imports no driver, so that every module can use it. Whoever does
// imports jackc/pgx/v5/stdlib and go-sql-driver/mysql.
package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// RequireVariable names the environment variable that, set to 1, makes a missing
// database a failure: for CI, which installs them.
const RequireVariable = "RENEW_REQUIRE_DATABASES"

// startLimit bounds a start or a stop. Recovery after a kill is part of a start.
const startLimit = 60 * time.Second

// Server is a database server of one's own.
type Server struct {
	kind kind
	dir  string

	mu      sync.Mutex
	process *process // nil: not running

	databases atomic.Int64
}

// kind is what differs between PostgreSQL and MariaDB.
type kind struct {
	name    string
	driver  string
	install string   // what to install, for the message when a binary is missing
	users   []string // to run as, where the test is root; nobody is the last resort
	// find returns the commands that make the data directory and run the server.
	find func(dir string) (initialize, serve *exec.Cmd, err error)
	// dsn is that of a database, over the socket in dir, or over TCP if address
	// is not empty.
	dsn func(dir, address, database string) string
	// admin is a database that is always there.
	admin  string
	socket func(dir string) string
}

// PostgreSQL starts a PostgreSQL server, which stops when the test has ended.
// Without the binaries it skips the test, or fails it: see RequireVariable.
func PostgreSQL(tb testing.TB) *Server {
	tb.Helper()
	s := start(tb, postgreSQL)
	tb.Cleanup(s.Stop)
	return s
}

// MariaDB starts a MariaDB server; the rest is as with PostgreSQL.
func MariaDB(tb testing.TB) *Server {
	tb.Helper()
	s := start(tb, mariaDB)
	tb.Cleanup(s.Stop)
	return s
}

// Shared starts a server when it is first asked for, for all tests of a package.
// Stop it from TestMain.
type Shared struct {
	mu     sync.Mutex
	kind   kind
	server *Server
}

// SharedPostgreSQL is a PostgreSQL server for several tests.
func SharedPostgreSQL() *Shared { return &Shared{kind: postgreSQL} }

// SharedMariaDB is a MariaDB server for several tests.
func SharedMariaDB() *Shared { return &Shared{kind: mariaDB} }

// Server returns the server, which it starts the first time. A server that a
// test has left dead is started again.
func (s *Shared) Server(tb testing.TB) *Server {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.server = start(tb, s.kind)
	}
	s.server.Start(tb)
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

func start(tb testing.TB, k kind) *Server {
	tb.Helper()
	dir, err := os.MkdirTemp("", "renew-")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{kind: k, dir: dir}
	initialize, _, err := k.find(dir)
	if err != nil {
		_ = os.RemoveAll(dir) // it is empty
		missing(tb, fmt.Sprintf("%s is not installed (%v): %s", k.name, err, k.install))
	}
	if err := giveAway(dir, k.users); err != nil {
		tb.Fatal(err)
	}
	if err := runAs(initialize, k.users); err != nil {
		tb.Fatal(err)
	}
	if output, err := initialize.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", initialize, err, output)
	}
	s.Start(tb)
	return s
}

// missing skips the test, or fails it where the databases are required.
func missing(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv(RequireVariable) == "1" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

// Start starts the server, unless it runs, and returns when it answers.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	deadline := time.Now().Add(startLimit)
	for s.process == nil || s.process.ended() {
		_, serve, err := s.kind.find(s.dir)
		if err != nil {
			tb.Fatal(err)
		}
		if err := runAs(serve, s.kind.users); err != nil {
			tb.Fatal(err)
		}
		p, err := startProcess(serve, filepath.Join(s.dir, "log"))
		if err != nil {
			tb.Fatal(err)
		}
		if err := s.wait(p, deadline); err != nil {
			p.kill()
			if time.Now().After(deadline) {
				tb.Fatalf("%s does not start: %v\n%s", s.kind.name, err, s.logTail())
			}
			time.Sleep(100 * time.Millisecond) // what was killed may not be gone yet
			continue
		}
		s.process = p
	}
}

// wait returns when the server answers, or has ended.
func (s *Server) wait(p *process, deadline time.Time) error {
	db, err := sql.Open(s.kind.driver, s.DSN(s.kind.admin))
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
		case p.ended():
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

// Kill ends the server and every process of it with SIGKILL, as the machine's
// own end would. What it had written to files stays.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		tb.Fatalf("%s does not run", s.kind.name)
	}
	s.process.kill()
	s.process = nil
}

// Stop ends the server and deletes its data.
func (s *Server) Stop() {
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

// NewDatabase makes an empty database and returns its name.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	db, err := sql.Open(s.kind.driver, s.DSN(s.kind.admin))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if _, err := db.ExecContext(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	return name
}

// DSN is the data source name of a database of this server.
func (s *Server) DSN(database string) string { return s.kind.dsn(s.dir, "", database) }

// DSNThrough is the same for connections through a proxy of this server.
func (s *Server) DSNThrough(p *Proxy, database string) string {
	return s.kind.dsn(s.dir, p.Address(), database)
}

// NewProxy starts a proxy to the server. It closes when the test has ended.
func (s *Server) NewProxy(tb testing.TB) *Proxy {
	tb.Helper()
	return newProxy(tb, s.kind.socket(s.dir))
}

// Command returns a program of the server's, such as pg_dump, from where the
// server was found.
func (s *Server) Command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	_, serve, err := s.kind.find(s.dir)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(serve.Path), name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			missing(tb, fmt.Sprintf("%s is not installed: %s", name, s.kind.install))
		}
	}
	return command(path, args...)
}

// Dir is where the server keeps its files.
func (s *Server) Dir() string { return s.dir }

var postgreSQL = kind{
	name:    "PostgreSQL",
	driver:  "pgx",
	install: "apt-get install postgresql",
	users:   []string{"postgres", "nobody"},
	admin:   "postgres",
	socket:  func(dir string) string { return filepath.Join(dir, ".s.PGSQL.5432") },
	dsn: func(dir, address, database string) string {
		host, port := dir, "5432"
		if address != "" {
			host, port, _ = strings.Cut(address, ":")
		}
		return fmt.Sprintf("host=%s port=%s user=postgres dbname=%s sslmode=disable", host, port, database)
	},
	find: func(dir string) (initialize, serve *exec.Cmd, err error) {
		bin, err := findBinary("postgres", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin")
		if err != nil {
			return nil, nil, err
		}
		data := filepath.Join(dir, "data")
		initialize = command(filepath.Join(filepath.Dir(bin), "initdb"), "-D", data, "-U", "postgres",
			"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
		// A locale whose order is not that of bytes shows where an order was
		// left to the database.
		if help, _ := command(initialize.Path, "--help").Output(); strings.Contains(string(help), "--icu-locale") {
			initialize.Args = append(initialize.Args, "--locale-provider=icu", "--icu-locale=en-US")
		}
		serve = command(bin, "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200")
		return initialize, serve, nil
	},
}

var mariaDB = kind{
	name:    "MariaDB",
	driver:  "mysql",
	install: "apt-get install mariadb-server",
	users:   []string{"mysql", "nobody"},
	admin:   "mysql",
	socket:  func(dir string) string { return filepath.Join(dir, "socket") },
	dsn: func(dir, address, database string) string {
		if address != "" {
			return "root@tcp(" + address + ")/" + database
		}
		return "root@unix(" + filepath.Join(dir, "socket") + ")/" + database
	},
	find: func(dir string) (initialize, serve *exec.Cmd, err error) {
		installer, err := findBinary("mariadb-install-db", "/usr/bin", "/opt/homebrew/bin", "/usr/local/bin")
		if err != nil {
			return nil, nil, err
		}
		bin, err := findBinary("mariadbd", "/usr/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin")
		if err != nil {
			return nil, nil, err
		}
		data := "--datadir=" + filepath.Join(dir, "data")
		initialize = command(installer, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
		serve = command(bin, "--no-defaults", data, "--socket="+filepath.Join(dir, "socket"), "--skip-networking",
			"--pid-file="+filepath.Join(dir, "pid"), "--tmpdir="+dir, "--innodb-buffer-pool-size=128M", "--max-connections=200",
			// Without the binary log InnoDB shows a commit to others before it is
			// on the disk, and a crash in between takes back what was seen.
			"--log-bin="+filepath.Join(dir, "data", "binlog"), "--sync-binlog=1", "--server-id=1")
		return initialize, serve, nil
	},
}

// command runs what findBinary has found.
func command(path string, args ...string) *exec.Cmd {
	return exec.Command(path, args...) //nolint:gosec,noctx // the installed server, which a test ends by itself
}

// findBinary looks in PATH, then in the folders that match the patterns, the
// greatest name first.
func findBinary(name string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.EvalSymlinks(path)
	}
	var found []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			return "", err
		}
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("no %s", name)
	}
	return slices.Max(found), nil
}
