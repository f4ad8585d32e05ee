package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
)

const (
	insertKey = `INSERT INTO {signing_keys} (app_id, id, sequence, algorithm, public_key, private_key, revoked)
		VALUES (?, ?, ?, ?, ?, ?, 0)`
	retireKey         = `UPDATE {signing_keys} SET verifies_until = ?, expires_at = ?, private_key = NULL WHERE app_id = ? AND id = ?`
	revokeKey         = `UPDATE {signing_keys} SET revoked = 1 WHERE app_id = ? AND id = ?`
	findKey           = `SELECT algorithm, public_key, revoked, expires_at FROM {signing_keys} WHERE app_id = ? AND id = ?`
	deleteExpiredKeys = `DELETE FROM {signing_keys} WHERE expires_at < ?`
	readPrivateKeys   = `SELECT app_id, id, algorithm, private_key FROM {signing_keys} WHERE private_key IS NOT NULL`
	replacePrivateKey = `UPDATE {signing_keys} SET private_key = ? WHERE app_id = ? AND id = ? AND private_key = ?`
)

func insertStatement(appID string, k *keycrypt.Key, revision int64) statement {
	return statement{insertKey, []any{appID, k.ID, revision, k.Algorithm, k.Public, k.Private}}
}

// storedKey is what decides about a key that is there.
type storedKey struct {
	algorithm string
	public    []byte
	revoked   bool
	expiresAt sql.NullInt64 // set: it was replaced or revoked
}

// storedKey returns the app's key of this ID, or nil.
func (s *KeyStore) storedKey(ctx context.Context, appID, keyID string) (*storedKey, error) {
	if !storable(keyID) {
		return nil, nil
	}
	var k storedKey
	err := s.run.query(ctx, s.findKey, scanOne(func() []any { return []any{&k.algorithm, &k.public, &k.revoked, &k.expiresAt} }), appID, keyID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &k, nil
}

// PublishSigningKey adds a key that verifies and does not sign yet, see
// [renew.KeyAdmin]. The signer must be a private key of the standard library: it
// is stored, encrypted. Other processes list the key after their status interval
// at most.
func (s *KeyStore) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	encrypted, err := keycrypt.Encrypt(ctx, s.encrypter, appID, key)
	if err != nil {
		return fmt.Errorf("sqlstore: publish signing key of app %q: %w", appID, err)
	}
	return s.change(ctx, "publish signing key of", appID, func(r *appRow) ([]statement, error) {
		switch stored, err := s.storedKey(ctx, appID, encrypted.ID); {
		case err != nil:
			return nil, err
		case stored != nil:
			return nil, fmt.Errorf("key %s: %w", encrypted.ID, renew.ErrKeyExists)
		}
		return []statement{insertStatement(appID, encrypted, r.revision)}, nil
	})
}

// RotateSigningKey makes a new key or a published one the active one, see
// [renew.KeyAdmin]. The signer must be a private key of the standard library: it
// is stored, encrypted. The private half of the key before it is deleted.
//
// The end of that key counts from now plus the status interval and a minute: a
// server inside its status interval still signs with it, and its clock may differ.
// Of two processes that rotate at the same time one is first, and the key of the
// other is the active one in the end.
func (s *KeyStore) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	encrypted, err := keycrypt.Encrypt(ctx, s.encrypter, appID, key)
	if err == nil && now.IsZero() {
		err = errors.New("the time is zero")
	}
	if err != nil {
		return fmt.Errorf("sqlstore: rotate signing key of app %q: %w", appID, err)
	}
	return s.change(ctx, "rotate signing key of", appID, func(r *appRow) ([]statement, error) {
		stored, err := s.storedKey(ctx, appID, encrypted.ID)
		if err != nil {
			return nil, err
		}
		changes := s.retire(r, now)
		switch {
		case stored == nil:
			changes = append(changes, insertStatement(appID, encrypted, r.revision))
		case !isPublished(encrypted, stored) || r.signingKeyID.String == encrypted.ID:
			return nil, fmt.Errorf("key %s: %w", encrypted.ID, renew.ErrKeyExists)
		}
		r.signingKeyID = sql.NullString{String: encrypted.ID, Valid: true}
		return changes, r.count()
	})
}

