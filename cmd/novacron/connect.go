package main

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/apiclient"
	"github.com/novacron/novacron/internal/apiclient/tokenfile"
	"github.com/novacron/novacron/internal/platform/buildinfo"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
)

// connect makes the client of the server that is meant. It sends nothing yet.
func (e *env) connect() (*apiclient.Client, error) {
	if err := e.readOutput(); err != nil {
		return nil, err
	}
	path, err := tokenfile.Path()
	if err != nil {
		return nil, err
	}
	server := strings.TrimRight(e.serverURL(), "/")
	return apiclient.New(apiclient.Config{BaseURL: server, Tokens: tokenfile.Store{Path: path, Server: server},
		Tenant: e.tenantName(), UserAgent: "novacron-cli/" + buildinfo.Get().Version})
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
		return named{}, &apiclient.Error{Problem: errs.Problem{Status: http.StatusNotFound, Code: code + ".not_found",
			Detail: fmt.Sprintf("there is no %s named %q", kind, arg), Action: "See what there is: novacron " + code + " list"}}
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

func findNode(ctx context.Context, c *apiclient.Client, arg string) (named, error) {
	return find("node", "node", arg, func(string) iter.Seq2[named, error] {
		return only(c.ListNodes(ctx), func(n apiclient.Node) named { return named{n.ID, n.Name} })
	})
}
