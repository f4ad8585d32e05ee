package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jwtrenew/renew/internal/sessionfields"
)

// DeleteExpired deletes sessions of which [renew.Session.EndedBefore] is true, at
// most limit, and returns how many; fewer than limit means that none is left. A
// limit below 1 deletes nothing. Subtract [renew.WithLeeway] from the time: a token
// inside the leeway still renews.
//
// It reads the whole table, strongly consistent, which costs a read unit for every
// 4 KB: an index would make this cheaper, and every renewal more expensive. A call that
// follows one that reached its limit continues where that one stopped. Any number of
// processes may run it concurrently. Where the time to live is enough, see
// [WithRetention], do not call it.
func (s *TokenStore) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit < 1 {
		return 0, nil
	}
	deleted, err := s.purge(ctx, sessionfields.CeilMillis(before), limit)
	if err != nil {
		return deleted, fmt.Errorf("dynamostore: delete expired sessions: %w", err)
	}
	return deleted, nil
}

// purge reads from where the last call stopped to the end, and then from the beginning.
func (s *TokenStore) purge(ctx context.Context, before int64, limit int) (deleted int, err error) {
	from := s.swapCursor(nil)
	again := from != nil
	for {
		page, err := s.scan(ctx, before, from)
		if err != nil {
			return deleted, err
		}
		for ended := page.Items; len(ended) > 0; {
			batch := ended[:min(len(ended), batchSize, limit-deleted)]
			ended = ended[len(batch):]
			n, err := each(ctx, batch, func(ctx context.Context, row item) (bool, error) { return s.deleteEnded(ctx, before, row) })
			deleted += n
			if err != nil {
				return deleted, err
			}
			if deleted >= limit {
				last := batch[len(batch)-1]
				s.swapCursor(item{partitionKey: last[partitionKey], sortKey: last[sortKey]})
				return deleted, nil
			}
		}
		if from = page.LastEvaluatedKey; from == nil {
			if !again {
				return deleted, nil
			}
			again = false
		}
	}
}

func (s *TokenStore) swapCursor(to item) (from item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, s.cursor = s.cursor, to
	return from
}

// scan reads a page of the table, and returns the sessions in it that have ended.
func (s *TokenStore) scan(ctx context.Context, before int64, from item) (*dynamodb.ScanOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s.run.timeout)
	defer cancel()
	return s.run.client.Scan(ctx, &dynamodb.ScanInput{
		TableName: &s.run.table, ConsistentRead: aws.Bool(true), ExclusiveStartKey: from,
		FilterExpression:     aws.String("#end < :before"),
		ProjectionExpression: aws.String("#p, #s, #app, #id, #subject"),
		ExpressionAttributeNames: map[string]string{
			"#end": fieldLiveUntil, "#p": partitionKey, "#s": sortKey, "#app": sessionfields.App, "#id": sessionfields.ID, "#subject": sessionfields.Subject,
		},
		ExpressionAttributeValues: item{":before": number(before)},
	})
}

// deleteEnded deletes a session that has still ended, and its entry, in one transaction.
func (s *TokenStore) deleteEnded(ctx context.Context, before int64, row item) (bool, error) {
	session, err := names(row)
	if err != nil {
		return false, err
	}
	key, e := sessionKey(session.AppID, session.ID), newExpression()
	condition := fmt.Sprintf("%s < %s", e.name(fieldLiveUntil), e.value("before", number(before))) + " AND " + e.is(sessionfields.Subject, session.Subject)
	w := newWrite()
	old, err := s.run.transact(ctx, w, key, types.TransactWriteItem{Delete: &types.Delete{
		TableName: &s.run.table, Key: key, ConditionExpression: &condition,
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}, s.deleteEntry(session.AppID, session.Subject, session.ID))
	if errors.Is(err, errCondition) {
		// It was renewed, or another process has deleted it, unless a request of this
		// call has, whose response was lost.
		return old == nil && w.unclear, nil
	}
	return err == nil, err
}
