package vmmodule

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

func TestLifeOfAVirtualMachine(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	created := w.create("web-1", image.ID)
	if created.Status != "succeeded" || created.Progress != 100 {
		t.Fatalf("create ended as %+v", created)
	}
	id := created.TargetID
	want := func(state vm.State, desired vm.Desired) {
		t.Helper()
		if m := w.get(id); m.State != state || m.DesiredState != desired || m.OperationID != nil || m.Error != nil {
			t.Errorf("is %s, wanted %s, held by %v, error %v; want %s and %s", m.State, m.DesiredState, m.OperationID, m.Error, state, desired)
		}
	}
	want(vm.StateRunning, vm.DesiredRunning)
	for _, step := range []struct {
		verb    string
		body    any
		state   vm.State
		desired vm.Desired
	}{
		{"start", nil, vm.StateRunning, vm.DesiredRunning},
		{"pause", nil, vm.StatePaused, vm.DesiredPaused},
		{"resume", nil, vm.StateRunning, vm.DesiredRunning},
		{"reset", nil, vm.StateRunning, vm.DesiredRunning},
		{"restart", nil, vm.StateRunning, vm.DesiredRunning},
		{"stop", nil, vm.StateStopped, vm.DesiredStopped},
		{"stop", nil, vm.StateStopped, vm.DesiredStopped},
		{"start", nil, vm.StateRunning, vm.DesiredRunning},
		{"stop", map[string]any{"force": true}, vm.StateStopped, vm.DesiredStopped},
	} {
		if done := w.act(id, step.verb, step.body); done.Status != "succeeded" {
			t.Fatalf("%s ended as %+v", step.verb, done)
		}
		want(step.state, step.desired)
	}
	for _, verb := range []string{"pause", "resume", "restart", "reset"} {
		p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms/"+id.String()+"/"+verb, nil), http.StatusConflict)
		if p.Code != "vm.wrong_state" {
			t.Errorf("%s of a stopped one: %s", verb, p.Code)
		}
	}
	gone := decode[op](t, w.do(http.MethodDelete, "/api/v1/vms/"+id.String()+"?wait=60s", nil), http.StatusOK)
	if gone.Status != "succeeded" {
		t.Fatalf("delete ended as %+v", gone)
	}
	decode[errs.Problem](t, w.do(http.MethodGet, "/api/v1/vms/"+id.String(), nil), http.StatusNotFound)
	w.nothingLeft()

	var told []string
	for deadline := time.After(30 * time.Second); !slices.Contains(told, "deleted"); {
		select {
		case e := <-w.events:
			if e.Type != "updated" { // addresses come when they come
				told = append(told, e.Type)
			}
		case <-deadline:
			t.Fatalf("events so far: %v", told)
		}
	}
	// The reset is not seen as a change of state, and a restart is seen as a stop and a start.
	if got := strings.Join(told, " "); got != "created started paused resumed stopped started stopped started stopped deleted" {
		t.Errorf("events: %s", got)
	}
}

// Every point of the creation fails in turn; nothing may be left and the name must be free again.
func TestCreateFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	w.succeeds(http.MethodDelete, w.vmPath(w.create("warm-up", image.ID).TargetID), nil) // image and network are there
	broken := errs.New(errs.Conflict, "test.broken", "it is broken")
	for _, step := range []string{"place", "image", "network", "disk", "seed", "define", "start"} {
		for _, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				w.failing(func(kind, s, at string) error {
					if kind == "vm.create" && s == step && at == when {
						return broken
					}
					return nil
				})
				failed := w.create("web-1", image.ID)
				if failed.Status != "failed" || failed.Error == nil || failed.Error.Code != "test.broken" || failed.Error.Step != step {
					t.Errorf("ended as %+v", failed)
				}
				w.nothingLeft()
			})
		}
	}
	w.failing(nil)
	if done := w.create("web-1", image.ID); done.Status != "succeeded" {
		t.Errorf("the name is not free: %+v", done)
	}
}

// Every point of the deletion fails a few times; it must be tried until nothing is left.
func TestDeleteFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	for _, step := range []string{"remove", "volumes", "snapshots", "release"} {
		for _, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				w.failing(nil)
				made := w.create("web-1", image.ID)
				failures := 2
				w.failing(func(kind, s, at string) error {
					if kind == "vm.delete" && s == step && at == when && failures > 0 {
						failures--
						return errs.New(errs.Internal, "test.broken", "it is broken")
					}
					return nil
				})
				gone := decode[op](t, w.do(http.MethodDelete, "/api/v1/vms/"+made.TargetID.String()+"?wait=60s", nil), http.StatusOK)
				if gone.Status != "succeeded" || failures != 0 {
					t.Errorf("ended as %+v with %d failures to come", gone, failures)
				}
				w.nothingLeft()
			})
		}
	}
}

