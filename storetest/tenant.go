package storetest

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// tenant is an app as the store must have it, after all that was done.
type tenant struct {
	app    renew.App
	keys   map[string]keyState
	active string // its ID; empty: no key is active
	period renew.SigningPeriod
	seen   bool // read from the store: no call of the suite has made it
}

// keyState is a signing key of an app. A published one has neither end nor
// revocation, and is not active.
type keyState struct {
	key     *renew.VerificationKey
	revoked bool
	until   time.Time // that the key verifies at least; zero: it was not replaced
	expires time.Time // when it may be deleted; zero: it is active or published
}

func (t *tenant) clone() *tenant {
	c := *t
	c.keys = maps.Clone(t.keys)
	c.app = t.app.Clone()
	return &c
}

func (t *tenant) update(app renew.App) error {
	if app.Validate() != nil {
		return errInvalid
	}
	updated := app.Clone()
	updated.KeyHashes = t.app.KeyHashes
	t.app = updated
	if t.active != "" {
		t.period.Count(app)
	}
	return nil
}

func (t *tenant) addAppKey(hash renew.AppKeyHash) error {
	if !slices.Contains(t.app.KeyHashes, hash) {
		t.app.KeyHashes = append(slices.Clone(t.app.KeyHashes), hash)
	}
	return nil
}

func (t *tenant) removeAppKey(hash renew.AppKeyHash) error {
	if !slices.Contains(t.app.KeyHashes, hash) {
		return renew.ErrKeyNotFound
	}
	t.app.KeyHashes = slices.DeleteFunc(slices.Clone(t.app.KeyHashes), func(h renew.AppKeyHash) bool { return h == hash })
	return nil
}

func (t *tenant) publish(key *renew.SigningKey) error {
	if _, taken := t.keys[key.KeyID()]; taken {
		return renew.ErrKeyExists
	}
	t.keys[key.KeyID()] = keyState{key: key.VerificationKey()}
	return nil
}

func (t *tenant) isPublished(id string) bool {
	k, ok := t.keys[id]
	return ok && id != t.active && !k.revoked && k.expires.IsZero()
}

func (t *tenant) rotate(key *renew.SigningKey, now time.Time) error {
	id := key.KeyID()
	if _, taken := t.keys[id]; taken && !(t.isPublished(id) && samePublic(t.keys[id].key, key.VerificationKey())) {
		return renew.ErrKeyExists
	}
	t.retire(now)
	t.keys[id] = keyState{key: key.VerificationKey()}
	t.active = id
	t.period.Count(t.app)
	return nil
}

func (t *tenant) retire(at time.Time) {
	if t.active == "" {
		return
	}
	k := t.keys[t.active]
	k.until, k.expires = t.period.Close(at)
	t.keys[t.active] = k
	t.active = ""
}

func (t *tenant) revoke(id string, at time.Time) error {
	if _, known := t.keys[id]; !known {
		return renew.ErrKeyNotFound
	}
	if id == t.active {
		t.retire(at)
	}
	k := t.keys[id]
	if k.revoked = true; k.expires.IsZero() {
		k.expires = at
	}
	t.keys[id] = k
	return nil
}

// differs compares the app with what a handle shows, and returns the law that is
// broken and how; nothing if all is as it must be.
func (t *tenant) differs(e *keyEnv, h *keys) (law, diff string) {
	checks := []check{
		func() (law, diff string) { return t.appDiffers(e, h) },
		func() (law, diff string) { return t.signingDiffers(e, h) },
	}
	ids := slices.Sorted(maps.Keys(t.keys))
	for _, id := range ids {
		checks = append(checks, func() (law, diff string) { return t.keyDiffers(e, h, id) })
	}
	checks = append(checks, func() (law, diff string) { return t.listDiffers(e, h) })
	for _, id := range ids {
		checks = append(checks, func() (law, diff string) { return t.publishedDiffers(e, h, id) })
	}
	return e.first(checks)
}

