package renew_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

func TestCustomClaimsKeepTheirValueThroughRenewals(t *testing.T) {
	for name, value := range map[string]any{
		"an integer past 2^53":       json.Number("9007199254740993"),
		"an integer past 64 bits":    json.Number("123456789012345678901234567890"),
		"a fraction as written":      json.Number("1.10"),
		"an exponent as written":     json.Number("1e400"),
		"markup":                     "<a href='x'>&</a>\u2028",
		"text beyond ASCII":          "żółć \U0001F600",
		"an escaped quote":           `\"\\`,
		"a replacement character":    "a\ufffdb",
		"a backslash before a u":     `\ufffd`,
		"null":                       nil,
		"a tree":                     map[string]any{"a": []any{map[string]any{}, []any{}, false, ""}},
		"an object of reserved name": map[string]any{"iss": "x", "exp": json.Number("1")},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Claims = map[string]any{"c": value}
			b, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
			for range 3 {
				require.Equal(t, value, claims(t, b.AuthToken)["c"])
				got, err := f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
				require.NoError(t, err)
				require.Equal(t, req.Claims, got.Claims)
				b = f.renew(b)
			}
		})
	}
}

func TestCustomClaimsSurviveARenewFuncThatLeavesThem(t *testing.T) {
	f := newFixture(t, renew.WithRenewFunc(noChange))
	req := f.issueRequest()
	req.Claims = map[string]any{"n": json.Number("9007199254740993"), "s": "<&>"}
	b, err := f.Issue(f.ctx, req)
	require.NoError(t, err)
	b = f.renew(f.renew(b))
	require.Equal(t, json.Number("9007199254740993"), claims(t, b.AuthToken)["n"])
	require.Equal(t, "<&>", claims(t, b.AuthToken)["s"])
}

func TestInvalidCustomClaims(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims map[string]any
		says   string
	}{
		{"more than 16 KiB", map[string]any{"c": strings.Repeat("x", 16<<10)}, "over 16384"},
		{"what JSON cannot express", map[string]any{"c": math.NaN()}, "marshal"},
		{"a function", map[string]any{"c": func() {}}, "marshal"},
		{"a value that is not UTF-8", map[string]any{"c": "a\xffb"}, "UTF-8"},
		{"a name that is not UTF-8", map[string]any{"\xff": 1}, "UTF-8"},
		{"a lone surrogate", map[string]any{"c": json.RawMessage(`"\ud800"`)}, "Unicode"},
		{"a name twice", map[string]any{"c": json.RawMessage(`{"a":1,"a":2}`)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Claims = c.claims
			b, err := f.Issue(f.ctx, req)
			if c.says == "" {
				// Inside a claim's value everything is the caller's.
				require.NoError(t, err)
				f.renew(b)
				return
			}
			var invalid *renew.ValidationError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "claims", invalid.Fields[0].Field)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, [4]int64{}, f.hooks.calls())
		})
	}
	for _, name := range []string{
		"iss", "iat", "nbf", "exp", "jid", "sid", "sub", "aud", "ip", "useragent", "type", "jti", "ISS", "userAgent", "\u017fub",
	} {
		t.Run("the reserved name "+name, func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Claims = map[string]any{name: "x"}
			_, err := f.Issue(f.ctx, req)
			var invalid *renew.ValidationError
			require.ErrorAs(t, err, &invalid)
			require.ErrorContains(t, err, "reserved")
		})
	}
	t.Run("the limit itself is valid", func(t *testing.T) {
		f := newFixture(t)
		req := f.issueRequest()
		req.Claims = map[string]any{"c": strings.Repeat("x", 16<<10-len(`{"c":""}`))}
		b, err := f.Issue(f.ctx, req)
		require.NoError(t, err)
		got, err := f.VerifyAuthToken(f.ctx, f.app.ID, f.renew(b).AuthToken)
		require.NoError(t, err)
		require.Equal(t, req.Claims, got.Claims)
	})
	t.Run("the longest possible token is valid", func(t *testing.T) {
		f := fixtureConfig{app: func(a *renew.App) { a.Issuer = strings.Repeat("<", 255) }}.new(t)
		req := f.issueRequest()
		req.Subject = strings.Repeat("<", 255)
		req.UserAgent = strings.Repeat("<", 1024)
		req.Audience = []string{strings.Repeat("<", 4096)}
		req.Claims = map[string]any{"c": strings.Repeat("x", 16<<10-len(`{"c":""}`))}
		b, err := f.Issue(f.ctx, req)
		require.NoError(t, err)
		_, err = f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
		require.NoError(t, err)
		f.renew(b)
	})
	t.Run("in a stored session they are an internal error", func(t *testing.T) {
		for name, stored := range map[string]string{
			"not an object": `[1]`, "broken": `{`, "reserved": `{"iss":"me"}`, "twice": `{"a":1,"a":2}`, "null": `null`,
		} {
			t.Run(name, func(t *testing.T) {
				for _, opts := range [][]renew.Option{nil, {renew.WithRenewFunc(noChange)}} {
					f := newFixture(t, opts...)
					first := f.issue()
					s := f.session(first)
					s.Claims = json.RawMessage(stored)
					require.NoError(t, f.store.Rotate(f.ctx, s.TokenID, s))
					_, err := f.Renew(f.ctx, f.request(first))
					requireInternal(t, err)
				}
			})
		}
	})
}

