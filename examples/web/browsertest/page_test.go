package browsertest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
	"github.com/jwtrenew/renew/js"
	"github.com/jwtrenew/renew/memstore"
)

// screenshotsVariable names a directory for the pictures of the page.
const screenshotsVariable = "RENEW_SCREENSHOTS"

// TestPage uses the page as its user does, in a wide and in a narrow window.
func TestPage(t *testing.T) {
	t.Parallel()
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"wide", 1280, 900}, {"narrow", 390, 844}} {
		t.Run(size.name, func(t *testing.T) {
			site := startSite(t)
			chrome := startChrome(t, t.TempDir())
			tab := chrome.open(site.url)
			require.NoError(t, chromedp.Do(tab.ctx, chromedp.EmulateViewport(size.width, size.height)))
			run(tab, `
				globalThis.violations = [];
				addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective + " " + e.blockedURI))`)
			look := func(name string) {
				require.LessOrEqual(t, eval[int64](tab, "document.documentElement.scrollWidth"), size.width, "%s is wider than the window", name)
				require.Empty(t, eval[[]string](tab, "violations"), name)
				picture, err := chromedp.Run(tab.ctx, chromedp.FullScreenshot(100))
				require.NoError(t, err)
				if dir := os.Getenv(screenshotsVariable); dir != "" {
					require.NoError(t, os.WriteFile(filepath.Join(dir, size.name+"-"+name+".png"), picture, 0o600))
				}
				t.Logf("%s, %d × %d: a picture of %d bytes", name, size.width, size.height, len(picture))
			}
			until(tab, `!document.getElementById("login").hidden`)
			look("login")
			run(tab, `document.querySelector("form button").click()`)
			until(tab, `!document.getElementById("session").hidden`)

			signInElsewhere(t, site.url, "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/604.1")
			signInElsewhere(t, site.url, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:150.0) Gecko/20100101 Firefox/150.0")
			until(chrome.open(site.url), `!document.getElementById("session").hidden`) // a second tab
			run(tab, `document.getElementById("lose").click()`)
			until(tab, `document.getElementById("hint").textContent.includes("will be lost")`)
			run(tab, `document.getElementById("renew").click()`)
			until(tab, `document.querySelectorAll("#log .repeated").length === 1 && document.querySelectorAll("#devices li").length === 3`)
			run(tab, `document.getElementById("call").click()`)
			until(tab, `document.getElementById("hint").textContent.startsWith("The API says: Ann")`)
			until(tab, `Number(document.getElementById("seconds").textContent) > 0`)
			until(tab, `parseFloat(getComputedStyle(document.getElementById("arc")).strokeDashoffset) < 5`) // the ring is full, with a minute to go
			look("session")

			run(tab, `[...document.querySelectorAll("#devices button")].find((b) => !b.hidden).click()`)
			until(tab, `document.querySelectorAll("#devices li").length === 2`)
			run(tab, `document.getElementById("others").click()`)
			until(tab, `document.querySelectorAll("#devices li").length === 1`)
			require.Equal(t, 2, site.events("revoked"))
			before := len(targets(t, chrome))
			run(tab, `document.getElementById("tabs").click()`)
			require.Eventually(t, func() bool { return len(targets(t, chrome)) == before+5 }, 10*time.Second, 10*time.Millisecond)
			run(tab, `document.getElementById("sign-out").click()`)
			until(tab, `!document.getElementById("login").hidden`)
			require.Empty(t, tab.jar())
		})
	}
}

func targets(t *testing.T, c *chrome) []string {
	t.Helper()
	all, err := chromedp.Targets(c.ctx)
	require.NoError(t, err)
	var pages []string
	for _, target := range all {
		if target.Type == "page" {
			pages = append(pages, target.URL)
		}
	}
	return pages
}

// signInElsewhere signs in on another device.
func signInElsewhere(t *testing.T, url, agent string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/login", strings.NewReader(`{"name":"Ann"}`))
	require.NoError(t, err)
	req.Header.Set("User-Agent", agent)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
}

// TestSize prints the size of the built client.
func TestSize(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write([]byte(js.Client()))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	t.Logf("the client is %d bytes, %d gzipped", len(js.Client()), zipped.Len())
	require.Less(t, zipped.Len(), 3000)
}

