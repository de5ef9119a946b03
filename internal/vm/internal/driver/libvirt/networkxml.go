package libvirt

import (
	"fmt"
	"net/netip"

	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// leaseMinutes is how long a DHCP lease lasts: short, so that the addresses of guests that are gone come back soon.
const leaseMinutes = 10

// networkOf makes the definition of a network. Elements of foreign namespaces in a network's metadata are kept by libvirt since
// 2.1.0; only the calls that change them alone came with 9.7.0, and are not needed here.
//
// The spanning tree protocol is off: the bridge has no way out that could form a loop, and with it a guest's port would drop what the
// guest says for its first four seconds, DHCP included.
//
// A network with a way outside is "open" to libvirt, which then makes no firewall rules for it: those that it makes for "nat" and "route"
// would refuse what NovaCron's own let in, and could not be overruled.
//
// hosts6 is the folder with the fixed leases of IPv6; "" where there are none.
func networkOf(def driver.NetworkDef, hosts6 string) (*libvirtxml.Network, error) {
	metadata, err := writeMetadata(networkMetadata{Installation: def.InstallationID, Network: def.ID, Name: def.Name})
	if err != nil {
		return nil, err
	}
	network := &libvirtxml.Network{
		Name:     driver.NamePrefix + def.ID.String(),
		UUID:     def.ID.String(),
		Metadata: &libvirtxml.NetworkMetadata{XML: metadata},
	}
	if def.Mode == driver.ModeBridge {
		network.Forward = &libvirtxml.NetworkForward{Mode: "bridge"}
		network.Bridge = &libvirtxml.NetworkBridge{Name: def.Bridge}
		return network, nil
	}
	network.Bridge = &libvirtxml.NetworkBridge{Name: def.Bridge, STP: "off", Delay: "0"}
	network.Domain = &libvirtxml.NetworkDomain{Name: driver.Domain, LocalOnly: "yes"}
	network.DNS = &libvirtxml.NetworkDNS{Enable: "yes", ForwardPlainNames: "no"}
	if def.Mode != driver.ModeIsolated {
		network.Forward = &libvirtxml.NetworkForward{Mode: "open"}
	} else {
		// An isolated network has no way outside through the host's resolver either.
		network.DnsmasqOptions = &libvirtxml.NetworkDnsmasqOptions{Option: []libvirtxml.NetworkDnsmasqOption{{Value: "no-resolv"}}}
	}
	ip, err := networkIP(def.CIDR, def.Gateway)
	if err != nil {
		return nil, err
	}
	if def.DHCPStart != "" {
		ip.DHCP = &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{dhcpRange(def.DHCPStart, def.DHCPEnd)}}
	}
	network.IPs = []libvirtxml.NetworkIP{ip}
	if def.CIDR6 != "" {
		// Without a range of leases in its own words, libvirt has dnsmasq announce the prefix, and guests make their addresses themselves.
		ip6, err := networkIP(def.CIDR6, def.Gateway6)
		if err != nil {
			return nil, err
		}
		network.IPs = append(network.IPs, ip6)
		if hosts6 != "" {
			options, err := dhcp6Options(def.CIDR6, hosts6)
			if err != nil {
				return nil, err
			}
			network.DnsmasqOptions = &libvirtxml.NetworkDnsmasqOptions{Option: append(optionsOf(network), options...)}
		}
	}
	return network, nil
}

func networkIP(cidr, gateway string) (libvirtxml.NetworkIP, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return libvirtxml.NetworkIP{}, nodeapi.ErrHypervisorRefused.WithMessage("the network's CIDR %q cannot be read", cidr).Wrap(err)
	}
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	return libvirtxml.NetworkIP{Family: family, Address: gateway, Prefix: uint(prefix.Bits())}, nil
}

func dhcpRange(start, end string) libvirtxml.NetworkDHCPRange {
	return libvirtxml.NetworkDHCPRange{Start: start, End: end, Lease: &libvirtxml.NetworkDHCPLease{Expiry: leaseMinutes, Unit: "minutes"}}
}

// sameNetwork compares what decides how guests are connected.
func sameNetwork(a, b *libvirtxml.Network) bool { return essence(a) == essence(b) }

func essence(n *libvirtxml.Network) string {
	mode, bridge, address := forwardOf(n), "", ""
	if mode == "nat" { // as NovaCron made it once
		mode = "open"
	}
	if n.Bridge != nil {
		bridge = n.Bridge.Name
	}
	for _, ip := range n.IPs {
		bits := ip.Prefix
		if bits == 0 && ip.Netmask != "" {
			if mask, err := netip.ParseAddr(ip.Netmask); err == nil {
				bits = maskBits(mask)
			}
		}
		address += fmt.Sprintf(" %s/%d", ip.Address, bits)
	}
	return mode + " " + bridge + address
}

func forwardOf(n *libvirtxml.Network) string {
	if n.Forward == nil {
		return ""
	}
	return n.Forward.Mode
}

// rangesOf lists the ranges of leases.
func rangesOf(n *libvirtxml.Network) []libvirtxml.NetworkDHCPRange {
	var list []libvirtxml.NetworkDHCPRange
	for _, ip := range n.IPs {
		if ip.DHCP != nil {
			list = append(list, ip.DHCP.Ranges...)
		}
	}
	return list
}

func maskBits(mask netip.Addr) uint {
	var bits uint
	for _, b := range mask.AsSlice() {
		for ; b != 0; b <<= 1 {
			bits++
		}
	}
	return bits
}
