package renew_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The promise of docs/security.md: what it says is shown by a test that exists,
// and a part of the corpus that it names has tokens.
func TestSecurityDocumentNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("docs", "security.md"))
	require.NoError(t, err)
	exists := readProjectNames(t).tests
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(named), 50)
	for _, match := range named {
		require.True(t, exists[match[1]], "docs/security.md names %s, which is not a test", match[1])
	}
	parts := map[string]bool{}
	for _, token := range loadCorpus().tokens {
		parts[token.Part()] = true
	}
	for _, match := range regexp.MustCompile("`TestForgedTokens` parts? ([a-z]+(?:, [a-z]+)*)").FindAllStringSubmatch(string(text), -1) {
		for part := range strings.SplitSeq(match[1], ", ") {
			require.True(t, parts[part], "docs/security.md names the part %q, which the corpus lacks", part)
		}
	}
}

// The promise of docs/operations.md: its commands run tests where these are, and
// its alarms are for all kinds of event, and for reasons and log records that exist.
func TestOperationsDocument(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("docs", "operations.md"))
	require.NoError(t, err)
	text, sources := string(page), goSources(t)

	commands := regexp.MustCompile(`(?m)^ +(?:sh -c 'cd (\w+) && )?(?:[A-Z_]+=\S+ )*go test .*-(?:run|bench) "?([A-Z]\w+)\S* (\S+?)'?$`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(commands), 8)
	for _, command := range commands {
		function := regexp.MustCompile(`(?m)^func (Test|Example|Benchmark)?` + command[2])
		dir := filepath.Join(command[1], command[3])
		require.True(t, function.MatchString(testSources(t, dir)), "docs/operations.md runs %s, which does not exist in %s", command[2], dir)
	}

	_, alarms, _ := strings.Cut(text, "## What to alarm on")
	alarms, _, _ = strings.Cut(alarms, "## Clocks")
	for _, kind := range regexp.MustCompile(`EventKind = "(\w+)"`).FindAllStringSubmatch(sources, -1) {
		require.True(t, strings.Contains(alarms, "`"+kind[1]+"`"), "docs/operations.md says nothing of the event %s", kind[1])
	}
	inSource := regexp.MustCompile(`(?:EventKind|Reason) += "\w+"|slog\.LevelError, "[^"]+"|\.Error(?:Context)?\(.*|errors\.New\("[^"]+"\)`).FindAllString(sources, -1)
	for _, row := range regexp.MustCompile(`(?m)^\| .+`).FindAllString(alarms, -1) {
		first, _, _ := strings.Cut(row[2:], " | ")
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			want := quoted[1] // of a record
			if !strings.Contains(want, " ") {
				want = strconv.Quote(want) // a kind or a reason
			}
			found := slices.ContainsFunc(inSource, func(s string) bool { return strings.Contains(s, want) })
			require.True(t, found, "docs/operations.md has an alarm on %q, which does not exist", quoted[1])
		}
	}
}

// Every Go snippet of a page stands, line for line, in a source file that a test
// command compiles.
func TestSnippetsAreCompiled(t *testing.T) {
	sources, count := goSources(t), 0
	for page, text := range pages(t) {
		for _, snippet := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(text, -1) {
			count++
			if !strings.Contains(sources, withoutIndent(strings.TrimSpace(snippet[1]))) {
				t.Errorf("%s: no source file has this snippet:\n%s", page, snippet[1])
			}
		}
	}
	require.Greater(t, count, 10)
}

// testSources returns the test files of a folder, in one text.
func testSources(t *testing.T, dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(source)
	}
	return all.String()
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

// The promise of docs/architecture.md, in addition to its picture: it has every
// module, every package that users cannot import, and every file of the root.
func TestArchitecturePageIsComplete(t *testing.T) {
	read, err := os.ReadFile(filepath.Join("docs", "architecture.md"))
	require.NoError(t, err)
	text := fenced.ReplaceAllString(string(read), "")
	work, err := os.ReadFile("go.work")
	require.NoError(t, err)
	var want []string
	for _, match := range regexp.MustCompile(`(?m)^\t\./(\S+)$`).FindAllStringSubmatch(string(work), -1) {
		want = append(want, match[1])
	}
	require.Greater(t, len(want), 10)
	for folder := range readProjectNames(t).packages {
		if strings.HasPrefix(folder, "internal/") {
			want = append(want, folder)
		}
	}
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range sources {
		if !strings.HasSuffix(file, "_test.go") {
			want = append(want, file)
		}
	}
	for _, name := range want {
		require.True(t, strings.Contains(text, "`"+name+"`"), "docs/architecture.md lacks %s", name)
	}
}

// The reserved names of claims are written down in several places.
func TestReservedNamesAreTheSameEverywhere(t *testing.T) {
	source := func(file string) string {
		text, err := os.ReadFile(filepath.FromSlash(file))
		require.NoError(t, err)
		return string(text)
	}
	list := regexp.MustCompile(`var reserved = \[\]string\{(.+)\}`).FindStringSubmatch(source("claims.go"))[1]
	names := strings.ReplaceAll(list, `"`, "")
	last := strings.LastIndex(names, ", ")
	for file, want := range map[string]string{
		"jwtplus/session.go": "{" + list + "}",
		"fuzz_test.go":       "{" + list + "}",
		"claims_test.go":     list,
		"request.go":         names[:last] + " and " + names[last+2:] + ".", // a comment
	} {
		text := strings.Join(strings.Fields(strings.ReplaceAll(source(file), "//", "")), " ")
		require.True(t, strings.Contains(text, want), "%s does not list the reserved names of claims.go: %s", file, want)
	}
}
