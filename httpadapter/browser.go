package httpadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// Browser keeps pages signed in: it renews and ends the session of a browser that
// has its refresh token in a cookie, without an app key. It is an [http.Handler]
// of two paths, under any prefix:
//
//	POST …/renew    takes the refresh token from the cookie, sets the next one
//	POST …/logout   ends the session and deletes the cookie
//
// [Browser.SetSession] sets the first cookie, in the login handler of the API.
// The client for pages is the npm package @jwtrenew/browser, which
// [github.com/jwtrenew/renew/js] embeds. A Browser is safe for concurrent use.
//
// # Requests
//
// A request needs Content-Type: application/json or a header X-Requested-With,
// which neither a form nor another origin's page can send; its body is not read.
// Requests of another origin's pages are rejected ([http.CrossOriginProtection])
// unless [WithTrustedOrigins] names the origin. The header Idempotency-Key is
// optional: see [renew.RenewRequest].
//
// # Responses to a renewal
//
//	200  {"auth_token":"…","expires_in":3600,"renew_after":3540,"session_id":"…"}
//	     renewed, and the cookie is the next refresh token. Times are in seconds
//	     from now, so that the clock of the device does not matter
//	400  {"message":"invalid request","errors":[…]}
//	     a header is missing or malformed. The error is about Idempotency-Key if
//	     the cookie is the token that a renewal with this key has brought: draw
//	     another key
//	401  {"message":"signed out"}
//	     there is no cookie, or its session is over; the cookie is deleted
//	403  {"message":"cross-origin request"} or {"message":"the page is not on https"}
//	409  {"message":"renewed by another request"}
//	     of this browser, a moment ago. Its response brings the cookie: wait, and
//	     renew again
//	409  {"message":"not yet valid"} with Retry-After
//	     the app has a RefreshNotBefore. For pages leave it at 0: a page that is
//	     loaded again has no auth token, and gets none until then
//	503  {"message":"try again later"} with Retry-After
//	     a store, a key or a hook failed, or the store is behind the token
//	     ([renew.ErrAhead]). The log says why; the cookie stays
//
// A logout is 204, also if the session is over already, or 400, 403 or 503 as
// above. A token that is used, expired or not yet valid ends its session too.
// Other paths are 404, other methods 405. No response may be cached. The log is
// that of the package, under the same rules.
//
// # The cookie
//
// Each token has a cookie of its own: the name is __Host-renew, a dot and the
// token's ID. A response sets the cookie of the token that it brings, and deletes
// no other than those that its request carried; of several, the newest token of
// the newest session is presented. So it does not matter in which order the
// responses to one browser arrive. A delayed one may bring an older token back,
// but not in place of the current one, and a late 401 does not delete the cookie
// of the login that came after it.
//
// It is HttpOnly, Secure, SameSite=Strict, for the whole host, and lives as long
// as the refresh token is valid; [WithCookie], [WithSameSiteLax] and
// [WithInsecureLocalhost] change that.
type Browser struct {
	*adapter
	app string
	err error // what makes it unable to serve
}

// NewBrowser returns the handler of an app's pages. Of the options it takes
// [WithLogger] and those whose comment names it. Like [New], it logs an error that
// makes it unable to serve, and then responds with status 500.
func NewBrowser(r *renew.Renewer, appID string, opts ...Option) *Browser {
	b := newBrowser(r, appID, opts)
	if r == nil {
		b.err = errors.Join(errNoRenewer, b.err)
	}
	if appID == "" {
		b.err = errors.Join(b.err, errors.New("the app ID is empty"))
	}
	if b.err != nil {
		b.err = fmt.Errorf("httpadapter.NewBrowser: %w", b.err)
		b.logger.Error("handler not made", "error", b.err.Error())
	}
	return b
}

// SetSession is [Browser.SetSession] for a login handler that has no Browser: give
// it the options that the Browser has. It logs an error in them and sets no
// cookie.
func SetSession(w http.ResponseWriter, bundle *renew.Bundle, opts ...Option) {
	b := newBrowser(nil, "", opts)
	if b.err != nil {
		b.err = fmt.Errorf("httpadapter.SetSession: %w", b.err)
	}
	b.SetSession(w, bundle)
}

// SetSession puts the refresh token of a login into the browser's cookie, and
// keeps caches from the response. Call it before the response's status and body
// are written; put the refresh token into neither.
func (b *Browser) SetSession(w http.ResponseWriter, bundle *renew.Bundle) {
	if b.err != nil {
		b.logger.Error("session not set", "error", b.err.Error())
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	b.setCookie(w, bundle)
}

// ServeHTTP serves the two paths by their last segment.
func (b *Browser) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch path := req.URL.Path; {
	case b.err != nil:
		b.log(req, slog.LevelError, "handler not made", slog.String("error", b.err.Error()))
		b.answer(w, req, http.StatusInternalServerError, internalError)
	case strings.HasSuffix(path, "/renew"):
		b.serve(w, req, b.renew)
	case strings.HasSuffix(path, "/logout"):
		b.serve(w, req, b.logout)
	default:
		b.answer(w, req, http.StatusNotFound, notFound)
	}
}

// serve calls f with a request that a page may send.
func (b *Browser) serve(w http.ResponseWriter, req *http.Request, f func(http.ResponseWriter, *http.Request)) {
	b.allowOrigin(w, req)
	switch {
	case isPreflight(req):
		b.servePreflight(w, req)
	case !b.allows(w, req, http.MethodPost):
	default:
		if status, body := b.checkPage(req); status != http.StatusOK {
			b.log(req, slog.LevelInfo, "request rejected", slog.String("app", b.app), slog.String("error", body.Message))
			b.answer(w, req, status, body)
			return
		}
		f(w, req)
	}
}

