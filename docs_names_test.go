package renew_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// projectNames is what texts may name: every identifier that a package of the
// project exports, by package, and every test.
type projectNames struct {
	packages map[string]map[string]bool // of the folder: "Renewer", "Renewer.Renew"
	tests    map[string]bool
	comments map[string][]string // of the folder: its comments
	client   string              // the source of the client for pages
}

// anywhere reports whether some package exports the name.
func (n projectNames) anywhere(name string) bool {
	for _, exported := range n.packages {
		if exported[name] {
			return true
		}
	}
	return false
}

// in reports whether a package of this name exports the name. There may be
// several, such as the programs.
func (n projectNames) in(pkg, name string) (known, found bool) {
	for folder, exported := range n.packages {
		if path.Base(folder) == pkg || folder == "." && pkg == "renew" {
			known, found = true, found || exported[name]
		}
	}
	return known, found
}

func readProjectNames(t *testing.T) projectNames {
	t.Helper()
	names, err := parseProject()
	require.NoError(t, err)
	return names
}

// parseProject reads all Go files, once.
var parseProject = sync.OnceValues(func() (projectNames, error) {
	client, err := os.ReadFile(filepath.Join("js", "src", "index.ts"))
	if err != nil {
		return projectNames{}, err
	}
	names := projectNames{map[string]map[string]bool{}, map[string]bool{}, map[string][]string{}, string(client)}
	return names, filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".go" {
			if err == nil && entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "testdata") {
				return filepath.SkipDir
			}
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(file))
		if names.packages[folder] == nil {
			names.packages[folder] = map[string]bool{}
		}
		isTest := strings.HasSuffix(file, "_test.go")
		for _, comment := range parsed.Comments {
			names.comments[folder] = append(names.comments[folder], comment.Text())
		}
		for _, decl := range parsed.Decls {
			if function, ok := decl.(*ast.FuncDecl); ok && isTest && function.Recv == nil {
				names.tests[function.Name.Name] = true
			}
			names.addDecl(folder, decl)
		}
		return nil
	})
})

func (n projectNames) addDecl(folder string, decl ast.Decl) {
	exported := n.packages[folder]
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv != nil {
			exported[receiver(decl.Recv.List[0].Type)+"."+decl.Name.Name] = true
		}
		exported[decl.Name.Name] = true
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					exported[name.Name] = true
				}
			case *ast.TypeSpec:
				exported[spec.Name.Name] = true
				for _, member := range members(spec.Type) {
					exported[member], exported[spec.Name.Name+"."+member] = true, true
				}
			}
		}
	}
}

func receiver(expr ast.Expr) string {
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// members returns the fields of a struct and the methods of an interface. An
// embedded type is a field.
func members(expr ast.Expr) (names []string) {
	var list *ast.FieldList
	switch e := expr.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default:
		return nil
	}
	for _, field := range list.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
		if embedded := receiver(field.Type); len(field.Names) == 0 && embedded != "" {
			names = append(names, embedded)
		}
	}
	return names
}

// pages returns every Markdown page of the project.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	require.NoError(t, filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && entry.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return err
		}
		if filepath.Ext(file) == ".md" {
			text, err := os.ReadFile(file)
			texts[filepath.ToSlash(file)] = string(text)
			return err
		}
		return nil
	}))
	return texts
}

var (
	fenced     = regexp.MustCompile("(?s)```.*?```")
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	testName   = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark|Example)[A-Z]\w*$`)
	identifier = regexp.MustCompile(`^\*?([A-Za-z]\w*(?:\.[A-Za-z]\w*){0,2})(?:\(.*\))?$`)
	fileName   = regexp.MustCompile(`^\.?[\w.-]+(?:/[\w.-]+)*/?$`)
	extension  = regexp.MustCompile(`\.(?:go|md|ts|js|mod|sum|work|json|sql|sh|yml|lua)$`)
	link       = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	version    = regexp.MustCompile(`/v\d+\.`) // a tag, not a file
	runPattern = regexp.MustCompile(`-(?:run|bench)[ =](?:"([^"]+)"|'([^']+)'|([\w|/^$.]+))`)
)

// The promise of every page: the tests, identifiers and files that it names in
// code spans exist.
func TestPagesNameWhatExists(t *testing.T) {
	names, count := readProjectNames(t), 0
	for page, text := range pages(t) {
		for _, match := range codeSpan.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			count++
			if what := missing(names, page, match[1]); what != "" {
				t.Errorf("%s names `%s`: no such %s", page, match[1], what)
			}
		}
	}
	require.Greater(t, count, 1000)
}

// missing says what kind of thing a code span names that does not exist, or
// returns "". Words that are not this project's, such as SQL, are not judged.
func missing(names projectNames, page, span string) string {
	if testName.MatchString(span) {
		if !names.tests[span] && !names.anywhere(span) {
			return "test"
		}
		return ""
	}
	if fileName.MatchString(span) && (extension.MatchString(span) || strings.Contains(span, "/") && isFolder(strings.SplitN(span, "/", 2)[0])) && !version.MatchString(span) {
		if !exists(page, span) {
			return "file"
		}
		return ""
	}
	match := identifier.FindStringSubmatch(span)
	if match == nil {
		return ""
	}
	qualifier, rest, qualified := strings.Cut(match[1], ".")
	switch {
	case slices.Contains(foreign, match[1]):
	case qualified && unicode.IsLower(rune(qualifier[0])):
		if known, found := names.in(qualifier, rest); known && unicode.IsUpper(rune(rest[0])) && !found {
			return "identifier in package " + qualifier
		}
	case qualified && names.anywhere(qualifier):
		if !names.anywhere(match[1]) {
			return "identifier"
		}
	case !qualified && camel.MatchString(match[1]) && !names.anywhere(match[1]) && !strings.Contains(names.client, match[1]):
		return "identifier"
	}
	return ""
}

