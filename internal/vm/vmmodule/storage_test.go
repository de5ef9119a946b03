package vmmodule

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

const gib = int64(1) << 30

// ended sends a request that begins an operation and waits for its end.
func (w *world) ended(method, path string, body any) op {
	w.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return decode[op](w.t, w.do(method, path+separator+"wait=60s", body), http.StatusOK)
}

func (w *world) succeeds(method, path string, body any) op {
	w.t.Helper()
	done := w.ended(method, path, body)
	if done.Status != "succeeded" {
		w.t.Fatalf("%s %s ended as %+v %+v", method, path, done, done.Error)
	}
	return done
}

// refused checks that a request is answered with a problem.
func (w *world) refused(method, path string, body any, status int, code string) {
	w.t.Helper()
	if p := decode[errs.Problem](w.t, w.do(method, path, body), status); p.Code != code {
		w.t.Errorf("%s %s: %s (%s), want %s", method, path, p.Code, p.Detail, code)
	}
}

// newVolume makes a volume of 1 GiB and tells its id.
func (w *world) newVolume(name string) uuid.UUID {
	w.t.Helper()
	return w.succeeds(http.MethodPost, "/api/v1/volumes", map[string]any{"name": name, "size_gib": 1}).TargetID
}

func (w *world) volume(id uuid.UUID) vm.Volume {
	w.t.Helper()
	return decode[vm.Volume](w.t, w.do(http.MethodGet, "/api/v1/volumes/"+id.String(), nil), http.StatusOK)
}

func (w *world) volumeFile(v vm.Volume) string {
	return filepath.Join(w.dir, "node", "volumes", v.ID.String()+"."+string(v.Format))
}

// imageInfo is what qemu-img, which knows nothing of us, tells of a file.
type imageInfo struct {
	Format    string                  `json:"format"`
	Size      int64                   `json:"virtual-size"`
	Backing   string                  `json:"backing-filename"`
	Snapshots []struct{ Name string } `json:"snapshots"`
}

