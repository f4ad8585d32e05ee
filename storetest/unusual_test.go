package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
)

// around returns a store that does something before and after each call; before
// it looks at the context, if first is set.
func around(s sound, first bool, before func(ctx context.Context) error, after func(error) error) *patched {
	call := func(ctx context.Context, do func() error) error {
		if ctx.Err() == nil || first {
			if err := before(ctx); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return do()
		}
		return after(do())
	}
	return &patched{
		sound: s,
		create: func(ctx context.Context, session renew.Session) error {
			return call(ctx, func() error { return s.CreateSession(ctx, session) })
		},
		session: func(ctx context.Context, appID, sessionID string) (got renew.Session, err error) {
			err = call(ctx, func() error { got, err = s.Session(ctx, appID, sessionID); return err })
			return got, err
		},
		rotate: func(ctx context.Context, from string, next renew.Session) error {
			return call(ctx, func() error { return s.Rotate(ctx, from, next) })
		},
		revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return call(ctx, func() error { return s.RevokeSession(ctx, appID, sessionID, at) })
		},
	}
}

// expiresItself returns a store whose rows are gone, for every method, so long after
// their end by the real clock.
func expiresItself(after time.Duration) func(sound) *patched {
	return func(s sound) *patched {
		expired := func(row renew.Session) bool { return !row.End().Add(after).After(time.Now()) }
		clean := func(key rowKey) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if row, ok := s.rows.get(key); ok && expired(row) {
				s.rows.remove(key)
			}
		}
		return &patched{
			sound: s,
			create: func(ctx context.Context, session renew.Session) error {
				clean(keyOf(session))
				return s.CreateSession(ctx, session)
			},
			session: func(ctx context.Context, appID, sessionID string) (renew.Session, error) {
				clean(rowKey{appID, sessionID})
				return s.Session(ctx, appID, sessionID)
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				clean(keyOf(next))
				return s.Rotate(ctx, from, next)
			},
			revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
				clean(rowKey{appID, sessionID})
				return s.RevokeSession(ctx, appID, sessionID, at)
			},
			subjectSessions: func(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
				return s.listOf(ctx, is(appID), func(row renew.Session) bool { return row.Subject == subject && row.Live(at) && !expired(row) })
			},
			revokeSubject: func(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
				return s.revokeOf(ctx, is(appID), at, func(row renew.Session) bool {
					return row.Subject == subject && live(row) && !slices.Contains(keep, row.ID) && !expired(row)
				})
			},
			deleteExpired: func(ctx context.Context, before time.Time, limit int) (int, error) {
				return s.deleteWhere(ctx, limit, func(row renew.Session) bool { return row.EndedBefore(before) && !expired(row) })
			},
		}
	}
}

// writesLate returns a store that returns when a context ends, and finishes what it has
// sent to its server all the same.
func writesLate(s sound) *patched {
	call := func(ctx context.Context, do func(context.Context) error) error {
		if ctx.Err() != nil {
			return do(ctx)
		}
		result := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(rand.IntN(int(400 * time.Microsecond))))
			result <- do(context.WithoutCancel(ctx))
		}()
		select {
		case err := <-result:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the outcome is unknown: %w", ctx.Err())
		}
	}
	return &patched{
		sound: s,
		create: func(ctx context.Context, session renew.Session) error {
			return call(ctx, func(ctx context.Context) error { return s.CreateSession(ctx, session) })
		},
		rotate: func(ctx context.Context, from string, next renew.Session) error {
			return call(ctx, func(ctx context.Context) error { return s.Rotate(ctx, from, next) })
		},
		revoke: func(ctx context.Context, appID, sessionID string, at time.Time) error {
			return call(ctx, func(ctx context.Context) error { return s.RevokeSession(ctx, appID, sessionID, at) })
		},
	}
}

// oneInTen is by chance, as in a database: by a count, a case of ten calls a round
// would meet it at the same call each time.
func oneInTen() bool { return rand.IntN(10) == 0 }

func same(err error) error { return err }

// london is a zone of offset zero that is not UTC.
var london = time.FixedZone("London, in winter", 0)

