package vmmodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/test/testhost"
)

// realWorld is a module on a real libvirt, with the real firewall, in the name spaces of a host of the test's own.
func realWorld(t *testing.T, change ...func(*Config)) (*world, *testhost.Host) {
	t.Helper()
	h := testhost.Start(t, "nets")
	w := newWorldWith(t, func(w *world, cfg *Config) {
		w.dir = filepath.Join(h.Dir(), "data")
		if err := os.Mkdir(w.dir, 0o711); err != nil {
			t.Fatal(err)
		}
		cfg.MetricsInterval = 2 * time.Second
		cfg.DataDir, cfg.LibvirtURI, cfg.Accel, cfg.NetworkNamespace, cfg.run = w.dir, h.URI(), "tcg", h.NetNS(), nil
		w.newDriver = func(c Config, log *slog.Logger) driver.Driver { return libvirtDriver(c, log) }
		for _, f := range change {
			f(cfg)
		}
	})
	return w, h
}

func (w *world) demoImage() vm.Image {
	w.t.Helper()
	f, err := os.ReadFile(testhost.DemoImage(w.t))
	if errors.Is(err, fs.ErrNotExist) {
		w.t.Skip("needs the demo image; run make demo-image")
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return decode[vm.Image](w.t, w.do(http.MethodPost, "/api/v1/images?name=demo", f, "Content-Type", "application/octet-stream"), http.StatusCreated)
}

// says waits until a guest has said something on its console.
func (w *world) says(id uuid.UUID, text string) {
	w.t.Helper()
	path := "/api/v1/vms/" + id.String() + "/console/log"
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); ; <-tick.C {
		log := w.do(http.MethodGet, path, nil).Body.String()
		if strings.Contains(log, text) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the guest does not say %q, but %s", text, log[max(0, len(log)-3000):])
		}
	}
}

