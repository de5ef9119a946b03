package operation

import (
	"context"
	_ "embed"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Schema is the DDL of the engine's own table, for a module to copy into a migration of its own.
//
//go:embed schema.sql
var Schema string

// SchemaTrace is what has been added to it since, for a migration of its own.
//
//go:embed schema_trace.sql
var SchemaTrace string

// Status tells how an operation stands.
type Status string

// The statuses. The last three are ends.
const (
	StatusPending   Status = "pending"
	StatusRunning   Status = "running"
	StatusSucceeded Status = "succeeded"
	StatusFailed    Status = "failed"
	StatusCanceled  Status = "canceled"
)

// Operation is a slow change, as it stands.
type Operation struct {
	ID              uuid.UUID
	Kind            string
	TargetID        uuid.UUID
	TenantID        uuid.UUID
	RequestedBy     uuid.UUID
	Generation      int64
	Status          Status
	Progress        int // percent
	Steps           []StepRecord
	Error           *errs.Error
	CancelRequested bool
	CreatedAt       time.Time
	StartedAt       *time.Time
	EndedAt         *time.Time
	UpdatedAt       time.Time
	State           json.RawMessage // what its steps kept with SetState, for those who know its kind
	Deadline        time.Time       // of the steps forward; undoing takes as long as it takes
}

// StepRecord is how one step of an operation stands.
type StepRecord struct {
	Name      string      `json:"name"`
	Status    string      `json:"status"`
	StartedAt *time.Time  `json:"started_at,omitempty"`
	EndedAt   *time.Time  `json:"ended_at,omitempty"`
	Error     *errs.Error `json:"error,omitempty"` // of the last attempt
	Attempts  int         `json:"attempts"`
	// UndoAttempts counts the attempts at undoing the step that failed.
	UndoAttempts int `json:"undo_attempts,omitempty"`
}

// The statuses of a step.
const (
	StepPending   = "pending"
	StepRunning   = "running"
	StepSucceeded = "succeeded"
	StepFailed    = "failed"
	StepUndone    = "undone"
	StepSkipped   = "skipped" // never begun, because the operation ended before
)

// Step is one step of a saga. Do and Undo are idempotent: they may run again after a crash, and Undo copes with a Do that was cut
// short or never ran. Both end soon after their context does: then the engine stops, or the operation is no longer theirs, was canceled
// or is out of time.
type Step struct {
	Name   string
	Weight int // share of the progress; 0 means 1
	Do     func(ctx context.Context, r *Run) error
	Undo   func(ctx context.Context, r *Run) error // nil: there is nothing to undo
}

// Saga says how operations of one kind are carried out.
//
// A step that fails with a retryable error (errs.Retryable) is tried again, with growing pauses, until the deadline. Any other error,
// or a panic, undoes the failed step and those before it, in reverse. Undoing never gives up.
type Saga struct {
	Kind     string
	Steps    []Step
	Deadline time.Duration // 0 means one hour
	// PointOfNoReturn names a step. From its begin on the operation can be neither canceled nor undone: it is tried, with growing
	// pauses, until it succeeds.
	PointOfNoReturn string
	// OnEnd runs in the transaction that ends the operation, also of Supersede. op is the operation as it will be; its row is written
	// after OnEnd (by Supersede: before). What fails is tried again, so OnEnd has no effects outside of tx. It may be nil.
	OnEnd func(ctx context.Context, tx pgx.Tx, op Operation) error
}

// New describes an operation to create.
type New struct {
	ID             uuid.UUID // zero: a new UUIDv7
	Kind           string
	TargetID       uuid.UUID
	TenantID       uuid.UUID
	RequestedBy    uuid.UUID
	Generation     int64
	Input          any    // kept as JSON, never changed
	IdempotencyKey string // "": none
}
