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

// renewing starts a session, and returns a renewal of it: each call uses up what
// the call before it returned.
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

// BenchmarkRejection measures what the clock tells about a rejected token, and the
// store call beside it: a forger's three forgeries should cost the same, and a
// genuine token of an unknown session what one of a known session costs.
func BenchmarkRejection(b *testing.B) {
	now := epoch
	store := memstore.New()
	require.NoError(b, store.CreateApp(b.Context(), renew.App{ID: "app_1", Issuer: "issuer_1"}))
	key, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(b, err)
	require.NoError(b, store.RotateSigningKey(b.Context(), "app_1", key, now))
	r, err := renew.New(store, store, renew.WithClock(func() time.Time { return now }), renew.WithReuseRevocation(false))
	require.NoError(b, err)
	issue := func() renew.Session {
		bundle, err := r.Issue(b.Context(), renew.IssueRequest{AppID: "app_1", Subject: "user", IP: testIP, UserAgent: testAgent})
		require.NoError(b, err)
		s, err := store.Session(b.Context(), "app_1", bundle.SessionID)
		require.NoError(b, err)
		return s
	}
	for range 10_000 {
		issue()
	}
	live, revoked := issue(), issue()
	require.NoError(b, r.RevokeSession(b.Context(), "app_1", revoked.ID))
	unknown, used := live, live
	unknown.ID, unknown.TokenID = unknownSession()
	_, used.TokenID = unknownSession()
	stranger, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(b, err)
	token := func(by *renew.SigningKey, s renew.Session) string {
		genuine := forge{key: key, issuer: "issuer_1", session: s}
		return forge{key: by}.sign(genuine.header().String(), genuine.claims().String())
	}
	for _, c := range []struct {
		name, token string
		reason      renew.Reason
	}{
		{"forged/live-session", token(stranger, live), renew.ReasonSignature},
		{"forged/revoked-session", token(stranger, revoked), renew.ReasonSignature},
		{"forged/unknown-session", token(stranger, unknown), renew.ReasonSignature},
		{"genuine/unknown-session", token(key, unknown), renew.ReasonUnknownSession},
		{"genuine/used-token", token(key, used), renew.ReasonSuperseded},
		{"genuine/revoked-session", token(key, revoked), renew.ReasonRevokedSession},
	} {
		b.Run(c.name, func(b *testing.B) {
			req := renew.RenewRequest{AppID: "app_1", RefreshToken: c.token, IP: testIP, UserAgent: testAgent}
			for b.Loop() {
				if _, err := r.Renew(b.Context(), req); err == nil {
					b.Fatal("renewed")
				}
			}
		})
	}
	for name, id := range map[string]string{"store/known-session": live.ID, "store/unknown-session": unknown.ID} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = store.Session(b.Context(), "app_1", id)
			}
		})
	}
}

// BenchmarkAuthenticateApp measures what the clock tells about an app key.
func BenchmarkAuthenticateApp(b *testing.B) {
	store := memstore.New()
	valid, hash := renew.NewAppKey()
	require.NoError(b, store.CreateApp(b.Context(), renew.App{ID: "app_1", Issuer: "issuer_1", KeyHashes: []renew.AppKeyHash{hash}}))
	r, err := renew.New(store, store)
	require.NoError(b, err)
	for _, c := range []struct{ name, appID, key string }{
		{"right", "app_1", valid},
		{"wrong-in-the-first-character", "app_1", "!" + valid[1:]},
		{"wrong-in-the-last-character", "app_1", valid[:42] + "!"},
		{"wrong-altogether", "app_1", strings.Repeat("0", len(valid))},
		{"unknown-app", "app_2", valid},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				_ = r.AuthenticateApp(b.Context(), c.appID, c.key)
			}
		})
	}
}
