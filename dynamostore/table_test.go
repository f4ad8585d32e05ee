package dynamostore_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/dynamostore"
	"github.com/jwtrenew/renew/keycrypt"
)

// TestCreateTable promises a table that the stores accept without a finding, with its
// time to live on, and that creating it again changes nothing.
func TestCreateTable(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	client := b.client(t)
	s := newSession("session")
	require.NoError(t, b.tokens(t, client).CreateSession(ctx, s))
	require.NoError(t, dynamostore.CreateTable(ctx, client, testTable))
	store := b.tokens(t, client)
	require.Empty(t, store.Diagnosis())
	require.Empty(t, b.keys(t, client).Diagnosis())
	got, err := store.Session(ctx, testApp, s.ID)
	require.NoError(t, err)
	require.Equal(t, s, got)
	out, err := client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: aws.String(testTable)})
	require.NoError(t, err)
	require.Equal(t, "expires_at", *out.TimeToLiveDescription.AttributeName)
	table, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(testTable)})
	require.NoError(t, err)
	require.Equal(t, types.BillingModePayPerRequest, table.Table.BillingModeSummary.BillingMode)
	require.Error(t, dynamostore.CreateTable(ctx, nil, testTable))
}

// TestDiagnosis promises that a time to live which is off, or on another attribute, is
// found, unless the stores do not use it; so is a check that is not permitted; and that
// a global table is.
func TestDiagnosis(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	setTTL := func(attribute string, on bool) {
		_, err := b.client(t).UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
			TableName: aws.String(testTable), TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &attribute, Enabled: &on},
		})
		require.NoError(t, err)
	}
	setTTL("ttl", true)
	findings := b.tokens(t, b.client(t)).Diagnosis()
	require.Len(t, findings, 1)
	require.Contains(t, findings[0], "time to live")
	setTTL("expires_at", false)
	require.Len(t, b.keys(t, b.client(t)).Diagnosis(), 1)
	require.Empty(t, b.tokens(t, b.client(t), dynamostore.WithRetention(0)).Diagnosis())
	setTTL("expires_at", true)

	denied := `{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not authorized"}`
	for _, operation := range []string{"DescribeTable", "DescribeTimeToLive"} {
		web, _ := responding(operation, 1, http.StatusBadRequest, denied)
		findings := b.tokens(t, b.client(t, web.option)).Diagnosis()
		require.Len(t, findings, 1)
		require.Contains(t, findings[0], operation)
	}
	web, _ := responding("DescribeTable", 1, http.StatusOK, globalTable(types.MultiRegionConsistencyEventual))
	findings = b.tokens(t, b.client(t, web.option)).Diagnosis()
	require.Len(t, findings, 1)
	require.Contains(t, findings[0], "global")

	plain := plainDynalite(t)
	require.Len(t, plain.tokens(t, plain.client(t)).Diagnosis(), 1, "it has no time to live")
}

// globalTable is a description of a table in two regions.
func globalTable(consistency types.MultiRegionConsistency) string {
	return fmt.Sprintf(`{"Table":{"TableName":"renew","TableStatus":"ACTIVE","Replicas":[{"RegionName":"us-east-1"}],"MultiRegionConsistency":%q,
		"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"}],
		"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]}}`, consistency)
}

// TestWrongTables promises that a table which is missing, whose keys are others, or which
// has no transactions, is an error when a store is made.
func TestWrongTables(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	for name, keys := range map[string][]string{
		"one key":       {"pk", "S"},
		"numbers":       {"pk", "S", "sk", "N"},
		"binary":        {"pk", "B", "sk", "S"},
		"other names":   {"id", "S", "sk", "S"},
		"changed round": {"sk", "S", "pk", "S"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &dynamodb.CreateTableInput{TableName: aws.String("wrong"), BillingMode: types.BillingModePayPerRequest}
			for i := 0; i < len(keys); i += 2 {
				in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &keys[i], AttributeType: types.ScalarAttributeType(keys[i+1])})
				in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &keys[i], KeyType: []types.KeyType{"HASH", "RANGE"}[i/2]})
			}
			_, err := b.client(t).CreateTable(ctx, in)
			require.NoError(t, err)
			_, err = dynamostore.NewTokenStore(ctx, b.client(t), "wrong")
			require.ErrorContains(t, err, "partition key")
			require.ErrorContains(t, dynamostore.CreateTable(ctx, b.client(t), "wrong"), "partition key")
			_, err = b.client(t).DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: aws.String("wrong")})
			require.NoError(t, err)
			require.NoError(t, dynamodb.NewTableNotExistsWaiter(b.client(t), func(o *dynamodb.TableNotExistsWaiterOptions) { o.MinDelay = 1e7 }).
				Wait(ctx, &dynamodb.DescribeTableInput{TableName: aws.String("wrong")}, 1e10))
		})
	}
	web, _ := responding("DescribeTable", 2, http.StatusOK, globalTable(types.MultiRegionConsistencyStrong))
	_, err := dynamostore.NewTokenStore(ctx, b.client(t, web.option), testTable)
	require.ErrorContains(t, err, "no transactions")
	_, err = dynamostore.NewKeyStore(ctx, b.client(t, web.option), testTable, newEncrypter(t))
	require.ErrorContains(t, err, "no transactions")
	_, err = dynamostore.NewTokenStore(ctx, b.client(t), "missing")
	require.ErrorContains(t, err, `"missing"`)
	_, err = dynamostore.NewKeyStore(ctx, b.client(t), "missing", newEncrypter(t))
	require.ErrorContains(t, err, `"missing"`)
}

// TestOptions promises that what cannot work is an error when a store is made.
func TestOptions(t *testing.T) {
	client := dynamodb.New(dynamodb.Options{Region: "eu-central-1"})
	ctx := context.Background()
	for name, opt := range map[string]dynamostore.Option{
		"nil":       nil,
		"timeout":   dynamostore.WithCommandTimeout(0),
		"retention": dynamostore.WithRetention(1),
		"negative":  dynamostore.WithRetention(-1),
		"interval":  dynamostore.WithStatusInterval(-1),
		"outage":    dynamostore.WithOutageLimit(-1),
	} {
		_, err := dynamostore.NewTokenStore(ctx, client, testTable, opt)
		require.ErrorContains(t, err, "dynamostore.NewTokenStore: ", name)
		_, err = dynamostore.NewKeyStore(ctx, client, testTable, newEncrypter(t), opt)
		require.ErrorContains(t, err, "dynamostore.NewKeyStore: ", name)
	}
	_, err := dynamostore.NewTokenStore(ctx, nil, testTable)
	require.ErrorContains(t, err, "client")
	_, err = dynamostore.NewTokenStore(ctx, client, "")
	require.ErrorContains(t, err, "table")
}

// TestEncryptionKey promises that a KeyStore without an encrypter, or with one that lacks
// the key of a stored key, is an error.
func TestEncryptionKey(t *testing.T) {
	b, ctx := dynalite(t), t.Context()
	_, err := dynamostore.NewKeyStore(ctx, b.client(t), testTable, nil)
	require.ErrorContains(t, err, "encrypter")
	keys := b.keys(t, b.client(t))
	require.NoError(t, keys.CreateApp(ctx, app()))
	require.NoError(t, keys.RotateSigningKey(ctx, testApp, newKey(t), base))
	other, err := keycrypt.New(make([]byte, keycrypt.KeyBytes))
	require.NoError(t, err)
	_, err = dynamostore.NewKeyStore(ctx, b.client(t), testTable, other)
	require.ErrorContains(t, err, testApp)
}
