package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newVMRescue(e *env) *cobra.Command {
	var (
		w     waiting
		how   stopping
		image string
	)
	cmd := &cobra.Command{
		Use: "rescue VM", Short: "Boot a machine from another image, to mend its own system", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Boot a machine from another image, with its own root disk as the second disk, /dev/vdb, so that its system can be mended. The machine is shut down for\n" +
			"that. Restarts stay in the rescue; 'vm unrescue' ends it.",
		Example: "  novacron vm rescue web-1 --image debian-13 --force\n  novacron vm unrescue web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			stop, err := how.body(cmd)
			if err != nil {
				return err
			}
			return e.changeVMs(cmd.Context(), &w, args, "Rescued", func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				body := apiclient.VMRescue{}
				if stop != nil {
					body.VMStop = *stop
				}
				if image != "" {
					found, err := findImage(ctx, c, image)
					if err != nil {
						return apiclient.Object[apiclient.Operation]{}, err
					}
					body.ImageID = &found.id
				}
				return c.RescueVM(ctx, id, body)
			})
		},
	}
	cmd.Flags().StringVar(&image, "image", "", "image to boot from, by name or id (default: the one that it was made from)")
	must(cmd.RegisterFlagCompletionFunc("image", e.completion(0, imageNames)))
	how.addTo(cmd)
	w.addTo(cmd)
	return cmd
}
