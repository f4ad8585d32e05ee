package renew_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// server returns another Renewer on the fixture's stores, whose clock differs.
func (f *fixture) server(ahead time.Duration, opts ...renew.Option) *renew.Renewer {
	f.t.Helper()
	opts = append([]renew.Option{renew.WithClock(func() time.Time { return f.clock.Now().Add(ahead) })}, opts...)
	r, err := renew.New(f.store, f.hooks, opts...)
	require.NoError(f.t, err)
	return r
}

// requireClock requires that an error is about clocks, and an internal one.
func requireClock(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, renew.ErrClock)
	requireInternal(t, err)
}

// The promise: where a clock is wrong, no client is told that its valid token is
// invalid, and nothing changes.
func TestClockThatIsWrong(t *testing.T) {
	long := fixtureConfig{app: func(a *renew.App) { a.RefreshTTL = 30 * 24 * time.Hour }}
	for _, c := range []struct {
		name   string
		behind time.Duration // of the server that the token is presented to
		leeway time.Duration
		clock  bool
	}{
		{name: "in 1970", behind: 56 * 365 * 24 * time.Hour, clock: true},
		{name: "a day behind", behind: 24 * time.Hour, clock: true},
		{name: "more than a minute behind", behind: time.Minute + time.Second, clock: true},
		{name: "more than the leeway and a minute behind", behind: 3*time.Minute + time.Second, leeway: 2 * time.Minute, clock: true},
		{name: "no more than the leeway behind", behind: 2*time.Minute - time.Second, leeway: 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := long.new(t)
			first := f.issue()
			second, err := f.renewWith(first, testKey1)
			require.NoError(t, err)
			before := f.session(first)
			behind := f.server(-c.behind, renew.WithLeeway(c.leeway), renew.WithEventFunc(f.events.add))
			f.events.take()
			f.hooks.calls()
			b, err := behind.Renew(f.ctx, f.request(second))
			if !c.clock {
				require.NoError(t, err)
				require.NotEqual(t, second.TokenID, b.TokenID)
				return
			}
			requireClock(t, err)
			retry := f.request(first)
			retry.IdempotencyKey = testKey1
			_, err = behind.Renew(f.ctx, retry)
			requireClock(t, err)
			reuse := f.request(first)
			reuse.IP = "203.0.113.9"
			_, err = behind.Renew(f.ctx, reuse)
			requireClock(t, err)
			require.Equal(t, before, f.session(first))
			require.Empty(t, f.events.take())
			require.Zero(t, f.hooks.calls()[2]+f.hooks.calls()[3])
			f.renew(second)
		})
	}
	t.Run("the token is from now, the session from tomorrow", func(t *testing.T) {
		f := long.new(t)
		first := f.issue()
		ahead := f.server(24 * time.Hour)
		second, err := ahead.Renew(f.ctx, f.request(first))
		require.NoError(t, err)
		for _, b := range []*renew.Bundle{first, second} {
			_, err = f.Renew(f.ctx, f.request(b))
			requireClock(t, err)
		}
		f.clock.Move(24 * time.Hour)
		f.renew(second)
	})
}

// The promise: two clocks that differ by less than the leeway make no theft of a
// double click, and no loss of a repeated request, on whichever server it arrives.
func TestServersWhoseClocksDiffer(t *testing.T) {
	const leeway = 30 * time.Second
	for _, ahead := range []time.Duration{-leeway, -time.Second, 0, time.Second, leeway} {
		t.Run(ahead.String(), func(t *testing.T) {
			f := newFixture(t, renew.WithLeeway(leeway))
			other := f.server(ahead, renew.WithLeeway(leeway))
			first := f.issue()
			f.clock.Move(time.Minute)
			second := f.renew(first)
			_, err := other.Renew(f.ctx, f.request(first))
			requireRejected(t, err, renew.ReasonSuperseded)
			f.renew(second)

			f = newFixture(t, renew.WithLeeway(leeway), renew.WithRetryWindow(10*time.Second))
			other = f.server(ahead, renew.WithLeeway(leeway), renew.WithRetryWindow(10*time.Second))
			first = f.issue()
			f.clock.Move(time.Minute)
			second = f.renew(first)
			again, err := other.Renew(f.ctx, f.request(first))
			require.NoError(t, err)
			requireSamePair(t, second, again)
		})
	}
	t.Run("a thief on another network is noticed, though this clock is behind", func(t *testing.T) {
		f := newFixture(t)
		behind := f.server(-30 * time.Second)
		first := f.issue()
		f.clock.Move(time.Minute)
		f.renew(first)
		req := f.request(first)
		req.IP = "203.0.113.9"
		_, err := behind.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonReused)
	})
}

