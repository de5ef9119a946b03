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

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
)

// marked makes an image of 16 MiB whose second MiB tells which it is.
func (w *world) marked(name, pattern string) vm.Image {
	w.t.Helper()
	return w.sized(name, pattern, "16M")
}

func (w *world) sized(name, pattern, size string) vm.Image {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "image.qcow2")
	qemuImg(w.t, "create", "-q", "-f", "qcow2", file, size)
	qemuIO(w.t, file, "write -P "+pattern+" 1M 64k")
	content, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	image := decode[vm.Image](w.t, w.do(http.MethodPost, "/api/v1/images?name="+name, content, "Content-Type", "application/octet-stream"), http.StatusCreated)
	w.eventually("the image is ready", func() bool {
		return decode[vm.Image](w.t, w.do(http.MethodGet, "/api/v1/images/"+image.ID.String(), nil), http.StatusOK).Status == vm.ImageReady
	})
	return image
}

func (w *world) clone(source uuid.UUID, body map[string]any) op {
	w.t.Helper()
	return decode[op](w.t, w.do(http.MethodPost, w.vmPath(source)+"/clone?wait=60s", body), http.StatusOK)
}

// alone waits until no snapshot is left in the disk of a machine: that of a clone goes after the clone's end.
func (w *world) alone(id uuid.UUID) {
	w.t.Helper()
	w.eventually("nothing of a clone is left in its source", func() bool {
		marks, err := filepath.Glob(filepath.Join(filepath.Dir(w.rootOf(id)), "cloning-*"))
		return err == nil && len(marks) == 0 && len(inspectFile(w.t, w.rootOf(id)).Snapshots) == 0
	})
}

