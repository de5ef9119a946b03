package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/buildinfo"
)

func newLogin(c *cli) *cobra.Command {
	var username, passwordFile string
	cmd := &cobra.Command{
		Use: "login", Short: "Log in to a server and keep the tokens", Args: args(cobra.NoArgs),
		Long: "Log in to a server. The password is asked for, or taken from --password-file or NOVACRON_PASSWORD. The tokens are kept in novacron/sessions.json " +
			"in your configuration folder, in a file that only you can read.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if username == "" {
				if username, err = ask(cmd, "User name: "); err != nil {
					return err
				}
			}
			password := os.Getenv("NOVACRON_PASSWORD")
			switch {
			case passwordFile != "":
				content, err := os.ReadFile(passwordFile)
				if err != nil {
					return fmt.Errorf("read password: %w", err)
				}
				password = strings.TrimRight(string(content), "\r\n")
			case password == "":
				if password, err = askSecret(cmd, "Password: "); err != nil {
					return err
				}
			}
			if err := client.Login(cmd.Context(), username, password); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Logged in to %s as %s.\n", client.Server, username)
			return nil
		},
	}
	cmd.Flags().StringVarP(&username, "username", "u", os.Getenv("NOVACRON_USERNAME"), "user name")
	cmd.Flags().StringVar(&passwordFile, "password-file", os.Getenv("NOVACRON_PASSWORD_FILE"), "file that holds the password")
	return cmd
}

// ask reads a line.
func ask(cmd *cobra.Command, prompt string) (string, error) {
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && line == "" {
		return "", usageError{fmt.Errorf("read answer: %w", err)}
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// askSecret reads a line without showing it, on a terminal.
func askSecret(cmd *cobra.Command, prompt string) (string, error) {
	f, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return ask(cmd, prompt)
	}
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	secret, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(cmd.ErrOrStderr())
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return string(secret), nil
}

func newLogout(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session on the server and forget the tokens", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			sessions, err := apiclient.OpenSessions()
			if err != nil {
				return err
			}
			err = client.Logout(cmd.Context())
			var refused *apiclient.Error
			if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
				err = nil // the session has ended already
			}
			return errors.Join(err, sessions.Set(client.Server, apiclient.Tokens{}))
		},
	}
}

func newWhoami(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who you are to the server", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			var me json.RawMessage
			if err := client.Do(cmd.Context(), http.MethodGet, "/api/v1/me", nil, &me); err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), []json.RawMessage{me}, true, col("user", "username"), col("role", "role"), col("tenant", "tenant_id"))
		},
	}
}

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show which program this is", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := buildinfo.Get()
			if c.output != "table" {
				return c.printValue(cmd.OutOrStdout(), info)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "novacron %s (commit %s, %s)\n", info.Version, info.Commit, info.Go)
			return err
		},
	}
}
