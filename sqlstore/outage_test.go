package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestDefaultCost promises that with the defaults a renewal is two statements, and
// the verification of an auth token none.
func TestDefaultCost(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.prepare(t)
		db, w := d.openWatched(t)
		keys, err := sqlstore.NewKeyStore(t.Context(), db, d.dialect, newEncrypter(t, encryptionKey(1)))
		require.NoError(t, err)
		defer func() { _ = keys.Close() }()
		r, err := renew.New(keys, d.tokenStore(t, db))
		require.NoError(t, err)
		b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		_, err = r.VerifyAuthToken(t.Context(), testApp, b.AuthToken)
		require.NoError(t, err)
		w.take()
		_, err = renewer{r}.renew(t.Context(), b.RefreshToken, "")
		require.NoError(t, err)
		statements, _, begun := w.take()
		require.Len(t, statements, 2)
		require.Zero(t, begun)
		_, err = r.VerifyAuthToken(t.Context(), testApp, b.AuthToken)
		require.NoError(t, err)
		require.Zero(t, w.count())
	})
}

// captureLog replaces slog's default until the test ends.
func captureLog(t *testing.T) func() string {
	t.Helper()
	var mu sync.Mutex
	var text bytes.Buffer
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil)))
	t.Cleanup(func() { slog.SetDefault(previous) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestOutage promises that known apps and keys verify while the database is away,
// up to the limit and no longer; that what is not known does not; that nothing is
// signed; that the outage is in the log once, and its end; and that a revocation
// from before the end counts after it.
func TestOutage(t *testing.T) {
	log := captureLog(t)
	ctx := t.Context()
	d := backends[0].empty(t)
	admin, _ := keysWithApp(t, d)
	key, unknown := newKey(t, renew.EdDSA), newKey(t, renew.EdDSA)
	require.NoError(t, admin.RotateSigningKey(ctx, testApp, key, base))
	require.NoError(t, admin.PublishSigningKey(ctx, testApp, unknown))
	var mu sync.Mutex
	clock := base
	at := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		clock = base.Add(d)
	}
	s := d.keyStore(t, d.breakable()(t), sqlstore.WithStatusInterval(5*time.Second), sqlstore.WithOutageLimit(time.Minute),
		sqlstore.WithCacheClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return clock }))
	verify := func() error {
		_, appErr := s.App(ctx, testApp)
		_, keyErr := s.VerificationKey(ctx, testApp, keyID(key))
		_, listErr := s.VerificationKeys(ctx, testApp)
		for _, err := range []error{appErr, keyErr, listErr} {
			if err != nil {
				return err
			}
		}
		return nil
	}
	require.NoError(t, verify())
	requireSigns(t, s, testApp)

	d.broken.Store(true)
	for _, after := range []time.Duration{5*time.Second - 1, 5 * time.Second, 20 * time.Second, 65*time.Second - 1} {
		at(after)
		require.NoError(t, verify(), after)
		_, err := s.VerificationKey(ctx, testApp, keyID(unknown))
		require.ErrorIs(t, err, errBroken, "it was never read")
		_, err = s.DeleteExpiredKeys(ctx, base)
		require.ErrorIs(t, err, errBroken)
		_, err = s.SigningKey(ctx, testApp)
		if after < 5*time.Second {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, errBroken)
		}
	}
	at(65 * time.Second)
	require.ErrorIs(t, verify(), errBroken)
	require.Equal(t, 1, strings.Count(log(), "is away"), log())

	d.broken.Store(false)
	require.NoError(t, verify())
	require.Equal(t, 1, strings.Count(log(), "is back"), log())
	require.NoError(t, admin.RevokeKey(ctx, testApp, keyID(key), base))
	at(75 * time.Second)
	_, err := s.VerificationKey(ctx, testApp, keyID(key))
	require.ErrorIs(t, err, renew.ErrKeyRevoked)
}

// TestOutageOfAServer promises the same of a server that is killed, and of one
// that does not respond: requests wait a second at most.
func TestOutageOfAServer(t *testing.T) {
	atOnce(t, killableServers, func(t *testing.T, d *database) {
		d.server.NeedPrivate(t)
		ctx := t.Context()
		admin, _ := keysWithApp(t, d)
		key := newKey(t, renew.EdDSA)
		require.NoError(t, admin.RotateSigningKey(ctx, testApp, key, base))
		s := d.keyStore(t, d.open(t), sqlstore.WithStatusInterval(time.Millisecond))
		_, err := s.VerificationKey(ctx, testApp, keyID(key))
		require.NoError(t, err)
		d.server.Kill(t)
		time.Sleep(2 * time.Millisecond)
		for range 20 {
			_, err = s.VerificationKey(ctx, testApp, keyID(key))
			require.NoError(t, err)
		}
		d.server.Start(t)
		require.NoError(t, admin.RevokeKey(ctx, testApp, keyID(key), base))
		require.Eventually(t, func() bool {
			_, err = s.VerificationKey(ctx, testApp, keyID(key))
			return err != nil
		}, 30*time.Second, 10*time.Millisecond)
		require.ErrorIs(t, err, renew.ErrKeyRevoked)
	})
}

