package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/redisstore"
)

// sessionsVariable names the environment variable that sets how many sessions of one
// subject TestLargeSubject makes. Default: 2000.
const sessionsVariable = "RENEW_TEST_SUBJECT_SESSIONS"

// TestLargeSubject promises that a subject with very many sessions is listed and
// revoked as a whole while others renew. How long their calls take then is printed.
func TestLargeSubject(t *testing.T) {
	sessions := 2000
	if text := os.Getenv(sessionsVariable); text != "" {
		var err error
		sessions, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	f, ctx := oneServer(t), t.Context()
	store, others := f.tokens(t, f.client(t)), f.tokens(t, f.client(t))
	var makers sync.WaitGroup
	for first := range 64 {
		makers.Go(func() {
			for i := first; i < sessions; i += 64 {
				s := newSession(strconv.Itoa(i))
				s.CreatedAt = base.Add(time.Duration(i) * time.Millisecond)
				if err := store.CreateSession(ctx, s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	makers.Wait()
	quiet := during(t, others, "quiet", func() { time.Sleep(2 * time.Second) })
	listing := during(t, others, "listing", func() {
		all, err := store.SubjectSessions(ctx, testApp, "subject", base)
		require.NoError(t, err)
		require.Len(t, all, sessions)
		require.Equal(t, strconv.Itoa(sessions-1), all[0].ID)
	})
	revoking := during(t, others, "revoking", func() {
		n, err := store.RevokeSubject(ctx, testApp, "subject", base, "7")
		require.NoError(t, err)
		require.Equal(t, sessions-1, n)
	})
	deleting := during(t, others, "deleting", func() {
		n, err := store.DeleteExpired(ctx, base.AddDate(0, 0, 1), sessions/2)
		require.NoError(t, err)
		require.Equal(t, sessions/2, n)
	})
	t.Logf("%d sessions of one subject; reads and rotations of others, p50 and p99: %s; while listing: %s; while revoking: %s; while deleting half: %s",
		sessions, quiet, listing, revoking, deleting)
	left, err := store.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.LessOrEqual(t, len(left), 1)
}

// during renews sessions with four clients while f runs, and tells how long that took
// them.
func during(t *testing.T, store *redisstore.TokenStore, name string, f func()) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var took []time.Duration
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			s := newSession(fmt.Sprintf("%s %d", name, i))
			s.Subject = s.ID
			s.RefreshExpiresAt = base.AddDate(1, 0, 0)
			if err := store.CreateSession(t.Context(), s); err != nil {
				t.Error(err)
				return
			}
			for ctx.Err() == nil {
				begun := time.Now()
				got, err := store.Session(t.Context(), testApp, s.ID)
				if err == nil {
					err = store.Rotate(t.Context(), got.TokenID, successor(got))
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	begun := time.Now()
	f()
	elapsed := time.Since(begun)
	cancel()
	clients.Wait()
	slices.Sort(took)
	return fmt.Sprintf("%v and %v (%d in %v)", took[len(took)/2].Round(10*time.Microsecond), took[len(took)*99/100].Round(10*time.Microsecond),
		len(took), elapsed.Round(time.Millisecond))
}
