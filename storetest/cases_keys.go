package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// keyLaws are the laws of a KeyStore, with their cases.
func keyLaws() []law[*keys] {
	return []law[*keys]{
		{"K1", "App returns the app as it stands: every field, as it was created or changed last", []testCase[*keys]{
			{name: "every-field", run: keepsApp, usually: "a field is not written, not read back, or taken for another; a duration in another unit"},
			{name: "zero-values", run: keepsZeroApp, usually: "a zero lifetime is replaced by the default, which is the Renewer's to choose"},
			{name: "changes", run: changesApp, usually: "a handle keeps an old copy of the app"},
		}},
		{"K2", "an unknown app is ErrAppNotFound", []testCase[*keys]{
			{name: "unknown-app", run: unknownApp, usually: "the database's own error for no row, or a zero App, is returned"},
		}},
		{"K3", "an unknown key, or another app's, is ErrKeyNotFound", []testCase[*keys]{
			{name: "unknown-key", run: unknownKey, usually: "the database's own error for no row is returned"},
			{name: "key-of-another-app", run: keyOfOtherApp, usually: "a key is looked up by its ID without the app: one app's keys verify another's tokens"},
			{name: "no-key-yet", run: noKeyYet, usually: "an app without a key is given another app's, or the database's own error"},
		}},
		{"K4", "exactly one key signs: the one that was rotated in last", []testCase[*keys]{
			{name: "the-last-one", run: lastKeySigns, usually: "the active key is not the newest, or a handle keeps an old one"},
			{name: "its-public-half", run: publicHalf, usually: "the private key and the public key of an ID are not of one pair"},
			{name: "each-app-its-own", run: keyOfEachApp, usually: "the active key is looked up without the app"},
			{name: "rotations-at-once", run: rotationsAtOnce, usually: "rotating takes two steps, with two keys active or none in between"},
		}},
		{"K5", "a replaced key goes on verifying, unchanged", []testCase[*keys]{
			{name: "replaced", run: replacedVerifies, usually: "rotating deletes the old key, or stores the new one under its ID: all sessions end"},
		}},
		{"K6", "a revoked key is ErrKeyRevoked, from any process, and signs no more", []testCase[*keys]{
			{name: "revoked", run: revokedKey, usually: "revoking deletes the key, or a handle keeps it in a cache"},
			{name: "active-one", run: revokedActiveKey, usually: "revocation is looked at when verifying and not when signing"},
			{name: "no-other", run: revokesNoOtherKey, usually: "a key is revoked by less than app and ID"},
		}},
		{"K7", "of app keys only hashes are kept: one that was added is there, one that was removed is not", []testCase[*keys]{
			{name: "overlap", run: appKeyOverlap, usually: "an app has room for one hash only, or a removed one stays in a cache"},
		}},
		{"K8", "app IDs and issuers are opaque and exact; no two apps are confused", []testCase[*keys]{
			{name: "app-ids", run: exactApps, usually: "a collation that ignores case, accents or trailing spaces, a column that is too short, text put into a query"},
		}},
		{"K9", "with a context that is already done: its error", []testCase[*keys]{
			{name: "every-method", run: keysDone, usually: "the context is not passed on, or not looked at: begin with ctx.Err"},
		}},
		{"K10", "nothing handed in or out is shared: changing it afterwards changes no stored app", []testCase[*keys]{
			{name: "key-hashes", run: sharesNoHashes, usually: "the slice of hashes is kept, or handed out, as it is"},
		}},
		{"K11", "an outage is an error of its own, never ErrAppNotFound, ErrKeyNotFound or ErrKeyRevoked", []testCase[*keys]{
			{name: "every-method", run: keysOutage, serial: true, usually: "every failure of a query is taken for no row found, or an error is dropped"},
		}},
		{"K12", "VerificationKeys returns every key that still verifies, the active one first, and no other", []testCase[*keys]{
			{name: "active-first", run: listsActiveFirst, usually: "the list is ordered by ID, or revoked keys, or another app's, are in it"},
		}},
		{"K13", "durable stores: apps, keys and revocations survive a kill of the process and of the database", []testCase[*keys]{
			{name: "quiet", run: keysCrash, serial: true, usually: "writes are answered before they are on disk"},
		}},
	}
}

