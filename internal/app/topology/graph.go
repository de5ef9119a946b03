package topology

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Node declares one module of the installation, whether or not this process runs it.
type Node struct {
	Name    string
	Needs   []string // names of the modules it cannot work without
	Enabled bool     // it runs in this process
	Remote  string   // where it runs otherwise; empty where that is not configured
	Note    string   // shown beside it in Render, for example the roles it runs in
}

// Place is where a module runs, seen from this process.
type Place string

// The places.
const (
	Local    Place = "local"
	Remote   Place = "remote"
	Disabled Place = "disabled"
)

// Graph is a set of modules whose needs are all met. It is immutable.
type Graph struct {
	nodes []Node         // as declared
	index map[string]int // name → position in nodes
	order []string       // the enabled ones, needs first
}

// Resolve checks the declarations and orders the modules. It reports every mistake at once: names that are given twice, needs that no
// module has, needs that go in a circle, and needs of enabled modules that are met neither here nor elsewhere.
func Resolve(nodes []Node) (*Graph, error) {
	g := &Graph{nodes: slices.Clone(nodes), index: make(map[string]int, len(nodes))}
	var failed []error
	for i, n := range g.nodes {
		if _, twice := g.index[n.Name]; twice || n.Name == "" {
			failed = append(failed, fmt.Errorf("the module name %q is empty or declared twice", n.Name))
			continue
		}
		g.index[n.Name] = i
	}
	for _, n := range g.nodes {
		for _, need := range n.Needs {
			if _, ok := g.index[need]; !ok {
				failed = append(failed, fmt.Errorf("module %s needs %s, which is no module", n.Name, need))
			}
		}
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	if circle := g.circle(); circle != nil {
		return nil, fmt.Errorf("modules need each other in a circle: %s", strings.Join(circle, " → "))
	}
	for _, n := range g.nodes {
		if !n.Enabled {
			continue
		}
		for _, need := range n.Needs {
			if g.Place(need) == Disabled {
				failed = append(failed, fmt.Errorf("module %s needs %s, which neither runs in this process nor has an address: "+
					"enable it with modules: [%s], give its address in internal.remotes, or leave %s out too", n.Name, need, strings.Join(g.enabledWith(need), ", "), n.Name))
			}
		}
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	g.order = g.sort()
	return g, nil
}

// enabledWith lists the enabled modules and one more, as the operator would have to write it.
func (g *Graph) enabledWith(more string) []string {
	var names []string
	for _, n := range g.nodes {
		if n.Enabled || n.Name == more {
			names = append(names, n.Name)
		}
	}
	return names
}

// circle gives a circle of needs, its first name repeated at the end, or nil.
func (g *Graph) circle() []string {
	const unseen, onPath, done = 0, 1, 2
	state := make(map[string]int, len(g.nodes))
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case onPath:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = onPath
		path = append(path, name)
		for _, need := range g.nodes[g.index[name]].Needs {
			if c := visit(need); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, n := range g.nodes {
		if c := visit(n.Name); c != nil {
			return c
		}
	}
	return nil
}

// sort orders the enabled modules, needs first and otherwise as declared. There is no circle.
func (g *Graph) sort() []string {
	var order []string
	seen := make(map[string]bool, len(g.nodes))
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		n := g.nodes[g.index[name]]
		for _, need := range n.Needs {
			visit(need)
		}
		if n.Enabled {
			order = append(order, name)
		}
	}
	for _, n := range g.nodes {
		visit(n.Name)
	}
	return order
}

// Order lists the enabled modules in the order of their start.
func (g *Graph) Order() []string { return slices.Clone(g.order) }

// Nodes lists all modules as they were declared.
func (g *Graph) Nodes() []Node { return slices.Clone(g.nodes) }

// Place tells where a module runs. A module that is enabled here is local, also where a remote address is configured.
func (g *Graph) Place(name string) Place {
	i, ok := g.index[name]
	switch {
	case !ok:
		return Disabled
	case g.nodes[i].Enabled:
		return Local
	case g.nodes[i].Remote != "":
		return Remote
	default:
		return Disabled
	}
}

// Render writes the graph for people: every module, where it runs and what it needs, local ones in the order of their start.
func (g *Graph) Render(w io.Writer) error {
	names := g.Order()
	for _, n := range g.nodes {
		if !n.Enabled {
			names = append(names, n.Name)
		}
	}
	width := 0
	for _, name := range names {
		width = max(width, len(name))
	}
	var b strings.Builder
	for _, name := range names {
		n := g.nodes[g.index[name]]
		place := string(g.Place(name))
		if g.Place(name) == Remote {
			place += " at " + n.Remote
		}
		if n.Note != "" {
			place += " (" + n.Note + ")"
		}
		fmt.Fprintf(&b, "%-*s  %s\n", width, name, place)
		for i, need := range n.Needs {
			branch := "├─"
			if i == len(n.Needs)-1 {
				branch = "└─"
			}
			fmt.Fprintf(&b, "%-*s  %s needs %s [%s]\n", width, "", branch, need, g.Place(need))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