func inspectFile(t *testing.T, path string) imageInfo {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "--force-share", "--output=json", path).Output()
	if err != nil {
		t.Fatalf("qemu-img info %s: %v", path, err)
	}
	var i imageInfo
	if err := json.Unmarshal(out, &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// storageAllocated is what the scheduler counts for the node.
func (w *world) storageAllocated() int64 {
	w.t.Helper()
	nodes, err := w.sched.Service().ListNodes(w.t.Context(), scheduler.ListNodesRequest{})
	if err != nil || len(nodes.Nodes) != 1 {
		w.t.Fatalf("list nodes: %v", err)
	}
	return nodes.Nodes[0].Allocated.StorageBytes
}

func (w *world) vmPath(id uuid.UUID) string     { return "/api/v1/vms/" + id.String() }
func (w *world) volumePath(id uuid.UUID) string { return "/api/v1/volumes/" + id.String() }

func TestLifeOfAVolume(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	empty := w.newVolume("data-1")
	v := w.volume(empty)
	if v.Status != vm.VolumeAvailable || v.SizeBytes != gib || v.Format != vm.VolumeQcow2 || v.AllocatedBytes <= 0 || v.OperationID != nil || v.VMID != nil {
		t.Errorf("made %+v", v)
	}
	if i := inspectFile(t, w.volumeFile(v)); i.Format != "qcow2" || i.Size != gib || i.Backing != "" {
		t.Errorf("its file is %+v", i)
	}
	raw := w.succeeds(http.MethodPost, "/api/v1/volumes", map[string]any{"name": "data-2", "size_bytes": 3 << 20, "format": "raw"}).TargetID
	if i := inspectFile(t, w.volumeFile(w.volume(raw))); i.Format != "raw" || i.Size != 3<<20 {
		t.Errorf("the raw one's file is %+v", i)
	}
	overlay := w.succeeds(http.MethodPost, "/api/v1/volumes", map[string]any{"name": "data-3", "image_id": image.ID}).TargetID
	if i := inspectFile(t, w.volumeFile(w.volume(overlay))); i.Backing == "" || i.Size != 16<<20 {
		t.Errorf("the file of the one from an image is %+v", i)
	}
	copied := w.succeeds(http.MethodPost, "/api/v1/volumes", map[string]any{"name": "data-4", "image_id": image.ID, "format": "raw", "size_bytes": 32 << 20}).TargetID
	if i := inspectFile(t, w.volumeFile(w.volume(copied))); i.Size != 32<<20 {
		t.Errorf("the file of the raw one from an image is %+v", i)
	}
	w.refused(http.MethodDelete, "/api/v1/images/"+image.ID.String(), nil, http.StatusConflict, "image.in_use")
	if got, want := w.storageAllocated(), gib+3<<20+16<<20+32<<20; got != want {
		t.Errorf("the scheduler counts %d, want %d", got, want)
	}

	// Details.
	first := w.do(http.MethodGet, w.volumePath(empty), nil)
	changed := decode[vm.Volume](t, w.do(http.MethodPatch, w.volumePath(empty), map[string]any{"name": "archive", "description": "old", "tags": map[string]any{"a": "b"}},
		"If-Match", first.Header().Get("ETag")), http.StatusOK)
	if changed.Name != "archive" || changed.Description != "old" || changed.Tags["a"] != "b" {
		t.Errorf("changed to %+v", changed)
	}
	if p := decode[errs.Problem](t, w.do(http.MethodPatch, w.volumePath(empty), map[string]any{"name": "x"}, "If-Match", first.Header().Get("ETag")), http.StatusPreconditionFailed); p.Code != "volume.version_mismatch" {
		t.Errorf("a lost race: %s", p.Code)
	}
	w.problem(http.MethodDelete, w.volumePath(empty), nil, http.StatusPreconditionFailed, "volume.version_mismatch", "If-Match", first.Header().Get("ETag"))
	w.refused(http.MethodPatch, w.volumePath(empty), map[string]any{"name": "data-2"}, http.StatusConflict, "volume.name_taken")

	// Growth, and none downwards.
	w.succeeds(http.MethodPost, w.volumePath(empty)+"/resize", map[string]any{"size_gib": 2})
	w.succeeds(http.MethodPost, w.volumePath(raw)+"/resize", map[string]any{"size_bytes": 5 << 20})
	if v, i := w.volume(empty), inspectFile(t, w.volumeFile(v)); v.SizeBytes != 2*gib || i.Size != 2*gib {
		t.Errorf("grown to %d, its file to %d", v.SizeBytes, i.Size)
	}
	if i := inspectFile(t, w.volumeFile(w.volume(raw))); i.Size != 5<<20 {
		t.Errorf("the raw one's file has grown to %d", i.Size)
	}
	w.refused(http.MethodPost, w.volumePath(empty)+"/resize", map[string]any{"size_gib": 1}, http.StatusUnprocessableEntity, "disk.shrink")
	w.refused(http.MethodPost, w.volumePath(empty)+"/resize", map[string]any{"size_gib": 60000}, http.StatusConflict, "scheduler.no_fit")
	if got, want := w.storageAllocated(), 2*gib+5<<20+16<<20+32<<20; got != want {
		t.Errorf("the scheduler counts %d after the growth, want %d", got, want)
	}

	decode[vm.Volume](t, w.do(http.MethodPatch, w.volumePath(raw), map[string]any{"tags": map[string]any{"env": "prod", "tier": "db"}}), http.StatusOK)
	for query, want := range map[string]int{"tag=env%3Dprod": 1, "tag=env": 1, "tag=env&tag=tier%3Ddb": 1, "tag=env%3Dtest": 0, "tag=env%3Dprod&tag=env%3Dtest": 0, "tag=rack": 0} {
		if got := decode[struct{ Items []vm.Volume }](t, w.do(http.MethodGet, "/api/v1/volumes?"+query, nil), http.StatusOK); len(got.Items) != want {
			t.Errorf("%s lists %d volumes, want %d", query, len(got.Items), want)
		}
	}
	w.problem(http.MethodGet, "/api/v1/volumes?tag=%3Dx", nil, http.StatusUnprocessableEntity, "volume.invalid")
	list := decode[struct{ Items []vm.Volume }](t, w.do(http.MethodGet, "/api/v1/volumes?name=archive", nil), http.StatusOK)
	if len(list.Items) != 1 || list.Items[0].ID != empty {
		t.Errorf("listed by name: %+v", list.Items)
	}
	for _, id := range []uuid.UUID{empty, raw, overlay, copied} {
		w.succeeds(http.MethodDelete, w.volumePath(id), nil)
		w.refused(http.MethodGet, w.volumePath(id), nil, http.StatusNotFound, "volume.not_found")
	}
	w.nothingLeft()
}

func TestBadVolumes(t *testing.T) {
	w := newWorld(t)
	w.newVolume("taken")
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"no size":            {map[string]any{"name": "x"}, 422, "volume.invalid"},
		"two sizes":          {map[string]any{"name": "x", "size_gib": 1, "size_bytes": 1 << 20}, 422, "volume.invalid"},
		"half a MiB":         {map[string]any{"name": "x", "size_bytes": 3<<19 + 1}, 422, "volume.invalid"},
		"zero":               {map[string]any{"name": "x", "size_gib": 0}, 422, "request.invalid"},
		"negative":           {map[string]any{"name": "x", "size_gib": -1}, 422, "request.invalid"},
		"enormous":           {map[string]any{"name": "x", "size_bytes": int64(1) << 60}, 422, "request.invalid"},
		"beyond the node":    {map[string]any{"name": "x", "size_gib": 65536}, 409, "scheduler.no_fit"},
		"bad name":           {map[string]any{"name": "../x", "size_gib": 1}, 422, "request.invalid"},
		"taken name":         {map[string]any{"name": "taken", "size_gib": 1}, 409, "volume.name_taken"},
		"bad format":         {map[string]any{"name": "x", "size_gib": 1, "format": "vmdk"}, 422, "request.invalid"},
		"unknown image":      {map[string]any{"name": "x", "size_gib": 1, "image_id": uuid.New()}, 404, "image.not_found"},
		"unknown machine":    {map[string]any{"name": "x", "size_gib": 1, "vm_id": uuid.New()}, 404, "vm.not_found"},
		"smaller than it":    {map[string]any{"name": "x", "size_bytes": 1 << 20, "image_id": w.image().ID}, 422, "volume.invalid"},
		"long tag":           {map[string]any{"name": "x", "size_gib": 1, "tags": map[string]any{"k": strings.Repeat("v", 300)}}, 422, "volume.invalid"},
		"unknown field":      {map[string]any{"name": "x", "size_gib": 1, "path": "/etc/passwd"}, 422, "request.invalid"},
		"not even an object": {`[]`, 422, "request.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			if p := decode[errs.Problem](t, w.do(http.MethodPost, "/api/v1/volumes", c.body), c.status); p.Code != c.code {
				t.Errorf("%s (%s), want %s", p.Code, p.Detail, c.code)
			}
		})
	}
	if list := decode[struct{ Items []vm.Volume }](t, w.do(http.MethodGet, "/api/v1/volumes", nil), http.StatusOK); len(list.Items) != 1 {
		t.Errorf("%d volumes, want the one from before", len(list.Items))
	}
	if got := w.storageAllocated(); got != gib {
		t.Errorf("the scheduler counts %d", got)
	}
}

