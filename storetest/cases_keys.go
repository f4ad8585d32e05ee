package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jwtrenew/renew"
)

// keyLaws are the laws of a KeyStore, with their cases.
func keyLaws() []law[*keys] {
	return []law[*keys]{
		{"K1", "App returns the app as it was created or changed last, every field; UpdateApp ignores KeyHashes", append([]testCase[*keys]{
			{name: "any-order", run: anyOrder},
			{name: "torn-reads", run: noTornApps},
			{name: "as-named", run: readsNamedApps},
		}, rows("values", awkwardApps, keepsApp)...)},
		{"K2", "an unknown app is ErrAppNotFound; a taken app ID is ErrAppExists, and the app stays as it was", []testCase[*keys]{
			{name: "unknown-app", run: unknownApp},
			{name: "one-creator", run: oneCreatorOfApp},
		}},
		{"K3", "an unknown key, or another app's, is ErrKeyNotFound; no call changes another app", []testCase[*keys]{
			{name: "unknown-key", run: unknownKey},
			{name: "key-of-another-app", run: keyOfOtherApp},
			{name: "twin", run: twinStays},
		}},
		{"K4", "exactly one key signs, the one that was rotated in last, until it is revoked; a taken key ID is ErrKeyExists", []testCase[*keys]{
			{name: "algorithms", run: everyAlgorithm},
			{name: "taken", run: takenKeyIDs},
			{name: "concurrent", run: raceOfKeys("RotateSigningKey")},
			{name: "never-none", run: neverNoKey},
			{name: "ensure-app", run: ensuresOneKey},
		}},
		{
			"K5", "a replaced key verifies, unchanged, until the end that SigningPeriod says, and has that end",
			rows("lifetimes", keyLifetimes, replacedKeysEnd),
		},
		{"K6", "a revoked key is ErrKeyRevoked, from any process, and signs no more; revoking again is nil", []testCase[*keys]{
			{name: "every-state", run: revokesEveryState},
			{name: "concurrent", run: raceOfKeys("RevokeKey")},
		}},
		{"K7", "of app keys only hashes are kept: one that was added is there, one that was removed is not", []testCase[*keys]{
			{name: "overlap", run: appKeyOverlap},
			{name: "removes-one", run: removesOneAppKey},
			{name: "many-concurrent", run: manyAppKeys},
			{name: "concurrent", run: raceOfKeys("AddAppKey", "RemoveAppKey")},
		}},
		{"K8", "app IDs and issuers are opaque and exact; no two apps are confused", []testCase[*keys]{
			{name: "app-ids", run: exactApps},
			{name: "hashes", run: appsOfOneHash},
			{name: "variants", run: appVariants},
		}},
		{"K9", "with a context that is already done: its error, and nothing changes; one that ends during a call leaves a whole change or none", []testCase[*keys]{
			{name: "done", run: keysDone},
			{name: "ends-during-a-call", run: keysInterrupted},
		}},
		{"K10", "the store and its caller share no memory: changing what was passed or returned changes no stored app", []testCase[*keys]{
			{name: "slices", run: sharesNoSlices},
		}},
		{"K11", "an outage is a separate error, never one that the laws name, and what was stored is there after it", []testCase[*keys]{
			{name: "every-method", run: keysOutage, serial: true},
			{name: "lost-replies", run: keysLoseReplies, serial: true},
		}},
		{"K12", "VerificationKeys returns every key that still verifies, the published ones too, the active one first, and no other", []testCase[*keys]{
			{name: "many", run: listsManyKeys},
		}},
		{"K13", "durable stores: an acknowledged change of apps and keys survives a kill of the process and of the database", []testCase[*keys]{
			{name: "every-method", run: keysCrash, serial: true},
		}},
		{"K14", "a published key verifies, is listed and does not sign until RotateSigningKey makes it the active one; another key of its ID is ErrKeyExists", []testCase[*keys]{
			{name: "before-use", run: publishesBeforeUse},
			{name: "concurrent", run: raceOfKeys("PublishSigningKey")},
		}},
		{"K15", "DeleteExpiredKeys deletes the replaced and revoked keys that expired before the given time, and no others", []testCase[*keys]{
			{name: "only-what-has-expired", run: deletesExpiredKeys, serial: true},
		}},
		{"K16", "AppIDs returns the ID of every app, each once, in the order of their bytes, and no other", []testCase[*keys]{
			{name: "many", run: listsManyApps},
		}},
		{"K17", "PublishedKey returns a published key, with which any process can sign; of any other key it is ErrKeyNotFound, of an unknown app ErrAppNotFound", []testCase[*keys]{
			{name: "of-another-process", run: returnsPublishedKeys},
			{name: "unknown", run: unknownPublished},
			{name: "many", run: manyPublished},
		}},
	}
}

