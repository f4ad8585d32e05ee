package sqlstore_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// withSetting returns the data source name with a setting of the connection.
func (d *database) withSetting(name, value string) string {
	switch d.dialect {
	case sqlstore.PostgreSQL:
		return d.dsn + "&" + name + "=" + url.QueryEscape(value)
	case sqlstore.MySQL:
		return d.dsn + "?" + name + "=" + url.QueryEscape(value)
	default:
		return d.dsn + "&_pragma=" + name + "(" + value + ")"
	}
}

// TestSettingsThatDoHarm promises that a setting of the connection which changes
// what the statements mean, what is stored, or whether it stays, is rejected when a
// store is made; and that the error names it.
func TestSettingsThatDoHarm(t *testing.T) {
	harmful := map[sqlstore.Dialect][][2]string{
		sqlstore.PostgreSQL: {
			{"default_transaction_isolation", "serializable"},
			{"default_transaction_isolation", "repeatable read"},
			{"default_transaction_read_only", "on"},
			{"synchronous_commit", "off"},
			{"client_encoding", "LATIN1"},
		},
		sqlstore.MySQL: {
			{"autocommit", "false"},
			{"completion_type", "1"},
			{"completion_type", "2"},
			{"tx_isolation", "'READ-UNCOMMITTED'"},
			{"tx_read_only", "1"},
			{"sql_safe_updates", "1"},
			{"sql_select_limit", "1"},
			{"sql_big_selects", "0"},
			{"max_join_size", "1"}, // turns sql_big_selects off
			{"sql_log_bin", "0"},
			{"skip_replication", "1"},
		},
		sqlstore.SQLite: {
			{"query_only", "1"},
			{"synchronous", "off"},
		},
	}
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		for _, setting := range harmful[d.dialect] {
			name, value := setting[0], setting[1]
			t.Run(name+" "+value, func(t *testing.T) {
				db := d.openDSN(t, d.withSetting(name, value))
				_, err := sqlstore.NewTokenStore(t.Context(), db, d.dialect)
				require.ErrorContains(t, err, strings.TrimPrefix(name, "tx_"))
				require.NotContains(t, err.Error(), d.dsn)
				_, err = sqlstore.NewKeyStore(t.Context(), db, d.dialect, newEncrypter(t, encryptionKey(1)))
				require.ErrorContains(t, err, strings.TrimPrefix(name, "tx_"))
			})
		}
	})
}

// TestSettingsThatDoNot promises that every other setting which may look harmful is
// not: what is stored is read by another process.
func TestSettingsThatDoNot(t *testing.T) {
	harmless := map[sqlstore.Dialect][][2]string{
		sqlstore.PostgreSQL: {
			{"standard_conforming_strings", "off"},
			{"bytea_output", "escape"},
			{"transform_null_equals", "on"},
			{"default_query_exec_mode", "simple_protocol"},
			{"default_query_exec_mode", "exec"},
			{"default_query_exec_mode", "describe_exec"},
			{"timezone", "Asia/Tokyo"},
			{"datestyle", "German"},
			{"enable_indexscan", "off"},
			{"session_replication_role", "replica"},
		},
		sqlstore.MySQL: {
			{"sql_mode", "''"},
			{"sql_mode", "'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'"},
			{"sql_mode", "'ORACLE'"},
			{"charset", "latin1"},
			{"collation", "utf8mb4_general_ci"},
			{"collation_connection", "'utf8mb4_bin'"},
			{"tx_isolation", "'SERIALIZABLE'"},
			{"tx_isolation", "'READ-COMMITTED'"},
			{"unique_checks", "0"},
			{"foreign_key_checks", "0"},
			{"sql_auto_is_null", "1"},
			{"time_zone", "'+09:00'"},
			{"parseTime", "true"},
			{"interpolateParams", "true"},
			{"clientFoundRows", "true"},
			{"multiStatements", "true"},
			{"innodb_lock_wait_timeout", "50"},
			{"max_statement_time", "60"},
		},
		sqlstore.SQLite: {
			{"synchronous", "normal"},
			{"synchronous", "extra"},
			{"case_sensitive_like", "1"},
			{"foreign_keys", "1"},
			{"recursive_triggers", "1"},
			{"cache_size", "-2000"},
			{"reverse_unordered_selects", "1"},
			{"wal_autocheckpoint", "1"},
			{"temp_store", "2"},
			{"count_changes", "1"},
			{"full_column_names", "1"},
			{"automatic_index", "0"},
			{"ignore_check_constraints", "1"},
			{"secure_delete", "1"},
		},
	}
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		reader := d.tokenStore(t, d.open(t))
		for i, setting := range harmless[d.dialect] {
			t.Run(setting[0]+" "+setting[1], func(t *testing.T) {
				ctx := t.Context()
				db := d.openDSN(t, d.withSetting(setting[0], setting[1]))
				tokens, keys := d.tokenStore(t, db), d.keyStore(t, db)
				s := newSession(tokenID(i))
				s.AppID, s.Subject, s.UserAgent = "a\\' \"%_ é😀 ", `\'`, "\\u0000 ü"
				s.IdempotencyKeyHash = []byte{0, 0xff, '\\', '\'', 0x80}
				require.NoError(t, tokens.CreateSession(ctx, s))
				require.ErrorIs(t, tokens.CreateSession(ctx, s), renew.ErrSessionExists)
				next := successor(s)
				require.NoError(t, tokens.Rotate(ctx, s.TokenID, next))
				require.ErrorIs(t, tokens.Rotate(ctx, s.TokenID, next), renew.ErrConflict)
				for _, store := range []*sqlstore.TokenStore{reader, tokens} {
					got, err := store.Session(ctx, s.AppID, s.ID)
					require.NoError(t, err)
					require.Equal(t, next, got)
				}
				n, err := tokens.RevokeSubject(ctx, s.AppID, s.Subject, base)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				app := renew.App{ID: s.AppID + s.ID, Issuer: s.UserAgent[2:]}
				require.NoError(t, keys.CreateApp(ctx, app))
				key := newKey(t, renew.EdDSA)
				require.NoError(t, keys.RotateSigningKey(ctx, app.ID, key, base))
				requireSigns(t, keys, app.ID)
				_, err = keys.DeleteExpiredKeys(ctx, base)
				require.NoError(t, err)
				_, err = tokens.DeleteExpired(ctx, base, 10)
				require.NoError(t, err)
			})
		}
	})
}