func (w *world) disks(id uuid.UUID) []vm.AttachedDisk {
	w.t.Helper()
	return decode[struct{ Items []vm.AttachedDisk }](w.t, w.do(http.MethodGet, w.vmPath(id)+"/disks", nil), http.StatusOK).Items
}

func TestDisksAreAttachedAndDetached(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	file := w.volumeFile(w.volume(volume))
	has := func(t *testing.T, want bool) {
		t.Helper()
		live := slices.Contains(w.driver.DiskPaths(id), file)
		defined := slices.ContainsFunc(w.driver.Defined(id).Volumes, func(d driverDisk) bool { return d.Path == file && d.Serial == volume.String() })
		v := w.volume(volume)
		booked := v.VMID != nil && *v.VMID == id && v.Status == vm.VolumeInUse && v.AttachedAt != nil
		listed := len(w.disks(id)) == 2 && len(w.get(id).Disks) == 2
		if live != want || defined != want || booked != want || listed != want {
			t.Errorf("live %v, defined %v, booked %v, listed %v; want %v", live, defined, booked, listed, want)
		}
	}
	body := map[string]any{"volume_id": volume}
	for _, state := range []string{"running", "paused", "stopped"} {
		t.Run(state, func(t *testing.T) {
			switch state {
			case "paused":
				w.act(id, "pause", nil)
			case "stopped":
				w.act(id, "stop", map[string]any{"force": true})
			}
			w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", body)
			has(t, true)
			w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", body)
			w.refused(http.MethodDelete, w.volumePath(volume), nil, http.StatusConflict, "volume.in_use")
			size := (w.volume(volume).SizeBytes / gib) + 1
			w.succeeds(http.MethodPost, w.volumePath(volume)+"/resize", map[string]any{"size_gib": size})
			if got := inspectFile(t, file).Size; got != size*gib || w.volume(volume).SizeBytes != size*gib {
				t.Errorf("grown to %d", got)
			}
			w.succeeds(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil)
			has(t, false)
			w.refused(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil, http.StatusNotFound, "disk.not_found")
		})
	}
	if page := decode[struct{ Items []map[string]any }](t, w.do(http.MethodGet, w.vmPath(id)+"/disks?limit=1&fields=name", nil), http.StatusOK); len(page.Items) != 1 ||
		len(page.Items[0]) != 1 || page.Items[0]["name"] != "root" {
		t.Errorf("a page of one: %+v", page)
	}
	disks := w.disks(id)
	if disks[0].Name != "root" || disks[0].AllocatedBytes == nil || *disks[0].AllocatedBytes <= 0 {
		t.Errorf("the root disk is %+v", disks[0])
	}

	// The root disk grows too, and the books with it.
	for i, start := range []string{"", "start"} {
		if start != "" {
			w.act(id, start, nil)
		}
		size := int64(i + 2)
		w.succeeds(http.MethodPost, w.vmPath(id)+"/disks/root/resize", map[string]any{"size_gib": size})
		root := filepath.Join(w.dir, "node", "disks", id.String(), "root.qcow2")
		if m := w.get(id); m.Resources.DiskGiB != size || m.Disks[0].SizeBytes != size*gib || inspectFile(t, root).Size != size*gib {
			t.Errorf("grown to %+v, the file to %d", m.Disks, inspectFile(t, root).Size)
		}
	}
	w.refused(http.MethodPost, w.vmPath(id)+"/disks/root/resize", map[string]any{"size_gib": 1}, http.StatusUnprocessableEntity, "disk.shrink")
	w.refused(http.MethodPost, w.vmPath(id)+"/disks/root/resize", map[string]any{"size_bytes": 5<<30 + 1<<20}, http.StatusUnprocessableEntity, "volume.invalid")
	w.refused(http.MethodPost, w.vmPath(id)+"/disks/none/resize", map[string]any{"size_gib": 9}, http.StatusNotFound, "disk.not_found")
	w.refused(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": uuid.New()}, http.StatusNotFound, "volume.not_found")
	w.refused(http.MethodPost, w.vmPath(uuid.New())+"/disks", body, http.StatusNotFound, "vm.not_found")

	// One writer at most.
	other := w.create("web-2", w.image().ID).TargetID
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", body)
	w.refused(http.MethodPost, w.vmPath(other)+"/disks", body, http.StatusConflict, "volume.in_use")

	// What is attached stays when the machine goes, unless it is to go too.
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	if v := w.volume(volume); v.Status != vm.VolumeAvailable || v.VMID != nil || v.AttachedAt != nil {
		t.Errorf("after the machine's end it is %+v", v)
	}
	w.succeeds(http.MethodPost, w.vmPath(other)+"/disks", body)
	w.succeeds(http.MethodDelete, w.vmPath(other)+"?delete_volumes=true", nil)
	w.refused(http.MethodGet, w.volumePath(volume), nil, http.StatusNotFound, "volume.not_found")
	w.nothingLeft()
}

// A guest that does not let go keeps its disk, and the answer says so.
func TestGuestThatHoldsItsDisk(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	w.driver.HoldDisks(true)
	path := w.vmPath(id) + "/disks/" + volume.String()
	if held := w.ended(http.MethodDelete, path, nil); held.Status != "failed" || held.Error.Code != "volume.held_by_guest" || held.Error.Action == "" {
		t.Errorf("ended as %+v %+v", held, held.Error)
	}
	if v := w.volume(volume); v.Status != vm.VolumeInUse || v.OperationID != nil || len(w.driver.Defined(id).Volumes) != 1 {
		t.Errorf("it is %+v", v)
	}
	// The guest's end is an answer, too.
	begun := decode[op](t, w.do(http.MethodDelete, path, nil), http.StatusAccepted)
	w.eventually("it is being asked", func() bool { return slices.Contains(w.driver.Calls(), "DetachDisk "+id.String()) })
	w.driver.DestroyBehind(id)
	if done := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), http.StatusOK); done.Status != "succeeded" {
		t.Errorf("after the guest's end it ended as %+v", done)
	}
	w.driver.HoldDisks(false)
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	w.nothingLeft()
}