// hasApp checks what App returns through both handles.
func hasApp(e *keyEnv, what string, want renew.App) {
	for _, h := range []*keys{e.a, e.b} {
		got, err := h.app(e, e.ctx, want.ID)
		if err != nil {
			e.fatalf("expected App to return an app %s\nthe store returned the error %q", what, err)
		}
		if diff := appDifference(want, got); diff != "" {
			e.failf("expected App to return an app %s\nthe store returned something else: %s", what, diff)
		}
	}
}

func appDifference(want, got renew.App) string {
	var d differences
	d.text("ID", want.ID, got.ID)
	d.text("Issuer", want.Issuer, got.Issuer)
	d.check("KeyHashes", sameHashes(want.KeyHashes, got.KeyHashes), fmt.Sprintf("%x", want.KeyHashes), fmt.Sprintf("%x", got.KeyHashes))
	for _, t := range []struct {
		name      string
		want, got time.Duration
	}{
		{"AuthTTL", want.AuthTTL, got.AuthTTL},
		{"AuthNotBefore", want.AuthNotBefore, got.AuthNotBefore},
		{"RefreshTTL", want.RefreshTTL, got.RefreshTTL},
		{"RefreshNotBefore", want.RefreshNotBefore, got.RefreshNotBefore},
		{"SessionTTL", want.SessionTTL, got.SessionTTL},
	} {
		d.check(t.name, t.want == t.got, t.want.String(), t.got.String())
	}
	return strings.Join(d, "; ")
}

// sameHashes compares without the order, which means nothing.
func sameHashes(a, b []renew.AppKeyHash) bool {
	compare := func(x, y renew.AppKeyHash) int { return slices.Compare(x[:], y[:]) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), compare), slices.SortedFunc(slices.Values(b), compare))
}

func keepsApp(e *keyEnv) {
	app := newApp(e)
	createApp(e, app)
	hasApp(e, "as it was created", app)
}

func keepsZeroApp(e *keyEnv) {
	app := renew.App{ID: e.app, Issuer: "issuer"}
	createApp(e, app)
	hasApp(e, "as it was created, with nothing but a name", app)
}

func changesApp(e *keyEnv) {
	app := newApp(e)
	createApp(e, app)
	hasApp(e, "as it was created", app)
	app.Issuer += ", changed"
	app.AuthTTL, app.AuthNotBefore, app.RefreshTTL, app.RefreshNotBefore, app.SessionTTL = 0, 3e9, 7200e9, 0, 0
	c := e.b.log.begin(e.b.number, "UpdateApp", func() string { return named("app", app.ID) })
	err := e.b.UpdateApp(e.ctx, app)
	e.b.log.end(c, done, err)
	if err != nil {
		e.fatalf("expected UpdateApp to change the app\nit returned the error %q", err)
	}
	hasApp(e, "as it was changed", app)
}

func unknownApp(e *keyEnv) {
	createApp(e, newApp(e))
	for _, h := range []*keys{e.a, e.b} {
		_, err := h.app(e, e.ctx, e.app+"-nobody")
		wantKeyError(e, "App with an ID that was never stored", err, renew.ErrAppNotFound)
		_, err = h.signingKey(e, e.ctx, e.app+"-nobody")
		wantKeyError(e, "SigningKey of an app that was never stored", err, renew.ErrKeyNotFound, renew.ErrAppNotFound)
		_, err = h.verificationKey(e, e.ctx, e.app+"-nobody", newID())
		wantKeyError(e, "VerificationKey of an app that was never stored", err, renew.ErrKeyNotFound, renew.ErrAppNotFound)
		if _, ok := h.Store.(renew.KeyLister); ok {
			_, err = h.list(e, e.ctx, e.app+"-nobody")
			wantKeyError(e, "VerificationKeys of an app that was never stored", err, renew.ErrAppNotFound)
		}
	}
}

