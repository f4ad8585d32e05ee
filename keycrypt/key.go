package keycrypt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jwtrenew/renew"
)

// Key is a signing key as a store keeps it. Private is encrypted, for one app, one
// key ID and one algorithm; it decrypts for no other.
type Key struct {
	ID        string
	Algorithm string // a renew.Algorithm
	Public    []byte // PKIX
	Private   []byte // PKCS #8, encrypted
}

// Encrypt returns the key as a store may keep it for the app. The signer must be a
// private key of the standard library; another one, such as a key of a key
// management service, is an error, and so is a nil key.
func Encrypt(ctx context.Context, e Encrypter, appID string, key *renew.SigningKey) (*Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if key == nil {
		return nil, errors.New("the key is nil")
	}
	switch signer := key.Signer().(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return nil, fmt.Errorf("a %T cannot be stored, only a private key of the standard library", signer)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.Signer())
	if err != nil {
		return nil, errors.New("the private key cannot be encoded as PKCS #8")
	}
	defer clear(der)
	v := key.VerificationKey()
	k := &Key{ID: v.KeyID(), Algorithm: string(v.Algorithm())}
	if k.Public, err = x509.MarshalPKIXPublicKey(v.Public()); err != nil {
		return nil, err
	}
	if k.Private, err = e.Encrypt(ctx, der, k.associatedData(appID)); err != nil {
		return nil, fmt.Errorf("encrypt the private key: %w", err)
	}
	return k, nil
}

// Decrypt returns the signing key of the app. It returns an error for a key that
// was changed since Encrypt or belongs to another app, and [ErrUnknownKey] if the
// Encrypter does not have the encryption key.
func (k *Key) Decrypt(ctx context.Context, e Encrypter, appID string) (*renew.SigningKey, error) {
	der, err := e.Decrypt(ctx, k.Private, k.associatedData(appID))
	if err != nil {
		return nil, err
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("what was decrypted is not a private key in PKCS #8")
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T is not a crypto.Signer", parsed)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(public, k.Public) {
		return nil, errors.New("the stored public key does not match the private key")
	}
	return renew.NewSigningKey(k.ID, renew.Algorithm(k.Algorithm), signer)
}

// Verification returns the public half.
func (k *Key) Verification() (*renew.VerificationKey, error) {
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("verification key %s: what is stored is not a public key in PKIX form", k.ID)
	}
	return renew.NewVerificationKey(k.ID, renew.Algorithm(k.Algorithm), public)
}

// Reencrypt returns Private decrypted and encrypted again, and leaves k as it is:
// after a change of the encryption key, a store keeps the result instead.
func (k *Key) Reencrypt(ctx context.Context, e Encrypter, appID string) ([]byte, error) {
	data := k.associatedData(appID)
	plaintext, err := e.Decrypt(ctx, k.Private, data)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return e.Encrypt(ctx, plaintext, data)
}

// Check returns [ErrUnknownKey], wrapped, if the Encrypter does not have the
// encryption key. It does not report any other failure to decrypt.
func (k *Key) Check(ctx context.Context, e Encrypter, appID string) error {
	plaintext, err := e.Decrypt(ctx, k.Private, k.associatedData(appID))
	clear(plaintext)
	if errors.Is(err, ErrUnknownKey) {
		return fmt.Errorf("key %s of app %q: %w", k.ID, appID, err)
	}
	return nil
}

// associatedData names a private key so that no two names look alike. The text is
// older than this package; ciphertexts in databases depend on it.
func (k *Key) associatedData(appID string) []byte {
	data := []byte("renew sqlstore: private key")
	for _, part := range []string{appID, k.ID, k.Algorithm} {
		data = binary.BigEndian.AppendUint64(data, uint64(len(part)))
		data = append(data, part...)
	}
	return data
}
