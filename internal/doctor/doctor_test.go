package doctor_test

import (
	"context"
	"errors"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/novacron/novacron/internal/doctor"
)

const (
	cpuKVM = "processor\t: 0\nmodel name\t: Sample CPU\nflags\t\t: fpu vmx sse\nprocessor\t: 1\nflags\t\t: fpu vmx sse\n"
	cpuTCG = "processor\t: 0\nmodel name\t: Sample CPU\nflags\t\t: fpu sse hypervisor\n"
)

var opts = doctor.Options{DataDir: "/var/lib/novacron", LibvirtURI: "qemu:///system", Listen: "127.0.0.1:8080"}

// fake is a host on which everything is well, for tests to break.
type fake struct {
	doctor.Host
	files    fstest.MapFS
	programs map[string]string // by name, the path
	answers  map[string]string // by the last part of the path and the arguments
	failures map[string]error
}

func healthy() *fake {
	f := &fake{
		files: fstest.MapFS{
			"etc/os-release": {Data: []byte("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n")}, "proc/sys/kernel/osrelease": {Data: []byte("6.1.0\n")},
			"proc/cpuinfo": {Data: []byte(cpuKVM)}, "dev/kvm": {}, "sys/module/kvm_intel/parameters/nested": {Data: []byte("Y\n")},
			"etc/passwd": {Data: []byte("root:x:0:0::/root:/bin/sh\npostgres:x:1::/:/bin/sh\n")}, "usr/lib/postgresql/15/bin/postgres": {},
			"var/lib/x": {}, "proc/meminfo": {Data: []byte("MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:   8388608 kB\n")},
			"sys/fs/cgroup/cgroup.controllers": {Data: []byte("cpuset cpu io memory\n")}, "run/systemd/system/x": {},
		},
		programs: map[string]string{"virsh": "/usr/bin/virsh", "qemu-system-x86_64": "/usr/bin/qemu-system-x86_64", "qemu-img": "/usr/bin/qemu-img",
			"dnsmasq": "/usr/sbin/dnsmasq", "iptables": "/usr/sbin/iptables", "nft": "/usr/sbin/nft"},
		answers: map[string]string{
			"virsh -c qemu:///system version --daemon": "Compiled against library: libvirt 9.0.0\nUsing library: libvirt 9.0.0\nUsing API: QEMU 9.0.0\nRunning hypervisor: QEMU 7.2.22\nRunning against daemon: 9.0.0\n",
			"qemu-system-x86_64 --version":             "QEMU emulator version 7.2.22 (Debian 1:7.2)\n", "qemu-img --version": "qemu-img version 7.2.22 (Debian)\n",
			"postgres --version": "postgres (PostgreSQL) 15.14 (Debian 15.14-0)\n",
		},
		failures: map[string]error{},
	}
	f.Host = doctor.Host{Root: f.files, Arch: "amd64",
		LookPath: func(program string) (string, error) {
			if path, ok := f.programs[program]; ok {
				return path, nil
			}
			return "", exec.ErrNotFound
		},
		Run: func(_ context.Context, program string, args ...string) (string, error) {
			call := strings.Join(append([]string{program[strings.LastIndex(program, "/")+1:]}, args...), " ")
			return f.answers[call], f.failures[call]
		},
		Access: func(string, uint32) error { return nil }, KVM: func(string) (int, error) { return 12, nil },
		Space: func(string) (uint64, uint64, error) { return 100 << 30, 200 << 30, nil }, Clock: func() (bool, error) { return true, nil },
		Files: func() (uint64, error) { return 1 << 20, nil }, Listen: func(string) error { return nil },
		Fetch: func(context.Context, string) (string, error) { return "", errors.New("refused") },
	}
	return f
}

