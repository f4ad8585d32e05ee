package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/jwtrenew/renew"
)

const (
	readApp   = `SELECT ` + appColumns + ` FROM {apps} WHERE id = ?`
	insertApp = `INSERT INTO {apps} (` + appColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	// updateApp is every change of an app or its keys: it takes effect if the row
	// still has the revision that the change was made from.
	updateApp = `UPDATE {apps} SET issuer = ?, key_hashes = ?, auth_ttl = ?, auth_not_before = ?, refresh_ttl = ?,
		refresh_not_before = ?, session_ttl = ?, max_sessions = ?, former_issuers = ?, signing_key_id = ?,
		longest_ttl = ?, signed_until = ?, revision = ? WHERE id = ? AND revision = ?`
)

// CreateApp adds an app, see [renew.KeyAdmin].
func (s *KeyStore) CreateApp(ctx context.Context, app renew.App) error {
	if err := s.createApp(ctx, app); err != nil {
		return fmt.Errorf("sqlstore: create app %q: %w", app.ID, err)
	}
	return nil
}

func (s *KeyStore) createApp(ctx context.Context, app renew.App) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := app.Validate(); err != nil {
		return err
	}
	var r appRow
	if err := errors.Join(r.set(app), r.setHashes(app.KeyHashes)); err != nil {
		return err
	}
	defer s.clear()
	_, err := s.run.exec(ctx, false, s.insertApp, r.args()...)
	if s.run.classify(err) == duplicate {
		return renew.ErrAppExists
	}
	return err
}

// UpdateApp replaces the settings of an app, see [renew.KeyAdmin].
func (s *KeyStore) UpdateApp(ctx context.Context, app renew.App) error {
	return s.change(ctx, "update", app.ID, func(r *appRow) ([]statement, error) {
		if err := app.Validate(); err != nil {
			return nil, err
		}
		if err := r.set(app); err != nil {
			return nil, err
		}
		return nil, r.count()
	})
}

// AddAppKey accepts the app key with this hash, see [renew.KeyAdmin].
func (s *KeyStore) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "add app key to", appID, func(r *appRow) ([]statement, error) {
		hashes, err := r.hashes()
		if err != nil || slices.Contains(hashes, hash) {
			return nil, err
		}
		return nil, r.setHashes(append(hashes, hash))
	})
}

// RemoveAppKey rejects the app key with this hash, in other processes after their
// status interval, see [renew.KeyAdmin].
func (s *KeyStore) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "remove app key of", appID, func(r *appRow) ([]statement, error) {
		hashes, err := r.hashes()
		if err != nil {
			return nil, err
		}
		if !slices.Contains(hashes, hash) {
			return nil, renew.ErrKeyNotFound
		}
		return nil, r.setHashes(slices.DeleteFunc(hashes, func(h renew.AppKeyHash) bool { return h == hash }))
	})
}

// statement is one that a change of an app's keys runs in addition.
type statement struct {
	query string
	args  []any
}

// maxLostChanges is how often a change begins again because another one came
// first. Each time another one has taken effect.
const maxLostChanges = 1000

// errLost means that another change of the app came first.
var errLost = errors.New("too many concurrent changes")

// change has f change an app, and say what to change of its keys. What f reads of
// the keys is as it was at the app's revision.
func (s *KeyStore) change(ctx context.Context, doing, appID string, f func(*appRow) ([]statement, error)) error {
	err := ctx.Err()
	if err == nil && !storable(appID) {
		err = renew.ErrAppNotFound
	}
	if err == nil {
		defer s.clear() // also when the outcome is unknown
		err = errLost
		for i := 0; i < maxLostChanges && errors.Is(err, errLost); i++ {
			err = s.changeOnce(ctx, appID, f)
		}
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %s app %q: %w", doing, appID, err)
	}
	return nil
}

func (s *KeyStore) changeOnce(ctx context.Context, appID string, f func(*appRow) ([]statement, error)) error {
	var r appRow
	err := s.run.query(ctx, s.readApp, scanOne(r.dest), appID)
	if errors.Is(err, sql.ErrNoRows) {
		return renew.ErrAppNotFound
	}
	if err != nil {
		return err
	}
	revision := r.revision
	r.revision++
	ofKeys, err := f(&r)
	if err != nil {
		return err
	}
	args := append(r.args(), revision)
	if len(ofKeys) == 0 {
		n, err := s.run.exec(ctx, false, s.updateApp, args...)
		if err == nil && n == 0 {
			err = errLost
		}
		return err
	}
	return s.run.transaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := execOn(ctx, textOn{tx, s.updateApp.query}, args)
		if err == nil && n == 0 {
			err = errLost
		}
		for _, change := range ofKeys {
			if err != nil {
				break
			}
			_, err = execOn(ctx, textOn{tx, s.run.render(change.query, true).query}, change.args)
		}
		return err
	})
}

// clear forgets what was read, so that this process uses the change immediately.
func (s *KeyStore) clear() {
	s.apps.Clear()
	s.signing.Clear()
	s.verification.Clear()
	s.lists.Clear()
}
