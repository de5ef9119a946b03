package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

func ingress(protocol string, port int, cidr string, group uuid.UUID) nodeapi.PolicyRule {
	return nodeapi.PolicyRule{Direction: nodeapi.Ingress, Protocol: protocol, PortMin: port, PortMax: port, CIDR: cidr, GroupID: group}
}

func TestSecurityGroups(t *testing.T) {
	w := newWorld(t)
	for _, g := range []*guest{w.a, w.b, w.c} {
		g.serve("0.0.0.0:80")
		g.serve("0.0.0.0:81")
		g.serve("[::]:82")
	}
	// Without a policy our devices pass nothing once the tables are there; a group without ingress refuses all.
	w.apply()
	w.a.reaches(w.b.addr+":80", false)

	w.rules(ingress("tcp", 80, "", uuid.Nil))
	w.a.reaches(w.b.addr+":80", true)
	w.a.reaches(w.b.addr+":81", false)
	w.host.reaches(w.b.addr+":80", true)

	w.rules(ingress("tcp", 0, "", w.mine))
	w.a.reaches(w.b.addr+":81", true)
	w.a.reaches("["+w.b.addr6+"]:82", true)
	w.host.reaches(w.b.addr+":81", false) // the host is no member

	w.rules(ingress("tcp", 0, w.a.addr6+"/128", uuid.Nil))
	w.a.reaches("["+w.b.addr6+"]:82", true)
	w.b.reaches("["+w.a.addr6+"]:82", false)
	w.a.reaches(w.b.addr+":81", false)
	w.rules(ingress("tcp", 82, "fd09:1::/64", uuid.Nil))
	w.b.reaches("["+w.a.addr6+"]:82", true)

	w.rules(ingress("tcp", 0, w.a.addr+"/32", uuid.Nil))
	w.a.reaches(w.b.addr+":81", true)
	w.b.reaches(w.a.addr+":81", false)
	w.a.reaches("["+w.b.addr6+"]:82", false)

	// A range of ports, and the answers of a server that may begin nothing itself.
	w.policy.Groups[0].Rules = []nodeapi.PolicyRule{{Direction: nodeapi.Ingress, Protocol: "tcp", PortMin: 80, PortMax: 81}}
	w.policy.Groups = append(w.policy.Groups, nodeapi.PolicyGroup{ID: uuid.New(), Rules: all})
	w.policy.Interfaces[0].Groups = []uuid.UUID{w.policy.Groups[2].ID}
	w.apply()
	w.a.reaches(w.b.addr+":81", true)
	w.b.reaches(w.a.addr+":80", false) // neither may b begin nor a be reached

	// Membership alone changes: no rule does.
	w.policy.Interfaces[0].Groups = []uuid.UUID{w.mine}
	w.policy.Groups = w.policy.Groups[:2]
	w.rules(ingress("any", 0, "", w.mine))
	w.a.reaches(w.b.addr+":80", true)
	w.policy.Groups[0].Members = []string{w.b.addr}
	w.apply()
	w.a.reaches(w.b.addr+":80", false)
}

