package renew

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew/internal/strictjson"
)

// Limits of a token. No token that this library makes comes near the sizes that it
// accepts.
const (
	maxHeaderBytes       = 512
	maxRefreshTokenBytes = 8 << 10
	maxAuthTokenBytes    = 96 << 10
	maxClaimsBytes       = 16 << 10 // custom claims, as JSON
	maxAudienceBytes     = 4 << 10  // aud, its entries together
)

// What every token has.
const (
	headerType  = "JWT"
	refreshType = "refresh"
)

// Bundle is a new pair of tokens. It marshals to exactly the documented
// response: the first four members, in this order.
type Bundle struct {
	AuthToken    string `json:"auth_token"`
	KeyID        string `json:"key_id"`
	PublicKey    string `json:"public_key"` // base64 (standard, padded) of the PKIX PEM
	RefreshToken string `json:"refresh_token"`

	SessionID        string    `json:"-"`
	TokenID          string    `json:"-"`
	AuthExpiresAt    time.Time `json:"-"`
	RefreshNotBefore time.Time `json:"-"`
	RefreshExpiresAt time.Time `json:"-"`
	Retried          bool      `json:"-"` // an earlier renewal's successor, signed again
}

// header is the protected header of both tokens, and all that one may hold.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

type refreshPayload struct {
	ExpiresAt int64  `json:"exp"`
	IssuedAt  int64  `json:"iat"`
	Issuer    string `json:"iss"`
	TokenID   string `json:"jid"`
	NotBefore int64  `json:"nbf"`
	SessionID string `json:"sid"`
	Type      string `json:"type"`
}

type authPayload struct {
	Audience  audience `json:"aud,omitempty"`
	ExpiresAt int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	IP        string   `json:"ip"`
	Issuer    string   `json:"iss"`
	TokenID   string   `json:"jid"`
	NotBefore int64    `json:"nbf"`
	SessionID string   `json:"sid"`
	Subject   string   `json:"sub"`
	UserAgent string   `json:"useragent"`
}

// audience is the aud claim: a string if there is one, an array if there are
// several (RFC 7519 section 4.1.3).
type audience []string

func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

func readAudience(aud json.RawMessage) (audience, bool) {
	if one, ok := strictjson.String(aud); ok {
		return audience{one}, true
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(aud, &entries); err != nil || entries == nil {
		return nil, false
	}
	all := make(audience, len(entries))
	for i, entry := range entries {
		var ok bool
		if all[i], ok = strictjson.String(entry); !ok {
			return nil, false
		}
	}
	return all, true
}

// mint signs the session's current pair with the app's active key.
func (r *Renewer) mint(ctx context.Context, app App, s Session) (*Bundle, error) {
	key, err := r.keys.SigningKey(ctx, app.ID)
	if err != nil {
		return nil, fmt.Errorf("app %q: read signing key: %w", app.ID, err)
	}
	if key == nil || key.verification == nil {
		return nil, fmt.Errorf("app %q: the key store returned no signing key", app.ID)
	}
	return mint(ctx, app, key, s)
}

// mint signs the session's current pair. Everything in it comes from the session
// except the issuer and the auth token's lifetime, which come from the app.
func mint(ctx context.Context, app App, key *SigningKey, s Session) (*Bundle, error) {
	issuedAt := s.IssuedAt.Unix()
	auth, err := json.Marshal(authPayload{
		Audience:  s.Audience,
		ExpiresAt: app.authExpiresAt(s).Unix(),
		IssuedAt:  issuedAt,
		IP:        s.IP,
		Issuer:    app.Issuer,
		TokenID:   s.TokenID,
		NotBefore: app.authNotBefore(s).Unix(),
		SessionID: s.ID,
		Subject:   s.Subject,
		UserAgent: s.UserAgent,
	})
	if err != nil {
		return nil, fmt.Errorf("auth token: %w", err)
	}
	if auth, err = appendClaims(auth, s.Claims); err != nil {
		return nil, fmt.Errorf("auth token: %w", err)
	}
	refresh, err := json.Marshal(refreshPayload{
		ExpiresAt: s.RefreshExpiresAt.Unix(),
		IssuedAt:  issuedAt,
		Issuer:    app.Issuer,
		TokenID:   s.TokenID,
		NotBefore: s.RefreshNotBefore.Unix(),
		SessionID: s.ID,
		Type:      refreshType,
	})
	if err != nil {
		return nil, fmt.Errorf("refresh token: %w", err)
	}
	b := &Bundle{
		KeyID:            key.verification.id,
		PublicKey:        key.verification.encoded,
		SessionID:        s.ID,
		TokenID:          s.TokenID,
		AuthExpiresAt:    app.authExpiresAt(s),
		RefreshNotBefore: s.RefreshNotBefore,
		RefreshExpiresAt: s.RefreshExpiresAt,
	}
	if b.AuthToken, b.RefreshToken, err = key.signBoth(ctx, auth, refresh); err != nil {
		return nil, err
	}
	return b, nil
}

// authNotBefore and authExpiresAt are the times of the session's auth token.
func (a App) authNotBefore(s Session) time.Time {
	return s.IssuedAt.Truncate(time.Second).Add(a.AuthNotBefore)
}

func (a App) authExpiresAt(s Session) time.Time {
	return capAt(s.IssuedAt.Truncate(time.Second).Add(a.authTTL()), s.EndsAt)
}

// capAt returns t in whole seconds, and not after end unless that is zero.
func capAt(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		t = end
	}
	return t.Truncate(time.Second)
}

