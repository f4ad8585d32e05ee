// Package renew renews JWT sessions with single-use refresh tokens. A
// short-lived, signed auth token is replaced, with a new refresh token, against a
// refresh token that is used up by one renewal.
//
// Use [New] to make a [Renewer] from a [KeyStore] and a [TokenStore]; package
// memstore has both, and [EnsureApp] creates an app. [Renewer.Issue] starts a
// session when a user logs in, [Renewer.Renew] renews it,
// [Renewer.VerifyAuthToken] verifies access in middleware, and [Renewer.Run]
// deletes what has expired. Package httpadapter serves the documented endpoint,
// POST /app/{app_id}/renew, and package storetest is a conformance suite for
// custom stores.
//
// The guarantees:
//
//   - Exactly one successor. However many requests, processes or machines
//     present one refresh token concurrently, one renewal happens.
//   - A lost response loses no session. A client that repeats its request, with
//     the same idempotency key or inside [WithRetryWindow], gets the same
//     successor: not a second one, and not a logout.
//   - Theft is detected. A used token that comes back ends its session, however
//     old it is and whether or not it has expired since.
//   - An owner is not punished. A duplicate of a request that comes from the same
//     client inside [WithReuseLeeway] is rejected and ends nothing, and so is a
//     request that another one has overtaken, however slow the store is.
//   - Cost does not grow. One record per session, one read and one conditional
//     write per renewal.
//   - Nothing in the store can be replayed. No token, no app key and no
//     idempotency key is stored.
//
// An [App] is a tenant, with its own lifetimes, app keys and signing keys. A
// replaced key still verifies, so existing sessions continue; revoking a key
// invalidates everything it signed.
//
// Tokens are JWTs in compact form (RFC 7519), both with the claims iss, iat,
// nbf, exp, jid (the token ID, one for the pair) and sid (the session ID). The
// refresh token adds "type":"refresh"; the auth token adds sub, aud, ip,
// useragent and the custom claims of [IssueRequest].
package renew

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Renewer issues, renews, verifies and revokes. It is safe for concurrent use,
// and holds no state in addition to its stores that another Renewer would need:
// any number of Renewers in any number of processes may share them.
type Renewer struct {
	keys            KeyStore
	tokens          TokenStore
	now             func() time.Time
	leeway          time.Duration
	retryWindow     time.Duration
	reuseLeeway     time.Duration
	reuseRevocation bool
	ahead           AheadPolicy
	renewFunc       func(context.Context, *Renewal) error // may be nil
	eventFunc       func(context.Context, Event)          // may be nil
	revocations     *reuseRevocations
}

// New returns a Renewer on these stores. It returns an error that says what to do
// for nil stores and invalid options.
func New(keys KeyStore, tokens TokenStore, opts ...Option) (*Renewer, error) {
	if isNil(keys) || isNil(tokens) {
		return nil, errors.New("renew.New: nil KeyStore or TokenStore; memstore.New returns one store that is both")
	}
	r := &Renewer{
		keys:            keys,
		tokens:          tokens,
		now:             time.Now,
		reuseLeeway:     DefaultReuseLeeway,
		reuseRevocation: true,
		revocations:     new(reuseRevocations),
	}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("renew.New: an option is nil")
		}
		if err := opt(r); err != nil {
			return nil, fmt.Errorf("renew.New: %w", err)
		}
	}
	return r, nil
}

// With returns a Renewer like r on another TokenStore, which must not be nil: one
// inside a database transaction of the caller's, so that a login or a revocation
// is stored together with the caller's rows or not at all. The events of its
// methods are reported when they return, and so before the transaction commits.
// Do not renew with it: a transaction that is rolled back would undo the revocation
// that follows a reuse, and a rotation whose new token the client has.
func (r *Renewer) With(tokens TokenStore) *Renewer {
	other := *r
	other.tokens = tokens
	return &other
}

