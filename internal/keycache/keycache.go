// Package keycache is what the KeyStores that ask a database keep in memory: what was
// read counts for an interval, and for longer while the database is away.
//
// Modules other than the root import it: a change must keep their last release
// compiling.
package keycache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/panics"
)

// Config says for how long a KeyStore uses what it has read.
type Config struct {
	Store       string        // the package's name, for the log
	Interval    time.Duration // 0: it asks every time
	OutageLimit time.Duration // in addition, while the database is away
	Timeout     time.Duration // of one read
	Now         func() time.Time
}

// outagePatience is how long a request waits for a database that does not
// respond, if the cache has what it asks for.
const outagePatience = time.Second

// Outage is whether a KeyStore is without its database. Its caches share one.
type Outage struct {
	mu   sync.Mutex
	away bool
}

// begins logs the beginning of an outage, once.
func (o *Outage) begins(ctx context.Context, err error, c Config) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.away {
		o.away = true
		slog.Default().ErrorContext(ctx, c.Store+": the database of apps and keys is away; what is known is used until the limit",
			"error", err.Error(), "limit", c.OutageLimit)
	}
}

func (o *Outage) ends(ctx context.Context, c Config) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		o.away = false
		slog.Default().WarnContext(ctx, c.Store+": the database of apps and keys is back")
	}
}

// Cache keeps what was read from the database for the interval, and for the outage
// limit while it cannot be read again. Only what was found is kept, so that no one
// can fill it with invented names.
type Cache[K comparable, V any] struct {
	config  Config
	outage  *Outage
	mu      sync.Mutex
	entries map[K]*entry[V]
	// epoch counts calls of Clear: what was read before one is not kept after it.
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

// New returns an empty cache.
func New[K comparable, V any](config Config, o *Outage) *Cache[K, V] {
	return &Cache[K, V]{config: config, outage: o, entries: make(map[K]*entry[V])}
}

// Get returns the entry if it is not older than the interval, and otherwise what
// read returns, or the entry if the database is away. An entry's age counts from
// before it was read.
func (c *Cache[K, V]) Get(ctx context.Context, key K, read func(context.Context) (V, error)) (V, error) {
	if c.config.Interval == 0 {
		return safely(ctx, c.config.Store, read)
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
func (c *Cache[K, V]) look(ctx context.Context, key K, read func(context.Context) (V, error)) (value V, usable bool, r *reading[V]) {
	now := c.config.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		e = &entry[V]{}
		c.entries[key] = e
	}
	if e.known && now.Before(e.read.Add(c.config.Interval)) {
		return e.value, true, nil
	}
	usable = e.known && now.Before(e.read.Add(c.config.Interval).Add(c.config.OutageLimit)) // their sum may overflow
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
func (c *Cache[K, V]) read(ctx context.Context, key K, e *entry[V], r *reading[V], epoch uint64, now time.Time, read func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	r.value, r.err = safely(ctx, c.config.Store, read)
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
		c.outage.ends(ctx, c.config)
	case isOutage(r.err) && e.known && c.config.OutageLimit > 0:
		e.retryAt = now.Add(min(c.config.Interval, outagePatience))
		c.outage.begins(ctx, r.err, c.config)
	default:
		delete(c.entries, key)
	}
}

// safely reads. A driver may panic, and so may a caller's Encrypter.
func safely[V any](ctx context.Context, store string, read func(context.Context) (V, error)) (value V, err error) {
	defer panics.Catch(ctx, store+": reading an app or a key", &err)
	return read(ctx)
}

// gaveUp has requests use the entry for a moment, instead of waiting for a database
// that does not respond.
func (c *Cache[K, V]) gaveUp(ctx context.Context, key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && e.reading != nil {
		e.retryAt = c.config.Now().Add(outagePatience)
		c.outage.begins(ctx, errNoResponse, c.config)
	}
}

var errNoResponse = errors.New("no response within a second")

// isOutage reports whether an error says nothing about what was asked for.
func isOutage(err error) bool {
	return err != nil && !errors.Is(err, renew.ErrAppNotFound) && !errors.Is(err, renew.ErrKeyNotFound)
}

// Clear forgets everything, what is being read included.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.epoch++
}

// Len returns how many entries there are.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}
