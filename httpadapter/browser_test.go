package httpadapter_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

// The bodies that pages get.
const (
	bodySignedOut   = `{"message":"signed out"}`
	bodyDuplicate   = `{"message":"renewed by another request"}`
	bodyTryLater    = `{"message":"try again later"}`
	bodyCrossOrigin = `{"message":"cross-origin request"}`
)

// The keys of two requests.
const (
	keyOne = "0123456789abcdef-1"
	keyTwo = "0123456789abcdef-2"
)

const pageOrigin = "https://shop.example"

// browser is one browser: its cookie jar, and requests as a page makes them. The
// jar is net/http's; what browsers do themselves is tested in Chromium.
type browser struct {
	f       *fixture
	handler *httpadapter.Browser
	jar     *cookiejar.Jar
	url     *url.URL
}

func (f *fixture) newBrowserHandler(opts ...httpadapter.Option) *httpadapter.Browser {
	opts = append([]httpadapter.Option{httpadapter.WithLogger(f.logger()), httpadapter.WithClock(f.clock)}, opts...)
	return httpadapter.NewBrowser(f.renewer, appID, opts...)
}

// newBrowser returns a browser that has logged in.
func (f *fixture) newBrowser(opts ...httpadapter.Option) *browser {
	f.tb.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.tb.Fatal(err)
	}
	origin, err := url.Parse(pageOrigin + "/auth/renew")
	if err != nil {
		f.tb.Fatal(err)
	}
	b := &browser{f: f, handler: f.newBrowserHandler(opts...), jar: jar, url: origin}
	b.login()
	return b
}

// login is what the API's login handler does.
func (b *browser) login() *renew.Bundle {
	bundle := b.f.issue()
	w := httptest.NewRecorder()
	b.handler.SetSession(w, bundle)
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		b.f.tb.Errorf("Cache-Control of a login is %q", got)
	}
	b.receive(w.Result())
	return bundle
}

// send sends a request with the cookies of now, and keeps what the response sets
// for receive: a response arrives when the test wants it to.
func (b *browser) send(path string, edits ...func(*http.Request)) *http.Response {
	req := httptest.NewRequest(http.MethodPost, pageOrigin+path, strings.NewReader("{}"))
	req.RemoteAddr = ip + ":4711"
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Origin", pageOrigin)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Content-Type", "application/json")
	for _, c := range b.jar.Cookies(b.url) {
		req.AddCookie(c)
	}
	for _, edit := range edits {
		edit(req)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, req)
	return w.Result()
}

// receive puts the cookies of a response into the jar.
func (b *browser) receive(resp *http.Response) {
	for _, c := range resp.Cookies() {
		if c.MaxAge > 0 {
			b.f.keepSecret(c.Value)
		}
	}
	b.jar.SetCookies(b.url, resp.Cookies())
}

// do sends a request and receives its response.
func (b *browser) do(path string, edits ...func(*http.Request)) response {
	b.f.tb.Helper()
	resp := b.send(path, edits...)
	b.receive(resp)
	return read(b.f.tb, resp)
}

func withKey(key string) func(*http.Request) { return withHeader("Idempotency-Key", key) }

// newest returns the claims of the newest token in the jar, without looking at
// names.
func (b *browser) newest() (sessionID, tokenID string) {
	for _, c := range b.jar.Cookies(b.url) {
		claims := payload(b.f.tb, c.Value)
		if s, t := claims["sid"].(string), claims["jid"].(string); s+t > sessionID+tokenID {
			sessionID, tokenID = s, t
		}
	}
	return sessionID, tokenID
}

// payload returns the claims of a token, unverified.
func payload(tb testing.TB, token string) map[string]any {
	tb.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		tb.Fatal("not a compact JWS")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		tb.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		tb.Fatal(err)
	}
	return claims
}

// current returns the token ID that the session is at.
func (f *fixture) current(sessionID string) string {
	f.tb.Helper()
	s, err := f.store.Store.Session(context.Background(), appID, sessionID)
	if err != nil {
		f.tb.Fatal(err)
	}
	return s.TokenID
}

// checkBrowser compares a response with the documented one. It may delete cookies,
// but sets none.
func checkBrowser(tb testing.TB, got response, status int, body string, extraHeader ...string) {
	tb.Helper()
	for _, line := range got.header.Values("Set-Cookie") {
		if !strings.Contains(line, "Max-Age=0") {
			tb.Errorf("status %d sets a cookie", status)
		}
	}
	got.header.Del("Set-Cookie")
	if status == http.StatusUnauthorized {
		extraHeader = append(extraHeader, "Www-Authenticate", "Cookie")
	}
	check(tb, got, status, body, extraHeader...)
}

func (b *browser) checkSignedOut(got response) {
	b.f.tb.Helper()
	checkBrowser(b.f.tb, got, http.StatusUnauthorized, bodySignedOut)
	if cookies := b.jar.Cookies(b.url); len(cookies) != 0 {
		b.f.tb.Errorf("%d cookies are left", len(cookies))
	}
}

// checkRenews: the session lives, and the jar has its current token.
func (b *browser) checkRenews() {
	b.f.tb.Helper()
	if got := b.do("/auth/renew"); got.status != http.StatusOK {
		b.f.tb.Errorf("the next renewal is %d %s", got.status, got.body)
	}
	sessionID, tokenID := b.newest()
	if current := b.f.current(sessionID); tokenID != current {
		b.f.tb.Errorf("the jar is at %s, the session at %s", tokenID, current)
	}
}

