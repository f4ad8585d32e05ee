package httpadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
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
//	     there is no cookie, or its session is over; the cookie is deleted. It stays
//	     where the renew function has denied the renewal ([renew.ErrDenied]), which
//	     leaves the token valid
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
// Each token has a separate cookie: the name is __Host-renew, a dot and the
// token's ID. A response sets the cookie of the token that it brings, and deletes
// no other than those that its request carried; of several, the newest token of
// the newest session that is not forged is presented. So it does not matter in which order the
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

// NewBrowser returns the handler of an app's pages. Like [New], it logs an error
// that makes it unable to serve, and then responds with status 500.
func NewBrowser(r *renew.Renewer, appID string, opts ...Option) *Browser {
	b := newBrowser(opts)
	b.renewer, b.app = r, appID
	if r == nil {
		b.err = errors.Join(errNoRenewer, b.err)
	}
	if appID == "" {
		b.err = errors.Join(b.err, errNoBrowserApp)
	}
	if b.err != nil {
		b.err = fmt.Errorf("httpadapter.NewBrowser: %w", b.err)
		b.logger.Error("handler misconfigured", "error", b.err.Error())
	}
	return b
}

var errNoBrowserApp = errors.New("the app ID is empty")

// SetSession is [Browser.SetSession] for a login handler that has no Browser: give
// it the options that the Browser has. It logs an error in them and sets no
// cookie.
func SetSession(w http.ResponseWriter, bundle *renew.Bundle, opts ...Option) {
	b := newBrowser(opts)
	if b.err != nil {
		b.err = fmt.Errorf("httpadapter.SetSession: %w", b.err)
	}
	b.SetSession(w, bundle)
}

// SetSession puts the refresh token of a login into the browser's cookie, and
// keeps caches from the response. Call it before the response's status and body
// are written, and write the refresh token into neither.
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
	c := &call{adapter: b.adapter, w: w, req: req, ctx: req.Context(), appID: b.app, appKnown: true} // the ID is not the client's
	defer c.recoverPanic()
	path := ""
	if req.URL != nil { // as in every request that a server has made
		path = req.URL.Path
	}
	switch {
	case b.err != nil:
		c.log(slog.LevelError, "handler misconfigured", slog.String("error", b.err.Error()))
		c.writeJSON(http.StatusInternalServerError, internalError)
	case strings.HasSuffix(path, "/renew"):
		b.serve(c, b.renew)
	case strings.HasSuffix(path, "/logout"):
		b.serve(c, b.logout)
	default:
		c.writeJSON(http.StatusNotFound, notFound)
	}
}

// serve calls f with a request that a page may send.
func (b *Browser) serve(c *call, f func(*call)) {
	b.allowOrigin(c)
	if isPreflight(c.req) {
		b.servePreflight(c)
		return
	}
	if !c.allows(http.MethodPost) {
		return
	}
	var malformed *renew.ValidationError
	switch err := b.checkPage(c.req); {
	case errors.As(err, &malformed):
		c.writeError(err)
	case err != nil:
		c.reject(err, http.StatusForbidden, errorBody{Message: err.Error()})
	default:
		f(c)
	}
}

// What pages are told.
var (
	signedOut   = errorBody{Message: "signed out"}
	renewed     = errorBody{Message: "renewed by another request"}
	notYetValid = errorBody{Message: "not yet valid"}
	tryLater    = errorBody{Message: "try again later"}
)

// retryAfterError is when a page may ask again after an internal error.
const retryAfterError = 2 * time.Second

// grant is what a page gets of a bundle. Times are whole seconds from now.
type grant struct {
	AuthToken  string `json:"auth_token"`
	ExpiresIn  int64  `json:"expires_in"`
	RenewAfter int64  `json:"renew_after"`
	SessionID  string `json:"session_id"`
}

func (b *Browser) renew(c *call) {
	presented := b.cookies(c.req)
	if len(presented) == 0 {
		c.writeSignedOut()
		return
	}
	key, message := c.idempotencyKey()
	c.secrets = []string{key}
	for _, p := range presented {
		c.secrets = append(c.secrets, p.value)
	}
	if message != "" {
		c.writeError(invalidFields{fieldIdempotencyKey: message}.err(fieldIdempotencyKey))
		return
	}
	ip := ClientIP(c.req, b.browser.trustedProxies...)
	if ip == "" {
		c.failPage(errNoClientIP)
		return
	}
	bundle, last, err := b.renewFirst(c.ctx, presented, renew.RenewRequest{
		AppID:          b.app,
		IP:             ip,
		UserAgent:      strings.Clone(c.req.UserAgent()),
		IdempotencyKey: key,
	})
	if err != nil {
		b.rejectRenewal(c, presented, last, err)
		return
	}
	b.setCookie(c.w, bundle)
	// One that is damaged may have the new token's name.
	b.deleteCookies(c.w, slices.DeleteFunc(presented, func(p cookie) bool { return p.name == b.nameOf(bundle) }))
	c.writeJSON(http.StatusOK, b.grant(bundle))
}

