package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// busyStore is a correct store as databases are: an operation on a session that
// another is at work on may get an error. If done is set, it was done all the
// same, and only its result is lost.
type busyStore struct {
	sound
	busy *sync.Map // of rowKey
	done bool
}

var errSerialization = errors.New("could not serialize access")

func (b busyStore) alone(key rowKey, do func() error) error {
	// Now and then two meet even where the race is short.
	if _, other := b.busy.LoadOrStore(key, true); other {
		if b.done {
			_ = do()
		}
		return errSerialization
	}
	defer b.busy.Delete(key)
	return do()
}

func (b busyStore) CreateSession(ctx context.Context, s renew.Session) error {
	return b.alone(keyOf(s), func() error { return b.sound.CreateSession(ctx, s) })
}

func (b busyStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	return b.alone(keyOf(next), func() error { return b.sound.Rotate(ctx, from, next) })
}

func (b busyStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return b.alone(rowKey{appID, sessionID}, func() error { return b.sound.RevokeSession(ctx, appID, sessionID, at) })
}

// TestStoresThatAskForRetriesPass shows that a loser may get an error that tells
// nothing, whether or not it has lost.
func TestStoresThatAskForRetriesPass(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	one := rand.IntN(2) == 0
	for _, done := range []bool{false, true} {
		if rounds.Share(t) < 1 && done != one {
			continue // another run's
		}
		t.Run(fmt.Sprintf("done=%v", done), func(t *testing.T) {
			b, busy := newBacking(), &sync.Map{}
			TestTokenStore(t, func(testing.TB) renew.TokenStore { return busyStore{sound{b}, busy, done} }, append(b.options(), withFewerRounds(t))...)
		})
	}
}

// tryCase runs one case on a store, with its own limits.
func tryCase(tb testing.TB, store renew.TokenStore, law, name string, change func(*config)) result {
	c := newConfig(nil)
	c.seed = 42
	if change != nil {
		change(&c)
	}
	return runCase(tb, newTokenSuite(func(testing.TB) renew.TokenStore { return store }, c), law, name)
}

func runCase[H any](tb testing.TB, s *suite[H], law, name string) result {
	tb.Helper()
	for _, l := range s.laws {
		for _, c := range l.cases {
			if l.id == law && c.name == name {
				return s.run(tb, l, c)
			}
		}
	}
	tb.Fatalf("no case %s/%s", law, name)
	return result{}
}

func wantFailure(t *testing.T, r result, parts ...string) {
	t.Helper()
	if len(r.failures) == 0 {
		t.Fatal("the case does not fail")
	}
	for _, part := range parts {
		if !strings.Contains(r.failures[0].text, part) {
			t.Errorf("the failure does not say %q:\n%s", part, r.failures[0].text)
		}
	}
}

// TestAFailureSaysAll shows what a failure tells: the law in its words, what was
// expected, what the store did, how it was called, and how to repeat it.
func TestAFailureSaysAll(t *testing.T) {
	store := &patched{sound: sound{newBacking()}, revoke: func(context.Context, string, string, time.Time) error { return nil }}
	wantFailure(t, tryCase(t, store, "T3", "revoke-unknown", nil),
		"law T3: an unknown ID, or another app's, is ErrSessionNotFound",
		"expected renew.ErrSessionNotFound of RevokeSession with an ID that was never stored",
		"the store returned nil",
		`handle 2: RevokeSession(app "storetest-`)
	if got := again("TestLaws/T3/revoke-unknown", 42); got != "run it again with RENEW_STORETEST_SEED=42 go test -run 'TestLaws/T3/revoke-unknown'" {
		t.Errorf("how to run it again reads %q", got)
	}
}

// TestHandlesApart shows what a failure says if each handle has its own backing store, and
// that another failure does not say so.
func TestHandlesApart(t *testing.T) {
	const advice = "open must open the same backing store"
	tokens := newTokenSuite(func(testing.TB) renew.TokenStore { return sound{newBacking()} }, newConfig(nil))
	wantFailure(t, runCase(t, tokens, "T6", "rotation-shows-immediately"), advice)
	keys := newKeySuite(func(testing.TB) renew.KeyStore { return newSoundKeys() }, newConfig(nil))
	wantFailure(t, runCase(t, keys, "K7", "overlap"), advice)
	store := &patched{sound: sound{newBacking()}, revoke: func(context.Context, string, string, time.Time) error { return nil }}
	for _, f := range tryCase(t, store, "T3", "revoke-unknown", nil).failures {
		if strings.Contains(f.text, advice) {
			t.Errorf("the failure says %q: %s", advice, f.text)
		}
	}
}

