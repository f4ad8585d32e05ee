package renew

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

// maxRemoteCalls is how many calls of one remote signer are in flight at most, so
// that one that hangs does not gather goroutines without end.
const maxRemoteCalls = 64

// SigningKey is a key that signs. It is immutable and safe for concurrent use.
type SigningKey struct {
	verification *VerificationKey
	signer       crypto.Signer
	jose         jose.OpaqueSigner
	header       string        // the encoded protected header of all that the key signs, and its dot
	remote       chan struct{} // a place for each call in flight, if the signer may block, fail or be wrong; otherwise nil
}

// NewSigningKey returns the key of this ID, a canonical ULID, for this
// algorithm. The signer's public key is what [NewVerificationKey] takes; where
// the private key is, in memory, a KMS or an HSM, is up to the signer.
//
// NewSigningKey signs and verifies once, so that a private key that does not match
// its public key is an error here.
//
// The signer must be safe for concurrent use. It is called with a digest of the
// algorithm's hash, for EdDSA with the message; for the PS algorithms with
// [rsa.PSSOptions] that ask for a salt of the hash's length (RFC 7518 section
// 3.5). A signer that is not one of the standard library's private keys is called
// in new goroutines, for both tokens of a pair at the same time: the call returns
// when the context is done, even if the signer blocks, and its signatures are
// verified before they are used. At most 64 of its calls are in flight per key;
// others wait until their context is done. A panic of a signer is an error.
func NewSigningKey(keyID string, alg Algorithm, signer crypto.Signer) (*SigningKey, error) {
	if isNil(signer) {
		return nil, errors.New("signing key: the signer is nil")
	}
	public, err := publicOf(signer)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", keyID, err)
	}
	verification, err := NewVerificationKey(keyID, alg, public)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if err := checkPrivate(signer); err != nil {
		return nil, fmt.Errorf("signing key %s: %w", keyID, err)
	}
	header, err := json.Marshal(header{Algorithm: string(alg), KeyID: keyID, Type: headerType})
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", keyID, err)
	}
	k := &SigningKey{
		verification: verification,
		signer:       signer,
		header:       base64.RawURLEncoding.EncodeToString(header) + ".",
	}
	switch signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		k.remote = make(chan struct{}, maxRemoteCalls)
	}
	if families[alg].pss {
		signer = pssSigner{signer}
	}
	k.jose = cryptosigner.Opaque(signer)
	const probe = "the private key matches the public key"
	signature, err := k.signNow([]byte(probe))
	if err != nil {
		return nil, fmt.Errorf("signing key %s: sign once: %w", keyID, err)
	}
	if !verification.verifies([]byte(probe), signature) {
		return nil, fmt.Errorf("signing key %s: the private key does not match the public key", keyID)
	}
	return k, nil
}

// publicOf returns the signer's public key. A private key made by hand can be such
// that the standard library panics.
func publicOf(signer crypto.Signer) (public crypto.PublicKey, err error) {
	defer func() {
		if p := recover(); p != nil {
			public, err = nil, errors.New("the private key is malformed")
		}
	}()
	return signer.Public(), nil
}

// checkPrivate rejects a private key with a negative number. The standard library
// signs with its absolute value, in some versions, and a store that encodes the key
// would keep another one.
func checkPrivate(signer crypto.Signer) error {
	var numbers []*big.Int
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		numbers = append(slices.Clone(key.Primes), key.D)
	case *ecdsa.PrivateKey:
		numbers = []*big.Int{key.D}
	}
	for _, n := range numbers {
		if n != nil && n.Sign() < 0 {
			return errors.New("the private key is malformed")
		}
	}
	return nil
}

// GenerateSigningKey returns a new key in memory, with a new key ID. RSA keys
// have 2048 bits.
func GenerateSigningKey(alg Algorithm) (*SigningKey, error) {
	id, err := newULID(time.Now(), "")
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return generateSigningKey(id, alg)
}

