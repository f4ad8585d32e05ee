package jwtplus

import "fmt"

// Reason says why a row was not taken over, or what was changed of it.
type Reason string

// The reasons for which a row is not taken over.
const (
	ReasonID           Reason = "id"            // the ID is NULL, or not a ULID in canonical form
	ReasonDuplicate    Reason = "duplicate"     // several rows have this ID
	ReasonNull         Reason = "null"          // a column that is needed is NULL
	ReasonApp          Reason = "app"           // the app is unknown, or was not taken over
	ReasonAppSettings  Reason = "app_settings"  // a name, a lifetime or an app key that no app can have
	ReasonKey          Reason = "key"           // the signing key is unknown, or was not taken over
	ReasonRevokedKey   Reason = "revoked_key"   // the signing key is revoked
	ReasonMalformedKey Reason = "malformed_key" // the signing key cannot be read, or its halves do not fit
	ReasonKeyOrder     Reason = "key_order"     // the app has another active key by now, which stays
	ReasonEmptyTokens  Reason = "empty_tokens"  // JWTPlus has lost the session: it has stored empty tokens
	ReasonExpired      Reason = "expired"       // the refresh token has expired
	ReasonTimes        Reason = "times"         // a time is not a number of seconds
	ReasonRefreshToken Reason = "refresh_token" // the stored refresh token would be rejected
	ReasonAuthToken    Reason = "auth_token"    // the stored auth token is malformed, or its key did not sign it
	ReasonSubject      Reason = "subject"       // the auth token's subject is not that of the column
	ReasonAudience     Reason = "audience"      // the auth token's audience cannot be read
	ReasonClaims       Reason = "claims"        // custom claims that the library does not sign, as over 16 KiB
	ReasonStore        Reason = "store"         // the token store does not keep such a session
)

// The reasons for which a row that is taken over is reported: see [Line.Taken].
const (
	ReasonIP          Reason = "ip"            // the session has no IP address, as the column is not one
	ReasonUserAgent   Reason = "user_agent"    // the user agent was replaced or cut, as at a login
	ReasonLongSubject Reason = "subject_limit" // RevokeSubject and Sessions do not find a subject such as this
	ReasonIssuers     Reason = "issuers"       // more former issuers than an app can have, or malformed ones
	ReasonNoKey       Reason = "no_key"        // the app has no signing key to take over
	ReasonRevokedNow  Reason = "revoked_now"   // the key had been taken over before, and was revoked now
)

// Line is one row that is not taken over, or not as it was. It holds no token, no
// key, no subject and no claim.
type Line struct {
	Table  string `json:"table"`
	ID     string `json:"id"`            // the row's; empty if it is NULL; quoted and cut if it is not a ULID
	AppID  string `json:"app,omitempty"` // empty if the app is not known
	Reason Reason `json:"reason"`
	Detail string `json:"detail"`
	Taken  bool   `json:"taken"` // the row is taken over, with what Detail says
	Err    error  `json:"-"`     // what the store returned, with ReasonStore: a store's error may quote what it was given
}

func (l Line) String() string {
	outcome := "not taken over"
	if l.Taken {
		outcome = "taken over"
	}
	return fmt.Sprintf("%s %s: %s: %s (%s)", l.Table, l.ID, outcome, l.Detail, l.Reason)
}

// rejection is a row that is not taken over.
type rejection struct {
	reason Reason
	detail string
	err    error // with ReasonStore
}

func reject(reason Reason, format string, args ...any) *rejection {
	return &rejection{reason: reason, detail: fmt.Sprintf(format, args...)}
}

// shownID returns an ID for a Line. What is not an ID may be anything, a token
// included.
func shownID(id string) string {
	const most = 32
	switch {
	case id == "" || isID(id):
		return id
	case len(id) > most:
		return fmt.Sprintf("%.8q…", id)
	}
	return fmt.Sprintf("%q", id)
}
