package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// updateNetwork changes one element of a network that runs, and of its definition. dnsmasq reads it anew without a pause.
func updateNetwork(network *libvirt.Network, command libvirt.NetworkUpdateCommand, section libvirt.NetworkUpdateSection, element any) error {
	name := map[libvirt.NetworkUpdateSection]string{libvirt.NETWORK_SECTION_IP_DHCP_RANGE: "range",
		libvirt.NETWORK_SECTION_IP_DHCP_HOST: "host", libvirt.NETWORK_SECTION_DNS_HOST: "host"}[section]
	var text strings.Builder
	encoder := xml.NewEncoder(&text)
	if err := encoder.EncodeElement(element, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		return fmt.Errorf("encode a part of the network: %w", err)
	}
	return network.Update(command, section, -1, text.String(), libvirt.NETWORK_UPDATE_AFFECT_LIVE|libvirt.NETWORK_UPDATE_AFFECT_CONFIG)
}

// SetHosts implements driver.Driver.
func (d *Driver) SetHosts(ctx context.Context, installation, id uuid.UUID, hosts []nodeapi.NetworkHost) error {
	d.hosts.Lock()
	defer d.hosts.Unlock()
	return d.change(ctx, "set the names and leases of the network", func(c *libvirt.Connect) error {
		network, err := c.LookupNetworkByUUIDString(id.String())
		if isCode(err, libvirt.ERR_NO_NETWORK) {
			return nil
		}
		if err != nil {
			return err
		}
		defer network.Free() // fails only on a nil pointer
		have, meta, err := readNetwork(network)
		if err != nil {
			return err
		}
		if meta.Installation != installation {
			return nodeapi.ErrWrongInstallation
		}
		if active, err := network.IsActive(); err != nil || !active || have.DNS == nil {
			return err // EnsureNetwork comes first where it matters
		}
		if err := d.setHosts6(id, hosts); err != nil { // first, so that what libvirt has dnsmasq read anew is all of it
			return err
		}
		leases, names := hostsOf(have)
		wantLeases, wantNames := wantedHosts(hosts)
		same := func(l libvirtxml.NetworkDHCPHost) libvirtxml.NetworkDHCPHost { return l }
		if err := setList(network, libvirt.NETWORK_SECTION_IP_DHCP_HOST, leases, wantLeases, sameLease, same); err != nil {
			return err
		}
		// A name is there twice, with an address of each version of IP, and libvirt would not know which one is to go.
		return setList(network, libvirt.NETWORK_SECTION_DNS_HOST, names, wantNames, sameName, func(h libvirtxml.NetworkDNSHost) libvirtxml.NetworkDNSHost {
			return libvirtxml.NetworkDNSHost{IP: h.IP}
		})
	})
}

func hostsOf(n *libvirtxml.Network) (leases []libvirtxml.NetworkDHCPHost, names []libvirtxml.NetworkDNSHost) {
	for _, ip := range n.IPs {
		if ip.DHCP != nil {
			leases = append(leases, ip.DHCP.Hosts...)
		}
	}
	if n.DNS != nil {
		names = n.DNS.Host
	}
	return leases, names
}

// wantedHosts makes the elements of a network. libvirt refuses a name that is there already, so the first host that has it keeps it.
func wantedHosts(hosts []nodeapi.NetworkHost) (leases []libvirtxml.NetworkDHCPHost, names []libvirtxml.NetworkDNSHost) {
	taken := map[string]bool{}
	for _, h := range hosts {
		if taken[h.Name] {
			h.Name = ""
		}
		leases = append(leases, libvirtxml.NetworkDHCPHost{MAC: h.MAC, Name: h.Name, IP: h.IP})
		if h.Name != "" {
			taken[h.Name] = true
			for _, ip := range []string{h.IP, h.IP6} {
				if ip != "" {
					names = append(names, libvirtxml.NetworkDNSHost{IP: ip, Hostnames: []libvirtxml.NetworkDNSHostHostname{{Hostname: h.Name}}})
				}
			}
		}
	}
	return leases, names
}

func sameLease(a, b libvirtxml.NetworkDHCPHost) bool {
	return strings.EqualFold(a.MAC, b.MAC) && a.IP == b.IP && a.Name == b.Name
}

func sameName(a, b libvirtxml.NetworkDNSHost) bool {
	return sameAddress(a.IP, b.IP) && slices.Equal(a.Hostnames, b.Hostnames)
}

// sameAddress sees through notation: libvirt writes one group of zeros out, and we do not.
func sameAddress(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return a == b || errX == nil && errY == nil && x == y
}

// setList removes what is not wanted before it adds what is: an address or a name may go from one host to another. naming gives what libvirt finds
// the one to remove by.
func setList[T any](network *libvirt.Network, section libvirt.NetworkUpdateSection, have, want []T, same func(a, b T) bool, naming func(T) T) error {
	contains := func(list []T, x T) bool { return slices.ContainsFunc(list, func(y T) bool { return same(x, y) }) }
	for _, x := range have {
		if contains(want, x) {
			continue
		}
		named := naming(x)
		if err := updateNetwork(network, libvirt.NETWORK_UPDATE_COMMAND_DELETE, section, &named); err != nil {
			return err
		}
	}
	for _, x := range want {
		if contains(have, x) {
			continue
		}
		if err := updateNetwork(network, libvirt.NETWORK_UPDATE_COMMAND_ADD_LAST, section, &x); err != nil {
			return err
		}
	}
	return nil
}

