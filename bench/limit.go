//go:build unix

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/jwtrenew/renew"
)

// algorithms are all of them, with the hash that each signs.
var algorithms = []struct {
	name renew.Algorithm
	hash crypto.Hash
}{
	{renew.ES256, crypto.SHA256},
	{renew.ES384, crypto.SHA384},
	{renew.ES512, crypto.SHA512},
	{renew.EdDSA, 0},
	{renew.RS256, crypto.SHA256},
	{renew.RS384, crypto.SHA384},
	{renew.RS512, crypto.SHA512},
	{renew.PS256, crypto.SHA256},
	{renew.PS384, crypto.SHA384},
	{renew.PS512, crypto.SHA512},
}

// limitOf is what no renewal can do without: one signature to verify and two to
// make, by the standard library, of digests that are there already. It is the
// least that any library can take, and no renewal.
func limitOf(alg renew.Algorithm) (system, error) { return limitWith(alg, 0, oneAfterTheOther) }

func oneAfterTheOther(sign func() error) error { return errors.Join(sign(), sign()) }

func atTheSameTime(sign func() error) error {
	other := make(chan error, 1)
	go func() { other <- sign() }()
	return errors.Join(sign(), <-other)
}

// largeClaims is the most that custom claims may take, in bytes of JSON.
const largeClaims = 16 << 10

// limitWithClaims is the limit of a renewal whose auth token has so many bytes of
// custom claims: they are encoded and hashed once.
func limitWithClaims(alg renew.Algorithm, bytes int) (system, error) {
	limit, err := limitOf(alg)
	if err != nil {
		return system{}, err
	}
	payload := make([]byte, bytes)
	once, err := limit.login(context.Background())
	limit.name += ", with claims"
	limit.login = func(context.Context) (renewal, error) {
		return func(ctx context.Context) error {
			sha256.Sum256(base64.RawURLEncoding.AppendEncode(nil, payload))
			return once(ctx)
		}, err
	}
	return limit, err
}

// limitWith has the two signatures made as twice does, by a signer that is so far
// away.
func limitWith(alg renew.Algorithm, away time.Duration, twice func(sign func() error) error) (system, error) {
	key, err := renew.GenerateSigningKey(alg)
	if err != nil {
		return system{}, err
	}
	sign, verify, err := primitives(alg, key.Signer())
	if err != nil {
		return system{}, err
	}
	signature, err := sign()
	if err != nil {
		return system{}, err
	}
	signOnce := func() error {
		if away > 0 {
			time.Sleep(away)
		}
		_, err := sign()
		return err
	}
	once := func(context.Context) error {
		if !verify(signature) {
			return errors.New("limit: the signature does not verify")
		}
		return twice(signOnce)
	}
	return system{
		name:  "limit: verify and two signs, standard library",
		login: func(context.Context) (renewal, error) { return once, nil },
	}, nil
}

// primitives sign one message of 200 bytes, and verify its signature.
func primitives(alg renew.Algorithm, signer crypto.Signer) (sign func() ([]byte, error), verify func([]byte) bool, err error) {
	var hash crypto.Hash
	for _, a := range algorithms {
		if a.name == alg {
			hash = a.hash
		}
	}
	digest := make([]byte, 200)
	if hash != 0 {
		digest = digest[:hash.Size()]
	}
	var opts crypto.SignerOpts = hash
	pss := alg[0] == 'P'
	if pss {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	sign = func() ([]byte, error) { return signer.Sign(rand.Reader, digest, opts) }
	switch pub := signer.Public().(type) {
	case *ecdsa.PublicKey:
		verify = func(signature []byte) bool { return ecdsa.VerifyASN1(pub, digest, signature) }
	case ed25519.PublicKey:
		verify = func(signature []byte) bool { return ed25519.Verify(pub, digest, signature) }
	case *rsa.PublicKey:
		verify = func(signature []byte) bool {
			if pss {
				return rsa.VerifyPSS(pub, hash, digest, signature, opts.(*rsa.PSSOptions)) == nil
			}
			return rsa.VerifyPKCS1v15(pub, hash, digest, signature) == nil
		}
	default:
		return nil, nil, fmt.Errorf("limit: a %T is not a key", pub)
	}
	return sign, verify, nil
}
