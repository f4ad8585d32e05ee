package renew_test

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// panicking is a claim that cannot marshal itself.
type panicking struct{}

func (panicking) MarshalJSON() ([]byte, error) { panic("a bug of the caller's") }

// The promise: a claim whose own code panics is like any other that does not
// marshal, at a login and in what a renew function leaves behind.
func TestClaimsThatPanic(t *testing.T) {
	var broken atomic.Bool
	f := newFixture(t, renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
		if broken.Load() {
			rn.Claims["c"] = []any{&panicking{}}
		}
		return nil
	}))
	req := f.issueRequest()
	req.Claims = map[string]any{"c": panicking{}}
	_, err := f.Issue(f.ctx, req)
	var invalid *renew.ValidationError
	require.ErrorAs(t, err, &invalid)
	require.ErrorContains(t, err, "marshal")
	require.ErrorAs(t, req.Validate(), &invalid)

	b := f.issue()
	broken.Store(true)
	_, err = f.Renew(f.ctx, f.request(b))
	requireInternal(t, err)
	broken.Store(false)
	f.renew(b)
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

// Types that marshal themselves, or seem to.
type (
	textKey     string
	jsonKey     string
	badText     struct{}
	badByte     byte
	pointerText struct{ Text string }
	selfish     struct {
		*selfish
		Name string
	}
	embedded struct{ Text string }
	badJSON  struct{}
)

func (badJSON) MarshalJSON() ([]byte, error) { return []byte("\"a\xffb\""), nil }

func (textKey) MarshalText() ([]byte, error)        { return []byte("valid"), nil }
func (jsonKey) MarshalJSON() ([]byte, error)        { return []byte(`"valid"`), nil }
func (badText) MarshalText() ([]byte, error)        { return []byte("a\xffb"), nil }
func (badByte) MarshalText() ([]byte, error)        { return []byte("a\xffb"), nil }
func (p *pointerText) MarshalText() ([]byte, error) { return []byte(p.Text), nil }

// The promise: text that is not UTF-8 is an error, wherever it stands. JSON
// encoders replace it, and the claim would not keep its value.
func TestTextThatIsNotUTF8(t *testing.T) {
	const bad = "a\xffb"
	var inPointer any = new(string)
	*inPointer.(*string) = bad
	cyclic := &selfish{Name: bad}
	cyclic.selfish = cyclic
	named := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Text", Type: reflect.TypeFor[string](), Tag: `json:"-,"`}})).Elem()
	named.Field(0).SetString(bad)
	for name, value := range map[string]any{
		"a string":                        bad,
		"the end of a string":             "ż"[:1],
		"a surrogate":                     "\xed\xa0\x80",
		"an overlong encoding":            "\xc0\xaf",
		"beyond Unicode":                  "\xf4\x90\x80\x80",
		"a list":                          []any{1, []string{"x", bad}},
		"an array":                        [2]string{"x", bad},
		"a map":                           map[string]any{"a": map[string]string{"b": bad}},
		"a key":                           map[string]any{"a": map[string]int{bad: 1}},
		"a key of a named type":           map[embeddedKey]int{bad: 1},
		"a key that marshals to text":     map[textKey]int{bad: 1},
		"a key that marshals to JSON":     map[jsonKey]int{bad: 1},
		"a key that marshals to bad text": map[badText]int{{}: 1},
		"a pointer":                       inPointer,
		"a struct":                        struct{ Text string }{bad},
		"a tagged field": struct {
			Text string `json:"t,omitempty"`
		}{bad},
		"a field that is named -":         named.Interface(),
		"an embedded struct":              struct{ embedded }{embedded{bad}},
		"an embedded pointer":             struct{ *embedded }{&embedded{bad}},
		"a struct that embeds itself":     cyclic,
		"a text marshaler":                badText{},
		"a marshaler":                     badJSON{},
		"a pointer to a marshaler":        &badJSON{},
		"a string of a named type":        renew.Reason(bad),
		"bytes that marshal themselves":   []badByte{1},
		"a pointer's marshaler":           &pointerText{bad},
		"a pointer's marshaler in a list": []pointerText{{bad}},
		"raw JSON":                        json.RawMessage(`"` + bad + `"`),
		"raw JSON, nested":                []any{map[string]any{"a": json.RawMessage(`["` + bad + `"]`)}},
		"half of a surrogate pair":        json.RawMessage(`"\ud800"`),
		"the other half, as a name":       json.RawMessage(`{"\udc00":1}`),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
				if rn.Claims["add"] != nil {
					rn.Claims["c"] = value
				}
				return nil
			}))
			req := f.issueRequest()
			req.Claims = map[string]any{"c": value}
			_, err := f.Issue(f.ctx, req)
			var invalid *renew.ValidationError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "claims", invalid.Fields[0].Field)
			require.Error(t, req.Validate())

			req.Claims = map[string]any{"add": true}
			first, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
			_, err = f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			require.Equal(t, first.TokenID, f.session(first).TokenID)
		})
	}
}

type embeddedKey string

// hiding marshals neither of its two fields of one name.
type (
	hidden     struct{ Field any }
	alsoHidden struct{ Field any }
	hiding     struct {
		hidden
		alsoHidden
	}
)

// What is not marshaled is not checked, and U+FFFD itself is text.
func TestTextThatIsUTF8(t *testing.T) {
	cyclic := &selfish{Name: "x"}
	cyclic.selfish = cyclic
	cyclicMap, cyclicList := map[string]any{}, []any{nil}
	cyclicMap["m"], cyclicList[0] = cyclicMap, cyclicList
	for name, value := range map[string]any{
		"U+FFFD":             "\ufffd",
		"a key of U+FFFD":    map[string]any{"\ufffd": 1},
		"NUL":                "\x00",
		"the last character": "\U0010ffff",
		"bytes":              []byte{0xff, 0xfe},
		"an ignored field": struct {
			Text string `json:"-"`
		}{"\xff"},
		"an unexported field":           struct{ text string }{"\xff"},
		"a struct that embeds itself":   cyclic,
		"a hidden map of itself":        hiding{hidden{cyclicMap}, alsoHidden{}},
		"a hidden list of itself":       hiding{hidden{}, alsoHidden{cyclicList}},
		"a pointer that is used twice":  []*embedded{{"x"}, {"x"}},
		"nil":                           (*embedded)(nil),
		"a marshaler that is nil":       (*pointerText)(nil),
		"a time that is nil":            (*time.Time)(nil),
		"a time":                        time.Unix(0, 0).UTC(),
		"a pair of surrogates, escaped": json.RawMessage(`"\ud83d\ude00"`),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			req := f.issueRequest()
			req.Claims = map[string]any{"c": value}
			b, err := f.Issue(f.ctx, req)
			require.NoError(t, err)
			want, err := json.Marshal(value)
			require.NoError(t, err)
			got, err := json.Marshal(claims(t, f.renew(b).AuthToken)["c"])
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(got))
		})
	}
}
