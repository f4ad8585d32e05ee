package renew_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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
