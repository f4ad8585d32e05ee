package renew_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

var errOutage = errors.New("the database is on fire")

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

func TestRefreshTokenIsGoodFromNbfUntilExp(t *testing.T) {
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
			require.True(t, f.session(b).RevokedAt.IsZero(), "a refusal for its time must revoke nothing")
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
		// A leeway makes the token good beyond EndsAt; the session is over.
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

func TestUsedTokenWithinTheReuseLeewayIsRefusedOnly(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   time.Duration
		reason  renew.Reason
		opts    []renew.Option
		revoked bool
	}{
		{name: "at once", after: 0, reason: renew.ReasonSuperseded},
		{name: "at the leeway's end", after: renew.DefaultReuseLeeway, reason: renew.ReasonSuperseded},
		{name: "past it", after: renew.DefaultReuseLeeway + time.Millisecond, reason: renew.ReasonReused, revoked: true},
		{name: "a clock that went back", after: -300 * time.Millisecond, reason: renew.ReasonSuperseded},
		{
			name: "a leeway of its own", after: time.Minute, reason: renew.ReasonSuperseded,
			opts: []renew.Option{renew.WithReuseLeeway(time.Minute)},
		},
		{
			name: "no leeway, at once", after: 0, reason: renew.ReasonReused, revoked: true,
			opts: []renew.Option{renew.WithReuseLeeway(0)},
		},
		{
			name: "revocation turned off", after: time.Minute, reason: renew.ReasonReused,
			opts: []renew.Option{renew.WithReuseRevocation(false)},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.opts...)
			first, other := f.issue(), f.issue()
			f.clock.Move(time.Minute)
			second := f.renew(first)
			f.clock.Move(c.after)
			f.rejected(first, c.reason)
			require.Equal(t, c.revoked, !f.session(second).RevokedAt.IsZero())
			if c.revoked {
				f.rejected(second, renew.ReasonRevokedSession)
			} else {
				f.renew(second)
			}
			f.renew(other)
		})
	}
}

func TestReuseOfAnyEarlierTokenEndsTheSession(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	third := f.renew(f.renew(first))
	f.clock.Move(time.Minute)
	f.rejected(first, renew.ReasonReused)
	require.Equal(t, f.clock.Now(), f.session(third).RevokedAt)
}

// The promise: an overnight theft is noticed. The thief has renewed, and the owner
// comes back when the used copy has expired.
func TestReuseOfAnExpiredTokenEndsTheSession(t *testing.T) {
	for name, renewals := range map[string]int{"the predecessor": 1, "an older one": 3} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			first := f.issue()
			latest := first
			for range renewals {
				f.clock.Move(time.Hour / 2)
				latest = f.renew(latest)
			}
			f.clock.Move(first.RefreshExpiresAt.Sub(f.clock.Now()))
			f.rejected(first, renew.ReasonReused)
			f.rejected(latest, renew.ReasonRevokedSession)
		})
	}
}

func TestExpiredTokenThatWasNotUsedRevokesNothing(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	f.clock.Move(renew.DefaultRefreshTTL)
	f.rejected(first, renew.ReasonExpired)
	require.True(t, f.session(first).RevokedAt.IsZero())
}

func TestRevocationForReuse(t *testing.T) {
	used := func(t *testing.T) (*fixture, *renew.Bundle) {
		f := newFixture(t)
		first := f.issue()
		f.renew(first)
		f.clock.Move(time.Minute)
		return f, first
	}
	t.Run("happens though the client hangs up", func(t *testing.T) {
		f, first := used(t)
		ctx, hangUp := context.WithCancel(f.ctx)
		f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
			defer hangUp()
			return do()
		}
		_, err := f.Renew(ctx, f.request(first))
		requireRejected(t, err, renew.ReasonReused)
		require.False(t, f.session(first).RevokedAt.IsZero())
	})
	t.Run("that fails is the server's fault, and reported", func(t *testing.T) {
		f, first := used(t)
		f.hooks.revoke = func(context.Context, func() error) error { return errOutage }
		f.events.take()
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		require.Equal(t, []renew.EventKind{renew.EventReused}, f.events.kinds())
	})
	t.Run("of a session deleted meanwhile is a refusal", func(t *testing.T) {
		f, first := used(t)
		f.hooks.revoke = func(context.Context, func() error) error { return renew.ErrSessionNotFound }
		f.rejected(first, renew.ReasonReused)
	})
}

