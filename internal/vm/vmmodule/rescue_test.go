package vmmodule

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
)

func (w *world) rescueDiskOf(id uuid.UUID) string {
	return filepath.Join(filepath.Dir(w.rootOf(id)), "rescue.qcow2")
}

// ownSystem checks that nothing is left of a rescue, and that the machine boots its own disk, which holds what was written to it.
func (w *world) ownSystem(t *testing.T, id uuid.UUID) {
	t.Helper()
	m, def := w.get(id), w.driver.Defined(id)
	if m.Rescue != nil || m.OperationID != nil || m.State != vm.StateRunning {
		t.Errorf("it is %+v", m)
	}
	if len(def.Disks) != 1 || def.Disks[0].Path != w.rootOf(id) {
		t.Errorf("it is defined with %+v", def.Disks)
	}
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(w.rootOf(id)), "*rescue*")); err != nil || len(files) != 0 {
		t.Errorf("files are left: %v %v", files, err)
	}
	if a := w.held(id); a.StorageBytes != m.Resources.DiskGiB*gib {
		t.Errorf("its place has %d bytes", a.StorageBytes)
	}
	reads(t, w.rootOf(id), "0x11")
}

// inRescue checks that a machine boots a disk of the image whose content is marked with pattern, before its own.
func (w *world) inRescue(t *testing.T, id uuid.UUID, image vm.Image, pattern string) {
	t.Helper()
	m, def := w.get(id), w.driver.Defined(id)
	if m.Rescue == nil || m.Rescue.ImageID != image.ID || m.Rescue.Since.IsZero() || m.OperationID != nil {
		t.Errorf("it is %+v, in rescue %+v", m, m.Rescue)
	}
	if len(def.Disks) != 2 || def.Disks[0].Path != w.rescueDiskOf(id) || def.Disks[1].Path != w.rootOf(id) {
		t.Errorf("it is defined with %+v", def.Disks)
	}
	if file := inspectFile(t, w.rescueDiskOf(id)); file.Size != 16<<20+2*gib || w.held(id).StorageBytes != m.Resources.DiskGiB*gib+file.Size {
		t.Errorf("the disk is %+v, the place %+v", file, w.held(id))
	}
	qemuIO(t, w.rescueDiskOf(id), "read -P "+pattern+" 1M 64k")
	reads(t, w.rootOf(id), "0x11")
}

