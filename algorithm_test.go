package renew_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"io"
	"math/big"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

var algorithms = []renew.Algorithm{
	renew.RS256, renew.RS384, renew.RS512, renew.PS256, renew.PS384, renew.PS512,
	renew.ES256, renew.ES384, renew.ES512, renew.EdDSA,
}

func TestEveryAlgorithmRenewsWithAKeyInMemoryAndElsewhere(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			f := fixtureConfig{alg: alg}.new(t)
			b := f.renew(f.issue())
			require.Equal(t, string(alg), decodeSegment(t, b.AuthToken, 0)["alg"])
			got, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
			require.NoError(t, err)
			require.Equal(t, b.TokenID, got.TokenID)

			key, err := renew.GenerateSigningKey(alg)
			require.NoError(t, err)
			remote, err := renew.NewSigningKey(ulid.Make().String(), alg, &remoteSigner{Signer: key.Signer()})
			require.NoError(t, err)
			require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, remote, f.clock.Now()))
			b = f.renew(b)
			require.Equal(t, remote.VerificationKey().KeyID(), b.KeyID)
			f.renew(b)
		})
	}
}

func TestUnusableKeysAreRejectedWhenTheyAreMade(t *testing.T) {
	rsaKey := func(bits int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	edwards, edwardsPrivate, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	small := rsaKey(2048)
	small.E = 3
	even := rsaKey(2048)
	even.E = 65538
	offCurve := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	ecdhKey, err := p256.ECDH()
	require.NoError(t, err)
	id := ulid.Make().String()
	for _, c := range []struct {
		name, id string
		alg      renew.Algorithm
		pub      crypto.PublicKey
		says     string
	}{
		{"no key ID", "", renew.ES256, &p256.PublicKey, "key ID"},
		{"a key ID that is no ULID", "key-1", renew.ES256, &p256.PublicKey, "key ID"},
		{"a key ID in lower case", "01jmc6tcm1ch7nwg0e8a5sqthb", renew.ES256, &p256.PublicKey, "key ID"},
		{"a key ID over 128 bits", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", renew.ES256, &p256.PublicKey, "key ID"},
		{"no algorithm", id, "", &p256.PublicKey, "not supported"},
		{"none", id, "none", &p256.PublicKey, "not supported"},
		{"HMAC", id, "HS256", []byte("secret"), "not supported"},
		{"an RSA key of 2047 bits", id, renew.RS256, rsaKey(2047), "2047"},
		{"an RSA key of 8193 bits", id, renew.PS256, rsaKey(8193), "8193"},
		{"an RSA key with a small exponent", id, renew.RS256, small, "exponent"},
		{"an RSA key with an even exponent", id, renew.RS256, even, "exponent"},
		{"an empty RSA key", id, renew.RS256, &rsa.PublicKey{}, "empty"},
		{"a nil RSA key", id, renew.RS256, (*rsa.PublicKey)(nil), "empty"},
		{"RSA for ES256", id, renew.ES256, rsaKey(2048), "cannot be used with ES256"},
		{"RSA for EdDSA", id, renew.EdDSA, rsaKey(2048), "cannot be used with EdDSA"},
		{"P-384 for ES256", id, renew.ES256, &p384.PublicKey, "P-256"},
		{"P-256 for ES384", id, renew.ES384, &p256.PublicKey, "P-384"},
		{"P-256 for ES512", id, renew.ES512, &p256.PublicKey, "P-521"},
		{"P-224", id, renew.ES256, &p224.PublicKey, "P-256"},
		{"a nil ECDSA key", id, renew.ES256, (*ecdsa.PublicKey)(nil), "empty"},
		{"a point off its curve", id, renew.ES256, offCurve, ""},
		{"ECDSA for RS256", id, renew.RS256, &p256.PublicKey, "cannot be used with RS256"},
		{"ECDSA for EdDSA", id, renew.EdDSA, &p256.PublicKey, "cannot be used with EdDSA"},
		{"Ed25519 for ES256", id, renew.ES256, edwards, "cannot be used with ES256"},
		{"Ed25519 for PS256", id, renew.PS256, edwards, "cannot be used with PS256"},
		{"a short Ed25519 key", id, renew.EdDSA, edwards[:31], "31 bytes"},
		{"a private key for a public one", id, renew.EdDSA, edwardsPrivate, "not a valid key type for EdDSA"},
		{"an ECDH key", id, renew.ES256, ecdhKey.PublicKey(), "not a valid key type for ES256"},
		{"nil", id, renew.RS256, nil, "not a valid key type for RS256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := renew.NewVerificationKey(c.id, c.alg, c.pub)
			require.Nil(t, key)
			require.ErrorContains(t, err, c.says)
			signing, err := renew.NewSigningKey(c.id, c.alg, publicOnly{c.pub})
			require.Nil(t, signing)
			require.ErrorContains(t, err, c.says)
		})
	}
	t.Run("RSA keys of the fewest and the most bits are valid", func(t *testing.T) {
		for _, bits := range []int{2048, 8192} {
			_, err := renew.NewVerificationKey(id, renew.RS256, rsaKey(bits))
			require.NoError(t, err, bits)
		}
	})
	t.Run("a nil signer", func(t *testing.T) {
		_, err := renew.NewSigningKey(id, renew.ES256, nil)
		require.ErrorContains(t, err, "nil")
		_, err = renew.NewSigningKey(id, renew.ES256, (*ecdsa.PrivateKey)(nil))
		require.ErrorContains(t, err, "nil")
	})
	t.Run("an algorithm that cannot be generated", func(t *testing.T) {
		_, err := renew.GenerateSigningKey("HS256")
		require.ErrorContains(t, err, "not supported")
	})
}

// The promise: a key that anyone can sign for is not a key. The eight points of
// small order of Edwards25519 verify signatures that need no private key.
func TestEd25519KeysThatAnyoneCanSignFor(t *testing.T) {
	const zeros, ones = "00000000000000000000000000000000000000000000000000000000000000", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	for name, key := range map[string]string{
		"order 1":                                "01" + zeros,
		"order 2":                                "ec" + ones + "7f",
		"order 4":                                "00" + zeros,
		"order 4, the other x":                   "00" + zeros[2:] + "80",
		"order 8, a":                             "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"order 8, b":                             "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"order 8, c":                             "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"order 8, d":                             "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"order 1, not canonical: minus zero":     "01" + zeros[2:] + "80",
		"order 1, not canonical: y is p + 1":     "ee" + ones + "7f",
		"order 2, not canonical: minus zero":     "ec" + ones + "ff",
		"order 4, not canonical: y is p":         "ed" + ones + "7f",
		"order 4, not canonical: y is p, and -x": "ed" + ones + "ff",
		"order 1, not canonical twice":           "ee" + ones + "ff",
	} {
		t.Run(name, func(t *testing.T) {
			public, err := hex.DecodeString(key)
			require.NoError(t, err)
			_, err = renew.NewVerificationKey(ulid.Make().String(), renew.EdDSA, ed25519.PublicKey(public))
			require.ErrorContains(t, err, "Ed25519")
		})
	}
	t.Run("half of all y are not on the curve", func(t *testing.T) {
		rejected := 0
		for y := range 200 {
			public := make(ed25519.PublicKey, ed25519.PublicKeySize)
			public[0], public[1] = byte(y), 1
			// What the standard library cannot read verifies nothing; it says so only
			// in the error's text.
			unreadable := ed25519.VerifyWithOptions(public, nil, make([]byte, ed25519.SignatureSize), &ed25519.Options{}).Error() != "ed25519: invalid signature"
			_, err := renew.NewVerificationKey(ulid.Make().String(), renew.EdDSA, public)
			require.Equal(t, unreadable, err != nil, "y = 256 + %d: %v", y, err)
			if err != nil {
				rejected++
			}
		}
		require.Greater(t, rejected, 60)
		require.Less(t, rejected, 140)
	})
	t.Run("every generated key is valid", func(t *testing.T) {
		for range 200 {
			generate(t, renew.EdDSA)
		}
	})
}

func TestRSAKeysOfNoUse(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	even := new(big.Int).Sub(good.N, big.NewInt(1))
	for name, key := range map[string]*rsa.PublicKey{
		"a negative modulus":             {N: new(big.Int).Neg(good.N), E: good.E},
		"an even modulus":                {N: even, E: good.E},
		"an exponent beyond 31 bits":     {N: good.N, E: 1<<31 + 1},
		"an exponent of 1":               {N: good.N, E: 1},
		"a negative exponent":            {N: good.N, E: -65537},
		"an even exponent":               {N: good.N, E: 65538},
		"a modulus of zero":              {N: new(big.Int), E: good.E},
		"a negative modulus that is odd": {N: new(big.Int).Neg(new(big.Int).SetBit(even, 0, 1)), E: good.E},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := renew.NewVerificationKey(ulid.Make().String(), renew.RS256, key)
			require.ErrorContains(t, err, "the RSA key")
		})
	}
}

