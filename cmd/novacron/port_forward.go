package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newPortForward(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "port-forward", Aliases: []string{"pf"}, Short: "Ports of the nodes that lead to machines"}
	cmd.AddCommand(newPortForwardList(e), newPortForwardCreate(e), newPortForwardDelete(e))
	return cmd
}

func newPortForwardList(e *env) *cobra.Command {
	var machine string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List port forwards, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			var of *uuid.UUID
			if machine != "" {
				target, err := findVM(cmd.Context(), c, machine)
				if err != nil {
					return err
				}
				of = &target.id
			}
			forwards, err := apiclient.Collect(c.ListPortForwards(cmd.Context(), of, 0))
			if err != nil {
				return err
			}
			id := func(f vm.PortForward) string { return f.ID.String() }
			return printList(e, forwards, id, []column[vm.PortForward]{
				{"HOST PORT", func(f vm.PortForward) string { return fmt.Sprintf("%s/%d", f.Protocol, f.HostPort) }},
				{"GUEST PORT", func(f vm.PortForward) string { return strconv.Itoa(f.GuestPort) }},
				{"FROM", func(f vm.PortForward) string { return f.SourceCIDR }},
				{"VM", func(f vm.PortForward) string { return f.VMID.String() }},
				{"ID", id},
			})
		},
	}
	cmd.Flags().StringVar(&machine, "vm", "", "only those of this machine")
	must(cmd.RegisterFlagCompletionFunc("vm", e.completion(0, vmNames)))
	return cmd
}

func newPortForwardCreate(e *env) *cobra.Command {
	var body apiclient.PortForwardCreate
	cmd := &cobra.Command{
		Use: "create VM [HOST-PORT:]GUEST-PORT", Short: "Forward a port of the node to a machine on a NAT network", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, vmNames),
		Example: "  novacron port-forward create web-1 8080:80\n  novacron port-forward create web-1 22 --from 192.0.2.0/24",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			host, guest, both := strings.Cut(args[1], ":")
			if !both {
				host, guest = "0", args[1]
			}
			var err, hostErr error
			body.GuestPort, err = strconv.Atoi(guest)
			body.HostPort, hostErr = strconv.Atoi(host)
			if err != nil || hostErr != nil {
				return usageError{fmt.Sprintf("%q is not HOST-PORT:GUEST-PORT", args[1])}
			}
			c, machine, err := e.connectVM(ctx, args[0])
			if err != nil {
				return err
			}
			body.VMID = machine.id
			forward, err := c.CreatePortForward(ctx, body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, forward, func(f vm.PortForward) string { return f.ID.String() }, nil)
			}
			f := forward.Value
			_, err = fmt.Fprintf(e.out, "Port %s/%d of the node leads to port %d of %s (%s)\n", f.Protocol, f.HostPort, f.GuestPort, machine.name, f.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&body.Protocol, "protocol", "", "tcp or udp (default tcp)")
	cmd.Flags().StringVar(&body.SourceCIDR, "from", "", "who may use it, as an IPv4 range (default: anybody)")
	must(cmd.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions([]string{"tcp", "udp"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func newPortForwardDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Aliases: []string{"rm"}, Short: "Close a forwarded port, also for open connections", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return usageError{fmt.Sprintf("%q is no id of a port forward; see 'novacron port-forward list'", args[0])}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			if err := c.DeletePortForward(cmd.Context(), id); err != nil {
				return err
			}
			return e.deleted("port forward", named{id, id.String()})
		},
	}
}
