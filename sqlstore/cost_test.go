package sqlstore_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// watchedRenewer is a Renewer whose two stores are watched apart.
func watchedRenewer(t *testing.T, d *database, interval time.Duration) (r renewer, tokens, keys *watch, db *sql.DB) {
	t.Helper()
	d.prepare(t)
	tokenDB, tokens := d.openWatched(t)
	keyDB, keys := d.openWatched(t)
	made, err := renew.New(d.keyStore(t, keyDB, sqlstore.WithStatusInterval(interval)), d.tokenStore(t, tokenDB))
	require.NoError(t, err)
	return renewer{made}, tokens, keys, d.open(t)
}

// TestStatementsPerRenewal promises what reaches the database for one renewal:
// one SELECT and one UPDATE, both prepared before, and no transaction around
// them; with a status interval nothing for keys, without one four SELECTs. And
// one row per session, however often it is renewed.
func TestStatementsPerRenewal(t *testing.T) {
	for _, c := range []struct {
		interval time.Duration
		forKeys  int
	}{{time.Hour, 0}, {0, 4}} {
		t.Run("status interval "+c.interval.String(), func(t *testing.T) {
			onEach(t, func(t *testing.T, d *database) {
				const renewals = 50
				r, tokens, keys, db := watchedRenewer(t, d, c.interval)
				b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
				require.NoError(t, err)
				require.ErrorIs(t, r.AuthenticateApp(t.Context(), testApp, ""), renew.ErrInvalidAppKey)
				a, err := r.renew(t.Context(), b.RefreshToken, "")
				require.NoError(t, err)
				for range renewals {
					tokens.take()
					keys.take()
					require.ErrorIs(t, r.AuthenticateApp(t.Context(), testApp, ""), renew.ErrInvalidAppKey)
					a, err = r.renew(t.Context(), a.RefreshToken, "")
					require.NoError(t, err)
					statements, prepared, begun := tokens.take()
					require.Len(t, statements, 2)
					require.Regexp(t, `^(SET STATEMENT .* FOR )?SELECT (?s:.*) FROM renew_sessions WHERE app_id = \S+ AND id = \S+$`, statements[0])
					require.Regexp(t, `^(SET STATEMENT .* FOR )?UPDATE renew_sessions SET (?s:.*)\sWHERE app_id = \S+ AND id = \S+ AND token_id = \S+ AND revoked_at IS NULL$`, statements[1])
					require.Empty(t, prepared)
					require.Zero(t, begun)
					statements, prepared, begun = keys.take()
					require.Len(t, statements, c.forKeys)
					require.Empty(t, prepared)
					require.Zero(t, begun)
				}
				require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM renew_sessions"))
			})
		})
	}
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(query).Scan(&n))
	return n
}

// TestPlans promises that both statements of a renewal, taken from the driver,
// find their row by the primary key among many.
func TestPlans(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		r, tokens, _, db := watchedRenewer(t, d, time.Hour)
		store := d.tokenStore(t, db)
		fill(t, db, store, newSession("template"), 1000)
		b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		tokens.take()
		_, err = r.renew(t.Context(), b.RefreshToken, "")
		require.NoError(t, err)
		statements, _, _ := tokens.take()
		require.Len(t, statements, 2)
		if d.dialect != sqlstore.SQLite {
			_, err = db.Exec(map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "ANALYZE renew_sessions", sqlstore.MySQL: "ANALYZE TABLE renew_sessions"}[d.dialect])
			require.NoError(t, err)
		}
		for _, statement := range statements {
			plan := explain(t, d, db, statement, renewalArgs(statement)...)
			t.Logf("%s\n%s", statement, plan)
			requirePrimaryKey(t, d, plan)
		}
	})
}

// requirePrimaryKey checks a plan.
func requirePrimaryKey(t *testing.T, d *database, plan string) {
	t.Helper()
	switch d.dialect {
	case sqlstore.SQLite: // the index that SQLite makes for a primary key
		require.Contains(t, plan, "SEARCH renew_sessions USING INDEX sqlite_autoindex_renew_sessions_1 (app_id=? AND id=?)")
	case sqlstore.PostgreSQL:
		require.Contains(t, plan, "Index Scan using renew_sessions_pkey on renew_sessions")
		require.Regexp(t, `Index Cond: \(\(app_id = .*\) AND \(id = .*\)\)`, plan)
	case sqlstore.MySQL:
		require.Regexp(t, `key=PRIMARY;.*rows=1;`, plan)
	}
	require.NotContains(t, strings.ToUpper(plan), "SEQ SCAN")
	require.NotContains(t, plan, "SCAN renew_sessions")
}