func TestClones(t *testing.T) {
	w := newWorld(t)
	image := w.marked("base", "0x55")
	id := w.create("web-1", image.ID).TargetID
	volume := w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"tags": map[string]any{"env": "prod"}, "delete_protection": true,
		"boot_order": []string{volume.String(), "root"}, "io_limits": map[string]any{"root": map[string]any{"read_iops": 100}, volume.String(): map[string]any{"read_iops": 5}}}), http.StatusOK)
	writeTo(t, w.rootOf(id), "0x11")
	snapshot := w.take(id, map[string]any{"name": "before"})
	writeTo(t, w.rootOf(id), "0x22")
	before := w.get(id)

	full := w.clone(id, map[string]any{"name": "full", "disk_gib": 2})
	linked := w.clone(id, map[string]any{"name": "linked", "mode": "linked", "start": false, "tags": map[string]any{}, "description": "a copy"})
	then := w.clone(id, map[string]any{"name": "then", "mode": "linked", "snapshot_id": snapshot.ID})
	for _, c := range []struct {
		op               op
		backing, content string
		size             int64
		state            vm.State
	}{{full, "", "0x22", 2 * gib, vm.StateRunning}, {linked, "images", "0x22", gib, vm.StateStopped}, {then, "images", "0x11", gib, vm.StateRunning}} {
		if c.op.Status != "succeeded" || c.op.Kind != "vm.clone" {
			t.Fatalf("ended as %+v", c.op)
		}
		m, file := w.get(c.op.TargetID), inspectFile(t, w.rootOf(c.op.TargetID))
		if m.State != c.state || m.Origin == nil || m.Origin.VMID != id || m.DeleteProtection || m.ImageID != image.ID || len(m.Disks) != 1 ||
			!slices.Equal(m.BootOrder, []string{"root"}) || len(m.IOLimits) != 1 || m.IOLimits["root"].ReadIOPS != 100 || m.Disks[0].SizeBytes != c.size {
			t.Errorf("%s is %+v", m.Name, m)
		}
		if m.Networks[0].NetworkID != before.Networks[0].NetworkID || m.Networks[0].MAC == before.Networks[0].MAC || m.Networks[0].IPAddress == before.Networks[0].IPAddress {
			t.Errorf("%s is on %+v, its source on %+v", m.Name, m.Networks, before.Networks)
		}
		if file.Size != c.size || c.backing != filepath.Base(filepath.Dir(file.Backing)) && (c.backing != "" || file.Backing != "") || len(file.Snapshots) != 0 {
			t.Errorf("the disk of %s is %+v", m.Name, file)
		}
		reads(t, w.rootOf(m.ID), c.content)
		qemuIO(t, w.rootOf(m.ID), "read -P 0x55 1M 64k")
		if a := w.held(m.ID); a.StorageBytes != c.size || a.NodeID != *before.NodeID {
			t.Errorf("%s holds %+v", m.Name, a)
		}
	}
	if m := w.get(linked.TargetID); len(m.Tags) != 0 || m.Description != "a copy" || w.get(full.TargetID).Tags["env"] != "prod" {
		t.Errorf("tags %v, description %q", m.Tags, m.Description)
	}
	if after := w.get(id); after.State != vm.StateRunning || after.Generation != before.Generation || after.UpdatedAt.Before(before.UpdatedAt) {
		t.Errorf("the source is %+v", after)
	}
	// What is written to the one does not show in the others.
	writeTo(t, w.rootOf(id), "0x33")
	reads(t, w.rootOf(linked.TargetID), "0x22")

	// One that stands alone cannot be shared; the answer says what to do.
	if failed := w.clone(full.TargetID, map[string]any{"name": "no", "mode": "linked"}); failed.Status != "failed" || failed.Error.Code != "vm.clone_no_base" {
		t.Errorf("ended as %+v", failed)
	}
	w.alone(full.TargetID)
	path := w.vmPath(id) + "/clone"
	w.refused(http.MethodPost, path, map[string]any{"name": "full"}, http.StatusConflict, "vm.name_taken")
	w.refused(http.MethodPost, path, map[string]any{"name": "no", "snapshot_id": uuid.New()}, http.StatusNotFound, "snapshot.not_found")
	w.refused(http.MethodPost, w.vmPath(full.TargetID)+"/clone", map[string]any{"name": "no", "disk_gib": 1}, http.StatusUnprocessableEntity, "vm.invalid")
	w.refused(http.MethodPost, w.vmPath(uuid.New())+"/clone", map[string]any{"name": "no"}, http.StatusNotFound, "vm.not_found")
	w.refused(http.MethodPost, path, map[string]any{"name": "no", "user_data": "#cloud-config\n\t"}, http.StatusUnprocessableEntity, "vm.invalid")

	w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+snapshot.ID.String(), nil)
	w.alone(id)
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"delete_protection": false}), http.StatusOK)
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	qemuIO(t, w.rootOf(linked.TargetID), "read -P 0x55 1M 64k") // its image stays
	for _, c := range []op{full, linked, then} {
		w.succeeds(http.MethodDelete, w.vmPath(c.TargetID), nil)
	}
	w.nothingLeft()
}

// Every point of a clone fails in turn: nothing of it may be left, neither in its source.
func TestCloneFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	for _, step := range []string{"place", "image", "network", "disk", "seed", "define", "start"} {
		for _, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				w.failAt("vm.clone", step, when)
				failed := w.clone(id, map[string]any{"name": "copy"})
				w.failing(nil)
				if failed.Status != "failed" || failed.Error.Code != "test.broken" || failed.Error.Step != step {
					t.Errorf("ended as %+v", failed)
				}
				w.alone(id)
				if m := w.get(id); m.State != vm.StateRunning || m.OperationID != nil {
					t.Errorf("the source is %+v", m)
				}
				w.refused(http.MethodGet, w.vmPath(failed.TargetID), nil, http.StatusNotFound, "vm.not_found")
			})
		}
	}
	w.succeeds(http.MethodDelete, w.vmPath(id), nil)
	w.nothingLeft()
}

