package renew

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// TokenStore keeps sessions, one record each, however often they are renewed.
//
// A session is one login. A token ID names the one pair of tokens that is
// current in it. A rotation is the step from one token ID to the next: the store
// compares and replaces in one atomic step, so that a refresh token has one
// successor.
//
// All methods may be called at the same time, from any number of goroutines and
// processes. These laws hold for every store:
//
//	T1   what CreateSession stored, Session returns: every field, times equal
//	     to the millisecond and in UTC, claims the same JSON value to the last
//	     digit
//	T2   a taken (app, ID) is ErrSessionExists and leaves the old session as it
//	     was
//	T3   an unknown ID, or another app's, is ErrSessionNotFound
//	T4   Rotate replaces the session as a whole if it exists, is not revoked and
//	     its TokenID is from; otherwise it is ErrConflict (or
//	     ErrSessionNotFound) and nothing changes; next.TokenID may be from: the
//	     row is written once more
//	T5   of any number of Rotates with one from to other token IDs, one takes
//	     effect, and no other returns nil
//	T6   once Rotate or RevokeSession has returned nil, every later Session,
//	     from any process, shows it: read the primary, not a replica
//	T7   a revoked session is never rotated or revived; revoking again is nil
//	     and keeps the first time
//	T8   with a context that is already done: its error, and nothing changes
//	T9   the store and its caller share no memory: changing what was passed or
//	     returned changes no stored session
//	T10  IDs and subjects are opaque and exact: case, trailing spaces, quotes,
//	     %, unicode, 255 bytes; no two are confused, and none is interpreted as
//	     SQL or a pattern
//	T11  DeleteExpired removes only sessions that had ended before the given
//	     time, at most limit; a store may also delete by its own clock a session
//	     that ended an hour ago or earlier
//	T12  an outage is a separate error, never ErrSessionNotFound or
//	     ErrConflict
//	T13  durable stores: an acknowledged write survives a kill of the process
//	     and of the database; so does an acknowledgement of what was already so
//	     (already revoked, already at that token ID)
//
// Errors may be wrapped. Any error but the ones named is treated as an outage
// with unknown effect; after an error of Rotate the Renewer reads the session to
// learn whether it happened. No method reads a clock; what T11 allows is for a
// database whose rows expire by themselves, such as Redis and DynamoDB.
type TokenStore interface {
	// CreateSession stores a new session. It returns ErrSessionExists if the
	// app has one of that ID, live or not.
	CreateSession(ctx context.Context, s Session) error

	// Session returns the current session, revoked and expired ones too. It
	// returns ErrSessionNotFound if the app has no session of this ID, or no longer
	// has it: see T11.
	Session(ctx context.Context, appID, sessionID string) (Session, error)

	// Rotate replaces the session (next.AppID, next.ID) by next if it is not
	// revoked and its token ID is from. next.RevokedAt is zero. It returns
	// ErrConflict if the token ID is another or the session is revoked, and
	// ErrSessionNotFound if there is no such session.
	//
	// If next.TokenID is from, the Renewer confirms what it has read: the row
	// must be written again even if nothing in it changes, so that nil means as
	// much as it does for any other write.
	Rotate(ctx context.Context, from string, next Session) error

	// RevokeSession sets RevokedAt to at, whatever the session's token ID. On a
	// revoked session it returns nil and keeps the first time. It returns
	// ErrSessionNotFound if there is no such session.
	RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error
}

// SubjectStore is an optional interface of a [TokenStore], for listing and
// revoking a user's sessions.
type SubjectStore interface {
	// SubjectSessions returns the sessions of the subject that are live at the
	// given time (see [Session.Live]), newest CreatedAt first, of equal ones
	// the greater ID first. A subject without any is an empty result, not an
	// error.
	SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]Session, error)

	// RevokeSubject sets RevokedAt to at on every session of the subject that
	// is not revoked yet and whose ID is not in keep, and returns how many these
	// were. Expired ones count: with a leeway their last token may be valid for
	// some seconds more. A session that is created concurrently may be missed.
	// With an error, the number is that of the sessions revoked before it.
	RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error)
}

// Purger is an optional interface of a [TokenStore], for deleting expired
// sessions: see [Renewer.DeleteExpired]. A refresh token of a deleted session is
// rejected as before, with another reason.
type Purger interface {
	// DeleteExpired deletes sessions of which [Session.EndedBefore] is true, at
	// most limit, and returns how many; fewer than limit means that none is
	// left. A limit below 1 deletes nothing. Sessions that the database has
	// deleted by its own clock, see T11, are not counted.
	DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error)
}

// Session is one login and its current pair of tokens. It holds no token and no
// key. Times are UTC with a precision of a millisecond.
type Session struct {
	AppID     string
	ID        string // a ULID, canonical
	Subject   string
	Audience  []string
	Claims    json.RawMessage // custom claims, one JSON object; nil: none
	CreatedAt time.Time
	EndsAt    time.Time // absolute end; zero: none
	RevokedAt time.Time // zero: live

	Generation         int64     // renewals so far
	TokenID            string    // current jid, a ULID, canonical
	PreviousTokenID    string    // the one it replaced; empty at generation 0
	IssuedAt           time.Time // of the current pair; when Generation > 0 also the time of rotation
	RefreshNotBefore   time.Time // of the current refresh token
	RefreshExpiresAt   time.Time // of the current refresh token
	IdempotencyKeyHash []byte    // SHA-256 of the last renewal's idempotency key; nil: none was sent

	IP, UserAgent string // as the last issue or renewal gave them
}

// End returns when the session ends unless it is renewed or revoked: when its
// refresh token expires, or at EndsAt if that is earlier.
func (s Session) End() time.Time {
	if !s.EndsAt.IsZero() && s.EndsAt.Before(s.RefreshExpiresAt) {
		return s.EndsAt
	}
	return s.RefreshExpiresAt
}

// Live reports whether the session is neither revoked nor at its end at the given
// time.
func (s Session) Live(at time.Time) bool {
	return s.RevokedAt.IsZero() && at.Before(s.End())
}

// EndedBefore reports whether the session's end is before the given time.
func (s Session) EndedBefore(t time.Time) bool { return s.End().Before(t) }

// Clone returns a copy that shares no memory with s, as law T9 demands of a store
// that keeps sessions in memory.
func (s Session) Clone() Session {
	s.Audience = slices.Clone(s.Audience)
	s.Claims = bytes.Clone(s.Claims)
	s.IdempotencyKeyHash = bytes.Clone(s.IdempotencyKeyHash)
	return s
}

// pastEnd reports whether the session's absolute life is over.
func (s Session) pastEnd(at time.Time) bool {
	return !s.EndsAt.IsZero() && !at.Before(s.EndsAt)
}

// hashIdempotencyKey returns what a session keeps of an idempotency key.
func hashIdempotencyKey(key string) []byte {
	if key == "" {
		return nil
	}
	hash := sha256.Sum256([]byte(key))
	return hash[:]
}

// matchesIdempotencyKey reports whether the last renewal was made with this
// idempotency key.
func (s Session) matchesIdempotencyKey(key string) bool {
	return key != "" && subtle.ConstantTimeCompare(s.IdempotencyKeyHash, hashIdempotencyKey(key)) == 1
}

// readSession reads a session and checks that the store returned that one.
func (r *Renewer) readSession(ctx context.Context, appID, sessionID string) (Session, error) {
	s, err := r.tokens.Session(ctx, appID, sessionID)
	if err == nil && (s.AppID != appID || s.ID != sessionID) {
		return Session{}, errors.New("the token store returned the wrong session")
	}
	return s, err
}
