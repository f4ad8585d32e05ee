package httpadapter

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/jwtrenew/renew"
)

const headerRequestedWith = "X-Requested-With"

var (
	crossOriginRequest = refusal{Message: "cross-origin request"}
	insecurePage       = refusal{Message: "the page is not on https"}
)

// checkPage returns status 200 for a request that a page of this origin or of a
// trusted one has sent, or what has not been sent by a page at all.
func (b *Browser) checkPage(req *http.Request) (int, refusal) {
	if b.browser.crossOrigin.Check(req) != nil {
		return http.StatusForbidden, crossOriginRequest
	}
	if !b.isSecure(req) {
		return http.StatusForbidden, insecurePage
	}
	if !isJSON(req.Header.Values(fieldContentType)) && req.Header.Get(headerRequestedWith) == "" {
		return http.StatusBadRequest, refusal{Message: "invalid request", Errors: []renew.FieldError{
			{Field: fieldContentType, Message: "is not application/json, and there is no " + headerRequestedWith},
		}}
	}
	return http.StatusOK, refusal{}
}

// isSecure reports whether the page is on https or, with WithInsecureLocalhost,
// on this machine. A browser says so in Origin, behind a proxy too. Without that,
// plain http is a request for this machine without TLS.
func (b *Browser) isSecure(req *http.Request) bool {
	host := hostname(req.Host)
	if b.browser.localhost {
		return isLoopback(host)
	}
	if origin, err := url.Parse(req.Header.Get("Origin")); err == nil && origin.Scheme != "" {
		return origin.Scheme == "https" || b.isTrusted(req)
	}
	return req.TLS != nil || !isLoopback(host)
}

func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return strings.Trim(host, "[]")
}

// isLoopback reports whether a browser reaches only this machine by that name.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func (b *Browser) isTrusted(req *http.Request) bool {
	return slices.Contains(b.browser.origins, req.Header.Get("Origin"))
}

// allowOrigin lets a page of a trusted origin read the response, whatever it is.
func (b *Browser) allowOrigin(w http.ResponseWriter, req *http.Request) {
	if len(b.browser.origins) == 0 {
		return
	}
	w.Header().Add("Vary", "Origin")
	if b.isTrusted(req) {
		w.Header().Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
	}
}

// isPreflight reports whether a browser asks what another origin's page may send.
func isPreflight(req *http.Request) bool {
	return req.Method == http.MethodOptions && req.Header.Get("Access-Control-Request-Method") != ""
}

// servePreflight permits a trusted origin what the client sends, for ten minutes.
func (b *Browser) servePreflight(w http.ResponseWriter, req *http.Request) {
	if !b.isTrusted(req) {
		b.answer(w, req, http.StatusForbidden, crossOriginRequest)
		return
	}
	w.Header().Set("Access-Control-Allow-Methods", http.MethodPost)
	w.Header().Set("Access-Control-Allow-Headers", strings.Join([]string{fieldContentType, fieldIdempotencyKey, headerRequestedWith}, ", "))
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