func unknownKey(e *keyEnv) {
	app, keyID := appWithKey(e)
	for _, id := range []string{newID(), strings.ToLower(keyID), keyID + " ", keyID[:25], "", "%"} {
		_, err := e.b.verificationKey(e, e.ctx, app.ID, id)
		wantKeyError(e, "VerificationKey with an unknown ID", err, renew.ErrKeyNotFound)
	}
}

func keyOfOtherApp(e *keyEnv) {
	_, keyID := appWithKey(e)
	other := newApp(e)
	other.ID += "-other"
	createApp(e, other)
	rotateKey(e, e.a, other.ID)
	for _, h := range []*keys{e.a, e.b} {
		_, err := h.verificationKey(e, e.ctx, other.ID, keyID)
		wantKeyError(e, "VerificationKey with an ID that only another app has", err, renew.ErrKeyNotFound)
	}
}

func noKeyYet(e *keyEnv) {
	app, keyID := appWithKey(e)
	empty := newApp(e)
	empty.ID += "-empty"
	createApp(e, empty)
	k, err := e.b.signingKey(e, e.ctx, empty.ID)
	switch { // a store may give a new app its first key
	case err != nil:
		wantKeyError(e, "SigningKey of an app without one", err, renew.ErrKeyNotFound)
	case k.VerificationKey().KeyID() == keyID:
		e.failf("expected a new app to have no key, or one of its own\nthe store returned that of %s", named("app", app.ID))
	}
}

func lastKeySigns(e *keyEnv) {
	app := newApp(e)
	createApp(e, app)
	for i := range 6 {
		id := rotateKey(e, e.handle(i), app.ID)
		for _, h := range []*keys{e.handle(i + 1), e.handle(i)} {
			k, err := h.signingKey(e, e.ctx, app.ID)
			if err != nil {
				e.fatalf("expected SigningKey to return the key that was rotated in last, %s\nthe store returned the error %q", id, err)
			}
			if got := k.VerificationKey().KeyID(); got != id {
				e.fatalf("expected SigningKey to return the key that was rotated in last, %s\nthe store returned the key %s", id, got)
			}
			verifies(e, h, app.ID, id, "the active key")
		}
	}
}

func publicHalf(e *keyEnv) {
	app, keyID := appWithKey(e)
	signing, err := e.b.signingKey(e, e.ctx, app.ID)
	if err != nil {
		e.fatalf("expected SigningKey to return the active key\nthe store returned the error %q", err)
	}
	k := verifies(e, e.a, app.ID, keyID, "the active key")
	if own := signing.VerificationKey(); !samePublic(own.Public(), k.Public()) || own.Algorithm() != k.Algorithm() {
		e.failf("expected VerificationKey to return the public half of what SigningKey returns\nthe store returned another key, or another algorithm (%s, and %s)", k.Algorithm(), own.Algorithm())
	}
	if err := signs(signing.Signer(), k.Public()); err != nil {
		e.failf("expected that what the signing key signs verifies under the key of its ID\nthe store returned keys for which it does not: %v", err)
	}
}

func keyOfEachApp(e *keyEnv) {
	app, keyID := appWithKey(e)
	other := newApp(e)
	other.ID += "-other"
	createApp(e, other)
	otherID := rotateKey(e, e.b, other.ID)
	for appID, want := range map[string]string{app.ID: keyID, other.ID: otherID} {
		k, err := e.a.signingKey(e, e.ctx, appID)
		if err != nil {
			e.fatalf("expected SigningKey to return the active key\nthe store returned the error %q", err)
		}
		if got := k.VerificationKey().KeyID(); got != want {
			e.failf("expected SigningKey of %s to return its key, %s\nthe store returned %s", named("app", appID), want, got)
		}
	}
}

