package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/keydoc"
	"github.com/jwtrenew/renew/keycrypt"
)

var (
	_ renew.KeyStore  = (*KeyStore)(nil)
	_ renew.KeyLister = (*KeyStore)(nil)
	_ renew.KeyAdmin  = (*KeyStore)(nil)
	_ renew.AppLister = (*KeyStore)(nil)

	_ renew.PublishedKeyStore = (*KeyStore)(nil)
)

// KeyStore keeps apps, the hashes of their app keys, and their signing keys in a table
// of DynamoDB, private keys encrypted. It is a [renew.KeyStore], [renew.KeyLister],
// [renew.KeyAdmin], [renew.AppLister] and [renew.PublishedKeyStore]; Reencrypt
// encrypts every private key again, after a change of the encryption key. It is safe
// for concurrent use, and so is any number of them on one table, which may be that of
// the TokenStore. Make one with [NewKeyStore].
//
// A key is parsed and decrypted once and then kept in memory; what is asked for
// again is whether it is still valid: see [WithStatusInterval]. An app with its keys
// is one JSON document, in the attribute "document" of an item, which DynamoDB limits
// to 400 KB: that is room for several hundred keys.
type KeyStore struct {
	*keydoc.Store
	diagnosis []string
}

// NewKeyStore returns a store that uses the table through the client. It makes the
// checks of [NewTokenStore]. The encrypter is one from [keycrypt.New], or your own; it
// is an error if it lacks the encryption key of a stored key.
func NewKeyStore(ctx context.Context, client *dynamodb.Client, table string, encrypter keycrypt.Encrypter, opts ...Option) (*KeyStore, error) {
	r, diagnosis, err := newRunner(ctx, client, table, opts)
	if err != nil {
		return nil, fmt.Errorf("dynamostore.NewKeyStore: %w", err)
	}
	store, err := keydoc.New(ctx, documents{r}, encrypter, r.cache)
	if err != nil {
		return nil, fmt.Errorf("dynamostore.NewKeyStore: %w", err)
	}
	return &KeyStore{store, diagnosis}, nil
}

// Diagnosis is [TokenStore.Diagnosis].
func (s *KeyStore) Diagnosis() []string { return append([]string(nil), s.diagnosis...) }

// The attributes of an app.
const (
	fieldDocument = "document"
	fieldRevision = "revision"
)

// documents keeps the documents of a keydoc.Store.
type documents struct{ run *runner }

// ReadApp implements [keydoc.Backend].
func (d documents) ReadApp(ctx context.Context, appID string) ([]byte, error) {
	row, err := d.run.get(ctx, appKey(appID))
	switch {
	case err != nil:
		return nil, err
	case row == nil:
		return nil, renew.ErrAppNotFound
	}
	return []byte(stringOf(row[fieldDocument])), nil
}

// CreateApp implements [keydoc.Backend]. The app and its entry in the list of apps are
// written in one transaction.
func (d documents) CreateApp(ctx context.Context, appID string, document []byte) error {
	key := appKey(appID)
	_, err := d.run.transact(ctx, newWrite(), key, types.TransactWriteItem{Put: &types.Put{
		TableName: &d.run.table,
		Item: item{
			partitionKey: key[partitionKey], sortKey: key[sortKey],
			fieldRevision: number(1), fieldDocument: text(string(document)),
		},
		ConditionExpression:                 aws.String("attribute_not_exists(#p)"),
		ExpressionAttributeNames:            map[string]string{"#p": partitionKey},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}, types.TransactWriteItem{Put: &types.Put{TableName: &d.run.table, Item: appEntryKey(appID)}})
	if errors.Is(err, errCondition) {
		return renew.ErrAppExists
	}
	return err
}

// ReplaceApp implements [keydoc.Backend].
func (d documents) ReplaceApp(ctx context.Context, appID string, from int64, document []byte) error {
	e := newExpression()
	e.put(fieldDocument, text(string(document)))
	e.put(fieldRevision, number(from+1))
	condition := e.name(fieldRevision) + " = " + e.value("from", number(from))
	old, err := d.run.update(ctx, newWrite(), &dynamodb.UpdateItemInput{
		Key: appKey(appID), ConditionExpression: &condition, UpdateExpression: e.text(),
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values,
	})
	switch {
	case !errors.Is(err, errCondition):
		return err
	case old == nil:
		return renew.ErrAppNotFound
	}
	return keydoc.ErrLost
}

// AppIDs implements [keydoc.Backend].
func (d documents) AppIDs(ctx context.Context) (ids []string, err error) {
	err = d.run.query(ctx, appsPartition, func(page []item) error {
		for _, entry := range page {
			ids = append(ids, strings.TrimPrefix(stringOf(entry[sortKey]), appEntryPrefix))
		}
		return nil
	})
	return ids, err
}
