package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func TestParseRoutes(t *testing.T) {
	got, err := parseRoutes(strings.NewReader(`Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100A8C0	0003	0	0	0	00000000	0	0	0
eth0	0000A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
virbr0	0000640A	00000000	0001	0	0	0	0000FCFF	0	0	0
`))
	want := nodeapi.Ranges{Ranges: []nodeapi.Range{{CIDR: "192.168.0.0/24", Device: "eth0"}, {CIDR: "10.100.0.0/14", Device: "virbr0"}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := parseRoutes(strings.NewReader("head\neth0 zz 0 0 0 0 0 00FFFFFF\n")); err == nil {
		t.Error("nonsense is accepted")
	}
}
