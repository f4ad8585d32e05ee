package dbtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Standby starts a PostgreSQL server that replicates the primary, a private one,
// over its socket. It stops when the test has ended.
func Standby(tb testing.TB, primary *Server) *Server {
	tb.Helper()
	primary.NeedPrivate(tb)
	s, err := standbyOf(primary).start()
	if err != nil {
		give(tb, err)
	}
	tb.Cleanup(s.Stop)
	return s
}

func standbyOf(primary *Server) *kind {
	k := &kind{
		name: postgreSQL.name, driver: postgreSQL.driver, install: postgreSQL.install, users: postgreSQL.users,
		variable: postgreSQL.variable, drop: postgreSQL.drop, private: postgreSQL.private, parse: postgreSQL.parse,
	}
	k.find = func(dir string) (initialize, serve *exec.Cmd, err error) {
		_, serve, err = postgreSQL.find(dir)
		if err != nil {
			return nil, nil, err
		}
		backup := filepath.Join(filepath.Dir(serve.Path), "pg_basebackup")
		initialize = command(backup, "-d", "host="+primary.dir+" user=postgres application_name=standby",
			"-D", filepath.Join(dir, "data"), "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
		return initialize, serve, nil
	}
	return k
}

// Rejoin has a server that was killed begin again as a standby of the primary.
func (s *Server) Rejoin(tb testing.TB, primary *Server) {
	tb.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		tb.Fatal(err)
	}
	s.kind = standbyOf(primary)
	if err := s.initialize(); err != nil {
		tb.Fatal(err)
	}
}

// WaitForStandby sets whether the server acknowledges a commit only when its
// standby has it. The setting goes to the standby with its next base backup.
func (s *Server) WaitForStandby(tb testing.TB, wait bool) {
	tb.Helper()
	names := map[bool]string{true: "*"}[wait]
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
		if err := s.exec(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
	}
}

// Promote makes a standby a primary that waits for no standby, and returns when it
// is one.
func (s *Server) Promote(tb testing.TB) {
	tb.Helper()
	_, serve, err := s.kind.find(s.dir)
	if err != nil {
		tb.Fatal(err)
	}
	promote := command(filepath.Join(filepath.Dir(serve.Path), "pg_ctl"), "promote", "-w", "-D", filepath.Join(s.dir, "data"))
	if err := runAs(promote, s.kind.users); err != nil {
		tb.Fatal(err)
	}
	if output, err := promote.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", promote, err, output)
	}
	s.WaitForStandby(tb, false)
}
