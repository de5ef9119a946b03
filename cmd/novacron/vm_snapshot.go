package main

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVMSnapshot(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot", Aliases: []string{"snap"}, Short: "Snapshots of a machine"}
	cmd.AddCommand(newSnapshotList(e), newSnapshotCreate(e), newSnapshotShow(e), newSnapshotRevert(e), newSnapshotDelete(e))
	return cmd
}

func snapshotID(s vm.Snapshot) string { return s.ID.String() }

func findSnapshot(ctx context.Context, c *apiclient.Client, machine named, arg string) (named, error) {
	return find("snapshot", "vm snapshot", arg, func(string) iter.Seq2[named, error] {
		return only(c.ListSnapshots(ctx, machine.id), func(s vm.Snapshot) named { return named{s.ID, s.Name} })
	})
}

// onSnapshot finds what the arguments VM SNAPSHOT name.
func (e *env) onSnapshot(ctx context.Context, args []string) (c *apiclient.Client, machine, snapshot named, err error) {
	if c, err = e.connect(); err != nil {
		return c, machine, snapshot, err
	}
	if machine, err = findVM(ctx, c, args[0]); err != nil {
		return c, machine, snapshot, err
	}
	snapshot, err = findSnapshot(ctx, c, machine, args[1])
	return c, machine, snapshot, err
}

// completeSnapshot completes VM SNAPSHOT.
func (e *env) completeSnapshot(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return e.completion(1, vmNames)(cmd, args, word)
	}
	return e.completion(2, func(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
		machine, err := findVM(ctx, c, args[0])
		if err != nil {
			return func(func(named, error) bool) {}
		}
		return only(c.ListSnapshots(ctx, machine.id), func(s vm.Snapshot) named { return named{s.ID, s.Name} })
	})(cmd, args, word)
}

func milliseconds(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

func pauseText(s vm.Snapshot) string {
	if s.PauseMS == nil {
		return ""
	}
	return milliseconds(*s.PauseMS)
}

func newSnapshotList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list VM", Aliases: []string{"ls"}, Short: "List the snapshots of a machine as a tree", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, machine, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			list, err := apiclient.Collect(c.ListSnapshots(cmd.Context(), machine.id))
			if err != nil {
				return err
			}
			depth := map[uuid.UUID]int{}
			if !e.quiet && !e.forScripts() {
				list = tree(list, depth)
			}
			return printList(e, list, snapshotID, []column[vm.Snapshot]{
				{"NAME", func(s vm.Snapshot) string { return strings.Repeat("  ", depth[s.ID]) + s.Name }},
				{"STATUS", func(s vm.Snapshot) string { return e.coloured(string(s.Status)) }},
				{"CURRENT", func(s vm.Snapshot) string { return yes(s.Current) }},
				{"MEMORY", func(s vm.Snapshot) string { return yes(s.Memory) }},
				{"FROZEN", func(s vm.Snapshot) string { return yes(s.Frozen) }},
				{"SIZE", func(s vm.Snapshot) string { return bytesText(s.SizeBytes) }},
				{"PAUSE", pauseText},
				{"CREATED", func(s vm.Snapshot) string { return clock(s.CreatedAt) }},
				{"ID", snapshotID},
			})
		},
	}
}

// tree puts each snapshot below its parent, the oldest first, and tells how deep each is.
func tree(list []apiclient.Object[vm.Snapshot], depth map[uuid.UUID]int) []apiclient.Object[vm.Snapshot] {
	known, children := map[uuid.UUID]bool{}, map[uuid.UUID][]apiclient.Object[vm.Snapshot]{}
	for _, s := range list {
		known[s.Value.ID] = true
	}
	for i := len(list) - 1; i >= 0; i-- {
		parent := uuid.Nil
		if p := list[i].Value.ParentID; p != nil && known[*p] {
			parent = *p
		}
		children[parent] = append(children[parent], list[i])
	}
	var sorted []apiclient.Object[vm.Snapshot]
	var add func(parent uuid.UUID, level int)
	add = func(parent uuid.UUID, level int) {
		for _, s := range children[parent] {
			depth[s.Value.ID] = level
			sorted = append(sorted, s)
			add(s.Value.ID, level+1)
		}
	}
	add(uuid.Nil, 0)
	return sorted
}

