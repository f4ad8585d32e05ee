package jwtplus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/strictjson"
)

// Keys is what [Handler] reads apps and keys from: that of the Renewer. The stores of
// this module are such.
type Keys interface {
	renew.KeyStore
	renew.KeyLister
}

// HandlerOption changes a handler from its defaults.
type HandlerOption func(*handler)

// WithLogger sets where requests that fail because of an internal error are logged.
// Default, and with nil: [slog.Default].
func WithLogger(l *slog.Logger) HandlerOption {
	return func(h *handler) { h.logger = cmp.Or(l, slog.Default()) }
}

// Handler serves the endpoints of JWTPlus that applications call, with its statuses
// and its bodies, so that they need no change on the evening of the switch:
//
//	POST /app/{app_id}/sign           {"sub","aud","ip","useragent", and custom claims}
//	POST /app/{app_id}/renew          {"refresh_token","ip","useragent"}
//	POST /app/{app_id}/verify         {"token"}
//	POST /app/{app_id}/logout         {"token"}
//	POST /app/{app_id}/revoke-token   the same
//	POST /app/{app_id}/get-session    {"sub"}
//	GET  /app/{app_id}/pub-keys
//
// The Authorization header is the app key. The body is a JSON object of at most 128
// KiB, whatever its content type.
//
//	200  sign, renew: the four members of [renew.Bundle]
//	200  verify: {"verified":true} or {"verified":false}
//	200  logout, revoke-token: {"status":"ok"}, for an invalid token too
//	200  get-session: {"sessions":[…]}
//	200  pub-keys: {"keys":[…]}
//	400  {"errors":"…"} for an empty body; {"errors":{"error_field":"","error_message":"…"}}
//	     for one that is not a JSON object; {"errors":[{"error_field":"ip","error_message":"…"}]}
//	     for members that are missing or malformed
//	403  {"errors":"invalid app key or id"}
//	404  {"message":"invalid refresh token"}, for any reason
//	500  {"message":"error"}: the log says why
//
// The texts in errors are this package's. What else is different from JWTPlus:
//
//   - sign rejects a body with a member that the tokens use, in any case of its
//     letters: exp, iss, iat, nbf, jid, sid, jti and type, which overwrote claims
//     there. A required member in another case, such as Sub, is rejected too, and so
//     is a member that appears twice.
//   - verify is true only for an auth token that is signed by a currently valid key,
//     is within its times, has an accepted issuer, and has a live session. It is 500, and
//     not false, when a store fails. An auth token stays valid when its session is
//     renewed, until it expires.
//   - logout ends the session, for either of its tokens, also for those that a renewal
//     has replaced.
//   - get-session lists the sessions that can be renewed, not those whose auth token
//     is valid, and has no key_id: a session is not tied to one.
//   - pub-keys has no revoked keys. is_expired is yes for replaced keys, and exp_time is
//     until when they verify; 0: no end is set.
//   - renew takes the header Idempotency-Key: see [renew.RenewRequest].
//   - No response has CORS headers: the app key is not for web pages.
//
// Other paths are 404, the administration under /root among them: docs/jwtplus.md
// says which methods of [renew.KeyAdmin] do the same. Serve the documented endpoint,
// package httpadapter, to applications that can change.
func Handler(r *renew.Renewer, keys Keys, opts ...HandlerOption) http.Handler {
	h := &handler{renewer: r, keys: keys, logger: slog.Default()}
	for _, opt := range opts {
		opt(h)
	}
	return h
}

type handler struct {
	renewer *renew.Renewer
	keys    Keys
	logger  *slog.Logger
}

const maxBodyBytes = 128 << 10

// endpoints are by the last segment of the path.
var endpoints = map[string]struct {
	method string
	serve  func(*call) (any, error)
}{
	"sign":         {http.MethodPost, (*call).sign},
	"renew":        {http.MethodPost, (*call).renew},
	"verify":       {http.MethodPost, (*call).verify},
	"logout":       {http.MethodPost, (*call).logout},
	"revoke-token": {http.MethodPost, (*call).logout},
	"get-session":  {http.MethodPost, (*call).sessions},
	"pub-keys":     {http.MethodGet, (*call).publicKeys},
}

