package renew_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// The promise: both tokens of a pair are signed, or there is no pair. An EdDSA
// signer sees what it signs.
func TestSignerThatFailsForOneOfThePair(t *testing.T) {
	honest := generate(t, renew.EdDSA)
	for _, failing := range []struct {
		name    string
		refresh bool
	}{{"the auth token", false}, {"the refresh token", true}} {
		t.Run(failing.name, func(t *testing.T) {
			signer := &remoteSigner{Signer: honest.Signer()}
			key, err := renew.NewSigningKey(loadCorpus().keys["stranger"].ID, renew.EdDSA, signer)
			require.NoError(t, err)
			f := newFixture(t)
			require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
			first := f.issue()
			signer.sign = func(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
				_, payload, _ := strings.Cut(string(message), ".")
				claims, err := base64.RawURLEncoding.DecodeString(payload)
				if err != nil {
					return nil, err
				}
				if strings.Contains(string(claims), `"type":"refresh"`) == failing.refresh {
					return nil, errOutage
				}
				return honest.Signer().Sign(random, message, opts)
			}
			_, err = f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			require.ErrorIs(t, err, errOutage)
			signer.sign = nil
			f.renew(first)
		})
	}
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

// publicOnly is a signer that has a public key and never signs.
type publicOnly struct{ pub crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.pub }

func (p publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("not for signing")
}

func TestSignerThatFailsLeavesTheTokenValid(t *testing.T) {
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

// The promise: a pair costs one round trip to a remote signer. One that returns
// from no call before it has two of them could make no pair otherwise.
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

// The promise: a private key whose public half is another's is rejected when the
// key is made, wherever it is. It would sign away every session.
func TestHalvesThatDoNotBelongTogether(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) {
			one, other := generate(t, alg), generate(t, alg)
			var mixed crypto.Signer
			switch key := one.Signer().(type) {
			case *rsa.PrivateKey:
				wrong := *key
				wrong.PublicKey = other.Signer().(*rsa.PrivateKey).PublicKey
				mixed = &wrong
			case *ecdsa.PrivateKey:
				wrong := *key
				wrong.PublicKey = other.Signer().(*ecdsa.PrivateKey).PublicKey
				mixed = &wrong
			case ed25519.PrivateKey:
				mixed = ed25519.PrivateKey(append(key.Seed(), other.Signer().Public().(ed25519.PublicKey)...))
			}
			_, err := renew.NewSigningKey(one.KeyID(), alg, mixed)
			require.Error(t, err)

			elsewhere := &remoteSigner{Signer: other.Signer(), sign: one.Signer().Sign}
			_, err = renew.NewSigningKey(one.KeyID(), alg, elsewhere)
			require.ErrorContains(t, err, "does not match")
		})
	}
}

// The promise: a remote signer that hangs holds 64 goroutines and no more, and a
// caller waits for a place no longer than its context lasts.
func TestRemoteCallsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := &remoteSigner{Signer: generate(t, renew.EdDSA).Signer()}
		key, err := renew.NewSigningKey(ulid.Make().String(), renew.EdDSA, signer)
		require.NoError(t, err)
		f := newFixture(t)
		var sessions []*renew.Bundle
		for range 50 {
			sessions = append(sessions, f.issue())
		}
		require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
		var inFlight, most atomic.Int64
		release := make(chan struct{})
		signer.sign = func(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
			most.Store(max(most.Load(), inFlight.Add(1)))
			defer inFlight.Add(-1)
			<-release
			return signer.Signer.Sign(r, digest, o)
		}
		ctx, cancel := context.WithCancel(f.ctx)
		errs := make(chan error, len(sessions))
		for _, b := range sessions {
			go func() { _, err := f.Renew(ctx, f.request(b)); errs <- err }()
		}
		synctest.Wait()
		require.EqualValues(t, 64, inFlight.Load())
		cancel()
		for range sessions {
			require.ErrorIs(t, <-errs, context.Canceled)
		}
		require.EqualValues(t, 64, inFlight.Load(), "a call keeps its place until the signer returns")
		patience, done := context.WithTimeout(f.ctx, time.Second)
		defer done()
		_, err = f.Renew(patience, f.request(sessions[0]))
		require.ErrorIs(t, err, context.DeadlineExceeded)

		close(release)
		synctest.Wait()
		for _, b := range sessions {
			f.renew(b)
		}
		require.EqualValues(t, 64, most.Load())
	})
}