// TestHangUps promises that callers who hang up cost no connections, and leave the
// pool usable.
func TestHangUps(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		const clients, connections = 200, 8
		d.migrate(t, d.open(t))
		db, w := d.openWatched(t)
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
		store := d.tokenStore(t, db)
		s := newSession("session")
		require.NoError(t, store.CreateSession(t.Context(), s))
		var all sync.WaitGroup
		for i := range clients {
			ctx, cancel := context.WithCancel(t.Context())
			all.Go(func() {
				switch i % 3 {
				case 0:
					_, _ = store.Session(ctx, s.AppID, s.ID)
				case 1:
					_ = store.Rotate(ctx, s.TokenID, s)
				default:
					_, _ = store.SubjectSessions(ctx, s.AppID, s.Subject, base)
				}
			})
			all.Go(func() {
				time.Sleep(time.Duration(i%10) * 200 * time.Microsecond)
				cancel()
			})
		}
		all.Wait()
		require.Eventually(t, func() bool { return db.Stats().InUse == 0 }, 10*time.Second, time.Millisecond)
		got, err := store.Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, s, got)
		t.Logf("%d callers hung up, %d connections were opened", clients, w.opened.Load())
		require.LessOrEqual(t, w.opened.Load(), int64(2*connections), "connections opened")
	})
}

// TestLockedRow promises that a caller waits for a row that another one holds no
// longer than its context, and that the database does not go on waiting for those
// who gave up.
func TestLockedRow(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.migrate(t, d.open(t))
		db, w := d.openWatched(t)
		store := d.tokenStore(t, db)
		s := newSession("session")
		require.NoError(t, store.CreateSession(ctx, s))
		release := lockRow(t, d, s)
		const callers = 12
		var all sync.WaitGroup
		begin := time.Now()
		for range callers {
			all.Go(func() {
				brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				if err := store.Rotate(brief, s.TokenID, successor(s)); err == nil {
					t.Error("it did not wait for the row")
				}
			})
		}
		all.Wait()
		waited := time.Since(begin)
		if d.dialect == sqlstore.MySQL { // the server gives up by itself
			require.Eventually(t, func() bool {
				return count(t, db, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%UPDATE renew_sessions%' AND id <> CONNECTION_ID()") == 0
			}, 15*time.Second, 50*time.Millisecond)
			require.LessOrEqual(t, w.opened.Load(), int64(17), "no connection was lost")
		}
		release()
		t.Logf("%d callers waited %v", callers, waited)
		require.Less(t, waited, 1500*time.Millisecond) // SQLite's busy timeout alone is 2 s
		require.Eventually(t, func() bool { return db.Stats().InUse == 0 }, 10*time.Second, time.Millisecond)
	})
}

// TestStatementTimeout promises that a statement ends after its timeout, with an
// error that says so, where the caller's context has no end.
func TestStatementTimeout(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		store := d.tokenStore(t, d.open(t), sqlstore.WithStatementTimeout(300*time.Millisecond))
		s := newSession("session")
		require.NoError(t, store.CreateSession(t.Context(), s))
		release := lockRow(t, d, s)
		err := store.Rotate(context.Background(), s.TokenID, successor(s))
		require.Error(t, err)
		require.NotErrorIs(t, err, renew.ErrConflict)
		release()
	})
}

// TestPoisonedPool promises that connections of a moment when the database was
// read-only do not fail for ever: each is closed, and the statement runs on
// another one.
func TestPoisonedPool(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		const connections = 6
		d.migrate(t, d.open(t))
		db := d.open(t)
		store := d.tokenStore(t, db)
		s := newSession("session")
		require.NoError(t, store.CreateSession(ctx, s))
		var conns []interface{ Close() error }
		for range connections { // poisoned as if they were opened at that moment
			conn, err := db.Conn(ctx)
			require.NoError(t, err)
			_, err = conn.ExecContext(ctx, map[sqlstore.Dialect]string{
				sqlstore.PostgreSQL: "SET default_transaction_read_only = on",
				sqlstore.MySQL:      "SET SESSION TRANSACTION READ ONLY",
				sqlstore.SQLite:     "PRAGMA query_only = 1",
			}[d.dialect])
			require.NoError(t, err)
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
		for range 2 * connections {
			next := successor(s)
			require.NoError(t, store.Rotate(ctx, s.TokenID, next))
			s = next
		}
		require.NoError(t, store.RevokeSession(ctx, s.AppID, s.ID, base))
		keys := d.keyStore(t, db)
		require.NoError(t, keys.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer"}))
		require.NoError(t, keys.RotateSigningKey(ctx, testApp, newKey(t, renew.EdDSA), base))
	})
}

