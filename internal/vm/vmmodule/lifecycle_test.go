package vmmodule

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

func (w *world) held(id uuid.UUID) scheduler.Allocation {
	w.t.Helper()
	a, err := w.sched.Service().GetAllocation(w.t.Context(), scheduler.GetAllocationRequest{VMID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Allocation
}

func (w *world) problem(method, path string, body any, status int, code string, headers ...string) errs.Problem {
	w.t.Helper()
	p := decode[errs.Problem](w.t, w.do(method, path, body, headers...), status)
	if p.Code != code {
		w.t.Errorf("%s %s: got %s (%s), want %s", method, path, p.Code, p.Detail, code)
	}
	return p
}

func vmPath(id uuid.UUID) string { return "/api/v1/vms/" + id.String() }

func TestSuspendToDisk(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	suspended := func(want bool, state vm.State) {
		t.Helper()
		if m := w.get(id); m.Suspended != want || m.State != state || m.OperationID != nil {
			t.Fatalf("suspended %t, state %s, held by %v", m.Suspended, m.State, m.OperationID)
		}
	}
	if op := w.act(id, "suspend", nil); op.Status != "succeeded" {
		t.Fatalf("suspend: %+v", op)
	}
	suspended(true, vm.StateStopped)
	w.act(id, "suspend", nil) // again changes nothing
	w.act(id, "stop", nil)
	suspended(true, vm.StateStopped)
	w.problem(http.MethodPost, vmPath(id)+"/resize", map[string]any{"vcpus": 2}, http.StatusConflict, "vm.wrong_state")
	w.problem(http.MethodPost, vmPath(id)+"/reset", nil, http.StatusConflict, "vm.wrong_state")
	w.problem(http.MethodPost, vmPath(id)+"/snapshots", map[string]any{"name": "s"}, http.StatusConflict, "vm.wrong_state")
	w.restartNode()
	w.eventually("the node is back", func() bool { return w.vm.Ready(t.Context()) == nil })
	suspended(true, vm.StateStopped)
	w.act(id, "start", nil)
	suspended(false, vm.StateRunning)
	if m := w.get(id); m.Observed.Reason != "restored" {
		t.Errorf("it was started anew: %+v", m.Observed)
	}
	w.act(id, "pause", nil)
	w.act(id, "suspend", nil)
	suspended(true, vm.StateStopped)
	w.act(id, "stop", map[string]any{"force": true})
	suspended(false, vm.StateStopped)
	w.problem(http.MethodPost, vmPath(id)+"/suspend", nil, http.StatusConflict, "vm.wrong_state")
	w.act(id, "start", nil)
	w.act(id, "suspend", nil)
	decode[op](t, w.do(http.MethodDelete, vmPath(id)+"?wait=60s", nil), http.StatusOK)
	w.nothingLeft()
}

func TestResize(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	type result struct {
		op
		Result struct {
			Applied string
			Pending []vm.Pending
		}
	}
	resize := func(vcpus int, memory int64) result {
		t.Helper()
		r := decode[result](t, w.do(http.MethodPost, vmPath(id)+"/resize?wait=60s", map[string]any{"vcpus": vcpus, "memory_mib": memory}), http.StatusOK)
		if r.Status != "succeeded" {
			t.Fatalf("resize: %+v", r.op)
		}
		m := w.get(id)
		if m.Resources.VCPUs != vcpus || m.Resources.MemoryMiB != memory || m.OperationID != nil {
			t.Fatalf("resized to %+v", m.Resources)
		}
		return r
	}
	held := func(vcpus int, memory int64) {
		t.Helper()
		if a := w.held(id); a.VCPUs != vcpus || a.MemoryBytes != memory<<20 {
			t.Errorf("holds %d vCPUs and %d MiB, want %d and %d", a.VCPUs, a.MemoryBytes>>20, vcpus, memory)
		}
	}
	if r := resize(2, 128); r.Result.Applied != "now" || w.driver.SizeOf(id).VCPUs != 2 {
		t.Errorf("a vCPU more: %+v, guest has %+v", r.Result, w.driver.SizeOf(id))
	}
	held(2, 128)
	if r := resize(2, 256); r.Result.Applied != "next_boot" || len(r.Result.Pending) != 1 || r.Result.Pending[0].Active != "128" {
		t.Errorf("more memory: %+v", r.Result)
	}
	if m := w.get(id); len(m.Pending) != 1 || m.Pending[0].Field != "resources.memory_mib" {
		t.Errorf("pending: %+v", m.Pending)
	}
	held(2, 256)
	w.act(id, "restart", nil)
	if m := w.get(id); len(m.Pending) != 0 || w.driver.SizeOf(id).MemoryBytes != 256<<20 {
		t.Errorf("after a restart: pending %+v, guest has %+v", m.Pending, w.driver.SizeOf(id))
	}
	// The guest keeps the vCPUs that it booted with; its place keeps them as long.
	if r := resize(1, 128); r.Result.Applied != "next_boot" {
		t.Errorf("fewer vCPUs: %+v", r.Result)
	}
	held(2, 128)
	w.act(id, "stop", nil)
	held(1, 128)
	if r := resize(3, 512); r.Result.Applied != "now" {
		t.Errorf("while off: %+v", r.Result)
	}
	held(3, 512)

	p := w.problem(http.MethodPost, vmPath(id)+"/resize", map[string]any{"vcpus": 1000}, http.StatusConflict, "scheduler.no_fit")
	if len(p.Errors) == 0 {
		t.Error("no reason why it does not fit")
	}
	for body, code := range map[string]string{`{}`: "vm.invalid", `{"vcpus":0}`: "request.invalid", `{"vcpus":-1}`: "request.invalid",
		`{"memory_mib":1}`: "request.invalid", `{"disk_gib":4}`: "request.invalid"} {
		w.problem(http.MethodPost, vmPath(id)+"/resize", body, http.StatusUnprocessableEntity, code)
	}
	w.problem(http.MethodPost, vmPath(uuid.New())+"/resize", map[string]any{"vcpus": 2}, http.StatusNotFound, "vm.not_found")
	held(3, 512)
	decode[op](t, w.do(http.MethodDelete, vmPath(id)+"?wait=60s", nil), http.StatusOK)
	w.nothingLeft()
}

// TestResizeByFlavor has the root disk grow with the rest, and the machine show the flavor until it is resized by numbers.
func TestResizeByFlavor(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	root := onPlatform("*")
	for name, r := range map[string]map[string]any{"larger": {"vcpus": 2, "memory_mib": 192, "disk_gib": 3}, "thinner": {"vcpus": 1, "memory_mib": 128, "disk_gib": 3},
		"wide": {"vcpus": 2, "memory_mib": 192, "disk_gib": 4}, "flat": {"vcpus": 4, "memory_mib": 512, "disk_gib": 1}, "huge": {"vcpus": 1, "memory_mib": 128, "disk_gib": 65536}} {
		decode[vm.Flavor](t, w.doAs(root, http.MethodPost, "/api/v1/flavors", map[string]any{"name": name, "resources": r}), http.StatusCreated)
	}
	shows := func(flavor string, size vm.Resources) {
		t.Helper()
		m, a := w.get(id), w.held(id)
		if m.Flavor != flavor || m.Resources != size || m.Disks[0].SizeBytes != size.DiskGiB<<30 {
			t.Errorf("the machine shows %q, %+v, %+v", m.Flavor, m.Resources, m.Disks)
		}
		if a.VCPUs != size.VCPUs || a.MemoryBytes != size.MemoryMiB<<20 || a.StorageBytes != size.DiskGiB<<30 {
			t.Errorf("it holds %+v", a)
		}
	}
	w.act(id, "stop", map[string]any{"force": true})
	w.act(id, "resize", map[string]any{"flavor": "larger"})
	shows("larger", vm.Resources{VCPUs: 2, MemoryMiB: 192, DiskGiB: 3})
	w.act(id, "resize", map[string]any{"flavor": "thinner"})
	shows("thinner", vm.Resources{VCPUs: 1, MemoryMiB: 128, DiskGiB: 3})
	w.act(id, "resize", map[string]any{"vcpus": 1, "memory_mib": 128})
	shows("thinner", vm.Resources{VCPUs: 1, MemoryMiB: 128, DiskGiB: 3})
	for body, field := range map[string]string{`{"flavor":"flat"}`: "body.flavor", `{"flavor":"none"}`: "body.flavor", `{"flavor":"larger","vcpus":2}`: "body.flavor"} {
		if p := w.problem(http.MethodPost, vmPath(id)+"/resize", body, http.StatusUnprocessableEntity, "vm.invalid"); len(p.Errors) != 1 || p.Errors[0].Location != field {
			t.Errorf("%s is refused with %+v", body, p.Errors)
		}
	}
	w.problem(http.MethodPost, vmPath(id)+"/resize", `{"flavor":"huge"}`, http.StatusConflict, "scheduler.no_fit")
	for _, step := range []string{"grow", "book", "shrink"} {
		w.failing(func(kind, s, at string) error {
			if kind == "vm.resize" && s == step && at == "before do" {
				return errs.New(errs.Internal, "test.broken", "it is broken")
			}
			return nil
		})
		if op := w.act(id, "resize", map[string]any{"flavor": "larger"}); op.Status != "failed" {
			t.Errorf("%s: ended as %+v", step, op)
		}
		w.failing(nil)
		shows("thinner", vm.Resources{VCPUs: 1, MemoryMiB: 128, DiskGiB: 3})
	}
	w.failing(func(kind, s, at string) error { // once the disk has grown, which stays
		if kind == "vm.resize" && s == "book" && at == "after do" {
			return errs.New(errs.Internal, "test.broken", "it is broken")
		}
		return nil
	})
	w.act(id, "resize", map[string]any{"flavor": "wide"})
	w.failing(nil)
	shows("thinner", vm.Resources{VCPUs: 1, MemoryMiB: 128, DiskGiB: 4})
	w.act(id, "resize", map[string]any{"memory_mib": 256})
	shows("", vm.Resources{VCPUs: 1, MemoryMiB: 256, DiskGiB: 4})
	decode[op](t, w.do(http.MethodDelete, vmPath(id)+"?wait=60s", nil), http.StatusOK)
	w.nothingLeft()
}

// A failure for good before or after each step of the new sagas leaves guest, row and place as they were.
func TestNewSagasFailAtEveryStep(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	for kind, steps := range map[string][]string{
		"vm.resize": {"reserve", "define", "apply", "grow", "book", "shrink"}, "vm.update": {"media", "define", "tune"}, "vm.suspend": {"plug", "suspend"},
	} {
		for _, step := range steps {
			for _, when := range []string{"before do", "after do"} {
				t.Run(kind+" "+step+" "+when, func(t *testing.T) {
					w.failing(func(k, s, at string) error {
						if k == kind && s == step && at == when {
							return errs.New(errs.Internal, "test.broken", "it is broken")
						}
						return nil
					})
					defer w.failing(nil)
					switch kind {
					case "vm.resize":
						if op := w.act(id, "resize", map[string]any{"vcpus": 2, "memory_mib": 256}); op.Status != "failed" || op.Error.Code != "test.broken" {
							t.Errorf("ended as %+v", op)
						}
					case "vm.suspend":
						if op := w.act(id, "suspend", nil); op.Status != "failed" {
							t.Errorf("ended as %+v", op)
						}
					default:
						p := decode[errs.Problem](t, w.do(http.MethodPatch, vmPath(id), map[string]any{"name": "other", "cpu": map[string]any{"model": "Nehalem"}}), 500)
						if p.Code != "test.broken" {
							t.Errorf("answered %+v", p)
						}
					}
					w.failing(nil)
					w.act(id, "start", nil) // what a suspension saved before it failed goes on
					m := w.get(id)
					if m.State != vm.StateRunning || m.Resources.VCPUs != 1 || m.Resources.MemoryMiB != 128 || m.Name != "web-1" || m.CPU.Model != "" ||
						len(m.Pending) != 0 || m.OperationID != nil || m.Suspended {
						t.Errorf("left as %+v", m)
					}
					if def := w.driver.Defined(id); def.VCPUs != 1 || def.MemoryBytes != 128<<20 || def.Name != "web-1" || def.Hardware.CPUModel != "" {
						t.Errorf("defined as %+v", def)
					}
					if a := w.held(id); a.VCPUs != 1 || a.MemoryBytes != 128<<20 || w.driver.SizeOf(id).VCPUs != 1 {
						t.Errorf("holds %+v, guest has %+v", a, w.driver.SizeOf(id))
					}
				})
			}
		}
	}
	decode[op](t, w.do(http.MethodDelete, vmPath(id)+"?wait=60s", nil), http.StatusOK)
	w.nothingLeft()
}

// A suspension that was overtaken may have been quicker all the same: what the newer intent asks for is made true from there.
func TestOvertakenSuspensionThatWasQuicker(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	saves := func() (n int) {
		for _, call := range w.driver.Calls() {
			if call == "Save "+id.String() {
				n++
			}
		}
		return n
	}
	for verb, want := range map[string]vm.State{"pause": vm.StatePaused, "reset": vm.StateRunning, "resume": vm.StateRunning} {
		w.act(id, "start", nil)
		if verb == "resume" {
			w.act(id, "pause", nil)
		}
		before, release := saves(), w.driver.Block("Save")
		decode[op](t, w.do(http.MethodPost, vmPath(id)+"/suspend", nil), http.StatusAccepted)
		w.eventually("the guest is being saved", func() bool { return saves() > before })
		newer := decode[op](t, w.do(http.MethodPost, vmPath(id)+"/"+verb, nil), http.StatusAccepted)
		release()
		done := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+newer.ID.String()+"?wait=60s", nil), http.StatusOK)
		if m := w.get(id); done.Status != "succeeded" || m.State != want {
			t.Errorf("%s ended as %s %+v, the machine is %s", verb, done.Status, done.Error, m.State)
		}
		w.act(id, "stop", map[string]any{"force": true})
	}
}

