package renew_test

import (
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

func TestRenewalGivesANewPairOfTheSameSession(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) {
		a.AuthTTL, a.AuthNotBefore = 10*time.Minute, 5*time.Second
		a.RefreshTTL, a.RefreshNotBefore = 2*time.Hour, time.Minute
	}}.new(t)
	first := f.issue()
	f.clock.Move(90 * time.Minute)
	second := f.renew(first)
	now := f.clock.Now().Unix()

	auth, refresh := claims(t, second.AuthToken), claims(t, second.RefreshToken)
	require.Equal(t, map[string]any{
		"iss": "issuer_1", "sub": "user@example.com", "aud": "web", "role": "admin",
		"ip": testIP, "useragent": testAgent, "jid": second.TokenID, "sid": first.SessionID,
		"iat": number(now), "nbf": number(now + 5), "exp": number(now + 600),
	}, auth)
	require.Equal(t, map[string]any{
		"iss": "issuer_1", "type": "refresh", "jid": second.TokenID, "sid": first.SessionID,
		"iat": number(now), "nbf": number(now + 60), "exp": number(now + 7200),
	}, refresh)
	for _, token := range []string{second.AuthToken, second.RefreshToken} {
		require.Equal(t, map[string]any{"alg": "ES256", "kid": second.KeyID, "typ": "JWT"}, decodeSegment(t, token, 0))
	}
	require.Greater(t, second.TokenID, first.TokenID)
	require.Equal(t, first.SessionID, second.SessionID)
	require.Equal(t, time.Unix(now+600, 0).UTC(), second.AuthExpiresAt)
	require.Equal(t, time.Unix(now+60, 0).UTC(), second.RefreshNotBefore)
	require.Equal(t, time.Unix(now+7200, 0).UTC(), second.RefreshExpiresAt)
	require.False(t, second.Retried)

	s := f.session(second)
	require.Equal(t, int64(1), s.Generation)
	require.Equal(t, second.TokenID, s.TokenID)
	require.Equal(t, first.TokenID, s.PreviousTokenID)
	require.Equal(t, f.clock.Now(), s.IssuedAt)
	require.Equal(t, testIP, s.IP)
	require.Equal(t, testAgent, s.UserAgent)
	require.Equal(t, epoch, s.CreatedAt)
}

func TestRenewalCostsOneReadAndOneConditionalWrite(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	require.Equal(t, [4]int64{1, 0, 0, 0}, f.hooks.calls())
	f.renew(b)
	require.Equal(t, [4]int64{0, 1, 1, 0}, f.hooks.calls())
}

func TestRefreshTokenIsValidFromNbfUntilExp(t *testing.T) {
	config := fixtureConfig{app: func(a *renew.App) { a.RefreshNotBefore = time.Minute }}
	leeway := config
	leeway.opts = []renew.Option{renew.WithLeeway(5 * time.Second)}
	start := epoch.Truncate(time.Second)
	nbf, exp := start.Add(time.Minute), start.Add(renew.DefaultRefreshTTL)
	for _, c := range []struct {
		name   string
		config fixtureConfig
		at     time.Time
		reason renew.Reason
	}{
		{"a millisecond before nbf", config, nbf.Add(-time.Millisecond), renew.ReasonTooEarly},
		{"at nbf", config, nbf, ""},
		{"a millisecond before exp", config, exp.Add(-time.Millisecond), ""},
		{"at exp", config, exp, renew.ReasonExpired},
		{"before nbf and its leeway", leeway, nbf.Add(-5*time.Second - time.Millisecond), renew.ReasonTooEarly},
		{"at nbf less leeway", leeway, nbf.Add(-5 * time.Second), ""},
		{"a millisecond before exp and leeway", leeway, exp.Add(5*time.Second - time.Millisecond), ""},
		{"at exp and leeway", leeway, exp.Add(5 * time.Second), renew.ReasonExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.config.new(t)
			b := f.issue()
			f.clock.Move(c.at.Sub(f.clock.Now()))
			if c.reason == "" {
				f.renew(b)
				return
			}
			f.rejected(b, c.reason)
			require.True(t, f.session(b).RevokedAt.IsZero(), "a rejection for its time must revoke nothing")
		})
	}
}

func TestTooEarlyTokenWritesNothing(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) { a.RefreshNotBefore = time.Minute }}.new(t)
	b := f.issue()
	f.hooks.calls()
	f.rejected(b, renew.ReasonTooEarly)
	require.Equal(t, [4]int64{0, 1, 0, 0}, f.hooks.calls())
}

func TestSessionMustBeAlive(t *testing.T) {
	t.Run("unknown", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		n, err := f.store.DeleteExpired(f.ctx, epoch.Add(24*time.Hour), 10)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		f.rejected(b, renew.ReasonUnknownSession)
	})
	t.Run("revoked", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, b.SessionID))
		f.rejected(b, renew.ReasonRevokedSession)
	})
	t.Run("past its absolute end", func(t *testing.T) {
		// A leeway makes the token valid beyond EndsAt; the session is over.
		f := fixtureConfig{
			app:  func(a *renew.App) { a.SessionTTL = time.Hour },
			opts: []renew.Option{renew.WithLeeway(time.Minute)},
		}.new(t)
		b := f.issue()
		f.clock.Move(f.session(b).EndsAt.Sub(f.clock.Now()))
		f.rejected(b, renew.ReasonEndedSession)
	})
}

