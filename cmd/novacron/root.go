package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// run is the program without the process around it.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(errOut, "novacron:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{Use: "novacron", Short: "Turn KVM hosts into a cloud", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(newServe(), newModules(), newConfig())
	return root
}
