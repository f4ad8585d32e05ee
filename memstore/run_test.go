package memstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// running starts Run in the bubble of the test, to end with it.
func running(t *testing.T, s *Store) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, time.Minute) }()
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

func TestRunDeletesSessionsAnHourAfterTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		create(t, s, session("short", "ann", time.Now().Add(time.Hour)), session("long", "ann", time.Now().Add(5*time.Hour)))
		running(t, s)
		wait(2 * time.Hour)
		require.Equal(t, 2, count(s), "a session went less than an hour after its end")
		wait(time.Minute)
		require.Equal(t, 1, count(s))
		_, err := s.Session(t.Context(), appID, "long")
		require.NoError(t, err)
		wait(24 * time.Hour)
		require.Zero(t, count(s), "Run has stopped")
	})
}

// A client that repeats a request is answered for as long as the successor lives,
// although its own token has expired and the key of that is long replaced.
func TestRunKeepsKeysForRepeatedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, renew.App{RefreshTTL: 10 * time.Hour})
		old := rotate(t, s, time.Now())
		running(t, s)
		r, err := renew.New(s, s)
		require.NoError(t, err)
		first, err := r.Issue(t.Context(), renew.IssueRequest{AppID: appID, Subject: "ann", IP: "::1", UserAgent: "test"})
		require.NoError(t, err)
		rotate(t, s, time.Now())
		ask := func() (*renew.Bundle, error) {
			return r.Renew(t.Context(), renew.RenewRequest{
				AppID: appID, RefreshToken: first.RefreshToken, IP: "::1", UserAgent: "test", IdempotencyKey: "0123456789abcdef",
			})
		}
		wait(10*time.Hour - time.Minute)
		lost, err := ask()
		require.NoError(t, err)
		wait(10*time.Hour - time.Minute)
		again, err := ask()
		require.NoError(t, err)
		require.True(t, again.Retried)
		require.Equal(t, lost.TokenID, again.TokenID)

		wait(2 * time.Hour)
		_, err = s.VerificationKey(t.Context(), appID, keyID(old))
		require.ErrorIs(t, err, renew.ErrKeyNotFound, "the key never goes")
	})
}

func TestRunNeedsAnInterval(t *testing.T) {
	for _, every := range []time.Duration{0, -time.Second} {
		require.ErrorContains(t, New().Run(t.Context(), every), "above zero")
	}
}
