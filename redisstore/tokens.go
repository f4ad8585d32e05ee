package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jwtrenew/renew"
)

var (
	_ renew.TokenStore   = (*TokenStore)(nil)
	_ renew.SubjectStore = (*TokenStore)(nil)
	_ renew.Purger       = (*TokenStore)(nil)
)

// TokenStore keeps sessions in Redis. It is safe for concurrent use, and so is any
// number of them on one Redis. Make one with [NewTokenStore].
type TokenStore struct {
	run       *runner
	diagnosis []string
}

// NewTokenStore returns a store that uses the client, which stays the caller's to
// close. It checks every primary and loads the scripts.
//
// It returns an error for a client that reads from replicas, a *redis.Ring, a server
// before version 7.0, a replica, and a maxmemory-policy other than noeviction. What
// weakens the store's promises without being an error is in
// [TokenStore.Diagnosis].
func NewTokenStore(ctx context.Context, client redis.UniversalClient, opts ...Option) (*TokenStore, error) {
	r, diagnosis, err := newRunner(ctx, client, opts)
	if err != nil {
		return nil, fmt.Errorf("redisstore.NewTokenStore: %w", err)
	}
	return &TokenStore{r, diagnosis}, nil
}

func newRunner(ctx context.Context, client redis.UniversalClient, opts []Option) (*runner, []string, error) {
	c, err := newConfig(client, opts)
	if err != nil {
		return nil, nil, err
	}
	r := &runner{config: c, names: names{c.prefix}, client: client}
	diagnosis, err := r.start(ctx)
	return r, diagnosis, err
}

// Diagnosis returns what was found when the store was made that weakens its promises,
// such as an append-only file that is off: each with the server, and with what to do.
// Empty: nothing was found.
func (s *TokenStore) Diagnosis() []string { return append([]string(nil), s.diagnosis...) }

// CreateSession stores a new session, in two round trips: the subject's index, then
// the session. It returns [renew.ErrSessionExists] if the app has a session of this ID.
func (s *TokenStore) CreateSession(ctx context.Context, session renew.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.create(ctx, session); err != nil {
		return fmt.Errorf("redisstore: create session: %w", err)
	}
	return nil
}

func (s *TokenStore) create(ctx context.Context, session renew.Session) error {
	pairs, err := fields(session)
	if err != nil {
		return err
	}
	entry, err := s.writeEntry(ctx, session)
	if err != nil {
		return err
	}
	c := s.storeCall(createSession, session, entry, pairs)
	return c.outcome(s.run.write(ctx, c))
}

// storeCall is a script that stores a whole session. Its arguments begin with write,
// repeats, member, end, retention and entry, and end with the fields and values.
func (s *TokenStore) storeCall(script *redis.Script, session renew.Session, entry string, pairs []any, between ...any) call {
	m := member(session.AppID, session.ID)
	args := []any{
		newWrite(), s.run.repeats(), m,
		strconv.FormatInt(end(session), 10), strconv.FormatInt(s.run.retention.Milliseconds(), 10), entry,
	}
	return call{script, []string{s.run.session(m), s.run.ends(shardOf(m))}, slices.Concat(args, between, pairs)}
}

// Session returns the session, also if it is revoked or has expired, from the primary.
// It returns [renew.ErrSessionNotFound] if the app has no session of this ID.
func (s *TokenStore) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return renew.Session{}, err
	}
	found, err := readReply(s.run.read(ctx, s.readCall(appID, sessionID)))
	if err != nil {
		return renew.Session{}, fmt.Errorf("redisstore: read session: %w", err)
	}
	return found, nil
}

func (s *TokenStore) readCall(appID, sessionID string) call {
	return call{readSession, []string{s.run.session(member(appID, sessionID))}, nil}
}

func readReply(reply any, err error) (renew.Session, error) {
	flat, err := texts(reply, err)
	switch {
	case err != nil:
		return renew.Session{}, err
	case len(flat) == 0:
		return renew.Session{}, renew.ErrSessionNotFound
	}
	return session(flat)
}

