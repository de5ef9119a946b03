package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newFlavor(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "flavor", Short: "Named sizes of machines"}
	cmd.AddCommand(newFlavorList(e), newFlavorCreate(e), newFlavorUpdate(e), newFlavorDelete(e))
	return cmd
}

func flavorID(f vm.Flavor) string { return f.ID.String() }

func newFlavorList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List flavors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			flavors, err := apiclient.Collect(c.ListFlavors(cmd.Context(), ""))
			if err != nil {
				return err
			}
			return printList(e, flavors, func(f vm.Flavor) string { return f.Name }, []column[vm.Flavor]{
				{"NAME", func(f vm.Flavor) string { return f.Name }},
				{"VCPU", func(f vm.Flavor) string { return strconv.Itoa(f.Resources.VCPUs) }},
				{"MEMORY", func(f vm.Flavor) string { return bytesText(f.Resources.MemoryMiB << 20) }},
				{"DISK", func(f vm.Flavor) string { return bytesText(f.Resources.DiskGiB << 30) }},
			})
		},
	}
}

// sizeFlags are the flags of a size.
type sizeFlags struct {
	vcpus        int
	memory, disk string
}

func (s *sizeFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().IntVar(&s.vcpus, "vcpus", 0, "number of virtual CPUs")
	cmd.Flags().StringVar(&s.memory, "memory", "", "memory in MiB, or with a unit: 512M, 1G")
	cmd.Flags().StringVar(&s.disk, "disk", "", "size of the root disk in GiB, or with a unit: 5G, 1T")
}

// resources reads the flags; what is not given is 0.
func (s *sizeFlags) resources() (apiclient.VMResources, error) {
	size := apiclient.VMResources{VCPUs: s.vcpus}
	if s.vcpus < 0 {
		return size, usageError{"--vcpus must not be negative"}
	}
	for _, part := range []struct {
		flag, text string
		unit       int64
		to         *int64
	}{{"--memory", s.memory, 1 << 20, &size.MemoryMiB}, {"--disk", s.disk, 1 << 30, &size.DiskGiB}} {
		if part.text == "" {
			continue
		}
		n, err := parseSize(part.text, part.unit)
		if err != nil {
			return size, usageError{part.flag + ": " + err.Error()}
		}
		*part.to = n
	}
	return size, nil
}

func printFlavor(e *env, verb string, f apiclient.Object[vm.Flavor]) error {
	if e.quiet || e.forScripts() {
		return printObject(e, f, flavorID, nil)
	}
	_, err := fmt.Fprintf(e.out, "%s flavor %s (%s)\n", verb, f.Value.Name, f.Value.ID)
	return err
}

func newFlavorCreate(e *env) *cobra.Command {
	var size sizeFlags
	var body apiclient.FlavorCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a flavor for all tenants", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron flavor create build --vcpus 8 --memory 16G --disk 100G",
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name = args[0]
			r, err := size.resources()
			if err != nil {
				return err
			}
			body.Resources = vm.Resources{VCPUs: r.VCPUs, MemoryMiB: r.MemoryMiB, DiskGiB: r.DiskGiB}
			if r.VCPUs == 0 || r.MemoryMiB == 0 || r.DiskGiB == 0 {
				return usageError{"--vcpus, --memory and --disk are needed"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			f, err := c.CreateFlavor(cmd.Context(), body)
			if err != nil {
				return err
			}
			return printFlavor(e, "Created", f)
		},
	}
	cmd.Flags().StringVar(&body.Description, "description", "", "what it is for")
	size.addTo(cmd)
	return cmd
}

func newFlavorUpdate(e *env) *cobra.Command {
	var size sizeFlags
	var name, description string
	cmd := &cobra.Command{
		Use: "update FLAVOR", Short: "Change a flavor; machines that were made with it keep their size", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, flavorNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var body apiclient.FlavorUpdate
			if name != "" {
				body.Name = &name
			}
			if cmd.Flags().Changed("description") {
				body.Description = &description
			}
			r, err := size.resources()
			if err != nil {
				return err
			}
			if r != (apiclient.VMResources{}) {
				body.Resources = &r
			}
			if body == (apiclient.FlavorUpdate{}) {
				return usageError{"nothing is to be changed; see --help"}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findFlavor(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			f, err := c.UpdateFlavor(cmd.Context(), target.id, body)
			if err != nil {
				return err
			}
			return printFlavor(e, "Changed", f)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	size.addTo(cmd)
	return cmd
}

func newFlavorDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete FLAVOR", Aliases: []string{"rm"}, Short: "Delete a flavor; machines that were made with it keep their size", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completion(1, flavorNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findFlavor(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.DeleteFlavor(cmd.Context(), target.id); err != nil {
				return err
			}
			return e.deleted("flavor", target)
		},
	}
}