func (t *tenant) appDiffers(e *keyEnv, h *keys) (law, diff string) {
	app, err := h.App(e.ctx, t.app.ID)
	if err != nil {
		return "K1", fmt.Sprintf("App returns the error %q", err)
	}
	if diff := fieldsDiffer(t.app, app); diff != "" {
		return "K1", diff
	}
	if !sameHashes(t.app.KeyHashes, app.KeyHashes) {
		return "K7", fmt.Sprintf("KeyHashes is %s, expected %s", app.KeyHashes, t.app.KeyHashes)
	}
	return "", ""
}

func (t *tenant) rowsDiffer(e *keyEnv, h *keys) (law, diff string) { return t.differs(e, h) }

// publishedDiffers asks for a published key, and on one handle for another one too.
func (t *tenant) publishedDiffers(e *keyEnv, h *keys, id string) (law, diff string) {
	published := t.isPublished(id)
	if !h.returnsPublished() || t.seen || !published && h.number%2 == 0 {
		return "", ""
	}
	key, err := h.PublishedKey(e.ctx, t.app.ID, id)
	switch {
	case published && err != nil:
		return "K17", fmt.Sprintf("PublishedKey returns the error %q for a published key, %s", err, id)
	case published && (key.KeyID() != id || !samePublic(key.VerificationKey(), t.keys[id].key)):
		return "K17", "PublishedKey returns another key, or another algorithm, for " + id
	case !published && err == nil:
		return "K17", "PublishedKey returns a key that is active, replaced or revoked, " + id
	case !published && !errors.Is(err, renew.ErrKeyNotFound):
		return "K17", fmt.Sprintf("PublishedKey returns the error %q for a key that is active, replaced or revoked, expected renew.ErrKeyNotFound", err)
	}
	return "", ""
}

func (t *tenant) signingDiffers(e *keyEnv, h *keys) (law, diff string) {
	key, err := h.SigningKey(e.ctx, t.app.ID)
	switch {
	case errors.Is(err, renew.ErrKeyNotFound) && t.active == "":
		return "", ""
	case err != nil && t.active == "":
		return "K4", fmt.Sprintf("SigningKey returns the error %q, expected renew.ErrKeyNotFound, for no key is active", err)
	case err != nil:
		return "K4", fmt.Sprintf("SigningKey returns the error %q, expected the active key, %s", err, t.active)
	case t.keys[key.KeyID()].revoked:
		return "K6", "SigningKey returns a revoked key, " + key.KeyID()
	case t.isPublished(key.KeyID()):
		return "K14", "SigningKey returns a key that is only published, " + key.KeyID()
	case key.KeyID() != t.active:
		return "K4", fmt.Sprintf("SigningKey returns the key %s, expected the one that was rotated in last, %q", key.KeyID(), t.active)
	case !samePublic(key.VerificationKey(), t.keys[t.active].key):
		return "K4", "SigningKey returns another key, or another algorithm, under the ID of the active one"
	}
	return "", ""
}

// slack is how much longer than it must a store may keep a replaced key.
const slack = 31 * 24 * time.Hour

func (t *tenant) keyDiffers(e *keyEnv, h *keys, id string) (law, diff string) {
	want := t.keys[id]
	key, err := h.VerificationKey(e.ctx, t.app.ID, id)
	if want.revoked {
		if !errors.Is(err, renew.ErrKeyRevoked) {
			return "K6", fmt.Sprintf("VerificationKey returns the error %v for the revoked key %s, expected renew.ErrKeyRevoked", err, id)
		}
		return "", ""
	}
	what := "a replaced"
	switch law = "K5"; {
	case id == t.active:
		law, what = "K4", "the active"
	case want.expires.IsZero():
		law, what = "K14", "a published"
	}
	switch {
	case err != nil:
		return law, fmt.Sprintf("VerificationKey returns the error %q for %s key, %s", err, what, id)
	case key.KeyID() != id || !samePublic(key, want.key):
		return law, fmt.Sprintf("VerificationKey returns another key, or another algorithm, for %s key, %s", what, id)
	case t.seen:
		return "", ""
	}
	if diff := want.endDiffers(key); diff != "" {
		return "K5", "VerificationKey returns " + diff
	}
	return "", ""
}

