package renew

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Revoke ends the session of a token of either kind: a logout. The token may be
// used, expired or not yet valid, as long as it is signed by a currently valid
// key: holding one proves a past login. If the session is revoked already or
// deleted, Revoke returns nil.
//
// Errors: [ErrAppNotFound]; [ErrInvalidToken], a [*TokenError] with the reason;
// any other is an internal error. An endpoint of RFC 7009 responds to an invalid
// token as to a revoked one (section 2.2).
func (r *Renewer) Revoke(ctx context.Context, appID, token string) error {
	_, t, err := r.parse(ctx, appID, token, eitherKind)
	if err != nil {
		return err
	}
	err = r.revokeSession(ctx, Session{AppID: t.appID, ID: t.sessionID}, t.tokenID, anySubject)
	if errors.Is(err, ErrSessionNotFound) {
		return nil
	}
	return err
}

// RevokeSession ends a session by its ID. If it is revoked already, RevokeSession
// returns nil. Calls for one session at the same time may each report [EventRevoked].
//
// Errors: [ErrSessionNotFound]; any other is an internal error.
func (r *Renewer) RevokeSession(ctx context.Context, appID, sessionID string) error {
	return r.revokeSession(ctx, Session{AppID: appID, ID: sessionID}, "", anySubject)
}

// RevokeSubjectSession ends a session by its ID if it is the subject's: "sign out
// this device", where the session ID comes from the user. If it is revoked
// already, RevokeSubjectSession returns nil.
//
// Errors: [ErrSessionNotFound], if there is no such session or it is another
// subject's; any other is an internal error.
func (r *Renewer) RevokeSubjectSession(ctx context.Context, appID, subject, sessionID string) error {
	return r.revokeSession(ctx, Session{AppID: appID, ID: sessionID}, "", func(s Session) bool { return s.Subject == subject })
}

func anySubject(Session) bool { return true }

// revokeSession reads the session that named names, for its subject and for
// whether there is anything left to report, and revokes it if may says so. What
// was revoked already is written again: its revocation was only read, and may be
// lost in a failover.
func (r *Renewer) revokeSession(ctx context.Context, named Session, tokenID string, may func(Session) bool) error {
	if checkText(named.AppID, maxNameBytes) != "" || !isCanonicalULID(named.ID) { // malformed, so that no store has it
		return ErrSessionNotFound
	}
	fail := func(doing string, err error) error {
		return sessionError(named, tokenID, fmt.Errorf("%s: %w", doing, err))
	}
	s, err := r.readSession(ctx, named.AppID, named.ID)
	if err != nil {
		return fail("read session", err)
	}
	if !may(s) {
		return fail("revoke session", ErrSessionNotFound)
	}
	lasting, cancel, err := lasting(ctx, commitTimeout)
	if err != nil {
		return fail("revoke session", err)
	}
	defer cancel()
	if err := r.tokens.RevokeSession(lasting, s.AppID, s.ID, r.time()); err != nil {
		return fail("revoke session", err)
	}
	if s.RevokedAt.IsZero() {
		r.report(ctx, Event{Kind: EventRevoked, AppID: s.AppID, SessionID: s.ID, TokenID: tokenID, Subject: s.Subject})
	}
	return nil
}

// RevokeSubject ends all sessions of a subject but those whose IDs are in keep,
// as after a change of password, and returns how many it ended. A login at the
// same moment may be missed. A revocation that has begun ends 5 seconds after ctx,
// so that a client that hangs up does not stop it.
//
// Errors: [errors.ErrUnsupported], if the TokenStore does not implement
// [SubjectStore]; any other is an internal error, and the number is that of the
// sessions that were ended before it.
func (r *Renewer) RevokeSubject(ctx context.Context, appID, subject string, keep ...string) (int, error) {
	store, err := r.subjects("revoke subject")
	if err != nil {
		return 0, err
	}
	if checkText(appID, maxNameBytes) != "" || checkText(subject, maxNameBytes) != "" { // malformed, so that no store has them
		return 0, nil
	}
	outlasting, cancel, err := outlasting(ctx, commitTimeout)
	if err != nil {
		return 0, fmt.Errorf("revoke subject: %w", err)
	}
	defer cancel()
	n, err := store.RevokeSubject(outlasting, appID, subject, r.time(), keep...)
	if err != nil {
		return n, fmt.Errorf("revoke subject: %w", err)
	}
	if n > 0 {
		r.report(ctx, Event{Kind: EventRevoked, AppID: appID, Subject: subject})
	}
	return n, nil
}

