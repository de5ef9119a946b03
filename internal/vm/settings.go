package vm

import (
	"cmp"
	"time"

	"github.com/google/uuid"
)

// Settings is what of a virtual machine can be edited, beside its name, its description and its tags.
type Settings struct {
	DeleteProtection bool                `json:"delete_protection" doc:"It cannot be deleted while this is set."`
	Autostart        Autostart           `json:"autostart"`
	CPU              CPU                 `json:"cpu"`
	IOLimits         map[string]IOLimits `json:"io_limits" nullable:"false" doc:"By disk: 'root', or the id of an attached volume."`
	Watchdog         Watchdog            `json:"watchdog"`
	BootOrder        []string            `json:"boot_order" nullable:"false" doc:"'root', 'cdrom', 'network' or the id of an attached volume, the first first; empty: the root disk, then what is in the drive."`
	CDROM            CDROM               `json:"cdrom"`
	DirectBoot       DirectBoot          `json:"direct_boot"`
}

// Autostart says what becomes of a virtual machine that was to run when its host restarts.
type Autostart struct {
	Enabled      bool `json:"enabled" required:"false" doc:"Power it on again after its host was restarted, if it was to run."`
	Order        int  `json:"order" required:"false" minimum:"0" maximum:"1000" doc:"Lower ones are started first and shut down last."`
	DelaySeconds int  `json:"delay_seconds" required:"false" minimum:"0" maximum:"3600" doc:"How long to wait after it was started before the next one is."`
}

// CPU is the virtual processor.
type CPU struct {
	Model   string `json:"model" required:"false" maxLength:"64" pattern:"^[A-Za-z0-9_.-]*$" doc:"host-model, host-passthrough, or a model that libvirt knows by name; empty: what suits the node." example:"host-model"`
	Sockets int    `json:"sockets" required:"false" minimum:"0" maximum:"64" doc:"0 with cores and threads of 0: one socket for each vCPU."`
	Cores   int    `json:"cores" required:"false" minimum:"0" maximum:"256" doc:"In each socket."`
	Threads int    `json:"threads" required:"false" minimum:"0" maximum:"8" doc:"In each core."`
}

// Count is how many vCPUs the topology makes; 0 where there is none.
func (c CPU) Count() int { return c.Sockets * c.Cores * c.Threads }

// IOLimits bounds what a disk does in a second. 0 means unlimited.
type IOLimits struct {
	ReadIOPS  int64 `json:"read_iops" required:"false" minimum:"0" maximum:"10000000"`
	WriteIOPS int64 `json:"write_iops" required:"false" minimum:"0" maximum:"10000000"`
	ReadBPS   int64 `json:"read_bytes_per_second" required:"false" minimum:"0" maximum:"1000000000000"`
	WriteBPS  int64 `json:"write_bytes_per_second" required:"false" minimum:"0" maximum:"1000000000000"`
}

// Watchdog is a device that acts when the guest no longer feeds it.
type Watchdog struct {
	Model  string `json:"model" required:"false" enum:"none,i6300esb" doc:"none leaves it out."`
	Action string `json:"action" required:"false" enum:"reset,poweroff,pause,none" doc:"What happens when the guest does not feed it in time."`
}

// The watchdog that is none.
const WatchdogNone = "none"

// Or gives the watchdog with the usual values for what is not named.
func (w Watchdog) Or() Watchdog {
	w.Model, w.Action = cmp.Or(w.Model, WatchdogNone), cmp.Or(w.Action, "reset")
	return w
}

// AutostartChange changes what it names.
type AutostartChange struct {
	Enabled      *bool `json:"enabled,omitempty"`
	Order        *int  `json:"order,omitempty" minimum:"0" maximum:"1000"`
	DelaySeconds *int  `json:"delay_seconds,omitempty" minimum:"0" maximum:"3600"`
}

