package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/app"
	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/platform/buildinfo"
	"github.com/novacron/novacron/internal/platform/telemetry"
)

// newServe runs the server in the foreground until it is told to end.
func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server: all modules, or those that the configuration names", Args: cobra.NoArgs,
		Long: "Run the server in the foreground. SIGTERM or Ctrl-C ends it: requests are finished, modules are stopped, the database last. Guests run on.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags())
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			begun, out := time.Now(), cmd.ErrOrStderr()
			info := buildinfo.Get()
			return app.Run(cmd.Context(), loaded.Config, app.Options{
				Build: telemetry.Build{Version: info.Version, Commit: info.Commit, Date: info.Date},
				Reload: func() (config.Config, error) {
					again, err := config.Load(cmd.Flags())
					return again.Config, err
				},
				OnFirstAdmin: func(username, password, file string) {
					fmt.Fprintf(out, "\nFirst start. Log in as %s with the password %s\nIt is shown this once, and kept in %s until you change it.\n\n", username, password, file)
				},
				OnInner: func(address string) {
					fmt.Fprintf(out, "NovaCron is up after %.1f s: gateways reach it on https://%s\n", time.Since(begun).Seconds(), address)
				},
				OnRunning: func(address string) {
					if address != "" {
						base := "http://" + address
						if loaded.HTTP.TLS.CertFile != "" {
							base = "https://" + address
						}
						fmt.Fprintf(out, "NovaCron is up after %.1f s: API %s/api/v1, docs %s/docs\n", time.Since(begun).Seconds(), base, base)
					}
				},
			})
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// newModules prints the graph of the modules.
func newModules() *cobra.Command {
	cmd := &cobra.Command{
		Use: "modules", Short: "Show the modules, what they need and where they run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags())
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			graph, err := app.Graph(loaded.Config)
			if err != nil {
				return err
			}
			return graph.Render(cmd.OutOrStdout())
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// newConfig checks and shows the configuration.
func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check or show the configuration of the server"}
	check := &cobra.Command{
		Use: "check", Short: "List every mistake in the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags())
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			if _, err := app.Graph(loaded.Config); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "The configuration is valid.")
			return err
		},
	}
	show := &cobra.Command{
		Use: "print", Short: "Show every setting that is in force and where it came from; secrets are hidden", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags())
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			return loaded.Print(cmd.OutOrStdout())
		},
	}
	for _, sub := range []*cobra.Command{check, show} {
		config.AddFlags(sub.Flags())
		cmd.AddCommand(sub)
	}
	return cmd
}
