package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// ranges tells which ranges of IPv4 and IPv6 the host can route to.
func (n *Node) ranges(ctx context.Context, _ nodeapi.Command, _ nodeapi.Empty) (nodeapi.Ranges, error) {
	text, err := n.read(ctx, "/proc/net/route")
	if err != nil {
		return nodeapi.Ranges{}, fmt.Errorf("read routes of the host: %w", err)
	}
	list, err := parseRoutes(strings.NewReader(text))
	if err != nil {
		return list, err
	}
	if text, err = n.read(ctx, "/proc/net/ipv6_route"); err != nil {
		return list, nil //nolint:nilerr // a host without IPv6
	}
	list6, err := parseRoutes6(strings.NewReader(text))
	list.Ranges = append(list.Ranges, list6...)
	return list, err
}

// parseRoutes6 reads the kernel's table of IPv6 routes: destination and its length come first, both hexadecimal, the device last
// (net/ipv6/route.c, rt6_info_route; the format of proc(5) is of Linux 2.2). What every host has is passed over.
func parseRoutes6(r io.Reader) ([]nodeapi.Range, error) {
	var list []nodeapi.Range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] == "lo" {
			continue
		}
		raw, err := hex.DecodeString(fields[0])
		bits, bitsErr := strconv.ParseUint(fields[1], 16, 8)
		if err != nil || bitsErr != nil || len(raw) != 16 || bits > 128 {
			return list, fmt.Errorf("read routes of the host: %q is no route", lines.Text())
		}
		a := netip.AddrFrom16([16]byte(raw))
		if bits == 0 || a.IsLinkLocalUnicast() || a.IsMulticast() {
			continue
		}
		list = append(list, nodeapi.Range{CIDR: netip.PrefixFrom(a, int(bits)).String(), Device: fields[9]})
	}
	return list, lines.Err()
}

// States of sockets in the kernel's tables: a TCP socket that listens, a UDP socket that is not connected (include/net/tcp_states.h).
const (
	tcpListens = "0A"
	udpOpen    = "07"
)

// listening tells on which ports programs of the host listen.
func (n *Node) listening(ctx context.Context, _ nodeapi.Command, _ nodeapi.Empty) (nodeapi.Listening, error) {
	var l nodeapi.Listening
	for _, table := range []struct {
		file, state string
		into        *[]int
	}{{"tcp", tcpListens, &l.TCP}, {"tcp6", tcpListens, &l.TCP}, {"udp", udpOpen, &l.UDP}, {"udp6", udpOpen, &l.UDP}} {
		text, err := n.read(ctx, "/proc/net/"+table.file)
		if err != nil {
			continue // a host without IPv6
		}
		ports, err := parseListening(strings.NewReader(text), table.state)
		if err != nil {
			return l, err
		}
		*table.into = append(*table.into, ports...)
	}
	return l, nil
}

// parseListening reads a table of sockets in the form of proc(5), /proc/net/tcp: the local address and the state are the second and the
// fourth field, in hexadecimal.
func parseListening(r io.Reader, state string) ([]int, error) {
	var ports []int
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			return nil, fmt.Errorf("read sockets of the host: %q is no socket", lines.Text())
		}
		ports = append(ports, int(number))
	}
	return ports, lines.Err()
}

// parseRoutes reads the kernel's routing table in the form of proc(5), /proc/net/route: addresses are hexadecimal in the byte order of
// the machine, which is little endian wherever NovaCron runs. The default route is passed over.
func parseRoutes(r io.Reader) (nodeapi.Ranges, error) {
	var list nodeapi.Ranges
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			continue
		}
		destination, err := address(fields[1])
		if err != nil {
			return list, err
		}
		mask, err := address(fields[7])
		if err != nil {
			return list, err
		}
		m := mask.As4()
		bits := 0
		for v := binary.BigEndian.Uint32(m[:]); v != 0; v <<= 1 {
			bits++
		}
		if bits == 0 {
			continue
		}
		list.Ranges = append(list.Ranges, nodeapi.Range{CIDR: netip.PrefixFrom(destination, bits).String(), Device: fields[0]})
	}
	return list, lines.Err()
}

func address(text string) (netip.Addr, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 4 {
		return netip.Addr{}, fmt.Errorf("read routes of the host: %q is no address", text)
	}
	return netip.AddrFrom4([4]byte{raw[3], raw[2], raw[1], raw[0]}), nil
}
