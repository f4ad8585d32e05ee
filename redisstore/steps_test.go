package redisstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/redisstore"
)

var errKilled = errors.New("the process was killed")

// around is a hook that has f decide about each command and pipeline.
type around struct{ f func(send func() error) error }

func (h around) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h around) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := h.f(func() error { return next(ctx, cmd) })
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	}
}

func (h around) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := h.f(func() error { return next(ctx, cmds) })
		if errors.Is(err, errKilled) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// TestKilledBetweenSteps promises that a process which is killed between two of its
// commands, wherever that is, leaves nothing that another process sees as wrong: a
// session is there as a whole with its entry in the subject's index, or not; and what
// is left is tidied.
func TestKilledBetweenSteps(t *testing.T) {
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	s := newSession("session")
	moved := successor(s)
	moved.Subject = "other"
	for _, c := range []struct {
		name string
		had  bool // the session is there before
		call func(store *redisstore.TokenStore) error
	}{
		{"CreateSession", false, func(store *redisstore.TokenStore) error { return store.CreateSession(ctx, s) }},
		{"Rotate", true, func(store *redisstore.TokenStore) error { return store.Rotate(ctx, s.TokenID, successor(s)) }},
		{"Rotate to another subject", true, func(store *redisstore.TokenStore) error { return store.Rotate(ctx, s.TokenID, moved) }},
		{"RevokeSubject", true, func(store *redisstore.TokenStore) error {
			_, err := store.RevokeSubject(ctx, testApp, s.Subject, base)
			return err
		}},
		{"DeleteExpired", true, func(store *redisstore.TokenStore) error {
			_, err := store.DeleteExpired(ctx, base.AddDate(1, 0, 0), 10)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for at := 0; ; at++ {
				require.NoError(t, direct.FlushAll(ctx).Err())
				other := f.tokens(t, direct)
				if c.had {
					require.NoError(t, other.CreateSession(ctx, s))
				}
				client, sent := f.client(t), 0
				store := f.tokens(t, client)
				client.AddHook(around{func(send func() error) error {
					if sent++; sent > at {
						return errKilled
					}
					return send()
				}})
				err := c.call(store)
				requireConsistent(t, direct, other, s)
				if err == nil {
					require.Positive(t, at)
					return
				}
				require.ErrorIs(t, err, errKilled)
			}
		})
	}
}

// requireConsistent checks what a process sees after another was killed, and that all
// can go on from there.
func requireConsistent(t *testing.T, client redis.UniversalClient, store *redisstore.TokenStore, s renew.Session) {
	t.Helper()
	ctx := t.Context()
	got, err := store.Session(ctx, testApp, s.ID)
	there := err == nil
	if !there {
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
	}
	for _, subject := range []string{s.Subject, "other"} {
		listed, err := store.SubjectSessions(ctx, testApp, subject, base)
		require.NoError(t, err)
		if there && got.Subject == subject && got.RevokedAt.IsZero() {
			require.Equal(t, []renew.Session{got}, listed)
		} else {
			require.Empty(t, listed)
		}
	}
	if there {
		require.ErrorIs(t, store.CreateSession(ctx, s), renew.ErrSessionExists)
		n, err := store.DeleteExpired(ctx, base.AddDate(2, 0, 0), 10)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	for _, subject := range []string{s.Subject, "other"} {
		_, err := store.SubjectSessions(ctx, testApp, subject, base)
		require.NoError(t, err)
	}
	_, err = store.DeleteExpired(ctx, base.AddDate(2, 0, 0), 10)
	require.NoError(t, err)
	left, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Empty(t, left, "what a killed process leaves is tidied")
	require.NoError(t, store.CreateSession(ctx, s))
	listed, err := store.SubjectSessions(ctx, testApp, s.Subject, base)
	require.NoError(t, err)
	require.Len(t, listed, 1)
}

// TestListingWhileCreating promises that a listing which finds the entry of a session
// that is being created does not lose it, whenever the listing reads and tidies.
func TestListingWhileCreating(t *testing.T) {
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	s := newSession("session")
	for _, step := range []struct{ read, tidy int }{{1, 1}, {1, 2}, {1, 3}, {2, 2}, {2, 3}} {
		require.NoError(t, direct.FlushAll(ctx).Err())
		lister, creator := f.client(t), f.client(t)
		reading, creating := f.tokens(t, lister), f.tokens(t, creator)
		// The creator has sent so many of its three commands when the lister has
		// read, and so many when it tidies.
		advance := make(chan struct{}, 3)
		advanced := make(chan struct{}, 3)
		creator.AddHook(around{func(send func() error) error {
			<-advance
			err := send()
			advanced <- struct{}{}
			return err
		}})
		created := make(chan error, 1)
		go func() { created <- creating.CreateSession(ctx, s) }()
		sent := 0
		until := func(n int) {
			for ; sent < n; sent++ {
				advance <- struct{}{}
				<-advanced
			}
		}
		commands := 0
		lister.AddHook(around{func(send func() error) error {
			switch commands++; commands { // index, session, tidying
			case 1:
				until(1)
			case 3:
				until(step.tidy)
			}
			err := send()
			if commands == 2 {
				until(step.read)
			}
			return err
		}})
		_, err := reading.SubjectSessions(ctx, testApp, s.Subject, base)
		require.NoError(t, err)
		until(3)
		require.NoError(t, <-created)
		listed, err := f.tokens(t, direct).SubjectSessions(ctx, testApp, s.Subject, base)
		require.NoError(t, err)
		require.Len(t, listed, 1, "read after %d commands, tidied after %d", step.read, step.tidy)
	}
}

// TestRepeatedAfterOthers promises that a client's repetition finds its own write when
// others have written since, and changes nothing then.
func TestRepeatedAfterOthers(t *testing.T) {
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	for _, overtaken := range []int{0, 1, 3} {
		require.NoError(t, direct.FlushAll(ctx).Err())
		other, client := f.tokens(t, direct), f.client(t)
		store := f.tokens(t, client)
		s := newSession("session")
		require.NoError(t, other.CreateSession(ctx, s))
		next := successor(s)
		last, done := next, false
		client.AddHook(around{func(send func() error) error {
			if done {
				return send()
			}
			done = true
			if err := send(); err != nil { // the reply is lost
				return err
			}
			for range overtaken {
				after := successor(last)
				require.NoError(t, other.Rotate(ctx, last.TokenID, after))
				last = after
			}
			return send()
		}})
		require.NoError(t, store.Rotate(ctx, s.TokenID, next), "overtaken by %d", overtaken)
		got, err := other.Session(ctx, testApp, s.ID)
		require.NoError(t, err)
		require.Equal(t, last, got)
		require.ErrorIs(t, store.Rotate(ctx, s.TokenID, next), renew.ErrConflict, "another call is not a repetition")
	}
}
