package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// GuestInfo is what the agent in a guest tells of it. All of it was written by the guest, and nothing has checked it.
type GuestInfo struct {
	AgentVersion string            `json:"agent_version" example:"7.2.22"`
	Commands     []string          `json:"commands" nullable:"false" doc:"What the agent can do and is allowed to."`
	System       GuestSystem       `json:"system"`
	Hostname     string            `json:"hostname" example:"web-1"`
	Timezone     GuestTimezone     `json:"timezone"`
	Users        []GuestUser       `json:"users" nullable:"false" doc:"Who is logged in."`
	Filesystems  []GuestFilesystem `json:"filesystems" nullable:"false" doc:"What is mounted."`
	Interfaces   []GuestInterface  `json:"interfaces" nullable:"false"`
	Missing      []string          `json:"missing" nullable:"false" doc:"What of the above the agent did not tell, because it cannot or may not."`
	At           time.Time         `json:"at"`
}

// GuestSystem is the guest's operating system.
type GuestSystem struct {
	ID         string `json:"id" example:"debian"`
	Name       string `json:"name" example:"Debian GNU/Linux 12 (bookworm)"`
	VersionID  string `json:"version_id" example:"12"`
	Kernel     string `json:"kernel" example:"6.1.0-28-amd64"`
	Machine    string `json:"machine" example:"x86_64"`
	PrettyName string `json:"pretty_name"`
}

// GuestTimezone is the time zone of the guest.
type GuestTimezone struct {
	Name          string `json:"name,omitempty" example:"UTC"`
	OffsetSeconds int    `json:"offset_seconds" doc:"East of UTC."`
}

// GuestUser is somebody who is logged in.
type GuestUser struct {
	Name    string    `json:"name"`
	Domain  string    `json:"domain,omitempty" doc:"Windows only."`
	LoginAt time.Time `json:"login_at"`
}

// GuestFilesystem is a file system that the guest has mounted.
type GuestFilesystem struct {
	Device     string `json:"device" example:"vda1"`
	Mountpoint string `json:"mountpoint" example:"/"`
	Type       string `json:"type" example:"ext4"`
	TotalBytes *int64 `json:"total_bytes,omitempty" doc:"Absent where the agent does not tell."`
	UsedBytes  *int64 `json:"used_bytes,omitempty"`
}

// GuestInterface is a network interface as the guest sees it.
type GuestInterface struct {
	Name      string   `json:"name" example:"eth0"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses" nullable:"false" example:"[\"10.0.0.12/24\"]"`
}

// GuestExec is how a program in a guest ended.
type GuestExec struct {
	ExitCode        *int   `json:"exit_code,omitempty" doc:"Absent where a signal ended it, or where it has not ended." example:"0"`
	Signal          *int   `json:"signal,omitempty" doc:"That ended it."`
	TimedOut        bool   `json:"timed_out" doc:"It did not end in time, and was killed where the guest has the program timeout."`
	Stdout          []byte `json:"stdout" contentEncoding:"base64" doc:"Base64; any bytes."`
	Stderr          []byte `json:"stderr" contentEncoding:"base64" doc:"Base64; any bytes."`
	StdoutTruncated bool   `json:"stdout_truncated"`
	StderrTruncated bool   `json:"stderr_truncated"`
	DurationMS      int64  `json:"duration_ms"`
}

// GuestTime is the guest's clock before and after it was set.
type GuestTime struct {
	OffsetMS int64     `json:"offset_ms" doc:"How far the guest's clock was ahead of the node's; negative: behind."`
	Time     time.Time `json:"time" doc:"What it was set to."`
}

// GuestFile tells of a file that was put into a guest.
type GuestFile struct {
	Path      string `json:"path" example:"/etc/motd"`
	SizeBytes int64  `json:"size_bytes"`
}

// Metrics is the latest sample of a virtual machine that is on. Counters begin at 0 when it is powered on. What is absent could not be
// measured.
type Metrics struct {
	VMID                uuid.UUID `json:"vm_id"`
	NodeID              uuid.UUID `json:"node_id"`
	Time                time.Time `json:"time"`
	CPUUsage            *float64  `json:"cpu_usage,omitempty" doc:"Percent of all its virtual CPUs since the sample before." example:"12.5"`
	MemoryUsage         *float64  `json:"memory_usage,omitempty" doc:"Percent of its memory: used by the guest where its balloon driver tells, else held on the node." example:"40.1"`
	NetworkBytesSent    *int64    `json:"network_bytes_sent,omitempty"`
	NetworkBytesRecv    *int64    `json:"network_bytes_recv,omitempty"`
	DiskReadBytes       *int64    `json:"disk_read_bytes,omitempty"`
	DiskWriteBytes      *int64    `json:"disk_write_bytes,omitempty"`
	DiskUsagePercentage *float64  `json:"disk_usage_percentage,omitempty" doc:"Percent of the size of its disks that their files take on the node."`
	VCPUs               int       `json:"vcpus,omitempty" doc:"That the usage was measured against; 0: not known."`
	CPUSeconds          float64   `json:"cpu_seconds" doc:"Time on processors of the node since it was powered on."`
	MemoryBytes         *int64    `json:"memory_bytes,omitempty" doc:"That the balloon leaves to the guest."`
	MemoryRSSBytes      *int64    `json:"memory_rss_bytes,omitempty" doc:"That it holds of the node's memory."`
	MemoryUsableBytes   *int64    `json:"memory_usable_bytes,omitempty" doc:"That the guest could use without swapping, as its balloon driver tells."`
	DiskBytes           *int64    `json:"disk_bytes,omitempty" doc:"Size of its disks."`
	DiskAllocatedBytes  *int64    `json:"disk_allocated_bytes,omitempty" doc:"That their files take on the node."`
}

// The errors of guest agents and metrics.
var (
	ErrAgentUnavailable = errs.New(errs.Conflict, "vm.agent_unavailable", "the guest has no agent that answers").WithRetryable(true).
				WithAction("Install and start qemu-guest-agent in the guest; while it boots, try again in a moment.")
	ErrAgentBusy = errs.New(errs.Throttled, "vm.agent_busy", "other requests keep the guest agent busy").WithAction("Try again when they have ended.")
	// ErrAgentRefused carries the agent's own words.
	ErrAgentRefused = errs.New(errs.Conflict, "vm.agent_refused", "the guest agent could not do it")
	ErrAgentAnswer  = errs.New(errs.Conflict, "vm.agent_answer_invalid", "the guest agent answered something that makes no sense").
			WithAction("Update qemu-guest-agent in the guest.")
	ErrGuestInvalid  = errs.New(errs.Invalid, "guest.invalid", "the guest cannot be asked for this")
	ErrGuestFileSize = errs.New(errs.TooLarge, "guest.file_too_large", "the file is larger than this installation passes to and from guests").
				WithAction("Use the network, or a volume; vm.guest_file_max_bytes is the limit.")
	ErrGuestFileBroken = errs.New(errs.Malformed, "guest.file_incomplete", "the file did not arrive whole").WithRetryable(true)
	ErrNoMetrics       = errs.New(errs.Conflict, "vm.no_metrics", "the virtual machine has not been measured yet").WithRetryable(true).
				WithAction("Try again in a moment; vm.metrics_interval says how often nodes measure.")
)

func guestErrors() []*errs.Error {
	return []*errs.Error{ErrAgentUnavailable, ErrAgentBusy, ErrAgentRefused, ErrAgentAnswer, ErrGuestInvalid, ErrGuestFileSize, ErrGuestFileBroken, ErrNoMetrics}
}
