package main

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of package dbtest
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/storeurl"
)

const encryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// shell runs renewctl as a shell does.
type shell struct {
	t     *testing.T
	env   map[string]string
	stdin string
	now   func() time.Time // nil: time.Now
}

// run returns what renewctl prints.
func (s *shell) run(args ...string) (string, error) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	e := environment{
		getenv: func(name string) string { return s.env[name] },
		stdin:  strings.NewReader(s.stdin), stdout: &stdout, stderr: &stderr, now: s.clock,
	}
	err := e.run(s.t.Context(), args)
	return stdout.String(), err
}

func (s *shell) clock() time.Time {
	if s.now == nil {
		return time.Now()
	}
	return s.now()
}

// ok runs a command that must succeed.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	require.NoError(s.t, err)
	return out
}

// decode runs a command that must succeed, and decodes its JSON.
func decode[T any](s *shell, args ...string) T {
	s.t.Helper()
	end := len(args)
	if i := slices.Index(args, "--"); i >= 0 {
		end = i
	}
	out := s.ok(slices.Insert(slices.Clone(args), end, "-json")...)
	var v T
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	require.NoError(s.t, d.Decode(&v), out)
	return v
}

// renewer opens the store as a service does.
func (s *shell) renewer() *renew.Renewer {
	s.t.Helper()
	stores, err := storeurl.Open(s.t.Context(), s.env[storeVariable], s.env[storeurl.EncryptionKeyVariable])
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, stores.Close()) })
	r, err := renew.New(stores.Keys, stores.Tokens, renew.WithClock(s.clock))
	require.NoError(s.t, err)
	return r
}

// onEach runs the test with an empty store of each kind.
func onEach(t *testing.T, test func(t *testing.T, s *shell)) {
	for name, url := range map[string]func(t *testing.T) string{
		"SQLite": func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "renew.db") },
		"PostgreSQL": func(t *testing.T) string {
			server := dbtest.PostgreSQL(t)
			return server.DSN(server.NewDatabase(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, &shell{t: t, env: map[string]string{storeVariable: url(t), storeurl.EncryptionKeyVariable: encryptionKey}})
		})
	}
}

// TestPages shows that the commands which the pages name exist.
func TestPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	count := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile("(?:^|[` ])renewctl ([a-z][a-z-]*(?: [a-z][a-z-]*)*)(?: [A-Z-]|`|\n)").FindAllStringSubmatch(string(text), -1) {
			if match[1] == "help" {
				continue
			}
			count++
			_, _, err := find(strings.Fields(match[1]))
			require.NoError(t, err, "%s names renewctl %s", page, match[1])
		}
	}
	require.Greater(t, count, 12)
}

// The promise: an operator makes an app, and a service that uses the store renews
// its users' sessions with the app key that was printed.
func TestApps(t *testing.T) {
	onEach(t, func(t *testing.T, s *shell) {
		made := decode[appKeyView](s, "app", "create", "shop", "-issuer", "https://shop.example", "-auth-ttl", "10m", "-max-sessions", "3")
		require.Len(t, made.AppKey, 43)
		service := s.renewer()
		require.NoError(t, service.AuthenticateApp(t.Context(), "shop", made.AppKey))
		b := login(t, service, "shop", "ada")

		_, err := s.run("app", "create", "shop")
		require.ErrorIs(t, err, renew.ErrAppExists)
		out := s.ok("app", "create", "blog", "-alg", "EdDSA")
		require.Contains(t, out, "not shown again")

		apps := decode[[]appView](s, "app", "list")
		require.Len(t, apps, 2)
		require.Equal(t, "blog", apps[0].ID)
		require.Equal(t, appView{
			ID: "shop", Issuer: "https://shop.example", FormerIssuers: []string{}, AuthTTL: 600, RefreshTTL: 1800,
			MaxSessions: 3, AppKeyHashes: []string{made.Hash},
		}, apps[1])
		require.Equal(t, apps[1], decode[appView](s, "app", "show", "shop"))
		text := s.ok("app", "list") + s.ok("app", "show", "shop")
		require.Contains(t, text, "https://shop.example")
		require.NotContains(t, text, made.AppKey)

		_, err = s.run("app", "show", "shops")
		require.ErrorIs(t, err, renew.ErrAppNotFound)
		updated := decode[appView](s, "app", "update", "shop", "-issuer", "https://store.example", "-max-sessions", "0")
		require.Equal(t, []string{"https://shop.example"}, updated.FormerIssuers)
		require.Equal(t, int64(600), updated.AuthTTL, "no flag was given")
		require.Zero(t, updated.MaxSessions)
		again := s.renewer()
		_, err = again.Renew(t.Context(), renew.RenewRequest{AppID: "shop", RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err, "the token of the former issuer")
	})
}

func login(t *testing.T, r *renew.Renewer, appID, subject string) *renew.Bundle {
	t.Helper()
	b, err := r.Issue(t.Context(), renew.IssueRequest{AppID: appID, Subject: subject, IP: "192.0.2.1", UserAgent: "test"})
	require.NoError(t, err)
	return b
}

// The promise: app keys are added and removed by their file, standard input or
// hash, and one that exists is never printed.
func TestAppKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *shell) {
		first := decode[appKeyView](s, "app", "create", "shop")
		second := decode[appKeyView](s, "app", "key", "add", "shop")
		file := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(file, []byte("an-app-key-of-the-operator\r\n"), 0o600))
		out := s.ok("app", "key", "add", "shop", "-file", file)
		require.NotContains(t, out, "an-app-key")
		s.stdin = "another-key-of-the-operator\n"
		s.ok("app", "key", "add", "-file", "-", "shop")
		foreign := strings.Repeat("aZ09+/==", 16)
		s.ok("app", "key", "add", "shop", "-hash", fmt.Sprintf("sha512:%x", sha512.Sum512([]byte(foreign))))
		keys := []string{first.AppKey, second.AppKey, "an-app-key-of-the-operator", "another-key-of-the-operator", foreign}
		service := s.renewer()
		for _, key := range keys {
			require.NoError(t, service.AuthenticateApp(t.Context(), "shop", key))
		}
		require.Len(t, decode[appView](s, "app", "show", "shop").AppKeyHashes, len(keys))

		s.ok("app", "key", "remove", "shop", "-file", file)
		s.ok("app", "key", "remove", "shop", "-hash", first.Hash)
		_, err := s.run("app", "key", "remove", "shop", "-hash", first.Hash)
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
		service = s.renewer()
		for i, key := range keys {
			err := service.AuthenticateApp(t.Context(), "shop", key)
			if i == 0 || i == 2 {
				require.ErrorIs(t, err, renew.ErrInvalidAppKey)
			} else {
				require.NoError(t, err)
			}
		}
	})
}

