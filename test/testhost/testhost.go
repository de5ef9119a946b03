// Package testhost starts a hypervisor host for a test: a libvirtd with process, mount, network and host name spaces of its own, so
// that the machine's own libvirt is not touched and nothing outlives the test.
//
// It needs root and the packages libvirt-daemon-system, qemu-system-x86, qemu-utils and dnsmasq-base.
package testhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Host is one host.
type Host struct {
	dir string
	pid string // of the first process, in whose name spaces the host lives
}

// script is the first process of the host. /dev/kvm is hidden, because there are machines where it opens and hangs every guest, and
// libvirt would try it. The control groups are hidden, because they are the machine's.
const script = `set -e
hostname "$1"; D=$2
mount --make-rprivate /
ip link set lo up
for d in /var/lib/libvirt /etc/libvirt /var/log/libvirt /var/cache/libvirt /run; do
	mkdir -p "$D/fs$d" "$d"
done
cp -r /etc/libvirt/. "$D/fs/etc/libvirt/"
rm -rf "$D"/fs/etc/libvirt/qemu/*.xml "$D/fs/etc/libvirt/qemu/networks"
for d in /var/lib/libvirt /etc/libvirt /var/log/libvirt /var/cache/libvirt /run; do mount --bind "$D/fs$d" "$d"; done
chmod 755 /run; mkdir -p /run/libvirt /run/lock /run/dbus /var/lib/libvirt/qemu /var/lib/libvirt/images /var/lib/libvirt/dnsmasq
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t sysfs none /sys
touch "$D/no-kvm"; chmod 0 "$D/no-kvm"
if [ -e /dev/kvm ]; then mount --bind "$D/no-kvm" /dev/kvm; fi
printf 'host_uuid = "%s"\nauth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n' "$(cat /proc/sys/kernel/random/uuid)" > /etc/libvirt/libvirtd.conf
printf 'security_driver = "none"\nnamespaces = []\nstdio_handler = "logd"\n' > /etc/libvirt/qemu.conf
virtlogd -d
libvirtd -d
touch "$D/up"
cat > /dev/null
`

// Start starts a host that ends with the test, guests included.
func Start(t testing.TB, name string) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a hypervisor host needs root")
	}
	for _, tool := range []string{"libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "dnsmasq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("a hypervisor host needs %s", tool)
		}
	}
	// The path of a socket has little room, and QEMU's user must be able to pass.
	dir, err := os.MkdirTemp("", "nvh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", "-c", script, "host", name, dir)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	// The host ends with its input, which the kernel closes also when the test process dies without a word.
	alive, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &Host{dir: dir}
	t.Cleanup(func() {
		_ = alive.Close()
		_ = cmd.Process.Kill() // the first process of the host dies with it, and all others with that
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			for _, f := range []string{"log", "fs/var/log/libvirt/libvirtd.log"} {
				if text, err := os.ReadFile(filepath.Join(dir, f)); err == nil {
					t.Logf("%s of the host:\n%s", f, text)
				}
			}
		}
		eventually(t, "the host's files to be free", func() error { return os.RemoveAll(dir) })
	})
	eventually(t, "the host", func() error {
		if _, err := os.Stat(filepath.Join(dir, "up")); err != nil {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			return fmt.Errorf("%w: %s", err, text)
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		h.pid = strings.TrimSpace(string(children))
		if err != nil || h.pid == "" {
			return fmt.Errorf("no first process: %w", err)
		}
		out, err := exec.Command("virsh", "-c", h.URI(), "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("virsh: %w: %s", err, out)
		}
		return nil
	})
	return h
}

// URI is how to reach the host's libvirtd from outside.
func (h *Host) URI() string {
	return "qemu+unix:///system?socket=" + filepath.Join(h.dir, "fs/run/libvirt/libvirt-sock")
}

// Dir is a folder that the host sees under the same path.
func (h *Host) Dir() string { return h.dir }

// Run runs a program on the host.
func (h *Host) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"-t", h.pid, "-m", "-u", "-n", "-p", "--"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Virsh runs virsh against the host.
func (h *Host) Virsh(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("virsh", append([]string{"-c", h.URI()}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("virsh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// KillLibvirtd kills the host's libvirtd without warning. Its guests live on.
func (h *Host) KillLibvirtd(t testing.TB) {
	t.Helper()
	h.Run(t, "bash", "-c", "p=$(cat /run/libvirtd.pid); kill -9 $p; while kill -0 $p 2>/dev/null && [ \"$(cut -d' ' -f3 /proc/$p/stat)\" != Z ]; do sleep 0.02; done")
}

// StartLibvirtd starts it again.
func (h *Host) StartLibvirtd(t testing.TB) {
	t.Helper()
	h.Run(t, "libvirtd", "-d")
}

func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline, tick := time.After(60*time.Second), time.NewTicker(50*time.Millisecond)
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