// camel matches what this project's names look like when they have two words or
// more.
var camel = regexp.MustCompile(`^(?:[A-Z][a-z]+|[a-z]+)(?:[A-Z][A-Za-z0-9]*)+$`)

// foreign are names that look like this project's and are those of the standard
// library, of a driver, of DynamoDB or, in the changelog, of an earlier edition.
var foreign = []string{
	"ReadHeaderTimeout", "ReadTimeout", "WriteTimeout", "RemoteAddr",
	"SetMaxOpenConns", "SetMaxIdleConns", "WaitCount", "clientFoundRows",
	"TransactWriteItems", "BatchGetItem", "PutItem", "UpdateItem", "DeleteItem", "DescribeTable", "DescribeTimeToLive",
	"UpdateTimeToLive", "ReturnValuesOnConditionCheckFailure", "ClientRequestToken",
	"RetryProof", "memstore.Store.Run",
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// exists reports whether a path of a page is a file or a folder, seen from the
// root of the repository or from the page; a bare name may be a file anywhere.
func exists(page, name string) bool {
	for _, dir := range []string{".", path.Dir(page)} {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			return true
		}
	}
	return false
}

// The promise of every link: its page and its heading exist.
func TestLinksOfPages(t *testing.T) {
	texts := pages(t)
	for page, text := range texts {
		for _, match := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			linked := page
			if target != "" {
				linked = path.Join(path.Dir(page), target)
				if _, err := os.Stat(filepath.FromSlash(linked)); err != nil {
					t.Errorf("%s links to %s, which does not exist", page, match[1])
					continue
				}
			}
			if anchor != "" && !slices.Contains(anchors(texts[linked]), anchor) {
				t.Errorf("%s links to %s: no such heading", page, match[1])
			}
		}
	}
}

// anchors returns the names that a forge gives to the headings of a page.
func anchors(text string) (names []string) {
	for _, match := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, match[1]))
	}
	return names
}

// The promise of every command in a page: go test -run and -bench find something
// to run.
func TestCommandsOfPagesRunTests(t *testing.T) {
	tests := slices.Collect(maps.Keys(readProjectNames(t).tests))
	count := 0
	for page, text := range pages(t) {
		for _, match := range runPattern.FindAllStringSubmatch(text, -1) {
			pattern, _, _ := strings.Cut(match[1]+match[2]+match[3], "/")
			for alternative := range strings.SplitSeq(pattern, "|") {
				if slices.Contains([]string{"^$", "xxx", ".", "TestName$"}, alternative) {
					continue // no test, any, or any name
				}
				count++
				matches := regexp.MustCompile(alternative)
				if !slices.ContainsFunc(tests, matches.MatchString) {
					t.Errorf("%s runs %s, which matches no test", page, alternative)
				}
			}
		}
	}
	require.Greater(t, count, 30)
}

var (
	goDoc    = regexp.MustCompile(`\bgo doc (?:\./)?([\w./]+)(?: ([A-Z][\w.]*))?`)
	grepLine = regexp.MustCompile(`\bgrep -n '([^']+)' (\S+)`)
)

// The promise of the other commands in a page: go doc shows something, and each
// pattern of grep is found.
func TestCommandsOfPagesFindWhatTheyShow(t *testing.T) {
	names := readProjectNames(t)
	for page, text := range pages(t) {
		for _, match := range goDoc.FindAllStringSubmatch(text, -1) {
			exported, ok := names.packages[path.Clean(match[1])]
			require.True(t, ok && (match[2] == "" || exported[match[2]]), "%s: %s shows nothing", page, match[0])
		}
		for _, match := range grepLine.FindAllStringSubmatch(text, -1) {
			for pattern := range strings.SplitSeq(match[1], `\|`) {
				require.True(t, found(t, pattern, match[2]), "%s: no line of %s matches %s", page, match[2], pattern)
			}
		}
	}
}

// found reports whether the pattern matches in one of the files.
func found(t *testing.T, pattern, glob string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.FromSlash(glob))
	require.NoError(t, err)
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return regexp.MustCompile(pattern).Match(text)
	})
}

var docLink = regexp.MustCompile(`\[\*?([A-Za-z]\w*(?:\.[A-Z]\w*){0,2})\](?:[^(:\[]|$)`)

// The promise of every comment: a doc link leads somewhere, and a test that it
// names exists.
func TestCommentsNameWhatExists(t *testing.T) {
	names := readProjectNames(t)
	count := 0
	for folder, comments := range names.comments {
		for _, comment := range comments {
			for _, match := range docLink.FindAllStringSubmatch(comment, -1) {
				count++
				if !linked(names, folder, match[1]) {
					t.Errorf("a comment in %s links to [%s], which does not exist", folder, match[1])
				}
			}
			for _, match := range regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+\b`).FindAllString(comment, -1) {
				if !names.tests[match] && !names.anywhere(match) {
					t.Errorf("a comment in %s names %s, which is not a test", folder, match)
				}
			}
		}
	}
	require.Greater(t, count, 300)
}

func linked(names projectNames, folder, target string) bool {
	declared := names.packages[folder]
	qualifier, rest, qualified := strings.Cut(target, ".")
	if declared[target] || !qualified && unicode.IsLower(rune(target[0])) { // a package, or not a link
		return true
	}
	if unicode.IsUpper(rune(target[0])) { // a method may come with an embedded type
		for name := range declared {
			if !strings.Contains(name, ".") && declared[qualifier+"."+name] && declared[name+"."+rest] {
				return true
			}
		}
		return false
	}
	known, found := names.in(qualifier, rest)
	return !known || found
}
