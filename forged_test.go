package renew_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/internal/forged"
	"github.com/jwtrenew/renew/memstore"
)

// corpus is the corpus of forged tokens, with its keys and sessions as this
// package has them.
type corpus struct {
	tokens   []forged.Token
	keys     map[string]forged.Key
	signing  map[string]*renew.SigningKey
	sessions map[string]renew.Session
}

var loadCorpus = sync.OnceValue(func() corpus {
	c := corpus{signing: map[string]*renew.SigningKey{}, sessions: map[string]renew.Session{}}
	var err error
	c.tokens, err = forged.Tokens()
	must(err)
	c.keys, err = forged.Keys()
	must(err)
	for name, k := range c.keys {
		c.signing[name], err = renew.NewSigningKey(k.ID, renew.Algorithm(k.Algorithm), k.Private)
		must(err)
	}
	sessions, err := forged.Sessions()
	must(err)
	start := forged.Now.Truncate(time.Second)
	for name, s := range sessions {
		c.sessions[name] = renew.Session{
			AppID: s.App, ID: s.ID, Subject: "user@example.com", CreatedAt: forged.Now,
			TokenID: s.TokenID, IssuedAt: forged.Now, RefreshNotBefore: start, RefreshExpiresAt: start.Add(renew.DefaultRefreshTTL),
			IP: testIP, UserAgent: testAgent,
		}
	}
	return c
})

// newCorpusFixture returns a fixture with all that the corpus refers to. It does
// not revoke for reuse: a valid signature on an earlier token ID would rightly end
// the session, whose token is presented afterwards.
func newCorpusFixture(t *testing.T) *fixture {
	t.Helper()
	c := loadCorpus()
	f := &fixture{ctx: t.Context(), t: t, clock: &clock{now: forged.Now}, store: memstore.New(), events: &eventLog{}, key: c.signing["ES256"]}
	var hash renew.AppKeyHash
	f.appKey, hash = renew.NewAppKey()
	f.app = renew.App{ID: "app_1", Issuer: "issuer_1", KeyHashes: []renew.AppKeyHash{hash}}
	require.NoError(t, f.store.CreateApp(f.ctx, f.app))
	rotate := func(appID, name string, at time.Time) {
		require.NoError(t, f.store.RotateSigningKey(f.ctx, appID, c.signing[name], at))
	}
	rotate("app_1", "deleted", forged.Now.Add(-48*time.Hour))
	rotate("app_1", "revoked", forged.Now.Add(-24*time.Hour))
	n, err := f.store.DeleteExpiredKeys(f.ctx, forged.Now)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	// The corpus has the ends of keys without what counts for renewals under way.
	for name, k := range c.keys {
		if k.State == forged.KeyReplaced {
			rotate("app_1", name, forged.Now.Add(-keyMargin))
		}
	}
	rotate("app_1", "ES256", forged.Now.Add(-keyMargin))
	require.NoError(t, f.store.RevokeKey(f.ctx, "app_1", c.keys["revoked"].ID, forged.Now))
	f.addApp("app_2", "issuer_2", c.signing["foreign"])
	f.addApp("app_3", "issuer_3", c.signing["ES256"])
	for _, s := range c.sessions {
		require.NoError(t, f.store.CreateSession(f.ctx, s))
	}
	f.hooks = &hookedStore{Store: f.store}
	f.Renewer, err = renew.New(f.store, f.hooks,
		renew.WithClock(f.clock.Now), renew.WithEventFunc(f.events.add), renew.WithReuseRevocation(false))
	require.NoError(t, err)
	return f
}

// stored returns every session of the corpus as the store has it.
func (c corpus) stored(f *fixture) map[string]renew.Session {
	f.t.Helper()
	all := map[string]renew.Session{}
	for name, s := range c.sessions {
		now, err := f.store.Session(f.ctx, s.AppID, s.ID)
		require.NoError(f.t, err)
		all[name] = now
	}
	return all
}

// own is the token of the corpus that differs from a token of this library in
// nothing.
func (c corpus) own(t *testing.T) string {
	t.Helper()
	for _, token := range c.tokens {
		if token.Name == "valid: the session's own" {
			return token.Compact
		}
	}
	t.Fatal("the corpus lacks the session's own token")
	return ""
}

// corpusRequest is a renewal with a token of the corpus.
func corpusRequest(token string) renew.RenewRequest {
	return renew.RenewRequest{AppID: "app_1", RefreshToken: token, IP: testIP, UserAgent: testAgent}
}

// swapHandler serves what the case at hand wants served.
type swapHandler struct{ http.Handler }

