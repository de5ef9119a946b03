package imagefetch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/novacron/novacron/internal/platform/safedial"
	"github.com/novacron/novacron/internal/vm"
)

// Rules say where images may be fetched from.
type Rules struct {
	Hosts    []string       // names; "*" is any, "*.example.org" any below it; none: nothing is fetched
	Networks []netip.Prefix // addresses that are not public and allowed all the same, on any port
	MaxBytes int64
}

// allows tells whether a connection to an address may be made.
func (r Rules) allows(a netip.AddrPort) bool {
	addr := a.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(r.Networks, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return true
	}
	return (a.Port() == 80 || a.Port() == 443) && safedial.Policy{}.Allows(addr)
}

// control is asked by the dialer with the address that it is about to connect to, after every lookup of the name: what the name stood for
// a moment ago does not count.
func (r Rules) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" || !r.allows(a) {
		return vm.ErrImageURL.WithMessage("the address of the server is not one that images are fetched from")
	}
	return nil
}

// Check tells whether an address may be tried at all. Which host it leads to is looked at again when the connection is made.
func (r Rules) Check(text string) (*url.URL, error) {
	refuse := func(format string, args ...any) (*url.URL, error) {
		return nil, vm.ErrImageURL.WithMessage("images are not fetched from this address: %s", fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		return refuse("it is no URL")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	switch {
	case len(text) > 4096:
		return refuse("it is longer than 4096 bytes")
	case u.Scheme != "https" && u.Scheme != "http":
		return refuse("it does not begin with https:// or http://")
	case host == "":
		return refuse("it names no host")
	case u.User != nil:
		return refuse("it holds a user name or password")
	case !slices.ContainsFunc(r.Hosts, func(pattern string) bool { return matches(strings.ToLower(pattern), host) }):
		return refuse("the host %s is not on the list of vm.image_import.hosts", host)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		port := uint16(443)
		if u.Scheme == "http" {
			port = 80
		}
		if text := u.Port(); text != "" {
			a, err := netip.ParseAddrPort(net.JoinHostPort("127.0.0.1", text))
			if err != nil {
				return refuse("its port is none")
			}
			port = a.Port()
		}
		if !r.allows(netip.AddrPortFrom(addr, port)) {
			return refuse("%s is not a public address and port", u.Host)
		}
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

func matches(pattern, host string) bool {
	if below, ok := strings.CutPrefix(pattern, "*."); ok {
		return strings.HasSuffix(host, "."+below)
	}
	return pattern == "*" || pattern == host
}
