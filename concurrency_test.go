package renew_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// Exactly one successor: 1,000 goroutines present each of 200 tokens at once.
// There are 20 by default: see internal/rounds.
func TestThousandPresentersOfOneToken(t *testing.T) {
	const presenters = 1000
	sessions := rounds.Of(t, 20)
	for _, c := range []struct {
		name string
		opts []renew.Option
		key  string
		all  bool // every presenter is answered
	}{
		{name: "strictly single use"},
		{name: "a retry window", opts: []renew.Option{renew.WithRetryWindow(1)}, all: true},
		{name: "one idempotency key", key: testKey1, all: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.opts...)
			for range sessions {
				first := f.issue()
				answers := present(f, first, c.key, presenters)
				winners, successor := 0, ""
				for _, a := range answers {
					if a.err != nil {
						requireRejected(t, a.err, renew.ReasonSuperseded)
						continue
					}
					if !a.bundle.Retried {
						winners++
					}
					if successor == "" {
						successor = a.bundle.TokenID
					}
					require.Equal(t, successor, a.bundle.TokenID)
					require.True(t, c.all || !a.bundle.Retried)
				}
				require.Equal(t, 1, winners)
				s := f.session(first)
				require.Equal(t, successor, s.TokenID)
				require.Equal(t, int64(1), s.Generation)
				require.True(t, s.RevokedAt.IsZero())
				for _, a := range answers {
					if c.all {
						require.NoError(t, a.err)
					}
					if a.bundle != nil {
						f.renew(a.bundle)
						break
					}
				}
			}
		})
	}
}

type answer struct {
	bundle *renew.Bundle
	err    error
}

// present has so many goroutines present the bundle's refresh token at once.
func present(f *fixture, b *renew.Bundle, key string, n int) []answer {
	answers := make([]answer, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			<-start
			answers[i].bundle, answers[i].err = f.renewWith(b, key)
		})
	}
	close(start)
	all.Wait()
	return answers
}