// isGenuine reports whether a token that is rejected for this reason is a refresh
// token of the app all the same: its session is read.
func isGenuine(result string) bool {
	switch renew.Reason(result) {
	case renew.ReasonTooEarly, renew.ReasonExpired, renew.ReasonUnknownSession, renew.ReasonReused, renew.ReasonAhead:
		return true
	default:
		return false
	}
}

// The promise: what is not exactly a valid refresh token is rejected for its own
// reason, reads no session unless it is genuine, changes none, and gets the one
// documented response over HTTP. The token that it differs from is valid before and
// after.
func TestForgedTokens(t *testing.T) {
	c := loadCorpus()
	handler := &swapHandler{}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	for _, token := range c.tokens {
		t.Run(token.Name, func(t *testing.T) {
			f := newCorpusFixture(t)
			before := c.stored(f)
			f.hooks.calls()
			next, err := f.Renew(f.ctx, corpusRequest(token.Compact))
			if token.Result == forged.Valid {
				require.NoError(t, err, token.Why)
				require.Equal(t, [4]int64{0, 1, 1, 0}, f.hooks.calls())
				f.clock.Move(time.Minute)
				_, err = f.Renew(f.ctx, corpusRequest(c.own(t)))
				requireRejected(t, err, renew.ReasonReused)
				f.renew(next)
				return
			}
			require.Nil(t, next, token.Why)
			if token.Result == string(renew.ReasonAhead) {
				require.ErrorIs(t, err, renew.ErrAhead)
				requireInternal(t, err)
			} else {
				requireRejected(t, err, renew.Reason(token.Result))
			}
			requireQuotesNothing(t, err, token.Compact)
			reads := int64(0)
			if isGenuine(token.Result) {
				reads = 1
			}
			require.Equal(t, [4]int64{0, reads, 0, 0}, f.hooks.calls(), "store calls: created, read, rotated, revoked")
			requireRejectionEvent(t, f.events.take(), token.Result)

			handler.Handler = httpadapter.New(f.Renewer, httpadapter.WithLogger(slog.New(slog.DiscardHandler)))
			status, body := postToken(f, server, token.Compact)
			wantStatus, wantBody := documentedResponse(token)
			require.Equal(t, wantStatus, status)
			require.Equal(t, wantBody, body)

			require.Equal(t, before, c.stored(f))
			_, err = f.Renew(f.ctx, corpusRequest(c.own(t)))
			require.NoError(t, err)
		})
	}
}

// postToken sends a renewal to the documented endpoint.
func postToken(f *fixture, server *httptest.Server, token string) (status int, body string) {
	f.t.Helper()
	encoded, err := json.Marshal(map[string]string{"refresh_token": token, "ip": testIP, "useragent": testAgent})
	require.NoError(f.t, err)
	req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, server.URL+"/app/app_1/renew", bytes.NewReader(encoded))
	require.NoError(f.t, err)
	req.Header.Set("Authorization", f.appKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := server.Client().Do(req)
	require.NoError(f.t, err)
	defer func() { require.NoError(f.t, res.Body.Close()) }()
	response, err := io.ReadAll(res.Body)
	require.NoError(f.t, err)
	return res.StatusCode, string(response)
}

// documentedResponse is what the endpoint says of a forged token.
func documentedResponse(token forged.Token) (status int, body string) {
	switch {
	case token.Result == string(renew.ReasonAhead):
		return http.StatusInternalServerError, `{"message":"internal error"}`
	case len(token.Compact) > 64<<10-1024:
		return http.StatusBadRequest, `{"message":"invalid request","errors":[{"field":"body","message":"is longer than 65536 bytes"}]}`
	}
	return http.StatusBadRequest, `{"message":"invalid refresh token"}`
}

// requireRejectionEvent requires the one event of a rejection. Until the signature
// is verified, it says nothing about a session.
func requireRejectionEvent(t *testing.T, events []renew.Event, result string) {
	t.Helper()
	require.Len(t, events, 1)
	e := events[0]
	switch renew.Reason(result) {
	case renew.ReasonAhead:
		require.Equal(t, renew.EventAhead, e.Kind)
		return
	case renew.ReasonReused:
		require.Equal(t, renew.EventReused, e.Kind)
	default:
		require.Equal(t, renew.EventRejected, e.Kind)
	}
	require.Equal(t, renew.Reason(result), e.Reason)
	if isGenuine(result) {
		return
	}
	appID := "app_1"
	require.Equal(t, renew.Event{Kind: e.Kind, Time: e.Time, AppID: appID, Reason: e.Reason, IP: testIP, UserAgent: testAgent}, e)
}

