package sqlstore

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jwtrenew/renew"
)

// sessionColumns are in the order of a row's args and dest.
const sessionColumns = `app_id, id, subject, audience, claims, created_at, ends_at,
	revoked_at, generation, token_id, previous_token_id, issued_at, not_before,
	expires_at, retry_proof, ip, user_agent`

// row is a session as it is stored.
type row struct {
	fields              renew.Session // those that are stored as they are
	audience, claims    sql.NullString
	createdAt           int64
	endsAtOrNull        sql.NullInt64
	revokedAt           sql.NullInt64
	issuedAt, notBefore int64
	expiresAt           int64
	retryProof          []byte
}

// The most bytes that the columns hold on every database.
const (
	maxNameBytes   = 255
	maxTextBytes   = 1<<16 - 1
	maxClaimsBytes = 1<<24 - 1
)

// newRow rejects what some database could not keep exactly.
func newRow(s renew.Session) (row, error) {
	r := row{
		fields:     s,
		createdAt:  s.CreatedAt.UnixMilli(),
		issuedAt:   s.IssuedAt.UnixMilli(),
		notBefore:  s.RefreshNotBefore.UnixMilli(),
		expiresAt:  s.RefreshExpiresAt.UnixMilli(),
		retryProof: bytes.Clone(s.IdempotencyKeyHash), // a statement may outlast the call
	}
	if s.Audience != nil {
		audience, err := json.Marshal(s.Audience)
		if err != nil {
			return row{}, fmt.Errorf("audience: %w", err)
		}
		r.audience = sql.NullString{String: string(audience), Valid: true}
	}
	r.claims = sql.NullString{String: string(s.Claims), Valid: len(s.Claims) > 0}
	r.endsAtOrNull = sql.NullInt64{Int64: s.EndsAt.UnixMilli(), Valid: !s.EndsAt.IsZero()}
	r.revokedAt = sql.NullInt64{Int64: s.RevokedAt.UnixMilli(), Valid: !s.RevokedAt.IsZero()}
	if len(r.retryProof) == 0 {
		r.retryProof = nil
	}
	return r, r.check()
}

func (r *row) check() error {
	for _, text := range []struct {
		name, value string
		most        int
	}{
		{"app ID", r.fields.AppID, maxNameBytes},
		{"ID", r.fields.ID, maxNameBytes},
		{"subject", r.fields.Subject, maxNameBytes},
		{"token ID", r.fields.TokenID, maxNameBytes},
		{"previous token ID", r.fields.PreviousTokenID, maxNameBytes},
		{"IP address", r.fields.IP, maxNameBytes},
		{"user agent", r.fields.UserAgent, maxTextBytes},
		{"audience", strings.Join(r.fields.Audience, ""), maxTextBytes},
		{"audience", r.audience.String, maxTextBytes},
		{"claims", r.claims.String, maxClaimsBytes},
	} {
		if len(text.value) > text.most {
			return fmt.Errorf("the %s is %d bytes long, over %d", text.name, len(text.value), text.most)
		}
		if !utf8.ValidString(text.value) || strings.ContainsRune(text.value, 0) {
			return fmt.Errorf("the %s is not valid UTF-8, or has the character U+0000", text.name)
		}
	}
	if len(r.retryProof) > maxNameBytes {
		return fmt.Errorf("the idempotency key hash is %d bytes long, over %d", len(r.retryProof), maxNameBytes)
	}
	return nil
}

// storable reports whether a row can have this name. What cannot be stored is
// not found; some databases return an error for the question.
func storable(name string) bool {
	return len(name) <= maxNameBytes && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

func (r *row) args() []any {
	f := &r.fields
	return []any{
		f.AppID, f.ID, f.Subject, r.audience, r.claims, r.createdAt, r.endsAtOrNull,
		r.revokedAt, f.Generation, f.TokenID, f.PreviousTokenID, r.issuedAt, r.notBefore,
		r.expiresAt, r.retryProof, f.IP, f.UserAgent,
	}
}

func (r *row) dest() []any {
	f := &r.fields
	return []any{
		&f.AppID, &f.ID, &f.Subject, &r.audience, &r.claims, &r.createdAt, &r.endsAtOrNull,
		&r.revokedAt, &f.Generation, &f.TokenID, &f.PreviousTokenID, &r.issuedAt, &r.notBefore,
		&r.expiresAt, &r.retryProof, &f.IP, &f.UserAgent,
	}
}

// endsAt is the time for which [renew.Session.EndedBefore] asks.
func (r *row) endsAt() int64 {
	if r.endsAtOrNull.Valid {
		return min(r.expiresAt, r.endsAtOrNull.Int64)
	}
	return r.expiresAt
}

func (r *row) session() (renew.Session, error) {
	s := r.fields
	if r.audience.Valid {
		if err := json.Unmarshal([]byte(r.audience.String), &s.Audience); err != nil {
			return renew.Session{}, fmt.Errorf("sqlstore: the stored audience is not a JSON array of strings: %w", err)
		}
	}
	if r.claims.Valid {
		s.Claims = json.RawMessage(r.claims.String)
	}
	s.CreatedAt, s.IssuedAt = fromMillis(r.createdAt), fromMillis(r.issuedAt)
	s.RefreshNotBefore, s.RefreshExpiresAt = fromMillis(r.notBefore), fromMillis(r.expiresAt)
	if r.endsAtOrNull.Valid {
		s.EndsAt = fromMillis(r.endsAtOrNull.Int64)
	}
	if r.revokedAt.Valid {
		s.RevokedAt = fromMillis(r.revokedAt.Int64)
	}
	if len(r.retryProof) > 0 {
		s.IdempotencyKeyHash = r.retryProof
	}
	return s, nil
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
