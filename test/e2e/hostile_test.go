package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hostile are what clients send that mean no good, or know no better.
type hostile struct {
	documents map[string][]byte // that a JSON parser must accept, refuse or survive
	texts     []string
	requests  []hostileRequest // of the OWASP Core Rule Set
}

type hostileRequest struct {
	Title, URI, Data string
	Headers          map[string]string
}

const testdata = "../../internal/gateway/gatewaymodule/testdata/"

func readHostile(t *testing.T) (h hostile) {
	t.Helper()
	read := func(file string, into any) {
		t.Helper()
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".gz") {
			zr, err := gzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if raw, err = io.ReadAll(zr); err != nil {
				t.Fatal(err)
			}
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	read("../../internal/vm/vmmodule/testdata/json-parsing.json", &h.documents)
	read(testdata+"naughty-strings.json", &h.texts)
	read(testdata+"crs-requests.json.gz", &h.requests)
	if len(h.documents) < 300 || len(h.texts) < 500 || len(h.requests) < 2000 {
		t.Fatalf("only %d documents, %d texts, %d requests", len(h.documents), len(h.texts), len(h.requests))
	}
	return h
}

// servedRoute is a route as the OpenAPI document of the running server tells it.
type servedRoute struct {
	method, path string
	queries      []string
	fields       []string // of the body; nil: it takes none
	streams      bool     // answers until the client leaves
	page         bool     // answers people, who read HTML
}

func servedRoutes(t *testing.T, c *client) (list []servedRoute) {
	t.Helper()
	type schema struct {
		Ref        string         `json:"$ref"`
		Properties map[string]any `json:"properties"`
	}
	type content map[string]struct {
		Schema schema `json:"schema"`
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters  []struct{ Name, In string }
			RequestBody struct{ Content content }
			Responses   map[string]struct{ Content content }
		}
		Components struct{ Schemas map[string]schema }
	}
	status, text, _ := c.do("GET", "/api/v1/openapi.json", "")
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != 200 {
		t.Fatalf("OpenAPI document: %d %v", status, err)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			r := servedRoute{method: strings.ToUpper(method), path: path}
			for _, p := range op.Parameters {
				if p.In == "query" {
					r.queries = append(r.queries, p.Name)
				}
			}
			if body, ok := op.RequestBody.Content["application/json"]; ok {
				s := body.Schema
				if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
					s = doc.Components.Schemas[name]
				}
				r.fields = []string{"unknown"}
				for name := range s.Properties {
					r.fields = append(r.fields, name)
				}
			}
			_, r.page = op.Responses["200"].Content["text/html"]
			_, r.streams = op.Responses["200"].Content["text/event-stream"]
			list = append(list, r)
		}
	}
	// What ends logins, or makes the server slow to log in, comes last.
	late := func(r servedRoute) int {
		switch {
		case strings.HasPrefix(r.path, "/auth/"):
			return 2
		case strings.HasPrefix(r.path, "/api/v1/me"):
			return 1
		}
		return 0
	}
	slices.SortFunc(list, func(a, b servedRoute) int {
		if d := late(a) - late(b); d != 0 {
			return d
		}
		return strings.Compare(a.path+a.method, b.path+b.method)
	})
	return list
}

// at is the path of a route with a text in its places and its query.
func (r servedRoute) at(text string) string {
	parts := strings.Split(r.path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, "{") {
			parts[i] = url.PathEscape(text)
		}
	}
	q := url.Values{}
	for _, name := range r.queries {
		q.Set(name, text)
	}
	path := strings.Join(parts, "/")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// attacker sends what is hostile and looks at what comes back.
type attacker struct {
	t    *testing.T
	c    *client
	key  string
	sent atomic.Int64
}

