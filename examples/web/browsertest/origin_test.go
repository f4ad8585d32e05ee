package browsertest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// attacks is a page of another origin that tries what it can. %s is the address of
// the site. It resolves to what it has read, by attempt.
const attacks = `(async () => {
	const site = %q;
	const got = {};
	const read = (name, promise) => promise.then(async (r) => got[name] = r.type + " " + (await r.text()), (e) => got[name] = e.name);
	const forms = [];
	for (const [path, method] of [["/auth/renew", "POST"], ["/auth/logout", "POST"], ["/login", "POST"], ["/api/session", "GET"], ["/api/devices", "DELETE"]]) {
		const body = method === "POST" ? '{"name":"Mallory"}' : undefined;
		const all = { method, body, credentials: "include" };
		const json = { "Content-Type": "application/json" };
		await read(path + " fetch, JSON", fetch(site + path, { ...all, headers: json }));
		await read(path + " fetch, header", fetch(site + path, { ...all, headers: { "X-Requested-With": "fetch" } }));
		await read(path + " fetch, key", fetch(site + path, { ...all, headers: { ...json, "Idempotency-Key": "0123456789abcdef" } }));
		await read(path + " fetch, text", fetch(site + path, all));
		await read(path + " fetch, GET", fetch(site + path, { credentials: "include" }));
		await read(path + " no-cors", fetch(site + path, { ...all, mode: "no-cors", method: "POST", body: "{}" }));
		await read(path + " no-cors, form", fetch(site + path, { ...all, mode: "no-cors", method: "POST", body: new URLSearchParams("name=Mallory") }));
		await read(path + " no-cors, JSON", fetch(site + path, { ...all, mode: "no-cors", method: "POST", body: new Blob(["{}"], { type: "application/json" }) }));
		navigator.sendBeacon(site + path, new Blob(["{}"], { type: "text/plain" }));
		try { navigator.sendBeacon(site + path, new Blob(["{}"], { type: "application/json" })); } catch {}
		for (const type of ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]) {
			const frame = Object.assign(document.createElement("iframe"), { name: "f" + forms.length });
			const form = Object.assign(document.createElement("form"), { action: site + path, method: "post", enctype: type, target: frame.name });
			form.append(Object.assign(document.createElement("input"), { name: '{"name":"', value: 'Mallory"}' }));
			document.body.append(frame, form);
			forms.push(new Promise((r) => frame.addEventListener("load", r)));
			form.submit();
		}
		for (const tag of ["img", "script", "iframe", "object", "embed", "video"]) {
			const element = document.createElement(tag);
			element[tag === "object" ? "data" : "src"] = site + path;
			document.body.append(element);
		}
	}
	await Promise.all(forms);
	const frame = Object.assign(document.createElement("iframe"), { src: site + "/" });
	document.body.append(frame);
	await new Promise((r) => frame.addEventListener("load", r));
	try { got["iframe of the page"] = "read " + frame.contentWindow.document.body.textContent; } catch (e) { got["iframe of the page"] = e.name; }
	const script = await fetch(site + "/renew.js", { credentials: "include" }).then((r) => r.text(), (e) => e.name);
	got["the client, with fetch"] = script;
	try {
		const { createSession } = await import(site + "/renew.js");
		got["the client, imported"] = await createSession({ url: site + "/auth" }).token();
	} catch (e) { got["the client, imported"] = e.name; }
	new BroadcastChannel("renew:" + site + "/auth/").postMessage({ over: "x" });
	got["cookies"] = document.cookie;
	return got;
})()`

// formAttack posts a form as a navigation of the whole tab.
const formAttack = `{
	const form = Object.assign(document.createElement("form"), { action: %q, method: "post" });
	document.body.append(form);
	form.submit();
}`

// TestOtherOrigin: a page of another origin, of the same site or another one, can
// neither renew nor log out nor read anything.
func TestOtherOrigin(t *testing.T) {
	t.Parallel()
	site := startSite(t)
	chrome := startChrome(t, t.TempDir())
	victim := site.signIn(chrome)
	tokenID := victim.newest()
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>evil</title><body></body>")
	}))
	t.Cleanup(evil.Close)
	_, port, err := net.SplitHostPort(evil.Listener.Addr().String())
	require.NoError(t, err)
	before := site.renewals() + site.events("issued")
	for name, address := range map[string]string{"another site": "http://127.0.0.1:" + port, "another origin of the site": "http://localhost:" + port} {
		t.Run(name, func(t *testing.T) {
			from := len(site.seen())
			tab := chrome.open(address)
			tab.t = t
			got := eval[map[string]string](tab, fmt.Sprintf(attacks, site.url))
			for attempt, result := range got {
				require.Contains(t, []string{"TypeError", "opaque ", "SecurityError", "SignedOutError", ""}, result, attempt)
			}
			for _, path := range []string{"/auth/renew", "/auth/logout", "/login"} {
				tab.visit(address)
				run(tab, fmt.Sprintf(formAttack, site.url+path))
				tab.arrives(path)
				require.Contains(t, eval[string](tab, "document.body.textContent"), "cross-origin", path)
			}
			time.Sleep(100 * time.Millisecond) // beacons, images and scripts
			statuses := map[string]int{}
			for _, line := range site.seen()[from:] {
				statuses[line]++
			}
			summary, err := json.MarshalIndent(statuses, "", "  ")
			require.NoError(t, err)
			t.Logf("%s: %d attempts with script, %d requests arrived: %s", name, len(got), len(site.seen())-from, summary)
			for line := range statuses {
				for _, path := range []string{"POST /auth/renew", "POST /auth/logout", "POST /login", "OPTIONS /auth"} {
					if strings.HasPrefix(line, path) {
						require.Regexp(t, "40[35]", line)
					}
				}
				require.False(t, strings.HasPrefix(line, "DELETE"), line)
			}
			require.Equal(t, before, site.renewals()+site.events("issued"))
			require.Zero(t, site.events("revoked")+site.events("rejected"))
			require.Equal(t, tokenID, victim.newest())
			require.True(t, eval[bool](victim, `document.getElementById("login").hidden`))
		})
	}
	require.Equal(t, 200, eval[int](victim, `session.renew().then(() => session.fetch("/api/session")).then((r) => r.status)`))
}

// seen returns the requests that have arrived at the site, with the status of
// their responses and what of a session they carried.
func (s *site) seen() []string {
	return slices.DeleteFunc(strings.Split(s.requestsSeen.text(), "\n"), func(line string) bool { return line == "" })
}
