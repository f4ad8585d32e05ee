// Package renew keeps the users of an API signed in. A short-lived, signed auth
// token is replaced, with a new refresh token, against a refresh token that is
// good for one renewal.
//
// Use [New] to make a [Renewer] from a [KeyStore] and a [TokenStore]; package
// memstore has both. [Renewer.Issue] starts a session when a user logs in,
// [Renewer.Renew] renews it, [Renewer.VerifyAuthToken] is for the API's
// middleware. Package httpadapter serves the documented endpoint,
// POST /app/{app_id}/renew, and package storetest proves a store of your own.
//
// What it promises:
//
//   - Exactly one successor. However many requests, processes or machines
//     present one refresh token at once, one renewal happens.
//   - A lost answer loses no session. A client that repeats its request, with
//     the same idempotency key or inside [WithRetryWindow], gets the same
//     successor: not a second one, and not a logout.
//   - Theft shows. A used token that comes back ends its whole session.
//   - Cost does not grow. One record per session, one read and one conditional
//     write per renewal.
//   - Nothing in the store can be replayed. No token and no app key is stored.
//
// An [App] is a tenant, with lifetimes, app keys and signing keys of its own. A
// key that is replaced goes on verifying, so that the sessions of its time go
// on; a key that is revoked takes what it signed along.
//
// Tokens are JWTs in compact form (RFC 7519), both with the claims iss, iat,
// nbf, exp, jid (the token ID, one for the pair) and sid (the session ID). The
// refresh token adds "type":"refresh"; the auth token adds sub, aud, ip,
// useragent and the custom claims of [IssueRequest].
package renew

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// DefaultReuseLeeway is the leeway of a Renewer made without [WithReuseLeeway].
const DefaultReuseLeeway = 10 * time.Second

// Renewer issues, renews, verifies and revokes. It is safe for concurrent use,
// and holds no state besides its stores: any number of Renewers in any number
// of processes may share them.
type Renewer struct {
	keys            KeyStore
	tokens          TokenStore
	now             func() time.Time
	leeway          time.Duration
	retryWindow     time.Duration
	reuseLeeway     time.Duration
	reuseRevocation bool
	renewFunc       func(context.Context, *Renewal) error // may be nil
	eventFunc       func(context.Context, Event)
}

// Option changes a Renewer from its defaults.
type Option func(*Renewer) error

