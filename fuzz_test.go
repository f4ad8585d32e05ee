package renew_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// newFuzzFixture returns a fixture with the corpus's key and settings of the app,
// the same in every process: what one process finds means the same in another.
func newFuzzFixture(t *testing.T, app renew.App, opts ...renew.Option) *fixture {
	t.Helper()
	return fixtureConfig{
		app: func(a *renew.App) {
			app.ID, app.Issuer = a.ID, a.Issuer
			*a = app
		},
		key:  loadCorpus().signing["ES256"],
		opts: opts,
	}.new(t)
}

// newFuzzedSession returns such a fixture with the corpus's own session.
func newFuzzedSession(t *testing.T) *fixture {
	t.Helper()
	f := newFuzzFixture(t, renew.App{}, renew.WithReuseRevocation(false))
	require.NoError(t, f.store.CreateSession(f.ctx, loadCorpus().sessions["own"]))
	return f
}

// FuzzToken presents any text as a token, of either kind.
func FuzzToken(f *testing.F) {
	for _, token := range loadCorpus().tokens {
		if len(token.Compact) < 100<<10 {
			f.Add(token.Compact)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		presentAnything(newFuzzedSession(t), token)
	})
}

// FuzzSignedToken presents any header and any payload, with a valid signature: what
// stands behind the signature check is found here.
func FuzzSignedToken(f *testing.F) {
	c := loadCorpus()
	made := forge{key: c.signing["ES256"], issuer: "issuer_1", session: c.sessions["own"]}
	header := made.header().String()
	f.Add(header, made.claims().String())
	for _, token := range c.tokens {
		segments := strings.Split(token.Compact, ".")
		if len(segments) != 3 || len(segments[0])+len(segments[1]) >= 100<<10 {
			continue
		}
		f.Add(decodeLeniently(segments[0]), decodeLeniently(segments[1]))
		f.Add(header, decodeLeniently(segments[1]))
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		presentAnything(newFuzzedSession(t), made.sign(header, payload))
	})
}

// decodeLeniently decodes what it can.
func decodeLeniently(segment string) string {
	decoded, _ := base64.RawURLEncoding.DecodeString(segment)
	return string(decoded)
}

// presentAnything presents a token everywhere, and requires of every result that
// it is a documented one; of every token that is accepted, that another reader
// accepts it.
func presentAnything(w *fixture, token string) {
	t := w.t
	t.Helper()
	own := loadCorpus().sessions["own"]
	claims, err := w.VerifyAuthToken(w.ctx, "app_1", token)
	if err == nil {
		payload := requireReadable(t, token)
		require.NotContains(t, payload, "type")
		require.Equal(t, payload["sub"], any(claims.Subject))
		require.Equal(t, payload["jid"], any(claims.TokenID))
		require.Equal(t, payload["exp"], any(number(claims.ExpiresAt.Unix())))
		require.True(t, claims.ExpiresAt.After(w.clock.Now()))
	} else {
		require.ErrorIs(t, err, renew.ErrInvalidAuthToken)
		requireQuotesNothing(t, err, token)
	}
	before, err := w.store.Session(w.ctx, "app_1", own.ID)
	require.NoError(t, err)
	next, err := w.Renew(w.ctx, renew.RenewRequest{AppID: "app_1", RefreshToken: token, IP: testIP, UserAgent: testAgent})
	var invalid *renew.ValidationError
	switch {
	case err == nil:
		payload := requireReadable(t, token)
		require.Equal(t, "refresh", payload["type"])
		require.Equal(t, own.TokenID, payload["jid"])
		require.Equal(t, own.ID, next.SessionID)
		return
	case errors.As(err, &invalid):
		require.Empty(t, token)
	case errors.Is(err, renew.ErrAhead):
		require.Greater(t, requireReadable(t, token)["jid"], any(own.TokenID))
	default:
		require.ErrorIs(t, err, renew.ErrInvalidRefreshToken)
		requireQuotesNothing(t, err, token)
	}
	after, err := w.store.Session(w.ctx, "app_1", own.ID)
	require.NoError(t, err)
	require.Equal(t, before, after)
	if err := w.Revoke(w.ctx, "app_1", token); err != nil {
		require.ErrorIs(t, err, renew.ErrInvalidToken)
		return
	}
	requireReadable(t, token)
}

