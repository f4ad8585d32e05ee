package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/keycache"
	"github.com/jwtrenew/renew/keycrypt"
)

var (
	_ renew.KeyStore  = (*KeyStore)(nil)
	_ renew.KeyLister = (*KeyStore)(nil)
	_ renew.KeyAdmin  = (*KeyStore)(nil)
	_ renew.AppLister = (*KeyStore)(nil)

	_ renew.PublishedKeyStore = (*KeyStore)(nil)
)

// KeyStore keeps apps, the hashes of their app keys, and their signing keys in a
// database, private keys encrypted. It is safe for concurrent use, and so is any
// number of them on one database. Make one with [NewKeyStore].
//
// A key is parsed and decrypted once and then kept in memory; what is asked for
// again is whether it is still valid: see [WithStatusInterval].
type KeyStore struct {
	config    config
	run       *runner
	encrypter Encrypter
	outage    keycache.Outage

	readApp     *stmt
	readSigning *stmt
	readKey     *stmt
	findKey     *stmt
	listKeys    *stmt
	insertApp   *stmt
	updateApp   *stmt

	apps         *keycache.Cache[string, renew.App]
	signing      *keycache.Cache[string, *renew.SigningKey]
	verification *keycache.Cache[keyName, keyStatus]
	lists        *keycache.Cache[string, []*renew.VerificationKey]

	mu         sync.Mutex // held for one look into a map
	parsed     map[keyName]parsedKey
	decrypted  map[string]*renew.SigningKey // by app: the key that signed last
	decrypting map[string]turn              // by app
}

type keyName struct{ appID, keyID string }

// parsedKey is a key with what it was parsed from: a key that was deleted and made
// again under its ID, as EnsureApp may do, is another one.
type parsedKey struct {
	public []byte
	key    *renew.VerificationKey
}

type keyStatus struct {
	key     *renew.VerificationKey
	revoked bool
}

const (
	readSigningKey = `SELECT k.id, k.algorithm, k.public_key, k.private_key FROM {apps} a
		JOIN {signing_keys} k ON k.app_id = a.id AND k.id = a.signing_key_id WHERE a.id = ?`
	// The private half of a key that was replaced or revoked is deleted. An app
	// without such a key is a row without one.
	readPublishedKey = `SELECT k.id, k.algorithm, k.public_key, k.private_key FROM {apps} a
		LEFT JOIN {signing_keys} k ON k.app_id = a.id AND k.id = ? AND k.revoked = 0 AND k.private_key IS NOT NULL
			AND (a.signing_key_id IS NULL OR a.signing_key_id <> k.id) WHERE a.id = ?`
	listApps            = `SELECT id FROM {apps}`
	readVerificationKey = `SELECT algorithm, public_key, revoked, COALESCE(verifies_until, expires_at) FROM {signing_keys} WHERE app_id = ? AND id = ?`
	// An app without a key is a row without a key.
	listVerificationKeys = `SELECT k.id, k.algorithm, k.public_key, COALESCE(k.verifies_until, k.expires_at) FROM {apps} a
		LEFT JOIN {signing_keys} k ON k.app_id = a.id AND k.revoked = 0 WHERE a.id = ?
		ORDER BY CASE WHEN k.id = a.signing_key_id THEN 0 ELSE 1 END, k.sequence DESC`
)

// NewKeyStore returns a store in the database, whose tables [Migrate] has made.
// It prepares its statements, as [NewTokenStore] does. The encrypter is one from
// [NewEncrypter], or a custom one.
func NewKeyStore(ctx context.Context, db *sql.DB, dialect Dialect, encrypter Encrypter, opts ...Option) (*KeyStore, error) {
	c, err := newConfig(db, dialect, opts)
	if err != nil {
		return nil, fmt.Errorf("sqlstore.NewKeyStore: %w", err)
	}
	if encrypter == nil {
		return nil, errors.New("sqlstore.NewKeyStore: it needs an encrypter, such as one from NewEncrypter")
	}
	s := &KeyStore{
		config:     c,
		run:        newRunner(c, db),
		encrypter:  encrypter,
		parsed:     make(map[keyName]parsedKey),
		decrypted:  make(map[string]*renew.SigningKey),
		decrypting: make(map[string]turn),
	}
	c.cache.Timeout = c.timeout
	signing := c.cache
	signing.OutageLimit = 0
	s.apps = keycache.New[string, renew.App](c.cache, &s.outage)
	s.signing = keycache.New[string, *renew.SigningKey](signing, &s.outage)
	s.verification = keycache.New[keyName, keyStatus](c.cache, &s.outage)
	s.lists = keycache.New[string, []*renew.VerificationKey](c.cache, &s.outage)
	if err := s.run.start(ctx, s.prepare); err != nil {
		return nil, fmt.Errorf("sqlstore.NewKeyStore: %w", errors.Join(err, s.Close()))
	}
	if err := s.checkEncrypter(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore.NewKeyStore: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *KeyStore) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt   **stmt
		query  string
		writes bool
	}{
		{&s.readApp, readApp, false},
		{&s.readSigning, readSigningKey, false},
		{&s.readKey, readVerificationKey, false},
		{&s.findKey, findKey, false},
		{&s.listKeys, listVerificationKeys, false},
		{&s.insertApp, insertApp, true},
		{&s.updateApp, updateApp, true},
	} {
		if err := s.run.prepare(ctx, p.stmt, p.query, p.writes); err != nil {
			return err
		}
	}
	return nil
}

