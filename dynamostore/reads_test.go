package dynamostore_test

import (
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestEveryReadIsConsistent promises that no read may lag behind a write, which an
// emulator cannot show: it looks at the requests of every method.
func TestEveryReadIsConsistent(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	var mu sync.Mutex
	reads := map[string]int{}
	see := func(name string, consistent *bool) {
		mu.Lock()
		defer mu.Unlock()
		reads[name]++
		if !aws.ToBool(consistent) {
			t.Errorf("a %s is not consistent", name)
		}
	}
	client := b.client(t, watching(func(in any) {
		switch in := in.(type) {
		case *dynamodb.GetItemInput:
			see("GetItem", in.ConsistentRead)
		case *dynamodb.QueryInput:
			see("Query", in.ConsistentRead)
		case *dynamodb.ScanInput:
			see("Scan", in.ConsistentRead)
		case *dynamodb.BatchGetItemInput:
			for _, keys := range in.RequestItems {
				see("BatchGetItem", keys.ConsistentRead)
			}
		}
	}, func(any) {}))
	s := newSession("session")
	for _, c := range fleettest.Calls(t, s) {
		b.clear(t)
		fleettest.Prepare(t, b.stores(t, b.client(t)), s)
		watched := b.stores(t, client)
		require.NoError(t, c.Do(ctx, watched))
		c.Check(t, watched)
	}
	for _, name := range []string{"GetItem", "Query", "Scan", "BatchGetItem"} {
		require.Positive(t, reads[name], name)
	}
}
