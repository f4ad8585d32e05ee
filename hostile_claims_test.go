package renew_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

func hostilePayloads() []hostileToken {
	var all []hostileToken
	add := func(name, why string, reason renew.Reason, make func(f *forge) string) {
		all = append(all, hostileToken{"payload: " + name, why, reason, make})
	}
	for _, text := range brokenObjects() {
		reason := renew.ReasonClaims
		if text.name == "an empty object" {
			reason = renew.ReasonType
		}
		add(text.name, text.why, reason, func(f *forge) string { return f.withPayload(text.of(f.claims().String())) })
	}
	for _, c := range []struct{ name, member, value string }{
		{"exp twice", "exp", "9999999999"},
		{"iss twice", "iss", `"issuer_1"`},
		{"jid twice, the same", "jid", ""},
		{"sid twice, another's last", "sid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
		{"type twice, the wrong one last", "type", `"auth"`},
		{"exp twice, once with an escape", `\u0065xp`, "9999999999"},
		{"EXP besides exp", "EXP", "9999999999"},
		{"Jid besides jid", "Jid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
		{"TYPE besides type", "TYPE", `"auth"`},
		{"Iss besides iss", "Iss", `"issuer_2"`},
		{"sid with a long s besides sid", "\u017fid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
		{"the same by an escape", `\u017fid`, `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
		{"SUB, which no refresh token has", "SUB", `"admin"`},
		{"UserAgent in other case", "UserAgent", `"x"`},
	} {
		add(c.name, "two readers, two meanings (RFC 7519 section 4)", renew.ReasonClaims, func(f *forge) string {
			value := c.value
			if value == "" {
				value = quote(f.session.TokenID)
			}
			return f.withPayload(f.claims().and(c.member, value).String())
		})
	}
	for _, name := range []string{"exp", "iat", "nbf", "jid", "sid", "iss", "type"} {
		add(strings.ToUpper(name)+" for "+name, "a reader that ignores case", renew.ReasonClaims, func(f *forge) string {
			return f.withPayload(f.claims().rename(name, strings.ToUpper(name)).String())
		})
	}
	add("binary", "not text", renew.ReasonClaims, func(f *forge) string { return f.withPayload("\x80\x04\x95\x00pickle") })
	add("CBOR", "a CWT", renew.ReasonClaims, func(f *forge) string { return f.withPayload("\xa1\x01\x68issuer_1") })
	add("a form", "not JSON", renew.ReasonClaims, func(f *forge) string { return f.withPayload("type=refresh&iss=issuer_1") })
	add("depth in a claim", "recursion", renew.ReasonClaims, func(f *forge) string {
		return f.withClaim("exp", strings.Repeat("[", 2500)+strings.Repeat("]", 2500))
	})
	add("depth of objects in a claim", "recursion", renew.ReasonClaims, func(f *forge) string {
		return f.withClaim("jid", strings.Repeat(`{"":`, 1000)+"1"+strings.Repeat("}", 1000))
	})
	return all
}

func hostileTypes() []hostileToken {
	var all []hostileToken
	for value, why := range map[string]string{
		`"Refresh"`: "another case", `"REFRESH"`: "another case", `"refresh "`: "a space after", `" refresh"`: "a space before",
		`"refresh\u0000"`: "NUL after", `"refre\u017fh"`: "a long s", `"refreshed"`: "a longer word", `""`: "empty",
		`"auth"`: "another kind", `"access"`: "another kind", `"id"`: "another kind",
		`["refresh"]`: "an array", `{"refresh":true}`: "an object", `null`: "null", `true`: "a boolean", `1`: "a number",
	} {
		all = append(all, hostileToken{
			"type: " + value, "not the refresh token's type: " + why, renew.ReasonType,
			func(f *forge) string { return f.withClaim("type", value) },
		})
	}
	return append(all, hostileToken{
		"type: missing", "an auth token is what has none", renew.ReasonType,
		func(f *forge) string { return f.withPayload(f.claims().without("type").String()) },
	}, hostileToken{
		"type: in the header instead", "a claim where a claim does not count", renew.ReasonMalformed,
		func(f *forge) string {
			return f.sign(f.es(), f.header(f.es()).and("type", `"refresh"`).String(), f.claims().without("type").String())
		},
	})
}

func hostileIssuers() []hostileToken {
	var all []hostileToken
	for value, why := range map[string]string{
		`"issuer_2"`: "another app's", `"app_1"`: "the app's ID", `"Issuer_1"`: "another case", `"issuer_1 "`: "a space after",
		`"issuer_1\u0000"`: "NUL after", `"issuer_"`: "the beginning of it", `"issuer_1/"`: "a slash after", `""`: "empty",
		`["issuer_1"]`: "an array", `["issuer_2","issuer_1"]`: "several", `{"issuer_1":1}`: "an object", `null`: "null", `1`: "a number", `true`: "a boolean",
		`"https://issuer_1"`: "a URL of it", `"*"`: "a wildcard",
	} {
		all = append(all, hostileToken{
			"iss: " + value, "not the app's issuer: " + why, renew.ReasonIssuer,
			func(f *forge) string { return f.withClaim("iss", value) },
		})
	}
	return append(all, hostileToken{
		"iss: missing", "a reader that compares only what is there", renew.ReasonIssuer,
		func(f *forge) string { return f.withPayload(f.claims().without("iss").String()) },
	})
}

func hostileTimes() []hostileToken {
	var all []hostileToken
	for _, claim := range []string{"exp", "nbf", "iat"} {
		add := func(name, why string, value string) {
			all = append(all, hostileToken{
				claim + ": " + name, why, renew.ReasonClaims,
				func(f *forge) string { return f.withClaim(claim, value) },
			})
		}
		add("a string", "a number in quotes", `"1772366400"`)
		add("a date", "ISO 8601", `"2026-03-02T13:00:00Z"`)
		add("a fraction", "RFC 7519 would allow it: this library writes whole seconds", "1772366400.5")
		add("a fraction of nothing", "a float", "1772366400.0")
		add("an exponent", "a float", "1.7723664e9")
		add("an exponent alone", "a float, a very large one", "1e99")
		add("infinite as a float", "past every float", "1e400")
		add("negative", "before 1970", "-1")
		add("negative zero", "a float's zero", "-0")
		add("2^53", "past what every reader keeps exact", "9007199254740992")
		add("2^53+1", "an integer that floats round", "9007199254740993")
		add("2^63", "past int64: negative after a wrap", "9223372036854775808")
		add("2^64", "past uint64: zero after a wrap", "18446744073709551616")
		add("of 1,000 digits", "a number that costs", strings.Repeat("9", 1000))
		add("null", "no value", "null")
		add("true", "one, elsewhere", "true")
		add("an empty array", "zero, elsewhere", "[]")
		add("an array", "its one element, elsewhere", "[9999999999]")
		add("an object", "no number", `{"$gt":0}`)
		add("an empty string", "zero, elsewhere", `""`)
		all = append(all, hostileToken{
			claim + ": missing", "a reader that checks only what is there", renew.ReasonClaims,
			func(f *forge) string { return f.withPayload(f.claims().without(claim).String()) },
		})
	}
	late := func(f *forge, d time.Duration) string { return strconv.FormatInt(f.session.IssuedAt.Add(d).Unix(), 10) }
	return append(all,
		hostileToken{"exp: zero", "1970, or never", renew.ReasonExpired, func(f *forge) string { return f.withClaim("exp", "0") }},
		hostileToken{"exp: now", "RFC 7519 section 4.1.4: on or after", renew.ReasonExpired, func(f *forge) string { return f.withClaim("exp", late(f, 0)) }},
		hostileToken{"exp: a second ago", "expired", renew.ReasonExpired, func(f *forge) string { return f.withClaim("exp", late(f, -time.Second)) }},
		hostileToken{"nbf: in two seconds", "too early", renew.ReasonTooEarly, func(f *forge) string { return f.withClaim("nbf", late(f, 2*time.Second)) }},
		hostileToken{"nbf: 2^53-1", "285 million years too early", renew.ReasonTooEarly, func(f *forge) string { return f.withClaim("nbf", "9007199254740991") }},
		hostileToken{"nbf: after exp", "never good, and too early first", renew.ReasonTooEarly, func(f *forge) string {
			return f.withPayload(f.claims().with("exp", "1").with("nbf", late(f, time.Hour)).String())
		}},
		hostileToken{"exp: expired, and another's jid", "a jid that is older than the session's: used", renew.ReasonReused, func(f *forge) string {
			return f.withPayload(f.claims().with("exp", "1").with("jid", quote(f.older.TokenID)).String())
		}},
	)
}

func hostileIDs() []hostileToken {
	var all []hostileToken
	for _, claim := range []string{"jid", "sid"} {
		add := func(name, why string, value func(f *forge) string) {
			all = append(all, hostileToken{
				claim + ": " + name, why, renew.ReasonClaims,
				func(f *forge) string { return f.withClaim(claim, value(f)) },
			})
		}
		of := func(f *forge) string {
			if claim == "jid" {
				return f.session.TokenID
			}
			return f.session.ID
		}
		fixed := func(name, why, value string) { add(name, why, func(*forge) string { return value }) }
		add("lower case", "one ID under two names", func(f *forge) string { return quote(strings.ToLower(of(f))) })
		add("one letter in lower case", "one ID under two names", func(f *forge) string { return quote(of(f)[:25] + "a") })
		add("with a space after", "a database that ignores trailing spaces", func(f *forge) string { return quote(of(f) + " ") })
		add("with NUL after", "a text that ends early elsewhere", func(f *forge) string { return quote(of(f) + `\u0000`) })
		add("a digit short", "not a ULID", func(f *forge) string { return quote(of(f)[:25]) })
		add("a digit long", "not a ULID", func(f *forge) string { return quote(of(f) + "0") })
		add("with a letter that ULIDs lack", "I is 1 to lenient readers", func(f *forge) string { return quote(of(f)[:25] + "I") })
		add("an array of it", "no string", func(f *forge) string { return "[" + quote(of(f)) + "]" })
		fixed("over 128 bits", "a ULID that overflows to another", `"8ZZZZZZZZZZZZZZZZZZZZZZZZZ"`)
		fixed("all Z", "a ULID that overflows", `"ZZZZZZZZZZZZZZZZZZZZZZZZZZ"`)
		fixed("a UUID", "not a ULID", `"017f22e2-79b0-7cc3-98c4-dc0c0c07398f"`)
		fixed("SQL", "a store that is asked in SQL", `"' OR '1'='1"`)
		fixed("a path", "a store that keeps files", `"../../app_2/session"`)
		fixed("a query", "a store that takes objects", `{"$gt":""}`)
		fixed("empty", "no ID", `""`)
		fixed("null", "no ID", "null")
		fixed("a number", "no string", "1")
		fixed("a boolean", "no string", "true")
		fixed("5 KB", "an ID that costs", quote(strings.Repeat("0", 5000)))
		fixed("full-width digits", "digits that are none", `"０１ARZ3NDEKTSV4RRFFQ69G5FA"`)
	}
	add := func(name, why string, reason renew.Reason, claims func(f *forge) object) {
		all = append(all, hostileToken{name, why, reason, func(f *forge) string { return f.withPayload(claims(f).String()) }})
	}
	add("jid: missing", "a reader that checks only what is there", renew.ReasonClaims, func(f *forge) object { return f.claims().without("jid") })
	add("jid: jti for it", "the RFC's name is not this library's", renew.ReasonClaims, func(f *forge) object { return f.claims().rename("jid", "jti") })
	add("jid: of an older session", "this session, with another login's token ID", renew.ReasonReused, func(f *forge) object {
		return f.claims().with("jid", quote(f.older.TokenID))
	})
	add("jid: of a newer session", "this session, with another login's token ID", ahead, func(f *forge) object {
		return f.claims().with("jid", quote(f.newer.TokenID))
	})
	add("jid: of another app's session", "this session, with a token ID of another tenant", ahead, func(f *forge) object {
		return f.claims().with("jid", quote(f.theirs.TokenID))
	})
	add("jid: the greatest", "a token ID that was never given out", ahead, func(f *forge) object {
		return f.claims().with("jid", `"7ZZZZZZZZZZZZZZZZZZZZZZZZZ"`)
	})
	add("jid: zero", "a token ID that was never given out", renew.ReasonReused, func(f *forge) object {
		return f.claims().with("jid", `"00000000000000000000000000"`)
	})
	add("jid: the session ID", "an ID of the other kind", renew.ReasonReused, func(f *forge) object {
		return f.claims().with("jid", quote(min(f.session.ID, f.older.TokenID)))
	})
	add("sid: of an older session", "another login of the app, with this one's token ID", ahead, func(f *forge) object {
		return f.claims().with("sid", quote(f.older.ID))
	})
	add("sid: of a newer session", "another login of the app, with this one's token ID", renew.ReasonReused, func(f *forge) object {
		return f.claims().with("sid", quote(f.newer.ID))
	})
	add("sid: of another app's session", "a session of another tenant", renew.ReasonUnknownSession, func(f *forge) object {
		return f.claims().with("sid", quote(f.theirs.ID))
	})
	add("sid: nobody's", "a session that was never stored", renew.ReasonUnknownSession, func(f *forge) object {
		return f.claims().with("sid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`)
	})
	add("sid: missing", "then the token ID names the session, and there is none of it", renew.ReasonUnknownSession, func(f *forge) object {
		return f.claims().without("sid")
	})
	add("jid and sid: another app's session", "a whole session of another tenant, signed by this app", renew.ReasonUnknownSession, func(f *forge) object {
		return refreshClaims("issuer_1", f.theirs)
	})
	return all
}

// hostileOthers are good tokens, in the wrong place or at the wrong time.
func hostileOthers() []hostileToken {
	return []hostileToken{
		{"whole: the auth token", "the same session's other token", renew.ReasonType, func(f *forge) string { return f.auth }},
		{"whole: another app's refresh token", "a tenant at another tenant's endpoint", renew.ReasonUnknownKey, func(f *forge) string { return f.theirRefresh }},
		{"whole: one of an app that shares the key", "one key, two tenants: the issuer tells them apart", renew.ReasonIssuer, func(f *forge) string {
			return f.withPayload(refreshClaims("issuer_3", f.session).String())
		}},
		{"whole: one of before the key was revoked", "good once", renew.ReasonRevokedKey, func(f *forge) string {
			return f.sign(f.revoked, f.header(f.revoked).String(), f.claims().String())
		}},
		{"whole: the documentation's own sample", "known to everybody", renew.ReasonUnknownKey, func(*forge) string {
			return "eyJhbGciOiJFUzI1NiIsImtpZCI6IjAxSk1DNlRDTTFDSDdOV0cwRThBNVNRVEhCIiwidHlwIjoiSldUIn0." +
				"eyJleHAiOjE3NDAwMDEzMDcsImlhdCI6MTczOTk5NzcwNywiaXNzIjoiYXBwX3VwZGF0ZTIiLCJqaWQiOiIwMUpNRlozWjI2WU42NkQ4SDhUMllUUVgxOSIsIm5iZiI6MTczOTk5Nzc2NywidHlwZSI6InJlZnJlc2gifQ." +
				"7GkonTcQytLzAKugOdzVA3qut9ZmPcik42Z6Ww9UckT6IB5WrrLKq_zSxXN0j2u8k0z_6ty4vhg7KtQOM0Ja3w"
		}},
		{"whole: an ID token of the same key", "another kind of JWT that the key may sign (RFC 8725 section 2.8)", renew.ReasonType, func(f *forge) string {
			return f.withPayload(f.claims().without("type").without("sid").and("sub", `"user@example.com"`).and("nonce", `"n"`).String())
		}},
		{"whole: a logout token of the same key", "another kind of JWT that the key may sign", renew.ReasonType, func(f *forge) string {
			return f.withPayload(f.claims().without("type").and("events", `{"http://schemas.openid.net/event/backchannel-logout":{}}`).String())
		}},
	}
}

// The promise: an auth token has the claims that it must have, each of its type,
// or proves nothing.
func TestAuthTokensWithBadClaims(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := &forge{keys: map[renew.Algorithm]*renew.SigningKey{renew.ES256: f.key}, session: f.session(b)}
	good := made.claims().without("type").and("sub", `"user"`).and("ip", `"192.0.2.1"`).and("useragent", `"agent"`).and("aud", `["a","b"]`)
	verify := func(t *testing.T, claims object) (*renew.AuthClaims, error) {
		t.Helper()
		return f.VerifyAuthToken(f.ctx, f.app.ID, made.withPayload(claims.String()))
	}
	bad := map[string]object{}
	for _, name := range []string{"sub", "ip", "useragent"} {
		bad[name+" missing"] = good.without(name)
		for _, value := range []string{"null", "1", "true", `["user"]`, "{}"} {
			bad[name+" "+value] = good.with(name, value)
		}
	}
	for _, value := range []string{"null", "1", "true", "{}", `{"a":"b"}`, "[1]", "[null]", `["a",1]`, `["a",["b"]]`, `[["a"]]`} {
		bad["aud "+value] = good.with("aud", value)
	}
	for _, name := range []string{"iat", "nbf", "exp", "jid"} {
		bad[name+" missing"] = good.without(name)
		bad[name+" null"] = good.with(name, "null")
	}
	bad["sid null"] = good.with("sid", "null")
	bad["SUB besides sub"] = good.and("SUB", `"admin"`)
	bad["sub twice"] = good.and("sub", `"admin"`)
	bad["a custom claim twice"] = good.and("role", `"user"`).and("role", `"admin"`)
	bad["Aud for aud"] = good.rename("aud", "Aud")
	for name, claims := range bad {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, claims)
			require.Nil(t, got)
			requireInvalidAuth(t, err, renew.ReasonClaims)
		})
	}
	for name, c := range map[string]struct {
		claims object
		aud    []string
	}{
		"several audiences": {good, []string{"a", "b"}},
		"one audience":      {good.with("aud", `"a"`), []string{"a"}},
		"an array of one":   {good.with("aud", `["a"]`), []string{"a"}},
		"no audience":       {good.without("aud"), nil},
		"an empty array":    {good.with("aud", `[]`), []string{}},
		"jti is no claim":   {good.and("jti", `"x"`), []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify(t, c.claims)
			require.NoError(t, err)
			require.Equal(t, c.aud, []string(got.Audience))
			require.Empty(t, got.Claims)
		})
	}
	t.Run("no sid", func(t *testing.T) {
		got, err := verify(t, good.without("sid"))
		require.NoError(t, err)
		require.Equal(t, b.TokenID, got.SessionID)
	})
}

// The promise: a store may write the JSON of custom claims in its own way, as
// databases do that know JSON, and the tokens are good all the same.
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

// A refresh token without sid belongs to the session whose ID is its jid: so
// tokens of other issuers are taken over.
func TestTokenWithoutSidBelongsToTheSessionOfItsID(t *testing.T) {
	f := newFixture(t)
	s := fuzzSession()
	s.ID = s.TokenID
	require.NoError(t, f.store.CreateSession(f.ctx, s))
	made := &forge{keys: map[renew.Algorithm]*renew.SigningKey{renew.ES256: f.key}, session: s}
	req := renew.RenewRequest{
		AppID: f.app.ID, RefreshToken: made.withPayload(made.claims().without("sid").String()), IP: testIP, UserAgent: testAgent,
	}
	second, err := f.Renew(f.ctx, req)
	require.NoError(t, err)
	require.Equal(t, s.ID, second.SessionID)
	require.Equal(t, s.ID, claims(t, second.RefreshToken)["sid"])
	_, err = f.Renew(f.ctx, req)
	requireRefused(t, err, renew.ReasonSuperseded)
	f.renew(second)
}
