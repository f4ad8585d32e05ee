package storetest

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// OpenKeys returns a handle on the store, for [TestKeyStore]. It implements
// [renew.KeyLister] and [renew.KeyAdmin] if the store does; with both of them,
// [renew.AppLister] and [renew.PublishedKeyStore] as well. A handle is dead after a
// crash. Private keys are passed on as they are: a signer that keeps its key
// elsewhere, in a KMS or an HSM, is an error.
func (p *Process) OpenKeys(tb testing.TB) renew.KeyStore {
	tb.Helper()
	c := p.current()
	if !c.hello.Keys {
		tb.Fatalf("storetest: the store of process %q does not implement renew.KeyStore", p.name)
	}
	return remoteKeys{c}.as(c.hello)
}

// managed is what most key stores are.
type managed interface {
	renew.KeyStore
	renew.KeyLister
	renew.KeyAdmin
}

// as returns the handle with the interfaces that the store has.
func (h remoteKeys) as(is hello) renew.KeyStore {
	switch all := is.ListsKeys && is.Administers; {
	case all && is.ListsApps && is.ReturnsPublished:
		return h
	case all && is.ListsApps:
		return struct {
			managed
			renew.AppLister
		}{h, h}
	case all && is.ReturnsPublished:
		return struct {
			managed
			renew.PublishedKeyStore
		}{h, h}
	case all:
		return struct{ managed }{h}
	case is.ListsKeys:
		return struct {
			renew.KeyStore
			renew.KeyLister
		}{h, h}
	case is.Administers:
		return struct {
			renew.KeyStore
			renew.KeyAdmin
		}{h, h}
	}
	return struct{ renew.KeyStore }{h}
}

// wireApp is an app on the pipe: as JSON, without the hashes of its app keys, and
// their text.
type wireApp struct {
	JSON   []byte
	Hashes []string
}

func encodeApp(app renew.App) (w wireApp, err error) {
	for _, hash := range app.KeyHashes {
		w.Hashes = append(w.Hashes, hash.String())
	}
	app.KeyHashes = nil
	w.JSON, err = json.Marshal(app)
	return w, err
}

func (w wireApp) decode() (app renew.App, err error) {
	if err := json.Unmarshal(w.JSON, &app); err != nil {
		return app, err
	}
	for _, text := range w.Hashes {
		hash, err := renew.ParseAppKeyHash(text)
		if err != nil {
			return app, err
		}
		app.KeyHashes = append(app.KeyHashes, hash)
	}
	return app, nil
}

// wireKey is a key on the pipe: PKIX, and PKCS #8 if it is one that signs.
type wireKey struct {
	ID              string
	Algorithm       renew.Algorithm
	Public, Private []byte
	End             time.Time
}

func encodeKey(key *renew.VerificationKey) (w wireKey, err error) {
	if key == nil {
		return w, errNoKey
	}
	w = wireKey{ID: key.KeyID(), Algorithm: key.Algorithm(), End: key.End()}
	w.Public, err = x509.MarshalPKIXPublicKey(key.Public())
	return w, err
}

func encodeSigningKey(key *renew.SigningKey) (w wireKey, err error) {
	if key == nil {
		return w, errNoKey
	}
	if w, err = encodeKey(key.VerificationKey()); err != nil {
		return w, err
	}
	if w.Private, err = x509.MarshalPKCS8PrivateKey(key.Signer()); err != nil {
		return w, fmt.Errorf("storetest: the signer of key %s is a %T, which has no private key to pass on to another process: %w", w.ID, key.Signer(), err)
	}
	return w, nil
}

func (w wireKey) decode() (*renew.VerificationKey, error) {
	public, err := x509.ParsePKIXPublicKey(w.Public)
	if err != nil {
		return nil, err
	}
	key, err := renew.NewVerificationKey(w.ID, w.Algorithm, public)
	if err != nil || w.End.IsZero() {
		return key, err
	}
	return key.Until(w.End), nil
}

func (w wireKey) decodeSigningKey() (*renew.SigningKey, error) {
	private, err := x509.ParsePKCS8PrivateKey(w.Private)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("storetest: a %T does not sign", private)
	}
	return renew.NewSigningKey(w.ID, w.Algorithm, signer)
}

// remoteKeys is a handle on the key store of a process.
type remoteKeys struct{ *connection }

func (h remoteKeys) App(ctx context.Context, appID string) (app renew.App, err error) {
	err = h.call(ctx, "App", &app, appID)
	return app, err
}

func (h remoteKeys) SigningKey(ctx context.Context, appID string) (key *renew.SigningKey, err error) {
	err = h.call(ctx, "SigningKey", &key, appID)
	return key, err
}

func (h remoteKeys) PublishedKey(ctx context.Context, appID, keyID string) (key *renew.SigningKey, err error) {
	err = h.call(ctx, "PublishedKey", &key, appID, keyID)
	return key, err
}

func (h remoteKeys) VerificationKey(ctx context.Context, appID, keyID string) (key *renew.VerificationKey, err error) {
	err = h.call(ctx, "VerificationKey", &key, appID, keyID)
	return key, err
}

func (h remoteKeys) VerificationKeys(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
	err = h.call(ctx, "VerificationKeys", &list, appID)
	return list, err
}

func (h remoteKeys) AppIDs(ctx context.Context) (list []string, err error) {
	err = h.call(ctx, "AppIDs", &list)
	return list, err
}

func (h remoteKeys) DeleteExpiredKeys(ctx context.Context, before time.Time) (n int, err error) {
	err = h.call(ctx, "DeleteExpiredKeys", &n, before)
	return n, err
}

func (h remoteKeys) CreateApp(ctx context.Context, app renew.App) error {
	return h.call(ctx, "CreateApp", nil, app)
}

func (h remoteKeys) UpdateApp(ctx context.Context, app renew.App) error {
	return h.call(ctx, "UpdateApp", nil, app)
}

func (h remoteKeys) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return h.call(ctx, "AddAppKey", nil, appID, hash)
}

func (h remoteKeys) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return h.call(ctx, "RemoveAppKey", nil, appID, hash)
}

func (h remoteKeys) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	return h.call(ctx, "PublishSigningKey", nil, appID, key)
}

func (h remoteKeys) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	return h.call(ctx, "RotateSigningKey", nil, appID, key, now)
}

func (h remoteKeys) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return h.call(ctx, "RevokeKey", nil, appID, keyID, at)
}