var errBroken = errs.New(errs.Conflict, "test.broken", "it is broken")

// failAt makes one point of one saga fail once.
func (w *world) failAt(kind, step, when string) {
	var once sync.Once
	w.failing(func(k, s, at string) (err error) {
		if k == kind && s == step && at == when {
			once.Do(func() { err = errBroken })
		}
		return err
	})
}

// Every point of every saga of storage fails in turn; what was before is as it was.
func TestStorageFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	id, volume := w.create("web-1", image.ID).TargetID, w.newVolume("data-1")
	attached := w.newVolume("data-2")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": attached})
	before := w.storageAllocated()
	unchanged := func(t *testing.T) {
		t.Helper()
		if v := w.volume(volume); v.Status != vm.VolumeAvailable || v.OperationID != nil {
			t.Errorf("the volume is %+v", v)
		}
		if v := w.volume(attached); v.Status != vm.VolumeInUse || v.OperationID != nil {
			t.Errorf("the attached volume is %+v", v)
		}
		if m := w.get(id); m.State != vm.StateRunning || m.OperationID != nil {
			t.Errorf("the machine is %s, held by %v", m.State, m.OperationID)
		}
		if paths := w.driver.DiskPaths(id); len(paths) != 2 || len(w.driver.Defined(id).Volumes) != 1 {
			t.Errorf("the guest has %q, defined are %+v", paths, w.driver.Defined(id).Volumes)
		}
		if list := decode[struct{ Items []vm.Volume }](t, w.do(http.MethodGet, "/api/v1/volumes", nil), http.StatusOK); len(list.Items) != 2 {
			t.Errorf("%d volumes", len(list.Items))
		}
		files, err := filepath.Glob(filepath.Join(w.dir, "node", "volumes", "*"))
		if err != nil || len(files) != 2 {
			t.Errorf("files %q, %v", files, err)
		}
	}
	for _, saga := range []struct {
		kind, method, path string
		body               any
		steps              []string
	}{
		{"volume.create", http.MethodPost, "/api/v1/volumes", map[string]any{"name": "data-3", "size_gib": 2, "image_id": image.ID}, []string{"place", "image", "file"}},
		{"volume.resize", http.MethodPost, w.volumePath(volume) + "/resize", map[string]any{"size_gib": 3}, []string{"reserve", "grow"}},
		{"vm.disk.attach", http.MethodPost, w.vmPath(id) + "/disks", map[string]any{"volume_id": volume}, []string{"define", "plug"}},
		{"vm.disk.detach", http.MethodDelete, w.vmPath(id) + "/disks/" + attached.String(), nil, []string{"unplug", "define"}},
		{"vm.disk.resize", http.MethodPost, w.vmPath(id) + "/disks/root/resize", map[string]any{"size_gib": 4}, []string{"reserve", "grow"}},
		{"vm.disk.resize", http.MethodPost, w.volumePath(attached) + "/resize", map[string]any{"size_gib": 4}, []string{"reserve", "grow"}},
	} {
		for _, step := range saga.steps {
			for _, when := range []string{"before do", "after do"} {
				t.Run(fmt.Sprintf("%s %s %s", saga.kind, when, step), func(t *testing.T) {
					w.failAt(saga.kind, step, when)
					if failed := w.ended(saga.method, saga.path, saga.body); failed.Status != "failed" || failed.Error.Code != "test.broken" {
						t.Errorf("ended as %+v", failed)
					}
					w.failing(nil)
					unchanged(t)
					// A disk that has grown cannot be taken back, and is booked as what it is.
					if got := w.storageAllocated(); got != before {
						if step != "grow" || when != "after do" {
							t.Errorf("the scheduler counts %d, before %d", got, before)
						}
						before = got
					}
				})
			}
		}
	}
	for _, step := range []string{"remove", "release"} {
		for _, when := range []string{"before do", "after do"} {
			t.Run("volume.delete "+when+" "+step, func(t *testing.T) {
				gone := w.newVolume("gone")
				w.failAt("volume.delete", step, when)
				w.succeeds(http.MethodDelete, w.volumePath(gone), nil) // it is tried again
				w.failing(nil)
				unchanged(t)
				if got := w.storageAllocated(); got != before {
					t.Errorf("the scheduler counts %d, before %d", got, before)
				}
			})
		}
	}
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	w.nothingLeft()
}

