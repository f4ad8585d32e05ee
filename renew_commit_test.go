package renew_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

func TestConflict(t *testing.T) {
	t.Run("that leaves the token current is resolved by a second attempt", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.calls()
		f.hooks.rotate = failTimes(1, renew.ErrConflict)
		second := f.renew(first)
		require.False(t, second.Retried)
		require.Equal(t, second.TokenID, f.session(first).TokenID)
		require.Equal(t, [4]int64{0, 3, 2, 0}, f.hooks.calls())
	})
	t.Run("twice is an internal error, and the token stays valid", func(t *testing.T) {
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
	t.Run("with a revocation is a rejection", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, first.SessionID))
			return do()
		}
		f.rejected(first, renew.ReasonRevokedSession)
	})
	t.Run("with a deletion is a rejection", func(t *testing.T) {
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
	t.Run("that stays unclear is an internal error", func(t *testing.T) {
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
