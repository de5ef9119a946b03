package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/doctor"
)

func newDoctor(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check whether this host can run NovaCron, and say what to do where it cannot", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags())
			if err != nil {
				return fmt.Errorf("the configuration is not valid:\n%w", err)
			}
			findings := doctor.Examine(cmd.Context(), doctor.Host(), doctor.Settings{DataDir: loaded.DataDir, LibvirtURI: loaded.VM.Libvirt.URI,
				Accel: loaded.VM.Libvirt.Accel, PrivateDatabase: loaded.Database.URL == ""})
			items := make([]json.RawMessage, len(findings))
			failed := 0
			for i, f := range findings {
				if f.Status == doctor.Fail {
					failed++
				}
				if items[i], err = json.Marshal(f); err != nil {
					return fmt.Errorf("encode finding: %w", err)
				}
			}
			if err := c.print(cmd.OutOrStdout(), items, false, col("status", "status"), col("check", "name"), col("found", "found"), col("what to do", "action")); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d checks failed", failed)
			}
			return nil
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}
