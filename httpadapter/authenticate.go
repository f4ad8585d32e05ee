package httpadapter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/jwtrenew/renew"
)

// Authenticate returns middleware that lets a request through if its Authorization
// header is a Bearer token (RFC 6750 section 2.1) that is a valid auth token of
// the app. The next handler finds its claims with [Claims].
//
// The token is verified with [renew.Renewer.VerifyAuthToken], or with
// [renew.Renewer.VerifySession] if [WithSessionCheck] is given. [WithAudience]
// requires that the token is for this service. Otherwise the response is
//
//	401  {"message":"invalid auth token"}
//	     with WWW-Authenticate: Bearer realm="<app ID>" if the request has no
//	     Bearer token; an invalid token, and a repeated Authorization header,
//	     add error="invalid_token" (RFC 6750 section 3)
//	500  {"message":"internal error"}
//	     a store failed, or the app does not exist; the log says why
//
// with Content-Type: application/json and Cache-Control: no-store. A rejected
// token leaves a record at level info, an internal error one at level error, as
// the package comment describes; a request without a token leaves none.
//
// A CORS preflight carries no token: CORS middleware must stand in front.
func Authenticate(r *renew.Renewer, appID string, opts ...Option) func(next http.Handler) http.Handler {
	a := &adapter{renewer: r, logger: slog.Default(), authenticates: true}
	err := a.configure(opts)
	if appID == "" {
		err = errors.Join(err, errors.New("the app ID is empty"))
	}
	if err != nil {
		handler := a.misconfigured("Authenticate", err)
		return func(http.Handler) http.Handler { return handler }
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			c := &call{adapter: a, w: w, req: req, ctx: req.Context(), appID: appID, appKnown: true} // the ID is not the client's
			if claims := c.authClaims(); claims != nil {
				next.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), claimsKey{}, claims)))
			}
		})
	}
}

type claimsKey struct{}

// Claims returns the claims of the auth token that [Authenticate] has verified,
// given the context of the request. It returns nil if the request did not pass
// through that middleware. The handlers of one request share the claims.
func Claims(ctx context.Context) *renew.AuthClaims {
	claims, _ := ctx.Value(claimsKey{}).(*renew.AuthClaims)
	return claims
}

var (
	errRepeatedHeader = errors.New("the Authorization header is sent more than once")
	errAudience       = &renew.TokenError{Reason: "wrong_audience"}
)

// authClaims returns the claims of the request's token, or responds and returns
// nil.
func (c *call) authClaims() *renew.AuthClaims {
	defer c.recoverPanic()
	values := c.req.Header.Values("Authorization")
	if len(values) > 1 {
		c.unauthorized(errRepeatedHeader)
		return nil
	}
	token, given := bearerToken(values)
	if !given {
		c.challenge("")
		return nil
	}
	c.secrets = []string{token}
	claims, err := c.verify(token)
	switch {
	case errors.Is(err, renew.ErrInvalidToken):
		c.unauthorized(err)
	case err != nil:
		c.fail(err)
	default:
		return claims
	}
	return nil
}

// verify checks a token. What is not a JWS of ours costs no store call.
func (c *call) verify(token string) (*renew.AuthClaims, error) {
	verify := c.renewer.VerifyAuthToken
	if c.sessionCheck {
		verify = c.renewer.VerifySession
	}
	claims, err := verify(c.ctx, c.appID, token)
	if err != nil {
		return nil, err
	}
	isMine := func(name string) bool { return slices.Contains(c.audience, name) }
	if c.audience != nil && !slices.ContainsFunc(claims.Audience, isMine) {
		return nil, &renew.SessionError{AppID: c.appID, SessionID: claims.SessionID, TokenID: claims.TokenID, Err: errAudience}
	}
	return claims, nil
}

// bearerToken returns the token of an Authorization header: the scheme in any
// case (RFC 9110 section 11.1), one or more spaces, the token. Any other scheme is
// treated as no header.
func bearerToken(values []string) (token string, given bool) {
	if len(values) == 0 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	return strings.TrimLeft(token, " "), strings.EqualFold(scheme, "Bearer")
}

// unauthorized responds to a token that is invalid.
func (c *call) unauthorized(err error) {
	c.logError(slog.LevelInfo, "request rejected", err)
	c.challenge(`, error="invalid_token"`)
}

// challenge responds with the Bearer challenge, which has at least one parameter
// (RFC 6750 section 3).
func (c *call) challenge(parameters string) {
	realm := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.appID)
	c.w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s"%s`, realm, parameters))
	c.writeJSON(http.StatusUnauthorized, invalidAuthToken)
}