func TestRetryInsideTheWindow(t *testing.T) {
	const window = 30 * time.Second
	setUp := func(t *testing.T) (f *fixture, first, second *renew.Bundle) {
		f = newFixture(t, renew.WithRetryWindow(window))
		first = f.issue()
		f.clock.Move(time.Minute)
		second = f.renew(first)
		f.hooks.calls()
		return f, first, second
	}
	t.Run("gives the same successor, and confirms it with one write", func(t *testing.T) {
		f, first, second := setUp(t)
		before := f.session(first)
		f.clock.Move(window)
		req := f.request(first)
		req.IP, req.UserAgent = "203.0.113.9", "another-agent"
		again, err := f.Renew(f.ctx, req)
		require.NoError(t, err)
		require.True(t, again.Retried)
		requireSamePair(t, second, again)
		require.Equal(t, before, f.session(first))
		require.Equal(t, [4]int64{0, 1, 1, 0}, f.hooks.calls())
		f.renew(again)
	})
	t.Run("does not make the window slide", func(t *testing.T) {
		f, first, _ := setUp(t)
		f.clock.Move(window)
		f.renew(first)
		f.clock.Move(time.Millisecond)
		f.rejected(first, renew.ReasonReused)
	})
	t.Run("counts a negative age as none", func(t *testing.T) {
		f, first, second := setUp(t)
		f.clock.Move(-30 * time.Second)
		requireSamePair(t, second, f.renew(first))
	})
	t.Run("is signed with the key of today", func(t *testing.T) {
		f, first, second := setUp(t)
		key := f.rotateKey(renew.EdDSA)
		again := f.renew(first)
		requireSamePair(t, second, again)
		require.Equal(t, key.VerificationKey().KeyID(), again.KeyID)
		require.NotEqual(t, second.KeyID, again.KeyID)
		f.renew(again)
	})
	t.Run("is none once the successor was used", func(t *testing.T) {
		f, first, second := setUp(t)
		third := f.renew(second)
		f.rejected(first, renew.ReasonReused)
		f.rejected(third, renew.ReasonRevokedSession)
	})
	t.Run("is none of a revoked session", func(t *testing.T) {
		f, first, second := setUp(t)
		require.NoError(t, f.Revoke(f.ctx, f.app.ID, second.AuthToken))
		f.rejected(first, renew.ReasonRevokedSession)
	})
}

