package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// startTimeout bounds the checks of a constructor, whose context may have no end.
const startTimeout = 30 * time.Second

// createTimeout bounds the creation of a table.
const createTimeout = 5 * time.Minute

// CreateTable creates a table for the stores, billed by request, with its time to live,
// and returns when it can be used. It is for tests and small deployments: others define
// the table where they define the rest, as docs/stores.md shows. If the
// table exists, it turns on the time to live; one that the stores cannot use is an error.
//
// On an emulator that has no time to live it creates the table without.
func CreateTable(ctx context.Context, client *dynamodb.Client, table string) error {
	if client == nil {
		return errors.New("dynamostore.CreateTable: the client is nil")
	}
	if err := createTable(ctx, client, table); err != nil {
		return fmt.Errorf("dynamostore.CreateTable: %w", err)
	}
	return nil
}

func createTable(ctx context.Context, client *dynamodb.Client, table string) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(partitionKey), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(sortKey), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(partitionKey), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(sortKey), KeyType: types.KeyTypeRange},
		},
	})
	var exists *types.ResourceInUseException
	if err != nil && !errors.As(err, &exists) {
		return err
	}
	wait := dynamodb.NewTableExistsWaiter(client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 100*time.Millisecond, 5*time.Second
	})
	described, err := wait.WaitForOutput(ctx, &dynamodb.DescribeTableInput{TableName: &table}, createTimeout)
	if err != nil {
		return err
	}
	if err := checkDefinition(described.Table); err != nil {
		return err
	}
	return setTimeToLive(ctx, client, table)
}

func setTimeToLive(ctx context.Context, client *dynamodb.Client, table string) error {
	out, err := client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil || hasTimeToLive(out) {
		return err
	}
	_, err = client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(fieldExpiresAt), Enabled: aws.Bool(true)},
	})
	if hasCode(err, "UnknownOperationException") {
		return nil
	}
	return err
}

func hasTimeToLive(out *dynamodb.DescribeTimeToLiveOutput) bool {
	d := out.TimeToLiveDescription
	return d != nil && aws.ToString(d.AttributeName) == fieldExpiresAt &&
		(d.TimeToLiveStatus == types.TimeToLiveStatusEnabled || d.TimeToLiveStatus == types.TimeToLiveStatusEnabling)
}

func hasCode(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}

// checkTable returns an error for a table that the stores cannot use, and what the owner
// of the table should know.
func (r *runner) checkTable(ctx context.Context) (findings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	described, err := r.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &r.table})
	switch {
	case hasCode(err, "AccessDeniedException"):
		return []string{"DescribeTable is not permitted, so that the table was not checked: permit it"}, nil
	case err != nil:
		return nil, fmt.Errorf("table %q: %w", r.table, err)
	}
	if err := checkDefinition(described.Table); err != nil {
		return nil, err
	}
	if len(described.Table.Replicas) > 0 {
		findings = append(findings, "the table is a global one: DynamoDB checks conditions within one region; have all servers use the same region, and the others as standbys")
	}
	if r.retention == 0 {
		return findings, nil
	}
	out, err := r.client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &r.table})
	switch {
	case hasCode(err, "AccessDeniedException"):
		findings = append(findings, "DescribeTimeToLive is not permitted, so that the time to live was not checked: permit it")
	case err != nil:
		return nil, fmt.Errorf("time to live of table %q: %w", r.table, err)
	case !hasTimeToLive(out):
		findings = append(findings, "the time to live is off, or not on the attribute "+fieldExpiresAt+": what has ended stays until DeleteExpired is called; set it")
	}
	return findings, nil
}

// checkDefinition compares a table with what the stores need.
func checkDefinition(t *types.TableDescription) error {
	kinds := map[string]types.ScalarAttributeType{}
	for _, d := range t.AttributeDefinitions {
		kinds[aws.ToString(d.AttributeName)] = d.AttributeType
	}
	roles := map[types.KeyType]string{}
	for _, k := range t.KeySchema {
		roles[k.KeyType] = aws.ToString(k.AttributeName)
	}
	if roles[types.KeyTypeHash] != partitionKey || roles[types.KeyTypeRange] != sortKey ||
		kinds[partitionKey] != types.ScalarAttributeTypeS || kinds[sortKey] != types.ScalarAttributeTypeS {
		return fmt.Errorf("table %q: its partition key must be the string %s, its sort key the string %s", aws.ToString(t.TableName), partitionKey, sortKey)
	}
	if t.MultiRegionConsistency == types.MultiRegionConsistencyStrong {
		return fmt.Errorf("table %q: it has multi-Region strong consistency, and therefore no transactions, which the stores need; use a table of one region", aws.ToString(t.TableName))
	}
	return nil
}
