package sqlstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
)

// galera returns the same empty database on each node of a cluster.
func galera(t *testing.T, n int) []*database {
	t.Helper()
	var nodes []*database
	name := ""
	for _, server := range dbtest.Galera(t, n) {
		if name == "" {
			name = server.NewDatabase(t)
		}
		nodes = append(nodes, &database{backend: backends[2], dsn: server.DSN(name), name: name, server: server})
	}
	return nodes
}

// TestGalera promises on three nodes that no acknowledged change of an app is lost
// which servers make through all of them at once, that sync waiting is asked for,
// and that clients who renew through all of them while one after the other is
// killed are neither given two successors nor logged out.
func TestGalera(t *testing.T) {
	needsAllRounds(t)
	nodes := galera(t, 3)
	nodes[0].prepare(t)
	_, err := sqlstore.NewTokenStore(t.Context(), nodes[0].openDSN(t, nodes[0].dsn+"?wsrep_sync_wait=1"), sqlstore.MySQL)
	require.ErrorContains(t, err, "wsrep_sync_wait")
	_, err = sqlstore.NewTokenStore(t.Context(), nodes[0].openDSN(t, nodes[0].dsn+"?wsrep_dirty_reads=1"), sqlstore.MySQL)
	require.ErrorContains(t, err, "wsrep_dirty_reads")
	t.Run("changes of one app through all nodes", func(t *testing.T) { changeThroughAll(t, nodes) })
	t.Run("renewals while nodes are killed", func(t *testing.T) { renewThroughKills(t, nodes) })
}

func changeThroughAll(t *testing.T, nodes []*database) {
	each := rounds.Of(t, 25)
	var mu sync.Mutex
	added := map[renew.AppKeyHash]bool{}
	rotated := map[string]bool{}
	var failed atomic.Int64
	var all sync.WaitGroup
	for i, node := range nodes {
		s := node.keyStore(t, node.open(t))
		all.Go(func() {
			for range each {
				_, hash := renew.NewAppKey()
				if err := s.AddAppKey(t.Context(), testApp, hash); err != nil {
					failed.Add(1)
					t.Logf("node %d: add: %v", i, err)
					continue
				}
				mu.Lock()
				added[hash] = true
				mu.Unlock()
			}
		})
		all.Go(func() {
			for range each / 5 {
				key, err := renew.GenerateSigningKey(renew.EdDSA)
				if err == nil {
					err = s.RotateSigningKey(t.Context(), testApp, key, time.Now())
				}
				if err != nil {
					failed.Add(1)
					t.Logf("node %d: rotate: %v", i, err)
					continue
				}
				mu.Lock()
				rotated[key.KeyID()] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d app keys added, %d signing keys rotated, %d changes failed", len(added), len(rotated), failed.Load())
	require.NotEmpty(t, added)
	for _, node := range nodes {
		s := node.keyStore(t, node.open(t))
		app, err := s.App(t.Context(), testApp)
		require.NoError(t, err)
		for _, hash := range app.KeyHashes {
			delete(added, hash)
		}
		require.Empty(t, added, "acknowledged app keys are lost")
		keys, err := s.VerificationKeys(t.Context(), testApp)
		require.NoError(t, err)
		left := map[string]bool{}
		for id := range rotated {
			left[id] = true
		}
		for _, key := range keys {
			delete(left, key.KeyID())
		}
		require.Empty(t, left, "acknowledged signing keys are lost")
		_, err = s.SigningKey(t.Context(), testApp)
		require.NoError(t, err)
		db := node.open(t)
		require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM renew_signing_keys WHERE private_key IS NOT NULL"), "one private key")
	}
}

func renewThroughKills(t *testing.T, nodes []*database) {
	seed, kills := seed(t), failovers(t)
	const users = 64
	var servers []server
	for _, node := range nodes {
		servers = append(servers, node.newRenewer(t, node.dsn+"?timeout=2s&readTimeout=8s&writeTimeout=8s"))
	}
	f := newFleet(t, seed, users, servers[0].(renewer).Renewer, func(random *rand.Rand) server { return servers[random.IntN(len(servers))] })
	f.start()
	for i := range kills {
		f.await(3 * users)
		node := nodes[i%len(nodes)]
		node.server.Kill(t)
		f.await(users)
		node.server.Start(t)
		waitForCluster(t, nodes)
	}
	f.await(users)
	f.finish(nodes[0].tokenStore(t, nodes[0].open(t)), servers[0], kills, "kills of a node")
}

// waitForCluster returns when all nodes are members again.
func waitForCluster(t *testing.T, nodes []*database) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, node := range nodes {
		db := node.open(t)
		for {
			var name, size string
			err := db.QueryRowContext(ctx, "SHOW STATUS LIKE 'wsrep_cluster_size'").Scan(&name, &size)
			if err == nil && size == fmt.Sprint(len(nodes)) {
				break
			}
			require.NoError(t, ctx.Err(), "the cluster has %s members: %v", size, err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}