// New returns a Renewer on these stores. It refuses nil stores and options that
// make no sense, with an error that says what to do.
func New(keys KeyStore, tokens TokenStore, opts ...Option) (*Renewer, error) {
	if isNil(keys) || isNil(tokens) {
		return nil, errors.New("renew.New: it needs a KeyStore and a TokenStore, such as one from memstore.New for both")
	}
	r := &Renewer{
		keys:            keys,
		tokens:          tokens,
		now:             time.Now,
		reuseLeeway:     DefaultReuseLeeway,
		reuseRevocation: true,
		eventFunc:       func(context.Context, Event) {},
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

// WithLeeway tolerates a difference between clocks: a token is taken as early as
// d before its nbf and until d after its exp. Default and zero: none. It must
// be below [DefaultAuthTTL], and below both lifetimes of every app; seconds are
// enough for machines that keep time.
func WithLeeway(d time.Duration) Option {
	return func(r *Renewer) error {
		if d < 0 || d >= DefaultAuthTTL {
			return fmt.Errorf("WithLeeway: %v is not from 0 to below %v; it is for the seconds that clocks differ by", d, DefaultAuthTTL)
		}
		r.leeway = d
		return nil
	}
}

// WithRetryWindow lets whoever presents the token before the current one, within
// d of its renewal, have the answer of that renewal again, as long as nobody
// has renewed the successor. It helps clients that repeat a request and send no
// idempotency key; a thief who is that quick gets the same pair. Default and
// zero: off, a token is strictly single use.
func WithRetryWindow(d time.Duration) Option {
	return func(r *Renewer) error {
		if d < 0 {
			return fmt.Errorf("WithRetryWindow: %v is negative; leave the option out to turn it off", d)
		}
		r.retryWindow = d
		return nil
	}
}

// WithReuseLeeway keeps a session alive when a used token of it comes back within
// d of the last renewal: two tabs, a double click, a request that the network
// held back. The token is refused all the same. Default: [DefaultReuseLeeway].
// Zero: every reuse ends the session.
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
// 4.14.2). Default: true. With false a used token is only refused, and an
// [EventReused] is all that shows it.
func WithReuseRevocation(on bool) Option {
	return func(r *Renewer) error {
		r.reuseRevocation = on
		return nil
	}
}

// WithRenewFunc has f decide on every renewal, after every check and before
// signing: the place to read roles again, to ban an account, to bind a session
// to an IP address or a user agent. Default: none.
//
// An error that wraps [ErrDenied] refuses the token; any other is the server's
// fault. Both leave the presented token as it was. f must be safe for
// concurrent use, and may be called again for one renewal whose session changed
// meanwhile.
func WithRenewFunc(f func(ctx context.Context, rn *Renewal) error) Option {
	return func(r *Renewer) error {
		if f == nil {
			return errors.New("WithRenewFunc: the function is nil; leave the option out for none")
		}
		r.renewFunc = f
		return nil
	}
}

// WithEventFunc has f told what happened, for an audit log and for metrics.
// Default: none. f is called before the method returns: it must be quick, and
// safe for concurrent use.
func WithEventFunc(f func(ctx context.Context, e Event)) Option {
	return func(r *Renewer) error {
		if f == nil {
			return errors.New("WithEventFunc: the function is nil; leave the option out for none")
		}
		r.eventFunc = f
		return nil
	}
}

// Renewal is a renewal that is about to happen, for [WithRenewFunc]. What it
// holds is the function's own; only changes to Claims have an effect.
type Renewal struct {
	App     App
	Session Session // as it stands, before the renewal
	Request RenewRequest
	Retry   bool // the successor exists already and stays as it is: changes are dropped

	// Claims are the session's custom claims, numbers as json.Number. What it
	// holds afterwards is in the new auth token and in those of later renewals.
	// It is never nil. A reserved name is an error, as in [Renewer.Issue].
	Claims map[string]any
}

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventIssued   EventKind = "issued"
	EventRenewed  EventKind = "renewed"
	EventRetried  EventKind = "retried"  // an earlier renewal's answer was given again
	EventRejected EventKind = "rejected" // a refresh token was refused, for another reason than reuse
	EventReused   EventKind = "reused"   // a used refresh token came back: a copy of it is about
	EventAhead    EventKind = "ahead"    // the store has lost a write: see ErrAhead
	EventRevoked  EventKind = "revoked"  // a session, or all of a subject where SessionID is empty
)

// Event is something that happened, for [WithEventFunc]. It never holds a token,
// an app key or a custom claim. Fields that are not known are empty: until a
// refresh token's signature is verified, only the app and the client are.
type Event struct {
	Kind          EventKind
	Time          time.Time
	AppID         string
	SessionID     string
	TokenID       string // the new one of a renewal, otherwise the presented one
	Subject       string
	Reason        Reason // of a rejection, and of a revocation for reuse
	IP, UserAgent string
}

// IssueRequest starts a session.
type IssueRequest struct {
	AppID     string
	Subject   string         // who logs in: 1 to 255 bytes of UTF-8 without control characters
	Audience  []string       // one entry becomes a JSON string, several an array, none no claim
	IP        string         // an IPv4 or IPv6 address without zone or port
	UserAgent string         // 1 to 1,024 bytes of UTF-8 without control characters
	Claims    map[string]any // custom claims, at most 16 KiB of JSON; a reserved name is an error
}

// RenewRequest asks for a renewal.
type RenewRequest struct {
	AppID          string
	RefreshToken   string
	IP             string // of the client, as in IssueRequest
	UserAgent      string
	IdempotencyKey string // optional; 16 to 255 visible ASCII characters, the same when a request is repeated
}

// Limits of a request's fields, in bytes.
const (
	maxUserAgentBytes   = 1024
	minIdempotencyBytes = 16
	maxIdempotencyBytes = 255
)

// Issue starts a session, when a user has logged in, and returns its first pair.
//
// Errors: [*ValidationError], [ErrAppNotFound]; any other is the server's fault,
// and no session is left that anybody has a token of.
func (r *Renewer) Issue(ctx context.Context, req IssueRequest) (*Bundle, error) {
	claims, err := req.check()
	if err != nil {
		return nil, err
	}
	app, err := r.app(ctx, req.AppID)
	if err != nil {
		return nil, err
	}
	now := r.time()
	s := Session{
		AppID:     app.ID,
		Subject:   req.Subject,
		Audience:  slices.Clone(req.Audience),
		Claims:    claims,
		CreatedAt: now,
		IP:        req.IP,
		UserAgent: req.UserAgent,
	}
	if app.SessionTTL > 0 {
		s.EndsAt = now.Truncate(time.Second).Add(app.SessionTTL)
	}
	if s.ID, err = newULID(now, ""); err != nil {
		return nil, err
	}
	if err := s.advance(app, now); err != nil {
		return nil, err
	}
	b, err := r.mint(ctx, app, s)
	if err != nil {
		return nil, err
	}
	if err := r.tokens.CreateSession(ctx, s); err != nil {
		return nil, sessionError(s, s.TokenID, fmt.Errorf("create session: %w", err))
	}
	r.event(ctx, EventIssued, s)
	return b, nil
}

// Renew spends a refresh token and returns the pair that takes its place.
//
// Errors: [*ValidationError]; [ErrAppNotFound]; [ErrInvalidRefreshToken], a
// [*TokenError] with the reason. Any other is the server's fault, [ErrAhead]
// among them: the presented token is then as good as it was, unless the store
// could not say whether it had done the rotation. A client that repeats the
// request with its idempotency key is safe in either case.
//
// Renew does not ask for the app key: see [Renewer.AuthenticateApp].
func (r *Renewer) Renew(ctx context.Context, req RenewRequest) (*Bundle, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	app, err := r.app(ctx, req.AppID)
	if err != nil {
		return nil, err
	}
	rn := &renewal{Renewer: r, app: app, req: req, token: &token{}}
	t, err := r.parse(ctx, app, req.RefreshToken, refreshKind)
	if err != nil {
		rn.rejected(ctx, err)
		return nil, err
	}
	rn.token = t
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
	req     RenewRequest
	token   *token  // empty until it is known to be genuine
	session Session // as last read; before that, only what the token says
}

// errChanged: the session changed between its read and the rotation.
var errChanged = errors.New("the session changed while it was being renewed")

// run attempts the renewal, and once more if another one came in between. That
// one decides what the presented token is now.
func (rn *renewal) run(ctx context.Context) (*Bundle, error) {
	if rn.token.tooEarly(rn.time(), rn.leeway) {
		return nil, refreshKind.refuse(ReasonTooEarly, "")
	}
	b, err := rn.attempt(ctx)
	if errors.Is(err, errChanged) {
		b, err = rn.attempt(ctx)
	}
	return b, err
}

// attempt takes the session from its read to its rotation.
func (rn *renewal) attempt(ctx context.Context) (*Bundle, error) {
	s, err := rn.read(ctx, rn.token)
	if err != nil {
		return nil, err
	}
	rn.session = s
	now := rn.time()
	retry, err := rn.judge(now)
	if isReuse(err) {
		return nil, rn.endReused(ctx, now, err)
	}
	if err != nil {
		return nil, err
	}
	claims, err := rn.decide(ctx, retry)
	if err != nil {
		return nil, err
	}
	if retry {
		return rn.repeat(ctx)
	}
	next := s
	next.Claims = claims
	next.IP, next.UserAgent = rn.req.IP, rn.req.UserAgent
	next.RetryProof = proof(rn.req.IdempotencyKey)
	next.Generation++
	if err := next.advance(rn.app, now); err != nil {
		return nil, err
	}
	return rn.rotate(ctx, next)
}

// read reads the session of a genuine token.
func (r *Renewer) read(ctx context.Context, t *token) (Session, error) {
	s, err := r.tokens.Session(ctx, t.appID, t.sessionID)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return Session{}, t.kind.refuse(ReasonUnknownSession, "")
	case err != nil:
		return Session{}, fmt.Errorf("read session: %w", err)
	case s.AppID != t.appID || s.ID != t.sessionID:
		return Session{}, errors.New("read session: the token store returned another session than asked for")
	}
	return s, nil
}

