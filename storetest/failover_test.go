package storetest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// losses is what a backend with an asynchronous replica has that a failover takes back:
// the last writes.
type losses struct {
	mu      sync.Mutex
	journal []func(rows table) // each undoes a write
	lost    table              // rows as they were before the last failover, if it has changed them
}

// lastWrites is how many a failover takes back.
const lastWrites = 20

// losesWrites returns a store whose failovers take back the last writes. change makes it
// a wrong one; two handles share the losses.
func losesWrites(change func(s sound, l *losses, handle int, p *patched)) func(sound) *patched {
	var all sync.Map
	var handles atomic.Int32
	return func(s sound) *patched {
		shared, _ := all.LoadOrStore(s.backing, &losses{lost: table{}})
		l := shared.(*losses)
		s.failsOverBy(func() { l.takeBack(s) })
		p := &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				return l.write(s, is(session.AppID), func(row renew.Session) bool { return keyOf(row) == keyOf(session) }, func() error {
					return s.CreateSession(ctx, session)
				}, keyOf(session))
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				return l.write(s, is(next.AppID), func(row renew.Session) bool { return keyOf(row) == keyOf(next) }, func() error {
					return s.Rotate(ctx, from, next)
				})
			},
			revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
				return l.write(s, is(appID), func(row renew.Session) bool { return row.ID == sessionID }, func() error {
					return s.RevokeSession(ctx, appID, sessionID, at)
				})
			},
			revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (n int, err error) {
				err = l.write(s, is(appID), func(row renew.Session) bool { return row.Subject == subject }, func() error {
					n, err = s.RevokeSubject(ctx, appID, subject, at, keep...)
					return err
				})
				return n, err
			},
		}
		if change != nil {
			change(s, l, int(handles.Add(1)), p)
		}
		return p
	}
}

// write makes a call and keeps what the matching rows were before it.
func (l *losses) write(s sound, apps func(string) bool, match func(renew.Session) bool, call func() error, created ...rowKey) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, _ := s.listOf(context.Background(), apps, match) // in an outage the call fails too
	err := call()
	if err == nil {
		l.journal = append(l.journal[max(0, len(l.journal)-lastWrites):], func(rows table) {
			for _, key := range created {
				rows.remove(key)
			}
			for _, row := range before {
				rows.put(keyOf(row), row)
			}
		})
	}
	return err
}

// takeBack undoes the last writes.
func (l *losses) takeBack(s sound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	had := s.rows.clone()
	slices.Reverse(l.journal)
	for _, undo := range l.journal[:min(lastWrites, len(l.journal))] {
		undo(s.rows)
	}
	l.journal = nil
	clear(l.lost)
	for key, row := range had.all() {
		if now, ok := s.rows.get(key); !ok || difference(row, now) != "" {
			l.lost.put(key, row)
		}
	}
}

// row returns a row as it was before the last failover, if that has changed it.
func (l *losses) row(key rowKey) (row renew.Session, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	row, ok = l.lost.get(key)
	return row.Clone(), ok
}

// afterFailover returns a store which does more than take back the last writes.
func afterFailover(more func(s sound, l *losses)) func(sound) *patched {
	return losesWrites(func(s sound, l *losses, _ int, _ *patched) {
		s.failsOverBy(func() {
			l.takeBack(s)
			more(s, l)
		})
	})
}

// mends returns a store whose failover leaves another row than the one before the last
// writes.
func mends(mix func(lost, row *renew.Session)) func(sound) *patched {
	return afterFailover(func(s sound, l *losses) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for key, lost := range l.lost.all() {
			if row, ok := s.rows.get(key); ok {
				mix(&lost, &row)
				s.rows.put(key, row)
			}
		}
	})
}

// restore brings back what a failover has taken.
func (l *losses) restore(s sound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, row := range l.lost.all() {
		s.rows.put(key, row)
	}
	clear(l.lost)
}

