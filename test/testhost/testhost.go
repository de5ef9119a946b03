// Package testhost starts a hypervisor host for a test: a libvirtd with process, mount, network and host name spaces of its own, so
// that the machine's own libvirt is not touched and nothing outlives the test, however it ends. Several may run at once.
//
// It needs root and the packages libvirt-daemon-system, qemu-system-x86, qemu-utils and dnsmasq-base; containers also
// libvirt-daemon-driver-lxc. The host sees the machine's files, but for /var/lib/libvirt, /etc/libvirt, /var/log/libvirt and /run.
package testhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Host is one host.
type Host struct {
	t     testing.TB
	dir   string
	pid   string // of the first process, in whose name spaces the host lives
	alive *os.File
	lock  *os.File // held for as long as the host may live; see reap
	cmd   *exec.Cmd
	once  sync.Once // stops it
}

type options struct{ root, lxc bool }

// Option changes what kind of host Start starts.
type Option func(*options)

// QEMUAsRoot runs the host's QEMU as root, so that it reaches disks in t.TempDir(). Without it QEMU runs as the distribution's user, as on
// a real host, and must be let through to its disks.
func QEMUAsRoot() Option { return func(o *options) { o.root = true } }

// WithLXC gives the host control groups of its own, which containers need. Only machines with the first version of control groups, each
// controller mounted on its own, can do it; elsewhere the test is skipped.
func WithLXC() Option { return func(o *options) { o.lxc = true } }

// script is the first process of the host. There are machines where /dev/kvm opens although the processor cannot, and hangs every guest;
// libvirt would try it for half a minute. There the host gets a /dev without it: to take its permissions away would not do, because
// root needs none. libvirt's findings about QEMU are shared between hosts, because they take seconds; it judges itself whether they are
// still true. The machine's control groups are hidden.
const script = `set -e
hostname "$1"; D=$2; CACHE=$3; QEMU_USER=$4; LXC=$5
mount --make-rprivate /
ip link set lo up
for d in /var/lib/libvirt /etc/libvirt /var/log/libvirt /var/cache/libvirt /run; do
	mkdir -p "$D/fs$d" "$d"
done
cp -r /etc/libvirt/. "$D/fs/etc/libvirt/"
rm -rf "$D"/fs/etc/libvirt/{qemu,lxc}/*.xml "$D/fs/etc/libvirt/qemu/networks"
mount --bind "${CACHE:-$D/fs/var/cache/libvirt}" /var/cache/libvirt
for d in /var/lib/libvirt /etc/libvirt /var/log/libvirt /run; do mount --bind "$D/fs$d" "$d"; done
chmod 755 /run; mkdir -p /run/libvirt /run/lock /run/dbus /run/netns /var/lib/libvirt/qemu /var/lib/libvirt/images /var/lib/libvirt/dnsmasq
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t sysfs none /sys
if [ "$LXC" ]; then
	mount -t tmpfs none /sys/fs/cgroup
	for c in $LXC; do mkdir "/sys/fs/cgroup/$c"; mount -t cgroup -o "$c" none "/sys/fs/cgroup/$c"; done
fi
if [ -e /dev/kvm ] && ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
	mkdir "$D/dev"; mount -t tmpfs -o mode=755 none "$D/dev"
	nodes=()
	for f in /dev/*; do
		case $f in /dev/kvm) continue;; esac
		if [ -d "$f" ] && [ ! -L "$f" ]; then mkdir "$D$f"; mount --rbind "$f" "$D$f"; else nodes+=("$f"); fi
	done
	cp -a "${nodes[@]}" "$D/dev"
	mount --move "$D/dev" /dev
fi
printf 'host_uuid = "%s"\nauth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n' "$(cat /proc/sys/kernel/random/uuid)" > /etc/libvirt/libvirtd.conf
printf 'security_driver = "none"\nnamespaces = []\nstdio_handler = "logd"\n' > /etc/libvirt/qemu.conf
if [ "$QEMU_USER" ]; then printf 'user = "%s"\ngroup = "%s"\n' "$QEMU_USER" "$QEMU_USER" >> /etc/libvirt/qemu.conf; fi
virtlogd -d
libvirtd -d
touch "$D/up"
cat > /dev/null
`

