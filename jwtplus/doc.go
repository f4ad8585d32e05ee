// Package jwtplus takes over the apps, keys and sessions of a JWTPlus 1.1 server,
// so that its users stay logged in: refresh tokens that JWTPlus has signed are
// renewed by this library, once each, and callers keep their app keys.
//
// [Import] copies a JWTPlus database (MySQL or MariaDB) into the stores of a
// [renew.Renewer]. [Lazy] wraps a TokenStore so that traffic can be switched before
// the import is done: a session that is not there yet is looked up in the old
// database when its token comes. [Handler] serves the endpoints of JWTPlus that
// applications call. docs/jwtplus.md has the order of the steps, and the way back.
//
// Stop JWTPlus before the first session is taken over. It deletes the row of a
// token that is used or logged out; a session that was copied before that stays
// valid in the new store, and its old token would be renewed a second time.
// Rehearse into stores that are thrown away afterwards.
//
// # What is taken over
//
// An app keeps its ID, lifetimes and app key; the app's name becomes its issuer, and
// the names that its outstanding refresh tokens have as iss become its
// FormerIssuers. Signing keys that are not revoked are made the active one in turn,
// first those that JWTPlus has marked expired, then by key ID, so that the last one
// signs and the others verify what they have signed; the store encrypts them. A
// session gets the token ID as its ID and its first token ID, and the subject, the
// audience and the custom claims of the stored auth token, numbers as text.
//
// A row is taken over as a whole or not at all. Each row that is not, or that is
// changed on the way, is reported in a [Line] that says why. No Line holds a token, a
// key, a subject or a claim.
//
// # Deleting expired sessions
//
// A session that was deleted from the new store while its row is still in the old
// database looks like one that was never taken over, and both [Import] and [Lazy]
// would create it again, at its first token. That does no harm as long as a session
// ends no earlier than the token that JWTPlus has issued: leave an app's RefreshTTL
// at least as long as it was, and its SessionTTL as it is, until the take-over is
// over. That is why a store made by Lazy is not a [renew.Purger].
package jwtplus
