package httpadapter_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/httpadapter"
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// Promise: the address is the connection's, or the one that the outermost trusted
// proxy has seen; nothing that a client sends changes it.
func TestClientIP(t *testing.T) {
	private := prefixes("10.0.0.0/8", "fd00::/8")
	for _, test := range []struct {
		name      string
		remote    string
		forwarded []string // lines of X-Forwarded-For
		trusted   []netip.Prefix
		want      string
	}{
		{"no proxy", "192.0.2.1:4711", nil, nil, "192.0.2.1"},
		{"no proxy, IPv6", "[2001:db8::1]:4711", nil, nil, "2001:db8::1"},
		{"no proxy, zone", "[fe80::1%eth0]:4711", nil, nil, "fe80::1"},
		{"no proxy, mapped", "[::ffff:192.0.2.1]:4711", nil, nil, "192.0.2.1"},
		{"no port", "192.0.2.1", nil, nil, "192.0.2.1"},
		{"no port, IPv6", "2001:DB8::1", nil, nil, "2001:db8::1"},
		{"no port, brackets", "[2001:db8::1]", nil, nil, "2001:db8::1"},
		{"Unix socket", "@", []string{"192.0.2.1"}, private, ""},
		{"Unix socket with a path", "/run/api.sock", []string{"192.0.2.1"}, private, ""},
		{"no RemoteAddr", "", []string{"192.0.2.1"}, private, ""},
		{"host name", "localhost:80", nil, private, ""},

		{"header without trusted proxies", "10.0.0.1:80", []string{"192.0.2.1"}, nil, "10.0.0.1"},
		{"header of an untrusted client", "203.0.113.7:80", []string{"192.0.2.1"}, private, "203.0.113.7"},
		{"one proxy", "10.0.0.1:80", []string{"192.0.2.1"}, private, "192.0.2.1"},
		{"one proxy, IPv6", "[fd00::1]:80", []string{"2001:db8::1"}, private, "2001:db8::1"},
		{"one proxy on a mapped address", "[::ffff:10.0.0.1]:80", []string{"192.0.2.1"}, private, "192.0.2.1"},
		{"one proxy with a zone", "[fd00::1%eth0]:80", []string{"192.0.2.1"}, private, "192.0.2.1"},
		{"one proxy, no header", "10.0.0.1:80", nil, private, "10.0.0.1"},
		{"two proxies", "10.0.0.1:80", []string{"192.0.2.1, 10.0.0.2"}, private, "192.0.2.1"},
		{"two proxies, two lines", "10.0.0.1:80", []string{"192.0.2.1", "10.0.0.2"}, private, "192.0.2.1"},
		{"three proxies, lines mixed", "10.0.0.1:80", []string{"192.0.2.1,fd00::3", "10.0.0.2"}, private, "192.0.2.1"},
		{"no spaces", "10.0.0.1:80", []string{"192.0.2.1,10.0.0.2"}, private, "192.0.2.1"},
		{"spaces and tabs", "10.0.0.1:80", []string{" \t192.0.2.1 \t ,\t10.0.0.2 "}, private, "192.0.2.1"},
		{"only proxies", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, private, "10.0.0.3"},

		{"spoofed entry", "10.0.0.1:80", []string{"198.51.100.9, 192.0.2.1"}, private, "192.0.2.1"},
		{"spoofed proxy", "10.0.0.1:80", []string{"10.0.0.9, 192.0.2.1"}, private, "192.0.2.1"},
		{"spoofed chain", "10.0.0.1:80", []string{"198.51.100.9, 10.0.0.9, 192.0.2.1, 10.0.0.2"}, private, "192.0.2.1"},
		{"spoofed line", "10.0.0.1:80", []string{"198.51.100.9", "192.0.2.1"}, private, "192.0.2.1"},
		{"spoofed loopback", "10.0.0.1:80", []string{"127.0.0.1, 192.0.2.1"}, private, "192.0.2.1"},
		{"spoofed garbage", "10.0.0.1:80", []string{"x, , ,192.0.2.1"}, private, "192.0.2.1"},
		{"spoofed comma at the start", "10.0.0.1:80", []string{",192.0.2.1"}, private, "192.0.2.1"},
		{"spoofed 10,000 entries", "10.0.0.1:80", []string{strings.Repeat("10.0.0.9,", 10_000) + "192.0.2.1"}, private, "192.0.2.1"},

		{"unknown", "10.0.0.1:80", []string{"198.51.100.9, unknown"}, private, "10.0.0.1"},
		{"unknown behind a second proxy", "10.0.0.1:80", []string{"198.51.100.9, unknown, 10.0.0.2"}, private, "10.0.0.2"},
		{"empty header", "10.0.0.1:80", []string{""}, private, "10.0.0.1"},
		{"empty last line", "10.0.0.1:80", []string{"198.51.100.9", ""}, private, "10.0.0.1"},
		{"empty last entry", "10.0.0.1:80", []string{"198.51.100.9,"}, private, "10.0.0.1"},
		{"spaces", "10.0.0.1:80", []string{"198.51.100.9,  "}, private, "10.0.0.1"},
		{"Unix socket of a second proxy", "10.0.0.1:80", []string{"198.51.100.9, unix:"}, private, "10.0.0.1"},
		{"host name in the header", "10.0.0.1:80", []string{"localhost"}, private, "10.0.0.1"},
		{"Forwarded syntax", "10.0.0.1:80", []string{"for=192.0.2.1"}, private, "10.0.0.1"},
		{"quotes", "10.0.0.1:80", []string{`"192.0.2.1"`}, private, "10.0.0.1"},
		{"leading zeros", "10.0.0.1:80", []string{"192.0.02.1"}, private, "10.0.0.1"},
		{"hexadecimal", "10.0.0.1:80", []string{"0xc0.0.2.1"}, private, "10.0.0.1"},
		{"a prefix", "10.0.0.1:80", []string{"192.0.2.0/24"}, private, "10.0.0.1"},
		{"semicolons", "10.0.0.1:80", []string{"198.51.100.9; 192.0.2.1"}, private, "10.0.0.1"},
		{"no-break space", "10.0.0.1:80", []string{"\u00a0192.0.2.1"}, private, "10.0.0.1"},
		{"control character", "10.0.0.1:80", []string{"192.0.2.1\x00"}, private, "10.0.0.1"},
		{"brackets around IPv4", "10.0.0.1:80", []string{"[192.0.2.1]"}, private, "10.0.0.1"},
		{"one bracket", "10.0.0.1:80", []string{"[2001:db8::1"}, private, "10.0.0.1"},
		{"port without a number", "10.0.0.1:80", []string{"192.0.2.1:"}, private, "10.0.0.1"},
		{"port too large", "10.0.0.1:80", []string{"192.0.2.1:65536"}, private, "10.0.0.1"},

		{"port", "10.0.0.1:80", []string{"192.0.2.1:4711, 10.0.0.2:4711"}, private, "192.0.2.1"},
		{"IPv6 in brackets", "10.0.0.1:80", []string{"[2001:db8::1]"}, private, "2001:db8::1"},
		{"IPv6 with a port", "10.0.0.1:80", []string{"[2001:db8::1]:4711, [fd00::2]:80"}, private, "2001:db8::1"},
		{"IPv6 with a zone", "10.0.0.1:80", []string{"fe80::1%eth0, fd00::2%eth1"}, private, "fe80::1"},
		{"IPv6 with a zone in brackets", "10.0.0.1:80", []string{"[fe80::1%eth0]:80"}, private, "fe80::1"},
		{"IPv6 written long", "10.0.0.1:80", []string{"2001:0DB8:0:0:0:0:0:1"}, private, "2001:db8::1"},
		{"mapped client", "10.0.0.1:80", []string{"::ffff:192.0.2.1"}, private, "192.0.2.1"},
		{"mapped proxy", "10.0.0.1:80", []string{"192.0.2.1, ::ffff:10.0.0.2"}, private, "192.0.2.1"},
		{"mapped proxy, in hexadecimal", "10.0.0.1:80", []string{"192.0.2.1, ::ffff:a00:2"}, private, "192.0.2.1"},

		{"prefix of mapped addresses", "10.0.0.1:80", []string{"192.0.2.1"}, prefixes("::ffff:10.0.0.0/104"), "192.0.2.1"},
		{"another prefix of mapped addresses", "11.0.0.1:80", []string{"192.0.2.1"}, prefixes("::ffff:10.0.0.0/104"), "11.0.0.1"},
		{"prefix with host bits", "10.0.0.1:80", []string{"192.0.2.1"}, prefixes("10.1.2.3/8"), "192.0.2.1"},
		{"one address", "10.0.0.1:80", []string{"192.0.2.1, 10.0.0.2"}, prefixes("10.0.0.1/32"), "10.0.0.2"},
		{"invalid prefix", "10.0.0.1:80", []string{"192.0.2.1"}, []netip.Prefix{{}}, "10.0.0.1"},
		{"all of IPv6 is not IPv4", "10.0.0.1:80", []string{"192.0.2.1"}, prefixes("::/0"), "10.0.0.1"},
		{"all of IPv4 is not IPv6", "[fd00::1]:80", []string{"192.0.2.1"}, prefixes("0.0.0.0/0"), "fd00::1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &http.Request{RemoteAddr: test.remote}
			if test.forwarded != nil {
				req.Header = http.Header{"X-Forwarded-For": test.forwarded, "Forwarded": {"for=198.51.100.1"}, "X-Real-Ip": {"198.51.100.2"}}
			}
			got := httpadapter.ClientIP(req, test.trusted...)
			if got != test.want {
				t.Errorf("address is %q, want %q", got, test.want)
			}
			err := renew.IssueRequest{AppID: appID, Subject: "ann", IP: got}.Validate()
			if (err == nil) != (test.want != "") {
				t.Errorf("as the IP of a request %q is %v", got, err)
			}
		})
	}
}

// FuzzClientIP puts anything in front of what one trusted proxy has appended: the
// address is the appended one. The result is always empty or canonical.
func FuzzClientIP(f *testing.F) {
	trusted := prefixes("10.0.0.0/8")
	for _, seed := range []string{"", "10.0.0.1", "x, ", "192.0.2.9,", "[::1]:80", ",,,", "\x00"} {
		f.Add("10.0.0.1:80", seed)
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, remote, sent string) {
		lines := []string{sent, "192.0.2.1"}
		for _, forwarded := range [][]string{lines, {strings.Join(lines, ", ")}} {
			got := httpadapter.ClientIP(&http.Request{RemoteAddr: "10.0.0.1:80", Header: http.Header{"X-Forwarded-For": forwarded}}, trusted...)
			if got != "192.0.2.1" {
				t.Errorf("address is %q with %q", got, forwarded)
			}
		}
		got := httpadapter.ClientIP(&http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {sent}}}, trusted...)
		if addr, err := netip.ParseAddr(got); got != "" && (err != nil || addr.Unmap().WithZone("").String() != got) {
			t.Errorf("address is %q, which is not canonical", got)
		}
	})
}
