package jwtplus_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/jwtplus"
)

// record is a row of the fixture, by column.
type record map[string]any

// columns returns the names and the values in one order.
func (r record) columns() (names []string, args []any) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		value := r[name]
		if n, ok := value.(json.Number); ok {
			value = n.String()
		}
		names, args = append(names, name), append(args, value)
	}
	return names, args
}

// with returns a copy with other values.
func (r record) with(changes record) record {
	c := maps.Clone(r)
	maps.Copy(c, changes)
	return c
}

func (r record) text(column string) string {
	text, _ := r[column].(string)
	return text
}

func readLines[T any](tb testing.TB, name string) []T {
	tb.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	require.NoError(tb, err)
	defer func() { _ = file.Close() }()
	var all []T
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		var v T
		require.NoError(tb, d.Decode(&v))
		all = append(all, v)
	}
	require.NoError(tb, lines.Err())
	return all
}

// fixture is what the folder testdata holds.
type fixture struct {
	tables       map[string][]record
	expectations []expectation
	appKeys      map[string]string
	deadAppKeys  map[string][]string
	formerNames  map[string][]string
}

type expectation struct {
	RefreshToken string  `json:"refresh_token"`
	AppID        string  `json:"app_id"`
	TokenID      string  `json:"token_id"`
	Kind         string  `json:"kind"`
	Fate         string  `json:"fate"`
	ShouldRenew  bool    `json:"should_renew"`
	Subject      string  `json:"subject"`
	Audience     any     `json:"audience"`
	Claims       *string `json:"claims"`
}

func readFixture(tb testing.TB) fixture {
	tb.Helper()
	f := fixture{tables: map[string][]record{}}
	for _, table := range []string{"apps", "app_keys", "tokens", "settings"} {
		f.tables[table] = readLines[record](tb, table+".jsonl")
	}
	f.expectations = readLines[expectation](tb, "expectations.jsonl")
	text, err := os.ReadFile(filepath.Join("testdata", "appkeys.json"))
	require.NoError(tb, err)
	var keys struct {
		AppKeys     map[string]string   `json:"app_keys"`
		DeadAppKeys map[string][]string `json:"dead_app_keys"`
		FormerNames map[string][]string `json:"former_names"`
	}
	require.NoError(tb, json.Unmarshal(text, &keys))
	f.appKeys, f.deadAppKeys, f.formerNames = keys.AppKeys, keys.DeadAppKeys, keys.FormerNames
	require.Len(tb, f.expectations, 58)
	return f
}

// database returns a JWTPlus database with the rows of the fixture.
func (f fixture) database(tb testing.TB) *oldDatabase {
	tb.Helper()
	d := newOldDatabase(tb)
	for _, table := range []string{"apps", "app_keys", "tokens", "settings"} {
		for _, r := range f.tables[table] {
			d.insert(table, r)
		}
	}
	return d
}

func (f fixture) token(tb testing.TB, kind string) record {
	tb.Helper()
	for _, e := range f.expectations {
		if e.Kind == kind && e.ShouldRenew {
			return f.row(tb, "tokens", "token_id", e.TokenID)
		}
	}
	tb.Fatalf("no token of the kind %q", kind)
	return nil
}

func (f fixture) row(tb testing.TB, table, column, value string) record {
	tb.Helper()
	for _, r := range f.tables[table] {
		if r.text(column) == value {
			return r
		}
	}
	tb.Fatalf("no row of %s with %s %s", table, column, value)
	return nil
}

// newServer serves the documented endpoint on the stores, at the clock of the fixture.
func newServer(tb testing.TB, s stores, tokens renew.TokenStore) *httptest.Server {
	tb.Helper()
	r, err := renew.New(s.keys, tokens, renew.WithClock(atFixtureClock))
	require.NoError(tb, err)
	server := httptest.NewServer(httpadapter.New(r, httpadapter.WithLogger(slog.New(slog.DiscardHandler))))
	tb.Cleanup(server.Close)
	return server
}

// post returns the status and the body of the response.
func post(tb testing.TB, url, appKey string, body any) (int, []byte) {
	tb.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(tb, err)
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, url, bytes.NewReader(encoded))
	require.NoError(tb, err)
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	return do(tb, req)
}

