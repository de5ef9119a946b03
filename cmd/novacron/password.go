package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/app"
	"github.com/novacron/novacron/internal/config"
)

// newPassword holds what helps who has forgotten a password; who knows theirs uses passwd.
func newPassword(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "password", Short: "Reset a forgotten password with a link; 'novacron passwd' changes one that you know"}
	cmd.AddCommand(newPasswordForgot(e), newPasswordReset(e))
	return cmd
}

func newPasswordForgot(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "forgot EMAIL", Short: "Have a link mailed to you", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connectKept(nil)
			if err != nil {
				return err
			}
			return e.done(c.ForgotPassword(cmd.Context(), args[0]), "If an account has this address, a mail with a link is on its way.\n")
		},
	}
}

func newPasswordReset(e *env) *cobra.Command {
	var tokenFile, nextFile string
	cmd := &cobra.Command{
		Use: "reset", Short: "Set a new password with the token of a link", Args: cobra.NoArgs,
		Long: "Set a new password with the token of a link, from a mail or from an administrator. All sessions of the account end.\n" +
			"Token and password are asked for without echo, or come from files.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := e.connectKept(nil)
			if err != nil {
				return err
			}
			token, err := e.passwordFrom(ctx, tokenFile, "Token, or the whole link: ")
			if err != nil {
				return err
			}
			if _, end, isLink := strings.Cut(token, "token="); isLink {
				token = end
			}
			next, err := e.passwordFrom(ctx, nextFile, "New password: ")
			if err != nil {
				return err
			}
			return e.done(c.UseResetLink(ctx, token, next), "The password is set. Log in with it: novacron login\n")
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the token; - reads standard input")
	cmd.Flags().StringVar(&nextFile, "new-password-file", "", "file with the new password")
	return cmd
}

func newUserPasswordLink(e *env) *cobra.Command {
	cmd := e.onUser("password-link USER", "Make a link with which a user can set a password", func(ctx context.Context, c *apiclient.Client, target named) error {
		link, err := c.NewResetLink(ctx, target.id)
		if err != nil {
			return err
		}
		if e.forScripts() {
			return e.document(link)
		}
		url := link.Value.URL
		if strings.HasPrefix(url, "/") { // the server does not know its own address; we know one
			url = c.BaseURL() + url
		}
		if e.quiet {
			_, err = fmt.Fprintln(e.out, url)
			return err
		}
		_, err = fmt.Fprintf(e.out, "Hand this link to %s. It works once, until %s, for whoever has it:\n%s\n", target.name, clock(link.Value.ExpiresAt), printable(url))
		return err
	})
	cmd.Long = "Make a link with which a user can set a password. It is shown this one time. The password stays as it is until the link is used."
	return cmd
}

func newUserResetMFA(e *env) *cobra.Command {
	var sure bool
	cmd := e.onUser("reset-mfa USER", "Take away the second factor of a user who has lost it", func(ctx context.Context, c *apiclient.Client, target named) error {
		if !sure {
			if err := e.confirm(ctx, fmt.Sprintf("Take away the second factor of %s and end their sessions?", target.name)); err != nil {
				return err
			}
		}
		return e.done(c.ResetMFA(ctx, target.id), "The second factor of %s is gone, and their sessions have ended.\n", target.name)
	})
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask")
	return cmd
}

// newAuthResetPassword is the way back in where nobody can log in any more. It needs the host, not the API.
func newAuthResetPassword(e *env) *cobra.Command {
	var req app.RescueRequest
	cmd := &cobra.Command{
		Use: "reset-password USER", Short: "On the server's host: give an account a one-time password, when nobody can log in", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Give an account a one-time password, by way of the data folder and the database instead of the API. Run it on the host of the server, as who runs\n" +
			"the server, with the same configuration; the server may run or not. All sessions of the account end, within half a minute where a server runs.",
		Example: "  sudo novacron auth reset-password admin\n  sudo novacron auth reset-password admin --disable-mfa --enable",
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(cmd.Flags())
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			if loaded.Database.URL == "" {
				if _, err := os.Stat(loaded.DataDir); err != nil {
					return fmt.Errorf("find the data folder: %w", err) // rather than make a new installation
				}
			}
			req.Username = args[0]
			user, oneTime, err := app.Rescue(cmd.Context(), loaded.Config, req, e.errOut)
			if err != nil {
				return err
			}
			if e.quiet {
				_, err = fmt.Fprintln(e.out, oneTime)
				return err
			}
			return e.tellOneTime(fmt.Sprintf("Reset the password of %s (role %s)", user.Username, user.Role), oneTime)
		},
	}
	cmd.Flags().BoolVar(&req.DisableMFA, "disable-mfa", false, "take its second factor away, too")
	cmd.Flags().BoolVar(&req.Enable, "enable", false, "enable the account and its tenant, too")
	cmd.Flags().BoolVar(&req.Admin, "make-admin", false, "give it the role admin, too")
	config.AddFlags(cmd.Flags())
	return cmd
}
