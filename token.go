package renew

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew/internal/strictjson"
)

// Limits of a token. No token that this library makes comes near the size that
// it accepts.
const (
	maxRefreshTokenBytes = 8 << 10
	maxAuthTokenBytes    = 96 << 10
	maxClaimsBytes       = 16 << 10 // custom claims, as JSON
	maxAudienceBytes     = 4 << 10  // aud, as JSON
)

// What is fixed in every token.
const (
	headerType  = "JWT"
	refreshType = "refresh"
)

// reserved are the claims that belong to this library. No custom claim has such
// a name, in whatever case.
var reserved = []string{"iss", "iat", "nbf", "exp", "jid", "sid", "sub", "aud", "ip", "useragent", "type", "jti"}

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

// mint signs the session's current pair. Everything in it comes from the
// session but what the app alone knows: the issuer, and the auth token's
// lifetime.
func mint(ctx context.Context, app App, key *SigningKey, s Session) (*Bundle, error) {
	issuedAt := s.IssuedAt.Truncate(time.Second)
	authExpiresAt := capAt(issuedAt.Add(app.authTTL()), s.EndsAt)
	auth, err := json.Marshal(authPayload{
		Audience:  s.Audience,
		ExpiresAt: authExpiresAt.Unix(),
		IssuedAt:  issuedAt.Unix(),
		IP:        s.IP,
		Issuer:    app.Issuer,
		TokenID:   s.TokenID,
		NotBefore: issuedAt.Add(app.AuthNotBefore).Unix(),
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
		ExpiresAt: s.ExpiresAt.Unix(),
		IssuedAt:  issuedAt.Unix(),
		Issuer:    app.Issuer,
		TokenID:   s.TokenID,
		NotBefore: s.NotBefore.Unix(),
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
		AuthExpiresAt:    authExpiresAt,
		RefreshNotBefore: s.NotBefore,
		RefreshExpiresAt: s.ExpiresAt,
	}
	if b.AuthToken, b.RefreshToken, err = key.signBoth(ctx, auth, refresh); err != nil {
		return nil, err
	}
	return b, nil
}

// capAt returns t in whole seconds, and not after end unless that is zero.
func capAt(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		t = end
	}
	return t.Truncate(time.Second)
}

// appendClaims returns payload, an object with members, with those of custom
// added as they stand: no number goes through a float.
func appendClaims(payload []byte, custom json.RawMessage) ([]byte, error) {
	if len(custom) == 0 {
		return payload, nil
	}
	members, err := checkClaims(custom)
	if err != nil || len(members) == 0 {
		return payload, err
	}
	payload[len(payload)-1] = ','
	return append(payload, bytes.TrimLeft(custom, " \t\r\n")[1:]...), nil
}

// checkClaims returns the members of custom claims, or says what is wrong with
// them.
func checkClaims(custom json.RawMessage) (map[string]json.RawMessage, error) {
	if len(custom) > maxClaimsBytes {
		return nil, fmt.Errorf("custom claims are %d bytes of JSON, over %d", len(custom), maxClaimsBytes)
	}
	members, err := strictjson.Object(custom)
	if err != nil {
		return nil, fmt.Errorf("the JSON of the custom claims %w", err)
	}
	for name := range members {
		if isReserved(name) {
			return nil, errors.New("a custom claim has a reserved name, or one but for its case")
		}
	}
	return members, nil
}

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) })
}

// encodeClaims returns the JSON of custom claims; no claims are nil.
func encodeClaims(claims map[string]any) (json.RawMessage, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	encoded, err := json.Marshal(claims)
	if err != nil {
		return nil, errors.New("custom claims do not marshal to JSON")
	}
	// encoding/json writes this escape for bytes that are no UTF-8, and the
	// character itself where the text has it.
	if strings.Contains(strings.ReplaceAll(string(encoded), `\\`, ""), `\ufffd`) {
		return nil, errors.New("custom claims hold text that is not valid UTF-8")
	}
	if _, err := checkClaims(encoded); err != nil {
		return nil, err
	}
	return encoded, nil
}

// decodeClaims is the reverse of encodeClaims, with numbers as json.Number.
func decodeClaims(encoded json.RawMessage) (map[string]any, error) {
	claims := map[string]any{}
	if len(encoded) == 0 {
		return claims, nil
	}
	if _, err := checkClaims(encoded); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(encoded))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		return nil, errors.New("custom claims are not a JSON object")
	}
	return claims, nil
}

// AuthClaims is what a verified auth token says.
type AuthClaims struct {
	Issuer    string
	Subject   string
	Audience  []string
	IP        string // of the client that the token was given to
	UserAgent string
	KeyID     string
	TokenID   string
	SessionID string
	IssuedAt  time.Time
	NotBefore time.Time
	ExpiresAt time.Time
	Claims    map[string]any // custom claims, never nil; numbers are json.Number
}

// tokenKind is what a token must be where it is presented.
type tokenKind struct {
	refused  error // the sentinel of its TokenErrors
	maxBytes int
	accepts  func(hasType bool, typ string) bool
}

var (
	refreshKind = tokenKind{ErrInvalidRefreshToken, maxRefreshTokenBytes, func(has bool, typ string) bool { return has && typ == refreshType }}
	authKind    = tokenKind{ErrInvalidAuthToken, maxAuthTokenBytes, func(has bool, _ string) bool { return !has }}
	eitherKind  = tokenKind{ErrInvalidToken, maxAuthTokenBytes, func(has bool, typ string) bool { return !has || typ == refreshType }}
)

func (k tokenKind) refuse(reason Reason, detail string) *TokenError {
	return &TokenError{Reason: reason, Detail: detail, kind: k.refused}
}

