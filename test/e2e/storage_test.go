package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/vm"
)

// agent runs a shell command in a guest through its agent, by virsh, until it succeeds, and gives what it printed.
func (s *site) agent(id, command string) string {
	s.t.Helper()
	ask := func(execute string, arguments map[string]any, out any) error {
		text, err := json.Marshal(map[string]any{"execute": execute, "arguments": arguments})
		if err != nil {
			return err
		}
		answer, err := exec.Command("virsh", "-c", s.host.URI(), "qemu-agent-command", "nova-"+id, string(text)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, answer)
		}
		return json.Unmarshal(answer, &struct{ Return any }{out})
	}
	var status struct {
		Exited   bool
		ExitCode int
		OutData  []byte `json:"out-data"`
	}
	var last error
	renewed := false
	s.eventually(command+" in the guest", func() bool {
		// libvirt 9.0 keeps the error of a channel that was reset as its guest went off, and knows no agent of the next boot until it starts itself anew.
		if last != nil && !renewed && strings.Contains(last.Error(), "not available due to an error") {
			renewed = true
			s.host.RestartLibvirtd(s.t)
		}
		var started struct{ Pid int }
		if last = ask("guest-exec", map[string]any{"path": "/bin/sh", "arg": []string{"-c", command}, "capture-output": true}, &started); last != nil {
			return false
		}
		status.Exited = false
		for deadline := time.Now().Add(20 * time.Second); !status.Exited && time.Now().Before(deadline); {
			if last = ask("guest-exec-status", map[string]any{"pid": started.Pid}, &status); last != nil {
				return false
			}
		}
		return status.Exited && status.ExitCode == 0
	})
	return strings.TrimSpace(string(status.OutData))
}

// greets waits until the guest has booted so many times.
func (s *site) greets(id string, times int) {
	s.t.Helper()
	s.eventually("the guest greets", func() bool {
		return strings.Count(string(s.call(http.MethodGet, "/api/v1/vms/"+id+"/console/log", nil, nil).body), "ready") >= times
	})
}

