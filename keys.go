package renew

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// KeyStore knows the apps, their app keys and their signing keys.
//
// An app has one active signing key, and any number of others that verify: keys
// that are published and not active yet, and keys that were replaced, until they
// are revoked or deleted. All methods may be called at the same time. Errors may
// be wrapped; any error but the ones named is an internal error.
//
// A context that is already done is its error. The store and its caller share no
// memory: changing an App that was passed or returned changes no stored app. Keys
// are immutable and may be shared. The laws of package storetest, K1 to K17, have
// every detail.
type KeyStore interface {
	// App returns the current app. It returns ErrAppNotFound if there is none of
	// this ID.
	App(ctx context.Context, appID string) (App, error)

	// SigningKey returns the app's active key. It returns ErrKeyNotFound if the
	// app has none; for an unknown app that or ErrAppNotFound.
	SigningKey(ctx context.Context, appID string) (*SigningKey, error)

	// VerificationKey returns a key of this app by its ID: the active one, a
	// published one or a replaced one, the last with its end, see
	// [VerificationKey.Until]. It returns ErrKeyNotFound if this app has none of
	// that ID, whatever other apps have, and ErrKeyRevoked if it was revoked.
	VerificationKey(ctx context.Context, appID, keyID string) (*VerificationKey, error)
}

// KeyLister is an optional interface of a [KeyStore], for serving a key set.
type KeyLister interface {
	// VerificationKeys returns every key of the app that still verifies, the
	// published ones too, the active one first. It returns ErrAppNotFound if
	// there is no such app.
	VerificationKeys(ctx context.Context, appID string) ([]*VerificationKey, error)
}

// AppLister is an optional interface of a [KeyStore], for tools that list apps.
type AppLister interface {
	// AppIDs returns the ID of every app, in the order of their bytes.
	AppIDs(ctx context.Context) ([]string, error)
}

// PublishedKeyStore is an optional interface of a [KeyAdmin]: the process that
// makes a published key the active one need not be the one that published it.
type PublishedKeyStore interface {
	// PublishedKey returns a published key of this app by its ID, to give to
	// RotateSigningKey. It returns ErrKeyNotFound if the app has no key of that
	// ID, or the key is active, replaced or revoked, and ErrAppNotFound if there
	// is no such app.
	PublishedKey(ctx context.Context, appID, keyID string) (*SigningKey, error)
}

// KeyAdmin is an optional interface of a [KeyStore], for changing apps and keys:
// [EnsureApp], [Renewer.DeleteExpired] and package storetest use it.
//
// All methods may be called at the same time. A method that returns nil has taken
// effect for every process that uses the store, except in a cache whose limit the
// store documents; a method that returns one of the errors named has changed
// nothing. All but CreateApp and DeleteExpiredKeys return ErrAppNotFound if there
// is no such app. Errors may be wrapped.
type KeyAdmin interface {
	// CreateApp adds an app, with its KeyHashes and without a signing key. It
	// returns ErrAppExists if there is one of this ID, and the error of
	// [App.Validate].
	CreateApp(ctx context.Context, app App) error

	// UpdateApp replaces the settings of the app with the ID app.ID: all except
	// KeyHashes, which it ignores, so that it does not undo a concurrent change
	// of the app keys. Lifetimes are those of tokens to come. A new Issuer
	// invalidates every token of the app, unless the old one is among its
	// FormerIssuers. It returns the error of [App.Validate].
	UpdateApp(ctx context.Context, app App) error

	// AddAppKey accepts the app key with this hash, in addition to the others.
	// Adding a hash again returns nil. To replace an app key, add the new one,
	// have the callers change to it, then remove the old one.
	AddAppKey(ctx context.Context, appID string, hash AppKeyHash) error

	// RemoveAppKey rejects the app key with this hash from now on. It returns
	// ErrKeyNotFound if the app has no such app key.
	RemoveAppKey(ctx context.Context, appID string, hash AppKeyHash) error

	// PublishSigningKey adds a key that is listed and verifies, and does not sign
	// yet, so that those who verify know it before it is used. It returns
	// ErrKeyExists if the app has, or has had, a key of this ID that is not
	// deleted yet.
	PublishSigningKey(ctx context.Context, appID string, key *SigningKey) error

	// RotateSigningKey makes key the app's active one: a new key, or one that is
	// published. The first call gives the app its first key. The key that was
	// active before signs no more, and verifies until the end that
	// [SigningPeriod] says. It returns ErrKeyExists if the app has, or has had,
	// a key of this ID that is not deleted yet, except a published one with the
	// same public key.
	RotateSigningKey(ctx context.Context, appID string, key *SigningKey, now time.Time) error

	// RevokeKey invalidates everything that the key has signed or signs, from now
	// on: a session whose refresh token it signed cannot be renewed. Revoking the
	// active key leaves the app without one, and Issue and Renew fail until
	// RotateSigningKey gives it another; to keep a service up, rotate first. The
	// time tells when the active key stopped signing. Revoking again returns nil
	// and changes nothing. It returns ErrKeyNotFound if the app has no such key.
	RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error

	// DeleteExpiredKeys deletes the replaced and revoked keys, of all apps, that
	// expired before the given time, see [SigningPeriod.Close], and returns how
	// many. A token of a deleted key is rejected as one of an unknown key.
	DeleteExpiredKeys(ctx context.Context, before time.Time) (int, error)
}

