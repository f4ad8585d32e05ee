// Package customstore is a custom [renew.TokenStore]: durable, in one
// file, on the embedded database bbolt. It is made to be read, and to be copied
// for another database; package storetest says when the copy is right.
//
// Three buckets hold everything:
//
//   - sessions: the session, under its app and ID
//   - subjects: nothing, under app, subject and ID, so that the sessions of one
//     subject lie together
//   - ends: nothing, under the time at which the session ends, then app and ID,
//     so that what has ended lies in front
//
// bbolt runs one writing transaction at a time and returns from it when it is on
// the disk. That is all that the laws about races and crashes ask for: compare
// and write inside one transaction.
package customstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/jwtrenew/renew"
)

var (
	sessions = []byte("sessions")
	subjects = []byte("subjects")
	ends     = []byte("ends")
)

// Store keeps sessions in one file. It is safe for concurrent use.
type Store struct{ db *bolt.DB }

var (
	_ renew.TokenStore   = (*Store)(nil)
	_ renew.SubjectStore = (*Store)(nil)
	_ renew.Purger       = (*Store)(nil)
)

// Open opens the file, or makes it. One process may have it open at a time; a
// second one waits for a second and then gets an error. Close the store when
// done.
func Open(file string) (*Store, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("customstore: open: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{sessions, subjects, ends} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("customstore: open: %w", err), db.Close())
	}
	return &Store{db}, nil
}

// Close closes the file when all calls have returned. Later calls are errors.
func (s *Store) Close() error { return s.db.Close() }

// CreateSession stores a new session.
func (s *Store) CreateSession(ctx context.Context, session renew.Session) error {
	return s.update(ctx, func(tx *bolt.Tx) error {
		_, err := get(tx, session.AppID, session.ID)
		switch {
		case err == nil:
			return renew.ErrSessionExists
		case !errors.Is(err, renew.ErrSessionNotFound):
			return err
		}
		return put(tx, session)
	})
}

// Session returns the current session.
func (s *Store) Session(ctx context.Context, appID, sessionID string) (session renew.Session, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		session, err = get(tx, appID, sessionID)
		return err
	})
	return session, err
}

// Rotate replaces the session if it is live and its token ID is from. No one
// else writes between the comparison and the write: they are one transaction.
func (s *Store) Rotate(ctx context.Context, from string, next renew.Session) error {
	return s.update(ctx, func(tx *bolt.Tx) error {
		old, err := get(tx, next.AppID, next.ID)
		if err != nil {
			return err
		}
		if old.TokenID != from || !old.RevokedAt.IsZero() {
			return renew.ErrConflict
		}
		return replace(tx, old, next)
	})
}

// RevokeSession ends the session; the first time stays.
func (s *Store) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return s.update(ctx, func(tx *bolt.Tx) error {
		old, err := get(tx, appID, sessionID)
		if err != nil || !old.RevokedAt.IsZero() {
			return err
		}
		revoked := old
		revoked.RevokedAt = at
		return replace(tx, old, revoked)
	})
}

