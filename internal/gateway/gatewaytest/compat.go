package gatewaytest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/novacron/novacron/internal/platform/identity"
)

// direction says who sends what a schema describes: the same change breaks callers one way and not the other.
type direction int

const (
	request  direction = iota // callers send it: it must not become narrower
	response                  // callers read it: what they found there must stay
)

// annotations are the keywords of a schema that bind nobody.
var annotations = []string{"description", "example", "examples", "default", "title", "patternDescription", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "$schema"}

// compared are the keywords that breaks.schema judges.
var compared = []string{"$ref", "type", "format", "enum", "pattern", "properties", "required", "additionalProperties", "items",
	"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf", "uniqueItems"}

type object = map[string]any

// Breaking compares two OpenAPI documents and says, sorted, what a program written for the one before may trip over in the one after. What was
// only added is not among it. A keyword of a schema that the comparison does not know is an error, so that it never overlooks a change silently.
func Breaking(before, after []byte) ([]string, error) {
	b := &breaks{}
	if err := json.Unmarshal(before, &b.before); err != nil {
		return nil, fmt.Errorf("read the document before: %w", err)
	}
	if err := json.Unmarshal(after, &b.after); err != nil {
		return nil, fmt.Errorf("read the document after: %w", err)
	}
	paths := sub(b.after, "paths")
	for path, methods := range sub(b.before, "paths") {
		if paths[path] == nil {
			b.say(path, "the path was removed")
			continue
		}
		now := sub(paths, path)
		for method, op := range asObject(methods) {
			at := strings.ToUpper(method) + " " + path
			if now[method] == nil {
				b.say(at, "the method was removed")
				continue
			}
			b.operation(at, asObject(op), sub(now, method))
		}
	}
	slices.Sort(b.found)
	return slices.Compact(b.found), b.err
}

type breaks struct {
	before, after object
	found         []string
	err           error
}

func (b *breaks) say(at, format string, args ...any) {
	b.found = append(b.found, at+": "+fmt.Sprintf(format, args...))
}

func (b *breaks) operation(at string, before, after object) {
	b.permission(at, before, after)
	b.parameters(at, before, after)
	b.body(at, sub(before, "requestBody"), sub(after, "requestBody"))
	now := sub(after, "responses")
	for status, r := range sub(before, "responses") {
		if now[status] == nil {
			b.say(at, "the status %s was removed", status)
			continue
		}
		was, is, here := asObject(r), sub(now, status), at+": answer "+status
		for name := range sub(was, "headers") {
			if sub(is, "headers")[name] == nil {
				b.say(here, "the header %s was removed", name)
			}
		}
		b.content(here, was, is, response)
	}
}

// permission: fewer callers than before are let in. Whether one permission of a resource is stricter than another is for people to judge.
func (b *breaks) permission(at string, before, after object) {
	was, is := text(before, "x-permission"), text(after, "x-permission")
	rank := func(p string) int {
		return slices.Index([]string{identity.Public, identity.Authenticated}, p)
	}
	looser := is == identity.Public || is == identity.Authenticated && rank(was) != 0
	if was != is && was != "" && !looser {
		b.say(at, "it needs the permission %q, where %q was enough", is, was)
	}
	if own := text(before, "x-permission-own"); own != "" && text(after, "x-permission-own") != own && !looser {
		b.say(at, "%q is no longer enough for what is one's own", own)
	}
}

func (b *breaks) parameters(at string, before, after object) {
	was, is := parameters(before), parameters(after)
	for key, p := range was {
		here := at + ": parameter " + key
		now, ok := is[key]
		if !ok {
			b.say(here, "was removed")
			continue
		}
		if now["required"] == true && p["required"] != true {
			b.say(here, "became required")
		}
		b.schema(here, sub(p, "schema"), sub(now, "schema"), request, nil)
	}
	for key, p := range is {
		if _, ok := was[key]; !ok && p["required"] == true {
			b.say(at+": parameter "+key, "is new and required")
		}
	}
}

func parameters(op object) map[string]object {
	all := map[string]object{}
	list, _ := op["parameters"].([]any)
	for _, p := range list {
		o := asObject(p)
		all[text(o, "in")+" "+text(o, "name")] = o
	}
	return all
}

func (b *breaks) body(at string, before, after object) {
	at += ": request body"
	if after["required"] == true && before["required"] != true {
		b.say(at, "became required")
	}
	if before != nil && after == nil {
		b.say(at, "was removed")
		return
	}
	b.content(at, before, after, request)
}

func (b *breaks) content(at string, before, after object, d direction) {
	now := sub(after, "content")
	for kind, c := range sub(before, "content") {
		if now[kind] == nil {
			b.say(at, "the content type %s was removed", kind)
			continue
		}
		b.schema(at, sub(asObject(c), "schema"), sub(sub(now, kind), "schema"), d, nil)
	}
}

