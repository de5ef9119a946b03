package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/test/testhost"
)

// debianPatience is how long a Debian may take to boot and set itself up: a minute without KVM on an idle machine, and several on a busy one.
const debianPatience = 12 * time.Minute

// crypt(5) hashes of "correct horse" and of "battery staple", by openssl passwd -6.
const (
	horse  = "$6$novacron$l6xQAjkO5QhQESPlnHEDzUj/FsFPTTvNWnMMJ0MkzVCRwvrOns.6.QqKov8Ueu/YcKM.K8wW3iP5a0zX7zYL7."
	staple = "$6$novacron$PrqTBVcRKQKFOPfwu0xPBEWZ0a9BFOG/60az4CogogQvoGCoZuMZJnyvWOw0LXbMPepTRVppRMe5iaQoGtsBu/"
)

// tenant makes a tenant with one user, who may do what users of a tenant may, and gives the site as that user sees it.
func (s *site) tenant(name string) *site {
	s.t.Helper()
	var made struct{ ID string }
	s.must(s.call(http.MethodPost, "/api/v1/tenants", map[string]any{"name": name}, &made), http.StatusCreated)
	const password = "correct horse battery"
	s.must(s.call(http.MethodPost, "/api/v1/users", map[string]any{"username": name + "-ada", "password": password, "role": "user", "tenant_id": made.ID}, nil), http.StatusCreated)
	var tokens struct {
		AccessToken string `json:"access_token"`
	}
	s.must(s.call(http.MethodPost, "/auth/login", map[string]any{"username": name + "-ada", "password": password}, &tokens), http.StatusOK)
	tenant := *s
	tenant.token = tokens.AccessToken
	return &tenant
}

// exec runs a shell script in a guest, through the API, and gives what it printed.
func (s *site) exec(id, script string) string {
	s.t.Helper()
	var done vm.GuestExec
	var a answer
	s.within(debianPatience, "the guest has time for a question", func() bool {
		a = s.call(http.MethodPost, "/api/v1/vms/"+id+"/guest/exec?wait=5m", map[string]any{"command": "sh", "args": []string{"-c", script}}, &done)
		return !strings.Contains(string(a.body), "vm.agent_unavailable") // on a host that is too busy, agents seem to hang
	})
	s.must(a, http.StatusOK)
	if done.ExitCode == nil || *done.ExitCode != 0 {
		s.t.Errorf("in the guest %q ended as %+v: %s", script, done, done.Stderr)
	}
	return strings.TrimSpace(string(done.Stdout))
}

// ssh logs in to a guest by a forwarded port of the host, and runs a command.
func (s *site) ssh(key string, port int, user, command string) (string, error) {
	out, err := exec.CommandContext(s.t.Context(), "nsenter", "--net="+s.host.NetNS(), "ssh", "-F", "none", "-i", key, "-p", fmt.Sprint(port), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60", user+"@127.0.0.1", command).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *site) events(id, kind string) []vm.Event {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.listen+"/api/v1/events?type="+kind+"&vm_id="+id, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Accept", "application/json") // else it is a stream
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var page struct{ Items []vm.Event }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("events: %d %v", resp.StatusCode, err)
	}
	return page.Items
}

