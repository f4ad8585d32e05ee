package renew_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

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
	t.Run("that fails is an internal error, and reported", func(t *testing.T) {
		f, first := used(t)
		f.hooks.revoke = func(context.Context, func() error) error { return errOutage }
		f.events.take()
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		require.Equal(t, []renew.EventKind{renew.EventReused}, f.events.kinds())
	})
	t.Run("of a session deleted concurrently is a rejection", func(t *testing.T) {
		f, first := used(t)
		f.hooks.revoke = func(context.Context, func() error) error { return renew.ErrSessionNotFound }
		f.rejected(first, renew.ReasonReused)
	})
}

func TestRevoke(t *testing.T) {
	for _, c := range []struct {
		name  string
		token func(f *fixture, b *renew.Bundle) string
	}{
		{"by the auth token", func(_ *fixture, b *renew.Bundle) string { return b.AuthToken }},
		{"by the refresh token", func(_ *fixture, b *renew.Bundle) string { return b.RefreshToken }},
		{"by a used refresh token", func(f *fixture, b *renew.Bundle) string { f.renew(b); return b.RefreshToken }},
		{"by an expired auth token", func(f *fixture, b *renew.Bundle) string { f.clock.Move(2 * time.Hour); return b.AuthToken }},
		{"by a token that is not valid yet", func(f *fixture, b *renew.Bundle) string { f.clock.Move(-time.Hour); return b.RefreshToken }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			b, other := f.issue(), f.issue()
			token := c.token(f, b)
			require.NoError(t, f.Revoke(f.ctx, f.app.ID, token))
			at := f.clock.Now()
			require.Equal(t, at, f.session(b).RevokedAt)
			require.True(t, f.session(other).RevokedAt.IsZero())
			f.clock.Move(time.Second)
			require.NoError(t, f.Revoke(f.ctx, f.app.ID, token))
			require.Equal(t, at, f.session(b).RevokedAt)
		})
	}
	t.Run("of a deleted session is nil", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		_, err := f.store.DeleteExpired(f.ctx, epoch.Add(24*time.Hour), 1)
		require.NoError(t, err)
		require.NoError(t, f.Revoke(f.ctx, f.app.ID, b.RefreshToken))
	})
	t.Run("rejects a token that no valid key has signed", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		err := f.Revoke(f.ctx, f.app.ID, b.RefreshToken[:len(b.RefreshToken)-8]+"AAAAAAAA")
		require.ErrorIs(t, err, renew.ErrInvalidToken)
		f.rotateKey(renew.ES256)
		require.NoError(t, f.store.RevokeKey(f.ctx, f.app.ID, b.KeyID, f.clock.Now()))
		require.ErrorIs(t, f.Revoke(f.ctx, f.app.ID, b.RefreshToken), renew.ErrInvalidToken)
		require.True(t, f.session(b).RevokedAt.IsZero())
	})
	t.Run("says so when the store fails", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.events.take()
		f.hooks.revoke = func(context.Context, func() error) error { return errOutage }
		for _, err := range []error{f.Revoke(f.ctx, f.app.ID, b.AuthToken), f.RevokeSession(f.ctx, f.app.ID, b.SessionID)} {
			requireInternal(t, err)
			require.ErrorIs(t, err, errOutage)
		}
		require.Empty(t, f.events.take())
	})
	t.Run("of an unknown session ID", func(t *testing.T) {
		f := newFixture(t)
		require.ErrorIs(t, f.RevokeSession(f.ctx, f.app.ID, "x"), renew.ErrSessionNotFound)
	})
}

func TestSubjects(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	f.clock.Move(time.Minute)
	second, revoked := f.issue(), f.issue()
	require.NoError(t, f.RevokeSession(f.ctx, f.app.ID, revoked.SessionID))
	other := f.issueRequest()
	other.Subject = "other@example.com"
	theirs, err := f.Issue(f.ctx, other)
	require.NoError(t, err)

	sessions, err := f.Sessions(f.ctx, f.app.ID, "user@example.com")
	require.NoError(t, err)
	require.Equal(t, []renew.Session{f.session(second), f.session(first)}, sessions)

	n, err := f.RevokeSubject(f.ctx, f.app.ID, "user@example.com")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	f.rejected(first, renew.ReasonRevokedSession)
	f.rejected(second, renew.ReasonRevokedSession)
	f.renew(theirs)
}

