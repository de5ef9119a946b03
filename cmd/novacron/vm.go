package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVM(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "Virtual machines"}
	cmd.AddCommand(newVMList(e), newVMCreate(e), newVMShow(e), newVMStatus(e), newVMStop(e, apiclient.ActionStop, "Shut machines down", "Stopped"),
		newVMStop(e, apiclient.ActionRestart, "Shut machines down and power them on again", "Restarted"),
		newVMAction(e, apiclient.ActionStart, "Power machines on", "Started"), newVMAction(e, apiclient.ActionReset, "Press the reset button of machines", "Reset"),
		newVMAction(e, apiclient.ActionPause, "Hold the virtual CPUs of machines", "Paused"), newVMAction(e, apiclient.ActionResume, "Let paused machines go on", "Resumed"),
		newVMAction(e, apiclient.ActionSuspend, "Save the memory of machines to disk and power them off; start goes on from there", "Suspended"),
		newVMResize(e), newVMRename(e), newVMSet(e), newVMProtect(e, "protect", "Protect a machine from deletion", "Protected", true),
		newVMProtect(e, "unprotect", "Let a machine be deleted again", "Unprotected", false), newVMHistory(e),
		newVMDelete(e), newVMClone(e), newVMRebuild(e), newVMRescue(e),
		newVMStop(e, apiclient.ActionUnrescue, "End the rescue of machines: they boot their own disks again", "Ended the rescue of"), newVMMigrate(e), newVMDisk(e), newVMCDROM(e), newVMInterface(e), newVMSnapshot(e), newVMConsole(e), newVMVNC(e), newVMScreenshot(e), newVMLogs(e),
		newGuestInfo(e), newVMExec(e), newVMCopy(e), newVMSetPassword(e), newVMSyncTime(e), newVMMetrics(e), newVMTop(e))
	return cmd
}

func newVMList(e *env) *cobra.Command {
	var f apiclient.VMFilter
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List and search virtual machines, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			for _, by := range []struct {
				arg  *string
				find func(context.Context, *apiclient.Client, string) (named, error)
			}{{&f.Node, findNode}, {&f.Image, findImage}, {&f.Network, findNetwork}, {&f.Owner, findUser}} {
				if *by.arg == "" {
					continue
				}
				found, err := by.find(cmd.Context(), c, *by.arg)
				if err != nil {
					return err
				}
				*by.arg = found.id.String()
			}
			vms, err := apiclient.Collect(c.ListVMs(cmd.Context(), f))
			if err != nil {
				return err
			}
			return e.printVMs(cmd.Context(), c, vms)
		},
	}
	cmd.Flags().StringVar(&f.Name, "name", "", "only the one of this name")
	cmd.Flags().StringVar(&f.NamePrefix, "name-prefix", "", "only those whose names begin so")
	cmd.Flags().StringArrayVar(&f.Tags, "tag", nil, "only those with this tag: KEY=VALUE, or KEY for any value; may be repeated, for those with all of them")
	cmd.Flags().StringVar(&f.Text, "search", "", "only those in whose name, description or tags words begin so")
	cmd.Flags().StringVar(&f.Node, "node", "", "only those on this node, by name or id")
	cmd.Flags().StringVar(&f.Image, "image", "", "only those made from this image, by name or id")
	cmd.Flags().StringVar(&f.Network, "network", "", "only those that are connected to this network, by name or id")
	cmd.Flags().StringVar(&f.Owner, "owner", "", "only those of this user, by name or id")
	must(cmd.RegisterFlagCompletionFunc("node", e.completion(0, nodeNames)))
	must(cmd.RegisterFlagCompletionFunc("image", e.completion(0, imageNames)))
	must(cmd.RegisterFlagCompletionFunc("network", e.completion(0, networkNames)))
	cmd.Flags().StringVar(&f.Sort, "sort", "", "created_at, -created_at (default), name or -name")
	must(cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions([]string{"created_at", "-created_at", "name", "-name"}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.Flags().StringVar(&f.State, "state", "", "only those in this state")
	cmd.Flags().BoolVar(&f.AllTenants, "all-tenants", false, "those of every tenant; needs the permission on the platform")
	cmd.Flags().IntVar(&f.Most, "limit", 0, "so many at most; 0 lists all")
	must(cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"creating", "running", "stopped", "paused", "migrating", "error"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (e *env) printVMs(ctx context.Context, c *apiclient.Client, vms []apiclient.Object[vm.VM]) error {
	var nodes map[uuid.UUID]string
	if !e.quiet && !e.forScripts() {
		nodes = nodesOf(ctx, c, vms)
	}
	return printList(e, vms, func(m vm.VM) string { return m.ID.String() }, []column[vm.VM]{
		{"NAME", func(m vm.VM) string { return m.Name }},
		{"STATE", func(m vm.VM) string { return e.coloured(string(m.State)) }},
		{"NODE", func(m vm.VM) string { return nodeName(nodes, m) }},
		{"ADDRESS", func(m vm.VM) string { return strings.Join(addresses(m), ",") }},
		{"VCPU", func(m vm.VM) string { return strconv.Itoa(m.Resources.VCPUs) }},
		{"MEMORY", func(m vm.VM) string { return bytesText(m.Resources.MemoryMiB << 20) }},
		{"DISK", func(m vm.VM) string { return bytesText(m.Resources.DiskGiB << 30) }},
		{"ID", func(m vm.VM) string { return m.ID.String() }},
	})
}

// nodesOf gives the names of the nodes. Those who may not read nodes get none, and see ids.
func nodesOf(ctx context.Context, c *apiclient.Client, vms []apiclient.Object[vm.VM]) map[uuid.UUID]string {
	names := map[uuid.UUID]string{}
	if !slices.ContainsFunc(vms, func(m apiclient.Object[vm.VM]) bool { return m.Value.NodeID != nil }) {
		return names
	}
	for n, err := range c.ListNodes(ctx) {
		if err != nil {
			break
		}
		names[n.Value.ID] = n.Value.Name
	}
	return names
}

func nodeName(names map[uuid.UUID]string, m vm.VM) string {
	if m.NodeID == nil {
		return ""
	}
	if name := names[*m.NodeID]; name != "" {
		return name
	}
	return m.NodeID.String()
}

func addresses(m vm.VM) []string {
	var all []string
	for _, n := range m.Networks {
		all = append(all, n.Addresses...)
	}
	return all
}

func newVMShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show VM", Short: "Show a virtual machine", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, target, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			machine, err := c.GetVM(ctx, target.id)
			if err != nil {
				return err
			}
			return printObject(e, machine, func(m vm.VM) string { return m.ID.String() }, func(m vm.VM) [][]string {
				return e.vmFields(m, nodesOf(ctx, c, []apiclient.Object[vm.VM]{machine}))
			})
		},
	}
}