func TestRetryByIdempotencyKey(t *testing.T) {
	setUp := func(t *testing.T) (f *fixture, first, second *renew.Bundle) {
		f = newFixture(t)
		first = f.issue()
		f.clock.Move(2 * time.Hour)
		second, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		return f, first, second
	}
	t.Run("gives the same successor long after any window", func(t *testing.T) {
		f, first, second := setUp(t)
		f.clock.Move(59 * time.Minute)
		again, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		require.True(t, again.Retried)
		requireSamePair(t, second, again)
		f.renew(again)
	})
	t.Run("gives it though the presented token has expired since", func(t *testing.T) {
		f, first, second := setUp(t)
		f.clock.Move(2 * time.Hour)
		again, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		requireSamePair(t, second, again)
	})
	t.Run("ends when the successor expires", func(t *testing.T) {
		f, first, second := setUp(t)
		f.clock.Move(second.RefreshExpiresAt.Sub(f.clock.Now()) - time.Millisecond)
		_, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		f.clock.Move(time.Millisecond)
		_, err = f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonExpired)
		require.True(t, f.session(first).RevokedAt.IsZero())
	})
	t.Run("lives as long as the leeway lets the successor", func(t *testing.T) {
		f := newFixture(t, renew.WithLeeway(time.Minute))
		first := f.issue()
		second, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		f.clock.Move(second.RefreshExpiresAt.Sub(f.clock.Now()) + time.Minute - time.Millisecond)
		_, err = f.renewWith(first, testKey1)
		require.NoError(t, err)
		f.clock.Move(time.Millisecond)
		_, err = f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonExpired)
	})
	t.Run("needs that very key", func(t *testing.T) {
		f, first, _ := setUp(t)
		f.clock.Move(time.Minute)
		_, err := f.renewWith(first, testKey2)
		requireRejected(t, err, renew.ReasonReused)
		require.False(t, f.session(first).RevokedAt.IsZero())
	})
	t.Run("needs a key", func(t *testing.T) {
		f, first, _ := setUp(t)
		f.clock.Move(time.Minute)
		f.rejected(first, renew.ReasonReused)
	})
	t.Run("is none of a renewal that was made without", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.renew(first)
		f.clock.Move(time.Minute)
		_, err := f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonReused)
	})
	t.Run("is none once the successor was used, with whatever key", func(t *testing.T) {
		f, first, second := setUp(t)
		_, err := f.renewWith(second, testKey2)
		require.NoError(t, err)
		_, err = f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonReused)
	})
	t.Run("is none of a revoked session", func(t *testing.T) {
		f, first, _ := setUp(t)
		require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, first.SessionID))
		_, err := f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonRevokedSession)
	})
	t.Run("stores the key as a hash only", func(t *testing.T) {
		f, first, _ := setUp(t)
		s := f.session(first)
		require.Len(t, s.IdempotencyKeyHash, 32)
		require.NotContains(t, string(s.IdempotencyKeyHash), testKey1)
	})
}

func TestTokenAheadOfTheStore(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	backup := f.session(first)
	second := f.renew(first)
	f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
		return backup, nil
	}
	f.events.take()
	f.clock.Move(time.Minute)
	_, err := f.Renew(f.ctx, f.request(second))
	requireInternal(t, err)
	require.ErrorIs(t, err, renew.ErrAhead)
	var at *renew.SessionError
	require.ErrorAs(t, err, &at)
	require.Equal(t, renew.SessionError{AppID: f.app.ID, SessionID: first.SessionID, TokenID: second.TokenID, Err: renew.ErrAhead}, *at)
	require.Equal(t, []renew.EventKind{renew.EventAhead}, f.events.kinds())
	f.hooks.session = nil
	f.renew(second)
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

func TestConflict(t *testing.T) {
	t.Run("that leaves the token current is settled by a second attempt", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.calls()
		f.hooks.rotate = failTimes(1, renew.ErrConflict)
		second := f.renew(first)
		require.False(t, second.Retried)
		require.Equal(t, second.TokenID, f.session(first).TokenID)
		require.Equal(t, [4]int64{0, 3, 2, 0}, f.hooks.calls())
	})
	t.Run("twice is the server's fault, and the token stays good", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.rotate = failTimes(2, renew.ErrConflict)
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		f.renew(first)
	})
	// A renewal of the same token comes in between the read and the rotation.
	overtaken := func(f *fixture, first *renew.Bundle, key string) (second *renew.Bundle) {
		second = new(renew.Bundle)
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			f.hooks.rotate = nil
			b, err := f.renewWith(first, key)
			require.NoError(f.t, err)
			*second = *b
			return do()
		}
		return second
	}
	t.Run("with another renewal is judged again", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		second := overtaken(f, first, "")
		f.rejected(first, renew.ReasonSuperseded)
		f.renew(second)
	})
	t.Run("with another renewal inside the window is a retry", func(t *testing.T) {
		f := newFixture(t, renew.WithRetryWindow(time.Second))
		first := f.issue()
		second := overtaken(f, first, "")
		again := f.renew(first)
		require.True(t, again.Retried)
		requireSamePair(t, second, again)
	})
	t.Run("with a renewal under the same idempotency key is a retry", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		second := overtaken(f, first, testKey1)
		again, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		requireSamePair(t, second, again)
	})
	t.Run("with a revocation is a refusal", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, first.SessionID))
			return do()
		}
		f.rejected(first, renew.ReasonRevokedSession)
	})
	t.Run("with a deletion is a refusal", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			_, err := f.store.DeleteExpired(f.ctx, epoch.Add(24*time.Hour), 1)
			require.NoError(t, err)
			return do()
		}
		f.rejected(first, renew.ReasonUnknownSession)
	})
}

