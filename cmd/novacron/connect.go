package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/auth"
	"github.com/novacron/novacron/internal/platform/buildinfo"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// connect makes the client of the server that is meant, with the API key that was given or else the login that is kept. It sends nothing yet.
func (e *env) connect() (*apiclient.Client, error) {
	key, err := e.apiKey()
	if err != nil || key == "" {
		return e.connectKept(err)
	}
	return e.connectWith(apiclient.KeyTokens(key))
}

// connectKept makes the client with the login that is kept, whatever API key was given.
func (e *env) connectKept(err error) (*apiclient.Client, error) {
	if err != nil {
		return nil, err
	}
	tokens, err := e.logins()
	if err != nil {
		return nil, err
	}
	return e.connectWith(tokens)
}

func (e *env) connectWith(tokens apiclient.TokenStore) (*apiclient.Client, error) {
	if err := e.readOutput(); err != nil {
		return nil, err
	}
	if err := e.choose(); err != nil {
		return nil, err
	}
	roots, err := e.roots()
	if err != nil {
		return nil, err
	}
	return apiclient.New(apiclient.Config{BaseURL: strings.TrimRight(e.serverURL(), "/"), Tokens: tokens, Roots: roots,
		Tenant: e.tenantName(), UserAgent: "novacron-cli/" + buildinfo.Get().Version})
}

// apiKey gives the API key to use, or "". It is never an argument: those are seen by every user of the machine.
func (e *env) apiKey() (string, error) {
	file := e.keyFile
	if file == "" {
		if key := strings.TrimSpace(os.Getenv(envAPIKey)); key != "" {
			return key, nil
		}
		if file = os.Getenv(envAPIKeyFile); file == "" {
			return "", nil
		}
	}
	from := e.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read API key: %w", err)
		}
		defer f.Close()
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxPassword))
	if err != nil {
		return "", fmt.Errorf("read API key: %w", err)
	}
	key := strings.TrimSpace(string(raw))
	if key == "" || strings.ContainsAny(key, " \t\r\n") {
		return "", usageError{file + " does not hold an API key and nothing else"}
	}
	return key, nil
}

// readOutput takes the form of the output from the environment where no flag gave it.
func (e *env) readOutput() error {
	text := os.Getenv(envOutput)
	if e.output != "" || text == "" {
		return nil
	}
	if err := e.output.Set(text); err != nil {
		return usageError{envOutput + ": " + err.Error()}
	}
	return nil
}

// named is an object that a person named.
type named struct {
	id   uuid.UUID
	name string
}

// lister gives the objects that may have a name.
type lister func(name string) iter.Seq2[named, error]

// only keeps of a list what finding by name needs.
func only[T any](items iter.Seq2[apiclient.Object[T], error], of func(T) named) iter.Seq2[named, error] {
	return func(yield func(named, error) bool) {
		for item, err := range items {
			if !yield(of(item.Value), err) {
				return
			}
		}
	}
}

// find gives the object that arg names: by its id, or by its name where only one has it. kind and code say what it is.
func find(kind, code, arg string, list lister) (named, error) {
	if id, err := uuid.Parse(arg); err == nil && len(arg) == len(uuid.Nil.String()) {
		return named{id: id, name: arg}, nil
	}
	if arg == "" {
		return named{}, usageError{"the name of the " + kind + " is empty"}
	}
	var found []named
	for n, err := range list(arg) {
		if err != nil {
			return named{}, err
		}
		if n.name == arg {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return named{}, notFound(kind, code, arg)
	case 1:
		return found[0], nil
	default:
		ids := make([]string, len(found))
		for i, n := range found {
			ids[i] = n.id.String()
		}
		return named{}, usageError{fmt.Sprintf("%d %ss are named %q; give the id of the one that is meant: %s", len(found), kind, arg, strings.Join(ids, ", "))}
	}
}

// notFound is the error for what an argument names and is not there.
func notFound(kind, code, arg string) error {
	return &apiclient.Error{Problem: errs.Problem{Status: http.StatusNotFound, Code: code + ".not_found",
		Detail: fmt.Sprintf("there is no %s named %q", kind, arg), Action: "See what there is: novacron " + code + " list"}}
}

// connectVM connects, and finds the virtual machine that an argument names.
func (e *env) connectVM(ctx context.Context, arg string) (*apiclient.Client, named, error) {
	c, err := e.connect()
	if err != nil {
		return nil, named{}, err
	}
	machine, err := findVM(ctx, c, arg)
	return c, machine, err
}

func findVM(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("virtual machine", "vm", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListVMs(ctx, apiclient.VMFilter{Name: name}), func(m vm.VM) named { return named{m.ID, m.Name} })
	})
}

func findImage(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("image", "image", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListImages(ctx, name, 0), func(i vm.Image) named { return named{i.ID, i.Name} })
	})
}

func findNetwork(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("network", "network", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListNetworks(ctx, name, 0), func(n vm.Network) named { return named{n.ID, n.Name} })
	})
}

func findSecurityGroup(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("security group", "security-group", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListSecurityGroups(ctx, name, 0), func(g vm.SecurityGroup) named { return named{g.ID, g.Name} })
	})
}

func findFlavor(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("flavor", "flavor", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListFlavors(ctx, name), func(f vm.Flavor) named { return named{f.ID, f.Name} })
	})
}

func findSSHKey(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("SSH key", "ssh-key", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListSSHKeys(ctx, name, 0), func(k vm.SSHKey) named { return named{k.ID, k.Name} })
	})
}

func findTemplate(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("template", "template", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListTemplates(ctx, name, 0), func(t vm.Template) named { return named{t.ID, t.Name} })
	})
}

func findWebhook(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("webhook", "webhook", arg, func(name string) iter.Seq2[named, error] {
		return only(c.ListWebhooks(ctx, name, 0), func(w vm.Webhook) named { return named{w.ID, w.Name} })
	})
}

func findAPIKey(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	var filter apiclient.APIKeyFilter
	name := func(k auth.APIKey) named { return named{k.ID, k.Name} }
	if prefix, isKey := keyPrefix(arg); isKey {
		name = func(k auth.APIKey) named { return named{k.ID, k.Prefix} }
		arg, filter.Prefix = prefix, prefix // what lies behind it may be the secret, and goes nowhere
	}
	return find("API key", "apikey", arg, func(string) iter.Seq2[named, error] { return only(c.ListAPIKeys(ctx, filter), name) })
}

// keyPrefix gives the part of a key that may be shown.
func keyPrefix(arg string) (string, bool) {
	if !strings.HasPrefix(arg, auth.APIKeyMark) {
		return "", false
	}
	name, _, _ := strings.Cut(arg[len(auth.APIKeyMark):], "_")
	return auth.APIKeyMark + name, true
}

func findServiceAccount(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("service account", "service-account", arg, func(string) iter.Seq2[named, error] {
		return only(c.ListServiceAccounts(ctx, 0), func(u auth.User) named { return named{u.ID, u.Username} })
	})
}

func findNode(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("node", "node", arg, func(string) iter.Seq2[named, error] {
		return only(c.ListNodes(ctx), func(n apiclient.Node) named { return named{n.ID, n.Name} })
	})
}
