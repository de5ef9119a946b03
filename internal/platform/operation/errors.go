package operation

import (
	"errors"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The engine's public errors.
var (
	ErrNotFound      = errs.New(errs.NotFound, "operation.not_found", "there is no such operation")
	ErrSuperseded    = errs.New(errs.Conflict, "operation.superseded", "a newer request has taken over")
	ErrCanceled      = errs.New(errs.Conflict, "operation.canceled", "the operation was canceled")
	ErrEnded         = errs.New(errs.Conflict, "operation.ended", "the operation has ended already")
	ErrNotCancelable = errs.New(errs.Conflict, "operation.not_cancelable", "the operation has gone too far to be canceled").
				WithAction("Wait for its end.")
	ErrDeadline     = errs.New(errs.Deadline, "operation.deadline", "the operation did not finish in time").WithRetryable(false)
	ErrLocked       = errs.New(errs.Locked, "operation.locked", "an operation is at work on the object").WithRetryable(true).WithAction("Wait for the operation, or cancel it.")
	ErrDuplicateKey = errs.New(errs.Conflict, "operation.duplicate_key", "a request with this idempotency key is being handled").WithRetryable(true)
)

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error {
	return []*errs.Error{ErrNotFound, ErrSuperseded, ErrCanceled, ErrEnded, ErrNotCancelable, ErrDeadline, ErrLocked, ErrDuplicateKey}
}

// Why a run ends before its operation does. They are the causes of its contexts, too.
var (
	errLost    = errors.New("operation: the lease is lost")
	errStopped = errors.New("operation: the engine stops")
	errUser    = errors.New("operation: canceled by a user")
	errLate    = errors.New("operation: the deadline has passed")
)

// errPaused says that lease and worker were given back until a later attempt.
type errPaused struct{ after time.Duration }

func (e errPaused) Error() string { return "operation: left for an attempt in " + e.after.String() }

// failure is why an operation is to be undone. Every other error of a run is an interruption, after which the operation goes on.
type failure struct{ err *errs.Error }

func (f failure) Error() string { return f.err.Error() }

// storable makes an error one that jsonb can hold: it takes no NUL, and messages may quote anything.
func storable(e *errs.Error) *errs.Error {
	clean := func(s string) string { return strings.ReplaceAll(s, "\x00", "") }
	c := *e.WithMessage("%s", clean(e.Message))
	c.Action, c.Step = clean(c.Action), clean(c.Step)
	for i, f := range c.Fields {
		c.Fields[i] = errs.Field{Location: clean(f.Location), Message: clean(f.Message), Value: clean(f.Value)}
	}
	for name, value := range c.Meta {
		c.Meta[name] = clean(value)
	}
	return &c
}

// encode gives the form of the error column: nil for none.
func encode(e *errs.Error) []byte {
	if e == nil {
		return nil // a nil *errs.Error in an error is not nil
	}
	return errs.Encode(storable(e))
}