func rotationsAtOnce(e *keyEnv) {
	const clients = 4
	for round := range e.rounds(10) {
		app := newApp(e)
		app.ID = fmt.Sprintf("%s-%d", app.ID, round)
		createApp(e, app)
		rotateKey(e, e.a, app.ID)
		ids := make([]string, clients)
		var rotated atomic.Int32
		e.race(clients+2, func(i int) {
			if i < clients {
				defer rotated.Add(1)
				if id, err := tryRotateKey(e, e.handle(i), app.ID); err == nil {
					ids[i] = id
				}
				return
			}
			for rotated.Load() < clients {
				if _, err := e.handle(i).signingKey(e, e.ctx, app.ID); errors.Is(err, renew.ErrKeyNotFound) {
					e.fatalf("expected an active key at every moment of a rotation\nthe store returned the error %q", err)
				}
			}
		})
		a, errA := e.a.signingKey(e, e.ctx, app.ID)
		b, errB := e.b.signingKey(e, e.ctx, app.ID)
		if err := errors.Join(errA, errB); err != nil {
			e.fatalf("expected an active key after %d rotations at once\nthe store returned the error %q", clients, err)
		}
		if a, b := a.VerificationKey().KeyID(), b.VerificationKey().KeyID(); a != b {
			e.fatalf("expected one active key after %d rotations at once\nthe store returned %s from one handle, %s from the other", clients, a, b)
		}
		for _, id := range ids {
			if id != "" {
				verifies(e, e.b, app.ID, id, "a key that was rotated in")
			}
		}
	}
}

func replacedVerifies(e *keyEnv) {
	app, first := appWithKey(e)
	was := verifies(e, e.b, app.ID, first, "the active key")
	for i := range 3 {
		if id := rotateKey(e, e.handle(i), app.ID); id == first {
			e.fatalf("expected a new key to have a new ID\nRotateSigningKey returned the ID of the key before, %s", id)
		}
		for _, h := range []*keys{e.a, e.b} {
			k := verifies(e, h, app.ID, first, "a replaced key")
			if !samePublic(k.Public(), was.Public()) || k.Algorithm() != was.Algorithm() {
				e.failf("expected a replaced key to stay what it was\nthe store returned another key under its ID")
			}
		}
	}
}

// isRevoked checks that the key is revoked in the eyes of both handles.
func isRevoked(e *keyEnv, appID, keyID string) {
	for _, h := range []*keys{e.b, e.a} {
		_, err := h.verificationKey(e, e.ctx, appID, keyID)
		wantKeyError(e, "VerificationKey with the ID of a revoked key", err, renew.ErrKeyRevoked)
		if _, ok := h.Store.(renew.KeyLister); ok {
			if list, err := h.list(e, e.ctx, appID); err != nil || slices.Contains(keyIDs(list), keyID) {
				e.failf("expected VerificationKeys without a revoked key, %s\nthe store returned %v and the error %v", keyID, keyIDs(list), err)
			}
		}
	}
}

func revokedKey(e *keyEnv) {
	app, old := appWithKey(e)
	active := rotateKey(e, e.a, app.ID)
	verifies(e, e.b, app.ID, old, "a replaced key") // whoever caches, caches now
	revokeKey(e, e.a, app.ID, old)
	isRevoked(e, app.ID, old)
	verifies(e, e.b, app.ID, active, "the active key, when another was revoked")
	rotateKey(e, e.b, app.ID)
	isRevoked(e, app.ID, old)
}

