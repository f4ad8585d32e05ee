package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// precision is what every store keeps of a time.
const precision = time.Millisecond

// difference says in which fields got is not want, or is empty. An empty list
// and none are the same; times may differ in what is finer than a millisecond,
// if want has it.
func difference(want, got renew.Session) string {
	var d differences
	d.text("AppID", want.AppID, got.AppID)
	d.text("ID", want.ID, got.ID)
	d.text("Subject", want.Subject, got.Subject)
	d.check("Audience", slices.Equal(want.Audience, got.Audience), fmt.Sprintf("%q", want.Audience), fmt.Sprintf("%q", got.Audience))
	d.check("Claims", sameJSON(want.Claims, got.Claims), excerpt(want.Claims), excerpt(got.Claims))
	d.time("CreatedAt", want.CreatedAt, got.CreatedAt)
	d.time("EndsAt", want.EndsAt, got.EndsAt)
	d.time("RevokedAt", want.RevokedAt, got.RevokedAt)
	d.check("Generation", want.Generation == got.Generation, fmt.Sprint(want.Generation), fmt.Sprint(got.Generation))
	d.text("TokenID", want.TokenID, got.TokenID)
	d.text("PreviousTokenID", want.PreviousTokenID, got.PreviousTokenID)
	d.time("IssuedAt", want.IssuedAt, got.IssuedAt)
	d.time("RefreshNotBefore", want.RefreshNotBefore, got.RefreshNotBefore)
	d.time("RefreshExpiresAt", want.RefreshExpiresAt, got.RefreshExpiresAt)
	d.check("IdempotencyKeyHash", bytes.Equal(want.IdempotencyKeyHash, got.IdempotencyKeyHash), fmt.Sprintf("%x", want.IdempotencyKeyHash), fmt.Sprintf("%x", got.IdempotencyKeyHash))
	d.text("IP", want.IP, got.IP)
	d.text("UserAgent", want.UserAgent, got.UserAgent)
	return strings.Join(d, "; ")
}

type differences []string

func (d *differences) check(field string, same bool, want, got string) {
	if !same {
		*d = append(*d, fmt.Sprintf("%s is %s, expected %s", field, got, want))
	}
}

func (d *differences) text(field, want, got string) {
	d.check(field, want == got, excerpt([]byte(want)), excerpt([]byte(got)))
}

func (d *differences) time(field string, want, got time.Time) {
	d.check(field, sameTime(want, got), clock(want), clock(got))
}

// notUTC says which times of s are not in UTC, or is empty.
func notUTC(s renew.Session) string {
	var d differences
	for i, t := range sessionTimes(&s) {
		_, offset := t.Zone() // another Location of offset zero will do
		d.check(timeNames[i], offset == 0, "in UTC", "in the zone "+t.Location().String())
	}
	return strings.Join(d, "; ")
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
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
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
