package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A person's day with the command line, on a real guest.
func TestCommandLine(t *testing.T) {
	s := newSite(t)
	s.start()
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
	refused(4, "not logged in", "vm", "list")
	must("Logged in", "login", "--username", "admin")
	must("admin", "whoami")
	image, err := demoImage()
	if err != nil {
		t.Fatal(err)
	}
	must("ready", "image", "import", image, "--name", "demo")
	must("10.213.7.0/24", "network", "create", "lan", "--cidr", "10.213.7.0/24", "--ipv6")
	must("Created virtual machine web-1", "vm", "create", "web-1", "--image", "demo", "--network", "lan", "--vcpus", "1", "--memory", "192M", "--disk", "1G", "--tag", "env=test")
	refused(5, "vm.name_taken", "vm", "create", "web-1", "--image", "demo", "--flavor", "tiny")
	refused(5, "scheduler.no_fit", "vm", "create", "huge", "--image", "demo", "--vcpus", "1000", "--memory", "1T", "--disk", "1G")
	refused(2, "request.invalid", "vm", "create", "Bad_Name", "--image", "demo", "--flavor", "tiny")
	refused(3, "no image", "vm", "create", "x", "--image", "none", "--flavor", "tiny")
	refused(3, "no virtual machine", "vm", "show", "nobody")
	refused(2, "unknown", "vm", "dance")
	s.eventually("the guest greets by its name", func() bool {
		out, _ := s.cli("vm", "logs", "web-1")
		return strings.Contains(out, "NovaCron guest web-1 ready")
	})
	s.eventually("the address shows", func() bool {
		out, _ := s.cli("vm", "list")
		return strings.Contains(out, "10.213.7.") && strings.Contains(out, "host-1") && strings.Contains(out, "running")
	})
	var m machine
	if err := json.Unmarshal([]byte(must("", "vm", "show", "web-1", "-o", "json")), &m); err != nil || m.Name != "web-1" || m.State != "running" {
		t.Errorf("as JSON: %+v %v", m, err)
	}
	s.console("web-1", "echo con$((40+2))sole\n", "con42sole")
	s.ticketAlone(m.ID)
	must("10.213.7.", "vm", "interface", "list", "web-1")
	must("web-1", "vm", "interface", "update", "web-1", m.Networks[0].Addresses[0], "--in", "100000")
	must("100000 kbit/s", "vm", "interface", "list", "web-1")
	must("state: running", "vm", "show", "web-1", "-o", "yaml")
	// What happens to other things than machines is told, too; a template makes another machine like it.
	must("data", "volume", "create", "data", "--size", "1G")
	must("web-1", "vm", "disk", "attach", "web-1", "data")
	must("web-1", "vm", "disk", "detach", "web-1", "data")
	must("data", "volume", "delete", "data")
	for _, told := range []string{"volume.created data", "volume.attached data", "volume.detached data", "volume.deleted data"} {
		must(told, "events", "--kind", "volume")
	}
	must("network.created lan", "events")
	must("like-web-1", "template", "create", "like-web-1", "--from-vm", "web-1")
	must("env: test", "vm", "create", "web-2", "--template", "like-web-1", "--watchdog", "i6300esb", "-o", "yaml")
	must("Deleted", "vm", "delete", "web-2")
	if leases, err := filepath.Glob(filepath.Join(s.dir, "node", "leases", "*", "leases6")); err != nil || len(leases) != 1 {
		t.Errorf("fixed leases of IPv6 are in %q, %v", leases, err)
	}
	for _, verb := range []string{"pause", "resume", "restart", "stop", "start"} {
		must("web-1", "vm", verb, "web-1")
	}
	refused(5, "vm.wrong_state", "vm", "resume", "web-1")
	refused(5, "vm.no_other_node", "vm", "migrate", "web-1")
	refused(5, "vm.already_on_node", "vm", "migrate", "web-1", "--node", "host-1")
	must("vm.restart", "operation", "list", "--kind", "vm.restart")
	must("host-1", "node", "list")
	must("gateway", "modules")
	must("valid", "config", "check")
	must("novacron", "version")
	must("Deleted", "vm", "delete", "web-1")
	must("Deleted", "network", "delete", "lan")
	must("Deleted", "image", "delete", "demo")
	s.nothingLeft()
	must("", "logout")
	refused(4, "not logged in", "vm", "list")
}