func revokedActiveKey(e *keyEnv) {
	app, active := appWithKey(e)
	if _, err := e.b.signingKey(e, e.ctx, app.ID); err != nil {
		e.fatalf("expected SigningKey to return the active key\nthe store returned the error %q", err)
	}
	revokeKey(e, e.a, app.ID, active)
	isRevoked(e, app.ID, active)
	for _, h := range []*keys{e.b, e.a} {
		k, err := h.signingKey(e, e.ctx, app.ID)
		switch { // a store may put another key in its place
		case err != nil:
			wantKeyError(e, "SigningKey when the active key was revoked", err, renew.ErrKeyNotFound)
		case k.VerificationKey().KeyID() == active:
			e.failf("expected a revoked key to sign no more\nthe store returned it from SigningKey")
		}
	}
	next := rotateKey(e, e.b, app.ID)
	if k, err := e.a.signingKey(e, e.ctx, app.ID); err != nil || k.VerificationKey().KeyID() != next {
		e.failf("expected SigningKey to return the key that was rotated in after a revocation, %s\nthe store returned another, or the error %v", next, err)
	}
}

func revokesNoOtherKey(e *keyEnv) {
	app, first := appWithKey(e)
	second := rotateKey(e, e.a, app.ID)
	third := rotateKey(e, e.a, app.ID)
	other := newApp(e)
	other.ID += "-other"
	createApp(e, other)
	otherID := rotateKey(e, e.a, other.ID)
	revokeKey(e, e.b, app.ID, second)
	verifies(e, e.a, app.ID, first, "a key, when another was revoked")
	verifies(e, e.a, app.ID, third, "a key, when another was revoked")
	verifies(e, e.a, other.ID, otherID, "a key, when another app's was revoked")
	if k, err := e.a.signingKey(e, e.ctx, app.ID); err != nil || k.VerificationKey().KeyID() != third {
		e.failf("expected the active key to stay when another was revoked, %s\nthe store returned another, or the error %v", third, err)
	}
}

func appKeyOverlap(e *keyEnv) {
	old, next := newKeyHash(), newKeyHash()
	app := newApp(e)
	app.KeyHashes = []renew.AppKeyHash{old}
	createApp(e, app)
	hasApp(e, "with the hash of its app key", app)

	if err := e.b.AddAppKey(e.ctx, app.ID, next); err != nil {
		e.fatalf("expected AddAppKey to add a hash\nit returned the error %q", err)
	}
	app.KeyHashes = []renew.AppKeyHash{old, next}
	hasApp(e, "with the hashes of the old app key and of the new one", app)

	if err := e.a.RemoveAppKey(e.ctx, app.ID, old); err != nil {
		e.fatalf("expected RemoveAppKey to remove a hash\nit returned the error %q", err)
	}
	app.KeyHashes = []renew.AppKeyHash{next}
	hasApp(e, "with the hash of the new app key alone", app)
}

func exactApps(e *keyEnv) {
	for _, group := range confusable {
		var apps []renew.App
		for _, name := range group {
			app := newApp(e)
			app.Issuer = name
			if len(name) > 255-len(e.app) {
				name = strings.ToValidUTF8(name[len(e.app):], "")
			}
			app.ID = e.app + name
			if strings.HasPrefix(name, " ") {
				app.ID = name + e.app
			}
			if _, err := e.b.app(e, e.ctx, app.ID); !errors.Is(err, renew.ErrAppNotFound) {
				e.failf("expected ErrAppNotFound for %s, when only others of its kind were stored\nthe store returned %v", named("app", app.ID), err)
			}
			createApp(e, app)
			apps = append(apps, app)
		}
		for _, app := range apps {
			hasApp(e, "as it was created", app)
		}
	}
}

func keysDone(e *keyEnv) {
	app, keyID := appWithKey(e)
	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	late, cancel := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{cancelled, late} {
		for _, c := range keyCalls(e, e.b, app.ID, keyID) {
			wantKeyError(e, c.method+" with a context that is done", c.call(ctx), ctx.Err())
		}
	}
}

