package redisstore_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
	"github.com/jwtrenew/renew/keycrypt"
	"github.com/jwtrenew/renew/redisstore"
	"github.com/jwtrenew/renew/redisstore/internal/redistest"
)

// TestRejectedClients promises that what would lose sessions or read stale ones is an
// error when a store is made, for both stores, which says why.
func TestRejectedClients(t *testing.T) {
	primary := redistest.Start(t)
	evicting := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	clustered := redistest.Start(t, "--cluster-enabled", "yes")
	replica := redistest.Start(t, "--replicaof", strings.Replace(primary.Addr(), ":", " ", 1))
	require.Eventually(t, func() bool { return replica.Info("master_link_status") == "up" }, 30*time.Second, 10*time.Millisecond)
	to := func(s *redistest.Server) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: s.Addr()})
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	inCluster := func(o redis.ClusterOptions) redis.UniversalClient {
		o.Addrs = []string{"127.0.0.1:1"}
		client := redis.NewClusterClient(&o)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	byOptions := func(o redis.UniversalOptions) redis.UniversalClient {
		o.Addrs = []string{"127.0.0.1:1", "127.0.0.1:2"}
		client := redis.NewUniversalClient(&o)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": primary.Addr()}})
	t.Cleanup(func() { _ = ring.Close() })
	var nilClient *redis.Client
	var nilCluster *redis.ClusterClient
	for _, c := range []struct {
		name   string
		client redis.UniversalClient
		says   string
	}{
		{"none", nil, "the client is nil"},
		{"nil pointer", nilClient, "the client is nil"},
		{"nil cluster", nilCluster, "the client is nil"},
		{"ring", ring, "Ring"},
		{"wrapped", struct{ redis.UniversalClient }{to(primary)}, "is not a"},
		{"read-only cluster", inCluster(redis.ClusterOptions{ReadOnly: true}), "replicas"},
		{"by latency", inCluster(redis.ClusterOptions{RouteByLatency: true}), "replicas"},
		{"at random", inCluster(redis.ClusterOptions{RouteRandomly: true}), "replicas"},
		{"read-only by options", byOptions(redis.UniversalOptions{ReadOnly: true}), "replicas"},
		{"Sentinel by latency", byOptions(redis.UniversalOptions{MasterName: "m", RouteByLatency: true}), "replicas"},
		{"Sentinel at random", byOptions(redis.UniversalOptions{MasterName: "m", RouteRandomly: true}), "replicas"},
		{"Sentinel as a cluster, replicas only", byOptions(redis.UniversalOptions{MasterName: "m", ReadOnly: true, RouteRandomly: true}), "replicas"},
		{"replica", to(replica), "the stores need the primary"},
		{"evicting", to(evicting), "noeviction"},
		{"server of a cluster", to(clustered), "NewClusterClient"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := redisstore.NewTokenStore(t.Context(), c.client)
			require.ErrorContains(t, err, c.says)
			_, err = redisstore.NewKeyStore(t.Context(), c.client, newEncrypter(t))
			require.ErrorContains(t, err, c.says)
		})
	}
	_, err := redisstore.NewKeyStore(t.Context(), to(primary), nil)
	require.ErrorContains(t, err, "encrypter")
	store, err := redisstore.NewTokenStore(t.Context(), to(primary))
	require.NoError(t, err)
	require.Len(t, store.Diagnosis(), 1)
	require.Contains(t, store.Diagnosis()[0], "min-replicas-to-write")
}

// TestRejectedOptions promises errors for options that make no sense.
func TestRejectedOptions(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ReadTimeout: time.Second})
	t.Cleanup(func() { _ = client.Close() })
	for name, opts := range map[string][]redisstore.Option{
		"nil":                   {nil},
		"prefix":                {redisstore.WithKeyPrefix("a{b")},
		"command timeout":       {redisstore.WithCommandTimeout(0)},
		"retention":             {redisstore.WithRetention(time.Minute)},
		"no replica":            {redisstore.WithWait(0, time.Second)},
		"no wait":               {redisstore.WithWait(1, 0)},
		"wait over command":     {redisstore.WithWait(1, 5*time.Second)},
		"wait over readTimeout": {redisstore.WithWait(1, 2*time.Second)},
		"status interval":       {redisstore.WithStatusInterval(-1)},
		"outage limit":          {redisstore.WithOutageLimit(-1)},
	} {
		_, err := redisstore.NewTokenStore(t.Context(), client, opts...)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "connect", name)
	}
}

