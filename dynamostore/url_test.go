package dynamostore_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/dynamostore"
)

// TestNewClient promises that a URL names the table, and that what it says about region
// and endpoint counts before the environment.
func TestNewClient(t *testing.T) {
	isolate(t)
	t.Setenv("AWS_REGION", "eu-north-1")
	for url, want := range map[string]struct{ table, region, endpoint string }{
		"dynamodb://sessions":                                         {"sessions", "eu-north-1", ""},
		"dynamodb://A_b-c.d/?region=us-east-2":                        {"A_b-c.d", "us-east-2", ""},
		"dynamodb://sessions?endpoint=http%3A%2F%2F127.0.0.1%3A8000":  {"sessions", "eu-north-1", "http://127.0.0.1:8000"},
		"dynamodb://sessions?endpoint=https://host&region=ap-south-1": {"sessions", "ap-south-1", "https://host"},
	} {
		client, table, err := dynamostore.NewClient(t.Context(), url)
		require.NoError(t, err, url)
		require.Equal(t, want.table, table)
		require.Equal(t, want.region, client.Options().Region)
		endpoint := ""
		if e := client.Options().BaseEndpoint; e != nil {
			endpoint = *e
		}
		require.Equal(t, want.endpoint, endpoint)
	}
}

// TestMalformedURLs promises an error that has no part of the URL in it.
func TestMalformedURLs(t *testing.T) {
	isolate(t)
	for _, url := range []string{
		"", "dynamodb", "dynamodb:sessions", "dynamo://sessions", "dynamodb://", "dynamodb://ab", "dynamodb://ses sions",
		"dynamodb://sessions:8000?region=eu-north-1", "dynamodb://sessions/secret?region=eu-north-1", "dynamodb://key:secret@sessions?region=eu-north-1",
		"dynamodb://sessions?region=eu-north-1#secret", "dynamodb://sessions?secret=secret", "dynamodb://sessions?region=",
		"dynamodb://sessions?region=secret&region=secret", "dynamodb://sessions?region=%zz", "dynamodb://sessions?endpoint=secret",
		"dynamodb://sessions?endpoint=ftp://secret&region=eu-north-1", "dynamodb://sessions", // the environment has no region
	} {
		_, _, err := dynamostore.NewClient(context.Background(), url)
		require.ErrorIs(t, err, dynamostore.ErrURL, url)
		require.NotContains(t, err.Error(), "secret")
	}
}

// TestURLOfAnEmulator promises that the stores work with the client of a URL.
func TestURLOfAnEmulator(t *testing.T) {
	b := dynalite(t)
	isolate(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	client, table, err := dynamostore.NewClient(t.Context(), "dynamodb://"+testTable+"?region=eu-north-1&endpoint="+b.emulator.URL)
	require.NoError(t, err)
	store, err := dynamostore.NewTokenStore(t.Context(), client, table)
	require.NoError(t, err)
	require.NoError(t, store.CreateSession(t.Context(), newSession("session")))
	require.Len(t, b.scan(t), 2)
}

// isolate keeps the settings of the user who runs the tests out of them.
func isolate(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}
