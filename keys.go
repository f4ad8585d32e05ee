package renew

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // the longer hashes
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/oklog/ulid/v2"
)

// KeyStore knows the apps, their app keys and their signing keys.
//
// An app has one active signing key, and any number of older ones that still
// verify what they signed until they are revoked or deleted. All methods may be
// called at the same time. Errors may be wrapped; any error but the ones named
// is the server's fault. What a method returns is the caller's to read; keys
// are immutable and may be shared.
type KeyStore interface {
	// App returns the app as it stands. ErrAppNotFound: there is none.
	App(ctx context.Context, appID string) (App, error)

	// SigningKey returns the app's active key. ErrKeyNotFound: it has none.
	SigningKey(ctx context.Context, appID string) (*SigningKey, error)

	// VerificationKey returns a key of this app by its ID, the active one or an
	// older one. ErrKeyNotFound: this app has none of that ID, whatever other
	// apps have. ErrKeyRevoked: it was revoked.
	VerificationKey(ctx context.Context, appID, keyID string) (*VerificationKey, error)
}

// KeyLister is what a [KeyStore] may also be, so that a key set can be served.
type KeyLister interface {
	// VerificationKeys returns every key of the app that still verifies, the
	// active one first. ErrAppNotFound: there is no such app.
	VerificationKeys(ctx context.Context, appID string) ([]*VerificationKey, error)
}

// Lifetimes of an [App] that sets none.
const (
	DefaultAuthTTL    = time.Hour
	DefaultRefreshTTL = 3 * time.Hour
)

// App is a tenant: who issues its tokens, who may ask for them, how long they
// live. Lifetimes are whole seconds.
type App struct {
	ID               string        // 1 to 255 bytes
	Issuer           string        // the iss claim, 1 to 255 bytes
	KeyHashes        []AppKeyHash  // several while an app key is being replaced; none: nobody passes
	AuthTTL          time.Duration // 0: DefaultAuthTTL
	AuthNotBefore    time.Duration // nbf of the auth token, after iat
	RefreshTTL       time.Duration // 0: DefaultRefreshTTL
	RefreshNotBefore time.Duration // nbf of the refresh token, after iat
	SessionTTL       time.Duration // absolute life of a session, from Issue; 0: none
}

// Validate says what is wrong with the app's settings, if anything. Stores call
// it before they keep an app, and the [Renewer] before it uses one.
func (a App) Validate() error {
	for _, name := range []struct{ field, value string }{{"ID", a.ID}, {"Issuer", a.Issuer}} {
		if message := checkText(name.value, maxNameBytes); message != "" {
			return fmt.Errorf("app: %s %s", name.field, message)
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"AuthTTL", a.AuthTTL},
		{"AuthNotBefore", a.AuthNotBefore},
		{"RefreshTTL", a.RefreshTTL},
		{"RefreshNotBefore", a.RefreshNotBefore},
		{"SessionTTL", a.SessionTTL},
	} {
		if d.value < 0 || d.value%time.Second != 0 {
			return fmt.Errorf("app: %s is %v, but must be whole seconds and not negative", d.field, d.value)
		}
	}
	if a.AuthNotBefore >= a.authTTL() {
		return fmt.Errorf("app: AuthNotBefore is %v, but must be below the auth token's lifetime of %v, or no auth token is ever good", a.AuthNotBefore, a.authTTL())
	}
	if a.RefreshNotBefore >= a.refreshTTL() {
		return fmt.Errorf("app: RefreshNotBefore is %v, but must be below the refresh token's lifetime of %v, or no refresh token is ever good", a.RefreshNotBefore, a.refreshTTL())
	}
	return nil
}

func (a App) authTTL() time.Duration    { return orDefault(a.AuthTTL, DefaultAuthTTL) }
func (a App) refreshTTL() time.Duration { return orDefault(a.RefreshTTL, DefaultRefreshTTL) }

func orDefault(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return d
}

// holds reports whether key is one of the app's. How long it takes depends on
// the number of keys only.
func (a App) holds(key string) bool {
	hash, found := HashAppKey(key), 0
	for _, h := range a.KeyHashes {
		found |= subtle.ConstantTimeCompare(h[:], hash[:])
	}
	return found == 1
}

// AppKeyHash is the SHA-256 hash of an app key: all of it that is ever stored.
// An app key is random, so that the hash needs no salt and no stretching.
type AppKeyHash [sha256.Size]byte

// NewAppKey returns a new app key of 256 random bits, 43 characters of base64url,
// and its hash. Give the key to the caller and the hash to the [KeyStore].
func NewAppKey() (key string, hash AppKeyHash) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	key = base64.RawURLEncoding.EncodeToString(secret[:])
	return key, HashAppKey(key)
}

