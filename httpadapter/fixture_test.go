package httpadapter_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/memstore"
)

const (
	appID = "shop"
	ip    = "192.0.2.1"
	agent = "test-agent"
)

// The bodies of the documented table.
const (
	bodyInvalidToken  = `{"message":"invalid refresh token"}`
	bodyInvalidAppKey = `{"message":"invalid app key"}`
	bodyInternalError = `{"message":"internal error"}`
	bodyNotFound      = `{"message":"not found"}`
	bodyBadMethod     = `{"message":"method not allowed"}`
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// fixture is an app with a Renewer on memstore, whose methods can be made to
// fail, and all that was logged.
type fixture struct {
	tb      testing.TB
	store   *faultyStore
	renewer *renew.Renewer
	appKey  string
	logs    *logs

	mu      sync.Mutex
	now     time.Time
	secrets []string
}

// newFixture also sees to it that no log of the test holds a secret.
func newFixture(tb testing.TB, opts ...renew.Option) *fixture {
	tb.Helper()
	f := &fixture{tb: tb, store: &faultyStore{Store: memstore.New()}, logs: &logs{}, now: start}
	var err error
	f.renewer, err = renew.New(f.store, f.store, append([]renew.Option{renew.WithClock(f.clock)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	f.appKey = f.createApp(appID)
	tb.Cleanup(f.checkLogs)
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) createApp(id string) (appKey string) {
	f.tb.Helper()
	appKey, hash := renew.NewAppKey()
	app := renew.App{ID: id, Issuer: "https://" + id + ".example", KeyHashes: []renew.AppKeyHash{hash}}
	if err := f.store.CreateApp(context.Background(), app); err != nil {
		f.tb.Fatal(err)
	}
	f.rotateKey(id, renew.EdDSA)
	f.keepSecret(appKey)
	return appKey
}

func (f *fixture) rotateKey(id string, alg renew.Algorithm) *renew.SigningKey {
	f.tb.Helper()
	key, err := renew.GenerateSigningKey(alg)
	if err != nil {
		f.tb.Fatal(err)
	}
	if err := f.store.RotateSigningKey(context.Background(), id, key, f.clock()); err != nil {
		f.tb.Fatal(err)
	}
	return key
}

func (f *fixture) issue() *renew.Bundle {
	f.tb.Helper()
	b, err := f.renewer.Issue(context.Background(), renew.IssueRequest{AppID: appID, Subject: "ann", IP: ip, UserAgent: agent})
	if err != nil {
		f.tb.Fatal(err)
	}
	f.keepSecret(b.AuthToken, b.RefreshToken)
	return b
}

// keepSecret names what no log may hold.
func (f *fixture) keepSecret(secrets ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets = append(f.secrets, secrets...)
}

func (f *fixture) checkLogs() {
	logged := f.logs.text()
	for _, secret := range f.secrets {
		if strings.Contains(logged, secret) {
			f.tb.Errorf("a log holds a token or an app key: %s", secret)
		}
	}
}

func (f *fixture) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// handler is New with the fixture's logger.
func (f *fixture) handler(opts ...httpadapter.Option) http.Handler {
	return httpadapter.New(f.renewer, append([]httpadapter.Option{httpadapter.WithLogger(f.logger())}, opts...)...)
}

// serve serves h on a socket until the test ends.
func (f *fixture) serve(h http.Handler) *httptest.Server {
	f.tb.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(f.logs, "", 0)
	server.Start()
	f.tb.Cleanup(server.Close)
	return server
}

// body is the documented request.
func body(refreshToken string) string {
	return fmt.Sprintf(`{"refresh_token":%q,"ip":%q,"useragent":%q}`, refreshToken, ip, agent)
}

// post returns the documented request, which edits then change.
func (f *fixture) post(url, body string, edits ...func(*http.Request)) *http.Request {
	f.tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		f.tb.Fatal(err)
	}
	req.Header.Set("Authorization", f.appKey)
	req.Header.Set("Content-Type", "application/json")
	for _, edit := range edits {
		edit(req)
	}
	return req
}

func withHeader(name string, values ...string) func(*http.Request) {
	return func(req *http.Request) {
		req.Header.Del(name)
		for _, value := range values {
			req.Header.Add(name, value)
		}
	}
}

// response is an HTTP response, read to its end.
type response struct {
	status int
	header http.Header // without Date, Content-Length and Connection, which are net/http's
	body   string
}

func (f *fixture) do(req *http.Request) response {
	f.tb.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.tb.Fatal(err)
	}
	return read(f.tb, resp)
}

func read(tb testing.TB, resp *http.Response) response {
	tb.Helper()
	defer func() {
		if err := resp.Body.Close(); err != nil {
			tb.Error(err)
		}
	}()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	for _, own := range []string{"Date", "Content-Length", "Connection"} {
		resp.Header.Del(own)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}

// check compares a response with the documented one: status, all headers, and the
// body to the last byte.
func check(tb testing.TB, got response, status int, body string, extraHeader ...string) {
	tb.Helper()
	header := map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"}
	for i := 0; i < len(extraHeader); i += 2 {
		header[extraHeader[i]] = extraHeader[i+1]
	}
	if got.status != status || got.body != body {
		tb.Errorf("response is %d %s\n             want %d %s", got.status, got.body, status, body)
	}
	for name, values := range got.header {
		if len(values) != 1 || values[0] != header[name] {
			tb.Errorf("header %s is %q, want %q", name, values, header[name])
		}
		delete(header, name)
	}
	for name, value := range header {
		tb.Errorf("header %s is missing, want %q", name, value)
	}
}

// checkRenewed checks a success, and returns the new pair.
func (f *fixture) checkRenewed(got response) renew.Bundle {
	f.tb.Helper()
	var b renew.Bundle
	if err := json.Unmarshal([]byte(got.body), &b); err != nil {
		f.tb.Fatalf("response is %d %s: %v", got.status, got.body, err)
	}
	check(f.tb, got, http.StatusOK, fmt.Sprintf(`{"auth_token":"%s","key_id":"%s","public_key":"%s","refresh_token":"%s"}`,
		b.AuthToken, b.KeyID, b.PublicKey, b.RefreshToken))
	f.keepSecret(b.AuthToken, b.RefreshToken)
	if _, err := f.renewer.VerifySession(context.Background(), appID, b.AuthToken); err != nil {
		f.tb.Errorf("the new auth token: %v", err)
	}
	return b
}

// fields is the body of a request that is wrong in these fields.
func fields(nameMessage ...string) string {
	var errs []string
	for i := 0; i < len(nameMessage); i += 2 {
		errs = append(errs, fmt.Sprintf(`{"field":%q,"message":%q}`, nameMessage[i], nameMessage[i+1]))
	}
	return `{"message":"invalid request","errors":[` + strings.Join(errs, ",") + `]}`
}

// What the Renewer says of a field.
const (
	required = "is required"
	noIP     = "is not an IPv4 or IPv6 address without zone and port"
)

// logs keeps what is logged. It is safe for concurrent use.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
}

// records returns the attributes of each record but its time.
func (l *logs) records(tb testing.TB) []map[string]any {
	tb.Helper()
	var all []map[string]any
	for line := range strings.Lines(l.text()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			tb.Fatalf("log line %q: %v", line, err)
		}
		delete(record, "time")
		all = append(all, record)
	}
	return all
}

// faultyStore is a memstore of which methods can be made to fail or to block.
type faultyStore struct {
	*memstore.Store

	mu     sync.Mutex
	faults map[string]func(context.Context) error
	backup renew.Session // what Session returns, if it is set
}

// restore has Session return an old state, as after a backup was restored; the
// zero Session ends that.
func (s *faultyStore) restore(backup renew.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backup = backup
}

// fault has f called before the method; the call ends there if f fails.
func (s *faultyStore) fault(method string, f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = map[string]func(context.Context) error{}
	}
	s.faults[method] = f
}

