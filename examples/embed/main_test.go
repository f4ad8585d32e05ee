package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestReadmeProgram shows that the first program of the README builds in an empty
// module, logs users in whatever user agent their client sends, and renews.
func TestReadmeProgram(t *testing.T) {
	url, appKey := start(t, readmeProgram(t))
	for name, agent := range map[string]struct{ sent, kept string }{
		"usual":       {"browser/1.0", "browser/1.0"},
		"empty":       {"", ""},
		"1,100 bytes": {strings.Repeat("x", 1100), strings.Repeat("x", 1024)},
		"Latin-1":     {"M\xfcller/1.0", "M\ufffdller/1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			login := post(t, url+"/login", map[string]string{"User-Agent": agent.sent}, "")
			require.Equal(t, "no-store", login.header.Get("Cache-Control"))
			require.Equal(t, agent.kept, claims(t, login.AuthToken).UserAgent)
			next := post(t, url+"/app/shop/renew",
				map[string]string{"Authorization": appKey, "Content-Type": "application/json"},
				`{"refresh_token":"`+login.RefreshToken+`","ip":"192.0.2.1","useragent":"browser/1.0"}`)
			require.Equal(t, "ann@example.com", claims(t, next.AuthToken).Subject)
		})
	}
}

// readmeProgram returns the first program of the README.
func readmeProgram(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	program := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindStringSubmatch(string(readme))
	require.NotNil(t, program)
	return program[1]
}

// start builds the program in a module that has nothing else, runs it, and
// returns the URL that it serves and the app key that it prints. Its address is
// replaced by a free one; nothing else is changed.
func start(t *testing.T, program string) (url, appKey string) {
	t.Helper()
	addr := freeAddress(t)
	const fixed = `"127.0.0.1:8080"`
	require.Equal(t, 1, strings.Count(program, fixed))
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"main.go": strings.Replace(program, fixed, `"`+addr+`"`, 1),
		"go.mod": "module example.com/shop\n\ngo 1.25.0\n\nrequire github.com/jwtrenew/renew v0.0.0\n\n" +
			"replace github.com/jwtrenew/renew => " + root + "\n",
		"go.sum": string(sums),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	binary := filepath.Join(dir, "shop")
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", binary, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)

	cmd := exec.CommandContext(t.Context(), binary) // killed when the test's context ends
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("log of the program:\n%s", &stderr)
		}
	})
	printed := make([]byte, len("app key: ")+43+len("\n"))
	_, err = io.ReadFull(stdout, printed)
	require.NoError(t, err)
	appKey, found := strings.CutPrefix(strings.TrimSuffix(string(printed), "\n"), "app key: ")
	require.True(t, found, "%s", printed)
	waitForListener(t, addr)
	return "http://" + addr, appKey
}

// freeAddress returns an address that nothing listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// waitForListener waits until the program listens, which it does after it has
// printed its app key.
func waitForListener(t *testing.T, addr string) {
	t.Helper()
	for range 600 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			require.NoError(t, conn.Close())
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	require.Fail(t, "the program does not listen", addr)
}

// response is a pair of tokens, and the header that it came with.
type response struct {
	header       http.Header
	AuthToken    string `json:"auth_token"`
	RefreshToken string `json:"refresh_token"`
}

// post sends a request, which must succeed.
func post(t *testing.T, url string, header map[string]string, body string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	for name, value := range header {
		req.Header.Set(name, value) // net/http sends no User-Agent if it is empty
	}
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req) // without a proxy
	require.NoError(t, err)
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", read)
	pair := response{header: resp.Header}
	require.NoError(t, json.Unmarshal(read, &pair), "%s", read)
	return pair
}

type tokenClaims struct {
	Subject   string `json:"sub"`
	UserAgent string `json:"useragent"`
}

// claims reads a token's claims. That its signature is valid is for other tests.
func claims(t *testing.T, token string) tokenClaims {
	t.Helper()
	segments := strings.Split(token, ".")
	require.Len(t, segments, 3)
	decoded, err := base64.RawURLEncoding.DecodeString(segments[1])
	require.NoError(t, err)
	var c tokenClaims
	require.NoError(t, json.Unmarshal(decoded, &c))
	return c
}
