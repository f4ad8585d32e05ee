package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
)

// ended runs the server until it ends. One that serves is killed after a minute,
// and its status is -1.
func ended(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := command(ctx, args...)
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// TestDefaults shows what the flags are when none is given.
func TestDefaults(t *testing.T) {
	c, err := parseFlags(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, config{
		addr:      "127.0.0.1:8080",
		store:     "memory",
		app:       renew.App{ID: "demo", Issuer: "demo", AuthTTL: time.Hour, RefreshTTL: 3 * time.Hour},
		algorithm: renew.ES256,
	}, c)
}

// TestHelp shows that -h names every flag and succeeds.
func TestHelp(t *testing.T) {
	status, stdout, stderr := ended(t, "-h")
	require.Zero(t, status)
	require.Empty(t, stderr)
	for _, text := range []string{
		"POST /login", "GET  /me", "POST /logout", "/app/{app_id}/renew",
		"-addr", "-store", "-app-id", "-app-key", "-add-app-key", "-alg", "-auth-ttl", "-refresh-ttl", "-refresh-not-before",
		"-session-ttl", "-retry-window",
		`(default "127.0.0.1:8080")`, `(default "demo")`, `(default "ES256")`, "(default 1h0m0s)", "(default 3h0m0s)", "(default 0s)",
	} {
		require.Contains(t, stdout, text)
	}
}

// TestBadFlags shows that an invalid value ends the program before it prints
// anything, with a message that names the flag and holds no secret.
func TestBadFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args    []string
		message string
	}{
		"unknown flag":           {[]string{"-port", "80"}, "flag provided but not defined: -port"},
		"argument":               {[]string{"run"}, "argument 3 is not a flag"},
		"address without port":   {[]string{"-addr", "localhost"}, "-addr: address localhost: missing port in address"},
		"no address":             {[]string{"-addr", ""}, "-addr: missing port in address"},
		"port too large":         {[]string{"-addr", "127.0.0.1:65536"}, `-addr: port "65536" is not a number from 0 to 65535`},
		"port a name":            {[]string{"-addr", "127.0.0.1:http"}, `-addr: port "http" is not a number from 0 to 65535`},
		"unknown store":          {[]string{"-store", "nowhere"}, "-store: "},
		"no app ID":              {[]string{"-app-id", ""}, "app: ID is required"},
		"app ID with a slash":    {[]string{"-app-id", "a/b"}, `-app-id: "a/b" is not a segment of a path`},
		"app ID with a quote":    {[]string{"-app-id", "a'b"}, `-app-id: "a'b" is not a segment of a path`},
		"app ID a dot":           {[]string{"-app-id", ".."}, `-app-id: ".." is not a segment of a path`},
		"app ID too long":        {[]string{"-app-id", strings.Repeat("a", 256)}, "app: ID is longer than 255 bytes"},
		"unknown algorithm":      {[]string{"-alg", "HS256"}, `-alg: "HS256" is not one of ES256, `},
		"algorithm's case":       {[]string{"-alg", "es256"}, `-alg: "es256" is not one of ES256, `},
		"no duration":            {[]string{"-auth-ttl", "soon"}, `invalid value "soon" for flag -auth-ttl`},
		"no lifetime":            {[]string{"-auth-ttl", "0s"}, "-auth-ttl: 0s is not whole seconds from 1s"},
		"negative lifetime":      {[]string{"-refresh-ttl", "-1s"}, "-refresh-ttl: -1s is not whole seconds from 1s"},
		"half seconds":           {[]string{"-refresh-ttl", "1500ms"}, "-refresh-ttl: 1.5s is not whole seconds from 1s"},
		"negative not-before":    {[]string{"-refresh-not-before", "-1s"}, "-refresh-not-before: -1s is not whole seconds from 0s"},
		"not before the end":     {[]string{"-refresh-ttl", "1m", "-refresh-not-before", "1m"}, "-refresh-not-before: 1m0s is not below the -refresh-ttl of 1m0s"},
		"negative session":       {[]string{"-session-ttl", "-1h"}, "-session-ttl: -1h0m0s is not whole seconds from 0s"},
		"negative retry window":  {[]string{"-retry-window", "-1s"}, "-retry-window: -1s is negative"},
		"argument after flags":   {[]string{"-app-id", "a", "secret"}, "argument 5 is not a flag"},
		"app key empty":          {[]string{"-app-key", ""}, "-app-key: app key: it must be at least 16 characters long"},
		"app key short":          {[]string{"-app-key", "a-short-secret"}, "-app-key: app key: it must be at least 16 characters long"},
		"app key with a quote":   {[]string{"-app-key", "my'secret'my'secret"}, "-app-key: it has a quote"},
		"app key with a newline": {[]string{"-app-key", "secretsecretsecret\n"}, "-app-key: app key: it has white space at an end"},
		"app key not ASCII":      {[]string{"-app-key", "secrétsecretsecret"}, "-app-key: app key: it has a character other than visible ASCII"},
		"added app key empty":    {[]string{"-add-app-key", ""}, "-add-app-key: app key: it must be at least 16 characters long"},
		"added app key, spaces":  {[]string{"-add-app-key", " secretsecretsecret"}, "-add-app-key: app key: it has white space at an end"},
		"two app keys":           {[]string{"-app-key", "secretsecretsecret", "-add-app-key", "secret-secret-secret"}, "-app-key and -add-app-key exclude each other"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := ended(t, append([]string{"-addr", "127.0.0.1:0"}, test.args...)...)
			require.Equal(t, 2, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "server: bad command line: "+test.message)
			require.NotContains(t, stderr, "secret", "not the app key")
		})
	}
}

// TestAddressInUse shows that a failure has another status than a bad command line.
func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	status, stdout, stderr := ended(t, "-addr", taken.Addr().String())
	require.Equal(t, 1, status)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "address already in use")
}

// TestBaseURL shows that this machine reaches the printed URL.
func TestBaseURL(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8080":   "http://127.0.0.1:8080",
		"0.0.0.0:8080":     "http://localhost:8080",
		"[::]:8080":        "http://localhost:8080",
		"[::1]:8080":       "http://[::1]:8080",
		"[fe80::1%1]:8080": "http://[fe80::1%251]:8080",
	} {
		resolved, err := net.ResolveTCPAddr("tcp", addr)
		require.NoError(t, err)
		require.Equal(t, want, baseURL(resolved), addr)
	}
}

func hashOf(t *testing.T, appKey string) renew.AppKeyHash {
	t.Helper()
	hash, err := renew.HashAppKey(appKey)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}
