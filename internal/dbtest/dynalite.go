package dbtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// Dynalite is an emulator of DynamoDB, on loopback, whose data is in a temporary
// folder. It is the npm package dynalite with what that lacks and dynamostore uses, see
// dynalite/server.cjs. Any credentials and any region will do.
type Dynalite struct {
	// URL is the endpoint.
	URL string
	// Dir is where the data is.
	Dir     string
	program *Program
}

// StartDynalite starts one for a test, which ends it. Where Node or the package is
// missing it skips the test, or fails it: see [RequireVariable]. With plain it has no
// time to live, and a failed condition returns no item.
func StartDynalite(tb testing.TB, plain bool) *Dynalite {
	tb.Helper()
	notShort(tb)
	_, file, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(file), "dynalite")
	if _, err := os.Stat(filepath.Join(source, "node_modules", "dynalite")); err != nil {
		give(tb, fmt.Errorf("dynalite is %w: npm ci --ignore-scripts --prefix internal/dbtest/dynalite", errMissing))
	}
	dir, port := ProgramDir(tb), strconv.Itoa(FreePort(tb))
	args := []string{filepath.Join(source, "server.cjs"), "127.0.0.1", port, filepath.Join(dir, "data")}
	if plain {
		args = append(args, "plain")
	}
	d := &Dynalite{URL: "http://127.0.0.1:" + port, Dir: filepath.Join(dir, "data")}
	d.program = NewProgram(tb, "node", "apt-get install nodejs", filepath.Join(dir, "log"), args...)
	d.program.AsSelf()
	d.Start(tb)
	return d
}

// Start starts it, unless it runs, and returns when it responds.
func (d *Dynalite) Start(tb testing.TB) {
	tb.Helper()
	if err := d.program.Start(); err != nil {
		tb.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := d.ping()
		if err == nil {
			return
		}
		if time.Since(begun) > startLimit || !d.program.Running() {
			tb.Fatalf("dynalite does not start: %v\n%s", err, d.program.LogTail())
		}
	}
}

func (d *Dynalite) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Kill ends it with SIGKILL.
func (d *Dynalite) Kill() { d.program.Kill() }

// LogTail is the end of what it has printed.
func (d *Dynalite) LogTail() string { return d.program.LogTail() }
