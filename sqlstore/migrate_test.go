package sqlstore_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestMigrateAtOnce promises that ten processes may start at the same moment.
func TestMigrateAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		const processes = 10
		var begin [processes]io.Closer
		var finish [processes]func() error
		for i := range processes {
			cmd := d.workerCommand(t, "migrate")
			input, err := cmd.StdinPipe()
			require.NoError(t, err)
			output, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			require.True(t, bufio.NewScanner(output).Scan(), "the process is not ready")
			begin[i], finish[i] = input, cmd.Wait
		}
		for i := range processes {
			require.NoError(t, begin[i].Close())
		}
		for i := range processes {
			require.NoError(t, finish[i]())
		}
		requireUsable(t, d, d.open(t))
		require.Equal(t, versions(t, d), appliedVersions(t, d.open(t), "renew_schema"), "every version once")
	})
}

// versions are those that there are migrations for.
func versions(t *testing.T, d *database) (all []int) {
	for i := 1; i < len(migrationNames(t, d)); i++ {
		all = append(all, i)
	}
	return all
}

func migrationNames(t *testing.T, d *database) []string {
	t.Helper()
	files, err := sqlstore.Migrations(d.dialect)
	require.NoError(t, err)
	names, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	return names
}

func appliedVersions(t *testing.T, db *sql.DB, table string) (all []int) {
	t.Helper()
	rows, err := db.Query("SELECT version FROM " + table + " ORDER BY version")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var v int
		require.NoError(t, rows.Scan(&v))
		all = append(all, v)
	}
	require.NoError(t, rows.Err())
	return all
}

// requireUsable checks that both stores work.
func requireUsable(t *testing.T, d *database, db *sql.DB, opts ...sqlstore.Option) {
	t.Helper()
	s := newSession("session")
	tokens := d.tokenStore(t, db, opts...)
	require.NoError(t, tokens.CreateSession(t.Context(), s))
	next := successor(s)
	require.NoError(t, tokens.Rotate(t.Context(), s.TokenID, next))
	got, err := tokens.Session(t.Context(), s.AppID, s.ID)
	require.NoError(t, err)
	require.Equal(t, next, got)
	keys := d.keyStore(t, db, opts...)
	require.NoError(t, keys.CreateApp(t.Context(), renew.App{ID: testApp, Issuer: "issuer"}))
	_, err = keys.App(t.Context(), testApp)
	require.NoError(t, err)
}

// base is the time of the tests' sessions, to the millisecond.
var base = time.Date(2031, time.May, 6, 7, 8, 9, 123e6, time.UTC)

// tokenID returns the n-th token ID: greater ones are later.
func tokenID(n int) string { return fmt.Sprintf("01J%023d", n) }

func newSession(id string) renew.Session {
	return renew.Session{
		AppID: testApp, ID: id, Subject: "subject", Audience: []string{"a", "b"}, Claims: []byte(`{"role":"admin"}`),
		CreatedAt: base, TokenID: tokenID(0), IssuedAt: base, RefreshNotBefore: base, RefreshExpiresAt: base.Add(3 * time.Hour),
		IP: "192.0.2.1", UserAgent: "test agent",
	}
}

// successor is the session a minute later, after a renewal.
func successor(s renew.Session) renew.Session {
	s.Generation++
	s.PreviousTokenID, s.TokenID = s.TokenID, tokenID(int(s.Generation))
	s.IssuedAt, s.RefreshNotBefore, s.RefreshExpiresAt = s.IssuedAt.Add(time.Minute), s.RefreshNotBefore.Add(time.Minute), s.RefreshExpiresAt.Add(time.Minute)
	s.IdempotencyKeyHash = []byte(strings.Repeat("p", 32))
	return s
}

// TestMigrateAgain promises that a second call changes nothing, and that what is
// broken off is finished.
func TestMigrateAgain(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		s := newSession("kept")
		require.NoError(t, d.tokenStore(t, db).CreateSession(t.Context(), s))
		d.migrate(t, db)
		_, err := db.Exec("DELETE FROM renew_schema WHERE version > 1")
		require.NoError(t, err)
		d.migrate(t, db)
		require.Equal(t, versions(t, d), appliedVersions(t, db, "renew_schema"))
		_, err = d.tokenStore(t, db).Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err)
	})
}

