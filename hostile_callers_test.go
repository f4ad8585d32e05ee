package renew_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// The promise: IDs that no session can have cost no store call, and are not
// quoted in an error, where they could forge a log line.
func TestIDsThatNoSessionCanHave(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	f.hooks.calls()
	f.events.take()
	for _, id := range []string{
		"", "x", "a\nlevel=ERROR msg=forged", "\xff", "\x00", strings.ToLower(b.SessionID), b.SessionID + " ", strings.Repeat("A", 1<<20), "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
	} {
		err := f.RevokeSession(f.ctx, f.app.ID, id)
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
		require.Equal(t, renew.ErrSessionNotFound.Error(), err.Error())
	}
	for _, name := range []string{"", "\xff", "\x00", "a\nb", strings.Repeat("A", 256)} {
		require.ErrorIs(t, f.RevokeSession(f.ctx, name, b.SessionID), renew.ErrSessionNotFound)
		for _, who := range [][2]string{{name, "user@example.com"}, {f.app.ID, name}} {
			sessions, err := f.Sessions(f.ctx, who[0], who[1])
			require.NoError(t, err)
			require.Empty(t, sessions)
			n, err := f.RevokeSubject(f.ctx, who[0], who[1])
			require.NoError(t, err)
			require.Zero(t, n)
		}
	}
	require.Equal(t, [4]int64{}, f.hooks.calls())
	require.Empty(t, f.events.take())
	f.renew(b)
}

// The promise: a hook that refuses says no more than that, whatever else its
// error wraps; it is no answer about the app, and no event about the store.
func TestDenialIsNothingElse(t *testing.T) {
	for name, cause := range map[string]error{
		"a missing app":       renew.ErrAppNotFound,
		"a wrong app key":     renew.ErrInvalidAppKey,
		"a store that lags":   renew.ErrAhead,
		"another token error": refusedToken(t),
		"a wrong request":     &renew.ValidationError{Fields: []renew.FieldError{{Field: "x", Message: "y"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var deny error
			f := newFixture(t, renew.WithRenewFunc(func(context.Context, *renew.Renewal) error { return deny }))
			first := f.issue()
			f.events.take()
			deny = errors.Join(cause, renew.ErrDenied)
			_, err := f.Renew(f.ctx, f.request(first))
			requireRejected(t, err, renew.ReasonDenied)
			require.ErrorIs(t, err, renew.ErrDenied)
			for _, sentinel := range []error{renew.ErrAppNotFound, renew.ErrInvalidAppKey, renew.ErrAhead, renew.ErrInvalidAuthToken} {
				require.NotErrorIs(t, err, sentinel)
			}
			var invalid *renew.ValidationError
			require.NotErrorAs(t, err, &invalid)
			require.Equal(t, []renew.EventKind{renew.EventRejected}, f.events.kinds())
			deny = nil
			f.renew(first)
		})
	}
}

// A TokenError that somebody else makes, as in a test of theirs, has a text.
func TestTokenErrorOfOthers(t *testing.T) {
	err := &renew.TokenError{Reason: renew.ReasonExpired, Detail: "yesterday"}
	require.ErrorIs(t, err, renew.ErrInvalidToken)
	require.NotErrorIs(t, err, renew.ErrInvalidRefreshToken)
	require.Equal(t, "invalid token: expired: yesterday", err.Error())
}

type nilLister struct{ *memstore.Store }

func (nilLister) VerificationKeys(context.Context, string) ([]*renew.VerificationKey, error) {
	return []*renew.VerificationKey{nil}, nil
}

func TestKeySetWithANilKeyIsTheServersFault(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(nilLister{f.store}, f.store)
	require.NoError(t, err)
	_, err = r.KeySet(f.ctx, f.app.ID)
	requireInternal(t, err)
}

// The promise: both tokens of a pair are signed, or there is no pair. An EdDSA
// signer sees what it signs.
func TestSignerThatFailsForOneOfThePair(t *testing.T) {
	honest := generate(t, renew.EdDSA)
	for _, failing := range []struct {
		name    string
		refresh bool
	}{{"the auth token", false}, {"the refresh token", true}} {
		t.Run(failing.name, func(t *testing.T) {
			signer := &remoteSigner{Signer: honest.Signer()}
			key, err := renew.NewSigningKey(loadCorpus().keys["stranger"].ID, renew.EdDSA, signer)
			require.NoError(t, err)
			f := newFixture(t)
			require.NoError(t, f.store.RotateSigningKey(f.ctx, f.app.ID, key, f.clock.Now()))
			first := f.issue()
			signer.sign = func(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
				_, payload, _ := strings.Cut(string(message), ".")
				claims, err := base64.RawURLEncoding.DecodeString(payload)
				if err != nil {
					return nil, err
				}
				if strings.Contains(string(claims), `"type":"refresh"`) == failing.refresh {
					return nil, errOutage
				}
				return honest.Signer().Sign(random, message, opts)
			}
			_, err = f.Renew(f.ctx, f.request(first))
			requireInternal(t, err)
			require.ErrorIs(t, err, errOutage)
			signer.sign = nil
			f.renew(first)
		})
	}
}

// The promise: where no pair can be made, there is no session either.
func TestIssueThatFailsLeavesNoSession(t *testing.T) {
	for name, c := range map[string]struct {
		config   fixtureConfig
		sabotage func(f *fixture)
	}{
		"no signing key": {
			config: fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
				return &brokenKeys{KeyStore: s, signing: func(*renew.SigningKey) (*renew.SigningKey, error) { return nil, renew.ErrKeyNotFound }}
			}},
		},
		"a signing key that is nil": {
			config: fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore {
				return &brokenKeys{KeyStore: s, signing: func(*renew.SigningKey) (*renew.SigningKey, error) { return nil, nil }}
			}},
		},
		"a clock past what a ULID can hold": {
			sabotage: func(f *fixture) { f.clock.now = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.config.new(t)
			if c.sabotage != nil {
				c.sabotage(f)
			}
			f.hooks.calls()
			b, err := f.Issue(f.ctx, f.issueRequest())
			require.Nil(t, b)
			requireInternal(t, err)
			require.Equal(t, [4]int64{}, f.hooks.calls())
			require.Empty(t, f.events.take())
		})
	}
}

