package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
// weakens the store's promises and is no reason to stop is in
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

// CreateSession stores a new session. It costs three round trips: the subject's index
// before the session and after it, so that a listing that comes between does not
// take the entry for one that a crash has left. [renew.ErrSessionExists]: the app has
// a session of this ID.
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
	args, err := s.writeArgs(session)
	if err != nil {
		return err
	}
	if err := s.writeEntry(ctx, session); err != nil {
		return err
	}
	reply, err := s.run.write(ctx, s.sessionCall(createSession, session.AppID, session.ID, args))
	switch {
	case err != nil:
		return err
	case reply == resultExists:
		return renew.ErrSessionExists
	case reply != resultDone:
		return errReply
	}
	return s.writeEntry(ctx, session)
}

// writeArgs are what every script that stores a whole session begins with and ends
// with: write, member, end, retention; fields and values.
func (s *TokenStore) writeArgs(session renew.Session, between ...any) ([]any, error) {
	pairs, err := fields(session)
	if err != nil {
		return nil, err
	}
	args := []any{
		newWrite(), member(session.AppID, session.ID),
		strconv.FormatInt(end(session), 10), strconv.FormatInt(s.run.retention.Milliseconds(), 10),
	}
	return append(append(args, between...), pairs...), nil
}

// sessionCall is a script on a session and the index of ends that names it.
func (s *TokenStore) sessionCall(script *redis.Script, appID, sessionID string, args []any) call {
	m := member(appID, sessionID)
	return call{script, []string{s.run.session(m), s.run.ends(shardOf(m))}, args}
}

// Session returns the session, revoked and expired ones too, from the primary.
// [renew.ErrSessionNotFound]: the app has none of this ID.
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
// round trip. [renew.ErrConflict]: its token ID is another, or it is revoked.
// [renew.ErrSessionNotFound]: there is no such session. A client that sends the
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

// rotate tells the index of the subject only if the session had another one. A
// Renewer never changes it.
func (s *TokenStore) rotate(ctx context.Context, from string, next renew.Session) error {
	const indexed = 6 // the argument that says whether the index names the session
	args, err := s.writeArgs(next, from, next.Subject, "0")
	if err != nil {
		return err
	}
	c := s.sessionCall(rotateSession, next.AppID, next.ID, args)
	reply, err := s.run.write(ctx, c)
	if err != nil || reply != resultSubject {
		return outcome(reply, err)
	}
	if err := s.writeEntry(ctx, next); err != nil {
		return err
	}
	c.args[indexed] = "1"
	if err := outcome(s.run.write(ctx, c)); err != nil {
		return err
	}
	return s.writeEntry(ctx, next)
}

// RevokeSession revokes the session, or returns nil if it is revoked, in one round
// trip. It returns [renew.ErrSessionNotFound] if there is no such session.
func (s *TokenStore) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := outcome(s.run.write(ctx, s.revokeCall(appID, sessionID, at))); err != nil {
		return fmt.Errorf("redisstore: revoke session: %w", err)
	}
	return nil
}

func (s *TokenStore) revokeCall(appID, sessionID string, at time.Time, subject ...any) call {
	args := append([]any{newWrite(), strconv.FormatInt(at.UnixMilli(), 10)}, subject...)
	return call{revokeSession, []string{s.run.session(member(appID, sessionID))}, args}
}

// outcome is what the reply of a script that changes one session means.
func outcome(reply any, err error) error {
	switch {
	case err != nil:
		return err
	case reply == resultMissing:
		return renew.ErrSessionNotFound
	case reply == resultOther:
		return renew.ErrConflict
	case reply == resultDone || reply == resultAlready:
		return nil
	}
	return errReply
}

// errReply means that a reply is not one that the scripts return.
var errReply = errors.New("unknown reply of a script")
