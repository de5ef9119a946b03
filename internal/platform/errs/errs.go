package errs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// Kind says what sort of failure an error is. It decides the HTTP status and whether a retry can help by default.
type Kind string

// The kinds, each with the HTTP status it becomes.
const (
	Internal         Kind = "internal"           // 500: a defect of ours, or a failure with no better name
	Malformed        Kind = "malformed"          // 400: the request could not be read
	Unauthenticated  Kind = "unauthenticated"    // 401
	Forbidden        Kind = "forbidden"          // 403
	NotFound         Kind = "not_found"          // 404: absent, or not the caller's
	MethodNotAllowed Kind = "method_not_allowed" // 405
	Conflict         Kind = "conflict"           // 409: a clash with what exists, or the wrong state
	Gone             Kind = "gone"               // 410: it was there, and is no more
	Precondition     Kind = "precondition"       // 412: a lost race on If-Match
	TooLarge         Kind = "too_large"          // 413
	UnsupportedMedia Kind = "unsupported_media"  // 415
	Invalid          Kind = "invalid"            // 422: readable, but fails validation
	Locked           Kind = "locked"             // 423: an operation holds the object
	Throttled        Kind = "throttled"          // 429
	Unavailable      Kind = "unavailable"        // 503: something that is needed is away for now
	Deadline         Kind = "deadline"           // 504: no answer in time
)

// Error is the one error type that crosses a module boundary. It is immutable: the With and Wrap methods answer a copy.
// Two errors are the same, for errors.Is, when their codes are equal.
type Error struct {
	Kind    Kind   `json:"kind"`
	Code    string `json:"code"`    // stable and public, "<area>.<what>", for example "vm.not_found"
	Message string `json:"message"` // what failed, for people
	Step    string `json:"step,omitempty"`
	// Action tells the reader what to do about it. Empty where the message says it already.
	Action    string            `json:"action,omitempty"`
	Retryable bool              `json:"retryable"` // the same request may succeed later, unchanged
	Fields    []Field           `json:"fields,omitempty"`
	Meta      map[string]string `json:"meta,omitempty"`

	cause error // logged, never sent
}

// Field is one part of a request that failed validation.
type Field struct {
	Location string `json:"location"` // "body.resources.vcpus", "query.limit", "path.id"
	Message  string `json:"message"`
	Value    string `json:"value,omitempty"` // at most 64 characters; left out for secrets
}

// New defines an error. Errors of the kinds Unavailable, Deadline and Throttled are retryable from the start.
func New(kind Kind, code, message string) *Error {
	return &Error{
		Kind: kind, Code: code, Message: message,
		Retryable: kind == Unavailable || kind == Deadline || kind == Throttled,
	}
}

// Error gives the code, the step where there is one, the message and the cause: the form for logs.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code)
	if e.Step != "" {
		b.WriteString(" at " + e.Step)
	}
	b.WriteString(": " + e.Message)
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is compare by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

func (e *Error) clone() *Error {
	c := *e
	c.Meta = maps.Clone(e.Meta)
	c.Fields = append([]Field(nil), e.Fields...)
	return &c
}

// Wrap keeps the cause for the log.
func (e *Error) Wrap(cause error) *Error { c := e.clone(); c.cause = cause; return c }

// WithMessage replaces the message by a more exact one.
func (e *Error) WithMessage(format string, args ...any) *Error {
	c := e.clone()
	c.Message = fmt.Sprintf(format, args...)
	return c
}

// WithAction says what to do about the error.
func (e *Error) WithAction(action string) *Error { c := e.clone(); c.Action = action; return c }

// WithMeta adds one public fact.
func (e *Error) WithMeta(key, value string) *Error {
	c := e.clone()
	if c.Meta == nil {
		c.Meta = map[string]string{}
	}
	c.Meta[key] = value
	return c
}

// WithField adds one part of the request that failed validation. The value is cut to 64 characters.
func (e *Error) WithField(location, message, value string) *Error {
	c := e.clone()
	if r := []rune(value); len(r) > 64 {
		value = string(r[:64])
	}
	c.Fields = append(c.Fields, Field{Location: location, Message: message, Value: value})
	return c
}

// AtStep names the step of an operation in which the error arose. A step that is named already stays.
func (e *Error) AtStep(step string) *Error {
	if e.Step != "" {
		return e
	}
	c := e.clone()
	c.Step = step
	return c
}

// WithRetryable overrides whether a retry can help.
func (e *Error) WithRetryable(retryable bool) *Error {
	c := e.clone()
	c.Retryable = retryable
	return c
}

// ErrInternal stands for every failure that has no better name; its cause is in the log only.
var ErrInternal = New(Internal, "internal", "something failed inside NovaCron").
	WithAction("Look for the request id in the log of the server.")

// From finds the *Error in err's chain, or wraps err into ErrInternal. It answers nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return ErrInternal.Wrap(err)
}

// Retryable tells whether the same call may succeed later. Errors without an *Error in their chain are not.
func Retryable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Retryable
}

// Encode gives the JSON form in which an error crosses a process boundary or is kept in a row. The cause stays behind.
func Encode(err error) []byte {
	if err == nil {
		return nil
	}
	b, mErr := json.Marshal(From(err))
	if mErr != nil { // cannot happen: the struct holds strings only
		return []byte(`{"kind":"internal","code":"internal"}`)
	}
	return b
}

// Decode reads what Encode wrote. It answers nil for no bytes.
func Decode(b []byte) *Error {
	if len(b) == 0 {
		return nil
	}
	var e Error
	if err := json.Unmarshal(b, &e); err != nil || e.Code == "" {
		return ErrInternal.Wrap(fmt.Errorf("decode error %q: %w", b, err))
	}
	return &e
}
