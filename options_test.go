package renew_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func TestNewRejectsInvalidOptions(t *testing.T) {
	store := memstore.New()
	var noStore *memstore.Store
	for _, c := range []struct {
		name   string
		keys   renew.KeyStore
		tokens renew.TokenStore
		opt    renew.Option
		says   string
	}{
		{name: "no key store", tokens: store, says: "nil KeyStore or TokenStore"},
		{name: "no token store", keys: store, says: "nil KeyStore or TokenStore"},
		{name: "a nil pointer for a key store", keys: noStore, tokens: store, says: "nil KeyStore or TokenStore"},
		{name: "a nil pointer for a token store", keys: store, tokens: noStore, says: "nil KeyStore or TokenStore"},
		{name: "no option", keys: store, tokens: store, opt: nil, says: "option is nil"},
		{name: "no clock", keys: store, tokens: store, opt: renew.WithClock(nil), says: "WithClock"},
		{name: "a negative leeway", keys: store, tokens: store, opt: renew.WithLeeway(-1), says: "WithLeeway"},
		{name: "a leeway of a whole lifetime", keys: store, tokens: store, opt: renew.WithLeeway(renew.DefaultAuthTTL), says: "WithLeeway"},
		{name: "a negative retry window", keys: store, tokens: store, opt: renew.WithRetryWindow(-1), says: "WithRetryWindow"},
		{name: "a negative reuse leeway", keys: store, tokens: store, opt: renew.WithReuseLeeway(-1), says: "WithReuseLeeway"},
		{name: "no renew func", keys: store, tokens: store, opt: renew.WithRenewFunc(nil), says: "WithRenewFunc"},
		{name: "no event func", keys: store, tokens: store, opt: renew.WithEventFunc(nil), says: "WithEventFunc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := renew.New(c.keys, c.tokens, c.opt)
			require.Nil(t, r)
			require.ErrorContains(t, err, "renew.New: ")
			require.ErrorContains(t, err, c.says)
		})
	}
}

// The zero value of an option does what its default is documented to do, except
// the reuse leeway; see TestUsedTokenWithinTheReuseLeewayIsOnlyRejected
// for that.
func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []renew.Option
	}{
		{name: "left out"},
		{name: "zero", opts: []renew.Option{renew.WithLeeway(0), renew.WithRetryWindow(0), renew.WithReuseRevocation(true)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.opts...)
			first := f.issue()
			start := epoch.Truncate(time.Second)
			require.Equal(t, start.Add(time.Hour), first.AuthExpiresAt)
			require.Equal(t, start.Add(3*time.Hour), first.RefreshExpiresAt)
			require.Equal(t, start, first.RefreshNotBefore)
			require.Zero(t, f.session(first).EndsAt)

			f.renew(first)
			f.rejected(first, renew.ReasonSuperseded) // no retry window, at an age of zero

			other := f.issue()
			f.clock.Move(other.RefreshExpiresAt.Sub(f.clock.Now()))
			f.rejected(other, renew.ReasonExpired) // no leeway

			used := f.issue()
			f.renew(used)
			f.clock.Move(time.Minute)
			f.rejected(used, renew.ReasonReused)
			require.False(t, f.session(used).RevokedAt.IsZero())
		})
	}
	t.Run("the clock is time.Now", func(t *testing.T) {
		f := newFixture(t)
		r, err := renew.New(f.store, f.store)
		require.NoError(t, err)
		before := time.Now().Truncate(time.Second)
		b, err := r.Issue(f.ctx, f.issueRequest())
		require.NoError(t, err)
		require.False(t, b.RefreshNotBefore.Before(before))
		require.False(t, b.RefreshNotBefore.After(time.Now()))
	})
}
