package renew_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// limit returns what no renewal can do without: the verification of one
// signature and the making of two, by the standard library, for ES256.
func limit(b *testing.B) func() error {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	presented := sha256.Sum256([]byte("presented"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, presented[:])
	require.NoError(b, err)
	return func() error {
		if !ecdsa.VerifyASN1(&key.PublicKey, presented[:], signature) {
			return errors.New("the signature does not verify")
		}
		for range 2 {
			if _, err := ecdsa.SignASN1(rand.Reader, key, presented[:]); err != nil {
				return err
			}
		}
		return nil
	}
}

// newPlainRenewer returns a Renewer as a user makes one, on a memstore with
// app_1.
func newPlainRenewer(b *testing.B, alg renew.Algorithm) *renew.Renewer {
	b.Helper()
	store := memstore.New()
	key, err := renew.GenerateSigningKey(alg)
	require.NoError(b, err)
	require.NoError(b, store.CreateApp(b.Context(), renew.App{ID: "app_1", Issuer: "issuer_1"}))
	require.NoError(b, store.RotateSigningKey(b.Context(), "app_1", key, time.Now()))
	r, err := renew.New(store, store)
	require.NoError(b, err)
	return r
}

// plainIssue asks for a session whose custom claims are so many bytes of JSON;
// zero: none.
func plainIssue(claimBytes int) renew.IssueRequest {
	req := renew.IssueRequest{AppID: "app_1", Subject: "user@example.com", Audience: []string{"web"}, IP: testIP, UserAgent: testAgent}
	if claimBytes > 0 {
		req.Claims = map[string]any{"text": strings.Repeat("x", claimBytes-len(`{"text":""}`))}
	}
	return req
}

// renewing starts a session, and returns a renewal of it: each call spends what
// the call before it was given.
func renewing(ctx context.Context, r *renew.Renewer, req renew.IssueRequest) func() error {
	bundle, err := r.Issue(ctx, req)
	return func() error {
		if err != nil {
			return err
		}
		bundle, err = r.Renew(ctx, renew.RenewRequest{AppID: "app_1", RefreshToken: bundle.RefreshToken, IP: testIP, UserAgent: testAgent})
		return err
	}
}

func benchmark(b *testing.B, run func() error) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if err := run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLimit(b *testing.B) { benchmark(b, limit(b)) }

// BenchmarkRenewToLimit takes turns between the limit and a renewal, so that a
// busy machine slows both, and reports the median of the ratios.
func BenchmarkRenewToLimit(b *testing.B) {
	atLimit, renewal := limit(b), renewing(b.Context(), newPlainRenewer(b, renew.ES256), plainIssue(0))
	var ratios []float64
	benchmark(b, func() error {
		began := time.Now()
		err := atLimit()
		between := time.Now()
		err = errors.Join(err, renewal())
		ratios = append(ratios, float64(time.Since(between))/float64(between.Sub(began)))
		return err
	})
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "limits/renewal")
}

func BenchmarkRenew(b *testing.B) {
	for _, alg := range []renew.Algorithm{
		renew.ES256, renew.ES384, renew.ES512, renew.EdDSA,
		renew.RS256, renew.RS384, renew.RS512, renew.PS256, renew.PS384, renew.PS512,
	} {
		b.Run(string(alg), func(b *testing.B) {
			benchmark(b, renewing(b.Context(), newPlainRenewer(b, alg), plainIssue(0)))
		})
	}
}

// BenchmarkRenewParallel renews sessions of one app at once, one for each
// processor.
func BenchmarkRenewParallel(b *testing.B) {
	r := newPlainRenewer(b, renew.ES256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		run := renewing(b.Context(), r, plainIssue(0))
		for pb.Next() {
			if err := run(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkRenewWithClaims(b *testing.B) {
	for _, size := range []int{0, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			benchmark(b, renewing(b.Context(), newPlainRenewer(b, renew.ES256), plainIssue(size)))
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	r := newPlainRenewer(b, renew.ES256)
	benchmark(b, func() error {
		_, err := r.Issue(b.Context(), plainIssue(0))
		return err
	})
}

func BenchmarkVerifyAuthToken(b *testing.B) {
	r := newPlainRenewer(b, renew.ES256)
	bundle, err := r.Issue(b.Context(), plainIssue(0))
	require.NoError(b, err)
	benchmark(b, func() error {
		_, err := r.VerifyAuthToken(b.Context(), "app_1", bundle.AuthToken)
		return err
	})
}
