package httpadapter

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientIP returns the address of the client that sent a request, as the IP of a
// [renew.IssueRequest] or a [renew.RenewRequest]: without port and zone, an IPv4
// address as such and not mapped into IPv6.
//
// Without trusted proxies it is the address of the connection, RemoteAddr, and no
// header counts: a client can send any. If the connection comes from a trusted
// proxy, the last entry of X-Forwarded-For is the address that this proxy saw; if
// that is a trusted proxy too, the entry before it, and so on. The result is the
// first address that is not a trusted proxy's. An entry to the left of it was sent
// by the client and is ignored. If all entries are trusted proxies, the result is
// the leftmost one, and without entries the address of the connection.
//
// An entry that is not an IP address, such as "unknown" or an empty one, ends the
// search: the result is the proxy that sent it. An entry may have a port, an IPv6
// address square brackets and a zone, which is ignored.
//
// The result is empty if RemoteAddr holds no IP address, as with a Unix socket,
// and is then rejected by [renew.RenewRequest.Validate]: a service behind one
// takes the address from what its proxy documents.
//
// trusted are the networks of the proxies, not of the clients: of 0.0.0.0/0 all
// entries are trusted, and the client chooses the result. Every trusted proxy must
// append to X-Forwarded-For or replace it.
func ClientIP(req *http.Request, trusted ...netip.Prefix) string {
	client, ok := parseAddr(req.RemoteAddr)
	if !ok {
		return ""
	}
	for entry := range forwardedFor(req.Header) {
		if !isTrusted(client, trusted) {
			break
		}
		addr, ok := parseAddr(entry)
		if !ok {
			break
		}
		client = addr
	}
	return client.String()
}

// forwardedFor yields the entries of X-Forwarded-For from the last to the first.
// Several lines are one list (RFC 9110 section 5.3).
func forwardedFor(h http.Header) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, line := range slices.Backward(h.Values("X-Forwarded-For")) {
			for more := true; more; {
				comma := strings.LastIndexByte(line, ',')
				if !yield(strings.Trim(line[comma+1:], " \t")) {
					return
				}
				if more = comma >= 0; more {
					line = line[:comma]
				}
			}
		}
	}
}

// isTrusted reports whether addr, in canonical form, is in one of the prefixes.
func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool {
		const mappedBits = 96 // in front of an IPv4 address mapped into IPv6
		if p.Addr().Is4In6() && p.Bits() >= mappedBits {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
		}
		return p.Contains(addr)
	})
}

// parseAddr reads an address, with a port or without, and returns it in its
// canonical form.
func parseAddr(s string) (addr netip.Addr, ok bool) {
	if withPort, err := netip.ParseAddrPort(s); err == nil {
		addr = withPort.Addr()
	} else {
		if inner, bracketed := strings.CutPrefix(s, "["); bracketed && strings.HasSuffix(inner, "]") && strings.Contains(inner, ":") {
			s = strings.TrimSuffix(inner, "]")
		}
		if addr, err = netip.ParseAddr(s); err != nil {
			return netip.Addr{}, false
		}
	}
	return addr.Unmap().WithZone(""), true
}
