package memstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

const appID = "app"

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func within(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

func newKey(t *testing.T) *renew.SigningKey {
	t.Helper()
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	require.NoError(t, err)
	return key
}

func keyID(key *renew.SigningKey) string { return key.VerificationKey().KeyID() }

// newStore returns a store that holds this app, with the ID appID.
func newStore(t *testing.T, app renew.App) *Store {
	t.Helper()
	app.ID, app.Issuer = appID, "issuer"
	s := New()
	require.NoError(t, s.CreateApp(t.Context(), app))
	return s
}

func rotate(t *testing.T, s *Store, at time.Time) *renew.SigningKey {
	t.Helper()
	key := newKey(t)
	require.NoError(t, s.RotateSigningKey(t.Context(), appID, key, at))
	return key
}

func update(t *testing.T, s *Store, refreshTTL, authTTL time.Duration) {
	t.Helper()
	require.NoError(t, s.UpdateApp(t.Context(), renew.App{ID: appID, Issuer: "issuer", RefreshTTL: refreshTTL, AuthTTL: authTTL}))
}

func TestRotatedKeyVerifiesUntilItsLastTokenExpires(t *testing.T) {
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	for _, test := range []struct {
		name  string
		app   renew.App
		steps func(*testing.T, *Store) *renew.SigningKey // returns the key in question
		until time.Time
	}{
		{
			"refresh lifetime",
			renew.App{RefreshTTL: 10 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				old := rotate(t, s, hour(0))
				rotate(t, s, hour(1))
				return old
			},
			hour(11),
		},
		{
			"default lifetimes",
			renew.App{},
			func(t *testing.T, s *Store) *renew.SigningKey {
				old := rotate(t, s, hour(0))
				rotate(t, s, hour(1))
				return old
			},
			hour(1).Add(renew.DefaultRefreshTTL),
		},
		{
			"a refresh lifetime that follows from the auth lifetime",
			renew.App{AuthTTL: 2 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				old := rotate(t, s, hour(0))
				rotate(t, s, hour(1))
				return old
			},
			hour(7),
		},
		{
			"lifetime lowered while the key was active",
			renew.App{RefreshTTL: 10 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				old := rotate(t, s, hour(0))
				update(t, s, 2*time.Hour, 0)
				rotate(t, s, hour(1))
				return old
			},
			hour(11),
		},
		{
			"lifetime raised while the key was active",
			renew.App{RefreshTTL: 2 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				old := rotate(t, s, hour(0))
				update(t, s, 20*time.Hour, 0)
				rotate(t, s, hour(1))
				return old
			},
			hour(21),
		},
		{
			"lifetime of before the first key",
			renew.App{RefreshTTL: 10 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				update(t, s, 2*time.Hour, 0)
				old := rotate(t, s, hour(0))
				rotate(t, s, hour(1))
				return old
			},
			hour(3),
		},
		{
			"lifetime raised after the rotation",
			renew.App{RefreshTTL: 2 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				old := rotate(t, s, hour(0))
				rotate(t, s, hour(1))
				update(t, s, 20*time.Hour, 0)
				return old
			},
			hour(3),
		},
		{
			"never before an earlier key, whose pairs it may have signed again",
			renew.App{RefreshTTL: 10 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				rotate(t, s, hour(0))
				update(t, s, 2*time.Hour, 0)
				second := rotate(t, s, hour(1))
				rotate(t, s, hour(2))
				return second
			},
			hour(11),
		},
		{
			"never before an earlier key, though that was revoked",
			renew.App{RefreshTTL: 10 * time.Hour},
			func(t *testing.T, s *Store) *renew.SigningKey {
				first := rotate(t, s, hour(0))
				require.NoError(t, s.RevokeKey(t.Context(), appID, keyID(first), hour(1)))
				update(t, s, 2*time.Hour, 0)
				second := rotate(t, s, hour(1))
				rotate(t, s, hour(2))
				return second
			},
			hour(11),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t, test.app)
			key := test.steps(t, s)
			requireVerifiesUntil(t, s, key, test.until.Add(time.Minute)) // for renewals under way

			_, err := s.DeleteExpiredKeys(t.Context(), test.until)
			require.NoError(t, err)
			_, err = s.VerificationKey(t.Context(), appID, keyID(key))
			require.NoError(t, err, "a retry may still present its last token")
			n, err := s.DeleteExpiredKeys(t.Context(), test.until.Add(24*time.Hour))
			require.NoError(t, err)
			require.Positive(t, n)
			_, err = s.VerificationKey(t.Context(), appID, keyID(key))
			require.ErrorIs(t, err, renew.ErrKeyNotFound)
			n, err = s.DeleteExpiredKeys(t.Context(), test.until.Add(24*time.Hour))
			require.NoError(t, err)
			require.Zero(t, n, "keys that were deleted are counted again")
		})
	}
}

