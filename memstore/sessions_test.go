package memstore

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// checkWhole fails the test if the store's maps, queues and lists disagree.
func checkWhole(t *testing.T, s *Store) {
	t.Helper()
	sessions, listed := 0, 0
	for i := range s.shards {
		sh := &s.shards[i]
		sessions += len(sh.records.entries)
		require.Len(t, sh.queue, len(sh.records.entries), "shard %d: sessions in the queue", i)
		for place, entry := range sh.queue {
			r := entry.record
			require.Equal(t, place, r.place)
			require.LessOrEqual(t, entry.ends, r.ends, "a session is in the queue too late")
			require.LessOrEqual(t, sh.queue[max(0, place-1)/2].ends, entry.ends, "the queue is no heap")
			require.Same(t, r, sh.records.get(r.key))
			require.Same(t, r, s.subjectShard(r.subject).records.get(subjectKey{r.key.appID, r.subject})[r.slot], "the subject's list")
		}
	}
	for i := range s.shards {
		queue := s.shards[i].queue
		for _, entry := range queue[len(queue):cap(queue)] {
			require.Zero(t, entry, "the queue keeps a session that is gone in memory")
		}
	}
	for i := range s.subjects {
		for _, list := range s.subjects[i].records.entries {
			require.NotEmpty(t, list)
			listed += len(list)
			for _, r := range list[len(list):cap(list)] {
				require.Nil(t, r, "a list keeps a session that is gone in memory")
			}
		}
	}
	require.Equal(t, sessions, listed, "sessions in the subjects' lists")
}

func count(s *Store) int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.records.entries)
		sh.mu.Unlock()
	}
	return n
}

// model is the store as the laws have it, and as slow as can be.
type model map[sessionKey]renew.Session

func (m model) rotate(from string, next renew.Session) error {
	key := sessionKey{next.AppID, next.ID}
	current, found := m[key]
	switch {
	case !found:
		return renew.ErrSessionNotFound
	case !current.RevokedAt.IsZero() || current.TokenID != from:
		return renew.ErrConflict
	}
	m[key] = next
	return nil
}

func (m model) revoke(key sessionKey, at time.Time) error {
	current, found := m[key]
	if !found {
		return renew.ErrSessionNotFound
	}
	if current.RevokedAt.IsZero() {
		current.RevokedAt = at
		m[key] = current
	}
	return nil
}

