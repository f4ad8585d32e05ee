package dynamostore_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/memstore"
)

// TestRequestsPerRenewal promises two requests per renewal, for a retry too, one for a
// new session, one for a revocation and for a conflict, and two items per session
// however often it is renewed.
func TestRequestsPerRenewal(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	var sent atomic.Int64
	store := b.tokens(t, b.client(t, around{func(_ *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		sent.Add(1)
		return send()
	}}.option))
	keys := memstore.New()
	require.NoError(t, renew.EnsureApp(ctx, keys, app(), renew.EdDSA))
	r, err := renew.New(keys, store)
	require.NoError(t, err)
	sent.Store(0)
	bundle, err := r.Issue(ctx, renew.IssueRequest{AppID: testApp, Subject: "subject", IP: "192.0.2.1", UserAgent: "test"})
	require.NoError(t, err)
	require.EqualValues(t, 1, sent.Swap(0), "a new session")
	for range 5 {
		request := renew.RenewRequest{AppID: testApp, RefreshToken: bundle.RefreshToken, IP: "192.0.2.1", UserAgent: "test", IdempotencyKey: newIdempotencyKey()}
		bundle, err = r.Renew(ctx, request)
		require.NoError(t, err)
		require.EqualValues(t, 2, sent.Swap(0), "a renewal")
		_, err = r.Renew(ctx, request)
		require.NoError(t, err)
		require.EqualValues(t, 2, sent.Swap(0), "a retry")
	}
	require.Len(t, b.scan(t), 2, "the session and its entry")
	s := newSession("session")
	require.NoError(t, store.CreateSession(ctx, s))
	next := successor(s)
	require.NoError(t, store.Rotate(ctx, s.TokenID, next))
	sent.Store(0)
	require.ErrorIs(t, store.Rotate(ctx, s.TokenID, successor(s)), renew.ErrConflict)
	require.EqualValues(t, 1, sent.Swap(0), "a conflict")
	require.NoError(t, store.RevokeSession(ctx, testApp, s.ID, base))
	require.EqualValues(t, 1, sent.Swap(0), "a revocation")
}

// metered adds up what DynamoDB would bill for the requests that have no transaction,
// as dynalite counts it.
type metered struct{ read, write float64 }

func (m *metered) option(o *dynamodb.Options) {
	watching(func(in any) {
		switch in := in.(type) {
		case *dynamodb.GetItemInput:
			in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
		case *dynamodb.UpdateItemInput:
			in.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
		}
	}, func(out any) {
		switch out := out.(type) {
		case *dynamodb.GetItemOutput:
			m.read += *out.ConsumedCapacity.CapacityUnits
		case *dynamodb.UpdateItemOutput:
			m.write += *out.ConsumedCapacity.CapacityUnits
		}
	})(o)
}

// itemSize is the size of an item in bytes, as DynamoDB bills it: names and values, a
// number by its digits.
func itemSize(item row) (size int) {
	for name, v := range item {
		size += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberB:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += (len(strings.Trim(v.Value, "0"))+1)/2 + 1
		}
	}
	return size
}

// TestUnitsPerRenewal prints what a session and a renewal cost in DynamoDB's units: a
// write unit is 1 KB, a read unit 4 KB, and a write in a transaction counts twice.
func TestUnitsPerRenewal(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	for _, c := range []struct {
		claims      int
		read, write float64
	}{{70, 1, 1}, {1024, 1, 2}, {16_000, 5, 17}} {
		b.clear(t)
		var m metered
		store := b.tokens(t, b.client(t, m.option))
		s := newSession("01JGFJJZ000000000000000000")
		s.AppID, s.Subject, s.TokenID = "shop", "user-4711", "01JGFJJZ000000000000000001"
		s.Claims = []byte(`{"x":"` + strings.Repeat("x", c.claims-8) + `"}`)
		s.UserAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
		require.NoError(t, store.CreateSession(ctx, s))
		for i := range 5 {
			got, err := store.Session(ctx, s.AppID, s.ID)
			require.NoError(t, err)
			next := successor(got)
			next.TokenID = "01JGFJJZ00000000000000001" + strconv.Itoa(i)
			m = metered{}
			_, err = store.Session(ctx, s.AppID, s.ID)
			require.NoError(t, err)
			require.NoError(t, store.Rotate(ctx, got.TokenID, next))
			require.Equal(t, metered{c.read, c.write}, m)
		}
		session := itemSize(b.get(t, "session:4:shop:"+s.ID, "session"))
		entry := itemSize(b.get(t, "subject:4:shop:"+s.Subject, "session:"+s.ID))
		units := func(bytes int) int { return (bytes + 1023) / 1024 }
		t.Logf("%d bytes of claims: the session has %d bytes, its entry %d; a renewal costs %v read and %v write units, a new session %d write units",
			c.claims, session, entry, m.read, m.write, 2*(units(session)+units(entry)))
	}
}
