package renew_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"math/big"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

var algorithms = []renew.Algorithm{
	renew.RS256, renew.RS384, renew.RS512, renew.PS256, renew.PS384, renew.PS512,
	renew.ES256, renew.ES384, renew.ES512, renew.EdDSA,
}

// remoteSigner is a signer as a KMS gives one: it shows its public key, and
// signs by a function.
type remoteSigner struct {
	crypto.Signer
	sign func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error)
}

func (s *remoteSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.sign != nil {
		return s.sign(random, digest, opts)
	}
	return s.Signer.Sign(random, digest, opts)
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

func TestKeysOfNoUseAreRefusedWhenTheyAreMade(t *testing.T) {
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
	t.Run("RSA keys of the least and the most bits are good", func(t *testing.T) {
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

// publicOnly is a signer that has a public key and never signs.
type publicOnly struct{ pub crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.pub }

func (p publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("not for signing")
}

func TestSignerThatFailsLeavesTheTokenGood(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			honest, err := renew.GenerateSigningKey(alg)
			require.NoError(t, err)
			signer := &remoteSigner{Signer: honest.Signer()}
			key, err := renew.NewSigningKey(ulid.Make().String(), alg, signer)
			require.NoError(t, err)
			f := newFixture(t)
			require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
			first := f.issue()
			for _, c := range []struct {
				name string
				sign func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error)
				is   error
			}{
				{"an error", func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errOutage }, errOutage},
				{"no signature", func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }, nil},
				{"rubbish", func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return make([]byte, 64), nil }, nil},
				{"numbers larger than any curve", func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
					huge := new(big.Int).Lsh(big.NewInt(1), 1000)
					return asn1.Marshal(struct{ R, S *big.Int }{huge, huge})
				}, nil},
				{"a panic", func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("signer") }, nil},
				{"the end of its goroutine", func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { runtime.Goexit(); return nil, nil }, nil},
				{"a signature of something else", func(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
					wrong := append([]byte(nil), digest...)
					wrong[0] ^= 1
					return honest.Signer().Sign(r, wrong, o)
				}, nil},
			} {
				signer.sign = c.sign
				_, err := f.Renew(f.ctx, f.request(first))
				requireInternal(t, err)
				if c.is != nil {
					require.ErrorIs(t, err, c.is, c.name)
				}
				require.Equal(t, first.TokenID, f.session(first).TokenID, c.name)
			}
			signer.sign = nil
			f.renew(first)
		})
	}
}

// The promise: a private key that cannot sign is rejected when the key is made.
// The standard library panics for some of these.
func TestPrivateKeyWithoutItsSecret(t *testing.T) {
	for _, alg := range algorithms {
		var half crypto.Signer
		switch key := generate(t, alg).Signer().(type) {
		case *rsa.PrivateKey:
			half = &rsa.PrivateKey{PublicKey: key.PublicKey}
		case *ecdsa.PrivateKey:
			half = &ecdsa.PrivateKey{PublicKey: key.PublicKey}
		default: // an Ed25519 key is one text, and its public half a part of it
			continue
		}
		t.Run(string(alg), func(t *testing.T) {
			key, err := renew.NewSigningKey(ulid.Make().String(), alg, half)
			require.Nil(t, key)
			require.ErrorContains(t, err, "sign once")
		})
	}
}

func TestSignerThatBlocksEndsWithTheContext(t *testing.T) {
	honest, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(t, err)
	signer := &remoteSigner{Signer: honest.Signer()}
	key, err := renew.NewSigningKey(ulid.Make().String(), renew.ES256, signer)
	require.NoError(t, err)
	f := newFixture(t)
	require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
	first := f.issue()
	ctx, cancel := context.WithCancel(f.ctx)
	release := make(chan struct{})
	defer close(release)
	signer.sign = func(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
		cancel()
		<-release
		return nil, errors.New("too late")
	}
	_, err = f.Renew(ctx, f.request(first))
	requireInternal(t, err)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, first.TokenID, f.session(first).TokenID)
}

// The promise: a signer that is waited for is waited for once. One that answers
// no call before it has two of them could make no pair otherwise.
func TestRemoteSignerMakesBothSignaturesAtTheSameTime(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) {
			honest := generate(t, alg)
			signer := &remoteSigner{Signer: honest.Signer()}
			key, err := renew.NewSigningKey(ulid.Make().String(), alg, signer)
			require.NoError(t, err)
			f := newFixture(t)
			require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
			ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
			defer cancel()
			var pair sync.WaitGroup
			pair.Add(2)
			signer.sign = func(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
				pair.Done()
				pair.Wait()
				return honest.Signer().Sign(random, digest, opts)
			}
			_, err = f.Issue(ctx, f.issueRequest())
			require.NoError(t, err)
		})
	}
}

