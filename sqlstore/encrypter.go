package sqlstore

import "github.com/jwtrenew/renew/keycrypt"

// EncryptionKeyBytes is the length of a key for [NewEncrypter].
const EncryptionKeyBytes = keycrypt.KeyBytes

// Encrypter encrypts the private keys that a [KeyStore] stores; it is the one of
// all stores.
type Encrypter = keycrypt.Encrypter

// NewEncrypter is [keycrypt.New]: an Encrypter from keys of [EncryptionKeyBytes]
// random bytes, of which the first one encrypts and all decrypt.
func NewEncrypter(keys ...[]byte) (Encrypter, error) { return keycrypt.New(keys...) }
