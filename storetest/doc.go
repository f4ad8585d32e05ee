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
// numbers have any number of digits. A retry proof is 32 bytes. Times are kept
// to the millisecond, for centuries from now; whatever zone they come in, they
// go out in UTC. A zero time, an empty text and a nil slice come back as such;
// an empty slice may come back as nil.
//
// # Read a failure
//
// A failure quotes the law, says what was expected and what the store did, lists
// the last calls of the case, and names the usual cause. The cases that look for
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
// T1 to T13 are those of [renew.TokenStore]; S1 and S2 are for a store that is a
// [renew.SubjectStore] as well. Each law is followed by its cases, and by what
// it usually means when one of them fails.
//
// # T1: what is stored is kept
//
// What CreateSession stored, Session returns: every field, times equal to the
// millisecond and in UTC, claims the same JSON value to the last digit.
//
//   - every-field: a field is not written, not read back, or taken for another
//   - empty-fields: a zero time, or an empty field, is stored as some value,
//     such as the year 1970 or the text null
//   - revoked-from-the-start: CreateSession takes for granted that a new
//     session is live
//   - expired-ones-too: the store, or its database, drops what has expired by
//     its own clock; DeleteExpired alone does that
//   - milliseconds: a column of whole seconds, or a time that went through a
//     float
//   - finer-than-milliseconds: a time that is finer than the column is
//     refused, or cut to whole seconds
//   - zones: the wall clock is stored without its zone, or times come back in
//     the zone of the server: convert with UTC on the way in and on the way
//     out
//   - far-times: a column of 32-bit seconds, such as TIMESTAMP on MySQL, or
//     nanoseconds in an int64
//   - claims: claims go through a map of floats, or through a JSON column that
//     rounds numbers or refuses some text: keep the bytes
//   - long-fields: a column is too short, or counts characters where the limit
//     is in bytes
//   - audience: the list is joined with a separator: an entry may hold any
//   - retry-proof: the bytes go through a text column
//   - generation: a column of 32 bits, or a number that went through a float
//
// # T2: a taken ID
//
// A taken (app, ID) is ErrSessionExists and leaves the old session as it was.
//
//   - taken: CreateSession writes over what is there, or takes a second insert
//     for the first one repeated
//   - taken-by-a-revoked-one: only live sessions are looked at: a revoked
//     session could be started again
//   - taken-by-an-expired-one: only live sessions are looked at
//   - free-in-another-app: the key is the session ID without the app
//   - one-creator: CreateSession looks first and writes afterwards: two do
//     both at once; let the primary key decide
//   - stampede: CreateSession looks first and writes afterwards, with little
//     time between
//
// # T3: an unknown ID
//
// An unknown ID, or another app's, is ErrSessionNotFound.
//
//   - unknown-session: the database's own error for no row, or a zero Session,
//     is returned
//   - session-of-another-app: the session is looked up by its ID without the
//     app
//   - revoke-unknown: RevokeSession does not look at how many rows it has
//     changed
//   - revoke-in-another-app: RevokeSession finds the session by its ID without
//     the app
//
// # T4: compare and replace
//
// Rotate replaces the session as a whole if it exists, is not revoked and its
// TokenID is from; otherwise it is ErrConflict (or ErrSessionNotFound) and
// nothing changes; next.TokenID may be from: the row is written once more.
//
//   - replaces-every-field: Rotate writes only the fields that change in most
//     renewals
//   - empties-fields: Rotate keeps the old value where the new one is empty:
//     an update of the non-zero fields only
//   - from-another-token: Rotate does not compare the token ID, or compares it
//     in another way than byte by byte, or with PreviousTokenID too
//   - missing-session: Rotate inserts where it finds nothing to update
//   - session-of-another-app: Rotate finds the session by its ID, or by its
//     token ID, without the app
//   - touches-no-other-session: Rotate finds the session by less than app and
//     ID
//   - expired-session: Rotate judges expiry by a clock; the Renewer alone does
//     that
//
// # T5: one winner
//
// Of any number of Rotates with one from to other token IDs, one takes effect, and
// no other returns nil.
//
//   - second-is-refused: a Rotate whose result is there already is taken for
//     done: two callers are told that they have won
//   - exactly-one-winner: the comparison and the write are two steps: make
//     them one, such as UPDATE … WHERE token_id = from, and look at the
//     number of rows; or the outcome of a write is guessed
//   - stampede: the comparison and the write are two steps, with little time
//     between them: a lock that is given back, or that two handles do not
//     share
//   - one-winner-a-generation: the comparison and the write are two steps, or
//     the loser of a race is told that it has won
//   - linearizable: as for exactly-one-winner; or a write is lost, or happens
//     twice, when it meets another
//
// # T6: visible at once
//
// Once Rotate or RevokeSession has returned nil, every later Session, from any
// process, shows it: read the primary, not a replica.
//
//   - rotation-shows-at-once: Session reads a replica or a cache, or Rotate
//     returns before its write is committed
//   - revocation-shows-at-once: Session reads a replica or a cache, or
//     RevokeSession returns before its write is committed
//   - rotation-from-what-another-wrote: a handle compares with what it has
//     cached
//   - linearizable: reads are stale for a moment, or a write shows before
//     others say that it happened and then is gone
//
// # T7: revoked for ever
//
// A revoked session is never rotated or revived; revoking again is nil and
// keeps the first time.
//
//   - sets-the-time: RevokeSession sets a time of its own, or changes more
//     than RevokedAt
//   - whatever-the-token: RevokeSession looks at the generation, or at expiry
//   - never-rotated: Rotate does not ask whether the session is revoked
//   - never-revived: Rotate writes RevokedAt of the next session, which is
//     zero
//   - keeps-the-first-time: a second RevokeSession writes over the first, or
//     is an error
//   - keeps-the-first-time-in-a-race: RevokeSession looks first and writes
//     afterwards
//   - against-rotations: Rotate, or RevokeSession, reads the whole session,
//     changes it and writes it back: one undoes the other
//   - stampede: Rotate, or RevokeSession, compares and writes in two steps,
//     with little time between
//
// # T8: a context that is done
//
// With a context that is already done: its error, and nothing changes.
//
//   - create: the context is not passed on, or not looked at: begin with
//     ctx.Err
//   - session: the context is not passed on, or not looked at: begin with
//     ctx.Err
//   - rotate: the context is not passed on, or not looked at: begin with
//     ctx.Err
//   - revoke: the context is not passed on, or not looked at: begin with
//     ctx.Err
//   - by-subject: the context is not passed on, or not looked at: begin with
//     ctx.Err
//   - delete-expired: the context is not passed on, or not looked at: begin
//     with ctx.Err
//
// # T9: nothing is shared
//
// The store and its caller share no memory: changing what was passed or returned
// changes no stored session.
//
//   - handed-in: the slices of a session are kept as they were handed in:
//     store Session.Clone
//   - handed-out: the slices of the stored session are handed out: return
//     Session.Clone
//   - handed-out-by-subject: the slices of the stored sessions are handed out:
//     return Session.Clone of each
//
// # T10: names are exact
//
// IDs and subjects are opaque and exact: case, trailing spaces, quotes, %,
// unicode, 255 bytes; no two are confused, and none is interpreted as SQL or a
// pattern.
//
//   - session-ids: a collation that ignores case, accents or trailing spaces
//     (MySQL's default does), a column that is too short, text put into a
//     query
//   - app-ids: a collation that ignores case, accents or trailing spaces
//     (MySQL's default does), a column that is too short, text put into a
//     query
//   - app-and-session-id: app and session ID are joined to one key with a
//     separator that may stand in them, or with none
//   - token-ids: a collation that ignores case, accents or trailing spaces, a
//     column that is too short, a pattern match instead of an equality
//   - subjects: an index by subject that joins its parts with a separator, or
//     is searched by prefix; or a collation that ignores something
//   - app-and-subject: an index by subject joins app and subject with a
//     separator that may stand in them, or with none
//   - unknown-names: a name is taken for a pattern, or is executed
//
// # T11: deleting what has ended
//
// DeleteExpired removes only sessions that had ended before the given time, at
// most limit.
//
//   - only-what-has-ended: ended means that ExpiresAt, or an EndsAt that is
//     not zero, lies before the given time, and nothing else; the given time
//     may be in any zone
//   - at-most-limit: the limit is ignored, or is one of rows that are looked
//     at and not of those deleted
//   - no-limit-no-deletion: a limit of 0, or below, is taken for none at all
//   - counts: the number returned is not that of the sessions deleted
//   - leaves-no-trace: an index still names the deleted session, or the ID
//     stays taken
//   - never-takes-a-renewed-one: DeleteExpired first lists what has ended and
//     then deletes it without asking again
//
// # T12: an outage
//
// An outage is an error of its own, never ErrSessionNotFound or ErrConflict.
//
//   - every-method: every failure of a query is taken for no row found, or an
//     error is dropped
//   - new-handles: what was in memory is lost, or a failed call has left
//     something half done
//
// # T13: a crash
//
// Durable stores: an acknowledged write survives a kill of the process and of the
// database; so does an acknowledgement of what was already so (already revoked,
// already at that token ID).
//
//   - quiet: writes are answered before they are on disk: no fsync, no commit,
//     a buffer
//   - in-the-middle-of-work: writes are answered before they are on disk; or a
//     write is two, and the crash came between them
//
// # S1: listing a subject's sessions
//
// SubjectSessions returns the subject's sessions that are live at the given
// time, each as Session returns it, newest first, and no others.
//
//   - whole-sessions: the query for a list reads fewer fields than that for
//     one
//   - nobody: no row found is an error, where it is an empty list
//   - only-the-subject: the app, or the subject, is missing from the condition
//   - only-live-ones: live means not revoked, and before both ExpiresAt and an
//     EndsAt that is not zero, at the given time: not by the store's own clock
//   - newest-first: there is no order, or it is by ID, or by time alone
//   - many: a page size that is not documented
//   - as-sessions-change: an index is not kept up by Rotate or RevokeSession
//
// # S2: revoking a subject's sessions
//
// RevokeSubject revokes every session of the subject that is not revoked yet,
// expired ones too, and no others; it returns how many these were.
//
//   - all-and-only: the app, or the subject, is missing from the condition; or
//     only live sessions are looked at
//   - keeps-the-first-time: sessions that are revoked already are revoked
//     again
//   - nobody: no row found is an error, where it is 0
//   - against-rotations: the sessions are read, changed and written back: a
//     rotation undoes it, or is undone
//
// # The laws of a KeyStore
//
// The suite fills the store through [renew.KeyAdmin].
//
// # K1: an app is kept
//
// App returns the app as it was created or changed last, every field; UpdateApp
// ignores KeyHashes.
//
// # K2: an unknown app, a taken ID
//
// An unknown app is ErrAppNotFound; a taken app ID is ErrAppExists, and the app
// stays as it was.
//
// # K3: an unknown key
//
// An unknown key, or another app's, is ErrKeyNotFound; no call changes another
// app.
//
// # K4: one key signs
//
// Exactly one key signs, the one that was rotated in last, until it is revoked;
// a taken key ID is ErrKeyExists.
//
// # K5: a replaced key
//
// A replaced key verifies, unchanged, until the end that SigningPeriod says, and
// has that end.
//
// # K6: a revoked key
//
// A revoked key is ErrKeyRevoked, from any process, and signs no more; revoking
// again is nil.
//
// # K7: app keys
//
// Of app keys only hashes are kept: one that was added is there, one that was
// removed is not.
//
// # K8: names are exact
//
// App IDs and issuers are opaque and exact; no two apps are confused.
//
// # K9: a context that is done
//
// With a context that is already done: its error, and nothing changes; one that
// ends during a call leaves a whole change or none.
//
// # K10: nothing is shared
//
// The store and its caller share no memory: changing what was passed or returned
// changes no stored app.
//
// # K11: an outage
//
// An outage is an error of its own, never one that the laws name, and what was
// stored is there after it.
//
// # K12: listing keys
//
// VerificationKeys returns every key that still verifies, the published ones
// too, the active one first, and no other.
//
// # K13: a crash
//
// Durable stores: an acknowledged change of apps and keys survives a kill of the
// process and of the database.
//
// # K14: a published key
//
// A published key verifies, is listed and does not sign until RotateSigningKey
// makes it the active one; another key of its ID is ErrKeyExists.
//
// # K15: deleting expired keys
//
// DeleteExpiredKeys deletes the replaced and revoked keys that expired before
// the given time, and no others.
package storetest
