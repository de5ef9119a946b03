package drivertest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func (s *suite) listed(t *testing.T, network uuid.UUID) (driver.NetworkState, bool) {
	t.Helper()
	list, err := s.Driver.ListNetworks(s.ctx(t))
	must(t, "list networks", err)
	for _, n := range list {
		if n.ID == network {
			return n, true
		}
	}
	return driver.NetworkState{}, false
}

func testNetworks(t *testing.T, s *suite) {
	ctx := s.ctx(t)
	for _, mode := range []string{driver.ModeNAT, driver.ModeIsolated, driver.ModeRouted} {
		def := s.network(t, mode)
		must(t, "ensure", s.Driver.EnsureNetwork(ctx, def))
		must(t, "ensure again", s.Driver.EnsureNetwork(ctx, def))
		got, ok := s.listed(t, def.ID)
		if !ok || !got.Active || got.Bridge != def.Bridge || got.InstallationID != s.installation {
			t.Errorf("listed %+v, %v", got, ok)
		}
		other := def
		other.CIDR, other.Gateway = "10.231.78.0/24", "10.231.78.1"
		other.DHCPStart, other.DHCPEnd = "10.231.78.10", "10.231.78.99"
		if err := s.Driver.EnsureNetwork(ctx, other); !errors.Is(err, nodeapi.ErrHypervisorRefused) {
			t.Errorf("ensure with other settings: %v", err)
		}
		other = def
		other.DHCPStart, other.DHCPEnd = "10.231.77.20", "10.231.77.30"
		must(t, "ensure with other leases", s.Driver.EnsureNetwork(ctx, other))
		must(t, "ensure with the first leases", s.Driver.EnsureNetwork(ctx, def))
		other = def
		other.InstallationID = uuid.Must(uuid.NewV7())
		if err := s.Driver.EnsureNetwork(ctx, other); !errors.Is(err, nodeapi.ErrWrongInstallation) {
			t.Errorf("ensure by another installation: %v", err)
		}
		if err := s.Driver.RemoveNetwork(ctx, other.InstallationID, def.ID); !errors.Is(err, nodeapi.ErrWrongInstallation) {
			t.Errorf("remove by another installation: %v", err)
		}
		must(t, "remove", s.Driver.RemoveNetwork(ctx, s.installation, def.ID))
		must(t, "remove again", s.Driver.RemoveNetwork(ctx, s.installation, def.ID))
		if got, ok := s.listed(t, def.ID); ok {
			t.Errorf("still listed: %+v", got)
		}
	}
}

func testAttachedNetwork(t *testing.T, s *suite) {
	ctx, network := s.ctx(t), s.network(t, driver.ModeIsolated)
	must(t, "ensure network", s.Driver.EnsureNetwork(ctx, network))
	def := s.domain(t) // made after the network, so that it is cleaned up before it
	def.NICs = []nodeapi.NIC{{NetworkID: network.ID, MAC: "52:54:00:12:34:56"}}
	must(t, "define", s.Driver.Define(ctx, def))
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	if got := s.expect(t, def.VMID, nodeapi.ObservedRunning); len(got.MACs) != 1 || got.MACs[0] != def.NICs[0].MAC {
		t.Errorf("MACs %q", got.MACs)
	}
	if err := s.Driver.RemoveNetwork(ctx, s.installation, network.ID); !errors.Is(err, nodeapi.ErrHypervisorRefused) {
		t.Errorf("remove of a network in use: %v", err)
	}
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	must(t, "remove", s.Driver.RemoveNetwork(ctx, s.installation, network.ID))
}