// endDiffers says how the end of a key that the store returned is wrong.
func (k keyState) endDiffers(got *renew.VerificationKey) string {
	switch end := got.End(); {
	case k.until.IsZero() && !end.IsZero():
		return fmt.Sprintf("the key %s with the end %s: only a replaced key has one", got.KeyID(), clock(end))
	case k.until.IsZero():
	case end.IsZero() || end.After(k.until.Add(slack)):
		return fmt.Sprintf("the replaced key %s with the end %s, see VerificationKey.Until: a thief of the private key can make tokens after its time, which ended at %s", got.KeyID(), clock(end), clock(k.until))
	case end.Before(k.until.Truncate(time.Second)):
		return fmt.Sprintf("the replaced key %s with the end %s, while tokens that it has signed may expire as late as %s", got.KeyID(), clock(end), clock(k.until))
	}
	return ""
}

func (t *tenant) listDiffers(e *keyEnv, h *keys) (law, diff string) {
	if !h.lists() {
		return "", ""
	}
	list, err := h.VerificationKeys(e.ctx, t.app.ID)
	if err != nil {
		return "K12", fmt.Sprintf("VerificationKeys returns the error %q", err)
	}
	var want []string
	for id, k := range t.keys {
		if !k.revoked {
			want = append(want, id)
		}
	}
	slices.Sort(want)
	got := keyIDs(list)
	if !slices.Equal(slices.Sorted(slices.Values(got)), want) || t.active != "" && got[0] != t.active {
		return "K12", fmt.Sprintf("VerificationKeys returns %q, expected %q, the active one, %q, first", got, want, t.active)
	}
	for _, k := range list {
		own := t.keys[k.KeyID()]
		if !samePublic(k, own.key) {
			return "K12", "VerificationKeys returns another key, or another algorithm, than VerificationKey for " + k.KeyID()
		}
		if diff := own.endDiffers(k); diff != "" && !t.seen {
			return "K12", "VerificationKeys returns " + diff
		}
	}
	return "", ""
}

func samePublic(a, b *renew.VerificationKey) bool {
	key, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b.Public()) && a.Algorithm() == b.Algorithm()
}

// sameHashes compares without the order, which means nothing.
func sameHashes(a, b []renew.AppKeyHash) bool {
	compare := func(x, y renew.AppKeyHash) int { return strings.Compare(x.String(), y.String()) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), compare), slices.SortedFunc(slices.Values(b), compare))
}

// is checks that both handles show the app as it must be.
func (t *tenant) is(e *keyEnv, after string) {
	t.isAs(e, "", after)
}

// isAs does too, and blames a law if it is not empty.
func (t *tenant) isAs(e *keyEnv, blamed, after string) {
	a, b := onBoth(e, t)
	for i, found := range []finding{a, b} {
		if found.diff != "" {
			e.breaks(cmp.Or(blamed, found.law), "expected %s, from handle %d, as it must be after %s\nthe store has it otherwise: %s", named("app", t.app.ID), e.handle(i).number, after, found.diff)
			panic(stop{})
		}
	}
}

// do makes a call on the app, and checks its result and what is stored then.
func (t *tenant) do(e *keyEnv, h *keys, op keyOp) {
	after, _, want, _, err := op.do(e, h, t)
	if !matches(err, want) {
		e.fatalf("expected %s of %s\nthe store returned %s", outcome("", want), op.name, outcome("", err))
	}
	*t = *after
	t.is(e, op.name)
}

// newApp returns an app of the case with every field set.
func newApp(e *keyEnv) renew.App {
	return renew.App{
		ID:            e.app + "-" + newID(),
		Issuer:        "issuer of " + e.app,
		FormerIssuers: []string{"first issuer of " + e.app, "an issuer of " + e.app},
		KeyHashes:     []renew.AppKeyHash{newKeyHash(), newKeyHash()},
		AuthTTL:       61e9, AuthNotBefore: 2e9, RefreshTTL: 3601e9, RefreshNotBefore: 30e9, SessionTTL: 86401e9, MaxSessions: 7,
	}
}