// What overtakes an attachment or a detachment leaves guest and books of one mind.
func TestIntentsOvertakeDiskOperations(t *testing.T) {
	w := newWorld(t)
	volume := w.newVolume("data-1")
	file := w.volumeFile(w.volume(volume))
	id := w.create("web-1", w.image().ID).TargetID
	for _, c := range []struct{ kind, step, verb string }{
		{"vm.disk.attach", "define", "pause"}, {"vm.disk.attach", "plug", "start"}, {"vm.disk.attach", "plug", "restart"}, {"vm.disk.attach", "plug", "stop"},
		{"vm.disk.detach", "unplug", "pause"}, {"vm.disk.detach", "define", "reset"}, {"vm.disk.detach", "define", "start"}, {"vm.disk.detach", "define", "stop"},
	} {
		t.Run(strings.Join([]string{c.kind, c.step, c.verb}, " "), func(t *testing.T) {
			if m := w.get(id); m.State == vm.StatePaused {
				w.act(id, "resume", nil)
			} else if m.State == vm.StateStopped {
				w.act(id, "start", nil)
			}
			method, path, body := http.MethodPost, w.vmPath(id)+"/disks", any(map[string]any{"volume_id": volume})
			if c.kind == "vm.disk.detach" {
				w.succeeds(method, path, body)
				method, path, body = http.MethodDelete, path+"/"+volume.String(), nil
			}
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.failing(func(kind, step, at string) error {
				if kind == c.kind && step == c.step && at == "before do" {
					once.Do(func() { close(reached) })
					<-goOn
				}
				return nil
			})
			begun := decode[op](t, w.do(method, path, body), http.StatusAccepted)
			<-reached
			w.refused(http.MethodPost, w.vmPath(id)+"/disks/root/resize", map[string]any{"size_gib": 1}, http.StatusLocked, "vm.locked")
			w.refused(http.MethodPost, w.volumePath(volume)+"/resize", map[string]any{"size_gib": 1}, http.StatusLocked, "vm.locked")
			newer := decode[op](t, w.do(http.MethodPost, w.vmPath(id)+"/"+c.verb, nil), http.StatusAccepted)
			close(goOn)
			w.failing(nil)
			newer = decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+newer.ID.String()+"?wait=60s", nil), http.StatusOK)
			first := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), http.StatusOK)
			if newer.Status != "succeeded" || first.Status != "canceled" {
				t.Errorf("%s ended as %s, the other one as %s", c.verb, newer.Status, first.Status)
			}
			v := w.volume(volume)
			if v.VMID == nil || v.OperationID != nil || v.Status != vm.VolumeInUse {
				t.Errorf("the volume is %+v", v)
			}
			if m := w.get(id); m.State != vm.StateStopped && !slices.Contains(w.driver.DiskPaths(id), file) {
				t.Errorf("the guest, which is %s, lacks what it is said to have", m.State)
			}
			w.succeeds(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil)
		})
	}
}

