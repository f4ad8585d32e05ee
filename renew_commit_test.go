package renew_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
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

// The promise: whatever an error of the store hides, there is one successor, and a
// client that repeats its request with the idempotency key has it. No outcome of a
// commit is reuse.
func TestCommit(t *testing.T) {
	type do = func() error
	lost := func(do do) error { return errors.Join(do(), errOutage) } // the reply is lost
	down := func(do) error { return errOutage }
	repeated := func(do do) error { // the driver sends the statement twice
		if err := do(); err != nil {
			return err
		}
		return do()
	}
	plain := func(do do) error { return do() }
	for _, c := range []struct {
		name    string
		rotates []func(do) error
		unknown bool // an internal error
		reads   int64
	}{
		{name: "done", rotates: []func(do) error{plain}, reads: 1},
		{name: "unclear, happened", rotates: []func(do) error{lost, plain}, reads: 2},
		{name: "unclear, not happened", rotates: []func(do) error{down, plain}, reads: 2},
		{name: "unclear, not happened, and the reply of the repetition is lost", rotates: []func(do) error{down, lost, plain}, reads: 3},
		{name: "unclear, not happened, and the repetition conflicts with itself", rotates: []func(do) error{down, repeated, plain}, reads: 3},
		{name: "a conflict with itself", rotates: []func(do) error{repeated, plain}, reads: 2},
		{name: "a conflict with itself whose confirmation does too", rotates: []func(do) error{repeated, repeated}, reads: 2},
		{name: "unclear, happened, and the confirmation is unclear", rotates: []func(do) error{lost, down}, unknown: true, reads: 2},
		{name: "unclear twice, not happened", rotates: []func(do) error{down, down}, unknown: true, reads: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			first := f.issue()
			f.hooks.calls()
			f.events.take()
			n := 0
			f.hooks.rotate = func(_ context.Context, do func() error) error {
				require.Less(t, n, len(c.rotates), "a rotation too many")
				n++
				return c.rotates[n-1](do)
			}
			second, err := f.renewWith(first, testKey1)
			require.Equal(t, len(c.rotates), n)
			require.Equal(t, [4]int64{0, c.reads, int64(n), 0}, f.hooks.calls())
			if c.unknown {
				requireInternal(t, err)
				require.ErrorIs(t, err, errOutage)
				require.ErrorContains(t, err, "unknown")
				require.Empty(t, f.events.take())
			} else {
				require.NoError(t, err)
				require.False(t, second.Retried)
				require.Equal(t, second.TokenID, f.session(first).TokenID)
				require.Equal(t, []renew.EventKind{renew.EventRenewed}, f.events.kinds())
			}
			f.hooks.rotate = nil
			again, err := f.renewWith(first, testKey1)
			require.NoError(t, err)
			if second != nil {
				requireSamePair(t, second, again)
			}
			require.EqualValues(t, 1, f.session(first).Generation)
			f.renew(again)
		})
	}
}

// The promise: a write that outlives its connection is not treated as another
// client's, whenever it happens: before the row is read, before the statement is
// repeated, or after all of it.
func TestCommitThatHappensLater(t *testing.T) {
	t.Run("before it is repeated", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		var late func() error
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			switch {
			case late == nil:
				late = do
				return errOutage
			case f.session(first).TokenID == first.TokenID:
				require.NoError(t, late())
			}
			return do()
		}
		second := f.renew(first)
		require.Equal(t, second.TokenID, f.session(first).TokenID)
		f.hooks.rotate = nil
		f.renew(second)
	})
	t.Run("after the response", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.outlives = true
		var late []func() error
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			late = append(late, do)
			return errOutage
		}
		_, err := f.renewWith(first, testKey1)
		requireInternal(t, err)
		require.Len(t, late, 2)
		require.NoError(t, late[0]())
		require.ErrorIs(t, late[1](), renew.ErrConflict, "the repetition is of the same rotation")
		f.hooks.rotate = nil
		again, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		require.True(t, again.Retried)
		f.renew(again)
	})
	t.Run("after the client has tried again", func(t *testing.T) {
		f := newFixture(t)
		first := f.issue()
		f.hooks.outlives = true
		var late []func() error
		f.hooks.rotate = func(_ context.Context, do func() error) error {
			late = append(late, do)
			return errOutage
		}
		_, err := f.renewWith(first, testKey1)
		requireInternal(t, err)
		f.hooks.rotate = nil
		second, err := f.renewWith(first, testKey1)
		require.NoError(t, err)
		for _, do := range late {
			require.ErrorIs(t, do(), renew.ErrConflict)
		}
		f.renew(second)
	})
}

