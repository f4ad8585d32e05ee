package renew

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha512" // the longer hashes
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Algorithm is a JWS signature algorithm (RFC 7518 section 3.1, RFC 8037).
type Algorithm string

// The algorithms. ES256 is small and fast.
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

// Limits of RSA keys. A smaller modulus is weak (RFC 7518 section 3.3), and with a
// larger one a request costs too much. A smaller exponent is weak (FIPS 186-5
// appendix A.1.1), and a larger one is not portable.
const (
	minRSABits     = 2048
	maxRSABits     = 8192
	minRSAExponent = 1<<16 + 1
	maxRSAExponent = 1<<31 - 1
)

// family is what an algorithm demands of its key, and the hash that is signed.
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

// check says why pub cannot be used with the algorithm, or returns nil. Keys of the
// right type can still be such that anyone can sign for them.
func (alg Algorithm) check(pub crypto.PublicKey) error {
	f, known := families[alg]
	if !known {
		return fmt.Errorf("algorithm %q is not supported", alg)
	}
	switch key := pub.(type) {
	case *rsa.PublicKey:
		if !f.rsa {
			return fmt.Errorf("an RSA key cannot be used with %s", alg)
		}
		return checkRSA(key)
	case *ecdsa.PublicKey:
		if f.curve == nil {
			return fmt.Errorf("an ECDSA key cannot be used with %s", alg)
		}
		return checkECDSA(key, f.curve)
	case ed25519.PublicKey:
		if f.rsa || f.curve != nil {
			return fmt.Errorf("an Ed25519 key cannot be used with %s", alg)
		}
		return checkEd25519(key)
	}
	return fmt.Errorf("%T is not a valid key type for %s", pub, alg)
}

func checkRSA(key *rsa.PublicKey) error {
	switch {
	case key == nil || key.N == nil:
		return errors.New("the RSA key is empty")
	case key.N.Sign() < 0 || key.N.Bit(0) == 0:
		return errors.New("the RSA key's modulus is negative or even")
	case key.N.BitLen() < minRSABits || key.N.BitLen() > maxRSABits:
		return fmt.Errorf("the RSA key has %d bits, but must have %d to %d", key.N.BitLen(), minRSABits, maxRSABits)
	case key.E < minRSAExponent || key.E > maxRSAExponent || key.E%2 == 0:
		return fmt.Errorf("the RSA key's public exponent is even or not between %d and %d", minRSAExponent, maxRSAExponent)
	}
	return nil
}

func checkECDSA(key *ecdsa.PublicKey, curve elliptic.Curve) error {
	switch {
	case key == nil || key.Curve == nil:
		return errors.New("the ECDSA key is empty")
	case key.Curve != curve:
		return fmt.Errorf("the ECDSA key is not on %s", curve.Params().Name)
	}
	if _, err := key.Bytes(); err != nil {
		return fmt.Errorf("the ECDSA key is not a point on %s", curve.Params().Name)
	}
	return nil
}

// Edwards25519 (RFC 8032 section 5.1): -x^2 + y^2 = 1 + d*x^2*y^2 modulo p.
var (
	edwardsP = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	edwardsD = func() *big.Int {
		d := new(big.Int).ModInverse(big.NewInt(121666), edwardsP)
		return d.Mod(d.Mul(d, big.NewInt(-121665)), edwardsP)
	}()
)

// checkEd25519 rejects a key that is not the canonical encoding of a point of the
// curve, and one of the eight points of small order: with those, signatures that
// anyone can make verify.
func checkEd25519(key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("the Ed25519 key has %d bytes, but must have %d", len(key), ed25519.PublicKeySize)
	}
	encoded := slices.Clone(key)
	slices.Reverse(encoded) // to big-endian
	sign := encoded[0] >> 7
	encoded[0] &= 0x7f
	y := new(big.Int).SetBytes(encoded)
	x := edwardsX(y)
	if y.Cmp(edwardsP) >= 0 || x == nil || x.Sign() == 0 && sign == 1 {
		return errors.New("the Ed25519 key is not a point of its curve")
	}
	for range 3 { // eight times a point of small order is (0, 1)
		x, y = edwardsDouble(x, y)
	}
	if x.Sign() == 0 && y.Cmp(big.NewInt(1)) == 0 {
		return errors.New("the Ed25519 key is a point of small order: anyone can sign for it")
	}
	return nil
}

// edwardsX returns an x for which (x, y) is on the curve, or nil. The points of one
// y have the same order.
func edwardsX(y *big.Int) *big.Int {
	one := big.NewInt(1)
	yy := new(big.Int).Mul(y, y)
	numerator := new(big.Int).Sub(yy, one)
	denominator := new(big.Int).Mul(edwardsD, yy)
	denominator.Mod(denominator.Add(denominator, one), edwardsP) // never zero: -1/d is not a square
	xx := numerator.Mul(numerator, denominator.ModInverse(denominator, edwardsP))
	return xx.ModSqrt(xx.Mod(xx, edwardsP), edwardsP)
}

// edwardsDouble returns twice the point (x, y).
func edwardsDouble(x, y *big.Int) (*big.Int, *big.Int) {
	one := big.NewInt(1)
	xx, yy, xy := new(big.Int).Mul(x, x), new(big.Int).Mul(y, y), new(big.Int).Mul(x, y)
	dxxyy := new(big.Int).Mul(edwardsD, new(big.Int).Mul(xx, yy))
	quotient := func(a, b *big.Int) *big.Int {
		b = new(big.Int).ModInverse(b.Mod(b, edwardsP), edwardsP)
		return a.Mod(a.Mul(a, b), edwardsP)
	}
	return quotient(new(big.Int).Lsh(xy, 1), new(big.Int).Add(one, dxxyy)),
		quotient(new(big.Int).Add(yy, xx), new(big.Int).Sub(one, dxxyy))
}