func newSnapshotCreate(e *env) *cobra.Command {
	var (
		w      waiting
		body   apiclient.SnapshotCreate
		dryRun bool
	)
	cmd := &cobra.Command{
		Use: "create VM [NAME]", Short: "Take a snapshot of a machine, while it runs or not", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if len(args) == 2 {
				body.Name = args[1]
			}
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			if dryRun {
				return e.estimateSnapshot(ctx, c, machine, body)
			}
			op, err := c.CreateSnapshot(ctx, machine.id, body)
			if err != nil {
				return err
			}
			if !w.wanted() {
				return e.began(machine.name, op)
			}
			if op, err = e.await(ctx, c, &w, machine.name, op); err != nil {
				return err
			}
			s, err := c.GetSnapshot(ctx, machine.id, op.Value.TargetID)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, s, snapshotID, nil)
			}
			held := ""
			if s.Value.PauseMS != nil {
				held = ", the guest was held for " + pauseText(s.Value)
			}
			_, err = fmt.Fprintf(e.out, "Took snapshot %s of %s: %s%s (%s)\n", s.Value.Name, machine.name, bytesText(s.Value.SizeBytes), held, s.Value.ID)
			return err
		},
	}
	cmd.Flags().BoolVar(&body.Memory, "memory", false, "keep the memory too; the guest is held while it is written")
	cmd.Flags().StringVar(&body.Quiesce, "quiesce", "", "have the guest agent hold the file systems: auto, required or off (default auto)")
	cmd.Flags().StringVar(&body.Description, "description", "", "free text")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "tell how long the guest would be held, and take none")
	must(cmd.RegisterFlagCompletionFunc("quiesce", cobra.FixedCompletions([]string{"auto", "required", "off"}, cobra.ShellCompDirectiveNoFileComp)))
	w.addTo(cmd)
	return cmd
}

func (e *env) estimateSnapshot(ctx context.Context, c *apiclient.Client, machine named, body apiclient.SnapshotCreate) error {
	estimate, err := c.EstimateSnapshot(ctx, machine.id, body)
	if err != nil {
		return err
	}
	return printObject(e, estimate, func(s vm.SnapshotEstimate) string { return milliseconds(s.ExpectedPauseMS) }, func(s vm.SnapshotEstimate) [][]string {
		return [][]string{{"expected pause", milliseconds(s.ExpectedPauseMS)}, {"charged", bytesText(s.SizeBytes)}, {"freezes the guest", yes(s.Freezes)}}
	})
}

func newSnapshotShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show VM SNAPSHOT", Short: "Show a snapshot", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, machine, target, err := e.onSnapshot(ctx, args)
			if err != nil {
				return err
			}
			s, err := c.GetSnapshot(ctx, machine.id, target.id)
			if err != nil {
				return err
			}
			return printObject(e, s, snapshotID, func(s vm.Snapshot) [][]string {
				fields := [][]string{{"name", s.Name}, {"id", s.ID.String()}, {"vm", s.VMID.String()}, {"status", e.coloured(string(s.Status))}, {"parent", idText(s.ParentID)},
					{"current", yes(s.Current)}, {"memory", yes(s.Memory)}, {"frozen", yes(s.Frozen)}, {"vm state", s.VMState}, {"size", bytesText(s.SizeBytes)},
					{"expected pause", milliseconds(s.ExpectedPauseMS)}, {"pause", pauseText(s)}}
				for _, d := range s.Disks {
					fields = append(fields, []string{"disk", d.Name + "  " + bytesText(d.SizeBytes)})
				}
				return append(fields, []string{"description", printable(s.Description)}, []string{"created", clock(s.CreatedAt)})
			})
		},
	}
}

func newSnapshotRevert(e *env) *cobra.Command {
	var (
		w                     waiting
		yes, disksOnly, start bool
	)
	cmd := &cobra.Command{
		Use: "revert VM SNAPSHOT", Short: "Take a machine back to a snapshot; what its disks hold now is lost", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if !yes {
				if err := e.confirm(ctx, fmt.Sprintf("Take %s back to %s and lose what its disks hold now?", args[0], args[1])); err != nil {
					return err
				}
			}
			c, machine, target, err := e.onSnapshot(ctx, args)
			if err != nil {
				return err
			}
			var how apiclient.SnapshotRevert
			if disksOnly {
				how.Memory = new(bool)
			}
			if cmd.Flags().Changed("start") {
				how.Start = &start
			}
			op, err := c.RevertSnapshot(ctx, machine.id, target.id, how)
			if err != nil {
				return err
			}
			if !w.wanted() {
				return e.began(machine.name, op)
			}
			if _, err = e.await(ctx, c, &w, machine.name, op); err != nil {
				return err
			}
			m, err := c.GetVM(ctx, machine.id)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, m, func(m vm.VM) string { return m.ID.String() }, nil)
			}
			return e.sayState(m.Value, "Took back")
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&disksOnly, "disks-only", false, "leave the memory that the snapshot has; the guest boots anew")
	cmd.Flags().BoolVar(&start, "start", false, "without memory: power the machine on afterwards, or not with --start=false (default: if it is on now)")
	w.addTo(cmd)
	return cmd
}

func newSnapshotDelete(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "delete VM SNAPSHOT", Aliases: []string{"rm"}, Short: "Delete a snapshot; disks and other snapshots stay as they are", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completeSnapshot,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, machine, target, err := e.onSnapshot(ctx, args)
			if err != nil {
				return err
			}
			op, err := c.DeleteSnapshot(ctx, machine.id, target.id)
			if err != nil {
				return err
			}
			return e.finishDeletion(ctx, c, &w, "snapshot", target, op)
		},
	}
	w.addTo(cmd)
	return cmd
}