func TestRescue(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	id, volume := w.create("web-1", first.ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"boot_order": []string{"root", "network"}}), http.StatusOK)
	writeTo(t, w.rootOf(id), "0x11")
	before := w.get(id)
	path := w.vmPath(id) + "/rescue"
	force := map[string]any{"force": true}

	w.refused(http.MethodPost, w.vmPath(id)+"/unrescue", nil, http.StatusConflict, "vm.not_rescued")
	w.refused(http.MethodPost, path, map[string]any{"image_id": uuid.New()}, http.StatusNotFound, "image.not_found")
	w.refused(http.MethodPost, w.vmPath(uuid.New())+"/rescue", nil, http.StatusNotFound, "vm.not_found")
	w.succeeds(http.MethodPost, path, force)
	w.inRescue(t, id, first, "0x51")
	w.refused(http.MethodPost, path, nil, http.StatusConflict, "vm.rescued")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/unrescue", force)
	w.ownSystem(t, id)

	w.succeeds(http.MethodPost, path, map[string]any{"image_id": second.ID, "force": true})
	w.inRescue(t, id, second, "0x52")
	if def := w.driver.Defined(id); def.Disks[0].Boot != 1 || def.Disks[1].Boot != 2 || def.NetworkBoot != 3 || len(def.Volumes) != 1 {
		t.Errorf("it boots in the order of %+v, network %d", def.Disks, def.NetworkBoot)
	}
	after := w.get(id)
	if after.Networks[0].MAC != before.Networks[0].MAC || after.ImageID != first.ID || len(after.Disks) != 2 || !slices.Equal(after.BootOrder, before.BootOrder) {
		t.Errorf("it is %+v", after)
	}
	w.refused(http.MethodDelete, "/api/v1/images/"+second.ID.String(), nil, http.StatusConflict, "image.in_use")

	events := slices.DeleteFunc(w.eventsAs(w.tenant, "kind=vm&type=updated&since=0&vm_id="+id.String()).Items, func(e vm.Event) bool { return !strings.Contains(string(e.Metadata), "rescue") })
	if len(events) != 3 || !strings.Contains(string(events[0].Metadata), `"vm.rescue"`) || !strings.Contains(string(events[1].Metadata), `"vm.unrescue"`) ||
		!strings.Contains(string(events[2].Metadata), second.ID.String()) {
		t.Errorf("the events are %+v", events)
	}

	// Power is as always, and stays in the rescue; what goes with the machine's disks or size is refused.
	writeTo(t, w.rescueDiskOf(id), "0x77")
	w.act(id, "restart", force)
	w.act(id, "reset", nil)
	w.act(id, "pause", nil)
	w.act(id, "resume", nil)
	w.act(id, "stop", force)
	w.act(id, "start", nil)
	w.inRescue(t, id, second, "0x52")
	reads(t, w.rescueDiskOf(id), "0x77")
	for _, c := range []struct {
		path string
		body any
	}{
		{"/resize", map[string]any{"vcpus": 2}}, {"/rebuild", nil}, {"/clone", map[string]any{"name": "copy"}}, {"/snapshots", nil}, {"/suspend", nil},
		{"/disks/root/resize", map[string]any{"size_gib": 2}},
	} {
		w.refused(http.MethodPost, w.vmPath(id)+c.path, c.body, http.StatusConflict, "vm.rescued")
	}
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/disks/"+volume.String(), nil)
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"name": "web-2"}), http.StatusOK)
	w.inRescue(t, id, second, "0x52")
	if report := w.audit(); len(report.Findings) != 0 {
		t.Errorf("the audit found %+v", report.Findings)
	}

	w.act(id, "stop", force)
	w.succeeds(http.MethodPost, w.vmPath(id)+"/unrescue", nil)
	w.ownSystem(t, id)
	if report := w.audit(); len(report.Findings) != 0 {
		t.Errorf("the audit found %+v", report.Findings)
	}
	if rec := w.do(http.MethodDelete, "/api/v1/images/"+second.ID.String(), nil); rec.Code >= 300 {
		t.Errorf("the image on which nothing stands any more stays: %d %s", rec.Code, rec.Body)
	}

	// What is suspended to disk goes on from there or is forced to stop first.
	w.act(id, "suspend", nil)
	w.refused(http.MethodPost, path, nil, http.StatusConflict, "vm.wrong_state")
	w.act(id, "stop", force)
	platform := identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: []string{"*"}, Scope: identity.ScopePlatform}
	w.setQuota(platform, scheduler.Quota{StorageBytes: 3 * gib})
	w.refused(http.MethodPost, path, nil, http.StatusConflict, "scheduler.quota_exceeded")
	w.setQuota(platform, scheduler.Quota{})
	w.succeeds(http.MethodPost, path, nil)
	w.inRescue(t, id, first, "0x51")
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	w.succeeds(http.MethodDelete, w.volumePath(volume), nil)
	w.nothingLeft()
}

// A machine with a kernel of its own boots what the image begins with.
func TestRescueBootsNoKernelOfTheMachine(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.marked("one", "0x51").ID).TargetID
	image := w.ready(w.upload("name=kernel&kind=kernel", kernelFile()).ID)
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"direct_boot": map[string]any{"kernel_image_id": image.ID, "command_line": "quiet"}}), http.StatusOK)
	w.succeeds(http.MethodPost, w.vmPath(id)+"/rescue", map[string]any{"force": true})
	if def := w.driver.Defined(id); def.Kernel != "" || def.CommandLine != "" {
		t.Errorf("it boots the kernel %q with %q", def.Kernel, def.CommandLine)
	}
	w.succeeds(http.MethodPost, w.vmPath(id)+"/unrescue", map[string]any{"force": true})
	if def := w.driver.Defined(id); def.Kernel == "" || def.CommandLine != "quiet" {
		t.Errorf("it boots the kernel %q with %q", def.Kernel, def.CommandLine)
	}
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}

var provisioning = []string{"place", "image", "network", "disk", "seed", "define", "start"}

// A rescue that fails leaves the machine as it was, wherever it fails.
func TestRescueFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	id := w.create("web-1", first.ID).TargetID
	writeTo(t, w.rootOf(id), "0x11")
	for _, step := range provisioning {
		for _, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				w.failAt("vm.rescue", step, when)
				failed := w.ended(http.MethodPost, w.vmPath(id)+"/rescue", map[string]any{"image_id": second.ID, "force": true})
				w.failing(nil)
				if failed.Status != "failed" || failed.Error.Code != "test.broken" || failed.Error.Step != step {
					t.Errorf("ended as %+v", failed)
				}
				w.ownSystem(t, id)
			})
		}
	}
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}