// checkAlive refuses the token if its session was revoked or is over.
func (t *token) checkAlive(s Session, now time.Time) error {
	switch {
	case !s.RevokedAt.IsZero():
		return t.kind.refuse(ReasonRevokedSession, "")
	case s.ended(now):
		return t.kind.refuse(ReasonEndedSession, "")
	}
	return nil
}

// judge says what the presented token is to the session: its current one, one to
// answer again, or one to refuse.
func (rn *renewal) judge(now time.Time) (retry bool, err error) {
	t, s := rn.token, rn.session
	if err := t.checkAlive(s, now); err != nil {
		return false, err
	}
	age := max(0, now.Sub(s.IssuedAt)) // clocks step back, and differ between servers
	// A window or leeway of zero is off, even at an age of zero.
	inWindow := rn.retryWindow > 0 && age <= rn.retryWindow
	inLeeway := rn.reuseLeeway > 0 && age <= rn.reuseLeeway
	isPrevious := t.tokenID == s.PreviousTokenID
	switch expired := t.expired(now, rn.leeway); {
	case t.tokenID == s.TokenID && !expired:
		return false, nil
	case isPrevious && (inWindow || s.isProvedBy(rn.req.IdempotencyKey)):
		if !now.Before(s.ExpiresAt.Add(rn.leeway)) {
			return false, t.kind.refuse(ReasonExpired, "and so is its successor")
		}
		return true, nil
	case expired:
		return false, t.kind.refuse(ReasonExpired, "")
	case t.tokenID > s.TokenID:
		return false, ErrAhead
	case inLeeway:
		return false, t.kind.refuse(ReasonSuperseded, "")
	}
	return false, t.kind.refuse(ReasonReused, "")
}

