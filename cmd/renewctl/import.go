package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jwtrenew/renew/jwtplus"
	"github.com/jwtrenew/renew/storeurl"
)

// jwtplusVariable names the environment variable with the URL of the database to
// import from.
const jwtplusVariable = "RENEW_JWTPLUS"

var importCommands = []command{{
	name: "import jwtplus", makes: true,
	summary: "take over apps, keys and sessions from the database of a JWTPlus server, which $" + jwtplusVariable + " names: mysql://USER:PASSWORD@HOST/NAME",
	flags:   importJWTPlus,
}}

func importJWTPlus(f *flag.FlagSet) func(context.Context, *call) error {
	dryRun := f.Bool("dry-run", false, "print what would happen; the store gets its tables, and nothing in them")
	file := f.String("source-file", "", fmt.Sprintf(secretFile, "URL of the database, instead of $"+jwtplusVariable))
	batch := f.Int("batch", jwtplus.DefaultBatchSize, "`rows` that are read at a time")
	workers := f.Int("workers", jwtplus.DefaultWorkers, "`sessions` that are created at the same time")
	return func(ctx context.Context, c *call) (err error) {
		url, err := c.sourceURL(*file)
		if err != nil {
			return err
		}
		db, err := storeurl.OpenMySQL(url)
		if errors.Is(err, storeurl.ErrUsage) {
			return usage("the URL of the JWTPlus database: %v", err)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		p := &progress{w: c.terminal}
		report, err := jwtplus.Import(ctx, jwtplus.NewSource(db), c.keys, c.tokens, jwtplus.Options{
			DryRun: *dryRun, Now: c.now, BatchSize: *batch, Workers: *workers,
			Line: func(l jwtplus.Line) {
				p.clear()
				c.importLine(l)
			},
			Progress: func(n jwtplus.Progress) { p.show("%s: %d of %d", n.Stage, n.Done, n.Total) },
		})
		p.clear()
		c.importReport(report)
		if err != nil {
			err = fmt.Errorf("what the report counts is done; run the command again for the rest: %w", err)
		}
		return err
	}
}

// sourceURL reads the URL of the database, which has a password.
func (e environment) sourceURL(file string) (string, error) {
	url := e.getenv(jwtplusVariable)
	if file != "" {
		text, err := e.readSecret(file)
		if err != nil {
			return "", err
		}
		url = string(text)
	}
	url = strings.TrimSpace(url)
	if url == "" {
		return "", usage("no database to import from: set $%s, or -source-file", jwtplusVariable)
	}
	return url, nil
}

// importView is one of the JSON values that an import prints: a line for each row
// that is not taken over, or not as it was, and the report at the end.
type importView struct {
	Line   *jwtplus.Line   `json:"line,omitempty"`
	Error  string          `json:"error,omitempty"` // the store's, with a line
	Report *jwtplus.Report `json:"report,omitempty"`
}

func (o *output) importLine(l jwtplus.Line) {
	v, text := importView{Line: &l}, l.String()
	if l.Err != nil {
		v.Error = l.Err.Error()
		text += ": " + v.Error
	}
	if o.json {
		o.err = errors.Join(o.err, json.NewEncoder(o.w).Encode(v))
		return
	}
	o.print(nil, "%s", text)
}

func (o *output) importReport(r *jwtplus.Report) {
	if o.json {
		o.err = errors.Join(o.err, json.NewEncoder(o.w).Encode(importView{Report: r}))
		return
	}
	taken := "TAKEN OVER"
	if r.DryRun {
		taken = "TO TAKE OVER"
	}
	var rows [][]string
	for _, t := range []struct {
		name string
		jwtplus.Counts
	}{{"apps", r.Apps}, {"keys", r.Keys}, {"sessions", r.Sessions}} {
		rows = append(rows, []string{t.name, fmt.Sprint(t.Read), fmt.Sprint(t.Taken), fmt.Sprint(t.Existing), fmt.Sprint(t.Rejected)})
	}
	o.table(nil, []string{"", "READ", taken, "THERE BEFORE", "NOT TAKEN OVER"}, rows)
	for _, m := range []struct {
		title  string
		counts map[jwtplus.Reason]int
	}{{"not taken over", r.Rejected}, {"taken over with a change", r.Changed}} {
		for _, reason := range slices.Sorted(maps.Keys(m.counts)) {
			o.print(nil, "%s, %s: %d", m.title, reason, m.counts[reason])
		}
	}
}

// progress shows how far a command is, on a terminal.
type progress struct {
	w     io.Writer // nil: there is no terminal
	width int       // of what is shown
}

func (p *progress) show(format string, args ...any) {
	if p.w == nil {
		return
	}
	p.clear()
	p.width, _ = fmt.Fprintf(p.w, format, args...) // a terminal that is gone misses nothing
}

func (p *progress) clear() {
	if p.width == 0 {
		return
	}
	fmt.Fprintf(p.w, "\r%*s\r", p.width, "")
	p.width = 0
}
