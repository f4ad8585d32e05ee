package dynamostore_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestLostReplies promises that a caller gets success, or an error of unclear outcome,
// when responses are lost, and never an error that says that its own write did not happen:
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
			for i, one := range fleettest.Calls(t, s) {
				t.Run(one.Name, func(t *testing.T) {
					for at, broken := 0, 0; ; at++ {
						b.clear(t)
						direct := b.stores(t, b.client(t))
						fleettest.Prepare(t, direct, s)
						method := fleettest.Calls(t, s)[i]
						lost, err := loseReply(t, b, c.change, at, method)
						if err == nil {
							method.Check(t, direct)
						}
						if c.repeats {
							require.NoError(t, err, "response %d was lost, and the SDK has repeated the request", at+1)
						}
						if !lost && err != nil { // a connection broke, as any may at times
							broken++
							require.Less(t, broken, 3, "%v", err)
							at--
							continue
						}
						if !lost {
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
func loseReply(t *testing.T, b *backend, change func(*dynamodb.Options), at int, c fleettest.Call) (bool, error) {
	t.Helper()
	proxy := newLossy(t, b.emulator.URL, -1)
	defer proxy.Close()
	s, err := b.open(t, b.client(t, change, proxy.through))
	if err != nil {
		return false, err
	}
	proxy.mu.Lock()
	proxy.lose = proxy.seen + at
	proxy.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = c.Do(ctx, s)
	fleettest.RequireNotNamed(t, err, "response %d was lost", at+1)
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
