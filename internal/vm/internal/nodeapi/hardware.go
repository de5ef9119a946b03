package nodeapi

// The reasons of a Status that tell of the host's own end. A virtual machine that is off for one of them is still wanted.
const (
	ReasonHostShutdown = "host_shutdown" // it was shut down because the host is
	ReasonHostReboot   = "host_reboot"   // the host was restarted meanwhile
)

// Hardware is what of a domain its owner chooses beside its size.
type Hardware struct {
	CPUModel       string              `json:"cpu_model,omitempty"` // host-model, host-passthrough or a name; empty: the node's choice
	Sockets        int                 `json:"sockets,omitempty"`   // all three or none
	Cores          int                 `json:"cores,omitempty"`
	Threads        int                 `json:"threads,omitempty"`
	Watchdog       string              `json:"watchdog,omitempty"` // model; empty: none
	WatchdogAction string              `json:"watchdog_action,omitempty"`
	Limits         map[string]IOLimits `json:"limits,omitempty"` // by name of a disk or id of a volume
	// Boot lists disks by name, volumes by id, "network" for the first interface and "cdrom" for the drive, in boot order. Empty: the disks as they come.
	Boot []string `json:"boot,omitempty"`
}

// BootNetwork stands for the first network interface in Hardware.Boot.
const BootNetwork = "network"

// IOLimits bounds a disk. 0 means unlimited.
type IOLimits struct {
	ReadIOPS  int64 `json:"read_iops,omitempty"`
	WriteIOPS int64 `json:"write_iops,omitempty"`
	ReadBPS   int64 `json:"read_bps,omitempty"`
	WriteBPS  int64 `json:"write_bps,omitempty"`
}

// Resize asks a guest that runs to take up a size.
type Resize struct {
	VCPUs       int   `json:"vcpus"`
	MemoryBytes int64 `json:"memory_bytes"`
}

// Resized answers it with what the guest has now. Where that is not what was asked for, it takes the rest up when it is powered on again.
type Resized struct {
	Status      Status `json:"status"`
	On          bool   `json:"on"` // it runs or is paused; the sizes are zero otherwise
	VCPUs       int    `json:"vcpus"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// Tune gives a guest that runs its new name and limits.
type Tune struct {
	Name    string              `json:"name"`
	Limits  map[string]IOLimits `json:"limits"` // every disk of the virtual machine; one without limits too
	Volumes []Volume            `json:"volumes"`
	Disks   []string            `json:"disks"`
	Media                       // of which the disc is changed at once
}
