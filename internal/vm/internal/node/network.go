package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Firewall keeps guests apart; package firewall has the real one.
type Firewall interface {
	// Apply puts a policy in force and tells whether that changed anything.
	Apply(ctx context.Context, policy nodeapi.Policy) (changed bool, err error)
	// Repair puts the kept policy in force where something has changed it from outside, and tells whether that was so.
	Repair(ctx context.Context) (repaired bool, err error)
	// Policy gives the kept policy.
	Policy() nodeapi.Policy
}

// Command runs a program of the host with this input and gives what it printed.
type Command = func(ctx context.Context, input string, args ...string) (string, error)

func (n *Node) ensureNetwork(ctx context.Context, c nodeapi.Command, req nodeapi.NetworkSpec) (nodeapi.Empty, error) {
	def := driver.NetworkDef{
		ID: req.ID, InstallationID: c.InstallationID, Name: req.Name, Mode: req.Mode, Bridge: req.Bridge, CIDR: req.CIDR,
		Gateway: req.Gateway, DHCPStart: req.DHCPStart, DHCPEnd: req.DHCPEnd, CIDR6: req.CIDR6, Gateway6: req.Gateway6,
	}
	if req.Mode == driver.ModeBridge {
		if err := n.connectUplink(ctx, req); err != nil {
			return nodeapi.Empty{}, err
		}
		if req.VLAN == 0 {
			def.Bridge = req.Uplink
		}
	}
	if err := n.cfg.Driver.EnsureNetwork(ctx, def); err != nil {
		return nodeapi.Empty{}, err
	}
	if req.Mode == driver.ModeNAT {
		n.letLoopbackOut(ctx, req.Bridge)
	}
	return nodeapi.Empty{}, n.setHosts(ctx, func(id uuid.UUID) bool { return id == req.ID })
}

func (n *Node) removeNetwork(ctx context.Context, c nodeapi.Command, req nodeapi.NetworkRef) (nodeapi.Empty, error) {
	if err := n.cfg.Driver.RemoveNetwork(ctx, c.InstallationID, req.ID); err != nil {
		return nodeapi.Empty{}, err
	}
	return nodeapi.Empty{}, n.removeUplink(ctx, req)
}

// vlanDevice is the tagged device of a network with this bridge.
func vlanDevice(bridge string) string { return "nvl" + strings.TrimPrefix(bridge, "nova") }

// ip runs a command of iproute2.
func (n *Node) ip(ctx context.Context, args string) (string, error) {
	if n.cfg.Run == nil {
		return "", nil
	}
	return n.cfg.Run(ctx, "", append([]string{"ip"}, strings.Fields(args)...)...)
}

// connectUplink sees to the bridge of a network that leads outside: it is there already, or it is made over a tagged device.
func (n *Node) connectUplink(ctx context.Context, req nodeapi.NetworkSpec) error {
	if n.cfg.Run == nil {
		return nil
	}
	if !deviceName(req.Uplink) || !deviceName(req.Bridge) {
		return nodeapi.ErrInvalidCommand.WithMessage("%q is no name of a device", req.Uplink)
	}
	if req.VLAN == 0 {
		out, err := n.ip(ctx, "link show dev "+req.Uplink+" type bridge")
		if err != nil || strings.TrimSpace(out) == "" {
			return nodeapi.ErrUplink.WithMessage("the node %s has no bridge %q", n.cfg.Name, req.Uplink).Wrap(err)
		}
		return nil
	}
	tagged := vlanDevice(req.Bridge)
	for _, step := range []struct{ unless, do string }{
		{"", "link show dev " + req.Uplink},
		{"link show dev " + tagged, fmt.Sprintf("link add link %s name %s type vlan id %d", req.Uplink, tagged, req.VLAN)},
		// The host itself has no address in the network, not even one that it makes itself.
		{"link show dev " + req.Bridge, "link add name " + req.Bridge + " addrgenmode none type bridge forward_delay 0"},
		{"", "link set dev " + tagged + " addrgenmode none master " + req.Bridge},
		{"", "link set dev " + req.Uplink + " up"},
		{"", "link set dev " + tagged + " up"},
		{"", "link set dev " + req.Bridge + " up"},
	} {
		if step.unless != "" {
			if _, err := n.ip(ctx, step.unless); err == nil {
				continue
			}
		}
		if _, err := n.ip(ctx, step.do); err != nil {
			return nodeapi.ErrUplink.WithMessage("the node %s cannot connect VLAN %d of %q: %v", n.cfg.Name, req.VLAN, req.Uplink, err).Wrap(err)
		}
	}
	return nil
}

// removeUplink removes what connectUplink has made, and nothing else: devices of other names are the host's.
func (n *Node) removeUplink(ctx context.Context, req nodeapi.NetworkRef) error {
	if n.cfg.Run == nil || !strings.HasPrefix(req.Bridge, "nova") || !deviceName(req.Bridge) {
		return nil
	}
	for _, device := range []string{vlanDevice(req.Bridge), req.Bridge} {
		if _, err := n.ip(ctx, "link show dev "+device); err != nil {
			continue // is not there
		}
		if _, err := n.ip(ctx, "link del dev "+device); err != nil {
			return nodeapi.ErrUplink.WithMessage("the node %s cannot remove %q: %v", n.cfg.Name, device, err).Wrap(err)
		}
	}
	return nil
}

// deviceName tells whether a text is the name of a device and nothing that a program would take for more.
func deviceName(text string) bool {
	if text == "" || len(text) > 15 || text[0] == '-' || text[0] == '.' {
		return false
	}
	for _, c := range text {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)) {
			return false
		}
	}
	return true
}

