package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// keepCases test law T1.
var keepCases = []testCase[*tokens]{
	{name: "every-field", run: keepsEveryField},
	{name: "empty-fields", run: keepsEmptyFields},
	{name: "revoked-from-the-start", run: keepsRevokedAt},
	{name: "expired-ones-too", run: keepsExpired},
	{name: "milliseconds", run: keepsMilliseconds},
	{name: "finer-than-milliseconds", run: keepsFinerTimes},
	{name: "zones", run: keepsInstants},
	{name: "far-times", run: keepsFarTimes},
	{name: "claims", run: keepsClaims},
	{name: "long-fields", run: keepsLongFields},
	{name: "audience", run: keepsAudience},
	{name: "retry-proof", run: keepsIdempotencyKeyHash},
	{name: "generation", run: keepsGeneration},
}

// keeps stores the session and compares what both handles return.
func keeps(e *tokenEnv, what string, s renew.Session) {
	if err := e.a.CreateSession(e.ctx, s); err != nil {
		e.failf("expected CreateSession to store a session with %s\nthe store returned the error %q", what, err)
		return
	}
	stored(e, s, "CreateSession with "+what)
}

func keepsEveryField(e *tokenEnv) { keeps(e, "every field set", newSession(e)) }

func keepsEmptyFields(e *tokenEnv) {
	s := newSession(e)
	s.Audience, s.Claims, s.IdempotencyKeyHash = nil, nil, nil
	s.EndsAt, s.Generation, s.PreviousTokenID = time.Time{}, 0, ""
	s.IP, s.UserAgent = "", ""
	keeps(e, "all optional fields empty", s)
}

func keepsRevokedAt(e *tokenEnv) {
	s := newSession(e)
	s.RevokedAt = base.Add(90*time.Minute + 5*time.Millisecond)
	keeps(e, "RevokedAt set", s)
}

func keepsExpired(e *tokenEnv) {
	s := newSession(e)
	for _, t := range []*time.Time{&s.CreatedAt, &s.IssuedAt, &s.RefreshNotBefore, &s.RefreshExpiresAt, &s.EndsAt} {
		*t = t.AddDate(-10, 0, 0)
	}
	keeps(e, "all times in the past", s)
}

// sessionTimes are the fields of a session that are times.
func sessionTimes(s *renew.Session) []*time.Time {
	return []*time.Time{&s.CreatedAt, &s.EndsAt, &s.RevokedAt, &s.IssuedAt, &s.RefreshNotBefore, &s.RefreshExpiresAt}
}

// timeNames are their names.
var timeNames = []string{"CreatedAt", "EndsAt", "RevokedAt", "IssuedAt", "NotBefore", "ExpiresAt"}

func keepsMilliseconds(e *tokenEnv) {
	for _, ms := range []int{0, 1, 10, 100, 499, 500, 501, 999} {
		s := newSession(e)
		for i, t := range sessionTimes(&s) {
			*t = base.Truncate(time.Second).Add(time.Duration(i)*time.Hour + time.Duration(ms)*time.Millisecond)
		}
		keeps(e, fmt.Sprintf("times of %d ms after a second", ms), s)
	}
}

func keepsFinerTimes(e *tokenEnv) {
	for _, fine := range []time.Duration{time.Nanosecond, 999 * time.Nanosecond, 500 * time.Microsecond, 999999 * time.Nanosecond} {
		s := newSession(e)
		for i, t := range sessionTimes(&s) {
			*t = base.Truncate(time.Second).Add(time.Duration(i)*time.Hour + 999*time.Millisecond + fine)
		}
		keeps(e, fmt.Sprintf("times of %v after a millisecond", fine), s)
	}
}

// zones are east and west of Greenwich, one by half an hour, and one on the
// other side of midnight. Their names are those of no zone.
var zones = []*time.Location{
	time.FixedZone("east", 5*3600+1800),
	time.FixedZone("west", -9*3600),
	time.FixedZone("far east", 14*3600),
}

func keepsInstants(e *tokenEnv) {
	for _, zone := range zones {
		s := newSession(e)
		for i, t := range sessionTimes(&s) {
			*t = base.Add(time.Duration(i) * time.Hour).In(zone)
		}
		keeps(e, "times in the zone "+zone.String(), s)
	}
}

