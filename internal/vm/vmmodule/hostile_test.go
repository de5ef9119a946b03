package vmmodule

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

func readJSON[T any](t *testing.T, path string) (v T) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil && strings.HasSuffix(path, ".gz") {
		var unpacked *gzip.Reader
		if unpacked, err = gzip.NewReader(bytes.NewReader(raw)); err == nil {
			raw, err = io.ReadAll(unpacked)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// attack is one request that nobody sends by accident.
type attack struct {
	what, path, body string
	headers          []string
}

// poison puts a text in every place of a body that takes one.
func poison(v any, text string) any {
	switch v := v.(type) {
	case object:
		o := object{}
		for name, value := range v {
			o[name] = poison(value, text)
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = poison(v[i], text)
		}
		return list
	case string:
		return text
	}
	return v
}

// attacksOn are attacks of every class on a route. Which texts it is given goes round, so that all texts are tried somewhere.
func attacksOn(r route, queries []string, own map[string]string, turn int, texts []string, requests []string, documents map[string]string) (list []attack) {
	filled := func(text string) string {
		path := r.path
		for _, s := range r.slots {
			if s.in == "path" {
				path = strings.Replace(path, s.name, text, 1)
			}
		}
		return strings.Replace(path, "{file}", text, 1)
	}
	ownPath := r.path
	for _, s := range r.slots {
		if s.in == "path" {
			ownPath = strings.Replace(ownPath, s.name, own[s.kind], 1)
		}
	}
	json := []string{"Content-Type", "application/json"}
	for n := range 4 {
		text := texts[(turn*4+n)%len(texts)]
		if filled("x") != r.path {
			list = append(list, attack{what: "a path", path: filled(url.PathEscape(text))})
		}
		query := url.Values{"colour": {text}}
		if n%2 == 0 { // a known parameter gets farther than an unknown one
			query = url.Values{}
			for _, name := range queries {
				query.Set(name, text)
			}
		}
		list = append(list, attack{what: "a query", path: ownPath + "?" + query.Encode()})
		if header := strings.Map(func(c rune) rune {
			if c < ' ' || c > '~' {
				return -1
			}
			return c
		}, text); header != "" {
			list = append(list, attack{what: "headers", path: filled("x"), headers: []string{"If-Match", header, "Idempotency-Key", header, "X-Request-Id", header, "Accept", header,
				"Accept-Encoding", header, "Prefer", header, "Range", header, "Last-Event-ID", header, "Origin", header, "X-Forwarded-For", header, "X-Novacron-Caller", header}})
		}
		if r.has {
			body, _ := jsonText(poison(r.body, text))
			list = append(list, attack{what: "fields", path: ownPath, body: body, headers: json}, attack{what: "a body", path: ownPath, body: text, headers: json})
		}
	}
	for n := range 4 {
		list = append(list, attack{what: "a rule", path: ownPath + requests[(turn*4+n)%len(requests)]})
	}
	if r.has {
		names := slices.Sorted(maps.Keys(documents))
		for n := range 8 {
			name := names[(turn*8+n)%len(names)]
			list = append(list, attack{what: name, path: ownPath, body: documents[name], headers: json})
		}
		list = append(list, attack{what: "ten megabytes", path: ownPath, body: `{"name":"` + strings.Repeat("a", 10<<20) + `"}`, headers: json},
			attack{what: "deep", path: ownPath, body: strings.Repeat(`{"a":[`, 20_000), headers: json}, attack{what: "no type", path: ownPath, body: "{}"})
	}
	return list
}

func jsonText(v any) (string, error) {
	raw, err := json.Marshal(v)
	return string(raw), err
}

// strike sends an attack and checks that the answer is orderly: a problem document, nothing of a server's own failure, nothing that a browser would run.
func (c *cloud) strike(as credential, method string, a attack) int {
	c.t.Helper()
	target, err := url.Parse(a.path)
	if err != nil {
		return 0 // nobody can send it
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(a.body))
	req.URL, req.RequestURI, req.RemoteAddr = target, a.path, "192.0.2.1:4711"
	if as.header != "" {
		req.Header.Set(as.header, as.value)
	}
	for i := 0; i < len(a.headers); i += 2 {
		req.Header.Set(a.headers[i], a.headers[i+1])
	}
	if method == http.MethodGet && strings.HasSuffix(target.Path, "/events") {
		req.Header.Set("Accept", "application/json") // a stream has no end
	}
	rec := httptest.NewRecorder()
	c.edge.ServeHTTP(rec, req)
	fail := func(why string) {
		c.t.Errorf("%s: %s %.200q with %s: %s: %d %.300s", as.name, method, a.path, a.what, why, rec.Code, rec.Body)
	}
	switch kind := rec.Header().Get("Content-Type"); {
	case ctx.Err() != nil:
		fail("no answer in time")
	case rec.Code == http.StatusServiceUnavailable && target.Path == "/ready": // it is true: nothing listens in this test
	case rec.Code >= 500:
		fail("a failure of the server's own")
	case rec.Code >= 400 && target.Path == "/auth/password/reset/form": // a page for people
	case rec.Code >= 400:
		var p errs.Problem
		if kind != "application/problem+json" || json.Unmarshal(rec.Body.Bytes(), &p) != nil || p.Code == "" || p.Status != rec.Code {
			fail("no problem document: " + kind)
		}
		fallthrough
	default:
		if strings.Contains(rec.Body.String(), "<script") && !strings.HasPrefix(target.Path, "/docs") {
			fail("a script comes back")
		}
	}
	for name, values := range rec.Header() {
		if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
			fail("a header is broken: " + name)
		}
	}
	return rec.Code
}

// Every route of every module is given what nobody should send, by somebody who may do much, who may do nothing, and who is nobody.
func TestEveryRouteTakesHostileInput(t *testing.T) {
	c := newCloud(t)
	texts := readJSON[[]string](t, "../../gateway/gatewaymodule/testdata/naughty-strings.json")
	texts = slices.DeleteFunc(texts, func(s string) bool { return s == "" })
	var requests []string
	for _, r := range readJSON[[]struct{ URI, Data string }](t, "../../gateway/gatewaymodule/testdata/crs-requests.json.gz") {
		_, query, _ := strings.Cut(r.URI, "?")
		requests = append(requests, "?"+query, "?"+r.Data)
	}
	documents := map[string]string{}
	for name, text := range readJSON[map[string]string](t, "testdata/json-parsing.json") {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		documents[name] = string(raw)
	}
	if len(texts) < 200 || len(requests) < 200 || len(documents) < 200 {
		t.Fatalf("only %d texts, %d requests, %d documents", len(texts), len(requests), len(documents))
	}
	file := filepath.Join(t.TempDir(), "image.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", file, "16M")
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mine, victim := c.populate("mine", nil, image), c.populate("victim", nil, image)
	// A key may do what it and its owner have in common, which is nothing here.
	helpless := c.must(mine.callers[0], http.MethodPost, "/api/v1/service-accounts", object{"name": mine.name + "-nobody", "role": "viewer"})
	key := c.must(mine.callers[0], http.MethodPost, "/api/v1/api-keys", object{"name": "nothing", "user_id": helpless.ID, "permissions": []string{"vm:delete"}})
	nobody := credential{"who may do nothing", "X-API-Key", key.Key}
	queries := map[string][]string{}
	var d document
	if err := json.Unmarshal(c.spec, &d); err != nil {
		t.Fatal(err)
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			for _, p := range op.Parameters {
				if p.In == "query" {
					name := strings.ToUpper(method) + " " + path
					queries[name] = append(queries[name], p.Name)
				}
			}
		}
	}
	before := c.rowsOf(victim)
	sent, refused := 0, 0
	for turn, r := range routes(t, c.spec) {
		public := strings.HasPrefix(r.path, "/auth/") || r.path == "/health" || r.path == "/ready" || strings.HasPrefix(r.path, "/api/v1/auth/")
		// Ids of another tenant: what is found by accident must not be one's own, which would change under the test.
		for _, a := range attacksOn(r, queries[r.String()], victim.ids, turn, texts, requests, documents) {
			sent++
			c.strike(mine.callers[0], r.method, a)
			if a.what == "ten megabytes" || a.what == "deep" {
				continue // once is enough
			}
			if status := c.strike(nobody, r.method, a); status == http.StatusForbidden {
				refused++
			}
			if status := c.strike(credential{name: "a stranger", header: "Authorization", value: "Bearer " + a.body}, r.method, a); status != 0 && status < 400 && !public && !openRoute(r) {
				t.Errorf("a stranger may %s: %d", r, status)
			}
		}
	}
	if after := c.rowsOf(victim); !maps.Equal(before, after) {
		for row := range after {
			if !before[row] {
				t.Errorf("changed to %.300s", row)
			}
		}
		for row := range before {
			if !after[row] {
				t.Errorf("gone: %.300s", row)
			}
		}
	}
	if sent < 2000 || refused < sent/4 {
		t.Errorf("only %d attacks, of which %d were refused for want of a permission", sent, refused)
	}
	// And it all works still.
	if m := c.must(victim.callers[0], http.MethodGet, "/api/v1/vms/"+victim.ids["vm"], nil); m.ID != victim.ids["vm"] {
		t.Errorf("got %+v", m)
	}
}

// openRoute tells whether a route is for everybody.
func openRoute(r route) bool {
	return strings.HasPrefix(r.path, "/.well-known/") || strings.HasPrefix(r.path, "/docs") || r.path == "/metrics" || strings.HasPrefix(r.path, "/api/v1/openapi") || r.path == "/api/v1/info"
}
