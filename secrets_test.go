package renew_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// recorder keeps every byte that a scenario writes anywhere but into its responses.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *recorder) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.WriteString(fmt.Sprintf(format, args...))
}

// event writes an event in all the ways in which it may be written.
func (r *recorder) event(_ context.Context, e renew.Event) {
	encoded, err := json.Marshal(e)
	must(err)
	r.printf("%s\n%+v\n%#v\n", encoded, e, e)
}

// err writes an error and all that it wraps, in all ways.
func (r *recorder) err(err error) {
	for ; err != nil; err = errors.Unwrap(err) {
		r.printf("%v\n%+v\n%#v\n", err, err, err)
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				r.err(one)
			}
		}
	}
}

// captureOutput sends what the process itself writes to the recorder, until the
// test ends.
func (r *recorder) captureOutput(t *testing.T) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	stdout, stderr, logger, logOutput := os.Stdout, os.Stderr, slog.Default(), log.Writer()
	os.Stdout, os.Stderr = file, file
	slog.SetDefault(slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true})))
	log.SetOutput(r)
	t.Cleanup(func() {
		os.Stdout, os.Stderr = stdout, stderr
		slog.SetDefault(logger)
		log.SetOutput(logOutput)
		require.NoError(t, file.Close())
	})
	t.Cleanup(func() {
		written, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		require.Empty(t, string(written), "a library writes nothing by itself")
	})
}

// secrets are what must be found nowhere, in stretches of 20 bytes: shorter ones
// would be found by chance, or are short enough to be of no use.
type secrets map[string]string

const secretStretch = 20

func (s secrets) add(kind, text string) {
	for i := 0; i+secretStretch <= len(text); i++ {
		s[text[i:i+secretStretch]] = kind
	}
}

// token adds what follows a token's header: header and key are known to all.
func (s secrets) token(kind, token string) {
	if i := strings.IndexByte(token, '.'); i > 0 && len(token) < 64<<10 {
		s.add(kind, token[i+1:])
	}
}

// find returns where the first stretch of a secret is in the text.
func (s secrets) find(text string) (at int, found bool) {
	for i := 0; i+secretStretch <= len(text); i++ {
		if _, found := s[text[i:i+secretStretch]]; found {
			return i, true
		}
	}
	return 0, false
}

func (s secrets) requireNoneIn(t *testing.T, where, text string) {
	t.Helper()
	if i, found := s.find(text); found {
		t.Fatalf("%s hold %s: %q", where, s[text[i:i+secretStretch]], text[max(0, i-200):min(len(text), i+200)])
	}
}

const (
	claimSecret  = "claim-value-7a0b5c1d-never-to-be-logged"
	claimName    = "claim-name-55aa1e0f-nor-this"
	wrongAppKey  = "wrong-app-key-2f6c1bd4a97e4b31"
	idempotency  = "idempotency-key-9d1c27aa41"
	hookDetail   = "hook says: account is closed"
	outageDetail = "connection refused"
)

