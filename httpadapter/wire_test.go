package httpadapter_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jwtrenew/renew"
)

// wire is a request as its bytes go over a socket. Its zero value is no request:
// start from (*fixture).wire.
type wire struct {
	token, key string // of a session that could be renewed

	method, target, proto string
	header                []string // lines
	body                  string
	framing               string // the line that says how long the body is; empty: Content-Length as it is

	then    ending
	forever string // what it repeats
}

// ending is what a client does when it has sent the request. None waits for the
// response with both directions open: net/http takes a client that closes its own
// for one that has hung up, and cancels the request.
type ending int

const (
	waits   ending = iota
	stalls         // waits, with the request unfinished
	closes         // says that no more will come
	repeats        // continues, up to foreverBytes
)

func (f *fixture) wire(token string) *wire {
	return &wire{
		token: token, key: f.appKey,
		method: "POST", target: "/app/shop/renew", proto: "HTTP/1.1",
		header: []string{"Host: test", "Connection: close", "Authorization: " + f.appKey, "Content-Type: application/json"},
		body:   body(token),
	}
}

// set replaces the lines of a header; without lines it goes.
func (w *wire) set(name string, lines ...string) {
	var kept []string
	for _, line := range w.header {
		if !strings.HasPrefix(line, name+":") {
			kept = append(kept, line)
		}
	}
	w.header = append(kept, lines...)
}

func (w *wire) text() string {
	framing := w.framing
	if framing == "" {
		framing = fmt.Sprintf("Content-Length: %d", len(w.body))
	}
	head := []string{w.method + " " + w.target + " " + w.proto}
	head = append(head, w.header...)
	return strings.Join(append(head, framing), "\r\n") + "\r\n\r\n" + w.body
}

const foreverBytes = 32 << 20 // as much as a client that never ends sends in a test