// What happens to source and clone while the disk is copied leaves a whole clone or none.
func TestIntentsOvertakeClones(t *testing.T) {
	w := newWorld(t)
	image := w.image()
	for _, c := range []struct{ step, whose, verb, ends string }{
		{"disk", "clone", "delete", "canceled"}, {"disk", "clone", "start", "canceled"}, {"disk", "source", "delete", "failed"},
		{"disk", "source", "stop", "succeeded"}, {"define", "source", "delete", "succeeded"}, {"define", "clone", "stop", "canceled"},
	} {
		t.Run(strings.Join([]string{c.step, c.whose, c.verb}, " "), func(t *testing.T) {
			id := w.create("web-1", image.ID).TargetID
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.failing(func(kind, step, at string) error {
				if kind == "vm.clone" && step == c.step && at == "before do" {
					once.Do(func() { close(reached) })
					<-goOn
				}
				return nil
			})
			begun := decode[op](t, w.do(http.MethodPost, w.vmPath(id)+"/clone", map[string]any{"name": "copy"}), http.StatusAccepted)
			<-reached
			whose := map[string]uuid.UUID{"source": id, "clone": begun.TargetID}[c.whose]
			method, path := http.MethodPost, w.vmPath(whose)+"/"+c.verb
			if c.verb == "delete" {
				method, path = http.MethodDelete, w.vmPath(whose)
			}
			newer := decode[op](t, w.do(method, path, nil), http.StatusAccepted)
			if c.whose == "source" {
				newer = w.endOf(newer)
			}
			close(goOn)
			w.failing(nil)
			newer, first := w.endOf(newer), w.endOf(begun)
			if newer.Status != "succeeded" || first.Status != c.ends {
				t.Errorf("%s ended as %s %+v, the clone as %s %+v", c.verb, newer.Status, newer.Error, first.Status, first.Error)
			}
			if first.Status == "failed" && first.Error.Code != "vm.clone_source_gone" {
				t.Errorf("failed with %+v", first.Error)
			}
			if c.whose == "clone" && c.verb != "delete" { // what overtakes a clone finishes it
				if m := w.get(begun.TargetID); m.OperationID != nil || m.State == vm.StateError || m.State == vm.StateCreating {
					t.Errorf("the clone is %+v", m)
				}
				inspectFile(t, w.rootOf(begun.TargetID))
			}
			for _, other := range []uuid.UUID{id, begun.TargetID} {
				if w.do(http.MethodGet, w.vmPath(other), nil).Code == http.StatusOK {
					w.alone(other)
					w.succeeds(http.MethodDelete, w.vmPath(other), nil)
				}
			}
			w.nothingLeft()
		})
	}
}

// The snapshot that a crash left in the source of a clone goes when the node starts.
func TestNodeSweepsClones(t *testing.T) {
	w := newWorld(t)
	id := w.create("web-1", w.image().ID).TargetID
	clone := uuid.Must(uuid.NewV7())
	w.act(id, "stop", map[string]any{"force": true})
	qemuImg(t, "snapshot", "-c", clone.String(), w.rootOf(id))
	mark := filepath.Join(filepath.Dir(w.rootOf(id)), "cloning-"+clone.String()+".json")
	if err := os.WriteFile(mark, fmt.Appendf(nil, `{"id":%q,"disks":["root"],"volumes":[]}`, clone), 0o600); err != nil {
		t.Fatal(err)
	}
	w.restartNode()
	w.alone(id)
}

func (w *world) endOf(o op) op {
	w.t.Helper()
	return decode[op](w.t, w.do(http.MethodGet, "/api/v1/operations/"+o.ID.String()+"?wait=60s", nil), http.StatusOK)
}