func isReuse(err error) bool {
	var refused *TokenError
	return errors.As(err, &refused) && refused.Reason == ReasonReused
}

// revocationTimeout bounds a revocation for reuse. It does not end with the
// request, or a thief could prevent it by hanging up.
const revocationTimeout = 10 * time.Second

// endReused revokes the session of a token that was used before, and returns the
// refusal, or what kept the session from being revoked.
func (rn *renewal) endReused(ctx context.Context, now time.Time, refusal error) error {
	e := rn.requestEvent(EventReused)
	e.Reason = ReasonReused
	rn.report(ctx, e)
	if !rn.reuseRevocation {
		return refusal
	}
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), revocationTimeout)
	defer cancel()
	err := rn.tokens.RevokeSession(lasting, rn.session.AppID, rn.session.ID, now)
	if err != nil && !errors.Is(err, ErrSessionNotFound) {
		return fmt.Errorf("revoke session for reuse: %w", err)
	}
	e.Kind = EventRevoked
	rn.report(ctx, e)
	return refusal
}

// decide asks the WithRenewFunc function, and returns the custom claims of the
// renewed session.
func (rn *renewal) decide(ctx context.Context, retry bool) (json.RawMessage, error) {
	if rn.renewFunc == nil {
		return rn.session.Claims, nil
	}
	claims, err := decodeClaims(rn.session.Claims)
	if err != nil {
		return nil, fmt.Errorf("stored session: %w", err)
	}
	app := rn.app
	app.KeyHashes = slices.Clone(app.KeyHashes)
	view := &Renewal{App: app, Session: rn.session.Clone(), Request: rn.req, Retry: retry, Claims: claims}
	switch err := rn.renewFunc(ctx, view); {
	case errors.Is(err, ErrDenied):
		refusal := refreshKind.refuse(ReasonDenied, "")
		refusal.Err = &hookError{err}
		return nil, refusal
	case err != nil:
		return nil, fmt.Errorf("renew func: %w", &hookError{err})
	case retry:
		return nil, nil
	}
	encoded, err := encodeClaims(view.Claims)
	if err != nil {
		return nil, fmt.Errorf("renew func: %w", err)
	}
	return encoded, nil
}