// awkwardApps are settings that some store does not keep.
var awkwardApps = []row[func(a *renew.App)]{
	{"every field set", func(*renew.App) {}},
	{"nothing but names", func(a *renew.App) { *a = renew.App{ID: a.ID, Issuer: "i"} }},
	{"a day and a second", func(a *renew.App) { a.RefreshTTL, a.SessionTTL = 86401e9, 86402e9 }},
	{"30 days", func(a *renew.App) { a.AuthTTL, a.RefreshTTL, a.SessionTTL = 30*24*3600e9, 31*24*3600e9, 90*24*3600e9 }},
	{"more than 2,147,483,648 seconds", func(a *renew.App) { a.RefreshTTL, a.SessionTTL = (1<<31+1)*time.Second, (1<<31+3)*time.Second }},
	{"100 years", func(a *renew.App) { a.RefreshTTL, a.SessionTTL = 876_000*time.Hour, 876_001*time.Hour }},
	{"one second", func(a *renew.App) {
		a.AuthTTL, a.AuthNotBefore, a.RefreshTTL, a.RefreshNotBefore, a.SessionTTL = 1e9, 0, 2e9, 1e9, 1e9
	}},
	{"one session", func(a *renew.App) { a.MaxSessions = 1 }},
	{"a great number of sessions", func(a *renew.App) { a.MaxSessions = math.MaxInt32 }},
	{"no app key", func(a *renew.App) { a.KeyHashes = nil }},
	{"one app key", func(a *renew.App) { a.KeyHashes = a.KeyHashes[:1] }},
	{"12 app keys", func(a *renew.App) {
		for len(a.KeyHashes) < 12 {
			a.KeyHashes = append(a.KeyHashes, newKeyHash())
		}
	}},
	{"an app key whose hash has zero bytes", func(a *renew.App) {
		a.KeyHashes = keyHashes("sha256:"+strings.Repeat("00", 32), "sha256:"+strings.Repeat("00", 31)+"01", "sha256:01"+strings.Repeat("00", 31))
	}},
	{"app keys hashed with SHA-512", func(a *renew.App) {
		a.KeyHashes = append(keyHashes("sha512:"+strings.Repeat("0a", 64), "sha512:"+strings.Repeat("00", 64)), a.KeyHashes...)
	}},
	{"app keys of two schemes and one digest", func(a *renew.App) {
		a.KeyHashes = keyHashes("sha256:"+strings.Repeat("0a", 32), "sha512:"+strings.Repeat("0a", 32)+strings.Repeat("00", 32))
	}},
	{"former issuers", func(a *renew.App) {
		a.FormerIssuers = []string{"b", "a", `' OR '1'='1'; -- "\%_`, "  Issuer\u00a0 ", "A"}
	}},
	{"100 former issuers of 255 bytes", func(a *renew.App) { a.FormerIssuers = slices.Repeat([]string{strings.Repeat("値", 85)}, 100) }},
	{"an issuer of 255 bytes", func(a *renew.App) { a.Issuer = strings.Repeat("値", 85) }},
	{"an issuer with quotes", func(a *renew.App) { a.Issuer = `' OR '1'='1'; -- "\%_` }},
	{"an issuer with spaces at its ends", func(a *renew.App) { a.Issuer = "  Issuer\u00a0 " }},
}

func keepsApp(e *keyEnv, change func(a *renew.App)) {
	app := newApp(e)
	change(&app)
	made := createTenant(e, e.a, app)
	made.is(e, "CreateApp")
	updated := createTenant(e, e.b, newApp(e))
	app.ID = updated.app.ID
	updated.is(e, "CreateApp")
	updated.do(e, e.a, updateOp(app))
	plain, invalid := newApp(e), app
	plain.ID, invalid.ID, invalid.AuthTTL = made.app.ID, made.app.ID, -time.Second
	made.do(e, e.b, updateOp(plain))
	made.do(e, e.a, updateOp(invalid))
}

func keyHashes(texts ...string) []renew.AppKeyHash {
	hashes := make([]renew.AppKeyHash, len(texts))
	for i, text := range texts {
		var err error
		if hashes[i], err = renew.ParseAppKeyHash(text); err != nil {
			panic(err)
		}
	}
	return hashes
}

// anyOrder makes calls of every method in random order, through both handles.
func anyOrder(e *keyEnv) {
	p := newPair(e)
	random := e.random()
	for i := range 40 {
		ops := p.ops(e)
		p.do(e, e.handle(random.IntN(2)), ops[random.IntN(len(ops))])
		// What was made active or published last is what the next calls are about.
		if p.active != p.cast.active.KeyID() || i%10 == 9 {
			p.cast.active = newKey(e)
			p.cast.published = newKey(e)
			p.do(e, e.b, rotateOp(p.app.ID, p.cast.active, e.now.Add(time.Duration(i)*time.Second)))
			p.do(e, e.a, publishOp(p.app.ID, p.cast.published))
		}
	}
	p.twinIs(e, "many calls")
}

func readsNamedApps(e *keyEnv) {
	if len(e.apps) == 0 {
		e.skip("the test of this store names no app with WithApps")
	}
	for _, appID := range e.apps {
		t := look(e, appID)
		t.is(e, "a first look")
		for _, id := range e.apps {
			for keyID := range t.keys {
				if id != appID {
					_, err := e.b.VerificationKey(e.ctx, id, keyID)
					e.wantErrorOf("K3", "VerificationKey with an ID that only another app has", err, renew.ErrKeyNotFound)
				}
			}
		}
	}
}

func unknownApp(e *keyEnv) {
	id := e.app + "-unknown"
	for _, h := range []*keys{e.a, e.b} {
		for _, c := range (&tenant{app: renew.App{ID: id}, active: newID()}).reads(h) {
			law, want := "K2", []error{renew.ErrAppNotFound}
			switch c.method {
			case "AppIDs":
				continue
			case "SigningKey", "VerificationKey", "VerificationKey of an unknown ID":
				want = append(want, renew.ErrKeyNotFound)
			case "PublishedKey":
				law = "K17"
			}
			e.wantErrorOf(law, c.method+" of an app that was never stored", c.call(e.ctx), want...)
		}
	}
	p := newPair(e)
	app := newApp(e)
	app.ID = id
	for _, op := range []keyOp{
		updateOp(app), addOp(id, newKeyHash()), removeOp(id, p.app.KeyHashes[0]), publishOp(id, newKey(e)),
		rotateOp(id, newKey(e), e.now), revokeOp(id, p.active, e.now),
	} {
		e.wantError(op.name+" of an app that was never stored", op.fails(e, e.a), renew.ErrAppNotFound)
	}
	if _, err := e.b.App(e.ctx, id); !errors.Is(err, renew.ErrAppNotFound) {
		e.failf("expected calls for an unknown app to store nothing\nthe store returned %v for it", err)
	}
	p.is(e, "calls for an app that was never stored")
	p.twinIs(e, "calls for an app that was never stored")
	p.do(e, e.b, createOp(p.app))
	rejectsInvalid(e)
}

// rejectsInvalid checks that CreateApp of an invalid app stores nothing.
func rejectsInvalid(e *keyEnv) {
	invalid := newApp(e)
	invalid.Issuer = ""
	e.wantErrorOf("K2", "CreateApp of an invalid app", createOp(invalid).fails(e, e.a), errInvalid)
	if _, err := e.b.App(e.ctx, invalid.ID); !errors.Is(err, renew.ErrAppNotFound) {
		e.failf("expected CreateApp of an invalid app to store nothing\nthe store returned %v for it", err)
	}
}