// What happens to the session between a rotation that happened and its
// confirmation decides.
func TestCommitThatIsOvertaken(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *fixture, first, second *renew.Bundle)
		reason renew.Reason
	}{
		{"by a revocation", func(f *fixture, first, _ *renew.Bundle) {
			require.NoError(f.t, f.RevokeSession(f.ctx, f.app.ID, first.SessionID))
		}, renew.ReasonRevokedSession},
		{"by a deletion", func(f *fixture, _, _ *renew.Bundle) {
			_, err := f.store.DeleteExpired(f.ctx, epoch.Add(24*time.Hour), 1)
			require.NoError(f.t, err)
		}, renew.ReasonUnknownSession},
		{"by a renewal of the successor", func(f *fixture, _, second *renew.Bundle) { f.renew(second) }, renew.ReasonSuperseded},
		{"by two renewals of the successor", func(f *fixture, _, second *renew.Bundle) { f.renew(f.renew(second)) }, renew.ReasonSuperseded},
	} {
		for _, before := range []string{"read", "confirmation"} {
			t.Run(c.name+", before the "+before, func(t *testing.T) {
				f := newFixture(t, renew.WithReuseLeeway(0))
				first := f.issue()
				change := func() {
					f.hooks.rotate, f.hooks.session = nil, nil
					second, err := f.renewWith(first, testKey1) // another tab has its key
					require.NoError(t, err)
					c.change(f, first, second)
				}
				f.hooks.rotate = func(_ context.Context, do func() error) error {
					require.NoError(t, do())
					if before == "read" {
						change()
						return errOutage
					}
					f.hooks.rotate = func(_ context.Context, do func() error) error {
						change()
						return do()
					}
					return errOutage
				}
				_, err := f.renewWith(first, testKey1)
				requireRejected(t, err, c.reason)
				if c.reason == renew.ReasonSuperseded {
					require.True(t, f.session(first).RevokedAt.IsZero(), "promise 4: an owner is not punished")
				}
			})
		}
	}
}

// The promise: a commit does not end with the request, but after 5 seconds.
func TestCommitEndsAfterFiveSeconds(t *testing.T) {
	for _, kind := range []string{"renewal", "retry"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				first := f.issue()
				if kind == "retry" {
					_, err := f.renewWith(first, testKey1)
					require.NoError(t, err)
				}
				ctx, hangUp := context.WithTimeout(f.ctx, time.Second)
				defer hangUp()
				f.hooks.rotate = func(ctx context.Context, _ func() error) error {
					<-ctx.Done()
					return ctx.Err()
				}
				req := f.request(first)
				req.IdempotencyKey = testKey1
				began := time.Now()
				_, err := f.Renew(ctx, req)
				requireInternal(t, err)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 5*time.Second, time.Since(began))
				f.hooks.rotate = nil
				_, err = f.renewWith(first, testKey1)
				require.NoError(t, err)
			})
		})
	}
}

// canceler cancels a context before or after one of the calls of the stores.
type canceler struct {
	cancel context.CancelFunc
	at     int // the call, from 0
	after  bool
	calls  []string
}

func (c *canceler) call(name string, do func() error) error {
	n := len(c.calls)
	c.calls = append(c.calls, name)
	if n == c.at && !c.after {
		c.cancel()
	}
	err := do()
	if n == c.at && c.after {
		c.cancel()
	}
	return err
}

type cancelingKeys struct {
	renew.KeyStore
	c *canceler
}

func (k cancelingKeys) App(ctx context.Context, id string) (a renew.App, err error) {
	err = k.c.call("App", func() error { a, err = k.KeyStore.App(ctx, id); return err })
	return a, err
}

func (k cancelingKeys) SigningKey(ctx context.Context, id string) (key *renew.SigningKey, err error) {
	err = k.c.call("SigningKey", func() error { key, err = k.KeyStore.SigningKey(ctx, id); return err })
	return key, err
}

func (k cancelingKeys) VerificationKey(ctx context.Context, id, kid string) (key *renew.VerificationKey, err error) {
	err = k.c.call("VerificationKey", func() error { key, err = k.KeyStore.VerificationKey(ctx, id, kid); return err })
	return key, err
}

type cancelingTokens struct {
	*memstore.Store
	c *canceler
}

func (k cancelingTokens) CreateSession(ctx context.Context, s renew.Session) error {
	return k.c.call("CreateSession", func() error { return k.Store.CreateSession(ctx, s) })
}

func (k cancelingTokens) Session(ctx context.Context, app, id string) (s renew.Session, err error) {
	err = k.c.call("Session", func() error { s, err = k.Store.Session(ctx, app, id); return err })
	return s, err
}

func (k cancelingTokens) Rotate(ctx context.Context, from string, next renew.Session) error {
	return k.c.call("Rotate", func() error { return k.Store.Rotate(ctx, from, next) })
}