// A guest that goes off while it is to be paused leaves a request that failed, and nothing that is tried for ever.
func TestPauseOfWhatWentOff(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	release := w.driver.Block("Suspend")
	pausing := decode[op](t, w.do(http.MethodPost, vmPath(id)+"/pause", nil), http.StatusAccepted)
	w.eventually("the guest is being paused", func() bool { return slices.Contains(w.driver.Calls(), "Suspend "+id.String()) })
	w.driver.DestroyBehind(id)
	release()
	done := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+pausing.ID.String()+"?wait=60s", nil), http.StatusOK)
	if m := w.get(id); done.Status != "failed" || m.OperationID != nil || m.State != vm.StateStopped {
		t.Errorf("ended as %s %+v; the machine is %s, held by %v", done.Status, done.Error, m.State, m.OperationID)
	}
}

// Intents that contradict each other come in random order; the newest wins, and place, definition and guest agree in the end.
func TestOpposingIntentsSettle(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	id := w.create("web-1", image.ID).TargetID
	for round := range 8 {
		var last op
		var did []string
		for range 5 {
			verb := []string{"start", "stop", "resize", "resize", "suspend", "pause", "resume"}[random.IntN(7)]
			var body any
			if verb == "resize" {
				body = map[string]any{"vcpus": 1 + random.IntN(3), "memory_mib": 128 << random.IntN(3)}
			}
			rec := w.do(http.MethodPost, vmPath(id)+"/"+verb, body)
			did = append(did, fmt.Sprint(verb, " ", rec.Code))
			switch rec.Code {
			case http.StatusAccepted:
				last = decode[op](t, rec, http.StatusAccepted)
			case http.StatusConflict, http.StatusLocked:
			default:
				t.Fatalf("%s answered %d: %s", verb, rec.Code, rec.Body)
			}
		}
		if last.ID != uuid.Nil {
			if last = decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+last.ID.String()+"?wait=60s", nil), http.StatusOK); last.Status != "succeeded" {
				t.Fatalf("round %d: %v: the last ended as %+v", round, did, last)
			}
		}
		if m := w.get(id); m.OperationID != nil || m.State == vm.StateError {
			t.Fatalf("round %d: %v: left as %s, held by %v", round, did, m.State, m.OperationID)
		}
		w.act(id, "stop", map[string]any{"force": true})
		w.act(id, "start", nil)
		m, a, def, size := w.get(id), w.held(id), w.driver.Defined(id), w.driver.SizeOf(id)
		if a.VCPUs != m.Resources.VCPUs || def.VCPUs != a.VCPUs || size.VCPUs != a.VCPUs || a.MemoryBytes != m.Resources.MemoryMiB<<20 ||
			def.MemoryBytes != a.MemoryBytes || size.MemoryBytes != a.MemoryBytes || len(m.Pending) != 0 {
			t.Fatalf("round %d: %v: row %+v pending %+v, place %+v, defined %d/%d, guest %+v", round, did, m.Resources, m.Pending, a, def.VCPUs, def.MemoryBytes, size)
		}
	}
	decode[op](t, w.do(http.MethodDelete, vmPath(id)+"?wait=60s", nil), http.StatusOK)
	w.nothingLeft()
}

