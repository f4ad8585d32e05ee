package sqlstore_test

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/sqlstore"
)

func newKey(t *testing.T, alg renew.Algorithm) *renew.SigningKey {
	t.Helper()
	key, err := renew.GenerateSigningKey(alg)
	require.NoError(t, err)
	return key
}

func keyID(key *renew.SigningKey) string { return key.VerificationKey().KeyID() }

// keysWithApp returns two handles on a database that has the app.
func keysWithApp(t *testing.T, d *database, opts ...sqlstore.Option) (a, b *sqlstore.KeyStore) {
	t.Helper()
	d.migrate(t, d.open(t))
	a, b = d.keyStore(t, d.open(t), opts...), d.keyStore(t, d.open(t), opts...)
	require.NoError(t, a.CreateApp(t.Context(), renew.App{ID: testApp, Issuer: "issuer"}))
	return a, b
}

// TestEveryAlgorithm promises that a stored key signs what its public half
// verifies, whatever it is.
func TestEveryAlgorithm(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		a, b := keysWithApp(t, d)
		for _, alg := range []renew.Algorithm{renew.RS256, renew.PS512, renew.ES256, renew.ES384, renew.ES512, renew.EdDSA} {
			key := newKey(t, alg)
			require.NoError(t, a.RotateSigningKey(t.Context(), testApp, key, base))
			stored, err := b.SigningKey(t.Context(), testApp)
			require.NoError(t, err)
			require.Equal(t, keyID(key), keyID(stored))
			require.Equal(t, alg, stored.VerificationKey().Algorithm())
			require.True(t, key.Signer().(interface{ Equal(crypto.PrivateKey) bool }).Equal(stored.Signer()), alg)
			again, err := b.SigningKey(t.Context(), testApp)
			require.NoError(t, err)
			require.Same(t, stored, again, "a key is decrypted once")
			verification, err := b.VerificationKey(t.Context(), testApp, keyID(key))
			require.NoError(t, err)
			require.Equal(t, key.VerificationKey().PublicKey(), verification.PublicKey())
		}
	})
}

// TestAdministrationErrors promises the error of every mistake, and that nothing
// has changed after it.
func TestAdministrationErrors(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, _ := keysWithApp(t, d)
		key := newKey(t, renew.EdDSA)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, key, base))
		_, hash := renew.NewAppKey()

		require.ErrorIs(t, s.CreateApp(ctx, renew.App{ID: testApp, Issuer: "another"}), renew.ErrAppExists)
		require.Error(t, s.CreateApp(ctx, renew.App{ID: "no issuer"}))
		require.Error(t, s.UpdateApp(ctx, renew.App{ID: testApp, Issuer: "issuer", AuthTTL: time.Millisecond}))
		for _, unknown := range []string{"unknown", "APP", "app ", "a\x00b", "\xff"} {
			require.ErrorIs(t, s.UpdateApp(ctx, renew.App{ID: unknown, Issuer: "issuer"}), renew.ErrAppNotFound)
			require.ErrorIs(t, s.AddAppKey(ctx, unknown, hash), renew.ErrAppNotFound)
			require.ErrorIs(t, s.RemoveAppKey(ctx, unknown, hash), renew.ErrAppNotFound)
			require.ErrorIs(t, s.RotateSigningKey(ctx, unknown, newKey(t, renew.EdDSA), base), renew.ErrAppNotFound)
			require.ErrorIs(t, s.RevokeKey(ctx, unknown, keyID(key), base), renew.ErrAppNotFound)
			_, err := s.VerificationKey(ctx, testApp, unknown)
			require.ErrorIs(t, err, renew.ErrKeyNotFound)
			_, err = s.App(ctx, unknown)
			require.ErrorIs(t, err, renew.ErrAppNotFound)
			require.ErrorIs(t, s.RevokeKey(ctx, testApp, unknown, base), renew.ErrKeyNotFound)
		}
		require.ErrorIs(t, s.RemoveAppKey(ctx, testApp, hash), renew.ErrKeyNotFound)
		require.ErrorIs(t, s.RotateSigningKey(ctx, testApp, key, base), renew.ErrKeyExists)
		require.Error(t, s.RotateSigningKey(ctx, testApp, nil, base))
		require.Error(t, s.RotateSigningKey(ctx, testApp, newKey(t, renew.EdDSA), time.Time{}))
		require.Error(t, s.RevokeKey(ctx, testApp, keyID(key), time.Time{}))
		require.ErrorContains(t, s.RotateSigningKey(ctx, testApp, remoteKey(t), base), "cannot be stored")

		active, err := s.SigningKey(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, keyID(key), keyID(active))
		keys, err := s.VerificationKeys(ctx, testApp)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		app, err := s.App(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, renew.App{ID: testApp, Issuer: "issuer"}, app)
	})
}

