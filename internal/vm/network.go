package vm

import (
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
)

// Interface is one network interface of a virtual machine.
type Interface struct {
	ID             uuid.UUID   `json:"id" doc:"Of the interface."`
	NetworkID      uuid.UUID   `json:"network_id"`
	MAC            string      `json:"mac" example:"52:54:00:12:34:56"`
	IPAddress      string      `json:"ip_address,omitempty" doc:"The IPv4 address that DHCP gives it, and the only one that it may use." example:"10.100.0.10"`
	IPv6Address    string      `json:"ipv6_address,omitempty" doc:"The address that the guest makes of the network's prefix and its MAC, and the only one beside link-local ones that it may use."`
	SecurityGroups []uuid.UUID `json:"security_groups" nullable:"false" doc:"What it may send and receive."`
	Link           string      `json:"link" enum:"up,down" doc:"Whether the cable is in."`
	Bandwidth      *Bandwidth  `json:"bandwidth,omitempty"`
	OperationID    *uuid.UUID  `json:"operation_id,omitempty" doc:"The operation at work on it, if any."`
	Addresses      []string    `json:"addresses" nullable:"false" doc:"As the DHCP lease or the guest agent tells."`
}

// The states of a link.
const (
	LinkUp   = "up"
	LinkDown = "down"
)

// Bandwidth limits an interface; zero is no limit.
type Bandwidth struct {
	InKbps  int64 `json:"in_kbps,omitempty" minimum:"0" maximum:"1000000000" doc:"To the guest, in kilobits a second. What is more is dropped; bursts of a tenth of a second pass. 0: no limit." example:"100000"`
	OutKbps int64 `json:"out_kbps,omitempty" minimum:"0" maximum:"1000000000" doc:"From the guest." example:"100000"`
}