// repeat answers as the renewal before did.
func (rn *renewal) repeat(ctx context.Context) (*Bundle, error) {
	b, err := rn.mint(ctx, rn.app, rn.session)
	if err != nil {
		return nil, err
	}
	b.Retried = true
	rn.event(ctx, EventRetried, rn.session)
	return b, nil
}

// rotate signs the next pair and puts it in the place of the presented one.
func (rn *renewal) rotate(ctx context.Context, next Session) (*Bundle, error) {
	b, err := rn.mint(ctx, rn.app, next)
	if err != nil {
		return nil, err
	}
	err = rn.tokens.Rotate(ctx, rn.token.tokenID, next)
	switch {
	case errors.Is(err, ErrConflict), errors.Is(err, ErrSessionNotFound):
		return nil, errChanged
	case err != nil:
		if err := rn.settle(ctx, next, err); err != nil {
			return nil, err
		}
	}
	rn.event(ctx, EventRenewed, next)
	return b, nil
}

// settle finds out whether a rotation happened that the store gave an unclear
// answer to. Nobody else has written next's token ID.
func (rn *renewal) settle(ctx context.Context, next Session, unclear error) error {
	s, err := rn.tokens.Session(ctx, next.AppID, next.ID)
	if err != nil {
		return fmt.Errorf("rotate session: %w; whether it happened is unknown: %w", unclear, err)
	}
	if s.TokenID != next.TokenID {
		return fmt.Errorf("rotate session: %w", unclear)
	}
	return nil
}

// advance puts a new pair in place of the session's current one. Its times are
// whole seconds but IssuedAt, which retries and reuse are judged by.
func (s *Session) advance(app App, now time.Time) error {
	id, err := newULID(now, s.TokenID)
	if err != nil {
		return err
	}
	issuedAt := now.Truncate(time.Second)
	s.PreviousTokenID, s.TokenID = s.TokenID, id
	s.IssuedAt = now
	s.NotBefore = issuedAt.Add(app.RefreshNotBefore)
	s.ExpiresAt = capAt(issuedAt.Add(app.refreshTTL()), s.EndsAt)
	return nil
}

// proof returns what a session keeps of an idempotency key.
func proof(idempotencyKey string) []byte {
	if idempotencyKey == "" {
		return nil
	}
	hash := sha256.Sum256([]byte(idempotencyKey))
	return hash[:]
}

// isProvedBy reports whether the last renewal was made with this idempotency
// key.
func (s Session) isProvedBy(idempotencyKey string) bool {
	return idempotencyKey != "" && subtle.ConstantTimeCompare(s.RetryProof, proof(idempotencyKey)) == 1
}

// mint signs the session's current pair with the app's active key.
func (r *Renewer) mint(ctx context.Context, app App, s Session) (*Bundle, error) {
	key, err := r.keys.SigningKey(ctx, app.ID)
	if err != nil {
		return nil, fmt.Errorf("app %q: read signing key: %w", app.ID, err)
	}
	if key == nil {
		return nil, fmt.Errorf("app %q: the key store returned no signing key", app.ID)
	}
	return mint(ctx, app, key, s)
}

// AuthenticateApp checks the app key that a caller has sent.
//
// Errors: [ErrAppNotFound], [ErrInvalidAppKey]; any other is the server's fault.
// A service answers the first two alike, or callers learn which apps exist.
func (r *Renewer) AuthenticateApp(ctx context.Context, appID, appKey string) error {
	app, err := r.app(ctx, appID)
	held := app.holds(appKey) // of an unknown app too, or that would be the quicker answer
	if err != nil {
		return err
	}
	if !held {
		return ErrInvalidAppKey
	}
	return nil
}

