package jwtplus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/panics"
)

// judge asks a Renewer whether a refresh token would be accepted: on the keys and apps
// of the new store, with no session behind it, so that nothing is used up.
type judge struct {
	renewer *renew.Renewer
}

func newJudge(keys renew.KeyStore, now func() time.Time) (*judge, error) {
	r, err := renew.New(keys, noSessions{}, renew.WithClock(now))
	return &judge{r}, err
}

// sessionAsked is where noSessions writes which session it was asked for.
type sessionAsked struct{}

// noSessions is a TokenStore without a session.
type noSessions struct{}

func (noSessions) CreateSession(context.Context, renew.Session) error { return errors.ErrUnsupported }

func (noSessions) Session(ctx context.Context, _, sessionID string) (renew.Session, error) {
	if asked, ok := ctx.Value(sessionAsked{}).(*string); ok {
		*asked = sessionID
	}
	return renew.Session{}, renew.ErrSessionNotFound
}

func (noSessions) Rotate(context.Context, string, renew.Session) error {
	return renew.ErrSessionNotFound
}

func (noSessions) RevokeSession(context.Context, string, string, time.Time) error {
	return renew.ErrSessionNotFound
}

// check returns why the refresh token of a row would be rejected once its session
// is there; its times are not judged. An error is one of the key store.
func (j *judge) check(ctx context.Context, r row) (*rejection, error) {
	asked := ""
	_, err := j.renewer.Renew(context.WithValue(ctx, sessionAsked{}, &asked), renew.RenewRequest{
		AppID: r.text("apps_id"), RefreshToken: r.text("refresh_token"), IP: anyIP,
	})
	var rejected *renew.TokenError
	switch {
	case errors.As(err, &rejected) && rejected.Reason == renew.ReasonUnknownSession:
		if asked != r.text("token_id") {
			return reject(ReasonRefreshToken, "refresh_token is that of another session"), nil
		}
		return nil, nil
	case errors.As(err, &rejected):
		return reject(ReasonRefreshToken, "refresh_token would be rejected: %s", rejected.Reason), nil
	case errors.Is(err, renew.ErrClock):
		return reject(ReasonRefreshToken, "refresh_token is from the future"), nil
	case err == nil:
		return nil, errors.New("a token without a session was renewed")
	}
	return nil, err
}

// outcome is what became of a row of the tokens.
type outcome struct {
	existing bool
	rejected *rejection
	notes    []rejection
}

// putSessions creates the sessions that are not there.
func (im *importer) putSessions(ctx context.Context) error {
	if err := im.leftOut(ctx, tokenTable, &im.report.Sessions); err != nil {
		return err
	}
	total, err := tokenTable.count(ctx, im.tx)
	if err != nil {
		return err
	}
	return tokenTable.batches(ctx, im.tx, im.opts.BatchSize, func(batch []row) error {
		outcomes, err := im.putBatch(ctx, batch)
		for i, r := range batch {
			o := outcomes[i]
			if o == nil || err != nil && o.rejected != nil && o.rejected.reason == ReasonStore {
				continue // unknown: it may be the error, too, that the store did not keep it
			}
			im.tally(r, o)
		}
		im.progress(StageSessions, im.report.Sessions.Read, total)
		return err
	})
}

// putBatch creates the sessions of a batch, several at a time. With an error, the
// rows after it have no outcome.
func (im *importer) putBatch(ctx context.Context, batch []row) ([]*outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	outcomes := make([]*outcome, len(batch))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(im.opts.Workers, len(batch)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(batch) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				o, err := im.putSession(ctx, batch[i])
				if err != nil {
					cancel(err)
					return
				}
				outcomes[i] = o
			}
		})
	}
	workers.Wait()
	return outcomes, context.Cause(ctx)
}

func (im *importer) tally(r row, o *outcome) {
	counts, id, appID := &im.report.Sessions, r.text("token_id"), r.text("apps_id")
	if o.rejected != nil {
		im.rejected(counts, TableTokens, id, appID, o.rejected)
		return
	}
	counts.Read++
	if o.existing {
		counts.Existing++
		return
	}
	counts.Taken++
	for _, note := range o.notes {
		im.line(Line{Table: TableTokens, ID: shownID(id), AppID: appID, Reason: note.reason, Detail: note.detail, Taken: true})
	}
}

// putSession creates the session of a row, unless it is there.
func (im *importer) putSession(ctx context.Context, r row) (o *outcome, err error) {
	defer panics.Catch(ctx, "jwtplus: the store", &err)
	id, appID := r.text("token_id"), r.text("apps_id")
	if im.apps[appID] == nil {
		return &outcome{rejected: reject(ReasonApp, "its app is unknown, or is not taken over")}, nil
	}
	if !isID(id) {
		return &outcome{rejected: checkColumns(r)}, nil
	}
	_, err = im.tokens.Session(ctx, appID, id)
	switch {
	case err == nil:
		return &outcome{existing: true}, nil
	case !errors.Is(err, renew.ErrSessionNotFound):
		return nil, fmt.Errorf("read session %s: %w", id, err)
	}
	c, rejected, err := im.candidate(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	if rejected != nil {
		return &outcome{rejected: rejected}, nil
	}
	if im.opts.DryRun {
		return &outcome{notes: c.notes}, nil
	}
	return create(ctx, im.tokens, c)
}

// candidate returns the session of a row whose refresh token can still be renewed.
func (im *importer) candidate(ctx context.Context, r row) (candidate, *rejection, error) {
	k := im.keys[r.text("key_id")]
	if rejected := checkColumns(r); rejected != nil {
		return candidate{}, rejected, nil
	}
	switch {
	case k == nil || k.appID != r.text("apps_id"):
		return candidate{}, reject(ReasonKey, "its signing key is unknown, or is not taken over"), nil
	case k.revoked:
		return candidate{}, reject(ReasonRevokedKey, "its signing key is revoked"), nil
	}
	c, rejected := newCandidate(r, k.verification)
	if rejected != nil {
		return candidate{}, rejected, nil
	}
	if !im.now.Before(c.session.RefreshExpiresAt) {
		return candidate{}, reject(ReasonExpired, "its refresh token has expired"), nil
	}
	rejected, err := im.judge.check(ctx, r)
	return c, rejected, err
}

// create creates the session of a candidate. If that fails, the session is read, as
// it may be there nevertheless, and created once more. A session that a store need
// not keep is rejected after that; for any other one the store is not in order.
func create(ctx context.Context, tokens renew.TokenStore, c candidate) (*outcome, error) {
	var err error
	for range 2 {
		err = tokens.CreateSession(ctx, c.session)
		switch {
		case err == nil:
			return &outcome{notes: c.notes}, nil
		case errors.Is(err, renew.ErrSessionExists):
			return &outcome{existing: true}, nil
		}
		_, readErr := tokens.Session(ctx, c.session.AppID, c.session.ID)
		switch {
		case readErr == nil: // it has happened
			return &outcome{notes: c.notes}, nil
		case !errors.Is(readErr, renew.ErrSessionNotFound):
			return nil, fmt.Errorf("create session %s: %w", c.session.ID, err)
		}
	}
	if c.odd {
		rejected := reject(ReasonStore, "the token store does not keep it: no login can have its subject or its audience")
		rejected.err = err
		return &outcome{rejected: rejected}, nil
	}
	return nil, fmt.Errorf("create session %s: %w", c.session.ID, err)
}
