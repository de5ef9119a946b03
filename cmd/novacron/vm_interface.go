package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVMInterface(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "interface", Aliases: []string{"nic"}, Short: "Network interfaces of a machine"}
	cmd.AddCommand(newVMInterfaceList(e), newVMInterfaceAttach(e), newVMInterfaceUpdate(e), newVMInterfaceDetach(e))
	return cmd
}

// parseInterface reads NAME,ip=…,mac=…,group=…,in=…,out=… as flags and arguments have it. 'group=' without a name stands for no group.
func parseInterface(ctx context.Context, c *apiclient.Client, spec string) (apiclient.VMNetwork, error) {
	parts := strings.Split(spec, ",")
	network, err := findNetwork(ctx, c, parts[0])
	if err != nil {
		return apiclient.VMNetwork{}, err
	}
	body := apiclient.VMNetwork{NetworkID: &network.id}
	var groups []string
	grouped := false
	var limits vm.Bandwidth
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "ip":
			body.IPAddress = value
		case "mac":
			body.MAC = value
		case "link":
			body.Link = value
		case "group":
			grouped = true
			groups = append(groups, value)
		case "in", "out":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return body, usageError{fmt.Sprintf("%q is no number of kilobits a second", value)}
			}
			if key == "in" {
				limits.InKbps = n
			} else {
				limits.OutKbps = n
			}
		default:
			return body, usageError{fmt.Sprintf("%q: an interface has ip=, mac=, group=, link=, in= and out=", part)}
		}
	}
	if limits != (vm.Bandwidth{}) {
		body.Bandwidth = &limits
	}
	if grouped {
		if body.SecurityGroups, err = groupIDs(ctx, c, groups); err != nil {
			return body, err
		}
	}
	return body, nil
}

// groupIDs finds security groups; empty names are passed over.
func groupIDs(ctx context.Context, c *apiclient.Client, names []string) (*[]uuid.UUID, error) {
	ids := []uuid.UUID{}
	for _, name := range names {
		if name == "" {
			continue
		}
		group, err := findSecurityGroup(ctx, c, name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, group.id)
	}
	return &ids, nil
}

// findInterface finds an interface of a machine by its id, its MAC or one of its addresses.
func findInterface(ctx context.Context, c *apiclient.Client, machine uuid.UUID, arg string) (vm.Interface, error) {
	nics, err := apiclient.Collect(c.ListInterfaces(ctx, machine))
	if err != nil {
		return vm.Interface{}, err
	}
	for _, nic := range nics {
		n := nic.Value
		if n.ID.String() == arg || strings.EqualFold(n.MAC, arg) || n.IPAddress == arg || n.IPv6Address == arg {
			return n, nil
		}
	}
	return vm.Interface{}, usageError{fmt.Sprintf("the machine has no interface %q; see 'novacron vm interface list'", arg)}
}

func newVMInterfaceList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list VM", Aliases: []string{"ls"}, Short: "List the interfaces of a machine", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			nics, err := apiclient.Collect(c.ListInterfaces(cmd.Context(), target.id))
			if err != nil {
				return err
			}
			id := func(n vm.Interface) string { return n.ID.String() }
			return printList(e, nics, id, []column[vm.Interface]{
				{"MAC", func(n vm.Interface) string { return n.MAC }},
				{"IP", func(n vm.Interface) string { return n.IPAddress }},
				{"IPV6", func(n vm.Interface) string { return n.IPv6Address }},
				{"LINK", func(n vm.Interface) string { return n.Link }},
				{"GROUPS", func(n vm.Interface) string { return strconv.Itoa(len(n.SecurityGroups)) }},
				{"IN", func(n vm.Interface) string {
					return limitText(n.Bandwidth, func(b vm.Bandwidth) int64 { return b.InKbps })
				}},
				{"OUT", func(n vm.Interface) string {
					return limitText(n.Bandwidth, func(b vm.Bandwidth) int64 { return b.OutKbps })
				}},
				{"NETWORK", func(n vm.Interface) string { return n.NetworkID.String() }},
				{"ID", id},
			})
		},
	}
}