// A deletion comes while a creation is at each of its steps.
func TestDeleteSupersedesCreateAtEveryStep(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	for _, step := range []string{"place", "image", "network", "disk", "seed", "define", "start"} {
		t.Run(step, func(t *testing.T) {
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.failing(func(kind, s, at string) error {
				if kind == "vm.create" && s == step && at == "before do" {
					once.Do(func() { close(reached) })
					<-goOn
				}
				return nil
			})
			begun := decode[op](t, w.do(http.MethodPost, "/api/v1/vms", createRequest("web-1", image.ID)), http.StatusAccepted)
			<-reached
			gone := decode[op](t, w.do(http.MethodDelete, "/api/v1/vms/"+begun.TargetID.String(), nil), http.StatusAccepted)
			close(goOn)
			gone = decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+gone.ID.String()+"?wait=60s", nil), http.StatusOK)
			first := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), http.StatusOK)
			if gone.Status != "succeeded" || first.Status != "canceled" || first.Error.Code != "operation.superseded" {
				t.Errorf("delete ended as %s, create as %s %v", gone.Status, first.Status, first.Error)
			}
			w.nothingLeft()
		})
	}
}

func TestCancelUndoesACreation(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	reached, goOn := make(chan struct{}), make(chan struct{})
	w.failing(func(kind, s, at string) error {
		if kind == "vm.create" && s == "define" && at == "after do" {
			close(reached)
			<-goOn
		}
		return nil
	})
	begun := decode[op](t, w.do(http.MethodPost, "/api/v1/vms", createRequest("web-1", image.ID)), http.StatusAccepted)
	<-reached
	decode[op](t, w.do(http.MethodPost, "/api/v1/operations/"+begun.ID.String()+"/cancel", nil), http.StatusAccepted)
	close(goOn)
	ended := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), http.StatusOK)
	if ended.Status != "canceled" || ended.Error.Code != "operation.canceled" {
		t.Errorf("ended as %+v", ended)
	}
	w.nothingLeft()
}

// Opposing intents come in random order; the newest wins and nothing sticks.
func TestNewestIntentWins(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	id := w.create("web-1", image.ID).TargetID
	for range 10 {
		var last string
		var lastOp op
		for range 4 {
			last = []string{"start", "stop"}[random.IntN(2)]
			lastOp = decode[op](t, w.do(http.MethodPost, "/api/v1/vms/"+id.String()+"/"+last, nil), http.StatusAccepted)
		}
		lastOp = decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+lastOp.ID.String()+"?wait=60s", nil), http.StatusOK)
		want := vm.StateRunning
		if last == "stop" {
			want = vm.StateStopped
		}
		m := w.get(id)
		if lastOp.Status != "succeeded" || m.State != want || m.OperationID != nil {
			t.Fatalf("after %s: operation %s, state %s, held by %v", last, lastOp.Status, m.State, m.OperationID)
		}
	}
}

// What happens behind NovaCron's back is seen and shown.
func TestChangesFromOutsideAreSeen(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	if err := w.driver.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.eventually("it shows as stopped", func() bool { return w.get(id).State == vm.StateStopped })
	if m := w.get(id); m.DesiredState != vm.DesiredStopped {
		t.Errorf("desired is %s", m.DesiredState)
	}
	if err := w.driver.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.eventually("it shows as running", func() bool { return w.get(id).State == vm.StateRunning })
}

func TestForeignObjectsAreAbsent(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	made := w.create("web-1", image.ID)
	m := w.get(made.TargetID)
	stranger := principal("*")
	for _, path := range []string{
		"GET /api/v1/vms/" + m.ID.String(), "DELETE /api/v1/vms/" + m.ID.String(), "POST /api/v1/vms/" + m.ID.String() + "/stop",
		"GET /api/v1/vms/" + m.ID.String() + "/console/log", "GET /api/v1/images/" + image.ID.String(), "DELETE /api/v1/images/" + image.ID.String(),
		"GET /api/v1/networks/" + m.Networks[0].NetworkID.String(), "DELETE /api/v1/networks/" + m.Networks[0].NetworkID.String(),
		"GET /api/v1/operations/" + made.ID.String(), "POST /api/v1/operations/" + made.ID.String() + "/cancel", "GET /api/v1/operations/" + made.ID.String() + "/events",
	} {
		method, path, _ := strings.Cut(path, " ")
		foreign := decode[errs.Problem](t, w.doAs(stranger, method, path, nil), http.StatusNotFound)
		absent := decode[errs.Problem](t, w.doAs(stranger, method, replaceID(path), nil), http.StatusNotFound)
		if foreign.Code != absent.Code || foreign.Detail != absent.Detail {
			t.Errorf("%s %s: foreign answers %+v, absent %+v", method, path, foreign, absent)
		}
	}
	body := createRequest("mine", image.ID)
	if p := decode[errs.Problem](t, w.doAs(stranger, http.MethodPost, "/api/v1/vms", body), http.StatusNotFound); p.Code != "image.not_found" {
		t.Errorf("foreign image: %s", p.Code)
	}
	if list := decode[struct{ Items []vm.VM }](t, w.doAs(stranger, http.MethodGet, "/api/v1/vms", nil), http.StatusOK); len(list.Items) != 0 {
		t.Errorf("a stranger lists %+v", list.Items)
	}
	decode[errs.Problem](t, w.doAs(stranger, http.MethodGet, "/api/v1/vms?tenant_id=all", nil), http.StatusForbidden)
	if w.get(m.ID).State != vm.StateRunning {
		t.Error("a stranger changed it")
	}
}