// Many want one volume, and one machine wants many things; one gets it and nothing sticks.
func TestManyWantOneVolume(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	var machines []uuid.UUID
	for i := range 4 {
		machines = append(machines, w.create(fmt.Sprintf("web-%d", i), image.ID).TargetID)
	}
	for range 3 {
		volume := w.newVolume("data-1")
		var all sync.WaitGroup
		for _, id := range machines {
			all.Go(func() {
				rec := w.do(http.MethodPost, w.vmPath(id)+"/disks?wait=60s", map[string]any{"volume_id": volume})
				if rec.Code != http.StatusOK && rec.Code != http.StatusConflict && rec.Code != http.StatusLocked {
					t.Errorf("attach: %d %s", rec.Code, rec.Body)
				}
			})
			all.Go(func() {
				verb := []string{"stop", "start", "pause", "resume"}[rand.IntN(4)]
				if rec := w.do(http.MethodPost, w.vmPath(id)+"/"+verb+"?wait=60s", nil); rec.Code != http.StatusOK && rec.Code != http.StatusConflict {
					t.Errorf("%s: %d %s", verb, rec.Code, rec.Body)
				}
			})
		}
		all.Wait()
		w.eventually("nothing is at work", func() bool {
			return len(decode[struct{ Items []op }](t, w.do(http.MethodGet, "/api/v1/operations?status=running", nil), http.StatusOK).Items) == 0
		})
		writers, file := 0, w.volumeFile(w.volume(volume))
		for _, id := range machines {
			if slices.Contains(w.driver.DiskPaths(id), file) {
				writers++
			}
		}
		if writers > 1 {
			t.Fatalf("%d guests have the volume", writers)
		}
		if v := w.volume(volume); v.VMID != nil {
			w.succeeds(http.MethodDelete, w.vmPath(*v.VMID)+"/disks/"+volume.String(), nil)
		}
		w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	}
	for _, id := range machines {
		w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	}
	w.nothingLeft()
}

