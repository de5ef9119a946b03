package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/vm"
)

// vmSpec are the flags of 'vm create'.
type vmSpec struct {
	sizeFlags
	template, image, flavor, userData  string
	vendorData, networkConfig          string
	hostname, passwordHash             string
	networks, keys, tags               []string
	description                        string
	noStart, protect                   bool
	cdrom, kernel, initrd, commandLine string
	bootOrder                          []string
	hardware                           hardwareFlags
	partial                            bool // of a template: what is left out is for others to give
}

func newVMCreate(e *env) *cobra.Command {
	var (
		w    waiting
		spec vmSpec
	)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a virtual machine and power it on", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  novacron vm create web-1 --image debian-12 --flavor small --ssh-key ~/.ssh/id_ed25519.pub\n" +
			"  novacron vm create db-1 --image debian-12 --vcpus 2 --memory 4G --disk 40G --network backend --tag env=prod\n" +
			"  novacron vm create web-2 --template web",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			body, err := spec.body(args[0])
			if err != nil {
				return err
			}
			if body.Hardware, err = spec.hardware.given(cmd.Flags()); err != nil {
				return err
			}
			c, err := e.connect()
			if err != nil {
				return err
			}
			if err := spec.resolve(ctx, c, &body); err != nil {
				return err
			}
			op, err := c.CreateVM(ctx, body)
			if err != nil {
				return err
			}
			result, err := e.finishVM(ctx, c, &w, body.Name, "Created", op)
			if err != nil || result == nil {
				return err
			}
			return e.document(result)
		},
	}
	spec.addTo(e, cmd)
	flags := cmd.Flags()
	flags.StringVar(&spec.hostname, "hostname", "", "host name of the guest (default: the machine's name)")
	flags.StringVar(&spec.passwordHash, "password-hash", "", "hash of the default user's password, as 'openssl passwd -6' makes it")
	flags.StringVar(&spec.template, "template", "", "template that gives what the other flags leave out, by name or id")
	flags.StringVar(&spec.description, "description", "", "text for people")
	flags.BoolVar(&spec.protect, "protect", false, "refuse to delete it until 'novacron vm unprotect'")
	flags.BoolVar(&spec.noStart, "no-start", false, "leave it powered off")
	w.addTo(cmd)
	must(cmd.RegisterFlagCompletionFunc("template", e.completion(0, templateNames)))
	return cmd
}

// addTo adds the flags that a template has, too.
func (s *vmSpec) addTo(e *env, cmd *cobra.Command) {
	s.sizeFlags.addTo(cmd)
	flags := cmd.Flags()
	flags.StringVar(&s.image, "image", "", "image that its disk is made from, by name or id")
	flags.StringVar(&s.flavor, "flavor", "", "named size, of which --vcpus, --memory and --disk override parts; see 'novacron flavor list'")
	flags.StringArrayVar(&s.networks, "network", nil, "network to join, as NAME or NAME,ip=ADDRESS,mac=MAC,group=GROUP,in=KBPS,out=KBPS; may be repeated (default: the tenant's default network)")
	flags.StringArrayVar(&s.tags, "tag", nil, "label KEY=VALUE; may be repeated")
	s.addSeedTo(e, cmd)
	flags.StringVar(&s.vendorData, "vendor-data", "", "file with cloud-init vendor-data")
	flags.StringVar(&s.networkConfig, "network-config", "", "file with cloud-init network-config (default: made from the interfaces)")
	flags.StringVar(&s.cdrom, "cdrom", "", "ISO image to put into its drive, by name or id; with an ISO image as --image that one is in the drive and the disk is empty")
	flags.StringVar(&s.kernel, "kernel", "", "kernel image to start it with, by name or id")
	flags.StringVar(&s.initrd, "initrd", "", "initrd image for --kernel")
	flags.StringVar(&s.commandLine, "cmdline", "", "command line for --kernel")
	flags.StringSliceVar(&s.bootOrder, "boot-order", nil, "what to boot from, of root, cdrom and network, the first first (default: root,cdrom)")
	s.hardware.addTo(flags)
	for _, flag := range []string{"image", "cdrom", "kernel", "initrd"} {
		must(cmd.RegisterFlagCompletionFunc(flag, e.completion(0, imageNames)))
	}
	must(cmd.RegisterFlagCompletionFunc("network", e.completion(0, networkNames)))
	must(cmd.RegisterFlagCompletionFunc("flavor", e.completion(0, flavorNames)))
}

// addSeedTo adds the flags of what cloud-init does in the guest.
func (s *vmSpec) addSeedTo(e *env, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&s.keys, "ssh-key", nil, "public key for the default user: a file, the key itself, or the name of an SSH key on the server; may be repeated")
	flags.StringVar(&s.userData, "user-data", "", "file with cloud-init user-data")
	must(cmd.RegisterFlagCompletionFunc("ssh-key", e.completion(0, sshKeyNames)))
}