// SubjectSessions returns the subject's live sessions, newest first.
func (s *Store) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) (live []renew.Session, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		all, err := ofSubject(tx, appID, subject)
		live = slices.DeleteFunc(all, func(session renew.Session) bool { return !session.Live(at) })
		return err
	})
	slices.SortFunc(live, func(a, b renew.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	return live, err
}

// RevokeSubject ends the subject's sessions, except those to keep.
func (s *Store) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (n int, err error) {
	err = s.update(ctx, func(tx *bolt.Tx) error {
		all, err := ofSubject(tx, appID, subject)
		if err != nil {
			return err
		}
		for _, old := range all {
			if !old.RevokedAt.IsZero() || slices.Contains(keep, old.ID) {
				continue
			}
			revoked := old
			revoked.RevokedAt = at
			if err := replace(tx, old, revoked); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0, err // the transaction is undone, and so is the count
	}
	return n, nil
}

// DeleteExpired deletes sessions that ended before a time, the first ones first.
func (s *Store) DeleteExpired(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = s.update(ctx, func(tx *bolt.Tx) error {
		past, err := endedBefore(tx, before, limit)
		if err != nil {
			return err
		}
		for _, session := range past {
			if err := remove(tx, session); err != nil {
				return err
			}
		}
		n = len(past)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// view and update run f in a transaction, unless ctx is done already. bbolt
// knows no contexts: one that is done later does not end a transaction that has
// begun.
func (s *Store) view(ctx context.Context, f func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return wrap(s.db.View(f))
}

func (s *Store) update(ctx context.Context, f func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return wrap(s.db.Update(f))
}

// wrap says whose error it is. The errors of package renew stay what they are;
// any other is an outage.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("customstore: %w", err)
}

// get returns a session. What bbolt hands out is valid in the transaction only;
// decoding copies it.
func get(tx *bolt.Tx, appID, sessionID string) (session renew.Session, err error) {
	value := tx.Bucket(sessions).Get(join(appID, sessionID))
	if value == nil {
		return session, renew.ErrSessionNotFound
	}
	if err := gob.NewDecoder(bytes.NewReader(value)).Decode(&session); err != nil {
		return renew.Session{}, fmt.Errorf("decode a session: %w", err)
	}
	return session, nil
}

// put stores a session and its entries in the other buckets. gob keeps each
// field as it is, claims byte by byte, times with their zone: hence UTC.
func put(tx *bolt.Tx, session renew.Session) error {
	for _, t := range []*time.Time{
		&session.CreatedAt, &session.EndsAt, &session.RevokedAt,
		&session.IssuedAt, &session.RefreshNotBefore, &session.RefreshExpiresAt,
	} {
		*t = t.UTC()
	}
	var value bytes.Buffer
	if err := gob.NewEncoder(&value).Encode(session); err != nil {
		return fmt.Errorf("encode a session: %w", err)
	}
	return errors.Join(
		tx.Bucket(sessions).Put(join(session.AppID, session.ID), value.Bytes()),
		tx.Bucket(subjects).Put(join(session.AppID, session.Subject, session.ID), nil),
		tx.Bucket(ends).Put(endKey(session), nil),
	)
}

// remove deletes what put has stored.
func remove(tx *bolt.Tx, session renew.Session) error {
	return errors.Join(
		tx.Bucket(sessions).Delete(join(session.AppID, session.ID)),
		tx.Bucket(subjects).Delete(join(session.AppID, session.Subject, session.ID)),
		tx.Bucket(ends).Delete(endKey(session)),
	)
}

// replace keeps the other buckets in step: the entries of the old session may
// not be those of the next.
func replace(tx *bolt.Tx, old, next renew.Session) error {
	if err := remove(tx, old); err != nil {
		return err
	}
	return put(tx, next)
}

// ofSubject returns the subject's sessions, whatever their state.
func ofSubject(tx *bolt.Tx, appID, subject string) (all []renew.Session, err error) {
	prefix := join(appID, subject)
	c := tx.Bucket(subjects).Cursor()
	for key, _ := c.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = c.Next() {
		session, err := get(tx, appID, split(key)[2])
		if err != nil {
			return nil, err
		}
		all = append(all, session)
	}
	return all, nil
}

// endedBefore returns sessions that ended before a time, at most limit. It does
// not delete while the cursor stands: that would move it.
func endedBefore(tx *bolt.Tx, before time.Time, limit int) (past []renew.Session, err error) {
	c := tx.Bucket(ends).Cursor()
	for key, _ := c.First(); key != nil && len(past) < limit; key, _ = c.Next() {
		names := split(key[timeBytes:])
		session, err := get(tx, names[0], names[1])
		if err != nil {
			return nil, err
		}
		if !session.EndedBefore(before) {
			break
		}
		past = append(past, session)
	}
	return past, nil
}

// timeBytes is the length of a time in a key.
const timeBytes = 8

// endKey sorts by the time at which the session ends.
func endKey(session renew.Session) []byte {
	// Flipping the sign bit lets times before 1970 sort first.
	key := binary.BigEndian.AppendUint64(nil, uint64(session.End().UnixMilli())^1<<63)
	return append(key, join(session.AppID, session.ID)...)
}

// join makes one key of names. Each has its length in front, since any
// separator might stand in a name: no two lists of names have one key, and the
// key of the first names is a prefix of no other key but theirs.
func join(names ...string) (key []byte) {
	for _, name := range names {
		key = binary.AppendUvarint(key, uint64(len(name)))
		key = append(key, name...)
	}
	return key
}

// split is the reverse of join.
func split(key []byte) (names []string) {
	for len(key) > 0 {
		n, size := binary.Uvarint(key)
		key = key[size:]
		names = append(names, string(key[:n]))
		key = key[n:]
	}
	return names
}
