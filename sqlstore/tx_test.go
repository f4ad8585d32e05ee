package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// TestTx promises that what happens in a transaction of the caller's is stored with
// it or not at all, and that a renewal does not happen there.
func TestTx(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.prepare(t)
		db := d.open(t)
		tokens := d.tokenStore(t, db)
		r, err := renew.New(d.keyStore(t, db), tokens)
		require.NoError(t, err)
		_, err = db.Exec("CREATE TABLE logins (session VARCHAR(26) NOT NULL)")
		require.NoError(t, err)
		in := func(commit bool, f func(*renew.Renewer, *sql.Tx)) {
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			f(r.With(tokens.Tx(tx)), tx)
			if commit {
				require.NoError(t, tx.Commit())
			} else {
				require.NoError(t, tx.Rollback())
			}
		}
		issue := renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"}
		var b *renew.Bundle
		login := func(r *renew.Renewer, tx *sql.Tx) {
			b, err = r.Issue(ctx, issue)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, "INSERT INTO logins (session) VALUES ('"+b.SessionID+"')")
			require.NoError(t, err)
			sessions, err := r.Sessions(ctx, testApp, "user")
			require.NoError(t, err)
			require.Equal(t, b.SessionID, sessions[0].ID, "seen inside")
		}
		in(false, login)
		require.Zero(t, count(t, db, "SELECT COUNT(*) FROM renew_sessions"))
		in(true, login)
		require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM renew_sessions JOIN logins ON id = session"))

		in(true, func(inside *renew.Renewer, _ *sql.Tx) {
			_, err := inside.Renew(ctx, renew.RenewRequest{AppID: testApp, RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test"})
			require.ErrorIs(t, err, errors.ErrUnsupported)
		})
		a, err := renewer{r}.renew(ctx, b.RefreshToken, "")
		require.NoError(t, err, "the token is as valid as it was")

		revoke := func(inside *renew.Renewer, _ *sql.Tx) {
			n, err := inside.RevokeSubject(ctx, testApp, "user")
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		in(false, revoke)
		a, err = renewer{r}.renew(ctx, a.RefreshToken, "")
		require.NoError(t, err)
		in(true, revoke)
		_, err = renewer{r}.renew(ctx, a.RefreshToken, "")
		require.ErrorIs(t, err, errRefused)

		done, cancel := context.WithCancel(ctx)
		cancel()
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		inside := tokens.Tx(tx)
		require.ErrorIs(t, inside.CreateSession(done, newSession("session")), context.Canceled)
		require.ErrorIs(t, inside.RevokeSession(ctx, testApp, "unknown", base), renew.ErrSessionNotFound)
		_, err = inside.Session(ctx, testApp, b.SessionID)
		require.NoError(t, err)
		require.ErrorIs(t, inside.CreateSession(ctx, func() renew.Session { s := newSession(b.SessionID); return s }()), renew.ErrSessionExists)
		require.NoError(t, tx.Rollback())
	})
}

// TestLoginRacesPassword promises that a login which races a change of password in
// transactions that lock the user's row either ends with it or uses the new
// password.
func TestLoginRacesPassword(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.prepare(t)
		db := d.open(t)
		tokens := d.tokenStore(t, db)
		r, err := renew.New(d.keyStore(t, db), tokens)
		require.NoError(t, err)
		_, err = db.Exec("CREATE TABLE users (id INT PRIMARY KEY, password INT NOT NULL)")
		require.NoError(t, err)
		_, err = db.Exec("INSERT INTO users VALUES (1, 0)")
		require.NoError(t, err)
		login := func(password int) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			var current int
			if err := tx.QueryRowContext(ctx, "SELECT password FROM users WHERE id = 1 FOR UPDATE").Scan(&current); err != nil {
				return err
			}
			if current != password {
				return nil
			}
			if _, err = r.With(tokens.Tx(tx)).Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"}); err != nil {
				return err
			}
			return tx.Commit()
		}
		for password := range 20 {
			done := make(chan error, 2)
			for range 2 {
				go func() { done <- login(password) }()
			}
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, "UPDATE users SET password = password + 1 WHERE id = 1")
			require.NoError(t, err)
			_, err = r.With(tokens.Tx(tx)).RevokeSubject(ctx, testApp, "user")
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
			require.NoError(t, <-done)
			require.NoError(t, <-done)
			sessions, err := tokens.SubjectSessions(ctx, testApp, "user", time.Now())
			require.NoError(t, err)
			require.Empty(t, sessions, "a session of the old password is alive")
		}
	})
}
