package libvirt

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Accel says how guests run.
type Accel string

// The accelerators.
const (
	AccelAuto Accel = "auto" // KVM where processor and device allow it, else TCG
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg" // emulation in software: slow, works everywhere
)

// ChooseAccel settles AccelAuto for this host. The device alone does not decide: there are hosts whose /dev/kvm opens and whose
// guests then hang, because the processor has no virtualisation to offer.
func ChooseAccel(want Accel) Accel {
	if want == AccelKVM || want == AccelTCG {
		return want
	}
	return chooseAccel("/proc/cpuinfo", "/dev/kvm")
}

func chooseAccel(cpuinfo, device string) Accel {
	info, err := os.ReadFile(cpuinfo)
	if err != nil || !hasVirtualisation(info) || unix.Access(device, unix.R_OK|unix.W_OK) != nil {
		return AccelTCG
	}
	return AccelKVM
}

// hasVirtualisation looks for Intel's vmx or AMD's svm among the processor's flags.
func hasVirtualisation(cpuinfo []byte) bool {
	for line := range bytes.Lines(cpuinfo) {
		name, value, ok := strings.Cut(string(line), ":")
		if !ok || strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, flag := range strings.Fields(value) {
			if flag == "vmx" || flag == "svm" {
				return true
			}
		}
	}
	return false
}
