package sqlstore

import "time"

// WithCacheClock sets the clock by which a KeyStore's answers from memory age.
func WithCacheClock(now func() time.Time) Option {
	return func(c *config) error {
		c.cache.now = now
		return nil
	}
}

// Cached returns how many answers the store has in memory.
func (s *KeyStore) Cached() int {
	return len(s.apps.entries) + len(s.signing.entries) + len(s.verification.entries) + len(s.lists.entries)
}