// newKeyHash returns a hash of either scheme.
func newKeyHash() renew.AppKeyHash {
	key, hash := renew.NewAppKey()
	if hash.String()[len(hash.String())-1]%2 == 0 {
		return hash
	}
	digest := sha512.Sum512([]byte(key))
	hash, err := renew.ParseAppKeyHash("sha512:" + hex.EncodeToString(digest[:]))
	if err != nil {
		panic(err)
	}
	return hash
}

// oneRSAKey is one for all: it takes long to make.
var oneRSAKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// makeKey makes a key of an algorithm; an empty ID is for a new one. Keys of RSA differ in
// their IDs and algorithms alone.
func makeKey(id string, alg renew.Algorithm) (*renew.SigningKey, error) {
	switch alg {
	case renew.RS256, renew.PS256, renew.PS512:
		private, err := oneRSAKey()
		if err != nil {
			return nil, err
		}
		return renew.NewSigningKey(cmp.Or(id, newID()), alg, private)
	}
	key, err := renew.GenerateSigningKey(alg)
	if err != nil || id == "" {
		return key, err
	}
	return renew.NewSigningKey(id, alg, key.Signer())
}

func newKeyFor(e *keyEnv, id string, alg renew.Algorithm) *renew.SigningKey {
	key, err := makeKey(id, alg)
	if err != nil {
		e.fatalf("expected a signing key of package renew: %v", err)
	}
	return key
}

func newKey(e *keyEnv) *renew.SigningKey { return newKeyFor(e, "", renew.ES256) }

// namesake returns another key of the same ID.
func namesake(e *keyEnv, key *renew.SigningKey) *renew.SigningKey {
	return newKeyFor(e, key.KeyID(), renew.ES256)
}

// createTenant adds an app without keys.
func createTenant(e *keyEnv, h *keys, app renew.App) *tenant {
	needsAdmin(e)
	t := &tenant{app: app, keys: map[string]keyState{}}
	t.app.KeyHashes = slices.Clone(app.KeyHashes)
	if _, err := createOp(app).settle(e, h, t); err != nil {
		e.fatalf("expected CreateApp to add an app\nthe store returned %q", err)
	}
	return t
}

// step makes a call that must succeed, and does not look at what is stored.
func (t *tenant) step(e *keyEnv, h *keys, op keyOp) {
	*t = *op.step(e, h, t)
}

// cast are the keys of an app that has one of every state.
type cast struct{ replaced, active, published, revoked *renew.SigningKey }

func newCast(e *keyEnv) cast { return cast{newKey(e), newKey(e), newKey(e), newKey(e)} }

func (c cast) namesakes(e *keyEnv) cast {
	return cast{namesake(e, c.replaced), namesake(e, c.active), namesake(e, c.published), namesake(e, c.revoked)}
}

// populate adds an app with one key of every state.
func populate(e *keyEnv, app renew.App, c cast) *tenant {
	t := createTenant(e, e.a, app)
	t.step(e, e.a, rotateOp(app.ID, c.revoked, e.now.Add(-time.Hour)))
	t.step(e, e.b, rotateOp(app.ID, c.replaced, e.now.Add(-time.Minute)))
	t.step(e, e.a, rotateOp(app.ID, c.active, e.now))
	t.step(e, e.b, publishOp(app.ID, c.published))
	t.step(e, e.a, revokeOp(app.ID, c.revoked.KeyID(), e.now))
	return t
}

// pair is an app and its twin, which has other keys under the same IDs.
type pair struct {
	*tenant
	cast  cast
	twin  *tenant
	spare *spares // nil: new ones for every call of ops
}

