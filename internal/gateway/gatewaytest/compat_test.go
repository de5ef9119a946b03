package gatewaytest

import (
	"encoding/json"
	"strings"
	"testing"
)

const released = `{"openapi":"3.1.0","paths":{
 "/vms":{
  "get":{"x-permission":"vm:read","x-permission-own":"vm:read:own",
   "parameters":[{"in":"query","name":"limit","schema":{"type":"integer","format":"int64","minimum":1,"maximum":500}},
    {"in":"query","name":"state","schema":{"type":"string","enum":["running","stopped"]}}],
   "responses":{"200":{"headers":{"ETag":{}},"content":{"application/json":{"schema":{"$ref":"#/components/schemas/VM"}}}},"404":{"description":"x"}}},
  "post":{"x-permission":"authenticated",
   "requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/New"}}}},
   "responses":{"201":{"description":"x"}}}},
 "/open":{"get":{"x-permission":"public","responses":{"204":{"description":"x"}}}}},
 "components":{"schemas":{
  "VM":{"type":"object","additionalProperties":false,"required":["id"],"properties":{
   "id":{"type":"string","format":"uuid"},"state":{"type":"string","enum":["running","stopped"]},
   "labels":{"type":"object","additionalProperties":{"type":"string"}},
   "parent":{"$ref":"#/components/schemas/VM"},"disks":{"type":["array","null"],"items":{"type":"integer"}}}},
  "New":{"type":"object","additionalProperties":false,"required":["name"],"properties":{
   "name":{"type":"string","maxLength":63,"minLength":1},"memory":{"type":"integer","minimum":64},
   "policy":{"type":"string","enum":["a","b"]},"tags":{"type":"array","maxItems":8,"items":{"type":"string"}},"note":{"type":"string"}}}}}}`

