package storetest

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// table is what a store holds: the sessions of each app by their IDs.
type table map[string]map[string]renew.Session

func (t table) get(key rowKey) (renew.Session, bool) {
	row, ok := t[key.app][key.id]
	return row, ok
}

func (t table) put(key rowKey, row renew.Session) {
	if t[key.app] == nil {
		t[key.app] = map[string]renew.Session{}
	}
	t[key.app][key.id] = row
}

func (t table) remove(key rowKey) { delete(t[key.app], key.id) }

func (t table) all() iter.Seq2[rowKey, renew.Session] { return t.of(every) }

// of returns the rows of some apps. Most of a table is other cases' and has another app:
// these rows are not looked at.
func (t table) of(apps func(appID string) bool) iter.Seq2[rowKey, renew.Session] {
	return func(yield func(rowKey, renew.Session) bool) {
		for app, rows := range t {
			if !apps(app) {
				continue
			}
			for id, row := range rows {
				if !yield(rowKey{app, id}, row) {
					return
				}
			}
		}
	}
}

func (t table) clone() table {
	other := table{}
	for app, rows := range t {
		other[app] = maps.Clone(rows)
	}
	return other
}

// set makes t what another table is.
func (t table) set(other table) {
	clear(t)
	maps.Copy(t, other.clone())
}

// is and every choose apps.
func is(appID string) func(string) bool { return func(other string) bool { return other == appID } }

func every(string) bool { return true }

// backing is what handles share: a table of sessions.
type backing struct {
	mu      sync.Mutex
	rows    table
	down    bool   // unreachable
	onCrash func() // what a crash does to the table; nil: nothing

	onFailover func() // what a failover does; nil: nothing
}

var errUnreachable = errors.New("connection refused")

// failsOverBy sets what a failover does. Handles are opened concurrently.
func (b *backing) failsOverBy(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onFailover = f
}

func newBacking() *backing { return &backing{rows: table{}} }

// options let the suite cut the backing store off, and crash it.
func (b *backing) options() []Option {
	set := func(down bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.down = down
	}
	return []Option{
		WithOutage(func(testing.TB) func() {
			set(true)
			return func() { set(false) }
		}),
		WithCrash(func(testing.TB) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.onCrash != nil {
				b.onCrash()
			}
		}),
		WithFailover(func(testing.TB) {
			b.mu.Lock()
			f := b.onFailover
			b.mu.Unlock()
			if f != nil {
				f()
			}
		}),
	}
}

// in runs f on the table, if the context and the connection allow it.
func (b *backing) in(ctx context.Context, f func(rows table) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return errUnreachable
	}
	return f(b.rows)
}

// sound is a correct store, as short as can be. The wrong ones are made from it.
type sound struct{ *backing }

// normal is a session as it is stored: shared with no caller, times in UTC.
func normal(s renew.Session) renew.Session {
	s = s.Clone()
	for _, t := range sessionTimes(&s) {
		*t = t.Truncate(time.Millisecond).UTC()
	}
	return s
}

func (s sound) CreateSession(ctx context.Context, session renew.Session) error {
	return s.in(ctx, func(rows table) error {
		if _, taken := rows.get(keyOf(session)); taken {
			return renew.ErrSessionExists
		}
		rows.put(keyOf(session), normal(session))
		return nil
	})
}

func (s sound) Session(ctx context.Context, appID, sessionID string) (got renew.Session, err error) {
	err = s.in(ctx, func(rows table) error {
		row, ok := rows.get(rowKey{appID, sessionID})
		if !ok {
			return renew.ErrSessionNotFound
		}
		got = row.Clone()
		return nil
	})
	return got, err
}

func (s sound) Rotate(ctx context.Context, from string, next renew.Session) error {
	return s.in(ctx, func(rows table) error {
		row, ok := rows.get(keyOf(next))
		switch {
		case !ok:
			return renew.ErrSessionNotFound
		case row.TokenID != from || !row.RevokedAt.IsZero():
			return renew.ErrConflict
		}
		rows.put(keyOf(next), normal(next))
		return nil
	})
}

func (s sound) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return s.in(ctx, func(rows table) error {
		row, ok := rows.get(rowKey{appID, sessionID})
		if !ok {
			return renew.ErrSessionNotFound
		}
		if row.RevokedAt.IsZero() {
			row.RevokedAt = at.UTC()
			rows.put(keyOf(row), row)
		}
		return nil
	})
}

func (s sound) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) (list []renew.Session, err error) {
	return s.listOf(ctx, is(appID), func(row renew.Session) bool { return row.Subject == subject && row.Live(at) })
}