// Renew uses up a refresh token and returns its successor.
//
// Errors: [*ValidationError]; [ErrAppNotFound]; [ErrInvalidRefreshToken], a
// [*TokenError] with the reason. Any other is an internal error, [ErrAhead] and
// [ErrClock] among them: the presented token is then as valid as it was, unless
// the store could not say whether it had done the rotation. A client that repeats
// the request with its idempotency key is safe in either case.
//
// A renewal that has reached its commit does not end with ctx, but after 5
// seconds. Renew does not check the app key: see [Renewer.AuthenticateApp].
func (r *Renewer) Renew(ctx context.Context, req RenewRequest) (*Bundle, error) {
	rn := &renewal{Renewer: r, req: req, arrived: r.time(), token: &token{}}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	rn.req.IP, rn.req.UserAgent = canonicalIP(req.IP), cleanUserAgent(req.UserAgent)
	app, t, err := r.parse(ctx, req.AppID, req.RefreshToken, refreshKind)
	if err != nil {
		rn.rejected(ctx, err)
		return nil, err
	}
	rn.app, rn.token = app, t
	rn.session = Session{AppID: app.ID, ID: t.sessionID}
	b, err := rn.run(ctx)
	if err != nil {
		rn.rejected(ctx, err)
		return nil, sessionError(rn.session, t.tokenID, err)
	}
	return b, nil
}

// renewal is one call of Renew.
type renewal struct {
	*Renewer
	app     App
	req     RenewRequest // its IP and user agent as they are stored
	arrived time.Time
	token   *token  // empty until it is known to be genuine
	session Session // as last read; before that, only what the token says

	// overtaken means that the token was usable while this request was under
	// way, and that another request was faster: this is not reuse.
	overtaken bool
}

// errChanged means that the session changed between its read and the commit.
var errChanged = errors.New("the session changed while it was being renewed")

// run attempts the renewal, and once more if the session changed in between.
func (rn *renewal) run(ctx context.Context) (*Bundle, error) {
	if rn.token.issuedAt.After(rn.time().Add(rn.clockTolerance())) {
		return nil, fmt.Errorf("the refresh token: %w", ErrClock)
	}
	b, err := rn.attempt(ctx)
	if errors.Is(err, errChanged) {
		rn.overtaken = true
		b, err = rn.attempt(ctx)
	}
	return b, err
}

// attempt takes the session from its read to its commit.
func (rn *renewal) attempt(ctx context.Context) (*Bundle, error) {
	s, err := rn.readSession(ctx, rn.app.ID, rn.token.sessionID)
	now := rn.time()
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return nil, refreshKind.reject(ReasonUnknownSession, "")
	case err != nil:
		return nil, fmt.Errorf("read session: %w", err)
	case s.IssuedAt.After(now.Add(rn.clockTolerance())):
		return nil, fmt.Errorf("the stored session: %w", ErrClock)
	case s.IssuedAt.After(rn.arrived) && !s.IssuedAt.After(now):
		rn.overtaken = true // while the read was slow
	}
	rn.session = s
	verdict, err := rn.judge()
	switch {
	case isReuse(err):
		return nil, rn.revokeReused(ctx, err)
	case err != nil:
		return nil, err
	}
	claims, err := rn.runRenewFunc(ctx, verdict == retry)
	if err != nil {
		return nil, err
	}
	if verdict == retry {
		return rn.retry(ctx)
	}
	return rn.rotate(ctx, verdict, claims)
}

// verdict is what becomes of a refresh token that is not rejected.
type verdict int

const (
	rotate verdict = iota // the current token: a new pair takes its place
	retry                 // the predecessor: its successor is given again
	adopt                 // ahead of the store: the session continues from it
)

// judge says what the presented token is to the session. Its cases are the rows of
// the table in docs/architecture.md, in their order.
func (rn *renewal) judge() (verdict, error) {
	t, s, now := rn.token, rn.session, rn.arrived
	var (
		current     = t.tokenID == s.TokenID
		predecessor = t.tokenID == s.PreviousTokenID
		ahead       = t.tokenID > s.TokenID // judged by its times as the current one

		// Clocks differ by up to the leeway. A window of zero is off, even at an
		// age of zero.
		age           = max(0, now.Sub(s.IssuedAt)-rn.leeway)
		inRetryWindow = rn.retryWindow > 0 && age <= rn.retryWindow
		inReuseLeeway = rn.reuseLeeway > 0 && age <= rn.reuseLeeway

		sameKey = s.matchesIdempotencyKey(rn.req.IdempotencyKey)
		isRetry = predecessor && (sameKey || inRetryWindow && len(s.IdempotencyKeyHash) == 0)
	)
	reject := func(reason Reason, detail string) (verdict, error) { return 0, t.kind.reject(reason, detail) }
	switch {
	case !s.RevokedAt.IsZero():
		return reject(ReasonRevokedSession, "")
	case s.pastEnd(now):
		return reject(ReasonEndedSession, "")

	case (current || ahead) && t.tooEarly(now, rn.leeway):
		return reject(ReasonTooEarly, "")
	case (current || ahead) && t.expired(now, rn.leeway):
		return reject(ReasonExpired, "")
	case (current || ahead) && sameKey:
		return 0, &ValidationError{Fields: []FieldError{{
			Field: fieldIdempotencyKey, Message: "was used for another refresh token: draw a new one for each",
		}}}
	case current:
		return rotate, nil

	case isRetry && !now.Before(s.RefreshExpiresAt.Add(rn.leeway)):
		return reject(ReasonExpired, "and so is its successor")
	case isRetry:
		return retry, nil
	case !ahead && rn.overtaken:
		return reject(ReasonSuperseded, "")
	case predecessor && inReuseLeeway && rn.fromSameClient():
		return reject(ReasonSuperseded, "")
	case !ahead:
		return reject(ReasonReused, "")

	case rn.ahead == AheadAdopted:
		return adopt, nil
	case rn.ahead == AheadRejected:
		return reject(ReasonAhead, "")
	}
	return 0, ErrAhead
}