// The promise: an auth token that is used at once, on a server whose clock is
// 50 ms behind, is valid.
func TestAuthTokenOnAServerThatIsBehind(t *testing.T) {
	f := newFixture(t)
	behind := f.server(-50 * time.Millisecond)
	for range 1000 {
		f.clock.Move(time.Millisecond)
		b := f.issue()
		_, err := behind.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		require.NoError(t, err)
		_, err = behind.VerifySession(f.ctx, f.app.ID, b.AuthToken)
		require.NoError(t, err)
	}
}

// The promise: ages are counted to a request's arrival. An owner whose store, hook
// or signer is slower than the leeway is not punished.
func TestAgesAreCountedToTheArrival(t *testing.T) {
	const slow = time.Minute
	for name, key := range map[string]string{"with a key": testKey1, "without a key": ""} {
		t.Run("the loser of a race on a slow store, "+name, func(t *testing.T) {
			f := newFixture(t)
			first := f.issue()
			var second *renew.Bundle
			f.hooks.rotate = func(_ context.Context, do func() error) error {
				f.hooks.rotate = nil
				var err error
				second, err = f.renewWith(first, key)
				require.NoError(t, err)
				f.clock.Move(slow)
				return do()
			}
			again, err := f.renewWith(first, key)
			if key == "" {
				requireRejected(t, err, renew.ReasonSuperseded)
			} else {
				require.NoError(t, err)
				requireSamePair(t, second, again)
			}
			f.renew(second)
		})
	}
	t.Run("a duplicate whose read is slow", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		second := f.renew(first)
		f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
			f.hooks.session = nil
			f.clock.Move(slow)
			return do()
		}
		f.rejected(first, renew.ReasonSuperseded)
		f.renew(second)
	})
	t.Run("a renew function that is slow does not use up the retry window", func(t *testing.T) {
		f := newFixture(t, renew.WithRetryWindow(10*time.Second), renew.WithRenewFunc(func(context.Context, *renew.Renewal) error { return nil }))
		slowly := f.server(0, renew.WithRetryWindow(10*time.Second), renew.WithRenewFunc(func(context.Context, *renew.Renewal) error {
			f.clock.Move(slow)
			return nil
		}))
		first := f.issue()
		second, err := slowly.Renew(f.ctx, f.request(first))
		require.NoError(t, err)
		f.clock.Move(9 * time.Second)
		requireSamePair(t, second, f.renew(first))
	})
}

// The promise: a change of an app's SessionTTL counts at the next renewal, and
// gives no session more time than it was promised.
func TestSessionTTLThatIsChangedLater(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, then time.Duration
		end         time.Duration // after the login; 0: none
	}{
		{"set", 0, 4 * time.Hour, 4 * time.Hour},
		{"lowered", 8 * time.Hour, 4 * time.Hour, 4 * time.Hour},
		{"raised", 4 * time.Hour, 8 * time.Hour, 4 * time.Hour},
		{"taken off", 4 * time.Hour, 0, 4 * time.Hour},
		{"never set", 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fixtureConfig{app: func(a *renew.App) { a.SessionTTL = c.first }}.new(t)
			b := f.issue()
			login := epoch.Truncate(time.Second)
			f.app.SessionTTL = c.then
			require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
			f.clock.Move(2 * time.Hour)
			b = f.renew(b)
			if c.end == 0 {
				require.Zero(t, f.session(b).EndsAt)
				return
			}
			require.Equal(t, login.Add(c.end), f.session(b).EndsAt)
			require.Equal(t, login.Add(c.end), b.RefreshExpiresAt)
		})
	}
	t.Run("to less than the session's age ends it", func(t *testing.T) {
		f := newFixture(t)
		b := f.issue()
		f.clock.Move(2 * time.Hour)
		f.app.SessionTTL = time.Hour
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
		before := f.session(b)
		f.rejected(b, renew.ReasonEndedSession)
		require.Equal(t, before, f.session(b))
	})
	t.Run("so late that no auth token is valid any more", func(t *testing.T) {
		f := fixtureConfig{app: func(a *renew.App) { a.SessionTTL, a.AuthNotBefore = 2*time.Hour, time.Minute }}.new(t)
		b := f.issue()
		f.clock.Move(2*time.Hour - time.Minute)
		f.rejected(b, renew.ReasonEndedSession)
		f.clock.Move(-time.Second)
		f.renew(b)
	})
}