// The promise: nothing that is written anywhere but in the response to its owner, no
// event, log line, error, other response or stored session, holds a token, an app
// key, an idempotency key or, except the stored session, a custom claim.
func TestNothingWrittenHoldsASecret(t *testing.T) {
	r := &recorder{}
	r.captureOutput(t)
	w := newCorpusFixture(t)
	s := &leakScenario{fixture: w, handler: &swapHandler{}, recorder: r, secrets: secrets{}, keys: map[string]string{}}
	s.secrets.add("the app key", w.appKey)
	s.secrets.add("a wrong app key", wrongAppKey)
	s.secrets.add("an idempotency key", idempotency)
	s.secrets.add("a claim's value", claimSecret)
	s.secrets.add("a claim's name", claimName)
	renewer, err := renew.New(w.store, w.hooks, renew.WithClock(w.clock.Now), renew.WithEventFunc(r.event),
		renew.WithReuseLeeway(time.Second), renew.WithRenewFunc(func(context.Context, *renew.Renewal) error { return s.deny }))
	require.NoError(t, err)
	s.Renewer = renewer
	s.handler.Handler = httpadapter.New(renewer)
	server := httptest.NewUnstartedServer(s.handler)
	server.Config.ErrorLog = log.New(r, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	s.url = server.URL

	s.renewals()
	s.failures()
	s.strangers()
	s.corpus()

	written := r.String()
	for _, kind := range []renew.EventKind{
		renew.EventIssued, renew.EventRenewed, renew.EventRetried, renew.EventRejected, renew.EventReused, renew.EventAhead, renew.EventRevoked,
		renew.EventAuthRejected, renew.EventAppKeyRejected,
	} {
		require.Contains(t, written, `"Kind":"`+string(kind)+`"`, "the scenario shows every kind of event")
	}
	for _, shown := range []string{"request rejected", "request failed", hookDetail, outageDetail, s.last.SessionID} {
		require.Contains(t, written, shown, "the scenario is recorded at all")
	}
	s.secrets.requireNoneIn(t, "logs, events, errors or responses", written)
	stored := maps.Clone(s.secrets)
	maps.DeleteFunc(stored, func(_, kind string) bool { return strings.HasPrefix(kind, "a claim's") })
	require.Contains(t, s.rows, s.last.SessionID)
	stored.requireNoneIn(t, "stored sessions", s.rows)
}

// leakScenario is a service in use, by honest and by bad clients.
type leakScenario struct {
	*fixture
	handler  *swapHandler
	recorder *recorder
	secrets  secrets
	url      string
	deny     error
	keys     map[string]string // idempotency keys
	last     *renew.Bundle
	rows     string
}

func (s *leakScenario) issue() *renew.Bundle {
	s.t.Helper()
	req := s.issueRequest()
	req.Claims = map[string]any{"c": claimSecret, claimName: "x"}
	b, err := s.Issue(s.ctx, req)
	require.NoError(s.t, err)
	s.keep(b)
	return b
}

// keep remembers a pair's tokens as secrets, and the row of its session.
func (s *leakScenario) keep(b *renew.Bundle) {
	s.t.Helper()
	s.last = b
	s.secrets.token("an auth token", b.AuthToken)
	s.secrets.token("a refresh token", b.RefreshToken)
	row, err := s.store.Session(s.ctx, s.app.ID, b.SessionID)
	require.NoError(s.t, err)
	encoded, err := json.Marshal(row)
	require.NoError(s.t, err)
	s.rows += string(encoded) + fmt.Sprintf("%+v", row)
}

// post renews over HTTP, and records every response but a new pair.
func (s *leakScenario) post(appID, appKey, token string, change func(*http.Request)) *renew.Bundle {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"refresh_token": token, "ip": testIP, "useragent": testAgent})
	require.NoError(s.t, err)
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.url+"/app/"+appID+"/renew", bytes.NewReader(body))
	require.NoError(s.t, err)
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(req)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { require.NoError(s.t, res.Body.Close()) }()
	response, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	s.recorder.printf("%s %v\n", res.Status, res.Header)
	if res.StatusCode != http.StatusOK {
		s.recorder.printf("%s\n", response)
		return nil
	}
	var b renew.Bundle
	require.NoError(s.t, json.Unmarshal(response, &b))
	b.SessionID = claims(s.t, b.RefreshToken)["sid"].(string)
	s.keep(&b)
	return &b
}

func (s *leakScenario) renewed(b *renew.Bundle) *renew.Bundle {
	if _, known := s.keys[b.RefreshToken]; !known { // one for each refresh token
		s.keys[b.RefreshToken] = fmt.Sprintf("%s-%d", idempotency, len(s.keys))
	}
	return s.post("app_1", s.appKey, b.RefreshToken, func(r *http.Request) { r.Header.Set("Idempotency-Key", s.keys[b.RefreshToken]) })
}

// renewals are renewals, retries, theft and logouts.
func (s *leakScenario) renewals() {
	first := s.issue()
	second := s.renewed(first)
	require.NotNil(s.t, second)
	require.NotNil(s.t, s.renewed(first), "a retry")
	third := s.renewed(second)
	require.NotNil(s.t, third)
	require.Nil(s.t, s.post("app_1", s.appKey, second.RefreshToken, nil), "superseded")
	s.clock.Move(time.Minute)
	require.Nil(s.t, s.renewed(first), "reused")
	require.Nil(s.t, s.renewed(third), "revoked")
	other := s.issue()
	_, err := s.VerifySession(s.ctx, "app_1", other.AuthToken)
	require.NoError(s.t, err)
	require.NoError(s.t, s.Revoke(s.ctx, "app_1", other.AuthToken))
	_, err = s.VerifySession(s.ctx, "app_1", other.AuthToken)
	s.recorder.err(err)
	_, err = s.RevokeSubject(s.ctx, "app_1", "user@example.com")
	require.NoError(s.t, err)
}

// failures are those of stores and hooks.
func (s *leakScenario) failures() {
	b := s.issue()
	s.deny = fmt.Errorf("%s: %w", hookDetail, renew.ErrDenied)
	require.Nil(s.t, s.renewed(b))
	s.deny = errors.New(hookDetail)
	require.Nil(s.t, s.renewed(b))
	s.deny = nil
	outage := errors.New(outageDetail)
	s.hooks.rotate = func(context.Context, func() error) error { return outage }
	require.Nil(s.t, s.renewed(b))
	s.hooks.rotate = func(context.Context, func() error) error { return renew.ErrConflict }
	require.Nil(s.t, s.renewed(b))
	s.hooks.rotate = nil
	s.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
		return renew.Session{}, outage
	}
	require.Nil(s.t, s.renewed(b))
	_, err := s.VerifySession(s.ctx, "app_1", b.AuthToken)
	s.recorder.err(err)
	s.hooks.session = nil
	s.hooks.revoke = func(context.Context, func() error) error { return outage }
	s.recorder.err(s.Revoke(s.ctx, "app_1", b.RefreshToken))
	s.hooks.revoke = nil
	require.NotNil(s.t, s.renewed(b))
}

