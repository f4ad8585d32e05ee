// Package storetest proves stores. [TestTokenStore] holds a [renew.TokenStore] to
// its laws, [TestKeyStore] a [renew.KeyStore]; a store that passes keeps the
// promises of package renew, whatever it stores things in. The suites are
// themselves proved, on stores of which each is wrong in one way.
//
// # Prove a store
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
// each with IDs of its own. go test -run 'TestLaws/T5' runs one law alone.
//
// Tell the suite how to break the backend, and it tests what is most often
// wrong: [WithOutage] cuts a database off, [WithCrash] kills it. A store that
// lives inside the process that uses it is killed with that process, which is
// what [StartProcess] is for. What cannot be tested is reported as skipped;
// nothing else can be left out. On a slow backend [WithSlowness] stretches the
// time limits.
//
// # What a store must have room for
//
// App IDs, session IDs, token IDs and subjects are text of up to 255 bytes, in
// UTF-8 without control characters, compared byte by byte. A user agent has up
// to 1,024 bytes, an IP address up to 45, an audience several entries of any
// text and 4 KiB in all. Claims are one JSON object of up to 16 KiB, whose
// numbers have any number of digits. The hash of an idempotency key is 32 bytes. Times are
// kept to the millisecond, for centuries from now; whatever zone they come in, they
// go out in UTC. A zero time, an empty text and a nil slice come back as such;
// an empty slice may come back as nil.
//
// # Read a failure
//
// A failure quotes the law, says what was expected and what the store did, and
// lists the last calls of the case. The cases that look for
// races begin many calls at the same moment, with a context that lets others run
// whenever the store asks it. A failure of one of them is the store's, even if
// it is seldom seen: the gap is there. The linearizable cases print what the
// clients saw of one session, operation by operation, each with its place in the
// longest order that explains the answers; the first without a place is where to
// look. Set RENEW_STORETEST_SEED to the printed seed to repeat the random
// choices; how goroutines take turns is not among them.
//
// The loser of a race may get an error that it can retry, such as a
// serialization failure or a deadlock, and so may one whose call was done.
// Winners are counted when all have returned, by reading.
//
// # Break a store on purpose
//
// [NewFaulty] puts a store in front of another whose calls fail, wait, lose
// their answer, or are done when nobody waits for them any more. It is for tests
// of what uses a store.
//
// # The laws of a TokenStore
//
// T1 to T13 are those of [renew.TokenStore]. S1 and S2 are for a store that
// implements [renew.SubjectStore] as well:
//
//	S1   SubjectSessions returns the subject's sessions that are live at the
//	     given time, each as Session returns it, newest first, and no others
//	S2   RevokeSubject revokes every session of the subject that is not revoked
//	     yet, expired ones too, apart from those to keep, and no others; it
//	     returns how many these were
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
package storetest
