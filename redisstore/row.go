package redisstore

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jwtrenew/renew"
)

// The fields of a session's hash. Times are in milliseconds since 1970. What is
// zero or nil has no field.
const (
	fieldApp              = "app"
	fieldID               = "id"
	fieldSubject          = "subject"
	fieldAudience         = "audience" // a JSON array
	fieldClaims           = "claims"   // a JSON object
	fieldCreatedAt        = "created_at"
	fieldEndsAt           = "ends_at"
	fieldRevokedAt        = "revoked_at"
	fieldGeneration       = "generation"
	fieldTokenID          = "token_id"
	fieldPreviousTokenID  = "previous_token_id"
	fieldIssuedAt         = "issued_at"
	fieldRefreshNotBefore = "refresh_not_before"
	fieldRefreshExpiresAt = "refresh_expires_at"
	fieldKeyHash          = "idempotency_key_hash" // hexadecimal
	fieldIP               = "ip"
	fieldUserAgent        = "user_agent"
)

// optional are the fields that a session may lack.
var optional = []string{fieldAudience, fieldClaims, fieldEndsAt, fieldRevokedAt, fieldKeyHash}

// lacking returns the names of the fields that are not among the fields and values.
func lacking(pairs []any) string {
	names := slices.Clone(optional)
	for i := 0; i < len(pairs); i += 2 {
		names = slices.DeleteFunc(names, func(name string) bool { return name == pairs[i] })
	}
	return strings.Join(names, " ")
}

// maxMillis is the largest time that the numbers of Redis and Lua keep exactly; it
// is in the year 287396.
const maxMillis = 1<<53 - 1

// fields returns a session as the fields and values of its hash. They share no
// memory with it.
func fields(s renew.Session) ([]any, error) {
	w := fieldWriter{}
	w.text(fieldApp, s.AppID)
	w.text(fieldID, s.ID)
	w.text(fieldSubject, s.Subject)
	if s.Audience != nil {
		if slices.ContainsFunc(s.Audience, func(text string) bool { return !utf8.ValidString(text) }) {
			return nil, errors.New("the audience is not valid UTF-8")
		}
		audience, err := json.Marshal(s.Audience)
		if err != nil {
			return nil, fmt.Errorf("audience: %w", err)
		}
		w.text(fieldAudience, string(audience))
	}
	if len(s.Claims) > 0 {
		w.text(fieldClaims, string(s.Claims))
	}
	w.time(fieldCreatedAt, s.CreatedAt)
	if !s.EndsAt.IsZero() {
		w.time(fieldEndsAt, s.EndsAt)
	}
	if !s.RevokedAt.IsZero() {
		w.time(fieldRevokedAt, s.RevokedAt)
	}
	w.text(fieldGeneration, strconv.FormatInt(s.Generation, 10))
	w.text(fieldTokenID, s.TokenID)
	w.text(fieldPreviousTokenID, s.PreviousTokenID)
	w.time(fieldIssuedAt, s.IssuedAt)
	w.time(fieldRefreshNotBefore, s.RefreshNotBefore)
	w.time(fieldRefreshExpiresAt, s.RefreshExpiresAt)
	if len(s.IdempotencyKeyHash) > 0 {
		w.text(fieldKeyHash, hex.EncodeToString(s.IdempotencyKeyHash))
	}
	w.text(fieldIP, s.IP)
	w.text(fieldUserAgent, s.UserAgent)
	return w.pairs, w.err
}

type fieldWriter struct {
	pairs []any
	err   error
}

func (w *fieldWriter) text(name, value string) { w.pairs = append(w.pairs, name, value) }

func (w *fieldWriter) time(name string, t time.Time) {
	ms := t.UnixMilli()
	if ms > maxMillis || ms < -maxMillis {
		w.err = fmt.Errorf("%s is over 285,000 years away", name)
	}
	w.text(name, strconv.FormatInt(ms, 10))
}

// session reads the reply to HGETALL. Fields that it does not know are ignored.
func session(flat []string) (renew.Session, error) {
	r := fieldReader{values: make(map[string]string, len(flat)/2)}
	for i := 0; i+1 < len(flat); i += 2 {
		r.values[flat[i]] = flat[i+1]
	}
	s := renew.Session{
		AppID:            r.text(fieldApp),
		ID:               r.text(fieldID),
		Subject:          r.text(fieldSubject),
		CreatedAt:        r.time(fieldCreatedAt),
		EndsAt:           r.timeOrZero(fieldEndsAt),
		RevokedAt:        r.timeOrZero(fieldRevokedAt),
		Generation:       r.number(fieldGeneration),
		TokenID:          r.text(fieldTokenID),
		PreviousTokenID:  r.text(fieldPreviousTokenID),
		IssuedAt:         r.time(fieldIssuedAt),
		RefreshNotBefore: r.time(fieldRefreshNotBefore),
		RefreshExpiresAt: r.time(fieldRefreshExpiresAt),
		IP:               r.text(fieldIP),
		UserAgent:        r.text(fieldUserAgent),
	}
	if audience, ok := r.values[fieldAudience]; ok {
		r.check(fieldAudience, json.Unmarshal([]byte(audience), &s.Audience))
	}
	if claims, ok := r.values[fieldClaims]; ok {
		s.Claims = json.RawMessage(claims)
	}
	if hash, ok := r.values[fieldKeyHash]; ok {
		var err error
		s.IdempotencyKeyHash, err = hex.DecodeString(hash)
		r.check(fieldKeyHash, err)
	}
	return s, r.err
}

type fieldReader struct {
	values map[string]string
	err    error
}

// check notes what is malformed without its value, which may be a claim.
func (r *fieldReader) check(name string, err error) {
	if err != nil {
		r.err = fmt.Errorf("redisstore: the stored session has no valid %s", name)
	}
}

func (r *fieldReader) text(name string) string {
	value, ok := r.values[name]
	if !ok {
		r.check(name, errors.New("missing"))
	}
	return value
}

func (r *fieldReader) number(name string) int64 {
	n, err := strconv.ParseInt(r.values[name], 10, 64)
	r.check(name, err)
	return n
}

func (r *fieldReader) time(name string) time.Time { return time.UnixMilli(r.number(name)).UTC() }

func (r *fieldReader) timeOrZero(name string) time.Time {
	if _, ok := r.values[name]; !ok {
		return time.Time{}
	}
	return r.time(name)
}

// end is when the session ends, in milliseconds, as [renew.Session.EndedBefore]
// judges it after a round trip through the store.
func end(s renew.Session) int64 { return s.End().UnixMilli() }

// ceilMillis returns the first millisecond that is not before t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}
