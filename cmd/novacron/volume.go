package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVolume(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "volume", Aliases: []string{"vol"}, Short: "Volumes: disks that live by themselves"}
	cmd.AddCommand(newVolumeList(e), newVolumeCreate(e), newVolumeShow(e), newVolumeUpdate(e), newVolumeResize(e), newVolumeDelete(e))
	return cmd
}

func newStoragePool(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "storage-pool", Aliases: []string{"pool"}, Short: "Where the nodes keep disks"}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the storage pools of the nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			pools, err := apiclient.Collect(c.ListStoragePools(cmd.Context()))
			if err != nil {
				return err
			}
			return printList(e, pools, func(p vm.StoragePool) string { return p.ID.String() }, []column[vm.StoragePool]{
				{"NODE", func(p vm.StoragePool) string { return p.NodeName }},
				{"NAME", func(p vm.StoragePool) string { return p.Name }},
				{"TYPE", func(p vm.StoragePool) string { return p.Type }},
				{"STATE", func(p vm.StoragePool) string { return e.coloured(p.State) }},
				{"CAPACITY", func(p vm.StoragePool) string { return bytesText(p.CapacityBytes) }},
				{"USED", func(p vm.StoragePool) string { return bytesText(p.UsedBytes) }},
				{"ALLOCATED", func(p vm.StoragePool) string { return bytesText(p.AllocatedBytes) }},
				{"ID", func(p vm.StoragePool) string { return p.ID.String() }},
			})
		},
	})
	return cmd
}

func findVolume(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("volume", "volume", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListVolumes(ctx, name, 0), func(v vm.Volume) named { return named{v.ID, v.Name} })
	})
}

func volumeNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListVolumes(ctx, "", completeMost), func(v vm.Volume) named { return named{v.ID, v.Name} })
}

func volumeID(v vm.Volume) string { return v.ID.String() }

func idText(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

func newVolumeList(e *env) *cobra.Command {
	var (
		name string
		tags []string
		most int
	)
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List volumes, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			volumes, err := apiclient.Collect(c.ListVolumes(cmd.Context(), name, most, tags...))
			if err != nil {
				return err
			}
			return printList(e, volumes, volumeID, []column[vm.Volume]{
				{"NAME", func(v vm.Volume) string { return v.Name }},
				{"STATUS", func(v vm.Volume) string { return e.coloured(string(v.Status)) }},
				{"SIZE", func(v vm.Volume) string { return bytesText(v.SizeBytes) }},
				{"ALLOCATED", func(v vm.Volume) string { return bytesText(v.AllocatedBytes) }},
				{"FORMAT", func(v vm.Volume) string { return string(v.Format) }},
				{"VM", func(v vm.Volume) string { return idText(v.VMID) }},
				{"ID", volumeID},
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only the one of this name")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "only those with this tag: KEY=VALUE, or KEY for any value; may be repeated, for those with all of them")
	cmd.Flags().IntVar(&most, "limit", 0, "so many at most; 0 lists all")
	return cmd
}

func newVolumeCreate(e *env) *cobra.Command {
	var (
		w                 waiting
		body              apiclient.VolumeCreate
		size, image, near string
		tags              []string
	)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a volume", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron volume create data-1 --size 20G --for web-1",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			body.Name = args[0]
			if size == "" && image == "" {
				return usageError{"--size is missing"}
			}
			if size != "" {
				if body.SizeBytes, err = diskBytes(size); err != nil {
					return err
				}
			}
			if body.Tags, err = parseTags(tags); err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			if image != "" {
				target, err := findImage(ctx, c, image)
				if err != nil {
					return err
				}
				body.ImageID = &target.id
			}
			if near != "" {
				target, err := findVM(ctx, c, near)
				if err != nil {
					return err
				}
				body.VMID = &target.id
			}
			op, err := c.CreateVolume(ctx, body)
			if err != nil {
				return err
			}
			return e.finishVolume(ctx, c, &w, body.Name, "Created", op, op.Value.TargetID)
		},
	}
	cmd.Flags().StringVar(&size, "size", "", "size in GiB, or with a unit: 512M, 20G (default: that of the image)")
	cmd.Flags().StringVar(&image, "image", "", "image that it is made from, by name or id; without one it is empty")
	cmd.Flags().StringVar(&near, "for", "", "virtual machine on whose node it is made, by name or id (default: the node with the most room)")
	cmd.Flags().StringVar(&body.Format, "format", "", "qcow2 or raw; snapshots need qcow2 (default qcow2)")
	cmd.Flags().StringVar(&body.Description, "description", "", "free text")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "label KEY=VALUE; may be repeated")
	w.addTo(cmd)
	must(cmd.RegisterFlagCompletionFunc("image", e.completion(0, imageNames)))
	must(cmd.RegisterFlagCompletionFunc("for", e.completion(0, vmNames)))
	must(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"qcow2", "raw"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// diskBytes reads the size of a disk: in GiB, or with a unit.
func diskBytes(text string) (int64, error) {
	if n, err := parseSize(text, 1<<30); err == nil {
		return n << 30, nil
	}
	n, err := parseSize(text, 1<<20) // "512M"
	if err != nil {
		return 0, usageError{err.Error()}
	}
	return n << 20, nil
}

// finishVolume waits for an operation on a volume where that is wanted, and prints the volume as it is then.
func (e *env) finishVolume(ctx context.Context, c *apiclient.Client, w *waiting, name, done string, op apiclient.Object[apiclient.Operation], id uuid.UUID) error {
	if !w.wanted() {
		return e.began(name, op)
	}
	if _, err := e.await(ctx, c, w, name, op); err != nil {
		return err
	}
	v, err := c.GetVolume(ctx, id)
	if err != nil {
		return err
	}
	if e.quiet || e.forScripts() {
		return printObject(e, v, volumeID, nil)
	}
	_, err = fmt.Fprintf(e.out, "%s volume %s: %s, %s (%s)\n", done, v.Value.Name, e.coloured(string(v.Value.Status)), bytesText(v.Value.SizeBytes), v.Value.ID)
	return err
}

func newVolumeShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show VOLUME", Short: "Show a volume", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, volumeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findVolume(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			v, err := c.GetVolume(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, v, volumeID, func(v vm.Volume) [][]string {
				fields := [][]string{{"name", v.Name}, {"id", v.ID.String()}, {"status", e.coloured(string(v.Status))}, {"size", bytesText(v.SizeBytes)},
					{"allocated", bytesText(v.AllocatedBytes)}, {"format", string(v.Format)}, {"serial in the guest", v.ID.String()[:vm.SerialLength]},
					{"vm", idText(v.VMID)}, {"node", v.NodeID.String()}, {"image", idText(v.ImageID)}, {"description", printable(v.Description)}}
				for _, key := range sortedKeys(v.Tags) {
					fields = append(fields, []string{"tag", printable(key + "=" + v.Tags[key])})
				}
				return append(fields, []string{"tenant", v.TenantID.String()}, []string{"owner", v.OwnerID.String()}, []string{"created", clock(v.CreatedAt)})
			})
		},
	}
}

