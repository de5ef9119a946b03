package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/apiclient/contextfile"
	"github.com/novacron/novacron/internal/apiclient/tokenfile"
)

// choose finds out which context is meant, if any: --context, then what names a server by its address, then $NOVACRON_CONTEXT, then the current one.
func (e *env) choose() error {
	if e.chosen.Name != "" {
		return nil
	}
	name := e.context
	switch {
	case name != "" && e.server != "":
		return usageError{"--context and --server name a server each; give one"}
	case e.server != "":
		return nil
	case name == "":
		name = os.Getenv(envContext)
	}
	path, err := contextfile.Path()
	if err != nil {
		return err
	}
	file, err := contextfile.Read(path)
	if err != nil {
		return err
	}
	if name == "" {
		if os.Getenv(envServer) != "" || file.Current == "" {
			return nil
		}
		name = file.Current
	}
	chosen, found := file.Find(name)
	if !found {
		return usageError{fmt.Sprintf("there is no context named %q; see 'novacron context list'", name)}
	}
	e.chosen = chosen
	return nil
}

// logins gives where the login to the server that is meant is kept.
func (e *env) logins() (tokenfile.Store, error) {
	if err := e.choose(); err != nil {
		return tokenfile.Store{}, err
	}
	path, err := tokenfile.Path()
	key := strings.TrimRight(e.serverURL(), "/")
	if e.chosen.Name != "" {
		key = e.chosen.LoginKey()
	}
	return tokenfile.Store{Path: path, Server: key}, err
}

// roots gives the authorities that the context trusts; nil: those of the system.
func (e *env) roots() (*x509.CertPool, error) {
	if e.chosen.CAFile == "" {
		return nil, nil
	}
	return readRoots(e.chosen.CAFile)
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificates of the server's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usageError{file + " holds no certificate"}
	}
	return pool, nil
}

func completeContext(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if path, err := contextfile.Path(); err == nil {
		if file, err := contextfile.Read(path); err == nil {
			for _, c := range file.Contexts {
				names = append(names, c.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func newContext(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Servers that you use, by a name of your own",
		Long: "Servers that you use, by a name of your own. Each context has a login of its own. The current one is meant where neither --context nor\n--server, nor their environment variables, name another."}
	cmd.AddCommand(newContextList(e), newContextAdd(e), newContextUse(e), newContextRemove(e))
	return cmd
}

func newContextList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List contexts", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := e.readOutput(); err != nil {
				return err
			}
			path, err := contextfile.Path()
			if err != nil {
				return err
			}
			file, err := contextfile.Read(path)
			if err != nil {
				return err
			}
			items := make([]apiclient.Object[contextfile.Context], len(file.Contexts))
			for i, c := range file.Contexts {
				items[i].Value = c
			}
			return printList(e, items, func(c contextfile.Context) string { return c.Name }, []column[contextfile.Context]{
				{"CURRENT", func(c contextfile.Context) string {
					if c.Name == file.Current {
						return "*"
					}
					return ""
				}},
				{"NAME", func(c contextfile.Context) string { return c.Name }},
				{"SERVER", func(c contextfile.Context) string { return printable(c.Server) }},
				{"TENANT", func(c contextfile.Context) string { return printable(c.Tenant) }},
				{"CA FILE", func(c contextfile.Context) string { return printable(c.CAFile) }},
			})
		},
	}
}

// contextName is what a context may be called: it must look like a word in a shell.
var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func newContextAdd(e *env) *cobra.Command {
	var c contextfile.Context
	var use bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a context, or change it", Args: cobra.ExactArgs(1), ValidArgsFunction: completeContext,
		Long: "Add a context, or change the one of that name. The first one becomes the current one.",
		Example: "  novacron context add prod --server https://cloud.example.org --ca-file ~/novacron-ca.crt --use\n" +
			"  novacron login --context prod",
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Name, c.Server, c.Tenant = args[0], strings.TrimRight(e.server, "/"), e.tenant
			if !contextName.MatchString(c.Name) {
				return usageError{fmt.Sprintf("%q is no name for a context: letters, digits and ._-, 64 at most", c.Name)}
			}
			if c.Server == "" {
				return usageError{"which server? Give --server"}
			}
			if _, err := apiclient.New(apiclient.Config{BaseURL: c.Server}); err != nil {
				return err
			}
			if c.CAFile != "" {
				if _, err := readRoots(c.CAFile); err != nil {
					return err
				}
				full, err := filepath.Abs(c.CAFile) // it must mean the same in another folder
				if err != nil {
					return fmt.Errorf("find %s: %w", c.CAFile, err)
				}
				c.CAFile = full
			}
			err := e.changeContexts(cmd.Context(), func(f *contextfile.File) error {
				f.Set(c)
				if use || len(f.Contexts) == 1 {
					f.Current = c.Name
				}
				return nil
			})
			return e.done(err, "Context %s is %s.\n", c.Name, c.Server)
		},
	}
	cmd.Flags().StringVar(&c.CAFile, "ca-file", "", "certificates, in PEM, that the server's is checked against (default: those of the system)")
	cmd.Flags().BoolVar(&use, "use", false, "make it the current one")
	return cmd
}

func newContextUse(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: cobra.ExactArgs(1), ValidArgsFunction: completeContext,
		RunE: func(cmd *cobra.Command, args []string) error {
			var chosen contextfile.Context
			err := e.changeContexts(cmd.Context(), func(f *contextfile.File) (err error) {
				chosen, err = known(*f, args[0])
				f.Current = args[0]
				return err
			})
			return e.done(err, "The current context is %s, %s.\n", chosen.Name, chosen.Server)
		},
	}
}

func newContextRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Forget a context and its login", Args: cobra.ExactArgs(1), ValidArgsFunction: completeContext,
		Long: "Forget a context and its login. 'novacron logout --context NAME' before ends the session on the server, too.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var gone contextfile.Context
			err := e.changeContexts(cmd.Context(), func(f *contextfile.File) (err error) {
				gone, err = known(*f, args[0])
				f.Remove(args[0])
				return err
			})
			if err == nil {
				var path string
				if path, err = tokenfile.Path(); err == nil {
					forget := func(apiclient.Tokens) (apiclient.Tokens, error) { return apiclient.Tokens{}, nil }
					err = tokenfile.Store{Path: path, Server: gone.LoginKey()}.Update(cmd.Context(), forget)
				}
			}
			return e.done(err, "Context %s is forgotten.\n", gone.Name)
		},
	}
}

func known(f contextfile.File, name string) (contextfile.Context, error) {
	c, found := f.Find(name)
	if !found {
		return c, usageError{fmt.Sprintf("there is no context named %q; see 'novacron context list'", name)}
	}
	return c, nil
}

func (e *env) changeContexts(ctx context.Context, change func(*contextfile.File) error) error {
	path, err := contextfile.Path()
	if err != nil {
		return err
	}
	return contextfile.Update(ctx, path, change)
}

// done tells a person what was done; programs see that from the exit code.
func (e *env) done(err error, format string, args ...any) error {
	if err != nil || e.quiet || e.forScripts() {
		return err
	}
	_, err = fmt.Fprintf(e.out, format, args...)
	return err
}
