package httpadapter_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jwtrenew/renew"
)

// tokenMark stands for the current refresh token in what the fuzzer makes, so
// that it can vary what is around a token that renews.
const tokenMark = "{{token}}"

// Everything that a response may say of a request, in the order of the fields.
var (
	saidOfFields = []string{"refresh_token", "ip", "useragent", "Idempotency-Key", "Content-Type", "Content-Encoding", "body"}
	saidOfForm   = []string{
		required, "is not a string", noIP, "is longer than 1024 bytes", "has a control character",
		"is empty", "must be 16 to 255 characters long", "has a character other than visible ASCII",
		"is not application/json, with charset utf-8 or none", "is not identity: send the body as it is",
		"is not a single JSON object", "is not valid Unicode", "has a duplicate member (ignoring case)", "is longer than 65536 bytes",
	}
)

// FuzzRenewRequest holds the decoder of requests against a second one, made of
// the standard library's tokens: a request is accepted if and only if it can
// mean one thing only and its fields are in order. Responses are of the table and
// quote nothing, and no request costs the session its next renewal.
func FuzzRenewRequest(f *testing.F) {
	fx := newFixture(f)
	handler := fx.handler()
	current := fx.issue().RefreshToken
	addSeeds(f, fx)

	f.Fuzz(func(t *testing.T, contentType, contentEncoding, idempotencyKey string, template []byte) {
		fx.tb = t
		body := bytes.ReplaceAll(template, []byte(tokenMark), []byte(current))
		req := httptest.NewRequest(http.MethodPost, "/app/shop/renew", bytes.NewReader(body))
		req.Header = http.Header{"Authorization": {fx.appKey}, "Content-Type": {contentType}}
		if contentEncoding != "" {
			req.Header["Content-Encoding"] = []string{contentEncoding}
		}
		if idempotencyKey != "" {
			req.Header["Idempotency-Key"] = []string{idempotencyKey}
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		got := response{recorder.Code, recorder.Header(), recorder.Body.String()}

		isPlain := contentType == "application/json" && contentEncoding == ""
		token, understood := understand(body)
		accepted := got.status == http.StatusOK || got.body == bodyInvalidToken
		if wants := isPlain && understood && isIdempotencyKey(idempotencyKey); accepted && isPlain && !wants || !accepted && wants {
			if !hasSurrogate(body) { // which the second decoder does not judge
				t.Errorf("response is %d %s; the second decoder accepts: %v", got.status, got.body, wants)
			}
		}
		switch {
		case got.status == http.StatusOK:
			if token != current {
				t.Error("renewed, but not for the token of the session")
			}
			current = fx.checkRenewed(got).RefreshToken
		case accepted:
			check(t, got, http.StatusBadRequest, bodyInvalidToken)
		default:
			check(t, got, http.StatusBadRequest, got.body)
			checkRejection(t, got.body)
		}
		if logged := fx.logs.text(); strings.Contains(logged, current) || len(token) >= 16 && strings.Contains(logged, token) {
			t.Error("the log holds a token")
		}
		fx.logs.reset()
		fx.secrets = nil

		next, err := fx.renewer.Renew(t.Context(), renew.RenewRequest{AppID: appID, RefreshToken: current, IP: ip, UserAgent: agent})
		if err != nil {
			t.Fatalf("the session cannot be renewed any more: %v", err)
		}
		current = next.RefreshToken
	})
}

func addSeeds(f *testing.F, fx *fixture) {
	const key = "0123456789abcdef"
	f.Add("application/json", "", key, []byte(body(tokenMark)))
	f.Add("application/json; charset=utf-8", "identity", "", []byte(body(tokenMark)))
	for _, h := range corpus() {
		w := fx.wire(tokenMark)
		h.edit(w)
		if len(w.body) > 4096 { // what is long is slow to vary, and TestHostileRequests sends it
			continue
		}
		values := map[string]string{}
		for _, line := range w.header {
			name, value, _ := strings.Cut(line, ":")
			values[name] = strings.TrimSpace(value)
		}
		f.Add(values["Content-Type"], values["Content-Encoding"], values["Idempotency-Key"], []byte(w.body))
	}
}

// checkRejection checks the body of a request that was wrong in form.
func checkRejection(t *testing.T, body string) {
	t.Helper()
	var rejection struct {
		Message string             `json:"message"`
		Errors  []renew.FieldError `json:"errors"`
	}
	if err := json.Unmarshal([]byte(body), &rejection); err != nil {
		t.Fatal(err)
	}
	var nameMessage []string
	last := -1
	for _, e := range rejection.Errors {
		rank := slices.Index(saidOfFields, e.Field)
		if rank <= last || !slices.Contains(saidOfForm, e.Message) {
			t.Errorf("response is %s", body)
		}
		last = rank
		nameMessage = append(nameMessage, e.Field, e.Message)
	}
	if len(nameMessage) == 0 || body != fields(nameMessage...) {
		t.Errorf("response is %s", body)
	}
}

// understand reads a body member by member, and returns its token if the body is
// one object with each field once and in order.
func understand(body []byte) (token string, ok bool) {
	if len(body) > 64<<10 || !utf8.Valid(body) || !json.Valid(body) {
		return "", false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return "", false
	}
	values := map[string]any{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return "", false
		}
		if _, twice := values[name.(string)]; twice {
			return "", false
		}
		var value any
		_ = json.Unmarshal(raw, &value) // a number out of range is no string
		values[name.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return "", false
	}
	if _, err := d.Token(); err != io.EOF {
		return "", false
	}
	var text [3]string
	for i, field := range []string{"refresh_token", "ip", "useragent"} {
		for name := range values {
			if name != field && strings.EqualFold(name, field) {
				return "", false
			}
		}
		if text[i], ok = values[field].(string); !ok || text[i] == "" {
			return "", false
		}
	}
	address, err := netip.ParseAddr(text[1])
	return text[0], err == nil && address.Zone() == ""
}

func isIdempotencyKey(key string) bool {
	outside := func(r rune) bool { return r < '!' || r > '~' }
	return key == "" || len(key) >= 16 && len(key) <= 255 && !strings.ContainsFunc(key, outside)
}

func hasSurrogate(body []byte) bool {
	return bytes.Contains(bytes.ToLower(body), []byte(`\ud`))
}
