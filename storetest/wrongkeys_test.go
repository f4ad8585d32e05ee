package storetest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// wrongKeyStore is a key store that is wrong in one way, as wrongStore is.
type wrongKeyStore struct {
	name  string
	law   string
	store func(s soundKeys) *patchedKeys
}

// appChanged returns a store whose App returns what f makes of the app.
func appChanged(f func(*renew.App)) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
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
		return &patchedKeys{allKeys: s, verify: func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
			k, err := s.VerificationKey(ctx, appID, keyID)
			return f(s, keyID, k, err)
		}}
	}
}

// onUpdate returns a store of which one kind of change is made in another way.
func onUpdate(f func(s soundKeys, t *tenant, app renew.App) error) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, update: func(ctx context.Context, app renew.App) error {
			return s.on(ctx, app.ID, func(t *tenant) error { return f(s, t, app) })
		}}
	}
}

func onRotate(f func(s soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, rotate: func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			s.keep(key)
			return s.on(ctx, appID, func(t *tenant) error { return f(s, t, key, now) })
		}}
	}
}

func onRevoke(f func(s soundKeys, t *tenant, keyID string, at time.Time) error) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, revoke: func(ctx context.Context, appID, keyID string, at time.Time) error {
			return s.on(ctx, appID, func(t *tenant) error { return f(s, t, keyID, at) })
		}}
	}
}

func onPublish(f func(s soundKeys, t *tenant, key *renew.SigningKey) error) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, publish: func(ctx context.Context, appID string, key *renew.SigningKey) error {
			s.keep(key)
			return s.on(ctx, appID, func(t *tenant) error { return f(s, t, key) })
		}}
	}
}

// between returns a store that makes a change of app in two steps: it reads the
// whole app, and writes it back.
func between(change func(p *patchedKeys, rmw func(ctx context.Context, appID string, f func(*tenant) error) error)) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		p := &patchedKeys{allKeys: s}
		change(p, func(ctx context.Context, appID string, f func(*tenant) error) error {
			var copied *tenant
			if err := s.on(ctx, appID, func(t *tenant) error { copied = t.clone(); return f(copied) }); err != nil {
				return err
			}
			return s.on(ctx, appID, func(t *tenant) error { *t = *copied; return nil })
		})
		return p
	}
}

// setKey changes a key of an app.
func (t *tenant) setKey(id string, f func(*keyState)) {
	k := t.keys[id]
	f(&k)
	t.keys[id] = k
}

func foldedApps(fold func(string) string) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			app, err := s.App(ctx, appID)
			if !errors.Is(err, renew.ErrAppNotFound) {
				return app, err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for id, t := range s.apps {
				if fold(id) == fold(appID) {
					return t.app, nil
				}
			}
			return app, err
		}}
	}
}

func afterCrash(f func(t *tenant)) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		s.locked(func() {
			s.onCrash = func() {
				for _, t := range s.apps {
					f(t)
				}
			}
		})
		return &patchedKeys{allKeys: s}
	}
}

func appFields() (list []wrongKeyStore) {
	for name, forget := range map[string]func(*renew.App){
		"Issuer":           func(a *renew.App) { a.Issuer = "" },
		"AuthTTL":          func(a *renew.App) { a.AuthTTL = 0 },
		"AuthNotBefore":    func(a *renew.App) { a.AuthNotBefore = 0 },
		"RefreshTTL":       func(a *renew.App) { a.RefreshTTL = 0 },
		"RefreshNotBefore": func(a *renew.App) { a.RefreshNotBefore = 0 },
		"SessionTTL":       func(a *renew.App) { a.SessionTTL = 0 },
		"MaxSessions":      func(a *renew.App) { a.MaxSessions = 0 },
		"FormerIssuers":    func(a *renew.App) { a.FormerIssuers = nil },
	} {
		list = append(list,
			wrongKeyStore{"forgets " + name, "K1", appChanged(forget)},
			wrongKeyStore{"forgets " + name + " of an update", "K1", onUpdate(func(_ soundKeys, t *tenant, app renew.App) error {
				if err := t.update(app); err != nil {
					return err
				}
				forget(&t.app)
				return nil
			})},
		)
	}
	return list
}

