package dynamostore_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/fleettest"
)

var errKilled = errors.New("the process was killed")

// TestKilledBetweenSteps promises that a process which is killed between two of its
// requests, wherever that is, leaves nothing that another process sees as wrong: a
// session is there as a whole with its entry in its subject's list, or not.
func TestKilledBetweenSteps(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	s := newSession("session")
	for _, c := range fleettest.Steps(s) {
		t.Run(c.Name, func(t *testing.T) {
			for at := 0; ; at++ {
				b.clear(t)
				other := b.tokens(t, b.client(t))
				if c.Had {
					require.NoError(t, other.CreateSession(ctx, s))
				}
				sent, counts := 0, false
				store := b.tokens(t, b.client(t, withoutRetries, around{func(_ *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
					if counts {
						if sent++; sent > at {
							return nil, errKilled
						}
					}
					return send()
				}}.option))
				counts = true
				err := c.Do(ctx, store)
				if _, sessionErr := other.Session(ctx, testApp, s.ID); sessionErr == nil {
					require.Len(t, b.scan(t), 2, "the session and its entry")
				}
				fleettest.RequireConsistent(t, other, s)
				require.Empty(t, b.scan(t), "what a killed process leaves")
				fleettest.RequireUsable(t, other, s)
				if err == nil {
					require.Positive(t, at)
					return
				}
				require.ErrorIs(t, err, errKilled)
			}
		})
	}
}

// TestCreatedAfterTheCondition promises that a write whose condition has failed, and whose
// response has no item, does not take the item that it reads then for what the condition
// was compared with: a session that was created in between is not revoked, and is what a
// rotation replaces, or not.
func TestCreatedAfterTheCondition(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	s := newSession("session")
	next := successor(s)
	for _, c := range []struct {
		name string
		call func(store *dynamostore.TokenStore) error
		want error
	}{
		{"RevokeSession", func(store *dynamostore.TokenStore) error { return store.RevokeSession(ctx, testApp, s.ID, base) }, nil},
		{"RevokeSubject", func(store *dynamostore.TokenStore) error {
			n, err := store.RevokeSubject(ctx, testApp, s.Subject, base)
			require.Equal(t, 1, n)
			return err
		}, nil},
		{"Rotate", func(store *dynamostore.TokenStore) error { return store.Rotate(ctx, s.TokenID, next) }, nil},
		{"Rotate from another", func(store *dynamostore.TokenStore) error { return store.Rotate(ctx, "another", next) }, renew.ErrConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.clear(t)
			other := b.tokens(t, b.client(t))
			if c.name == "RevokeSubject" {
				b.put(t, keyOf("subject:3:app:subject", "session:session"))
			}
			created := false
			store := b.tokens(t, b.client(t, around{func(req *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
				if !created && strings.HasSuffix(req.Header.Get("X-Amz-Target"), ".GetItem") {
					created = true
					if err := other.CreateSession(ctx, s); err != nil {
						t.Error(err)
					}
				}
				return send()
			}}.option))
			require.ErrorIs(t, c.call(store), c.want)
			require.True(t, created)
			got, err := other.Session(ctx, testApp, s.ID)
			require.NoError(t, err)
			want := s
			switch {
			case c.want != nil:
			case c.name == "Rotate":
				want = next
			default:
				want.RevokedAt = base
			}
			require.Equal(t, want, got)
		})
	}
}