// remoteKey is one whose private half is elsewhere.
func remoteKey(t *testing.T) *renew.SigningKey {
	t.Helper()
	key := newKey(t, renew.RS256)
	remote, err := renew.NewSigningKey(keyID(key), renew.RS256, remoteSigner{key.Signer()})
	require.NoError(t, err)
	return remote
}

type remoteSigner struct{ crypto.Signer }

// margin is by how much longer a replaced key verifies, without a status interval:
// clocks differ.
const margin = time.Minute

// TestKeysExpire promises that a replaced key verifies until the last token that
// it can have signed has expired, by the longest lifetime that the app had
// meanwhile, and never less long than the keys before it; and that it is then
// deleted, its private half at once.
func TestKeysExpire(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, other := keysWithApp(t, d)
		db := d.open(t)
		app := renew.App{ID: testApp, Issuer: "issuer", AuthTTL: time.Hour, RefreshTTL: 24 * time.Hour}
		require.NoError(t, s.UpdateApp(ctx, app))
		first, second, third := newKey(t, renew.EdDSA), newKey(t, renew.EdDSA), newKey(t, renew.EdDSA)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, first, base))
		app.RefreshTTL = 2 * time.Hour
		require.NoError(t, s.UpdateApp(ctx, app))
		require.NoError(t, s.RotateSigningKey(ctx, testApp, second, base.Add(time.Hour)))
		require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM renew_signing_keys WHERE private_key IS NOT NULL"))
		require.NoError(t, other.RotateSigningKey(ctx, testApp, third, base.Add(2*time.Hour)))

		// The last token of the first key has expired, and so has that of the
		// second: 24 hours after the rotation. A retry may present it for as long
		// again with the lifetimes of then: 24 hours, and 2 hours.
		last := base.Add(25*time.Hour + margin)
		for _, c := range []struct {
			before time.Time
			n      int
			left   []*renew.SigningKey
		}{
			{last.Add(2 * time.Hour), 0, []*renew.SigningKey{third, second, first}},
			{last.Add(2*time.Hour + time.Millisecond), 1, []*renew.SigningKey{third, first}},
			{last.Add(24 * time.Hour), 0, []*renew.SigningKey{third, first}},
			{last.Add(24*time.Hour + time.Microsecond), 1, []*renew.SigningKey{third}},
		} {
			n, err := s.DeleteExpiredKeys(ctx, c.before)
			require.NoError(t, err)
			require.Equal(t, c.n, n, c.before)
			requireKeys(t, other, c.left...)
		}
		_, err := other.VerificationKey(ctx, testApp, keyID(first))
		require.ErrorIs(t, err, renew.ErrKeyNotFound)

		// A revoked key that was active leaves the app without one.
		require.NoError(t, s.RevokeKey(ctx, testApp, keyID(third), base.Add(30*time.Hour)))
		require.NoError(t, s.RevokeKey(ctx, testApp, keyID(third), base.Add(90*time.Hour)))
		_, err = other.SigningKey(ctx, testApp)
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
		_, err = other.VerificationKey(ctx, testApp, keyID(third))
		require.ErrorIs(t, err, renew.ErrKeyRevoked)
		require.Zero(t, count(t, db, "SELECT COUNT(*) FROM renew_signing_keys WHERE private_key IS NOT NULL"))
		n, err := s.DeleteExpiredKeys(ctx, base.Add(34*time.Hour+margin+time.Millisecond))
		require.NoError(t, err)
		require.Equal(t, 1, n, "by the time of the first revocation")
	})
}

