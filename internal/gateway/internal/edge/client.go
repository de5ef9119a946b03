package edge

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddr gives the address of the client. Behind proxies that are trusted it is the last one in X-Forwarded-For that is none of them:
// each proxy adds whom it was asked by at the end, and what stands before that the client may have written itself.
func clientAddr(r *http.Request, proxies []netip.Prefix) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	if len(proxies) == 0 || !within(addr, proxies) {
		return addr
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for line != "" {
			last := line
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				line, last = line[:i], line[i+1:]
			} else {
				line = ""
			}
			before := parseAddr(strings.TrimSpace(last))
			if !before.IsValid() {
				return addr // the nearest that somebody trusted has vouched for
			}
			if addr = before; !within(addr, proxies) {
				return addr
			}
		}
	}
	return addr
}

// parseAddr reads an address with or without a port; it is invalid where there is none.
func parseAddr(s string) netip.Addr {
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func within(addr netip.Addr, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}
