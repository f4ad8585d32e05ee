package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

var (
	_ renew.TokenStore   = (*TokenStore)(nil)
	_ renew.SubjectStore = (*TokenStore)(nil)
	_ renew.Purger       = (*TokenStore)(nil)
)

// TokenStore keeps sessions in a database. It is safe for concurrent use, and so
// is any number of them on one database. Make one with [NewTokenStore].
//
// A session that is written must fit: app ID, ID, subject, token IDs, IP address
// and retry proof at most 255 bytes, the user agent and the audience as JSON at
// most 65,535, the claims at most 16 MiB; text is valid UTF-8 without the
// character U+0000. Anything else is an error and nothing is written. A
// [renew.Renewer] asks for less.
type TokenStore struct {
	config   config
	db       *sql.DB
	writing  turn
	prepared statements

	insert        *sql.Stmt
	read          *sql.Stmt
	rotate        *sql.Stmt
	revoke        *sql.Stmt
	ofSubject     *sql.Stmt
	revokeSubject *sql.Stmt
	due           *sql.Stmt
}

// The statements. What a rotation compares and replaces is one row, found by its
// primary key. purge_at changes only where the session is to end earlier than it
// said, so that its index is left alone.
const (
	insertSession = `INSERT INTO {sessions} (` + sessionColumns + `, purge_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	readSession = `SELECT ` + sessionColumns + ` FROM {sessions} WHERE app_id = ? AND id = ?`
	rotateTo    = `UPDATE {sessions} SET subject = ?, audience = ?, claims = ?, created_at = ?, ends_at = ?,
		revoked_at = ?, generation = ?, token_id = ?, previous_token_id = ?, issued_at = ?, not_before = ?,
		expires_at = ?, retry_proof = ?, ip = ?, user_agent = ?, purge_at = {least}(purge_at, ?){count}
		WHERE app_id = ? AND id = ? AND token_id = ? AND revoked_at IS NULL`
	// Of a revoked session it writes the row once more: that it is revoked was only
	// read, and may not be durable yet.
	revokeOne = `UPDATE {sessions} SET revoked_at = COALESCE(revoked_at, ?){count} WHERE app_id = ? AND id = ?`

	readSubject = `SELECT ` + sessionColumns + ` FROM {sessions}
		WHERE app_id = ? AND subject = ? AND revoked_at IS NULL AND expires_at > ? AND (ends_at IS NULL OR ends_at > ?)
		ORDER BY created_at DESC, id DESC`
	revokeAllOfSubject = `UPDATE {sessions} SET revoked_at = ? WHERE app_id = ? AND subject = ? AND revoked_at IS NULL`
)

// NewTokenStore returns a store in the database, whose tables [Migrate] has
// made. It prepares its statements, so that a database that is not there, tables
// that are missing, or an SQLite connection without a busy timeout show here.
func NewTokenStore(ctx context.Context, db *sql.DB, dialect Dialect, opts ...Option) (*TokenStore, error) {
	c, err := newConfig(db, dialect, opts)
	if err != nil {
		return nil, fmt.Errorf("sqlstore.NewTokenStore: %w", err)
	}
	s := &TokenStore{config: c, db: db, writing: writingTurn(dialect)}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore.NewTokenStore: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *TokenStore) prepare(ctx context.Context) error {
	if err := s.config.checkConnection(ctx, s.db); err != nil {
		return err
	}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.insert, s.insertQuery()},
		{&s.read, readSession},
		{&s.rotate, rotateTo},
		{&s.revoke, revokeOne},
		{&s.ofSubject, readSubject},
		{&s.revokeSubject, revokeAllOfSubject},
		{&s.due, dueSessions},
	} {
		if err := s.prepared.prepare(ctx, s.db, s.config.sql(p.query), p.stmt); err != nil {
			return err
		}
	}
	return nil
}

// insertQuery has the database answer for a taken ID with no row, where it can,
// and not with an error, which would fill its log.
func (s *TokenStore) insertQuery() string {
	if s.config.dialect == MySQL { // its INSERT IGNORE would also cut what is too long
		return insertSession
	}
	return insertSession + " ON CONFLICT DO NOTHING"
}

// Close gives the prepared statements back. The database stays open.
func (s *TokenStore) Close() error { return s.prepared.close() }

// CreateSession stores a new session. [renew.ErrSessionExists]: the app has one
// of that ID, live or not. After any other error the session may be stored.
func (s *TokenStore) CreateSession(ctx context.Context, session renew.Session) error {
	r, err := newRow(session)
	if err != nil {
		return fmt.Errorf("sqlstore: create session: %w", err)
	}
	n, err := s.exec(ctx, false, s.insert, append(r.args(), r.endsAt())...)
	switch {
	case isDuplicate(err) || err == nil && n == 0:
		return renew.ErrSessionExists
	case err != nil:
		return fmt.Errorf("sqlstore: create session: %w", err)
	}
	return nil
}

// Session returns the session as it stands, revoked and expired ones too.
// [renew.ErrSessionNotFound]: there is none.
func (s *TokenStore) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return renew.Session{}, err
	}
	if !storable(appID) || !storable(sessionID) {
		return renew.Session{}, renew.ErrSessionNotFound
	}
	var r row
	err := retry(ctx, true, func() error {
		return s.read.QueryRowContext(ctx, appID, sessionID).Scan(r.dest()...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return renew.Session{}, renew.ErrSessionNotFound
	}
	if err != nil {
		return renew.Session{}, fmt.Errorf("sqlstore: read session: %w", err)
	}
	return r.session()
}

// Rotate replaces the session (next.AppID, next.ID) by next if it is not revoked
// and its token ID is from: one UPDATE, whose condition the database evaluates. It
// writes the row even if next is the session as it is. It returns
// [renew.ErrConflict] if the token ID is another or the session is revoked, and
// [renew.ErrSessionNotFound] if there is no such session. After any other error the
// rotation may have happened.
func (s *TokenStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	r, err := newRow(next)
	if err != nil {
		return fmt.Errorf("sqlstore: rotate session: %w", err)
	}
	if !storable(from) { // no session is there, and a database might take offence
		from = ""
	}
	args := append(r.args()[2:], r.endsAt(), next.AppID, next.ID, from)
	for range maxAttempts {
		n, err := s.exec(ctx, false, s.rotate, args...)
		if err != nil {
			return fmt.Errorf("sqlstore: rotate session: %w", err)
		}
		if n > 0 {
			return nil
		}
		now, err := s.Session(ctx, next.AppID, next.ID)
		if err != nil {
			return err
		}
		// If the condition holds by now, the session was created in between: a
		// conflict would then be a result that was never right.
		if now.TokenID != from || !now.RevokedAt.IsZero() {
			return renew.ErrConflict
		}
	}
	return errors.New("sqlstore: rotate session: too many concurrent changes")
}

// RevokeSession sets RevokedAt to at, whatever the session's token ID. Of a
// revoked session it keeps the time, writes the row once more, so that nil is as
// durable as for a session that was live, and returns nil. It returns
// [renew.ErrSessionNotFound] if there is no such session. A zero time, which would
// leave the session live, is an error.
func (s *TokenStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case at.IsZero():
		return errZeroTime
	case !storable(appID) || !storable(sessionID):
		return renew.ErrSessionNotFound
	}
	n, err := s.exec(ctx, true, s.revoke, at.UnixMilli(), appID, sessionID)
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: revoke session: %w", err)
	case n == 0:
		return renew.ErrSessionNotFound
	}
	return nil
}

var errZeroTime = errors.New("sqlstore: revoke: the time is zero")

// SubjectSessions returns the sessions of the subject that are live at the given
// time, newest CreatedAt first, of equal ones the greater ID first. None is an
// empty result, not an error. It reads the subject's own rows only.
func (s *TokenStore) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) || !storable(subject) {
		return nil, nil
	}
	var sessions []renew.Session
	err := retry(ctx, true, func() error {
		var err error
		sessions, err = s.readSubject(ctx, appID, subject, at.UnixMilli())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqlstore: read sessions of subject: %w", err)
	}
	return sessions, nil
}

func (s *TokenStore) readSubject(ctx context.Context, appID, subject string, at int64) ([]renew.Session, error) {
	rows, err := s.ofSubject.QueryContext(ctx, appID, subject, at, at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err has said what went wrong
	var sessions []renew.Session
	for rows.Next() {
		var r row
		if err := rows.Scan(r.dest()...); err != nil {
			return nil, err
		}
		session, err := r.session()
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, session)
	}
	return sessions, rows.Err()
}

// RevokeSubject sets RevokedAt to at on every session of the subject that is not
// revoked yet and whose ID is not in keep, and returns how many these were,
// expired ones counted. A session that is created concurrently may be missed. A
// zero time is an error.
func (s *TokenStore) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case at.IsZero():
		return 0, errZeroTime
	case !storable(appID) || !storable(subject):
		return 0, nil
	}
	args := []any{at.UnixMilli(), appID, subject}
	keep = slices.DeleteFunc(slices.Clone(keep), func(id string) bool { return !storable(id) })
	if len(keep) > 0 {
		return s.revokeSubjectExcept(ctx, args, keep)
	}
	n, err := s.exec(ctx, false, s.revokeSubject, args...)
	if err != nil {
		return 0, fmt.Errorf("sqlstore: revoke sessions of subject: %w", err)
	}
	return n, nil
}

func (s *TokenStore) revokeSubjectExcept(ctx context.Context, args []any, keep []string) (int, error) {
	for _, id := range keep {
		args = append(args, id)
	}
	query := s.config.sql(revokeAllOfSubject + " AND id NOT IN (?" + strings.Repeat(", ?", len(keep)-1) + ")")
	n, err := s.write(ctx, false, func() (sql.Result, error) { return s.db.ExecContext(ctx, query, args...) })
	if err != nil {
		return 0, fmt.Errorf("sqlstore: revoke sessions of subject: %w", err)
	}
	return n, nil
}

// exec runs a statement that is a transaction of its own, and returns how many
// rows it has changed.
func (s *TokenStore) exec(ctx context.Context, idempotent bool, stmt *sql.Stmt, args ...any) (int, error) {
	return s.write(ctx, idempotent, func() (sql.Result, error) { return stmt.ExecContext(ctx, args...) })
}

func (s *TokenStore) write(ctx context.Context, idempotent bool, exec func() (sql.Result, error)) (int, error) {
	var n int64
	err := retry(ctx, idempotent, func() error {
		if err := s.writing.take(ctx); err != nil {
			return err
		}
		defer s.writing.pass()
		result, err := exec()
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return int(n), err
}

// writingTurn lets one statement of this process write at a time, where the
// database allows no more: SQLite. Those who wait there for the lock of the file
// sleep and try again, some for seconds, and do not hear their context.
func writingTurn(dialect Dialect) turn {
	if dialect != SQLite {
		return nil
	}
	return make(turn, 1)
}

// turn is a lock that can be waited for until a context is done. Nil: everybody
// may go on.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	if t == nil {
		return nil
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) pass() {
	if t != nil {
		<-t
	}
}
