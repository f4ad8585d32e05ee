package renew

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/jwtrenew/renew/internal/strictjson"
)

// AuthClaims is what a verified auth token says.
type AuthClaims struct {
	Issuer    string // the app's, or one of its FormerIssuers
	Subject   string
	Audience  []string
	IP        string // of the client that the token was given to
	UserAgent string
	KeyID     string
	TokenID   string
	SessionID string
	IssuedAt  time.Time
	NotBefore time.Time
	ExpiresAt time.Time
	Claims    map[string]any // custom claims, never nil; numbers are json.Number
}

// authNotBeforeLeeway is how early an auth token is valid without [WithLeeway]:
// it is used as soon as it is issued, on other servers, whose clocks differ.
const authNotBeforeLeeway = 5 * time.Second

// VerifyAuthToken returns the claims of an auth token, if it is signed by a
// currently valid key of the app and now is between its nbf, less 5 seconds or the
// leeway, and its exp. It calls the KeyStore only: use [Renewer.VerifySession] for
// requests that must stop as soon as a session is revoked.
//
// Whom the token is for is the caller's to check: compare the Audience with the
// name of the service, if the app has several (RFC 8725 section 3.9).
//
// Errors: [ErrAppNotFound]; [ErrInvalidAuthToken], a [*TokenError] with the
// reason; any other is an internal error.
func (r *Renewer) VerifyAuthToken(ctx context.Context, appID, token string) (*AuthClaims, error) {
	t, claims, err := r.verify(ctx, appID, token)
	r.authRejected(ctx, t, err)
	return claims, err
}

// VerifySession is [Renewer.VerifyAuthToken] and reads the session: it costs one
// call of the TokenStore, and rejects a token whose session is revoked or over.
// Errors are the same.
func (r *Renewer) VerifySession(ctx context.Context, appID, token string) (*AuthClaims, error) {
	t, claims, err := r.verify(ctx, appID, token)
	if err == nil {
		err = r.verifyAlive(ctx, t)
	}
	r.authRejected(ctx, t, err)
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// verify returns the token as far as it is known to be genuine, even with an
// error; it is never nil.
func (r *Renewer) verify(ctx context.Context, appID, compact string) (*token, *AuthClaims, error) {
	app, t, err := r.parse(ctx, appID, compact, authKind)
	if err != nil {
		return &token{appID: app.ID}, nil, err
	}
	switch now := r.time(); {
	case t.tooEarly(now, max(r.leeway, authNotBeforeLeeway)):
		return t, nil, t.kind.reject(ReasonTooEarly, "")
	case t.expired(now, r.leeway):
		return t, nil, t.kind.reject(ReasonExpired, "")
	}
	claims, err := t.authClaims()
	return t, claims, err
}

func (r *Renewer) verifyAlive(ctx context.Context, t *token) error {
	s, err := r.readSession(ctx, t.appID, t.sessionID)
	now := r.time()
	switch {
	case errors.Is(err, ErrSessionNotFound):
		err = t.kind.reject(ReasonUnknownSession, "")
	case err != nil:
		err = fmt.Errorf("read session: %w", err)
	case !s.RevokedAt.IsZero():
		err = t.kind.reject(ReasonRevokedSession, "")
	case s.pastEnd(now):
		err = t.kind.reject(ReasonEndedSession, "")
	case !s.Live(now.Add(-r.leeway)):
		err = t.kind.reject(ReasonEndedSession, "its refresh token has expired")
	}
	if err != nil {
		return sessionError(Session{AppID: t.appID, ID: t.sessionID}, t.tokenID, err)
	}
	return nil
}

// authRejected reports a rejected auth token.
func (r *Renewer) authRejected(ctx context.Context, t *token, err error) {
	var rejected *TokenError
	if errors.As(err, &rejected) {
		r.report(ctx, Event{Kind: EventAuthRejected, AppID: t.appID, SessionID: t.sessionID, TokenID: t.tokenID, Reason: rejected.Reason})
	}
}

// authClaims reads the claims that only an auth token has.
func (t *token) authClaims() (*AuthClaims, error) {
	c := &AuthClaims{
		Issuer:    t.issuer,
		KeyID:     t.keyID,
		TokenID:   t.tokenID,
		SessionID: t.sessionID,
		IssuedAt:  t.issuedAt,
		NotBefore: t.notBefore,
		ExpiresAt: t.expiresAt,
		Claims:    map[string]any{},
	}
	var ok bool
	for _, claim := range []struct {
		name  string
		value *string
	}{{"sub", &c.Subject}, {"ip", &c.IP}, {"useragent", &c.UserAgent}} {
		if *claim.value, ok = strictjson.String(t.members[claim.name]); !ok {
			return nil, t.kind.reject(ReasonClaims, claim.name+" is not a string")
		}
	}
	if aud, has := t.members["aud"]; has {
		if c.Audience, ok = readAudience(aud); !ok {
			return nil, t.kind.reject(ReasonClaims, "aud is neither a string nor an array of strings")
		}
	}
	for name, value := range t.members {
		if isReserved(name) {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, t.kind.reject(ReasonClaims, "a custom claim is not JSON")
		}
		c.Claims[name] = v
	}
	return c, nil
}

// KeySet returns every key that verifies a token of the app, as a JWK set (RFC
// 7517 section 5) to publish: services that verify auth tokens by themselves read
// it. A replaced key is in it until the last token that it can have signed has
// expired.
//
// Errors: [ErrAppNotFound]; [errors.ErrUnsupported], if the KeyStore does not
// implement [KeyLister]; any other is an internal error.
func (r *Renewer) KeySet(ctx context.Context, appID string) (*jose.JSONWebKeySet, error) {
	lister, ok := r.keys.(KeyLister)
	if !ok {
		return nil, fmt.Errorf("key set: the key store does not implement KeyLister: %w", errors.ErrUnsupported)
	}
	if checkText(appID, maxNameBytes) != "" {
		return nil, ErrAppNotFound
	}
	keys, err := lister.VerificationKeys(ctx, appID)
	if errors.Is(err, ErrAppNotFound) {
		return nil, ErrAppNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read verification keys: %w", err)
	}
	before := r.time().Add(-r.clockTolerance())
	set := &jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(keys))}
	for _, key := range keys {
		switch {
		case key == nil:
			return nil, fmt.Errorf("app %q: the key store returned a verification key that is nil", appID)
		case !key.endedBefore(before):
			set.Keys = append(set.Keys, key.JWK())
		}
	}
	return set, nil
}
