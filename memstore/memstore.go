// Package memstore keeps apps, keys and sessions in memory: it is the built-in
// store. One [Store] is both of the stores that [renew.New] takes.
//
// It is for one process, and for as long as that process lives. A restart loses
// every session and every key that was not kept elsewhere; a second process
// knows nothing of the first. Where either matters, use a store on a database.
//
// Create an app with [renew.EnsureApp]. Run [renew.Renewer.Run] in a goroutine:
// nothing else ever removes a session, so that without it every login stays in
// memory.
//
// Renewals of different sessions do not wait for each other: sessions are spread
// over shards, and a shard is locked for a look into its map. What a renewal
// costs does not grow with the number of sessions, nor what a session takes with
// the number of its renewals: less than a kilobyte for that of a browser, as
// "go test -run '^$' -bench Memory ./memstore" shows.
package memstore

import (
	"hash/maphash"
	"sync"

	"github.com/jwtrenew/renew"
)

var (
	_ renew.KeyStore     = (*Store)(nil)
	_ renew.KeyLister    = (*Store)(nil)
	_ renew.KeyAdmin     = (*Store)(nil)
	_ renew.TokenStore   = (*Store)(nil)
	_ renew.SubjectStore = (*Store)(nil)
	_ renew.Purger       = (*Store)(nil)

	_ renew.AppLister         = (*Store)(nil)
	_ renew.PublishedKeyStore = (*Store)(nil)
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
	admin  sync.Mutex // held while an app is changed, from reading it to writing it

	seed     maphash.Seed
	shards   [shardCount]shard
	subjects [shardCount]subjectShard
}

// New returns an empty store.
func New() *Store {
	return &Store{apps: make(map[string]*tenant), seed: maphash.MakeSeed()}
}