func TestRebuild(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	id, volume := w.create("web-1", first.ID).TargetID, w.newVolume("data-1")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/disks", map[string]any{"volume_id": volume})
	writeTo(t, w.rootOf(id), "0x11")
	before := w.get(id)

	w.succeeds(http.MethodPost, w.vmPath(id)+"/rebuild", nil)
	qemuIO(t, w.rootOf(id), "read -P 0 0 64k")
	qemuIO(t, w.rootOf(id), "read -P 0x51 1M 64k")
	w.succeeds(http.MethodPost, w.vmPath(id)+"/rebuild", map[string]any{"image_id": second.ID, "user_data": "#!/bin/sh\ntrue\n"})
	qemuIO(t, w.rootOf(id), "read -P 0x52 1M 64k")
	after := w.get(id)
	if after.State != vm.StateRunning || after.ImageID != second.ID || after.Networks[0].MAC != before.Networks[0].MAC || after.Networks[0].IPAddress != before.Networks[0].IPAddress ||
		len(after.Disks) != 2 || after.Error != nil {
		t.Errorf("it is %+v", after)
	}
	if content, err := os.ReadFile(filepath.Join(filepath.Dir(w.rootOf(id)), "seed.iso")); err != nil || !strings.Contains(string(content), "#!/bin/sh\ntrue\n") {
		t.Errorf("the seed does not have the new user-data: %v", err)
	}
	if rec := w.do(http.MethodDelete, "/api/v1/images/"+first.ID.String(), nil); rec.Code >= 300 {
		t.Errorf("the image on which nothing stands any more stays: %d %s", rec.Code, rec.Body)
	}
	w.refused(http.MethodDelete, "/api/v1/images/"+second.ID.String(), nil, http.StatusConflict, "image.in_use")

	// Stopped ones stay so unless something else is asked for.
	w.act(id, "stop", map[string]any{"force": true})
	w.succeeds(http.MethodPost, w.vmPath(id)+"/rebuild", nil)
	if m := w.get(id); m.State != vm.StateStopped || m.DesiredState != vm.DesiredStopped {
		t.Errorf("it is %s, wanted %s", m.State, m.DesiredState)
	}
	w.succeeds(http.MethodPost, w.vmPath(id)+"/rebuild", map[string]any{"start": true})

	// What would lose what people want to keep, or cannot be, is refused and changes nothing.
	path := w.vmPath(id) + "/rebuild"
	large := w.sized("large", "0x53", "2G")
	w.refused(http.MethodPost, path, map[string]any{"image_id": large.ID}, http.StatusUnprocessableEntity, "vm.invalid")
	w.refused(http.MethodPost, path, map[string]any{"image_id": uuid.New()}, http.StatusNotFound, "image.not_found")
	w.refused(http.MethodPost, path, map[string]any{"user_data": "#cloud-config\n\t"}, http.StatusUnprocessableEntity, "vm.invalid")
	snapshot := w.take(id, nil)
	w.refused(http.MethodPost, path, nil, http.StatusConflict, "vm.has_snapshots")
	w.succeeds(http.MethodDelete, w.vmPath(id)+"/snapshots/"+snapshot.ID.String(), nil)
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"delete_protection": true}), http.StatusOK)
	w.refused(http.MethodPost, path, nil, http.StatusConflict, "vm.protected")
	decode[vm.VM](t, w.do(http.MethodPatch, w.vmPath(id), map[string]any{"delete_protection": false}), http.StatusOK)
	if m := w.get(id); m.State != vm.StateRunning || m.OperationID != nil {
		t.Errorf("it is %+v", m)
	}
	w.succeeds(http.MethodDelete, w.vmPath(id)+"?delete_volumes=true", nil)
	w.nothingLeft()
}

// Until its old disk goes, a rebuild that fails leaves all as it was; from then on a start finishes it.
func TestRebuildFailsAtEveryPoint(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	for _, step := range []string{"place", "image", "network", "disk", "seed", "define", "start"} {
		for _, when := range []string{"before do", "after do"} {
			t.Run(when+" "+step, func(t *testing.T) {
				id := w.create("web-1", first.ID).TargetID
				writeTo(t, w.rootOf(id), "0x11")
				w.failAt("vm.rebuild", step, when)
				failed := w.ended(http.MethodPost, w.vmPath(id)+"/rebuild", map[string]any{"image_id": second.ID})
				w.failing(nil)
				if failed.Status != "failed" || failed.Error.Code != "test.broken" || failed.Error.Step != step {
					t.Errorf("ended as %+v", failed)
				}
				early := slices.Contains([]string{"place", "image", "network"}, step) || step == "disk" && when == "before do"
				m := w.get(id)
				if m.OperationID != nil || early != (m.ImageID == first.ID) || early && m.State != vm.StateRunning {
					t.Errorf("it is %+v", m)
				}
				w.act(id, "start", nil)
				if early {
					reads(t, w.rootOf(id), "0x11")
				} else {
					qemuIO(t, w.rootOf(id), "read -P 0x52 1M 64k")
				}
				w.succeeds(http.MethodDelete, w.vmPath(id), nil)
				w.nothingLeft()
			})
		}
	}
}

