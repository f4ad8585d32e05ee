package storetest

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// keyBacking is what handles on a key store share.
type keyBacking struct {
	mu      sync.Mutex
	apps    map[string]*keyTenant
	down    bool
	onCrash func()
}

type keyTenant struct {
	app     renew.App
	keys    []*renew.SigningKey // the last one is active
	revoked map[string]bool
}

func newKeyBacking() *keyBacking { return &keyBacking{apps: map[string]*keyTenant{}} }

func (b *keyBacking) options() []Option {
	locked := func(f func()) {
		b.mu.Lock()
		defer b.mu.Unlock()
		f()
	}
	return []Option{
		WithOutage(func(testing.TB) func() {
			locked(func() { b.down = true })
			return func() { locked(func() { b.down = false }) }
		}),
		WithCrash(func(testing.TB) {
			locked(func() {
				if b.onCrash != nil {
					b.onCrash()
				}
			})
		}),
	}
}

// on runs f on an app, if the context and the connection allow it.
func (b *keyBacking) on(ctx context.Context, appID string, f func(*keyTenant) error) error {
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

// soundKeys is a correct key store. The wrong ones are made from it.
type soundKeys struct{ *keyBacking }

func (s soundKeys) App(ctx context.Context, appID string) (app renew.App, err error) {
	err = s.on(ctx, appID, func(t *keyTenant) error {
		app = t.app
		app.KeyHashes = slices.Clone(app.KeyHashes)
		return nil
	})
	return app, err
}

func (s soundKeys) SigningKey(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
	err = s.on(ctx, appID, func(t *keyTenant) error {
		if len(t.keys) == 0 || t.revoked[idOf(t.keys[len(t.keys)-1])] {
			return renew.ErrKeyNotFound
		}
		key = t.keys[len(t.keys)-1]
		return nil
	})
	return key, err
}

func idOf(k *renew.SigningKey) string { return k.VerificationKey().KeyID() }

func (t *keyTenant) find(keyID string) (*renew.VerificationKey, error) {
	for _, k := range t.keys {
		switch {
		case idOf(k) != keyID:
		case t.revoked[keyID]:
			return nil, renew.ErrKeyRevoked
		default:
			return k.VerificationKey(), nil
		}
	}
	return nil, renew.ErrKeyNotFound
}

func (s soundKeys) VerificationKey(ctx context.Context, appID, keyID string) (key *renew.VerificationKey, err error) {
	err = s.on(ctx, appID, func(t *keyTenant) error {
		key, err = t.find(keyID)
		return err
	})
	return key, err
}

func (s soundKeys) VerificationKeys(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
	err = s.on(ctx, appID, func(t *keyTenant) error {
		for _, k := range slices.Backward(t.keys) {
			if !t.revoked[idOf(k)] {
				list = append(list, k.VerificationKey())
			}
		}
		return nil
	})
	return list, err
}

// admin returns the functions that fill the store.
func (s soundKeys) admin(store renew.KeyStore) Keys {
	return Keys{
		Store: store,
		CreateApp: func(_ context.Context, app renew.App) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			app.KeyHashes = slices.Clone(app.KeyHashes)
			s.apps[app.ID] = &keyTenant{app: app, revoked: map[string]bool{}}
			return nil
		},
		UpdateApp: func(ctx context.Context, app renew.App) error {
			return s.on(ctx, app.ID, func(t *keyTenant) error {
				app.KeyHashes = t.app.KeyHashes
				t.app = app
				return nil
			})
		},
		AddAppKey: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *keyTenant) error {
				t.app.KeyHashes = append(slices.Clone(t.app.KeyHashes), hash)
				return nil
			})
		},
		RemoveAppKey: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *keyTenant) error {
				t.app.KeyHashes = slices.DeleteFunc(slices.Clone(t.app.KeyHashes), func(h renew.AppKeyHash) bool { return h == hash })
				return nil
			})
		},
		RotateSigningKey: func(ctx context.Context, appID string) (string, error) {
			key, err := renew.GenerateSigningKey(renew.ES256)
			if err != nil {
				return "", err
			}
			return idOf(key), s.on(ctx, appID, func(t *keyTenant) error {
				t.keys = append(t.keys, key)
				return nil
			})
		},
		RevokeKey: func(ctx context.Context, appID, keyID string) error {
			return s.on(ctx, appID, func(t *keyTenant) error {
				t.revoked[keyID] = true
				return nil
			})
		},
	}
}

