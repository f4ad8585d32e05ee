package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/sessionfields"
)

var (
	_ renew.TokenStore   = (*TokenStore)(nil)
	_ renew.SubjectStore = (*TokenStore)(nil)
	_ renew.Purger       = (*TokenStore)(nil)
)

// TokenStore keeps sessions in a table of DynamoDB. It is safe for concurrent use, and
// so is any number of them on one table. Make one with [NewTokenStore].
type TokenStore struct {
	run       *runner
	diagnosis []string

	mu     sync.Mutex
	cursor item // where the next DeleteExpired begins
}

// NewTokenStore returns a store that uses the table, see [CreateTable], through the
// client. It returns an error if there is no such table, or if the table has other keys or
// multi-Region strong consistency, with which DynamoDB has no transactions.
// What weakens the store's promises without being an error is in
// [TokenStore.Diagnosis].
func NewTokenStore(ctx context.Context, client *dynamodb.Client, table string, opts ...Option) (*TokenStore, error) {
	r, diagnosis, err := newRunner(ctx, client, table, opts)
	if err != nil {
		return nil, fmt.Errorf("dynamostore.NewTokenStore: %w", err)
	}
	return &TokenStore{run: r, diagnosis: diagnosis}, nil
}

func newRunner(ctx context.Context, client *dynamodb.Client, table string, opts []Option) (*runner, []string, error) {
	c, err := newConfig(client, table, opts)
	if err != nil {
		return nil, nil, err
	}
	r := &runner{config: c, client: client, table: table}
	diagnosis, err := r.checkTable(ctx)
	return r, diagnosis, err
}

// Diagnosis returns what was found when the store was made that weakens its promises,
// such as a time to live that is off: each with what to do. Empty: nothing was found.
func (s *TokenStore) Diagnosis() []string { return append([]string(nil), s.diagnosis...) }

// CreateSession stores a new session and its entry in the list of its subject, in one
// transaction. It returns [renew.ErrSessionExists] if the app has a session of this ID.
func (s *TokenStore) CreateSession(ctx context.Context, session renew.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.create(ctx, session); err != nil {
		return fmt.Errorf("dynamostore: create session: %w", err)
	}
	return nil
}

func (s *TokenStore) create(ctx context.Context, session renew.Session) error {
	key, entry, err := keysOf(session)
	if err != nil {
		return err
	}
	row, err := s.row(session)
	if err != nil {
		return err
	}
	w := newWrite()
	row[writeFields[0]] = w.value()
	row[partitionKey], row[sortKey] = key[partitionKey], key[sortKey]
	if until := s.listedUntil(session); until != nil {
		row[fieldListedUntil] = until
	}
	old, err := s.run.transact(ctx, w, key, types.TransactWriteItem{Put: &types.Put{
		TableName: &s.run.table, Item: row,
		ConditionExpression:                 aws.String("attribute_not_exists(#p)"),
		ExpressionAttributeNames:            map[string]string{"#p": partitionKey},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}, s.putEntry(entry, session))
	switch {
	case !errors.Is(err, errCondition):
		return err
	case w.hasWritten(old):
		return nil
	}
	return w.notWritten(renew.ErrSessionExists)
}

var errName = errors.New("the app, the ID or the subject is not valid UTF-8, or too long")

// keysOf returns the keys of a session and of its entry.
func keysOf(session renew.Session) (key, entry item, err error) {
	key, entry = sessionKey(session.AppID, session.ID), entryKey(session.AppID, session.Subject, session.ID)
	if !storable(key) || !storable(entry) {
		return nil, nil, errName
	}
	return key, entry, nil
}

// row returns a session as attributes, with its time to live.
func (s *TokenStore) row(session renew.Session) (item, error) {
	row, err := fields(session)
	if err == nil && s.run.retention > 0 {
		row[fieldExpiresAt] = number(s.expiresAt(session))
	}
	return row, err
}

// expiresAt is when DynamoDB may delete a session, in seconds. It counts from this
// clock where the end is in the past: a session that ended before it was stored is kept
// for the time of retention, too.
func (s *TokenStore) expiresAt(session renew.Session) int64 {
	from := session.End()
	if now := s.run.now(); from.Before(now) {
		from = now
	}
	return from.Unix() + 1 + int64(s.run.retention/time.Second)
}

// listedUntil is when DynamoDB may delete the entry of a session in its subject's list;
// nil: never. It is later than that of the session, by the time of retention: so long
// can the session be renewed before its entry must be written again.
func (s *TokenStore) listedUntil(session renew.Session) types.AttributeValue {
	if s.run.retention == 0 {
		return nil
	}
	return number(s.expiresAt(session) + int64(s.run.retention/time.Second))
}

func (s *TokenStore) putEntry(key item, session renew.Session) types.TransactWriteItem {
	entry := item{partitionKey: key[partitionKey], sortKey: key[sortKey]}
	if until := s.listedUntil(session); until != nil {
		entry[fieldExpiresAt] = until
	}
	return types.TransactWriteItem{Put: &types.Put{TableName: &s.run.table, Item: entry}}
}

// Session returns the session, also if it is revoked or has expired, with a strongly
// consistent read. It returns [renew.ErrSessionNotFound] if the app has no session of
// this ID.
func (s *TokenStore) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return renew.Session{}, err
	}
	found, err := s.read(ctx, sessionKey(appID, sessionID))
	if err != nil {
		return renew.Session{}, fmt.Errorf("dynamostore: read session: %w", err)
	}
	return found, nil
}