// renewalArgs are arguments like those of a renewal's statements.
func renewalArgs(statement string) []any {
	s := newSession(tokenID(500))
	if !strings.Contains(statement, "UPDATE") {
		return []any{s.AppID, s.ID}
	}
	ms := base.UnixMilli()
	return []any{
		s.Subject, "[]", "{}", ms, nil, nil, 1, tokenID(1), tokenID(0), ms, ms, ms, []byte("proof"), "192.0.2.1", "test", ms,
		s.AppID, s.ID, tokenID(0),
	}
}

// explain returns the plan of a statement.
func explain(t *testing.T, d *database, db *sql.DB, statement string, args ...any) string {
	t.Helper()
	prefix := map[sqlstore.Dialect]string{sqlstore.SQLite: "EXPLAIN QUERY PLAN ", sqlstore.PostgreSQL: "EXPLAIN ", sqlstore.MySQL: "EXPLAIN "}[d.dialect]
	if preface, plain, found := strings.Cut(statement, " FOR "); found && strings.HasPrefix(preface, "SET STATEMENT") {
		statement = plain
	}
	rows, err := db.Query(prefix+statement, args...)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var plan strings.Builder
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		require.NoError(t, rows.Scan(dest...))
		for i, value := range values {
			fmt.Fprintf(&plan, "%s=%s; ", columns[i], value.String)
		}
		plan.WriteString("\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

// TestUpdatesAreHOT promises that PostgreSQL's renewals write no index entry, so
// that a table does not swell with renewals.
func TestUpdatesAreHOT(t *testing.T) {
	d := backends[1].empty(t)
	db := d.open(t)
	d.migrate(t, db)
	store := d.tokenStore(t, db)
	const filled, sessions, generations = 1000, 250, 4
	fill(t, db, store, newSession("template"), filled)
	all := make([]renew.Session, sessions)
	for i := range all { // spread over full pages
		all[i] = newSession(tokenID(i * filled / sessions))
	}
	size := func() int { return count(t, db, "SELECT pg_indexes_size('renew_sessions')") }
	before := size()
	for range generations {
		for i := range all {
			next := successor(all[i])
			require.NoError(t, store.Rotate(t.Context(), all[i].TokenID, next))
			all[i] = next
		}
	}
	require.Equal(t, before, size(), "no index has grown")
	var updates, hot int
	require.Eventually(t, func() bool { // the server counts with a delay
		require.NoError(t, db.QueryRow("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'renew_sessions'").Scan(&updates, &hot))
		return updates >= sessions*generations
	}, 30*time.Second, 50*time.Millisecond)
	t.Logf("%d of %d updates were HOT", hot, updates)
	require.Greater(t, hot, updates*95/100)
}

// TestBytesPerSession measures what a session takes on the disk, with indexes
// and after renewals, for docs/stores.md. It fails only where that is out of all
// proportion.
func TestBytesPerSession(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		store := d.tokenStore(t, db)
		s := newSession("template")
		s.Subject = "0f8fad5b-d9cb-469f-a165-70867728950e"
		s.Claims = []byte(`{"roles":["admin","billing"],"tenant":"01J0000000000000000000000T"}`)
		s.UserAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
		s = successor(s)
		const filled = 10000
		fill(t, db, store, s, filled)
		for i := range 300 {
			s.ID = tokenID(i * filled / 300)
			require.NoError(t, store.Rotate(t.Context(), s.TokenID, successor(s)))
		}
		bytes := size(t, d, db)
		t.Logf("%d sessions take %d bytes, %d each", filled, bytes, bytes/filled)
		require.Less(t, bytes/filled, 1000)
	})
}

