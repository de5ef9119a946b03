package main

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/vm"
)

const (
	completeTimeout = 3 * time.Second // a person waits with a finger on the key
	completeMost    = 200
)

// source gives the names that a word may be completed to.
type source func(context.Context, *apiclient.Client) iter.Seq2[named, error]

func vmNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListVMs(ctx, apiclient.VMFilter{Most: completeMost}), func(m vm.VM) named { return named{m.ID, m.Name} })
}

func imageNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListImages(ctx, "", completeMost), func(i vm.Image) named { return named{i.ID, i.Name} })
}

func networkNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListNetworks(ctx, "", completeMost), func(n vm.Network) named { return named{n.ID, n.Name} })
}

func groupNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListSecurityGroups(ctx, "", completeMost), func(g vm.SecurityGroup) named { return named{g.ID, g.Name} })
}

func nodeNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListNodes(ctx), func(n apiclient.Node) named { return named{n.ID, n.Name} })
}

func apiKeyNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListAPIKeys(ctx, apiclient.APIKeyFilter{Most: completeMost}), func(k auth.APIKey) named { return named{k.ID, k.Name} })
}

func serviceAccountNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListServiceAccounts(ctx, completeMost), func(u auth.User) named { return named{u.ID, u.Username} })
}

func flavorNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListFlavors(ctx, ""), func(f vm.Flavor) named { return named{f.ID, f.Name} })
}

func sshKeyNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListSSHKeys(ctx, "", completeMost), func(k vm.SSHKey) named { return named{k.ID, k.Name} })
}

func webhookNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListWebhooks(ctx, "", completeMost), func(w vm.Webhook) named { return named{w.ID, w.Name} })
}

func templateNames(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListTemplates(ctx, "", completeMost), func(t vm.Template) named { return named{t.ID, t.Name} })
}

func operationIDs(ctx context.Context, c *apiclient.Client) iter.Seq2[named, error] {
	return only(c.ListOperations(ctx, apiclient.OperationFilter{Most: completeMost}), func(o apiclient.Operation) named { return named{o.ID, o.ID.String()} })
}

// completion completes arguments or a flag by asking the server; most bounds the arguments, 0 means any number. A server that does not
// answer, or does not know who asks, completes nothing.
func (e *env) completion(most int, names source) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := e.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		var words []string
		for n, err := range names(ctx, c) {
			if err != nil {
				break
			}
			if !slices.Contains(args, n.name) {
				words = append(words, n.name)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}
