// Package dynamostore keeps apps, keys and sessions in one table of DynamoDB.
// [TokenStore] and [KeyStore] are the two stores that [renew.New] asks for; they can be
// mixed with other implementations.
//
// Define the table where you define the rest, as docs/stores.md shows, or have
// [CreateTable] create it. Make a client of aws-sdk-go-v2, or have [NewClient] make one
// from a URL, and the stores:
//
//	client, table, err := dynamostore.NewClient(ctx, "dynamodb://sessions")
//	tokens, err := dynamostore.NewTokenStore(ctx, client, table)
//	keys, err := dynamostore.NewKeyStore(ctx, client, table, encrypter)
//	renewer, err := renew.New(keys, tokens)
//
// The client may repeat requests, as the SDK does by default, or not.
//
// # What is promised
//
// Every read is strongly consistent, and every write is conditional, so that the store
// keeps the laws of [renew.TokenStore] by what DynamoDB promises of one region. DynamoDB
// acknowledges a write when more than one data center has it on disk, so that no failover
// takes it back. Two things do: a restore of the table from a backup, after which tokens
// are ahead of their sessions, see [renew.WithAhead]; and a change of the region. A
// global table checks a condition in one region only, so that all servers must use the
// same region.
//
// The tests run on dynalite, an emulator, to which they add what it lacks. They prove
// this package and not DynamoDB. docs/stores.md has the command that runs the suites
// of laws on a real table.
//
// # What is stored
//
// A session is one item, whose attributes an operator can read. No item holds a token,
// an app key or an idempotency key, and private keys are encrypted: see
// [keycrypt.Encrypter].
//
//	pk                          sk
//	session:4:shop:01J…         session         a session of the app "shop"
//	subject:4:shop:alice        session:01J…    its entry in the list of its subject
//	app:shop                    app             an app with its keys
//	apps                        app:shop        its entry in the list of apps
//
// A renewal is a read of one item and a conditional write of one item. A write whose
// condition has failed gets the item in the response, so that a conflict costs no second
// read; if an emulator does not return the item, it is read. A new session and its entry
// are written in one transaction, so that the session is listed from its first moment on:
// no index lags behind. About once in the time of retention, see [WithRetention], a
// renewal writes the entry again.
//
// # What is deleted
//
// DynamoDB's time to live deletes what has ended, at no cost, a generous time after the
// end: see [WithRetention]. Until then law T1 holds for expired sessions, too: they are
// returned as they were stored. [TokenStore.DeleteExpired] deletes them earlier, and
// reads the whole table for it. [renew.Renewer.Run] calls it: give that an interval of
// hours here, or do not call it.
//
// # Errors
//
// The sentinels of package renew come as its interfaces say; test with [errors.Is].
// Any other error is the SDK's, wrapped: whether a write has happened is unknown then,
// and the Renewer finds out. The SDK sends a request again when the response was lost.
// Every write has a name, by which the second request recognizes what the first one did.
// If more than three other writes of the session came between the two, the outcome is
// unknown.
package dynamostore
