package renew

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/oklog/ulid/v2"
)

// Lifetimes of an [App] that sets neither.
const (
	DefaultAuthTTL    = time.Hour
	DefaultRefreshTTL = 3 * DefaultAuthTTL
)

// App is a tenant: who issues its tokens, who may ask for them, how long they
// live. Lifetimes are whole seconds.
type App struct {
	ID               string        // 1 to 255 bytes
	Issuer           string        // the iss claim, 1 to 255 bytes
	KeyHashes        []AppKeyHash  // several while an app key is being replaced; none: all callers are rejected
	AuthTTL          time.Duration // life of an auth token, from iat; 0: DefaultAuthTTL
	AuthNotBefore    time.Duration // nbf of the auth token, after iat; below AuthTTL
	RefreshTTL       time.Duration // life of a refresh token, from iat; above AuthTTL and RefreshNotBefore; 0: three times AuthTTL
	RefreshNotBefore time.Duration // nbf of the refresh token, after iat
	SessionTTL       time.Duration // absolute life of a session, from Issue; 0: none; a change counts from a session's next renewal
	MaxSessions      int           // live sessions per subject: Issue revokes the oldest ones beyond it; 0: no limit; needs a SubjectStore
}

// Validate says what is wrong with the app's settings, or returns nil. Stores
// call it before they keep an app, and the [Renewer] before it uses one.
func (a App) Validate() error {
	for _, name := range []struct{ field, value string }{{"ID", a.ID}, {"Issuer", a.Issuer}} {
		if message := checkText(name.value, maxNameBytes); message != "" {
			return fmt.Errorf("app: %s %s", name.field, message)
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"AuthTTL", a.AuthTTL},
		{"AuthNotBefore", a.AuthNotBefore},
		{"RefreshTTL", a.RefreshTTL},
		{"RefreshNotBefore", a.RefreshNotBefore},
		{"SessionTTL", a.SessionTTL},
	} {
		if d.value < 0 || d.value%time.Second != 0 {
			return fmt.Errorf("app: %s is %v, but must be whole seconds and not negative", d.field, d.value)
		}
	}
	switch {
	case a.AuthNotBefore >= a.authTTL():
		return fmt.Errorf("app: AuthNotBefore is %v, but must be below the auth token's lifetime of %v; otherwise no auth token is ever valid", a.AuthNotBefore, a.authTTL())
	case a.RefreshNotBefore >= a.refreshTTL():
		return fmt.Errorf("app: RefreshNotBefore is %v, but must be below the refresh token's lifetime of %v; otherwise no refresh token is ever valid", a.RefreshNotBefore, a.refreshTTL())
	case a.refreshTTL() <= a.authTTL():
		return fmt.Errorf("app: RefreshTTL is %v, but must be above the auth token's lifetime of %v; otherwise no session can be renewed when its auth token expires", a.refreshTTL(), a.authTTL())
	case a.SessionTTL > 0 && a.SessionTTL <= a.AuthNotBefore:
		return fmt.Errorf("app: SessionTTL is %v, but must be above AuthNotBefore of %v; otherwise no auth token is ever valid", a.SessionTTL, a.AuthNotBefore)
	case a.MaxSessions < 0:
		return fmt.Errorf("app: MaxSessions is %d, but must not be negative", a.MaxSessions)
	}
	return nil
}

func (a App) authTTL() time.Duration {
	if a.AuthTTL == 0 {
		return DefaultAuthTTL
	}
	return a.AuthTTL
}

func (a App) refreshTTL() time.Duration {
	const factor = DefaultRefreshTTL / DefaultAuthTTL
	switch {
	case a.RefreshTTL != 0:
		return a.RefreshTTL
	case a.authTTL() > math.MaxInt64/factor:
		return math.MaxInt64 / time.Second * time.Second
	}
	return factor * a.authTTL()
}

// capEnd returns the absolute end of a session of the app, given the one that it
// has (zero: none). Neither a new SessionTTL nor a lost one gives a session more
// time than it was promised.
func (a App) capEnd(createdAt, endsAt time.Time) time.Time {
	if a.SessionTTL == 0 {
		return endsAt
	}
	return capAt(createdAt.Truncate(time.Second).Add(a.SessionTTL), endsAt)
}

