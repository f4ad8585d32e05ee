package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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
// A session must fit: app ID, ID, subject, token IDs, IP address
// and idempotency key hash at most 255 bytes, the user agent and the audience as JSON at
// most 65,535, the claims at most 16 MiB; text is valid UTF-8 without the
// character U+0000. Anything else is an error and nothing is written. A
// [renew.Renewer] needs less.
type TokenStore struct {
	sessions
	run *runner
	due *stmt

	purged atomic.Int64 // where the next DeleteExpired begins; 0: at the start
}

// sessions are the statements for sessions, on a pool or in a transaction.
type sessions struct {
	on executor

	insert    *stmt
	read      *stmt
	rotate    *stmt
	revoke    *stmt
	ofSubject *stmt
	liveIDs   *stmt
	revoked   *stmt
	touch     *stmt
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

	readSubject = `SELECT ` + sessionColumns + ` FROM {sessions}{by_subject}
		WHERE app_id = ? AND subject = ? AND revoked_at IS NULL AND expires_at > ? AND (ends_at IS NULL OR ends_at > ?)
		ORDER BY created_at DESC, id DESC LIMIT {list}` // as text: SQLite prepares a statement again for another limit
	readLiveIDs   = `SELECT id FROM {sessions}{by_subject} WHERE app_id = ? AND subject = ? AND revoked_at IS NULL LIMIT ?`
	readRevokedID = `SELECT id FROM {sessions}{by_subject} WHERE app_id = ? AND subject = ? AND revoked_at IS NOT NULL LIMIT 1`
	touchRevoked  = `UPDATE {sessions} SET revoked_at = revoked_at{count} WHERE app_id = ? AND id = ? AND revoked_at IS NOT NULL`
	revokeBatch   = `UPDATE {sessions} SET revoked_at = ?{count} WHERE app_id = ? AND id IN ({ids}) AND revoked_at IS NULL`
)

// NewTokenStore returns a store in the database, whose tables [Migrate] has made.
// It prepares its statements and checks what would fail later: see "What is
// checked" in docs/stores.md. Its errors say what to change.
func NewTokenStore(ctx context.Context, db *sql.DB, dialect Dialect, opts ...Option) (*TokenStore, error) {
	c, err := newConfig(db, dialect, opts)
	if err != nil {
		return nil, fmt.Errorf("sqlstore.NewTokenStore: %w", err)
	}
	s := &TokenStore{run: newRunner(c, db)}
	s.on = s.run
	if err := s.run.start(ctx, s.prepare); err != nil {
		return nil, fmt.Errorf("sqlstore.NewTokenStore: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *TokenStore) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt   **stmt
		query  string
		writes bool
	}{
		{&s.insert, insertSession + s.run.insertSuffix, true},
		{&s.read, readSession, false},
		{&s.rotate, rotateTo, true},
		{&s.revoke, revokeOne, true},
		{&s.ofSubject, readSubject, false},
		{&s.liveIDs, readLiveIDs, false},
		{&s.revoked, readRevokedID, false},
		{&s.touch, touchRevoked, true},
		{&s.due, dueSessions, false},
	} {
		if err := s.run.prepare(ctx, p.stmt, p.query, p.writes); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the prepared statements. The database stays open.
func (s *TokenStore) Close() error { return s.run.close() }

// CreateSession stores a new session. It returns [renew.ErrSessionExists] if the app
// has one of that ID, live or not. After any other error the session may be stored.
func (s *sessions) CreateSession(ctx context.Context, session renew.Session) error {
	r, err := newRow(session)
	if err != nil {
		return fmt.Errorf("sqlstore: create session: %w", err)
	}
	n, err := s.on.exec(ctx, false, s.insert, append(r.args(), r.endsAt())...)
	switch {
	case s.on.classify(err) == duplicate || err == nil && n == 0:
		return renew.ErrSessionExists
	case err != nil:
		return fmt.Errorf("sqlstore: create session: %w", err)
	}
	return nil
}

// Session returns the current session, also a revoked or an expired one. It returns
// [renew.ErrSessionNotFound] if there is no such session.
func (s *sessions) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return renew.Session{}, err
	}
	if !storable(appID) || !storable(sessionID) {
		return renew.Session{}, renew.ErrSessionNotFound
	}
	var r row
	err := s.on.query(ctx, s.read, scanOne(func() []any { r = row{}; return r.dest() }), appID, sessionID)
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
	if !storable(from) { // no session has it, and some databases reject it
		from = ""
	}
	args := append(r.args()[2:], r.endsAt(), next.AppID, next.ID, from)
	for range maxAttempts {
		n, err := s.on.exec(ctx, false, s.rotate, args...)
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
func (s *sessions) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case at.IsZero():
		return errZeroTime
	case !storable(appID) || !storable(sessionID):
		return renew.ErrSessionNotFound
	}
	n, err := s.on.exec(ctx, true, s.revoke, at.UnixMilli(), appID, sessionID)
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: revoke session: %w", err)
	case n == 0:
		return renew.ErrSessionNotFound
	}
	return nil
}

