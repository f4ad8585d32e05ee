package sqlstore_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// The tests in this file promise: whatever breaks in the middle of a renewal, no
// token has two successors, no acknowledged renewal is missing, and a client that
// repeats its last request is answered, so that no session is lost.

const fleetUsers = 24

// TestKilledDatabase kills the database server, with all its processes, in the
// middle of renewals, and starts it again.
func TestKilledDatabase(t *testing.T) {
	atOnce(t, killableServers, func(t *testing.T, d *database) {
		seed, kills := seed(t), rounds.Slow(t, 3)
		d.server.NeedPrivate(t)
		random := rand.New(rand.NewPCG(seed, 1<<32))
		d.prepare(t)
		servers := []renewer{
			d.newRenewer(t, d.dsn, renew.WithRetryWindow(testWindow)),
			d.newRenewer(t, d.dsn, renew.WithRetryWindow(testWindow)),
		}
		f := newFleet(t, seed, fleetUsers, servers[0].Renewer, func(random *rand.Rand) server { return servers[random.IntN(len(servers))] })
		f.start()
		for range kills {
			f.await(20 + random.IntN(100))
			d.server.Kill(t)
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			d.server.Start(t)
		}
		f.await(5 * fleetUsers)
		f.finish(d.tokenStore(t, d.open(t)), servers[0], kills, "kills of the database")
	})
}

// TestKilledRenewals kills processes that renew, while others renew the same
// sessions.
func TestKilledRenewals(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		seed, kills := seed(t), rounds.Slow(t, 10)
		random := rand.New(rand.NewPCG(seed, 1<<32))
		d.prepare(t)
		var mu sync.Mutex
		servers := []*worker{d.startWorker(t), d.startWorker(t), d.startWorker(t)}
		here := d.newRenewer(t, d.dsn, renew.WithRetryWindow(testWindow))
		f := newFleet(t, seed, fleetUsers, here.Renewer, func(random *rand.Rand) server {
			mu.Lock()
			defer mu.Unlock()
			return servers[random.IntN(len(servers))]
		})
		f.start()
		for range kills {
			f.await(10 + random.IntN(50))
			i := random.IntN(len(servers))
			servers[i].kill()
			next := d.startWorker(t)
			mu.Lock()
			servers[i] = next
			mu.Unlock()
		}
		f.await(5 * fleetUsers)
		f.finish(d.tokenStore(t, d.open(t)), here, kills, "kills of a renewing process")
	})
}

// TestCutConnections cuts the connections to the database in the middle of
// renewals. A statement whose connection is cut may have happened or not.
func TestCutConnections(t *testing.T) {
	onServers(t, func(t *testing.T, d *database) {
		seed, cuts := seed(t), rounds.Slow(t, 30)
		random := rand.New(rand.NewPCG(seed, 1<<32))
		d.prepare(t)
		proxy := d.server.NewProxy(t)
		dsn := d.server.DSNThrough(proxy, d.name)
		servers := []renewer{
			d.newRenewer(t, dsn, renew.WithRetryWindow(testWindow)),
			d.newRenewer(t, dsn, renew.WithRetryWindow(testWindow)),
		}
		f := newFleet(t, seed, fleetUsers, servers[0].Renewer, func(random *rand.Rand) server { return servers[random.IntN(len(servers))] })
		f.start()
		broken := 0
		for range cuts {
			f.await(1 + random.IntN(30))
			time.Sleep(time.Duration(random.IntN(1000)) * time.Microsecond)
			broken += proxy.Cut()
		}
		f.await(5 * fleetUsers)
		f.finish(d.tokenStore(t, d.open(t)), servers[0], broken, "cut connections")
	})
}

// TestProcessesAtOnce has four processes present every token at once, with
// nothing that would answer twice: each token has one winner.
func TestProcessesAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		const processes, sessions, generations = 4, 8, 10
		d.prepare(t)
		issuer := d.newRenewer(t, d.dsn)
		servers := make([]*worker, processes)
		for i := range servers {
			servers[i] = d.startWorker(t, workerStrict+"=1")
		}
		var all sync.WaitGroup
		for range sessions {
			b, err := issuer.Issue(t.Context(), renew.IssueRequest{AppID: testApp, Subject: "user", IP: "192.0.2.1", UserAgent: "test"})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				token := b.RefreshToken
				for range generations {
					if token = oneWinner(t, servers, token); token == "" {
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// oneWinner presents the token to all servers at once, and returns the successor.
func oneWinner(t *testing.T, servers []*worker, token string) (successor string) {
	answers, errs := make([]answer, len(servers)), make([]error, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() { answers[i], errs[i] = s.renew(t.Context(), token, "") })
	}
	all.Wait()
	for i, err := range errs {
		switch {
		case err == nil && successor == "":
			successor = answers[i].RefreshToken
		case err == nil:
			t.Errorf("two of %d processes renewed one token", len(servers))
			return ""
		case !isRefusal(err):
			t.Errorf("a loser was not refused: %v", err)
			return ""
		}
	}
	if successor == "" {
		t.Errorf("none of %d processes renewed the token: %v", len(servers), errs)
	}
	return successor
}
