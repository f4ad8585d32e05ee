package sqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestUnconfirmedWritesOfMariaDB promises the same as TestUnconfirmedWrites with
// semi-synchronous replication, whichever the wait point is: with AFTER_COMMIT every
// connection sees a commit that the replica does not have.
func TestUnconfirmedWritesOfMariaDB(t *testing.T) {
	needsAllRounds(t)
	for _, waitPoint := range []string{"AFTER_SYNC", "AFTER_COMMIT"} {
		t.Run(waitPoint, func(t *testing.T) {
			ctx := t.Context()
			primary, replica := dbtest.SemiSync(t, waitPoint)
			name := primary.NewDatabase(t)
			open := func(server *dbtest.Server) (*sqlstore.TokenStore, *renew.Renewer) {
				d := &database{backend: backends[2], dsn: server.DSN(name), name: name, server: server}
				if server == primary {
					d.prepare(t)
				}
				db := d.open(t)
				store := d.tokenStore(t, db, sqlstore.WithStatementTimeout(500*time.Millisecond))
				r, err := renew.New(d.keyStore(t, db, sqlstore.WithStatusInterval(time.Hour)), store)
				require.NoError(t, err)
				return store, r
			}
			store, r := open(primary)
			login := func() *renew.Bundle {
				b, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
				require.NoError(t, err)
				return b
			}
			const key = "0123456789abcdef0123456789abcdef"
			renewIt := func(r *renew.Renewer, b *renew.Bundle) (answer, error) {
				brief, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				return renewer{r}.renew(brief, b.RefreshToken, key)
			}
			renewed, revoked := login(), login()
			_, err := renewIt(r, login())
			require.NoError(t, err)

			replica.CutReplica(t)
			acknowledged := 0
			for range 4 {
				if _, err := renewIt(r, renewed); err == nil {
					t.Log("a renewal was acknowledged")
					acknowledged++
				}
				if err := r.RevokeSession(ctx, testApp, revoked.SessionID); err == nil {
					t.Log("a revocation was acknowledged")
					acknowledged++
				}
				if n, err := store.RevokeSubject(ctx, testApp, "user", base, renewed.SessionID); err == nil {
					t.Logf("a revocation of %d sessions was acknowledged", n)
					acknowledged++
				}
			}
			seen, err := store.Session(ctx, testApp, revoked.SessionID)
			require.NoError(t, err)
			t.Logf("the primary shows the revocation: %v", !seen.RevokedAt.IsZero())
			require.Zero(t, acknowledged, "acknowledged without the replica")

			primary.Kill(t)
			replica.PromoteReplica(t)
			store, r = open(replica)
			seen, err = store.Session(ctx, testApp, revoked.SessionID)
			require.NoError(t, err)
			require.Zero(t, seen.RevokedAt, "the failover took the revocation back, which was never acknowledged")
			first, err := renewIt(r, renewed)
			require.NoError(t, err)
			again, err := renewIt(r, renewed)
			require.NoError(t, err)
			require.Equal(t, first.TokenID, again.TokenID)
		})
	}
}