func do(tb testing.TB, req *http.Request) (int, []byte) {
	tb.Helper()
	res, err := http.DefaultClient.Do(req)
	require.NoError(tb, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	require.NoError(tb, err)
	return res.StatusCode, data
}

func renewal(token string) map[string]string {
	return map[string]string{"refresh_token": token, "ip": "203.0.113.9", "useragent": "after the switch"}
}

// payload returns the claims of a JWT, numbers as text.
func payload(tb testing.TB, token string) map[string]any {
	tb.Helper()
	segments := strings.Split(token, ".")
	require.Len(tb, segments, 3)
	data, err := base64.RawURLEncoding.DecodeString(segments[1])
	require.NoError(tb, err)
	return decode(tb, data)
}

func decode(tb testing.TB, data []byte) map[string]any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var object map[string]any
	require.NoError(tb, d.Decode(&object))
	return object
}

// reserved are the claims of the library.
var reserved = []string{"iss", "iat", "nbf", "exp", "jid", "sid", "sub", "aud", "ip", "useragent"}

// run imports and returns the report and its lines.
func run(tb testing.TB, d *oldDatabase, s stores, opts jwtplus.Options) (*jwtplus.Report, []jwtplus.Line) {
	tb.Helper()
	var lines []jwtplus.Line
	opts.Line = func(l jwtplus.Line) { lines = append(lines, l) }
	if opts.Now == nil {
		opts.Now = atFixtureClock
	}
	report, err := jwtplus.Import(tb.Context(), jwtplus.NewSource(d.DB), s.keys, s.tokens, opts)
	require.NoError(tb, err)
	for _, counts := range []jwtplus.Counts{report.Apps, report.Keys, report.Sessions} {
		require.Equal(tb, counts.Read, counts.Taken+counts.Existing+counts.Rejected)
	}
	return report, lines
}

// renewAll presents every refresh token of the fixture, and demands of each what the
// expectation says. stored says whether the store keeps a session of that kind.
func (f fixture) renewAll(t *testing.T, server *httptest.Server, stored func(expectation) bool) {
	t.Helper()
	renewed := 0
	for _, e := range f.expectations {
		status, body := post(t, server.URL+"/app/"+e.AppID+"/renew", f.appKeys[e.AppID], renewal(e.RefreshToken))
		if !e.ShouldRenew || !stored(e) {
			require.Equal(t, http.StatusBadRequest, status, "%s, %s: %s", e.Kind, e.Fate, body)
			continue
		}
		require.Equal(t, http.StatusOK, status, "%s, %s: %s", e.Kind, e.Fate, body)
		renewed++
		var bundle renew.Bundle
		require.NoError(t, json.Unmarshal(body, &bundle))
		claims := payload(t, bundle.AuthToken)
		require.Equal(t, e.TokenID, claims["sid"], e.Kind)
		require.Equal(t, e.Subject, claims["sub"], e.Kind)
		require.Equal(t, e.Audience, claims["aud"], e.Kind)
		require.Equal(t, f.row(t, "apps", "app_id", e.AppID).text("app_name"), claims["iss"], e.Kind)
		maps.DeleteFunc(claims, func(name string, _ any) bool { return slices.Contains(reserved, name) })
		want := map[string]any{}
		if e.Claims != nil {
			want = decode(t, []byte(*e.Claims))
		}
		require.Equal(t, want, claims, "%s: custom claims", e.Kind)
	}
	require.Positive(t, renewed)
}

const longSubject = "subject of 300 bytes"

