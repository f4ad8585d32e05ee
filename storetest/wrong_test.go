package storetest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
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

// wrongStore is a store that is wrong in one way.
type wrongStore struct {
	name string
	// law is the one that must catch it, by itself.
	law string
	// handle returns a new handle on the backing store.
	handle func(s sound) *patched
}

// changed returns a handle whose sessions are changed on their way in, by Create
// and Rotate, and on their way out.
func changed(create, rotate, out func(*renew.Session)) func(sound) *patched {
	apply := func(f func(*renew.Session), s renew.Session) renew.Session {
		if f != nil {
			s = s.Clone()
			f(&s)
		}
		return s
	}
	return func(s sound) *patched {
		return &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				return s.CreateSession(ctx, apply(create, session))
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				return s.Rotate(ctx, from, apply(rotate, next))
			},
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				got, err := s.Session(ctx, appID, sessionID)
				if err == nil {
					got = apply(out, got)
				}
				return got, err
			},
		}
	}
}

// written returns a handle whose sessions are changed when they are written.
func written(f func(*renew.Session)) func(sound) *patched { return changed(f, f, nil) }

// dropped are the fields of a session, each with what it is to forget it.
var dropped = map[string]func(*renew.Session){
	"Subject":            func(s *renew.Session) { s.Subject = "" },
	"Audience":           func(s *renew.Session) { s.Audience = nil },
	"Claims":             func(s *renew.Session) { s.Claims = nil },
	"CreatedAt":          func(s *renew.Session) { s.CreatedAt = time.Time{} },
	"EndsAt":             func(s *renew.Session) { s.EndsAt = time.Time{} },
	"RevokedAt":          func(s *renew.Session) { s.RevokedAt = time.Time{} },
	"Generation":         func(s *renew.Session) { s.Generation = 0 },
	"TokenID":            func(s *renew.Session) { s.TokenID = "" },
	"PreviousTokenID":    func(s *renew.Session) { s.PreviousTokenID = "" },
	"IssuedAt":           func(s *renew.Session) { s.IssuedAt = time.Time{} },
	"NotBefore":          func(s *renew.Session) { s.RefreshNotBefore = time.Time{} },
	"ExpiresAt":          func(s *renew.Session) { s.RefreshExpiresAt = time.Time{} },
	"IdempotencyKeyHash": func(s *renew.Session) { s.IdempotencyKeyHash = nil },
	"IP":                 func(s *renew.Session) { s.IP = "" },
	"UserAgent":          func(s *renew.Session) { s.UserAgent = "" },
}

// droppers are stores that forget one field: when a session is created, and when
// it is rotated.
func droppers() (list []wrongStore) {
	for _, field := range slices.Sorted(maps.Keys(dropped)) {
		drop := dropped[field]
		list = append(list, wrongStore{"forgets " + field, "T1", changed(drop, drop, nil)})
		if field == "RevokedAt" {
			continue // of no consequence in Rotate, which is given none
		}
		list = append(list, wrongStore{"forgets " + field + " of a rotation", "T4", changed(nil, drop, nil)})
	}
	return list
}

// cells are stores whose columns do not hold what they must.
var cells = []wrongStore{
	{name: "cuts times to seconds", law: "T1", handle: written(func(s *renew.Session) {
		for _, t := range sessionTimes(s) {
			*t = t.Truncate(time.Second)
		}
	})},
	{name: "rounds times to seconds", law: "T1", handle: written(func(s *renew.Session) {
		for _, t := range sessionTimes(s) {
			*t = t.Round(time.Second)
		}
	})},
	{name: "loses the zone", law: "T1", handle: written(func(s *renew.Session) {
		for _, t := range sessionTimes(s) {
			*t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
		}
	})},
	{name: "returns times in another zone", law: "T1", handle: changed(nil, nil, func(s *renew.Session) {
		for _, t := range sessionTimes(s) {
			*t = t.In(zones[0])
		}
	})},
	{name: "stores a zero time as the year 1970", law: "T1", handle: written(func(s *renew.Session) {
		if s.EndsAt.IsZero() {
			s.EndsAt = time.Unix(0, 0)
		}
	})},
	{name: "has 32-bit seconds", law: "T1", handle: written(func(s *renew.Session) {
		for _, t := range []*time.Time{&s.EndsAt, &s.RefreshExpiresAt} {
			if !t.IsZero() {
				*t = time.Unix(int64(int32(t.Unix())), int64(t.Nanosecond()))
			}
		}
	})},
	{name: "has nanoseconds in 64 bits", law: "T1", handle: written(func(s *renew.Session) {
		for _, t := range []*time.Time{&s.EndsAt, &s.RefreshExpiresAt} {
			if !t.IsZero() {
				*t = time.Unix(0, t.UnixNano())
			}
		}
	})},
	{name: "reads claims as floats", law: "T1", handle: written(func(s *renew.Session) {
		var v any
		if json.Unmarshal(s.Claims, &v) == nil {
			s.Claims, _ = json.Marshal(v)
		}
	})},
	{name: "keeps claims in a column that ignores case of names", law: "T1", handle: written(func(s *renew.Session) {
		var members map[string]json.RawMessage
		if json.Unmarshal(s.Claims, &members) != nil {
			return
		}
		folded := map[string]json.RawMessage{}
		for name, value := range members {
			if _, has := folded[strings.ToLower(name)]; !has {
				folded[strings.ToLower(name)] = value
			}
		}
		if len(folded) != len(members) {
			s.Claims, _ = json.Marshal(folded)
		}
	})},
	{name: "rejects a null character in claims", law: "T1", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			if strings.Contains(string(session.Claims), `\u0000`) {
				return errors.New("unsupported Unicode escape sequence")
			}
			return s.CreateSession(ctx, session)
		}}
	}},
	{name: "cuts claims at 4000 bytes", law: "T1", handle: written(func(s *renew.Session) { s.Claims = s.Claims[:min(len(s.Claims), 4000)] })},
	{name: "joins the audience with commas", law: "T1", handle: written(func(s *renew.Session) {
		if s.Audience != nil {
			s.Audience = strings.Split(strings.Join(s.Audience, ","), ",")
		}
	})},
	{name: "keeps one entry of the audience", law: "T1", handle: written(func(s *renew.Session) { s.Audience = s.Audience[:min(len(s.Audience), 1)] })},
	{name: "sorts the audience", law: "T1", handle: written(func(s *renew.Session) { slices.Sort(s.Audience) })},
	{name: "keeps the retry proof in a text column", law: "T1", handle: written(func(s *renew.Session) {
		if s.IdempotencyKeyHash != nil {
			s.IdempotencyKeyHash = []byte(strings.ToValidUTF8(string(s.IdempotencyKeyHash), "?"))
		}
	})},
	{name: "pads and strips the retry proof", law: "T1", handle: written(func(s *renew.Session) {
		if trimmed := strings.TrimRight(string(s.IdempotencyKeyHash), "\x00"); len(trimmed) < len(s.IdempotencyKeyHash) {
			s.IdempotencyKeyHash = []byte(trimmed)
		}
	})},
	{name: "counts generations in 32 bits", law: "T1", handle: written(func(s *renew.Session) { s.Generation = int64(int32(s.Generation)) })},
	{name: "counts generations in a float", law: "T1", handle: written(func(s *renew.Session) { s.Generation = int64(float64(s.Generation)) })},
	{name: "cuts the user agent at 255 bytes", law: "T1", handle: written(func(s *renew.Session) { s.UserAgent = s.UserAgent[:min(len(s.UserAgent), 255)] })},
	{name: "cuts the subject at 64 bytes", law: "T1", handle: written(func(s *renew.Session) { s.Subject = s.Subject[:min(len(s.Subject), 64)] })},
	{name: "swaps two times", law: "T1", handle: written(func(s *renew.Session) { s.IssuedAt, s.RefreshNotBefore = s.RefreshNotBefore, s.IssuedAt })},
	{name: "hides expired sessions by its own clock", law: "T1", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if err == nil && got.EndedBefore(time.Now()) {
				return renew.Session{}, renew.ErrSessionNotFound
			}
			return got, err
		}}
	}},
}

