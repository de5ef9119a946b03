package drivertest

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Harness is one hypervisor with a driver that is not open yet.
type Harness struct {
	Driver driver.Driver
	// Dir is where disks and console logs of the tests' domains go.
	Dir string
	// NewDisk makes an empty disk at the path. Nil where the driver needs none.
	NewDisk func(t *testing.T, path string)
	// DestroyBehind powers a domain off as another program would.
	DestroyBehind func(t *testing.T, vm uuid.UUID)
	// Leave makes the hypervisor go away without warning; Return brings it back. Its guests live on.
	Leave, Return func(t *testing.T)
}

// patience is how long the suite waits for what should take a moment; test machines are slow.
const patience = 60 * time.Second

// suite is one open harness and the events that it got.
type suite struct {
	Harness
	installation uuid.UUID

	mu     sync.Mutex // guards events and changed
	events []driver.Event
	change chan struct{} // closed and replaced at every event
}

func open(t *testing.T, h Harness) *suite {
	t.Helper()
	s := &suite{Harness: h, installation: uuid.Must(uuid.NewV7()), change: make(chan struct{})}
	if err := h.Driver.Open(t.Context(), s.on); err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := h.Driver.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := h.Driver.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
	s.waitEvent(t, "the connection", 0, func(e driver.Event) bool { return e.Kind == driver.EventConnected })
	return s
}

func (s *suite) on(e driver.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	close(s.change)
	s.change = make(chan struct{})
}

// mark answers a position after which to look for events.
func (s *suite) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// waitEvent waits for an event after a mark and answers the position behind it.
func (s *suite) waitEvent(t *testing.T, what string, after int, match func(driver.Event) bool) int {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		i := slices.IndexFunc(s.events[after:], match)
		seen, change := slices.Clone(s.events[after:]), s.change
		s.mu.Unlock()
		if i >= 0 {
			return after + i + 1
		}
		select {
		case <-change:
		case <-deadline:
			t.Fatalf("no event tells of %s; seen: %+v", what, seen)
		}
	}
}

func state(vm uuid.UUID, o nodeapi.Observed) func(driver.Event) bool {
	return func(e driver.Event) bool { return e.Kind == driver.EventState && e.VMID == vm && e.Observed == o }
}

func (s *suite) ctx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// domain makes a definition and sees to it that nothing of it stays.
func (s *suite) domain(t *testing.T) driver.DomainDef {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	disk := filepath.Join(s.Dir, id.String()+".qcow2")
	if s.NewDisk != nil {
		s.NewDisk(t, disk)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Driver.Destroy(ctx, id)
		if err := s.Driver.Undefine(ctx, id); err != nil {
			t.Errorf("undefine at the end: %v", err)
		}
	})
	return driver.DomainDef{
		VMID: id, InstallationID: s.installation, TenantID: uuid.Must(uuid.NewV7()), Name: "conformance", Generation: 1,
		VCPUs: 1, MemoryBytes: 64 << 20, Disks: []driver.Disk{{Path: disk}},
		ConsoleLog: filepath.Join(s.Dir, id.String()+".log"),
	}
}

// network makes a definition that clashes with no other and sees to it that nothing of it stays.
func (s *suite) network(t *testing.T, mode string) driver.NetworkDef {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Driver.RemoveNetwork(ctx, s.installation, id); err != nil {
			t.Errorf("remove network at the end: %v", err)
		}
	})
	return driver.NetworkDef{
		ID: id, InstallationID: s.installation, Name: "conformance", Mode: mode, Bridge: "nv" + id.String()[24:],
		CIDR: "10.231.77.0/24", Gateway: "10.231.77.1", DHCPStart: "10.231.77.10", DHCPEnd: "10.231.77.99",
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
