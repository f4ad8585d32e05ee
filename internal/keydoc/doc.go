// Package keydoc is a KeyStore over any database that keeps one document per app
// and can replace it conditionally. redisstore and dynamostore are made of it.
//
// A document holds the app, the hashes of its app keys, and its signing keys,
// private keys encrypted. Every change replaces the whole document, if it is still
// the one that the change was made from.
//
// Modules other than the root import it: a change must keep their last release
// compiling, and what it has written readable.
package keydoc

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/keycrypt"
)

// document is an app as it is stored.
type document struct {
	// Revision grows by one with every change.
	Revision int64 `json:"revision"`
	// Changes names the last changes, so that one whose reply was lost finds
	// itself, see [Store.change].
	Changes []string `json:"changes"`

	Issuer           string   `json:"issuer"`
	FormerIssuers    []string `json:"former_issuers,omitempty"`
	KeyHashes        []string `json:"key_hashes"`
	AuthTTL          int64    `json:"auth_ttl"` // seconds, like all lifetimes
	AuthNotBefore    int64    `json:"auth_not_before"`
	RefreshTTL       int64    `json:"refresh_ttl"`
	RefreshNotBefore int64    `json:"refresh_not_before"`
	SessionTTL       int64    `json:"session_ttl"`
	MaxSessions      int      `json:"max_sessions"`

	Active      string      `json:"active,omitempty"` // the ID of the key that signs
	LongestTTL  int64       `json:"longest_ttl"`      // with SignedUntil a renew.SigningPeriod
	SignedUntil int64       `json:"signed_until"`     // milliseconds; 0: no key signed before the active one
	Keys        []storedKey `json:"keys"`             // newest first
}

// storedKey is a signing key. Neither active, replaced nor revoked: it is
// published.
type storedKey struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	Public    []byte `json:"public_key"`            // PKIX
	Private   []byte `json:"private_key,omitempty"` // encrypted; deleted when the key is replaced or revoked
	Revoked   bool   `json:"revoked,omitempty"`
	Until     int64  `json:"verifies_until,omitempty"` // milliseconds; 0: it was not replaced
	Expires   int64  `json:"expires_at,omitempty"`     // milliseconds; when it can be deleted
}

// rememberedChanges is how many changes a document names. One that is overtaken by
// more, between its write and the repetition by the driver, reports an error.
const rememberedChanges = 32

func parse(appID string, text []byte) (*document, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("app %q: what is stored is not an app in JSON", appID)
	}
	return &d, nil
}

// next is the document after a change of that name.
func (d *document) next(change string) ([]byte, error) {
	d.Revision++
	d.Changes = append(d.Changes, change)
	if extra := len(d.Changes) - rememberedChanges; extra > 0 {
		d.Changes = d.Changes[extra:]
	}
	return json.Marshal(d)
}

// newChange draws the name of a change.
func newChange() string { return rand.Text()[:16] }

// set takes everything except the app keys.
func (d *document) set(app renew.App) {
	d.Issuer, d.FormerIssuers = app.Issuer, app.FormerIssuers
	d.AuthTTL, d.AuthNotBefore = seconds(app.AuthTTL), seconds(app.AuthNotBefore)
	d.RefreshTTL, d.RefreshNotBefore = seconds(app.RefreshTTL), seconds(app.RefreshNotBefore)
	d.SessionTTL, d.MaxSessions = seconds(app.SessionTTL), app.MaxSessions
}

func (d *document) setHashes(hashes []renew.AppKeyHash) {
	d.KeyHashes = make([]string, len(hashes))
	for i, hash := range hashes {
		d.KeyHashes[i] = hash.String()
	}
}

func (d *document) app(appID string) (renew.App, error) {
	app := renew.App{
		ID:               appID,
		Issuer:           d.Issuer,
		FormerIssuers:    d.FormerIssuers,
		AuthTTL:          duration(d.AuthTTL),
		AuthNotBefore:    duration(d.AuthNotBefore),
		RefreshTTL:       duration(d.RefreshTTL),
		RefreshNotBefore: duration(d.RefreshNotBefore),
		SessionTTL:       duration(d.SessionTTL),
		MaxSessions:      d.MaxSessions,
	}
	for _, text := range d.KeyHashes {
		hash, err := renew.ParseAppKeyHash(text)
		if err != nil {
			return renew.App{}, fmt.Errorf("app %q: a stored app key: %w", appID, err)
		}
		app.KeyHashes = append(app.KeyHashes, hash)
	}
	return app, nil
}