// TestDiagnosis promises that what weakens the promises is found, and nothing is where
// all is as it should be.
func TestDiagnosis(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings []string
		opts     []redisstore.Option
		says     string // empty: nothing
	}{
		{"as it should be", nil, nil, ""},
		{"no file", []string{"--appendonly", "no"}, nil, "appendonly"},
		{"every second", []string{"--appendfsync", "everysec"}, nil, "everysec"},
		{"never", []string{"--appendfsync", "no"}, nil, "appendfsync is no"},
		{"not while rewriting", []string{"--no-appendfsync-on-rewrite", "yes"}, nil, "no-appendfsync-on-rewrite"},
		{"no CONFIG", []string{"--rename-command", "CONFIG", ""}, nil, "CONFIG"},
		{"too few replicas", nil, []redisstore.Option{redisstore.WithWait(1, time.Second)}, "0 replicas"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := redistest.Start(t, c.settings...)
			client := redis.NewClient(&redis.Options{Addr: s.Addr()})
			t.Cleanup(func() { _ = client.Close() })
			tokens, err := redisstore.NewTokenStore(t.Context(), client, c.opts...)
			require.NoError(t, err)
			keys, err := redisstore.NewKeyStore(t.Context(), client, newEncrypter(t), c.opts...)
			require.NoError(t, err)
			require.Equal(t, tokens.Diagnosis(), keys.Diagnosis())
			if c.says == "" {
				require.Empty(t, tokens.Diagnosis())
				return
			}
			require.Len(t, tokens.Diagnosis(), 1)
			require.Contains(t, tokens.Diagnosis()[0], c.says)
			require.Contains(t, tokens.Diagnosis()[0], s.Addr())
		})
	}
}

// TestDiagnosisOfReplicas promises findings for a primary that is not stopped when it is
// cut off from its replicas, and for one that stops when it has lost a single replica.
func TestDiagnosisOfReplicas(t *testing.T) {
	primary := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: primary.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	for replicas, cases := range [][]struct{ least, lag, says string }{
		{{"0", "10", ""}, {"1", "10", "rejects every call"}},
		{{"0", "10", "one replica"}, {"1", "10", "rejects every call"}},
		{{"0", "10", "set it to 1"}, {"1", "0", "set it to 1"}, {"1", "10", ""}, {"2", "10", "rejects every call"}},
	} {
		if replicas > 0 {
			redistest.Start(t, "--replicaof", strings.Replace(primary.Addr(), ":", " ", 1))
			require.Eventually(t, func() bool { return primary.Info("connected_slaves") == strconv.Itoa(replicas) }, 30*time.Second, 10*time.Millisecond)
		}
		for _, c := range cases {
			primary.Do(t, "CONFIG", "SET", "min-replicas-to-write", c.least, "min-replicas-max-lag", c.lag)
			store, err := redisstore.NewTokenStore(t.Context(), client)
			require.NoError(t, err)
			if c.says == "" {
				require.Empty(t, store.Diagnosis(), "%d replicas, %+v", replicas, c)
				continue
			}
			require.Len(t, store.Diagnosis(), 1, "%d replicas, %+v", replicas, c)
			require.Contains(t, store.Diagnosis()[0], c.says)
		}
	}
}

// TestEncryptionKeyIsChecked promises that another encryption key than the stored keys
// need is found when a store is made.
func TestEncryptionKeyIsChecked(t *testing.T) {
	f := oneServer(t)
	client := f.client(t)
	keys := f.keys(t, client)
	require.NoError(t, keys.CreateApp(t.Context(), app()))
	require.NoError(t, keys.RotateSigningKey(t.Context(), testApp, newKey(t), base))
	other, err := keycrypt.New(make([]byte, keycrypt.KeyBytes))
	require.NoError(t, err)
	_, err = redisstore.NewKeyStore(t.Context(), client, other)
	require.ErrorIs(t, err, keycrypt.ErrUnknownKey)
}

