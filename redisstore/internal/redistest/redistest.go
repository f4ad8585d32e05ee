// Package redistest gives tests Redis servers: one, a primary with replicas under
// Sentinels, and a cluster. It starts installed binaries, on loopback and free ports,
// in temporary folders; nothing that makes data durable is turned off. Where Redis is
// missing a test is skipped, or fails if RENEW_REQUIRE_DATABASES is 1; with -short it
// is skipped.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew/internal/dbtest"
)

// startLimit bounds a start, recovery after a kill included.
const startLimit = 60 * time.Second

// Server is one Redis server, or a Sentinel.
type Server struct {
	Port    int
	Dir     string
	program *dbtest.Program

	mu     sync.Mutex
	client *redis.Client // for what the tests ask the server itself
}

// Start starts a server that acknowledges nothing before it is on the disk. Settings
// are in addition to that.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s := newServer(tb, settings...)
	s.Start(tb)
	return s
}

func newServer(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	dir, port := dbtest.ProgramDir(tb), dbtest.FreePort(tb)
	args := append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0",
	}, settings...)
	return withProgram(tb, &Server{Port: port, Dir: dir}, "redis-server", "redis-server", args...)
}

func withProgram(tb testing.TB, s *Server, name, install string, args ...string) *Server {
	tb.Helper()
	s.program = dbtest.NewProgram(tb, name, "apt-get install "+install, filepath.Join(s.Dir, "log"), args...)
	s.client = redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, PoolSize: 2})
	tb.Cleanup(func() { _ = s.client.Close() })
	return s
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Start starts the server, unless it runs, and returns when it has loaded its data.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	if err := s.program.Start(); err != nil {
		tb.Fatal(err)
	}
	s.await(tb, "does not start", func() error {
		_, err := s.do("PING") // LOADING is an error
		return err
	})
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() { s.program.Kill() }

// Do sends a command to the server.
func (s *Server) Do(tb testing.TB, args ...any) any {
	tb.Helper()
	reply, err := s.do(args...)
	if err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
	return reply
}

func (s *Server) do(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client.Do(ctx, args...).Result()
}

// Info returns a value of INFO. It returns the empty string if there is no such value or
// no reply.
func (s *Server) Info(name string) string {
	text, _ := s.do("INFO", "all") // a server that is away does not reply
	for line := range strings.Lines(fmt.Sprint(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && key == name {
			return value
		}
	}
	return ""
}

// await waits until f returns nil.
func (s *Server) await(tb testing.TB, failure string, f func() error) {
	tb.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(begun) > startLimit || !s.program.Running() {
			tb.Fatalf("the server %s: %v\n%s", failure, err, s.program.LogTail())
		}
	}
}

var errNotYet = errors.New("not yet")

// replicates waits until the server has all that its primary has.
func (s *Server) replicates(tb testing.TB) {
	tb.Helper()
	s.await(tb, "does not replicate", func() error {
		if s.Info("master_link_status") != "up" {
			return errNotYet
		}
		return nil
	})
}

// Sentinel is a primary with two replicas, and three Sentinels that watch them.
type Sentinel struct {
	Servers   []*Server
	Sentinels []*Server
}

// Master is the name that the Sentinels know the primary by.
const Master = "renew"

// StartSentinel starts one. A server that does not respond for downAfter is replaced.
func StartSentinel(tb testing.TB, downAfter time.Duration, settings ...string) *Sentinel {
	tb.Helper()
	s := &Sentinel{Servers: []*Server{Start(tb, settings...)}}
	for range 2 {
		replica := Start(tb, append(settings, "--replicaof", "127.0.0.1 "+strconv.Itoa(s.Servers[0].Port))...)
		replica.replicates(tb)
		s.Servers = append(s.Servers, replica)
	}
	for range 3 {
		s.Sentinels = append(s.Sentinels, startSentinel(tb, s.Servers[0].Port, downAfter))
	}
	for _, sentinel := range s.Sentinels {
		sentinel.await(tb, "does not know the others", func() error {
			if !strings.HasSuffix(sentinel.Info("master0"), "slaves=2,sentinels=3") {
				return errNotYet
			}
			return nil
		})
	}
	return s
}

