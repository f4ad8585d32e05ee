package renew_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/forged"
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
var epoch = forged.Now

const (
	testIP    = "192.0.2.1"
	testAgent = "test-agent/1.0"
	testKey1  = "0123456789abcdef-one" // idempotency keys
	testKey2  = "0123456789abcdef-two"
)

// hookedStore is a memstore that counts the Renewer's calls of its TokenStore
// methods, and lets a test step into them. A hook is called in place of the
// method; do does what the method does.
type hookedStore struct {
	*memstore.Store
	session func(ctx context.Context, do func() (renew.Session, error)) (renew.Session, error)
	rotate  func(ctx context.Context, do func() error) error
	revoke  func(ctx context.Context, do func() error) error

	outlives bool // rotations do not end with their context: a write that outlives its connection

	creates, sessions, rotates, revokes atomic.Int64
}

func (h *hookedStore) CreateSession(ctx context.Context, s renew.Session) error {
	h.creates.Add(1)
	return h.Store.CreateSession(ctx, s)
}

func (h *hookedStore) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	h.sessions.Add(1)
	do := func() (renew.Session, error) { return h.Store.Session(ctx, appID, sessionID) }
	if h.session != nil {
		return h.session(ctx, do)
	}
	return do()
}

func (h *hookedStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	h.rotates.Add(1)
	if h.outlives {
		ctx = context.WithoutCancel(ctx)
	}
	do := func() error { return h.Store.Rotate(ctx, from, next) }
	if h.rotate != nil {
		return h.rotate(ctx, do)
	}
	return do()
}

func (h *hookedStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	h.revokes.Add(1)
	do := func() error { return h.Store.RevokeSession(ctx, appID, sessionID, at) }
	if h.revoke != nil {
		return h.revoke(ctx, do)
	}
	return do()
}

// calls returns the calls of the TokenStore since the last time: how many
// sessions were created, read, rotated and revoked.
func (h *hookedStore) calls() [4]int64 {
	return [4]int64{h.creates.Swap(0), h.sessions.Swap(0), h.rotates.Swap(0), h.revokes.Swap(0)}
}

// fixture is a Renewer on a memstore with one app, app_1, and its own
// clock.
type fixture struct {
	*renew.Renewer
	ctx    context.Context
	t      *testing.T
	clock  *clock
	store  *memstore.Store // past the hooks
	hooks  *hookedStore
	app    renew.App
	appKey string
	key    *renew.SigningKey
	events *eventLog
}

// fixtureConfig is what a fixture is made from.
type fixtureConfig struct {
	app  func(*renew.App)
	alg  renew.Algorithm   // ES256 if empty
	key  *renew.SigningKey // a new one if nil
	keys func(*memstore.Store) renew.KeyStore
	opts []renew.Option
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
	if f.key = c.key; f.key == nil {
		f.key = generate(t, c.alg)
	}
	f.useKey(f.key)
	var keys renew.KeyStore = f.store
	if c.keys != nil {
		keys = c.keys(f.store)
	}
	f.hooks = &hookedStore{Store: f.store}
	opts := append([]renew.Option{renew.WithClock(f.clock.Now), renew.WithEventFunc(f.events.add)}, c.opts...)
	r, err := renew.New(keys, f.hooks, opts...)
	require.NoError(t, err)
	f.Renewer = r
	return f
}

// rotateKey gives the app a new active key.
func (f *fixture) rotateKey(alg renew.Algorithm) *renew.SigningKey {
	f.t.Helper()
	key := generate(f.t, alg)
	f.useKey(key)
	return key
}

