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
	app  renew.App
	keys []appKey // newest first

	active  *renew.SigningKey // keys[0]; nil: the app has none
	longest time.Duration     // longest lifetime of a token that the active key can have signed

	// signedUntil is when the last token expires that any earlier key can have
	// signed. It never moves back, because a retry signs a pair of an earlier
	// key's time again, with the active key and the old expiry: a key must
	// verify for as long as the one before it.
	signedUntil time.Time
}

// appKey is a signing key as those see it who verify.
type appKey struct {
	*renew.VerificationKey
	until   time.Time // when the last token that it can have signed expires; zero: active
	revoked bool
}

func (t *tenant) find(keyID string) *appKey {
	i := slices.IndexFunc(t.keys, func(k appKey) bool { return k.KeyID() == keyID })
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
	if until := at.Add(t.longest); until.After(t.signedUntil) {
		t.signedUntil = until
	}
	t.find(t.active.VerificationKey().KeyID()).until = t.signedUntil
	t.active = nil
}

// lifetime is that of the app's longest-lived token.
func lifetime(app renew.App) time.Duration {
	auth, refresh := app.AuthTTL, app.RefreshTTL
	if auth == 0 {
		auth = renew.DefaultAuthTTL
	}
	if refresh == 0 {
		refresh = renew.DefaultRefreshTTL
	}
	return max(auth, refresh)
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

// App returns the app as it stands. [renew.ErrAppNotFound]: there is none.
func (s *Store) App(ctx context.Context, appID string) (renew.App, error) {
	if err := ctx.Err(); err != nil {
		return renew.App{}, err
	}
	t := s.tenant(appID)
	if t == nil {
		return renew.App{}, renew.ErrAppNotFound
	}
	app := t.app
	app.KeyHashes = slices.Clone(app.KeyHashes)
	return app, nil
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

// VerificationKey returns a key of this app by its ID, the active one or an older
// one that [Store.DeleteExpiredKeys] has not deleted. [renew.ErrKeyNotFound]:
// the app has none of that ID, or there is no such app. [renew.ErrKeyRevoked]:
// it was revoked.
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
// one first, then from the newest to the oldest. [renew.ErrAppNotFound]: there
// is no such app.
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
		if !k.revoked {
			keys = append(keys, k.VerificationKey)
		}
	}
	return keys, nil
}

// CreateApp adds an app. It has no signing key yet: see [Store.RotateSigningKey].
// [ErrAppExists]: there is one of this ID. What [renew.App.Validate] finds wrong
// is an error.
func (s *Store) CreateApp(ctx context.Context, app renew.App) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := app.Validate(); err != nil {
		return fmt.Errorf("memstore: create app: %w", err)
	}
	app.KeyHashes = slices.Clone(app.KeyHashes)
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.tenant(app.ID) != nil {
		return fmt.Errorf("memstore: create app %q: %w", app.ID, ErrAppExists)
	}
	s.put(&tenant{app: app})
	return nil
}

// UpdateApp replaces the settings of the app with the ID app.ID: everything but
// KeyHashes, which it does not look at, so that an app key that was removed
// meanwhile does not come back. [Store.AddAppKey] and [Store.RemoveAppKey]
// change those.
//
// Lifetimes are those of tokens to come. A new Issuer makes every token that was
// issued so far invalid. [renew.ErrAppNotFound]: there is no such app. What
// [renew.App.Validate] finds wrong is an error.
func (s *Store) UpdateApp(ctx context.Context, app renew.App) error {
	return s.change(ctx, "update", app.ID, func(t *tenant) error {
		if err := app.Validate(); err != nil {
			return err
		}
		app.KeyHashes = t.app.KeyHashes
		t.app = app
		t.longest = max(t.longest, lifetime(app))
		return nil
	})
}

// AddAppKey lets whoever has the app key of this hash in, besides those who
// already are. To replace an app key, add the new one, have the callers change
// to it, then remove the old one. Adding a hash again is nil.
// [renew.ErrAppNotFound]: there is no such app.
func (s *Store) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "add app key to", appID, func(t *tenant) error {
		if !slices.Contains(t.app.KeyHashes, hash) {
			t.app.KeyHashes = append(slices.Clone(t.app.KeyHashes), hash)
		}
		return nil
	})
}

