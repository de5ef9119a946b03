package guest

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/test/testhost"
)

// The network has a DHCP server and leads nowhere.
var network = []string{"-nic", "user,restrict=on,model=virtio-net-pci"}

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDemoDemoDemo demo@example"

// runcmd has every form of an item that the guest understands. What it prints is not what is written here, so that an echo of
// the text is not mistaken for its effect.
const runcmd = `#cloud-config
ssh_authorized_keys:
  - ` + key + `
runcmd:
  - echo plain-$((1+1)) # with a comment
  - 'echo ''single''-$((1+2))'
  - "echo \"double\"-$((2+2))"
  - [sh, -c, 'echo list-$((2+3)), with comma']
  - |
    if true; then
      echo block-$((3+3))
    fi
  - cd /tmp && word=kept
  - echo $word-$PWD-$(hostname)
packages: []
`

var effects = []string{"plain-2\r", "single-3\r", "double-4\r", "list-5, with comma\r", "block-6\r", "kept-/tmp-"}

func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
}

// TestLife takes the guest through what others rely on, on both machine types and with each kind of seed.
func TestLife(t *testing.T) {
	needQEMU(t)
	image := testhost.DemoImage(t)
	for _, c := range []struct {
		name, machine string
		seed          func(instance, hostname string) []string
	}{
		{"i440fx with an ISO seed on a CD-ROM", "pc", func(instance, hostname string) []string {
			return []string{"-cdrom", isoSeed(t, "instance-id: "+instance+"\nlocal-hostname: "+hostname+"\n", runcmd)}
		}},
		{"Q35 with a FAT seed on a disk", "q35", func(instance, hostname string) []string {
			meta, user := "instance-id: \""+instance+"\"\r\nlocal-hostname: passed-over\r\n", runcmd+"hostname: '"+hostname+"' # here\n"
			return []string{"-drive", "if=virtio,format=raw,readonly=on,file=" + fatSeed(t, meta, user)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, seed := overlay(t, image), c.seed("one", "web-1")
			began := time.Now()
			m := boot(t, c.machine, disk, append(seed, network...)...)
			m.expect("NovaCron guest web-1 ready", 1)
			t.Logf("greeted after %v", time.Since(began))
			for _, effect := range append(effects, "kept-/tmp-web-1\r") {
				m.expect(effect, 1)
			}
			m.types("echo typed-$((20+22))")
			m.expect("typed-42", 1)
			checkAgent(t, m)

			m.qmp("system_powerdown")
			t.Logf("gone %v after the power button", m.goes())

			// The second boot of the same instance does not run the commands again; a reboot is a reboot, a poweroff a poweroff.
			m = boot(t, c.machine, disk, append(seed, network...)...)
			m.expect("NovaCron guest web-1 ready", 1)
			m.agent("guest-shutdown", map[string]any{"mode": "reboot"}, nil)
			m.expect("NovaCron guest web-1 ready", 2)
			m.types("echo typed-$((20+22))")
			m.expect("typed-42", 1)
			m.types("reboot")
			m.expect("NovaCron guest web-1 ready", 3)
			if strings.Contains(m.said(), effects[0]) {
				t.Error("the commands ran again")
			}
			m.agent("guest-shutdown", nil, nil)
			m.goes()

			// Another instance does.
			m = boot(t, c.machine, disk, append(c.seed("two", "web-2"), network...)...)
			m.expect("NovaCron guest web-2 ready", 1)
			m.expect("kept-/tmp-web-2", 1)
			m.types("poweroff")
			m.goes()
		})
	}
}

func checkAgent(t *testing.T, m *machine) {
	t.Helper()
	var none struct{}
	m.agent("guest-ping", nil, &none)

	var cards []struct {
		Name      string
		Addresses []struct {
			Address string `json:"ip-address"`
		} `json:"ip-addresses"`
	}
	m.agent("guest-network-get-interfaces", nil, &cards)
	found := false
	for _, card := range cards {
		for _, a := range card.Addresses {
			found = found || card.Name == "eth0" && a.Address == "10.0.2.15"
		}
	}
	if !found {
		t.Errorf("the agent tells of the interfaces %+v", cards)
	}

	var count int
	m.agent("guest-fsfreeze-freeze", nil, &count)
	if count < 1 {
		t.Errorf("%d file systems frozen", count)
	}
	var state string
	m.agent("guest-fsfreeze-status", nil, &state)
	if state != "frozen" {
		t.Errorf("the file systems are %s", state)
	}
	m.agent("guest-fsfreeze-thaw", nil, &count)

	var system struct{ ID string }
	m.agent("guest-get-osinfo", nil, &system)
	if system.ID != "novacron-demo" {
		t.Errorf("the agent tells of the system %q", system.ID)
	}

	if got := m.run("cat /root/.ssh/authorized_keys"); got != key {
		t.Errorf("the keys are %q", got)
	}
	m.run("ping -c 1 localhost && ping -c 1 $(hostname)")
	blocks, err := strconv.ParseInt(m.run("stat -f -c %b /"), 10, 64)
	if err != nil || blocks*4096 < 900<<20 {
		t.Errorf("the root file system has %d blocks of a disk of 1 GiB: %v", blocks, err)
	}
}

// TestNoDHCP: a guest in a network where nobody answers greets, and a script is user-data too. Here it switches the guest off.
func TestNoDHCP(t *testing.T) {
	needQEMU(t)
	disk := overlay(t, testhost.DemoImage(t))
	seed := isoSeed(t, "instance-id: lonely\nlocal-hostname: lonely\n", "#!/bin/sh\necho script-$((6*7))\nsleep 5\npoweroff\n")
	began := time.Now()
	m := boot(t, "q35", disk, "-drive", "if=virtio,format=raw,readonly=on,file="+seed,
		"-netdev", "hubport,id=net0,hubid=0", "-device", "virtio-net-pci,netdev=net0")
	m.expect("NovaCron guest lonely ready", 1)
	t.Logf("greeted after %v", time.Since(began))
	m.expect("script-42", 1)
	m.goes()
}

// TestPowerButtonDuringCommand: a long command of the user keeps neither the greeting nor the power button waiting.
func TestPowerButtonDuringCommand(t *testing.T) {
	needQEMU(t)
	disk := overlay(t, testhost.DemoImage(t))
	seed := isoSeed(t, "instance-id: busy\nlocal-hostname: busy\n", "#cloud-config\nruncmd: ['echo begun-$((1+0))', sleep 3600]\n")
	m := boot(t, "pc", disk, append(network, "-drive", "if=virtio,format=raw,readonly=on,file="+seed)...)
	m.expect("NovaCron guest busy ready", 1)
	m.expect("begun-1", 1)
	m.qmp("system_powerdown")
	t.Logf("gone %v after the power button", m.goes())
}