// SigningPeriod is what a [KeyAdmin] keeps of an app to know until when a
// replaced signing key verifies. The zero value is that of an app that had no
// key yet.
type SigningPeriod struct {
	// LongestTTL is the longest life of a token that the active key can have
	// signed.
	LongestTTL time.Duration
	// SignedUntil is when the last token expires that an earlier key can have
	// signed. It never moves back: a retry signs a pair from an earlier key's
	// time again, with the active key and the old expiry.
	SignedUntil time.Time
}

// Count counts in the lifetimes of an app. Call it when a key becomes active and
// when the app's settings change.
func (p *SigningPeriod) Count(app App) {
	p.LongestTTL = max(p.LongestTTL, app.refreshTTL())
}

// Close ends the period of the active key at the given time. The key verifies no
// token that expires after until, see [VerificationKey.Until]: a minute counts for
// renewals that have begun and sign with it still, and for clocks that differ. A store
// that keeps keys in a cache adds to the time how long other processes may sign with
// what they have. A retry may present a token that has expired, so that the store keeps
// the key for longer and deletes it after expired.
func (p *SigningPeriod) Close(at time.Time) (until, expired time.Time) {
	until = at.Add(p.LongestTTL).Add(signingMargin) // their sum may overflow
	if until.Before(p.SignedUntil) {
		until = p.SignedUntil
	}
	expired = until.Add(p.LongestTTL)
	*p = SigningPeriod{SignedUntil: until}
	return until, expired
}

// signingMargin is for how long a replaced key may still sign.
const signingMargin = time.Minute

// VerificationKey is the public half of a signing key, with the forms that it is
// served in made once. It is immutable and safe for concurrent use.
type VerificationKey struct {
	id      string
	alg     Algorithm
	public  crypto.PublicKey
	size    int       // of a signature, in bytes
	encoded string    // base64 of the PEM
	until   time.Time // exp of the last token that the key verifies; zero: no limit
}

