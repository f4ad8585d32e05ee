package browsertest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// chrome is a headless Chromium with a profile.
type chrome struct {
	t       *testing.T
	ctx     context.Context
	release context.CancelFunc
}

// startChrome starts Chromium on a profile, which is new if the directory is. It
// ends with the test at the latest. Flags are name and value in turn.
func startChrome(t *testing.T, profile string, flags ...string) *chrome {
	t.Helper()
	if testing.Short() {
		t.Skip("no browser is started with -short")
	}
	binary, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("RENEW_REQUIRE_BROWSER") != "" {
			t.Fatal(err)
		}
		t.Skip("Chromium is not installed: apt-get install chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary),
		chromedp.UserDataDir(profile),
		chromedp.NoSandbox, // it does not run as root otherwise
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
	)
	for i := 0; i+1 < len(flags); i += 2 {
		opts = append(opts, chromedp.Flag(flags[i], flags[i+1]))
	}
	allocator, release := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(allocator)
	c := &chrome{t: t, ctx: ctx, release: func() { cancel(); release() }}
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	t.Cleanup(c.release)
	return c
}

// close ends Chromium as its user does, so that it writes its profile.
func (c *chrome) close() {
	c.t.Helper()
	require.NoError(c.t, chromedp.Cancel(c.ctx))
	c.release()
}

// tab is one tab.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// open opens a tab with an address. Scripts run before those of every page in it.
func (c *chrome) open(address string, scripts ...string) *tab {
	c.t.Helper()
	ctx, cancel := chromedp.NewContext(c.ctx)
	c.t.Cleanup(cancel)
	tab := &tab{t: c.t, ctx: ctx}
	for _, script := range scripts {
		call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	}
	tab.visit(address)
	return tab
}

func (tab *tab) visit(address string) {
	tab.t.Helper()
	require.NoError(tab.t, chromedp.Do(tab.ctx, chromedp.Navigate(address)))
}

// call sends a command of the protocol to a tab.
func call[P, R any](tab *tab, command cdp.Command[P, R], params P) R {
	tab.t.Helper()
	result, err := chromedp.Run(tab.ctx, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
	require.NoError(tab.t, err, command.Method)
	return result
}

// eval returns the value of an expression in a tab, of what it resolves to if it
// is a promise.
func eval[T any](tab *tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, time.Minute)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(tab.t, err, expression)
	return value
}

// run is eval without a value.
func run(tab *tab, statements string) {
	tab.t.Helper()
	eval[bool](tab, "(async () => {"+statements+"; return true})()")
}

// until waits until an expression is true in a tab.
func until(tab *tab, expression string) {
	tab.t.Helper()
	run(tab, "while (!("+expression+")) await new Promise(r => setTimeout(r, 10))")
}

// arrives waits until a tab is at a path, by a navigation that has started.
func (tab *tab) arrives(path string) {
	tab.t.Helper()
	require.Eventually(tab.t, func() bool { // an evaluation ends with its page
		at, err := chromedp.Run(tab.ctx, chromedp.Evaluate[string](`document.readyState + location.pathname`))
		return err == nil && at == "complete"+path
	}, 10*time.Second, 10*time.Millisecond)
}

// refreshToken is a refresh token in the cookie jar.
type refreshToken struct {
	cookie    *network.Cookie
	sessionID string
	tokenID   string
}

// jar returns the refresh tokens that the browser holds for a page, the newest of
// the newest session last.
func (tab *tab) jar() []refreshToken {
	tab.t.Helper()
	var found []refreshToken
	for _, c := range call(tab, network.GetCookies, network.GetCookiesParams{}).Cookies {
		if !strings.Contains(c.Name, "renew.") {
			continue
		}
		claims := claimsOf(tab.t, c.Value)
		found = append(found, refreshToken{c, claims["sid"].(string), claims["jid"].(string)})
	}
	for i := range found { // a handful
		for j := range found[:i] {
			if found[i].sessionID+found[i].tokenID < found[j].sessionID+found[j].tokenID {
				found[i], found[j] = found[j], found[i]
			}
		}
	}
	return found
}

// newest returns the newest token ID in the jar.
func (tab *tab) newest() string {
	tab.t.Helper()
	tokens := tab.jar()
	require.NotEmpty(tab.t, tokens)
	return tokens[len(tokens)-1].tokenID
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(payload, &claims))
	return claims
}
