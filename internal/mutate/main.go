// Command mutate breaks source files of a package in one place at a time and runs
// the package's tests on each broken copy, a mutant. What no test notices is
// printed: a check that could be weakened unseen.
//
//	go run ./internal/mutate -skip 'TestThousandPresenters' token.go renew.go
//
// It runs in the package's directory and changes no file there. All mutants are
// compiled at once, into one test binary, and an environment variable says which
// of them is alive. They are these:
//
//   - a condition is always true, always false, or negated
//   - of "a && b" and "a || b" only a, or only b, or the other operator, is left
//   - < and <=, > and >=, == and != change places
//   - a statement that calls or assigns is left out
//
// One whose tests fail, or do not end within -timeout, is caught.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// alive names the mutant that is alive in a process.
const alive = "RENEW_MUTANT"

// support is compiled into the package under test.
const support = `package %s

import "os"

var mutantAlive = os.Getenv("` + alive + `")

func mutantOf(original func() bool, id string, others ...func() bool) bool {
	for i, other := range others {
		if mutantAlive == id+"."+string(rune('a'+i)) {
			return other()
		}
	}
	return original()
}

func mutantSkips(id string) bool { return mutantAlive == id+".a" }
`

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() (err error) {
	r := &runner{}
	flag.StringVar(&r.skip, "skip", "^$", "tests that are not run")
	flag.StringVar(&r.late, "late", "^$", "tests that are run only where the others find nothing")
	only := flag.String("only", "", "mutants that are tried, by what is printed of them")
	flag.DurationVar(&r.timeout, "timeout", 2*time.Minute, "how long the tests of one mutant may take")
	flag.Parse()
	if flag.NArg() == 0 {
		return errors.New("no source file is named; -h lists the flags")
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r.binary = filepath.Join(dir, "tests")
	mutants, err := build(dir, r.binary, flag.Args())
	if err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !wanted.MatchString(m.String()) })
	if !r.passes("") {
		return errors.New("the tests must pass while no mutant is alive")
	}
	survived := 0
	for _, m := range mutants {
		if r.passes(m.id) {
			survived++
			fmt.Println(m)
		}
	}
	fmt.Printf("%d mutants: %d caught, %d survived\n", len(mutants), len(mutants)-survived, survived)
	return nil
}

type runner struct {
	binary, skip, late string
	timeout            time.Duration
}

// passes reports whether the tests pass while this mutant is alive.
func (r *runner) passes(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	for _, args := range [][]string{{"-test.skip", r.skip + "|" + r.late}, {"-test.skip", r.skip, "-test.run", r.late}} {
		tests := exec.CommandContext(ctx, r.binary, append(args, "-test.failfast")...) //nolint:gosec // it is what this command compiled
		tests.Env = append(os.Environ(), alive+"="+id)
		if tests.Run() != nil {
			return false
		}
	}
	return true
}

// mutant is one way to break the source.
type mutant struct{ id, where, what string }

func (m mutant) String() string { return m.where + ": " + m.what }

// build compiles the tests of the package with every mutant of its files in it.
func build(dir, binary string, paths []string) ([]mutant, error) {
	var all []mutant
	replace := map[string]string{}
	put := func(path, text string) error {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		replace[absolute] = filepath.Join(dir, filepath.Base(path))
		return os.WriteFile(replace[absolute], []byte(text), 0o600) //nolint:gosec // in a directory of its own
	}
	name := ""
	for _, path := range paths {
		source, err := os.ReadFile(path) //nolint:gosec // what its user names
		if err != nil {
			return nil, err
		}
		f := &file{path: path, source: source, files: token.NewFileSet()}
		tree, err := parser.ParseFile(f.files, path, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		name = tree.Name.Name
		if err := put(path, f.rewrite(tree)); err != nil {
			return nil, err
		}
		all = append(all, f.mutants...)
	}
	if err := put("mutants_alive.go", fmt.Sprintf(support, name)); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, encoded, 0o600); err != nil {
		return nil, err
	}
	compile := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, ".") //nolint:gosec,noctx // it ends by itself
	compile.Stderr = os.Stderr
	return all, compile.Run()
}

// file is a source file that is being rewritten.
type file struct {
	path    string
	source  []byte
	files   *token.FileSet
	mutants []mutant
}

func (f *file) offset(p token.Pos) int { return f.files.Position(p).Offset }

func (f *file) text(n ast.Node) string { return string(f.source[f.offset(n.Pos()):f.offset(n.End())]) }

