package dynamostore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/jwtrenew/renew/internal/panics"
)

// runner sends requests about one table.
type runner struct {
	config
	client *dynamodb.Client
	table  string
}

// writeFields hold the names of an item's last writes, the newest first. The SDK sends
// a request again when its response was lost; the condition fails then, and the item
// has the name of the write.
var writeFields = []string{"w1", "w2", "w3", "w4"}

// write is one write of a session, however often it is sent.
type write struct {
	name []byte
	// unclear means that a request has ended without a result: it may have been
	// carried out.
	unclear bool
}

// newWrite draws the name of a write, 64 bits.
func newWrite() *write {
	w := &write{name: make([]byte, 8)}
	rand.Read(w.name) // never fails
	return w
}

// value is the name as an attribute.
func (w *write) value() types.AttributeValue { return &types.AttributeValueMemberB{Value: w.name} }

// hasWritten reports whether the write is one of the item's last.
func (w *write) hasWritten(i item) bool {
	return slices.ContainsFunc(writeFields, func(field string) bool {
		b, ok := i[field].(*types.AttributeValueMemberB)
		return ok && bytes.Equal(b.Value, w.name)
	})
}

// errUnclear means that others have written since a request of the same write whose
// response was lost, more often than an item remembers.
var errUnclear = errors.New("the response to a request was lost, and others have written since: the outcome is unknown")

// notWritten returns the error of a write whose condition has failed, if the item does not
// have its name.
func (w *write) notWritten(err error) error {
	if w.unclear {
		return errUnclear
	}
	return err
}

// watch notes how each request of the write ends, those that the SDK sends again too.
func (w *write) watch(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("renew: watch a write",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				out, metadata, err := next.HandleFinalize(ctx, in)
				if err != nil && !isRejected(err) {
					w.unclear = true
				}
				return out, metadata, err
			}), "Retry", middleware.After)
	})
}

// isRejected reports whether an error says that DynamoDB did not do what was asked.
func isRejected(err error) bool {
	var response *awshttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode()/100 == 4
}

// errCondition means that the condition of a write has failed.
var errCondition = errors.New("the condition of the write has failed")

// update sends an UpdateItem, with the name of the write. If its condition has failed
// it returns errCondition and the item; nil if there is none.
func (r *runner) update(ctx context.Context, w *write, in *dynamodb.UpdateItemInput) (item, error) {
	in.TableName = &r.table
	in.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
	err := r.send(ctx, func(ctx context.Context) error {
		_, err := r.client.UpdateItem(ctx, in, w.watch)
		return err
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return r.failed(ctx, in.Key, failed.Item)
	}
	return nil, err
}

// transact sends a TransactWriteItems, of which only the first write has a condition.
// The rest is as with update; key is that of the first write.
func (r *runner) transact(ctx context.Context, w *write, key item, writes ...types.TransactWriteItem) (item, error) {
	err := r.send(ctx, func(ctx context.Context) error {
		_, err := r.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes}, w.watch)
		return err
	})
	var canceled *types.TransactionCanceledException
	if errors.As(err, &canceled) && len(canceled.CancellationReasons) > 0 && hasReason(canceled, reasonCondition) {
		return r.failed(ctx, key, canceled.CancellationReasons[0].Item)
	}
	return nil, err
}

// failed returns the item that a failed condition was compared with, and errCondition.
// If the response has no item, it is read: DynamoDB has no such item then, but an
// emulator may not return it.
func (r *runner) failed(ctx context.Context, key, old item) (item, error) {
	if len(old) > 0 {
		return old, errCondition
	}
	old, err := r.get(ctx, key)
	if err != nil {
		return nil, err
	}
	return old, errCondition
}

