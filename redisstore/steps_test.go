package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
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
	for _, c := range fleettest.Steps(s) {
		t.Run(c.Name, func(t *testing.T) {
			for at := 0; ; at++ {
				require.NoError(t, direct.FlushAll(ctx).Err())
				other := f.tokens(t, direct)
				if c.Had {
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
				err := c.Do(ctx, store)
				fleettest.RequireConsistent(t, other, s)
				requireTidied(t, direct, other)
				fleettest.RequireUsable(t, other, s)
				if err == nil {
					require.Positive(t, at)
					return
				}
				require.ErrorIs(t, err, errKilled)
			}
		})
	}
}

// requireTidied checks that nothing is left when all sessions are deleted and a listing
// has seen the entries of a day ago, but what goes by itself.
func requireTidied(t *testing.T, client redis.UniversalClient, store *redisstore.TokenStore) {
	t.Helper()
	ctx := t.Context()
	age(t, client)
	for _, subject := range []string{"subject", "other"} {
		_, err := store.SubjectSessions(ctx, testApp, subject, base)
		require.NoError(t, err)
	}
	n, err := store.DeleteExpired(ctx, base.AddDate(2, 0, 0), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	left, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	for _, key := range left {
		require.Regexp(t, ":deleted$", key)
		require.Positive(t, client.TTL(ctx, key).Val())
	}
}

// TestListingWhileCreating promises that a listing which finds the entry of a session
// that is being created does not lose it, whenever the listing reads and deletes stale
// entries, also when the creator is killed after it has stored the session.
func TestListingWhileCreating(t *testing.T) {
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	s := newSession("session")
	for _, step := range []struct{ read, tidy int }{{1, 1}, {1, 2}, {2, 2}} {
		flush(t, direct)
		lister, creator := f.client(t), f.client(t)
		reading, creating := f.tokens(t, lister), f.tokens(t, creator)
		// The creator has sent so many of its commands when the lister has read, and
		// so many when it deletes stale entries. It is killed after the second one.
		advance := make(chan struct{}, 3)
		advanced := make(chan struct{}, 3)
		commands := 0
		creator.AddHook(around{func(send func() error) error {
			if commands++; commands > 2 {
				return errKilled
			}
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
		listing := 0
		lister.AddHook(around{func(send func() error) error {
			switch listing++; listing { // index, session, stale entries
			case 1:
				until(1)
			case 3:
				until(step.tidy)
			}
			err := send()
			if listing == 2 {
				until(step.read)
			}
			return err
		}})
		_, err := reading.SubjectSessions(ctx, testApp, s.Subject, base)
		require.NoError(t, err)
		until(2)
		require.NoError(t, <-created)
		listed, err := f.tokens(t, direct).SubjectSessions(ctx, testApp, s.Subject, base)
		require.NoError(t, err)
		require.Len(t, listed, 1, "read after %d commands, tidied after %d", step.read, step.tidy)
	}
}

// TestListingThroughRestart promises that a listing and a revocation of all sessions of
// a subject are complete when the server is replaced, or starts again, between two of
// their pages.
func TestListingThroughRestart(t *testing.T) {
	const sessions = 3000
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	store := f.tokens(t, direct)
	var all sync.WaitGroup
	for first := range 32 {
		all.Go(func() {
			for i := first; i < sessions; i += 32 {
				if err := store.CreateSession(ctx, newSession(fmt.Sprintf("%032d", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	client, scans := f.client(t), 0
	interrupted := f.tokens(t, client)
	client.AddHook(onScan{func() {
		if scans++; scans%4 == 3 && scans < 8 {
			f.kill()
			f.start(t)
		}
	}})
	listed, err := interrupted.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Equal(t, sessions, len(listed)) // Len would print them
	scans = 0
	n, err := interrupted.RevokeSubject(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Equal(t, sessions, n)
	require.Greater(t, scans, 7)
}

// onScan calls f before each command that is not in a pipeline.
type onScan struct{ f func() }

func (h onScan) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h onScan) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.f()
		return next(ctx, cmd)
	}
}

func (h onScan) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestRepeatedAfterOthers promises that a client's repetition finds its own write when
// up to 15 others have written since, and changes nothing then; that the outcome of one
// that more have overtaken is an unclear error; and that another call is not a
// repetition.
func TestRepeatedAfterOthers(t *testing.T) {
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	other := f.tokens(t, direct)
	s := newSession("session")
	next := successor(s)
	for _, c := range []struct {
		name      string
		login     bool // and not a rotation
		overtaken int
		after     func(s renew.Session) renew.Session
	}{
		{"a rotation, none", false, 0, successor},
		{"a rotation, three rotations", false, 3, successor},
		{"a rotation, fifteen rotations", false, 15, successor},
		{"a rotation, fifteen confirmations", false, 15, renew.Session.Clone},
		{"a rotation, sixteen rotations", false, 16, successor},
		{"a rotation, a hundred rotations", false, 100, successor},
		{"a login, fifteen rotations", true, 15, successor},
		{"a login, sixteen rotations", true, 16, successor},
	} {
		t.Run(c.name, func(t *testing.T) {
			flush(t, direct)
			client := f.client(t)
			store := f.tokens(t, client)
			do := func() error { return store.Rotate(ctx, s.TokenID, next) }
			last, command, taken := next, 1, renew.ErrConflict
			if c.login {
				do = func() error { return store.CreateSession(ctx, s) }
				last, command, taken = s, 2, renew.ErrSessionExists
			} else {
				require.NoError(t, other.CreateSession(ctx, s))
			}
			repeatAfter(client, command, func() {
				for range c.overtaken {
					after := c.after(last)
					if err := other.Rotate(ctx, last.TokenID, after); err != nil {
						t.Error(err)
					}
					last = after
				}
			})
			err := do()
			if c.overtaken < 16 {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "the outcome is unknown")
				fleettest.RequireNotNamed(t, err, "it was its own write")
			}
			require.ErrorIs(t, do(), taken, "another call is not a repetition")
			got, err := other.Session(ctx, testApp, s.ID)
			require.NoError(t, err)
			require.Equal(t, last, got)
		})
	}
}

// TestRepeatedDeletion promises that a repeated deletion returns how many sessions the
// first one has deleted, and an unclear error, not a smaller number, if another process
// has deleted more in the same shard since.
func TestRepeatedDeletion(t *testing.T) {
	f := oneServer(t)
	ctx, direct := t.Context(), f.client(t)
	other := f.tokens(t, direct)
	before := base.AddDate(1, 0, 0)
	shard, ids := twoOfAShard(t, other, direct)
	for name, others := range map[string]int{"alone": 0, "another process": 1} {
		t.Run(name, func(t *testing.T) {
			flush(t, direct)
			for _, id := range ids {
				require.NoError(t, other.CreateSession(ctx, newSession(id)))
			}
			client := f.client(t)
			store := f.tokens(t, client)
			const shardsAtOnce = 32 // read by one pipeline
			repeatAfter(client, int(shard)/shardsAtOnce+2, func() {
				n, err := other.DeleteExpired(ctx, before, others)
				if n != others || err != nil {
					t.Error(n, err)
				}
			})
			n, err := store.DeleteExpired(ctx, before, 1)
			if others == 0 {
				require.NoError(t, err)
				require.Equal(t, 1, n)
				return
			}
			require.ErrorContains(t, err, "the outcome is unknown")
			require.Zero(t, n)
		})
	}
}

// twoOfAShard creates sessions until two are in one shard, and returns it and their IDs.
func twoOfAShard(t *testing.T, store *redisstore.TokenStore, direct redis.UniversalClient) (shard uint64, ids []string) {
	t.Helper()
	byShard := map[string][]string{}
	for i := 0; ; i++ {
		id := fmt.Sprintf("s%d", i)
		require.NoError(t, store.CreateSession(t.Context(), newSession(id)))
		keys, err := direct.Keys(t.Context(), "renew:{*}:session:3:app:"+id).Result()
		require.NoError(t, err)
		require.Len(t, keys, 1)
		tag := keys[0][len("renew:{"):strings.Index(keys[0], "}")]
		if byShard[tag] = append(byShard[tag], id); len(byShard[tag]) == 2 {
			shard, err := strconv.ParseUint(tag, 16, 16)
			require.NoError(t, err)
			return shard, byShard[tag]
		}
	}
}

// repeatAfter has the client send its nth command twice, as if the first reply was lost,
// and calls f in between.
func repeatAfter(client redis.UniversalClient, n int, f func()) {
	commands := 0
	client.AddHook(around{func(send func() error) error {
		err := send()
		if commands++; commands != n || err != nil {
			return err
		}
		f()
		return send()
	}})
}
