package sqlstore_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

// filled is how many sessions there are to delete.
const filled = 1000

// TestPurgeAgainstModel promises what DeleteExpired deletes after any history of
// renewals, some of which bring an end forward: all that has ended, nothing else,
// never more than the limit, and fewer only if none is left.
func TestPurgeAgainstModel(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		random := rand.New(rand.NewPCG(seed(t), 0))
		db := d.open(t)
		d.migrate(t, db)
		store := d.tokenStore(t, db)
		sessions := map[string]renew.Session{}
		at := func() time.Time { return base.Add(time.Duration(random.IntN(5000)) * time.Millisecond) }
		for i := range 350 {
			s := newSession(fmt.Sprintf("session-%03d", i))
			s.RefreshExpiresAt = at()
			if random.IntN(2) == 0 {
				s.EndsAt = at()
			}
			require.NoError(t, store.CreateSession(ctx, s))
			sessions[s.ID] = s
		}
		for step := range 12 {
			for id, s := range sessions {
				if random.IntN(3) > 0 {
					continue
				}
				next := successor(s)
				next.RefreshExpiresAt = at()
				require.NoError(t, store.Rotate(ctx, s.TokenID, next))
				sessions[id] = next
			}
			before := base.Add(time.Duration(step*400) * time.Millisecond)
			for _, s := range sessions { // one ends at the moment, or an instant before
				if s.RefreshExpiresAt.After(before) {
					before = s.RefreshExpiresAt.Add(time.Duration(step%2) * time.Microsecond)
					break
				}
			}
			limit := 1 + random.IntN(150) + step%3*200
			ended := 0
			for _, s := range sessions {
				if s.EndedBefore(before) {
					ended++
				}
			}
			n, err := store.DeleteExpired(ctx, before, limit)
			require.NoError(t, err)
			require.Equal(t, min(limit, ended), n, "before %v, limit %d", before, limit)
			for id, s := range sessions {
				_, err := store.Session(ctx, s.AppID, id)
				if err != nil {
					require.ErrorIs(t, err, renew.ErrSessionNotFound)
					require.True(t, s.EndedBefore(before), "%s had not ended", id)
					delete(sessions, id)
				}
			}
			require.Equal(t, len(sessions), count(t, db, "SELECT COUNT(*) FROM renew_sessions"))
		}
	})
}

// TestPurgeDoesNotBlock promises that housekeeping works in small statements, of
// which none holds a session that lives: renewals go on while it runs, and while
// a batch of it hangs.
func TestPurgeDoesNotBlock(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		db, w := d.openWatched(t)
		d.migrate(t, d.open(t))
		store := d.tokenStore(t, db)
		ended := newSession("template")
		ended.RefreshExpiresAt = base.Add(time.Hour)
		fill(t, d.open(t), store, ended, filled)
		live := newSession("live")
		live.RefreshExpiresAt = base.Add(time.Hour) // by purge_at; the renewal puts it off
		require.NoError(t, store.CreateSession(ctx, live))
		next := successor(live)
		next.RefreshExpiresAt = base.Add(24 * time.Hour)
		require.NoError(t, store.Rotate(ctx, live.TokenID, next))

		hanging, err := store.Session(ctx, testApp, tokenID(0))
		require.NoError(t, err)
		release := lockRow(t, d, hanging)
		w.take()
		done := make(chan error, 1)
		go func() {
			n, err := store.DeleteExpired(ctx, base.Add(2*time.Hour), filled+1)
			if err == nil && n != filled {
				err = fmt.Errorf("%d were deleted", n)
			}
			done <- err
		}()
		for range 20 {
			s := next
			next = successor(s)
			next.RefreshExpiresAt = s.RefreshExpiresAt
			require.NoError(t, store.Rotate(ctx, s.TokenID, next))
		}
		for range 20 { // and one whose end comes due while it is renewed
			s := next
			next = successor(s)
			require.NoError(t, store.Rotate(ctx, s.TokenID, next))
			next.RefreshExpiresAt = base.Add(24 * time.Hour)
		}
		select {
		case err := <-done:
			t.Fatalf("it did not wait for the row that is held: %v", err)
		default:
		}
		release()
		require.NoError(t, <-done)
		got, err := store.Session(ctx, testApp, live.ID)
		require.NoError(t, err)
		require.Equal(t, next.TokenID, got.TokenID)
	})
}

