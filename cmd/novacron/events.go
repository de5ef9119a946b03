package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newEvents(e *env) *cobra.Command {
	var (
		filter  apiclient.EventFilter
		machine string
		object  string
		follow  bool
	)
	cmd := &cobra.Command{
		Use: "events", Short: "Print what happened to machines, volumes, snapshots, images and networks, and follow what happens", Args: cobra.NoArgs,
		Example: "  novacron events --vm web-1\n  novacron events -f --type failed -o json\n  novacron events -f --kind volume,snapshot",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := e.connect()
			if err != nil {
				return err
			}
			if machine != "" {
				target, err := findVM(ctx, c, machine)
				if err != nil {
					return err
				}
				filter.VMID = &target.id
			}
			if object != "" {
				id, err := uuid.Parse(object)
				if err != nil {
					return usageError{fmt.Sprintf("--object: %q is not the id of an object", object)}
				}
				filter.ObjectID = &id
			}
			if follow {
				return c.FollowEvents(ctx, filter, e.printEvent)
			}
			for event, err := range c.ListEvents(ctx, filter) {
				if err != nil {
					return err
				}
				if err := e.printEvent(event); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print what comes, until interrupted; without --since from now on")
	cmd.Flags().StringVar(&filter.Since, "since", "", "cursor of the last event that was seen; 0 is the oldest that is kept")
	cmd.Flags().StringVar(&filter.Types, "type", "", "only these types, with commas between")
	cmd.Flags().StringVar(&filter.Kinds, "kind", "", "only those of these kinds of objects, with commas between: "+strings.Join(vm.EventKinds(), ", "))
	cmd.Flags().StringVar(&object, "object", "", "only those of the object with this id")
	cmd.Flags().StringVar(&machine, "vm", "", "only those of this machine and of what belongs to it")
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(vm.EventKinds(), cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("vm", e.completion(0, vmNames)))
	return cmd
}

// printEvent prints one event: a line each, also for scripts, because a stream has no end.
func (e *env) printEvent(event apiclient.Object[vm.Event]) error {
	v := event.Value
	if e.forScripts() {
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.out, string(line))
		return err
	}
	if e.quiet {
		_, err := fmt.Fprintln(e.out, v.ID)
		return err
	}
	var facts struct{ Name, Code string }
	if err := json.Unmarshal(v.Metadata, &facts); err != nil {
		return err
	}
	name, id := facts.Name, v.VMID
	if v.Object != nil {
		name, id = v.Object.Name, v.Object.ID
	}
	_, err := fmt.Fprintf(e.out, "%s  %-8s %s (%s) %s\n", v.Timestamp.UTC().Format(time.RFC3339), v.Type, name, id, facts.Code)
	return err
}
