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
func networkOf(def driver.NetworkDef) (*libvirtxml.Network, error) {
	prefix, err := netip.ParsePrefix(def.CIDR)
	if err != nil {
		return nil, nodeapi.ErrHypervisorRefused.WithMessage("the network's CIDR %q cannot be read", def.CIDR).Wrap(err)
	}
	metadata, err := writeMetadata(networkMetadata{Installation: def.InstallationID, Network: def.ID, Name: def.Name})
	if err != nil {
		return nil, err
	}
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	ip := libvirtxml.NetworkIP{Family: family, Address: def.Gateway, Prefix: uint(prefix.Bits())}
	if def.DHCPStart != "" {
		ip.DHCP = &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{{
			Start: def.DHCPStart, End: def.DHCPEnd, Lease: &libvirtxml.NetworkDHCPLease{Expiry: leaseMinutes, Unit: "minutes"},
		}}}
	}
	network := &libvirtxml.Network{
		Name:     driver.NamePrefix + def.ID.String(),
		UUID:     def.ID.String(),
		Metadata: &libvirtxml.NetworkMetadata{XML: metadata},
		Bridge:   &libvirtxml.NetworkBridge{Name: def.Bridge, STP: "off", Delay: "0"},
		DNS:      &libvirtxml.NetworkDNS{Enable: "yes", ForwardPlainNames: "no"},
		IPs:      []libvirtxml.NetworkIP{ip},
	}
	if def.Mode == driver.ModeNAT {
		network.Forward = &libvirtxml.NetworkForward{Mode: "nat"}
	}
	return network, nil
}

// sameNetwork compares what decides how guests are connected.
func sameNetwork(a, b *libvirtxml.Network) bool { return essence(a) == essence(b) }

func essence(n *libvirtxml.Network) string {
	mode, bridge, address := "", "", ""
	if n.Forward != nil {
		mode = n.Forward.Mode
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
		if ip.DHCP == nil {
			continue
		}
		for _, r := range ip.DHCP.Ranges {
			address += " " + r.Start + "-" + r.End
		}
	}
	return mode + " " + bridge + address
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
