package driver

import (
	"context"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
)

// Network modes.
const (
	ModeNAT      = "nat"      // guests reach the outside through the host's address
	ModeIsolated = "isolated" // guests reach each other only
	ModeRouted   = "routed"   // guests reach the outside, and are reached from there, by their own addresses
	ModeBridge   = "bridge"   // guests are connected to a bridge that NovaCron gives no addresses on
)

// Domain is the DNS domain of every network of ours; top-level domain "internal" is set apart for this (ICANN, resolution 2024.07.29.06).
const Domain = "novacron.internal"

// NetworkDef is a virtual network with its own bridge. The driver makes no firewall rules for it: that is the node's affair.
type NetworkDef struct {
	ID             uuid.UUID
	InstallationID uuid.UUID
	Name           string // the tenant's
	Mode           string // one of the modes
	Bridge         string // name of the bridge device; in mode ModeBridge it is there already
	CIDR           string // empty in mode ModeBridge, as is all that follows
	Gateway        string // the host's address in it
	DHCPStart      string // empty: no DHCP
	DHCPEnd        string
	CIDR6          string // empty: no IPv6; else announced to guests, which make their addresses of it and their MAC, or ask for them
	Gateway6       string
}

// NetworkState is what a hypervisor tells of a managed network.
type NetworkState struct {
	ID             uuid.UUID
	InstallationID uuid.UUID
	Bridge         string
	Active         bool
}

// Networks is the part of a driver that is about networks and interfaces.
type Networks interface {
	// EnsureNetwork defines the network, starts it, and has it started with the host. Of a network that is there its range of leases is
	// brought to what is asked for; one with other settings beyond that is refused with ErrHypervisorRefused, because to change it would
	// cut off its guests.
	EnsureNetwork(ctx context.Context, def NetworkDef) error
	// RemoveNetwork stops and forgets a network of the installation. It refuses while a guest is attached.
	RemoveNetwork(ctx context.Context, installation, network uuid.UUID) error
	// ListNetworks lists the managed networks of every installation.
	ListNetworks(ctx context.Context) ([]NetworkState, error)
	// SetHosts gives the network exactly these fixed leases and names, without a pause for others. Of two hosts with one name only the
	// first has it. A network that is not there is left so.
	SetHosts(ctx context.Context, installation, network uuid.UUID, hosts []nodeapi.NetworkHost) error
	// Hosts lists what SetHosts has set.
	Hosts(ctx context.Context, network uuid.UUID) ([]nodeapi.NetworkHost, error)

	// SetInterfaces gives a guest that runs or is paused exactly these interfaces, and their links the state that is asked for. The
	// definition stays. It asks the guest, without waiting, to let go of others, and answers the MAC addresses of those that it holds
	// still. Of a guest that is off it changes nothing.
	SetInterfaces(ctx context.Context, vm uuid.UUID, nics []nodeapi.NIC) (held []string, err error)
	// Interfaces lists the interfaces that a guest has now, or would have at its start where it is off.
	Interfaces(ctx context.Context, vm uuid.UUID) ([]nodeapi.NIC, error)
}
