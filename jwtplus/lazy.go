package jwtplus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jwtrenew/renew"
)

// lookupTimeout bounds what one call of a store asks of the old database.
const lookupTimeout = 5 * time.Second

// LazyOption changes a store made by [Lazy] from its defaults.
type LazyOption func(*lazy)

// OnLine sets what is called for each row that is looked up and is not taken over, or
// not as it was. It must be safe for concurrent use. Default, and with nil: a record
// of [slog.Default] at level warn.
func OnLine(f func(context.Context, Line)) LazyOption {
	return func(l *lazy) {
		if l.line = f; f == nil {
			l.line = logLine
		}
	}
}

// Lazy returns a TokenStore like tokens that takes over a session of JWTPlus when it
// is first asked for: a session that tokens does not have is looked up in source, by
// its ID, which is the token ID of its refresh token, and created. So traffic can be
// switched before [Import] has run, or while it runs; the apps and keys must be there:
// run Import for them first, or let it begin. From then on the session is like any
// other, and the old database is not asked for it again.
//
// Of any number of calls that take over one session at the same time, in any number
// of processes, one creates it, and all see that one. If the old database fails, or
// does not respond within 5 seconds, the error is that: a session that may be there is
// never reported as unknown. A session of a row that cannot be taken over is unknown.
//
// If tokens is a [renew.SubjectStore], so is the result: it takes over all sessions of
// a subject before it lists or revokes them. In the old database that is a search by
// app and subject; if that takes long, add an index on (apps_id, sub), or finish the
// import before users revoke other devices. The result is not a [renew.Purger], see
// the package comment.
//
// Take Lazy out when Import has returned without an error.
func Lazy(source *Source, tokens renew.TokenStore, opts ...LazyOption) renew.TokenStore {
	l := &lazy{TokenStore: tokens, source: source, line: logLine}
	for _, opt := range opts {
		opt(l)
	}
	if subjects, ok := tokens.(renew.SubjectStore); ok {
		return &lazySubjects{lazy: l, subjects: subjects}
	}
	return l
}

func logLine(ctx context.Context, l Line) {
	slog.Default().LogAttrs(ctx, slog.LevelWarn, "jwtplus: a row is not taken over, or not as it was",
		slog.String("table", l.Table), slog.String("id", l.ID), slog.String("app", l.AppID),
		slog.String("reason", string(l.Reason)), slog.String("detail", l.Detail), slog.Bool("taken", l.Taken))
}

// lazy has CreateSession from its TokenStore: new sessions have new IDs.
type lazy struct {
	renew.TokenStore
	source *Source
	line   func(context.Context, Line)
}

// Session returns the session, taken over if need be.
func (l *lazy) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	var s renew.Session
	err := l.withSession(ctx, appID, sessionID, func() (err error) {
		s, err = l.TokenStore.Session(ctx, appID, sessionID)
		return err
	})
	return s, err
}

// Rotate replaces the session, taken over if need be.
func (l *lazy) Rotate(ctx context.Context, from string, next renew.Session) error {
	return l.withSession(ctx, next.AppID, next.ID, func() error { return l.TokenStore.Rotate(ctx, from, next) })
}

// RevokeSession revokes the session, taken over if need be.
func (l *lazy) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return l.withSession(ctx, appID, sessionID, func() error {
		return l.TokenStore.RevokeSession(ctx, appID, sessionID, at)
	})
}

// withSession calls f, and once more if the session was not there and is now.
func (l *lazy) withSession(ctx context.Context, appID, sessionID string, f func() error) error {
	err := f()
	if !errors.Is(err, renew.ErrSessionNotFound) || !isID(sessionID) {
		return err
	}
	found, takeErr := l.take(ctx, appID, "token_id = ? AND apps_id = ?", sessionID, appID)
	switch {
	case takeErr != nil:
		return takeErr
	case !found:
		return err
	}
	return f()
}