// A day with disks and snapshots, on the command line and on a real guest; virsh tells the truth about it.
func TestDisksAndSnapshots(t *testing.T) {
	s := newSite(t)
	s.start()
	s.upload()
	must := func(want string, args ...string) string {
		t.Helper()
		out, code := s.cli(args...)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("novacron %s: code %d, want %q in:\n%s", strings.Join(args, " "), code, want, out)
		}
		return out
	}
	refused := func(code int, want string, args ...string) {
		t.Helper()
		if out, got := s.cli(args...); got != code || !strings.Contains(out, want) {
			t.Errorf("novacron %s: code %d, want %d and %q in:\n%s", strings.Join(args, " "), got, code, want, out)
		}
	}
	must("Logged in", "login", "--username", "admin")
	id := s.create("web-1").TargetID
	domain := "nova-" + id
	s.greets(id, 1)

	must("Created volume data-1: available, 64 MiB", "volume", "create", "data-1", "--size", "64M", "--for", "web-1")
	var v vm.Volume
	if err := json.Unmarshal([]byte(must("", "volume", "show", "data-1", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "node", "volumes", v.ID.String()+".qcow2")
	serial := v.ID.String()[:vm.SerialLength]
	must("host-1", "storage-pool", "list")

	// Hot: the guest finds the disk by its serial number, uses it, and sees it grow.
	must("Attached a volume to virtual machine web-1", "vm", "disk", "attach", "web-1", "data-1")
	if out := s.host.Virsh(t, "domblklist", domain) + s.host.Virsh(t, "domblklist", domain, "--inactive"); strings.Count(out, file) != 2 {
		t.Errorf("virsh sees the disks %s", out)
	}
	s.validate(domain)
	device := s.agent(id, "grep -l "+serial+" /sys/block/*/serial | cut -d/ -f4")
	if device == "" || strings.Contains(device, "\n") {
		t.Fatalf("the guest finds %q", device)
	}
	s.agent(id, "mke2fs -q /dev/"+device+" && mkdir -p /data && mount /dev/"+device+" /data && echo first >/data/x && echo first >/root/x && sync")
	refused(5, "volume.in_use", "volume", "delete", "data-1", "--yes")
	must("128 MiB", "volume", "resize", "data-1", "128M")
	refused(2, "disk.shrink", "volume", "resize", "data-1", "64M")
	s.eventually("the guest sees it grow", func() bool { return s.agent(id, "cat /sys/block/"+device+"/size") == "262144" })
	must("Resized", "vm", "disk", "resize", "web-1", "root", "2G")
	s.eventually("the guest sees its root disk grow", func() bool { return s.agent(id, "cat /sys/block/vda/size") == "4194304" })

	// A snapshot of the disks, taken while the guest writes and its agent holds it; then one with memory.
	must("expected pause", "vm", "snapshot", "create", "web-1", "--dry-run")
	must("Took snapshot first of web-1", "vm", "snapshot", "create", "web-1", "first", "--quiesce", "required")
	s.agent(id, "echo second >/data/x; echo second >/root/x; sync; echo alive >/run/x")
	must("the guest was held for", "vm", "snapshot", "create", "web-1", "second", "--memory")
	var second vm.Snapshot
	if err := json.Unmarshal([]byte(must("", "vm", "snapshot", "show", "web-1", "second", "-o", "json")), &second); err != nil {
		t.Fatal(err)
	}
	t.Logf("with memory: expected %d ms, was %d ms, %d bytes", second.ExpectedPauseMS, *second.PauseMS, second.MemoryBytes)
	if *second.PauseMS > second.ExpectedPauseMS+10_000 || second.MemoryBytes < 10<<20 || second.ParentID == nil {
		t.Errorf("it is %+v", second)
	}
	if out := must("first", "vm", "snapshot", "list", "web-1"); !strings.Contains(out, "\n  second") {
		t.Errorf("the tree is\n%s", out)
	}
	if out := s.host.Virsh(t, "snapshot-list", domain, "--name"); !strings.Contains(out, second.ID.String()) {
		t.Errorf("virsh knows the snapshots %s", out)
	}
	refused(5, "volume.in_snapshots", "vm", "disk", "detach", "web-1", "data-1")

	// Back to the first: the guest boots on what its disks held then.
	must("running", "vm", "snapshot", "revert", "web-1", "first", "--yes")
	s.greets(id, 2)
	if got := s.agent(id, "mount /dev/"+device+" /data; cat /data/x /root/x"); got != "first\nfirst" {
		t.Errorf("after going back to the first the guest reads %q", got)
	}
	s.validate(domain)
	// Back to the second: the guest goes on where it was, with what was in its memory alone.
	must("running", "vm", "snapshot", "revert", "web-1", "second", "--yes")
	if got := s.agent(id, "cat /data/x /root/x /run/x"); got != "second\nsecond\nalive" {
		t.Errorf("after going back to the second the guest reads %q", got)
	}
	if out := s.host.Virsh(t, "domstate", domain); !strings.Contains(out, "running") {
		t.Errorf("virsh says %s", out)
	}
	must("Deleted snapshot", "vm", "snapshot", "delete", "web-1", "first")
	must("Deleted snapshot", "vm", "snapshot", "delete", "web-1", "second")
	if out := s.host.Virsh(t, "snapshot-list", domain, "--name"); strings.TrimSpace(out) != "" {
		t.Errorf("virsh still knows the snapshots %s", out)
	}
	s.checkDisk(file)

	// A clone of the guest that runs is a machine of its own with the same content; a rebuild throws that away.
	s.agent(id, "echo third >/root/x; sync")
	must("Cloned virtual machine web-2: running", "vm", "clone", "web-1", "web-2", "--linked")
	clone := strings.TrimSpace(must("", "vm", "list", "--name", "web-2", "--quiet"))
	s.greets(clone, 1)
	if got := s.agent(clone, "cat /root/x; hostname"); got != "third\nweb-2" {
		t.Errorf("the clone reads %q", got)
	}
	s.validate("nova-" + clone)
	s.agent(clone, "echo fourth >/root/x; sync")
	if got := s.agent(id, "cat /root/x; hostname"); got != "third\nweb-1" {
		t.Errorf("its source reads %q", got)
	}
	must("Rebuilt virtual machine web-2: running", "vm", "rebuild", "web-2", "--yes")
	s.greets(clone, 2)
	if got := s.agent(clone, "cat /root/x 2>/dev/null || echo gone"); got != "gone" {
		t.Errorf("after the rebuild it reads %q", got)
	}
	must("Deleted", "vm", "delete", "web-2", "--yes")

	s.agent(id, "umount /data")
	must("Detached a volume from virtual machine web-1", "vm", "disk", "detach", "web-1", "data-1")
	if out := s.host.Virsh(t, "domblklist", domain) + s.host.Virsh(t, "domblklist", domain, "--inactive"); strings.Contains(out, file) {
		t.Errorf("virsh still sees the disks %s", out)
	}
	if got := s.agent(id, "ls /sys/block/"+device+" 2>/dev/null || echo gone"); got != "gone" {
		t.Errorf("the guest still has %q", got)
	}
	// A guest that does not run any more cannot hold anything: cold, and with the machine's end.
	must("stopped", "vm", "stop", "web-1", "--force")
	must("Attached", "vm", "disk", "attach", "web-1", "data-1")
	must("root", "vm", "disk", "list", "web-1")
	must("Deleted", "vm", "delete", "web-1")
	must("available", "volume", "list")
	must("Deleted volume data-1", "volume", "delete", "data-1", "--yes")
	s.nothingLeft()
}

// validate has libvirt's own schema judge what is defined.
func (s *site) validate(domain string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(s.host.Virsh(s.t, "dumpxml", domain, "--inactive")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("virt-xml-validate", file, "domain").CombinedOutput(); err != nil {
		s.t.Errorf("virt-xml-validate: %v: %s", err, out)
	}
}

func (s *site) checkDisk(file string) {
	s.t.Helper()
	if out, err := exec.Command("qemu-img", "check", "--force-share", "-q", file).CombinedOutput(); err != nil {
		s.t.Errorf("qemu-img check: %v: %s", err, out)
	}
}

// A guest that hangs does not let go of its disk: the answer comes in time, and says so.
func TestDetachFromAGuestThatHangs(t *testing.T) {
	s := newSite(t)
	s.start("NOVACRON_VM_DETACH_PATIENCE=3s")
	s.upload()
	id := s.create("web-1").TargetID
	s.greets(id, 1)
	volume := s.newVolume("data-1", id)
	var op operation
	s.must(s.call(http.MethodPost, "/api/v1/vms/"+id+"/disks?wait=60s", map[string]any{"volume_id": volume}, &op), http.StatusOK)
	s.must(s.call(http.MethodPost, "/api/v1/vms/"+id+"/pause?wait=60s", nil, &op), http.StatusOK) // held, it can answer nothing
	begun := time.Now()
	s.must(s.call(http.MethodDelete, "/api/v1/vms/"+id+"/disks/"+volume+"?wait=80s", nil, &op), http.StatusOK)
	if op.Status != "failed" || op.Error.Code != "volume.held_by_guest" {
		t.Errorf("ended as %+v", op)
	}
	if took := time.Since(begun); took > 40*time.Second {
		t.Errorf("it took %v", took)
	}
	s.must(s.call(http.MethodDelete, "/api/v1/vms/"+id+"?delete_volumes=true&wait=60s", nil, &op), http.StatusOK)
	s.nothingLeft()
}

func (s *site) newVolume(name, machine string) string {
	s.t.Helper()
	var op operation
	s.must(s.call(http.MethodPost, "/api/v1/volumes?wait=60s", map[string]any{"name": name, "size_bytes": 64 << 20, "vm_id": machine}, &op), http.StatusOK)
	if op.Status != "succeeded" {
		s.t.Fatalf("the volume's making ended as %+v", op)
	}
	return op.TargetID
}

// The whole process is killed at points of the sagas of disks and snapshots; after the restart nothing is stuck and nothing is left.
func TestKillAtStepsOfStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	s := newSite(t)
	s.start()
	s.upload()
	whens := []string{"after do"}
	points := []string{"vm.snapshot.create/place", "vm.snapshot.create/take", "vm.snapshot.revert/stop", "vm.snapshot.revert/revert", "vm.snapshot.revert/define",
		"vm.snapshot.revert/start", "vm.snapshot.delete/drop", "vm.snapshot.delete/release", "vm.disk.resize/grow", "vm.resize/reserve", "vm.resize/define",
		"vm.resize/apply", "vm.resize/grow", "vm.resize/book", "vm.resize/shrink", "vm.clone/place", "vm.clone/image", "vm.clone/network", "vm.clone/disk", "vm.clone/seed",
		"vm.clone/define", "vm.clone/start", "vm.rebuild/disk", "vm.rescue/disk", "vm.rescue/define", "vm.unrescue/disk"}
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		whens = []string{"before do", "after do"}
		points = append(points, "vm.disk.attach/define", "vm.disk.attach/plug", "vm.disk.detach/unplug", "vm.disk.detach/define", "vm.disk.resize/reserve",
			"volume.create/place", "volume.create/image", "volume.create/file", "volume.resize/reserve", "volume.resize/grow", "vm.rebuild/place",
			"vm.rebuild/image", "vm.rebuild/network", "vm.rebuild/seed", "vm.rebuild/define", "vm.rebuild/start", "vm.rescue/place",
			"vm.rescue/image", "vm.rescue/network", "vm.rescue/seed", "vm.rescue/start", "vm.unrescue/place", "vm.unrescue/image", "vm.unrescue/network",
			"vm.unrescue/seed", "vm.unrescue/define", "vm.unrescue/start", "volume.delete/remove", "volume.delete/release")
	}
	for _, point := range points {
		for _, when := range whens {
			t.Run(point+" "+when, func(t *testing.T) { s.killStorage(t, point, when) })
		}
	}
}

