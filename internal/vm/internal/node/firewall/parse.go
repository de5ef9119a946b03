package firewall

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// network, port and group are a policy's parts in types that cannot hold anything but what they should.
type network struct {
	mode           string
	bridge         string
	prefix         netip.Prefix // zero: none
	gateway        netip.Addr
	prefix6        netip.Prefix
	gateway6       netip.Addr
	router         netip.Addr // of the link; zero: not known yet
	provided       bool       // its bridge is the host's own
	isolated, nats bool
}

type port struct {
	hex      string // of the MAC, twelve digits
	mac      string
	net      network
	ip, ip6  netip.Addr
	down     bool
	in, out  int64 // bytes per second
	groups   []group
	forwards []forward
}

type group struct {
	id      string // 32 digits
	rules   []rule
	members []netip.Addr
}

type rule struct {
	egress   bool
	protocol string
	min, max int
	cidr     netip.Prefix
	group    string
}

type forward struct {
	protocol            string
	hostPort, guestPort int
	guest               netip.Addr
	source              netip.Prefix
}

type rules struct {
	networks []network
	ports    []port
	groups   []group
	forwards []forward
}

// bridgeRule is what names of bridge devices may be made of: nothing that means anything to nft.
var bridgeRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

func bad(what, value string) error {
	return nodeapi.ErrInvalidCommand.WithMessage("the policy names the %s %q", what, value)
}

// parser keeps the first mistake.
type parser struct{ err error }

func (p *parser) fail(what, value string) {
	if p.err == nil {
		p.err = bad(what, value)
	}
}

func (p *parser) addr(text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		p.fail("address", text)
	}
	return a
}

func (p *parser) prefix(text string) netip.Prefix {
	if text == "" {
		return netip.Prefix{}
	}
	x, err := netip.ParsePrefix(text)
	if err != nil {
		p.fail("range", text)
	}
	return x.Masked()
}

func (p *parser) mac(text string) (digits, mac string) {
	tap, err := nodeapi.TapName(text)
	if err != nil {
		p.fail("MAC address", text)
		return "", ""
	}
	digits = strings.TrimPrefix(tap, nodeapi.TapPrefix)
	raw, _ := hex.DecodeString(digits) // as TapName made it
	parts := make([]string, len(raw))
	for i, b := range raw {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return digits, strings.Join(parts, ":")
}

func (p *parser) portNumber(n int, zero bool) {
	if n > 65535 || n < 0 || n == 0 && !zero {
		p.fail("port", "out of range")
	}
}

func groupID(id uuid.UUID) string { return strings.ReplaceAll(id.String(), "-", "") }

// parse reads a policy whole, or refuses it whole.
func parse(policy nodeapi.Policy, routers map[string]netip.Addr) (rules, error) {
	p := &parser{}
	var r rules
	networks := map[uuid.UUID]network{}
	for _, n := range policy.Networks {
		if !bridgeRule.MatchString(n.Bridge) {
			p.fail("bridge", n.Bridge)
		}
		net := network{mode: n.Mode, bridge: n.Bridge, prefix: p.prefix(n.CIDR), gateway: p.addr(n.Gateway), prefix6: p.prefix(n.CIDR6),
			gateway6: p.addr(n.Gateway6), provided: n.Mode == "bridge", isolated: n.Mode == "isolated", nats: n.Mode == "nat"}
		if net.prefix6.IsValid() && !net.provided {
			net.router = routers[n.Bridge]
		}
		if !net.provided && (!net.prefix.IsValid() || !net.gateway.Is4()) || net.prefix6.IsValid() && !net.gateway6.Is6() {
			p.fail("network without range", n.ID.String())
		}
		networks[n.ID] = net
		r.networks = append(r.networks, net)
	}
	groups := map[uuid.UUID]group{}
	for _, g := range policy.Groups {
		parsed := group{id: groupID(g.ID)}
		for _, m := range g.Members {
			parsed.members = append(parsed.members, p.addr(m))
		}
		for _, x := range g.Rules {
			parsed.rules = append(parsed.rules, p.rule(x))
		}
		groups[g.ID] = parsed
		r.groups = append(r.groups, parsed)
	}
	forwards := map[string][]forward{}
	for _, f := range policy.Forwards {
		p.portNumber(f.HostPort, false)
		p.portNumber(f.GuestPort, false)
		if f.Protocol != "tcp" && f.Protocol != "udp" {
			p.fail("protocol", f.Protocol)
		}
		parsed := forward{protocol: f.Protocol, hostPort: f.HostPort, guestPort: f.GuestPort, guest: p.addr(f.GuestIP), source: p.prefix(f.Source)}
		if !parsed.guest.Is4() {
			p.fail("guest", f.GuestIP)
		}
		digits, _ := p.mac(f.MAC)
		forwards[digits] = append(forwards[digits], parsed)
		r.forwards = append(r.forwards, parsed)
	}
	for _, i := range policy.Interfaces {
		net, ok := networks[i.NetworkID]
		if !ok {
			p.fail("network", i.NetworkID.String())
		}
		parsed := port{net: net, ip: p.addr(i.IP), ip6: p.addr(i.IP6), down: i.Down, in: i.InKbps * 125, out: i.OutKbps * 125}
		parsed.hex, parsed.mac = p.mac(i.MAC)
		if parsed.ip.IsValid() && !parsed.ip.Is4() || parsed.ip6.IsValid() && !parsed.ip6.Is6() || i.InKbps < 0 || i.OutKbps < 0 {
			p.fail("interface", i.MAC)
		}
		for _, id := range i.Groups {
			g, ok := groups[id]
			if !ok {
				p.fail("group", id.String())
			}
			parsed.groups = append(parsed.groups, g)
		}
		parsed.forwards = forwards[parsed.hex]
		r.ports = append(r.ports, parsed)
	}
	for _, g := range r.groups {
		for _, x := range g.rules {
			if x.group != "" && !hasGroup(r.groups, x.group) {
				p.fail("group", x.group)
			}
		}
	}
	return r, p.err
}

func hasGroup(groups []group, id string) bool {
	for _, g := range groups {
		if g.id == id {
			return true
		}
	}
	return false
}

func (p *parser) rule(x nodeapi.PolicyRule) rule {
	parsed := rule{egress: x.Direction == nodeapi.Egress, protocol: x.Protocol, min: x.PortMin, max: x.PortMax, cidr: p.prefix(x.CIDR)}
	if x.GroupID != uuid.Nil {
		parsed.group = groupID(x.GroupID)
	}
	p.portNumber(x.PortMin, true)
	p.portNumber(x.PortMax, true)
	switch x.Protocol {
	case "any", "tcp", "udp", "icmp", "icmpv6":
	default:
		p.fail("protocol", x.Protocol)
	}
	if x.Direction != nodeapi.Ingress && x.Direction != nodeapi.Egress {
		p.fail("direction", x.Direction)
	}
	return parsed
}