func (s *TokenStore) read(ctx context.Context, key item) (renew.Session, error) {
	if !storable(key) {
		return renew.Session{}, renew.ErrSessionNotFound
	}
	row, err := s.run.get(ctx, key)
	switch {
	case err != nil:
		return renew.Session{}, err
	case row == nil:
		return renew.Session{}, renew.ErrSessionNotFound
	}
	return session(row)
}

// Rotate replaces the session if its token ID is from and it is not revoked, with one
// conditional write. It returns [renew.ErrConflict] if the token ID is another or the
// session is revoked, and [renew.ErrSessionNotFound] if there is no such session. If the
// SDK sends the write again, because the response was lost, the result is that of the
// first one.
//
// About once in the time of retention a rotation writes the entry in the subject's list
// again, which costs a request more: see [WithRetention].
func (s *TokenStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.rotate(ctx, from, next); err != nil {
		return fmt.Errorf("dynamostore: rotate session: %w", err)
	}
	return nil
}

// rotate tries the one write first, whose condition has the entry's time to live in it
// and the subject, which a Renewer never changes. If it fails, the item says what is next.
func (s *TokenStore) rotate(ctx context.Context, from string, next renew.Session) error {
	key, _, err := keysOf(next)
	if err != nil {
		return err
	}
	row, err := s.row(next)
	if err != nil {
		return err
	}
	w := newWrite()
	old, err := s.run.update(ctx, w, s.rotation(w, key, row, from, next))
	for range attempts {
		if !errors.Is(err, errCondition) {
			return err
		}
		subject, done, failure := w.judge(old, from)
		if done || failure != nil {
			return failure
		}
		old, err = s.rotateWithEntry(ctx, w, row, from, subject, next)
	}
	return errBusy
}

// judge tells from the item why the condition of a rotation has failed: the write has
// happened before, or it fails for good. Otherwise the subject's entry must be written, too.
func (w *write) judge(old item, from string) (subject string, done bool, err error) {
	switch {
	case old == nil:
		return "", false, w.notWritten(renew.ErrSessionNotFound)
	case w.hasWritten(old):
		return "", true, nil
	}
	stored, err := session(old)
	if err == nil && (stored.TokenID != from || !stored.RevokedAt.IsZero()) {
		err = w.notWritten(renew.ErrConflict)
	}
	return stored.Subject, false, err
}

// replacement is the update of a rotation, and the part of its condition that is
// always the same.
func replacement(w *write, row item, from string) (*expression, string) {
	e := newExpression()
	for _, field := range sessionFields {
		e.put(field, row[field])
	}
	e.sign(w)
	return e, e.is(sessionfields.TokenID, from) + " AND " + e.lacks(sessionfields.RevokedAt)
}

