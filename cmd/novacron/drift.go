package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/vm"
)

func newDrift(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "drift", Short: "Differences between what should be and what is"}
	cmd.AddCommand(newDriftList(e), newDriftAct(e, vm.DriftActHeal, "Put right what is found of these objects, now"),
		newDriftAct(e, vm.DriftActRestore, "Put machines or volumes that are set aside back to where they were"),
		newDriftAct(e, vm.DriftActReap, "Remove what is set aside for good"))
	return cmd
}

func newDriftList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "Compare now and list what differs and what is set aside", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			report, err := c.Drift(cmd.Context())
			if err != nil {
				return err
			}
			return printObject(e, report, func(r vm.DriftReport) string { return strconv.Itoa(len(r.Findings)) }, driftFields)
		},
	}
}

func driftFields(r vm.DriftReport) [][]string {
	fields := [][]string{{"mode", string(r.Mode)}, {"audited", clock(r.AuditedAt)}, {"complete", yes(r.Complete)},
		{"unmanaged", strconv.Itoa(r.Unmanaged)}, {"differences", strconv.Itoa(len(r.Findings))}, {"set aside", strconv.Itoa(len(r.Quarantined))}}
	for _, id := range r.Skipped {
		fields = append(fields, []string{"silent node", id.String()})
	}
	for _, f := range r.Findings {
		does := "remedy: " + string(f.Remedy)
		switch {
		case f.Held != "":
			does += ", not without being asked: " + f.Held
		case f.DueAt != nil:
			does += ", from " + clock(*f.DueAt) + " on"
		}
		fields = append(fields, []string{string(f.Kind), f.ObjectID.String() + " on " + f.NodeID.String() + ", since " + clock(f.Since)},
			[]string{"", printable("expected " + f.Expected + "; seen: " + f.Seen)}, []string{"", printable(f.Proposal)}, []string{"", printable(does)})
	}
	for _, q := range r.Quarantined {
		text := fmt.Sprintf("%s %s on %s, since %s, takes %s", q.Kind, q.ObjectID, q.NodeID, clock(q.QuarantinedAt), bytesText(q.Bytes))
		switch {
		case q.Known:
			text += "; a row knows it, so it can be restored"
		case q.ReapAt != nil:
			text += "; removed for good at " + clock(*q.ReapAt)
		}
		fields = append(fields, []string{"set aside", text})
	}
	return fields
}

func newDriftAct(e *env, action vm.DriftAction, short string) *cobra.Command {
	req := vm.DriftRequest{Action: action}
	cmd := &cobra.Command{
		Use: string(action) + " ID...", Short: short, Args: cobra.RangeArgs(1, 100),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				id, err := uuid.Parse(arg)
				if err != nil {
					return usageError{fmt.Sprintf("%q is no id of a finding or of what is set aside", arg)}
				}
				req.ObjectIDs = append(req.ObjectIDs, id)
			}
			if !req.DryRun && (action == vm.DriftActReap || req.Force) {
				if err := e.confirm(cmd.Context(), fmt.Sprintf("%s %s? What is lost by it cannot be had back.", action, strings.Join(args, " "))); err != nil {
					return err
				}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			results, err := c.ActOnDrift(cmd.Context(), req)
			if err != nil {
				return err
			}
			if err := printObject(e, results, func(r vm.DriftResults) string { return strconv.Itoa(len(r.Results)) }, resultFields); err != nil {
				return err
			}
			if slices.ContainsFunc(results.Value.Results, func(r vm.DriftResult) bool { return !r.Done }) {
				return toldError{exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "tell what would be done, and do nothing")
	if action == vm.DriftActHeal {
		cmd.Flags().BoolVar(&req.Force, "force", false, "power off guests that no row knows before they are set aside")
	}
	return cmd
}

func resultFields(r vm.DriftResults) [][]string {
	var fields [][]string
	for _, result := range r.Results {
		text := "done"
		for _, remedy := range result.Remedies {
			text += " " + string(remedy)
		}
		if p := result.Error; p != nil {
			text = p.Code + ": " + p.Detail
		}
		fields = append(fields, []string{result.ObjectID.String(), printable(text)})
	}
	return fields
}