// The promise: an app with a long AuthTTL alone can be renewed in time.
func TestDefaultRefreshTTLFollowsTheAuthTTL(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) { a.AuthTTL = 24 * time.Hour }}.new(t)
	b := f.issue()
	require.Equal(t, 3*24*time.Hour, b.RefreshExpiresAt.Sub(epoch.Truncate(time.Second)))
	f.clock.Move(25 * time.Hour)
	f.renew(b)
}

// The promise: after a step of the clock, a lost response can be repeated, and a
// double click is no reuse.
func TestClockThatStepsBack(t *testing.T) {
	for _, step := range []time.Duration{-time.Millisecond, -time.Second, -30 * time.Second, -time.Minute} {
		t.Run(step.String(), func(t *testing.T) {
			f := fixtureConfig{app: func(a *renew.App) { a.RefreshNotBefore = 30 * time.Second }}.new(t)
			first := f.issue()
			f.clock.Move(time.Hour)
			lost, err := f.renewWith(first, testKey1)
			require.NoError(t, err)
			f.clock.Move(step)
			again, err := f.renewWith(first, testKey1)
			require.NoError(t, err)
			requireSamePair(t, lost, again)
			f.rejected(first, renew.ReasonSuperseded)
			f.clock.Move(-step + 30*time.Second)
			f.renew(again)
		})
	}
	t.Run("inside the retry window", func(t *testing.T) {
		f := newFixture(t, renew.WithRetryWindow(time.Second))
		first := f.issue()
		f.clock.Move(time.Hour)
		lost := f.renew(first)
		f.clock.Move(-30 * time.Second)
		requireSamePair(t, lost, f.renew(first))
	})
}

// The promise: a token from the future is not too early and not invalid, also where
// the store has lost the session that says the same.
func TestTokenFromTheFutureAloneIsAboutClocks(t *testing.T) {
	for _, policy := range []renew.AheadPolicy{renew.AheadFails, renew.AheadRejected, renew.AheadAdopted} {
		f := newFixture(t, renew.WithAhead(policy))
		first := f.issue()
		made := f.forge(first)
		tomorrow := seconds(f.clock.Now().Add(24 * time.Hour))
		made.session.TokenID = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
		before := f.session(first)
		f.hooks.calls()
		f.events.take()
		req := f.request(first)
		req.RefreshToken = made.withPayload(made.claims().with("iat", tomorrow).with("nbf", tomorrow).String())
		_, err := f.Renew(f.ctx, req)
		requireClock(t, err)
		require.Equal(t, [4]int64{}, f.hooks.calls())
		require.Empty(t, f.events.take())
		require.Equal(t, before, f.session(first))
	}
}

// The promise: the limits of what a wrong clock is, to the second.
func TestClockTolerance(t *testing.T) {
	for name, c := range map[string]struct {
		behind, leeway time.Duration
		clock          bool
	}{
		"a minute":                      {behind: time.Minute},
		"over a minute":                 {behind: time.Minute + 500*time.Millisecond, clock: true},
		"the leeway and a minute":       {behind: 65 * time.Second, leeway: 5 * time.Second},
		"over the leeway and a minute":  {behind: 66 * time.Second, leeway: 5 * time.Second, clock: true},
		"two minutes, in a long leeway": {behind: 2 * time.Minute, leeway: 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			used := f.issue()
			current, err := f.renewWith(used, testKey1)
			require.NoError(t, err)
			behind := f.server(-c.behind, renew.WithLeeway(c.leeway))
			for _, b := range []*renew.Bundle{used, current} {
				_, err := behind.Renew(f.ctx, f.request(b))
				if c.clock {
					requireClock(t, err)
				} else {
					require.NotErrorIs(t, err, renew.ErrClock)
				}
			}
		})
	}
}

// The promise: an owner whose requests go to two servers, with clocks that differ by
// up to the leeway, keeps the session through double clicks.
func TestOwnerOnTwoServers(t *testing.T) {
	const leeway = 5 * time.Second
	for _, ahead := range []time.Duration{-leeway, -time.Millisecond, time.Millisecond, leeway} {
		for _, after := range []time.Duration{0, time.Second, renew.DefaultReuseLeeway} {
			t.Run(ahead.String()+" after "+after.String(), func(t *testing.T) {
				f := newFixture(t, renew.WithLeeway(leeway))
				servers := []*renew.Renewer{f.Renewer, f.server(ahead, renew.WithLeeway(leeway))}
				b := f.issue()
				for i := range 6 {
					next, err := servers[i%2].Renew(f.ctx, f.request(b))
					require.NoError(t, err)
					f.clock.Move(after)
					_, err = servers[(i+1)%2].Renew(f.ctx, f.request(b))
					requireRejected(t, err, renew.ReasonSuperseded)
					b = next
				}
			})
		}
	}
}
