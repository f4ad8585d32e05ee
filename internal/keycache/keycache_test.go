package keycache_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/keycache"
)

var errAway = errors.New("the database is away")

func cache(c keycache.Config) *keycache.Cache[string, int] {
	c.Store, c.Timeout = "test", time.Minute
	return keycache.New[string, int](c, &keycache.Outage{})
}

// The promise: limits may be as long as a Duration can be. Their sum is longer.
func TestLongestLimits(t *testing.T) {
	for name, c := range map[string]keycache.Config{
		"an outage without end":    {Interval: 5 * time.Second, OutageLimit: math.MaxInt64},
		"an interval without end":  {Interval: math.MaxInt64, OutageLimit: 15 * time.Minute},
		"both":                     {Interval: math.MaxInt64, OutageLimit: math.MaxInt64},
		"an outage of 100 years":   {Interval: time.Second, OutageLimit: 100 * 365 * 24 * time.Hour},
		"an interval of 200 years": {Interval: 200 * 365 * 24 * time.Hour, OutageLimit: 200 * 365 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			c.Now = func() time.Time { return now }
			known := cache(c)
			value, err := known.Get(t.Context(), "app", func(context.Context) (int, error) { return 7, nil })
			require.NoError(t, err)
			require.Equal(t, 7, value)
			now = now.Add(24 * time.Hour)
			value, err = known.Get(t.Context(), "app", func(context.Context) (int, error) { return 0, errAway })
			require.NoError(t, err)
			require.Equal(t, 7, value)
		})
	}
}

// The promise: a panic of what reads, which runs in a goroutine of this package, is an
// error, for all who wait, and an outage for what is known. It does not end the
// process.
func TestReadThatPanics(t *testing.T) {
	now := time.Now()
	known := cache(keycache.Config{Interval: time.Second, OutageLimit: time.Minute, Now: func() time.Time { return now }})
	panics := func(context.Context) (int, error) { panic("a driver's bug") }
	_, err := known.Get(t.Context(), "app", panics)
	require.ErrorContains(t, err, "panicked: a driver's bug")
	value, err := known.Get(t.Context(), "app", func(context.Context) (int, error) { return 7, nil })
	require.NoError(t, err)
	require.Equal(t, 7, value)
	now = now.Add(2 * time.Second)
	value, err = known.Get(t.Context(), "app", panics)
	require.NoError(t, err)
	require.Equal(t, 7, value)
}