var wrongApps = []wrongKeyStore{
	{"keeps minutes", "K1", appChanged(func(a *renew.App) { a.RefreshTTL = a.RefreshTTL.Truncate(time.Minute) })},
	{"puts the default in place of zero", "K1", appChanged(func(a *renew.App) {
		if a.RefreshTTL == 0 {
			a.RefreshTTL = renew.DefaultRefreshTTL
		}
	})},
	{"has milliseconds in 32 bits", "K1", appChanged(func(a *renew.App) { a.AuthTTL = time.Duration(int32(a.AuthTTL.Milliseconds())) * time.Millisecond })},
	{"has seconds in 32 bits", "K1", appChanged(func(a *renew.App) { a.RefreshTTL = time.Duration(int32(a.RefreshTTL/time.Second)) * time.Second })},
	{"trims the issuer", "K1", appChanged(func(a *renew.App) { a.Issuer = strings.TrimSpace(a.Issuer) })},
	{"cuts the issuer", "K1", appChanged(func(a *renew.App) { a.Issuer = a.Issuer[:min(len(a.Issuer), 191)] })},
	{"has MaxSessions in 16 bits", "K1", appChanged(func(a *renew.App) { a.MaxSessions = int(int16(a.MaxSessions)) })},
	{"takes over the hashes of an update", "K7", onUpdate(func(_ soundKeys, t *tenant, app renew.App) error {
		if err := t.update(app); err != nil {
			return err
		}
		t.app.KeyHashes = slices.Clone(app.KeyHashes)
		return nil
	})},
	{"takes an invalid update", "K1", onUpdate(func(_ soundKeys, t *tenant, app renew.App) error {
		app.KeyHashes = t.app.KeyHashes
		t.app = app
		return nil
	})},
	{"updates only what is not zero", "K1", onUpdate(func(_ soundKeys, t *tenant, app renew.App) error {
		if app.SessionTTL == 0 {
			app.SessionTTL = t.app.SessionTTL
		}
		return t.update(app)
	})},
	{"caches the app", "K1", func(s soundKeys) *patchedKeys {
		var cache sync.Map
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			if app, ok := cache.Load(appID); ok && ctx.Err() == nil {
				app := app.(renew.App)
				app.KeyHashes = slices.Clone(app.KeyHashes)
				return app, nil
			}
			app, err := s.App(ctx, appID)
			if err == nil {
				cache.Store(appID, app)
				app.KeyHashes = slices.Clone(app.KeyHashes)
			}
			return app, err
		}}
	}},
	{"creates an app again", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, create: func(ctx context.Context, app renew.App) error {
			if err := s.on(ctx, app.ID, func(t *tenant) error { t.app = app; return nil }); err == nil {
				return nil
			}
			return s.CreateApp(ctx, app)
		}}
	}},
	{"says nil for a taken app ID", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, create: func(ctx context.Context, app renew.App) error {
			if err := s.CreateApp(ctx, app); !errors.Is(err, renew.ErrAppExists) {
				return err
			}
			return nil
		}}
	}},
	{"has its own error for a taken app ID", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, create: func(ctx context.Context, app renew.App) error {
			if err := s.CreateApp(ctx, app); !errors.Is(err, renew.ErrAppExists) {
				return err
			}
			return errors.New("app exists")
		}}
	}},
	{"looks before it creates an app", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, create: func(ctx context.Context, app renew.App) error {
			if _, err := s.App(ctx, app.ID); err == nil {
				return renew.ErrAppExists
			}
			if err := errors.Join(ctx.Err(), app.Validate()); err != nil {
				return err
			}
			app.KeyHashes = slices.Clone(app.KeyHashes)
			s.locked(func() { s.apps[app.ID] = &tenant{app: app, keys: map[string]keyState{}} })
			return nil
		}}
	}},
	{"creates an app in UpdateApp", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, update: func(ctx context.Context, app renew.App) error {
			if err := s.UpdateApp(ctx, app); !errors.Is(err, renew.ErrAppNotFound) {
				return err
			}
			return s.CreateApp(ctx, app)
		}}
	}},
	{"says nil for an app key of an unknown app", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, add: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			if err := s.AddAppKey(ctx, appID, hash); !errors.Is(err, renew.ErrAppNotFound) {
				return err
			}
			return nil
		}}
	}},
	{"returns a zero app for an unknown one", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			app, err := s.App(ctx, appID)
			if errors.Is(err, renew.ErrAppNotFound) {
				return renew.App{}, nil
			}
			return app, err
		}}
	}},
	{"returns the driver's error for an unknown app", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			app, err := s.App(ctx, appID)
			if errors.Is(err, renew.ErrAppNotFound) {
				err = sql.ErrNoRows
			}
			return app, err
		}}
	}},
	{"lists no keys of an unknown app", "K2", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
			list, err := s.VerificationKeys(ctx, appID)
			if errors.Is(err, renew.ErrAppNotFound) {
				err = nil
			}
			return list, err
		}}
	}},
	{"loses one of two app keys", "K7", between(func(p *patchedKeys, rmw func(context.Context, string, func(*tenant) error) error) {
		p.add = func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return rmw(ctx, appID, func(t *tenant) error { return t.addAppKey(hash) })
		}
	})},
	{"lets in with an update what was removed concurrently", "K7", between(func(p *patchedKeys, rmw func(context.Context, string, func(*tenant) error) error) {
		p.update = func(ctx context.Context, app renew.App) error {
			return rmw(ctx, app.ID, func(t *tenant) error { return t.update(app) })
		}
	})},
	{"lets in with a removal what was removed concurrently", "K7", between(func(p *patchedKeys, rmw func(context.Context, string, func(*tenant) error) error) {
		p.remove = func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return rmw(ctx, appID, func(t *tenant) error { return t.removeAppKey(hash) })
		}
	})},
	{"has room for 256 bits of a hash", "K7", appChanged(func(a *renew.App) {
		for i, hash := range a.KeyHashes {
			if digest, ok := strings.CutPrefix(hash.String(), "sha512:"); ok {
				a.KeyHashes[i] = keyHashes("sha256:" + digest[:64])[0]
			}
		}
	})},
	{"sorts former issuers", "K1", appChanged(func(a *renew.App) {
		a.FormerIssuers = slices.Sorted(slices.Values(a.FormerIssuers))
	})},
	{"has room for one former issuer", "K1", appChanged(func(a *renew.App) { a.FormerIssuers = a.FormerIssuers[:min(1, len(a.FormerIssuers))] })},
	{"has room for one app key", "K7", appChanged(func(a *renew.App) { a.KeyHashes = a.KeyHashes[:min(1, len(a.KeyHashes))] })},
	{"has room for ten app keys", "K7", appChanged(func(a *renew.App) { a.KeyHashes = a.KeyHashes[:min(10, len(a.KeyHashes))] })},
	{"does not remove an app key", "K7", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, remove: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *tenant) error { return t.clone().removeAppKey(hash) })
		}}
	}},
	{"removes all app keys", "K7", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, remove: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *tenant) error {
				err := t.removeAppKey(hash)
				t.app.KeyHashes = nil
				return err
			})
		}}
	}},
	{"removes an app key of every app", "K3", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, remove: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			err := s.RemoveAppKey(ctx, appID, hash)
			s.locked(func() {
				if t := s.apps[appID+"-twin"]; t != nil && err == nil {
					t.app.KeyHashes = nil
				}
			})
			return err
		}}
	}},
	{"keeps an app key twice", "K7", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, add: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *tenant) error { t.app.KeyHashes = append(slices.Clone(t.app.KeyHashes), hash); return nil })
		}}
	}},
	{"says nil for an unknown app key", "K7", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, remove: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			if err := s.RemoveAppKey(ctx, appID, hash); !errors.Is(err, renew.ErrKeyNotFound) {
				return err
			}
			return nil
		}}
	}},
	{"ignores the case of app IDs", "K8", foldedApps(strings.ToLower)},
	{"ignores trailing spaces of app IDs", "K8", foldedApps(func(s string) string { return strings.TrimRight(s, " ") })},
	{"decodes app IDs", "K8", foldedApps(strings.NewReplacer("O", "0", "I", "1", "L", "1").Replace)},
	{"hands out its hashes", "K10", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (app renew.App, err error) {
			err = s.on(ctx, appID, func(t *tenant) error { app = t.app; return nil })
			return app, err
		}}
	}},
	{"hands out its former issuers", "K10", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (app renew.App, err error) {
			err = s.on(ctx, appID, func(t *tenant) error {
				app = t.app
				app.KeyHashes = slices.Clone(app.KeyHashes)
				return nil
			})
			return app, err
		}}
	}},
	{"keeps the former issuers that it was given", "K10", onUpdate(func(_ soundKeys, t *tenant, app renew.App) error {
		if err := t.update(app); err != nil {
			return err
		}
		t.app.FormerIssuers = app.FormerIssuers
		return nil
	})},
}