// renewFirst renews with the first cookie that is not forged, and returns the last one
// that it has presented.
func (b *Browser) renewFirst(ctx context.Context, presented []cookie, req renew.RenewRequest) (bundle *renew.Bundle, last cookie, err error) {
	for _, last = range presented {
		req.RefreshToken = last.value
		if bundle, err = b.renewer.Renew(ctx, req); !isForged(err) {
			break
		}
	}
	return bundle, last, err
}

// isForged reports whether a cookie says nothing about a session: another host of the
// domain may have set it, if its name has no prefix that prevents that. The genuine
// one beside it counts then.
func isForged(err error) bool {
	var rejected *renew.TokenError
	if !errors.As(err, &rejected) {
		return false
	}
	switch rejected.Reason {
	case renew.ReasonMalformed, renew.ReasonUnknownKey, renew.ReasonAlgorithm, renew.ReasonSignature,
		renew.ReasonClaims, renew.ReasonType, renew.ReasonIssuer:
		return true
	}
	return false
}

var errNoClientIP = errors.New("the request has no IP address: behind a Unix socket, set RemoteAddr from what the proxy documents")

func (b *Browser) grant(bundle *renew.Bundle) grant {
	now := b.browser.now()
	expiresIn := max(0, int64(bundle.AuthExpiresAt.Sub(now)/time.Second))
	// A minute is enough for a renewal that does not succeed immediately, where the
	// token lives that long.
	after := expiresIn - min(60, expiresIn/5)
	if wait := bundle.RefreshNotBefore.Sub(now); wait > 0 {
		after = max(after, wholeSeconds(wait))
	}
	return grant{bundle.AuthToken, expiresIn, after, bundle.SessionID}
}

// rejectRenewal responds to a renewal that did not happen, because of one of the
// cookies. They are deleted where the session is over, and nowhere else.
func (b *Browser) rejectRenewal(c *call, presented []cookie, because cookie, err error) {
	var malformed *renew.ValidationError
	var rejected *renew.TokenError
	switch {
	case errors.As(err, &malformed):
		c.writeError(err)
	case !errors.As(err, &rejected):
		c.failPage(err)
	case rejected.Reason == renew.ReasonSuperseded:
		c.reject(err, http.StatusConflict, renewed)
	case rejected.Reason == renew.ReasonTooEarly:
		c.setRetryAfter(because.notBefore.Sub(b.browser.now()))
		c.reject(err, http.StatusConflict, notYetValid)
	case rejected.Reason == renew.ReasonDenied:
		c.logError(slog.LevelInfo, "request rejected", err)
		c.writeSignedOut()
	default:
		c.logError(slog.LevelInfo, "request rejected", err)
		b.deleteCookies(c.w, presented)
		c.writeSignedOut()
	}
}

// logout revokes the sessions of the cookies. An invalid token has none, and gets
// the same response (RFC 7009 section 2.2).
func (b *Browser) logout(c *call) {
	presented := b.cookies(c.req)
	for _, p := range presented {
		c.secrets = append(c.secrets, p.value)
	}
	for _, p := range presented {
		err := b.renewer.Revoke(c.ctx, b.app, p.value)
		switch {
		case errors.Is(err, renew.ErrInvalidToken):
			c.logError(slog.LevelInfo, "nothing revoked", err)
		case err != nil:
			c.failPage(err)
			return
		}
	}
	b.deleteCookies(c.w, presented)
	c.writeNoContent()
}

func (c *call) writeNoContent() {
	c.responded = true
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusNoContent)
}

func (c *call) writeSignedOut() {
	c.w.Header().Set("WWW-Authenticate", "Cookie") // RFC 9110 section 15.5.2 requires a challenge
	c.writeJSON(http.StatusUnauthorized, signedOut)
}

// failPage responds to a page's request that met an internal error.
func (c *call) failPage(err error) {
	c.setRetryAfter(retryAfterError)
	c.failWith(err, http.StatusServiceUnavailable, tryLater)
}

func (c *call) setRetryAfter(d time.Duration) {
	c.w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(d), 10))
}

// wholeSeconds is d, rounded up, and at least 1.
func wholeSeconds(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return max(1, seconds)
}
