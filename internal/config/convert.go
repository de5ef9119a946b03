package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// convert sets target to what viper found. A file must have the right type; the environment and flags have only texts.
func convert(raw any, target reflect.Value, source Source) error {
	text, isText := raw.(string)
	fromText := isText && (source == SourceEnv || source == SourceFlag)
	switch target.Interface().(type) {
	case time.Duration:
		if !isText {
			return fmt.Errorf("%v lacks a unit; write it as 30s, 15m or 720h", raw)
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration; write it as 30s, 15m or 720h", text)
		}
		target.SetInt(int64(d))
	case []string:
		list, err := texts(raw)
		if err != nil {
			return err
		}
		target.Set(reflect.ValueOf(list))
	case string:
		if !isText {
			return fmt.Errorf("%v is not a text; put it in quotes", raw)
		}
		target.SetString(text)
	case int, int64:
		n, err := integer(raw, text, fromText)
		if err != nil {
			return err
		}
		if target.OverflowInt(n) {
			return fmt.Errorf("%d is too large", n)
		}
		target.SetInt(n)
	case float64:
		x, err := number(raw, text, fromText)
		if err != nil {
			return err
		}
		target.SetFloat(x)
	default:
		return fmt.Errorf("has the type %s, which the configuration cannot hold", target.Type())
	}
	return nil
}

func texts(raw any) ([]string, error) {
	switch v := raw.(type) {
	case string: // one, or several by commas
		list := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		if len(list) == 0 {
			return nil, errors.New("is an empty list")
		}
		return list, nil
	case []string:
		return slices.Clone(v), nil
	case []any:
		list := make([]string, 0, len(v))
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("%v in the list is not a text", item)
			}
			list = append(list, s)
		}
		if len(list) == 0 {
			return nil, errors.New("is an empty list")
		}
		return list, nil
	default:
		return nil, fmt.Errorf("%v is not a list", raw)
	}
}

func integer(raw any, text string, fromText bool) (int64, error) {
	switch v := raw.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case string:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && fromText {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%v is not an integer", raw)
}

func number(raw any, text string, fromText bool) (float64, error) {
	switch v := raw.(type) {
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	case string:
		if x, err := strconv.ParseFloat(text, 64); err == nil && fromText && !math.IsInf(x, 0) {
			return x, nil
		}
	}
	return 0, fmt.Errorf("%v is not a number", raw)
}

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
	for _, key := range l.keys() {
		leaves[key] = true
		for i, c := range key {
			if c == '.' {
				groups[key[:i]] = true
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
			l.complain(name, "%s: there is no such key%s", path, suggest(path, leaves, groups))
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
	l.failed = append(l.failed, fmt.Errorf("%s (%s:%d)", fmt.Sprintf(format, args...), l.out.File, node.Line))
}

// suggest finds the key that was probably meant.
func suggest(path string, sets ...map[string]bool) string {
	best, least := "", 4
	for _, set := range sets {
		for key := range set {
			d := distance(path, key)
			if strings.HasSuffix(key, "."+path) { // the right name in the wrong place
				d = 1
			}
			if d < least || (d == least && key < best) {
				best, least = key, d
			}
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
