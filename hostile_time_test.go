package renew_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

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

// The promise: who cannot sign learns nothing about sessions, not even by the
// clock. A forgery takes the same steps whatever session and token it names.
func TestForgeryTakesTheSameStepsWhateverItNames(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	stranger := generate(t, renew.ES256)
	live, used, revoked := f.issue(), f.issue(), f.issue()
	current := f.renew(used)
	require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, revoked.SessionID))
	unknown := f.session(live)
	unknown.ID, unknown.TokenID = unknownSession()
	for name, s := range map[string]renew.Session{
		"a live session": f.session(live), "a session renewed since": f.session(current), "a revoked session": f.session(revoked), "no session": unknown,
	} {
		t.Run(name, func(t *testing.T) {
			genuine := forge{key: f.key, issuer: f.app.Issuer, session: s}
			req := f.request(live)
			req.RefreshToken = forge{key: stranger}.sign(genuine.header().String(), genuine.claims().String())
			f.hooks.calls()
			keys.calls = map[string]int{}
			_, err := f.Renew(f.ctx, req)
			requireRejected(t, err, renew.ReasonSignature)
			require.Equal(t, [4]int64{}, f.hooks.calls())
			require.Equal(t, map[string]int{"App": 1, "VerificationKey": 1}, keys.calls)
		})
	}
}

// The promise: an unknown app and a wrong app key take the same steps.
func TestWrongAppKeyTakesTheStepsOfAnUnknownApp(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	for _, c := range []struct {
		appID, appKey string
		want          error
	}{
		{"app_1", "wrong", renew.ErrInvalidAppKey},
		{"app_1", "", renew.ErrInvalidAppKey},
		{"app_1", f.appKey[:42] + "!", renew.ErrInvalidAppKey},
		{"app_1", "!" + f.appKey[1:], renew.ErrInvalidAppKey},
		{"app_2", f.appKey, renew.ErrAppNotFound},
	} {
		keys.calls = map[string]int{}
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, c.appID, c.appKey), c.want)
		require.Equal(t, map[string]int{"App": 1}, keys.calls)
	}
}

// BenchmarkRefusal measures what the clock tells about a refused token, and the
// store call beside it: a forger's three forgeries should cost the same, and a
// genuine token of an unknown session what one of a known session costs.
func BenchmarkRefusal(b *testing.B) {
	now := epoch
	store := memstore.New()
	require.NoError(b, store.CreateApp(b.Context(), renew.App{ID: "app_1", Issuer: "issuer_1"}))
	key, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(b, err)
	require.NoError(b, store.RotateSigningKey(b.Context(), "app_1", key, now))
	r, err := renew.New(store, store, renew.WithClock(func() time.Time { return now }), renew.WithReuseRevocation(false))
	require.NoError(b, err)
	issue := func() renew.Session {
		bundle, err := r.Issue(b.Context(), renew.IssueRequest{AppID: "app_1", Subject: "user", IP: testIP, UserAgent: testAgent})
		require.NoError(b, err)
		s, err := store.Session(b.Context(), "app_1", bundle.SessionID)
		require.NoError(b, err)
		return s
	}
	for range 10_000 {
		issue()
	}
	live, revoked := issue(), issue()
	require.NoError(b, r.RevokeSession(b.Context(), "app_1", revoked.ID))
	unknown, used := live, live
	unknown.ID, unknown.TokenID = unknownSession()
	_, used.TokenID = unknownSession()
	stranger, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(b, err)
	token := func(by *renew.SigningKey, s renew.Session) string {
		genuine := forge{key: key, issuer: "issuer_1", session: s}
		return forge{key: by}.sign(genuine.header().String(), genuine.claims().String())
	}
	for _, c := range []struct {
		name, token string
		reason      renew.Reason
	}{
		{"forged/live-session", token(stranger, live), renew.ReasonSignature},
		{"forged/revoked-session", token(stranger, revoked), renew.ReasonSignature},
		{"forged/unknown-session", token(stranger, unknown), renew.ReasonSignature},
		{"genuine/unknown-session", token(key, unknown), renew.ReasonUnknownSession},
		{"genuine/used-token", token(key, used), renew.ReasonSuperseded},
		{"genuine/revoked-session", token(key, revoked), renew.ReasonRevokedSession},
	} {
		b.Run(c.name, func(b *testing.B) {
			req := renew.RenewRequest{AppID: "app_1", RefreshToken: c.token, IP: testIP, UserAgent: testAgent}
			for b.Loop() {
				if _, err := r.Renew(b.Context(), req); err == nil {
					b.Fatal("renewed")
				}
			}
		})
	}
	for name, id := range map[string]string{"store/known-session": live.ID, "store/unknown-session": unknown.ID} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = store.Session(b.Context(), "app_1", id)
			}
		})
	}
}

// BenchmarkAuthenticateApp measures what the clock tells about an app key.
func BenchmarkAuthenticateApp(b *testing.B) {
	store := memstore.New()
	good, hash := renew.NewAppKey()
	require.NoError(b, store.CreateApp(b.Context(), renew.App{ID: "app_1", Issuer: "issuer_1", KeyHashes: []renew.AppKeyHash{hash}}))
	r, err := renew.New(store, store)
	require.NoError(b, err)
	for _, c := range []struct{ name, appID, key string }{
		{"right", "app_1", good},
		{"wrong-in-the-first-character", "app_1", "!" + good[1:]},
		{"wrong-in-the-last-character", "app_1", good[:42] + "!"},
		{"wrong-altogether", "app_1", strings.Repeat("0", len(good))},
		{"unknown-app", "app_2", good},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				_ = r.AuthenticateApp(b.Context(), c.appID, c.key)
			}
		})
	}
}