// strangers are requests of people with no app key, and secrets in wrong places.
func (s *leakScenario) strangers() {
	b := s.issue()
	token := b.RefreshToken
	require.Nil(s.t, s.post("app_1", wrongAppKey, token, nil))
	require.Nil(s.t, s.post("app_1", "", token, nil))
	require.Nil(s.t, s.post("app_1", s.appKey+"x", token, nil))
	require.Nil(s.t, s.post("app_1", "Bearer "+s.appKey, token, nil))
	require.Nil(s.t, s.post("nobody", s.appKey, token, nil))
	require.Nil(s.t, s.post(wrongAppKey, s.appKey, token, nil), "an app key for an app ID")
	require.Nil(s.t, s.post(token, s.appKey, token, nil), "a token for an app ID")
	require.Nil(s.t, s.post("app_1", token, s.appKey, nil), "token and app key swapped")
	require.Nil(s.t, s.post("app_1", s.appKey, s.appKey, nil), "an app key for a token")
	require.Nil(s.t, s.post("app_1", s.appKey, token, func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(token)), int64(len(token))
	}), "a token for a body")
	require.Nil(s.t, s.post("app_1", s.appKey, token, func(r *http.Request) { r.Header.Set("Idempotency-Key", idempotency+" "+token) }))
	require.Nil(s.t, s.post("app_1", s.appKey, token, func(r *http.Request) { r.Header.Set("Content-Type", token) }))
	require.Nil(s.t, s.post("app_1", s.appKey, token, func(r *http.Request) { r.URL.Path = "/" + token }))
	for _, key := range []string{"", wrongAppKey, s.appKey + " ", strings.ToLower(s.appKey)} {
		s.recorder.err(s.AuthenticateApp(s.ctx, "app_1", key))
		s.recorder.err(s.AuthenticateApp(s.ctx, key, key))
	}
	s.recorder.err(s.RevokeSession(s.ctx, "app_1", token))
	_, err := s.Renew(s.ctx, renew.RenewRequest{AppID: token, RefreshToken: token, IP: token, UserAgent: token + "\n", IdempotencyKey: token})
	s.recorder.err(err)
	_, err = s.Issue(s.ctx, renew.IssueRequest{
		AppID: "app_1", Subject: "\n" + token, Audience: []string{"\n" + token}, IP: token, UserAgent: "\n" + token,
		Claims: map[string]any{"iss": claimSecret, claimName: func() {}},
	})
	s.recorder.err(err)
	_, err = s.Issue(s.ctx, renew.IssueRequest{
		AppID: "app_1", Subject: "user", IP: testIP, UserAgent: testAgent, Claims: map[string]any{claimName: claimSecret + "\xff"},
	})
	s.recorder.err(err)
}

// corpus is the forged tokens, everywhere.
func (s *leakScenario) corpus() {
	for _, token := range loadCorpus().tokens {
		f := newCorpusFixture(s.t)
		var err error
		f.Renewer, err = renew.New(f.store, f.store, renew.WithClock(f.clock.Now), renew.WithEventFunc(s.recorder.event))
		require.NoError(s.t, err)
		s.fixture, s.handler.Handler = f, httpadapter.New(f.Renewer)
		s.secrets.add("the app key", f.appKey)
		s.secrets.token("a forged token, "+token.Name, token.Compact)
		_, err = f.VerifyAuthToken(s.ctx, "app_1", token.Compact)
		s.recorder.err(err)
		s.recorder.err(f.Revoke(s.ctx, "app_2", token.Compact))
		_, err = f.Renew(s.ctx, corpusRequest(token.Compact))
		s.recorder.err(err)
		s.post("app_1", s.appKey, token.Compact, nil)
	}
}

// The search itself must find what is there.
func TestSecretsAreFound(t *testing.T) {
	s := secrets{}
	s.token("a token", "aGVhZGVy."+base64.RawURLEncoding.EncodeToString([]byte(`{"claim":"of some length"}`))+".c2lnbmF0dXJlIG9mIHNvbWUgbGVuZ3Ro")
	for _, text := range []string{"x c2lnbmF0dXJlIG9mIHNv x", "c2lnbmF0dXJlIG9mIHNvbWUgbGVuZ3Ro"} {
		_, found := s.find(text)
		require.True(t, found, text)
	}
	_, found := s.find("log: c2lnbmF0dXJl aGVhZGVyaGVhZGVyaGVhZGVy")
	require.False(t, found)
}