// HashAppKey returns the hash of an app key. A key that was not made by
// [NewAppKey] must be as hard to guess: the hash is not stretched.
func HashAppKey(key string) AppKeyHash { return sha256.Sum256([]byte(key)) }

// Algorithm is a JWS signature algorithm (RFC 7518 section 3.1, RFC 8037).
type Algorithm string

// The algorithms. ES256 is a good choice: small and fast.
const (
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	ES256 Algorithm = "ES256" // P-256
	ES384 Algorithm = "ES384" // P-384
	ES512 Algorithm = "ES512" // P-521
	EdDSA Algorithm = "EdDSA" // Ed25519
)

// RSA moduli, in bits: below, a key is weak (RFC 7518 section 3.3); above, one
// request costs too much.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// family is what an algorithm asks of its key, and the hash that is signed.
type family struct {
	curve elliptic.Curve // ECDSA
	rsa   bool
	pss   bool
	slow  bool        // a signature takes many times what a goroutine costs
	hash  crypto.Hash // zero: the message itself is signed
}

var families = map[Algorithm]family{
	RS256: {rsa: true, slow: true, hash: crypto.SHA256},
	RS384: {rsa: true, slow: true, hash: crypto.SHA384},
	RS512: {rsa: true, slow: true, hash: crypto.SHA512},
	PS256: {rsa: true, pss: true, slow: true, hash: crypto.SHA256},
	PS384: {rsa: true, pss: true, slow: true, hash: crypto.SHA384},
	PS512: {rsa: true, pss: true, slow: true, hash: crypto.SHA512},
	ES256: {curve: elliptic.P256(), hash: crypto.SHA256},
	ES384: {curve: elliptic.P384(), hash: crypto.SHA384},
	ES512: {curve: elliptic.P521(), slow: true, hash: crypto.SHA512},
	EdDSA: {},
}

// check says why pub is no key for the algorithm, if it is none.
func (alg Algorithm) check(pub crypto.PublicKey) error {
	f, known := families[alg]
	if !known {
		return fmt.Errorf("algorithm %q is not supported", alg)
	}
	switch key := pub.(type) {
	case *rsa.PublicKey:
		switch {
		case !f.rsa:
			return fmt.Errorf("an RSA key is none for %s", alg)
		case key == nil || key.N == nil:
			return errors.New("the RSA key is empty")
		case key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits:
			return fmt.Errorf("an RSA key has %d to %d bits, this one has %d", minRSABits, maxRSABits, key.N.BitLen())
		case key.E < 1<<16 || key.E%2 == 0: // FIPS 186-5, appendix A.1.1
			return errors.New("the RSA key's public exponent is even or below 65537")
		}
	case *ecdsa.PublicKey:
		switch {
		case f.curve == nil:
			return fmt.Errorf("an ECDSA key is none for %s", alg)
		case key == nil || key.Curve != f.curve:
			return fmt.Errorf("%s needs a key on %s", alg, f.curve.Params().Name)
		}
	case ed25519.PublicKey:
		switch {
		case f.rsa || f.curve != nil:
			return fmt.Errorf("an Ed25519 key is none for %s", alg)
		case len(key) != ed25519.PublicKeySize:
			return errors.New("the Ed25519 key is not of the right size")
		}
	default:
		return fmt.Errorf("a %T is no key for %s", pub, alg)
	}
	return nil
}

// VerificationKey is the public half of a signing key, with the forms that it is
// served in made once. It is immutable and safe for concurrent use.
type VerificationKey struct {
	id      string
	alg     Algorithm
	public  crypto.PublicKey
	size    int    // of a signature, in bytes
	encoded string // base64 of the PEM
}

