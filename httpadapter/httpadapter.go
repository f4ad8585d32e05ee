// Package httpadapter serves the documented endpoint of a [renew.Renewer] on
// net/http:
//
//	POST /app/{app_id}/renew      renew a session
//	POST /app/{app_id}/revoke     end a session
//	GET  /app/{app_id}/jwks.json  the keys that verify the app's tokens
//
// [New] serves the three paths, under a prefix with [http.StripPrefix].
// [RenewHandler], [RevokeHandler] and [KeySetHandler] serve one of them each, at
// any path. They take the app ID from the path value app_id, which [http.ServeMux]
// and chi set; with other routers, [WithAppID] says where it is.
//
// All that is for back ends, which keep the app key. [NewBrowser] is for pages: it
// needs no app key, and keeps the refresh token in a cookie.
//
// For the rest of an API, [Authenticate] is the middleware that verifies auth
// tokens, and [ClientIP] finds the address of a client behind proxies.
//
// # Renewal
//
// The Authorization header is the app key, without a scheme. The body is a JSON
// object of at most 64 KiB, with Content-Type application/json:
//
//	{"refresh_token":"…","ip":"192.0.2.1","useragent":"…"}
//
// The three members are required, are strings and are not empty. The user agent
// may be any text: it describes the client, so no renewal fails because of its
// length or its characters. Other members are ignored. JSON that two libraries
// could read differently is rejected: a member that appears twice or in another
// case. The header Idempotency-Key is optional: see [renew.RenewRequest].
//
//	200  renewed: the [renew.Bundle]
//	400  {"message":"invalid request","errors":[{"field":"ip","message":"is required"}]}
//	     malformed: lists every malformed field, the three members in the
//	     order above, then Idempotency-Key; or Content-Type and
//	     Content-Encoding; or body
//	400  {"message":"invalid refresh token"}
//	     for any reason; status 404 with WithInvalidTokenStatus
//	403  {"message":"invalid app key"}
//	     the app key is missing, repeated or wrong, or the app is unknown; the
//	     body is not read
//	500  {"message":"internal error"}
//	     a store, a signer or a hook failed; the log says why
//
// # Revocation
//
// A revocation ends the session of a token: a logout. The Authorization header,
// the content type and the limits of the body are those of a renewal. The body is
//
//	{"token":"…"}
//
// with an auth token or a refresh token, which may be used, expired or not yet
// valid. An invalid token gets the same response as one whose session was revoked
// (RFC 7009 section 2.2): the client has nothing left to end.
//
//	200  {}
//	     revoked, now or before, or the token is invalid
//	400  {"message":"invalid request","errors":[{"field":"token","message":"is required"}]}
//	     malformed, as above
//	403  {"message":"invalid app key"}
//	     as above
//	500  {"message":"internal error"}
//	     a store failed: repeat the request
//
// # Key set
//
// The key set is a JWK set (RFC 7517 section 5). It is public: it needs no app
// key, pages of any origin may read it, and caches may keep it for
// [KeySetMaxAge]. It is 404 if the app is unknown, or if the [renew.KeyStore]
// does not implement [renew.KeyLister].
//
// # Other responses
//
// Other paths are 404 {"message":"not found"}, other methods 405
// {"message":"method not allowed"} with Allow. There are no redirects. Every
// response has Content-Type: application/json and, except the key set,
// Cache-Control: no-store. Bodies have no trailing newline.
//
// # Log
//
// A request that is rejected or fails leaves one record in the [slog.Logger],
// with the attributes app, session (if the token is genuine), reason (if a token
// is rejected) and error. An internal error is at level error; a rejection, and a
// failure because the client hung up, at level info. So is a revocation with an
// invalid token.
//
// No record holds a token, an app key or an idempotency key. What stands in the
// place of an app ID may be one of them by mistake: it is in a record only if the
// [renew.KeyStore] has confirmed during the request that such an app exists. So
// the records of an outage do not have the attribute app.
//
// # Limits
//
// A request costs a bounded amount of memory, whatever is sent. How long it may
// take to arrive is up to the [http.Server]: set ReadHeaderTimeout and
// ReadTimeout.
package httpadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/jwtrenew/renew"
)

// New returns a handler of the three paths. It matches the path of the request as
// it is: strip a prefix with [http.StripPrefix].
func New(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("New", r, opts, (*call).route)
}

// RenewHandler returns a handler of renewals, at any path.
func RenewHandler(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("RenewHandler", r, opts, (*call).renew)
}

// RevokeHandler returns a handler of revocations, at any path.
func RevokeHandler(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("RevokeHandler", r, opts, (*call).revoke)
}

// KeySetHandler returns a handler of the key set, at any path.
func KeySetHandler(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("KeySetHandler", r, opts, (*call).keySet)
}

