package renew_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"io"
	"math"
	"math/big"
	"slices"
	"strings"
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
	points := map[string]string{
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
	}
	for name, key := range points {
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
	t.Run("the canonical ones verify what no one has signed", func(t *testing.T) {
		// R is the neutral point and S is zero, which one hash in eight, or more,
		// makes a signature of a point of small order.
		signature := append([]byte{1}, make([]byte, 63)...)
		for name, encoded := range points {
			if strings.Contains(name, "not canonical") {
				continue
			}
			key, err := hex.DecodeString(encoded)
			require.NoError(t, err)
			forged := false
			for i := range 1000 {
				forged = forged || ed25519.Verify(key, []byte{byte(i), byte(i >> 8)}, signature)
			}
			require.True(t, forged, name)
		}
	})
	t.Run("no encoding is read that is not canonical", func(t *testing.T) {
		// y from p to 2^255-1, with both signs: some are points of the curve for
		// a reader that reduces y.
		for last := range 19 {
			for _, sign := range []byte{0x7f, 0xff} {
				key := bytes.Repeat([]byte{0xff}, ed25519.PublicKeySize)
				key[0], key[31] = byte(0xed+last), sign
				_, err := renew.NewVerificationKey(ulid.Make().String(), renew.EdDSA, ed25519.PublicKey(key))
				require.ErrorContains(t, err, "Ed25519", "%x", key)
			}
		}
	})
	t.Run("every generated key is valid", func(t *testing.T) {
		for range 200 {
			generate(t, renew.EdDSA)
		}
	})
}

// panickingSigner is a signer with faults.
type panickingSigner struct{ public func() crypto.PublicKey }

func (p panickingSigner) Public() crypto.PublicKey { return p.public() }

func (p panickingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("sign") }

// panickingCurve is a curve that cannot be compared and does nothing.
type panickingCurve struct {
	elliptic.Curve
	_ []int
}