func newVolumeUpdate(e *env) *cobra.Command {
	var (
		name, description string
		tags              []string
	)
	cmd := &cobra.Command{
		Use: "update VOLUME", Short: "Change the name, the description or the tags of a volume", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, volumeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.VolumeUpdate
			if cmd.Flags().Changed("name") {
				body.Name = &name
			}
			if cmd.Flags().Changed("description") {
				body.Description = &description
			}
			if cmd.Flags().Changed("tag") {
				parsed, err := parseTags(tags)
				if err != nil {
					return err
				}
				body.Tags = &parsed
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findVolume(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			v, err := c.UpdateVolume(cmd.Context(), target.id, body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, v, volumeID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Changed volume %s (%s)\n", v.Value.Name, v.Value.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "its new name")
	cmd.Flags().StringVar(&description, "description", "", "free text")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "label KEY=VALUE, instead of all that it has; may be repeated")
	return cmd
}

func newVolumeResize(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "resize VOLUME SIZE", Short: "Make a volume larger, while its guest runs or not", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, volumeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			size, err := diskBytes(args[1])
			if err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findVolume(ctx, c, args[0])
			if err != nil {
				return err
			}
			op, err := c.ResizeVolume(ctx, target.id, size)
			if err != nil {
				return err
			}
			return e.finishVolume(ctx, c, &w, target.name, "Resized", op, target.id)
		},
	}
	w.addTo(cmd)
	return cmd
}

func newVolumeDelete(e *env) *cobra.Command {
	var w waiting
	var yes bool
	cmd := &cobra.Command{
		Use: "delete VOLUME", Aliases: []string{"rm"}, Short: "Delete a volume that is attached to nothing", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, volumeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if !yes {
				if err := e.confirm(ctx, fmt.Sprintf("Delete volume %s with all data?", args[0])); err != nil {
					return err
				}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findVolume(ctx, c, args[0])
			if err != nil {
				return err
			}
			op, err := c.DeleteVolume(ctx, target.id)
			if err != nil {
				return err
			}
			return e.finishDeletion(ctx, c, &w, "volume", target, op)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.addTo(cmd)
	return cmd
}

// finishDeletion waits for the end of a deletion where that is wanted, and says so.
func (e *env) finishDeletion(ctx context.Context, c *apiclient.Client, w *waiting, kind string, target named, op apiclient.Object[apiclient.Operation]) error {
	if !w.wanted() {
		return e.began(target.name, op)
	}
	op, err := e.await(ctx, c, w, target.name, op)
	if err != nil {
		return err
	}
	if e.forScripts() && !e.quiet {
		return e.document(op)
	}
	return e.deleted(kind, target)
}
