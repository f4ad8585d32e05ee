package renew_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// object is a JSON object as it will be written: names and values exactly so, in
// this order.
type object []struct{ name, value string }

func (o object) String() string {
	members := make([]string, len(o))
	for i, m := range o {
		members[i] = `"` + m.name + `":` + m.value
	}
	return "{" + strings.Join(members, ",") + "}"
}

// and returns o with another member at its end, which it may have already.
func (o object) and(name, value string) object {
	return append(o[:len(o):len(o)], struct{ name, value string }{name, value})
}

// without returns o without a member.
func (o object) without(name string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m struct{ name, value string }) bool { return m.name == name })
}

// with returns o with this value for a member.
func (o object) with(name, value string) object {
	changed := slices.Clone(o)
	for i := range changed {
		if changed[i].name == name {
			changed[i].value = value
			return changed
		}
	}
	return changed.and(name, value)
}

func quote(s string) string { return `"` + s + `"` }

func seconds(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// forge makes the session's tokens by hand, from the standard library's crypto
// alone: what it signs is not what this library, or go-jose, would sign.
type forge struct {
	key     *renew.SigningKey // for ES256
	issuer  string
	session renew.Session
}

// forge returns one for the bundle's session, with the app's key.
func (f *fixture) forge(b *renew.Bundle) forge {
	f.t.Helper()
	return forge{key: f.key, issuer: f.app.Issuer, session: f.session(b)}
}

// header is the header that this library writes.
func (f forge) header() object {
	return object{{"alg", `"ES256"`}, {"kid", quote(f.key.KeyID())}, {"typ", `"JWT"`}}
}

// claims are those of the session's current refresh token.
func (f forge) claims() object {
	return object{
		{"exp", seconds(f.session.RefreshExpiresAt)},
		{"iat", seconds(f.session.IssuedAt)},
		{"iss", quote(f.issuer)},
		{"jid", quote(f.session.TokenID)},
		{"nbf", seconds(f.session.RefreshNotBefore)},
		{"sid", quote(f.session.ID)},
		{"type", `"refresh"`},
	}
}

// authClaims are those of an auth token of the session.
func (f forge) authClaims() object {
	return f.claims().without("type").
		and("sub", quote(f.session.Subject)).and("ip", quote(f.session.IP)).and("useragent", quote(f.session.UserAgent))
}

func (f forge) withHeader(header string) string { return f.sign(header, f.claims().String()) }

func (f forge) withPayload(payload string) string { return f.sign(f.header().String(), payload) }

// sign returns the compact JWS of any header and any payload.
func (f forge) sign(header, payload string) string {
	input := encode(header) + "." + encode(payload)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, f.key.Signer().(*ecdsa.PrivateKey), digest[:])
	must(err)
	return input + "." + encode(string(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)))
}

// ofLength returns a token of this payload that is exactly so long, with white
// space in its JSON.
func (f forge) ofLength(payload string, length int) string {
	for indent := range 4 {
		header := f.header().String() + strings.Repeat(" ", indent)
		room := (length - len(f.sign(header, payload))) / 4 * 3
		for n := room; n < room+4; n++ {
			if token := f.sign(header, payload+strings.Repeat(" ", n)); len(token) == length {
				return token
			}
		}
	}
	panic("no such length")
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