// TestDeadConnections promises that a pool whose connections the server has just
// closed, all of them, fails no read, no revocation, no change of a key and no store
// that is made then, though not every driver notices it before it uses a connection.
func TestDeadConnections(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		const connections = 8
		d.migrate(t, d.open(t))
		proxy := d.server.NewProxy(t)
		db := d.openDSN(t, d.server.DSNThrough(proxy, d.name))
		keys, tokens := d.keyStore(t, db), d.tokenStore(t, db)
		require.NoError(t, keys.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer"}))
		s := newSession("session")
		require.NoError(t, tokens.CreateSession(ctx, s))
		key := newKey(t, renew.EdDSA)
		for _, use := range []struct {
			name string
			run  func() error
		}{
			{"NewTokenStore", func() error { _, err := sqlstore.NewTokenStore(ctx, db, d.dialect); return err }},
			{"NewKeyStore", func() error {
				_, err := sqlstore.NewKeyStore(ctx, db, d.dialect, newEncrypter(t, encryptionKey(1)))
				return err
			}},
			{"Migrate", func() error { return sqlstore.Migrate(ctx, db, d.dialect) }},
			{"Migrate other tables", func() error { return sqlstore.Migrate(ctx, db, d.dialect, sqlstore.WithTablePrefix("other_")) }},
			{"PublishSigningKey", func() error { return keys.PublishSigningKey(ctx, testApp, key) }},
			{"RotateSigningKey", func() error { return keys.RotateSigningKey(ctx, testApp, key, base) }},
			{"RevokeKey", func() error { return keys.RevokeKey(ctx, testApp, keyID(key), base) }},
			{"Session", func() error { _, err := tokens.Session(ctx, s.AppID, s.ID); return err }},
			{"SubjectSessions", func() error { _, err := tokens.SubjectSessions(ctx, s.AppID, s.Subject, base); return err }},
			{"RevokeSubject", func() error { _, err := tokens.RevokeSubject(ctx, s.AppID, s.Subject, base); return err }},
			{"RevokeSession", func() error { return tokens.RevokeSession(ctx, s.AppID, s.ID, base) }},
		} {
			fillPool(t, db, connections)
			fillPool(t, db, connections) // pgx looks at a connection that it has not used for a second
			require.GreaterOrEqual(t, proxy.Cut(), connections)
			require.NoError(t, use.run(), use.name)
		}
	})
}

// TestBreaksBeforeAStatement promises that a connection which breaks before a statement
// has begun costs neither a migration nor a store nor a change of a key.
func TestBreaksBeforeAStatement(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		db, w := d.openWatched(t)
		if lock := map[sqlstore.Dialect]string{
			sqlstore.PostgreSQL: "pg_advisory_xact_lock",
			sqlstore.MySQL:      "GET_LOCK",
		}[d.dialect]; lock != "" {
			w.loseNextOf(lock)
		}
		d.migrate(t, db)
		require.False(t, w.losing, "the migration's lock")
		checks := []string{"PREPARE", "BEGIN"}
		if d.dialect == sqlstore.PostgreSQL {
			checks = append(checks, "pg_backend_pid") // of the check for a pooler
		}
		for _, what := range checks {
			w.loseNextOf(what)
			_ = d.tokenStore(t, db)
			require.False(t, w.losing, what)
		}
		keys := d.keyStore(t, db)
		require.NoError(t, keys.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer"}))
		w.loseNextOf("BEGIN")
		require.NoError(t, keys.RotateSigningKey(ctx, testApp, newKey(t, renew.EdDSA), base))
		require.False(t, w.losing)
	})
}

// fillPool leaves this many connections idle in the pool, all of them alive.
func fillPool(t *testing.T, db *sql.DB, connections int) {
	t.Helper()
	var alive []*sql.Conn
	for len(alive) < connections {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		if conn.PingContext(t.Context()) == nil {
			alive = append(alive, conn)
		}
	}
}

