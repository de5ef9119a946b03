package libvirt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/libvirt"
	"github.com/novacron/novacron/test/testhost"
)

// TestHungGuestsAreMeasuredInPart stops the QEMU of one guest: it holds up one measurement for a moment and no other, and all are measured
// again when it goes on.
func TestHungGuestsAreMeasuredInPart(t *testing.T) {
	h := testhost.Start(t, "meter")
	events := make(chan driver.Event, 256)
	d := libvirt.New(libvirt.Config{URI: h.URI(), Accel: libvirt.AccelTCG, Log: testLog(t), StatsPatience: 2 * time.Second})
	if err := d.Open(t.Context(), func(e driver.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	await(t, events, driver.EventConnected)
	if err := os.Chmod(h.Dir(), 0o711); err != nil {
		t.Fatal(err)
	}
	hung, well, installation := uuid.New(), uuid.New(), uuid.New()
	for _, id := range []uuid.UUID{hung, well} {
		disk := filepath.Join(h.Dir(), id.String()+".qcow2")
		run(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "16M")
		def := driver.DomainDef{VMID: id, InstallationID: installation, TenantID: uuid.New(), Name: "meter", Generation: 1, VCPUs: 1, MemoryBytes: 64 << 20,
			Disks: []driver.Disk{{Path: disk}}, ConsoleLog: filepath.Join(h.Dir(), id.String()+".log")}
		if err := d.Define(t.Context(), def); err != nil {
			t.Fatal(err)
		}
		if err := d.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	// measure gives which of the two were measured in part, and nothing where the host was too busy to say.
	measure := func() (partial map[uuid.UUID]bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		list, err := d.Stats(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		partial = map[uuid.UUID]bool{}
		for _, s := range list {
			partial[s.VMID] = s.Partial
		}
		if len(partial) != 2 {
			t.Fatalf("%d guests were measured", len(partial))
		}
		return partial
	}
	until := func(what string, want bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			if p := measure(); p != nil && p[hung] == want && !p[well] {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, p)
			}
		}
	}
	until("both well", false)
	begin := time.Now()
	for range 20 {
		measure()
	}
	t.Logf("a measurement of two guests takes %v", time.Since(begin)/20)
	pid := strings.TrimSpace(h.Run(t, "bash", "-c", "cat /run/libvirt/qemu/"+driver.NamePrefix+hung.String()+".pid"))
	h.Run(t, "kill", "-STOP", pid)
	until("one hangs", true) // and the other is measured in full
	h.Run(t, "kill", "-CONT", pid)
	until("it goes on", false)
	for _, id := range []uuid.UUID{hung, well} {
		if err := d.Destroy(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}
