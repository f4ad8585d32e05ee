package memstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// tenant is an app with its signing keys. It never changes once it is in the
// store: a change puts another in its place, so that readers need no lock.
type tenant struct {
	app    renew.App
	keys   []keyRecord       // newest first
	active *renew.SigningKey // nil: the app has none
	period renew.SigningPeriod
}

// keyRecord is a signing key for verification.
type keyRecord struct {
	*renew.VerificationKey           // with its end, if it was replaced
	expires                time.Time // when it can be deleted; zero: it is active or published
	revoked                bool
	unused                 *renew.SigningKey // the key itself, while it is published
}

func (t *tenant) find(keyID string) *keyRecord {
	i := slices.IndexFunc(t.keys, func(k keyRecord) bool { return k.KeyID() == keyID })
	if i < 0 {
		return nil
	}
	return &t.keys[i]
}

// retire ends the active key's signing, if there is an active key.
func (t *tenant) retire(at time.Time) {
	if t.active == nil {
		return
	}
	k := t.find(t.active.KeyID())
	var until time.Time
	until, k.expires = t.period.Close(at)
	k.VerificationKey = k.Until(until)
	t.active = nil
}

func (s *Store) tenant(appID string) *tenant {
	s.appsMu.RLock()
	defer s.appsMu.RUnlock()
	return s.apps[appID]
}

func (s *Store) put(t *tenant) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	s.apps[t.app.ID] = t
}

// App returns the current app. It returns [renew.ErrAppNotFound] if there is none
// of this ID.
func (s *Store) App(ctx context.Context, appID string) (renew.App, error) {
	if err := ctx.Err(); err != nil {
		return renew.App{}, err
	}
	t := s.tenant(appID)
	if t == nil {
		return renew.App{}, renew.ErrAppNotFound
	}
	return t.app.Clone(), nil
}

// SigningKey returns the app's active key. [renew.ErrKeyNotFound]: it has none,
// because none was ever given to it or the active one was revoked, or there is
// no such app.
func (s *Store) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := s.tenant(appID)
	if t == nil || t.active == nil {
		return nil, renew.ErrKeyNotFound
	}
	return t.active, nil
}

// VerificationKey returns a key of this app by its ID: the active one, a published
// one, or a replaced one that [Store.DeleteExpiredKeys] has not deleted. It returns
// [renew.ErrKeyNotFound] if the app has none of that ID or there is no such app,
// and [renew.ErrKeyRevoked] if it was revoked.
func (s *Store) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := s.tenant(appID)
	if t == nil {
		return nil, renew.ErrKeyNotFound
	}
	k := t.find(keyID)
	switch {
	case k == nil:
		return nil, renew.ErrKeyNotFound
	case k.revoked:
		return nil, renew.ErrKeyRevoked
	}
	return k.VerificationKey, nil
}

// VerificationKeys returns every key of the app that still verifies, the active
// one first, then from the newest to the oldest. It returns [renew.ErrAppNotFound]
// if there is no such app.
func (s *Store) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := s.tenant(appID)
	if t == nil {
		return nil, renew.ErrAppNotFound
	}
	keys := make([]*renew.VerificationKey, 0, len(t.keys))
	for _, k := range t.keys {
		switch {
		case k.revoked:
		case t.active != nil && k.KeyID() == t.active.KeyID():
			keys = slices.Insert(keys, 0, k.VerificationKey)
		default:
			keys = append(keys, k.VerificationKey)
		}
	}
	return keys, nil
}

// CreateApp adds an app, see [renew.KeyAdmin].
func (s *Store) CreateApp(ctx context.Context, app renew.App) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := app.Validate(); err != nil {
		return fmt.Errorf("memstore: create app: %w", err)
	}
	app = app.Clone()
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.tenant(app.ID) != nil {
		return fmt.Errorf("memstore: create app %q: %w", app.ID, renew.ErrAppExists)
	}
	s.put(&tenant{app: app})
	return nil
}

// UpdateApp replaces the settings of an app, see [renew.KeyAdmin].
func (s *Store) UpdateApp(ctx context.Context, app renew.App) error {
	return s.change(ctx, "update", app.ID, func(t *tenant) error {
		if err := app.Validate(); err != nil {
			return err
		}
		updated := app.Clone()
		updated.KeyHashes = t.app.KeyHashes
		t.app = updated
		t.period.Count(app)
		return nil
	})
}

// AddAppKey accepts the app key with this hash, see [renew.KeyAdmin].
func (s *Store) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "add app key to", appID, func(t *tenant) error {
		if !slices.Contains(t.app.KeyHashes, hash) {
			t.app.KeyHashes = append(slices.Clone(t.app.KeyHashes), hash)
		}
		return nil
	})
}

