package drivertest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Run runs the suite. Every test gets a harness of its own from make.
func Run(t *testing.T, make func(t *testing.T) Harness) {
	for name, test := range map[string]func(*testing.T, *suite){
		"Info":             testInfo,
		"Lifecycle":        testLifecycle,
		"Idempotence":      testIdempotence,
		"Save":             testSave,
		"Boots":            testBoots,
		"Resize":           testResize,
		"PlugMemory":       testPlugMemory,
		"Absent":           testAbsent,
		"Redefine":         testRedefine,
		"BehindOurBack":    testBehindOurBack,
		"Console":          testConsole,
		"Networks":         testNetworks,
		"AttachedNetwork":  testAttachedNetwork,
		"Hosts":            testHosts,
		"Interfaces":       testInterfaces,
		"GoneAndBack":      testGoneAndBack,
		"EndedContext":     testEndedContext,
		"ClosedDriver":     testClosedDriver,
		"AddressesOfNoNIC": testAddresses,
		"Disks":            testDisks,
		"Snapshots":        testSnapshots,
		"FreezeNobody":     testFreezeWithoutAgent,
		"AskNobody":        testAskNobody,
		"Stats":            testStats,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, make(t))) })
	}
}

func testInfo(t *testing.T, s *suite) {
	info, err := s.Driver.Info(s.ctx(t))
	must(t, "info", err)
	if info.Architecture == "" || info.CPUModel == "" || info.Version == "" || info.Hostname == "" {
		t.Errorf("info lacks something: %+v", info)
	}
	if info.Accelerator != "kvm" && info.Accelerator != "tcg" {
		t.Errorf("accelerator %q", info.Accelerator)
	}
	if len(info.Hypervisors) != 1 || info.Hypervisors[0] != "kvm" {
		t.Errorf("hypervisors %q", info.Hypervisors)
	}
}

func (s *suite) expect(t *testing.T, vm uuid.UUID, want nodeapi.Observed) driver.DomainState {
	t.Helper()
	got, err := s.Driver.Status(s.ctx(t), vm)
	must(t, "status", err)
	if got.Observed != want {
		t.Fatalf("observed %s (%s), want %s", got.Observed, got.Reason, want)
	}
	return got
}

// testBoots: each time that a domain comes on can be told from the others, and stays the same while it is on.
func testBoots(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	if boot := s.expect(t, def.VMID, nodeapi.ObservedStopped).Boot; boot != "" {
		t.Errorf("off, and its boot is %q", boot)
	}
	at := s.mark()
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	s.waitEvent(t, "start", at, state(def.VMID, nodeapi.ObservedRunning))
	first := s.expect(t, def.VMID, nodeapi.ObservedRunning).Boot
	must(t, "suspend", s.Driver.Suspend(ctx, def.VMID))
	if boot := s.expect(t, def.VMID, nodeapi.ObservedPaused).Boot; boot != first || first == "" {
		t.Errorf("its boot is %q, and was %q", boot, first)
	}
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	at = s.mark()
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	boot := s.expect(t, def.VMID, nodeapi.ObservedRunning).Boot
	if boot == first || boot == "" {
		t.Errorf("its second boot is %q, the first was %q", boot, first)
	}
	s.waitEvent(t, "start", at, func(e driver.Event) bool { return e.VMID == def.VMID && e.Boot == boot })
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
}

