package jwtplus_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/jwtplus"
)

// The tests in this file promise what another import does: it takes over what is new
// and leaves alone what is there, whatever has happened to it since.

// TestImportAgain changes both sides between two imports.
func TestImportAgain(t *testing.T) {
	f := readFixture(t)
	d, s := f.database(t), newMemory(t)
	run(t, d, s, jwtplus.Options{})
	ctx := t.Context()

	// What an operator changes, and users do.
	app, err := s.keys.App(ctx, generatedApp)
	require.NoError(t, err)
	oldHash := app.KeyHashes[0]
	newKey, newHash := renew.NewAppKey()
	require.NoError(t, s.keys.AddAppKey(ctx, generatedApp, newHash))
	require.NoError(t, s.keys.RemoveAppKey(ctx, generatedApp, oldHash))
	app.Issuer, app.FormerIssuers, app.AuthTTL = "https://new.example", []string{"fixture-es256"}, time.Minute
	require.NoError(t, s.keys.UpdateApp(ctx, app))
	server := newServer(t, s, s.tokens)
	used, loggedOut := f.token(t, "plain"), f.token(t, "short IPv6 address")
	status, body := post(t, server.URL+"/app/"+generatedApp+"/renew", newKey, renewal(used.text("refresh_token")))
	require.Equal(t, http.StatusOK, status, "%s", body)
	status, _ = post(t, server.URL+"/app/"+generatedApp+"/revoke", newKey, map[string]string{"token": loggedOut.text("refresh_token")})
	require.Equal(t, http.StatusOK, status)

	// What is new in the old database: a key that has replaced the active one, a
	// session, a key that is revoked.
	d.exec("UPDATE app_keys SET is_expired = 'yes' WHERE key_id = ?", generatedKey)
	next := f.row(t, "app_keys", "key_id", generatedKey).with(record{"key_id": ulid.Make().String(), "is_expired": "no"})
	d.insert("app_keys", next)
	const revoked = "01M894QFJZ86JC6YVHAQMHP10Y"
	d.exec("UPDATE app_keys SET is_revoked = 'yes' WHERE key_id = ?", revoked)
	f.generate(t, d, 3)

	report, lines := run(t, d, s, jwtplus.Options{DryRun: true})
	require.Equal(t, 3, report.Sessions.Taken, "%+v", report)
	require.Equal(t, 1, report.Keys.Taken)
	_, err = s.keys.VerificationKey(ctx, generatedApp, revoked)
	require.NoError(t, err, "a dry run has revoked a key")
	require.NotEmpty(t, lines)

	report, _ = run(t, d, s, jwtplus.Options{})
	require.Equal(t, jwtplus.Counts{Read: 4, Existing: 4}, report.Apps)
	require.Equal(t, jwtplus.Counts{Read: 12, Taken: 1, Existing: 9, Rejected: 2}, report.Keys)
	require.Equal(t, 3, report.Sessions.Taken)
	require.Equal(t, 1, report.Changed[jwtplus.ReasonRevokedNow])

	active, err := s.keys.SigningKey(ctx, generatedApp)
	require.NoError(t, err)
	require.Equal(t, next.text("key_id"), active.KeyID(), "the newest key signs")
	_, err = s.keys.VerificationKey(ctx, generatedApp, revoked)
	require.ErrorIs(t, err, renew.ErrKeyRevoked)
	after, err := s.keys.App(ctx, generatedApp)
	require.NoError(t, err)
	require.Equal(t, app.Issuer, after.Issuer)
	require.Equal(t, app.AuthTTL, after.AuthTTL)
	require.Equal(t, []renew.AppKeyHash{newHash}, after.KeyHashes, "an app key that was removed is back")
	rotated, err := s.tokens.Session(ctx, generatedApp, used.text("token_id"))
	require.NoError(t, err)
	require.NotEqual(t, rotated.ID, rotated.TokenID, "a renewed session was set back")
	ended, err := s.tokens.Session(ctx, generatedApp, loggedOut.text("token_id"))
	require.NoError(t, err)
	require.False(t, ended.RevokedAt.IsZero(), "a logout was undone")
}

// TestOwnKeyStays promises that no key of JWTPlus replaces one that the operator has
// made the active one.
func TestOwnKeyStays(t *testing.T) {
	f := readFixture(t)
	d, s := f.database(t), newMemory(t)
	run(t, d, s, jwtplus.Options{})
	own, err := renew.GenerateSigningKey(renew.ES256)
	require.NoError(t, err)
	require.NoError(t, s.keys.RotateSigningKey(t.Context(), generatedApp, own, fixtureClock))
	late := f.row(t, "app_keys", "key_id", generatedKey).with(record{"key_id": generatedID(7)})
	d.insert("app_keys", late)
	for _, dry := range []bool{true, false} {
		report, _ := run(t, d, s, jwtplus.Options{DryRun: dry})
		require.Equal(t, 1, report.Rejected[jwtplus.ReasonKeyOrder])
		require.Zero(t, report.Keys.Taken)
		active, err := s.keys.SigningKey(t.Context(), generatedApp)
		require.NoError(t, err)
		require.Equal(t, own.KeyID(), active.KeyID())
	}
}

