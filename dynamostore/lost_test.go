package dynamostore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
)

// named are the errors that mean that a call was in vain.
var named = []error{
	renew.ErrConflict, renew.ErrSessionExists, renew.ErrSessionNotFound,
	renew.ErrAppExists, renew.ErrAppNotFound, renew.ErrKeyExists, renew.ErrKeyNotFound,
}

// stores are the two of one process.
type stores struct {
	tokens *dynamostore.TokenStore
	keys   *dynamostore.KeyStore
}

// lostCase is a method that is called once, and what must be so afterwards.
type lostCase struct {
	name  string
	call  func(ctx context.Context, s stores) error
	check func(t *testing.T, s stores)
}

func tokenCases(s renew.Session) []lostCase {
	next, fresh := successor(s), newSession("fresh")
	moved := successor(s)
	moved.Subject = "other"
	is := func(want renew.Session) func(t *testing.T, s stores) {
		return func(t *testing.T, s stores) {
			t.Helper()
			got, err := s.tokens.Session(t.Context(), testApp, want.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
			all, err := s.tokens.SubjectSessions(t.Context(), testApp, want.Subject, base)
			require.NoError(t, err)
			if want.RevokedAt.IsZero() {
				require.Contains(t, all, want)
			} else {
				require.NotContains(t, all, want)
			}
		}
	}
	revoked := s
	revoked.RevokedAt = base
	return []lostCase{
		{"CreateSession", func(ctx context.Context, st stores) error { return st.tokens.CreateSession(ctx, fresh) }, is(fresh)},
		{"Session", func(ctx context.Context, st stores) error {
			_, err := st.tokens.Session(ctx, testApp, s.ID)
			return err
		}, is(s)},
		{"Rotate", func(ctx context.Context, st stores) error { return st.tokens.Rotate(ctx, s.TokenID, next) }, is(next)},
		{"Rotate to another subject", func(ctx context.Context, st stores) error { return st.tokens.Rotate(ctx, s.TokenID, moved) }, is(moved)},
		{"Rotate to the same", func(ctx context.Context, st stores) error { return st.tokens.Rotate(ctx, s.TokenID, s) }, is(s)},
		{"RevokeSession", func(ctx context.Context, st stores) error { return st.tokens.RevokeSession(ctx, testApp, s.ID, base) }, is(revoked)},
		{"SubjectSessions", func(ctx context.Context, st stores) error {
			all, err := st.tokens.SubjectSessions(ctx, testApp, s.Subject, base)
			if err == nil && len(all) != 1 {
				return errors.New("not one session")
			}
			return err
		}, is(s)},
		{"RevokeSubject", func(ctx context.Context, st stores) error {
			n, err := st.tokens.RevokeSubject(ctx, testApp, s.Subject, base)
			if err == nil && n != 1 {
				return renew.ErrConflict // its own write, counted for another's
			}
			return err
		}, is(revoked)},
		{"DeleteExpired", func(ctx context.Context, st stores) error {
			_, err := st.tokens.DeleteExpired(ctx, base.AddDate(9, 0, 0), 10)
			return err
		}, func(t *testing.T, st stores) {
			t.Helper()
			_, err := st.tokens.Session(t.Context(), testApp, s.ID)
			require.ErrorIs(t, err, renew.ErrSessionNotFound)
		}},
	}
}

func keyCases(t *testing.T) []lostCase {
	t.Helper()
	key, published := newKey(t), newKey(t)
	_, hash := renew.NewAppKey()
	return []lostCase{
		{"CreateApp", func(ctx context.Context, s stores) error {
			return s.keys.CreateApp(ctx, renew.App{ID: "new", Issuer: "issuer"})
		}, func(t *testing.T, s stores) {
			t.Helper()
			ids, err := s.keys.AppIDs(t.Context())
			require.NoError(t, err)
			require.Equal(t, []string{testApp, "new"}, ids)
		}},
		{"UpdateApp", func(ctx context.Context, s stores) error {
			return s.keys.UpdateApp(ctx, renew.App{ID: testApp, Issuer: "changed"})
		}, func(t *testing.T, s stores) {
			t.Helper()
			app, err := s.keys.App(t.Context(), testApp)
			require.NoError(t, err)
			require.Equal(t, "changed", app.Issuer)
		}},
		{"AddAppKey and RemoveAppKey", func(ctx context.Context, s stores) error {
			if err := s.keys.AddAppKey(ctx, testApp, hash); err != nil {
				return err
			}
			return s.keys.RemoveAppKey(ctx, testApp, hash)
		}, func(t *testing.T, s stores) {
			t.Helper()
			app, err := s.keys.App(t.Context(), testApp)
			require.NoError(t, err)
			require.Empty(t, app.KeyHashes)
		}},
		{"PublishSigningKey", func(ctx context.Context, s stores) error {
			return s.keys.PublishSigningKey(ctx, testApp, published)
		}, func(t *testing.T, s stores) {
			t.Helper()
			_, err := s.keys.PublishedKey(t.Context(), testApp, published.KeyID())
			require.NoError(t, err)
		}},
		{"RotateSigningKey", func(ctx context.Context, s stores) error {
			return s.keys.RotateSigningKey(ctx, testApp, key, base)
		}, func(t *testing.T, s stores) {
			t.Helper()
			got, err := s.keys.SigningKey(t.Context(), testApp)
			require.NoError(t, err)
			require.Equal(t, key.KeyID(), got.KeyID())
		}},
		{"RevokeKey", func(ctx context.Context, s stores) error {
			if err := s.keys.PublishSigningKey(ctx, testApp, published); err != nil {
				return err
			}
			return s.keys.RevokeKey(ctx, testApp, published.KeyID(), base)
		}, func(t *testing.T, s stores) {
			t.Helper()
			_, err := s.keys.VerificationKey(t.Context(), testApp, published.KeyID())
			require.ErrorIs(t, err, renew.ErrKeyRevoked)
		}},
		{"DeleteExpiredKeys", func(ctx context.Context, s stores) error {
			_, err := s.keys.DeleteExpiredKeys(ctx, base)
			return err
		}, func(*testing.T, stores) {}},
	}
}

// TestLostReplies promises that a caller gets success, or an error of unclear outcome,
// when responses are lost, and never an error that says that its own write was in vain:
// for each method, with each of its responses lost in turn, with the SDK's repetitions
// and without, and where a failed condition returns no item.
func TestLostReplies(t *testing.T) {
	for _, c := range []struct {
		name    string
		backend func(testing.TB) *backend
		change  func(*dynamodb.Options)
		repeats bool
	}{
		{"retries", dynalite, quickRetries, true},
		{"no retries", dynalite, withoutRetries, false},
		{"no items", plainDynalite, quickRetries, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.backend(t)
			s := newSession("session")
			for i, one := range append(tokenCases(s), keyCases(t)...) {
				t.Run(one.name, func(t *testing.T) {
					for at := 0; ; at++ {
						b.clear(t)
						direct := stores{b.tokens(t, b.client(t)), b.keys(t, b.client(t))}
						require.NoError(t, direct.tokens.CreateSession(t.Context(), s))
						require.NoError(t, direct.keys.CreateApp(t.Context(), renew.App{ID: testApp, Issuer: "issuer"}))
						method := append(tokenCases(s), keyCases(t)...)[i]
						lost, err := loseReply(t, b, c.change, at, method)
						if err == nil {
							method.check(t, direct)
						}
						if c.repeats {
							require.NoError(t, err, "response %d was lost, and the SDK has repeated the request", at+1)
						}
						if !lost {
							require.NoError(t, err)
							require.Positive(t, at)
							return
						}
					}
				})
			}
		})
	}
}

