package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
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
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.Handle("GET /me", a.authenticated(http.HandlerFunc(a.me)))
	mux.Handle("/app/", httpadapter.New(a.renewer, httpadapter.WithLogger(a.logger)))
	return mux
}

// login starts a session for whoever is named in the body. It asks for no
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
	a.answer(w, r, http.StatusOK, bundle)
}

const maxLoginBytes = 64 << 10

// readLogin reads sub, aud, ip and useragent; every other member of the body is
// a custom claim. Claims stay as they were sent, so that no number is rounded.
func readLogin(w http.ResponseWriter, r *http.Request) (renew.IssueRequest, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLoginBytes))
	if err != nil {
		return renew.IssueRequest{}, wrongField("body", "is too long, or was not sent in full")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return renew.IssueRequest{}, wrongField("body", "is not one JSON object")
	}
	var req renew.IssueRequest
	for _, field := range []struct {
		name, mismatch string
		value          any
	}{
		{"sub", "is not a string", &req.Subject},
		{"aud", "is neither a string nor an array of strings", (*audience)(&req.Audience)},
		{"ip", "is not a string", &req.IP},
		{"useragent", "is not a string", &req.UserAgent},
	} {
		raw, given := members[field.name]
		if !given {
			continue // Issue says which of them it needs
		}
		if err := json.Unmarshal(raw, field.value); err != nil {
			return renew.IssueRequest{}, wrongField(field.name, field.mismatch)
		}
		delete(members, field.name)
	}
	req.Claims = make(map[string]any, len(members))
	for name, value := range members {
		req.Claims[name] = value
	}
	return req, nil
}

// audience is a string or an array of strings (RFC 7519 section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(raw []byte) error {
	if raw[0] != '"' {
		return json.Unmarshal(raw, (*[]string)(a))
	}
	*a = make(audience, 1)
	return json.Unmarshal(raw, &(*a)[0])
}

// logout ends the session of the auth token that the request carries. An expired
// one will do. Nobody renews that session any more; auth tokens of it are good
// until they expire, because authenticated does not look for sessions.
func (a *api) logout(w http.ResponseWriter, r *http.Request) {
	if err := a.renewer.Revoke(r.Context(), a.appID, bearerToken(r)); err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// claimsKey is where authenticated keeps the claims in a request's context.
type claimsKey struct{}

// authenticated is the middleware in front of everything that needs a user. It
// reads no session: for what must not outlive a logout, VerifySession does that
// too. An API that shares its app with others also looks for its own name in
// the claims' Audience.
func (a *api) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := a.renewer.VerifyAuthToken(r.Context(), a.appID, bearerToken(r))
		if err != nil {
			a.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims)))
	})
}

// me is a resource of the API: it says who asks.
func (a *api) me(w http.ResponseWriter, r *http.Request) {
	claims := r.Context().Value(claimsKey{}).(*renew.AuthClaims)
	a.answer(w, r, http.StatusOK, struct {
		Subject   string         `json:"sub"`
		Audience  []string       `json:"aud"`
		SessionID string         `json:"session_id"`
		ExpiresAt time.Time      `json:"expires_at"`
		Claims    map[string]any `json:"claims"`
	}{claims.Subject, claims.Audience, claims.SessionID, claims.ExpiresAt, claims.Claims})
}

// bearerToken is the token in Authorization (RFC 6750 section 2.1). Empty, it is
// refused like any other that is none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// failure is the body of every answer but a success.
type failure struct {
	Message string             `json:"message"`
	Errors  []renew.FieldError `json:"errors,omitempty"`
}

func wrongField(name, message string) error {
	return &renew.ValidationError{Fields: []renew.FieldError{{Field: name, Message: message}}}
}

// fail tells the client as much as it may know, and the log the rest.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	var invalid *renew.ValidationError
	switch {
	case errors.As(err, &invalid):
		a.answer(w, r, http.StatusBadRequest, failure{"invalid request", invalid.Fields})
	case errors.Is(err, renew.ErrInvalidToken):
		a.logger.InfoContext(r.Context(), "request refused", "path", r.URL.Path, "error", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		a.answer(w, r, http.StatusUnauthorized, failure{Message: "invalid auth token"})
	case r.Context().Err() != nil: // the client hung up
		a.logger.InfoContext(r.Context(), "request canceled", "path", r.URL.Path)
	default:
		a.logger.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		a.answer(w, r, http.StatusInternalServerError, failure{Message: "internal error"})
	}
}

func (a *api) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // it holds tokens, or what only their owner may see
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		a.logger.InfoContext(r.Context(), "answer not sent", "path", r.URL.Path, "error", err)
	}
}

// logEvent is the audit log: who logged in, renewed, was refused, logged out.
func (a *api) logEvent(ctx context.Context, e renew.Event) {
	level := slog.LevelInfo
	if e.Kind == renew.EventReused || e.Kind == renew.EventAhead {
		level = slog.LevelWarn // a copy of a token is about, or the store has lost a write
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
