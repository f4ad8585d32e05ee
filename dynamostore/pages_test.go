package dynamostore_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/fleettest"
)

// TestSmallPages promises that every list is read to its end, however little DynamoDB
// returns in one response; it ends a page at 1 MB, and here after three items. A page
// may have nothing that is asked for, and more may follow.
func TestSmallPages(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	pages := 0
	stores := b.stores(t, b.client(t, watching(func(in any) {
		switch in := in.(type) {
		case *dynamodb.QueryInput:
			in.Limit = aws.Int32(3)
			pages++
		case *dynamodb.ScanInput:
			in.Limit = aws.Int32(3)
			pages++
		}
	}, func(any) {})))
	const sessions = 20
	for i := range sessions {
		require.NoError(t, stores.Tokens.CreateSession(ctx, newSession(strconv.Itoa(i))))
	}
	live := newSession("live")
	live.Subject, live.RefreshExpiresAt = "other", base.AddDate(1, 0, 0)
	require.NoError(t, stores.Tokens.CreateSession(ctx, live))
	var apps []string
	for i := range 7 {
		apps = append(apps, fmt.Sprintf("app %d", i))
		require.NoError(t, stores.Keys.CreateApp(ctx, renew.App{ID: apps[i], Issuer: "issuer"}))
	}
	ids, err := stores.Keys.AppIDs(ctx)
	require.NoError(t, err)
	require.Equal(t, apps, ids)
	all, err := stores.Tokens.SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Len(t, all, sessions)
	n, err := stores.Tokens.RevokeSubject(ctx, testApp, "subject", base, "7")
	require.NoError(t, err)
	require.Equal(t, sessions-1, n)
	pages = 0
	for _, want := range []int{8, 8, 4, 0} {
		n, err := stores.Tokens.DeleteExpired(ctx, base.AddDate(0, 0, 1), 8)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Greater(t, pages, 10)
	all, err = stores.Tokens.SubjectSessions(ctx, testApp, "other", base)
	require.NoError(t, err)
	require.Equal(t, []renew.Session{live}, all)
}

// TestFullDocument promises that a change which makes an app larger than an item of
// DynamoDB may be, 400 KB, is a separate error and changes nothing, and that keys can
// still be revoked and deleted then, after which there is room again.
func TestFullDocument(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	keys := b.keys(t, b.client(t))
	require.NoError(t, keys.CreateApp(ctx, app()))
	active := newKey(t)
	require.NoError(t, keys.RotateSigningKey(ctx, testApp, active, base))
	fill(t, b)

	err := keys.PublishSigningKey(ctx, testApp, newKey(t))
	require.ErrorContains(t, err, "size")
	fleettest.RequireNotNamed(t, err)
	got, err := keys.SigningKey(ctx, testApp)
	require.NoError(t, err)
	require.Equal(t, active.KeyID(), got.KeyID())
	all, err := keys.VerificationKeys(ctx, testApp)
	require.NoError(t, err)
	for _, k := range all[len(all)-10:] {
		require.NoError(t, keys.RevokeKey(ctx, testApp, k.KeyID(), base))
	}
	n, err := keys.DeleteExpiredKeys(ctx, base.AddDate(1, 0, 0))
	require.NoError(t, err)
	require.Equal(t, 10, n)
	require.NoError(t, keys.PublishSigningKey(ctx, testApp, newKey(t)))
}

// fill publishes copies of the app's key until its document has 400 KB.
func fill(t *testing.T, b *backend) {
	t.Helper()
	item := b.get(t, "app:"+testApp, "app")
	document := item["document"].(*types.AttributeValueMemberS)
	var d map[string]any
	require.NoError(t, json.Unmarshal([]byte(document.Value), &d))
	list := d["keys"].([]any)
	first := list[0].(map[string]any)
	one, err := json.Marshal(first)
	require.NoError(t, err)
	for i := range (400<<10 - 200 - len(document.Value)) / (len(one) + 1) {
		key := map[string]any{}
		for name, value := range first {
			key[name] = value
		}
		key["id"] = fmt.Sprintf("%026d", i)
		list = append(list, key)
	}
	d["keys"] = list
	text, err := json.Marshal(d)
	require.NoError(t, err)
	item["document"] = &types.AttributeValueMemberS{Value: string(text)}
	b.put(t, item)
}

// TestZeroTime promises that a revocation has a time.
func TestZeroTime(t *testing.T) {
	b := dynalite(t)
	store, s := b.tokens(t, b.client(t)), newSession("session")
	require.NoError(t, store.CreateSession(t.Context(), s))
	fleettest.RequireZeroTimeRejected(t, store, s)
}
