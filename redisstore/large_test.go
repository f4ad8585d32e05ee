package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/redisstore"
)

// TestLargeSubject promises that a subject with very many sessions is listed and
// revoked as a whole while others renew. How long their calls take then is
// printed. RENEW_TEST_SUBJECT_SESSIONS says how many sessions; default: 2000.
func TestLargeSubject(t *testing.T) {
	f, ctx := oneServer(t), t.Context()
	store, others := f.tokens(t, f.client(t)), f.tokens(t, f.client(t))
	sessions := fleettest.CreateMany(t, store, 2000, 64)
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
