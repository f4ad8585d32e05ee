package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
)

// replicated is a database on a primary that has a standby.
type replicated struct {
	*database
	primary, standby *dbtest.Server
}

func newReplicated(t *testing.T, synchronous bool) *replicated {
	t.Helper()
	primary := dbtest.PrivatePostgreSQL(t)
	standby := dbtest.Standby(t, primary)
	name := primary.NewDatabase(t)
	d := &replicated{&database{backend: backends[1], name: name, server: primary}, primary, standby}
	dsn, err := url.Parse(primary.DSN(name))
	require.NoError(t, err)
	query := dsn.Query()
	query.Set("host", primary.Dir(t)+","+standby.Dir(t))
	query.Set("port", "5432,5432")
	query.Set("target_session_attrs", "read-write")
	query.Set("connect_timeout", "2")
	dsn.RawQuery = query.Encode()
	d.dsn = dsn.String()
	if synchronous {
		primary.WaitForStandby(t, true)
	}
	d.prepare(t)
	return d
}

// failOver kills the primary and promotes the standby.
func (d *replicated) failOver(t *testing.T) {
	t.Helper()
	d.primary.Kill(t)
	d.standby.Promote(t)
	d.primary, d.standby = d.standby, d.primary
}

// rejoin makes the former primary a standby, and waits for it if synchronous.
func (d *replicated) rejoin(t *testing.T, synchronous bool) {
	t.Helper()
	d.standby.Rejoin(t, d.primary)
	d.primary.WaitForStandby(t, synchronous)
}

// TestPromotions promises that with a synchronous standby and a data source name of
// two hosts a failover loses no acknowledged renewal, gives no token two successors
// and logs no client out that repeats its request with its idempotency key.
func TestPromotions(t *testing.T) {
	d := newReplicated(t, true)
	seed, promotions := seed(t), failovers(t)
	const users = 64
	r := d.newRenewer(t, d.dsn)
	f := newFleet(t, seed, users, r.Renewer, func(*rand.Rand) server { return r })
	f.start()
	for i := range promotions {
		f.await(2 * users)
		d.failOver(t)
		f.await(2 * users)
		if i < promotions-1 {
			d.rejoin(t, true)
		}
	}
	f.finish(d.tokenStore(t, d.open(t)), r, promotions, "promotions")
}

// TestUnconfirmedWrites promises that what the primary shows and its standby does
// not have is not acknowledged, however often it is asked for: a rotation and a
// revocation whose commit waits for a standby that is gone. PostgreSQL shows them
// once the wait is cancelled, and the failover takes them back.
func TestUnconfirmedWrites(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	ctx := t.Context()
	d := newReplicated(t, true)
	db := d.open(t)
	store := d.tokenStore(t, db, sqlstore.WithStatementTimeout(500*time.Millisecond))
	r, err := renew.New(d.keyStore(t, db, sqlstore.WithStatusInterval(time.Hour)), store)
	require.NoError(t, err)
	login := func() *renew.Bundle {
		b, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		return b
	}
	renewed, revoked := login(), login()
	const key = "0123456789abcdef0123456789abcdef"
	renewIt := func() (answer, error) {
		brief, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		return renewer{r}.renew(brief, renewed.RefreshToken, key)
	}
	_, err = renewIt()
	require.NoError(t, err)
	renewed = login()

	d.standby.Kill(t)
	shown := func() bool { // a statement of which the wait was cancelled
		s, err := store.Session(ctx, testApp, renewed.SessionID)
		require.NoError(t, err)
		o, err := store.Session(ctx, testApp, revoked.SessionID)
		require.NoError(t, err)
		return s.TokenID != renewed.TokenID && !o.RevokedAt.IsZero()
	}
	acknowledged := 0
	for i := 0; i < 3 || !shown(); i++ {
		require.Less(t, i, 20, "the primary never shows what was not confirmed")
		if _, err := renewIt(); err == nil {
			acknowledged++
		}
		if err := r.RevokeSession(ctx, testApp, revoked.SessionID); err == nil {
			acknowledged++
		}
		if n, err := store.RevokeSubject(ctx, testApp, "user", base, renewed.SessionID); err == nil {
			t.Logf("%d sessions of the subject revoked", n)
			acknowledged++
		}
	}
	require.Zero(t, acknowledged, "acknowledged without the standby")

	d.primary.Kill(t)
	d.standby.Start(t)
	d.standby.Promote(t)
	require.Eventually(t, func() bool {
		s, err := store.Session(ctx, testApp, revoked.SessionID)
		return err == nil && s.RevokedAt.IsZero()
	}, 30*time.Second, 50*time.Millisecond, "the failover took the revocation back, which was never acknowledged")
	first, err := renewIt()
	require.NoError(t, err)
	again, err := renewIt()
	require.NoError(t, err)
	require.Equal(t, first.TokenID, again.TokenID)
}

