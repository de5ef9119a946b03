// Package openapi makes one OpenAPI document of those of several modules. It works on the JSON, so that a module's document may as well
// come from another process.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Part is the document of one module.
type Part struct {
	Name string // of the module; it begins the new names of components that clash
	JSON []byte
}

// About is what the merged document says of itself.
type About struct {
	Title       string
	Version     string
	Description string
	Tags        map[string]string // descriptions by tag; tags that are not here are listed without one
	// Schemes are the ways to authenticate that exist, by name. What operations require beyond them is dropped.
	Schemes map[string]any
}

type object = map[string]any

// Merge makes one document. Components of the same name and content become one; those that share only the name are renamed in the later
// part. Two parts with one operation, or one operation id, are an error.
func Merge(about About, parts []Part) ([]byte, error) {
	m := merger{paths: object{}, components: map[string]object{}, operations: map[string]string{}, tags: map[string]bool{}}
	for _, p := range parts {
		doc, err := decode(p.JSON)
		if err != nil {
			return nil, fmt.Errorf("read OpenAPI document of %s: %w", p.Name, err)
		}
		m.add(p.Name, doc, about.Schemes)
	}
	if len(m.failed) > 0 {
		return nil, errors.Join(m.failed...)
	}
	components := object{"securitySchemes": about.Schemes}
	for section, list := range m.components {
		if section != "securitySchemes" {
			components[section] = list
		}
	}
	var tags []any
	for _, name := range slices.Sorted(maps.Keys(m.tags)) {
		tag := object{"name": name}
		if text := about.Tags[name]; text != "" {
			tag["description"] = text
		}
		tags = append(tags, tag)
	}
	return json.Marshal(object{
		"openapi": "3.1.0", "servers": []any{object{"url": "/"}}, "paths": m.paths, "components": components, "tags": tags,
		"info": object{"title": about.Title, "version": about.Version, "description": about.Description},
	})
}

func decode(raw []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // 64-bit limits must not lose digits
	var doc object
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	return doc, nil
}

type merger struct {
	paths      object
	components map[string]object // section → name → definition
	operations map[string]string // operation id → where
	tags       map[string]bool
	failed     []error
}

func (m *merger) add(part string, doc object, schemes map[string]any) {
	sections, _ := doc["components"].(object)
	renamed := m.renames(part, sections)
	rename(doc, renamed)
	for section, v := range sections {
		list, _ := v.(object)
		if m.components[section] == nil {
			m.components[section] = object{}
		}
		for name, def := range list {
			if to, ok := renamed[ref(section, name)]; ok {
				name = to[strings.LastIndexByte(to, '/')+1:]
			}
			m.components[section][name] = def
		}
	}
	paths, _ := doc["paths"].(object)
	for path, v := range paths {
		item, _ := v.(object)
		if m.paths[path] == nil {
			m.paths[path] = object{}
		}
		for method, v := range item {
			m.operation(part, path, method, v, schemes)
		}
	}
}

func (m *merger) operation(part, path, method string, v any, schemes map[string]any) {
	item, _ := m.paths[path].(object)
	if _, twice := item[method]; twice {
		m.failed = append(m.failed, fmt.Errorf("%s %s of %s is in another document already", method, path, part))
		return
	}
	item[method] = v
	op, ok := v.(object)
	if !ok {
		return // parameters, summary and the like of a path
	}
	if id, _ := op["operationId"].(string); id != "" {
		where := method + " " + path
		if other, twice := m.operations[id]; twice {
			m.failed = append(m.failed, fmt.Errorf("the operation id %s is used by %s and %s", id, other, where))
		}
		m.operations[id] = where
	}
	if tags, ok := op["tags"].([]any); ok {
		for _, t := range tags {
			if name, _ := t.(string); name != "" {
				m.tags[name] = true
			}
		}
	}
	if security, ok := op["security"].([]any); ok {
		op["security"] = slices.DeleteFunc(security, func(v any) bool {
			required, _ := v.(object)
			for name := range required {
				if _, known := schemes[name]; !known {
					return true
				}
			}
			return false
		})
	}
}

func ref(section, name string) string { return "#/components/" + section + "/" + name }

// renames finds the components of a part that clash with those that are there: other content under the same name, or the same text that
// refers, over any number of steps, to one that clashes. It gives reference → new reference.
func (m *merger) renames(part string, sections object) map[string]string {
	renamed := map[string]string{}
	clash := func(section, name string) {
		to := strings.ToUpper(part[:1]) + part[1:] + name
		for m.components[section][to] != nil || (sections[section].(object))[to] != nil {
			to += "_"
		}
		renamed[ref(section, name)] = ref(section, to)
	}
	for again := true; again; {
		again = false
		for section, v := range sections {
			list, _ := v.(object)
			for _, name := range slices.Sorted(maps.Keys(list)) {
				existing, there := m.components[section][name]
				if _, done := renamed[ref(section, name)]; !there || done {
					continue
				}
				if !reflect.DeepEqual(existing, list[name]) || refersTo(list[name], renamed) {
					clash(section, name)
					again = true
				}
			}
		}
	}
	return renamed
}

func refersTo(v any, targets map[string]string) bool {
	switch v := v.(type) {
	case object:
		for key, item := range v {
			if target, ok := item.(string); ok && key == "$ref" {
				if _, hit := targets[target]; hit {
					return true
				}
			}
			if refersTo(item, targets) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return refersTo(item, targets) })
	}
	return false
}

// rename rewrites every reference of a document, also those in the mappings of discriminators.
func rename(v any, renamed map[string]string) {
	switch v := v.(type) {
	case object:
		for key, item := range v {
			if target, ok := item.(string); ok {
				if to, hit := renamed[target]; hit {
					v[key] = to
				}
				continue
			}
			rename(item, renamed)
		}
	case []any:
		for _, item := range v {
			rename(item, renamed)
		}
	}
}

// YAML turns a JSON document into YAML.
func YAML(raw []byte) ([]byte, error) {
	doc, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	out, err := yaml.Marshal(plainNumbers(doc))
	if err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	return out, nil
}

// plainNumbers replaces json.Number, which yaml would write as a text.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case object:
		for key, item := range v {
			v[key] = plainNumbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = plainNumbers(item)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}
