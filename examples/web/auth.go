package main

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/jwtrenew/renew"
)

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

func (s *site) authenticated(next func(http.ResponseWriter, *http.Request, *renew.AuthClaims)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims, err := s.renewer.VerifySession(r.Context(), appID, token)
		switch {
		case errors.Is(err, renew.ErrInvalidToken):
			s.writeError(w, r, http.StatusUnauthorized, "invalid auth token")
		case err != nil:
			s.fail(w, r, err)
		default:
			next(w, r, claims)
		}
	})
}