// The promise: no constructor panics, whatever a key made by hand looks like, and
// none of these is a key.
func TestKeysMadeByHand(t *testing.T) {
	rsaKey := generate(t, renew.RS256).Signer().(*rsa.PrivateKey)
	ecKey := generate(t, renew.ES256).Signer().(*ecdsa.PrivateKey)
	other := generate(t, renew.ES256).Signer().(*ecdsa.PrivateKey)
	edKey := generate(t, renew.EdDSA).Signer().(ed25519.PrivateKey)
	otherEd := generate(t, renew.EdDSA).Signer().(ed25519.PrivateKey)
	otherRSA := generate(t, renew.RS256).Signer().(*rsa.PrivateKey)
	withN := func(change func(n *big.Int) *big.Int) *rsa.PublicKey {
		return &rsa.PublicKey{N: change(new(big.Int).Set(rsaKey.N)), E: 65537}
	}
	withE := func(e int) *rsa.PublicKey { return &rsa.PublicKey{N: rsaKey.N, E: e} }
	xy := func(x, y *big.Int) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y} }
	p := elliptic.P256().Params().P
	public := map[string]struct {
		alg renew.Algorithm
		pub crypto.PublicKey
	}{
		"nil":                          {renew.RS256, nil},
		"RSA: nil":                     {renew.RS256, (*rsa.PublicKey)(nil)},
		"RSA: empty":                   {renew.RS256, &rsa.PublicKey{}},
		"RSA: no modulus":              {renew.PS256, &rsa.PublicKey{E: 65537}},
		"RSA: zero":                    {renew.RS256, &rsa.PublicKey{N: new(big.Int), E: 65537}},
		"RSA: even":                    {renew.RS256, withN(func(n *big.Int) *big.Int { return n.SetBit(n, 0, 0) })},
		"RSA: negative":                {renew.RS256, withN(func(n *big.Int) *big.Int { return n.Neg(n) })},
		"RSA: too long":                {renew.RS256, withN(func(n *big.Int) *big.Int { return n.SetBit(n, 8192, 1) })},
		"RSA: a power of two":          {renew.RS256, withN(func(n *big.Int) *big.Int { return n.Lsh(big.NewInt(1), 2047) })},
		"RSA: exponent zero":           {renew.RS256, withE(0)},
		"RSA: exponent one":            {renew.RS256, withE(1)},
		"RSA: exponent three":          {renew.RS256, withE(3)},
		"RSA: exponent even":           {renew.RS256, withE(65538)},
		"RSA: exponent negative":       {renew.RS256, withE(-65537)},
		"RSA: exponent over 31 bits":   {renew.RS256, withE(1<<31 + 1)},
		"RSA: exponent over 32 bits":   {renew.RS256, withE(1<<32 + 1)},
		"RSA: exponent the greatest":   {renew.RS256, withE(math.MaxInt)},
		"RSA: a value":                 {renew.RS256, rsaKey.PublicKey},
		"ECDSA: nil":                   {renew.ES256, (*ecdsa.PublicKey)(nil)},
		"ECDSA: empty":                 {renew.ES256, &ecdsa.PublicKey{}},
		"ECDSA: no numbers":            {renew.ES256, xy(nil, nil)},
		"ECDSA: no y":                  {renew.ES256, xy(ecKey.X, nil)},
		"ECDSA: no curve":              {renew.ES256, &ecdsa.PublicKey{X: ecKey.X, Y: ecKey.Y}},
		"ECDSA: the point at infinity": {renew.ES256, xy(new(big.Int), new(big.Int))},
		"ECDSA: off the curve":         {renew.ES256, xy(ecKey.X, new(big.Int).Add(ecKey.Y, big.NewInt(1)))},
		"ECDSA: negative":              {renew.ES256, xy(ecKey.X, new(big.Int).Neg(ecKey.Y))},
		"ECDSA: over the field":        {renew.ES256, xy(ecKey.X, new(big.Int).Add(ecKey.Y, p))},
		"ECDSA: huge":                  {renew.ES256, xy(new(big.Int).Lsh(big.NewInt(1), 9999), ecKey.Y)},
		"ECDSA: another curve":         {renew.ES256, &ecdsa.PublicKey{Curve: elliptic.P384(), X: ecKey.X, Y: ecKey.Y}},
		"ECDSA: a curve made by hand":  {renew.ES256, &ecdsa.PublicKey{Curve: elliptic.P256().Params(), X: ecKey.X, Y: ecKey.Y}},
		"ECDSA: an empty curve":        {renew.ES256, &ecdsa.PublicKey{Curve: &elliptic.CurveParams{}, X: ecKey.X, Y: ecKey.Y}},
		"ECDSA: an incomparable curve": {renew.ES256, &ecdsa.PublicKey{Curve: panickingCurve{}, X: ecKey.X, Y: ecKey.Y}},
		"ECDSA: a value":               {renew.ES256, ecKey.PublicKey},
		"Ed25519: nil":                 {renew.EdDSA, ed25519.PublicKey(nil)},
		"Ed25519: empty":               {renew.EdDSA, ed25519.PublicKey{}},
		"Ed25519: short":               {renew.EdDSA, ed25519.PublicKey(edKey[32:63])},
		"Ed25519: long":                {renew.EdDSA, ed25519.PublicKey(edKey[31:64])},
		"Ed25519: zeros":               {renew.EdDSA, make(ed25519.PublicKey, 32)},
		"Ed25519: a pointer":           {renew.EdDSA, &ed25519.PublicKey{}},
		"a private key":                {renew.ES256, ecKey},
		"Ed25519: a slice":             {renew.EdDSA, []byte(edKey[32:])},
		"a secret":                     {renew.ES256, []byte("secret")},
		"a text":                       {renew.ES256, "secret"},
		"a type that wraps one":        {renew.EdDSA, struct{ ed25519.PublicKey }{}},
	}
	id := ulid.Make().String()
	for name, c := range public {
		t.Run("public, "+name, func(t *testing.T) {
			for _, alg := range algorithms {
				v, err := renew.NewVerificationKey(id, alg, c.pub)
				require.Nil(t, v)
				require.Error(t, err)
				k, err := renew.NewSigningKey(id, alg, publicOnly{c.pub})
				require.Nil(t, k)
				require.Error(t, err)
			}
			if prefix, _, typed := strings.Cut(name, ":"); typed {
				_, err := renew.NewVerificationKey(id, c.alg, c.pub)
				require.Regexp(t, prefix+"|malformed|valid key type", err.Error())
			}
		})
	}
	half := slices.Concat(edKey[:32], otherEd[32:])
	for name, c := range map[string]struct {
		alg    renew.Algorithm
		signer crypto.Signer
	}{
		"nil":                       {renew.ES256, nil},
		"RSA: nil":                  {renew.RS256, (*rsa.PrivateKey)(nil)},
		"RSA: empty":                {renew.RS256, &rsa.PrivateKey{}},
		"RSA: another's public key": {renew.RS256, &rsa.PrivateKey{PublicKey: otherRSA.PublicKey, D: rsaKey.D, Primes: rsaKey.Primes}},
		"RSA: no primes":            {renew.PS256, &rsa.PrivateKey{PublicKey: rsaKey.PublicKey}},
		"RSA: primes that are nil":  {renew.RS256, &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: rsaKey.D, Primes: []*big.Int{nil, nil}}},
		"RSA: D negative":           {renew.RS256, &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: new(big.Int).Neg(rsaKey.D), Primes: rsaKey.Primes}},
		"RSA: primes negative":      {renew.RS256, &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: rsaKey.D, Primes: negated(rsaKey.Primes)}},
		"RSA: primes nil":           {renew.RS256, &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: new(big.Int).Neg(rsaKey.D)}},
		"ECDSA: nil":                {renew.ES256, (*ecdsa.PrivateKey)(nil)},
		"ECDSA: empty":              {renew.ES256, &ecdsa.PrivateKey{}},
		"ECDSA: another's":          {renew.ES256, &ecdsa.PrivateKey{PublicKey: other.PublicKey, D: ecKey.D}},
		"ECDSA: no number":          {renew.ES256, &ecdsa.PrivateKey{PublicKey: ecKey.PublicKey}},
		"ECDSA: zero":               {renew.ES256, &ecdsa.PrivateKey{PublicKey: ecKey.PublicKey, D: new(big.Int)}},
		"ECDSA: negative":           {renew.ES256, &ecdsa.PrivateKey{PublicKey: ecKey.PublicKey, D: new(big.Int).Neg(ecKey.D)}},
		"ECDSA: over the order":     {renew.ES256, &ecdsa.PrivateKey{PublicKey: ecKey.PublicKey, D: new(big.Int).Add(ecKey.D, elliptic.P256().Params().N)}},
		"Ed25519: nil":              {renew.EdDSA, ed25519.PrivateKey(nil)},
		"Ed25519: empty":            {renew.EdDSA, ed25519.PrivateKey{}},
		"Ed25519: its seed":         {renew.EdDSA, edKey[:32]},
		"Ed25519: a byte short":     {renew.EdDSA, edKey[:63]},
		"Ed25519: a byte long":      {renew.EdDSA, append(slices.Clone(edKey), 0)},
		"Ed25519: another's":        {renew.EdDSA, half},
		"a signer of another key":   {renew.ES256, &remoteSigner{Signer: ecKey, sign: other.Sign}},
		"a signer that panics":      {renew.ES256, &remoteSigner{Signer: ecKey, sign: func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("x") }}},
		"a signer whose key panics": {renew.ES256, panickingSigner{func() crypto.PublicKey { panic("public") }}},
		"a signer that signs never": {renew.ES256, panickingSigner{func() crypto.PublicKey { return &ecKey.PublicKey }}},
		"a signer without a key":    {renew.ES256, &remoteSigner{}},
	} {
		t.Run("private, "+name, func(t *testing.T) {
			for _, alg := range append(slices.Clone(algorithms), c.alg) {
				k, err := renew.NewSigningKey(id, alg, c.signer)
				require.Nil(t, k)
				require.Error(t, err)
			}
		})
	}
}

func negated(numbers []*big.Int) []*big.Int {
	negative := make([]*big.Int, len(numbers))
	for i, n := range numbers {
		negative[i] = new(big.Int).Neg(n)
	}
	return negative
}