// creators are stores whose CreateSession is wrong.
var creators = []wrongStore{
	{name: "writes over what is there", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			return s.in(ctx, func(rows table) error {
				rows.put(keyOf(session), normal(session))
				return nil
			})
		}}
	}},
	{name: "ignores an insert that is there", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			if err := s.CreateSession(ctx, session); !errors.Is(err, renew.ErrSessionExists) {
				return err
			}
			return nil
		}}
	}},
	{name: "treats the same insert as a repetition", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			if got, readErr := s.Session(ctx, session.AppID, session.ID); readErr == nil && difference(got, normal(session)) == "" {
				return nil
			}
			return err
		}}
	}},
	{name: "starts a revoked session again", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			return s.in(ctx, func(rows table) error {
				if row, taken := rows.get(keyOf(session)); taken && row.RevokedAt.IsZero() {
					return renew.ErrSessionExists
				}
				rows.put(keyOf(session), normal(session))
				return nil
			})
		}}
	}},
	{name: "starts an expired session again", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			return s.in(ctx, func(rows table) error {
				if row, taken := rows.get(keyOf(session)); taken && row.RefreshExpiresAt.After(time.Now()) {
					return renew.ErrSessionExists
				}
				rows.put(keyOf(session), normal(session))
				return nil
			})
		}}
	}},
	{name: "looks before it inserts", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			if _, err := s.Session(ctx, session.AppID, session.ID); err == nil {
				return renew.ErrSessionExists
			}
			return s.in(ctx, func(rows table) error {
				rows.put(keyOf(session), normal(session))
				return nil
			})
		}}
	}},
	{name: "has a separate error for a taken ID", law: "T2", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			if err := s.CreateSession(ctx, session); err == nil || !errors.Is(err, renew.ErrSessionExists) {
				return err
			}
			return errors.New("duplicate key value violates unique constraint")
		}}
	}},
}

// finders are stores that find a session that does not exist.
var finders = []wrongStore{
	{name: "returns a zero session for an unknown one", law: "T3", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if errors.Is(err, renew.ErrSessionNotFound) {
				return renew.Session{}, nil
			}
			return got, err
		}}
	}},
	{name: "returns the driver's error for no row", law: "T3", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if errors.Is(err, renew.ErrSessionNotFound) {
				err = sql.ErrNoRows
			}
			return got, err
		}}
	}},
	{name: "finds a session by its ID alone", law: "T3", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (got renew.Session, err error) {
			if got, err = s.Session(ctx, appID, sessionID); !errors.Is(err, renew.ErrSessionNotFound) {
				return got, err
			}
			list, _ := s.listWhere(ctx, func(row renew.Session) bool { return row.ID == sessionID })
			if len(list) == 0 {
				return got, err
			}
			return list[0], nil
		}}
	}},
	{name: "forgets the app in the key", law: "T2", handle: func(s sound) *patched {
		return (&keyed{s, func(app, id string) rowKey { return rowKey{"", id} }}).patched()
	}},
	{name: "revokes an unknown session with nil", law: "T3", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			if err := s.RevokeSession(ctx, appID, sessionID, at); !errors.Is(err, renew.ErrSessionNotFound) {
				return err
			}
			return nil
		}}
	}},
	{name: "revokes by the ID alone", law: "T3", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			n, err := s.revokeWhere(ctx, at, func(row renew.Session) bool { return row.ID == sessionID && row.RevokedAt.IsZero() })
			if err != nil || n > 0 {
				return err
			}
			return s.RevokeSession(ctx, appID, sessionID, at)
		}}
	}},
	{name: "leaves a tombstone for an unknown session", law: "T3", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			if err := s.RevokeSession(ctx, appID, sessionID, at); !errors.Is(err, renew.ErrSessionNotFound) {
				return err
			}
			return errors.Join(renew.ErrSessionNotFound, s.CreateSession(ctx, renew.Session{AppID: appID, ID: sessionID, RevokedAt: at, RefreshExpiresAt: base}))
		}}
	}},
}

