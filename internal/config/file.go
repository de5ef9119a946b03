package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// parse reads the file's YAML into nested maps, noting the line of every key and every key that there is not.
func (l *loader) parse(raw []byte) (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return map[string]any{}, nil // an empty file is a file
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: the file is not a mapping of keys to values", doc.Content[0].Line)
	}
	leaves, groups := map[string]bool{}, map[string]bool{}
	for _, k := range l.keys {
		leaves[k.path] = true
		for i, c := range k.path {
			if c == '.' {
				groups[k.path[:i]] = true
			}
		}
	}
	return l.mapping(doc.Content[0], "", leaves, groups)
}

func (l *loader) mapping(node *yaml.Node, prefix string, leaves, groups map[string]bool) (map[string]any, error) {
	out := map[string]any{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		path := prefix + name.Value
		_, twice := out[name.Value]
		switch {
		case twice:
			l.complain(name, "%s: is given twice", path)
		case groups[path] && value.Tag == "!!null": // a heading with nothing below it
		case groups[path] && value.Kind == yaml.MappingNode:
			nested, err := l.mapping(value, path+".", leaves, groups)
			if err != nil {
				return nil, err
			}
			out[name.Value] = nested
		case groups[path]:
			l.complain(value, "%s: must have keys below it", path)
		case !leaves[path]:
			l.complain(name, "%s: is not a setting%s", path, suggest(path, slices.Concat(slices.Collect(maps.Keys(leaves)), slices.Collect(maps.Keys(groups)))))
		case value.Tag == "!!null": // a key without a value means its default
		default:
			var v any
			if err := value.Decode(&v); err != nil {
				return nil, fmt.Errorf("line %d: %s: %w", value.Line, path, err)
			}
			l.lines[path] = name.Line
			out[name.Value] = v
		}
	}
	return out, nil
}

func (l *loader) complain(node *yaml.Node, format string, args ...any) {
	l.failed = append(l.failed, fmt.Errorf("%s (%s:%d)", fmt.Sprintf(format, args...), l.loaded.File, node.Line))
}

// suggest finds the key that was probably meant.
func suggest(path string, names []string) string {
	best, least := "", 4
	for _, name := range names {
		d := distance(path, name)
		if strings.HasSuffix(name, "."+path) { // the right name in the wrong place
			d = 1
		}
		if d < least || (d == least && name < best) {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance counts the letters that must be added, left out or changed to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
