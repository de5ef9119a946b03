package drivertest

import (
	"errors"
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
	for _, mode := range []string{driver.ModeNAT, driver.ModeIsolated} {
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
