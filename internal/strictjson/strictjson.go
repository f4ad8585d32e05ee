// Package strictjson reads JSON that somebody else wrote and that must mean one
// thing only. What JSON libraries tolerate and treat differently (RFC 8259
// sections 4 and 8.2) is an error here: a member that stands twice, a name in
// another case, text that is not Unicode. Errors never quote what was read.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// What can be wrong with an object.
var (
	ErrEncoding  = errors.New("is not valid Unicode")
	ErrSyntax    = errors.New("is not one JSON object")
	ErrDuplicate = errors.New("has a member twice, or one in another case")
)

// maxInteger is the largest integer that every JSON library reads exactly (RFC
// 7493 section 2.2).
const maxInteger = 1<<53 - 1

// Object returns the members of the one JSON object that data holds. A member
// whose name is one of names but for the case of its letters is an error:
// libraries that ignore case would take it for that member.
func Object(data []byte, names ...string) (map[string]json.RawMessage, error) {
	if !unicodeText(data) {
		return nil, ErrEncoding
	}
	// go-jose's decoder, and not encoding/json, because it refuses duplicates.
	// It skips a null, so that the first byte is looked at as well.
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' || !json.Valid(data) {
		return nil, ErrSyntax
	}
	var members map[string]json.RawMessage
	if err := josejson.Unmarshal(data, &members); err != nil {
		return nil, ErrDuplicate
	}
	for member := range members {
		if slices.ContainsFunc(names, func(name string) bool {
			return member != name && strings.EqualFold(member, name)
		}) {
			return nil, ErrDuplicate
		}
	}
	return members, nil
}

// String returns the string that raw holds; ok is false for any other value.
func String(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
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
