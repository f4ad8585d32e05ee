package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"hash/fnv"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// swap replaces a row as Rotate does, with what change makes of it.
func swap(rows table, from string, next renew.Session, change func(row, next *renew.Session)) error {
	row, ok := rows.get(keyOf(next))
	switch {
	case !ok:
		return renew.ErrSessionNotFound
	case row.TokenID != from || !live(row):
		return renew.ErrConflict
	}
	next = normal(next)
	change(&row, &next)
	rows.put(keyOf(next), next)
	return nil
}

func rotatesWith(change func(row, next *renew.Session)) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error { return swap(rows, from, next, change) })
		}}
	}
}

// revokesWith returns a store whose RevokeSession and RevokeSubject change more of
// a row than they must.
func revokesWith(one, all func(row *renew.Session)) func(sound) *patched {
	return func(s sound) *patched {
		p := &patched{sound: s}
		if one != nil {
			p.revoke = func(ctx context.Context, appID, sessionID string, at time.Time) error {
				return s.in(ctx, func(rows table) error {
					row, ok := rows.get(rowKey{appID, sessionID})
					if !ok {
						return renew.ErrSessionNotFound
					}
					if live(row) {
						row.RevokedAt = at.UTC()
						one(&row)
						rows.put(keyOf(row), row)
					}
					return nil
				})
			}
		}
		if all != nil {
			p.revokeSubject = func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (n int, err error) {
				err = s.in(ctx, func(rows table) error {
					for key, row := range rows.all() {
						if row.AppID == appID && row.Subject == subject && live(row) && !slices.Contains(keep, row.ID) {
							row.RevokedAt = at.UTC()
							all(&row)
							rows.put(key, row)
							n++
						}
					}
					return nil
				})
				return n, err
			}
		}
		return p
	}
}

func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

func floats(s *renew.Session) {
	var v any
	if json.Unmarshal(s.Claims, &v) == nil {
		s.Claims, _ = json.Marshal(v)
	}
}

// everyPath are stores that are wrong on another path than the first.
var everyPath = []wrongStore{
	{name: "loses the zone of a rotation", law: "T4", handle: changed(nil, func(s *renew.Session) { s.RefreshExpiresAt = wall(s.RefreshExpiresAt) }, nil)},
	{name: "loses the zone of a revocation by subject", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			return s.RevokeSubject(ctx, appID, subject, wall(at), keep...)
		}}
	}},
	{name: "revokes with claims as floats", law: "T7", handle: revokesWith(floats, nil)},
	{name: "revokes a subject with claims as floats", law: "S2", handle: revokesWith(nil, floats)},
	{name: "revokes and forgets who presented the key", law: "T7", handle: revokesWith(func(row *renew.Session) { row.IdempotencyKeyHash = nil }, nil)},
	{name: "revokes a subject and cuts the user agent", law: "S2", handle: revokesWith(nil, func(row *renew.Session) { row.UserAgent = row.UserAgent[:min(len(row.UserAgent), 255)] })},
	{name: "cuts large claims in lists", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		for i := range list {
			list[i].Claims = list[i].Claims[:min(len(list[i].Claims), 4096)]
		}
		return list, nil
	})},
	{name: "lists times in another zone", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		for i := range list {
			list[i].IssuedAt = list[i].IssuedAt.In(zones[0])
		}
		return list, nil
	})},
	{name: "writes nothing when the token ID stays", law: "T4", handle: rotatesWith(func(row, next *renew.Session) {
		if row.TokenID == next.TokenID {
			*next = *row
		}
	})},
	{name: "has a conflict when the token ID stays", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			if err := ctx.Err(); err == nil && from == next.TokenID {
				return renew.ErrConflict
			}
			return s.Rotate(ctx, from, next)
		}}
	}},
	{name: "makes the predecessor itself", law: "T4", handle: rotatesWith(func(row, next *renew.Session) { next.PreviousTokenID = row.TokenID })},
	{name: "keeps none of those to keep", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, _ ...string) (int, error) {
			return s.RevokeSubject(ctx, appID, subject, at)
		}}
	}},
	{name: "keeps the first of those to keep", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			return s.RevokeSubject(ctx, appID, subject, at, keep[:min(1, len(keep))]...)
		}}
	}},
	{name: "ignores the case of those to keep", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			return s.revokeWhere(ctx, at, func(row renew.Session) bool {
				return row.AppID == appID && row.Subject == subject && live(row) && !slices.ContainsFunc(keep, func(id string) bool { return strings.EqualFold(id, row.ID) })
			})
		}}
	}},
}

