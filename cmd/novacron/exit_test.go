package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/errs"
)

func TestCodeOf(t *testing.T) {
	refused := func(status int) error { return &apiclient.Error{Problem: errs.Problem{Status: status, Code: "x"}} }
	failed := func(status int) error {
		return &apiclient.OperationError{Operation: apiclient.Operation{Status: "failed", Error: &errs.Problem{Status: status}}}
	}
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, exitOK}, {errors.New("x"), exitFailure}, {usageError{"x"}, exitUsage}, {apiclient.ErrBaseURL, exitUsage},
		{refused(400), exitUsage}, {refused(401), exitDenied}, {refused(403), exitDenied}, {refused(404), exitNotFound}, {refused(409), exitConflict},
		{refused(412), exitConflict}, {refused(413), exitUsage}, {refused(415), exitUsage}, {refused(422), exitUsage}, {refused(423), exitConflict},
		{refused(429), exitUnavailable}, {refused(500), exitFailure}, {refused(502), exitUnavailable}, {refused(503), exitUnavailable}, {refused(504), exitUnavailable},
		{refused(0), exitUnavailable}, {&apiclient.Error{Problem: errs.Problem{Code: apiclient.CodeProtocol}}, exitFailure},
		{failed(409), exitConflict}, {failed(500), exitFailure}, {failed(0), exitFailure},
		{timeUp{text: "x"}, exitUnavailable}, {toldError{exitNotFound}, exitNotFound}, {context.Canceled, exitInterrupted},
		{fmt.Errorf("wrapped: %w", refused(404)), exitNotFound},
	} {
		if got := codeOf(tc.err); got != tc.want {
			t.Errorf("%v gives %d, not %d", tc.err, got, tc.want)
		}
	}
}

// TestDocumentation holds the page about the command line to what the program says.
func TestDocumentation(t *testing.T) {
	raw, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, c := range exitCodes() {
		if row := fmt.Sprintf("| %d | %s |", c.code, c.meaning); !strings.Contains(page, row) {
			t.Errorf("docs/cli.md lacks the line\n%s", row)
		}
	}
	for _, name := range []string{envServer, envUsername, envPassword, envPasswordFile, envOutput} {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/cli.md does not tell of %s", name)
		}
	}
	root := newRoot(&env{})
	for _, group := range root.Commands() {
		for _, cmd := range append(group.Commands(), group) {
			if !cmd.HasSubCommands() && !strings.Contains(page, strings.TrimPrefix(cmd.CommandPath(), "novacron ")) {
				t.Errorf("docs/cli.md does not tell of %q", cmd.CommandPath())
			}
		}
	}
}

func TestErrorsCannotSteerTheTerminal(t *testing.T) {
	var out strings.Builder
	e := &env{errOut: &out, running: true}
	e.conclude(nil, &apiclient.Error{Problem: errs.Problem{Status: 409, Code: "x", Detail: "a\x1b[2Jb", Action: "c\rd"}})
	if strings.ContainsAny(out.String(), "\x1b\r") {
		t.Errorf("printed %q", out.String())
	}
}
