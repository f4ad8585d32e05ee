package sqlstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// cacheConfig says for how long a KeyStore uses what it has read.
type cacheConfig struct {
	interval    time.Duration
	outageLimit time.Duration
	now         func() time.Time
}

// outagePatience is how long a request waits for a database that does not
// respond, if the cache has what it asks for.
const outagePatience = time.Second

// outage is whether a KeyStore is without its database.
type outage struct {
	mu   sync.Mutex
	away bool
}

// begins logs the beginning of an outage, once.
func (o *outage) begins(ctx context.Context, err error, limit time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.away {
		o.away = true
		slog.Default().ErrorContext(ctx, "sqlstore: the database of apps and keys is away; what is known is used until the limit",
			"error", err.Error(), "limit", limit)
	}
}

func (o *outage) ends(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		o.away = false
		slog.Default().WarnContext(ctx, "sqlstore: the database of apps and keys is back")
	}
}

// cache keeps what was read from the database for the interval, and for the outage
// limit while it cannot be read again. Only what was found is kept, so that no one
// can fill it with invented names.
type cache[K comparable, V any] struct {
	config  cacheConfig
	outage  *outage
	timeout time.Duration
	mu      sync.Mutex
	entries map[K]*entry[V]
	// epoch counts calls of clear: what was read before one is not kept after it.
	epoch uint64
}

type entry[V any] struct {
	value   V
	known   bool
	read    time.Time   // when the reading of value began
	retryAt time.Time   // after a failed read: not before
	reading *reading[V] // nil: no reading is under way
}

// reading is a read that requests share.
type reading[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func newCache[K comparable, V any](config cacheConfig, o *outage, timeout time.Duration) *cache[K, V] {
	return &cache[K, V]{config: config, outage: o, timeout: timeout, entries: make(map[K]*entry[V])}
}

// get returns the entry if it is not older than the interval, and otherwise what
// read returns, or the entry if the database is away. An entry's age counts from
// before it was read.
func (c *cache[K, V]) get(ctx context.Context, key K, read func(context.Context) (V, error)) (V, error) {
	if c.config.interval == 0 {
		return read(ctx)
	}
	value, usable, r := c.look(ctx, key, read)
	if r == nil {
		return value, nil
	}
	var patience <-chan time.Time
	if usable {
		timer := time.NewTimer(outagePatience)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return value, ctx.Err()
	case <-patience:
		c.gaveUp(ctx, key)
		return value, nil
	}
	if usable && isOutage(r.err) {
		return value, nil
	}
	return r.value, r.err
}

// look returns the entry's value, whether it may be used in an outage, and the
// reading to wait for: nil if the value may be used as it is.
func (c *cache[K, V]) look(ctx context.Context, key K, read func(context.Context) (V, error)) (value V, usable bool, r *reading[V]) {
	now := c.config.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		e = &entry[V]{}
		c.entries[key] = e
	}
	if e.known && now.Before(e.read.Add(c.config.interval)) {
		return e.value, true, nil
	}
	usable = e.known && now.Before(e.read.Add(c.config.interval+c.config.outageLimit))
	if usable && now.Before(e.retryAt) {
		return e.value, true, nil
	}
	if e.reading == nil {
		e.reading = &reading[V]{done: make(chan struct{})}
		go c.read(context.WithoutCancel(ctx), key, e, e.reading, c.epoch, now, read)
	}
	if usable {
		value = e.value
	}
	return value, usable, e.reading
}

// read reads for all who wait.
func (c *cache[K, V]) read(ctx context.Context, key K, e *entry[V], r *reading[V], epoch uint64, now time.Time, read func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r.value, r.err = read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(r.done)
	if c.epoch != epoch || c.entries[key] != e {
		return
	}
	e.reading = nil
	switch {
	case r.err == nil:
		*e = entry[V]{value: r.value, known: true, read: now}
		c.outage.ends(ctx)
	case isOutage(r.err) && e.known && c.config.outageLimit > 0:
		e.retryAt = now.Add(min(c.config.interval, outagePatience))
		c.outage.begins(ctx, r.err, c.config.outageLimit)
	default:
		delete(c.entries, key)
	}
}

// gaveUp has requests use the entry for a moment, instead of waiting for a database
// that does not respond.
func (c *cache[K, V]) gaveUp(ctx context.Context, key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && e.reading != nil {
		e.retryAt = c.config.now().Add(outagePatience)
		c.outage.begins(ctx, errNoResponse, c.config.outageLimit)
	}
}

var errNoResponse = errors.New("no response within a second")

// isOutage reports whether an error says nothing about what was asked for.
func isOutage(err error) bool {
	return err != nil && !errors.Is(err, renew.ErrAppNotFound) && !errors.Is(err, renew.ErrKeyNotFound)
}

func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.epoch++
}