// replaceID puts an id that nothing has in the place of the one in the path.
func replaceID(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if _, err := uuid.Parse(part); err == nil {
			parts[i] = uuid.NewString()
		}
	}
	return strings.Join(parts, "/")
}

func TestBadInputChangesNothing(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	w.create("taken", image.ID)
	with := func(change func(map[string]any)) map[string]any {
		body := createRequest("web-1", image.ID)
		change(body)
		return body
	}
	size := func(key string, value any) map[string]any {
		return with(func(b map[string]any) { b["resources"].(map[string]any)[key] = value })
	}
	for name, test := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"malformed JSON":     {`{"name": `, 400, "request.malformed"},
		"no JSON":            {`name=web-1`, 400, "request.malformed"},
		"an array":           {`[]`, 422, "request.invalid"},
		"unknown field":      {with(func(b map[string]any) { b["colour"] = "red" }), 422, "request.invalid"},
		"wrong type":         {with(func(b map[string]any) { b["name"] = 7 }), 422, "request.invalid"},
		"no name":            {with(func(b map[string]any) { delete(b, "name") }), 422, "request.invalid"},
		"empty name":         {with(func(b map[string]any) { b["name"] = "" }), 422, "request.invalid"},
		"name with a slash":  {with(func(b map[string]any) { b["name"] = "../x" }), 422, "request.invalid"},
		"name in capitals":   {with(func(b map[string]any) { b["name"] = "Web" }), 422, "request.invalid"},
		"long name":          {with(func(b map[string]any) { b["name"] = strings.Repeat("a", 64) }), 422, "request.invalid"},
		"XML in the name":    {with(func(b map[string]any) { b["name"] = "<x>&</x>" }), 422, "request.invalid"},
		"NUL in user data":   {with(func(b map[string]any) { b["user_data"] = "a\x00b" }), 422, "request.invalid"},
		"bad cloud-config":   {with(func(b map[string]any) { b["user_data"] = "#cloud-config\na: [" }), 422, "vm.invalid"},
		"zero vcpus":         {size("vcpus", 0), 422, "request.invalid"},
		"negative memory":    {size("memory_mib", -1), 422, "request.invalid"},
		"fractional vcpus":   {size("vcpus", 1.5), 422, "request.invalid"},
		"enormous memory":    {size("memory_mib", int64(1)<<60), 422, "request.invalid"},
		"enormous disk":      {size("disk_gib", int64(1)<<60), 422, "request.invalid"},
		"beyond the node":    {size("vcpus", 1024), 409, "scheduler.no_fit"},
		"no size at all":     {with(func(b map[string]any) { delete(b, "resources") }), 422, "vm.invalid"},
		"unknown flavor":     {with(func(b map[string]any) { b["flavor"] = "gigantic" }), 422, "vm.invalid"},
		"unknown image":      {with(func(b map[string]any) { b["image_id"] = uuid.New() }), 404, "image.not_found"},
		"image is no uuid":   {with(func(b map[string]any) { b["image_id"] = "x" }), 422, "request.invalid"},
		"unknown network":    {with(func(b map[string]any) { b["networks"] = []any{map[string]any{"network_id": uuid.New()}} }), 404, "network.not_found"},
		"unknown hypervisor": {with(func(b map[string]any) { b["hypervisor_type"] = "xen" }), 422, "request.invalid"},
		"duplicate name":     {createRequest("taken", image.ID), 409, "vm.name_taken"},
		"ten megabytes":      {`{"name": "` + strings.Repeat("a", 10<<20) + `"}`, 413, "request.too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", test.body), test.status)
			if p.Code != test.code || p.Status != test.status || p.Title == "" {
				t.Errorf("got %+v, want code %s", p, test.code)
			}
			for _, f := range p.Errors {
				if len(f.Value) > 64 {
					t.Errorf("value of %s has %d bytes", f.Location, len(f.Value))
				}
			}
		})
	}
	if p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", "x", "Content-Type", "text/html"), 415); p.Code != "request.unsupported_media_type" {
		t.Errorf("wrong content type: %s", p.Code)
	}
	if list := decode[struct{ Items []vm.VM }](t, w.do(http.MethodGet, "/api/v1/vms", nil), http.StatusOK); len(list.Items) != 1 {
		t.Errorf("%d virtual machines, want the one from before", len(list.Items))
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	body := createRequest("web-1", image.ID)
	first := w.do(http.MethodPost, "/api/v1/vms", body, "Idempotency-Key", "k1")
	one := decode[op](t, first, http.StatusAccepted)
	again := decode[op](t, w.do(http.MethodPost, "/api/v1/vms", body, "Idempotency-Key", "k1"), http.StatusAccepted)
	if one.ID != again.ID {
		t.Errorf("the same key began %s and %s", one.ID, again.ID)
	}
	other := createRequest("web-2", image.ID)
	if p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/vms", other, "Idempotency-Key", "k1"), http.StatusConflict); p.Code != "idempotency.mismatch" {
		t.Errorf("another body: %s", p.Code)
	}
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	for i := range 5 {
		body := createRequest(fmt.Sprintf("web-%d", i), image.ID)
		body["start"] = false
		decode[op](t, w.do(http.MethodPost, "/api/v1/vms?wait=60s", body), http.StatusOK)
	}
	var names []string
	for cursor := ""; ; {
		page := decode[struct {
			Items      []vm.VM
			NextCursor string `json:"next_cursor"`
		}](t, w.do(http.MethodGet, "/api/v1/vms?limit=2&cursor="+cursor, nil), http.StatusOK)
		for _, m := range page.Items {
			names = append(names, m.Name)
			if m.State != vm.StateStopped {
				t.Errorf("%s is %s", m.Name, m.State)
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "web-4 web-3 web-2 web-1 web-0" {
		t.Errorf("listed %s", got)
	}
	if p := w.problem(http.MethodGet, "/api/v1/vms?fields=name,colour", nil, http.StatusUnprocessableEntity, "request.invalid"); len(p.Errors) != 1 ||
		p.Errors[0].Location != "query.fields" || p.Errors[0].Value != "colour" || !strings.Contains(p.Errors[0].Message, "delete_protection") {
		t.Errorf("a field that there is not: %+v", p.Errors)
	}
	cut := decode[struct{ Items []map[string]any }](t, w.do(http.MethodGet, "/api/v1/vms?limit=1&fields=name,state&sort=-created_at", nil), http.StatusOK)
	if len(cut.Items) != 1 || len(cut.Items[0]) != 2 || cut.Items[0]["name"] != "web-4" {
		t.Errorf("cut to two fields: %v", cut.Items)
	}
	for query, want := range map[string]int{"name=web-3": 1, "state=running": 0, "state=stopped": 5, "name=none": 0} {
		if list := decode[struct{ Items []vm.VM }](t, w.do(http.MethodGet, "/api/v1/vms?"+query, nil), http.StatusOK); len(list.Items) != want {
			t.Errorf("%s: %d items, want %d", query, len(list.Items), want)
		}
	}
}

func TestConsoleTicketsAreRefused(t *testing.T) {
	w := newWorld(t)
	made := w.create("web-1", w.image().ID)
	path := "/api/v1/vms/" + made.TargetID.String() + "/console"
	ticket := decode[struct{ Ticket, URL string }](t, w.do(http.MethodPost, path, nil), http.StatusCreated)
	if !strings.Contains(ticket.URL, ticket.Ticket) {
		t.Errorf("the address %q lacks the ticket", ticket.URL)
	}
	for name, url := range map[string]string{
		"of another machine": "/api/v1/vms/" + uuid.NewString() + "/console/ws?ticket=" + ticket.Ticket,
		"made up":            path + "/ws?ticket=x", "none": path + "/ws",
	} {
		if p := decode[errs.Problem](t, w.do(http.MethodGet, url, nil), http.StatusNotFound); p.Code != "stream.unknown_ticket" {
			t.Errorf("%s: %s", name, p.Code)
		}
	}
	w.act(made.TargetID, "stop", nil)
	if p := decode[errs.Problem](t, w.do(http.MethodPost, path, nil), http.StatusConflict); p.Code != "vm.wrong_state" {
		t.Errorf("console of a stopped machine: %s", p.Code)
	}
}
