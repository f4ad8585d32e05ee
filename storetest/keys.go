package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// TestKeyStore holds a store to the laws K1 to K17, which the comment of this
// package tells. It fills the store through [renew.KeyAdmin].
//
// open returns a handle on the backing store, the same backing store each time,
// and registers with tb.Cleanup what closes the handle, as for [TestTokenStore]. A
// store that caches is opened so that it asks every time: its documentation says
// how long a cache may show what is past. The backing store may hold other apps;
// law K15 deletes the signing keys that expired more than a minute ago.
//
// A store that does not implement [renew.KeyAdmin] is tested as far as one can
// that only reads: name apps that it holds with [WithApps]. The laws about
// [renew.KeyLister], [renew.AppLister] and [renew.PublishedKeyStore] are skipped for a
// store that does not implement them.
func TestKeyStore(t *testing.T, open func(tb testing.TB) renew.KeyStore, opts ...Option) {
	newKeySuite(open, newConfig(opts)).test(t)
}

// WithApps names apps that a [renew.KeyStore] holds which does not implement
// [renew.KeyAdmin], for [TestKeyStore] to read. They must not change while it
// runs.
func WithApps(appIDs ...string) Option {
	return func(c *config) { c.apps = appIDs }
}

func newKeySuite(open func(tb testing.TB) renew.KeyStore, c config) *suite[*keys] {
	return &suite[*keys]{
		laws:   keyLaws(),
		open:   func(tb testing.TB) *keys { return &keys{store: open(tb)} },
		watch:  func(h *keys, number int, log *callLog) *keys { return &keys{h.store, caller{number: number, log: log}} },
		audit:  auditKeys,
		apart:  keysApart,
		config: c,
	}
}

// keysApart reports whether the second handle does not have what the first stores.
func keysApart(e *keyEnv) bool {
	admin, ok := e.a.store.(renew.KeyAdmin)
	app := newApp(e)
	if !ok || admin.CreateApp(e.ctx, app) != nil {
		return false
	}
	_, err := e.b.App(e.ctx, app.ID)
	return errors.Is(err, renew.ErrAppNotFound)
}

// auditKeys looks at the list of apps when a case is over.
func auditKeys(e *keyEnv) {
	if e.failed() {
		return
	}
	for _, h := range []*keys{e.a, e.b} {
		if !h.listsApps() {
			return
		}
		list, err := h.AppIDs(e.ctx)
		if err != nil {
			e.breaks("K16", "expected AppIDs to return the ID of every app\nthe store returned the error %q", err)
			return
		}
		for i := 1; i < len(list); i++ {
			if list[i-1] >= list[i] {
				e.breaks("K16", "expected AppIDs to return each ID once, in the order of their bytes\nthe store returned %q before %q", list[i-1], list[i])
				return
			}
		}
		for _, id := range append(slices.Sorted(maps.Keys(e.log.apps)), e.config.apps...) {
			if _, found := slices.BinarySearch(list, id); !found {
				e.breaks("K16", "expected AppIDs to return the ID of every app, from handle %d\nthe store returned %d IDs, without %q", h.number, len(list), id)
				return
			}
		}
		for _, id := range list {
			if !strings.Contains(id, e.app) || e.log.apps[id] {
				continue
			}
			if _, err := h.App(e.ctx, id); errors.Is(err, renew.ErrAppNotFound) {
				e.breaks("K16", "expected AppIDs to return no ID of an app that is not there\nthe store returned %q", id)
				return
			}
		}
	}
}

type keyEnv = env[*keys]

// keys is a handle on a KeyStore that records the calls made through it.
type keys struct {
	store renew.KeyStore
	caller
}

// What the store implements in addition.
func (h *keys) lists() bool            { return has[renew.KeyLister](h.store) }
func (h *keys) listsApps() bool        { return has[renew.AppLister](h.store) }
func (h *keys) returnsPublished() bool { return has[renew.PublishedKeyStore](h.store) }
func (h *keys) administers() bool      { return has[renew.KeyAdmin](h.store) }

var errNoKey = errors.New("neither a key nor an error")

// notNil makes an error of a key that is nil without one.
func notNil[K any](key *K, err error) (*K, error) {
	if err == nil && key == nil {
		err = errNoKey
	}
	return key, err
}

// showKey returns what a call shows of a key.
func showKey[K interface{ KeyID() string }](key K) string { return "key " + key.KeyID() }

// ofKey returns the arguments of a call about a key.
func ofKey(appID, keyID string) func() string {
	return func() string { return named("app", appID) + ", " + named("key", keyID) }
}

func (h *keys) App(ctx context.Context, id string) (renew.App, error) {
	return called(ctx, h.reading(), "App", func() string { return named("app", id) },
		func() (renew.App, error) { return h.store.App(ctx, id) },
		func(app renew.App) string {
			return fmt.Sprintf("app %q with %d key hashes", app.ID, len(app.KeyHashes))
		})
}