// TestBrowserRenewal: the auth token is in the body, the refresh token nowhere but
// in a cookie that scripts cannot read and other sites' pages do not send.
func TestBrowserRenewal(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	sessionID, first := b.newest()
	resp := b.send("/auth/renew")
	b.receive(resp)
	got := read(t, resp)

	var grant struct {
		AuthToken  string `json:"auth_token"`
		ExpiresIn  int    `json:"expires_in"`
		RenewAfter int    `json:"renew_after"`
		SessionID  string `json:"session_id"`
	}
	if err := json.Unmarshal([]byte(got.body), &grant); err != nil {
		t.Fatal(err)
	}
	f.keepSecret(grant.AuthToken)
	want := fmt.Sprintf(`{"auth_token":%q,"expires_in":3600,"renew_after":3540,"session_id":%q}`, grant.AuthToken, sessionID)
	if got.status != http.StatusOK || got.body != want {
		t.Errorf("response is %d %s\n          want 200 %s", got.status, got.body, want)
	}
	if got := got.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if _, err := f.renewer.VerifyAuthToken(t.Context(), appID, grant.AuthToken); err != nil {
		t.Error(err)
	}
	current := f.current(sessionID)
	lines := got.header.Values("Set-Cookie")
	if len(lines) != 2 {
		t.Fatalf("%d cookies are set", len(lines))
	}
	name, rest, _ := strings.Cut(lines[0], "=")
	_, attributes, _ := strings.Cut(rest, "; ")
	if name != "__Host-renew."+current || attributes != "Path=/; Max-Age=10800; HttpOnly; Secure; SameSite=Strict" {
		t.Errorf("cookie is %s with %s", name, attributes)
	}
	if want := "__Host-renew." + first + "=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"; lines[1] != want {
		t.Errorf("the other cookie is %s", lines[1])
	}
	s, err := f.store.Store.Session(t.Context(), appID, sessionID)
	if err != nil || s.IP != ip || s.UserAgent != agent {
		t.Errorf("session has IP %q, user agent %q, %v", s.IP, s.UserAgent, err)
	}
	b.checkRenews()
}

// TestBrowserTimes: a page goes by what is left of the lifetimes, not by a clock.
func TestBrowserTimes(t *testing.T) {
	for _, test := range []struct {
		name   string
		app    renew.App
		later  time.Duration // the response is a retry, so much later
		want   string
		maxAge string
	}{
		{name: "a short life", app: renew.App{AuthTTL: 10 * time.Second, RefreshTTL: time.Minute}, want: `"expires_in":10,"renew_after":8,`, maxAge: "60"},
		{name: "a second", app: renew.App{AuthTTL: time.Second, RefreshTTL: 2 * time.Second}, want: `"expires_in":1,"renew_after":1,`, maxAge: "2"},
		{name: "the end of the session", app: renew.App{SessionTTL: 30 * time.Second}, want: `"expires_in":30,"renew_after":24,`, maxAge: "30"},
		{name: "a retry", later: 90*time.Second + 500*time.Millisecond, want: `"expires_in":3509,"renew_after":3449,`, maxAge: "10710"},
		{name: "a retry after the auth token's life", later: 2 * time.Hour, want: `"expires_in":0,"renew_after":0,`, maxAge: "3600"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			test.app.ID, test.app.Issuer = appID, "https://shop.example"
			if err := f.store.UpdateApp(t.Context(), test.app); err != nil {
				t.Fatal(err)
			}
			b := f.newBrowser()
			got := b.send("/auth/renew", withKey(keyOne))
			if test.later > 0 {
				f.advance(test.later)
				got = b.send("/auth/renew", withKey(keyOne))
			}
			b.receive(got)
			text := read(t, got)
			if text.status != http.StatusOK || !strings.Contains(text.body, test.want) {
				t.Errorf("response is %d %s", text.status, text.body)
			}
			if line := text.header.Get("Set-Cookie"); !strings.Contains(line, "; Max-Age="+test.maxAge+";") {
				t.Errorf("cookie has %s", line[strings.Index(line, ";"):])
			}
		})
	}
}

// TestBrowserNotYetValid: with RefreshNotBefore a page has to wait, and is not
// signed out.
func TestBrowserNotYetValid(t *testing.T) {
	f := newFixture(t)
	app := renew.App{ID: appID, Issuer: "https://shop.example", AuthTTL: time.Minute, RefreshNotBefore: 55 * time.Second}
	if err := f.store.UpdateApp(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	b := f.newBrowser()
	f.advance(5500 * time.Millisecond)
	checkBrowser(t, b.do("/auth/renew"), http.StatusConflict, `{"message":"not yet valid"}`, "Retry-After", "50")
	f.advance(50 * time.Second)
	got := b.do("/auth/renew")
	if want := `"expires_in":59,"renew_after":55,`; !strings.Contains(got.body, want) {
		t.Errorf("response is %d %s, without %s", got.status, got.body, want)
	}
}

// TestBrowserDuplicates: of eight requests with one cookie, without keys, one
// renews. The others are told to wait, and nothing is lost.
func TestBrowserDuplicates(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	responses := make([]*http.Response, 8)
	var requests sync.WaitGroup
	for i := range responses {
		requests.Go(func() { responses[i] = b.send("/auth/renew") })
	}
	requests.Wait()
	renewed := 0
	for _, resp := range responses {
		b.receive(resp)
		if resp.StatusCode == http.StatusOK {
			renewed++
			continue
		}
		if cookies := resp.Header.Values("Set-Cookie"); len(cookies) != 0 {
			t.Errorf("a duplicate sets or deletes %d cookies", len(cookies))
		}
		checkBrowser(t, read(t, resp), http.StatusConflict, bodyDuplicate)
	}
	if renewed != 1 {
		t.Errorf("%d requests renewed", renewed)
	}
	b.checkRenews()
}

// TestBrowserRetry: a lost response is repeated with its key: the same successor
// in the same cookie, however often.
func TestBrowserRetry(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	sessionID, _ := b.newest()
	names := map[string]bool{}
	for range 3 {
		resp := b.send("/auth/renew", withKey(keyOne)) // and is not received
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status is %d", resp.StatusCode)
		}
		names[resp.Cookies()[0].Name] = true
		f.advance(time.Minute)
	}
	if want := "__Host-renew." + f.current(sessionID); len(names) != 1 || !names[want] {
		t.Errorf("cookies are %v, want %s", names, want)
	}
	b.receive(b.send("/auth/renew", withKey(keyOne)))
	b.checkRenews()
}