// find returns the key of this ID, or nil.
func (d *document) find(keyID string) *storedKey {
	if i := slices.IndexFunc(d.Keys, func(k storedKey) bool { return k.ID == keyID }); i >= 0 {
		return &d.Keys[i]
	}
	return nil
}

// isPublished reports whether the key verifies and has never signed.
func (d *document) isPublished(k *storedKey) bool {
	return k != nil && k.ID != d.Active && !k.Revoked && k.Expires == 0
}

// add puts a new key before the others.
func (d *document) add(k *keycrypt.Key) error {
	if d.find(k.ID) != nil {
		return fmt.Errorf("key %s: %w", k.ID, renew.ErrKeyExists)
	}
	d.Keys = slices.Insert(d.Keys, 0, storedKey{ID: k.ID, Algorithm: k.Algorithm, Public: k.Public, Private: k.Private})
	return nil
}

// activate makes the key the active one, from now on. The key before it may have
// signed until end.
func (d *document) activate(appID string, k *keycrypt.Key, end time.Time) error {
	stored := d.find(k.ID)
	published := d.isPublished(stored) && stored.Algorithm == k.Algorithm && bytes.Equal(stored.Public, k.Public)
	if !published {
		if err := d.add(k); err != nil {
			return err
		}
	}
	d.retire(end)
	d.Active = k.ID
	return d.count(appID)
}

// retire ends the active key's signing, if there is an active key. Its private half
// is not needed any more.
func (d *document) retire(end time.Time) {
	k := d.find(d.Active)
	d.Active = ""
	if k == nil {
		return
	}
	p := d.period()
	until, expires := p.Close(end)
	d.setPeriod(p)
	k.Until, k.Expires, k.Private = ceilMillis(until), ceilMillis(expires), nil
}

// revoke revokes a key. The active one may have signed until end.
func (d *document) revoke(keyID string, at, end time.Time) error {
	k := d.find(keyID)
	switch {
	case k == nil:
		return fmt.Errorf("key %q: %w", keyID, renew.ErrKeyNotFound)
	case k.ID == d.Active:
		d.retire(end)
	case k.Expires == 0: // published, and has signed nothing
		k.Until, k.Expires = ceilMillis(at), ceilMillis(at)
	}
	k.Revoked, k.Private = true, nil
	return nil
}

// deleteExpired deletes the keys that expired before the time, and returns how many.
func (d *document) deleteExpired(before int64) int {
	all := len(d.Keys)
	d.Keys = slices.DeleteFunc(d.Keys, func(k storedKey) bool { return k.Expires != 0 && k.Expires < before })
	return all - len(d.Keys)
}

func (d *document) period() renew.SigningPeriod {
	p := renew.SigningPeriod{LongestTTL: duration(d.LongestTTL)}
	if d.SignedUntil != 0 {
		p.SignedUntil = fromMillis(d.SignedUntil)
	}
	return p
}

func (d *document) setPeriod(p renew.SigningPeriod) {
	d.LongestTTL, d.SignedUntil = seconds(p.LongestTTL), 0
	if !p.SignedUntil.IsZero() {
		d.SignedUntil = ceilMillis(p.SignedUntil)
	}
}

// count counts in the lifetimes of the app.
func (d *document) count(appID string) error {
	app, err := d.app(appID)
	p := d.period()
	p.Count(app)
	d.setPeriod(p)
	return err
}

// key is the stored key for keycrypt.
func (k *storedKey) key() *keycrypt.Key {
	return &keycrypt.Key{ID: k.ID, Algorithm: k.Algorithm, Public: k.Public, Private: k.Private}
}

func seconds(d time.Duration) int64  { return int64(d / time.Second) }
func duration(s int64) time.Duration { return time.Duration(s) * time.Second }

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// ceilMillis returns the first millisecond that is not before t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}