// TestSoundKeyStore shows that a correct store passes, with every law tested and
// none skipped.
func TestSoundKeyStore(t *testing.T) {
	b := newKeyBacking()
	TestKeyStore(t, func(testing.TB) Keys { return soundKeys{b}.admin(soundKeys{b}) }, b.options()...)
}

// patchedKeys is a sound store of which some methods were replaced.
type patchedKeys struct {
	soundKeys
	app    func(ctx context.Context, appID string) (renew.App, error)
	sign   func(ctx context.Context, appID string) (*renew.SigningKey, error)
	verify func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error)
	list   func(ctx context.Context, appID string) ([]*renew.VerificationKey, error)
}

func (p *patchedKeys) App(ctx context.Context, appID string) (renew.App, error) {
	if p.app != nil {
		return p.app(ctx, appID)
	}
	return p.soundKeys.App(ctx, appID)
}

func (p *patchedKeys) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	if p.sign != nil {
		return p.sign(ctx, appID)
	}
	return p.soundKeys.SigningKey(ctx, appID)
}

func (p *patchedKeys) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	if p.verify != nil {
		return p.verify(ctx, appID, keyID)
	}
	return p.soundKeys.VerificationKey(ctx, appID, keyID)
}

func (p *patchedKeys) VerificationKeys(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	if p.list != nil {
		return p.list(ctx, appID)
	}
	return p.soundKeys.VerificationKeys(ctx, appID)
}

// wrongKeyStore is a key store that is wrong in one way, as wrongStore is.
type wrongKeyStore struct {
	name  string
	law   string
	also  []string
	store func(s soundKeys) *patchedKeys
	admin func(s soundKeys, k Keys) Keys // nil: that of the sound store
}

// appChanged returns a store whose App returns what f makes of the app.
func appChanged(f func(*renew.App)) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			app, err := s.App(ctx, appID)
			if err == nil {
				f(&app)
			}
			return app, err
		}}
	}
}

// afterVerify returns a store whose VerificationKey ends in f.
func afterVerify(f func(s soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error)) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{soundKeys: s, verify: func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
			k, err := s.VerificationKey(ctx, appID, keyID)
			return f(s, keyID, k, err)
		}}
	}
}

// anyKey returns a key of this ID, of whatever app, that match takes.
func (b *keyBacking) anyKey(match func(id string) bool) *renew.VerificationKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.apps {
		for _, k := range t.keys {
			if match(idOf(k)) && !t.revoked[idOf(k)] {
				return k.VerificationKey()
			}
		}
	}
	return nil
}

func fine(s soundKeys) *patchedKeys { return &patchedKeys{soundKeys: s} }