// letLoopbackOut lets forwarded ports be reached by the host's own loopback address. The firewall keeps guests from using such addresses.
func (n *Node) letLoopbackOut(ctx context.Context, bridge string) {
	if n.cfg.Run == nil || !deviceName(bridge) {
		return
	}
	if _, err := n.cfg.Run(ctx, "1\n", "tee", "/proc/sys/net/ipv4/conf/"+bridge+"/route_localnet"); err != nil {
		n.cfg.Log.Debug("forwarded ports are not reached by the loopback address", "bridge", bridge, "error", err)
	}
}

// applyPolicy puts filters in force first, then names and leases: what is told before it is protected would be a moment too early.
func (n *Node) applyPolicy(ctx context.Context, _ nodeapi.Command, policy nodeapi.Policy) (nodeapi.PolicyApplied, error) {
	if n.cfg.Firewall == nil {
		return nodeapi.PolicyApplied{}, nil
	}
	before := n.cfg.Firewall.Policy()
	changed, err := n.cfg.Firewall.Apply(ctx, policy)
	if !errors.Is(err, nodeapi.ErrStaleGeneration) { // what came late says nothing of the newer policy that is in force
		n.protection(err)
	}
	if err != nil {
		return nodeapi.PolicyApplied{}, err
	}
	same := func(id uuid.UUID) bool { return slices.Equal(hostsOf(before, id), hostsOf(policy, id)) }
	return nodeapi.PolicyApplied{Changed: changed}, n.setHosts(ctx, func(id uuid.UUID) bool { return !same(id) || n.hostsDue.Load() })
}

func hostsOf(policy nodeapi.Policy, network uuid.UUID) []nodeapi.NetworkHost {
	for _, n := range policy.Networks {
		if n.ID == network {
			return n.Hosts
		}
	}
	return nil
}

// setHosts sets the leases and names of the policy's networks that which picks.
func (n *Node) setHosts(ctx context.Context, which func(uuid.UUID) bool) error {
	if n.cfg.Firewall == nil {
		return nil
	}
	n.mu.Lock()
	installation := n.installation
	n.mu.Unlock()
	for _, network := range n.cfg.Firewall.Policy().Networks {
		if network.Mode == driver.ModeBridge || !which(network.ID) {
			continue
		}
		if err := n.cfg.Driver.SetHosts(ctx, installation, network.ID, network.Hosts); err != nil {
			n.hostsDue.Store(true)
			return err
		}
	}
	return nil
}

// protection notes whether the guests are protected as the policy wants.
func (n *Node) protection(err error) {
	if err == nil {
		n.protected.Store(true)
		return
	}
	n.protected.Store(false)
	n.metrics.firewallFailures.Inc()
}

// repairTimeout bounds one look at the firewall.
const repairTimeout = time.Minute

// firewallLoop puts the kept policy in force when the node starts, whether a controller answers or not, and again whenever something
// outside has changed it.
func (n *Node) firewallLoop(ctx context.Context) {
	tick := time.NewTicker(n.cfg.FirewallInterval)
	defer tick.Stop()
	for {
		n.repair(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.repairNow:
		}
	}
}

func (n *Node) repair(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	repaired, err := n.cfg.Firewall.Repair(ctx)
	if n.life.Err() != nil {
		return
	}
	n.protection(err)
	switch {
	case err != nil:
		n.cfg.Log.Error("the protection of the guests cannot be put in force", "error", err)
		return
	case repaired:
		n.metrics.firewallRepairs.Inc()
		n.cfg.Log.Warn("the protection of the guests was put in force again")
	}
	if n.hostsDue.CompareAndSwap(true, false) && n.connected.Load() {
		if err := n.setHosts(ctx, func(uuid.UUID) bool { return true }); err != nil {
			n.cfg.Log.Warn("names and leases could not be set", "error", err)
		}
	}
}

// mayStart refuses to start a guest that would not be protected, and has the protection put in force for the next attempt.
func (n *Node) mayStart() error {
	if n.cfg.Firewall != nil && !n.protected.Load() {
		kick(n.repairNow)
		return nodeapi.ErrFirewall
	}
	return nil
}

// maxInterfaceUnplug is how long a guest may take to let go of an interface.
const maxInterfaceUnplug = 30 * time.Second

// setInterfaces plugs interfaces of a running guest in and out. The definition is Define's affair.
func (n *Node) setInterfaces(ctx context.Context, c nodeapi.Command, req nodeapi.InterfacesSpec) (nodeapi.Status, error) {
	if err := n.mayStart(); err != nil {
		return nodeapi.Status{}, err
	}
	end := time.NewTimer(n.cfg.UnplugPatience)
	defer end.Stop()
	look := time.NewTicker(offInterval)
	defer look.Stop()
	for {
		held, err := n.cfg.Driver.SetInterfaces(ctx, c.VMID, req.NICs)
		if err != nil {
			return n.unlessOff(ctx, c, err)
		}
		if len(held) == 0 {
			return n.status(ctx, c.VMID)
		}
		select {
		case <-look.C:
		case <-end.C:
			return nodeapi.Status{}, nodeapi.ErrInterfaceHeld.WithMeta("mac", held[0])
		case <-ctx.Done():
			return nodeapi.Status{}, context.Cause(ctx)
		}
	}
}

// read reads a file of the kernel about the network that the hypervisor lives in.
func (n *Node) read(ctx context.Context, path string) (string, error) {
	if n.cfg.Run != nil {
		return n.cfg.Run(ctx, "", "cat", path)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}