// adapter is the configuration of a handler. It does not change once it is made.
type adapter struct {
	renewer            *renew.Renewer
	logger             *slog.Logger
	appIDFunc          func(*http.Request) string // nil: the path value
	invalidTokenStatus int

	// Of Authenticate alone.
	authenticates bool
	sessionCheck  bool
	audience      []string

	browser *browserConfig // of a Browser alone
}

// call is one request to a handler.
type call struct {
	*adapter
	w   http.ResponseWriter
	req *http.Request
	ctx context.Context // of req

	appID     string
	appKnown  bool // the key store has the app: its ID is not a misplaced secret
	ownPath   bool // the path is one of New's
	responded bool
	secrets   []string // what the request holds and no record may
}

func newHandler(name string, r *renew.Renewer, opts []Option, serve func(*call)) http.Handler {
	a := &adapter{renewer: r, logger: slog.Default(), invalidTokenStatus: http.StatusBadRequest}
	if err := a.configure(opts); err != nil {
		return a.misconfigured(name, err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c := &call{adapter: a, w: w, req: req, ctx: req.Context()}
		defer c.recoverPanic()
		serve(c)
	})
}

func (a *adapter) configure(opts []Option) error {
	err := a.apply(opts)
	if a.renewer == nil {
		err = errors.Join(errNoRenewer, err)
	}
	return err
}

var errNoRenewer = errors.New("the Renewer is nil; make one with renew.New")

// apply applies all options, so that the logger is known whichever of them is
// invalid.
func (a *adapter) apply(opts []Option) error {
	var invalid []error
	for _, opt := range opts {
		if opt == nil {
			invalid = append(invalid, errors.New("an option is nil; leave it out"))
		} else if err := opt(a); err != nil {
			invalid = append(invalid, err)
		}
	}
	return errors.Join(invalid...)
}

// misconfigured logs why a handler could not be made, and returns one that logs
// it again for each request.
func (a *adapter) misconfigured(name string, err error) http.Handler {
	text := fmt.Sprintf("httpadapter.%s: %v", name, err)
	a.logger.Error("handler misconfigured", "error", text)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c := &call{adapter: a, w: w, req: req, ctx: req.Context()}
		c.log(slog.LevelError, "handler misconfigured", slog.String("error", text))
		c.writeJSON(http.StatusInternalServerError, internalError)
	})
}

const pathAppID = "app_id"

// route finds the endpoint. A ServeMux would redirect a path that is not clean,
// to a target without the prefix that was stripped.
func (c *call) route() {
	appID, endpoint := splitPath(c.req.URL)
	c.req.SetPathValue(pathAppID, appID)
	c.ownPath = true
	switch endpoint {
	case "renew":
		c.renew()
	case "revoke":
		c.revoke()
	case "jwks.json":
		c.keySet()
	default:
		c.writeJSON(http.StatusNotFound, notFound)
	}
}

// splitPath splits /app/{app_id}/{endpoint}. An escaped slash is part of its
// segment. For any other path the endpoint is empty.
func splitPath(u *url.URL) (appID, endpoint string) {
	if u == nil { // of a request that no server has made
		return "", ""
	}
	segments := strings.SplitN(u.EscapedPath(), "/", 5)
	if len(segments) != 4 {
		return "", ""
	}
	for i, segment := range segments {
		unescaped, err := url.PathUnescape(segment)
		if err != nil {
			return "", ""
		}
		segments[i] = unescaped
	}
	if segments[0] != "" || segments[1] != "app" {
		return "", ""
	}
	return segments[2], segments[3]
}

// findAppID reads the app ID of the request. A request without one is rejected as
// of an unknown app; but unless the client has left it out of a path of New's, the
// handler looks in the wrong place, and only the log can say so.
//
// Events and records keep the ID. Servers other than net/http's may reuse the memory
// of a request, which is why what outlives one is copied.
func (c *call) findAppID() error {
	appID, missing := "", errNoPathValue
	if c.appIDFunc != nil {
		appID, missing = c.appIDFunc(c.req), errNoAppID
	} else {
		appID = c.req.PathValue(pathAppID)
	}
	c.appID = strings.Clone(appID)
	if c.appID != "" || c.ownPath && c.appIDFunc == nil {
		return nil
	}
	return missing
}

// authenticate checks the app key. A repeated header is rejected.
func (c *call) authenticate() error {
	if err := c.findAppID(); err != nil {
		return err
	}
	values := c.req.Header.Values("Authorization")
	if len(values) != 1 || values[0] == "" {
		return errNoAppKey
	}
	err := c.renewer.AuthenticateApp(c.ctx, c.appID, values[0])
	c.appKnown = err == nil || errors.Is(err, renew.ErrInvalidAppKey)
	return err
}

// allows reports whether the request has one of the methods, and rejects it if it
// has another.
func (c *call) allows(methods ...string) bool {
	for _, method := range methods {
		if c.req.Method == method {
			return true
		}
	}
	c.w.Header().Set("Allow", strings.Join(methods, ", "))
	c.writeJSON(http.StatusMethodNotAllowed, methodNotAllowed)
	return false
}
