package renew_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func TestUsedTokenWithinTheReuseLeewayIsOnlyRejected(t *testing.T) {
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
			name: "a custom leeway", after: time.Minute, reason: renew.ReasonSuperseded,
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
	t.Run("counts a negative age as zero", func(t *testing.T) {
		f, first, second := setUp(t)
		f.clock.Move(-30 * time.Second)
		requireSamePair(t, second, f.renew(first))
	})
	t.Run("is signed with the active key", func(t *testing.T) {
		f, first, second := setUp(t)
		key := f.rotateKey(renew.EdDSA)
		again := f.renew(first)
		requireSamePair(t, second, again)
		require.Equal(t, key.VerificationKey().KeyID(), again.KeyID)
		require.NotEqual(t, second.KeyID, again.KeyID)
		f.renew(again)
	})
	t.Run("is reuse once the successor was used", func(t *testing.T) {
		f, first, second := setUp(t)
		third := f.renew(second)
		f.rejected(first, renew.ReasonReused)
		f.rejected(third, renew.ReasonRevokedSession)
	})
	t.Run("is rejected if the session is revoked", func(t *testing.T) {
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
	t.Run("lasts as long as the successor, leeway included", func(t *testing.T) {
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
	t.Run("needs that same key", func(t *testing.T) {
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
	t.Run("is reuse if the renewal was made without a key", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.renew(first)
		f.clock.Move(time.Minute)
		_, err := f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonReused)
	})
	t.Run("is reuse once the successor was used, whatever the key", func(t *testing.T) {
		f, first, second := setUp(t)
		_, err := f.renewWith(second, testKey2)
		require.NoError(t, err)
		_, err = f.renewWith(first, testKey1)
		requireRejected(t, err, renew.ReasonReused)
	})
	t.Run("is rejected if the session is revoked", func(t *testing.T) {
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

// The promise: an owner whose read of the store is slow is not punished, though
// another tab renews twice in the meantime.
func TestSlowReadIsNotReuse(t *testing.T) {
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

// The promise: a retry that cannot be signed is an internal error, and can be
// repeated.
func TestRetryThatCannotBeSigned(t *testing.T) {
	fail := false
	broken := &brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) {
		if fail {
			return nil, errOutage
		}
		return k, nil
	}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { broken.KeyStore = s; return broken }}.new(t)
	first := f.issue()
	second, err := f.renewWith(first, testKey1)
	require.NoError(t, err)
	fail = true
	f.events.take()
	b, err := f.renewWith(first, testKey1)
	require.Nil(t, b)
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	require.Empty(t, f.events.take())
	fail = false
	again, err := f.renewWith(first, testKey1)
	require.NoError(t, err)
	requireSamePair(t, second, again)
	f.renew(again)
}