// tokenKind is what a token must be where it is presented.
type tokenKind struct {
	rejected error // the sentinel of its TokenErrors
	maxBytes int
	accepts  func(hasType bool, typ string) bool
}

var (
	refreshKind = tokenKind{ErrInvalidRefreshToken, maxRefreshTokenBytes, func(has bool, typ string) bool { return has && typ == refreshType }}
	authKind    = tokenKind{ErrInvalidAuthToken, maxAuthTokenBytes, func(has bool, _ string) bool { return !has }}
	eitherKind  = tokenKind{ErrInvalidToken, maxAuthTokenBytes, func(has bool, typ string) bool { return !has || typ == refreshType }}
)

func (k tokenKind) reject(reason Reason, detail string) *TokenError {
	return &TokenError{Reason: reason, Detail: detail, kind: k.rejected}
}

// token is a token that a key of the app has signed, with the claims that both
// kinds have. Its times are not judged yet.
type token struct {
	kind      tokenKind
	appID     string
	keyID     string
	issuer    string // the app's, or a former one
	tokenID   string
	sessionID string
	issuedAt  time.Time
	notBefore time.Time
	expiresAt time.Time
	members   map[string]json.RawMessage
}

// tooEarly and expired judge the token's times (RFC 7519 sections 4.1.5, 4.1.4).
func (t *token) tooEarly(now time.Time, leeway time.Duration) bool {
	return now.Before(t.notBefore.Add(-leeway))
}

func (t *token) expired(now time.Time, leeway time.Duration) bool {
	return !now.Before(t.expiresAt.Add(leeway))
}

// signed is a compact JWS (RFC 7515 section 3.1) taken apart. Its signature is not
// verified yet.
type signed struct {
	header    header
	payload   []byte
	input     string // what the signature is of
	signature []byte
}

// canonicalBase64 rejects bits that say nothing (RFC 4648 section 3.5).
var canonicalBase64 = base64.RawURLEncoding.Strict()

// split takes a compact JWS apart and checks all that can be checked without a
// key. The header is never trusted to choose: it names a key, and says again which
// algorithm that key has.
func split(compact string, kind tokenKind) (signed, error) {
	malformed := func(detail string) (signed, error) {
		return signed{}, kind.reject(ReasonMalformed, detail)
	}
	if len(compact) > kind.maxBytes {
		return malformed("it is too long")
	}
	segments := strings.SplitN(compact, ".", 4)
	if len(segments) != 3 {
		return malformed("it does not have three segments")
	}
	if len(segments[0]) > base64.RawURLEncoding.EncodedLen(maxHeaderBytes) {
		return malformed("its header is too long")
	}
	// Decoders skip line breaks, even strict ones.
	if strings.IndexByte(compact, '\r') >= 0 || strings.IndexByte(compact, '\n') >= 0 {
		return malformed("it has a line break")
	}
	var decoded [3][]byte
	for i, segment := range segments {
		var err error
		decoded[i], err = canonicalBase64.DecodeString(segment)
		if err != nil || len(decoded[i]) == 0 {
			return malformed("a segment is empty or not canonical base64url")
		}
	}
	h, err := readHeader(decoded[0])
	if err != nil {
		return malformed("its header " + err.Error())
	}
	input := compact[:strings.LastIndexByte(compact, '.')]
	return signed{header: h, payload: decoded[1], input: input, signature: decoded[2]}, nil
}

// What can be wrong with a header, in addition to what strictjson finds.
var (
	errHeaderMember  = errors.New("has a member other than a string alg, a string kid and the typ JWT")
	errHeaderMissing = errors.New("has no alg or no kid")
)

func readHeader(encoded []byte) (header, error) {
	members, err := strictjson.Object(encoded)
	if err != nil {
		return header{}, err
	}
	var h header
	var hasAlgorithm, hasKeyID bool
	for name, value := range members {
		ok := false
		switch name {
		case "alg":
			h.Algorithm, ok = strictjson.String(value)
			hasAlgorithm = ok
		case "kid":
			h.KeyID, ok = strictjson.String(value)
			hasKeyID = ok
		case "typ":
			h.Type, ok = strictjson.String(value)
			ok = ok && h.Type == headerType
		}
		if !ok { // crit, b64, jwk, jku, x5u, x5c and all others included
			return header{}, errHeaderMember
		}
	}
	if !hasAlgorithm || !hasKeyID {
		return header{}, errHeaderMissing
	}
	return h, nil
}

