package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// precision is what every store keeps of a time.
const precision = time.Millisecond

// difference says in which fields got is not want, or is empty.
func difference(want, got renew.Session) string { return fieldsDiffer(want, got) }

// fieldsDiffer says in which fields two structs of one type differ, or is empty. An empty
// list and none are the same; times may differ in what is finer than a millisecond, if
// want has it.
func fieldsDiffer(want, got any) string {
	var texts []string
	w, g := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range w.NumField() {
		if want, got := w.Field(i).Interface(), g.Field(i).Interface(); !sameField(want, got) {
			texts = append(texts, fmt.Sprintf("%s is %s, expected %s", w.Type().Field(i).Name, fieldText(got), fieldText(want)))
		}
	}
	return strings.Join(texts, "; ")
}

func sameField(want, got any) bool {
	switch w := want.(type) {
	case time.Time:
		return sameTime(w, got.(time.Time))
	case json.RawMessage:
		return sameJSON(w, got.(json.RawMessage))
	case []byte:
		return bytes.Equal(w, got.([]byte))
	case []string:
		return slices.Equal(w, got.([]string))
	case []renew.AppKeyHash:
		return true // law K7 compares them
	}
	return want == got
}

func fieldText(value any) string {
	switch v := value.(type) {
	case time.Time:
		return clock(v)
	case string:
		return excerpt([]byte(v))
	case json.RawMessage:
		return excerpt(v)
	case []byte:
		return fmt.Sprintf("%x", v)
	case []string:
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(value)
}

// notUTC says which times of s are not in UTC, or is empty.
func notUTC(s renew.Session) string {
	var texts []string
	fields := reflect.ValueOf(s)
	for i := range fields.NumField() {
		if t, ok := fields.Field(i).Interface().(time.Time); ok {
			if _, offset := t.Zone(); offset != 0 { // another Location of offset zero will do
				texts = append(texts, fmt.Sprintf("%s is in the zone %s, expected in UTC", fields.Type().Field(i).Name, t.Format("-07:00")))
			}
		}
	}
	return strings.Join(texts, "; ")
}

func sameTime(want, got time.Time) bool {
	if want.IsZero() || got.IsZero() || want.Equal(want.Truncate(precision)) {
		return want.Equal(got)
	}
	return want.Sub(got).Abs() < precision
}

// excerpt quotes text, so that every byte shows, up to a length for one line.
func excerpt(text []byte) string {
	const enough = 60
	if len(text) > enough {
		return fmt.Sprintf("%q… (%d bytes)", text[:enough], len(text))
	}
	return fmt.Sprintf("%q", text)
}

// sameJSON reports whether two texts are the same JSON value. Numbers are
// compared exactly: 1e2 is 100, and 9007199254740993 is not 9007199254740992.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	x, err := decodeJSON(a)
	if err != nil {
		return false
	}
	y, err := decodeJSON(b)
	return err == nil && sameValue(x, y)
}

func decodeJSON(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return v, nil
}

func sameValue(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for name, value := range x {
			other, has := y[name]
			if !has || !sameValue(value, other) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, sameValue)
	case json.Number:
		y, ok := b.(json.Number)
		return ok && sameNumber(x.String(), y.String())
	default:
		return a == b
	}
}

func sameNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, okX := new(big.Rat).SetString(a)
	y, okY := new(big.Rat).SetString(b)
	return okX && okY && x.Cmp(y) == 0
}
