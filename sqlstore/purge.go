package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// purgeBatch is how many rows one statement of DeleteExpired changes. Their locks
// are held for as long as that takes: milliseconds.
const purgeBatch = 100

// dueSessions are those that may have ended, with whether they have.
const dueSessions = `SELECT app_id, id, CASE WHEN expires_at < ? OR ends_at < ? THEN 1 ELSE 0 END, purge_at
	FROM {sessions} WHERE purge_at >= ? AND purge_at < ? ORDER BY purge_at LIMIT ?`

// DeleteExpired deletes sessions of which [renew.Session.EndedBefore] is true, at
// most limit, and returns how many; fewer than limit means that none is left. A
// limit below 1 deletes nothing. Subtract the Renewer's leeway from before, as
// [renew.Renewer.DeleteExpired] does: a token inside the leeway still renews.
//
// It works in batches of 100 rows, each in its own transaction, found through
// an index and locked by primary key, so that renewals do not wait for it. Of
// the sessions that have not ended it touches each about once per lifetime of a refresh
// token, not once per call. After an error the number is that of the sessions
// deleted for certain. Any number of processes may run it simultaneously.
func (s *TokenStore) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	began := s.purged.Swap(0)
	if began == 0 {
		began = fromStart
	}
	p := purge{TokenStore: s, before: ceilMillis(before), from: began}
	for p.deleted < limit {
		more, err := p.batch(ctx, min(limit-p.deleted, purgeBatch))
		switch {
		case err != nil:
			return p.deleted, fmt.Errorf("sqlstore: delete expired sessions: %w", err)
		case more:
		case began == fromStart:
			return p.deleted, ctx.Err()
		default: // some may have ended since, earlier than where this call began
			began, p.from = fromStart, fromStart
		}
	}
	s.purged.Store(p.from)
	return p.deleted, ctx.Err()
}

// purge is one call of DeleteExpired. Each batch begins where the last one ended, and
// each call where one ended that has reached its limit: a database that keeps what
// was deleted for an older snapshot would read it again each time.
type purge struct {
	*TokenStore
	before, from int64 // purge_at, in milliseconds
	deleted      int
}

// fromStart is before every purge_at.
const fromStart = math.MinInt64

// ceilMillis returns the first millisecond that is not before t.
func ceilMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}

// batch deletes the ended ones of a batch of due sessions, sets the others'
// purge_at to when they really end, and reports whether more may be due.
func (p *purge) batch(ctx context.Context, size int) (more bool, err error) {
	d, err := p.readDue(ctx, size)
	if err != nil {
		return false, err
	}
	n, err := p.execOn(ctx, `DELETE FROM {sessions} WHERE {keys} AND (expires_at < ? OR ends_at < ?)`, d.ended, p.before, p.before)
	p.deleted += n
	if err != nil {
		return false, err
	}
	_, err = p.execOn(ctx, `UPDATE {sessions} SET purge_at = {least}(expires_at, COALESCE(ends_at, expires_at)) WHERE {keys}`, d.alive)
	p.from = d.last
	return len(d.ended)+len(d.alive) == size, err
}

// due are sessions that a batch looks at.
type due struct {
	ended, alive []sessionKey
	last         int64 // the latest purge_at
}

func (p *purge) readDue(ctx context.Context, size int) (due, error) {
	var read due // not a named result: after an error the query may still be under way
	err := p.on.query(ctx, p.due, func(rows *sql.Rows) error {
		read.ended, read.alive = nil, nil
		for rows.Next() {
			var key sessionKey
			var hasEnded bool
			if err := rows.Scan(&key.appID, &key.id, &hasEnded, &read.last); err != nil {
				return err
			}
			if hasEnded {
				read.ended = append(read.ended, key)
			} else {
				read.alive = append(read.alive, key)
			}
		}
		return rows.Err()
	}, p.before, p.before, p.from, p.before, size)
	if err != nil {
		return due{}, err
	}
	return read, nil
}

type sessionKey struct{ appID, id string }

func (k sessionKey) compare(other sessionKey) int {
	return cmp.Or(strings.Compare(k.appID, other.appID), strings.Compare(k.id, other.id))
}

// execOn runs a statement on the sessions of these keys. {keys} stands for the
// condition, and comes before every other argument. Sorted keys keep two
// processes from waiting for each other in a circle.
func (p *purge) execOn(ctx context.Context, statement string, keys []sessionKey, args ...any) (int, error) {
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
	return p.on.exec(ctx, false, p.on.render(statement, true), append(all, args...)...)
}
