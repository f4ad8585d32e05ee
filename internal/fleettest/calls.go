package fleettest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// TokenStore is what the TokenStores of a fleet implement.
type TokenStore interface {
	renew.TokenStore
	renew.SubjectStore
	renew.Purger
}

// KeyStore is what the KeyStores of a fleet implement.
type KeyStore interface {
	renew.KeyStore
	renew.KeyLister
	renew.KeyAdmin
	renew.AppLister
	renew.PublishedKeyStore
	Reencrypt(ctx context.Context) (int, error)
}

// Stores are those of one process.
type Stores struct {
	Tokens TokenStore
	Keys   KeyStore
}

// Call is a call of one method, and what must be so after it.
type Call struct {
	Name  string
	Do    func(ctx context.Context, s Stores) error
	Check func(t *testing.T, s Stores)
}

// errCount means that a method has done what it had to and returned another number.
var errCount = errors.New("the number that was returned is wrong")

// named are the errors that mean that a call has changed nothing.
var named = []error{
	renew.ErrConflict, renew.ErrSessionExists, renew.ErrSessionNotFound,
	renew.ErrAppExists, renew.ErrAppNotFound, renew.ErrKeyExists, renew.ErrKeyNotFound, errCount,
}

// RequireNotNamed checks that an error, if there is one, does not say that the call has
// changed nothing.
func RequireNotNamed(t *testing.T, err error, msgAndArgs ...any) {
	t.Helper()
	for _, wrong := range named {
		require.NotErrorIs(t, err, wrong, msgAndArgs...)
	}
}

// count has a call fail if the method returns another number than want.
func count(n int, err error, want int) error {
	if err == nil && n != want {
		return errCount
	}
	return err
}

// Prepare stores what the calls need: the session s, the app, and a signing key.
func Prepare(t *testing.T, st Stores, s renew.Session) {
	t.Helper()
	require.NoError(t, st.Tokens.CreateSession(t.Context(), s))
	require.NoError(t, st.Keys.CreateApp(t.Context(), App()))
	require.NoError(t, st.Keys.RotateSigningKey(t.Context(), AppID, NewKey(t), Base))
}

// Calls has every method of both stores. s is the only session.
func Calls(t *testing.T, s renew.Session) []Call {
	t.Helper()
	return append(tokenCalls(s), keyCalls(t)...)
}

func tokenCalls(s renew.Session) []Call {
	next, fresh := Successor(s), NewSession("fresh")
	moved, revoked := Successor(s), s
	moved.Subject, revoked.RevokedAt = "other", Base
	return []Call{
		{"CreateSession", func(ctx context.Context, st Stores) error { return st.Tokens.CreateSession(ctx, fresh) }, isStored(fresh)},
		{"Session", func(ctx context.Context, st Stores) error {
			_, err := st.Tokens.Session(ctx, AppID, s.ID)
			return err
		}, isStored(s)},
		{"Rotate", func(ctx context.Context, st Stores) error { return st.Tokens.Rotate(ctx, s.TokenID, next) }, isStored(next)},
		{"Rotate to another subject", func(ctx context.Context, st Stores) error { return st.Tokens.Rotate(ctx, s.TokenID, moved) }, isStored(moved)},
		{"Rotate to the same", func(ctx context.Context, st Stores) error { return st.Tokens.Rotate(ctx, s.TokenID, s) }, isStored(s)},
		{"RevokeSession", func(ctx context.Context, st Stores) error { return st.Tokens.RevokeSession(ctx, AppID, s.ID, Base) }, isStored(revoked)},
		{"SubjectSessions", func(ctx context.Context, st Stores) error {
			all, err := st.Tokens.SubjectSessions(ctx, AppID, s.Subject, Base)
			return count(len(all), err, 1)
		}, isStored(s)},
		{"RevokeSubject", func(ctx context.Context, st Stores) error {
			n, err := st.Tokens.RevokeSubject(ctx, AppID, s.Subject, Base)
			return count(n, err, 1)
		}, isStored(revoked)},
		{"DeleteExpired", func(ctx context.Context, st Stores) error {
			n, err := st.Tokens.DeleteExpired(ctx, Base.AddDate(9, 0, 0), 10)
			return count(n, err, 1)
		}, func(t *testing.T, st Stores) {
			t.Helper()
			_, err := st.Tokens.Session(t.Context(), AppID, s.ID)
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
		}},
	}
}

