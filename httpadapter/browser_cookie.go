package httpadapter

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
)

// maxCookies is how many cookies of one request are looked at, the newest first.
// More than two are there only if several delayed responses have brought older
// tokens back between two renewals.
const maxCookies = 8

// cookie is a refresh token that a browser presents. What its claims say is not
// verified: it orders tokens, and decides nothing else.
type cookie struct {
	name, value string

	sessionID, tokenID string
	notBefore          time.Time
}

// cookies returns the refresh tokens that the request carries, with the newest
// token of the newest session first: IDs are ULIDs, in the order of their making.
func (b *Browser) cookies(req *http.Request) []cookie {
	var found []cookie
	for _, c := range req.Cookies() {
		tokenID, ours := strings.CutPrefix(c.Name, b.browser.cookieName+".")
		if _, err := ulid.ParseStrict(tokenID); !ours || err != nil {
			continue
		}
		found = append(found, readCookie(c.Name, c.Value))
	}
	slices.SortStableFunc(found, func(x, y cookie) int {
		return -cmp.Or(cmp.Compare(x.sessionID, y.sessionID), cmp.Compare(x.tokenID, y.tokenID))
	})
	return found[:min(len(found), maxCookies)]
}

func readCookie(name, value string) cookie {
	c := cookie{name: name, value: value}
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return c
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c
	}
	var claims struct {
		SessionID string `json:"sid"`
		TokenID   string `json:"jid"`
		NotBefore int64  `json:"nbf"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return c // Renew says what is wrong with it
	}
	if claims.SessionID == "" { // a token without it is of the session that its ID names
		claims.SessionID = claims.TokenID
	}
	c.sessionID, c.tokenID, c.notBefore = claims.SessionID, claims.TokenID, time.Unix(claims.NotBefore, 0)
	return c
}

// setCookie sets the cookie of a bundle's refresh token.
func (b *Browser) setCookie(w http.ResponseWriter, bundle *renew.Bundle) {
	c := b.newCookie(b.nameOf(bundle), bundle.RefreshToken)
	c.MaxAge = int(wholeSeconds(bundle.RefreshExpiresAt.Sub(b.browser.now())))
	http.SetCookie(w, c)
}

// nameOf returns the name of the cookie of a bundle's refresh token.
func (b *Browser) nameOf(bundle *renew.Bundle) string {
	return b.browser.cookieName + "." + bundle.TokenID
}

func (b *Browser) deleteCookies(w http.ResponseWriter, cookies []cookie) {
	for _, deleted := range cookies {
		c := b.newCookie(deleted.name, "")
		c.MaxAge = -1
		http.SetCookie(w, c)
	}
}

func (b *Browser) newCookie(name, value string) *http.Cookie {
	return &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     b.browser.cookiePath,
		Secure:   !b.browser.localhost,
		HttpOnly: true,
		SameSite: b.browser.sameSite,
	}
}
