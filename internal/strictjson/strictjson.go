// Package strictjson reads JSON from others that must mean one thing only. What JSON
// libraries tolerate and treat differently (RFC 8259 sections 4 and 8.2) is an
// error here: a duplicate member, a name in another case, text that is not Unicode.
// Errors never quote what was read.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What can be wrong with an object.
var (
	ErrEncoding  = errors.New("is not valid Unicode")
	ErrSyntax    = errors.New("is not a single JSON object")
	ErrDuplicate = errors.New("has a duplicate member (ignoring case)")
)

// maxInteger is the largest integer that every JSON library reads exactly (RFC
// 7493 section 2.2).
const maxInteger = 1<<53 - 1

// Object returns the members of the one JSON object that data holds; the values
// share its memory. A member whose name is one of names but for the case of its
// letters is an error: libraries that ignore case would take it for that member.
func Object(data []byte, names ...string) (map[string]json.RawMessage, error) {
	if !unicodeText(data) {
		return nil, ErrEncoding
	}
	rest := skip(data, 0)
	if len(rest) == 0 || rest[0] != '{' || !json.Valid(data) {
		return nil, ErrSyntax
	}
	members := make(map[string]json.RawMessage)
	for rest = skip(rest, 1); rest[0] != '}'; { // after the brace or a comma
		end := stringEnd(rest)
		name := memberName(rest[:end], names)
		rest = skip(rest, end)
		rest = skip(rest, 1) // the colon
		end = valueEnd(rest)
		if _, twice := members[name]; twice || isVariant(name, names) {
			return nil, ErrDuplicate
		}
		members[name] = json.RawMessage(rest[:end:end])
		if rest = skip(rest, end); rest[0] == ',' {
			rest = skip(rest, 1)
		}
	}
	return members, nil
}

// memberName returns the name that raw holds, and one of names where it is that, so
// that the usual members cost no memory.
func memberName(raw []byte, names []string) string {
	for _, name := range names {
		if string(raw[1:len(raw)-1]) == name {
			return name
		}
	}
	name, _ := String(raw)
	return name
}

// isVariant reports whether name is one of names but for the case of its letters.
func isVariant(name string, names []string) bool {
	return !slices.Contains(names, name) &&
		slices.ContainsFunc(names, func(known string) bool { return strings.EqualFold(name, known) })
}

// skip leaves out n bytes, and the white space after them.
func skip(text []byte, n int) []byte {
	for n < len(text) && (text[n] == ' ' || text[n] == '\t' || text[n] == '\r' || text[n] == '\n') {
		n++
	}
	return text[n:]
}

// The two functions below walk through text that [json.Valid] has found in order,
// and rely on it.

// stringEnd returns where the string ends that text begins with.
func stringEnd(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// valueEnd returns where the value ends that text begins with: what follows it
// is white space, a comma or the brace of the object around it.
func valueEnd(text []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			i += stringEnd(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
}

// String returns the string that raw holds; ok is false for any other value.
func String(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	if end := len(raw) - 1; end > 0 && raw[end] == '"' && isPlain(raw[1:end]) {
		return string(raw[1:end]), true
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// isPlain reports whether text stands for itself in a JSON string, as nearly all
// text does: printable ASCII without quotation mark and backslash.
func isPlain(text []byte) bool {
	return !slices.ContainsFunc(text, func(c byte) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' })
}

// Integer returns the integer from 0 to 2^53-1 that raw holds, written without
// fraction and exponent; ok is false for any other value.
func Integer(raw json.RawMessage) (n int64, ok bool) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil && raw[0] >= '0' && n <= maxInteger // no sign, not even on a zero
}

// unicodeText reports whether data is valid UTF-8 in which no \u escape stands
// for half of a surrogate pair. JSON libraries replace both, each in its way.
func unicodeText(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 || i+1 == len(data) {
			return true
		}
		unit, isEscape := utf16Unit(data[i:])
		switch {
		case !isEscape:
			data = data[i+2:]
		case unit < 0xD800 || unit > 0xDFFF:
			data = data[i+6:]
		default:
			low, paired := utf16Unit(data[i+6:])
			if unit > 0xDBFF || !paired || low < 0xDC00 || low > 0xDFFF {
				return false
			}
			data = data[i+12:]
		}
	}
}

// utf16Unit returns the UTF-16 code unit of the \u escape that data begins with.
func utf16Unit(data []byte) (unit uint64, ok bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(data[2:6]), 16, 16)
	return unit, err == nil
}
