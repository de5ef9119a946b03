package testhost_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/novacron/novacron/test/testhost"
)

const patience = 2 * time.Minute

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// lan starts a NAT network with DHCP.
func lan(t *testing.T, h *testhost.Host) {
	t.Helper()
	h.Virsh(t, "net-create", write(t, "net.xml", `<network><name>lan</name><forward mode="nat"/><bridge name="nvtest0"/>
		<ip address="10.231.81.1" netmask="255.255.255.0"><dhcp><range start="10.231.81.10" end="10.231.81.99"/></dhcp></ip></network>`))
}

// demo starts the demo guest in it. Its disk is in a folder that only root may enter.
func demo(t *testing.T, h *testhost.Host) (console string) {
	t.Helper()
	dir := t.TempDir()
	disk, console := filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "console")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", testhost.DemoImage(t), "-F", "qcow2", disk).CombinedOutput(); err != nil {
		t.Fatalf("make the disk: %v\n%s", err, out)
	}
	domain := write(t, "domain.xml", `<domain type="qemu"><name>demo</name><memory unit="MiB">256</memory><vcpu>1</vcpu>
		<os><type machine="q35">hvm</type></os><features><acpi/></features>
		<devices>
		<disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="`+disk+`"/><target dev="vda" bus="virtio"/></disk>
		<interface type="network"><source network="lan"/><model type="virtio"/></interface>
		<serial type="file"><source path="`+console+`"/></serial>
		<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
		</devices></domain>`)
	began := time.Now()
	h.Virsh(t, "define", domain)
	t.Logf("defined in %v", time.Since(began))
	h.Virsh(t, "start", "demo")
	t.Logf("defined and started in %v", time.Since(began))
	return console
}

// run runs a shell command in the guest until it succeeds, and gives what it printed.
func run(t *testing.T, h *testhost.Host, command string) string {
	t.Helper()
	ask := func(execute string, arguments map[string]any, out any) error {
		text, err := json.Marshal(map[string]any{"execute": execute, "arguments": arguments})
		if err != nil {
			return err
		}
		answer, err := exec.Command("virsh", "-c", h.URI(), "qemu-agent-command", "demo", string(text)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, answer)
		}
		return json.Unmarshal(answer, &struct{ Return any }{out})
	}
	var status struct {
		Exited   bool
		ExitCode int
		Signal   int
		OutData  []byte `json:"out-data"`
	}
	eventually(t, command+" in the guest", func() error {
		var started struct{ Pid int }
		if err := ask("guest-exec", map[string]any{"path": "/bin/sh", "arg": []string{"-c", command}, "capture-output": true}, &started); err != nil {
			return err
		}
		for range 100 {
			if err := ask("guest-exec-status", map[string]any{"pid": started.Pid}, &status); err != nil || status.Exited {
				if err == nil && (status.ExitCode != 0 || status.Signal != 0) {
					err = fmt.Errorf("ended with %d, signal %d: %s", status.ExitCode, status.Signal, status.OutData)
				}
				return err
			}
		}
		return errors.New("it runs on")
	})
	return strings.TrimSpace(string(status.OutData))
}

// TestGuestBehindNAT boots a guest whose address comes from the host's DHCP server, lets it reach a world that has no route to it, and
// loses libvirtd twice meanwhile.
func TestGuestBehindNAT(t *testing.T) {
	began := time.Now()
	h := testhost.Start(t, "nat", testhost.QEMUAsRoot())
	t.Logf("host up after %v", time.Since(began))
	lan(t, h)
	began = time.Now()
	console := demo(t, h)
	eventually(t, "the greeting", func() error {
		text, err := os.ReadFile(console)
		if err == nil && !strings.Contains(string(text), "NovaCron guest novacron-demo ready") {
			err = fmt.Errorf("the console says %q", text)
		}
		return err
	})
	t.Logf("greeting after %v", time.Since(began))
	eventually(t, "the lease", func() error {
		if out := h.Virsh(t, "domifaddr", "demo"); !strings.Contains(out, "10.231.81.") {
			return errors.New(out)
		}
		return nil
	})

	// 203.0.113.0/24 is for documentation (RFC 5737); here it lies within the host.
	h.Run(t, "bash", "-ec", `ip netns add world
		ip link add v0 type veth peer name eth0 netns world
		ip addr add 203.0.113.1/24 dev v0; ip link set v0 up
		ip -n world addr add 203.0.113.2/24 dev eth0; ip -n world link set eth0 up
		mkdir -p /run/www; echo beyond > /run/www/index.html
		ip netns exec world busybox httpd -h /run/www -p 203.0.113.2:80`)
	if got := run(t, h, "wget -q -O- http://203.0.113.2/"); got != "beyond" {
		t.Errorf("the guest read %q from the world", got)
	}
	if _, err := os.Stat("/sys/class/net/nvtest0"); err == nil {
		t.Error("the host's bridge is on the machine")
	}

	boot := run(t, h, "cat /proc/sys/kernel/random/boot_id")
	h.KillLibvirtd(t)
	if out := h.Run(t, "bash", "-c", "for p in /proc/[0-9]*; do readlink $p/exe; done || true"); !strings.Contains(out, "qemu-system-x86_64") {
		t.Errorf("no QEMU without libvirtd, only %s", out)
	}
	h.StartLibvirtd(t)
	eventually(t, "libvirtd", func() error {
		out, err := exec.Command("virsh", "-c", h.URI(), "domstate", "demo").CombinedOutput()
		if err == nil && strings.TrimSpace(string(out)) != "running" {
			err = errors.New(string(out))
		}
		return err
	})
	h.RestartLibvirtd(t)
	if again := run(t, h, "cat /proc/sys/kernel/random/boot_id"); boot == "" || again != boot {
		t.Errorf("the guest is another one than before: %s, %s", again, boot)
	}

	h.Stop()
	if _, err := os.Stat(h.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stopped host's folder: %v", err)
	}
	if left := processesOf(t, h.Dir(), filepath.Dir(console)); len(left) > 0 {
		t.Errorf("processes left: %s", left)
	}
}

