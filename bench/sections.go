//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/jwtrenew/renew"
)

// contend has systems take turns, with so many renewers each. They are stopped
// afterwards.
func (b *bench) contend(ctx context.Context, renewers int, systems ...system) ([]*contender, error) {
	contenders := make([]*contender, len(systems))
	for i, s := range systems {
		defer s.close()
		var err error
		if contenders[i], err = newContender(ctx, s, renewers, b.block); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return contenders, interleave(ctx, b.rounds, contenders...)
}

// start collects systems that are started, or the first error.
type start struct {
	systems []system
	err     error
}

func (s *start) add(one system, err error) {
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	s.systems = append(s.systems, one)
}

// limit holds this library against its budget. What is compared takes turns one by
// one, which is as closely as a busy machine can hit both alike.
func (b *bench) limit(ctx context.Context) error {
	var all start
	all.add(limitOf(renew.ES256))
	all.add(onMemory(ctx, renew.ES256, 0))
	all.add(limitWithClaims(renew.ES256, largeClaims))
	all.add(onMemory(ctx, renew.ES256, largeClaims))
	all.add(rejections(ctx, renew.ES256, forged))
	all.add(rejections(ctx, renew.ES256, notAToken))
	all.add(rejections(ctx, renew.ES256, longHeader))
	if all.err != nil {
		return all.err
	}
	contenders, err := b.contend(ctx, 1, all.systems...)
	if err != nil {
		return err
	}
	limit, renewal := contenders[0], contenders[1]
	t := newTable("A renewal against its budget, ES256 on memstore", "", "measured", "budget")
	for _, pair := range []struct {
		name         string
		what, beside *contender
		budget       float64
	}{
		{"time to limit", renewal, limit, 1.12},
		{"time to limit, with 16 KiB of claims that the limit hashes and encodes", contenders[3], contenders[2], 1.7},
		{"time of a forged token to a renewal", contenders[4], renewal, 0.5},
		{"time of a text that is not a token to a renewal", contenders[5], renewal, 0.05},
		{"time of a token with a header of 6,000 characters to a renewal", contenders[6], renewal, 0.05},
	} {
		ratio, err := b.oneByOne(ctx, pair.what.sessions[0], pair.beside.sessions[0])
		if err != nil {
			return err
		}
		t.add(fmt.Sprintf("%s, median of %d pairs one by one", pair.name, b.pairs), fmt.Sprintf("%.3f ×", ratio), times(pair.budget))
	}
	t.add(fmt.Sprintf("CPU to limit with garbage collection, median of %d blocks", b.rounds), fmt.Sprintf("%.3f ×", renewal.ratio(limit, byCPU)), times(1.15))
	t.add("allocations", count(renewal.median(byAllocs)), count(260))
	return t.print(b.out)
}

// oneByOne returns the median of the ratios of what takes turns.
func (b *bench) oneByOne(ctx context.Context, what, beside renewal) (float64, error) {
	ratios := make([]float64, b.pairs)
	for i := range ratios {
		began := time.Now()
		err := beside(ctx)
		between := time.Now()
		if err := errors.Join(err, what(ctx)); err != nil {
			return 0, err
		}
		ratios[i] = float64(time.Since(between)) / float64(between.Sub(began))
	}
	return median(ratios), nil
}

// systems sets this library, on each store and over HTTP, beside the limit and
// beside others.
func (b *bench) systems(ctx context.Context) error {
	var all start
	all.add(limitOf(renew.ES256))
	all.add(onMemory(ctx, renew.ES256, 0))
	all.add(b.overHTTP(ctx))
	for _, kind := range []storeKind{inSQLite, inPostgreSQL, inMariaDB} {
		if b.databases.has(kind) {
			all.add(b.onDatabase(ctx, kind))
		}
	}
	all.add(newByHand())
	all.add(onFosite())
	all.add(onZitadel())
	if all.err != nil {
		return all.err
	}
	contenders, err := b.contend(ctx, 1, all.systems...)
	if err != nil {
		return err
	}
	limit := contenders[0]
	t := newTable("One renewer, ES256", "", "wall", "CPU", "CPU to limit", "allocations", "bytes")
	for _, c := range contenders {
		t.add(c.name, duration(c.median(byWall)), duration(c.median(byCPU)), times(c.ratio(limit, byCPU)),
			count(c.median(byAllocs)), count(c.median(byBytes)))
	}
	t.note("Medians of %d blocks of %v, which take turns; ratios are medians of ratios block by block. Over HTTP, CPU and allocations are the server process's; of PostgreSQL and MariaDB only the wall clock includes the database.", b.rounds, b.block)
	return t.print(b.out)
}

func (b *bench) overHTTP(ctx context.Context) (system, error) {
	c, err := startChild(ctx, childConfig{Kind: inMemory}, oneCore)
	if err != nil {
		return system{}, err
	}
	return system{name: "renew over HTTP, on memstore", login: c.login, usage: c.usage, stop: c.stop}, nil
}

func (b *bench) onDatabase(ctx context.Context, kind storeKind) (system, error) {
	backend, err := b.databases.open(ctx, kind)
	if err != nil {
		return system{}, err
	}
	return backend.system()
}

// algorithms sets every algorithm beside its own limit.
func (b *bench) algorithms(ctx context.Context) error {
	t := newTable("Algorithms, one renewer on memstore", "", "limit, CPU", "renewal, CPU", "to limit")
	for _, alg := range algorithms {
		var all start
		all.add(limitOf(alg.name))
		all.add(onMemory(ctx, alg.name, 0))
		if all.err != nil {
			return all.err
		}
		contenders, err := b.contend(ctx, 1, all.systems...)
		if err != nil {
			return err
		}
		limit, renewal := contenders[0], contenders[1]
		t.add(string(alg.name), duration(limit.median(byCPU)), duration(renewal.median(byCPU)), times(renewal.ratio(limit, byCPU)))
	}
	return t.print(b.out)
}

// renewers has several sessions renewed concurrently.
func (b *bench) renewers(ctx context.Context) error {
	t := newTable("Several renewers concurrently, ES256 on memstore", "renewers", "limit/s", "renewals/s", "CPU to limit", "wall to limit", "by hand/s")
	for _, n := range []int{1, 2, 8} {
		var all start
		all.add(limitOf(renew.ES256))
		all.add(onMemory(ctx, renew.ES256, 0))
		all.add(newByHand())
		if all.err != nil {
			return all.err
		}
		contenders, err := b.contend(ctx, n, all.systems...)
		if err != nil {
			return err
		}
		limit, renewal, hand := contenders[0], contenders[1], contenders[2]
		t.add(fmt.Sprint(n), perSecond(limit.median(byWall)), perSecond(renewal.median(byWall)), times(renewal.ratio(limit, byCPU)),
			times(renewal.ratio(limit, byWall)), perSecond(hand.median(byWall)))
	}
	return t.print(b.out)
}

// claims shows what custom claims cost.
func (b *bench) claims(ctx context.Context) error {
	sizes := []int{0, 1 << 10, 16 << 10}
	var all start
	all.add(limitOf(renew.ES256))
	for _, size := range sizes {
		all.add(onMemory(ctx, renew.ES256, size))
	}
	if all.err != nil {
		return all.err
	}
	contenders, err := b.contend(ctx, 1, all.systems...)
	if err != nil {
		return err
	}
	t := newTable("Custom claims, ES256 on memstore", "bytes of JSON", "CPU", "to limit", "allocations", "bytes")
	for i, c := range contenders[1:] {
		t.add(fmt.Sprint(sizes[i]), duration(c.median(byCPU)), times(c.ratio(contenders[0], byCPU)), count(c.median(byAllocs)), count(c.median(byBytes)))
	}
	return t.print(b.out)
}

// signing compares two signatures one after the other with two at the same time,
// behind one verification: for one renewer, and for more than there are cores.
func (b *bench) signing(ctx context.Context) error {
	t := newTable("Signing both tokens at the same time", "", "wall, one after the other", "wall, at the same time", "ratio", "CPU ratio")
	for _, one := range []struct {
		name string
		alg  renew.Algorithm
		away time.Duration
	}{
		{"ES256", renew.ES256, 0},
		{"ES384", renew.ES384, 0},
		{"ES512", renew.ES512, 0},
		{"EdDSA", renew.EdDSA, 0},
		{"RS256", renew.RS256, 0},
		{"ES256, signer 5 ms away", renew.ES256, 5 * time.Millisecond},
	} {
		for _, n := range []int{1, 8} {
			var all start
			all.add(limitWith(one.alg, one.away, oneAfterTheOther))
			all.add(limitWith(one.alg, one.away, atTheSameTime))
			if all.err != nil {
				return all.err
			}
			contenders, err := b.contend(ctx, n, all.systems...)
			if err != nil {
				return err
			}
			after, atOnce := contenders[0], contenders[1]
			t.add(fmt.Sprintf("%s, renewers: %d", one.name, n), duration(after.median(byWall)), duration(atOnce.median(byWall)),
				times(atOnce.ratio(after, byWall)), times(atOnce.ratio(after, byCPU)))
		}
	}
	t.note("One verification and two signatures, as in the limit. Wall is the time per renewal of all renewers together: with 8 of them it says how many are done in a second. A remote signer takes 5 ms, as one on another machine does.")
	return t.print(b.out)
}

// http loads servers of one core from a client of another, and compares what they
// renew with what the limit lets one core renew, in the same process.
func (b *bench) http(ctx context.Context) error {
	var contenders []*loaded
	for _, one := range []struct {
		name, path string
		env        []string
	}{
		{"limit behind net/http, nothing else", "/bench/bare", []string{oneCore}},
		{"renewal", "/app/" + appID + "/renew", []string{oneCore}},
		{"renewal, GOGC=400", "/app/" + appID + "/renew", []string{oneCore, "GOGC=400"}},
	} {
		server, err := startChild(ctx, childConfig{Kind: inMemory}, one.env...)
		if err != nil {
			return err
		}
		defer server.stop()
		contenders = append(contenders, &loaded{name: one.name, path: one.path, server: server})
	}
	for round := range max(b.rounds/2, 5) {
		for i := range contenders {
			if err := contenders[(round+i)%len(contenders)].round(ctx, b.load); err != nil {
				return err
			}
		}
	}
	t := newTable(fmt.Sprintf("Over HTTP on a socket: a server on one core, %d connections from another process", connections),
		"", "CPU", "per second by CPU", "share of the limit", "share of what net/http leaves", "per second by the clock", "p50", "p99")
	bare := contenders[0]
	t.add("limit, in the server's process", duration(median(bare.limit)), perSecond(median(bare.limit)), percent(1), "", "", "", "")
	for _, c := range contenders {
		t.add(c.name, duration(median(c.cpu)), perSecond(median(c.cpu)), percent(median(c.share)), percent(median(c.shareOf(bare))), perSecond(median(c.wall)),
			duration(percentile(c.latency, 50)), duration(percentile(c.latency, 99)))
	}
	t.note("The servers run with GOMAXPROCS=1, and so does their client. CPU is the server process's alone: net/http, the kernel's part of its system calls and garbage collection included. The share of the limit is of the one measured in the same server's process just before; what net/http leaves of it is the line of the limit behind net/http, round by round. By the clock, server and client also compete with whatever else the machine runs.")
	return t.print(b.out)
}

// connections is how many clients a server has simultaneously.
const connections = 16

// loaded is a server under load.
type loaded struct {
	name, path                       string
	server                           *child
	limit, cpu, wall, share, latency []float64
}

// round measures the limit, then loads the server.
func (l *loaded) round(ctx context.Context, load time.Duration) error {
	var limit work
	if err := l.server.ask(ctx, "limit?n=1000", &limit); err != nil {
		return err
	}
	before, err := l.server.usage(ctx)
	if err != nil {
		return err
	}
	result, err := runLoad(ctx, loadConfig{URL: l.server.url, Path: l.path, AppKey: l.server.appKey, Connections: connections, For: load})
	if err != nil {
		return err
	}
	after, err := l.server.usage(ctx)
	if err != nil {
		return err
	}
	// The first request of each connection is counted with the others: its CPU
	// time is.
	cpu := float64(after.CPU-before.CPU) / float64(result.Renewals+connections)
	l.limit, l.cpu = append(l.limit, limit.CPU), append(l.cpu, cpu)
	l.share = append(l.share, limit.CPU/cpu)
	l.wall = append(l.wall, float64(result.Took)/float64(result.Renewals))
	l.latency = append(l.latency, result.Latency...)
	return nil
}

// shareOf returns, round by round, how many renewals the server does while another
// one does one, by their CPU.
func (l *loaded) shareOf(other *loaded) []float64 {
	shares := make([]float64, len(l.cpu))
	for i := range shares {
		shares[i] = other.cpu[i] / l.cpu[i]
	}
	return shares
}

// databasesAtLoad says how many renewals a database does for 16 clients, and what
// bounds them.
func (b *bench) databasesAtLoad(ctx context.Context) error {
	t := newTable("On a database, 16 clients concurrently", "", "renewals/s", "own CPU", "database's CPU", "of the cores")
	for _, kind := range []storeKind{inPostgreSQL, inMariaDB} {
		if !b.databases.has(kind) {
			continue
		}
		for _, one := range []struct {
			how  string
			open func(context.Context, storeKind) (*backend, error)
		}{{"", b.databases.open}, {", commits not flushed", b.databases.openUnflushed}} {
			backend, err := one.open(ctx, kind)
			if err != nil {
				return err
			}
			if err := b.loadDatabase(ctx, t, kind.Name+one.how, backend); err != nil {
				return err
			}
		}
	}
	t.note("Each client has its own session and connection. CPU is per renewal; of the cores is how much of all cores both together kept busy. Where that is near 100 %%, the processors bound the rate; where it is far below and unflushed commits are much faster, the disk does.")
	return t.print(b.out)
}

func (b *bench) loadDatabase(ctx context.Context, t *table, name string, backend *backend) error {
	s, err := backend.system()
	if err != nil {
		return err
	}
	defer s.close()
	c, err := newContender(ctx, s, connections, b.load)
	if err != nil {
		return err
	}
	var theirs []float64
	for range 5 {
		before, err := databaseCPU(ctx, backend.engine.(*database))
		if err != nil {
			return err
		}
		if err := c.run(ctx); err != nil {
			return err
		}
		after, err := databaseCPU(ctx, backend.engine.(*database))
		if err != nil {
			return err
		}
		theirs = append(theirs, float64(after-before)/float64(c.each*len(c.sessions)))
	}
	own, server, wall := c.median(byCPU), median(theirs), c.median(byWall)
	t.add(name, perSecond(wall), duration(own), duration(server), percent((own+server)/wall/float64(runtime.NumCPU())))
	return nil
}

// fleet says how many renewals the stores do that several servers share, and how long
// each takes, for few clients and for many.
func (b *bench) fleet(ctx context.Context) error {
	var all start
	var kinds []storeKind
	for _, kind := range []storeKind{inPostgreSQL, inMariaDB, inRedis, inEverysec, inCluster} {
		if b.databases.has(kind) {
			kinds = append(kinds, kind)
			all.add(b.onDatabase(ctx, kind))
		}
	}
	for _, s := range all.systems {
		defer s.close()
	}
	if all.err != nil {
		return all.err
	}
	t := newTable("Stores that several servers share", "", "clients", "renewals/s", "p50", "p99")
	for _, clients := range []int{1, 16, 64} {
		runs, err := takeTurns(ctx, all.systems, clients, max(b.rounds/4, 2), b.load)
		if err != nil {
			return err
		}
		for i, run := range runs {
			t.add(kinds[i].Name, fmt.Sprint(clients), perSecond(median(run.wall)),
				duration(percentile(run.latency, 50)), duration(percentile(run.latency, 99)))
		}
	}
	t.note("Each client has its own session and connection. The stores take turns of %v; all their servers, the cluster's three too, and the clients share this machine's cores.", b.load)
	return t.print(b.out)
}

// turns is what a system did when it was its turn.
type turns struct{ wall, latency []float64 }

// takeTurns has systems renew, one after the other, for so many clients at a time.
func takeTurns(ctx context.Context, systems []system, clients, rounds int, load time.Duration) ([]turns, error) {
	sessions := make([][]renewal, len(systems))
	for i, s := range systems {
		for range clients {
			one, err := s.login(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			sessions[i] = append(sessions[i], one)
		}
	}
	all := make([]turns, len(systems))
	for round := range rounds {
		for i := range systems {
			at := (round + i) % len(systems)
			result, err := renewFor(ctx, sessions[at], load)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", systems[at].name, err)
			}
			all[at].wall = append(all[at].wall, float64(result.Took)/float64(result.Renewals))
			all[at].latency = append(all[at].latency, result.Latency...)
		}
	}
	return all, nil
}

// growthOfStores renews sessions of stores that hold few and many.
func (b *bench) growthOfStores(ctx context.Context) error {
	for _, kind := range []storeKind{inMemory, inSQLite, inPostgreSQL, inRedis} {
		if !b.databases.has(kind) {
			continue
		}
		if err := b.growthOf(ctx, kind); err != nil {
			return fmt.Errorf("%s: %w", kind.Name, err)
		}
	}
	return nil
}

func (b *bench) growthOf(ctx context.Context, kind storeKind) error {
	servers := make([]*child, len(b.live))
	for i, live := range b.live {
		dsn, err := b.databases.empty(kind)
		if err != nil {
			return err
		}
		if servers[i], err = startChild(ctx, childConfig{Kind: kind, DSN: dsn, Live: live}); err != nil {
			return err
		}
		defer servers[i].stop()
	}
	all := make([][]float64, len(servers))    // every latency
	ratios := make([][]float64, len(servers)) // of the blocks' medians to those of the smallest store
	for round := range b.rounds {
		medians := make([]float64, len(servers))
		for i := range servers {
			at := (round + i) % len(servers)
			var took []float64
			if err := servers[at].ask(ctx, fmt.Sprintf("block?n=%d", b.growth), &took); err != nil {
				return err
			}
			all[at] = append(all[at], took...)
			medians[at] = median(took)
		}
		for i := range ratios {
			ratios[i] = append(ratios[i], medians[i]/medians[0])
		}
	}
	t := newTable("Growth, on "+kind.Name, "live sessions", "p50", "p99", fmt.Sprintf("p50 to %d", b.live[0]), "bytes per session", "statements")
	for i, server := range servers {
		var bytes, statements float64
		if err := errors.Join(server.ask(ctx, "bytes", &bytes), server.ask(ctx, "statements", &statements)); err != nil {
			return err
		}
		t.add(fmt.Sprint(b.live[i]), duration(percentile(all[i], 50)), duration(percentile(all[i], 99)), times(median(ratios[i])),
			count(bytes), statementsOf(kind, statements))
	}
	t.note("Each store in its own process; %d renewals of each, in turns of %d, of up to %d sessions that are spread among the others.", b.rounds*b.growth, b.growth, keptSessions)
	return t.print(b.out)
}

func statementsOf(kind storeKind, n float64) string {
	if kind.Driver == "" {
		return "none"
	}
	return fmt.Sprintf("%.3g", n)
}

// age renews one session very often.
func (b *bench) age(ctx context.Context) error {
	t := newTable(fmt.Sprintf("One session of 1000, after %d renewals", b.renewals), "", "p50, first tenth", "p50, last tenth", "bytes per session before", "bytes per session after")
	for _, kind := range []storeKind{inMemory, inSQLite, inPostgreSQL, inRedis} {
		if !b.databases.has(kind) {
			continue
		}
		dsn, err := b.databases.empty(kind)
		if err != nil {
			return err
		}
		server, err := startChild(ctx, childConfig{Kind: kind, DSN: dsn, Live: keptSessions})
		if err != nil {
			return err
		}
		defer server.stop()
		var a aged
		// One renewal each, so that all are as large as renewed sessions are.
		var took []float64
		if err := server.ask(ctx, fmt.Sprintf("block?n=%d", keptSessions), &took); err != nil {
			return err
		}
		if err := server.ask(ctx, fmt.Sprintf("age?n=%d", b.renewals), &a); err != nil {
			return err
		}
		t.add(kind.Name, duration(a.Young), duration(a.Old), count(float64(a.Before)/keptSessions), count(float64(a.After)/keptSessions))
	}
	t.note("Bytes are those of the whole store, of the heap for memstore and of its data in memory for Redis, over %d sessions.", keptSessions)
	return t.print(b.out)
}