// outlasting returns a context for writes of which there may be many, as long as they
// must: it ends when the timeout has passed since ctx ended. It looks at ctx once
// more.
func outlasting(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unfollow := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(context.Cause(ctx))
		case <-longer.Done():
		}
	})
	return longer, func() { unfollow(); cancel(nil) }, nil
}

// Sessions returns the live sessions of a subject, the newest login first: the
// list of a user's devices. A subject without any is an empty list.
//
// Errors: [errors.ErrUnsupported], if the TokenStore does not implement
// [SubjectStore]; any other is an internal error, also if the store returned the
// session of another subject or app.
func (r *Renewer) Sessions(ctx context.Context, appID, subject string) ([]Session, error) {
	store, err := r.subjects("sessions")
	if err != nil {
		return nil, err
	}
	if checkText(appID, maxNameBytes) != "" || checkText(subject, maxNameBytes) != "" { // malformed, so that no store has them
		return nil, nil
	}
	sessions, err := store.SubjectSessions(ctx, appID, subject, r.time())
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	for _, s := range sessions {
		if s.AppID != appID || s.Subject != subject {
			return nil, errors.New("sessions: the token store returned the wrong session")
		}
	}
	return sessions, nil
}

func (r *Renewer) subjects(doing string) (SubjectStore, error) {
	store, ok := r.tokens.(SubjectStore)
	if !ok {
		return nil, fmt.Errorf("%s: the token store does not implement SubjectStore: %w", doing, errors.ErrUnsupported)
	}
	return store, nil
}

// Revocations for reuse do not end with the request, or a thief could prevent
// them by hanging up. So that the presentations of a used token cannot stop other
// users' requests where a store is slow, they are bounded in time and number.
const (
	reuseRevocationTimeout = 2 * time.Second
	maxReuseRevocations    = 8
)

// errReuseRevocations means that the bound was met.
var errReuseRevocations = errors.New("too many revocations for reuse are under way")

// reuseRevocations are the revocations for reuse that are under way, one per
// session.
type reuseRevocations struct {
	mu       sync.Mutex
	sessions map[[2]string]struct{} // by app and session ID
}

func (u *reuseRevocations) begin(s Session) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := [2]string{s.AppID, s.ID}
	if _, under := u.sessions[key]; under || len(u.sessions) >= maxReuseRevocations {
		return false
	}
	if u.sessions == nil {
		u.sessions = make(map[[2]string]struct{})
	}
	u.sessions[key] = struct{}{}
	return true
}

func (u *reuseRevocations) end(s Session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sessions, [2]string{s.AppID, s.ID})
}

// revokeReused revokes the session of a token that was used before, reports both,
// and returns the rejection, or what kept the session from being revoked.
func (rn *renewal) revokeReused(ctx context.Context, rejection error) error {
	revoked, err := rn.tryRevokeReused(ctx)
	rn.report(ctx, rn.requestEvent(EventReused, ReasonReused))
	if revoked {
		rn.report(ctx, rn.requestEvent(EventRevoked, ReasonReused))
	}
	if err != nil {
		return fmt.Errorf("revoke session for reuse: %w", err)
	}
	return rejection
}

func (rn *renewal) tryRevokeReused(ctx context.Context) (revoked bool, err error) {
	if !rn.reuseRevocation {
		return false, nil
	}
	if !rn.revocations.begin(rn.session) {
		return false, errReuseRevocations
	}
	defer rn.revocations.end(rn.session)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reuseRevocationTimeout)
	defer cancel()
	err = rn.tokens.RevokeSession(ctx, rn.session.AppID, rn.session.ID, rn.time())
	if errors.Is(err, ErrSessionNotFound) { // deleted concurrently: there is nothing left to revoke
		return false, nil
	}
	return err == nil, err
}
