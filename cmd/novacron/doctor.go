package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/config"
	"github.com/novacron/novacron/internal/doctor"
)

func newDoctor(e *env) *cobra.Command {
	var fixes bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check this host: what keeps it from running NovaCron well, and what to do", Args: cobra.NoArgs,
		Long: "Check this host: processor, KVM, libvirt, QEMU, PostgreSQL, room, memory, clock and what else the server needs. Nothing is changed.\n" +
			"The settings come from the server's configuration, as 'novacron serve' reads it. The exit code is 1 where something would not work.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.readOutput(); err != nil {
				return err
			}
			// A mistake in the configuration is one more finding; what could be read of it, and the defaults, serve for the others.
			loaded, err := config.Load(cmd.Flags())
			results := doctor.Examine(cmd.Context(), doctor.Local(runtime.GOARCH), doctor.Options{DataDir: loaded.DataDir, LibvirtURI: loaded.VM.Libvirt.URI, Accel: loaded.VM.Libvirt.Accel,
				Listen: loaded.HTTP.Listen, DatabaseURL: loaded.Database.URL})
			if cmd.Context().Err() != nil {
				return cmd.Context().Err()
			}
			configuration := doctor.Result{Check: "configuration", Status: doctor.OK, Found: "valid"}
			if err != nil {
				configuration = doctor.Result{Check: "configuration", Status: doctor.Fail, Found: strings.ReplaceAll(err.Error(), "\n", "; "),
					Action: "Correct it; 'novacron config check' shows every mistake."}
			}
			return e.printFindings(append([]doctor.Result{configuration}, results...), fixes)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&fixes, "fix-hint", false, "print only the commands that would help, for you to read and run")
	return cmd
}

func (e *env) printFindings(results []doctor.Result, fixes bool) error {
	var err error
	switch {
	case e.forScripts():
		err = e.document(results)
	case fixes:
		e.printFixes(results)
	default:
		err = e.printReport(results)
	}
	if err == nil && doctor.Worst(results) == doctor.Fail {
		err = toldError{exitFailure}
	}
	return err
}

// printFixes prints commands, each after what it is for.
func (e *env) printFixes(results []doctor.Result) {
	for _, r := range results {
		if r.Status != doctor.OK && r.Fix != "" {
			fmt.Fprintf(e.out, "# %s: %s\n%s\n", r.Check, printable(r.Found), r.Fix)
		}
	}
}

func (e *env) printReport(results []doctor.Result) error {
	var rows [][]string
	count := map[doctor.Status]int{}
	for _, r := range results {
		count[r.Status]++
		if !e.quiet || r.Status != doctor.OK {
			rows = append(rows, []string{r.Check, e.coloured(string(r.Status)), printable(r.Found)})
		}
	}
	if len(rows) > 0 {
		if err := writeTable(e.out, []string{"CHECK", "STATUS", "FOUND"}, rows); err != nil {
			return err
		}
	}
	if e.quiet {
		return nil
	}
	fmt.Fprintln(e.out)
	for _, r := range results {
		if r.Action == "" || r.Status == doctor.OK {
			continue
		}
		fmt.Fprintf(e.out, "%s: %s\n", r.Check, r.Action)
		if r.Fix != "" {
			fmt.Fprintf(e.out, "    %s\n", r.Fix)
		}
	}
	_, err := fmt.Fprintf(e.out, "%d good, %d could be better, %d would not work.\n", count[doctor.OK], count[doctor.Warn], count[doctor.Fail])
	return err
}
