package sqlstore

import (
	"fmt"
	"sync"
	"time"
)

// cacheConfig says for how long a KeyStore answers from memory.
type cacheConfig struct {
	interval time.Duration
	now      func() time.Time
}

func newCacheConfig() cacheConfig { return cacheConfig{now: time.Now} }

// WithStatusInterval lets a [KeyStore] answer from memory for up to d after it
// has read an app or the status of a key. Default and zero: it asks the database
// every time.
//
// d is also how long at most, after a change has returned, another process may
// go on as before: take a revoked key's tokens, take a removed app key, sign with
// a replaced key, use old lifetimes. The KeyStore that makes the change knows at
// once. Seconds take nearly all reads off the database: without them a renewal
// costs four, besides the two statements of the TokenStore. Give every process
// the same d. It is for KeyStores only; others ignore it.
func WithStatusInterval(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithStatusInterval: %v is negative; 0 asks the database every time", d)
		}
		c.cache.interval = d
		return nil
	}
}

// cache keeps what was read from the database for the interval. Only what was
// found is kept, so that nobody can fill it with names of their own.
type cache[K comparable, V any] struct {
	config  cacheConfig
	mu      sync.RWMutex
	entries map[K]entry[V]
	// epoch counts calls of clear: what was read before one is not kept after it.
	epoch uint64
}

type entry[V any] struct {
	value V
	until time.Time
}

func newCache[K comparable, V any](config cacheConfig) *cache[K, V] {
	return &cache[K, V]{config: config, entries: make(map[K]entry[V])}
}

// get returns the entry if it is young enough, and otherwise what read returns.
// An entry's age counts from before it was read.
func (c *cache[K, V]) get(key K, read func() (V, error)) (V, error) {
	if c.config.interval == 0 {
		return read()
	}
	now := c.config.now()
	c.mu.RLock()
	e, found := c.entries[key]
	epoch := c.epoch
	c.mu.RUnlock()
	if found && now.Before(e.until) {
		return e.value, nil
	}
	value, err := read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		delete(c.entries, key)
		return value, err
	}
	if c.epoch == epoch {
		c.entries[key] = entry[V]{value, now.Add(c.config.interval)}
	}
	return value, nil
}

func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	c.epoch++
}
