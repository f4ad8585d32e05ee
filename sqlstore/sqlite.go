package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// checkSQLite goes by the list of pragmas that a connection may have.
func checkSQLite(ctx context.Context, c *checker) error {
	set, err := c.settings(ctx, `SELECT 'busy_timeout', timeout FROM pragma_busy_timeout
		UNION ALL SELECT 'query_only', query_only FROM pragma_query_only
		UNION ALL SELECT 'read_uncommitted', read_uncommitted FROM pragma_read_uncommitted
		UNION ALL SELECT 'locking_mode', locking_mode FROM pragma_locking_mode`)
	if err != nil {
		return err
	}
	busy, _ := strconv.Atoi(set["busy_timeout"])
	switch {
	case busy <= 0:
		return errors.New(`the connections have no busy timeout, so that a second writer fails immediately; with modernc.org/sqlite add "_pragma=busy_timeout(2000)" to the data source name`)
	case set["query_only"] == "1":
		return errors.New("the connection is read-only: the pragma query_only is on")
	case set["read_uncommitted"] == "1":
		return errors.New("the pragma read_uncommitted is on, so that what is read may never be committed")
	case set["locking_mode"] == "exclusive":
		return errors.New("the pragma locking_mode is exclusive, so that a second connection fails")
	}
	// These read the file.
	if set, err = c.settings(ctx, `SELECT 'synchronous', synchronous FROM pragma_synchronous
		UNION ALL SELECT 'encoding', encoding FROM pragma_encoding
		UNION ALL SELECT 'journal_mode', journal_mode FROM pragma_journal_mode
		UNION ALL SELECT 'file', file FROM pragma_database_list WHERE name = 'main'`); err != nil {
		return err
	}
	synchronous, _ := strconv.Atoi(set["synchronous"])
	inMemory := set["file"] == ""
	switch {
	case set["encoding"] != "UTF-8":
		return fmt.Errorf("the database's encoding is %s, but must be UTF-8", set["encoding"])
	case !inMemory && (set["journal_mode"] == "memory" || set["journal_mode"] == "off"):
		return fmt.Errorf("the pragma journal_mode is %s, so that a crash destroys the database; leave it at WAL", set["journal_mode"])
	case !inMemory && synchronous == 0:
		return errors.New("the pragma synchronous is OFF, so that a crash of the machine may destroy the database; set it to FULL")
	case !inMemory && synchronous == 1: // the default of some drivers
		slog.Default().WarnContext(ctx, "sqlstore: the pragma synchronous is NORMAL, so that a crash of the machine, though not of the process, "+
			"takes back what was acknowledged; set it to FULL")
	}
	if c.tables && inMemory {
		return checkMemory(ctx, c)
	}
	return nil
}

// checkMemory finds out a database in memory of which every connection has its
// own.
func checkMemory(ctx context.Context, c *checker) error {
	if c.db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	var conns []*sql.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close() // it goes back to the pool
		}
	}()
	for range 2 {
		conn, err := c.db.Conn(ctx)
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		var n int
		if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE name = ?", c.prefix+"sessions").Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errors.New("the database is in memory, and every connection has its own (or Migrate was not run); call SetMaxOpenConns(1), or use a file")
		}
	}
	return nil
}

// exclusivelySQLite starts with the lock that others only take to write: to take
// it later would fail where another has written since. It waits longer than the
// busy timeout, if ctx does. The switch to the write-ahead log stays in the file,
// and cannot be made in a transaction.
func exclusivelySQLite(ctx context.Context, db *sql.DB, _ string, f func(execer) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	for _, statement := range []string{"PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE"} {
		if err := untilNotBusy(ctx, func() error {
			_, err := conn.ExecContext(ctx, statement)
			return err
		}); err != nil {
			return fmt.Errorf("acquire the migration lock: %w", err)
		}
	}
	if err := f(conn); err != nil {
		return errors.Join(err, cleanUp(ctx, conn, "ROLLBACK"))
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return errors.Join(err, cleanUp(ctx, conn, "ROLLBACK"))
	}
	return nil
}

func untilNotBusy(ctx context.Context, f func() error) error {
	const pause = 20 * time.Millisecond
	for {
		err := f()
		if sqliteCode(err) != sqliteBusy {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