// The promise: once a token is genuine, its refusal says which session it is
// about, though nothing was read.
func TestErrorsNameTheSession(t *testing.T) {
	f := fixtureConfig{app: func(a *renew.App) { a.RefreshNotBefore = time.Minute }}.new(t)
	b := f.issue()
	requireNamed := func(err error) {
		t.Helper()
		var about *renew.SessionError
		require.ErrorAs(t, err, &about)
		require.Equal(t, [3]string{f.app.ID, b.SessionID, b.TokenID}, [3]string{about.AppID, about.SessionID, about.TokenID})
		require.Contains(t, err.Error(), b.SessionID)
	}
	f.events.take()
	_, err := f.Renew(f.ctx, f.request(b))
	requireRejected(t, err, renew.ReasonTooEarly)
	requireNamed(err)
	events := f.events.take()
	require.Len(t, events, 1)
	require.Equal(t, [2]string{b.SessionID, b.TokenID}, [2]string{events[0].SessionID, events[0].TokenID})
	f.clock.Move(time.Minute)
	f.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
		return renew.Session{}, errOutage
	}
	_, err = f.Renew(f.ctx, f.request(b))
	requireInternal(t, err)
	requireNamed(err)
	_, err = f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
	requireInternal(t, err)
	requireNamed(err)
}

// The promise: a store that mixes sessions up renews none of them, and proves
// none of them alive.
func TestStoreThatReturnsAnotherSession(t *testing.T) {
	for name, change := range map[string]func(s *renew.Session, other renew.Session){
		"of another ID":          func(s *renew.Session, other renew.Session) { s.ID = other.ID },
		"of another app":         func(s *renew.Session, _ renew.Session) { s.AppID = "app_2" },
		"altogether":             func(s *renew.Session, other renew.Session) { *s = other },
		"an empty one":           func(s *renew.Session, _ renew.Session) { *s = renew.Session{} },
		"of an ID in lower case": func(s *renew.Session, _ renew.Session) { s.ID = strings.ToLower(s.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			b, other := f.issue(), f.issue()
			f.hooks.session = func(_ context.Context, do func() (renew.Session, error)) (renew.Session, error) {
				s, err := do()
				change(&s, f.session(other))
				return s, err
			}
			_, err := f.Renew(f.ctx, f.request(b))
			requireInternal(t, err)
			_, err = f.VerifySession(f.ctx, f.app.ID, b.AuthToken)
			requireInternal(t, err)
			require.Equal(t, [2]int64{0, 0}, [2]int64{f.hooks.rotates.Load(), f.hooks.revokes.Load()})
			f.hooks.session = nil
			f.renew(b)
			f.renew(other)
		})
	}
}

// The promise: a session whose token ID is the greatest that there is has no
// successor, and is not rotated to itself.
func TestGreatestTokenIDHasNoSuccessor(t *testing.T) {
	f := newFixture(t)
	b := f.issue()
	made := f.forge(b)
	made.session.TokenID = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
	require.NoError(t, f.store.Rotate(f.ctx, b.TokenID, made.session))
	req := f.request(b)
	req.RefreshToken = made.withPayload(made.claims().String())
	_, err := f.Renew(f.ctx, req)
	requireInternal(t, err)
	require.Zero(t, f.hooks.rotates.Load())
	require.Equal(t, made.session.TokenID, f.session(b).TokenID)
}