// TestSQLiteInMemory promises that a database in memory of which every connection
// has its own is found out, and that one connection is enough for it.
func TestSQLiteInMemory(t *testing.T) {
	for name, c := range map[string]struct {
		dsn   string
		conns int
		works bool
	}{
		"a pool":         {":memory:?_pragma=busy_timeout(2000)", 4, false},
		"no limit":       {":memory:?_pragma=busy_timeout(2000)", 0, false},
		"one connection": {":memory:?_pragma=busy_timeout(2000)", 1, true},
		"shared":         {"file:shared?mode=memory&cache=shared&_pragma=busy_timeout(2000)", 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &database{backend: backends[0], dsn: c.dsn}
			db := d.open(t)
			db.SetMaxOpenConns(c.conns)
			d.migrate(t, db)
			_, err := sqlstore.NewTokenStore(t.Context(), db, d.dialect)
			if c.works {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "memory")
		})
	}
}

// TestSettingsThatMayLoseWrites promises that a server which may lose what it has
// acknowledged is in the log, with the setting, and that others are not.
func TestSettingsThatMayLoseWrites(t *testing.T) {
	for _, c := range []struct {
		backend    backend
		name       string
		set, reset []string
	}{
		{backends[1], "fsync", []string{"ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"}, []string{"ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()"}},
		{backends[2], "sync_binlog", []string{"SET GLOBAL sync_binlog = 0"}, []string{"SET GLOBAL sync_binlog = 1"}},
		{
			backends[2], "innodb_flush_log_at_trx_commit",
			[]string{"SET GLOBAL innodb_flush_log_at_trx_commit = 2"},
			[]string{"SET GLOBAL innodb_flush_log_at_trx_commit = 1"},
		},
		{
			backends[2], "rpl_semi_sync_master_timeout",
			[]string{"SET GLOBAL rpl_semi_sync_master_wait_no_slave = OFF", "SET GLOBAL rpl_semi_sync_master_enabled = ON"},
			[]string{"SET GLOBAL rpl_semi_sync_master_enabled = OFF", "SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := c.backend.empty(t)
			d.server.NeedPrivate(t)
			db := d.open(t)
			d.migrate(t, db)
			run := func(statements []string) {
				for _, statement := range statements {
					_, err := db.Exec(statement)
					require.NoError(t, err)
				}
			}
			log := captureLog(t)
			d.tokenStore(t, d.open(t))
			require.NotContains(t, log(), "sqlstore:")
			run(c.set)
			defer run(c.reset)
			require.Eventually(t, func() bool { // PostgreSQL reads its settings in its own time
				d.tokenStore(t, d.open(t))
				return strings.Contains(log(), c.name+"=")
			}, 10*time.Second, 50*time.Millisecond, log())
		})
	}
}

// TestSemiSyncNames promises the warning under both names that the setting has had.
func TestSemiSyncNames(t *testing.T) {
	for _, name := range []string{"rpl_semi_sync_master", "rpl_semi_sync_source"} {
		for timeout, warned := range map[string]bool{"10000": true, "3600000": false, "9223372036854775807": false, "18446744073709551615": false} {
			log := captureLog(t)
			sqlstore.WarnMySQL(t.Context(), map[string]string{
				"innodb_flush_log_at_trx_commit": "1", "log_bin": "ON", "sync_binlog": "1",
				name + "_enabled": "ON", name + "_timeout": timeout,
			})
			require.Equal(t, warned, strings.Contains(log(), name+"_timeout="+timeout), "%s %s", name, timeout)
		}
	}
}

