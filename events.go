package renew

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Renewal is a renewal that is about to happen, for [WithRenewFunc]. The function
// owns it and may keep it; only changes to Claims have an effect.
type Renewal struct {
	App     App
	Session Session // before the renewal
	Request RenewRequest
	Retry   bool // the successor exists already and stays as it is: changes to Claims are dropped

	// Claims are the session's custom claims, numbers as json.Number, never nil.
	// What the map holds when the function returns is in the new auth token and
	// in those of later renewals. A reserved name is an error, as in
	// [IssueRequest].
	Claims map[string]any
}

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventIssued         EventKind = "issued"
	EventRenewed        EventKind = "renewed"
	EventRetried        EventKind = "retried"          // the successor of an earlier renewal was given again
	EventRejected       EventKind = "rejected"         // a refresh token was rejected, for another reason than reuse
	EventReused         EventKind = "reused"           // a used refresh token came back: someone holds a copy
	EventAhead          EventKind = "ahead"            // the store has lost a write: see AheadPolicy
	EventRevoked        EventKind = "revoked"          // a session was revoked, or all of a subject where SessionID is empty
	EventAuthRejected   EventKind = "auth_rejected"    // an auth token was rejected
	EventAppKeyRejected EventKind = "app_key_rejected" // an app key was wrong, or the app unknown
)

// Event is something that happened, for [WithEventFunc]. It never holds a token,
// an app key or a custom claim. Fields that are not known are empty: no subject
// or session is known until a token's signature is verified, and no app until the
// [KeyStore] has it, except that the rejection of a refresh token names the app of
// the request.
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

// requestEvent is an event about the presented token.
func (rn *renewal) requestEvent(kind EventKind, reason Reason) Event {
	return Event{
		Kind:      kind,
		AppID:     rn.req.AppID,
		SessionID: rn.session.ID,
		TokenID:   rn.token.tokenID,
		Subject:   rn.session.Subject,
		Reason:    reason,
		IP:        rn.req.IP,
		UserAgent: rn.req.UserAgent,
	}
}

// sessionEvent is an event about a session and its current pair.
func sessionEvent(kind EventKind, s Session) Event {
	return Event{Kind: kind, AppID: s.AppID, SessionID: s.ID, TokenID: s.TokenID, Subject: s.Subject, IP: s.IP, UserAgent: s.UserAgent}
}

// report calls the event function. By now the event has happened: neither the end
// of the request nor a panic may change that, or hide it.
func (r *Renewer) report(ctx context.Context, e Event) {
	if r.eventFunc == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			slog.Default().ErrorContext(ctx, "renew: the event function panicked",
				"kind", string(e.Kind), "app", e.AppID, "session", e.SessionID,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	e.Time = r.time()
	r.eventFunc(context.WithoutCancel(ctx), e)
}
