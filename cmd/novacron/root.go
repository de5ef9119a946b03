package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

// run is the program without the process around it.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(errOut, "novacron:", err)
	}
	return exitCode(err)
}

// The exit codes; the root command's help tells them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitForbidden   = 4
	exitConflict    = 5
	exitUnavailable = 6
)

// usageError is a command line that makes no sense.
type usageError struct{ error }

// notFoundError is a name that nothing has.
type notFoundError struct{ error }

func exitCode(err error) int {
	var usage usageError
	var missing notFoundError
	var refused *apiclient.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown "), strings.HasPrefix(err.Error(), "invalid argument "):
		return exitUsage
	case errors.As(err, &missing):
		return exitNotFound
	case errors.Is(err, apiclient.ErrNotLoggedIn):
		return exitForbidden
	case errors.Is(err, apiclient.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	case errors.As(err, &refused):
		switch refused.Status {
		case 400, 413, 415, 422:
			return exitUsage
		case 401, 403, 429:
			return exitForbidden
		case 404:
			return exitNotFound
		case 409, 412, 423:
			return exitConflict
		case 503, 504:
			return exitUnavailable
		}
	}
	return exitFailure
}

func newRoot() *cobra.Command {
	c := &cli{}
	root := &cobra.Command{
		Use: "novacron", Short: "Turn KVM hosts into a cloud", SilenceErrors: true, SilenceUsage: true,
		Long: `NovaCron turns KVM hosts into a cloud: 'novacron serve' is the server, the other commands talk to one.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 not found, 4 not logged in or not permitted,
5 conflict or wrong state, 6 server unreachable or time is up.`,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.server, "server", envOr("NOVACRON_SERVER", "http://127.0.0.1:8080"), "address of the server")
	flags.StringVarP(&c.output, "output", "o", envOr("NOVACRON_OUTPUT", "table"), "table, json or yaml")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "print ids only")
	flags.DurationVar(&c.timeout, "timeout", 0, "give up after so long; 0: never")
	flags.BoolVar(&c.noWait, "no-wait", false, "do not wait for operations to end")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		switch c.output {
		case "table", "json", "yaml":
		default:
			return usageError{fmt.Errorf("--output %q is none of table, json, yaml", c.output)}
		}
		if c.timeout > 0 {
			ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
			cobra.OnFinalize(cancel)
			cmd.SetContext(ctx)
		}
		return nil
	}
	root.AddCommand(newServe(), newModules(), newConfig(), newDoctor(c), newVersion(c), newLogin(c), newLogout(c), newWhoami(c),
		newVM(c), newImage(c), newNetwork(c), newNode(c), newOperation(c), newFlavor(c))
	for _, group := range root.Commands() {
		if group.HasSubCommands() {
			group.Args, group.RunE = cobra.ArbitraryArgs, explainGroup
		}
	}
	return root
}

// explainGroup shows what a group of commands has; without it, an unknown one would pass as a question for help.
func explainGroup(cmd *cobra.Command, list []string) error {
	if len(list) > 0 {
		return usageError{fmt.Errorf("unknown command %q for %q", list[0], cmd.CommandPath())}
	}
	return cmd.Help()
}

func envOr(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

// args checks the number of arguments and answers a usage error where it is wrong.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, list []string) error {
		if err := check(cmd, list); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