// NewVerificationKey returns the key of this ID, a canonical ULID, for this
// algorithm. pub is an *rsa.PublicKey of 2048 to 8192 bits, an *ecdsa.PublicKey
// on the algorithm's curve or an ed25519.PublicKey, and must not change
// afterwards. Whatever else it is, is an error.
func NewVerificationKey(keyID string, alg Algorithm, pub crypto.PublicKey) (*VerificationKey, error) {
	if !isCanonicalULID(keyID) {
		return nil, errors.New("verification key: the key ID is not a ULID in canonical form")
	}
	if err := alg.check(pub); err != nil {
		return nil, fmt.Errorf("verification key %s: %w", keyID, err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub) // refuses a point off its curve
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

// verifies reports whether signature is this key's of the input, by the key's
// own algorithm. The standard library is asked directly, because go-jose
// verifies only what it has parsed, leniently, by itself.
func (k *VerificationKey) verifies(input, signature []byte) bool {
	f, digest := families[k.alg], input
	if f.hash != 0 {
		h := f.hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	switch pub := k.public.(type) {
	case *ecdsa.PublicKey: // R and S, both as long as the curve's order (RFC 7518 section 3.4)
		n := k.size / 2
		return len(signature) == k.size &&
			ecdsa.Verify(pub, digest, new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:]))
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

// SigningKey is a key that signs. It is immutable and safe for concurrent use.
type SigningKey struct {
	verification *VerificationKey
	signer       crypto.Signer
	jose         jose.OpaqueSigner
	header       string // the encoded protected header of all that the key signs, and its dot
	remote       bool   // the signer may block, fail or be wrong
}

// NewSigningKey returns the key of this ID, a canonical ULID, for this
// algorithm. The signer's public key is what [NewVerificationKey] takes; where
// the private key lives, in memory, a KMS or an HSM, is the signer's affair.
//
// The signer must be safe for concurrent use. It is called with a digest of the
// algorithm's hash, for EdDSA with the message; for the PS algorithms with
// [rsa.PSSOptions] that ask for a salt of the hash's length (RFC 7518 section
// 3.5). A signer that is not one of the standard library's private keys is called
// in goroutines of its own, for both tokens of a pair at the same time, so that
// one that blocks is left behind when the context is done, and its signatures
// are verified before they are used. A panic of a signer is an error.
func NewSigningKey(keyID string, alg Algorithm, signer crypto.Signer) (*SigningKey, error) {
	if isNil(signer) {
		return nil, errors.New("signing key: the signer is nil")
	}
	verification, err := NewVerificationKey(keyID, alg, signer.Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
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
		k.remote = true
	}
	if families[alg].pss {
		signer = pssSigner{signer}
	}
	k.jose = cryptosigner.Opaque(signer)
	return k, nil
}

// GenerateSigningKey returns a new key in memory, with a new key ID. RSA keys
// have 2048 bits.
func GenerateSigningKey(alg Algorithm) (*SigningKey, error) {
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
	id, err := newULID(time.Now(), "")
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return NewSigningKey(id, alg, signer)
}

// VerificationKey returns the public half.
func (k *SigningKey) VerificationKey() *VerificationKey { return k.verification }

// Signer returns the signer that the key was made with, for a [KeyStore] that
// has to store it.
func (k *SigningKey) Signer() crypto.Signer { return k.signer }

// signBoth signs a pair, both at the same time where that pays: a signer that is
// waited for is waited for once, and of two slow signatures a caller waits for one
// where a core is free, while as many are made in a second where none is. With the
// quick algorithms a second goroutine costs more than it saves (bench, section
// signing).
func (k *SigningKey) signBoth(ctx context.Context, auth, refresh []byte) (authToken, refreshToken string, err error) {
	if !k.remote && !families[k.verification.alg].slow {
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
	if k.remote && !k.verification.verifies(token, signature) {
		return "", fmt.Errorf("sign with key %s: the signer's signature does not verify", k.verification.id)
	}
	token = append(token, '.')
	return string(base64.RawURLEncoding.AppendEncode(token, signature)), nil
}

// signature has the signer sign. It does not wait for a remote one once the
// context is done.
func (k *SigningKey) signature(ctx context.Context, input []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !k.remote {
		return k.signNow(input)
	}
	type result struct {
		signature []byte
		err       error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() { done <- r }() // even if the signer ends the goroutine, as a failing test's does
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

// newULID returns a new ULID of the given time. It is greater than last, if need
// be at the price of its time: token IDs are ordered even where clocks are not.
func newULID(now time.Time, last string) (string, error) {
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("new ULID: %w", err)
	}
	if last == "" {
		return id.String(), nil
	}
	previous, err := ulid.ParseStrict(last)
	if err != nil {
		return "", fmt.Errorf("new ULID after the last one: %w", err)
	}
	if id.Compare(previous) <= 0 {
		if err := id.SetTime(previous.Time() + 1); err != nil {
			return "", fmt.Errorf("new ULID after the last one: %w", err)
		}
	}
	return id.String(), nil
}

// isCanonicalULID reports whether s is a ULID as this library writes one: upper
// case, and not over 128 bits.
func isCanonicalULID(s string) bool {
	id, err := ulid.ParseStrict(s)
	return err == nil && id.String() == s
}

// maxNameBytes is the longest ID, issuer or subject that every store can keep.
const maxNameBytes = 255

// checkText says what is wrong with a text of at least one byte that must be
// kept, compared and logged exactly.
func checkText(s string, maxBytes int) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxBytes:
		return fmt.Sprintf("is longer than %d bytes", maxBytes)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return "has a control character"
		}
	}
	return ""
}

// isNil reports whether v is nil, or an interface that holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	value := reflect.ValueOf(v)
	return value.Kind() == reflect.Pointer && value.IsNil()
}