// TestAsynchronousFailover measures what a failover to an asynchronous standby
// loses, with each policy for tokens that are ahead of the store.
func TestAsynchronousFailover(t *testing.T) {
	needsAllRounds(t)
	for _, policy := range []renew.AheadPolicy{renew.AheadFails, renew.AheadRejected, renew.AheadAdopted} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			ctx := t.Context()
			d := newReplicated(t, false)
			r := d.newRenewer(t, d.dsn, renew.WithAhead(policy))
			const users = 20
			var tokens []string
			for range users {
				b, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
				require.NoError(t, err)
				tokens = append(tokens, b.RefreshToken)
			}
			require.Eventually(t, func() bool { // the standby has the logins
				db := d.openDSN(t, d.standby.DSN(d.name))
				defer func() { _ = db.Close() }()
				var n int
				return db.QueryRow("SELECT COUNT(*) FROM renew_sessions").Scan(&n) == nil && n == users
			}, 30*time.Second, 50*time.Millisecond)
			d.standby.Kill(t)
			for i := range tokens { // acknowledged, and lost
				a, err := r.renew(ctx, tokens[i], "")
				require.NoError(t, err)
				tokens[i] = a.RefreshToken
			}
			d.primary.Kill(t)
			d.standby.Start(t)
			d.standby.Promote(t)
			renewed, rejected, ahead := 0, 0, 0
			for _, token := range tokens {
				var err error
				require.Eventually(t, func() bool {
					_, err = r.renew(ctx, token, "")
					return err == nil || errors.Is(err, errRefused) || errors.Is(err, errAhead)
				}, 30*time.Second, 50*time.Millisecond)
				switch {
				case err == nil:
					renewed++
				case errors.Is(err, errRefused):
					rejected++
				default:
					ahead++
				}
			}
			t.Logf("of %d sessions whose last renewal was lost: %d renewed, %d rejected, %d failed as ahead", users, renewed, rejected, ahead)
			switch policy {
			case renew.AheadAdopted:
				require.Equal(t, users, renewed)
			case renew.AheadRejected:
				require.Equal(t, users, rejected)
			default:
				require.Equal(t, users, ahead)
			}
		})
	}
}

// failoversVariable names the environment variable that says how many primaries or
// nodes a test of a cluster kills: a whole number from 1. Default: one, or three
// where all rounds are asked for. docs/stores.md has the figures of 20.
const failoversVariable = "RENEW_TEST_FAILOVERS"

func failovers(t *testing.T) int {
	t.Helper()
	text := os.Getenv(failoversVariable)
	if text == "" {
		return map[bool]int{false: 1, true: 3}[rounds.Share(t) == 1]
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, failoversVariable)
	require.Positive(t, n, failoversVariable)
	return n
}

// needsAllRounds skips a test that starts a cluster again and again or a large one,
// unless all rounds are asked for.
func needsAllRounds(t *testing.T) {
	t.Helper()
	if rounds.Share(t) < 1 {
		t.Skipf("it starts several servers: set %s=%d", rounds.Variable, rounds.All)
	}
}