// VerifyAuthToken returns what an auth token says, if a key of the app that is
// good today has signed it and now is between its nbf and its exp. It asks the
// KeyStore only: a session that was revoked since shows in [Renewer.VerifySession].
//
// Whom the token is for is the caller's to check: compare the Audience with the
// name of the service, if the app has several (RFC 8725 section 3.9).
//
// Errors: [ErrAppNotFound]; [ErrInvalidAuthToken], a [*TokenError] with the
// reason; any other is the server's fault.
func (r *Renewer) VerifyAuthToken(ctx context.Context, appID, token string) (*AuthClaims, error) {
	_, claims, err := r.verify(ctx, appID, token)
	return claims, err
}

// VerifySession is [Renewer.VerifyAuthToken] and asks the TokenStore whether the
// session is alive: one read per call, for what must not wait until a token
// expires. Errors are the same.
func (r *Renewer) VerifySession(ctx context.Context, appID, token string) (*AuthClaims, error) {
	t, claims, err := r.verify(ctx, appID, token)
	if err != nil {
		return nil, err
	}
	s, err := r.read(ctx, t)
	now := r.time()
	if err == nil {
		err = t.checkAlive(s, now)
	}
	if err == nil && !s.Live(now.Add(-r.leeway)) {
		err = t.kind.refuse(ReasonEndedSession, "its refresh token has expired")
	}
	if err != nil {
		return nil, sessionError(Session{AppID: t.appID, ID: t.sessionID}, t.tokenID, err)
	}
	return claims, nil
}

func (r *Renewer) verify(ctx context.Context, appID, compact string) (*token, *AuthClaims, error) {
	app, err := r.app(ctx, appID)
	if err != nil {
		return nil, nil, err
	}
	t, err := r.parse(ctx, app, compact, authKind)
	if err != nil {
		return nil, nil, err
	}
	switch now := r.time(); {
	case t.tooEarly(now, r.leeway):
		return nil, nil, t.kind.refuse(ReasonTooEarly, "")
	case t.expired(now, r.leeway):
		return nil, nil, t.kind.refuse(ReasonExpired, "")
	}
	claims, err := t.authClaims(app.Issuer)
	if err != nil {
		return nil, nil, err
	}
	return t, claims, nil
}

// Revoke ends the session of a token, of either kind: a logout. A token that is
// used, expired or not yet valid will do, as long as a key that is good today
// has signed it: to hold it is to have been logged in. A session that is revoked
// already, or gone, is no error.
//
// Errors: [ErrAppNotFound]; [ErrInvalidToken], a [*TokenError] with the reason;
// any other is the server's fault. An endpoint of RFC 7009 answers an invalid
// token as it does a revoked one (section 2.2).
func (r *Renewer) Revoke(ctx context.Context, appID, token string) error {
	app, err := r.app(ctx, appID)
	if err != nil {
		return err
	}
	t, err := r.parse(ctx, app, token, eitherKind)
	if err != nil {
		return err
	}
	err = r.tokens.RevokeSession(ctx, app.ID, t.sessionID, r.time())
	if errors.Is(err, ErrSessionNotFound) {
		return nil
	}
	if err != nil {
		return sessionError(Session{AppID: app.ID, ID: t.sessionID}, t.tokenID, fmt.Errorf("revoke session: %w", err))
	}
	r.report(ctx, Event{Kind: EventRevoked, AppID: app.ID, SessionID: t.sessionID, TokenID: t.tokenID})
	return nil
}

// RevokeSession ends a session by its ID. On a revoked one it is nil.
//
// Errors: [ErrSessionNotFound]; any other is the server's fault.
func (r *Renewer) RevokeSession(ctx context.Context, appID, sessionID string) error {
	if checkText(appID, maxNameBytes) != "" || !isCanonicalULID(sessionID) { // no store can have it
		return ErrSessionNotFound
	}
	if err := r.tokens.RevokeSession(ctx, appID, sessionID, r.time()); err != nil {
		return sessionError(Session{AppID: appID, ID: sessionID}, "", fmt.Errorf("revoke session: %w", err))
	}
	r.report(ctx, Event{Kind: EventRevoked, AppID: appID, SessionID: sessionID})
	return nil
}