func (m model) live(appID, subject string, at time.Time) []renew.Session {
	var sessions []renew.Session
	for _, s := range m {
		if s.AppID == appID && s.Subject == subject && s.Live(at) {
			sessions = append(sessions, s)
		}
	}
	slices.SortFunc(sessions, func(a, b renew.Session) int {
		return -cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return sessions
}

func (m model) endedBefore(t time.Time) int {
	n := 0
	for _, s := range m {
		if s.EndedBefore(t) {
			n++
		}
	}
	return n
}

// The store does what the model does, through random creations, rotations (that
// end sooner, end later, change the subject), revocations and deletions.
func TestStoreAgreesWithModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s, m, now := New(), model{}, start
	pick := func(name string, n int) string { return fmt.Sprint(name, random.IntN(n)) }
	one := func() renew.Session {
		session := renew.Session{
			AppID:            pick("app", 2),
			ID:               pick("session", 300),
			Subject:          pick("subject", 20),
			TokenID:          pick("token", 3),
			CreatedAt:        now.Truncate(time.Hour),
			RefreshExpiresAt: now.Add(within(random, 100*time.Minute).Truncate(time.Millisecond)),
		}
		if random.IntN(4) == 0 {
			session.EndsAt = now.Add(within(random, 100*time.Minute).Truncate(time.Millisecond))
		}
		return session
	}
	for step := range 20_000 {
		now = now.Add(within(random, 10*time.Second).Truncate(time.Millisecond))
		session := one()
		key := sessionKey{session.AppID, session.ID}
		switch random.IntN(10) {
		case 0, 1, 2:
			var want error
			if _, found := m[key]; found {
				want = renew.ErrSessionExists
			} else {
				m[key] = session
			}
			require.ErrorIs(t, s.CreateSession(t.Context(), session), want)
		case 3, 4, 5, 6:
			from := pick("token", 3)
			if random.IntN(2) == 0 { // as the Renewer does: the subject stays
				session.Subject = m[key].Subject
			}
			require.ErrorIs(t, s.Rotate(t.Context(), from, session), m.rotate(from, session))
		case 7:
			require.ErrorIs(t, s.RevokeSession(t.Context(), key.appID, key.id, now), m.revoke(key, now))
		case 8:
			want := 0
			for k, old := range m {
				if old.AppID == session.AppID && old.Subject == session.Subject && old.RevokedAt.IsZero() {
					require.NoError(t, m.revoke(k, now))
					want++
				}
			}
			n, err := s.RevokeSubject(t.Context(), session.AppID, session.Subject, now)
			require.NoError(t, err)
			require.Equal(t, want, n)
		case 9:
			limit, before := random.IntN(20), now.Add(-within(random, time.Hour))
			ended := m.endedBefore(before)
			n, err := s.DeleteExpired(t.Context(), before, limit)
			require.NoError(t, err)
			require.Equal(t, min(limit, ended), n)
			for k, old := range m {
				if _, err := s.Session(t.Context(), k.appID, k.id); errors.Is(err, renew.ErrSessionNotFound) {
					require.True(t, old.EndedBefore(before), "a live session was deleted")
					delete(m, k)
				}
			}
			require.Equal(t, count(s), len(m))
		}
		got, err := s.Session(t.Context(), key.appID, key.id)
		if want, found := m[key]; found {
			require.NoError(t, err)
			require.Equal(t, want, got)
		} else {
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
		}
		if step%10 == 0 {
			live, err := s.SubjectSessions(t.Context(), session.AppID, session.Subject, now)
			require.NoError(t, err)
			require.Equal(t, m.live(session.AppID, session.Subject, now), live)
		}
		if step%1000 == 0 {
			checkWhole(t, s)
		}
	}
	checkWhole(t, s)
}

func session(id, subject string, expiresAt time.Time) renew.Session {
	return renew.Session{AppID: appID, ID: id, Subject: subject, TokenID: "0", CreatedAt: start, RefreshExpiresAt: expiresAt}
}

func create(t *testing.T, s *Store, sessions ...renew.Session) {
	t.Helper()
	for _, one := range sessions {
		require.NoError(t, s.CreateSession(t.Context(), one))
	}
}

// T11, where a session's end has moved since it was created.
func TestDeleteExpiredKnowsTheEndAsItStands(t *testing.T) {
	for _, test := range []struct {
		name           string
		created, moved renew.Session
		end            time.Time
	}{
		{"later", session("1", "ann", start), session("1", "ann", start.Add(time.Hour)), start.Add(time.Hour)},
		{"sooner", session("1", "ann", start.Add(time.Hour)), session("1", "ann", start), start},
		{"later, but for its absolute end", session("1", "ann", start), func() renew.Session {
			s := session("1", "ann", start.Add(time.Hour))
			s.EndsAt = start.Add(time.Minute)
			return s
		}(), start.Add(time.Minute)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New()
			create(t, s, test.created)
			require.NoError(t, s.Rotate(t.Context(), "0", test.moved))
			n, err := s.DeleteExpired(t.Context(), test.end, 10)
			require.NoError(t, err)
			require.Zero(t, n, "it ends at that time, not before")
			n, err = s.DeleteExpired(t.Context(), test.end.Add(time.Nanosecond), 10)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			_, err = s.Session(t.Context(), appID, "1")
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
			require.NoError(t, s.CreateSession(t.Context(), test.created), "the ID is free again")
			checkWhole(t, s)
		})
	}
}

// Batches end with one that is not full, and then nothing is left that had ended;
// what is live is untouched, in its subject's list too.
func TestDeleteExpiredInBatches(t *testing.T) {
	const ended, live, limit = 1000, 500, 64
	s := New()
	for i := range ended {
		create(t, s, session(fmt.Sprint("ended", i), fmt.Sprint("subject", i%10), start.Add(time.Duration(i))))
	}
	for i := range live {
		create(t, s, session(fmt.Sprint("live", i), fmt.Sprint("subject", i%10), start.Add(2*time.Hour)))
	}
	total := 0
	for n := limit; n == limit; {
		var err error
		n, err = s.DeleteExpired(t.Context(), start.Add(time.Hour), limit)
		require.NoError(t, err)
		require.LessOrEqual(t, n, limit)
		total += n
	}
	require.Equal(t, ended, total)
	for _, limit := range []int{0, -1} {
		n, err := s.DeleteExpired(t.Context(), start.Add(3*time.Hour), limit)
		require.NoError(t, err)
		require.Zero(t, n)
	}
	sessions, err := s.SubjectSessions(t.Context(), appID, "subject3", start)
	require.NoError(t, err)
	require.Len(t, sessions, live/10)
	require.Equal(t, live, count(s))
	checkWhole(t, s)
}

