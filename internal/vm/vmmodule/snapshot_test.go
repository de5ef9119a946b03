package vmmodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
	"github.com/novacron/novacron/internal/vm/internal/store"
)

type driverDisk = driver.Disk

func (w *world) setQuota(p identity.Principal, q scheduler.Quota) {
	w.t.Helper()
	body := map[string]any{"storage_bytes": q.StorageBytes, "vcpus": q.VCPUs, "memory_bytes": q.MemoryBytes, "vms": q.VMs}
	rec := w.doOn(w.sched.Handler(), p, http.MethodPut, "/api/v1/tenants/"+w.tenant.TenantID.String()+"/quota", body)
	if rec.Code != http.StatusOK {
		w.t.Fatalf("set quota: %d %s", rec.Code, rec.Body)
	}
}

func (w *world) snapshot(machine, id uuid.UUID) vm.Snapshot {
	w.t.Helper()
	return decode[vm.Snapshot](w.t, w.do(http.MethodGet, w.vmPath(machine)+"/snapshots/"+id.String(), nil), http.StatusOK)
}

func (w *world) take(machine uuid.UUID, body any) vm.Snapshot {
	w.t.Helper()
	return w.snapshot(machine, w.succeeds(http.MethodPost, w.vmPath(machine)+"/snapshots", body).TargetID)
}

func (w *world) snapshots(machine uuid.UUID) []vm.Snapshot {
	w.t.Helper()
	return decode[struct{ Items []vm.Snapshot }](w.t, w.do(http.MethodGet, w.vmPath(machine)+"/snapshots", nil), http.StatusOK).Items
}

// writeTo writes into the disk of a guest that is off, as the guest would have.
func writeTo(t *testing.T, path, pattern string) {
	t.Helper()
	qemuIO(t, path, "write -P "+pattern+" 0 64k")
}

func reads(t *testing.T, path, pattern string) {
	t.Helper()
	qemuIO(t, path, "read -P "+pattern+" 0 64k")
}

func (w *world) rootOf(id uuid.UUID) string {
	return filepath.Join(w.dir, "node", "disks", id.String(), "root.qcow2")
}