// TestReplacedKeysVerifyUntilTheEnd promises that a replaced key verifies no token
// that expires after its end, which counts from the rotation plus the status
// interval and a minute; with the longest lifetimes nothing overflows.
func TestReplacedKeysVerifyUntilTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		const longest = math.MaxInt64 / time.Second * time.Second
		d.migrate(t, d.open(t))
		db := d.open(t)
		for i, ttl := range []time.Duration{2 * time.Hour, longest} {
			ctx, id := t.Context(), fmt.Sprint("app", i)
			s := d.keyStore(t, db, sqlstore.WithStatusInterval(5*time.Second))
			require.NoError(t, s.CreateApp(ctx, renew.App{ID: id, Issuer: "issuer", RefreshTTL: ttl}))
			first, second := newKey(t, renew.EdDSA), newKey(t, renew.EdDSA)
			require.NoError(t, s.RotateSigningKey(ctx, id, first, base))
			require.NoError(t, s.RotateSigningKey(ctx, id, second, base))
			end := base.Add(ttl).Add(time.Minute + 5*time.Second)
			other := d.keyStore(t, db)
			keys, err := other.VerificationKeys(ctx, id)
			require.NoError(t, err)
			require.Equal(t, []*renew.VerificationKey{second.VerificationKey(), first.VerificationKey().Until(end)}, keys)
			key, err := other.VerificationKey(ctx, id, keyID(first))
			require.NoError(t, err)
			require.Equal(t, first.VerificationKey().Until(end), key)
			n, err := s.DeleteExpiredKeys(ctx, end.Add(ttl))
			require.NoError(t, err)
			require.Zero(t, n)
			n, err = s.DeleteExpiredKeys(ctx, end.Add(ttl).Add(time.Millisecond))
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
	})
}

// TestPublishedKeys promises that a published key is listed and verifies, does not
// sign, and becomes active by RotateSigningKey with the same key only; that one
// which is revoked instead is deleted; and that its private half is encrypted.
func TestPublishedKeys(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, other := keysWithApp(t, d)
		active, next, unused := newKey(t, renew.EdDSA), newKey(t, renew.ES256), newKey(t, renew.EdDSA)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, active, base))
		require.NoError(t, s.PublishSigningKey(ctx, testApp, next))
		require.NoError(t, other.PublishSigningKey(ctx, testApp, unused))
		requireKeys(t, other, active, unused, next)
		_, err := other.VerificationKey(ctx, testApp, keyID(next))
		require.NoError(t, err)

		same, err := renew.NewSigningKey(keyID(next), renew.EdDSA, newKey(t, renew.EdDSA).Signer())
		require.NoError(t, err)
		require.ErrorIs(t, s.PublishSigningKey(ctx, testApp, next), renew.ErrKeyExists)
		require.ErrorIs(t, s.PublishSigningKey(ctx, testApp, active), renew.ErrKeyExists)
		require.ErrorIs(t, s.RotateSigningKey(ctx, testApp, same, base), renew.ErrKeyExists)
		require.ErrorIs(t, s.PublishSigningKey(ctx, "unknown", next), renew.ErrAppNotFound)
		require.Error(t, s.PublishSigningKey(ctx, testApp, nil))
		require.ErrorContains(t, s.PublishSigningKey(ctx, testApp, remoteKey(t)), "cannot be stored")
		n, err := s.DeleteExpiredKeys(ctx, base.AddDate(500, 0, 0))
		require.NoError(t, err)
		require.Zero(t, n, "a published key does not expire")

		require.NoError(t, other.RotateSigningKey(ctx, testApp, next, base))
		requireKeys(t, s, next, unused, active)
		signing, err := s.SigningKey(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, keyID(next), keyID(signing))
		for _, key := range []*renew.SigningKey{active, next} {
			require.ErrorIs(t, s.RotateSigningKey(ctx, testApp, key, base), renew.ErrKeyExists)
		}
		require.NoError(t, s.RevokeKey(ctx, testApp, keyID(unused), base))
		require.ErrorIs(t, s.RotateSigningKey(ctx, testApp, unused, base), renew.ErrKeyExists)
		requireKeys(t, other, next, active)
		n, err = s.DeleteExpiredKeys(ctx, base.Add(time.Millisecond))
		require.NoError(t, err)
		require.Equal(t, 1, n, "the revoked one, which has signed nothing")
		_, err = other.VerificationKey(ctx, testApp, keyID(unused))
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
	})
}

