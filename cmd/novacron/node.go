package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

func newNode(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Hypervisor nodes"}
	cmd.AddCommand(newNodeList(e), newNodeShow(e), newNodeCordon(e, "cordon", "Place no new machines on a node; those on it stay", true),
		newNodeCordon(e, "uncordon", "Place machines on a node again", false))
	return cmd
}

func nodeID(n apiclient.Node) string { return n.ID.String() }

func newNodeList(e *env) *cobra.Command {
	used := func(of func(apiclient.NodeResources) string) func(apiclient.Node) string {
		return func(n apiclient.Node) string { return of(n.Allocated) + " / " + of(n.Limits) }
	}
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List nodes, with what is allocated of what may be", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			nodes, err := apiclient.Collect(c.ListNodes(cmd.Context()))
			if err != nil {
				return err
			}
			return printList(e, nodes, nodeID, []column[apiclient.Node]{
				{"NAME", func(n apiclient.Node) string { return n.Name }},
				{"STATE", func(n apiclient.Node) string { return e.coloured(n.State) + cordonedText(n) }},
				{"VMS", func(n apiclient.Node) string { return strconv.Itoa(n.VMs) }},
				{"VCPU", used(func(r apiclient.NodeResources) string { return strconv.Itoa(r.VCPUs) })},
				{"MEMORY", used(func(r apiclient.NodeResources) string { return bytesText(r.MemoryBytes) })},
				{"DISK", used(func(r apiclient.NodeResources) string { return bytesText(r.StorageBytes) })},
				{"ACCEL", func(n apiclient.Node) string { return n.Accelerator }},
				{"ID", nodeID},
			})
		},
	}
}

func cordonedText(n apiclient.Node) string {
	if n.Cordoned {
		return ", cordoned"
	}
	return ""
}

func newNodeShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NODE", Short: "Show a node", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, nodeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findNode(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			node, err := c.GetNode(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, node, nodeID, func(n apiclient.Node) [][]string {
				amount := func(r apiclient.NodeResources) string {
					return fmt.Sprintf("%d vCPU, %s memory, %s disk", r.VCPUs, bytesText(r.MemoryBytes), bytesText(r.StorageBytes))
				}
				fields := [][]string{{"name", n.Name}, {"id", n.ID.String()}, {"state", e.coloured(n.State) + cordonedText(n)}, {"health", e.coloured(n.Health)},
					{"reason", printable(n.Reason)}, {"machines", strconv.Itoa(n.VMs)}, {"capacity", amount(n.Capacity)}, {"may be allocated", amount(n.Limits)},
					{"allocated", amount(n.Allocated)}, {"disk free", bytesText(n.StorageFreeBytes)}, {"CPU", n.CPUModel}, {"architecture", n.Architecture},
					{"accelerator", n.Accelerator}, {"hypervisor", n.Hypervisor}, {"version", n.Version}}
				for _, key := range sortedKeys(n.Labels) {
					fields = append(fields, []string{"label", printable(key + "=" + n.Labels[key])})
				}
				return append(fields, []string{"last heartbeat", clock(n.LastHeartbeat)}, []string{"registered", clock(n.RegisteredAt)})
			})
		},
	}
}

func newNodeCordon(e *env, verb, short string, cordoned bool) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, nodeNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findNode(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			node, err := c.CordonNode(cmd.Context(), target.id, cordoned)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, node, nodeID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Node %s is %sed.\n", node.Value.Name, verb)
			return err
		},
	}
}