// TestBrowserForgedCookie: a cookie that is newer by what it says, and not genuine,
// neither signs the page out nor costs the genuine one.
func TestBrowserForgedCookie(t *testing.T) {
	const newest = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
	f := newFixture(t)
	other, err := renew.GenerateSigningKey(renew.ES256)
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(header, claims string) string{
		"no signature":      func(header, claims string) string { return header + "." + claims + "." },
		"another signature": func(header, claims string) string { return header + "." + claims + ".AAAA" },
		"another header":    func(_, claims string) string { return encode(`{"alg":"none"}`) + "." + claims + ".AAAA" },
		"another key": func(_, claims string) string {
			return encode(`{"alg":"ES256","kid":"`+other.KeyID()+`","typ":"JWT"}`) + "." + claims + ".AAAA"
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := f.newBrowser()
			genuine := b.jar.Cookies(b.url)[0]
			header, _, _ := strings.Cut(genuine.Value, ".")
			value := forge(header, encode(`{"sid":"`+newest+`","jid":"`+newest+`","nbf":0,"exp":9999999999}`))
			b.jar.SetCookies(b.url, []*http.Cookie{{Name: "__Host-renew." + newest, Value: value, Path: "/", Secure: true}})
			if got := b.do("/auth/renew"); got.status != http.StatusOK {
				t.Errorf("status is %d %s", got.status, got.body)
			}
			b.checkRenews()
			if cookies := b.jar.Cookies(b.url); len(cookies) != 1 {
				t.Errorf("%d cookies are left", len(cookies))
			}
		})
	}
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// TestBrowserDamagedCookie: a cookie with the name of the token that a retry brings,
// and with another value, does not cost the new cookie.
func TestBrowserDamagedCookie(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	lost := read(t, b.send("/auth/renew", withKey(keyOne)))
	var name string
	for _, line := range lost.header.Values("Set-Cookie") {
		if !strings.Contains(line, "Max-Age=0") {
			name, _, _ = strings.Cut(line, "=")
		}
	}
	b.jar.SetCookies(b.url, []*http.Cookie{{Name: name, Value: "damaged", Path: "/", Secure: true}})
	if got := b.do("/auth/renew", withKey(keyOne)); got.status != http.StatusOK {
		t.Errorf("the retry is %d %s", got.status, got.body)
	}
	b.checkRenews()
}

// TestBrowserKeyOfTheCookie: the cookie of a lost response may have arrived all the
// same. A page that repeats its key is told to draw another one.
func TestBrowserKeyOfTheCookie(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	b.do("/auth/renew", withKey(keyOne))
	got := b.do("/auth/renew", withKey(keyOne))
	checkBrowser(t, got, http.StatusBadRequest, fields("Idempotency-Key", "was used for another refresh token: draw a new one for each"))
	if got := b.do("/auth/renew", withKey(keyTwo)); got.status != http.StatusOK {
		t.Errorf("response is %d %s", got.status, got.body)
	}
}

// TestBrowserLostWithoutKey: what the documentation says of plain requests whose
// response is lost. Without a retry window the session is lost with it.
func TestBrowserLostWithoutKey(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	b.send("/auth/renew")
	checkBrowser(t, b.do("/auth/renew"), http.StatusConflict, bodyDuplicate)
	f.advance(11 * time.Second)
	b.checkSignedOut(b.do("/auth/renew"))

	f = newFixture(t, renew.WithRetryWindow(10*time.Second))
	b = f.newBrowser()
	b.send("/auth/renew")
	b.checkRenews()
}

// TestBrowserSignedOut: 401 and no cookie left, where the session is over.
func TestBrowserSignedOut(t *testing.T) {
	for name, end := range map[string]func(f *fixture, b *browser){
		"no cookie": func(_ *fixture, b *browser) {
			b.jar.SetCookies(b.url, []*http.Cookie{{Name: b.jar.Cookies(b.url)[0].Name, Path: "/", MaxAge: -1}})
		},
		"revoked": func(f *fixture, _ *browser) {
			if _, err := f.renewer.RevokeSubject(context.Background(), appID, "ann"); err != nil {
				f.tb.Fatal(err)
			}
		},
		"expired": func(f *fixture, _ *browser) { f.advance(3 * time.Hour) },
		"forged": func(_ *fixture, b *browser) {
			c := b.jar.Cookies(b.url)[0]
			c.Path, c.Value = "/", c.Value[:len(c.Value)-8]+"AAAAAAAA"
			b.jar.SetCookies(b.url, []*http.Cookie{c})
		},
		"no token": func(_ *fixture, b *browser) {
			c := b.jar.Cookies(b.url)[0]
			c.Path, c.Value = "/", "x"
			b.jar.SetCookies(b.url, []*http.Cookie{c})
		},
		"reused": func(f *fixture, b *browser) {
			b.send("/auth/renew")
			f.advance(time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			b := f.newBrowser()
			end(f, b)
			b.checkSignedOut(b.do("/auth/renew"))
		})
	}
}

