package forged

import (
	"strings"
	"testing"
)

func TestCorpusIsReadable(t *testing.T) {
	tokens, err := Tokens()
	if err != nil {
		t.Fatal(err)
	}
	if len(tokens) < 700 {
		t.Errorf("%d tokens: some are missing", len(tokens))
	}
	keys, err := Keys()
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := Sessions()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ES256", "RS256", "PS256", "ES384", "ES512", "EdDSA", "revoked", "deleted", "foreign", "stranger"} {
		if keys[name].Private == nil {
			t.Errorf("there is no key %q", name)
		}
	}
	for _, name := range []string{"older", "own", "newer", "foreign"} {
		if sessions[name].ID == "" {
			t.Errorf("there is no session %q", name)
		}
	}
}

// A corpus that is misread tests less than it seems to: the reader accepts one form
// only.
func TestReaderIsStrict(t *testing.T) {
	const valid = "# comment\n\ntoken: a: b\nwhy: c\nresult: malformed\ncompact: \"x\"\n"
	if got, err := tokensOf(valid); err != nil || len(got) != 1 || got[0] != (Token{Name: "a: b", Why: "c", Result: "malformed", Revoke: "malformed", Compact: "x"}) {
		t.Fatalf("the valid file: %+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"empty":                     "",
		"no end of the last line":   strings.TrimSuffix(valid, "\n"),
		"a comment in a record":     strings.Replace(valid, "why", "# comment\nwhy", 1),
		"a line without a field":    strings.Replace(valid, "why: c", "why", 1),
		"an empty value":            strings.Replace(valid, "why: c", "why: ", 1),
		"white space after a value": strings.Replace(valid, "why: c", "why: c ", 1),
		"white space before one":    strings.Replace(valid, "why: c", "why:  c", 1),
		"a field missing":           strings.Replace(valid, "why: c\n", "", 1),
		"a field twice":             strings.Replace(valid, "why: c", "why: c\nwhy: d", 1),
		"an unknown field":          valid + "x: y\n",
		"fields in another order":   strings.Replace(valid, "why: c\nresult: malformed", "result: malformed\nwhy: c", 1),
		"no token":                  strings.Replace(valid, "compact: \"x\"\n", "", 1),
		"a name without a part":     strings.Replace(valid, "a: b", "ab", 1),
		"a result said twice":       strings.Replace(valid, "compact", "revoke: malformed\ncompact", 1),
		"a token without quotes":    strings.Replace(valid, `"x"`, `x`, 1),
		"a token in other quotes":   strings.Replace(valid, `"x"`, `'xy'`, 1),
		"text after a token":        strings.Replace(valid, `"x"`, `"x"y`, 1),
		"an empty token":            strings.Replace(valid, `"x"`, `""`, 1),
		"repeated once":             strings.Replace(valid, `"x"`, `"x" * 1`, 1),
		"repeated by no number":     strings.Replace(valid, `"x"`, `"x" * 1e3`, 1),
		"a number in another form":  strings.Replace(valid, `"x"`, `"x" * 007`, 1),
		"too long":                  strings.Replace(valid, `"x"`, `"x" * 99999999`, 1),
		"too long, and overflowing": strings.Replace(valid, `"x"`, `"xxxx" * 4611686018427387904`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := tokensOf(text); err == nil && len(got) > 0 {
				t.Errorf("accepted as %+v", got)
			}
		})
	}
	if got, err := join([]string{`"a"`, `"bc" * 3`, `"\n"`}); err != nil || got != "abcbcbc\n" {
		t.Errorf("join: %q, %v", got, err)
	}
}

func tokensOf(text string) ([]Token, error) {
	records, err := parse([]byte(text))
	if err != nil {
		return nil, err
	}
	var all []Token
	for _, r := range records {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}
