package sqlstore_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/sqlstore"
)

// TestPgBouncer promises that the stores work behind PgBouncer in session mode, and
// in transaction mode without prepared statements; and that a version which cannot
// keep prepared statements in transaction mode is found out when a store is made.
func TestPgBouncer(t *testing.T) {
	d := backends[1].empty(t)
	d.server.NeedPrivate(t)
	d.prepare(t)
	text := sqlstore.WithoutPreparedStatements()

	transaction := dbtest.PgBouncer(t, d.server, "transaction", d.name, 4)
	for _, dsn := range []string{transaction, transaction + "&default_query_exec_mode=simple_protocol"} {
		_, err := sqlstore.NewTokenStore(t.Context(), d.openDSN(t, dsn), d.dialect)
		require.ErrorContains(t, err, "PgBouncer", dsn)
	}
	_, err := sqlstore.NewTokenStore(t.Context(), d.openDSN(t, transaction), d.dialect, text)
	require.ErrorContains(t, err, "PgBouncer", "the driver prepares by itself")

	for name, c := range map[string]struct {
		dsn  string
		opts []sqlstore.Option
	}{
		"session":              {dbtest.PgBouncer(t, d.server, "session", d.name, 30), nil},
		"transaction, as text": {transaction + "&default_query_exec_mode=exec", []sqlstore.Option{text}},
	} {
		t.Run(name, func(t *testing.T) {
			db := d.openDSN(t, c.dsn)
			tokens := d.tokenStore(t, db, c.opts...)
			made, err := renew.New(d.keyStore(t, db, c.opts...), tokens)
			require.NoError(t, err)
			r := renewer{made}
			const users = 8
			f := newFleet(t, seed(t), users, made, func(*rand.Rand) server { return r })
			f.start()
			f.await(20 * users)
			f.finish(tokens, r, 0, "failures")
			require.Zero(t, f.repeats.Load(), "requests that failed")
		})
	}
}