func keepsFarTimes(e *tokenEnv) {
	for _, t := range []time.Time{
		time.Date(2038, time.January, 19, 3, 14, 8, 5e6, time.UTC),
		time.Date(2106, time.February, 7, 6, 28, 16, 5e6, time.UTC),
		time.Date(2300, time.December, 31, 23, 59, 59, 999e6, time.UTC),
	} {
		s := newSession(e)
		s.EndsAt, s.RefreshExpiresAt = t, t
		keeps(e, fmt.Sprintf("an end in the year %d", t.Year()), s)
	}
}

func keepsClaims(e *tokenEnv) {
	for _, c := range []struct{ what, claims string }{
		{"an integer of 2^53+1", `{"n":9007199254740993}`},
		{"an integer of 30 digits", `{"n":123456789012345678901234567890}`},
		{"a negative integer of 64 bits", `{"n":-9223372036854775808}`},
		{"decimals of many digits", `{"pi":3.14159265358979323846264338327950288,"tenth":0.1}`},
		{"a number with an exponent", `{"large":6.02214076e23,"small":1e-300}`},
		{"a number beyond a float", `{"n":1e400}`},
		{"true, false and null", `{"t":true,"f":false,"n":null}`},
		{"empty values", `{"s":"","a":[],"o":{}}`},
		{"nested values", `{"a":[1,[2,[3,{"b":{"c":[{"d":null}]}}]]]}`},
		{"numbers as strings", `{"n":"9007199254740993","b":"true"}`},
		{"escapes", `{"s":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`},
		{"a null character", `{"s":"a\u0000b"}`},
		{"HTML", `{"s":"<a href='x'>&amp;</a>"}`},
		{"unicode", `{"ключ":"значение 値 😀 e\u0301 é"}`},
		{"names that differ in case", `{"Role":1,"role":2,"ROLE":3}`},
		{"names with dots, dollars and spaces", `{"a.b":1,"$set":{"a":1}," x ":2,"":3}`},
		{"white space", " { \"a\" : [ 1 , 2 ] }\n"},
		{"16 KiB", `{"s":"` + strings.Repeat("0123456789abcde ", 1<<10)[:16<<10-8] + `"}`},
	} {
		s := newSession(e)
		s.Claims = json.RawMessage(c.claims)
		keeps(e, "claims of "+c.what, s)
	}
}

func keepsLongFields(e *tokenEnv) {
	s := newSession(e)
	s.Subject = strings.Repeat("値", 85) // 255 bytes
	s.UserAgent = strings.Repeat("😀", 256)
	s.IP = "2001:0db8:1111:2222:3333:4444:255.255.255.255"
	s.Audience = nil
	for i := range 64 {
		s.Audience = append(s.Audience, fmt.Sprintf("https://api-%02d.example.com/%s", i, strings.Repeat("x", 30)))
	}
	keeps(e, "fields of their greatest length, of multi-byte characters", s)
	s = newSession(e)
	s.UserAgent = strings.Repeat("a", 1024)
	keeps(e, "a user agent of 1,024 bytes", s)
}

func keepsAudience(e *tokenEnv) {
	for _, audience := range [][]string{
		{"one"},
		{""},
		{"b", "a", "b"},
		{"a,b", "c d", "e;f", "g|h", "i\tj"},
		{`"quoted"`, `[1]`, `{x}`, `\`, `null`, "NULL"},
		{" padded ", "値", "😀"},
	} {
		s := newSession(e)
		s.Audience = audience
		keeps(e, fmt.Sprintf("audience %q", audience), s)
	}
}

func keepsIdempotencyKeyHash(e *tokenEnv) {
	var b byte
	for range 256 / 32 {
		first := b
		s := newSession(e)
		s.IdempotencyKeyHash = nil
		for range 32 {
			s.IdempotencyKeyHash = append(s.IdempotencyKeyHash, b)
			b++
		}
		keeps(e, fmt.Sprintf("a retry proof of the bytes %#x to %#x", first, first+31), s)
	}
	s := newSession(e)
	s.IdempotencyKeyHash = bytes.Repeat([]byte{0}, 32)
	keeps(e, "a retry proof of zero bytes", s)
}

func keepsGeneration(e *tokenEnv) {
	for _, n := range []int64{0, 1, 1<<31 + 1, 1<<53 + 1, 1<<63 - 1} {
		s := newSession(e)
		s.Generation = n
		keeps(e, fmt.Sprintf("generation %d", n), s)
	}
}
