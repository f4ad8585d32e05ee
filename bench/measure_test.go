//go:build unix

package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// Every system that is measured does renew: time and again, and from several
// sessions at once.
func TestSystemsRenew(t *testing.T) {
	for name, start := range map[string]func() (system, error){
		"limit":    func() (system, error) { return limitOf(renew.ES256) },
		"memstore": func() (system, error) { return onMemory(t.Context(), renew.ES256, 1<<10) },
		"by hand":  newByHand,
		"fosite":   onFosite,
		"zitadel":  onZitadel,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := start()
			require.NoError(t, err)
			defer s.close()
			c, err := newContender(t.Context(), s, 3, time.Millisecond)
			require.NoError(t, err)
			require.NoError(t, interleave(t.Context(), 3, c))
			require.Len(t, c.samples, 3)
			require.Positive(t, c.median(byWall))
		})
	}
}

// A renewal by hand rejects a used token, as a renewal must.
func TestByHandRefusesAUsedToken(t *testing.T) {
	h, err := newHand()
	require.NoError(t, err)
	_, first, err := h.issue("user")
	require.NoError(t, err)
	_, second, err := h.renew(first)
	require.NoError(t, err)
	_, _, err = h.renew(first)
	require.Error(t, err)
	_, _, err = h.renew(second)
	require.NoError(t, err)
}

// What README.md says of fosite: a used token ends the session, and every used
// token is kept.
func TestFositeIsWhatTheReadmeSays(t *testing.T) {
	provider, store, err := newFosite()
	require.NoError(t, err)
	first, err := fositeLogin(t.Context(), provider)
	require.NoError(t, err)
	last := first
	for range 10 {
		last, err = fositeRenew(t.Context(), provider, last)
		require.NoError(t, err)
	}
	require.Len(t, store.RefreshTokens, 11)
	_, err = fositeRenew(t.Context(), provider, first)
	require.Error(t, err)
	_, err = fositeRenew(t.Context(), provider, last)
	require.Error(t, err, "the session continues")
}

// What README.md says of zitadel/oidc: a used token is rejected and ends nothing.
func TestZitadelIsWhatTheReadmeSays(t *testing.T) {
	provider, store, err := newZitadel()
	require.NoError(t, err)
	first, err := zitadelLogin(t.Context(), store)
	require.NoError(t, err)
	second, err := zitadelRenew(t.Context(), provider, first)
	require.NoError(t, err)
	_, err = zitadelRenew(t.Context(), provider, first)
	require.Error(t, err)
	_, err = zitadelRenew(t.Context(), provider, second)
	require.NoError(t, err, "the session has ended")
}

func TestMedianAndPercentile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	require.InDelta(t, 3, median(values), 0)
	require.InDelta(t, 5, percentile(values, 99), 0)
	require.InDelta(t, 1, percentile(values, 0), 0)
	require.Zero(t, median(nil))
	require.Equal(t, []float64{5, 1, 4, 2, 3}, values, "the values stay in order")
}

// Ratios are taken round by round: a slow round slows both.
func TestRatioIsPaired(t *testing.T) {
	base := &contender{samples: []sample{{wall: 1}, {wall: 100}, {wall: 1}}}
	c := &contender{samples: []sample{{wall: 2}, {wall: 200}, {wall: 2}}}
	require.InDelta(t, 2, c.ratio(base, byWall), 0)
}

// Contenders take turns, and a failure ends the measurement.
func TestInterleave(t *testing.T) {
	var order []string
	make := func(name string) *contender {
		c, err := newContender(t.Context(), system{login: func(context.Context) (renewal, error) {
			return func(context.Context) error { order = append(order, name); return nil }, nil
		}}, 1, 0)
		require.NoError(t, err)
		return c
	}
	a, b := make("a"), make("b")
	order = nil
	require.NoError(t, interleave(t.Context(), 2, a, b))
	require.Equal(t, []string{"a", "b", "b", "a"}, order)
}

// A duration is written with the unit that its rounded value has.
func TestDuration(t *testing.T) {
	for ns, want := range map[float64]string{
		1234: "1.23 µs", 999_400: "999 µs", 999_600: "1 ms", 1_234_000: "1.23 ms", 999_400_000: "999 ms", 999_600_000: "1 s",
	} {
		require.Equal(t, want, duration(ns))
	}
}