// listWhere returns the rows that match, newest first.
func (s sound) listWhere(ctx context.Context, match func(renew.Session) bool) (list []renew.Session, err error) {
	return s.listOf(ctx, every, match)
}

// listOf does too, for some apps.
func (s sound) listOf(ctx context.Context, apps func(appID string) bool, match func(renew.Session) bool) (list []renew.Session, err error) {
	err = s.in(ctx, func(rows table) error {
		for _, row := range rows.of(apps) {
			if match(row) {
				list = append(list, row.Clone())
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b renew.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	return list, err
}

func (s sound) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	return s.revokeOf(ctx, is(appID), at, func(row renew.Session) bool {
		return row.Subject == subject && row.RevokedAt.IsZero() && !slices.Contains(keep, row.ID)
	})
}

func (s sound) revokeWhere(ctx context.Context, at time.Time, match func(renew.Session) bool) (n int, err error) {
	return s.revokeOf(ctx, every, at, match)
}

func (s sound) revokeOf(ctx context.Context, apps func(appID string) bool, at time.Time, match func(renew.Session) bool) (n int, err error) {
	err = s.in(ctx, func(rows table) error {
		for key, row := range rows.of(apps) {
			if match(row) {
				row.RevokedAt = at.UTC()
				rows.put(key, row)
				n++
			}
		}
		return nil
	})
	return n, err
}

func (s sound) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.deleteWhere(ctx, limit, func(row renew.Session) bool { return row.EndedBefore(before) })
}

func (s sound) deleteWhere(ctx context.Context, limit int, match func(renew.Session) bool) (n int, err error) {
	err = s.in(ctx, func(rows table) error {
		for key, row := range rows.all() {
			if n < limit && match(row) {
				rows.remove(key)
				n++
			}
		}
		return nil
	})
	return n, err
}

// patched is a sound store of which some methods were replaced.
type patched struct {
	sound
	create          func(context.Context, renew.Session) error
	session         func(ctx context.Context, appID, sessionID string) (renew.Session, error)
	rotate          func(ctx context.Context, from string, next renew.Session) error
	revoke          func(ctx context.Context, appID, sessionID string, at time.Time) error
	subjectSessions func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error)
	revokeSubject   func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error)
	deleteExpired   func(ctx context.Context, before time.Time, limit int) (int, error)
}

func (p *patched) CreateSession(ctx context.Context, s renew.Session) error {
	if p.create != nil {
		return p.create(ctx, s)
	}
	return p.sound.CreateSession(ctx, s)
}

func (p *patched) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	if p.session != nil {
		return p.session(ctx, appID, sessionID)
	}
	return p.sound.Session(ctx, appID, sessionID)
}

func (p *patched) Rotate(ctx context.Context, from string, next renew.Session) error {
	if p.rotate != nil {
		return p.rotate(ctx, from, next)
	}
	return p.sound.Rotate(ctx, from, next)
}

func (p *patched) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	if p.revoke != nil {
		return p.revoke(ctx, appID, sessionID, at)
	}
	return p.sound.RevokeSession(ctx, appID, sessionID, at)
}

func (p *patched) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if p.subjectSessions != nil {
		return p.subjectSessions(ctx, appID, subject, at)
	}
	return p.sound.SubjectSessions(ctx, appID, subject, at)
}

func (p *patched) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	if p.revokeSubject != nil {
		return p.revokeSubject(ctx, appID, subject, at, keep...)
	}
	return p.sound.RevokeSubject(ctx, appID, subject, at, keep...)
}

func (p *patched) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	if p.deleteExpired != nil {
		return p.deleteExpired(ctx, before, limit)
	}
	return p.sound.DeleteExpired(ctx, before, limit)
}

// withFewerRounds shortens the search for races in a store that has none, except
// where all rounds are asked for: see internal/rounds.
func withFewerRounds(tb testing.TB) Option {
	return WithRounds(rounds.Share(tb))
}

// leftOut reports whether a run with -short, which shows that the suite works here
// too, leaves out a store. Another run has it.
func leftOut() bool {
	const oneIn = 10
	return testing.Short() && rand.IntN(oneIn) > 0
}

// TestSoundStore shows that a correct store passes, with every law tested and
// none skipped.
func TestSoundStore(t *testing.T) {
	t.Parallel()
	b := newBacking()
	TestTokenStore(t, func(testing.TB) renew.TokenStore { return sound{b} }, append(b.options(), withFewerRounds(t))...)
}
