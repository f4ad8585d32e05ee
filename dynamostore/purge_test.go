package dynamostore_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// TestDeleteExpiredContinues promises that calls which reach their limit delete what has
// ended once, each from where the last one stopped, that a call which does not has found
// everything, and that one store finds what ends behind the place where it stopped.
func TestDeleteExpiredContinues(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	var from types.AttributeValue // where the last scan began
	store := b.tokens(t, b.client(t, watching(func(in any) {
		if scan, ok := in.(*dynamodb.ScanInput); ok {
			from = scan.ExclusiveStartKey["pk"]
		}
	}, func(any) {})))
	other := b.tokens(t, b.client(t))
	create := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, store.CreateSession(ctx, newSession(strconv.Itoa(i))))
		}
	}
	end := base.AddDate(0, 0, 1)
	create(0, 20)
	for i := range 3 {
		n, err := store.DeleteExpired(ctx, end, 5)
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.Equal(t, i > 0, from != nil)
	}
	create(20, 40) // some of them where the store has been
	total := 15
	for n := 4; n == 4; total += n {
		var err error
		n, err = store.DeleteExpired(ctx, end, 4)
		require.NoError(t, err)
	}
	require.Equal(t, 40, total)
	require.Empty(t, b.scan(t))
	create(0, 10)
	n, err := other.DeleteExpired(ctx, end, 10)
	require.NoError(t, err)
	require.Equal(t, 10, n)
	n, err = other.DeleteExpired(ctx, end, 10)
	require.NoError(t, err)
	require.Zero(t, n)
}

// TestDeleteExpiredTogether promises that processes which delete at the same time delete
// every session once, and count it once.
func TestDeleteExpiredTogether(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	const sessions = 100
	for i := range sessions {
		require.NoError(t, b.tokens(t, b.client(t)).CreateSession(ctx, newSession(strconv.Itoa(i))))
	}
	var all sync.WaitGroup
	counts := make([]int, 3)
	for i := range counts {
		store := b.tokens(t, b.client(t))
		all.Go(func() {
			n, err := store.DeleteExpired(ctx, base.AddDate(0, 0, 1), sessions)
			if err != nil {
				t.Error(err)
			}
			counts[i] = n
		})
	}
	all.Wait()
	require.Equal(t, sessions, counts[0]+counts[1]+counts[2])
	require.Empty(t, b.scan(t))
}
