package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

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
				err := retry(t.Context(), idempotent, func() error {
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
	require.ErrorIs(t, retry(t.Context(), true, func() error { calls++; return deadlock }), deadlock)
	require.Equal(t, maxAttempts, calls)
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	require.ErrorIs(t, retry(ctx, true, func() error { calls++; cancel(); return deadlock }), deadlock)
	require.Equal(t, 1, calls, "not after the context's end")
}

func TestDuplicates(t *testing.T) {
	for _, err := range []error{
		&pgconn.PgError{Code: "23505"}, &mysql.MySQLError{Number: 1062}, mattnError{19, 19 | 6<<8}, mattnError{19, 19 | 8<<8},
	} {
		require.True(t, isDuplicate(err), "%v", err)
	}
	for _, err := range []error{nil, errors.New("x"), io.EOF, &pgconn.PgError{Code: "23503"}, &mysql.MySQLError{Number: 1048}, mattnError{19, 19 | 5<<8}} {
		require.False(t, isDuplicate(err), "%v", err)
	}
}
