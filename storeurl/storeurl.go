// Package storeurl opens the stores that a URL names, for programs that are told by
// a flag or a variable where apps, keys and sessions are kept. It links the drivers
// of all of them; a program that knows its database uses the store's own package.
package storeurl

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/keycrypt"
	"github.com/jwtrenew/renew/memstore"
	"github.com/jwtrenew/renew/redisstore"
)

// Memory names the stores that end with the program.
const Memory = "memory"

// EncryptionKeyVariable is the environment variable that programs take the
// encryption key from. A flag would show it to everyone on the machine.
const EncryptionKeyVariable = "RENEW_ENCRYPTION_KEY"

// Usage names what [Open] takes, for the help of a flag.
const Usage = Memory + ", sqlite:FILE, postgres://…, mysql://…, " + redisstore.URLForms + ", " + dynamostore.URLForm

// ErrUsage means that the URL or the encryption key is malformed, so that trying
// again is of no use.
var ErrUsage = errors.New("malformed store URL or encryption key")

// Keys is a KeyStore that can be changed and lists its keys.
type Keys interface {
	renew.KeyStore
	renew.KeyAdmin
	renew.KeyLister
}

// Stores are what a [renew.Renewer] is made of. Close them when nothing uses them
// any more.
type Stores struct {
	Keys   Keys
	Tokens renew.TokenStore

	// Ahead is the policy for [renew.WithAhead] that fits the stores:
	// [renew.AheadAdopted] where a failover can lose acknowledged writes.
	Ahead renew.AheadPolicy
	// Diagnosis says which settings of the servers weaken what the stores promise,
	// a sentence each. Log it.
	Diagnosis []string
	// DeleteEvery is an interval for [renew.Renewer.Run] that fits the stores: a
	// minute, or six hours where deleting reads every session, as with DynamoDB.
	DeleteEvery time.Duration

	close func() error
}

// Values of DeleteEvery.
const (
	often  = time.Minute
	seldom = 6 * time.Hour
)

// Close closes the connections.
func (s *Stores) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// Open brings the tables of a database up to date and opens its stores:
//
//	memory                                in memory, for one process
//	sqlite:FILE                           an SQLite file
//	postgres://USER:PASSWORD@HOST/NAME    PostgreSQL, with pgx's settings after a "?"
//	mysql://USER:PASSWORD@HOST/NAME       MySQL or MariaDB, with the driver's settings
//	mysql://DSN                           the same, as the driver's own DSN
//	redis://…, redis+sentinel://…         Redis: see [redisstore.NewClient] for all forms
//	dynamodb://TABLE                      DynamoDB: see [dynamostore.NewClient]; the table must exist
//
// Timeouts of a connection are set where the URL sets none.
//
// encryptionKey is the base64 of the 32 random bytes that encrypt the private keys.
// Memory needs none. For an SQLite file it may be empty: then it is read from the
// file with ".key" after the name, which is made if it is not there; a copy of the
// database alone has no key that signs.
//
// Errors: [ErrUsage]; any other comes from the database. None holds the URL or a
// part of it that may be a password.
func Open(ctx context.Context, url, encryptionKey string) (*Stores, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch scheme {
	case Memory:
		store := memstore.New()
		return &Stores{Keys: store, Tokens: store, DeleteEvery: often}, nil
	case "sqlite", "postgres", "postgresql", "mysql", "mariadb":
		return openSQL(ctx, scheme, rest, encryptionKey)
	case "dynamodb":
		return openDynamoDB(ctx, url, encryptionKey)
	}
	if scheme, _, _ := strings.Cut(scheme, "+"); scheme == "redis" || scheme == "rediss" {
		return openRedis(ctx, url, encryptionKey)
	}
	return nil, fmt.Errorf("%w: the URL is not one of %s", ErrUsage, Usage)
}

// encrypter makes what encrypts private keys.
func encrypter(encryptionKey string) (keycrypt.Encrypter, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encryptionKey))
	if err != nil || len(key) != keycrypt.KeyBytes {
		return nil, fmt.Errorf("%w: the encryption key ($%s) must be 32 random bytes in base64, such as those of: openssl rand -base64 32", ErrUsage, EncryptionKeyVariable)
	}
	return keycrypt.New(key)
}
