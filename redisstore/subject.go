package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/sessionfields"
)

// The index of a subject is in another slot than its sessions, so that it is written
// in a separate step, before the session. It names every session of the subject, and
// may name others: what is found in it is compared with the session.
//
// An entry whose session is missing, or is another subject's, may be that of a session
// which is being created. So it is deleted only if it is older than any call can take.

const (
	// pageSize is how many entries of an index one command reads. Redis may return
	// more of an index of a few.
	pageSize = 500
	// batchSize is how many sessions one pipeline reads or changes. Redis serves
	// others between two pipelines: with 32 their slowest calls took three times as
	// long as without, with 8 less than twice (TestLargeSubject).
	batchSize = 8
	// staleAge is how old an entry without a session is when it is deleted, in seconds.
	staleAge = 24 * 60 * 60
	// anyAge is below the age of any entry.
	anyAge = -1
)

// entry is what an index has of a session.
type entry struct{ id, name string }

// writeEntry writes the session's entry, and returns it.
func (s *TokenStore) writeEntry(ctx context.Context, session renew.Session) (string, error) {
	reply, err := s.run.write(ctx, call{
		writeEntry, []string{s.run.subject(session.AppID, session.Subject)}, []any{session.ID, newName()},
	})
	name, ok := reply.(string)
	switch {
	case err != nil:
		return "", fmt.Errorf("index of the subject: %w", err)
	case !ok:
		return "", errReply
	}
	return name, nil
}

// entries calls f with the subject's entries, batch by batch, until f returns an
// error. An entry that is there all the time comes once. A server that has another
// run than the last one, after a failover or a restart, begins from the start: a
// cursor of the other run would leave out entries.
func (s *TokenStore) entries(ctx context.Context, appID, subject string, f func([]entry) error) error {
	keys := []string{s.run.subject(appID, subject)}
	seen := map[string]bool{}
	run, cursor := "", "0"
	for {
		page, err := texts(s.run.read(ctx, call{scanEntries, keys, []any{cursor, pageSize}}))
		if err != nil {
			return err
		}
		if len(page) < 2 {
			return errReply
		}
		if run != page[0] && cursor != "0" {
			run, cursor = "", "0"
			continue
		}
		run, cursor = page[0], page[1]
		var fresh []entry
		for i := 2; i+1 < len(page); i += 2 {
			if !seen[page[i]] {
				seen[page[i]] = true
				fresh = append(fresh, entry{page[i], page[i+1]})
			}
		}
		for batch := range slices.Chunk(fresh, batchSize) {
			if err := f(batch); err != nil {
				return err
			}
		}
		if cursor == "0" {
			return nil
		}
	}
}

// deleteEntries deletes entries that are still the same and older than so many
// seconds.
func (s *TokenStore) deleteEntries(ctx context.Context, appID, subject string, age int, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	args := []any{age}
	for _, e := range entries {
		args = append(args, e.id, e.name)
	}
	_, err := s.run.read(ctx, call{deleteEntries, []string{s.run.subject(appID, subject)}, args})
	return err
}

// SubjectSessions returns the subject's sessions that are live at the given time,
// newest first. It reads the subject's index and then every session that it names,
// in batches; a session that is created, renewed or revoked concurrently is returned
// as it was at some moment of the call, or not.
func (s *TokenStore) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var live []renew.Session
	err := s.entries(ctx, appID, subject, func(batch []entry) error {
		found, err := s.readBatch(ctx, appID, subject, batch)
		for _, session := range found {
			if session.Live(at) {
				live = append(live, session)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("redisstore: list sessions: %w", err)
	}
	sessionfields.SortNewestFirst(live)
	return live, nil
}

// readBatch returns the subject's sessions of a batch of entries, and deletes entries
// that lead to no session of the subject.
func (s *TokenStore) readBatch(ctx context.Context, appID, subject string, batch []entry) ([]renew.Session, error) {
	calls := make([]call, len(batch))
	for i, e := range batch {
		calls[i] = s.readCall(appID, e.id)
	}
	results, err := s.run.readAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	var found []renew.Session
	var stale []entry
	for i, r := range results {
		session, err := readReply(r.reply, r.err)
		switch {
		case errors.Is(err, renew.ErrSessionNotFound) || err == nil && session.Subject != subject:
			stale = append(stale, batch[i])
		case err != nil:
			return nil, err
		default:
			found = append(found, session)
		}
	}
	return found, s.deleteEntries(ctx, appID, subject, staleAge, stale)
}

// RevokeSubject revokes every session of the subject that is not revoked yet and is
// not kept, and returns how many these were; with an error, how many are known to be
// revoked. It works in batches, between which Redis serves others.
func (s *TokenStore) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	if err := checkRevocation(ctx, at); err != nil {
		return 0, fmt.Errorf("redisstore: revoke sessions: %w", err)
	}
	revoked := 0
	err := s.entries(ctx, appID, subject, func(batch []entry) error {
		batch = slices.DeleteFunc(batch, func(e entry) bool { return slices.Contains(keep, e.id) })
		n, err := s.revokeBatch(ctx, appID, subject, batch, at)
		revoked += n
		return err
	})
	if err != nil {
		return revoked, fmt.Errorf("redisstore: revoke sessions: %w", err)
	}
	return revoked, nil
}

func (s *TokenStore) revokeBatch(ctx context.Context, appID, subject string, batch []entry, at time.Time) (revoked int, err error) {
	if len(batch) == 0 {
		return 0, nil
	}
	calls := make([]call, len(batch))
	for i, e := range batch {
		calls[i] = s.revokeCall(appID, e.id, at, subject)
	}
	results, err := s.run.writeAll(ctx, calls)
	if err != nil {
		return 0, err
	}
	var stale []entry
	for i, r := range results {
		switch one := calls[i].outcome(r.reply, r.err); {
		case errors.Is(one, renew.ErrSessionNotFound):
			stale = append(stale, batch[i])
		case one != nil:
			err = one
		case r.reply == resultDone:
			revoked++
		}
	}
	return revoked, errors.Join(err, s.deleteEntries(ctx, appID, subject, staleAge, stale))
}
