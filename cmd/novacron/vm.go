package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
)

var vms = collection{path: "/api/v1/vms", what: "virtual machine", enrich: withNodeNames, columns: []column{col("name", "name"), col("state", "state"), col("node", "node_name"),
	{"address", func(o map[string]any) string {
		list, _ := o["networks"].([]any)
		var all []string
		for _, nic := range list {
			if addresses := show(dig(nic, "addresses")); addresses != "" {
				all = append(all, addresses)
			}
		}
		return strings.Join(all, ",")
	}},
	col("vcpus", "resources.vcpus"), {"memory", func(o map[string]any) string { return show(dig(o, "resources.memory_mib")) + " MiB" }}, col("id", "id")}}

// withNodeNames puts the name of its node beside each virtual machine, for those who may know the nodes.
func withNodeNames(ctx context.Context, client *apiclient.Client, items []json.RawMessage) []json.RawMessage {
	names := map[string]any{}
	if list, err := client.List(ctx, nodes.path, nil, 0); err == nil {
		for _, item := range list {
			var node map[string]any
			if json.Unmarshal(item, &node) == nil {
				names[show(node["id"])] = node["name"]
			}
		}
	}
	for i, item := range items {
		var machine map[string]any
		if json.Unmarshal(item, &machine) != nil {
			continue
		}
		machine["node_name"] = names[show(machine["node_id"])]
		if encoded, err := json.Marshal(machine); err == nil {
			items[i] = encoded
		}
	}
	return items
}

func newVM(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "vm", Short: "Virtual machines"}
	cmd.AddCommand(c.list(vms, "name", "state"), c.show(vms), c.createVM(), c.remove(vms), c.logs(), c.console())
	for _, verb := range []struct{ name, short, done string }{
		{"start", "Power a virtual machine on", "Started"},
		{"reset", "Press the reset button of a virtual machine", "Reset"},
		{"pause", "Hold the virtual CPUs of a virtual machine", "Paused"},
		{"resume", "Let a paused virtual machine go on", "Resumed"},
	} {
		cmd.AddCommand(c.vmAction(verb.name, verb.short, verb.done, false))
	}
	cmd.AddCommand(c.vmAction("stop", "Shut a virtual machine down; power it off when the grace time is over", "Stopped", true),
		c.vmAction("restart", "Shut a virtual machine down and power it on again", "Restarted", true))
	return cmd
}

// vmAction makes the command of one change of state.
func (c *cli) vmAction(verb, short, done string, stops bool) *cobra.Command {
	force, grace := false, time.Duration(-1)
	cmd := &cobra.Command{
		Use: verb + " NAME|ID", Short: short, Args: args(cobra.ExactArgs(1)), ValidArgsFunction: c.complete(vms),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			id, err := resolve(cmd.Context(), client, vms.path, vms.what, args[0])
			if err != nil {
				return err
			}
			var body any
			if stops && (force || grace >= 0) {
				request := map[string]any{"force": force}
				if grace >= 0 {
					request["grace_seconds"] = int(grace.Seconds())
				}
				body = request
			}
			return c.act(cmd, client, http.MethodPost, vms.path+"/"+id+"/"+verb, body, fmt.Sprintf("%s virtual machine %s.", done, args[0]))
		},
	}
	if stops {
		cmd.Flags().BoolVar(&force, "force", false, "power off at once")
		cmd.Flags().DurationVar(&grace, "grace", -1, "how long the guest may take to shut down (default: the server's)")
	}
	return cmd
}

