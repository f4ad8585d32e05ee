package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// steps is what a reader sees. The names of keys, sessions and tokens are new in
// every run; the same letter stands for the same name.
const steps = `1. app:     shop, with signing key A (ES256)
2. login:   session B, token C
3. renewal: session B, token D
            the auth token says ann@example.com, role admin
4. the used token immediately, as by a double click:    invalid refresh token (superseded)
5. the used token a minute later, as by a thief:        invalid refresh token (reused)
6. the token of step 3, after step 5 ended the session: invalid refresh token (revoked_session)
`

// lettered puts letters in place of ULIDs, in the order in which they come.
func lettered(output string) string {
	letters := map[string]string{}
	return regexp.MustCompile(`\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b`).ReplaceAllStringFunc(output, func(id string) string {
		if _, known := letters[id]; !known {
			letters[id] = string(rune('A' + len(letters)))
		}
		return letters[id]
	})
}

// TestMain makes the test binary the program itself where a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("QUICKSTART_UNDER_TEST") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestSteps shows that the program prints the steps, and nothing else, and
// succeeds.
func TestSteps(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "QUICKSTART_UNDER_TEST=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	require.NoError(t, err)
	require.Equal(t, steps, lettered(string(stdout)))
	require.Empty(t, stderr.String())
}

// TestSize shows that the program stays one that is read in a minute.
func TestSize(t *testing.T) {
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.Less(t, strings.Count(string(source), "\n"), 100)
}