// token is one that a key of the app has signed, with the claims that both kinds
// have. Its times are not judged yet.
type token struct {
	kind      tokenKind
	appID     string
	keyID     string
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

// signed is a compact JWS (RFC 7515 section 3.1) taken apart. No key has
// vouched for it yet.
type signed struct {
	header    header
	payload   []byte
	input     string // what the signature is of
	signature []byte
}

// canonicalBase64 refuses bits that say nothing (RFC 4648 section 3.5).
var canonicalBase64 = base64.RawURLEncoding.Strict()

// split takes a compact JWS apart and checks all that can be checked without a
// key. The header chooses nothing: it names a key, and says again which
// algorithm that key has.
func split(compact string, kind tokenKind) (signed, error) {
	malformed := func(detail string) (signed, error) {
		return signed{}, kind.refuse(ReasonMalformed, detail)
	}
	if len(compact) > kind.maxBytes {
		return malformed("it is too long")
	}
	segments := strings.SplitN(compact, ".", 4)
	if len(segments) != 3 {
		return malformed("it has not three segments")
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

// What can be wrong with a header, besides what strictjson finds.
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

// parse returns the token if a key of the app that is good today has signed it
// and its claims are in order.
func (r *Renewer) parse(ctx context.Context, app App, compact string, kind tokenKind) (*token, error) {
	jws, err := split(compact, kind)
	if err != nil {
		return nil, err
	}
	key, err := r.verificationKey(ctx, app.ID, jws.header.KeyID, kind)
	if err != nil {
		return nil, err
	}
	if jws.header.Algorithm != string(key.alg) {
		return nil, kind.refuse(ReasonAlgorithm, "")
	}
	if !key.verifies([]byte(jws.input), jws.signature) {
		return nil, kind.refuse(ReasonSignature, "")
	}
	t, err := readClaims(jws.payload, app.Issuer, kind)
	if err != nil {
		return nil, err
	}
	t.appID, t.keyID = app.ID, key.id
	return t, nil
}

func (r *Renewer) verificationKey(ctx context.Context, appID, keyID string, kind tokenKind) (*VerificationKey, error) {
	if !isCanonicalULID(keyID) {
		return nil, kind.refuse(ReasonUnknownKey, "its kid is not a ULID in canonical form")
	}
	key, err := r.keys.VerificationKey(ctx, appID, keyID)
	switch {
	case errors.Is(err, ErrKeyNotFound):
		return nil, kind.refuse(ReasonUnknownKey, "")
	case errors.Is(err, ErrKeyRevoked):
		return nil, kind.refuse(ReasonRevokedKey, "")
	case err != nil:
		return nil, fmt.Errorf("app %q: read verification key: %w", appID, err)
	case key == nil || key.id != keyID:
		return nil, fmt.Errorf("app %q: the key store returned another verification key than asked for", appID)
	}
	return key, nil
}

// readClaims reads the claims that both kinds of token have, strictly typed.
func readClaims(payload []byte, issuer string, kind tokenKind) (*token, error) {
	members, err := strictjson.Object(payload, reserved...)
	if err != nil {
		return nil, kind.refuse(ReasonClaims, "the payload "+err.Error())
	}
	typ, hasType := members["type"]
	name, _ := strictjson.String(typ)
	if !kind.accepts(hasType, name) {
		return nil, kind.refuse(ReasonType, "")
	}
	if iss, _ := strictjson.String(members["iss"]); iss != issuer {
		return nil, kind.refuse(ReasonIssuer, "")
	}
	t := &token{kind: kind, members: members}
	if t.tokenID, _ = strictjson.String(members["jid"]); !isCanonicalULID(t.tokenID) {
		return nil, kind.refuse(ReasonClaims, "jid is not a ULID in canonical form")
	}
	t.sessionID = t.tokenID
	if sid, has := members["sid"]; has {
		if t.sessionID, _ = strictjson.String(sid); !isCanonicalULID(t.sessionID) {
			return nil, kind.refuse(ReasonClaims, "sid is not a ULID in canonical form")
		}
	}
	for _, claim := range []struct {
		name string
		at   *time.Time
	}{{"iat", &t.issuedAt}, {"nbf", &t.notBefore}, {"exp", &t.expiresAt}} {
		seconds, ok := strictjson.Integer(members[claim.name])
		if !ok {
			return nil, kind.refuse(ReasonClaims, claim.name+" is not a whole number of seconds")
		}
		*claim.at = time.Unix(seconds, 0).UTC()
	}
	return t, nil
}

// authClaims reads the claims that only an auth token has.
func (t *token) authClaims(issuer string) (*AuthClaims, error) {
	c := &AuthClaims{
		Issuer:    issuer,
		KeyID:     t.keyID,
		TokenID:   t.tokenID,
		SessionID: t.sessionID,
		IssuedAt:  t.issuedAt,
		NotBefore: t.notBefore,
		ExpiresAt: t.expiresAt,
		Claims:    map[string]any{},
	}
	var ok bool
	for _, claim := range []struct {
		name  string
		value *string
	}{{"sub", &c.Subject}, {"ip", &c.IP}, {"useragent", &c.UserAgent}} {
		if *claim.value, ok = strictjson.String(t.members[claim.name]); !ok {
			return nil, t.kind.refuse(ReasonClaims, claim.name+" is not a string")
		}
	}
	if aud, has := t.members["aud"]; has {
		if c.Audience, ok = readAudience(aud); !ok {
			return nil, t.kind.refuse(ReasonClaims, "aud is neither a string nor an array of strings")
		}
	}
	for name, value := range t.members {
		if isReserved(name) {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, t.kind.refuse(ReasonClaims, "a custom claim is not JSON")
		}
		c.Claims[name] = v
	}
	return c, nil
}
