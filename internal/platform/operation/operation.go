package operation

import (
	"context"
	_ "embed"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Schema is the DDL of the engine's own table, for a module to copy into a migration of its own.
//
//go:embed schema.sql
var Schema string

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
	Deadline        time.Time // of the steps forward; undoing takes as long as it takes
}

// StepRecord is how one step of an operation stands.
type StepRecord struct {
	Name      string      `json:"name"`
	Status    string      `json:"status"`
	StartedAt *time.Time  `json:"started_at,omitempty"`
	EndedAt   *time.Time  `json:"ended_at,omitempty"`
	Error     *errs.Error `json:"error,omitempty"` // of the last attempt
	Attempts  int         `json:"attempts"`
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
// short or never ran. Both end soon after their context does.
type Step struct {
	Name   string
	Weight int // share of the progress; 0 means 1
	Do     func(ctx context.Context, r *Run) error
	Undo   func(ctx context.Context, r *Run) error // nil: there is nothing to undo
}

// Saga says how operations of one kind are carried out.
//
// A step that fails with a retryable error is tried again, with growing pauses, until the deadline. Any other error undoes the failed
// step and those before it, in reverse. Undoing never gives up.
type Saga struct {
	Kind     string
	Steps    []Step
	Deadline time.Duration // 0 means one hour
	// PointOfNoReturn names a step. From its begin on the operation can be neither canceled nor undone: it is tried, with growing
	// pauses, until it succeeds.
	PointOfNoReturn string
	// OnEnd runs in the transaction that ends the operation, before the operation's own row is written. It may be nil.
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

// The engine's errors.
var (
	ErrNotFound      = errs.New(errs.NotFound, "operation.not_found", "there is no such operation")
	ErrSuperseded    = errs.New(errs.Conflict, "operation.superseded", "a newer request has taken over")
	ErrCanceled      = errs.New(errs.Conflict, "operation.canceled", "the operation was canceled")
	ErrEnded         = errs.New(errs.Conflict, "operation.ended", "the operation has ended already")
	ErrNotCancelable = errs.New(errs.Conflict, "operation.not_cancelable", "the operation has gone too far to be canceled").
				WithAction("Wait for its end.")
	ErrDeadline     = errs.New(errs.Deadline, "operation.deadline", "the operation did not finish in time").WithRetryable(false)
	ErrLocked       = errs.New(errs.Locked, "operation.locked", "an operation is at work on the object").WithRetryable(true)
	ErrDuplicateKey = errs.New(errs.Conflict, "operation.duplicate_key", "a request with this idempotency key is being handled").WithRetryable(true)
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrNotFound, ErrSuperseded, ErrCanceled, ErrEnded, ErrNotCancelable, ErrDeadline, ErrLocked, ErrDuplicateKey}
}