// TestOpenConnections: what is open goes on through changes that are not about it, and ends with the rule that let it in.
func TestOpenConnections(t *testing.T) {
	w := newWorld(t)
	w.b.serve("0.0.0.0:80")
	w.a.serve("0.0.0.0:80")
	w.rules(ingress("tcp", 80, "", uuid.Nil))
	in, _, err := w.a.dial(w.b.addr+":80", 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	w.rules(ingress("tcp", 80, "", uuid.Nil), ingress("tcp", 443, "", uuid.Nil))
	if err := echo(in, 10*time.Second); err != nil {
		t.Errorf("an open connection was cut by another rule: %v", err)
	}
	w.rules()
	if err := echo(in, 2*short); err == nil {
		t.Error("a connection goes on without the rule that let it in")
	}
	// The next server answers on what the guest itself began, though nothing may come in.
	w.policy.Groups[0].Rules = all
	w.policy.Groups[1].Rules = all
	w.policy.Version++
	w.apply()
	w.host.serve("10.9.1.1:53")
	out, _, err := w.a.dial("10.9.1.1:53", 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	w.rules(ingress("udp", 9, "", uuid.Nil))
	if err := echo(out, 10*time.Second); err != nil {
		t.Errorf("what the guest began was cut by a change of what may come in: %v", err)
	}
	w.policy.Groups[0].Rules = nil
	w.apply()
}

func TestUDPAndPing(t *testing.T) {
	w := newWorld(t)
	w.rules()
	server, client := w.b.udp("0.0.0.0:99"), w.a.udp("0.0.0.0:98")
	to := func(g *guest, port int) *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP(g.addr), Port: port} }
	passes := func(from, into *net.UDPConn, address *net.UDPAddr, want bool) {
		t.Helper()
		deadline := time.Now().Add(short)
		if want {
			deadline = time.Now().Add(15 * time.Second)
		}
		if _, err := from.WriteToUDP([]byte("hello"), address); err != nil {
			t.Fatal(err)
		}
		_ = into.SetReadDeadline(deadline)
		if _, _, err := into.ReadFromUDP(make([]byte, 9)); (err == nil) != want {
			t.Errorf("a datagram to %s: %v, want %v", address, err, want)
		}
	}
	passes(client, server, to(w.b, 99), false)
	w.rules(ingress("udp", 99, "", uuid.Nil))
	passes(client, server, to(w.b, 99), true)
	passes(server, client, to(w.a, 98), true) // the answer
	passes(server, w.a.udp("0.0.0.0:97"), to(w.a, 97), false)

	ping := func(g *guest, address string, want bool) {
		t.Helper()
		if _, err := g.run(context.Background(), "", "busybox", "ping", "-c", "1", "-W", "1", address); (err == nil) != want {
			t.Errorf("ping %s: %v, want %v", address, err, want)
		}
	}
	ping(w.a, w.b.addr, false)
	ping(w.a, w.b.addr6, false)
	ping(w.a, "10.9.1.1", true)
	w.rules(ingress("icmp", 0, "", uuid.Nil))
	ping(w.a, w.b.addr, true)
	ping(w.a, w.b.addr6, false)
	w.rules(ingress("icmpv6", 0, "", uuid.Nil))
	ping(w.a, w.b.addr6, true)
	ping(w.a, w.b.addr, false)
	// Datagrams that are longer than a frame come in parts.
	w.rules(ingress("udp", 99, "", uuid.Nil), ingress("icmp", 0, "", uuid.Nil))
	if _, err := w.a.run(context.Background(), "", "busybox", "ping", "-c", "1", "-W", "2", "-s", "4000", w.b.addr); err != nil {
		t.Error(err)
	}
	if _, err := client.WriteToUDP(bytes.Repeat([]byte("x"), 5000), to(w.b, 99)); err != nil {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _, err := server.ReadFromUDP(make([]byte, 9000)); err != nil || n != 5000 {
		t.Errorf("%d bytes of 5000, %v", n, err)
	}
}

// TestSpoofing sends what no honest guest sends, each with a mark that must not arrive, and what it may send, which must.
func TestSpoofing(t *testing.T) {
	w := newWorld(t)
	w.rules(ingress("any", 0, "", uuid.Nil))
	from, at := w.a.wire("eth0"), w.b.wire("eth0")
	gateway := "10.9.1.1"
	router := w.router(0)
	const every, liar = "ff:ff:ff:ff:ff:ff", "52:54:00:00:00:99"
	advert := func(target string, mark []byte) []byte {
		return append(append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, net.ParseIP(target).To16()...), mark...)
	}
	for i, test := range []struct {
		what   string
		frame  func(mark []byte) []byte
		passes bool
	}{
		{"honest UDP", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x800, ipv4(w.a.addr, w.b.addr, 17, udp(5, 6, m)))
		}, true},
		{"a foreign MAC", func(m []byte) []byte {
			return ether(w.b.mac, liar, 0x800, ipv4(w.a.addr, w.b.addr, 17, udp(5, 6, m)))
		}, false},
		{"a foreign IP", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x800, ipv4("10.9.1.77", w.b.addr, 17, udp(5, 6, m)))
		}, false},
		{"the gateway's IP", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x800, ipv4(gateway, w.b.addr, 17, udp(5, 6, m)))
		}, false},
		{"no IP", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x800, ipv4("0.0.0.0", w.b.addr, 17, udp(5, 6, m)))
		}, false},
		{"an honest ARP request", func(m []byte) []byte { return ether(every, w.a.mac, 0x806, arp(1, w.a.mac, w.a.addr, w.b.addr, m)) }, true},
		{"ARP for the gateway", func(m []byte) []byte { return ether(w.b.mac, w.a.mac, 0x806, arp(2, w.a.mac, gateway, w.b.addr, m)) }, false},
		{"ARP for a neighbour", func(m []byte) []byte { return ether(w.b.mac, w.a.mac, 0x806, arp(2, w.a.mac, w.c.addr, w.b.addr, m)) }, false},
		{"ARP with a foreign MAC", func(m []byte) []byte { return ether(w.b.mac, w.a.mac, 0x806, arp(2, liar, w.a.addr, w.b.addr, m)) }, false},
		{"a DHCP server", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x800, ipv4(w.a.addr, w.b.addr, 17, udp(67, 68, m)))
		}, false},
		{"a DHCP server with the gateway's IP", func(m []byte) []byte {
			return ether(every, w.a.mac, 0x800, ipv4(gateway, "255.255.255.255", 17, udp(67, 68, m)))
		}, false},
		{"a router advertisement", func(m []byte) []byte {
			return ether("33:33:00:00:00:01", w.a.mac, 0x86dd, icmp6("fe80::1", "ff02::1", append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, m...)))
		}, false},
		{"an ICMPv6 redirect", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6("fe80::1", w.b.addr6, append(append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 32)...), m...)))
		}, false},
		{"an ICMP redirect", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x800, ipv4(w.a.addr, w.b.addr, 1, append([]byte{5, 0, 0, 0, 10, 9, 1, 11}, m...)))
		}, false},
		{"a foreign IPv6", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6("fd09:1::77", w.b.addr6, append([]byte{128, 0, 0, 0, 0, 1, 0, 1}, m...)))
		}, false},
		{"an honest neighbour advertisement", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(w.a.addr6, w.b.addr6, advert(w.a.addr6, m)))
		}, true},
		{"a neighbour advertisement for the gateway", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(w.a.addr6, w.b.addr6, advert("fd09:1::1", m)))
		}, false},
		{"a neighbour advertisement for a neighbour", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(w.a.addr6, w.b.addr6, advert(w.b.addr6, m)))
		}, false},
		{"a neighbour advertisement for an address of the link", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(w.a.addr6, w.b.addr6, advert("fe80::77", m)))
		}, true},
		{"a neighbour advertisement for the router", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(w.a.addr6, w.b.addr6, advert(router, m)))
		}, false},
		{"a neighbour solicitation by the router", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(router, w.b.addr6, append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP(w.b.addr6).To16()...), m...)))
		}, false},
		{"a neighbour solicitation by a foreign IPv6", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6("fd09:1::1", w.b.addr6, append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP(w.b.addr6).To16()...), m...)))
		}, false},
		{"an honest neighbour solicitation", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, icmp6(w.a.addr6, w.b.addr6, append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP(w.b.addr6).To16()...), m...)))
		}, true},
		{"an IPv6 address of the prefix that is not its own", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, ip6udp("fd09:1::aaaa", w.b.addr6, 5, 6, string(m)))
		}, false},
		{"honest UDP over IPv6", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, ip6udp(w.a.addr6, w.b.addr6, 5, 6, string(m)))
		}, true},
		{"a router advertisement of its own address", func(m []byte) []byte {
			return ether("33:33:00:00:00:01", w.a.mac, 0x86dd, icmp6("fe80::5054:ff:fe00:b", "ff02::1", append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, m...)))
		}, false},
		{"a DHCPv6 server", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x86dd, ip6udp(w.a.addr6, w.b.addr6, 547, 546, string(m)))
		}, false},
		{"a VLAN tag", func(m []byte) []byte {
			return ether(w.b.mac, w.a.mac, 0x8100, append([]byte{0, 5, 8, 0}, ipv4(w.a.addr, w.b.addr, 17, udp(5, 6, m))...))
		}, false},
		{"a spanning tree", func(m []byte) []byte {
			return ether(every, w.a.mac, 0x0026, append([]byte{0x42, 0x42, 3}, m...))
		}, false},
		{"a protocol that nobody knows", func(m []byte) []byte { return ether(w.b.mac, w.a.mac, 0x88b5, m) }, false},
	} {
		mark := []byte(fmt.Sprintf("novacron mark %03d", i))
		patience := short
		if test.passes {
			patience = 15 * time.Second
		}
		from.send(t, test.frame(mark))
		if got := at.hears(mark, patience); got != test.passes {
			t.Errorf("%s: arrived %v, want %v", test.what, got, test.passes)
		}
	}
}

