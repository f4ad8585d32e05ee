package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// api stands for an API that exists already. Its own part is login, logout and
// me; the library's is the renewer and the endpoint.
type api struct {
	renewer *renew.Renewer
	appID   string
	logger  *slog.Logger
}

func (a *api) handler() http.Handler {
	// The middleware reads no session, so that an auth token is valid until it
	// expires. WithSessionCheck is for what must not outlive a logout, and
	// WithAudience for an API that shares its app with others.
	authenticated := httpadapter.Authenticate(a.renewer, a.appID, httpadapter.WithLogger(a.logger))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.Handle("GET /me", authenticated(http.HandlerFunc(a.me)))
	mux.Handle("/app/", httpadapter.New(a.renewer, httpadapter.WithLogger(a.logger)))
	return mux
}

// login starts a session for the subject named in the body. It asks for no
// password: put the check that your API has in its place, and take the subject
// from there.
func (a *api) login(w http.ResponseWriter, r *http.Request) {
	req, err := readLogin(w, r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	req.AppID = a.appID
	bundle, err := a.renewer.Issue(r.Context(), req)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.writeJSON(w, r, http.StatusOK, bundle)
}

// logout ends the session of the auth token that the request carries, which may
// have expired, so that this is not for Authenticate to check. The session cannot
// be renewed afterwards; its auth tokens are valid until they expire.
func (a *api) logout(w http.ResponseWriter, r *http.Request) {
	if err := a.renewer.Revoke(r.Context(), a.appID, bearerToken(r)); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// me is a resource of the API: it says who asks.
func (a *api) me(w http.ResponseWriter, r *http.Request) {
	claims := httpadapter.Claims(r.Context())
	a.writeJSON(w, r, http.StatusOK, struct {
		Subject   string         `json:"sub"`
		Audience  []string       `json:"aud"`
		SessionID string         `json:"session_id"`
		ExpiresAt time.Time      `json:"expires_at"`
		Claims    map[string]any `json:"claims"`
	}{claims.Subject, claims.Audience, claims.SessionID, claims.ExpiresAt, claims.Claims})
}

// bearerToken returns the token in Authorization (RFC 6750 section 2.1). It is
// empty, and so invalid, if there is none or the header is repeated: two servers
// could take different ones.
func bearerToken(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// failure is the body of every response except a success.
type failure struct {
	Message string             `json:"message"`
	Errors  []renew.FieldError `json:"errors,omitempty"`
}

// fail tells the client as much as it may know, and the log the rest. It always
// responds: net/http makes a 200 of no response, and a client that has only
// closed its half of the connection would read that as a success.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	var invalid *renew.ValidationError
	switch {
	case errors.As(err, &invalid):
		a.writeJSON(w, r, http.StatusBadRequest, failure{"invalid request", invalid.Fields})
	case errors.Is(err, renew.ErrInvalidToken):
		a.logger.InfoContext(r.Context(), "request rejected", "path", r.URL.Path, "error", err)
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", a.appID))
		a.writeJSON(w, r, http.StatusUnauthorized, failure{Message: "invalid auth token"})
	default:
		level, message := slog.LevelError, "request failed"
		if errors.Is(err, context.Canceled) && r.Context().Err() != nil { // the client hung up
			level, message = slog.LevelInfo, "request canceled"
		}
		a.logger.Log(r.Context(), level, message, "path", r.URL.Path, "error", err)
		a.writeJSON(w, r, http.StatusInternalServerError, failure{Message: "internal error"})
	}
}

// writeJSON responds. It encodes the body first: a status cannot be taken back.
func (a *api) writeJSON(w http.ResponseWriter, r *http.Request, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		a.logger.ErrorContext(r.Context(), "encoding response failed", "path", r.URL.Path, "error", err)
		status, encoded = http.StatusInternalServerError, []byte(`{"message":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // it holds tokens, or what only their owner may see
	w.WriteHeader(status)
	if _, err := w.Write(append(encoded, '\n')); err != nil {
		a.logger.InfoContext(r.Context(), "writing response failed", "path", r.URL.Path, "error", err)
	}
}

// logEvent is the audit log: who logged in, renewed, was rejected, logged out.
func (a *api) logEvent(ctx context.Context, e renew.Event) {
	level := slog.LevelInfo
	if e.Kind == renew.EventReused || e.Kind == renew.EventAhead {
		level = slog.LevelWarn // someone holds a copy of a token, or the store has lost a write
	}
	a.logger.LogAttrs(ctx, level, string(e.Kind),
		slog.String("app", e.AppID),
		slog.String("session", e.SessionID),
		slog.String("token", e.TokenID), // its ID, not the token
		slog.String("subject", e.Subject),
		slog.String("reason", string(e.Reason)),
		slog.String("ip", e.IP),
		slog.String("useragent", e.UserAgent),
	)
}