func limitText(b *vm.Bandwidth, part func(vm.Bandwidth) int64) string {
	if b == nil || part(*b) == 0 {
		return ""
	}
	return fmt.Sprintf("%d kbit/s", part(*b))
}

func newVMInterfaceAttach(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "attach VM NETWORK[,ip=ADDRESS,mac=MAC,group=GROUP,in=KBPS,out=KBPS]", Short: "Plug an interface in, while the guest runs or not", Args: cobra.ExactArgs(2),
		Example: "  novacron vm interface attach web-1 backend,ip=10.101.0.20,group=web",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			names := vmNames
			if len(args) == 1 {
				names = networkNames
			}
			return e.completion(2, names)(cmd, args, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			body, err := parseInterface(ctx, c, args[1])
			if err != nil {
				return err
			}
			op, err := c.AttachInterface(ctx, machine.id, body)
			if err != nil {
				return err
			}
			return e.printed(e.finishVM(ctx, c, &w, machine.name, "Attached an interface to", op))
		},
	}
	w.addTo(cmd)
	return cmd
}

func newVMInterfaceUpdate(e *env) *cobra.Command {
	var (
		w       waiting
		groups  []string
		link    string
		in, out int64
	)
	cmd := &cobra.Command{
		Use: "update VM INTERFACE", Short: "Change groups, link or bandwidth of an interface; INTERFACE is its id, MAC or address", Args: cobra.ExactArgs(2),
		ValidArgsFunction: e.completion(1, vmNames),
		Example:           "  novacron vm interface update web-1 10.101.0.20 --group web --group ssh --in 100000\n  novacron vm interface update web-1 10.101.0.20 --link down",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			nic, err := findInterface(ctx, c, machine.id, args[1])
			if err != nil {
				return err
			}
			var body apiclient.InterfaceUpdate
			if cmd.Flags().Changed("group") {
				if body.SecurityGroups, err = groupIDs(ctx, c, groups); err != nil {
					return err
				}
			}
			if link != "" {
				body.Link = &link
			}
			if cmd.Flags().Changed("in") || cmd.Flags().Changed("out") {
				limits := vm.Bandwidth{}
				if nic.Bandwidth != nil {
					limits = *nic.Bandwidth
				}
				if cmd.Flags().Changed("in") {
					limits.InKbps = in
				}
				if cmd.Flags().Changed("out") {
					limits.OutKbps = out
				}
				body.Bandwidth = &limits
			}
			if body == (apiclient.InterfaceUpdate{}) {
				return usageError{"nothing is to be changed; see --help"}
			}
			op, err := c.UpdateInterface(ctx, machine.id, nic.ID, body)
			if err != nil {
				return err
			}
			return e.printed(e.finishVM(ctx, c, &w, machine.name, "Changed an interface of", op))
		},
	}
	cmd.Flags().StringArrayVar(&groups, "group", nil, "security group, replaces all; may be repeated; '' alone takes them all away")
	cmd.Flags().StringVar(&link, "link", "", "up or down")
	cmd.Flags().Int64Var(&in, "in", 0, "limit to the guest in kbit/s; 0 takes it away")
	cmd.Flags().Int64Var(&out, "out", 0, "limit from the guest in kbit/s; 0 takes it away")
	w.addTo(cmd)
	must(cmd.RegisterFlagCompletionFunc("group", e.completion(0, groupNames)))
	must(cmd.RegisterFlagCompletionFunc("link", cobra.FixedCompletions([]string{"up", "down"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func newVMInterfaceDetach(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "detach VM INTERFACE", Short: "Take an interface away, while the guest runs or not", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			nic, err := findInterface(ctx, c, machine.id, args[1])
			if err != nil {
				return err
			}
			op, err := c.DetachInterface(ctx, machine.id, nic.ID)
			if err != nil {
				return err
			}
			return e.printed(e.finishVM(ctx, c, &w, machine.name, "Detached an interface from", op))
		},
	}
	w.addTo(cmd)
	return cmd
}
