package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// output prints results: for people, or as one JSON value.
type output struct {
	w    io.Writer
	json bool
	err  error // the first one
}

// print prints v as JSON, or text.
func (o *output) print(v any, text string, args ...any) {
	if o.json {
		e := json.NewEncoder(o.w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		o.err = errors.Join(o.err, e.Encode(v))
		return
	}
	_, err := fmt.Fprintf(o.w, text+"\n", args...)
	o.err = errors.Join(o.err, err)
}

// table prints v as JSON, or the rows under their header.
func (o *output) table(v any, header []string, rows [][]string) {
	if o.json {
		o.print(v, "")
		return
	}
	w := tabwriter.NewWriter(o.w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		_, err := fmt.Fprintln(w, strings.Join(row, "\t"))
		o.err = errors.Join(o.err, err)
	}
	o.err = errors.Join(o.err, w.Flush())
}

// moment is a time in the output. A zero one is a dash, and null in JSON.
type moment time.Time

func (m moment) String() string {
	if time.Time(m).IsZero() {
		return "-"
	}
	return time.Time(m).UTC().Format(time.RFC3339)
}

func (m moment) MarshalJSON() ([]byte, error) {
	if time.Time(m).IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(m.String())
}

// secretFile is the help of a flag that names a file with a secret.
const secretFile = "`file` with the %s; - is standard input"

// readSecret reads a secret from a file, or from standard input if the name is "-".
func (e environment) readSecret(name string) ([]byte, error) {
	const limit = 64 << 10
	in := e.stdin
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // the operator names it
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, limit))
	if err == nil && len(data) == limit {
		err = errors.New("the file with the secret is too long")
	}
	return data, err
}
