package jwtplus

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jwtrenew/renew"
)

// newApp returns the app that a row of the apps describes, without its former
// issuers.
func newApp(r row) (renew.App, *rejection) {
	if id := r.text("app_id"); !isID(id) {
		return renew.App{}, reject(ReasonID, "app_id is not a ULID in canonical form")
	}
	if column, found := r.null("app_name", "app_key", "token_expiry", "token_nbf", "refresh_expiry", "refresh_nbf"); found {
		return renew.App{}, reject(ReasonNull, "%s is NULL", column)
	}
	hash, err := renew.ParseAppKeyHash("sha512:" + r.text("app_key"))
	if err != nil {
		return renew.App{}, reject(ReasonAppSettings, "app_key is not 128 hexadecimal digits")
	}
	app := renew.App{ID: r.text("app_id"), Issuer: r.text("app_name"), KeyHashes: []renew.AppKeyHash{hash}}
	for _, lifetime := range []struct {
		column string
		least  int64 // zero would mean a default to the library
		value  *time.Duration
	}{
		{"token_expiry", 1, &app.AuthTTL},
		{"token_nbf", 0, &app.AuthNotBefore},
		{"refresh_expiry", 1, &app.RefreshTTL},
		{"refresh_nbf", 0, &app.RefreshNotBefore},
	} {
		seconds, ok := r.seconds(lifetime.column)
		if !ok || seconds < lifetime.least || seconds > math.MaxInt64/int64(time.Second) {
			return renew.App{}, reject(ReasonAppSettings, "%s is not a lifetime in seconds", lifetime.column)
		}
		*lifetime.value = time.Duration(seconds) * time.Second
	}
	if err := app.Validate(); err != nil {
		return renew.App{}, reject(ReasonAppSettings, "%v", err)
	}
	return app, nil
}

// signingKey is a key as a row of the app_keys describes it.
type signingKey struct {
	id, appID    string
	expired      bool
	revoked      bool
	verification *renew.VerificationKey // nil if the row is rejected
	key          *renew.SigningKey      // nil if the row is rejected
}

// newSigningKey reads a row of the app_keys. Of a rejected one, the IDs and whether
// it is revoked are set as far as they are known.
func newSigningKey(r row) (*signingKey, *rejection) {
	k := &signingKey{id: r.text("key_id"), appID: r.text("app_id")}
	if !isID(k.id) {
		return k, reject(ReasonID, "key_id is not a ULID in canonical form")
	}
	if column, found := r.null("app_id", "public_key", "private_key", "key_algo", "is_revoked", "is_expired"); found {
		return k, reject(ReasonNull, "%s is NULL", column)
	}
	var rejected *rejection
	if k.revoked, rejected = readFlag(r, "is_revoked"); rejected != nil {
		return k, rejected
	}
	if k.revoked {
		return k, reject(ReasonRevokedKey, "the key is revoked: what it signed is rejected")
	}
	if k.expired, rejected = readFlag(r, "is_expired"); rejected != nil {
		return k, rejected
	}
	return k, k.parse(r)
}

func readFlag(r row, column string) (bool, *rejection) {
	switch r.text(column) {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, reject(ReasonMalformedKey, "%s is neither yes nor no", column)
}

// parse reads both halves. The algorithm is that of key_algo: key_type may
// contradict it.
func (k *signingKey) parse(r row) *rejection {
	algorithm := renew.Algorithm(r.text("key_algo"))
	public, err := base64.StdEncoding.DecodeString(r.text("public_key"))
	if err != nil {
		return reject(ReasonMalformedKey, "public_key is not base64")
	}
	private, err := base64.StdEncoding.DecodeString(r.text("private_key"))
	if err != nil {
		return reject(ReasonMalformedKey, "private_key is not base64")
	}
	defer clear(private)
	verification, err := renew.ParseVerificationKey(k.id, algorithm, public)
	if err != nil {
		return reject(ReasonMalformedKey, "public_key: %v", err)
	}
	key, err := renew.ParseSigningKey(k.id, algorithm, private)
	if err != nil {
		return reject(ReasonMalformedKey, "private_key: %v", err)
	}
	if key.VerificationKey().PublicKey() != verification.PublicKey() {
		return reject(ReasonMalformedKey, "private_key is not the private half of public_key")
	}
	k.verification, k.key = verification, key
	return nil
}

// sortKeys puts the keys of an app into the order in which they become the active
// one: the last one signs.
func sortKeys(keys []*signingKey) {
	slices.SortFunc(keys, func(a, b *signingKey) int {
		if a.expired != b.expired {
			if a.expired {
				return -1
			}
			return 1
		}
		return strings.Compare(a.id, b.id)
	})
}

// errNoKeyStore means that what Import writes keys to cannot be asked what it has.
var errNoKeyStore = errors.New("the KeyAdmin does not implement KeyStore")
