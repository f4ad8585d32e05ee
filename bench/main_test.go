//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/rounds"
)

// A child is this program again: here the test's.
func TestMain(m *testing.M) {
	if config, isChild := os.LookupEnv(childVariable); isChild {
		if err := runChild(context.Background(), config); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Every section measures, on every store that is installed, and prints a table
// in which no number is missing.
func TestEverySectionPrintsItsTable(t *testing.T) {
	rounds.Long(t)
	databases, err := startDatabases(t.Context())
	require.NoError(t, err)
	defer databases.stop()
	for _, s := range sections {
		t.Run(s.name, func(t *testing.T) {
			var out bytes.Buffer
			b := &bench{
				out: &out, block: time.Millisecond, rounds: 2, pairs: 10, load: 20 * time.Millisecond,
				live: []int{10, 30}, growth: 5, renewals: 20, databases: databases,
			}
			require.NoError(t, s.run(b, t.Context()))
			t.Log(out.String())
			tables := strings.Count(out.String(), "\n### ")
			require.Positive(t, tables)
			require.NotRegexp(t, regexp.MustCompile(`NaN|Inf|\|\s+0 µs`), out.String())
			for line := range strings.Lines(out.String()) {
				require.True(t, strings.HasPrefix(line, "|") == strings.HasSuffix(line, "|\n"), "a row that is not whole: %s", line)
			}
		})
	}
}

// A renewal is one statement that reads and one that writes.
func TestStatementsPerRenewal(t *testing.T) {
	databases, err := startDatabases(t.Context())
	require.NoError(t, err)
	defer databases.stop()
	for _, kind := range []storeKind{inSQLite, inPostgreSQL, inMariaDB, inRedis, inCluster} {
		if !databases.has(kind) {
			continue
		}
		backend, err := databases.open(t.Context(), kind)
		require.NoError(t, err)
		defer backend.engine.close()
		n, err := backend.engine.statements(t.Context(), backend)
		require.NoError(t, err)
		require.InDelta(t, 2, n, 0, kind.Name)
	}
}

// What is asked for and not there is an error.
func TestUnknownSection(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), &bytes.Buffer{}, []string{"-only", "nothing"}), `"nothing"`)
	require.Error(t, run(t.Context(), &bytes.Buffer{}, []string{"-nonsense"}))
}
