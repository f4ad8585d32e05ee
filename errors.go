package renew

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that stores return. A store may wrap them; callers test with
// [errors.Is].
var (
	// ErrAppNotFound means that no app has this ID.
	ErrAppNotFound = errors.New("app not found")
	// ErrAppExists means that there is an app of this ID already.
	ErrAppExists = errors.New("app exists")
	// ErrKeyNotFound means that the app has no such key, or no signing key yet.
	ErrKeyNotFound = errors.New("key not found")
	// ErrKeyExists means that the app has, or has had, a signing key of this ID
	// that is not deleted yet.
	ErrKeyExists = errors.New("key exists")
	// ErrKeyRevoked means that the key was revoked; what it signed is rejected.
	ErrKeyRevoked = errors.New("key revoked")
	// ErrSessionNotFound means that the app has no session of this ID.
	ErrSessionNotFound = errors.New("session not found")
	// ErrSessionExists means that the app has a session of this ID already.
	ErrSessionExists = errors.New("session exists")
	// ErrConflict means that the session is not at the token ID that a rotation
	// starts from, or that it is revoked.
	ErrConflict = errors.New("session changed concurrently")
)

// Errors of the [Renewer]. Any error that is not one of these, nor a
// [*ValidationError], is an internal error: a store, a key or a hook failed. Of
// the errors above, only ErrAppNotFound and, from the methods that revoke by
// session ID, ErrSessionNotFound are about the request; a service responds to
// every other one as to an internal error.
var (
	// ErrInvalidAppKey means that the app is known and the app key is not one of
	// its keys.
	ErrInvalidAppKey = errors.New("invalid app key")
	// ErrInvalidToken matches every rejected token, of either kind.
	ErrInvalidToken = errors.New("invalid token")
	// ErrInvalidRefreshToken means that the refresh token was rejected. The
	// error is a [*TokenError], which holds the reason for a log; tell the
	// client no more than this.
	ErrInvalidRefreshToken = errors.New("invalid refresh token")
	// ErrInvalidAuthToken means that the auth token was rejected. The error is a
	// [*TokenError].
	ErrInvalidAuthToken = errors.New("invalid auth token")
	// ErrDenied is for a [WithRenewFunc] function to wrap: the renewal is
	// rejected, and the client sees an invalid refresh token.
	ErrDenied = errors.New("renewal denied")
	// ErrAhead means that the presented token is newer than the session in the
	// store, which has lost a write. It is an internal error: see [AheadFails].
	ErrAhead = errors.New("token is ahead of the store")
	// ErrClock means that a genuine refresh token or a stored session was made
	// in the future, by more than the leeway and a minute: the clock of this
	// server is behind, or that of another one was ahead. It is an internal
	// error, and the presented token stays valid.
	ErrClock = errors.New("token or session is from the future: clocks differ")
)

// Reason says why a token was rejected. It is for logs, metrics and [Event], not
// for the client.
type Reason string

// The reasons, in the order in which a token is checked.
const (
	ReasonMalformed      Reason = "malformed"       // not a compact JWS with the header of this library
	ReasonUnknownKey     Reason = "unknown_key"     // kid names no key of the app
	ReasonRevokedKey     Reason = "revoked_key"     // kid names a revoked key
	ReasonAlgorithm      Reason = "wrong_algorithm" // alg is not that of the key
	ReasonSignature      Reason = "bad_signature"   // the key did not sign this
	ReasonClaims         Reason = "bad_claims"      // a claim is missing, not of its type, or must not be there
	ReasonType           Reason = "wrong_type"      // an auth token for a refresh token, or the reverse
	ReasonIssuer         Reason = "wrong_issuer"    // iss is not the app's, nor a former one
	ReasonRetiredKey     Reason = "retired_key"     // exp is later than that of any token that the replaced key can have signed
	ReasonUnknownSession Reason = "unknown_session" // never stored, or deleted
	ReasonRevokedSession Reason = "revoked_session" // revoked by a caller, or for reuse
	ReasonEndedSession   Reason = "ended_session"   // past EndsAt
	ReasonTooEarly       Reason = "not_yet_valid"   // before nbf
	ReasonExpired        Reason = "expired"         // at or after exp
	ReasonSuperseded     Reason = "superseded"      // used, within the reuse leeway or while this request was under way
	ReasonReused         Reason = "reused"          // used: someone holds a copy
	ReasonAhead          Reason = "ahead"           // newer than the session: see AheadRejected
	ReasonDenied         Reason = "denied"          // the WithRenewFunc function denied the renewal
)

// TokenError is a rejected token. It matches [ErrInvalidToken] and, by the kind
// of token that was expected, [ErrInvalidRefreshToken] or
// [ErrInvalidAuthToken]. Its text is safe to log.
type TokenError struct {
	Reason Reason
	Detail string // what exactly was wrong, such as a claim's name; may be empty
	Err    error  // the cause, such as what a WithRenewFunc function returned; may be nil
	kind   error
}

func (e *TokenError) Error() string {
	kind := e.kind
	if kind == nil { // constructed outside this package
		kind = ErrInvalidToken
	}
	text := kind.Error() + ": " + string(e.Reason)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Is reports whether target is one of the sentinels that e matches.
func (e *TokenError) Is(target error) bool { return target == e.kind || target == ErrInvalidToken }

// Unwrap returns the cause.
func (e *TokenError) Unwrap() error { return e.Err }

// SessionError says which session an error is about, for a log. Renew wraps
// every error in one that occurs once the token is known to be genuine.
type SessionError struct {
	AppID, SessionID, TokenID string
	Err                       error
}

func (e *SessionError) Error() string {
	return fmt.Sprintf("app %q, session %s: %v", e.AppID, e.SessionID, e.Err)
}

// Unwrap returns the error itself.
func (e *SessionError) Unwrap() error { return e.Err }

// hookError is what a WithRenewFunc function returned. Callers see its cause,
// except sentinels that would change the response, or the renewal: the function may
// have renewed another session.
type hookError struct{ err error }

func (e *hookError) Error() string { return e.err.Error() }

func (e *hookError) Is(target error) bool {
	switch target {
	case ErrInvalidToken, ErrInvalidRefreshToken, ErrInvalidAuthToken, ErrAppNotFound, ErrInvalidAppKey, ErrAhead, ErrClock, errChanged:
		return false
	}
	return errors.Is(e.err, target)
}

func (e *hookError) As(target any) bool {
	switch target.(type) {
	case **TokenError, **ValidationError:
		return false
	}
	return errors.As(e.err, target)
}

// ValidationError is a malformed request. Nothing has changed.
type ValidationError struct {
	Fields []FieldError // in the order of the request's fields, never empty
}

// FieldError says what is wrong with one field. It marshals to what the documented
// endpoint responds.
type FieldError struct {
	Field   string `json:"field"` // its name on the wire, such as "useragent"
	Message string `json:"message"`
}

func (e *ValidationError) Error() string {
	texts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		texts[i] = f.Field + " " + f.Message
	}
	return "invalid request: " + strings.Join(texts, "; ")
}

func sessionError(s Session, tokenID string, err error) error {
	return &SessionError{AppID: s.AppID, SessionID: s.ID, TokenID: tokenID, Err: err}
}