func TestSnapshots(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	root, data := w.rootOf(id), w.volumeFile(w.volume(volume))
	off := func() { w.act(id, "stop", map[string]any{"force": true}) }
	off()
	writeTo(t, root, "0x11")
	writeTo(t, data, "0x11")
	first := w.take(id, map[string]any{"name": "first", "description": "d"})
	if first.Status != vm.SnapshotReady || !first.Current || first.ParentID != nil || first.VMState != "stopped" || len(first.Disks) != 2 || first.Description != "d" ||
		first.SizeBytes <= 0 || first.ExpectedPauseMS != 0 {
		t.Errorf("the first is %+v", first)
	}
	writeTo(t, root, "0x22")
	writeTo(t, data, "0x22")
	w.act(id, "start", nil)
	estimate := decode[vm.SnapshotEstimate](t, w.do(http.MethodPost, w.vmPath(id)+"/snapshots/estimate", map[string]any{"memory": true}), http.StatusOK)
	second := w.take(id, map[string]any{"name": "second", "memory": true})
	if !second.Memory || !second.Current || second.ParentID == nil || *second.ParentID != first.ID || second.VMState != "running" || second.PauseMS == nil ||
		second.ExpectedPauseMS != estimate.ExpectedPauseMS || second.SizeBytes != estimate.SizeBytes || estimate.ExpectedPauseMS <= 0 {
		t.Errorf("the second is %+v, estimated %+v", second, estimate)
	}
	for _, path := range []string{root, data} {
		if got := inspectFile(t, path).Snapshots; len(got) != 2 || got[0].Name != first.ID.String() || got[1].Name != second.ID.String() {
			t.Errorf("%s holds %+v", filepath.Base(path), got)
		}
	}
	// A volume that snapshots hold cannot go.
	w.refused(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil, http.StatusConflict, "volume.in_snapshots")
	w.refused(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"name": "first"}, http.StatusConflict, "snapshot.name_taken")

	// Back to the first, disks alone; the disks have grown meanwhile and stay so.
	w.succeeds(http.MethodPost, w.volumePath(volume)+"/resize", map[string]any{"size_gib": 2})
	w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots/"+first.ID.String()+"/revert", map[string]any{"start": false})
	if m := w.get(id); m.State != vm.StateStopped || m.DesiredState != vm.DesiredStopped {
		t.Errorf("it is %s, wanted %s", m.State, m.DesiredState)
	}
	reads(t, root, "0x11")
	reads(t, data, "0x11")
	if size := inspectFile(t, data).Size; size != 2*gib {
		t.Errorf("the volume has %d bytes", size)
	}
	if !w.snapshot(id, first.ID).Current || w.snapshot(id, second.ID).Current {
		t.Error("the first is not the current one")
	}
	writeTo(t, root, "0x33")
	third := w.take(id, nil)
	if third.ParentID == nil || *third.ParentID != first.ID || !strings.HasPrefix(third.Name, "snapshot-") {
		t.Errorf("the branch is %+v", third)
	}

	// Back to the second with its memory: the guest runs where it was.
	w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots/"+second.ID.String()+"/revert", nil)
	if m := w.get(id); m.State != vm.StateRunning || m.DesiredState != vm.DesiredRunning {
		t.Errorf("it is %s, wanted %s", m.State, m.DesiredState)
	}
	off()
	reads(t, root, "0x22")
	reads(t, data, "0x22")

	// A machine that has become another one takes its disks back, but not the memory.
	extra := w.newVolume("data-2")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": extra})
	w.refused(http.MethodPost, w.vmPath(id)+"/snapshots/"+second.ID.String()+"/revert", nil, http.StatusConflict, "snapshot.configuration_changed")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots/"+second.ID.String()+"/revert", map[string]any{"memory": false})
	w.refused(http.MethodPost, w.vmPath(id)+"/snapshots/"+first.ID.String()+"/revert", map[string]any{"memory": true}, http.StatusConflict, "snapshot.no_memory")
	w.refused(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"memory": true}, http.StatusConflict, "snapshot.no_memory")

	// Deletion hands the children on, and leaves the others as they are.
	held := w.storageAllocated()
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+first.ID.String(), nil)
	if got := w.storageAllocated(); got != held-first.SizeBytes {
		t.Errorf("the scheduler counts %d less", held-got)
	}
	for _, child := range []uuid.UUID{second.ID, third.ID} {
		if n := w.snapshot(id, child); n.ParentID != nil {
			t.Errorf("%s still has a parent", n.Name)
		}
	}
	w.succeeds(http.MethodPost, w.vmPath(id)+"/snapshots/"+third.ID.String()+"/revert", nil)
	reads(t, root, "0x33")
	w.refused(http.MethodGet, w.vmPath(id)+"/snapshots/"+first.ID.String(), nil, http.StatusNotFound, "snapshot.not_found")

	// With the machine go its snapshots, also from the volumes that stay.
	w.act(id, "start", nil)
	w.take(id, nil)
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	if got := inspectFile(t, data).Snapshots; len(got) != 0 {
		t.Errorf("the volume that stays holds %+v", got)
	}
	w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	w.succeeds(http.MethodDelete, w.volumePath(extra), nil)
	w.nothingLeft()
}

func TestRawVolumesAreInNoSnapshot(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	raw := w.succeeds(http.MethodPost, "/api/v1/volumes", map[string]any{"name": "raw", "size_gib": 1, "format": "raw"}).TargetID
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": raw})
	for _, path := range []string{"/snapshots", "/snapshots/estimate"} {
		w.refused(http.MethodPost, w.vmPath(id)+path, nil, http.StatusConflict, "snapshot.unsupported_disk")
	}
	if got := w.snapshots(id); len(got) != 0 {
		t.Errorf("snapshots %+v", got)
	}
}