func (h *keys) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	return called(ctx, h.reading(), "SigningKey", func() string { return named("app", appID) }, func() (*renew.SigningKey, error) {
		return notNil(h.store.SigningKey(ctx, appID))
	}, showKey)
}

func (h *keys) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	return called(ctx, h.reading(), "VerificationKey", ofKey(appID, keyID), func() (*renew.VerificationKey, error) {
		return notNil(h.store.VerificationKey(ctx, appID, keyID))
	}, showKey)
}

func (h *keys) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	return called(ctx, h.reading(), "VerificationKeys", func() string { return named("app", appID) }, func() ([]*renew.VerificationKey, error) {
		list, err := h.store.(renew.KeyLister).VerificationKeys(ctx, appID)
		if slices.Contains(list, nil) {
			err = errors.Join(err, errNoKey)
		}
		return list, err
	}, func(list []*renew.VerificationKey) string { return fmt.Sprint(keyIDs(list)) })
}

func (h *keys) AppIDs(ctx context.Context) ([]string, error) {
	return called(ctx, h.reading(), "AppIDs", func() string { return "" },
		func() ([]string, error) { return h.store.(renew.AppLister).AppIDs(ctx) },
		func(list []string) string { return fmt.Sprintf("%d IDs", len(list)) })
}

func (h *keys) PublishedKey(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
	return called(ctx, h.reading(), "PublishedKey", ofKey(appID, keyID), func() (*renew.SigningKey, error) {
		return notNil(h.store.(renew.PublishedKeyStore).PublishedKey(ctx, appID, keyID))
	}, showKey)
}

func keyIDs(list []*renew.VerificationKey) (ids []string) {
	for _, k := range list {
		ids = append(ids, k.KeyID())
	}
	return ids
}

func needsAdmin(e *keyEnv) { e.needs(e.a.administers(), "renew.KeyAdmin") }

type keyOp = op[*keys, *tenant]

// errInvalid stands for any error that the laws do not name.
var errInvalid = errors.New("an error that the laws do not name")

// adminOp returns a call of KeyAdmin.
func adminOp(name, args string, call func(ctx context.Context, a renew.KeyAdmin) error, apply func(t *tenant) error) keyOp {
	return writeOp(name, func(ctx context.Context, h *keys) error {
		return did(ctx, h.plain(), name, func() string { return args }, func() error { return call(ctx, h.store.(renew.KeyAdmin)) })
	}, apply)
}

func createOp(app renew.App) keyOp {
	op := adminOp("CreateApp", named("app", app.ID),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.CreateApp(ctx, app) },
		func(*tenant) error { return renew.ErrAppExists })
	create := op.call
	op.call = func(ctx context.Context, h *keys) (string, error) {
		_, err := create(ctx, h)
		if err == nil {
			h.log.created(app.ID)
		}
		return "", err
	}
	return op
}

func updateOp(app renew.App) keyOp {
	return adminOp("UpdateApp", named("app", app.ID),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.UpdateApp(ctx, app) },
		func(t *tenant) error { return t.update(app) })
}

func addOp(appID string, hash renew.AppKeyHash) keyOp {
	return adminOp("AddAppKey", fmt.Sprintf("app %q, hash %.15s…", appID, hash),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.AddAppKey(ctx, appID, hash) },
		func(t *tenant) error { return t.addAppKey(hash) })
}

func removeOp(appID string, hash renew.AppKeyHash) keyOp {
	return adminOp("RemoveAppKey", fmt.Sprintf("app %q, hash %.15s…", appID, hash),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.RemoveAppKey(ctx, appID, hash) },
		func(t *tenant) error { return t.removeAppKey(hash) })
}

func publishOp(appID string, key *renew.SigningKey) keyOp {
	return adminOp("PublishSigningKey", fmt.Sprintf("app %q, key %s", appID, key.KeyID()),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.PublishSigningKey(ctx, appID, key) },
		func(t *tenant) error { return t.publish(key) })
}

func rotateOp(appID string, key *renew.SigningKey, now time.Time) keyOp {
	return adminOp("RotateSigningKey", fmt.Sprintf("app %q, key %s, at %s", appID, key.KeyID(), clock(now)),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.RotateSigningKey(ctx, appID, key, now) },
		func(t *tenant) error { return t.rotate(key, now) })
}

func revokeOp(appID, keyID string, at time.Time) keyOp {
	return adminOp("RevokeKey", fmt.Sprintf("app %q, key %q, at %s", appID, keyID, clock(at)),
		func(ctx context.Context, a renew.KeyAdmin) error { return a.RevokeKey(ctx, appID, keyID, at) },
		func(t *tenant) error { return t.revoke(keyID, at) })
}

func (h *keys) deleteExpiredKeys(ctx context.Context, before time.Time) (int, error) {
	return called(ctx, h.caller, "DeleteExpiredKeys", func() string { return "before " + clock(before) },
		func() (int, error) { return h.store.(renew.KeyAdmin).DeleteExpiredKeys(ctx, before) },
		func(n int) string { return fmt.Sprint(n) })
}