func keyCalls(e *keyEnv, h *keys, appID, keyID string) []outageCall {
	calls := []outageCall{
		{"App", func(ctx context.Context) error { _, err := h.app(e, ctx, appID); return err }},
		{"SigningKey", func(ctx context.Context) error { _, err := h.signingKey(e, ctx, appID); return err }},
		{"VerificationKey", func(ctx context.Context) error { _, err := h.verificationKey(e, ctx, appID, keyID); return err }},
	}
	if _, ok := h.Store.(renew.KeyLister); ok {
		calls = append(calls, outageCall{"VerificationKeys", func(ctx context.Context) error { _, err := h.list(e, ctx, appID); return err }})
	}
	return calls
}

func sharesNoHashes(e *keyEnv) {
	app := newApp(e)
	want := app
	want.KeyHashes = slices.Clone(app.KeyHashes)
	createApp(e, app)
	app.KeyHashes[0][0] ^= 0xff
	hasApp(e, "as it was created, after a change to the slice that CreateApp was given", want)
	got, err := e.a.app(e, e.ctx, app.ID)
	if err != nil {
		e.fatalf("expected App to return the app\nthe store returned the error %q", err)
	}
	for i := range got.KeyHashes {
		got.KeyHashes[i][0] ^= 0xff
	}
	hasApp(e, "as it was created, after a change to the slice that App had returned", want)
}

func keysOutage(e *keyEnv) {
	app, keyID := appWithKey(e)
	if e.outage == nil {
		e.skip("the test of this store gives no WithOutage")
	}
	var restore func()
	e.hook(func(tb testing.TB) { restore = e.outage(tb) })
	defer e.hook(func(testing.TB) { restore() })
	for i := range 2 {
		for _, c := range keyCalls(e, e.handle(i), app.ID, keyID) {
			ctx, cancel := context.WithTimeout(e.ctx, e.scaled(outageLimit))
			err := c.call(ctx)
			cancel()
			for _, wrong := range []error{nil, renew.ErrAppNotFound, renew.ErrKeyNotFound, renew.ErrKeyRevoked} {
				if errors.Is(err, wrong) {
					e.failf("expected an error of its own of %s while the backing store is unreachable\nthe store returned %v", c.method, err)
				}
			}
		}
	}
}

func listsActiveFirst(e *keyEnv) {
	app, first := appWithKey(e)
	second := rotateKey(e, e.a, app.ID)
	third := rotateKey(e, e.b, app.ID)
	other := newApp(e)
	other.ID += "-other"
	createApp(e, other)
	rotateKey(e, e.a, other.ID)
	lists := func(what string, want ...string) {
		for _, h := range []*keys{e.a, e.b} {
			list, err := h.list(e, e.ctx, app.ID)
			if err != nil {
				e.fatalf("expected VerificationKeys to return the keys\nthe store returned the error %q", err)
			}
			got := keyIDs(list)
			if len(got) == 0 || got[0] != want[0] || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
				e.failf("expected VerificationKeys to return %s first, of %q: %s\nthe store returned %q", want[0], want, what, got)
			}
		}
	}
	lists("the active key and two that were replaced", third, first, second)
	revokeKey(e, e.a, app.ID, second)
	lists("the active key and one that was replaced, for the other was revoked", third, first)
}

func keysCrash(e *keyEnv) {
	if e.crash == nil {
		e.skip("the test of this store gives no WithCrash: right for one that is not durable")
	}
	app, old := appWithKey(e)
	revoked := rotateKey(e, e.a, app.ID)
	active := rotateKey(e, e.b, app.ID)
	revokeKey(e, e.a, app.ID, revoked)
	e.hook(func(tb testing.TB) { e.crash(tb) })
	e.a, e.b = e.openHandle(), e.openHandle()
	hasApp(e, "as it was created, after a crash", app)
	verifies(e, e.a, app.ID, old, "a replaced key, after a crash")
	isRevoked(e, app.ID, revoked)
	if k, err := e.b.signingKey(e, e.ctx, app.ID); err != nil || k.VerificationKey().KeyID() != active {
		e.failf("expected SigningKey to return the active key, %s, after a crash\nthe store returned another, or the error %v", active, err)
	}
}
