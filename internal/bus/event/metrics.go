package event

import (
	"time"

	"github.com/google/uuid"
)

// VMMetrics is what vm.metrics carries: what a node measured of its guests at one moment. A node with very many guests sends several. The
// next one replaces it, so none is kept or repeated.
type VMMetrics struct {
	ID              uuid.UUID  `json:"id"`
	NodeID          uuid.UUID  `json:"node_id"`
	Timestamp       time.Time  `json:"timestamp"`
	IntervalSeconds float64    `json:"interval_seconds"`
	Samples         []VMSample `json:"samples"`
}

// VMSample is one sample of one guest that is on. Counters begin at 0 when it is powered on. What is absent could not be measured.
type VMSample struct {
	Time                time.Time `json:"time"`
	VMID                uuid.UUID `json:"vm_id"`
	CPUUsage            *float64  `json:"cpu_usage,omitempty"`    // percent of all its vCPUs since the sample before
	MemoryUsage         *float64  `json:"memory_usage,omitempty"` // percent: used by the guest where it tells, else held on the node
	NetworkBytesSent    *int64    `json:"network_bytes_sent,omitempty"`
	NetworkBytesRecv    *int64    `json:"network_bytes_recv,omitempty"`
	DiskReadBytes       *int64    `json:"disk_read_bytes,omitempty"`
	DiskWriteBytes      *int64    `json:"disk_write_bytes,omitempty"`
	DiskUsagePercentage *float64  `json:"disk_usage_percentage,omitempty"` // what the files of its disks take, of their size

	Partial            bool   `json:"partial,omitempty"` // the hypervisor could not be asked for all
	VCPUs              int    `json:"vcpus,omitempty"`
	CPUTimeNS          int64  `json:"cpu_time_ns"`
	MemoryBytes        *int64 `json:"memory_bytes,omitempty"` // that the balloon leaves to the guest
	MemoryRSSBytes     *int64 `json:"memory_rss_bytes,omitempty"`
	MemoryUsableBytes  *int64 `json:"memory_usable_bytes,omitempty"` // that the guest could use without swapping, as it tells
	DiskBytes          *int64 `json:"disk_bytes,omitempty"`
	DiskAllocatedBytes *int64 `json:"disk_allocated_bytes,omitempty"`
}
