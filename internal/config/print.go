package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

func reflectText(v reflect.Value) string { return fmt.Sprint(v.Interface()) }

// Print writes the configuration as YAML, each setting with where it came from. Secrets are hidden.
func (l Loaded) Print(w io.Writer) error {
	var b strings.Builder
	if l.File != "" {
		fmt.Fprintf(&b, "# from %s\n", l.File)
	}
	printKeys(&b, keysOf(l.Config), func(k key) string { return "  # " + l.Sources[k.path] })
	_, err := io.WriteString(w, b.String())
	return err
}

// printKeys writes settings as nested YAML.
func printKeys(b *strings.Builder, keys []key, comment func(key) string) {
	var open []string
	for _, k := range keys {
		parts := strings.Split(k.path, ".")
		sections := parts[:len(parts)-1]
		for i, section := range sections {
			if i < len(open) && open[i] == section {
				continue
			}
			open = append(open[:min(i, len(open))], section)
			fmt.Fprintf(b, "%s%s:\n", strings.Repeat("  ", i), section)
		}
		open = open[:len(sections)]
		fmt.Fprintf(b, "%s%s: %s%s\n", strings.Repeat("  ", len(sections)), parts[len(parts)-1], k.text(), comment(k))
	}
}

// Reference gives docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Configuration\n\nGenerated from the code; change it there. One YAML file (`--config`, `" + EnvPrefix + "_CONFIG`, or `" + DefaultFile +
		"` if it is there); environment variables override it, flags override both. A key that nothing reads is a mistake. `novacron config check` lists every mistake, " +
		"`novacron config print` shows what is in force and where it came from.\n\n| setting | default | environment | meaning |\n|---|---|---|---|\n")
	for _, k := range keysOf(Default()) {
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s |\n", k.path, k.text(), k.env(), k.doc)
	}
	b.WriteString("\nFlags of `novacron serve`: `--config`, `--data-dir`, `--listen`, `--modules`.\n")
	return b.String()
}