func TestUnclearRotation(t *testing.T) {
	t.Run("that happened is confirmed", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.calls()
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			f.hooks.rotate = nil
			require.NoError(t, do())
			return errOutage
		}
		f.events.take()
		second := f.renew(first)
		require.Equal(t, second.TokenID, f.session(first).TokenID)
		require.Equal(t, [4]int64{0, 2, 2, 0}, f.hooks.calls())
		require.Equal(t, []renew.EventKind{renew.EventRenewed}, f.events.kinds())
		f.renew(second)
	})
	t.Run("that did not happen is repeated once", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.calls()
		f.hooks.rotate = failTimes(1, errOutage)
		f.renew(first)
		require.Equal(t, [4]int64{0, 2, 2, 0}, f.hooks.calls())
	})
	t.Run("that does not happen twice is an internal error, and the token stays valid", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.events.take()
		f.hooks.rotate = failTimes(2, errOutage)
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		require.Empty(t, f.events.take())
		f.renew(first)
	})
	t.Run("that cannot be cleared up is the server's fault", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		errRead := errors.New("still on fire")
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
				return renew.Session{}, errRead
			}
			require.NoError(t, do())
			return errOutage
		}
		_, err := f.renewWith(first, testKey1)
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		require.ErrorIs(t, err, errRead)
		f.hooks.session, f.hooks.rotate = nil, nil
		again, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		require.True(t, again.Retried)
	})
}

func TestStoreFailures(t *testing.T) {
	t.Run("a read that fails is the server's fault, and the token stays good", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
			return renew.Session{}, errOutage
		}
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		f.hooks.session = nil
		f.renew(first)
	})
	t.Run("a store that mixes sessions up is not believed", func(t *testing.T) {
		for name, mix := range map[string]func(*renew.Session){
			"ID":  func(s *renew.Session) { s.ID = s.TokenID },
			"app": func(s *renew.Session) { s.AppID = "app_2" },
		} {
			t.Run(name, func(t *testing.T) {
				f := newFixture(t)
				first := f.issue()
				f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
					s, err := do()
					mix(&s)
					return s, err
				}
				_, err := f.Renew(f.ctx, f.request(first))
				requireInternal(t, err)
			})
		}
	})
	t.Run("a session that cannot be stored is not issued", func(t *testing.T) {
		f := newFixture(t)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		b, err := f.Issue(ctx, f.issueRequest())
		requireInternal(t, err)
		require.Nil(t, b)
		sessions, err := f.Sessions(f.ctx, f.app.ID, f.issueRequest().Subject)
		require.NoError(t, err)
		require.Empty(t, sessions)
	})
}

func TestKeyStoreFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		keys brokenKeys
	}{
		{"the app cannot be read", brokenKeys{app: func(a *renew.App) error { return errOutage }}},
		{"another app is returned", brokenKeys{app: func(a *renew.App) error { a.ID = "app_2"; return nil }}},
		{"the app makes no sense", brokenKeys{app: func(a *renew.App) error { a.RefreshTTL = -time.Second; return nil }}},
		{"the leeway reaches the auth token's life", brokenKeys{app: func(a *renew.App) error { a.AuthTTL = time.Minute; return nil }}},
		{"the leeway reaches the refresh token's life", brokenKeys{app: func(a *renew.App) error { a.RefreshTTL = time.Minute; return nil }}},
		{"the key cannot be read", brokenKeys{verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) { return nil, errOutage }}},
		{"no key is returned", brokenKeys{verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) { return nil, nil }}},
		{"another key is returned", brokenKeys{verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) {
			other, err := renew.GenerateSigningKey(renew.ES256)
			return other.VerificationKey(), err
		}}},
		{"the signing key cannot be read", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return nil, errOutage }}},
		{"there is no signing key", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return nil, renew.ErrKeyNotFound }}},
		{"no signing key is returned", brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) { return nil, nil }}},
	} {
		t.Run(c.name+": the server's fault, and the token stays good", func(t *testing.T) {
			keys := &brokenKeys{}
			f := fixtureConfig{
				keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys },
				opts: []renew.Option{renew.WithLeeway(time.Minute)},
			}.new(t)
			first := f.issue()
			keys.app, keys.signing, keys.verification = c.keys.app, c.keys.signing, c.keys.verification
			_, err := f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			*keys = brokenKeys{KeyStore: f.store}
			f.renew(first)
		})
	}
}