// TestMigrateFromAnEarlierVersion promises that the tables of an earlier version
// keep what they hold.
func TestMigrateFromAnEarlierVersion(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		files, err := sqlstore.Migrations(d.dialect)
		require.NoError(t, err)
		names := migrationNames(t, d)[:6] // without max_sessions and verifies_until
		for version, name := range names {
			statement, err := fs.ReadFile(files, name)
			require.NoError(t, err)
			_, err = db.Exec(string(statement))
			require.NoError(t, err)
			if version > 0 && (d.dialect != sqlstore.MySQL || version <= 3) { // MySQL had three
				_, err = db.Exec(fmt.Sprintf("INSERT INTO renew_schema (version) VALUES (%d)", version))
				require.NoError(t, err)
			}
		}
		ms := base.UnixMilli()
		_, err = db.Exec(fmt.Sprintf(`INSERT INTO renew_apps (id, issuer, key_hashes, auth_ttl, auth_not_before, refresh_ttl,
			refresh_not_before, session_ttl, longest_ttl, signed_until, revision) VALUES ('app', 'issuer', '["%064x"]', 0, 0, 0, 0, 0, 10800, %d, 7)`, 255, ms))
		require.NoError(t, err)
		der, err := x509.MarshalPKIXPublicKey(newKey(t, renew.EdDSA).VerificationKey().Public())
		require.NoError(t, err)
		literal := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: `'\x%x'`, sqlstore.MySQL: "X'%x'", sqlstore.SQLite: "X'%x'"}[d.dialect]
		_, err = db.Exec(fmt.Sprintf(`INSERT INTO renew_signing_keys (app_id, id, sequence, algorithm, public_key, expires_at, revoked)
			VALUES ('app', '`+tokenID(1)+`', 1, 'EdDSA', `+literal+`, %d, 0)`, der, ms))
		require.NoError(t, err)
		d.migrate(t, db)
		s := d.keyStore(t, db)
		app, err := s.App(t.Context(), testApp)
		require.NoError(t, err)
		hash, err := renew.ParseAppKeyHash(fmt.Sprintf("sha256:%064x", 255))
		require.NoError(t, err)
		require.Equal(t, renew.App{ID: testApp, Issuer: "issuer", KeyHashes: []renew.AppKeyHash{hash}}, app)
		key, err := s.VerificationKey(t.Context(), testApp, tokenID(1))
		require.NoError(t, err)
		require.Equal(t, key.Until(base), key, "its end was when its last token expires")
	})
}

// TestMigrateNewer promises that tables of a later version are left alone.
func TestMigrateNewer(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		_, err := db.Exec("INSERT INTO renew_schema (version) VALUES (1000)")
		require.NoError(t, err)
		err = sqlstore.Migrate(t.Context(), db, d.dialect)
		require.ErrorIs(t, err, sqlstore.ErrNewerSchema)
		require.ErrorContains(t, err, "1000")
	})
}

// TestMigrationFiles promises that a migration tool of one's own gets by with the
// plain files, each a single statement, and that Migrate takes over from it.
func TestMigrationFiles(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		files, err := sqlstore.Migrations(d.dialect)
		require.NoError(t, err)
		for _, name := range migrationNames(t, d) {
			statement, err := fs.ReadFile(files, name)
			require.NoError(t, err)
			_, err = db.Exec(string(statement))
			require.NoError(t, err, name)
			if _, err = db.Exec(string(statement)); d.dialect == sqlstore.PostgreSQL || !strings.Contains(string(statement), "ADD COLUMN") {
				require.NoError(t, err, "%s again", name)
			}
		}
		requireUsable(t, d, db)
		d.migrate(t, db)
	})
	_, err := sqlstore.Migrations("oracle")
	require.Error(t, err)
}

// TestMigrationsAreNumberedAlike promises that one number means the same on every
// database.
func TestMigrationsAreNumberedAlike(t *testing.T) {
	var want []string
	for _, dialect := range []sqlstore.Dialect{sqlstore.PostgreSQL, sqlstore.MySQL, sqlstore.SQLite} {
		names := migrationNames(t, &database{backend: backend{dialect: dialect}})
		if want == nil {
			want = names
		}
		require.Equal(t, want, names, dialect)
	}
}

