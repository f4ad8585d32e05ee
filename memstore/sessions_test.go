package memstore

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
		sessions += len(sh.records)
		require.Len(t, sh.queue, len(sh.records), "shard %d: sessions in the queue", i)
		for place, entry := range sh.queue {
			r := entry.record
			require.EqualValues(t, place, r.place)
			require.LessOrEqual(t, entry.ends, r.ends, "a session is in the queue too late")
			require.LessOrEqual(t, sh.queue[max(0, place-1)/2].ends, entry.ends, "the queue is no heap")
			require.Same(t, r, sh.records[r.key])
			require.Same(t, r, s.subjectShard(r.subject).records[subjectKey{r.key.appID, r.subject}][r.slot], "the subject's list")
		}
	}
	for i := range s.subjects {
		for _, list := range s.subjects[i].records {
			require.NotEmpty(t, list)
			listed += len(list)
		}
	}
	require.Equal(t, sessions, listed, "sessions in the subjects' lists")
}

func count(s *Store) int {
	n := 0
	for i := range s.shards {
		n += len(s.shards[i].records)
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
			AppID:     pick("app", 2),
			ID:        pick("session", 300),
			Subject:   pick("subject", 20),
			TokenID:   pick("token", 3),
			CreatedAt: now.Truncate(time.Hour),
			ExpiresAt: now.Add(within(random, 100*time.Minute).Truncate(time.Millisecond)),
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
					require.True(t, old.EndedBefore(before), "a session was deleted that goes on")
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
