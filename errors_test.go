package renew_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

func TestErrorsHoldNoSecret(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	req := f.request(b)
	req.RefreshToken = b.AuthToken
	_, err := f.Renew(f.ctx, req)
	require.NotContains(t, err.Error(), b.AuthToken[20:40])
	require.NotContains(t, err.Error(), "admin")
}

// A TokenError that a caller makes, as in its own tests, has a text.
func TestTokenErrorMadeByACaller(t *testing.T) {
	err := &renew.TokenError{Reason: renew.ReasonExpired, Detail: "yesterday"}
	require.ErrorIs(t, err, renew.ErrInvalidToken)
	require.NotErrorIs(t, err, renew.ErrInvalidRefreshToken)
	require.Equal(t, "invalid token: expired: yesterday", err.Error())
}

// The promise: once a token is genuine, its rejection says which session it is
// about, though nothing was read.
func TestErrorsNameTheSession(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) { a.RefreshNotBefore = time.Minute }}.new(t)
	b := f.issue()
	requireNamed := func(err error) {
		t.Helper()
		var about *renew.SessionError
		require.ErrorAs(t, err, &about)
		require.Equal(t, [3]string{f.app.ID, b.SessionID, b.TokenID}, [3]string{about.AppID, about.SessionID, about.TokenID})
		require.Contains(t, err.Error(), b.SessionID)
	}
	f.events.take()
	_, err := f.Renew(f.ctx, f.request(b))
	requireRejected(t, err, renew.ReasonTooEarly)
	requireNamed(err)
	events := f.events.take()
	require.Len(t, events, 1)
	require.Equal(t, [2]string{b.SessionID, b.TokenID}, [2]string{events[0].SessionID, events[0].TokenID})
	f.clock.Move(time.Minute)
	f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
		return renew.Session{}, errOutage
	}
	_, err = f.Renew(f.ctx, f.request(b))
	requireInternal(t, err)
	requireNamed(err)
	_, err = f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
	requireInternal(t, err)
	requireNamed(err)
}