// isPublished reports whether the stored key is this one and was neither replaced
// nor revoked.
func isPublished(k *keycrypt.Key, stored *storedKey) bool {
	return !stored.revoked && !stored.expiresAt.Valid &&
		stored.algorithm == k.Algorithm && bytes.Equal(stored.public, k.Public)
}

// retire ends the active key's signing, if there is an active key.
func (s *KeyStore) retire(r *appRow, at time.Time) []statement {
	if !r.signingKeyID.Valid {
		return nil
	}
	p := r.period()
	until, expired := p.Close(at.Add(s.config.cache.Interval))
	r.setPeriod(p)
	return []statement{{retireKey, []any{ceilMillis(until), ceilMillis(expired), r.id, r.signingKeyID.String}}}
}

// RevokeKey invalidates everything that the key has signed or signs, see
// [renew.KeyAdmin]: in this process immediately, in others after their status interval
// at most.
//
// Inside that interval a server may sign with a revoked active key, and so use up
// a refresh token that is valid. To revoke the active key without that, rotate,
// wait for the status interval, then revoke.
func (s *KeyStore) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return s.change(ctx, "revoke key of", appID, func(r *appRow) ([]statement, error) {
		if at.IsZero() {
			return nil, errors.New("the time is zero")
		}
		stored, err := s.storedKey(ctx, appID, keyID)
		if err != nil {
			return nil, err
		}
		if stored == nil {
			return nil, fmt.Errorf("key %q: %w", keyID, renew.ErrKeyNotFound)
		}
		changes := []statement{{revokeKey, []any{appID, keyID}}}
		switch {
		case r.signingKeyID.String == keyID:
			changes = append(changes, s.retire(r, at)...)
			r.signingKeyID = sql.NullString{}
		case !stored.expiresAt.Valid: // published, and has signed nothing
			ms := ceilMillis(at)
			changes = append(changes, statement{retireKey, []any{ms, ms, appID, keyID}})
		}
		return changes, nil
	})
}

// DeleteExpiredKeys deletes the replaced and revoked keys that expired before the
// given time, see [renew.KeyAdmin]. Deleting late only costs rows.
func (s *KeyStore) DeleteExpiredKeys(ctx context.Context, before time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.run.exec(ctx, false, s.run.render(deleteExpiredKeys, true), ceilMillis(before))
	if err != nil {
		return 0, fmt.Errorf("sqlstore: delete expired keys: %w", err)
	}
	if n > 0 {
		s.clear()
	}
	return n, nil
}

// Reencrypt decrypts every private key and encrypts it again, and returns how
// many it has: after it, the encrypter's former keys are not needed any more. See
// [NewEncrypter]. It may be called again after an error, and while the store is
// in use.
func (s *KeyStore) Reencrypt(ctx context.Context) (int, error) {
	keys, err := s.privateKeys(ctx, readPrivateKeys)
	if err != nil {
		return 0, fmt.Errorf("sqlstore: reencrypt: %w", err)
	}
	for i, k := range keys {
		if err := s.reencrypt(ctx, k); err != nil {
			return i, fmt.Errorf("sqlstore: reencrypt key %s of app %q: %w", k.ID, k.appID, err)
		}
	}
	return len(keys), nil
}

// privateKey is one as it is stored, without its public half.
type privateKey struct {
	appID string
	keycrypt.Key
}

func (s *KeyStore) privateKeys(ctx context.Context, query string) ([]privateKey, error) {
	var keys []privateKey
	err := s.run.query(ctx, s.run.render(query, false), func(rows *sql.Rows) error {
		keys = nil
		for rows.Next() {
			var k privateKey
			if err := rows.Scan(&k.appID, &k.ID, &k.Algorithm, &k.Private); err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return rows.Err()
	})
	if err != nil { // the query may still be under way
		return nil, err
	}
	return keys, nil
}

// reencrypt leaves a key alone that has changed since it was read: another process
// does the same, or has retired it.
func (s *KeyStore) reencrypt(ctx context.Context, k privateKey) error {
	again, err := k.Reencrypt(ctx, s.encrypter, k.appID)
	if err != nil {
		return err
	}
	_, err = s.run.exec(ctx, true, s.run.render(replacePrivateKey, true), again, k.appID, k.ID, k.Private)
	return err
}