func oneCreatorOfApp(e *keyEnv) {
	needsAdmin(e)
	const clients = 4
	for round := range e.rounds(20) {
		apps := make([]renew.App, clients)
		errs := make([]error, clients)
		id := newApp(e).ID
		for i := range apps {
			apps[i] = newApp(e)
			apps[i].ID, apps[i].Issuer = id, fmt.Sprintf("issuer %d", i)
		}
		e.race(clients, func(i int) { _, errs[i] = createOp(apps[i]).call(e.ctx, e.handle(i)) })
		won := -1
		for i, err := range errs {
			if err == nil && won >= 0 {
				e.fatalf("expected one nil of %d CreateApps with one ID (round %d)\nthe store returned nil for two", clients, round)
			}
			if err == nil {
				won = i
			}
		}
		if won >= 0 {
			(&tenant{app: apps[won], keys: map[string]keyState{}}).isAs(e, "K2", "several concurrent CreateApps, of which this one returned nil")
		}
	}
}

func unknownKey(e *keyEnv) {
	t := someApp(e)
	for _, known := range append(slices.Collect(mapsKeys(t.keys)), t.active) {
		for what, id := range lookalikes(known) {
			_, err := e.b.VerificationKey(e.ctx, t.app.ID, id)
			e.wantError("VerificationKey with "+what, err, renew.ErrKeyNotFound)
		}
	}
}

func mapsKeys(m map[string]keyState) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for id := range m {
			if !yield(id) {
				return
			}
		}
	}
}

func keyOfOtherApp(e *keyEnv) {
	p, other := newPair(e), newPair(e)
	empty := createTenant(e, e.a, newApp(e))
	empty.is(e, "CreateApp: it has no key")
	for id := range p.keys {
		for _, h := range []*keys{e.a, e.b} {
			for _, t := range []*tenant{other.tenant, empty} {
				_, err := h.VerificationKey(e.ctx, t.app.ID, id)
				e.wantError("VerificationKey with an ID that only another app has", err, renew.ErrKeyNotFound)
			}
		}
		other.do(e, e.a, revokeOp(other.app.ID, id, e.now))
	}
	p.is(e, "RevokeKey of its keys in another app")
	first := newKey(e)
	empty.do(e, e.b, revokeOp(empty.app.ID, first.KeyID(), e.now))
	empty.do(e, e.a, publishOp(empty.app.ID, first))
	empty.do(e, e.b, rotateOp(empty.app.ID, first, e.now))
}

// twinStays makes every call once on an app, and looks at its twin after each.
func twinStays(e *keyEnv) {
	for i := range len(newPair(e).ops(e)) {
		p := newPair(e)
		op := p.ops(e)[i]
		p.do(e, e.handle(i), op)
		p.twinIs(e, op.name)
		// Both still take changes.
		p.do(e, e.handle(i+1), rotateOp(p.app.ID, newKey(e), e.now.Add(3*time.Second)))
	}
}

func takenKeyIDs(e *keyEnv) {
	p := newPair(e)
	for i, key := range []*renew.SigningKey{p.cast.replaced, p.cast.active, p.cast.revoked} {
		p.do(e, e.handle(i), rotateOp(p.app.ID, key, e.now.Add(time.Second)))
		p.do(e, e.handle(i), rotateOp(p.app.ID, namesake(e, key), e.now.Add(time.Second)))
		p.do(e, e.handle(i), publishOp(p.app.ID, namesake(e, key)))
	}
	p.twinIs(e, "calls with key IDs that are taken")
	only := createTenant(e, e.b, newApp(e))
	first := newKey(e)
	only.do(e, e.a, rotateOp(only.app.ID, first, e.now))
	only.do(e, e.b, rotateOp(only.app.ID, namesake(e, first), e.now))
	only.do(e, e.a, publishOp(only.app.ID, namesake(e, first)))
}

// algorithms are some of every kind of key.
var algorithms = []renew.Algorithm{renew.ES256, renew.ES384, renew.ES512, renew.EdDSA, renew.RS256, renew.PS512}

// wantSigner checks that what got signs verifies with want. NewSigningKey signs, and
// verifies what was signed.
func wantSigner(e *keyEnv, method string, got *renew.SigningKey, err error, want *renew.SigningKey) {
	if err != nil {
		e.fatalf("expected %s to return the key that was given to the store\nthe store returned the error %q", method, err)
	}
	alg := want.VerificationKey().Algorithm()
	made, err := renew.NewSigningKey(got.KeyID(), alg, got.Signer())
	if err != nil || got.KeyID() != want.KeyID() || !samePublic(made.VerificationKey(), want.VerificationKey()) || got.VerificationKey().Algorithm() != alg {
		e.failf("expected that what the key of %s signs with %s verifies under its ID\nthe store returned a signer for which it does not: %v", method, alg, err)
	}
}

// everyAlgorithm checks that what a key signs verifies under its ID.
func everyAlgorithm(e *keyEnv) {
	t := createTenant(e, e.a, newApp(e))
	for i, alg := range algorithms {
		key := newKeyFor(e, "", alg)
		t.do(e, e.handle(i), rotateOp(t.app.ID, key, e.now.Add(time.Duration(i)*time.Second)))
		for _, h := range []*keys{e.a, e.b} {
			got, err := h.SigningKey(e.ctx, t.app.ID)
			wantSigner(e, "SigningKey", got, err, key)
		}
	}
}

func needsPublished(e *keyEnv) {
	needsAdmin(e)
	e.needs(e.a.returnsPublished(), "renew.PublishedKeyStore")
}

// returnsPublishedKeys has one process publish a key and another make it the active one,
// which knows it from the store alone.
func returnsPublishedKeys(e *keyEnv) {
	needsPublished(e)
	t := createTenant(e, e.a, newApp(e))
	for i, alg := range algorithms {
		key := newKeyFor(e, "", alg)
		t.do(e, e.handle(i), publishOp(t.app.ID, key))
		got, err := e.handle(i+1).PublishedKey(e.ctx, t.app.ID, key.KeyID())
		wantSigner(e, "PublishedKey", got, err, key)
		t.do(e, e.handle(i+1), rotateOp(t.app.ID, got, e.now.Add(time.Duration(i)*time.Second)))
		active, err := e.handle(i).SigningKey(e.ctx, t.app.ID)
		wantSigner(e, "SigningKey", active, err, key)
	}
}

