package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVMCDROM(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "cdrom", Short: "The disc in the drive of a machine"}
	insert := &cobra.Command{
		Use: "insert VM IMAGE", Short: "Put an ISO image into the drive, in place of what is in it", Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			names := vmNames
			if len(args) == 1 {
				names = imageNames
			}
			return e.completion(2, names)(cmd, args, word)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, machine, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			image, err := findImage(cmd.Context(), c, args[1])
			if err != nil {
				return err
			}
			m, err := c.InsertDisc(cmd.Context(), machine.id, image.id)
			return e.discChanged(m, fmt.Sprintf("Inserted %s into the drive of %s.", printable(image.name), printable(machine.name)), err)
		},
	}
	eject := &cobra.Command{
		Use: "eject VM", Short: "Take the disc out of the drive", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, machine, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			m, err := c.EjectDisc(cmd.Context(), machine.id)
			return e.discChanged(m, fmt.Sprintf("Ejected the disc of %s.", printable(machine.name)), err)
		},
	}
	cmd.AddCommand(insert, eject)
	return cmd
}

func (e *env) discChanged(m apiclient.Object[vm.VM], text string, err error) error {
	if err != nil {
		return err
	}
	if e.quiet || e.forScripts() {
		return printObject(e, m, func(m vm.VM) string { return m.ID.String() }, nil)
	}
	if _, err := fmt.Fprintln(e.out, text); err != nil {
		return err
	}
	return e.sayPending(m.Value)
}
