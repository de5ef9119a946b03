package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"github.com/novacron/novacron/internal/apiclient"
)

// outputFormat is a form of output; it is a flag's value.
type outputFormat string

const (
	formatTable outputFormat = "table"
	formatJSON  outputFormat = "json"
	formatYAML  outputFormat = "yaml"
)

func (f *outputFormat) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *outputFormat) Type() string { return "format" }

// Set implements pflag.Value.
func (f *outputFormat) Set(text string) error {
	switch outputFormat(text) {
	case formatTable, formatJSON, formatYAML:
		*f = outputFormat(text)
		return nil
	default:
		return fmt.Errorf("%q is none of table, json, yaml", text)
	}
}

// forScripts tells whether a program reads what is printed.
func (e *env) forScripts() bool { return e.output == formatJSON || e.output == formatYAML }

// document prints what the API gave, unchanged but for its layout.
func (e *env) document(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	if e.output == formatYAML {
		return writeYAML(e.out, raw)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "  "); err != nil {
		return fmt.Errorf("lay out output: %w", err)
	}
	pretty.WriteByte('\n')
	_, err = pretty.WriteTo(e.out)
	return err
}

// column is one column of a table of T.
type column[T any] struct {
	title string
	cell  func(T) string
}

// printList prints objects: their ids, the objects themselves as an array, or a table.
func printList[T any](e *env, items []apiclient.Object[T], id func(T) string, columns []column[T]) error {
	switch {
	case e.quiet:
		for _, item := range items {
			fmt.Fprintln(e.out, id(item.Value))
		}
		return nil
	case e.forScripts():
		return e.document(items)
	}
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = c.title
	}
	rows := make([][]string, len(items))
	for i, item := range items {
		for _, c := range columns {
			rows[i] = append(rows[i], c.cell(item.Value))
		}
	}
	return writeTable(e.out, header, rows)
}

// printObject prints one object: its id, the object itself, or what fields make of it, a name and a value each.
func printObject[T any](e *env, o apiclient.Object[T], id func(T) string, fields func(T) [][]string) error {
	switch {
	case e.quiet:
		_, err := fmt.Fprintln(e.out, id(o.Value))
		return err
	case e.forScripts():
		return e.document(o)
	}
	return writeTable(e.out, nil, fields(o.Value))
}

// writeTable writes aligned columns without lines. Empty cells get a dash, so that columns can be told apart.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = 0 // as it is
	t.SetStyle(style)
	if header != nil {
		t.AppendHeader(rowOf(header))
	}
	for _, r := range rows {
		t.AppendRow(rowOf(r))
	}
	var b strings.Builder
	for line := range strings.Lines(t.Render() + "\n") {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	text := b.String()
	if header == nil && len(rows) == 0 {
		text = ""
	}
	_, err := io.WriteString(w, text)
	return err
}

func rowOf(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		row[i] = c
	}
	return row
}

// printable keeps text from a server or a guest from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// terminal gives the file behind a reader or writer where that is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// coloured gives a state its colour, on a terminal whose owner has not said no (https://no-color.org).
func (e *env) coloured(state string) string {
	if _, ok := terminal(e.out); !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return state
	}
	var colour string
	switch state {
	case "running", "ready", "active", "succeeded", "ok":
		colour = "32" // green
	case "error", "failed", "fail", "unreachable":
		colour = "31" // red
	case "creating", "migrating", "importing", "pending", "paused", "warn", "deleting", "canceled", "degraded":
		colour = "33" // yellow
	default:
		return state
	}
	return "\x1b[" + colour + "m" + state + "\x1b[0m"
}