// TestBrowserDenied: a denial signs the page out, and leaves the token, which is valid.
func TestBrowserDenied(t *testing.T) {
	var denied atomic.Bool
	f := newFixture(t, renew.WithRenewFunc(func(context.Context, *renew.Renewal) error {
		if denied.Load() {
			return renew.ErrDenied
		}
		return nil
	}))
	b := f.newBrowser()
	denied.Store(true)
	got := b.do("/auth/renew", withKey(keyOne))
	if len(got.header.Values("Set-Cookie")) != 0 {
		t.Error("a cookie is set or deleted")
	}
	checkBrowser(t, got, http.StatusUnauthorized, bodySignedOut)
	denied.Store(false)
	b.checkRenews()
}

// TestBrowserTrouble: what is not the page's fault costs it nothing.
func TestBrowserTrouble(t *testing.T) {
	outage := func(context.Context) error { return errors.New("the database is away") }
	for _, method := range []string{"App", "SigningKey", "VerificationKey", "Session", "Rotate"} {
		t.Run(method, func(t *testing.T) {
			f := newFixture(t)
			b := f.newBrowser()
			f.store.fault(method, outage)
			got := b.do("/auth/renew", withKey(keyOne))
			if len(got.header.Values("Set-Cookie")) != 0 {
				t.Error("a cookie is set or deleted")
			}
			checkBrowser(t, got, http.StatusServiceUnavailable, bodyTryLater, "Retry-After", "2")
			if !strings.Contains(f.logs.text(), "the database is away") {
				t.Error("the log does not say why")
			}
			f.store.fault(method, nil)
			b.checkRenews()
		})
	}
	t.Run("a store that has lost a write", func(t *testing.T) {
		f := newFixture(t)
		b := f.newBrowser()
		sessionID, _ := b.newest()
		backup, err := f.store.Store.Session(t.Context(), appID, sessionID)
		if err != nil {
			t.Fatal(err)
		}
		b.do("/auth/renew")
		f.store.restore(backup)
		checkBrowser(t, b.do("/auth/renew"), http.StatusServiceUnavailable, bodyTryLater, "Retry-After", "2")
		f.store.restore(renew.Session{})
		b.checkRenews()
	})
}

// TestBrowserLogout: the session ends and the cookie goes, whatever the token.
func TestBrowserLogout(t *testing.T) {
	for name, before := range map[string]func(f *fixture, b *browser){
		"fresh":   func(*fixture, *browser) {},
		"expired": func(f *fixture, _ *browser) { f.advance(24 * time.Hour) },
		"used":    func(_ *fixture, b *browser) { b.send("/auth/renew") },
		"revoked": func(_ *fixture, b *browser) { b.send("/auth/logout") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			b := f.newBrowser()
			sessionID, _ := b.newest()
			before(f, b)
			got := b.do("/auth/logout")
			if got.status != http.StatusNoContent || got.body != "" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("response is %d %q, Cache-Control %q", got.status, got.body, got.header.Get("Cache-Control"))
			}
			if n := len(b.jar.Cookies(b.url)); n != 0 {
				t.Errorf("%d cookies are left", n)
			}
			if s, err := f.store.Store.Session(t.Context(), appID, sessionID); err != nil || s.RevokedAt.IsZero() {
				t.Errorf("the session is not revoked: %v", err)
			}
			b.checkSignedOut(b.do("/auth/renew"))
			if got := b.do("/auth/logout"); got.status != http.StatusNoContent {
				t.Errorf("a second logout is %d", got.status)
			}
		})
	}
	t.Run("a forged token", func(t *testing.T) {
		f := newFixture(t)
		b := f.newBrowser()
		c := b.jar.Cookies(b.url)[0]
		c.Path, c.Value = "/", "a.b.c"
		b.jar.SetCookies(b.url, []*http.Cookie{c})
		if got := b.do("/auth/logout"); got.status != http.StatusNoContent {
			t.Errorf("response is %d %s", got.status, got.body)
		}
		b.checkSignedOut(b.do("/auth/renew"))
	})
	t.Run("an outage", func(t *testing.T) {
		f := newFixture(t)
		b := f.newBrowser()
		f.store.fault("App", func(context.Context) error { return errors.New("the database is away") })
		checkBrowser(t, b.do("/auth/logout"), http.StatusServiceUnavailable, bodyTryLater, "Retry-After", "2")
		f.store.fault("App", nil)
		b.checkRenews()
	})
}

// TestBrowserAnyOrder: the jar of a browser has the session's current token once
// all responses have arrived, in whatever order they do, and is never at a token
// that would end the session.
func TestBrowserAnyOrder(t *testing.T) {
	const browsers = 200
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	late, renewals := 0, 0
	for range browsers {
		f := newFixture(t)
		b := f.newBrowser()
		sessionID, _ := b.newest()
		var pending []*http.Response // sent by the server, and on their way
		var keys []string
		deliver := func() {
			i := random.IntN(len(pending))
			if status := pending[i].StatusCode; status != http.StatusOK && status != http.StatusConflict && status != http.StatusBadRequest {
				t.Errorf("a response is %d", status)
			}
			before := f.current(sessionID)
			for _, c := range pending[i].Cookies() {
				if c.MaxAge > 0 && !strings.HasSuffix(c.Name, before) {
					late++
				}
			}
			b.receive(pending[i])
			pending = slices.Delete(pending, i, i+1)
		}
		for range 30 {
			switch n := random.IntN(10); {
			case n < 3 && len(keys) > 0: // the same request again
				pending = append(pending, b.send("/auth/renew", withKey(keys[len(keys)-1])))
			case n < 6:
				key := fmt.Sprintf("%016d", random.Uint64())
				keys = append(keys, key)
				pending = append(pending, b.send("/auth/renew", withKey(key)))
			case len(pending) > 0:
				deliver()
			}
			f.advance(time.Duration(random.IntN(300)) * time.Millisecond) // in all, less than the reuse leeway
		}
		for len(pending) > 0 {
			deliver()
		}
		_, tokenID := b.newest()
		if current := f.current(sessionID); tokenID != current {
			t.Errorf("the jar is at %s, the session at %s", tokenID, current)
		}
		b.checkRenews()
		if n := len(b.jar.Cookies(b.url)); n != 1 {
			t.Errorf("%d cookies are left after a renewal", n)
		}
		s, err := f.store.Store.Session(t.Context(), appID, sessionID)
		if err != nil {
			t.Fatal(err)
		}
		renewals += int(s.Generation)
	}
	t.Logf("%d browsers, %d renewals, %d cookies that arrived later than a newer one was made", browsers, renewals, late)
	if late == 0 {
		t.Error("no response was late: the test tests nothing")
	}
}

