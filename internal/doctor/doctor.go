// Package doctor examines a host: whether it can run NovaCron, how fast, and what to do where it cannot. It only looks; it changes nothing.
package doctor

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Status is what a check came to.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, but not as well as it could
	Fail Status = "fail" // it does not work
)

// Finding is the result of one check.
type Finding struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Action string `json:"action,omitempty"` // what to do, where something is
}

// Settings are those of the server that matter to the host.
type Settings struct {
	DataDir         string
	LibvirtURI      string
	Accel           string // auto, kvm, tcg
	PrivateDatabase bool
}

// Probe is how the doctor sees a host. Tests have one of their own.
type Probe struct {
	ReadFile func(name string) (string, error)
	Exists   func(name string) bool
	Glob     func(pattern string) []string
	Run      func(ctx context.Context, name string, args ...string) (string, error) // output of a program
	Free     func(dir string) (free, total uint64, err error)
	// ClockSynchronised asks the kernel whether something keeps its clock (adjtimex(2), STA_UNSYNC).
	ClockSynchronised func() (bool, error)
}

// probeTimeout bounds every program that is run.
const probeTimeout = 10 * time.Second

// Examine makes every check.
func Examine(ctx context.Context, p Probe, s Settings) []Finding {
	e := examiner{ctx: ctx, p: p, s: s}
	findings := []Finding{e.cpu(), e.kvm(), e.qemu(), e.qemuImg(), e.libvirt(), e.dnsmasq(), e.firewall()}
	if s.PrivateDatabase {
		findings = append(findings, e.postgres())
	}
	return append(findings, e.disk(), e.memory(), e.clock())
}

type examiner struct {
	ctx context.Context
	p   Probe
	s   Settings
}

func (e examiner) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(e.ctx, probeTimeout)
	defer cancel()
	out, err := e.p.Run(ctx, name, args...)
	return strings.TrimSpace(out), err
}

// hardware tells whether the processor offers virtualisation to this kernel.
func (e examiner) hardware() (flag string) {
	info, err := e.p.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(info, "\n") {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			for _, flag := range []string{"vmx", "svm"} {
				if slices.Contains(strings.Fields(flags), flag) {
					return flag
				}
			}
		}
	}
	return ""
}

func (e examiner) cpu() Finding {
	f := Finding{Name: "processor", Status: OK}
	if flag := e.hardware(); flag != "" {
		f.Found = "hardware virtualisation (" + flag + ")"
		return f
	}
	f.Status, f.Found = Warn, "no hardware virtualisation: guests are emulated, some ten times slower"
	f.Action = "Enable VT-x or AMD-V in the firmware; in a virtual machine, nested virtualisation on its host."
	if e.s.Accel == "kvm" {
		f.Status = Fail
	}
	return f
}

func (e examiner) kvm() Finding {
	f := Finding{Name: "kvm", Status: OK}
	device, flag := e.p.Exists("/dev/kvm"), e.hardware()
	switch {
	case device && flag != "":
		f.Found = "/dev/kvm; guests run with kvm"
		if e.s.Accel == "tcg" {
			f.Status, f.Found, f.Action = Warn, "/dev/kvm, but vm.libvirt.accel is tcg", "Set vm.libvirt.accel to auto."
		}
	case device:
		f.Status, f.Found = Warn, "/dev/kvm is there but the processor does not offer virtualisation; guests run with tcg"
		f.Action = "Nothing: NovaCron passes over the device."
	case flag != "":
		f.Status, f.Found, f.Action = Fail, "/dev/kvm is missing although the processor offers virtualisation", "Load the module: modprobe kvm_intel or kvm_amd."
	default:
		f.Status, f.Found = Warn, "no /dev/kvm; guests run with tcg"
	}
	return f
}

// program checks that a program runs, and shows the first line of what it says.
func (e examiner) program(name, pkg string, argv ...string) Finding {
	out, err := e.run(argv[0], argv[1:]...)
	if err != nil {
		return Finding{Name: name, Status: Fail, Found: argv[0] + " does not run: " + err.Error(), Action: "apt-get install " + pkg}
	}
	first, _, _ := strings.Cut(out, "\n")
	return Finding{Name: name, Status: OK, Found: first}
}