// get reads an item, strongly consistent; nil if there is none.
func (r *runner) get(ctx context.Context, key item) (item, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	out, err := r.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &r.table, Key: key, ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// batchSize is how many items one request reads at most. DynamoDB allows no more.
const batchSize = 100

// getAll reads items, strongly consistent, in any order, at most batchSize. Keys
// without an item are left out.
func (r *runner) getAll(ctx context.Context, keys []item) ([]item, error) {
	var found []item
	for attempt := 1; len(keys) > 0; attempt++ {
		out, err := r.getSome(ctx, keys)
		if err != nil {
			return nil, err
		}
		found = append(found, out.Responses[r.table]...)
		before := len(keys)
		keys = out.UnprocessedKeys[r.table].Keys
		if len(keys) < before {
			attempt = 0 // there is progress
		}
		if attempt == attempts {
			return nil, errors.New("DynamoDB is too busy to read a batch")
		}
		if len(keys) > 0 {
			if err := pause(ctx, attempt+1); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (r *runner) getSome(ctx context.Context, keys []item) (*dynamodb.BatchGetItemOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return r.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{r.table: {Keys: keys, ConsistentRead: aws.Bool(true)}},
	})
}

// query calls f with the items of a partition, page by page, strongly consistent.
func (r *runner) query(ctx context.Context, partition string, f func([]item) error) error {
	in := &dynamodb.QueryInput{
		TableName: &r.table, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("#p = :p"),
		ProjectionExpression:      aws.String("#s"),
		ExpressionAttributeNames:  map[string]string{"#p": partitionKey, "#s": sortKey},
		ExpressionAttributeValues: item{":p": text(partition)},
	}
	for {
		out, err := r.queryPage(ctx, in)
		if err != nil {
			return err
		}
		if err := f(out.Items); err != nil {
			return err
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; in.ExclusiveStartKey == nil {
			return nil
		}
	}
}

func (r *runner) queryPage(ctx context.Context, in *dynamodb.QueryInput) (*dynamodb.QueryOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return r.client.Query(ctx, in)
}

// attempts is how often a request is sent that meets a transaction on the same item.
// The SDK repeats others itself.
const attempts = 10

// send runs a request for at most the command timeout, and again while it meets a
// transaction on the same item.
func (r *runner) send(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := f(ctx)
		if err == nil || attempt == attempts || !meetsAnother(err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// Reasons for which DynamoDB cancels a transaction.
const (
	reasonCondition = "ConditionalCheckFailed"
	reasonConflict  = "TransactionConflict"
	reasonThrottled = "ThrottlingError"
	reasonCapacity  = "ProvisionedThroughputExceeded"
)

// meetsAnother reports whether a request was not carried out because of others at the
// same time.
func meetsAnother(err error) bool {
	var conflict *types.TransactionConflictException
	if errors.As(err, &conflict) {
		return true
	}
	var canceled *types.TransactionCanceledException
	return errors.As(err, &canceled) && !hasReason(canceled, reasonCondition) &&
		(hasReason(canceled, reasonConflict) || hasReason(canceled, reasonThrottled) || hasReason(canceled, reasonCapacity))
}

func hasReason(canceled *types.TransactionCanceledException, code string) bool {
	return slices.ContainsFunc(canceled.CancellationReasons, func(r types.CancellationReason) bool { return aws.ToString(r.Code) == code })
}

// pause waits before the next attempt: longer each time, at random.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(time.Duration(mathrand.Int64N(int64(attempt*attempt)*int64(5*time.Millisecond)) + 1)) //nolint:gosec // no secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// safely calls f, in which a middleware of the caller's may panic.
func safely[T any](ctx context.Context, value T, f func(context.Context, T) (bool, error)) (done bool, err error) {
	defer panics.Catch(ctx, "dynamostore: the client", &err)
	return f(ctx, value)
}

// workers is how many requests a call that changes many sessions has in flight.
const workers = 16

// each calls f for every value, several at the same time, and returns how many calls
// returned true. It begins no more after an error.
func each[T any](ctx context.Context, values []T, f func(context.Context, T) (bool, error)) (count int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan T)
	for range min(workers, len(values)) {
		all.Go(func() {
			for value := range next {
				done, one := safely(ctx, value, f)
				mu.Lock()
				if done {
					count++
				}
				if one != nil && err == nil {
					err = one
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for _, value := range values {
		select {
		case next <- value:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	all.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return count, err
}

// expression collects the parts of an update, with a placeholder for each name and
// value.
type expression struct {
	set, remove []string
	names       map[string]string
	values      item
}

func newExpression() *expression { return &expression{names: map[string]string{}, values: item{}} }

// name returns the placeholder of an attribute.
func (e *expression) name(field string) string {
	e.names["#"+field] = field
	return "#" + field
}

// value returns a placeholder of this name for a value.
func (e *expression) value(name string, v types.AttributeValue) string {
	e.values[":"+name] = v
	return ":" + name
}

// put sets an attribute, or removes it if there is no value.
func (e *expression) put(field string, v types.AttributeValue) {
	if v == nil {
		e.remove = append(e.remove, e.name(field))
		return
	}
	e.set = append(e.set, e.name(field)+" = "+e.value(field, v))
}

// is is the condition that an attribute has this text. The empty one is a missing
// attribute.
func (e *expression) is(field, value string) string {
	v := textValue(value)
	if v == nil {
		return e.lacks(field)
	}
	return e.name(field) + " = " + e.value("is_"+field, v)
}

// lacks is the condition that the item does not have an attribute.
func (e *expression) lacks(field string) string { return "attribute_not_exists(" + e.name(field) + ")" }

// sign puts the name of the write before those of the last ones.
func (e *expression) sign(w *write) {
	e.put(writeFields[0], w.value())
	none := e.value("none", &types.AttributeValueMemberB{Value: []byte{0}})
	for i, field := range writeFields[1:] {
		e.set = append(e.set, fmt.Sprintf("%s = if_not_exists(%s, %s)", e.name(field), e.name(writeFields[i]), none))
	}
}

// text is the update expression.
func (e *expression) text() *string {
	var b bytes.Buffer
	for i, part := range e.set {
		b.WriteString([]string{"SET ", ", "}[min(i, 1)])
		b.WriteString(part)
	}
	for i, part := range e.remove {
		b.WriteString([]string{" REMOVE ", ", "}[min(i, 1)])
		b.WriteString(part)
	}
	return aws.String(b.String())
}
