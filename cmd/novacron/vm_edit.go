package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

// updateVM changes one machine and prints it as it is then.
func (e *env) updateVM(ctx context.Context, arg, done string, body apiclient.VMPatch) error {
	c, err := e.connect()
	if err != nil {
		return err
	}
	target, err := findVM(ctx, c, arg)
	if err != nil {
		return err
	}
	machine, err := c.UpdateVM(ctx, target.id, body)
	if err != nil {
		return err
	}
	if e.quiet || e.forScripts() {
		return printObject(e, machine, func(m vm.VM) string { return m.ID.String() }, func(m vm.VM) [][]string { return e.vmFields(m, nil) })
	}
	if err := e.sayState(machine.Value, done); err != nil {
		return err
	}
	return e.sayPending(machine.Value)
}

// sayPending tells what a machine takes up later.
func (e *env) sayPending(m vm.VM) error {
	for _, p := range m.Pending {
		if _, err := fmt.Fprintf(e.out, "%s is taken up when the machine is powered on from off.\n", p.Field); err != nil {
			return err
		}
	}
	return nil
}

func newVMRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rename VM NAME", Short: "Rename a machine", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Rename a machine. The guest keeps its host name until cloud-init runs anew in it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.updateVM(cmd.Context(), args[0], "Renamed", apiclient.VMPatch{Name: &args[1]})
		},
	}
}

func newVMProtect(e *env, use, short, done string, protect bool) *cobra.Command {
	return &cobra.Command{
		Use: use + " VM", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.updateVM(cmd.Context(), args[0], done, apiclient.VMPatch{DeleteProtection: &protect})
		},
	}
}

func newVMSet(e *env) *cobra.Command {
	var (
		description       string
		tags, untag, boot []string
		hardware          hardwareFlags
	)
	cmd := &cobra.Command{
		Use: "edit VM", Aliases: []string{"set"}, Short: "Change the settings of a machine", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cmd.Flags()
			body := apiclient.VMPatch{}
			if flags.Changed("description") {
				body.Description = &description
			}
			if len(tags)+len(untag) > 0 {
				body.Tags = map[string]*string{}
			}
			for _, tag := range tags {
				key, value, ok := strings.Cut(tag, "=")
				if !ok {
					return usageError{"--tag is KEY=VALUE, not " + tag}
				}
				body.Tags[key] = &value
			}
			for _, key := range untag {
				body.Tags[key] = nil
			}
			given, err := hardware.given(flags)
			if err != nil {
				return err
			}
			body.Autostart, body.CPU, body.Watchdog, body.IOLimits = given.Autostart, given.CPU, given.Watchdog, given.IOLimits
			if flags.Changed("boot-order") {
				body.BootOrder = &boot
			}
			return e.updateVM(cmd.Context(), args[0], "Changed", body)
		},
	}
	f := cmd.Flags()
	f.StringVar(&description, "description", "", "text for people")
	f.StringArrayVar(&tags, "tag", nil, "KEY=VALUE to set; may be repeated")
	f.StringArrayVar(&untag, "untag", nil, "tag to remove; may be repeated")
	hardware.addTo(f)
	f.StringSliceVar(&boot, "boot-order", nil, "root, cdrom, network or ids of volumes, the first first")
	return cmd
}

func newVMResize(e *env) *cobra.Command {
	var (
		w      waiting
		vcpus  int
		memory string
		flavor string
	)
	cmd := &cobra.Command{
		Use: "resize VM", Short: "Change how many vCPUs and how much memory a machine has", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Change how many vCPUs and how much memory a machine has. A guest that runs takes up at once what it can, and the rest when it is powered on from off. " +
			"A flavor also says how large the root disk is at least.",
		Example: "  novacron vm resize web-1 --memory 2G\n  novacron vm resize web-1 --flavor medium",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			size := apiclient.VMSize{VCPUs: vcpus, Flavor: flavor}
			if memory != "" {
				mib, err := parseSize(memory, 1<<20)
				if err != nil {
					return usageError{"--memory: " + err.Error()}
				}
				size.MemoryMiB = mib
			}
			err := e.changeVMs(ctx, &w, args, "Resized", func(ctx context.Context, c *apiclient.Client, id uuid.UUID) (apiclient.Object[apiclient.Operation], error) {
				return c.ResizeVM(ctx, id, size)
			})
			if err != nil || !w.wanted() || e.quiet || e.forScripts() {
				return err
			}
			c, target, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			machine, err := c.GetVM(ctx, target.id)
			if err != nil {
				return err
			}
			return e.sayPending(machine.Value)
		},
	}
	cmd.Flags().IntVar(&vcpus, "vcpus", 0, "virtual processors")
	cmd.Flags().StringVar(&memory, "memory", "", "memory in MiB, or with a unit: 512M, 2G")
	cmd.Flags().StringVar(&flavor, "flavor", "", "named size, instead of both")
	for _, number := range []string{"vcpus", "memory"} {
		cmd.MarkFlagsMutuallyExclusive("flavor", number)
	}
	must(cmd.RegisterFlagCompletionFunc("flavor", e.completion(0, flavorNames)))
	w.addTo(cmd)
	return cmd
}