// TestTablePrefix promises that two sets of tables in one database know nothing
// of each other.
func TestTablePrefix(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		other := sqlstore.WithTablePrefix("auth_v2_")
		_, err := sqlstore.NewTokenStore(t.Context(), db, d.dialect, other)
		require.ErrorContains(t, err, "Migrate", "a store without its tables")
		d.migrate(t, db)
		d.migrate(t, db, other)
		requireUsable(t, d, db)
		requireUsable(t, d, db, other)
		require.Equal(t, versions(t, d), appliedVersions(t, db, "auth_v2_schema"))
	})
}

// TestMigrateWaits promises that a wait for another process ends with the
// context, and leaves a connection that works.
func TestMigrateWaits(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		release := holdMigrationLock(t, d)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, sqlstore.Migrate(ctx, db, d.dialect), context.DeadlineExceeded)
		release()
		d.migrate(t, db)
		requireUsable(t, d, db)
	})
}

// holdMigrationLock does what a process does that is in the middle of Migrate.
func holdMigrationLock(t *testing.T, d *database) (release func()) {
	t.Helper()
	conn, err := d.open(t).Conn(t.Context())
	require.NoError(t, err)
	lock := map[sqlstore.Dialect]string{
		sqlstore.SQLite:     "BEGIN IMMEDIATE",
		sqlstore.PostgreSQL: "SELECT pg_advisory_lock(hashtextextended('renew_schema', 0))",
		sqlstore.MySQL:      "SELECT GET_LOCK('renew_schema', 0)",
	}[d.dialect]
	_, err = conn.ExecContext(t.Context(), lock)
	require.NoError(t, err)
	return func() {
		if d.dialect == sqlstore.SQLite {
			_, err := conn.ExecContext(t.Context(), "ROLLBACK")
			require.NoError(t, err)
		}
		require.NoError(t, conn.Raw(func(c any) error { return c.(interface{ Close() error }).Close() }))
		_ = conn.Close()
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, prefix := range []string{"", "Renew_", "1renew", "renew-", `renew"; DROP TABLE x; --`, strings.Repeat("a", 25)} {
		_, err := sqlstore.NewTokenStore(t.Context(), &sql.DB{}, sqlstore.SQLite, sqlstore.WithTablePrefix(prefix))
		require.ErrorContains(t, err, "WithTablePrefix", prefix)
	}
	_, err := sqlstore.NewTokenStore(t.Context(), nil, sqlstore.SQLite)
	require.ErrorContains(t, err, "nil")
	_, err = sqlstore.NewTokenStore(t.Context(), &sql.DB{}, "oracle")
	require.ErrorContains(t, err, "oracle")
	_, err = sqlstore.NewKeyStore(t.Context(), &sql.DB{}, sqlstore.SQLite, nil)
	require.ErrorContains(t, err, "encrypter")
	_, err = sqlstore.NewKeyStore(t.Context(), &sql.DB{}, sqlstore.SQLite, newEncrypter(t, encryptionKey(1)), sqlstore.WithStatusInterval(-1))
	require.ErrorContains(t, err, "WithStatusInterval")
}

// TestBusyTimeoutIsRequired promises that an SQLite connection on which a second
// writer fails at once is found out when the store is made.
func TestBusyTimeoutIsRequired(t *testing.T) {
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	db := d.openDSN(t, "file:"+d.name)
	_, err := sqlstore.NewTokenStore(t.Context(), db, d.dialect)
	require.ErrorContains(t, err, "busy_timeout")
	require.ErrorContains(t, sqlstore.Migrate(t.Context(), db, d.dialect), "busy_timeout")
}

// TestSQLiteKeepsALog promises the write-ahead log, with which readers do not
// wait for a writer, and a disk that is written before an answer.
func TestSQLiteKeepsALog(t *testing.T) {
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	var mode string
	var synchronous int
	db := d.open(t)
	require.NoError(t, db.QueryRow("PRAGMA journal_mode").Scan(&mode))
	require.NoError(t, db.QueryRow("PRAGMA synchronous").Scan(&synchronous))
	require.Equal(t, "wal", mode)
	require.Equal(t, 2, synchronous, "FULL")
}
