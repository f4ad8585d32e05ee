package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// SemiSync starts two MariaDB servers, of which the second replicates the first and
// the first acknowledges a commit only when the second has it, however long that
// takes. waitPoint is AFTER_SYNC or AFTER_COMMIT: whether other connections see a
// commit before that. Both stop when the test has ended.
func SemiSync(tb testing.TB, waitPoint string) (primary, replica *Server) {
	tb.Helper()
	notShort(tb)
	port := FreePort(tb)
	primary = mariaDBWith(tb, "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", port))
	replica = mariaDBWith(tb, "--skip-networking", "--server-id=2", "--rpl-semi-sync-slave-enabled=ON", "--log-slave-updates=ON")
	run(tb, primary, "CREATE USER replica@'127.0.0.1' IDENTIFIED BY 'replica'", "CREATE USER replica@localhost IDENTIFIED BY 'replica'",
		"GRANT REPLICATION SLAVE ON *.* TO replica@'127.0.0.1'", "GRANT REPLICATION SLAVE ON *.* TO replica@localhost")
	run(tb, replica, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'replica', MASTER_PASSWORD = 'replica', "+
		"MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos", port), "START SLAVE")
	const forever = 24 * time.Hour
	run(tb, primary, "SET GLOBAL rpl_semi_sync_master_wait_point = "+waitPoint,
		fmt.Sprintf("SET GLOBAL rpl_semi_sync_master_timeout = %d", forever.Milliseconds()))
	run(tb, primary, "SET GLOBAL rpl_semi_sync_master_enabled = ON")
	primary.awaitStatus(tb, "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'", "1")
	return primary, replica
}

// mariaDBWith starts a private server with more arguments.
func mariaDBWith(tb testing.TB, more ...string) *Server {
	tb.Helper()
	k := &kind{
		name: "MariaDB", driver: mariaDB.driver, install: mariaDB.install, users: mariaDB.users,
		variable: mariaDB.variable, drop: mariaDB.drop, private: mariaDB.private, parse: mariaDB.parse,
	}
	k.find = func(dir string) (initialize, serve *exec.Cmd, err error) {
		if initialize, serve, err = mariaDB.find(dir); err != nil {
			return nil, nil, err
		}
		serve.Args = slices.DeleteFunc(serve.Args, func(arg string) bool { return arg == "--skip-networking" })
		serve.Args = append(serve.Args, more...)
		return initialize, serve, nil
	}
	s, err := k.start()
	if err != nil {
		give(tb, err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// CutReplica has a replica receive nothing any more. It applies what it has.
func (s *Server) CutReplica(tb testing.TB) {
	tb.Helper()
	run(tb, s, "STOP SLAVE IO_THREAD")
}

// PromoteReplica has a replica apply all that it has received, and then follow no
// server any more.
func (s *Server) PromoteReplica(tb testing.TB) {
	tb.Helper()
	s.CutReplica(tb)
	s.awaitStatus(tb, "SELECT 'pending', COUNT(*) FROM information_schema.processlist WHERE command = 'Slave_SQL' AND state NOT LIKE 'Slave has read all relay log%'", "0")
	run(tb, s, "STOP SLAVE", "RESET SLAVE ALL")
}

// awaitStatus returns when a query of a name and a value has this value.
func (s *Server) awaitStatus(tb testing.TB, query, want string) {
	tb.Helper()
	db, err := sql.Open(s.kind.driver, s.DSN(s.target.admin))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(tb.Context(), startLimit)
	defer cancel()
	for {
		var name, value string
		err := db.QueryRowContext(ctx, query).Scan(&name, &value)
		if err == nil && strings.EqualFold(value, want) {
			return
		}
		if ctx.Err() != nil {
			tb.Fatalf("%s: %q, not %q, %v", query, value, want, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run runs statements on a server as its administrator.
func run(tb testing.TB, s *Server, statements ...string) {
	tb.Helper()
	for _, statement := range statements {
		if err := s.exec(tb.Context(), statement); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
}
