package keydoc_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/keycache"
	"github.com/jwtrenew/renew/internal/keydoc"
	"github.com/jwtrenew/renew/keycrypt"
	"github.com/jwtrenew/renew/storetest"
)

const testApp = "app"

var base = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// backend keeps documents in memory.
type backend struct {
	mu   sync.Mutex
	docs map[string][]byte
	away atomic.Bool
	// twice has the next write take effect and then be repeated, as a driver does
	// when the reply was lost; the function is called in between.
	twice func()
}

var errAway = errors.New("the database is away")

func (b *backend) use() (func(), error) {
	if b.away.Load() {
		return func() {}, errAway
	}
	b.mu.Lock()
	return b.mu.Unlock, nil
}

func (b *backend) ReadApp(_ context.Context, appID string) ([]byte, error) {
	done, err := b.use()
	defer done()
	if err != nil {
		return nil, err
	}
	if doc := b.docs[appID]; doc != nil {
		return doc, nil
	}
	return nil, renew.ErrAppNotFound
}

func (b *backend) again(write func() error) error {
	err := write()
	if twice := b.twice; err == nil && twice != nil {
		b.twice = nil
		twice()
		return write()
	}
	return err
}

func (b *backend) CreateApp(_ context.Context, appID string, doc []byte) error {
	return b.again(func() error {
		done, err := b.use()
		defer done()
		switch {
		case err != nil:
			return err
		case b.docs[appID] != nil:
			return renew.ErrAppExists
		}
		b.docs[appID] = doc
		return nil
	})
}

func (b *backend) ReplaceApp(_ context.Context, appID string, from int64, doc []byte) error {
	return b.again(func() error {
		done, err := b.use()
		defer done()
		if err != nil {
			return err
		}
		var stored struct{ Revision int64 }
		if err := json.Unmarshal(b.docs[appID], &stored); err != nil {
			return err
		}
		if stored.Revision != from {
			return keydoc.ErrLost
		}
		b.docs[appID] = doc
		return nil
	})
}

func (b *backend) AppIDs(context.Context) ([]string, error) {
	done, err := b.use()
	defer done()
	return slices.Collect(maps.Keys(b.docs)), err
}

func open(tb testing.TB, b *backend, interval time.Duration) *keydoc.Store {
	tb.Helper()
	return openAt(tb, b, keycache.Config{Interval: interval, Now: time.Now})
}

func openAt(tb testing.TB, b *backend, c keycache.Config, keys ...byte) *keydoc.Store {
	tb.Helper()
	c.Store, c.Timeout = "test", time.Second
	if len(keys) == 0 {
		keys = []byte{1}
	}
	s, err := keydoc.New(tb.Context(), b, encrypter(tb, keys...), c)
	require.NoError(tb, err)
	return s
}

func encrypter(tb testing.TB, keys ...byte) keycrypt.Encrypter {
	tb.Helper()
	var secrets [][]byte
	for _, n := range keys {
		secret := make([]byte, keycrypt.KeyBytes)
		secret[0] = n
		secrets = append(secrets, secret)
	}
	e, err := keycrypt.New(secrets...)
	require.NoError(tb, err)
	return e
}

func newBackend() *backend { return &backend{docs: map[string][]byte{}} }

func newKey(tb testing.TB) *renew.SigningKey {
	tb.Helper()
	key, err := renew.GenerateSigningKey(renew.EdDSA)
	require.NoError(tb, err)
	return key
}

// TestLaws holds the store to the laws of renew.KeyStore.
func TestLaws(t *testing.T) {
	b := newBackend()
	storetest.TestKeyStore(t, func(tb testing.TB) renew.KeyStore { return open(tb, b, 0) },
		storetest.WithOutage(func(testing.TB) func() {
			b.away.Store(true)
			return func() { b.away.Store(false) }
		}))
}

