package libvirt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// libvirt knows leases of DHCPv6 by the client's DUID only, which nobody knows before the guest runs. dnsmasq itself goes by the MAC address as well,
// so what it is told of IPv6 goes past libvirt: a range of fixed leases in the network's definition, and the leases in a folder that dnsmasq
// watches, beside those of IPv4, which libvirt keeps. A MAC address makes the same address for as long as the network lives, so that a line that
// dnsmasq has not forgotten yet says nothing wrong.

// lease6 is the shortest that dnsmasq has. A guest that comes back with another DUID, rebuilt or by another program, is refused its own address
// until the lease of the one before is over. It is said with each lease: the range's own is what dnsmasq announces the prefix for, and the addresses
// that guests make of that have no end.
const lease6 = "2m"

// hosts6File is what a network's folder has.
const hosts6File = "leases6"

// hosts6 is the folder with the fixed leases of a network; "" where there are none.
func (d *Driver) hosts6(network uuid.UUID) string {
	if d.cfg.HostsDir == "" {
		return ""
	}
	return filepath.Join(d.cfg.HostsDir, network.String())
}

// makeHosts6 sees to the folder of a network that has DHCPv6, which must be there when dnsmasq starts, and which dnsmasq reads as a user of its own.
func (d *Driver) makeHosts6(def driver.NetworkDef) (dir string, err error) {
	if def.CIDR6 == "" || def.Mode == driver.ModeBridge {
		return "", nil
	}
	if dir = d.hosts6(def.ID); dir == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the folder of the leases of IPv6: %w", err)
	}
	for _, folder := range []string{d.cfg.HostsDir, dir} { // the umask may have taken something away
		if err := os.Chmod(folder, 0o755); err != nil {
			return "", fmt.Errorf("make the folder of the leases of IPv6 readable: %w", err)
		}
	}
	return dir, nil
}

// dhcp6Options have dnsmasq give out fixed leases of IPv6 beside what it announces.
func dhcp6Options(cidr, dir string) ([]libvirtxml.NetworkDnsmasqOption, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, nodeapi.ErrHypervisorRefused.WithMessage("the network's CIDR %q cannot be read", cidr).Wrap(err)
	}
	return []libvirtxml.NetworkDnsmasqOption{
		{Value: fmt.Sprintf("dhcp-range=%s,static,%d,infinite", prefix.Addr(), prefix.Bits())}, {Value: "dhcp-hostsdir=" + dir},
	}, nil
}

// optionsOf lists what a definition tells dnsmasq past libvirt.
func optionsOf(n *libvirtxml.Network) []libvirtxml.NetworkDnsmasqOption {
	if n.DnsmasqOptions == nil {
		return nil
	}
	return n.DnsmasqOptions.Option
}

// setHosts6 writes the fixed leases of a network. dnsmasq sees a new file at once, and forgets lines that are gone when libvirt next has it read
// the leases of IPv4, which change with them.
func (d *Driver) setHosts6(network uuid.UUID, hosts []nodeapi.NetworkHost) error {
	dir := d.hosts6(network)
	if dir == "" {
		return nil
	}
	var text bytes.Buffer
	for _, h := range hosts {
		if h.IP6 != "" {
			fmt.Fprintf(&text, "%s,[%s],%s\n", h.MAC, h.IP6, lease6)
		}
	}
	path := filepath.Join(dir, hosts6File)
	have, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(have, text.Bytes()), errors.Is(err, fs.ErrNotExist) && text.Len() == 0:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the leases of IPv6: %w", err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // the network was made without, or by an older NovaCron; EnsureNetwork comes first
	}
	// dnsmasq passes over names that begin with a dot.
	next := filepath.Join(dir, "."+hosts6File)
	if err := os.WriteFile(next, text.Bytes(), 0o644); err != nil { //nolint:gosec // dnsmasq has a user of its own
		return fmt.Errorf("write the leases of IPv6: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write the leases of IPv6: %w", err)
	}
	return nil
}

// leases6 reads what setHosts6 wrote: addresses by MAC.
func (d *Driver) leases6(network uuid.UUID) (map[string]string, error) {
	dir := d.hosts6(network)
	if dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(filepath.Join(dir, hosts6File))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the leases of IPv6: %w", err)
	}
	list := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if part := strings.Split(line, ","); len(part) == 3 {
			list[strings.ToLower(part[0])] = strings.Trim(part[1], "[]")
		}
	}
	return list, nil
}

func (d *Driver) dropHosts6(network uuid.UUID) error {
	if dir := d.hosts6(network); dir != "" {
		return os.RemoveAll(dir)
	}
	return nil
}
