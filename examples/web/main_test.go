package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/js"
)

// start runs the program until the test ends, and returns the address that it
// prints.
func start(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan error, 1)
	var log bytes.Buffer
	go func() { done <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), in, &log) }()
	line := make([]byte, 200)
	n, err := out.Read(line)
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Error("the program does not end")
		}
	})
	address := regexp.MustCompile(`http://localhost:\d+`).FindString(string(line[:n]))
	require.NotEmpty(t, address)
	return strings.Replace(address, "localhost", "127.0.0.1", 1)
}

// TestPages: one command serves the page and the built client, and permits the page
// nothing that it does not need. What the page does is tested in Chromium.
func TestPages(t *testing.T) {
	address := start(t)
	for path, want := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/renew.js": "text/javascript", "/style.css": "text/css", "/icon.svg": "image/svg+xml"} {
		resp, err := http.Get(address + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, resp.Header.Get("Content-Type"), want)
		policy := resp.Header.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'")
		require.NotContains(t, policy, "unsafe")
		require.NotContains(t, policy, "http")
		require.Contains(t, policy, "frame-ancestors 'none'")
		if path == "/renew.js" {
			require.Equal(t, js.Client(), string(body))
		}
		for _, link := range regexp.MustCompile(`https?://[^"'\s]+`).FindAllString(string(body), -1) {
			require.Equal(t, "http://www.w3.org/2000/svg", link, "%s refers to another host", path)
		}
	}
}

// TestAPI: the API wants an auth token, the login a page of this origin.
func TestAPI(t *testing.T) {
	address := start(t, "-auth-ttl", "30s")
	for path, status := range map[string]int{"GET /api/session": 401, "GET /api/devices": 401, "DELETE /api/devices": 401, "DELETE /api/devices/x": 401, "POST /demo/lose": 401, "POST /auth/renew": 400, "POST /login": 400, "GET /nothing": 404} {
		method, path, _ := strings.Cut(path, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, address+path, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, "%s %s", method, path)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/login", strings.NewReader(`{"name":"Mallory"}`))
	require.NoError(t, err)
	req.Header.Set("Origin", "http://evil.example")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	require.Empty(t, resp.Cookies())
}

// TestFlags: a bad command line is an error, before anything is served.
func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-auth-ttl", "x"}, {"-addr", "nowhere"}, {"-auth-ttl", "1h", "-refresh-ttl", "1m"}} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard), args)
	}
}

// TestLogin: a login whose body two JSON libraries could read differently logs no one
// in.
func TestLogin(t *testing.T) {
	address := start(t)
	for body, status := range map[string]int{
		`{"name":"ann"}`:               204,
		`{"name":"ann","more":[1]}`:    204,
		`{"name":"ann","name":"adam"}`: 400,
		`{"name":"ann","Name":"adam"}`: 204, // Name is another member
		`{"Name":"ann"}`:               400,
		`{"name":1}`:                   400,
		`{"name":null}`:                400,
		`{"name":""}`:                  400,
		"{\"name\":\"an\xff\"}":        400,
		`{"name":"\ud800"}`:            400,
		`{"name":"ann"} {}`:            400,
		`["ann"]`:                      400,
		`null`:                         400,
		``:                             400,
	} {
		resp, err := http.Post(address+"/login", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, "%q", body)
	}
}