// keyed is a store whose primary key is made in another way.
type keyed struct {
	sound
	key func(app, id string) rowKey
}

func (k *keyed) patched() *patched {
	return &patched{
		sound: k.sound,
		create: func(ctx context.Context, session renew.Session) error {
			return k.in(ctx, func(rows table) error {
				key := k.key(session.AppID, session.ID)
				if _, taken := rows.get(key); taken {
					return renew.ErrSessionExists
				}
				rows.put(key, normal(session))
				return nil
			})
		},
		session: func(ctx context.Context, appID, sessionID string) (got renew.Session, err error) {
			err = k.in(ctx, func(rows table) error {
				row, ok := rows.get(k.key(appID, sessionID))
				if !ok {
					return renew.ErrSessionNotFound
				}
				got = row.Clone()
				return nil
			})
			return got, err
		},
		rotate: func(ctx context.Context, from string, next renew.Session) error {
			return k.in(ctx, func(rows table) error {
				key := k.key(next.AppID, next.ID)
				row, ok := rows.get(key)
				switch {
				case !ok:
					return renew.ErrSessionNotFound
				case row.TokenID != from || !row.RevokedAt.IsZero():
					return renew.ErrConflict
				}
				rows.put(key, normal(next))
				return nil
			})
		},
		revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return k.in(ctx, func(rows table) error {
				key := k.key(appID, sessionID)
				row, ok := rows.get(key)
				if !ok {
					return renew.ErrSessionNotFound
				}
				if row.RevokedAt.IsZero() {
					row.RevokedAt = at.UTC()
					rows.put(key, row)
				}
				return nil
			})
		},
	}
}

// rotateIf returns a handle whose Rotate replaces the row if match says so.
func rotateIf(match func(row renew.Session, from string) bool) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				row, ok := rows.get(keyOf(next))
				switch {
				case !ok:
					return renew.ErrSessionNotFound
				case !match(row, from):
					return renew.ErrConflict
				}
				rows.put(keyOf(next), normal(next))
				return nil
			})
		}}
	}
}

func live(row renew.Session) bool { return row.RevokedAt.IsZero() }

// rotators are stores whose Rotate is wrong.
var rotators = []wrongStore{
	{name: "last write wins", law: "T4", handle: rotateIf(func(row renew.Session, _ string) bool { return live(row) })},
	{name: "compares only a prefix", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && row.TokenID[:min(10, len(row.TokenID))] == from[:min(10, len(from))]
	})},
	{name: "compares without the last character", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && row.TokenID[:max(0, len(row.TokenID)-1)] == from[:max(0, len(from)-1)]
	})},
	{name: "compares with a pattern", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool { return live(row) && like(from, row.TokenID) })},
	{name: "ignores the case of token IDs", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && strings.EqualFold(row.TokenID, from)
	})},
	{name: "ignores spaces around token IDs", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && strings.TrimSpace(row.TokenID) == strings.TrimSpace(from)
	})},
	{name: "takes the previous token too", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && (row.TokenID == from || row.PreviousTokenID == from)
	})},
	{name: "takes an empty token ID for any", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && (row.TokenID == from || from == "")
	})},
	{name: "does not rotate an expired session", law: "T4", handle: rotateIf(func(row renew.Session, from string) bool {
		return live(row) && row.TokenID == from && row.RefreshExpiresAt.After(time.Now())
	})},
	{name: "returns nil where nothing was updated", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, renew.ErrConflict) || errors.Is(err, renew.ErrSessionNotFound) {
				return nil
			}
			return err
		}}
	}},
	{name: "takes a conflict for not found", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, renew.ErrConflict) {
				return renew.ErrSessionNotFound
			}
			return err
		}}
	}},
	{name: "has a separate error for a conflict", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, renew.ErrConflict) {
				return errors.New("stale token")
			}
			return err
		}}
	}},
	{name: "creates a missing session in Rotate", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			if err := s.Rotate(ctx, from, next); !errors.Is(err, renew.ErrSessionNotFound) {
				return err
			}
			return s.CreateSession(ctx, next)
		}}
	}},
	{name: "rotates whatever is at the token ID", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				rotated := 0
				for key, row := range rows.all() {
					if row.TokenID == from && live(row) {
						replaced := normal(next)
						replaced.AppID, replaced.ID = row.AppID, row.ID
						rows.put(key, replaced)
						rotated++
					}
				}
				if rotated == 0 {
					return renew.ErrConflict
				}
				return nil
			})
		}}
	}},
	{name: "keeps old values where new ones are empty", law: "T4", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			old, err := s.Session(ctx, next.AppID, next.ID)
			if err == nil {
				if next.IdempotencyKeyHash == nil {
					next.IdempotencyKeyHash = old.IdempotencyKeyHash
				}
				if next.EndsAt.IsZero() {
					next.EndsAt = old.EndsAt
				}
			}
			return s.Rotate(ctx, from, next)
		}}
	}},
	{name: "looks before it writes", law: "T5", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			row, err := s.Session(ctx, next.AppID, next.ID)
			switch {
			case err != nil:
				return err
			case row.TokenID != from || !live(row):
				return renew.ErrConflict
			}
			return s.in(ctx, func(rows table) error {
				rows.put(keyOf(next), normal(next))
				return nil
			})
		}}
	}},
	{name: "gives the lock back between looking and writing", law: "T5", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				row, ok := rows.get(keyOf(next))
				switch {
				case !ok:
					return renew.ErrSessionNotFound
				case row.TokenID != from || !live(row):
					return renew.ErrConflict
				}
				s.mu.Unlock()
				next := normal(next)
				s.mu.Lock()
				rows.put(keyOf(next), next)
				return nil
			})
		}}
	}},
	{name: "locks in the process and not in the database", law: "T5", handle: func(s sound) *patched {
		var mine sync.Mutex
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			mine.Lock()
			defer mine.Unlock()
			row, err := s.Session(ctx, next.AppID, next.ID)
			switch {
			case err != nil:
				return err
			case row.TokenID != from || !live(row):
				return renew.ErrConflict
			}
			return s.in(ctx, func(rows table) error {
				rows.put(keyOf(next), normal(next))
				return nil
			})
		}}
	}},
	{name: "takes the same rotation for a repetition", law: "T5", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, renew.ErrConflict) {
				if row, readErr := s.Session(ctx, next.AppID, next.ID); readErr == nil && row.TokenID == next.TokenID {
					return nil
				}
			}
			return err
		}}
	}},
	{name: "tells the loser of a race that it has won", law: "T5", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, renew.ErrConflict) {
				if row, readErr := s.Session(ctx, next.AppID, next.ID); readErr == nil && row.PreviousTokenID == from {
					return nil
				}
			}
			return err
		}}
	}},
	{name: "tells the winner that it has lost", law: "T5", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			if err := s.Rotate(ctx, from, next); err != nil {
				return err
			}
			return renew.ErrConflict
		}}
	}},
}

