package storetest

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jwtrenew/renew"
)

// Clients that race through a batch of sessions, and the size of a batch.
const (
	stampedeClients  = 4
	stampedeSessions = 32
	stampedeBatches  = 400
)

// rarePaths are what a session is, and what the clients would put in its place: a store
// may take another path for some of it. Every batch is of one kind, so that none is
// seldom met.
func (c *config) rarePaths() []value {
	return []value{
		{"what most renewals write", func(*renew.Session) {}},
		{"16 KiB of claims", func(s *renew.Session) { s.Claims = json.RawMessage(`{"s":"` + strings.Repeat("x", 16<<10-8) + `"}`) }},
		{"another subject", func(s *renew.Session) { s.Subject = "another subject" }},
		{"a late generation", func(s *renew.Session) { s.Generation += 1000 }},
		{"empty fields", func(s *renew.Session) {
			s.Audience, s.Claims, s.IdempotencyKeyHash, s.EndsAt = nil, nil, nil, time.Time{}
		}},
		{"long fields", func(s *renew.Session) {
			s.UserAgent, s.IP, s.Audience = strings.Repeat("a", 1024), "2001:0db8:1111:2222:3333:4444:255.255.255.255", slices.Repeat([]string{strings.Repeat("x", 60)}, 64)
		}},
		{"an end that is past", c.justEnded},
	}
}

// herd is a batch of sessions, each with what the clients would put in its place
// and the errors they got.
type herd struct {
	was        [stampedeSessions]renew.Session
	contenders [stampedeSessions][]renew.Session
	errs       [stampedeSessions][stampedeClients]error
}

// stampede lets clients run through batches of sessions and act on each as
// nearly at the same moment as can be: a gap between a comparison and a write is
// hit in the end, even if it is of nanoseconds. The calls are not recorded,
// since that would keep the clients apart.
func stampede(e *tokenEnv, prepare func(v value) (was renew.Session, contenders []renew.Session),
	act func(who int, h renew.TokenStore, was renew.Session, contenders []renew.Session) error,
	judge func(was renew.Session, contenders []renew.Session, errs []error),
) {
	paths := e.rarePaths()
	for batch := range e.roundsUpTo(len(paths), stampedeBatches, 5*e.budget) {
		var all herd
		for i := range all.was {
			all.was[i], all.contenders[i] = prepare(paths[batch%len(paths)])
		}
		var arrived [stampedeSessions]atomic.Int32
		e.race(stampedeClients, func(who int) {
			h := e.handle(who).store
			for i := range all.was {
				meet(&arrived[i])
				all.errs[i][who] = act(who, h, all.was[i], all.contenders[i])
			}
		})
		for i := range all.was {
			judge(all.was[i], all.contenders[i], all.errs[i][:])
		}
	}
}

// meet waits for a second client, but not for long: where there are more clients
// than processors, waiting keeps the others from coming.
func meet(arrived *atomic.Int32) {
	const patience = 500
	arrived.Add(1)
	for spins := 0; arrived.Load() < 2 && spins < patience; spins++ {
	}
}

func rotateStampede(e *tokenEnv) {
	stampede(e, storedWithSuccessors(e), func(who int, h renew.TokenStore, was renew.Session, contenders []renew.Session) error {
		return h.Rotate(e.ctx, was.TokenID, contenders[who])
	}, func(was renew.Session, contenders []renew.Session, errs []error) {
		oneWinner(e, "some Rotates with one from, at the same moment", contenders, errs, was.TokenID)
	})
}

// storedWithSuccessors stores a session, for clients that rotate it.
func storedWithSuccessors(e *tokenEnv) func(v value) (renew.Session, []renew.Session) {
	return func(v value) (renew.Session, []renew.Session) {
		s := sessionWith(e, v)
		create(e, s)
		return s, successors(s, v)
	}
}

func successors(s renew.Session, v value) []renew.Session {
	list := make([]renew.Session, stampedeClients)
	for i := range list {
		list[i] = successor(s)
		v.change(&list[i])
	}
	return list
}

func createStampede(e *tokenEnv) {
	stampede(e, func(v value) (renew.Session, []renew.Session) {
		s := newSession(e)
		contenders := successors(s, v)
		for i := range contenders {
			contenders[i].Subject = "of client " + contenders[i].TokenID
		}
		return s, contenders
	}, func(who int, h renew.TokenStore, _ renew.Session, contenders []renew.Session) error {
		return h.CreateSession(e.ctx, contenders[who])
	}, func(_ renew.Session, contenders []renew.Session, errs []error) {
		oneWinner(e, "some CreateSessions with one ID, at the same moment", contenders, errs, "")
	})
}

// revokeStampede has two clients revoke, one through each handle, and the others
// rotate.
func revokeStampede(e *tokenEnv) {
	stampede(e, storedWithSuccessors(e), func(who int, h renew.TokenStore, was renew.Session, contenders []renew.Session) error {
		if who < 2 {
			return h.RevokeSession(e.ctx, was.AppID, was.ID, revokedAt)
		}
		return h.Rotate(e.ctx, was.TokenID, contenders[who])
	}, func(was renew.Session, contenders []renew.Session, errs []error) {
		revoked := errs[0]
		if revoked != nil {
			revoked = errs[1]
		}
		bothStay(e, "at the same moment", was, revoked, contenders[2:], errs[2:])
	})
}
