package explore

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	return execute(t.Context(), binary, "-test.run", "^TestPromises$/^"+regexp.QuoteMeta(strings.ReplaceAll(m.config, " ", "_"))+"$")
}

func execute(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// mutants are the faults. Each has been in the code, or nearly.
var mutants = []mutant{
	{
		name:   "a token older than the predecessor is only rejected",
		file:   "renew.go",
		old:    "	case !ahead:\n",
		new:    "	case !ahead && !predecessor:\n		return reject(ReasonSuperseded, \"\")\n	case !ahead:\n",
		config: "thief", rule: "a theft is not detected",
	},
	{
		name:   "an expired token is only rejected",
		file:   "renew.go",
		old:    "	case !ahead:\n",
		new:    "	case !ahead && t.expired(now, rn.leeway):\n		return reject(ReasonExpired, \"\")\n	case !ahead:\n",
		config: "thief", rule: "a theft is not detected",
	},
	{
		name:   "the reuse leeway is for every client",
		file:   "renew.go",
		old:    "case predecessor && inReuseLeeway && ",
		new:    "case predecessor && inReuseLeeway || false && ",
		config: "thief elsewhere", rule: "a theft is not detected",
	},
	{
		name:   "a revocation for reuse ends with the request",
		file:   "revoke.go",
		old:    "context.WithTimeout(context.WithoutCancel(ctx), reuseRevocationTimeout)",
		new:    "context.WithTimeout(ctx, reuseRevocationTimeout)",
		config: "thief who hangs up", rule: "a theft is not detected",
	},
	{
		name:   "reuse for a request that lost a race",
		file:   "renew.go",
		old:    "		rn.overtaken = true\n		b, err = rn.attempt(ctx)",
		new:    "		b, err = rn.attempt(ctx)",
		config: "tabs, no leeway", rule: "an owner is punished",
	},
	{
		name:   "reuse for a request whose read was slow",
		file:   "renew.go",
		old:    "		rn.overtaken = true // while the read was slow\n",
		new:    "",
		config: "tabs", rule: "an owner is punished",
	},
	{
		name:   "a conflict with itself is treated as another request's win",
		file:   "renew.go",
		old:    "		case s.TokenID == next.TokenID && s.RevokedAt.IsZero():\n",
		new:    "		case isChange(err):\n			return errChanged\n		case s.TokenID == next.TokenID && s.RevokedAt.IsZero():\n",
		config: "faults without keys", rule: "a request loses to its own rotation",
	},
	{
		name:   "a rotation that may still happen is not repeated",
		file:   "renew.go",
		old:    "		case repeated:\n",
		new:    "		case repeated || true:\n",
		config: "faults", rule: "an error without a cause",
	},
	{
		name:   "a commit that heeds the request's context",
		file:   "renew.go",
		old:    "	ctx, cancel, err := lasting(ctx, commitTimeout)\n	if err != nil {\n		return err\n	}\n",
		new:    "	ctx, cancel := context.WithTimeout(ctx, commitTimeout)\n	var err error\n",
		config: "hang-ups", rule: "a rotation happens unseen",
	},
	{
		name:   "a pair is given out that was only read",
		file:   "renew.go",
		old:    "			return rn.confirm(ctx, s)\n",
		new:    "			return nil\n",
		config: "failover", rule: "a pair is given out that the store may lose",
	},
	{
		name:   "the retry window beats the proof",
		file:   "renew.go",
		old:    "inRetryWindow && len(s.IdempotencyKeyHash) == 0",
		new:    "inRetryWindow",
		config: "retry window and keys", rule: "the retry window beats the proof",
	},
	{
		name:   "a retry extends the window",
		file:   "renew.go",
		old:    "	if err := rn.confirm(ctx, rn.session); err != nil {\n",
		new:    "	rn.session.IssuedAt = rn.time()\n	if err := rn.confirm(ctx, rn.session); err != nil {\n",
		config: "retry window", rule: "a retry without proof",
	},
	{
		name:   "adoption rotates from the presented token",
		file:   "renew.go",
		old:    "rn.commit(ctx, rn.session.TokenID, next)",
		new:    "rn.commit(ctx, rn.token.tokenID, next)",
		config: "ahead is adopted", rule: "an owner has lost the session",
	},
}
