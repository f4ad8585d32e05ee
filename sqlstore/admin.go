package sqlstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
)

// The columns of an app in the order of appRow.
const (
	appColumns = `issuer, key_hashes, auth_ttl, auth_not_before, refresh_ttl, refresh_not_before, session_ttl,
		signing_key_id, longest_ttl, signed_until, revision, id`
	readApp   = `SELECT ` + appColumns + ` FROM {apps} WHERE id = ?`
	insertApp = `INSERT INTO {apps} (` + appColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateApp = `UPDATE {apps} SET issuer = ?, key_hashes = ?, auth_ttl = ?, auth_not_before = ?, refresh_ttl = ?,
		refresh_not_before = ?, session_ttl = ?, signing_key_id = ?, longest_ttl = ?, signed_until = ?, revision = ?
		WHERE id = ?`
	// lockApp is a write, and so locks the app on every database, and SQLite's
	// as a whole before anything was read.
	lockApp = `UPDATE {apps} SET revision = revision + 1 WHERE id = ?`

	insertKey = `INSERT INTO {signing_keys} (app_id, id, sequence, algorithm, public_key, private_key, revoked)
		VALUES (?, ?, ?, ?, ?, ?, 0)`
	retireKey         = `UPDATE {signing_keys} SET expires_at = ?, private_key = NULL WHERE app_id = ? AND id = ?`
	revokeKey         = `UPDATE {signing_keys} SET revoked = 1 WHERE app_id = ? AND id = ?`
	findKey           = `SELECT COUNT(*) FROM {signing_keys} WHERE app_id = ? AND id = ?`
	deleteExpiredKeys = `DELETE FROM {signing_keys} WHERE expires_at <= ?`
	readPrivateKeys   = `SELECT app_id, id, algorithm, private_key FROM {signing_keys} WHERE private_key IS NOT NULL`
	replacePrivateKey = `UPDATE {signing_keys} SET private_key = ? WHERE app_id = ? AND id = ? AND private_key = ?`
)

// appRow is an app as it is stored.
type appRow struct {
	id, issuer, keyHashes                                            string
	authTTL, authNotBefore, refreshTTL, refreshNotBefore, sessionTTL int64 // seconds

	signingKeyID sql.NullString
	longestTTL   int64 // seconds: of a token that the active key can have signed

	// signedUntil is when the last token expires that any earlier key can have
	// signed. It never moves back, because a retry signs a pair of an earlier
	// key's time again, with the active key and the old expiry: a key must
	// verify for as long as the one before it.
	signedUntil int64 // milliseconds

	revision int64
}

func (r *appRow) args() []any {
	return []any{
		r.issuer, r.keyHashes, r.authTTL, r.authNotBefore, r.refreshTTL, r.refreshNotBefore, r.sessionTTL,
		r.signingKeyID, r.longestTTL, r.signedUntil, r.revision, r.id,
	}
}

func (r *appRow) dest() []any {
	return []any{
		&r.issuer, &r.keyHashes, &r.authTTL, &r.authNotBefore, &r.refreshTTL, &r.refreshNotBefore, &r.sessionTTL,
		&r.signingKeyID, &r.longestTTL, &r.signedUntil, &r.revision, &r.id,
	}
}

// set takes everything but the app keys.
func (r *appRow) set(app renew.App) {
	r.id, r.issuer = app.ID, app.Issuer
	r.authTTL, r.authNotBefore = seconds(app.AuthTTL), seconds(app.AuthNotBefore)
	r.refreshTTL, r.refreshNotBefore = seconds(app.RefreshTTL), seconds(app.RefreshNotBefore)
	r.sessionTTL = seconds(app.SessionTTL)
}

func (r *appRow) app() (renew.App, error) {
	hashes, err := r.hashes()
	return renew.App{
		ID:               r.id,
		Issuer:           r.issuer,
		KeyHashes:        hashes,
		AuthTTL:          duration(r.authTTL),
		AuthNotBefore:    duration(r.authNotBefore),
		RefreshTTL:       duration(r.refreshTTL),
		RefreshNotBefore: duration(r.refreshNotBefore),
		SessionTTL:       duration(r.sessionTTL),
	}, err
}