// requireVerifiesUntil forges auth tokens with the key: it verifies what expires
// at until, and nothing that expires later.
func requireVerifiesUntil(t *testing.T, s *Store, key *renew.SigningKey, until time.Time) {
	t.Helper()
	// A store in which the key is active signs the tokens.
	forge := newStore(t, renew.App{})
	require.NoError(t, forge.RotateSigningKey(t.Context(), appID, key, start))
	for _, c := range []struct {
		exp   time.Time
		valid bool
	}{{until, true}, {until.Add(time.Second), false}} {
		clock := renew.WithClock(func() time.Time { return c.exp.Add(-renew.DefaultAuthTTL) })
		forger, err := renew.New(forge, forge, clock)
		require.NoError(t, err)
		b, err := forger.Issue(t.Context(), renew.IssueRequest{AppID: appID, Subject: "ann", IP: "::1"})
		require.NoError(t, err)
		r, err := renew.New(s, s, clock)
		require.NoError(t, err)
		_, err = r.VerifyAuthToken(t.Context(), appID, b.AuthToken)
		if c.valid {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, string(renew.ReasonRetiredKey))
		}
	}
}

// pair is what one Issue or Renew handed out.
type pair struct {
	*renew.Bundle
	used *renew.Bundle // whose refresh token it replaced; nil: issued
}

func (p pair) alive(at time.Time) bool {
	return at.Before(p.RefreshExpiresAt) || at.Before(p.AuthExpiresAt)
}

// Whatever an operator does to an app in the meantime, a token that was handed out and
// has not expired finds its key, although keys are deleted as soon as they may
// be: to renew, to be verified, and to get a lost response again.
func TestNoLiveTokenLosesItsKey(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	anyTTLs := func() (refresh, auth time.Duration) {
		auth = time.Second + within(random, 5*time.Hour).Truncate(time.Second)
		return auth + time.Second + within(random, 5*time.Hour).Truncate(time.Second), auth
	}
	now := start
	s := newStore(t, renew.App{})
	rotate(t, s, now)
	r, err := renew.New(s, s, renew.WithClock(func() time.Time { return now }), renew.WithRetryWindow(1000*time.Hour))
	require.NoError(t, err)
	ask := func(b *renew.Bundle) *renew.Bundle {
		next, err := r.Renew(t.Context(), renew.RenewRequest{AppID: appID, RefreshToken: b.RefreshToken, IP: "::1", UserAgent: "test"})
		require.NoError(t, err)
		return next
	}

	var pairs []pair
	deleted, retried := 0, 0
	for range 2000 {
		now = now.Add(within(random, 20*time.Minute))
		n, err := s.DeleteExpiredKeys(t.Context(), now)
		require.NoError(t, err)
		deleted += n
		pairs = slices.DeleteFunc(pairs, func(p pair) bool { return !p.alive(now) })
		for _, p := range pairs {
			_, err := s.VerificationKey(t.Context(), appID, p.KeyID)
			require.NoError(t, err, "the key of a valid token is gone")
		}
		switch random.IntN(6) {
		case 0:
			rotate(t, s, now)
		case 1:
			refresh, auth := anyTTLs()
			update(t, s, refresh, auth)
		case 2:
			b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: appID, Subject: "ann", IP: "::1", UserAgent: "test"})
			require.NoError(t, err)
			pairs = append(pairs, pair{b, nil})
		}
		if len(pairs) == 0 {
			continue
		}
		p := &pairs[random.IntN(len(pairs))]
		switch {
		case !now.Before(p.RefreshExpiresAt):
		case p.used != nil && now.Before(p.used.RefreshExpiresAt) && random.IntN(2) == 0:
			again := ask(p.used)
			require.Equal(t, p.TokenID, again.TokenID)
			p.Bundle = again // perhaps with another key, to the old expiry
			retried++
		default:
			*p = pair{ask(p.Bundle), p.Bundle}
		}
	}
	t.Logf("%d keys deleted, %d retries", deleted, retried)
	require.Greater(t, deleted, 100)
	require.Greater(t, retried, 100)
}

