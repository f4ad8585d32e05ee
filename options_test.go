package renew_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

func TestNewRefusesNonsense(t *testing.T) {
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

// What an option's zero value does is what the default is documented to do, the
// reuse leeway's 10 s apart; see TestUsedTokenWithinTheReuseLeewayIsRefusedOnly
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

func TestRequestsOfWrongForm(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	type change func(*renew.IssueRequest, *renew.RenewRequest)
	for _, c := range []struct {
		name  string
		field string
		edit  change
		issue bool // Issue has the field
		renew bool // Renew has it
	}{
		{"no app", "app_id", func(i *renew.IssueRequest, r *renew.RenewRequest) { i.AppID, r.AppID = "", "" }, true, true},
		{"a long app ID", "app_id", func(i *renew.IssueRequest, r *renew.RenewRequest) { i.AppID, r.AppID = long(256), long(256) }, true, true},
		{"an app ID that is not UTF-8", "app_id", func(i *renew.IssueRequest, r *renew.RenewRequest) { i.AppID, r.AppID = "\xff", "\xff" }, true, true},
		{"no subject", "sub", func(i *renew.IssueRequest, _ *renew.RenewRequest) { i.Subject = "" }, true, false},
		{"a long subject", "sub", func(i *renew.IssueRequest, _ *renew.RenewRequest) { i.Subject = long(256) }, true, false},
		{"a subject with a control character", "sub", func(i *renew.IssueRequest, _ *renew.RenewRequest) { i.Subject = "a\x00b" }, true, false},
		{"an empty audience", "aud", func(i *renew.IssueRequest, _ *renew.RenewRequest) { i.Audience = []string{"a", ""} }, true, false},
		{"a long audience", "aud", func(i *renew.IssueRequest, _ *renew.RenewRequest) { i.Audience = []string{long(2048), long(2049)} }, true, false},
		{"no token", "refresh_token", func(_ *renew.IssueRequest, r *renew.RenewRequest) { r.RefreshToken = "" }, false, true},
		{"no IP address", "ip", func(i *renew.IssueRequest, r *renew.RenewRequest) { i.IP, r.IP = "", "" }, true, true},
		{"an IP address with a port", "ip", func(i *renew.IssueRequest, r *renew.RenewRequest) { i.IP, r.IP = "1.1.1.1:80", "1.1.1.1:80" }, true, true},
		{"an IP address with a zone", "ip", func(i *renew.IssueRequest, r *renew.RenewRequest) { i.IP, r.IP = "fe80::1%eth0", "fe80::1%eth0" }, true, true},
		{"a short idempotency key", "Idempotency-Key", func(_ *renew.IssueRequest, r *renew.RenewRequest) { r.IdempotencyKey = long(15) }, false, true},
		{"a long idempotency key", "Idempotency-Key", func(_ *renew.IssueRequest, r *renew.RenewRequest) { r.IdempotencyKey = long(256) }, false, true},
		{"an idempotency key with a space", "Idempotency-Key", func(_ *renew.IssueRequest, r *renew.RenewRequest) { r.IdempotencyKey = long(16) + " x" }, false, true},
		{"an idempotency key with a letter beyond ASCII", "Idempotency-Key", func(_ *renew.IssueRequest, r *renew.RenewRequest) { r.IdempotencyKey = long(16) + "é" }, false, true},
		{"a reserved claim", "claims", func(i *renew.IssueRequest, _ *renew.RenewRequest) { i.Claims = map[string]any{"jti": 1} }, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			issue, again := f.issueRequest(), f.request(f.issue())
			f.hooks.calls()
			f.events.take()
			c.edit(&issue, &again)
			check := func(err error) {
				var invalid *renew.ValidationError
				require.ErrorAs(t, err, &invalid)
				require.Len(t, invalid.Fields, 1)
				require.Equal(t, c.field, invalid.Fields[0].Field)
				require.NotEmpty(t, invalid.Fields[0].Message)
			}
			if c.issue {
				_, err := f.Issue(f.ctx, issue)
				check(err)
			}
			if c.renew {
				_, err := f.Renew(f.ctx, again)
				check(err)
			}
			require.Equal(t, [4]int64{}, f.hooks.calls(), "a request of wrong form must not reach the store")
			require.Empty(t, f.events.take())
		})
	}
	t.Run("all that is wrong is said at once, in order", func(t *testing.T) {
		f := newFixture(t)
		_, err := f.Renew(f.ctx, renew.RenewRequest{IdempotencyKey: "x"})
		require.EqualError(t, err, "invalid request: app_id is required; refresh_token is required; ip is required; "+
			"Idempotency-Key must be 16 to 255 characters long")
	})
	t.Run("the limits themselves are good", func(t *testing.T) {
		f := newFixture(t)
		req := f.issueRequest()
		req.Subject, req.UserAgent = long(255), long(1024)
		req.Audience = []string{long(2048), long(2048)}
		b, err := f.Issue(f.ctx, req)
		require.NoError(t, err)
		again := f.request(b)
		again.IP, again.UserAgent, again.IdempotencyKey = "2001:db8::1", "Ünïcode "+long(1000), long(255)
		b, err = f.Renew(f.ctx, again)
		require.NoError(t, err)
		require.Equal(t, "2001:db8::1", claims(t, b.AuthToken)["ip"])
	})
}

