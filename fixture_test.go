package renew_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// epoch is when a fixture's clock starts; its milliseconds show truncation.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 345_000_000, time.UTC)

const (
	testIP    = "192.0.2.1"
	testAgent = "test-agent/1.0"
	testKey1  = "0123456789abcdef-one" // idempotency keys
	testKey2  = "0123456789abcdef-two"
)

// fixture is a Renewer on a memstore with one app, app_1, and a clock of its
// own. Its stores can be put behind others by fixtureOption.
type fixture struct {
	*renew.Renewer
	ctx    context.Context
	t      *testing.T
	clock  *clock
	store  *memstore.Store
	app    renew.App
	appKey string
	key    *renew.SigningKey
	events *eventLog
}

// fixtureConfig is what a fixture is made from.
type fixtureConfig struct {
	app    func(*renew.App)
	alg    renew.Algorithm
	keys   func(renew.KeyStore) renew.KeyStore
	tokens func(renew.TokenStore) renew.TokenStore
	opts   []renew.Option
}

func newFixture(t *testing.T, opts ...renew.Option) *fixture {
	t.Helper()
	return fixtureConfig{opts: opts}.new(t)
}

func (c fixtureConfig) new(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{ctx: t.Context(), t: t, clock: &clock{now: epoch}, store: memstore.New(), events: &eventLog{}}
	var hash renew.AppKeyHash
	f.appKey, hash = renew.NewAppKey()
	f.app = renew.App{ID: "app_1", Issuer: "issuer_1", KeyHashes: []renew.AppKeyHash{hash}}
	if c.app != nil {
		c.app(&f.app)
	}
	require.NoError(t, f.store.CreateApp(f.ctx, f.app))
	if c.alg == "" {
		c.alg = renew.ES256
	}
	f.key = f.rotateKey(c.alg)
	var keys renew.KeyStore = f.store
	if c.keys != nil {
		keys = c.keys(keys)
	}
	var tokens renew.TokenStore = f.store
	if c.tokens != nil {
		tokens = c.tokens(tokens)
	}
	opts := append([]renew.Option{renew.WithClock(f.clock.Now), renew.WithEventFunc(f.events.add)}, c.opts...)
	r, err := renew.New(keys, tokens, opts...)
	require.NoError(t, err)
	f.Renewer = r
	return f
}

// rotateKey gives the app a new active key.
func (f *fixture) rotateKey(alg renew.Algorithm) *renew.SigningKey {
	f.t.Helper()
	key, err := renew.GenerateSigningKey(alg)
	require.NoError(f.t, err)
	require.NoError(f.t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
	return key
}

func (f *fixture) issueRequest() renew.IssueRequest {
	return renew.IssueRequest{
		AppID: f.app.ID, Subject: "user@example.com", Audience: []string{"web"},
		IP: "198.51.100.7", UserAgent: "login-agent",
		Claims: map[string]any{"role": "admin"},
	}
}

// issue starts a session.
func (f *fixture) issue() *renew.Bundle {
	f.t.Helper()
	b, err := f.Issue(f.ctx, f.issueRequest())
	require.NoError(f.t, err)
	return b
}

func (f *fixture) request(b *renew.Bundle) renew.RenewRequest {
	return renew.RenewRequest{AppID: f.app.ID, RefreshToken: b.RefreshToken, IP: testIP, UserAgent: testAgent}
}

// renew renews with the bundle's refresh token, which must succeed.
func (f *fixture) renew(b *renew.Bundle) *renew.Bundle {
	f.t.Helper()
	next, err := f.Renew(f.ctx, f.request(b))
	require.NoError(f.t, err)
	return next
}

// renewWith renews with an idempotency key.
func (f *fixture) renewWith(b *renew.Bundle, key string) (*renew.Bundle, error) {
	req := f.request(b)
	req.IdempotencyKey = key
	return f.Renew(f.ctx, req)
}

// refused presents the bundle's refresh token and requires that it be refused
// for this reason, as an invalid refresh token and nothing else.
func (f *fixture) refused(b *renew.Bundle, reason renew.Reason) {
	f.t.Helper()
	_, err := f.Renew(f.ctx, f.request(b))
	requireRefused(f.t, err, reason)
}

func requireRefused(t *testing.T, err error, reason renew.Reason) {
	t.Helper()
	require.ErrorIs(t, err, renew.ErrInvalidRefreshToken)
	require.ErrorIs(t, err, renew.ErrInvalidToken)
	var refused *renew.TokenError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, reason, refused.Reason, "%v", err)
}

// requireServerFault requires an error that answers no caller's request.
func requireServerFault(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	for _, sentinel := range []error{
		renew.ErrInvalidToken, renew.ErrInvalidRefreshToken, renew.ErrInvalidAuthToken,
		renew.ErrAppNotFound, renew.ErrInvalidAppKey,
	} {
		require.NotErrorIs(t, err, sentinel)
	}
	var invalid *renew.ValidationError
	require.NotErrorAs(t, err, &invalid)
}

// session reads the bundle's session from the store.
func (f *fixture) session(b *renew.Bundle) renew.Session {
	f.t.Helper()
	s, err := f.store.Session(f.ctx, f.app.ID, b.SessionID)
	require.NoError(f.t, err)
	return s
}

// claims decodes a token's payload, numbers as they stand.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	return decodeSegment(t, token, 1)
}

func decodeSegment(t *testing.T, token string, i int) map[string]any {
	t.Helper()
	segments := strings.Split(token, ".")
	require.Len(t, segments, 3)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(segments[i])
	require.NoError(t, err)
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var members map[string]any
	require.NoError(t, d.Decode(&members))
	return members
}

// eventLog keeps the events of a Renewer.
type eventLog struct {
	mu     sync.Mutex
	events []renew.Event
}

func (l *eventLog) add(_ context.Context, e renew.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// take returns the events since the last take.
func (l *eventLog) take() []renew.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

func (l *eventLog) kinds() []renew.EventKind {
	var kinds []renew.EventKind
	for _, e := range l.take() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}
