package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// checkSystem tells what the host is.
func checkSystem(_ context.Context, h Host, _ Options) []Result {
	name := "unknown Linux"
	if raw, err := fs.ReadFile(h.Root, "etc/os-release"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if value, found := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); found {
				name = strings.Trim(value, `"'`)
			}
		}
	}
	if raw, err := fs.ReadFile(h.Root, "proc/sys/kernel/osrelease"); err == nil {
		name += ", kernel " + strings.TrimSpace(string(raw))
	}
	name += ", " + h.Arch
	if h.Arch != "amd64" {
		return warn("system", name, "NovaCron is tested on x86-64 only.", "")
	}
	return ok("system", name)
}

// cpu is what /proc/cpuinfo tells.
type cpu struct {
	model      string
	threads    int
	extension  string // vmx, svm or ""
	hypervisor bool   // the host is itself a virtual machine
}

func readCPU(h Host) (cpu, error) {
	raw, err := fs.ReadFile(h.Root, "proc/cpuinfo")
	if err != nil {
		return cpu{}, err
	}
	var c cpu
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "processor":
			c.threads++
		case "model name":
			c.model = value
		case "flags":
			for _, flag := range strings.Fields(value) {
				switch flag {
				case "vmx", "svm":
					c.extension = flag
				case "hypervisor":
					c.hypervisor = true
				}
			}
		}
	}
	return c, nil
}

func checkCPU(_ context.Context, h Host, _ Options) []Result {
	const name = "cpu"
	c, err := readCPU(h)
	if err != nil {
		return warn(name, "cannot be told: "+err.Error(), "Mount /proc.", "")
	}
	found := fmt.Sprintf("%s, %d threads", c.model, c.threads)
	if c.extension != "" {
		return ok(name, found+", "+c.extension)
	}
	action := "Turn on VT-x or AMD-V in the firmware. Guests are emulated until then, about ten times slower."
	if c.hypervisor {
		action = "This host is itself a virtual machine: turn on nested virtualisation for it where it runs. Guests are emulated until then, about ten times slower."
	}
	return warn(name, found+", no vmx or svm", action, "")
}

const (
	kvmDevice     = "/dev/kvm"
	kvmAPIVersion = 12 // the only one there is, says the kernel's documentation of KVM's API
)

// checkKVM tells how guests will run, with what the configuration asks for.
func checkKVM(ctx context.Context, h Host, opts Options) []Result {
	results := findKVM(ctx, h)
	works := Worst(results) == OK
	switch {
	case opts.Accel == "kvm" && !works:
		results[0].Status = Fail
		results[0].Found += ", but vm.libvirt.accel asks for kvm"
		if results[0].Fix == "" {
			results[0].Action = "Set vm.libvirt.accel to auto, so that guests are emulated. " + results[0].Action
		}
	case opts.Accel == "tcg" && works:
		return warn("acceleration", "tcg (emulation), because vm.libvirt.accel says so; kvm would work", "Set vm.libvirt.accel to auto.", "")
	}
	return results
}

// findKVM tells what would be used. The rule is the driver's: processor and device, not one of them. A device on a host whose processor
// has nothing to offer opens well, and its guests hang.
func findKVM(_ context.Context, h Host) []Result {
	const name = "acceleration"
	c, _ := readCPU(h) // what keeps it from being read has been told
	_, err := fs.Stat(h.Root, strings.TrimPrefix(kvmDevice, "/"))
	present := err == nil
	module := "kvm_intel"
	if c.extension == "svm" {
		module = "kvm_amd"
	}
	switch {
	case c.extension == "" && present:
		return warn(name, "tcg (emulation): "+kvmDevice+" is there, but useless without vmx or svm",
			"NovaCron does not use it. See cpu for how to get real acceleration.", "")
	case c.extension == "":
		return warn(name, "tcg (emulation): no "+kvmDevice, "See cpu for how to get real acceleration.", "")
	case !present:
		return warn(name, "tcg (emulation): no "+kvmDevice, "Load the kernel's module.", "modprobe "+module)
	}
	if err := h.Access(kvmDevice, unix.R_OK|unix.W_OK); err != nil {
		return warn(name, "tcg (emulation): "+kvmDevice+": "+err.Error(), "Run NovaCron as root, or as a member of the group kvm.", "usermod -a -G kvm $USER")
	}
	version, err := h.KVM(kvmDevice)
	switch {
	case errors.Is(err, unix.EBUSY):
		return warn(name, "kvm, held by another hypervisor", "Stop the other hypervisor, for example VirtualBox.", "")
	case err != nil:
		return warn(name, kvmDevice+" does not work: "+err.Error(), "Look for what the kernel says: dmesg | grep kvm", "")
	case version != kvmAPIVersion:
		return warn(name, fmt.Sprintf("%s speaks version %d", kvmDevice, version), "Use a newer kernel.", "")
	}
	return ok(name, "kvm")
}

// checkNested tells whether guests may be hypervisors themselves, where KVM is loaded.
func checkNested(_ context.Context, h Host, _ Options) []Result {
	const name = "nested virtualisation"
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		raw, err := fs.ReadFile(h.Root, "sys/module/"+module+"/parameters/nested")
		if err != nil {
			continue
		}
		if value := strings.TrimSpace(string(raw)); value == "Y" || value == "1" {
			return ok(name, "on")
		}
		r := ok(name, "off")
		r[0].Action = "Only where guests are to be hypervisors themselves: turn it on, and load the module anew."
		r[0].Fix = "echo options " + module + " nested=1 >/etc/modprobe.d/novacron-nested.conf"
		return r
	}
	return nil
}
