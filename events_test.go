package renew_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

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
	t.Run("changes the claims of later renewals too", func(t *testing.T) {
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
	t.Run("denies, and the token stays valid", func(t *testing.T) {
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
		"with an error of the hook":         errOutage,
		"with an error that looks like one": renew.ErrInvalidRefreshToken,
		"with a rejected token":             rejectedToken(t),
		"with a missing app":                renew.ErrAppNotFound,
		"with a wrong request":              &renew.ValidationError{Fields: []renew.FieldError{{Field: "x", Message: "y"}}},
	} {
		t.Run("fails "+name+": an internal error, and the token stays valid", func(t *testing.T) {
			f, first := setUp(t)
			decide = func(*renew.Renewal) error { return cause }
			_, err := f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			require.Equal(t, errors.Is(cause, errOutage), errors.Is(err, errOutage))
			decide = func(*renew.Renewal) error { return nil }
			f.renew(first)
		})
	}
	t.Run("sets an invalid claim: an internal error, and the token stays valid", func(t *testing.T) {
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
	t.Run("denies a retry, and the successor stays valid", func(t *testing.T) {
		f, first := setUp(t)
		second := f.renew(first)
		decide = func(*renew.Renewal) error { return renew.ErrDenied }
		f.rejected(first, renew.ReasonDenied)
		decide = func(*renew.Renewal) error { return nil }
		f.renew(second)
	})
	t.Run("is not called for a token that is rejected anyway", func(t *testing.T) {
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

// The promise: a hook that denies says no more than that, whatever else its
// error wraps; it says nothing about the app or the store.
func TestDenialIsOnlyADenial(t *testing.T) {
	for name, cause := range map[string]error{
		"a missing app":       renew.ErrAppNotFound,
		"a wrong app key":     renew.ErrInvalidAppKey,
		"a store that lags":   renew.ErrAhead,
		"another token error": rejectedToken(t),
		"a wrong request":     &renew.ValidationError{Fields: []renew.FieldError{{Field: "x", Message: "y"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var deny error
			f := newFixture(t, renew.WithRenewFunc(func(context.Context, *renew.Renewal) error { return deny }))
			first := f.issue()
			f.events.take()
			deny = errors.Join(cause, renew.ErrDenied)
			_, err := f.Renew(f.ctx, f.request(first))
			requireRejected(t, err, renew.ReasonDenied)
			require.ErrorIs(t, err, renew.ErrDenied)
			for _, sentinel := range []error{renew.ErrAppNotFound, renew.ErrInvalidAppKey, renew.ErrAhead, renew.ErrInvalidAuthToken} {
				require.NotErrorIs(t, err, sentinel)
			}
			var invalid *renew.ValidationError
			require.NotErrorAs(t, err, &invalid)
			require.Equal(t, []renew.EventKind{renew.EventRejected}, f.events.kinds())
			deny = nil
			f.renew(first)
		})
	}
}

// The promise: a renew function that fails to renew another session fails, and is
// not called again as if its own session had changed.
func TestRenewFuncThatFailsToRenewAnotherSession(t *testing.T) {
	other := newFixture(t)
	b := other.issue()
	other.hooks.rotate = func(context.Context, func() error) error { return renew.ErrConflict }
	calls := 0
	f := newFixture(t, renew.WithRenewFunc(func(context.Context, *renew.Renewal) error {
		calls++
		_, err := other.Renew(other.ctx, other.request(b))
		return err
	}))
	first := f.issue()
	_, err := f.Renew(f.ctx, f.request(first))
	requireInternal(t, err)
	require.Equal(t, 1, calls)
}

// sharingKeys is a KeyStore that hands out one App to all, as its contract
// allows: what it returns is to be read.
type sharingKeys struct {
	renew.KeyStore
	shared renew.App
}

func (s *sharingKeys) App(context.Context, string) (renew.App, error) { return s.shared, nil }

// The promise: what a hook does to its copy of the app is done to the copy.
func TestHookCannotChangeTheApp(t *testing.T) {
	keys := &sharingKeys{}
	f := fixtureConfig{
		app:  func(app *renew.App) { app.FormerIssuers = []string{"issuer_0"} },
		keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys },
		opts: []renew.Option{renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
			clear(rn.App.KeyHashes)
			clear(rn.App.FormerIssuers)
			return nil
		})},
	}.new(t)
	keys.shared = f.app.Clone()
	f.renew(f.issue())
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
	require.Equal(t, f.app, keys.shared)
}

// The promise: a renew function that panics is an internal error, whatever it
// panics with, and nothing is used.
func TestRenewFuncThatPanics(t *testing.T) {
	for name, value := range map[string]any{
		"a text": "oops", "an error": errOutage, "a denial": renew.ErrDenied, "a missing app": renew.ErrAppNotFound,
		"a rejected token": rejectedToken(t), "nil": nil, "a runtime error": map[string]int(nil),
	} {
		for _, retry := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, retry %v", name, retry), func(t *testing.T) {
				panics := false
				f := newFixture(t, renew.WithRenewFunc(func(context.Context, *renew.Renewal) error {
					if m, isMap := value.(map[string]int); panics && isMap {
						m["x"] = 1
					}
					if panics {
						panic(value)
					}
					return nil
				}))
				first := f.issue()
				if retry {
					_, err := f.renewWith(first, testKey1)
					require.NoError(t, err)
				}
				before := f.session(first)
				panics = true
				f.events.take()
				_, err := f.renewWith(first, testKey1)
				requireInternal(t, err)
				require.NotErrorIs(t, err, renew.ErrDenied)
				require.ErrorContains(t, err, "panicked")
				require.Equal(t, before, f.session(first))
				require.Empty(t, f.events.take())
				panics = false
				_, err = f.renewWith(first, testKey1)
				require.NoError(t, err)
			})
		}
	}
}

// The promise: an event function that panics changes no result, and shows in the
// log at level error.
func TestEventFuncThatPanics(t *testing.T) {
	var log strings.Builder
	previous := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, nil)))
	defer slog.SetDefault(previous)
	f := newFixture(t, renew.WithEventFunc(func(context.Context, renew.Event) { panic("boom") }))
	first := f.issue()
	second := f.renew(first)
	f.clock.Move(time.Minute)
	f.rejected(first, renew.ReasonReused)
	require.False(t, f.session(second).RevokedAt.IsZero())
	require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, "another-app-key-of-someone"), renew.ErrInvalidAppKey)
	require.NoError(t, f.Revoke(f.ctx, f.app.ID, f.issue().AuthToken))
	for _, kind := range []string{"issued", "renewed", "reused", "revoked", "app_key_rejected"} {
		require.Regexp(t, `"level":"ERROR".*"kind":"`+kind+`".*"panic":"boom"`, log.String())
	}
	require.NotContains(t, log.String(), first.RefreshToken)
}