// unusual are stores that are right, and that a suite could reject.
var unusual = map[string]func(b *backing) renew.TokenStore{
	"waits 1 ms": func(b *backing) renew.TokenStore {
		return around(sound{b}, false, func(context.Context) error { time.Sleep(time.Millisecond); return nil }, same)
	},
	"asks to retry a tenth of the calls": func(b *backing) renew.TokenStore {
		return around(sound{b}, false, func(context.Context) error {
			if oneInTen() {
				return errSerialization
			}
			return nil
		}, same)
	},
	"loses a tenth of the results": func(b *backing) renew.TokenStore {
		return around(sound{b}, false, func(context.Context) error { return nil }, func(err error) error {
			if oneInTen() {
				return errSerialization
			}
			return err
		})
	},
	"returns times in London": func(b *backing) renew.TokenStore {
		return changed(nil, nil, func(s *renew.Session) {
			for _, t := range sessionTimes(s) {
				*t = t.In(london)
			}
		})(sound{b})
	},
	"orders the members of claims": func(b *backing) renew.TokenStore {
		return written(func(s *renew.Session) {
			var members map[string]json.RawMessage
			if json.Unmarshal(s.Claims, &members) == nil && members != nil {
				s.Claims, _ = json.Marshal(members)
			}
		})(sound{b})
	},
	"has a status for a canceled context": func(b *backing) renew.TokenStore {
		return around(sound{b}, true, func(ctx context.Context) error {
			if err := ctx.Err(); err != nil {
				return errors.New("rpc error: code = Canceled desc = " + err.Error())
			}
			return nil
		}, same)
	},
	"writes after its context has ended": func(b *backing) renew.TokenStore { return writesLate(sound{b}) },
	"deletes an hour after the end":      func(b *backing) renew.TokenStore { return expiresItself(keptFor)(sound{b}) },
	"demands unique token IDs": func(b *backing) renew.TokenStore {
		var used sync.Map
		return &patched{
			sound: sound{b},
			create: func(ctx context.Context, session renew.Session) error {
				key, taken := used.LoadOrStore(session.TokenID, keyOf(session))
				if taken && key != keyOf(session) && ctx.Err() == nil {
					return errors.New("duplicate token ID")
				}
				return sound{b}.CreateSession(ctx, session)
			},
			rotate: func(ctx context.Context, from string, next renew.Session) error {
				used.LoadOrStore(next.TokenID, keyOf(next))
				return sound{b}.Rotate(ctx, from, next)
			},
		}
	},
	"demands ULIDs": func(b *backing) renew.TokenStore {
		return &patched{sound: sound{b}, create: func(ctx context.Context, session renew.Session) error {
			for _, id := range []string{session.ID, session.TokenID} {
				if parsed, err := ulid.ParseStrict(id); err != nil || parsed.String() != id {
					return errors.New("not a ULID")
				}
			}
			return sound{b}.CreateSession(ctx, session)
		}}
	},
	"has no optional interface": func(b *backing) renew.TokenStore { return struct{ renew.TokenStore }{sound{b}} },
	"lists a hundred": func(b *backing) renew.TokenStore {
		return afterList(func(list []renew.Session) ([]renew.Session, error) { return list[:min(len(list), 100)], nil })(sound{b})
	},
	"says conflict for a missing session": func(b *backing) renew.TokenStore {
		return &patched{sound: sound{b}, rotate: func(ctx context.Context, from string, next renew.Session) error {
			err := sound{b}.Rotate(ctx, from, next)
			if errors.Is(err, renew.ErrSessionNotFound) {
				err = renew.ErrConflict
			}
			return err
		}}
	},
}

// TestUnusualStoresPass shows that what the laws leave open is not held against a
// store.
func TestUnusualStoresPass(t *testing.T) {
	t.Parallel()
	for name, open := range unusual {
		if leftOut() || rand.Float64() > rounds.Share(t) {
			continue // another run's
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBacking()
			store := open(b)
			opts := append(b.options(), WithRounds(0.1)) // what races show, TestSoundStore looks for
			if name == "lists a hundred" {
				opts = append(opts, WithListLimit(100))
			}
			TestTokenStore(t, func(testing.TB) renew.TokenStore { return store }, opts...)
		})
	}
}
