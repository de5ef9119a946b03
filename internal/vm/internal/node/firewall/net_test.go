package firewall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// space is a network name space of a test's own, with a thread that lives in it.
type space struct {
	t    *testing.T
	tid  int
	work chan func()
}

func newSpace(t *testing.T) *space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network name spaces need root")
	}
	for _, tool := range []string{"nft", "ip", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	s := &space{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() { // ends with the test; its thread ends with it, because it is never unlocked
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		s.tid = unix.Gettid()
		ready <- err
		if err != nil {
			return
		}
		for f := range s.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network name space: %v", err)
	}
	t.Cleanup(func() { close(s.work) })
	s.ip("link set lo up")
	return s
}

// in runs f in the name space; sockets that it makes stay there.
func (s *space) in(f func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

func (s *space) run(_ context.Context, input string, args ...string) (out string, err error) {
	s.in(func() {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(input)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		var text []byte
		text, err = cmd.Output()
		if out = string(text); err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
		}
	})
	return out, err
}

func (s *space) must(args ...string) string {
	s.t.Helper()
	out, err := s.run(context.Background(), "", args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *space) ip(args string) {
	s.t.Helper()
	s.must(append([]string{"ip"}, strings.Fields(args)...)...)
}

// write sets a kernel setting of the name space.
func (s *space) write(path, value string) {
	s.t.Helper()
	s.must("sh", "-c", "echo "+value+" > /proc/sys/"+path) // a program of its own sees its own name space there
}

const short = 400 * time.Millisecond // after which what has not come is taken not to come

// serve answers on TCP with what the connection's other end is seen as. It ends with the test.
func (s *space) serve(address string) {
	s.t.Helper()
	var l net.Listener
	var err error
	s.in(func() { l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", address) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				fmt.Fprintf(c, "%s\n", c.RemoteAddr().(*net.TCPAddr).IP)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// dial connects and gives the connection and what the server sees.
func (s *space) dial(address string, patience time.Duration) (net.Conn, string, error) {
	var c net.Conn
	var err error
	s.in(func() { c, err = (&net.Dialer{Timeout: patience}).Dial("tcp", address) })
	if err != nil {
		return nil, "", err
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	var seen []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return nil, "", err
		}
		if b[0] == '\n' {
			return c, string(seen), nil
		}
		seen = append(seen, b[0])
	}
}

// reaches says whether a connection must come about or not.
func (s *space) reaches(address string, want bool) {
	s.t.Helper()
	patience := short
	if want {
		patience = 15 * time.Second
	}
	c, _, err := s.dial(address, patience)
	if want && err != nil {
		s.t.Errorf("%s is not reached: %v", address, err)
	}
	if !want && err == nil {
		s.t.Errorf("%s is reached", address)
	}
	if err == nil {
		c.Close()
	}
}

// echo sends a line over an open connection and tells whether it comes back.
func echo(c net.Conn, patience time.Duration) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

func (s *space) udp(address string) *net.UDPConn {
	s.t.Helper()
	var c net.PacketConn
	var err error
	s.in(func() { c, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", address) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// wire sends and hears frames at a device.
type wire struct {
	fd    int
	index int
}

func (s *space) wire(device string) *wire {
	s.t.Helper()
	w := &wire{}
	var err error
	s.in(func() {
		var i *net.Interface
		if i, err = net.InterfaceByName(device); err != nil {
			return
		}
		w.index = i.Index
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return
		}
		err = unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: w.index})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index, Halen: 6}); err != nil {
		t.Fatal(err)
	}
}

// hears waits for a frame with this mark in it.
func (w *wire) hears(mark []byte, patience time.Duration) bool {
	end := time.Now().Add(patience)
	buffer := make([]byte, 2048)
	for {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		tv := unix.NsecToTimeval(int64(left))
		_ = unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		n, from, err := unix.Recvfrom(w.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return false
		}
		if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if bytes.Contains(buffer[:n], mark) {
			return true
		}
	}
}

func hw(text string) []byte {
	m, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return m
}

func ether(to, from string, kind uint16, payload []byte) []byte {
	f := append(append([]byte{}, hw(to)...), hw(from)...)
	f = binary.BigEndian.AppendUint16(f, kind)
	f = append(f, payload...)
	for len(f) < 60 {
		f = append(f, 0)
	}
	return f
}

func sum16(parts ...[]byte) uint16 {
	var sum uint32
	all := bytes.Join(parts, nil)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	for i := 0; i < len(all); i += 2 {
		sum += uint32(all[i])<<8 | uint32(all[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ipv4 makes a packet.
func ipv4(from, to string, protocol byte, payload []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	h = append(append(h, net.ParseIP(from).To4()...), net.ParseIP(to).To4()...)
	binary.BigEndian.PutUint16(h[10:], sum16(h))
	return append(h, payload...)
}

func udp(sport, dport int, payload []byte) []byte {
	h := make([]byte, 8)
	binary.BigEndian.PutUint16(h, uint16(sport))
	binary.BigEndian.PutUint16(h[2:], uint16(dport))
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return append(h, payload...) // without a checksum, which IPv4 allows
}

func arp(operation uint16, mac, ip, target string, mark []byte) []byte {
	f := []byte{0, 1, 8, 0, 6, 4}
	f = binary.BigEndian.AppendUint16(f, operation)
	f = append(append(f, hw(mac)...), net.ParseIP(ip).To4()...)
	f = append(append(f, make([]byte, 6)...), net.ParseIP(target).To4()...)
	return append(f, mark...)
}

// ipv6 makes a packet of ICMPv6.
func icmp6(from, to string, message []byte) []byte {
	src, dst := net.ParseIP(from).To16(), net.ParseIP(to).To16()
	pseudo := append(append([]byte{}, src...), dst...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = append(pseudo, 0, 0, 0, 58)
	binary.BigEndian.PutUint16(message[2:], 0)
	binary.BigEndian.PutUint16(message[2:], sum16(pseudo, message))
	h := []byte{0x60, 0, 0, 0, 0, 0, 58, 255}
	binary.BigEndian.PutUint16(h[4:], uint16(len(message)))
	return append(append(append(h, src...), dst...), message...)
}

// guest is a name space on a bridge, at a device as a guest has it.
type guest struct {
	*space
	mac, addr, addr6 string
	tap              string
}

// world is a host with two networks of two tenants and something outside.
type world struct {
	t             *testing.T
	host, outside *space
	a, b          *guest // of one tenant
	c             *guest // of another
	fw            *Firewall
	path          string
	policy        nodeapi.Policy
	mine          uuid.UUID // security group of a and b
	theirs        uuid.UUID // of c
}

var all = []nodeapi.PolicyRule{{Direction: nodeapi.Egress, Protocol: "any"}}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, host: newSpace(t), outside: newSpace(t), mine: uuid.New(), theirs: uuid.New()}
	h := w.host
	h.write("net/ipv4/ip_forward", "1")
	h.write("net/ipv6/conf/all/forwarding", "1")
	// The kernel's own way of showing bridged frames to the host's rules must make no difference; it is on where containers are.
	n1, n2 := uuid.New(), uuid.New()
	for i, id := range []uuid.UUID{n1, n2} {
		bridge := fmt.Sprintf("novatest%d", i+1)
		h.ip("link add " + bridge + " type bridge forward_delay 0")
		h.ip(fmt.Sprintf("addr add 10.9.%d.1/24 dev %s", i+1, bridge))
		h.ip(fmt.Sprintf("addr add fd09:%d::1/64 dev %s nodad", i+1, bridge))
		h.ip("link set " + bridge + " up")
		h.write("net/ipv4/conf/"+bridge+"/route_localnet", "1")
		w.policy.Networks = append(w.policy.Networks, nodeapi.PolicyNetwork{ID: id, Mode: "nat", Bridge: bridge,
			CIDR: fmt.Sprintf("10.9.%d.0/24", i+1), Gateway: fmt.Sprintf("10.9.%d.1", i+1),
			CIDR6: fmt.Sprintf("fd09:%d::/64", i+1), Gateway6: fmt.Sprintf("fd09:%d::1", i+1)})
	}
	w.a, w.b, w.c = w.guest(1, 11), w.guest(1, 12), w.guest(2, 13)
	h.ip("link add up0 type veth peer name eth0 netns " + strconv.Itoa(w.outside.tid))
	h.ip("addr add 192.0.2.1/24 dev up0")
	h.ip("link set up0 up")
	w.outside.ip("addr add 192.0.2.2/24 dev eth0")
	w.outside.ip("link set eth0 up")
	w.outside.ip("route add default via 192.0.2.1")

	for i, g := range []*guest{w.a, w.b, w.c} {
		network, group := n1, w.mine
		if i == 2 {
			network, group = n2, w.theirs
		}
		w.policy.Interfaces = append(w.policy.Interfaces, nodeapi.PolicyInterface{MAC: g.mac, NetworkID: network, IP: g.addr, IP6: g.addr6, Groups: []uuid.UUID{group}})
	}
	w.policy.Groups = []nodeapi.PolicyGroup{{ID: w.mine, Rules: all, Members: []string{w.a.addr, w.b.addr, w.a.addr6, w.b.addr6}},
		{ID: w.theirs, Rules: all, Members: []string{w.c.addr, w.c.addr6}}}
	w.path = filepath.Join(t.TempDir(), "policy.json")
	var err error
	if w.fw, err = Open(w.path, h.run); err != nil {
		t.Fatal(err)
	}
	return w
}

// guest makes one on network n with the address that ends in this number.
func (w *world) guest(n, number int) *guest {
	g := &guest{space: newSpace(w.t), mac: fmt.Sprintf("52:54:00:00:00:%02x", number), addr: fmt.Sprintf("10.9.%d.%d", n, number),
		addr6: fmt.Sprintf("fd09:%d::5054:ff:fe00:%x", n, number)}
	var err error
	if g.tap, err = nodeapi.TapName(g.mac); err != nil {
		w.t.Fatal(err)
	}
	w.host.ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %d", g.tap, g.tid))
	w.host.ip(fmt.Sprintf("link set %s master novatest%d", g.tap, n))
	w.host.ip("link set " + g.tap + " up")
	g.ip("link set eth0 address " + g.mac)
	g.ip("addr add " + g.addr + "/24 dev eth0")
	g.ip("addr add " + g.addr6 + "/64 dev eth0 nodad")
	g.ip("link set eth0 up")
	g.ip(fmt.Sprintf("route add default via 10.9.%d.1", n))
	return g
}

// apply puts the world's policy in force.
func (w *world) apply() {
	w.t.Helper()
	w.policy.Version++
	if _, err := w.fw.Apply(context.Background(), w.policy); err != nil {
		var cause interface{ Unwrap() error }
		if errors.As(err, &cause) {
			w.t.Fatal(err, cause.Unwrap())
		}
		w.t.Fatal(err)
	}
}

// router waits for the address of the link that the host has in a network, and has the policy learn of it.
func (w *world) router(n int) string {
	w.t.Helper()
	bridge := w.policy.Networks[n].Bridge
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		known, err := w.fw.routers(context.Background(), w.policy)
		if err != nil {
			w.t.Fatal(err)
		}
		if a := known[bridge]; a.IsValid() {
			if _, err := w.fw.Repair(context.Background()); err != nil {
				w.t.Fatal(err)
			}
			return a.String()
		}
	}
	w.t.Fatal("the bridge has no address of the link")
	return ""
}

// rules replaces the rules of the first tenant's group.
func (w *world) rules(rules ...nodeapi.PolicyRule) {
	w.t.Helper()
	w.policy.Groups[0].Rules = append(append([]nodeapi.PolicyRule{}, all...), rules...)
	w.apply()
}
