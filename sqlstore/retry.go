package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"reflect"
	"time"
)

// A statement is tried this often, with a pause in between that doubles.
const (
	maxAttempts = 6
	firstPause  = 2 * time.Millisecond
)

// retry calls f until it succeeds or fails for good. Every statement that the
// database says it has undone is tried again; with idempotent also one that may
// or may not have happened.
func retry(ctx context.Context, idempotent bool, f func() error) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt == maxAttempts || ctx.Err() != nil {
			return err
		}
		if !isUndone(err) && !(idempotent && isBrokenConnection(err)) {
			return err
		}
		// Those who ran into each other must not meet again.
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // no secret
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause *= 2
	}
}

// isUndone reports whether the database says that it has not done the statement,
// or has undone it, for the sake of another.
func isUndone(err error) bool {
	switch code := codeOf(err); {
	case code.state == "40001", // serialization failure
		code.state == "40P01",            // PostgreSQL: deadlock
		code.mysql == 1213,               // deadlock; on a cluster, certification failure
		code.mysql == 1020,               // MariaDB: the row has changed since the snapshot
		code.sqlite&0xff == sqliteBusy,   // another process writes, for longer than the busy timeout
		code.sqlite&0xff == sqliteLocked: // another connection of a shared cache writes
		return true
	}
	return false
}

// isDuplicate reports whether a row of this primary key exists.
func isDuplicate(err error) bool {
	code := codeOf(err)
	return code.state == "23505" || code.mysql == 1062 ||
		code.sqlite == sqlitePrimaryKey || code.sqlite == sqliteUnique
}

// isBrokenConnection reports whether the error came not from the database but on
// the way to it, or from a database that is going down or coming up.
func isBrokenConnection(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, sql.ErrNoRows) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) {
		return false
	}
	code := codeOf(err)
	switch {
	case code == errorCode{}:
		return true
	case code.mysql == 1053, code.mysql == 1927: // shutdown; MariaDB: connection was killed
		return true
	case len(code.state) != 5 || code.mysql != 0:
		return false
	}
	switch code.state {
	case "57P01", "57P02", "57P03": // shut down, crashed, starting
		return true
	}
	return code.state[:2] == "08" // connection exception
}

// SQLite's result codes.
const (
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqlitePrimaryKey = 19 | 6<<8
	sqliteUnique     = 19 | 8<<8
)

// errorCode is what a database calls an error; one field at most is set.
type errorCode struct {
	state  string // SQLSTATE
	mysql  uint64
	sqlite int64
}

// codeOf finds the code in a driver's error by its form: drivers are the user's
// choice, and none is imported here for its error type. It knows jackc/pgx and
// lib/pq (a method SQLState), go-sql-driver/mysql (a field Number),
// modernc.org/sqlite (a method Code) and mattn/go-sqlite3 (a field
// ExtendedCode).
func codeOf(err error) errorCode {
	var withState interface{ SQLState() string }
	if errors.As(err, &withState) {
		return errorCode{state: withState.SQLState()}
	}
	var withCode interface{ Code() int }
	if errors.As(err, &withCode) {
		return errorCode{sqlite: int64(withCode.Code())}
	}
	for ; err != nil; err = errors.Unwrap(err) {
		v := reflect.Indirect(reflect.ValueOf(err))
		if v.Kind() != reflect.Struct {
			continue
		}
		if number := v.FieldByName("Number"); number.IsValid() && number.CanUint() {
			return errorCode{mysql: number.Uint()}
		}
		if extended := v.FieldByName("ExtendedCode"); extended.IsValid() && extended.CanInt() {
			return errorCode{sqlite: extended.Int()}
		}
	}
	return errorCode{}
}
