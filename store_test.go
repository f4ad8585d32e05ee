package renew_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func TestStoreFailures(t *testing.T) {
	t.Run("a read that fails is an internal error, and the token stays valid", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
			return renew.Session{}, errOutage
		}
		_, err := f.Renew(f.ctx, f.request(first))
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
		f.hooks.session = nil
		f.renew(first)
	})
	t.Run("a store that returns the wrong session is not believed", func(t *testing.T) {
		for name, mix := range map[string]func(*renew.Session){
			"ID":  func(s *renew.Session) { s.ID = s.TokenID },
			"app": func(s *renew.Session) { s.AppID = "app_2" },
		} {
			t.Run(name, func(t *testing.T) {
				f := newFixture(t)
				first := f.issue()
				f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
					s, err := do()
					mix(&s)
					return s, err
				}
				_, err := f.Renew(f.ctx, f.request(first))
				requireInternal(t, err)
			})
		}
	})
	t.Run("a session that cannot be stored is not issued", func(t *testing.T) {
		f := newFixture(t)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		b, err := f.Issue(ctx, f.issueRequest())
		requireInternal(t, err)
		require.Nil(t, b)
		sessions, err := f.Sessions(f.ctx, f.app.ID, f.issueRequest().Subject)
		require.NoError(t, err)
		require.Empty(t, sessions)
	})
}

// The promise: IDs that no session can have cost no store call, and are not
// quoted in an error, where they could forge a log line.
func TestIDsThatNoSessionCanHave(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	f.hooks.calls()
	f.events.take()
	for _, id := range []string{
		"", "x", "a\nlevel=ERROR msg=forged", "\xff", "\x00", strings.ToLower(b.SessionID), b.SessionID + " ", strings.Repeat("A", 1<<20), "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
	} {
		err := f.RevokeSession(f.ctx, f.app.ID, id)
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
		require.Equal(t, renew.ErrSessionNotFound.Error(), err.Error())
	}
	for _, name := range []string{"", "\xff", "\x00", "a\nb", strings.Repeat("A", 256)} {
		require.ErrorIs(t, f.RevokeSession(f.ctx, name, b.SessionID), renew.ErrSessionNotFound)
		for _, who := range [][2]string{{name, "user@example.com"}, {f.app.ID, name}} {
			sessions, err := f.Sessions(f.ctx, who[0], who[1])
			require.NoError(t, err)
			require.Empty(t, sessions)
			n, err := f.RevokeSubject(f.ctx, who[0], who[1])
			require.NoError(t, err)
			require.Zero(t, n)
		}
	}
	require.Equal(t, [4]int64{}, f.hooks.calls())
	require.Empty(t, f.events.take())
	f.renew(b)
}

// The promise: a store that mixes sessions up renews none of them, and proves
// none of them alive.
func TestStoreThatReturnsAnotherSession(t *testing.T) {
	for name, change := range map[string]func(s *renew.Session, other renew.Session){
		"of another ID":          func(s *renew.Session, other renew.Session) { s.ID = other.ID },
		"of another app":         func(s *renew.Session, _ renew.Session) { s.AppID = "app_2" },
		"altogether":             func(s *renew.Session, other renew.Session) { *s = other },
		"an empty one":           func(s *renew.Session, _ renew.Session) { *s = renew.Session{} },
		"of an ID in lower case": func(s *renew.Session, _ renew.Session) { s.ID = strings.ToLower(s.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			b, other := f.issue(), f.issue()
			f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
				s, err := do()
				change(&s, f.session(other))
				return s, err
			}
			_, err := f.Renew(f.ctx, f.request(b))
			requireInternal(t, err)
			_, err = f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
			requireInternal(t, err)
			require.Equal(t, [2]int64{0, 0}, [2]int64{f.hooks.rotates.Load(), f.hooks.revokes.Load()})
			f.hooks.session = nil
			f.renew(b)
			f.renew(other)
		})
	}
}

// failingSubjects is a SubjectStore that is down, in the middle of it.
type failingSubjects struct{ *memstore.Store }

func (failingSubjects) SubjectSessions(context.Context, string, string, time.Time) ([]renew.Session, error) {
	return nil, errOutage
}

func (failingSubjects) RevokeSubject(context.Context, string, string, time.Time, ...string) (int, error) {
	return 1, errOutage
}

// looseSubjects is a SubjectStore that takes one subject for another, as a database
// does whose collation ignores case.
type looseSubjects struct {
	*memstore.Store
	subject string
}

func (l looseSubjects) SubjectSessions(ctx context.Context, appID, _ string, at time.Time) ([]renew.Session, error) {
	return l.Store.SubjectSessions(ctx, appID, l.subject, at)
}

// The promise: no user sees another one's sessions, and no login ends them, though
// the store confuses the two.
func TestStoreThatReturnsAnotherSubjectsSessions(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) { a.MaxSessions = 1 }}.new(t)
	r, err := renew.New(f.store, looseSubjects{f.store, "USER@example.com"}, renew.WithClock(f.clock.Now))
	require.NoError(t, err)
	req := f.issueRequest()
	req.Subject = "USER@example.com"
	b, err := f.Issue(f.ctx, req)
	require.NoError(t, err)
	sessions, err := r.Sessions(f.ctx, f.app.ID, "user@example.com")
	requireInternal(t, err)
	require.Empty(t, sessions)
	_, err = r.Issue(f.ctx, f.issueRequest())
	requireInternal(t, err)
	f.renew(b)
}

// The promise: sessions that may not have been revoked are not reported as
// revoked.
func TestSubjectStoreThatFails(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(f.store, failingSubjects{f.store}, renew.WithEventFunc(f.events.add))
	require.NoError(t, err)
	n, err := r.RevokeSubject(f.ctx, f.app.ID, "user@example.com")
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	require.Equal(t, 1, n)
	require.Empty(t, f.events.take())
	_, err = r.Sessions(f.ctx, f.app.ID, "user@example.com")
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	for _, who := range [][2]string{{"\x00", "user@example.com"}, {f.app.ID, "\xff"}, {"", ""}} { // no store is asked for these
		sessions, err := r.Sessions(f.ctx, who[0], who[1])
		require.NoError(t, err)
		require.Empty(t, sessions)
		n, err := r.RevokeSubject(f.ctx, who[0], who[1])
		require.NoError(t, err)
		require.Zero(t, n)
	}
}

func TestOptionalInterfaces(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(bare{KeyStore: f.store}, bare{TokenStore: f.store})
	require.NoError(t, err)
	_, err = r.Sessions(f.ctx, f.app.ID, "s")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = r.RevokeSubject(f.ctx, f.app.ID, "s")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = r.KeySet(f.ctx, f.app.ID)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
