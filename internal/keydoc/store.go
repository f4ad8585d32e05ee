package keydoc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/keycache"
	"github.com/jwtrenew/renew/keycrypt"
)

// Backend keeps the documents. It must be safe for concurrent use. A write that its
// driver repeats may fail the second time: the store finds out.
type Backend interface {
	// ReadApp returns the app's document, as the last acknowledged write left it
	// or a later one. It returns renew.ErrAppNotFound if there is none.
	ReadApp(ctx context.Context, appID string) (document []byte, err error)
	// CreateApp stores the first document of an app, whose revision is 1. It
	// returns renew.ErrAppExists if there is one.
	CreateApp(ctx context.Context, appID string, document []byte) error
	// ReplaceApp puts the document in the place of the one with the revision
	// from; its own is from + 1. It returns ErrLost if the revision is another.
	ReplaceApp(ctx context.Context, appID string, from int64, document []byte) error
	// AppIDs returns the ID of every app, in any order.
	AppIDs(ctx context.Context) ([]string, error)
}

// ErrLost means that another change of the app came first.
var ErrLost = errors.New("too many concurrent changes")

var (
	_ renew.KeyStore          = (*Store)(nil)
	_ renew.KeyLister         = (*Store)(nil)
	_ renew.KeyAdmin          = (*Store)(nil)
	_ renew.AppLister         = (*Store)(nil)
	_ renew.PublishedKeyStore = (*Store)(nil)
)

// Store is a KeyStore over a Backend. It is safe for concurrent use.
type Store struct {
	backend   Backend
	encrypter keycrypt.Encrypter
	config    keycache.Config
	outage    keycache.Outage

	apps         *keycache.Cache[string, renew.App]
	signing      *keycache.Cache[string, *renew.SigningKey]
	verification *keycache.Cache[keyName, keyStatus]
	lists        *keycache.Cache[string, []*renew.VerificationKey]

	mu        sync.Mutex // held for one look into a map
	parsed    map[keyName]parsedKey
	decrypted map[string]*decrypted // by app
}

type keyName struct{ appID, keyID string }

// parsedKey is a key with what it was parsed from: a key that was deleted and made
// again under its ID is another one.
type parsedKey struct {
	public []byte
	key    *renew.VerificationKey
}

type keyStatus struct {
	key     *renew.VerificationKey
	revoked bool
}

// decrypted is the key of an app that signed last.
type decrypted struct {
	turn chan struct{} // held by the call that decrypts it
	mu   sync.Mutex
	key  *renew.SigningKey
}

// New returns a store. Its errors begin with config.Store.
func New(ctx context.Context, backend Backend, encrypter keycrypt.Encrypter, config keycache.Config) (*Store, error) {
	if encrypter == nil {
		return nil, errors.New("the encrypter is nil; see keycrypt.New")
	}
	s := &Store{
		backend:   backend,
		encrypter: encrypter,
		config:    config,
		parsed:    make(map[keyName]parsedKey),
		decrypted: make(map[string]*decrypted),
	}
	signing := config
	signing.OutageLimit = 0 // nothing is signed with a key that is not known to be active
	s.apps = keycache.New[string, renew.App](config, &s.outage)
	s.signing = keycache.New[string, *renew.SigningKey](signing, &s.outage)
	s.verification = keycache.New[keyName, keyStatus](config, &s.outage)
	s.lists = keycache.New[string, []*renew.VerificationKey](config, &s.outage)
	return s, s.checkEncrypter(ctx)
}

// checkedApps is how many apps a new store looks at.
const checkedApps = 100