func testLifecycle(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	steps := []struct {
		name string
		do   func(context.Context, uuid.UUID) error
		want nodeapi.Observed
	}{
		{"start", s.Driver.Start, nodeapi.ObservedRunning},
		{"suspend", s.Driver.Suspend, nodeapi.ObservedPaused},
		{"resume", s.Driver.Resume, nodeapi.ObservedRunning},
		{"reset", s.Driver.Reset, nodeapi.ObservedRunning},
		{"destroy", s.Driver.Destroy, nodeapi.ObservedStopped},
	}
	at := s.mark()
	must(t, "define", s.Driver.Define(ctx, def))
	at = s.waitEvent(t, "define", at, state(def.VMID, nodeapi.ObservedStopped))
	got := s.expect(t, def.VMID, nodeapi.ObservedStopped)
	if got.InstallationID != def.InstallationID || got.Generation != 1 {
		t.Errorf("metadata did not come back: %+v", got)
	}
	for _, step := range steps {
		must(t, step.name, step.do(ctx, def.VMID))
		s.expect(t, def.VMID, step.want)
		if step.name != "reset" {
			at = s.waitEvent(t, step.name, at, state(def.VMID, step.want))
		}
	}
	if got := s.expect(t, def.VMID, nodeapi.ObservedStopped); got.Reason != "destroyed" {
		t.Errorf("reason %q after destroy", got.Reason)
	}
	list, err := s.Driver.List(ctx)
	must(t, "list", err)
	found := 0
	for _, d := range list {
		if d.VMID == def.VMID && d.Observed == nodeapi.ObservedStopped && d.InstallationID == def.InstallationID {
			found++
		}
	}
	if found != 1 {
		t.Errorf("listed %d times in %+v", found, list)
	}
	must(t, "undefine", s.Driver.Undefine(ctx, def.VMID))
	s.waitEvent(t, "undefine", at, state(def.VMID, nodeapi.ObservedAbsent))
	if _, err := s.Driver.Status(ctx, def.VMID); !errors.Is(err, nodeapi.ErrNotDefined) {
		t.Errorf("status after undefine: %v", err)
	}
}

func testIdempotence(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	twice := func(name string, do func() error) {
		t.Helper()
		must(t, name, do())
		must(t, "second "+name, do())
	}
	twice("define", func() error { return s.Driver.Define(ctx, def) })
	twice("start", func() error { return s.Driver.Start(ctx, def.VMID) })
	twice("shutdown", func() error { return s.Driver.Shutdown(ctx, def.VMID) })
	twice("suspend", func() error { return s.Driver.Suspend(ctx, def.VMID) })
	twice("resume", func() error { return s.Driver.Resume(ctx, def.VMID) })
	twice("destroy", func() error { return s.Driver.Destroy(ctx, def.VMID) })
	twice("shutdown of what is off", func() error { return s.Driver.Shutdown(ctx, def.VMID) })
	for name, do := range map[string]func(context.Context, uuid.UUID) error{
		"suspend": s.Driver.Suspend, "resume": s.Driver.Resume, "reset": s.Driver.Reset,
	} {
		if err := do(ctx, def.VMID); !errors.Is(err, nodeapi.ErrHypervisorRefused) {
			t.Errorf("%s of what is off: %v", name, err)
		}
	}
	twice("undefine", func() error { return s.Driver.Undefine(ctx, def.VMID) })
}

func testAbsent(t *testing.T, s *suite) {
	ctx, id := s.ctx(t), uuid.Must(uuid.NewV7())
	for name, do := range map[string]func(context.Context, uuid.UUID) error{
		"start": s.Driver.Start, "shutdown": s.Driver.Shutdown, "destroy": s.Driver.Destroy, "reset": s.Driver.Reset,
		"suspend": s.Driver.Suspend, "resume": s.Driver.Resume,
		"status":    func(ctx context.Context, id uuid.UUID) error { _, err := s.Driver.Status(ctx, id); return err },
		"addresses": func(ctx context.Context, id uuid.UUID) error { _, err := s.Driver.Addresses(ctx, id); return err },
		"console":   func(ctx context.Context, id uuid.UUID) error { _, err := s.Driver.OpenConsole(ctx, id); return err },
	} {
		if err := do(ctx, id); !errors.Is(err, nodeapi.ErrNotDefined) {
			t.Errorf("%s of an absent domain: %v", name, err)
		}
	}
	must(t, "undefine of an absent domain", s.Driver.Undefine(ctx, id))
}

func testRedefine(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	first, err := s.Driver.Definition(ctx, def.VMID)
	must(t, "ask for the definition", err)
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	sorted := func(text string) string { // libvirt may tell the same in another order
		return strings.Join(slices.Sorted(strings.Lines(text)), "")
	}
	if again, err := s.Driver.Definition(ctx, def.VMID); err != nil || sorted(again) != sorted(first) {
		t.Errorf("a start has changed the definition, %v:\n%s\n%s", err, first, again)
	}
	def.Generation = 2
	must(t, "define while it runs", s.Driver.Define(ctx, def))
	head, _, _ := strings.Cut(first, "\n")
	if second, err := s.Driver.Definition(ctx, def.VMID); err != nil || second == first || !strings.HasPrefix(second, head+"\n") {
		t.Errorf("the definition after it was defined anew, %v: %s", err, second)
	}
	if _, err := s.Driver.Definition(ctx, uuid.New()); !errors.Is(err, nodeapi.ErrNotDefined) {
		t.Errorf("the definition of what is absent: %v", err)
	}
	if got := s.expect(t, def.VMID, nodeapi.ObservedRunning); got.Generation != 2 {
		t.Errorf("generation %d, want that of the newest definition", got.Generation)
	}
}

