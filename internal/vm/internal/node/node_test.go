package node_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
	"github.com/novacron/novacron/internal/vm/internal/node"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

const (
	absent  = nodeapi.ObservedAbsent
	stopped = nodeapi.ObservedStopped
	running = nodeapi.ObservedRunning
	paused  = nodeapi.ObservedPaused
)

// world is a node on a fake hypervisor with its controller.
type world struct {
	*controller
	driver *fake.Driver
	node   *node.Node
	stop   func()
	dir    string
}

func newWorld(t *testing.T, change ...func(*node.Config)) *world {
	t.Helper()
	dir := t.TempDir()
	id, err := node.LoadNodeID(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{controller: newController(t, id), driver: fake.New(), dir: dir}
	w.node, w.stop = start(t, w.controller, dir, w.driver, change...)
	ready(t, w.node)
	return w
}

// restart starts another node role on the same data folder and the same guests.
func (w *world) restart(t *testing.T) {
	t.Helper()
	w.stop()
	w.driver = w.driver.Reborn()
	w.node, w.stop = start(t, w.controller, w.dir, w.driver)
	ready(t, w.node)
}

// define makes a virtual machine with a disk and a seed.
func (w *world) define(vm uuid.UUID, generation int64) {
	w.t.Helper()
	do[nodeapi.Empty](w.controller, vm, generation, nodeapi.VerbEnsureDisk, nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20})
	do[nodeapi.Empty](w.controller, vm, generation, nodeapi.VerbEnsureSeed, nodeapi.SeedSpec{MetaData: "instance-id: x\n"})
	s := do[nodeapi.Status](w.controller, vm, generation, nodeapi.VerbDefine, nodeapi.DomainSpec{
		Name: "vm", VCPUs: 1, MemoryBytes: 1 << 20, Disks: []string{"root"}, Seed: true,
		NICs: []nodeapi.NIC{{NetworkID: uuid.New(), MAC: "52:54:00:00:00:01"}},
	})
	if s.Observed != stopped || s.Generation != generation {
		w.t.Errorf("status after define: %+v", s)
	}
}

func TestLifecycleIsToldOnceAndInOrder(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	for _, step := range []struct {
		verb nodeapi.Verb
		req  any
		want nodeapi.Observed
	}{
		{nodeapi.VerbStart, nodeapi.Empty{}, running}, {nodeapi.VerbPause, nodeapi.Empty{}, paused},
		{nodeapi.VerbResume, nodeapi.Empty{}, running}, {nodeapi.VerbReset, nodeapi.Empty{}, running},
		{nodeapi.VerbReboot, nodeapi.ShutdownSpec{Grace: time.Minute}, running},
		{nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: time.Minute}, stopped},
	} {
		if s := do[nodeapi.Status](w.controller, vm, 1, step.verb, step.req); s.Observed != step.want {
			t.Errorf("%s answered %+v", step.verb, s)
		}
	}
	do[nodeapi.Empty](w.controller, vm, 1, nodeapi.VerbRemove, nodeapi.Empty{})
	w.waitTold(vm, stopped, running, paused, running, stopped, running, stopped, absent)
	if s := do[nodeapi.Status](w.controller, vm, 0, nodeapi.VerbInspect, nodeapi.Empty{}); s.Observed != absent {
		t.Errorf("inspect after remove: %+v", s)
	}
}

func TestEpochHelloAndHeartbeat(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	leftover := uuid.New()
	do[nodeapi.Empty](w.controller, leftover, 1, nodeapi.VerbEnsureDisk, nodeapi.DiskSpec{Name: "root", SizeBytes: 1 << 20})
	w.restart(t)
	var hello nodeapi.Report
	w.wait("the second hello", func() bool {
		for _, r := range w.reports {
			if r.Hello && r.Epoch == 2 {
				hello = r
				return true
			}
		}
		return false
	})
	got := map[uuid.UUID]nodeapi.Observed{}
	for _, s := range hello.Statuses {
		got[s.VMID] = s.Observed
	}
	if len(got) != 2 || got[vm] != running || got[leftover] != absent || hello.Seq != 1 {
		t.Errorf("hello %+v", hello)
	}
	w.wait("a heartbeat", func() bool {
		i := slices.IndexFunc(w.beats, func(h event.NodeHeartbeat) bool { return h.Epoch == 2 && h.Running == 1 })
		if i < 0 {
			return false
		}
		h := w.beats[i]
		return h.Health == "healthy" && h.Capacity.VCPUs > 0 && h.Capacity.MemoryBytes > 1<<20 && h.Capacity.StorageBytes > 0 &&
			h.Accelerator == "tcg" && h.NodeID == w.controller.node && h.Version == "1"
	})
}

func TestHypervisorAway(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	w.waitTold(vm, stopped, running)
	w.driver.Leave()
	w.wait("a degraded heartbeat", func() bool { return len(w.beats) > 0 && w.beats[len(w.beats)-1].Health == "degraded" })
	_, err := send[nodeapi.Status](t.Context(), w.controller, vm, 1, nodeapi.VerbPause, nodeapi.Empty{})
	if !errors.Is(err, nodeapi.ErrHypervisor) || !errs.Retryable(err) {
		t.Errorf("a command while the hypervisor is away: %v", err)
	}
	if err := w.node.Ready(t.Context()); !errors.Is(err, nodeapi.ErrHypervisor) {
		t.Errorf("ready: %v", err)
	}
	w.driver.Set(vm, stopped, "shutdown", true)
	w.driver.Return()
	w.waitTold(vm, stopped, running, stopped)
	ready(t, w.node)
}

