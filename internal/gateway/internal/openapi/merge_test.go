package openapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/novacron/novacron/internal/gateway/internal/openapi"
)

const first = `{"openapi":"3.1.0","paths":{"/a":{"get":{"operationId":"a-get","tags":["a"],"security":[{"bearer":[]},{"api_key":[]}],
	"responses":{"200":{"$ref":"#/components/schemas/Page"}}}}},
	"components":{"schemas":{"Page":{"items":{"$ref":"#/components/schemas/Item"}},"Item":{"type":"string"},"Problem":{"type":"object","maximum":9223372036854775807}}}}`

const second = `{"openapi":"3.1.0","paths":{"/b":{"get":{"operationId":"b-get","tags":["b"],
	"responses":{"200":{"$ref":"#/components/schemas/Page"},"500":{"$ref":"#/components/schemas/Problem"}}}}},
	"components":{"schemas":{"Page":{"items":{"$ref":"#/components/schemas/Item"}},"Item":{"type":"integer"},"Problem":{"type":"object","maximum":9223372036854775807}}}}`

func merge(t *testing.T, docs ...string) (map[string]any, error) {
	t.Helper()
	var parts []openapi.Part
	for i, d := range docs {
		parts = append(parts, openapi.Part{Name: []string{"one", "two", "three"}[i], JSON: []byte(d)})
	}
	raw, err := openapi.Merge(openapi.About{Title: "T", Version: "v1", Tags: map[string]string{"a": "about a"},
		Schemes: map[string]any{"bearer": map[string]any{"type": "http"}}}, parts)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return doc, nil
}

// at walks a document.
func at(t *testing.T, v any, keys ...string) any {
	t.Helper()
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("nothing at %q in %v", k, v)
		}
		v = m[k]
	}
	return v
}

func TestMergeRenamesWhatClashesAlsoAtSecondHand(t *testing.T) {
	doc, err := merge(t, first, second)
	if err != nil {
		t.Fatal(err)
	}
	// Page has the same text in both, but means another Item.
	for path, want := range map[string]string{"/a": "#/components/schemas/Page", "/b": "#/components/schemas/TwoPage"} {
		if got := at(t, doc, "paths", path, "get", "responses", "200", "$ref"); got != want {
			t.Errorf("%s refers to %v, want %s", path, got, want)
		}
	}
	if got := at(t, doc, "components", "schemas", "TwoPage", "items", "$ref"); got != "#/components/schemas/TwoItem" {
		t.Errorf("TwoPage refers to %v", got)
	}
	for name, want := range map[string]string{"Item": "string", "TwoItem": "integer"} {
		if got := at(t, doc, "components", "schemas", name, "type"); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	if got := at(t, doc, "paths", "/b", "get", "responses", "500", "$ref"); got != "#/components/schemas/Problem" {
		t.Errorf("an equal component was renamed to %v", got)
	}
	if diff := cmp.Diff([]any{map[string]any{"bearer": []any{}}}, at(t, doc, "paths", "/a", "get", "security")); diff != "" {
		t.Errorf("a way to authenticate that does not exist: %s", diff)
	}
	if diff := cmp.Diff([]any{map[string]any{"name": "a", "description": "about a"}, map[string]any{"name": "b"}}, doc["tags"]); diff != "" {
		t.Error(diff)
	}
}

func TestMergeRefuses(t *testing.T) {
	for name, docs := range map[string][]string{
		"one operation twice":    {first, strings.ReplaceAll(first, "a-get", "other")},
		"one operation id twice": {first, strings.ReplaceAll(first, `"/a"`, `"/c"`)},
		"no JSON":                {first, "openapi: 3.1.0"},
	} {
		if _, err := merge(t, docs...); err == nil {
			t.Errorf("%s: merged", name)
		}
	}
}

func TestYAMLKeepsLargeNumbers(t *testing.T) {
	out, err := openapi.YAML([]byte(second))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(out, &doc); err != nil {
		t.Fatal(err)
	}
	if got := at(t, doc, "components", "schemas", "Problem", "maximum"); got != 9223372036854775807 {
		t.Errorf("got %v (%T)", got, got)
	}
}
