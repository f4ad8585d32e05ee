// Package redisstore keeps apps, keys and sessions in Redis: one server, a primary
// with replicas under Sentinels, or a cluster. [TokenStore] and [KeyStore] are the two
// stores that [renew.New] asks for; they can be mixed with other implementations.
//
// Make a client of go-redis, or have [NewClient] make one from a URL, and the stores:
//
//	client, err := redisstore.NewClient("redis+cluster://host1,host2,host3")
//	tokens, err := redisstore.NewTokenStore(ctx, client)
//	keys, err := redisstore.NewKeyStore(ctx, client, encrypter)
//	renewer, err := renew.New(keys, tokens, renew.WithAhead(renew.AheadAdopted))
//
// The client stays yours: set the size of its pool, and close it after the stores. It
// may repeat commands, as go-redis does by default, or not (MaxRetries of -1).
//
// Redis must be version 7.0 or later. The tests run on 7.0; Valkey has the same
// commands and was not tested.
//
// # What is promised when a server dies
//
// One server with "appendonly yes" and "appendfsync always" keeps every law of
// [renew.TokenStore]: what was acknowledged is on its disk.
//
// A failover does not. A primary acknowledges a write before its replicas have it,
// and what the promoted replica did not have is lost: sessions are at an earlier token
// than their clients. Without [renew.WithAhead] the renewals of these clients fail.
// With [renew.AheadAdopted] the sessions continue, and their users stay logged in.
// What was acknowledged in the last moment before the failover stays lost:
//
//   - a login: the user logs in again;
//   - a revocation: the session is live again;
//   - the use of a token: it renews once more, for anyone who has it;
//   - a change of an app or a key. Publish a signing key before it is rotated in, see
//     [renew.KeyAdmin]: tokens of a key that is lost are invalid.
//
// In a cluster the index of a subject may lose the entry of a login of that moment
// while the session stays: it is not listed, and RevokeSubject does not find it,
// until its first renewal.
//
// [WithWait] makes such a moment rare. Give each primary two replicas or more, and set
// min-replicas-to-write to 1, so that a primary which is cut off from its replicas stops
// after min-replicas-max-lag seconds: it then rejects reads by the stores as well as
// writes. With one replica leave it at 0: the replica that is promoted has none, and
// would stop as well.
//
// [TokenStore.Diagnosis] tells which settings of the primaries weaken this. Give the
// replicas the same settings: one of them is the next primary.
//
// # What is stored
//
// A session is one hash, whose fields are text: an operator reads it with HGETALL. No
// key holds a token, an app key or an idempotency key, and private keys are
// encrypted: see [keycrypt.Encrypter].
//
//	renew:{0a3}:session:4:shop:01J…   a session of the app "shop"
//	renew:{0a3}:ends                  when the sessions of this shard end
//	renew:{4:shop:alice}:subject      the IDs of a subject's sessions
//	renew:{4:shop}:app                an app with its keys
//	renew:apps                        the IDs of all apps
//
// Every write of a session is one script, in one round trip. A renewal is two: it
// reads the session, and replaces it if its token ID is still the same. Issuing
// a session is two: it writes the index of the subject, and then the session. That
// index is in another slot than the session. It names every session of the subject,
// and may name others, which listings recognize, and delete when they are a day old.
// In a cluster the first renewal of a session writes its entry again, so that it is
// three round trips.
//
// # What is deleted
//
// [TokenStore.DeleteExpired] deletes sessions that have ended; [renew.Renewer.Run]
// calls it. As a backstop Redis deletes a session by its own clock, long after its
// end: see [WithRetention]. Until then law T1 holds for expired sessions, too: they
// are returned as they were stored. Redis must not evict keys: a maxmemory-policy
// other than noeviction is an error when a store is made. When the memory is full,
// logins and renewals fail; sessions are still read, revoked and deleted.
//
// # Errors
//
// The sentinels of package renew come as its interfaces say; test with [errors.Is].
// Any other error is the client's, wrapped: whether a write has happened is unknown
// then, and the Renewer finds out. [ErrReplicas] is one of these. A client that
// repeats a command whose reply was lost repeats a write that has happened; the
// script recognizes it, so that the caller gets the result of the first one. If more than
// 15 other writes of the session came between the two, the outcome is unknown.
//
// All reads go to the primary. The scripts are such that a replica rejects them, so
// that a server which has become a replica is never read by mistake.
package redisstore