// twins are stores that mix up apps.
var twins = []wrongStore{
	{name: "revokes a subject by session IDs", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			list, err := s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Subject == subject && live(row) && !slices.Contains(keep, row.ID)
			})
			if err != nil {
				return 0, err
			}
			_, err = s.revokeWhere(ctx, at, func(row renew.Session) bool { return live(row) && slices.Contains(ids(list), row.ID) })
			return len(list), err
		}}
	}},
	{name: "deletes by session IDs", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (n int, err error) {
			return n, s.in(ctx, func(rows table) error {
				for key, row := range rows.clone().all() {
					if n < limit && row.EndedBefore(before) {
						n++
						rows.remove(key)
						rows.remove(rowKey{key.app + "-twin", key.id})
					}
				}
				return nil
			})
		}}
	}},
	{name: "rotates the session of this ID in every app", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				if err := swap(rows, from, next, func(_, _ *renew.Session) {}); err != nil {
					return err
				}
				for key, row := range rows.all() {
					if row.ID == next.ID && row.AppID != next.AppID && row.TokenID == from {
						row.TokenID = next.TokenID
						rows.put(key, row)
					}
				}
				return nil
			})
		}}
	}},
	{name: "revokes the session of this token ID in every app", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			row, err := s.Session(ctx, appID, sessionID)
			if err != nil {
				return err
			}
			_, err = s.revokeWhere(ctx, at, func(other renew.Session) bool { return live(other) && other.TokenID == row.TokenID })
			return err
		}}
	}},
}

// multitudes are stores that are wrong where there is much.
var multitudes = []wrongStore{
	{name: "revokes a page of a hundred", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			left := 100
			return s.revokeWhere(ctx, at, func(row renew.Session) bool {
				match := row.AppID == appID && row.Subject == subject && live(row) && !slices.Contains(keep, row.ID) && left > 0
				if match {
					left--
				}
				return match
			})
		}}
	}},
	{name: "revokes a page of a thousand", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			left := 1000
			return s.revokeOf(ctx, is(appID), at, func(row renew.Session) bool {
				match := row.Subject == subject && live(row) && !slices.Contains(keep, row.ID) && left > 0
				if match {
					left--
				}
				return match
			})
		}}
	}},
	{name: "lists a page of a thousand", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) { return list[:min(len(list), 1000)], nil })},
	{name: "deletes 25 a call and says that none is left", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.DeleteExpired(ctx, before, min(limit, 25))
		}}
	}},
	{name: "has a limit of 32 bits", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.DeleteExpired(ctx, before, int(int32(limit)))
		}}
	}},
	{name: "asks for one more than the greatest limit", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			if limit == math.MaxInt {
				limit++
			}
			return s.DeleteExpired(ctx, before, limit)
		}}
	}},
	{name: "deletes what its subject has too", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			list, err := s.listWhere(ctx, func(row renew.Session) bool { return row.EndedBefore(before) })
			if err != nil {
				return 0, err
			}
			for _, expired := range list[:max(0, min(limit, len(list)))] {
				_, _ = s.deleteWhere(ctx, 1000, func(row renew.Session) bool {
					return row.AppID == expired.AppID && row.Subject == expired.Subject && row.EndedBefore(before.Add(10*time.Minute))
				})
			}
			return max(0, min(limit, len(list))), nil
		}}
	}},
	{name: "deletes of one app a call", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			list, err := s.listWhere(ctx, func(row renew.Session) bool { return row.EndedBefore(before) })
			if err != nil || len(list) == 0 {
				return 0, err
			}
			return s.deleteWhere(ctx, limit, func(row renew.Session) bool { return row.AppID == list[0].AppID && row.EndedBefore(before) })
		}}
	}},
	{name: "keeps 100 of those to keep", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			slices.Reverse(keep)
			return s.RevokeSubject(ctx, appID, subject, at, keep[:min(100, len(keep))]...)
		}}
	}},
}