// checkEncrypter returns an error if the encrypter lacks the encryption key of a
// stored private key.
func (s *Store) checkEncrypter(ctx context.Context) error {
	ids, err := s.backend.AppIDs(ctx)
	if err != nil {
		return fmt.Errorf("list apps: %w", err)
	}
	for _, appID := range ids[:min(len(ids), checkedApps)] {
		d, err := s.read(ctx, appID)
		if errors.Is(err, renew.ErrAppNotFound) {
			continue // an ID comes before its app
		}
		if err != nil {
			return fmt.Errorf("read app: %w", err)
		}
		for i := range d.Keys {
			if len(d.Keys[i].Private) == 0 {
				continue
			}
			if err := d.Keys[i].key().Check(ctx, s.encrypter, appID); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxNameBytes is the longest name that any store must have room for.
const maxNameBytes = 255

// storable reports whether an app or a key can have this name. What cannot be
// stored is not found, and costs no call.
func storable(name string) bool {
	return name != "" && len(name) <= maxNameBytes && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

func (s *Store) read(ctx context.Context, appID string) (*document, error) {
	text, err := s.backend.ReadApp(ctx, appID)
	if err != nil {
		return nil, err
	}
	return parse(appID, text)
}

// failed names the store in an error, except in one that says what was not found.
func (s *Store) failed(doing string, err error) error {
	if err == nil || errors.Is(err, renew.ErrAppNotFound) || errors.Is(err, renew.ErrKeyNotFound) {
		return err
	}
	return fmt.Errorf("%s: %s: %w", s.config.Store, doing, err)
}

// App returns the app as it is stored, or was within the status interval. It returns
// [renew.ErrAppNotFound] if there is no such app.
func (s *Store) App(ctx context.Context, appID string) (renew.App, error) {
	if err := ctx.Err(); err != nil {
		return renew.App{}, err
	}
	if !storable(appID) {
		return renew.App{}, renew.ErrAppNotFound
	}
	app, err := s.apps.Get(ctx, appID, func(ctx context.Context) (renew.App, error) {
		d, err := s.read(ctx, appID)
		if err != nil {
			return renew.App{}, s.failed("read app", err)
		}
		app, err := d.app(appID)
		return app, s.failed("read app", err)
	})
	app.KeyHashes = slices.Clone(app.KeyHashes)
	app.FormerIssuers = slices.Clone(app.FormerIssuers)
	return app, err
}

// SigningKey returns the app's active key. It returns [renew.ErrKeyNotFound] if there
// is no such app, no key was ever rotated in, or the active one was revoked.
func (s *Store) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) {
		return nil, renew.ErrKeyNotFound
	}
	return s.signing.Get(ctx, appID, func(ctx context.Context) (*renew.SigningKey, error) {
		d, err := s.read(ctx, appID)
		if errors.Is(err, renew.ErrAppNotFound) {
			return nil, renew.ErrKeyNotFound
		}
		if err != nil {
			return nil, s.failed("read signing key", err)
		}
		k := d.find(d.Active)
		if k == nil {
			return nil, renew.ErrKeyNotFound
		}
		key, err := s.signingKey(ctx, appID, k)
		return key, s.failed("signing key "+k.ID, err)
	})
}

// signingKey decrypts the key, if it is not the one that was decrypted last. Of
// many concurrent calls, as after a start, one asks the encrypter.
func (s *Store) signingKey(ctx context.Context, appID string, k *storedKey) (*renew.SigningKey, error) {
	public, err := s.verificationKey(appID, k)
	if err != nil {
		return nil, err
	}
	last := s.lastDecrypted(appID)
	if key := last.get(public); key != nil {
		return key, nil
	}
	select {
	case last.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-last.turn }()
	if key := last.get(public); key != nil {
		return key, nil
	}
	key, err := k.key().Decrypt(ctx, s.encrypter, appID)
	if err != nil {
		return nil, err
	}
	last.mu.Lock()
	defer last.mu.Unlock()
	last.key = key
	return key, nil
}

func (s *Store) lastDecrypted(appID string) *decrypted {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decrypted[appID] == nil {
		s.decrypted[appID] = &decrypted{turn: make(chan struct{}, 1)}
	}
	return s.decrypted[appID]
}

// get returns the key if it is the one with this public half.
func (d *decrypted) get(public *renew.VerificationKey) *renew.SigningKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.key != nil && d.key.KeyID() == public.KeyID() && d.key.VerificationKey().PublicKey() == public.PublicKey() {
		return d.key
	}
	return nil
}

// VerificationKey returns a key of this app by its ID, the active one or an older
// one that DeleteExpiredKeys has not deleted. It returns [renew.ErrKeyNotFound] if the
// app has no key of that ID or there is no such app, and [renew.ErrKeyRevoked] if the
// key was revoked longer ago than the status interval. A key that is new to this
// process is always looked up.
func (s *Store) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
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

func (s *Store) readStatus(ctx context.Context, name keyName) (keyStatus, error) {
	d, err := s.read(ctx, name.appID)
	if err != nil && !errors.Is(err, renew.ErrAppNotFound) {
		return keyStatus{}, s.failed("read verification key", err)
	}
	var k *storedKey
	if err == nil {
		k = d.find(name.keyID)
	}
	if k == nil {
		s.forget(name)
		return keyStatus{}, renew.ErrKeyNotFound
	}
	key, err := s.verificationKey(name.appID, k)
	return keyStatus{key, k.Revoked}, s.failed("read verification key", err)
}

// verificationKey returns the key with its end, if it was replaced. It parses a key
// once.
func (s *Store) verificationKey(appID string, k *storedKey) (*renew.VerificationKey, error) {
	name := keyName{appID, k.ID}
	s.mu.Lock()
	last := s.parsed[name]
	s.mu.Unlock()
	if last.key == nil || !bytes.Equal(last.public, k.Public) || string(last.key.Algorithm()) != k.Algorithm {
		key, err := k.key().Verification()
		if err != nil {
			return nil, err
		}
		last = parsedKey{k.Public, key}
		s.mu.Lock()
		s.parsed[name] = last
		s.mu.Unlock()
	}
	if k.Until == 0 {
		return last.key, nil
	}
	return last.key.Until(fromMillis(k.Until)), nil
}

func (s *Store) forget(name keyName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parsed, name)
}