func (r *appRow) hashes() ([]renew.AppKeyHash, error) {
	var texts []string
	if err := json.Unmarshal([]byte(r.keyHashes), &texts); err != nil {
		return nil, fmt.Errorf("sqlstore: app %q: the stored app keys are not a JSON array of strings", r.id)
	}
	var hashes []renew.AppKeyHash
	for _, text := range texts {
		hash, err := hex.DecodeString(text)
		if err != nil || len(hash) != len(renew.AppKeyHash{}) {
			return nil, fmt.Errorf("sqlstore: app %q: a stored app key is not a SHA-256 hash in hexadecimal", r.id)
		}
		hashes = append(hashes, renew.AppKeyHash(hash))
	}
	return hashes, nil
}

func (r *appRow) setHashes(hashes []renew.AppKeyHash) error {
	texts := make([]string, len(hashes))
	for i, hash := range hashes {
		texts[i] = hex.EncodeToString(hash[:])
	}
	encoded, err := json.Marshal(texts)
	r.keyHashes = string(encoded)
	return err
}

func seconds(d time.Duration) int64  { return int64(d / time.Second) }
func duration(s int64) time.Duration { return time.Duration(s) * time.Second }

// lifetime is that of the app's longest-lived token, in seconds.
func (r *appRow) lifetime() int64 {
	auth, refresh := r.authTTL, r.refreshTTL
	if auth == 0 {
		auth = seconds(renew.DefaultAuthTTL)
	}
	if refresh == 0 {
		refresh = seconds(renew.DefaultRefreshTTL)
	}
	return max(auth, refresh)
}

// CreateApp adds an app. It has no signing key yet: see
// [KeyStore.RotateSigningKey]. [renew.ErrAppExists]: there is one of this ID. What
// [renew.App.Validate] finds wrong is an error.
func (s *KeyStore) CreateApp(ctx context.Context, app renew.App) error {
	if err := s.createApp(ctx, app); err != nil {
		return fmt.Errorf("sqlstore: create app %q: %w", app.ID, err)
	}
	return nil
}

func (s *KeyStore) createApp(ctx context.Context, app renew.App) error {
	if err := app.Validate(); err != nil {
		return err
	}
	var r appRow
	r.set(app)
	r.longestTTL = r.lifetime()
	if err := r.setHashes(app.KeyHashes); err != nil {
		return err
	}
	defer s.clear()
	err := retry(ctx, false, func() error {
		_, err := s.db.ExecContext(ctx, s.config.sql(insertApp), r.args()...)
		return err
	})
	if isDuplicate(err) {
		return renew.ErrAppExists
	}
	return err
}

// UpdateApp replaces the settings of the app with the ID app.ID: everything but
// KeyHashes, which it does not look at, so that an app key that was removed
// meanwhile does not come back. [KeyStore.AddAppKey] and [KeyStore.RemoveAppKey]
// change those.
//
// Lifetimes are those of tokens to come. A new Issuer makes every token that was
// issued so far invalid. [renew.ErrAppNotFound]: there is no such app. What
// [renew.App.Validate] finds wrong is an error.
func (s *KeyStore) UpdateApp(ctx context.Context, app renew.App) error {
	return s.change(ctx, "update", app.ID, func(_ *sql.Tx, r *appRow) error {
		if err := app.Validate(); err != nil {
			return err
		}
		r.set(app)
		r.longestTTL = max(r.longestTTL, r.lifetime())
		return nil
	})
}

// AddAppKey lets whoever has the app key of this hash in, besides those who
// already are. To replace an app key, add the new one, have the callers change
// to it, then remove the old one. Adding a hash again is nil.
// [renew.ErrAppNotFound]: there is no such app.
func (s *KeyStore) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "add app key to", appID, func(_ *sql.Tx, r *appRow) error {
		hashes, err := r.hashes()
		if err != nil || slices.Contains(hashes, hash) {
			return err
		}
		return r.setHashes(append(hashes, hash))
	})
}

// RemoveAppKey keeps the app key of this hash out from now on, in other processes
// after their status interval. With the last one gone, nobody passes.
// [renew.ErrAppNotFound]: there is no such app. [renew.ErrKeyNotFound]: it has no
// such app key.
func (s *KeyStore) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.change(ctx, "remove app key of", appID, func(_ *sql.Tx, r *appRow) error {
		hashes, err := r.hashes()
		if err != nil {
			return err
		}
		if !slices.Contains(hashes, hash) {
			return renew.ErrKeyNotFound
		}
		return r.setHashes(slices.DeleteFunc(hashes, func(h renew.AppKeyHash) bool { return h == hash }))
	})
}

