package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Suspension, sizes and settings on a real guest; virsh tells the truth about it.
func TestSuspendResizeAndEdit(t *testing.T) {
	s := newSite(t)
	s.start()
	s.upload()
	must := func(want string, args ...string) {
		t.Helper()
		if out, code := s.cli(args...); code != 0 || !strings.Contains(out, want) {
			t.Fatalf("novacron %s: code %d, want %q in:\n%s", strings.Join(args, " "), code, want, out)
		}
	}
	must("Logged in", "login", "--username", "admin")
	id := s.create("web-1").TargetID
	domain := "nova-" + id
	s.greets(id, 1)
	s.agent(id, "echo alive >/run/x")

	// What is in memory outlives the suspension.
	must("stopped", "vm", "suspend", "web-1")
	if out := s.host.Virsh(t, "dominfo", domain); !strings.Contains(out, "shut off") || !strings.Contains(out, "Managed save:   yes") {
		t.Errorf("virsh sees\n%s", out)
	}
	must("running", "vm", "start", "web-1")
	if got := s.agent(id, "cat /run/x"); got != "alive" {
		t.Errorf("after the suspension the guest reads %q", got)
	}

	must("running", "vm", "resize", "web-1", "--vcpus", "2")
	if out := s.host.Virsh(t, "vcpucount", domain, "--live"); strings.TrimSpace(out) == "" || !strings.Contains(s.host.Virsh(t, "vcpucount", domain, "--live", "--current"), "2") {
		t.Errorf("virsh counts the vCPUs\n%s", out)
	}
	must("resources.memory_mib is taken up when", "vm", "resize", "web-1", "--memory", "384M")
	must("cpu is taken up when", "vm", "edit", "web-1", "--cpu-model", "host-model", "--cpu-topology", "1:2:2", "--watchdog", "i6300esb", "--io-limit", "root=500:500:0:0")
	must("web-2", "vm", "rename", "web-1", "web-2")
	if out := s.host.Virsh(t, "desc", domain, "--title"); strings.TrimSpace(out) != "web-2" {
		t.Errorf("virsh gives the title %q", out)
	}
	if out := s.host.Virsh(t, "blkdeviotune", domain, "vda"); !strings.Contains(out, "read_iops_sec  : 500") {
		t.Errorf("virsh gives the limits\n%s", out)
	}
	s.validate(domain)
	must("running", "vm", "restart", "web-2", "--grace", "30s")
	s.greets(id, 2)
	out := s.host.Virsh(t, "dumpxml", domain)
	for _, want := range []string{"q35", "<currentMemory unit='KiB'>393216<", "sockets='1'", "cores='2'", "i6300esb", "bus='virtio'"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in the domain:\n%s", want, out)
		}
	}
	s.validate(domain)
	if out, code := s.cli("vm", "edit", "web-2", "--cpu-model", "nonesuch"); code == 0 || !strings.Contains(out, "vm.hardware_unsupported") {
		t.Errorf("an unknown processor: code %d\n%s", code, out)
	}
	must("Protected", "vm", "protect", "web-2")
	if out, code := s.cli("vm", "delete", "web-2", "--yes"); code == 0 || !strings.Contains(out, "vm.protected") {
		t.Errorf("a protected machine: code %d\n%s", code, out)
	}
	must("Unprotected", "vm", "unprotect", "web-2")
	must("vm.resize", "vm", "history", "web-2")
	must("web-2", "vm", "list", "--search", "web", "--sort", "name")

	// The host shuts down with its guest, and comes back.
	s.stop()
	s.start("NOVACRON_VM_SHUTDOWN_GUESTS=always")
	s.stop()
	if out := s.host.Virsh(t, "domstate", domain); !strings.Contains(out, "shut off") {
		t.Errorf("after the host's end the guest is %s", out)
	}
	s.start()
	s.eventually("the guest is back", func() bool { return s.get(id).State == "running" })

	// The process is killed at every step of a resize.
	steps := []string{"apply", "book"}
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		steps = []string{"reserve", "define", "apply", "grow", "book", "shrink"}
	}
	for _, step := range steps {
		t.Run("killed at "+step, func(t *testing.T) {
			outer := s.t
			s.t = t
			defer func() { s.t = outer }()
			point, marker := "vm.resize/"+step+"/after do", filepath.Join(t.TempDir(), "killed")
			s.stop()
			s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
			vcpus := 3 - len(step)%2 // 2 and 3 in turns
			s.call(http.MethodPost, "/api/v1/vms/"+id+"/resize", map[string]any{"vcpus": vcpus}, nil)
			s.killed(point)
			s.start("NOVACRON_TEST_KILL="+point, "NOVACRON_TEST_KILLED="+marker)
			var list struct{ Items []operation }
			s.must(s.call(http.MethodGet, "/api/v1/operations?kind=vm.resize&limit=1", nil, &list), http.StatusOK)
			var op operation
			s.must(s.call(http.MethodGet, "/api/v1/operations/"+list.Items[0].ID+"?wait=60s", nil, &op), http.StatusOK)
			if op.Status != "succeeded" {
				t.Errorf("the operation ended as %+v", op)
			}
			var held struct {
				Items []struct {
					VMID  string `json:"vm_id"`
					VCPUs int
				}
			}
			s.must(s.call(http.MethodGet, "/api/v1/scheduler/allocations", nil, &held), http.StatusOK)
			for _, a := range held.Items {
				if a.VMID == id && a.VCPUs < vcpus {
					t.Errorf("the place has %d vCPUs, want %d", a.VCPUs, vcpus)
				}
			}
		})
	}
	s.delete(id)
	s.nothingLeft()
}