// checkEncrypter finds out another encryption key than the one that encrypted the
// newest private keys.
func (s *KeyStore) checkEncrypter(ctx context.Context) error {
	keys, err := s.privateKeys(ctx, readPrivateKeys+" ORDER BY sequence DESC LIMIT 100")
	if err != nil {
		return fmt.Errorf("read private keys: %w", err)
	}
	for _, k := range keys {
		if err := k.Check(ctx, s.encrypter, k.appID); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the prepared statements. The database stays open.
func (s *KeyStore) Close() error { return s.run.close() }

// App returns the current app, or what it was within the status interval.
// [renew.ErrAppNotFound]: there is none.
func (s *KeyStore) App(ctx context.Context, appID string) (renew.App, error) {
	if err := ctx.Err(); err != nil {
		return renew.App{}, err
	}
	if !storable(appID) {
		return renew.App{}, renew.ErrAppNotFound
	}
	app, err := s.apps.Get(ctx, appID, func(ctx context.Context) (renew.App, error) {
		var r appRow
		err := s.run.query(ctx, s.readApp, scanOne(r.dest), appID)
		if errors.Is(err, sql.ErrNoRows) {
			return renew.App{}, renew.ErrAppNotFound
		}
		if err != nil {
			return renew.App{}, fmt.Errorf("sqlstore: read app: %w", err)
		}
		return r.app()
	})
	app.KeyHashes = slices.Clone(app.KeyHashes)
	app.FormerIssuers = slices.Clone(app.FormerIssuers)
	return app, err
}

// SigningKey returns the app's active key. [renew.ErrKeyNotFound]: it has none,
// because none was ever given to it or the active one was revoked, or there is
// no such app.
func (s *KeyStore) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) {
		return nil, renew.ErrKeyNotFound
	}
	return s.signing.Get(ctx, appID, func(ctx context.Context) (*renew.SigningKey, error) {
		var keyID, algorithm string
		var public, private []byte
		err := s.run.query(ctx, s.readSigning, scanOne(func() []any { return []any{&keyID, &algorithm, &public, &private} }), appID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, renew.ErrKeyNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("sqlstore: read signing key: %w", err)
		}
		return s.signingKey(ctx, appID, keyID, algorithm, public, private)
	})
}

// PublishedKey returns a published key of this app, see [renew.PublishedKeyStore].
// It asks the database each time.
func (s *KeyStore) PublishedKey(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) {
		return nil, renew.ErrAppNotFound
	}
	if !storable(keyID) {
		keyID = "" // so that it is only the app that is looked for
	}
	var id, algorithm sql.NullString
	var public, private []byte
	err := s.run.query(ctx, s.run.render(readPublishedKey, false), scanOne(func() []any { return []any{&id, &algorithm, &public, &private} }), keyID, appID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, renew.ErrAppNotFound
	case err != nil:
		return nil, fmt.Errorf("sqlstore: read published key: %w", err)
	case !id.Valid:
		return nil, renew.ErrKeyNotFound
	}
	key, err := (&keycrypt.Key{ID: keyID, Algorithm: algorithm.String, Public: public, Private: private}).Decrypt(ctx, s.encrypter, appID)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: published key %s: %w", keyID, err)
	}
	return key, nil
}

// AppIDs returns the ID of every app, see [renew.AppLister].
func (s *KeyStore) AppIDs(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var ids []string
	err := s.run.query(ctx, s.run.render(listApps, false), func(rows *sql.Rows) error {
		ids = nil
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return rows.Err()
	})
	if err != nil { // the query may still be under way
		return nil, fmt.Errorf("sqlstore: list apps: %w", err)
	}
	slices.Sort(ids)
	return ids, nil
}

// signingKey decrypts the key, if it is not the one that was decrypted last. Of
// many who want it simultaneously, as after a start, one asks the encrypter.
func (s *KeyStore) signingKey(ctx context.Context, appID, keyID, algorithm string, public, private []byte) (*renew.SigningKey, error) {
	verification, err := s.verificationKey(keyName{appID, keyID}, algorithm, public)
	if err != nil {
		return nil, err
	}
	key, decrypting := s.lastDecrypted(appID)
	if isPairOf(key, verification) {
		return key, nil
	}
	if err := decrypting.take(ctx); err != nil {
		return nil, err
	}
	defer decrypting.pass()
	if key, _ = s.lastDecrypted(appID); isPairOf(key, verification) {
		return key, nil
	}
	key, err = (&keycrypt.Key{ID: keyID, Algorithm: algorithm, Public: public, Private: private}).Decrypt(ctx, s.encrypter, appID)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: signing key %s: %w", keyID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decrypted[appID] = key
	return key, nil
}