// The promise: a store may write the JSON of custom claims in its own way, as
// databases do that know JSON, and the tokens are valid all the same.
func TestClaimsAsAStoreMayWriteThem(t *testing.T) {
	for stored, want := range map[string]map[string]any{
		"":                                {},
		"{}":                              {},
		" {\n} ":                          {},
		" { \"a\" : \"b\" , \"c\":[ ] } ": {"a": "b", "c": []any{}},
		"\t{\"a\":{}}\r\n":                {"a": map[string]any{}},
	} {
		t.Run(stored, func(t *testing.T) {
			f := newFixture(t)
			first := f.issue()
			s := f.session(first)
			s.Claims = []byte(stored)
			require.NoError(t, f.store.Rotate(f.ctx, s.TokenID, s))
			second := f.renew(first)
			got, err := f.VerifyAuthToken(f.ctx, f.app.ID, second.AuthToken)
			require.NoError(t, err)
			require.Equal(t, want, got.Claims)
			f.renew(second)
		})
	}
}

// latin1 marshals itself to bytes that are not UTF-8.
type latin1 struct{}

func (latin1) MarshalJSON() ([]byte, error) { return []byte("\"\xff\""), nil }

type latin1Text struct{}

func (latin1Text) MarshalText() ([]byte, error) { return []byte("\xff"), nil }

type inner struct{ Name string }

// The promise: text that is not Unicode is never changed silently, wherever it
// stands in the claims and whatever JSON package encodes them.
func TestClaimsThatAreNotUnicode(t *testing.T) {
	const bad = "a\xffb"
	name := bad
	for where, value := range map[string]any{
		"a value":                 bad,
		"a nested value":          map[string]any{"a": []any{1, map[string]any{"b": bad}}},
		"a nested name":           map[string]any{"a": map[string]any{bad: 1}},
		"a slice":                 []string{"ok", bad},
		"an array":                [1]string{bad},
		"a pointer":               &name,
		"a struct field":          inner{bad},
		"an embedded field":       struct{ inner }{inner{bad}},
		"a pointer to a struct":   &inner{bad},
		"a named string":          renew.Reason(bad),
		"a marshaler":             latin1{},
		"a pointer to one":        &latin1{},
		"a text marshaler":        latin1Text{},
		"a text marshaler's name": map[latin1Text]int{{}: 1},
		"raw JSON":                json.RawMessage("\"\xff\""),
		"half of a surrogate":     json.RawMessage(`"\ud800"`),
	} {
		t.Run(where, func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Claims = map[string]any{"claim": value}
			_, err := f.Issue(f.ctx, req)
			var invalid *renew.ValidationError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "claims", invalid.Fields[0].Field)
			require.True(t, utf8.ValidString(err.Error()))
		})
	}
	t.Run("a name", func(t *testing.T) {
		f := newFixture(t)
		req := f.issueRequest()
		req.Claims = map[string]any{bad: 1}
		require.Error(t, req.Validate())
	})
	for where, value := range map[string]any{
		"U+FFFD itself":           "\ufffd",
		"an escape of it":         json.RawMessage(`"\ufffd"`),
		"bytes, which are base64": []byte(bad),
		"a field that is left out": struct {
			Name string `json:"-"`
		}{bad},
		"a field that is not exported": struct{ name string }{bad},
		"a nil pointer":                (*inner)(nil),
		"nil":                          nil,
		"a time":                       time.Unix(0, 0),
	} {
		t.Run(where+" is valid", func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Claims = map[string]any{"claim": value}
			_, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
		})
	}
}
