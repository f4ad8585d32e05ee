package js_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// TestClient runs the client's own tests, which node's test runner has: against
// a server in Node, without a browser. The package of the example has those in
// Chromium.
func TestClient(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("RENEW_REQUIRE_NODE") != "" {
			t.Fatal(err)
		}
		t.Skip("node is not installed: apt-get install nodejs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "--test", "--test-reporter=tap", "test/build.test.mjs", "test/session.test.mjs").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range regexp.MustCompile(`(?m)^# (dist|tests|pass|fail|skipped).*$`).FindAll(out, -1) {
		t.Logf("%s", line)
	}
}