func (s *site) killStorage(t *testing.T, point, when string) {
	outer := s.t
	s.t = t
	defer func() { s.t = outer }()
	kind, _, _ := strings.Cut(point, "/")
	point += "/" + when
	s.stop()
	s.start() // without the death of the one before
	marker := filepath.Join(t.TempDir(), "killed")
	id := s.create("victim").TargetID
	loose, attached := s.newVolume("loose", id), s.newVolume("attached", id)
	base := "/api/v1/vms/" + id
	var op operation
	does := func(method, path string, body any) operation {
		t.Helper()
		s.must(s.call(method, path+"?wait=80s", body, &op), http.StatusOK)
		if op.Status != "succeeded" {
			t.Fatalf("%s %s ended as %+v", method, path, op)
		}
		return op
	}
	does(http.MethodPost, base+"/disks", map[string]any{"volume_id": attached})
	snapshot := ""
	if strings.Contains(kind, "snapshot") {
		s.greets(id, 1)
		snapshot = does(http.MethodPost, base+"/snapshots", map[string]any{"memory": true}).TargetID
	}
	requests := map[string]struct {
		method, path string
		body         any
	}{
		"volume.create":      {http.MethodPost, "/api/v1/volumes", map[string]any{"name": "more", "size_gib": 1, "image_id": s.image}},
		"volume.delete":      {http.MethodDelete, "/api/v1/volumes/" + loose, nil},
		"volume.resize":      {http.MethodPost, "/api/v1/volumes/" + loose + "/resize", map[string]any{"size_gib": 1}},
		"vm.disk.attach":     {http.MethodPost, base + "/disks", map[string]any{"volume_id": loose}},
		"vm.disk.detach":     {http.MethodDelete, base + "/disks/" + attached, nil},
		"vm.disk.resize":     {http.MethodPost, base + "/disks/root/resize", map[string]any{"size_gib": 2}},
		"vm.resize":          {http.MethodPost, base + "/resize", map[string]any{"memory_mib": 160}},
		"vm.clone":           {http.MethodPost, base + "/clone", map[string]any{"name": "copy"}},
		"vm.rebuild":         {http.MethodPost, base + "/rebuild", nil},
		"vm.rescue":          {http.MethodPost, base + "/rescue", map[string]any{"force": true}},
		"vm.unrescue":        {http.MethodPost, base + "/unrescue", map[string]any{"force": true}},
		"vm.snapshot.create": {http.MethodPost, base + "/snapshots", map[string]any{"name": "victim"}},
		"vm.snapshot.revert": {http.MethodPost, base + "/snapshots/" + snapshot + "/revert", nil},
		"vm.snapshot.delete": {http.MethodDelete, base + "/snapshots/" + snapshot, nil},
	}
	switch kind {
	case "vm.disk.detach":
		s.greets(id, 1)
	case "vm.unrescue":
		does(http.MethodPost, base+"/rescue", map[string]any{"force": true})
	}
	s.stop()
	s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
	op = operation{}
	s.call(requests[kind].method, requests[kind].path, requests[kind].body, &op)
	s.killed(point)
	s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
	restarted := time.Now()
	if op.ID == "" {
		var list struct{ Items []operation }
		s.must(s.call(http.MethodGet, "/api/v1/operations?limit=1", nil, &list), http.StatusOK)
		op = list.Items[0]
	}
	s.must(s.call(http.MethodGet, "/api/v1/operations/"+op.ID+"?wait=60s", nil, &op), http.StatusOK)
	if took := time.Since(restarted); took > 40*time.Second {
		t.Errorf("the operation ended %v after the restart", took)
	}
	if op.Status != "succeeded" {
		t.Errorf("the operation ended as %+v", op)
	}
	if m := s.get(id); m.State != "running" {
		t.Errorf("the virtual machine is %s", m.State)
	}
	if strings.HasSuffix(kind, "rescue") {
		disks := s.host.Virsh(t, "domblklist", "nova-"+id) + s.host.Virsh(t, "domblklist", "nova-"+id, "--inactive")
		_, err := os.Stat(filepath.Join(s.dir, "node", "disks", id, "rescue.qcow2"))
		if in := kind == "vm.rescue"; in != (err == nil) || in != (strings.Count(disks, "rescue.qcow2") == 2) || in != strings.Contains(disks, "rescue") {
			t.Errorf("the disk of the rescue: %v; virsh sees %s", err, disks)
		}
	}
	if kind == "vm.clone" {
		disk := filepath.Join(s.dir, "node", "disks", id, "root.qcow2")
		s.eventually("nothing of the clone is left in its source", func() bool {
			out, err := exec.Command("qemu-img", "snapshot", "-U", "-l", disk).CombinedOutput()
			return err == nil && strings.TrimSpace(string(out)) == ""
		})
		s.checkDisk(filepath.Join(s.dir, "node", "disks", op.TargetID, "root.qcow2"))
		s.delete(op.TargetID)
	}
	if out := s.host.Virsh(t, "domstate", "nova-"+id); !strings.Contains(out, "running") {
		t.Errorf("virsh says %s", out)
	}
	s.must(s.call(http.MethodDelete, base+"?delete_volumes=true&wait=60s", nil, &op), http.StatusOK)
	var list struct{ Items []struct{ ID string } }
	s.must(s.call(http.MethodGet, "/api/v1/volumes", nil, &list), http.StatusOK)
	for _, v := range list.Items {
		does(http.MethodDelete, "/api/v1/volumes/"+v.ID, nil)
	}
	s.nothingLeft()
}
