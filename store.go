package renew

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// TokenStore keeps sessions, one record each, however often they are renewed.
//
// A session is one login. A token ID names the one pair of tokens that is
// current in it. A rotation is the step from one token ID to the next, and the
// store's part in the promise that a refresh token has one successor: it
// compares and replaces in one atomic step.
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
//	     ErrSessionNotFound) and nothing changes
//	T5   of any number of Rotates with one from, one returns nil
//	T6   once Rotate or RevokeSession has returned nil, every later Session,
//	     from any process, shows it: read the primary, not a replica
//	T7   a revoked session is never rotated or revived; revoking again is nil
//	     and keeps the first time
//	T8   with a context that is already done: its error, and nothing changes
//	T9   nothing handed in or out is shared: changing it afterwards changes no
//	     stored session
//	T10  IDs and subjects are opaque and exact: case, trailing spaces, quotes,
//	     %, unicode, 255 bytes; no two are confused, none is executed
//	T11  DeleteExpired removes only sessions that had ended before the given
//	     time, at most limit
//	T12  an outage is an error of its own, never ErrSessionNotFound or
//	     ErrConflict
//	T13  durable stores: what was answered nil survives a kill of the process
//	     and of the database
//
// Errors may be wrapped. Any error but the ones named is taken for an outage
// whose effect is unknown; after such an error of Rotate the Renewer reads the
// session to learn whether it happened. No method reads a clock.
type TokenStore interface {
	// CreateSession stores a new session. ErrSessionExists: the app has one of
	// that ID, live or not.
	CreateSession(ctx context.Context, s Session) error

	// Session returns the session as it stands, revoked and expired ones too.
	// ErrSessionNotFound: there is none.
	Session(ctx context.Context, appID, sessionID string) (Session, error)

	// Rotate replaces the session (next.AppID, next.ID) by next if it is not
	// revoked and its token ID is from. next.RevokedAt is zero. ErrConflict:
	// the token ID is another, or the session is revoked. ErrSessionNotFound:
	// there is none.
	Rotate(ctx context.Context, from string, next Session) error

	// RevokeSession sets RevokedAt to at, whatever the session's token ID.
	// On a revoked session it is nil and changes nothing. ErrSessionNotFound:
	// there is none.
	RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error
}

// SubjectStore is what a [TokenStore] may also be, so that a user's sessions can
// be listed and ended together.
type SubjectStore interface {
	// SubjectSessions returns the sessions of the subject that are live at the
	// given time (see [Session.Live]), newest CreatedAt first, of equal ones
	// the greater ID first. None is an empty result, not an error.
	SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]Session, error)

	// RevokeSubject sets RevokedAt to at on every session of the subject that
	// is not revoked yet, and returns how many these were. Expired ones count:
	// with a leeway their last token may be good for some seconds more. A
	// session that is created meanwhile may be missed.
	RevokeSubject(ctx context.Context, appID, subject string, at time.Time) (int, error)
}

// Purger is what a [TokenStore] may also be, so that what has ended goes.
//
// The caller runs it from time to time, as often as disk or memory asks for. A
// refresh token of a deleted session is refused as before, with another reason.
type Purger interface {
	// DeleteExpired deletes sessions of which [Session.EndedBefore] is true, at
	// most limit, and returns how many; fewer than limit means that none is
	// left. A limit below 1 deletes nothing. Take [WithLeeway] off the time: a
	// token inside the leeway still renews.
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

	Generation      int64     // renewals so far
	TokenID         string    // current jid, a ULID, canonical
	PreviousTokenID string    // the one it replaced; empty at generation 0
	IssuedAt        time.Time // of the current pair; when Generation > 0 also the time of rotation
	NotBefore       time.Time // of the current refresh token
	ExpiresAt       time.Time // of the current refresh token
	RetryProof      []byte    // SHA-256 of the last renewal's idempotency key; nil: none was sent

	IP, UserAgent string // as the last issue or renewal gave them
}

// Live reports whether the session is neither revoked nor over at the given
// time: before EndsAt, and before its refresh token expires.
func (s Session) Live(at time.Time) bool {
	return s.RevokedAt.IsZero() && !s.ended(at) && at.Before(s.ExpiresAt)
}

// EndedBefore reports whether the session's refresh token, or its absolute life,
// ended before the given time.
func (s Session) EndedBefore(t time.Time) bool {
	return s.ExpiresAt.Before(t) || !s.EndsAt.IsZero() && s.EndsAt.Before(t)
}

// Clone returns a copy that shares no memory with s, as law T9 asks of a store
// that keeps sessions in memory.
func (s Session) Clone() Session {
	s.Audience = slices.Clone(s.Audience)
	s.Claims = bytes.Clone(s.Claims)
	s.RetryProof = bytes.Clone(s.RetryProof)
	return s
}

func (s Session) ended(at time.Time) bool {
	return !s.EndsAt.IsZero() && !at.Before(s.EndsAt)
}
