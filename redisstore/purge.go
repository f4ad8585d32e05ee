package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jwtrenew/renew/internal/sessionfields"
)

const (
	// purgeBatch is how many sessions of a shard one script deletes. Redis serves
	// others between two scripts.
	purgeBatch = 25
	// shardsAtOnce is of how many shards one pipeline reads the index of ends.
	shardsAtOnce = 32
)

// DeleteExpired deletes sessions of which [renew.Session.EndedBefore] is true, at
// most limit, and returns how many; fewer than limit means that none is left. A
// limit below 1 deletes nothing. Subtract [renew.WithLeeway] from the time: a token
// inside the leeway still renews.
//
// It finds sessions through the indexes of ends, one per shard, and deletes them in
// batches of 25, between which Redis serves others. A call that finds nothing reads
// all 1,024 indexes, in 32 round trips. Any number of processes may run it concurrently.
func (s *TokenStore) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deleted := 0
	ms := strconv.FormatInt(sessionfields.CeilMillis(before), 10)
	for first := 0; first < shards && deleted < limit; first += shardsAtOnce {
		n, err := s.purgeShards(ctx, first, ms, limit-deleted)
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("redisstore: delete expired sessions: %w", err)
		}
	}
	return deleted, nil
}

// purgeShards does the shardsAtOnce shards from the first one on.
func (s *TokenStore) purgeShards(ctx context.Context, first int, before string, limit int) (deleted int, err error) {
	for deleted < limit {
		calls := make([]call, shardsAtOnce)
		for i := range calls {
			calls[i] = call{listEnded, []string{s.run.ends(first + i)}, []any{before, purgeBatch}}
		}
		results, err := s.run.readAll(ctx, calls)
		if err != nil {
			return deleted, err
		}
		more := false
		for i, r := range results {
			members, err := texts(r.reply, r.err)
			if err != nil {
				return deleted, err
			}
			if extra := len(members) - (limit - deleted); extra > 0 {
				members = members[:limit-deleted]
			}
			if len(members) == 0 {
				continue
			}
			more = true
			n, err := s.purgeMembers(ctx, first+i, before, members)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
		if !more {
			return deleted, nil
		}
	}
	return deleted, nil
}

// purgeMembers deletes those of the shard's sessions that have still ended, and their
// entries in the subjects' indexes.
func (s *TokenStore) purgeMembers(ctx context.Context, shard int, before string, members []string) (int, error) {
	keys, args := []string{s.run.ends(shard), s.run.deleted(shard)}, []any{newWrite(), s.run.repeats(), before}
	for _, m := range members {
		keys, args = append(keys, s.run.session(m)), append(args, m)
	}
	const perSession = 4 // app, subject, ID, entry
	c := call{deleteEnded, keys, args}
	reply, unclear := s.run.write(ctx, c)
	if unclear != nil && !errors.Is(unclear, ErrReplicas) {
		return 0, unclear
	}
	gone, err := texts(reply, nil)
	switch {
	case err != nil:
		return 0, err
	case len(gone) == 0:
		return 0, errReply
	case gone[0] == overtaken && c.isRepeated():
		unclear = errUnclear
	}
	gone = gone[1:]
	byIndex := map[[2]string][]entry{} // by app and subject
	for session := range slices.Chunk(gone, perSession) {
		if len(session) < perSession {
			return 0, errReply
		}
		index := [2]string{session[0], session[1]}
		byIndex[index] = append(byIndex[index], entry{session[2], session[3]})
	}
	for index, entries := range byIndex {
		if err := s.deleteEntries(ctx, index[0], index[1], anyAge, entries); err != nil {
			return len(gone) / perSession, fmt.Errorf("index of the subject: %w", err)
		}
	}
	return len(gone) / perSession, unclear
}