// TestOwnWriteIsRecognized promises that a change which the driver repeats, because
// the reply was lost, succeeds, happens once, and does not undo what came between.
func TestOwnWriteIsRecognized(t *testing.T) {
	_, hash := renew.NewAppKey()
	key, published := newKey(t), newKey(t)
	for _, c := range []struct {
		name   string
		change func(ctx context.Context, s *keydoc.Store) error
	}{
		{"create", func(ctx context.Context, s *keydoc.Store) error {
			return s.CreateApp(ctx, renew.App{ID: "new", Issuer: "issuer"})
		}},
		{"publish", func(ctx context.Context, s *keydoc.Store) error {
			return s.PublishSigningKey(ctx, testApp, newKey(t))
		}},
		{"rotate to a new key", func(ctx context.Context, s *keydoc.Store) error {
			return s.RotateSigningKey(ctx, testApp, key, base)
		}},
		{"rotate to a published key", func(ctx context.Context, s *keydoc.Store) error {
			return s.RotateSigningKey(ctx, testApp, published, base)
		}},
		{"remove app key", func(ctx context.Context, s *keydoc.Store) error {
			return s.RemoveAppKey(ctx, testApp, hash)
		}},
	} {
		for _, between := range []int{0, 1, 30} {
			t.Run(c.name, func(t *testing.T) {
				ctx, b := t.Context(), newBackend()
				s, other := open(t, b, 0), open(t, b, 0)
				require.NoError(t, s.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer", KeyHashes: []renew.AppKeyHash{hash}}))
				require.NoError(t, s.PublishSigningKey(ctx, testApp, published))
				b.twice = func() {
					for range between {
						for id := range maps.Clone(b.docs) {
							require.NoError(t, other.UpdateApp(ctx, renew.App{ID: id, Issuer: "changed"}))
						}
					}
				}
				require.NoError(t, c.change(ctx, s))
				for id := range b.docs {
					app, err := s.App(ctx, id)
					require.NoError(t, err)
					require.Equal(t, between > 0, app.Issuer == "changed")
				}
			})
		}
	}
}

// TestStatusInterval promises how long another process may use what it has
// read: up to the interval and no longer, and with zero not at all.
func TestStatusInterval(t *testing.T) {
	const interval = 5 * time.Second
	ctx, b, clock := t.Context(), newBackend(), base
	now := func() time.Time { return clock }
	admin := open(t, b, 0)
	first, second := newKey(t), newKey(t)
	require.NoError(t, admin.CreateApp(ctx, renew.App{ID: testApp, Issuer: "issuer"}))
	require.NoError(t, admin.RotateSigningKey(ctx, testApp, first, base))
	s := openAt(t, b, keycache.Config{Interval: interval, OutageLimit: time.Minute, Now: now})
	state := func() (issuer, signs string, verifies error) {
		app, err := s.App(ctx, testApp)
		require.NoError(t, err)
		key, err := s.SigningKey(ctx, testApp)
		require.NoError(t, err)
		_, err = s.VerificationKey(ctx, testApp, first.KeyID())
		return app.Issuer, key.KeyID(), err
	}
	issuer, signs, err := state()
	require.Equal(t, "issuer", issuer)
	require.Equal(t, first.KeyID(), signs)
	require.NoError(t, err)

	require.NoError(t, admin.UpdateApp(ctx, renew.App{ID: testApp, Issuer: "changed"}))
	require.NoError(t, admin.RotateSigningKey(ctx, testApp, second, base))
	require.NoError(t, admin.RevokeKey(ctx, testApp, first.KeyID(), base))
	clock = base.Add(interval - 1)
	issuer, signs, err = state()
	require.Equal(t, "issuer", issuer)
	require.Equal(t, first.KeyID(), signs)
	require.NoError(t, err)
	_, err = s.VerificationKey(ctx, testApp, second.KeyID())
	require.NoError(t, err, "a new key is looked up immediately")

	clock = base.Add(interval)
	issuer, signs, err = state()
	require.Equal(t, "changed", issuer)
	require.Equal(t, second.KeyID(), signs)
	require.ErrorIs(t, err, renew.ErrKeyRevoked)

	b.away.Store(true)
	clock = base.Add(3 * interval)
	_, err = s.VerificationKey(ctx, testApp, second.KeyID())
	require.NoError(t, err, "verification outlives the database")
	_, err = s.SigningKey(ctx, testApp)
	require.ErrorIs(t, err, errAway, "nothing is signed with a key that may have been replaced")
	clock = base.Add(3*interval + time.Minute)
	_, err = s.VerificationKey(ctx, testApp, second.KeyID())
	require.ErrorIs(t, err, errAway)
}

// TestCacheKeepsNothingUnknown promises that names which do not exist leave
// nothing in memory, and that an app which comes to exist is found immediately.
func TestCacheKeepsNothingUnknown(t *testing.T) {
	ctx, b := t.Context(), newBackend()
	s := open(t, b, time.Hour)
	_, err := s.App(ctx, "later")
	require.ErrorIs(t, err, renew.ErrAppNotFound)
	_, err = s.VerificationKey(ctx, "later", "key")
	require.ErrorIs(t, err, renew.ErrKeyNotFound)
	require.Zero(t, s.Cached())
	require.NoError(t, open(t, b, 0).CreateApp(ctx, renew.App{ID: "later", Issuer: "issuer"}))
	_, err = s.App(ctx, "later")
	require.NoError(t, err)
	require.Equal(t, 1, s.Cached())
}

// TestReencrypt promises the way to a new encryption key that keycrypt.New describes.
func TestReencrypt(t *testing.T) {
	ctx, b := t.Context(), newBackend()
	c := keycache.Config{Now: time.Now}
	former := openAt(t, b, c, 1)
	for _, app := range []string{"one", "two"} {
		require.NoError(t, former.CreateApp(ctx, renew.App{ID: app, Issuer: "issuer"}))
		require.NoError(t, former.RotateSigningKey(ctx, app, newKey(t), base))
	}
	_, err := keydoc.New(ctx, b, encrypter(t, 2), c)
	require.ErrorIs(t, err, keycrypt.ErrUnknownKey, "the old one is still needed")
	n, err := openAt(t, b, c, 2, 1).Reencrypt(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	_, err = openAt(t, b, c, 2).SigningKey(ctx, "two")
	require.NoError(t, err)
	_, err = keydoc.New(ctx, b, encrypter(t, 1), c)
	require.ErrorIs(t, err, keycrypt.ErrUnknownKey, "the old one decrypts nothing any more")
}