// RemoveAppKey rejects the app key with this hash, see [renew.KeyAdmin].
func (s *Store) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "remove app key of", appID, func(t *tenant) error {
		if !slices.Contains(t.app.KeyHashes, hash) {
			return renew.ErrKeyNotFound
		}
		t.app.KeyHashes = slices.DeleteFunc(slices.Clone(t.app.KeyHashes), func(h renew.AppKeyHash) bool { return h == hash })
		return nil
	})
}

// PublishSigningKey adds a key that verifies and does not sign yet, see
// [renew.KeyAdmin].
func (s *Store) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	return s.change(ctx, "publish signing key of", appID, func(t *tenant) error {
		if key == nil {
			return errors.New("the key is nil")
		}
		if err := t.add(key); err != nil {
			return err
		}
		t.keys[0].unused = key
		return nil
	})
}

// PublishedKey returns a published key of this app, see [renew.PublishedKeyStore].
func (s *Store) PublishedKey(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := s.tenant(appID)
	if t == nil {
		return nil, renew.ErrAppNotFound
	}
	if k := t.find(keyID); k != nil && k.unused != nil {
		return k.unused, nil
	}
	return nil, renew.ErrKeyNotFound
}

// add puts a new key before the others.
func (t *tenant) add(key *renew.SigningKey) error {
	if t.find(key.KeyID()) != nil {
		return fmt.Errorf("key %s: %w", key.KeyID(), renew.ErrKeyExists)
	}
	t.keys = slices.Insert(t.keys, 0, keyRecord{VerificationKey: key.VerificationKey()})
	return nil
}

// RotateSigningKey makes a new key or a published one the active one, see
// [renew.KeyAdmin].
func (s *Store) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	return s.change(ctx, "rotate signing key of", appID, func(t *tenant) error {
		switch {
		case key == nil:
			return errors.New("the key is nil")
		case now.IsZero():
			return errors.New("the time is zero")
		}
		if !t.published(key) {
			if err := t.add(key); err != nil {
				return err
			}
		}
		t.retire(now)
		t.find(key.KeyID()).unused = nil
		t.active = key
		t.period.Count(t.app)
		return nil
	})
}

// published reports whether this key was published and is not active yet.
func (t *tenant) published(key *renew.SigningKey) bool {
	k := t.find(key.KeyID())
	return k != nil && k.expires.IsZero() && !k.revoked &&
		(t.active == nil || t.active.KeyID() != key.KeyID()) &&
		k.Algorithm() == key.VerificationKey().Algorithm() &&
		k.PublicKey() == key.VerificationKey().PublicKey()
}

// RevokeKey invalidates everything that the key has signed or signs, see
// [renew.KeyAdmin].
func (s *Store) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return s.change(ctx, "revoke key of", appID, func(t *tenant) error {
		if at.IsZero() {
			return errors.New("the time is zero")
		}
		k := t.find(keyID)
		switch {
		case k == nil:
			return fmt.Errorf("key %q: %w", keyID, renew.ErrKeyNotFound)
		case t.active != nil && t.active.KeyID() == keyID:
			t.retire(at)
		case k.expires.IsZero(): // published, and has signed nothing
			k.expires = at
		}
		k.revoked, k.unused = true, nil
		return nil
	})
}

// DeleteExpiredKeys deletes the replaced and revoked keys that expired before the
// given time, see [renew.KeyAdmin]. Deleting late only costs memory.
func (s *Store) DeleteExpiredKeys(ctx context.Context, before time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	expired := func(k keyRecord) bool { return !k.expires.IsZero() && k.expires.Before(before) }
	n := 0
	for _, appID := range s.appIDs() {
		if !slices.ContainsFunc(s.tenant(appID).keys, expired) {
			continue // and spare the copy
		}
		err := s.change(ctx, "delete expired keys of", appID, func(t *tenant) error {
			all := len(t.keys)
			t.keys = slices.DeleteFunc(t.keys, expired)
			n += all - len(t.keys)
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// AppIDs returns the ID of every app, see [renew.AppLister].
func (s *Store) AppIDs(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ids := s.appIDs()
	slices.Sort(ids)
	return ids, nil
}

func (s *Store) appIDs() []string {
	s.appsMu.RLock()
	defer s.appsMu.RUnlock()
	ids := make([]string, 0, len(s.apps))
	for id := range s.apps {
		ids = append(ids, id)
	}
	return ids
}

// change puts what f makes of the app in its place, or changes nothing if f fails.
// f may change the tenant and the elements of keys, which are copies, but must not
// write to the app's KeyHashes.
func (s *Store) change(ctx context.Context, doing, appID string, f func(*tenant) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	t := s.tenant(appID)
	if t == nil {
		return fmt.Errorf("memstore: %s app %q: %w", doing, appID, renew.ErrAppNotFound)
	}
	changed := *t
	changed.keys = slices.Clone(t.keys)
	if err := f(&changed); err != nil {
		return fmt.Errorf("memstore: %s app %q: %w", doing, appID, err)
	}
	s.put(&changed)
	return nil
}