func testBehindOurBack(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	at := s.waitEvent(t, "start", 0, state(def.VMID, nodeapi.ObservedRunning))
	s.DestroyBehind(t, def.VMID)
	s.waitEvent(t, "the foreign destroy", at, state(def.VMID, nodeapi.ObservedStopped))
	if got := s.expect(t, def.VMID, nodeapi.ObservedStopped); got.Reason != "destroyed" {
		t.Errorf("reason %q", got.Reason)
	}
}

func testConsole(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	if c, err := s.Driver.OpenConsole(ctx, def.VMID); err == nil {
		c.Close()
		t.Error("the console of what is off opened")
	}
	must(t, "start", s.Driver.Start(ctx, def.VMID))

	// A reader that waits is let go by Close, by a takeover, and by the end of the domain.
	for name, end := range map[string]func(c io.Closer){
		"close":    func(c io.Closer) { c.Close() },
		"takeover": func(io.Closer) { s.console(t, def.VMID) },
		"destroy":  func(io.Closer) { must(t, "destroy", s.Driver.Destroy(ctx, def.VMID)) },
	} {
		must(t, "start", s.Driver.Start(ctx, def.VMID))
		c := s.console(t, def.VMID)
		if _, err := c.Write([]byte("\r")); err != nil {
			t.Errorf("write: %v", err)
		}
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(io.Discard, c) }()
		end(c)
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("the reader still waits after %s", name)
		}
		if err := c.Close(); err != nil {
			t.Errorf("close after %s: %v", name, err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a closed console reads")
		}
	}
}

func (s *suite) console(t *testing.T, vm uuid.UUID) io.ReadWriteCloser {
	t.Helper()
	c, err := s.Driver.OpenConsole(s.ctx(t), vm)
	must(t, "open console", err)
	t.Cleanup(func() { c.Close() })
	return c
}

func testGoneAndBack(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	at := s.mark()
	s.Leave(t)
	at = s.waitEvent(t, "the lost connection", at, func(e driver.Event) bool { return e.Kind == driver.EventDisconnected })
	for name, err := range map[string]error{
		"start": s.Driver.Start(ctx, def.VMID),
		"list":  func() error { _, err := s.Driver.List(ctx); return err }(),
	} {
		if !errors.Is(err, nodeapi.ErrHypervisor) || !errs.Retryable(err) {
			t.Errorf("%s while away: %v", name, err)
		}
	}
	s.Return(t)
	at = s.waitEvent(t, "the new connection", at, func(e driver.Event) bool { return e.Kind == driver.EventConnected })
	s.expect(t, def.VMID, nodeapi.ObservedRunning)
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	s.waitEvent(t, "destroy on the new connection", at, state(def.VMID, nodeapi.ObservedStopped))
}

func testEndedContext(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	def := s.domain(t)
	if err := s.Driver.Define(ctx, def); !errors.Is(err, context.Canceled) {
		t.Errorf("define: %v", err)
	}
	if _, err := s.Driver.Status(s.ctx(t), def.VMID); !errors.Is(err, nodeapi.ErrNotDefined) {
		t.Errorf("defined all the same: %v", err)
	}
}

func testClosedDriver(t *testing.T, s *suite) {
	must(t, "close", s.Driver.Close())
	if _, err := s.Driver.List(t.Context()); !errors.Is(err, nodeapi.ErrHypervisor) {
		t.Errorf("list: %v", err)
	}
	if err := s.Driver.Open(t.Context(), func(driver.Event) {}); err == nil {
		t.Error("a closed driver opened again")
	}
}

func testAddresses(t *testing.T, s *suite) {
	ctx, def := s.ctx(t), s.domain(t)
	must(t, "define", s.Driver.Define(ctx, def))
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	addresses, err := s.Driver.Addresses(ctx, def.VMID)
	if err != nil || len(addresses) != 0 {
		t.Errorf("addresses %v, %v", addresses, err)
	}
	must(t, "release leases", s.Driver.ReleaseLeases(ctx, def.VMID))
}
