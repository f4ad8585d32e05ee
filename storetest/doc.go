// Package storetest is a conformance suite for stores. [TestTokenStore] holds a
// [renew.TokenStore] to its laws, [TestKeyStore] a [renew.KeyStore]; a store that
// passes keeps the promises of package renew, whatever it stores things in. The
// suites are tested against stores with one known bug each.
//
// # Test a store
//
// Write a test that says how to open it:
//
//	func TestLaws(t *testing.T) {
//		storetest.TestTokenStore(t, func(tb testing.TB) renew.TokenStore {
//			store, err := mystore.Open(tb.Context(), address)
//			if err != nil {
//				tb.Fatal(err)
//			}
//			tb.Cleanup(store.Close)
//			return store
//		})
//	}
//
// Every case opens two handles, which stand for two processes: what one has
// written, the other must see. Cases run in parallel on the one backing store,
// each with its own IDs. go test -run 'TestLaws/T5' runs one law alone. Run one
// suite at a time on a backing store: laws T11 and K15 delete what has expired,
// whichever case or suite it belongs to, and count it.
//
// Tell the suite how to break the backend, and it tests what is most often
// wrong. What cannot be tested is reported as skipped; nothing else can be left
// out. On a slow backend [WithSlowness] stretches the time limits.
//
//	law                 needs
//	T1 to T10           nothing
//	T11                 a store that implements [renew.Purger]
//	T12                 [WithOutage] or [WithProxy]; lost replies: [WithProxy]
//	T13                 [WithCrash], or [StartProcess] for a store in a file
//	S1, S2              a store that implements [renew.SubjectStore]
//	F1, F2, F3          [WithFailover]; the lists in F2: [renew.SubjectStore]
//	K1 to K10           a store that implements [renew.KeyAdmin]; one that only
//	                    reads is tested as far as it can be, with [WithApps]
//	K11                 [WithOutage] or [WithProxy]; lost replies: [WithProxy]
//	K12                 a store that implements [renew.KeyLister]
//	K13                 [WithCrash], or [StartProcess] for a store in a file
//	K14, K15            a store that implements [renew.KeyAdmin]
//	K16                 [renew.AppLister], and [renew.KeyAdmin] or [WithApps]
//	K17                 [renew.KeyAdmin] and [renew.PublishedKeyStore]
//
// [WithListLimit] is for a SubjectSessions that bounds its list, and [WithRounds]
// for quick runs.
//
// # What the suite cannot test
//
//   - A failover that loses no acknowledged write: have [WithCrash] promote another
//     server. One that may lose some: [WithFailover]. A cluster in two halves, of
//     which each accepts writes, is neither; see the database's own tests.
//   - Replicas: the suite sees what its handles read. Open them as production does.
//     A replica that lags by less than the time between two calls passes.
//   - The database's clock. No method reads a clock, and the suite cannot set the
//     database's. For rows that expire by it, the sessions of the suite end tomorrow
//     or later, a few seconds from now, or in the hour before; see law T11.
//   - A cache: open the store so that it asks every time, and document how stale the
//     cache may be.
//   - A full disk, an upgrade, a restored backup.
//
// # What a store must have room for
//
// App IDs, session IDs, token IDs and subjects are text of up to 255 bytes, in
// UTF-8 without control characters, compared byte by byte. A user agent has up
// to 1,024 bytes, an IP address up to 45, an audience several entries of any
// text and 4 KiB in all. Claims are one JSON object of up to 16 KiB, whose
// numbers have any number of digits. The hash of an idempotency key is 32 bytes.
// Times are kept to the millisecond, for centuries from now; whatever zone they
// come in, they are returned in UTC. A zero time, an empty text and a nil slice come
// back as such; an empty slice may come back as nil.
//
// # Read a failure
//
// A failure quotes the law, says what was expected and what the store did, and
// lists the last calls of the case. The cases that look for races begin many
// calls at the same moment, with a context that lets others run whenever the
// store asks it. A failure of one of them is the store's, even if it is seldom
// seen: the gap is there. The linearizable cases print what the clients saw of
// one session, operation by operation, each with its place in the longest order
// that explains the results; the first without a place is where to look. Set
// RENEW_STORETEST_SEED to the printed seed to repeat the random choices; the order
// in which goroutines run is not among them.
//
// Losing calls may return an error that can be retried, such as a serialization
// failure or a deadlock, and so may calls that took effect. Winners are counted
// when all calls have returned, by reading.
//
// # Break a store on purpose
//
// [NewFaulty] puts a store in front of another whose calls fail, wait, lose their
// result, or take effect after they have returned an error. [NewProxy] does the same
// to the connections of any client. They are for tests of code that uses a store.
//
// # The laws of a TokenStore
//
// T1 to T13 are those of [renew.TokenStore]. S1 and S2 are for a store that
// implements [renew.SubjectStore] as well:
//
//	S1   SubjectSessions returns the subject's sessions that are live at the
//	     given time, each as Session returns it, newest first, and no others
//	S2   RevokeSubject revokes every session of the subject that is not revoked
//	     yet, expired ones too, except those to keep, and no others; it
//	     returns how many these were
//
// F1 to F3 are for a store that may lose acknowledged writes in a failover, see
// [WithFailover]:
//
//	F1   a failover takes back the last writes at most: each session is as some
//	     call has left it, whole, and what was stored a moment before is there
//	F2   so it stays: every process sees the same, the lists of subjects too,
//	     nothing comes back later, and the other laws hold for what is written
//	     then
//	F3   with renew.AheadAdopted a failover logs no client out, and leaves no
//	     token with two successors that can both be renewed
//
// # The laws of a KeyStore
//
// The suite fills the store through [renew.KeyAdmin].
//
//	K1   App returns the app as it was created or changed last, every field;
//	     UpdateApp ignores KeyHashes
//	K2   an unknown app is ErrAppNotFound; a taken app ID is ErrAppExists, and the
//	     app stays as it was
//	K3   an unknown key, or another app's, is ErrKeyNotFound; no call changes
//	     another app
//	K4   exactly one key signs, the one that was rotated in last, until it is
//	     revoked; a taken key ID is ErrKeyExists
//	K5   a replaced key verifies, unchanged, until the end that SigningPeriod
//	     says, and has that end
//	K6   a revoked key is ErrKeyRevoked, from any process, and signs no more;
//	     revoking again is nil
//	K7   of app keys only hashes are kept: one that was added is there, one that
//	     was removed is not
//	K8   app IDs and issuers are opaque and exact; no two apps are confused
//	K9   with a context that is already done: its error, and nothing changes; one
//	     that ends during a call leaves a whole change or none
//	K10  the store and its caller share no memory: changing what was passed or
//	     returned changes no stored app
//	K11  an outage is a separate error, never one that the laws name, and what
//	     was stored is there after it
//	K12  VerificationKeys returns every key that still verifies, the published
//	     ones too, the active one first, and no other
//	K13  durable stores: an acknowledged change of apps and keys survives a kill
//	     of the process and of the database
//	K14  a published key verifies, is listed and does not sign until
//	     RotateSigningKey makes it the active one; another key of its ID is
//	     ErrKeyExists
//	K15  DeleteExpiredKeys deletes the replaced and revoked keys that expired
//	     before the given time, and no others
//	K16  AppIDs returns the ID of every app, each once, in the order of their
//	     bytes, and no other
//	K17  PublishedKey returns a published key, with which any process can sign;
//	     of any other key it is ErrKeyNotFound, of an unknown app ErrAppNotFound
package storetest