func unknownPublished(e *keyEnv) {
	needsPublished(e)
	p, other := newPair(e), newPair(e)
	for _, h := range []*keys{e.a, e.b} {
		for _, id := range []string{p.cast.published.KeyID(), p.cast.active.KeyID(), newID(), ""} {
			_, err := h.PublishedKey(e.ctx, other.app.ID, id)
			e.wantError("PublishedKey with an ID that this app does not have", err, renew.ErrKeyNotFound)
			_, err = h.PublishedKey(e.ctx, e.app+"-unknown", id)
			e.wantError("PublishedKey of an app that was never stored", err, renew.ErrAppNotFound)
		}
		for what, id := range lookalikes(p.cast.published.KeyID()) {
			_, err := h.PublishedKey(e.ctx, p.app.ID, id)
			e.wantError("PublishedKey with "+what, err, renew.ErrKeyNotFound)
		}
	}
}

func manyPublished(e *keyEnv) {
	needsPublished(e)
	t := createTenant(e, e.a, newApp(e))
	for i := range 12 {
		t.step(e, e.handle(i), publishOp(t.app.ID, newKey(e)))
	}
	t.is(e, "PublishSigningKey of 12 keys")
}

// listsManyApps creates more apps than a page has, some at the same moment, with names
// that a database orders otherwise than their bytes; auditKeys looks at the list.
func listsManyApps(e *keyEnv) {
	e.needs(e.a.listsApps(), "renew.AppLister")
	needsAdmin(e)
	var names []string
	for _, group := range confusable {
		for _, name := range group {
			names = append(names, uniqueName(e.app, name))
		}
	}
	for i := range 1001 - len(names) {
		names = append(names, fmt.Sprintf("%s app %d", e.app, i))
	}
	const few = 3
	for i := range few { // each handle reads the list before and after
		auditKeys(e)
		createTenant(e, e.handle(i), renew.App{ID: names[i], Issuer: "i"})
	}
	auditKeys(e)
	e.spread(len(names)-few, func(i int) { createTenant(e, e.handle(i), renew.App{ID: names[few+i], Issuer: "i"}) })
	rejectsInvalid(e)
}

// raceOfKeys returns a case that makes two calls at the same moment, of which one is of
// these methods: each pair of calls that succeed alone.
func raceOfKeys(methods ...string) func(e *keyEnv) {
	return raceOf(2, func(e *keyEnv) (ops []keyOp, race func(pass, i, j int)) {
		needsAdmin(e)
		c := newCast(e)
		p := &pair{cast: c, spare: newSpares(e, c), tenant: &tenant{app: newApp(e)}}
		ops = p.ops(e)
		valid := func(i int) bool {
			t := &tenant{app: p.app, keys: map[string]keyState{}}
			if err := setUp(t, c, e.now); err != nil {
				return false
			}
			_, err := ops[i].apply(t)
			return err == nil
		}
		return ops, func(_, i, j int) {
			if valid(i) && valid(j) {
				raceKeys(e, p, i, j)
			}
		}
	}, methods...)
}

func raceKeys(e *keyEnv, p *pair, i, j int) {
	duels := make([]duel[*keys, *tenant], 4)
	e.spread(len(duels), func(n int) {
		t := threeKeys(e, p, n)
		ops := (&pair{cast: p.cast, spare: p.spare, tenant: t}).ops(e)
		duels[n].before, duels[n].ops = t, [2]keyOp{ops[i], ops[j]}
	})
	for n, diff := range fight(e, duels) {
		if diff != "" {
			duels[n].reports(e, diff)
		}
	}
}

// threeKeys adds an app like that of p, with a replaced key, an active and a published
// one.
func threeKeys(e *keyEnv, p *pair, n int) *tenant {
	app := p.app
	app.ID = e.app + "-" + newID()
	t := createTenant(e, e.handle(n), app)
	t.step(e, e.a, rotateOp(app.ID, p.cast.replaced, e.now.Add(-time.Minute)))
	t.step(e, e.b, rotateOp(app.ID, p.cast.active, e.now))
	t.step(e, e.a, publishOp(app.ID, p.cast.published))
	return t
}

func setUp(t *tenant, c cast, now time.Time) error {
	return errors.Join(t.rotate(c.replaced, now.Add(-time.Minute)), t.rotate(c.active, now), t.publish(c.published))
}

// neverNoKey looks at the active key while keys are rotated.
func neverNoKey(e *keyEnv) {
	const clients = 3
	for round := range e.rounds(8) {
		t := createTenant(e, e.a, newApp(e))
		t.step(e, e.a, rotateOp(t.app.ID, newKey(e), e.now))
		ops := make([]keyOp, clients)
		for i := range ops {
			ops[i] = rotateOp(t.app.ID, newKey(e), e.now.Add(time.Second))
		}
		var rotated atomic.Int32
		e.race(clients+2, func(i int) {
			h := e.handle(i)
			if i < clients {
				defer rotated.Add(1)
				_, _ = ops[i].call(e.ctx, h) // concurrent judges the result
				return
			}
			for last := false; !last && e.ctx.Err() == nil; {
				last = rotated.Load() == clients
				k, err := h.SigningKey(e.ctx, t.app.ID)
				if errors.Is(err, renew.ErrKeyNotFound) {
					e.fatalf("expected an active key at every moment of a rotation (round %d)\nthe store returned the error %q", round, err)
				}
				if err != nil {
					continue
				}
				if _, err = h.VerificationKey(e.ctx, t.app.ID, k.KeyID()); errors.Is(err, renew.ErrKeyNotFound) {
					e.fatalf("expected a key that signs to verify, at every moment of a rotation (round %d)\nthe store returned the error %q", round, err)
				}
			}
		})
	}
}

func ensuresOneKey(e *keyEnv) {
	needsAdmin(e)
	const servers = 6
	for round := range e.rounds(6) {
		app := newApp(e)
		errs := make([]error, servers)
		e.race(servers, func(i int) {
			for range patience {
				if errs[i] = renew.EnsureApp(e.ctx, e.handle(i).store.(renew.KeyAdmin), app, renew.ES256); errs[i] == nil {
					return
				}
			}
		})
		if err := errors.Join(errs...); err != nil {
			e.fatalf("expected nil of %d concurrent EnsureApps (round %d)\nit returned %q: the store's ErrAppExists, ErrKeyExists or ErrKeyNotFound is not the root package's, or comes at the wrong time", servers, round, err)
		}
		key, err := e.a.SigningKey(e.ctx, app.ID)
		if err != nil {
			e.fatalf("expected SigningKey to return the key of EnsureApp\nthe store returned the error %q", err)
		}
		t := &tenant{app: app, active: key.KeyID(), keys: map[string]keyState{key.KeyID(): {key: key.VerificationKey()}}}
		t.is(e, "several concurrent EnsureApps")
	}
}

