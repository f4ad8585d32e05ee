package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/jwtrenew/renew"
)

// TestTokenStore holds a store to the laws T1 to T13 of [renew.TokenStore], and
// to those of [renew.SubjectStore] and [renew.Purger] if it implements them.
//
// open returns a handle on the backing store, the same backing store each time,
// and registers with tb.Cleanup what closes the handle. It is called at least
// twice for every case, from the goroutine of the case's test; failing there
// with tb.Fatal is right. Two handles stand for two processes: share between
// them only what two processes of yours would share. Where a backing store can
// be opened only once, or lives in the memory of one process, open may return
// the same value again; then nothing shows that another process sees the same.
//
// The laws about [renew.SubjectStore] and [renew.Purger] are skipped for a handle that
// does not implement them.
//
// The backing store may hold other sessions. One run at a time: law T11
// deletes every session that ended more than three minutes ago, and counts.
func TestTokenStore(t *testing.T, open func(tb testing.TB) renew.TokenStore, opts ...Option) {
	newTokenSuite(open, newConfig(opts)).test(t)
}

func newTokenSuite(open func(tb testing.TB) renew.TokenStore, c config) *suite[*tokens] {
	return &suite[*tokens]{
		laws: tokenLaws(),
		open: func(tb testing.TB) *tokens { return &tokens{store: open(tb)} },
		watch: func(h *tokens, number int, log *callLog) *tokens {
			return &tokens{h.store, caller{number: number, log: log}}
		},
		audit:  auditTokens,
		apart:  tokensApart,
		config: c,
	}
}

// tokensApart reports whether the second handle does not have what the first stores.
func tokensApart(e *tokenEnv) bool {
	s := newSession(e)
	if e.a.CreateSession(e.ctx, s) != nil {
		return false
	}
	_, err := e.b.Session(e.ctx, s.AppID, s.ID)
	return errors.Is(err, renew.ErrSessionNotFound)
}

// auditTokens looks at what a case has left behind: the twins must be as they were
// created, and each list of a subject must be what is stored.
func auditTokens(e *tokenEnv) {
	if e.failed() {
		return
	}
	defer func() { e.twins = nil }()
	w := world{}
	for _, twin := range e.twins {
		w[keyOf(twin)] = twin
	}
	if len(e.twins) > 0 {
		if _, diff := w.differs(e, e.a); diff != "" {
			plainly(e, plainValue)
		}
	}
	if !w.is(e, "calls that were about another app, with sessions of the same IDs and subjects") {
		return
	}
	if !e.a.hasSubjects() {
		return
	}
	stored := world{}
	for key := range e.log.sessions {
		if got, err := e.a.Session(e.ctx, key.app, key.id); err == nil {
			stored[key] = got
		}
	}
	if e.listLimit > 0 {
		return
	}
	for of := range e.log.subjects {
		differs := func() string { return stored.listDiffers(e, e.b, of[0], of[1]) }
		if diff := differs(); diff != "" {
			e.breaks(e.blames("S1"), "expected SubjectSessions of %s to return what is stored, when the case is over\nthe store returned something else: %s%s", named("subject", of[1]), diff, e.lagHint(differs))
			return
		}
	}
}

// listDiffers says how the list of a subject is not what is stored, of the sessions that
// the case knows.
func (w world) listDiffers(e *tokenEnv, h *tokens, app, subject string) string {
	got, err := h.SubjectSessions(e.ctx, app, subject, base)
	if err != nil {
		return fmt.Sprintf("the error %q", err)
	}
	got = slices.DeleteFunc(got, func(s renew.Session) bool {
		_, known := w[keyOf(s)]
		return !known && s.Subject == subject && s.AppID == app
	})
	return listDifference(w.list(app, subject, base), got)
}

type tokenEnv = env[*tokens]

// tokens is a handle on a TokenStore that records the calls made through it.
type tokens struct {
	store renew.TokenStore
	caller
}

// What the store implements in addition.
func (h *tokens) hasSubjects() bool { return has[renew.SubjectStore](h.store) }
func (h *tokens) purges() bool      { return has[renew.Purger](h.store) }

// plain returns the handle with calls that are made once.
func (h *tokens) plain() *tokens { return &tokens{h.store, h.caller.plain()} }

func (h *tokens) CreateSession(ctx context.Context, s renew.Session) error {
	h.log.mention(s)
	return did(ctx, h.caller, "CreateSession", func() string { return describe(s) }, func() error { return h.store.CreateSession(ctx, s) })
}

