package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newTemplate(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "template", Short: "Forms that machines are made by"}
	cmd.AddCommand(newTemplateList(e), newTemplateCreate(e), newTemplateShow(e), newTemplateUpdate(e), newTemplateDelete(e))
	return cmd
}

func templateID(t vm.Template) string { return t.ID.String() }

func newTemplateList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List templates, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			templates, err := apiclient.Collect(c.ListTemplates(cmd.Context(), "", 0))
			if err != nil {
				return err
			}
			return printList(e, templates, templateID, []column[vm.Template]{
				{"NAME", func(t vm.Template) string { return t.Name }},
				{"VISIBILITY", func(t vm.Template) string { return string(t.Visibility) }},
				{"FLAVOR", func(t vm.Template) string { return t.Spec.Flavor }},
				{"DESCRIPTION", func(t vm.Template) string { return t.Description }},
				{"ID", templateID},
			})
		},
	}
}

func newTemplateCreate(e *env) *cobra.Command {
	var spec vmSpec
	var machine string
	var body apiclient.TemplateCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a template, by flags or from a machine", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron template create web --image debian-12 --flavor small --ssh-key laptop --tag role=web\n" +
			"  novacron template create like-web-1 --from-vm web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name = args[0]
			c, err := e.connect()
			if err != nil {
				return err
			}
			if machine != "" {
				source, err := findVM(cmd.Context(), c, machine)
				if err != nil {
					return err
				}
				body.VMID = &source.id
			} else {
				spec.partial = true
				create, err := spec.body(args[0])
				if err != nil {
					return err
				}
				if create.Hardware, err = spec.hardware.given(cmd.Flags()); err != nil {
					return err
				}
				if err := spec.resolve(cmd.Context(), c, &create); err != nil {
					return err
				}
				body.Spec = templateOf(create)
			}
			t, err := c.CreateTemplate(cmd.Context(), body)
			if err != nil {
				return err
			}
			return printTemplate(e, "Created", t)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&machine, "from-vm", "", "take everything from this machine but its addresses and what is on its disks")
	flags.StringVar(&body.Description, "description", "", "what it is for")
	flags.StringVar((*string)(&body.Visibility), "visibility", "", "private, or public: for every tenant")
	spec.addTo(e, cmd)
	must(cmd.RegisterFlagCompletionFunc("from-vm", e.completion(0, vmNames)))
	for _, flag := range []string{"image", "flavor", "vcpus", "memory", "disk", "network", "ssh-key", "user-data", "vendor-data", "network-config", "tag", "cdrom", "kernel", "initrd",
		"cmdline", "boot-order", "autostart", "autostart-order", "autostart-delay", "cpu-model", "cpu-topology", "watchdog", "io-limit"} {
		cmd.MarkFlagsMutuallyExclusive("from-vm", flag)
	}
	return cmd
}

// templateOf is the spec that makes what the request would make.
func templateOf(r apiclient.VMCreate) *vm.TemplateSpec {
	spec := &vm.TemplateSpec{Flavor: r.Flavor, SSHKeys: r.SSHKeys, UserData: r.UserData, VendorData: r.VendorData, NetworkConfig: r.NetworkConfig, Tags: r.Tags,
		CDROMImageID: r.CDROM, DirectBoot: r.DirectBoot, BootOrder: r.BootOrder, Hardware: r.Hardware}
	if id := r.ImageID; id != [16]byte{} {
		spec.ImageID = &id
	}
	if size := r.Resources; size != nil {
		spec.Resources = &vm.TemplateResources{VCPUs: size.VCPUs, MemoryMiB: size.MemoryMiB, DiskGiB: size.DiskGiB}
	}
	for _, n := range r.Networks {
		spec.Networks = append(spec.Networks, vm.TemplateInterface{NetworkID: n.NetworkID, SecurityGroups: n.SecurityGroups, Bandwidth: n.Bandwidth})
	}
	return spec
}

func printTemplate(e *env, verb string, t apiclient.Object[vm.Template]) error {
	if e.quiet || e.forScripts() {
		return printObject(e, t, templateID, nil)
	}
	_, err := fmt.Fprintf(e.out, "%s template %s (%s)\n", verb, t.Value.Name, t.Value.ID)
	return err
}

func newTemplateShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show TEMPLATE", Short: "Show a template", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, templateNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findTemplate(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			t, err := c.GetTemplate(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			spec, err := json.MarshalIndent(t.Value.Spec, "", "  ")
			if err != nil {
				return err
			}
			return printObject(e, t, templateID, func(t vm.Template) [][]string {
				return [][]string{{"name", t.Name}, {"id", t.ID.String()}, {"description", t.Description}, {"visibility", string(t.Visibility)}, {"gives", string(spec)}}
			})
		},
	}
}

func newTemplateUpdate(e *env) *cobra.Command {
	var name, description, visibility string
	cmd := &cobra.Command{
		Use: "update TEMPLATE", Short: "Change name, description or visibility of a template", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, templateNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.TemplateUpdate
			if name != "" {
				body.Name = &name
			}
			if cmd.Flags().Changed("description") {
				body.Description = &description
			}
			if visibility != "" {
				body.Visibility = (*vm.Visibility)(&visibility)
			}
			if body == (apiclient.TemplateUpdate{}) {
				return usageError{"nothing is to be changed; see --help"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findTemplate(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			t, err := c.UpdateTemplate(cmd.Context(), target.id, body)
			if err != nil {
				return err
			}
			return printTemplate(e, "Changed", t)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().StringVar(&visibility, "visibility", "", "private, or public: for every tenant")
	return cmd
}

func newTemplateDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete TEMPLATE", Aliases: []string{"rm"}, Short: "Delete a template; machines that were made by it stay as they are", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completion(1, templateNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findTemplate(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.DeleteTemplate(cmd.Context(), target.id); err != nil {
				return err
			}
			return e.deleted("template", target)
		},
	}
}