// lifetimes are a RefreshTTL of CreateApp, zero for the default, and calls that follow.
type lifetimes struct {
	first time.Duration
	steps keySteps
}

type keySteps []keyStep

type keyStep func(e *keyEnv, t *tenant) keyOp

func rotatesAfter(d time.Duration) keyStep {
	return func(e *keyEnv, t *tenant) keyOp { return rotateOp(t.app.ID, newKey(e), e.now.Add(d)) }
}

func setsRefreshTTL(d time.Duration) keyStep {
	return func(_ *keyEnv, t *tenant) keyOp {
		app := t.app
		app.RefreshTTL = d
		return updateOp(app)
	}
}

func revokesActive(e *keyEnv, t *tenant) keyOp {
	return revokeOp(t.app.ID, t.active, e.now.Add(2*hour))
}

var keyLifetimes = []row[lifetimes]{
	{"the lifetime stays", lifetimes{10 * hour, keySteps{rotatesAfter(0), rotatesAfter(hour), rotatesAfter(2 * hour)}}},
	{"the default lifetime", lifetimes{0, keySteps{rotatesAfter(0), rotatesAfter(hour)}}},
	{"the lifetime was lowered while the key was active", lifetimes{10 * hour, keySteps{
		rotatesAfter(0), setsRefreshTTL(2 * hour), rotatesAfter(hour),
	}}},
	{"the lifetime was raised while the key was active", lifetimes{2 * hour, keySteps{
		rotatesAfter(0), setsRefreshTTL(20 * hour), rotatesAfter(hour),
	}}},
	{"the lifetime was raised and lowered", lifetimes{2 * hour, keySteps{
		rotatesAfter(0), setsRefreshTTL(20 * hour), setsRefreshTTL(3 * hour), rotatesAfter(hour),
	}}},
	{"an earlier key has signed for longer", lifetimes{100 * hour, keySteps{
		rotatesAfter(0), setsRefreshTTL(2 * hour), rotatesAfter(hour), rotatesAfter(2 * hour), rotatesAfter(3 * hour),
	}}},
	{"an earlier key has signed for longer and was revoked", lifetimes{100 * hour, keySteps{
		rotatesAfter(0), setsRefreshTTL(2 * hour), rotatesAfter(hour), revokesActive, rotatesAfter(3 * hour), rotatesAfter(4 * hour),
	}}},
	{"30 days", lifetimes{30 * 24 * hour, keySteps{rotatesAfter(0), rotatesAfter(hour)}}},
	{"10 years", lifetimes{87_600 * hour, keySteps{rotatesAfter(0), rotatesAfter(hour)}}},
	{"a clock that is behind", lifetimes{10 * hour, keySteps{
		rotatesAfter(hour), rotatesAfter(0), rotatesAfter(-hour / 2), rotatesAfter(hour),
	}}},
}

// replacedKeysEnd replaces keys while the lifetimes change; tenant tells the ends.
func replacedKeysEnd(e *keyEnv, c lifetimes) {
	app := newApp(e)
	app.RefreshTTL, app.AuthTTL = c.first, hour
	t := createTenant(e, e.a, app)
	for i, step := range c.steps {
		t.do(e, e.handle(i), step(e, t))
	}
}

func revokesEveryState(e *keyEnv) {
	p := newPair(e)
	for i, key := range []*renew.SigningKey{p.cast.replaced, p.cast.published, p.cast.revoked, p.cast.active} {
		for range 2 { // the second time is nil, and changes nothing
			p.do(e, e.handle(i), revokeOp(p.app.ID, key.KeyID(), e.now))
		}
		p.twinIs(e, "RevokeKey")
	}
	p.do(e, e.b, rotateOp(p.app.ID, newKey(e), e.now.Add(time.Second)))
	p.do(e, e.a, rotateOp(p.app.ID, newKey(e), e.now.Add(2*time.Second)))
}

func appKeyOverlap(e *keyEnv) {
	p := newPair(e)
	id, next := p.app.ID, newKeyHash()
	for _, old := range p.app.KeyHashes {
		p.do(e, e.b, addOp(id, next))
		p.do(e, e.a, addOp(id, next)) // again
		p.do(e, e.a, removeOp(id, old))
		p.do(e, e.b, removeOp(id, old)) // ErrKeyNotFound
		changed := p.app
		changed.Issuer += "."
		changed.KeyHashes = []renew.AppKeyHash{old}
		p.do(e, e.b, updateOp(changed)) // does not let it in again
		next = newKeyHash()
	}
	for _, hash := range p.app.KeyHashes {
		p.do(e, e.a, removeOp(id, hash))
	}
	p.twinIs(e, "AddAppKey and RemoveAppKey")
}

// removesOneAppKey removes an app key from those that an app was created with.
func removesOneAppKey(e *keyEnv) {
	for i, c := range awkwardApps {
		app := newApp(e)
		if c.value(&app); len(app.KeyHashes) > 1 {
			t := createTenant(e, e.handle(i), app)
			t.do(e, e.handle(i+1), removeOp(app.ID, app.KeyHashes[0]))
		}
	}
}

func manyAppKeys(e *keyEnv) {
	const clients, each = 4, 8
	t := createTenant(e, e.a, newApp(e))
	hashes := make([][]renew.AppKeyHash, clients)
	e.race(clients, func(i int) {
		for range each {
			hash := newKeyHash()
			err := clearly(addOp(t.app.ID, hash), e, e.handle(i))
			if err != nil {
				e.fatalf("expected AddAppKey to add one of %d app keys, after retries where needed\nthe store returned %q", clients*each, err)
			}
			hashes[i] = append(hashes[i], hash)
		}
	})
	t.app.KeyHashes = append(slices.Concat(hashes...), t.app.KeyHashes...)
	t.is(e, "many concurrent AddAppKeys")
}