func (h *tokens) Session(ctx context.Context, appID, sessionID string) (renew.Session, error) {
	return called(ctx, h.reading(), "Session", func() string { return named("app", appID) + ", " + named("session", sessionID) },
		func() (renew.Session, error) { return h.store.Session(ctx, appID, sessionID) }, describe)
}

func (h *tokens) Rotate(ctx context.Context, from string, next renew.Session) error {
	h.log.mention(next)
	return did(ctx, h.caller, "Rotate", func() string { return named("from", from) + ", " + describe(next) },
		func() error { return h.store.Rotate(ctx, from, next) })
}

func (h *tokens) RevokeSession(ctx context.Context, appID, sessionID string, at time.Time) error {
	return did(ctx, h.caller, "RevokeSession", func() string { return named("app", appID) + ", " + named("session", sessionID) + ", at " + clock(at) },
		func() error { return h.store.RevokeSession(ctx, appID, sessionID, at) })
}

func (h *tokens) SubjectSessions(ctx context.Context, appID, subject string, at time.Time) ([]renew.Session, error) {
	return called(ctx, h.reading(), "SubjectSessions", func() string { return named("app", appID) + ", " + named("subject", subject) + ", at " + clock(at) },
		func() ([]renew.Session, error) {
			return h.store.(renew.SubjectStore).SubjectSessions(ctx, appID, subject, at)
		},
		func(list []renew.Session) string { return fmt.Sprintf("%d sessions", len(list)) })
}

func (h *tokens) RevokeSubject(ctx context.Context, appID, subject string, at time.Time, keep ...string) (int, error) {
	return called(ctx, h.caller, "RevokeSubject", func() string {
		return named("app", appID) + ", " + named("subject", subject) + ", at " + clock(at) + fmt.Sprintf(", keep %d", len(keep))
	}, func() (int, error) {
		return h.store.(renew.SubjectStore).RevokeSubject(ctx, appID, subject, at, keep...)
	}, strconv.Itoa)
}

func (h *tokens) DeleteExpired(ctx context.Context, before time.Time, limit int) (int, error) {
	return called(ctx, h.caller, "DeleteExpired", func() string { return fmt.Sprintf("before %s, limit %d", clock(before), limit) },
		func() (int, error) { return h.store.(renew.Purger).DeleteExpired(ctx, before, limit) }, strconv.Itoa)
}

func needsSubjects(e *tokenEnv) { e.needs(e.a.hasSubjects(), "renew.SubjectStore") }
func needsPurger(e *tokenEnv)   { e.needs(e.a.purges(), "renew.Purger") }

func describe(s renew.Session) string {
	text := named("session", s.ID) + " of " + named("app", s.AppID) + " at " + named("token", s.TokenID)
	if !s.RevokedAt.IsZero() {
		text += ", revoked " + clock(s.RevokedAt)
	}
	return text
}

// named returns a value with what it is, short enough for a line.
func named(what, value string) string {
	const enough = 60
	if len(value) > enough {
		return fmt.Sprintf("%s %q… (%d bytes)", what, value[:enough], len(value))
	}
	return fmt.Sprintf("%s %q", what, value)
}

func clock(t time.Time) string { return t.Format("2006-01-02T15:04:05.999999999Z07:00") }

// newID returns a ULID, as the Renewer makes token and session IDs.
func newID() string { return ulid.MustNew(ulid.Now(), rand.Reader).String() }

// base is about when the sessions of the suite live: tomorrow. It is near to now,
// for a store that reads a clock to delete what has ended, and after what law T11
// deletes, however long the tests of a process take.
var base = time.Now().UTC().Truncate(time.Second).Add(24*time.Hour + 123*time.Millisecond)

const (
	ms   = time.Millisecond
	hour = time.Hour
)

// newSession returns a session of the case's app with every field set but
// RevokedAt, as after one renewal, all values different.
func newSession(e *tokenEnv) renew.Session {
	return renew.Session{
		AppID:              e.app,
		ID:                 newID(),
		Subject:            "subject-" + newID(),
		Audience:           []string{"web-app", "api"},
		Claims:             json.RawMessage(`{"role":"admin","level":3}`),
		CreatedAt:          base,
		EndsAt:             base.Add(720*time.Hour + time.Millisecond),
		Generation:         1,
		TokenID:            newID(),
		PreviousTokenID:    newID(),
		IssuedAt:           base.Add(time.Hour + 2*time.Millisecond),
		RefreshNotBefore:   base.Add(time.Hour + time.Minute + 3*time.Millisecond),
		RefreshExpiresAt:   base.Add(3*time.Hour + 4*time.Millisecond),
		IdempotencyKeyHash: bytes.Repeat([]byte{0x00, 0x7f, 0x80, 0xff}, 8),
		IP:                 "2001:db8::1",
		UserAgent:          "storetest/1.0 (first)",
	}
}

