package jwtplus

import (
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/strictjson"
)

// isID reports whether id is a ULID as JWTPlus and this library write one.
func isID(id string) bool {
	parsed, err := ulid.ParseStrict(id)
	return err == nil && parsed.String() == id
}

// candidate is a session as a row describes it.
type candidate struct {
	session renew.Session
	notes   []rejection // what is reported of a session that is taken over
	odd     bool        // a store need not keep it: no login can have its subject or its audience
}

// newCandidate reads a row of the tokens. key is the verification key of the row's
// key_id. The refresh token is not judged here, nor whether it has expired.
func newCandidate(r row, key *renew.VerificationKey) (candidate, *rejection) {
	id, appID := r.text("token_id"), r.text("apps_id")
	if rejected := checkColumns(r); rejected != nil {
		return candidate{}, rejected
	}
	times, rejected := readTimes(r)
	if rejected == nil {
		rejected = checkIssuedAt(r.text("refresh_token"), times.issuedAt)
	}
	if rejected != nil {
		return candidate{}, rejected
	}
	members, rejected := readAuthToken(r.text("auth_token"), key)
	if rejected != nil {
		return candidate{}, rejected
	}
	c := candidate{session: renew.Session{
		AppID: appID, ID: id, TokenID: id,
		CreatedAt: times.issuedAt, IssuedAt: times.issuedAt,
		RefreshNotBefore: times.notBefore, RefreshExpiresAt: times.expiresAt,
	}}
	if c.session.Subject, rejected = readSubject(members, r.text("sub")); rejected != nil {
		return candidate{}, rejected
	}
	if c.session.Audience, rejected = readAudience(members); rejected != nil {
		return candidate{}, rejected
	}
	if rejected = c.setClaims(members); rejected != nil {
		return candidate{}, rejected
	}
	c.setClient(r)
	return c, nil
}

// checkColumns looks for what makes a row one that no session can be made of.
func checkColumns(r row) *rejection {
	if id := r.text("token_id"); !isID(id) {
		return reject(ReasonID, "token_id is not a ULID in canonical form")
	}
	if column, found := r.null("sub", "auth_token", "refresh_token", "refresh_token_iat", "refresh_token_nbf", "refresh_token_exp"); found {
		return reject(ReasonNull, "%s is NULL", column)
	}
	if r.text("auth_token") == "" || r.text("refresh_token") == "" {
		return reject(ReasonEmptyTokens, "JWTPlus has stored empty tokens: it had lost this session at a renewal")
	}
	return nil
}

type times struct{ issuedAt, notBefore, expiresAt time.Time }

func readTimes(r row) (times, *rejection) {
	var t times
	for _, column := range []struct {
		name string
		at   *time.Time
	}{{"refresh_token_iat", &t.issuedAt}, {"refresh_token_nbf", &t.notBefore}, {"refresh_token_exp", &t.expiresAt}} {
		seconds, ok := r.seconds(column.name)
		if !ok {
			return times{}, reject(ReasonTimes, "%s is not a time in seconds", column.name)
		}
		*column.at = time.Unix(seconds, 0).UTC()
	}
	return t, nil
}

// maxClockDifference is by how much a session may be in the future for the library,
// which takes it for one that a server with a wrong clock has made.
const maxClockDifference = time.Minute

// checkIssuedAt rejects a time that is later than that of the token: until it has
// come, every renewal of the session would be an internal error. A token that cannot
// be read is judged elsewhere.
func checkIssuedAt(refreshToken string, issuedAt time.Time) *rejection {
	members, ok := readPayload(refreshToken)
	if !ok {
		return nil
	}
	if seconds, ok := strictjson.Integer(members["iat"]); ok && issuedAt.After(time.Unix(seconds, 0).Add(maxClockDifference)) {
		return reject(ReasonTimes, "refresh_token_iat is later than the iat of refresh_token")
	}
	return nil
}

// readAuthToken returns the members of the auth token's payload, if the key has
// signed it. Its times and its other claims of the tokens do not matter: a login could
// overwrite them.
func readAuthToken(token string, key *renew.VerificationKey) (map[string]json.RawMessage, *rejection) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(key.Algorithm())})
	if err != nil {
		return nil, reject(ReasonAuthToken, "auth_token is not a JWT of the key's algorithm")
	}
	payload, err := jws.Verify(key.Public())
	if err != nil {
		return nil, reject(ReasonAuthToken, "the row's key did not sign auth_token")
	}
	members, err := strictjson.Object(payload)
	if err != nil {
		return nil, reject(ReasonAuthToken, "the payload of auth_token %s", err)
	}
	return members, nil
}

