// Package sessionfields turns a session into named fields and back, for stores that keep
// a session as a record of fields: redisstore and dynamostore. The names are part of what
// is stored, and an operator reads them.
//
// Modules other than the root import it: a change must keep their last release
// compiling, and what it has written readable.
package sessionfields

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jwtrenew/renew"
)

// The fields. Times are in milliseconds since 1970. Those of Optional are left out where
// the session has a zero or nil value.
const (
	App              = "app"
	ID               = "id"
	Subject          = "subject"
	Audience         = "audience" // a JSON array
	Claims           = "claims"   // a JSON object
	CreatedAt        = "created_at"
	EndsAt           = "ends_at"
	RevokedAt        = "revoked_at"
	Generation       = "generation"
	TokenID          = "token_id"
	PreviousTokenID  = "previous_token_id"
	IssuedAt         = "issued_at"
	RefreshNotBefore = "refresh_not_before"
	RefreshExpiresAt = "refresh_expires_at"
	KeyHash          = "idempotency_key_hash"
	IP               = "ip"
	UserAgent        = "user_agent"
)

// All returns the names of all fields.
func All() []string {
	return append([]string{
		App, ID, Subject, CreatedAt, Generation, TokenID, PreviousTokenID, IssuedAt, RefreshNotBefore, RefreshExpiresAt, IP, UserAgent,
	}, Optional()...)
}

// Optional returns the names of the fields that a session may lack.
func Optional() []string { return []string{Audience, Claims, EndsAt, RevokedAt, KeyHash} }

// Writer takes the fields of a session. It must not keep the bytes.
type Writer interface {
	Text(name, value string)
	Number(name string, n int64)
	Bytes(name string, value []byte)
}

// Write writes the fields of a session. It returns an error for an audience that JSON
// would change.
func Write(s renew.Session, w Writer) error {
	if slices.ContainsFunc(s.Audience, func(text string) bool { return !utf8.ValidString(text) }) {
		return errors.New("the audience is not valid UTF-8")
	}
	if s.Audience != nil {
		audience, err := json.Marshal(s.Audience)
		if err != nil {
			return fmt.Errorf("audience: %w", err)
		}
		w.Text(Audience, string(audience))
	}
	if len(s.Claims) > 0 {
		w.Text(Claims, string(s.Claims))
	}
	if !s.EndsAt.IsZero() {
		w.Number(EndsAt, s.EndsAt.UnixMilli())
	}
	if !s.RevokedAt.IsZero() {
		w.Number(RevokedAt, s.RevokedAt.UnixMilli())
	}
	if len(s.IdempotencyKeyHash) > 0 {
		w.Bytes(KeyHash, s.IdempotencyKeyHash)
	}
	w.Text(App, s.AppID)
	w.Text(ID, s.ID)
	w.Text(Subject, s.Subject)
	w.Number(CreatedAt, s.CreatedAt.UnixMilli())
	w.Number(Generation, s.Generation)
	w.Text(TokenID, s.TokenID)
	w.Text(PreviousTokenID, s.PreviousTokenID)
	w.Number(IssuedAt, s.IssuedAt.UnixMilli())
	w.Number(RefreshNotBefore, s.RefreshNotBefore.UnixMilli())
	w.Number(RefreshExpiresAt, s.RefreshExpiresAt.UnixMilli())
	w.Text(IP, s.IP)
	w.Text(UserAgent, s.UserAgent)
	return nil
}

// Reader has the fields of a session as they are stored. A field is not ok if it is
// malformed, or missing where the store writes one for every session.
type Reader interface {
	Has(name string) bool
	Text(name string) (value string, ok bool)
	Number(name string) (n int64, ok bool)
	Bytes(name string) (value []byte, ok bool)
}

// Read reads a session; fields that it does not know are ignored. The error names a
// malformed field without its value, which may be a claim.
func Read(from Reader) (renew.Session, error) {
	r := reader{from: from}
	s := renew.Session{
		AppID:              r.text(App),
		ID:                 r.text(ID),
		Subject:            r.text(Subject),
		CreatedAt:          r.time(CreatedAt),
		EndsAt:             r.timeOrZero(EndsAt),
		RevokedAt:          r.timeOrZero(RevokedAt),
		Generation:         r.number(Generation),
		TokenID:            r.text(TokenID),
		PreviousTokenID:    r.text(PreviousTokenID),
		IssuedAt:           r.time(IssuedAt),
		RefreshNotBefore:   r.time(RefreshNotBefore),
		RefreshExpiresAt:   r.time(RefreshExpiresAt),
		IdempotencyKeyHash: r.keyHash(),
		IP:                 r.text(IP),
		UserAgent:          r.text(UserAgent),
	}
	if from.Has(Audience) {
		r.check(Audience, json.Unmarshal([]byte(r.text(Audience)), &s.Audience) == nil)
	}
	if from.Has(Claims) {
		s.Claims = json.RawMessage(r.text(Claims))
	}
	return s, r.err
}

type reader struct {
	from Reader
	err  error
}

func (r *reader) check(name string, ok bool) {
	if !ok {
		r.err = fmt.Errorf("the stored session has no valid %s", name)
	}
}

func (r *reader) text(name string) string {
	value, ok := r.from.Text(name)
	r.check(name, ok)
	return value
}

func (r *reader) number(name string) int64 {
	n, ok := r.from.Number(name)
	r.check(name, ok)
	return n
}

func (r *reader) time(name string) time.Time { return time.UnixMilli(r.number(name)).UTC() }

func (r *reader) timeOrZero(name string) time.Time {
	if !r.from.Has(name) {
		return time.Time{}
	}
	return r.time(name)
}

func (r *reader) keyHash() []byte {
	if !r.from.Has(KeyHash) {
		return nil
	}
	hash, ok := r.from.Bytes(KeyHash)
	r.check(KeyHash, ok)
	return hash
}

// CeilMillis returns the first millisecond since 1970 that is not before t.
func CeilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// SortNewestFirst sorts sessions as [renew.SubjectStore] returns them.
func SortNewestFirst(sessions []renew.Session) {
	slices.SortFunc(sessions, func(a, b renew.Session) int {
		if n := b.CreatedAt.Compare(a.CreatedAt); n != 0 {
			return n
		}
		return strings.Compare(b.ID, a.ID)
	})
}
