package js_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestClient runs the client's own tests, which node's test runner has: against
// a server in Node, without a browser. The package of the example has those in
// Chromium.
func TestClient(t *testing.T) {
	if testing.Short() {
		t.Skip("the client's tests take half a minute")
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
	out, err := exec.CommandContext(ctx, node, "--test", "--test-reporter=tap", "test/build.test.mjs", "test/session.test.mjs").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range regexp.MustCompile(`(?m)^# (dist|tests|pass|fail|skipped).*$`).FindAll(out, -1) {
		t.Logf("%s", line)
	}
}

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
		return "", errors.New("node is not installed: the tests need version 20")
	}
	version, err := exec.CommandContext(ctx, node, "--print", "process.versions.node").Output()
	if err != nil {
		return "", err
	}
	major, _, _ := strings.Cut(string(version), ".")
	if n, err := strconv.Atoi(major); err != nil || n < 20 {
		return "", fmt.Errorf("node is version %s, and the tests need 20", strings.TrimSpace(string(version)))
	}
	return node, nil
}
