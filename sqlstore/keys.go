package sqlstore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jwtrenew/renew"
)

var (
	_ renew.KeyStore  = (*KeyStore)(nil)
	_ renew.KeyLister = (*KeyStore)(nil)
	_ renew.KeyAdmin  = (*KeyStore)(nil)
)

// KeyStore keeps apps, the hashes of their app keys, and their signing keys in a
// database, private keys encrypted. It is safe for concurrent use, and so is any
// number of them on one database. Make one with [NewKeyStore].
//
// A key is parsed and decrypted once and then kept in memory; what is asked for
// again is whether it is still good: see [WithStatusInterval].
type KeyStore struct {
	config    config
	db        *sql.DB
	encrypter Encrypter
	prepared  statements

	readApp     *sql.Stmt
	readSigning *sql.Stmt
	readKey     *sql.Stmt
	listKeys    *sql.Stmt

	apps         *cache[string, renew.App]
	signing      *cache[string, *renew.SigningKey]
	verification *cache[keyName, keyStatus]
	lists        *cache[string, []*renew.VerificationKey]

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
	readVerificationKey = `SELECT algorithm, public_key, revoked, COALESCE(verifies_until, expires_at) FROM {signing_keys} WHERE app_id = ? AND id = ?`
	// An app without a key is a row without a key.
	listVerificationKeys = `SELECT k.id, k.algorithm, k.public_key, COALESCE(k.verifies_until, k.expires_at) FROM {apps} a
		LEFT JOIN {signing_keys} k ON k.app_id = a.id AND k.revoked = 0 WHERE a.id = ?
		ORDER BY CASE WHEN k.id = a.signing_key_id THEN 0 ELSE 1 END, k.sequence DESC`
)

// NewKeyStore returns a store in the database, whose tables [Migrate] has made.
// It prepares its statements, as [NewTokenStore] does. The encrypter is one from
// [NewEncrypter], or one of your own.
func NewKeyStore(ctx context.Context, db *sql.DB, dialect Dialect, encrypter Encrypter, opts ...Option) (*KeyStore, error) {
	c, err := newConfig(db, dialect, opts)
	if err != nil {
		return nil, fmt.Errorf("sqlstore.NewKeyStore: %w", err)
	}
	if encrypter == nil {
		return nil, errors.New("sqlstore.NewKeyStore: it needs an encrypter, such as one from NewEncrypter")
	}
	s := &KeyStore{
		config:       c,
		db:           db,
		encrypter:    encrypter,
		apps:         newCache[string, renew.App](c.cache),
		signing:      newCache[string, *renew.SigningKey](c.cache),
		verification: newCache[keyName, keyStatus](c.cache),
		lists:        newCache[string, []*renew.VerificationKey](c.cache),
		parsed:       make(map[keyName]parsedKey),
		decrypted:    make(map[string]*renew.SigningKey),
		decrypting:   make(map[string]turn),
	}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("sqlstore.NewKeyStore: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *KeyStore) prepare(ctx context.Context) error {
	if err := s.config.checkConnection(ctx, s.db); err != nil {
		return err
	}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.readApp, readApp},
		{&s.readSigning, readSigningKey},
		{&s.readKey, readVerificationKey},
		{&s.listKeys, listVerificationKeys},
	} {
		if err := s.prepared.prepare(ctx, s.db, s.config.sql(p.query), p.stmt); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the prepared statements back. The database stays open.
func (s *KeyStore) Close() error { return s.prepared.close() }

// App returns the app as it stands, or stood within the status interval.
// [renew.ErrAppNotFound]: there is none.
func (s *KeyStore) App(ctx context.Context, appID string) (renew.App, error) {
	if err := ctx.Err(); err != nil {
		return renew.App{}, err
	}
	if !storable(appID) {
		return renew.App{}, renew.ErrAppNotFound
	}
	app, err := s.apps.get(appID, func() (renew.App, error) {
		var r appRow
		err := retry(ctx, true, func() error { return s.readApp.QueryRowContext(ctx, appID).Scan(r.dest()...) })
		if errors.Is(err, sql.ErrNoRows) {
			return renew.App{}, renew.ErrAppNotFound
		}
		if err != nil {
			return renew.App{}, fmt.Errorf("sqlstore: read app: %w", err)
		}
		return r.app()
	})
	app.KeyHashes = slices.Clone(app.KeyHashes)
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
	return s.signing.get(appID, func() (*renew.SigningKey, error) {
		var keyID, algorithm string
		var public, private []byte
		err := retry(ctx, true, func() error {
			return s.readSigning.QueryRowContext(ctx, appID).Scan(&keyID, &algorithm, &public, &private)
		})
		if errors.Is(err, sql.ErrNoRows) {
			return nil, renew.ErrKeyNotFound
		}
		if err != nil {
			return nil, fmt.Errorf("sqlstore: read signing key: %w", err)
		}
		return s.signingKey(ctx, appID, keyID, algorithm, public, private)
	})
}

// signingKey decrypts the key, if it is not the one that was decrypted last. Of
// many who want it at once, as after a start, one asks the encrypter.
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
	key, err = s.decrypt(ctx, appID, keyID, algorithm, public, private)
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

func (s *KeyStore) decrypt(ctx context.Context, appID, keyID, algorithm string, public, private []byte) (*renew.SigningKey, error) {
	der, err := s.encrypter.Decrypt(ctx, private, associatedData(appID, keyID, algorithm))
	if err != nil {
		return nil, err
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("what was decrypted is not a private key in PKCS #8")
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T is not a crypto.Signer", parsed)
	}
	stored, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(stored, public) {
		return nil, errors.New("the stored public key does not match the private key")
	}
	return renew.NewSigningKey(keyID, renew.Algorithm(algorithm), signer)
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
	status, err := s.verification.get(name, func() (keyStatus, error) { return s.readStatus(ctx, name) })
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
	err := retry(ctx, true, func() error {
		return s.readKey.QueryRowContext(ctx, name.appID, name.keyID).Scan(&algorithm, &public, &revoked, &until)
	})
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
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: verification key %s: what is stored is not a public key in PKIX form", name.keyID)
	}
	key, err := renew.NewVerificationKey(name.keyID, renew.Algorithm(algorithm), parsed)
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
	keys, err := s.lists.get(appID, func() ([]*renew.VerificationKey, error) {
		var keys []*renew.VerificationKey
		err := retry(ctx, true, func() error {
			var err error
			keys, err = s.readKeys(ctx, appID)
			return err
		})
		return keys, err
	})
	return slices.Clone(keys), err
}

func (s *KeyStore) readKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	rows, err := s.listKeys.QueryContext(ctx, appID)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: read verification keys: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err has said what went wrong
	var keys []*renew.VerificationKey
	found := false
	for rows.Next() {
		found = true
		var keyID, algorithm sql.NullString
		var public []byte
		var until sql.NullInt64
		if err := rows.Scan(&keyID, &algorithm, &public, &until); err != nil {
			return nil, fmt.Errorf("sqlstore: read verification keys: %w", err)
		}
		if !keyID.Valid {
			continue
		}
		key, err := s.verificationKey(keyName{appID, keyID.String}, algorithm.String, public)
		if err != nil {
			return nil, err
		}
		keys = append(keys, limited(key, until))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("sqlstore: read verification keys: %w", err)
	}
	if !found {
		return nil, renew.ErrAppNotFound
	}
	return keys, nil
}