// TestPublishedKeyIsReadBack promises that another process can make active what one
// has published: it gets the key with its private half, as long as it is published.
func TestPublishedKeyIsReadBack(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, other := keysWithApp(t, d)
		active, next, unused := newKey(t, renew.EdDSA), newKey(t, renew.ES256), newKey(t, renew.RS256)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, active, base))
		require.NoError(t, s.PublishSigningKey(ctx, testApp, next))
		require.NoError(t, s.PublishSigningKey(ctx, testApp, unused))
		notPublished := func(keyIDs ...string) {
			t.Helper()
			for _, id := range keyIDs {
				_, err := other.PublishedKey(ctx, testApp, id)
				require.ErrorIs(t, err, renew.ErrKeyNotFound, id)
			}
		}
		notPublished(keyID(active), tokenID(9), "", "\xff", strings.Repeat("a", 1000))
		_, err := other.PublishedKey(ctx, "unknown", keyID(next))
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		_, err = other.PublishedKey(ctx, "", keyID(next))
		require.ErrorIs(t, err, renew.ErrAppNotFound)

		key, err := other.PublishedKey(ctx, testApp, keyID(next))
		require.NoError(t, err)
		require.True(t, next.Signer().(interface{ Equal(crypto.PrivateKey) bool }).Equal(key.Signer()))
		require.NoError(t, other.RotateSigningKey(ctx, testApp, key, base))
		signing, err := s.SigningKey(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, keyID(next), keyID(signing))
		require.NoError(t, s.RevokeKey(ctx, testApp, keyID(unused), base))
		notPublished(keyID(active), keyID(next), keyID(unused))
		require.NoError(t, s.RevokeKey(ctx, testApp, keyID(next), base))
		notPublished(keyID(active), keyID(next), keyID(unused))
		last := newKey(t, renew.EdDSA)
		require.NoError(t, s.PublishSigningKey(ctx, testApp, last))
		_, err = other.PublishedKey(ctx, testApp, keyID(last))
		require.NoError(t, err, "of an app without an active key")
	})
}

// TestAppIDs promises that every app is listed, once.
func TestAppIDs(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, other := keysWithApp(t, d)
		want := []string{testApp}
		for _, id := range []string{"b", "B", "a", " a", "a ", "\u00e9", "e", "Z", "z\U0001F600"} {
			require.NoError(t, s.CreateApp(ctx, renew.App{ID: id, Issuer: "issuer"}))
			want = append(want, id)
		}
		slices.Sort(want)
		ids, err := other.AppIDs(ctx)
		require.NoError(t, err)
		require.Equal(t, want, ids)
	})
}

// TestEnsureApp promises that any number of servers may make the app and its first
// key at once, and that an app which is there keeps its settings.
func TestEnsureApp(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.migrate(t, d.open(t))
		app := renew.App{ID: testApp, Issuer: "issuer", MaxSessions: 3}
		var all sync.WaitGroup
		for range 6 {
			s := d.keyStore(t, d.open(t))
			all.Go(func() {
				if err := renew.EnsureApp(ctx, s, app, renew.EdDSA); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		s := d.keyStore(t, d.open(t))
		keys, err := s.VerificationKeys(ctx, testApp)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		stored, err := s.App(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, app, stored)
		stored.MaxSessions = 5
		require.NoError(t, s.UpdateApp(ctx, stored))
		require.NoError(t, renew.EnsureApp(ctx, s, app, renew.EdDSA))
		again, err := s.App(ctx, testApp)
		require.NoError(t, err)
		require.Equal(t, stored, again)
	})
}

// TestKeyOfTheSameID promises that a key which was deleted and made again under
// its ID, as EnsureApp may do, is not taken for the one before it.
func TestKeyOfTheSameID(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, other := keysWithApp(t, d)
		first := newKey(t, renew.EdDSA)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, first, base))
		requireSigns(t, other, testApp)
		requireKeys(t, other, first)
		require.NoError(t, s.RevokeKey(ctx, testApp, keyID(first), base))
		_, err := s.DeleteExpiredKeys(ctx, base.AddDate(1, 0, 0))
		require.NoError(t, err)
		second, err := renew.NewSigningKey(keyID(first), renew.EdDSA, newKey(t, renew.EdDSA).Signer())
		require.NoError(t, err)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, second, base))
		for _, store := range []*sqlstore.KeyStore{s, other} {
			signing, err := store.SigningKey(ctx, testApp)
			require.NoError(t, err)
			require.Equal(t, second.VerificationKey(), signing.VerificationKey())
			key, err := store.VerificationKey(ctx, testApp, keyID(first))
			require.NoError(t, err)
			require.Equal(t, second.VerificationKey(), key)
			keys, err := store.VerificationKeys(ctx, testApp)
			require.NoError(t, err)
			require.Equal(t, []*renew.VerificationKey{second.VerificationKey()}, keys)
		}
	})
}