// like is SQL's LIKE.
func like(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	switch pattern[0] {
	case '%':
		return like(pattern[1:], text) || text != "" && like(pattern, text[1:])
	case '_':
		return text != "" && like(pattern[1:], text[1:])
	}
	return text != "" && text[0] == pattern[0] && like(pattern[1:], text[1:])
}

// readers are stores that show what is past.
var readers = []wrongStore{
	{name: "caches what it has read", law: "T6", handle: func(s sound) *patched {
		var mu sync.Mutex
		cache := map[rowKey]renew.Session{}
		forget := func(key rowKey) {
			mu.Lock()
			defer mu.Unlock()
			delete(cache, key)
		}
		return &patched{
			sound: s,
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				if err := ctx.Err(); err != nil {
					return renew.Session{}, err
				}
				mu.Lock()
				defer mu.Unlock()
				if got, ok := cache[rowKey{appID, sessionID}]; ok {
					return got.Clone(), nil
				}
				got, err := s.Session(ctx, appID, sessionID)
				if err == nil {
					cache[rowKey{appID, sessionID}] = got.Clone()
				}
				return got, err
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				defer forget(keyOf(next))
				return s.Rotate(ctx, from, next)
			},
			revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
				defer forget(rowKey{appID, sessionID})
				return s.RevokeSession(ctx, appID, sessionID, at)
			},
		}
	}},
	{name: "reads a replica that lags", law: "T6", handle: func(s sound) *patched {
		own := map[rowKey]time.Time{} // what this handle wrote it reads from the primary
		var mu sync.Mutex
		wrote := func(key rowKey) {
			mu.Lock()
			defer mu.Unlock()
			own[key] = time.Now()
		}
		return &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				defer wrote(keyOf(session))
				defer replicate(session, 0)
				return s.CreateSession(ctx, session)
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				err := s.Rotate(ctx, from, next)
				if err == nil {
					wrote(keyOf(next))
					replicate(next, time.Millisecond)
				}
				return err
			},
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				got, err := s.Session(ctx, appID, sessionID)
				mu.Lock()
				_, mine := own[rowKey{appID, sessionID}]
				mu.Unlock()
				if err == nil && !mine {
					return replica(got), nil
				}
				return got, err
			},
		}
	}},
	{name: "returns from Rotate before the write is visible", law: "T6", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			row, err := s.Session(ctx, next.AppID, next.ID)
			switch {
			case err != nil:
				return err
			case row.TokenID != from || !live(row):
				return renew.ErrConflict
			}
			next = next.Clone()
			time.AfterFunc(time.Millisecond, func() { _ = s.Rotate(context.Background(), from, next) })
			return nil
		}}
	}},
	{name: "returns from RevokeSession before the write is visible", law: "T6", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			if _, err := s.Session(ctx, appID, sessionID); err != nil {
				return err
			}
			time.AfterFunc(time.Millisecond, func() { _ = s.RevokeSession(context.Background(), appID, sessionID, at) })
			return nil
		}}
	}},
}

// replicas holds each session, by app and ID, as it was at the last replication.
// No two backings have a session of one ID.
var replicas sync.Map

func replicate(s renew.Session, lag time.Duration) {
	s = normal(s)
	if lag == 0 {
		replicas.LoadOrStore(keyOf(s), s)
		return
	}
	time.AfterFunc(lag, func() { replicas.Store(keyOf(s), s) })
}

func replica(s renew.Session) renew.Session {
	if old, ok := replicas.Load(keyOf(s)); ok {
		old := old.(renew.Session).Clone()
		old.RevokedAt = s.RevokedAt
		return old
	}
	return s
}

