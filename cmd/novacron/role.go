package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/identity"
)

func newRole(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "role", Short: "Roles, and who was given which"}
	cmd.AddCommand(newRoleList(e), newRoleShow(e), newRoleCreate(e), newRoleUpdate(e), newRoleDelete(e), newRoleBind(e), newRoleUnbind(e), newRoleBindings(e),
		newRolePermissions(e))
	return cmd
}

func roleID(r auth.Role) string { return r.ID.String() }

func roleNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListRoles(ctx), func(r auth.Role) named { return named{r.ID, r.Name} })
}

func findRole(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("role", "role", arg, func(string) iter.Seq2[named, error] { return roleNames(ctx, c) })
}

func newRoleList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the roles of the tenant, built-in ones first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			roles, err := apiclient.Collect(c.ListRoles(cmd.Context()))
			if err != nil {
				return err
			}
			return printList(e, roles, roleID, []column[auth.Role]{
				{"NAME", func(r auth.Role) string { return r.Name }},
				{"BUILT IN", func(r auth.Role) string { return yes(r.BuiltIn) }},
				{"REACH", func(r auth.Role) string { return string(r.Scope) }},
				{"DESCRIPTION", func(r auth.Role) string { return printable(r.Description) }},
				{"ID", roleID},
			})
		},
	}
}

func newRolePermissions(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "permissions", Short: "List the permissions there are", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			list, err := apiclient.Collect(c.ListPermissions(cmd.Context()))
			if err != nil {
				return err
			}
			name := func(p apiclient.Permission) string { return p.Name }
			return printList(e, list, name, []column[apiclient.Permission]{{"PERMISSION", name}})
		},
	}
}

// onRole makes a command that does one thing to one role.
func (e *env) onRole(use, short string, do func(ctx context.Context, c *apiclient.Client, target named) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, roleNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findRole(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return do(cmd.Context(), c, target)
		},
	}
}

func newRoleShow(e *env) *cobra.Command {
	return e.onRole("show ROLE", "Show a role and what it allows", func(ctx context.Context, c *apiclient.Client, target named) error {
		role, err := c.GetRole(ctx, target.id)
		if err != nil {
			return err
		}
		return printObject(e, role, roleID, func(r auth.Role) [][]string {
			return [][]string{{"name", r.Name}, {"id", r.ID.String()}, {"description", printable(r.Description)}, {"built in", yes(r.BuiltIn)}, {"reach", string(r.Scope)},
				{"tenant", orText(r.TenantID)}, {"permissions", strings.Join(r.Permissions, " ")}}
		})
	})
}

func newRoleCreate(e *env) *cobra.Command {
	var (
		description string
		permissions []string
	)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a role of the tenant", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Create a role of the tenant. A permission is RESOURCE:VERB; either part may be *, and :own at its end narrows it to what its holder owns.\n" +
			"A role can hold what you hold yourself.",
		Example: "  novacron role create own-machines --permission vm:create,'vm:*:own','operation:*:own',image:read",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			role, err := c.CreateRole(cmd.Context(), args[0], description, append([]string{}, permissions...))
			if err != nil {
				return err
			}
			return e.made(role.Value.ID, "role "+role.Value.Name, role)
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringSliceVar(&permissions, "permission", nil, "what it allows; several with commas, or again")
	must(cmd.RegisterFlagCompletionFunc("permission", e.completion(0, permissionNames)))
	return cmd
}

func permissionNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListPermissions(ctx), func(p apiclient.Permission) named { return named{name: p.Name} })
}