func TestKeysOverTime(t *testing.T) {
	t.Run("a replaced key still verifies", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		key := f.rotateKey(renew.RS256)
		second := f.renew(first)
		require.Equal(t, key.VerificationKey().KeyID(), second.KeyID)
		require.Equal(t, key.VerificationKey().PublicKey(), second.PublicKey)
		f.renew(second)
	})
	t.Run("a revoked key ends what it signed, and no session", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.rotateKey(renew.ES256)
		require.NoError(t, f.store.RevokeKey(f.ctx, f.app.ID, f.key.VerificationKey().KeyID(), f.clock.Now()))
		f.hooks.calls()
		f.rejected(first, renew.ReasonRevokedKey)
		require.Equal(t, [4]int64{}, f.hooks.calls())
		require.True(t, f.session(first).RevokedAt.IsZero())
		f.renew(f.issue())
	})
	t.Run("a deleted key is unknown", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.rotateKey(renew.ES256)
		n, err := f.store.DeleteExpiredKeys(f.ctx, epoch.Add(24*time.Hour))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		f.rejected(first, renew.ReasonUnknownKey)
	})
}

func TestTokensOfAnotherKind(t *testing.T) {
	t.Run("an auth token renews nothing", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		req := f.request(b)
		req.RefreshToken = b.AuthToken
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonType)
		f.renew(b)
	})
	t.Run("another app's token renews nothing", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.addApp("app_2", "issuer_2", nil)
		req := f.request(b)
		req.AppID = "app_2"
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonUnknownKey)
		f.renew(b)
	})
	t.Run("another app's token renews nothing though the apps share a key", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.addApp("app_2", "issuer_2", f.key)
		req := f.request(b)
		req.AppID = "app_2"
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonIssuer)
		f.renew(b)
	})
	t.Run("the auth token's age is no matter", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.clock.Move(2 * time.Hour)
		_, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
		f.renew(b)
	})
}

