package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A machine's own system is mended from another: what was written before is read from the second disk, what is written there is there when the
// machine boots its own disk again, and the system of the rescue leaves nothing.
func TestRescue(t *testing.T) {
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
	must("Logged in", "login", "--username", "admin")
	id := s.create("web-1").TargetID
	domain, file := "nova-"+id, filepath.Join(s.dir, "node", "disks", id, "rescue.qcow2")
	s.greets(id, 1)
	s.agent(id, "echo precious >/root/x; sync")

	must("Rescued virtual machine web-1: running", "vm", "rescue", "web-1", "--image", "demo")
	s.greets(id, 2)
	s.validate(domain)
	if got := s.agent(id, "cat /root/x 2>/dev/null || echo none; mkdir -p /own; mount /dev/vdb2 /own; cat /own/root/x; hostname"); got != "none\nprecious\nweb-1" {
		t.Errorf("the system of the rescue reads %q", got)
	}
	s.agent(id, "echo mended >/own/root/y; echo lost >/root/z; umount /own; sync")
	if out := must("", "vm", "show", "web-1", "-o", "json"); !strings.Contains(out, `"rescue"`) || !strings.Contains(out, s.image) {
		t.Errorf("it shows %s", out)
	}
	must("Restarted virtual machine web-1: running", "vm", "restart", "web-1")
	s.greets(id, 3)
	if got := s.agent(id, "cat /root/z"); got != "lost" {
		t.Errorf("after a restart the system of the rescue reads %q", got)
	}
	if out, code := s.cli("vm", "rescue", "web-1"); code == 0 || !strings.Contains(out, "vm.rescued") {
		t.Errorf("another rescue is answered with %d and %s", code, out)
	}
	var report struct{ Findings []struct{ Kind string } }
	s.must(s.call(http.MethodGet, "/api/v1/audit/drift", nil, &report), http.StatusOK)
	if len(report.Findings) != 0 {
		t.Errorf("the audit found %+v", report.Findings)
	}

	must("Ended the rescue of virtual machine web-1: running", "vm", "unrescue", "web-1")
	s.greets(id, 4)
	if got := s.agent(id, "cat /root/x /root/y; cat /root/z 2>/dev/null || echo none; ls /dev/vdb2 2>/dev/null || echo gone"); got != "precious\nmended\nnone\ngone" {
		t.Errorf("its own system reads %q", got)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the disk of the rescue is left: %v", err)
	}
	s.checkDisk(filepath.Join(s.dir, "node", "disks", id, "root.qcow2"))
	must("Rescued virtual machine web-1: running", "vm", "rescue", "web-1", "--force")
	must("Deleted", "vm", "delete", "web-1", "--yes")
	s.nothingLeft()
}
