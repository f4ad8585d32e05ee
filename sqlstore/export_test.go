package sqlstore

import (
	"context"
	"time"
)

// WarnMySQL logs what is weak in the settings of a server that no test has here.
func WarnMySQL(ctx context.Context, set map[string]string) { warnMySQL(ctx, set) }

// WithCacheClock sets the clock by which a KeyStore's answers from memory age.
func WithCacheClock(now func() time.Time) Option {
	return func(c *config) error {
		c.cache.Now = now
		return nil
	}
}

// Cached returns how many answers the store has in memory.
func (s *KeyStore) Cached() int {
	return s.apps.Len() + s.signing.Len() + s.verification.Len() + s.lists.Len()
}