// TestDebianIsSetUpByCloudInit: what a tenant gives with a machine has its effect in a Debian with the real cloud-init, and the machine is ready when it has.
// One guest is given everything, the other as little as may be.
func TestDebianIsSetUpByCloudInit(t *testing.T) {
	image := testhost.DebianImage(t)
	admin := newSite(t)
	admin.start()
	s := admin.tenant("acme")

	file, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var made struct{ ID string }
	s.must(s.call(http.MethodPost, "/api/v1/images?name=debian-12", io.Reader(file), &made), http.StatusCreated)
	debian := made.ID
	network := func(name, mode, cidr string, ipv6 bool) string {
		t.Helper()
		s.must(s.call(http.MethodPost, "/api/v1/networks", map[string]any{"name": name, "mode": mode, "cidr": cidr, "ipv6": ipv6}, &made), http.StatusCreated)
		return made.ID
	}
	lan, back := network("lan", "nat", "10.213.8.0/24", true), network("back", "isolated", "10.213.9.0/24", false)
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	create := func(name string, body map[string]any) string {
		t.Helper()
		body["name"], body["image_id"], body["resources"] = name, debian, map[string]any{"vcpus": 1, "memory_mib": 640, "disk_gib": 3}
		var op operation
		s.must(s.call(http.MethodPost, "/api/v1/vms?wait=120s", body, &op), http.StatusOK)
		if op.Status != "succeeded" {
			t.Fatalf("create %s: %+v", name, op)
		}
		return op.TargetID
	}
	laptop := strings.TrimSpace(string(public))
	s.must(s.call(http.MethodPost, "/api/v1/ssh-keys", map[string]any{"name": "laptop", "public_key": laptop}, nil), http.StatusCreated)

	// Two at once: on two processors that takes no longer than one.
	const lanMAC, backMAC = "52:54:00:d0:00:01", "52:54:00:d0:00:02"
	full := create("web-1", map[string]any{
		"hostname": "site.example.org", "ssh_keys": []string{"laptop"}, "password_hash": horse, "user_data": userData(laptop), "vendor_data": vendorData,
		"networks":       []map[string]any{{"network_id": lan, "mac": lanMAC, "ip_address": "10.213.8.20"}, {"network_id": back, "mac": backMAC, "ip_address": "10.213.9.30"}},
		"network_config": networkConfig(lanMAC, backMAC),
	})
	plain := create("web-2", map[string]any{"ssh_keys": []string{laptop}, "password_hash": horse, "networks": []map[string]any{{"network_id": lan}, {"network_id": back}}})
	for _, id := range []string{full, plain} {
		s.isReady(id)
	}
	t.Run("who gave everything", func(t *testing.T) { s.on(t).checkFull(full, key, laptop) })
	t.Run("who gave little", func(t *testing.T) { s.on(t).checkPlain(plain, key, laptop) })

	for _, id := range []string{full, plain} {
		s.delete(id)
	}
	for _, path := range []string{"/api/v1/networks/" + lan, "/api/v1/networks/" + back} {
		var op operation
		if s.must(s.call(http.MethodDelete, path+"?wait=60s", nil, &op), http.StatusOK); op.Status != "succeeded" {
			t.Errorf("delete %s: %+v", path, op)
		}
	}
	admin.nothingLeft()
}

// on is the site as a part of the test sees it.
func (s *site) on(t *testing.T) *site {
	part := *s
	part.t = t
	return &part
}

// userData has a user beside the default one, a file, and commands that tell what they found.
func userData(key string) string {
	return `#cloud-config
users:
  - default
  - name: ada
    gecos: Ada Lovelace
    shell: /bin/bash
    sudo: ALL=(ALL) NOPASSWD:ALL
    lock_passwd: false
    passwd: ` + staple + `
    ssh_authorized_keys: ["` + key + `"]
write_files:
  - path: /etc/site.conf
    permissions: "0640"
    content: |
      role=web
runcmd:
  - [sh, -c, 'echo "$(hostname) $(id -un) $(stat -c %a /etc/site.conf)" >>/root/ran']
  - echo "$((40 + 2))" >>/root/ran
`
}

// vendorData has something of its own, and something that the user-data overrides.
const vendorData = `#cloud-config
manage_etc_hosts: true
bootcmd:
  - echo vendor >/root/booted
runcmd:
  - echo vendor >>/root/ran
`

// networkConfig is written as files in a guest are, with an outer key; its names are not those that NovaCron would give.
func networkConfig(lan, back string) string {
	return `network:
  version: 2
  ethernets:
    lan:
      match: {macaddress: "` + lan + `"}
      set-name: lan0
      dhcp4: true
    back:
      match: {macaddress: "` + back + `"}
      set-name: back0
      mtu: 1400
      addresses: [10.213.9.30/24]
`
}

// isReady waits until a machine is ready: cloud-init has ended then, and the machine has told of it once.
func (s *site) isReady(id string) {
	s.t.Helper()
	begun := time.Now()
	var m vm.VM
	s.within(debianPatience, "the guest is ready", func() bool {
		s.must(s.call(http.MethodGet, "/api/v1/vms/"+id, nil, &m), http.StatusOK)
		return m.ReadyAt != nil
	})
	s.t.Logf("%s is ready after %v more", m.Name, time.Since(begun).Round(time.Second))
	if status := s.exec(id, "cloud-init status"); status != "status: done" {
		s.t.Errorf("%s is ready, and cloud-init tells %q", m.Name, status)
	}
	var result struct {
		V1 struct {
			Datasource string
			Errors     []string
		}
	}
	if text := s.exec(id, "cat /run/cloud-init/result.json"); json.Unmarshal([]byte(text), &result) != nil || len(result.V1.Errors) != 0 || !strings.Contains(result.V1.Datasource, "NoCloud") {
		s.t.Errorf("cloud-init in %s ended with %s", m.Name, text)
	}
	events := s.events(id, "ready")
	if len(events) != 1 || events[0].VMID.String() != id {
		s.t.Errorf("%s told that it is ready with %+v", m.Name, events)
	}
}

