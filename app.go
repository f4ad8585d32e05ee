package renew

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
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

	// FormerIssuers are the issuers of tokens that are still accepted, at most 100
	// names of 1 to 255 bytes: a refresh token with one of them is renewed, and the
	// new pair has Issuer; an auth token with one of them is valid until it expires.
	// Put the old issuer here when you rename an app.
	FormerIssuers []string
}

const maxFormerIssuers = 100

// Validate says what is wrong with the app's settings, or returns nil. Stores
// call it before they keep an app, and the [Renewer] before it uses one.
func (a App) Validate() error {
	for _, name := range []struct{ field, value string }{{"ID", a.ID}, {"Issuer", a.Issuer}} {
		if message := checkText(name.value, maxNameBytes); message != "" {
			return fmt.Errorf("app: %s %s", name.field, message)
		}
	}
	if len(a.FormerIssuers) > maxFormerIssuers {
		return fmt.Errorf("app: FormerIssuers has %d entries, but must have at most %d", len(a.FormerIssuers), maxFormerIssuers)
	}
	for i, issuer := range a.FormerIssuers {
		if message := checkText(issuer, maxNameBytes); message != "" {
			return fmt.Errorf("app: FormerIssuers[%d] %s", i, message)
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

// Clone returns a copy that shares no memory with a.
func (a App) Clone() App {
	a.KeyHashes = slices.Clone(a.KeyHashes)
	a.FormerIssuers = slices.Clone(a.FormerIssuers)
	return a
}

// hasIssued reports whether iss is the issuer of tokens that the app accepts.
func (a App) hasIssued(iss string) bool {
	return iss == a.Issuer || slices.Contains(a.FormerIssuers, iss)
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
