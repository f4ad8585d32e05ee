package jwtplus

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The tables that are read. A fifth one, settings, holds nothing that is taken over.
const (
	TableApps   = "apps"
	TableKeys   = "app_keys"
	TableTokens = "tokens"
)

// Source is the database of a JWTPlus server, which is only read. It is safe for
// concurrent use.
type Source struct {
	db *sql.DB
}

// NewSource returns the source that db is, a MySQL or MariaDB database opened with a
// driver of the caller's choice. db stays the caller's: set its pool, and close it
// afterwards. Its user needs to be allowed SELECT and nothing else. The character set
// of the connection must be utf8mb4, which is the default of go-sql-driver/mysql;
// [Import] returns an error for any other.
func NewSource(db *sql.DB) *Source { return &Source{db: db} }

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// snapshot begins a transaction that sees the database as it is at its first read.
// Nothing is written and no row is locked.
func (s *Source) snapshot(ctx context.Context) (*sql.Tx, error) {
	if s == nil || s.db == nil {
		return nil, errors.New("the source is nil")
	}
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	if err := errors.Join(checkEncoding(ctx, tx), checkEngines(ctx, tx)); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return tx, nil
}

// checkEncoding rejects a connection that changes text: an app's name would be
// another issuer.
func checkEncoding(ctx context.Context, q querier) error {
	var set []sql.NullString
	err := scan(ctx, q, 2, func(row []sql.NullString) { set = row }, "SELECT @@character_set_client, @@character_set_results")
	if err != nil {
		return fmt.Errorf("read the settings of the connection: %w", err)
	}
	for _, encoding := range set {
		if encoding.String != "utf8mb4" {
			return fmt.Errorf("the character set of the connection is %s, but must be utf8mb4: set it in the data source name", encoding.String)
		}
	}
	return nil
}

// checkEngines rejects tables that are missing, or whose engine has no snapshot.
func checkEngines(ctx context.Context, q querier) error {
	engines := map[string]string{}
	err := scan(ctx, q, 2, func(row []sql.NullString) {
		engines[strings.ToLower(row[0].String)] = row[1].String
	}, `SELECT table_name, engine FROM information_schema.tables
		WHERE table_schema = DATABASE() AND table_name IN (?, ?, ?)`, TableApps, TableKeys, TableTokens)
	if err != nil {
		return fmt.Errorf("read tables: %w", err)
	}
	for _, table := range []string{TableApps, TableKeys, TableTokens} {
		switch engine, found := engines[table]; {
		case !found:
			return fmt.Errorf("the database has no table %s: it is not JWTPlus's", table)
		case !strings.EqualFold(engine, "InnoDB"):
			return fmt.Errorf("the table %s is not InnoDB: it cannot be read in one consistent snapshot", table)
		}
	}
	return nil
}

// scan calls f with the columns of each row. Every column is read as text: what
// stands in it is judged by this package, not by the driver.
func scan(ctx context.Context, q querier, columns int, f func([]sql.NullString), query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		row := make([]sql.NullString, columns)
		into := make([]any, columns)
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		f(row)
	}
	return rows.Err()
}

// table is how one of the tables is read.
type table struct {
	name    string
	key     string // the primary key
	columns []string
}

var (
	appTable = table{TableApps, "app_id", []string{
		"app_id", "app_name", "app_key", "token_expiry", "token_nbf", "refresh_expiry", "refresh_nbf",
	}}
	keyTable = table{TableKeys, "key_id", []string{
		"key_id", "app_id", "public_key", "private_key", "key_algo", "is_revoked", "is_expired",
	}}
	tokenTable = table{TableTokens, "token_id", []string{
		"token_id", "apps_id", "key_id", "sub", "auth_token", "refresh_token",
		"refresh_token_iat", "refresh_token_nbf", "refresh_token_exp", "ip_address", "user_agent",
	}}
	// issuerTable is of the tokens what the issuers are found with.
	issuerTable = table{TableTokens, "token_id", []string{"token_id", "apps_id", "refresh_token"}}
)

func (t table) selects() string {
	return "SELECT " + strings.Join(t.columns, ", ") + " FROM " + t.name
}

// row is a row of a table, its columns by their name.
type row map[string]sql.NullString