// requireKeys checks which keys verify, the active one first.
func requireKeys(t *testing.T, s *sqlstore.KeyStore, want ...*renew.SigningKey) {
	t.Helper()
	keys, err := s.VerificationKeys(t.Context(), testApp)
	require.NoError(t, err)
	var got, wanted []string
	for _, key := range keys {
		got = append(got, key.KeyID())
	}
	for _, key := range want {
		wanted = append(wanted, keyID(key))
	}
	require.Equal(t, wanted, got)
}

// TestRotationsAtOnce promises that servers which rotate at the same moment leave
// one active key, and one private key, each time.
func TestRotationsAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		a, b := keysWithApp(t, d)
		db := d.open(t)
		const times, servers = 5, 6
		for range times {
			var all sync.WaitGroup
			for i := range servers {
				key := newKey(t, renew.EdDSA)
				all.Go(func() {
					if err := []*sqlstore.KeyStore{a, b}[i%2].RotateSigningKey(t.Context(), testApp, key, base); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM renew_signing_keys WHERE private_key IS NOT NULL AND expires_at IS NULL"))
			fromA, err := a.SigningKey(t.Context(), testApp)
			require.NoError(t, err)
			fromB, err := b.SigningKey(t.Context(), testApp)
			require.NoError(t, err)
			require.Equal(t, keyID(fromA), keyID(fromB))
		}
		require.Equal(t, times*servers, count(t, db, "SELECT COUNT(*) FROM renew_signing_keys"))
	})
}

// TestAppKeysAtOnce promises that no app key is lost which several add at once.
func TestAppKeysAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		a, b := keysWithApp(t, d)
		const n = 12
		var all sync.WaitGroup
		for i := range n {
			_, hash := renew.NewAppKey()
			all.Go(func() {
				if err := []*sqlstore.KeyStore{a, b}[i%2].AddAppKey(t.Context(), testApp, hash); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		app, err := a.App(t.Context(), testApp)
		require.NoError(t, err)
		require.Len(t, app.KeyHashes, n)
	})
}

// countingEncrypter counts, and can fail.
type countingEncrypter struct {
	sqlstore.Encrypter
	decrypted atomic.Int64
	err       error
	panics    bool
}

func (e *countingEncrypter) Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	e.decrypted.Add(1)
	if e.panics {
		panic("a bug of the caller's")
	}
	if e.err != nil {
		return nil, e.err
	}
	return e.Encrypter.Decrypt(ctx, ciphertext, associatedData)
}

// TestEncrypterOfOnesOwn promises that a KMS is asked once per key, and that its
// failure is an error of its own.
func TestEncrypterOfOnesOwn(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		a, _ := keysWithApp(t, d)
		require.NoError(t, a.RotateSigningKey(t.Context(), testApp, newKey(t, renew.ES256), base))
		kms := &countingEncrypter{Encrypter: newEncrypter(t, encryptionKey(1)), err: io.ErrNoProgress}
		b := d.keyStoreWith(t, d.open(t), kms)
		_, err := b.SigningKey(t.Context(), testApp)
		require.ErrorIs(t, err, io.ErrNoProgress)
		require.NotErrorIs(t, err, renew.ErrKeyNotFound)
		captureLog(t)
		kms.panics = true
		_, err = b.SigningKey(t.Context(), testApp)
		require.ErrorContains(t, err, "panicked")
		kms.err, kms.panics = nil, false
		kms.decrypted.Store(0)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := b.SigningKey(t.Context(), testApp); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, kms.decrypted.Load())
	})
}

