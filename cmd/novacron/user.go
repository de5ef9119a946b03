package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
)

func newUser(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Users"}
	cmd.AddCommand(newUserList(e), newUserCreate(e), newUserShow(e), newUserUpdate(e), newUserDisable(e, "disable", "End a user's sessions and let them in no more", true),
		newUserDisable(e, "enable", "Let a disabled user in again", false), newUserResetPassword(e), newUserPasswordLink(e), newUserResetMFA(e), newUserDelete(e))
	return cmd
}

func userID(u auth.User) string { return u.ID.String() }

func userNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListUsers(ctx, "", false, completeMost), func(u auth.User) named { return named{u.ID, u.Username} })
}

// findUser finds a user of the tenant, or of any for who may see them all.
func findUser(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	found, err := find("user", "user", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListUsers(ctx, name, false, 0), func(u auth.User) named { return named{u.ID, u.Username} })
	})
	var missing *apiclient.Error
	if err == nil || !errors.As(err, &missing) || missing.Status != http.StatusNotFound {
		return found, err
	}
	everywhere, other := find("user", "user", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListUsers(ctx, name, true, 0), func(u auth.User) named { return named{u.ID, u.Username} })
	})
	if other != nil {
		return found, err
	}
	return everywhere, nil
}

func newUserList(e *env) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List users, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			users, err := apiclient.Collect(c.ListUsers(cmd.Context(), "", all, 0))
			if err != nil {
				return err
			}
			return printList(e, users, userID, []column[auth.User]{
				{"NAME", func(u auth.User) string { return u.Username }},
				{"ROLE", func(u auth.User) string { return u.Role }},
				{"E-MAIL", func(u auth.User) string { return printable(u.Email) }},
				{"DISABLED", func(u auth.User) string { return yes(u.Disabled) }},
				{"TENANT", func(u auth.User) string { return u.TenantID.String() }},
				{"ID", userID},
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those of every tenant")
	return cmd
}

func newUserCreate(e *env) *cobra.Command {
	var (
		body         apiclient.UserCreate
		passwordFile string
	)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a user", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long:    "Create a user. Without --password-file a one-time password is made up and printed: hand it over; it must be replaced at the first login.",
		Example: "  novacron user create ada --role operator --email ada@example.org\n  novacron user create bob --tenant acme",
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Username = args[0]
			if passwordFile != "" {
				var err error
				if body.Password, err = e.password(cmd.Context(), passwordFile); err != nil {
					return err
				}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			user, err := c.CreateUser(cmd.Context(), body)
			if err != nil {
				return err
			}
			u := user.Value
			if e.quiet || e.forScripts() || u.OneTimePassword == "" {
				return e.made(u.ID, "user "+u.Username, user)
			}
			return e.tellOneTime("Created user "+u.Username, u.OneTimePassword)
		},
	}
	cmd.Flags().StringVar(&body.Email, "email", "", "e-mail address")
	cmd.Flags().StringVar(&body.Role, "role", "", "what the user may do in their own tenant (default user)")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password; - reads standard input")
	must(cmd.RegisterFlagCompletionFunc("role", e.completion(0, roleNames)))
	return cmd
}

// tellOneTime shows a one-time password, which nobody can show again.
func (e *env) tellOneTime(done, password string) error {
	_, err := fmt.Fprintf(e.out, "%s. One-time password, shown this once: %s\nIt must be replaced at the next login: novacron passwd\n", done, password)
	return err
}

// onUser makes a command that does one thing to one user.
func (e *env) onUser(use, short string, do func(ctx context.Context, c *apiclient.Client, target named) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, userNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findUser(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return do(cmd.Context(), c, target)
		},
	}
}

func newUserShow(e *env) *cobra.Command {
	return e.onUser("show USER", "Show a user", func(ctx context.Context, c *apiclient.Client, target named) error {
		user, err := c.GetUser(ctx, target.id)
		if err != nil {
			return err
		}
		return printObject(e, user, userID, func(u auth.User) [][]string {
			fields := [][]string{{"name", u.Username}, {"id", u.ID.String()}, {"e-mail", printable(u.Email)}, {"role", u.Role}, {"tenant", u.TenantID.String()},
				{"disabled", yes(u.Disabled)}, {"second factor", yes(u.MFAEnabled)}, {"one-time password", yes(u.PasswordChangeRequired)}, {"created", clock(u.CreatedAt)}}
			if u.LastLoginAt != nil {
				fields = append(fields, []string{"last login", clock(*u.LastLoginAt)})
			}
			return fields
		})
	})
}

