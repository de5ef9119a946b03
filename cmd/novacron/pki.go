package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/pki"
)

// newPKI manages the installation's own certificate authority, on the host that holds it.
func newPKI(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "pki", Short: "Make certificates with the installation's own authority",
		Long: "Make certificates with the installation's own authority, for TLS between clients, servers and nodes.\n" +
			"The authority is a folder, pki in the data folder where --dir says nothing else. Keep it on one host; others need ca.crt and what was issued to them."}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "dir", filepath.Join(config.DefaultDataDir, "pki"), "folder of the authority")
	cmd.AddCommand(newPKIInit(e, &dir), newPKIIssue(e, &dir))
	return cmd
}

func newPKIInit(e *env, dir *string) *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "init", Short: "Make the authority", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := pki.Init(*dir, name); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.out, "The authority is in %s. Give %s to everybody who shall trust it, and its key to nobody.\n", *dir, filepath.Join(*dir, "ca.crt"))
			return err
		}}
	cmd.Flags().StringVar(&name, "name", "NovaCron", "name of the authority, for people")
	return cmd
}

func newPKIIssue(e *env, dir *string) *cobra.Command {
	var hosts []string
	var out string
	cmd := &cobra.Command{Use: "issue NAME", Short: "Make a certificate and its key", Args: cobra.ExactArgs(1),
		Long: "Make a certificate and its key, NAME.crt and NAME.key, and put ca.crt beside them. With --host it is one for a server, which can be a client, too.",
		Example: "  novacron pki issue control --host control.example.org --host 192.0.2.10 --out /etc/novacron/tls\n" +
			"  novacron pki issue node-7",
		RunE: func(_ *cobra.Command, args []string) error {
			ca, err := pki.Open(*dir)
			if err != nil {
				return fmt.Errorf("%w; 'novacron pki init' makes one", err)
			}
			folder := out
			if folder == "" {
				folder = filepath.Join(*dir, "issued")
			}
			cert, key, err := ca.IssueTo(folder, pki.Request{Name: args[0], Hosts: hosts})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.out, "%s\n%s\nvalid until %s\n", cert, key, time.Now().Add(pki.Life).Format(time.DateOnly))
			return err
		}}
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "host name or address that the server is reached by; may be given several times")
	cmd.Flags().StringVar(&out, "out", "", "folder for the files (default issued, in the folder of the authority)")
	return cmd
}