// The promise: presentations of used tokens stop no one else where the store is
// slow. At most eight revocations for reuse wait, one per session, for 2 seconds;
// what is beyond is an internal error immediately.
func TestRevocationsForReuseAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, renew.WithClock(time.Now))
		var used []*renew.Bundle
		for range 12 {
			b := f.issue()
			f.renew(b)
			used = append(used, b)
		}
		other := f.issue()
		time.Sleep(time.Minute)
		blocked := true
		f.hooks.revoke = func(ctx context.Context, do func() error) error {
			if !blocked {
				return do()
			}
			<-ctx.Done()
			return ctx.Err()
		}
		errs := make(chan error, 8)
		for _, b := range used[:8] {
			go func() { _, err := f.Renew(f.ctx, f.request(b)); errs <- err }()
		}
		synctest.Wait()
		require.EqualValues(t, 8, f.hooks.revokes.Load())
		began := time.Now()
		for name, b := range map[string]*renew.Bundle{"a ninth session": used[8], "the first session again": used[0]} {
			_, err := f.Renew(f.ctx, f.request(b))
			requireInternal(t, err)
			require.ErrorContains(t, err, "too many revocations", name)
		}
		f.renew(other)
		require.Zero(t, time.Since(began))
		for range 8 {
			err := <-errs
			requireInternal(t, err)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Equal(t, 2*time.Second, time.Since(began))
		require.EqualValues(t, 8, f.hooks.revokes.Load())

		blocked = false
		for _, b := range used {
			f.rejected(b, renew.ReasonReused)
		}
	})
}

// The promise: one session that is presented again and again takes one of the eight
// places.
func TestRevocationForReuseIsOnePerSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		first, other := f.issue(), f.issue()
		f.renew(first)
		f.renew(other)
		f.clock.Move(time.Minute)
		f.hooks.revoke = func(ctx context.Context, _ func() error) error {
			<-ctx.Done()
			return ctx.Err()
		}
		for range 20 {
			go func() { _, _ = f.Renew(f.ctx, f.request(first)) }()
		}
		synctest.Wait()
		require.EqualValues(t, 1, f.hooks.revokes.Load())
		f.hooks.revoke = nil
		f.rejected(other, renew.ReasonReused)
		require.False(t, f.session(other).RevokedAt.IsZero())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		f.rejected(first, renew.ReasonReused)
	})
}

// The promise: "sign out this device" cannot end another user's session.
func TestRevokeSubjectSession(t *testing.T) {
	f := newFixture(t)
	mine := f.issue()
	req := f.issueRequest()
	req.Subject = "another@example.com"
	theirs, err := f.Issue(f.ctx, req)
	require.NoError(t, err)
	const me = "user@example.com"
	for name, sessionID := range map[string]string{"another user's": theirs.SessionID, "an unknown one": ulid.Make().String(), "a malformed one": "x", "none": ""} {
		require.ErrorIs(t, f.RevokeSubjectSession(f.ctx, f.app.ID, me, sessionID), renew.ErrSessionNotFound, name)
	}
	require.ErrorIs(t, f.RevokeSubjectSession(f.ctx, "app_9", me, mine.SessionID), renew.ErrSessionNotFound)
	for _, subject := range []string{"", "User@example.com", me + " "} {
		require.ErrorIs(t, f.RevokeSubjectSession(f.ctx, f.app.ID, subject, mine.SessionID), renew.ErrSessionNotFound, subject)
	}
	require.Zero(t, f.hooks.revokes.Load())
	f.renew(theirs)
	for range 2 {
		require.NoError(t, f.RevokeSubjectSession(f.ctx, f.app.ID, me, mine.SessionID))
	}
	f.rejected(mine, renew.ReasonRevokedSession)
}

func TestRevokeSubjectKeepsSessions(t *testing.T) {
	f := newFixture(t)
	keep, one, two := f.issue(), f.issue(), f.issue()
	n, err := f.RevokeSubject(f.ctx, f.app.ID, "user@example.com", keep.SessionID, ulid.Make().String(), "x")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	f.rejected(one, renew.ReasonRevokedSession)
	f.rejected(two, renew.ReasonRevokedSession)
	f.renew(keep)
	f.events.take()
	n, err = f.RevokeSubject(f.ctx, f.app.ID, "user@example.com", keep.SessionID)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, f.events.take(), "nothing was revoked")
}