// The promise: a kid that no key can have is not looked up, or a store that is
// lenient about case or spaces would be asked for what only looks like its key.
func TestKeyIDsAreCheckedBeforeTheStoreIsAsked(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	b := f.issue()
	made := f.forge(b)
	id := f.key.VerificationKey().KeyID()
	for _, kid := range []string{"", strings.ToLower(id), id + " ", " " + id, id[:25], id + "0", "../" + id, "x' OR '1'='1", `\u0000`, "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"} {
		req := f.request(b)
		req.RefreshToken = made.withHeader(made.header().with("kid", quote(kid)).String())
		keys.calls = map[string]int{}
		_, err := f.Renew(f.ctx, req)
		requireRejected(t, err, renew.ReasonUnknownKey)
		require.Equal(t, map[string]int{"App": 1}, keys.calls, kid)
	}
	f.renew(b)
}

// The promise: what made a key store fail is kept for the log.
func TestCauseOfAKeyStoresFailureIsKept(t *testing.T) {
	fail := false
	broken := &brokenKeys{
		verification: func(k *renew.VerificationKey) (*renew.VerificationKey, error) {
			if fail {
				return nil, errOutage
			}
			return k, nil
		},
	}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { broken.KeyStore = s; return broken }}.new(t)
	b := f.issue()
	fail = true
	_, err := f.Renew(f.ctx, f.request(b))
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	_, err = f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
	require.ErrorIs(t, err, errOutage)
	fail = false
	f.renew(b)
}

// sharingKeys is a KeyStore that hands out one App to all, as its contract
// allows: what it returns is to be read.
type sharingKeys struct {
	renew.KeyStore
	shared renew.App
}

func (s *sharingKeys) App(context.Context, string) (renew.App, error) { return s.shared, nil }

// The promise: what a hook does to its copy of the app is done to the copy.
func TestHookCannotChangeTheApp(t *testing.T) {
	keys := &sharingKeys{}
	f := fixtureConfig{
		keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys },
		opts: []renew.Option{renew.WithRenewFunc(func(_ context.Context, rn *renew.Renewal) error {
			clear(rn.App.KeyHashes)
			return nil
		})},
	}.new(t)
	keys.shared = f.app
	f.renew(f.issue())
	require.NoError(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
}

// The promise: a retry that cannot be signed is the server's fault, and can be
// repeated.
func TestRetryThatCannotBeSigned(t *testing.T) {
	fail := false
	broken := &brokenKeys{signing: func(k *renew.SigningKey) (*renew.SigningKey, error) {
		if fail {
			return nil, errOutage
		}
		return k, nil
	}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { broken.KeyStore = s; return broken }}.new(t)
	first := f.issue()
	second, err := f.renewWith(first, testKey1)
	require.NoError(t, err)
	fail = true
	f.events.take()
	b, err := f.renewWith(first, testKey1)
	require.Nil(t, b)
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	require.Empty(t, f.events.take())
	fail = false
	again, err := f.renewWith(first, testKey1)
	require.NoError(t, err)
	requireSamePair(t, second, again)
	f.renew(again)
}

// What a session keeps of an idempotency key is its hash, and nothing of none.
func TestSessionKeepsOnlyAHashOfTheIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	first := f.issue()
	require.Nil(t, f.session(first).IdempotencyKeyHash)
	second, err := f.renewWith(first, testKey1)
	require.NoError(t, err)
	hash := sha256.Sum256([]byte(testKey1))
	require.Equal(t, hash[:], f.session(first).IdempotencyKeyHash)
	f.renew(second)
	require.Nil(t, f.session(first).IdempotencyKeyHash)
}

// failingCreate is a TokenStore that creates no session.
type failingCreate struct {
	*memstore.Store
	err error
}

func (s failingCreate) CreateSession(context.Context, renew.Session) error { return s.err }

// The promise: nobody is given tokens of a session that was not stored.
func TestIssueWithoutASessionGivesNoTokens(t *testing.T) {
	for _, cause := range []error{errOutage, renew.ErrSessionExists, context.Canceled} {
		f := newFixture(t)
		r, err := renew.New(f.store, failingCreate{f.store, cause}, renew.WithEventFunc(f.events.add))
		require.NoError(t, err)
		b, err := r.Issue(f.ctx, f.issueRequest())
		require.Nil(t, b)
		requireInternal(t, err)
		require.ErrorIs(t, err, cause)
		require.Empty(t, f.events.take())
	}
}

// failingSubjects is a SubjectStore that is down, in the middle of it.
type failingSubjects struct{ *memstore.Store }

func (failingSubjects) SubjectSessions(context.Context, string, string, time.Time) ([]renew.Session, error) {
	return nil, errOutage
}