// TestAHistoryIsPrinted shows that a case of random operations prints what a
// person can read.
func TestAHistoryIsPrinted(t *testing.T) {
	store := rotateIf(func(renew.Session, string) bool { return true })(sound{newBacking()})
	wantFailure(t, tryCase(t, store, "T5", "linearizable", nil), "place  client", "rotate t")
}

// hanging hangs in Rotate, until the context is done if it heeds it.
type hanging struct {
	sound
	heeds bool
}

func (h hanging) Rotate(ctx context.Context, _ string, _ renew.Session) error {
	if h.heeds {
		<-ctx.Done()
		return ctx.Err()
	}
	select {}
}

func TestAStoreThatHangs(t *testing.T) {
	quick := func(c *config) {
		c.call, c.context, c.watchdog = 100*time.Millisecond, 20*time.Millisecond, 5*time.Second
	}
	wantFailure(t, tryCase(t, hanging{sound{newBacking()}, false}, "T4", "replaces-every-field", quick),
		"expected every call to return", "time-out: this call has not returned for 100ms", `handle 2: Rotate(from "`, "(has not returned)", "WithSlowness")
	wantFailure(t, tryCase(t, hanging{sound{newBacking()}, true}, "T4", "replaces-every-field", quick),
		`the store returned the error "context deadline exceeded"`, "the case met its time limit of 20ms; the slowest call was", "Rotate(", "WithSlowness")
	slow := func(c *config) {
		quick(c)
		WithSlowness(1000)(c)
	}
	delayed := &patched{sound: sound{newBacking()}, rotate: func(ctx context.Context, from string, next renew.Session) error {
		time.Sleep(300 * time.Millisecond)
		return sound{newBacking()}.Rotate(ctx, from, next)
	}}
	if r := tryCase(t, delayed, "T4", "missing-session", slow); len(r.failures) > 0 {
		t.Errorf("a slow store, declared as one, fails:\n%s", r.failures[0].text)
	}
}

// TestARestartThatTakesLong shows that a backend may take a while to start again: a case
// restarts it ten times.
func TestARestartThatTakesLong(t *testing.T) {
	slowly := func(c *config) {
		c.context = 300 * time.Millisecond
		WithCrash(func(testing.TB) { time.Sleep(c.context / 5) })(c)
	}
	if r := tryCase(t, sound{newBacking()}, "T13", "quiet", slowly); len(r.failures) > 0 || r.skipped != "" {
		t.Errorf("skipped for %q, failures %q", r.skipped, r.failures)
	}
}

func TestAStoreThatPanics(t *testing.T) {
	store := &patched{sound: sound{newBacking()}, rotate: func(context.Context, string, renew.Session) error { panic("no rows") }}
	wantFailure(t, tryCase(t, store, "T4", "replaces-every-field", nil), "panicked: no rows", "suite_test.go")
	wantFailure(t, tryCase(t, store, "T5", "exactly-one-winner", nil), "panicked: no rows")
}

// TestALawThatDoesNotApplyIsSkipped shows that a skipped case says why.
func TestALawThatDoesNotApplyIsSkipped(t *testing.T) {
	store := struct{ renew.TokenStore }{sound{newBacking()}}
	for law, c := range map[string]struct{ name, why string }{
		"T11": {"counts", "the store does not implement renew.Purger"},
		"T12": {"every-method", "the test of this store gives no WithOutage"},
		"T13": {"quiet", "the test of this store gives no WithCrash"},
		"S1":  {"many", "the store does not implement renew.SubjectStore"},
		"F1":  {"states", "the test of this store gives no WithFailover"},
	} {
		if r := tryCase(t, store, law, c.name, nil); len(r.failures) > 0 || !strings.Contains(r.skipped, c.why) {
			t.Errorf("%s/%s: failures %q, skipped for %q", law, c.name, r.failures, r.skipped)
		}
	}
}