// RemoveAppKey keeps the app key of this hash out from now on. With the last one
// gone, nobody passes. [renew.ErrAppNotFound]: there is no such app.
// [renew.ErrKeyNotFound]: it has no such app key.
func (s *Store) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "remove app key of", appID, func(t *tenant) error {
		if !slices.Contains(t.app.KeyHashes, hash) {
			return renew.ErrKeyNotFound
		}
		t.app.KeyHashes = slices.DeleteFunc(slices.Clone(t.app.KeyHashes), func(h renew.AppKeyHash) bool { return h == hash })
		return nil
	})
}

// RotateSigningKey makes key the app's active signing key; the first call gives
// the app its first. The key before it signs no more, but verifies until the
// last token that it can have signed has expired. That is now plus the longest
// RefreshTTL, or AuthTTL if longer, that the app had while the key was active;
// and never before the keys that came earlier. Then [Store.DeleteExpiredKeys]
// deletes it.
//
// [renew.ErrAppNotFound]: there is no such app. [ErrKeyExists]: it has, or has
// had, a key of this ID that is not deleted yet; an old key does not come back.
func (s *Store) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	return s.change(ctx, "rotate signing key of", appID, func(t *tenant) error {
		switch {
		case key == nil:
			return errors.New("the key is nil")
		case now.IsZero():
			return errors.New("the time is zero, but the old key's last use is reckoned from it")
		}
		id := key.VerificationKey().KeyID()
		if t.find(id) != nil {
			return fmt.Errorf("key %s: %w", id, ErrKeyExists)
		}
		t.retire(now)
		t.keys = slices.Insert(t.keys, 0, appKey{VerificationKey: key.VerificationKey()})
		t.active, t.longest = key, lifetime(t.app)
		return nil
	})
}

// RevokeKey makes everything invalid that the key has signed or signs, from now
// on: no session can be renewed whose refresh token it signed. Revoking the
// active key leaves the app without one, and every Issue and Renew fails, until
// [Store.RotateSigningKey] gives it another; to keep a service up, rotate
// first.
//
// The time tells when the active key stopped signing, so that it is known when
// its record can go. Revoking again is nil and changes nothing.
// [renew.ErrAppNotFound]: there is no such app. [renew.ErrKeyNotFound]: it has
// no such key.
func (s *Store) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return s.change(ctx, "revoke key of", appID, func(t *tenant) error {
		if at.IsZero() {
			return errors.New("the time is zero")
		}
		k := t.find(keyID)
		if k == nil {
			return fmt.Errorf("key %q: %w", keyID, renew.ErrKeyNotFound)
		}
		k.revoked = true
		if k.until.IsZero() {
			t.retire(at)
		}
		return nil
	})
}

// DeleteExpiredKeys deletes the keys, of all apps, whose last token has expired
// at the given time, revoked ones too, and returns how many. A token of a
// deleted key is refused as one of an unknown key.
//
// Being late costs nothing but memory, so take something off the time:
// [renew.WithLeeway]; as long as a renewal may take, because one that was under
// way at the rotation may sign with the old key a little later; and the longest
// RefreshTTL, if clients repeat requests ([renew.WithRetryWindow], idempotency
// keys). The token that such a client presents may have expired since it was
// used, and is answered while its successor is good, if its key is still there.
// [Store.Run] takes off all three.
func (s *Store) DeleteExpiredKeys(ctx context.Context, now time.Time) (int, error) {
	return s.deleteKeys(ctx, func(renew.App) time.Time { return now })
}

// deleteKeys deletes the keys whose last token has expired at the app's time.
func (s *Store) deleteKeys(ctx context.Context, timeOf func(renew.App) time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n := 0
	for _, appID := range s.appIDs() {
		t := s.tenant(appID)
		at := timeOf(t.app)
		past := func(k appKey) bool { return !k.until.IsZero() && !at.Before(k.until) }
		if !slices.ContainsFunc(t.keys, past) {
			continue // and spare the copy
		}
		err := s.change(ctx, "delete expired keys of", appID, func(t *tenant) error {
			all := len(t.keys)
			t.keys = slices.DeleteFunc(t.keys, past)
			n += all - len(t.keys)
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
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

// change puts what f makes of the app in its place, or nothing if f fails. f may
// change the tenant and the elements of keys, which are its own, but must not
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
