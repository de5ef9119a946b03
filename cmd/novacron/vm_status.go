package main

import (
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newVMStatus(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "status VM...", Short: "Show how machines are, in one line each", Args: cobra.MinimumNArgs(1), ValidArgsFunction: e.completion(0, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			ids := make([]uuid.UUID, len(args))
			for i, arg := range args {
				target, err := findVM(ctx, c, arg)
				if err != nil {
					return err
				}
				ids[i] = target.id
			}
			list, err := c.VMStatuses(ctx, ids)
			if err != nil {
				return err
			}
			if err := e.printStatuses(list); err != nil {
				return err
			}
			for i, id := range ids {
				if !slices.ContainsFunc(list, func(s apiclient.Object[vm.Status]) bool { return s.Value.ID == id }) {
					return notFound("virtual machine", "vm", args[i])
				}
			}
			return nil
		},
	}
}

func (e *env) printStatuses(list []apiclient.Object[vm.Status]) error {
	return printList(e, list, func(s vm.Status) string { return s.ID.String() }, []column[vm.Status]{
		{"NAME", func(s vm.Status) string { return s.Name }},
		{"STATE", func(s vm.Status) string { return e.coloured(string(s.State)) }},
		{"WANTED", func(s vm.Status) string { return string(s.DesiredState) }},
		{"OPERATION", func(s vm.Status) string {
			if s.OperationID == nil {
				return ""
			}
			return s.OperationID.String()
		}},
		{"ADDRESS", func(s vm.Status) string { return strings.Join(s.Addresses, ",") }},
		{"READY", func(s vm.Status) string {
			if s.ReadyAt == nil {
				return ""
			}
			return clock(*s.ReadyAt)
		}},
		{"CPU", func(s vm.Status) string {
			if s.Usage == nil {
				return ""
			}
			return percentText(s.Usage.CPUUsage)
		}},
		{"ID", func(s vm.Status) string { return s.ID.String() }},
	})
}
