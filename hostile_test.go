package renew_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// hostileToken is a refresh token that must renew nothing, and end nothing.
type hostileToken struct {
	name   string
	why    string       // what it tries, or whom it would fool
	reason renew.Reason // of the refusal
	make   func(f *forge) string
}

// ahead stands in a hostileToken for renew.ErrAhead: a token that only the
// server's own key can have signed, and that the store has not seen.
const ahead renew.Reason = "ahead of the store"

// hostileTokens returns the whole corpus.
func hostileTokens() []hostileToken {
	var all []hostileToken
	for _, part := range [][]hostileToken{
		hostileAlgorithms(), hostileKeys(), hostileHeaders(), hostileSerializations(),
		hostileSignatures(), hostileEncodings(), hostileSegments(),
		hostilePayloads(), hostileTypes(), hostileIssuers(), hostileTimes(), hostileIDs(), hostileOthers(),
	} {
		all = append(all, part...)
	}
	return all
}

// forge makes tokens by hand, from the standard library's crypto alone: what it
// signs is not what this library, or go-jose, would sign.
type forge struct {
	keys     map[renew.Algorithm]*renew.SigningKey // of app_1, all good today
	revoked  *renew.SigningKey                     // of app_1
	deleted  *renew.SigningKey                     // once of app_1
	foreign  *renew.SigningKey                     // of app_2
	stranger *renew.SigningKey                     // of nobody

	refresh, auth string // a good pair of app_1, of this session
	session       renew.Session
	older, newer  renew.Session // two more of app_1: their token IDs are below and above
	theirs        renew.Session // one of app_2
	theirRefresh  string
}

// object is a JSON object as it will be written: names and values as they stand,
// in this order.
type object []struct{ name, value string }

func (o object) String() string {
	members := make([]string, len(o))
	for i, m := range o {
		members[i] = `"` + m.name + `":` + m.value
	}
	return "{" + strings.Join(members, ",") + "}"
}

// and returns o with another member at its end, which it may have already.
func (o object) and(name, value string) object {
	return append(o[:len(o):len(o)], struct{ name, value string }{name, value})
}

// with returns o with this value for a member.
func (o object) with(name, value string) object {
	changed := append(object{}, o...)
	for i := range changed {
		if changed[i].name == name {
			changed[i].value = value
			return changed
		}
	}
	return changed.and(name, value)
}

// rename returns o with another name for a member.
func (o object) rename(from, to string) object {
	changed := append(object{}, o...)
	for i := range changed {
		if changed[i].name == from {
			changed[i].name = to
		}
	}
	return changed
}

// without returns o without a member.
func (o object) without(name string) object {
	var rest object
	for _, m := range o {
		if m.name != name {
			rest = rest.and(m.name, m.value)
		}
	}
	return rest
}

func quote(s string) string { return `"` + s + `"` }

// header is the header that the library writes for this key.
func (f *forge) header(key *renew.SigningKey) object {
	v := key.VerificationKey()
	return object{{"alg", quote(string(v.Algorithm()))}, {"kid", quote(v.KeyID())}, {"typ", `"JWT"`}}
}

// claims are those of the session's current refresh token.
func (f *forge) claims() object { return refreshClaims("issuer_1", f.session) }

