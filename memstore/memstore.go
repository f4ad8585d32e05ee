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
// over shards, and a shard is locked for a look into its map. A renewal costs
// the same with a thousand sessions and with a million.
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
	s := &Store{apps: make(map[string]*tenant), seed: maphash.MakeSeed()}
	for i := range shardCount {
		s.shards[i].records = make(map[sessionKey]*record)
		s.subjects[i].records = make(map[subjectKey][]*record)
	}
	return s
}

// kept is how long Run leaves alone what has ended. It is above any
// [renew.WithLeeway], within which an expired token still renews, and above the
// time that a renewal takes which had the old key in hand at a rotation.
const kept = renew.DefaultAuthTTL

// Run deletes sessions and signing keys that are past use, at the interval
// given, until ctx is done; it returns the context's error. It leaves alone
// what ended less than an hour ago, because [renew.WithLeeway] can make that
// good, but is always below an hour.
//
// Run is the one method that reads a clock, the system's. With
// [renew.WithClock], call [Store.DeleteExpired] and [Store.DeleteExpiredKeys]
// yourself.
//
// Why not delete on the way, while sessions are written? The store would have to
// take its time from what is written to it, and one session with a wrong date
// would delete the good ones.
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
			before := now.Add(-kept)
			if _, err := s.DeleteExpired(ctx, before, math.MaxInt); err != nil {
				return err
			}
			if _, err := s.DeleteExpiredKeys(ctx, before); err != nil {
				return err
			}
		}
	}
}
