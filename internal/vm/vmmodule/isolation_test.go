package vmmodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// kinds names the kind of object that each path of the OpenAPI document leads to, up to and with each of its parameters. A route with a new
// parameter fails the test until its kind is named here and made by populate. "" is for what is no object of anybody.
func kinds() map[string]string {
	return map[string]string{
		"/api/v1/api-keys/{id}": "api-key", "/api/v1/audit/records/{id}": "audit-record", "/api/v1/images/{id}": "image",
		"/api/v1/me/sessions/{id}": "session", "/api/v1/networks/{id}": "network", "/api/v1/nodes/{id}": "node", "/api/v1/operations/{id}": "operation",
		"/api/v1/port-forwards/{id}": "port-forward", "/api/v1/role-bindings/{id}": "role-binding", "/api/v1/roles/{id}": "role",
		"/api/v1/security-groups/{id}": "security-group", "/api/v1/security-groups/{id}/rules/{rule_id}": "rule",
		"/api/v1/service-accounts/{id}": "service-account", "/api/v1/storage-pools/{id}": "storage-pool", "/api/v1/tenants/{id}": "tenant",
		"/api/v1/users/{id}": "user", "/api/v1/users/{id}/sessions/{session_id}": "session", "/api/v1/vms/{id}": "vm",
		"/api/v1/vms/{id}/disks/{disk}": "volume", "/api/v1/vms/{id}/interfaces/{interface_id}": "interface", "/api/v1/vms/{id}/snapshots/{sid}": "snapshot",
		"/api/v1/volumes/{id}": "volume", "/docs/{file}": "", "/api/v1/webhooks/{id}": "webhook", "/api/v1/webhooks/{id}/deliveries/{delivery_id}": "delivery", "/api/v1/flavors/{id}": "", "/api/v1/ssh-keys/{id}": "ssh-key", "/api/v1/templates/{id}": "template",
	}
}

// fields names the kind of object that a query parameter or a field of a body refers to. "" is what no tenant owns: a node
// runs machines of all.
func fields() map[string]string {
	return map[string]string{
		"api_key_id": "api-key", "tenant_id": "tenant", "parent_id": "tenant", "user_id": "user", "owner_id": "user", "principal_id": "user", "role_id": "role", "target_id": "vm",
		"vm_id": "vm", "snapshot_id": "snapshot", "image_id": "image", "network_id": "network", "volume_id": "volume", "interface_id": "interface", "node_id": "",
		"cdrom_image_id": "image", "kernel_image_id": "image", "initrd_image_id": "image",
		"remote_group_id": "security-group", "security_groups": "security-group", "request_id": "", "operation_id": "", "template_id": "template", "object_ids": "vm", "object_id": "volume",
	}
}

// bodies has what a body needs besides the fields that its schema requires, so that a request is refused for its ids and nothing else.
func bodies() map[string]object {
	size := object{"size_gib": 2}
	return map[string]object{
		"POST /api/v1/vms":                                 {"resources": object{"vcpus": 1, "memory_mib": 128, "disk_gib": 1}},
		"POST /api/v1/volumes":                             size,
		"POST /api/v1/volumes/{id}/resize":                 size,
		"POST /api/v1/vms/{id}/disks/{disk}/resize":        size,
		"PATCH /api/v1/images/{id}":                        {"name": "other"},
		"PATCH /api/v1/volumes/{id}":                       {"name": "other"},
		"PATCH /api/v1/webhooks/{id}":                      {"name": "other"},
		"PATCH /api/v1/templates/{id}":                     {"name": "other"},
		"PATCH /api/v1/networks/{id}":                      {"name": "other"},
		"PATCH /api/v1/security-groups/{id}":               {"name": "other"},
		"PATCH /api/v1/tenants/{id}":                       {"name": "other"},
		"PATCH /api/v1/api-keys/{id}":                      {"name": "other"},
		"PATCH /api/v1/roles/{id}":                         {"description": "other"},
		"PATCH /api/v1/service-accounts/{id}":              {"description": "other"},
		"PATCH /api/v1/users/{id}":                         {"email": "other@example.org"},
		"POST /api/v1/roles":                               {"permissions": []string{"vm:read"}},
		"POST /api/v1/role-bindings":                       {"role": "user"},
		"POST /api/v1/users/{id}/password":                 {"password": "another good password"},
		"PATCH /api/v1/vms/{id}/interfaces/{interface_id}": {"link": "up"},
	}
}

