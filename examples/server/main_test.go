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
	"github.com/jwtrenew/renew/memstore"

	"github.com/jwtrenew/renew/storeurl"
)

func flagsOf(t *testing.T, args ...string) config {
	t.Helper()
	c, err := parseFlags(args, io.Discard)
	require.NoError(t, err)
	return c
}

// filled is a store in memory with the app of the flags, and a Renewer on it.
func filled(t *testing.T, c config, opts ...renew.Option) (*storeurl.Stores, *renew.Renewer) {
	t.Helper()
	s, err := openStores(t.Context(), storeurl.Memory)
	require.NoError(t, err)
	registered(t, s, c)
	renewer, err := renew.New(s.Keys, s.Tokens, opts...)
	require.NoError(t, err)
	return s, renewer
}

// registered returns the app key that a start with these flags prints.
func registered(t *testing.T, s *storeurl.Stores, c config) string {
	t.Helper()
	appKey, err := register(t.Context(), s.Keys, c, time.Now())
	require.NoError(t, err)
	return appKey
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
// and keys stay valid, the settings are those of the flags.
func TestStartAgain(t *testing.T) {
	s, renewer := filled(t, flagsOf(t))
	b := issue(t, renewer)
	require.Empty(t, registered(t, s, flagsOf(t, "-auth-ttl", "5m")))
	next, err := renewer.Renew(t.Context(), renewal(b))
	require.NoError(t, err)
	require.Equal(t, b.KeyID, next.KeyID, "the signing key stays")
	app, err := s.Keys.App(t.Context(), "demo")
	require.NoError(t, err)
	require.Equal(t, 5*time.Minute, app.AuthTTL)
}

// TestAppKeys shows which app keys are valid after some starts on one store: one,
// unless a flag says to add.
func TestAppKeys(t *testing.T) {
	const first, second, third = "the-first-secret", "the-second-secret", "the-third-secret"
	set, add := "-app-key", "-add-app-key"
	for name, test := range map[string]struct {
		starts [][]string
		valid  []string // in addition to the one that a start without a secret made
		made   bool     // whether that one is valid
	}{
		"one made, three starts":   {[][]string{nil, nil, nil}, nil, true},
		"one given, three starts":  {[][]string{{set, first}, {set, first}, {set, first}}, []string{first}, false},
		"given once, then not":     {[][]string{{set, first}, nil, nil}, []string{first}, false},
		"another one":              {[][]string{{set, first}, {set, second}}, []string{second}, false},
		"in place of the one made": {[][]string{nil, {set, first}}, []string{first}, false},
		"added":                    {[][]string{{set, first}, {add, second}}, []string{first, second}, false},
		"added to the one made":    {[][]string{nil, {add, first}, nil}, []string{first}, true},
		"added twice":              {[][]string{{set, first}, {add, second}, {add, second}}, []string{first, second}, false},
		"added to nothing":         {[][]string{{add, first}}, []string{first}, false},
		"added, then one of both":  {[][]string{{set, first}, {add, second}, {set, second}}, []string{second}, false},
		"added two, then another":  {[][]string{{set, first}, {add, second}, {set, third}}, []string{third}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := openStores(t.Context(), storeurl.Memory)
			require.NoError(t, err)
			made := ""
			for i, args := range test.starts {
				appKey := registered(t, s, flagsOf(t, args...))
				switch {
				case len(args) > 0:
					require.Equal(t, args[1], appKey)
				case i == 0:
					made = appKey
					require.Len(t, made, 43)
				default:
					require.Empty(t, appKey, "only a hash of it is known")
				}
			}
			var want []renew.AppKeyHash
			for _, key := range test.valid {
				want = append(want, hashOf(t, key))
			}
			if test.made {
				want = append(want, hashOf(t, made))
			}
			app, err := s.Keys.App(t.Context(), "demo")
			require.NoError(t, err)
			require.ElementsMatch(t, want, app.KeyHashes)
		})
	}
}

// TestAppWithoutAppKey shows that a start gives an app key to an app that has
// none: all callers were rejected.
func TestAppWithoutAppKey(t *testing.T) {
	s, err := openStores(t.Context(), storeurl.Memory)
	require.NoError(t, err)
	require.NoError(t, s.Keys.CreateApp(t.Context(), renew.App{ID: "demo", Issuer: "demo"}))
	appKey := registered(t, s, flagsOf(t))
	app, err := s.Keys.App(t.Context(), "demo")
	require.NoError(t, err)
	require.Equal(t, []renew.AppKeyHash{hashOf(t, appKey)}, app.KeyHashes)
}

// TestAppKeepsWhatNoFlagNames shows that a start leaves the issuer of an app that was
// there as it is, and so its tokens valid.
func TestAppKeepsWhatNoFlagNames(t *testing.T) {
	s, err := openStores(t.Context(), storeurl.Memory)
	require.NoError(t, err)
	app := renew.App{ID: "demo", Issuer: "Demo Inc.", FormerIssuers: []string{"Demo Ltd."}, MaxSessions: 3, AuthTTL: time.Minute}
	require.NoError(t, s.Keys.CreateApp(t.Context(), app))
	registered(t, s, flagsOf(t))
	stored, err := s.Keys.App(t.Context(), "demo")
	require.NoError(t, err)
	require.Equal(t, "Demo Inc.", stored.Issuer)
	require.Equal(t, []string{"Demo Ltd."}, stored.FormerIssuers)
	require.Equal(t, 3, stored.MaxSessions)
	require.Equal(t, renew.DefaultAuthTTL, stored.AuthTTL, "a flag's default")
}