func wrongKeyStores() []wrongKeyStore {
	return []wrongKeyStore{
		{name: "forgets the issuer", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.Issuer = "" })},
		{name: "forgets AuthTTL", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.AuthTTL = 0 })},
		{name: "forgets AuthNotBefore", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.AuthNotBefore = 0 })},
		{name: "forgets RefreshTTL", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.RefreshTTL = 0 })},
		{name: "forgets RefreshNotBefore", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.RefreshNotBefore = 0 })},
		{name: "forgets SessionTTL", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.SessionTTL = 0 })},
		{name: "keeps minutes", law: "K1", also: []string{"K7", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.RefreshTTL = a.RefreshTTL.Truncate(time.Minute) })},
		{name: "puts the default in place of zero", law: "K1", store: appChanged(func(a *renew.App) {
			if a.RefreshTTL == 0 {
				a.RefreshTTL = renew.DefaultRefreshTTL
			}
		})},
		{name: "caches the app", law: "K1", also: []string{"K7", "K9", "K11"}, store: func(s soundKeys) *patchedKeys {
			var mu sync.Mutex
			cache := map[string]renew.App{}
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				mu.Lock()
				defer mu.Unlock()
				if app, ok := cache[appID]; ok {
					app.KeyHashes = slices.Clone(app.KeyHashes)
					return app, nil
				}
				app, err := s.App(ctx, appID)
				if err == nil {
					cache[appID] = app
					app.KeyHashes = slices.Clone(app.KeyHashes)
				}
				return app, err
			}}
		}},
		{name: "returns a zero app for an unknown one", law: "K2", also: []string{"K8"}, store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				app, err := s.App(ctx, appID)
				if errors.Is(err, renew.ErrAppNotFound) {
					return renew.App{}, nil
				}
				return app, err
			}}
		}},
		{name: "returns the driver's error for an unknown app", law: "K2", also: []string{"K8"}, store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				app, err := s.App(ctx, appID)
				if errors.Is(err, renew.ErrAppNotFound) {
					err = sql.ErrNoRows
				}
				return app, err
			}}
		}},
		{name: "lists no keys of an unknown app", law: "K2", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
				list, err := s.VerificationKeys(ctx, appID)
				if errors.Is(err, renew.ErrAppNotFound) {
					err = nil
				}
				return list, err
			}}
		}},
		{name: "returns the driver's error for an unknown key", law: "K3", store: afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
			if errors.Is(err, renew.ErrKeyNotFound) {
				err = sql.ErrNoRows
			}
			return k, err
		})},
		{name: "finds keys by their ID alone", law: "K3", store: afterVerify(func(s soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
			if other := s.anyKey(func(id string) bool { return id == keyID }); errors.Is(err, renew.ErrKeyNotFound) && other != nil {
				return other, nil
			}
			return k, err
		})},
		{name: "ignores the case of key IDs", law: "K3", store: afterVerify(func(s soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
			if other := s.anyKey(func(id string) bool { return strings.EqualFold(id, keyID) && id != keyID }); errors.Is(err, renew.ErrKeyNotFound) && other != nil {
				return other, nil
			}
			return k, err
		})},
		{name: "signs with the first key for ever", law: "K4", also: []string{"K6", "K13"}, store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, sign: func(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
				if key, err = s.SigningKey(ctx, appID); err != nil {
					return key, err
				}
				return key, s.on(ctx, appID, func(t *keyTenant) error { key = t.keys[0]; return nil })
			}}
		}},
		{name: "caches the signing key", law: "K4", also: []string{"K6", "K9", "K11", "K13"}, store: func(s soundKeys) *patchedKeys {
			var mu sync.Mutex
			cache := map[string]*renew.SigningKey{}
			return &patchedKeys{soundKeys: s, sign: func(ctx context.Context, appID string) (*renew.SigningKey, error) {
				mu.Lock()
				defer mu.Unlock()
				if cache[appID] != nil {
					return cache[appID], nil
				}
				key, err := s.SigningKey(ctx, appID)
				if err == nil {
					cache[appID] = key
				}
				return key, err
			}}
		}},
		{name: "returns another public key under the ID", law: "K4", also: []string{"K5"}, store: afterVerify(func(_ soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
			if err != nil {
				return nil, err
			}
			other, _ := renew.GenerateSigningKey(renew.ES256)
			return renew.NewVerificationKey(keyID, renew.ES256, other.VerificationKey().Public())
		})},
		{name: "signs with the newest key of any app", law: "K4", also: []string{"K3", "K6", "K13"}, store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, sign: func(ctx context.Context, appID string) (*renew.SigningKey, error) {
				key, err := s.SigningKey(ctx, appID)
				if err != nil {
					return nil, err
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, id := range slices.Sorted(maps.Keys(s.apps)) {
					t := s.apps[id]
					if n := len(t.keys); n > 0 && strings.HasPrefix(id, appID) {
						key = t.keys[n-1]
					}
				}
				return key, nil
			}}
		}},
		{name: "has no active key while it rotates", law: "K4", store: fine, admin: func(s soundKeys, k Keys) Keys {
			rotate := k.RotateSigningKey
			k.RotateSigningKey = func(ctx context.Context, appID string) (string, error) {
				var old []*renew.SigningKey
				if err := s.on(ctx, appID, func(t *keyTenant) error { old, t.keys = t.keys, nil; return nil }); err != nil {
					return "", err
				}
				id, err := rotate(ctx, appID)
				return id, errors.Join(err, s.on(ctx, appID, func(t *keyTenant) error { t.keys = slices.Concat(old, t.keys); return nil }))
			}
			return k
		}},
		{name: "deletes the replaced key", law: "K5", also: []string{"K4", "K6", "K12", "K13"}, store: fine, admin: func(s soundKeys, k Keys) Keys {
			rotate := k.RotateSigningKey
			k.RotateSigningKey = func(ctx context.Context, appID string) (string, error) {
				id, err := rotate(ctx, appID)
				return id, errors.Join(err, s.on(ctx, appID, func(t *keyTenant) error { t.keys = t.keys[len(t.keys)-1:]; return nil }))
			}
			return k
		}},
		{name: "keeps one replaced key", law: "K5", also: []string{"K4", "K6", "K12", "K13"}, store: fine, admin: func(s soundKeys, k Keys) Keys {
			rotate := k.RotateSigningKey
			k.RotateSigningKey = func(ctx context.Context, appID string) (string, error) {
				id, err := rotate(ctx, appID)
				return id, errors.Join(err, s.on(ctx, appID, func(t *keyTenant) error { t.keys = t.keys[max(0, len(t.keys)-2):]; return nil }))
			}
			return k
		}},
		{name: "says not found of a revoked key", law: "K6", also: []string{"K13"}, store: afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
			if errors.Is(err, renew.ErrKeyRevoked) {
				err = renew.ErrKeyNotFound
			}
			return k, err
		})},
		{name: "verifies with a revoked key", law: "K6", also: []string{"K13"}, store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, verify: func(ctx context.Context, appID, keyID string) (key *renew.VerificationKey, err error) {
				err = s.on(ctx, appID, func(t *keyTenant) error {
					all := &keyTenant{keys: t.keys}
					key, err = all.find(keyID)
					return err
				})
				return key, err
			}}
		}},
		{name: "caches verification keys", law: "K6", also: []string{"K9", "K11", "K13"}, store: func(s soundKeys) *patchedKeys {
			var cache sync.Map
			return &patchedKeys{soundKeys: s, verify: func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
				if k, ok := cache.Load([2]string{appID, keyID}); ok {
					return k.(*renew.VerificationKey), nil
				}
				k, err := s.VerificationKey(ctx, appID, keyID)
				if err == nil {
					cache.Store([2]string{appID, keyID}, k)
				}
				return k, err
			}}
		}},
		{name: "signs with a revoked key", law: "K6", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, sign: func(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
				err = s.on(ctx, appID, func(t *keyTenant) error {
					if len(t.keys) == 0 {
						return renew.ErrKeyNotFound
					}
					key = t.keys[len(t.keys)-1]
					return nil
				})
				return key, err
			}}
		}},
		{name: "revokes all older keys as well", law: "K6", also: []string{"K12", "K13"}, store: fine, admin: func(s soundKeys, k Keys) Keys {
			revoke := k.RevokeKey
			k.RevokeKey = func(ctx context.Context, appID, keyID string) error {
				return errors.Join(revoke(ctx, appID, keyID), s.on(ctx, appID, func(t *keyTenant) error {
					for _, key := range t.keys {
						if idOf(key) == keyID {
							break
						}
						t.revoked[idOf(key)] = true
					}
					return nil
				}))
			}
			return k
		}},
		{name: "lists revoked keys", law: "K6", also: []string{"K12", "K13"}, store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, list: func(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
				err = s.on(ctx, appID, func(t *keyTenant) error {
					for _, k := range slices.Backward(t.keys) {
						list = append(list, k.VerificationKey())
					}
					return nil
				})
				return list, err
			}}
		}},
		{name: "has room for one app key", law: "K7", also: []string{"K1", "K8", "K10", "K13"}, store: appChanged(func(a *renew.App) { a.KeyHashes = a.KeyHashes[:min(1, len(a.KeyHashes))] })},
		{name: "does not remove an app key", law: "K7", store: fine, admin: func(s soundKeys, k Keys) Keys {
			k.RemoveAppKey = func(ctx context.Context, _ string, _ renew.AppKeyHash) error { return ctx.Err() }
			return k
		}},
		{name: "removes all app keys", law: "K7", store: fine, admin: func(s soundKeys, k Keys) Keys {
			k.RemoveAppKey = func(ctx context.Context, appID string, _ renew.AppKeyHash) error {
				return s.on(ctx, appID, func(t *keyTenant) error { t.app.KeyHashes = nil; return nil })
			}
			return k
		}},
		{name: "ignores the case of app IDs", law: "K8", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				app, err := s.App(ctx, appID)
				if !errors.Is(err, renew.ErrAppNotFound) {
					return app, err
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				for id, t := range s.apps {
					if strings.EqualFold(id, appID) {
						return t.app, nil
					}
				}
				return app, err
			}}
		}},
		{name: "ignores trailing spaces of app IDs", law: "K8", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				return s.App(ctx, strings.TrimRight(appID, " "))
			}}
		}},
		{name: "ignores a done context", law: "K9", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				return s.App(context.WithoutCancel(ctx), appID)
			}}
		}},
		{name: "ignores a done context when it verifies", law: "K9", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, verify: func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
				return s.VerificationKey(context.WithoutCancel(ctx), appID, keyID)
			}}
		}},
		{name: "hands out its hashes", law: "K10", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (app renew.App, err error) {
				err = s.on(ctx, appID, func(t *keyTenant) error { app = t.app; return nil })
				return app, err
			}}
		}},
		{name: "keeps the hashes that it was given", law: "K10", store: fine, admin: func(s soundKeys, k Keys) Keys {
			k.CreateApp = func(_ context.Context, app renew.App) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.apps[app.ID] = &keyTenant{app: app, revoked: map[string]bool{}}
				return nil
			}
			return k
		}},
		{name: "says unknown app on an outage", law: "K11", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
				app, err := s.App(ctx, appID)
				if errors.Is(err, errUnreachable) {
					err = renew.ErrAppNotFound
				}
				return app, err
			}}
		}},
		{name: "says unknown key on an outage", law: "K11", store: afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
			if errors.Is(err, errUnreachable) {
				err = renew.ErrKeyNotFound
			}
			return k, err
		})},
		{name: "lists nothing on an outage", law: "K11", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
				list, err := s.VerificationKeys(ctx, appID)
				if errors.Is(err, errUnreachable) {
					return nil, nil
				}
				return list, err
			}}
		}},
		{name: "lists the oldest key first", law: "K12", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
				list, err := s.VerificationKeys(ctx, appID)
				slices.Reverse(list)
				return list, err
			}}
		}},
		{name: "lists the active key alone", law: "K12", store: func(s soundKeys) *patchedKeys {
			return &patchedKeys{soundKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
				list, err := s.VerificationKeys(ctx, appID)
				return list[:min(1, len(list))], err
			}}
		}},
		{name: "forgets revocations in a crash", law: "K13", store: fine, admin: func(s soundKeys, k Keys) Keys {
			s.onCrash = func() {
				for _, t := range s.apps {
					clear(t.revoked)
				}
			}
			return k
		}},
		{name: "forgets the last key in a crash", law: "K13", store: fine, admin: func(s soundKeys, k Keys) Keys {
			s.onCrash = func() {
				for _, t := range s.apps {
					t.keys = t.keys[:max(0, len(t.keys)-1)]
				}
			}
			return k
		}},
	}
}

