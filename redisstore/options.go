package redisstore

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew/internal/keycache"
)

// Defaults of the options.
const (
	DefaultKeyPrefix      = "renew:"
	DefaultCommandTimeout = 5 * time.Second
	DefaultRetention      = 30 * 24 * time.Hour
	DefaultStatusInterval = 5 * time.Second
	DefaultOutageLimit    = 15 * time.Minute
)

// Option changes a store from its defaults.
type Option func(*config) error

// config is what options set.
type config struct {
	prefix    string
	timeout   time.Duration
	retention time.Duration
	wait      wait
	cache     keycache.Config
}

// wait is what WithWait asks for.
type wait struct {
	replicas int // 0: no WAIT
	timeout  time.Duration
}

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9_.:-]{0,64}$`)

// WithKeyPrefix sets what the names of all keys in Redis begin with: up to 64
// letters, digits and any of "_.:-". Default: [DefaultKeyPrefix]. Give both stores
// of every process the same.
func WithKeyPrefix(prefix string) Option {
	return func(c *config) error {
		if !validPrefix.MatchString(prefix) {
			return fmt.Errorf(`WithKeyPrefix: %q is not up to 64 letters, digits and any of "_.:-"`, prefix)
		}
		c.prefix = prefix
		return nil
	}
}

// WithCommandTimeout sets for how long a command runs at most, its repetitions by
// the client included. Default: [DefaultCommandTimeout]. It must be positive.
//
// A call returns when its context is done or after this time, whichever is first.
// What it has sent may still have an effect.
func WithCommandTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("WithCommandTimeout: %v is not positive", d)
		}
		c.timeout = d
		return nil
	}
}

// WithRetention sets for how long Redis keeps a session that has ended and that
// [TokenStore.DeleteExpired] has not deleted; after it Redis deletes the session by
// its own clock. Default: [DefaultRetention]. d must be at least an hour, or zero:
// then Redis deletes nothing. It is for TokenStores only; others ignore it.
//
// It is a backstop for a service that never calls DeleteExpired, and counts from
// the session's end or from its last write, whichever is later. A session that
// Redis has deleted is unknown, so that a token of it is rejected as before, with
// another reason. Its entry in the index of ends stays until DeleteExpired is called,
// that in the index of its subject until the subject's sessions are listed or revoked.
func WithRetention(d time.Duration) Option {
	return func(c *config) error {
		if d != 0 && d < time.Hour {
			return fmt.Errorf("WithRetention: %v is not 0, nor an hour or more", d)
		}
		c.retention = d
		return nil
	}
}

// WithWait has every write wait until that many replicas have it, with the command
// WAIT, for at most the timeout. Default: no waiting. replicas must be at least 1,
// the timeout at least a millisecond and below the command timeout.
//
// A write that fewer replicas have in time returns [ErrReplicas]: it has happened,
// and a failover may take it back. A [renew.Renewer] reads the session then, and
// writes it once more before it gives a response.
//
// WAIT makes it rare that a failover loses an acknowledged write, and does not rule
// it out: other clients see a write before its replicas have it, and the replica
// that is promoted need not be one that acknowledged it.
func WithWait(replicas int, timeout time.Duration) Option {
	return func(c *config) error {
		if replicas < 1 {
			return fmt.Errorf("WithWait: %d replicas are not at least 1", replicas)
		}
		if timeout < time.Millisecond {
			return fmt.Errorf("WithWait: %v is below a millisecond; WAIT would have no limit", timeout)
		}
		c.wait = wait{replicas, timeout}
		return nil
	}
}

// WithStatusInterval sets for how long a [KeyStore] uses an app or the status of a
// key after it has read it. Default: [DefaultStatusInterval]. Zero: it asks Redis
// every time, which costs several commands per renewal in addition to the two of
// the TokenStore. It is for KeyStores only; others ignore it.
//
// d is also how long at most, after a change has returned, another process may
// accept a revoked key's tokens or a removed app key, sign with a replaced or
// revoked key, or use old lifetimes; a process that is stopped, by its debugger or
// its virtual machine, for as long as it is stopped in addition. The KeyStore that
// makes the change knows immediately. Give every process the same d.
func WithStatusInterval(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithStatusInterval: %v is negative; 0 asks Redis every time", d)
		}
		c.cache.Interval = d
		return nil
	}
}

// WithOutageLimit sets for how long a [KeyStore] uses an app or a verification key
// that it knows while Redis is away or does not respond within a second. Default:
// [DefaultOutageLimit]. With zero, or without a status interval, it uses nothing that
// it has read before. It is for KeyStores only; others ignore it.
//
// In that time auth tokens still verify. The price is that a revocation that cannot
// be read has no effect in this process. Nothing is signed with a key that is not
// known to be the active one. The beginning and the end of an outage are logged
// with slog.Default.
func WithOutageLimit(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithOutageLimit: %v is negative", d)
		}
		c.cache.OutageLimit = d
		return nil
	}
}

func newConfig(client redis.UniversalClient, opts []Option) (config, error) {
	c := config{
		prefix:    DefaultKeyPrefix,
		timeout:   DefaultCommandTimeout,
		retention: DefaultRetention,
		cache:     keycache.Config{Store: "redisstore", Interval: DefaultStatusInterval, OutageLimit: DefaultOutageLimit, Now: time.Now},
	}
	if err := checkClient(client); err != nil {
		return config{}, err
	}
	for _, opt := range opts {
		if opt == nil {
			return config{}, errors.New("an option is nil")
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	if c.wait.timeout >= c.timeout {
		return config{}, fmt.Errorf("WithWait: %v is not below the command timeout, %v", c.wait.timeout, c.timeout)
	}
	c.cache.Timeout = c.timeout
	return c, nil
}