// index is an index by subject beside the table.
type index struct {
	mu  sync.Mutex
	ids map[[2]string][]string
}

func (x *index) get(app, subject string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.ids[[2]string{app, subject}])
}

func (x *index) set(app, subject string, ids []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids[[2]string{app, subject}] = ids
}

func (x *index) add(s renew.Session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	of := [2]string{s.AppID, s.Subject}
	if !slices.Contains(x.ids[of], s.ID) {
		x.ids[of] = append(slices.Clone(x.ids[of]), s.ID)
	}
}

func (x *index) remove(s renew.Session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	of := [2]string{s.AppID, s.Subject}
	x.ids[of] = slices.DeleteFunc(slices.Clone(x.ids[of]), func(id string) bool { return id == s.ID })
}

// indexed returns a store that lists by an index which is kept up in a way of its
// own. Two handles share it.
func indexed(change func(s sound, x *index, p *patched)) func(sound) *patched {
	var all sync.Map
	return func(s sound) *patched {
		shared, _ := all.LoadOrStore(s.backing, &index{ids: map[[2]string][]string{}})
		x := shared.(*index)
		p := &patched{sound: s}
		p.create = func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			if err == nil {
				x.add(session)
			}
			return err
		}
		p.rotate = func(ctx context.Context, from string, next renew.Session) error {
			err := s.in(ctx, func(rows table) error {
				return swap(rows, from, next, func(row, next *renew.Session) { x.remove(*row); x.add(*next) })
			})
			return err
		}
		p.subjectSessions = func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			list := x.get(appID, subject)
			return s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Live(at) && slices.Contains(list, row.ID)
			})
		}
		change(s, x, p)
		return p
	}
}

var indexers = []wrongStore{
	{name: "loses one of two logins", law: "S1", handle: indexed(func(s sound, x *index, p *patched) {
		p.create = func(ctx context.Context, session renew.Session) error {
			list := x.get(session.AppID, session.Subject)
			if err := s.CreateSession(ctx, session); err != nil {
				return err
			}
			x.set(session.AppID, session.Subject, append(list, session.ID))
			return nil
		}
	})},
	{name: "lists under the subject of a rejected login", law: "S1", handle: indexed(func(s sound, x *index, p *patched) {
		p.create = func(ctx context.Context, session renew.Session) error {
			if ctx.Err() == nil {
				x.add(session)
			}
			return s.CreateSession(ctx, session)
		}
	})},
	{name: "moves a session with a rejected rotation", law: "S1", handle: indexed(func(s sound, x *index, p *patched) {
		rotate := p.rotate
		p.rotate = func(ctx context.Context, from string, next renew.Session) error {
			if row, err := s.Session(ctx, next.AppID, next.ID); err == nil {
				x.remove(row)
				x.add(next)
			}
			return rotate(ctx, from, next)
		}
	})},
	{name: "does not list what moved to another subject", law: "S1", handle: indexed(func(s sound, _ *index, p *patched) { p.rotate = s.Rotate })},
	{name: "fails to list after a deletion", law: "T11", handle: indexed(func(s sound, x *index, p *patched) {
		list := p.subjectSessions
		p.subjectSessions = func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			for _, id := range x.get(appID, subject) {
				if _, err := s.Session(ctx, appID, id); err != nil {
					return nil, err
				}
			}
			return list(ctx, appID, subject, at)
		}
	})},
	{name: "lists a session whose ID is used again under the first subject", law: "T11", handle: indexed(func(s sound, x *index, p *patched) {
		subjects := map[rowKey]string{}
		p.create = func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			if err == nil {
				x.mu.Lock()
				if _, known := subjects[keyOf(session)]; !known {
					subjects[keyOf(session)] = session.Subject
				}
				row := session
				row.Subject = subjects[keyOf(session)]
				x.mu.Unlock()
				x.add(row)
			}
			return err
		}
	})},
	{name: "has an index in memory alone", law: "T13", handle: indexed(func(s sound, x *index, _ *patched) {
		s.onCrash = func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			clear(x.ids)
		}
	})},
}