func (c *cli) createVM() *cobra.Command {
	var image, flavor, memory, disk, userData string
	var vcpus int
	var networks, keys, tags []string
	var noStart bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a virtual machine", Args: args(cobra.ExactArgs(1)),
		Example: "  novacron vm create web-1 --image debian-12 --flavor small --ssh-key ~/.ssh/id_ed25519.pub\n  novacron vm create db-1 --image debian-12 --vcpus 2 --memory 4G --disk 40G --network backend",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			imageID, err := resolve(ctx, client, images.path, images.what, image)
			if err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "image_id": imageID, "start": !noStart}
			resources := map[string]any{}
			if vcpus != 0 {
				resources["vcpus"] = vcpus
			}
			if err := errors.Join(size(resources, "memory_mib", memory, 1<<20), size(resources, "disk_gib", disk, 1<<30)); err != nil {
				return err
			}
			if len(resources) > 0 {
				body["resources"] = resources
			}
			if flavor != "" {
				body["flavor"] = flavor
			}
			var refs []map[string]string
			for _, name := range networks {
				id, err := resolve(ctx, client, networkList.path, networkList.what, name)
				if err != nil {
					return err
				}
				refs = append(refs, map[string]string{"network_id": id})
			}
			if len(refs) > 0 {
				body["networks"] = refs
			}
			if err := extras(body, keys, userData, tags); err != nil {
				return err
			}
			return c.act(cmd, client, http.MethodPost, vms.path, body, fmt.Sprintf("Created virtual machine %s.", args[0]))
		},
	}
	f := cmd.Flags()
	f.StringVar(&image, "image", "", "name or id of the image")
	f.StringVar(&flavor, "flavor", "", "named size; the sizes below override its parts")
	f.IntVar(&vcpus, "vcpus", 0, "virtual CPUs")
	f.StringVar(&memory, "memory", "", "memory: 512M, 2G, or a number of MiB")
	f.StringVar(&disk, "disk", "", "root disk: 10G, or a number of GiB")
	f.StringSliceVar(&networks, "network", nil, "name or id of a network; may be given several times")
	f.StringArrayVar(&keys, "ssh-key", nil, "public key, or file that holds one; may be given several times")
	f.StringVar(&userData, "user-data", "", "file with cloud-init user-data")
	f.StringArrayVar(&tags, "tag", nil, "KEY=VALUE; may be given several times")
	f.BoolVar(&noStart, "no-start", false, "leave it powered off")
	if err := cmd.MarkFlagRequired("image"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// extras fills in keys, user-data and tags.
func extras(body map[string]any, keys []string, userData string, tags []string) error {
	var all []string
	for _, key := range keys {
		if content, err := os.ReadFile(key); err == nil {
			key = strings.TrimSpace(string(content))
		}
		all = append(all, key)
	}
	if len(all) > 0 {
		body["ssh_keys"] = all
	}
	if userData != "" {
		content, err := os.ReadFile(userData)
		if err != nil {
			return usageError{fmt.Errorf("--user-data: %w", err)}
		}
		body["user_data"] = string(content)
	}
	labels := map[string]string{}
	for _, tag := range tags {
		key, value, ok := strings.Cut(tag, "=")
		if !ok {
			return usageError{fmt.Errorf("--tag %q is not KEY=VALUE", tag)}
		}
		labels[key] = value
	}
	if len(labels) > 0 {
		body["tags"] = labels
	}
	return nil
}

// size reads "512M", "2G" or a plain number of units into a field of the request.
func size(into map[string]any, field, text string, unit int64) error {
	if text == "" {
		return nil
	}
	digits := strings.TrimRight(strings.ToUpper(text), "IB")
	factor := unit
	if n := len(digits); n > 0 {
		if f, ok := map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}[digits[n-1]]; ok {
			factor, digits = f, digits[:n-1]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 40)
	if err != nil || n*factor%unit != 0 {
		return usageError{fmt.Errorf("%q is not a size that the server counts in: give whole units, such as 2G", text)}
	}
	into[field] = n * factor / unit
	return nil
}

// logs prints the serial console's log, and follows it with -f.
func (c *cli) logs() *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use: "logs NAME|ID", Short: "Print what the guest wrote to its serial console", Args: args(cobra.ExactArgs(1)), ValidArgsFunction: c.complete(vms),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.authenticated()
			if err != nil {
				return err
			}
			id, err := resolve(cmd.Context(), client, vms.path, vms.what, args[0])
			if err != nil {
				return err
			}
			offset := int64(-256 << 10)
			for {
				data, at, err := client.ConsoleLog(cmd.Context(), id, offset)
				if err != nil {
					return interrupted(cmd.Context(), err)
				}
				if _, err := cmd.OutOrStdout().Write(data); err != nil {
					return err
				}
				offset = at + int64(len(data))
				if !follow {
					return nil
				}
				if err := apiclient.Pause(cmd.Context(), time.Second); err != nil {
					return interrupted(cmd.Context(), err)
				}
			}
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what the guest writes, until Ctrl-C")
	return cmd
}

// interrupted makes Ctrl-C an ordinary end of what goes on for ever.
func interrupted(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}