// TestBrowserLateResponses: a response to the session before a login cannot end or
// replace the session after it.
func TestBrowserLateResponses(t *testing.T) {
	for name, test := range map[string]struct {
		before func(f *fixture, b *browser)
		path   string
		status int
	}{
		"a renewal": {func(*fixture, *browser) {}, "/auth/renew", http.StatusOK},
		"a logout":  {func(*fixture, *browser) {}, "/auth/logout", http.StatusNoContent},
		"the end": {func(f *fixture, b *browser) {
			sessionID, _ := b.newest()
			if err := f.renewer.RevokeSession(context.Background(), appID, sessionID); err != nil {
				f.tb.Fatal(err)
			}
		}, "/auth/renew", http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			b := f.newBrowser()
			test.before(f, b)
			f.advance(time.Second)
			login := b.f.issue()
			w := httptest.NewRecorder()
			b.handler.SetSession(w, login)
			f.advance(time.Second) // the renewal's token is newer than the login's
			late := b.send(test.path)
			if late.StatusCode != test.status {
				t.Fatalf("status is %d", late.StatusCode)
			}
			b.receive(w.Result())
			b.receive(late)
			if sessionID, _ := b.newest(); sessionID != login.SessionID {
				t.Errorf("the jar is at session %s, not at that of the login", sessionID)
			}
			b.checkRenews()
			if n := len(b.jar.Cookies(b.url)); n != 1 {
				t.Errorf("%d cookies are left", n)
			}
			if sessionID, _ := b.newest(); sessionID != login.SessionID {
				t.Errorf("the renewal was of session %s, not with that of the login", sessionID)
			}
		})
	}
	t.Run("a renewal after a logout", func(t *testing.T) {
		f := newFixture(t)
		b := f.newBrowser()
		late := b.send("/auth/renew")
		b.do("/auth/logout")
		b.receive(late)
		b.checkSignedOut(b.do("/auth/renew"))
	})
}

// TestBrowserCookies: other cookies of the host are not looked at, and many are no
// more work than a few.
func TestBrowserCookies(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	genuine := b.jar.Cookies(b.url)[0]
	others := func(req *http.Request) {
		for _, name := range []string{"__Host-renew", "__Host-renew.", "__Host-renew.x", "__Host-renew.shop." + strings.TrimPrefix(genuine.Name, "__Host-renew."), "renew." + strings.TrimPrefix(genuine.Name, "__Host-renew.")} {
			req.AddCookie(&http.Cookie{Name: name, Value: "x"})
		}
		for range 100 {
			req.AddCookie(&http.Cookie{Name: genuine.Name, Value: "x"})
		}
	}
	resp := b.send("/auth/renew", others)
	b.receive(resp)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status is %d", resp.StatusCode)
	}
	if n := len(resp.Header.Values("Set-Cookie")); n > 9 {
		t.Errorf("the response has %d cookies", n)
	}
	calls := 0
	f.store.fault("App", func(context.Context) error { calls++; return nil })
	b.do("/auth/logout", others)
	if calls > 8 {
		t.Errorf("a logout reads the app %d times", calls)
	}
}