func TestStorageOfOthersIsAbsent(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	snapshot := w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots", nil).TargetID
	stranger := principal("*")
	for _, request := range []string{
		"GET " + w.volumePath(volume), "DELETE " + w.volumePath(volume), "GET " + w.vmPath(id) + "/disks",
		"DELETE " + w.vmPath(id) + "/disks/" + volume.String(), "GET " + w.vmPath(id) + "/snapshots", "POST " + w.vmPath(id) + "/snapshots",
		"POST " + w.vmPath(id) + "/snapshots/estimate", "GET " + w.vmPath(id) + "/snapshots/" + snapshot.String(),
		"DELETE " + w.vmPath(id) + "/snapshots/" + snapshot.String(), "POST " + w.vmPath(id) + "/snapshots/" + snapshot.String() + "/revert",
	} {
		method, path, _ := strings.Cut(request, " ")
		foreign := decode[errs.Problem](t, w.doAs(stranger, method, path, nil), http.StatusNotFound)
		absent := decode[errs.Problem](t, w.doAs(stranger, method, strings.NewReplacer(id.String(), uuid.NewString(), volume.String(), uuid.NewString()).Replace(path), nil), http.StatusNotFound)
		if foreign.Code != absent.Code || foreign.Detail != absent.Detail {
			t.Errorf("%s: foreign answers %+v, absent %+v", request, foreign, absent)
		}
	}
	if list := decode[struct{ Items []vm.Volume }](t, w.doAs(stranger, http.MethodGet, "/api/v1/volumes", nil), http.StatusOK); len(list.Items) != 0 {
		t.Errorf("a stranger lists %+v", list.Items)
	}
	if rec := w.doAs(stranger, http.MethodGet, "/api/v1/volumes?tenant_id=all", nil); rec.Code != http.StatusForbidden {
		t.Errorf("all tenants: %d", rec.Code)
	}
	// A stranger's machine does not get it, and another's snapshot is not of this machine.
	w.refused(http.MethodGet, w.vmPath(w.create("web-2", w.image().ID).TargetID)+"/snapshots/"+snapshot.String(), nil, http.StatusNotFound, "snapshot.not_found")
}

func TestStoragePools(t *testing.T) {
	w := newWorld(t)
	w.newVolume("data-1")
	list := decode[struct{ Items []vm.StoragePool }](t, w.do(http.MethodGet, "/api/v1/storage-pools", nil), http.StatusOK)
	if len(list.Items) != 1 {
		t.Fatalf("pools %+v", list.Items)
	}
	p := decode[vm.StoragePool](t, w.do(http.MethodGet, "/api/v1/storage-pools/"+list.Items[0].ID.String(), nil), http.StatusOK)
	if p.Type != "dir" || p.NodeName != "node-1" || p.AllocatedBytes != gib || p.CapacityBytes <= 0 || p.UsedBytes <= 0 || p.UsedBytes+p.FreeBytes != p.CapacityBytes {
		t.Errorf("the pool is %+v", p)
	}
	w.refused(http.MethodGet, "/api/v1/storage-pools/"+uuid.NewString(), nil, http.StatusNotFound, "storage_pool.not_found")
}

// No volume is free: the tenant's quota bounds volumes, their growth and snapshots.
func TestQuotaOfStorage(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	platform := identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: []string{"*"}, Scope: identity.ScopePlatform}
	w.setQuota(platform, scheduler.Quota{StorageBytes: 3*gib + gib/2})
	volume := w.newVolume("data-1")
	w.refused(http.MethodPost, "/api/v1/volumes", map[string]any{"name": "data-2", "size_gib": 2}, http.StatusConflict, "scheduler.quota_exceeded")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	w.refused(http.MethodPost, w.volumePath(volume)+"/resize", map[string]any{"size_gib": 4}, http.StatusConflict, "scheduler.quota_exceeded")
	w.refused(http.MethodPost, w.vmPath(id)+"/disks/root/resize", map[string]any{"size_gib": 4}, http.StatusConflict, "scheduler.quota_exceeded")
	before := w.storageAllocated()
	n := w.snapshot(id, w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"memory": true}).TargetID)
	if n.SizeBytes < 128<<20 || w.storageAllocated() != before+n.SizeBytes {
		t.Errorf("the snapshot is charged with %d, the scheduler counts %d more", n.SizeBytes, w.storageAllocated()-before)
	}
	w.setQuota(platform, scheduler.Quota{StorageBytes: before})
	w.refused(http.MethodPost, w.vmPath(id)+"/snapshots", nil, http.StatusConflict, "scheduler.quota_exceeded")
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	w.nothingLeft()
}