// Deletion looks at a live session once per lifetime, and not again in
// every batch.
func TestDeleteExpiredDoesNotScan(t *testing.T) {
	const sessions = 5000
	s := New()
	for i := range sessions {
		create(t, s, session(fmt.Sprint(i), "ann", start))
		require.NoError(t, s.Rotate(t.Context(), "0", session(fmt.Sprint(i), "ann", start.Add(time.Hour))))
	}
	late := func() int {
		n := 0
		for i := range s.shards {
			for _, entry := range s.shards[i].queue {
				if entry.ends < entry.record.ends {
					n++
				}
			}
		}
		return n
	}
	require.Equal(t, sessions, late(), "a renewal has paid for the queue")
	n, err := s.DeleteExpired(t.Context(), start.Add(time.Minute), 1)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Zero(t, late(), "the next batch would look at sessions that this one has seen")
	checkWhole(t, s)
}

// Sessions that are renewed for ever take no more memory than at first.
func TestRenewalsTakeNoMemory(t *testing.T) {
	const sessions, renewals = 1000, 200
	s := New()
	one := func(i, generation int) renew.Session {
		next := session(fmt.Sprint(i), fmt.Sprint("subject", i%100), start.Add(time.Duration(generation)*time.Minute))
		next.TokenID = fmt.Sprint(generation)
		return next
	}
	renewAll := func(from, to int) {
		for generation := from; generation < to; generation++ {
			for i := range sessions {
				if err := s.Rotate(t.Context(), fmt.Sprint(generation), one(i, generation+1)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.DeleteExpired(t.Context(), start.Add(time.Duration(generation)*time.Minute), 1<<30); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range sessions {
		if err := s.CreateSession(t.Context(), one(i, 0)); err != nil {
			t.Fatal(err)
		}
	}
	renewAll(0, 10)
	before := heapInUse()
	renewAll(10, renewals)
	after := heapInUse()
	if count(s) != sessions {
		t.Fatalf("%d sessions, want %d", count(s), sessions)
	}
	// One byte kept of each renewal would show.
	if grown := int64(after) - int64(before); grown > sessions*renewals/2 {
		t.Errorf("%d renewals of %d sessions left %d bytes on the heap", sessions*renewals, sessions, grown)
	}
	runtime.KeepAlive(s)
}

func heapInUse() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// What sessions took is given back when they go, not kept for as many to come.
func TestDeletionGivesMemoryBack(t *testing.T) {
	const sessions = 100_000
	s := New()
	before := heapInUse()
	for i := range sessions {
		id := fmt.Sprint(i)
		if err := s.CreateSession(t.Context(), session(id, id, start)); err != nil {
			t.Fatal(err)
		}
	}
	full := heapInUse() - before
	if n, err := s.DeleteExpired(t.Context(), start.Add(1), sessions); n != sessions || err != nil {
		t.Fatalf("deleted %d of %d, error %v", n, sessions, err)
	}
	left := int64(heapInUse()) - int64(before)
	t.Logf("%d bytes with %d sessions, %d with none", full, sessions, left)
	if left > int64(full)/16 {
		t.Errorf("of %d bytes, %d are still taken with no session left", full, left)
	}
	runtime.KeepAlive(s)
}

// Renewals of different sessions do not wait for each other: with the shard of
// one session held, those of other shards continue.
func TestSessionsDoNotWaitForEachOther(t *testing.T) {
	s := New()
	create(t, s, session("held", "ann", start))
	held := s.shard("held")
	held.mu.Lock()
	defer held.mu.Unlock()
	elsewhere := 0
	for i := range 1000 {
		id := fmt.Sprint(i)
		if s.shard(id) == held {
			continue
		}
		elsewhere++
		create(t, s, session(id, "ann", start))
		_, err := s.Session(t.Context(), appID, id)
		require.NoError(t, err)
		require.NoError(t, s.Rotate(t.Context(), "0", session(id, "ann", start)))
		require.NoError(t, s.RevokeSession(t.Context(), appID, id, start))
	}
	require.Greater(t, elsewhere, 900, "the shards are too few, or the hash is poor")
}

// Everything at once, under -race: one winner per token ID, and a store that is
// whole in the end, though sessions are deleted and made anew all the time.
func TestEverythingAtOnce(t *testing.T) {
	const workers, rounds, sessions = 8, 2000, 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := New()
	var created, deleted, won atomic.Int64
	var winners sync.Map // by the incarnation of the session, and the token ID that was replaced
	work := func(random *rand.Rand) error {
		for i := range rounds {
			now := start.Add(time.Duration(i) * time.Second)
			id, subject := fmt.Sprint(random.IntN(sessions)), fmt.Sprint(random.IntN(3))
			fresh := session(id, subject, now.Add(within(random, time.Minute)))
			fresh.UserAgent = fmt.Sprint(random.Uint64()) // the incarnation
			err := s.CreateSession(t.Context(), fresh)
			if err == nil {
				created.Add(1)
			} else if !errors.Is(err, renew.ErrSessionExists) {
				return err
			}
			current, err := s.Session(t.Context(), appID, id)
			if err == nil {
				next := current.Clone()
				next.TokenID = fmt.Sprint(random.Uint64())
				next.Subject = subject
				next.RefreshExpiresAt = now.Add(within(random, time.Minute))
				err = s.Rotate(t.Context(), current.TokenID, next)
			}
			if err == nil {
				won.Add(1)
				if _, twice := winners.LoadOrStore(current.UserAgent+" "+current.TokenID, true); twice {
					return errors.New("one token ID was replaced twice")
				}
			} else if !errors.Is(err, renew.ErrConflict) && !errors.Is(err, renew.ErrSessionNotFound) {
				return err
			}
			switch random.IntN(20) {
			case 0:
				_, err = s.RevokeSubject(t.Context(), appID, subject, now)
			case 1, 2, 3:
				var n int
				n, err = s.DeleteExpired(t.Context(), now, 1+random.IntN(10))
				deleted.Add(int64(n))
			case 4:
				_, err = s.SubjectSessions(t.Context(), appID, subject, now)
			default:
				err = nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			if err := work(rand.New(rand.NewPCG(seed, uint64(worker)))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkWhole(t, s)
	t.Logf("%d created, %d renewals, %d deleted", created.Load(), won.Load(), deleted.Load())
	require.EqualValues(t, created.Load()-deleted.Load(), count(s))
	require.Positive(t, won.Load())
	require.Positive(t, deleted.Load())
}

// A subject's session that is deleted, or becomes another subject's, while the
// sessions are gone through, is no longer one of them.
func TestSubjectsSessionsAreLookedAtAsTheyStand(t *testing.T) {
	for name, happens := range map[string]func(*testing.T, *Store){
		"deleted": func(t *testing.T, s *Store) {
			deleted, _ := s.deleteSome(s.shard("second"), start.Add(1), 1)
			require.Equal(t, 1, deleted)
		},
		"another subject's": func(t *testing.T, s *Store) {
			require.NoError(t, s.Rotate(t.Context(), "0", session("second", "bob", start)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := New()
			for s.shard("first") == s.shard("second") { // held while the other changes
				s = New()
			}
			create(t, s, session("first", "ann", start.Add(time.Hour)), session("second", "ann", start))
			var seen []string
			s.eachOf(appID, "ann", func(r *record) {
				seen = append(seen, r.key.id)
				if len(seen) == 1 {
					happens(t, s)
				}
			})
			require.Equal(t, []string{"first"}, seen)
		})
	}
}

// A time of zero would leave the session live, in silence.
func TestRevocationNeedsATime(t *testing.T) {
	s := New()
	create(t, s, session("1", "ann", start))
	require.ErrorContains(t, s.RevokeSession(t.Context(), appID, "1", time.Time{}), "zero")
	_, err := s.RevokeSubject(t.Context(), appID, "ann", time.Time{})
	require.ErrorContains(t, err, "zero")
}

// A renewal allocates what the session's new state takes, whatever is in it.
func TestRotateAllocatesOnce(t *testing.T) {
	s := New()
	next := filled(t)
	next.RevokedAt = time.Time{}
	create(t, s, next)
	allocations := testing.AllocsPerRun(100, func() {
		if err := s.Rotate(t.Context(), next.TokenID, next); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocations, 1.0)
}