// TestBrowserCrossOrigin: another origin's page can neither renew nor log out, and
// what a form can send is rejected even where no header names the page.
func TestBrowserCrossOrigin(t *testing.T) {
	const other = "https://evil.example"
	form := withHeader("Content-Type", "application/x-www-form-urlencoded")
	invalidContentType := fields("Content-Type", "is not application/json, and there is no X-Requested-With")
	for _, test := range []struct {
		name   string
		edits  []func(*http.Request)
		status int
		body   string
	}{
		{"a cross-site fetch", []func(*http.Request){withHeader("Sec-Fetch-Site", "cross-site"), withHeader("Origin", other)}, 403, bodyCrossOrigin},
		{"a sibling of the same site", []func(*http.Request){withHeader("Sec-Fetch-Site", "same-site"), withHeader("Origin", "https://blog.shop.example")}, 403, bodyCrossOrigin},
		{"a sandboxed iframe", []func(*http.Request){withHeader("Sec-Fetch-Site", "cross-site"), withHeader("Origin", "null")}, 403, bodyCrossOrigin},
		{"a browser without Sec-Fetch-Site", []func(*http.Request){withHeader("Sec-Fetch-Site"), withHeader("Origin", other)}, 403, bodyCrossOrigin},
		{"the same, sandboxed", []func(*http.Request){withHeader("Sec-Fetch-Site"), withHeader("Origin", "null")}, 403, bodyCrossOrigin},
		{"a form of another origin", []func(*http.Request){withHeader("Sec-Fetch-Site", "cross-site"), withHeader("Origin", other), form}, 403, bodyCrossOrigin},
		{"a form in a browser that names no page", []func(*http.Request){withHeader("Sec-Fetch-Site"), withHeader("Origin"), form}, 400, invalidContentType},
		{"a form of this origin", []func(*http.Request){form}, 400, invalidContentType},
		{"text that looks like JSON", []func(*http.Request){withHeader("Content-Type", "text/plain; application/json")}, 400, invalidContentType},
		{"no content type", []func(*http.Request){withHeader("Content-Type")}, 400, invalidContentType},
		{"two content types", []func(*http.Request){withHeader("Content-Type", "application/json", "application/json")}, 400, invalidContentType},
		{"this origin over http", []func(*http.Request){withHeader("Origin", "http://shop.example")}, 403, `{"message":"the page is not on https"}`},
	} {
		for _, path := range []string{"/auth/renew", "/auth/logout"} {
			t.Run(test.name+path, func(t *testing.T) {
				f := newFixture(t)
				b := f.newBrowser()
				sessionID, before := b.newest()
				got := b.do(path, test.edits...)
				if len(got.header.Values("Set-Cookie")) != 0 {
					t.Error("a cookie is set or deleted")
				}
				checkBrowser(t, got, test.status, test.body)
				if got := f.current(sessionID); got != before {
					t.Error("the session was renewed")
				}
				b.checkRenews()
			})
		}
	}
	t.Run("a custom header", func(t *testing.T) {
		f := newFixture(t)
		b := f.newBrowser()
		if got := b.do("/auth/renew", withHeader("Content-Type"), withHeader("X-Requested-With", "fetch")); got.status != http.StatusOK {
			t.Errorf("response is %d %s", got.status, got.body)
		}
	})
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
		t.Run(method, func(t *testing.T) {
			f := newFixture(t)
			b := f.newBrowser()
			checkBrowser(t, b.do("/auth/renew", func(req *http.Request) { req.Method = method }), http.StatusMethodNotAllowed, bodyBadMethod, "Allow", "POST")
			checkBrowser(t, b.do("/auth/other"), http.StatusNotFound, bodyNotFound)
			b.checkRenews()
		})
	}
}

// TestBrowserTrustedOrigins: pages of a named origin can use the handler and read
// its responses, and no others can.
func TestBrowserTrustedOrigins(t *testing.T) {
	const trusted = "https://app.shop.example"
	f := newFixture(t)
	b := f.newBrowser(httpadapter.WithTrustedOrigins(trusted, "https://other.shop.example"))
	from := func(origin string) func(*http.Request) {
		return func(req *http.Request) {
			req.Header.Set("Origin", origin)
			req.Header.Set("Sec-Fetch-Site", "same-site")
		}
	}
	preflight := func(req *http.Request) {
		req.Method = http.MethodOptions
		req.Header.Del("Cookie")
		req.Header.Del("Content-Type")
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "content-type,idempotency-key")
	}
	got := b.do("/auth/renew", from(trusted), preflight)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":      trusted,
		"Access-Control-Allow-Credentials": "true",
		"Access-Control-Allow-Methods":     "POST",
		"Access-Control-Allow-Headers":     "Content-Type, Idempotency-Key, X-Requested-With",
		"Access-Control-Max-Age":           "600",
		"Vary":                             "Origin",
		"Cache-Control":                    "no-store",
	} {
		if got.status != http.StatusNoContent || got.header.Get(name) != want {
			t.Errorf("preflight is %d with %s %q, want %q", got.status, name, got.header.Get(name), want)
		}
	}
	readable := []string{"Vary", "Origin", "Access-Control-Allow-Origin", trusted, "Access-Control-Allow-Credentials", "true", "Access-Control-Expose-Headers", "Retry-After"}
	if got := b.do("/auth/renew", from(trusted)); got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != trusted {
		t.Errorf("renewal is %d with %v", got.status, got.header)
	}
	checkBrowser(t, b.do("/auth/renew", from(trusted), withHeader("Cookie")), http.StatusUnauthorized, bodySignedOut, readable...)

	for _, origin := range []string{"https://evil.example", "https://app.shop.example.evil.example", "http://app.shop.example", "null", trusted + ":8443"} {
		checkBrowser(t, b.do("/auth/renew", from(origin)), http.StatusForbidden, bodyCrossOrigin, "Vary", "Origin")
		checkBrowser(t, b.do("/auth/renew", from(origin), preflight), http.StatusForbidden, bodyCrossOrigin, "Vary", "Origin")
	}
	b.checkRenews()

	plain := f.newBrowser()
	checkBrowser(t, plain.do("/auth/renew", from(trusted), preflight), http.StatusForbidden, bodyCrossOrigin)
}

