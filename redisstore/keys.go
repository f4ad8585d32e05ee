package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/keydoc"
	"github.com/jwtrenew/renew/keycrypt"
)

var (
	_ renew.KeyStore  = (*KeyStore)(nil)
	_ renew.KeyLister = (*KeyStore)(nil)
	_ renew.KeyAdmin  = (*KeyStore)(nil)
	_ renew.AppLister = (*KeyStore)(nil)

	_ renew.PublishedKeyStore = (*KeyStore)(nil)
)

// KeyStore keeps apps, the hashes of their app keys, and their signing keys in
// Redis, private keys encrypted. It is a [renew.KeyStore], [renew.KeyLister],
// [renew.KeyAdmin], [renew.AppLister] and [renew.PublishedKeyStore]; Reencrypt
// encrypts every private key again, after a change of the encryption key. It is safe
// for concurrent use, and so is any number of them on one Redis. Make one with
// [NewKeyStore].
//
// A key is parsed and decrypted once and then kept in memory; what is asked for
// again is whether it is still valid: see [WithStatusInterval]. An app with its keys
// is one JSON document, in the field "document" of a hash.
type KeyStore struct {
	*keydoc.Store
	diagnosis []string
}

// NewKeyStore returns a store that uses the client, which stays the caller's to
// close. It makes the checks of [NewTokenStore]. The encrypter is one from
// [keycrypt.New], or your own; it is an error if it lacks the encryption key of a
// stored key.
func NewKeyStore(ctx context.Context, client redis.UniversalClient, encrypter keycrypt.Encrypter, opts ...Option) (*KeyStore, error) {
	r, diagnosis, err := newRunner(ctx, client, opts)
	if err != nil {
		return nil, fmt.Errorf("redisstore.NewKeyStore: %w", err)
	}
	store, err := keydoc.New(ctx, documents{r}, encrypter, r.cache)
	if err != nil {
		return nil, fmt.Errorf("redisstore.NewKeyStore: %w", err)
	}
	return &KeyStore{store, diagnosis}, nil
}

// Diagnosis is [TokenStore.Diagnosis].
func (s *KeyStore) Diagnosis() []string { return append([]string(nil), s.diagnosis...) }

// documents keeps the documents of a keydoc.Store.
type documents struct{ run *runner }

// ReadApp implements [keydoc.Backend].
func (d documents) ReadApp(ctx context.Context, appID string) ([]byte, error) {
	reply, err := d.run.read(ctx, call{readApp, []string{d.run.app(appID)}, nil})
	if errors.Is(err, redis.Nil) {
		return nil, renew.ErrAppNotFound
	}
	if err != nil {
		return nil, err
	}
	text, ok := reply.(string)
	if !ok {
		return nil, fmt.Errorf("the reply is a %T, not a text", reply)
	}
	return []byte(text), nil
}

// CreateApp implements [keydoc.Backend]. The set of IDs is written first: an ID
// without an app does no harm, an app without its ID would not be listed.
func (d documents) CreateApp(ctx context.Context, appID string, document []byte) error {
	if _, err := d.run.write(ctx, call{addAppID, []string{d.run.apps()}, []any{appID}}); err != nil {
		return err
	}
	reply, err := d.run.write(ctx, call{createApp, []string{d.run.app(appID)}, []any{string(document)}})
	switch {
	case err != nil:
		return err
	case reply == resultExists:
		return renew.ErrAppExists
	case reply != resultDone:
		return errReply
	}
	return nil
}

// ReplaceApp implements [keydoc.Backend].
func (d documents) ReplaceApp(ctx context.Context, appID string, from int64, document []byte) error {
	args := []any{strconv.FormatInt(from, 10), strconv.FormatInt(from+1, 10), string(document)}
	reply, err := d.run.write(ctx, call{replaceApp, []string{d.run.app(appID)}, args})
	switch {
	case err != nil:
		return err
	case reply == resultMissing:
		return renew.ErrAppNotFound
	case reply == resultOther:
		return keydoc.ErrLost
	case reply != resultDone:
		return errReply
	}
	return nil
}

// AppIDs implements [keydoc.Backend].
func (d documents) AppIDs(ctx context.Context) ([]string, error) {
	ids, err := texts(d.run.read(ctx, call{listAppIDs, []string{d.run.apps()}, nil}))
	if err != nil {
		return nil, err
	}
	existing := make([]string, 0, len(ids))
	for batch := range slices.Chunk(ids, batchSize) {
		calls := make([]call, len(batch))
		for i, id := range batch {
			calls[i] = call{readApp, []string{d.run.app(id)}, nil}
		}
		results, err := d.run.readAll(ctx, calls)
		if err != nil {
			return nil, err
		}
		for i, r := range results {
			switch {
			case r.err == nil:
				existing = append(existing, batch[i])
			case !errors.Is(r.err, redis.Nil):
				return nil, r.err
			}
		}
	}
	return existing, nil
}