// clearly makes a call until its outcome is clear. Calls that were done already are done
// again, or return a named error.
func clearly(op keyOp, e *keyEnv, h *keys) (err error) {
	for range 5 * patience {
		if _, err = op.call(e.ctx, h); err == nil || isNamed(err) {
			break
		}
	}
	return err
}

// taggedApp returns the app with n in every setting.
func taggedApp(app renew.App, n int) renew.App {
	d := time.Duration(n+1) * time.Second
	app.Issuer, app.FormerIssuers, app.MaxSessions = fmt.Sprintf("issuer %d", n), []string{fmt.Sprintf("issuer %d", n-1)}, n+1
	app.AuthTTL, app.AuthNotBefore, app.RefreshTTL, app.RefreshNotBefore, app.SessionTTL = d, 0, 2*d, d, 3*d
	return app
}

// noTornApps changes an app so that all that is read of it tells which call wrote it, and
// reads it at the same moments.
func noTornApps(e *keyEnv) {
	app := taggedApp(newApp(e), 0)
	app.KeyHashes = app.KeyHashes[:1]
	t := createTenant(e, e.a, app)
	const most = 150
	hashes, keys := app.KeyHashes, []*renew.SigningKey{newKey(e)}
	numbers := map[string]int{hashes[0].String(): 0, keys[0].KeyID(): 0}
	for n := 1; n < most; n++ {
		hashes, keys = append(hashes, newKeyHash()), append(keys, newKey(e))
		numbers[hashes[n].String()], numbers[keys[n].KeyID()] = n, n
	}
	t.step(e, e.b, rotateOp(app.ID, keys[0], e.now))
	end := e.endOf(3 * e.budget)
	e.readsBeside(func(m *meeting) {
		for n := 1; n < 5 || n < most && time.Now().Before(end); n++ {
			for _, op := range []keyOp{
				updateOp(taggedApp(app, n)), addOp(app.ID, hashes[n]), removeOp(app.ID, hashes[n-1]),
				rotateOp(app.ID, keys[n], e.now.Add(time.Duration(n)*time.Second)),
			} {
				m.meet()
				_ = clearly(op, e, e.a) // what follows from an error, other cases judge
			}
		}
	}, func(int) {
		if got, err := e.b.App(e.ctx, app.ID); err == nil {
			wantWholeApp(e, app, got, numbers)
		}
		if e.b.lists() {
			if list, err := e.b.VerificationKeys(e.ctx, app.ID); err == nil {
				wantWholeList(e, list, numbers)
			}
		}
	})
}

// wantWholeApp checks that the app is as one call has left it. Of every number, the
// settings are changed first, then the app key is added, then the one before removed.
func wantWholeApp(e *keyEnv, app, got renew.App, numbers map[string]int) {
	n := got.MaxSessions - 1
	if diff := fieldsDiffer(taggedApp(app, n), got); diff != "" {
		e.fatalf("expected App to return settings of one UpdateApp\nthe store returned settings of two: of number %d, %s", n, diff)
	}
	var held []int
	for _, hash := range got.KeyHashes {
		held = append(held, numbers[hash.String()])
	}
	slices.Sort(held)
	if !slices.Equal(held, []int{n}) && !slices.Equal(held, []int{n - 1}) && !slices.Equal(held, []int{n - 1, n}) {
		e.fatalf("expected App to return the app as one call has left it\nthe store returned the settings of number %d with app keys of numbers %d", n, held)
	}
}

// wantWholeList checks that the list is as one rotation has left it: the last key is
// active, and every one before has an end.
func wantWholeList(e *keyEnv, list []*renew.VerificationKey, numbers map[string]int) {
	var held []int
	for i, k := range list {
		held = append(held, numbers[k.KeyID()])
		if (i > 0) == k.End().IsZero() {
			e.breaks("K12", "expected VerificationKeys to return the active key first, without an end, and replaced ones with theirs, while keys are rotated\nthe store returned key %d with the end %s", i, clock(k.End()))
			panic(stop{})
		}
	}
	last := len(held) - 1
	if slices.Sort(held[min(1, len(held)):]); last < 0 || held[0] != last || last > 0 && held[last] != last-1 {
		e.breaks("K12", "expected VerificationKeys to return all keys that were rotated in, the last one first\nthe store returned those of numbers %d", held)
		panic(stop{})
	}
}

// exactApps stores apps with names that are easily confused.
func exactApps(e *keyEnv) {
	for _, group := range confusable {
		var tenants []*tenant
		for _, name := range group {
			app := newApp(e)
			app.Issuer = name
			app.ID = uniqueName(e.app, name)
			if _, err := e.b.App(e.ctx, app.ID); !errors.Is(err, renew.ErrAppNotFound) {
				e.failf("expected ErrAppNotFound for %s, when only others of its kind were stored\nthe store returned %v", named("app", app.ID), err)
			}
			tenants = append(tenants, createTenant(e, e.a, app))
		}
		for i, t := range tenants {
			t.step(e, e.handle(i), rotateOp(t.app.ID, newKey(e), e.now))
		}
		for _, t := range tenants {
			t.isAs(e, "K8", "RotateSigningKey of apps with names like it")
		}
	}
}

func appsOfOneHash(e *keyEnv) {
	for what, names := range collisions(e.app, hashes) {
		first, second := newApp(e), newApp(e)
		first.ID, second.ID = names[0], names[1]
		t, u := createTenant(e, e.a, first), createTenant(e, e.b, second)
		t.step(e, e.a, rotateOp(t.app.ID, newKey(e), e.now))
		u.step(e, e.b, rotateOp(u.app.ID, newKey(e), e.now))
		t.isAs(e, "K8", "calls for an app whose ID has the same "+what)
		u.isAs(e, "K8", "calls for an app whose ID has the same "+what)
	}
}