// RevokeSubject ends all sessions of a subject, as after a change of password,
// and returns how many it ended. A login at the same moment may be missed.
//
// Errors: [errors.ErrUnsupported], if the TokenStore is no [SubjectStore]; any
// other is the server's fault.
func (r *Renewer) RevokeSubject(ctx context.Context, appID, subject string) (int, error) {
	store, ok := r.tokens.(SubjectStore)
	if !ok {
		return 0, fmt.Errorf("revoke subject: the token store is no SubjectStore: %w", errors.ErrUnsupported)
	}
	if checkText(appID, maxNameBytes) != "" || checkText(subject, maxNameBytes) != "" { // no store can have them
		return 0, nil
	}
	n, err := store.RevokeSubject(ctx, appID, subject, r.time())
	if err != nil {
		return n, fmt.Errorf("app %q: revoke subject: %w", appID, err)
	}
	r.report(ctx, Event{Kind: EventRevoked, AppID: appID, Subject: subject})
	return n, nil
}

// Sessions returns the live sessions of a subject, the newest login first: the
// list of a user's devices. A subject without any is an empty list.
//
// Errors: [errors.ErrUnsupported], if the TokenStore is no [SubjectStore]; any
// other is the server's fault.
func (r *Renewer) Sessions(ctx context.Context, appID, subject string) ([]Session, error) {
	store, ok := r.tokens.(SubjectStore)
	if !ok {
		return nil, fmt.Errorf("sessions: the token store is no SubjectStore: %w", errors.ErrUnsupported)
	}
	if checkText(appID, maxNameBytes) != "" || checkText(subject, maxNameBytes) != "" { // no store can have them
		return nil, nil
	}
	sessions, err := store.SubjectSessions(ctx, appID, subject, r.time())
	if err != nil {
		return nil, fmt.Errorf("app %q: sessions: %w", appID, err)
	}
	return sessions, nil
}

// KeySet returns every key that verifies a token of the app, as a JWK set (RFC
// 7517 section 5) to publish: services that verify auth tokens by themselves
// read it.
//
// Errors: [ErrAppNotFound]; [errors.ErrUnsupported], if the KeyStore is no
// [KeyLister]; any other is the server's fault.
func (r *Renewer) KeySet(ctx context.Context, appID string) (*jose.JSONWebKeySet, error) {
	lister, ok := r.keys.(KeyLister)
	if !ok {
		return nil, fmt.Errorf("key set: the key store is no KeyLister: %w", errors.ErrUnsupported)
	}
	if checkText(appID, maxNameBytes) != "" {
		return nil, ErrAppNotFound
	}
	keys, err := lister.VerificationKeys(ctx, appID)
	if err != nil {
		return nil, fmt.Errorf("app %q: read verification keys: %w", appID, err)
	}
	set := &jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, len(keys))}
	for i, key := range keys {
		if key == nil {
			return nil, fmt.Errorf("app %q: the key store returned a verification key that is nil", appID)
		}
		set.Keys[i] = key.JWK()
	}
	return set, nil
}

// app reads an app and checks that it can be worked with.
func (r *Renewer) app(ctx context.Context, appID string) (App, error) {
	if checkText(appID, maxNameBytes) != "" { // no store can have it
		return App{}, ErrAppNotFound
	}
	app, err := r.keys.App(ctx, appID)
	if errors.Is(err, ErrAppNotFound) {
		return App{}, ErrAppNotFound
	}
	if err != nil {
		return App{}, fmt.Errorf("app %q: read app: %w", appID, err)
	}
	if app.ID != appID {
		return App{}, fmt.Errorf("app %q: the key store returned another app than asked for", appID)
	}
	if err := app.Validate(); err != nil {
		return App{}, fmt.Errorf("app %q: %w", appID, err)
	}
	if r.leeway >= app.authTTL() || r.leeway >= app.refreshTTL() {
		return App{}, fmt.Errorf("app %q: WithLeeway is %v, not below the lifetimes of its tokens", appID, r.leeway)
	}
	return app, nil
}

// time is now as sessions keep it.
func (r *Renewer) time() time.Time { return r.now().UTC().Truncate(time.Millisecond) }

