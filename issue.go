package renew

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Issue starts a session, when a user has logged in, and returns its first pair.
//
// Errors: [*ValidationError], [ErrAppNotFound]; any other is an internal error,
// and no usable session remains.
func (r *Renewer) Issue(ctx context.Context, req IssueRequest) (*Bundle, error) {
	claims, err := req.encodeClaims()
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
		EndsAt:    app.capEnd(now, time.Time{}),
		IP:        canonicalIP(req.IP),
		UserAgent: cleanUserAgent(req.UserAgent),
	}
	newest, err := r.newestSession(ctx, app, req.Subject)
	if err != nil {
		return nil, err
	}
	if s.ID, err = newULID(now, newest); err != nil {
		return nil, err
	}
	if err := s.advance(app, now, ""); err != nil {
		return nil, err
	}
	b, err := r.mint(ctx, app, s)
	if err != nil {
		return nil, err
	}
	if err := r.start(ctx, app, s); err != nil {
		return nil, sessionError(s, s.TokenID, err)
	}
	r.report(ctx, sessionEvent(EventIssued, s))
	return b, nil
}

// start stores a new session and revokes those that are too many with it. If
// either fails, the new session is revoked: no one has its tokens, and it would
// show as a device of the user.
func (r *Renewer) start(ctx context.Context, app App, s Session) error {
	ctx, cancel, err := lasting(ctx, commitTimeout)
	if err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	defer cancel()
	if err = r.tokens.CreateSession(ctx, s); err != nil {
		err = fmt.Errorf("create session: %w", err)
	} else {
		err = r.limitSessions(ctx, app, s.Subject)
	}
	if err != nil {
		r.abandon(ctx, s)
	}
	return err
}

// abandon revokes a session that Issue has failed to start, if it is there. It is
// a best effort: the error of Issue is another one.
func (r *Renewer) abandon(ctx context.Context, s Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reuseRevocationTimeout)
	defer cancel()
	stored, err := r.readSession(ctx, s.AppID, s.ID)
	if err == nil && stored.TokenID == s.TokenID {
		_ = r.tokens.RevokeSession(ctx, s.AppID, s.ID, r.time())
	}
}

// newestSession returns the greatest ID of the subject's live sessions if the app
// limits their number. A new session gets a greater one, so that all servers agree
// on which sessions are the oldest, whatever their clocks say.
func (r *Renewer) newestSession(ctx context.Context, app App, subject string) (string, error) {
	sessions, err := r.limitedSessions(ctx, app, subject)
	if err != nil || len(sessions) == 0 {
		return "", err
	}
	return sessions[0].ID, nil
}

// limitSessions revokes the oldest sessions of the subject beyond
// [App.MaxSessions].
func (r *Renewer) limitSessions(ctx context.Context, app App, subject string) error {
	sessions, err := r.limitedSessions(ctx, app, subject)
	if err != nil || len(sessions) <= app.MaxSessions {
		return err
	}
	for _, oldest := range sessions[app.MaxSessions:] {
		err := r.revokeSession(ctx, oldest, "", anySubject)
		if err != nil && !errors.Is(err, ErrSessionNotFound) {
			return err
		}
	}
	return nil
}

// limitedSessions returns the subject's live sessions, the greatest ID first, if
// the app limits their number.
func (r *Renewer) limitedSessions(ctx context.Context, app App, subject string) ([]Session, error) {
	if app.MaxSessions == 0 {
		return nil, nil
	}
	sessions, err := r.Sessions(ctx, app.ID, subject)
	if err != nil {
		return nil, fmt.Errorf("MaxSessions: %w", err)
	}
	slices.SortFunc(sessions, func(a, b Session) int { return strings.Compare(b.ID, a.ID) })
	return sessions, nil
}
