package renew_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

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

// failingCreate is a TokenStore that creates no session.
type failingCreate struct {
	*memstore.Store
	err error
}

func (s failingCreate) CreateSession(context.Context, renew.Session) error { return s.err }

// The promise: no one gets tokens of a session that was not stored.
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