// TestHostIsOutOfReach: guests reach DHCP and DNS of their own network and no other service of the host, by whichever address, and no
// other tenant's guests.
func TestHostIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.policy.Groups[1].Rules = append(w.policy.Groups[1].Rules, ingress("any", 0, "", uuid.Nil))
	w.rules(ingress("any", 0, "", uuid.Nil))
	w.host.serve("0.0.0.0:8080")
	w.host.serve("0.0.0.0:53")
	w.host.serve("[::]:8081")
	w.host.serve("[fd09:1::1]:54")
	w.c.serve("0.0.0.0:80")
	w.outside.serve("0.0.0.0:80")
	w.a.reaches("10.9.1.1:53", true)
	for _, address := range []string{"10.9.1.1:8080", "192.0.2.1:8080", "10.9.2.1:8080", "10.9.2.1:53", "192.0.2.1:53", w.c.addr + ":80", "[fd09:1::1]:8081", "[fd09:1::1]:54"} {
		w.a.reaches(address, false)
	}
	dhcp := w.host.udp("0.0.0.0:67")
	w.a.wire("eth0").send(t, ether("ff:ff:ff:ff:ff:ff", w.a.mac, 0x800, ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67, []byte("discover")))))
	_ = dhcp.SetReadDeadline(time.Now().Add(15 * time.Second))
	if _, _, err := dhcp.ReadFromUDP(make([]byte, 99)); err != nil {
		t.Errorf("DHCP does not reach the host: %v", err)
	}
	// To the outside by the host's address.
	if _, seen, err := w.a.dial("192.0.2.2:80", 15*time.Second); err != nil || seen != "192.0.2.1" {
		t.Errorf("outside sees %q, %v", seen, err)
	}
	w.a.serve("0.0.0.0:80")
	w.outside.reaches(w.a.addr+":80", false)

	// Routed: both ways, by its own address. Isolated: no way.
	w.policy.Networks[0].Mode = "routed"
	w.apply()
	if _, seen, err := w.a.dial("192.0.2.2:80", 15*time.Second); err != nil || seen != w.a.addr {
		t.Errorf("outside sees %q, %v", seen, err)
	}
	w.outside.reaches(w.a.addr+":80", true)
	w.a.reaches("192.0.2.1:8080", false)
	w.policy.Networks[0].Mode = "isolated"
	w.apply()
	w.a.reaches("192.0.2.2:80", false)
	w.outside.reaches(w.a.addr+":80", false)
	w.b.reaches(w.a.addr+":80", true)
}