// revokers are stores that treat revoked sessions wrongly.
var revokers = []wrongStore{
	{name: "rotates a revoked session", law: "T7", handle: rotateIf(func(row renew.Session, from string) bool { return row.TokenID == from })},
	{name: "rotates a revoked session and keeps it revoked", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			return s.in(ctx, func(rows table) error {
				row, ok := rows.get(keyOf(next))
				switch {
				case !ok:
					return renew.ErrSessionNotFound
				case row.TokenID != from:
					return renew.ErrConflict
				}
				next := normal(next)
				next.RevokedAt = row.RevokedAt
				rows.put(keyOf(next), next)
				return nil
			})
		}}
	}},
	{name: "revives on rotate", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if !errors.Is(err, renew.ErrConflict) {
				return err
			}
			return errors.Join(err, s.in(ctx, func(rows table) error {
				row, _ := rows.get(keyOf(next))
				row.RevokedAt = next.RevokedAt
				rows.put(keyOf(next), row)
				return nil
			}))
		}}
	}},
	{name: "overwrites the first time of revocation", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return s.in(ctx, func(rows table) error {
				row, ok := rows.get(rowKey{appID, sessionID})
				if !ok {
					return renew.ErrSessionNotFound
				}
				row.RevokedAt = at.UTC()
				rows.put(keyOf(row), row)
				return nil
			})
		}}
	}},
	{name: "keeps the earliest time of revocation", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return s.in(ctx, func(rows table) error {
				row, ok := rows.get(rowKey{appID, sessionID})
				if !ok {
					return renew.ErrSessionNotFound
				}
				if live(row) || at.Before(row.RevokedAt) {
					row.RevokedAt = at.UTC()
					rows.put(keyOf(row), row)
				}
				return nil
			})
		}}
	}},
	{name: "does not find a revoked session to revoke", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			n, err := s.revokeWhere(ctx, at, func(row renew.Session) bool { return keyOf(row) == rowKey{appID, sessionID} && live(row) })
			if err == nil && n == 0 {
				err = renew.ErrSessionNotFound
			}
			return err
		}}
	}},
	{name: "revokes at the time of the clock", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, _ time.Time) error {
			return s.RevokeSession(ctx, appID, sessionID, time.Now().Truncate(time.Millisecond))
		}}
	}},
	{name: "reads, changes and writes back to revoke", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			row, err := s.Session(ctx, appID, sessionID)
			if err != nil || !live(row) {
				return err
			}
			row.RevokedAt = at.UTC()
			return s.in(ctx, func(rows table) error {
				rows.put(keyOf(row), row)
				return nil
			})
		}}
	}},
	{name: "deletes a session that is revoked", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return s.in(ctx, func(rows table) error {
				if _, ok := rows.get(rowKey{appID, sessionID}); !ok {
					return renew.ErrSessionNotFound
				}
				rows.remove(rowKey{appID, sessionID})
				return nil
			})
		}}
	}},
	{name: "revokes only what has not expired", law: "T7", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			if row, err := s.Session(ctx, appID, sessionID); err != nil || row.EndedBefore(at) {
				return err
			}
			return s.RevokeSession(ctx, appID, sessionID, at)
		}}
	}},
}

// waiters are stores that treat a context wrongly.
var waiters = []wrongStore{
	{name: "ignores a done context", law: "T8", handle: func(s sound) *patched {
		free := context.WithoutCancel
		return &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				return s.CreateSession(free(ctx), session)
			},
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				return s.Session(free(ctx), appID, sessionID)
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				return s.Rotate(free(ctx), from, next)
			},
			revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
				return s.RevokeSession(free(ctx), appID, sessionID, at)
			},
		}
	}},
	{name: "ignores a done context when it reads", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			return s.Session(context.WithoutCancel(ctx), appID, sessionID)
		}}
	}},
	{name: "writes first and looks at the context afterwards", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			if err := s.Rotate(context.WithoutCancel(ctx), from, next); err != nil {
				return err
			}
			return ctx.Err()
		}}
	}},
	{name: "hides the error of the context", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			if ctx.Err() != nil {
				return errors.New("query failed")
			}
			return s.RevokeSession(ctx, appID, sessionID, at)
		}}
	}},
	{name: "ignores a done context when it lists", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.SubjectSessions(context.WithoutCancel(ctx), appID, subject, at)
		}}
	}},
	{name: "ignores a done context when it purges", law: "T8", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.DeleteExpired(context.WithoutCancel(ctx), before, limit)
		}}
	}},
}

// sharing returns a handle that shares memory with its callers: in and out put
// into a clone what is not cloned on the way in and on the way out.
func sharing(in, out func(shared, cloned *renew.Session)) func(sound) *patched {
	mix := func(f func(shared, cloned *renew.Session), s renew.Session) renew.Session {
		cloned := s.Clone()
		if f != nil {
			f(&s, &cloned)
		}
		return cloned
	}
	store := func(s renew.Session) renew.Session {
		kept := normal(s)
		cloned := mix(in, s)
		kept.Audience, kept.Claims, kept.IdempotencyKeyHash = cloned.Audience, cloned.Claims, cloned.IdempotencyKeyHash
		return kept
	}
	return func(s sound) *patched {
		return &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				return s.in(ctx, func(rows table) error {
					if _, taken := rows.get(keyOf(session)); taken {
						return renew.ErrSessionExists
					}
					rows.put(keyOf(session), store(session))
					return nil
				})
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				return s.in(ctx, func(rows table) error {
					row, ok := rows.get(keyOf(next))
					switch {
					case !ok:
						return renew.ErrSessionNotFound
					case row.TokenID != from || !live(row):
						return renew.ErrConflict
					}
					rows.put(keyOf(next), store(next))
					return nil
				})
			},
			session: func(ctx context.Context, appID, sessionID string) (got renew.Session, err error) {
				err = s.in(ctx, func(rows table) error {
					row, ok := rows.get(rowKey{appID, sessionID})
					if !ok {
						return renew.ErrSessionNotFound
					}
					got = mix(out, row)
					return nil
				})
				return got, err
			},
		}
	}
}