// loseReply calls the method while the response after the first at ones is lost, and
// reports whether there was one.
func loseReply(t *testing.T, b *backend, change func(*dynamodb.Options), at int, c lostCase) (bool, error) {
	t.Helper()
	proxy := newLossy(t, b.emulator.URL, -1)
	defer proxy.Close()
	client := b.client(t, change, proxy.through)
	s := stores{b.tokens(t, client), b.keys(t, client)}
	proxy.mu.Lock()
	proxy.lose = proxy.seen + at
	proxy.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := c.call(ctx, s)
	for _, wrong := range named {
		require.NotErrorIs(t, err, wrong, "response %d was lost", at+1)
	}
	return proxy.lost.Load(), err
}

// TestRepeatedAfterOthers promises that the SDK's repetition finds its own write when
// others have written since, and changes nothing then; and that a write which was
// overtaken by more than an item remembers is an error of unclear outcome.
func TestRepeatedAfterOthers(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	for _, overtaken := range []int{0, 1, 3, 4} {
		b.clear(t)
		other := b.tokens(t, b.client(t))
		s := newSession("session")
		require.NoError(t, other.CreateSession(ctx, s))
		next := successor(s)
		last := next
		proxy := newLossy(t, b.emulator.URL, -1)
		store := b.tokens(t, b.client(t, quickRetries, proxy.through))
		proxy.lose = proxy.seen
		proxy.between = func() {
			for range overtaken {
				after := successor(last)
				if err := other.Rotate(ctx, last.TokenID, after); err != nil {
					t.Error(err)
				}
				last = after
			}
		}
		err := store.Rotate(ctx, s.TokenID, next)
		require.True(t, proxy.lost.Load())
		if overtaken < 4 {
			require.NoError(t, err, "overtaken by %d", overtaken)
		} else {
			require.Error(t, err)
			require.NotErrorIs(t, err, renew.ErrConflict)
		}
		got, err := other.Session(ctx, testApp, s.ID)
		require.NoError(t, err)
		require.Equal(t, last, got)
		require.ErrorIs(t, store.Rotate(ctx, s.TokenID, next), renew.ErrConflict, "another call is not a repetition")
		require.ErrorIs(t, store.CreateSession(ctx, s), renew.ErrSessionExists)
	}
}