// isPairOf reports whether key, which may be nil, has this public half.
func isPairOf(key *renew.SigningKey, public *renew.VerificationKey) bool {
	return key != nil && key.VerificationKey().KeyID() == public.KeyID() &&
		key.VerificationKey().PublicKey() == public.PublicKey()
}

func (s *KeyStore) lastDecrypted(appID string) (*renew.SigningKey, turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decrypting[appID] == nil {
		s.decrypting[appID] = make(turn, 1)
	}
	return s.decrypted[appID], s.decrypting[appID]
}

// VerificationKey returns a key of this app by its ID, the active one or an older
// one that [KeyStore.DeleteExpiredKeys] has not deleted. [renew.ErrKeyNotFound]:
// the app has none of that ID, or there is no such app. [renew.ErrKeyRevoked]:
// it was revoked, before the status interval. A key that is new to this process
// is always looked up.
func (s *KeyStore) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) || !storable(keyID) {
		return nil, renew.ErrKeyNotFound
	}
	name := keyName{appID, keyID}
	status, err := s.verification.Get(ctx, name, func(ctx context.Context) (keyStatus, error) { return s.readStatus(ctx, name) })
	switch {
	case err != nil:
		return nil, err
	case status.revoked:
		return nil, renew.ErrKeyRevoked
	}
	return status.key, nil
}

func (s *KeyStore) readStatus(ctx context.Context, name keyName) (keyStatus, error) {
	var algorithm string
	var public []byte
	var revoked bool
	var until sql.NullInt64
	err := s.run.query(ctx, s.readKey, scanOne(func() []any { return []any{&algorithm, &public, &revoked, &until} }), name.appID, name.keyID)
	if errors.Is(err, sql.ErrNoRows) {
		s.forget(name)
		return keyStatus{}, renew.ErrKeyNotFound
	}
	if err != nil {
		return keyStatus{}, fmt.Errorf("sqlstore: read verification key: %w", err)
	}
	key, err := s.verificationKey(name, algorithm, public)
	if err != nil {
		return keyStatus{}, err
	}
	return keyStatus{limited(key, until), revoked}, nil
}

// limited returns the key with its end, if it was replaced.
func limited(key *renew.VerificationKey, until sql.NullInt64) *renew.VerificationKey {
	if !until.Valid {
		return key
	}
	return key.Until(fromMillis(until.Int64))
}

// verificationKey parses the key, if that was not done before.
func (s *KeyStore) verificationKey(name keyName, algorithm string, public []byte) (*renew.VerificationKey, error) {
	s.mu.Lock()
	last := s.parsed[name]
	s.mu.Unlock()
	if last.key != nil && bytes.Equal(last.public, public) && string(last.key.Algorithm()) == algorithm {
		return last.key, nil
	}
	key, err := (&keycrypt.Key{ID: name.keyID, Algorithm: algorithm, Public: public}).Verification()
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parsed[name] = parsedKey{public, key}
	return key, nil
}

func (s *KeyStore) forget(name keyName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parsed, name)
}

// VerificationKeys returns every key of the app that still verifies, the active
// one first, then from the newest to the oldest. [renew.ErrAppNotFound]: there
// is no such app.
func (s *KeyStore) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) {
		return nil, renew.ErrAppNotFound
	}
	keys, err := s.lists.Get(ctx, appID, func(ctx context.Context) ([]*renew.VerificationKey, error) { return s.readKeys(ctx, appID) })
	return slices.Clone(keys), err
}

func (s *KeyStore) readKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	var keys []*renew.VerificationKey
	found := false
	err := s.run.query(ctx, s.listKeys, func(rows *sql.Rows) error {
		keys, found = nil, false
		for rows.Next() {
			found = true
			var keyID, algorithm sql.NullString
			var public []byte
			var until sql.NullInt64
			if err := rows.Scan(&keyID, &algorithm, &public, &until); err != nil {
				return err
			}
			if !keyID.Valid {
				continue
			}
			key, err := s.verificationKey(keyName{appID, keyID.String}, algorithm.String, public)
			if err != nil {
				return err
			}
			keys = append(keys, limited(key, until))
		}
		return rows.Err()
	}, appID)
	switch {
	case err != nil: // the query may still be under way
		return nil, fmt.Errorf("sqlstore: read verification keys: %w", err)
	case !found:
		return nil, renew.ErrAppNotFound
	}
	return keys, nil
}
