package main

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVMDisk(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "disk", Short: "Disks of a machine"}
	cmd.AddCommand(newVMDiskList(e),
		newVMDiskChange(e, "attach VM VOLUME", "Attach a volume, while the guest runs or not", "Attached a volume to", (*apiclient.Client).AttachDisk),
		newVMDiskChange(e, "detach VM VOLUME", "Detach a volume, while the guest runs or not", "Detached a volume from", (*apiclient.Client).DetachDisk),
		newVMDiskResize(e))
	return cmd
}

func newVMDiskList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list VM", Aliases: []string{"ls"}, Short: "List the disks of a machine", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			disks, err := apiclient.Collect(c.ListDisks(cmd.Context(), target.id))
			if err != nil {
				return err
			}
			return printList(e, disks, func(d vm.AttachedDisk) string { return d.Name }, []column[vm.AttachedDisk]{
				{"NAME", func(d vm.AttachedDisk) string { return d.Name }},
				{"SIZE", func(d vm.AttachedDisk) string { return bytesText(d.SizeBytes) }},
				{"ALLOCATED", func(d vm.AttachedDisk) string {
					if d.AllocatedBytes == nil {
						return ""
					}
					return bytesText(*d.AllocatedBytes)
				}},
				{"FORMAT", func(d vm.AttachedDisk) string { return d.Format }},
				{"SERIAL", func(d vm.AttachedDisk) string { return d.Serial }},
				{"VOLUME", func(d vm.AttachedDisk) string { return idText(d.VolumeID) }},
			})
		},
	}
}

// changeDisk asks the server to attach or detach a volume.
type changeDisk func(c *apiclient.Client, ctx context.Context, machine, volume uuid.UUID) (apiclient.Object[apiclient.Operation], error)

func newVMDiskChange(e *env, use, short, done string, change changeDisk) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			names := vmNames
			if len(args) == 1 {
				names = volumeNames
			}
			return e.completion(2, names)(cmd, args, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			volume, err := findVolume(ctx, c, args[1])
			if err != nil {
				return err
			}
			op, err := change(c, ctx, machine.id, volume.id)
			if err != nil {
				return err
			}
			return e.printed(e.finishVM(ctx, c, &w, machine.name, done, op))
		},
	}
	w.addTo(cmd)
	return cmd
}

// printed prints the document that a change has for scripts, where it has one.
func (e *env) printed(document json.RawMessage, err error) error {
	if err != nil || document == nil {
		return err
	}
	return e.document(document)
}

func newVMDiskResize(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "resize VM DISK SIZE", Short: "Make a disk larger, while the guest runs or not; DISK is root or the name of a volume", Args: cobra.ExactArgs(3),
		ValidArgsFunction: e.completion(1, vmNames), Example: "  novacron vm disk resize web-1 root 20G",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			size, err := diskBytes(args[2])
			if err != nil {
				return err
			}
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			op, err := c.ResizeDisk(ctx, machine.id, args[1], size)
			if err != nil {
				return err
			}
			return e.printed(e.finishVM(ctx, c, &w, machine.name, "Resized a disk of", op))
		},
	}
	w.addTo(cmd)
	return cmd
}