// call is one request.
type call struct {
	*handler
	w       http.ResponseWriter
	req     *http.Request
	ctx     context.Context // of req
	appID   string
	secrets []string // what no record may hold

	responded bool
}

// ServeHTTP serves a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c := &call{handler: h, w: w, req: req, ctx: req.Context()}
	defer c.recoverPanic()
	appID, name := splitPath(req.URL)
	endpoint, found := endpoints[name]
	switch {
	case !found:
		c.write(http.StatusNotFound, message{"not found"})
		return
	case req.Method != endpoint.method:
		w.Header().Set("Allow", endpoint.method)
		c.write(http.StatusMethodNotAllowed, message{"method not allowed"})
		return
	}
	c.appID = appID
	body, err := c.authenticated(endpoint.serve)
	if err != nil {
		c.fail(err)
		return
	}
	c.write(http.StatusOK, body)
}

// splitPath splits /app/{app_id}/{endpoint}; for any other path both are empty.
func splitPath(u *url.URL) (appID, endpoint string) {
	if u == nil { // of a request that no server has made
		return "", ""
	}
	segments := strings.Split(u.Path, "/")
	if len(segments) != 4 || segments[0] != "" || segments[1] != "app" {
		return "", ""
	}
	return segments[2], segments[3]
}

// authenticated checks the app key before the body is read.
func (c *call) authenticated(serve func(*call) (any, error)) (any, error) {
	values := c.req.Header.Values("Authorization")
	c.secrets = append(c.secrets, values...)
	if len(values) != 1 {
		return nil, renew.ErrInvalidAppKey
	}
	c.secrets = append(c.secrets, c.appID) // it may be one by mistake
	if err := c.renewer.AuthenticateApp(c.ctx, c.appID, values[0]); err != nil {
		return nil, err
	}
	c.secrets = values
	return serve(c)
}

type message struct {
	Message string `json:"message"`
}

// badRequest is a body that is not as it must be; errors is a text, a fieldError or
// several.
type badRequest struct {
	Errors any `json:"errors"`
}

func (badRequest) Error() string { return "malformed request" }

type fieldError struct {
	Field   string `json:"error_field"`
	Message string `json:"error_message"`
}

// fail responds to a request that did not succeed.
func (c *call) fail(err error) {
	var malformed badRequest
	var invalid *renew.ValidationError
	switch {
	case errors.As(err, &malformed):
		c.write(http.StatusBadRequest, malformed)
	case errors.As(err, &invalid):
		c.write(http.StatusBadRequest, badRequest{fieldErrors(invalid)})
	case errors.Is(err, renew.ErrInvalidAppKey), errors.Is(err, renew.ErrAppNotFound):
		c.write(http.StatusForbidden, badRequest{"invalid app key or id"})
	case errors.Is(err, renew.ErrInvalidRefreshToken):
		c.write(http.StatusNotFound, message{"invalid refresh token"})
	default:
		c.logger.LogAttrs(c.ctx, slog.LevelError, "request failed", slog.String("error", c.mask(err.Error())))
		c.write(http.StatusInternalServerError, message{"error"})
	}
}