// spares are keys that an app has not yet, and namesakes of those that it has.
type spares struct {
	publish, rotate, next             *renew.SigningKey
	asPublished, asActive, asReplaced *renew.SigningKey
}

func newSpares(e *keyEnv, c cast) *spares {
	return &spares{newKey(e), newKey(e), newKey(e), namesake(e, c.published), namesake(e, c.active), namesake(e, c.replaced)}
}

func newPair(e *keyEnv) *pair {
	c := newCast(e)
	app := newApp(e)
	p := &pair{cast: c, tenant: populate(e, app, c)}
	twin := newApp(e)
	twin.ID, twin.Issuer = app.ID+"-twin", "issuer of the twin"
	p.twin = populate(e, twin, c.namesakes(e))
	p.is(e, "CreateApp and the calls that give it keys")
	p.twinIs(e, "the calls for its twin")
	return p
}

// twinIs checks that the twin is as it was.
func (p *pair) twinIs(e *keyEnv, after string) {
	p.twin.isAs(e, "K3", after+", which were about another app with keys of the same IDs")
}

// ops returns calls of every method for the app, those that must succeed and
// those that must not.
func (p *pair) ops(e *keyEnv) []keyOp {
	id, c, spare := p.app.ID, p.cast, p.spare
	if spare == nil {
		spare = newSpares(e, c)
	}
	changed := p.app
	changed.Issuer, changed.AuthTTL, changed.AuthNotBefore, changed.RefreshTTL = "changed "+newID(), 3600e9, 0, 7201e9
	changed.RefreshNotBefore, changed.SessionTTL, changed.MaxSessions = 0, 0, 0
	changed.KeyHashes = []renew.AppKeyHash{newKeyHash()}
	changed.FormerIssuers = []string{p.app.Issuer}
	invalid := changed
	invalid.AuthTTL = -1
	again := p.app
	again.Issuer = "taken"
	ops := []keyOp{
		updateOp(changed),
		addOp(id, newKeyHash()),
		addOp(id, newKeyHash()),
		removeOp(id, newKeyHash()),
		publishOp(id, spare.publish),
		rotateOp(id, spare.rotate, e.now.Add(time.Second)),
		rotateOp(id, spare.next, e.now.Add(2*time.Second)),
		rotateOp(id, c.published, e.now.Add(time.Second)),
		rotateOp(id, spare.asPublished, e.now.Add(time.Second)),
		publishOp(id, spare.asActive),
		publishOp(id, c.replaced),
		publishOp(id, c.published),
		rotateOp(id, spare.asReplaced, e.now.Add(time.Second)),
		rotateOp(id, c.active, e.now.Add(time.Second)),
		rotateOp(id, c.revoked, e.now.Add(time.Second)),
		revokeOp(id, c.active.KeyID(), e.now.Add(time.Second)),
		revokeOp(id, c.replaced.KeyID(), e.now.Add(time.Second)),
		revokeOp(id, c.published.KeyID(), e.now.Add(time.Second)),
		revokeOp(id, c.revoked.KeyID(), e.now.Add(time.Second)),
		revokeOp(id, newID(), e.now.Add(time.Second)),
		updateOp(invalid),
		createOp(again),
	}
	for _, hash := range p.app.KeyHashes[:min(2, len(p.app.KeyHashes))] {
		ops = append(ops, addOp(id, hash), removeOp(id, hash))
	}
	return ops
}

// changes returns calls of every method that must succeed one after another.
func (p *pair) changes(e *keyEnv) []keyOp {
	id, changed, last := p.app.ID, p.app, newKey(e)
	changed.Issuer, changed.RefreshTTL = "changed", 7200e9
	return []keyOp{
		updateOp(changed), addOp(id, newKeyHash()), removeOp(id, p.app.KeyHashes[0]), publishOp(id, newKey(e)),
		rotateOp(id, p.cast.published, e.now.Add(time.Second)), rotateOp(id, last, e.now.Add(2*time.Second)),
		revokeOp(id, p.cast.active.KeyID(), e.now), revokeOp(id, p.cast.active.KeyID(), e.now), revokeOp(id, last.KeyID(), e.now),
	}
}

