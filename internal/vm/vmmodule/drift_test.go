package vmmodule

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func TestDriftIsReported(t *testing.T) {
	w := newWorldWith(t, func(_ *world, c *Config) { c.DriftMode = vm.DriftModeReport })
	operator := identity.Principal{UserID: uuid.New(), TenantID: uuid.New(), Permissions: []string{"*"}, Scope: identity.ScopePlatform}
	audit := func() vm.DriftReport {
		t.Helper()
		return decode[vm.DriftReport](t, w.doAs(operator, http.MethodGet, "/api/v1/audit/drift", nil), http.StatusOK)
	}
	only := func(what string, kind vm.DriftKind, id uuid.UUID) {
		t.Helper()
		r := audit()
		if len(r.Findings) != 1 || r.Findings[0].Kind != kind || r.Findings[0].ObjectID != id || !r.Complete {
			t.Errorf("%s: want %s of %s alone, got %+v", what, kind, id, r)
		}
	}
	clean := func(what string) {
		t.Helper()
		if r := audit(); len(r.Findings) != 0 || !r.Complete {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if rec := w.do(http.MethodGet, "/api/v1/audit/drift", nil); rec.Code != http.StatusForbidden {
		t.Errorf("a tenant's own administrator gets %d: %s", rec.Code, rec.Body)
	}

	image := w.image()
	release := w.driver.Block("Start")
	begun := decode[op](t, w.do(http.MethodPost, "/api/v1/vms", createRequest("slow", image.ID)), http.StatusAccepted)
	w.eventually("its domain is defined", func() bool { return w.driver.Defined(begun.TargetID).VMID == begun.TargetID })
	clean("what is being made is no drift")
	release()
	w.eventually("it runs", func() bool { m := w.get(begun.TargetID); return m.State == vm.StateRunning && m.OperationID == nil })
	id := begun.TargetID
	clean("a machine as it should be")

	foreign := w.driver.AddForeign()
	if r := audit(); r.Unmanaged != 1 || len(r.Findings) != 0 {
		t.Errorf("the foreign domain %s is not left alone: %+v", foreign, r)
	}

	root := filepath.Join(w.dir, "node", "disks", id.String(), "root.qcow2")
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	only("deleted disk", vm.DriftDiskMissing, id)
	first, second := audit().Findings[0].Since, audit().Findings[0].Since
	if !first.Equal(second) || first.IsZero() {
		t.Errorf("the time of the first sight is lost: %v %v", first, second)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("the audit has made the disk anew")
	}
	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	clean("the disk is back")

	leak := uuid.New()
	folder := filepath.Join(w.dir, "node", "disks", leak.String())
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	only("folder without a row", vm.DriftDiskLeaked, leak)
	if err := os.Remove(folder); err != nil {
		t.Fatalf("the audit has touched what it found: %v", err)
	}

	def := w.driver.Defined(id)
	extra := driver.DomainDef{VMID: uuid.New(), InstallationID: def.InstallationID, TenantID: def.TenantID, Name: "extra", VCPUs: 1, MemoryBytes: 1 << 27}
	if err := w.driver.Define(t.Context(), extra); err != nil {
		t.Fatal(err)
	}
	only("domain without a row", vm.DriftDomainLeaked, extra.VMID)
	if err := w.driver.Undefine(t.Context(), extra.VMID); err != nil {
		t.Fatalf("the audit has touched what it found: %v", err)
	}

	w.driver.DestroyBehind(id)
	w.eventually("it is seen to be off", func() bool { return w.get(id).Observed.State == string(nodeapi.ObservedStopped) })
	if err := w.driver.Undefine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	only("undefined outside", vm.DriftDomainMissing, id)
	if o := w.act(id, "start", nil); o.Status != "succeeded" {
		t.Fatalf("start: %+v", o)
	}
	clean("what the report proposes puts it right")

	spec := driver.NetworkDef{ID: uuid.New(), InstallationID: def.InstallationID, Name: "extra", Mode: driver.ModeIsolated, Bridge: "nova-extra", CIDR: "10.99.0.0/24", Gateway: "10.99.0.1"}
	if err := w.driver.EnsureNetwork(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	only("network without a row", vm.DriftNetworkLeaked, spec.ID)
	if err := w.driver.RemoveNetwork(t.Context(), spec.InstallationID, spec.ID); err != nil {
		t.Fatalf("the audit has touched what it found: %v", err)
	}

	made := decode[op](t, w.do(http.MethodPost, "/api/v1/volumes?wait=60s", map[string]any{"name": "data", "size_gib": 1}), http.StatusOK)
	clean("a volume as it should be")
	file := filepath.Join(w.dir, "node", "volumes", made.TargetID.String()+".qcow2")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	only("deleted volume", vm.DriftVolumeMissing, made.TargetID)
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	clean("the volume is back")
	if _, err := w.sched.Service().Resize(t.Context(), scheduler.ResizeRequest{VMID: id, VCPUs: 2, MemoryBytes: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	only("place of another size", vm.DriftAllocationDiffers, id)

	place := uuid.New()
	if _, err := w.sched.Service().Reserve(t.Context(), scheduler.ReserveRequest{VMID: place, TenantID: w.tenant.TenantID, VCPUs: 1, MemoryBytes: 1 << 27, HypervisorType: "kvm", TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	only("a reservation, which ends by itself, beside it", vm.DriftAllocationDiffers, id)
	if _, err := w.sched.Service().Resize(t.Context(), scheduler.ResizeRequest{VMID: id, VCPUs: 1, MemoryBytes: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sched.Service().Confirm(t.Context(), scheduler.ConfirmRequest{VMID: place}); err != nil {
		t.Fatal(err)
	}
	only("place without a row", vm.DriftAllocationLeaked, place)
	if _, err := w.sched.Service().Release(t.Context(), scheduler.ReleaseRequest{VMID: place}); err != nil {
		t.Fatal(err)
	}

	if _, err := w.sched.Service().Release(t.Context(), scheduler.ReleaseRequest{VMID: id}); err != nil {
		t.Fatal(err)
	}
	only("place given back", vm.DriftAllocationMissing, id)
}
