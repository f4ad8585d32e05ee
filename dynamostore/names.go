package dynamostore

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// The keys of the table, both strings.
const (
	partitionKey = "pk"
	sortKey      = "sk"
)

// The longest that DynamoDB allows, in bytes.
const (
	maxPartitionKey = 2048
	maxSortKey      = 1024
)

// item is an item of the table, or its key.
type item = map[string]types.AttributeValue

func newKey(pk, sk string) item { return item{partitionKey: text(pk), sortKey: text(sk)} }

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// sized is a name that comes from outside, with its length before it, so that no two
// keys are alike.
func sized(name string) string { return strconv.Itoa(len(name)) + ":" + name }

// sessionKey is the key of a session.
func sessionKey(appID, sessionID string) item {
	return newKey("session:"+sized(appID)+":"+sessionID, "session")
}

// entryKey is the key of a session's entry in the list of its subject. A list is one
// partition, so that a strongly consistent query reads it.
func entryKey(appID, subject, sessionID string) item {
	return newKey(listPartition(appID, subject), entryPrefix+sessionID)
}

func listPartition(appID, subject string) string { return "subject:" + sized(appID) + ":" + subject }

// entryPrefix is what the sort key of an entry has before the session's ID.
const entryPrefix = "session:"

// appKey is the key of an app, appEntryKey that of its entry in the list of apps.
func appKey(appID string) item { return newKey("app:"+appID, "app") }

func appEntryKey(appID string) item { return newKey(appsPartition, appEntryPrefix+appID) }

const (
	appsPartition  = "apps"
	appEntryPrefix = "app:"
)

// storable reports whether DynamoDB can have an item of this key. What cannot be
// stored is not found, and costs no request.
func storable(key item) bool {
	pk, sk := stringOf(key[partitionKey]), stringOf(key[sortKey])
	return len(pk) <= maxPartitionKey && len(sk) <= maxSortKey && utf8.ValidString(pk) && utf8.ValidString(sk)
}

// stringOf is the value of a string attribute; of any other, the empty string.
func stringOf(v types.AttributeValue) string {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

// idOf is the session ID of an entry.
func idOf(entry item) string { return strings.TrimPrefix(stringOf(entry[sortKey]), entryPrefix) }