// holds reports whether key is one of the app's. How long it takes depends on
// the number of keys and the length of the presented one only.
func (a App) holds(key string) bool {
	_, malformed := HashAppKey(key)
	hash, found := sha256.Sum256([]byte(key)), 0
	for _, h := range a.KeyHashes {
		found |= subtle.ConstantTimeCompare(h[:], hash[:])
	}
	return found == 1 && malformed == nil
}

// app reads an app and validates it. Until the store has it, its ID is only what
// a caller claims, and in no error.
func (r *Renewer) app(ctx context.Context, appID string) (App, error) {
	if checkText(appID, maxNameBytes) != "" { // malformed, so that no store has it
		return App{}, ErrAppNotFound
	}
	app, err := r.keys.App(ctx, appID)
	switch {
	case errors.Is(err, ErrAppNotFound):
		return App{}, ErrAppNotFound
	case err != nil:
		return App{}, fmt.Errorf("read app: %w", err)
	case app.ID != appID:
		return App{}, errors.New("read app: the key store returned the wrong app")
	}
	if err := app.Validate(); err != nil {
		return App{}, fmt.Errorf("app %q: %w", appID, err)
	}
	if r.leeway >= app.authTTL() || r.leeway >= app.refreshTTL() {
		return App{}, fmt.Errorf("app %q: WithLeeway is %v, not below the lifetimes of its tokens", appID, r.leeway)
	}
	return app, nil
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

// AppKeyHash is the SHA-256 hash of an app key, the only form ever stored. An app
// key is random, so that the hash needs no salt and no stretching.
type AppKeyHash [sha256.Size]byte

// NewAppKey returns a new app key of 256 random bits, 43 characters of base64url,
// and its hash. Give the key to the caller and the hash to the [KeyStore].
func NewAppKey() (key string, hash AppKeyHash) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	key = base64.RawURLEncoding.EncodeToString(secret[:])
	return key, sha256.Sum256([]byte(key))
}

const minAppKeyBytes = 16

// HashAppKey returns the hash of an app key. A key that was not made by
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
	return sha256.Sum256([]byte(key)), nil
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// EnsureApp creates the app and its first signing key, a new one for alg, unless
// they are there. It is for the start of a program: calling it again is nil, and
// any number of servers may call it at the same time. An app that exists stays as
// it is, app keys included; [KeyAdmin] changes one.
//
// admin must be a [KeyStore] too, as the stores of this module are; otherwise the
// error wraps [errors.ErrUnsupported]. An app whose first key was revoked gets no
// other one.
func EnsureApp(ctx context.Context, admin KeyAdmin, app App, alg Algorithm) error {
	keys, ok := admin.(KeyStore)
	if !ok {
		return fmt.Errorf("ensure app %q: the KeyAdmin does not implement KeyStore: %w", app.ID, errors.ErrUnsupported)
	}
	if err := admin.CreateApp(ctx, app); err != nil && !errors.Is(err, ErrAppExists) {
		return fmt.Errorf("ensure app %q: %w", app.ID, err)
	}
	switch _, err := keys.SigningKey(ctx, app.ID); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrKeyNotFound):
		return fmt.Errorf("ensure app %q: read signing key: %w", app.ID, err)
	}
	key, err := generateSigningKey(firstKeyID(app.ID), alg)
	if err != nil {
		return fmt.Errorf("ensure app %q: %w", app.ID, err)
	}
	// Another server may have been first: then the key ID is taken.
	if err := admin.RotateSigningKey(ctx, app.ID, key, time.Now()); err != nil && !errors.Is(err, ErrKeyExists) {
		return fmt.Errorf("ensure app %q: %w", app.ID, err)
	}
	return nil
}

// firstKeyID returns the same key ID for one app on every server, so that a store
// accepts one first key only. Its time is zero: it sorts before all others.
func firstKeyID(appID string) string {
	hash := sha256.Sum256([]byte(appID))
	var id ulid.ULID
	copy(id[6:], hash[:])
	return id.String()
}
