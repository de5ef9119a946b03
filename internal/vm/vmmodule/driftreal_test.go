package vmmodule

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/vm"
)

// TestRealDrift: what virsh and rm do behind NovaCron's back is seen, shown and answered, and what NovaCron itself does is no drift.
func TestRealDrift(t *testing.T) {
	w, h := realWorld(t, func(c *Config) { c.DriftInterval, c.DriftGrace = time.Second, 0 })
	body := createRequest("edited", w.demoImage().ID)
	body["resources"] = object{"vcpus": 1, "memory_mib": 192, "disk_gib": 1}
	done := decode[op](t, w.do(http.MethodPost, "/api/v1/vms?wait=120s", body), http.StatusOK)
	id, path, name := done.TargetID, w.vmPath(done.TargetID), "nova-"+done.TargetID.String()
	clean := func(after string) {
		t.Helper()
		if r := w.audit(); len(r.Findings) != 0 || !r.Complete {
			t.Errorf("after %s: %+v", after, r.Findings)
		}
	}
	clean("create")
	w.says(id, "NovaCron guest")

	volume := w.newVolume("data-1")
	w.succeeds(http.MethodPost, path+"/disks", object{"volume_id": volume})
	clean("a disk was attached")
	w.succeeds(http.MethodPost, path+"/interfaces", object{"network_id": w.network(object{"name": "lan", "cidr": "10.233.9.0/24"}).ID})
	clean("an interface was attached")
	snapshot := w.take(id, object{"memory": true})
	clean("a snapshot was taken")
	w.succeeds(http.MethodPost, path+"/snapshots/"+snapshot.ID.String()+"/revert", nil)
	clean("the snapshot was gone back to")
	w.succeeds(http.MethodDelete, path+"/snapshots/"+snapshot.ID.String(), nil)
	w.succeeds(http.MethodPost, path+"/suspend", nil)
	clean("it was suspended")
	w.succeeds(http.MethodPost, path+"/start", nil)
	w.succeeds(http.MethodDelete, path+"/disks/"+volume.String(), nil)
	clean("it went on and the disk was detached")
	h.RestartLibvirtd(t)
	w.eventually("libvirt is back", func() bool { return w.vm.Ready(t.Context()) == nil })
	w.eventually("an audit after libvirtd's restart", func() bool { return w.audit().Complete })
	clean("libvirtd was restarted")

	shows := func(what string, kind vm.DriftKind) {
		t.Helper()
		w.eventually(what, func() bool {
			w.audit()
			c := w.get(id).Conditions
			return len(c) == 1 && c[0].Type == kind
		})
	}
	settled := func(what string) {
		t.Helper()
		w.eventually(what, func() bool {
			return len(w.audit().Findings) == 0 && len(w.get(id).Conditions) == 0 && w.get(id).OperationID == nil
		})
	}
	h.Virsh(t, "desc", name, "--config", "edited-by-virsh")
	w.eventually("the definition is given again", func() bool { return !strings.Contains(h.Virsh(t, "dumpxml", "--inactive", name), "edited-by-virsh") })
	settled("the edit is over")

	h.Virsh(t, "destroy", name)
	w.eventually("it is seen to be off", func() bool { m := w.get(id); return m.State == vm.StateStopped && m.DesiredState == vm.DesiredStopped })
	h.Virsh(t, "undefine", name)
	shows("that it was undefined", vm.DriftDomainMissing)
	if m := w.get(id); m.State != vm.StateError || m.Error == nil || m.Error.Code != "vm.vanished" {
		t.Errorf("undefined, it is %s with %+v", m.State, m.Error)
	}
	w.succeeds(http.MethodPost, path+"/start", nil)
	settled("start has defined it anew")

	w.succeeds(http.MethodPost, path+"/stop", object{"force": true})
	root := w.rootOf(id)
	if err := os.Rename(root, root+".away"); err != nil {
		t.Fatal(err)
	}
	shows("that its disk is gone", vm.DriftDiskMissing)
	if lost := w.ended(http.MethodPost, path+"/start", nil); lost.Status != "failed" || lost.Error.Code != "vm.disk_lost" {
		t.Errorf("start without a disk ended as %+v %+v", lost, lost.Error)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("the disk was made anew, empty")
	}
	if err := os.Rename(root+".away", root); err != nil {
		t.Fatal(err)
	}
	settled("the disk is back")

	// Its row is lost while it is off; then it is back.
	w.behind("CREATE TABLE lost_vms AS SELECT * FROM vms WHERE id = $1", id)
	w.behind("DELETE FROM vms WHERE id = $1", id)
	w.eventually("it is set aside", func() bool {
		_, err := os.Stat(filepath.Join(w.setAside(id), "files", "root.qcow2"))
		return err == nil
	})
	if left := h.Virsh(t, "list", "--all", "--name"); strings.Contains(left, name) {
		t.Errorf("domains: %s", left)
	}
	if definition, err := os.ReadFile(filepath.Join(w.setAside(id), "definition.xml")); err != nil || !strings.Contains(string(definition), "<name>"+name) {
		t.Errorf("kept of its definition: %q, %v", definition, err)
	}
	w.behind("INSERT INTO vms SELECT * FROM lost_vms")
	w.behind("DROP TABLE lost_vms")
	if code := w.actOn(vm.DriftActRestore, id, nil); code != "" {
		t.Fatalf("restore: %s", code)
	}
	w.succeeds(http.MethodPost, path+"/start", nil)
	settled("it is back")
	for _, gone := range []string{path, "/api/v1/volumes/" + volume.String()} {
		w.succeeds(http.MethodDelete, gone, nil)
	}
	if left := h.Virsh(t, "list", "--all", "--name"); strings.Contains(left, "nova-") {
		t.Errorf("domains are left: %s", left)
	}
	for _, folder := range []string{"disks", "volumes", "quarantine"} {
		if left, err := os.ReadDir(filepath.Join(w.dir, "node", folder)); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v, %v", folder, left, err)
		}
	}
}
