package fake

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// HoldInterfaces makes guests not let go of interfaces, or do so again.
func (d *Driver) HoldInterfaces(hold bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holdNICs = hold
}

// sameNetwork compares what cannot be changed.
func sameNetwork(a, b driver.NetworkDef) bool {
	a.Name, a.DHCPStart, a.DHCPEnd = b.Name, b.DHCPStart, b.DHCPEnd
	return a == b
}

// EnsureNetwork implements driver.Driver.
func (d *Driver) EnsureNetwork(ctx context.Context, def driver.NetworkDef) error {
	return d.call(ctx, "EnsureNetwork", def.ID, true, func() error {
		have, ok := d.networks[def.ID]
		switch {
		case ok && have.InstallationID != def.InstallationID:
			return nodeapi.ErrWrongInstallation
		case ok && !sameNetwork(have, def):
			return nodeapi.ErrHypervisorRefused
		}
		d.networks[def.ID] = def
		return nil
	})
}

// RemoveNetwork implements driver.Driver.
func (d *Driver) RemoveNetwork(ctx context.Context, installation, network uuid.UUID) error {
	return d.call(ctx, "RemoveNetwork", network, true, func() error {
		have, ok := d.networks[network]
		if ok && have.InstallationID != installation {
			return nodeapi.ErrWrongInstallation
		}
		for _, dom := range d.domains {
			attached := func(n nodeapi.NIC) bool { return n.NetworkID == network }
			if isOn(dom) && slices.ContainsFunc(dom.nics, attached) {
				return nodeapi.ErrHypervisorRefused
			}
		}
		delete(d.networks, network)
		delete(d.hosts, network)
		return nil
	})
}

// ListNetworks implements driver.Driver.
func (d *Driver) ListNetworks(ctx context.Context) ([]driver.NetworkState, error) {
	var list []driver.NetworkState
	err := d.call(ctx, "ListNetworks", uuid.Nil, false, func() error {
		for _, n := range d.networks {
			list = append(list, driver.NetworkState{ID: n.ID, InstallationID: n.InstallationID, Bridge: n.Bridge, Active: true})
		}
		return nil
	})
	return list, err
}

// SetHosts implements driver.Driver.
func (d *Driver) SetHosts(ctx context.Context, installation, network uuid.UUID, hosts []nodeapi.NetworkHost) error {
	return d.call(ctx, "SetHosts", network, true, func() error {
		have, ok := d.networks[network]
		if !ok {
			return nil
		}
		if have.InstallationID != installation {
			return nodeapi.ErrWrongInstallation
		}
		named := map[string]bool{}
		hosts = slices.Clone(hosts)
		for i := range hosts {
			if named[hosts[i].Name] {
				hosts[i].Name = ""
			}
			named[hosts[i].Name] = true
		}
		d.hosts[network] = hosts
		return nil
	})
}

// Hosts implements driver.Driver.
func (d *Driver) Hosts(ctx context.Context, network uuid.UUID) ([]nodeapi.NetworkHost, error) {
	var list []nodeapi.NetworkHost
	err := d.call(ctx, "Hosts", network, false, func() error {
		if _, ok := d.networks[network]; !ok {
			return nodeapi.ErrNotDefined
		}
		list = slices.Clone(d.hosts[network])
		return nil
	})
	return list, err
}

// SetInterfaces implements driver.Driver.
func (d *Driver) SetInterfaces(ctx context.Context, vm uuid.UUID, nics []nodeapi.NIC) (held []string, err error) {
	err = d.domain(ctx, "SetInterfaces", vm, func(dom *domain) error {
		if !isOn(dom) {
			return nil
		}
		var now []nodeapi.NIC
		for _, have := range dom.nics {
			wanted := slices.ContainsFunc(nics, func(n nodeapi.NIC) bool { return n.MAC == have.MAC })
			if !wanted && d.holdNICs {
				held = append(held, have.MAC)
				now = append(now, have)
			}
		}
		for _, n := range nics {
			if _, ok := d.networks[n.NetworkID]; !ok {
				return nodeapi.ErrHypervisorRefused.WithMessage("there is no such network")
			}
		}
		dom.nics = append(now, nics...)
		return nil
	})
	return held, err
}

// Interfaces implements driver.Driver.
func (d *Driver) Interfaces(ctx context.Context, vm uuid.UUID) ([]nodeapi.NIC, error) {
	var list []nodeapi.NIC
	err := d.ask(ctx, "Interfaces", vm, func(dom *domain) error {
		list = slices.Clone(dom.def.NICs)
		if isOn(dom) {
			list = slices.Clone(dom.nics)
		}
		return nil
	})
	return list, err
}
