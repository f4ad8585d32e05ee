package renew

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that stores return. A store may wrap them; callers test with
// [errors.Is].
var (
	// ErrAppNotFound: no app has this ID.
	ErrAppNotFound = errors.New("app not found")
	// ErrKeyNotFound: the app has no such key, or no signing key yet.
	ErrKeyNotFound = errors.New("key not found")
	// ErrKeyRevoked: the key was revoked; what it signed is refused.
	ErrKeyRevoked = errors.New("key revoked")
	// ErrSessionNotFound: the app has no session of this ID.
	ErrSessionNotFound = errors.New("session not found")
	// ErrSessionExists: the app has a session of this ID already.
	ErrSessionExists = errors.New("session exists")
	// ErrConflict: the session is not, or no longer, at the token ID that a
	// rotation started from, or it is revoked.
	ErrConflict = errors.New("session was changed meanwhile")
)

// Errors of the [Renewer]. What is none of these, and no [*ValidationError], is
// the server's fault: a store, a key or a hook failed. Of the errors above,
// only ErrAppNotFound and, from [Renewer.RevokeSession], ErrSessionNotFound
// answer a caller's request; a service answers for every other one as
// for an internal error.
var (
	// ErrInvalidAppKey: the app is known, the app key is not one of its keys.
	ErrInvalidAppKey = errors.New("invalid app key")
	// ErrInvalidToken matches every refused token, of either kind.
	ErrInvalidToken = errors.New("invalid token")
	// ErrInvalidRefreshToken: the refresh token renews nothing. The error is a
	// [*TokenError], which holds the reason for a log; tell the client no more
	// than this.
	ErrInvalidRefreshToken = errors.New("invalid refresh token")
	// ErrInvalidAuthToken: the auth token proves nothing. The error is a
	// [*TokenError].
	ErrInvalidAuthToken = errors.New("invalid auth token")
	// ErrDenied is for a [WithRenewFunc] function to wrap: the renewal is
	// refused, and the client sees an invalid refresh token.
	ErrDenied = errors.New("renewal denied")
	// ErrAhead: the presented token is newer than the session in the store. The
	// store has lost a write: an old backup, or a lagging replica.
	ErrAhead = errors.New("token is ahead of the store")
)

// Reason says why a token was refused. It is for logs, metrics and [Event], not
// for the client.
type Reason string

// The reasons, in the order in which a token is checked.
const (
	ReasonMalformed      Reason = "malformed"            // not a compact JWS with the header of this library
	ReasonUnknownKey     Reason = "unknown key"          // kid names no key of the app
	ReasonRevokedKey     Reason = "revoked key"          // kid names a revoked key
	ReasonAlgorithm      Reason = "wrong algorithm"      // alg is not that of the key
	ReasonSignature      Reason = "bad signature"        // the key did not sign this
	ReasonClaims         Reason = "bad claims"           // a claim is missing, or not of its type
	ReasonType           Reason = "wrong type"           // an auth token for a refresh token, or the reverse
	ReasonIssuer         Reason = "wrong issuer"         // iss is not the app's
	ReasonTooEarly       Reason = "too early"            // before nbf
	ReasonExpired        Reason = "expired"              // at or after exp
	ReasonUnknownSession Reason = "unknown session"      // never stored, or deleted
	ReasonRevokedSession Reason = "revoked session"      // revoked by a caller, or for reuse
	ReasonEndedSession   Reason = "ended session"        // past EndsAt
	ReasonSuperseded     Reason = "superseded just now"  // used, within the reuse leeway
	ReasonReused         Reason = "reused"               // used: a copy of it is about
	ReasonDenied         Reason = "denied by renew func" // the WithRenewFunc function said no
)

// TokenError is a refused token. It matches [ErrInvalidToken] and, by the kind
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
	if kind == nil { // somebody else made it
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

// Unwrap returns the error proper.
func (e *SessionError) Unwrap() error { return e.Err }

// hookError is what a WithRenewFunc function returned. Callers see its cause, but
// for what would pass for an answer to the request.
type hookError struct{ err error }

func (e *hookError) Error() string { return e.err.Error() }

func (e *hookError) Is(target error) bool {
	switch target {
	case ErrInvalidToken, ErrInvalidRefreshToken, ErrInvalidAuthToken, ErrAppNotFound, ErrInvalidAppKey, ErrAhead:
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

// ValidationError is a request that is wrong in form. Nothing was looked up and
// nothing has changed.
type ValidationError struct {
	Fields []FieldError // in the order of the request's fields, never empty
}

// FieldError says what is wrong with one field. It marshals to what the
// documented endpoint answers.
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
