// Package vmtest has a fake of the vm contract, for tests of modules that use it, and the suite that every implementation passes: the fake, the
// real one, and what carries calls between processes. Only tests import it.
package vmtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/vm"
)

// Fake is a vm.Service in memory, on one node. Its operations have ended when they are answered. It knows no flavors, templates and networks: each
// machine has a network of its own, unless it names one, which is believed.
type Fake struct {
	node uuid.UUID

	mu     sync.Mutex // guards what follows
	last   time.Time  // creation time that was given last
	vms    map[uuid.UUID]vm.VM
	ops    map[uuid.UUID]vm.Operation
	images map[uuid.UUID]uuid.UUID // their tenants
	keys   map[fakeKey]uuid.UUID   // operations by idempotency key
	broken *errs.Error             // what starts fail with
}

// fakeKey is an idempotency key of a user, for one kind of change.
type fakeKey struct {
	user      uuid.UUID
	kind, key string
}

var _ vm.Service = (*Fake)(nil)

// New makes a Fake without machines.
func New() *Fake {
	return &Fake{node: uuid.Must(uuid.NewV7()), vms: map[uuid.UUID]vm.VM{}, ops: map[uuid.UUID]vm.Operation{}, images: map[uuid.UUID]uuid.UUID{},
		keys: map[fakeKey]uuid.UUID{}}
}

// Node is the one that all machines are on.
func (f *Fake) Node() uuid.UUID { return f.node }

// AddImage gives an image of the tenant.
func (f *Fake) AddImage(tenantID uuid.UUID) uuid.UUID {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := uuid.Must(uuid.NewV7())
	f.images[id] = tenantID
	return id
}

// BreakStarts makes the next starts fail with err, until it is called with nil.
func (f *Fake) BreakStarts(err *errs.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
}

// Change changes a machine behind the contract's back.
func (f *Fake) Change(id uuid.UUID, change func(*vm.VM)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.vms[id]
	change(&m)
	f.vms[id] = m
}

// now gives times that grow with every call, as PostgreSQL keeps them. The caller holds mu.
func (f *Fake) now() time.Time {
	t := time.Now().UTC().Truncate(time.Microsecond)
	if !t.After(f.last) {
		t = f.last.Add(time.Microsecond)
	}
	f.last = t
	return t
}

// allowed tells who calls, where they hold the permission for anything at all.
func allowed(ctx context.Context, permission string) (identity.Principal, error) {
	p, known := identity.From(ctx)
	switch {
	case !known:
		return p, errs.New(errs.Unauthenticated, "auth.unauthenticated", "credentials are missing")
	case p.Pending != "" || !p.AllowsOwn(permission):
		return p, forbidden(permission)
	}
	return p, nil
}

func forbidden(permission string) error {
	return errs.New(errs.Forbidden, "auth.forbidden", "a permission is missing").WithMeta("permission", permission)
}

// mayRead tells whether the caller may know an object at all.
func mayRead(p identity.Principal, tenant, owner uuid.UUID, permission string) bool {
	return p.AllowsOn(permission, tenant, owner) || tenant == p.TenantID && owner == p.UserID
}

// vmTo finds a machine to which the caller may do what permission names. The caller holds mu.
func (f *Fake) vmTo(ctx context.Context, id uuid.UUID, permission string) (identity.Principal, vm.VM, error) {
	p, err := allowed(ctx, permission)
	if err != nil {
		return p, vm.VM{}, err
	}
	m, exists := f.vms[id]
	switch {
	case exists && p.AllowsOn(permission, m.TenantID, m.OwnerID):
		return p, m, nil
	case exists && mayRead(p, m.TenantID, m.OwnerID, "vm:read"):
		return p, vm.VM{}, forbidden(permission)
	}
	return p, vm.VM{}, vm.ErrNotFound
}

// end keeps an operation that has ended, with err where that is not nil. The caller holds mu.
func (f *Fake) end(p identity.Principal, kind string, m vm.VM, key string, err *errs.Error) vm.Operation {
	now := f.now()
	op := vm.Operation{ID: uuid.Must(uuid.NewV7()), Kind: kind, TargetID: m.ID, TenantID: m.TenantID, RequestedBy: p.UserID, Status: vm.OperationSucceeded,
		Progress: 100, CreatedAt: now, EndedAt: &now}
	if err != nil {
		op.Status, op.Progress, op.Error = vm.OperationFailed, 0, errs.ProblemOf(err, "", "")
	}
	f.ops[op.ID] = op
	if key != "" {
		f.keys[fakeKey{p.UserID, kind, key}] = op.ID
	}
	return op
}

// again finds what a request with the same key began. The caller holds mu.
func (f *Fake) again(p identity.Principal, kind, key string) (vm.Operation, bool) {
	id, known := f.keys[fakeKey{p.UserID, kind, key}]
	return f.ops[id], known && key != ""
}

