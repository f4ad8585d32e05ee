package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// purgeBatch is how many rows one statement of DeleteExpired changes. Their locks
// are held for as long as that takes: milliseconds.
const purgeBatch = 100

// dueSessions are those that may have ended, with whether they have.
const dueSessions = `SELECT app_id, id, CASE WHEN expires_at < ? OR ends_at < ? THEN 1 ELSE 0 END
	FROM {sessions} WHERE purge_at < ? ORDER BY purge_at LIMIT ?`

// DeleteExpired deletes sessions of which [renew.Session.EndedBefore] is true, at
// most limit, and returns how many; fewer than limit means that none is left. A
// limit below 1 deletes nothing. Take [renew.WithLeeway] off the time: a token
// inside the leeway still renews.
//
// It works in batches of 100 rows, each a transaction of its own, found through
// an index and locked by primary key, so that renewals do not wait for it. Of
// the sessions that live on it touches each about once per lifetime of a refresh
// token, not once per call. After an error the number is that of the sessions
// deleted for certain. Any number of processes may run it at once.
func (s *TokenStore) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	deleted := 0
	for deleted < limit {
		n, more, err := s.purge(ctx, ceilMillis(before), min(limit-deleted, purgeBatch))
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("sqlstore: delete expired sessions: %w", err)
		}
		if !more {
			break
		}
	}
	return deleted, ctx.Err()
}

// ceilMillis returns the first millisecond that is not before t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// purge deletes the ended ones of a batch of due sessions, sets the others'
// purge_at to when they really end, and reports whether more may be due.
func (s *TokenStore) purge(ctx context.Context, before int64, size int) (deleted int, more bool, err error) {
	var ended, alive []sessionKey
	err = retry(ctx, true, func() error {
		ended, alive, err = s.readDue(ctx, before, size)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	if deleted, err = s.execOn(ctx, `DELETE FROM {sessions} WHERE {keys} AND (expires_at < ? OR ends_at < ?)`,
		ended, before, before); err != nil {
		return 0, false, err
	}
	_, err = s.execOn(ctx, `UPDATE {sessions} SET purge_at = {least}(expires_at, COALESCE(ends_at, expires_at)) WHERE {keys}`, alive)
	return deleted, len(ended)+len(alive) == size, err
}

func (s *TokenStore) readDue(ctx context.Context, before int64, size int) (ended, alive []sessionKey, err error) {
	rows, err := s.due.QueryContext(ctx, before, before, before, size)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err has said what went wrong
	for rows.Next() {
		var key sessionKey
		var hasEnded bool
		if err := rows.Scan(&key.appID, &key.id, &hasEnded); err != nil {
			return nil, nil, err
		}
		if hasEnded {
			ended = append(ended, key)
		} else {
			alive = append(alive, key)
		}
	}
	return ended, alive, rows.Err()
}

type sessionKey struct{ appID, id string }

func (k sessionKey) compare(other sessionKey) int {
	return cmp.Or(strings.Compare(k.appID, other.appID), strings.Compare(k.id, other.id))
}

// execOn runs a statement on the sessions of these keys. {keys} stands for the
// condition, and comes before every other argument. Sorted keys keep two
// processes from waiting for each other in a circle.
func (s *TokenStore) execOn(ctx context.Context, statement string, keys []sessionKey, args ...any) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	slices.SortFunc(keys, sessionKey.compare)
	conditions := make([]string, len(keys))
	all := make([]any, 0, 2*len(keys)+len(args))
	for i, key := range keys {
		conditions[i] = "app_id = ? AND id = ?"
		all = append(all, key.appID, key.id)
	}
	statement = strings.Replace(statement, "{keys}", "("+strings.Join(conditions, " OR ")+")", 1)
	query := s.config.sql(statement)
	return s.write(ctx, false, func() (sql.Result, error) { return s.db.ExecContext(ctx, query, append(all, args...)...) })
}
