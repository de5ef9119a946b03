package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// script is a list of commands of nft.
type script []string

func (s *script) add(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

// rule adds a rule to a chain of the bridge table, or of the inet one.
func (s *script) bridge(chain, format string, args ...any) {
	s.add("add rule bridge novacron %s %s", chain, fmt.Sprintf(format, args...))
}

func (s *script) inet(chain, format string, args ...any) {
	s.add("add rule inet novacron %s %s", chain, fmt.Sprintf(format, args...))
}

// flush has chains anew: made where they are not there, and empty.
func (s *script) flush(family string, chains ...string) {
	for _, c := range chains {
		s.add("add chain %s novacron %s", family, c)
		s.add("flush chain %s novacron %s", family, c)
	}
}

// base is what both tables have, whatever the policy. It is safe to repeat.
func base() script {
	var s script
	s.add("add table bridge novacron")
	s.add("add table inet novacron")
	s.add("add map bridge novacron outgoing { type ifname : verdict; }")
	s.add("add map bridge novacron incoming { type ifname : verdict; }")
	s.add("add set bridge novacron outside { type ifname; }")
	for _, hook := range []struct{ name, priority, rule string }{
		// -150 is before the kernel's br_netfilter (0), which would show frames to the host's own rules first.
		{"prerouting", "-150", "iifname vmap @outgoing"},
		{"input", "-150", "iifname @outside drop"},
		{"postrouting", "150", "oifname vmap @incoming"},
	} {
		s.add("add chain bridge novacron %s { type filter hook %s priority %s; policy accept; }", hook.name, hook.name, hook.priority)
		s.add("flush chain bridge novacron %s", hook.name)
		s.bridge(hook.name, "%s", hook.rule)
	}
	s.bridge("prerouting", `iifname "%s*" drop`, nodeapi.TapPrefix)
	s.bridge("postrouting", `oifname "%s*" drop`, nodeapi.TapPrefix)
	return s
}

// hosts is the inet table. It keeps no state of its own and is written whole.
func hosts(r rules) script {
	var s script
	s.add("add set inet novacron bridges { type ifname; }")
	for _, m := range []string{"to_host", "from_guest", "to_guest"} {
		s.add("add map inet novacron %s { type ifname : verdict; }", m)
		s.add("flush map inet novacron %s", m)
	}
	s.add("flush set inet novacron bridges")
	for _, c := range []struct{ name, kind, priority string }{
		{"input", "filter hook input", "-10"}, {"forward", "filter hook forward", "-10"},
		{"prerouting", "nat hook prerouting", "-110"}, {"output", "nat hook output", "-110"}, {"postrouting", "nat hook postrouting", "90"},
	} {
		s.add("add chain inet novacron %s { type %s priority %s; policy accept; }", c.name, c.kind, c.priority)
		s.add("flush chain inet novacron %s", c.name)
	}
	s.inet("input", "iifname vmap @to_host")
	s.inet("forward", "iifname vmap @from_guest")
	s.inet("forward", "oifname vmap @to_guest")
	for _, n := range r.networks {
		if !n.provided {
			s.host(n)
		}
	}
	s.inet("prerouting", "iifname @bridges return")
	for _, f := range r.forwards {
		source := ""
		if f.source.IsValid() {
			source = fmt.Sprintf("ip saddr %s ", f.source)
		}
		for _, chain := range []string{"prerouting", "output"} {
			s.inet(chain, "fib daddr type local %s%s dport %d dnat ip to %s:%d", source, f.protocol, f.hostPort, f.guest, f.guestPort)
		}
	}
	for _, n := range r.networks {
		if n.provided {
			continue
		}
		// What the host itself sends to a forwarded port of its loopback address.
		s.inet("postrouting", `ip saddr 127.0.0.0/8 oifname "%s" masquerade`, n.bridge)
		if n.nats {
			s.inet("postrouting", `ip saddr %s oifname != @bridges masquerade`, n.prefix)
			if n.prefix6.IsValid() {
				s.inet("postrouting", `ip6 saddr %s oifname != @bridges masquerade`, n.prefix6)
			}
		}
	}
	return s
}

// host judges what a network's guests send to their host, and what passes between the network and the outside.
func (s *script) host(n network) {
	in, from, to := "i_"+n.bridge, "f_"+n.bridge, "t_"+n.bridge
	s.flush("inet", in, from, to)
	s.add(`add element inet novacron bridges { "%s" }`, n.bridge)
	s.add(`add element inet novacron to_host { "%s" : goto %s }`, n.bridge, in)
	s.add(`add element inet novacron from_guest { "%s" : jump %s }`, n.bridge, from)
	s.add(`add element inet novacron to_guest { "%s" : goto %s }`, n.bridge, to)

	s.inet(in, "ct state established,related accept")
	s.inet(in, "ip daddr { 255.255.255.255, %s } udp sport 68 udp dport 67 accept", n.gateway)
	s.inet(in, "ip daddr %s meta l4proto { tcp, udp } th dport 53 accept", n.gateway)
	s.inet(in, "ip daddr %s icmp type echo-request limit rate 50/second accept", n.gateway)
	if n.prefix6.IsValid() {
		s.inet(in, "ip6 saddr fe80::/10 ip6 daddr %s udp sport 546 udp dport 547 accept", dhcp6Servers)
		s.inet(in, "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report } accept")
		s.inet(in, "ip6 daddr { %s, fe80::/10 } meta l4proto { tcp, udp } th dport 53 accept", n.gateway6)
		s.inet(in, "ip6 daddr { %s, fe80::/10 } icmpv6 type echo-request limit rate 50/second accept", n.gateway6)
	}
	s.inet(in, "drop")

	// Frames within one bridge come by here where the host has br_netfilter; they were judged at the devices.
	s.inet(from, `oifname "%s" accept`, n.bridge)
	s.inet(from, "oifname @bridges drop")
	if n.isolated {
		s.inet(from, "drop")
		s.inet(to, "drop")
		return
	}
	if n.nats {
		s.inet(to, "ct state established,related accept")
		s.inet(to, "ct status dnat accept")
		s.inet(to, "drop")
		return
	}
	s.inet(to, "accept")
}

// members keeps the addresses of a group that rules refer to.
func members(g group) script {
	var s script
	for _, family := range []struct{ digit, kind string }{{"4", "ipv4_addr"}, {"6", "ipv6_addr"}} {
		name := "g" + family.digit + "_" + g.id
		s.add("add set bridge novacron %s { type %s; }", name, family.kind)
		s.add("flush set bridge novacron %s", name)
		var list []string
		for _, m := range g.members {
			if m.Is4() == (family.digit == "4") {
				list = append(list, m.String())
			}
		}
		slices.Sort(list)
		if list = slices.Compact(list); len(list) > 0 {
			s.add("add element bridge novacron %s { %s }", name, strings.Join(list, ", "))
		}
	}
	return s
}

func dropMembers(id string) script {
	return script{"delete set bridge novacron g4_" + id, "delete set bridge novacron g6_" + id}
}

// flowSets are the sets of a device that hold its state: flows that the guest began and that others began, and pairs of addresses for
// protocols without ports and for fragments. They are bounded for each device, so that no guest can fill those of another.
var flowSets = []struct{ name, key string }{
	{"fo4", "ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service"},
	{"fi4", "ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service"},
	{"fo6", "ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service"},
	{"fi6", "ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service"},
	{"po4", "ipv4_addr . ipv4_addr . inet_proto"}, {"pi4", "ipv4_addr . ipv4_addr . inet_proto"},
	{"po6", "ipv6_addr . ipv6_addr . inet_proto"}, {"pi6", "ipv6_addr . ipv6_addr . inet_proto"},
}

const flowsMax = 65536

// dhcp6Servers is where clients of DHCPv6 ask (RFC 8415, 7.1): All_DHCP_Relay_Agents_and_Servers.
const dhcp6Servers = "ff02::1:2"

func burst(rate int64) int64 { return max(rate/10, 65536) }

// device is all of one guest's interface. The state of flows that others began is forgotten with every change of it, so that a rule that
// was taken away ends also what is open; what the guest began is judged by its rules with every packet anyway.
func device(p port) script {
	var s script
	tap := nodeapi.TapPrefix + p.hex
	out, in, passOut, passIn := "out_"+p.hex, "in_"+p.hex, "pass_out_"+p.hex, "pass_in_"+p.hex
	for _, set := range flowSets {
		s.add("add set bridge novacron %s_%s { type %s; size %d; flags dynamic,timeout; timeout 1h; }", set.name, p.hex, set.key, flowsMax)
	}
	for _, set := range []string{"fi4", "fi6", "pi4", "pi6"} {
		s.add("flush set bridge novacron %s_%s", set, p.hex)
	}
	s.flush("bridge", passOut, passIn, out, in)
	s.pass(passOut, "o", p.hex, "saddr", "daddr", "sport . th dport")
	s.pass(passIn, "i", p.hex, "daddr", "saddr", "dport . th sport")
	s.outgoing(p, out, passOut)
	s.incoming(p, in, passIn)
	s.add(`add element bridge novacron outgoing { "%s" : goto %s }`, tap, out)
	s.add(`add element bridge novacron incoming { "%s" : goto %s }`, tap, in)
	if p.net.provided {
		s.add(`add element bridge novacron outside { "%s" }`, tap)
	}
	return s
}

func dropDevice(digits string) script {
	var s script
	tap := nodeapi.TapPrefix + digits
	// Adding first makes each command one that cannot fail.
	s.add("add chain bridge novacron out_%s", digits)
	s.add("add chain bridge novacron in_%s", digits)
	s.add(`add element bridge novacron outgoing { "%s" : goto out_%s }`, tap, digits)
	s.add(`delete element bridge novacron outgoing { "%s" }`, tap)
	s.add(`add element bridge novacron incoming { "%s" : goto in_%s }`, tap, digits)
	s.add(`delete element bridge novacron incoming { "%s" }`, tap)
	s.add(`add element bridge novacron outside { "%s" }`, tap)
	s.add(`delete element bridge novacron outside { "%s" }`, tap)
	chains := []string{"out_", "in_", "pass_out_", "pass_in_"}
	for _, c := range chains {
		s.flush("bridge", c+digits)
	}
	for _, c := range chains {
		s.add("delete chain bridge novacron %s%s", c, digits)
	}
	for _, set := range flowSets {
		s.add("delete set bridge novacron %s_%s", set.name, digits)
	}
	return s
}

// pass is where packets end up that a rule lets pass: they are noted, so that their answers pass. Of TCP, what the guest sends is noted
// from its first packet on only: else the packets of a connection that others began, and that no rule allows any more, would open it
// again.
func (s *script) pass(chain, way, digits, local, remote, ports string) {
	for _, f := range []struct{ digit, ip string }{{"4", "ip"}, {"6", "ip6"}} {
		flow := fmt.Sprintf("%s %s . %s %s . meta l4proto . th %s", f.ip, local, f.ip, remote, ports)
		pair := fmt.Sprintf("%s %s . %s %s . meta l4proto", f.ip, local, f.ip, remote)
		flows, pairs := "f"+way+f.digit+"_"+digits, "p"+way+f.digit+"_"+digits
		note := func(match, forFlow, forPair string) {
			s.bridge(chain, "meta protocol %s %s update @%s { %s timeout %s } update @%s { %s timeout %s } accept", f.ip, match, flows, flow, forFlow, pairs, pair, forPair)
		}
		note("tcp flags & (fin | rst) != 0", "60s", "60s")
		note("tcp flags & (syn | ack) == syn", "120s", "60s")
		if way == "o" {
			s.bridge(chain, "meta protocol %s meta l4proto tcp %s @%s update @%s { %s timeout 6h } update @%s { %s timeout 600s } accept", f.ip, flow, flows, flows, flow, pairs, pair)
		} else {
			note("meta l4proto tcp", "6h", "600s")
		}
		note("meta l4proto udp", "180s", "180s")
		s.bridge(chain, "meta protocol %s meta l4proto != { tcp, udp } update @%s { %s timeout 180s } accept", f.ip, pairs, pair)
	}
	s.bridge(chain, "accept")
}

// answers lets pass what answers to noted packets of the other way: flows by way, judged with local and remote end as given.
func (s *script) answers(chain, way, digits, local, remote, ports string) {
	for _, f := range []struct{ digit, ip, icmp, replies string }{
		{"4", "ip", "icmp", "echo-reply, timestamp-reply"}, {"6", "ip6", "icmpv6", "echo-reply"},
	} {
		flow := fmt.Sprintf("%s %s . %s %s . meta l4proto . th %s", f.ip, local, f.ip, remote, ports)
		pair := fmt.Sprintf("%s %s . %s %s . meta l4proto", f.ip, local, f.ip, remote)
		flows, pairs := "f"+way+f.digit+"_"+digits, "p"+way+f.digit+"_"+digits
		s.bridge(chain, "meta protocol %s meta l4proto { tcp, udp } %s @%s accept", f.ip, flow, flows)
		s.bridge(chain, "%s type { %s } %s @%s accept", f.icmp, f.replies, pair, pairs)
		s.bridge(chain, "meta protocol %s meta l4proto != { tcp, udp, icmp, icmpv6 } %s @%s accept", f.ip, pair, pairs)
	}
	for _, own := range []string{"o", "i"} { // later parts of packets whose first part has passed have no ports
		s.bridge(chain, "ip frag-off & 0x1fff != 0 ip %s . ip %s . meta l4proto @p%s4_%s accept", local, remote, own, digits)
		s.bridge(chain, "exthdr frag exists ip6 %s . ip6 %s . meta l4proto @p%s6_%s accept", local, remote, own, digits)
	}
	s.bridge(chain, "icmp type { destination-unreachable, time-exceeded, parameter-problem } limit rate 100/second accept")
	s.bridge(chain, "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } limit rate 100/second accept")
}

// outgoing judges what a guest sends.
func (s *script) outgoing(p port, chain, pass string) {
	if p.down {
		s.bridge(chain, "drop")
		return
	}
	s.bridge(chain, "ether saddr != %s drop", p.mac)
	s.bridge(chain, "ether type { 8021q, 8021ad } drop")
	if p.out > 0 {
		s.bridge(chain, "limit rate over %d bytes/second burst %d bytes drop", p.out, burst(p.out))
	}
	s.bridge(chain, "ether type arp arp saddr ether != %s drop", p.mac)
	switch {
	case p.ip.IsValid():
		s.bridge(chain, "ether type arp arp saddr ip != { 0.0.0.0, %s } drop", p.ip)
	case p.net.prefix.IsValid():
		s.bridge(chain, "ether type arp arp saddr ip != { 0.0.0.0, %s } drop", p.net.prefix)
		s.bridge(chain, "ether type arp arp saddr ip %s drop", p.net.gateway)
	}
	s.bridge(chain, "ether type arp arp operation { request, reply } accept")
	s.bridge(chain, "ether type != { ip, ip6 } drop")

	// No guest is a DHCP server or a router, whatever its groups say.
	s.bridge(chain, "udp sport { 67, 547 } udp dport { 68, 546 } drop")
	s.bridge(chain, "icmpv6 type { nd-router-advert, nd-redirect } drop")
	s.bridge(chain, "icmp type { redirect, router-advertisement } drop")
	s.bridge(chain, "ip saddr { 0.0.0.0, %s } udp sport 68 udp dport 67 accept", orAny(p.ip))
	switch {
	case p.ip.IsValid():
		s.bridge(chain, "ether type ip ip saddr != %s drop", p.ip)
	case p.net.prefix.IsValid():
		s.bridge(chain, "ether type ip ip saddr != %s drop", p.net.prefix)
		s.bridge(chain, "ether type ip ip saddr %s drop", p.net.gateway)
	}
	s.neighbours(p, chain)
	s.answers(chain, "i", p.hex, "saddr", "daddr", "sport . th dport")
	if !p.net.provided {
		s.bridge(chain, "ip daddr %s meta l4proto { tcp, udp } th dport 53 goto %s", p.net.gateway, pass)
		s.bridge(chain, "ip daddr %s icmp type echo-request goto %s", p.net.gateway, pass)
		if p.net.prefix6.IsValid() {
			s.bridge(chain, "ip6 daddr { %s, fe80::/10 } meta l4proto { tcp, udp } th dport 53 goto %s", p.net.gateway6, pass)
		}
	}
	s.groupRules(p, chain, pass, true)
	s.bridge(chain, "drop")
}

func orAny(a netip.Addr) string {
	if a.IsValid() {
		return a.String()
	}
	return "0.0.0.0/0"
}

// neighbours judges what a guest says by IPv6 of itself. A network without IPv6 has none at all.
func (s *script) neighbours(p port, chain string) {
	own := ""
	switch {
	case p.net.provided && !p.ip6.IsValid() && !p.ip.IsValid():
		s.bridge(chain, "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report } accept")
		return
	case p.ip6.IsValid():
		own = ", " + p.ip6.String()
	case !p.net.prefix6.IsValid():
		s.bridge(chain, "ether type ip6 drop")
		return
	}
	s.bridge(chain, "ether type ip6 ip6 saddr != { ::, fe80::/10%s } drop", own)
	// Which address of the link a guest has is its own affair, but for the one that all guests know their router by.
	if p.net.router.IsValid() {
		s.bridge(chain, "ip6 saddr %s drop", p.net.router)
		s.bridge(chain, "icmpv6 type nd-neighbor-advert @th,64,128 0x%x drop", p.net.router.As16())
	}
	if p.net.prefix6.IsValid() {
		s.bridge(chain, "ip6 saddr fe80::/10 ip6 daddr %s udp sport 546 udp dport 547 accept", dhcp6Servers)
	}
	// The target of an advertisement is 8 bytes into the message (RFC 4861, 4.4): link-local, 0x3fa in its first ten bits, or its own.
	if p.ip6.IsValid() {
		s.bridge(chain, "icmpv6 type nd-neighbor-advert @th,64,128 0x%x accept", p.ip6.As16())
	}
	s.bridge(chain, "icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa drop")
	s.bridge(chain, "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld-listener-done, mld2-listener-report } accept")
}

// incoming judges what reaches a guest.
func (s *script) incoming(p port, chain, pass string) {
	if p.down {
		s.bridge(chain, "drop")
		return
	}
	if p.in > 0 {
		s.bridge(chain, "limit rate over %d bytes/second burst %d bytes drop", p.in, burst(p.in))
	}
	s.bridge(chain, "ether type arp accept")
	s.bridge(chain, "ether type != { ip, ip6 } drop")
	if p.net.provided {
		s.bridge(chain, "udp sport 67 udp dport 68 accept")
		s.bridge(chain, "udp sport 547 udp dport 546 accept")
	} else {
		s.bridge(chain, "ip saddr %s udp sport 67 udp dport 68 accept", p.net.gateway)
		if p.net.prefix6.IsValid() { // guests send nothing of the kind
			s.bridge(chain, "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept")
		}
	}
	s.bridge(chain, "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query } accept")
	s.answers(chain, "o", p.hex, "daddr", "saddr", "dport . th sport")
	s.groupRules(p, chain, pass, false)
	for _, f := range p.forwards {
		source := ""
		if f.source.IsValid() {
			source = fmt.Sprintf("ip saddr %s ", f.source)
		} else {
			// From the host's own loopback address, which reaches the guest as the gateway's.
			s.bridge(chain, "ip saddr %s %s dport %d goto %s", p.net.gateway, f.protocol, f.guestPort, pass)
		}
		// Neighbours do not come by the forward.
		s.bridge(chain, "ip saddr != %s %s%s dport %d goto %s", p.net.prefix, source, f.protocol, f.guestPort, pass)
	}
	s.bridge(chain, "drop")
}

// groupRules puts what the groups of a device allow.
func (s *script) groupRules(p port, chain, pass string, egress bool) {
	end := "saddr"
	if egress {
		end = "daddr"
	}
	seen := map[string]bool{}
	for _, g := range p.groups {
		for _, r := range g.rules {
			if r.egress != egress {
				continue
			}
			for _, match := range matches(r, end) {
				if line := strings.Join(strings.Fields(match+" goto "+pass), " "); !seen[line] {
					seen[line] = true
					s.bridge(chain, "%s", line)
				}
			}
		}
	}
}

// matches gives the conditions of a rule, one for each family that it is about.
func matches(r rule, end string) []string {
	protocol := ""
	switch {
	case r.protocol == "any":
	case r.protocol == "icmp" || r.protocol == "icmpv6" || r.min == 0:
		protocol = "meta l4proto " + r.protocol
	case r.min == r.max:
		protocol = fmt.Sprintf("%s dport %d", r.protocol, r.min)
	default:
		protocol = fmt.Sprintf("%s dport %d-%d", r.protocol, r.min, r.max)
	}
	v4, v6 := r.protocol != "icmpv6", r.protocol != "icmp"
	var list []string
	switch {
	case r.group != "":
		if v4 {
			list = append(list, fmt.Sprintf("ip %s @g4_%s %s", end, r.group, protocol))
		}
		if v6 {
			list = append(list, fmt.Sprintf("ip6 %s @g6_%s %s", end, r.group, protocol))
		}
	case r.cidr.IsValid() && r.cidr.Addr().Is4():
		if v4 {
			list = append(list, fmt.Sprintf("ip %s %s %s", end, r.cidr, protocol))
		}
	case r.cidr.IsValid():
		if v6 {
			list = append(list, fmt.Sprintf("ip6 %s %s %s", end, r.cidr, protocol))
		}
	case r.protocol == "icmp":
		list = append(list, "meta protocol ip "+protocol)
	case r.protocol == "icmpv6":
		list = append(list, "meta protocol ip6 "+protocol)
	default:
		list = append(list, protocol)
	}
	return list
}