// Start starts a host that ends with the test, guests included.
func Start(t testing.TB, name string, opts ...Option) *Host {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if os.Geteuid() != 0 {
		t.Skip("a hypervisor host needs root")
	}
	for _, tool := range []string{"libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "dnsmasq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("a hypervisor host needs %s", tool)
		}
	}
	if o.lxc {
		needLXC(t)
	}
	if err := reap(); err != nil {
		t.Fatalf("remove what a killed test left: %v", err)
	}
	h := &Host{t: t}
	h.makeDir()
	t.Cleanup(h.Stop)

	user, controllers := "", ""
	if o.root {
		user = "root"
	}
	var enter []string
	if o.lxc {
		controllers = strings.Join(lxcControllers, " ")
		enter = h.enterGroups()
	}
	args := append([]string{"--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}, enter...)
	h.cmd = exec.Command("unshare", append(args, "bash", "-c", script, "host", name, h.dir, cacheDir(), user, controllers)...)
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h.cmd.Stdout, h.cmd.Stderr = log, log
	// The host ends with its input, which the kernel closes also when the test process dies without a word.
	input, alive, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	h.cmd.Stdin, h.alive = input, alive
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host", func() error {
		if _, err := os.Stat(filepath.Join(h.dir, "up")); err != nil {
			text, _ := os.ReadFile(filepath.Join(h.dir, "log"))
			return fmt.Errorf("%w: %s", err, text)
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", h.cmd.Process.Pid, h.cmd.Process.Pid))
		h.pid = strings.TrimSpace(string(children))
		if err != nil || h.pid == "" {
			return fmt.Errorf("no first process: %w", err)
		}
		return h.answers()
	})
	return h
}

// makeDir makes the folder of the host: short, because the path of a socket has room for 107 characters, named after this process, and
// passable for QEMU's user.
func (h *Host) makeDir() {
	h.t.Helper()
	dir, err := os.MkdirTemp(base(), fmt.Sprintf("nvh%d-", os.Getpid()))
	if err != nil {
		h.t.Fatal(err)
	}
	h.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		h.t.Fatal(err)
	}
	if h.lock, err = os.Create(filepath.Join(dir, "lock")); err != nil {
		h.t.Fatal(err)
	}
	if err := syscall.Flock(int(h.lock.Fd()), syscall.LOCK_EX); err != nil {
		h.t.Fatal(err)
	}
}

// base is the folder of the hosts' folders.
func base() string {
	if dir := os.TempDir(); len(dir) <= 40 {
		return dir
	}
	return "/tmp"
}

// cacheDir is where hosts share what libvirt has found out about QEMU; empty if there is no such place.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir = filepath.Join(dir, "novacron-test", "libvirt")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // libvirt gives parts of it to QEMU's user
		return ""
	}
	return dir
}

// Stop ends the host with everything that runs on it, and removes its files. A test that ends calls it; a second call does nothing.
func (h *Host) Stop() {
	h.once.Do(func() {
		if h.cmd != nil && h.cmd.Process != nil {
			_ = h.alive.Close()
			_ = h.cmd.Process.Kill() // the first process of the host dies with it, and all others with that
			_ = h.cmd.Wait()
		}
		if h.t.Failed() {
			for _, f := range []string{"log", "fs/var/log/libvirt/libvirtd.log"} {
				if text, err := os.ReadFile(filepath.Join(h.dir, f)); err == nil {
					h.t.Logf("%s of the host:\n%s", f, text)
				}
			}
		}
		eventually(h.t, "the host's processes to be gone", func() error {
			if _, err := os.Stat("/proc/" + h.pid); h.pid != "" && err == nil {
				return fmt.Errorf("process %s lives", h.pid)
			}
			return nil
		})
		eventually(h.t, "the host's control groups to be free", func() error { return removeGroups(filepath.Base(h.dir)) })
		eventually(h.t, "the host's files to be free", func() error { return os.RemoveAll(h.dir) })
		_ = h.lock.Close()
	})
}

// URI is how to reach the host's libvirtd from outside.
func (h *Host) URI() string { return "qemu+unix:///system?socket=" + h.socket() }

// LXCURI is how to reach its driver of containers. The host must have been started WithLXC.
func (h *Host) LXCURI() string { return "lxc+unix:///system?socket=" + h.socket() }

// NetNS is the path of the host's network name space.
func (h *Host) NetNS() string { return "/proc/" + h.pid + "/ns/net" }

func (h *Host) socket() string { return filepath.Join(h.dir, "fs/run/libvirt/libvirt-sock") }

// Dir is a folder that the host sees under the same path.
func (h *Host) Dir() string { return h.dir }

// Run runs a program on the host, in all its name spaces.
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

func (h *Host) answers() error {
	if out, err := exec.Command("virsh", "-c", h.URI(), "version").CombinedOutput(); err != nil {
		return fmt.Errorf("virsh: %w: %s", err, out)
	}
	return nil
}

// KillLibvirtd kills the host's libvirtd without warning. Its guests live on.
func (h *Host) KillLibvirtd(t testing.TB) {
	t.Helper()
	h.endLibvirtd(t, "KILL")
}

// RestartLibvirtd stops it as a service manager does, starts it again, and waits until it answers. Its guests live on.
func (h *Host) RestartLibvirtd(t testing.TB) {
	t.Helper()
	h.endLibvirtd(t, "TERM")
	h.StartLibvirtd(t)
	eventually(t, "libvirtd", h.answers)
}

func (h *Host) endLibvirtd(t testing.TB, signal string) {
	t.Helper()
	h.Run(t, "timeout", "60", "bash", "-c", `p=$(cat /run/libvirtd.pid); kill -`+signal+` $p
		while kill -0 $p 2>/dev/null && [ "$(cut -d' ' -f3 /proc/$p/stat)" != Z ]; do sleep 0.02; done`)
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
