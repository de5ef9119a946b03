package libvirt_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/drivertest"
	"github.com/novacron/novacron/internal/vm/internal/driver/libvirt"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/test/testhost"
)

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// testLog shows the driver's log in the test's output as long as the test runs.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestConformance(t *testing.T) {
	h := testhost.Start(t, "drv")
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		dir, err := os.MkdirTemp(h.Dir(), "disks")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o711); err != nil { // QEMU runs as another user
			t.Fatal(err)
		}
		return drivertest.Harness{
			Driver:  libvirt.New(libvirt.Config{URI: h.URI(), Accel: libvirt.AccelTCG, Log: testLog(t), HostsDir: filepath.Join(dir, "leases")}),
			Dir:     dir,
			NewDisk: func(t *testing.T, path string) { run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "16M") },
			DestroyBehind: func(t *testing.T, vm uuid.UUID) {
				h.Virsh(t, "destroy", driver.NamePrefix+vm.String())
			},
			Leave:  func(t *testing.T) { h.KillLibvirtd(t) },
			Return: func(t *testing.T) { h.StartLibvirtd(t) },
		}
	})
}

// TestForeignDomainsAreLeftAlone has a domain that looks like ours by its name only.
func TestForeignDomainsAreLeftAlone(t *testing.T) {
	h := testhost.Start(t, "foreign")
	id := uuid.Must(uuid.NewV7()).String()
	xml := filepath.Join(t.TempDir(), "foreign.xml")
	text := `<domain type="qemu"><name>nova-` + id + `</name><uuid>` + id + `</uuid><memory>8192</memory><os><type>hvm</type></os></domain>`
	if err := os.WriteFile(xml, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Virsh(t, "define", xml)

	connected := make(chan struct{}, 16)
	d := libvirt.New(libvirt.Config{URI: h.URI(), Log: testLog(t)})
	if err := d.Open(t.Context(), func(driver.Event) { connected <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	<-connected
	list, err := d.List(context.Background())
	if err != nil || len(list) != 0 {
		t.Errorf("list %+v, %v", list, err)
	}
	if _, err := d.Status(context.Background(), uuid.MustParse(id)); err == nil {
		t.Error("a domain without our metadata has a status")
	}
}

// opened opens a driver and answers its events.
func opened(t *testing.T, h *testhost.Host, ping time.Duration) (*libvirt.Driver, <-chan driver.Event) {
	t.Helper()
	events := make(chan driver.Event, 256)
	d := libvirt.New(libvirt.Config{
		URI: h.URI(), Accel: libvirt.AccelTCG, Log: testLog(t), PingInterval: ping, PingPatience: 4 * ping,
	})
	if err := d.Open(t.Context(), func(e driver.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	await(t, events, driver.EventConnected)
	return d, events
}

func await(t *testing.T, events <-chan driver.Event, kind driver.EventKind) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return
			}
		case <-deadline:
			t.Fatalf("no event %s", kind)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestReconnectionsLeakNothing restarts libvirtd again and again under questions.
func TestReconnectionsLeakNothing(t *testing.T) {
	h := testhost.Start(t, "again")
	d, events := opened(t, h, 0)
	restart := func() {
		h.KillLibvirtd(t)
		await(t, events, driver.EventDisconnected)
		h.StartLibvirtd(t)
		await(t, events, driver.EventConnected)
		if _, err := d.List(t.Context()); err != nil {
			t.Errorf("list: %v", err)
		}
	}
	restart() // the first brings what stays
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		restart()
	}
	deadline, tick := time.After(30*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for openFiles(t) > files || runtime.NumGoroutine() > goroutines {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d files and %d goroutines, before %d and %d", openFiles(t), runtime.NumGoroutine(), files, goroutines)
		}
	}
}

// TestHungLibvirtdIsGivenUp has a libvirtd that keeps its connections and answers nothing, to several calls at once; then it goes
// on, and the next time it is killed.
func TestHungLibvirtdIsGivenUp(t *testing.T) {
	h := testhost.Start(t, "hung")
	d, events := opened(t, h, time.Second)
	for _, end := range []func(){
		func() { h.Run(t, "bash", "-c", "kill -CONT $(cat /run/libvirtd.pid)") },
		func() { h.KillLibvirtd(t); h.StartLibvirtd(t) },
	} {
		h.Run(t, "bash", "-c", "kill -STOP $(cat /run/libvirtd.pid)")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := d.List(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a question without patience: %v", err)
		}
		cancel()
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				if err := d.Start(t.Context(), uuid.New()); !errors.Is(err, nodeapi.ErrHypervisor) {
					t.Errorf("a change: %v", err)
				}
			})
		}
		calls.Wait()
		await(t, events, driver.EventDisconnected)
		end()
		await(t, events, driver.EventConnected)
		if _, err := d.List(t.Context()); err != nil {
			t.Errorf("list after all: %v", err)
		}
	}
}

// A network that was made without DHCPv6 has it when it is next asked for, and keeps its names and leases.
func TestNetworksFromBeforeGetDHCPv6(t *testing.T) {
	h := testhost.Start(t, "before6")
	older, _ := opened(t, h, time.Second)
	def := driver.NetworkDef{ID: uuid.New(), InstallationID: uuid.New(), Name: "lan", Mode: driver.ModeNAT, Bridge: "nvbefore6", CIDR: "10.231.79.0/24", Gateway: "10.231.79.1",
		DHCPStart: "10.231.79.10", DHCPEnd: "10.231.79.99", CIDR6: "fd00:231:79::/64", Gateway6: "fd00:231:79::1"}
	hosts := []nodeapi.NetworkHost{{MAC: "52:54:00:00:00:01", IP: "10.231.79.11", IP6: "fd00:231:79::5054:ff:fe00:1", Name: "web-1"}}
	if err := errors.Join(older.EnsureNetwork(t.Context(), def), older.SetHosts(t.Context(), def.InstallationID, def.ID, hosts)); err != nil {
		t.Fatal(err)
	}
	connected := make(chan struct{}, 16)
	leases := filepath.Join(h.Dir(), "leases")
	d := libvirt.New(libvirt.Config{URI: h.URI(), Log: testLog(t), HostsDir: leases})
	if err := d.Open(t.Context(), func(driver.Event) { connected <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	<-connected
	for range 2 {
		if err := d.EnsureNetwork(t.Context(), def); err != nil {
			t.Fatal(err)
		}
	}
	for _, flag := range []string{"--inactive", ""} {
		out := h.Virsh(t, strings.Fields("net-dumpxml "+driver.NamePrefix+def.ID.String()+" "+flag)...)
		for _, part := range []string{"dhcp-hostsdir=" + leases, "dhcp-range=fd00:231:79::,static", "10.231.79.11", "fd00:231:79:0:5054:ff:fe00:1"} {
			if !strings.Contains(out, part) {
				t.Errorf("%s is missing in\n%s", part, out)
			}
		}
	}
	if err := d.SetHosts(t.Context(), def.InstallationID, def.ID, hosts); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Hosts(t.Context(), def.ID); err != nil || !slices.Equal(got, hosts) {
		t.Errorf("hosts %+v, %v", got, err)
	}
	if err := d.RemoveNetwork(t.Context(), def.InstallationID, def.ID); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(leases); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