// rotation is the one write of a rotation that leaves the entry as it is.
func (s *TokenStore) rotation(w *write, key, row item, from string, next renew.Session) *dynamodb.UpdateItemInput {
	e, condition := replacement(w, row, from)
	condition += " AND " + e.is(sessionfields.Subject, next.Subject)
	if expires := row[fieldExpiresAt]; expires != nil {
		condition += fmt.Sprintf(" AND %s >= %s", e.name(fieldListedUntil), e.value(fieldExpiresAt, expires))
	} else {
		condition += " AND " + e.lacks(fieldListedUntil)
	}
	return &dynamodb.UpdateItemInput{
		Key: key, ConditionExpression: &condition, UpdateExpression: e.text(),
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values,
	}
}

// rotateWithEntry rotates a session of the subject and writes its entry, in one
// transaction.
func (s *TokenStore) rotateWithEntry(ctx context.Context, w *write, row item, from, subject string, next renew.Session) (item, error) {
	key, entry, err := keysOf(next)
	if err != nil {
		return nil, err
	}
	e, condition := replacement(w, row, from)
	condition += " AND " + e.is(sessionfields.Subject, subject)
	e.put(fieldListedUntil, s.listedUntil(next))
	writes := []types.TransactWriteItem{{Update: &types.Update{
		TableName: &s.run.table, Key: key, ConditionExpression: &condition, UpdateExpression: e.text(),
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}, s.putEntry(entry, next)}
	if subject != next.Subject {
		writes = append(writes, s.deleteEntry(next.AppID, subject, next.ID))
	}
	return s.run.transact(ctx, w, key, writes...)
}

func (s *TokenStore) deleteEntry(appID, subject, sessionID string) types.TransactWriteItem {
	return types.TransactWriteItem{Delete: &types.Delete{TableName: &s.run.table, Key: entryKey(appID, subject, sessionID)}}
}

// RevokeSession revokes the session, or returns nil if it is revoked, with one
// conditional write. It returns [renew.ErrSessionNotFound] if there is no such session.
// A zero time, which would leave the session live, is an error.
func (s *TokenStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	if err := checkRevocation(ctx, at); err != nil {
		return fmt.Errorf("dynamostore: revoke session: %w", err)
	}
	if _, err := s.revoke(ctx, appID, sessionID, at, nil); err != nil {
		return fmt.Errorf("dynamostore: revoke session: %w", err)
	}
	return nil
}

// revoke reports whether the session was not revoked before. With a subject it leaves
// alone what is another's.
func (s *TokenStore) revoke(ctx context.Context, appID, sessionID string, at time.Time, subject *string) (bool, error) {
	key := sessionKey(appID, sessionID)
	if !storable(key) {
		return false, renew.ErrSessionNotFound
	}
	w := newWrite()
	for range attempts {
		old, err := s.run.update(ctx, w, revocation(w, key, at, subject))
		switch {
		case !errors.Is(err, errCondition):
			return err == nil, err
		case old == nil:
			return false, w.notWritten(renew.ErrSessionNotFound)
		case w.hasWritten(old):
			return true, nil
		}
		stored, err := session(old)
		if err != nil || !stored.RevokedAt.IsZero() || subject != nil && stored.Subject != *subject {
			return false, err
		}
		// It was read after the condition had failed, and has been created since.
	}
	return false, errBusy
}

var errBusy = errors.New("too many concurrent changes")

func revocation(w *write, key item, at time.Time, subject *string) *dynamodb.UpdateItemInput {
	e := newExpression()
	e.put(sessionfields.RevokedAt, number(at.UnixMilli()))
	e.sign(w)
	condition := "attribute_exists(" + e.name(partitionKey) + ") AND " + e.lacks(sessionfields.RevokedAt)
	if subject != nil {
		condition += " AND " + e.is(sessionfields.Subject, *subject)
	}
	return &dynamodb.UpdateItemInput{
		Key: key, ConditionExpression: &condition, UpdateExpression: e.text(),
		ExpressionAttributeNames: e.names, ExpressionAttributeValues: e.values,
	}
}

// checkRevocation rejects a revocation that must not begin.
func checkRevocation(ctx context.Context, at time.Time) error {
	if at.IsZero() {
		return errors.New("the time is zero")
	}
	return ctx.Err()
}