// rewrite returns the text of a node with the mutants of what is in it.
func (f *file) rewrite(n ast.Node) string {
	roles := map[ast.Node]role{}
	var out bytes.Buffer
	end := f.offset(n.Pos())
	if _, whole := n.(*ast.File); whole {
		end = 0
	}
	ast.Inspect(n, func(child ast.Node) bool {
		if child == nil {
			return false
		}
		mark(child, roles)
		if child == n {
			return true
		}
		text, rewritten := f.mutate(child, roles[child])
		if rewritten {
			out.Write(f.source[end:f.offset(child.Pos())])
			out.WriteString(text)
			end = f.offset(child.End())
		}
		return !rewritten
	})
	last := f.offset(n.End())
	if _, whole := n.(*ast.File); whole {
		last = len(f.source)
	}
	out.Write(f.source[end:last])
	return out.String()
}

// role is what a node is to the statement around it.
type role int

const (
	other     role = iota
	condition      // of an if, a for or a case
	header         // a statement before a condition or of a select's case, which cannot be left out
)

// mark marks the parts of a statement.
func mark(n ast.Node, roles map[ast.Node]role) {
	switch n := n.(type) {
	case *ast.IfStmt:
		roles[n.Cond] = condition
		roles[n.Init] = header
	case *ast.ForStmt:
		roles[n.Cond] = condition
		roles[n.Init], roles[n.Post] = header, header
	case *ast.SwitchStmt:
		roles[n.Init] = header
		for _, clause := range n.Body.List {
			for _, e := range clause.(*ast.CaseClause).List {
				if n.Tag == nil {
					roles[e] = condition
				}
			}
		}
	case *ast.TypeSwitchStmt:
		roles[n.Init], roles[n.Assign] = header, header
	case *ast.CommClause:
		roles[n.Comm] = header
	}
}

// mutate returns the text of a node that has mutants of its own.
func (f *file) mutate(n ast.Node, is role) (text string, rewritten bool) {
	switch n := n.(type) {
	case *ast.GenDecl:
		return f.text(n), n.Tok == token.IMPORT || n.Tok == token.CONST
	case *ast.ExprStmt, *ast.IncDecStmt:
		if is != header {
			return f.skippable(n), true
		}
	case *ast.AssignStmt:
		if is != header && n.Tok == token.ASSIGN {
			return f.skippable(n), true
		}
	}
	expr, isExpr := n.(ast.Expr)
	if !isExpr {
		return "", false
	}
	var others []string
	if is == condition {
		others = append(others, "true", "false", "!("+f.text(n)+")")
	}
	if b, isBinary := expr.(*ast.BinaryExpr); isBinary {
		others = append(others, f.others(b)...)
	}
	if len(others) == 0 {
		return "", false
	}
	id := f.id(n)
	literals := make([]string, len(others))
	for i, other := range others {
		f.add(fmt.Sprintf("%s.%c", id, 'a'+i), n, fmt.Sprintf("%q became %q", f.text(n), other))
		literals[i] = "func() bool { return " + other + " }"
	}
	original := f.rewrite(n)
	return fmt.Sprintf("mutantOf(func() bool { return %s }, %q, %s)", original, id, strings.Join(literals, ", ")), true
}

// others returns what else could stand for a binary expression that is a bool.
func (f *file) others(b *ast.BinaryExpr) []string {
	x, y := f.text(b.X), f.text(b.Y)
	if b.Op == token.LAND {
		return []string{x, y, x + " || " + y}
	}
	if b.Op == token.LOR {
		return []string{x, y, "(" + x + ") && (" + y + ")"}
	}
	other, known := map[token.Token]string{
		token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
	}[b.Op]
	if !known {
		return nil
	}
	return []string{x + " " + other + " " + y}
}

// skippable returns the text of a statement that a mutant leaves out.
func (f *file) skippable(n ast.Node) string {
	id := f.id(n)
	f.add(id+".a", n, fmt.Sprintf("%q left out", f.text(n)))
	return fmt.Sprintf("if !mutantSkips(%q) { %s }", id, f.rewrite(n))
}

func (f *file) id(n ast.Node) string {
	return fmt.Sprintf("%s:%d-%d", filepath.Base(f.path), f.offset(n.Pos()), f.offset(n.End()))
}

func (f *file) add(id string, n ast.Node, what string) {
	f.mutants = append(f.mutants, mutant{id, fmt.Sprintf("%s:%d", f.path, f.files.Position(n.Pos()).Line), what})
}
