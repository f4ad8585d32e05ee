//go:build unix

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table is a table in Markdown, whose columns line up in plain text as well.
type table struct {
	title string
	notes []string // below the table
	rows  [][]string
}

func newTable(title string, header ...string) *table {
	return &table{title: title, rows: [][]string{header}}
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) print(w io.Writer) error {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n", t.title)
	for n, row := range t.rows {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %-*s ", widths[i], cell)
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			end := ":|" // numbers stand to the right
			if i == 0 {
				end = "-|"
			}
			b.WriteString(strings.Repeat("-", 1) + strings.Repeat("-", width) + end)
		}
		b.WriteString("\n")
	}
	for _, note := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(w, strings.Replace(b.String(), "\n--", "\n|--", 1))
	return err
}

// duration writes nanoseconds with three digits.
func duration(ns float64) string {
	switch {
	case ns >= 999.5e6: // rounds to a second
		return fmt.Sprintf("%.3g s", ns/1e9)
	case ns >= 999.5e3:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	}
	return fmt.Sprintf("%.3g µs", ns/1e3)
}

func times(ratio float64) string { return fmt.Sprintf("%.2f ×", ratio) }

func count(n float64) string { return fmt.Sprintf("%.0f", n) }

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// perSecond is the rate of something that takes so long each.
func perSecond(ns float64) string { return count(float64(time.Second) / ns) }