func (s *faultyStore) before(ctx context.Context, method string) error {
	s.mu.Lock()
	f := s.faults[method]
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (s *faultyStore) App(ctx context.Context, appID string) (renew.App, error) {
	if err := s.before(ctx, "App"); err != nil {
		return renew.App{}, err
	}
	return s.Store.App(ctx, appID)
}

func (s *faultyStore) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	if err := s.before(ctx, "SigningKey"); err != nil {
		return nil, err
	}
	return s.Store.SigningKey(ctx, appID)
}

func (s *faultyStore) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	if err := s.before(ctx, "VerificationKey"); err != nil {
		return nil, err
	}
	return s.Store.VerificationKey(ctx, appID, keyID)
}

func (s *faultyStore) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	if err := s.before(ctx, "VerificationKeys"); err != nil {
		return nil, err
	}
	return s.Store.VerificationKeys(ctx, appID)
}

func (s *faultyStore) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if err := s.before(ctx, "Session"); err != nil {
		return renew.Session{}, err
	}
	s.mu.Lock()
	backup := s.backup
	s.mu.Unlock()
	if backup.ID != "" {
		return backup, nil
	}
	return s.Store.Session(ctx, appID, sessionID)
}

func (s *faultyStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	if err := s.before(ctx, "Rotate"); err != nil {
		return err
	}
	return s.Store.Rotate(ctx, from, next)
}

func (s *faultyStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	if err := s.before(ctx, "RevokeSession"); err != nil {
		return err
	}
	return s.Store.RevokeSession(ctx, appID, sessionID, at)
}
