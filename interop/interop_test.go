package interop_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	jwxt "github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/memstore"
)

var algorithms = []renew.Algorithm{
	renew.RS256, renew.RS384, renew.RS512, renew.PS256, renew.PS384, renew.PS512,
	renew.ES256, renew.ES384, renew.ES512, renew.EdDSA,
}

// service is an app with one session, and its key set over HTTP.
type service struct {
	*renew.Renewer
	signer crypto.Signer
	bundle *renew.Bundle
	keySet jwk.Set
}

func newService(t *testing.T, alg renew.Algorithm) *service {
	t.Helper()
	store := memstore.New()
	_, hash := renew.NewAppKey()
	app := renew.App{ID: "app_1", Issuer: "issuer_1", KeyHashes: []renew.AppKeyHash{hash}}
	require.NoError(t, store.CreateApp(t.Context(), app))
	key, err := renew.GenerateSigningKey(alg)
	require.NoError(t, err)
	require.NoError(t, store.RotateSigningKey(t.Context(), app.ID, key, time.Now()))
	r, err := renew.New(store, store)
	require.NoError(t, err)
	s := &service{Renewer: r, signer: key.Signer()}
	s.bundle, err = r.Issue(t.Context(), renew.IssueRequest{
		AppID: app.ID, Subject: "user@example.com", Audience: []string{"web", "app"}, IP: "2001:db8::1", UserAgent: "żółć",
		Claims: map[string]any{"role": "admin", "n": 42},
	})
	require.NoError(t, err)
	server := httptest.NewServer(httpadapter.New(r))
	t.Cleanup(server.Close)
	res, err := server.Client().Get(server.URL + "/app/app_1/jwks.json")
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	require.Equal(t, http.StatusOK, res.StatusCode)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	s.keySet, err = jwk.Parse(body)
	require.NoError(t, err)
	return s
}

// publicKey is the key of this ID in the served set, as the standard library has
// it.
func (s *service) publicKey(t *testing.T, keyID string) any {
	t.Helper()
	entry, found := s.keySet.LookupKeyID(keyID)
	require.True(t, found)
	var key any
	require.NoError(t, jwk.Export(entry, &key))
	return key
}

// changed returns a token whose payload says something else.
func changed(token string) string {
	i := strings.IndexByte(token, '.') + 10
	other := "A"
	if token[i] == 'A' {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}

func forEachAlgorithm(t *testing.T, test func(t *testing.T, alg renew.Algorithm, s *service)) {
	t.Helper()
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) { test(t, alg, newService(t, alg)) })
	}
}

func TestGolangJWTVerifiesOurTokens(t *testing.T) {
	forEachAlgorithm(t, func(t *testing.T, alg renew.Algorithm, s *service) {
		parser := jwt.NewParser(jwt.WithValidMethods([]string{string(alg)}), jwt.WithIssuer("issuer_1"),
			jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(), jwt.WithJSONNumber())
		other := newService(t, alg)
		served := func(token *jwt.Token) (any, error) { return s.publicKey(t, token.Header["kid"].(string)), nil }
		for name, token := range map[string]string{"auth": s.bundle.AuthToken, "refresh": s.bundle.RefreshToken} {
			parsed, err := parser.Parse(token, served)
			require.NoError(t, err, name)
			claims := parsed.Claims.(jwt.MapClaims)
			require.Equal(t, s.bundle.TokenID, claims["jid"])
			require.Equal(t, s.bundle.SessionID, claims["sid"])
			_, err = parser.Parse(changed(token), served)
			require.Error(t, err, "a changed token")
			_, err = parser.Parse(token, func(*jwt.Token) (any, error) { return other.publicKey(t, other.bundle.KeyID), nil })
			require.ErrorIs(t, err, jwt.ErrTokenSignatureInvalid, "another service's key")
		}
		auth, err := jwt.NewParser(jwt.WithAudience("app"), jwt.WithSubject("user@example.com"), jwt.WithJSONNumber()).Parse(s.bundle.AuthToken, served)
		require.NoError(t, err)
		require.Equal(t, json.Number("42"), auth.Claims.(jwt.MapClaims)["n"])
		require.Equal(t, "żółć", auth.Claims.(jwt.MapClaims)["useragent"])
	})
}

func TestJWXVerifiesOurTokens(t *testing.T) {
	forEachAlgorithm(t, func(t *testing.T, _ renew.Algorithm, s *service) {
		for name, token := range map[string]string{"auth": s.bundle.AuthToken, "refresh": s.bundle.RefreshToken} {
			parsed, err := jwxt.Parse([]byte(token), jwxt.WithKeySet(s.keySet), jwxt.WithIssuer("issuer_1"))
			require.NoError(t, err, name)
			var tokenID, sessionID string
			require.NoError(t, parsed.Get("jid", &tokenID))
			require.NoError(t, parsed.Get("sid", &sessionID))
			require.Equal(t, s.bundle.TokenID, tokenID)
			require.Equal(t, s.bundle.SessionID, sessionID)
			_, err = jwxt.Parse([]byte(changed(token)), jwxt.WithKeySet(s.keySet))
			require.Error(t, err, "a changed token")
		}
		auth, err := jwxt.Parse([]byte(s.bundle.AuthToken), jwxt.WithKeySet(s.keySet), jwxt.WithAudience("web"), jwxt.WithSubject("user@example.com"))
		require.NoError(t, err)
		expires, has := auth.Expiration()
		require.True(t, has)
		require.True(t, s.bundle.AuthExpiresAt.Equal(expires))
	})
}