// Who holds permissions for their own storage only keeps to that.
func TestOwnersKeepToTheirOwnStorage(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	theirs, id := w.newVolume("theirs"), w.create("theirs", image.ID).TargetID
	snapshot := w.take(id, nil)
	me := identity.Principal{UserID: uuid.New(), TenantID: w.tenant.TenantID, Scope: identity.ScopeTenant,
		Permissions: []string{"vm:*:own", "volume:*:own", "snapshot:*:own", "image:read"}}
	mine := decode[op](t, w.doAs(me, http.MethodPost, "/api/v1/volumes?wait=60s", map[string]any{"name": "mine", "size_gib": 1}), http.StatusOK)
	machine := decode[op](t, w.doAs(me, http.MethodPost, "/api/v1/vms?wait=60s", createRequest("mine", image.ID)), http.StatusOK).TargetID
	for _, route := range [][2]string{
		{"GET", w.volumePath(theirs)}, {"DELETE", w.volumePath(theirs)}, {"GET", w.vmPath(id) + "/disks"}, {"GET", w.vmPath(id) + "/snapshots"},
		{"POST", w.vmPath(id) + "/snapshots"}, {"POST", w.vmPath(id) + "/snapshots/estimate"}, {"GET", w.vmPath(id) + "/snapshots/" + snapshot.ID.String()},
		{"POST", w.vmPath(id) + "/snapshots/" + snapshot.ID.String() + "/revert"}, {"DELETE", w.vmPath(id) + "/snapshots/" + snapshot.ID.String()},
		{"DELETE", w.vmPath(id) + "?delete_volumes=true"}, {"DELETE", w.vmPath(id) + "/disks/" + theirs.String()},
	} {
		other := decode[errs.Problem](t, w.doAs(me, route[0], route[1], nil), http.StatusNotFound)
		absent := decode[errs.Problem](t, w.doAs(me, route[0], strings.NewReplacer(id.String(), uuid.NewString(), theirs.String(), uuid.NewString()).Replace(route[1]), nil), http.StatusNotFound)
		if other.Code != absent.Code || other.Detail != absent.Detail {
			t.Errorf("%s %s: a colleague's answers %+v, an absent one %+v", route[0], route[1], other, absent)
		}
	}
	list := decode[struct{ Items []vm.Volume }](t, w.doAs(me, http.MethodGet, "/api/v1/volumes", nil), http.StatusOK)
	if len(list.Items) != 1 || list.Items[0].ID != mine.TargetID {
		t.Errorf("the owner lists %+v", list.Items)
	}
	if p := decode[errs.Problem](t, w.doAs(me, http.MethodPost, w.vmPath(machine)+"/disks", map[string]any{"volume_id": theirs}), http.StatusNotFound); p.Code != "volume.not_found" {
		t.Errorf("a colleague's volume for a machine of mine: %s", p.Code)
	}
	if done := decode[op](t, w.doAs(me, http.MethodPost, w.vmPath(machine)+"/disks?wait=60s", map[string]any{"volume_id": mine.TargetID}), http.StatusOK); done.Status != "succeeded" {
		t.Errorf("attach of one's own ended as %+v", done)
	}
	if done := decode[op](t, w.doAs(me, http.MethodPost, w.vmPath(machine)+"/snapshots?wait=60s", nil), http.StatusOK); done.Status != "succeeded" {
		t.Errorf("a snapshot of one's own ended as %+v", done)
	}
	// Who may read but not delete learns what is missing.
	reader := identity.Principal{UserID: uuid.New(), TenantID: w.tenant.TenantID, Scope: identity.ScopeTenant, Permissions: []string{"volume:read", "volume:delete:own"}}
	if p := decode[errs.Problem](t, w.doAs(reader, http.MethodDelete, w.volumePath(theirs), nil), http.StatusForbidden); p.Meta["permission"] != "volume:delete" {
		t.Errorf("the refusal is %+v", p)
	}
}

// A deletion with the volumes that comes while one without them is nearly through gets its way, too.
func TestVolumesOfALateWish(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.failing(func(kind, step, at string) error {
		if kind == "vm.delete" && step == "release" && at == "before do" {
			once.Do(func() { close(reached) })
			<-goOn
		}
		return nil
	})
	first := decode[op](t, w.do(http.MethodDelete, w.vmPath(id), nil), http.StatusAccepted)
	<-reached
	joined := decode[op](t, w.do(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil), http.StatusAccepted)
	close(goOn)
	if done := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+joined.ID.String()+"?wait=60s", nil), http.StatusOK); joined.ID != first.ID || done.Status != "succeeded" {
		t.Errorf("joined %s with %s, which ended as %s", first.ID, joined.ID, done.Status)
	}
	if err := w.vm.svc.SweepDeleted(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the volume is gone", func() bool { return w.do(http.MethodGet, w.volumePath(volume), nil).Code == http.StatusNotFound })
	w.eventually("nothing is at work", func() bool {
		return len(decode[struct{ Items []op }](t, w.do(http.MethodGet, "/api/v1/operations?status=running", nil), http.StatusOK).Items) == 0
	})
	w.nothingLeft()
}