// TestBrowserPlainHTTP: without TLS it works on this machine, if asked to, and
// nowhere else.
func TestBrowserPlainHTTP(t *testing.T) {
	const insecure = `{"message":"the page is not on https"}`
	page := func(origin, host string, tls bool) func(*http.Request) {
		return func(req *http.Request) {
			req.Header.Set("Origin", origin)
			if origin == "" {
				req.Header.Del("Origin")
				req.Header.Del("Sec-Fetch-Site")
			}
			req.Host = host
			if !tls {
				req.TLS = nil
			}
		}
	}
	for _, test := range []struct {
		name         string
		page         func(*http.Request)
		safe, unsafe int // without and with WithInsecureLocalhost
	}{
		{"https", page("https://shop.example", "shop.example", true), 200, 403},
		{"https, behind a proxy that ends TLS", page("https://shop.example", "shop.example", false), 200, 403},
		{"the same with the proxy's name for it", page("https://shop.example", "127.0.0.1:8080", false), 200, 200},
		{"localhost", page("http://localhost:8080", "localhost:8080", false), 403, 200},
		{"a name of localhost", page("http://shop.localhost:8080", "shop.localhost:8080", false), 403, 200},
		{"127.0.0.1", page("http://127.0.0.1:8080", "127.0.0.1:8080", false), 403, 200},
		{"::1", page("http://[::1]:8080", "[::1]:8080", false), 403, 200},
		{"localhost, not a page", page("", "localhost", false), 403, 200},
		{"another host, not a page", page("", "shop.example", false), 200, 403},
		{"a private network", page("http://192.168.1.7", "192.168.1.7", false), 403, 403},
		{"a name that points here", page("http://localhost.evil.example", "localhost.evil.example", false), 403, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			for want, opts := range map[int][]httpadapter.Option{test.safe: nil, test.unsafe * -1: {httpadapter.WithInsecureLocalhost()}} {
				f := newFixture(t)
				b := f.newBrowser(opts...)
				if opts != nil {
					want = -want
				}
				got := b.do("/auth/renew", test.page)
				if got.status != want {
					t.Errorf("with %d options: status is %d %s, want %d", len(opts), got.status, got.body, want)
				}
				if want == http.StatusForbidden {
					checkBrowser(t, got, want, insecure)
				}
			}
		})
	}
	f := newFixture(t)
	w := httptest.NewRecorder()
	bundle := f.issue()
	httpadapter.SetSession(w, bundle, httpadapter.WithInsecureLocalhost(), httpadapter.WithClock(f.clock))
	if c := w.Result().Cookies()[0]; c.Name != "renew."+bundle.TokenID || c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
		t.Errorf("cookie is %s with %+v", c.Name, c)
	}
	for _, name := range []string{"__Host-a", "__Secure-a", "__Http-a", "__HOST-a"} { // browsers take none of them from plain http
		w := httptest.NewRecorder()
		httpadapter.SetSession(w, bundle, httpadapter.WithInsecureLocalhost(), httpadapter.WithCookie(name, "/"), httpadapter.WithClock(f.clock))
		if got := w.Result().Cookies()[0].Name; got != "a."+bundle.TokenID {
			t.Errorf("the cookie of %s is %s", name, got)
		}
	}
}

// TestBrowserOptions: the cookie is what the options say, for two apps on one host
// too.
func TestBrowserOptions(t *testing.T) {
	f := newFixture(t)
	w := httptest.NewRecorder()
	bundle := f.issue()
	opts := []httpadapter.Option{httpadapter.WithCookie("__Secure-admin", "/admin/auth"), httpadapter.WithSameSiteLax(), httpadapter.WithClock(f.clock)}
	f.newBrowserHandler(opts...).SetSession(w, bundle)
	httpadapter.SetSession(w, bundle, opts...)
	httpadapter.SetSession(w, bundle, httpadapter.WithClock(f.clock))
	cookies := w.Result().Cookies()
	for i, want := range []string{"Path=/admin/auth; Max-Age=10800; HttpOnly; Secure; SameSite=Lax", "Path=/admin/auth; Max-Age=10800; HttpOnly; Secure; SameSite=Lax", "Path=/; Max-Age=10800; HttpOnly; Secure; SameSite=Strict"} {
		if _, attributes, _ := strings.Cut(cookies[i].Raw, "; "); attributes != want {
			t.Errorf("cookie %d has %s", i, attributes)
		}
	}

	shop := f.newBrowser()
	f.createApp("admin")
	admin := httpadapter.NewBrowser(f.renewer, "admin", httpadapter.WithCookie("__Host-admin", "/"), httpadapter.WithLogger(f.logger()), httpadapter.WithClock(f.clock))
	second, err := f.renewer.Issue(t.Context(), renew.IssueRequest{AppID: "admin", Subject: "ann", IP: ip, UserAgent: agent})
	if err != nil {
		t.Fatal(err)
	}
	f.keepSecret(second.RefreshToken)
	w = httptest.NewRecorder()
	admin.SetSession(w, second)
	shop.receive(w.Result())
	shop.do("/auth/logout")
	shop.handler = admin
	if got := shop.do("/auth/renew"); got.status != http.StatusOK {
		t.Errorf("the other app's session: %d %s", got.status, got.body)
	}
}

// TestBrowserMisconfigured: it says so when it is made, and serves nothing.
func TestBrowserMisconfigured(t *testing.T) {
	f := newFixture(t)
	for text, opts := range map[string][]httpadapter.Option{
		`not the name and the path of a cookie`:  {httpadapter.WithCookie("a b", "/")},
		`does not begin with /`:                  {httpadapter.WithCookie("a", "")},
		`demands the path /`:                     {httpadapter.WithCookie("__host-a", "/auth")},
		`"http://shop.example" is not an origin`: {httpadapter.WithTrustedOrigins("http://shop.example")},
		`"shop.example" is not an origin`:        {httpadapter.WithTrustedOrigins("shop.example")},
		`"*" is not an origin`:                   {httpadapter.WithTrustedOrigins("*")},
		`WithTrustedOrigins`:                     {httpadapter.WithTrustedOrigins("https://shop.example/path")},
		`"https://Shop.example" is not written`:  {httpadapter.WithTrustedOrigins("https://Shop.example")},
		`"https://shop.example:443" is not`:      {httpadapter.WithTrustedOrigins("https://shop.example:443")},
		`"http://localhost:80" is not written`:   {httpadapter.WithTrustedOrigins("http://localhost:80")},
		`"https://shop.example:" is not written`: {httpadapter.WithTrustedOrigins("https://shop.example:")},
		`"https://ann@shop.example" is not`:      {httpadapter.WithTrustedOrigins("https://ann@shop.example")},
		`"https://bücher.example" is not`:        {httpadapter.WithTrustedOrigins("https://shop.example", "https://bücher.example")},
		`"HTTPS://shop.example" is not written`:  {httpadapter.WithTrustedOrigins("HTTPS://shop.example")},
		`a prefix is not valid`:                  {httpadapter.WithTrustedProxies(netip.Prefix{})},
		`WithClock: the function is nil`:         {httpadapter.WithClock(nil)},
		`an option is nil`:                       {nil},
		`WithAppID: `:                            {httpadapter.WithAppID(func(*http.Request) string { return appID })},
		`WithInvalidTokenStatus: `:               {httpadapter.WithInvalidTokenStatus(404)},
		`WithSessionCheck: `:                     {httpadapter.WithSessionCheck()},
	} {
		t.Run(text, func(t *testing.T) {
			f.logs.reset()
			b := f.newBrowserHandler(opts...)
			if got := f.logs.text(); !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), text) || !strings.Contains(got, "httpadapter.NewBrowser: ") {
				t.Errorf("the log says %s", got)
			}
			w := httptest.NewRecorder()
			b.SetSession(w, f.issue())
			if len(w.Header().Values("Set-Cookie")) != 0 {
				t.Error("a cookie is set")
			}
			b.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/auth/renew", nil))
			check(t, read(t, w.Result()), http.StatusInternalServerError, bodyInternalError)
		})
	}
	for name, b := range map[string]*httpadapter.Browser{
		"the Renewer is nil":  httpadapter.NewBrowser(nil, appID, httpadapter.WithLogger(f.logger())),
		"the app ID is empty": httpadapter.NewBrowser(f.renewer, "", httpadapter.WithLogger(f.logger())),
	} {
		if !strings.Contains(f.logs.text(), name) {
			t.Errorf("the log does not say that %s", name)
		}
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/auth/renew", nil))
		check(t, read(t, w.Result()), http.StatusInternalServerError, bodyInternalError)
	}
}