// jsonSchema is the part of JSON schema that ids hide in.
type jsonSchema struct {
	Ref        string                `json:"$ref"`
	Format     string                `json:"format"`
	Type       any                   `json:"type"`
	Enum       []any                 `json:"enum"`
	Examples   []any                 `json:"examples"`
	Required   []string              `json:"required"`
	Properties map[string]jsonSchema `json:"properties"`
	Items      *jsonSchema           `json:"items"`
}

// slot is one place of a request that takes an id.
type slot struct {
	in, name, kind string
	path           []string // of a field in the body; "" is an element of a list
}

// route is one operation of the document.
type route struct {
	method, path string
	slots        []slot
	body         object
	has          bool // a JSON body
}

func (r route) String() string { return r.method + " " + r.path }

type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name, In string
			Schema   jsonSchema
		}
		RequestBody *struct {
			Content map[string]struct{ Schema jsonSchema }
		} `json:"requestBody"`
	}
	Components struct{ Schemas map[string]jsonSchema }
}

func (d document) resolve(s jsonSchema) jsonSchema {
	if s.Ref != "" {
		return d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	return s
}

func holdsID(name string, s jsonSchema) bool {
	return s.Format == "uuid" || s.Items != nil && s.Items.Format == "uuid" || strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_ids")
}

// bodySlots finds the ids below a schema.
func (d document) bodySlots(s jsonSchema, at []string, add func(name string, path []string)) {
	for name, p := range d.resolve(s).Properties {
		path := append(slices.Clone(at), name)
		if p = d.resolve(p); p.Items != nil {
			path = append(path, "")
			if holdsID(name, p) {
				add(name, path)
			}
			d.bodySlots(*p.Items, path, add)
		} else if holdsID(name, p) {
			add(name, path)
		} else if len(path) < 8 {
			d.bodySlots(p, path, add)
		}
	}
}

// value makes the smallest value that the schema takes.
func (d document) value(s jsonSchema) any {
	s = d.resolve(s)
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Properties != nil:
		o := object{}
		for _, name := range s.Required {
			o[name] = d.value(s.Properties[name])
		}
		return o
	}
	return map[string]any{"integer": 1, "boolean": true, "string": "other", "array": []any{}, "object": object{}}[fmt.Sprint(s.Type)]
}

