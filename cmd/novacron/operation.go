package main

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/spf13/cobra"
)

var operations = collection{path: "/api/v1/operations", what: "operation", columns: []column{col("id", "id"), col("kind", "kind"), col("target", "target_id"),
	col("status", "status"), {"progress", func(o map[string]any) string { return show(o["progress"]) + "%" }}, col("error", "error.code"), col("created", "created_at")}}

func newOperation(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "operation", Aliases: []string{"op"}, Short: "Operations: what is or was being done"}
	wait := &cobra.Command{
		Use: "wait ID", Short: "Wait for the end of an operation", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := client.Do(cmd.Context(), http.MethodGet, operations.path+"/"+args[0], nil, &raw); err != nil {
				return err
			}
			raw, op, err := c.follow(cmd.Context(), client, raw, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return errors.Join(c.print(cmd.OutOrStdout(), []json.RawMessage{raw}, true, operations.columns...), op.failure())
		},
	}
	cancel := &cobra.Command{
		Use: "cancel ID", Short: "Cancel an operation and undo what it did", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := client.Do(cmd.Context(), http.MethodPost, operations.path+"/"+args[0]+"/cancel", nil, &raw); err != nil {
				return err
			}
			if raw, _, err = c.follow(cmd.Context(), client, raw, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), []json.RawMessage{raw}, true, operations.columns...)
		},
	}
	cmd.AddCommand(c.list(operations, "kind", "status"), c.show(operations), wait, cancel)
	return cmd
}
