package httpadapter

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/jwtrenew/renew"
)

// errorBody is the body of every response except a success.
type errorBody struct {
	Message string             `json:"message"`
	Errors  []renew.FieldError `json:"errors,omitempty"`
}

var (
	invalidRefreshToken = errorBody{Message: "invalid refresh token"}
	invalidAuthToken    = errorBody{Message: "invalid auth token"}
	invalidAppKey       = errorBody{Message: "invalid app key"}
	internalError       = errorBody{Message: "internal error"}
	notFound            = errorBody{Message: "not found"}
	methodNotAllowed    = errorBody{Message: "method not allowed"}
)

var (
	errNoAppKey    = errors.New("no app key, or more than one")
	errNoAppID     = errors.New("the function given to WithAppID returned no app ID")
	errNoPathValue = errors.New("the router has set no path value app_id: say with WithAppID where the app ID is")
)

// writeJSON writes a whole response, which no cache may keep.
func (c *call) writeJSON(status int, body any) {
	c.writeCacheable(status, "no-store", body)
}

func (c *call) writeCacheable(status int, cacheControl string, body any) {
	encoded, err := json.Marshal(body)
	if err != nil { // a public key of a kind that JWK has no form for
		c.log(slog.LevelError, "encoding response failed", slog.String("error", c.mask(err.Error())))
		c.writeJSON(http.StatusInternalServerError, internalError)
		return
	}
	c.responded = true
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", cacheControl)
	c.w.WriteHeader(status)
	if _, err := c.w.Write(encoded); err != nil {
		c.log(slog.LevelInfo, "writing response failed", slog.String("error", err.Error()))
	}
}

// writeError responds to a renewal or a revocation that did not happen, and logs
// it.
func (c *call) writeError(err error) {
	var malformed *renew.ValidationError
	switch {
	case errors.As(err, &malformed):
		c.reject(err, http.StatusBadRequest, errorBody{Message: "invalid request", Errors: malformed.Fields})
	case errors.Is(err, errNoAppID), errors.Is(err, errNoPathValue):
		c.logError(slog.LevelError, "no app ID", err)
		c.writeJSON(http.StatusForbidden, invalidAppKey)
	case errors.Is(err, errNoAppKey), errors.Is(err, renew.ErrInvalidAppKey), errors.Is(err, renew.ErrAppNotFound):
		c.reject(err, http.StatusForbidden, invalidAppKey)
	case errors.Is(err, renew.ErrInvalidRefreshToken):
		c.reject(err, c.invalidTokenStatus, invalidRefreshToken)
	default:
		c.fail(err)
	}
}

// reject responds to a request that is not as it must be.
func (c *call) reject(err error, status int, body errorBody) {
	c.logError(slog.LevelInfo, "request rejected", err)
	c.writeJSON(status, body)
}

// fail responds to a request that met an internal error. If the client hung up,
// that may be the only thing that went wrong.
func (c *call) fail(err error) { c.failWith(err, http.StatusInternalServerError, internalError) }

func (c *call) failWith(err error, status int, body errorBody) {
	if errors.Is(err, context.Canceled) && errors.Is(c.ctx.Err(), context.Canceled) {
		c.logError(slog.LevelInfo, "request canceled", err)
	} else {
		c.logError(slog.LevelError, "request failed", err)
	}
	c.writeJSON(status, body)
}