// fromSameClient reports whether the request describes the client that made the
// last renewal.
func (rn *renewal) fromSameClient() bool {
	return rn.req.UserAgent == rn.session.UserAgent && sameNetwork(rn.req.IP, rn.session.IP)
}

func isReuse(err error) bool {
	var rejected *TokenError
	return errors.As(err, &rejected) && rejected.Reason == ReasonReused
}

// runRenewFunc calls the WithRenewFunc function, and returns the custom claims of
// the renewed session.
func (rn *renewal) runRenewFunc(ctx context.Context, isRetry bool) (json.RawMessage, error) {
	if rn.renewFunc == nil {
		return rn.session.Claims, nil
	}
	claims, err := decodeClaims(rn.session.Claims)
	if err != nil {
		return nil, fmt.Errorf("stored session: %w", err)
	}
	view := &Renewal{App: rn.app.Clone(), Session: rn.session.Clone(), Request: rn.req, Retry: isRetry, Claims: claims}
	switch err := callRenewFunc(ctx, rn.renewFunc, view); {
	case errors.Is(err, ErrDenied):
		rejection := refreshKind.reject(ReasonDenied, "")
		rejection.Err = &hookError{err}
		return nil, rejection
	case err != nil:
		return nil, fmt.Errorf("renew func: %w", &hookError{err})
	case isRetry:
		return nil, nil
	}
	encoded, err := encodeClaims(view.Claims)
	if err != nil {
		return nil, fmt.Errorf("renew func: %w", err)
	}
	return encoded, nil
}

// callRenewFunc turns a panic into an error: it must not look like a denial.
func callRenewFunc(ctx context.Context, f func(context.Context, *Renewal) error, view *Renewal) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v", p)
		}
	}()
	return f(ctx, view)
}

// retry gives the successor again, signed with the active key.
func (rn *renewal) retry(ctx context.Context) (*Bundle, error) {
	b, err := rn.mint(ctx, rn.app, rn.session)
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := lasting(ctx, commitTimeout)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := rn.confirm(ctx, rn.session); err != nil {
		return nil, err
	}
	b.Retried = true
	e := sessionEvent(EventRetried, rn.session)
	e.IP, e.UserAgent = rn.req.IP, rn.req.UserAgent // who has the pair now, too
	rn.report(ctx, e)
	return b, nil
}

// rotate puts the next pair in the place of the current one.
func (rn *renewal) rotate(ctx context.Context, v verdict, claims json.RawMessage) (*Bundle, error) {
	next := rn.session
	next.Claims = claims
	next.IP, next.UserAgent = rn.req.IP, rn.req.UserAgent
	next.IdempotencyKeyHash = hashIdempotencyKey(rn.req.IdempotencyKey)
	next.Generation++
	next.EndsAt = rn.app.capEnd(next.CreatedAt, next.EndsAt)
	if err := next.advance(rn.app, rn.time(), rn.token.tokenID); err != nil {
		return nil, err
	}
	if !rn.app.authNotBefore(next).Before(rn.app.authExpiresAt(next)) {
		return nil, refreshKind.reject(ReasonEndedSession, "no auth token would be valid before the session's end")
	}
	b, err := rn.mint(ctx, rn.app, next)
	if err != nil {
		return nil, err
	}
	if err := rn.commit(ctx, rn.session.TokenID, next); err != nil {
		return nil, err
	}
	if v == adopt {
		rn.report(ctx, rn.requestEvent(EventAhead, ""))
	}
	rn.report(ctx, sessionEvent(EventRenewed, next))
	return b, nil
}