// refreshClaims are the documented claims of the session's refresh token.
func (s *service) refreshClaims() map[string]any {
	return map[string]any{
		"iss": "issuer_1", "jid": s.bundle.TokenID, "sid": s.bundle.SessionID, "type": "refresh",
		"iat": time.Now().Unix(), "nbf": s.bundle.RefreshNotBefore.Unix(), "exp": s.bundle.RefreshExpiresAt.Unix(),
	}
}

// authClaims are the documented claims of an auth token.
func (s *service) authClaims() map[string]any {
	claims := s.refreshClaims()
	delete(claims, "type")
	claims["sub"], claims["aud"], claims["ip"], claims["useragent"] = "somebody", "web", "192.0.2.1", "agent"
	claims["personal"] = map[string]any{"name": "test-user"}
	return claims
}

// requireTaken requires that tokens of other making are as good as this library's
// own.
func (s *service) requireTaken(t *testing.T, refresh, auth string) {
	t.Helper()
	claims, err := s.VerifyAuthToken(t.Context(), "app_1", auth)
	require.NoError(t, err)
	require.Equal(t, "somebody", claims.Subject)
	require.Equal(t, []string{"web"}, claims.Audience)
	require.Equal(t, map[string]any{"name": "test-user"}, claims.Claims["personal"])

	req := renew.RenewRequest{AppID: "app_1", RefreshToken: changed(refresh), IP: "192.0.2.1", UserAgent: "agent"}
	_, err = s.Renew(t.Context(), req)
	require.ErrorIs(t, err, renew.ErrInvalidRefreshToken)
	req.RefreshToken = refresh
	next, err := s.Renew(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, s.bundle.SessionID, next.SessionID)
	_, err = s.Renew(t.Context(), req)
	require.ErrorIs(t, err, renew.ErrInvalidRefreshToken)
}

func TestTokensOfGolangJWTAreTaken(t *testing.T) {
	forEachAlgorithm(t, func(t *testing.T, alg renew.Algorithm, s *service) {
		sign := func(claims map[string]any) string {
			token := jwt.NewWithClaims(jwt.GetSigningMethod(string(alg)), jwt.MapClaims(claims))
			token.Header["kid"] = s.bundle.KeyID
			compact, err := token.SignedString(s.signer)
			require.NoError(t, err)
			return compact
		}
		s.requireTaken(t, sign(s.refreshClaims()), sign(s.authClaims()))
	})
}

func TestTokensOfJWXAreTaken(t *testing.T) {
	forEachAlgorithm(t, func(t *testing.T, alg renew.Algorithm, s *service) {
		signature, known := jwa.LookupSignatureAlgorithm(string(alg))
		require.True(t, known)
		sign := func(claims map[string]any) string {
			builder := jwxt.NewBuilder()
			for name, value := range claims {
				builder = builder.Claim(name, value)
			}
			token, err := builder.Build()
			require.NoError(t, err)
			headers := jws.NewHeaders()
			require.NoError(t, headers.Set(jws.KeyIDKey, s.bundle.KeyID))
			compact, err := jwxt.Sign(token, jwxt.WithKey(signature, s.signer, jws.WithProtectedHeaders(headers)))
			require.NoError(t, err)
			return string(compact)
		}
		auth := s.authClaims()
		auth["aud"] = []string{"web"}
		s.requireTaken(t, sign(s.refreshClaims()), sign(auth))
	})
}

type question struct {
	Algorithm renew.Algorithm `json:"alg"`
	PublicKey string          `json:"public_key"`
	Token     string          `json:"token"`
}

// TestNodeVerifiesFromThePublicKeyAlone keeps the documentation's word that a
// front end needs no more than public_key. RENEW_REQUIRE_NODE=1 makes it fail,
// and not be skipped, where there is no node.
func TestNodeVerifiesFromThePublicKeyAlone(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil && os.Getenv("RENEW_REQUIRE_NODE") != "1" {
		t.Skip("no node in PATH; RENEW_REQUIRE_NODE=1 makes this a failure")
	}
	require.NoError(t, err)
	var questions []question
	var sessions []string
	for _, alg := range algorithms {
		s := newService(t, alg)
		for _, token := range []string{s.bundle.AuthToken, s.bundle.RefreshToken, changed(s.bundle.AuthToken)} {
			questions = append(questions, question{alg, s.bundle.PublicKey, token})
			sessions = append(sessions, s.bundle.SessionID)
		}
	}
	input, err := json.Marshal(questions)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), node, "verify.mjs")
	cmd.Stdin = bytes.NewReader(input)
	var output, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &complaints
	require.NoError(t, cmd.Run(), complaints.String())
	var replies []struct {
		Verified bool           `json:"verified"`
		Claims   map[string]any `json:"claims"`
	}
	require.NoError(t, json.Unmarshal(output.Bytes(), &replies))
	require.Len(t, replies, len(questions))
	for i, reply := range replies {
		isGood := i%3 < 2
		require.Equal(t, isGood, reply.Verified, "%s, token %d", questions[i].Algorithm, i%3)
		if isGood {
			require.Equal(t, sessions[i], reply.Claims["sid"])
		}
	}
}