// racing is a store in which another server accepts its own app key whenever this
// one has removed an app key.
type racing struct {
	storeurl.Keys
	other renew.AppKeyHash
	times int
}

func (r *racing) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	if err := r.Keys.RemoveAppKey(ctx, appID, hash); err != nil || r.times == 0 {
		return err
	}
	r.times--
	return r.AddAppKey(ctx, appID, r.other)
}

// TestTwoAppKeysAtOnce shows that one app key is left of two servers that start
// with different ones, or that a start fails which says why.
func TestTwoAppKeysAtOnce(t *testing.T) {
	c := flagsOf(t, "-app-key", "the-secret-of-this-one")
	for times, fails := range map[int]bool{1: false, 2: false, 1000: true} {
		s, _ := filled(t, flagsOf(t))
		_, err := register(t.Context(), &racing{s.Keys, hashOf(t, "the-secret-of-another"), times}, c, time.Now())
		if fails {
			require.ErrorContains(t, err, "another server changes the app keys")
			continue
		}
		require.NoError(t, err)
		app, err := s.Keys.App(t.Context(), "demo")
		require.NoError(t, err)
		require.Equal(t, []renew.AppKeyHash{hashOf(t, c.appKey)}, app.KeyHashes)
	}
}

// TestAnotherAlgorithm shows that a start with another -alg replaces the signing
// key, and that existing sessions continue.
func TestAnotherAlgorithm(t *testing.T) {
	s, renewer := filled(t, flagsOf(t))
	b := issue(t, renewer)
	registered(t, s, flagsOf(t, "-alg", "EdDSA"))
	next, err := renewer.Renew(t.Context(), renewal(b))
	require.NoError(t, err)
	require.NotEqual(t, b.KeyID, next.KeyID)
	require.Equal(t, `"EdDSA"`, string(segment(t, next.AuthToken, 0)["alg"]))
}

var errOutage = errors.New("the database is away")

// away is a store whose database is away.
type away struct{ *memstore.Store }

func (away) CreateSession(context.Context, renew.Session) error { return errOutage }
func (away) CreateApp(context.Context, renew.App) error         { return errOutage }

// TestOutageAtStart shows that a store that cannot say whether it has the app
// ends the start, with the reason.
func TestOutageAtStart(t *testing.T) {
	_, err := register(t.Context(), away{memstore.New()}, flagsOf(t), time.Now())
	require.ErrorIs(t, err, errOutage)
}

// served sends one request to the API and returns its response.
func served(t *testing.T, a *api, method, path, token, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.handler().ServeHTTP(w, r)
	return w
}

// TestOutage shows that the log says how the store failed, and the client does not
// learn it.
func TestOutage(t *testing.T) {
	s, _ := filled(t, flagsOf(t))
	renewer, err := renew.New(s.Keys, away{memstore.New()})
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

// slowKeys and slowTokens are stores that respond when their caller gives up.
type (
	slowKeys   struct{ renew.KeyStore }
	slowTokens struct{ renew.TokenStore }
)

func (slowKeys) SigningKey(ctx context.Context, _ string) (*renew.SigningKey, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (slowTokens) Session(ctx context.Context, _, _ string) (renew.Session, error) {
	<-ctx.Done()
	return renew.Session{}, ctx.Err()
}

// TestHalfClosed shows that a client that has closed its half of the connection,
// and still reads, is not told that a login or a logout succeeded that failed: to
// net/http it has hung up, and no response is a 200.
func TestHalfClosed(t *testing.T) {
	stores, renewer := filled(t, flagsOf(t))
	b := issue(t, renewer)
	renewer, err := renew.New(slowKeys{stores.Keys}, slowTokens{stores.Tokens})
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
	s, err := stores.Tokens.Session(t.Context(), "demo", b.SessionID)
	require.NoError(t, err)
	require.Zero(t, s.RevokedAt)
}

// TestLateLogout shows that an auth token that has expired is rejected, and still
// ends its session.
func TestLateLogout(t *testing.T) {
	now := time.Now()
	stores, renewer := filled(t, flagsOf(t), renew.WithClock(func() time.Time { return now }))
	a := &api{renewer: renewer, appID: "demo", logger: slog.New(slog.DiscardHandler)}
	b := issue(t, renewer)
	now = b.AuthExpiresAt
	require.Equal(t, http.StatusUnauthorized, served(t, a, http.MethodGet, "/me", b.AuthToken, "").Code)
	require.Equal(t, http.StatusNoContent, served(t, a, http.MethodPost, "/logout", b.AuthToken, "").Code)
	s, err := stores.Tokens.Session(t.Context(), "demo", b.SessionID)
	require.NoError(t, err)
	require.False(t, s.RevokedAt.IsZero())
}