// mask takes the secrets of the request out of a text that is about to be logged.
// What is shorter than every app key, idempotency key and token is not one.
func (c *call) mask(text string) string {
	const shortest = 16
	for _, secret := range c.secrets {
		if len(secret) >= shortest {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// recoverPanic turns a panic of a store or a signer into an internal error.
// [http.Server] would log its value, which may quote the request. A panic while the
// response is written is left to the server.
func (c *call) recoverPanic() {
	p := recover()
	if p == nil {
		return
	}
	if c.responded || p == http.ErrAbortHandler { //nolint:errorlint // the server compares it so
		panic(p)
	}
	c.logger.LogAttrs(c.ctx, slog.LevelError, "request panicked",
		slog.String("error", c.mask(fmt.Sprint(p))), slog.String("stack", string(debug.Stack())))
	c.write(http.StatusInternalServerError, message{"error"})
}

func fieldErrors(invalid *renew.ValidationError) []fieldError {
	fields := make([]fieldError, len(invalid.Fields))
	for i, f := range invalid.Fields {
		fields[i] = fieldError{f.Field, f.Message}
	}
	return fields
}

func (c *call) write(status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil { // what is written here always marshals
		status, encoded = http.StatusInternalServerError, []byte(`{"message":"error"}`)
	}
	c.responded = true
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(encoded) // the client may have hung up
}

// readObject returns the members of the body.
func (c *call) readObject() (map[string]json.RawMessage, error) {
	sent := c.req.Body
	if sent == nil { // of a request that no server has made
		sent = http.NoBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, sent, maxBodyBytes))
	switch {
	case err != nil:
		return nil, badRequest{fieldError{"", "the body cannot be read, or is too long"}}
	case len(body) == 0:
		return nil, badRequest{"the body is empty"}
	}
	members, err := strictjson.Object(body)
	if err != nil {
		return nil, badRequest{fieldError{"", "the body " + err.Error()}}
	}
	return members, nil
}

// texts returns required members, which are strings and not empty, in the order of
// names.
func texts(members map[string]json.RawMessage, names ...string) ([]string, []fieldError) {
	values := make([]string, len(names))
	var wrong []fieldError
	for i, name := range names {
		raw, given := members[name]
		var isString bool
		values[i], isString = strictjson.String(raw)
		switch {
		case given && !isString:
			wrong = append(wrong, fieldError{name, "is not a string"})
		case values[i] == "":
			wrong = append(wrong, fieldError{name, "is required"})
		}
	}
	return values, wrong
}

// readTexts reads a body of which the named members are all that matters. One in
// another case is rejected: JWTPlus would have taken it.
func (c *call) readTexts(names ...string) ([]string, error) {
	members, err := c.readObject()
	if err != nil {
		return nil, err
	}
	values, wrong := texts(members, names...)
	wrong = append(wrong, variantsOf(members, names)...)
	if len(wrong) > 0 {
		return nil, badRequest{wrong}
	}
	c.secrets = append(c.secrets, values[0]) // the token, where there is one
	return values, nil
}

// variantsOf rejects members whose name is one of names but for the case of its
// letters.
func variantsOf(members map[string]json.RawMessage, names []string) (wrong []fieldError) {
	for _, member := range sortedNames(members) {
		known := func(name string) bool { return strings.EqualFold(name, member) }
		if !slices.Contains(names, member) && slices.ContainsFunc(names, known) {
			wrong = append(wrong, fieldError{member, "is a name that is used, or is one in another case"})
		}
	}
	return wrong
}

func sortedNames(members map[string]json.RawMessage) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *call) sign() (any, error) {
	members, err := c.readObject()
	if err != nil {
		return nil, err
	}
	names := []string{"sub", "aud", "ip", "useragent"}
	values, wrong := texts(members, names...)
	claims := map[string]any{}
	for _, name := range sortedNames(members) {
		if slices.Contains(names, name) {
			continue
		}
		if slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) }) {
			wrong = append(wrong, fieldError{name, "is a name that the tokens use: a body cannot set it"})
		}
		claims[name] = members[name]
	}
	if len(wrong) > 0 {
		return nil, badRequest{wrong}
	}
	return c.renewer.Issue(c.ctx, renew.IssueRequest{
		AppID: c.appID, Subject: values[0], Audience: values[1:2], IP: values[2], UserAgent: values[3], Claims: claims,
	})
}

func (c *call) renew() (any, error) {
	values, err := c.readTexts("refresh_token", "ip", "useragent")
	if err != nil {
		return nil, err
	}
	keys := c.req.Header.Values("Idempotency-Key")
	request := renew.RenewRequest{AppID: c.appID, RefreshToken: values[0], IP: values[1], UserAgent: values[2]}
	switch {
	case len(keys) > 1 || len(keys) == 1 && keys[0] == "":
		return nil, badRequest{[]fieldError{{"Idempotency-Key", "is empty, or is sent more than once"}}}
	case len(keys) == 1:
		request.IdempotencyKey = strings.Clone(keys[0])
		c.secrets = append(c.secrets, keys[0])
	}
	return c.renewer.Renew(c.ctx, request)
}