// Every point of every saga of snapshots fails in turn.
func TestSnapshotsFailAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	base := w.take(id, map[string]any{"name": "base", "memory": true})
	before := w.storageAllocated()
	unchanged := func(t *testing.T) {
		t.Helper()
		if m := w.get(id); m.State != vm.StateRunning || m.OperationID != nil {
			t.Errorf("the machine is %s, held by %v", m.State, m.OperationID)
		}
		list := w.snapshots(id)
		if len(list) != 1 || list[0].Status != vm.SnapshotReady || !list[0].Current || list[0].OperationID != nil {
			t.Errorf("snapshots %+v", list)
		}
		for _, path := range []string{w.rootOf(id), w.volumeFile(w.volume(volume))} {
			if got := inspectFile(t, path).Snapshots; len(got) != 1 || got[0].Name != base.ID.String() {
				t.Errorf("%s holds %+v", filepath.Base(path), got)
			}
		}
		if records, err := os.ReadDir(filepath.Join(filepath.Dir(w.rootOf(id)), "snapshots")); err != nil || len(records) != 1 {
			t.Errorf("records %v, %v", records, err)
		}
		if got := w.storageAllocated(); got != before {
			t.Errorf("the scheduler counts %d, before %d", got, before)
		}
	}
	for _, memory := range []bool{false, true} {
		for _, step := range []string{"place", "take"} {
			for _, when := range []string{"before do", "after do"} {
				t.Run(fmt.Sprintf("create %s %s memory %v", when, step, memory), func(t *testing.T) {
					w.failAt("vm.snapshot.create", step, when)
					if failed := w.ended(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"memory": memory}); failed.Status != "failed" || failed.Error.Code != "test.broken" {
						t.Errorf("ended as %+v", failed)
					}
					w.failing(nil)
					unchanged(t)
				})
			}
		}
		for _, step := range []string{"stop", "revert", "define", "start"} {
			for _, when := range []string{"before do", "after do"} {
				t.Run(fmt.Sprintf("revert %s %s memory %v", when, step, memory), func(t *testing.T) {
					w.failAt("vm.snapshot.revert", step, when)
					failed := w.ended(http.MethodPost, w.vmPath(id)+"/snapshots/"+base.ID.String()+"/revert", map[string]any{"memory": memory})
					if failed.Status != "failed" || failed.Error.Code != "test.broken" {
						t.Errorf("ended as %+v", failed)
					}
					w.failing(nil)
					unchanged(t)
				})
			}
		}
	}
	for _, step := range []string{"drop", "release"} {
		for _, when := range []string{"before do", "after do"} {
			t.Run("delete "+when+" "+step, func(t *testing.T) {
				gone := w.take(id, map[string]any{"name": "gone"})
				w.failAt("vm.snapshot.delete", step, when)
				w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+gone.ID.String(), nil)
				w.failing(nil)
				unchanged(t)
			})
		}
	}
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	w.nothingLeft()
}

// What overtakes an operation on a snapshot gets its way, and what is left of the snapshot is shown, and swept.
func TestIntentsOvertakeSnapshots(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	for _, c := range []struct{ kind, step, verb string }{
		{"vm.snapshot.create", "place", "stop"}, {"vm.snapshot.create", "take", "stop"}, {"vm.snapshot.create", "take", "delete"},
		{"vm.snapshot.revert", "stop", "stop"}, {"vm.snapshot.revert", "revert", "start"}, {"vm.snapshot.revert", "define", "start"},
		{"vm.snapshot.revert", "start", "delete"}, {"vm.snapshot.delete", "drop", "restart"}, {"vm.snapshot.delete", "release", "delete"},
	} {
		t.Run(strings.Join([]string{c.kind, c.step, c.verb}, " "), func(t *testing.T) {
			id := w.create("web-1", image.ID).TargetID
			base := w.take(id, nil)
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.failing(func(kind, step, at string) error {
				if kind == c.kind && step == c.step && at == "before do" {
					once.Do(func() { close(reached) })
					<-goOn
				}
				return nil
			})
			method, path := http.MethodPost, w.vmPath(id)+"/snapshots"
			switch c.kind {
			case "vm.snapshot.revert":
				path += "/" + base.ID.String() + "/revert"
			case "vm.snapshot.delete":
				method, path = http.MethodDelete, path+"/"+base.ID.String()
			}
			begun := decode[op](t, w.do(method, path, nil), http.StatusAccepted)
			<-reached
			w.refused(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"name": "other"}, http.StatusLocked, "vm.locked")
			method, path = http.MethodPost, w.vmPath(id)+"/"+c.verb
			if c.verb == "delete" {
				method, path = http.MethodDelete, w.vmPath(id)
			}
			newer := decode[op](t, w.do(method, path, nil), http.StatusAccepted)
			close(goOn)
			w.failing(nil)
			newer = decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+newer.ID.String()+"?wait=60s", nil), http.StatusOK)
			first := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), http.StatusOK)
			if newer.Status != "succeeded" || first.Status != "canceled" {
				t.Errorf("%s ended as %s %+v, the other one as %s", c.verb, newer.Status, newer.Error, first.Status)
			}
			if c.verb == "delete" {
				w.nothingLeft()
				return
			}
			want := map[string]vm.State{"stop": vm.StateStopped, "start": vm.StateRunning, "restart": vm.StateRunning}[c.verb]
			if m := w.get(id); m.State != want || m.OperationID != nil {
				t.Errorf("it is %s, held by %v", m.State, m.OperationID)
			}
			for _, n := range w.snapshots(id) {
				if n.Status != vm.SnapshotReady && n.Status != vm.SnapshotFailed {
					t.Errorf("%s is %s", n.Name, n.Status)
				}
			}
			w.sweepSnapshots(id)
			w.succeeds(http.MethodDelete, w.vmPath(id), nil)
			w.nothingLeft()
		})
	}
}