// routes reads the document. What it does not know how to attack is an error.
func routes(t *testing.T, spec []byte) (list []route) {
	t.Helper()
	var d document
	if err := json.Unmarshal(spec, &d); err != nil {
		t.Fatal(err)
	}
	known, ids, parameter := kinds(), fields(), regexp.MustCompile(`\{[^}]+\}`)
	field := func(r *route, in, name string, path []string) {
		kind, ok := ids[name]
		if !ok {
			t.Errorf("%s: %s %q takes an id of a kind that the test does not know: name it in fields, make one in populate", r, in, name)
		}
		if kind != "" {
			r.slots = append(r.slots, slot{in: in, name: name, kind: kind, path: path})
		}
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			r := route{method: strings.ToUpper(method), path: path, slots: []slot{{in: "header", name: "X-Tenant-ID", kind: "tenant"}}}
			for _, at := range parameter.FindAllStringIndex(path, -1) {
				kind, ok := known[path[:at[1]]]
				if !ok {
					t.Errorf("%s leads to a kind of object that the test does not know: name it in kinds, make one in populate", path[:at[1]])
				}
				if kind != "" {
					r.slots = append(r.slots, slot{in: "path", name: path[at[0]:at[1]], kind: kind})
				}
			}
			for _, p := range op.Parameters {
				if p.In == "query" && holdsID(p.Name, p.Schema) {
					field(&r, "query", p.Name, nil)
				}
			}
			if op.RequestBody != nil {
				if content, ok := op.RequestBody.Content["application/json"]; ok {
					r.has = true
					r.body, _ = d.value(content.Schema).(object)
					maps.Copy(r.body, bodies()[r.String()])
					d.bodySlots(content.Schema, nil, func(name string, path []string) { field(&r, "body", name, path) })
				}
			}
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b route) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// put sets a field of a body, and makes the objects and lists on the way.
func put(at any, path []string, id string) any {
	if len(path) == 0 {
		return id
	}
	if path[0] == "" {
		list, _ := at.([]any)
		var first any
		if len(list) > 0 {
			first = list[0]
		}
		return []any{put(first, path[1:], id)}
	}
	o, _ := at.(object)
	if o = maps.Clone(o); o == nil {
		o = object{}
		if path[0] == "remote_group_id" {
			o["direction"] = "ingress"
		}
	}
	o[path[0]] = put(o[path[0]], path[1:], id)
	return o
}

// ask sends the route with ids of one's own, but for the slots that are given others'.
func (c *cloud) ask(as credential, own *party, r route, others map[int]string) *httptest.ResponseRecorder {
	path, query, headers := r.path, "", []string(nil)
	var body any
	if r.has {
		body = r.body
	}
	for i, s := range r.slots {
		id, other := others[i]
		_, required := r.body[s.name]
		switch {
		case s.in == "path":
			if !other {
				id = own.ids[s.kind]
			}
			path = strings.Replace(path, s.name, id, 1)
		case s.in == "body" && (other || required && len(s.path) == 1):
			if !other {
				id = own.ids[s.kind]
			}
			body = put(body, s.path, id)
		case s.in == "query" && other:
			query += "&" + s.name + "=" + id
		case s.in == "header" && other:
			headers = append(headers, s.name, id)
		}
	}
	if query != "" {
		path += "?" + query[1:]
	}
	if path == "/api/v1/events" || strings.HasPrefix(path, "/api/v1/events?") { // a page, because a stream has no end
		headers = append(headers, "Accept", "application/json")
	}
	return c.send(as, r.method, path, body, headers...)
}

// volatile is what differs from one answer to the next, whoever asks; a weak ETag and a length are those of a body
// which is compared itself.
var volatile = regexp.MustCompile(`(?i)[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|dur=[0-9.e-]+|Content-Length \[\d+\]|W/"[0-9a-f]+"|"next_cursor":"\d+"|\d{4}-\d\d-\d\dT[0-9:.]+Z`)

// plain is an answer without ids and times.
func plain(rec *httptest.ResponseRecorder) string {
	headers := ""
	for _, name := range slices.Sorted(maps.Keys(rec.Header())) {
		headers += fmt.Sprintln(name, rec.Header()[name])
	}
	return volatile.ReplaceAllString(fmt.Sprintln(rec.Code)+headers+rec.Body.String(), "<>")
}

// leak names what of the victim is in the answer without having been in the question.
func leak(rec *httptest.ResponseRecorder, own, victim *party, asked map[int]string, trail bool) string {
	text := strings.ToLower(fmt.Sprint(rec.Header()) + rec.Body.String())
	if strings.Contains(text, victim.name) {
		return "the name " + victim.name
	}
	if strings.Contains(rec.Body.String(), victim.key) {
		return "the API key"
	}
	for kind, id := range victim.ids {
		switch {
		case kind == "node" || kind == "storage-pool": // not the victim's
		case kind == "tenant" && own.parent == victim: // a project knows its organisation
		case trail: // one's own trail names what one has asked for
		case strings.Contains(text, id) && !slices.Contains(slices.Collect(maps.Values(asked)), id):
			return "the id of the " + kind
		}
	}
	return ""
}

type reporter interface{ Errorf(string, ...any) }

// probe asks with the victim's ids and with ids of nothing in some slots, and compares.
func (c *cloud) probe(t reporter, as credential, own, victim *party, r route, slots []int) string {
	if own.parent == victim && (r.String() == "POST /api/v1/role-bindings" || r.String() == "GET /api/v1/tenants") {
		return "" // a project may bind accounts of its organisation, and knows whose project it is
	}
	foreign, absent, path := map[int]string{}, map[int]string{}, false
	for _, i := range slots {
		path = path || r.slots[i].in == "path"
		foreign[i], absent[i] = victim.ids[r.slots[i].kind], uuid.Must(uuid.NewV7()).String()
	}
	a, b := c.ask(as, own, r, foreign), c.ask(as, own, r, absent)
	if x, y := plain(a), plain(b); x != y {
		t.Errorf("%s of %s tells foreign from absent in %v:\n%s\n%s", as.name, r, slots, x, y)
	}
	if found := leak(a, own, victim, foreign, strings.HasPrefix(r.path, "/api/v1/audit/")); found != "" {
		t.Errorf("%s of %s was shown %s: %s", as.name, r, found, a.Body)
	}
	if path && a.Code < 400 {
		t.Errorf("%s may %s with another tenant's id: %d %s", as.name, r, a.Code, a.Body)
	}
	var p errs.Problem
	_ = json.Unmarshal(a.Body.Bytes(), &p)
	return fmt.Sprint(a.Code, " ", p.Code)
}

// TestTenantsAreIsolated walks the whole OpenAPI document as people of one tenant with the ids of another.
func TestTenantsAreIsolated(t *testing.T) {
	c := newCloud(t)
	list := routes(t, c.spec)
	file := filepath.Join(t.TempDir(), "image.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", file, "16M")
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blue, red := c.populate("blue", nil, image), c.populate("red", nil, image)
	teal := c.populate("teal", blue, image) // a project of blue
	for _, kinds := range []map[string]string{kinds(), fields()} {
		for at, kind := range kinds {
			if kind != "" && blue.ids[kind] == "" {
				t.Errorf("populate makes no %s, which %s leads to", kind, at)
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	type attacker struct {
		credential
		own, victim *party
	}
	var attackers []attacker
	for _, caller := range red.callers {
		attackers = append(attackers, attacker{caller, red, blue})
	}
	attackers = append(attackers, attacker{teal.callers[0], teal, blue}, attacker{red.callers[0], red, teal})

	t.Run("nothing of another tenant is shown", func(t *testing.T) {
		for _, a := range attackers {
			for _, r := range list {
				if r.method != http.MethodGet || strings.HasSuffix(r.path, "/{id}/events") || strings.HasSuffix(r.path, "/ws") {
					continue
				}
				rec := c.ask(a.credential, a.own, r, nil)
				if found := leak(rec, a.own, a.victim, nil, false); found != "" {
					t.Errorf("%s of %s was shown %s: %s", a.name, r, found, rec.Body)
				}
			}
		}
	})

	before := map[*party]map[string]bool{}
	for _, p := range []*party{blue, red, teal} {
		before[p] = c.rowsOf(p)
		if len(before[p]) < 20 {
			t.Fatalf("only %d rows of %s", len(before[p]), p.name)
		}
	}
	t.Run("foreign and absent are the same", func(t *testing.T) {
		reached := 0
		for _, a := range attackers {
			for _, r := range list {
				for i, s := range r.slots {
					if s.in == "header" && a.credential != red.callers[0] {
						continue // the gateway judges it before the route; rapid draws the others
					}
					answer := c.probe(t, a.credential, a.own, a.victim, r, []int{i})
					if s.in != "path" || a.credential != red.callers[0] {
						continue
					}
					reached++
					if !strings.HasPrefix(answer, "404 ") && !strings.HasPrefix(answer, "403 ") && !strings.HasPrefix(answer, "401 ") {
						t.Errorf("%s was refused as %s before the id in %s was judged: give it a valid body in bodies", r, answer, s.name)
					}
				}
			}
		}
		if reached < 60 {
			t.Errorf("only %d ids of paths were tried", reached)
		}
	})
	t.Run("in any order and combination", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			a, r := rapid.SampledFrom(attackers).Draw(rt, "attacker"), rapid.SampledFrom(list).Draw(rt, "route")
			var slots []int
			for i := range r.slots {
				if rapid.Bool().Draw(rt, r.slots[i].name) {
					slots = append(slots, i)
				}
			}
			if len(slots) > 0 {
				c.probe(rt, a.credential, a.own, a.victim, r, slots)
			}
		})
	})
	t.Run("nothing of another tenant was changed", func(t *testing.T) {
		after := c.rowsOf(blue)
		for row := range before[blue] {
			if !after[row] {
				t.Errorf("gone or changed: %s", row)
			}
		}
		for row := range after {
			if !before[blue][row] {
				t.Errorf("new: %s", row)
			}
		}
	})
	t.Run("in the same time", func(t *testing.T) {
		for _, r := range list {
			if r.method == http.MethodGet && len(r.slots) == 2 && r.slots[1].in == "path" {
				c.sameTime(t, red, blue, r)
			}
		}
	})
}

// sameTime compares the medians of 200 requests of each kind, one after the other; a busy machine gets three tries.
func (c *cloud) sameTime(t *testing.T, own, victim *party, r route) {
	t.Helper()
	const n = 200
	var medians [2]time.Duration
	for range 3 {
		var took [2][]time.Duration
		for i := range 2 * n {
			id := victim.ids[r.slots[1].kind]
			if i%2 == 1 {
				id = uuid.Must(uuid.NewV7()).String()
			}
			begin := time.Now()
			c.ask(own.callers[0], own, r, map[int]string{1: id})
			took[i%2] = append(took[i%2], time.Since(begin))
		}
		for i := range took {
			slices.Sort(took[i])
			medians[i] = took[i][n/2]
		}
		if slow, quick := max(medians[0], medians[1]), min(medians[0], medians[1]); slow < quick*3/2+200*time.Microsecond {
			return
		}
	}
	t.Errorf("%s takes %s for another tenant's and %s for nothing", r, medians[0], medians[1])
}