type verified struct {
	Verified bool `json:"verified"`
}

func (c *call) verify() (any, error) {
	values, err := c.readTexts("token")
	if err != nil {
		return nil, err
	}
	_, err = c.renewer.VerifySession(c.ctx, c.appID, values[0])
	if errors.Is(err, renew.ErrInvalidToken) {
		return verified{false}, nil
	}
	return verified{true}, err
}

type status struct {
	Status string `json:"status"`
}

func (c *call) logout() (any, error) {
	values, err := c.readTexts("token")
	if err != nil {
		return nil, err
	}
	if err := c.renewer.Revoke(c.ctx, c.appID, values[0]); err != nil && !errors.Is(err, renew.ErrInvalidToken) {
		return nil, err
	}
	return status{"ok"}, nil
}

// listedSession is a session with the columns that JWTPlus lists.
type listedSession struct {
	TokenID       string `json:"token_id"`
	AuthIssuedAt  int64  `json:"auth_token_iat"`
	AuthNotBefore int64  `json:"auth_token_nbf"`
	AuthExpiresAt int64  `json:"auth_token_exp"`
	IssuedAt      int64  `json:"refresh_token_iat"`
	NotBefore     int64  `json:"refresh_token_nbf"`
	ExpiresAt     int64  `json:"refresh_token_exp"`
	IP            string `json:"ip_address"`
	UserAgent     string `json:"user_agent"`
	SessionID     string `json:"session_id"` // not in JWTPlus: the same through all renewals
}

func (c *call) sessions() (any, error) {
	values, err := c.readTexts("sub")
	if err != nil {
		return nil, err
	}
	app, err := c.keys.App(c.ctx, c.appID)
	if err != nil {
		return nil, err
	}
	if app.AuthTTL == 0 {
		app.AuthTTL = renew.DefaultAuthTTL
	}
	sessions, err := c.renewer.Sessions(c.ctx, c.appID, values[0])
	if err != nil {
		return nil, err
	}
	listed := make([]listedSession, len(sessions))
	for i, s := range sessions {
		expires := s.IssuedAt.Add(app.AuthTTL)
		if !s.EndsAt.IsZero() && s.EndsAt.Before(expires) {
			expires = s.EndsAt
		}
		listed[i] = listedSession{
			TokenID: s.TokenID, SessionID: s.ID,
			AuthIssuedAt: s.IssuedAt.Unix(), AuthNotBefore: s.IssuedAt.Add(app.AuthNotBefore).Unix(), AuthExpiresAt: expires.Unix(),
			IssuedAt: s.IssuedAt.Unix(), NotBefore: s.RefreshNotBefore.Unix(), ExpiresAt: s.RefreshExpiresAt.Unix(),
			IP: s.IP, UserAgent: s.UserAgent,
		}
	}
	return map[string]any{"sessions": listed}, nil
}

// listedKey is a key with the columns that JWTPlus lists.
type listedKey struct {
	KeyID     string `json:"key_id"`
	PublicKey string `json:"public_key"`
	Type      string `json:"key_type"`
	Algorithm string `json:"key_algo"`
	ExpiresAt int64  `json:"exp_time"`
	Expired   string `json:"is_expired"`
	Revoked   string `json:"is_revoked"`
}

func (c *call) publicKeys() (any, error) {
	keys, err := c.keys.VerificationKeys(c.ctx, c.appID)
	if err != nil {
		return nil, err
	}
	listed := make([]listedKey, len(keys))
	for i, k := range keys {
		listed[i] = listedKey{
			KeyID: k.KeyID(), PublicKey: k.PublicKey(), Type: keyType(k.Algorithm()), Algorithm: string(k.Algorithm()),
			Expired: "no", Revoked: "no",
		}
		if end := k.End(); !end.IsZero() {
			listed[i].ExpiresAt, listed[i].Expired = end.Unix(), "yes"
		}
	}
	return map[string]any{"keys": listed}, nil
}

func keyType(alg renew.Algorithm) string {
	switch alg[:2] {
	case "RS", "PS":
		return "RSA"
	case "ES":
		return "ECDSA"
	}
	return string(alg)
}
