package topology_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/novacron/novacron/internal/app/topology"
)

func node(name string, enabled bool, needs ...string) topology.Node {
	return topology.Node{Name: name, Enabled: enabled, Needs: needs}
}

func TestOrderPutsNeedsFirst(t *testing.T) {
	g, err := topology.Resolve([]topology.Node{
		node("gateway", true, "auth"), node("vm", true, "auth", "scheduler"), node("scheduler", true, "monitoring"),
		node("monitoring", true, "auth"), node("auth", true),
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"auth", "gateway", "monitoring", "scheduler", "vm"}, g.Order()); diff != "" {
		t.Error(diff)
	}
}

func TestOrderReachesThroughRemoteModules(t *testing.T) {
	g, err := topology.Resolve([]topology.Node{
		node("a", true, "b"), {Name: "b", Remote: "10.0.0.2:9090", Needs: []string{"c"}}, node("c", true),
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c", "a"}, g.Order()); diff != "" {
		t.Error(diff)
	}
}

func TestResolveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		nodes []topology.Node
		want  []string
	}{
		"circle": {
			[]topology.Node{node("d", true, "a"), node("a", true, "b"), node("b", true, "c"), node("c", true, "a")},
			[]string{"a → b → c → a"},
		},
		"itself":  {[]topology.Node{node("a", true, "a")}, []string{"a → a"}},
		"twice":   {[]topology.Node{node("a", true), node("a", true)}, []string{`"a"`, "twice"}},
		"no such": {[]topology.Node{node("a", true, "x")}, []string{"module a needs x, which is no module"}},
		"both ways out, for every unmet need": {
			[]topology.Node{node("gateway", true, "auth"), node("vm", true, "auth", "scheduler"), node("auth", false), node("scheduler", false)},
			[]string{
				"module gateway needs auth", "enable it with modules: [gateway, vm, auth], give its address in internal.remotes, or leave gateway out too",
				"module vm needs scheduler", "enable it with modules: [gateway, vm, scheduler], give its address in internal.remotes, or leave vm out too",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := topology.Resolve(c.nodes)
			if err == nil {
				t.Fatalf("resolved to %v", g.Order())
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in:\n%v", want, err)
				}
			}
		})
	}
}

func TestDisabledModulesMayLackTheirNeeds(t *testing.T) {
	g, err := topology.Resolve([]topology.Node{node("vm", true), node("gateway", false, "auth"), node("auth", false)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"vm"}, g.Order()); diff != "" {
		t.Error(diff)
	}
}

func TestRender(t *testing.T) {
	g, err := topology.Resolve([]topology.Node{
		node("gateway", true, "auth", "vm"), {Name: "vm", Enabled: true, Note: "controller, node"},
		{Name: "auth", Remote: "auth.example:9090"}, node("federation", false, "auth"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := g.Render(&b); err != nil {
		t.Fatal(err)
	}
	want := `vm          local (controller, node)
gateway     local
            ├─ needs auth [remote]
            └─ needs vm [local]
auth        remote at auth.example:9090
federation  disabled
            └─ needs auth [remote]
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