// schema compares what describes one value. seen holds the pairs of references that led here: a schema may contain itself.
func (b *breaks) schema(at string, before, after object, d direction, seen []string) {
	if before == nil || after == nil {
		if (before == nil) != (after == nil) && d == request && before == nil || before != nil && after == nil && d == response {
			b.say(at, "whether it has a schema changed")
		}
		return
	}
	if pair := text(before, "$ref") + " " + text(after, "$ref"); pair != " " {
		if slices.Contains(seen, pair) {
			return
		}
		seen = append(slices.Clone(seen), pair)
		before, after = b.resolve(at, b.before, before), b.resolve(at, b.after, after)
	}
	for _, s := range []object{before, after} {
		for key := range s {
			if !slices.Contains(compared, key) && !slices.Contains(annotations, key) && !strings.HasPrefix(key, "x-") {
				b.err = fmt.Errorf("%s: the comparison does not know the keyword %s of a schema: teach it", at, key)
			}
		}
	}
	b.values(at, before, after, d)
	b.bounds(at, before, after, d)
	b.properties(at, before, after, d, seen)
	if before["items"] != nil {
		b.schema(at+"[]", sub(before, "items"), sub(after, "items"), d, seen)
	}
}

func (b *breaks) resolve(at string, doc, schema object) object {
	ref := text(schema, "$ref")
	if ref == "" {
		return schema
	}
	to := sub(sub(sub(doc, "components"), "schemas"), strings.TrimPrefix(ref, "#/components/schemas/"))
	if to == nil {
		b.err = fmt.Errorf("%s: %s leads nowhere", at, ref)
	}
	return to
}

// values: which kinds of values there are.
func (b *breaks) values(at string, before, after object, d direction) {
	was, is := list(before["type"]), list(after["type"])
	narrow, wide := was, is // what must still be there, and in what
	if d == response {
		narrow, wide = is, was
	}
	if len(wide) > 0 && (len(narrow) == 0 || !contains(wide, narrow)) {
		b.say(at, "the type %v became %v", was, is)
	}
	if f, now := text(before, "format"), text(after, "format"); f != now && (d == response && f != "" || d == request && now != "") {
		b.say(at, "the format %q became %q", f, now)
	}
	if p, now := text(before, "pattern"), text(after, "pattern"); d == request && p != now && now != "" {
		b.say(at, "the pattern %q became %q", p, now)
	}
	old, enum := list(before["enum"]), list(after["enum"])
	switch {
	case len(old) > 0 && !contains(enum, old) && (d == response || len(enum) > 0):
		b.say(at, "the values %v became %v", old, enum)
	case len(old) == 0 && len(enum) > 0 && d == request:
		b.say(at, "only the values %v are left", enum)
	}
	if d == request && after["uniqueItems"] == true && before["uniqueItems"] != true {
		b.say(at, "its items must differ now")
	}
	if m := after["multipleOf"]; d == request && m != nil && m != before["multipleOf"] {
		b.say(at, "it must be a multiple of %v now", m)
	}
}

// bounds: what callers may send must not have become less. What is answered stays within them or not; programs do not depend on it.
func (b *breaks) bounds(at string, before, after object, d direction) {
	if d == response {
		return
	}
	for _, key := range []string{"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"} {
		if is, ok := after[key].(float64); ok {
			if was, had := before[key].(float64); !had && (is > 0 || strings.HasSuffix(strings.ToLower(key), "imum")) || had && is > was {
				b.say(at, "%s was raised to %v from %v", key, is, before[key])
			}
		}
	}
	for _, key := range []string{"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"} {
		if is, ok := after[key].(float64); ok {
			if was, had := before[key].(float64); !had || is < was {
				b.say(at, "%s was lowered to %v from %v", key, is, before[key])
			}
		}
	}
}

func (b *breaks) properties(at string, before, after object, d direction, seen []string) {
	was, is := sub(before, "properties"), sub(after, "properties")
	for name, p := range was {
		if is[name] == nil {
			b.say(at, "the property %s was removed", name)
			continue
		}
		b.schema(at+"."+name, asObject(p), sub(is, name), d, seen)
	}
	must, now := list(before["required"]), list(after["required"])
	for _, name := range now {
		if d == request && !slices.Contains(must, name) {
			b.say(at, "the property %v became required", name)
		}
	}
	for _, name := range must {
		if d == response && !slices.Contains(now, name) && is[fmt.Sprint(name)] != nil {
			b.say(at, "the property %v is no longer always there", name)
		}
	}
	more, still := before["additionalProperties"], after["additionalProperties"]
	if d == request && more != false && still == false && len(was) > 0 {
		b.say(at, "further properties are refused now")
	}
	if o := asObject(more); o != nil {
		if still == false {
			b.say(at, "it is no longer a map")
			return
		}
		b.schema(at+".*", o, asObject(still), d, seen)
	}
}

func sub(o object, key string) object { return asObject(o[key]) }

func asObject(v any) object {
	o, _ := v.(object)
	return o
}

func text(o object, key string) string {
	s, _ := o[key].(string)
	return s
}

// list gives what may be one value or several ("type") as several.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

func contains(all, some []any) bool {
	for _, s := range some {
		if !slices.ContainsFunc(all, func(a any) bool { return reflect.DeepEqual(a, s) }) {
			return false
		}
	}
	return true
}
