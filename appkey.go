package renew

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// AppKeyHash is the hash of an app key, the only form ever stored. An app key is
// random, so that the hash needs no salt and no stretching.
//
// The hash is SHA-256, or SHA-512 for an app key of another system that has kept
// its hash alone, see [ParseAppKeyHash]. Values can be compared with ==. The zero
// value is the hash of no app key.
type AppKeyHash struct {
	scheme appKeyScheme
	digest [sha512.Size]byte // a shorter one ends in zeros
}

type appKeyScheme int

const (
	schemeSHA256 appKeyScheme = iota
	schemeSHA512
)

// appKeySchemes are the schemes by value: the name in the text of a hash, and the
// size of its digest in bytes.
var appKeySchemes = [...]struct {
	name string
	size int
}{
	schemeSHA256: {"sha256", sha256.Size},
	schemeSHA512: {"sha512", sha512.Size},
}

// hashAppKey returns the hash of key by every scheme.
func hashAppKey(key string) (hashes [len(appKeySchemes)]AppKeyHash) {
	short, long := sha256.Sum256([]byte(key)), sha512.Sum512([]byte(key))
	for scheme, digest := range [len(hashes)][]byte{schemeSHA256: short[:], schemeSHA512: long[:]} {
		hashes[scheme].scheme = appKeyScheme(scheme)
		copy(hashes[scheme].digest[:], digest)
	}
	return hashes
}

// NewAppKey returns a new app key of 256 random bits, 43 characters of base64url,
// and its hash. Give the key to the caller and the hash to the [KeyStore].
func NewAppKey() (key string, hash AppKeyHash) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	key = base64.RawURLEncoding.EncodeToString(secret[:])
	return key, hashAppKey(key)[schemeSHA256]
}

const minAppKeyBytes = 16

// HashAppKey returns the SHA-256 hash of an app key. A key that was not made by
// [NewAppKey] must be as hard to guess: the hash is not stretched. It returns an
// error for a key that can be guessed or that no HTTP header can carry: under 16
// characters, white space at an end (such as the line break of the file that it
// was read from), anything but visible ASCII. Such a key is never valid.
func HashAppKey(key string) (AppKeyHash, error) {
	switch {
	case len(key) < minAppKeyBytes:
		return AppKeyHash{}, fmt.Errorf("app key: it must be at least %d characters long", minAppKeyBytes)
	case isSpace(key[0]) || isSpace(key[len(key)-1]):
		return AppKeyHash{}, errors.New("app key: it has white space at an end, such as the line break of a file")
	case !isVisibleASCII(key):
		return AppKeyHash{}, errors.New("app key: it has a character other than visible ASCII")
	}
	return hashAppKey(key)[schemeSHA256], nil
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// ParseAppKeyHash returns the hash of which text is the form that
// [AppKeyHash.String] returns: "sha256:" or "sha512:" and the digest of the app key
// in hexadecimal. It is for stores, and for app keys of another system that has
// kept their hashes alone: their callers keep their app keys. An
// app key for which [HashAppKey] returns an error is not valid by a hash either.
func ParseAppKeyHash(text string) (AppKeyHash, error) {
	name, digits, _ := strings.Cut(text, ":")
	for scheme, known := range appKeySchemes {
		if name != known.name {
			continue
		}
		digest, err := hex.DecodeString(digits)
		if err != nil || len(digest) != known.size {
			return AppKeyHash{}, fmt.Errorf("app key hash: the digest is not %d hexadecimal digits", 2*known.size)
		}
		h := AppKeyHash{scheme: appKeyScheme(scheme)}
		copy(h.digest[:], digest)
		return h, nil
	}
	return AppKeyHash{}, errors.New("app key hash: it is neither sha256: nor sha512: and a digest")
}

// String returns the hash as text: the name of the hash function, a colon, and the
// digest in lower-case hexadecimal.
func (h AppKeyHash) String() string {
	scheme := appKeySchemes[h.scheme]
	return scheme.name + ":" + hex.EncodeToString(h.digest[:scheme.size])
}

// holds reports whether key is one of the app's. How long it takes depends on the
// number of keys and the length of the presented one only.
func (a App) holds(key string) bool {
	_, malformed := HashAppKey(key)
	hashes, found := hashAppKey(key), 0
	for _, h := range a.KeyHashes {
		found |= subtle.ConstantTimeCompare(h.digest[:], hashes[h.scheme].digest[:])
	}
	return found == 1 && malformed == nil
}

// AuthenticateApp checks the app key that a caller has sent.
//
// Errors: [ErrAppNotFound], [ErrInvalidAppKey]; any other is an internal error.
// A service responds to the first two alike; otherwise callers can find out which
// apps exist.
func (r *Renewer) AuthenticateApp(ctx context.Context, appID, appKey string) error {
	app, err := r.app(ctx, appID)
	held := app.holds(appKey) // of an unknown app too, or its response would come sooner
	if err == nil && !held {
		err = ErrInvalidAppKey
	}
	if errors.Is(err, ErrInvalidAppKey) || errors.Is(err, ErrAppNotFound) {
		r.report(ctx, Event{Kind: EventAppKeyRejected, AppID: app.ID})
	}
	return err
}