func TestRenewFunc(t *testing.T) {
	var decide func(rn *renew.Renewal) error
	setUp := func(t *testing.T) (*fixture, *renew.Bundle) {
		decide = func(*renew.Renewal) error { return nil }
		f := newFixture(t, renew.WithRetryWindow(time.Minute), renew.WithRenewFunc(
			func(_ context.Context, rn *renew.Renewal) error { return decide(rn) },
		))
		return f, f.issue()
	}
	t.Run("sees the renewal, and can change nothing but the claims", func(t *testing.T) {
		f, first := setUp(t)
		before := f.session(first)
		var got renew.Renewal
		decide = func(rn *renew.Renewal) error {
			got = *rn
			got.Session = rn.Session.Clone()
			rn.App.KeyHashes[0] = renew.AppKeyHash{}
			rn.App.Issuer = "changed"
			rn.Session.Audience[0] = "changed"
			rn.Session.Subject = "changed"
			rn.Request.IP = "203.0.113.5"
			return nil
		}
		second := f.renew(first)
		require.Equal(t, f.app.ID, got.App.ID)
		require.Equal(t, before, got.Session)
		require.Equal(t, f.request(first), got.Request)
		require.False(t, got.Retry)
		require.Equal(t, map[string]any{"role": "admin"}, got.Claims)
		auth := claims(t, second.AuthToken)
		require.Equal(t, []any{"web", "user@example.com", "issuer_1", testIP}, []any{auth["aud"], auth["sub"], auth["iss"], auth["ip"]})
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
	})
	t.Run("changes the claims for good", func(t *testing.T) {
		f, first := setUp(t)
		decide = func(rn *renew.Renewal) error {
			rn.Claims["role"] = "user"
			rn.Claims["level"] = 3
			return nil
		}
		second := f.renew(first)
		require.Equal(t, "user", claims(t, second.AuthToken)["role"])
		decide = func(*renew.Renewal) error { return nil }
		third := f.renew(second)
		require.Equal(t, "user", claims(t, third.AuthToken)["role"])
		require.Equal(t, number(3), claims(t, third.AuthToken)["level"])
	})
	t.Run("removes all claims", func(t *testing.T) {
		f, first := setUp(t)
		decide = func(rn *renew.Renewal) error { clear(rn.Claims); return nil }
		require.NotContains(t, claims(t, f.renew(first).AuthToken), "role")
		require.Nil(t, f.session(first).Claims)
	})
	t.Run("refuses, and the token stays good", func(t *testing.T) {
		f, first := setUp(t)
		banned := errors.New("account is banned")
		decide = func(*renew.Renewal) error { return errors.Join(banned, renew.ErrDenied) }
		_, err := f.Renew(f.ctx, f.request(first))
		requireRejected(t, err, renew.ReasonDenied)
		require.ErrorIs(t, err, renew.ErrDenied)
		require.ErrorIs(t, err, banned)
		decide = func(*renew.Renewal) error { return nil }
		f.renew(first)
	})
	for name, cause := range map[string]error{
		"with an error of its own":          errOutage,
		"with an error that looks like one": renew.ErrInvalidRefreshToken,
		"with a refused token":              refusedToken(t),
		"with a missing app":                renew.ErrAppNotFound,
		"with a wrong request":              &renew.ValidationError{Fields: []renew.FieldError{{Field: "x", Message: "y"}}},
	} {
		t.Run("fails "+name+": the server's fault, and the token stays good", func(t *testing.T) {
			f, first := setUp(t)
			decide = func(*renew.Renewal) error { return cause }
			_, err := f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			require.Equal(t, errors.Is(cause, errOutage), errors.Is(err, errOutage))
			decide = func(*renew.Renewal) error { return nil }
			f.renew(first)
		})
	}
	t.Run("sets a claim that cannot be: the server's fault, and the token stays good", func(t *testing.T) {
		f, first := setUp(t)
		decide = func(rn *renew.Renewal) error { rn.Claims["iss"] = "me"; return nil }
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		decide = func(*renew.Renewal) error { return nil }
		f.renew(first)
	})
	t.Run("sees a retry, and its changes are dropped", func(t *testing.T) {
		f, first := setUp(t)
		second := f.renew(first)
		var retry bool
		decide = func(rn *renew.Renewal) error { retry = rn.Retry; rn.Claims["iss"] = "me"; return nil }
		requireSamePair(t, second, f.renew(first))
		require.True(t, retry)
	})
	t.Run("refuses a retry, and the successor stays good", func(t *testing.T) {
		f, first := setUp(t)
		second := f.renew(first)
		decide = func(*renew.Renewal) error { return renew.ErrDenied }
		f.rejected(first, renew.ReasonDenied)
		decide = func(*renew.Renewal) error { return nil }
		f.renew(second)
	})
	t.Run("is not asked about a token that is refused anyway", func(t *testing.T) {
		f := newFixture(t, renew.WithRenewFunc(func(context.Context, *renew.Renewal) error {
			return errors.New("called")
		}))
		first := f.issue()
		require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, first.SessionID))
		f.rejected(first, renew.ReasonRevokedSession)
	})
}

