package renew_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// The promise: where no pair can be made, there is no session either.
func TestIssueThatFailsLeavesNoSession(t *testing.T) {
	for name, c := range map[string]struct {
		config   fixtureConfig
		sabotage func(f *fixture)
	}{
		"no signing key": {
			config: fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
				return &brokenKeys{KeyStore: s, signing: func(*renew.SigningKey) (*renew.SigningKey, error) { return nil, renew.ErrKeyNotFound }}
			}},
		},
		"a signing key that is nil": {
			config: fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
				return &brokenKeys{KeyStore: s, signing: func(*renew.SigningKey) (*renew.SigningKey, error) { return nil, nil }}
			}},
		},
		"a clock past what a ULID can hold": {
			sabotage: func(f *fixture) { f.clock.now = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.config.new(t)
			if c.sabotage != nil {
				c.sabotage(f)
			}
			f.hooks.calls()
			b, err := f.Issue(f.ctx, f.issueRequest())
			require.Nil(t, b)
			requireInternal(t, err)
			require.Equal(t, [4]int64{}, f.hooks.calls())
			require.Empty(t, f.events.take())
		})
	}
}

// failingCreate is a TokenStore that creates no session.
type failingCreate struct {
	*memstore.Store
	err error
}

func (s failingCreate) CreateSession(context.Context, renew.Session) error { return s.err }

// The promise: no one gets tokens of a session that was not stored.
func TestIssueWithoutASessionGivesNoTokens(t *testing.T) {
	for _, cause := range []error{errOutage, renew.ErrSessionExists, context.Canceled} {
		f := newFixture(t)
		r, err := renew.New(f.store, failingCreate{f.store, cause}, renew.WithEventFunc(f.events.add))
		require.NoError(t, err)
		b, err := r.Issue(f.ctx, f.issueRequest())
		require.Nil(t, b)
		requireInternal(t, err)
		require.ErrorIs(t, err, cause)
		require.Empty(t, f.events.take())
	}
}

// createHook is a TokenStore whose CreateSession a test steps into.
type createHook struct {
	*memstore.Store
	create func(do func() error) error
}

func (h *createHook) CreateSession(ctx context.Context, s renew.Session) error {
	return h.create(func() error { return h.Store.CreateSession(ctx, s) })
}

// The promise: a login that fails shows no device that no one has, also where the
// row is there and only its reply was lost.
func TestFailedLoginShowsNoDevice(t *testing.T) {
	for name, create := range map[string]func(do func() error) error{
		"the reply is lost":         func(do func() error) error { return errors.Join(do(), errOutage) },
		"the statement is repeated": func(do func() error) error { return errors.Join(do(), do()) },
		"nothing is stored":         func(func() error) error { return errOutage },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			r, err := renew.New(f.store, &createHook{f.store, create}, renew.WithClock(f.clock.Now), renew.WithEventFunc(f.events.add))
			require.NoError(t, err)
			b, err := r.Issue(f.ctx, f.issueRequest())
			requireInternal(t, err)
			require.Nil(t, b)
			require.Empty(t, f.events.take())
			sessions, err := f.Sessions(f.ctx, f.app.ID, f.issueRequest().Subject)
			require.NoError(t, err)
			require.Empty(t, sessions)
		})
	}
	t.Run("a session of someone else under that ID stays", func(t *testing.T) {
		f := newFixture(t)
		var theirs renew.Session
		hook := &createHook{Store: f.store}
		hook.create = func(func() error) error { return renew.ErrSessionExists }
		r, err := renew.New(f.store, sameID{hook, &theirs}, renew.WithClock(f.clock.Now))
		require.NoError(t, err)
		_, err = r.Issue(f.ctx, f.issueRequest())
		requireInternal(t, err)
		s, err := f.store.Session(f.ctx, f.app.ID, theirs.ID)
		require.NoError(t, err)
		require.True(t, s.RevokedAt.IsZero())
	})
}

// sameID stores another session under the ID of each new one.
type sameID struct {
	*createHook
	theirs *renew.Session
}

func (h sameID) CreateSession(ctx context.Context, s renew.Session) error {
	*h.theirs = s
	h.theirs.TokenID = ulid.Make().String()
	if err := h.Store.CreateSession(ctx, *h.theirs); err != nil {
		return err
	}
	return h.createHook.CreateSession(ctx, s)
}