func (a *attacker) send(r servedRoute, what, path string, body []byte, header map[string]string) {
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, a.c.base+path, bytes.NewReader(body))
	if err != nil {
		return // no client could send it; the gateway's own tests write such requests by hand
	}
	for name, value := range header {
		req.Header.Set(name, strings.TrimSpace(value))
	}
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Authorization", "X-Api-Key", "Te", "Upgrade", "Trailer"} {
		req.Header.Del(name)
	}
	req.Header.Set("X-API-Key", a.key)
	resp, err := a.c.http.Do(req)
	if err != nil {
		if !strings.Contains(err.Error(), "invalid header field") && !strings.Contains(err.Error(), "invalid URL escape") {
			a.t.Errorf("%s %s, %s: %v", r.method, path, what, err)
		}
		return
	}
	defer resp.Body.Close()
	a.sent.Add(1)
	if r.streams && resp.StatusCode == http.StatusOK {
		return
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	kind := resp.Header.Get("Content-Type")
	switch {
	case err != nil:
		a.t.Errorf("%s %.200s, %s: %v", r.method, path, what, err)
	case resp.StatusCode == http.StatusInternalServerError || resp.StatusCode == http.StatusBadGateway:
		a.t.Errorf("%s %.300s, %s: %d %.300s", r.method, path, what, resp.StatusCode, text)
	case resp.StatusCode >= 400 && kind != "application/problem+json" && resp.Header.Get("Api-Version") != "" && !r.page && r.path != "/metrics":
		// What is no HTTP the listener answers by itself, without a version. /metrics bounds in its own words how many ask at once.
		a.t.Errorf("%s %.200s, %s: %d as %q", r.method, path, what, resp.StatusCode, kind)
	case bytes.Contains(text, []byte("<script>")) && strings.HasPrefix(kind, "text/html"):
		a.t.Errorf("%s %.200s, %s: a script comes back in a page: %.300s", r.method, path, what, text)
	}
	for name, values := range resp.Header {
		if strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
			a.t.Errorf("%s %.200s, %s sets the header %s: %q", r.method, path, what, name, values)
		}
	}
}

// TestHostileRequestsOnEveryRoute sends the JSON parsing set, the naughty strings and the requests of the Core Rule Set to every route that the
// built binary serves. Each route gets a part of them, which goes round, so that each is sent somewhere; in long runs all of
// them go to every route.
func TestHostileRequestsOnEveryRoute(t *testing.T) {
	h := readHostile(t)
	address := freeAddress(t)
	p := newProcess(t, "modules: [all]\nhttp: {listen: "+address+"}\nvm: {roles: [controller]}\n"+
		"gateway: {timeout: 10s, rate_limit: {user: unlimited, tenant: unlimited, address: unlimited}, routes: [{path: /auth/*, rate_limit: unlimited}, {path: /api/vms/*, rate_limit: unlimited}]}\n")
	p.start()
	c := newClient(t, "http://"+address, nil)
	c.until("the server is up", func() bool { status, _, _ := c.do("GET", "/ready", ""); return status == 200 })
	c.login(p)
	status, text, _ := c.do("POST", "/api/v1/api-keys", `{"name":"attacker"}`)
	var made struct{ Key string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != 201 {
		t.Fatalf("key: %d %s", status, text)
	}
	a := &attacker{t: t, c: c, key: made.Key}
	routes := servedRoutes(t, c)
	if len(routes) < 150 {
		t.Fatalf("only %d routes", len(routes))
	}
	share := 40
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		share = 1
	}
	work := make(chan func())
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			for do := range work {
				do()
			}
		})
	}
	began, names := time.Now(), make([]string, 0, len(h.documents))
	for name := range h.documents {
		names = append(names, name)
	}
	slices.Sort(names)
	for turn, r := range routes {
		asJSON := map[string]string{"Content-Type": "application/json"}
		for i := turn % share; i < len(names) && r.fields != nil; i += share {
			work <- func() { a.send(r, names[i], r.at("x"), h.documents[names[i]], asJSON) }
		}
		for i := turn % share; i < len(h.texts); i += share {
			text := h.texts[i]
			work <- func() {
				var body []byte
				if r.fields != nil {
					all := map[string]any{}
					for _, name := range r.fields {
						all[name] = text
					}
					body, _ = json.Marshal(all) // strings only
				}
				a.send(r, fmt.Sprintf("text %q", text), r.at(text), body, asJSON)
			}
		}
		for i := turn % share; i < len(h.requests); i += share {
			q := h.requests[i]
			_, query, _ := strings.Cut(q.URI, "?")
			path, _, _ := strings.Cut(r.at("x"), "?")
			work <- func() { a.send(r, q.Title, path+"?"+query, []byte(q.Data), q.Headers) }
		}
	}
	close(work)
	busy.Wait()
	t.Logf("%d requests on %d routes in %s", a.sent.Load(), len(routes), time.Since(began).Round(time.Second))
	if status, text, _ := c.do("GET", "/health", ""); status != 200 {
		t.Errorf("the server afterwards: %d %s", status, text)
	}
	for _, line := range strings.Split(p.log.String(), "\n") {
		if strings.Contains(line, "panic") {
			t.Errorf("in the log: %.500s", line)
		}
	}
}