// RotateSigningKey makes key the app's active signing key; the first call gives
// the app its first. The signer must be a private key of the standard library:
// it is stored, encrypted. The key before it signs no more, and its private half
// is deleted; it verifies until the last token that it can have signed has
// expired. That is now plus the longest RefreshTTL, or AuthTTL if longer, that
// the app had while the key was active, plus the status interval; and never
// before the keys that came earlier. Then [KeyStore.DeleteExpiredKeys] deletes
// it.
//
// Of two processes that do this at once, one is first, and the key of the other
// is the active one in the end.
//
// [renew.ErrAppNotFound]: there is no such app. [renew.ErrKeyExists]: it has, or has
// had, a key of this ID that is not deleted yet; an old key does not come back.
func (s *KeyStore) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	public, private, err := s.encryptKey(ctx, appID, key)
	if err == nil && now.IsZero() {
		err = errors.New("the time is zero, but the old key's last use is reckoned from it")
	}
	if err != nil {
		return fmt.Errorf("sqlstore: rotate signing key of app %q: %w", appID, err)
	}
	keyID, algorithm := key.VerificationKey().KeyID(), key.VerificationKey().Algorithm()
	return s.change(ctx, "rotate signing key of", appID, func(tx *sql.Tx, r *appRow) error {
		switch exists, err := s.hasKey(ctx, tx, appID, keyID); {
		case err != nil:
			return err
		case exists:
			return fmt.Errorf("key %s: %w", keyID, renew.ErrKeyExists)
		}
		if err := s.retire(ctx, tx, r, now); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, s.config.sql(insertKey), appID, keyID, r.revision, string(algorithm), public, private)
		r.signingKeyID = sql.NullString{String: keyID, Valid: true}
		r.longestTTL = r.lifetime()
		return err
	})
}

// encryptKey returns both halves of a key as they are stored.
func (s *KeyStore) encryptKey(ctx context.Context, appID string, key *renew.SigningKey) (public, private []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if key == nil {
		return nil, nil, errors.New("the key is nil")
	}
	switch signer := key.Signer().(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return nil, nil, fmt.Errorf("a %T cannot be stored, only a private key of the standard library", signer)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.Signer())
	if err != nil {
		return nil, nil, errors.New("the private key has no form in PKCS #8")
	}
	defer clear(der)
	v := key.VerificationKey()
	if public, err = x509.MarshalPKIXPublicKey(v.Public()); err != nil {
		return nil, nil, err
	}
	private, err = s.encrypter.Encrypt(ctx, der, associatedData(appID, v.KeyID(), string(v.Algorithm())))
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the private key: %w", err)
	}
	return public, private, nil
}

func (s *KeyStore) hasKey(ctx context.Context, tx *sql.Tx, appID, keyID string) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, s.config.sql(findKey), appID, keyID).Scan(&n)
	return n > 0, err
}

// retire ends the active key's signing, if there is an active key.
func (s *KeyStore) retire(ctx context.Context, tx *sql.Tx, r *appRow, at time.Time) error {
	if !r.signingKeyID.Valid {
		return nil
	}
	until := ceilMillis(at.Add(duration(r.longestTTL) + s.config.cache.interval))
	r.signedUntil = max(r.signedUntil, until)
	_, err := tx.ExecContext(ctx, s.config.sql(retireKey), r.signedUntil, r.id, r.signingKeyID.String)
	r.signingKeyID = sql.NullString{}
	return err
}

// RevokeKey makes everything invalid that the key has signed or signs, from now
// on: no session can be renewed whose refresh token it signed. Other processes
// follow after their status interval at most. Revoking the active key leaves the
// app without one, and every Issue and Renew fails, until
// [KeyStore.RotateSigningKey] gives it another; to keep a service up, rotate
// first.
//
// The time tells when the active key stopped signing, so that it is known when
// its record can go. Revoking again is nil and changes nothing.
// [renew.ErrAppNotFound]: there is no such app. [renew.ErrKeyNotFound]: it has
// no such key.
func (s *KeyStore) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return s.change(ctx, "revoke key of", appID, func(tx *sql.Tx, r *appRow) error {
		if at.IsZero() {
			return errors.New("the time is zero")
		}
		if !storable(keyID) {
			return renew.ErrKeyNotFound
		}
		exists, err := s.hasKey(ctx, tx, appID, keyID)
		if err != nil {
			return err
		}
		if !exists {
			return fmt.Errorf("key %q: %w", keyID, renew.ErrKeyNotFound)
		}
		if _, err := tx.ExecContext(ctx, s.config.sql(revokeKey), appID, keyID); err != nil {
			return err
		}
		if r.signingKeyID.String != keyID {
			return nil
		}
		return s.retire(ctx, tx, r, at)
	})
}

