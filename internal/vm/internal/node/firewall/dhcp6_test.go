package firewall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/novacron/novacron/internal/vm/internal/driver"
	"github.com/novacron/novacron/internal/vm/internal/driver/libvirt"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/test/testhost"
)

// client6 is a client of DHCPv6 in a guest, as far as RFC 8415 is needed here.
type client6 struct {
	g    *guest
	duid []byte
}

func option6(code uint16, body []byte) []byte {
	o := binary.BigEndian.AppendUint16(nil, code)
	o = binary.BigEndian.AppendUint16(o, uint16(len(body)))
	return append(o, body...)
}

func options6(body []byte) map[uint16][]byte {
	list := map[uint16][]byte{}
	for len(body) >= 4 {
		n := int(binary.BigEndian.Uint16(body[2:]))
		if len(body) < 4+n {
			break
		}
		list[binary.BigEndian.Uint16(body)] = body[4 : 4+n]
		body = body[4+n:]
	}
	return list
}

// The numbers of RFC 8415, sections 7.3 and 21.
const (
	solicit6, request6, release6            = 1, 3, 8
	optClient, optServer, optIANA, optAddr6 = 1, 2, 3, 5
)

// exchange sends a message to all servers and waits for an answer; nil where none comes.
func (c client6) exchange(kind byte, options ...[]byte) (answer map[uint16][]byte) {
	c.g.t.Helper()
	c.g.in(func() {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			c.g.t.Error(err)
			return
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			c.g.t.Error(err)
			return
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		tv := unix.NsecToTimeval(int64(3 * time.Second))
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		if err := unix.Bind(fd, &unix.SockaddrInet6{Port: 546}); err != nil {
			c.g.t.Error(err)
			return
		}
		message := append([]byte{kind, 'n', 'c', '6'}, option6(optClient, c.duid)...)
		for _, o := range options {
			message = append(message, o...)
		}
		to := &unix.SockaddrInet6{Port: 547, ZoneId: uint32(device.Index), Addr: netip.MustParseAddr("ff02::1:2").As16()}
		if err := unix.Sendto(fd, message, 0, to); err != nil {
			return // no address of the link yet
		}
		buffer := make([]byte, 2048)
		if n, _, err := unix.Recvfrom(fd, buffer, 0); err == nil && n > 4 {
			answer = options6(buffer[4:n])
		}
	})
	return answer
}

// lease asks for an address and takes it, and gives what the server said of it.
func (c client6) lease() string {
	c.g.t.Helper()
	wanted := option6(optIANA, append([]byte{0, 0, 0, 1}, make([]byte, 8)...))
	offer := c.exchange(solicit6, wanted)
	if offer == nil {
		return "silence"
	}
	if offer[optIANA] == nil {
		return "nothing"
	}
	reply := c.exchange(request6, option6(optServer, offer[optServer]), option6(optIANA, offer[optIANA]))
	if len(reply[optIANA]) < 12 {
		return "nothing"
	}
	address := options6(reply[optIANA][12:])[optAddr6]
	if len(address) < 24 {
		return "nothing"
	}
	if valid := binary.BigEndian.Uint32(address[20:]); valid != 120 {
		c.g.t.Errorf("the lease lasts %d s", valid)
	}
	a, _ := netip.AddrFromSlice(address[:16])
	return a.String()
}

func (c client6) release() {
	offer := c.exchange(solicit6, option6(optIANA, append([]byte{0, 0, 0, 1}, make([]byte, 8)...)))
	c.exchange(release6, option6(optServer, offer[optServer]), option6(optIANA, offer[optIANA]))
}

// becomes waits until a client is told what it must be.
func (c client6) becomes(what, want string) {
	c.g.t.Helper()
	var got string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if got = c.lease(); got == want {
			return
		}
	}
	c.g.t.Fatalf("%s: was told %s, want %s", what, got, want)
}

