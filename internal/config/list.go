package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// isList tells whether a setting is a list of groups of settings, such as routes.
func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// convertList sets target to a list of groups. In the environment, whose values are texts, it is written as in the file.
func convertList(raw any, target reflect.Value, fromText bool) error {
	if text, ok := raw.(string); ok && fromText {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return fmt.Errorf("is not YAML: %w", err)
		}
		raw = v
	}
	if reflect.TypeOf(raw) == target.Type() { // the default
		target.Set(reflect.ValueOf(raw))
		return nil
	}
	items, ok := raw.([]any)
	if !ok {
		return errors.New("is not a list")
	}
	list := reflect.MakeSlice(target.Type(), len(items), len(items))
	var failed []error
	for i, item := range items {
		group, ok := item.(map[string]any)
		if !ok {
			failed = append(failed, fmt.Errorf("[%d]: is not a group of settings", i))
			continue
		}
		for _, err := range convertGroup(group, list.Index(i)) {
			failed = append(failed, fmt.Errorf("[%d].%w", i, err))
		}
	}
	target.Set(list)
	return errors.Join(failed...)
}

// convertGroup sets the fields of one item of a list, and lists every mistake with its path.
func convertGroup(raw map[string]any, target reflect.Value) []error {
	var failed []error
	byPath := map[string]key{}
	for _, k := range keysIn(target) {
		byPath[k.path] = k
	}
	names := slices.Sorted(maps.Keys(byPath))
	var walk func(prefix string, group map[string]any)
	walk = func(prefix string, group map[string]any) {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			path, value := prefix+name, group[name]
			k, known := byPath[path]
			nested, isGroup := value.(map[string]any)
			inner := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, path+".") })
			switch {
			case value == nil: // a key without a value means its default
			case known && k.off && (value == off || value == false): // YAML 1.1 took the word for false
				k.value.SetInt(-1)
			case known:
				if err := convert(value, k.value, false); err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", path, err))
				}
			case inner && isGroup:
				walk(path+".", nested)
			default:
				failed = append(failed, fmt.Errorf("%s: is not a setting%s", path, suggest(path, names)))
			}
		}
	}
	walk("", raw)
	return failed
}

// listText writes a list as YAML on one line, settings that are not given left out.
func listText(list reflect.Value) string {
	items := make([]string, list.Len())
	for i := range list.Len() {
		items[i] = "{" + strings.Join(groupTexts(list.Index(i)), ", ") + "}"
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func groupTexts(group reflect.Value) []string {
	var texts []string
	for i := range group.NumField() {
		field, value := group.Type().Field(i), group.Field(i)
		if value.IsZero() {
			continue
		}
		name := field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct {
			texts = append(texts, name+": {"+strings.Join(groupTexts(value), ", ")+"}")
			continue
		}
		k := key{value: value, secret: field.Tag.Get("secret") == "true", off: field.Tag.Get("off") == "true"}
		texts = append(texts, name+": "+k.text())
	}
	return texts
}

// listDoc tells of the settings in each item of a list.
func listDoc(t reflect.Type) string {
	var parts []string
	for _, k := range keysIn(reflect.New(t.Elem()).Elem()) {
		parts = append(parts, "`"+k.path+"` ("+strings.TrimSuffix(k.doc, ".")+")")
	}
	return "A list; each item has " + strings.Join(parts, "; ") + "."
}