func TestPortForwards(t *testing.T) {
	w := newWorld(t)
	w.a.serve("0.0.0.0:80")
	forward := nodeapi.PolicyForward{MAC: w.a.mac, Protocol: "tcp", HostPort: 8080, GuestIP: w.a.addr, GuestPort: 80}
	w.policy.Forwards = []nodeapi.PolicyForward{forward}
	w.rules()
	if _, seen, err := w.outside.dial("192.0.2.1:8080", 15*time.Second); err != nil || seen != "192.0.2.2" {
		t.Errorf("the guest sees %q, %v", seen, err)
	}
	w.host.reaches("127.0.0.1:8080", true)
	w.host.reaches("192.0.2.1:8080", true)
	w.b.reaches(w.a.addr+":80", false)       // a forward opens nothing to neighbours
	w.c.reaches("192.0.2.1:8080", false)     // nor to other tenants' guests
	w.outside.reaches(w.a.addr+":80", false) // nor past the host's own port
	open, _, err := w.outside.dial("192.0.2.1:8080", 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}

	w.policy.Forwards[0].Source = "198.51.100.0/24"
	w.apply()
	w.outside.reaches("192.0.2.1:8080", false)
	w.policy.Forwards[0].Source = "192.0.2.0/24"
	w.apply()
	w.outside.reaches("192.0.2.1:8080", true)
	w.policy.Forwards = nil
	w.apply()
	w.outside.reaches("192.0.2.1:8080", false)
	w.host.reaches("127.0.0.1:8080", false)
	if err := echo(open, 2*short); err == nil {
		t.Error("a connection goes on without its forward")
	}
}