var wrongKeys = []wrongKeyStore{
	{"returns the driver's error for an unknown key", "K3", afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if errors.Is(err, renew.ErrKeyNotFound) {
			err = sql.ErrNoRows
		}
		return k, err
	})},
	{"finds keys by their ID alone", "K3", afterVerify(func(s soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		s.locked(func() {
			for _, t := range s.apps {
				if other, has := t.keys[keyID]; errors.Is(err, renew.ErrKeyNotFound) && has {
					k, err = other.key, nil
				}
			}
		})
		return k, err
	})},
	{"ignores the case of key IDs", "K3", afterVerify(func(s soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		s.locked(func() {
			for _, t := range s.apps {
				if other, has := t.keys[strings.ToUpper(keyID)]; errors.Is(err, renew.ErrKeyNotFound) && has {
					k, err = other.key, nil
				}
			}
		})
		return k, err
	})},
	{"revokes a key in every app", "K3", onRevoke(func(s soundKeys, t *tenant, keyID string, at time.Time) error {
		err := t.revoke(keyID, at)
		for _, other := range s.apps {
			_ = other.revoke(keyID, at)
		}
		return err
	})},
	{"signs with the first key for ever", "K4", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, sign: func(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
			if key, err = s.SigningKey(ctx, appID); err != nil {
				return key, err
			}
			return key, s.on(ctx, appID, func(t *tenant) error {
				key = s.signer(t.keys[slices.Min(slices.Collect(maps.Keys(t.keys)))].key)
				return nil
			})
		}}
	}},
	{"signs with the key of the greatest ID", "K4", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, sign: func(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
			if key, err = s.SigningKey(ctx, appID); err != nil {
				return key, err
			}
			return key, s.on(ctx, appID, func(t *tenant) error {
				key = s.signer(t.keys[slices.Max(slices.Collect(maps.Keys(t.keys)))].key)
				return nil
			})
		}}
	}},
	{"caches the signing key", "K4", func(s soundKeys) *patchedKeys {
		var cache sync.Map
		return &patchedKeys{allKeys: s, sign: func(ctx context.Context, appID string) (*renew.SigningKey, error) {
			if key, ok := cache.Load(appID); ok && ctx.Err() == nil {
				return key.(*renew.SigningKey), nil
			}
			key, err := s.SigningKey(ctx, appID)
			if err == nil {
				cache.Store(appID, key)
			}
			return key, err
		}}
	}},
	{"returns another public key under the ID", "K4", afterVerify(func(_ soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if err != nil {
			return nil, err
		}
		other, _ := renew.GenerateSigningKey(renew.ES256)
		return renew.NewVerificationKey(keyID, renew.ES256, other.VerificationKey().Public())
	})},
	{"returns every RSA key as RS256", "K4", afterVerify(func(_ soundKeys, keyID string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if err == nil && k.Algorithm() == renew.PS512 {
			return renew.NewVerificationKey(keyID, renew.RS256, k.Public())
		}
		return k, err
	})},
	{"takes a taken key ID", "K4", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		if k, taken := t.keys[key.KeyID()]; taken && !k.revoked && key.KeyID() != t.active {
			delete(t.keys, key.KeyID())
		}
		return t.rotate(key, now)
	})},
	{"has its own error for a taken key ID", "K4", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		if err := t.rotate(key, now); err == nil || !isNamed(err) {
			return err
		}
		return errors.New("duplicate key")
	})},
	{"has no active key while it rotates", "K4", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, rotate: func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			s.keep(key)
			var active string
			err := s.on(ctx, appID, func(t *tenant) error {
				err := t.clone().rotate(key, now)
				if err == nil {
					active, t.active = t.active, ""
				}
				return err
			})
			if err != nil {
				return err
			}
			return s.on(ctx, appID, func(t *tenant) error { t.active = active; return t.rotate(key, now) })
		}}
	}},
	{"rotates in two steps", "K4", between(func(p *patchedKeys, rmw func(context.Context, string, func(*tenant) error) error) {
		s := p.allKeys.(soundKeys)
		p.rotate = func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			s.keep(key)
			return rmw(ctx, appID, func(t *tenant) error { return t.rotate(key, now) })
		}
	})},
	{"lets two servers make the first key", "K4", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, rotate: func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			s.keep(key)
			return s.on(ctx, appID, func(t *tenant) error {
				if k, taken := t.keys[key.KeyID()]; taken && len(t.keys) == 1 && !k.revoked {
					t.keys[key.KeyID()] = keyState{key: key.VerificationKey()}
					return nil
				}
				return t.rotate(key, now)
			})
		}}
	}},
	{"deletes the replaced key", "K5", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		old := t.active
		if err := t.rotate(key, now); err != nil {
			return err
		}
		delete(t.keys, old)
		return nil
	})},
	{"has no end for a replaced key", "K5", afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if err == nil {
			k = k.Until(time.Time{})
		}
		return k, err
	})},
	{"ends a replaced key at the lifetime of now", "K5", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		var p renew.SigningPeriod
		p.Count(t.app)
		t.period = p
		return t.rotate(key, now)
	})},
	{"ends a replaced key after an auth token's life", "K5", afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if err == nil && !k.End().IsZero() {
			k = k.Until(k.End().Add(-time.Hour))
		}
		return k, err
	})},
	{"forgets what an earlier key has signed", "K5", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		t.period.SignedUntil = time.Time{}
		return t.rotate(key, now)
	})},
	{"gives the active key an end", "K5", afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if err == nil && k.End().IsZero() {
			k = k.Until(time.Now().AddDate(1, 0, 0))
		}
		return k, err
	})},
	{"says not found of a revoked key", "K6", afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if errors.Is(err, renew.ErrKeyRevoked) {
			err = renew.ErrKeyNotFound
		}
		return k, err
	})},
	{"verifies with a revoked key", "K6", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, verify: func(ctx context.Context, appID, keyID string) (key *renew.VerificationKey, err error) {
			if key, err = s.VerificationKey(ctx, appID, keyID); !errors.Is(err, renew.ErrKeyRevoked) {
				return key, err
			}
			return key, s.on(ctx, appID, func(t *tenant) error { key = t.keys[keyID].key; return nil })
		}}
	}},
	{"caches verification keys", "K6", func(s soundKeys) *patchedKeys {
		var cache sync.Map
		return &patchedKeys{allKeys: s, verify: func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
			if k, ok := cache.Load([2]string{appID, keyID}); ok && ctx.Err() == nil {
				return k.(*renew.VerificationKey), nil
			}
			k, err := s.VerificationKey(ctx, appID, keyID)
			if err == nil {
				cache.Store([2]string{appID, keyID}, k)
			}
			return k, err
		}}
	}},
	{"signs with a revoked key", "K6", onRevoke(func(_ soundKeys, t *tenant, keyID string, at time.Time) error {
		if _, known := t.keys[keyID]; !known {
			return renew.ErrKeyNotFound
		}
		t.setKey(keyID, func(k *keyState) { k.revoked, k.expires = true, at })
		return nil
	})},
	{"revokes all replaced keys as well", "K6", onRevoke(func(_ soundKeys, t *tenant, keyID string, at time.Time) error {
		err := t.revoke(keyID, at)
		for id, k := range t.keys {
			if err == nil && !k.until.IsZero() {
				t.setKey(id, func(k *keyState) { k.revoked = true })
			}
		}
		return err
	})},
	{"cannot revoke a published key", "K6", onRevoke(func(_ soundKeys, t *tenant, keyID string, at time.Time) error {
		if t.isPublished(keyID) {
			return renew.ErrKeyNotFound
		}
		return t.revoke(keyID, at)
	})},
	{"does not find a revoked key to revoke", "K6", onRevoke(func(_ soundKeys, t *tenant, keyID string, at time.Time) error {
		if t.keys[keyID].revoked {
			return renew.ErrKeyNotFound
		}
		return t.revoke(keyID, at)
	})},
	{"undoes a revocation with a rotation", "K6", between(func(p *patchedKeys, rmw func(context.Context, string, func(*tenant) error) error) {
		s := p.allKeys.(soundKeys)
		p.publish = func(ctx context.Context, appID string, key *renew.SigningKey) error {
			s.keep(key)
			return rmw(ctx, appID, func(t *tenant) error { return t.publish(key) })
		}
	})},
	{"lists revoked keys", "K12", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
			if list, err = s.VerificationKeys(ctx, appID); err != nil {
				return list, err
			}
			return list, s.on(ctx, appID, func(t *tenant) error {
				for _, k := range t.keys {
					if k.revoked {
						list = append(list, k.key)
					}
				}
				return nil
			})
		}}
	}},
	{"lists three keys", "K12", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
			list, err := s.VerificationKeys(ctx, appID)
			return list[:min(3, len(list))], err
		}}
	}},
	{"lists ten keys", "K12", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
			list, err := s.VerificationKeys(ctx, appID)
			return list[:min(10, len(list))], err
		}}
	}},
	{"lists the active key last", "K12", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
			list, err := s.VerificationKeys(ctx, appID)
			slices.Reverse(list)
			return list, err
		}}
	}},
	{"does not list published keys", "K12", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
			list, err = s.VerificationKeys(ctx, appID)
			return slices.DeleteFunc(list, func(k *renew.VerificationKey) bool {
				published := false
				_ = s.on(ctx, appID, func(t *tenant) error { published = t.isPublished(k.KeyID()); return nil })
				return published
			}), err
		}}
	}},
	{"signs with a published key", "K14", onPublish(func(_ soundKeys, t *tenant, key *renew.SigningKey) error {
		err := t.publish(key)
		if err == nil && t.active != "" {
			t.active = key.KeyID()
		}
		return err
	})},
	{"verifies with no published key", "K14", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, verify: func(ctx context.Context, appID, keyID string) (key *renew.VerificationKey, err error) {
			err = s.on(ctx, appID, func(t *tenant) error {
				if t.isPublished(keyID) {
					return renew.ErrKeyNotFound
				}
				key, err = t.find(keyID)
				return err
			})
			return key, err
		}}
	}},
	{"cannot rotate to a published key", "K14", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		if t.isPublished(key.KeyID()) {
			return renew.ErrKeyExists
		}
		return t.rotate(key, now)
	})},
	{"publishes over a published key", "K14", onPublish(func(_ soundKeys, t *tenant, key *renew.SigningKey) error {
		if t.isPublished(key.KeyID()) {
			delete(t.keys, key.KeyID())
		}
		return t.publish(key)
	})},
	{"rotates to another key of a published ID", "K14", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		if t.isPublished(key.KeyID()) {
			delete(t.keys, key.KeyID())
		}
		return t.rotate(key, now)
	})},
	{"rotates to a published key with another algorithm", "K14", onRotate(func(_ soundKeys, t *tenant, key *renew.SigningKey, now time.Time) error {
		if published := t.keys[key.KeyID()].key; t.isPublished(key.KeyID()) && published.PublicKey() == key.VerificationKey().PublicKey() {
			delete(t.keys, key.KeyID())
		}
		return t.rotate(key, now)
	})},
	{"publishes a revoked key again", "K14", onPublish(func(_ soundKeys, t *tenant, key *renew.SigningKey) error {
		if t.keys[key.KeyID()].revoked {
			delete(t.keys, key.KeyID())
		}
		return t.publish(key)
	})},
	{"deletes no keys", "K15", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, purge: func(ctx context.Context, before time.Time) (int, error) {
			_, err := s.DeleteExpiredKeys(ctx, time.Time{})
			return 0, err
		}}
	}},
	{"deletes keys at their end", "K15", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, purge: func(ctx context.Context, before time.Time) (int, error) {
			return s.DeleteExpiredKeys(ctx, before.Add(200*time.Second))
		}}
	}},
	{"deletes published keys", "K15", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, purge: func(ctx context.Context, before time.Time) (int, error) {
			n, err := s.DeleteExpiredKeys(ctx, before)
			s.locked(func() {
				for _, t := range s.apps {
					maps.DeleteFunc(t.keys, func(id string, _ keyState) bool { return err == nil && t.isPublished(id) })
				}
			})
			return n, err
		}}
	}},
	{"deletes keys of one app", "K15", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, purge: func(ctx context.Context, before time.Time) (n int, err error) {
			if _, err := s.DeleteExpiredKeys(ctx, time.Time{}); err != nil {
				return 0, err
			}
			s.locked(func() {
				for _, id := range slices.Sorted(maps.Keys(s.apps)) {
					for keyID, k := range s.apps[id].keys {
						if !k.expires.IsZero() && k.expires.Before(before) {
							delete(s.apps[id].keys, keyID)
							n++
						}
					}
					if n > 0 {
						return
					}
				}
			})
			return n, nil
		}}
	}},
	{"ignores a done context", "K9", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			return s.App(context.WithoutCancel(ctx), appID)
		}}
	}},
	{"ignores a done context when it verifies", "K9", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, verify: func(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
			return s.VerificationKey(context.WithoutCancel(ctx), appID, keyID)
		}}
	}},
	{"ignores a done context when it revokes", "K9", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, revoke: func(ctx context.Context, appID, keyID string, at time.Time) error {
			return s.RevokeKey(context.WithoutCancel(ctx), appID, keyID, at)
		}}
	}},
	{"leaves half a rotation when the context ends", "K9", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, rotate: func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			free := context.WithoutCancel(ctx)
			var before *tenant
			if err := s.on(free, appID, func(t *tenant) error { before = t.clone(); return nil }); err != nil {
				return err
			}
			if err := s.RotateSigningKey(free, appID, key, now); err != nil || ctx.Err() == nil {
				return err
			}
			return errors.Join(ctx.Err(), s.on(free, appID, func(t *tenant) error { t.active = before.active; return nil }))
		}}
	}},
	{"says key exists when the context ends after the write", "K9", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, publish: func(ctx context.Context, appID string, key *renew.SigningKey) error {
			err := s.PublishSigningKey(ctx, appID, key)
			if err == nil && ctx.Err() != nil {
				return renew.ErrKeyExists
			}
			return err
		}}
	}},
	{"says unknown app on an outage", "K11", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			app, err := s.App(ctx, appID)
			if errors.Is(err, errUnreachable) {
				err = renew.ErrAppNotFound
			}
			return app, err
		}}
	}},
	{"says unknown key on an outage", "K11", afterVerify(func(_ soundKeys, _ string, k *renew.VerificationKey, err error) (*renew.VerificationKey, error) {
		if errors.Is(err, errUnreachable) {
			err = renew.ErrKeyNotFound
		}
		return k, err
	})},
	{"drops the error of a revocation on an outage", "K11", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, revoke: func(ctx context.Context, appID, keyID string, at time.Time) error {
			err := s.RevokeKey(ctx, appID, keyID, at)
			if errors.Is(err, errUnreachable) {
				err = nil
			}
			return err
		}}
	}},
	{"is dead after an outage", "K11", func(s soundKeys) *patchedKeys {
		var dead atomic.Bool
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			app, err := s.App(ctx, appID)
			if errors.Is(err, errUnreachable) {
				dead.Store(true)
			}
			if dead.Load() {
				return renew.App{}, errUnreachable
			}
			return app, err
		}}
	}},
	{"forgets revocations in a crash", "K13", afterCrash(func(t *tenant) {
		for id := range t.keys {
			t.setKey(id, func(k *keyState) { k.revoked = false })
		}
	})},
	{"forgets published keys in a crash", "K13", afterCrash(func(t *tenant) {
		maps.DeleteFunc(t.keys, func(id string, _ keyState) bool { return t.isPublished(id) })
	})},
	{"forgets the ends of keys in a crash", "K13", afterCrash(func(t *tenant) {
		for id := range t.keys {
			t.setKey(id, func(k *keyState) { k.until = time.Time{} })
		}
	})},
	{"forgets app keys that were added in a crash", "K13", afterCrash(func(t *tenant) { t.app.KeyHashes = t.app.KeyHashes[:min(2, len(t.app.KeyHashes))] })},
}