// isStored checks that the session is stored as want, and listed unless it is revoked.
func isStored(want renew.Session) func(t *testing.T, st Stores) {
	return func(t *testing.T, st Stores) {
		t.Helper()
		got, err := st.Tokens.Session(t.Context(), AppID, want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		all, err := st.Tokens.SubjectSessions(t.Context(), AppID, want.Subject, Base)
		require.NoError(t, err)
		if want.RevokedAt.IsZero() {
			require.Contains(t, all, want)
		} else {
			require.NotContains(t, all, want)
		}
	}
}

func keyCalls(t *testing.T) []Call {
	t.Helper()
	key, published := NewKey(t), NewKey(t)
	_, hash := renew.NewAppKey()
	hasAppKeys := func(want ...renew.AppKeyHash) func(t *testing.T, st Stores) {
		return appIs(func(t *testing.T, app renew.App) {
			t.Helper()
			require.Equal(t, want, app.KeyHashes)
		})
	}
	publish := func(ctx context.Context, st Stores) error { return st.Keys.PublishSigningKey(ctx, AppID, published) }
	revoke := func(ctx context.Context, st Stores) error {
		if err := publish(ctx, st); err != nil {
			return err
		}
		return st.Keys.RevokeKey(ctx, AppID, published.KeyID(), Base)
	}
	return []Call{
		{"CreateApp", func(ctx context.Context, st Stores) error {
			return st.Keys.CreateApp(ctx, renew.App{ID: "new", Issuer: "issuer"})
		}, func(t *testing.T, st Stores) {
			t.Helper()
			ids, err := st.Keys.AppIDs(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{AppID, "new"}, ids)
		}},
		{"UpdateApp", func(ctx context.Context, st Stores) error {
			return st.Keys.UpdateApp(ctx, renew.App{ID: AppID, Issuer: "changed"})
		}, appIs(func(t *testing.T, app renew.App) {
			t.Helper()
			require.Equal(t, "changed", app.Issuer)
		})},
		{"AddAppKey", func(ctx context.Context, st Stores) error { return st.Keys.AddAppKey(ctx, AppID, hash) }, hasAppKeys(hash)},
		{"RemoveAppKey", func(ctx context.Context, st Stores) error {
			if err := st.Keys.AddAppKey(ctx, AppID, hash); err != nil {
				return err
			}
			return st.Keys.RemoveAppKey(ctx, AppID, hash)
		}, hasAppKeys()},
		{"PublishSigningKey", publish, func(t *testing.T, st Stores) {
			t.Helper()
			_, err := st.Keys.PublishedKey(t.Context(), AppID, published.KeyID())
			require.NoError(t, err)
		}},
		{"RotateSigningKey", func(ctx context.Context, st Stores) error {
			return st.Keys.RotateSigningKey(ctx, AppID, key, Base)
		}, signs(key)},
		{"RotateSigningKey to a published key", func(ctx context.Context, st Stores) error {
			if err := publish(ctx, st); err != nil {
				return err
			}
			return st.Keys.RotateSigningKey(ctx, AppID, published, Base)
		}, signs(published)},
		{"RevokeKey", revoke, func(t *testing.T, st Stores) {
			t.Helper()
			_, err := st.Keys.VerificationKey(t.Context(), AppID, published.KeyID())
			require.ErrorIs(t, err, renew.ErrKeyRevoked)
		}},
		{"DeleteExpiredKeys", func(ctx context.Context, st Stores) error {
			if err := revoke(ctx, st); err != nil {
				return err
			}
			n, err := st.Keys.DeleteExpiredKeys(ctx, Base.AddDate(1, 0, 0))
			return count(n, err, 1)
		}, func(t *testing.T, st Stores) {
			t.Helper()
			_, err := st.Keys.VerificationKey(t.Context(), AppID, published.KeyID())
			require.ErrorIs(t, err, renew.ErrKeyNotFound)
		}},
		{"Reencrypt", func(ctx context.Context, st Stores) error {
			n, err := st.Keys.Reencrypt(ctx)
			return count(n, err, 1)
		}, nothing},
		{"KeyStore and KeyLister", func(ctx context.Context, st Stores) error {
			_, err := st.Keys.App(ctx, AppID)
			if err != nil {
				return err
			}
			signing, err := st.Keys.SigningKey(ctx, AppID)
			if err != nil {
				return err
			}
			if _, err = st.Keys.VerificationKey(ctx, AppID, signing.KeyID()); err != nil {
				return err
			}
			all, err := st.Keys.VerificationKeys(ctx, AppID)
			return count(len(all), err, 1)
		}, nothing},
		{"AppIDs", func(ctx context.Context, st Stores) error {
			ids, err := st.Keys.AppIDs(ctx)
			return count(len(ids), err, 1)
		}, nothing},
	}
}

func nothing(*testing.T, Stores) {}

func appIs(check func(t *testing.T, app renew.App)) func(t *testing.T, st Stores) {
	return func(t *testing.T, st Stores) {
		t.Helper()
		app, err := st.Keys.App(t.Context(), AppID)
		require.NoError(t, err)
		check(t, app)
	}
}

func signs(key *renew.SigningKey) func(t *testing.T, st Stores) {
	return func(t *testing.T, st Stores) {
		t.Helper()
		got, err := st.Keys.SigningKey(t.Context(), AppID)
		require.NoError(t, err)
		require.Equal(t, key.KeyID(), got.KeyID())
	}
}