func TestBandwidthAndLink(t *testing.T) {
	w := newWorld(t)
	rule := ingress("udp", 99, "", uuid.Nil)
	w.rules(rule)
	server, client := w.b.udp("0.0.0.0:99"), w.a.udp("0.0.0.0:98")
	_ = server.SetReadBuffer(8 << 20)
	to := &net.UDPAddr{IP: net.ParseIP(w.b.addr), Port: 99}
	// blast sends a megabyte at once and tells how much arrives.
	blast := func() int {
		t.Helper()
		payload, got := make([]byte, 1000), 0
		for range 1000 {
			_, _ = client.WriteToUDP(payload, to)
		}
		for {
			_ = server.SetReadDeadline(time.Now().Add(short))
			n, _, err := server.ReadFromUDP(payload)
			if err != nil {
				return got
			}
			got += n
		}
	}
	free := blast()
	w.policy.Interfaces[0].OutKbps = 1000
	w.apply()
	out := blast()
	w.policy.Interfaces[0].OutKbps, w.policy.Interfaces[1].InKbps = 0, 1000
	w.apply()
	in := blast()
	t.Logf("of 1000000 bytes at once arrive %d without a limit, %d and %d with one", free, out, in)
	// A burst of 64 KiB passes, and what the rate gives while the test sends.
	if free < 150_000 || out == 0 || in == 0 || out > free/2 || in > free/2 {
		t.Error("the limits do not hold")
	}
	w.policy.Interfaces[1].InKbps, w.policy.Interfaces[1].Down = 0, true
	w.apply()
	if got := blast(); got != 0 {
		t.Errorf("%d bytes arrive over a link that is down", got)
	}
}