// successor returns what the Renewer would put in place of s.
func successor(s renew.Session) renew.Session {
	next := s.Clone()
	next.Generation++
	next.PreviousTokenID, next.TokenID = s.TokenID, newID()
	next.IssuedAt = s.IssuedAt.Add(time.Hour)
	next.RefreshNotBefore = s.RefreshNotBefore.Add(time.Hour)
	next.RefreshExpiresAt = s.RefreshExpiresAt.Add(time.Hour)
	next.IdempotencyKeyHash = bytes.Repeat([]byte{byte(next.Generation & 0xff)}, 32)
	next.IP, next.UserAgent = "192.0.2.7", fmt.Sprintf("storetest/1.0 (renewal %d)", next.Generation)
	return next
}

// store stores a session.
func store(e *tokenEnv, h *tokens, s renew.Session) error {
	_, err := createSessionOp(s).settle(e, h, world{keyOf(s): s})
	return err
}

// create stores a session through the first handle.
func create(e *tokenEnv, s renew.Session) {
	if err := store(e, e.a, s); err != nil {
		e.fatalf("expected CreateSession to store a new session\nthe store returned the error %q", err)
	}
	if s.AppID == e.app && e.law != "T11" && e.wantsTwin() {
		twin := twinOf(e, s)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.twins = append(e.twins, twin)
	}
}

// wantsTwin reports whether the case has few twins yet.
func (e *env[H]) wantsTwin() bool {
	const enough = 20
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.twins) < enough
}

// created stores a new session and returns it as the store does.
func created(e *tokenEnv) renew.Session {
	s := newSession(e)
	create(e, s)
	return read(e, e.a, s)
}

// read returns the session of the same app and ID through h.
func read(e *tokenEnv, h *tokens, s renew.Session) renew.Session {
	got, err := h.Session(e.ctx, s.AppID, s.ID)
	if err != nil {
		e.fatalf("expected Session to return the session that was stored\nthe store returned the error %q", err)
	}
	return got
}

// rotate replaces the session at token ID from by next.
func rotate(e *tokenEnv, h *tokens, from string, next renew.Session) {
	if _, err := rotateSessionOp(from, next).settle(e, h, world{keyOf(next): next}); err != nil {
		e.fatalf("expected Rotate from the current token ID to return nil\nthe store returned the error %q", err)
	}
}

// revoke revokes the session.
func revoke(e *tokenEnv, h *tokens, s renew.Session, at time.Time) {
	if err := h.RevokeSession(e.ctx, s.AppID, s.ID, at); err != nil {
		e.fatalf("expected RevokeSession of a stored session to return nil\nthe store returned the error %q", err)
	}
}

// unchanged reads the session through both handles and compares it with what it
// was.
func unchanged(e *tokenEnv, was renew.Session, after string) {
	for _, h := range []*tokens{e.a, e.b} {
		if diff := difference(was, read(e, h, was)); diff != "" {
			e.failf("expected the stored session to be as it was, after %s\nthe store has changed it: %s", after, diff)
		}
	}
}

// lawErrors are the errors that the laws name; errorNames has those of contexts too.
var (
	lawErrors = []namedError{
		{renew.ErrSessionNotFound, "renew.ErrSessionNotFound"},
		{renew.ErrSessionExists, "renew.ErrSessionExists"},
		{renew.ErrConflict, "renew.ErrConflict"},
		{renew.ErrAppNotFound, "renew.ErrAppNotFound"},
		{renew.ErrAppExists, "renew.ErrAppExists"},
		{renew.ErrKeyNotFound, "renew.ErrKeyNotFound"},
		{renew.ErrKeyExists, "renew.ErrKeyExists"},
		{renew.ErrKeyRevoked, "renew.ErrKeyRevoked"},
	}
	errorNames = append(slices.Clone(lawErrors),
		namedError{context.Canceled, "context.Canceled"},
		namedError{context.DeadlineExceeded, "context.DeadlineExceeded"})
)

type namedError struct {
	err  error
	name string
}

func errorName(err error) string {
	for _, known := range errorNames {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return err.Error()
}