// TestFixture promises that every refresh token of a JWTPlus database does what it
// should after the import, over HTTP with the callers' own app keys, in every store.
func TestFixture(t *testing.T) {
	f := readFixture(t)
	for name, newStores := range targets {
		t.Run(name, func(t *testing.T) {
			d, s := f.database(t), newStores(t)
			keepsLong := name == "memstore" // others limit a subject to 255 bytes
			dry, dryLines := run(t, d, s, jwtplus.Options{DryRun: true})
			apps, err := s.keys.App(t.Context(), f.expectations[0].AppID)
			require.ErrorIs(t, err, renew.ErrAppNotFound, "a dry run has created %v", apps)

			report, lines := run(t, d, s, jwtplus.Options{})
			f.checkReport(t, report, lines, keepsLong)
			dry.DryRun = false
			if keepsLong {
				require.Equal(t, dry, report, "a dry run says what happens")
				require.Equal(t, dryLines, lines)
			}

			server := newServer(t, s, s.tokens)
			for appID, keys := range f.deadAppKeys {
				status, _ := post(t, server.URL+"/app/"+appID+"/renew", keys[0], renewal("x"))
				require.Equal(t, http.StatusForbidden, status, "an app key that was replaced")
			}
			stored := func(e expectation) bool { return keepsLong || e.Kind != longSubject }
			f.renewAll(t, server, stored)

			again, _ := run(t, d, s, jwtplus.Options{})
			require.Zero(t, again.Apps.Taken+again.Keys.Taken+again.Sessions.Taken, "%+v", again)
			require.Equal(t, report.Sessions.Taken, again.Sessions.Existing)
			for _, e := range f.expectations {
				status, body := post(t, server.URL+"/app/"+e.AppID+"/renew", f.appKeys[e.AppID], renewal(e.RefreshToken))
				require.Equal(t, http.StatusBadRequest, status, "%s, used, after a second import: %s", e.Kind, body)
			}
		})
	}
}

func (f fixture) checkReport(t *testing.T, report *jwtplus.Report, lines []jwtplus.Line, keepsLong bool) {
	t.Helper()
	want := &jwtplus.Report{
		Apps:     jwtplus.Counts{Read: 4, Taken: 4},
		Keys:     jwtplus.Counts{Read: 11, Taken: 9, Rejected: 2},
		Sessions: jwtplus.Counts{Read: 46, Taken: 44, Rejected: 2},
		Rejected: map[jwtplus.Reason]int{jwtplus.ReasonRevokedKey: 2, jwtplus.ReasonEmptyTokens: 1, jwtplus.ReasonClaims: 1},
		Changed:  map[jwtplus.Reason]int{jwtplus.ReasonLongSubject: 1},
	}
	if !keepsLong {
		want.Sessions = jwtplus.Counts{Read: 46, Taken: 43, Rejected: 3}
		want.Rejected[jwtplus.ReasonStore], want.Changed = 1, map[jwtplus.Reason]int{}
	}
	require.Equal(t, want, report)
	require.Len(t, lines, 5)
	for _, l := range lines {
		require.NotEmpty(t, l.ID)
		require.NotEmpty(t, l.Detail)
	}
}

// TestSessionFields promises every field of a session that is taken over, numbers to
// the digit, by an import and lazily.
func TestSessionFields(t *testing.T) {
	f := readFixture(t)
	d := newOldDatabase(t)
	for _, table := range []string{"apps", "app_keys"} {
		for _, r := range f.tables[table] {
			d.insert(table, r)
		}
	}
	g := f.generate(t, d, 1)[0]
	auth := f.signer(t)(record{
		"sub": g.subject, "aud": "web", "jid": generatedID(9), "exp": 1, "ISS": "x", "price": json.Number("1.10"),
		"beyond": json.Number("9007199254740993"), "big": json.Number("123456789012345678901234567890"), "neg": json.Number("-0"),
	})
	d.exec("UPDATE tokens SET auth_token = ?, ip_address = '::ffff:192.0.2.128', user_agent = ? WHERE token_id = ?",
		auth, "a\tb🦊", g.tokenID)
	issued := time.Unix(issuedAt, 0).UTC()
	want := renew.Session{
		AppID: generatedApp, ID: g.tokenID, TokenID: g.tokenID, Subject: g.subject, Audience: []string{"web"},
		Claims:    json.RawMessage(`{"beyond":9007199254740993,"big":123456789012345678901234567890,"neg":-0,"price":1.10}`),
		CreatedAt: issued, IssuedAt: issued, RefreshNotBefore: issued.Add(time.Minute), RefreshExpiresAt: time.Unix(expiresAt, 0).UTC(),
		IP: "192.0.2.128", UserAgent: "a\ufffdb🦊",
	}
	for _, name := range []string{"memstore", "SQLite"} {
		s := targets[name](t)
		run(t, d, s, jwtplus.Options{})
		got, err := s.tokens.Session(t.Context(), generatedApp, g.tokenID)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	_, tokens, _ := lazyStores(t, f, d)
	got, err := tokens.Session(t.Context(), generatedApp, g.tokenID)
	require.NoError(t, err)
	require.Equal(t, want, got, "lazily")
}