// appVariants makes every call with IDs that look like an app's.
func appVariants(e *keyEnv) {
	t, changes := someApp(e), func(string) []keyOp { return nil }
	if e.a.administers() {
		p := newPair(e)
		t, p.spare = p.tenant, newSpares(e, p.cast)
		changes = func(id string) []keyOp {
			other := p.tenant.clone()
			other.app.ID = id
			return (&pair{cast: p.cast, spare: p.spare, tenant: other}).ops(e)
		}
	}
	for what, id := range lookalikes(t.app.ID) {
		if id == t.app.ID || slices.Contains(e.apps, id) {
			continue
		}
		for i := range 2 {
			for _, c := range (&tenant{app: renew.App{ID: id}, active: t.active}).reads(e.handle(i)) {
				err := c.call(e.ctx)
				if c.method != "AppIDs" {
					e.wantError(c.method+" with "+what, err, renew.ErrAppNotFound, renew.ErrKeyNotFound)
				}
			}
		}
		for i, op := range changes(id) {
			if op.name != "CreateApp" {
				e.wantError(op.name+" with "+what, op.fails(e, e.handle(i)), renew.ErrAppNotFound, errInvalid)
			}
		}
	}
	t.is(e, "calls with IDs like its own")
}

func keysDone(e *keyEnv) {
	if !e.a.administers() {
		t := someApp(e)
		done(e, t.reads(e.b))
		return
	}
	p := newPair(e)
	done(e, p.calls(e, e.b))
	p.is(e, "calls with a context that is done")
	p.twinIs(e, "calls with a context that is done")
}

// done checks that calls with a context that is done return its error.
func done[H any](e *env[H], calls []namedCall) {
	for _, ctx := range doneContexts(e.ctx) {
		for _, c := range calls {
			if err := c.call(ctx); !isContextError(ctx, err) {
				e.failf("expected %v of %s with a context that is done\nthe store returned %v", ctx.Err(), c.method, err)
			}
		}
	}
}

// keysInterrupted makes a call of each method with contexts that end while it is under
// way.
func keysInterrupted(e *keyEnv) {
	needsAdmin(e)
	first := newPair(e)
	tried := map[string]bool{}
	for i, op := range first.ops(e) {
		if _, err := op.apply(first.clone()); tried[op.name] || err != nil {
			continue
		}
		tried[op.name] = true
		for _, interruption := range e.interruptions() {
			p := newPair(e)
			p.ops(e)[i].interrupts(e, interruption, e.handle(i), p.tenant)
			p.twinIs(e, op.name)
		}
	}
}

func sharesNoSlices(e *keyEnv) {
	var t *tenant
	if !e.a.administers() {
		t = someApp(e)
	} else {
		app := newApp(e)
		given := app.Clone()
		t = createTenant(e, e.a, given)
		t.app = app
		spoil(given)
		t.isAs(e, "K10", "a change to the slices that CreateApp was given")
		given = app.Clone()
		t.do(e, e.b, updateOp(given))
		t.app = app
		spoil(given)
		t.isAs(e, "K10", "a change to the slices that UpdateApp was given")
	}
	read := func() renew.App {
		got, err := e.a.App(e.ctx, t.app.ID)
		if err != nil {
			e.fatalf("expected App to return the app\nthe store returned the error %q", err)
		}
		return got
	}
	got := read()
	want := got.Clone()
	spoil(got)
	if now := read(); !sameHashes(now.KeyHashes, want.KeyHashes) || !slices.Equal(now.FormerIssuers, want.FormerIssuers) {
		e.failf("expected App to return what it did before a change to the slices that it had returned\nthe store returned KeyHashes %s and FormerIssuers %q", now.KeyHashes, now.FormerIssuers)
	}
}

func spoil(app renew.App) {
	for i := range app.KeyHashes {
		app.KeyHashes[i] = newKeyHash()
	}
	for i := range app.FormerIssuers {
		app.FormerIssuers[i] += "."
	}
}

func keysOutage(e *keyEnv) {
	e.needsOutage()
	t := someApp(e)
	changes := e.a.administers()
	var scenes []keyScene
	if changes {
		scenes = newKeyScenes(e)
	}
	fresh := newApp(e)
	e.cut(func() {
		for i := range 2 {
			h := e.handle(i)
			for _, c := range t.reads(h) {
				e.judgeOutage(c)
			}
			if changes {
				e.judgeOutage(createOp(fresh).on(h))
				e.judgeOutage(keyDeletionOn(e, h))
			}
		}
		for i, s := range scenes {
			e.judgeOutage(s.op.on(e.handle(i)))
		}
	})
	e.recovers(func(ctx context.Context, h *keys) error { _, err := h.App(ctx, t.app.ID); return err })
	t.is(e, "an outage, from the handles that have met it")
	e.spread(len(scenes), func(i int) { scenes[i].op.isWhole(e, e.handle(i), e.handle(i+1), scenes[i].t) })
	if changes {
		worksAgain(e)
	}
}

// keyScene is an app that a call is about which meets an outage.
type keyScene struct {
	t  *tenant
	op keyOp
}

// newKeyScenes returns one for each call.
func newKeyScenes(e *keyEnv) []keyScene {
	c := newCast(e)
	p := &pair{cast: c, spare: newSpares(e, c), tenant: &tenant{app: newApp(e)}}
	scenes := make([]keyScene, len(p.ops(e)))
	e.spread(len(scenes), func(i int) {
		t := threeKeys(e, p, i)
		scenes[i] = keyScene{t, (&pair{cast: c, spare: p.spare, tenant: t}).ops(e)[i]}
	})
	return scenes
}

// worksAgain makes every call through both handles, which have met an outage.
func worksAgain(e *keyEnv) {
	for i := range 2 {
		h := e.handle(i)
		createTenant(e, h, newApp(e)).is(e, "CreateApp after an outage, from a handle that has met it")
		p := newPair(e)
		for _, op := range p.changes(e) {
			p.step(e, h, op)
		}
		if _, err := h.deleteExpiredKeys(e.ctx, longAgo(e)); err != nil {
			e.failf("expected DeleteExpiredKeys to work again when an outage is over\nthe store returned the error %q", err)
		}
		p.is(e, "calls after an outage, from handles that have met it")
	}
}

func listsManyKeys(e *keyEnv) {
	p := newPair(e)
	e.needs(e.a.lists(), "renew.KeyLister")
	for i := range 12 {
		if i%3 == 1 {
			p.step(e, e.handle(i), publishOp(p.app.ID, newKey(e)))
			continue
		}
		p.step(e, e.handle(i), rotateOp(p.app.ID, newKey(e), e.now.Add(time.Duration(i)*time.Second)))
	}
	p.is(e, "RotateSigningKey and PublishSigningKey of 12 keys")
	p.twinIs(e, "calls for its twin")
}