// Hosts implements driver.Driver.
func (d *Driver) Hosts(ctx context.Context, id uuid.UUID) ([]nodeapi.NetworkHost, error) {
	return ask(ctx, d, "list the names and leases of the network", func(c *libvirt.Connect) ([]nodeapi.NetworkHost, error) {
		network, err := c.LookupNetworkByUUIDString(id.String())
		if err != nil {
			return nil, err
		}
		defer network.Free() // fails only on a nil pointer
		have, _, err := readNetwork(network)
		if err != nil {
			return nil, err
		}
		leases, _ := hostsOf(have)
		leases6, err := d.leases6(id)
		if err != nil {
			return nil, err
		}
		var list []nodeapi.NetworkHost
		for _, l := range leases {
			mac := strings.ToLower(l.MAC)
			list = append(list, nodeapi.NetworkHost{MAC: mac, IP: l.IP, IP6: leases6[mac], Name: l.Name})
		}
		return list, nil
	})
}

// macOf and nicOf read what interfacesOf made.
func macOf(i libvirtxml.DomainInterface) string {
	if i.MAC == nil {
		return ""
	}
	return strings.ToLower(i.MAC.Address)
}

func nicOf(i libvirtxml.DomainInterface) nodeapi.NIC {
	n := nodeapi.NIC{MAC: macOf(i), Down: i.Link != nil && i.Link.State == "down"}
	if i.Source != nil && i.Source.Network != nil {
		n.NetworkID, _ = uuid.Parse(strings.TrimPrefix(i.Source.Network.Network, driver.NamePrefix))
	}
	return n
}

// Interfaces implements driver.Driver.
func (d *Driver) Interfaces(ctx context.Context, vm uuid.UUID) ([]nodeapi.NIC, error) {
	return ask(ctx, d, "list the interfaces", func(c *libvirt.Connect) ([]nodeapi.NIC, error) {
		var list []nodeapi.NIC
		err := domain(c, vm, func(dom *libvirt.Domain) error {
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			for _, i := range def.Devices.Interfaces {
				list = append(list, nicOf(i))
			}
			return nil
		})
		return list, err
	})
}

// SetInterfaces implements driver.Driver.
func (d *Driver) SetInterfaces(ctx context.Context, vm uuid.UUID, nics []nodeapi.NIC) (held []string, err error) {
	err = d.change(ctx, "set the interfaces", func(c *libvirt.Connect) error {
		return domain(c, vm, func(dom *libvirt.Domain) error {
			state, _, err := dom.GetState()
			if err != nil || isOff(state) {
				return err
			}
			def, err := definition(dom, 0)
			if err != nil {
				return err
			}
			if held, err = unplugOthers(dom, def.Devices.Interfaces, nics); err != nil {
				return err
			}
			for _, nic := range nics {
				if err := setInterface(dom, def.Devices.Interfaces, nic); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return held, err
}

func unplugOthers(dom *libvirt.Domain, have []libvirtxml.DomainInterface, nics []nodeapi.NIC) (held []string, err error) {
	for _, i := range have {
		mac := macOf(i)
		if slices.ContainsFunc(nics, func(n nodeapi.NIC) bool { return n.MAC == mac }) {
			continue
		}
		held = append(held, mac)
		if i.Alias == nil {
			continue
		}
		err := dom.DetachDeviceAlias(i.Alias.Name, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
		// It is asked already, or it has gone between the look and the call; the next look tells.
		if err != nil && !isCode(err, libvirt.ERR_DEVICE_MISSING, libvirt.ERR_OPERATION_FAILED, libvirt.ERR_INTERNAL_ERROR) {
			return held, err
		}
	}
	return held, nil
}

// setInterface plugs an interface in, or brings the link of one that is there to what is wanted.
func setInterface(dom *libvirt.Domain, have []libvirtxml.DomainInterface, nic nodeapi.NIC) error {
	at := slices.IndexFunc(have, func(i libvirtxml.DomainInterface) bool { return macOf(i) == nic.MAC })
	if at < 0 {
		list, err := interfacesOf([]nodeapi.NIC{nic})
		if err != nil {
			return err
		}
		text, err := list[0].Marshal()
		if err != nil {
			return fmt.Errorf("encode the interface: %w", err)
		}
		return dom.AttachDeviceFlags(text, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
	}
	device := have[at]
	if nicOf(device).Down == nic.Down {
		return nil
	}
	device.Link = linkOf(nic)
	text, err := device.Marshal()
	if err != nil {
		return fmt.Errorf("encode the interface: %w", err)
	}
	return dom.UpdateDeviceFlags(text, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
}

func linkOf(nic nodeapi.NIC) *libvirtxml.DomainInterfaceLink {
	if nic.Down {
		return &libvirtxml.DomainInterfaceLink{State: "down"}
	}
	return &libvirtxml.DomainInterfaceLink{State: "up"}
}
