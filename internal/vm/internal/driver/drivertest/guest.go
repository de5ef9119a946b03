package drivertest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// testAskNobody asks guests that have no agent: at once, whether they are on or off, and not at all where they are not there.
func testAskNobody(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	command := []byte(`{"execute":"guest-ping"}`)
	if _, err := s.Driver.AskAgent(ctx, uuid.New(), command, time.Second); !errors.Is(err, nodeapi.ErrNotDefined) {
		t.Errorf("of a guest that is not there: %v", err)
	}
	must(t, "define", s.Driver.Define(ctx, def))
	if _, err := s.Driver.AskAgent(ctx, def.VMID, command, time.Second); !errors.Is(err, driver.ErrNoAgent) {
		t.Errorf("of one that is off: %v", err)
	}
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	for range 10 { // more than may be asked at once: none is left open
		if _, err := s.Driver.AskAgent(ctx, def.VMID, command, time.Second); !errors.Is(err, driver.ErrNoAgent) {
			t.Errorf("of one that is on: %v", err)
		}
	}
}

// testStats measures guests that are on and no others.
func testStats(t *testing.T, s *suite) {
	ctx, off, on := s.ctx(t), s.domain(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, off))
	must(t, "define", s.Driver.Define(ctx, on))
	must(t, "start", s.Driver.Start(ctx, on.VMID))
	of := func(id uuid.UUID) *driver.Stats {
		t.Helper()
		list, err := s.Driver.Stats(ctx)
		must(t, "measure", err)
		if i := slices.IndexFunc(list, func(s driver.Stats) bool { return s.VMID == id }); i >= 0 {
			return &list[i]
		}
		return nil
	}
	if of(off.VMID) != nil {
		t.Error("one that is off is measured")
	}
	first := of(on.VMID)
	if first == nil {
		t.Fatal("one that is on is not measured")
	}
	if first.VCPUs != 1 || first.Partial || first.Memory == nil || *first.Memory != on.MemoryBytes || first.RSS == nil || *first.RSS <= 0 ||
		first.DiskRead == nil || first.DiskWritten == nil || first.DiskCapacity == nil || *first.DiskCapacity <= 0 {
		t.Errorf("measured %+v", *first)
	}
	deadline := time.After(patience)
	for of(on.VMID).CPUTime <= first.CPUTime {
		select {
		case <-deadline:
			t.Fatal("its time on processors does not grow")
		case <-time.After(50 * time.Millisecond):
		}
	}
	must(t, "destroy", s.Driver.Destroy(ctx, on.VMID))
	if of(on.VMID) != nil {
		t.Error("one that has gone off is measured")
	}
}
