package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// keepCases test law T1.
var keepCases = append(everyValue(createsValue), testCase[*tokens]{name: "by-its-own-clock", run: keepsPastTheEnd})

// value is a session that some store does not keep.
type value struct {
	what   string
	change func(s *renew.Session)
}

// sessionTimes are the fields of a session that are times.
func sessionTimes(s *renew.Session) []*time.Time {
	return []*time.Time{&s.CreatedAt, &s.EndsAt, &s.RevokedAt, &s.IssuedAt, &s.RefreshNotBefore, &s.RefreshExpiresAt}
}

// zones are east and west of Greenwich, one by half an hour, and one on the
// other side of midnight. Their names are those of no zone.
var zones = []*time.Location{
	time.FixedZone("east", 5*3600+1800),
	time.FixedZone("west", -9*3600),
	time.FixedZone("far east", 14*3600),
}

// timesAt sets all times to base, a fraction of a second and some hours apart.
func timesAt(fraction time.Duration, zone *time.Location) func(*renew.Session) {
	return func(s *renew.Session) {
		for i, t := range sessionTimes(s) {
			if t != &s.RevokedAt {
				*t = base.Truncate(time.Second).Add(time.Duration(i)*time.Hour + fraction).In(zone)
			}
			if t == &s.CreatedAt { // lists are ordered by it, to the precision of the store
				*t = t.Truncate(time.Millisecond)
			}
		}
	}
}

// keptFor is how long a store must keep a session that has ended, see law T11.
const keptFor = time.Hour

// justEnded makes a session one whose refresh token expired a while ago, nearly as
// long as a store must keep it: so long as a case may take, it still must.
func (c *config) justEnded(s *renew.Session) {
	now := time.Now().Truncate(time.Millisecond)
	s.CreatedAt, s.IssuedAt, s.RefreshNotBefore = now.Add(-4*time.Hour), now.Add(-3*time.Hour), now.Add(-3*time.Hour)
	s.RefreshExpiresAt, s.EndsAt = now.Add(-max(keptFor-2*c.scaled(c.context), keptFor/6)), time.Time{}
}

var awkwardClaims = []struct{ what, claims string }{
	{"an integer of 2^53+1", `{"n":9007199254740993}`},
	{"an integer of 30 digits", `{"n":123456789012345678901234567890}`},
	{"a negative integer of 64 bits", `{"n":-9223372036854775808}`},
	{"decimals of many digits", `{"pi":3.14159265358979323846264338327950288,"tenth":0.1}`},
	{"a number with an exponent", `{"large":6.02214076e23,"small":1e-300}`},
	{"a number beyond a float", `{"n":1e400}`},
	{"true, false and null", `{"t":true,"f":false,"n":null}`},
	{"empty values", `{"s":"","a":[],"o":{}}`},
	{"no member", `{}`},
	{"nested values", `{"a":[1,[2,[3,{"b":{"c":[{"d":null}]}}]]]}`},
	{"numbers as strings", `{"n":"9007199254740993","b":"true"}`},
	{"escapes", `{"s":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`},
	{"a null character", `{"s":"a\u0000b"}`},
	{"HTML", `{"s":"<a href='x'>&amp;</a>"}`},
	{"unicode", `{"ключ":"значение 値 😀 e\u0301 é"}`},
	{"names that differ in case", `{"Role":1,"role":2,"ROLE":3}`},
	{"names with dots, dollars and spaces", `{"a.b":1,"$set":{"a":1}," x ":2,"":3}`},
	{"white space", " { \"a\" : [ 1 , 2 ] }\n"},
	{"4 KiB", `{"s":"` + strings.Repeat("0123456789abcde ", 256) + `"}`},
	{"16 KiB", `{"s":"` + strings.Repeat("0123456789abcde ", 1<<10)[:16<<10-8] + `"}`},
	{"16 KiB of numbers", `{"n":[` + strings.TrimSuffix(strings.Repeat("9007199254740993,", 960), ",") + `]}`},
}