// The end of a rescue goes forward only: what fails is finished by another, or by what starts or stops the machine.
func TestUnrescueFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	image := w.marked("one", "0x51")
	id := w.create("web-1", image.ID).TargetID
	writeTo(t, w.rootOf(id), "0x11")
	for i, step := range provisioning {
		for j, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				w.succeeds(http.MethodPost, w.vmPath(id)+"/rescue", map[string]any{"force": true})
				w.failAt("vm.unrescue", step, when)
				failed := w.ended(http.MethodPost, w.vmPath(id)+"/unrescue", map[string]any{"force": true})
				w.failing(nil)
				if failed.Status != "failed" || failed.Error.Code != "test.broken" || failed.Error.Step != step {
					t.Errorf("ended as %+v", failed)
				}
				switch {
				case w.get(id).Rescue == nil:
					w.act(id, "start", nil)
				case (i+j)%2 == 0:
					w.succeeds(http.MethodPost, w.vmPath(id)+"/unrescue", map[string]any{"force": true})
				default:
					w.act(id, "stop", map[string]any{"force": true})
					w.act(id, "start", nil)
				}
				w.ownSystem(t, id)
			})
		}
	}
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}

// What comes while a rescue begins or ends finishes it, or makes it void.
func TestIntentsOvertakeRescues(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	for _, kind := range []string{"rescue", "unrescue"} {
		for _, point := range []string{"place before do", "disk before do", "disk after do", "define after do"} {
			for _, verb := range []string{"start", "stop", "restart", "rescue", "unrescue", "delete"} {
				t.Run(strings.Join([]string{kind, point, verb}, " "), func(t *testing.T) {
					id := w.create("web-1", first.ID).TargetID
					writeTo(t, w.rootOf(id), "0x11")
					if kind == "unrescue" {
						w.succeeds(http.MethodPost, w.vmPath(id)+"/rescue", map[string]any{"force": true})
					}
					reached, goOn := make(chan struct{}), make(chan struct{})
					var once sync.Once
					w.failing(func(k, step, at string) error {
						if k == "vm."+kind && step+" "+at == point {
							once.Do(func() { close(reached) })
							<-goOn
						}
						return nil
					})
					begun := decode[op](t, w.do(http.MethodPost, w.vmPath(id)+"/"+kind, map[string]any{"force": true}), http.StatusAccepted)
					<-reached
					code := w.do(http.MethodPost, w.vmPath(id)+"/pause", nil).Code
					over := w.get(id).Rescue == nil && kind == "unrescue" // so that there is nothing to end any more
					method, path, body := http.MethodPost, w.vmPath(id)+"/"+verb, map[string]any{"force": true}
					switch verb {
					case "delete":
						method, path, body = http.MethodDelete, w.vmPath(id), nil
					case "rescue":
						body["image_id"] = second.ID
					case "start":
						body = nil
					}
					answer := w.do(method, path, body)
					close(goOn)
					w.failing(nil)
					if code != http.StatusLocked {
						t.Errorf("a pause is answered with %d", code)
					}
					// A machine that is off for the moment cannot be restarted.
					if off := verb == "restart" && answer.Code == http.StatusConflict; off || verb == "unrescue" && over {
						if answer.Code != http.StatusConflict {
							t.Errorf("%s is answered with %d %s", verb, answer.Code, answer.Body)
						}
						if ended := w.endOf(begun); ended.Status != "succeeded" {
							t.Errorf("it ended as %+v", ended)
						}
						w.isAs(t, id, kind, kind, first, second)
					} else {
						newer := w.endOf(decode[op](t, answer, http.StatusAccepted))
						if newer.Status != "succeeded" || w.endOf(begun).Status != "canceled" {
							t.Errorf("%s ended as %s %+v", verb, newer.Status, newer.Error)
						}
						if verb != "delete" {
							w.isAs(t, id, kind, verb, first, second)
						}
					}
					if verb != "delete" {
						w.succeeds(http.MethodDelete, w.vmPath(id), nil)
					}
					w.nothingLeft()
				})
			}
		}
	}
}

// isAs checks what became of a machine whose rescue began or ended, as kind says, when verb overtook that.
func (w *world) isAs(t *testing.T, id uuid.UUID, kind, verb string, first, second vm.Image) {
	t.Helper()
	if verb == "stop" {
		w.act(id, "start", nil)
	}
	switch {
	case verb == "unrescue" || verb != "rescue" && kind == "unrescue":
		w.ownSystem(t, id)
	case verb == "rescue" && w.get(id).Rescue != nil && w.get(id).Rescue.ImageID == second.ID:
		w.inRescue(t, id, second, "0x52")
	default:
		w.inRescue(t, id, first, "0x51")
	}
}

// The disk of a rescue is lost: its end needs no more of it.
func TestUnrescueWithoutTheDisk(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.marked("one", "0x51").ID).TargetID
	writeTo(t, w.rootOf(id), "0x11")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/rescue", map[string]any{"force": true})
	if err := os.Remove(w.rescueDiskOf(id)); err != nil {
		t.Fatal(err)
	}
	w.act(id, "stop", map[string]any{"force": true})
	w.succeeds(http.MethodPost, w.vmPath(id)+"/unrescue", nil)
	w.ownSystem(t, id)
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}
