package dynamostore

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jwtrenew/renew"
)

// The attributes of a session. Times are in milliseconds since 1970, except
// expires_at and listed_until, which are in seconds. What is empty or zero has no
// attribute.
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
	fieldKeyHash          = "idempotency_key_hash" // binary
	fieldIP               = "ip"
	fieldUserAgent        = "user_agent"

	// fieldLiveUntil is when the session ends, for DeleteExpired.
	fieldLiveUntil = "live_until"
	// fieldExpiresAt is when DynamoDB may delete the item, of an entry too: the
	// table's time to live.
	fieldExpiresAt = "expires_at"
	// fieldListedUntil is the expires_at of the session's entry in its subject's
	// list.
	fieldListedUntil = "listed_until"
)

// sessionFields are the attributes that a rotation replaces. Those of them that the
// new session lacks are removed.
var sessionFields = []string{
	fieldApp, fieldID, fieldSubject, fieldAudience, fieldClaims, fieldCreatedAt, fieldEndsAt, fieldRevokedAt,
	fieldGeneration, fieldTokenID, fieldPreviousTokenID, fieldIssuedAt, fieldRefreshNotBefore, fieldRefreshExpiresAt,
	fieldKeyHash, fieldIP, fieldUserAgent, fieldLiveUntil, fieldExpiresAt,
}

// fields returns a session as attributes, which share no memory with it.
func fields(s renew.Session) (item, error) {
	w := fieldWriter{item: item{}}
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
	w.text(fieldClaims, string(s.Claims))
	w.number(fieldCreatedAt, s.CreatedAt.UnixMilli())
	w.timeUnlessZero(fieldEndsAt, s.EndsAt)
	w.timeUnlessZero(fieldRevokedAt, s.RevokedAt)
	w.number(fieldGeneration, s.Generation)
	w.text(fieldTokenID, s.TokenID)
	w.text(fieldPreviousTokenID, s.PreviousTokenID)
	w.number(fieldIssuedAt, s.IssuedAt.UnixMilli())
	w.number(fieldRefreshNotBefore, s.RefreshNotBefore.UnixMilli())
	w.number(fieldRefreshExpiresAt, s.RefreshExpiresAt.UnixMilli())
	w.binary(fieldKeyHash, s.IdempotencyKeyHash)
	w.text(fieldIP, s.IP)
	w.text(fieldUserAgent, s.UserAgent)
	w.number(fieldLiveUntil, s.End().UnixMilli())
	return w.item, nil
}

type fieldWriter struct{ item item }

func (w fieldWriter) text(name, value string) {
	if v := textValue(value); v != nil {
		w.item[name] = v
	}
}

// textValue is a string, or as bytes what is not valid UTF-8: the SDK would change it.
// The empty string has no value.
func textValue(value string) types.AttributeValue {
	switch {
	case value == "":
		return nil
	case utf8.ValidString(value):
		return text(value)
	}
	return &types.AttributeValueMemberB{Value: []byte(value)}
}

func (w fieldWriter) binary(name string, value []byte) {
	if len(value) > 0 {
		w.item[name] = &types.AttributeValueMemberB{Value: slices.Clone(value)}
	}
}

func (w fieldWriter) number(name string, n int64) { w.item[name] = number(n) }

func (w fieldWriter) timeUnlessZero(name string, t time.Time) {
	if !t.IsZero() {
		w.number(name, t.UnixMilli())
	}
}

// session reads the attributes of a session. Those that it does not know are ignored.
func session(i item) (renew.Session, error) {
	r := fieldReader{item: i}
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
	if audience := r.text(fieldAudience); audience != "" {
		if json.Unmarshal([]byte(audience), &s.Audience) != nil {
			r.fail(fieldAudience)
		}
	}
	if claims := r.text(fieldClaims); claims != "" {
		s.Claims = json.RawMessage(claims)
	}
	if hash := r.text(fieldKeyHash); hash != "" {
		s.IdempotencyKeyHash = []byte(hash)
	}
	return s, r.err
}

type fieldReader struct {
	item item
	err  error
}

// fail notes what is malformed without its value, which may be a claim.
func (r *fieldReader) fail(name string) {
	r.err = fmt.Errorf("the stored session has no valid %s", name)
}

// text reads a string or bytes. It returns the empty string if there is no such
// attribute.
func (r *fieldReader) text(name string) string {
	switch v := r.item[name].(type) {
	case nil:
		return ""
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberB:
		return string(v.Value)
	}
	r.fail(name)
	return ""
}

func (r *fieldReader) number(name string) int64 {
	v, ok := r.item[name].(*types.AttributeValueMemberN)
	if !ok {
		r.fail(name)
		return 0
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil {
		r.fail(name)
	}
	return n
}

func (r *fieldReader) time(name string) time.Time { return time.UnixMilli(r.number(name)).UTC() }

func (r *fieldReader) timeOrZero(name string) time.Time {
	if _, ok := r.item[name]; !ok {
		return time.Time{}
	}
	return r.time(name)
}

// ceilMillis returns the first millisecond that is not before t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}