func refreshClaims(issuer string, s renew.Session) object {
	return object{
		{"exp", strconv.FormatInt(s.RefreshExpiresAt.Unix(), 10)},
		{"iat", strconv.FormatInt(s.IssuedAt.Unix(), 10)},
		{"iss", quote(issuer)},
		{"jid", quote(s.TokenID)},
		{"nbf", strconv.FormatInt(s.RefreshNotBefore.Unix(), 10)},
		{"sid", quote(s.ID)},
		{"type", `"refresh"`},
	}
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign returns the compact JWS of any header and any payload, signed with the
// key's own algorithm.
func (f *forge) sign(key *renew.SigningKey, header, payload string) string {
	return f.signAs(key.VerificationKey().Algorithm(), key.Signer(), header, payload)
}

func (f *forge) signAs(alg renew.Algorithm, signer crypto.Signer, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + encode(string(rawSignature(alg, signer, input)))
}

// resign returns the good token of this key with another signature.
func (f *forge) resign(key *renew.SigningKey, change func(input string, signature []byte) []byte) string {
	token := f.sign(key, f.header(key).String(), f.claims().String())
	i := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	must(err)
	return token[:i+1] + encode(string(change(token[:i], signature)))
}

// es is the app's active key.
func (f *forge) es() *renew.SigningKey { return f.keys[renew.ES256] }

// withHeader returns the good token with this header, signed with the app's key.
func (f *forge) withHeader(header string) string {
	return f.sign(f.es(), header, f.claims().String())
}

// withPayload returns the good token with this payload, signed with the app's
// key.
func (f *forge) withPayload(payload string) string {
	return f.sign(f.es(), f.header(f.es()).String(), payload)
}

func (f *forge) withClaim(name, value string) string {
	return f.withPayload(f.claims().with(name, value).String())
}

// segments are those of the good token.
func (f *forge) segments() (header, payload, signature string) {
	s := strings.Split(f.refresh, ".")
	return s[0], s[1], s[2]
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func hashOf(alg renew.Algorithm) crypto.Hash {
	switch string(alg[len(alg)-3:]) {
	case "384":
		return crypto.SHA384
	case "512":
		return crypto.SHA512
	}
	return crypto.SHA256
}

// rawSignature is the JWS signature of RFC 7518 section 3 and RFC 8037.
func rawSignature(alg renew.Algorithm, signer crypto.Signer, input string) []byte {
	h := hashOf(alg).New()
	h.Write([]byte(input))
	digest := h.Sum(nil)
	switch key := signer.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		must(err)
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		if alg[0] == 'P' {
			return pssSignature(key, hashOf(alg), input, rsa.PSSSaltLengthEqualsHash)
		}
		signature, err := rsa.SignPKCS1v15(nil, key, hashOf(alg), digest)
		must(err)
		return signature
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(input))
	}
	panic(fmt.Sprintf("a %T", signer))
}

func pssSignature(key *rsa.PrivateKey, hash crypto.Hash, input string, salt int) []byte {
	h := hash.New()
	h.Write([]byte(input))
	signature, err := rsa.SignPSS(rand.Reader, key, hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: salt})
	must(err)
	return signature
}

// hostileWorld is a fixture with all that a hostile token may refer to.
type hostileWorld struct {
	*fixture
	forge  *forge
	server *httptest.Server
	log    *bytes.Buffer
}

// newHostileWorld does not revoke for reuse: a valid signature on an earlier token
// ID would rightly end the session that the next case needs.
func newHostileWorld(t *testing.T) *hostileWorld {
	t.Helper()
	f := newFixture(t, renew.WithReuseRevocation(false))
	w := &hostileWorld{fixture: f, forge: &forge{keys: map[renew.Algorithm]*renew.SigningKey{}}, log: &bytes.Buffer{}}
	add := func(appID string, key *renew.SigningKey) *renew.SigningKey {
		require.NoError(t, f.store.RotateSigningKey(f.ctx, appID, key, f.clock.Now()))
		return key
	}
	w.forge.deleted = add(f.app.ID, generate(t, renew.ES256))
	f.rotateKey(renew.ES256)
	f.clock.Move(25 * time.Hour)
	n, err := f.store.DeleteExpiredKeys(f.ctx, f.clock.Now())
	require.NoError(t, err)
	require.Positive(t, n)
	w.forge.revoked = add(f.app.ID, generate(t, renew.ES256))
	for _, alg := range []renew.Algorithm{renew.RS256, renew.ES384, renew.ES512, renew.EdDSA} {
		w.forge.keys[alg] = add(f.app.ID, generate(t, alg))
	}
	pss, err := renew.NewSigningKey(generate(t, renew.ES256).VerificationKey().KeyID(), renew.PS256, w.forge.keys[renew.RS256].Signer())
	require.NoError(t, err)
	w.forge.keys[renew.PS256] = add(f.app.ID, pss)
	w.forge.keys[renew.ES256] = add(f.app.ID, generate(t, renew.ES256))
	require.NoError(t, f.store.RevokeKey(f.ctx, f.app.ID, w.forge.revoked.VerificationKey().KeyID(), f.clock.Now()))
	w.forge.stranger = generate(t, renew.ES256)
	w.forge.foreign = generate(t, renew.ES256)
	f.addApp("app_2", "issuer_2", w.forge.foreign)
	f.addApp("app_3", "issuer_3", w.forge.es())
	w.server = httptest.NewServer(httpadapter.New(f.Renewer, httpadapter.WithLogger(slog.New(slog.NewJSONHandler(w.log, nil)))))
	t.Cleanup(w.server.Close)
	return w
}