func TestEdit(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	id := w.create("web-1", image.ID).TargetID
	w.create("taken", image.ID)
	first := w.do(http.MethodGet, vmPath(id), nil)
	tag := first.Header().Get("ETag")
	changed := w.do(http.MethodPatch, vmPath(id), map[string]any{"name": "web-2", "description": "the shop", "tags": map[string]any{"env": "prod", "x": "y"},
		"cpu": map[string]any{"model": "host-model", "sockets": 1, "cores": 2, "threads": 2}, "watchdog": map[string]any{"model": "i6300esb"},
		"io_limits": map[string]any{"root": map[string]any{"read_iops": 100}}, "boot_order": []string{"network", "root"},
		"autostart": map[string]any{"order": 3, "delay_seconds": 5}}, "If-Match", tag)
	m := decode[vm.VM](t, changed, http.StatusOK)
	if m.Name != "web-2" || m.Description != "the shop" || m.Tags["env"] != "prod" || m.CPU.Cores != 2 || m.Watchdog.Action != "reset" ||
		m.IOLimits["root"].ReadIOPS != 100 || !m.Autostart.Enabled || m.Autostart.Order != 3 || len(m.Pending) != 3 || m.OperationID != nil {
		t.Errorf("changed to %+v", m)
	}
	def := w.driver.Defined(id)
	if def.Name != "web-2" || def.Hardware.CPUModel != "host-model" || def.Hardware.Watchdog != "i6300esb" || def.NetworkBoot != 1 || def.Disks[0].Boot != 2 ||
		def.Disks[0].Limits.ReadIOPS != 100 || def.Autostart != 3 {
		t.Errorf("defined as %+v", def)
	}
	w.problem(http.MethodPatch, vmPath(id), map[string]any{"description": "late"}, http.StatusPreconditionFailed, "vm.version_mismatch", "If-Match", tag)
	w.problem(http.MethodDelete, vmPath(id), nil, http.StatusPreconditionFailed, "vm.version_mismatch", "If-Match", tag)
	w.act(id, "restart", nil)
	if m := w.get(id); len(m.Pending) != 0 {
		t.Errorf("pending after a restart: %+v", m.Pending)
	}
	m = decode[vm.VM](t, w.do(http.MethodPatch, vmPath(id), map[string]any{"tags": map[string]any{"x": nil}}), http.StatusOK)
	if len(m.Tags) != 1 || m.Tags["env"] != "prod" {
		t.Errorf("tags are %v", m.Tags)
	}
	for body, code := range map[string]string{
		`{"name":"-x"}`: "request.invalid", `{"colour":"red"}`: "request.invalid", `{"cpu":{"cores":2}}`: "vm.invalid", `{"cpu":{"model":"a b"}}`: "request.invalid",
		`{"io_limits":{"sdz":{"read_iops":1}}}`: "vm.invalid", `{"io_limits":{"root":{"read_iops":-1}}}`: "request.invalid", `{"boot_order":["floppy"]}`: "vm.invalid",
		`{"boot_order":["root","root"]}`: "vm.invalid", `{"watchdog":{"model":"dog"}}`: "request.invalid", `{"autostart":{"order":-1}}`: "request.invalid",
		`{"tags":{"":"x"}}`: "vm.invalid",
	} {
		w.problem(http.MethodPatch, vmPath(id), body, http.StatusUnprocessableEntity, code)
	}
	w.problem(http.MethodPatch, vmPath(id), map[string]any{"name": "taken"}, http.StatusConflict, "vm.name_taken")
	m = decode[vm.VM](t, w.do(http.MethodPut, vmPath(id), map[string]any{"name": "web-3"}), http.StatusOK)
	if m.Name != "web-3" || m.Description != "" || len(m.Tags) != 0 || m.CPU != (vm.CPU{}) || m.Watchdog.Model != "none" || len(m.IOLimits) != 0 || len(m.BootOrder) != 0 {
		t.Errorf("replaced by %+v", m)
	}
	decode[vm.VM](t, w.do(http.MethodPatch, vmPath(id), map[string]any{"delete_protection": true}), http.StatusOK)
	w.problem(http.MethodDelete, vmPath(id), nil, http.StatusConflict, "vm.protected")
	if err := w.driver.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := w.driver.Undefine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is in error", func() bool { return w.get(id).State == vm.StateError })
	decode[vm.VM](t, w.do(http.MethodPatch, vmPath(id), map[string]any{"delete_protection": false, "name": "web-4"}), http.StatusOK)
	decode[op](t, w.do(http.MethodDelete, vmPath(id)+"?wait=60s", nil, "If-Match", w.do(http.MethodGet, vmPath(id), nil).Header().Get("ETag")), http.StatusOK)
}