// variants returns the members whose name is the given one but for the case of its
// letters, that name itself first: JWTPlus reads the body of a login without regard
// to case, and copies its members as they are.
func variants(members map[string]json.RawMessage, name string) []string {
	var names []string
	for member := range members {
		if strings.EqualFold(member, name) {
			names = append(names, member)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case a == name:
			return -1
		case b == name:
			return 1
		}
		return strings.Compare(a, b)
	})
	return names
}

// readSubject returns the subject: the member of which the column is the hash.
func readSubject(members map[string]json.RawMessage, hash string) (string, *rejection) {
	for _, name := range variants(members, "sub") {
		subject, ok := strictjson.String(members[name])
		if ok && subject != "" && isHashOf(hash, subject) {
			return subject, nil
		}
	}
	return "", reject(ReasonSubject, "sub is not the hash of the subject of auth_token")
}

func isHashOf(hash, text string) bool {
	return subtle.ConstantTimeCompare([]byte(hash), []byte(hashText(text))) == 1
}

// hashText is how JWTPlus stores what it compares but does not need to read.
func hashText(text string) string {
	hash := sha512.Sum512([]byte(text))
	return hex.EncodeToString(hash[:])
}

// readAudience returns the audience: a string, which is what JWTPlus accepts, or
// none.
func readAudience(members map[string]json.RawMessage) ([]string, *rejection) {
	names := variants(members, "aud")
	switch {
	case len(names) == 0:
		return nil, nil
	case len(names) > 1 && names[0] != "aud":
		return nil, reject(ReasonAudience, "auth_token has several audiences, in names of another case")
	}
	audience, ok := strictjson.String(members[names[0]])
	if !ok {
		return nil, reject(ReasonAudience, "the audience of auth_token is not a string")
	}
	return []string{audience}, nil
}

// reserved are the names that no custom claim has, in any case of their letters: see
// [renew.IssueRequest].
var reserved = []string{"iss", "iat", "nbf", "exp", "jid", "sid", "sub", "aud", "ip", "useragent", "type", "jti"}

// setClaims sets the custom claims, and has the library judge them, the subject and
// the audience as at a login.
func (c *candidate) setClaims(members map[string]json.RawMessage) *rejection {
	custom, values := map[string]json.RawMessage{}, map[string]any{}
	for name, value := range members {
		if !slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) }) {
			custom[name], values[name] = value, value
		}
	}
	if len(custom) > 0 {
		encoded, err := json.Marshal(custom) // numbers as they are
		if err != nil {
			return reject(ReasonClaims, "the custom claims of auth_token are not JSON")
		}
		c.session.Claims = encoded
	}
	login := renew.IssueRequest{
		AppID: c.session.AppID, Subject: c.session.Subject, Audience: c.session.Audience, IP: anyIP, Claims: values,
	}
	var wrong *renew.ValidationError
	if !errors.As(login.Validate(), &wrong) {
		return nil
	}
	for _, field := range wrong.Fields {
		switch field.Field {
		case "claims":
			return reject(ReasonClaims, "the custom claims %s", field.Message)
		case "sub":
			c.odd = true
			c.notes = append(c.notes, *reject(ReasonLongSubject, "the subject %s", field.Message))
		default:
			c.odd = true
		}
	}
	return nil
}

// anyIP stands for an address where none matters.
const anyIP = "192.0.2.1"

// maxUserAgentBytes is the longest user agent that a session has.
const maxUserAgentBytes = 1024

// setClient sets the address and the user agent. They describe a client and do not
// authenticate it, so that no session is lost for want of them.
func (c *candidate) setClient(r row) {
	if addr, err := netip.ParseAddr(r.text("ip_address")); err == nil {
		c.session.IP = addr.Unmap().WithZone("").String()
	} else {
		c.notes = append(c.notes, *reject(ReasonIP, "ip_address is not an IP address: the session has none until its next renewal"))
	}
	c.session.UserAgent = cleanUserAgent(r.text("user_agent"))
	if !r["user_agent"].Valid || c.session.UserAgent != r.text("user_agent") {
		c.notes = append(c.notes, *reject(ReasonUserAgent, "user_agent is NULL, too long, or has characters that are replaced"))
	}
}

// cleanUserAgent returns a text that every store can keep, by the rule of
// [renew.IssueRequest].
func cleanUserAgent(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	for len(s) > maxUserAgentBytes {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
