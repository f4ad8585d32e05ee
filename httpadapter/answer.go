package httpadapter

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/jwtrenew/renew"
)

// refusal is the body of every answer but a success.
type refusal struct {
	Message string             `json:"message"`
	Errors  []renew.FieldError `json:"errors,omitempty"`
}

var (
	invalidRefreshToken = refusal{Message: "invalid refresh token"}
	invalidAppKey       = refusal{Message: "invalid app key"}
	internalError       = refusal{Message: "internal error"}
	notFound            = refusal{Message: "not found"}
	methodNotAllowed    = refusal{Message: "method not allowed"}
)

var errNoAppKey = errors.New("no app key, or more than one")

// answer writes a whole answer, which no cache may keep.
func (a *adapter) answer(w http.ResponseWriter, req *http.Request, status int, body any) {
	a.answerCached(w, req, status, "no-store", body)
}

func (a *adapter) answerCached(w http.ResponseWriter, req *http.Request, status int, cacheControl string, body any) {
	encoded, err := json.Marshal(body)
	if err != nil { // a public key of a kind that JWK has no form for
		a.log(req, slog.LevelError, "answer not encoded", slog.String("error", err.Error()))
		a.answer(w, req, http.StatusInternalServerError, internalError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", cacheControl)
	w.WriteHeader(status)
	if _, err := w.Write(encoded); err != nil {
		a.log(req, slog.LevelInfo, "answer not sent", slog.String("error", err.Error()))
	}
}

// failure is a request that was not answered as its client wished.
type failure struct {
	appID   string
	err     error
	secrets []string // of the request, not to be logged, if the token is genuine
}

// fail answers and logs.
func (a *adapter) fail(w http.ResponseWriter, req *http.Request, f failure) {
	level, text := slog.LevelInfo, "request refused"
	status, body := http.StatusBadRequest, refusal{Message: "invalid request"}
	var invalid *renew.ValidationError
	switch {
	case errors.As(f.err, &invalid):
		body.Errors = invalid.Fields
	case errors.Is(f.err, errNoAppKey), errors.Is(f.err, renew.ErrInvalidAppKey), errors.Is(f.err, renew.ErrAppNotFound):
		status, body = http.StatusForbidden, invalidAppKey
	case errors.Is(f.err, renew.ErrInvalidRefreshToken):
		status, body = a.invalidTokenStatus, invalidRefreshToken
	default:
		level, text = slog.LevelError, "request failed"
		status, body = http.StatusInternalServerError, internalError
		if errors.Is(f.err, context.Canceled) && errors.Is(req.Context().Err(), context.Canceled) {
			level, text = slog.LevelInfo, "request canceled"
		}
	}
	a.log(req, level, text, f.attrs()...)
	a.answer(w, req, status, body)
}

// attrs is what a failure's log record holds. An app that the client only claims
// is no part of it: what stands in its place may be a secret.
func (f failure) attrs() []slog.Attr {
	var attrs []slog.Attr
	if !errors.Is(f.err, renew.ErrAppNotFound) && !errors.Is(f.err, errNoAppKey) {
		attrs = append(attrs, slog.String("app", f.appID))
	}
	cause := f.err
	var about *renew.SessionError
	if errors.As(f.err, &about) {
		attrs = append(attrs, slog.String("session", about.SessionID))
		cause = about.Err
	}
	var refused *renew.TokenError
	if errors.As(f.err, &refused) {
		attrs = append(attrs, slog.String("reason", string(refused.Reason)))
	}
	text := cause.Error()
	if about != nil { // a hook has seen the request, and may quote it
		for _, secret := range f.secrets {
			if secret != "" {
				text = strings.ReplaceAll(text, secret, "[redacted]")
			}
		}
	}
	return append(attrs, slog.String("error", text))
}

func (a *adapter) log(req *http.Request, level slog.Level, text string, attrs ...slog.Attr) {
	a.logger.LogAttrs(req.Context(), level, text, attrs...)
}