func startSentinel(tb testing.TB, primary int, downAfter time.Duration) *Server {
	tb.Helper()
	dir, port := dbtest.ProgramDir(tb), dbtest.FreePort(tb)
	file := filepath.Join(dir, "sentinel.conf")
	lines := []string{
		fmt.Sprintf("port %d", port), "bind 127.0.0.1", "dir " + dir,
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", Master, primary),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", Master, downAfter.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s 1000", Master),
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil { //nolint:gosec // the server runs as another user, and rewrites it
		tb.Fatal(err)
	}
	if err := os.Chmod(file, 0o666); err != nil { //nolint:gosec // as above
		tb.Fatal(err)
	}
	s := withProgram(tb, &Server{Port: port, Dir: dir}, "redis-sentinel", "redis-sentinel", file)
	s.Start(tb)
	return s
}

// Addrs are the Sentinels'.
func (s *Sentinel) Addrs() []string { return addrs(s.Sentinels) }

func addrs(servers []*Server) []string {
	out := make([]string, len(servers))
	for i, s := range servers {
		out[i] = s.Addr()
	}
	return out
}

// Primary returns the server that the Sentinels name.
func (s *Sentinel) Primary(tb testing.TB) *Server {
	tb.Helper()
	reply, _ := s.Sentinels[0].Do(tb, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", Master).([]any)
	for _, server := range s.Servers {
		if len(reply) == 2 && reply[1] == strconv.Itoa(server.Port) {
			return server
		}
	}
	tb.Fatalf("the Sentinels name an unknown primary: %v", reply)
	return nil
}

// Epoch grows with every failover, also with one that no test has asked for.
func (s *Sentinel) Epoch(tb testing.TB) string {
	tb.Helper()
	master, _ := s.Sentinels[0].Do(tb, "SENTINEL", "MASTER", Master).(map[any]any)
	return fmt.Sprint(master["config-epoch"])
}

// Promote kills the primary, waits until another server has its place, and starts the
// old one as a replica. With cut the replication is cut first, for as long: what the
// primary acknowledges then is lost.
func (s *Sentinel) Promote(tb testing.TB, cut time.Duration) {
	tb.Helper()
	old := s.Primary(tb)
	if cut > 0 {
		cutLinks(tb, old, cut)
	}
	old.Kill()
	s.Sentinels[0].await(tb, "promotes no other", func() error {
		primary := s.Primary(tb)
		if primary == old || primary.Info("role") != "master" {
			return errNotYet
		}
		return nil
	})
	old.Start(tb)
	old.Do(tb, "REPLICAOF", "127.0.0.1", s.Primary(tb).Port) // a Sentinel would take ten seconds
	s.Settle(tb)
}

// cutLinks keeps a primary's replicas away for that long, while clients continue to write.
// The rights that it takes from replicas are back after the server's next start.
func cutLinks(tb testing.TB, primary *Server, d time.Duration) {
	tb.Helper()
	primary.Do(tb, "ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
	primary.Do(tb, "CLIENT", "KILL", "TYPE", "replica")
	time.Sleep(d)
}

// Settle waits until the Sentinels' primary has two replicas that are up to date.
func (s *Sentinel) Settle(tb testing.TB) {
	tb.Helper()
	s.Sentinels[0].await(tb, "has no settled primary", func() error {
		primary := s.Primary(tb)
		if primary.Info("role") != "master" || primary.Info("connected_slaves") != "2" {
			return errNotYet
		}
		for _, server := range s.Servers {
			if server != primary && (server.Info("master_link_status") != "up" || server.Info("master_port") != strconv.Itoa(primary.Port)) {
				return errNotYet
			}
		}
		for _, sentinel := range s.Sentinels {
			if !strings.Contains(sentinel.Info("master0"), "status=ok") ||
				!strings.Contains(sentinel.Info("master0"), ":"+strconv.Itoa(primary.Port)+",") {
				return errNotYet
			}
		}
		return nil
	})
}

// Cluster is three primaries, each with a replica.
type Cluster struct {
	Servers []*Server // the first three were the primaries at the start
}

// StartCluster starts one. A primary that does not respond for downAfter is replaced.
func StartCluster(tb testing.TB, downAfter time.Duration, settings ...string) *Cluster {
	tb.Helper()
	const primaries = 3
	c := &Cluster{}
	for range 2 * primaries {
		c.Servers = append(c.Servers, Start(tb, append(settings, "--cluster-enabled", "yes",
			"--cluster-port", strconv.Itoa(dbtest.FreePort(tb)),
			"--cluster-node-timeout", strconv.FormatInt(downAfter.Milliseconds(), 10),
			"--cluster-allow-replica-migration", "no")...))
	}
	ids := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		ids[i] = fmt.Sprint(s.Do(tb, "CLUSTER", "MYID"))
		if i < primaries {
			s.Do(tb, "CLUSTER", "ADDSLOTSRANGE", i*16384/primaries, (i+1)*16384/primaries-1)
		}
		if i > 0 {
			c.Servers[0].Do(tb, "CLUSTER", "MEET", "127.0.0.1", s.Port, busPort(tb, s))
		}
	}
	for i, s := range c.Servers[primaries:] {
		s.await(tb, "does not join", func() error {
			if s.Info("cluster_enabled") == "" {
				return errNotYet
			}
			_, err := s.do("CLUSTER", "REPLICATE", ids[i])
			return err
		})
	}
	c.Settle(tb)
	return c
}

func busPort(tb testing.TB, s *Server) string {
	tb.Helper()
	reply, _ := s.Do(tb, "CONFIG", "GET", "cluster-port").(map[any]any)
	return fmt.Sprint(reply["cluster-port"])
}

// Addrs are those of all servers.
func (c *Cluster) Addrs() []string { return addrs(c.Servers) }

// Settle waits until every server says that the cluster is well, and every replica is
// up to date.
func (c *Cluster) Settle(tb testing.TB) {
	tb.Helper()
	for _, s := range c.Servers {
		s.await(tb, "has no settled cluster", func() error {
			text, err := s.do("CLUSTER", "INFO")
			if err != nil {
				return err
			}
			if !strings.Contains(fmt.Sprint(text), "cluster_state:ok") || !strings.Contains(fmt.Sprint(text), "cluster_known_nodes:6") {
				return errNotYet
			}
			nodes, err := s.do("CLUSTER", "NODES")
			if err != nil || strings.Contains(fmt.Sprint(nodes), "fail") || strings.Contains(fmt.Sprint(nodes), "handshake") {
				return errNotYet
			}
			if s.Info("role") == "slave" && s.Info("master_link_status") != "up" {
				return errNotYet
			}
			return nil
		})
	}
	primaries := 0
	for _, s := range c.Servers {
		if s.Info("role") == "master" {
			primaries++
		}
	}
	if primaries != 3 {
		tb.Fatalf("the cluster has %d primaries", primaries)
	}
}

// Epoch is as of a Sentinel.
func (c *Cluster) Epoch(tb testing.TB) string {
	tb.Helper()
	for line := range strings.Lines(fmt.Sprint(c.Servers[0].Do(tb, "CLUSTER", "INFO"))) {
		if epoch, ok := strings.CutPrefix(strings.TrimSpace(line), "cluster_current_epoch:"); ok {
			return epoch
		}
	}
	return ""
}

// Promote kills the n-th primary, waits until its replica has its place, and starts
// the old one as a replica; for cut see [Sentinel.Promote].
func (c *Cluster) Promote(tb testing.TB, n int, cut time.Duration) {
	tb.Helper()
	var primaries []*Server
	for _, s := range c.Servers {
		if s.Info("role") == "master" {
			primaries = append(primaries, s)
		}
	}
	old := primaries[n%len(primaries)]
	replica := c.replicaOf(tb, old)
	if cut > 0 {
		cutLinks(tb, old, cut)
	}
	old.Kill()
	replica.await(tb, "is not promoted", func() error {
		if replica.Info("role") != "master" {
			return errNotYet
		}
		return nil
	})
	old.Start(tb)
	c.Settle(tb)
}

func (c *Cluster) replicaOf(tb testing.TB, primary *Server) *Server {
	tb.Helper()
	for _, s := range c.Servers {
		if s.Info("role") == "slave" && s.Info("master_port") == strconv.Itoa(primary.Port) {
			return s
		}
	}
	tb.Fatalf("the server at port %d has no replica", primary.Port)
	return nil
}