// DeleteExpiredKeys deletes the keys, of all apps, whose last token has expired
// at the given time, revoked ones too, and returns how many. A token of a
// deleted key is refused as one of an unknown key.
//
// Being late costs nothing but rows, so take something off the time:
// [renew.WithLeeway]; as long as a renewal may take, because one that was under
// way at the rotation may sign with the old key a little later; and the longest
// RefreshTTL, if clients repeat requests ([renew.WithRetryWindow], idempotency
// keys). The token that such a client presents may have expired since it was
// used, and is answered while its successor is good, if its key is still there.
func (s *KeyStore) DeleteExpiredKeys(ctx context.Context, now time.Time) (int, error) {
	defer s.clear()
	var n int64
	err := retry(ctx, false, func() error {
		result, err := s.db.ExecContext(ctx, s.config.sql(deleteExpiredKeys), now.UnixMilli())
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sqlstore: delete expired keys: %w", err)
	}
	return int(n), nil
}

// Reencrypt decrypts every private key and encrypts it again, and returns how
// many it has: after it, the encrypter's former keys are not needed any more. See
// [NewEncrypter]. It may be called again after an error, and while the store is
// in use.
func (s *KeyStore) Reencrypt(ctx context.Context) (int, error) {
	type privateKey struct {
		appID, id, algorithm string
		ciphertext           []byte
	}
	var keys []privateKey
	rows, err := s.db.QueryContext(ctx, s.config.sql(readPrivateKeys))
	if err != nil {
		return 0, fmt.Errorf("sqlstore: reencrypt: %w", err)
	}
	defer func() { _ = rows.Close() }() // after an error; below it is closed and checked
	for rows.Next() {
		var k privateKey
		if err := rows.Scan(&k.appID, &k.id, &k.algorithm, &k.ciphertext); err != nil {
			return 0, fmt.Errorf("sqlstore: reencrypt: %w", err)
		}
		keys = append(keys, k)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, fmt.Errorf("sqlstore: reencrypt: %w", err)
	}
	for i, k := range keys {
		if err := s.reencrypt(ctx, k.appID, k.id, k.algorithm, k.ciphertext); err != nil {
			return i, fmt.Errorf("sqlstore: reencrypt key %s of app %q: %w", k.id, k.appID, err)
		}
	}
	return len(keys), nil
}

// reencrypt leaves a key alone that has changed since it was read: another
// process does the same, or has retired it.
func (s *KeyStore) reencrypt(ctx context.Context, appID, keyID, algorithm string, ciphertext []byte) error {
	data := associatedData(appID, keyID, algorithm)
	plaintext, err := s.encrypter.Decrypt(ctx, ciphertext, data)
	if err != nil {
		return err
	}
	defer clear(plaintext)
	again, err := s.encrypter.Encrypt(ctx, plaintext, data)
	if err != nil {
		return err
	}
	return retry(ctx, true, func() error {
		_, err := s.db.ExecContext(ctx, s.config.sql(replacePrivateKey), again, appID, keyID, ciphertext)
		return err
	})
}

// change has f change an app and its keys in a transaction that holds the app.
// Where the database has undone it for another's sake, it happens again.
func (s *KeyStore) change(ctx context.Context, doing, appID string, f func(*sql.Tx, *appRow) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := renew.ErrAppNotFound
	if storable(appID) {
		defer s.clear() // also when the outcome is unknown
		err = retry(ctx, false, func() error { return s.changeOnce(ctx, appID, f) })
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %s app %q: %w", doing, appID, err)
	}
	return nil
}

func (s *KeyStore) changeOnce(ctx context.Context, appID string, f func(*sql.Tx, *appRow) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing is left to roll back after a commit
	if _, err := tx.ExecContext(ctx, s.config.sql(lockApp), appID); err != nil {
		return err
	}
	var r appRow
	err = tx.QueryRowContext(ctx, s.config.sql(readApp), appID).Scan(r.dest()...)
	if errors.Is(err, sql.ErrNoRows) {
		return renew.ErrAppNotFound
	}
	if err != nil {
		return err
	}
	if err := f(tx, &r); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, s.config.sql(updateApp), r.args()...); err != nil {
		return err
	}
	return tx.Commit()
}

// clear forgets what was read, so that this process goes by the change at once.
func (s *KeyStore) clear() {
	s.apps.clear()
	s.signing.clear()
	s.verification.clear()
	s.lists.clear()
}