// exchange sends the request and returns the response.
func (w *wire) exchange(t *testing.T, server *httptest.Server) *http.Response {
	t.Helper()
	conn := dial(t, server)
	go func() {
		// The server may respond and hang up while this still writes: what the
		// writes return is not the point.
		_, _ = io.WriteString(conn, w.text())
		switch w.then {
		case closes:
			_ = conn.(*net.TCPConn).CloseWrite()
		case repeats:
			for sent := 0; sent < foreverBytes; sent += len(w.forever) {
				if _, err := io.WriteString(conn, w.forever); err != nil {
					return
				}
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: w.method})
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	return resp
}

// hostile is a request that must not renew anything.
type hostile struct {
	name string
	edit func(w *wire)
	want want
}

// want is a response. netHTTP: net/http responds by itself, with a status of its
// own and in plain text, and the handler is never called.
type want struct {
	status  int
	body    string
	header  []string
	netHTTP bool
}

var (
	wantNotFound     = want{status: http.StatusNotFound, body: bodyNotFound}
	wantBadMethod    = want{status: http.StatusMethodNotAllowed, body: bodyBadMethod, header: []string{"Allow", "POST"}}
	wantForbidden    = want{status: http.StatusForbidden, body: bodyInvalidAppKey}
	wantInvalidToken = want{status: http.StatusBadRequest, body: bodyInvalidToken}
	wantNetHTTP400   = want{status: http.StatusBadRequest, netHTTP: true}

	wantNoObject    = wantInvalid("body", "is not a single JSON object")
	wantNoUnicode   = wantInvalid("body", "is not valid Unicode")
	wantDuplicate   = wantInvalid("body", "has a duplicate member (ignoring case)")
	wantTooLong     = wantInvalid("body", "is longer than 65536 bytes")
	wantEndsEarly   = wantInvalid("body", "ends early")
	wantUnreadable  = wantInvalid("body", "could not be read")
	wantLate        = wantInvalid("body", "was not sent in time")
	wantContentType = wantInvalid("Content-Type", "is not application/json, with charset utf-8 or none")
	wantEncoding    = wantInvalid("Content-Encoding", "is not identity: send the body as it is")
	wantNoIP        = wantInvalid("ip", noIP)
	wantAllMissing  = wantInvalid("refresh_token", required, "ip", required, "useragent", required)
)

func wantInvalid(nameMessage ...string) want {
	return want{status: http.StatusBadRequest, body: fields(nameMessage...)}
}

// corpus are hostile requests of every kind. The HTTP in front of the body is
// net/http's to judge; what it lets through is ours.
func corpus() []hostile {
	var all []hostile
	for _, part := range [][]hostile{methods(), targets(), appKeys(), contentTypes(), framings(), bodies(), members(), addresses(), userAgents(), idempotencyKeys(), protocols()} {
		all = append(all, part...)
	}
	return all
}

func methods() []hostile {
	method := func(m string) func(*wire) { return func(w *wire) { w.method = m } }
	all := []hostile{
		{"method HEAD", method("HEAD"), want{status: 405, header: wantBadMethod.header}},
		{"method in small letters", method("post"), wantBadMethod},
		{"method of 10 KB", method(strings.Repeat("P", 10_000)), wantBadMethod},
		{"method with a bracket", method("PO(ST"), wantNetHTTP400},
		{"no method", method(""), wantNetHTTP400},
		{"method override", func(w *wire) { w.method = "GET"; w.set("X", "X-HTTP-Method-Override: POST") }, wantBadMethod},
	}
	for _, m := range []string{"GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		all = append(all, hostile{"method " + m, method(m), wantBadMethod})
	}
	return append(all,
		hostile{"CONNECT to the path", method("CONNECT"), wantBadMethod},
		hostile{"CONNECT to a host", func(w *wire) { w.method, w.target = "CONNECT", "internal:22" }, wantNotFound},
		hostile{"GET without a body", func(w *wire) { w.method, w.body = "GET", "" }, wantBadMethod},
	)
}

func targets() []hostile {
	target := func(s string) func(*wire) { return func(w *wire) { w.target = s } }
	all := []hostile{
		{"app ID of 10 KB", target("/app/" + strings.Repeat("a", 10_000) + "/renew"), wantForbidden},
		{"app ID of 10 KB, escaped", target("/app/" + strings.Repeat("%2F", 10_000) + "/renew"), wantForbidden},
		{"path of 500 KB", target("/app" + strings.Repeat("/a", 250_000) + "/renew"), wantNotFound},
		{"token as app ID", func(w *wire) { w.target = "/app/" + w.token + "/renew" }, wantForbidden},
		{"app key as app ID", func(w *wire) { w.target = "/app/" + w.key + "/renew" }, wantForbidden},
		{"app ID in the query", target("/app/other/renew?app_id=shop"), wantForbidden},
		{"endpoint in the query", target("/app/shop/?renew"), wantNotFound},
		{"NUL in the path", target("/app/shop\x00/renew"), wantNetHTTP400},
		{"bad escape", target("/app/%zz/renew"), wantNetHTTP400},
		{"no leading slash", target("app/shop/renew"), wantNetHTTP400},
		{"line break in the path", target("/app/shop\n/renew"), wantNetHTTP400},
		{"space in the path", target("/app/sh op/renew"), wantNetHTTP400},
	}
	for name, path := range map[string]string{
		"root": "/", "asterisk": "*", "app alone": "/app", "no endpoint": "/app/shop", "empty endpoint": "/app/shop/",
		"trailing slash": "/app/shop/renew/", "one segment more": "/app/shop/renew/x", "double slash at the start": "//app/shop/renew",
		"double slash before the endpoint": "/app/shop//renew", "dot segment": "/app/./shop/renew", "dot segments up": "/app/x/../shop/renew",
		"dots at the end": "/app/shop/renew/..", "app in capitals": "/APP/shop/renew", "endpoint in capitals": "/app/shop/RENEW",
		"escaped slash at the end": "/app/shop/renew%2F", "escaped slash before the endpoint": "/app/shop%2Frenew", "escaped slash after app": "/app%2Fshop/renew",
		"backslashes": `/app\shop\renew`, "fragment": "/app/shop/renew#x", "NUL after the endpoint": "/app/shop/renew%00",
		"parameter after the endpoint": "/app/shop/renew;x=1", "extension": "/app/shop/renew.json", "space after the endpoint": "/app/shop/renew%20",
		"file": "/app/shop/../../../etc/passwd", "debug": "/debug/pprof/", "double escape of a slash": "/app/shop%252Frenew",
		"another host's path": "http://shop/renew",
	} {
		all = append(all, hostile{"path: " + name, target(path), wantNotFound})
	}
	for name, id := range map[string]string{
		"empty": "", "dot dot": "..", "escaped dots": "%2e%2e", "path up": "%2E%2E%2Fshop", "path into": "shop%2F..%2Fshop", "NUL": "%00", "NUL after it": "shop%00",
		"line break": "shop%0d%0aX-Evil:1", "space after it": "shop%20", "plus": "shop+", "capitals": "SHOP", "Cyrillic o": "sh%D0%BEp", "full width": "%EF%BD%93hop",
		"raw UTF-8": "sh\u043ep", "combining mark": "shop%CC%81", "zero width": "shop%E2%80%8B", "invalid UTF-8": "%FF", "overlong": "%C0%AF", "raw byte": "shop\xff",
		"SQL": "'%20OR%20'1'='1", "SQL comment": "shop'--", "pattern": "%25", "star": "*", "template": "%7Bapp_id%7D", "parameter": "shop;x=1",
		"twice": "shop%2Fshop", "double escape": "%2573hop", "DEL": "shop%7F", "C1": "shop%C2%85", "256 bytes": strings.Repeat("s", 256),
	} {
		all = append(all, hostile{"app ID: " + name, target("/app/" + id + "/renew"), wantForbidden})
	}
	return all
}

func appKeys() []hostile {
	sends := func(lines func(key string) []string) func(*wire) {
		return func(w *wire) { w.set("Authorization", lines(w.key)...) }
	}
	value := func(f func(key string) string) func(*wire) {
		return sends(func(key string) []string { return []string{"Authorization: " + f(key)} })
	}
	return []hostile{
		{"app key missing", sends(func(string) []string { return nil }), wantForbidden},
		{"app key empty", value(func(string) string { return "" }), wantForbidden},
		{"app key of spaces", value(func(string) string { return "   \t " }), wantForbidden},
		{"app key wrong", value(func(string) string { return "wrong" }), wantForbidden},
		{"app key with Bearer", value(func(key string) string { return "Bearer " + key }), wantForbidden},
		{"app key with Basic", value(func(key string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+key)) }), wantForbidden},
		{"app key and more", value(func(key string) string { return key + "x" }), wantForbidden},
		{"app key cut short", value(func(key string) string { return key[:len(key)-1] }), wantForbidden},
		{"app key in other case", value(swapCase), wantForbidden},
		{"app key in quotes", value(func(key string) string { return `"` + key + `"` }), wantForbidden},
		{"app key percent-encoded", value(func(key string) string { return fmt.Sprintf("%%%02X", key[0]) + key[1:] }), wantForbidden},
		{"app key twice in a value", value(func(key string) string { return key + ", " + key }), wantForbidden},
		{"app key decoded", value(func(key string) string {
			secret, _ := base64.RawURLEncoding.DecodeString(key)
			return hex.EncodeToString(secret)
		}), wantForbidden},
		{"app key's stored hash", value(func(key string) string {
			hash, _ := renew.HashAppKey(key)
			return strings.TrimPrefix(hash.String(), "sha256:")
		}), wantForbidden},
		{"app key as UTF-8 lookalike", value(func(key string) string { return "\u0430" + key[1:] }), wantForbidden},
		{"app key of 100 KB", value(func(key string) string { return strings.Repeat(key, 2_400) }), wantForbidden},
		{"app key of 2 MB", value(func(string) string { return strings.Repeat("k", 2<<20) }), want{status: 431, netHTTP: true}},
		{"app key with NUL", value(func(key string) string { return key + "\x00" }), wantNetHTTP400},
		{"app key on a folded line", value(func(key string) string { return key + "\r\n more" }), wantForbidden},
		{"app key after a space before the colon", sends(func(key string) []string { return []string{"Authorization : " + key} }), wantNetHTTP400},
		{"app key twice", sends(func(key string) []string { return []string{"Authorization: " + key, "Authorization: " + key} }), wantForbidden},
		{"app key after a wrong one", sends(func(key string) []string { return []string{"Authorization: x", "Authorization: " + key} }), wantForbidden},
		{"app key before a wrong one", sends(func(key string) []string { return []string{"authorization: " + key, "Authorization: x"} }), wantForbidden},
		{"app key after an empty one", sends(func(key string) []string { return []string{"Authorization:", "Authorization: " + key} }), wantForbidden},
		{"app key a hundred times", sends(func(key string) []string {
			return strings.Split(strings.Repeat("Authorization: "+key+"\n", 100), "\n")[:100]
		}), wantForbidden},
		{"app key in Proxy-Authorization", sends(func(key string) []string { return []string{"Proxy-Authorization: " + key} }), wantForbidden},
		{"app key in X-Authorization", sends(func(key string) []string { return []string{"X-Authorization: " + key} }), wantForbidden},
		{"app key in a cookie", sends(func(key string) []string { return []string{"Cookie: Authorization=" + key} }), wantForbidden},
		{"app key in the query", func(w *wire) { w.set("Authorization"); w.target += "?Authorization=" + w.key }, wantForbidden},
		{"app key in the body", func(w *wire) {
			w.set("Authorization")
			w.body = `{"Authorization":"` + w.key + `",` + w.body[1:]
		}, wantForbidden},
		{"app key in a trailer", func(w *wire) {
			w.set("Authorization", "Trailer: Authorization")
			w.framing, w.body = "Transfer-Encoding: chunked", chunk(w.body)+"0\r\nAuthorization: "+w.key+"\r\n\r\n"
		}, wantForbidden},
		{"app key wrong, body of 10 MB", func(w *wire) { w.set("Authorization", "Authorization: x"); w.body = strings.Repeat("x", 10<<20) }, wantForbidden},
		{"app key wrong, body without end", func(w *wire) {
			w.set("Authorization", "Authorization: x")
			w.framing, w.body, w.then, w.forever = "Transfer-Encoding: chunked", "", repeats, chunk(strings.Repeat("x", 4096))
		}, wantForbidden},
		{"app key wrong, form wrong", func(w *wire) { w.set("Authorization", "Authorization: x"); w.body = "[" }, wantForbidden},
	}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 32
		case 'A' <= r && r <= 'Z':
			return r + 32
		}
		return r
	}, s)
}

