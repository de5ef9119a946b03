package idempotent

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// ID names one remembered request.
type ID struct {
	Principal uuid.UUID
	Route     string // method and path; short ASCII
	Key       string // as the client sent it: 1 to 255 printable ASCII characters
}

// Answer is a remembered answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Result of a Begin: either an Answer to repeat, or the lock under which the request is to be carried out.
type Result struct {
	Answer *Answer   // nil: the request is fresh
	Lock   uuid.UUID // of a fresh request
}

// Store remembers requests. A lock is held until Finish or Abandon, or until nobody has renewed it for a while.
type Store interface {
	// Begin answers ErrMismatch where the key came with another body before, and ErrInProgress while the request is being carried out.
	Begin(ctx context.Context, id ID, bodyHash []byte) (Result, error)
	Renew(ctx context.Context, id ID, lock uuid.UUID) error
	Finish(ctx context.Context, id ID, lock uuid.UUID, answer Answer) error
	// Abandon forgets the request, so that a repetition is carried out anew.
	Abandon(ctx context.Context, id ID, lock uuid.UUID) error
}

// RenewEvery is how often the lock of a request that is being carried out is renewed. A Store lets a lock live for several times as
// long.
const RenewEvery = 15 * time.Second

// The errors of repeated requests.
var (
	ErrKey = errs.New(errs.Invalid, "idempotency.invalid_key", "the Idempotency-Key is not 1 to 255 printable ASCII characters").
		WithField("header.Idempotency-Key", "must be 1 to 255 printable ASCII characters, once", "")
	ErrMismatch = errs.New(errs.Conflict, "idempotency.mismatch", "the Idempotency-Key was used for another request").
			WithAction("Use a fresh key for every new request; repeat a request with exactly the same body.")
	ErrInProgress = errs.New(errs.Conflict, "idempotency.in_progress", "the request with this Idempotency-Key is being carried out").
			WithRetryable(true).WithAction("Try again in a moment: the answer of the first request will be repeated.")
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrKey, ErrMismatch, ErrInProgress} }
