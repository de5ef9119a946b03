package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

func newGuestInfo(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "guest-info VM", Short: "Show what the agent in the guest tells: system, users, file systems, addresses", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			info, err := c.GuestInfo(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			return printObject(e, info, func(i vm.GuestInfo) string { return printable(i.Hostname) }, guestFields)
		},
	}
}

func guestFields(i vm.GuestInfo) [][]string {
	zone := i.Timezone.Name
	if i.Timezone.OffsetSeconds != 0 {
		zone += fmt.Sprintf(" (%+d s)", i.Timezone.OffsetSeconds)
	}
	system := i.System.PrettyName
	if system == "" {
		system = i.System.Name
	}
	fields := [][]string{{"host name", i.Hostname}, {"system", system}, {"kernel", strings.TrimSpace(i.System.Kernel + " " + i.System.Machine)}, {"time zone", zone}, {"agent", i.AgentVersion}}
	for _, u := range i.Users {
		fields = append(fields, []string{"user", u.Name + ", since " + clock(u.LoginAt)})
	}
	for _, f := range i.Filesystems {
		text := f.Mountpoint + ": " + f.Type + " on " + f.Device
		if f.TotalBytes != nil && f.UsedBytes != nil {
			text += ", " + bytesText(*f.UsedBytes) + " of " + bytesText(*f.TotalBytes) + " used"
		}
		fields = append(fields, []string{"file system", text})
	}
	for _, n := range i.Interfaces {
		fields = append(fields, []string{"interface", strings.TrimSpace(n.Name + " " + strings.Join(n.Addresses, " "))})
	}
	if len(i.Missing) > 0 {
		fields = append(fields, []string{"not told", strings.Join(i.Missing, ", ")})
	}
	for _, f := range fields {
		f[1] = printable(f[1])
	}
	return fields
}

const (
	execTimeout    = 30 * time.Second
	maxExecTimeout = 5 * time.Minute
	maxExecInput   = 64 << 10
)

func newVMExec(e *env) *cobra.Command {
	var (
		body    apiclient.GuestExec
		env     []string
		input   bool
		timeout = execTimeout
	)
	cmd := &cobra.Command{
		Use: "exec VM -- COMMAND [ARG]...", Short: "Run a program in a guest through its agent", Args: cobra.MinimumNArgs(2), ValidArgsFunction: e.completion(1, vmNames),
		Long: "Run a program in a guest through its agent, as root, and print what it printed when it has ended. The exit code is the program's;\n" +
			"it is 124 where the program did not end in time and was killed, and 255 where a signal ended it.\n\n" +
			"No shell is between. For one: novacron vm exec web-1 -- sh -c 'df -h | grep vda'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < time.Second || timeout > maxExecTimeout {
				return usageError{"--timeout must be from 1s to " + maxExecTimeout.String()}
			}
			body.Command, body.Args = args[1], args[2:]
			if len(env) > 0 {
				body.Env = map[string]string{}
			}
			for _, pair := range env {
				name, value, ok := strings.Cut(pair, "=")
				if !ok {
					return usageError{fmt.Sprintf("--env %q is not NAME=VALUE", pair)}
				}
				body.Env[name] = value
			}
			if input {
				read, err := io.ReadAll(io.LimitReader(e.in, maxExecInput+1))
				if err != nil {
					return fmt.Errorf("read standard input: %w", err)
				}
				if len(read) > maxExecInput {
					return usageError{"standard input has more than 64 KiB: put it into the guest with 'novacron vm cp' first"}
				}
				body.Stdin = read
			}
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := c.ExecInGuest(cmd.Context(), target.id, body, timeout)
			if err != nil {
				return err
			}
			if e.forScripts() {
				return e.document(r)
			}
			return e.ended(r.Value, timeout)
		},
	}
	cmd.Flags().SetInterspersed(true)
	cmd.Flags().StringArrayVarP(&env, "env", "e", nil, "NAME=VALUE for the program's environment; may be repeated")
	cmd.Flags().BoolVarP(&input, "stdin", "i", false, "give the program what standard input has, up to 64 KiB")
	cmd.Flags().Var((*span)(&timeout), "timeout", "how long the program may run, up to 5m")
	return cmd
}

// ended prints what a program in a guest printed, and ends as it did. Its output is raw, as that of ssh is.
func (e *env) ended(r vm.GuestExec, timeout time.Duration) error {
	if _, err := e.out.Write(r.Stdout); err != nil {
		return err
	}
	if _, err := e.errOut.Write(r.Stderr); err != nil {
		return err
	}
	if r.StdoutTruncated || r.StderrTruncated {
		fmt.Fprintln(e.errOut, "novacron: only the beginning of the output is shown: write it to a file in the guest, and fetch that with 'novacron vm cp'")
	}
	switch {
	case r.TimedOut:
		fmt.Fprintf(e.errOut, "novacron: the program did not end within %s\n", timeout)
		return toldError{124}
	case r.Signal != nil:
		fmt.Fprintf(e.errOut, "novacron: signal %d ended the program\n", *r.Signal)
		return toldError{255}
	case r.ExitCode != nil && *r.ExitCode != 0:
		return toldError{*r.ExitCode & 255}
	}
	return nil
}

