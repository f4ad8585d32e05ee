package dynamostore_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/internal/fleettest"
)

const errorPrefix = `{"__type":"com.amazonaws.dynamodb.v20120810#`

// responding has the client get this response in the place of the server's, for the
// first so many requests of that kind.
func responding(operation string, times int, status int, body string) (around, *int) {
	sent := 0
	return around{func(req *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if !strings.HasSuffix(req.Header.Get("X-Amz-Target"), "."+operation) {
			return send()
		}
		if sent++; sent > times {
			return send()
		}
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
			Body: io.NopCloser(strings.NewReader(body)), Request: req,
		}, nil
	}}, &sent
}

// TestBusyItems promises that a write which meets a transaction on its item, or a
// transaction that meets another or is throttled, is sent again, and not for ever; and
// that neither is treated as a failed condition.
func TestBusyItems(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	canceled := func(reasons string) string {
		return errorPrefix + `TransactionCanceledException","Message":"canceled","CancellationReasons":[` + reasons + `]}`
	}
	rotate := func(store *dynamostore.TokenStore, s renew.Session) error {
		return store.Rotate(ctx, s.TokenID, successor(s))
	}
	revoke := func(store *dynamostore.TokenStore, s renew.Session) error {
		return store.RevokeSession(ctx, testApp, s.ID, base)
	}
	create := func(store *dynamostore.TokenStore, _ renew.Session) error {
		return store.CreateSession(ctx, newSession("new"))
	}
	for _, c := range []struct {
		name, operation, body string
		call                  func(*dynamostore.TokenStore, renew.Session) error
	}{
		{"rotation", "UpdateItem", errorPrefix + `TransactionConflictException","message":"ongoing"}`, rotate},
		{"revocation", "UpdateItem", errorPrefix + `TransactionConflictException","message":"ongoing"}`, revoke},
		{"conflict", "TransactWriteItems", canceled(`{"Code":"None"},{"Code":"TransactionConflict"}`), create},
		{"throttled", "TransactWriteItems", canceled(`{"Code":"ThrottlingError"},{"Code":"None"}`), create},
		{"capacity", "TransactWriteItems", canceled(`{"Code":"ProvisionedThroughputExceeded"},{"Code":"None"}`), create},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, times := range []int{3, 1000} {
				b.clear(t)
				s := newSession("session")
				require.NoError(t, b.tokens(t, b.client(t)).CreateSession(ctx, s))
				http, sent := responding(c.operation, times, http.StatusBadRequest, c.body)
				err := c.call(b.tokens(t, b.client(t, http.option)), s)
				if times == 3 {
					require.NoError(t, err)
					require.Equal(t, 4, *sent)
					continue
				}
				require.Error(t, err)
				require.LessOrEqual(t, *sent, 20)
				fleettest.RequireNotNamed(t, err)
			}
		})
	}
}

// TestBusyAndFailed promises that a transaction whose condition has failed is not sent
// again because another of its items was busy.
func TestBusyAndFailed(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	body := errorPrefix + `TransactionCanceledException","Message":"canceled","CancellationReasons":[
		{"Code":"ConditionalCheckFailed","Item":{"pk":{"S":"session:3:app:session"}}},{"Code":"TransactionConflict"}]}`
	web, sent := responding("TransactWriteItems", 1000, http.StatusBadRequest, body)
	require.ErrorIs(t, b.tokens(t, b.client(t, web.option)).CreateSession(ctx, newSession("session")), renew.ErrSessionExists)
	require.Equal(t, 1, *sent)
}

// TestThrottledConflict promises that a conflict is one, also when the request was
// rejected before for another reason: that had no effect, so that the conflict is not
// with itself.
func TestThrottledConflict(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	s := newSession("session")
	require.NoError(t, b.tokens(t, b.client(t)).CreateSession(ctx, s))
	next := successor(s)
	require.NoError(t, b.tokens(t, b.client(t)).Rotate(ctx, s.TokenID, next))
	for _, c := range []struct {
		status int
		body   string
		clear  bool
	}{
		{http.StatusBadRequest, errorPrefix + `ProvisionedThroughputExceededException","message":"slow down"}`, true},
		{http.StatusInternalServerError, errorPrefix + `InternalServerError","message":"it may have happened"}`, false},
	} {
		http, sent := responding("UpdateItem", 1, c.status, c.body)
		err := b.tokens(t, b.client(t, quickRetries, http.option)).Rotate(ctx, s.TokenID, successor(s))
		require.Equal(t, 2, *sent)
		if c.clear {
			require.ErrorIs(t, err, renew.ErrConflict)
		} else {
			require.Error(t, err)
			require.NotErrorIs(t, err, renew.ErrConflict, "others may have written since what the first request has done")
		}
	}
}

// TestUnprocessedKeys promises that a batch of which DynamoDB reads a part is read as a
// whole, and that one which it never reads is an error and not an empty list.
func TestUnprocessedKeys(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	s := newSession("session")
	require.NoError(t, b.tokens(t, b.client(t)).CreateSession(ctx, s))
	body := `{"Responses":{},"UnprocessedKeys":{"` + testTable + `":{"ConsistentRead":true,"Keys":[{"pk":{"S":"session:3:app:session"},"sk":{"S":"session"}}]}}}`
	http, _ := responding("BatchGetItem", 2, 200, body)
	all, err := b.tokens(t, b.client(t, http.option)).SubjectSessions(ctx, testApp, "subject", base)
	require.NoError(t, err)
	require.Equal(t, []renew.Session{s}, all)
	http, sent := responding("BatchGetItem", 1000, 200, body)
	_, err = b.tokens(t, b.client(t, http.option)).SubjectSessions(ctx, testApp, "subject", base)
	require.Error(t, err)
	require.LessOrEqual(t, *sent, 20)
}

// TestMalformedItems promises that an item which others have changed is an error that
// names the attribute and not its value.
func TestMalformedItems(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	store := b.tokens(t, b.client(t))
	s := newSession("session")
	require.NoError(t, store.CreateSession(ctx, s))
	intact := b.get(t, "session:3:app:session", "session")
	secret := &types.AttributeValueMemberS{Value: "a secret"}
	for _, name := range []string{"created_at", "ends_at", "revoked_at", "generation", "issued_at", "refresh_expires_at", "audience"} {
		bad := row{}
		for k, v := range intact {
			bad[k] = v
		}
		bad[name] = secret
		b.put(t, bad)
		_, err := store.Session(ctx, testApp, s.ID)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "secret")
		require.NotErrorIs(t, err, renew.ErrSessionNotFound)
		_, err = store.SubjectSessions(context.Background(), testApp, s.Subject, base)
		require.ErrorContains(t, err, name)
	}
}