// requireReadable requires that a token is what this library's documentation
// says, read by the standard library alone, and returns its payload.
func requireReadable(t *testing.T, token string) map[string]any {
	t.Helper()
	header, payload := decodeSegment(t, token, 0), decodeSegment(t, token, 1)
	require.Equal(t, "ES256", header["alg"])
	require.Equal(t, loadCorpus().keys["ES256"].ID, header["kid"])
	for name, value := range header {
		require.Contains(t, []string{"alg", "kid", "typ"}, name)
		require.True(t, name != "typ" || value == "JWT")
	}
	require.Equal(t, "issuer_1", payload["iss"])
	for _, segment := range strings.Split(token, ".")[:2] {
		requireNoneTwice(t, []byte(decodeLeniently(segment)))
	}
	for _, name := range []string{"jid", "iat", "nbf", "exp"} {
		require.Contains(t, payload, name)
	}
	return payload
}

// requireNoneTwice requires that an object has no member twice.
func requireNoneTwice(t *testing.T, object []byte) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	_, err := d.Token()
	require.NoError(t, err)
	seen := map[any]bool{}
	for d.More() {
		name, err := d.Token()
		require.NoError(t, err)
		require.False(t, seen[name], "%q twice", name)
		seen[name] = true
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
	}
}

// FuzzClaims issues, stores and renews any custom claims: they are rejected
// immediately, or keep their value through all renewals.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"role":"admin"}`, `{"n":9007199254740993,"m":1e400,"f":1.10,"z":-0}`, `{"t":"<&>\u2028\ufffd\ud83d\ude00\u0000"}`,
		`{"a":{"b":[1,null,true,{"c":""}]}}`, `{"iss":"me"}`, `{"EXP":1}`, `{"\u017fub":1}`, `{"jti":"x"}`, `{"":""}`, `{"a":1,"A":2}`,
		`{"c":"` + strings.Repeat("x", 16<<10) + `"}`, `{"\\ufffd":"\\ufffd"}`, `{"d":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `{"a":1,"a":2}`,
	} {
		f.Add([]byte(seed), uint8(3), true)
		f.Add([]byte(seed), uint8(1), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, renewals uint8, hook bool) {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var custom map[string]any
		if d.Decode(&custom) != nil {
			return
		}
		var opts []renew.Option
		if hook {
			opts = append(opts, renew.WithRenewFunc(noChange))
		}
		w := newFuzzFixture(t, renew.App{}, opts...)
		b, err := w.Issue(w.ctx, renew.IssueRequest{AppID: "app_1", Subject: "user", IP: testIP, UserAgent: testAgent, Claims: custom})
		if why := whyClaimsAreRejected(t, custom); why != "" {
			var invalid *renew.ValidationError
			require.ErrorAs(t, err, &invalid, why)
			require.Nil(t, b)
			return
		}
		require.NoError(t, err)
		for i := range int(renewals%4) + 1 {
			got, err := w.VerifyAuthToken(w.ctx, "app_1", b.AuthToken)
			require.NoError(t, err)
			requireSameClaims(t, custom, got.Claims, i)
			b, err = w.Renew(w.ctx, renew.RenewRequest{AppID: "app_1", RefreshToken: b.RefreshToken, IP: testIP, UserAgent: testAgent})
			require.NoError(t, err)
		}
	})
}

// whyClaimsAreRejected says why custom claims must be rejected, if they must.
func whyClaimsAreRejected(t *testing.T, custom map[string]any) string {
	t.Helper()
	for name := range custom {
		for _, reserved := range []string{"iss", "iat", "nbf", "exp", "jid", "sid", "sub", "aud", "ip", "useragent", "type", "jti"} {
			if strings.EqualFold(name, reserved) {
				return "a reserved name"
			}
		}
	}
	encoded, err := json.Marshal(custom)
	require.NoError(t, err)
	if len(encoded) > 16<<10 {
		return "too long"
	}
	return ""
}

func requireSameClaims(t *testing.T, want, got map[string]any, renewals int) {
	t.Helper()
	if len(want) == 0 && len(got) == 0 {
		return
	}
	if !reflect.DeepEqual(want, got) {
		require.Equal(t, want, got, "after %d renewals", renewals)
	}
}

// FuzzRenewer runs a Renewer and a simple model side by side: tokens of any age
// presented in any order, with and without idempotency keys, over a store that
// fails, loses replies, or is raced by another client.
func FuzzRenewer(f *testing.F) {
	for _, seed := range []string{
		"", "\x00\x00\x00\x00", "\x0f\x00\x00\x01\x00\x00\x05\x00\x00", "\x01\x00\x01\x00\x00\x01\x00\x07\x90\x00\x01\x00",
		"\x03\x00\x00\x00\x00\x00\x03\x07\x20\x00\x00\x00\x04", "\x02\x00\x00\x02\x00\x01\x00\x06\x01\x00\x00\x06\x01", "\x04\x00\x00\x00\x07\xff\x00\x00\x00\x05",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		var settings byte
		if len(script) > 0 {
			settings, script = script[0], script[1:]
		}
		run := newModelRun(t, settings)
		for steps := 0; len(script) >= 3 && steps < 60; steps++ {
			run.step(script[0], script[1], script[2])
			script = script[3:]
		}
	})
}

// pair is one that was made; what the client has of it may be nothing.
type pair struct {
	tokenID  string
	refresh  string // empty: its response was lost
	nbf, exp time.Time
}

// model is the session as section 6 of the design would have it.
type model struct {
	retryWindow, reuseLeeway, notBefore, ttl time.Duration
	ends                                     time.Time // zero: never

	pairs     []pair // oldest first; the last is the current one
	rotatedAt time.Time
	key       string // of the last renewal
	revoked   bool
}

// outcome says what becomes of pair i if it is presented: renewed, retried, an
// invalid request, or the reason for a rejection. overtaken means that it could
// have been renewed or retried when it was presented.
func (m *model) outcome(i int, key string, now time.Time, overtaken bool) string {
	p, last := m.pairs[i], len(m.pairs)-1
	switch {
	case m.revoked:
		return string(renew.ReasonRevokedSession)
	case !m.ends.IsZero() && !now.Before(m.ends):
		return string(renew.ReasonEndedSession)
	case i == last && now.Before(p.nbf):
		return string(renew.ReasonTooEarly)
	case i == last && !now.Before(p.exp):
		return string(renew.ReasonExpired)
	case i == last && key != "" && key == m.key:
		return keyUsed
	case i == last:
		return renewed
	}
	age := now.Sub(m.rotatedAt)
	mayRetry := i == last-1 && (key != "" && key == m.key || m.key == "" && m.retryWindow > 0 && age <= m.retryWindow)
	switch {
	case mayRetry && now.Before(m.pairs[last].exp):
		return retried
	case mayRetry:
		return string(renew.ReasonExpired)
	case overtaken, i == last-1 && m.reuseLeeway > 0 && age <= m.reuseLeeway:
		return string(renew.ReasonSuperseded)
	}
	return string(renew.ReasonReused)
}

const (
	renewed = "renewed"
	retried = "retried"
	keyUsed = "the idempotency key was used before"
)

// add makes a new current pair.
func (m *model) add(tokenID, key string, now time.Time) *pair {
	second := now.Truncate(time.Second)
	p := pair{tokenID: tokenID, nbf: second.Add(m.notBefore), exp: second.Add(m.ttl)}
	if !m.ends.IsZero() && m.ends.Before(p.exp) {
		p.exp = m.ends
	}
	m.pairs = append(m.pairs, p)
	m.rotatedAt, m.key = now, key
	return &m.pairs[len(m.pairs)-1]
}

// modelRun is a Renewer and its model.
type modelRun struct {
	*fixture
	model model
	first *renew.Bundle
}

func newModelRun(t *testing.T, settings byte) *modelRun {
	t.Helper()
	pick := func(bit byte, d time.Duration) time.Duration {
		if settings&bit != 0 {
			return d
		}
		return 0
	}
	m := model{retryWindow: pick(1, 5*time.Second), reuseLeeway: pick(2, 10*time.Second), notBefore: pick(4, 2*time.Second), ttl: time.Minute}
	app := renew.App{AuthTTL: m.ttl / 2, RefreshTTL: m.ttl, RefreshNotBefore: m.notBefore, SessionTTL: pick(8, 5*time.Minute)}
	w := newFuzzFixture(t, app, renew.WithRetryWindow(m.retryWindow), renew.WithReuseLeeway(m.reuseLeeway))
	if app.SessionTTL > 0 {
		m.ends = epoch.Truncate(time.Second).Add(app.SessionTTL)
	}
	r := &modelRun{fixture: w, model: m}
	b, err := w.Issue(w.ctx, renew.IssueRequest{AppID: "app_1", Subject: "user", IP: testIP, UserAgent: testAgent})
	require.NoError(t, err)
	r.first = b
	r.model.add(b.TokenID, "", epoch).refresh = b.RefreshToken
	return r
}

// step does one thing: kind says what, which says to which pair, and how says
// with which idempotency key or for how long.
func (r *modelRun) step(kind, which, how byte) {
	const interloper = "the-interlopers-key"
	i := len(r.model.pairs) - 1 - int(which)%min(4, len(r.model.pairs))
	key := []string{"", testKey1, testKey2}[how%3]
	now := r.clock.Now()
	if kind%8 < 6 && r.model.pairs[i].refresh == "" {
		return // no client has it
	}
	outcome := r.model.outcome(i, key, now, false)
	writes := outcome == renewed || outcome == retried
	switch kind % 8 {
	case 0:
		r.present(i, key)
	case 1: // the store fails before it writes
		r.hooks.rotate = func(context.Context, func() error) error { return errOutage }
		if writes {
			r.fails(i, key)
		} else {
			r.present(i, key)
		}
	case 2: // it writes, and its reply is lost once
		r.hooks.rotate = func(_ context.Context, do func() error) error {
			r.hooks.rotate = nil
			return errors.Join(do(), errOutage)
		}
		if outcome == retried {
			r.fails(i, key)
		} else {
			r.present(i, key)
		}
	case 3: // it writes, its reply is lost, and it fails when it is asked
		r.hooks.rotate = func(_ context.Context, do func() error) error {
			r.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
				return renew.Session{}, errOutage
			}
			return errors.Join(do(), errOutage)
		}
		switch outcome {
		case renewed:
			r.fails(i, key)
			r.model.add(r.stored().TokenID, key, now)
		case retried:
			r.fails(i, key)
		default:
			r.present(i, key)
		}
	case 4: // another request is faster, by no more than the store's call
		r.hooks.rotate = func(_ context.Context, do func() error) error {
			r.hooks.rotate = nil
			r.present(i, interloper)
			return do()
		}
		r.present(i, key)
	case 5: // the store cannot be read
		r.hooks.session = func(context.Context, func() (renew.Session, error)) (renew.Session, error) {
			return renew.Session{}, errOutage
		}
		r.fails(i, key)
	case 6: // time passes
		r.clock.Move(time.Duration(which)*time.Second + time.Duration(how)*4*time.Millisecond)
	case 7: // a logout, now and then
		if which%8 == 0 {
			require.NoError(r.t, r.Revoke(r.ctx, "app_1", r.first.AuthToken))
			r.model.revoked = true
		}
	}
	r.hooks.rotate, r.hooks.session = nil, nil
	r.compare()
}

func (r *modelRun) renewRequest(i int, key string) renew.RenewRequest {
	return renew.RenewRequest{AppID: "app_1", RefreshToken: r.model.pairs[i].refresh, IP: testIP, UserAgent: testAgent, IdempotencyKey: key}
}

// present presents pair i and requires what the model says, at the time of
// the result.
func (r *modelRun) present(i int, key string) {
	r.t.Helper()
	presented := len(r.model.pairs)
	now := r.clock.Now()
	first := r.model.outcome(i, key, now, false)
	b, err := r.Renew(r.ctx, r.renewRequest(i, key))
	outcome := r.model.outcome(i, key, now, first == renewed || first == retried)
	about := fmt.Sprintf("pair %d of %d, then %d", i, presented, len(r.model.pairs))
	switch outcome {
	case renewed:
		require.NoError(r.t, err, about)
		require.False(r.t, b.Retried, about)
		require.Greater(r.t, b.TokenID, r.model.pairs[len(r.model.pairs)-1].tokenID)
		r.model.add(b.TokenID, key, now).refresh = b.RefreshToken
	case retried:
		require.NoError(r.t, err, about)
		require.True(r.t, b.Retried, about)
		last := &r.model.pairs[len(r.model.pairs)-1]
		require.Equal(r.t, last.tokenID, b.TokenID)
		last.refresh = b.RefreshToken
	case keyUsed:
		var invalid *renew.ValidationError
		require.ErrorAs(r.t, err, &invalid, about)
	default:
		requireRejected(r.t, err, renew.Reason(outcome))
		r.model.revoked = r.model.revoked || outcome == string(renew.ReasonReused)
	}
}

// fails presents pair i and requires an internal error.
func (r *modelRun) fails(i int, key string) {
	r.t.Helper()
	_, err := r.Renew(r.ctx, r.renewRequest(i, key))
	requireInternal(r.t, err)
	require.ErrorIs(r.t, err, errOutage)
}

func (r *modelRun) stored() renew.Session {
	r.t.Helper()
	s, err := r.store.Session(r.ctx, "app_1", r.first.SessionID)
	require.NoError(r.t, err)
	return s
}

// compare requires that the stored session is the model's.
func (r *modelRun) compare() {
	r.t.Helper()
	s, last := r.stored(), r.model.pairs[len(r.model.pairs)-1]
	require.Equal(r.t, last.tokenID, s.TokenID)
	require.Equal(r.t, int64(len(r.model.pairs)-1), s.Generation)
	require.Equal(r.t, last.nbf, s.RefreshNotBefore)
	require.Equal(r.t, last.exp, s.RefreshExpiresAt)
	require.Equal(r.t, r.model.rotatedAt, s.IssuedAt)
	require.Equal(r.t, r.model.revoked, !s.RevokedAt.IsZero())
}
