// Package sqlstore keeps apps, keys and sessions in PostgreSQL, in MySQL or
// MariaDB, or in SQLite. [TokenStore] and [KeyStore] are the two stores that
// [renew.New] asks for; they can be mixed with other implementations.
//
// Open the database with a driver of your choice, bring its tables up to date
// with [Migrate], and make the stores:
//
//	db, err := sql.Open("pgx", "postgres://…")
//	err = sqlstore.Migrate(ctx, db, sqlstore.PostgreSQL)
//	tokens, err := sqlstore.NewTokenStore(ctx, db, sqlstore.PostgreSQL)
//	keys, err := sqlstore.NewKeyStore(ctx, db, sqlstore.PostgreSQL, encrypter)
//	renewer, err := renew.New(keys, tokens)
//
// The caller keeps the database: it sets the size of the pool, and closes it after
// the stores.
//
// A session is one row. A renewal is one SELECT and one conditional UPDATE, both
// by primary key, and no transaction is held between them. The database decides
// which of several concurrent renewals succeeds, so that any number of processes may
// share it. Reads go where writes go: give the stores the primary, never a
// replica.
//
// No row holds a token or an app key, and private keys are encrypted: see
// [Encrypter].
//
// # Errors
//
// The sentinels of package renew come as its interfaces say; test with
// [errors.Is]. Any other error is the database's, wrapped, with no key and no
// claim in what this package adds to it.
//
// A statement is repeated where that cannot do harm: when the database says that
// it has undone it, as after a deadlock; on another connection, when the one that
// it ran on is read-only or has lost its prepared statements; and a read or a
// revocation also when the connection broke, however many connections of the pool the
// server has closed. A rotation or a new session whose connection broke is not
// repeated: whether it happened is unknown, the error says so, and the Renewer reads
// the session. It then knows the result of a rotation; a login fails, and what it has
// stored is revoked.
//
// Waiting for a connection ends with the context. A statement that has begun is
// finished under a timeout: see [WithStatementTimeout].
//
// # Databases
//
// The constructors check the settings that these databases need, and docs/stores.md
// lists them.
//
// PostgreSQL: version 12 or later, with the encoding UTF8 and the default isolation
// READ COMMITTED. Behind PgBouncer use its session mode, let it track prepared
// statements, or see [WithoutPreparedStatements].
//
// MySQL 8.0 or later, MariaDB 10.5 or later: turn on the binary log, with
// sync_binlog = 1, and leave innodb_flush_log_at_trx_commit = 1. Otherwise a
// crash of the server can take back a rotation that another request has read
// already: docs/stores.md says more.
//
// SQLite: 3.37 or later. Every connection needs a busy timeout; with
// modernc.org/sqlite the data source name is
// "file:renew.db?_pragma=busy_timeout(2000)". Migrate turns on the write-ahead log,
// which the file then keeps. The package's transactions begin with a write, so that
// the driver need not make them immediate. Leave synchronous at FULL: a rotation
// must be on the disk before it is acknowledged.
package sqlstore