// sharers are stores that share memory with their callers.
var sharers = []wrongStore{
	{name: "keeps the audience that it was given", law: "T9", handle: sharing(func(shared, cloned *renew.Session) { cloned.Audience = shared.Audience }, nil)},
	{name: "keeps the claims that it was given", law: "T9", handle: sharing(func(shared, cloned *renew.Session) { cloned.Claims = shared.Claims }, nil)},
	{name: "keeps the retry proof that it was given", law: "T9", handle: sharing(func(shared, cloned *renew.Session) { cloned.IdempotencyKeyHash = shared.IdempotencyKeyHash }, nil)},
	{name: "hands out its audience", law: "T9", handle: sharing(nil, func(shared, cloned *renew.Session) { cloned.Audience = shared.Audience })},
	{name: "hands out its claims", law: "T9", handle: sharing(nil, func(shared, cloned *renew.Session) { cloned.Claims = shared.Claims })},
	{name: "hands out its retry proof", law: "T9", handle: sharing(nil, func(shared, cloned *renew.Session) { cloned.IdempotencyKeyHash = shared.IdempotencyKeyHash })},
	{name: "hands out its claims in a list", law: "T9", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			list, err := s.SubjectSessions(ctx, appID, subject, at)
			if err != nil {
				return nil, err
			}
			return list, s.in(ctx, func(rows table) error {
				for i := range list {
					row, _ := rows.get(keyOf(list[i]))
					list[i].Claims = row.Claims
				}
				return nil
			})
		}}
	}},
}

// namers are stores that confuse names.
var namers = []wrongStore{
	{name: "ignores the case of IDs", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{strings.ToLower(app), strings.ToLower(id)} })},
	{name: "ignores the case of session IDs", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{app, strings.ToLower(id)} })},
	{name: "trims spaces off IDs", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{strings.TrimSpace(app), strings.TrimSpace(id)} })},
	{name: "ignores trailing spaces of app IDs", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{strings.TrimRight(app, " "), id} })},
	{name: "cuts IDs at 254 bytes", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{app[:min(len(app), 254)], id[:min(len(id), 254)]} })},
	{name: "joins app and ID with a colon", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{"", app + ":" + id} })},
	{name: "joins app and ID with nothing", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{"", app + id} })},
	{name: "joins app and ID as a path", law: "T10", handle: byKey(func(app, id string) rowKey { return rowKey{"", app + "/" + id} })},
	{name: "ignores what is not ASCII", law: "T10", handle: byKey(func(app, id string) rowKey {
		ascii := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r > 127 {
					return '?'
				}
				return r
			}, s)
		}
		return rowKey{ascii(app), ascii(id)}
	})},
	{name: "searches sessions by pattern", law: "T10", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (got renew.Session, err error) {
			if got, err = s.Session(ctx, appID, sessionID); !errors.Is(err, renew.ErrSessionNotFound) {
				return got, err
			}
			if list, _ := s.listWhere(ctx, func(row renew.Session) bool { return row.AppID == appID && like(sessionID, row.ID) }); len(list) > 0 {
				return list[0], nil
			}
			return got, err
		}}
	}},
	{name: "cannot store a quote", law: "T10", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			if strings.Contains(session.ID, "'") {
				return errors.New("syntax error")
			}
			return s.CreateSession(ctx, session)
		}}
	}},
	{name: "finds subjects by prefix", law: "T10", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Live(at) && strings.HasPrefix(row.Subject, subject)
			})
		}}
	}},
	{name: "ignores the case of subjects", law: "T10", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Live(at) && strings.EqualFold(row.Subject, subject)
			})
		}}
	}},
	{name: "joins subject and ID with a colon", law: "T10", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Live(at) && strings.HasPrefix(row.Subject+":"+row.ID, subject+":")
			})
		}}
	}},
}

func byKey(key func(app, id string) rowKey) func(sound) *patched {
	return func(s sound) *patched { return (&keyed{s, key}).patched() }
}

// purgeWhere returns a handle whose DeleteExpired deletes what match says.
func purgeWhere(match func(row renew.Session, before time.Time) bool) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.deleteWhere(ctx, limit, func(row renew.Session) bool { return match(row, before) })
		}}
	}
}

