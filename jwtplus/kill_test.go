package jwtplus_test

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/jwtrenew/renew"
	"github.com/jwtrenew/renew/internal/rounds"
	"github.com/jwtrenew/renew/sqlstore"
)

// sessionsVariable names the environment variable that sets how many sessions
// TestKilledImport imports, with 20 kills: 200000 takes about ten minutes.
const sessionsVariable = "RENEW_JWTPLUS_SESSIONS"

// TestKilledImport kills the process that imports, again and again, while the
// sessions that are there already are renewed. In the end every session is there
// once, renewed ones as their renewal left them.
func TestKilledImport(t *testing.T) {
	n, kills := rounds.Of(t, 2000), 2*min(rounds.All, rounds.Of(t, 2))
	if text := os.Getenv(sessionsVariable); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(t, err)
		kills = 20
	}
	f := readFixture(t)
	d := newOldDatabase(t)
	for _, table := range []string{"apps", "app_keys"} {
		for _, r := range f.tables[table] {
			d.insert(table, r)
		}
	}
	all := f.generate(t, d, n)
	target := filepath.Join(t.TempDir(), "renew.db")
	s := openStores(t, sqlstore.SQLite, "sqlite", sqliteDSN(target))
	r, err := renew.New(s.keys, s.tokens, renew.WithClock(atFixtureClock))
	require.NoError(t, err)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	renewed := map[string]string{} // by session: the token ID of its successor
	for i := range kills {
		until := (i + 1) * n / (kills + 1)
		importUntil(t, d, target, n/100, until)
		for range 5 {
			g := all[random.IntN(max(1, until/2))]
			if _, used := renewed[g.tokenID]; used {
				continue
			}
			b, err := r.Renew(t.Context(), renew.RenewRequest{AppID: generatedApp, RefreshToken: g.refreshToken, IP: "192.0.2.1"})
			require.NoError(t, err)
			renewed[g.tokenID] = b.TokenID
		}
	}
	began := time.Now()
	last, heaps := importUntil(t, d, target, n/100, n+1)
	require.True(t, last.Done)
	require.Positive(t, last.Report.Sessions.Taken, "the kills came too late")
	require.Equal(t, n, last.Report.Sessions.Read)
	require.Equal(t, n, last.Report.Sessions.Taken+last.Report.Sessions.Existing)
	t.Logf("%d kills; the last import created %d of %d sessions in %v; live heap, bytes: %d", kills, last.Report.Sessions.Taken, n, time.Since(began), heaps)
	require.Less(t, heaps[len(heaps)-1], heaps[0]+16<<20, "memory grows with the number of sessions")

	for _, g := range all {
		session, err := s.tokens.Session(t.Context(), generatedApp, g.tokenID)
		require.NoError(t, err, "a session is lost")
		require.Equal(t, g.subject, session.Subject)
		want, used := renewed[g.tokenID]
		if !used {
			want = g.tokenID
		}
		require.Equal(t, want, session.TokenID, "a renewed session was set back, or one that was not has changed")
	}
	require.NotEmpty(t, renewed)
	if os.Getenv(sessionsVariable) != "" {
		target := filepath.Join(t.TempDir(), "again.db")
		began := time.Now()
		importUntil(t, d, target, 0, n+1)
		t.Logf("%d sessions without a kill in %v: %.0f per second", n, time.Since(began), float64(n)/time.Since(began).Seconds())
	}
}

// importUntil imports in another process, which it kills when that has come to so
// many sessions. It returns the last line of the process, and its heaps.
func importUntil(t *testing.T, d *oldDatabase, target string, batch, sessions int) (last workerReport, heaps []uint64) {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = append(os.Environ(), workerVariable+"=import", workerTarget+"="+target,
		workerBatch+"="+strconv.Itoa(batch), workerSource+"="+mariaDB.Server(t).DSN(d.name))
	cmd.Stderr = os.Stderr
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	killed := false
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var line workerReport
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			break // the line that the kill has cut
		}
		last = line
		if last.Heap > 0 {
			heaps = append(heaps, last.Heap)
		}
		if !killed && last.Report.Sessions.Read >= sessions {
			killed = true
			require.NoError(t, cmd.Process.Kill())
		}
	}
	err = cmd.Wait()
	if killed {
		require.Error(t, err, "the import ended before it was killed")
	} else {
		require.NoError(t, err)
	}
	return last, heaps
}