// commitTimeout bounds a commit, which does not end with the request. It is half
// of the default reuse leeway, so that a duplicate that arrives while a commit is
// slow is inside it.
const commitTimeout = DefaultReuseLeeway / 2

// lasting returns a context for a write that must not be left half done. It looks
// at ctx once more; from then on only the timeout counts.
func lasting(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	return ctx, cancel, nil
}

// commit replaces the session at the token ID from by next. An error of the store
// says little: a driver that repeats a statement reports a conflict with its own
// write, and a write may happen after its connection was cut. So the session is
// read; no other request writes next's token ID. If the rotation has not happened,
// it is repeated once, which queues behind a write that is still under way.
func (rn *renewal) commit(ctx context.Context, from string, next Session) error {
	ctx, cancel, err := lasting(ctx, commitTimeout)
	if err != nil {
		return err
	}
	defer cancel()
	err = rn.tokens.Rotate(ctx, from, next)
	for repeated := false; err != nil; repeated = true {
		s, readErr := rn.readSession(ctx, next.AppID, next.ID)
		switch {
		case errors.Is(readErr, ErrSessionNotFound):
			return errChanged
		case readErr != nil:
			return fmt.Errorf("rotate session: %w; whether it happened is unknown: %w", err, readErr)
		case s.TokenID == next.TokenID && s.RevokedAt.IsZero():
			return rn.confirm(ctx, s)
		case s.TokenID == next.TokenID:
			return refreshKind.reject(ReasonRevokedSession, "")
		case isChange(err):
			return errChanged
		case repeated:
			return fmt.Errorf("rotate session: whether it happens is unknown: %w", err)
		}
		err = rn.tokens.Rotate(ctx, from, next)
	}
	return nil
}

// confirm writes a session once more as it was read. What was read may not be
// durable yet: a database that waits for its standby shows a commit before the
// standby has it, and a failover takes it back.
func (rn *renewal) confirm(ctx context.Context, s Session) error {
	err := rn.tokens.Rotate(ctx, s.TokenID, s)
	switch {
	case isChange(err):
		return errChanged
	case err != nil:
		return fmt.Errorf("confirm session: whether the renewal lasts is unknown: %w", err)
	}
	return nil
}

// isChange reports whether a rotation found another session than it started from.
func isChange(err error) bool {
	return errors.Is(err, ErrConflict) || errors.Is(err, ErrSessionNotFound)
}

// advance puts a new pair in the place of the session's current one, whose token
// the predecessor is. Its times are whole seconds except IssuedAt, which ages are
// counted from.
func (s *Session) advance(app App, now time.Time, predecessor string) error {
	id, err := newULID(now, predecessor)
	if err != nil {
		return err
	}
	issuedAt := now.Truncate(time.Second)
	s.PreviousTokenID, s.TokenID = predecessor, id
	s.IssuedAt = now
	s.RefreshNotBefore = issuedAt.Add(app.RefreshNotBefore)
	s.RefreshExpiresAt = capAt(issuedAt.Add(app.refreshTTL()), s.EndsAt)
	return nil
}

// rejected reports a rejection. Reuse is reported where it is found; an internal
// error is for its error log, except a store that is behind.
func (rn *renewal) rejected(ctx context.Context, err error) {
	var rejected *TokenError
	switch {
	case errors.Is(err, ErrAhead):
		rn.report(ctx, rn.requestEvent(EventAhead, ""))
	case !errors.As(err, &rejected), rejected.Reason == ReasonReused:
	case rejected.Reason == ReasonAhead:
		rn.report(ctx, rn.requestEvent(EventAhead, ReasonAhead))
	default:
		rn.report(ctx, rn.requestEvent(EventRejected, rejected.Reason))
	}
}

// time is now as sessions keep it.
func (r *Renewer) time() time.Time { return r.now().UTC().Truncate(time.Millisecond) }

// clockTolerance is by how much other servers' clocks may be ahead of this one.
func (r *Renewer) clockTolerance() time.Duration { return r.leeway + time.Minute }

// isNil reports whether v is nil, or an interface that holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	value := reflect.ValueOf(v)
	return value.Kind() == reflect.Pointer && value.IsNil()
}