func newUserUpdate(e *env) *cobra.Command {
	var email, role string
	cmd := e.onUser("update USER", "Change the role or the e-mail address of a user", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var body apiclient.UserUpdate
		if cmd.Flags().Changed("email") {
			body.Email = &email
		}
		if cmd.Flags().Changed("role") {
			body.Role = &role
		}
		if body == (apiclient.UserUpdate{}) {
			return usageError{"what is to change? Give --role or --email"}
		}
		c, err := e.connect()
		if err != nil {
			return err
		}
		target, err := findUser(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		user, err := c.UpdateUser(cmd.Context(), target.id, body)
		if err != nil {
			return err
		}
		return e.changed(target.id, fmt.Sprintf("Changed user %s.", user.Value.Username), user)
	}
	cmd.Flags().StringVar(&email, "email", "", "e-mail address; empty takes it away")
	cmd.Flags().StringVar(&role, "role", "", "what the user may do in their own tenant")
	must(cmd.RegisterFlagCompletionFunc("role", e.completion(0, roleNames)))
	return cmd
}

func newUserDisable(e *env, verb, short string, disabled bool) *cobra.Command {
	return e.onUser(verb+" USER", short, func(ctx context.Context, c *apiclient.Client, target named) error {
		user, err := c.UpdateUser(ctx, target.id, apiclient.UserUpdate{Disabled: &disabled})
		if err != nil {
			return err
		}
		return e.changed(target.id, fmt.Sprintf("User %s is %sd.", user.Value.Username, verb), user)
	})
}

func newUserResetPassword(e *env) *cobra.Command {
	var (
		passwordFile string
		keep         bool
	)
	cmd := e.onUser("reset-password USER", "Give a user another password and end their sessions", func(ctx context.Context, c *apiclient.Client, target named) error {
		if passwordFile == "" {
			given, err := c.GiveOneTimePassword(ctx, target.id)
			if err != nil {
				return err
			}
			switch {
			case e.quiet:
				_, err = fmt.Fprintln(e.out, given.Value.OneTimePassword)
				return err
			case e.forScripts():
				return e.document(given)
			}
			return e.tellOneTime("Reset the password of "+target.name, given.Value.OneTimePassword)
		}
		password, err := e.password(ctx, passwordFile)
		if err != nil {
			return err
		}
		if err := c.SetPassword(ctx, target.id, password, !keep); err != nil {
			return err
		}
		if e.quiet || e.forScripts() {
			return nil
		}
		_, err = fmt.Fprintf(e.out, "Set the password of %s.\n", target.name)
		return err
	})
	cmd.Long = "Give a user another password and end their sessions. Without --password-file a one-time password is made up and printed."
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password; - reads standard input")
	cmd.Flags().BoolVar(&keep, "keep", false, "the user need not replace the password from the file at the next login")
	return cmd
}

func newUserDelete(e *env) *cobra.Command {
	var sure bool
	cmd := e.onUser("delete USER", "Delete a user; what they made stays", func(ctx context.Context, c *apiclient.Client, target named) error {
		if !sure {
			if err := e.confirm(ctx, fmt.Sprintf("Delete the user %s?", target.name)); err != nil {
				return err
			}
		}
		if err := c.DeleteUser(ctx, target.id); err != nil {
			return err
		}
		return e.deleted("user", target)
	})
	cmd.Aliases = []string{"rm"}
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask")
	return cmd
}

func newPasswd(e *env) *cobra.Command {
	var currentFile, nextFile string
	cmd := &cobra.Command{
		Use: "passwd", Short: "Change your own password", Args: cobra.NoArgs,
		Long: "Change your own password; all your other sessions end. Both passwords are asked for without echo, or come from files.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			current, err := e.passwordFrom(ctx, currentFile, "Current password: ")
			if err != nil {
				return err
			}
			next, err := e.passwordFrom(ctx, nextFile, "New password: ")
			if err != nil {
				return err
			}
			if err := c.ChangePassword(ctx, current, next); err != nil {
				return err
			}
			if !e.quiet && !e.forScripts() {
				_, err = fmt.Fprintln(e.out, "Your password is changed; all your other sessions have ended.")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&currentFile, "password-file", "", "file with the current password; - reads standard input")
	cmd.Flags().StringVar(&nextFile, "new-password-file", "", "file with the new password")
	return cmd
}
