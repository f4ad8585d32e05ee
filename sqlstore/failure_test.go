package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// lostAnswers is a store whose driver loses the answer to the next statement:
// the statement happens, and then the connection breaks.
func lostAnswers(t *testing.T, d *database) (store renew.TokenStore, w *watch, db *sql.DB) {
	t.Helper()
	plain := d.open(t)
	d.migrate(t, plain)
	watched, w := d.openWatched(t)
	return d.tokenStore(t, watched), w, plain
}

// TestUnclearOutcome promises that a write whose answer is lost is an error of
// its own, and not sent again where that could do harm.
func TestUnclearOutcome(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		store, w, db := lostAnswers(t, d)
		reader := d.tokenStore(t, db)
		s := newSession("session")

		w.take()
		w.loseNext()
		requireUnclear(t, store.CreateSession(t.Context(), s))
		statements, _, _ := w.take()
		require.Len(t, statements, 1, "a new session is not sent again")
		got, err := reader.Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, s, got, "it happened all the same")

		next := successor(s)
		w.loseNext()
		requireUnclear(t, store.Rotate(t.Context(), s.TokenID, next))
		statements, _, _ = w.take()
		require.Len(t, statements, 1, "a rotation is not sent again")
		got, err = reader.Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, next, got, "it happened all the same")

		require.NoError(t, store.CreateSession(t.Context(), func() renew.Session { o := newSession("another's"); o.Subject = "another"; return o }()))
		w.loseNextUpdate()
		_, err = store.(renew.SubjectStore).RevokeSubject(t.Context(), s.AppID, "another", base)
		requireUnclear(t, err)

		w.loseNext()
		got, err = store.Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err, "a read is repeated")
		require.Equal(t, next, got)

		w.loseNext()
		require.NoError(t, store.RevokeSession(t.Context(), s.AppID, s.ID, base), "a revocation is repeated")
		got, err = reader.Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, base, got.RevokedAt)
	})
}

func requireUnclear(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	for _, answer := range []error{renew.ErrConflict, renew.ErrSessionNotFound, renew.ErrSessionExists} {
		require.NotErrorIs(t, err, answer)
	}
}

// TestRenewerSettles promises that a renewal whose rotation's answer was lost is
// answered all the same, once the session shows that it happened.
func TestRenewerSettles(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		r, tokens, _, _ := watchedRenewer(t, d, time.Hour)
		b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		tokens.loseNextUpdate()
		a, err := r.renew(t.Context(), b.RefreshToken, "")
		require.NoError(t, err)
		_, err = r.renew(t.Context(), a.RefreshToken, "")
		require.NoError(t, err)
	})
}

// TestDriverThatPanics promises that a panic of the driver, which is called in a
// goroutine of this package, ends neither the process nor a session: it is an error
// like a connection that broke.
func TestDriverThatPanics(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		r, tokens, keys, _ := watchedRenewer(t, d, 0)
		b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		log := captureLog(t)
		for _, w := range []*watch{tokens, keys} {
			w.panicNext("SELECT")
			_, err = r.renew(t.Context(), b.RefreshToken, "")
			require.ErrorContains(t, err, "panicked")
			require.Contains(t, log(), "watch_test.go", "the log says where")
		}
		tokens.panicNext("UPDATE")
		a, err := r.renew(t.Context(), b.RefreshToken, "")
		require.NoError(t, err, "the rotation had happened")
		_, err = r.renew(t.Context(), a.RefreshToken, "")
		require.NoError(t, err)
	})
}

// TestPoolOfOne promises that a single connection is enough for any number of
// requests at once: none waits for a second one while it holds the first.
func TestPoolOfOne(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.prepare(t)
		r := d.newRenewerOn(t, d.dsn, 1)
		const clients, renewals = 16, 5
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
				if err != nil {
					t.Error(err)
					return
				}
				token := b.RefreshToken
				for range renewals {
					a, err := r.renew(t.Context(), token, "")
					if err != nil {
						t.Error(err)
						return
					}
					token = a.RefreshToken
				}
				if n, err := r.RevokeSubject(t.Context(), testApp, "nobody"); n != 0 || err != nil {
					t.Error(n, err)
				}
			})
		}
		all.Wait()
	})
}

