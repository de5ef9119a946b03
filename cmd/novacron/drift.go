package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/vm"
)

func newDrift(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "drift", Short: "Differences between what should be and what is"}
	cmd.AddCommand(newDriftList(e))
	return cmd
}

func newDriftList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "Compare now and list what differs; nothing is changed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			report, err := c.Drift(cmd.Context())
			if err != nil {
				return err
			}
			return printObject(e, report, func(r vm.DriftReport) string { return strconv.Itoa(len(r.Findings)) }, func(r vm.DriftReport) [][]string {
				fields := [][]string{{"mode", r.Mode}, {"audited", clock(r.AuditedAt)}, {"complete", strconv.FormatBool(r.Complete)},
					{"unmanaged", strconv.Itoa(r.Unmanaged)}, {"differences", strconv.Itoa(len(r.Findings))}}
				for _, id := range r.Skipped {
					fields = append(fields, []string{"silent node", id.String()})
				}
				for _, f := range r.Findings {
					fields = append(fields, []string{string(f.Kind), f.ObjectID.String() + " on " + f.NodeID.String() + ", since " + clock(f.Since)},
						[]string{"", printable("expected " + f.Expected + "; seen: " + f.Seen)}, []string{"", printable(f.Proposal)})
				}
				return fields
			})
		},
	}
}