func newVMHistory(e *env) *cobra.Command {
	var most int
	cmd := &cobra.Command{
		Use: "history VM", Short: "What was done to a machine and what it went through, newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			items, err := apiclient.Collect(c.VMHistory(cmd.Context(), target.id, most))
			if err != nil {
				return err
			}
			return printList(e, items, func(i vm.HistoryItem) string { return i.ID.String() }, []column[vm.HistoryItem]{
				{"AT", func(i vm.HistoryItem) string { return clock(i.At) }},
				{"TYPE", func(i vm.HistoryItem) string { return i.Type }},
				{"WHAT", func(i vm.HistoryItem) string { return i.Kind }},
				{"RESULT", func(i vm.HistoryItem) string { return e.coloured(i.Status) }},
				{"STATE", func(i vm.HistoryItem) string { return strings.Trim(i.From+" → "+i.To, " →") }},
				{"WHY", func(i vm.HistoryItem) string { return printable(strings.TrimSpace(i.Reason + " " + i.Code)) }},
			})
		},
	}
	cmd.Flags().IntVar(&most, "limit", 50, "so many at most; 0 lists all")
	return cmd
}

// settingFields are the lines of 'vm show' about what can be edited.
func settingFields(m vm.VM) [][]string {
	var fields [][]string
	add := func(name, text string) {
		if text != "" {
			fields = append(fields, []string{name, printable(text)})
		}
	}
	add("description", m.Description)
	if m.Suspended {
		add("suspended", "to disk")
	}
	if m.Rescue != nil {
		add("rescue", "boots image "+m.Rescue.ImageID.String()+" since "+m.Rescue.Since.Local().Format(time.DateTime))
	}
	if m.DeleteProtection {
		add("protection", "from deletion")
	}
	if m.Autostart != vm.DefaultSettings().Autostart {
		add("autostart", fmt.Sprintf("%t, order %d, delay %ds", m.Autostart.Enabled, m.Autostart.Order, m.Autostart.DelaySeconds))
	}
	add("CPU model", m.CPU.Model)
	if m.CPU.Count() > 0 {
		add("CPU topology", fmt.Sprintf("%d:%d:%d", m.CPU.Sockets, m.CPU.Cores, m.CPU.Threads))
	}
	if m.Watchdog != vm.DefaultSettings().Watchdog {
		add("watchdog", m.Watchdog.Model+": "+m.Watchdog.Action)
	}
	add("boot order", strings.Join(m.BootOrder, ", "))
	add("disc", idText(m.CDROM.ImageID))
	add("kernel", idText(m.DirectBoot.KernelImageID))
	add("initrd", idText(m.DirectBoot.InitrdImageID))
	add("command line", m.DirectBoot.CommandLine)
	for _, disk := range slices.Sorted(maps.Keys(m.IOLimits)) {
		l := m.IOLimits[disk]
		add("limit of "+disk, fmt.Sprintf("%d/%d reads/writes and %d/%d bytes a second", l.ReadIOPS, l.WriteIOPS, l.ReadBPS, l.WriteBPS))
	}
	for _, p := range m.Pending {
		add("pending", p.Field+" is still "+p.Active)
	}
	add("observed", strings.TrimSpace(m.Observed.State+" "+m.Observed.Reason))
	return fields
}
