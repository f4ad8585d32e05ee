package browsertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/rounds"
)

// lifetime of the auth token in these tests.
const lifetime = 2 * time.Second

// TestOffline: the device is offline for longer than the auth token lives. What
// was asked for in the meantime arrives when it is online again.
func TestOffline(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	site := startSite(t, "-auth-ttl", lifetime.String())
	tab := site.signIn(startChrome(t, t.TempDir()))
	setOffline := func(offline bool) {
		call(tab, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
			MatchedNetworkConditions: []*network.Conditions{{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1}},
		})
		call(tab, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1})
	}
	setOffline(true)
	require.Equal(t, "TypeError", eval[string](tab, `fetch("/").then(() => "online", (e) => e.name)`))
	time.Sleep(2 * lifetime)
	require.Zero(t, eval[float64](tab, "session.expiresIn"))
	run(tab, `globalThis.response = session.fetch("/api/session").then((r) => r.status)`)
	time.Sleep(lifetime)
	require.Equal(t, "waiting", eval[string](tab, `Promise.race([response, new Promise((r) => setTimeout(r, 50, "waiting"))]).then(String)`))
	before := site.renewals()
	setOffline(false)
	require.Equal(t, 200, eval[int](tab, "response"))
	t.Logf("offline for %v, the auth token lives %v: the request waited and got 200, after %d renewals", 3*lifetime, lifetime, site.renewals()-before)
	requireSignedIn(t, site, tab)
}

// TestSleep: the page is frozen, its timers with it, for longer than the auth token
// lives.
func TestSleep(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	site := startSite(t, "-auth-ttl", lifetime.String())
	tab := site.signIn(startChrome(t, t.TempDir()))
	run(tab, `globalThis.ticks = 0; setInterval(() => ticks++, 10)`)
	call(tab, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateFrozen})
	time.Sleep(lifetime / 4)
	before, renewals := eval[int](tab, "ticks"), site.renewals()
	time.Sleep(3 * lifetime)
	require.Equal(t, before, eval[int](tab, "ticks"), "the timers were not stopped")
	require.Equal(t, renewals, site.renewals())
	call(tab, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateActive})
	require.Equal(t, 200, eval[int](tab, `session.fetch("/api/session").then((r) => r.status)`))
	t.Logf("asleep for %v, the auth token lives %v: the next request got 200, after %d renewals", 3*lifetime, lifetime, site.renewals()-renewals)
	requireSignedIn(t, site, tab)
}

// TestClock: the device's clock is an hour wrong. Tokens are renewed when they have
// to be, and not more often.
func TestClock(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	for _, hours := range []int{-1, 1} {
		t.Run(fmt.Sprintf("%+d h", hours), func(t *testing.T) {
			site := startSite(t, "-auth-ttl", lifetime.String())
			tab := site.signIn(startChrome(t, t.TempDir()), fmt.Sprintf(`{
				const now = Date.now;
				globalThis.Date = class extends Date {
					constructor(...args) { args.length ? super(...args) : super(now() + %[1]d); }
					static now() { return now() + %[1]d; }
				};
			}`, hours*3600*1000))
			off := time.Until(time.UnixMilli(int64(eval[float64](tab, "Date.now()")))).Round(time.Minute)
			require.Equal(t, time.Duration(hours)*time.Hour, off)
			before, start := site.renewals(), time.Now()
			const periods = 3
			for time.Since(start) < periods*lifetime {
				require.Equal(t, 200, eval[int](tab, `session.fetch("/api/session").then((r) => r.status)`))
				time.Sleep(lifetime / 10)
			}
			n := site.renewals() - before
			t.Logf("the clock is off by %v: %d renewals in %v, with an auth token that lives %v", off, n, time.Since(start).Round(time.Second), lifetime)
			require.GreaterOrEqual(t, n, periods-1)
			require.LessOrEqual(t, n, 2*periods+1, "lifetimes are cut to whole seconds: a token of 2 s lives for more than 1 s")
			requireSignedIn(t, site, tab)
		})
	}
}

func requireSignedIn(t *testing.T, site *site, tab *tab) {
	t.Helper()
	require.Equal(t, 200, eval[int](tab, `session.fetch("/api/session").then((r) => r.status)`))
	require.True(t, eval[bool](tab, `document.getElementById("login").hidden`))
	require.Zero(t, site.events("reused")+site.events("revoked"))
}