// TestServerIsReplaced promises that nothing is read from a server that has become a
// replica since the store was made, nor from a primary that has lost its replicas
// where min-replicas-to-write asks for them: what it has may be out of date.
func TestServerIsReplaced(t *testing.T) {
	other := redistest.Start(t)
	for name, replace := range map[string]func(s *redistest.Server){
		"replica":   func(s *redistest.Server) { s.Do(t, "REPLICAOF", "127.0.0.1", other.Port) },
		"cut off":   func(s *redistest.Server) { s.Do(t, "CONFIG", "SET", "min-replicas-to-write", "1") },
		"as it was": func(*redistest.Server) {},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			client := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
			t.Cleanup(func() { _ = client.Close() })
			ctx := t.Context()
			tokens, err := redisstore.NewTokenStore(ctx, client)
			require.NoError(t, err)
			keys, err := redisstore.NewKeyStore(ctx, client, newEncrypter(t), redisstore.WithStatusInterval(0))
			require.NoError(t, err)
			session := newSession("session")
			require.NoError(t, tokens.CreateSession(ctx, session))
			require.NoError(t, keys.CreateApp(ctx, app()))
			replace(s)
			_, sessionErr := tokens.Session(ctx, testApp, "session")
			_, unknownErr := tokens.Session(ctx, testApp, "unknown")
			_, listErr := tokens.SubjectSessions(ctx, testApp, "subject", base)
			_, appErr := keys.App(ctx, testApp)
			if name == "as it was" {
				require.NoError(t, errors.Join(sessionErr, listErr, appErr))
				require.ErrorIs(t, unknownErr, renew.ErrSessionNotFound)
				return
			}
			for _, err := range []error{sessionErr, unknownErr, listErr, appErr} {
				require.Error(t, err)
				fleettest.RequireNotNamed(t, err)
			}
		})
	}
}

// TestRights promises that a user of Redis's access control with the rights that
// docs/stores.md lists, and no others, can do all that the stores do; with
// RENEW_TEST_REDIS_LAWS=1 also with Sentinel and in a cluster. It moves no slot, for
// which the list has ASKING.
func TestRights(t *testing.T) {
	page, err := os.ReadFile("../docs/stores.md")
	require.NoError(t, err)
	_, line, found := strings.Cut(string(page), "    ACL SETUSER renew")
	require.True(t, found)
	line, _, _ = strings.Cut(line, "\n\n")
	command := []any{"ACL", "SETUSER", "renew"}
	for _, rule := range strings.Fields(line) {
		command = append(command, rule)
	}
	onForms(t, false, func(t *testing.T, f *form) {
		for _, s := range f.servers {
			s.Do(t, command...)
		}
		direct := f.client(t)
		client := f.client(t, func(o *redis.UniversalOptions) { o.Username, o.Password = "renew", "PASSWORD" })
		s := newSession("session")
		for i, c := range fleettest.Calls(t, s) {
			t.Run(c.Name, func(t *testing.T) {
				flush(t, direct)
				fleettest.Prepare(t, f.stores(t, direct), s)
				stores := f.stores(t, client)
				onAll(t, direct, func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() })
				c := fleettest.Calls(t, s)[i]
				require.NoError(t, c.Do(t.Context(), stores))
				c.Check(t, stores)
			})
		}
		forever := f.tokens(t, client, redisstore.WithRetention(0))
		require.NoError(t, forever.CreateSession(t.Context(), newSession("forever")))
		waiting := f.tokens(t, client, redisstore.WithWait(9, time.Millisecond))
		require.ErrorIs(t, waiting.CreateSession(t.Context(), newSession("waiting")), redisstore.ErrReplicas)
		require.NotContains(t, strings.Join(waiting.Diagnosis(), " "), "CONFIG")
	})
}