// TestPutWhatWasRead edits what GET answered and sends it back whole.
func TestPutWhatWasRead(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	read := func() (map[string]any, string) {
		rec := w.do(http.MethodGet, vmPath(id), nil)
		return decode[map[string]any](t, rec, http.StatusOK), rec.Header().Get("ETag")
	}
	body, tag := read()
	body["description"], body["tags"], body["delete_protection"] = "the shop", map[string]any{"env": "prod"}, true
	body["created_at"] = w.get(id).CreatedAt.In(time.FixedZone("east", 3600)).Truncate(time.Millisecond).Format(time.RFC3339Nano)
	m := decode[vm.VM](t, w.do(http.MethodPut, vmPath(id), body, "If-Match", tag), http.StatusOK)
	if m.Description != "the shop" || m.Tags["env"] != "prod" || !m.DeleteProtection || m.Name != "web-1" {
		t.Errorf("replaced by %+v", m)
	}
	w.problem(http.MethodPut, vmPath(id), body, http.StatusPreconditionFailed, "vm.version_mismatch", "If-Match", tag)
	for field, value := range map[string]any{"id": uuid.New(), "state": "paused", "node_id": nil, "owner_id": "x", "flavor": "large",
		"resources": map[string]any{"vcpus": 64, "memory_mib": 1, "disk_gib": 1}, "networks": []any{}, "disks": "none", "suspended": true,
		"cdrom": map[string]any{"drive": true}, "created_at": "2001-01-01T00:00:00Z"} {
		body, tag := read()
		if now, has := body[field]; reflect.DeepEqual(now, value) || !has && value == nil {
			t.Fatalf("%s is %v already", field, now)
		}
		body[field], body["description"] = value, "never"
		p := w.problem(http.MethodPut, vmPath(id), body, http.StatusUnprocessableEntity, "vm.invalid", "If-Match", tag)
		if len(p.Errors) != 1 || p.Errors[0].Location != "body."+field {
			t.Errorf("%s is refused with %+v", field, p.Errors)
		}
	}
	body, tag = read()
	for _, field := range []string{"observed", "ready_at", "pending", "generation", "operation_id", "conditions", "error", "updated_at"} {
		body[field] = "moved on"
	}
	body["flavor"], body["origin"], body["description"] = nil, nil, "the last"
	if m := decode[vm.VM](t, w.do(http.MethodPut, vmPath(id), body, "If-Match", tag), http.StatusOK); m.Description != "the last" {
		t.Errorf("replaced by %+v", m)
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	w.act(id, "stop", nil)
	var kinds []string
	for cursor := ""; ; {
		page := decode[struct {
			Items      []vm.HistoryItem
			NextCursor string `json:"next_cursor"`
		}](t, w.do(http.MethodGet, vmPath(id)+"/history?limit=2&cursor="+cursor, nil), http.StatusOK)
		for _, item := range page.Items {
			kinds = append(kinds, item.Type+":"+item.Kind)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	all := strings.Join(kinds, " ")
	for _, want := range []string{"operation:vm.create", "event:created", "operation:vm.stop", "event:stopped"} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%q is not there once: %s", want, all)
		}
	}
	if p := decode[errs.Problem](t, w.doAs(principal("*"), http.MethodGet, vmPath(id)+"/history", nil), http.StatusNotFound); p.Code != "vm.not_found" {
		t.Errorf("a stranger gets %s", p.Code)
	}
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	for i, name := range []string{"web-b", "db-1", "web-a"} {
		body := createRequest(name, image.ID)
		body["start"], body["tags"], body["description"] = false, map[string]any{"env": []string{"prod", "test", "prod"}[i], "n": strconv.Itoa(i)}, "Shop of Anna"
		decode[op](t, w.do(http.MethodPost, "/api/v1/vms?wait=60s", body), http.StatusOK)
	}
	node := w.get(w.list("")[0].ID).NodeID
	for query, want := range map[string]string{
		"": "web-a db-1 web-b", "sort=created_at": "web-b db-1 web-a", "sort=name": "db-1 web-a web-b", "sort=-name": "web-b web-a db-1",
		"name_prefix=web": "web-a web-b", "name_prefix=web-&sort=name": "web-a web-b", "tag=env%3Dprod": "web-a web-b", "tag=env%3Dprod&sort=created_at": "web-b web-a",
		"tag=env&sort=name": "db-1 web-a web-b", "tag=env%3Dnone": "", "tag=env%3Dprod&tag=n%3D2": "web-a", "tag=n&tag=env%3Dprod&sort=name": "web-a web-b", "tag=env%3Dprod&tag=none": "", "q=shop+ann": "web-a db-1 web-b", "q=db": "db-1", "q=prod": "web-a web-b", "q=%27%26%7C%21": "",
		"state=stopped&tag=env%3Dtest": "db-1", "state=running": "", "node_id=" + node.String(): "web-a db-1 web-b", "node_id=" + uuid.NewString(): "",
		"image_id=" + image.ID.String(): "web-a db-1 web-b", "owner_id=" + w.tenant.UserID.String() + "&name=db-1": "db-1", "owner_id=" + uuid.NewString(): "",
	} {
		var names []string
		for _, m := range w.list(query) {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	counted := decode[struct{ Count int }](t, w.do(http.MethodGet, "/api/v1/vms?limit=1&count=true&tag=env%3Dprod", nil), http.StatusOK)
	if counted.Count != 2 {
		t.Errorf("counted %d", counted.Count)
	}
	if rec := w.do(http.MethodGet, "/api/v1/vms", nil); strings.Contains(rec.Body.String(), `"count"`) {
		t.Error("counted although nobody asked")
	}
	page := decode[struct {
		NextCursor string `json:"next_cursor"`
	}](t, w.do(http.MethodGet, "/api/v1/vms?limit=1&sort=name", nil), http.StatusOK)
	w.problem(http.MethodGet, "/api/v1/vms?limit=1&sort=-name&cursor="+page.NextCursor, nil, http.StatusUnprocessableEntity, "request.invalid_cursor")
	w.problem(http.MethodGet, "/api/v1/vms?sort=colour", nil, http.StatusUnprocessableEntity, "request.invalid")
	w.problem(http.MethodGet, "/api/v1/vms?state=running&state=stopped", nil, http.StatusUnprocessableEntity, "request.invalid")
	w.problem(http.MethodGet, "/api/v1/vms?tag=env&tag=%3D", nil, http.StatusUnprocessableEntity, "vm.invalid")
	w.problem(http.MethodGet, "/api/v1/vms?node_id=x", nil, http.StatusUnprocessableEntity, "request.invalid")
}

// list gives the virtual machines of a query, fetched one by one.
func (w *world) list(query string) []vm.VM {
	w.t.Helper()
	var all []vm.VM
	for cursor := ""; ; {
		page := decode[struct {
			Items      []vm.VM
			NextCursor string `json:"next_cursor"`
		}](w.t, w.do(http.MethodGet, "/api/v1/vms?limit=1&"+query+"&cursor="+cursor, nil), http.StatusOK)
		all = append(all, page.Items...)
		if cursor = page.NextCursor; cursor == "" {
			return all
		}
	}
}

// The node's host shuts down and comes back: guests go in reverse order, and those that were to run come back in theirs.
func TestHostRestart(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	var ids []uuid.UUID
	for i, name := range []string{"first", "second", "never", "off"} {
		id := w.create(name, image.ID).TargetID
		ids = append(ids, id)
		decode[vm.VM](t, w.do(http.MethodPatch, vmPath(id), map[string]any{"autostart": map[string]any{"order": i, "enabled": name != "never"}}), http.StatusOK)
	}
	w.act(ids[3], "stop", nil)
	before := len(w.driver.Calls())
	if err := w.vm.node.node.DrainForReboot(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got, want := order(w.driver.Calls()[before:], "Destroy", ids), "2 1 0"; got != want {
		t.Errorf("shut down in the order %s, want %s", got, want)
	}
	w.eventually("all are off and wanted", func() bool {
		for _, id := range ids[:3] {
			if m := w.get(id); m.State != vm.StateStopped || m.DesiredState != vm.DesiredRunning || m.Observed.Reason != "host_shutdown" {
				return false
			}
		}
		return true
	})
	w.restartNode()
	w.eventually("those that were to run do", func() bool { return w.get(ids[0]).State == vm.StateRunning && w.get(ids[1]).State == vm.StateRunning })
	if got, want := order(w.driver.Calls(), "Start", ids), "0 1"; got != want {
		t.Errorf("started in the order %s, want %s", got, want)
	}
	for _, id := range ids[2:] {
		if m := w.get(id); m.State != vm.StateStopped || m.OperationID != nil {
			t.Errorf("%s is %s, held by %v", m.Name, m.State, m.OperationID)
		}
	}
}

// order gives the places of the ids in the calls of a method.
func order(calls []string, method string, ids []uuid.UUID) string {
	var got []string
	for _, call := range calls {
		for i, id := range ids {
			if call == method+" "+id.String() {
				got = append(got, fmt.Sprint(i))
			}
		}
	}
	return strings.Join(got, " ")
}
