// Package safedial connects to addresses that somebody else named, without letting them reach what only this host can: itself, its networks, and
// the metadata services of clouds. The address is checked when the connection is made, after the name was looked up, so a name that changes its
// address in between gains nothing; and at each redirect, because each makes a connection.
package safedial

import (
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/novacron/novacron/internal/platform/errs"
)

// ErrRefused says that an address is none that may be connected to.
var ErrRefused = errs.New(errs.Invalid, "outbound.address_refused", "the address belongs to this installation's own networks, or to nobody").
	WithAction("Use an address that the internet can reach, or have the platform's administrators allow the range.")

// Errors lists the package's errors for the reference.
func Errors() []*errs.Error { return []*errs.Error{ErrRefused} }

// special lists what the internet does not route, beyond what package netip knows: the special-purpose registries of IANA (RFC 6890 and its
// updates) and, of those that wrap an IPv4 address, the ranges that would hide one.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),        // this network
	netip.MustParsePrefix("100.64.0.0/10"),    // shared address space, RFC 6598; metadata services of some clouds
	netip.MustParsePrefix("168.63.129.16/32"), // metadata and DNS of Azure; Microsoft, "What is IP address 168.63.129.16?"
	netip.MustParsePrefix("192.0.0.0/24"),     // IETF protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),     // documentation
	netip.MustParsePrefix("192.88.99.0/24"),   // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"),  // documentation
	netip.MustParsePrefix("203.0.113.0/24"),   // documentation
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved, and the broadcast address
	netip.MustParsePrefix("::/96"),            // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),     // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"),   // NAT64, local
	netip.MustParsePrefix("100::/64"),         // discard only
	netip.MustParsePrefix("2001::/23"),        // IETF protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"),    // documentation
	netip.MustParsePrefix("2002::/16"),        // 6to4
	netip.MustParsePrefix("3fff::/20"),        // documentation
	netip.MustParsePrefix("fec0::/10"),        // site-local, deprecated
}

// Policy says which addresses may be connected to.
type Policy struct {
	// Allow are ranges that may be connected to whatever they are.
	Allow []netip.Prefix
	// Any lets every address be connected to.
	Any bool
}

// Allows tells whether an address may be connected to.
func (p Policy) Allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if p.Any {
		return true
	}
	for _, allowed := range p.Allow {
		if allowed.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, s := range special {
		if s.Contains(a) {
			return false
		}
	}
	return true
}

// Dialer makes connections to what the policy allows; others fail with ErrRefused.
func (p Policy) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !p.Allows(at.Addr()) {
			return ErrRefused
		}
		return nil
	}}
}

// Transport makes HTTP requests to what the policy allows. It uses no proxy, because a proxy would connect in its stead.
func (p Policy) Transport(connectTimeout time.Duration) *http.Transport {
	return &http.Transport{
		DialContext: p.Dialer(connectTimeout).DialContext, TLSHandshakeTimeout: connectTimeout, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2,
		IdleConnTimeout: 30 * time.Second,
	}
}