// The promise: a subject never has more live sessions than the app allows, and it
// is the oldest that end.
func TestMaxSessions(t *testing.T) {
	limited := func(n int) fixtureConfig { return fixtureConfig{app: func(a *renew.App) { a.MaxSessions = n }} }
	live := func(f *fixture) (ids []string) {
		sessions, err := f.Sessions(f.ctx, f.app.ID, "user@example.com")
		require.NoError(t, err)
		for _, s := range sessions {
			ids = append(ids, s.ID)
		}
		slices.Sort(ids)
		return ids
	}
	t.Run("one after the other, in one instant", func(t *testing.T) {
		f := limited(2).new(t)
		var ids []string
		for range 5 {
			ids = append(ids, f.issue().SessionID)
			require.Equal(t, ids[max(0, len(ids)-2):], live(f))
		}
		require.IsIncreasing(t, ids)
	})
	t.Run("on servers whose clocks differ", func(t *testing.T) {
		f := limited(1).new(t)
		for _, step := range []time.Duration{time.Minute, -2 * time.Minute, 30 * time.Second, -time.Hour} {
			f.clock.Move(step)
			b := f.issue()
			require.Equal(t, []string{b.SessionID}, live(f))
			f.renew(b)
		}
	})
	t.Run("at the same time", func(t *testing.T) {
		f := limited(3).new(t)
		var logins sync.WaitGroup
		for range 20 {
			logins.Go(func() {
				_, err := f.Issue(f.ctx, f.issueRequest())
				if err != nil {
					t.Error(err)
				}
			})
		}
		logins.Wait()
		require.Len(t, live(f), 3)
	})
	t.Run("another subject's sessions do not count", func(t *testing.T) {
		f := limited(1).new(t)
		req := f.issueRequest()
		req.Subject = "another@example.com"
		theirs, err := f.Issue(f.ctx, req)
		require.NoError(t, err)
		f.issue()
		f.renew(theirs)
	})
	t.Run("needs a SubjectStore, before anything is stored", func(t *testing.T) {
		f := limited(1).new(t)
		r, err := renew.New(f.store, bare{TokenStore: f.hooks}, renew.WithClock(f.clock.Now))
		require.NoError(t, err)
		_, err = r.Issue(f.ctx, f.issueRequest())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.Equal(t, [4]int64{}, f.hooks.calls())
	})
	t.Run("a renewal makes no session younger", func(t *testing.T) {
		f := limited(2).new(t)
		first, second := f.issue(), f.issue()
		f.clock.Move(time.Minute)
		first = f.renew(first)
		f.events.take()
		third := f.issue()
		require.Equal(t, []renew.EventKind{renew.EventRevoked, renew.EventIssued}, f.events.kinds())
		f.rejected(first, renew.ReasonRevokedSession)
		f.renew(second)
		f.renew(third)
	})
	t.Run("lowered, it ends all that are too many", func(t *testing.T) {
		f := newFixture(t)
		for range 10 {
			f.issue()
		}
		f.app.MaxSessions = 3
		require.NoError(t, f.store.UpdateApp(f.ctx, f.app))
		last := f.issue()
		require.Len(t, live(f), 3)
		f.renew(last)
	})
	t.Run("a revocation that fails is an internal error, and no session is left of the login", func(t *testing.T) {
		f := limited(1).new(t)
		first := f.issue()
		f.hooks.revoke = func(context.Context, func() error) error {
			f.hooks.revoke = nil
			return errOutage
		}
		f.events.take()
		_, err := f.Issue(f.ctx, f.issueRequest())
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		require.Empty(t, f.events.take())
		require.Equal(t, []string{first.SessionID}, live(f))
	})
	t.Run("a list that fails is an internal error, and no session is left", func(t *testing.T) {
		f := limited(1).new(t)
		r, err := renew.New(f.store, failingSubjects{f.store}, renew.WithClock(f.clock.Now))
		require.NoError(t, err)
		_, err = r.Issue(f.ctx, f.issueRequest())
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		require.Empty(t, live(f))
	})
}
