package drivertest

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// volume makes a disk beside those of a domain.
func (s *suite) volume(t *testing.T) driver.Disk {
	t.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	disk := driver.Disk{Path: filepath.Join(s.Dir, id+".qcow2"), Format: "qcow2", Serial: id}
	s.NewDisk(t, disk.Path)
	return disk
}

// content is what qemu-img tells of a disk.
type content struct {
	Size      int64 `json:"virtual-size"`
	Snapshots []struct{ Name string }
}

func contentOf(t *testing.T, path string) content {
	t.Helper()
	out, err := exec.Command("qemu-img", "info", "--force-share", "--output=json", path).Output()
	must(t, "qemu-img info", err)
	var c content
	must(t, "decode", json.Unmarshal(out, &c))
	return c
}

// holding lists the snapshots that a disk holds.
func holding(t *testing.T, path string) []string {
	t.Helper()
	names := []string{}
	for _, s := range contentOf(t, path).Snapshots {
		names = append(names, s.Name)
	}
	return names
}

func testDisks(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	fixed, plugged := s.volume(t), s.volume(t)
	def.Volumes = []driver.Disk{fixed}
	attached := func(want ...string) {
		t.Helper()
		got, err := s.Driver.AttachedDisks(ctx, def.VMID)
		must(t, "list disks", err)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("disks %q, want %q", got, want)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, nodeapi.ErrHypervisorRefused) {
			t.Errorf("%s of what is off: %v", what, err)
		}
	}
	must(t, "define", s.Driver.Define(ctx, def))
	attached(def.Disks[0].Path, fixed.Path)
	refused("attach", s.Driver.AttachDisk(ctx, def.VMID, plugged))
	refused("resize", s.Driver.ResizeDisk(ctx, def.VMID, fixed.Path, 32<<20))
	if gone, err := s.Driver.DetachDisk(ctx, def.VMID, fixed.Path); err != nil || !gone {
		t.Errorf("detach of what is off: %v, %v", gone, err)
	}
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	must(t, "attach", s.Driver.AttachDisk(ctx, def.VMID, plugged))
	must(t, "attach again", s.Driver.AttachDisk(ctx, def.VMID, plugged))
	attached(def.Disks[0].Path, fixed.Path, plugged.Path)
	must(t, "resize", s.Driver.ResizeDisk(ctx, def.VMID, plugged.Path, 32<<20))
	if got := contentOf(t, plugged.Path).Size; got != 32<<20 {
		t.Errorf("it has %d bytes", got)
	}
	// Whether and when the disk goes is the guest's affair, and this one may have no system that would let it go.
	_, err := s.Driver.DetachDisk(ctx, def.VMID, plugged.Path)
	must(t, "detach", err)
	_, err = s.Driver.DetachDisk(ctx, def.VMID, plugged.Path)
	must(t, "detach again", err)
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	if gone, err := s.Driver.DetachDisk(ctx, def.VMID, plugged.Path); err != nil || !gone {
		t.Errorf("detach after the end: %v, %v", gone, err)
	}
	attached(def.Disks[0].Path, fixed.Path)
}

func testSnapshots(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	def.Volumes = []driver.Disk{s.volume(t)}
	paths := []string{def.Disks[0].Path, def.Volumes[0].Path}
	held := func(want ...string) {
		t.Helper()
		for _, path := range paths {
			if got := holding(t, path); !slices.Equal(got, slices.Concat([]string{}, want)) {
				t.Errorf("%s holds %q, want %q", filepath.Base(path), got, want)
			}
		}
	}
	must(t, "define", s.Driver.Define(ctx, def))
	for name, err := range map[string]error{
		"disks":  s.Driver.SnapshotDisks(ctx, def.VMID, "one", paths),
		"memory": func() error { _, err := s.Driver.SnapshotMemory(ctx, def.VMID, "one"); return err }(),
	} {
		if !errors.Is(err, nodeapi.ErrHypervisorRefused) {
			t.Errorf("snapshot of %s of what is off: %v", name, err)
		}
	}
	must(t, "drop of what is off", s.Driver.DropSnapshot(ctx, def.VMID, "one", paths))
	held()
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	must(t, "take", s.Driver.SnapshotDisks(ctx, def.VMID, "disks", paths))
	must(t, "take again", s.Driver.SnapshotDisks(ctx, def.VMID, "disks", paths))
	held("disks")
	must(t, "suspend", s.Driver.Suspend(ctx, def.VMID))
	record, err := s.Driver.SnapshotMemory(ctx, def.VMID, "held")
	must(t, "take with memory, paused", err)
	must(t, "resume", s.Driver.Resume(ctx, def.VMID))
	again, err := s.Driver.SnapshotMemory(ctx, def.VMID, "held")
	must(t, "take with memory again", err)
	if again != record {
		t.Errorf("the record changed from %s to %s", record, again)
	}
	_, err = s.Driver.SnapshotMemory(ctx, def.VMID, "running")
	must(t, "take with memory", err)
	s.expect(t, def.VMID, nodeapi.ObservedRunning)
	held("disks", "held", "running")

	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	must(t, "go back", s.Driver.RevertMemory(ctx, def.VMID, "running", ""))
	s.expect(t, def.VMID, nodeapi.ObservedRunning)
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	must(t, "go back to the paused one", s.Driver.RevertMemory(ctx, def.VMID, "held", record))
	s.expect(t, def.VMID, nodeapi.ObservedPaused)

	must(t, "drop", s.Driver.DropSnapshot(ctx, def.VMID, "held", paths))
	must(t, "drop again", s.Driver.DropSnapshot(ctx, def.VMID, "held", paths))
	must(t, "drop", s.Driver.DropSnapshot(ctx, def.VMID, "disks", paths))
	held("running")
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))

	// A domain that was forgotten behind our back took the hypervisor's record with it.
	_, err = s.Driver.SnapshotMemory(ctx, def.VMID, "running")
	must(t, "read the record", err)
	must(t, "undefine", s.Driver.Undefine(ctx, def.VMID))
	must(t, "define", s.Driver.Define(ctx, def))
	if err := s.Driver.RevertMemory(ctx, def.VMID, "running", ""); !errors.Is(err, nodeapi.ErrSnapshotLost) {
		t.Errorf("go back without a record: %v", err)
	}
}

func testFreezeWithoutAgent(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	must(t, "thaw of what is off", s.Driver.Thaw(ctx, def.VMID, time.Second))
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	if connected, err := s.Driver.AgentConnected(ctx, def.VMID); err != nil || connected {
		t.Errorf("agent connected: %v, %v", connected, err)
	}
	if err := s.Driver.Freeze(ctx, def.VMID, time.Second); !errors.Is(err, driver.ErrNoAgent) {
		t.Errorf("freeze: %v", err)
	}
	if err := s.Driver.Thaw(ctx, def.VMID, time.Second); !errors.Is(err, driver.ErrNoAgent) {
		t.Errorf("thaw: %v", err)
	}
}