// forgets returns a store of which a crash takes back what the call before it has
// done, where one kind of call did it.
func forgets(kind func(p *patched, before, after func())) func(sound) *patched {
	return func(s sound) *patched {
		var disk table
		before := func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			disk = s.rows.clone()
		}
		after := func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			was := disk
			s.onCrash = func() {
				s.rows.set(was)
				s.onCrash = nil
			}
		}
		p := &patched{sound: s}
		kind(p, before, after)
		return p
	}
}

var forgetful = []wrongStore{
	{name: "forgets RevokeSubject in a crash", law: "T13", handle: forgets(func(p *patched, before, after func()) {
		p.revokeSubject = func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			before()
			defer after()
			return p.sound.RevokeSubject(ctx, appID, subject, at, keep...)
		}
	})},
	{name: "forgets RevokeSession in a crash", law: "T13", handle: forgets(func(p *patched, before, after func()) {
		p.revoke = func(ctx context.Context, appID, sessionID string, at time.Time) error {
			before()
			defer after()
			return p.sound.RevokeSession(ctx, appID, sessionID, at)
		}
	})},
	{name: "forgets DeleteExpired in a crash", law: "T13", handle: forgets(func(p *patched, before, after func()) {
		p.deleteExpired = func(ctx context.Context, at time.Time, limit int) (int, error) {
			before()
			defer after()
			return p.sound.DeleteExpired(ctx, at, limit)
		}
	})},
	{name: "forgets what was written once more in a crash", law: "T13", handle: forgets(func(p *patched, before, after func()) {
		p.rotate = func(ctx context.Context, from string, next renew.Session) error {
			if from != next.TokenID {
				return p.sound.Rotate(ctx, from, next)
			}
			before()
			defer after()
			return p.sound.Rotate(ctx, from, next)
		}
	})},
	{name: "leaves half a rotation in a crash", law: "T13", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				row, _ := rows.get(keyOf(next))
				if err := swap(rows, from, next, func(_, _ *renew.Session) {}); err != nil {
					return err
				}
				s.onCrash = func() {
					half, _ := rows.get(keyOf(next))
					half.RefreshExpiresAt = row.RefreshExpiresAt
					rows.put(keyOf(next), half)
				}
				return nil
			})
		}}
	}},
	{name: "leaves half a rotation in an outage", law: "T12", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, errUnreachable) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if row, ok := s.rows.get(keyOf(next)); ok && row.TokenID == from && live(row) {
					row.TokenID = next.TokenID
					s.rows.put(keyOf(next), row)
				}
			}
			return err
		}}
	}},
	{name: "is dead after an outage", law: "T12", handle: func(s sound) *patched {
		dead := false
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if dead = dead || errors.Is(err, errUnreachable); dead {
				return renew.Session{}, errUnreachable
			}
			return got, err
		}}
	}},
	{name: "cannot write after an outage", law: "T12", handle: func(s sound) *patched {
		dead := false
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			if dead {
				return errUnreachable
			}
			err := s.Rotate(ctx, from, next)
			dead = errors.Is(err, errUnreachable)
			return err
		}}
	}},
	{name: "deletes nothing after an outage", law: "T12", handle: func(s sound) *patched {
		dead := false
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			n, err := s.DeleteExpired(ctx, before, limit)
			if dead = dead || errors.Is(err, errUnreachable); dead && err == nil {
				return 0, nil
			}
			return n, err
		}}
	}},
	{name: "does a rotation and always returns an error", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return cmp.Or(s.Rotate(ctx, from, next), errSerialization)
		}}
	}},
}

