// Package memstore keeps apps, keys and sessions in memory: the store that the
// library comes with. One [Store] is both of the stores that [renew.New] asks
// for.
//
// It is for one process, and for as long as that process lives. A restart loses
// every session and every key that was not kept elsewhere; a second process
// knows nothing of the first. Where either matters, use a store on a database.
//
// Fill it with [Store.CreateApp] and [Store.RotateSigningKey], which also gives
// an app its first key. Run [Store.Run] in a goroutine, or [Store.DeleteExpired]
// and [Store.DeleteExpiredKeys] by a schedule of your own: nothing else ever
// removes a session, so that without them every login stays in memory for good.
//
// Renewals of different sessions do not wait for each other: sessions are spread
// over shards, and a shard is locked for a look into its map. What a renewal
// costs does not grow with the number of sessions, nor what a session takes with
// the number of its renewals: less than a kilobyte for that of a browser, as
// "go test -run '^$' -bench Memory ./memstore" shows.
package memstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// Errors of the methods that fill a Store, besides those of package renew. They
// come wrapped; test with [errors.Is].
var (
	// ErrAppExists: there is an app of this ID.
	ErrAppExists = errors.New("app exists")
	// ErrKeyExists: the app has a signing key of this ID, in use or not.
	ErrKeyExists = errors.New("key exists")
)

var (
	_ renew.KeyStore     = (*Store)(nil)
	_ renew.KeyLister    = (*Store)(nil)
	_ renew.TokenStore   = (*Store)(nil)
	_ renew.SubjectStore = (*Store)(nil)
	_ renew.Purger       = (*Store)(nil)
)

// Store is a [renew.KeyStore] and a [renew.TokenStore] in memory, with every
// optional part of either. All methods may be called at the same time. Make one
// with [New].
//
// Every method returns the context's error when the context is already done, and
// then has changed nothing.
type Store struct {
	appsMu sync.RWMutex // held by readers for one look into apps
	apps   map[string]*tenant
	admin  sync.Mutex // held by whoever changes an app, from reading it to writing it

	seed     maphash.Seed
	shards   [shardCount]shard
	subjects [shardCount]subjectShard
}

// New returns an empty store.
func New() *Store {
	return &Store{apps: make(map[string]*tenant), seed: maphash.MakeSeed()}
}

// kept is how long Run leaves alone what has ended. It is above any
// [renew.WithLeeway], within which an expired token still renews, and above the
// time that a renewal takes which had the old key in hand at a rotation.
const kept = renew.DefaultAuthTTL

// Run deletes sessions and signing keys that are past use, at the interval
// given, until ctx is done; it returns the context's error. A minute is a good
// interval. Sessions go an hour after their end: [renew.WithLeeway], which can
// put that off, is always below. Keys go when the app's longest lifetime has
// passed besides, so that repeated requests find theirs: see
// [Store.DeleteExpiredKeys].
//
// Run is the one method that reads a clock, the system's. With
// [renew.WithClock], call [Store.DeleteExpired] and [Store.DeleteExpiredKeys]
// instead.
//
// Nothing is deleted on the way, while sessions are written: the store would
// have to take the time from what it is given, and one session with a wrong
// date would delete the good ones.
func (s *Store) Run(ctx context.Context, every time.Duration) error {
	if every <= 0 {
		return fmt.Errorf("memstore: Run at an interval of %v: it must be above zero, such as a minute", every)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-ticker.C:
			if err := s.deletePastUse(ctx, now.Add(-kept)); err != nil {
				return err
			}
		}
	}
}

func (s *Store) deletePastUse(ctx context.Context, before time.Time) error {
	if _, err := s.DeleteExpired(ctx, before, math.MaxInt); err != nil {
		return err
	}
	_, err := s.deleteKeys(ctx, func(app renew.App) time.Time { return before.Add(-lifetime(app)) })
	return err
}