// TestHTTPS: the cookie as it is without options, over TLS. A second app on the
// host and a page of a trusted origin have what the options promise.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	store := memstore.New()
	renewer, err := renew.New(store, store)
	require.NoError(t, err)
	mux := http.NewServeMux()
	server := httptest.NewUnstartedServer(mux)
	api := httptest.NewUnstartedServer(http.NotFoundHandler()) // of another origin, its host the same
	for _, app := range []struct {
		id   string
		opts []httpadapter.Option
	}{{"shop", nil}, {"admin", []httpadapter.Option{httpadapter.WithCookie("__Secure-admin", "/admin/"), httpadapter.WithSameSiteLax()}}} {
		require.NoError(t, renew.EnsureApp(t.Context(), store, renew.App{ID: app.id, Issuer: app.id}, renew.ES256))
		browser := httpadapter.NewBrowser(renewer, app.id, app.opts...)
		mux.Handle("/"+app.id+"/", browser)
		mux.HandleFunc("POST /"+app.id+"/login", func(w http.ResponseWriter, r *http.Request) {
			bundle, err := renewer.Issue(r.Context(), renew.IssueRequest{AppID: app.id, Subject: "ann", IP: httpadapter.ClientIP(r), UserAgent: r.UserAgent()})
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			browser.SetSession(w, bundle)
		})
	}
	mux.HandleFunc("GET /client.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, js.Client())
	})
	mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html><title>page</title>") })
	server.StartTLS()
	t.Cleanup(server.Close)
	port := server.Listener.Addr().String()[strings.LastIndex(server.Listener.Addr().String(), ":"):]
	page := "https://localhost" + port
	trusting := httpadapter.NewBrowser(renewer, "shop", httpadapter.WithTrustedOrigins(page))
	api.Config.Handler = trusting
	api.StartTLS()
	t.Cleanup(api.Close)
	apiURL := "https://localhost" + api.Listener.Addr().String()[strings.LastIndex(api.Listener.Addr().String(), ":"):]

	tab := startChrome(t, t.TempDir(), "ignore-certificate-errors", "").open(page + "/page")
	run(tab, `globalThis.events = [];
		globalThis.open = async (url) => (await import("/client.js")).createSession({ url, onEvent: (e) => events.push(e) })`)
	for _, id := range []string{"shop", "admin"} {
		require.Equal(t, 200, eval[int](tab, `fetch("/`+id+`/login", { method: "POST" }).then((r) => r.status)`))
		run(tab, `globalThis.`+id+` = await open("/`+id+`"); await `+id+`.token(); await `+id+`.renew()`)
	}
	tokens := tab.cookies("__Host-renew.")
	require.Len(t, tokens, 1)
	require.True(t, tokens[0].HTTPOnly && tokens[0].Secure && !tokens[0].Session && tokens[0].Path == "/" && tokens[0].Domain == "localhost")
	require.Equal(t, network.CookieSameSiteStrict, tokens[0].SameSite)
	others := call(tab, network.GetCookies, network.GetCookiesParams{URLs: []string{page + "/admin/renew"}}).Cookies
	require.Len(t, others, 2)
	for _, c := range others {
		if strings.HasPrefix(c.Name, "__Secure-admin.") {
			require.True(t, c.HTTPOnly && c.Secure && c.Path == "/admin/")
			require.Equal(t, network.CookieSameSiteLax, c.SameSite)
		}
	}

	// The page of the trusted origin uses the handler on the other one.
	run(tab, `globalThis.api = await open("`+apiURL+`/auth"); await api.token(); await api.renew()`)
	require.NotEmpty(t, eval[string](tab, "api.id"))
	require.Equal(t, eval[string](tab, "shop.id"), eval[string](tab, "api.id"), "one cookie for the host")
	run(tab, "await api.signOut()")
	require.Empty(t, tab.cookies("__Host-renew."))
	require.Equal(t, "SignedOutError", eval[string](tab, `shop.renew().then(() => "renewed", (e) => e.name)`))
	run(tab, "await admin.renew()")
	t.Logf("over TLS: %s…, HttpOnly, Secure, SameSite=%s, Path=%s; events: %v", tokens[0].Name[:16], tokens[0].SameSite, tokens[0].Path, eval[[]string](tab, "events"))
}

// cookies returns the cookies of the page whose names have a prefix.
func (tab *tab) cookies(prefix string) []*network.Cookie {
	tab.t.Helper()
	var found []*network.Cookie
	for _, c := range call(tab, network.GetCookies, network.GetCookiesParams{}).Cookies {
		if strings.HasPrefix(c.Name, prefix) {
			found = append(found, c)
		}
	}
	return found
}
