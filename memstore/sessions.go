package memstore

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// shardCount is far above the number of processors, so that two renewals seldom
// meet in one shard, and a shard of a million sessions has some thousands.
const shardCount = 256

// shard holds the sessions whose ID hashes to it. Locks are taken in the order
// shard, subjectShard, and never two of one kind.
type shard struct {
	mu      sync.Mutex
	records table[sessionKey, *record]
	queue   queue
}

// subjectShard holds the sessions of the subjects that hash to it.
type subjectShard struct {
	mu      sync.Mutex
	records table[subjectKey, []*record] // none is empty
}

type (
	sessionKey struct{ appID, id string }
	subjectKey struct{ appID, subject string }
)

// record is a session in the store. The session's shard guards it, but key never
// changes, and the subject's shard guards slot.
type record struct {
	key sessionKey
	state
	ends  millis // when the refresh token or the session ends, whichever is earlier
	place int    // in the shard's queue; negative: deleted
	slot  int    // in the list of the subject's records
}

// state is what a reader copies under the lock and unpacks after unlocking.
type state struct {
	subject   string
	current   packed
	revokedAt millis // zero: live
}

func (s *Store) shard(sessionID string) *shard {
	return &s.shards[maphash.String(s.seed, sessionID)%shardCount]
}

func (s *Store) subjectShard(subject string) *subjectShard {
	return &s.subjects[maphash.String(s.seed, subject)%shardCount]
}

// CreateSession stores a new session. It returns [renew.ErrSessionExists] if the
// app has one of that ID, live or not.
func (s *Store) CreateSession(ctx context.Context, session renew.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := newRecord(session)
	sh := s.shard(r.key.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.records.get(r.key) != nil {
		return renew.ErrSessionExists
	}
	sh.records.set(r.key, r)
	heap.Push(&sh.queue, queued{ends: r.ends, record: r})
	s.subjectShard(r.subject).add(r)
	return nil
}

// newRecord copies the session: what lives as long as the session in one string,
// what the next rotation replaces in another.
func newRecord(session renew.Session) *record {
	names := session.AppID + session.ID + session.Subject
	idAt := len(session.AppID)
	subjectAt := idAt + len(session.ID)
	return &record{
		key:   sessionKey{names[:idAt], names[idAt:subjectAt]},
		state: state{names[subjectAt:], pack(session), millisOf(session.RevokedAt)},
		ends:  millisOf(session.End()),
	}
}

// Session returns the current session, revoked and expired ones too. It returns
// [renew.ErrSessionNotFound] if the app has no session of this ID.
func (s *Store) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return renew.Session{}, err
	}
	sh := s.shard(sessionID)
	sh.mu.Lock()
	r := sh.records.get(sessionKey{appID, sessionID})
	if r == nil {
		sh.mu.Unlock()
		return renew.Session{}, renew.ErrSessionNotFound
	}
	key, current := r.key, r.state
	sh.mu.Unlock()
	return current.session(key), nil
}

func (s state) session(key sessionKey) renew.Session {
	session := renew.Session{
		AppID:     key.appID,
		ID:        key.id,
		Subject:   s.subject,
		RevokedAt: s.revokedAt.time(),
	}
	s.current.unpackInto(&session)
	return session
}

// Rotate replaces the session (next.AppID, next.ID) by next if it is not revoked
// and its token ID is from. It returns [renew.ErrConflict] if the token ID is
// another or the session is revoked, and [renew.ErrSessionNotFound] if there is no
// such session.
func (s *Store) Rotate(ctx context.Context, from string, next renew.Session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	replacement := pack(next)
	sh := s.shard(next.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := sh.records.get(sessionKey{next.AppID, next.ID})
	switch {
	case r == nil:
		return renew.ErrSessionNotFound
	case r.revokedAt != 0 || r.current.tokenID() != from:
		return renew.ErrConflict
	}
	r.current = replacement
	r.revokedAt = millisOf(next.RevokedAt)
	r.ends = millisOf(next.End())
	sh.queue.moved(r)
	if r.subject != next.Subject {
		s.subjectShard(r.subject).remove(r)
		r.subject = strings.Clone(next.Subject)
		s.subjectShard(r.subject).add(r)
	}
	return nil
}

// RevokeSession sets RevokedAt to at, whatever the session's token ID. On a
// revoked session it returns nil and changes nothing. It returns
// [renew.ErrSessionNotFound] if there is no such session. A zero time, which would
// leave the session live, is an error.
func (s *Store) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	if err := checkRevocation(ctx, at); err != nil {
		return err
	}
	sh := s.shard(sessionID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := sh.records.get(sessionKey{appID, sessionID})
	if r == nil {
		return renew.ErrSessionNotFound
	}
	r.revoke(at)
	return nil
}

func checkRevocation(ctx context.Context, at time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if millisOf(at) == 0 {
		return errors.New("memstore: revoke: the time is zero")
	}
	return nil
}

// revoke reports whether the session was live until now.
func (r *record) revoke(at time.Time) bool {
	if r.revokedAt != 0 {
		return false
	}
	r.revokedAt = millisOf(at)
	return true
}

// SubjectSessions returns the sessions of the subject that are live at the given
// time, newest CreatedAt first, of equal ones the greater ID first. A subject
// without any is an empty result, not an error. It looks at the subject's sessions
// only.
func (s *Store) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var sessions []renew.Session
	s.eachOf(appID, subject, func(r *record) {
		if session := r.session(r.key); session.Live(at) {
			sessions = append(sessions, session)
		}
	})
	slices.SortFunc(sessions, func(a, b renew.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	return sessions, nil
}

// RevokeSubject sets RevokedAt to at on every session of the subject that is not
// revoked yet and whose ID is not in keep, and returns how many these were,
// expired ones counted. A session that is created concurrently may be missed. A
// zero time is an error.
func (s *Store) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	if err := checkRevocation(ctx, at); err != nil {
		return 0, err
	}
	n := 0
	s.eachOf(appID, subject, func(r *record) {
		if !slices.Contains(keep, r.key.id) && r.revoke(at) {
			n++
		}
	})
	return n, nil
}

// eachOf calls f with every session of the subject, its shard locked. It does not
// hold the subject's lock, so that it holds up no login.
func (s *Store) eachOf(appID, subject string, f func(*record)) {
	for _, r := range s.subjectShard(subject).list(appID, subject) {
		sh := s.shard(r.key.id)
		sh.mu.Lock()
		if r.place >= 0 && r.subject == subject {
			f(r)
		}
		sh.mu.Unlock()
	}
}

func (sh *subjectShard) list(appID, subject string) []*record {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.Clone(sh.records.get(subjectKey{appID, subject}))
}

func (sh *subjectShard) add(r *record) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	key := subjectKey{r.key.appID, r.subject}
	list := sh.records.get(key)
	r.slot = len(list)
	sh.records.set(key, append(list, r))
}

// remove moves the subject's last record to the place of r.
func (sh *subjectShard) remove(r *record) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	key := subjectKey{r.key.appID, r.subject}
	list := sh.records.get(key)
	last := len(list) - 1
	if last == 0 {
		sh.records.delete(key)
		return
	}
	list[r.slot] = list[last]
	list[r.slot].slot = r.slot
	list[last] = nil
	sh.records.set(key, list[:last])
}