// take takes over the sessions of an app's rows for which a condition holds, and
// reports whether any is in the store now.
func (l *lazy) take(ctx context.Context, appID, condition string, args ...any) (found bool, err error) {
	if l.source == nil || l.source.db == nil {
		return false, errors.New("jwtplus: look up session: the source is nil")
	}
	lookup, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	rows, err := tokenTable.where(lookup, l.source.db, condition, args...)
	if err != nil {
		return false, fmt.Errorf("jwtplus: look up session: %w", err)
	}
	ids := map[string]int{}
	for _, r := range rows {
		ids[r.text("token_id")]++
	}
	for _, r := range rows {
		if r.text("apps_id") != appID { // the database may ignore case
			continue
		}
		o := &outcome{rejected: reject(ReasonDuplicate, "several rows have this token_id")}
		if ids[r.text("token_id")] == 1 {
			if o, err = l.takeRow(ctx, lookup, r); err != nil {
				return found, fmt.Errorf("jwtplus: take over session: %w", err)
			}
		}
		l.report(ctx, r, o)
		found = found || o.rejected == nil
	}
	return found, nil
}

// takeRow takes over one row. The times of its token are judged when it is renewed.
func (l *lazy) takeRow(ctx, lookup context.Context, r row) (*outcome, error) {
	if rejected := checkColumns(r); rejected != nil {
		return &outcome{rejected: rejected}, nil
	}
	switch _, err := l.TokenStore.Session(ctx, r.text("apps_id"), r.text("token_id")); {
	case err == nil:
		return &outcome{existing: true}, nil
	case !errors.Is(err, renew.ErrSessionNotFound):
		return nil, err
	}
	keys, err := keyTable.where(lookup, l.source.db, "key_id = ? AND app_id = ?", r.text("key_id"), r.text("apps_id"))
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 || keys[0].text("key_id") != r.text("key_id") {
		return &outcome{rejected: reject(ReasonKey, "its signing key is unknown")}, nil
	}
	key, rejected := newSigningKey(keys[0])
	if rejected != nil {
		return &outcome{rejected: reject(ReasonKey, "its signing key is not taken over: %s", rejected.detail)}, nil
	}
	c, rejected := newCandidate(r, key.verification)
	if rejected != nil {
		return &outcome{rejected: rejected}, nil
	}
	return create(ctx, l.TokenStore, c)
}

func (l *lazy) report(ctx context.Context, r row, o *outcome) {
	line := Line{Table: TableTokens, ID: shownID(r.text("token_id"))}
	if appID := r.text("apps_id"); isID(appID) {
		line.AppID = appID
	}
	if o.rejected != nil {
		line.Reason, line.Detail, line.Err = o.rejected.reason, o.rejected.detail, o.rejected.err
		l.line(ctx, line)
		return
	}
	line.Taken = true
	for _, note := range o.notes {
		line.Reason, line.Detail = note.reason, note.detail
		l.line(ctx, line)
	}
}

// lazySubjects is a lazy store of which the sessions of a subject can be listed.
type lazySubjects struct {
	*lazy
	subjects renew.SubjectStore
}

// SubjectSessions lists the sessions of the subject, taken over before.
func (l *lazySubjects) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	if err := l.takeSubject(ctx, appID, subject); err != nil {
		return nil, err
	}
	return l.subjects.SubjectSessions(ctx, appID, subject, at)
}

// RevokeSubject revokes the sessions of the subject, taken over before.
func (l *lazySubjects) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	if err := l.takeSubject(ctx, appID, subject); err != nil {
		return 0, err
	}
	return l.subjects.RevokeSubject(ctx, appID, subject, at, keep...)
}

func (l *lazySubjects) takeSubject(ctx context.Context, appID, subject string) error {
	_, err := l.take(ctx, appID, "sub = ? AND apps_id = ?", hashText(subject), appID)
	return err
}
