package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/apiclient/contextfile"
	"github.com/novacron/novacron/internal/auth"
)

// env is what the commands share: where they read and write, and the flags that all of them take.
type env struct {
	in          io.Reader
	out, errOut io.Writer

	server  string
	context string
	tenant  string
	keyFile string
	output  outputFormat
	quiet   bool

	chosen contextfile.Context // by choose; empty: none

	running bool // a command has begun; what fails before is a mistake in how it was called
}

// run is the program without the process around it. It gives the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	e := &env{in: in, out: out, errOut: errOut}
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	return e.conclude(cmd, err)
}

// The groups of commands in the help.
const (
	groupCloud  = "cloud"
	groupServer = "server"
)

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use: "novacron", Short: "Turn KVM hosts into a cloud", SilenceErrors: true, SilenceUsage: true,
		Long: "NovaCron turns KVM hosts into a cloud. 'novacron serve' is the server; the other commands speak to one over its REST API.\n\n" +
			"Exit codes:\n" + exitCodesText() + "\nEnvironment:\n" + environmentText(),
	}
	root.AddGroup(&cobra.Group{ID: groupCloud, Title: "Use a cloud:"}, &cobra.Group{ID: groupServer, Title: "Run a server:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add(groupCloud, newLogin(e), newLogout(e), newWhoami(e), newVM(e), newVolume(e), newStoragePool(e), newImage(e), newNetwork(e), newSecurityGroup(e), newPortForward(e), newNode(e), newDrift(e), newOperation(e), newFlavor(e), newSSHKey(e), newTemplate(e), newEvents(e), newWebhook(e),
		newUser(e), newTenant(e), newRole(e), newPasswd(e), newPassword(e), newMFA(e), newSession(e), newContext(e), newAPIKey(e), newServiceAccount(e), newAuth(e), newAudit(e))
	add(groupServer, newServe(), newModules(), newConfig(), newDoctor(e), newPKI(e))
	root.AddCommand(newVersion(e))

	flags := root.PersistentFlags()
	flags.StringVar(&e.server, "server", "", "address of the server (default $"+envServer+", or "+defaultServer+")")
	flags.StringVar(&e.context, "context", "", "server to use, by the name of a context (default $"+envContext+", or the current one; see 'novacron context')")
	flags.StringVar(&e.tenant, "tenant", "", "tenant to act in, by name or id (default $"+envTenant+", or your own)")
	flags.StringVar(&e.keyFile, "api-key-file", "", "file with an API key to use instead of a login (default $"+envAPIKeyFile+", or the key in $"+envAPIKey+")")
	flags.VarP(&e.output, "output", "o", "table, json or yaml (default $"+envOutput+", or table)")
	flags.BoolVarP(&e.quiet, "quiet", "q", false, "print ids only, and no progress")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)))
	must(root.RegisterFlagCompletionFunc("tenant", e.completion(0, func(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
		return only(c.MyTenants(ctx), func(t auth.Tenant) named { return named{t.ID, t.Name} })
	})))
	must(root.RegisterFlagCompletionFunc("context", completeContext))
	must(root.RegisterFlagCompletionFunc("server", cobra.NoFileCompletions))
	e.prepare(root)
	return root
}

// prepare goes through the tree: a command that only groups others refuses names it does not know, and each command notes that it began.
func (e *env) prepare(cmd *cobra.Command) {
	if !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.SuggestionsMinimumDistance = 2
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			text := fmt.Sprintf("unknown command %q of %q", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usageError{text}
		}
	}
	begin := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e.running = true
		return begin(cmd, args)
	}
	for _, sub := range cmd.Commands() {
		e.prepare(sub)
	}
}

// must stops the program where it was put together wrongly.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// The environment variables of the client. Those of the server are the settings of its configuration.
const (
	envServer       = "NOVACRON_SERVER"
	envUsername     = "NOVACRON_USERNAME"
	envPassword     = "NOVACRON_PASSWORD"
	envPasswordFile = "NOVACRON_PASSWORD_FILE"
	envOutput       = "NOVACRON_OUTPUT"
	envTenant       = "NOVACRON_TENANT"
	envContext      = "NOVACRON_CONTEXT"
	envMFACode      = "NOVACRON_MFA_CODE"
	envAPIKey       = "NOVACRON_API_KEY"
	envAPIKeyFile   = "NOVACRON_API_KEY_FILE"
)

const defaultServer = "http://127.0.0.1:8080"

func environmentText() string {
	var b strings.Builder
	for _, v := range [][2]string{
		{envServer, "address of the server, where --server is not given"},
		{envUsername, "user of 'novacron login', where --username is not given"},
		{envPassword, "password of 'novacron login'"},
		{envPasswordFile, "file with the password, where --password-file is not given"},
		{envMFACode, "code of the second factor for 'novacron login'"},
		{envContext, "context to use, where --context is not given"},
		{envTenant, "tenant to act in, where --tenant is not given"},
		{envAPIKey, "API key to use instead of a login"},
		{envAPIKeyFile, "file with the API key, where --api-key-file is not given"},
		{envOutput, "form of the output, where --output is not given"},
		{"NO_COLOR", "no colours, whatever its value"},
		{"SSL_CERT_FILE", "certificates that the server's is checked against"},
	} {
		fmt.Fprintf(&b, "  %-23s %s\n", v[0], v[1])
	}
	return b.String()
}

// tenantName gives the tenant that is meant; empty: the caller's own.
func (e *env) tenantName() string {
	if e.tenant != "" {
		return e.tenant
	}
	if tenant := os.Getenv(envTenant); tenant != "" {
		return tenant
	}
	return e.chosen.Tenant
}

// serverURL gives the address of the server that is meant.
func (e *env) serverURL() string {
	switch {
	case e.server != "":
		return e.server
	case e.chosen.Server != "":
		return e.chosen.Server
	case os.Getenv(envServer) != "":
		return os.Getenv(envServer)
	default:
		return defaultServer
	}
}