// hasty are stores that are wrong when a context ends while they are at work.
var hasty = []wrongStore{
	{name: "writes and says conflict when the context ends", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if err == nil && ctx.Err() != nil {
				return renew.ErrConflict
			}
			return err
		}}
	}},
	{name: "stores and says exists when the context ends", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			if err == nil && ctx.Err() != nil {
				return renew.ErrSessionExists
			}
			return err
		}}
	}},
	{name: "deletes nothing and says nil when the context ends", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if ctx.Err() != nil {
				return 0, nil
			}
			return s.DeleteExpired(context.WithoutCancel(ctx), before, limit)
		}}
	}},
	{name: "stops half way and says nil", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (n int, err error) {
			list, err := s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Subject == subject && live(row) && !slices.Contains(keep, row.ID)
			})
			for _, row := range list {
				if ctx.Err() != nil {
					return n, nil
				}
				m, err := s.revokeWhere(context.WithoutCancel(ctx), at, func(other renew.Session) bool { return keyOf(other) == keyOf(row) && live(other) })
				if n += m; err != nil {
					return n, err
				}
			}
			return n, err
		}}
	}},
	{name: "leaves half a rotation when the context ends", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			var old renew.Session
			err := s.in(ctx, func(rows table) error {
				return swap(rows, from, next, func(row, next *renew.Session) { old = *row })
			})
			if err == nil && ctx.Err() != nil {
				return errors.Join(ctx.Err(), s.in(context.WithoutCancel(ctx), func(rows table) error {
					half, _ := rows.get(keyOf(next))
					half.RefreshExpiresAt = old.RefreshExpiresAt
					rows.put(keyOf(next), half)
					return nil
				}))
			}
			return err
		}}
	}},
}

// torn are stores that show, or write, half of a session.
var torn = []wrongStore{
	{name: "reads the token ID and then the rest", law: "T6", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			first, err := s.Session(ctx, appID, sessionID)
			if err != nil {
				return first, err
			}
			got, err := s.Session(ctx, appID, sessionID)
			got.TokenID = first.TokenID
			return got, err
		}}
	}},
	{name: "reads the times from another table", law: "T6", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			first, err := s.Session(ctx, appID, sessionID)
			if err != nil {
				return first, err
			}
			got, err := s.Session(ctx, appID, sessionID)
			got.RefreshExpiresAt, got.EndsAt = first.RefreshExpiresAt, first.EndsAt
			return got, err
		}}
	}},
	{name: "lists the IDs and then the rest", law: "T6", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			list, err := s.SubjectSessions(ctx, appID, subject, at)
			for i := range list {
				if got, readErr := s.Session(ctx, appID, list[i].ID); readErr == nil {
					list[i].Claims, list[i].UserAgent = got.Claims, got.UserAgent
				}
			}
			return list, err
		}}
	}},
	{name: "writes the token ID and then the rest", law: "T6", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.in(ctx, func(rows table) error {
				return swap(rows, from, next, func(row, to *renew.Session) {
					half := *row
					half.TokenID = to.TokenID
					*to = half
				})
			})
			if err != nil {
				return err
			}
			return s.in(context.WithoutCancel(ctx), func(rows table) error {
				if row, ok := rows.get(keyOf(next)); ok && row.TokenID == next.TokenID && live(row) {
					rows.put(keyOf(next), normal(next))
				}
				return nil
			})
		}}
	}},
}

