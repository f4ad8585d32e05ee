package dbtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestFailedStartLeavesNothing promises that a server which cannot be made is
// tried once in a process, and leaves no file in the temporary directory.
func TestFailedStartLeavesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("servers are started on Unix only")
	}
	temporary := t.TempDir()
	if err := os.Chmod(filepath.Dir(temporary), 0o755); err != nil { // for the user that a server runs as
		t.Fatal(err)
	}
	if err := os.Chmod(temporary, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", temporary)
	for name, script := range map[string]string{
		"the initialization fails":                `mkdir "$0/data" && echo half >"$0/data/file" && echo no space left && exit 1`,
		"the initialization fails with no output": `exit 1`,
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			k := &kind{
				name:    "Test server",
				users:   []string{"nobody"},
				private: func(dir string) target { return mySQLTarget("", "unix", dir, "") },
				find: func(dir string) (initialize, serve *exec.Cmd, err error) {
					tries++
					return command("/bin/sh", "-c", script, dir), command("/bin/false"), nil
				},
			}
			var first error
			for range 3 {
				_, err := k.server()
				if err == nil || errors.Is(err, errMissing) {
					t.Fatalf("error %v, want one that fails the test", err)
				}
				if strings.Contains(script, "no space") && !strings.Contains(err.Error(), "no space left") {
					t.Errorf("error %v, want the output of the command in it", err)
				}
				if first == nil {
					first = err
				}
				if !errors.Is(err, first) {
					t.Errorf("error %v, want the first one again: %v", err, first)
				}
			}
			if tries != 1 {
				t.Errorf("%d tries, want 1", tries)
			}
			left, err := os.ReadDir(temporary)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 0 {
				t.Errorf("%d files are left in the temporary directory, %s among them", len(left), left[0].Name())
			}
		})
	}
}

// TestMissingServer promises that a test is skipped, or fails where databases are
// required, and is told what to do.
func TestMissingServer(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	k := &kind{
		name: "Test server", install: "install it", variable: "TEST_SERVER",
		private: func(string) target { return target{} },
		find:    func(string) (initialize, serve *exec.Cmd, err error) { return nil, nil, errors.New("no binary") },
	}
	for required, want := range map[string]string{"": "skipped", "1": "failed"} {
		t.Setenv(RequireVariable, required)
		got := record(t, func(tb testing.TB) { forOne(tb, k.server) })
		if got.end != want {
			t.Errorf("%s=%q: the test is %s, want %s", RequireVariable, required, got.end, want)
		}
		if want := "Test server is not installed (no binary): install it; or name a running server in TEST_SERVER"; got.why != want {
			t.Errorf("%s=%q: %q, want %q", RequireVariable, required, got.why, want)
		}
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary directory: %v, error %v", left, err)
	}
}

// TestSharedServerIsNotKilled promises that no test ends a server under the others, or
// makes their databases part of what it measures.
func TestSharedServerIsNotKilled(t *testing.T) {
	notShort(t)
	k := &kind{name: "test"}
	shared := &Shared{kind: k, server: &Server{kind: k, dir: t.TempDir()}}
	got := record(t, func(tb testing.TB) { shared.Server(tb).Kill(tb) })
	if want := "this test server serves other tests too: kill one of your own"; got.end != "failed" || got.why != want {
		t.Errorf("the test is %s: %q, want %q", got.end, got.why, want)
	}
}

// record runs f as a test.
func record(t *testing.T, f func(tb testing.TB)) *recorder {
	t.Helper()
	got := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(got)
	}()
	<-done
	return got
}

// recorder is a test that notes how it ends.
type recorder struct {
	testing.TB
	end, why string
}