// TestExhaustedPool promises that whoever finds no free connection waits until
// its context ends, gets the context's error, and leaves nothing behind; and that
// all is well when a connection is free again.
func TestExhaustedPool(t *testing.T) {
	inTurn(t, backends, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		db.SetMaxOpenConns(1)
		store := d.tokenStore(t, db)
		s := newSession("session")
		require.NoError(t, store.CreateSession(t.Context(), s))
		held, err := db.Conn(t.Context())
		require.NoError(t, err)
		before := runtime.NumGoroutine()

		ctx, cancel := context.WithCancel(t.Context())
		calls := map[string]func() error{
			"CreateSession": func() error { return store.CreateSession(ctx, newSession("another")) },
			"Session":       func() error { _, err := store.Session(ctx, s.AppID, s.ID); return err },
			"Rotate":        func() error { return store.Rotate(ctx, s.TokenID, successor(s)) },
			"RevokeSession": func() error { return store.RevokeSession(ctx, s.AppID, s.ID, base) },
			"SubjectSessions": func() error {
				_, err := store.SubjectSessions(ctx, s.AppID, s.Subject, base)
				return err
			},
			"RevokeSubject": func() error { _, err := store.RevokeSubject(ctx, s.AppID, s.Subject, base); return err },
			"DeleteExpired": func() error { _, err := store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10); return err },
		}
		errs := make(chan error, len(calls))
		for name, call := range calls {
			go func() { errs <- errors.Join(errors.New(name), call()) }()
		}
		waiting := len(calls)
		if d.dialect == sqlstore.SQLite {
			waiting = 4 // three that read, and one that writes: the others wait for their turn
		}
		require.Eventually(t, func() bool { return db.Stats().WaitCount >= int64(waiting) }, 10*time.Second, time.Millisecond)
		cancel()
		for range calls {
			require.ErrorIs(t, <-errs, context.Canceled)
		}
		require.NoError(t, held.Close())
		got, err := store.Session(t.Context(), s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, s, got, "nothing has changed")
		require.Zero(t, db.Stats().InUse)
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			require.True(t, time.Now().Before(deadline), "goroutines are left")
		}
	})
}

// TestCancelledStatement promises that a context which ends while the database
// is at work is the context's error, and that the connection is not leaked.
func TestCancelledStatement(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		store := d.tokenStore(t, db)
		s := newSession("session")
		require.NoError(t, store.CreateSession(t.Context(), s))
		release := lockRow(t, d, s)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := store.Rotate(ctx, s.TokenID, successor(s))
		require.Error(t, err)
		require.NotErrorIs(t, err, renew.ErrConflict)
		require.Error(t, ctx.Err(), "it waited for the row")
		release()
		require.Eventually(t, func() bool { return db.Stats().InUse == 0 }, 10*time.Second, time.Millisecond)
		// Whether the rotation happens is open: the database may do it before it
		// hears that nobody waits. The session goes on in either case.
		require.Eventually(t, func() bool {
			got, err := store.Session(t.Context(), s.AppID, s.ID)
			return err == nil && store.Rotate(t.Context(), got.TokenID, successor(got)) == nil
		}, 10*time.Second, time.Millisecond)
	})
}

// lockRow keeps the session from being written until release.
func lockRow(t *testing.T, d *database, s renew.Session) (release func()) {
	t.Helper()
	tx, err := d.open(t).Begin()
	require.NoError(t, err)
	_, err = tx.Exec("UPDATE renew_sessions SET ip = '198.51.100.1' WHERE app_id = '" + s.AppID + "' AND id = '" + s.ID + "'")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback()) }
}

// TestDeadlockIsRepeated promises that a statement which the database undoes to
// end a deadlock is done again: here the store's, or the one that it meets.
func TestDeadlockIsRepeated(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		db := d.open(t)
		d.migrate(t, db)
		store := d.tokenStore(t, db)
		const sessions = 2
		for i := range sessions {
			require.NoError(t, store.CreateSession(ctx, newSession(tokenID(i))))
		}
		const rounds = 6
		victims := 0
		for round := range rounds {
			// RevokeSubject locks both sessions, one after the other; the other
			// side has the one that it comes to last, and then wants the first.
			require.NoError(t, clearRevocations(db))
			tx, err := db.Begin()
			require.NoError(t, err)
			first, last := tokenID(round%2), tokenID(1-round%2)
			_, err = tx.Exec("UPDATE renew_sessions SET ip = 'x' WHERE app_id = 'app' AND id = '" + last + "'")
			require.NoError(t, err)
			revoked := make(chan error, 1)
			go func() { _, err := store.RevokeSubject(ctx, testApp, "subject", base); revoked <- err }()
			waitForLock(t, d, db)
			if _, err = tx.Exec("UPDATE renew_sessions SET ip = 'x' WHERE app_id = 'app' AND id = '" + first + "'"); err != nil {
				victims++
			}
			require.NoError(t, tx.Rollback())
			require.NoError(t, <-revoked)
		}
		t.Logf("in %d rounds the other side was undone %d times", rounds, victims)
		require.Zero(t, count(t, db, "SELECT COUNT(*) FROM renew_sessions WHERE revoked_at IS NULL"))
	})
}

func clearRevocations(db *sql.DB) error {
	_, err := db.Exec("UPDATE renew_sessions SET revoked_at = NULL")
	return err
}

// waitForLock returns when a statement of the database waits for a lock. It asks
// five times a second: InnoDB answers from a cache that it brings up to date only
// when nobody has read it for 100 ms.
func waitForLock(t *testing.T, d *database, db *sql.DB) {
	t.Helper()
	query := "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
	if d.dialect == sqlstore.MySQL {
		query = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
	}
	require.Eventually(t, func() bool { return count(t, db, query) > 0 }, 30*time.Second, 200*time.Millisecond)
}