func generate(t *testing.T, alg renew.Algorithm) *renew.SigningKey {
	t.Helper()
	key, err := renew.GenerateSigningKey(alg)
	require.NoError(t, err)
	return key
}

// login starts the sessions that the next hostile token is made from.
func (w *hostileWorld) login(t *testing.T) *renew.Bundle {
	t.Helper()
	w.t = t
	step := func() { w.clock.Move(time.Millisecond) }
	older := w.issue()
	step()
	b := w.issue()
	step()
	newer := w.issue()
	req := w.issueRequest()
	req.AppID = "app_2"
	theirs, err := w.Issue(w.ctx, req)
	require.NoError(t, err)
	w.forge.older, w.forge.session, w.forge.newer = w.session(older), w.session(b), w.session(newer)
	w.forge.theirs, err = w.store.Session(w.ctx, "app_2", theirs.SessionID)
	require.NoError(t, err)
	w.forge.refresh, w.forge.auth, w.forge.theirRefresh = b.RefreshToken, b.AuthToken, theirs.RefreshToken
	w.hooks.calls()
	w.events.take()
	return b
}

// all returns every session that a hostile token may refer to, as the store has
// it.
func (w *hostileWorld) all(t *testing.T) []renew.Session {
	t.Helper()
	var all []renew.Session
	for _, s := range []renew.Session{w.forge.older, w.forge.session, w.forge.newer, w.forge.theirs} {
		now, err := w.store.Session(w.ctx, s.AppID, s.ID)
		require.NoError(t, err)
		all = append(all, now)
	}
	return all
}

// post sends a renewal to the documented endpoint and returns its answer.
func (w *hostileWorld) post(t *testing.T, token string) (status int, body string) {
	t.Helper()
	encoded, err := json.Marshal(map[string]string{"refresh_token": token, "ip": testIP, "useragent": testAgent})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.server.URL+"/app/app_1/renew", bytes.NewReader(encoded))
	require.NoError(t, err)
	req.Header.Set("Authorization", w.appKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := w.server.Client().Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(answer)
}

// reads is how often the session of a token may be read that is refused for this
// reason: a token that is not genuine costs the store nothing.
func reads(reason renew.Reason) int64 {
	switch reason {
	case renew.ReasonTooEarly, renew.ReasonExpired, renew.ReasonUnknownSession, renew.ReasonReused, ahead:
		return 1
	default:
		return 0
	}
}

// isGenuine reports whether a token that is refused for this reason is a refresh
// token of the app all the same: there is a session to speak of.
func isGenuine(reason renew.Reason) bool {
	return reads(reason) > 0
}

// The promise: whatever is not exactly a good refresh token is refused for its
// own reason, reads no session unless it is genuine, changes none, and is
// answered over HTTP with the one documented answer.
func TestHostileTokens(t *testing.T) {
	w := newHostileWorld(t)
	corpus := hostileTokens()
	require.GreaterOrEqual(t, len(corpus), 150)
	seen := map[string]bool{}
	for _, h := range corpus {
		require.False(t, seen[h.name], "two hostile tokens have the name %q", h.name)
		require.NotEmpty(t, h.why, h.name)
		seen[h.name] = true
		t.Run(h.name, func(t *testing.T) {
			b := w.login(t)
			token := h.make(w.forge)
			before := w.all(t)
			req := w.request(b)
			req.RefreshToken = token

			next, err := w.Renew(w.ctx, req)
			require.Nil(t, next, h.why)
			if h.reason == ahead {
				require.ErrorIs(t, err, renew.ErrAhead)
				requireServerFault(t, err)
			} else {
				requireRefused(t, err, h.reason)
			}
			requireQuotesNothing(t, err, token)
			require.Equal(t, [4]int64{0, reads(h.reason), 0, 0}, w.hooks.calls(), "store calls: created, read, rotated, revoked")
			requireRejected(t, w.events.take(), h.reason)

			status, body := w.post(t, token)
			wantStatus, wantBody := documentedAnswer(h.reason, token)
			require.Equal(t, wantStatus, status)
			require.Equal(t, wantBody, body)

			require.Equal(t, before, w.all(t))
			w.renew(b)
		})
	}
}