// TestKeptAndRepaired: a new process finds the policy in force and changes nothing; what was taken away behind its back comes back; at
// the end nothing is left, and what others have in nftables was never touched.
func TestKeptAndRepaired(t *testing.T) {
	w := newWorld(t)
	w.host.must("nft", "add table inet other; add chain inet other x")
	w.a.serve("0.0.0.0:80")
	w.b.serve("0.0.0.0:80")
	w.rules(ingress("tcp", 80, w.b.addr+"/32", uuid.Nil))
	w.b.reaches(w.a.addr+":80", true)
	w.a.reaches(w.b.addr+":80", false)

	ctx := context.Background()
	again, err := Open(w.path, w.host.run)
	if err != nil {
		t.Fatal(err)
	}
	if repaired, err := again.Repair(ctx); err != nil || repaired {
		t.Errorf("a new process repaired %v, %v", repaired, err)
	}
	if changed, err := again.Apply(ctx, w.policy); err != nil || changed {
		t.Errorf("a new process changed %v, %v", changed, err)
	}
	for _, damage := range []string{
		"flush chain bridge novacron out_52540000000b", "delete table bridge novacron", "delete table inet novacron", "flush chain inet novacron input",
		"delete element bridge novacron incoming { \"" + w.b.tap + "\" }",
	} {
		w.host.must("nft", damage)
		if repaired, err := again.Repair(ctx); err != nil || !repaired {
			t.Errorf("%s: repaired %v, %v", damage, repaired, err)
		}
		w.b.reaches(w.a.addr+":80", true)
		w.a.reaches(w.b.addr+":80", false)
	}
	// A change that was cut short by a kill: the policy is kept, and what of it is in force is not known.
	later := w.policy
	later.Version++
	later.Groups = []nodeapi.PolicyGroup{{ID: w.mine, Rules: all}, later.Groups[1]}
	if err := again.keep(state{Policy: later}); err != nil {
		t.Fatal(err)
	}
	third, err := Open(w.path, w.host.run)
	if err != nil {
		t.Fatal(err)
	}
	if repaired, err := third.Repair(ctx); err != nil || !repaired {
		t.Errorf("repaired %v, %v", repaired, err)
	}
	w.b.reaches(w.a.addr+":80", false)

	if _, err := third.Apply(ctx, w.policy); !errors.Is(err, nodeapi.ErrStaleGeneration) {
		t.Errorf("an old policy: %v", err)
	}
	if _, err := third.Apply(ctx, nodeapi.Policy{Version: later.Version + 1}); err != nil {
		t.Fatal(err)
	}
	if left := strings.TrimSpace(w.host.must("nft", "list", "tables")); left != "table inet other" {
		t.Errorf("left: %q", left)
	}
	if repaired, err := third.Repair(ctx); err != nil || repaired {
		t.Errorf("repaired %v, %v", repaired, err)
	}
}

// TestParts: guests come and go without a trace of them, and without the others' parts being written again.
func TestParts(t *testing.T) {
	w := newWorld(t)
	w.rules(ingress("tcp", 80, "", w.mine))
	var written []string
	w.fw.run = func(ctx context.Context, input string, args ...string) (string, error) {
		written = append(written, input)
		return w.host.run(ctx, input, args...)
	}
	everything := w.policy.Interfaces
	w.policy.Interfaces = everything[:2]
	w.policy.Groups = w.policy.Groups[:1]
	w.apply()
	if text := strings.Join(written, ""); strings.Contains(text, "out_52540000000b") || !strings.Contains(text, "out_52540000000d") {
		t.Errorf("one guest's end was written as %s", text)
	}
	listing := w.host.must("nft", "list", "table", "bridge", "novacron")
	for _, trace := range []string{"52540000000d", groupID(w.theirs)} {
		if strings.Contains(listing, trace) {
			t.Errorf("a trace is left of what has gone: %s", trace)
		}
	}
	// A frame of the guest that has gone passes nowhere, though its device is still there.
	at := w.host.wire("novatest2")
	w.c.wire("eth0").send(t, ether("ff:ff:ff:ff:ff:ff", w.c.mac, 0x806, arp(1, w.c.mac, w.c.addr, "10.9.2.1", []byte("mark of the dead"))))
	if at.hears([]byte("mark of the dead"), short) {
		t.Error("a device without a policy passes something")
	}
}