// kinds are the values of each kind.
var kinds = []row[func(c *config) []value]{
	{"fields", fieldValues},
	{"claims", claimValues},
	{"audience", audienceValues},
	{"hash", hashValues},
	{"generation", generationValues},
	{"times", timeValues},
	{"order of times", orderValues},
}

// values are sessions of which each must be kept, by each way to write it and
// each way to read it.
func (c *config) values() (list []value) {
	for _, kind := range kinds {
		list = append(list, kind.value(c)...)
	}
	return list
}

// everyValue returns a case for each kind of values, which runs f for each of them, several
// at a time. f reports whether all was well.
func everyValue(f func(e *tokenEnv, i int, v value) (ok bool)) []testCase[*tokens] {
	return rows("values", kinds, func(e *tokenEnv, values func(c *config) []value) {
		list := values(&e.config)
		e.spread(len(list), func(i int) {
			if !f(e, i, list[i]) {
				e.note(list[i])
			}
		})
	})
}

func fieldValues(*config) []value {
	return []value{
		plainValue,
		{"all optional fields empty", func(s *renew.Session) {
			s.Audience, s.Claims, s.IdempotencyKeyHash = nil, nil, nil
			s.EndsAt, s.Generation, s.PreviousTokenID = time.Time{}, 0, ""
			s.IP, s.UserAgent = "", ""
		}},
		{"another subject", func(s *renew.Session) { s.Subject = "another " + newID() }},
		{"a subject of 255 bytes", func(s *renew.Session) { s.Subject = uniqueName(newID(), strings.Repeat("値", 85)) }},
		{"a user agent of 1,024 bytes", func(s *renew.Session) { s.UserAgent = strings.Repeat("a", 1024) }},
		{"a user agent of multi-byte characters", func(s *renew.Session) { s.UserAgent = strings.Repeat("😀", 256) }},
		{"a user agent with quotes and spaces", func(s *renew.Session) { s.UserAgent = ` 'Robert"); DROP TABLE x;-- \%_` + "\u00a0 " }},
		{"an IP address of 45 bytes", func(s *renew.Session) { s.IP = "2001:0db8:1111:2222:3333:4444:255.255.255.255" }},
		{"an IPv4 address", func(s *renew.Session) { s.IP = "192.0.2.255" }},
	}
}

func claimValues(*config) (list []value) {
	for _, c := range awkwardClaims {
		list = append(list, value{"claims of " + c.what, func(s *renew.Session) { s.Claims = json.RawMessage(c.claims) }})
	}
	return list
}