// change gives the released document with one thing replaced or, where to is nil, removed. keys of lists are not needed: parameters have a word of
// their own.
func change(t *testing.T, path string, to any) []byte {
	t.Helper()
	var doc any
	if err := json.Unmarshal([]byte(released), &doc); err != nil {
		t.Fatal(err)
	}
	keys := strings.Split(path, " ")
	at := doc
	for _, key := range keys[:len(keys)-1] {
		switch v := at.(type) {
		case map[string]any:
			at = v[key]
		case []any:
			at = v[map[string]int{"limit": 0, "state": 1}[key]]
		}
	}
	o, ok := at.(map[string]any)
	if !ok {
		t.Fatalf("%s leads to %T", path, at)
	}
	last := keys[len(keys)-1]
	if to == nil {
		if o[last] == nil {
			t.Fatalf("%s is not there to be removed", path)
		}
		delete(o, last)
	} else {
		o[last] = to
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestEveryKindOfBreakIsFound mutates the document in one place each.
func TestEveryKindOfBreakIsFound(t *testing.T) {
	const get, post, vm, fresh = "paths /vms get ", "paths /vms post ", "components schemas VM ", "components schemas New "
	any1 := func(v ...any) []any { return v }
	for _, c := range []struct {
		path string
		to   any
		want string
	}{
		{"paths /open", nil, "/open: the path was removed"},
		{"paths /vms post", nil, "POST /vms: the method was removed"},
		{get + "responses 404", nil, "GET /vms: the status 404 was removed"},
		{get + "responses 200 headers ETag", nil, "GET /vms: answer 200: the header ETag was removed"},
		{get + "responses 200 content", map[string]any{"text/csv": map[string]any{}}, "GET /vms: answer 200: the content type application/json was removed"},
		{get + "x-permission", "vm:admin", `GET /vms: it needs the permission "vm:admin", where "vm:read" was enough`},
		{get + "x-permission-own", nil, `GET /vms: "vm:read:own" is no longer enough for what is one's own`},
		{post + "x-permission", "vm:create", `POST /vms: it needs the permission "vm:create", where "authenticated" was enough`},
		{"paths /open get x-permission", "authenticated", `GET /open: it needs the permission "authenticated", where "public" was enough`},
		{get + "parameters", any1(), "GET /vms: parameter query limit: was removed"},
		{get + "parameters limit required", true, "GET /vms: parameter query limit: became required"},
		{get + "parameters limit schema maximum", 100, "GET /vms: parameter query limit: maximum was lowered to 100 from 500"},
		{get + "parameters limit schema minimum", 2, "GET /vms: parameter query limit: minimum was raised to 2 from 1"},
		{get + "parameters state schema enum", any1("running"), "GET /vms: parameter query state: the values [running stopped] became [running]"},
		{get + "parameters state schema pattern", "^r", `GET /vms: parameter query state: the pattern "" became "^r"`},
		{post + "parameters", any1(map[string]any{"in": "header", "name": "X", "required": true}), "POST /vms: parameter header X: is new and required"},
		{post + "requestBody required", true, "POST /vms: request body: became required"},
		{post + "requestBody", nil, "POST /vms: request body: was removed"},
		{fresh + "required", any1("name", "memory"), "POST /vms: request body: the property memory became required"},
		{fresh + "properties note", nil, "POST /vms: request body: the property note was removed"},
		{fresh + "properties name maxLength", 10, "POST /vms: request body.name: maxLength was lowered to 10 from 63"},
		{fresh + "properties note maxLength", 10, "POST /vms: request body.note: maxLength was lowered to 10 from <nil>"},
		{fresh + "properties note format", "uri", `POST /vms: request body.note: the format "" became "uri"`},
		{fresh + "properties note enum", any1("x"), "POST /vms: request body.note: only the values [x] are left"},
		{fresh + "properties policy enum", any1("b", "c"), "POST /vms: request body.policy: the values [a b] became [b c]"},
		{fresh + "properties tags maxItems", 4, "POST /vms: request body.tags: maxItems was lowered to 4 from 8"},
		{fresh + "properties tags items type", "integer", "POST /vms: request body.tags[]: the type [string] became [integer]"},
		{vm + "properties state", nil, "GET /vms: answer 200: the property state was removed"},
		{vm + "properties id type", "integer", "GET /vms: answer 200.id: the type [string] became [integer]"},
		{vm + "properties id type", any1("string", "null"), "GET /vms: answer 200.id: the type [string] became [string null]"},
		{vm + "properties id format", nil, `GET /vms: answer 200.id: the format "uuid" became ""`},
		{vm + "properties state enum", any1("running"), "GET /vms: answer 200.state: the values [running stopped] became [running]"},
		{vm + "properties disks items type", "number", "GET /vms: answer 200.disks[]: the type [integer] became [number]"},
		{vm + "properties labels additionalProperties type", "integer", "GET /vms: answer 200.labels.*: the type [string] became [integer]"},
		{vm + "required", nil, "GET /vms: answer 200: the property id is no longer always there"},
	} {
		got, err := Breaking([]byte(released), change(t, c.path, c.to))
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
		}
		if !strings.Contains("\n"+strings.Join(got, "\n")+"\n", "\n"+c.want+"\n") {
			t.Errorf("%s to %v: found %q, want %q", c.path, c.to, got, c.want)
		}
	}
}

func TestAdditionsBreakNothing(t *testing.T) {
	const get, post, vm, fresh = "paths /vms get ", "paths /vms post ", "components schemas VM ", "components schemas New "
	str := map[string]any{"type": "string"}
	for _, c := range []struct {
		path string
		to   any
	}{
		{"openapi", "3.1.0"},
		{"paths /new", map[string]any{"get": map[string]any{}}},
		{"paths /vms delete", map[string]any{"responses": map[string]any{}}},
		{get + "responses 409", map[string]any{}},
		{get + "x-permission", "authenticated"},
		{post + "x-permission", "public"},
		{post + "parameters", []any{map[string]any{"in": "query", "name": "wait", "schema": str}}},
		{get + "parameters limit schema maximum", 1000},
		{get + "parameters limit schema minimum", nil},
		{get + "parameters state schema enum", []any{"running", "stopped", "paused"}},
		{get + "parameters state schema enum", nil},
		{fresh + "properties more", str},
		{fresh + "required", nil},
		{fresh + "properties name maxLength", nil},
		{fresh + "properties memory type", []any{"integer", "string"}},
		{fresh + "additionalProperties", true},
		{vm + "properties more", str},
		{vm + "required", []any{"id", "state"}},
		{vm + "properties disks type", "array"},
		{vm + "properties state enum", []any{"running", "stopped", "paused"}},
		{vm + "properties id description", "another text"},
	} {
		got, err := Breaking([]byte(released), change(t, c.path, c.to))
		if err != nil || len(got) > 0 {
			t.Errorf("%s to %v: %q, %v", c.path, c.to, got, err)
		}
	}
}

// TestUnknownKeywordIsNotOverlooked: a kind of schema that the comparison cannot judge stops it.
func TestUnknownKeywordIsNotOverlooked(t *testing.T) {
	if _, err := Breaking([]byte(released), change(t, "components schemas VM oneOf", []any{})); err == nil || !strings.Contains(err.Error(), "oneOf") {
		t.Errorf("got %v", err)
	}
	if _, err := Breaking([]byte(released), change(t, "components schemas VM", nil)); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("got %v", err)
	}
}
