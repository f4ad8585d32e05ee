package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

func flagsOf(t *testing.T, args ...string) config {
	t.Helper()
	c, err := parseFlags(args, io.Discard)
	require.NoError(t, err)
	return c
}

// filled is a store in memory with the app of the flags, and a Renewer on it.
func filled(t *testing.T, c config, opts ...renew.Option) (stores, *renew.Renewer) {
	t.Helper()
	store, err := openStore(t.Context(), c.store)
	require.NoError(t, err)
	require.NoError(t, register(t.Context(), store, c, time.Now()))
	renewer, err := renew.New(store, store, opts...)
	require.NoError(t, err)
	return store, renewer
}

func issue(t *testing.T, renewer *renew.Renewer) *renew.Bundle {
	t.Helper()
	b, err := renewer.Issue(t.Context(), renew.IssueRequest{AppID: "demo", Subject: "ann", IP: "192.0.2.1", UserAgent: "x"})
	require.NoError(t, err)
	return b
}

func renewal(b *renew.Bundle) renew.RenewRequest {
	return renew.RenewRequest{AppID: "demo", RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "x"}
}

// TestStartAgain shows what a start finds in a store that has the app: sessions
// and app keys stay good, the settings are those of the flags.
func TestStartAgain(t *testing.T) {
	before := flagsOf(t)
	store, renewer := filled(t, before)
	b := issue(t, renewer)

	after := flagsOf(t, "-auth-ttl", "5m")
	require.NoError(t, register(t.Context(), store, after, time.Now()))
	for _, appKey := range []string{before.appKey, after.appKey} {
		require.NoError(t, renewer.AuthenticateApp(t.Context(), "demo", appKey))
	}
	next, err := renewer.Renew(t.Context(), renewal(b))
	require.NoError(t, err)
	require.Equal(t, b.KeyID, next.KeyID, "the signing key stays")
	app, err := store.App(t.Context(), "demo")
	require.NoError(t, err)
	require.Equal(t, 5*time.Minute, app.AuthTTL)
}

// TestAnotherAlgorithm shows that a start with another -alg replaces the signing
// key, and that sessions of the one before go on.
func TestAnotherAlgorithm(t *testing.T) {
	store, renewer := filled(t, flagsOf(t))
	b := issue(t, renewer)
	require.NoError(t, register(t.Context(), store, flagsOf(t, "-alg", "EdDSA"), time.Now()))
	next, err := renewer.Renew(t.Context(), renewal(b))
	require.NoError(t, err)
	require.NotEqual(t, b.KeyID, next.KeyID)
	require.Equal(t, `"EdDSA"`, string(segment(t, next.AuthToken, 0)["alg"]))
}

var errOutage = errors.New("the database is away")

// away is a store whose database is away.
type away struct{ stores }

func (away) CreateSession(context.Context, renew.Session) error         { return errOutage }
func (away) DeleteExpired(context.Context, time.Time, int) (int, error) { return 0, errOutage }
func (away) CreateApp(context.Context, renew.App) error                 { return errOutage }
func (away) App(context.Context, string) (renew.App, error)             { return renew.App{}, errOutage }

// TestOutageAtStart shows that a store that cannot say whether it has the app
// ends the start, with the reason.
func TestOutageAtStart(t *testing.T) {
	store, _ := filled(t, flagsOf(t))
	require.ErrorIs(t, register(t.Context(), away{store}, flagsOf(t), time.Now()), errOutage)
}

// served sends one request to the API and returns its answer.
func served(t *testing.T, a *api, method, path, token, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.handler().ServeHTTP(w, r)
	return w
}

// TestOutage shows that a failure of the store is told to the log, and not to
// the client.
func TestOutage(t *testing.T) {
	store, _ := filled(t, flagsOf(t))
	renewer, err := renew.New(store, away{store})
	require.NoError(t, err)
	log := newLogBuffer()
	a := &api{renewer: renewer, appID: "demo", logger: slog.New(slog.NewTextHandler(log, nil))}
	w := served(t, a, http.MethodPost, "/login", "", loginBody)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.JSONEq(t, `{"message":"internal error"}`, w.Body.String())
	require.Regexp(t, `level=ERROR msg="request failed" path=/login error=".*the database is away`, log.String())
}

// TestHungUp shows that a client that has hung up is no internal error, and that
// it is told that its request failed all the same.
func TestHungUp(t *testing.T) {
	_, renewer := filled(t, flagsOf(t))
	log := newLogBuffer()
	a := &api{renewer: renewer, appID: "demo", logger: slog.New(slog.NewTextHandler(log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/login", strings.NewReader(loginBody))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.handler().ServeHTTP(w, r)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Contains(t, log.String(), `level=INFO msg="request canceled" path=/login`)
	require.NotContains(t, log.String(), "level=ERROR")
}

// slow is a store that responds when its caller gives up.
type slow struct{ stores }

func (slow) CreateSession(ctx context.Context, _ renew.Session) error {
	<-ctx.Done()
	return ctx.Err()
}

func (slow) Session(ctx context.Context, _, _ string) (renew.Session, error) {
	<-ctx.Done()
	return renew.Session{}, ctx.Err()
}

// TestHalfClosed shows that a client that has closed its half of the connection,
// and still reads, is not told that a login or a logout succeeded that failed: to
// net/http it has hung up, and no response is a 200.
func TestHalfClosed(t *testing.T) {
	store, renewer := filled(t, flagsOf(t))
	b := issue(t, renewer)
	renewer, err := renew.New(store, slow{store})
	require.NoError(t, err)
	server := httptest.NewServer((&api{renewer: renewer, appID: "demo", logger: slog.New(slog.DiscardHandler)}).handler())
	t.Cleanup(server.Close)
	for name, test := range map[string]struct {
		head []string
		body string
	}{
		"login":  {[]string{"POST /login HTTP/1.1", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(loginBody))}, loginBody},
		"logout": {[]string{"POST /logout HTTP/1.1", "Authorization: Bearer " + b.AuthToken}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := write(t, server.Listener.Addr().String(), test.head, test.body)
			require.NoError(t, conn.CloseWrite())
			a := read(t, conn)
			require.Equal(t, http.StatusInternalServerError, a.status)
			require.JSONEq(t, `{"message":"internal error"}`, a.body)
		})
	}
	s, err := store.Session(t.Context(), "demo", b.SessionID)
	require.NoError(t, err)
	require.Zero(t, s.RevokedAt)
}

// TestLateLogout shows that an auth token that has expired opens nothing any
// more, and still ends its session.
func TestLateLogout(t *testing.T) {
	now := time.Now()
	store, renewer := filled(t, flagsOf(t), renew.WithClock(func() time.Time { return now }))
	a := &api{renewer: renewer, appID: "demo", logger: slog.New(slog.DiscardHandler)}
	b := issue(t, renewer)
	now = b.AuthExpiresAt
	require.Equal(t, http.StatusUnauthorized, served(t, a, http.MethodGet, "/me", b.AuthToken, "").Code)
	require.Equal(t, http.StatusNoContent, served(t, a, http.MethodPost, "/logout", b.AuthToken, "").Code)
	s, err := store.Session(t.Context(), "demo", b.SessionID)
	require.NoError(t, err)
	require.False(t, s.RevokedAt.IsZero())
}
