package dynamostore_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestMiddlewareThatPanics promises that a panic of the caller's middleware in a
// goroutine of this package, of those that change many sessions, does not end the
// process: it is an error, and the next call finds the rest.
func TestMiddlewareThatPanics(t *testing.T) {
	b, ctx, s := dynalite(t), t.Context(), newSession("session")
	fleettest.Prepare(t, b.stores(t, b.client(t)), s)
	panics := true
	client := b.client(t, watching(func(in any) {
		if _, update := in.(*dynamodb.UpdateItemInput); update && panics {
			panics = false
			panic("a bug")
		}
	}, func(any) {}))
	tokens := b.stores(t, client).Tokens
	_, err := tokens.RevokeSubject(ctx, s.AppID, s.Subject, s.IssuedAt)
	require.ErrorContains(t, err, "panicked: a bug")
	n, err := tokens.RevokeSubject(ctx, s.AppID, s.Subject, s.IssuedAt)
	require.NoError(t, err)
	require.Positive(t, n)
}