func audienceValues(*config) (list []value) {
	for _, audience := range [][]string{
		{"one"},
		{""},
		{"b", "a", "b"},
		{"a,b", "c d", "e;f", "g|h", "i\tj"},
		{`"quoted"`, `[1]`, `{x}`, `\`, `null`, "NULL"},
		{" padded ", "値", "😀"},
	} {
		list = append(list, value{fmt.Sprintf("audience %q", audience), func(s *renew.Session) { s.Audience = slices.Clone(audience) }})
	}
	return append(list, value{"4 KiB of audience", func(s *renew.Session) {
		s.Audience = nil
		for i := range 64 {
			s.Audience = append(s.Audience, fmt.Sprintf("https://api-%02d.example.com/%s", i, strings.Repeat("x", 30)))
		}
	}})
}

func hashValues(*config) []value {
	list := []value{{"a hash of zero bytes", func(s *renew.Session) { s.IdempotencyKeyHash = make([]byte, 32) }}}
	for first := 0; first < 256; first += 32 {
		list = append(list, value{fmt.Sprintf("a hash of the bytes from %#x", first), func(s *renew.Session) {
			s.IdempotencyKeyHash = nil
			for i := range 32 {
				s.IdempotencyKeyHash = append(s.IdempotencyKeyHash, byte(first+i)) //nolint:gosec // below 256
			}
		}})
	}
	return list
}

func generationValues(*config) (list []value) {
	for _, n := range []int64{0, 1, 1<<31 + 1, 1<<53 + 1, 1<<63 - 1} {
		list = append(list, value{fmt.Sprintf("generation %d", n), func(s *renew.Session) { s.Generation = n }})
	}
	return list
}

func timeValues(*config) (list []value) {
	for _, ms := range []time.Duration{0, 1, 10, 100, 499, 500, 501, 999} {
		list = append(list, value{fmt.Sprintf("times of %d ms after a second", ms), timesAt(ms*time.Millisecond, time.UTC)})
	}
	for _, fine := range []time.Duration{time.Nanosecond, 500 * time.Microsecond, 999999 * time.Nanosecond} {
		list = append(list, value{fmt.Sprintf("times of %v after a millisecond", fine), timesAt(999*time.Millisecond+fine, time.UTC)})
	}
	for _, zone := range zones {
		list = append(list, value{"times in the zone " + zone.String(), timesAt(5*time.Millisecond, zone)})
	}
	for _, t := range []time.Time{
		time.Date(2038, time.January, 19, 3, 14, 8, 5e6, time.UTC),
		time.Date(2106, time.February, 7, 6, 28, 16, 5e6, time.UTC),
		time.Date(2300, time.December, 31, 23, 59, 59, 999e6, time.UTC),
	} {
		list = append(list, value{fmt.Sprintf("an end in the year %d", t.Year()), func(s *renew.Session) { s.EndsAt, s.RefreshExpiresAt = t, t }})
	}
	return list
}

func orderValues(c *config) []value {
	return []value{
		{"an end that is past", c.justEnded},
		{"times that go back", func(s *renew.Session) {
			for _, t := range []*time.Time{&s.IssuedAt, &s.RefreshNotBefore, &s.RefreshExpiresAt} {
				*t = t.Add(-90 * time.Minute)
			}
		}},
		{"an absolute end that comes first", func(s *renew.Session) { s.EndsAt = s.RefreshExpiresAt.Add(-time.Minute) }},
		{"all times equal", func(s *renew.Session) {
			s.CreatedAt, s.IssuedAt, s.RefreshNotBefore = base, base, base
			s.RefreshExpiresAt, s.EndsAt = base.Add(time.Millisecond), base.Add(time.Millisecond)
		}},
	}
}

// sessionWith returns a new session with this value.
func sessionWith(e *tokenEnv, v value) renew.Session {
	s := newSession(e)
	v.change(&s)
	return s
}

func createsValue(e *tokenEnv, i int, v value) bool {
	s, revoked := sessionWith(e, v), sessionWith(e, v)
	revoked.RevokedAt = base.Add(90*time.Minute + 5*time.Millisecond)
	w := world{}
	ok := w.do(e, e.handle(i), createSessionOp(s))
	return w.do(e, e.handle(i), createSessionOp(revoked)) && ok
}

// rotatesValue rotates to a value, and from it to the next, and writes each once
// more as it is. From a token ID that is not the current one it does not.
func rotatesValue(e *tokenEnv, i int, v value) bool {
	s := newSession(e)
	w := world{}
	w.do(e, e.a, createSessionOp(s))
	list := e.values()
	for n, v := range []value{v, list[newRandom(e.seed, uint64(i)).IntN(len(list))], plainValue} { //nolint:gosec // an index
		next := successor(s)
		v.change(&next)
		once := next.Clone()
		once.UserAgent, once.IdempotencyKeyHash = "written once more", nil
		for handle, op := range []tokenOp{
			rotateSessionOp(s.TokenID, next), rotateSessionOp(next.TokenID, once), rotateSessionOp(next.TokenID, next),
			rotateSessionOp([]string{s.TokenID, newID()}[i%2], successor(next)), // a conflict
		} {
			if !w.do(e, e.handle(i+n+handle/2), op) {
				e.note(v)
				return n > 0 // the first value is noted by everyValue
			}
		}
		s = next
	}
	return true
}

// revokesValue revokes a session with a value, once it was renewed, and does not
// rotate it afterwards.
func revokesValue(e *tokenEnv, i int, v value) (ok bool) {
	w := world{}
	s := sessionWith(e, v)
	w.do(e, e.a, createSessionOp(s))
	renewed := sessionWith(e, v)
	w.do(e, e.b, createSessionOp(renewed))
	next := successor(renewed)
	v.change(&next)
	w.do(e, e.a, rotateSessionOp(renewed.TokenID, next))
	for n, key := range []rowKey{keyOf(s), keyOf(next)} {
		if !w.do(e, e.handle(i+n), revokeSessionOp(key, revokedAt.In(zones[i%len(zones)]))) ||
			!w.do(e, e.handle(i+n+1), revokeSessionOp(key, revokedAt.Add(time.Hour))) {
			return false
		}
		last := successor(w[key])
		v.change(&last)
		last.RevokedAt = time.Time{}
		if !w.do(e, e.handle(i+n), rotateSessionOp(w[key].TokenID, last)) { // a conflict
			return false
		}
	}
	return true
}

// revokesSubjectOfValue revokes sessions with a value by their subject.
func revokesSubjectOfValue(e *tokenEnv, i int, v value) bool {
	w := world{}
	s := sessionWith(e, v)
	other := sessionWith(e, v)
	other.Subject = s.Subject
	kept := sessionWith(e, v)
	kept.Subject = s.Subject
	for n, session := range []renew.Session{s, other, kept} {
		w.do(e, e.handle(n), createSessionOp(session))
	}
	twin := twinOf(e, s)
	w[keyOf(twin)] = twin
	next := successor(other)
	v.change(&next)
	next.Subject = s.Subject
	w.do(e, e.a, rotateSessionOp(other.TokenID, next))
	return w.do(e, e.handle(i), revokeSubjectOp(e.app, s.Subject, revokedAt.In(zones[i%len(zones)]), kept.ID, newID(), swapCase(next.ID))) &&
		w.do(e, e.handle(i+1), revokeSubjectOp(e.app, s.Subject, revokedAt.Add(time.Hour)))
}

// keepsPastTheEnd reads sessions when they have ended by the clock, and some that
// would have if they had not been renewed, or if another time were their end.
func keepsPastTheEnd(e *tokenEnv) {
	soon := time.Now().Add(400 * time.Millisecond).Truncate(time.Millisecond)
	w := world{}
	var renewed []renew.Session
	for i, end := range []func(s *renew.Session){
		func(s *renew.Session) { s.RefreshExpiresAt, s.EndsAt = soon, time.Time{} },
		func(s *renew.Session) { s.RefreshExpiresAt = soon },
		func(s *renew.Session) { s.EndsAt = soon },
	} {
		stays, next := newSession(e), newSession(e)
		end(&stays)
		end(&next)
		w.do(e, e.handle(i), createSessionOp(stays))
		w.do(e, e.handle(i), createSessionOp(next))
		renewed = append(renewed, next)
	}
	for i, s := range renewed {
		next := successor(s)
		next.RefreshExpiresAt, next.EndsAt = base, base.Add(time.Hour)
		w.do(e, e.handle(i), rotateSessionOp(s.TokenID, next))
	}
	ended := newSession(e)
	e.justEnded(&ended)
	w.do(e, e.a, createSessionOp(ended))
	old := newSession(e)
	old.CreatedAt, old.IssuedAt, old.RefreshNotBefore = soon.AddDate(-2, 0, 0), soon.AddDate(-1, 0, 0), soon.AddDate(0, -1, 0)
	old.RefreshExpiresAt, old.EndsAt = base, time.Time{}
	w.do(e, e.b, createSessionOp(old))
	old.ID, old.TokenID, old.RevokedAt = newID(), newID(), soon.AddDate(0, 0, -1)
	w.do(e, e.a, createSessionOp(old))
	timer := time.NewTimer(time.Until(soon.Add(1200 * time.Millisecond)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.ctx.Done():
	}
	w.is(e, "their ends, which were a second ago, or would have been without a Rotate")
	for key := range maps.Clone(w) {
		s := w[key]
		next := successor(s)
		next.RefreshExpiresAt, next.EndsAt, next.RevokedAt = base, time.Time{}, time.Time{}
		w.do(e, e.b, rotateSessionOp(s.TokenID, next)) // a conflict, if it is revoked
	}
}