// TestWrongKeyStores is TestWrongStores for key stores.
func TestWrongKeyStores(t *testing.T) {
	names := map[string]bool{}
	for _, w := range wrongKeyStores() {
		if names[w.name] {
			t.Fatalf("two wrong stores are named %q", w.name)
		}
		names[w.name] = true
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w.prove(t)
		})
	}
	t.Logf("%d wrong key stores", len(names))
}

func (w wrongKeyStore) prove(t *testing.T) {
	b := newKeyBacking()
	c := newConfig(b.options())
	c.readSeed(t)
	s := newKeySuite(func(testing.TB) Keys {
		sound := soundKeys{b}
		k := sound.admin(w.store(sound))
		if w.admin != nil {
			k = w.admin(sound, k)
		}
		return k
	}, c)
	caught := map[string]bool{}
	for _, l := range s.laws {
		s.effort, s.budget = 0.2, 0
		if l.id == w.law {
			s.effort, s.budget = 1, raceBudget
		}
		for _, c := range l.cases {
			r := s.run(t, l, c)
			if len(r.failures) == 0 {
				continue
			}
			caught[l.id] = true
			if l.id != w.law && !slices.Contains(w.also, l.id) {
				t.Errorf("%s/%s accuses it, which it does not break:\n%s", l.id, c.name, r.failures[0])
			}
		}
	}
	if !caught[w.law] {
		t.Errorf("law %s does not catch it; seed %d", w.law, c.seed)
	}
}