// switchers are stores that are wrong after a failover.
var switchers = []wrongStore{
	{name: "has fields of two writes after a failover", law: "F1", handle: mends(func(lost, row *renew.Session) {
		row.RefreshExpiresAt, row.UserAgent = lost.RefreshExpiresAt, lost.UserAgent
	})},
	{name: "has the token ID of another write after a failover", law: "F1", handle: mends(func(_, row *renew.Session) { row.TokenID = row.PreviousTokenID })},
	{name: "revokes what a failover takes back", law: "F1", handle: mends(func(_, row *renew.Session) { row.RevokedAt = revokedAt })},
	{name: "loses sessions in a failover whose last writes are lost", law: "F1", handle: afterFailover(func(s sound, l *losses) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for key := range l.lost.all() {
			s.rows.remove(key)
		}
	})},
	{name: "shows one process what a failover has taken back", law: "F2", handle: losesWrites(func(s sound, l *losses, handle int, p *patched) {
		if handle%2 == 0 {
			p.session = func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				if row, ok := l.row(rowKey{appID, sessionID}); ok {
					return row, nil
				}
				return s.Session(ctx, appID, sessionID)
			}
		}
	})},
	{name: "gets back what a failover has taken a moment later", law: "F2", handle: afterFailover(func(s sound, l *losses) {
		time.AfterFunc(failoverPause/2, func() { l.restore(s) })
	})},
	{name: "gets back what a failover has taken with the next write", law: "F2", handle: losesWrites(func(s sound, l *losses, _ int, p *patched) {
		var armed atomic.Bool
		s.failsOverBy(func() {
			l.takeBack(s)
			time.AfterFunc(failoverPause/2, func() { armed.Store(true) })
		})
		rotate := p.rotate
		p.rotate = func(ctx context.Context, from string, next renew.Session) error {
			if armed.Swap(false) {
				l.restore(s)
			}
			return rotate(ctx, from, next)
		}
	})},
	{name: "lists what a failover has taken back", law: "F2", handle: losesWrites(func(s sound, l *losses, _ int, p *patched) {
		p.subjectSessions = func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			list, err := s.SubjectSessions(ctx, appID, subject, at)
			for i := range list {
				if row, ok := l.row(keyOf(list[i])); ok {
					list[i] = row
				}
			}
			return list, err
		}
	})},
	{name: "rotates from a token ID that a failover has taken back", law: "F2", handle: losesWrites(func(s sound, l *losses, _ int, p *patched) {
		rotate := p.rotate
		p.rotate = func(ctx context.Context, from string, next renew.Session) error {
			if lost, ok := l.row(keyOf(next)); ok && from == lost.TokenID {
				if row, err := s.Session(ctx, next.AppID, next.ID); err == nil {
					from = row.TokenID
				}
			}
			return rotate(ctx, from, next)
		}
	})},
	{name: "says not found while it fails over", law: "F3", handle: losesWrites(func(s sound, l *losses, _ int, p *patched) {
		var away atomic.Bool
		s.failsOverBy(func() {
			away.Store(true)
			defer away.Store(false)
			l.takeBack(s)
			time.Sleep(20 * time.Millisecond)
		})
		p.session = func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			if away.Load() {
				return renew.Session{}, renew.ErrSessionNotFound
			}
			return s.Session(ctx, appID, sessionID)
		}
	})},
	{name: "revokes in a failover", law: "F3", handle: mends(func(_, row *renew.Session) { row.RevokedAt = revokedAt })},
	{name: "compares with what a failover has taken back", law: "F3", handle: losesWrites(func(_ sound, l *losses, _ int, p *patched) {
		rotate := p.rotate
		p.rotate = func(ctx context.Context, from string, next renew.Session) error {
			if lost, ok := l.row(keyOf(next)); ok && from != lost.TokenID {
				return renew.ErrConflict
			}
			return rotate(ctx, from, next)
		}
	})},
	{name: "goes back and forth after a failover", law: "F3", handle: losesWrites(func(s sound, l *losses, _ int, p *patched) {
		var reads atomic.Int32
		p.session = func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			if row, ok := l.row(rowKey{appID, sessionID}); ok && reads.Add(1)%2 == 0 {
				return row, nil
			}
			return s.Session(ctx, appID, sessionID)
		}
	})},
}

// TestStoreThatLosesItsLastWrites shows that a store passes whose failovers lose the
// last writes and nothing else.
func TestStoreThatLosesItsLastWrites(t *testing.T) {
	rounds.Long(t)
	t.Parallel()
	b := newBacking()
	handle := losesWrites(nil)
	TestTokenStore(t, func(testing.TB) renew.TokenStore { return handle(sound{b}) }, append(b.options(), withFewerRounds(t))...)
}
