package browsertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/rounds"
)

// TestLostResponse: the server renews, the response is lost, and the page is
// loaded again, or the browser closed and opened again with its profile. The page
// is still signed in.
func TestLostResponse(t *testing.T) {
	t.Parallel()
	site := startSite(t)
	profile := t.TempDir()
	chrome := startChrome(t, profile)
	tab := site.signIn(chrome)
	sessionID := eval[string](tab, "session.id")
	n := rounds.Of(t, 5)
	loaded, reopened, cookies := 0, 0, 0
	for round := range n {
		site.onRenew(func(int, string) fate { return fate{drop: true} })
		before := site.renewals()
		run(tab, "session.renew().catch(() => {})")
		require.Eventually(t, func() bool { return site.requests() > 0 }, 10*time.Second, time.Millisecond)
		require.Equal(t, before+1, site.renewals())
		if round%2 == 0 {
			tab.visit("about:blank") // the page is gone, and with it what it would have repeated
			site.quiet()
			site.onRenew(nil)
			tab.visit(site.url)
			loaded++
		} else {
			chrome.close()
			site.onRenew(nil)
			chrome = startChrome(t, profile)
			tab = chrome.open(site.url)
			reopened++
		}
		until(tab, `!document.getElementById("session").hidden || !document.getElementById("login").hidden`)
		require.Equal(t, sessionID, eval[string](tab, "session.id ?? ''"), "round %d", round)
		require.Equal(t, before+1, site.renewals(), "a second successor in round %d", round)
		tokens := tab.jar()
		require.Len(t, tokens, 1)
		require.Equal(t, "Strict", string(tokens[0].cookie.SameSite))
		cookies++
	}
	t.Logf("%d responses lost, page loaded again %d times, browser opened again %d times: signed in %d of %d times; %d retries, %d reuses, %d revocations",
		n, loaded, reopened, cookies, n, site.retries(), site.events("reused"), site.events("revoked"))
	require.Zero(t, site.events("reused")+site.events("revoked"))
	require.GreaterOrEqual(t, site.retries(), n)
}

// TestLostResponseSamePage: the client itself repeats a request, with its key,
// until a response arrives.
func TestLostResponseSamePage(t *testing.T) {
	t.Parallel()
	site := startSite(t)
	tab := site.signIn(startChrome(t, t.TempDir()))
	const losses = 4
	keys := map[string]bool{}
	site.onRenew(func(n int, key string) fate {
		keys[key] = true
		return fate{drop: n <= losses}
	})
	before := site.renewals()
	run(tab, "await session.renew()")
	t.Logf("%d responses lost: %d requests with %d keys, %d renewals, %d retries", losses, site.requests(), len(keys), site.renewals()-before, site.retries())
	require.Equal(t, before+1, site.renewals())
	require.Len(t, keys, 1)
	require.Contains(t, eval[string](tab, `document.getElementById("log").textContent`), "Repeated a renewal whose response was lost")
}

// TestWrongOrder: responses to one browser are delayed and delivered in random
// order, retries among them. When all have arrived, the newest cookie is the
// session's current token.
func TestWrongOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	site := startSite(t)
	tab := site.signIn(startChrome(t, t.TempDir()))
	run(tab, `
		session.close();
		globalThis.asked = [];
		globalThis.ask = (key) => asked.push(fetch("/auth/renew", {
			method: "POST", headers: { "Content-Type": "application/json", "Idempotency-Key": key },
		}).then((r) => r.status)) - 1`)
	type held struct {
		index   int // in asked
		deliver chan struct{}
		tokenID string // current when the response was made
	}
	n := rounds.Of(t, 20)
	late, responses, key := 0, 0, "" // a response is late if its token was not the current one any more
	statuses := map[int]int{}
	for round := range n {
		var pending []held
		run(tab, "asked.length = 0")
		asked := 0
		ask := func(isHeld bool) {
			h := held{index: asked}
			if isHeld {
				h.deliver = make(chan struct{})
			}
			site.onRenew(func(int, string) fate { return fate{after: h.deliver} })
			run(tab, fmt.Sprintf("ask(%q)", key))
			require.Eventually(t, func() bool { return site.requests() > 0 }, 10*time.Second, time.Millisecond)
			asked++
			h.tokenID = site.token()
			if isHeld {
				pending = append(pending, h)
			} else {
				statuses[eval[int](tab, fmt.Sprintf("asked[%d]", h.index))]++
			}
		}
		draw := func() { key = fmt.Sprintf("%032d", random.Uint64()) }
		draw()
		ask(true) // a renewal, whose response is late
		ask(false)
		for range 1 + random.IntN(4) { // what comes after its retry
			if random.IntN(3) > 0 {
				draw()
			}
			ask(len(pending) < 4 && random.IntN(3) == 0)
		}
		random.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })
		for _, h := range pending {
			close(h.deliver)
			status := eval[int](tab, fmt.Sprintf("asked[%d]", h.index))
			statuses[status]++
			if status == 200 && h.tokenID != site.token() {
				late++
			}
		}
		responses += asked
		require.Equal(t, site.token(), tab.newest(), "round %d", round)
		if round%10 == 0 {
			site.onRenew(nil)
			draw()
			run(tab, fmt.Sprintf("ask(%q)", key))
			require.Equal(t, 200, eval[int](tab, "asked.at(-1)"))
			require.Len(t, tab.jar(), 1)
		}
	}
	t.Logf("%d responses in %d rounds, by status %v; %d brought a cookie that was not the newest any more; the newest cookie was the session's token %d of %d times",
		responses, n, statuses, late, n, n)
	require.NotZero(t, late)
	require.Zero(t, site.events("reused")+site.events("revoked"))
	require.Empty(t, slices.DeleteFunc([]int{statuses[401], statuses[403], statuses[503]}, func(n int) bool { return n == 0 }))
	require.False(t, strings.Contains(site.log.text(), `"level":"ERROR"`))
}