// What happens behind NovaCron's back, and what breaks under it.
func TestTruthAndFaults(t *testing.T) {
	s := newSite(t)
	s.start()
	s.upload()
	id := s.create("web-1").TargetID
	s.eventually("the guest greets", func() bool {
		return strings.Contains(string(s.call(http.MethodGet, "/api/v1/vms/"+id+"/console/log", nil, nil).body), "ready")
	})
	shows := func(state string, within time.Duration) {
		t.Helper()
		begun := time.Now()
		s.eventually("it shows as "+state, func() bool { return s.get(id).State == state })
		took := time.Since(begun)
		t.Logf("it showed as %s after %v", state, took)
		if took > within {
			t.Errorf("that is more than %v", within)
		}
	}
	// Two seconds are promised and a tenth is usual; the rest is for a machine that is busy with other tests.
	s.host.Virsh(t, "destroy", "nova-"+id)
	shows("stopped", 10*time.Second)
	s.host.Virsh(t, "start", "nova-"+id)
	shows("running", 10*time.Second)

	t.Run("libvirtd dies and comes back", func(t *testing.T) {
		s.host.KillLibvirtd(t)
		var op operation
		s.must(s.call(http.MethodPost, "/api/v1/vms/"+id+"/stop", map[string]any{"force": true}, &op), http.StatusAccepted)
		s.host.StartLibvirtd(t)
		s.must(s.call(http.MethodGet, "/api/v1/operations/"+op.ID+"?wait=80s", nil, &op), http.StatusOK)
		if op.Status != "succeeded" || s.get(id).State != "stopped" {
			t.Errorf("the stop ended as %+v, the machine is %s", op, s.get(id).State)
		}
	})
	t.Run("PostgreSQL is killed and comes back", func(t *testing.T) {
		postmaster := func() string { // its process, and how far it is
			text, err := os.ReadFile(filepath.Join(s.dir, "postgres", "cluster", "postmaster.pid"))
			if err != nil {
				return ""
			}
			return string(text)
		}
		before := postmaster()
		out, err := exec.Command("pkill", "-KILL", "-f", "postgres.*-D "+s.dir).CombinedOutput()
		if err != nil {
			t.Fatalf("pkill: %v %s", err, out)
		}
		// Requests that come meanwhile are answered 503, never 500.
		s.eventually("the server answers again", func() bool {
			a := s.call(http.MethodGet, "/api/v1/vms", nil, nil)
			if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
				t.Errorf("meanwhile: %d %s", a.status, a.body)
			}
			// Sessions outlive their postmaster for a moment, and the next one starts when they have gone.
			renewed := postmaster() != before && strings.Contains(postmaster(), "ready")
			return renewed && a.status == http.StatusOK && s.call(http.MethodGet, "/ready", nil, nil).status == http.StatusOK
		})
	})
	t.Run("the server restarts and finds its guest", func(t *testing.T) {
		var op operation
		s.eventually("it is started", func() bool {
			a := s.call(http.MethodPost, "/api/v1/vms/"+id+"/start?wait=60s", nil, &op)
			if a.status == http.StatusServiceUnavailable { // by a connection to the old server
				return false
			}
			s.must(a, http.StatusOK)
			return true
		})
		_ = s.server.Process.Signal(syscall.SIGKILL)
		_ = s.server.Wait()
		s.start()
		if m := s.get(id); m.State != "running" {
			t.Errorf("it is %s", m.State)
		}
	})
	s.delete(id)
	s.nothingLeft()
}

// Cycles of create and delete end with the counts they began with.
func TestNothingLeaks(t *testing.T) {
	s := newSite(t)
	s.start()
	s.upload()
	cycles := 20
	if os.Getenv("NOVACRON_TEST_SOAK") != "" {
		cycles = 200
	}
	s.delete(s.create("warm-up").TargetID)
	s.delete(s.create("warm-up").TargetID)
	goroutines, files := s.metric("go_goroutines"), s.metric("process_open_fds")
	for i := range cycles {
		s.delete(s.create(fmt.Sprintf("cycle-%d", i)).TargetID)
	}
	s.nothingLeft()
	// Connections that idle come and go with the load; a leak would be one for each cycle.
	s.eventually("goroutines and files are as many as before", func() bool {
		return s.metric("go_goroutines") <= goroutines+8 && s.metric("process_open_fds") <= files+8
	})
}

func TestTokensThatAreNoGood(t *testing.T) {
	s := newSite(t)
	s.start()
	good := s.token
	for name, token := range map[string]string{
		"garbled": good[:len(good)-4] + "AAAA", "empty": " ", "none": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", "words": "let me in",
	} {
		s.token = token
		a := s.call(http.MethodGet, "/api/v1/vms", nil, nil)
		if a.status != http.StatusUnauthorized || !strings.Contains(string(a.body), `"code":"auth.`) && !strings.Contains(string(a.body), `"code":"gateway.`) {
			t.Errorf("%s token: %d %s", name, a.status, a.body)
		}
	}
	s.token = ""
	if a := s.call(http.MethodGet, "/api/v1/vms", nil, nil); a.status != http.StatusUnauthorized {
		t.Errorf("no token: %d", a.status)
	}
	for _, path := range []string{"/health", "/ready", "/metrics", "/api/v1/info", "/api/v1/openapi.json", "/docs", "/.well-known/jwks.json"} {
		if a := s.call(http.MethodGet, path, nil, nil); a.status != http.StatusOK {
			t.Errorf("%s answers %d to anyone", path, a.status)
		}
	}
	for path, status := range map[string]int{"/api/v1/nothing": 404, "/nothing": 404, "/api/v1/info/": 200} {
		if a := s.call(http.MethodGet, path, nil, nil); a.status != status && a.status != http.StatusNotFound {
			t.Errorf("%s answers %d", path, a.status)
		}
	}
}