// rejected reports a refusal. Reuse is reported where it is found, and what is
// the server's fault is for its error log, a store that is behind apart.
func (rn *renewal) rejected(ctx context.Context, err error) {
	e := rn.requestEvent(EventRejected)
	var refused *TokenError
	switch {
	case errors.Is(err, ErrAhead):
		e.Kind = EventAhead
	case errors.As(err, &refused) && refused.Reason != ReasonReused:
		e.Reason = refused.Reason
	default:
		return
	}
	rn.report(ctx, e)
}

// requestEvent is an event about the presented token.
func (rn *renewal) requestEvent(kind EventKind) Event {
	return Event{
		Kind:      kind,
		AppID:     rn.app.ID,
		SessionID: rn.session.ID,
		TokenID:   rn.token.tokenID,
		Subject:   rn.session.Subject,
		IP:        rn.req.IP,
		UserAgent: rn.req.UserAgent,
	}
}

// event reports what happened to a session.
func (r *Renewer) event(ctx context.Context, kind EventKind, s Session) {
	r.report(ctx, Event{Kind: kind, AppID: s.AppID, SessionID: s.ID, TokenID: s.TokenID, Subject: s.Subject, IP: s.IP, UserAgent: s.UserAgent})
}

func (r *Renewer) report(ctx context.Context, e Event) {
	e.Time = r.time()
	r.eventFunc(ctx, e)
}

func sessionError(s Session, tokenID string, err error) error {
	return &SessionError{AppID: s.AppID, SessionID: s.ID, TokenID: tokenID, Err: err}
}

// check returns the custom claims as JSON, or what is wrong with the request.
func (req IssueRequest) check() (json.RawMessage, error) {
	var wrong fieldErrors
	wrong.add("app_id", checkText(req.AppID, maxNameBytes))
	wrong.add("sub", checkText(req.Subject, maxNameBytes))
	wrong.add("aud", checkAudience(req.Audience))
	wrong.add("ip", checkIP(req.IP))
	wrong.add("useragent", checkText(req.UserAgent, maxUserAgentBytes))
	claims, err := encodeClaims(req.Claims)
	if err != nil {
		wrong.add("claims", "are refused: "+err.Error())
	}
	return claims, wrong.err()
}

func (req RenewRequest) check() error {
	var wrong fieldErrors
	wrong.add("app_id", checkText(req.AppID, maxNameBytes))
	if req.RefreshToken == "" {
		wrong.add("refresh_token", "is required")
	}
	wrong.add("ip", checkIP(req.IP))
	wrong.add("useragent", checkText(req.UserAgent, maxUserAgentBytes))
	wrong.add("Idempotency-Key", checkIdempotencyKey(req.IdempotencyKey))
	return wrong.err()
}

// fieldErrors gathers what is wrong with a request.
type fieldErrors []FieldError

func (f *fieldErrors) add(field, message string) {
	if message != "" {
		*f = append(*f, FieldError{Field: field, Message: message})
	}
}

func (f fieldErrors) err() error {
	if len(f) == 0 {
		return nil
	}
	return &ValidationError{Fields: f}
}

func checkAudience(aud []string) string {
	size := 0
	for _, entry := range aud {
		size += len(entry)
		if message := checkText(entry, maxAudienceBytes); message != "" {
			return "has an entry that " + message
		}
	}
	if size > maxAudienceBytes {
		return fmt.Sprintf("is longer than %d bytes", maxAudienceBytes)
	}
	return ""
}

func checkIP(ip string) string {
	if ip == "" {
		return "is required"
	}
	if addr, err := netip.ParseAddr(ip); err != nil || addr.Zone() != "" {
		return "is not an IPv4 or IPv6 address without zone and port"
	}
	return ""
}

func checkIdempotencyKey(key string) string {
	if key == "" {
		return ""
	}
	if len(key) < minIdempotencyBytes || len(key) > maxIdempotencyBytes {
		return fmt.Sprintf("is not from %d to %d characters long", minIdempotencyBytes, maxIdempotencyBytes)
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return "has a character other than visible ASCII"
		}
	}
	return ""
}