// hostileCurve cannot be compared.
type hostileCurve struct {
	elliptic.Curve
	_ []int
}

// panickingSigner is a signer with faults.
type panickingSigner struct{ public func() crypto.PublicKey }

func (p panickingSigner) Public() crypto.PublicKey { return p.public() }

func (p panickingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("sign") }

// The promise: no key that a caller can make by hand makes a constructor panic.
func TestNoConstructorPanics(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	publics := map[string]crypto.PublicKey{
		"an empty ECDSA key":             &ecdsa.PublicKey{},
		"an ECDSA key without a point":   &ecdsa.PublicKey{Curve: elliptic.P256()},
		"an ECDSA key with half a point": &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1)},
		"a negative point":               &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(-1), Y: big.NewInt(-1)},
		"a point beyond the field":       &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).Lsh(big.NewInt(1), 600), Y: big.NewInt(1)},
		"the point at infinity":          &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)},
		"a curve that has no methods":    &ecdsa.PublicKey{Curve: hostileCurve{}, X: big.NewInt(1), Y: big.NewInt(1)},
		"an empty RSA key":               &rsa.PublicKey{},
		"a nil Ed25519 key":              ed25519.PublicKey(nil),
		"a short Ed25519 key":            ed25519.PublicKey{1, 2, 3},
		"a pointer to an Ed25519 key":    &ed25519.PublicKey{},
		"a private key":                  p256,
		"nil":                            nil,
	}
	for name, public := range publics {
		for _, alg := range algorithms {
			_, err := renew.NewVerificationKey(ulid.Make().String(), alg, public)
			require.Error(t, err, "%s for %s", name, alg)
			_, err = renew.NewSigningKey(ulid.Make().String(), alg, panickingSigner{func() crypto.PublicKey { return public }})
			require.Error(t, err, "%s for %s", name, alg)
		}
	}
	for name, signer := range map[string]crypto.Signer{
		"a short Ed25519 private key": ed25519.PrivateKey{1, 2, 3},
		"a nil Ed25519 private key":   ed25519.PrivateKey(nil),
		"an empty ECDSA private key":  &ecdsa.PrivateKey{},
		"an empty RSA private key":    &rsa.PrivateKey{},
		"a nil RSA private key":       (*rsa.PrivateKey)(nil),
		"no public key":               panickingSigner{func() crypto.PublicKey { panic("public") }},
		"a panic":                     panickingSigner{func() crypto.PublicKey { return &p256.PublicKey }},
	} {
		for _, alg := range algorithms {
			_, err := renew.NewSigningKey(ulid.Make().String(), alg, signer)
			require.Error(t, err, "%s for %s", name, alg)
		}
	}
}
