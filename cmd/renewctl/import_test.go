package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/dbtest"
	"github.com/jwtrenew/renew/jwtplus"
)

// fixtureDir holds rows of a JWTPlus database, and what becomes of its tokens.
const fixtureDir = "../../jwtplus/testdata"

// jwtPlusDatabase makes a database with the rows and returns its URL.
func jwtPlusDatabase(t *testing.T) string {
	t.Helper()
	server := dbtest.MariaDB(t)
	dsn := server.DSN(server.NewDatabase(t))
	db, err := sql.Open("mysql", dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for table, key := range map[string]string{"apps": "app_id", "app_keys": "key_id", "tokens": "token_id"} {
		for i, row := range readFixture[map[string]any](t, table+".jsonl") {
			columns := slices.Sorted(maps.Keys(row))
			var types, args []any
			for _, name := range columns {
				types = append(types, name+" MEDIUMTEXT")
				args = append(args, row[name])
			}
			if i == 0 {
				types[slices.Index(columns, key)] = key + " CHAR(26) PRIMARY KEY"
				_, err := db.ExecContext(t.Context(), fmt.Sprintf("CREATE TABLE %s (%s) ENGINE=InnoDB CHARACTER SET utf8mb4", table, join(types)))
				require.NoError(t, err)
			}
			marks := strings.TrimSuffix(strings.Repeat("?,", len(args)), ",")
			_, err := db.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(columns, ","), marks), args...) //nolint:gosec // the names are the fixture's
			require.NoError(t, err)
		}
	}
	return "mysql://" + dsn
}

func join(texts []any) string {
	var all []string
	for _, text := range texts {
		all = append(all, fmt.Sprint(text))
	}
	return strings.Join(all, ", ")
}

func readFixture[T any](t *testing.T, name string) (all []T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(fixtureDir, name))
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		var v T
		err := d.Decode(&v)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, v)
	}
}

// The promise: an operator rehearses the import, runs it, and runs it again; the
// tokens of before then renew with the app keys of before. No secret is printed.
func TestImportJWTPlus(t *testing.T) {
	onEach(t, func(t *testing.T, s *shell) {
		source := jwtPlusDatabase(t)
		s.env[jwtplusVariable] = source
		s.now = func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) } // every token is within its times

		dry := s.ok("import", "jwtplus", "-dry-run")
		require.Regexp(t, `(?m)^apps +4 +4 +0 +0$`, dry)
		require.Contains(t, dry, "TO TAKE OVER")
		require.Empty(t, decode[[]appView](s, "app", "list"))

		file := filepath.Join(t.TempDir(), "source")
		require.NoError(t, os.WriteFile(file, []byte(source+"\n"), 0o600))
		delete(s.env, jwtplusVariable)
		out := s.ok("import", "jwtplus", "-source-file", file)
		require.Regexp(t, `(?m)^keys +11 +9 +0 +2$`, out)
		require.Regexp(t, `(?m)^sessions +46 +43 +0 +3$`, out)
		require.Contains(t, out, "not taken over, revoked_key: 2")
		require.Len(t, decode[[]appView](s, "app", "list"), 4)

		s.stdin = source
		report, lines := parseImport(t, s.ok("import", "jwtplus", "-source-file", "-", "-json"))
		require.Equal(t, jwtplus.Counts{Read: 46, Existing: 43, Rejected: 3}, report.Sessions)
		require.Len(t, lines, 5)

		renewer := s.renewer()
		keys := readFixture[struct {
			AppKeys map[string]string `json:"app_keys"`
		}](t, "appkeys.json")[0]
		renewed := 0
		for _, e := range readFixture[expectation](t, "expectations.jsonl") {
			require.NotContains(t, dry+out, e.RefreshToken)
			require.NoError(t, renewer.AuthenticateApp(t.Context(), e.AppID, keys.AppKeys[e.AppID]))
			_, err := renewer.Renew(t.Context(), renew.RenewRequest{AppID: e.AppID, RefreshToken: e.RefreshToken, IP: "192.0.2.1", UserAgent: "test"})
			if err == nil {
				renewed++
			} else {
				require.ErrorIs(t, err, renew.ErrInvalidToken)
			}
		}
		require.Equal(t, 43, renewed)
	})
}

// expectation is what becomes of a token.
type expectation struct {
	RefreshToken string `json:"refresh_token"`
	AppID        string `json:"app_id"`
}

func parseImport(t *testing.T, out string) (*jwtplus.Report, []jwtplus.Line) {
	t.Helper()
	var lines []jwtplus.Line
	d := json.NewDecoder(strings.NewReader(out))
	for {
		var v importView
		require.NoError(t, d.Decode(&v))
		if v.Report != nil {
			require.False(t, d.More())
			return v.Report, lines
		}
		lines = append(lines, *v.Line)
	}
}

// The promise: without the database to import from, or with a malformed URL of it,
// nothing happens, and no error shows the URL.
func TestImportUsage(t *testing.T) {
	for name, source := range map[string]string{
		"none":           "",
		"not MySQL":      "postgres://renew:hunter2@127.0.0.1:1/old",
		"no database":    "mysql://renew:hunter2@127.0.0.1:1",
		"unknown option": "mysql://renew:hunter2@127.0.0.1:1/old?timeout=soon",
	} {
		t.Run(name, func(t *testing.T) {
			s := &shell{t: t, env: map[string]string{storeVariable: "sqlite:" + filepath.Join(t.TempDir(), "renew.db"), jwtplusVariable: source}}
			_, err := s.run("import", "jwtplus")
			require.ErrorIs(t, err, errUsage)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	s := &shell{t: t, env: map[string]string{
		storeVariable:   "sqlite:" + filepath.Join(t.TempDir(), "renew.db"),
		jwtplusVariable: "mysql://renew:hunter2@127.0.0.1:1/old",
	}}
	_, err := s.run("import", "jwtplus")
	require.Error(t, err)
	require.NotErrorIs(t, err, errUsage, "the database does not respond")
	require.NotContains(t, err.Error(), "hunter2")
}

// The promise: progress is shown on a terminal, one line that is replaced, and is
// gone before anything else is printed.
func TestProgress(t *testing.T) {
	var terminal bytes.Buffer
	p := &progress{w: &terminal}
	p.clear()
	p.show("sessions: %d of %d", 500, 1000)
	p.show("sessions: %d of %d", 1000, 1000)
	p.clear()
	blank := "\r" + strings.Repeat(" ", len("sessions: 500 of 1000")) + "\r"
	require.Equal(t, "sessions: 500 of 1000"+blank+"sessions: 1000 of 1000\r"+strings.Repeat(" ", len("sessions: 1000 of 1000"))+"\r", terminal.String())
	(&progress{}).show("no terminal")
}