func TestAbsoluteEndCapsBothTokens(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) { a.SessionTTL = 4 * time.Hour }}.new(t)
	b := f.issue()
	end := epoch.Truncate(time.Second).Add(4 * time.Hour)
	require.Equal(t, end, f.session(b).EndsAt)
	f.clock.Move(2 * time.Hour)
	b = f.renew(b)
	require.Equal(t, end, b.RefreshExpiresAt)
	require.Equal(t, number(end.Unix()), claims(t, b.RefreshToken)["exp"])
	f.clock.Move(90 * time.Minute)
	b = f.renew(b)
	require.Equal(t, end, b.AuthExpiresAt)
	require.Equal(t, number(end.Unix()), claims(t, b.AuthToken)["exp"])
	require.Equal(t, end, f.session(b).EndsAt)
	f.clock.Move(30 * time.Minute)
	f.rejected(b, renew.ReasonEndedSession)
}

func TestTokenIDsIncreaseThoughTheClockStepsBack(t *testing.T) {
	f := newFixture(t, renew.WithLeeway(time.Minute))
	b := f.issue()
	for range 20 {
		f.clock.Move(-time.Second)
		next := f.renew(b)
		require.Greater(t, next.TokenID, b.TokenID)
		b = next
	}
}

func TestTokensOfAnotherKind(t *testing.T) {
	t.Run("an auth token is rejected", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		req := f.request(b)
		req.RefreshToken = b.AuthToken
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonType)
		f.renew(b)
	})
	t.Run("another app's token is rejected", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.addApp("app_2", "issuer_2", nil)
		req := f.request(b)
		req.AppID = "app_2"
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonUnknownKey)
		f.renew(b)
	})
	t.Run("another app's token is rejected though the apps share a key", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.addApp("app_2", "issuer_2", f.key)
		req := f.request(b)
		req.AppID = "app_2"
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonIssuer)
		f.renew(b)
	})
	t.Run("the auth token's age does not matter", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.clock.Move(2 * time.Hour)
		_, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
		f.renew(b)
	})
}

// Exactly one successor: 1,000 goroutines present each of 200 tokens at once.
// There are 20 by default: see internal/rounds.
func TestThousandPresentersOfOneToken(t *testing.T) {
	const presenters = 1000
	sessions := rounds.Of(t, 20)
	for _, c := range []struct {
		name string
		opts []renew.Option
		key  string
		all  bool // every presenter gets the pair
	}{
		{name: "strictly single use"},
		{name: "a retry window", opts: []renew.Option{renew.WithRetryWindow(1)}, all: true},
		{name: "one idempotency key", key: testKey1, all: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.opts...)
			for range sessions {
				first := f.issue()
				results := present(f, first, c.key, presenters)
				winners, successor := 0, ""
				for _, a := range results {
					if a.err != nil {
						requireRejected(t, a.err, renew.ReasonSuperseded)
						continue
					}
					if !a.bundle.Retried {
						winners++
					}
					if successor == "" {
						successor = a.bundle.TokenID
					}
					require.Equal(t, successor, a.bundle.TokenID)
					require.True(t, c.all || !a.bundle.Retried)
				}
				require.Equal(t, 1, winners)
				s := f.session(first)
				require.Equal(t, successor, s.TokenID)
				require.Equal(t, int64(1), s.Generation)
				require.True(t, s.RevokedAt.IsZero())
				for _, a := range results {
					if c.all {
						require.NoError(t, a.err)
					}
					if a.bundle != nil {
						f.renew(a.bundle)
						break
					}
				}
			}
		})
	}
}

type result struct {
	bundle *renew.Bundle
	err    error
}

// present has so many goroutines present the bundle's refresh token at once.
func present(f *fixture, b *renew.Bundle, key string, n int) []result {
	results := make([]result, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			<-start
			results[i].bundle, results[i].err = f.renewWith(b, key)
		})
	}
	close(start)
	all.Wait()
	return results
}

// The promise: a session whose token ID is the greatest that there is has no
// successor, and is not rotated to itself.
func TestGreatestTokenIDHasNoSuccessor(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := f.forge(b)
	made.session.TokenID = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
	require.NoError(t, f.store.Rotate(f.ctx, b.TokenID, made.session))
	req := f.request(b)
	req.RefreshToken = made.withPayload(made.claims().String())
	_, err := f.Renew(f.ctx, req)
	requireInternal(t, err)
	require.Zero(t, f.hooks.rotates.Load())
	require.Equal(t, made.session.TokenID, f.session(b).TokenID)
}

// What a session keeps of an idempotency key is its hash, and nothing of none.
func TestSessionKeepsOnlyAHashOfTheIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	require.Nil(t, f.session(first).IdempotencyKeyHash)
	second, err := f.renewWith(first, testKey1)
	require.NoError(t, err)
	hash := sha256.Sum256([]byte(testKey1))
	require.Equal(t, hash[:], f.session(first).IdempotencyKeyHash)
	f.renew(second)
	require.Nil(t, f.session(first).IdempotencyKeyHash)
}