// backwards are stores to which times go forward only.
var backwards = []wrongStore{
	{name: "rejects a rotation that was issued earlier", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			if row, err := s.Session(ctx, next.AppID, next.ID); err == nil && next.IssuedAt.Before(row.IssuedAt) {
				return renew.ErrConflict
			}
			return s.Rotate(ctx, from, next)
		}}
	}},
	{name: "never shortens a session", law: "T4", handle: rotatesWith(func(row, next *renew.Session) {
		if next.RefreshExpiresAt.Before(row.RefreshExpiresAt) {
			next.RefreshExpiresAt = row.RefreshExpiresAt
		}
	})},
	{name: "does not write an earlier version", law: "T4", handle: rotatesWith(func(row, next *renew.Session) {
		if !next.IssuedAt.After(row.IssuedAt) && next.TokenID != row.TokenID {
			*next = *row
		}
	})},
	{name: "does not revoke before the session was issued", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			if row, err := s.Session(ctx, appID, sessionID); err == nil && at.Before(row.IssuedAt) {
				return nil
			}
			return s.RevokeSession(ctx, appID, sessionID, at)
		}}
	}},
}

// cached returns a store whose handles have a cache each, and tell each other of
// some writes.
func cached(tells func(method string) bool) func(sound) *patched {
	type bus struct {
		mu     sync.Mutex
		caches []map[rowKey]renew.Session
	}
	var all sync.Map
	return func(s sound) *patched {
		shared, _ := all.LoadOrStore(s.backing, &bus{})
		b := shared.(*bus)
		mine := map[rowKey]renew.Session{}
		b.mu.Lock()
		b.caches = append(b.caches, mine)
		b.mu.Unlock()
		forget := func(method string, match func(renew.Session) bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for i := range b.caches {
				if tells(method) || sameMap(b.caches[i], mine) {
					maps.DeleteFunc(b.caches[i], func(_ rowKey, row renew.Session) bool { return match(row) })
				}
			}
		}
		is := func(key rowKey) func(renew.Session) bool {
			return func(row renew.Session) bool { return keyOf(row) == key }
		}
		return &patched{
			sound: s,
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				if err := ctx.Err(); err != nil {
					return renew.Session{}, err
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				if got, ok := mine[rowKey{appID, sessionID}]; ok {
					return got.Clone(), nil
				}
				got, err := s.Session(ctx, appID, sessionID)
				if err == nil {
					mine[rowKey{appID, sessionID}] = got.Clone()
				}
				return got, err
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				defer forget("Rotate", is(keyOf(next)))
				return s.Rotate(ctx, from, next)
			},
			revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
				defer forget("RevokeSession", is(rowKey{appID, sessionID}))
				return s.RevokeSession(ctx, appID, sessionID, at)
			},
			revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
				defer forget("RevokeSubject", func(row renew.Session) bool { return row.AppID == appID && row.Subject == subject })
				return s.RevokeSubject(ctx, appID, subject, at, keep...)
			},
			deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
				defer forget("DeleteExpired", func(renew.Session) bool { return true })
				return s.DeleteExpired(ctx, before, limit)
			},
		}
	}
}

func sameMap(a, b map[rowKey]renew.Session) bool {
	mark := rowKey{"mark", newID()}
	a[mark] = renew.Session{}
	defer delete(a, mark)
	_, ok := b[mark]
	return ok
}

var cachers = []wrongStore{
	{name: "tells no cache of RevokeSubject", law: "S2", handle: cached(func(m string) bool { return m != "RevokeSubject" })},
	{name: "tells no cache of RevokeSession", law: "T7", handle: cached(func(m string) bool { return m != "RevokeSession" })},
	{name: "tells no cache of Rotate", law: "T6", handle: cached(func(m string) bool { return m != "Rotate" })},
	{name: "tells no cache of DeleteExpired", law: "T11", handle: cached(func(m string) bool { return m != "DeleteExpired" })},
}