// TestHostilePolicies: nothing of a policy reaches nft but as what it should be.
func TestHostilePolicies(t *testing.T) {
	good := func() nodeapi.Policy {
		id := uuid.New()
		g := uuid.New()
		return nodeapi.Policy{Version: 1, Networks: []nodeapi.PolicyNetwork{{ID: id, Mode: "nat", Bridge: "nova0123456789", CIDR: "10.0.0.0/24", Gateway: "10.0.0.1"}},
			Interfaces: []nodeapi.PolicyInterface{{MAC: "52:54:00:00:00:01", NetworkID: id, IP: "10.0.0.2", Groups: []uuid.UUID{g}}},
			Groups:     []nodeapi.PolicyGroup{{ID: g, Rules: all, Members: []string{"10.0.0.2"}}},
			Forwards:   []nodeapi.PolicyForward{{MAC: "52:54:00:00:00:01", Protocol: "tcp", HostPort: 1, GuestIP: "10.0.0.2", GuestPort: 1}}}
	}
	if _, err := parts(good(), nil); err != nil {
		t.Fatal(err)
	}
	const evil = "1.2.3.4 accept; flush ruleset; #"
	for what, change := range map[string]func(*nodeapi.Policy){
		"bridge":    func(p *nodeapi.Policy) { p.Networks[0].Bridge = `x" accept; flush ruleset` },
		"long name": func(p *nodeapi.Policy) { p.Networks[0].Bridge = "abcdefghijklmnop" },
		"gateway":   func(p *nodeapi.Policy) { p.Networks[0].Gateway = evil },
		"range":     func(p *nodeapi.Policy) { p.Networks[0].CIDR = evil },
		"range 6":   func(p *nodeapi.Policy) { p.Networks[0].CIDR6 = evil },
		"mac":       func(p *nodeapi.Policy) { p.Interfaces[0].MAC = evil },
		"ip":        func(p *nodeapi.Policy) { p.Interfaces[0].IP = evil },
		"ip6":       func(p *nodeapi.Policy) { p.Interfaces[0].IP6 = "fe80::1%" + evil },
		"rate":      func(p *nodeapi.Policy) { p.Interfaces[0].InKbps = -1 },
		"group":     func(p *nodeapi.Policy) { p.Interfaces[0].Groups = []uuid.UUID{uuid.New()} },
		"network":   func(p *nodeapi.Policy) { p.Interfaces[0].NetworkID = uuid.New() },
		"member":    func(p *nodeapi.Policy) { p.Groups[0].Members = []string{evil} },
		"protocol": func(p *nodeapi.Policy) {
			p.Groups[0].Rules = []nodeapi.PolicyRule{{Direction: "egress", Protocol: evil}}
		},
		"direction": func(p *nodeapi.Policy) {
			p.Groups[0].Rules = []nodeapi.PolicyRule{{Direction: evil, Protocol: "any"}}
		},
		"port": func(p *nodeapi.Policy) {
			p.Groups[0].Rules = []nodeapi.PolicyRule{{Direction: "egress", Protocol: "tcp", PortMin: 70000}}
		},
		"reference": func(p *nodeapi.Policy) {
			p.Groups[0].Rules = []nodeapi.PolicyRule{{Direction: "egress", Protocol: "tcp", GroupID: uuid.New()}}
		},
		"cidr": func(p *nodeapi.Policy) {
			p.Groups[0].Rules = []nodeapi.PolicyRule{{Direction: "egress", Protocol: "any", CIDR: evil}}
		},
		"forward":       func(p *nodeapi.Policy) { p.Forwards[0].GuestIP = evil },
		"forward port":  func(p *nodeapi.Policy) { p.Forwards[0].HostPort = 0 },
		"forward proto": func(p *nodeapi.Policy) { p.Forwards[0].Protocol = evil },
		"source":        func(p *nodeapi.Policy) { p.Forwards[0].Source = evil },
	} {
		p := good()
		change(&p)
		if list, err := parts(p, nil); !errors.Is(err, nodeapi.ErrInvalidCommand) {
			t.Errorf("%s: %v %v", what, list, err)
		}
	}
}

func TestDamagedFile(t *testing.T) {
	path := t.TempDir() + "/policy.json"
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); err == nil {
		t.Error("a damaged file was read")
	}
}
