package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/platform/buildinfo"
)

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show which program this is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := e.readOutput(); err != nil {
				return err
			}
			info := buildinfo.Get()
			if e.quiet {
				_, err := fmt.Fprintln(e.out, info.Version)
				return err
			}
			if e.forScripts() {
				return e.document(info)
			}
			return writeTable(e.out, nil, [][]string{{"novacron", info.Version}, {"commit", info.Commit}, {"date", info.Date}, {"built with", info.Go}})
		},
	}
}
