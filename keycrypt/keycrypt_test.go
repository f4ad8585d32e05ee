package keycrypt_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
)

// encryptionKey returns the n-th key.
func encryptionKey(n byte) []byte {
	key := make([]byte, keycrypt.KeyBytes)
	for i := range key {
		key[i] = n ^ byte(i*7)
	}
	return key
}

func newEncrypter(tb testing.TB, keys ...[]byte) keycrypt.Encrypter {
	tb.Helper()
	e, err := keycrypt.New(keys...)
	require.NoError(tb, err)
	return e
}

// TestNew promises that what was encrypted decrypts with the same name and nothing
// else: not changed, not cut, not for another name.
func TestNew(t *testing.T) {
	for _, keys := range [][][]byte{nil, {nil}, {make([]byte, 16)}, {encryptionKey(1), make([]byte, 33)}} {
		_, err := keycrypt.New(keys...)
		require.Error(t, err)
	}
	e := newEncrypter(t, encryptionKey(1))
	sealed, err := e.Encrypt(t.Context(), []byte("secret"), []byte("name"))
	require.NoError(t, err)
	again, err := e.Encrypt(t.Context(), []byte("secret"), []byte("name"))
	require.NoError(t, err)
	require.NotEqual(t, sealed, again, "a new nonce each time")
	plain, err := e.Decrypt(t.Context(), sealed, []byte("name"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))
	_, err = e.Decrypt(t.Context(), sealed, []byte("another name"))
	require.Error(t, err)
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		_, err = e.Decrypt(t.Context(), broken, []byte("name"))
		require.Error(t, err, "byte %d is changed", i)
		_, err = e.Decrypt(t.Context(), sealed[:i], []byte("name"))
		require.Error(t, err, "cut to %d bytes", i)
	}
}

// TestOldCiphertext promises that what an earlier version has put into a database
// still decrypts.
func TestOldCiphertext(t *testing.T) {
	const before = "27ed3cebdccf5376addf58aaf064733324d21111949b0003e4b29984c8b268820e76aa310170193249af"
	old, err := hex.DecodeString(before)
	require.NoError(t, err)
	plain, err := newEncrypter(t, encryptionKey(2), encryptionKey(1)).Decrypt(t.Context(), old, []byte("name"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))
	_, err = newEncrypter(t, encryptionKey(2)).Decrypt(t.Context(), old, []byte("name"))
	require.ErrorIs(t, err, keycrypt.ErrUnknownKey)
}

// TestKey promises that a stored key is the one that was given, for its app, ID and
// algorithm alone, and that an encryption key can be replaced.
func TestKey(t *testing.T) {
	ctx := t.Context()
	former := newEncrypter(t, encryptionKey(1))
	both := newEncrypter(t, encryptionKey(2), encryptionKey(1))
	latter := newEncrypter(t, encryptionKey(2))
	for _, alg := range []renew.Algorithm{renew.ES256, renew.ES384, renew.EdDSA, renew.RS256} {
		t.Run(string(alg), func(t *testing.T) {
			key, err := renew.GenerateSigningKey(alg)
			require.NoError(t, err)
			k, err := keycrypt.Encrypt(ctx, former, "app", key)
			require.NoError(t, err)
			require.Equal(t, key.VerificationKey().KeyID(), k.ID)

			back, err := k.Decrypt(ctx, former, "app")
			require.NoError(t, err)
			require.Equal(t, key.VerificationKey().Public(), back.VerificationKey().Public())
			public, err := k.Verification()
			require.NoError(t, err)
			require.Equal(t, key.VerificationKey().Public(), public.Public())

			_, err = k.Decrypt(ctx, former, "another")
			require.Error(t, err)
			moved := *k
			moved.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
			_, err = moved.Decrypt(ctx, former, "app")
			require.Error(t, err)

			require.NoError(t, k.Check(ctx, both, "app"))
			require.ErrorIs(t, k.Check(ctx, latter, "app"), keycrypt.ErrUnknownKey)
			k.Private, err = k.Reencrypt(ctx, both, "app")
			require.NoError(t, err)
			_, err = k.Decrypt(ctx, latter, "app")
			require.NoError(t, err)
			_, err = k.Decrypt(ctx, former, "app")
			require.ErrorIs(t, err, keycrypt.ErrUnknownKey)
		})
	}
}

// TestKeyPublicHalfIsCompared promises that a public half which is another key's
// is found out.
func TestKeyPublicHalfIsCompared(t *testing.T) {
	e := newEncrypter(t, encryptionKey(1))
	var keys [2]*keycrypt.Key
	for i := range keys {
		key, err := renew.GenerateSigningKey(renew.EdDSA)
		require.NoError(t, err)
		keys[i], err = keycrypt.Encrypt(t.Context(), e, "app", key)
		require.NoError(t, err)
	}
	keys[0].Public = keys[1].Public
	_, err := keys[0].Decrypt(t.Context(), e, "app")
	require.ErrorContains(t, err, "does not match")
}

// TestEncryptNeedsAKey promises errors for what cannot be stored.
func TestEncryptNeedsAKey(t *testing.T) {
	e := newEncrypter(t, encryptionKey(1))
	_, err := keycrypt.Encrypt(t.Context(), e, "app", nil)
	require.ErrorContains(t, err, "nil")
}
