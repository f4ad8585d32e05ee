package renew_test

import (
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

// goJoseAlone is what a careful user of go-jose does with a refresh token: the
// key by its kid within the app, that key's algorithm only, the registered
// claims validated, the private ones read into a struct and looked at.
func goJoseAlone(w *hostileWorld, token string) error {
	var algs []jose.SignatureAlgorithm
	for alg := range w.forge.keys {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	unverified, err := jwt.ParseSigned(token, algs)
	if err != nil {
		return err
	}
	key, err := w.store.VerificationKey(w.ctx, w.app.ID, unverified.Headers[0].KeyID)
	if err != nil {
		return err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(key.Algorithm())})
	if err != nil {
		return err
	}
	var registered jwt.Claims
	var private struct {
		Type      string `json:"type"`
		TokenID   string `json:"jid"`
		SessionID string `json:"sid"`
	}
	if err := parsed.Claims(key.Public(), &registered, &private); err != nil {
		return err
	}
	if private.Type != "refresh" {
		return errors.New("not a refresh token")
	}
	if private.TokenID != w.forge.session.TokenID || private.SessionID != w.forge.session.ID {
		return errors.New("not the session's token")
	}
	return registered.ValidateWithLeeway(jwt.Expected{Issuer: "issuer_1", Time: w.clock.Now()}, 0)
}

// goJoseLetsThrough are the hostile tokens that stand between the endpoint and
// nothing but this library's own checks, by what go-jose tolerates.
var goJoseLetsThrough = map[string][]string{
	"line breaks, which its base64 decoder skips": {
		`base64: a line feed after`,
		`base64: a line feed before`,
		`base64: header, a carriage return in it`,
		`base64: header, a line break after`,
		`base64: header, a line feed in it`,
		`base64: line breaks around`,
		`base64: payload, a carriage return in it`,
		`base64: payload, a line break after`,
		`base64: payload, a line feed in it`,
		`base64: payload, all of it in line breaks`,
		`base64: signature, a carriage return in it`,
		`base64: signature, a line break after`,
		`base64: signature, a line feed in it`,
	},
	"bits at the end of base64, which it throws away": {
		`base64: header, spare bits`,
		`base64: payload, spare bits`,
		`base64: signature, spare bits`,
	},
	"a signature over an unencoded payload (RFC 7797)": {
		`header: b64 false, critical, payload unencoded for the signature`,
		`header: b64 true`,
		`header: crit ["b64"]`,
	},
	"header members that it does not know, or does not look at": {
		`header: a member without a name`,
		`header: apu ""`,
		`header: crit []`,
		`header: crit null`,
		`header: cty "JWT"`,
		`header: depth in an unknown member`,
		`header: enc "A256GCM"`,
		`header: epk {}`,
		`header: iss "issuer_1"`,
		`header: jku "https://attacker.example/jwks.json"`,
		`header: jwk of the app's own key`,
		`header: nonce "x"`,
		`header: url "https://attacker.example/"`,
		`header: x5t "dGh1bWJwcmludA"`,
		`header: x5t#S256 "dGh1bWJwcmludA"`,
		`header: x5u "https://attacker.example/chain.pem"`,
		`header: zip "DEF"`,
	},
	"any typ": {
		`header: typ ""`,
		`header: typ "JOSE"`,
		`header: typ "JOSE+JSON"`,
		`header: typ "JWE"`,
		`header: typ "JWT "`,
		`header: typ "application/jwt"`,
		`header: typ "at+jwt"`,
		`header: typ "jwt"`,
		`header: typ "rt+jwt"`,
		`header: typ 1`,
		`header: typ ["JWT"]`,
		`header: typ null`,
	},
	"names in another case, which it ignores or ignores the case of": {
		`header: ALG besides alg`,
		`header: Kid besides kid`,
		`header: kid with a Kelvin sign besides kid`,
		`payload: EXP besides exp`,
		`payload: EXP for exp`,
		`payload: IAT for iat`,
		`payload: Iss besides iss`,
		`payload: Jid besides jid`,
		`payload: NBF for nbf`,
		`payload: SUB, which no refresh token has`,
		`payload: TYPE besides type`,
		`payload: UserAgent in other case`,
		`payload: sid with a long s besides sid`,
		`payload: the same by an escape`,
	},
	"text that is not Unicode": {
		`header: a lone high surrogate`,
		`header: a lone low surrogate`,
		`header: a lone surrogate in a name`,
		`header: a surrogate in UTF-8`,
		`header: an overlong encoding`,
		`header: invalid UTF-8 in a name`,
		`header: invalid UTF-8 in a value`,
		`header: surrogates the wrong way round`,
		`payload: a lone high surrogate`,
		`payload: a lone low surrogate`,
		`payload: a lone surrogate in a name`,
		`payload: a surrogate in UTF-8`,
		`payload: an overlong encoding`,
		`payload: invalid UTF-8 in a name`,
		`payload: invalid UTF-8 in a value`,
		`payload: surrogates the wrong way round`,
	},
	"claims that are missing or null, and numbers that are no whole seconds": {
		`exp: 2^53`,
		`exp: 2^53+1`,
		`exp: missing`,
		`exp: null`,
		`iat: a fraction`,
		`iat: a fraction of nothing`,
		`iat: an exponent`,
		`iat: missing`,
		`iat: negative`,
		`iat: negative zero`,
		`iat: null`,
		`nbf: a fraction`,
		`nbf: a fraction of nothing`,
		`nbf: an exponent`,
		`nbf: missing`,
		`nbf: negative`,
		`nbf: negative zero`,
		`nbf: null`,
	},
	"tokens of any length": {
		`segments: 10 MB`,
		`segments: 90 KiB`,
		`segments: a byte past 8 KiB`,
	},
	"PSS salts of any length (RFC 7518 section 3.5)": {
		`signature: PS256, a salt a byte too long`,
		`signature: PS256, a short salt`,
		`signature: PS256, no salt`,
		`signature: PS256, the longest salt`,
	},
}

// If a later go-jose refuses one of these, this test says so, and the check in
// front of it may be looked at again; if it lets through more, the same.
func TestWhatGoJoseAloneLetsThrough(t *testing.T) {
	w := newHostileWorld(t)
	expected := map[string]string{}
	for why, names := range goJoseLetsThrough {
		for _, name := range names {
			expected[name] = why
		}
	}
	for _, h := range hostileTokens() {
		w.login(t)
		err := goJoseAlone(w, h.make(w.forge))
		why, lenient := expected[h.name]
		delete(expected, h.name)
		if lenient {
			require.NoError(t, err, "go-jose now refuses %q; it tolerated: %s", h.name, why)
		} else {
			require.Error(t, err, "go-jose now tolerates %q: %s", h.name, h.why)
		}
	}
	require.Empty(t, expected, "names that are not in the corpus")
}