// racers are stores with a race beside that of two rotations.
var racers = []wrongStore{
	{name: "counts in two RevokeSubjects", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			match := func(row renew.Session) bool {
				return row.AppID == appID && row.Subject == subject && live(row) && !slices.Contains(keep, row.ID)
			}
			list, err := s.listWhere(ctx, match)
			if err != nil {
				return 0, err
			}
			_, err = s.revokeWhere(ctx, at, match)
			return len(list), err
		}}
	}},
	{name: "writes a second time of revocation", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			row, err := s.Session(ctx, appID, sessionID)
			if err != nil || !live(row) {
				return err
			}
			return s.in(ctx, func(rows table) error {
				row, _ := rows.get(rowKey{appID, sessionID})
				row.RevokedAt = at.UTC()
				rows.put(keyOf(row), row)
				return nil
			})
		}}
	}},
	{name: "writes all sessions of a subject back", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			row, err := s.Session(ctx, appID, sessionID)
			if err != nil || !live(row) {
				return err
			}
			blob, err := s.listWhere(ctx, func(other renew.Session) bool { return other.AppID == appID && other.Subject == row.Subject })
			if err != nil {
				return err
			}
			return s.in(ctx, func(rows table) error {
				for _, other := range blob {
					if other.ID == sessionID && live(other) {
						other.RevokedAt = at.UTC()
					}
					rows.put(keyOf(other), other)
				}
				return nil
			})
		}}
	}},
	{name: "compares in two steps where the token ID stays", law: "T5", handle: twoSteps(func(row, next renew.Session) bool { return row.TokenID == next.TokenID })},
}

// twoSteps returns a store that compares and writes in two steps where odd says so.
func twoSteps(odd func(row, next renew.Session) bool) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			row, err := s.Session(ctx, next.AppID, next.ID)
			switch {
			case err != nil:
				return err
			case row.TokenID != from || !live(row):
				return renew.ErrConflict
			case !odd(row, next):
				return s.Rotate(ctx, from, next)
			}
			return s.in(ctx, func(rows table) error {
				rows.put(keyOf(next), normal(next))
				return nil
			})
		}}
	}
}

// oddities are stores that are wrong on a path that is rare.
var oddities = []wrongStore{
	{name: "compares in two steps at generation 0", law: "T5", handle: twoSteps(func(row, _ renew.Session) bool { return row.Generation == 0 })},
	{name: "compares in two steps after generation 0", law: "T5", handle: twoSteps(func(row, _ renew.Session) bool { return row.Generation > 0 })},
	{name: "compares in two steps with large claims", law: "T5", handle: twoSteps(func(_, next renew.Session) bool { return len(next.Claims) > 4096 })},
	{name: "compares in two steps with a long user agent", law: "T5", handle: twoSteps(func(_, next renew.Session) bool { return len(next.UserAgent) > 255 })},
	{name: "compares in two steps what has ended", law: "T5", handle: twoSteps(func(row, _ renew.Session) bool { return row.EndedBefore(time.Now()) })},
	{name: "does not compare after 2^31 generations", law: "T4", handle: unlike(func(row, _ renew.Session) bool { return row.Generation > 1<<31 && live(row) })},
	{name: "rotates a revoked session to large claims", law: "T7", handle: unlike(func(row, next renew.Session) bool { return !live(row) && len(next.Claims) > 4096 })},
	{name: "compares in two steps when the subject changes", law: "T5", handle: twoSteps(func(row, next renew.Session) bool { return row.Subject != next.Subject })},
}

// unlike returns a store that rotates whatever the token ID is, or whatever else is wrong,
// where odd says so.
func unlike(odd func(row, next renew.Session) bool) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				row, ok := rows.get(keyOf(next))
				switch {
				case !ok:
					return renew.ErrSessionNotFound
				case (row.TokenID != from || !live(row)) && !odd(row, next):
					return renew.ErrConflict
				}
				at := row.RevokedAt
				row = normal(next)
				row.RevokedAt = at
				rows.put(keyOf(next), row)
				return nil
			})
		}}
	}
}

