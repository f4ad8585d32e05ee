package fleettest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// RequireConsistent checks what a process sees of the session s after another process
// was killed in the middle of a call: the session is there as a whole, with its entry
// in the list of its subject, or not. Afterwards the session is deleted.
func RequireConsistent(t *testing.T, store TokenStore, s renew.Session) {
	t.Helper()
	ctx := t.Context()
	got, err := store.Session(ctx, AppID, s.ID)
	there := err == nil
	if !there {
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
	}
	for _, subject := range []string{s.Subject, "other"} {
		listed, err := store.SubjectSessions(ctx, AppID, subject, Base)
		require.NoError(t, err)
		if there && got.Subject == subject && got.RevokedAt.IsZero() {
			require.Equal(t, []renew.Session{got}, listed)
		} else {
			require.Empty(t, listed)
		}
	}
	if there {
		require.ErrorIs(t, store.CreateSession(ctx, s), renew.ErrSessionExists)
		n, err := store.DeleteExpired(ctx, Base.AddDate(2, 0, 0), 10)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
}

// RequireUsable checks that the ID of the session s can be used again.
func RequireUsable(t *testing.T, store TokenStore, s renew.Session) {
	t.Helper()
	require.NoError(t, store.CreateSession(t.Context(), s))
	listed, err := store.SubjectSessions(t.Context(), AppID, s.Subject, Base)
	require.NoError(t, err)
	require.Len(t, listed, 1)
}

// RequireZeroTimeRejected checks that a revocation without a time, which would leave the
// session live, is an error, and that nothing changes. The store has the session s.
func RequireZeroTimeRejected(t *testing.T, store TokenStore, s renew.Session) {
	t.Helper()
	ctx := t.Context()
	require.ErrorContains(t, store.RevokeSession(ctx, AppID, s.ID, time.Time{}), "the time is zero")
	n, err := store.RevokeSubject(ctx, AppID, s.Subject, time.Time{})
	require.ErrorContains(t, err, "the time is zero")
	require.Zero(t, n)
	require.NoError(t, store.Rotate(ctx, s.TokenID, s))
	got, err := store.Session(ctx, AppID, s.ID)
	require.NoError(t, err)
	require.Equal(t, s, got)
}

// Step is a call that a process is killed in.
type Step struct {
	Name string
	Had  bool // the session is stored before
	Do   func(ctx context.Context, store TokenStore) error
}

// Steps are the calls that store, change or delete the session s.
func Steps(s renew.Session) []Step {
	moved := Successor(s)
	moved.Subject = "other"
	return []Step{
		{"CreateSession", false, func(ctx context.Context, store TokenStore) error { return store.CreateSession(ctx, s) }},
		{"Rotate", true, func(ctx context.Context, store TokenStore) error { return store.Rotate(ctx, s.TokenID, Successor(s)) }},
		{"Rotate to another subject", true, func(ctx context.Context, store TokenStore) error { return store.Rotate(ctx, s.TokenID, moved) }},
		{"RevokeSession", true, func(ctx context.Context, store TokenStore) error { return store.RevokeSession(ctx, AppID, s.ID, Base) }},
		{"RevokeSubject", true, func(ctx context.Context, store TokenStore) error {
			_, err := store.RevokeSubject(ctx, AppID, s.Subject, Base)
			return err
		}},
		{"DeleteExpired", true, func(ctx context.Context, store TokenStore) error {
			_, err := store.DeleteExpired(ctx, Base.AddDate(1, 0, 0), 10)
			return err
		}},
	}
}