// sweepSnapshots makes what is unfinished old and waits until the sweeper has removed it.
func (w *world) sweepSnapshots(id uuid.UUID) {
	w.t.Helper()
	w.eventually("the sweeper has removed what was unfinished", func() bool {
		if _, err := w.vm.controller.pool.Exec(w.t.Context(), `UPDATE vm_snapshots SET updated_at = now() - interval '1 hour' WHERE status <> 'ready'`); err != nil {
			w.t.Fatal(err)
		}
		if err := w.vm.svc.SweepSnapshots(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		for _, n := range w.snapshots(id) {
			if n.Status != vm.SnapshotReady {
				return false
			}
		}
		return w.get(id).OperationID == nil
	})
}

// The guest agent holds the file systems where there is one; one that hangs delays nothing else, and never leaves the guest frozen.
func TestSnapshotsFreezeTheGuest(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	id := w.create("web-1", image.ID).TargetID
	if n := w.take(id, nil); n.Frozen {
		t.Error("frozen without an agent")
	}
	if failed := w.ended(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"quiesce": "required"}); failed.Status != "failed" || failed.Error.Code != "snapshot.not_frozen" {
		t.Errorf("without an agent it ended as %+v %+v", failed, failed.Error)
	}
	w.driver.SetAgent(id, fake.GoodAgent)
	if e := decode[vm.SnapshotEstimate](t, w.do(http.MethodPost, w.vmPath(id)+"/snapshots/estimate", nil), http.StatusOK); !e.Freezes || e.ExpectedPauseMS <= 0 {
		t.Errorf("estimated %+v", e)
	}
	if n := w.take(id, map[string]any{"name": "frozen", "quiesce": "required"}); !n.Frozen || n.PauseMS == nil || w.driver.IsFrozen(id) {
		t.Errorf("with an agent it is %+v, and frozen still: %v", n, w.driver.IsFrozen(id))
	}
	if n := w.take(id, map[string]any{"name": "off", "quiesce": "off"}); n.Frozen {
		t.Error("frozen although it was not to be")
	}

	w.driver.SetAgent(id, fake.HungAgent)
	begun := decode[op](t, w.do(http.MethodPost, w.vmPath(id)+"/snapshots", map[string]any{"name": "hung"}), http.StatusAccepted)
	started := time.Now()
	w.create("web-2", image.ID) // nobody else waits for the agent
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("another machine took %v", took)
	}
	done := decode[op](t, w.do(http.MethodGet, "/api/v1/operations/"+begun.ID.String()+"?wait=60s", nil), http.StatusOK)
	if n := w.snapshot(id, begun.TargetID); done.Status != "succeeded" || n.Frozen {
		t.Errorf("with a hung agent it ended as %+v: %+v", done, n)
	}
	if took := time.Since(started); took > 45*time.Second {
		t.Errorf("the snapshot took %v", took)
	}
	if !w.driver.IsFrozen(id) {
		t.Fatal("the hung agent's guest is not frozen: the test tests nothing")
	}
	w.driver.SetAgent(id, fake.GoodAgent)
	w.eventually("the guest goes on when its agent wakes up", func() bool { return !w.driver.IsFrozen(id) })
}