// Apply changes what is named.
func (c *AutostartChange) Apply(to *Autostart) {
	if c == nil {
		return
	}
	to.Enabled, to.Order, to.DelaySeconds = or(c.Enabled, to.Enabled), or(c.Order, to.Order), or(c.DelaySeconds, to.DelaySeconds)
}

func or[T any](given *T, otherwise T) T {
	if given == nil {
		return otherwise
	}
	return *given
}

// Hardware is what a new machine has beside its size, disks and networks. What is left out is as its template says, else the usual.
type Hardware struct {
	Autostart *AutostartChange    `json:"autostart,omitempty" doc:"What becomes of it when its host restarts."`
	CPU       *CPU                `json:"cpu,omitempty"`
	Watchdog  *Watchdog           `json:"watchdog,omitempty"`
	IOLimits  map[string]IOLimits `json:"io_limits,omitempty" maxProperties:"16" doc:"Of 'root', the only disk that a new machine has."`
}

// Over gives these parts, and what is left out as below has it.
func (h Hardware) Over(below Hardware) Hardware {
	if below.Autostart != nil {
		merged := *below.Autostart
		if own := h.Autostart; own != nil {
			merged = AutostartChange{cmp.Or(own.Enabled, merged.Enabled), cmp.Or(own.Order, merged.Order), cmp.Or(own.DelaySeconds, merged.DelaySeconds)}
		}
		h.Autostart = &merged
	}
	h.CPU, h.Watchdog = cmp.Or(h.CPU, below.CPU), cmp.Or(h.Watchdog, below.Watchdog)
	if h.IOLimits == nil {
		h.IOLimits = below.IOLimits
	}
	return h
}

// Apply writes what is named into settings.
func (h Hardware) Apply(to *Settings) {
	h.Autostart.Apply(&to.Autostart)
	to.CPU = or(h.CPU, to.CPU)
	if h.Watchdog != nil {
		to.Watchdog = h.Watchdog.Or()
	}
	for disk, l := range h.IOLimits {
		if l != (IOLimits{}) {
			to.IOLimits[disk] = l
		}
	}
}

// DefaultSettings are those of a virtual machine that nobody has edited.
func DefaultSettings() Settings {
	return Settings{Autostart: Autostart{Enabled: true}, IOLimits: map[string]IOLimits{}, Watchdog: Watchdog{Model: WatchdogNone, Action: "reset"},
		BootOrder: []string{}}
}

// Pending is a setting that a guest takes up when it is powered on from off; until then it has what it was powered on with.
type Pending struct {
	Field  string `json:"field" example:"resources.memory_mib"`
	Active string `json:"active,omitempty" doc:"What it has until then." example:"512"`
}

// Observed is what the node saw last, as it is; state and desired_state are drawn from it and from what was asked for.
type Observed struct {
	State  string     `json:"state" enum:"absent,stopped,running,paused,crashed"`
	Reason string     `json:"reason" doc:"The hypervisor's word for how it came to this." example:"booted"`
	NodeID *uuid.UUID `json:"node_id,omitempty"`
	At     *time.Time `json:"at,omitempty"`
}

// HistoryItem is an operation on a virtual machine or a change that it went through.
type HistoryItem struct {
	ID          uuid.UUID  `json:"id"`
	At          time.Time  `json:"at"`
	Type        string     `json:"type" enum:"operation,event"`
	Kind        string     `json:"kind" doc:"Of the operation, or what happened." example:"vm.start"`
	Status      string     `json:"status,omitempty" doc:"Of the operation."`
	RequestedBy *uuid.UUID `json:"requested_by,omitempty"`
	OperationID *uuid.UUID `json:"operation_id,omitempty"`
	From        string     `json:"from,omitempty" doc:"State before."`
	To          string     `json:"to,omitempty" doc:"State after."`
	Reason      string     `json:"reason,omitempty"`
	Code        string     `json:"code,omitempty" doc:"Of the error, where it failed."`
}
