package dynamostore_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestLargeSubject promises that a subject with very many sessions is listed, revoked and
// deleted as a whole, in batches, while others renew and what is in the list is renewed.
// How long that takes on dynalite is printed; it says nothing about DynamoDB.
// RENEW_TEST_SUBJECT_SESSIONS says how many sessions; default: 1001, which is ten batches
// and one session.
func TestLargeSubject(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	store := b.tokens(t, b.client(t))
	sessions := fleettest.CreateMany(t, store, 1001, 16)
	stop := renewing(t, b.tokens(t, b.client(t)))
	begun := time.Now()
	took := func() time.Duration {
		d := time.Since(begun).Round(time.Millisecond)
		begun = time.Now()
		return d
	}
	all, err := store.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Len(t, all, sessions)
	require.Equal(t, strconv.Itoa(sessions-1), all[0].ID)
	listing := took()
	n, err := store.RevokeSubject(ctx, testApp, "subject", base, "7")
	require.NoError(t, err)
	require.Equal(t, sessions-1, n)
	revoking := took()
	left, err := store.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Len(t, left, 1)
	begun = time.Now()
	n, err = store.DeleteExpired(ctx, base.AddDate(0, 0, 1), sessions/2)
	require.NoError(t, err)
	require.Equal(t, sessions/2, n)
	deleting := took()
	t.Logf("%d sessions of one subject on dynalite: listed in %v, revoked in %v, half of them deleted in %v; others renewed %d times",
		sessions, listing, revoking, deleting, stop())
	n, err = store.DeleteExpired(ctx, base.AddDate(0, 0, 1), sessions)
	require.NoError(t, err)
	require.Equal(t, sessions-sessions/2, n)
	require.Len(t, b.scan(t), 2*4, "what others renew")
}

// renewing renews four sessions until it is stopped; then it returns how often.
func renewing(t *testing.T, store *dynamostore.TokenStore) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	counts := make([]int, 4)
	for i := range counts {
		s := newSession("other " + strconv.Itoa(i))
		s.Subject = s.ID
		s.RefreshExpiresAt = base.AddDate(1, 0, 0)
		require.NoError(t, store.CreateSession(t.Context(), s))
		clients.Go(func() {
			for ctx.Err() == nil {
				next := successor(s)
				if err := renewOnce(t.Context(), store, s, next); err != nil {
					t.Error(err)
					return
				}
				s = next
				counts[i]++
			}
		})
	}
	return func() int {
		cancel()
		clients.Wait()
		return counts[0] + counts[1] + counts[2] + counts[3]
	}
}

func renewOnce(ctx context.Context, store *dynamostore.TokenStore, s, next renew.Session) error {
	if _, err := store.Session(ctx, testApp, s.ID); err != nil {
		return err
	}
	return store.Rotate(ctx, s.TokenID, next)
}
