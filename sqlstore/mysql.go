package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// lockWait is for how long a statement waits for a row that another one holds.
// The server continues to wait when the client has given up, and keeps the
// connection for it.
const lockWait = 2 * time.Second

// checkMySQL goes by the server's list of session variables: what changes the
// meaning of a statement, of the text in it, or of its success. On MariaDB every
// statement gets a short lock wait and its own time limit.
func checkMySQL(ctx context.Context, c *checker) error {
	// They cut the list that is read below, or fail its query.
	set, err := c.settings(ctx, "SELECT 'sql_select_limit', @@sql_select_limit")
	if err == nil {
		err = checkMySQLSession(set)
	}
	if err != nil {
		return err
	}
	set, err = c.settings(ctx, "SELECT 'sql_big_selects', CASE WHEN @@sql_big_selects THEN 'ON' ELSE 'OFF' END")
	if err == nil {
		err = checkMySQLSession(set)
	}
	if err != nil {
		return err
	}
	set, err = c.settings(ctx, `SHOW VARIABLES WHERE Variable_name IN ('version', 'autocommit', 'completion_type', 'read_only', 'tx_isolation',
		'transaction_isolation', 'tx_read_only', 'transaction_read_only', 'sql_safe_updates', 'sql_log_bin', 'log_bin',
		'skip_replication', 'wsrep_on', 'wsrep_provider', 'wsrep_sync_wait', 'wsrep_dirty_reads', 'innodb_lock_wait_timeout',
		'innodb_flush_log_at_trx_commit', 'sync_binlog', 'rpl_semi_sync_master_enabled', 'rpl_semi_sync_master_timeout',
		'rpl_semi_sync_source_enabled', 'rpl_semi_sync_source_timeout')`)
	if err != nil {
		return err
	}
	if err := checkMySQLSession(set); err != nil {
		return err
	}
	if strings.Contains(strings.ToLower(set["version"]), "mariadb") {
		limit := max(c.timeout-c.timeout/10, 100*time.Millisecond) // before the client gives up, and its connection is lost
		c.preface = fmt.Sprintf("SET STATEMENT innodb_lock_wait_timeout = %d, lock_wait_timeout = %[1]d, max_statement_time = %.3f FOR ",
			int(min(lockWait, max(c.timeout, time.Second))/time.Second), limit.Seconds())
	} else if wait, err := strconv.Atoi(set["innodb_lock_wait_timeout"]); err == nil && time.Duration(wait)*time.Second > c.timeout {
		slog.Default().WarnContext(ctx, "sqlstore: a statement that waits for a row keeps its connection for innodb_lock_wait_timeout; "+
			"set it to 2 in the data source name", "innodb_lock_wait_timeout", wait)
	}
	if c.tables {
		warnMySQL(ctx, set)
		return checkEngines(ctx, c)
	}
	return nil
}

func checkMySQLSession(set map[string]string) error {
	isolation := set["tx_isolation"] + set["transaction_isolation"] // MariaDB before 11.1, and all others
	limit, limitErr := strconv.ParseUint(set["sql_select_limit"], 10, 64)
	syncWait, _ := strconv.Atoi(set["wsrep_sync_wait"])
	cluster := set["wsrep_provider"] != "" && set["wsrep_provider"] != "none"
	for _, setting := range []struct {
		wrong bool
		name  string
		value string
		why   string
		want  string
	}{
		{set["autocommit"] == "OFF", "autocommit", "OFF", "no other connection ever sees what is stored", "ON"},
		{set["completion_type"] != "NO_CHAIN" && set["completion_type"] != "", "completion_type", set["completion_type"], "a connection stays in a transaction", "NO_CHAIN"},
		{set["read_only"] != "OFF" && set["read_only"] != "", "read_only", set["read_only"], "the server is a replica, or will be one; give the stores the primary", "OFF"},
		{set["tx_read_only"] == "ON" || set["transaction_read_only"] == "ON", "transaction_read_only", "ON", "nothing can be stored", "OFF"},
		{strings.Contains(isolation, "READ-UNCOMMITTED"), "transaction_isolation", "READ-UNCOMMITTED", "what is read may never be committed", "READ-COMMITTED or REPEATABLE-READ"},
		{set["sql_safe_updates"] == "ON", "sql_safe_updates", "ON", "expired keys cannot be deleted", "OFF"},
		{set["sql_big_selects"] == "OFF", "sql_big_selects", "OFF", "reads of many sessions fail (max_join_size turns it off)", "ON"},
		{limitErr == nil && limit < 1<<32, "sql_select_limit", set["sql_select_limit"], "results are cut", "DEFAULT"},
		{set["sql_log_bin"] == "OFF" && set["log_bin"] == "ON", "sql_log_bin", "OFF", "replicas miss what is stored", "ON"},
		{set["skip_replication"] == "ON", "skip_replication", "ON", "replicas may miss what is stored", "OFF"},
		{cluster && set["wsrep_dirty_reads"] == "ON", "wsrep_dirty_reads", "ON", "a node that has left the cluster shows what was so before", "OFF"},
		{cluster && set["wsrep_on"] == "OFF", "wsrep_on", "OFF", "the other nodes miss what is stored", "ON"},
		{cluster && set["wsrep_on"] != "OFF" && syncWait&7 != 7, "wsrep_sync_wait", set["wsrep_sync_wait"], "one node does not show what another one has acknowledged", "7"},
	} {
		if setting.wrong {
			return fmt.Errorf("the variable %s is %s, so that %s; set it to %s, in the data source name or on the server",
				setting.name, setting.value, setting.why, setting.want)
		}
	}
	return nil
}