// parse returns the app and the token, if the token is signed by a currently valid
// key of the app and its claims are in order. A text that is not a compact JWS
// with the header of this library costs no call of a store. With an error, the app
// is empty unless the store has it.
func (r *Renewer) parse(ctx context.Context, appID, compact string, kind tokenKind) (App, *token, error) {
	jws, err := split(compact, kind)
	if err != nil {
		return App{}, nil, err
	}
	app, err := r.app(ctx, appID)
	if err != nil {
		return App{}, nil, err
	}
	key, err := r.verificationKey(ctx, app.ID, jws.header.KeyID, kind)
	if err != nil {
		return app, nil, err
	}
	if jws.header.Algorithm != string(key.alg) {
		return app, nil, kind.reject(ReasonAlgorithm, "")
	}
	if !key.verifies([]byte(jws.input), jws.signature) {
		return app, nil, kind.reject(ReasonSignature, "")
	}
	t, err := readClaims(jws.payload, app, kind)
	if err != nil {
		return app, nil, err
	}
	if key.endedBefore(t.expiresAt) {
		return app, nil, kind.reject(ReasonRetiredKey, "")
	}
	t.appID, t.keyID = app.ID, key.id
	return app, t, nil
}

// verificationKey reads a key that may verify a token of the app.
func (r *Renewer) verificationKey(ctx context.Context, appID, keyID string, kind tokenKind) (*VerificationKey, error) {
	if !isCanonicalULID(keyID) {
		return nil, kind.reject(ReasonUnknownKey, "its kid is not a ULID in canonical form")
	}
	key, err := r.keys.VerificationKey(ctx, appID, keyID)
	switch {
	case errors.Is(err, ErrKeyNotFound):
		return nil, kind.reject(ReasonUnknownKey, "")
	case errors.Is(err, ErrKeyRevoked):
		return nil, kind.reject(ReasonRevokedKey, "")
	case err != nil:
		return nil, fmt.Errorf("app %q: read verification key: %w", appID, err)
	case key == nil || key.id != keyID:
		return nil, fmt.Errorf("app %q: the key store returned the wrong verification key", appID)
	}
	return key, nil
}

// readClaims reads the claims that both kinds of token have, strictly typed.
func readClaims(payload []byte, app App, kind tokenKind) (*token, error) {
	members, err := strictjson.Object(payload, reserved...)
	if err != nil {
		return nil, kind.reject(ReasonClaims, "the payload "+err.Error())
	}
	typ, hasType := members["type"]
	name, _ := strictjson.String(typ)
	if !kind.accepts(hasType, name) {
		return nil, kind.reject(ReasonType, "")
	}
	iss, _ := strictjson.String(members["iss"])
	if !app.hasIssued(iss) {
		return nil, kind.reject(ReasonIssuer, "")
	}
	if err := kind.checkMembers(members, hasType); err != nil {
		return nil, err
	}
	t := &token{kind: kind, issuer: iss, members: members}
	if t.tokenID, _ = strictjson.String(members["jid"]); !isCanonicalULID(t.tokenID) {
		return nil, kind.reject(ReasonClaims, "jid is not a ULID in canonical form")
	}
	t.sessionID = t.tokenID
	if sid, has := members["sid"]; has {
		if t.sessionID, _ = strictjson.String(sid); !isCanonicalULID(t.sessionID) {
			return nil, kind.reject(ReasonClaims, "sid is not a ULID in canonical form")
		}
	}
	for _, claim := range []struct {
		name string
		at   *time.Time
	}{{"iat", &t.issuedAt}, {"nbf", &t.notBefore}, {"exp", &t.expiresAt}} {
		seconds, ok := strictjson.Integer(members[claim.name])
		if !ok {
			return nil, kind.reject(ReasonClaims, claim.name+" is not a whole number of seconds")
		}
		*claim.at = time.Unix(seconds, 0).UTC()
	}
	return t, nil
}

// authOnly are the claims of this library that only an auth token has. A refresh
// token with one of them was made for something else (RFC 7519 section 4.1.3).
var authOnly = []string{"sub", "aud", "ip", "useragent"}

func (k tokenKind) checkMembers(members map[string]json.RawMessage, isRefresh bool) error {
	for _, name := range authOnly {
		if _, has := members[name]; has && isRefresh {
			return k.reject(ReasonClaims, "a refresh token has the claim "+name)
		}
	}
	return nil
}

// newULID returns a new ULID of the given time that is greater than last,
// advancing its time if necessary: token IDs are ordered even where clocks are
// not.
func newULID(now time.Time, last string) (string, error) {
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("new ULID: %w", err)
	}
	if last == "" {
		return id.String(), nil
	}
	previous, err := ulid.ParseStrict(last)
	if err != nil {
		return "", fmt.Errorf("new ULID after %s: %w", last, err)
	}
	if id.Compare(previous) <= 0 {
		if err := id.SetTime(previous.Time() + 1); err != nil {
			return "", fmt.Errorf("new ULID after %s: %w", last, err)
		}
	}
	return id.String(), nil
}

// isCanonicalULID reports whether s is a ULID as this library writes one: upper
// case, and not over 128 bits.
func isCanonicalULID(s string) bool {
	id, err := ulid.ParseStrict(s)
	return err == nil && id.String() == s
}
