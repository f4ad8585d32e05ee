package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew/internal/panics"
)

// ErrReplicas means that a write has happened, and that fewer replicas than
// [WithWait] asks for had it in time: a failover may take it back.
var ErrReplicas = errors.New("redisstore: the write has happened, but too few replicas acknowledged it in time")

// runner runs scripts.
type runner struct {
	config
	names
	client redis.UniversalClient
}

// call is a script with its keys, which are in one slot. What the arguments hold is
// the call's own; the first one of a script that writes sessions is a *write.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

// result of a call: the reply, or an error.
type result struct {
	reply any
	err   error
}

// newName draws a name, 64 bits.
func newName() string {
	var name [8]byte
	rand.Read(name[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(name[:])
}

// write is the name of one write of sessions, as an argument of a script. It counts
// how often the client puts it into a command: more than once in a repetition.
type write struct {
	name string
	sent atomic.Int32
}

func newWrite() *write { return &write{name: newName()} }

// MarshalBinary is called by the client each time that it sends the command.
func (w *write) MarshalBinary() ([]byte, error) {
	w.sent.Add(1)
	return []byte(w.name), nil
}

// isRepeated reports whether the client has sent the write more than once.
func (c call) isRepeated() bool {
	w, ok := c.args[0].(*write)
	return ok && w.sent.Load() > 1
}

// repeats is for how many seconds a write keeps its name at least: for longer than
// the client repeats a command.
func (r *runner) repeats() int64 { return 2 * int64((r.timeout+time.Second)/time.Second) }

func (r *runner) isCluster() bool {
	_, ok := r.client.(*redis.ClusterClient)
	return ok
}

// read runs a script that changes nothing.
func (r *runner) read(ctx context.Context, c call) (any, error) {
	return bounded(ctx, r.timeout, func(ctx context.Context) (any, error) { return r.one(ctx, c) })
}

// one leaves to the client which server the script is for.
func (r *runner) one(ctx context.Context, c call) (any, error) {
	for attempt := 1; ; attempt++ {
		reply, err := c.script.Run(ctx, r.client, c.keys, c.args...).Result()
		if !isBeingMoved(err) || pause(ctx, attempt) != nil {
			return reply, err
		}
	}
}

// isBeingMoved reports whether a script did not run because its slot is being moved to
// another server, or was. The client repeats that, and soon gives up; a slot with many
// keys takes longer.
func isBeingMoved(err error) bool {
	return slices.ContainsFunc([]string{"TRYAGAIN", "ASK ", "MOVED "}, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// write runs a script that writes, and waits for replicas if that was asked for.
func (r *runner) write(ctx context.Context, c call) (any, error) {
	if r.wait.replicas == 0 {
		return r.read(ctx, c)
	}
	return bounded(ctx, r.timeout, func(ctx context.Context) (any, error) {
		results, err := r.writeWaiting(ctx, []call{c})
		if err != nil {
			return nil, err
		}
		return results[0].reply, results[0].err
	})
}

// readAll and writeAll run several scripts with as few round trips as possible. The
// error is one that concerns all of them.
func (r *runner) readAll(ctx context.Context, calls []call) ([]result, error) {
	return bounded(ctx, r.timeout, func(ctx context.Context) ([]result, error) { return r.pipeline(ctx, calls), nil })
}

func (r *runner) writeAll(ctx context.Context, calls []call) ([]result, error) {
	if r.wait.replicas == 0 {
		return r.readAll(ctx, calls)
	}
	return bounded(ctx, r.timeout, func(ctx context.Context) ([]result, error) { return r.writeWaiting(ctx, calls) })
}

// pipeline does the same for several scripts.
func (r *runner) pipeline(ctx context.Context, calls []call) []result {
	pipe := r.client.Pipeline()
	replies := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		replies[i] = c.script.EvalSha(ctx, pipe, c.keys, c.args...)
	}
	_, _ = pipe.Exec(ctx) // each reply has its error
	results := make([]result, len(calls))
	for i, c := range calls {
		reply, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") || isBeingMoved(err) {
			reply, err = r.one(ctx, c)
		}
		results[i] = result{reply, err}
	}
	return results
}

// bounded runs f until ctx is done or the limit is over. A client of go-redis does not
// notice the end of a context while it waits for a reply; f is then left to end by
// itself.
func bounded[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) (value T, err error) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		v, err := safely(bounded, f)
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-bounded.Done():
	}
	select {
	case o := <-done:
		return o.value, o.err
	default:
		return value, fmt.Errorf("no reply yet, the outcome is unknown: %w", bounded.Err())
	}
}

// safely calls f. A hook of the client may panic; the command may have happened then.
func safely[T any](ctx context.Context, f func(context.Context) (T, error)) (value T, err error) {
	defer panics.Catch(ctx, "redisstore: the client", &err)
	return f(ctx)
}

// WAIT counts what its own connection has written, so that it must be sent on that
// connection: in one pipeline with the scripts, to a server that is chosen here.