// The node fails for good at the moment when the old disk goes: nobody knows whether it has, and the next start makes it anew.
func TestStartFinishesARebuild(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	id := w.create("web-1", first.ID).TargetID
	writeTo(t, w.rootOf(id), "0x11")
	folder := filepath.Dir(w.rootOf(id))
	keep := folder + ".kept"
	w.act(id, "stop", map[string]any{"force": true})
	// A folder that is a file cannot take a disk.
	if err := errors.Join(os.Rename(folder, keep), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	failed := w.ended(http.MethodPost, w.vmPath(id)+"/rebuild", map[string]any{"image_id": second.ID})
	if failed.Status != "failed" {
		t.Fatalf("ended as %+v", failed)
	}
	w.refused(http.MethodPost, w.vmPath(id)+"/snapshots", nil, http.StatusConflict, "vm.rebuild_pending")
	w.refused(http.MethodPost, w.vmPath(id)+"/clone", map[string]any{"name": "copy"}, http.StatusConflict, "vm.rebuild_pending")
	w.refused(http.MethodDelete, "/api/v1/images/"+second.ID.String(), nil, http.StatusConflict, "image.in_use")
	if err := errors.Join(os.Remove(folder), os.Rename(keep, folder)); err != nil {
		t.Fatal(err)
	}
	w.act(id, "start", nil)
	if m := w.get(id); m.State != vm.StateRunning || m.ImageID != second.ID || m.Error != nil {
		t.Errorf("it is %+v", m)
	}
	qemuIO(t, w.rootOf(id), "read -P 0x52 1M 64k")
}

// Newer intents overtake a rebuild at each of its steps: those that can finish it do, and the others are refused.
func TestIntentsOvertakeRebuilds(t *testing.T) {
	w := newWorld(t)
	first, second := w.marked("one", "0x51"), w.marked("two", "0x52")
	for i, step := range []string{"place", "image", "network", "disk", "seed", "define", "start"} {
		for j, verb := range []string{"start", "stop", "delete", "rebuild"} {
			if (i+j)%2 == 1 && step != "disk" { // every pair of neighbours is enough
				continue
			}
			t.Run(step+" "+verb, func(t *testing.T) {
				id := w.create("web-1", first.ID).TargetID
				reached, goOn := make(chan struct{}), make(chan struct{})
				var once sync.Once
				w.failing(func(kind, s, at string) error {
					if kind == "vm.rebuild" && s == step && at == "before do" {
						once.Do(func() { close(reached) })
						<-goOn
					}
					return nil
				})
				begun := decode[op](t, w.do(http.MethodPost, w.vmPath(id)+"/rebuild", map[string]any{"image_id": second.ID}), http.StatusAccepted)
				<-reached
				paused := w.do(http.MethodPost, w.vmPath(id)+"/pause", nil)
				method, path := http.MethodPost, w.vmPath(id)+"/"+verb
				if verb == "delete" {
					method, path = http.MethodDelete, w.vmPath(id)
				}
				newer := decode[op](t, w.do(method, path, nil), http.StatusAccepted)
				close(goOn)
				w.failing(nil)
				if step == "place" && paused.Code != http.StatusLocked {
					t.Errorf("a pause is answered with %d", paused.Code)
				}
				newer = w.endOf(newer)
				if newer.Status != "succeeded" || w.endOf(begun).Status != "canceled" {
					t.Errorf("%s ended as %s %+v", verb, newer.Status, newer.Error)
				}
				if verb == "delete" {
					w.nothingLeft()
					return
				}
				// A second rebuild that names no image goes back to the machine's own, as far as that is still the first.
				if m := w.get(id); m.OperationID != nil || m.State == vm.StateError || verb != "rebuild" && m.ImageID != second.ID {
					t.Errorf("it is %+v", m)
				}
				w.succeeds(http.MethodDelete, w.vmPath(id), nil)
				w.nothingLeft()
			})
		}
	}
}
