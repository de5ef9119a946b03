package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/novacron/novacron/internal/apiclient"
)

// escapeKey is Ctrl-], as telnet and virsh have it.
const escapeKey = 0x1d

func newVMConsole(e *env) *cobra.Command {
	var (
		w     waiting
		watch bool
	)
	cmd := &cobra.Command{
		Use: "console VM", Short: "Open the interactive serial console of a machine; Ctrl-] leaves it", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Open the interactive serial console of a machine. Ctrl-] leaves it; the machine runs on.\n\n" +
			"Where standard input is no terminal, what is read is typed, and what the guest writes is printed until the console is closed or\n--timeout is over.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ctx, cancel := w.limit(cmd.Context(), "the console of "+target.name)
			defer cancel()
			console, err := c.OpenConsole(ctx, target.id, apiclient.ConsoleOpen{ReadOnly: watch})
			if err != nil {
				return err
			}
			defer console.Close()
			return e.converse(ctx, console, target.name)
		},
	}
	w.addTimeout(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "watch only: nothing that is typed reaches the guest")
	cmd.Flags().Lookup("timeout").Usage = "leave after this time, for example 30s; 0 stays"
	return cmd
}

// errLeft is how a conversation ends that the person has left.
var errLeft = errors.New("left the console")

// converse passes on what is typed and prints what the guest writes.
func (e *env) converse(ctx context.Context, console *apiclient.Console, name string) error {
	tty, interactive := terminal(e.in)
	if interactive {
		fmt.Fprintf(e.errOut, "Connected to %s. Ctrl-] leaves.\n", name)
		before, err := term.MakeRaw(int(tty.Fd()))
		if err != nil {
			return fmt.Errorf("prepare terminal: %w", err)
		}
		defer func() {
			_ = term.Restore(int(tty.Fd()), before) // there is nobody to tell but the person who sees it
			fmt.Fprintf(e.errOut, "\nLeft %s.\n", name)
		}()
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	go e.typeInto(ctx, console, interactive, leave) // ends at the end of input, or with the program
	for {
		data, err := console.Read(ctx)
		switch {
		case errors.Is(context.Cause(ctx), errLeft):
			return nil
		case errors.Is(err, apiclient.ErrConsoleClosed):
			fmt.Fprintf(e.errOut, "%s\r\n", printable(err.Error()))
			return nil
		case err != nil:
			return err
		}
		if _, err := e.out.Write(data); err != nil {
			return err
		}
	}
}

// typeInto sends what is typed, up to the key that leaves.
func (e *env) typeInto(ctx context.Context, console *apiclient.Console, interactive bool, leave context.CancelCauseFunc) {
	buffer := make([]byte, 4096)
	for {
		n, err := e.in.Read(buffer)
		typed, _, end := bytes.Cut(buffer[:n], []byte{escapeKey})
		if len(typed) > 0 && console.Write(ctx, typed) != nil {
			return // reading from the console tells why
		}
		if end || interactive && err != nil {
			leave(errLeft)
			return
		}
		if err != nil { // the guest may go on
			return
		}
	}
}
