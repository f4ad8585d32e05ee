package main

import (
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/js"
)

const appID = "web"

//go:embed static
var static embed.FS

// site is the page and its API.
type site struct {
	renewer *renew.Renewer
	browser *httpadapter.Browser
	logger  *slog.Logger
	losses  atomic.Int32 // responses to renewals that are still to be lost
}

func newSite(renewer *renew.Renewer, logger *slog.Logger) http.Handler {
	s := &site{renewer: renewer, logger: logger}
	s.browser = httpadapter.NewBrowser(renewer, appID,
		httpadapter.WithInsecureLocalhost(), // leave it out where the page is on https
		httpadapter.WithLogger(logger),
	)
	mux := http.NewServeMux()
	mux.Handle("/auth/", s.losing(s.browser))
	mux.HandleFunc("POST /login", s.login)
	// WithSessionCheck: a device that is signed out is signed out immediately.
	authenticated := httpadapter.Authenticate(renewer, appID, httpadapter.WithSessionCheck(), httpadapter.WithLogger(logger))
	mux.Handle("GET /api/session", authenticated(http.HandlerFunc(s.session)))
	mux.Handle("GET /api/devices", authenticated(http.HandlerFunc(s.devices)))
	mux.Handle("DELETE /api/devices", authenticated(http.HandlerFunc(s.signOutOthers)))
	mux.Handle("DELETE /api/devices/{id}", authenticated(http.HandlerFunc(s.signOutDevice)))
	mux.Handle("POST /demo/lose", authenticated(http.HandlerFunc(s.lose)))
	mux.HandleFunc("GET /renew.js", serveClient)
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the name is not a path: it is a constant
	}
	mux.Handle("/", http.FileServerFS(files))
	return secured(http.NewCrossOriginProtection().Handler(mux))
}

// secured permits the page what it needs, and nothing else.
func secured(next http.Handler) http.Handler {
	policy := strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
		"require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// serveClient serves the built client of package js.
func serveClient(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(js.Client()))
}

// login starts a session for any name: put the check that your API has in its
// place. The page gets its auth token from a renewal.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	name, ok := readName(http.MaxBytesReader(w, r.Body, 4<<10))
	if !ok {
		s.writeError(w, r, http.StatusBadRequest, "invalid request")
		return
	}
	bundle, err := s.renewer.Issue(r.Context(), renew.IssueRequest{
		AppID:     appID,
		Subject:   strings.TrimSpace(name),
		IP:        httpadapter.ClientIP(r),
		UserAgent: r.UserAgent(),
	})
	var invalid *renew.ValidationError
	switch {
	case errors.As(err, &invalid):
		s.writeError(w, r, http.StatusBadRequest, invalid.Error())
	case err != nil:
		s.fail(w, r, err)
	default:
		s.browser.SetSession(w, bundle)
		w.WriteHeader(http.StatusNoContent)
	}
}

// readName reads the member name of a JSON object. encoding/json alone takes the last
// of two names, a Name for a name, and two names that are not UTF-8 for one: a user
// could log in as another one than whom a proxy in front has let through.
func readName(body io.Reader) (name string, ok bool) {
	text, err := io.ReadAll(body)
	if err != nil || !jsontext.Value(text).IsValid() { // which it is not with a member twice
		return "", false
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return "", false
	}
	err = json.Unmarshal(members["name"], &name)
	return name, err == nil
}

// session says who asks, by the auth token.
func (s *site) session(w http.ResponseWriter, r *http.Request) {
	claims := httpadapter.Claims(r.Context())
	s.writeJSON(w, r, http.StatusOK, map[string]any{
		"name": claims.Subject, "session_id": claims.SessionID, "token_id": claims.TokenID, "issued_at": claims.IssuedAt,
	})
}

// device is one login of the user, as the page shows it.
type device struct {
	ID        string    `json:"id"`
	UserAgent string    `json:"useragent"`
	IP        string    `json:"ip"`
	SignedIn  time.Time `json:"signed_in"`
	Seen      time.Time `json:"seen"`
	Renewals  int64     `json:"renewals"`
	Current   bool      `json:"current"`
}

func (s *site) devices(w http.ResponseWriter, r *http.Request) {
	claims := httpadapter.Claims(r.Context())
	sessions, err := s.renewer.Sessions(r.Context(), appID, claims.Subject)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	devices := make([]device, len(sessions))
	for i, session := range sessions {
		devices[i] = device{
			ID: session.ID, UserAgent: session.UserAgent, IP: session.IP,
			SignedIn: session.CreatedAt, Seen: session.IssuedAt,
			Renewals: session.Generation, Current: session.ID == claims.SessionID,
		}
	}
	s.writeJSON(w, r, http.StatusOK, devices)
}

// signOutDevice ends a session of the user's, and no other: its ID comes from
// the page.
func (s *site) signOutDevice(w http.ResponseWriter, r *http.Request) {
	claims := httpadapter.Claims(r.Context())
	err := s.renewer.RevokeSubjectSession(r.Context(), appID, claims.Subject, r.PathValue("id"))
	switch {
	case errors.Is(err, renew.ErrSessionNotFound):
		s.writeError(w, r, http.StatusNotFound, "no such device")
	case err != nil:
		s.fail(w, r, err)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *site) signOutOthers(w http.ResponseWriter, r *http.Request) {
	claims := httpadapter.Claims(r.Context())
	if _, err := s.renewer.RevokeSubject(r.Context(), appID, claims.Subject, claims.SessionID); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// lose has the response to the next renewal lost, so that one can see the client
// repeat it.
func (s *site) lose(w http.ResponseWriter, _ *http.Request) {
	s.losses.Store(1)
	w.WriteHeader(http.StatusNoContent)
}

// losing is a proxy that loses responses: the renewal happens, and its client
// learns nothing of it.
func (s *site) losing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/renew") || !s.losses.CompareAndSwap(1, 0) {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(lost{}, r)
		http.Error(w, "the response was lost", http.StatusBadGateway)
	})
}

// lost is a response that is not received.
type lost struct{}

func (lost) Header() http.Header         { return http.Header{} }
func (lost) Write(p []byte) (int, error) { return len(p), nil }
func (lost) WriteHeader(int)             {}
