package js_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestClient runs the client's own tests, which node's test runner has: against
// a server in Node, without a browser. The package of the example has those in
// Chromium.
func TestClient(t *testing.T) {
	if testing.Short() {
		t.Skip("the client's tests take some seconds")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	node, err := findNode(ctx)
	if err != nil {
		if os.Getenv("RENEW_REQUIRE_NODE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, pattern := range []string{"*.json", "src/*", "test/*", "dist/*"} {
		readAll(t, pattern)
	}
	files, err := filepath.Glob("test/*.test.mjs")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--test", concurrency, "--test-reporter=tap"}, files...)
	out, err := exec.CommandContext(ctx, node, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range regexp.MustCompile(`(?m)^# (dist|tests|pass|fail|skipped).*$`).FindAll(out, -1) {
		t.Logf("%s", line)
	}
}

// concurrency has Node run that many files at once. They mostly wait, so that there may
// be more than processors.
const concurrency = "--test-concurrency=6"

// readAll reads files that Node will read, so that go test does not take a result
// from its cache when one of them has changed.
func readAll(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	for _, file := range files {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
}

// findNode returns the path of a Node that has what the tests use.
func findNode(ctx context.Context) (string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return "", errors.New("node is not installed: the tests need version 20.10")
	}
	if err := exec.CommandContext(ctx, node, concurrency, "--version").Run(); err != nil {
		return "", fmt.Errorf("node is too old: the tests need version 20.10: %w", err)
	}
	return node, nil
}