func (r *recorder) Helper()           {}
func (r *recorder) Skip(args ...any)  { r.endWith("skipped", fmt.Sprint(args...)) }
func (r *recorder) Fatal(args ...any) { r.endWith("failed", fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.endWith("failed", fmt.Sprintf(format, args...))
}

func (r *recorder) endWith(end, why string) {
	r.end, r.why = end, why
	runtime.Goexit()
}

// TestRunningServer promises that the data source name of a running server
// reaches other databases of it, directly and through a proxy.
func TestRunningServer(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    *kind
		dsn     string
		network string
		address string
		admin   string
		direct  string // of the database "db"
		through string // the same, through 127.0.0.1:9
	}{
		{
			"a URL", postgreSQL, "postgres://u:p%40ss@db.example:6543/postgres?sslmode=require", "tcp", "db.example:6543", "postgres",
			"postgres://u:p%40ss@db.example:6543/db?sslmode=require",
			"postgres://u:p%40ss@127.0.0.1:9/db?sslmode=require",
		},
		{
			"a URL without a port and a database", postgreSQL, "postgresql://u@db.example", "tcp", "db.example:5432", "postgres",
			"postgresql://u@db.example/db", "postgresql://u@127.0.0.1:9/db",
		},
		{
			"a URL with an IPv6 address", postgreSQL, "postgres://u@[::1]:5432/other", "tcp", "[::1]:5432", "other",
			"postgres://u@[::1]:5432/db", "postgres://u@127.0.0.1:9/db",
		},
		{
			"a URL with a socket", postgreSQL, "postgres://u@/postgres?host=/run/pg&port=5433", "unix", "/run/pg/.s.PGSQL.5433", "postgres",
			"postgres://u@/db?host=%2Frun%2Fpg&port=5433", "postgres://u@127.0.0.1:9/db",
		},
		{
			"user and password", mariaDB, "root:a/b@c@tcp(127.0.0.1:3307)/mysql?tls=true", "tcp", "127.0.0.1:3307", "",
			"root:a/b@c@tcp(127.0.0.1:3307)/db?tls=true", "root:a/b@c@tcp(127.0.0.1:9)/db?tls=true",
		},
		{
			"no port", mariaDB, "root@tcp(db.example)/", "tcp", "db.example:3306", "",
			"root@tcp(db.example:3306)/db", "root@tcp(127.0.0.1:9)/db",
		},
		{
			"an IPv6 address without a port", mariaDB, "root@tcp([::1])/", "tcp", "[::1]:3306", "",
			"root@tcp([::1]:3306)/db", "root@tcp(127.0.0.1:9)/db",
		},
		{
			"no address", mariaDB, "root:secret@/", "tcp", "127.0.0.1:3306", "",
			"root:secret@tcp(127.0.0.1:3306)/db", "root:secret@tcp(127.0.0.1:9)/db",
		},
		{
			"a MySQL socket", mariaDB, "root@unix(/run/mysqld.sock)/", "unix", "/run/mysqld.sock", "",
			"root@unix(/run/mysqld.sock)/db", "root@tcp(127.0.0.1:9)/db",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.kind.parse(c.dsn)
			if err != nil {
				t.Fatal(err)
			}
			if got.network != c.network || got.address != c.address || got.admin != c.admin {
				t.Errorf("%s %s, database %q; want %s %s, %q", got.network, got.address, got.admin, c.network, c.address, c.admin)
			}
			if dsn := got.dsn("", "db"); dsn != c.direct {
				t.Errorf("direct: %s, want %s", dsn, c.direct)
			}
			if dsn := got.dsn("127.0.0.1:9", "db"); dsn != c.through {
				t.Errorf("through a proxy: %s, want %s", dsn, c.through)
			}
			if dsn := got.dsn("", "db"); dsn != c.direct {
				t.Errorf("direct, after the proxy: %s, want %s", dsn, c.direct)
			}
		})
	}
}

// TestWrongDSN promises an error that holds no password.
func TestWrongDSN(t *testing.T) {
	for _, c := range []struct {
		kind *kind
		dsn  string
	}{
		{postgreSQL, "host=db.example password=secret"},
		{postgreSQL, "postgres://u:secret@a,b/postgres"},
		{postgreSQL, "postgres://u:secret@h/%zz"},
		{mariaDB, "root:secret"},
		{mariaDB, "root:secret@tcp(127.0.0.1:3306/"},
		{mariaDB, "root:secret@pipe(name)/"},
	} {
		k := &kind{variable: "TEST_SERVER", parse: c.kind.parse}
		t.Setenv(k.variable, c.dsn)
		switch _, err := k.server(); {
		case err == nil:
			t.Errorf("%s: no error", c.dsn)
		case strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), k.variable):
			t.Errorf("%s: the error is %q", c.dsn, err)
		}
	}
}
