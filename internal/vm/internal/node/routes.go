package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// ranges tells which IPv4 ranges the host can route to.
func (n *Node) ranges(context.Context, nodeapi.Command, nodeapi.Empty) (nodeapi.Ranges, error) {
	f, err := os.Open("/proc/net/route")
	if err != nil {
		return nodeapi.Ranges{}, fmt.Errorf("read routes of the host: %w", err)
	}
	defer f.Close()
	return parseRoutes(f)
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
