package vm

import (
	"time"

	"github.com/google/uuid"
)

// DriftKind says how what is differs from what should be.
type DriftKind string

// The kinds of drift.
const (
	DriftDomainMissing     DriftKind = "domain_missing"
	DriftDomainLeaked      DriftKind = "domain_leaked"
	DriftDiskMissing       DriftKind = "disk_missing"
	DriftDiskLeaked        DriftKind = "disk_leaked"
	DriftVolumeMissing     DriftKind = "volume_missing"
	DriftVolumeLeaked      DriftKind = "volume_leaked"
	DriftNetworkLeaked     DriftKind = "network_leaked"
	DriftAllocationMissing DriftKind = "allocation_missing"
	DriftAllocationDiffers DriftKind = "allocation_differs"
)

// DriftFinding is one difference.
type DriftFinding struct {
	Kind     DriftKind `json:"kind" enum:"domain_missing,domain_leaked,disk_missing,disk_leaked,volume_missing,volume_leaked,network_leaked,allocation_missing,allocation_differs"`
	ObjectID uuid.UUID `json:"object_id" format:"uuid" doc:"Id of the virtual machine, volume or network."`
	NodeID   uuid.UUID `json:"node_id" format:"uuid"`
	Expected string    `json:"expected" example:"a domain on the node"`
	Seen     string    `json:"seen" example:"none"`
	Proposal string    `json:"proposal" doc:"What would put it right. Nothing is done by itself."`
	Since    time.Time `json:"since" doc:"When an audit of this process saw it first."`
}

// DriftReport is the outcome of one audit.
type DriftReport struct {
	Mode      string         `json:"mode" enum:"report" doc:"report: differences are told, and nothing is changed."`
	AuditedAt time.Time      `json:"audited_at"`
	Complete  bool           `json:"complete" doc:"Every node and the scheduler answered."`
	Skipped   []uuid.UUID    `json:"skipped" nullable:"false" doc:"Nodes that did not answer; what they hold is not in this report."`
	Unmanaged int            `json:"unmanaged" doc:"Domains and networks of other installations on the nodes. They are no drift and never touched."`
	Findings  []DriftFinding `json:"findings" nullable:"false"`
}
