package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// keyBacking is what handles on a key store share.
type keyBacking struct {
	mu      sync.Mutex
	apps    map[string]*tenant
	down    bool
	onCrash func()
}

func newKeyBacking() *keyBacking { return &keyBacking{apps: map[string]*tenant{}} }

func (b *keyBacking) locked(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *keyBacking) options() []Option {
	return []Option{
		WithOutage(func(testing.TB) func() {
			b.locked(func() { b.down = true })
			return func() { b.locked(func() { b.down = false }) }
		}),
		WithCrash(func(testing.TB) {
			b.locked(func() {
				if b.onCrash != nil {
					b.onCrash()
				}
			})
		}),
	}
}

// on runs f on an app, if the context and the connection allow it.
func (b *keyBacking) on(ctx context.Context, appID string, f func(*tenant) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errUnreachable
	}
	t := b.apps[appID]
	if t == nil {
		return renew.ErrAppNotFound
	}
	return f(t)
}

// allKeys is everything that a key store can be.
type allKeys interface {
	renew.KeyStore
	renew.KeyLister
	renew.KeyAdmin
	renew.AppLister
	renew.PublishedKeyStore
}

// soundKeys is a correct key store. The wrong ones are made from it.
type soundKeys struct {
	*keyBacking
	signers *sync.Map // of signerName, to *renew.SigningKey
}

func newSoundKeys() soundKeys { return soundKeys{newKeyBacking(), &sync.Map{}} }

func (s soundKeys) App(ctx context.Context, appID string) (app renew.App, err error) {
	err = s.on(ctx, appID, func(t *tenant) error {
		app = t.app.Clone()
		return nil
	})
	return app, err
}

func (s soundKeys) signer(k *renew.VerificationKey) *renew.SigningKey {
	key, _ := s.signers.Load(signerName(k))
	return key.(*renew.SigningKey)
}

// signerName tells signing keys apart: one private key may sign with two algorithms.
func signerName(k *renew.VerificationKey) string {
	return string(k.Algorithm()) + k.PublicKey() + k.KeyID()
}

func (s soundKeys) SigningKey(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
	err = s.on(ctx, appID, func(t *tenant) error {
		if t.active == "" {
			return renew.ErrKeyNotFound
		}
		key = s.signer(t.keys[t.active].key)
		return nil
	})
	return key, err
}

func (t *tenant) find(keyID string) (*renew.VerificationKey, error) {
	k, ok := t.keys[keyID]
	switch {
	case !ok:
		return nil, renew.ErrKeyNotFound
	case k.revoked:
		return nil, renew.ErrKeyRevoked
	case k.until.IsZero():
		return k.key, nil
	}
	return k.key.Until(k.until), nil
}

func (s soundKeys) VerificationKey(ctx context.Context, appID, keyID string) (key *renew.VerificationKey, err error) {
	err = s.on(ctx, appID, func(t *tenant) error {
		key, err = t.find(keyID)
		return err
	})
	return key, err
}

func (s soundKeys) VerificationKeys(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
	err = s.on(ctx, appID, func(t *tenant) error {
		for _, id := range slices.Sorted(maps.Keys(t.keys)) {
			switch key, err := t.find(id); {
			case err != nil:
			case id == t.active:
				list = slices.Insert(list, 0, key)
			default:
				list = append(list, key)
			}
		}
		return nil
	})
	return list, err
}

func (s soundKeys) AppIDs(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errUnreachable
	}
	return slices.Sorted(maps.Keys(s.apps)), nil
}

func (s soundKeys) PublishedKey(ctx context.Context, appID, keyID string) (key *renew.SigningKey, err error) {
	err = s.on(ctx, appID, func(t *tenant) error {
		if !t.isPublished(keyID) {
			return renew.ErrKeyNotFound
		}
		key = s.signer(t.keys[keyID].key)
		return nil
	})
	return key, err
}

func (s soundKeys) CreateApp(ctx context.Context, app renew.App) error {
	if err := s.on(ctx, app.ID, func(*tenant) error { return renew.ErrAppExists }); err == nil || !isNamed(err) {
		return err
	}
	if err := app.Validate(); err != nil {
		return err
	}
	app = app.Clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apps[app.ID] != nil {
		return renew.ErrAppExists
	}
	s.apps[app.ID] = &tenant{app: app, keys: map[string]keyState{}}
	return nil
}

func (s soundKeys) UpdateApp(ctx context.Context, app renew.App) error {
	return s.on(ctx, app.ID, func(t *tenant) error { return t.update(app) })
}

func (s soundKeys) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.on(ctx, appID, func(t *tenant) error { return t.addAppKey(hash) })
}

func (s soundKeys) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return s.on(ctx, appID, func(t *tenant) error { return t.removeAppKey(hash) })
}

func (s soundKeys) keep(key *renew.SigningKey) {
	s.signers.Store(signerName(key.VerificationKey()), key)
}

func (s soundKeys) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	s.keep(key)
	return s.on(ctx, appID, func(t *tenant) error { return t.publish(key) })
}

func (s soundKeys) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	s.keep(key)
	return s.on(ctx, appID, func(t *tenant) error { return t.rotate(key, now) })
}

func (s soundKeys) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return s.on(ctx, appID, func(t *tenant) error { return t.revoke(keyID, at) })
}

func (s soundKeys) DeleteExpiredKeys(ctx context.Context, before time.Time) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return 0, errUnreachable
	}
	for _, t := range s.apps {
		for id, k := range t.keys {
			if !k.expires.IsZero() && k.expires.Before(before) {
				delete(t.keys, id)
				n++
			}
		}
	}
	return n, nil
}

