package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
)

func newTenant(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "tenant", Short: "Tenants: organisations and their projects"}
	cmd.AddCommand(newTenantList(e), newTenantCreate(e), newTenantShow(e), newTenantRename(e), newTenantDisable(e, "disable", "Let nobody of a tenant in any more", true),
		newTenantDisable(e, "enable", "Let the users of a disabled tenant in again", false), newTenantDelete(e))
	return cmd
}

func tenantID(t auth.Tenant) string { return t.ID.String() }

func tenantNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListTenants(ctx, "", uuid.Nil, completeMost), func(t auth.Tenant) named { return named{t.ID, t.Name} })
}

func findTenant(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("tenant", "tenant", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListTenants(ctx, name, uuid.Nil, 0), func(t auth.Tenant) named { return named{t.ID, t.Name} })
	})
}

func orText(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

func newTenantList(e *env) *cobra.Command {
	var mine bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the tenants that you see, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			items := c.ListTenants(cmd.Context(), "", uuid.Nil, 0)
			if mine {
				items = c.MyTenants(cmd.Context())
			}
			tenants, err := apiclient.Collect(items)
			if err != nil {
				return err
			}
			return printList(e, tenants, tenantID, []column[auth.Tenant]{
				{"NAME", func(t auth.Tenant) string { return t.Name }},
				{"DISABLED", func(t auth.Tenant) string { return yes(t.Disabled) }},
				{"PARENT", func(t auth.Tenant) string { return orText(t.ParentID) }},
				{"ID", tenantID},
			})
		},
	}
	cmd.Flags().BoolVar(&mine, "mine", false, "those that you can act in with --tenant, by name")
	return cmd
}

func newTenantCreate(e *env) *cobra.Command {
	var parent string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a tenant, or a project of one", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron tenant create acme\n  novacron tenant create acme-web --parent acme",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			var parentID *uuid.UUID
			if parent != "" {
				organisation, err := findTenant(cmd.Context(), c, parent)
				if err != nil {
					return err
				}
				parentID = &organisation.id
			}
			tenant, err := c.CreateTenant(cmd.Context(), args[0], parentID)
			if err != nil {
				return err
			}
			return e.made(tenant.Value.ID, "tenant "+tenant.Value.Name, tenant)
		},
	}
	cmd.Flags().StringVar(&parent, "parent", "", "the organisation that it is a project of")
	must(cmd.RegisterFlagCompletionFunc("parent", e.completion(0, tenantNames)))
	return cmd
}

// made tells what was created: its id, the object, or a sentence.
func (e *env) made(id uuid.UUID, what string, object any) error {
	switch {
	case e.quiet:
		_, err := fmt.Fprintln(e.out, id)
		return err
	case e.forScripts():
		return e.document(object)
	}
	_, err := fmt.Fprintf(e.out, "Created %s (%s).\n", what, id)
	return err
}

// changed tells what was changed: its id, the object, or a sentence.
func (e *env) changed(id uuid.UUID, sentence string, object any) error {
	switch {
	case e.quiet:
		_, err := fmt.Fprintln(e.out, id)
		return err
	case e.forScripts():
		return e.document(object)
	}
	_, err := fmt.Fprintln(e.out, sentence)
	return err
}

// onTenant makes a command that does one thing to one tenant.
func (e *env) onTenant(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, c *apiclient.Client, target named, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args, ValidArgsFunction: e.completion(1, tenantNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findTenant(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return do(cmd.Context(), c, target, args[1:])
		},
	}
}

func newTenantShow(e *env) *cobra.Command {
	return e.onTenant("show TENANT", "Show a tenant", cobra.ExactArgs(1), func(ctx context.Context, c *apiclient.Client, target named, _ []string) error {
		tenant, err := c.GetTenant(ctx, target.id)
		if err != nil {
			return err
		}
		return printObject(e, tenant, tenantID, func(t auth.Tenant) [][]string {
			return [][]string{{"name", t.Name}, {"id", t.ID.String()}, {"parent", orText(t.ParentID)}, {"disabled", yes(t.Disabled)}, {"created", clock(t.CreatedAt)},
				{"changed", clock(t.UpdatedAt)}}
		})
	})
}

func newTenantRename(e *env) *cobra.Command {
	return e.onTenant("rename TENANT NAME", "Give a tenant another name", cobra.ExactArgs(2), func(ctx context.Context, c *apiclient.Client, target named, args []string) error {
		tenant, err := c.UpdateTenant(ctx, target.id, apiclient.TenantUpdate{Name: &args[0]})
		if err != nil {
			return err
		}
		return e.changed(target.id, fmt.Sprintf("Tenant %s is named %s.", target.name, tenant.Value.Name), tenant)
	})
}

func newTenantDisable(e *env, verb, short string, disabled bool) *cobra.Command {
	return e.onTenant(verb+" TENANT", short, cobra.ExactArgs(1), func(ctx context.Context, c *apiclient.Client, target named, _ []string) error {
		tenant, err := c.UpdateTenant(ctx, target.id, apiclient.TenantUpdate{Disabled: &disabled})
		if err != nil {
			return err
		}
		return e.changed(target.id, fmt.Sprintf("Tenant %s is %sd.", tenant.Value.Name, verb), tenant)
	})
}

func newTenantDelete(e *env) *cobra.Command {
	var sure bool
	cmd := e.onTenant("delete TENANT", "Delete a tenant that has nothing any more", cobra.ExactArgs(1), func(ctx context.Context, c *apiclient.Client, target named, _ []string) error {
		if !sure {
			if err := e.confirm(ctx, fmt.Sprintf("Delete the tenant %s with its roles?", target.name)); err != nil {
				return err
			}
		}
		if err := c.DeleteTenant(ctx, target.id); err != nil {
			return err
		}
		return e.deleted("tenant", target)
	})
	cmd.Aliases = []string{"rm"}
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask")
	return cmd
}
