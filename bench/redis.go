//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/redisstore"
	"github.com/jwtrenew/renew/sqlstore"
)

// redisDriver says that a backend's sessions are in Redis. The data source name is a
// URL of package redisstore.
const redisDriver = "redis"

// redisEngine is one server, or a cluster.
type redisEngine struct {
	client redis.UniversalClient
	url    string
}

func openRedis(ctx context.Context, b *backend, url string) error {
	client, err := redisstore.NewClient(url)
	if err != nil {
		return err
	}
	b.engine = &redisEngine{client, url}
	if b.tokens, err = redisstore.NewTokenStore(ctx, client); err != nil {
		return err
	}
	encrypter, err := sqlstore.NewEncrypter(encryptionKey)
	if err != nil {
		return err
	}
	b.keys, err = redisstore.NewKeyStore(ctx, client, encrypter, redisstore.WithStatusInterval(statusInterval))
	return err
}

func (e *redisEngine) close() { e.client.Close() }

// multiply issues sessions as a service does, many concurrently: their indexes are
// part of what they take.
func (e *redisEngine) multiply(ctx context.Context, sessionID string, from, n int) error {
	tokens, err := redisstore.NewTokenStore(ctx, e.client)
	if err != nil {
		return err
	}
	s, err := tokens.Session(ctx, appID, sessionID)
	if err != nil {
		return err
	}
	var creations errgroup.Group
	creations.SetLimit(maxConns)
	for i := range n {
		creations.Go(func() error { return createLike(ctx, tokens, s, from+i) })
	}
	return creations.Wait()
}

// size is the memory that the servers use for data.
func (e *redisEngine) size(ctx context.Context) (all int64, err error) {
	sum := func(ctx context.Context, server *redis.Client) error {
		info, err := server.Info(ctx, "memory").Result()
		for line := range strings.Lines(info) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory_dataset:"); ok {
				n, err := strconv.ParseInt(text, 10, 64)
				atomic.AddInt64(&all, n)
				return err
			}
		}
		return errors.Join(err, errors.New("redis does not tell how much memory it uses"))
	}
	if cluster, ok := e.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, sum)
	} else {
		err = sum(ctx, e.client.(*redis.Client))
	}
	return all, err
}

func (e *redisEngine) settle(context.Context) error { return nil }

// statements are commands, each of which is a round trip.
func (e *redisEngine) statements(ctx context.Context, b *backend) (float64, error) {
	client, err := redisstore.NewClient(e.url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var counted countingHook
	client.AddHook(&counted)
	tokens, err := redisstore.NewTokenStore(ctx, client)
	if err != nil {
		return 0, err
	}
	return perRenewal(ctx, b.keys, tokens, &counted.count)
}

// countingHook counts the commands of a client.
type countingHook struct{ count atomic.Int64 }

func (*countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.count.Add(1)
		return next(ctx, cmd)
	}
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.count.Add(1)
		return next(ctx, cmds)
	}
}

// startRedis starts the servers that the kind asks for, and returns their URL.
func startRedis(tb testing.TB, kind storeKind) string {
	var addresses []string
	switch kind {
	case inEverysec:
		addresses = append(addresses, startRedisServer(tb, "--appendfsync", "everysec"))
	case inCluster:
		for range 3 {
			addresses = append(addresses, startRedisServer(tb, "--appendfsync", "always",
				"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(dbtest.FreePort(tb))))
		}
		if err := joinCluster(tb.Context(), addresses); err != nil {
			tb.Fatal(err)
		}
	default:
		addresses = append(addresses, startRedisServer(tb, "--appendfsync", "always"))
	}
	scheme := "redis"
	if kind == inCluster {
		scheme = "redis+cluster"
	}
	return fmt.Sprintf("%s://%s?pool_size=%d", scheme, strings.Join(addresses, ","), maxConns)
}

// startRedisServer starts one that writes every change to its append-only file, and
// returns its address.
func startRedisServer(tb testing.TB, settings ...string) string {
	dir, port := dbtest.ProgramDir(tb), strconv.Itoa(dbtest.FreePort(tb))
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "yes"}, settings...)
	server := dbtest.NewProgram(tb, "redis-server", "apt-get install redis-server", filepath.Join(dir, "log"), args...)
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", port)
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	if err := await(tb.Context(), func() error { return client.Ping(tb.Context()).Err() }); err != nil {
		tb.Fatalf("redis-server does not start: %v\n%s", err, server.LogTail())
	}
	return address
}

// joinCluster makes a cluster of empty servers, each with its share of the slots.
func joinCluster(ctx context.Context, addresses []string) error {
	const slots = 16384
	for i, address := range addresses {
		client := redis.NewClient(&redis.Options{Addr: address})
		defer client.Close()
		if err := client.ClusterAddSlotsRange(ctx, i*slots/len(addresses), (i+1)*slots/len(addresses)-1).Err(); err != nil {
			return err
		}
		bus, err := client.ConfigGet(ctx, "cluster-port").Result()
		if err != nil {
			return err
		}
		first := redis.NewClient(&redis.Options{Addr: addresses[0]})
		defer first.Close()
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		if err := first.Do(ctx, "CLUSTER", "MEET", host, port, bus["cluster-port"]).Err(); err != nil {
			return err
		}
	}
	for _, address := range addresses {
		client := redis.NewClient(&redis.Options{Addr: address})
		defer client.Close()
		err := await(ctx, func() error {
			info, err := client.ClusterInfo(ctx).Result()
			if err == nil && !strings.Contains(info, "cluster_state:ok") {
				err = errors.New("it does not reach the others")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}

// await waits until f returns nil.
func await(ctx context.Context, f func() error) error {
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil || ctx.Err() != nil || time.Since(begun) > time.Minute {
			return err
		}
	}
}