func TestEvents(t *testing.T) {
	f := newFixture(t, renew.WithRetryWindow(5*time.Second))
	first := f.issue()
	second := f.renew(first)
	event := func(kind renew.EventKind, b *renew.Bundle, reason renew.Reason) renew.Event {
		return renew.Event{
			Kind: kind, Time: f.clock.Now(), AppID: f.app.ID, SessionID: first.SessionID, TokenID: b.TokenID,
			Subject: "user@example.com", Reason: reason, IP: testIP, UserAgent: testAgent,
		}
	}
	issued := event(renew.EventIssued, first, "")
	issued.IP, issued.UserAgent = f.issueRequest().IP, f.issueRequest().UserAgent
	require.Equal(t, []renew.Event{issued, event(renew.EventRenewed, second, "")}, f.events.take())

	f.renew(first)
	require.Equal(t, []renew.Event{event(renew.EventRetried, second, "")}, f.events.take())

	f.clock.Move(6 * time.Second)
	f.rejected(first, renew.ReasonSuperseded)
	require.Equal(t, []renew.Event{event(renew.EventRejected, first, renew.ReasonSuperseded)}, f.events.take())

	f.clock.Move(time.Minute)
	f.rejected(first, renew.ReasonReused)
	require.Equal(t, []renew.Event{
		event(renew.EventReused, first, renew.ReasonReused),
		event(renew.EventRevoked, first, renew.ReasonReused),
	}, f.events.take())

	f.rejected(second, renew.ReasonRevokedSession)
	require.Equal(t, []renew.Event{event(renew.EventRejected, second, renew.ReasonRevokedSession)}, f.events.take())

	f.rejected(&renew.Bundle{RefreshToken: "x.y"}, renew.ReasonMalformed)
	require.Equal(t, []renew.Event{{
		Kind: renew.EventRejected, Time: f.clock.Now(), AppID: f.app.ID, Reason: renew.ReasonMalformed, IP: testIP, UserAgent: testAgent,
	}}, f.events.take())

	one, two, three := f.issue(), f.issue(), f.issue()
	f.events.take()
	const subject = "user@example.com"
	for range 2 { // what is revoked already is no event
		require.NoError(t, f.Revoke(f.ctx, f.app.ID, one.AuthToken))
		require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, two.SessionID))
		_, err := f.RevokeSubject(f.ctx, f.app.ID, subject)
		require.NoError(t, err)
		require.NoError(t, f.RevokeSubjectSession(f.ctx, f.app.ID, subject, three.SessionID))
	}
	require.Equal(t, []renew.Event{
		{Kind: renew.EventRevoked, Time: f.clock.Now(), AppID: f.app.ID, SessionID: one.SessionID, TokenID: one.TokenID, Subject: subject},
		{Kind: renew.EventRevoked, Time: f.clock.Now(), AppID: f.app.ID, SessionID: two.SessionID, Subject: subject},
		{Kind: renew.EventRevoked, Time: f.clock.Now(), AppID: f.app.ID, Subject: subject},
	}, f.events.take())

	require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, "not-the-app-key-of-anyone"), renew.ErrInvalidAppKey)
	require.ErrorIs(t, f.AuthenticateApp(f.ctx, "app_9", f.appKey), renew.ErrAppNotFound)
	f.clock.Move(2 * time.Hour)
	_, err := f.VerifyAuthToken(f.ctx, f.app.ID, one.AuthToken)
	require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
	_, err = f.VerifyAuthToken(f.ctx, f.app.ID, "x")
	require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
	require.Equal(t, []renew.Event{
		{Kind: renew.EventAppKeyRejected, Time: f.clock.Now().Add(-2 * time.Hour), AppID: f.app.ID},
		{Kind: renew.EventAppKeyRejected, Time: f.clock.Now().Add(-2 * time.Hour)},
		{Kind: renew.EventAuthRejected, Time: f.clock.Now(), AppID: f.app.ID, SessionID: one.SessionID, TokenID: one.TokenID, Reason: renew.ReasonExpired},
		{Kind: renew.EventAuthRejected, Time: f.clock.Now(), Reason: renew.ReasonMalformed},
	}, f.events.take())
}

// The promise: an owner whose read of the store is slow is not punished, though
// another tab renews twice in the meantime.
func TestSlowReadIsNoReuse(t *testing.T) {
	f := newFixture(t, renew.WithReuseLeeway(0))
	first := f.issue()
	f.clock.Move(time.Minute)
	latest := first
	f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
		f.hooks.session = nil
		for range 2 {
			f.clock.Move(time.Second)
			latest = f.renew(latest)
		}
		return do()
	}
	f.rejected(first, renew.ReasonSuperseded)
	f.renew(latest)
	f.clock.Move(time.Second)
	f.rejected(first, renew.ReasonReused)
}
