package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
)

func newServiceAccount(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "service-account", Aliases: []string{"sa"}, Short: "Accounts for programs: they cannot log in and use API keys",
		Long: "Accounts for programs: they cannot log in and use API keys, which 'novacron apikey create --user NAME' makes.",
	}
	cmd.AddCommand(newServiceAccountCreate(e), newServiceAccountList(e), newServiceAccountShow(e), newServiceAccountUpdate(e), newServiceAccountDelete(e))
	return cmd
}

func accountID(u auth.User) string { return u.ID.String() }

func accountState(u auth.User) string {
	if u.Disabled {
		return "disabled"
	}
	return "active"
}

func (e *env) accountFields(u auth.User) [][]string {
	return [][]string{{"name", u.Username}, {"id", accountID(u)}, {"description", printable(u.Description)}, {"role", u.Role}, {"tenant", u.TenantID.String()},
		{"state", e.coloured(accountState(u))}, {"made", clock(u.CreatedAt)}}
}

func newServiceAccountCreate(e *env) *cobra.Command {
	var body apiclient.ServiceAccountCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a service account", Args: cobra.ExactArgs(1),
		Example: "  novacron service-account create deployer --role user --description 'Rolls out releases.'\n  novacron apikey create ci --user deployer --save ci.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name = args[0]
			c, err := e.connect()
			if err != nil {
				return err
			}
			made, err := c.CreateServiceAccount(cmd.Context(), body)
			if err != nil {
				return err
			}
			return printObject(e, made, accountID, e.accountFields)
		},
	}
	cmd.Flags().StringVar(&body.Role, "role", "", "what the account may do (default viewer)")
	cmd.Flags().StringVar(&body.Description, "description", "", "what it is for")
	return cmd
}

func newServiceAccountList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List service accounts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			accounts, err := apiclient.Collect(c.ListServiceAccounts(cmd.Context(), 0))
			if err != nil {
				return err
			}
			return printList(e, accounts, accountID, []column[auth.User]{
				{"NAME", func(u auth.User) string { return u.Username }},
				{"ROLE", func(u auth.User) string { return u.Role }},
				{"STATE", func(u auth.User) string { return e.coloured(accountState(u)) }},
				{"DESCRIPTION", func(u auth.User) string { return printable(u.Description) }},
				{"ID", accountID},
			})
		},
	}
}

// onServiceAccount is a command on one service account.
func (e *env) onServiceAccount(use, short string, do func(context.Context, *apiclient.Client, named) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " ACCOUNT", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, serviceAccountNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findServiceAccount(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return do(cmd.Context(), c, target)
		},
	}
}

func newServiceAccountShow(e *env) *cobra.Command {
	return e.onServiceAccount("show", "Show a service account", func(ctx context.Context, c *apiclient.Client, target named) error {
		u, err := c.GetServiceAccount(ctx, target.id)
		if err != nil {
			return err
		}
		return printObject(e, u, accountID, e.accountFields)
	})
}

func newServiceAccountUpdate(e *env) *cobra.Command {
	var role, description string
	var disable, enable bool
	var cmd *cobra.Command
	cmd = e.onServiceAccount("update", "Change a service account", func(ctx context.Context, c *apiclient.Client, target named) error {
		var body apiclient.ServiceAccountUpdate
		if cmd.Flags().Changed("role") {
			body.Role = &role
		}
		if cmd.Flags().Changed("description") {
			body.Description = &description
		}
		if disable || enable {
			body.Disabled = &disable
		}
		if body == (apiclient.ServiceAccountUpdate{}) {
			return usageError{"nothing is to be changed: give --role, --description, --disable or --enable"}
		}
		u, err := c.UpdateServiceAccount(ctx, target.id, body)
		if err != nil {
			return err
		}
		return printObject(e, u, accountID, e.accountFields)
	})
	cmd.Flags().StringVar(&role, "role", "", "what the account may do")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().BoolVar(&disable, "disable", false, "let its API keys not count")
	cmd.Flags().BoolVar(&enable, "enable", false, "let its API keys count again")
	cmd.MarkFlagsMutuallyExclusive("disable", "enable")
	return cmd
}

func newServiceAccountDelete(e *env) *cobra.Command {
	var yes bool
	cmd := e.onServiceAccount("delete", "Delete a service account, with its API keys", func(ctx context.Context, c *apiclient.Client, target named) error {
		if !yes {
			if err := e.confirm(ctx, fmt.Sprintf("Delete the service account %s and its API keys?", target.name)); err != nil {
				return err
			}
		}
		if err := c.DeleteServiceAccount(ctx, target.id); err != nil {
			return err
		}
		return e.tellDone(target, "service account", "deleted")
	})
	cmd.Aliases = []string{"rm"}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}
