package storetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jwtrenew/renew"
)

// Keys is a handle on a KeyStore, with what a suite needs to fill it. Every
// store has ways of its own for this; the functions here call them. None may be
// nil, none may be called by two cases for the same app, and all of them must
// have taken effect, for every handle, when they return nil.
//
// A store that caches is opened so that it asks every time: how long a cache may
// show what is past is its documentation's to say.
type Keys struct {
	Store renew.KeyStore

	// CreateApp adds an app with its KeyHashes. It needs no signing key yet.
	CreateApp func(ctx context.Context, app renew.App) error
	// UpdateApp changes the settings of the app with the ID app.ID: all but
	// KeyHashes, which may be taken over or not; they are what App returned.
	UpdateApp func(ctx context.Context, app renew.App) error
	// AddAppKey lets in whoever has the app key of this hash.
	AddAppKey func(ctx context.Context, appID string, hash renew.AppKeyHash) error
	// RemoveAppKey keeps out whoever has the app key of this hash.
	RemoveAppKey func(ctx context.Context, appID string, hash renew.AppKeyHash) error
	// RotateSigningKey gives the app a new signing key, which takes the place of
	// the active one if there is one, and returns its ID. The replaced key must
	// go on verifying, for as long as the suite runs. Of several calls at once
	// all but one may fail.
	RotateSigningKey func(ctx context.Context, appID string) (keyID string, err error)
	// RevokeKey revokes a signing key, the active one or an older one.
	RevokeKey func(ctx context.Context, appID, keyID string) error
}

// TestKeyStore holds a store to the laws K1 to K13, which package storetest
// tells.
//
// open returns a handle on the backing store, the same backing store each time,
// and registers with tb.Cleanup what closes the handle, as for
// [TestTokenStore]. The laws about listing keys are skipped unless the store is
// a [renew.KeyLister]. The backing store may hold other apps, and several runs
// may share it.
func TestKeyStore(t *testing.T, open func(tb testing.TB) Keys, opts ...Option) {
	newKeySuite(open, newConfig(opts)).test(t)
}

func newKeySuite(open func(tb testing.TB) Keys, c config) *suite[*keys] {
	return &suite[*keys]{
		laws: keyLaws(),
		open: func(tb testing.TB) *keys { return &keys{Keys: open(tb)} },
		watch: func(h *keys, number int, log *callLog) *keys {
			return &keys{h.Keys, number, log}
		},
		config: c,
	}
}

type keyEnv = env[*keys]

// keys is a handle on a KeyStore that records the calls made through it.
type keys struct {
	Keys
	number int
	log    *callLog
}

// The methods of the store, recorded.

func (h *keys) app(e *keyEnv, ctx context.Context, id string) (renew.App, error) {
	c := h.log.begin(h.number, "App", func() string { return named("app", id) })
	app, err := h.Store.App(ctx, id)
	h.log.end(c, func() string { return fmt.Sprintf("app %q with %d key hashes", app.ID, len(app.KeyHashes)) }, err)
	return app, err
}

func (h *keys) signingKey(e *keyEnv, ctx context.Context, appID string) (*renew.SigningKey, error) {
	c := h.log.begin(h.number, "SigningKey", func() string { return named("app", appID) })
	k, err := h.Store.SigningKey(ctx, appID)
	answer := "no key"
	if k != nil {
		answer = "key " + k.VerificationKey().KeyID()
	}
	h.log.end(c, func() string { return answer }, err)
	if err == nil && k == nil {
		e.fatalf("expected a key or an error of SigningKey\nthe store returned neither")
	}
	return k, err
}

func (h *keys) verificationKey(e *keyEnv, ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	c := h.log.begin(h.number, "VerificationKey", func() string { return named("app", appID) + ", " + named("key", keyID) })
	k, err := h.Store.VerificationKey(ctx, appID, keyID)
	answer := "no key"
	if k != nil {
		answer = "key " + k.KeyID()
	}
	h.log.end(c, func() string { return answer }, err)
	if err == nil && k == nil {
		e.fatalf("expected a key or an error of VerificationKey\nthe store returned neither")
	}
	return k, err
}