// keysCrash crashes the backend after a call of each method.
func keysCrash(e *keyEnv) {
	e.needsCrash()
	if !e.a.administers() {
		t := someApp(e)
		e.crashNow()
		t.isAs(e, "K13", "a crash")
		return
	}
	p := newPair(e)
	survives := func(what string) {
		e.crashNow()
		p.isAs(e, "K13", what+", which had returned nil, and a crash")
		p.twin.isAs(e, "K13", "a crash")
	}
	survives("CreateApp and the calls that give it keys")
	for i, op := range p.changes(e) {
		p.step(e, e.handle(i), op)
		survives(op.name)
	}
	before := e.now.Add(-10 * time.Minute)
	t := shortLived(e, before.Add(-time.Hour), 1)
	if _, err := e.b.deleteExpiredKeys(e.ctx, before); err != nil {
		e.fatalf("expected DeleteExpiredKeys to delete\nthe store returned the error %q", err)
	}
	expired := t.dropExpired(before)
	e.crashNow()
	t.isAs(e, "K13", "DeleteExpiredKeys, which had returned nil, and a crash")
	for _, id := range expired {
		_, err := e.a.VerificationKey(e.ctx, t.app.ID, id)
		e.wantError("VerificationKey of a key that was deleted before a crash", err, renew.ErrKeyNotFound)
	}
}

func publishesBeforeUse(e *keyEnv) {
	p := newPair(e)
	id := p.app.ID
	for i := range 3 {
		next, other := newKey(e), newKey(e)
		p.do(e, e.handle(i), publishOp(id, next))
		p.do(e, e.handle(i+1), publishOp(id, next)) // ErrKeyExists
		p.do(e, e.handle(i+1), publishOp(id, namesake(e, next)))
		p.do(e, e.handle(i), publishOp(id, other))
		p.do(e, e.handle(i), rotateOp(id, namesake(e, next), e.now.Add(time.Duration(i)*time.Second)))
		p.do(e, e.handle(i+1), rotateOp(id, next, e.now.Add(time.Duration(i)*time.Second)))
		p.do(e, e.handle(i), rotateOp(id, next, e.now.Add(time.Duration(i)*time.Second))) // ErrKeyExists: it is active
		p.do(e, e.handle(i), revokeOp(id, other.KeyID(), e.now))
		p.do(e, e.handle(i+1), rotateOp(id, other, e.now)) // ErrKeyExists: it is revoked
		p.do(e, e.handle(i+1), publishOp(id, other))
	}
	published := newKeyFor(e, "", renew.RS256)
	p.do(e, e.a, publishOp(id, published))
	p.do(e, e.b, rotateOp(id, newKeyFor(e, published.KeyID(), renew.PS256), e.now)) // ErrKeyExists: it signs with another algorithm
	p.do(e, e.a, revokeOp(id, published.KeyID(), e.now))
	p.twinIs(e, "PublishSigningKey")
}

// shortLived adds an app of which keys were replaced each minute from start on, and expired
// 200 s later.
func shortLived(e *keyEnv, start time.Time, replaced int) *tenant {
	app := newApp(e)
	app.AuthTTL, app.AuthNotBefore, app.RefreshTTL, app.RefreshNotBefore = 1e9, 0, 100e9, 0
	t := createTenant(e, e.a, app)
	for n := range replaced + 1 {
		t.step(e, e.handle(n), rotateOp(app.ID, newKey(e), start.Add(time.Duration(n)*time.Minute)))
	}
	return t
}

// dropExpired removes the keys from the model that DeleteExpiredKeys must delete, and
// returns their IDs.
func (t *tenant) dropExpired(before time.Time) (ids []string) {
	for id, k := range t.keys {
		if !k.expires.IsZero() && k.expires.Before(before) {
			delete(t.keys, id)
			ids = append(ids, id)
		}
	}
	return ids
}

// deletesExpiredKeys needs lifetimes of seconds and keys of some minutes ago: no
// key of another app may be deleted that can still be of use.
func deletesExpiredKeys(e *keyEnv) {
	needsAdmin(e)
	// A store may keep a key for minutes longer: servers whose clocks differ, and
	// caches, sign with it after its replacement.
	start, before := e.now.Add(-30*time.Minute), e.now.Add(-time.Minute)
	if _, err := e.a.deleteExpiredKeys(e.ctx, before); err != nil {
		e.fatalf("expected DeleteExpiredKeys to delete\nthe store returned the error %q", err)
	}
	all := make([]*tenant, 35) // so that more keys have expired than a page has
	e.spread(len(all), func(i int) { all[i] = shortLived(e, start, 3) })
	for i, t := range all[:5] { // of some, keys of other states
		id := t.app.ID
		t.step(e, e.a, publishOp(id, newKey(e)))
		t.step(e, e.b, rotateOp(id, newKey(e), start.Add(5*time.Minute))) // replaced so late that it has not expired:
		t.step(e, e.a, rotateOp(id, newKey(e), before.Add(-100*time.Second)))
		if i == 4 {
			t.step(e, e.a, revokeOp(id, t.active, before))
		}
		t.is(e, "the calls that give it keys")
	}
	expired := make([][]string, len(all))
	count := 0
	for i, t := range all {
		expired[i] = t.dropExpired(before)
		count += len(expired[i])
	}
	n, err := e.b.deleteExpiredKeys(e.ctx, before)
	if err != nil || n != count {
		e.failf("expected DeleteExpiredKeys to delete and return the %d keys that expired, by SigningPeriod.Close\nthe store returned %d and the error %v", count, n, err)
	}
	e.spread(len(all), func(i int) {
		all[i].isAs(e, "K15", "DeleteExpiredKeys")
		for _, id := range expired[i] {
			_, err := e.a.VerificationKey(e.ctx, all[i].app.ID, id)
			e.wantError("VerificationKey of a key that DeleteExpiredKeys has deleted", err, renew.ErrKeyNotFound)
		}
	})
	if n, err := e.a.deleteExpiredKeys(e.ctx, before); err != nil || n != 0 {
		e.failf("expected DeleteExpiredKeys to find nothing more\nthe store returned %d and the error %v", n, err)
	}
}