// look reads the app that a store holds which the suite cannot fill.
func look(e *keyEnv, appID string) *tenant {
	t := &tenant{seen: true, keys: map[string]keyState{}}
	var err error
	if t.app, err = e.a.App(e.ctx, appID); err != nil {
		e.fatalf("expected App to return the app that WithApps names, %q\nthe store returned the error %q", appID, err)
	}
	if err := t.app.Validate(); t.app.ID != appID || err != nil {
		e.fatalf("expected App to return the valid app %q\nthe store returned the app %q: %v", appID, t.app.ID, err)
	}
	if e.a.lists() {
		list, err := e.a.VerificationKeys(e.ctx, appID)
		if err != nil {
			e.fatalf("expected VerificationKeys to return the keys of %q\nthe store returned the error %q", appID, err)
		}
		for _, k := range list {
			t.keys[k.KeyID()] = keyState{key: k, expires: k.End()}
		}
	}
	switch key, err := e.a.SigningKey(e.ctx, appID); {
	case err == nil:
		t.active = key.KeyID()
		t.keys[t.active] = keyState{key: key.VerificationKey()}
	case !errors.Is(err, renew.ErrKeyNotFound):
		e.fatalf("expected SigningKey to return the active key of %q, or renew.ErrKeyNotFound\nthe store returned the error %q", appID, err)
	}
	return t
}

// someApp returns an app to read: a new one, or one that WithApps names.
func someApp(e *keyEnv) *tenant {
	if e.a.administers() {
		return newPair(e).tenant
	}
	if len(e.apps) == 0 {
		e.skip("the store does not implement renew.KeyAdmin, and its test names no app with WithApps")
	}
	return look(e, e.apps[0])
}

// reads returns calls of every method that reads the app.
func (t *tenant) reads(h *keys) []namedCall {
	id, keyID := t.app.ID, t.active
	calls := []namedCall{
		{"App", func(ctx context.Context) error { _, err := h.App(ctx, id); return err }},
		{"App of an unknown ID", func(ctx context.Context) error { _, err := h.App(ctx, id+"-unknown"); return err }},
		{"SigningKey", func(ctx context.Context) error { _, err := h.SigningKey(ctx, id); return err }},
		{"VerificationKey", func(ctx context.Context) error { _, err := h.VerificationKey(ctx, id, keyID); return err }},
		{"VerificationKey of an unknown ID", func(ctx context.Context) error { _, err := h.VerificationKey(ctx, id, newID()); return err }},
	}
	if h.lists() {
		calls = append(calls, namedCall{"VerificationKeys", func(ctx context.Context) error { _, err := h.VerificationKeys(ctx, id); return err }})
	}
	if h.returnsPublished() {
		calls = append(calls, namedCall{"PublishedKey", func(ctx context.Context) error { _, err := h.PublishedKey(ctx, id, keyID); return err }})
	}
	if h.listsApps() {
		calls = append(calls, namedCall{"AppIDs", func(ctx context.Context) error { _, err := h.AppIDs(ctx); return err }})
	}
	return calls
}

// longAgo is when no key of the suite has expired.
func longAgo(e *keyEnv) time.Time { return e.now.AddDate(-20, 0, 0) }

// keyDeletionOn is a DeleteExpiredKeys through a handle that deletes nothing.
func keyDeletionOn(e *keyEnv, h *keys) namedCall {
	return namedCall{"DeleteExpiredKeys", func(ctx context.Context) error { _, err := h.deleteExpiredKeys(ctx, longAgo(e)); return err }}
}

// calls returns calls of every method that the store has.
func (p *pair) calls(e *keyEnv, h *keys) []namedCall {
	calls := p.reads(h)
	fresh := newApp(e)
	for _, op := range append(p.ops(e), createOp(fresh)) {
		calls = append(calls, op.on(h))
	}
	return append(calls, keyDeletionOn(e, h))
}