// NewVerificationKey returns the key of this ID, a canonical ULID, for this
// algorithm. pub is an *rsa.PublicKey of 2048 to 8192 bits, an *ecdsa.PublicKey
// on the algorithm's curve or an ed25519.PublicKey, and must not change
// afterwards. Any other type is an error, and so is a key that anyone can sign
// for, such as an Ed25519 point of small order.
func NewVerificationKey(keyID string, alg Algorithm, pub crypto.PublicKey) (key *VerificationKey, err error) {
	if !isCanonicalULID(keyID) {
		return nil, errors.New("verification key: the key ID is not a ULID in canonical form")
	}
	defer func() { // a key made by hand can be such that the standard library panics
		if p := recover(); p != nil {
			key, err = nil, fmt.Errorf("verification key %s: the key is malformed", keyID)
		}
	}()
	if err := alg.check(pub); err != nil {
		return nil, fmt.Errorf("verification key %s: %w", keyID, err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("verification key %s: %w", keyID, err)
	}
	return &VerificationKey{
		id:      keyID,
		alg:     alg,
		public:  pub,
		size:    signatureSize(pub),
		encoded: base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}, nil
}

// KeyID returns the key ID, the kid of what the key signed.
func (k *VerificationKey) KeyID() string { return k.id }

// Algorithm returns the one algorithm that the key is used with.
func (k *VerificationKey) Algorithm() Algorithm { return k.alg }

// Public returns the public key, which must not be changed.
func (k *VerificationKey) Public() crypto.PublicKey { return k.public }

// PublicKey returns the key as the documented response has it: the PKIX PEM in
// standard base64 with padding.
func (k *VerificationKey) PublicKey() string { return k.encoded }

// JWK returns the key as an entry of a JWK set (RFC 7517).
func (k *VerificationKey) JWK() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.public, KeyID: k.id, Algorithm: string(k.alg), Use: "sig"}
}

// Until returns a copy of the key that verifies no token whose exp is after t: the
// key of a signing key that was replaced, see [SigningPeriod]. Tokens are not
// rejected for being presented after t.
func (k *VerificationKey) Until(t time.Time) *VerificationKey {
	limited := *k
	limited.until = t
	return &limited
}

// End returns the time that [VerificationKey.Until] was given; zero: the key has
// no end.
func (k *VerificationKey) End() time.Time { return k.until }

// endedBefore reports whether the key has an end, and t is after it.
func (k *VerificationKey) endedBefore(t time.Time) bool {
	return !k.until.IsZero() && t.After(k.until)
}

// verifies reports whether signature is this key's of the input, by the key's
// algorithm. It calls the standard library, because go-jose verifies only what it
// has parsed, leniently, by itself.
func (k *VerificationKey) verifies(input, signature []byte) bool {
	f, digest := families[k.alg], input
	if f.hash != 0 {
		h := f.hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey: // R and S, both as long as the curve's order (RFC 7518 section 3.4)
		return len(signature) == k.size && ecdsa.VerifyASN1(pub, digest, signatureASN1(signature))
	case *rsa.PublicKey:
		if f.pss {
			return rsa.VerifyPSS(pub, f.hash, digest, signature, pssOptions(f.hash)) == nil
		}
		return rsa.VerifyPKCS1v15(pub, f.hash, digest, signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, input, signature)
	}
	return false
}

// signatureASN1 returns an ECDSA signature of R and S, one after the other, as the
// DER sequence of two integers that [ecdsa.VerifyASN1] takes. It is written out
// here because the detour through [big.Int] costs a fiftieth of a renewal.
func signatureASN1(signature []byte) []byte {
	const integer, sequence, oneByteLength = 0x02, 0x30, 0x80
	integers := make([]byte, 0, len(signature)+6)
	for half := range slices.Chunk(signature, len(signature)/2) {
		value := bytes.TrimLeft(half, "\x00")
		if len(value) == 0 || value[0] >= 0x80 { // the sign bit
			value = append([]byte{0}, value...)
		}
		integers = append(append(integers, integer, byte(len(value))), value...) //nolint:gosec // at most 67
	}
	encoded := append(make([]byte, 0, len(integers)+3), sequence)
	if len(integers) >= 0x80 {
		encoded = append(encoded, oneByteLength|1)
	}
	return append(append(encoded, byte(len(integers))), integers...) //nolint:gosec // at most 138
}

// signatureSize returns how many bytes a signature has that pub verifies.
func signatureSize(pub crypto.PublicKey) int {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return pub.Size()
	case *ecdsa.PublicKey:
		return 2 * ((pub.Params().BitSize + 7) / 8)
	}
	return ed25519.SignatureSize
}
