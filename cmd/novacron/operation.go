package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newOperation(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "operation", Aliases: []string{"op"}, Short: "Changes that take their time"}
	cmd.AddCommand(newOperationList(e), newOperationShow(e), newOperationWait(e), newOperationCancel(e))
	return cmd
}

func operationID(o apiclient.Operation) string { return o.ID.String() }

func newOperationList(e *env) *cobra.Command {
	var f apiclient.OperationFilter
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List operations, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			ops, err := apiclient.Collect(c.ListOperations(cmd.Context(), f))
			if err != nil {
				return err
			}
			return printList(e, ops, operationID, []column[apiclient.Operation]{
				{"KIND", func(o apiclient.Operation) string { return o.Kind }},
				{"STATUS", func(o apiclient.Operation) string { return e.coloured(o.Status) }},
				{"DONE", func(o apiclient.Operation) string { return strconv.Itoa(o.Progress) + "%" }},
				{"CREATED", func(o apiclient.Operation) string { return clock(o.CreatedAt) }},
				{"TOOK", func(o apiclient.Operation) string { return took(o.StartedAt, o.EndedAt) }},
				{"TARGET", func(o apiclient.Operation) string { return o.TargetID.String() }},
				{"ID", operationID},
			})
		},
	}
	cmd.Flags().StringVar(&f.TargetID, "target", "", "only those on the object of this id")
	cmd.Flags().StringVar(&f.Kind, "kind", "", "only those of this kind, for example vm.create")
	cmd.Flags().StringVar(&f.Status, "status", "", "only those of this status: pending, running, succeeded, failed, canceled")
	cmd.Flags().IntVar(&f.Most, "limit", 50, "so many at most; 0 lists all")
	must(cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"pending", "running", "succeeded", "failed", "canceled"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func took(from, to *time.Time) string {
	if from == nil || to == nil {
		return ""
	}
	return to.Sub(*from).Round(10 * time.Millisecond).String()
}

// operationArg reads the id of an operation; they have no names.
func operationArg(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, usageError{fmt.Sprintf("%q is not the id of an operation; see 'novacron operation list'", text)}
	}
	return id, nil
}

func newOperationShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show OPERATION", Short: "Show an operation, step by step", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, operationIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := operationArg(args[0])
			if err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			op, err := c.GetOperation(cmd.Context(), id)
			if err != nil {
				return err
			}
			return e.printOperation(op)
		},
	}
}

func (e *env) printOperation(op apiclient.Object[apiclient.Operation]) error {
	err := printObject(e, op, operationID, func(o apiclient.Operation) [][]string {
		fields := [][]string{{"kind", o.Kind}, {"id", o.ID.String()}, {"target", o.TargetID.String()}, {"status", e.coloured(o.Status)},
			{"done", strconv.Itoa(o.Progress) + "%"}, {"requested by", o.RequestedBy.String()}, {"created", clock(o.CreatedAt)}, {"took", took(o.StartedAt, o.EndedAt)}}
		if o.CancelRequested && !o.Ended() {
			fields = append(fields, []string{"cancel", "requested"})
		}
		if o.Error != nil {
			fields = append(fields, []string{"error", printable(o.Error.Detail + " (" + o.Error.Code + ")")}, []string{"what to do", printable(o.Error.Action)})
		}
		return fields
	})
	if err != nil || e.quiet || e.forScripts() || len(op.Value.Steps) == 0 {
		return err
	}
	rows := make([][]string, len(op.Value.Steps))
	for i, s := range op.Value.Steps {
		note := ""
		if s.Error != nil {
			note = printable(strings.ReplaceAll(s.Error.Detail, "\n", " ") + " (" + s.Error.Code + ")")
		}
		rows[i] = []string{s.Name, e.coloured(s.Status), strconv.Itoa(s.Attempts), took(s.StartedAt, s.EndedAt), note}
	}
	fmt.Fprintln(e.out)
	return writeTable(e.out, []string{"STEP", "STATUS", "TRIES", "TOOK", "ERROR"}, rows)
}

func newOperationWait(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "wait OPERATION", Short: "Wait until an operation has ended; its failure is the command's", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, operationIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := operationArg(args[0])
			if err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			op, err := c.GetOperation(cmd.Context(), id)
			if err != nil {
				return err
			}
			return e.awaitAndPrint(cmd, c, &w, op)
		},
	}
	w.addTimeout(cmd)
	return cmd
}

func (e *env) awaitAndPrint(cmd *cobra.Command, c *apiclient.Client, w *waiting, op apiclient.Object[apiclient.Operation]) error {
	op, err := e.await(cmd.Context(), c, w, op.Value.Kind, op)
	if err == nil || op.Value.Ended() && e.forScripts() && !e.quiet { // a script gets the operation, whatever became of it
		if printErr := e.printOperation(op); err == nil {
			err = printErr
		}
	}
	return err
}

func newOperationCancel(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "cancel OPERATION", Short: "Cancel an operation and undo what it did", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, operationIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			id, err := operationArg(args[0])
			if err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			op, err := c.CancelOperation(ctx, id)
			if err != nil {
				return err
			}
			if !w.wanted() {
				return e.began("cancel", op)
			}
			op, err = e.await(ctx, c, &w, "canceling "+op.Value.Kind, op)
			if op.Value.Status == apiclient.OperationCanceled {
				err = nil // which is what was asked for
			}
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return e.printOperation(op)
			}
			_, err = fmt.Fprintf(e.out, "Operation %s: %s\n", op.Value.ID, e.coloured(op.Value.Status))
			return err
		},
	}
	w.addTo(cmd)
	return cmd
}
