package strictjson_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/jwtrenew/renew/internal/strictjson"
)

func TestObjectReturnsItsMembersAsTheyStand(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       map[string]string
	}{
		{"empty", `{}`, map[string]string{}},
		{"white space of JSON's", " \t\r\n{ \n} \r\t", map[string]string{}},
		{"white space is no part of a value", "{ \"a\" : 1 ,\t\"b\"\n:\r[ 1 , 2 ] }", map[string]string{"a": "1", "b": "[ 1 , 2 ]"}},
		{"every kind of value", `{"s":"x","n":-1.50e+2,"t":true,"f":false,"z":null,"a":[],"o":{}}`, map[string]string{
			"s": `"x"`, "n": "-1.50e+2", "t": "true", "f": "false", "z": "null", "a": "[]", "o": "{}",
		}},
		{"escaped names", `{"\u0061\/":1,"\"":2,"\\u0061":3}`, map[string]string{"a/": "1", `"`: "2", `\u0061`: "3"}},
		{"names that differ in case only, not asked for", `{"a":1,"A":2}`, map[string]string{"a": "1", "A": "2"}},
		{"a name asked for", `{"exp":1}`, map[string]string{"exp": "1"}},
		{"a name asked for, in an object below", `{"x":{"EXP":1}}`, map[string]string{"x": `{"EXP":1}`}},
		{"twice in an object below", `{"x":{"a":1,"a":2}}`, map[string]string{"x": `{"a":1,"a":2}`}},
		{"an empty name", `{"":1}`, map[string]string{"": "1"}},
		{"a pair of surrogates", `{"x":"\ud83d\ude00\uD83D\uDE00"}`, map[string]string{"x": `"\ud83d\ude00\uD83D\uDE00"`}},
		{"the first and the last pair", `{"x":"\ud800\udc00\udbff\udfff"}`, map[string]string{"x": `"\ud800\udc00\udbff\udfff"`}},
		{"the characters around the surrogates", `{"x":"\ud7ff\ue000"}`, map[string]string{"x": `"\ud7ff\ue000"`}},
		{"an escaped backslash before a u", `{"x":"\\ud800"}`, map[string]string{"x": `"\\ud800"`}},
		{"a replacement character", "{\"x\":\"\ufffd\"}", map[string]string{"x": "\"\ufffd\""}},
		{"a long number", `{"x":` + strings.Repeat("9", 500) + `}`, map[string]string{"x": strings.Repeat("9", 500)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			members, err := strictjson.Object([]byte(c.data), "exp", "sub")
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for name, value := range members {
				got[name] = string(value)
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestObjectRefuses(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       error
	}{
		{"nothing", "", strictjson.ErrSyntax},
		{"white space", " ", strictjson.ErrSyntax},
		{"null", "null", strictjson.ErrSyntax},
		{"an array", "[]", strictjson.ErrSyntax},
		{"a string", `"{}"`, strictjson.ErrSyntax},
		{"a number", "1", strictjson.ErrSyntax},
		{"trailing text", "{}x", strictjson.ErrSyntax},
		{"two objects", "{}{}", strictjson.ErrSyntax},
		{"a trailing comma", `{"a":1,}`, strictjson.ErrSyntax},
		{"unfinished", `{"a":1`, strictjson.ErrSyntax},
		{"a lone backslash at the end", `{"a":"\`, strictjson.ErrSyntax},
		{"an unfinished escape at the end", `{"a":"\ud8`, strictjson.ErrSyntax},
		{"an escape of no hexadecimal", `{"a":"\uzzzz"}`, strictjson.ErrSyntax},
		{"an escape with a sign", `{"a":"\u+123"}`, strictjson.ErrSyntax},
		{"an unknown escape", `{"a":"\x"}`, strictjson.ErrSyntax},
		{"a comment", `{/**/}`, strictjson.ErrSyntax},
		{"a byte order mark", "\ufeff{}", strictjson.ErrSyntax},
		{"a no-break space", "\u00a0{}", strictjson.ErrSyntax},
		{"NUL after", "{}\x00", strictjson.ErrSyntax},
		{"a raw line break in a text", "{\"a\":\"\n\"}", strictjson.ErrSyntax},
		{"depth past 10,000", `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", strictjson.ErrSyntax},
		{"invalid UTF-8 in a value", "{\"a\":\"\xff\"}", strictjson.ErrEncoding},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", strictjson.ErrEncoding},
		{"invalid UTF-8 around", "{}\xff", strictjson.ErrEncoding},
		{"an overlong encoding", "{\"a\":\"\xc0\xaf\"}", strictjson.ErrEncoding},
		{"a surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", strictjson.ErrEncoding},
		{"UTF-16", "\xff\xfe{\x00}\x00", strictjson.ErrEncoding},
		{"a lone high surrogate", `{"a":"\ud800"}`, strictjson.ErrEncoding},
		{"a lone high surrogate, the last one", `{"a":"\uDBFF"}`, strictjson.ErrEncoding},
		{"a lone low surrogate", `{"a":"\udc00"}`, strictjson.ErrEncoding},
		{"a lone low surrogate, the last one", `{"a":"\uDFFF"}`, strictjson.ErrEncoding},
		{"two high surrogates", `{"a":"\ud800\ud800"}`, strictjson.ErrEncoding},
		{"two low surrogates", `{"a":"\udc00\udc00"}`, strictjson.ErrEncoding},
		{"the wrong way round", `{"a":"\udc00\ud800"}`, strictjson.ErrEncoding},
		{"a high surrogate and another character", `{"a":"\ud800\u0041"}`, strictjson.ErrEncoding},
		{"a high surrogate and the character after all", `{"a":"\ud800\ue000"}`, strictjson.ErrEncoding},
		{"a high surrogate and another escape", `{"a":"\ud800\n"}`, strictjson.ErrEncoding},
		{"a pair with something between", `{"a":"\ud800 \udc00"}`, strictjson.ErrEncoding},
		{"a pair and half of one", `{"a":"\ud800\udc00\udc00"}`, strictjson.ErrEncoding},
		{"a lone surrogate after an escaped backslash", `{"a":"\\\ud800"}`, strictjson.ErrEncoding},
		{"a lone surrogate after other escapes", `{"a":"\u0041\n\ud800"}`, strictjson.ErrEncoding},
		{"a lone surrogate in a name", `{"\ud800":1}`, strictjson.ErrEncoding},
		{"a lone surrogate in an object below", `{"a":{"b":["\ud800"]}}`, strictjson.ErrEncoding},
		{"a member twice", `{"a":1,"a":1}`, strictjson.ErrDuplicate},
		{"a member twice, once by an escape", `{"a":1,"\u0061":2}`, strictjson.ErrDuplicate},
		{"a member twice, with others between", `{"a":1,"b":2,"a":null}`, strictjson.ErrDuplicate},
		{"an empty name twice", `{"":1,"":2}`, strictjson.ErrDuplicate},
		{"a name in upper case", `{"EXP":1}`, strictjson.ErrDuplicate},
		{"a name in upper case beside it", `{"exp":1,"Exp":1}`, strictjson.ErrDuplicate},
		{"a name with a long s", "{\"\u017fub\":1}", strictjson.ErrDuplicate},
		{"a name with a long s by an escape", `{"\u017fub":1}`, strictjson.ErrDuplicate},
	} {
		t.Run(c.name, func(t *testing.T) {
			members, err := strictjson.Object([]byte(c.data), "exp", "sub")
			if !errors.Is(err, c.want) || members != nil {
				t.Errorf("got %v and %q, want %q", err, members, c.want)
			}
		})
	}
}

func TestErrorsQuoteNothing(t *testing.T) {
	for _, data := range []string{`{"secret":1,"secret":2}`, `{"secret":x}`, "{\"secret\":\"\xff\"}", `{"SECRET":1}`} {
		_, err := strictjson.Object([]byte(data), "secret")
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "secret") {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func TestString(t *testing.T) {
	for _, c := range []struct {
		raw, want string
		ok        bool
	}{
		{`""`, "", true},
		{`"a"`, "a", true},
		{`"\u0061\n\""`, "a\n\"", true},
		{`"\ud83d\ude00"`, "\U0001F600", true},
		{"", "", false},
		{"null", "", false},
		{"1", "", false},
		{"true", "", false},
		{`["a"]`, "", false},
		{`{"a":"a"}`, "", false},
		{`"a`, "", false},
		{`"a"x`, "", false},
		{`a`, "", false},
	} {
		got, ok := strictjson.String(json.RawMessage(c.raw))
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: got %q, %v", c.raw, got, ok)
		}
	}
	if _, ok := strictjson.String(nil); ok {
		t.Error("nothing is a string")
	}
}

func TestInteger(t *testing.T) {
	for raw, want := range map[string]int64{
		"0": 0, "1": 1, "10": 10, "1739997707": 1739997707,
		"9007199254740991": 1<<53 - 1,
		"9007199254740992": -1, "9223372036854775807": -1, "9223372036854775808": -1, "18446744073709551616": -1,
		"-1": -1, "-0": -1, "+1": -1, "1.0": -1, "1.5": -1, "1e3": -1, "1E3": -1, "0x10": -1, "1_000": -1, " 1": -1,
		`"1"`: -1, "null": -1, "true": -1, "[1]": -1, "{}": -1, "": -1, "\uff11": -1,
	} {
		got, ok := strictjson.Integer(json.RawMessage(raw))
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: got %d, %v", raw, got, ok)
		}
	}
	if _, ok := strictjson.Integer(nil); ok {
		t.Error("nothing is an integer")
	}
}

// FuzzObject holds strictjson against encoding/json: what it takes is JSON of
// one meaning, and that meaning is the one that encoding/json finds.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 } `, `{"a":1,"a":2}`, `{"exp":1,"EXP":2}`, `{"x":"\ud800"}`, `{"x":"\ud83d\ude00"}`, `{"x":"\\ud800"}`, "null", "[]",
		"{\"x\":\"\xff\"}", `{"a":[{"b":[1.50,true,null,"\u0000"]}]}`, `{"sub":"x","aud":["a"],"exp":9007199254740993}`, "{}{}", "\ufeff{}", `{"a":"\`,
	} {
		f.Add([]byte(seed))
	}
	names := []string{"exp", "sub"}
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := strictjson.Object(slices.Clone(data), names...)
		var want map[string]json.RawMessage
		plain := json.Unmarshal(data, &want)
		if err != nil {
			if members != nil {
				t.Errorf("members with an error: %q", members)
			}
			return
		}
		if plain != nil {
			t.Fatalf("not JSON to encoding/json: %v", plain)
		}
		if !maps.EqualFunc(members, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Errorf("got %q, want %q", members, want)
		}
		for name, value := range members {
			for _, asked := range names {
				if name != asked && strings.EqualFold(name, asked) {
					t.Errorf("a member %q in addition to %q", name, asked)
				}
			}
			checkValue(t, value)
		}
	})
}

// checkValue holds String and Integer against encoding/json and math/big.
func checkValue(t *testing.T, value json.RawMessage) {
	t.Helper()
	var text any
	if err := json.Unmarshal(value, &text); err != nil && !strings.Contains(err.Error(), "float64") {
		t.Errorf("value %q: %v", value, err)
	}
	got, ok := strictjson.String(value)
	if want, isString := text.(string); ok != isString || got != want {
		t.Errorf("String(%q) is %q, %v", value, got, ok)
	}
	n, ok := strictjson.Integer(value)
	exact, isInteger := new(big.Int).SetString(string(value), 10)
	limit := new(big.Int).Lsh(big.NewInt(1), 53)
	isInteger = isInteger && exact.Sign() >= 0 && exact.Cmp(limit) < 0 && value[0] != '-'
	if ok != isInteger || ok && n != exact.Int64() {
		t.Errorf("Integer(%q) is %d, %v", value, n, ok)
	}
}