// TestDHCPv6 has libvirt's dnsmasq and the node's firewall give guests that make no address of their own the one that is theirs.
func TestDHCPv6(t *testing.T) {
	newSpace(t) // skips where there are no name spaces
	h := testhost.Start(t, "dhcp6")
	onHost := func(_ context.Context, input string, args ...string) (string, error) {
		cmd := exec.Command("nsenter", append([]string{"--net=" + h.NetNS(), "--"}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return string(out), err
	}
	connected := make(chan struct{}, 16)
	d := libvirt.New(libvirt.Config{URI: h.URI(), Accel: libvirt.AccelTCG, HostsDir: filepath.Join(h.Dir(), "leases")})
	if err := d.Open(t.Context(), func(e driver.Event) {
		if e.Kind == driver.EventConnected {
			connected <- struct{}{}
		}
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	<-connected
	def := driver.NetworkDef{ID: uuid.New(), InstallationID: uuid.New(), Name: "lan", Mode: driver.ModeNAT, Bridge: "novadhcp6", CIDR: "10.9.7.0/24", Gateway: "10.9.7.1",
		DHCPStart: "10.9.7.10", DHCPEnd: "10.9.7.99", CIDR6: "fd09:7::/64", Gateway6: "fd09:7::1"}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			var cause interface{ Unwrap() error }
			if errors.As(err, &cause) {
				t.Log(cause.Unwrap())
			}
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("ensure", d.EnsureNetwork(t.Context(), def))
	group := uuid.New()
	policy := nodeapi.Policy{Networks: []nodeapi.PolicyNetwork{{ID: def.ID, Mode: def.Mode, Bridge: def.Bridge, CIDR: def.CIDR, Gateway: def.Gateway, CIDR6: def.CIDR6, Gateway6: def.Gateway6}},
		Groups: []nodeapi.PolicyGroup{{ID: group, Rules: append([]nodeapi.PolicyRule{{Direction: nodeapi.Ingress, Protocol: "any", GroupID: group}}, all...)}}}
	var hosts []nodeapi.NetworkHost
	join := func(number int) *guest {
		g := &guest{space: newSpace(t), mac: fmt.Sprintf("52:54:00:00:07:%02x", number), addr: fmt.Sprintf("10.9.7.%d", number), addr6: fmt.Sprintf("fd09:7::5054:ff:fe00:7%02x", number)}
		var err error
		g.tap, err = nodeapi.TapName(g.mac)
		must("name the tap", err)
		policy.Interfaces = append(policy.Interfaces, nodeapi.PolicyInterface{MAC: g.mac, NetworkID: def.ID, IP: g.addr, IP6: g.addr6, Groups: []uuid.UUID{group}})
		policy.Groups[0].Members = append(policy.Groups[0].Members, g.addr, g.addr6)
		hosts = append(hosts, nodeapi.NetworkHost{MAC: g.mac, IP: g.addr, IP6: g.addr6, Name: fmt.Sprintf("web-%d", number)})
		for _, step := range []string{fmt.Sprintf("link add %s type veth peer name eth0 netns %d", g.tap, g.tid), "link set " + g.tap + " master " + def.Bridge, "link set " + g.tap + " up"} {
			_, err = onHost(t.Context(), "", append([]string{"ip"}, strings.Fields(step)...)...)
			must("plug in", err)
		}
		g.write("net/ipv6/conf/eth0/accept_ra", "0") // what makes addresses of announcements has them anyway
		g.ip("link set eth0 address " + g.mac)
		g.ip("link set eth0 up")
		return g
	}
	a, b, plain := join(11), join(12), join(13)
	fw, err := Open(filepath.Join(t.TempDir(), "policy.json"), onHost)
	must("open the firewall", err)
	policy.Version = 1
	_, err = fw.Apply(t.Context(), policy)
	must("apply", err)
	dnsmasq := func() string {
		return h.Run(t, "sh", "-c", "cat /run/libvirt/network/"+driver.NamePrefix+def.ID.String()+".pid /var/run/libvirt/network/"+driver.NamePrefix+def.ID.String()+".pid 2>/dev/null | head -1")
	}
	before := dnsmasq()

	mine := client6{a, append([]byte{0, 4}, bytes.Repeat([]byte{0xa}, 16)...)}
	theirs := client6{b, append([]byte{0, 3, 0, 1}, hw(b.mac)...)}
	mine.becomes("a guest that nobody knows yet", "nothing")
	must("set hosts", d.SetHosts(t.Context(), def.InstallationID, def.ID, hosts[:1]))
	mine.becomes("a guest that has become known", a.addr6)
	theirs.becomes("one that has not", "nothing")
	must("set hosts", d.SetHosts(t.Context(), def.InstallationID, def.ID, hosts))
	theirs.becomes("another one", b.addr6)
	mine.becomes("the first one again", a.addr6)
	if now := dnsmasq(); now == "" || now != before {
		t.Errorf("dnsmasq is %q, was %q: the network was restarted", now, before)
	}
	for end := time.Now().Add(time.Minute); ; { // dnsmasq tells libvirt of them after it has answered
		out := h.Virsh(t, "net-dhcp-leases", driver.NamePrefix+def.ID.String())
		if strings.Contains(out, a.addr6) && strings.Contains(out, b.addr6) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("libvirt knows of the leases\n%s", out)
		}
	}

	// With its address a guest is where the others find it, and the name is that of both addresses.
	for _, g := range []*guest{a, b} {
		g.ip("addr add " + g.addr6 + "/64 dev eth0 nodad")
		g.ip("addr add " + g.addr + "/24 dev eth0")
	}
	b.serve("[" + b.addr6 + "]:80")
	a.reaches("["+b.addr6+"]:80", true)
	resolver := net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (c net.Conn, err error) {
		a.in(func() { c, err = (&net.Dialer{Timeout: 5 * time.Second}).Dial(network, "[fd09:7::1]:53") })
		return c, err
	}}
	for family, want := range map[string]string{"ip4": b.addr, "ip6": b.addr6} {
		list, err := resolver.LookupIP(t.Context(), family, "web-12."+driver.Domain+".")
		if err != nil || len(list) != 1 || list[0].String() != want {
			t.Errorf("the name has the %s addresses %v, %v; want %s", family, list, err, want)
		}
	}

	// A guest that makes its address of the announcements has the same one as before, for as long as before.
	plain.write("net/ipv6/conf/eth0/accept_ra", "2")
	plain.ip("link set eth0 down")
	plain.ip("link set eth0 up")
	for end := time.Now().Add(time.Minute); !strings.Contains(plain.must("ip", "-6", "addr", "show", "dev", "eth0", "dynamic", "-tentative"), plain.addr6+"/64"); {
		if time.Now().After(end) {
			t.Fatalf("it has %s", plain.must("ip", "-6", "addr", "show", "dev", "eth0"))
		}
	}
	if out := plain.must("ip", "-6", "addr", "show", "dev", "eth0", "dynamic"); !strings.Contains(out, "valid_lft forever preferred_lft forever") {
		t.Errorf("its address lasts\n%s", out)
	}
	a.reaches("["+b.addr6+"]:80", true)

	// Between guests nothing of DHCPv6 passes: neither questions nor answers.
	ear := b.wire("eth0")
	link := func(g *guest) string { return "fe80::5054:ff:fe00:7" + g.mac[15:] }
	for what, frame := range map[string][]byte{
		"a question":             ip6udp(link(a), "ff02::1:2", 546, 547, "mark-dhcp6"),
		"an answer":              ip6udp(link(a), link(b), 547, 546, "mark-dhcp6"),
		"an answer to all":       ip6udp(link(a), "ff02::1", 547, 546, "mark-dhcp6"),
		"a question for it":      ip6udp(link(a), link(b), 546, 547, "mark-dhcp6"),
		"one by a foreign guest": ip6udp(b.addr6, "ff02::1:2", 546, 547, "mark-dhcp6"),
	} {
		to := b.mac
		if dst := net.IP(frame[24:40]); dst.IsMulticast() {
			to = fmt.Sprintf("33:33:%02x:%02x:%02x:%02x", dst[12], dst[13], dst[14], dst[15])
		}
		a.wire("eth0").send(t, ether(to, a.mac, 0x86dd, frame))
		if ear.hears([]byte("mark-dhcp6"), short) {
			t.Errorf("%s reaches another guest", what)
		}
	}
	// And on the host no more than the question for a server is let in.
	host := h.Run(t, "nft", "list", "table", "inet", "novacron")
	if !strings.Contains(host, "ff02::1:2 udp sport 546 udp dport 547 accept") || strings.Count(host, "dport 547") != 1 {
		t.Errorf("the host lets in\n%s", host)
	}

	// A guest that is not known any more is given nothing.
	mine.release()
	must("set hosts", d.SetHosts(t.Context(), def.InstallationID, def.ID, hosts[1:]))
	mine.becomes("one that has gone", "nothing")
	theirs.becomes("one that stays", b.addr6)
	must("remove", d.RemoveNetwork(t.Context(), def.InstallationID, def.ID))
}

// ip6udp makes a packet of UDP with a checksum, which IPv6 asks for.
func ip6udp(from, to string, sport, dport int, payload string) []byte {
	src, dst := net.ParseIP(from).To16(), net.ParseIP(to).To16()
	message := udp(sport, dport, []byte(payload))
	pseudo := append(append([]byte{}, src...), dst...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = append(pseudo, 0, 0, 0, 17)
	binary.BigEndian.PutUint16(message[6:], sum16(pseudo, message))
	header := []byte{0x60, 0, 0, 0, 0, 0, 17, 64}
	binary.BigEndian.PutUint16(header[4:], uint16(len(message)))
	return append(append(append(header, src...), dst...), message...)
}
