package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

// waiting are the flags of commands that begin operations.
type waiting struct {
	wait, noWait bool
	timeout      time.Duration
}

func (w *waiting) addTo(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", true, "wait until it is done")
	cmd.Flags().BoolVar(&w.noWait, "no-wait", false, "do not wait; print the operation")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
	w.addTimeout(cmd)
}

func (w *waiting) addTimeout(cmd *cobra.Command) {
	cmd.Flags().Var((*span)(&w.timeout), "timeout", "wait no longer than this, for example 5m; 0 waits as long as it takes")
}

// span is a flag's value: a time that is not negative. A wrong one is found before anything is done.
type span time.Duration

func (s *span) String() string { return time.Duration(*s).String() }

// Type implements pflag.Value.
func (s *span) Type() string { return "duration" }

// Set implements pflag.Value.
func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time: give a number with s, m or h behind it", text)
	}
	*s = span(d)
	return nil
}

func (w *waiting) wanted() bool { return w.wait && !w.noWait }

// limit bounds a context by --timeout.
func (w *waiting) limit(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	if w.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, w.timeout, timeUp{text: fmt.Sprintf("%s is not done after %s", what, w.timeout)})
}

// await follows an operation on what name says until it has ended well, showing its progress.
func (e *env) await(ctx context.Context, c *apiclient.Client, w *waiting, name string, op apiclient.Object[apiclient.Operation]) (apiclient.Object[apiclient.Operation], error) {
	ctx, cancel := w.limit(ctx, op.Value.Kind+" of "+name)
	defer cancel()
	var err error
	id := op.Value.ID
	if !op.Value.Ended() {
		p := e.progress(name)
		p.operation(op.Value)
		op, err = c.FollowOperation(ctx, id, func(o apiclient.Object[apiclient.Operation]) { p.operation(o.Value) })
		p.end()
	}
	if err == nil {
		err = op.Value.Err()
	}
	return op, e.goesOn(id.String(), err)
}

// goesOn tells whoever stops waiting that the operation does not stop with them.
func (e *env) goesOn(operation string, err error) error {
	follow := "novacron operation wait " + operation
	var late timeUp
	switch {
	case errors.As(err, &late):
		late.action = "It goes on. Follow it: " + follow
		return late
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(e.errOut, "novacron: interrupted; the operation goes on. Follow it: %s\n", follow)
	}
	return err
}

// began prints an operation that is not waited for. id is that of the object it works on.
func (e *env) began(name string, op apiclient.Object[apiclient.Operation]) error {
	switch {
	case e.quiet:
		_, err := fmt.Fprintln(e.out, op.Value.TargetID)
		return err
	case e.forScripts():
		return e.document(op)
	default:
		_, err := fmt.Fprintf(e.out, "%s: %s is %s. Follow it: novacron operation wait %s\n", name, op.Value.Kind, op.Value.Status, op.Value.ID)
		return err
	}
}