// What pages are told.
var (
	signedOut   = refusal{Message: "signed out"}
	renewed     = refusal{Message: "renewed by another request"}
	notYetValid = refusal{Message: "not yet valid"}
	tryLater    = refusal{Message: "try again later"}
)

// retryAfterTrouble is when a page may ask again after an internal error.
const retryAfterTrouble = 2 * time.Second

// grant is what a page gets of a bundle. Times are whole seconds from now.
type grant struct {
	AuthToken  string `json:"auth_token"`
	ExpiresIn  int64  `json:"expires_in"`
	RenewAfter int64  `json:"renew_after"`
	SessionID  string `json:"session_id"`
}

func (b *Browser) renew(w http.ResponseWriter, req *http.Request) {
	presented := b.cookies(req)
	if len(presented) == 0 {
		b.answerSignedOut(w, req)
		return
	}
	renewal, err := b.renewRequest(req, presented[0].value)
	if err != nil {
		b.failRenewal(w, req, presented, failure{appID: b.app, err: err})
		return
	}
	bundle, err := b.renewer.Renew(req.Context(), renewal)
	if err != nil {
		secrets := []string{renewal.RefreshToken, renewal.IdempotencyKey}
		b.failRenewal(w, req, presented, failure{appID: b.app, err: err, secrets: secrets})
		return
	}
	set := b.setCookie(w, bundle)
	for _, c := range presented {
		if c.name != set {
			b.deleteCookie(w, c.name)
		}
	}
	b.answer(w, req, http.StatusOK, b.grant(bundle))
}

// renewRequest is what the request asks for, or a [*renew.ValidationError].
func (b *Browser) renewRequest(req *http.Request, refreshToken string) (renew.RenewRequest, error) {
	key, message := idempotencyKey(req.Header)
	if message != "" {
		return renew.RenewRequest{}, wrongFields{fieldIdempotencyKey: message}.invalid(fieldIdempotencyKey)
	}
	return renew.RenewRequest{
		AppID:          b.app,
		RefreshToken:   refreshToken,
		IP:             b.clientIP(req),
		UserAgent:      req.UserAgent(),
		IdempotencyKey: key,
	}, nil
}

func (b *Browser) grant(bundle *renew.Bundle) grant {
	now := b.browser.now()
	expiresIn := max(0, int64(bundle.AuthExpiresAt.Sub(now)/time.Second))
	// A minute is enough for a renewal that does not succeed at once, where the
	// token lives that long.
	after := expiresIn - min(60, expiresIn/5)
	if wait := bundle.RefreshNotBefore.Sub(now); wait > 0 {
		after = max(after, wholeSeconds(wait))
	}
	return grant{bundle.AuthToken, expiresIn, after, bundle.SessionID}
}

// failRenewal responds and logs. The cookie is deleted where the session is over,
// and nowhere else.
func (b *Browser) failRenewal(w http.ResponseWriter, req *http.Request, presented []cookie, f failure) {
	var invalid *renew.ValidationError
	var rejected *renew.TokenError
	switch {
	case errors.As(f.err, &invalid):
		b.logRejected(req, f)
		b.answer(w, req, http.StatusBadRequest, refusal{Message: "invalid request", Errors: invalid.Fields})
	case !errors.As(f.err, &rejected):
		b.failTrouble(w, req, f)
	case rejected.Reason == renew.ReasonSuperseded:
		b.logRejected(req, f)
		b.answer(w, req, http.StatusConflict, renewed)
	case rejected.Reason == renew.ReasonTooEarly:
		b.logRejected(req, f)
		w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(presented[0].notBefore.Sub(b.browser.now())), 10))
		b.answer(w, req, http.StatusConflict, notYetValid)
	default:
		b.logRejected(req, f)
		b.deleteCookies(w, presented)
		b.answerSignedOut(w, req)
	}
}

func (b *Browser) answerSignedOut(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("WWW-Authenticate", "Cookie") // RFC 9110 section 15.5.2 demands one
	b.answer(w, req, http.StatusUnauthorized, signedOut)
}

// logout revokes what the cookies are of. Their tokens are genuine or worth
// nothing, so that an invalid one is as good as revoked (RFC 7009 section 2.2).
func (b *Browser) logout(w http.ResponseWriter, req *http.Request) {
	presented := b.cookies(req)
	for _, c := range presented {
		err := b.renewer.Revoke(req.Context(), b.app, c.value)
		f := failure{appID: b.app, err: err, secrets: []string{c.value}}
		switch {
		case err == nil:
		case errors.Is(err, renew.ErrInvalidToken):
			b.logRejected(req, f)
		default:
			b.failTrouble(w, req, f)
			return
		}
	}
	b.deleteCookies(w, presented)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

// failTrouble is the response to a failure that is not the page's.
func (b *Browser) failTrouble(w http.ResponseWriter, req *http.Request, f failure) {
	level, text := slog.LevelError, "request failed"
	if errors.Is(f.err, context.Canceled) && errors.Is(req.Context().Err(), context.Canceled) {
		level, text = slog.LevelInfo, "request canceled"
	}
	b.log(req, level, text, f.attrs()...)
	w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(retryAfterTrouble), 10))
	b.answer(w, req, http.StatusServiceUnavailable, tryLater)
}

func (b *Browser) logRejected(req *http.Request, f failure) {
	b.log(req, slog.LevelInfo, "request rejected", f.attrs()...)
}

// wholeSeconds is d, rounded up, and at least 1.
func wholeSeconds(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return max(1, seconds)
}

// clientIP is where the request comes from, as the Renewer wants it.
func (b *Browser) clientIP(req *http.Request) string {
	addr, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return ""
	}
	return addr.Addr().Unmap().WithZone("").String()
}