// documentedAnswer is what the endpoint says of a hostile token.
func documentedAnswer(reason renew.Reason, token string) (status int, body string) {
	switch {
	case reason == ahead:
		return http.StatusInternalServerError, `{"message":"internal error"}`
	case len(token) > 64<<10-1024:
		return http.StatusBadRequest, `{"message":"invalid request","errors":[{"field":"body","message":"is longer than 65536 bytes"}]}`
	}
	return http.StatusBadRequest, `{"message":"invalid refresh token"}`
}

// requireRejected requires the one event of a refusal. Until the signature is
// verified, it says nothing about a session.
func requireRejected(t *testing.T, events []renew.Event, reason renew.Reason) {
	t.Helper()
	require.Len(t, events, 1)
	e := events[0]
	if reason == ahead {
		require.Equal(t, renew.EventAhead, e.Kind)
		return
	}
	kind := renew.EventRejected
	if reason == renew.ReasonReused {
		kind = renew.EventReused
	}
	require.Equal(t, kind, e.Kind)
	require.Equal(t, reason, e.Reason)
	if !isGenuine(reason) {
		require.Equal(t, renew.Event{
			Kind: e.Kind, Time: e.Time, AppID: "app_1", Reason: reason, IP: testIP, UserAgent: testAgent,
		}, e)
	}
}

// requireQuotesNothing requires that an error holds no stretch of a token, and no
// byte that could break a log line.
func requireQuotesNothing(t *testing.T, err error, token string) {
	t.Helper()
	text := err.Error()
	require.True(t, utf8.ValidString(text))
	require.False(t, strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), "%q", text)
	require.Less(t, len(text), 400)
	const stretch = 27 // longer than the ULIDs that an error may name
	for i := 0; i+stretch <= len(token) && i < 1<<14; i++ {
		require.NotContains(t, text, token[i:i+stretch])
	}
}

// The promise: what no refresh token may be, no other token may be either.
func TestHostileTokensAreNoAuthTokens(t *testing.T) {
	w := newHostileWorld(t)
	for _, h := range hostileTokens() {
		t.Run(h.name, func(t *testing.T) {
			w.login(t)
			token := h.make(w.forge)
			if token == w.forge.auth {
				return // the one that is good here
			}
			before := w.all(t)
			for _, appID := range []string{"app_1", "app_2", "app_3"} {
				claims, err := w.VerifyAuthToken(w.ctx, appID, token)
				require.Nil(t, claims)
				require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
				requireQuotesNothing(t, err, token)
				claims, err = w.VerifySession(w.ctx, appID, token)
				require.Nil(t, claims)
				require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
			}
			require.Equal(t, [4]int64{}, w.hooks.calls())
			require.Equal(t, before, w.all(t))
		})
	}
}

// The promise: nobody can log out somebody else with a token that no good key of
// the app has signed, or that is none of its two kinds.
func TestHostileTokensRevokeNothing(t *testing.T) {
	w := newHostileWorld(t)
	tried := 0
	for _, h := range hostileTokens() {
		t.Run(h.name, func(t *testing.T) {
			b := w.login(t)
			token := h.make(w.forge)
			if isGenuine(h.reason) || token == w.forge.auth || hasNoType(token) {
				return // signed by the app as one of its own: good enough to log out with
			}
			if len(token) > 8<<10 && len(token) < 96<<10 && h.reason == renew.ReasonMalformed {
				return // only too long for a refresh token
			}
			tried++
			before := w.all(t)
			err := w.Revoke(w.ctx, "app_1", token)
			require.ErrorIs(t, err, renew.ErrInvalidToken)
			var refused *renew.TokenError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, h.reason, refused.Reason)
			requireQuotesNothing(t, err, token)
			require.Equal(t, [4]int64{}, w.hooks.calls())
			require.Empty(t, w.events.take())
			require.Equal(t, before, w.all(t))
			w.renew(b)
		})
	}
	require.Greater(t, tried, 150)
}