// TestShortenedLifetime promises that tokens from before an app's lifetimes were made
// shorter are renewed as long as they live: the end of their key is late enough.
func TestShortenedLifetime(t *testing.T) {
	f := readFixture(t)
	d := f.database(t)
	d.exec("UPDATE apps SET refresh_expiry = 7200")
	for name, newStores := range targets {
		if name != "memstore" && name != "SQLite" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := newStores(t)
			report, _ := run(t, d, s, jwtplus.Options{})
			require.Zero(t, report.Rejected[jwtplus.ReasonRefreshToken])
			f.renewAll(t, newServer(t, s, s.tokens), func(e expectation) bool { return name == "memstore" || e.Kind != longSubject })
		})
	}
}

// TestRenamedApp promises that the names that an app had are accepted, and no others.
func TestRenamedApp(t *testing.T) {
	f := readFixture(t)
	s := newMemory(t)
	run(t, f.database(t), s, jwtplus.Options{})
	for _, r := range f.tables["apps"] {
		app, err := s.keys.App(t.Context(), r.text("app_id"))
		require.NoError(t, err)
		require.ElementsMatch(t, f.formerNames[app.ID], app.FormerIssuers)
	}
}

// TestKeyOrder promises that the active key signs after the import, and not one that
// JWTPlus has marked expired, whatever their IDs.
func TestKeyOrder(t *testing.T) {
	f := readFixture(t)
	d, s := f.database(t), newMemory(t)
	const older, newer = "01M894QFJZ86JC6YVHAQMHP10Y", generatedKey
	d.exec("UPDATE app_keys SET is_expired = IF(key_id = ?, 'no', 'yes') WHERE app_id = ?", older, generatedApp)
	run(t, d, s, jwtplus.Options{})
	active, err := s.keys.SigningKey(t.Context(), generatedApp)
	require.NoError(t, err)
	require.Equal(t, older, active.KeyID())
	replaced, err := s.keys.VerificationKey(t.Context(), generatedApp, newer)
	require.NoError(t, err)
	require.False(t, replaced.End().IsZero())
}

// TestOutageIsNoLine promises that an import ends with an error when a store fails,
// and does not report the row as one that cannot be taken over.
func TestOutageIsNoLine(t *testing.T) {
	f := readFixture(t)
	d, s := f.database(t), newMemory(t)
	down := errors.New("down")
	// The first row is one that a store need not keep.
	const odd = "00000000000000000000000000"
	sign := f.signer(t)
	d.insert("tokens", f.row(t, "tokens", "key_id", generatedKey).with(record{
		"token_id": odd, "sub": sha512Hex("a\nb"),
		"auth_token":    sign(record{"sub": "a\nb"}),
		"refresh_token": sign(record{"iss": "fixture-es256", "iat": issuedAt, "nbf": issuedAt, "exp": expiresAt, "jid": odd, "type": "refresh"}),
	}))
	for _, c := range []struct {
		name  string
		store failing
	}{
		{"reads fail", failing{TokenStore: s.tokens, read: down}},
		{"writes fail", failing{TokenStore: s.tokens, create: down}},
	} {
		report, err := jwtplus.Import(t.Context(), jwtplus.NewSource(d.DB), s.keys, c.store,
			jwtplus.Options{Now: atFixtureClock, Workers: 1, Line: func(l jwtplus.Line) {
				require.NotEqual(t, jwtplus.ReasonStore, l.Reason, "%s: %s", c.name, l)
			}})
		require.ErrorIs(t, err, down, c.name)
		require.Zero(t, report.Sessions.Taken)
	}
	_, err := jwtplus.Import(t.Context(), jwtplus.NewSource(d.DB), keysOnly{s.keys}, s.tokens, jwtplus.Options{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.True(t, strings.HasPrefix(err.Error(), "jwtplus: import: "))
}

type keysOnly struct{ renew.KeyAdmin }

// failing is a token store of which calls fail.
type failing struct {
	renew.TokenStore
	read, create error
}

func (f failing) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if f.read != nil {
		return renew.Session{}, f.read
	}
	return f.TokenStore.Session(ctx, appID, sessionID)
}

func (f failing) CreateSession(ctx context.Context, s renew.Session) error {
	if f.create != nil {
		return f.create
	}
	return f.TokenStore.CreateSession(ctx, s)
}

// TestStoreThatPanics promises that a panic of the store, which the import calls in
// goroutines, ends the import and not the process.
func TestStoreThatPanics(t *testing.T) {
	f := readFixture(t)
	d, s := f.database(t), newMemory(t)
	_, err := jwtplus.Import(t.Context(), jwtplus.NewSource(d.DB), s.keys, panicking{s.tokens}, jwtplus.Options{Now: atFixtureClock})
	require.ErrorContains(t, err, "panicked: a store's bug")
	run(t, d, s, jwtplus.Options{})
}

type panicking struct{ renew.TokenStore }

func (panicking) CreateSession(context.Context, renew.Session) error { panic("a store's bug") }