func TestContextThatIsDoneSignsNothing(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	ctx, cancel := context.WithCancel(f.ctx)
	f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
		defer cancel()
		return do()
	}
	f.hooks.calls()
	_, err := f.Renew(ctx, f.request(first))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, [4]int64{0, 1, 0, 0}, f.hooks.calls())
	f.hooks.session = nil
	f.renew(first)
}

func TestPSSSaltIsOfTheHashsLength(t *testing.T) {
	key, err := renew.GenerateSigningKey(renew.PS256)
	require.NoError(t, err)
	signer := &remoteSigner{Signer: key.Signer()}
	remote, err := renew.NewSigningKey(ulid.Make().String(), renew.PS256, signer)
	require.NoError(t, err)
	f := newFixture(t)
	require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, remote, f.clock.Now()))
	var asked atomic.Int64
	signer.sign = func(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
		asked.Store(int64(o.(*rsa.PSSOptions).SaltLength))
		return key.Signer().Sign(r, digest, o)
	}
	f.issue()
	require.Equal(t, int64(rsa.PSSSaltLengthEqualsHash), asked.Load())
	// A salt of another length is a valid PSS signature, and none of PS256.
	signer.sign = func(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
		return key.Signer().Sign(r, digest, &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
	}
	_, err = f.Issue(f.ctx, f.issueRequest())
	requireInternal(t, err)
}

func TestVerificationKeyForms(t *testing.T) {
	key, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(t, err)
	v := key.VerificationKey()
	require.Equal(t, renew.ES256, v.Algorithm())
	require.Equal(t, key.Signer().Public(), v.Public())
	pem, err := base64.StdEncoding.DecodeString(v.PublicKey())
	require.NoError(t, err)
	require.Regexp(t, `^-----BEGIN PUBLIC KEY-----\n`, string(pem))
	jwk := v.JWK()
	require.True(t, jwk.Valid())
	require.Equal(t, []string{v.KeyID(), "ES256", "sig"}, []string{jwk.KeyID, jwk.Algorithm, jwk.Use})
}

func TestAppKeys(t *testing.T) {
	one, hash := renew.NewAppKey()
	two, _ := renew.NewAppKey()
	require.NotEqual(t, one, two)
	again, err := renew.HashAppKey(one)
	require.NoError(t, err)
	require.Equal(t, hash, again)
	secret, err := base64.RawURLEncoding.DecodeString(one)
	require.NoError(t, err)
	require.Len(t, secret, 32)
}

func TestAppSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*renew.App)
		says string // empty: good
	}{
		{"defaults", func(*renew.App) {}, ""},
		{"no ID", func(a *renew.App) { a.ID = "" }, "ID is required"},
		{"no issuer", func(a *renew.App) { a.Issuer = "" }, "Issuer is required"},
		{"an ID with a control character", func(a *renew.App) { a.ID = "a\n" }, "ID has a control character"},
		{"a negative life", func(a *renew.App) { a.AuthTTL = -time.Second }, "AuthTTL"},
		{"a life of a fraction", func(a *renew.App) { a.RefreshTTL = 1500 * time.Millisecond }, "RefreshTTL"},
		{"a session of a fraction", func(a *renew.App) { a.SessionTTL = time.Nanosecond }, "SessionTTL"},
		{"an auth token that is never good", func(a *renew.App) { a.AuthNotBefore = time.Hour }, "AuthNotBefore"},
		{"an auth token that is good for a second", func(a *renew.App) { a.AuthNotBefore = time.Hour - time.Second }, ""},
		{"a refresh token that is never good", func(a *renew.App) { a.RefreshTTL, a.RefreshNotBefore = 2*time.Hour, 2*time.Hour }, "RefreshNotBefore"},
		{"a refresh token that is good for a second", func(a *renew.App) { a.RefreshTTL, a.RefreshNotBefore = 2*time.Hour, 2*time.Hour-time.Second }, ""},
		{"a refresh token that lives no longer than the auth token", func(a *renew.App) { a.AuthTTL, a.RefreshTTL = time.Hour, time.Hour }, "RefreshTTL"},
		{"a long auth token with the default refresh token", func(a *renew.App) { a.AuthTTL = 24 * time.Hour }, ""},
		{"the longest auth token", func(a *renew.App) { a.AuthTTL = math.MaxInt64 / time.Second * time.Second }, "RefreshTTL"},
		{"half of it", func(a *renew.App) { a.AuthTTL = math.MaxInt64 / 2 / time.Second * time.Second }, ""},
		{"a session that is over before its auth token is valid", func(a *renew.App) { a.AuthNotBefore, a.SessionTTL = time.Minute, time.Minute }, "SessionTTL"},
		{"a negative number of sessions", func(a *renew.App) { a.MaxSessions = -1 }, "MaxSessions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := renew.App{ID: "app", Issuer: "issuer"}
			c.edit(&a)
			err := a.Validate()
			if c.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}
