package keydoc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
)

// CreateApp adds an app, see [renew.KeyAdmin].
func (s *Store) CreateApp(ctx context.Context, app renew.App) error {
	if err := s.createApp(ctx, app); err != nil {
		return fmt.Errorf("%s: create app %q: %w", s.config.Store, app.ID, err)
	}
	return nil
}

func (s *Store) createApp(ctx context.Context, app renew.App) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := app.Validate(); err != nil {
		return err
	}
	var d document
	d.set(app)
	d.setHashes(app.KeyHashes)
	change := newChange()
	text, err := d.next(change)
	if err != nil {
		return err
	}
	defer s.clear()
	err = s.backend.CreateApp(ctx, app.ID, text)
	if !errors.Is(err, renew.ErrAppExists) {
		return err
	}
	stored, readErr := s.read(ctx, app.ID)
	if readErr == nil && slices.Contains(stored.Changes, change) {
		return s.change(ctx, "create", app.ID, func(*document) error { return nil }) // it must be as durable as a write
	}
	return err
}

// UpdateApp replaces the settings of an app, see [renew.KeyAdmin].
func (s *Store) UpdateApp(ctx context.Context, app renew.App) error {
	return s.change(ctx, "update", app.ID, func(d *document) error {
		if err := app.Validate(); err != nil {
			return err
		}
		d.set(app)
		return d.count(app.ID)
	})
}

// AddAppKey accepts the app key with this hash, see [renew.KeyAdmin].
func (s *Store) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "add app key to", appID, func(d *document) error {
		app, err := d.app(appID)
		if err != nil || slices.Contains(app.KeyHashes, hash) {
			return err
		}
		d.setHashes(append(app.KeyHashes, hash))
		return nil
	})
}

// RemoveAppKey rejects the app key with this hash, in other processes after their
// status interval, see [renew.KeyAdmin].
func (s *Store) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "remove app key of", appID, func(d *document) error {
		app, err := d.app(appID)
		if err != nil {
			return err
		}
		i := slices.Index(app.KeyHashes, hash)
		if i < 0 {
			return renew.ErrKeyNotFound
		}
		d.setHashes(slices.Delete(app.KeyHashes, i, i+1))
		return nil
	})
}

// PublishSigningKey adds a key that verifies and does not sign yet, see
// [renew.KeyAdmin]. The signer must be a private key of the standard library: it
// is stored, encrypted. Other processes list the key after their status interval
// at most.
func (s *Store) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	encrypted, err := keycrypt.Encrypt(ctx, s.encrypter, appID, key)
	if err != nil {
		return fmt.Errorf("%s: publish signing key of app %q: %w", s.config.Store, appID, err)
	}
	return s.change(ctx, "publish signing key of", appID, func(d *document) error { return d.add(encrypted) })
}

// RotateSigningKey makes a new key or a published one the active one, see
// [renew.KeyAdmin]. The signer must be a private key of the standard library: it
// is stored, encrypted. The private half of the key before it is deleted.
//
// The end of that key counts from now plus the status interval and a minute: a
// server inside its status interval still signs with it, and its clock may differ.
// Of two processes that rotate at the same time one is first, and the key of the
// other is the active one in the end.
func (s *Store) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	encrypted, err := keycrypt.Encrypt(ctx, s.encrypter, appID, key)
	if err == nil && now.IsZero() {
		err = errZeroTime
	}
	if err != nil {
		return fmt.Errorf("%s: rotate signing key of app %q: %w", s.config.Store, appID, err)
	}
	return s.change(ctx, "rotate signing key of", appID, func(d *document) error {
		return d.activate(appID, encrypted, s.signedUntil(now))
	})
}

// RevokeKey invalidates everything that the key has signed or signs, see
// [renew.KeyAdmin]: in this process immediately, in others after their status interval
// at most.
//
// Inside that interval a server may sign with a revoked active key, and so use up
// a refresh token that is valid. To revoke the active key without that, rotate,
// wait for the status interval, then revoke.
func (s *Store) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return s.change(ctx, "revoke key of", appID, func(d *document) error {
		if at.IsZero() {
			return errZeroTime
		}
		return d.revoke(keyID, at, s.signedUntil(at))
	})
}

// DeleteExpiredKeys deletes the replaced and revoked keys that expired before the
// given time, see [renew.KeyAdmin]. It reads every app. Deleting late only costs
// space.
func (s *Store) DeleteExpiredKeys(ctx context.Context, before time.Time) (int, error) {
	ids, err := s.AppIDs(ctx)
	if err != nil {
		return 0, err
	}
	limit, total := ceilMillis(before), 0
	for _, appID := range ids {
		d, err := s.read(ctx, appID)
		if errors.Is(err, renew.ErrAppNotFound) {
			continue
		}
		if err != nil {
			return total, s.failed("delete expired keys", err)
		}
		if d.deleteExpired(limit) == 0 {
			continue
		}
		n := 0
		err = s.change(ctx, "delete expired keys of", appID, func(d *document) error {
			n = d.deleteExpired(limit)
			return nil
		})
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// Reencrypt decrypts every private key and encrypts it again, and returns how
// many it has: after it, the encrypter's former keys are not needed any more. See
// [keycrypt.New]. It may be called again after an error, and while the store is
// in use.
func (s *Store) Reencrypt(ctx context.Context) (int, error) {
	ids, err := s.AppIDs(ctx)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, appID := range ids {
		n := 0
		err := s.change(ctx, "reencrypt keys of", appID, func(d *document) error {
			n = 0
			for i := range d.Keys {
				k := &d.Keys[i]
				if len(k.Private) == 0 {
					continue
				}
				again, err := k.key().Reencrypt(ctx, s.encrypter, appID)
				if err != nil {
					return fmt.Errorf("key %s: %w", k.ID, err)
				}
				k.Private = again
				n++
			}
			return nil
		})
		if err != nil && !errors.Is(err, renew.ErrAppNotFound) {
			return total, err
		}
		total += n
	}
	return total, nil
}

var errZeroTime = errors.New("the time is zero")

// maxLostChanges is how often a change begins again because another one came
// first. Each time another one has taken effect.
const maxLostChanges = 1000

// change has f change an app. f may be called several times, each time with the
// document as it was read.
func (s *Store) change(ctx context.Context, doing, appID string, f func(*document) error) error {
	err := ctx.Err()
	if err == nil && !storable(appID) {
		err = renew.ErrAppNotFound
	}
	if err == nil {
		defer s.clear() // also when the outcome is unknown
		change := newChange()
		err = ErrLost
		for i := 0; i < maxLostChanges && errors.Is(err, ErrLost); i++ {
			err = s.changeOnce(ctx, appID, change, f)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %s app %q: %w", s.config.Store, doing, appID, err)
	}
	return nil
}

func (s *Store) changeOnce(ctx context.Context, appID, change string, f func(*document) error) error {
	d, err := s.read(ctx, appID)
	if err != nil {
		return err
	}
	// A change whose write was repeated by the driver has lost against itself. It
	// is in the document then, which is written once more: what was read may not
	// be durable yet.
	if !slices.Contains(d.Changes, change) {
		if err := f(d); err != nil {
			return err
		}
	}
	from := d.Revision
	text, err := d.next(change)
	if err != nil {
		return err
	}
	return s.backend.ReplaceApp(ctx, appID, from, text)
}
