package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test binary the program itself where a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("SERVER_UNDER_TEST") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "SERVER_UNDER_TEST=1")
	return cmd
}

// process is a server that runs, and what it printed.
type process struct {
	*exec.Cmd
	url, appID, appKey string
	commands           map[string]string // by their heading
	log                *logBuffer
	exited             func() error // waits for the end, as often as asked
}

// start starts the server on a free port and reads what it prints.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: command(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, args...)...), log: newLogBuffer()}
	p.Stderr = p.log
	stdout, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	p.exited = sync.OnceValue(p.Wait)
	t.Cleanup(func() {
		_ = p.exited() // it was killed, at the latest when the test's context ended
		if t.Failed() {
			t.Logf("log of the server:\n%s", p.log)
		}
	})
	p.read(t, bufio.NewScanner(stdout))
	return p
}

// read reads the three lines that are for scripts, and the commands.
func (p *process) read(t *testing.T, stdout *bufio.Scanner) {
	t.Helper()
	for _, line := range []struct {
		name  string
		value *string
	}{{"url", &p.url}, {"app_id", &p.appID}, {"app_key", &p.appKey}} {
		require.True(t, stdout.Scan(), "the server printed no %s: %s", line.name, p.log)
		name, value, found := strings.Cut(stdout.Text(), "=")
		require.True(t, found, stdout.Text())
		require.Equal(t, line.name, name)
		*line.value = value
	}
	p.commands = map[string]string{}
	heading := ""
	for stdout.Scan() {
		switch line := stdout.Text(); {
		case strings.HasPrefix(line, "Ctrl-C"):
			return
		case strings.HasPrefix(line, " "):
			p.commands[heading] += line + "\n"
		case line != "":
			heading, _ = strings.CutSuffix(line, ":")
		}
	}
	require.Fail(t, "the server stopped printing", "%s", p.log)
}

// logBuffer is what the server logs.
type logBuffer struct {
	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{} // closed when text has grown
}

func newLogBuffer() *logBuffer { return &logBuffer{grown: make(chan struct{})} }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.grown)
	b.grown = make(chan struct{})
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// waitFor waits until the text is in the log.
func (b *logBuffer) waitFor(t *testing.T, text string) {
	t.Helper()
	for {
		b.mu.Lock()
		found, grown := strings.Contains(b.text.String(), text), b.grown
		b.mu.Unlock()
		if found {
			return
		}
		select {
		case <-grown:
		case <-time.After(time.Minute):
			require.Fail(t, "the server does not log it", "%q\n%s", text, b)
		}
	}
}

// response is what an HTTP response holds, read in full.
type response struct {
	status int
	header http.Header
	body   string
}

// call sends a request to the server. authorization may be empty.
func (p *process) call(t *testing.T, method, path, authorization, body string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	return response{resp.StatusCode, resp.Header, string(read)}
}

// send sends a request as it is given, its head line by line.
func (p *process) send(t *testing.T, head []string, body string) response {
	t.Helper()
	return read(t, write(t, strings.TrimPrefix(p.url, "http://"), head, body))
}

// write sends a request on a new connection.
func write(t *testing.T, addr string, head []string, body string) *net.TCPConn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	_, err = fmt.Fprintf(conn, "%s\r\nHost: x\r\n\r\n%s", strings.Join(head, "\r\n"), body)
	require.NoError(t, err)
	return conn.(*net.TCPConn)
}

func read(t *testing.T, conn *net.TCPConn) response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	return response{resp.StatusCode, resp.Header, string(body)}
}

// bundle is the body of the response to a login and to a renewal.
type bundle struct {
	AuthToken    string `json:"auth_token"`
	KeyID        string `json:"key_id"`
	PublicKey    string `json:"public_key"`
	RefreshToken string `json:"refresh_token"`
}

// inOrder is the documented response.
const inOrder = `^{"auth_token":"[\w.-]+","key_id":"\w{26}","public_key":"[\w+/]+=*","refresh_token":"[\w.-]+"}$`

func readBundle(t *testing.T, body string) bundle {
	t.Helper()
	require.Regexp(t, inOrder, body)
	var b bundle
	require.NoError(t, json.Unmarshal([]byte(body), &b))
	return b
}

const loginBody = `{"sub":"ann@example.com","aud":"web-app","ip":"192.0.2.1","useragent":"browser/1.0"}`

func (p *process) login(t *testing.T, body string) bundle {
	t.Helper()
	a := p.call(t, http.MethodPost, "/login", "", body)
	require.Equal(t, http.StatusOK, a.status, a.body)
	return readBundle(t, strings.TrimSuffix(a.body, "\n"))
}

func (p *process) renew(t *testing.T, refreshToken string) response {
	t.Helper()
	body := `{"refresh_token":"` + refreshToken + `","ip":"192.0.2.1","useragent":"browser/1.0"}`
	return p.call(t, http.MethodPost, "/app/"+p.appID+"/renew", p.appKey, body)
}

func (p *process) renewed(t *testing.T, refreshToken string) bundle {
	t.Helper()
	a := p.renew(t, refreshToken)
	require.Equal(t, http.StatusOK, a.status, a.body)
	return readBundle(t, a.body)
}

func requireRejected(t *testing.T, a response) {
	t.Helper()
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Equal(t, `{"message":"invalid refresh token"}`, a.body)
}

// segment is the header (0) or the claims (1) of a token, to the letter.
func segment(t *testing.T, token string, i int) map[string]json.RawMessage {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	require.NoError(t, err)
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(decoded, &members))
	return members
}

// lifetimes are a token's nbf and exp, in seconds after its iat.
func lifetimes(t *testing.T, token string) (nbf, exp int64) {
	t.Helper()
	seconds := map[string]int64{}
	for _, name := range []string{"iat", "nbf", "exp"} {
		var n int64
		require.NoError(t, json.Unmarshal(segment(t, token, 1)[name], &n))
		seconds[name] = n
	}
	return seconds["nbf"] - seconds["iat"], seconds["exp"] - seconds["iat"]
}
