// Package httpadapter serves the documented endpoint of a [renew.Renewer] on
// net/http:
//
//	POST /app/{app_id}/renew      renew a session
//	GET  /app/{app_id}/jwks.json  the keys that verify the app's tokens
//
// [New] serves both paths, under a prefix with [http.StripPrefix].
// [RenewHandler] and [KeySetHandler] serve one of them each, at whatever path a
// router gives them; [WithAppID] says where the app ID comes from.
//
// # Renewal
//
// A request carries the app key as the value of Authorization, without a scheme,
// and a JSON object of at most 64 KiB as application/json. The members
// refresh_token, ip and useragent are strings and required; others are ignored.
// The header Idempotency-Key is optional: see [renew.RenewRequest]. What two
// JSON libraries could read differently, such as a member that stands twice or
// in another case, is refused.
//
//	200  renewed: the [renew.Bundle]
//	400  {"message":"invalid request","errors":[{"field":"ip","message":"is required"}]}
//	     everything that is wrong with the request: the three members in the
//	     order above, then Idempotency-Key; or Content-Type and
//	     Content-Encoding; or body
//	400  {"message":"invalid refresh token"}
//	     whatever the reason; status 404 with WithInvalidTokenStatus
//	403  {"message":"invalid app key"}
//	     the app key is missing, repeated or wrong, or the app is unknown; the
//	     body was not looked at
//	500  {"message":"internal error"}
//	     a store, a key or a hook failed; the log says why
//
// Other paths are 404 {"message":"not found"}, other methods 405
// {"message":"method not allowed"} with Allow. There are no redirects. Every
// answer has Content-Type: application/json and, the key set apart,
// Cache-Control: no-store. A body ends with its last brace.
//
// # Key set
//
// The key set is a JWK set (RFC 7517 section 5), public like the keys in it, and
// may be kept for [KeySetMaxAge]. It is 404 if the app is unknown, or if the
// [renew.KeyStore] is no [renew.KeyLister].
//
// # Log
//
// A renewal that is refused or fails, and a key set that fails, leaves one record
// in the [slog.Logger], with the attributes app, session (if the token is
// genuine), reason (of a refused token) and error. Failures of the server are at
// level error; refusals, and failures because the client hung up, at level info.
// No record holds a refresh token or an app key, nor the ID of an app that does
// not exist: it may be one of them in the wrong place.
//
// # Limits
//
// A request costs a bounded amount of memory, whatever is sent. How long it may
// take to arrive is for [http.Server] to say: set ReadHeaderTimeout and
// ReadTimeout.
package httpadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// KeySetMaxAge is how long a key set may be kept. So long a cache goes without a
// key that is new, and trusts one that was revoked; a verifier that asks once a
// minute costs nothing.
const KeySetMaxAge = time.Minute

// Option changes a handler from its defaults.
//
// The constructors return no error, so that they can stand where a handler is
// expected. A handler that they cannot make, for want of a Renewer or for an
// option without sense, logs at level error what to do about it, when it is made
// and for each request, and answers every request with status 500.
type Option func(*adapter) error

// WithInvalidTokenStatus sets the status of an invalid refresh token. Default:
// 400, as RFC 6749 section 5.2 has it. The only other one is 404, for callers
// of services that send it. The body is the same.
func WithInvalidTokenStatus(status int) Option {
	return func(a *adapter) error {
		if status != http.StatusBadRequest && status != http.StatusNotFound {
			return fmt.Errorf("WithInvalidTokenStatus: %d is neither 400 nor 404; leave the option out for 400", status)
		}
		a.invalidTokenStatus = status
		return nil
	}
}

// WithLogger sets where failures are logged. Default: what [slog.Default]
// returns when the handler is made.
func WithLogger(logger *slog.Logger) Option {
	return func(a *adapter) error {
		if logger == nil {
			return errors.New("WithLogger: the logger is nil; leave the option out for slog.Default, or take slog.DiscardHandler")
		}
		a.logger = logger
		return nil
	}
}

// WithAppID sets where the ID of a request's app comes from, unescaped: a router's
// parameter, the host, a constant. Default: [http.Request.PathValue] of app_id,
// which New takes from the path, and [http.ServeMux] from a pattern with
// {app_id}. f must be safe for concurrent use. An empty ID is an unknown app.
func WithAppID(f func(*http.Request) string) Option {
	return func(a *adapter) error {
		if f == nil {
			return errors.New("WithAppID: the function is nil; leave the option out for the path value app_id")
		}
		a.appID = f
		return nil
	}
}

// New returns a handler of both paths. It takes them as the request has them, so
// that a prefix must be stripped: see [http.StripPrefix].
func New(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("New", r, opts, (*adapter).serve)
}

