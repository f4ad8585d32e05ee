package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	appKey        = "the-app-key-of-this-test"
	encryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// TestThreeLines shows that memory and a database differ in three lines of main.
func TestThreeLines(t *testing.T) {
	inMemory, durable := mainFunction(t, "../embed/main.go"), mainFunction(t, "main.go")
	var replaced []string
	for _, line := range inMemory {
		if !slices.Contains(durable, line) {
			replaced = append(replaced, line)
		}
	}
	require.Len(t, replaced, 3, "%q", replaced)
}

// mainFunction returns the lines of a program's main.
func mainFunction(t *testing.T, file string) []string {
	t.Helper()
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	_, after, found := strings.Cut(string(source), "\nfunc main() {\n")
	require.True(t, found)
	body, _, found := strings.Cut(after, "\n}\n")
	require.True(t, found)
	return strings.Split(body, "\n")
}

// TestProgram shows that a session, its signing key and the app key survive a kill
// of the program, and that it does not start without its secrets.
func TestProgram(t *testing.T) {
	program, addr := build(t)
	kill := start(t, program, addr)
	login := post(t, "http://"+addr+"/login", "")
	kill()

	kill = start(t, program, addr)
	next := post(t, "http://"+addr+"/app/shop/renew",
		`{"refresh_token":"`+login.RefreshToken+`","ip":"192.0.2.1","useragent":"browser/1.0"}`)
	require.Equal(t, login.KeyID, next.KeyID)
	kill()

	for _, test := range []struct{ appKey, encryptionKey, message string }{
		{"", encryptionKey, "app key: it must be at least 16 characters long"},
		{appKey, "", "keycrypt.New: key 1 is 0 bytes long"},
	} {
		output, err := command(t, program, test.appKey, test.encryptionKey).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(output), test.message)
	}
}

// build builds the program for a free address; nothing else is changed.
func build(t *testing.T) (program, addr string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	addr = listener.Addr().String()

	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	const fixed = `"127.0.0.1:8080"`
	require.Equal(t, 1, bytes.Count(source, []byte(fixed)))
	dir := t.TempDir()
	original, err := filepath.Abs("main.go")
	require.NoError(t, err)
	changed := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(changed, bytes.Replace(source, []byte(fixed), []byte(`"`+addr+`"`), 1), 0o600))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, overlay, 0o600))

	program = filepath.Join(dir, "shop")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlayFile, "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return program, addr
}

// command is the program, to be run in the folder that it is in.
func command(t *testing.T, program, appKey, encryptionKey string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program) // killed when the test's context ends
	cmd.Dir = filepath.Dir(program)
	cmd.Env = append(os.Environ(), "APP_KEY="+appKey, "ENCRYPTION_KEY="+encryptionKey)
	return cmd
}

// start runs the program, returns when it listens, and says how to kill it.
func start(t *testing.T, program, addr string) (kill func()) {
	t.Helper()
	cmd := command(t, program, appKey, encryptionKey)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says why
		close(ended)
	}()
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("log of the program:\n%s", &stderr)
		}
	})
	for {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			require.NoError(t, conn.Close())
			break
		}
		select {
		case <-ended:
			require.Fail(t, "the program has ended", "%s", &stderr)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return func() {
		require.NoError(t, cmd.Process.Kill())
		<-ended
	}
}

type response struct {
	KeyID        string `json:"key_id"`
	RefreshToken string `json:"refresh_token"`
}

// post sends a request, which must succeed.
func post(t *testing.T, url, body string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", appKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req) // without a proxy
	require.NoError(t, err)
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", read)
	var pair response
	require.NoError(t, json.Unmarshal(read, &pair), "%s", read)
	return pair
}