// hasNoType reports whether a token's payload is an object without type: such a
// one is an auth token to Revoke.
func hasNoType(token string) bool {
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(segments[1])
	var members map[string]any
	if err != nil || json.Unmarshal(payload, &members) != nil {
		return false
	}
	_, has := members["type"]
	return !has
}

// What a token may look like though this library writes none like it. The test is
// also the proof that the forge's tokens are good but for what a hostile one
// changes.
func TestOddTokensThatAreGood(t *testing.T) {
	w := newHostileWorld(t)
	for _, c := range []struct {
		name string
		make func(f *forge) string
	}{
		{"the forge's own", func(f *forge) string { return f.withPayload(f.claims().String()) }},
		{"RS256", func(f *forge) string { return f.resign(f.keys[renew.RS256], keep) }},
		{"PS256", func(f *forge) string { return f.resign(f.keys[renew.PS256], keep) }},
		{"ES384", func(f *forge) string { return f.resign(f.keys[renew.ES384], keep) }},
		{"ES512", func(f *forge) string { return f.resign(f.keys[renew.ES512], keep) }},
		{"EdDSA", func(f *forge) string { return f.resign(f.keys[renew.EdDSA], keep) }},
		{"no typ", func(f *forge) string { return f.withHeader(f.header(f.es()).without("typ").String()) }},
		{"white space in the JSON", func(f *forge) string {
			spread := strings.NewReplacer(":", " :\t", ",", "\r\n, ", "{", " { ", "}", "\n} ")
			return f.sign(f.es(), spread.Replace(f.header(f.es()).String()), spread.Replace(f.claims().String()))
		}},
		{"escapes in the JSON", func(f *forge) string {
			return f.sign(f.es(), f.header(f.es()).rename("alg", `\u0061lg`).String(), f.claims().rename("jid", `\u006aid`).with("type", `"\u0072efresh"`).String())
		}},
		{"claims of others", func(f *forge) string {
			return f.withPayload(f.claims().and("azp", `"me"`).and("__proto__", `{}`).and("emoji", `"\ud83d\ude00"`).String())
		}},
		{"8 KiB", func(f *forge) string { return f.ofLength(f.claims().String(), 8<<10) }},
		// ECDSA has two signatures of each kind. The token's jid is what counts
		// once, not its bytes.
		{"an ECDSA signature's twin", func(f *forge) string { return f.resign(f.es(), twin) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := w.login(t)
			req := w.request(b)
			req.RefreshToken = c.make(w.forge)
			next, err := w.Renew(w.ctx, req)
			require.NoError(t, err)
			w.refused(b, renew.ReasonSuperseded)
			w.renew(next)
		})
	}
}

func keep(_ string, signature []byte) []byte { return signature }

// ofLength returns a token of this payload that is exactly so long, with white
// space in its JSON.
func (f *forge) ofLength(payload string, length int) string {
	for indent := range 4 {
		header := f.header(f.es()).String() + strings.Repeat(" ", indent)
		room := (length - len(f.sign(f.es(), header, payload))) / 4 * 3
		for n := room; n < room+4; n++ {
			if token := f.sign(f.es(), header, payload+strings.Repeat(" ", n)); len(token) == length {
				return token
			}
		}
	}
	panic("no such length")
}

// The limit of an auth token is far above what this library makes, and far below
// what would cost something.
func TestAuthTokensUpTo96KiB(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := &forge{keys: map[renew.Algorithm]*renew.SigningKey{renew.ES256: f.key}}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(b.AuthToken, ".")[1])
	require.NoError(t, err)
	good, bad := made.ofLength(string(payload), 96<<10), made.ofLength(string(payload), 96<<10+1)
	_, err = f.VerifyAuthToken(f.ctx, f.app.ID, good)
	require.NoError(t, err)
	_, err = f.VerifyAuthToken(f.ctx, f.app.ID, bad)
	requireInvalidAuth(t, err, renew.ReasonMalformed)
	require.ErrorIs(t, f.Revoke(f.ctx, f.app.ID, bad), renew.ErrInvalidToken)
	require.NoError(t, f.Revoke(f.ctx, f.app.ID, good))
}
