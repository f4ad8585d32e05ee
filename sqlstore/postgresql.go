package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// checkPostgreSQL goes by the list of pg_settings: what changes the meaning of a
// statement, of the text in it, or of its success. Other settings that a connection
// or a role may have do not matter to these statements.
func checkPostgreSQL(ctx context.Context, c *checker) error {
	set, err := c.settings(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('server_encoding', 'client_encoding',
		'default_transaction_isolation', 'default_transaction_read_only', 'fsync', 'synchronous_commit', 'synchronous_standby_names', 'server_version_num')
		UNION ALL SELECT 'standby', CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END`)
	if err != nil {
		return err
	}
	version, _ := strconv.Atoi(set["server_version_num"]) // CockroachDB and others may say something else
	commit := set["synchronous_commit"]
	switch {
	case version != 0 && version < 120000:
		return fmt.Errorf("the server is PostgreSQL %d, but must be 12 or later", version/10000)
	case set["server_encoding"] != "UTF8":
		return fmt.Errorf("the database's encoding is %s, but must be UTF8 to keep every name", set["server_encoding"])
	case set["client_encoding"] != "UTF8":
		return fmt.Errorf("the connection's client_encoding is %s, but must be UTF8", set["client_encoding"])
	case set["standby"] == "on":
		return errors.New("the server is a standby; give the stores the primary, with target_session_attrs=read-write where the data source name has several hosts")
	case set["default_transaction_read_only"] == "on":
		return errors.New("the connection is read-only: set default_transaction_read_only to off, for the role, the database or in the data source name")
	case set["default_transaction_isolation"] != "read committed" && set["default_transaction_isolation"] != "read uncommitted":
		return fmt.Errorf("default_transaction_isolation is %s, in which concurrent renewals fail; set it to 'read committed', for the role, the database or in the data source name",
			set["default_transaction_isolation"])
	case commit == "off", commit == "local" && set["synchronous_standby_names"] != "":
		return fmt.Errorf("synchronous_commit is %s, so that a crash takes back what was acknowledged; set it to on, for the role, the database or in the data source name", commit)
	}
	if c.tables {
		if set["fsync"] == "off" {
			slog.Default().WarnContext(ctx, "sqlstore: a crash may destroy the database; set fsync to on", "fsync", "off")
		}
		if err := checkSchemas(ctx, c); err != nil {
			return err
		}
		return c.repeated(ctx, true, func(ctx context.Context) error { return checkPooler(ctx, c) })
	}
	return nil
}

// tableSchemas are the schemas on the path that have the tables; the first is the
// one in use.
const tableSchemas = `SELECT n.nspname FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
	WHERE t.relname = $1 AND t.relkind IN ('r', 'p') AND n.nspname = ANY (current_schemas(false))
	ORDER BY array_position(current_schemas(false), n.nspname)`

func checkSchemas(ctx context.Context, c *checker) error {
	schemas, err := readStrings(ctx, c.runner, tableSchemas, c.prefix+"sessions")
	if err != nil {
		return fmt.Errorf("look for the tables: %w", err)
	}
	if len(schemas) > 1 {
		return fmt.Errorf("the schemas %s have the tables %s..., and which ones are used depends on the connection's search_path; drop those that are not, or set search_path",
			strings.Join(schemas, ", "), c.prefix)
	}
	return nil
}

// checkMigrationSchema rejects to make tables in front of others: in a schema named
// like the role, for example, that was made after the tables.
func checkMigrationSchema(ctx context.Context, tx execer, prefix string) error {
	var current, found sql.NullString
	if err := tx.QueryRowContext(ctx, "SELECT current_schema(), ("+tableSchemas+" LIMIT 1)", prefix+"sessions").Scan(&current, &found); err != nil {
		return fmt.Errorf("look for the tables: %w", err)
	}
	switch {
	case !current.Valid:
		return errors.New("no schema of the connection's search_path exists")
	case found.Valid && found.String != current.String:
		return fmt.Errorf("the tables %s... are in the schema %s, but the connection's search_path says %s; set search_path", prefix, found.String, current.String)
	}
	return nil
}

func readStrings(ctx context.Context, r *runner, query string, args ...any) ([]string, error) {
	var all []string
	err := r.query(ctx, &stmt{query: query}, func(rows *sql.Rows) error {
		var read []string
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			read = append(read, s)
		}
		all = read
		return rows.Err()
	}, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// checkPooler finds out a pooler that gives the statements of one connection to
// several of the server's and cannot prepare them on each. While another
// connection holds the server's connection that the first one had, the first one
// gets another one, and the statement prepared before is not there.
func checkPooler(ctx context.Context, c *checker) error {
	if c.db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	first, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = first.Close() }() // it goes back to the pool
	const query = "SELECT pg_backend_pid() WHERE $1 = 1"
	var on querier = textOn{first, query}
	if c.prepares {
		prepared, err := first.PrepareContext(ctx, query)
		if err != nil {
			return fmt.Errorf("prepare a statement: %w", err)
		}
		defer func() { _ = prepared.Close() }() // of a connection that is there or not
		on = prepared
	}
	if err := runOnce(ctx, on); err != nil {
		return fmt.Errorf("run a statement: %w", err)
	}
	second, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = second.Rollback() }() // nothing to keep
	if err := runOnce(ctx, textOn{second, query}); err != nil {
		return err
	}
	// A pooler with one connection has the first one wait for the second.
	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := runOnce(brief, on); err != nil && brief.Err() == nil {
		return err
	}
	return nil
}

func runOnce(ctx context.Context, on querier) error {
	return queryOn(ctx, on, func(rows *sql.Rows) error {
		for rows.Next() {
		}
		return rows.Err()
	}, []any{1})
}

// exclusivelyPostgreSQL takes a lock that ends with the transaction, so that it
// works through a pooler of transactions too.
func exclusivelyPostgreSQL(ctx context.Context, db *sql.DB, name string, f func(execer) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return notBegun{err}
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after a commit
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name); err != nil {
		return fmt.Errorf("acquire the migration lock: %w", notBegun{err})
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}
