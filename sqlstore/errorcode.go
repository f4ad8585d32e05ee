package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"strconv"
)

// class is what an error of the database means for the statement.
type class int

const (
	other     class = iota
	duplicate       // a row of this primary key exists
	undone          // not done, or undone for the sake of another statement
	broken          // the connection broke, or the database is going down or coming up: it may or may not be done
	unfit           // not done, and not to be done on this connection
	stale           // not done, because of the prepared statement
)

// SQLite's result codes.
const (
	sqliteBusy       = "5"
	sqliteLocked     = "6"
	sqliteReadOnly   = "8"
	sqliteProtocol   = "15"
	sqliteSchema     = "17"
	sqlitePrimaryKey = "1555" // 19 | 6<<8
	sqliteUnique     = "2067" // 19 | 8<<8
)

// classify returns what an error means. Drivers are the user's choice, and none is
// imported here: an error's code is found by the form of the error.
func (d *dialect) classify(err error) class {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, sql.ErrNoRows) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) ||
		errors.Is(err, errLost) {
		return other
	}
	if errors.Is(err, driver.ErrBadConn) { // after database/sql has tried again: nothing was done
		return broken
	}
	code := d.code(err)
	if code == "" {
		return broken
	}
	if class, known := d.codes[code]; known {
		return class
	}
	if d.broken(code) {
		return broken
	}
	return other
}

// sqlState returns the SQLSTATE of an error of PostgreSQL: jackc/pgx and lib/pq
// have a method SQLState.
//
// A protocol violation that is fatal is PgBouncer's word for a server's connection
// that broke, and not for a prepared statement: the statement may have happened.
func sqlState(err error) string {
	const protocolViolation, connectionFailure = "08P01", "08006"
	var coded interface {
		error
		SQLState() string
	}
	if !errors.As(err, &coded) {
		return ""
	}
	if severity := member(reflect.ValueOf(coded), "Severity"); coded.SQLState() == protocolViolation &&
		severity.IsValid() && severity.Kind() == reflect.String && severity.String() == "FATAL" {
		return connectionFailure
	}
	return coded.SQLState()
}

// mysqlNumber returns the number of an error of MySQL: go-sql-driver/mysql has a
// field Number.
func mysqlNumber(err error) string {
	return findCode(err, "Number")
}

// sqliteCode returns SQLite's code of an error: the extended one, if it is of a
// constraint, and the primary one otherwise. modernc.org/sqlite has a method Code
// with the extended code, mattn/go-sqlite3 has a field ExtendedCode, and
// ncruces/go-sqlite3 has methods ExtendedCode and Code.
func sqliteCode(err error) string {
	const constraint = 19
	text := findCode(err, "ExtendedCode", "Code")
	code, parseErr := strconv.ParseUint(text, 10, 64)
	if parseErr != nil || code&0xff == constraint {
		return text
	}
	return strconv.FormatUint(code&0xff, 10)
}

// findCode returns the first of these methods or fields that an error in the tree
// has and that is a whole number.
func findCode(err error, names ...string) string {
	if err == nil {
		return ""
	}
	v := reflect.ValueOf(err)
	for _, name := range names {
		if code := number(member(v, name)); code != "" {
			return code
		}
	}
	switch wrapper := err.(type) { //nolint:errorlint // it walks the tree itself
	case interface{ Unwrap() error }:
		return findCode(wrapper.Unwrap(), names...)
	case interface{ Unwrap() []error }:
		for _, err := range wrapper.Unwrap() {
			if code := findCode(err, names...); code != "" {
				return code
			}
		}
	}
	return ""
}

// member returns what a method without arguments returns, or a field's value.
func member(v reflect.Value, name string) reflect.Value {
	if m := v.MethodByName(name); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
		return m.Call(nil)[0]
	}
	if v = reflect.Indirect(v); v.Kind() == reflect.Struct {
		return v.FieldByName(name)
	}
	return reflect.Value{}
}

func number(v reflect.Value) string {
	switch {
	case !v.IsValid():
		return ""
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	}
	return ""
}
