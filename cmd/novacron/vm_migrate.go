package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newVMMigrate(e *env) *cobra.Command {
	var (
		w    waiting
		node string
	)
	cmd := &cobra.Command{
		Use: "migrate VM...", Short: "Move machines to another node", Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completion(0, vmNames),
		Long:    "Move machines to another node. Nodes do not hand machines to each other yet: the answer says so, or why it could not be anyway.",
		Example: "  novacron vm migrate web-1\n  novacron vm migrate web-1 --node kvm-02",
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeVMs(cmd.Context(), &w, args, "Moved", func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				if node == "" {
					return c.MigrateVM(ctx, id, nil)
				}
				to, err := findNode(ctx, c, node)
				if err != nil {
					return apiclient.Object[apiclient.Operation]{}, err
				}
				return c.MigrateVM(ctx, id, &to.id)
			})
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "node to move them to, by name or id (default: whichever fits best)")
	must(cmd.RegisterFlagCompletionFunc("node", e.completion(0, nodeNames)))
	w.addTo(cmd)
	return cmd
}
