package httpadapter

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

const headerRequestedWith = "X-Requested-With"

// What is wrong with a page, as it is told.
var (
	errCrossOrigin  = errors.New("cross-origin request")
	errInsecurePage = errors.New("the page is not on https")
)

// checkPage returns nil for a request that a page of this origin or of a trusted
// one has sent, or that was not sent by a page.
func (b *Browser) checkPage(req *http.Request) error {
	switch {
	case b.browser.crossOrigin.Check(req) != nil:
		return errCrossOrigin
	case !b.isSecure(req):
		return errInsecurePage
	case !isJSON(req.Header.Values(fieldContentType)) && req.Header.Get(headerRequestedWith) == "":
		return invalidFields{fieldContentType: "is not application/json, and there is no " + headerRequestedWith}.err(fieldContentType)
	}
	return nil
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
func (b *Browser) allowOrigin(c *call) {
	if len(b.browser.origins) == 0 {
		return
	}
	h := c.w.Header()
	h.Add("Vary", "Origin")
	if b.isTrusted(c.req) {
		h.Set("Access-Control-Allow-Origin", c.req.Header.Get("Origin"))
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Retry-After")
	}
}

// isPreflight reports whether a browser asks what another origin's page may send.
func isPreflight(req *http.Request) bool {
	return req.Method == http.MethodOptions && req.Header.Get("Access-Control-Request-Method") != ""
}

// servePreflight permits a trusted origin what the client sends, for ten minutes.
func (b *Browser) servePreflight(c *call) {
	if !b.isTrusted(c.req) {
		c.reject(errCrossOrigin, http.StatusForbidden, errorBody{Message: errCrossOrigin.Error()})
		return
	}
	h := c.w.Header()
	h.Set("Access-Control-Allow-Methods", http.MethodPost)
	h.Set("Access-Control-Allow-Headers", strings.Join([]string{fieldContentType, fieldIdempotencyKey, headerRequestedWith}, ", "))
	h.Set("Access-Control-Max-Age", "600")
	c.writeNoContent()
}
