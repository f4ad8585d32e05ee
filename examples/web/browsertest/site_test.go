package browsertest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program is the built example. TestMain removes it.
var program struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		if err := os.RemoveAll(program.dir); err != nil {
			code = 1
		}
	}
	os.Exit(code)
}

func build() (string, error) {
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "renew-web-"); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "web")
		cmd := exec.Command("go", "build", "-o", program.path, ".")
		cmd.Dir = ".." // in the module of the examples
		if out, err := cmd.CombinedOutput(); err != nil {
			program.err = &buildError{string(out), err}
		}
	})
	return program.path, program.err
}

type buildError struct {
	out string
	err error
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + e.out }

// site is the example, running, with a proxy in front that does to responses what
// networks do.
type site struct {
	t      *testing.T
	log    *logs
	url    string // of the proxy, on localhost
	port   string
	bodies *logs // of all responses

	requestsSeen *logs // a line each

	mu    sync.Mutex
	renew func(n int, key string) fate // of the n-th renewal's response, from 1; nil: it is delivered
	count int

	// Of all 200 responses to renewals, as they were given.
	granted  int
	tokenIDs map[string]bool
	current  string
}

// fate is what becomes of a response, once the server has given it.
type fate struct {
	drop  bool
	after <-chan struct{} // delivers it when this is closed; nil: immediately
}

func startSite(t *testing.T, args ...string) *site {
	t.Helper()
	path, err := build()
	require.NoError(t, err)
	for _, pattern := range []string{"../*.go", "../static/*"} { // or go test takes the result for an older example from its cache
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			_, err := os.ReadFile(file)
			require.NoError(t, err)
		}
	}
	s := &site{t: t, log: &logs{}, bodies: &logs{}, requestsSeen: &logs{}, tokenIDs: map[string]bool{}}
	cmd := exec.Command(path, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = s.log
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		if t.Failed() {
			lines := strings.Split(s.log.text(), "\n")
			t.Logf("the end of the example's log:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_, err := io.Copy(io.Discard, stdout)
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	upstream, err := url.Parse(strings.Replace(regexp.MustCompile(`http://\S+`).FindString(line), "localhost", "127.0.0.1", 1))
	require.NoError(t, err)
	proxy := httptest.NewServer(s.proxy(upstream))
	t.Cleanup(proxy.Close)
	_, s.port, err = net.SplitHostPort(proxy.Listener.Addr().String())
	require.NoError(t, err)
	s.url = "http://localhost:" + s.port
	return s
}

// proxy passes requests on to the example with the host that the browser asked
// for.
func (s *site) proxy(upstream *url.URL) http.Handler {
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			cookie := "no cookie"
			if strings.Contains(resp.Request.Header.Get("Cookie"), "renew.") {
				cookie = "the cookie"
			}
			if _, err := fmt.Fprintf(s.requestsSeen, "%s %s with %s: %d\n", resp.Request.Method, resp.Request.URL.Path, cookie, resp.StatusCode); err != nil {
				return err
			}
			_, err = s.bodies.Write(body)
			return err
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/auth/renew" {
			p.ServeHTTP(w, r)
			return
		}
		s.mu.Lock()
		decide := s.renew // of when the request was sent
		s.mu.Unlock()
		// The server finishes what the browser no longer waits for.
		recorded := httptest.NewRecorder()
		p.ServeHTTP(recorded, r.WithContext(context.WithoutCancel(r.Context())))
		s.mu.Lock()
		if recorded.Code == http.StatusOK {
			s.granted++
			s.current = newToken.FindStringSubmatch(recorded.Header().Get("Set-Cookie"))[1]
			s.tokenIDs[s.current] = true
		}
		s.count++
		n := s.count
		s.mu.Unlock()
		if decide != nil {
			f := decide(n, r.Header.Get("Idempotency-Key"))
			if f.drop {
				panic(http.ErrAbortHandler)
			}
			if f.after != nil {
				select {
				case <-f.after:
				case <-r.Context().Done():
				}
			}
		}
		for name, values := range recorded.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes()) // the browser may be gone
	})
}

// newToken finds the token ID in the first cookie that a renewal sets.
var newToken = regexp.MustCompile(`^renew\.(\w+)=`)

// renewals returns how many successors the server has made, and retries how often
// it has given one again.
func (s *site) renewals() (n int) { n, _, _ = s.tally(); return n }
func (s *site) retries() int      { n, granted, _ := s.tally(); return granted - n }

// token returns the ID of the token that the last renewal made.
func (s *site) token() string { _, _, id := s.tally(); return id }

func (s *site) tally() (renewals, granted int, current string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tokenIDs), s.granted, s.current
}

// onRenew decides what becomes of the responses to renewals, from the next one on.
func (s *site) onRenew(decide func(n int, key string) fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renew, s.count = decide, 0
}

// requests returns how many renewals have had a response since onRenew.
func (s *site) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// quiet waits until no renewal has been sent for a while: the browser itself repeats a
// request whose connection breaks, also for a moment after its page is gone.
func (s *site) quiet() {
	for n := -1; n != s.requests(); time.Sleep(200 * time.Millisecond) {
		n = s.requests()
	}
}

// events returns how many events of a kind the example has logged. The log is a
// moment behind.
func (s *site) events(kind string) int {
	return strings.Count(s.log.text(), `"msg":"`+kind+`"`)
}

// signIn signs in in a new tab.
func (s *site) signIn(c *chrome, scripts ...string) *tab {
	s.t.Helper()
	tab := c.open(s.url, scripts...)
	until(tab, `!document.getElementById("login").hidden`)
	run(tab, `document.querySelector("form button").click()`)
	until(tab, `!document.getElementById("session").hidden`)
	return tab
}

// logs collects what is written. It is safe for concurrent use.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