// Rotate replaces the session if its token ID is from and it is not revoked, in one
// round trip; the first renewal of a session in a cluster takes two. It returns
// [renew.ErrConflict] if the token ID is another or the session is revoked, and
// [renew.ErrSessionNotFound] if there is no such session. A client that sends the
// command again, because the reply was lost, gets nil for what the first one did.
func (s *TokenStore) Rotate(ctx context.Context, from string, next renew.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.rotate(ctx, from, next); err != nil {
		return fmt.Errorf("redisstore: rotate session: %w", err)
	}
	return nil
}

// rotate writes the index of the subject first if the session has another one, which a
// Renewer never changes.
func (s *TokenStore) rotate(ctx context.Context, from string, next renew.Session) error {
	pairs, err := fields(next)
	if err != nil {
		return err
	}
	c := s.rotateCall(from, next, "", pairs)
	reply, err := s.run.write(ctx, c)
	if err == nil && reply == resultSubject {
		entry, err := s.writeEntry(ctx, next)
		if err != nil {
			return err
		}
		c = s.rotateCall(from, next, entry, pairs)
		return c.rotated(s.run.write(ctx, c))
	}
	if err := c.rotated(reply, err); err != nil {
		return err
	}
	return s.afterFirst(ctx, next, reply)
}

func (s *TokenStore) rotateCall(from string, next renew.Session, entry string, pairs []any) call {
	return s.storeCall(rotateSession, next, entry, pairs, from, next.Subject, lacking(pairs))
}

// rotated is what the reply to a rotation means.
func (c call) rotated(reply any, err error) error {
	if _, done := entryOf(reply); err == nil && done {
		return nil
	}
	return c.outcome(reply, err)
}

// entryOf returns the entry that the reply to a rotation has.
func entryOf(reply any) (entry string, done bool) {
	text, _ := reply.(string)
	return strings.CutPrefix(text, resultDone+" ")
}

// afterFirst writes the session's entry in the index of its subject once more after the
// first renewal in a cluster: there the index is on another server than the session, and
// the failover of that may have lost what CreateSession has written.
func (s *TokenStore) afterFirst(ctx context.Context, next renew.Session, reply any) error {
	entry, _ := entryOf(reply)
	if !s.run.isCluster() || next.Generation != 1 {
		return nil
	}
	_, err := s.run.write(ctx, call{repairEntry, []string{s.run.subject(next.AppID, next.Subject)}, []any{next.ID, entry}})
	if err != nil {
		return fmt.Errorf("index of the subject: %w", err)
	}
	return nil
}

// RevokeSession revokes the session, or returns nil if it is revoked, in one round
// trip. It returns [renew.ErrSessionNotFound] if there is no such session. A zero
// time, which would leave the session live, is an error.
func (s *TokenStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	if err := checkRevocation(ctx, at); err != nil {
		return fmt.Errorf("redisstore: revoke session: %w", err)
	}
	c := s.revokeCall(appID, sessionID, at)
	if err := c.outcome(s.run.write(ctx, c)); err != nil {
		return fmt.Errorf("redisstore: revoke session: %w", err)
	}
	return nil
}

func (s *TokenStore) revokeCall(appID, sessionID string, at time.Time, subject ...any) call {
	args := append([]any{newWrite(), s.run.repeats(), strconv.FormatInt(at.UnixMilli(), 10)}, subject...)
	return call{revokeSession, []string{s.run.session(member(appID, sessionID))}, args}
}

// outcome is what the reply to a call that changes one session means.
func (c call) outcome(reply any, err error) error {
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	text, isOvertaken := strings.CutPrefix(text, overtaken+" ")
	if isOvertaken && c.isRepeated() {
		return errUnclear
	}
	switch text {
	case resultDone, resultAlready:
		return nil
	case resultExists:
		return renew.ErrSessionExists
	case resultMissing:
		return renew.ErrSessionNotFound
	case resultOther:
		return renew.ErrConflict
	}
	return errReply
}

// errUnclear means that others have written since a command was sent whose reply was
// lost, more often than Redis remembers names of writes.
var errUnclear = errors.New("the reply to a command was lost, and others have written since: the outcome is unknown")

// errReply means that a reply is not one that the scripts return.
var errReply = errors.New("unknown reply of a script")

// checkRevocation rejects a revocation that must not begin.
func checkRevocation(ctx context.Context, at time.Time) error {
	if at.IsZero() {
		return errors.New("the time is zero")
	}
	return ctx.Err()
}