// listsApps returns a store whose AppIDs returns what f makes of the list.
func listsApps(f func(s soundKeys, list []string) []string) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, ids: func(ctx context.Context) ([]string, error) {
			list, err := s.AppIDs(ctx)
			if err != nil {
				return nil, err
			}
			return f(s, list), nil
		}}
	}
}

// returnsUnused returns a store whose PublishedKey is another.
func returnsUnused(f func(s soundKeys, t *tenant, keyID string) (*renew.SigningKey, error)) func(soundKeys) *patchedKeys {
	return func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, unused: func(ctx context.Context, appID, keyID string) (key *renew.SigningKey, err error) {
			err = s.on(ctx, appID, func(t *tenant) error {
				key, err = f(s, t, keyID)
				return err
			})
			return key, err
		}}
	}
}

// wrongLists are stores that are wrong about the list of apps, or published keys.
var wrongLists = []wrongKeyStore{
	{"lists a page of a hundred apps", "K16", listsApps(func(_ soundKeys, list []string) []string { return list[:min(100, len(list))] })},
	{"lists a page of a thousand apps", "K16", listsApps(func(_ soundKeys, list []string) []string { return list[:min(1000, len(list))] })},
	{"orders apps without their case", "K16", listsApps(func(_ soundKeys, list []string) []string {
		slices.SortFunc(list, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
		return list
	})},
	{"lists each app twice", "K16", listsApps(func(_ soundKeys, list []string) []string {
		return slices.Sorted(slices.Values(append(list, list...)))
	})},
	{"lists apps with a key alone", "K16", listsApps(func(s soundKeys, list []string) []string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.DeleteFunc(list, func(id string) bool { return len(s.apps[id].keys) == 0 })
	})},
	{"lists the app of a rejected CreateApp", "K16", func(s soundKeys) *patchedKeys {
		var rejected sync.Map
		return &patchedKeys{
			allKeys: s,
			create: func(ctx context.Context, app renew.App) error {
				err := s.CreateApp(ctx, app)
				if err != nil && !isNamed(err) {
					rejected.Store(app.ID, true)
				}
				return err
			},
			ids: func(ctx context.Context) ([]string, error) {
				list, err := s.AppIDs(ctx)
				rejected.Range(func(id, _ any) bool { list = append(list, id.(string)); return true })
				return slices.Compact(slices.Sorted(slices.Values(list))), err
			},
		}
	}},
	{"loses one of two apps from its list", "K16", func(s soundKeys) *patchedKeys {
		var mu sync.Mutex
		var index []string
		return &patchedKeys{
			allKeys: s,
			create: func(ctx context.Context, app renew.App) error {
				mu.Lock()
				before := slices.Clone(index)
				mu.Unlock()
				err := s.CreateApp(ctx, app)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					index = append(before, app.ID)
				}
				return err
			},
			ids: func(ctx context.Context) ([]string, error) {
				mu.Lock()
				defer mu.Unlock()
				return slices.Sorted(slices.Values(index)), ctx.Err()
			},
		}
	}},
	{"returns the active key as published", "K17", returnsUnused(func(s soundKeys, t *tenant, keyID string) (*renew.SigningKey, error) {
		if keyID != t.active && !t.isPublished(keyID) {
			return nil, renew.ErrKeyNotFound
		}
		return s.signer(t.keys[keyID].key), nil
	})},
	{"returns a revoked key as published", "K17", returnsUnused(func(s soundKeys, t *tenant, keyID string) (*renew.SigningKey, error) {
		if !t.isPublished(keyID) && !t.keys[keyID].revoked {
			return nil, renew.ErrKeyNotFound
		}
		return s.signer(t.keys[keyID].key), nil
	})},
	{"says revoked of a revoked key that was published", "K17", returnsUnused(func(s soundKeys, t *tenant, keyID string) (*renew.SigningKey, error) {
		switch {
		case t.keys[keyID].revoked:
			return nil, renew.ErrKeyRevoked
		case !t.isPublished(keyID):
			return nil, renew.ErrKeyNotFound
		}
		return s.signer(t.keys[keyID].key), nil
	})},
	{"says unknown key of an unknown app", "K17", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, unused: func(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
			key, err := s.PublishedKey(ctx, appID, keyID)
			if errors.Is(err, renew.ErrAppNotFound) {
				err = renew.ErrKeyNotFound
			}
			return key, err
		}}
	}},
	{"returns published keys of another app", "K3", returnsUnused(func(s soundKeys, _ *tenant, keyID string) (*renew.SigningKey, error) {
		for _, other := range s.apps {
			if other.isPublished(keyID) {
				return s.signer(other.keys[keyID].key), nil
			}
		}
		return nil, renew.ErrKeyNotFound
	})},
	{"returns a published PS512 key as RS256", "K17", returnsUnused(func(s soundKeys, t *tenant, keyID string) (*renew.SigningKey, error) {
		if !t.isPublished(keyID) {
			return nil, renew.ErrKeyNotFound
		}
		key := s.signer(t.keys[keyID].key)
		if key.VerificationKey().Algorithm() == renew.PS512 {
			return renew.NewSigningKey(keyID, renew.RS256, key.Signer())
		}
		return key, nil
	})},
	{"has room for four published keys", "K17", returnsUnused(func(s soundKeys, t *tenant, keyID string) (*renew.SigningKey, error) {
		older := 0
		for id := range t.keys {
			if t.isPublished(id) && id < keyID {
				older++
			}
		}
		if !t.isPublished(keyID) || older >= 4 {
			return nil, renew.ErrKeyNotFound
		}
		return s.signer(t.keys[keyID].key), nil
	})},
}