func TestHealthyHost(t *testing.T) {
	results := doctor.Examine(t.Context(), healthy().Host, opts)
	if doctor.Worst(results) != doctor.OK {
		t.Errorf("got %+v", results)
	}
	want := map[string]string{"system": "Debian GNU/Linux 12, kernel 6.1.0, amd64", "cpu": "Sample CPU, 2 threads, vmx", "acceleration": "kvm",
		"nested virtualisation": "on", "libvirt": "qemu:///system, 9.0.0, QEMU 7.2.22", "qemu": "7.2.22 (/usr/bin/qemu-system-x86_64)", "qemu-img": "7.2.22 (/usr/bin/qemu-img)",
		"postgresql": "15.14 (/usr/lib/postgresql/15/bin)", "data folder": "100 GiB free of 200 GiB in /var/lib", "memory": "8.0 GiB available of 16 GiB",
		"clock": "synchronised", "dnsmasq": "/usr/sbin/dnsmasq", "firewall": "/usr/sbin/iptables, /usr/sbin/nft", "cgroups": "version 2: cpuset cpu io memory",
		"open files": "at most 1048576", "api address": "127.0.0.1:8080 is free"}
	got := map[string]string{}
	for _, r := range results {
		got[r.Check] = r.Found
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestSickHosts(t *testing.T) {
	absent := func(name string) func(*fake) { return func(f *fake) { delete(f.files, name) } }
	text := func(name, data string) func(*fake) {
		return func(f *fake) { f.files[name] = &fstest.MapFile{Data: []byte(data)} }
	}
	without := func(program string) func(*fake) { return func(f *fake) { delete(f.programs, program) } }
	both := func(changes ...func(*fake)) func(*fake) {
		return func(f *fake) {
			for _, c := range changes {
				c(f)
			}
		}
	}
	virsh := func(complaint string) func(*fake) {
		return func(f *fake) { f.failures["virsh -c qemu:///system version --daemon"] = errors.New(complaint) }
	}
	for name, tc := range map[string]struct {
		change             func(*fake)
		opts               doctor.Options
		check              string
		status             doctor.Status
		found, action, fix string // parts of them
	}{
		"other processor":     {change: func(f *fake) { f.Arch = "riscv64" }, check: "system", status: doctor.Warn, action: "x86-64"},
		"no vmx":              {change: text("proc/cpuinfo", strings.ReplaceAll(cpuKVM, "vmx", "")), check: "cpu", status: doctor.Warn, action: "firmware"},
		"no vmx in a guest":   {change: text("proc/cpuinfo", cpuTCG), check: "cpu", status: doctor.Warn, action: "nested"},
		"no /proc":            {change: absent("proc/cpuinfo"), check: "cpu", status: doctor.Warn, action: "/proc"},
		"kvm without vmx":     {change: text("proc/cpuinfo", cpuTCG), check: "acceleration", status: doctor.Warn, found: "tcg (emulation): /dev/kvm is there, but useless"},
		"neither":             {change: both(text("proc/cpuinfo", cpuTCG), absent("dev/kvm")), check: "acceleration", status: doctor.Warn, found: "tcg (emulation): no /dev/kvm"},
		"vmx without kvm":     {change: absent("dev/kvm"), check: "acceleration", status: doctor.Warn, fix: "modprobe kvm_intel"},
		"svm without kvm":     {change: both(absent("dev/kvm"), text("proc/cpuinfo", strings.ReplaceAll(cpuKVM, "vmx", "svm"))), check: "acceleration", status: doctor.Warn, fix: "modprobe kvm_amd"},
		"kvm not for us":      {change: func(f *fake) { f.Access = func(string, uint32) error { return unix.EACCES } }, check: "acceleration", status: doctor.Warn, fix: "usermod -a -G kvm"},
		"kvm broken":          {change: func(f *fake) { f.KVM = func(string) (int, error) { return 0, unix.ENODEV } }, check: "acceleration", status: doctor.Warn, action: "dmesg"},
		"kvm busy":            {change: func(f *fake) { f.KVM = func(string) (int, error) { return 0, unix.EBUSY } }, check: "acceleration", status: doctor.Warn, action: "other hypervisor"},
		"kvm strange":         {change: func(f *fake) { f.KVM = func(string) (int, error) { return 11, nil } }, check: "acceleration", status: doctor.Warn, found: "version 11"},
		"kvm asked for":       {change: text("proc/cpuinfo", cpuTCG), opts: doctor.Options{Accel: "kvm"}, check: "acceleration", status: doctor.Fail, found: "asks for kvm", action: "to auto"},
		"tcg asked for":       {change: func(*fake) {}, opts: doctor.Options{Accel: "tcg"}, check: "acceleration", status: doctor.Warn, found: "kvm would work"},
		"not nested":          {change: text("sys/module/kvm_intel/parameters/nested", "N\n"), check: "nested virtualisation", status: doctor.OK, found: "off", fix: "nested=1"},
		"no virsh":            {change: without("virsh"), check: "libvirt", status: doctor.Fail, fix: "apt-get install libvirt"},
		"libvirt stopped":     {change: virsh("error: failed to connect\nerror: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"), check: "libvirt", status: doctor.Fail, found: "does not answer: failed to connect", fix: "systemctl enable --now libvirtd"},
		"no systemd":          {change: both(virsh("Connection refused"), absent("run/systemd/system/x")), check: "libvirt", status: doctor.Fail, fix: "virtlogd -d; libvirtd -d"},
		"libvirt not for us":  {change: virsh("authentication unavailable: no polkit agent"), check: "libvirt", status: doctor.Fail, fix: "usermod -a -G libvirt"},
		"libvirt strange":     {change: virsh("end of file"), check: "libvirt", status: doctor.Fail, action: "/var/log/libvirt"},
		"no qemu":             {change: without("qemu-system-x86_64"), check: "qemu", status: doctor.Fail, fix: "apt-get install qemu-system-x86"},
		"old qemu":            {change: func(f *fake) { f.answers["qemu-system-x86_64 --version"] = "QEMU emulator version 5.2.0\n" }, check: "qemu", status: doctor.Warn, found: "5.2.0"},
		"broken qemu":         {change: func(f *fake) { f.failures["qemu-img --version"] = errors.New("libfoo.so.1: not found") }, check: "qemu-img", status: doctor.Fail, found: "libfoo", fix: "apt-get install --reinstall qemu-utils"},
		"no qemu-img":         {change: without("qemu-img"), check: "qemu-img", status: doctor.Fail, fix: "qemu-utils"},
		"no postgres":         {change: absent("usr/lib/postgresql/15/bin/postgres"), check: "postgresql", status: doctor.Fail, fix: "apt-get install postgresql"},
		"old postgres":        {change: func(f *fake) { f.answers["postgres --version"] = "postgres (PostgreSQL) 13.9\n" }, check: "postgresql", status: doctor.Fail, found: "only version 13.9"},
		"postgres elsewhere":  {change: absent("usr/lib/postgresql/15/bin/postgres"), opts: doctor.Options{DatabaseURL: "postgres://secret@db"}, check: "postgresql", status: doctor.OK, found: "database.url is set"},
		"postgres in PATH":    {change: both(absent("usr/lib/postgresql/15/bin/postgres"), func(f *fake) { f.programs["postgres"] = "/opt/pg/bin/postgres" }), check: "postgresql", status: doctor.OK, found: "/opt/pg/bin"},
		"no user postgres":    {change: text("etc/passwd", "root:x:0:0::/:/bin/sh\n"), check: "postgresql", status: doctor.Fail, fix: "useradd"},
		"full disk":           {change: func(f *fake) { f.Space = func(string) (uint64, uint64, error) { return 5 << 20, 1 << 30, nil } }, check: "data folder", status: doctor.Fail, found: "5 MiB free of 1.0 GiB"},
		"little disk":         {change: func(f *fake) { f.Space = func(string) (uint64, uint64, error) { return 5 << 30, 20 << 30, nil } }, check: "data folder", status: doctor.Warn, found: "5.0 GiB free"},
		"not our folder":      {change: func(f *fake) { f.Access = func(string, uint32) error { return unix.EACCES } }, check: "data folder", status: doctor.Fail, action: "--data-dir"},
		"a file, no folder":   {change: text("var/lib/novacron", ""), check: "data folder", status: doctor.Fail, found: "not a folder"},
		"little memory":       {change: text("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n"), check: "memory", status: doctor.Warn, found: "512 MiB available of 1.0 GiB"},
		"no memory":           {change: text("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1024 kB\n"), check: "memory", status: doctor.Fail},
		"free running clock":  {change: func(f *fake) { f.Clock = func() (bool, error) { return false, nil } }, check: "clock", status: doctor.Warn, fix: "timesyncd"},
		"clock not told":      {change: func(f *fake) { f.Clock = func() (bool, error) { return false, unix.EPERM } }, check: "clock", status: doctor.Warn, found: "not permitted"},
		"no dnsmasq":          {change: without("dnsmasq"), check: "dnsmasq", status: doctor.Fail, fix: "dnsmasq-base"},
		"no firewall":         {change: without("nft"), check: "firewall", status: doctor.Fail, fix: "nftables"},
		"nft only":            {change: without("iptables"), check: "firewall", status: doctor.Warn, action: "10.4"},
		"no cgroups":          {change: absent("sys/fs/cgroup/cgroup.controllers"), check: "cgroups", status: doctor.Warn, fix: "mount"},
		"cgroups not whole":   {change: text("sys/fs/cgroup/cgroup.controllers", "cpu\n"), check: "cgroups", status: doctor.Warn, found: "without memory, io"},
		"cgroups of old":      {change: both(absent("sys/fs/cgroup/cgroup.controllers"), text("sys/fs/cgroup/cpu/x", ""), text("sys/fs/cgroup/memory/x", "")), check: "cgroups", status: doctor.Warn, found: "version 1 without devices"},
		"few files":           {change: func(f *fake) { f.Files = func() (uint64, error) { return 1024, nil } }, check: "open files", status: doctor.Warn, found: "at most 1024"},
		"files without limit": {change: func(f *fake) { f.Files = func() (uint64, error) { return unix.RLIM_INFINITY, nil } }, check: "open files", status: doctor.OK, found: "no limit"},
		"port taken":          {change: func(f *fake) { f.Listen = func(string) error { return syscall.EADDRINUSE } }, check: "api address", status: doctor.Fail, found: "taken by another"},
		"port is low":         {change: func(f *fake) { f.Listen = func(string) error { return syscall.EACCES } }, check: "api address", status: doctor.Fail, action: "above 1023"},
		"address is foreign":  {change: func(f *fake) { f.Listen = func(string) error { return syscall.EADDRNOTAVAIL } }, check: "api address", status: doctor.Fail, action: "--listen"},
		"novacron is running": {change: func(f *fake) {
			f.Listen = func(string) error { return syscall.EADDRINUSE }
			f.Fetch = func(_ context.Context, url string) (string, error) { return `{"name":"NovaCron"}` + url, nil }
		}, check: "api address", status: doctor.OK, found: "served by NovaCron"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := healthy()
			tc.change(f)
			o := opts
			o.DatabaseURL, o.Accel = tc.opts.DatabaseURL, tc.opts.Accel
			results := doctor.Examine(t.Context(), f.Host, o)
			i := slices.IndexFunc(results, func(r doctor.Result) bool { return r.Check == tc.check })
			if i < 0 {
				t.Fatalf("%s is not told of", tc.check)
			}
			r := results[i]
			if r.Status != tc.status || !strings.Contains(r.Found, tc.found) || !strings.Contains(r.Action, tc.action) || !strings.Contains(r.Fix, tc.fix) {
				t.Errorf("got %+v", r)
			}
			if r.Status != doctor.OK && r.Action == "" {
				t.Errorf("nothing is said about what to do: %+v", r)
			}
			if strings.Contains(r.Found, "secret") {
				t.Errorf("a secret is shown: %+v", r)
			}
		})
	}
}

// TestThisHost runs the real probes: on any Linux each check must come to a result and say something.
func TestThisHost(t *testing.T) {
	o := opts
	o.DataDir, o.Listen = t.TempDir(), "127.0.0.1:0"
	results := doctor.Examine(t.Context(), doctor.Local(runtime.GOARCH), o)
	status := map[string]doctor.Status{}
	for _, r := range results {
		status[r.Check] = r.Status
		if r.Found == "" || r.Status == doctor.Fail && r.Action == "" {
			t.Errorf("%+v says too little", r)
		}
	}
	for _, name := range []string{"cpu", "acceleration", "libvirt", "qemu", "postgresql", "data folder", "memory", "clock", "cgroups", "open files", "api address"} {
		if _, ok := status[name]; !ok {
			t.Errorf("%s is not told of", name)
		}
	}
	for _, name := range []string{"data folder", "memory", "api address"} {
		if status[name] == doctor.Fail {
			t.Errorf("%s fails on the host of the tests", name)
		}
	}
}
