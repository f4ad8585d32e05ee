package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/redisstore/internal/redistest"
)

// promotionsVariable names the environment variable that sets how many promotions
// TestFailover makes of each kind of Redis, and half as many more with the
// replication cut first. Default: 1 and 1, if RENEW_TEST_ROUNDS is set.
const promotionsVariable = "RENEW_TEST_PROMOTIONS"

// quickly is for how long a server is away before it is replaced, where that is what
// a test is about.
const quickly = 2 * time.Second

// TestFailover promises that with AheadAdopted no user is logged out by promotions,
// also by those that lose acknowledged writes, and that no token ends up with two
// successors that both renew.
func TestFailover(t *testing.T) {
	promotions := 1
	if text := os.Getenv(promotionsVariable); text != "" {
		var err error
		promotions, err = strconv.Atoi(text)
		require.NoError(t, err)
	} else {
		rounds.Long(t)
	}
	for _, c := range []struct {
		name  string
		start func(tb testing.TB) (promote func(n int, cut time.Duration), failovers func() string, o redis.UniversalOptions)
	}{
		{"Sentinel", func(tb testing.TB) (func(int, time.Duration), func() string, redis.UniversalOptions) {
			s := redistest.StartSentinel(tb, quickly)
			return func(_ int, cut time.Duration) { s.Promote(tb, cut) }, func() string { return s.Epoch(tb) },
				redis.UniversalOptions{MasterName: redistest.Master, Addrs: s.Addrs()}
		}},
		{"Cluster", func(tb testing.TB) (func(int, time.Duration), func() string, redis.UniversalOptions) {
			s := redistest.StartCluster(tb, quickly)
			return func(n int, cut time.Duration) { s.Promote(tb, n, cut) }, func() string { return s.Epoch(tb) },
				redis.UniversalOptions{Addrs: s.Addrs(), IsClusterMode: true}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if promotions == 1 { // with more, what they count is not to depend on each other
				t.Parallel()
			}
			promote, epoch, options := c.start(t)
			begun := epoch()
			l := newLoad(t, &form{options: options})
			l.start(t, 64)
			for n := range promotions {
				promote(n, 0)
			}
			quiet := l.lost.Load()
			for n := range (promotions + 1) / 2 {
				promote(n, 300*time.Millisecond)
			}
			l.stop()
			l.judge(t)
			t.Logf("%s: %d promotions and %d with the replication cut first (epochs %s to %s): %d renewals, %d failed requests repeated; "+
				"%d tokens were ahead of the store (%d before the cuts), of %d sessions: so many users would be logged out without AheadAdopted; "+
				"%d tokens had two successors, one of them lost; logged out: %d",
				c.name, promotions, (promotions+1)/2, begun, epoch(), l.renewals.Load(), l.failures.Load(), l.lost.Load(), quiet, l.sessionsLost(), len(l.split), len(l.loggedOut))
			require.Empty(t, l.loggedOut)
			require.Positive(t, l.lost.Load(), "the cuts have lost nothing: the test does not test what it is for")
		})
	}
}

// load is many clients that renew their sessions with several Renewers.
type load struct {
	renewers []*renew.Renewer
	ended    chan struct{}
	clients  sync.WaitGroup

	renewals, failures, lost atomic.Int64

	mu        sync.Mutex
	ahead     map[string]bool // the IDs of sessions
	split     []split
	loggedOut []string
	last      []string // each client's refresh token at the end
}

// split is a token that was given two successors, of which the client used the newer.
type split struct{ older, newer string }

func newLoad(t *testing.T, f *form) *load {
	t.Helper()
	l := &load{ended: make(chan struct{}), ahead: map[string]bool{}}
	keys := memstore.New()
	_, hash := renew.NewAppKey()
	app := renew.App{ID: testApp, Issuer: "https://issuer.example", KeyHashes: []renew.AppKeyHash{hash}}
	require.NoError(t, renew.EnsureApp(t.Context(), keys, app, renew.EdDSA))
	for range 2 {
		r, err := renew.New(keys, f.tokens(t, f.client(t)), renew.WithAhead(renew.AheadAdopted),
			renew.WithEventFunc(func(_ context.Context, e renew.Event) {
				if e.Kind == renew.EventAhead {
					l.lost.Add(1)
					l.mu.Lock()
					defer l.mu.Unlock()
					l.ahead[e.SessionID] = true
				}
			}))
		require.NoError(t, err)
		l.renewers = append(l.renewers, r)
	}
	return l
}

func (l *load) sessionsLost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ahead)
}

func (l *load) start(t *testing.T, clients int) {
	t.Helper()
	for i := range clients {
		b, err := l.renewers[0].Issue(t.Context(), renew.IssueRequest{
			AppID: testApp, Subject: fmt.Sprintf("user %d", i), IP: "192.0.2.1", UserAgent: "test",
		})
		require.NoError(t, err)
		l.clients.Go(func() { l.run(b.RefreshToken) })
	}
}

func (l *load) stop() {
	close(l.ended)
	l.clients.Wait()
}

// run renews until the end. Every tenth request is sent twice at the same time, as two
// tabs do, or a client that does not wait long enough.
func (l *load) run(token string) {
	for {
		select {
		case <-l.ended:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.last = append(l.last, token)
			return
		case <-time.After(time.Duration(30+rand.IntN(40)) * time.Millisecond): //nolint:gosec // no secret
		}
		next := l.next(token)
		if next == "" {
			return
		}
		token = next
	}
}

// next renews the token until that succeeds, or returns "" if the client is logged
// out.
func (l *load) next(token string) string {
	key := newIdempotencyKey()
	twice := rand.IntN(10) == 0 //nolint:gosec // no secret
	successors := make([]*renew.Bundle, 2)
	var both sync.WaitGroup
	for i := range successors {
		if i == 0 || twice {
			both.Go(func() { successors[i] = l.renew(l.renewers[i], token, key) })
		}
	}
	both.Wait()
	first, second := successors[0], successors[1]
	switch {
	case first == nil || twice && second == nil:
		return ""
	case !twice || first.TokenID == second.TokenID:
		return first.RefreshToken
	}
	older, newer := first, second
	if older.TokenID > newer.TokenID {
		older, newer = newer, older
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.split = append(l.split, split{older.RefreshToken, newer.RefreshToken})
	return newer.RefreshToken
}

// renew repeats a request until there is a response: the successor, or nil.
func (l *load) renew(r *renew.Renewer, token, key string) *renew.Bundle {
	for begun := time.Now(); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		b, err := r.Renew(ctx, renew.RenewRequest{
			AppID: testApp, RefreshToken: token, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: key,
		})
		cancel()
		switch {
		case err == nil:
			l.renewals.Add(1)
			return b
		case errors.Is(err, renew.ErrInvalidRefreshToken) || errors.As(err, new(*renew.ValidationError)) || time.Since(begun) > time.Minute:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.loggedOut = append(l.loggedOut, err.Error())
			return nil
		}
		l.failures.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}

// judge looks at every session when all is quiet: the client's token renews, and of
// two successors of one token the older one does not.
func (l *load) judge(t *testing.T) {
	t.Helper()
	for _, token := range l.last {
		require.NotNil(t, l.renew(l.renewers[0], token, newIdempotencyKey()))
	}
	for _, s := range l.split {
		_, err := l.renewers[0].Renew(t.Context(), renew.RenewRequest{
			AppID: testApp, RefreshToken: s.older, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: newIdempotencyKey(),
		})
		require.ErrorIs(t, err, renew.ErrInvalidRefreshToken, "both successors of a token renew")
	}
}