// TestPurgesAtOnce promises that any number of processes may clean up at once:
// each session is counted by one of them.
func TestPurgesAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		db := d.open(t)
		d.migrate(t, db)
		fill(t, db, d.tokenStore(t, db), newSession("template"), filled)
		const processes = 4
		var all sync.WaitGroup
		var deleted [processes]int
		for i := range processes {
			store := d.tokenStore(t, d.open(t))
			all.Go(func() {
				var err error
				if deleted[i], err = store.DeleteExpired(t.Context(), base.AddDate(1, 0, 0), filled); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		sum := 0
		for _, n := range deleted {
			sum += n
		}
		require.Equal(t, filled, sum)
		require.Zero(t, count(t, db, "SELECT COUNT(*) FROM renew_sessions"))
	})
}

// TestPurgeCost promises that sessions which live on cost a purge nothing until
// their tokens would have expired, and that nothing is scanned.
func TestPurgeCost(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		plain := d.open(t)
		d.migrate(t, plain)
		db, w := d.openWatched(t)
		store := d.tokenStore(t, db)
		s := newSession("template")
		fill(t, plain, store, s, filled)
		w.take()
		n, err := store.DeleteExpired(t.Context(), s.RefreshExpiresAt, 1000)
		require.NoError(t, err)
		require.Zero(t, n)
		statements, _, _ := w.take()
		require.Len(t, statements, 1)
		if d.dialect != sqlstore.SQLite {
			_, err = plain.Exec(map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "ANALYZE renew_sessions", sqlstore.MySQL: "ANALYZE TABLE renew_sessions"}[d.dialect])
			require.NoError(t, err)
		}
		ms := s.RefreshExpiresAt.UnixMilli()
		plan := explain(t, d, plain, statements[0], ms, ms, 0, ms, 100)
		require.Contains(t, plan, "renew_sessions_by_purge")
		require.NotContains(t, plan, "Seq Scan")
	})
}

// TestPurgeBesideASnapshot promises that a purge does not read again and again what
// it has deleted, where a snapshot keeps that: neither its next batch nor the next
// call, after one that has reached its limit.
func TestPurgeBesideASnapshot(t *testing.T) {
	ctx := t.Context()
	d := backends[1].empty(t)
	const sessions, limit = 10000, 1000
	plain, db := d.open(t), d.open(t)
	d.migrate(t, plain)
	store := d.tokenStore(t, db)
	fill(t, plain, store, newSession("template"), sessions)
	for _, statement := range []string{
		`UPDATE renew_sessions s SET purge_at = purge_at - n
			FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM renew_sessions) numbered WHERE numbered.id = s.id`,
		"VACUUM (ANALYZE) renew_sessions",
	} {
		_, err := plain.Exec(statement)
		require.NoError(t, err)
	}
	snapshot, err := d.open(t).BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { _ = snapshot.Rollback() }()
	var n int
	require.NoError(t, snapshot.QueryRow("SELECT COUNT(*) FROM renew_sessions").Scan(&n))
	require.Equal(t, sessions, n)
	const read = "SELECT COALESCE(SUM(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname = 'renew_sessions_by_purge'"
	before := count(t, plain, read)
	deleted := 0
	for n := limit; n == limit; deleted += n {
		n, err = store.DeleteExpired(ctx, base.AddDate(1, 0, 0), limit)
		require.NoError(t, err)
	}
	require.Equal(t, sessions, deleted)
	require.NoError(t, db.Close()) // the connections report what they have read when they end
	require.Eventually(t, func() bool { return count(t, plain, read)-before >= sessions }, 10*time.Second, 10*time.Millisecond)
	var entries int
	require.Eventually(t, func() bool {
		last := entries
		entries = count(t, plain, read) - before
		return entries == last
	}, 10*time.Second, 200*time.Millisecond)
	t.Logf("%d sessions deleted, %d index entries read", deleted, entries)
	require.LessOrEqual(t, entries, 3*sessions)
}