func (e *env) vmFields(m vm.VM, nodes map[uuid.UUID]string) [][]string {
	fields := [][]string{{"name", m.Name}, {"id", m.ID.String()}, {"state", e.coloured(string(m.State))}, {"desired state", string(m.DesiredState)},
		{"node", nodeName(nodes, m)}, {"flavor", m.Flavor}, {"vCPU", strconv.Itoa(m.Resources.VCPUs)}, {"memory", bytesText(m.Resources.MemoryMiB << 20)},
		{"disk", bytesText(m.Resources.DiskGiB << 30)}, {"image", m.ImageID.String()}}
	for _, n := range m.Networks {
		fields = append(fields, []string{"network", strings.TrimSpace(n.NetworkID.String() + "  " + n.MAC + "  " + strings.Join(n.Addresses, ","))})
	}
	for _, key := range sortedKeys(m.Tags) {
		fields = append(fields, []string{"tag", printable(key + "=" + m.Tags[key])})
	}
	fields = append(fields, settingFields(m)...)
	fields = append(fields, []string{"tenant", m.TenantID.String()}, []string{"owner", m.OwnerID.String()}, []string{"created", clock(m.CreatedAt)}, []string{"updated", clock(m.UpdatedAt)})
	if m.ReadyAt != nil {
		fields = append(fields, []string{"ready", clock(*m.ReadyAt)})
	}
	for _, c := range m.Conditions {
		fields = append(fields, []string{string(c.Type), printable(c.Message) + " (since " + clock(c.Since) + ")"})
	}
	if m.OperationID != nil {
		fields = append(fields, []string{"operation", m.OperationID.String()})
	}
	if m.Error != nil {
		fields = append(fields, []string{"error", printable(m.Error.Detail + " (" + m.Error.Code + ")")}, []string{"what to do", printable(m.Error.Action)})
	}
	return fields
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// begin asks the server for a change of one machine.
type begin func(context.Context, *apiclient.Client, uuid.UUID) (apiclient.Object[apiclient.Operation], error)

func newVMAction(e *env, action, short, done string) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: action + " VM...", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completion(0, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeVMs(cmd.Context(), &w, args, done, func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				return c.VMAction(ctx, id, action, nil)
			})
		},
	}
	w.addTo(cmd)
	return cmd
}

func newVMStop(e *env, action, short, done string) *cobra.Command {
	var (
		w   waiting
		how stopping
	)
	cmd := &cobra.Command{
		Use: action + " VM...", Short: short, Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completion(0, vmNames),
		Long: short + ". The guest is asked to shut down; when the grace time is over it is powered off.",
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := how.body(cmd)
			if err != nil {
				return err
			}
			return e.changeVMs(cmd.Context(), &w, args, done, func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				return c.VMAction(ctx, id, action, body)
			})
		},
	}
	how.addTo(cmd)
	w.addTo(cmd)
	return cmd
}

// stopping holds the flags of commands that shut a guest down.
type stopping struct {
	force bool
	grace time.Duration
}

func (s *stopping) addTo(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.force, "force", false, "power off at once; the guest may lose data")
	cmd.Flags().Var((*span)(&s.grace), "grace", "how long the guest may take to shut down, for example 90s (default: the server's)")
}

// body is nil where nothing was chosen.
func (s *stopping) body(cmd *cobra.Command) (*apiclient.VMStop, error) {
	chosen := cmd.Flags().Changed("grace")
	if !s.force && !chosen {
		return nil, nil
	}
	body := &apiclient.VMStop{Force: s.force}
	if chosen {
		seconds := int(s.grace / time.Second)
		if s.grace%time.Second != 0 {
			return nil, usageError{"--grace must be a whole number of seconds, for example 90s"}
		}
		body.GraceSeconds = &seconds
	}
	return body, nil
}

func newVMDelete(e *env) *cobra.Command {
	var (
		w            waiting
		yes, volumes bool
	)
	cmd := &cobra.Command{
		Use: "delete VM...", Aliases: []string{"rm"}, Short: "Delete machines and their disks, in whatever state they are",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completion(0, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := e.confirm(cmd.Context(), fmt.Sprintf("Delete %s with all disks?", strings.Join(args, ", "))); err != nil {
					return err
				}
			}
			return e.changeVMs(cmd.Context(), &w, args, "Deleted", func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				return c.DeleteVM(ctx, id, volumes)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&volumes, "delete-volumes", false, "delete the attached volumes too; they are only detached otherwise")
	w.addTo(cmd)
	return cmd
}