// attempts is how often a pipeline with WAIT is sent at most. A client of a cluster
// does not repeat what is sent to one of its servers.
const attempts = 8

// writeWaiting runs scripts server by server, each with a WAIT behind its own.
func (r *runner) writeWaiting(ctx context.Context, calls []call) ([]result, error) {
	results := make([]result, len(calls))
	var open []int // the calls without a result
	for i := range calls {
		open = append(open, i)
	}
	asking := map[int]*redis.Client{} // of a slot that is being moved
	eval := false
	for attempt := 0; len(open) > 0 && (attempt < attempts || allBeingMoved(results, open)); attempt++ {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return nil, err
			}
		}
		groups, err := r.byServer(ctx, calls, open, asking)
		if err != nil {
			if attempt >= attempts-1 {
				return nil, err
			}
			r.reload(ctx)
			continue
		}
		open = nil
		for server, group := range groups {
			open = append(open, r.sendWaiting(ctx, server, calls, group, results, asking, eval)...)
		}
		if len(open) > 0 {
			eval = true // one of the reasons is a script cache that is empty
			r.reload(ctx)
		}
	}
	return results, nil
}

func allBeingMoved(results []result, open []int) bool {
	return !slices.ContainsFunc(open, func(i int) bool { return !isBeingMoved(results[i].err) })
}

// byServer groups calls by the server that has their slot.
func (r *runner) byServer(ctx context.Context, calls []call, open []int, asking map[int]*redis.Client) (map[*redis.Client][]int, error) {
	groups := map[*redis.Client][]int{}
	for _, i := range open {
		server := asking[i]
		if server == nil {
			var err error
			if server, err = r.serverOf(ctx, calls[i].keys[0]); err != nil {
				return nil, err
			}
		}
		groups[server] = append(groups[server], i)
	}
	return groups, nil
}

func (r *runner) serverOf(ctx context.Context, key string) (*redis.Client, error) {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return r.client.(*redis.Client), nil // checkClient lets no other through
}

// sendWaiting sends one pipeline and returns the calls to send again.
func (r *runner) sendWaiting(ctx context.Context, server *redis.Client, calls []call, group []int, results []result,
	asking map[int]*redis.Client, eval bool,
) (again []int) {
	pipe := server.Pipeline()
	replies := make([]*redis.Cmd, len(group))
	for n, i := range group {
		if asking[i] != nil {
			pipe.Do(ctx, "ASKING")
		}
		run := calls[i].script.EvalSha
		if eval {
			run = calls[i].script.Eval
		}
		replies[n] = run(ctx, pipe, calls[i].keys, calls[i].args...)
	}
	wait := pipe.Do(ctx, "WAIT", r.wait.replicas, r.wait.timeout.Milliseconds())
	_, _ = pipe.Exec(ctx) // each reply has its error
	acknowledged, waitErr := wait.Int()
	for n, i := range group {
		results[i].reply, results[i].err = replies[n].Result()
		err := results[i].err
		if err == nil && waitErr != nil {
			err = waitErr // the connection broke before it: the script finds its own write
			results[i] = result{nil, err}
		}
		switch {
		case err == nil && acknowledged < r.wait.replicas && hasWritten(results[i].reply):
			results[i].err = ErrReplicas
		case isWorthRepeating(err):
			asking[i] = r.askedServer(ctx, err)
			again = append(again, i)
		}
	}
	return again
}

// hasWritten reports whether a script with this reply has written anything.
func hasWritten(reply any) bool {
	text, _ := reply.(string)
	text = strings.TrimPrefix(text, overtaken+" ")
	return !slices.Contains([]string{resultExists, resultMissing, resultOther, resultSubject}, text)
}

// isWorthRepeating reports whether the script did not run, or may not have run,
// because of where or when it was sent.
func isWorthRepeating(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true // the connection
	}
	for _, prefix := range []string{"NOSCRIPT", "MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// askedServer is the server that an ASK names, or nil.
func (r *runner) askedServer(ctx context.Context, err error) (server *redis.Client) {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok || !redis.HasErrorPrefix(err, "ASK ") {
		return nil
	}
	address := err.Error()[strings.LastIndexByte(err.Error(), ' ')+1:]
	found := make(chan *redis.Client, 1)
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		if c.Options().Addr == address {
			found <- c
		}
		return nil
	})
	select {
	case server = <-found:
	default:
	}
	return server
}

// reload has a client of a cluster ask anew which server has which slot.
func (r *runner) reload(ctx context.Context) {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// pause waits before the next attempt: longer each time, up to half a second.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(min(time.Duration(attempt*attempt)*10*time.Millisecond, 500*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// texts is a reply that is a list of texts.
func texts(reply any, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("the reply is a %T, not a list", reply)
	}
	out := make([]string, len(list))
	for i, item := range list {
		if out[i], ok = item.(string); !ok {
			return nil, fmt.Errorf("the reply has a %T in it, not only texts", item)
		}
	}
	return out, nil
}