func testHosts(t *testing.T, s *suite) {
	ctx := s.ctx(t)
	def := s.network(t, driver.ModeNAT)
	def.CIDR6, def.Gateway6 = "fd00:231:77::/64", "fd00:231:77::1"
	const first6, second6 = "fd00:231:77::5054:ff:fe00:1", "fd00:231:77::5054:ff:fe00:2"
	hosts := []nodeapi.NetworkHost{{MAC: "52:54:00:00:00:01", IP: "10.231.77.11", IP6: first6, Name: "web-1"}, {MAC: "52:54:00:00:00:02", IP: "10.231.77.12", IP6: second6, Name: "db"}}
	must(t, "set hosts of no network", s.Driver.SetHosts(ctx, s.installation, def.ID, hosts))
	must(t, "ensure", s.Driver.EnsureNetwork(ctx, def))
	set := func(what string, want, hosts []nodeapi.NetworkHost) {
		t.Helper()
		for range 2 {
			must(t, what, s.Driver.SetHosts(ctx, s.installation, def.ID, hosts))
		}
		got, err := s.Driver.Hosts(ctx, def.ID)
		must(t, "hosts", err)
		slices.SortFunc(got, func(a, b nodeapi.NetworkHost) int { return strings.Compare(a.MAC, b.MAC) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	set("set", hosts, hosts)
	// Address and name go from one to the other.
	hosts = []nodeapi.NetworkHost{{MAC: "52:54:00:00:00:01", IP: "10.231.77.12", IP6: first6, Name: "db"}, {MAC: "52:54:00:00:00:02", IP: "10.231.77.11", IP6: second6, Name: "web-1"}}
	set("exchange", hosts, hosts)
	twins := append(slices.Clone(hosts), nodeapi.NetworkHost{MAC: "52:54:00:00:00:03", IP: "10.231.77.13", Name: "db"})
	nameless := slices.Clone(twins)
	nameless[2].Name = ""
	set("one name twice", nameless, twins)
	if err := s.Driver.SetHosts(ctx, uuid.Must(uuid.NewV7()), def.ID, nil); !errors.Is(err, nodeapi.ErrWrongInstallation) {
		t.Errorf("hosts by another installation: %v", err)
	}
	must(t, "ensure with hosts", s.Driver.EnsureNetwork(ctx, def))
	hosts = []nodeapi.NetworkHost{{MAC: "52:54:00:00:00:02", IP: "10.231.77.11", Name: "web-1"}}
	set("without IPv6", hosts, hosts)
	set("remove", nil, nil)
}

func testInterfaces(t *testing.T, s *suite) {
	ctx, network := s.ctx(t), s.network(t, driver.ModeIsolated)
	must(t, "ensure network", s.Driver.EnsureNetwork(ctx, network))
	def := s.domain(t) // made after the network, so that it is cleaned up before it
	first, second := nodeapi.NIC{NetworkID: network.ID, MAC: "52:54:00:12:34:61"}, nodeapi.NIC{NetworkID: network.ID, MAC: "52:54:00:12:34:62"}
	def.NICs = []nodeapi.NIC{first}
	must(t, "define", s.Driver.Define(ctx, def))
	if held, err := s.Driver.SetInterfaces(ctx, def.VMID, []nodeapi.NIC{first, second}); err != nil || len(held) != 0 {
		t.Errorf("set of a guest that is off: %v, %v", held, err)
	}
	has := func(what string, want ...nodeapi.NIC) {
		t.Helper()
		got, err := s.Driver.Interfaces(ctx, def.VMID)
		must(t, what, err)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	has("off", first)
	must(t, "start", s.Driver.Start(ctx, def.VMID))
	for range 2 {
		if held, err := s.Driver.SetInterfaces(ctx, def.VMID, []nodeapi.NIC{first, second}); err != nil || len(held) != 0 {
			t.Fatalf("plug in: %v, %v", held, err)
		}
		has("plugged in", first, second)
	}
	for _, down := range []bool{true, false} {
		second.Down = down
		if held, err := s.Driver.SetInterfaces(ctx, def.VMID, []nodeapi.NIC{first, second}); err != nil || len(held) != 0 {
			t.Fatalf("set the link: %v, %v", held, err)
		}
		has("link", first, second)
	}
	// There is no guest in the empty disk that would let go of it; firmware may. Asking twice does no harm.
	for range 2 {
		if _, err := s.Driver.SetInterfaces(ctx, def.VMID, []nodeapi.NIC{first}); err != nil {
			t.Errorf("unplug: %v", err)
		}
	}
	must(t, "destroy", s.Driver.Destroy(ctx, def.VMID))
	has("off again", first)
	if _, err := s.Driver.SetInterfaces(ctx, uuid.Must(uuid.NewV7()), nil); !errors.Is(err, nodeapi.ErrNotDefined) {
		t.Errorf("of nobody: %v", err)
	}
}
