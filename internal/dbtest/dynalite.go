package dbtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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
	source, err := dynaliteSource()
	if err != nil {
		give(tb, err)
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

// dynaliteSource looks for the package in the folders above the working directory: a test
// runs in the folder of its package, and the binary need not say where that was compiled.
func dynaliteSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		source := filepath.Join(dir, "internal", "dbtest", "dynalite")
		if _, err := os.Stat(filepath.Join(source, "node_modules", "dynalite")); err == nil {
			return source, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", fmt.Errorf("dynalite is %w: npm ci --ignore-scripts --prefix internal/dbtest/dynalite", errMissing)
		}
		dir = above
	}
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