// A crash of the node between freezing and thawing, or between the disks of a revert, is mended when it comes back.
func TestNodeMendsWhatACrashInterrupted(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	w.driver.SetAgent(id, fake.GoodAgent)
	snapshot := w.take(id, nil)
	if err := w.driver.Freeze(t.Context(), id, time.Second); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(w.rootOf(id))
	if err := os.WriteFile(filepath.Join(folder, "frozen.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restartNode()
	w.eventually("the guest is thawed", func() bool { return !w.driver.IsFrozen(id) })

	w.act(id, "stop", map[string]any{"force": true})
	writeTo(t, w.rootOf(id), "0x44")
	mark := fmt.Sprintf(`{"id": %q, "disks": ["root"], "sizes": [%d]}`, snapshot.ID, gib)
	if err := os.WriteFile(filepath.Join(folder, "reverting.json"), []byte(mark), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restartNode()
	w.eventually("the mark is gone", func() bool {
		_, err := os.Stat(filepath.Join(folder, "reverting.json"))
		return os.IsNotExist(err)
	})
	reads(t, w.rootOf(id), "0x00")
}

// The usage of volumes is noted, and a file that no row knows is passed over.
func TestUsageOfVolumesIsNoted(t *testing.T) {
	w := newWorld(t)
	volume := w.newVolume("data-1")
	stray := filepath.Join(w.dir, "node", "volumes", uuid.NewString()+".qcow2")
	content, err := os.ReadFile(w.volumeFile(w.volume(volume)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stray, content, 0o600); err != nil {
		t.Fatal(err)
	}
	writeTo(t, w.volumeFile(w.volume(volume)), "0x55")
	if err := w.vm.svc.NoteVolumeUsage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); err != nil {
		t.Errorf("what no row knows is not left to the audit: %v", err)
	}
	list := decode[struct{ Items []vm.Volume }](t, w.do(http.MethodGet, "/api/v1/volumes", nil), http.StatusOK)
	if len(list.Items) != 1 || list.Items[0].AllocatedBytes < 64<<10 {
		t.Errorf("volumes %+v", list.Items)
	}
	// Places that differ from their sizes are brought back.
	if _, err := w.sched.Service().ResizeStorage(t.Context(), scheduler.ResizeStorageRequest{VMID: volume, StorageBytes: 5 * gib}); err != nil {
		t.Fatal(err)
	}
	if err := w.vm.svc.SweepStorage(t.Context()); err != nil || w.storageAllocated() != gib {
		t.Errorf("sweep: %v, the scheduler counts %d", err, w.storageAllocated())
	}
}

// A snapshot that somebody removed with qemu-img is not gone back to, and the guest goes on.
func TestSnapshotLostBehindOurBack(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	n := w.take(id, nil)
	qemuImg(t, "snapshot", "-d", n.ID.String(), w.rootOf(id))
	lost := w.ended(http.MethodPost, w.vmPath(id)+"/snapshots/"+n.ID.String()+"/revert", nil)
	if lost.Status != "failed" || lost.Error.Code != "snapshot.lost" || w.get(id).State != vm.StateRunning {
		t.Errorf("ended as %+v %+v, the machine is %s", lost, lost.Error, w.get(id).State)
	}
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+n.ID.String(), nil)
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}

// Changes of disks and snapshots are told.
func TestStorageEvents(t *testing.T) {
	w := newWorld(t)
	id, volume := w.create("web-1", w.image().ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	n := w.take(id, nil)
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+n.ID.String(), nil)
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil)
	var told []string
	for deadline := time.After(30 * time.Second); !slices.Contains(told, "vm.disk.detach"); {
		select {
		case e := <-w.events:
			if change, ok := e.Metadata["change"].(string); ok {
				told = append(told, change)
			}
		case <-deadline:
			t.Fatalf("events so far: %v", told)
		}
	}
	if got := strings.Join(told, " "); got != "vm.disk.attach vm.snapshot.create vm.snapshot.delete vm.disk.detach" {
		t.Errorf("told %s", got)
	}
}

// Two want to delete one snapshot, and the second one looked at it before the first was done: it is told that there is none, and the machine
// is not held by an operation on nothing.
func TestSnapshotThatHasGoneHoldsNoMachine(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	st := store.New(w.vm.controller.pool, w.vm.controller.ops)
	for _, kind := range []string{store.KindSnapshotDelete, store.KindSnapshotRevert} {
		_, err := st.Begin(w.t.Context(), id, w.tenant.UserID, "", func(r store.Record, _ *operation.Operation) (store.Intent, error) {
			gone := uuid.New()
			return store.Intent{Kind: kind, Desired: r.DesiredState, TargetID: gone, Input: struct{}{}, Then: st.MarkingSnapshot(gone, vm.SnapshotDeleting)}, nil
		})
		if !errors.Is(err, vm.ErrSnapshotNotFound) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if m := w.get(id); m.OperationID != nil || m.Generation != 1 {
		t.Errorf("the machine is held by %v, generation %d", m.OperationID, m.Generation)
	}
	w.take(id, map[string]any{"name": "still-possible"})
}
