package drivertest

import (
	"testing"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func testSave(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	saved := func(want bool) {
		t.Helper()
		got := s.expect(t, def.VMID, nodeapi.ObservedStopped)
		if got.Saved != want {
			t.Fatalf("saved is %t: %+v", got.Saved, got)
		}
	}
	must(t, "save what is off", s.Driver.Save(ctx, def.VMID))
	saved(false)
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	at := s.mark()
	must(t, "save", s.Driver.Save(ctx, def.VMID))
	saved(true)
	s.waitEvent(t, "save", at, func(e driver.Event) bool {
		return e.VMID == def.VMID && e.Observed == nodeapi.ObservedStopped && e.Saved
	})
	must(t, "save again", s.Driver.Save(ctx, def.VMID))
	def.Generation = 2
	must(t, "define what is saved", s.Driver.Define(ctx, def))
	saved(true)
	must(t, "start again", s.Driver.Start(ctx, def.VMID))
	if got := s.expect(t, def.VMID, nodeapi.ObservedRunning); got.Saved || got.Reason != "restored" {
		t.Errorf("after the start: %+v", got)
	}
	must(t, "save", s.Driver.Save(ctx, def.VMID))
	must(t, "forget what is saved", s.Driver.DropSaved(ctx, def.VMID))
	must(t, "forget it again", s.Driver.DropSaved(ctx, def.VMID))
	saved(false)
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	must(t, "save", s.Driver.Save(ctx, def.VMID))
	must(t, "undefine what is saved", s.Driver.Undefine(ctx, def.VMID))
}

func testResize(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	if _, on, err := s.Driver.Resize(ctx, def.VMID, driver.Size{VCPUs: 2, MemoryBytes: def.MemoryBytes}); err != nil || on {
		t.Fatalf("resize of what is off: on %t, %v", on, err)
	}
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	resize := func(vcpus int, memory int64) driver.Size {
		t.Helper()
		now, on, err := s.Driver.Resize(ctx, def.VMID, driver.Size{VCPUs: vcpus, MemoryBytes: memory})
		if err != nil || !on {
			t.Fatalf("resize to %d, %d: on %t, %v", vcpus, memory, on, err)
		}
		return now
	}
	if now := resize(def.VCPUs+1, def.MemoryBytes); now.VCPUs != def.VCPUs+1 || now.MemoryBytes != def.MemoryBytes {
		t.Errorf("a vCPU more made it %+v", now)
	}
	if now := resize(def.VCPUs+1, 2*def.MemoryBytes); now.MemoryBytes != def.MemoryBytes {
		t.Errorf("more memory than it booted with made it %+v", now)
	}
	if now := resize(200, def.MemoryBytes); now.VCPUs != def.VCPUs+1 {
		t.Errorf("more vCPUs than it can have made it %+v", now)
	}
	limits := map[string]nodeapi.IOLimits{}
	for _, disk := range def.Disks {
		limits[disk.Path] = nodeapi.IOLimits{ReadIOPS: 100}
	}
	must(t, "tune", s.Driver.Tune(ctx, def.VMID, "another", limits))
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	must(t, "tune what is off", s.Driver.Tune(ctx, def.VMID, "another", nil))
}

// testPlugMemory: a guest that is large enough is given more memory while it runs, in blocks, and has its new size as plain memory afterwards.
func testPlugMemory(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	def.MemoryBytes = 1 << 30
	must(t, "define", s.Driver.Define(ctx, def))
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	resize := func(memory int64) int64 {
		t.Helper()
		now, on, err := s.Driver.Resize(ctx, def.VMID, driver.Size{VCPUs: def.VCPUs, MemoryBytes: memory})
		if err != nil || !on {
			t.Fatalf("resize to %d: on %t, %v", memory, on, err)
		}
		return now.MemoryBytes
	}
	for _, step := range []struct {
		what       string
		want, have int64
	}{
		{"two blocks", 1<<30 + 2*driver.MemoryBlock, 1<<30 + 2*driver.MemoryBlock},
		{"the same again", 1<<30 + 2*driver.MemoryBlock, 1<<30 + 2*driver.MemoryBlock},
		{"less than a block", 1<<30 + 2*driver.MemoryBlock + 1<<20, 1<<30 + 2*driver.MemoryBlock},
		{"a block and a half", 1<<30 + 7*driver.MemoryBlock/2, 1<<30 + 3*driver.MemoryBlock},
		{"all that it can have", driver.MaxMemory(1 << 30), driver.MaxMemory(1 << 30)},
		{"more than it can have", driver.MaxMemory(1<<30) + driver.MemoryBlock, driver.MaxMemory(1 << 30)},
	} {
		if now := resize(step.want); now != step.have {
			t.Errorf("%s: it has %d MiB, want %d", step.what, now>>20, step.have>>20)
		}
	}
	def.MemoryBytes, def.Generation = driver.MaxMemory(1<<30), 2
	must(t, "define while it runs", s.Driver.Define(ctx, def))
	if now := resize(def.MemoryBytes); now != def.MemoryBytes {
		t.Errorf("after it was defined anew it has %d MiB", now>>20)
	}
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	must(t, "start with its new size", s.Driver.Start(ctx, def.VMID))
	if now := resize(def.MemoryBytes); now != def.MemoryBytes {
		t.Errorf("after its next start it has %d MiB", now>>20)
	}
}
