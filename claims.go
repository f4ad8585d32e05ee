package renew

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jwtrenew/renew/internal/strictjson"
)

// reserved are the claims that the tokens use. No custom claim has such a name, in
// any case of its letters.
var reserved = []string{"iss", "iat", "nbf", "exp", "jid", "sid", "sub", "aud", "ip", "useragent", "type", "jti"}

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) })
}

// appendClaims returns payload, an object with members, with those of custom added
// byte for byte: no number goes through a float.
func appendClaims(payload []byte, custom json.RawMessage) ([]byte, error) {
	if len(custom) == 0 {
		return payload, nil
	}
	members, err := checkClaims(custom)
	if err != nil || len(members) == 0 {
		return payload, err
	}
	payload[len(payload)-1] = ','
	return append(payload, bytes.TrimLeft(custom, " \t\r\n")[1:]...), nil
}

// checkClaims returns the members of custom claims, or says what is wrong with
// them.
func checkClaims(custom json.RawMessage) (map[string]json.RawMessage, error) {
	if len(custom) > maxClaimsBytes {
		return nil, fmt.Errorf("custom claims are %d bytes of JSON, over %d", len(custom), maxClaimsBytes)
	}
	members, err := strictjson.Object(custom)
	if err != nil {
		return nil, fmt.Errorf("the JSON of the custom claims %w", err)
	}
	for name := range members {
		if isReserved(name) {
			return nil, fmt.Errorf("the name %q is reserved", name)
		}
	}
	return members, nil
}

// encodeClaims returns the JSON of custom claims, nil if there are none.
func encodeClaims(claims map[string]any) (encoded json.RawMessage, err error) {
	if len(claims) == 0 {
		return nil, nil
	}
	defer func() { // a value marshals itself, and may panic
		if p := recover(); p != nil {
			encoded, err = nil, errClaimsMarshal
		}
	}()
	if encoded, err = json.Marshal(claims); err != nil {
		return nil, errClaimsMarshal
	}
	if _, err := checkClaims(encoded); err != nil {
		return nil, err
	}
	if !(textWalk{}).isUnicode(reflect.ValueOf(claims)) { // Marshal may have replaced it
		return nil, errors.New("custom claims hold text that is not valid UTF-8")
	}
	return encoded, nil
}

var errClaimsMarshal = errors.New("custom claims do not marshal to JSON")

// textWalk looks for text that is not valid UTF-8. It holds the pointers, maps and
// slices that it has followed. Marshal rejects values that lead back to themselves,
// but not where it does not follow them: in a struct that embeds a pointer to itself,
// and in fields that another one of their name hides.
type textWalk map[reference]struct{}

type reference struct {
	typ     reflect.Type
	address uintptr
	length  int // of a slice
}

// follows reports whether v leads somewhere that was followed before.
func (w textWalk) follows(v reflect.Value) bool {
	r := reference{typ: v.Type()}
	switch v.Kind() {
	case reflect.Slice:
		r.length = v.Len()
		fallthrough
	case reflect.Pointer, reflect.Map:
		r.address = v.Pointer()
	default:
		return false
	}
	_, followed := w[r]
	w[r] = struct{}{}
	return followed
}

// isUnicode reports whether all text that v marshals to JSON from is valid UTF-8.
func (w textWalk) isUnicode(v reflect.Value) bool {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return true
	}
	if text, custom := customText(v); custom {
		return utf8.Valid(text)
	}
	if w.follows(v) {
		return true
	}
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer:
		return w.isUnicode(v.Elem())
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			// A key that is a string may marshal itself, or not be asked to.
			key := entries.Key()
			if key.Kind() == reflect.String && !utf8.ValidString(key.String()) || !w.isUnicode(key) || !w.isUnicode(entries.Value()) {
				return false
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !w.isUnicode(v.Index(i)) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			marshals := field.IsExported() || field.Anonymous
			if marshals && field.Tag.Get("json") != "-" && !w.isUnicode(v.Field(i)) {
				return false
			}
		}
	}
	return true
}

// customText returns what a value that marshals itself marshals to.
func customText(v reflect.Value) (text []byte, custom bool) {
	if v.Kind() == reflect.Pointer && v.IsNil() || !v.CanInterface() {
		return nil, false
	}
	if v.CanAddr() {
		v = v.Addr()
	}
	var err error
	switch value := v.Interface().(type) {
	case json.Marshaler:
		text, err = value.MarshalJSON()
	case encoding.TextMarshaler:
		text, err = value.MarshalText()
	default:
		return nil, false
	}
	return text, err == nil
}

// decodeClaims is the reverse of encodeClaims, with numbers as json.Number.
func decodeClaims(encoded json.RawMessage) (map[string]any, error) {
	claims := map[string]any{}
	if len(encoded) == 0 {
		return claims, nil
	}
	if _, err := checkClaims(encoded); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(encoded))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		return nil, errors.New("custom claims are not a JSON object")
	}
	return claims, nil
}
