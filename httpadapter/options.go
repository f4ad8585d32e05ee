package httpadapter

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
)

// Option changes a handler or [Authenticate] from its defaults.
//
// The constructors return no error, so that they can stand where a handler is
// expected. One that gets a nil Renewer or an invalid option logs at level error
// what to do about it, once when it is called and again for each request, and its
// handler responds to every request with status 500.
type Option func(*adapter) error

// WithInvalidTokenStatus sets the status of an invalid refresh token. Default:
// 400, as in RFC 6749 section 5.2. The only other one is 404, for callers of
// services that send it. The body is the same.
func WithInvalidTokenStatus(status int) Option {
	return func(a *adapter) error {
		if a.authenticates || a.browser != nil {
			return errors.New("WithInvalidTokenStatus: it is for the documented endpoint, not for Authenticate or NewBrowser")
		}
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
// {app_id}. Another router can set it with [http.Request.SetPathValue], as
// examples/routers shows. f must be safe for concurrent use. If it returns an empty ID, the app
// is unknown, and a record at level error says so.
func WithAppID(f func(*http.Request) string) Option {
	return func(a *adapter) error {
		if a.authenticates || a.browser != nil {
			return errors.New("WithAppID: Authenticate and NewBrowser take the app ID as an argument")
		}
		if f == nil {
			return errors.New("WithAppID: the function is nil; leave the option out for the path value app_id")
		}
		a.appIDFunc = f
		return nil
	}
}

// WithSessionCheck makes [Authenticate] verify tokens with
// [renew.Renewer.VerifySession]: a token is rejected as soon as its session is
// revoked, at the cost of one call of the TokenStore per request. Default:
// [renew.Renewer.VerifyAuthToken].
func WithSessionCheck() Option {
	return func(a *adapter) error {
		if !a.authenticates {
			return errors.New("WithSessionCheck: only Authenticate takes auth tokens")
		}
		a.sessionCheck = true
		return nil
	}
}

// WithAudience makes [Authenticate] reject a token whose aud claim has none of
// the names. An app whose tokens are for several services needs it at each of
// them (RFC 8725 section 3.9). Default: the audience is not checked.
func WithAudience(names ...string) Option {
	names = slices.Clone(names)
	return func(a *adapter) error {
		if !a.authenticates {
			return errors.New("WithAudience: only Authenticate takes auth tokens")
		}
		if len(names) == 0 || slices.Contains(names, "") {
			return errors.New("WithAudience: a name is missing or empty; leave the option out to take tokens for any audience")
		}
		a.audience = names
		return nil
	}
}