// requireQuotesNothing requires that an error holds no stretch of a token, and no
// byte that could break a log line.
func requireQuotesNothing(t *testing.T, err error, token string) {
	t.Helper()
	text := err.Error()
	require.True(t, utf8.ValidString(text))
	require.False(t, strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), "%q", text)
	require.Less(t, len(text), 400)
	const stretch = 27 // longer than the ULIDs that an error may name
	for i := 0; i+stretch <= len(token) && i < 1<<14; i++ {
		require.NotContains(t, text, token[i:i+stretch])
	}
}

// The promise: no refresh token, forged or valid, is an auth token of any app.
func TestForgedTokensAreNotAuthTokens(t *testing.T) {
	c := loadCorpus()
	f := newCorpusFixture(t)
	before := c.stored(f)
	f.hooks.calls()
	for _, token := range c.tokens {
		if token.Name == "whole: the auth token" {
			continue
		}
		t.Run(token.Name, func(t *testing.T) {
			for _, appID := range []string{"app_1", "app_2", "app_3"} {
				claims, err := f.VerifyAuthToken(f.ctx, appID, token.Compact)
				require.Nil(t, claims)
				require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
				requireQuotesNothing(t, err, token.Compact)
				claims, err = f.VerifySession(f.ctx, appID, token.Compact)
				require.Nil(t, claims)
				require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
			}
		})
	}
	require.Equal(t, [4]int64{}, f.hooks.calls())
	require.Equal(t, before, c.stored(f))
}

// The promise: no one can log another user out with a token that no valid key of
// the app has signed, or that is not of one of its two kinds. What the app has
// signed ends the session that it names, and no other.
func TestForgedTokensRevokeNothing(t *testing.T) {
	c := loadCorpus()
	for _, token := range c.tokens {
		t.Run(token.Name, func(t *testing.T) {
			f := newCorpusFixture(t)
			before := c.stored(f)
			f.hooks.calls()
			err := f.Revoke(f.ctx, "app_1", token.Compact)
			if token.Revoke == forged.Valid {
				require.NoError(t, err)
				claims := decodeSegment(t, token.Compact, 1)
				for name, s := range c.stored(f) {
					named := s.AppID == "app_1" && s.ID == claims["sid"]
					require.Equal(t, named, !s.RevokedAt.IsZero(), name)
				}
				return
			}
			var rejected *renew.TokenError
			require.ErrorAs(t, err, &rejected)
			require.ErrorIs(t, err, renew.ErrInvalidToken)
			require.Equal(t, renew.Reason(token.Revoke), rejected.Reason)
			requireQuotesNothing(t, err, token.Compact)
			require.Equal(t, [4]int64{}, f.hooks.calls())
			require.Empty(t, f.events.take())
			require.Equal(t, before, c.stored(f))
		})
	}
}

// goJoseAlone is what a careful user of go-jose does with a refresh token: the
// key by its kid within the app, that key's algorithm only, the registered
// claims validated, the private ones read into a struct and checked.
func goJoseAlone(f *fixture, token string) error {
	var algs []jose.SignatureAlgorithm
	for _, key := range loadCorpus().keys {
		algs = append(algs, jose.SignatureAlgorithm(key.Algorithm))
	}
	unverified, err := jwt.ParseSigned(token, algs)
	if err != nil {
		return err
	}
	key, err := f.store.VerificationKey(f.ctx, f.app.ID, unverified.Headers[0].KeyID)
	if err != nil {
		return err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(key.Algorithm())})
	if err != nil {
		return err
	}
	var registered jwt.Claims
	var private struct {
		Type      string `json:"type"`
		TokenID   string `json:"jid"`
		SessionID string `json:"sid"`
	}
	if err := parsed.Claims(key.Public(), &registered, &private); err != nil {
		return err
	}
	if private.Type != "refresh" {
		return errors.New("not a refresh token")
	}
	if own := loadCorpus().sessions["own"]; private.TokenID != own.TokenID || private.SessionID != own.ID {
		return errors.New("not the session's token")
	}
	return registered.ValidateWithLeeway(jwt.Expected{Issuer: "issuer_1", Time: f.clock.Now()}, 0)
}

// The corpus says of each token whether go-jose alone accepts it, and what it
// tolerates then: between such a token and the endpoint stand only this library's
// own checks. If a later go-jose rejects one of these, or accepts another, this
// test says so.
func TestWhatGoJoseAloneAccepts(t *testing.T) {
	f := newCorpusFixture(t)
	for _, token := range loadCorpus().tokens {
		err := goJoseAlone(f, token.Compact)
		if token.Result == forged.Valid || token.GoJose != "" {
			require.NoError(t, err, "go-jose now rejects %q; it tolerated: %s", token.Name, token.GoJose)
		} else {
			require.Error(t, err, "go-jose now tolerates %q: %s", token.Name, token.Why)
		}
	}
}