func TestMissedEventIsFoundByThePoll(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	w.driver.Set(vm, running, "booted", true)
	w.waitTold(vm, stopped, running)
	w.driver.Set(vm, absent, "undefined", true)
	w.waitTold(vm, stopped, running, absent)
}

func TestAddressesAreTold(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	address := nodeapi.Address{MAC: "52:54:00:00:00:01", IP: "10.0.0.7", Source: "lease"}
	w.driver.SetAddresses(vm, address)
	w.wait("the address", func() bool { return slices.Equal(w.last(vm).Addresses, []nodeapi.Address{address}) })
	if s := do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbPause, nodeapi.Empty{}); len(s.Addresses) != 1 {
		t.Errorf("status of a paused guest: %+v", s)
	}
	s := do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{})
	w.wait("the end", func() bool { return w.last(vm).Observed == stopped })
	if len(s.Addresses) != 0 || len(w.last(vm).Addresses) != 0 {
		t.Error("a stopped guest keeps its addresses")
	}
}

func TestShutdownPressesAgainThenPullsThePlug(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	presses := func() int {
		return len(slices.DeleteFunc(w.driver.Calls(), func(c string) bool { return !strings.HasPrefix(c, "Shutdown ") }))
	}
	w.driver.ShutdownAfter(3)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	if s := do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: patience}); s.Reason != "shutdown" {
		t.Errorf("a slow guest was not shut down in peace: %+v", s)
	}
	if n := presses(); n < 3 {
		t.Errorf("%d presses", n)
	}
	w.driver.ShutdownAfter(-1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbPause, nodeapi.Empty{})
	s := do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{Grace: 300 * time.Millisecond})
	if s.Observed != stopped || s.Reason != "destroyed" {
		t.Errorf("a deaf guest: %+v", s)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	w, vm := newWorld(t, func(c *node.Config) { c.Metrics = registry }), uuid.New()
	w.define(vm, 1)
	if _, err := send[nodeapi.Empty](t.Context(), w.controller, vm, 1, "vm.nonsense", nodeapi.Empty{}); !errors.Is(err, nodeapi.ErrUnknownVerb) {
		t.Errorf("an unknown verb: %v", err)
	}
	w.waitTold(vm, stopped)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(families)
	for _, want := range []string{
		"novacron_vm_node_commands_total", "novacron_vm_node_command_duration_seconds", "novacron_vm_node_reports_repeated_total",
		"novacron_vm_node_hypervisor_connects_total", "novacron_vm_node_domains", `"vm.unknown_verb"`, `"vm.define"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	w.stop()
	if families, _ := registry.Gather(); len(families) != 0 {
		t.Error("a stopped node leaves its metrics registered")
	}
}

func TestConsoleStream(t *testing.T) {
	w, vm := newWorld(t), uuid.New()
	w.define(vm, 1)
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
	dir, err := os.MkdirTemp("", "nv")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 1)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Upgrade") != "novacron-stream" || r.URL.Path != "/s/1" {
			http.Error(rw, "no", http.StatusForbidden)
			return
		}
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: novacron-stream\r\n\r\nearly "))
		conns <- conn
	})}
	go srv.Serve(l) // ends with Close
	defer srv.Close()
	url := "unix:" + filepath.Join(dir, "s")
	do[nodeapi.Empty](w.controller, vm, 0, nodeapi.VerbOpenConsole, nodeapi.ConsoleOpen{StreamURL: url + ":/s/1"})
	conn := <-conns
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	got := ""
	for buf := make([]byte, 64); len(got) < len("early echo"); {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got += string(buf[:n])
	}
	if got != "early echo" {
		t.Errorf("the console echoed %q", got)
	}
	do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbShutdown, nodeapi.ShutdownSpec{})
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the stream outlives the guest")
	}
	for _, bad := range []string{url + ":/other", "unix:" + dir + "/none:/x", "ftp://x"} {
		do[nodeapi.Status](w.controller, vm, 1, nodeapi.VerbStart, nodeapi.Empty{})
		if _, err := send[nodeapi.Empty](t.Context(), w.controller, vm, 0, nodeapi.VerbOpenConsole, nodeapi.ConsoleOpen{StreamURL: bad}); err == nil {
			t.Errorf("%s was reached", bad)
		}
	}
}

func TestStartAndStop(t *testing.T) {
	b := newController(t, uuid.New())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	n := node.New(node.Config{NodeID: b.node, DataDir: t.TempDir(), Bus: b.bus, Driver: fake.New()})
	ctx := context.Background()
	if err := n.Ready(ctx); err == nil {
		t.Error("ready before the start")
	}
	for range 2 {
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	ready(t, n)
	for range 2 {
		if err := n.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Start(ctx); err == nil {
		t.Error("a stopped node started")
	}
	never := node.New(node.Config{NodeID: uuid.New(), DataDir: t.TempDir(), Bus: b.bus, Driver: fake.New()})
	if err := never.Stop(ctx); err != nil {
		t.Errorf("stop without start: %v", err)
	}
	_, err := bus.Call[nodeapi.Command, nodeapi.Empty](ctx, b.bus, bus.SubjectNodeCommand(b.node), nodeapi.Command{})
	if !errors.Is(err, bus.ErrNoResponders) {
		t.Errorf("a stopped node answers: %v", err)
	}
}

func TestLoadNodeIDStays(t *testing.T) {
	dir := t.TempDir()
	a, errA := node.LoadNodeID(dir)
	b, errB := node.LoadNodeID(dir)
	if errA != nil || errB != nil || a != b || a.Version() != 7 {
		t.Errorf("%s %v, %s %v", a, errA, b, errB)
	}
	if err := os.WriteFile(filepath.Join(dir, "node", "id"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := node.LoadNodeID(dir); err == nil {
		t.Error("a damaged id was replaced; the node would become another one")
	}
}