// purgers are stores whose DeleteExpired is wrong.
var purgers = []wrongStore{
	{name: "purges live sessions", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool { return row.IssuedAt.Before(before) })},
	{name: "purges what ends at the given time", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool { return !row.RefreshExpiresAt.After(before) })},
	{name: "purges revoked sessions", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool {
		return row.EndedBefore(before) || !live(row) && row.RevokedAt.Before(before)
	})},
	{name: "treats no absolute end as one that is past", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool {
		return row.CreatedAt.Before(before) && (row.RefreshExpiresAt.Before(before) || row.EndsAt.Before(before))
	})},
	{name: "does not purge by the absolute end", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool { return row.RefreshExpiresAt.Before(before) })},
	{name: "does not purge revoked sessions", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool { return live(row) && row.EndedBefore(before) })},
	{name: "compares seconds when it purges", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool {
		return row.RefreshExpiresAt.Unix() < before.Unix() || !row.EndsAt.IsZero() && row.EndsAt.Unix() < before.Unix()-1
	})},
	{name: "compares wall clocks when it purges", law: "T11", handle: purgeWhere(func(row renew.Session, before time.Time) bool {
		wall := func(t time.Time) string { return t.Format("2006-01-02 15:04:05.000") }
		return wall(row.RefreshExpiresAt) < wall(before) || !row.EndsAt.IsZero() && wall(row.EndsAt) < wall(before)
	})},
	{name: "purges nothing", law: "T11", handle: purgeWhere(func(renew.Session, time.Time) bool { return false })},
	{name: "purges more than limit", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			if limit < 1 {
				return 0, ctx.Err()
			}
			n, err := s.DeleteExpired(ctx, before, 1<<30)
			return min(n, limit), err
		}}
	}},
	{name: "purges one more than limit", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			return s.DeleteExpired(ctx, before, limit+1)
		}}
	}},
	{name: "treats no limit as all", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			if limit < 1 {
				limit = 1 << 30
			}
			return s.DeleteExpired(ctx, before, limit)
		}}
	}},
	{name: "returns limit for the number of deletions", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
			n, err := s.DeleteExpired(ctx, before, limit)
			if n > 0 {
				n = limit
			}
			return max(n, 0), err
		}}
	}},
	{name: "lists first and deletes then", law: "T11", handle: func(s sound) *patched {
		return &patched{sound: s, deleteExpired: func(ctx context.Context, before time.Time, limit int) (n int, err error) {
			list, err := s.listWhere(ctx, func(row renew.Session) bool { return row.EndedBefore(before) })
			for _, row := range list[:max(0, min(limit, len(list)))] {
				deleted, _ := s.deleteWhere(ctx, 1, func(r renew.Session) bool { return keyOf(r) == keyOf(row) })
				n += deleted
			}
			return n, err
		}}
	}},
}

// sufferers are stores that are wrong when the database is away, or comes back.
var sufferers = []wrongStore{
	{name: "says not found on an outage", law: "T12", handle: func(s sound) *patched {
		return &patched{sound: s, session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
			got, err := s.Session(ctx, appID, sessionID)
			if err != nil && ctx.Err() == nil {
				err = renew.ErrSessionNotFound
			}
			return got, err
		}}
	}},
	{name: "says conflict on an outage", law: "T12", handle: func(s sound) *patched {
		return &patched{sound: s, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := s.Rotate(ctx, from, next)
			if errors.Is(err, errUnreachable) {
				return renew.ErrConflict
			}
			return err
		}}
	}},
	{name: "says exists on an outage", law: "T12", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			if errors.Is(err, errUnreachable) {
				return renew.ErrSessionExists
			}
			return err
		}}
	}},
	{name: "drops the error of a revocation", law: "T12", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			err := s.RevokeSession(ctx, appID, sessionID, at)
			if errors.Is(err, errUnreachable) {
				return nil
			}
			return err
		}}
	}},
	{name: "lists nothing on an outage", law: "T12", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			list, err := s.SubjectSessions(ctx, appID, subject, at)
			if errors.Is(err, errUnreachable) {
				return nil, nil
			}
			return list, err
		}}
	}},
	{name: "loses the last writes in a crash", law: "T13", handle: func(s sound) *patched {
		before := func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			disk := s.rows.clone()
			s.onCrash = func() {
				s.rows.set(disk)
			}
		}
		return &patched{
			sound: s,
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				before()
				return s.Rotate(ctx, from, next)
			},
		}
	}},
	{name: "loses revocations in a crash", law: "T13", handle: func(s sound) *patched {
		return &patched{sound: s, revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			err := s.RevokeSession(ctx, appID, sessionID, at)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.onCrash = func() {
				for key, row := range s.rows.all() {
					row.RevokedAt = time.Time{}
					s.rows.put(key, row)
				}
			}
			return err
		}}
	}},
	{name: "forgets new sessions in a crash", law: "T13", handle: func(s sound) *patched {
		return &patched{sound: s, create: func(ctx context.Context, session renew.Session) error {
			err := s.CreateSession(ctx, session)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.onCrash = func() { s.rows.remove(keyOf(session)) }
			return err
		}}
	}},
}

// listIf returns a handle whose SubjectSessions returns what match says.
func listIf(match func(row renew.Session, appID, subject string, at time.Time) bool) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.listWhere(ctx, func(row renew.Session) bool { return match(row, appID, subject, at) })
		}}
	}
}

func revokeIf(match func(row renew.Session, appID, subject string, at time.Time) bool) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			return s.revokeWhere(ctx, at, func(row renew.Session) bool { return match(row, appID, subject, at) })
		}}
	}
}

func afterList(f func(list []renew.Session) ([]renew.Session, error)) func(sound) *patched {
	return func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			list, err := s.SubjectSessions(ctx, appID, subject, at)
			if err != nil {
				return nil, err
			}
			return f(list)
		}}
	}
}

