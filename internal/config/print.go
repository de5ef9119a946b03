package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// masked stands where a secret would have been.
const masked = `"<hidden>"`

// Print writes the configuration that is in force as YAML, with where each value comes from behind it. Secrets are masked.
func (l *Loaded) Print(w io.Writer) error {
	var b strings.Builder
	if l.File == "" {
		b.WriteString("# no configuration file was read\n")
	} else {
		b.WriteString("# configuration file: " + l.File + "\n")
	}
	v := reflect.ValueOf(l.Config)
	var open []string // the groups that the line before is in
	for _, f := range fields() {
		value := show(v.FieldByIndex(f.index))
		if f.secret && value != `""` {
			value = masked
		}
		parts := strings.Split(f.path, ".")
		groups, name := parts[:len(parts)-1], parts[len(parts)-1]
		for i, g := range groups {
			if i < len(open) && open[i] == g {
				continue
			}
			open = open[:min(i, len(open))]
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), g)
			open = append(open, g)
		}
		open = open[:len(groups)]
		origin := l.Origins[f.path]
		comment := string(origin.Source)
		if origin.Detail != "" {
			comment += ": " + origin.Detail
		}
		fmt.Fprintf(&b, "%s%s: %s  # %s\n", strings.Repeat("  ", len(groups)), name, value, comment)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Reference writes the page of the documentation that lists every key.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Configuration

Generated from the code by ` + "`go test ./internal/config -update`" + `; do not edit.

NovaCron reads, the later overriding the earlier: its defaults, one YAML file (` + "`--config`, `NOVACRON_CONFIG`" + `, or
` + "`" + DefaultFile + "`" + ` if it exists), environment variables, and the flags ` + "`--data-dir`, `--listen` and `--modules`" + `. An unknown key is
an error. ` + "`novacron config check`" + ` tells every mistake at once, ` + "`novacron config print`" + ` shows what is in force and where it comes from.

Durations are written with a unit (` + "`30s`, `15m`, `720h`" + `); sizes are in bytes; lists are YAML lists, or texts with commas. Secrets can be
given by file: set the key with ` + "`_file`" + ` behind it to the file's name.

`)
	d := reflect.ValueOf(Default())
	section := "\x00"
	for _, f := range fields() {
		at, _, nested := strings.Cut(f.path, ".")
		if !nested {
			at = ""
		}
		if at != section {
			section = at
			if section != "" {
				fmt.Fprintf(&b, "\n## %s\n\n", section)
			}
			b.WriteString("| key | type | default | what it is | variable |\n|---|---|---|---|---|\n")
		}
		text := f.doc
		var limits []string
		if len(f.enum) > 0 {
			limits = append(limits, "one of "+strings.Join(f.enum, ", "))
		}
		if f.min != "" && f.min != "0" && f.min != "0s" {
			limits = append(limits, "at least "+f.min)
		}
		if f.max != "" {
			limits = append(limits, "at most "+f.max)
		}
		if len(limits) > 0 {
			text += " (" + strings.Join(limits, ", ") + ")"
		}
		if f.secret {
			text += " A secret: `" + f.path + fileSuffix + "` takes it from a file."
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | `%s` |\n", f.path, f.typeName(), show(d.FieldByIndex(f.index)), strings.ReplaceAll(text, "|", `\|`), env(f.path))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
