package renew

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// DefaultReuseLeeway is the leeway of a Renewer made without [WithReuseLeeway].
const DefaultReuseLeeway = 10 * time.Second

// Option changes a Renewer from its defaults.
type Option func(*Renewer) error

// WithClock sets the clock that all times come from. Default: [time.Now].
func WithClock(now func() time.Time) Option {
	return func(r *Renewer) error {
		if now == nil {
			return errors.New("WithClock: the function is nil; leave the option out for time.Now")
		}
		r.now = now
		return nil
	}
}

// WithLeeway tolerates clocks that differ by up to d: a token is valid from d
// before its nbf until d after its exp, and the ages that [WithRetryWindow] and
// [WithReuseLeeway] limit are d shorter. Default and zero: none. It must be below
// [DefaultAuthTTL], and below both lifetimes of every app; a few seconds are
// enough for machines that keep time.
//
// Two tolerances need no option. An auth token is valid 5 seconds before its
// nbf, because it is used on other servers as soon as it is issued. A clock that
// is behind by more than the leeway and a minute is a separate error,
// [ErrClock].
func WithLeeway(d time.Duration) Option {
	return func(r *Renewer) error {
		if d < 0 || d >= DefaultAuthTTL {
			return fmt.Errorf("WithLeeway: %v must be at least 0 and below %v; it is for the seconds that clocks differ by", d, DefaultAuthTTL)
		}
		r.leeway = d
		return nil
	}
}

// WithRetryWindow gives a client that presents the predecessor of the current
// token the same successor again, within d of the renewal and as long as the
// successor was not used. It is for clients that repeat a request and send no
// idempotency key: a renewal that was made with a key is repeated with that key
// only. A thief who presents the token inside the window gets the same pair.
// Default and zero: off, a token is strictly single use.
func WithRetryWindow(d time.Duration) Option {
	return func(r *Renewer) error {
		if d < 0 {
			return fmt.Errorf("WithRetryWindow: %v is negative; leave the option out to turn it off", d)
		}
		r.retryWindow = d
		return nil
	}
}

// WithReuseLeeway keeps a session alive when the predecessor of its current
// token comes back within d of the renewal, from the same network (IPv4 address,
// IPv6 /64) and with the same user agent as the renewal: two tabs, a double
// click. The token is rejected all the same. Default: [DefaultReuseLeeway].
// Zero: off, every reuse ends the session.
//
// A commit may take 5 seconds. With less than twice that, a duplicate that
// arrives while the store is slow can end the session.
func WithReuseLeeway(d time.Duration) Option {
	return func(r *Renewer) error {
		if d < 0 {
			return fmt.Errorf("WithReuseLeeway: %v is negative; 0 turns it off", d)
		}
		r.reuseLeeway = d
		return nil
	}
}

// WithReuseRevocation says whether reuse ends the session (RFC 9700 section
// 4.14.2). Default: true. With false a used token is only rejected, and an
// [EventReused] is all that shows it.
func WithReuseRevocation(on bool) Option {
	return func(r *Renewer) error {
		r.reuseRevocation = on
		return nil
	}
}

// AheadPolicy says what becomes of a validly signed refresh token that is newer
// than its session in the store. The store has then lost a write: it was
// restored from a backup, or a failover lost what it had acknowledged.
type AheadPolicy int

// The policies.
const (
	// AheadFails returns [ErrAhead], an internal error. The token stays valid
	// until it expires, so that a store that lags for a moment costs no session.
	AheadFails AheadPolicy = iota

	// AheadRejected rejects the token, for [ReasonAhead]. The user logs in
	// again.
	AheadRejected

	// AheadAdopted continues the session from the presented token, which
	// becomes the predecessor of the new one. Of several such tokens one wins;
	// presenting another one afterwards is reuse. It is for stores whose
	// failover can lose acknowledged writes. A revocation or a use that was
	// lost stays lost: a token that was used in the lost moment renews again.
	AheadAdopted
)

// WithAhead sets the policy for tokens that are ahead of the store. Default:
// [AheadFails]. Each of the three reports an [EventAhead].
func WithAhead(policy AheadPolicy) Option {
	return func(r *Renewer) error {
		if policy < AheadFails || policy > AheadAdopted {
			return fmt.Errorf("WithAhead: unknown policy %d", policy)
		}
		r.ahead = policy
		return nil
	}
}

// WithRenewFunc calls f for every renewal, after every check and before signing:
// to read roles again, to ban an account, to bind a session to an IP address or
// a user agent. Default: none.
//
// An error that wraps [ErrDenied] rejects the token; any other error, and a
// panic, is an internal error. Both leave the presented token valid. f must be
// safe for concurrent use, and may be called twice in one renewal, if the session
// changed concurrently.
func WithRenewFunc(f func(ctx context.Context, rn *Renewal) error) Option {
	return func(r *Renewer) error {
		if f == nil {
			return errors.New("WithRenewFunc: the function is nil; leave the option out for none")
		}
		r.renewFunc = f
		return nil
	}
}

// WithEventFunc calls f for every event, for an audit log and for metrics.
// Default: none.
//
// f is called once what it reports is stored, and before the method returns, so
// that it must be quick. Its context has the values of the caller's and does not
// end with it: the client of a renewal that happened may be gone. f must be safe
// for concurrent use. A panic in it is logged with [slog.Default] and changes no
// result.
func WithEventFunc(f func(ctx context.Context, e Event)) Option {
	return func(r *Renewer) error {
		if f == nil {
			return errors.New("WithEventFunc: the function is nil; leave the option out for none")
		}
		r.eventFunc = f
		return nil
	}
}