// TestReadOnly promises that what cannot be written to is found out when a store is
// made.
func TestReadOnly(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		db := d.open(t)
		switch d.dialect {
		case sqlstore.SQLite:
			db = d.openDSN(t, d.dsn+"&mode=ro")
		case sqlstore.PostgreSQL:
			_, err := db.Exec("ALTER DATABASE " + d.name + " SET default_transaction_read_only = on")
			require.NoError(t, err)
			db = d.open(t)
		case sqlstore.MySQL:
			_, err := db.Exec("SET GLOBAL read_only = 1")
			require.NoError(t, err)
			defer func() {
				_, err := db.Exec("SET GLOBAL read_only = 0")
				require.NoError(t, err)
			}()
		}
		_, err := sqlstore.NewTokenStore(t.Context(), db, d.dialect)
		require.ErrorContains(t, err, "read")
		require.ErrorContains(t, err, "only")
	})
}

// TestTableEngine promises that tables which an option of the server has made
// without transactions are found out.
func TestTableEngine(t *testing.T) {
	d := backends[2].empty(t)
	db := d.open(t)
	d.migrate(t, db)
	_, err := db.Exec("ALTER TABLE renew_apps ENGINE = MyISAM")
	require.NoError(t, err)
	_, err = sqlstore.NewTokenStore(t.Context(), db, d.dialect)
	require.ErrorContains(t, err, "MyISAM")
}

// TestMigrateWithFewRights promises that the account which the documentation
// recommends may call Migrate on tables that are up to date.
func TestMigrateWithFewRights(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		statements := []string{
			"CREATE ROLE few LOGIN", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO few", "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
		}
		dsn := strings.Replace(d.dsn, "postgres://postgres@", "postgres://few@", 1)
		if d.dialect == sqlstore.MySQL {
			statements = []string{"CREATE USER few@localhost", "GRANT SELECT, INSERT, UPDATE, DELETE ON " + d.name + ".* TO few@localhost"}
			dsn = strings.Replace(d.dsn, "root@", "few@", 1)
		}
		for _, statement := range statements {
			_, err := db.Exec(statement)
			require.NoError(t, err)
		}
		few := d.openDSN(t, dsn)
		d.migrate(t, few)
		requireUsable(t, d, few)
	})
}

// TestSchemaInFront promises that a schema which is made later, and stands before
// that of the tables on the path, is found out: it would silently get empty
// tables.
func TestSchemaInFront(t *testing.T) {
	d := backends[1].empty(t)
	d.migrate(t, d.open(t))
	db := d.open(t)
	_, err := db.Exec("CREATE SCHEMA postgres") // named like the role
	require.NoError(t, err)
	_, err = db.Exec("DELETE FROM public.renew_schema WHERE version > 1") // an earlier version
	require.NoError(t, err)
	err = sqlstore.Migrate(t.Context(), db, d.dialect)
	require.ErrorContains(t, err, "schema public")
	require.ErrorContains(t, err, "search_path")
	_, err = db.Exec("CREATE TABLE postgres.renew_sessions (id INT)")
	require.NoError(t, err)
	_, err = sqlstore.NewTokenStore(t.Context(), db, d.dialect)
	require.ErrorContains(t, err, "postgres, public")
}

// TestLongestSession promises that a server which does not take the longest session
// that a Renewer makes is found out, and not by the first user who has one.
func TestLongestSession(t *testing.T) {
	d := backends[2].empty(t)
	d.server.NeedPrivate(t)
	db := d.open(t)
	d.migrate(t, db)
	var usual int
	require.NoError(t, db.QueryRow("SELECT @@GLOBAL.max_allowed_packet").Scan(&usual))
	set := func(n int) {
		_, err := db.Exec(fmt.Sprintf("SET GLOBAL max_allowed_packet = %d", n))
		require.NoError(t, err)
	}
	set(16384)
	defer set(usual)
	_, err := sqlstore.NewTokenStore(t.Context(), d.open(t), d.dialect)
	require.ErrorContains(t, err, "store a session on trial")
}

// TestUnknownDriver promises that a driver whose errors are not recognized is
// found out: with it a taken ID would be an internal error.
func TestUnknownDriver(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		plain := d.open(t)
		w := &watch{disguise: true}
		db := sql.OpenDB(&watchedConnector{plain.Driver(), d.dsn, w})
		defer func() { _ = db.Close() }()
		_, err := sqlstore.NewTokenStore(t.Context(), db, d.dialect)
		require.ErrorContains(t, err, "not recognized")
	})
}

// TestSQLiteFile promises that a file which may not be written is found out.
func TestSQLiteFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write to every file")
	}
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	require.NoError(t, os.Chmod(filepath.Clean(d.name), 0o400))
	_, err := sqlstore.NewTokenStore(t.Context(), d.open(t), d.dialect)
	require.ErrorContains(t, err, "read-only")
}
