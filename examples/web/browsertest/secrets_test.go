package browsertest

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/stretchr/testify/require"
)

// everything is what a script of the page can find.
const everything = `(async () => {
	const databases = [];
	for (const { name } of await indexedDB.databases()) {
		const db = await new Promise((resolve, reject) => {
			const open = indexedDB.open(name);
			open.onsuccess = () => resolve(open.result);
			open.onerror = () => reject(open.error);
		});
		for (const store of db.objectStoreNames) {
			const all = db.transaction(store).objectStore(store).getAll();
			await new Promise((resolve) => (all.onsuccess = resolve));
			databases.push(all.result);
		}
	}
	const cached = [];
	for (const name of await caches.keys()) {
		for (const request of await (await caches.open(name)).keys()) cached.push(request.url);
	}
	return {
		localStorage: JSON.stringify({ ...localStorage }),
		sessionStorage: JSON.stringify({ ...sessionStorage }),
		IndexedDB: JSON.stringify(databases),
		caches: JSON.stringify(cached),
		DOM: document.documentElement.outerHTML,
		URL: location.href,
		history: JSON.stringify([history.length, history.state]),
		"window.name": window.name,
		"document.cookie": document.cookie,
		"performance entries": JSON.stringify(performance.getEntries()),
		navigation: JSON.stringify(navigation.entries().map((entry) => entry.url)),
	};
})()`

var compactJWS = regexp.MustCompile(`[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}`)

// TestNoRefreshToken: no place that a script can read, no response and no line of
// the server's log holds a refresh token.
func TestNoRefreshToken(t *testing.T) {
	t.Parallel()
	site := startSite(t)
	tab := site.signIn(startChrome(t, t.TempDir()))
	tokens := map[string]bool{}
	places := map[string]int{}
	keys := 0
	look := func() {
		for _, token := range tab.jar() {
			require.True(t, token.cookie.HTTPOnly)
			require.Equal(t, network.CookieSameSiteStrict, token.cookie.SameSite)
			tokens[token.cookie.Value] = true
		}
		found := eval[map[string]string](tab, everything)
		found["responses"], found["log"] = site.bodies.text(), site.log.text()
		for place, text := range found {
			places[place] += len(text)
			for token := range tokens {
				require.NotContains(t, text, token, place)
			}
			for _, jws := range compactJWS.FindAllString(text, -1) {
				require.NotContains(t, claimsOf(t, jws), "type", "a refresh token in %s", place)
			}
		}
		if strings.Contains(found["localStorage"], "renew:") {
			require.Regexp(t, `^\{"renew:[^"]+":"[A-Za-z0-9+/]{32}"\}$`, found["localStorage"])
			keys++
		} else {
			require.Equal(t, "{}", found["localStorage"])
		}
		require.Empty(t, found["document.cookie"])
		require.Equal(t, "{}", found["sessionStorage"])
		require.Equal(t, "[]", found["IndexedDB"])
		require.Equal(t, site.url+"/", found["URL"])
	}
	look()
	run(tab, "await session.renew()")
	look()

	release := make(chan struct{}) // while a request is under way
	site.onRenew(func(int, string) fate { return fate{after: release} })
	run(tab, "globalThis.renewed = session.renew()")
	require.Eventually(t, func() bool { return site.requests() > 0 }, 10*time.Second, time.Millisecond)
	look()
	close(release)
	run(tab, "await renewed")

	site.onRenew(func(n int, _ string) fate { return fate{drop: n == 1} }) // after a loss
	run(tab, "await session.renew()")
	site.onRenew(nil)
	look()
	tab.visit(site.url)
	until(tab, `!document.getElementById("session").hidden`)
	look()
	run(tab, "await session.signOut()")
	look()
	t.Logf("%d refresh tokens; bytes looked at, by place: %v; an idempotency key was in localStorage %d times", len(tokens), places, keys)
	require.GreaterOrEqual(t, len(tokens), 4)
	require.Equal(t, 1, keys, "the key is there while a request is under way, and not afterwards")
	require.Empty(t, tab.jar())
}
