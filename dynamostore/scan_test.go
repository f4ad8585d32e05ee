package dynamostore_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

type row = map[string]types.AttributeValue

// scan returns every item of the table.
func (b *backend) scan(tb testing.TB) []row {
	tb.Helper()
	var all []row
	pages := dynamodb.NewScanPaginator(b.client(tb), &dynamodb.ScanInput{TableName: &b.table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(tb, err)
		all = append(all, page.Items...)
	}
	return all
}

// get returns one item, or nil.
func (b *backend) get(tb testing.TB, pk, sk string) row {
	tb.Helper()
	out, err := b.client(tb).GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName: &b.table, ConsistentRead: aws.Bool(true), Key: keyOf(pk, sk),
	})
	require.NoError(tb, err)
	return out.Item
}

func keyOf(pk, sk string) row {
	return row{"pk": &types.AttributeValueMemberS{Value: pk}, "sk": &types.AttributeValueMemberS{Value: sk}}
}

// delete is what the time to live does.
func (b *backend) delete(tb testing.TB, pk, sk string) {
	tb.Helper()
	_, err := b.client(tb).DeleteItem(context.Background(), &dynamodb.DeleteItemInput{TableName: &b.table, Key: keyOf(pk, sk)})
	require.NoError(tb, err)
}

func (b *backend) put(tb testing.TB, item row) {
	tb.Helper()
	_, err := b.client(tb).PutItem(context.Background(), &dynamodb.PutItemInput{TableName: &b.table, Item: item})
	require.NoError(tb, err)
}