// The promise: a revocation happens before its events, and the events of what
// happened are reported though the client has hung up, in a context that has not
// ended.
func TestEventsComeAfterWhatTheyReport(t *testing.T) {
	var f *fixture
	var revoked, ended []bool
	var kinds []renew.EventKind
	f = newFixture(t, renew.WithEventFunc(func(ctx context.Context, e renew.Event) {
		s, err := f.store.Session(context.WithoutCancel(ctx), e.AppID, e.SessionID)
		require.NoError(t, err)
		kinds, revoked, ended = append(kinds, e.Kind), append(revoked, !s.RevokedAt.IsZero()), append(ended, ctx.Err() != nil)
		if e.Kind == renew.EventIssued || e.Kind == renew.EventRenewed {
			require.Equal(t, e.TokenID, s.TokenID)
		}
	}))
	first := f.issue()
	ctx, hangUp := context.WithCancel(f.ctx)
	f.hooks.rotate = func(ctx context.Context, do func() error) error {
		hangUp()
		require.NoError(t, ctx.Err(), "a commit does not end with the request")
		return do()
	}
	second, err := f.Renew(ctx, f.request(first))
	require.NoError(t, err)
	f.clock.Move(time.Minute)
	f.rejected(first, renew.ReasonReused)
	require.Equal(t, []renew.EventKind{renew.EventIssued, renew.EventRenewed, renew.EventReused, renew.EventRevoked}, kinds)
	require.Equal(t, []bool{false, false, true, true}, revoked)
	require.Equal(t, []bool{false, false, false, false}, ended)
	require.False(t, f.session(second).RevokedAt.IsZero())
}

// The promise: the event of a retry says who has asked. Inside a retry window that
// may be a thief.
func TestEventOfARetryDescribesItsClient(t *testing.T) {
	f := newFixture(t, renew.WithRetryWindow(time.Minute))
	first := f.issue()
	f.renew(first)
	f.events.take()
	req := f.request(first)
	req.IP, req.UserAgent = "203.0.113.9", "another-agent"
	_, err := f.Renew(f.ctx, req)
	require.NoError(t, err)
	events := f.events.take()
	require.Len(t, events, 1)
	require.Equal(t, [3]string{string(renew.EventRetried), req.IP, req.UserAgent}, [3]string{string(events[0].Kind), events[0].IP, events[0].UserAgent})
}

// The promise of Event: what a caller only claims is in none, except the app of a
// refresh token's rejection.
func TestEventsHoldNothingUnverified(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	stranger := forge{key: generate(t, renew.ES256), issuer: "issuer_1", session: f.session(b)}
	const claimed = "an-app-that-is-not-there"
	for _, token := range []string{"x", "a.b.c", stranger.withPayload(stranger.claims().String())} {
		for _, appID := range []string{claimed, f.app.ID} {
			f.events.take()
			_, err := f.Renew(f.ctx, renew.RenewRequest{AppID: appID, RefreshToken: token, IP: testIP, UserAgent: testAgent})
			require.Error(t, err)
			_, err = f.VerifyAuthToken(f.ctx, appID, token)
			require.Error(t, err)
			require.Error(t, f.Revoke(f.ctx, appID, token))
			require.Error(t, f.AuthenticateApp(f.ctx, appID, token))
			for _, e := range f.events.take() {
				require.True(t, e.Kind == renew.EventRejected || e.AppID != claimed, "%+v", e)
				require.Empty(t, e.SessionID+e.TokenID+e.Subject, "%+v", e)
			}
		}
	}
}
