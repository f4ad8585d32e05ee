// Package keycrypt encrypts signing keys for the stores that keep them: sqlstore,
// redisstore and dynamostore, and any [renew.KeyStore] of yours.
//
// An [Encrypter] is one from [New], with a key that the program holds, or your own,
// which may use a key management service. [Encrypt] turns a signing key into what a
// store may keep, and [Key.Decrypt] turns that into the signing key again.
package keycrypt

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeyBytes is the length of a key for [New].
const KeyBytes = 32

// ErrUnknownKey means that a ciphertext was made with an encryption key that the
// Encrypter does not have.
var ErrUnknownKey = errors.New("decrypt: the ciphertext was made with an encryption key that this Encrypter does not have")

// Encrypter encrypts the private keys that a KeyStore stores. [New] makes one from
// a key in memory; your own can use a key management service, so that the key never
// leaves it. It must be safe for concurrent use. The stores decrypt a key
// once and keep it in memory, so that Decrypt may be slow.
//
// Associated data is authenticated with the text and not stored with it: Decrypt
// must fail if it is not what Encrypt was given. It names the app, the key and
// its algorithm, so that someone who can write to the database cannot put one app's
// key in another's place.
//
// Decrypt returns [ErrUnknownKey], possibly wrapped, if it does not have the key;
// a store reports that when it is made.
type Encrypter interface {
	Encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// New returns an Encrypter with AES-256-GCM. Every key is [KeyBytes] random bytes,
// such as those of "openssl rand 32", and is kept separate from the database. The
// first one encrypts; it and all others decrypt what they have encrypted. No key,
// or one of another length, is an error.
//
// To replace a key: give every server the old one and the new one, in this order; then
// give every server the new one first; call Reencrypt of the KeyStore; then remove the
// old one from every server. The servers keep running.
func New(keys ...[]byte) (Encrypter, error) {
	if len(keys) == 0 {
		return nil, errors.New("keycrypt.New: no key")
	}
	e := &aesEncrypter{}
	for i, key := range keys {
		if len(key) != KeyBytes {
			return nil, fmt.Errorf("keycrypt.New: key %d is %d bytes long, not %d", i+1, len(key), KeyBytes)
		}
		k, err := newAESKey(key)
		if err != nil {
			return nil, fmt.Errorf("keycrypt.New: key %d: %w", i+1, err)
		}
		e.keys = append(e.keys, k)
	}
	return e, nil
}

// aesEncrypter writes the ID of the key, a random nonce, and the ciphertext with
// its tag.
type aesEncrypter struct{ keys []aesKey }

type aesKey struct {
	id   [keyIDBytes]byte
	aead cipher.AEAD
}

// keyIDBytes tell one key from another. They do not authenticate anything; the tag does.
const keyIDBytes = 8

func newAESKey(key []byte) (aesKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return aesKey{}, err
	}
	// With random nonces a key is safe for 2^32 encryptions; a database has a
	// few per app.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return aesKey{}, err
	}
	// The text is older than this package; ciphertexts in databases depend on it.
	id, err := hkdf.Key(sha256.New, key, nil, "renew sqlstore: ID of an encryption key", keyIDBytes)
	if err != nil {
		return aesKey{}, err
	}
	return aesKey{id: [keyIDBytes]byte(id), aead: aead}, nil
}

func (e *aesEncrypter) Encrypt(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	key := e.keys[0]
	return key.aead.Seal(key.id[:], nil, plaintext, associatedData), nil //nolint:gosec // it draws the nonce
}

func (e *aesEncrypter) Decrypt(_ context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) < keyIDBytes {
		return nil, errors.New("decrypt: the ciphertext is too short")
	}
	for _, key := range e.keys {
		if key.id != [keyIDBytes]byte(ciphertext) {
			continue
		}
		plaintext, err := key.aead.Open(nil, nil, ciphertext[keyIDBytes:], associatedData)
		if err != nil {
			return nil, errors.New("decrypt: the ciphertext was changed, or belongs to another app or key")
		}
		return plaintext, nil
	}
	return nil, ErrUnknownKey
}
