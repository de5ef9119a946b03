package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/platform/identity"
)

func newLogin(e *env) *cobra.Command {
	var username, passwordFile, code string
	cmd := &cobra.Command{
		Use: "login", Short: "Log in to a server", Args: cobra.NoArgs,
		Long: "Log in to a server. The tokens are kept in $XDG_CONFIG_HOME/novacron (by default ~/.config/novacron), for each server by its address, in\n" +
			"a file that only you can read. The password is asked for without echo, or comes from --password-file, " + envPasswordFile + " or\n" + envPassword + ". Where an API key is given and no --username, the key is kept instead.",
		Example: "  novacron login --api-key-file key\n  novacron login --server https://cloud.example.org --username ada\n  NOVACRON_PASSWORD=… novacron login --username admin",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			key, err := e.apiKey()
			c, err := e.connectKept(err)
			if err != nil {
				return err
			}
			if key != "" && username == "" {
				return e.loginWithKey(ctx, c, key)
			}
			if username, err = e.username(ctx, username); err != nil {
				return err
			}
			password, err := e.password(ctx, passwordFile)
			if err != nil {
				return err
			}
			if err := e.logIn(ctx, c, username, password, code); err != nil {
				return err
			}
			me, err := c.Me(ctx)
			if err != nil {
				return err
			}
			if e.forScripts() || e.quiet {
				return e.printMe(me)
			}
			_, err = fmt.Fprintf(e.out, "Logged in to %s as %s (role %s, tenant %s).\n", c.BaseURL(), me.Value.Username, me.Value.Role, me.Value.Tenant.Name)
			if err == nil && me.Value.PasswordChangeRequired {
				_, err = fmt.Fprintln(e.out, "The password is a one-time one: replace it with 'novacron passwd'. Nothing else works before.")
			} else if err == nil && me.Value.Pending == identity.PendingMFA {
				_, err = fmt.Fprintln(e.out, "A second factor is asked for here: set it up with 'novacron mfa enrol'. Nothing else works before.")
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&username, "username", "u", "", "user (default $"+envUsername+", or asked for)")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password; - reads standard input")
	cmd.Flags().StringVar(&code, "code", "", "code of the authenticator app, or a recovery code (default $"+envMFACode+", or asked for)")
	return cmd
}

// logIn proves who it is, with a second factor where the account has one.
func (e *env) logIn(ctx context.Context, c *apiclient.Client, username, password, code string) error {
	err := c.Login(ctx, username, password)
	var more *apiclient.MFARequired
	if !errors.As(err, &more) {
		return err
	}
	if code == "" {
		code = os.Getenv(envMFACode)
	}
	if code == "" {
		if code, err = e.askCode(ctx); err != nil {
			return err
		}
	}
	return c.LoginMFA(ctx, username, more.Token, code)
}

// askCode asks a person for a code.
func (e *env) askCode(ctx context.Context) (string, error) {
	if _, ok := terminal(e.in); !ok {
		return "", usageError{"a second factor is asked for, and there is no terminal: give --code, or set " + envMFACode}
	}
	fmt.Fprint(e.errOut, "Code of the authenticator app, or a recovery code: ")
	code, err := e.askLine(ctx)
	if code == "" && err == nil {
		err = usageError{"the code is empty"}
	}
	return code, err
}

// loginWithKey keeps an API key for the commands that follow.
func (e *env) loginWithKey(ctx context.Context, c *apiclient.Client, key string) error {
	me, err := c.LoginWithKey(ctx, key)
	if err != nil {
		return err
	}
	if e.forScripts() || e.quiet {
		return e.printMe(me)
	}
	_, err = fmt.Fprintf(e.out, "API key of %s at %s is kept (role %s, tenant %s).\n", me.Value.Username, c.BaseURL(), me.Value.Role, me.Value.Tenant.Name)
	return err
}

func newLogout(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session and forget its tokens", Args: cobra.NoArgs,
		Long: "End the session and forget its tokens. An API key that 'novacron login' kept is forgotten here; 'novacron apikey revoke' ends it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connectKept(nil)
			if err != nil {
				return err
			}
			if err := c.Logout(cmd.Context()); err != nil {
				return err
			}
			if !e.quiet && !e.forScripts() {
				fmt.Fprintf(e.out, "Logged out of %s.\n", c.BaseURL())
			}
			return nil
		},
	}
}