// Network is a virtual network of a tenant.
type Network struct {
	ID          uuid.UUID     `json:"id"`
	Name        string        `json:"name" example:"backend"`
	Mode        NetworkMode   `json:"mode" enum:"nat,isolated,routed,bridge"`
	CIDR        string        `json:"cidr,omitempty" example:"10.100.0.0/24" doc:"None in mode bridge."`
	Gateway     string        `json:"gateway,omitempty" example:"10.100.0.1"`
	DHCP        *DHCP         `json:"dhcp,omitempty"`
	IPv6CIDR    string        `json:"ipv6_cidr,omitempty" example:"fd12:3456:789a:1::/64"`
	IPv6Gateway string        `json:"ipv6_gateway,omitempty" example:"fd12:3456:789a:1::1"`
	Uplink      string        `json:"uplink,omitempty" doc:"Mode bridge: the node's device that leads outside." example:"br0"`
	VLAN        int           `json:"vlan,omitempty" doc:"Mode bridge: tag on the uplink." example:"42"`
	Domain      string        `json:"domain,omitempty" doc:"A virtual machine is found as NAME and as NAME.DOMAIN by the others of the network." example:"novacron.internal"`
	Status      NetworkStatus `json:"status" enum:"creating,active,deleting"`
	Default     bool          `json:"default" doc:"Virtual machines that name no network join this one."`
	Version     int64         `json:"version" doc:"Grows with every change; the ETag."`
	OwnerID     uuid.UUID     `json:"owner_id"`
	TenantID    uuid.UUID     `json:"tenant_id"`
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

// DHCP is the range of addresses that a network gives out.
type DHCP struct {
	Start string `json:"start" example:"10.100.0.10"`
	End   string `json:"end" example:"10.100.0.254"`
}

// NetworkMode says how a network reaches the outside.
type NetworkMode string

// The network modes. The last two need the permission network:provider on the platform.
const (
	NetworkNAT      NetworkMode = "nat"      // to the outside through the node's address
	NetworkIsolated NetworkMode = "isolated" // not at all
	NetworkRouted   NetworkMode = "routed"   // by its own addresses, which the outside must have a route to
	NetworkBridge   NetworkMode = "bridge"   // on a bridge of the node, or on a VLAN of one of its devices
)

// NetworkStatus tells whether a network can be used.
type NetworkStatus string

// The statuses of a network.
const (
	NetworkCreating NetworkStatus = "creating"
	NetworkActive   NetworkStatus = "active"
	NetworkDeleting NetworkStatus = "deleting"
)

// InterfaceRequest asks for a network interface.
type InterfaceRequest struct {
	NetworkID      uuid.UUID   // zero: the tenant's default network
	MAC            string      // empty: a free one
	IPAddress      string      // empty: a free one of the network's range
	SecurityGroups []uuid.UUID // nil: the tenant's default group; empty: none
	Down           bool
	Bandwidth      Bandwidth
}

// SecurityGroup is a set of rules that says what interfaces may send and receive. What no rule allows is refused. Answers to what was
// allowed pass.
type SecurityGroup struct {
	ID          uuid.UUID      `json:"id"`
	Name        string         `json:"name" example:"web"`
	Description string         `json:"description"`
	Default     bool           `json:"default" doc:"Interfaces that name no group have this one."`
	Rules       []SecurityRule `json:"rules" nullable:"false"`
	Version     int64          `json:"version" doc:"Grows with every change; the ETag."`
	OwnerID     uuid.UUID      `json:"owner_id"`
	TenantID    uuid.UUID      `json:"tenant_id"`
	CreatedAt   time.Time      `json:"created_at"`
	UpdatedAt   time.Time      `json:"updated_at"`
}

// SecurityRule allows traffic.
type SecurityRule struct {
	ID            uuid.UUID  `json:"id"`
	Direction     string     `json:"direction" enum:"ingress,egress" doc:"ingress: to the guest."`
	Protocol      string     `json:"protocol" enum:"any,tcp,udp,icmp,icmpv6"`
	PortMin       int        `json:"port_min,omitempty" doc:"First port, of tcp and udp; none: all ports." example:"443"`
	PortMax       int        `json:"port_max,omitempty" example:"443"`
	RemoteCIDR    string     `json:"remote_cidr,omitempty" doc:"Range of the other side; with neither this nor a group: anybody." example:"192.0.2.0/24"`
	RemoteGroupID *uuid.UUID `json:"remote_group_id,omitempty" doc:"Group of the other side."`
	CreatedAt     time.Time  `json:"created_at"`
}

// PortForward is a port of the nodes that leads to a guest of a NAT network.
type PortForward struct {
	ID          uuid.UUID `json:"id"`
	VMID        uuid.UUID `json:"vm_id"`
	InterfaceID uuid.UUID `json:"interface_id"`
	Protocol    string    `json:"protocol" enum:"tcp,udp"`
	HostPort    int       `json:"host_port" example:"8443" doc:"On every address of the node that the virtual machine is on."`
	GuestPort   int       `json:"guest_port" example:"443"`
	SourceCIDR  string    `json:"source_cidr,omitempty" doc:"Who may use it; none: anybody."`
	OwnerID     uuid.UUID `json:"owner_id"`
	TenantID    uuid.UUID `json:"tenant_id"`
	CreatedAt   time.Time `json:"created_at"`
}

// The errors of networks, interfaces, security groups and port forwards.
var (
	ErrNetworkNotFound  = errs.New(errs.NotFound, "network.not_found", "there is no such network")
	ErrNetworkTaken     = errs.New(errs.Conflict, "network.name_taken", "a network of this name exists in the tenant")
	ErrNetworkOverlap   = errs.New(errs.Conflict, "network.cidr_overlap", "the address range overlaps with another network")
	ErrNetworkInUse     = errs.New(errs.Conflict, "network.in_use", "virtual machines are connected to the network").WithAction("Detach their interfaces or delete them first; GET /api/v1/vms?network_id= lists them.")
	ErrNetworkInvalid   = errs.New(errs.Invalid, "network.invalid", "the network cannot be made as asked")
	ErrNetworkBusy      = errs.New(errs.Locked, "network.locked", "an operation is at work on the network").WithRetryable(true).WithAction("Wait for the operation, or cancel it.")
	ErrNetworkVersion   = errs.New(errs.Precondition, "network.version_mismatch", "the network has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrNetworkProvider  = errs.New(errs.Forbidden, "network.provider_only", "networks that reach outside by themselves are for the platform's administrators").WithAction("Ask for the permission network:provider on the platform, or choose the mode nat or isolated.")
	ErrNoAddressRange   = errs.New(errs.Conflict, "network.pool_exhausted", "no address range is free for the tenant's default network").WithAction("Create a network with a range of your choice and name it when creating the virtual machine.")
	ErrAddressTaken     = errs.New(errs.Conflict, "network.address_taken", "another interface of the network has the address")
	ErrAddressesAreUsed = errs.New(errs.Conflict, "network.addresses_exhausted", "the network has no free address left").WithAction("Widen its DHCP range, or use another network.")

	ErrInterfaceNotFound = errs.New(errs.NotFound, "interface.not_found", "the virtual machine has no such interface")
	ErrInterfaceInvalid  = errs.New(errs.Invalid, "interface.invalid", "the interface cannot be made as asked")
	ErrInterfaceMAC      = errs.New(errs.Conflict, "interface.mac_taken", "an interface has this MAC address already").WithAction("Leave the MAC address out to get a free one.")
	ErrInterfaceTooMany  = errs.New(errs.Conflict, "interface.too_many", "the virtual machine has as many interfaces as it can have")

	ErrGroupNotFound = errs.New(errs.NotFound, "security_group.not_found", "there is no such security group")
	ErrGroupTaken    = errs.New(errs.Conflict, "security_group.name_taken", "a security group of this name exists in the tenant")
	ErrGroupInUse    = errs.New(errs.Conflict, "security_group.in_use", "interfaces or rules refer to the security group").WithAction("Take it off the interfaces and out of the rules of other groups first.")
	ErrGroupDefault  = errs.New(errs.Conflict, "security_group.is_default", "the tenant's default security group stays").WithAction("Change its rules instead.")
	ErrGroupInvalid  = errs.New(errs.Invalid, "security_group.invalid", "the security group cannot be as asked")
	ErrGroupVersion  = errs.New(errs.Precondition, "security_group.version_mismatch", "the security group has changed since you read it").WithAction("Read it again and repeat the change.")
	ErrRuleNotFound  = errs.New(errs.NotFound, "security_group.rule_not_found", "the security group has no such rule")
	ErrRuleExists    = errs.New(errs.Conflict, "security_group.rule_exists", "the security group has this rule already")
	ErrRuleTooMany   = errs.New(errs.Conflict, "security_group.too_many_rules", "the security group has as many rules as it can have").WithAction("Join ranges, or spread the rules over several groups.")

	ErrForwardNotFound = errs.New(errs.NotFound, "port_forward.not_found", "there is no such port forward")
	ErrForwardTaken    = errs.New(errs.Conflict, "port_forward.port_taken", "the host port is forwarded already").WithAction("Choose another, or leave it out to get a free one.")
	ErrForwardListens  = errs.New(errs.Conflict, "port_forward.port_in_use", "a program of the node listens on the host port").WithAction("Choose another, or leave it out to get a free one.")
	ErrForwardInvalid  = errs.New(errs.Invalid, "port_forward.invalid", "the port forward cannot be made as asked")
	ErrForwardTarget   = errs.New(errs.Conflict, "port_forward.no_target", "the virtual machine has no interface on a NAT network that a port could lead to")
)

func networkErrors() []*errs.Error {
	return []*errs.Error{ErrNetworkNotFound, ErrNetworkTaken, ErrNetworkOverlap, ErrNetworkInUse, ErrNetworkInvalid, ErrNetworkBusy, ErrNetworkVersion,
		ErrNetworkProvider, ErrNoAddressRange, ErrAddressTaken, ErrAddressesAreUsed, ErrInterfaceNotFound, ErrInterfaceInvalid, ErrInterfaceMAC,
		ErrInterfaceTooMany, ErrGroupNotFound, ErrGroupTaken, ErrGroupInUse, ErrGroupDefault, ErrGroupInvalid, ErrGroupVersion, ErrRuleNotFound,
		ErrRuleExists, ErrRuleTooMany, ErrForwardNotFound, ErrForwardTaken, ErrForwardListens, ErrForwardInvalid, ErrForwardTarget}
}