// processesOf lists the processes whose command line names one of these folders.
func processesOf(t *testing.T, dirs ...string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		line, _ := os.ReadFile(f) // it may have ended
		for _, dir := range dirs {
			if strings.Contains(string(line), dir) {
				found = append(found, f+" "+strings.ReplaceAll(string(line), "\x00", " "))
			}
		}
	}
	return found
}

// TestTwoHosts have networks and containers of the same names and addresses.
func TestTwoHosts(t *testing.T) {
	a, b := testhost.Start(t, "a", testhost.WithLXC()), testhost.Start(t, "b", testhost.WithLXC())
	if len(a.URI()) > 100 || a.URI() == b.URI() {
		t.Errorf("the addresses are %s and %s", a.URI(), b.URI())
	}
	root := t.TempDir()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox")
	}
	for _, dir := range []string{"bin", "dev", "proc", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", busybox, filepath.Join(root, "bin")).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	container := write(t, "container.xml", `<domain type="lxc"><name>box</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
		<os><type>exe</type><init>/bin/busybox</init><initarg>sleep</initarg><initarg>3600</initarg></os>
		<devices><filesystem type="mount"><source dir="`+root+`"/><target dir="/"/></filesystem><console type="pty"/></devices></domain>`)
	lxc := func(h *testhost.Host, args ...string) string {
		t.Helper()
		out, err := exec.Command("virsh", append([]string{"-c", h.LXCURI()}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("virsh %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, h := range []*testhost.Host{a, b} {
		lan(t, h)
		lxc(h, "define", container)
		lxc(h, "start", "box")
	}
	for _, h := range []*testhost.Host{a, b} {
		if state := lxc(h, "domstate", "box"); state != "running" {
			t.Errorf("the container is %s", state)
		}
		if limit := lxc(h, "memtune", "box"); !strings.Contains(limit, "hard_limit     : 65536") {
			t.Errorf("the container's memory: %s", limit)
		}
	}
	a.Stop()
	if state := lxc(b, "domstate", "box"); state != "running" {
		t.Errorf("the other host's container is %s", state)
	}
	b.Stop()
	for _, h := range []*testhost.Host{a, b} {
		if left, err := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(h.Dir())); err != nil || len(left) > 0 {
			t.Errorf("control groups left: %s %v", left, err)
		}
	}
}

// TestKilledTestLeavesNothing kills a test with a host, and looks for it after the next host has started.
func TestKilledTestLeavesNothing(t *testing.T) {
	if os.Getenv("NOVACRON_TEST_VICTIM") != "" {
		h := testhost.Start(t, "victim", testhost.WithLXC())
		lan(t, h)
		fmt.Println("victim " + h.Dir())
		<-t.Context().Done() // it is killed here; without that it ends with the test's deadline
		return
	}
	victim := exec.Command(os.Args[0], "-test.run=^TestKilledTestLeavesNothing$", "-test.timeout=3m")
	victim.Env = append(os.Environ(), "NOVACRON_TEST_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		if strings.Contains(lines.Text(), "SKIP") {
			t.Skip(lines.Text())
		}
		dir, _ = strings.CutPrefix(lines.Text(), "victim ")
		if dir == lines.Text() {
			dir = ""
		}
	}
	_ = victim.Process.Kill()
	_ = victim.Wait()
	if dir == "" {
		t.Skip("no host could be started")
	}
	eventually(t, "the victim's processes to end", func() error {
		if left := processesOf(t, dir); len(left) > 0 {
			return fmt.Errorf("%s", left)
		}
		return nil
	})
	eventually(t, "the victim's files to be gone", func() error {
		testhost.Start(t, "next").Stop()
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there: %w", dir, err)
		}
		return nil
	})
	if left, err := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(dir)); err != nil || len(left) > 0 {
		t.Errorf("control groups left: %s %v", left, err)
	}
}