// TestChangedColumn promises that prepared statements which no longer fit the
// table are prepared again.
func TestChangedColumn(t *testing.T) {
	d := backends[1].empty(t)
	ctx := t.Context()
	d.migrate(t, d.open(t))
	store := d.tokenStore(t, d.open(t))
	s := newSession("session")
	require.NoError(t, store.CreateSession(ctx, s))
	for range 20 {
		_, err := store.Session(ctx, s.AppID, s.ID)
		require.NoError(t, err)
	}
	_, err := d.open(t).Exec("ALTER TABLE renew_sessions ALTER COLUMN ip TYPE VARCHAR(300)")
	require.NoError(t, err)
	for range 20 {
		got, err := store.Session(ctx, s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
}

// TestManySessionsOfASubject promises that a revocation of very many sessions makes
// progress under a deadline, that other sessions are renewed while it runs, and that
// a list of them is bounded.
func TestManySessionsOfASubject(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		n := map[bool]int{false: 10000, true: 100000}[rounds.Share(t) == 1]
		if d.dialect == sqlstore.SQLite { // in Go, and slow under the race detector
			n = 1000
		}
		d.migrate(t, d.open(t))
		db := d.open(t)
		store := d.tokenStore(t, db)
		fill(t, db, store, newSession("template"), n)
		another := newSession("another")
		another.Subject = "another"
		require.NoError(t, store.CreateSession(ctx, another))
		newest := newSession("newest")
		newest.CreatedAt = base.Add(time.Second)
		require.NoError(t, store.CreateSession(ctx, newest))
		sessions, err := store.SubjectSessions(ctx, testApp, "subject", base)
		require.NoError(t, err)
		require.Len(t, sessions, sqlstore.MaxSubjectSessions)
		require.Equal(t, newest, sessions[0])

		brief, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		first, err := store.RevokeSubject(brief, testApp, "subject", base, "newest")
		t.Logf("%d of %d sessions revoked under the deadline: %v", first, n, err)
		require.Positive(t, count(t, db, "SELECT COUNT(*) FROM renew_sessions WHERE revoked_at IS NOT NULL"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 {
				next := successor(another)
				if err := store.Rotate(ctx, another.TokenID, next); err != nil {
					t.Error(err)
				}
				another = next
			}
		}()
		_, err = store.RevokeSubject(ctx, testApp, "subject", base, "newest")
		require.NoError(t, err)
		<-done
		require.Equal(t, 2, count(t, db, "SELECT COUNT(*) FROM renew_sessions WHERE revoked_at IS NULL"))
		count, err := store.RevokeSubject(ctx, testApp, "subject", base)
		require.NoError(t, err)
		require.Equal(t, 1, count)
	})
}

// TestRevokeSubjectConfirms promises that a revocation of sessions that are all
// revoked already is a write.
func TestRevokeSubjectConfirms(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.migrate(t, d.open(t))
		db := d.open(t)
		store := d.tokenStore(t, db)
		require.NoError(t, store.CreateSession(ctx, newSession("session")))
		for i := range 3 {
			requireWrite(t, d, db, func() {
				n, err := store.RevokeSubject(ctx, testApp, "subject", base.Add(time.Duration(i)*time.Hour))
				require.NoError(t, err)
				require.Equal(t, map[bool]int{true: 1}[i == 0], n)
			})
		}
		got, err := store.Session(ctx, testApp, "session")
		require.NoError(t, err)
		require.Equal(t, base, got.RevokedAt, "the first time stays")
	})
}

// TestSilentNetwork promises that a pool whose network drops packets for a while
// works again soon after, with the timeouts in the data source name that the
// documentation asks for, though all its connections are dead and none is closed;
// and that a store which cannot be made for such a network says what to set.
func TestSilentNetwork(t *testing.T) {
	rounds.Long(t)
	onServers(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		const connections = 4
		d.migrate(t, d.open(t))
		proxy := d.server.NewProxy(t)
		dsn := d.server.DSNThrough(proxy, d.name) + map[sqlstore.Dialect]string{
			sqlstore.PostgreSQL: "&connect_timeout=1",
			sqlstore.MySQL:      "?timeout=1s&readTimeout=1s&writeTimeout=1s",
		}[d.dialect]
		db := d.openDSN(t, dsn)
		db.SetMaxOpenConns(connections)
		store := d.tokenStore(t, db, sqlstore.WithStatementTimeout(time.Second))
		s := newSession("session")
		require.NoError(t, store.CreateSession(ctx, s))
		read := func(callers int) (failed int) {
			errs := make(chan error, callers)
			for range callers {
				go func() {
					brief, cancel := context.WithTimeout(ctx, 2*time.Second)
					defer cancel()
					_, err := store.Session(brief, s.AppID, s.ID)
					errs <- err
				}()
			}
			for range callers {
				if <-errs != nil {
					failed++
				}
			}
			return failed
		}
		require.Zero(t, read(2*connections))
		restore := proxy.Silence()
		require.Equal(t, 2*connections, read(2*connections))
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := sqlstore.NewTokenStore(brief, d.openDSN(t, d.server.DSNThrough(proxy, d.name)), d.dialect)
		require.ErrorContains(t, err, "connect timeout")
		restore()
		require.Eventually(t, func() bool { return read(2*connections) == 0 }, 20*time.Second, 50*time.Millisecond)
	})
}