// TestAnIndexThatLags shows that a failure says what S1 and S2 need if the list was
// right a moment later, and only then.
func TestAnIndexThatLags(t *testing.T) {
	const advice = "S1 and S2 need consistent reads"
	lags := func(s sound, p *patched) {
		type seen struct {
			at  time.Time
			row renew.Session
		}
		var mu sync.Mutex
		index := map[rowKey]seen{}
		p.create = func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				index[keyOf(session)] = seen{time.Now().Add(100 * time.Millisecond), session}
			}
			return err
		}
		shows := func(row renew.Session) bool {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().After(index[keyOf(row)].at)
		}
		p.subjectSessions = func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.listOf(ctx, is(appID), func(row renew.Session) bool { return row.Subject == subject && row.Live(at) && shows(row) })
		}
		p.revokeSubject = func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			return s.revokeOf(ctx, is(appID), at, func(row renew.Session) bool {
				return row.Subject == subject && live(row) && !slices.Contains(keep, row.ID) && shows(row)
			})
		}
	}
	s := sound{newBacking()}
	list, revoke := &patched{sound: s}, &patched{sound: s}
	lags(s, list)
	lags(s, revoke)
	revoke.subjectSessions = nil
	wantFailure(t, tryCase(t, list, "S1", "only-the-subject", nil), "law S1", advice)
	wantFailure(t, tryCase(t, list, "S1", "concurrent", nil), "law S1", advice)
	wantFailure(t, tryCase(t, revoke, "S2", "values-fields", nil), "law S2", advice)

	wrong := &patched{sound: s, subjectSessions: func(context.Context, string, string, time.Time) ([]renew.Session, error) { return nil, nil }}
	r := tryCase(t, wrong, "S1", "only-the-subject", func(c *config) { c.lag = 50 * time.Millisecond })
	wantFailure(t, r, "law S1")
	for _, f := range r.failures {
		if strings.Contains(f.text, advice) {
			t.Errorf("a list that stays wrong is said to lag:\n%s", f.text)
		}
	}
}

// fatal is a testing.TB whose test has ended.
type fatal struct {
	testing.TB
	failed chan struct{}
}

func (f fatal) Fatal(...any) {
	close(f.failed)
	panic(stop{})
}

// TestOpenMayFail shows that a case ends when a handle cannot be opened.
func TestOpenMayFail(t *testing.T) {
	s := newTokenSuite(func(tb testing.TB) renew.TokenStore {
		tb.Fatal("no database")
		return nil
	}, newConfig(nil))
	tb := fatal{t, make(chan struct{})}
	func() {
		defer func() {
			if p := recover(); p != (stop{}) {
				t.Errorf("the test ended with %v", p)
			}
		}()
		s.run(tb, s.laws[0], s.laws[0].cases[0])
	}()
	<-tb.failed
}

// TestSeed shows that one seed makes the same choices, and that cases differ.
func TestSeed(t *testing.T) {
	t.Setenv(seedVariable, "42")
	caseSeeds := func() (t5, t6 uint64) {
		var c config
		c.readSeed(t)
		s := newTokenSuite(nil, c)
		return s.caseSeed("T5", "linearizable"), s.caseSeed("T6", "linearizable")
	}
	t5, t6 := caseSeeds()
	if t5 == t6 {
		t.Error("two cases have one seed")
	}
	if again5, again6 := caseSeeds(); again5 != t5 || again6 != t6 {
		t.Error("one seed makes two choices")
	}
	t.Setenv(seedVariable, "43")
	if other, _ := caseSeeds(); other == t5 {
		t.Error("two seeds make one choice")
	}
}

// TestSameJSON shows what are the same claims, and what are not.
// TestCollisions shows that each hash has its pair of names, and that no two pairs have a
// name in common: a case stores them all.
func TestCollisions(t *testing.T) {
	crc := hashes["CRC-32"]
	alike := map[string]func([]byte) uint32{"first": crc, "second": crc, "third": crc}
	for what, all := range map[string]map[string]func([]byte) uint32{"all": hashes, "alike": alike} {
		found, names := collisions("app:", all), map[string]bool{}
		for hash, pair := range found {
			if sum := all[hash]; sum([]byte(pair[0])) != sum([]byte(pair[1])) {
				t.Errorf("%s: %s: %q differ", what, hash, pair)
			}
			names[pair[0]], names[pair[1]] = true, true
		}
		if len(found) != len(all) || len(names) != 2*len(all) {
			t.Errorf("%s: %d pairs of %d names for %d hashes", what, len(found), len(names), len(all))
		}
	}
}

func TestSameJSON(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{``, ``, true},
		{`{"a":1,"b":[true,null]}`, ` {"b" : [true,null], "a":1}`, true},
		{`{"a":100}`, `{"a":1e2}`, true},
		{`{"a":1.50}`, `{"a":1.5}`, true},
		{`{"a":"é"}`, `{"a":"\u00e9"}`, true},
		{``, `{}`, false},
		{`{"a":9007199254740993}`, `{"a":9007199254740992}`, false},
		{`{"a":0.1}`, `{"a":0.1000000000000000055511151231257827}`, false},
		{`{"a":"1"}`, `{"a":1}`, false},
		{`{"a":1}`, `{"a":1,"b":null}`, false},
		{`{"a":null}`, `{"b":null}`, false},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, false},
		{`{"a":1}`, `{"a":1} {}`, false},
		{`{"a":1}`, `{"a":`, false},
	} {
		if got := sameJSON([]byte(c.a), []byte(c.b)); got != c.same {
			t.Errorf("%s and %s are the same: %v", c.a, c.b, got)
		}
	}
}