func (t table) row(columns []sql.NullString) row {
	r := make(row, len(columns))
	for i, name := range t.columns {
		r[name] = columns[i]
	}
	return r
}

func (r row) text(column string) string { return r[column].String }

// seconds returns an integer from 0 that a column holds.
func (r row) seconds(column string) (n int64, ok bool) {
	n, err := strconv.ParseInt(r.text(column), 10, 64)
	return n, err == nil && n >= 0 && n <= maxSeconds
}

// maxSeconds is the last time that JSON has in four digits of a year, 9999-12-31.
// It is far from where a time in nanoseconds or milliseconds overflows.
const maxSeconds = 253402300799

// null returns the first of the columns that is NULL.
func (r row) null(columns ...string) (column string, found bool) {
	for _, name := range columns {
		if !r[name].Valid {
			return name, true
		}
	}
	return "", false
}

// repeated selects the keys that several rows have. A primary key allows none; a copy
// of the table may have lost it.
func (t table) repeated() string {
	return "(SELECT " + t.key + " FROM " + t.name + " WHERE " + t.key + " IS NOT NULL GROUP BY " + t.key + " HAVING COUNT(*) > 1)"
}

// isUnique reports whether no two rows have the same key. Keys are compared by the
// database here and everywhere, so that no row is missed whatever its collation.
func (t table) isUnique(ctx context.Context, q querier) (bool, error) {
	var distinct, all string
	err := scan(ctx, q, 2, func(row []sql.NullString) { distinct, all = row[0].String, row[1].String },
		"SELECT COUNT(DISTINCT "+t.key+"), COUNT("+t.key+") FROM "+t.name)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", t.name, err)
	}
	return distinct == all, nil
}

// batches calls f with all rows whose key is unique and not NULL, in batches by the
// key.
func (t table) batches(ctx context.Context, q querier, size int, f func([]row) error) error {
	unique, err := t.isUnique(ctx, q)
	if err != nil {
		return err
	}
	condition := t.key + " IS NOT NULL"
	if !unique {
		condition += " AND " + t.key + " NOT IN " + t.repeated()
	}
	var last []any
	for {
		query := condition + " ORDER BY " + t.key + " LIMIT ?"
		if last != nil {
			query = t.key + " > ? AND " + query
		}
		batch, err := t.where(ctx, q, query, append(last, size)...)
		if err == nil && len(batch) > 0 {
			err = f(batch)
		}
		if err != nil || len(batch) < size {
			return err
		}
		last = []any{batch[size-1].text(t.key)}
	}
}

// leftOut calls f with the key of each row that batches leaves out. The key is NULL,
// or other rows have it too.
func (t table) leftOut(ctx context.Context, q querier, f func(key sql.NullString)) error {
	unique, err := t.isUnique(ctx, q)
	if err != nil {
		return err
	}
	query := "SELECT " + t.key + " FROM " + t.name + " WHERE " + t.key + " IS NULL"
	if !unique {
		query += " OR " + t.key + " IN " + t.repeated()
	}
	if err := scan(ctx, q, 1, func(row []sql.NullString) { f(row[0]) }, query); err != nil {
		return fmt.Errorf("read %s: %w", t.name, err)
	}
	return nil
}

func (t table) count(ctx context.Context, q querier) (n int, err error) {
	err = scan(ctx, q, 1, func(row []sql.NullString) { n, _ = strconv.Atoi(row[0].String) },
		"SELECT COUNT(*) FROM "+t.name)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", t.name, err)
	}
	return n, nil
}

// all returns the rows that batches reads, in one slice: of a table that is small.
func (t table) all(ctx context.Context, q querier) ([]row, error) {
	const size = 500
	var rows []row
	err := t.batches(ctx, q, size, func(batch []row) error {
		rows = append(rows, batch...)
		return nil
	})
	return rows, err
}

// where returns the rows for which a condition holds.
func (t table) where(ctx context.Context, q querier, condition string, args ...any) ([]row, error) {
	var rows []row
	err := scan(ctx, q, len(t.columns), func(columns []sql.NullString) { rows = append(rows, t.row(columns)) },
		t.selects()+" WHERE "+condition, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.name, err)
	}
	return rows, nil
}