// The promise: a key is published, signs after a rotation, and can be revoked once
// it is not the active one; a private key in PEM is taken as it is.
func TestSigningKeys(t *testing.T) {
	onEach(t, func(t *testing.T, s *shell) {
		s.ok("app", "create", "shop")
		first := decode[[]keyView](s, "signing-key", "list", "shop")
		require.Len(t, first, 1)
		require.Equal(t, "active", first[0].State)

		published := decode[keyView](s, "signing-key", "publish", "shop", "-alg", "RS256")
		require.Equal(t, renew.RS256, published.Algorithm)
		list := decode[[]keyView](s, "signing-key", "list", "shop")
		require.Equal(t, []string{"active", "published"}, []string{list[0].State, list[1].State})
		_, err := s.run("signing-key", "rotate", "shop", "-published", first[0].ID)
		require.ErrorIs(t, err, renew.ErrKeyNotFound)
		s.ok("signing-key", "rotate", "shop", "-published", published.ID)
		require.Equal(t, published.ID, login(t, s.renewer(), "shop", "ada").KeyID)

		key, err := renew.GenerateSigningKey(renew.ES384)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(key.Signer())
		require.NoError(t, err)
		s.stdin = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		id := ulid.Make().String()
		s.ok("signing-key", "rotate", "shop", "-alg", "ES384", "-file", "-", "-id", id)
		b := login(t, s.renewer(), "shop", "ada")
		require.Equal(t, id, b.KeyID)
		require.Equal(t, key.VerificationKey().PublicKey(), b.PublicKey)

		_, err = s.run("signing-key", "revoke", "shop", id)
		require.ErrorContains(t, err, "rotate first")
		s.ok("signing-key", "rotate", "shop")
		s.ok("signing-key", "revoke", "shop", id)
		_, err = s.renewer().Renew(t.Context(), renew.RenewRequest{AppID: "shop", RefreshToken: b.RefreshToken, IP: "192.0.2.1", UserAgent: "test"})
		require.ErrorIs(t, err, renew.ErrInvalidRefreshToken)
		list = decode[[]keyView](s, "signing-key", "list", "shop")
		require.Equal(t, []string{"active", "replaced", "replaced"}, []string{list[0].State, list[1].State, list[2].State})
		require.False(t, time.Time(list[1].End).IsZero())
	})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *moment) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, (*time.Time)(m))
}