func (failingSubjects) RevokeSubject(context.Context, string, string, time.Time, ...string) (int, error) {
	return 1, errOutage
}

// The promise: sessions that may not have been revoked are not reported as
// revoked.
func TestSubjectStoreThatFails(t *testing.T) {
	f := newFixture(t)
	r, err := renew.New(f.store, failingSubjects{f.store}, renew.WithEventFunc(f.events.add))
	require.NoError(t, err)
	n, err := r.RevokeSubject(f.ctx, f.app.ID, "user@example.com")
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	require.Equal(t, 1, n)
	require.Empty(t, f.events.take())
	_, err = r.Sessions(f.ctx, f.app.ID, "user@example.com")
	requireInternal(t, err)
	require.ErrorIs(t, err, errOutage)
	for _, who := range [][2]string{{"\x00", "user@example.com"}, {f.app.ID, "\xff"}, {"", ""}} { // no store is asked for these
		sessions, err := r.Sessions(f.ctx, who[0], who[1])
		require.NoError(t, err)
		require.Empty(t, sessions)
		n, err := r.RevokeSubject(f.ctx, who[0], who[1])
		require.NoError(t, err)
		require.Zero(t, n)
	}
}

// The promise: an app ID that no app can have is an unknown app, and no store is
// asked for it.
func TestAppIDsThatNoAppCanHave(t *testing.T) {
	keys := &countedKeys{calls: map[string]int{}}
	f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { keys.KeyStore = s; return keys }}.new(t)
	b := f.issue()
	keys.calls = map[string]int{}
	lister, err := renew.New(failingLister{f.store}, f.store)
	require.NoError(t, err)
	for _, appID := range []string{"", "\x00", "a\nb", "\xff", strings.Repeat("a", 256)} {
		require.ErrorIs(t, f.AuthenticateApp(f.ctx, appID, f.appKey), renew.ErrAppNotFound)
		_, err = f.VerifyAuthToken(f.ctx, appID, b.AuthToken)
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		require.ErrorIs(t, f.Revoke(f.ctx, appID, b.AuthToken), renew.ErrAppNotFound)
		_, err = lister.KeySet(f.ctx, appID)
		require.ErrorIs(t, err, renew.ErrAppNotFound)
	}
	require.Empty(t, keys.calls)
}

// The promise: settings that a store should never have kept are the server's
// fault. Without an issuer, a token without one would match.
func TestAppOfAStoreIsValidated(t *testing.T) {
	for name, change := range map[string]func(a *renew.App){
		"no issuer":              func(a *renew.App) { a.Issuer = "" },
		"a negative lifetime":    func(a *renew.App) { a.RefreshTTL = -time.Hour },
		"a lifetime too fine":    func(a *renew.App) { a.AuthTTL = time.Millisecond },
		"never good":             func(a *renew.App) { a.RefreshNotBefore = 24 * time.Hour },
		"an issuer of two lines": func(a *renew.App) { a.Issuer = "a\nb" },
	} {
		t.Run(name, func(t *testing.T) {
			broken := &brokenKeys{}
			f := fixtureConfig{keys: func(s *memstore.Store) renew.KeyStore { broken.KeyStore = s; return broken }}.new(t)
			b := f.issue()
			made := f.forge(b)
			broken.app = func(a *renew.App) error { change(a); return nil }
			f.hooks.calls()
			req := f.request(b)
			req.RefreshToken = made.withPayload(made.claims().without("iss").String())
			_, err := f.Renew(f.ctx, req)
			requireInternal(t, err)
			_, err = f.VerifyAuthToken(f.ctx, f.app.ID, b.AuthToken)
			requireInternal(t, err)
			requireInternal(t, f.AuthenticateApp(f.ctx, f.app.ID, f.appKey))
			_, err = f.Issue(f.ctx, f.issueRequest())
			requireInternal(t, err)
			require.Equal(t, [4]int64{}, f.hooks.calls())
		})
	}
}

// The limits of an idempotency key, to the byte.
func TestIdempotencyKeysAtTheLimits(t *testing.T) {
	visible := ""
	for c := byte('!'); c <= '~'; c++ {
		visible += string(rune(c))
	}
	for key, good := range map[string]bool{
		visible:                  true,
		strings.Repeat("k", 16):  true,
		strings.Repeat("k", 255): true,
		strings.Repeat("k", 15):  false,
		strings.Repeat("k", 256): false,
		visible + " ":            false,
		visible + "\x7f":         false,
		visible + "\u00e9":       false,
	} {
		f := newFixture(t)
		_, err := f.renewWith(f.issue(), key)
		if good {
			require.NoError(t, err, key)
			continue
		}
		var invalid *renew.ValidationError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "Idempotency-Key", invalid.Fields[0].Field)
	}
}
