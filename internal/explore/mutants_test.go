package explore

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutate = flag.Bool("explore.mutants", false, "break the Renewer in known ways, one at a time, and require that each is found")

// mutant is the Renewer with one fault.
type mutant struct {
	name     string
	file     string // in the module's root
	old, new string // old is there once
	config   string // in which it must be found
	rule     string // the rule that it must break
}

// TestMutants shows that the exploration finds faults: it puts each of them into
// the Renewer, through an overlay, and requires the broken promise in the output
// of TestPromises. A fault whose place is no longer in the code fails the test.
func TestMutants(t *testing.T) {
	if !*mutate {
		t.Skip("it compiles the Renewer once for each fault; say -explore.mutants")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			out, err := m.explore(t)
			if err == nil {
				t.Fatalf("the exploration of %q finds nothing:\n%s", m.config, out)
			}
			if !strings.Contains(out, ": "+m.rule) {
				t.Fatalf("the exploration of %q does not find that %s: %v\n%s", m.config, m.rule, err, out)
			}
			_, schedule, _ := strings.Cut(out, ": "+m.rule)
			schedule, _, _ = strings.Cut(schedule, "replay:")
			t.Logf("%s%s", m.rule, schedule)
		})
	}
}

// explore runs TestPromises with the fault, and returns its output.
func (m mutant) explore(t *testing.T) (string, error) {
	t.Helper()
	source, err := filepath.Abs(filepath.Join("..", "..", m.file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("what this fault replaces is %d times in %s, not once: say it anew", n, m.file)
	}
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.go")
	overlay := filepath.Join(dir, "overlay.json")
	encoded, err := json.Marshal(map[string]map[string]string{"Replace": {source: broken}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{broken: strings.Replace(string(text), m.old, m.new, 1), overlay: string(encoded)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "explore.test")
	if out, err := execute(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", binary, "."); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return execute(t.Context(), binary, "-test.run", "^TestPromises$/^"+strings.ReplaceAll(m.config, " ", "_")+"$")
}

func execute(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// mutants are the faults. Each has been in the code, or nearly.
var mutants = []mutant{}
