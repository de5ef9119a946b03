package vmmodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/novacron/novacron/internal/bus"
	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/bus/membus"
	"github.com/novacron/novacron/internal/platform/cache"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg/pgtest"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/schedulermodule"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/fake"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// TestMain looks for leaks; the event loop of libvirt lives as long as its process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.Wrap(m), goleak.IgnoreAnyFunction("libvirt.org/go/libvirt.EventRunDefaultImpl"))
}

// world is a vm module with both roles and a scheduler, on a real database and a hypervisor in memory.
type world struct {
	t         *testing.T
	dir       string
	vm        *Module
	sched     *schedulermodule.Module
	driver    *fake.Driver
	bus       bus.Bus
	cache     cache.Cache // in process where the test gives none
	tenant    identity.Principal
	fault     atomic.Pointer[func(kind, step, when string) error]
	events    chan event.VM
	newDriver func(Config, *slog.Logger) driver.Driver
	refuse    atomic.Pointer[string] // programs of the host whose command line has this in it fail
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, func(*world, *Config) {})
}

// newWorldWith makes a world whose configuration the test has a say in.
func newWorldWith(t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	return newWorldIn(t.Context(), t, change)
}

// newWorldIn makes a world that starts with a context of the test's own.
func newWorldIn(ctx context.Context, t *testing.T, change func(*world, *Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), driver: fake.New(), bus: membus.NewWith(ctx), tenant: principal("*"), events: make(chan event.VM, 1000)}
	url := pgtest.New(t).URL
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if _, err := bus.NewTopic[event.VM](bus.SubjectVMEvents).Subscribe(w.bus, bus.SubscribeOptions{}, func(_ context.Context, e event.VM) { w.events <- e }); err != nil {
		t.Fatal(err)
	}
	sc := schedulermodule.Default()
	sc.DatabaseURL, sc.StorageReserveBytes, sc.MemoryReserveBytes, sc.OvercommitMemory = url, 0, 0, 16
	var err error
	if w.sched, err = schedulermodule.New(sc, schedulermodule.Deps{Bus: w.bus, Log: log}); err != nil {
		t.Fatal(err)
	}
	if err := w.sched.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	cfg.DataDir, cfg.DatabaseURL, cfg.NodeName, cfg.Owner, cfg.StopGrace = w.dir, url, "node-1", "test", 20*time.Second
	cfg.DetachPatience = 5 * time.Second
	cfg.HeartbeatInterval = 200 * time.Millisecond
	cfg.run = w.run
	w.newDriver = func(Config, *slog.Logger) driver.Driver { return w.driver }
	change(w, &cfg)
	if w.cache == nil {
		memory := cache.NewMemory(10_000)
		t.Cleanup(func() { _ = memory.Close() })
		w.cache = memory
	}
	w.vm, err = New(cfg, Deps{Bus: w.bus, Cache: w.cache, Scheduler: w.sched.Service(), Log: log, Fault: func(kind, step, when string) error {
		if f := w.fault.Load(); f != nil {
			return (*f)(kind, step, when)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.vm.newDriver = w.newDriver
	if err := w.vm.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := w.vm.Stop(ctx); err != nil {
			t.Errorf("stop vm: %v", err)
		}
		if err := w.sched.Stop(ctx); err != nil {
			t.Errorf("stop scheduler: %v", err)
		}
		_ = w.bus.Close()
	})
	w.eventually("a node is ready", func() bool {
		nodes, err := w.sched.Service().ListNodes(t.Context(), scheduler.ListNodesRequest{})
		return err == nil && len(nodes.Nodes) == 1 && nodes.Nodes[0].State == scheduler.NodeReady && w.vm.Ready(t.Context()) == nil
	})
	return w
}

// run stands for the programs of the host: it reads files, and else agrees to everything unless the test makes it refuse.
func (w *world) run(_ context.Context, _ string, args ...string) (string, error) {
	if refuse := w.refuse.Load(); refuse != nil && strings.Contains(strings.Join(args, " "), *refuse) {
		return "", errors.New("refused by the test")
	}
	if args[0] == "cat" {
		text, err := os.ReadFile(args[1])
		return string(text), err
	}
	return "", nil
}

// policy is what the node keeps.
func (w *world) policy() nodeapi.Policy {
	w.vm.mu.Lock()
	defer w.vm.mu.Unlock()
	return w.vm.node.firewall.Policy()
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil { // not after the test has ended
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func principal(permissions ...string) identity.Principal {
	return identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: permissions, Scope: identity.ScopeTenant}
}

// failing makes the operation engine fail at one point until it is called with nil.
func (w *world) failing(f func(kind, step, when string) error) {
	if f == nil {
		w.fault.Store(nil)
		return
	}
	w.fault.Store(&f)
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// do sends a request as the tenant's user.
func (w *world) do(method, path string, body any, headers ...string) *httptest.ResponseRecorder {
	return w.doAs(w.tenant, method, path, body, headers...)
}

func (w *world) doAs(p identity.Principal, method, path string, body any, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.doOn(w.vm.Handler(), p, method, path, body, headers...)
}

func (w *world) doOn(handler http.Handler, p identity.Principal, method, path string, body any, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader = b
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	r := httptest.NewRequest(method, path, reader)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, r.WithContext(identity.With(w.t.Context(), p)))
	return rec
}

func decode[T any](t *testing.T, rec *httptest.ResponseRecorder, status int) T {
	t.Helper()
	var v T
	if rec.Code != status {
		t.Fatalf("got %d, want %d: %s", rec.Code, status, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("decode %s: %v", rec.Body, err)
	}
	return v
}

// op is what the tests need of an operation's REST form.
type op struct {
	ID       uuid.UUID     `json:"id"`
	Kind     string        `json:"kind"`
	TargetID uuid.UUID     `json:"target_id"`
	Status   string        `json:"status"`
	Progress int           `json:"progress"`
	Error    *errs.Problem `json:"error"`
	Steps    []struct {
		Name, Status string
	} `json:"steps"`
}

func (w *world) image() vm.Image {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "image.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", file, "16M").CombinedOutput(); err != nil {
		w.t.Fatalf("qemu-img: %v: %s", err, out)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	return decode[vm.Image](w.t, w.do(http.MethodPost, "/api/v1/images?name=demo", content, "Content-Type", "application/octet-stream"), http.StatusCreated)
}

func createRequest(name string, image uuid.UUID) map[string]any {
	return map[string]any{"name": name, "image_id": image, "resources": map[string]any{"vcpus": 1, "memory_mib": 128, "disk_gib": 1}}
}

// create makes a virtual machine and waits for the end of its operation.
func (w *world) create(name string, image uuid.UUID) op {
	w.t.Helper()
	return decode[op](w.t, w.do(http.MethodPost, "/api/v1/vms?wait=60s", createRequest(name, image)), http.StatusOK)
}

func (w *world) get(id uuid.UUID) vm.VM {
	w.t.Helper()
	return decode[vm.VM](w.t, w.do(http.MethodGet, "/api/v1/vms/"+id.String(), nil), http.StatusOK)
}

// act posts an action and waits for its end.
func (w *world) act(id uuid.UUID, verb string, body any) op {
	w.t.Helper()
	return decode[op](w.t, w.do(http.MethodPost, fmt.Sprintf("/api/v1/vms/%s/%s?wait=60s", id, verb), body), http.StatusOK)
}

// nothingLeft checks that no trace of any virtual machine is left anywhere.
func (w *world) nothingLeft() {
	w.t.Helper()
	domains, err := w.driver.List(w.t.Context())
	if err != nil || len(domains) != 0 {
		w.t.Errorf("domains are left: %v %v", domains, err)
	}
	for _, folder := range []string{"disks", "volumes"} {
		disks, err := os.ReadDir(filepath.Join(w.dir, "node", folder))
		if err != nil || len(disks) != 0 {
			w.t.Errorf("%s are left: %v %v", folder, disks, err)
		}
	}
	allocations, err := w.sched.Service().ListAllocations(w.t.Context(), scheduler.ListAllocationsRequest{})
	if err != nil || len(allocations.Allocations) != 0 {
		w.t.Errorf("allocations are left: %v %v", allocations, err)
	}
	nodes, err := w.sched.Service().ListNodes(w.t.Context(), scheduler.ListNodesRequest{})
	if err != nil || len(nodes.Nodes) != 1 || nodes.Nodes[0].Allocated != (scheduler.Resources{}) {
		w.t.Errorf("counters of the node are not back at zero: %+v %v", nodes.Nodes, err)
	}
	if list := decode[struct{ Items []vm.VM }](w.t, w.do(http.MethodGet, "/api/v1/vms", nil), http.StatusOK); len(list.Items) != 0 {
		w.t.Errorf("rows are left: %+v", list.Items)
	}
	if list := decode[struct{ Items []vm.Volume }](w.t, w.do(http.MethodGet, "/api/v1/volumes", nil), http.StatusOK); len(list.Items) != 0 {
		w.t.Errorf("volumes are left: %+v", list.Items)
	}
	// Those of the image and of the default network go on by themselves and end soon.
	w.eventually("no operation is at work", func() bool {
		for _, status := range []string{"pending", "running"} {
			if len(decode[struct{ Items []op }](w.t, w.do(http.MethodGet, "/api/v1/operations?status="+status, nil), http.StatusOK).Items) != 0 {
				return false
			}
		}
		return true
	})
}

// restartRealNode ends the node role and starts it again on the same libvirt.
func (w *world) restartRealNode() {
	w.t.Helper()
	w.vm.mu.Lock()
	defer w.vm.mu.Unlock()
	if err := w.vm.node.stop(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	n, err := startNode(w.t.Context(), w.vm.cfg, w.vm.deps, w.newDriver)
	if err != nil {
		w.t.Fatal(err)
	}
	w.vm.node = n
}

// restartNode ends the node role and starts it anew on the same guests, after what is done to them meanwhile.
func (w *world) restartNode(meanwhile ...func()) {
	w.t.Helper()
	w.vm.mu.Lock()
	defer w.vm.mu.Unlock()
	if err := w.vm.node.stop(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.driver = w.driver.Reborn()
	for _, does := range meanwhile {
		does()
	}
	n, err := startNode(w.t.Context(), w.vm.cfg, w.vm.deps, w.vm.newDriver)
	if err != nil {
		w.t.Fatal(err)
	}
	w.vm.node = n
}

func qemuIO(t *testing.T, path, command string) {
	t.Helper()
	out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", command, path).CombinedOutput()
	if err != nil || strings.Contains(string(out), "verification failed") {
		t.Errorf("qemu-io %s of %s: %v: %s", command, filepath.Base(path), err, out)
	}
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v: %s", args[0], err, out)
	}
}