func contentTypes() []hostile {
	lines := func(lines ...string) func(*wire) {
		return func(w *wire) { w.set("Content-Type", lines...) }
	}
	encoded := func(lines ...string) func(*wire) {
		return func(w *wire) { w.header = append(w.header, lines...) }
	}
	all := []hostile{
		{"content type missing", lines(), wantContentType},
		{"content type twice", lines("Content-Type: application/json", "Content-Type: application/json"), wantContentType},
		{"content type of 100 KB", lines("Content-Type: application/json; x=" + strings.Repeat("y", 100_000) + "; charset=utf-7"), wantContentType},
		{"form", func(w *wire) {
			w.set("Content-Type", "Content-Type: application/x-www-form-urlencoded")
			w.body = "refresh_token=" + w.token + "&ip=" + ip + "&useragent=x"
		}, wantContentType},
		{"multipart form", func(w *wire) {
			w.set("Content-Type", "Content-Type: multipart/form-data; boundary=b")
			w.body = "--b\r\nContent-Disposition: form-data; name=\"refresh_token\"\r\n\r\n" + w.token + "\r\n--b--\r\n"
		}, wantContentType},
		{"form that is JSON", func(w *wire) {
			w.set("Content-Type", "Content-Type: text/plain")
			w.body = `{"x":"=",` + w.body[1:]
		}, wantContentType},
		{"gzip", func(w *wire) { encoded("Content-Encoding: gzip")(w); w.body = zipped([]byte(w.body)) }, wantEncoding},
		{"gzip bomb", func(w *wire) { encoded("Content-Encoding: gzip")(w); w.body = zipped(make([]byte, 10<<20)) }, wantEncoding},
		{"gzip that is none", encoded("Content-Encoding: gzip"), wantEncoding},
		{"brotli", encoded("Content-Encoding: br"), wantEncoding},
		{"identity and gzip", encoded("Content-Encoding: identity, gzip"), wantEncoding},
		{"identity, then gzip", encoded("Content-Encoding: identity", "Content-Encoding: gzip"), wantEncoding},
		{"content encoding empty", encoded("Content-Encoding:"), wantEncoding},
		{"content encoding unknown", encoded("Content-Encoding: x-none"), wantEncoding},
		{"gzip without saying so", func(w *wire) { w.body = zipped([]byte(w.body)) }, wantNoUnicode},
	}
	for _, value := range []string{
		"", "json", "text/plain", "text/json", "application/jsonx", "application/json5", "application/x-json", "application/problem+json",
		"application/jose+json", "application/ json", "*/*", "application/*", "application/json, application/json", "application/json; charset",
		"application/json; charset=", "application/json; charset=utf-16", "application/json; charset=iso-8859-1", "application/json; charset=utf-7",
		"application/json; charset=utf-8; charset=utf-16", "application/json charset=utf-8", ";application/json", "application/json\x80",
	} {
		all = append(all, hostile{fmt.Sprintf("content type %q", value), lines("Content-Type: " + value), wantContentType})
	}
	return all
}

