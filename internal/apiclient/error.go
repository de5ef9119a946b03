package apiclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The codes of errors that arise here and not in the server.
const (
	CodeUnreachable = "client.unreachable" // no answer at all
	CodeTimeout     = "client.timeout"     // no answer in time
	CodeProtocol    = "client.protocol"    // an answer that is not one of NovaCron's
	CodeNotLoggedIn = "client.not_logged_in"
)

// Error is a request that did not succeed. Status is 0 where the server did not answer.
type Error struct {
	errs.Problem
	RetryAfter time.Duration // what the server asked for; 0: nothing
	cause      error
}

// Error gives the detail and the code.
func (e *Error) Error() string { return e.Detail + " (" + e.Code + ")" }

// Unwrap gives the cause of errors that arose here.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is compare by code, also with the errors that the server's packages define.
func (e *Error) Is(target error) bool {
	var theirs *errs.Error
	return errors.As(target, &theirs) && theirs.Code == e.Code
}

// OperationError is an operation that ended without success.
type OperationError struct {
	Operation Operation
}

// Error says what failed, and at which step.
func (e *OperationError) Error() string {
	text := e.Operation.Kind + " " + e.Operation.Status
	p := e.Problem()
	if p.Step != "" {
		text += " at step " + p.Step
	}
	if p.Detail == "" {
		return text
	}
	return fmt.Sprintf("%s: %s (%s)", text, p.Detail, p.Code)
}

// Problem gives the operation's own error, with the step that failed where the error does not name it.
func (e *OperationError) Problem() errs.Problem {
	var p errs.Problem
	if e.Operation.Error != nil {
		p = *e.Operation.Error
	}
	for _, s := range e.Operation.Steps {
		if p.Step == "" && s.Error != nil {
			p.Step = s.Name
		}
	}
	return p
}

// maxProblem bounds what is read of a refusal.
const maxProblem = 1 << 20

// errorOf reads the problem that a request was refused with. It reads and leaves open the body.
func errorOf(resp *http.Response) *Error {
	e := &Error{RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err == nil {
		err = json.Unmarshal(body, &e.Problem)
	}
	if err != nil || e.Code == "" { // a proxy in between, or another server
		e.Problem = errs.Problem{Code: "http." + strconv.Itoa(resp.StatusCode), Detail: "the server answered " + resp.Status,
			Retryable: resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests}
		e.cause = err
	}
	e.Status = resp.StatusCode
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get("X-Request-Id")
	}
	return e
}

// retryAfter reads the header's two forms, RFC 9110 section 10.2.3.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 && seconds < 1<<20 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

func protocolError(format string, args ...any) *Error {
	return &Error{Problem: errs.Problem{Code: CodeProtocol, Detail: fmt.Sprintf(format, args...),
		Action: "See that the address is that of a NovaCron server, and that it is not much older or newer than this program."}}
}