func (k cancelingTokens) RevokeSession(ctx context.Context, app, id string, at time.Time) error {
	return k.c.call("RevokeSession", func() error { return k.Store.RevokeSession(ctx, app, id, at) })
}

func (k cancelingTokens) RevokeSubject(ctx context.Context, app, subject string, at time.Time, keep ...string) (n int, err error) {
	err = k.c.call("RevokeSubject", func() error {
		n, err = k.Store.RevokeSubject(ctx, app, subject, at, keep...)
		return err
	})
	return n, err
}

// The promise: a client that hangs up leaves nothing half done. Until the last
// write nothing has changed and there is no event; from there on all is done.
func TestClientThatHangsUpAtAnyCall(t *testing.T) {
	type run = func(r *renew.Renewer, ctx context.Context, f *fixture, b *renew.Bundle) error
	renewal := func(r *renew.Renewer, ctx context.Context, f *fixture, b *renew.Bundle) error {
		req := f.request(b)
		req.IdempotencyKey = testKey1
		_, err := r.Renew(ctx, req)
		return err
	}
	for _, c := range []struct {
		name  string
		setUp func(f *fixture, b *renew.Bundle)
		run   run
		calls string
		point int // the call that is made although the client has hung up before it
		event renew.EventKind
		done  error // of the run, if it is done
	}{
		{
			name: "a login", calls: "App SigningKey CreateSession", point: 2, event: renew.EventIssued,
			run: func(r *renew.Renewer, ctx context.Context, f *fixture, _ *renew.Bundle) error {
				_, err := r.Issue(ctx, f.issueRequest())
				return err
			},
		},
		{name: "a renewal", calls: "App VerificationKey Session SigningKey Rotate", point: 4, event: renew.EventRenewed, run: renewal},
		{
			name: "a retry", calls: "App VerificationKey Session SigningKey Rotate", point: 4, event: renew.EventRetried, run: renewal,
			setUp: func(f *fixture, b *renew.Bundle) {
				_, err := f.renewWith(b, testKey1)
				require.NoError(f.t, err)
			},
		},
		{
			name: "reuse", calls: "App VerificationKey Session RevokeSession", point: 3, event: renew.EventReused, run: renewal,
			setUp: func(f *fixture, b *renew.Bundle) { f.renew(f.renew(b)); f.clock.Move(time.Minute) },
			done:  renew.ErrInvalidRefreshToken,
		},
		{
			name: "a logout", calls: "App VerificationKey Session RevokeSession", point: 3, event: renew.EventRevoked,
			run: func(r *renew.Renewer, ctx context.Context, f *fixture, b *renew.Bundle) error {
				return r.Revoke(ctx, f.app.ID, b.RefreshToken)
			},
		},
		{
			name: "a session revoked by its user", calls: "Session RevokeSession", point: 1, event: renew.EventRevoked,
			run: func(r *renew.Renewer, ctx context.Context, f *fixture, b *renew.Bundle) error {
				return r.RevokeSubjectSession(ctx, f.app.ID, "user@example.com", b.SessionID)
			},
		},
		{
			name: "all sessions of a user", calls: "RevokeSubject", point: 0, event: renew.EventRevoked,
			run: func(r *renew.Renewer, ctx context.Context, f *fixture, _ *renew.Bundle) error {
				_, err := r.RevokeSubject(ctx, f.app.ID, "user@example.com")
				return err
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for at := range 2 * len(strings.Fields(c.calls)) {
				f := newFixture(t)
				b := f.issue()
				if c.setUp != nil {
					c.setUp(f, b)
				}
				sessions := func() []renew.Session {
					all, err := f.store.SubjectSessions(f.ctx, f.app.ID, "user@example.com", f.clock.Now())
					require.NoError(t, err)
					return all
				}
				before := sessions()
				ctx, cancel := context.WithCancel(f.ctx)
				hangs := &canceler{cancel: cancel, at: at / 2, after: at%2 == 1}
				r, err := renew.New(cancelingKeys{f.store, hangs}, cancelingTokens{f.store, hangs},
					renew.WithClock(f.clock.Now), renew.WithEventFunc(f.events.add))
				require.NoError(t, err)
				f.events.take()
				err = c.run(r, ctx, f, b)
				if at < 2*c.point && !(c.done != nil && at == 2*c.point-1) { // reuse is judged after its read, without more calls
					require.ErrorIs(t, err, context.Canceled, "call %d", at)
					requireInternal(t, err)
					require.Equal(t, before, sessions())
					require.Empty(t, f.events.take())
					continue
				}
				require.ErrorIs(t, err, c.done, "call %d", at)
				require.Equal(t, c.calls, strings.Join(hangs.calls, " "))
				require.Contains(t, f.events.kinds(), c.event)
			}
		})
	}
}
