package sqlstore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// EncryptionKeyBytes is the length of a key for [NewEncrypter].
const EncryptionKeyBytes = 32

// Encrypter encrypts the private keys that a [KeyStore] stores. [NewEncrypter]
// makes one from a key in memory; one of your own can have a KMS do the work, of
// which the key never leaves. It must be safe for concurrent use. A KeyStore
// decrypts a key once and keeps it, so that Decrypt may be slow.
//
// Associated data is authenticated with the text and not stored with it: Decrypt
// must fail if it is not what Encrypt was given. It names the app, the key and
// its algorithm, so that nobody who can write to the database can put one app's
// key in another's place.
type Encrypter interface {
	Encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// NewEncrypter returns an Encrypter with AES-256-GCM. Every key is 32 random
// bytes, such as those of "openssl rand 32", and is kept apart from the
// database. The first one encrypts; it and all others decrypt what they have
// encrypted. Fewer than one key, or one of another length, is an error.
//
// To replace a key, in this order: give every server the new one behind the old
// one; then every server the new one first; call [KeyStore.Reencrypt]; then take
// the old one from every server. Nothing stops meanwhile.
func NewEncrypter(keys ...[]byte) (Encrypter, error) {
	if len(keys) == 0 {
		return nil, errors.New("sqlstore.NewEncrypter: it needs a key")
	}
	e := &aesEncrypter{}
	for i, key := range keys {
		if len(key) != EncryptionKeyBytes {
			return nil, fmt.Errorf("sqlstore.NewEncrypter: key %d is %d bytes long, not %d", i+1, len(key), EncryptionKeyBytes)
		}
		k, err := newAESKey(key)
		if err != nil {
			return nil, fmt.Errorf("sqlstore.NewEncrypter: key %d: %w", i+1, err)
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

// keyIDBytes tell one key from another; they prove nothing, the tag does.
const keyIDBytes = 8

func newAESKey(key []byte) (aesKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return aesKey{}, err
	}
	// With random nonces a key is good for 2^32 encryptions; a database has a
	// few per app.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return aesKey{}, err
	}
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
	return nil, errUnknownEncryptionKey
}

var errUnknownEncryptionKey = errors.New("decrypt: the ciphertext was made with an encryption key that is not among those given to NewEncrypter")

// associatedData names a private key so that no two names look alike.
func associatedData(appID, keyID, algorithm string) []byte {
	data := []byte("renew sqlstore: private key")
	for _, part := range []string{appID, keyID, algorithm} {
		data = binary.BigEndian.AppendUint64(data, uint64(len(part)))
		data = append(data, part...)
	}
	return data
}