// fill stores sessions like s, with the IDs from tokenID(0) to tokenID(n-1), in
// one statement. n is a power of ten.
func fill(t *testing.T, db *sql.DB, store *sqlstore.TokenStore, s renew.Session, n int) {
	t.Helper()
	require.NoError(t, store.CreateSession(t.Context(), s))
	const (
		digits  = "(SELECT '0' AS d UNION ALL SELECT '1' UNION ALL SELECT '2' UNION ALL SELECT '3' UNION ALL SELECT '4' UNION ALL SELECT '5' UNION ALL SELECT '6' UNION ALL SELECT '7' UNION ALL SELECT '8' UNION ALL SELECT '9')"
		columns = "app_id, subject, audience, claims, created_at, ends_at, revoked_at, generation, token_id, previous_token_id, issued_at, not_before, expires_at, retry_proof, ip, user_agent, purge_at"
	)
	id, from := tokenID(0), "renew_sessions"
	for i := 1; i < n; i *= 10 {
		id = id[:len(id)-1]
	}
	id = "'" + id + strings.Repeat("?", len(tokenID(0))-len(id)) + "'"
	for i := strings.Count(id, "?"); i > 0; i-- {
		table := fmt.Sprintf("d%d", i)
		id = strings.Replace(id, "?", "', "+table+".d, '", 1)
		from += ", " + digits + " " + table
	}
	id = "CONCAT(" + id + ")"
	_, err := db.Exec("INSERT INTO renew_sessions (id, " + columns + ") SELECT " + id + ", " + columns + " FROM " + from + " WHERE id = '" + s.ID + "' ORDER BY 1")
	require.NoError(t, err)
	_, err = db.Exec("DELETE FROM renew_sessions WHERE id = '" + s.ID + "'")
	require.NoError(t, err)
}

// size is the table's, with its indexes.
func size(t *testing.T, d *database, db *sql.DB) int {
	t.Helper()
	switch d.dialect {
	case sqlstore.SQLite:
		_, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
		require.NoError(t, err)
		return count(t, db, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
	case sqlstore.PostgreSQL:
		return count(t, db, "SELECT pg_total_relation_size('renew_sessions')")
	default:
	}
	_, err := db.Exec("ANALYZE TABLE renew_sessions")
	require.NoError(t, err)
	return count(t, db, "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'renew_sessions' AND table_schema = DATABASE()")
}

// TestPlansOfASubject promises that a list and a revocation of a subject's sessions
// find them by the subject's index, and write by primary key: also where most of the
// app's sessions are the subject's, which tempts MariaDB to read all of the app's.
func TestPlansOfASubject(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		plain := d.open(t)
		if d.dialect == sqlstore.PostgreSQL { // which rightly scans a few pages
			plain = d.openDSN(t, d.withSetting("enable_seqscan", "off")+"&enable_bitmapscan=off")
		}
		d.migrate(t, plain)
		db, w := d.openWatched(t)
		store := d.tokenStore(t, db)
		fill(t, plain, store, newSession("template"), 1000)
		for i := range 20 {
			s := newSession(fmt.Sprint("another", i))
			s.Subject = "another"
			require.NoError(t, store.CreateSession(ctx, s))
		}
		if d.dialect != sqlstore.SQLite {
			_, err := plain.Exec(map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "ANALYZE renew_sessions", sqlstore.MySQL: "ANALYZE TABLE renew_sessions"}[d.dialect])
			require.NoError(t, err)
		}
		w.take()
		_, err := store.SubjectSessions(ctx, testApp, "subject", base)
		require.NoError(t, err)
		_, err = store.RevokeSubject(ctx, testApp, "subject", base)
		require.NoError(t, err)
		_, err = store.RevokeSubject(ctx, testApp, "subject", base)
		require.NoError(t, err)
		statements, _, _ := w.take()
		slices.Sort(statements)
		for _, statement := range slices.Compact(statements) {
			args := []any{testApp, "subject"}
			if strings.Contains(statement, "IN (") {
				args = []any{base.UnixMilli(), testApp}
			}
			for len(args) < strings.Count(statement, "?")+strings.Count(statement, "$") {
				args = append(args, map[bool]any{true: tokenID(len(args)), false: base.UnixMilli()}[strings.Contains(statement, "IN (")])
			}
			plan := explain(t, d, plain, statement, args...)
			index := map[bool]string{true: "renew_sessions_by_subject", false: map[sqlstore.Dialect]string{
				sqlstore.SQLite: "sqlite_autoindex_renew_sessions_1 (app_id=? AND id=?)", sqlstore.PostgreSQL: "renew_sessions_pkey", sqlstore.MySQL: "key=PRIMARY; key_len=514",
			}[d.dialect]}[strings.Contains(statement, "SELECT")]
			require.Contains(t, strings.Replace(plan, "possible_keys=PRIMARY,renew_sessions_by_subject", "", 1), index, statement)
		}
	})
}