// The promise: an operator sees a user's sessions and ends one, or all.
func TestSessions(t *testing.T) {
	onEach(t, func(t *testing.T, s *shell) {
		s.ok("app", "create", "shop")
		service := s.renewer()
		first, second := login(t, service, "shop", "-ada@example.com"), login(t, service, "shop", "-ada@example.com")
		other := login(t, service, "shop", "bob")
		sessions := decode[[]sessionView](s, "session", "list", "shop", "--", "-ada@example.com")
		require.Len(t, sessions, 2)
		require.Equal(t, second.SessionID, sessions[0].ID)
		require.Contains(t, s.ok("session", "list", "shop", "--", "-ada@example.com"), first.SessionID)

		s.ok("session", "revoke", "shop", first.SessionID)
		_, err := s.run("session", "revoke", "shop", ulid.Make().String())
		require.ErrorIs(t, err, renew.ErrSessionNotFound)
		require.Len(t, decode[[]sessionView](s, "session", "list", "shop", "--", "-ada@example.com"), 1)
		require.Equal(t, revokedView{1}, decode[revokedView](s, "session", "revoke-subject", "shop", "--", "-ada@example.com"))
		require.Empty(t, decode[[]sessionView](s, "session", "list", "shop", "--", "-ada@example.com"))
		_, err = service.Renew(t.Context(), renew.RenewRequest{AppID: "shop", RefreshToken: other.RefreshToken, IP: "192.0.2.1", UserAgent: "test"})
		require.NoError(t, err)
		require.Equal(t, deletedView{}, decode[deletedView](s, "purge"))
	})
}

// The promise: a wrong command line is errUsage, says what is wrong, and makes
// nothing.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "renew.db")
	for name, c := range map[string]struct {
		args, url string
		says      string
	}{
		"no command":               {"", "", "renewctl help"},
		"half a command":           {"app", "", "no such command"},
		"another command":          {"app delete shop", "", "no such command"},
		"an unknown flag":          {"app list -all", "sqlite:" + file, "-all"},
		"an argument less":         {"app show", "sqlite:" + file, "takes APP"},
		"an argument more":         {"app list shop", "sqlite:" + file, "flags alone"},
		"no store":                 {"app list", "", storeVariable},
		"a store in memory":        {"app list", "memory", "memory ends with"},
		"another store":            {"app list", "oracle://host", "is not one of"},
		"a password in a flag":     {"app list -store postgres://renew:hunter2@127.0.0.1:1/renew", "", "has a password"},
		"another one":              {"app list -store postgres://127.0.0.1:1/renew?password=hunter2", "", "has a password"},
		"Redis":                    {"app list -store redis+sentinel://:hunter2@127.0.0.1:1,127.0.0.1:2/main", "", "has a password"},
		"Redis's Sentinels":        {"app list -store redis+sentinel://127.0.0.1:1/main?sentinel_password=hunter2", "", "has a password"},
		"the driver's own form":    {"app list -store mysql://renew:hunter2@tcp(127.0.0.1:1)/renew", "", "has a password"},
		"an invalid app":           {"app create shop -auth-ttl 1500ms", "sqlite:" + file, "AuthTTL"},
		"an unknown algorithm":     {"app create shop -alg HS256", "sqlite:" + file, "HS256"},
		"an update of nothing":     {"app update shop", "sqlite:" + file, "none is given"},
		"two app keys":             {"app key add shop -file x -hash y", "sqlite:" + file, "exclude"},
		"no app key":               {"app key remove shop", "sqlite:" + file, "-file or -hash"},
		"a malformed hash":         {"app key add shop -hash md5:00", "sqlite:" + file, "-hash"},
		"an ID without a key file": {"signing-key publish shop -id x", "sqlite:" + file, "-id names"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shell{t: t, env: map[string]string{storeVariable: c.url, storeurl.EncryptionKeyVariable: encryptionKey}}
			if strings.HasPrefix(c.url, "sqlite:") {
				empty := &shell{t: t, env: map[string]string{storeVariable: c.url, storeurl.EncryptionKeyVariable: encryptionKey}}
				_, _ = empty.run("app", "create", "shop")
			}
			out, err := s.run(strings.Fields(c.args)...)
			require.ErrorIs(t, err, errUsage)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hunter2")
			require.Empty(t, out)
		})
	}
	t.Run("a mistyped file", func(t *testing.T) {
		missing := filepath.Join(dir, "missing.db")
		s := &shell{t: t, env: map[string]string{storeVariable: "sqlite:" + missing}}
		_, err := s.run("app", "list")
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NoFileExists(t, missing)
		require.NoFileExists(t, missing+".key")
	})
}

// The promise: the help names every command and what the environment holds, and each
// command's help its flags.
func TestHelp(t *testing.T) {
	s := &shell{t: t}
	all := s.ok("help")
	for _, c := range commands() {
		require.Contains(t, all, "  "+c.name)
		out := s.ok(append(strings.Fields(c.name), "-h")...)
		require.Contains(t, out, c.summary)
		require.Contains(t, out, "-json")
	}
	require.Contains(t, all, storeVariable)
	require.Contains(t, all, storeurl.EncryptionKeyVariable)
}