func newWhoami(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who is logged in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			me, err := c.Me(cmd.Context())
			if err != nil {
				return err
			}
			return e.printMe(me)
		},
	}
}

func (e *env) printMe(me apiclient.Object[apiclient.Me]) error {
	return printObject(e, me, func(m apiclient.Me) string { return m.ID.String() }, func(m apiclient.Me) [][]string {
		return [][]string{{"user", m.Username}, {"id", m.ID.String()}, {"e-mail", m.Email}, {"role", m.Role}, {"tenant", m.Tenant.Name},
			{"reach", m.Scope}, {"permissions", strings.Join(m.Permissions, " ")}, {"server", e.serverURL()}}
	})
}

// username finds out who wants to log in.
func (e *env) username(ctx context.Context, flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if name := os.Getenv(envUsername); name != "" {
		return name, nil
	}
	if _, ok := terminal(e.in); !ok {
		return "", usageError{"who logs in? Give --username or set " + envUsername}
	}
	fmt.Fprint(e.errOut, "Username: ")
	name, err := e.askLine(ctx)
	if name == "" && err == nil {
		err = usageError{"the user name is empty"}
	}
	return name, err
}

// maxPassword is more than the server takes.
const maxPassword = 4096

// password finds out the password. It is never an argument: those are seen by every user of the machine.
func (e *env) password(ctx context.Context, file string) (string, error) {
	if file == "" && os.Getenv(envPassword) != "" {
		return os.Getenv(envPassword), nil
	}
	if file == "" {
		file = os.Getenv(envPasswordFile)
	}
	if file == "" {
		return e.askPassword(ctx, "Password: ")
	}
	from := e.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		defer f.Close()
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxPassword))
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	password := strings.TrimRight(string(raw), "\r\n")
	if password == "" {
		return "", usageError{"the password in " + file + " is empty"}
	}
	return password, nil
}

// passwordFrom reads a password from a file, or asks for it.
func (e *env) passwordFrom(ctx context.Context, file, prompt string) (string, error) {
	if file != "" {
		return e.password(ctx, file)
	}
	return e.askPassword(ctx, prompt)
}

func (e *env) askPassword(ctx context.Context, prompt string) (string, error) {
	tty, ok := terminal(e.in)
	if !ok {
		return "", usageError{"there is no terminal to ask for the password: give --password-file, or set " + envPasswordFile + " or " + envPassword}
	}
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("prepare terminal: %w", err)
	}
	fmt.Fprint(e.errOut, prompt)
	password, err := answerOrEnd(ctx, func() (string, error) {
		raw, err := term.ReadPassword(int(tty.Fd()))
		return string(raw), err
	})
	fmt.Fprintln(e.errOut)
	if ctx.Err() != nil {
		_ = term.Restore(int(tty.Fd()), before) // the program ends; there is nothing else to do
	}
	return password, err
}

// askLine reads what a person types.
func (e *env) askLine(ctx context.Context) (string, error) {
	return answerOrEnd(ctx, func() (string, error) {
		line, err := bufio.NewReaderSize(onlyReader{e.in}, 16).ReadString('\n')
		return strings.TrimSpace(line), err
	})
}

// onlyReader reads byte by byte, so that nothing behind the line is swallowed.
type onlyReader struct{ io.Reader }

func (r onlyReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// answerOrEnd waits for a person, but no longer than ctx. What still reads then ends with the program.
func answerOrEnd(ctx context.Context, ask func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := ask()
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// confirm asks before something that cannot be undone. Where nobody sits at a terminal nobody is asked.
func (e *env) confirm(ctx context.Context, question string) error {
	if _, ok := terminal(e.in); !ok {
		return nil
	}
	fmt.Fprintf(e.errOut, "%s [y/N] ", question)
	answer, err := e.askLine(ctx)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		fmt.Fprintln(e.errOut, "Nothing was done.")
		return toldError{exitFailure}
	}
	return nil
}