// listers are stores that are wrong about subjects.
var listers = []wrongStore{
	{name: "lists another app's sessions", law: "S1", handle: listIf(func(row renew.Session, _, subject string, at time.Time) bool {
		return row.Subject == subject && row.Live(at)
	})},
	{name: "lists revoked sessions", law: "S1", handle: listIf(func(row renew.Session, appID, subject string, at time.Time) bool {
		return row.AppID == appID && row.Subject == subject && !row.EndedBefore(at) && row.RefreshExpiresAt.After(at) && (row.EndsAt.IsZero() || row.EndsAt.After(at))
	})},
	{name: "lists expired sessions", law: "S1", handle: listIf(func(row renew.Session, appID, subject string, _ time.Time) bool {
		return row.AppID == appID && row.Subject == subject && live(row)
	})},
	{name: "lists what is live by its own clock", law: "S1", handle: listIf(func(row renew.Session, appID, subject string, _ time.Time) bool {
		return row.AppID == appID && row.Subject == subject && row.Live(time.Now())
	})},
	{name: "treats no absolute end as one that is past, in lists", law: "S1", handle: listIf(func(row renew.Session, appID, subject string, at time.Time) bool {
		return row.AppID == appID && row.Subject == subject && row.Live(at) && row.EndsAt.After(at)
	})},
	{name: "lists the oldest first", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		slices.Reverse(list)
		return list, nil
	})},
	{name: "lists by time alone", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		slices.SortFunc(list, func(a, b renew.Session) int {
			if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
				return c
			}
			return strings.Compare(a.ID, b.ID)
		})
		return list, nil
	})},
	{name: "lists a page of a hundred", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		return list[:min(len(list), 100)], nil
	})},
	{name: "has an error for an empty list", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		if len(list) == 0 {
			return nil, renew.ErrSessionNotFound
		}
		return list, nil
	})},
	{name: "lists sessions without their claims", law: "S1", handle: afterList(func(list []renew.Session) ([]renew.Session, error) {
		for i := range list {
			list[i].Claims = nil
		}
		return list, nil
	})},
	{name: "does not move a session to another subject", law: "S1", handle: func(s sound) *patched {
		return &patched{sound: s, subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
			return s.listWhere(ctx, func(row renew.Session) bool {
				// It is listed under the subject that it was created with.
				return row.AppID == appID && row.Live(at) && (row.Subject == subject || row.Subject == "another subject" && subject == "subject")
			})
		}}
	}},
	{name: "revokes the subject in every app", law: "S2", handle: revokeIf(func(row renew.Session, _, subject string, _ time.Time) bool {
		return row.Subject == subject && live(row)
	})},
	{name: "revokes subjects by prefix", law: "S2", handle: revokeIf(func(row renew.Session, appID, subject string, _ time.Time) bool {
		return row.AppID == appID && strings.HasPrefix(row.Subject, subject) && live(row)
	})},
	{name: "revokes only live sessions of a subject", law: "S2", handle: revokeIf(func(row renew.Session, appID, subject string, at time.Time) bool {
		return row.AppID == appID && row.Subject == subject && row.Live(at)
	})},
	{name: "revokes revoked sessions of a subject again", law: "S2", handle: revokeIf(func(row renew.Session, appID, subject string, _ time.Time) bool {
		return row.AppID == appID && row.Subject == subject
	})},
	{name: "counts the revoked sessions of a subject", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			if _, err := s.RevokeSubject(ctx, appID, subject, at, keep...); err != nil {
				return 0, err
			}
			list, err := s.listWhere(ctx, func(row renew.Session) bool { return row.AppID == appID && row.Subject == subject })
			return len(list), err
		}}
	}},
	{name: "has an error for a subject without sessions", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			n, err := s.RevokeSubject(ctx, appID, subject, at, keep...)
			if err == nil && n == 0 {
				err = renew.ErrSessionNotFound
			}
			return n, err
		}}
	}},
	{name: "reads, changes and writes back to revoke a subject", law: "S2", handle: func(s sound) *patched {
		return &patched{sound: s, revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
			list, err := s.listWhere(ctx, func(row renew.Session) bool {
				return row.AppID == appID && row.Subject == subject && live(row)
			})
			if err != nil {
				return 0, err
			}
			return len(list), s.in(ctx, func(rows table) error {
				for _, row := range list {
					row.RevokedAt = at.UTC()
					rows.put(keyOf(row), row)
				}
				return nil
			})
		}}
	}},
}

func wrongStores() []wrongStore {
	return slices.Concat(droppers(), cells, creators, finders, rotators, readers, revokers, waiters, sharers, namers, purgers, sufferers, listers, wrongKinds())
}

// TestWrongStores shows that each wrong store is caught by the law that it
// breaks, without the help of any other.
func TestWrongStores(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, w := range wrongStores() {
		if names[w.name] {
			t.Fatalf("two wrong stores are named %q", w.name)
		}
		names[w.name] = true
		if leftOut() {
			continue
		}
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w.prove(t)
		})
	}
	t.Logf("%d wrong stores", len(names))
}

func (w wrongStore) prove(t *testing.T) {
	prove(t, w.law, func() *suite[*tokens] {
		b := newBacking()
		c := newConfig(b.options())
		c.readSeed(t)
		return newTokenSuite(func(testing.TB) renew.TokenStore { return w.handle(sound{b}) }, c)
	})
}

// prove runs a suite on a wrong store. The cases of the law that it breaks must
// catch it, and say that it breaks that law. On a busy machine a race of
// microseconds is missed in some of many runs, so that three misses count.
func prove[H any](t *testing.T, broken string, newSuite func() *suite[H]) {
	const tries = 3
	var seeds []uint64
	for range tries {
		s := newSuite()
		if catches(t, s, broken) {
			return
		}
		seeds = append(seeds, s.seed)
	}
	t.Errorf("law %s does not catch it; seeds %d", broken, seeds)
}

// catches runs the cases of the law that the store breaks. Where all rounds are asked
// for, one store in ten, by chance, meets all other laws too: none may hang or panic.
func catches[H any](t *testing.T, s *suite[H], broken string) bool {
	const oneIn = 10
	everyLaw := rounds.Share(t) == 1 && rand.IntN(oneIn) == 0
	caught := false
	s.recovery, s.lag = time.Second, 20*time.Millisecond
	for _, l := range s.laws {
		s.effort, s.budget = 0.2, 0
		if l.id == broken {
			s.effort, s.budget = 1, raceBudget
		} else if !everyLaw {
			continue
		}
		for _, c := range l.cases {
			for _, f := range s.run(t, l, c).failures {
				caught = caught || l.id == broken && f.law == broken
				if strings.Contains(f.text, "time-out") || strings.Contains(f.text, "panicked") {
					t.Errorf("%s/%s: %s", l.id, c.name, f.text)
				}
			}
			if caught && !everyLaw {
				return true
			}
		}
	}
	return caught
}