func newRoleUpdate(e *env) *cobra.Command {
	var (
		description     string
		all, add, minus []string
	)
	cmd := e.onRole("update ROLE", "Change a role, at once for all who have it", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set := cmd.Flags().Changed
		switch {
		case set("permission") && (set("add") || set("remove")):
			return usageError{"--permission replaces all of them, so --add and --remove do not go with it"}
		case !set("permission") && !set("add") && !set("remove") && !set("description"):
			return usageError{"what is to change? Give --description, --permission, --add or --remove"}
		}
		c, err := e.connect()
		if err != nil {
			return err
		}
		target, err := findRole(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		was, err := c.GetRole(cmd.Context(), target.id)
		if err != nil {
			return err
		}
		var body apiclient.RoleUpdate
		if set("description") {
			body.Description = &description
		}
		if set("permission") || set("add") || set("remove") {
			list := append([]string{}, all...)
			if !set("permission") {
				list = slices.DeleteFunc(append(was.Value.Permissions, add...), func(p string) bool { return slices.Contains(minus, p) })
			}
			body.Permissions = &list
		}
		role, err := c.UpdateRole(cmd.Context(), was.Value, body)
		if err != nil {
			return err
		}
		return e.changed(target.id, fmt.Sprintf("Changed role %s: %s", role.Value.Name, strings.Join(role.Value.Permissions, " ")), role)
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringSliceVar(&all, "permission", nil, "all that it allows from now on")
	cmd.Flags().StringSliceVar(&add, "add", nil, "what it allows besides")
	cmd.Flags().StringSliceVar(&minus, "remove", nil, "what it no longer allows")
	for _, flag := range []string{"permission", "add"} {
		must(cmd.RegisterFlagCompletionFunc(flag, e.completion(0, permissionNames)))
	}
	return cmd
}

func newRoleDelete(e *env) *cobra.Command {
	cmd := e.onRole("delete ROLE", "Delete a role that nobody has", func(ctx context.Context, c *apiclient.Client, target named) error {
		if err := c.DeleteRole(ctx, target.id); err != nil {
			return err
		}
		return e.deleted("role", target)
	})
	cmd.Aliases = []string{"rm"}
	return cmd
}

// holder is who a role is given to, as flags name them.
type holder struct{ user, apiKey string }

func (h *holder) addTo(e *env, cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.user, "user", "", "a user, by name or id")
	cmd.Flags().StringVar(&h.apiKey, "api-key", "", "an API key, by its id")
	must(cmd.RegisterFlagCompletionFunc("user", e.completion(0, userNames)))
}

// find gives the principal that is meant; a nil id where none is named.
func (h *holder) find(ctx context.Context, c *apiclient.Client) (auth.PrincipalKind, named, error) {
	switch {
	case h.user != "" && h.apiKey != "":
		return "", named{}, usageError{"--user and --api-key do not go together"}
	case h.apiKey != "":
		id, err := uuid.Parse(h.apiKey)
		if err != nil {
			return "", named{}, usageError{"--api-key is not an id"}
		}
		return auth.PrincipalAPIKey, named{id: id, name: h.apiKey}, nil
	case h.user != "":
		target, err := findUser(ctx, c, h.user)
		return auth.PrincipalUser, target, err
	}
	return "", named{}, nil
}

func newRoleBind(e *env) *cobra.Command {
	var (
		who                holder
		platform, projects bool
	)
	cmd := &cobra.Command{
		Use: "bind ROLE", Short: "Give somebody a role", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, roleNames),
		Long: "Give somebody a role in the tenant that you act in, besides the one that they have at home. You can give what you hold there yourself.",
		Example: "  novacron role bind operator --user ada --tenant acme-web\n  novacron role bind admin --user ada --tenant acme --projects\n" +
			"  novacron role bind auditor --user eve --platform",
		RunE: func(cmd *cobra.Command, args []string) error {
			if platform && projects {
				return usageError{"--platform includes all projects, so --projects does not go with it"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			kind, target, err := who.find(cmd.Context(), c)
			if err != nil {
				return err
			}
			if target.id == uuid.Nil {
				return usageError{"who gets the role? Give --user or --api-key"}
			}
			scope := identity.ScopeTenant
			if platform {
				scope = identity.ScopePlatform
			}
			binding, err := c.BindRole(cmd.Context(), apiclient.BindingCreate{
				PrincipalKind: string(kind), PrincipalID: target.id, Role: args[0], Scope: string(scope), IncludeProjects: projects,
			})
			if err != nil {
				return err
			}
			return e.changed(binding.Value.ID, fmt.Sprintf("Gave %s the role %s %s.", target.name, args[0], whereText(binding.Value)), binding)
		},
	}
	who.addTo(e, cmd)
	cmd.Flags().BoolVar(&platform, "platform", false, "in every tenant")
	cmd.Flags().BoolVar(&projects, "projects", false, "in the projects of the tenant too")
	return cmd
}

func whereText(b auth.RoleBinding) string {
	switch {
	case b.Scope == identity.ScopePlatform:
		return "in every tenant"
	case b.IncludeProjects:
		return "in the tenant and its projects"
	}
	return "in the tenant"
}

func newRoleUnbind(e *env) *cobra.Command {
	var (
		who      holder
		platform bool
	)
	cmd := &cobra.Command{
		Use: "unbind ROLE", Short: "Take a role from somebody again", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, roleNames),
		Long:    "Take a role from somebody again. The role that a user has at home is changed with 'novacron user update'.",
		Example: "  novacron role unbind operator --user ada --tenant acme-web",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			_, target, err := who.find(cmd.Context(), c)
			if err != nil {
				return err
			}
			if target.id == uuid.Nil {
				return usageError{"who loses the role? Give --user or --api-key"}
			}
			found, err := find("role binding", "role", args[0], func(string) iter.Seq2[named, error] {
				return only(c.ListBindings(cmd.Context(), apiclient.BindingFilter{Principal: target.id, Platform: platform}),
					func(b auth.RoleBinding) named { return named{b.ID, b.Role} })
			})
			if err != nil {
				return err
			}
			if err := c.UnbindRole(cmd.Context(), found.id); err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return nil
			}
			_, err = fmt.Fprintf(e.out, "Took the role %s from %s.\n", args[0], target.name)
			return err
		},
	}
	who.addTo(e, cmd)
	cmd.Flags().BoolVar(&platform, "platform", false, "the one that counts in every tenant")
	return cmd
}

func newRoleBindings(e *env) *cobra.Command {
	var (
		who      holder
		platform bool
	)
	cmd := &cobra.Command{
		Use: "bindings", Short: "List who was given which role, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			_, target, err := who.find(cmd.Context(), c)
			if err != nil {
				return err
			}
			list, err := apiclient.Collect(c.ListBindings(cmd.Context(), apiclient.BindingFilter{Principal: target.id, Platform: platform}))
			if err != nil {
				return err
			}
			return printList(e, list, func(b auth.RoleBinding) string { return b.ID.String() }, []column[auth.RoleBinding]{
				{"ROLE", func(b auth.RoleBinding) string { return b.Role }},
				{"KIND", func(b auth.RoleBinding) string { return string(b.PrincipalKind) }},
				{"NAME", func(b auth.RoleBinding) string { return b.PrincipalName }},
				{"WHERE", whereText},
				{"SINCE", func(b auth.RoleBinding) string { return clock(b.CreatedAt) }},
				{"ID", func(b auth.RoleBinding) string { return b.ID.String() }},
			})
		},
	}
	who.addTo(e, cmd)
	cmd.Flags().BoolVar(&platform, "platform", false, "those that count in every tenant")
	return cmd
}
