package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newSSHKey(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "ssh-key", Short: "Public keys that machines are made with"}
	cmd.AddCommand(newSSHKeyList(e), newSSHKeyAdd(e), newSSHKeyDelete(e))
	return cmd
}

func sshKeyID(k vm.SSHKey) string { return k.ID.String() }

func newSSHKeyList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List SSH keys, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			keys, err := apiclient.Collect(c.ListSSHKeys(cmd.Context(), "", 0))
			if err != nil {
				return err
			}
			return printList(e, keys, sshKeyID, []column[vm.SSHKey]{
				{"NAME", func(k vm.SSHKey) string { return k.Name }},
				{"TYPE", func(k vm.SSHKey) string { return k.Type }},
				{"FINGERPRINT", func(k vm.SSHKey) string { return k.Fingerprint }},
				{"ID", sshKeyID},
			})
		},
	}
}

func newSSHKeyAdd(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "add NAME KEY", Short: "Keep a public key, given as a file or as text", Args: cobra.ExactArgs(2),
		Example: "  novacron ssh-key add laptop ~/.ssh/id_ed25519.pub\n  novacron vm create web-1 --image debian-12 --flavor small --ssh-key laptop",
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := publicKeys(args[1])
			if err != nil {
				return usageError{err.Error()}
			}
			if len(keys) != 1 {
				return usageError{fmt.Sprintf("%s holds %d keys; give one", args[1], len(keys))}
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			k, err := c.CreateSSHKey(cmd.Context(), apiclient.SSHKeyCreate{Name: args[0], PublicKey: keys[0]})
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, k, sshKeyID, nil)
			}
			_, err = fmt.Fprintf(e.out, "Added SSH key %s, %s (%s)\n", k.Value.Name, k.Value.Fingerprint, k.Value.ID)
			return err
		},
	}
}

func newSSHKeyDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete KEY", Aliases: []string{"rm"}, Short: "Delete an SSH key; machines that were made with it keep theirs", Args: cobra.ExactArgs(1),
		ValidArgsFunction: e.completion(1, sshKeyNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			target, err := findSSHKey(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if err := c.DeleteSSHKey(cmd.Context(), target.id); err != nil {
				return err
			}
			return e.deleted("SSH key", target)
		},
	}
}