// body makes the request as far as that goes without the server.
func (s *vmSpec) body(name string) (apiclient.VMCreate, error) {
	body := apiclient.VMCreate{Name: name, Flavor: s.flavor}
	if s.image == "" && s.template == "" && !s.partial {
		return body, usageError{"--image is missing; see what there is with 'novacron image list'"}
	}
	size, err := s.resources()
	if err != nil {
		return body, err
	}
	if size != (apiclient.VMResources{}) {
		body.Resources = &size
	}
	if body.Tags, err = parseTags(s.tags); err != nil {
		return body, err
	}
	for _, key := range s.keys {
		keys, err := publicKeys(key)
		if err != nil {
			return body, usageError{"--ssh-key: " + err.Error()}
		}
		body.SSHKeys = append(body.SSHKeys, keys...)
	}
	body.Hostname, body.PasswordHash = s.hostname, s.passwordHash
	body.Description, body.DeleteProtection = s.description, s.protect
	for _, file := range []struct {
		flag, path string
		to         *string
	}{{"user-data", s.userData, &body.UserData}, {"vendor-data", s.vendorData, &body.VendorData}, {"network-config", s.networkConfig, &body.NetworkConfig}} {
		if file.path == "" {
			continue
		}
		raw, err := os.ReadFile(file.path)
		if err != nil {
			return body, usageError{"--" + file.flag + ": " + err.Error()}
		}
		*file.to = string(raw)
	}
	if s.noStart {
		start := false
		body.Start = &start
	}
	return body, nil
}

// resolve replaces names by ids.
func (s *vmSpec) resolve(ctx context.Context, c *apiclient.Client, body *apiclient.VMCreate) error {
	if s.template != "" {
		template, err := findTemplate(ctx, c, s.template)
		if err != nil {
			return err
		}
		body.TemplateID = &template.id
	}
	if s.image != "" {
		image, err := findImage(ctx, c, s.image)
		if err != nil {
			return err
		}
		body.ImageID = image.id
	}
	for i, key := range body.SSHKeys {
		if strings.Contains(key, " ") {
			continue
		}
		kept, err := findSSHKey(ctx, c, key)
		if err != nil {
			return err
		}
		body.SSHKeys[i] = kept.id.String()
	}
	body.BootOrder = s.bootOrder
	boot := vm.DirectBoot{CommandLine: s.commandLine}
	for _, media := range []struct {
		arg string
		to  **uuid.UUID
	}{{s.cdrom, &body.CDROM}, {s.kernel, &boot.KernelImageID}, {s.initrd, &boot.InitrdImageID}} {
		if media.arg == "" {
			continue
		}
		found, err := findImage(ctx, c, media.arg)
		if err != nil {
			return err
		}
		*media.to = &found.id
	}
	if boot != (vm.DirectBoot{}) {
		body.DirectBoot = &boot
	}
	for _, spec := range s.networks {
		network, err := parseInterface(ctx, c, spec)
		if err != nil {
			return err
		}
		body.Networks = append(body.Networks, network)
	}
	return nil
}

// publicKeys gives the keys that a flag names: a key as text, the lines of a file, or the name of one on the server.
func publicKeys(arg string) ([]string, error) {
	if isPublicKey(arg) {
		return []string{strings.TrimSpace(arg)}, nil
	}
	path := arg
	if rest, ok := strings.CutPrefix(path, "~/"); ok { // as --ssh-key=~/… reaches us; shells expand it after a blank only
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(arg, "/.~") { // a label, as names of SSH keys are
		return []string{arg}, nil
	}
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(raw), "PRIVATE KEY-----") {
		return nil, fmt.Errorf("%s holds a private key; give the public one, most often %s.pub", path, path)
	}
	var keys []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !isPublicKey(line) {
			return nil, fmt.Errorf("%s holds a line that is no public key of SSH", path)
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 {
		return nil, errors.New(path + " holds no key")
	}
	return keys, nil
}

// isPublicKey looks for the form of authorized_keys without options: type, base64, comment (sshd(8)).
func isPublicKey(text string) bool {
	kind, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
	return ok && strings.TrimSpace(rest) != "" &&
		(strings.HasPrefix(kind, "ssh-") || strings.HasPrefix(kind, "ecdsa-") || strings.HasPrefix(kind, "sk-"))
}

// parseTags reads labels KEY=VALUE.
func parseTags(texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	tags := map[string]string{}
	for _, tag := range texts {
		key, value, ok := strings.Cut(tag, "=")
		if !ok || key == "" {
			return nil, usageError{fmt.Sprintf("--tag %q is not KEY=VALUE", tag)}
		}
		tags[key] = value
	}
	return tags, nil
}
