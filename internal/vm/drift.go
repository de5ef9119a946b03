package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// DriftKind says how what is differs from what should be.
type DriftKind string

// The kinds of drift.
const (
	DriftDomainMissing     DriftKind = "domain_missing"
	DriftDomainLeaked      DriftKind = "domain_leaked"
	DriftDefinitionEdited  DriftKind = "definition_edited"
	DriftDiskMissing       DriftKind = "disk_missing"
	DriftDiskLeaked        DriftKind = "disk_leaked"
	DriftVolumeMissing     DriftKind = "volume_missing"
	DriftVolumeLeaked      DriftKind = "volume_leaked"
	DriftNetworkLeaked     DriftKind = "network_leaked"
	DriftAllocationMissing DriftKind = "allocation_missing"
	DriftAllocationLeaked  DriftKind = "allocation_leaked"
	DriftAllocationDiffers DriftKind = "allocation_differs"
)

// DriftMode says what is done about drift without being asked.
type DriftMode string

// The modes.
const (
	DriftModeReport     DriftMode = "report"     // nothing
	DriftModeQuarantine DriftMode = "quarantine" // its remedies; what has data is set aside and kept
	DriftModeReap       DriftMode = "reap"       // the same, and what has been set aside for long enough is removed for good
)

// DriftModes lists the modes.
func DriftModes() []DriftMode {
	return []DriftMode{DriftModeReport, DriftModeQuarantine, DriftModeReap}
}

// DriftRemedy is what puts a difference right without a person.
type DriftRemedy string

// The remedies.
const (
	RemedyNone       DriftRemedy = "none"       // there is none: see the proposal
	RemedyQuarantine DriftRemedy = "quarantine" // the domain is undefined, its files are moved aside on the node
	RemedyRemove     DriftRemedy = "remove"     // a network: it is made anew where a machine needs it
	RemedyRelease    DriftRemedy = "release"    // a place with the scheduler: it is given back
	RemedyRedefine   DriftRemedy = "redefine"   // a domain is given the definition that its machine's row stands for
)

// DriftFinding is one difference.
type DriftFinding struct {
	Kind     DriftKind   `json:"kind" enum:"domain_missing,domain_leaked,definition_edited,disk_missing,disk_leaked,volume_missing,volume_leaked,network_leaked,allocation_missing,allocation_leaked,allocation_differs"`
	ObjectID uuid.UUID   `json:"object_id" format:"uuid" doc:"Id of the virtual machine, volume, snapshot or network."`
	NodeID   uuid.UUID   `json:"node_id" format:"uuid"`
	Expected string      `json:"expected" example:"a domain on the node"`
	Seen     string      `json:"seen" example:"none"`
	Proposal string      `json:"proposal" doc:"What would put it right."`
	Remedy   DriftRemedy `json:"remedy" enum:"none,quarantine,remove,release,redefine" doc:"What is done about it without being asked, unless the mode is report, and at once by POST with action heal."`
	Held     string      `json:"held,omitempty" doc:"Why the remedy is not applied without being asked."`
	Since    time.Time   `json:"since" doc:"When an audit saw it first."`
	DueAt    *time.Time  `json:"due_at,omitempty" doc:"From when on the remedy is applied without being asked."`
}

// DriftReport is the outcome of one audit.
type DriftReport struct {
	Mode        DriftMode         `json:"mode" enum:"report,quarantine,reap" doc:"What is done without being asked. report: nothing is changed. quarantine: remedies are applied, and what has data is set aside. reap: and what was set aside for long enough is removed for good."`
	AuditedAt   time.Time         `json:"audited_at"`
	Complete    bool              `json:"complete" doc:"Every node and the scheduler answered."`
	Skipped     []uuid.UUID       `json:"skipped" nullable:"false" doc:"Nodes that did not answer; what they hold is not in this report."`
	Unmanaged   int               `json:"unmanaged" doc:"Domains and networks of other installations on the nodes. They are no drift and never touched."`
	Findings    []DriftFinding    `json:"findings" nullable:"false"`
	Quarantined []QuarantinedItem `json:"quarantined" nullable:"false" doc:"What is set aside."`
}

// QuarantinedItem is a machine or volume that is set aside on a node.
type QuarantinedItem struct {
	ObjectID      uuid.UUID  `json:"object_id" format:"uuid"`
	Kind          string     `json:"kind" enum:"vm,volume"`
	NodeID        uuid.UUID  `json:"node_id" format:"uuid"`
	QuarantinedAt time.Time  `json:"quarantined_at"`
	Bytes         int64      `json:"bytes" doc:"What it takes of the node's storage."`
	Known         bool       `json:"known" doc:"There is a row for it (again), so it can be restored."`
	ReapAt        *time.Time `json:"reap_at,omitempty" doc:"When it is removed for good, in mode reap. Never while it is known."`
}

// DriftAction is what can be asked for about drift.
type DriftAction string

// The actions.
const (
	DriftActHeal    DriftAction = "heal"    // apply the remedies of what was found of an object
	DriftActRestore DriftAction = "restore" // put what is set aside back to where it was
	DriftActReap    DriftAction = "reap"    // remove what is set aside for good
)

// DriftRequest asks to act on drift.
type DriftRequest struct {
	Action    DriftAction `json:"action" enum:"heal,restore,reap" doc:"heal: apply the remedies of what is found of the objects, now. restore: put what is set aside back. reap: remove what is set aside for good."`
	ObjectIDs []uuid.UUID `json:"object_ids" minItems:"1" maxItems:"100" nullable:"false" doc:"Of findings, or of what is set aside."`
	Force     bool        `json:"force" required:"false" doc:"With heal: power off a guest that no row knows before it is set aside. What its memory holds is lost."`
	DryRun    bool        `json:"dry_run" required:"false" doc:"Tell what would be done, and do nothing."`
}

// DriftResult is what became of one object of a DriftRequest.
type DriftResult struct {
	ObjectID uuid.UUID     `json:"object_id" format:"uuid"`
	Done     bool          `json:"done" doc:"It was done; with dry_run: it would be."`
	Remedies []DriftRemedy `json:"remedies" nullable:"false" doc:"With heal."`
	Error    *errs.Problem `json:"error,omitempty" doc:"Why not."`
}

// DriftResults answers a DriftRequest, in its order.
type DriftResults struct {
	Results []DriftResult `json:"results" nullable:"false"`
}

// Condition is something about a virtual machine that was changed outside of NovaCron, as the last audit found it.
type Condition struct {
	Type    DriftKind `json:"type" enum:"domain_missing,definition_edited,disk_missing,allocation_missing,allocation_differs"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// The errors of drift.
var (
	ErrNoDrift = errs.New(errs.NotFound, "drift.not_found", "nothing was found of this object that a remedy would put right").WithAction("Read the report: GET /api/v1/audit/drift.")
	ErrNoRow   = errs.New(errs.Conflict, "drift.unknown_object", "no row knows this object, so what is set aside would be found as a leak again").
			WithAction("Restore the database that knows it first, or take the files from the node's quarantine.")
	ErrKnown = errs.New(errs.Conflict, "drift.known_object", "a row knows this object, so its data is not removed").WithAction("Restore it, or delete the machine or volume first.")
)

func driftErrors() []*errs.Error { return []*errs.Error{ErrNoDrift, ErrNoRow, ErrKnown} }
