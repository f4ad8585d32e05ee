package renew_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// running starts Run in the bubble of the test, to end with it.
func running(t *testing.T, r *renew.Renewer) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, time.Minute) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

// wait lets that long pass, and what is due then happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDeleteExpired(t *testing.T) {
	for name, leeway := range map[string]time.Duration{"no leeway": 0, "a leeway": time.Minute} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, renew.WithLeeway(leeway))
			short := f.issue()
			f.clock.Move(time.Hour)
			long := f.issue()
			f.clock.Move(short.RefreshExpiresAt.Sub(f.clock.Now()) + leeway + time.Minute)
			deleted, err := f.DeleteExpired(f.ctx)
			require.NoError(t, err)
			require.Zero(t, deleted, "a server whose clock is behind can still take the session for live")
			f.clock.Move(time.Millisecond)
			deleted, err = f.DeleteExpired(f.ctx)
			require.NoError(t, err)
			require.Equal(t, renew.DeletedCounts{Sessions: 1}, deleted)
			f.renew(long)
		})
	}
	t.Run("deletes more than a batch", func(t *testing.T) {
		f := newFixture(t)
		const sessions = 2500
		for range sessions {
			f.issue()
		}
		f.clock.Move(24 * time.Hour)
		deleted, err := f.DeleteExpired(f.ctx)
		require.NoError(t, err)
		require.Equal(t, renew.DeletedCounts{Sessions: sessions}, deleted)
	})
	t.Run("deletes replaced keys, and never the active one", func(t *testing.T) {
		f := newFixture(t)
		f.rotateKey(renew.ES256)
		f.clock.Move(365 * 24 * time.Hour)
		deleted, err := f.DeleteExpired(f.ctx)
		require.NoError(t, err)
		require.Equal(t, renew.DeletedCounts{Keys: 1}, deleted)
		f.issue()
	})
	t.Run("needs a store that can", func(t *testing.T) {
		f := newFixture(t)
		r, err := renew.New(bare{KeyStore: f.store}, bare{TokenStore: f.store})
		require.NoError(t, err)
		_, err = r.DeleteExpired(f.ctx)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorIs(t, r.Run(f.ctx, time.Hour), errors.ErrUnsupported)
	})
	t.Run("reports what it deleted before an error", func(t *testing.T) {
		f := newFixture(t)
		r, err := renew.New(f.store, &failingPurger{bare{TokenStore: f.store}, 2}, renew.WithClock(f.clock.Now))
		require.NoError(t, err)
		deleted, err := r.DeleteExpired(f.ctx)
		require.ErrorIs(t, err, errOutage)
		require.Equal(t, renew.DeletedCounts{Sessions: 2 * 1000}, deleted)
	})
}

// failingPurger deletes a few whole batches and fails then.
type failingPurger struct {
	bare
	batches int
}

func (p *failingPurger) DeleteExpired(_ context.Context, _ time.Time, limit int) (int, error) {
	if p.batches--; p.batches < 0 {
		return 0, errOutage
	}
	return limit, nil
}

// A client that repeats a request gets the successor for as long as that lives,
// although its own token has expired and the key of that is long replaced.
func TestRunKeepsKeysForRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fixtureConfig{
			app:  func(a *renew.App) { a.RefreshTTL = 10 * time.Hour },
			opts: []renew.Option{renew.WithClock(time.Now)},
		}.new(t)
		f.clock.now = time.Now()
		running(t, f.Renewer)
		first := f.issue()
		f.rotateKey(renew.ES256)
		wait(10*time.Hour - time.Minute)
		lost, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		wait(10*time.Hour - time.Minute)
		again, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		require.True(t, again.Retried)
		require.Equal(t, lost.TokenID, again.TokenID)

		wait(time.Hour)
		_, err = f.store.VerificationKey(t.Context(), f.app.ID, first.KeyID)
		require.ErrorIs(t, err, renew.ErrKeyNotFound, "the key is never deleted")
	})
}

func TestRun(t *testing.T) {
	t.Run("deletes at the interval, and continues after an error", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			previous := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
			defer slog.SetDefault(previous)
			f := newFixture(t)
			var calls atomic.Int64
			r, err := renew.New(f.store, countingPurger{bare{TokenStore: f.store}, &calls})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx, time.Minute) }()
			synctest.Wait()
			require.EqualValues(t, 1, calls.Load())
			wait(10 * time.Minute)
			require.EqualValues(t, 11, calls.Load())
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
			require.Equal(t, 11, strings.Count(log.String(), "level=ERROR"))
			require.Contains(t, log.String(), errOutage.Error())
		})
	})
	t.Run("needs an interval", func(t *testing.T) {
		f := newFixture(t)
		for _, every := range []time.Duration{0, -time.Second} {
			require.ErrorContains(t, f.Run(t.Context(), every), "not positive")
		}
	})
}

// countingPurger fails and counts.
type countingPurger struct {
	bare
	calls *atomic.Int64
}

func (p countingPurger) DeleteExpired(context.Context, time.Time, int) (int, error) {
	p.calls.Add(1)
	return 0, errOutage
}