// wrongElsewhere are stores that are wrong where the suite once did not look: in a list,
// in a call about a name like an app's, between two reads, after an outage.
var wrongElsewhere = []wrongKeyStore{
	{"lists replaced keys with an end that is late", "K12", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, list: func(ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
			list, err := s.VerificationKeys(ctx, appID)
			for i, k := range list {
				if !k.End().IsZero() {
					list[i] = k.Until(k.End().AddDate(100, 0, 0))
				}
			}
			return list, err
		}}
	}},
	{"reads the settings of an app in two steps", "K1", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, app: func(ctx context.Context, appID string) (renew.App, error) {
			first, err := s.App(ctx, appID)
			if err != nil {
				return first, err
			}
			app, err := s.App(ctx, appID)
			app.Issuer, app.AuthTTL = first.Issuer, first.AuthTTL
			return app, err
		}}
	}},
	{"finds a signing key by the trimmed app ID", "K8", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, sign: func(ctx context.Context, appID string) (*renew.SigningKey, error) {
			if key, err := s.SigningKey(ctx, appID); !errors.Is(err, renew.ErrAppNotFound) {
				return key, err
			}
			return s.SigningKey(ctx, strings.TrimSpace(appID))
		}}
	}},
	{"revokes keys of an app in the other case", "K8", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, revoke: func(ctx context.Context, appID, keyID string, at time.Time) error {
			if err := s.RevokeKey(ctx, appID, keyID, at); !errors.Is(err, renew.ErrAppNotFound) {
				return err
			}
			return s.RevokeKey(ctx, swapCase(appID), keyID, at)
		}}
	}},
	{"has no active key when a rotation met an outage", "K11", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, rotate: func(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
			err := s.RotateSigningKey(ctx, appID, key, now)
			if errors.Is(err, errUnreachable) {
				s.locked(func() { s.apps[appID].active = "" })
			}
			return err
		}}
	}},
	{"publishes no key after an outage", "K11", func(s soundKeys) *patchedKeys {
		var dead atomic.Bool
		return &patchedKeys{allKeys: s, publish: func(ctx context.Context, appID string, key *renew.SigningKey) error {
			if dead.Load() {
				return errUnreachable
			}
			err := s.PublishSigningKey(ctx, appID, key)
			if errors.Is(err, errUnreachable) {
				dead.Store(true)
			}
			return err
		}}
	}},
	{"publishes a key and always returns an error", "K17", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, publish: func(ctx context.Context, appID string, key *renew.SigningKey) error {
			return cmp.Or(s.PublishSigningKey(ctx, appID, key), errSerialization)
		}}
	}},
	{"has room for sixteen app keys", "K7", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, add: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *tenant) error {
				if len(t.app.KeyHashes) >= 16 {
					return errors.New("too many app keys")
				}
				return t.addAppKey(hash)
			})
		}}
	}},
	{"removes app keys by the start of their digest", "K7", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, remove: func(ctx context.Context, appID string, hash renew.AppKeyHash) error {
			return s.on(ctx, appID, func(t *tenant) error {
				if err := t.removeAppKey(hash); err != nil {
					return err
				}
				_, digest, _ := strings.Cut(hash.String(), ":")
				t.app.KeyHashes = slices.DeleteFunc(t.app.KeyHashes, func(h renew.AppKeyHash) bool { return strings.Contains(h.String(), ":"+digest[:16]) })
				return nil
			})
		}}
	}},
	{"has deleted keys again after a crash", "K13", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, purge: func(ctx context.Context, before time.Time) (int, error) {
			was := map[string]*tenant{}
			s.locked(func() {
				for id, t := range s.apps {
					was[id] = t.clone()
				}
				s.onCrash = func() {
					for id, t := range was {
						s.apps[id].keys = t.keys
					}
					s.onCrash = nil
				}
			})
			return s.DeleteExpiredKeys(ctx, before)
		}}
	}},
	{"deletes a page of a hundred keys", "K15", func(s soundKeys) *patchedKeys {
		return &patchedKeys{allKeys: s, purge: func(ctx context.Context, before time.Time) (n int, err error) {
			if _, err := s.DeleteExpiredKeys(ctx, time.Time{}); err != nil {
				return 0, err
			}
			s.locked(func() {
				for _, t := range s.apps {
					maps.DeleteFunc(t.keys, func(_ string, k keyState) bool {
						expired := n < 100 && !k.expires.IsZero() && k.expires.Before(before)
						if expired {
							n++
						}
						return expired
					})
				}
			})
			return n, nil
		}}
	}},
	{"caches the list of apps", "K16", func(s soundKeys) *patchedKeys {
		var cache atomic.Pointer[[]string]
		return &patchedKeys{allKeys: s, ids: func(ctx context.Context) ([]string, error) {
			if list := cache.Load(); list != nil && ctx.Err() == nil {
				return slices.Clone(*list), nil
			}
			list, err := s.AppIDs(ctx)
			if err == nil {
				cache.Store(&list)
			}
			return list, err
		}}
	}},
}

// TestWrongKeyStores is TestWrongStores for key stores.
func TestWrongKeyStores(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, w := range slices.Concat(appFields(), wrongApps, wrongKeys, wrongLists, wrongElsewhere) {
		if names[w.name] {
			t.Fatalf("two wrong stores are named %q", w.name)
		}
		names[w.name] = true
		if leftOut() {
			continue
		}
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			prove(t, w.law, func() *suite[*keys] {
				s := newSoundKeys()
				c := newConfig(s.options())
				c.readSeed(t)
				store := w.store(s)
				return newKeySuite(func(testing.TB) renew.KeyStore { return store }, c)
			})
		})
	}
	t.Logf("%d wrong key stores", len(names))
}