func (h *keys) list(e *keyEnv, ctx context.Context, appID string) ([]*renew.VerificationKey, error) {
	lister, ok := h.Store.(renew.KeyLister)
	if !ok {
		e.skip("the store is no renew.KeyLister")
	}
	c := h.log.begin(h.number, "VerificationKeys", func() string { return named("app", appID) })
	list, err := lister.VerificationKeys(ctx, appID)
	h.log.end(c, func() string { return fmt.Sprint(keyIDs(list)) }, err)
	if slices.Contains(list, nil) {
		e.fatalf("expected a list of keys of VerificationKeys\nthe store returned one that is nil")
	}
	return list, err
}

func keyIDs(list []*renew.VerificationKey) (ids []string) {
	for _, k := range list {
		if k != nil {
			ids = append(ids, k.KeyID())
		}
	}
	return ids
}

// Steps of a case: each ends it if it fails.

func createApp(e *keyEnv, app renew.App) {
	c := e.a.log.begin(e.a.number, "CreateApp", func() string { return named("app", app.ID) })
	err := e.a.CreateApp(e.ctx, app)
	e.a.log.end(c, done, err)
	if err != nil {
		e.fatalf("expected CreateApp to add an app\nit returned the error %q", err)
	}
}

func rotateKey(e *keyEnv, h *keys, appID string) string {
	id, err := tryRotateKey(e, h, appID)
	if err != nil {
		e.fatalf("expected RotateSigningKey to give the app a key\nit returned the error %q", err)
	}
	return id
}

func tryRotateKey(e *keyEnv, h *keys, appID string) (string, error) {
	c := h.log.begin(h.number, "RotateSigningKey", func() string { return named("app", appID) })
	id, err := h.RotateSigningKey(e.ctx, appID)
	h.log.end(c, func() string { return "key " + id }, err)
	return id, err
}

func revokeKey(e *keyEnv, h *keys, appID, keyID string) {
	c := h.log.begin(h.number, "RevokeKey", func() string { return named("app", appID) + ", " + named("key", keyID) })
	err := h.RevokeKey(e.ctx, appID, keyID)
	h.log.end(c, done, err)
	if err != nil {
		e.fatalf("expected RevokeKey to revoke a key of the app\nit returned the error %q", err)
	}
}

// newApp returns an app of the case with every field set.
func newApp(e *keyEnv) renew.App {
	return renew.App{
		ID:        e.app,
		Issuer:    "issuer of " + e.app,
		KeyHashes: []renew.AppKeyHash{newKeyHash(), newKeyHash()},
		AuthTTL:   61e9, AuthNotBefore: 2e9, RefreshTTL: 3601e9, RefreshNotBefore: 30e9, SessionTTL: 86401e9,
	}
}

// appWithKey stores a new app with a signing key, and returns the key's ID.
func appWithKey(e *keyEnv) (app renew.App, keyID string) {
	app = newApp(e)
	createApp(e, app)
	return app, rotateKey(e, e.a, app.ID)
}

// verifies checks that the key of this ID is to be had through h.
func verifies(e *keyEnv, h *keys, appID, keyID, what string) *renew.VerificationKey {
	k, err := h.verificationKey(e, e.ctx, appID, keyID)
	if err != nil {
		e.fatalf("expected VerificationKey to return %s, %s\nthe store returned the error %q", what, keyID, err)
	}
	if k.KeyID() != keyID {
		e.fatalf("expected VerificationKey to return %s, %s\nthe store returned the key %s", what, keyID, k.KeyID())
	}
	return k
}

// wantKeyError is wantError for the calls of a KeyStore.
func wantKeyError(e *keyEnv, what string, got error, want ...error) {
	for _, w := range want {
		if errors.Is(got, w) {
			return
		}
	}
	e.failf("expected %s of %s\nthe store returned %v", errorName(want[0]), what, got)
}

// signs reports whether what the signing key signs verifies under the public
// key.
func signs(signer crypto.Signer, public crypto.PublicKey) error {
	digest := sha256.Sum256([]byte("storetest"))
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			return err
		}
		return falseIs(ecdsa.VerifyASN1(key, digest[:], signature))
	case *rsa.PublicKey:
		signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
	case ed25519.PublicKey:
		signature, err := signer.Sign(rand.Reader, digest[:], crypto.Hash(0))
		if err != nil {
			return err
		}
		return falseIs(ed25519.Verify(key, digest[:], signature))
	default:
		return fmt.Errorf("a key of the unknown type %T", public)
	}
}

func falseIs(verified bool) error {
	if !verified {
		return errors.New("the signature does not verify")
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func newKeyHash() renew.AppKeyHash {
	_, hash := renew.NewAppKey()
	return hash
}
