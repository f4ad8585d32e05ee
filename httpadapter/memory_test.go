package httpadapter_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// maxRequestBytes bounds what one request makes the process allocate in all, not
// what it holds at once, which is less. The costliest body has as many members
// as 64 KiB can name.
const maxRequestBytes = 4 << 20

// endless is a body that never ends, and counts what is read of it.
type endless struct {
	text string
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text)
	e.read += n
	return n, nil
}

// allocated returns the bytes that f allocates, on average.
func allocated(f func()) uint64 {
	const runs = 10
	f() // what is made once is not counted
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

func manyMembers() string {
	var b strings.Builder
	b.WriteString(`{"":0`)
	for i := 0; b.Len() < 65_000; i++ {
		fmt.Fprintf(&b, `,"%x":0`, i)
	}
	return b.String() + "}"
}

// Promise: what a request costs in memory is bounded, whatever it sends.
func TestMemoryPerRequest(t *testing.T) {
	f := newFixture(t)
	handler := f.handler()
	token := f.issue().RefreshToken
	for _, test := range []struct {
		name string
		key  string
		body func() io.Reader
	}{
		{"the documented request, with a token of 60 KB", f.appKey, func() io.Reader { return strings.NewReader(body(strings.Repeat("x", 60_000))) }},
		{"as many members as fit", f.appKey, func() io.Reader { return strings.NewReader(manyMembers()) }},
		{"depth", f.appKey, func() io.Reader { return strings.NewReader(strings.Repeat("[", 65_000)) }},
		{"depth that is valid", f.appKey, func() io.Reader {
			return strings.NewReader(`{"x":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "," + body(token)[1:])
		}},
		{"escapes", f.appKey, func() io.Reader {
			return strings.NewReader(`{"useragent":"` + strings.Repeat(`\u00e9`, 10_000) + `"}`)
		}},
		{"without end", f.appKey, func() io.Reader { return &endless{text: " "} }},
		{"without end and without app key", "wrong", func() io.Reader { return &endless{text: " "} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bodies := test.body()
			n := allocated(func() {
				if b, ok := bodies.(*strings.Reader); ok {
					_, _ = b.Seek(0, io.SeekStart) // to a place that exists
				}
				req := httptest.NewRequest(http.MethodPost, "/app/shop/renew", bodies)
				req.Header.Set("Authorization", test.key)
				req.Header.Set("Content-Type", "application/json")
				recorder := httptest.NewRecorder()
				handler.ServeHTTP(recorder, req)
				if recorder.Code == http.StatusInternalServerError {
					t.Errorf("response is %d %s", recorder.Code, recorder.Body)
				}
			})
			t.Logf("%d KiB", n>>10)
			if n > maxRequestBytes {
				t.Errorf("a request allocates %d bytes, over %d", n, maxRequestBytes)
			}
		})
	}
}

// Promise: of a body without end no more is read than may be sent, and nothing
// if the app key is wrong.
func TestBodyIsReadUpToTheLimit(t *testing.T) {
	f := newFixture(t)
	for key, limit := range map[string]int{f.appKey: 64<<10 + 1, "wrong": 0} {
		source := &endless{text: "x"}
		req := httptest.NewRequest(http.MethodPost, "/app/shop/renew", source)
		req.Header.Set("Authorization", key)
		req.Header.Set("Content-Type", "application/json")
		f.handler().ServeHTTP(httptest.NewRecorder(), req)
		if source.read != limit {
			t.Errorf("%d bytes were read, want %d", source.read, limit)
		}
	}
}

// Promise: as above over a socket, net/http's share and the client's included.
func TestMemoryPerRequestOverASocket(t *testing.T) {
	f := newFixture(t)
	server := f.serve(f.handler())
	pad := bytes.Repeat([]byte("x"), 1<<20)
	for _, key := range []string{f.appKey, "wrong"} {
		n := allocated(func() {
			conn := dial(t, server)
			send(t, conn, fmt.Sprintf("POST /app/shop/renew HTTP/1.1\r\nHost: test\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", key, 10*len(pad)))
			go func() {
				for range 10 {
					if _, err := conn.Write(pad); err != nil { // the server has hung up
						return
					}
				}
			}()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, resp)
			if got.status != http.StatusBadRequest && got.status != http.StatusForbidden {
				t.Errorf("response is %d %s", got.status, got.body)
			}
		})
		t.Logf("10 MB: %d KiB", n>>10)
		if n > maxRequestBytes {
			t.Errorf("a request of 10 MB allocates %d bytes, over %d", n, maxRequestBytes)
		}
	}
}