// warnMySQL logs what a crash or a failover may take back. These are choices of the
// administrator, and defaults, so that they are not errors.
func warnMySQL(ctx context.Context, set map[string]string) {
	const semiSyncTimeout = int64(time.Hour / time.Millisecond)
	semiSync := "rpl_semi_sync_master"
	if _, renamed := set["rpl_semi_sync_source_enabled"]; renamed { // MySQL from 8.0.26
		semiSync = "rpl_semi_sync_source"
	}
	wait, err := strconv.ParseInt(set[semiSync+"_timeout"], 10, 64)
	cluster := set["wsrep_provider"] != "" && set["wsrep_provider"] != "none" // the other nodes have it
	for _, setting := range []struct {
		wrong     bool
		name, why string
	}{
		{!cluster && set["innodb_flush_log_at_trx_commit"] != "1", "innodb_flush_log_at_trx_commit", "a crash takes back what was acknowledged; set it to 1"},
		{!cluster && set["log_bin"] == "OFF", "log_bin", "a crash may take back what a repeated request has read; turn the binary log on"},
		{!cluster && set["log_bin"] == "ON" && set["sync_binlog"] != "1", "sync_binlog", "a crash may take back what a repeated request has read; set it to 1"},
		{
			set[semiSync+"_enabled"] == "ON" && err == nil && wait < semiSyncTimeout,
			semiSync + "_timeout", "after so many milliseconds the primary acknowledges what its replica does not have; see docs/stores.md",
		},
	} {
		if setting.wrong {
			slog.Default().WarnContext(ctx, "sqlstore: "+setting.why, setting.name, set[setting.name])
		}
	}
}

// checkEngines looks at the tables' storage engine: enforce_storage_engine may
// have changed it.
func checkEngines(ctx context.Context, c *checker) error {
	engines, err := readStrings(ctx, c.runner, `SELECT DISTINCT engine FROM information_schema.tables
		WHERE table_schema = DATABASE() AND table_name IN (?, ?, ?) AND engine <> 'InnoDB'`,
		c.prefix+"sessions", c.prefix+"apps", c.prefix+"signing_keys")
	if err != nil {
		return fmt.Errorf("look for the tables: %w", err)
	}
	if len(engines) > 0 {
		return fmt.Errorf("the tables' storage engine is %s, but must be InnoDB", strings.Join(engines, ", "))
	}
	return nil
}

// exclusivelyMySQL takes a lock that belongs to the connection. It asks once a
// second, so that ctx can end the wait without ending the connection. Names of
// locks are the server's, not the database's: those who migrate another
// database wait too.
func exclusivelyMySQL(ctx context.Context, db *sql.DB, name string, f func(execer) error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	for got := (sql.NullInt64{}); got.Int64 != 1; {
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 1)", name).Scan(&got); err != nil {
			return fmt.Errorf("acquire the migration lock: %w", notBegun{err})
		}
	}
	defer func() {
		if releaseErr := cleanUp(ctx, conn, "DO RELEASE_LOCK('"+name+"')"); err == nil {
			err = releaseErr
		}
	}()
	return f(conn)
}