// TestBrowserOptionsElsewhere: an option of pages is rejected where it would do
// nothing.
func TestBrowserOptionsElsewhere(t *testing.T) {
	f := newFixture(t)
	for name, opt := range map[string]httpadapter.Option{
		"WithCookie":            httpadapter.WithCookie("__Host-a", "/"),
		"WithSameSiteLax":       httpadapter.WithSameSiteLax(),
		"WithTrustedOrigins":    httpadapter.WithTrustedOrigins(),
		"WithInsecureLocalhost": httpadapter.WithInsecureLocalhost(),
		"WithTrustedProxies":    httpadapter.WithTrustedProxies(),
		"WithClock":             httpadapter.WithClock(f.clock),
	} {
		t.Run(name, func(t *testing.T) {
			checkMisconfigured(t, "httpadapter.New: ", name+": it is for NewBrowser", func(logger httpadapter.Option) http.Handler {
				return httpadapter.New(f.renewer, opt, logger)
			})
		})
	}
}

// TestBrowserClientIP: the session has the address of the client, and not what it
// or an untrusted proxy says.
func TestBrowserClientIP(t *testing.T) {
	proxies := httpadapter.WithTrustedProxies(netip.MustParsePrefix("10.0.0.0/8"))
	from := func(remoteAddr, forwardedFor string) func(*http.Request) {
		return func(req *http.Request) {
			req.RemoteAddr = remoteAddr
			req.Header.Set("X-Forwarded-For", forwardedFor)
		}
	}
	for _, test := range []struct {
		name string
		opts []httpadapter.Option
		edit func(*http.Request)
		want string
	}{
		{"no proxy", nil, from("192.0.2.7:1", "203.0.113.9"), "192.0.2.7"},
		{"a trusted proxy", []httpadapter.Option{proxies}, from("10.1.2.3:1", "198.51.100.1, 203.0.113.9"), "203.0.113.9"},
		{"another proxy", []httpadapter.Option{proxies}, from("192.0.2.7:1", "203.0.113.9"), "192.0.2.7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			b := f.newBrowser(test.opts...)
			sessionID, _ := b.newest()
			if got := b.do("/auth/renew", test.edit); got.status != http.StatusOK {
				t.Fatalf("response is %d %s", got.status, got.body)
			}
			s, err := f.store.Store.Session(t.Context(), appID, sessionID)
			if err != nil || s.IP != test.want {
				t.Errorf("the session has %q, want %q: %v", s.IP, test.want, err)
			}
		})
	}
	t.Run("a Unix socket", func(t *testing.T) {
		f := newFixture(t)
		b := f.newBrowser()
		checkBrowser(t, b.do("/auth/renew", from("@", "203.0.113.9")), http.StatusServiceUnavailable, bodyTryLater, "Retry-After", "2")
		if !strings.Contains(f.logs.text(), "set RemoteAddr") {
			t.Errorf("the log says %s", f.logs.text())
		}
		b.checkRenews()
	})
}

// TestBrowserRequests: a key that is no key is rejected, and whatever arrives is
// no more than that.
func TestBrowserRequests(t *testing.T) {
	f := newFixture(t)
	b := f.newBrowser()
	for name, test := range map[string]struct {
		edit func(*http.Request)
		body string
	}{
		"two keys":     {withHeader("Idempotency-Key", keyOne, keyTwo), fields("Idempotency-Key", "is sent more than once")},
		"an empty key": {withHeader("Idempotency-Key", ""), fields("Idempotency-Key", "is empty")},
	} {
		t.Run(name, func(t *testing.T) {
			checkBrowser(t, b.do("/auth/renew", test.edit), http.StatusBadRequest, test.body)
		})
	}
	if got := b.do("/auth/renew", withKey("short")); got.status != http.StatusBadRequest || !strings.Contains(got.body, `"field":"Idempotency-Key"`) {
		t.Errorf("response is %d %s", got.status, got.body)
	}
	b.checkRenews()
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, &http.Request{Method: http.MethodPost}) // of no server
	check(t, read(t, w.Result()), http.StatusNotFound, bodyNotFound)
}