func newVMCopy(e *env) *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use: "cp FROM TO", Short: "Copy a file to or from a guest through its agent", Args: cobra.ExactArgs(2),
		Long: "Copy a file to or from a guest through its agent. The side in the guest is VM:/absolute/path; \"-\" is standard input or output.",
		Example: "  novacron vm cp nginx.conf web-1:/etc/nginx/nginx.conf\n" +
			"  novacron vm cp web-1:/var/log/syslog .",
		RunE: func(cmd *cobra.Command, args []string) error {
			fromVM, fromPath, pull := guestSide(args[0])
			toVM, toPath, push := guestSide(args[1])
			switch {
			case pull == push:
				return usageError{"one side must be in a guest: VM:/path"}
			case pull:
				return e.pull(cmd.Context(), fromVM, fromPath, args[1])
			}
			return e.push(cmd.Context(), args[0], toVM, toPath, mode)
		},
	}
	cmd.Flags().StringVar(&mode, "mode", "", "octal mode of a file that is put into a guest, such as 0600 (default: that of the file that is there, or 0644)")
	return cmd
}

// guestSide takes VM:PATH apart.
func guestSide(arg string) (machine, file string, ok bool) {
	machine, file, ok = strings.Cut(arg, ":")
	if !ok || machine == "" || strings.ContainsAny(machine, `/\`) {
		return "", "", false
	}
	return machine, file, true
}

func (e *env) push(ctx context.Context, local, machine, remote, mode string) error {
	if strings.HasSuffix(remote, "/") && local != "-" {
		remote = path.Join(remote, filepath.Base(local))
	}
	c, target, err := e.connectVM(ctx, machine)
	if err != nil {
		return err
	}
	file, size, err := e.imageFile(local)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	copied, err := c.PushGuestFile(ctx, target.id, remote, mode, file, size)
	if err != nil {
		return err
	}
	if e.quiet || e.forScripts() {
		return printObject(e, copied, func(f vm.GuestFile) string { return f.Path }, nil)
	}
	_, err = fmt.Fprintf(e.out, "Copied %s to %s of %s.\n", bytesText(copied.Value.SizeBytes), printable(copied.Value.Path), target.name)
	return err
}

// pull fetches a file. It appears under its name when it is whole.
func (e *env) pull(ctx context.Context, machine, remote, local string) (err error) {
	c, target, err := e.connectVM(ctx, machine)
	if err != nil {
		return err
	}
	if local == "-" {
		_, err = c.PullGuestFile(ctx, target.id, remote, e.out)
		return err
	}
	if info, err := os.Stat(local); err == nil && info.IsDir() {
		local = filepath.Join(local, path.Base(remote))
	}
	f, err := os.CreateTemp(filepath.Dir(local), ".novacron-*")
	if err != nil {
		return usageError{err.Error()}
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	size, err := c.PullGuestFile(ctx, target.id, remote, f)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", local, err)
	}
	if err := os.Rename(f.Name(), local); err != nil {
		return fmt.Errorf("write %s: %w", local, err)
	}
	if e.quiet || e.forScripts() {
		return nil
	}
	_, err = fmt.Fprintf(e.out, "Copied %s from %s to %s.\n", bytesText(size), target.name, local)
	return err
}

func newVMSetPassword(e *env) *cobra.Command {
	var file string
	var hashed bool
	cmd := &cobra.Command{
		Use: "set-password VM USER", Short: "Set the password of a user of the guest through its agent", Args: cobra.ExactArgs(2), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			password, err := e.passwordFrom(cmd.Context(), file, "New password of "+args[1]+" in "+target.name+": ")
			if err != nil {
				return err
			}
			err = c.SetGuestPassword(cmd.Context(), target.id, apiclient.GuestPassword{Username: args[1], Password: password, Hashed: hashed})
			return e.done(err, "The password of %s in %s is set.\n", args[1], target.name)
		},
	}
	cmd.Flags().StringVar(&file, "password-file", "", "file with the password; - reads standard input")
	cmd.Flags().BoolVar(&hashed, "hashed", false, "the password is a hash as crypt(3) makes them, for example of 'openssl passwd -6'")
	return cmd
}

func newVMSyncTime(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "sync-time VM", Short: "Set the guest's clock to its node's through its agent", Args: cobra.ExactArgs(1), ValidArgsFunction: e.completion(1, vmNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := e.connectVM(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			set, err := c.SyncGuestTime(cmd.Context(), target.id)
			if err != nil {
				return err
			}
			if e.quiet || e.forScripts() {
				return printObject(e, set, func(g vm.GuestTime) string { return milliseconds(g.OffsetMS) }, nil)
			}
			_, err = fmt.Fprintf(e.out, "The clock of %s was %s off and is set.\n", target.name, milliseconds(set.Value.OffsetMS))
			return err
		},
	}
}
