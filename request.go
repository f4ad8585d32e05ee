package renew

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IssueRequest starts a session.
type IssueRequest struct {
	AppID    string
	Subject  string   // who logs in: 1 to 255 bytes of UTF-8 without control characters
	Audience []string // one entry becomes a JSON string, several an array, none no claim
	IP       string   // of the client: an IPv4 or IPv6 address without zone or port

	// UserAgent is any text that the client has sent, or empty: it describes
	// the client and does not authenticate it, so that no login fails for it.
	// Bytes that are not UTF-8 and control characters become U+FFFD; what is
	// over 1,024 bytes is cut.
	UserAgent string

	// Claims are custom claims of the auth token, at most 16 KiB of JSON. A
	// claim whose name the tokens use is an error, in any case of its letters:
	// iss, iat, nbf, exp, jid, sid, sub, aud, ip, useragent, type and jti.
	Claims map[string]any
}

// RenewRequest asks for a renewal.
type RenewRequest struct {
	AppID        string
	RefreshToken string
	IP           string // of the client, as in IssueRequest
	UserAgent    string

	// IdempotencyKey is optional: 16 to 255 visible ASCII characters that the
	// client draws at random for one refresh token, keeps beside it before it
	// sends the request, and sends again when it repeats the request. The
	// repeated request then gets the same successor. A key that was used for
	// the refresh token before is an error.
	IdempotencyKey string
}

// Limits of a request's fields, in bytes.
const (
	maxNameBytes        = 255 // the longest ID, issuer or subject that every store can keep
	maxUserAgentBytes   = 1024
	minIdempotencyBytes = 16
	maxIdempotencyBytes = 255
)

// Validate returns a [*ValidationError] that lists every malformed field, as
// [Renewer.Issue] does, or nil. It calls no store.
func (req IssueRequest) Validate() error {
	_, err := req.encodeClaims()
	return err
}

// encodeClaims validates the request and returns its custom claims as JSON.
func (req IssueRequest) encodeClaims() (json.RawMessage, error) {
	var wrong fieldErrors
	wrong.add("app_id", checkText(req.AppID, maxNameBytes))
	wrong.add("sub", checkText(req.Subject, maxNameBytes))
	wrong.add("aud", checkAudience(req.Audience))
	wrong.add("ip", checkIP(req.IP))
	claims, err := encodeClaims(req.Claims)
	if err != nil {
		wrong.add("claims", "are rejected: "+err.Error())
	}
	return claims, wrong.err()
}

// Validate returns a [*ValidationError] that lists every malformed field, as
// [Renewer.Renew] does, or nil. It calls no store and does not look into the
// refresh token.
func (req RenewRequest) Validate() error {
	var wrong fieldErrors
	wrong.add("app_id", checkText(req.AppID, maxNameBytes))
	if req.RefreshToken == "" {
		wrong.add("refresh_token", "is required")
	}
	wrong.add("ip", checkIP(req.IP))
	wrong.add(fieldIdempotencyKey, checkIdempotencyKey(req.IdempotencyKey))
	return wrong.err()
}

const fieldIdempotencyKey = "Idempotency-Key"

// fieldErrors collects the malformed fields of a request.
type fieldErrors []FieldError

func (f *fieldErrors) add(field, message string) {
	if message != "" {
		*f = append(*f, FieldError{Field: field, Message: message})
	}
}

func (f fieldErrors) err() error {
	if len(f) == 0 {
		return nil
	}
	return &ValidationError{Fields: f}
}

// checkText says what is wrong with a text of at least one byte that must be
// kept, compared and logged exactly.
func checkText(s string, maxBytes int) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxBytes:
		return fmt.Sprintf("is longer than %d bytes", maxBytes)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has a control character"
	}
	return ""
}

func checkAudience(aud []string) string {
	size := 0
	for _, entry := range aud {
		size += len(entry)
		if message := checkText(entry, maxAudienceBytes); message != "" {
			return "has an entry that " + message
		}
	}
	if size > maxAudienceBytes {
		return fmt.Sprintf("is longer than %d bytes", maxAudienceBytes)
	}
	return ""
}

func checkIP(ip string) string {
	if ip == "" {
		return "is required"
	}
	if addr, err := netip.ParseAddr(ip); err != nil || addr.Zone() != "" {
		return "is not an IPv4 or IPv6 address without zone and port"
	}
	return ""
}

func checkIdempotencyKey(key string) string {
	if key == "" {
		return ""
	}
	if len(key) < minIdempotencyBytes || len(key) > maxIdempotencyBytes {
		return fmt.Sprintf("must be %d to %d characters long", minIdempotencyBytes, maxIdempotencyBytes)
	}
	if !isVisibleASCII(key) {
		return "has a character other than visible ASCII"
	}
	return ""
}

func isVisibleASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// canonicalIP returns the one form in which an address is stored, signed and
// compared. It takes what checkIP accepts.
func canonicalIP(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	return addr.Unmap().WithZone("").String()
}

// sameNetwork reports whether two addresses are one IPv4 address, or in one IPv6
// /64, which is what one client has.
func sameNetwork(a, b string) bool {
	return network(a) == network(b)
}

func network(ip string) string {
	addr, err := netip.ParseAddr(canonicalIP(ip))
	switch {
	case err != nil:
		return ip
	case addr.Is4():
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// cleanUserAgent returns a text that every store can keep, whatever a client has
// sent.
func cleanUserAgent(s string) string {
	if len(s) <= maxUserAgentBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var clean strings.Builder
	for _, r := range s { // a byte that is not UTF-8 is a utf8.RuneError
		if unicode.IsControl(r) {
			r = utf8.RuneError
		}
		if clean.Len()+utf8.RuneLen(r) > maxUserAgentBytes {
			break
		}
		clean.WriteRune(r)
	}
	return clean.String()
}
