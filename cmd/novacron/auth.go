package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

// newAuth holds what concerns identity as a whole.
func newAuth(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "auth", Short: "Keys that sign access tokens, and the way back in on the host"}
	cmd.AddCommand(newAuthKeys(e), newAuthRotate(e), newAuthResetPassword(e))
	return cmd
}

func keyID(k apiclient.SigningKey) string { return k.ID }

func printKeys(e *env, keys []apiclient.Object[apiclient.SigningKey]) error {
	at := func(t time.Time) string { return t.Local().Format(time.DateTime) }
	return printList(e, keys, keyID, []column[apiclient.SigningKey]{
		{"KEY", keyID},
		{"STATE", func(k apiclient.SigningKey) string { return k.State }},
		{"MADE", func(k apiclient.SigningKey) string { return at(k.CreatedAt) }},
		{"SIGNS FROM", func(k apiclient.SigningKey) string { return at(k.SignsAt) }},
		{"GONE", func(k apiclient.SigningKey) string {
			if k.GoneAt == nil {
				return ""
			}
			return at(*k.GoneAt)
		}},
	})
}

func newAuthKeys(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "List the keys that sign access tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			keys, err := apiclient.Collect(c.ListSigningKeys(cmd.Context()))
			if err != nil {
				return err
			}
			return printKeys(e, keys)
		},
	}
}

func newAuthRotate(e *env) *cobra.Command {
	var atOnce bool
	cmd := &cobra.Command{
		Use: "rotate-keys", Short: "Make the next key that signs access tokens", Args: cobra.NoArgs,
		Long: "Make the next key that signs access tokens. It is published at once and signs a little later; nobody is logged out.\n" +
			"With --at-once, for a key that others may know: every access token that was issued before is refused from now on. Sessions stay; clients get new tokens by themselves.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			keys, err := c.RotateSigningKeys(cmd.Context(), atOnce)
			if err != nil {
				return err
			}
			return printKeys(e, keys)
		},
	}
	cmd.Flags().BoolVar(&atOnce, "at-once", false, "withdraw all older keys now")
	return cmd
}