func TestUnknownApp(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	for name, appID := range map[string]string{"unknown": "app_9", "ill-formed": "a\nb", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, appID, f.appKey), renew.ErrAppNotFound)
			_, err := f.VerifyAuthToken(f.ctx, appID, b.AuthToken)
			require.ErrorIs(t, err, renew.ErrAppNotFound)
			require.ErrorIs(t, f.Revoke(f.ctx, appID, b.AuthToken), renew.ErrAppNotFound)
			_, err = f.KeySet(f.ctx, appID)
			require.ErrorIs(t, err, renew.ErrAppNotFound)
			if name == "unknown" {
				_, err = f.Issue(f.ctx, renew.IssueRequest{AppID: appID, Subject: "s", IP: testIP, UserAgent: testAgent})
				require.ErrorIs(t, err, renew.ErrAppNotFound)
			}
		})
	}
}

func TestAuthenticateApp(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
	for name, key := range map[string]string{"another": f.appKey + "x", "none": "", "the hash": string(f.app.KeyHashes[0][:])} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, key), renew.ErrInvalidAppKey)
		})
	}
	t.Run("while a key is being replaced, both are good", func(t *testing.T) {
		key, hash := renew.NewAppKey()
		require.Len(t, key, 43)
		require.NoError(t, f.store.AddAppKey(f.ctx, f.app.ID, hash))
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, key))
		require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
		require.NoError(t, f.store.RemoveAppKey(f.ctx, f.app.ID, f.app.KeyHashes[0]))
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey), renew.ErrInvalidAppKey)
	})
	t.Run("an app without keys lets nobody in", func(t *testing.T) {
		f.addApp("app_2", "issuer_2", nil)
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, "app_2", ""), renew.ErrInvalidAppKey)
	})
	t.Run("an outage is no wrong key", func(t *testing.T) {
		f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
			return &brokenKeys{KeyStore: s, app: func(*renew.App) error { return errOutage }}
		}}.new(t)
		err := f.AuthenticateApp(f.ctx, f.app.ID, f.appKey)
		requireInternal(t, err)
		require.ErrorIs(t, err, errOutage)
	})
}

// bare hides a store's optional interfaces.
type bare struct {
	renew.KeyStore
	renew.TokenStore
}

func TestOptionalInterfaces(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(bare{KeyStore: f.store}, bare{TokenStore: f.store})
	require.NoError(t, err)
	_, err = r.Sessions(f.ctx, f.app.ID, "s")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = r.RevokeSubject(f.ctx, f.app.ID, "s")
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = r.KeySet(f.ctx, f.app.ID)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
