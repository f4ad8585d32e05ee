//go:build unix

package dbtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew/internal/dbtest"
)

// TestProgram promises that a program is started once, is gone after Kill, can be
// started again, and writes to its log.
func TestProgram(t *testing.T) {
	dir := dbtest.ProgramDir(t)
	log := filepath.Join(dir, "log")
	p := dbtest.NewProgram(t, "sh", "install a shell", log, "-c", "echo started; exec sleep 600")
	require.False(t, p.Running())
	for n := range 2 {
		require.NoError(t, p.Start())
		require.NoError(t, p.Start(), "it runs")
		require.True(t, p.Running())
		for strings.Count(p.LogTail(), "started") <= n {
			require.True(t, p.Running())
		}
		p.Kill()
		require.False(t, p.Running())
		require.Equal(t, n+1, strings.Count(p.LogTail(), "started"))
	}
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, "started\nstarted\n", string(text))
}

// TestFreePort promises ports that differ, and that no outgoing connection has: systems
// choose for these from 32768 on.
func TestFreePort(t *testing.T) {
	seen := map[int]bool{}
	for range 300 {
		port := dbtest.FreePort(t)
		require.False(t, seen[port], "again")
		require.Less(t, port, 32768)
		seen[port] = true
	}
}
