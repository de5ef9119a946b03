package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/vm"
	"github.com/novacron/novacron/internal/vm/internal/nodeapi"
	"github.com/novacron/novacron/internal/vm/internal/vmdb"
)

// Record is a virtual machine with what only the module itself may see.
type Record struct {
	vm.VM
	UserData    string
	SSHKeys     []string
	CloudInit   vm.CloudInit
	Provisioned bool // disks and domain were made once
	Observed    Observation
	// CurrentSnapshot is what the disks stand on.
	CurrentSnapshot *uuid.UUID
	Resizing        bool     // a resize has begun, and nobody has made guest and row one again
	Rebuild         *Rebuild // that was asked for and is not finished
	Rescuing        *Rescue  // from when it is asked for until it has ended
	failure         []byte   // the encoded error behind VM.Error
}

// Observation is what a node saw last.
type Observation struct {
	State  nodeapi.Observed
	Reason string
	NodeID *uuid.UUID
	Epoch  int64
	At     *time.Time
	Boot   string // which of its times on; empty while it is off or not known
}

func recordOf(row vmdb.Vm) (Record, error) {
	r := Record{
		VM: vm.VM{
			ID: row.ID, Name: row.Name, State: vm.State(row.State), DesiredState: vm.Desired(row.DesiredState),
			HypervisorType: row.HypervisorType, NodeID: row.NodeID, OwnerID: row.OwnerID, TenantID: row.TenantID,
			ImageID: row.ImageID, Flavor: row.Flavor, Generation: row.Generation, OperationID: row.OperationID,
			CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(), Error: problemOf(row.Error),
			Description: row.Description, Suspended: row.Suspended, ReadyAt: row.ReadyAt, Settings: vm.DefaultSettings(), Conditions: []vm.Condition{},
			Observed: vm.Observed{State: row.ObservedState, Reason: row.ObservedReason, NodeID: row.ObservedNode, At: row.ObservedAt},
		},
		Resizing: row.Resizing,
		UserData: row.UserData, Provisioned: row.Provisioned, failure: row.Error, CurrentSnapshot: row.CurrentSnapshotID,
		Observed: Observation{State: nodeapi.Observed(row.ObservedState), Reason: row.ObservedReason, NodeID: row.ObservedNode,
			Epoch: row.ObservedEpoch, At: row.ObservedAt, Boot: row.ObservedBoot},
	}
	for _, column := range []struct {
		name string
		json []byte
		into any
	}{
		{"resource_config", row.ResourceConfig, &r.Resources}, {"network_config", row.NetworkConfig, &r.Networks},
		{"storage_config", row.StorageConfig, &r.Disks}, {"tags", row.Tags, &r.Tags},
		{"settings", row.Settings, &r.Settings}, {"pending", row.Pending, &r.Pending}, {"ssh_keys", row.SshKeys, &r.SSHKeys},
		{"cloud_init", row.CloudInit, &r.CloudInit}, {"origin", row.Origin, &r.Origin}, {"rebuild", row.Rebuild, &r.Rebuild}, {"rescue", row.Rescue, &r.Rescuing},
	} {
		if column.json == nil {
			continue
		}
		if err := json.Unmarshal(column.json, column.into); err != nil {
			return Record{}, fmt.Errorf("read %s of virtual machine %s: %w", column.name, row.ID, err)
		}
	}
	if to := r.Rescuing; to != nil && to.Since != nil {
		r.Rescue = &vm.Rescue{ImageID: to.ImageID, Since: *to.Since}
	}
	return r, nil
}

func recordsOf(rows []vmdb.Vm) ([]Record, error) {
	records := make([]Record, len(rows))
	for i, row := range rows {
		var err error
		if records[i], err = recordOf(row); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func problemOf(encoded []byte) *errs.Problem {
	if len(encoded) == 0 {
		return nil
	}
	return errs.ProblemOf(errs.Decode(encoded), "", "")
}

// jsonOrNull is mustJSON with nil for what is not there.
func jsonOrNull[T any](v *T) []byte {
	if v == nil {
		return nil
	}
	return mustJSON(v)
}

// mustJSON encodes values of our own types, which cannot fail to encode.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: encode %T: %v", v, err))
	}
	return b
}

// NetworkRecord is a network with what only the module itself may see.
type NetworkRecord struct {
	vm.Network
	Bridge      string
	OperationID *uuid.UUID
}

func networkOf(row vmdb.VmNetwork) NetworkRecord {
	n := NetworkRecord{
		Network: vm.Network{
			ID: row.ID, Name: row.Name, Mode: vm.NetworkMode(row.Mode), Gateway: text(row.Gateway), IPv6Gateway: text(row.Gateway6),
			Uplink: row.Uplink, VLAN: int(row.Vlan), Version: row.Version,
			Status: vm.NetworkStatus(row.Status), Default: row.IsDefault, OwnerID: row.OwnerID, TenantID: row.TenantID,
			CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
		},
		Bridge: row.Bridge, OperationID: row.OperationID,
	}
	if row.Cidr != nil {
		n.CIDR, n.Domain = row.Cidr.String(), Domain
	}
	if row.Cidr6 != nil {
		n.IPv6CIDR = row.Cidr6.String()
	}
	if row.DhcpStart != nil && row.DhcpEnd != nil {
		n.DHCP = &vm.DHCP{Start: row.DhcpStart.String(), End: row.DhcpEnd.String()}
	}
	return n
}

// Domain is the DNS domain of every network that NovaCron gives addresses in; the drivers' constant of the same name.
const Domain = "novacron.internal"

// Spec gives the network in the form that nodes understand.
func (n NetworkRecord) Spec() nodeapi.NetworkSpec {
	spec := nodeapi.NetworkSpec{ID: n.ID, Name: n.Name, Mode: string(n.Mode), Bridge: n.Bridge, CIDR: n.CIDR, Gateway: n.Gateway,
		CIDR6: n.IPv6CIDR, Gateway6: n.IPv6Gateway, Uplink: n.Uplink, VLAN: n.VLAN}
	if n.DHCP != nil {
		spec.DHCPStart, spec.DHCPEnd = n.DHCP.Start, n.DHCP.End
	}
	return spec
}

// lockRecord reads a virtual machine and keeps others from changing it until the transaction ends.
func (s *Store) lockRecord(ctx context.Context, tx pgx.Tx, id uuid.UUID) (Record, error) {
	row, err := s.q.VMGetForUpdate(ctx, tx, id)
	if err != nil {
		return Record{}, mapNoRows(err, vm.ErrNotFound)
	}
	return recordOf(row)
}