// TestEncryptionKeyIsReplaced promises that the way to a new encryption key that
// NewEncrypter tells works, with servers of both kinds at every step.
func TestEncryptionKeyIsReplaced(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.migrate(t, d.open(t))
		db := d.open(t)
		former, latter := encryptionKey(1), encryptionKey(2)
		with := func(keys ...[]byte) *sqlstore.KeyStore { return d.keyStoreWith(t, db, newEncrypter(t, keys...)) }
		for _, app := range []string{"one", "two", "three"} {
			require.NoError(t, with(former).CreateApp(ctx, renew.App{ID: app, Issuer: "issuer"}))
		}
		require.NoError(t, with(former).RotateSigningKey(ctx, "one", newKey(t, renew.ES256), base))
		require.NoError(t, with(former, latter).RotateSigningKey(ctx, "two", newKey(t, renew.EdDSA), base))
		require.NoError(t, with(latter, former).RotateSigningKey(ctx, "three", newKey(t, renew.RS256), base))
		requireSigns(t, with(former, latter), "one", "two", "three")
		requireSigns(t, with(latter, former), "one", "two", "three")

		_, err := sqlstore.NewKeyStore(ctx, db, d.dialect, newEncrypter(t, latter))
		require.ErrorContains(t, err, "encryption key", "the old one is still needed")

		for range 2 {
			n, err := with(latter, former).Reencrypt(ctx)
			require.NoError(t, err)
			require.Equal(t, 3, n)
		}
		requireSigns(t, with(latter), "one", "two", "three")
		_, err = sqlstore.NewKeyStore(ctx, db, d.dialect, newEncrypter(t, former))
		require.ErrorContains(t, err, "encryption key", "the old one opens nothing any more")
	})
}

func requireSigns(t *testing.T, s *sqlstore.KeyStore, apps ...string) {
	t.Helper()
	for _, app := range apps {
		_, err := s.SigningKey(t.Context(), app)
		require.NoError(t, err, app)
	}
}

// TestEncryptedKeysCannotBeMoved promises that whoever can write to the database
// cannot make one app, or one key ID, sign with another's key, nor change one.
func TestEncryptedKeysCannotBeMoved(t *testing.T) {
	onEach(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		s, _ := keysWithApp(t, d)
		db := d.open(t)
		require.NoError(t, s.CreateApp(ctx, renew.App{ID: "victim", Issuer: "issuer"}))
		mine, theirs := newKey(t, renew.EdDSA), newKey(t, renew.EdDSA)
		require.NoError(t, s.RotateSigningKey(ctx, testApp, mine, base))
		require.NoError(t, s.RotateSigningKey(ctx, "victim", theirs, base))
		read := "(SELECT %s FROM (SELECT %[1]s FROM renew_signing_keys WHERE app_id = 'app') AS x)"
		for _, column := range []string{"public_key", "private_key"} {
			_, err := db.Exec("UPDATE renew_signing_keys SET " + column + " = " + fmt.Sprintf(read, column) + " WHERE app_id = 'victim'")
			require.NoError(t, err)
			_, err = d.keyStore(t, db).SigningKey(ctx, "victim")
			require.Error(t, err, column)
			require.NotErrorIs(t, err, renew.ErrKeyNotFound)
		}
		_, err := db.Exec("UPDATE renew_signing_keys SET app_id = 'victim2' WHERE app_id = 'victim'")
		require.NoError(t, err)
		require.NoError(t, s.CreateApp(ctx, renew.App{ID: "victim2", Issuer: "issuer"}))
		_, err = db.Exec("UPDATE renew_apps SET signing_key_id = '" + keyID(theirs) + "' WHERE id = 'victim2'")
		require.NoError(t, err)
		_, err = d.keyStore(t, db).SigningKey(ctx, "victim2")
		require.ErrorContains(t, err, "decrypt")
	})
}