func (e examiner) qemu() Finding {
	return e.program("qemu", "qemu-system-x86", "qemu-system-x86_64", "--version")
}

func (e examiner) qemuImg() Finding {
	return e.program("qemu-img", "qemu-utils", "qemu-img", "--version")
}

func (e examiner) dnsmasq() Finding {
	return e.program("dnsmasq", "dnsmasq-base", "dnsmasq", "--version")
}

func (e examiner) firewall() Finding {
	return e.program("iptables", "iptables", "iptables", "--version")
}

func (e examiner) libvirt() Finding {
	f := Finding{Name: "libvirt", Status: OK}
	out, err := e.run("virsh", "-q", "-c", e.s.LibvirtURI, "version", "--daemon")
	if err != nil {
		f.Status, f.Found = Fail, e.s.LibvirtURI+" does not answer"
		f.Action = "apt-get install libvirt-daemon-system libvirt-clients; systemctl start libvirtd. A user who is not root must be in the group libvirt."
		return f
	}
	for line := range strings.SplitSeq(out, "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Running against daemon: "); ok {
			f.Found = "libvirt " + rest + " at " + e.s.LibvirtURI
		}
	}
	if f.Found == "" {
		f.Found = "answers at " + e.s.LibvirtURI
	}
	return f
}

// minPostgres is the oldest major version that the private database can be.
const minPostgres = 15

func (e examiner) postgres() Finding {
	f := Finding{Name: "postgresql", Status: OK}
	best := 0
	for _, bin := range e.p.Glob("/usr/lib/postgresql/*/bin/postgres") {
		version, err := strconv.Atoi(path.Base(path.Dir(path.Dir(bin))))
		if err == nil {
			best = max(best, version)
		}
	}
	if best >= minPostgres {
		f.Found = fmt.Sprintf("PostgreSQL %d", best)
		return f
	}
	f.Status, f.Found = Fail, "no PostgreSQL 15 or later"
	if best > 0 {
		f.Found = fmt.Sprintf("PostgreSQL %d, which is too old", best)
	}
	f.Action = "apt-get install postgresql, or set database.url."
	return f
}

const gib = 1 << 30

func (e examiner) disk() Finding {
	f := Finding{Name: "disk", Status: OK}
	dir := e.s.DataDir
	for !e.p.Exists(dir) && dir != "/" && dir != "." {
		dir = path.Dir(dir)
	}
	free, total, err := e.p.Free(dir)
	if err != nil {
		f.Status, f.Found = Fail, "free space of "+dir+" cannot be told: "+err.Error()
		return f
	}
	f.Found = fmt.Sprintf("%.1f GiB free of %.1f GiB for %s", float64(free)/gib, float64(total)/gib, e.s.DataDir)
	switch {
	case free < gib:
		f.Status, f.Action = Fail, "Free space, or choose another data_dir: less than 1 GiB is left."
	case free < 10*gib || free < total/20:
		f.Status, f.Action = Warn, "Images and disks will soon fill it."
	}
	return f
}

func (e examiner) memory() Finding {
	f := Finding{Name: "memory", Status: OK}
	info, err := e.p.ReadFile("/proc/meminfo")
	if err != nil {
		return Finding{Name: "memory", Status: Warn, Found: "cannot be told: " + err.Error()}
	}
	available := int64(0)
	for line := range strings.SplitSeq(info, "\n") {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemAvailable:" {
			available, _ = strconv.ParseInt(fields[1], 10, 64) // 0 where the kernel says nonsense
		}
	}
	f.Found = fmt.Sprintf("%.1f GiB available", float64(available)/(1<<20))
	if available < 1<<20 {
		f.Status, f.Action = Warn, "Little is left for guests: less than 1 GiB."
	}
	return f
}

func (e examiner) clock() Finding {
	synchronised, err := e.p.ClockSynchronised()
	switch {
	case err != nil:
		return Finding{Name: "clock", Status: Warn, Found: "the kernel does not tell: " + err.Error()}
	case !synchronised:
		return Finding{Name: "clock", Status: Warn, Found: "nothing keeps the clock", Action: "apt-get install chrony: tokens and leases depend on the time."}
	default:
		return Finding{Name: "clock", Status: OK, Found: "synchronised"}
	}
}