// useKey makes key the app's active one.
func (f *fixture) useKey(key *renew.SigningKey) {
	f.t.Helper()
	require.NoError(f.t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
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

// rejected presents the bundle's refresh token and requires that it is rejected
// for this reason, as an invalid refresh token and nothing else.
func (f *fixture) rejected(b *renew.Bundle, reason renew.Reason) {
	f.t.Helper()
	_, err := f.Renew(f.ctx, f.request(b))
	requireRejected(f.t, err, reason)
}

func requireRejected(t *testing.T, err error, reason renew.Reason) {
	t.Helper()
	require.ErrorIs(t, err, renew.ErrInvalidRefreshToken)
	require.ErrorIs(t, err, renew.ErrInvalidToken)
	var rejected *renew.TokenError
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, reason, rejected.Reason, "%v", err)
}

// requireInternal requires an error that says nothing about the caller's request.
func requireInternal(t *testing.T, err error) {
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

// addApp adds another app, with this signing key or a new one.
func (f *fixture) addApp(id, issuer string, key *renew.SigningKey) {
	f.t.Helper()
	if key == nil {
		var err error
		key, err = renew.GenerateSigningKey(renew.ES256)
		require.NoError(f.t, err)
	}
	require.NoError(f.t, f.store.CreateApp(f.ctx, renew.App{ID: id, Issuer: issuer}))
	require.NoError(f.t, f.store.RotateSigningKey(f.ctx, id, key, f.clock.Now()))
}

// requireSamePair requires that two bundles hold the same pair, except for
// signatures and keys.
func requireSamePair(t *testing.T, want, got *renew.Bundle) {
	t.Helper()
	require.Equal(t, claims(t, want.AuthToken), claims(t, got.AuthToken))
	require.Equal(t, claims(t, want.RefreshToken), claims(t, got.RefreshToken))
	plain := func(b renew.Bundle) renew.Bundle {
		b.AuthToken, b.RefreshToken, b.KeyID, b.PublicKey, b.Retried = "", "", "", "", false
		return b
	}
	require.Equal(t, plain(*want), plain(*got))
}

// number is a JSON number as claims decodes it.
func number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

// failTimes is a rotate hook that fails so many times, doing nothing.
func failTimes(n int, err error) func(context.Context, func() error) error {
	return func(_ context.Context, do func() error) error {
		if n--; n >= 0 {
			return err
		}
		return do()
	}
}

// rejectedToken returns the error of a rejected token.
func rejectedToken(t *testing.T) error {
	t.Helper()
	f := newFixture(t)
	_, err := f.VerifyAuthToken(f.ctx, f.app.ID, "x")
	require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
	return err
}

// brokenKeys is a KeyStore whose results are changed on the way out.
type brokenKeys struct {
	renew.KeyStore
	app          func(*renew.App) error
	signing      func(*renew.SigningKey) (*renew.SigningKey, error)
	verification func(*renew.VerificationKey) (*renew.VerificationKey, error)
}

func (b *brokenKeys) App(ctx context.Context, appID string) (renew.App, error) {
	a, err := b.KeyStore.App(ctx, appID)
	if err == nil && b.app != nil {
		err = b.app(&a)
	}
	return a, err
}

func (b *brokenKeys) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	k, err := b.KeyStore.SigningKey(ctx, appID)
	if err == nil && b.signing != nil {
		return b.signing(k)
	}
	return k, err
}

func (b *brokenKeys) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	k, err := b.KeyStore.VerificationKey(ctx, appID, keyID)
	if err == nil && b.verification != nil {
		return b.verification(k)
	}
	return k, err
}

// noChange is a renew func that leaves everything as it is.
func noChange(context.Context, *renew.Renewal) error { return nil }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func generate(t testing.TB, alg renew.Algorithm) *renew.SigningKey {
	t.Helper()
	key, err := renew.GenerateSigningKey(alg)
	require.NoError(t, err)
	return key
}

var errOutage = errors.New("the database is on fire")

// countedKeys is a KeyStore that counts the Renewer's calls.
type countedKeys struct {
	renew.KeyStore
	calls map[string]int
}

func (c *countedKeys) App(ctx context.Context, appID string) (renew.App, error) {
	c.calls["App"]++
	return c.KeyStore.App(ctx, appID)
}

func (c *countedKeys) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	c.calls["SigningKey"]++
	return c.KeyStore.SigningKey(ctx, appID)
}

func (c *countedKeys) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	c.calls["VerificationKey"]++
	return c.KeyStore.VerificationKey(ctx, appID, keyID)
}

// unknownSession returns IDs that no store has, older than all others.
func unknownSession() (sessionID, tokenID string) {
	s := loadCorpus().sessions["own"]
	return s.ID, s.TokenID
}

// bare hides a store's optional interfaces.
type bare struct {
	renew.KeyStore
	renew.TokenStore
}