// CreateVM implements vm.Service.
func (f *Fake) CreateVM(ctx context.Context, req vm.CreateVMRequest) (vm.CreateVMResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := allowed(ctx, "vm:create")
	if err != nil {
		return vm.CreateVMResponse{}, err
	}
	if op, known := f.again(p, "vm.create", req.IdempotencyKey); known {
		return vm.CreateVMResponse{VMID: op.TargetID, OperationID: op.ID}, nil
	}
	if err := f.check(p, req); err != nil {
		return vm.CreateVMResponse{}, err
	}
	now := f.now()
	m := vm.VM{ID: uuid.Must(uuid.NewV7()), Name: req.Name, State: vm.StateRunning, DesiredState: vm.DesiredRunning, HypervisorType: req.HypervisorType,
		NodeID: &f.node, OwnerID: p.UserID, TenantID: p.TenantID, ImageID: req.ImageID, Resources: req.Resources, Description: req.Description,
		Disks: []vm.Disk{{Name: "root", SizeBytes: req.Resources.DiskGiB << 30}}, Tags: maps.Clone(req.Tags), Networks: interfaces(req.Interfaces),
		Pending: []vm.Pending{}, Conditions: []vm.Condition{}, Generation: 1, Settings: vm.DefaultSettings(), CreatedAt: now, UpdatedAt: now}
	m.DeleteProtection, m.DirectBoot = req.DeleteProtection, req.DirectBoot
	req.Hardware.Apply(&m.Settings)
	m.CDROM = vm.CDROM{Drive: req.CDROM != nil, ImageID: req.CDROM}
	if m.HypervisorType == "" {
		m.HypervisorType = "kvm"
	}
	if m.Tags == nil {
		m.Tags = map[string]string{}
	}
	if req.BootOrder != nil {
		m.BootOrder = slices.Clone(req.BootOrder)
	}
	if req.Stopped {
		m.State, m.DesiredState = vm.StateStopped, vm.DesiredStopped
	}
	m.Observed = vm.Observed{State: string(m.State), NodeID: &f.node, At: &now}
	f.vms[m.ID] = m
	op := f.end(p, "vm.create", m, req.IdempotencyKey, nil)
	return vm.CreateVMResponse{VMID: m.ID, OperationID: op.ID}, nil
}

// check refuses what cannot be made. The caller holds mu.
func (f *Fake) check(p identity.Principal, req vm.CreateVMRequest) error {
	invalid := vm.ErrInvalid
	for _, part := range []struct {
		field string
		value int64
	}{{"vcpus", int64(req.Resources.VCPUs)}, {"memory_mib", req.Resources.MemoryMiB}, {"disk_gib", req.Resources.DiskGiB}} {
		if part.value <= 0 {
			invalid = invalid.WithField("body.resources."+part.field, "is required", fmt.Sprint(part.value))
		}
	}
	tenant, known := f.images[req.ImageID]
	switch {
	case req.TemplateID != nil:
		return vm.ErrTemplateNotFound
	case !validName(req.Name):
		return vm.ErrInvalid.WithField("body.name", "must be an RFC 1123 label", req.Name)
	case req.Flavor != "":
		return vm.ErrInvalid.WithField("body.flavor", "is not a flavor there is", req.Flavor)
	case len(invalid.Fields) > 0:
		return invalid
	case req.ImageID == uuid.Nil:
		return vm.ErrInvalid.WithField("body.image_id", "is required", "")
	case !known || tenant != p.TenantID:
		return vm.ErrImageNotFound
	}
	for _, m := range f.vms {
		if m.TenantID == p.TenantID && m.Name == req.Name {
			return vm.ErrNameTaken
		}
	}
	return nil
}

func validName(name string) bool {
	for i, r := range name {
		if edge := i == 0 || i == len(name)-1; !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' && !edge) {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 63
}

func interfaces(wanted []vm.InterfaceRequest) []vm.Interface {
	if len(wanted) == 0 {
		wanted = []vm.InterfaceRequest{{}}
	}
	list := []vm.Interface{}
	for _, w := range wanted {
		id := uuid.Must(uuid.NewV7())
		nic := vm.Interface{ID: id, NetworkID: w.NetworkID, MAC: w.MAC, IPAddress: w.IPAddress, Link: vm.LinkUp, Addresses: []string{},
			SecurityGroups: append([]uuid.UUID{}, w.SecurityGroups...)}
		if nic.NetworkID == uuid.Nil {
			nic.NetworkID = uuid.Must(uuid.NewV7())
		}
		if nic.MAC == "" {
			nic.MAC = fmt.Sprintf("52:54:00:%02x:%02x:%02x", id[13], id[14], id[15])
		}
		if w.Down {
			nic.Link = vm.LinkDown
		}
		if w.Bandwidth != (vm.Bandwidth{}) {
			nic.Bandwidth = &w.Bandwidth
		}
		list = append(list, nic)
	}
	return list
}