// hashed are stores that confuse names in ways which are seldom seen.
var hashed = []wrongStore{
	{name: "has a CRC-32 of app and ID for a key", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{"", sum32(app + ":" + id)} })},
	{name: "has an FNV hash of the ID for a key", law: "T10", handle: byKey(func(app, id string) rowKey {
		h := fnv.New32a()
		_, _ = h.Write([]byte(id))
		return rowKey{app, string(h.Sum(nil))}
	})},
	{name: "decodes the percent signs of IDs", law: "T10", handle: byKey(func(app, id string) rowKey {
		if decoded, err := url.PathUnescape(id); err == nil {
			id = decoded
		}
		return rowKey{app, id}
	})},
	{name: "joins app and ID with a space that does not break", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{"", app + "\u00a0" + id} })},
	{name: "compares token IDs as they are decoded", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		decode := strings.NewReplacer("O", "0", "I", "1", "L", "1")
		return live(row) && decode.Replace(strings.ToUpper(row.TokenID)) == decode.Replace(strings.ToUpper(from))
	})},
	{name: "revokes a subject by its FNV hash", law: "T10", handle: func(s sound) *patched {
		hash := func(subject string) uint32 { return hashes["FNV-1a hash"]([]byte(subject)) }
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			return s.revokeOf(ctx, is(appID), at, func(row renew.Session) bool {
				return hash(row.Subject) == hash(subject) && live(row) && !slices.Contains(keep, row.ID)
			})
		}}
	}},
	{name: "looks up session IDs as they are decoded", law: "T10", handle: func(s sound) *patched {
		decode := strings.NewReplacer("O", "0", "I", "1", "L", "1")
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			if got, err := s.Session(ctx, appID, sessionID); !errors.Is(err, renew.ErrSessionNotFound) {
				return got, err
			}
			return s.Session(ctx, appID, decode.Replace(sessionID))
		}}
	}},
}

func sum32(text string) string {
	h := crc32.NewIEEE()
	_, _ = h.Write([]byte(text))
	return string(h.Sum(nil))
}

// expiring are stores that delete by their own clock.
var expiring = []wrongStore{
	{name: "deletes a session the moment it ends", law: "T1", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if err == nil && !time.Now().Before(got.End()) {
				return renew.Session{}, renew.ErrSessionNotFound
			}
			return got, err
		}}
	}},
	{name: "deletes a session when its first token expires", law: "T1", handle: rotatedExpiry()},
	{name: "deletes a session five minutes after its end", law: "T1", handle: expiresItself(5 * time.Minute)},
	{name: "deletes a session two minutes too early", law: "T1", handle: expiresItself(keptFor - 2*time.Minute)},
	{name: "deletes a session a day after its creation", law: "T1", handle: expiresBy(func(s renew.Session) time.Time { return s.CreatedAt.Add(24 * time.Hour) })},
	{name: "deletes a session a week after its tokens were issued", law: "T1", handle: expiresBy(func(s renew.Session) time.Time { return s.IssuedAt.Add(7 * 24 * time.Hour) })},
	{name: "deletes a session an hour after its revocation", law: "T1", handle: expiresBy(func(s renew.Session) time.Time {
		if live(s) {
			return s.End().Add(keptFor)
		}
		return s.RevokedAt.Add(keptFor)
	})},
}

// expiresBy returns a store that shows no session after another time than its end.
func expiresBy(end func(renew.Session) time.Time) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if err == nil && time.Now().After(end(got)) {
				return renew.Session{}, renew.ErrSessionNotFound
			}
			return got, err
		}}
	}
}

func rotatedExpiry() func(sound) *patched {
	var ends sync.Map
	return func(s sound) *patched {
		return &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				err := s.CreateSession(ctx, session)
				if err == nil {
					ends.Store(keyOf(session), session.End())
				}
				return err
			},
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				if end, ok := ends.Load(rowKey{appID, sessionID}); ok && ctx.Err() == nil && time.Now().After(end.(time.Time)) {
					return renew.Session{}, renew.ErrSessionNotFound
				}
				return s.Session(ctx, appID, sessionID)
			},
		}
	}
}

func wrongKinds() []wrongStore {
	return slices.Concat(everyPath, twins, multitudes, indexers, forgetful, hasty, torn, backwards, cachers, racers, oddities, hashed, expiring, switchers)
}
