package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

// changeVMs carries a change out on one machine after the other. A failure does not keep the others from their turn; the first one gives
// the exit code. done is the word for what was done.
func (e *env) changeVMs(ctx context.Context, w *waiting, args []string, done string, begin begin) error {
	c, err := e.connect()
	if err != nil {
		return err
	}
	var failed error
	results := []json.RawMessage{}
	for _, arg := range args {
		result, err := e.changeVM(ctx, c, w, arg, done, begin)
		if result != nil {
			results = append(results, result)
		}
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil || len(args) == 1:
			return err
		}
		e.explain(err)
		if failed == nil {
			failed = toldError{codeOf(err)}
		}
	}
	if !e.forScripts() || e.quiet {
		return failed
	}
	var document any = results
	if len(args) == 1 {
		document = results[0]
	}
	return errors.Join(e.document(document), failed)
}

// changeVM begins a change, and waits for its end where that is wanted. It prints what came of it, or gives the document that scripts get:
// the operation where that is not waited for, or where the machine is gone, and the machine as it is now otherwise.
func (e *env) changeVM(ctx context.Context, c *apiclient.Client, w *waiting, arg, done string, begin begin) (json.RawMessage, error) {
	target, err := findVM(ctx, c, arg)
	if err != nil {
		return nil, err
	}
	op, err := begin(ctx, c, target.id)
	if err != nil {
		return nil, err
	}
	return e.finishVM(ctx, c, w, target.name, done, op)
}

func (e *env) finishVM(ctx context.Context, c *apiclient.Client, w *waiting, name, done string, op apiclient.Object[apiclient.Operation]) (json.RawMessage, error) {
	scripts := e.forScripts() && !e.quiet
	if !w.wanted() {
		if scripts {
			return op.Raw, nil
		}
		return nil, e.began(name, op)
	}
	op, err := e.await(ctx, c, w, name, op)
	if err != nil {
		return nil, err
	}
	if e.quiet {
		_, err := fmt.Fprintln(e.out, op.Value.TargetID)
		return nil, err
	}
	machine, err := c.GetVM(ctx, op.Value.TargetID)
	var gone *apiclient.Error
	switch {
	case errors.As(err, &gone) && gone.Status == http.StatusNotFound && scripts:
		return op.Raw, nil
	case errors.As(err, &gone) && gone.Status == http.StatusNotFound:
		_, err := fmt.Fprintf(e.out, "%s virtual machine %s.\n", done, name)
		return nil, err
	case err != nil:
		return nil, err
	case scripts:
		return machine.Raw, nil
	default:
		return nil, e.sayState(machine.Value, done)
	}
}

// sayState tells in a line how a machine is after a change.
func (e *env) sayState(m vm.VM, done string) error {
	_, err := fmt.Fprintf(e.out, "%s virtual machine %s: %s (%s)\n", done, m.Name, e.coloured(string(m.State)), m.ID)
	return err
}