// VerificationKeys returns every key of the app that still verifies, the active
// one first, then from the newest to the oldest. It returns [renew.ErrAppNotFound] if
// there is no such app.
func (s *Store) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) {
		return nil, renew.ErrAppNotFound
	}
	keys, err := s.lists.Get(ctx, appID, func(ctx context.Context) ([]*renew.VerificationKey, error) { return s.readKeys(ctx, appID) })
	return slices.Clone(keys), err
}

func (s *Store) readKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	d, err := s.read(ctx, appID)
	if err != nil {
		return nil, s.failed("read verification keys", err)
	}
	keys := make([]*renew.VerificationKey, 0, len(d.Keys))
	for i := range d.Keys {
		k := &d.Keys[i]
		if k.Revoked {
			continue
		}
		key, err := s.verificationKey(appID, k)
		switch {
		case err != nil:
			return nil, s.failed("read verification keys", err)
		case k.ID == d.Active:
			keys = slices.Insert(keys, 0, key)
		default:
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// PublishedKey returns a published key of this app, see [renew.PublishedKeyStore].
// It asks the database each time.
func (s *Store) PublishedKey(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !storable(appID) {
		return nil, renew.ErrAppNotFound
	}
	d, err := s.read(ctx, appID)
	if err != nil {
		return nil, s.failed("read published key", err)
	}
	k := d.find(keyID)
	if !d.isPublished(k) {
		return nil, renew.ErrKeyNotFound
	}
	key, err := k.key().Decrypt(ctx, s.encrypter, appID)
	return key, s.failed("published key "+keyID, err)
}

// AppIDs returns the ID of every app, see [renew.AppLister].
func (s *Store) AppIDs(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ids, err := s.backend.AppIDs(ctx)
	if err != nil {
		return nil, s.failed("list apps", err)
	}
	slices.Sort(ids)
	return ids, nil
}

// Cached returns how many results are in memory.
func (s *Store) Cached() int {
	return s.apps.Len() + s.signing.Len() + s.verification.Len() + s.lists.Len()
}

// clear forgets what was read, so that this process uses a change immediately.
func (s *Store) clear() {
	s.apps.Clear()
	s.signing.Clear()
	s.verification.Clear()
	s.lists.Clear()
}

// signedUntil is until when a server may have read a key that was replaced at the given
// time: inside its status interval it does not know.
func (s *Store) signedUntil(at time.Time) time.Time {
	return at.Add(s.config.Interval)
}
