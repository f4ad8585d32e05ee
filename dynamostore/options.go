package dynamostore

import (
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/jwtrenew/renew/internal/keycache"
)

// Defaults of the options.
const (
	DefaultCommandTimeout = 5 * time.Second
	DefaultRetention      = 30 * 24 * time.Hour
	DefaultStatusInterval = 5 * time.Second
	DefaultOutageLimit    = 15 * time.Minute
)

// Option changes a store from its defaults.
type Option func(*config) error

// config is what options set.
type config struct {
	timeout   time.Duration
	retention time.Duration
	cache     keycache.Config
	now       func() time.Time // for the time to live alone
}

// WithCommandTimeout sets for how long a request to DynamoDB runs at most, its
// repetitions by the SDK included. Default: [DefaultCommandTimeout]. It must be
// positive.
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

// WithRetention sets for how long DynamoDB keeps a session that has ended and that
// [TokenStore.DeleteExpired] has not deleted; after it DynamoDB deletes the session
// by its time to live, at no cost and within a few days. Default:
// [DefaultRetention]. d must be at least an hour, or zero: then DynamoDB deletes
// nothing. It is for TokenStores only; others ignore it.
//
// It counts from the session's end or from its last write, whichever is later. A
// session that DynamoDB has deleted is unknown, so that a token of it is rejected as
// before, with another reason. Give every process the same.
func WithRetention(d time.Duration) Option {
	return func(c *config) error {
		if d != 0 && d < time.Hour {
			return fmt.Errorf("WithRetention: %v is not 0, nor an hour or more", d)
		}
		c.retention = d
		return nil
	}
}

// WithStatusInterval sets for how long a [KeyStore] uses an app or the status of a
// key after it has read it. Default: [DefaultStatusInterval]. Zero: it asks DynamoDB
// every time, which costs several reads per renewal in addition to the read and the
// write of the TokenStore. It is for KeyStores only; others ignore it.
//
// d is also how long at most, after a change has returned, another process may
// accept a revoked key's tokens or a removed app key, sign with a replaced or
// revoked key, or use old lifetimes; a process that is stopped, by its debugger or
// its virtual machine, for as long as it is stopped in addition. The KeyStore that
// makes the change knows immediately. Give every process the same d.
func WithStatusInterval(d time.Duration) Option {
	return func(c *config) error {
		if d < 0 {
			return fmt.Errorf("WithStatusInterval: %v is negative; 0 asks DynamoDB every time", d)
		}
		c.cache.Interval = d
		return nil
	}
}

// WithOutageLimit sets for how long a [KeyStore] uses an app or a verification key
// that it knows while DynamoDB is away or does not respond within a second. Default:
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

func newConfig(client *dynamodb.Client, table string, opts []Option) (config, error) {
	c := config{
		timeout:   DefaultCommandTimeout,
		retention: DefaultRetention,
		cache:     keycache.Config{Store: "dynamostore", Interval: DefaultStatusInterval, OutageLimit: DefaultOutageLimit, Now: time.Now},
		now:       time.Now,
	}
	switch {
	case client == nil:
		return config{}, errors.New("the client is nil")
	case table == "":
		return config{}, errors.New("the table has no name")
	}
	for _, opt := range opts {
		if opt == nil {
			return config{}, errors.New("an option is nil")
		}
		if err := opt(&c); err != nil {
			return config{}, err
		}
	}
	c.cache.Timeout = c.timeout
	return c, nil
}