func generateSigningKey(keyID string, alg Algorithm) (*SigningKey, error) {
	f, known := families[alg]
	if !known {
		return nil, fmt.Errorf("signing key: algorithm %q is not supported", alg)
	}
	var signer crypto.Signer
	var err error
	switch {
	case f.rsa:
		signer, err = rsa.GenerateKey(rand.Reader, minRSABits)
	case f.curve != nil:
		signer, err = ecdsa.GenerateKey(f.curve, rand.Reader)
	default:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return NewSigningKey(keyID, alg, signer)
}

// KeyID returns the key ID, the kid of what the key signs.
func (k *SigningKey) KeyID() string { return k.verification.id }

// VerificationKey returns the public half.
func (k *SigningKey) VerificationKey() *VerificationKey { return k.verification }

// Signer returns the signer that the key was made with, for a [KeyStore] that
// has to store it.
func (k *SigningKey) Signer() crypto.Signer { return k.signer }

// signBoth signs a pair, both tokens at the same time where that pays: a remote
// signer costs one round trip, not two, and of two slow signatures a caller waits
// for one where a core is free. With the fast algorithms a second goroutine costs
// more than it saves (bench, section signing).
func (k *SigningKey) signBoth(ctx context.Context, auth, refresh []byte) (authToken, refreshToken string, err error) {
	if k.remote == nil && !families[k.verification.alg].slow {
		if authToken, err = k.sign(ctx, auth); err != nil {
			return "", "", err
		}
		refreshToken, err = k.sign(ctx, refresh)
		return authToken, refreshToken, err
	}
	done := make(chan error, 1)
	go func() {
		var err error
		refreshToken, err = k.sign(ctx, refresh)
		done <- err
	}()
	authToken, err = k.sign(ctx, auth)
	if other := <-done; err == nil {
		err = other
	}
	return authToken, refreshToken, err
}

// sign returns the compact JWS of claims.
func (k *SigningKey) sign(ctx context.Context, claims []byte) (string, error) {
	size := len(k.header) + base64.RawURLEncoding.EncodedLen(len(claims)) + len(".") + base64.RawURLEncoding.EncodedLen(k.verification.size)
	token := make([]byte, 0, size)
	token = append(token, k.header...)
	token = base64.RawURLEncoding.AppendEncode(token, claims)
	signature, err := k.signature(ctx, token)
	if err != nil {
		return "", fmt.Errorf("sign with key %s: %w", k.verification.id, err)
	}
	if k.remote != nil && !k.verification.verifies(token, signature) {
		return "", fmt.Errorf("sign with key %s: the signer's signature does not verify", k.verification.id)
	}
	token = append(token, '.')
	return string(base64.RawURLEncoding.AppendEncode(token, signature)), nil
}

// signature calls the signer. It does not wait for a remote one once the context is
// done; the call then keeps its place until the signer returns.
func (k *SigningKey) signature(ctx context.Context, input []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k.remote == nil {
		return k.signNow(input)
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case k.remote <- struct{}{}:
	}
	type result struct {
		signature []byte
		err       error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() { // even if the signer ends the goroutine, as a failing test's does
			<-k.remote
			done <- r
		}()
		r.signature, r.err = k.signNow(input)
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.signature, r.err
	}
}

// signNow turns a panic into an error: in a goroutine of this package it would end
// the process. A signer may panic, and go-jose does where an ECDSA signer returns
// numbers larger than its curve.
func (k *SigningKey) signNow(input []byte) (signature []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			signature, err = nil, errors.New("the signer panicked")
		}
	}()
	return k.jose.SignPayload(input, jose.SignatureAlgorithm(k.verification.alg))
}

// pssSigner asks for the salt that RFC 7518 section 3.5 demands, where
// cryptosigner asks for the longest that fits.
type pssSigner struct{ crypto.Signer }

func (s pssSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(random, digest, pssOptions(opts.HashFunc()))
}

func pssOptions(hash crypto.Hash) *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
}
