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

// callKeys makes a call of a key store; known is false if it is of another kind.
func callKeys(ctx context.Context, store renew.KeyStore, r request, resp *response) (known bool, err error) {
	appID, keyID := r.Text[0], r.Text[1]
	switch r.Method {
	case "App":
		var app renew.App
		if app, err = store.App(ctx, appID); err == nil {
			resp.App, err = encodeApp(app)
		}
	case "SigningKey":
		err = resp.addSigningKey(store.SigningKey(ctx, appID))
	case "PublishedKey":
		err = resp.addSigningKey(store.(renew.PublishedKeyStore).PublishedKey(ctx, appID, keyID))
	case "VerificationKey":
		err = resp.addKeys(one(store.VerificationKey(ctx, appID, keyID)))
	case "VerificationKeys":
		err = resp.addKeys(store.(renew.KeyLister).VerificationKeys(ctx, appID))
	case "AppIDs":
		resp.Names, err = store.(renew.AppLister).AppIDs(ctx)
	case "DeleteExpiredKeys":
		resp.N, err = store.(renew.KeyAdmin).DeleteExpiredKeys(ctx, r.At)
	default:
		return changeKeys(ctx, store, r)
	}
	return true, err
}

// changeKeys makes a call of a KeyAdmin that changes an app.
func changeKeys(ctx context.Context, store renew.KeyStore, r request) (known bool, err error) {
	admin, ok := store.(renew.KeyAdmin)
	if !ok {
		return false, nil
	}
	appID, text := r.Text[0], r.Text[1]
	switch r.Method {
	case "CreateApp", "UpdateApp":
		app, err := r.App.decode()
		if err != nil {
			return true, err
		}
		if r.Method == "CreateApp" {
			return true, admin.CreateApp(ctx, app)
		}
		return true, admin.UpdateApp(ctx, app)
	case "AddAppKey", "RemoveAppKey":
		hash, err := renew.ParseAppKeyHash(text)
		if err != nil {
			return true, err
		}
		if r.Method == "AddAppKey" {
			return true, admin.AddAppKey(ctx, appID, hash)
		}
		return true, admin.RemoveAppKey(ctx, appID, hash)
	case "PublishSigningKey", "RotateSigningKey":
		key, err := r.Key.decodeSigningKey()
		if err != nil {
			return true, err
		}
		if r.Method == "PublishSigningKey" {
			return true, admin.PublishSigningKey(ctx, appID, key)
		}
		return true, admin.RotateSigningKey(ctx, appID, key, r.At)
	case "RevokeKey":
		return true, admin.RevokeKey(ctx, appID, text, r.At)
	}
	return false, nil
}

func one(key *renew.VerificationKey, err error) ([]*renew.VerificationKey, error) {
	return []*renew.VerificationKey{key}, err
}

func (r *response) addSigningKey(key *renew.SigningKey, err error) error {
	if err != nil {
		return err
	}
	w, err := encodeSigningKey(key)
	r.Keys = append(r.Keys, w)
	return err
}

func (r *response) addKeys(list []*renew.VerificationKey, err error) error {
	if err != nil {
		return err
	}
	for _, key := range list {
		w, err := encodeKey(key)
		if err != nil {
			return err
		}
		r.Keys = append(r.Keys, w)
	}
	return nil
}

// remoteKeys is a handle on the key store of a process.
type remoteKeys struct{ *connection }

func (h remoteKeys) App(ctx context.Context, appID string) (renew.App, error) {
	resp, err := h.call(ctx, request{Method: "App", Text: [2]string{appID}})
	if err != nil {
		return renew.App{}, err
	}
	return resp.App.decode()
}

func (h remoteKeys) signingKey(ctx context.Context, r request) (*renew.SigningKey, error) {
	resp, err := h.call(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp.Keys[0].decodeSigningKey()
}

func (h remoteKeys) SigningKey(ctx context.Context, appID string) (*renew.SigningKey, error) {
	return h.signingKey(ctx, request{Method: "SigningKey", Text: [2]string{appID}})
}

func (h remoteKeys) PublishedKey(ctx context.Context, appID, keyID string) (*renew.SigningKey, error) {
	return h.signingKey(ctx, request{Method: "PublishedKey", Text: [2]string{appID, keyID}})
}

func (h remoteKeys) VerificationKey(ctx context.Context, appID, keyID string) (*renew.VerificationKey, error) {
	resp, err := h.call(ctx, request{Method: "VerificationKey", Text: [2]string{appID, keyID}})
	if err != nil {
		return nil, err
	}
	return resp.Keys[0].decode()
}

func (h remoteKeys) VerificationKeys(ctx context.Context, appID string) (list []*renew.VerificationKey, err error) {
	resp, err := h.call(ctx, request{Method: "VerificationKeys", Text: [2]string{appID}})
	if err != nil {
		return nil, err
	}
	for _, w := range resp.Keys {
		key, err := w.decode()
		if err != nil {
			return nil, err
		}
		list = append(list, key)
	}
	return list, nil
}

func (h remoteKeys) AppIDs(ctx context.Context) ([]string, error) {
	resp, err := h.call(ctx, request{Method: "AppIDs"})
	return resp.Names, err
}

func (h remoteKeys) DeleteExpiredKeys(ctx context.Context, before time.Time) (int, error) {
	resp, err := h.call(ctx, request{Method: "DeleteExpiredKeys", At: before})
	return resp.N, err
}

func (h remoteKeys) change(ctx context.Context, r request) error {
	_, err := h.call(ctx, r)
	return err
}

func (h remoteKeys) changeApp(ctx context.Context, method string, app renew.App) error {
	w, err := encodeApp(app)
	if err != nil {
		return err
	}
	return h.change(ctx, request{Method: method, App: w})
}

func (h remoteKeys) CreateApp(ctx context.Context, app renew.App) error {
	return h.changeApp(ctx, "CreateApp", app)
}

func (h remoteKeys) UpdateApp(ctx context.Context, app renew.App) error {
	return h.changeApp(ctx, "UpdateApp", app)
}

func (h remoteKeys) AddAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return h.change(ctx, request{Method: "AddAppKey", Text: [2]string{appID, hash.String()}})
}

func (h remoteKeys) RemoveAppKey(ctx context.Context, appID string, hash renew.AppKeyHash) error {
	return h.change(ctx, request{Method: "RemoveAppKey", Text: [2]string{appID, hash.String()}})
}

func (h remoteKeys) addKey(ctx context.Context, method, appID string, key *renew.SigningKey, now time.Time) error {
	w, err := encodeSigningKey(key)
	if err != nil {
		return err
	}
	return h.change(ctx, request{Method: method, Text: [2]string{appID}, Key: w, At: now})
}

func (h remoteKeys) PublishSigningKey(ctx context.Context, appID string, key *renew.SigningKey) error {
	return h.addKey(ctx, "PublishSigningKey", appID, key, time.Time{})
}

func (h remoteKeys) RotateSigningKey(ctx context.Context, appID string, key *renew.SigningKey, now time.Time) error {
	return h.addKey(ctx, "RotateSigningKey", appID, key, now)
}

func (h remoteKeys) RevokeKey(ctx context.Context, appID, keyID string, at time.Time) error {
	return h.change(ctx, request{Method: "RevokeKey", Text: [2]string{appID, keyID}, At: at})
}