// finds compares what scripts print in a guest with what is expected. They run as one, because each question to a slow guest takes a second.
func (s *site) finds(id string, want map[string]string) {
	s.t.Helper()
	const mark = "<end of the answer>"
	scripts := slices.Sorted(maps.Keys(want))
	answers := strings.Split(s.exec(id, strings.Join(scripts, " 2>&1; echo '"+mark+"'\n")+" 2>&1"), mark)
	if len(answers) != len(scripts) {
		s.t.Fatalf("the guest answered %q", answers)
	}
	for i, script := range scripts {
		if got := strings.TrimSpace(answers[i]); got != want[script] {
			s.t.Errorf("%s prints %q in the guest, want %q", script, got, want[script])
		}
	}
}

// address is the script that prints the addresses of an interface.
func address(family int, name string) string {
	return fmt.Sprintf("ip -%d -o addr show dev %s scope global | awk '{print $4}'", family, name)
}

func (s *site) checkFull(id, key, laptop string) {
	s.finds(id, map[string]string{
		"hostname":                                        "site",
		"hostname -f":                                     "site.example.org", // in /etc/hosts, because the vendor's data says so
		"cat /var/lib/cloud/data/instance-id":             id,
		"cat /root/booted":                                "vendor",
		"cat /root/ran":                                   "site root 640\n42",
		"cat /etc/site.conf":                              "role=web",
		"getent passwd ada | cut -d: -f5,7":               "Ada Lovelace:/bin/bash",
		"getent shadow ada | cut -d: -f2":                 staple,
		"getent shadow debian | cut -d: -f2":              horse,
		"cat /home/debian/.ssh/authorized_keys":           laptop,
		address(4, "lan0"):                                "10.213.8.20/24",
		address(4, "back0"):                               "10.213.9.30/24",
		"cat /sys/class/net/back0/mtu":                    "1400",
		"ip -4 route show default | awk '{print $3, $5}'": "10.213.8.1 lan0",
		"[ $(df --output=size / | tail -n 1) -gt 2500000 ] && echo grown": "grown",
	})
	s.must(s.call(http.MethodPost, "/api/v1/port-forwards", map[string]any{"vm_id": id, "host_port": 2201, "guest_port": 22}, nil), http.StatusCreated)
	if out, err := s.ssh(key, 2201, "ada", "id -un; sudo -n cat /root/ran"); err != nil || out != "ada\nsite root 640\n42" {
		s.t.Errorf("by SSH: %v %s", err, out)
	}
}

// checkPlain: without a network-config the interfaces are configured as the machine has them.
func (s *site) checkPlain(id, key, laptop string) {
	var m vm.VM
	s.must(s.call(http.MethodGet, "/api/v1/vms/"+id, nil, &m), http.StatusOK)
	s.finds(id, map[string]string{
		"hostname":                                        "web-2",
		"getent shadow debian | cut -d: -f2":              horse,
		"cat /home/debian/.ssh/authorized_keys":           laptop,
		address(4, "eth0"):                                m.Networks[0].IPAddress + "/24",
		address(4, "eth1"):                                m.Networks[1].IPAddress + "/24",
		address(6, "eth0"):                                m.Networks[0].IPv6Address + "/64",
		"cat /sys/class/net/eth0/address":                 m.Networks[0].MAC,
		"ip -4 route show default | awk '{print $3, $5}'": "10.213.8.1 eth0",
		"resolvectl -4 -i eth0 query web-1.novacron.internal | awk 'NR == 1 {print $2}'": "10.213.8.20",
	})
	s.must(s.call(http.MethodPost, "/api/v1/port-forwards", map[string]any{"vm_id": id, "host_port": 2202, "guest_port": 22}, nil), http.StatusCreated)
	if out, err := s.ssh(key, 2202, "debian", "hostname; sudo -n id -un"); err != nil || out != "web-2\nroot" {
		s.t.Errorf("by SSH: %v %s", err, out)
	}
	if out, err := s.ssh(key, 2202, "root", "id -un"); err == nil && out == "root" {
		s.t.Errorf("root lets the tenant's key in: %s", out)
	}
}
