package libvirt

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// EnsureNetwork implements driver.Driver.
func (d *Driver) EnsureNetwork(ctx context.Context, def driver.NetworkDef) error {
	dir, err := d.makeHosts6(def)
	if err != nil {
		return err
	}
	want, err := networkOf(def, dir)
	if err != nil {
		return err
	}
	return d.change(ctx, "set the network up", func(c *libvirt.Connect) error {
		network, err := c.LookupNetworkByUUIDString(def.ID.String())
		if isCode(err, libvirt.ERR_NO_NETWORK) {
			xml, marshalErr := want.Marshal()
			if marshalErr != nil {
				return marshalErr
			}
			network, err = c.NetworkDefineXMLFlags(xml, libvirt.NETWORK_DEFINE_VALIDATE)
		}
		if err != nil {
			return err
		}
		defer network.Free() // fails only on a nil pointer
		have, meta, err := readNetwork(network)
		switch {
		case err != nil:
			return err
		case meta.Installation != def.InstallationID:
			return nodeapi.ErrWrongInstallation
		case !sameNetwork(have, want):
			return nodeapi.ErrHypervisorRefused.WithMessage("the network exists on the node with other settings (%s, not %s)",
				essence(have), essence(want)).WithAction("Remove the network from the node first.")
		}
		if err := network.SetAutostart(true); err != nil {
			return err
		}
		active, err := network.IsActive()
		if err != nil {
			return err
		}
		if forwardOf(have) != forwardOf(want) || !slices.Equal(optionsOf(have), optionsOf(want)) {
			if active, err = renew(c, network, keeping(*want, have), active); err != nil {
				return err
			}
		}
		if active {
			return setRanges(network, have, want)
		}
		if err = network.Create(); err == nil {
			return nil
		}
		if active, activeErr := network.IsActive(); activeErr == nil && active {
			return nil // another call was faster
		}
		return err
	})
}

// RemoveNetwork implements driver.Driver.
func (d *Driver) RemoveNetwork(ctx context.Context, installation, id uuid.UUID) error {
	return d.change(ctx, "remove the network", func(c *libvirt.Connect) error {
		network, err := c.LookupNetworkByUUIDString(id.String())
		if isCode(err, libvirt.ERR_NO_NETWORK) {
			return d.dropHosts6(id)
		}
		if err != nil {
			return err
		}
		defer network.Free() // fails only on a nil pointer
		_, meta, err := readNetwork(network)
		if err != nil {
			return err
		}
		if meta.Installation != installation {
			return nodeapi.ErrWrongInstallation
		}
		active, err := network.IsActive()
		if err != nil {
			return err
		}
		if active {
			// libvirt would pull the network away from under its guests.
			used, err := inUse(network)
			if err != nil {
				return err
			}
			if used {
				return nodeapi.ErrHypervisorRefused.WithMessage("a running virtual machine is attached to the network")
			}
			if err := network.Destroy(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID) {
				return err
			}
		}
		if err = network.Undefine(); err != nil && !isCode(err, libvirt.ERR_NO_NETWORK) {
			return err
		}
		return d.dropHosts6(id)
	})
}

// keeping gives a definition the names and leases of the one that it replaces.
func keeping(want libvirtxml.Network, have *libvirtxml.Network) *libvirtxml.Network {
	leases, names := hostsOf(have)
	if want.DNS != nil {
		dns := *want.DNS
		dns.Host, want.DNS = names, &dns
	}
	if len(want.IPs) > 0 && want.IPs[0].DHCP != nil {
		dhcp := *want.IPs[0].DHCP
		dhcp.Hosts = leases
		want.IPs = slices.Clone(want.IPs)
		want.IPs[0].DHCP = &dhcp
	}
	return &want
}

// renew replaces the definition of a network that an earlier NovaCron made, with libvirt's own firewall rules or without DHCPv6. It comes into effect
// at once where no guest is attached, and with the host's next start otherwise.
func renew(c *libvirt.Connect, network *libvirt.Network, want *libvirtxml.Network, active bool) (stillActive bool, err error) {
	xml, err := want.Marshal()
	if err != nil {
		return active, err
	}
	again, err := c.NetworkDefineXMLFlags(xml, libvirt.NETWORK_DEFINE_VALIDATE)
	if err != nil {
		return active, err
	}
	_ = again.Free()
	if !active {
		return false, nil
	}
	used, err := inUse(network)
	if err != nil || used {
		return true, err
	}
	return false, network.Destroy()
}

// setRanges brings the ranges of leases to what is wanted, while the network runs.
func setRanges(network *libvirt.Network, have, want *libvirtxml.Network) error {
	key := func(r libvirtxml.NetworkDHCPRange) string { return r.Start + "-" + r.End }
	wanted := map[string]bool{}
	for _, r := range rangesOf(want) {
		wanted[key(r)] = true
	}
	for _, r := range rangesOf(have) {
		if wanted[key(r)] {
			delete(wanted, key(r))
			continue
		}
		if err := updateNetwork(network, libvirt.NETWORK_UPDATE_COMMAND_DELETE, libvirt.NETWORK_SECTION_IP_DHCP_RANGE, &r); err != nil {
			return err
		}
	}
	for _, r := range rangesOf(want) {
		if !wanted[key(r)] {
			continue
		}
		if err := updateNetwork(network, libvirt.NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.NETWORK_SECTION_IP_DHCP_RANGE, &r); err != nil {
			return err
		}
	}
	return nil
}

func inUse(network *libvirt.Network) (bool, error) {
	ports, err := network.ListAllPorts(0)
	if isCode(err, libvirt.ERR_NO_SUPPORT) {
		return false, nil
	}
	for i := range ports {
		_ = ports[i].Free()
	}
	return len(ports) > 0, err
}

// readNetwork reads the definition of a network; one without our metadata answers with zero ids.
func readNetwork(network *libvirt.Network) (*libvirtxml.Network, networkMetadata, error) {
	text, err := network.GetXMLDesc(0)
	if err != nil {
		return nil, networkMetadata{}, err
	}
	var have libvirtxml.Network
	if err := have.Unmarshal(text); err != nil {
		return nil, networkMetadata{}, err
	}
	if have.Metadata == nil {
		return &have, networkMetadata{}, nil
	}
	meta, _ := readMetadata[networkMetadata](have.Metadata.XML, "network")
	return &have, meta, nil
}

// ListNetworks implements driver.Driver.
func (d *Driver) ListNetworks(ctx context.Context) ([]driver.NetworkState, error) {
	return ask(ctx, d, "list the networks", func(c *libvirt.Connect) ([]driver.NetworkState, error) {
		networks, err := c.ListAllNetworks(0)
		if err != nil {
			return nil, err
		}
		defer func() {
			for i := range networks {
				_ = networks[i].Free()
			}
		}()
		var states []driver.NetworkState
		for i := range networks {
			have, meta, err := readNetwork(&networks[i])
			if isCode(err, libvirt.ERR_NO_NETWORK) {
				continue // gone since it was listed
			}
			if err != nil {
				return nil, err
			}
			if meta.Network == uuid.Nil || have.UUID != meta.Network.String() {
				continue
			}
			active, err := networks[i].IsActive()
			if err != nil {
				return nil, err
			}
			state := driver.NetworkState{ID: meta.Network, InstallationID: meta.Installation, Active: active}
			if have.Bridge != nil {
				state.Bridge = have.Bridge.Name
			}
			states = append(states, state)
		}
		return states, nil
	})
}
