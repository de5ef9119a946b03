package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// agentTimeout is how long a guest agent may take to answer. libvirt counts in whole seconds.
const agentTimeout = 2

// Addresses implements driver.Driver. The agent is asked only for what the leases do not tell.
func (d *Driver) Addresses(ctx context.Context, vm uuid.UUID) ([]nodeapi.Address, error) {
	state, err := d.Status(ctx, vm)
	if err != nil {
		return nil, err
	}
	if state.Observed != nodeapi.ObservedRunning || len(state.MACs) == 0 {
		return nil, nil
	}
	leases, err := d.addresses(ctx, vm, libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, "lease")
	if err != nil {
		return nil, err
	}
	if len(without(state.MACs, leases)) == 0 {
		return leases, nil
	}
	agent, err := d.addresses(ctx, vm, libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, "agent")
	if err != nil {
		return leases, nil //nolint:nilerr // no agent, or a silent one: common, and not worth a word
	}
	missing := without(state.MACs, leases)
	for _, a := range agent {
		for _, mac := range missing {
			if strings.EqualFold(a.MAC, mac) {
				leases = append(leases, a)
			}
		}
	}
	return leases, nil
}

// without gives the interfaces that have no address.
func without(macs []string, have []nodeapi.Address) []string {
	var missing []string
	for _, mac := range macs {
		found := false
		for _, a := range have {
			found = found || strings.EqualFold(a.MAC, mac)
		}
		if !found {
			missing = append(missing, mac)
		}
	}
	return missing
}

func (d *Driver) addresses(ctx context.Context, vm uuid.UUID, from libvirt.DomainInterfaceAddressesSource, source string) ([]nodeapi.Address, error) {
	return ask(ctx, d, "ask for addresses", func(c *libvirt.Connect) ([]nodeapi.Address, error) {
		if from == libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT {
			select {
			case d.agent <- struct{}{}:
				defer func() { <-d.agent }()
			default:
				return nil, nil // other guests keep the slots busy; the next poll asks again
			}
		}
		var found []nodeapi.Address
		err := domain(c, vm, func(dom *libvirt.Domain) error {
			if from == libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT {
				if ok, err := agentConnected(dom); err != nil || !ok {
					return err
				}
				if err := dom.AgentSetResponseTimeout(agentTimeout, 0); err != nil {
					return err
				}
			}
			interfaces, err := dom.ListAllInterfaceAddresses(from)
			for _, i := range interfaces {
				for _, a := range i.Addrs {
					ip, parseErr := netip.ParseAddr(a.Addr)
					if parseErr != nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
						continue
					}
					found = append(found, nodeapi.Address{MAC: strings.ToLower(i.Hwaddr), IP: ip.String(), Source: source})
				}
			}
			return err
		})
		if isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_SUPPORT) { // stopped meanwhile
			return nil, nil
		}
		return found, err
	})
}

// agentConnected tells whether a guest agent has opened its end of the channel. Asking one that has not would only fill libvirtd's
// log with errors.
func agentConnected(dom *libvirt.Domain) (bool, error) {
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return false, err
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil || def.Devices == nil {
		return false, err
	}
	for _, c := range def.Devices.Channels {
		if c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == agentName {
			return c.Target.VirtIO.State == "connected", nil
		}
	}
	return false, nil
}

// leaseTool is dnsmasq's own tool to give a lease back; libvirt has no call for it. It comes with the package dnsmasq-utils.
const leaseTool = "dhcp_release"

// ReleaseLeases implements driver.Driver.
func (d *Driver) ReleaseLeases(ctx context.Context, vm uuid.UUID) error {
	tool, err := exec.LookPath(leaseTool)
	if err != nil {
		return nil //nolint:nilerr // without the tool leases expire by themselves
	}
	state, err := d.Status(ctx, vm)
	if err != nil {
		return err
	}
	type lease struct{ bridge, ip, mac string }
	leases, err := ask(ctx, d, "list the leases", func(c *libvirt.Connect) ([]lease, error) {
		networks, err := c.ListAllNetworks(libvirt.CONNECT_LIST_NETWORKS_ACTIVE)
		if err != nil {
			return nil, err
		}
		var found []lease
		for i := range networks {
			n := &networks[i]
			bridge, _ := n.GetBridgeName()
			leased, _ := n.GetDHCPLeases()
			for _, l := range leased {
				if l.Type == libvirt.IP_ADDR_TYPE_IPV4 && len(without([]string{l.Mac}, macsOnly(state.MACs))) == 0 {
					found = append(found, lease{bridge, l.IPaddr, l.Mac})
				}
			}
			_ = n.Free()
		}
		return found, nil
	})
	for _, l := range leases {
		runCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
		out, runErr := exec.CommandContext(runCtx, tool, l.bridge, l.ip, l.mac).CombinedOutput() //nolint:gosec // facts of libvirt's own
		cancel()
		if runErr != nil {
			err = errors.Join(err, fmt.Errorf("release lease %s: %w: %s", l.ip, runErr, out))
		}
	}
	return err
}

func macsOnly(macs []string) []nodeapi.Address {
	list := make([]nodeapi.Address, len(macs))
	for i, m := range macs {
		list[i].MAC = m
	}
	return list
}
