package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/novacron/novacron/internal/vm"
)

// hardwareFlags say what a machine has beside its size, disks and networks.
type hardwareFlags struct {
	model, topology, watchdog string
	limits                    []string
	autostart                 bool
	order                     int
	delay                     time.Duration
}

func (h *hardwareFlags) addTo(f *pflag.FlagSet) {
	f.BoolVar(&h.autostart, "autostart", true, "power it on again after its host was restarted, if it was to run")
	f.IntVar(&h.order, "autostart-order", 0, "lower ones are started first and shut down last")
	f.Var((*span)(&h.delay), "autostart-delay", "how long to wait after it before the next one is started, for example 30s")
	f.StringVar(&h.model, "cpu-model", "", "host-model, host-passthrough or a model by name; empty leaves it to the node")
	f.StringVar(&h.topology, "cpu-topology", "", "SOCKETS:CORES:THREADS; empty: one socket for each vCPU")
	f.StringVar(&h.watchdog, "watchdog", "", "i6300esb[:reset|poweroff|pause|none], or none")
	f.StringArrayVar(&h.limits, "io-limit", nil, "DISK=READ_IOPS:WRITE_IOPS:READ_BYTES:WRITE_BYTES a second, where DISK is root or the id of a volume; may be repeated")
}

// given is what the flags say; what none says is left out.
func (h *hardwareFlags) given(flags *pflag.FlagSet) (hw vm.Hardware, err error) {
	if flags.Changed("autostart") || flags.Changed("autostart-order") || flags.Changed("autostart-delay") {
		hw.Autostart = &vm.AutostartChange{}
	}
	if flags.Changed("autostart") {
		hw.Autostart.Enabled = &h.autostart
	}
	if flags.Changed("autostart-order") {
		hw.Autostart.Order = &h.order
	}
	if flags.Changed("autostart-delay") {
		seconds := int(h.delay / time.Second)
		hw.Autostart.DelaySeconds = &seconds
	}
	if flags.Changed("cpu-model") || flags.Changed("cpu-topology") {
		hw.CPU = &vm.CPU{Model: h.model}
		if h.topology != "" {
			if _, err := fmt.Sscanf(h.topology, "%d:%d:%d", &hw.CPU.Sockets, &hw.CPU.Cores, &hw.CPU.Threads); err != nil {
				return hw, usageError{"--cpu-topology is SOCKETS:CORES:THREADS, for example 1:4:2"}
			}
		}
	}
	if flags.Changed("watchdog") {
		watchdog := vm.Watchdog{}
		watchdog.Model, watchdog.Action, _ = strings.Cut(h.watchdog, ":")
		watchdog = watchdog.Or()
		hw.Watchdog = &watchdog
	}
	for _, limit := range h.limits {
		if hw.IOLimits == nil {
			hw.IOLimits = map[string]vm.IOLimits{}
		}
		disk, values, ok := strings.Cut(limit, "=")
		var l vm.IOLimits
		if _, err := fmt.Sscanf(values, "%d:%d:%d:%d", &l.ReadIOPS, &l.WriteIOPS, &l.ReadBPS, &l.WriteBPS); err != nil || !ok {
			return hw, usageError{"--io-limit is DISK=READ_IOPS:WRITE_IOPS:READ_BYTES:WRITE_BYTES a second, 0 for no limit"}
		}
		hw.IOLimits[disk] = l
	}
	return hw, nil
}