func zipped(data []byte) string {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(data) // a bytes.Buffer takes all
	_ = z.Close()
	return out.String()
}

func chunk(data string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(data), data) }

func framings() []hostile {
	framing := func(line string) func(*wire) { return func(w *wire) { w.framing = line } }
	chunked := func(f func(body string) string) func(*wire) {
		return func(w *wire) { w.framing, w.body = "Transfer-Encoding: chunked", f(w.body) }
	}
	forever := func(before, repeated string) func(*wire) {
		return func(w *wire) {
			chunked(func(string) string { return before })(w)
			w.then, w.forever = repeats, repeated
		}
	}
	closing := func(f func(*wire)) func(*wire) {
		return func(w *wire) {
			f(w)
			w.then = closes
		}
	}
	const last = "0\r\n\r\n"
	return []hostile{
		{"body shorter than it says", closing(func(w *wire) { w.framing = fmt.Sprintf("Content-Length: %d", len(w.body)+1) }), wantEndsEarly},
		{"body shorter than it says, connection open", func(w *wire) { w.framing, w.then = "Content-Length: 60000", stalls }, wantLate},
		{"body longer than it says", func(w *wire) { w.framing = fmt.Sprintf("Content-Length: %d", len(w.body)-1) }, wantNoObject},
		{"body that never comes", func(w *wire) { w.framing, w.body, w.then = "Content-Length: 300", "", stalls }, wantLate},
		{"no length", framing("X-Length: none"), wantNoObject},
		{"length of 9 EB", closing(framing("Content-Length: 9223372036854775807")), wantEndsEarly},
		{"length over int64", framing("Content-Length: 9223372036854775808"), wantNetHTTP400},
		{"length negative", framing("Content-Length: -1"), wantNetHTTP400},
		{"length signed", framing("Content-Length: +300"), wantNetHTTP400},
		{"length in hex", framing("Content-Length: 0x12c"), wantNetHTTP400},
		{"two lengths", framing("Content-Length: 2\r\nContent-Length: 300"), wantNetHTTP400},
		{"gzip as transfer encoding", framing("Transfer-Encoding: gzip, chunked"), want{status: 501, netHTTP: true}},
		{"identity as transfer encoding", framing("Transfer-Encoding: identity"), want{status: 501, netHTTP: true}},
		{"transfer encoding twice", framing("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), want{status: 501, netHTTP: true}},
		{"10 MB with a length", func(w *wire) { w.body = `{"x":"` + strings.Repeat("x", 10<<20) + `"}` }, wantTooLong},
		{"10 MB in chunks", chunked(func(string) string { return strings.Repeat(chunk(strings.Repeat(" ", 64<<10)), 160) + last }), wantTooLong},
		{"chunks without end", forever("", chunk(strings.Repeat(" ", 4096))), wantTooLong},
		{"chunks of a byte without end", forever("", chunk(" ")), wantTooLong},
		{"chunk extension without end", forever("1;", strings.Repeat("x", 4096)), wantUnreadable},
		{"chunk of 9 EB", forever("7fffffffffffffff\r\n", strings.Repeat("x", 4096)), wantTooLong},
		{"chunk size over 64 bits", chunked(func(body string) string { return "10000000000000000\r\n" + body }), wantUnreadable},
		{"chunk size of zeros without end", forever("", strings.Repeat("0", 4096)), wantUnreadable},
		{"chunk size no number", chunked(func(body string) string { return "zz\r\n" + body }), wantUnreadable},
		{"chunk size negative", chunked(func(body string) string { return "-1\r\n" + body }), wantUnreadable},
		{"chunk without its end", chunked(func(body string) string { return fmt.Sprintf("%x\r\n%sXX", len(body), body) }), wantUnreadable},
		{"chunks without the last", closing(chunked(chunk)), wantEndsEarly},
		{"chunk cut short", closing(chunked(func(body string) string { return fmt.Sprintf("%x\r\n%s", len(body)+1, body) })), wantEndsEarly},
		{"chunks that stop coming", func(w *wire) { chunked(chunk)(w); w.then = stalls }, wantLate},
		{"trailer that is none", func(w *wire) {
			chunked(func(body string) string { return chunk(body) + "0\r\n" + w.token + "\r\n\r\n" })(w)
		}, wantUnreadable},
		{"trailers without end", func(w *wire) {
			chunked(func(body string) string { return chunk(body) + "0\r\n" })(w)
			w.then, w.forever = repeats, "X: "+strings.Repeat("x", 4096)+"\r\n"
		}, wantUnreadable},
	}
}

func bodies() []hostile {
	is := func(body string) func(*wire) { return func(w *wire) { w.body = body } }
	right := func(f func(body string) string) func(*wire) { return func(w *wire) { w.body = f(w.body) } }
	with := func(member string) func(*wire) {
		return right(func(body string) string { return "{" + member + "," + body[1:] })
	}
	all := []hostile{
		{"body {}", is("{}"), wantAllMissing},
		{"BOM", right(func(body string) string { return "\ufeff" + body }), wantNoObject},
		{"UTF-16", right(utf16LE), wantNoObject},
		{"UTF-16 with BOM", right(func(body string) string { return "\xff\xfe" + utf16LE(body) }), wantNoUnicode},
		{"two objects", right(func(body string) string { return body + body }), wantNoObject},
		{"object and comma", right(func(body string) string { return body + "," }), wantNoObject},
		{"object and NUL", right(func(body string) string { return body + "\x00" }), wantNoObject},
		{"NUL and object", right(func(body string) string { return "\x00" + body }), wantNoObject},
		{"object in an array", right(func(body string) string { return "[" + body + "]" }), wantNoObject},
		{"object in a string", right(func(body string) string { return fmt.Sprintf("%q", body) }), wantNoObject},
		{"object in an object", right(func(body string) string { return `{"body":` + body + `}` }), wantAllMissing},
		{"comma at the end", right(func(body string) string { return body[:len(body)-1] + ",}" }), wantNoObject},
		{"comment", right(func(body string) string { return "/**/" + body }), wantNoObject},
		{"comment inside", with(`/**/"x":1`), wantNoObject},
		{"no-break space", right(func(body string) string { return "\u00a0" + body }), wantNoObject},
		{"single quotes", right(func(body string) string { return strings.ReplaceAll(body, `"`, `'`) }), wantNoObject},
		{"names without quotes", right(func(body string) string { return strings.Replace(body, `"ip"`, `ip`, 1) }), wantNoObject},
		{"NaN", with(`"x":NaN`), wantNoObject},
		{"number with a leading zero", with(`"x":01`), wantNoObject},
		{"cut short", right(func(body string) string { return body[:len(body)-1] }), wantNoObject},
		{"a line break in a string", with("\"x\":\"a\nb\""), wantNoObject},
		{"a bad escape", with(`"x":"\x41"`), wantNoObject},
		{"JSON lines", right(func(body string) string { return body + "\n" + body }), wantNoObject},
		{"JSONP", right(func(body string) string { return "f(" + body + ")" }), wantNoObject},
		{"anti-hijacking prefix", right(func(body string) string { return ")]}'\n" + body }), wantNoObject},
		{"invalid UTF-8 in a member that is ignored", with("\"x\":\"\xff\""), wantNoUnicode},
		{"invalid UTF-8 in a name", with("\"\xff\":1"), wantNoUnicode},
		{"overlong UTF-8", with("\"x\":\"\xc0\xaf\""), wantNoUnicode},
		{"UTF-8 of a surrogate", with("\"x\":\"\xed\xa0\x80\""), wantNoUnicode},
		{"lone surrogate", with(`"x":"\ud800"`), wantNoUnicode},
		{"surrogates in reverse", with(`"x":"\udc00\ud800"`), wantNoUnicode},
		{"depth of 20,000", with(`"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)), wantNoObject},
		{"depth without end", is(strings.Repeat("[", 65_000)), wantNoObject},
		{"depth of objects", is(strings.Repeat(`{"a":`, 13_000)), wantNoObject},
		{"64 KiB and a byte", with(`"x":"` + strings.Repeat("x", 64<<10) + `"`), wantTooLong},
		{"10 MB of spaces", right(func(body string) string { return strings.Repeat(" ", 10<<20) + body }), wantTooLong},
		{"10,000 members", right(func(body string) string { return "{" + strings.Repeat(`"":1,`, 10_000) + body[1:] }), wantDuplicate},
		{"refresh_token twice", right(func(body string) string { return `{"refresh_token":"x",` + body[1:] }), wantDuplicate},
		{"refresh_token twice, the same", right(func(body string) string { return body[:len(body)-1] + "," + body[1:] }), wantDuplicate},
		{"ip twice, once escaped", with(`"\u0069p":"` + ip + `"`), wantDuplicate},
		{"an ignored member twice", with(`"x":1,"x":1`), wantDuplicate},
		{"IP", right(func(body string) string { return strings.Replace(body, `"ip"`, `"IP"`, 1) }), wantDuplicate},
		{"ip and Ip", with(`"Ip":"` + ip + `"`), wantDuplicate},
		{"Refresh_Token", right(func(body string) string { return strings.Replace(body, "refresh_token", "Refresh_Token", 1) }), wantDuplicate},
		{"userAgent", right(func(body string) string { return strings.Replace(body, "useragent", "userAgent", 1) }), wantDuplicate},
		{"useragent with a long s", right(func(body string) string { return strings.Replace(body, "useragent", "u\u017feragent", 1) }), wantDuplicate},
		{"refresh_token with a Kelvin sign", right(func(body string) string { return strings.Replace(body, "refresh_token", "refresh_to\u212aen", 1) }), wantDuplicate},
		{"useragent with an escaped long s", with(`"u\u017feragent":"x"`), wantDuplicate},
		{"user_agent", right(func(body string) string { return strings.Replace(body, "useragent", "user_agent", 1) }), wantInvalid("useragent", required)},
		{"name with NUL", right(func(body string) string { return strings.Replace(body, `"ip"`, `"ip\u0000"`, 1) }), wantInvalid("ip", required)},
		{"name with a space", right(func(body string) string { return strings.Replace(body, `"ip"`, `"ip "`, 1) }), wantInvalid("ip", required)},
		{"app_id of another app", func(w *wire) {
			w.body = `{"app_id":"shop",` + w.body[1:]
			w.target = "/app/other/renew"
		}, wantForbidden},
	}
	for name, body := range map[string]string{
		"empty": "", "spaces": " \r\n\t ", "null": "null", "true": "true", "a number": "1", "a string": `"x"`, "an array": "[]", "an array of an object": "[{}]",
		"a brace": "{", "a closing brace": "}", "a comma in braces": "{,}", "XML": `<?xml version="1.0"?><renew/>`, "YAML": "ip: 192.0.2.1",
		"two names": `{"ip""ip":1}`, "a name alone": `{"ip"}`, "no value": `{"ip":}`, "a form": "ip=192.0.2.1",
	} {
		all = append(all, hostile{"body " + name, is(body), wantNoObject})
	}
	return all
}

func utf16LE(s string) string {
	var out strings.Builder
	for _, r := range s { // ASCII
		out.WriteByte(byte(r))
		out.WriteByte(0)
	}
	return out.String()
}

func members() []hostile {
	var all []hostile
	for _, field := range []string{"refresh_token", "ip", "useragent"} {
		for name, value := range map[string]string{
			"null": "null", "true": "true", "a number": "1", "a float": "1e308", "an array": `["x"]`, "an object": `{"x":"x"}`, "an array of itself": `[[[]]]`,
		} {
			all = append(all, hostile{field + " " + name, member(field, value), wantInvalid(field, "is not a string")})
		}
		all = append(all,
			hostile{field + " empty", member(field, `""`), wantInvalid(field, required)},
			hostile{field + " missing", func(w *wire) { w.body = strings.Replace(w.body, `"`+field+`"`, `"x"`, 1) }, wantInvalid(field, required)},
			hostile{field + " with invalid UTF-8", member(field, "\"\xff\""), wantNoUnicode},
			hostile{field + " with a lone surrogate", member(field, `"\udfff"`), wantNoUnicode},
		)
	}
	token := func(f func(token string) string) func(*wire) {
		return func(w *wire) { w.body = body(w.token); w.body = strings.Replace(w.body, w.token, f(w.token), 1) }
	}
	return append(all,
		hostile{"refresh_token no JWT", token(func(string) string { return "x" }), wantInvalidToken},
		hostile{"refresh_token of 60 KB", token(func(string) string { return strings.Repeat("x", 60_000) }), wantInvalidToken},
		hostile{"refresh_token of 60 KB of dots", token(func(string) string { return strings.Repeat(".", 60_000) }), wantInvalidToken},
		hostile{"refresh_token with Bearer", token(func(token string) string { return "Bearer " + token }), wantInvalidToken},
		hostile{"refresh_token and a space", token(func(token string) string { return token + " " }), wantInvalidToken},
		hostile{"refresh_token and a line break", token(func(token string) string { return token + `\n` }), wantInvalidToken},
		hostile{"refresh_token and NUL", token(func(token string) string { return token + `\u0000` }), wantInvalidToken},
		hostile{"refresh_token with a BOM", token(func(token string) string { return `\ufeff` + token }), wantInvalidToken},
		hostile{"refresh_token twice in one", token(func(token string) string { return token + "," + token }), wantInvalidToken},
		hostile{"refresh_token without its signature", token(func(token string) string { return token[:strings.LastIndexByte(token, '.')+1] }), wantInvalidToken},
		hostile{"refresh_token in capitals", token(strings.ToUpper), wantInvalidToken},
		hostile{"refresh_token in quotes", token(func(token string) string { return `\"` + token + `\"` }), wantInvalidToken},
	)
}

// member gives a field of the documented request another value.
func member(field, value string) func(*wire) {
	return func(w *wire) {
		before, after, _ := strings.Cut(w.body, `"`+field+`":"`)
		_, after, _ = strings.Cut(after, `"`)
		w.body = before + `"` + field + `":` + value + after
	}
}

func addresses() []hostile {
	var all []hostile
	for _, address := range []string{
		" ", "localhost", "example.com", "192.0.2", "192.0.2.1.1", "192.0.2.256", "192.0.2.-1", "192.0.2.1 ", " 192.0.2.1", "192.0.2.1:80", "192.0.2.1/32", "192.0.2.1,192.0.2.2",
		"192.0.02.1", "192.0.2.01", "0300.0.2.1", "0xC0.0.2.1", "0xC0000201", "3221225985", "030000001001", "192.0.2.", ".192.0.2.1", "192..2.1", "192.0.2.1%eth0", "１９２.0.2.1",
		"192。0。2。1", "٣.0.2.1", "[::1]", "[::1]:80", "::1%lo", "fe80::1%25eth0", "fe80::1%", "::1/128", ":::", ":", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::",
		"::ffff:192.0.2.256", "::ffff:192.0.02.1", "::192.0.2.1%x", "1:2:3:4:5:6:7:192.0.2.1", "::1\\n", "::1\\u0000", "192.0.2.1\\r\\nX: y", "' OR 1=1--", "unknown", "_hidden", "null", "*", "0", "-1",
		"::1 ", strings.Repeat("1", 10_000), strings.Repeat(":", 10_000), "for=192.0.2.1", "http://192.0.2.1", "١٩٢.٠.٢.١", "192.0.2.1\\u200b",
	} {
		name := address
		if len(name) > 40 {
			name = fmt.Sprintf("%d times %s", len(address), address[:1])
		}
		all = append(all, hostile{fmt.Sprintf("ip %q", name), member("ip", `"`+address+`"`), wantNoIP})
	}
	return all
}

func userAgents() []hostile {
	return []hostile{
		{"useragent with a raw line break", member("useragent", "\"x\r\ny\""), wantNoObject},
		{"useragent only in the header", func(w *wire) {
			w.body = strings.Replace(w.body, "useragent", "x", 1)
			w.set("User-Agent", "User-Agent: "+agent)
		}, wantInvalid("useragent", required)},
		{"ip only in a header", func(w *wire) {
			w.body = strings.Replace(w.body, `"ip"`, `"x"`, 1)
			w.set("X-Forwarded-For", "X-Forwarded-For: "+ip)
		}, wantInvalid("ip", required)},
	}
}

func idempotencyKeys() []hostile {
	const field = "Idempotency-Key"
	length, character := wantInvalid(field, "must be 16 to 255 characters long"), wantInvalid(field, "has a character other than visible ASCII")
	key := func(values ...string) func(*wire) {
		return func(w *wire) {
			for _, value := range values {
				w.header = append(w.header, field+": "+value)
			}
		}
	}
	return []hostile{
		{"idempotency key of 15", key(strings.Repeat("k", 15)), length},
		{"idempotency key of 256", key(strings.Repeat("k", 256)), length},
		{"idempotency key of 100 KB", key(strings.Repeat("k", 100_000)), length},
		{"idempotency key empty", key(""), wantInvalid(field, "is empty")},
		{"idempotency key of spaces", key("       \t        "), wantInvalid(field, "is empty")},
		{"idempotency key with a space", key("0123456789 abcdef"), character},
		{"idempotency key with a tab", key("0123456789\tabcdef"), character},
		{"idempotency key in UTF-8", key("0123456789abcdéf"), character},
		{"idempotency key in Latin-1", key("0123456789abcd\xe9f"), character},
		{"idempotency key twice", key("0123456789abcdef", "0123456789abcdef"), wantInvalid(field, "is sent more than once")},
		{"two idempotency keys", key("0123456789abcdef", "fedcba9876543210"), wantInvalid(field, "is sent more than once")},
		{"two idempotency keys, one empty", key("", "0123456789abcdef"), wantInvalid(field, "is sent more than once")},
		{"two idempotency keys in a line", key("0123456789abcdef, fedcba9876543210"), character},
		{"idempotency key with NUL", key("0123456789abcdef\x00"), wantNetHTTP400},
	}
}

func protocols() []hostile {
	proto := func(p string) func(*wire) { return func(w *wire) { w.proto = p } }
	return []hostile{
		{"HTTP/3.0", proto("HTTP/3.0"), want{status: 505, netHTTP: true}},
		{"HTTP/0.9", proto("HTTP/0.9"), want{status: 505, netHTTP: true}},
		{"HTTP/1", proto("HTTP/1"), wantNetHTTP400},
		{"HTTP/1.1 in small letters", proto("http/1.1"), wantNetHTTP400},
		{"no protocol", proto(""), wantNetHTTP400},
		{"protocol of 10 KB", proto("HTTP/" + strings.Repeat("1", 10_000)), wantNetHTTP400},
		{"no host", func(w *wire) { w.set("Host") }, wantNetHTTP400},
		{"two hosts", func(w *wire) { w.header = append(w.header, "Host: other") }, wantNetHTTP400},
		{"host with a slash", func(w *wire) { w.set("Host", "Host: a/b") }, wantNetHTTP400},
		{"header without a colon", func(w *wire) { w.header = append(w.header, "X") }, wantNetHTTP400},
		{"header without a name", func(w *wire) { w.header = append(w.header, ": x") }, wantNetHTTP400},
		{"header name with a space", func(w *wire) { w.header = append(w.header, "X Y: z") }, wantNetHTTP400},
		{"header folded from the start", func(w *wire) { w.header = append([]string{" X: y"}, w.header...) }, wantNetHTTP400},
		{"headers of 2 MB", func(w *wire) { w.header = append(w.header, "X: "+strings.Repeat("x", 2<<20)) }, want{status: 431, netHTTP: true}},
		{"headers without end", func(w *wire) {
			w.header = append(w.header, strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 4000)+"Y: z")
		}, want{status: 431, netHTTP: true}},
		{"expectation unknown", func(w *wire) { w.header = append(w.header, "Expect: 200-ok") }, want{status: 417, netHTTP: true}},
		{"HTTP/2 preface", func(w *wire) { w.method, w.target, w.proto = "PRI", "*", "HTTP/2.0" }, wantNotFound},
		{"TLS", func(w *wire) { w.method, w.target = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\r\n" }, wantNetHTTP400},
		{"upgrade to a websocket", func(w *wire) {
			w.method, w.body = "GET", ""
			w.set("Connection", "Connection: Upgrade, close", "Upgrade: websocket")
		}, wantBadMethod},
	}
}

// Promise: nothing but a valid renewal gets through. A hostile request is
// gets the documented response, or one of net/http, costs the server no 500 and no panic,
// leaves no token in a log, and changes nothing: the session can be renewed
// afterwards.
func TestHostileRequests(t *testing.T) {
	f := newFixture(t)
	f.createApp("other")
	server := f.serve(f.handler())
	impatient := httptest.NewUnstartedServer(f.handler()) // for requests that stop half-way
	impatient.Config.ErrorLog = server.Config.ErrorLog
	impatient.Config.ReadHeaderTimeout = time.Minute
	impatient.Config.ReadTimeout = 50 * time.Millisecond
	impatient.Start()
	t.Cleanup(impatient.Close)

	current, names := f.issue().RefreshToken, map[string]bool{}
	for _, test := range corpus() {
		if names[test.name] {
			t.Errorf("two requests are named %q", test.name)
		}
		names[test.name] = true
		t.Run(test.name, func(t *testing.T) {
			w := f.wire(current)
			test.edit(w)
			to := server
			if w.then == stalls {
				to = impatient
			}
			checkHostile(t, read(t, w.exchange(t, to)), test.want)
			current = f.checkRenewed(f.do(f.post(server.URL+"/app/shop/renew", body(current)))).RefreshToken
		})
	}
	logged := f.logs.text()
	for _, bad := range []string{"panic", `"level":"ERROR"`} {
		if strings.Contains(logged, bad) {
			t.Errorf("the log has %s", bad)
		}
	}
	t.Logf("%d hostile requests", len(names))
}

func checkHostile(t *testing.T, got response, want want) {
	t.Helper()
	if !want.netHTTP {
		check(t, got, want.status, want.body, want.header...)
		return
	}
	if got.status != want.status || strings.Contains(got.header.Get("Content-Type"), "json") || got.header.Get("Cache-Control") != "" {
		t.Errorf("response is %d %s, want net/http's own %d", got.status, got.body, want.status)
	}
}

// Promise: the corpus is what the issue asks for.
func TestCorpusIsLarge(t *testing.T) {
	if n := len(corpus()); n < 100 {
		t.Errorf("the corpus has %d requests, want 100 or more", n)
	}
}
