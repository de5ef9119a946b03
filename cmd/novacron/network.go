package main

import (
	"encoding/json"
	"net/http"

	"github.com/spf13/cobra"
)

var networkList = collection{path: "/api/v1/networks", what: "network", columns: []column{col("name", "name"), col("status", "status"), col("mode", "mode"),
	col("cidr", "cidr"), col("gateway", "gateway"), col("id", "id")}}

func newNetwork(c *cli) *cobra.Command {
	var mode, cidr string
	create := &cobra.Command{
		Use: "create NAME", Short: "Create a network", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "mode": mode}
			if cidr != "" {
				body["cidr"] = cidr
			}
			var n json.RawMessage
			if err := client.Do(cmd.Context(), http.MethodPost, networkList.path, body, &n); err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), []json.RawMessage{n}, true, networkList.columns...)
		},
	}
	create.Flags().StringVar(&mode, "mode", "nat", "nat or isolated")
	create.Flags().StringVar(&cidr, "cidr", "", "address range (default: the next free one)")
	cmd := &cobra.Command{Use: "network", Short: "Networks"}
	cmd.AddCommand(c.list(networkList, "name"), c.show(networkList), create, c.remove(networkList))
	return cmd
}