// TestSoundKeyStore shows that a correct store passes, with every law tested and
// none skipped.
func TestSoundKeyStore(t *testing.T) {
	t.Parallel()
	s := newSoundKeys()
	TestKeyStore(t, func(testing.TB) renew.KeyStore { return s }, s.options()...)
}

// TestReadOnlyKeyStore shows that a store without KeyAdmin passes, and that the
// apps which it holds are looked at.
func TestReadOnlyKeyStore(t *testing.T) {
	s := newSoundKeys()
	for _, id := range []string{"first", "second"} {
		e := &keyEnv{app: id, now: base}
		if err := errors.Join(
			s.CreateApp(t.Context(), renew.App{ID: id, Issuer: id, KeyHashes: []renew.AppKeyHash{newKeyHash()}}),
			s.RotateSigningKey(t.Context(), id, newKey(e), base),
			s.RotateSigningKey(t.Context(), id, newKey(e), base.Add(time.Hour)),
		); err != nil {
			t.Fatal(err)
		}
	}
	type readOnly interface {
		renew.KeyStore
		renew.KeyLister
	}
	open := func(testing.TB) renew.KeyStore { return struct{ readOnly }{s} }
	TestKeyStore(t, open, append(s.options(), WithApps("first", "second"))...)

	wrong := struct{ readOnly }{&patchedKeys{allKeys: s, verify: func(ctx context.Context, _, keyID string) (*renew.VerificationKey, error) {
		k, err := s.VerificationKey(ctx, "first", keyID)
		if err != nil {
			return s.VerificationKey(ctx, "second", keyID)
		}
		return k, nil
	}}}
	c := newConfig([]Option{WithApps("first", "second")})
	suite := newKeySuite(func(testing.TB) renew.KeyStore { return wrong }, c)
	caught := false
	for _, l := range suite.laws {
		for _, c := range l.cases {
			for _, f := range suite.run(t, l, c).failures {
				caught = caught || f.law == "K3"
			}
		}
	}
	if !caught {
		t.Error("a read-only store that confuses the keys of two apps passes")
	}
}

// patchedKeys is a store of which some methods were replaced.
type patchedKeys struct {
	allKeys
	app     func(ctx context.Context, appID string) (renew.App, error)
	sign    func(ctx context.Context, appID string) (*renew.SigningKey, error)
	verify  func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error)
	list    func(ctx context.Context, appID string) ([]*renew.VerificationKey, error)
	create  func(ctx context.Context, app renew.App) error
	update  func(ctx context.Context, app renew.App) error
	add     func(ctx context.Context, appID string, hash renew.AppKeyHash) error
	remove  func(ctx context.Context, appID string, hash renew.AppKeyHash) error
	publish func(ctx context.Context, appID string, key *renew.SigningKey) error
	rotate  func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error
	revoke  func(ctx context.Context, appID, keyID string, at time.Time) error
	purge   func(ctx context.Context, before time.Time) (int, error)
	ids     func(ctx context.Context) ([]string, error)
	unused  func(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) // PublishedKey
}

func (p *patchedKeys) AppIDs(ctx context.Context) ([]string, error) {
	if p.ids != nil {
		return p.ids(ctx)
	}
	return p.allKeys.AppIDs(ctx)
}

func (p *patchedKeys) PublishedKey(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
	if p.unused != nil {
		return p.unused(ctx, appID, keyID)
	}
	return p.allKeys.PublishedKey(ctx, appID, keyID)
}

func (p *patchedKeys) App(ctx context.Context, appID string) (renew.App, error) {
	if p.app != nil {
		return p.app(ctx, appID)
	}
	return p.allKeys.App(ctx, appID)
}

func (p *patchedKeys) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	if p.sign != nil {
		return p.sign(ctx, appID)
	}
	return p.allKeys.SigningKey(ctx, appID)
}

func (p *patchedKeys) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	if p.verify != nil {
		return p.verify(ctx, appID, keyID)
	}
	return p.allKeys.VerificationKey(ctx, appID, keyID)
}

func (p *patchedKeys) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	if p.list != nil {
		return p.list(ctx, appID)
	}
	return p.allKeys.VerificationKeys(ctx, appID)
}

func (p *patchedKeys) CreateApp(ctx context.Context, app renew.App) error {
	if p.create != nil {
		return p.create(ctx, app)
	}
	return p.allKeys.CreateApp(ctx, app)
}

func (p *patchedKeys) UpdateApp(ctx context.Context, app renew.App) error {
	if p.update != nil {
		return p.update(ctx, app)
	}
	return p.allKeys.UpdateApp(ctx, app)
}

func (p *patchedKeys) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	if p.add != nil {
		return p.add(ctx, appID, hash)
	}
	return p.allKeys.AddAppKey(ctx, appID, hash)
}

func (p *patchedKeys) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	if p.remove != nil {
		return p.remove(ctx, appID, hash)
	}
	return p.allKeys.RemoveAppKey(ctx, appID, hash)
}

func (p *patchedKeys) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	if p.publish != nil {
		return p.publish(ctx, appID, key)
	}
	return p.allKeys.PublishSigningKey(ctx, appID, key)
}

func (p *patchedKeys) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	if p.rotate != nil {
		return p.rotate(ctx, appID, key, now)
	}
	return p.allKeys.RotateSigningKey(ctx, appID, key, now)
}

func (p *patchedKeys) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	if p.revoke != nil {
		return p.revoke(ctx, appID, keyID, at)
	}
	return p.allKeys.RevokeKey(ctx, appID, keyID, at)
}

func (p *patchedKeys) DeleteExpiredKeys(ctx context.Context, before time.Time) (int, error) {
	if p.purge != nil {
		return p.purge(ctx, before)
	}
	return p.allKeys.DeleteExpiredKeys(ctx, before)
}