var errZeroTime = errors.New("sqlstore: revoke: the time is zero")

// MaxSubjectSessions is how many sessions [TokenStore.SubjectSessions] returns at
// most, and so the greatest [renew.App.MaxSessions] that has an effect.
const MaxSubjectSessions = 1000

// SubjectSessions returns the sessions of the subject that are live at the given
// time, newest CreatedAt first, of equal ones the greater ID first: the newest
// [MaxSubjectSessions] if there are more. A subject without any is an empty
// result, not an error. It reads the subject's own rows only.
func (s *sessions) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) || !storable(subject) {
		return nil, nil
	}
	var all []renew.Session
	err := s.on.query(ctx, s.ofSubject, func(rows *sql.Rows) error {
		all = nil
		for rows.Next() {
			var r row
			if err := rows.Scan(r.dest()...); err != nil {
				return err
			}
			session, err := r.session()
			if err != nil {
				return err
			}
			all = append(all, session)
		}
		return rows.Err()
	}, appID, subject, at.UnixMilli(), at.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("sqlstore: read sessions of subject: %w", err)
	}
	return all, nil
}

// A revocation of a subject reads the IDs of so many live sessions, and revokes
// them in statements of so many: their locks are held for milliseconds.
const (
	subjectPage  = 5000
	subjectBatch = 100
)

// RevokeSubject sets RevokedAt to at on every session of the subject that is not
// revoked yet and whose ID is not in keep, and returns how many these were,
// expired ones counted. A session that is created concurrently may be missed. A
// zero time is an error.
//
// It works in batches of 100 sessions, each a transaction: after an error, the
// number is that of the sessions revoked for certain, and a second call continues.
// If all were revoked already, it writes one of them once more, so that nil means
// that their revocations are durable.
func (s *sessions) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case at.IsZero():
		return 0, errZeroTime
	case !storable(appID) || !storable(subject):
		return 0, nil
	}
	n, err := s.revokeSubject(ctx, appID, subject, at.UnixMilli(), keep)
	if err != nil {
		return n, fmt.Errorf("sqlstore: revoke sessions of subject: %w", err)
	}
	return n, nil
}

func (s *sessions) revokeSubject(ctx context.Context, appID, subject string, at int64, keep []string) (revoked int, err error) {
	for {
		size := subjectPage + len(keep)
		read, err := s.readIDs(ctx, s.liveIDs, appID, subject, size)
		if err != nil {
			return revoked, err
		}
		ids := slices.DeleteFunc(slices.Clone(read), func(id string) bool { return slices.Contains(keep, id) })
		slices.Sort(ids) // two processes then do not wait for each other in a circle
		written := 0
		for batch := range slices.Chunk(ids, subjectBatch) {
			n, err := s.revokeIDs(ctx, appID, at, batch)
			revoked, written = revoked+n, written+n
			if err != nil {
				return revoked, err
			}
		}
		switch {
		case len(read) == size:
		case written > 0: // after the read, so that what it found revoked is as durable
			return revoked, nil
		default:
			return revoked, s.confirmRevoked(ctx, appID, subject)
		}
	}
}

func (s *sessions) readIDs(ctx context.Context, query *stmt, args ...any) ([]string, error) {
	var ids []string
	err := s.on.query(ctx, query, func(rows *sql.Rows) error {
		ids = nil
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	}, args...)
	if err != nil { // the query may still be under way
		return nil, err
	}
	return ids, nil
}

func (s *sessions) revokeIDs(ctx context.Context, appID string, at int64, ids []string) (int, error) {
	args := []any{at, appID}
	for _, id := range ids {
		args = append(args, id)
	}
	query := strings.Replace(revokeBatch, "{ids}", "?"+strings.Repeat(", ?", len(ids)-1), 1)
	return s.on.exec(ctx, false, s.on.render(query, true), args...)
}

// confirmRevoked writes a revoked session of the subject once more, if there is
// one. A later commit is durable only if the earlier ones are.
func (s *sessions) confirmRevoked(ctx context.Context, appID, subject string) error {
	ids, err := s.readIDs(ctx, s.revoked, appID, subject)
	if err != nil || len(ids) == 0 {
		return err
	}
	_, err = s.on.exec(ctx, true, s.touch, appID, ids[0])
	return err
}
