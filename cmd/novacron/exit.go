package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
)

// The exit codes. They are public: exitCodes documents them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitConflict    = 5
	exitUnavailable = 6
	exitInterrupted = 130
)

type exitCode struct {
	code    int
	meaning string
}

func exitCodes() []exitCode {
	return []exitCode{
		{exitOK, "done"},
		{exitFailure, "something failed that has no code of its own"},
		{exitUsage, "the command was called wrongly, or the server refused what was asked for as invalid; nothing was done"},
		{exitNotFound, "what was named does not exist, or is not yours"},
		{exitDenied, "not logged in, or a permission is missing"},
		{exitConflict, "conflict with what exists: a name that is taken, the wrong state, no room, a newer request"},
		{exitUnavailable, "the server cannot be reached, is not available, or did not finish in time"},
		{exitInterrupted, "interrupted by a signal; operations that had begun go on"},
	}
}

func exitCodesText() string {
	var b strings.Builder
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "  %-4d %s\n", c.code, c.meaning)
	}
	return b.String()
}

// usageError is a mistake in how a command was called.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// timeUp is the end of the time that --timeout gives.
type timeUp struct{ text, action string }

func (e timeUp) Error() string { return e.text }

// toldError is a failure that the person has been told of already.
type toldError struct{ code int }

func (e toldError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// conclude tells a person how the program failed and gives the exit code.
func (e *env) conclude(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	var told toldError
	if errors.As(err, &told) {
		return told.code
	}
	if !e.running {
		err = usageError{err.Error()}
	}
	code := codeOf(err)
	if code != exitInterrupted {
		e.explain(err)
	}
	var usage usageError
	if errors.As(err, &usage) && cmd != nil {
		fmt.Fprintf(e.errOut, "  See '%s --help'.\n", cmd.CommandPath())
	}
	return code
}

func codeOf(err error) int {
	var (
		told    toldError
		usage   usageError
		late    timeUp
		failed  *apiclient.OperationError
		refused *apiclient.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &told):
		return told.code
	case errors.As(err, &usage), errors.Is(err, apiclient.ErrBaseURL):
		return exitUsage
	case errors.As(err, &late):
		return exitUnavailable
	case errors.As(err, &failed):
		return codeOfStatus(failed.Problem().Status)
	case errors.As(err, &refused) && refused.Status == 0 && refused.Code != apiclient.CodeProtocol:
		return exitUnavailable
	case errors.As(err, &refused):
		return codeOfStatus(refused.Status)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	default:
		return exitFailure
	}
}

func codeOfStatus(status int) int {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return exitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitDenied
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusLocked:
		return exitConflict
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return exitUnavailable
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return exitUsage
	default:
		return exitFailure
	}
}

// explain writes what failed, where, and what to do about it.
func (e *env) explain(err error) {
	var (
		late    timeUp
		failed  *apiclient.OperationError
		refused *apiclient.Error
		own     *errs.Error
	)
	say := func(format string, args ...any) { fmt.Fprintln(e.errOut, printable(fmt.Sprintf(format, args...))) }
	say("novacron: %v", err)
	switch {
	case errors.As(err, &late):
		e.advise(late.action)
	case errors.As(err, &failed):
		p := failed.Problem()
		e.explainProblem(p)
		say("  operation: %s", failed.Operation.ID)
	case errors.As(err, &refused):
		p := refused.Problem
		switch {
		case refused.Code == apiclient.CodeUnreachable:
			p.Action = "Start the server with 'novacron serve', or name another one with --server or " + envServer + "."
		case refused.Status == http.StatusUnauthorized && refused.Code != "auth.invalid_credentials" && !strings.HasPrefix(refused.Code, "auth.mfa_"):
			p.Action = "Log in: novacron login --server " + e.serverURL()
		}
		e.explainProblem(p)
		if refused.RetryAfter > 0 && refused.Status == http.StatusTooManyRequests {
			say("  try again in: %s", refused.RetryAfter)
		}
	case errors.As(err, &own):
		e.advise(own.Action)
	}
}

func (e *env) explainProblem(p errs.Problem) {
	for _, f := range p.Errors {
		text := "  " + f.Location + ": " + f.Message
		if f.Value != "" {
			text += fmt.Sprintf(" (got %q)", f.Value)
		}
		fmt.Fprintln(e.errOut, printable(text))
	}
	e.advise(p.Action)
	if p.RequestID != "" {
		fmt.Fprintln(e.errOut, printable("  request id: "+p.RequestID))
	}
}

func (e *env) advise(action string) {
	if action != "" {
		fmt.Fprintln(e.errOut, printable("  what to do: "+action))
	}
}
