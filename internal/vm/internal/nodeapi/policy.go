package nodeapi

import (
	"encoding/hex"
	"fmt"
	"net"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// The verbs of networks and their protection.
const (
	VerbApplyPolicy   Verb = "network.policy"    // Policy -> PolicyApplied: filters, names and fixed leases of everything on the node
	VerbListening     Verb = "node.listening"    // Empty -> Listening: ports that the host itself listens on
	VerbSetInterfaces Verb = "vm.interfaces.set" // InterfacesSpec -> Status: the definition and the running guest have exactly these
)

// Policy is all that a node must know to protect its guests and to tell them their addresses. It is whole: what it does not name is
// removed. A node keeps it, and has it in force before any controller answers.
type Policy struct {
	Version    int64             `json:"version"` // grows; an older one is refused
	Networks   []PolicyNetwork   `json:"networks"`
	Interfaces []PolicyInterface `json:"interfaces"`
	Groups     []PolicyGroup     `json:"groups"`
	Forwards   []PolicyForward   `json:"forwards"`
}

// PolicyApplied answers a Policy.
type PolicyApplied struct {
	Changed bool `json:"changed"`
}

// PolicyNetwork is a network that guests of the node are connected to.
type PolicyNetwork struct {
	ID       uuid.UUID     `json:"id"`
	Mode     string        `json:"mode"`
	Bridge   string        `json:"bridge"` // bridge device, or the host's own one in mode bridge
	CIDR     string        `json:"cidr"`   // empty in mode bridge
	Gateway  string        `json:"gateway"`
	CIDR6    string        `json:"cidr6"` // empty: no IPv6
	Gateway6 string        `json:"gateway6"`
	Hosts    []NetworkHost `json:"hosts"`
}

// NetworkHost is a fixed lease and a name.
type NetworkHost struct {
	MAC  string `json:"mac"`
	IP   string `json:"ip"`
	IP6  string `json:"ip6,omitempty"` // empty: none
	Name string `json:"name"`          // empty: none
}

// PolicyInterface is an interface of a guest.
type PolicyInterface struct {
	MAC       string      `json:"mac"`
	NetworkID uuid.UUID   `json:"network_id"`
	IP        string      `json:"ip"`  // the only IPv4 address that it may use; empty: any of the network
	IP6       string      `json:"ip6"` // the only global IPv6 address that it may use
	Down      bool        `json:"down"`
	InKbps    int64       `json:"in_kbps"` // to the guest; 0: no limit
	OutKbps   int64       `json:"out_kbps"`
	Groups    []uuid.UUID `json:"groups"` // none: nothing comes in and nothing but DHCP and DNS goes out
}

// PolicyGroup is a security group.
type PolicyGroup struct {
	ID      uuid.UUID    `json:"id"`
	Rules   []PolicyRule `json:"rules"`
	Members []string     `json:"members"` // addresses of its interfaces on all nodes, where a rule refers to it
}

// Directions of rules.
const (
	Ingress = "ingress" // to the guest
	Egress  = "egress"  // from the guest
)

// PolicyRule allows traffic.
type PolicyRule struct {
	Direction string    `json:"direction"`
	Protocol  string    `json:"protocol"` // any, tcp, udp, icmp, icmpv6
	PortMin   int       `json:"port_min"` // 0: any
	PortMax   int       `json:"port_max"`
	CIDR      string    `json:"cidr"`     // of the other side; empty: any
	GroupID   uuid.UUID `json:"group_id"` // of the other side; zero: any
}

// PolicyForward is a port of the host that leads to a guest.
type PolicyForward struct {
	MAC       string `json:"mac"`
	Protocol  string `json:"protocol"` // tcp, udp
	HostPort  int    `json:"host_port"`
	GuestIP   string `json:"guest_ip"`
	GuestPort int    `json:"guest_port"`
	Source    string `json:"source"` // range that may use it; empty: any
}

// Listening lists ports that programs of the host listen on.
type Listening struct {
	TCP []int `json:"tcp"`
	UDP []int `json:"udp"`
}

// InterfacesSpec are all interfaces of a virtual machine.
type InterfacesSpec struct {
	NICs []NIC `json:"nics"`
}

// TapPrefix begins the name of every device that connects a guest. What has such a name and no policy passes nothing.
const TapPrefix = "nvt"

// TapName is the device on the host that connects the interface with this MAC. It is known before the guest starts, so that its filters
// are in force before the device is there, whoever starts the guest.
func TapName(mac string) (string, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 {
		return "", ErrInvalidCommand.WithMessage("%q is no MAC address", mac)
	}
	return TapPrefix + hex.EncodeToString(hw), nil
}

// The errors of networks on a node.
var (
	ErrFirewall = errs.New(errs.Unavailable, "vm.firewall_unavailable", "the node could not put the protection of its guests in force").
			WithAction("Check on the node that nft works ('nft list tables', package nftables); the operation goes on by itself then.")
	ErrInterfaceHeld = errs.New(errs.Conflict, "interface.held", "the guest does not let go of the interface").
				WithAction("Shut the interface down in the guest and try again, or stop the virtual machine: the interface is cut off already, and it goes with the next stop.")
	ErrUplink = errs.New(errs.Conflict, "network.uplink_refused", "the node cannot connect the network to the outside as asked").
			WithAction("Check that every node has the uplink, that it is a bridge where no VLAN is given, and that the kernel has 802.1Q (module 8021q) where one is.")
)

// String names a forward in logs.
func (f PolicyForward) String() string {
	return fmt.Sprintf("%s/%d to %s:%d", f.Protocol, f.HostPort, f.GuestIP, f.GuestPort)
}