func TestKeyStoreErrors(t *testing.T) {
	s := newStore(t, renew.App{})
	key := rotate(t, s, start)
	require.NoError(t, s.CreateApp(t.Context(), renew.App{ID: "other", Issuer: "other"}))

	t.Run("no such app", func(t *testing.T) {
		_, err := s.App(t.Context(), "none")
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		_, err = s.SigningKey(t.Context(), "none")
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
		_, err = s.VerificationKey(t.Context(), "none", keyID(key))
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
		_, err = s.VerificationKeys(t.Context(), "none")
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		require.ErrorIs(t, s.UpdateApp(t.Context(), renew.App{ID: "none", Issuer: "i"}), renew.ErrAppNotFound)
		require.ErrorIs(t, s.AddAppKey(t.Context(), "none", keyHash(1)), renew.ErrAppNotFound)
		require.ErrorIs(t, s.RemoveAppKey(t.Context(), "none", keyHash(1)), renew.ErrAppNotFound)
		require.ErrorIs(t, s.RotateSigningKey(t.Context(), "none", key, start), renew.ErrAppNotFound)
		require.ErrorIs(t, s.RevokeKey(t.Context(), "none", keyID(key), start), renew.ErrAppNotFound)
	})
	t.Run("no such key", func(t *testing.T) {
		_, err := s.SigningKey(t.Context(), "other")
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
		_, err = s.VerificationKey(t.Context(), "other", keyID(key))
		require.ErrorIs(t, err, renew.ErrKeyNotFound, "another app's key verifies")
		require.ErrorIs(t, s.RevokeKey(t.Context(), "other", keyID(key), start), renew.ErrKeyNotFound)
		require.ErrorIs(t, s.RemoveAppKey(t.Context(), "other", keyHash(1)), renew.ErrKeyNotFound)
		keys, err := s.VerificationKeys(t.Context(), "other")
		require.NoError(t, err)
		require.Empty(t, keys)
	})
	t.Run("taken", func(t *testing.T) {
		require.ErrorIs(t, s.CreateApp(t.Context(), renew.App{ID: appID, Issuer: "thief"}), renew.ErrAppExists)
		app, err := s.App(t.Context(), appID)
		require.NoError(t, err)
		require.Equal(t, "issuer", app.Issuer)
		require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, key, start), renew.ErrKeyExists)
		active, err := s.SigningKey(t.Context(), appID)
		require.NoError(t, err)
		require.Same(t, key, active)
	})
	t.Run("nonsense", func(t *testing.T) {
		require.ErrorContains(t, s.CreateApp(t.Context(), renew.App{ID: "new"}), "Issuer")
		_, err := s.App(t.Context(), "new")
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		require.ErrorContains(t, s.UpdateApp(t.Context(), renew.App{ID: appID, Issuer: "issuer", AuthTTL: -1}), "AuthTTL")
		require.ErrorContains(t, s.RotateSigningKey(t.Context(), appID, nil, start), "nil")
		require.ErrorContains(t, s.RotateSigningKey(t.Context(), appID, newKey(t), time.Time{}), "time is zero")
		require.ErrorContains(t, s.RevokeKey(t.Context(), appID, keyID(key), time.Time{}), "time is zero")
		_, err = s.VerificationKey(t.Context(), appID, keyID(key))
		require.NoError(t, err)
	})
}

