package libvirt_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/drivertest"
	"github.com/novacron/novacron/internal/vm/internal/driver/libvirt"
	"github.com/novacron/novacron/internal/vm/internal/driver/testhost"
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
			Driver:  libvirt.New(libvirt.Config{URI: h.URI(), Accel: libvirt.AccelTCG, Log: testLog(t)}),
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
