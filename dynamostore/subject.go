package dynamostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/sessionfields"
)

// entries calls f with the IDs of the subject's sessions, in batches.
func (s *TokenStore) entries(ctx context.Context, appID, subject string, f func(ids []string) error) error {
	if !storable(entryKey(appID, subject, "")) {
		return nil
	}
	return s.run.query(ctx, listPartition(appID, subject), func(page []item) error {
		for batch := range slices.Chunk(page, batchSize) {
			ids := make([]string, len(batch))
			for i, entry := range batch {
				ids[i] = idOf(entry)
			}
			if err := f(ids); err != nil {
				return err
			}
		}
		return nil
	})
}

// SubjectSessions returns the subject's sessions that are live at the given time,
// newest first. It reads the subject's list and then every session in it, in batches,
// all strongly consistent; a session that is created, renewed or revoked concurrently
// is returned as it was at some moment of the call, or not.
func (s *TokenStore) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var live []renew.Session
	err := s.entries(ctx, appID, subject, func(ids []string) error {
		found, err := s.readBatch(ctx, appID, ids)
		for _, session := range found {
			if session.Subject == subject && session.Live(at) {
				live = append(live, session)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dynamostore: list sessions: %w", err)
	}
	sessionfields.SortNewestFirst(live)
	return live, nil
}

func (s *TokenStore) readBatch(ctx context.Context, appID string, ids []string) ([]renew.Session, error) {
	keys := make([]item, len(ids))
	for i, id := range ids {
		keys[i] = sessionKey(appID, id)
	}
	rows, err := s.run.getAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	found := make([]renew.Session, len(rows))
	for i, row := range rows {
		if found[i], err = session(row); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// RevokeSubject revokes every session of the subject that is not revoked yet and is
// not kept, and returns how many these were; with an error, how many are known to be
// revoked. It has 16 writes in flight, one per session.
func (s *TokenStore) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	if err := checkRevocation(ctx, at); err != nil {
		return 0, fmt.Errorf("dynamostore: revoke sessions: %w", err)
	}
	revoked := 0
	err := s.entries(ctx, appID, subject, func(ids []string) error {
		ids = slices.DeleteFunc(ids, func(id string) bool { return slices.Contains(keep, id) })
		n, err := each(ctx, ids, func(ctx context.Context, id string) (bool, error) {
			done, err := s.revoke(ctx, appID, id, at, &subject)
			if errors.Is(err, renew.ErrSessionNotFound) {
				return false, nil // DynamoDB has deleted it, or another process
			}
			return done, err
		})
		revoked += n
		return err
	})
	if err != nil {
		return revoked, fmt.Errorf("dynamostore: revoke sessions: %w", err)
	}
	return revoked, nil
}
