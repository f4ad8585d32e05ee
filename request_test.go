package renew_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// The limits of an idempotency key, to the byte.
func TestIdempotencyKeysAtTheLimits(t *testing.T) {
	visible := ""
	for c := byte('!'); c <= '~'; c++ {
		visible += string(rune(c))
	}
	for key, valid := range map[string]bool{
		visible:                  true,
		strings.Repeat("k", 16):  true,
		strings.Repeat("k", 255): true,
		strings.Repeat("k", 15):  false,
		strings.Repeat("k", 256): false,
		visible + " ":            false,
		visible + "\x7f":         false,
		visible + "\u00e9":       false,
	} {
		f := newFixture(t)
		_, err := f.renewWith(f.issue(), key)
		if valid {
			require.NoError(t, err, key)
			continue
		}
		var invalid *renew.ValidationError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "Idempotency-Key", invalid.Fields[0].Field)
	}
}

func TestMalformedRequests(t *testing.T) {
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
			require.Equal(t, [4]int64{}, f.hooks.calls(), "a malformed request must not reach the store")
			require.Empty(t, f.events.take())
		})
	}
	t.Run("every malformed field is named, in order", func(t *testing.T) {
		f := newFixture(t)
		_, err := f.Renew(f.ctx, renew.RenewRequest{IdempotencyKey: "x"})
		require.EqualError(t, err, "invalid request: app_id is required; refresh_token is required; ip is required; "+
			"Idempotency-Key must be 16 to 255 characters long")
	})
	t.Run("the limits themselves are valid", func(t *testing.T) {
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

// The promise: no login and no renewal fails for a user agent. What is stored and
// signed is text that every store can keep.
func TestUserAgents(t *testing.T) {
	long := strings.Repeat("é", 511) + "x" // 1,023 bytes
	for name, c := range map[string]struct{ sent, kept string }{
		"none":                          {"", ""},
		"of 1,024 bytes":                {long + "y", long + "y"},
		"of 1,025 bytes":                {long + "yz", long + "y"},
		"cut inside a character":        {long + "é", long},
		"a megabyte":                    {strings.Repeat("x", 1<<20), strings.Repeat("x", 1024)},
		"a megabyte of bytes not UTF-8": {strings.Repeat("\xff", 1<<20), strings.Repeat("\ufffd", 341)},
		"Latin-1":                       {"Fu\xdfball/1.0", "Fu\ufffdball/1.0"},
		"two lines":                     {"a\r\nb", "a\ufffd\ufffdb"},
		"NUL":                           {"a\x00b", "a\ufffdb"},
		"a C1 control":                  {"a\u0085b", "a\ufffdb"},
		"half of a character at an end": {"a\xe2\x82", "a\ufffd\ufffd"},
		"U+FFFD itself":                 {"\ufffd", "\ufffd"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen string
			f := newFixture(t, renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
				seen = rn.Request.UserAgent
				return nil
			}))
			req := f.issueRequest()
			req.UserAgent = c.sent
			require.NoError(t, req.Validate())
			b, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
			require.Equal(t, c.kept, f.session(b).UserAgent)
			require.Equal(t, c.kept, claims(t, b.AuthToken)["useragent"])
			again := f.request(b)
			again.UserAgent = c.sent
			require.NoError(t, again.Validate())
			b, err = f.Renew(f.ctx, again)
			require.NoError(t, err)
			require.Equal(t, c.kept, seen)
			require.Equal(t, c.kept, f.session(b).UserAgent)
			require.Equal(t, c.kept, claims(t, b.AuthToken)["useragent"])
		})
	}
}

// The promise: an address has one form, in the store, in the token and in what a
// renew function and an event see.
func TestAddressesAreCanonical(t *testing.T) {
	for sent, kept := range map[string]string{
		"192.0.2.1":            "192.0.2.1",
		"::ffff:192.0.2.1":     "192.0.2.1",
		"::FFFF:C000:201":      "192.0.2.1",
		"2001:DB8:0:0:0:0:0:1": "2001:db8::1",
		"::":                   "::",

		"2001:0db8:0000:0000:0000:0000:0000:0001": "2001:db8::1",
	} {
		t.Run(sent, func(t *testing.T) {
			var seen string
			f := newFixture(t, renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
				seen = rn.Request.IP
				return nil
			}))
			req := f.issueRequest()
			req.IP = sent
			b, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
			require.Equal(t, kept, f.session(b).IP)
			require.Equal(t, kept, claims(t, b.AuthToken)["ip"])
			again := f.request(b)
			again.IP = sent
			b, err = f.Renew(f.ctx, again)
			require.NoError(t, err)
			require.Equal(t, kept, seen)
			require.Equal(t, kept, f.session(b).IP)
			for _, e := range f.events.take() {
				require.Equal(t, kept, e.IP)
			}
		})
	}
}

// The promise: what is not an address is an error, and no address has a port or a
// zone.
func TestTextsThatAreNotAddresses(t *testing.T) {
	for _, ip := range []string{
		"", " ", "localhost", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80", "fe80::1%eth0", "::ffff:192.0.2.1%x", "192.0.2", "192.0.2.01",
		"192.0.2.256", "192.0.2.1/32", "1::2::3", "0x7f.0.0.1", "2130706433", "192.0.2.1 ", "192.0.2.1\n", "192.0.2.1, 192.0.2.2", "unknown",
	} {
		f := newFixture(t)
		req := f.request(f.issue())
		req.IP = ip
		_, err := f.Renew(f.ctx, req)
		var invalid *renew.ValidationError
		require.ErrorAs(t, err, &invalid, "%q", ip)
		require.Equal(t, "ip", invalid.Fields[0].Field)
	}
}

// The promise: Validate says what Issue and Renew say, without a store.
func TestValidate(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.issueRequest().Validate())
	require.NoError(t, renew.RenewRequest{AppID: "a", RefreshToken: "t", IP: "::1"}.Validate())
	var invalid *renew.ValidationError
	require.ErrorAs(t, renew.IssueRequest{Claims: map[string]any{"Exp": 1}}.Validate(), &invalid)
	_, err := f.Issue(f.ctx, renew.IssueRequest{Claims: map[string]any{"Exp": 1}})
	require.Equal(t, error(invalid), err)
	require.ErrorContains(t, err, `"Exp"`)
	require.ErrorAs(t, renew.RenewRequest{}.Validate(), &invalid)
	_, err = f.Renew(f.ctx, renew.RenewRequest{})
	require.Equal(t, error(invalid), err)
}

// The promise: a duplicate is the same client's if it comes from the IPv4 address
// or the IPv6 /64 of the renewal, in whatever form.
func TestSameNetwork(t *testing.T) {
	for _, c := range []struct {
		renewal, duplicate string
		same               bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"2001:db8::1", "2001:db9::1", false},
		{"192.0.2.1", "::192.0.2.1", false},
		{"::1", "0.0.0.1", false},
	} {
		for _, addresses := range [][2]string{{c.renewal, c.duplicate}, {c.duplicate, c.renewal}} {
			f := newFixture(t)
			first := f.issue()
			req := f.request(first)
			req.IP = addresses[0]
			_, err := f.Renew(f.ctx, req)
			require.NoError(t, err)
			req.IP = addresses[1]
			_, err = f.Renew(f.ctx, req)
			if c.same {
				requireRejected(t, err, renew.ReasonSuperseded)
			} else {
				requireRejected(t, err, renew.ReasonReused)
			}
		}
	}
}
