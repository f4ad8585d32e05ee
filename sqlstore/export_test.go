package sqlstore

import "time"

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
