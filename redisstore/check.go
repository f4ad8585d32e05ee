package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout bounds the checks of a constructor, whose context may have no end.
const startTimeout = 30 * time.Second

// checkClient rejects a client that reads from replicas, and one whose options the
// store cannot read.
func checkClient(client redis.UniversalClient) error {
	switch c := client.(type) {
	case *redis.Client:
		if c != nil {
			return nil
		}
	case *redis.ClusterClient:
		if c == nil {
			break
		}
		if o := c.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("the client reads from replicas, which lag behind; " +
				"leave ReadOnly, RouteByLatency and RouteRandomly of its options off")
		}
		return nil
	case *redis.Ring:
		return errors.New("a *redis.Ring moves keys when a server is away, so that sessions would be lost and found; use a cluster")
	case nil:
	default:
		return fmt.Errorf("a %T is not a *redis.Client or a *redis.ClusterClient, as redis.NewClient, NewFailoverClient and NewClusterClient return", client)
	}
	return errors.New("the client is nil")
}

// start checks the servers, loads the scripts, and returns what the owner of the
// servers should know.
func (r *runner) start(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := r.checkWait(); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var findings []string
	err := r.onPrimaries(ctx, func(ctx context.Context, server *redis.Client) error {
		found, err := r.checkServer(ctx, server)
		mu.Lock()
		defer mu.Unlock()
		findings = append(findings, found...)
		return err
	})
	slices.Sort(findings) // the servers were asked concurrently
	return findings, err
}

// checkWait compares the timeout of WAIT with that of a reply, after which a client
// treats the connection as broken.
func (r *runner) checkWait() error {
	read := time.Duration(0)
	switch c := r.client.(type) {
	case *redis.Client:
		read = c.Options().ReadTimeout
	case *redis.ClusterClient:
		read = c.Options().ReadTimeout
	}
	if read > 0 && r.wait.timeout >= read {
		return fmt.Errorf("WithWait: %v is not below the client's ReadTimeout, %v", r.wait.timeout, read)
	}
	return nil
}

func (r *runner) onPrimaries(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch c := r.client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	case *redis.Client:
		return f(ctx, c)
	}
	return errors.New("unknown client") // checkClient has rejected it
}

func (r *runner) checkServer(ctx context.Context, server *redis.Client) (findings []string, err error) {
	text, err := server.Info(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("INFO: %w", err)
	}
	info := parseInfo(text)
	name := server.Options().Addr
	if err := r.checkInfo(info); err != nil {
		return nil, fmt.Errorf("server %s: %w", name, err)
	}
	for _, script := range scripts {
		if err := script.Load(ctx, server).Err(); err != nil {
			return nil, fmt.Errorf("server %s: SCRIPT LOAD: %w", name, err)
		}
	}
	for _, finding := range r.diagnose(info, readConfig(ctx, server)) {
		findings = append(findings, "server "+name+": "+finding)
	}
	return findings, nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// checkInfo returns an error for a server that the stores cannot use.
func (r *runner) checkInfo(info map[string]string) error {
	major, _, _ := strings.Cut(info["redis_version"], ".")
	if n, err := strconv.Atoi(major); err != nil || n < 7 {
		return fmt.Errorf("version %q: the stores need Redis 7.0 or later, or Valkey", info["redis_version"])
	}
	if role := info["role"]; role != "master" {
		return fmt.Errorf("its role is %q; the stores need the primary", role)
	}
	if policy := info["maxmemory_policy"]; policy != "noeviction" {
		return fmt.Errorf("maxmemory-policy is %q: Redis would delete sessions when its memory is full; set it to noeviction", policy)
	}
	if _, single := r.client.(*redis.Client); single && info["cluster_enabled"] == "1" {
		return errors.New("it is a server of a cluster; use redis.NewClusterClient")
	}
	return nil
}

// readConfig reads settings that INFO does not have. Hosted Redis
// services often forbid it; it returns nil then.
func readConfig(ctx context.Context, server *redis.Client) map[string]string {
	settings, err := server.ConfigGet(ctx, "*").Result()
	if err != nil {
		return nil
	}
	return settings
}

// diagnose finds what weakens the promises.
func (r *runner) diagnose(info, settings map[string]string) (findings []string) {
	add := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	switch {
	case info["aof_enabled"] != "1":
		add("appendonly is off: a restart loses every session since the last snapshot; set appendonly yes")
	case settings == nil:
		add("CONFIG GET is not permitted, so that appendfsync is unknown: with everysec a crash of the machine loses up to two seconds of rotations and revocations")
	case settings["appendfsync"] == "everysec":
		add("appendfsync is everysec: a crash of the machine loses up to two seconds of rotations and revocations; set appendfsync always")
	case settings["appendfsync"] != "always":
		add("appendfsync is %s: a crash of the machine loses what the system had not written yet; set appendfsync always", settings["appendfsync"])
	case settings["no-appendfsync-on-rewrite"] == "yes":
		add("no-appendfsync-on-rewrite is yes: while the append-only file is rewritten, a crash of the machine loses writes; set it to no")
	}
	if status := info["aof_last_write_status"]; status != "" && status != "ok" {
		add("the last write of the append-only file failed: look at its disk")
	}
	replicas, _ := strconv.Atoi(info["connected_slaves"])
	if settings != nil {
		findings = append(findings, diagnoseReplicas(replicas, settings)...)
	}
	if replicas < r.wait.replicas {
		add("it has %d replicas, and WithWait asks for %d: every write ends with ErrReplicas", replicas, r.wait.replicas)
	}
	return findings
}

// diagnoseReplicas compares the number of a primary's replicas with that without which it
// stops. A replica that is promoted has one less.
func diagnoseReplicas(replicas int, settings map[string]string) []string {
	least, _ := strconv.Atoi(settings["min-replicas-to-write"])
	if settings["min-replicas-max-lag"] == "0" {
		least = 0
	}
	const cutOff = "min-replicas-to-write or min-replicas-max-lag is 0: a primary that is cut off from its replicas continues to write what the promotion of one of them takes back; "
	switch {
	case least > 0 && replicas <= least:
		return []string{fmt.Sprintf("min-replicas-to-write is %d, and the number of its replicas is %d: "+
			"it rejects every call while one of them is away, and so does a replica that is promoted; have more replicas", least, replicas)}
	case least == 0 && replicas == 1:
		return []string{cutOff + "it has one replica, and needs two before you can set it to 1"}
	case least == 0 && replicas > 1:
		return []string{cutOff + "set it to 1"}
	}
	return nil
}