func TestRotationLeavesOneActiveKey(t *testing.T) {
	s := newStore(t, renew.App{})
	oldest := rotate(t, s, start)
	middle := rotate(t, s, start)
	newest := rotate(t, s, start)

	active, err := s.SigningKey(t.Context(), appID)
	require.NoError(t, err)
	require.Same(t, newest, active)
	keys, err := s.VerificationKeys(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, []string{newest.KeyID(), middle.KeyID(), oldest.KeyID()}, ids(keys))
	require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, oldest, start), renew.ErrKeyExists, "an old key comes back")
}

func ids(keys []*renew.VerificationKey) (ids []string) {
	for _, key := range keys {
		ids = append(ids, key.KeyID())
	}
	return ids
}

// AppIDs lists every app, once and in order.
func TestAppIDs(t *testing.T) {
	s := newStore(t, renew.App{})
	want := []string{appID}
	for _, id := range []string{"b", "B", "a", " a", "é", "z"} {
		require.NoError(t, s.CreateApp(t.Context(), renew.App{ID: id, Issuer: "issuer"}))
		want = append(want, id)
	}
	slices.Sort(want)
	got, err := s.AppIDs(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// A published key verifies and does not sign, until it is made the active one.
func TestPublishedKey(t *testing.T) {
	s := newStore(t, renew.App{})
	active := rotate(t, s, start)
	published := newKey(t)
	require.NoError(t, s.PublishSigningKey(t.Context(), appID, published))
	require.ErrorIs(t, s.PublishSigningKey(t.Context(), appID, published), renew.ErrKeyExists)
	require.ErrorIs(t, s.PublishSigningKey(t.Context(), appID, active), renew.ErrKeyExists)
	signing, err := s.SigningKey(t.Context(), appID)
	require.NoError(t, err)
	require.Same(t, active, signing)
	keys, err := s.VerificationKeys(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, []string{active.KeyID(), published.KeyID()}, ids(keys))
	n, err := s.DeleteExpiredKeys(t.Context(), start.AddDate(100, 0, 0))
	require.NoError(t, err)
	require.Zero(t, n)

	other, err := renew.NewSigningKey(published.KeyID(), renew.EdDSA, newKey(t).Signer())
	require.NoError(t, err)
	require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, other, start), renew.ErrKeyExists, "another key of the same ID")

	// With RSA, one key can be made for several algorithms. A key that signs with
	// another one than it verifies with invalidates every token that it signs.
	first, err := renew.GenerateSigningKey(renew.RS256)
	require.NoError(t, err)
	require.NoError(t, s.PublishSigningKey(t.Context(), appID, first))
	other, err = renew.NewSigningKey(first.KeyID(), renew.PS256, first.Signer())
	require.NoError(t, err)
	require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, other, start), renew.ErrKeyExists, "another algorithm")
	require.NoError(t, s.RevokeKey(t.Context(), appID, first.KeyID(), start))
	_, err = s.DeleteExpiredKeys(t.Context(), start.Add(time.Second))
	require.NoError(t, err)

	key, err := s.PublishedKey(t.Context(), appID, published.KeyID())
	require.NoError(t, err)
	require.Same(t, published, key)
	notPublished := func(key *renew.SigningKey) {
		t.Helper()
		_, err := s.PublishedKey(t.Context(), appID, key.KeyID())
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
	}
	notPublished(active)
	notPublished(newKey(t))
	_, err = s.PublishedKey(t.Context(), "unknown", published.KeyID())
	require.ErrorIs(t, err, renew.ErrAppNotFound)

	require.NoError(t, s.RotateSigningKey(t.Context(), appID, published, start))
	notPublished(published)
	notPublished(active)
	signing, err = s.SigningKey(t.Context(), appID)
	require.NoError(t, err)
	require.Same(t, published, signing)
	keys, err = s.VerificationKeys(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, []string{published.KeyID(), active.KeyID()}, ids(keys))
	require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, published, start), renew.ErrKeyExists)

	t.Run("that is revoked never becomes active", func(t *testing.T) {
		leaked := newKey(t)
		require.NoError(t, s.PublishSigningKey(t.Context(), appID, leaked))
		require.NoError(t, s.RevokeKey(t.Context(), appID, leaked.KeyID(), start))
		notPublished(leaked)
		require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, leaked, start), renew.ErrKeyExists)
	})
}

