package storetest

import (
	"context"
	"sync"
	"time"

	"github.com/jwtrenew/renew"
)

// Faulty is a [renew.TokenStore] in front of another, whose calls fail, wait, or
// lose their result as a test wants it. With it a test shows what a service does
// while its database misbehaves.
//
// It is safe for concurrent use if the store and plan are. It hides the optional
// interfaces of the store.
type Faulty struct {
	store renew.TokenStore
	plan  func(Call) Fault
	late  sync.WaitGroup
}

var _ renew.TokenStore = (*Faulty)(nil)

// NewFaulty returns a Faulty in front of store. plan is asked about each call,
// before it is done; for the zero Fault the call is as any other.
func NewFaulty(store renew.TokenStore, plan func(Call) Fault) *Faulty {
	return &Faulty{store: store, plan: plan}
}

// Method is a method of [renew.TokenStore].
type Method string

// The methods.
const (
	CreateSession Method = "CreateSession"
	ReadSession   Method = "Session"
	Rotate        Method = "Rotate"
	RevokeSession Method = "RevokeSession"
)

// Call is a call of a store.
type Call struct {
	Method           Method
	AppID, SessionID string
}

// Fault is what becomes of a call.
type Fault struct {
	// Delay is waited for before the call is done. A context that is done
	// in the meantime ends the wait, and the call, with its error.
	Delay time.Duration
	// Fail is returned in place of doing the call; nil: it is done.
	Fail error
	// Lose is returned once the call is done, in place of its result; nil: the
	// result is returned.
	Lose error
	// Late is returned immediately, and the call is done afterwards, as when a
	// database continues with what a client has given up; nil: it is done first.
	// Its context does not end any more, and [Faulty.Wait] waits for it.
	Late error
}

// Wait returns when every call that was to be done late is done.
func (f *Faulty) Wait() { f.late.Wait() }

// CreateSession calls the store's, or fails.
func (f *Faulty) CreateSession(ctx context.Context, s renew.Session) error {
	s = s.Clone() // it may be stored late
	return f.call(ctx, Call{CreateSession, s.AppID, s.ID}, func(ctx context.Context) error {
		return f.store.CreateSession(ctx, s)
	})
}

// Session calls the store's, or fails.
func (f *Faulty) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	result := make(chan renew.Session, 1)
	err := f.call(ctx, Call{ReadSession, appID, sessionID}, func(ctx context.Context) error {
		s, err := f.store.Session(ctx, appID, sessionID)
		result <- s
		return err
	})
	if err != nil {
		return renew.Session{}, err
	}
	return <-result, nil
}

// Rotate calls the store's, or fails.
func (f *Faulty) Rotate(ctx context.Context, from string, next renew.Session) error {
	next = next.Clone()
	return f.call(ctx, Call{Rotate, next.AppID, next.ID}, func(ctx context.Context) error {
		return f.store.Rotate(ctx, from, next)
	})
}

// RevokeSession calls the store's, or fails.
func (f *Faulty) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return f.call(ctx, Call{RevokeSession, appID, sessionID}, func(ctx context.Context) error {
		return f.store.RevokeSession(ctx, appID, sessionID, at)
	})
}

func (f *Faulty) call(ctx context.Context, c Call, do func(context.Context) error) error {
	fault := f.plan(c)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
	if fault.Fail != nil {
		return fault.Fail
	}
	if fault.Late != nil {
		f.late.Go(func() { _ = do(context.WithoutCancel(ctx)) }) // its result comes too late
		return fault.Late
	}
	err := do(ctx)
	if fault.Lose != nil {
		return fault.Lose
	}
	return err
}
