package renew_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every Go snippet of the README stands, line for line, in a source file that a
// test command compiles.
func TestReadmeSnippetsAreCompiled(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, snippets)
	sources := goSources(t)
	for _, snippet := range snippets {
		require.True(t, strings.Contains(sources, withoutIndent(snippet[1])), "no source file has this snippet:\n%s", snippet[1])
	}
}

// goSources returns every Go file of the project, in one text.
func goSources(t *testing.T) string {
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		source, err := os.ReadFile(path)
		all.WriteString(withoutIndent(string(source)))
		return err
	}))
	return all.String()
}

func withoutIndent(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		lines.WriteString(strings.TrimSpace(line) + "\n")
	}
	return lines.String()
}