func TestRevokeKey(t *testing.T) {
	t.Run("an older one", func(t *testing.T) {
		s := newStore(t, renew.App{})
		old := rotate(t, s, start)
		active := rotate(t, s, start)
		for range 2 { // again is nil
			require.NoError(t, s.RevokeKey(t.Context(), appID, keyID(old), start))
		}
		_, err := s.VerificationKey(t.Context(), appID, keyID(old))
		require.ErrorIs(t, err, renew.ErrKeyRevoked)
		keys, err := s.VerificationKeys(t.Context(), appID)
		require.NoError(t, err)
		require.Equal(t, []*renew.VerificationKey{active.VerificationKey()}, keys)
		got, err := s.SigningKey(t.Context(), appID)
		require.NoError(t, err)
		require.Same(t, active, got)
	})
	t.Run("the active one", func(t *testing.T) {
		s := newStore(t, renew.App{})
		old := rotate(t, s, start)
		active := rotate(t, s, start)
		require.NoError(t, s.RevokeKey(t.Context(), appID, keyID(active), start))
		_, err := s.SigningKey(t.Context(), appID)
		require.ErrorIs(t, err, renew.ErrKeyNotFound, "a revoked key signs, or an old one came back")
		_, err = s.VerificationKey(t.Context(), appID, keyID(old))
		require.NoError(t, err)
		require.ErrorIs(t, s.RotateSigningKey(t.Context(), appID, active, start), renew.ErrKeyExists, "a revoked key comes back")

		next := rotate(t, s, start)
		got, err := s.SigningKey(t.Context(), appID)
		require.NoError(t, err)
		require.Same(t, next, got)
		_, err = s.VerificationKey(t.Context(), appID, keyID(active))
		require.ErrorIs(t, err, renew.ErrKeyRevoked)
	})
	t.Run("its record goes when its last token has expired", func(t *testing.T) {
		s := newStore(t, renew.App{RefreshTTL: 10 * time.Hour})
		key := rotate(t, s, start)
		require.NoError(t, s.RevokeKey(t.Context(), appID, keyID(key), start))
		require.NoError(t, s.RevokeKey(t.Context(), appID, keyID(key), start.Add(time.Hour)))
		end := start.Add(20*time.Hour + time.Minute)
		n, err := s.DeleteExpiredKeys(t.Context(), end)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.DeleteExpiredKeys(t.Context(), end.Add(1))
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

func TestActiveKeyNeverExpires(t *testing.T) {
	s := newStore(t, renew.App{})
	key := rotate(t, s, start)
	n, err := s.DeleteExpiredKeys(t.Context(), start.AddDate(100, 0, 0))
	require.NoError(t, err)
	require.Zero(t, n)
	got, err := s.SigningKey(t.Context(), appID)
	require.NoError(t, err)
	require.Same(t, key, got)
}

func TestAppKeysOverlapAndSurviveUpdates(t *testing.T) {
	first, second := keyHash(1), keyHash(2)
	s := newStore(t, renew.App{KeyHashes: []renew.AppKeyHash{first, first}})
	hashes := func() []renew.AppKeyHash {
		app, err := s.App(t.Context(), appID)
		require.NoError(t, err)
		return app.KeyHashes
	}
	for range 2 { // again is nil, and adds none
		require.NoError(t, s.AddAppKey(t.Context(), appID, second))
	}
	require.Equal(t, []renew.AppKeyHash{first, first, second}, hashes())

	require.NoError(t, s.RemoveAppKey(t.Context(), appID, first))
	require.Equal(t, []renew.AppKeyHash{second}, hashes(), "a hash that was given twice is still there")
	require.ErrorIs(t, s.RemoveAppKey(t.Context(), appID, first), renew.ErrKeyNotFound)

	stale := renew.App{ID: appID, Issuer: "new", KeyHashes: []renew.AppKeyHash{first}}
	require.NoError(t, s.UpdateApp(t.Context(), stale))
	app, err := s.App(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, renew.App{ID: appID, Issuer: "new", KeyHashes: []renew.AppKeyHash{second}}, app)
}

// T9's like for apps: nothing handed in or out is shared.
func TestAppSharesNothing(t *testing.T) {
	in := []renew.AppKeyHash{keyHash(1)}
	s := newStore(t, renew.App{KeyHashes: in})
	in[0] = keyHash(9)
	out, err := s.App(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, []renew.AppKeyHash{keyHash(1)}, out.KeyHashes)
	out.KeyHashes[0] = keyHash(9)
	require.NoError(t, s.AddAppKey(t.Context(), appID, keyHash(2)))
	again, err := s.App(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, []renew.AppKeyHash{keyHash(1), keyHash(2)}, again.KeyHashes)

	keys := rotate(t, s, start)
	list, err := s.VerificationKeys(t.Context(), appID)
	require.NoError(t, err)
	list[0] = nil
	list, err = s.VerificationKeys(t.Context(), appID)
	require.NoError(t, err)
	require.Equal(t, []*renew.VerificationKey{keys.VerificationKey()}, list)
}

// Administrators at work at the same moment lose none of each other's changes,
// and readers always see a whole app with its active key.
func TestAdministrationIsConcurrent(t *testing.T) {
	const administrators, each = 4, 200
	s := newStore(t, renew.App{})
	first := rotate(t, s, start)
	var wg sync.WaitGroup
	for n := range administrators {
		wg.Go(func() {
			for i := range each {
				hash := keyHash(n, i)
				if err := s.AddAppKey(t.Context(), appID, hash); err != nil {
					t.Error(err)
				}
				if i%20 == 0 {
					administerKeys(t, s)
				}
			}
		})
	}
	wg.Go(func() {
		for range administrators * each {
			active, err := s.SigningKey(t.Context(), appID)
			if err != nil {
				t.Error(err)
				return
			}
			_, err = s.VerificationKey(t.Context(), appID, keyID(active))
			if err != nil && !errors.Is(err, renew.ErrKeyRevoked) {
				t.Error(err)
			}
			if _, err := s.VerificationKey(t.Context(), appID, keyID(first)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	app, err := s.App(t.Context(), appID)
	if err != nil || len(app.KeyHashes) != administrators*each {
		t.Errorf("%d app keys of %d, error %v", len(app.KeyHashes), administrators*each, err)
	}
	list, err := s.VerificationKeys(t.Context(), appID)
	if want := 1 + administrators*each/20; err != nil || len(list) != want {
		t.Errorf("%d keys of %d, error %v", len(list), want, err)
	}
}

// administerKeys gives the app two keys, and revokes the first of them.
func administerKeys(t *testing.T, s *Store) {
	var ids []string
	for range 2 {
		key, err := renew.GenerateSigningKey(renew.EdDSA)
		if err == nil {
			err = s.RotateSigningKey(t.Context(), appID, key, start)
		}
		if err != nil {
			t.Error(err)
			return
		}
		ids = append(ids, keyID(key))
	}
	if err := s.RevokeKey(t.Context(), appID, ids[0], start); err != nil {
		t.Error(err)
	}
}

// T8, of every method: a context that is done is its error, and nothing changes.
func TestDoneContextChangesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := newStore(t, renew.App{KeyHashes: []renew.AppKeyHash{keyHash(1)}})
	old := rotate(t, s, start)
	active := rotate(t, s, start)
	session := renew.Session{AppID: appID, ID: "s", Subject: "ann", TokenID: "1", RefreshExpiresAt: start}
	require.NoError(t, s.CreateSession(t.Context(), session))
	next := session
	next.TokenID = "2"
	created := session
	created.ID = "new"

	for name, call := range map[string]func() error{
		"App":              func() error { _, err := s.App(ctx, appID); return err },
		"SigningKey":       func() error { _, err := s.SigningKey(ctx, appID); return err },
		"VerificationKey":  func() error { _, err := s.VerificationKey(ctx, appID, keyID(active)); return err },
		"VerificationKeys": func() error { _, err := s.VerificationKeys(ctx, appID); return err },
		"CreateApp":        func() error { return s.CreateApp(ctx, renew.App{}) },
		"UpdateApp":        func() error { return s.UpdateApp(ctx, renew.App{}) },
		"AddAppKey":        func() error { return s.AddAppKey(ctx, appID, keyHash(2)) },
		"RemoveAppKey":     func() error { return s.RemoveAppKey(ctx, appID, keyHash(1)) },
		"RotateSigningKey": func() error { return s.RotateSigningKey(ctx, appID, newKey(t), start) },
		"RevokeKey":        func() error { return s.RevokeKey(ctx, appID, keyID(old), start) },
		"DeleteExpiredKeys": func() error {
			n, err := s.DeleteExpiredKeys(ctx, start.AddDate(1, 0, 0))
			require.Zero(t, n)
			return err
		},
		"CreateSession":   func() error { return s.CreateSession(ctx, created) },
		"Session":         func() error { _, err := s.Session(ctx, appID, "s"); return err },
		"Rotate":          func() error { return s.Rotate(ctx, "1", next) },
		"RevokeSession":   func() error { return s.RevokeSession(ctx, appID, "s", start) },
		"SubjectSessions": func() error { _, err := s.SubjectSessions(ctx, appID, "ann", start); return err },
		"RevokeSubject":   func() error { _, err := s.RevokeSubject(ctx, appID, "ann", start); return err },
		"DeleteExpired": func() error {
			n, err := s.DeleteExpired(ctx, start.AddDate(1, 0, 0), 1)
			require.Zero(t, n)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, call(), context.Canceled)
			app, err := s.App(t.Context(), appID)
			require.NoError(t, err)
			require.Equal(t, renew.App{ID: appID, Issuer: "issuer", KeyHashes: []renew.AppKeyHash{keyHash(1)}}, app)
			keys, err := s.VerificationKeys(t.Context(), appID)
			require.NoError(t, err)
			require.Equal(t, []string{active.KeyID(), old.KeyID()}, ids(keys))
			got, err := s.Session(t.Context(), appID, "s")
			require.NoError(t, err)
			require.Equal(t, session, got)
			_, err = s.Session(t.Context(), appID, "new")
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
		})
	}
}

// An administrator's error says which app it is about, and holds no hash.
func TestAdministrationErrorsNameTheApp(t *testing.T) {
	s := newStore(t, renew.App{})
	_, hash := renew.NewAppKey()
	err := s.RemoveAppKey(t.Context(), appID, hash)
	require.EqualError(t, err, fmt.Sprintf("memstore: remove app key of app %q: key not found", appID))
	require.EqualError(t, s.UpdateApp(t.Context(), renew.App{ID: "none", Issuer: "i"}), `memstore: update app "none": app not found`)
}

// keyHash returns a hash that differs with the bytes.
func keyHash(bytes ...int) renew.AppKeyHash {
	digest := make([]byte, sha256.Size)
	for i, b := range bytes {
		digest[i] = byte(b)
	}
	hash, err := renew.ParseAppKeyHash(fmt.Sprintf("sha256:%x", digest))
	if err != nil {
		panic(err)
	}
	return hash
}