// dial opens a connection from the host's name space and tells the first line that comes back.
func dial(t *testing.T, h *testhost.Host, address string, port int) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+h.NetNS(), "busybox", "nc", "-w", "2", address, fmt.Sprint(port))
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// TestRealGuestsOnTheirNetwork: two guests get the addresses that they were given, know each other by name, are kept apart by their
// groups, and are reached through a forwarded port, through kills of NovaCron's node and of libvirtd.
func TestRealGuestsOnTheirNetwork(t *testing.T) {
	w, h := realWorld(t)
	image := w.demoImage()
	lan := w.network(object{"name": "lan", "cidr": "10.233.1.0/24", "ipv6_cidr": "fd33:1::/64"})
	script := func(body string) string { return "#!/bin/sh\n" + body }
	create := func(name, ip, user string, extra ...object) uuid.UUID {
		t.Helper()
		body := createRequest(name, image.ID)
		body["resources"] = object{"vcpus": 1, "memory_mib": 192, "disk_gib": 1}
		body["user_data"] = script(user)
		body["networks"] = []object{{"network_id": lan.ID, "ip_address": ip}}
		done := decode[op](t, w.do(http.MethodPost, "/api/v1/vms?wait=120s", body), http.StatusOK)
		if done.Status != "succeeded" {
			t.Fatalf("create %s: %+v", name, done)
		}
		return done.TargetID
	}
	server := create("server", "10.233.1.20", "while true; do echo hello-from-server | nc -l -p 80; done &\n")
	w.says(server, "NovaCron guest server ready")
	// The client asks by name, which dnsmasq answers, and asks what it must not reach.
	client := create("client", "10.233.1.21", `for i in 1 2 3 4 5 6 7 8 9 10; do
	got=$(nc -w 3 server 80 </dev/null 2>&1) && [ "$got" = hello-from-server ] && echo "CLIENT-GOT-$got" && break; sleep 1; done
nc -w 2 10.233.1.1 8099 </dev/null && echo CLIENT-REACHED-HOST
nc -w 2 10.233.2.1 8099 </dev/null && echo CLIENT-REACHED-OTHER
ip -o addr show eth0 | sed 's/^/CLIENT-ADDR /'
echo CLIENT-DONE
`)
	listener := exec.Command("nsenter", "--net="+h.NetNS(), "busybox", "nc", "-lk", "-p", "8099", "-e", "echo", "host")
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Process.Kill(); _ = listener.Wait() })
	w.says(client, "CLIENT-DONE")
	w.says(client, "CLIENT-GOT-hello-from-server")
	w.says(client, "inet 10.233.1.21/24")
	if log := w.do(http.MethodGet, "/api/v1/vms/"+client.String()+"/console/log", nil).Body.String(); strings.Contains(log, "CLIENT-REACHED") {
		t.Errorf("the guest reaches what it must not:\n%s", log)
	}
	w.eventually("the lease is told", func() bool {
		m := w.get(client)
		return len(m.Networks) == 1 && strings.Contains(strings.Join(m.Networks[0].Addresses, " "), "10.233.1.21")
	})

	reached := func(what string, address string, port int, want bool) {
		t.Helper()
		var (
			got string
			err error
		)
		for deadline := time.Now().Add(40 * time.Second); ; {
			got, err = dial(t, h, address, port)
			if (got == "hello-from-server") == want || time.Now().After(deadline) {
				break
			}
		}
		if (got == "hello-from-server") != want {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	reached("the host, which is no member", "10.233.1.20", 80, false)
	decode[vm.PortForward](t, w.do(http.MethodPost, "/api/v1/port-forwards", object{"vm_id": server, "host_port": 8088, "guest_port": 80}), 201)
	reached("the forwarded port", "127.0.0.1", 8088, true)
	groups := decode[struct{ Items []vm.SecurityGroup }](t, w.do(http.MethodGet, "/api/v1/security-groups", nil), 200).Items
	rules := "/api/v1/security-groups/" + groups[0].ID.String() + "/rules"
	rule := decode[vm.SecurityRule](t, w.do(http.MethodPost, rules, object{"direction": "ingress", "protocol": "tcp", "port_min": 80}), 201)
	reached("a rule that lets anybody in", "10.233.1.20", 80, true)
	if rec := w.do(http.MethodDelete, rules+"/"+rule.ID.String(), nil); rec.Code != 204 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	reached("without the rule", "10.233.1.20", 80, false)

	// Plug in and out while it runs.
	path := "/api/v1/vms/" + client.String() + "/interfaces"
	w.ends(http.MethodPost, path, object{"network_id": lan.ID}, "succeeded")
	nics := w.interfaces(client)
	if xml := h.Virsh(t, "dumpxml", "nova-"+client.String()); len(nics) != 2 || !strings.Contains(xml, nics[1].MAC) {
		t.Errorf("the second interface %+v is not in %s", nics, xml)
	}
	w.ends(http.MethodPatch, path+"/"+nics[1].ID.String(), object{"link": "down"}, "succeeded")
	if state := h.Virsh(t, "domif-getlink", "nova-"+client.String(), nics[1].MAC); !strings.Contains(state, "down") {
		t.Errorf("the link is %s", state)
	}
	w.ends(http.MethodDelete, path+"/"+nics[1].ID.String(), nil, "succeeded")
	if xml := h.Virsh(t, "dumpxml", "nova-"+client.String()); strings.Contains(xml, nics[1].MAC) {
		t.Error("the second interface is still there")
	}

	// libvirtd dies and comes back; the node role ends and starts; a stranger empties all tables.
	h.RestartLibvirtd(t)
	w.eventually("libvirt is back", func() bool { return w.vm.Ready(t.Context()) == nil })
	reached("after libvirtd's restart", "127.0.0.1", 8088, true)
	reached("after libvirtd's restart, without the rule", "10.233.1.20", 80, false)
	h.Run(t, "nft", "flush", "ruleset")
	w.restartRealNode()
	w.eventually("the node is back", func() bool { return w.vm.Ready(t.Context()) == nil })
	w.eventually("the tables are back", func() bool { return strings.Contains(h.Run(t, "nft", "list", "tables"), "bridge novacron") })
	reached("after the node's restart", "127.0.0.1", 8088, true)
	reached("after the node's restart, without the rule", "10.233.1.20", 80, false)

	// Nothing is left.
	for _, id := range []uuid.UUID{server, client} {
		w.ends(http.MethodDelete, "/api/v1/vms/"+id.String(), nil, "succeeded")
	}
	w.eventually("no trace of the guests in the rules", func() bool {
		text := h.Run(t, "nft", "list", "ruleset")
		return !strings.Contains(text, "nvt52") && !strings.Contains(text, "dport 8088")
	})
	if xml := h.Virsh(t, "net-dumpxml", "nova-"+lan.ID.String()); strings.Contains(xml, "<host ") {
		t.Errorf("names or leases are left: %s", xml)
	}
	w.ends(http.MethodDelete, "/api/v1/networks/"+lan.ID.String(), nil, "succeeded")
	w.eventually("no table is left", func() bool { return !strings.Contains(h.Run(t, "nft", "list", "tables"), "novacron") })
	if left := h.Virsh(t, "net-list", "--all", "--name") + h.Run(t, "ip", "-o", "link"); strings.Contains(left, "nova") || strings.Contains(left, "nvt") {
		t.Errorf("left: %s", left)
	}
}
