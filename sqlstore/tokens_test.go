package sqlstore_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestRotationThatChangesNothing promises that a rotation counts when its
// condition held, also where the new session is the old one: MySQL reports rows
// that were changed, or with clientFoundRows rows that were matched.
func TestRotationThatChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		d.migrate(t, d.open(t))
		dsns := []string{d.dsn}
		if d.dialect == sqlstore.MySQL {
			dsns = append(dsns, d.dsn+"?clientFoundRows=true", d.dsn+"?interpolateParams=true")
		}
		for i, dsn := range dsns {
			store := d.tokenStore(t, d.openDSN(t, dsn))
			s := newSession(tokenID(i))
			require.NoError(t, store.CreateSession(t.Context(), s))
			require.ErrorIs(t, store.CreateSession(t.Context(), s), renew.ErrSessionExists)
			require.NoError(t, store.Rotate(t.Context(), s.TokenID, s))
			require.NoError(t, store.Rotate(t.Context(), s.TokenID, s))
			require.ErrorIs(t, store.Rotate(t.Context(), tokenID(7), s), renew.ErrConflict)
			require.NoError(t, store.RevokeSession(t.Context(), s.AppID, s.ID, base))
			require.NoError(t, store.RevokeSession(t.Context(), s.AppID, s.ID, base))
			require.ErrorIs(t, store.Rotate(t.Context(), s.TokenID, s), renew.ErrConflict)
			require.ErrorIs(t, store.RevokeSession(t.Context(), s.AppID, "another", base), renew.ErrSessionNotFound)
		}
	})
}

// TestConfirmationsAreWrites promises that a rotation to the session as it is, and
// a revocation of what is revoked already, write the row: what was read may not be
// durable yet, and nil must mean that it is. The database itself says whether a
// row was written.
func TestConfirmationsAreWrites(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.migrate(t, d.open(t))
		db := d.open(t)
		store := d.tokenStore(t, db)
		s := newSession("session")
		require.NoError(t, store.CreateSession(ctx, s))
		requireWrite(t, d, db, func() { require.NoError(t, store.Rotate(ctx, s.TokenID, s)) })
		requireWrite(t, d, db, func() { require.NoError(t, store.RevokeSession(ctx, s.AppID, s.ID, base)) })
		requireWrite(t, d, db, func() {
			require.NoError(t, store.RevokeSession(ctx, s.AppID, s.ID, base.Add(time.Hour)))
		})
		got, err := store.Session(ctx, s.AppID, s.ID)
		require.NoError(t, err)
		require.Equal(t, base, got.RevokedAt, "the first time stays")
	})
}

// requireWrite checks that f writes the test's one row.
func requireWrite(t *testing.T, d *database, db *sql.DB, f func()) {
	t.Helper()
	version := map[sqlstore.Dialect]string{
		sqlstore.SQLite:     "SELECT writes FROM renew_sessions",
		sqlstore.PostgreSQL: "SELECT xmin::text::bigint FROM renew_sessions",
		sqlstore.MySQL:      "SELECT writes FROM renew_sessions",
	}[d.dialect]
	before := count(t, db, version)
	f()
	require.NotEqual(t, before, count(t, db, version))
}

// TestWhatDoesNotFit promises that no text is ever cut or changed to fit: it is
// refused when it is written, and not found when it is asked for.
func TestWhatDoesNotFit(t *testing.T) {
	long, huge := strings.Repeat("a", 256), strings.Repeat("a", 1<<16)
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		db := d.open(t)
		d.migrate(t, db)
		store := d.tokenStore(t, db)
		for name, change := range map[string]func(s *renew.Session){
			"app ID":            func(s *renew.Session) { s.AppID = long },
			"ID":                func(s *renew.Session) { s.ID = long },
			"subject":           func(s *renew.Session) { s.Subject = long },
			"token ID":          func(s *renew.Session) { s.TokenID = long },
			"previous token ID": func(s *renew.Session) { s.PreviousTokenID = long },
			"IP":                func(s *renew.Session) { s.IP = long },
			"retry proof":       func(s *renew.Session) { s.IdempotencyKeyHash = []byte(long) },
			"user agent":        func(s *renew.Session) { s.UserAgent = huge },
			"audience":          func(s *renew.Session) { s.Audience = []string{huge} },
			"claims":            func(s *renew.Session) { s.Claims = []byte(`"` + strings.Repeat("a", 1<<24) + `"`) },
			"not UTF-8":         func(s *renew.Session) { s.Subject = "\xff" },
			"audience, UTF-8":   func(s *renew.Session) { s.Audience = []string{"\xff"} },
			"null character":    func(s *renew.Session) { s.UserAgent = "a\x00b" },
		} {
			s := newSession(name)
			change(&s)
			require.Error(t, store.CreateSession(ctx, s), name)
			require.ErrorIs(t, store.Rotate(ctx, s.TokenID, newSession(name)), renew.ErrSessionNotFound, name)
		}
		require.Zero(t, count(t, db, "SELECT COUNT(*) FROM renew_sessions"))

		s := newSession("session")
		require.NoError(t, store.CreateSession(ctx, s))
		for _, name := range []string{long, "\xff", "a\x00b"} {
			_, err := store.Session(ctx, s.AppID, name)
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
			_, err = store.Session(ctx, name, s.ID)
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
			require.ErrorIs(t, store.RevokeSession(ctx, s.AppID, name, base), renew.ErrSessionNotFound)
			require.ErrorIs(t, store.Rotate(ctx, name, successor(s)), renew.ErrConflict)
			sessions, err := store.SubjectSessions(ctx, s.AppID, name, base)
			require.NoError(t, err)
			require.Empty(t, sessions)
			n, err := store.RevokeSubject(ctx, s.AppID, name, base)
			require.NoError(t, err)
			require.Zero(t, n)
		}
	})
}

// TestOrderIsThatOfBytes promises that of sessions which began at one moment the
// one with the greater ID is first, by bytes and not by the database's alphabet.
func TestOrderIsThatOfBytes(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		store := d.tokenStore(t, db)
		for _, id := range []string{"a", "B", "b", "A", "ä", "_", "a ", "10", "9"} {
			require.NoError(t, store.CreateSession(t.Context(), newSession(id)))
		}
		sessions, err := store.SubjectSessions(t.Context(), testApp, "subject", base)
		require.NoError(t, err)
		var order []string
		for _, s := range sessions {
			order = append(order, s.ID)
		}
		require.Equal(t, []string{"ä", "b", "a ", "a", "_", "B", "A", "9", "10"}, order)
	})
}

// TestWritersTakeTurns promises that on SQLite one statement of a process waits
// for another process that writes, and the others for their turn, where they hear
// their context.
func TestWritersTakeTurns(t *testing.T) {
	d := backends[0].empty(t)
	d.migrate(t, d.open(t))
	db, w := d.openWatched(t)
	store := d.tokenStore(t, db)
	s := newSession("session")
	require.NoError(t, store.CreateSession(t.Context(), s))
	release := lockRow(t, d, s)
	w.take()
	first := make(chan error, 1)
	go func() { first <- store.Rotate(t.Context(), s.TokenID, successor(s)) }()
	require.Eventually(t, func() bool { return w.count() == 1 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	const others = 5
	errs := make(chan error, others)
	for range others {
		go func() { errs <- store.RevokeSession(ctx, s.AppID, s.ID, base) }()
	}
	for range 100 { // if one of them goes on, it shows by now
		require.Equal(t, 1, w.count(), "statements that reached the driver")
		time.Sleep(time.Millisecond)
	}
	cancel()
	for range others {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	release()
	require.NoError(t, <-first)
}
