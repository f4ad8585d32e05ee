package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// mattnError has the form of an error of mattn/go-sqlite3.
type mattnError struct {
	Code         int
	ExtendedCode int
}

func (mattnError) Error() string { return "database is locked" }

// TestRetries promises what is tried again: what the database says it has undone
// always, and what may or may not have happened only where that does no harm.
func TestRetries(t *testing.T) {
	const never, idempotentOnly, always = "never", "if idempotent", "always"
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"PostgreSQL serialization failure", &pgconn.PgError{Code: "40001"}, always},
		{"PostgreSQL deadlock", &pgconn.PgError{Code: "40P01"}, always},
		{"wrapped", fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: "40P01"}), always},
		{"PostgreSQL outcome unknown", &pgconn.PgError{Code: "40003"}, never},
		{"PostgreSQL shutdown", &pgconn.PgError{Code: "57P01"}, idempotentOnly},
		{"PostgreSQL starting", &pgconn.PgError{Code: "57P03"}, idempotentOnly},
		{"PostgreSQL connection failure", &pgconn.PgError{Code: "08006"}, idempotentOnly},
		{"PostgreSQL read-only", &pgconn.PgError{Code: "25006"}, never},
		{"PostgreSQL disk full", &pgconn.PgError{Code: "53100"}, never},
		{"MySQL deadlock", &mysql.MySQLError{Number: 1213, SQLState: [5]byte{'4', '0', '0', '0', '1'}}, always},
		{"MariaDB snapshot", &mysql.MySQLError{Number: 1020}, always},
		{"MySQL lock wait timeout", &mysql.MySQLError{Number: 1205}, never},
		{"MySQL shutdown", &mysql.MySQLError{Number: 1053}, idempotentOnly},
		{"MySQL broken connection", mysql.ErrInvalidConn, idempotentOnly},
		{"MySQL unknown column", &mysql.MySQLError{Number: 1054}, never},
		{"SQLite busy", mattnError{5, 5 | 2<<8}, always},
		{"SQLite locked", mattnError{6, 6}, always},
		{"SQLite disk full", mattnError{13, 13}, never},
		{"end of file", io.ErrUnexpectedEOF, idempotentOnly},
		{"connection reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, idempotentOnly},
		{"cancelled", context.Canceled, never},
		{"too late", context.DeadlineExceeded, never},
		{"no row", sql.ErrNoRows, never},
		{"transaction is over", sql.ErrTxDone, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, idempotent := range []bool{false, true} {
				calls := 0
				err := repeatOnce(t.Context(), dialectOf(c.name), idempotent, func() error {
					if calls++; calls == 1 {
						return c.err
					}
					return nil
				})
				if again := c.want == always || c.want == idempotentOnly && idempotent; again {
					require.NoError(t, err)
					require.Equal(t, 2, calls)
				} else {
					require.ErrorIs(t, err, c.err)
					require.Equal(t, 1, calls)
				}
			}
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	calls := 0
	deadlock := &pgconn.PgError{Code: "40P01"}
	require.ErrorIs(t, repeatOnce(t.Context(), PostgreSQL, true, func() error { calls++; return deadlock }), deadlock)
	require.Equal(t, maxAttempts, calls)
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	_, err := detached(ctx, time.Minute, func(c *call) (struct{}, error) {
		return repeat(c, &runner{dialect: dialects[PostgreSQL], db: new(sql.DB)}, true, false, func() (struct{}, error) {
			calls++
			cancel()
			return struct{}{}, deadlock
		})
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, calls, "not after the context's end")
}

// TestClasses promises what each error is taken for, whatever the driver's form of
// it: a method SQLState, a field Number, a method Code, a field or a method
// ExtendedCode.
func TestClasses(t *testing.T) {
	for _, c := range []struct {
		dialect Dialect
		err     error
		want    class
	}{
		{PostgreSQL, &pgconn.PgError{Code: "23505"}, duplicate},
		{PostgreSQL, &pgconn.PgError{Code: "23503"}, other},
		{PostgreSQL, &pgconn.PgError{Code: "25006"}, unfit},
		{PostgreSQL, &pgconn.PgError{Code: "0A000"}, stale},
		{PostgreSQL, &pgconn.PgError{Code: "25P02", Severity: "ERROR"}, unfit},
		{PostgreSQL, &pgconn.PgError{Code: "08P01", Severity: "ERROR"}, stale},
		{PostgreSQL, &pgconn.PgError{Code: "08P01", Severity: "FATAL"}, broken},
		{PostgreSQL, &pgconn.PgError{Code: "57P05", Severity: "FATAL"}, broken},
		{MySQL, &mysql.MySQLError{Number: 1062}, duplicate},
		{MySQL, &mysql.MySQLError{Number: 1874}, unfit},
		{MySQL, &mysql.MySQLError{Number: 3101}, undone},
		{MySQL, &mysql.MySQLError{Number: 1048}, other},
		{MySQL, &mysql.MySQLError{Number: 1290}, unfit},
		{MySQL, &mysql.MySQLError{Number: 1836}, unfit},
		{SQLite, mattnError{19, 19 | 6<<8}, duplicate},
		{SQLite, mattnError{19, 19 | 8<<8}, duplicate},
		{SQLite, mattnError{19, 19 | 5<<8}, other},
		{SQLite, mattnError{8, 8 | 1<<8}, unfit},
		{SQLite, mattnError{15, 15}, undone},
		{SQLite, ncrucesError(19 | 6<<8), duplicate},
		{SQLite, ncrucesError(5 | 1<<8), undone},
		{SQLite, fmt.Errorf("wrapped: %w", ncrucesError(8)), unfit},
		{SQLite, errors.Join(io.EOF, ncrucesError(19|6<<8)), duplicate},
		{SQLite, io.EOF, broken},
		{SQLite, nil, other},
	} {
		require.Equal(t, c.want, dialects[c.dialect].classify(c.err), "%s: %v", c.dialect, c.err)
	}
}

// ncrucesError has the form of an error of ncruces/go-sqlite3.
type ncrucesError uint16

func (ncrucesError) Error() string          { return "sqlite3" }
func (e ncrucesError) ExtendedCode() uint16 { return uint16(e) }
func (e ncrucesError) Code() uint8          { return uint8(e) }

func dialectOf(name string) Dialect {
	switch {
	case strings.HasPrefix(name, "MySQL"), strings.HasPrefix(name, "MariaDB"):
		return MySQL
	case strings.HasPrefix(name, "SQLite"):
		return SQLite
	}
	return PostgreSQL
}

// repeatOnce repeats a statement that only reads.
func repeatOnce(ctx context.Context, name Dialect, idempotent bool, f func() error) error {
	r := &runner{dialect: dialects[name], db: new(sql.DB), timeout: time.Minute}
	_, err := detached(ctx, r.timeout, func(c *call) (struct{}, error) {
		return repeat(c, r, idempotent, false, func() (struct{}, error) { return struct{}{}, f() })
	})
	return err
}