// RenewHandler returns a handler of the renewal alone, at any path.
func RenewHandler(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("RenewHandler", r, opts, (*adapter).serveRenewal)
}

// KeySetHandler returns a handler of the key set alone, at any path.
func KeySetHandler(r *renew.Renewer, opts ...Option) http.Handler {
	return newHandler("KeySetHandler", r, opts, (*adapter).serveKeySet)
}

// adapter is what the handlers share. It does not change once it is made.
type adapter struct {
	renewer            *renew.Renewer
	logger             *slog.Logger
	appID              func(*http.Request) string
	invalidTokenStatus int
}

const pathAppID = "app_id"

func newHandler(name string, r *renew.Renewer, opts []Option, serve func(*adapter, http.ResponseWriter, *http.Request)) http.Handler {
	a := &adapter{
		renewer:            r,
		logger:             slog.Default(),
		appID:              func(req *http.Request) string { return req.PathValue(pathAppID) },
		invalidTokenStatus: http.StatusBadRequest,
	}
	if err := a.configure(opts); err != nil {
		return a.refusing(fmt.Errorf("httpadapter.%s: %w", name, err))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { serve(a, w, req) })
}

// configure applies all options, so that the logger is known whichever of them
// is wrong.
func (a *adapter) configure(opts []Option) error {
	var wrong []error
	if a.renewer == nil {
		wrong = append(wrong, errors.New("the Renewer is nil; make one with renew.New"))
	}
	for _, opt := range opts {
		if opt == nil {
			wrong = append(wrong, errors.New("an option is nil; leave it out"))
		} else if err := opt(a); err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

// refusing is the handler in place of one that could not be made.
func (a *adapter) refusing(err error) http.Handler {
	a.logger.Error("handler not made", "error", err.Error())
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		a.log(req, slog.LevelError, "handler not made", slog.String("error", err.Error()))
		a.answer(w, req, http.StatusInternalServerError, internalError)
	})
}

// serve finds the endpoint. A ServeMux would redirect a path that is not clean,
// to a target without the prefix that was stripped.
func (a *adapter) serve(w http.ResponseWriter, req *http.Request) {
	appID, endpoint := splitPath(req.URL)
	req.SetPathValue(pathAppID, appID)
	switch endpoint {
	case "renew":
		a.serveRenewal(w, req)
	case "jwks.json":
		a.serveKeySet(w, req)
	default:
		a.answer(w, req, http.StatusNotFound, notFound)
	}
}

// splitPath splits /app/{app_id}/{endpoint}. An escaped slash is part of its
// segment. For any other path the endpoint is empty.
func splitPath(u *url.URL) (appID, endpoint string) {
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

// serveRenewal looks at the body only once the caller is known.
func (a *adapter) serveRenewal(w http.ResponseWriter, req *http.Request) {
	if !a.allows(w, req, http.MethodPost) {
		return
	}
	appID := a.appID(req)
	if err := a.authenticate(req, appID); err != nil {
		a.fail(w, req, failure{appID: appID, err: err})
		return
	}
	renewal, err := a.readRenewal(w, req, appID)
	if err != nil {
		a.fail(w, req, failure{appID: appID, err: err})
		return
	}
	bundle, err := a.renewer.Renew(req.Context(), renewal)
	if err != nil {
		a.fail(w, req, failure{appID: appID, err: err, secrets: []string{renewal.RefreshToken, renewal.IdempotencyKey}})
		return
	}
	a.answer(w, req, http.StatusOK, bundle)
}

// authenticate checks the app key. Two of them are none.
func (a *adapter) authenticate(req *http.Request, appID string) error {
	values := req.Header.Values("Authorization")
	if len(values) != 1 || values[0] == "" {
		return errNoAppKey
	}
	return a.renewer.AuthenticateApp(req.Context(), appID, values[0])
}

func (a *adapter) serveKeySet(w http.ResponseWriter, req *http.Request) {
	if !a.allows(w, req, http.MethodGet, http.MethodHead) {
		return
	}
	appID := a.appID(req)
	set, err := a.renewer.KeySet(req.Context(), appID)
	switch {
	case errors.Is(err, renew.ErrAppNotFound), errors.Is(err, errors.ErrUnsupported):
		a.answer(w, req, http.StatusNotFound, notFound)
	case err != nil:
		a.fail(w, req, failure{appID: appID, err: err})
	default:
		a.answerCached(w, req, http.StatusOK, fmt.Sprintf("public, max-age=%d", int(KeySetMaxAge.Seconds())), set)
	}
}

// allows reports whether the request has one of the methods, and answers it if
// it has another.
func (a *adapter) allows(w http.ResponseWriter, req *http.Request, methods ...string) bool {
	for _, method := range methods {
		if req.Method == method {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	a.answer(w, req, http.StatusMethodNotAllowed, methodNotAllowed)
	return false
}
