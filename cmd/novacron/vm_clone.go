package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

// given gives what a flag was set to, or nil where it was not.
func given(cmd *cobra.Command, flag, value string) *string {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return &value
}

func newVMClone(e *env) *cobra.Command {
	var (
		w        waiting
		spec     vmSpec
		linked   bool
		snapshot string
	)
	cmd := &cobra.Command{
		Use: "clone VM NAME", Short: "Make a machine whose root disk is a copy of another's", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Make a machine whose root disk is a copy of another's, which may run meanwhile. The clone has an id, a name and addresses of its own, and the rest from\n" +
			"its source where the flags say nothing else. Volumes and discs are not copied.",
		Example: "  novacron vm clone web-1 web-2\n  novacron vm clone db-1 db-test --snapshot before-upgrade --no-start",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			spec.partial = true
			shared, err := spec.body(args[1])
			if err != nil {
				return err
			}
			c, source, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			if err := spec.resolve(ctx, c, &shared); err != nil {
				return err
			}
			body := apiclient.VMClone{Name: shared.Name, Networks: shared.Networks, SSHKeys: shared.SSHKeys, Tags: shared.Tags, Start: shared.Start,
				UserData: given(cmd, "user-data", shared.UserData)}
			if shared.Resources != nil {
				body.DiskGiB = shared.Resources.DiskGiB
			}
			if linked {
				body.Mode = vm.CloneLinked
			}
			if snapshot != "" {
				found, err := findSnapshot(ctx, c, source, snapshot)
				if err != nil {
					return err
				}
				body.SnapshotID = &found.id
			}
			op, err := c.CloneVM(ctx, source.id, body)
			if err != nil {
				return err
			}
			result, err := e.finishVM(ctx, c, &w, body.Name, "Cloned", op)
			if err != nil || result == nil {
				return err
			}
			return e.document(result)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&linked, "linked", false, "stand on the image that the source stands on, and copy only what differs from it")
	flags.StringVar(&snapshot, "snapshot", "", "clone what this snapshot of the machine holds, by name or id")
	flags.StringVar(&spec.disk, "disk", "", "size of the root disk, in GiB or with a unit; at least the source's")
	flags.StringArrayVar(&spec.networks, "network", nil, "network to join, as for 'vm create'; may be repeated (default: as the source)")
	flags.StringArrayVar(&spec.tags, "tag", nil, "label KEY=VALUE; may be repeated (default: as the source)")
	flags.BoolVar(&spec.noStart, "no-start", false, "leave the clone powered off")
	spec.addSeedTo(e, cmd)
	w.addTo(cmd)
	return cmd
}

func newVMRebuild(e *env) *cobra.Command {
	var (
		w    waiting
		spec vmSpec
		yes  bool
	)
	cmd := &cobra.Command{
		Use: "rebuild VM", Short: "Make the root disk of a machine anew from an image; what it holds is lost", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completion(1, vmNames),
		Long:              "Make the root disk of a machine anew from an image; what it holds is lost. Name, addresses, settings and volumes stay.",
		Example:           "  novacron vm rebuild web-1\n  novacron vm rebuild web-1 --image debian-13 --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.partial = true
			shared, err := spec.body(args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := e.confirm(cmd.Context(), fmt.Sprintf("Make the root disk of %s anew? What it holds is lost.", args[0])); err != nil {
					return err
				}
			}
			return e.changeVMs(cmd.Context(), &w, args, "Rebuilt", func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				if err := spec.resolve(ctx, c, &shared); err != nil {
					return apiclient.Object[apiclient.Operation]{}, err
				}
				body := apiclient.VMRebuild{SSHKeys: shared.SSHKeys, Start: shared.Start, UserData: given(cmd, "user-data", shared.UserData)}
				if shared.ImageID != uuid.Nil {
					body.ImageID = &shared.ImageID
				}
				return c.RebuildVM(ctx, id, body)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&spec.image, "image", "", "image to make the disk from, by name or id (default: the one that it was made from)")
	must(cmd.RegisterFlagCompletionFunc("image", e.completion(0, imageNames)))
	flags.BoolVar(&spec.noStart, "no-start", false, "leave it powered off (default: as it was)")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	spec.addSeedTo(e, cmd)
	w.addTo(cmd)
	return cmd
}
