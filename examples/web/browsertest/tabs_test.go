package browsertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/rounds"
)

const (
	tabs = 8

	// withoutLocks takes Web Locks away before a page runs.
	withoutLocks = `Object.defineProperty(navigator, "locks", { value: undefined })`

	// client replaces the page's client by one that renews only for a request, and
	// asks on the message "go".
	client = `
		session.close();
		const { createSession } = await import("/renew.js");
		globalThis.events = [];
		globalThis.statuses = [];
		globalThis.session = createSession({ url: "/auth", renewIdle: false, onEvent: (e) => events.push(e) });
		globalThis.go = new BroadcastChannel("go");
		go.onmessage = async () => statuses.push(await session.fetch("/api/session").then((r) => r.status, String));`
)

// TestTabsAwake: eight tabs wake at the same moment with an expired auth token.
// One of them renews, and none is signed out.
func TestTabsAwake(t *testing.T) {
	rounds.Long(t)
	for name, scripts := range map[string][]string{"with Web Locks": nil, "without Web Locks": {withoutLocks}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()                     // they sleep most of the time
			const lifetime = 4 * time.Second // a tab that is later than that on a busy machine would renew again
			site := startSite(t, "-auth-ttl", lifetime.String())
			chrome := startChrome(t, t.TempDir())
			all := []*tab{site.signIn(chrome, scripts...)}
			for len(all) < tabs {
				all = append(all, chrome.open(site.url, scripts...))
			}
			for _, tab := range all {
				until(tab, "globalThis.session")
				run(tab, client)
			}
			waker := chrome.open(site.url + "/icon.svg")
			n := rounds.Of(t, 2)
			renewals := map[int]int{}
			for round := 1; round <= n; round++ {
				time.Sleep(lifetime) // the auth token's
				before := site.renewals()
				run(waker, `new BroadcastChannel("go").postMessage("")`)
				for i, tab := range all {
					until(tab, fmt.Sprintf("statuses.length === %d", round))
					require.Equal(t, 200, eval[int](tab, "statuses.at(-1)"), "tab %d", i)
				}
				renewals[site.renewals()-before]++
			}
			t.Logf("%d tabs, awake %d times: rounds by number of renewals: %v", tabs, n, renewals)
			require.Equal(t, map[int]int{1: n}, renewals)
			require.Zero(t, site.events("reused")+site.events("revoked"))
			for _, tab := range all {
				require.NotContains(t, eval[[]string](tab, "events"), "signed out")
			}
		})
	}
}

// TestTabsAwakePlain: the same with plain calls of fetch, which have no client, no
// lock and no idempotency key. One renews, the others are told to wait.
func TestTabsAwakePlain(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	site := startSite(t)
	chrome := startChrome(t, t.TempDir())
	first := site.signIn(chrome)
	all := []*tab{first}
	for len(all) < tabs {
		all = append(all, chrome.open(site.url))
	}
	for _, tab := range all {
		until(tab, "globalThis.session")
		run(tab, `
			session.close();
			globalThis.statuses = [];
			globalThis.plain = () => fetch("/auth/renew", { method: "POST", headers: { "Content-Type": "application/json" } });
			globalThis.go = new BroadcastChannel("go");
			go.onmessage = async () => statuses.push((await plain()).status);`)
	}
	waker := chrome.open(site.url + "/icon.svg")
	n := rounds.Of(t, 2)
	seen := map[int]int{}
	for round := 1; round <= n; round++ {
		// Responses wait until all requests that fit have arrived: they are at the
		// same moment, however slow the machine is.
		release := make(chan struct{})
		site.onRenew(func(int, string) fate { return fate{after: release} })
		before := site.renewals()
		run(waker, `new BroadcastChannel("go").postMessage("")`)
		require.Eventually(t, func() bool { return site.requests() >= 6 }, 10*time.Second, time.Millisecond) // six connections to a host
		time.Sleep(20 * time.Millisecond)
		close(release)
		for _, tab := range all {
			until(tab, fmt.Sprintf("statuses.length === %d", round))
			seen[eval[int](tab, "statuses.at(-1)")]++
		}
		require.Equal(t, 1, site.renewals()-before, "renewals in round %d", round)
	}
	t.Logf("%d simultaneous plain calls, %d times: responses by status: %v", tabs, n, seen)
	require.Equal(t, map[int]int{200: n, 409: n * (tabs - 1)}, seen)
	site.onRenew(nil)
	require.Equal(t, 200, eval[int](first, "plain().then((r) => r.status)"))
	require.Zero(t, site.events("reused")+site.events("revoked"))
}
