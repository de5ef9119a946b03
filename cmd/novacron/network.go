package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newNetwork(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "network", Aliases: []string{"net"}, Short: "Virtual networks"}
	cmd.AddCommand(newNetworkList(e), newNetworkCreate(e), newNetworkShow(e), newNetworkUpdate(e), newNetworkDelete(e))
	return cmd
}

func networkID(n vm.Network) string { return n.ID.String() }

func newNetworkList(e *env) *cobra.Command {
	var (
		name string
		most int
	)
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List networks, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			networks, err := apiclient.Collect(c.ListNetworks(cmd.Context(), name, most))
			if err != nil {
				return err
			}
			return printList(e, networks, networkID, []column[vm.Network]{
				{"NAME", func(n vm.Network) string { return n.Name }},
				{"STATUS", func(n vm.Network) string { return e.coloured(string(n.Status)) }},
				{"MODE", func(n vm.Network) string { return string(n.Mode) }},
				{"CIDR", func(n vm.Network) string { return n.CIDR }},
				{"GATEWAY", func(n vm.Network) string { return n.Gateway }},
				{"DEFAULT", func(n vm.Network) string { return yes(n.Default) }},
				{"ID", networkID},
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only the one of this name")
	cmd.Flags().IntVar(&most, "limit", 0, "so many at most; 0 lists all")
	return cmd
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func newNetworkCreate(e *env) *cobra.Command {
	var (
		body apiclient.NetworkCreate
		dhcp vm.DHCP
	)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a network", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron network create backend --mode isolated --cidr 10.101.0.0/24",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (dhcp.Start == "") != (dhcp.End == "") {
				return usageError{"--dhcp-start and --dhcp-end go together"}
			}
			if dhcp.Start != "" {
				body.DHCP = &dhcp
			}
			body.Name = args[0]
			c, err := e.connect()
			if err != nil {
				return err
			}
			network, err := c.CreateNetwork(cmd.Context(), body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, network, networkID, nil)
			}
			n := network.Value
			_, err = fmt.Fprintf(e.out, "Created network %s: %s, %s %s (%s)\n", n.Name, e.coloured(string(n.Status)), n.Mode, n.CIDR, n.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&body.Mode, "mode", "", "nat reaches the outside through the node's address, isolated does not, routed by its own addresses, bridge is on a bridge of the nodes (default nat)")
	cmd.Flags().StringVar(&body.CIDR, "cidr", "", "private IPv4 range, /16 to /29; its first address is the gateway (default: the next free /24)")
	cmd.Flags().StringVar(&dhcp.Start, "dhcp-start", "", "first address that guests get (default: the first after the gateway)")
	cmd.Flags().StringVar(&dhcp.End, "dhcp-end", "", "last address that guests get (default: the last one)")
	cmd.Flags().BoolVar(&body.IPv6, "ipv6", false, "give it a random unique local IPv6 range")
	cmd.Flags().StringVar(&body.IPv6CIDR, "ipv6-cidr", "", "IPv6 range of 64 bits, which is announced to guests")
	cmd.Flags().StringVar(&body.Uplink, "uplink", "", "mode bridge: bridge of the nodes, or with --vlan any device of theirs")
	cmd.Flags().IntVar(&body.VLAN, "vlan", 0, "mode bridge: 802.1Q tag on the uplink")
	must(cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"nat", "isolated", "routed", "bridge"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func newNetworkShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NETWORK", Short: "Show a network", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, networkNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findNetwork(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			network, err := c.GetNetwork(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, network, networkID, func(n vm.Network) [][]string {
				fields := [][]string{{"name", n.Name}, {"id", n.ID.String()}, {"status", e.coloured(string(n.Status))}, {"mode", string(n.Mode)},
					{"cidr", n.CIDR}, {"gateway", n.Gateway}}
				if n.DHCP != nil {
					fields = append(fields, []string{"dhcp", n.DHCP.Start + " - " + n.DHCP.End})
				}
				if n.IPv6CIDR != "" {
					fields = append(fields, []string{"ipv6 cidr", n.IPv6CIDR}, []string{"ipv6 gateway", n.IPv6Gateway})
				}
				if n.Uplink != "" {
					fields = append(fields, []string{"uplink", n.Uplink})
				}
				if n.VLAN != 0 {
					fields = append(fields, []string{"vlan", strconv.Itoa(n.VLAN)})
				}
				if n.Domain != "" {
					fields = append(fields, []string{"domain", n.Domain})
				}
				return append(fields, []string{"default", yes(n.Default)}, []string{"tenant", n.TenantID.String()},
					[]string{"owner", n.OwnerID.String()}, []string{"created", clock(n.CreatedAt)})
			})
		},
	}
}

func newNetworkUpdate(e *env) *cobra.Command {
	var (
		name string
		dhcp vm.DHCP
	)
	cmd := &cobra.Command{
		Use: "update NETWORK", Short: "Change name or DHCP range of a network, while its guests run", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, networkNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.NetworkUpdate
			if name != "" {
				body.Name = &name
			}
			if (dhcp.Start == "") != (dhcp.End == "") {
				return usageError{"--dhcp-start and --dhcp-end go together"}
			}
			if dhcp.Start != "" {
				body.DHCP = &dhcp
			}
			if body == (apiclient.NetworkUpdate{}) {
				return usageError{"nothing is to be changed; see --help"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findNetwork(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			network, err := c.UpdateNetwork(cmd.Context(), target.id, body)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, network, networkID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Changed network %s (%s)\n", network.Value.Name, network.Value.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&dhcp.Start, "dhcp-start", "", "first address that guests get")
	cmd.Flags().StringVar(&dhcp.End, "dhcp-end", "", "last address that guests get")
	return cmd
}

func newNetworkDelete(e *env) *cobra.Command {
	var w waiting
	cmd := &cobra.Command{
		Use: "delete NETWORK", Aliases: []string{"rm"}, Short: "Delete a network that nothing is connected to", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, networkNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findNetwork(ctx, c, args[0])
			if err != nil {
				return err
			}
			op, err := c.DeleteNetwork(ctx, target.id)
			if err != nil {
				return err
			}
			if !w.wanted() {
				return e.began(target.name, op)
			}
			if op, err = e.await(ctx, c, &w, target.name, op); err != nil {
				return err
			}
			if e.forScripts() && !e.quiet {
				return e.document(op)
			}
			return e.deleted("network", target)
		},
	}
	w.addTo(cmd)
	return cmd
}
