package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

// collection is a kind of object that the API lists, with what a table of it shows.
type collection struct {
	path    string // "/api/v1/vms"
	what    string // "virtual machine"
	columns []column
	// enrich adds to the items what only the tables show. It may be nil.
	enrich func(ctx context.Context, client *apiclient.Client, items []json.RawMessage) []json.RawMessage
}

// list makes the command that lists a collection; filters are flags that become query parameters.
func (c *cli) list(of collection, filters ...string) *cobra.Command {
	limit := 0
	values := map[string]*string{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List " + of.what + "s, newest first", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range values {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			items, err := client.List(cmd.Context(), of.path, query, limit)
			if err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), c.enriched(cmd.Context(), client, of, items), false, of.columns...)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "show so many at most; 0: all")
	for _, name := range filters {
		values[name] = cmd.Flags().String(name, "", "only those of this "+name)
	}
	return cmd
}

// show makes the command that shows one object.
func (c *cli) show(of collection) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME|ID", Short: "Show one " + of.what, Args: args(cobra.ExactArgs(1)), ValidArgsFunction: c.complete(of),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			id, err := resolve(cmd.Context(), client, of.path, of.what, args[0])
			if err != nil {
				return err
			}
			var item json.RawMessage
			if err := client.Do(cmd.Context(), http.MethodGet, of.path+"/"+id, nil, &item); err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), c.enriched(cmd.Context(), client, of, []json.RawMessage{item}), true, of.columns...)
		},
	}
}

// enriched adds what a table shows beyond the API's objects.
func (c *cli) enriched(ctx context.Context, client *apiclient.Client, of collection, items []json.RawMessage) []json.RawMessage {
	if of.enrich == nil || c.output != "table" || c.quiet || len(items) == 0 {
		return items
	}
	return of.enrich(ctx, client, items)
}

// complete offers the names of a collection to the shell.
func (c *cli) complete(of collection) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		client, err := c.authenticated()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		items, err := client.List(cmd.Context(), of.path, nil, 200)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, item := range items {
			var o struct{ Name string }
			if json.Unmarshal(item, &o) == nil {
				names = append(names, o.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// remove makes the command that deletes one object, through an operation or at once.
func (c *cli) remove(of collection) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME|ID", Aliases: []string{"rm"}, Short: "Delete one " + of.what, Args: args(cobra.ExactArgs(1)), ValidArgsFunction: c.complete(of),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			id, err := resolve(cmd.Context(), client, of.path, of.what, args[0])
			if err != nil {
				return err
			}
			return c.act(cmd, client, http.MethodDelete, of.path+"/"+id, nil, fmt.Sprintf("Deleted %s %s.", of.what, args[0]))
		},
	}
}

var nodes = collection{path: "/api/v1/nodes", what: "node", columns: []column{col("name", "name"), col("state", "state"), col("accel", "accelerator"),
	col("vms", "vms"), col("vcpus", "allocated.vcpus"), {"of", func(o map[string]any) string { return show(dig(o, "limits.vcpus")) }},
	{"memory", func(o map[string]any) string { return bytesText(dig(o, "allocated.memory_bytes")) }},
	{"of", func(o map[string]any) string { return bytesText(dig(o, "limits.memory_bytes")) }}, col("id", "id")}}

func newNode(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Hypervisor nodes"}
	cmd.AddCommand(c.list(nodes))
	return cmd
}

func newFlavor(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "flavor", Short: "Named sizes"}
	cmd.AddCommand(c.list(collection{path: "/api/v1/flavors", what: "flavor", columns: []column{col("name", "name"), col("vcpus", "resources.vcpus"),
		col("memory MiB", "resources.memory_mib"), col("disk GiB", "resources.disk_gib")}}))
	return cmd
}

// bytesText shows a number of bytes in the largest binary unit that leaves it readable.
func bytesText(v any) string {
	n, ok := v.(float64)
	if !ok {
		return ""
	}
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			return fmt.Sprintf("%.4g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.4g TiB", n)
}
