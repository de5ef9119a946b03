package vmtest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/operation"
	"github.com/novacron/novacron/internal/vm"
)

// patience is how long the suite waits for the end of an operation.
const patience = time.Minute

// Run puts an implementation through the suite. open gives one for each test.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"a machine is made, and its operation tells how it went", creates},
		{"a machine is left off where that is asked for", createsStopped},
		{"requests that cannot be met are refused", refusesBadRequests},
		{"a name is taken once in a tenant", namesAreTaken},
		{"of many with one name, one is made", bearsCrowds},
		{"the same key gives the same answer", keysAreKept},
		{"machines are stopped and started", stopsAndStarts},
		{"a start that fails says why", failsToStart},
		{"a machine is deleted, and gone", deletes},
		{"a protected machine stays", protects},
		{"there is no node to move to", migratesNowhere},
		{"lists are newest first, in pages", listsInPages},
		{"lists are narrowed", listsNarrowed},
		{"what is another tenant's is like what is absent", hidesForeign},
		{"who may do it to their own does it to nothing else", mindsOwners},
		{"the platform's people reach every tenant", reachesEverywhere},
		{"every call needs its permission", needsPermissions},
		{"an operation is waited for no longer than was asked", waits},
		{"answers survive encoding", survivesEncoding},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// principal makes a user of a new tenant.
func principal(permissions ...string) identity.Principal {
	tenant := uuid.New()
	return identity.Principal{UserID: uuid.New(), Username: "ada", TenantID: tenant, HomeID: tenant, Role: "test", Permissions: permissions, Scope: identity.ScopeTenant}
}

// colleague makes another user of the same tenant.
func colleague(p identity.Principal, permissions ...string) identity.Principal {
	p.UserID, p.Permissions = uuid.New(), permissions
	return p
}

// administrator makes a user of a new tenant who reaches every tenant.
func administrator() identity.Principal {
	p := principal("*")
	p.Scope = identity.ScopePlatform
	return p
}

func as(t *testing.T, p identity.Principal) context.Context {
	t.Helper()
	return identity.With(t.Context(), p)
}

// request asks for the smallest machine.
func request(name string, image uuid.UUID) vm.CreateVMRequest {
	return vm.CreateVMRequest{Name: name, ImageID: image, Resources: vm.Resources{VCPUs: 1, MemoryMiB: 64, DiskGiB: 1}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err error, want *errs.Error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// ended waits for the end of an operation.
func ended(t *testing.T, h Harness, p identity.Principal, id uuid.UUID) vm.Operation {
	t.Helper()
	resp, err := h.Service().GetOperation(as(t, p), vm.GetOperationRequest{OperationID: id, Wait: patience})
	must(t, err)
	if resp.Operation.EndedAt == nil {
		t.Fatalf("not within %v: %+v", patience, resp.Operation)
	}
	return resp.Operation
}

// succeeds waits for an operation that must succeed.
func succeeds(t *testing.T, h Harness, p identity.Principal, id uuid.UUID) vm.Operation {
	t.Helper()
	op := ended(t, h, p, id)
	if op.Status != vm.OperationSucceeded {
		t.Fatalf("the operation ended as %+v: %+v", op, op.Error)
	}
	return op
}

// create makes a machine and waits for it.
func create(t *testing.T, h Harness, p identity.Principal, req vm.CreateVMRequest) vm.VM {
	t.Helper()
	resp, err := h.Service().CreateVM(as(t, p), req)
	must(t, err)
	succeeds(t, h, p, resp.OperationID)
	return status(t, h, p, resp.VMID)
}

func status(t *testing.T, h Harness, p identity.Principal, id uuid.UUID) vm.VM {
	t.Helper()
	resp, err := h.Service().GetVMStatus(as(t, p), vm.GetVMStatusRequest{VMID: id})
	must(t, err)
	return resp.VM
}

// each calls every method of the contract that is about one machine or operation, and gives what each failed with.
func each(ctx context.Context, s vm.Service, machine, op uuid.UUID) map[string]error {
	failed := map[string]error{}
	_, failed["GetVMStatus"] = s.GetVMStatus(ctx, vm.GetVMStatusRequest{VMID: machine})
	_, failed["StartVM"] = s.StartVM(ctx, vm.StartVMRequest{VMID: machine})
	_, failed["StopVM"] = s.StopVM(ctx, vm.StopVMRequest{VMID: machine, Force: true})
	_, failed["MigrateVM"] = s.MigrateVM(ctx, vm.MigrateVMRequest{VMID: machine})
	_, failed["DeleteVM"] = s.DeleteVM(ctx, vm.DeleteVMRequest{VMID: machine})
	_, failed["DeleteVM with its volumes"] = s.DeleteVM(ctx, vm.DeleteVMRequest{VMID: machine, DeleteVolumes: true})
	_, failed["GetOperation"] = s.GetOperation(ctx, vm.GetOperationRequest{OperationID: op, Wait: time.Second})
	return failed
}

func hidesForeign(t *testing.T, h Harness) {
	p, stranger := principal("*"), principal("*")
	image := h.AddImage(t, p)
	made, err := h.Service().CreateVM(as(t, p), request("web-1", image))
	must(t, err)
	succeeds(t, h, p, made.OperationID)
	foreign, absent := each(as(t, stranger), h.Service(), made.VMID, made.OperationID), each(as(t, stranger), h.Service(), uuid.New(), uuid.New())
	for name, err := range foreign {
		if want := absent[name]; err == nil || string(errs.Encode(err)) != string(errs.Encode(want)) {
			t.Errorf("%s of another tenant's fails with %v, of nothing with %v", name, err, want)
		}
		if want := map[bool]*errs.Error{false: vm.ErrNotFound, true: operation.ErrNotFound}[name == "GetOperation"]; !errors.Is(err, want) {
			t.Errorf("%s of another tenant's fails with %v, want %v", name, err, want)
		}
	}
	for _, node := range []uuid.UUID{h.Node(t), uuid.New()} {
		_, err := h.Service().MigrateVM(as(t, stranger), vm.MigrateVMRequest{VMID: made.VMID, NodeID: &node})
		is(t, err, vm.ErrNotFound)
	}
	_, err = h.Service().CreateVM(as(t, stranger), request("web-1", image))
	is(t, err, vm.ErrImageNotFound)
	if list, err := h.Service().ListVMs(as(t, stranger), vm.ListVMsRequest{}); err != nil || len(list.VMs) != 0 {
		t.Errorf("a stranger lists %+v, error %v", list, err)
	}
	if m := status(t, h, p, made.VMID); m.State != vm.StateRunning || m.Generation != 1 {
		t.Errorf("after a stranger's requests: %+v", m)
	}
}

func mindsOwners(t *testing.T, h Harness) {
	p := principal("*")
	image := h.AddImage(t, p)
	theirs := create(t, h, p, request("theirs", image))
	own := colleague(p, "vm:*:own", "operation:read:own", "image:read", "network:*", "security-group:*")
	mine := create(t, h, own, request("mine", image))
	for name, err := range each(as(t, own), h.Service(), theirs.ID, uuid.New()) {
		if errs.From(err).Kind != errs.NotFound {
			t.Errorf("%s of a colleague's: %v", name, err)
		}
	}
	list, err := h.Service().ListVMs(as(t, own), vm.ListVMsRequest{})
	if err != nil || len(list.VMs) != 1 || list.VMs[0].ID != mine.ID {
		t.Errorf("who may see their own lists %+v, error %v", list, err)
	}
	own.Permissions = append(own.Permissions, "vm:read")
	for name, err := range each(as(t, own), h.Service(), theirs.ID, uuid.New()) {
		switch name {
		case "GetOperation": // of nothing
		case "GetVMStatus":
			must(t, err)
		default:
			if errs.From(err).Kind != errs.Forbidden {
				t.Errorf("%s of a colleague's that may be seen: %v", name, err)
			}
		}
	}
	if list, err = h.Service().ListVMs(as(t, own), vm.ListVMsRequest{}); err != nil || len(list.VMs) != 2 {
		t.Errorf("who may see all lists %+v, error %v", list, err)
	}
	stopped, err := h.Service().StopVM(as(t, own), vm.StopVMRequest{VMID: mine.ID, Force: true})
	must(t, err)
	succeeds(t, h, own, stopped.OperationID)
}

func reachesEverywhere(t *testing.T, h Harness) {
	p, root := principal("*"), administrator()
	name := "everywhere-" + uuid.NewString()[:8]
	made := create(t, h, p, request(name, h.AddImage(t, p)))
	if m := status(t, h, root, made.ID); m.TenantID != p.TenantID || m.OwnerID != p.UserID {
		t.Errorf("an administrator sees %+v", m)
	}
	list, err := h.Service().ListVMs(as(t, root), vm.ListVMsRequest{AllTenants: true, Name: name})
	if err != nil || len(list.VMs) != 1 || list.VMs[0].ID != made.ID {
		t.Errorf("an administrator lists %+v, error %v", list, err)
	}
	if list, err = h.Service().ListVMs(as(t, root), vm.ListVMsRequest{Name: name}); err != nil || len(list.VMs) != 0 {
		t.Errorf("in their own tenant an administrator lists %+v, error %v", list, err)
	}
	if _, err := h.Service().ListVMs(as(t, p), vm.ListVMsRequest{AllTenants: true}); errs.From(err).Kind != errs.Forbidden {
		t.Errorf("a tenant's user lists every tenant: %v", err)
	}
	stopped, err := h.Service().StopVM(as(t, root), vm.StopVMRequest{VMID: made.ID, Force: true})
	must(t, err)
	succeeds(t, h, p, stopped.OperationID)
}

// needsPermissions asks every method that the contract has, also those that come later.
func needsPermissions(t *testing.T, h Harness) {
	s := reflect.ValueOf(h.Service())
	contract := reflect.TypeFor[vm.Service]()
	if contract.NumMethod() < 8 {
		t.Fatalf("the contract has %d methods", contract.NumMethod())
	}
	late := principal("*")
	late.Pending = identity.PendingMFA
	for _, caller := range []struct {
		name string
		ctx  context.Context
		want errs.Kind
	}{
		{"nobody", t.Context(), errs.Unauthenticated},
		{"who holds nothing", as(t, principal()), errs.Forbidden},
		{"who holds something else", as(t, principal("image:*", "vm:dance")), errs.Forbidden},
		{"who has something else to do first", as(t, late), errs.Forbidden},
	} {
		for i := range contract.NumMethod() {
			m := contract.Method(i)
			out := s.MethodByName(m.Name).Call([]reflect.Value{reflect.ValueOf(caller.ctx), reflect.Zero(m.Type.In(1))})
			if err, _ := out[1].Interface().(error); err == nil || errs.From(err).Kind != caller.want {
				t.Errorf("%s, asked by %s: %v, want %s", m.Name, caller.name, err, caller.want)
			}
		}
	}
}

func waits(t *testing.T, h Harness) {
	p := principal("*")
	made := create(t, h, p, request("web-1", h.AddImage(t, p)))
	begun, err := h.Service().StopVM(as(t, p), vm.StopVMRequest{VMID: made.ID, Force: true})
	must(t, err)
	for _, wait := range []time.Duration{0, -time.Hour, time.Millisecond} {
		asked := time.Now()
		_, err := h.Service().GetOperation(as(t, p), vm.GetOperationRequest{OperationID: begun.OperationID, Wait: wait})
		must(t, err)
		if took := time.Since(asked); took > patience/2 {
			t.Errorf("asked to wait for %v, it took %v", wait, took)
		}
	}
	succeeds(t, h, p, begun.OperationID)
	ctx, cancel := context.WithCancel(as(t, p))
	cancel()
	if _, err := h.Service().GetOperation(ctx, vm.GetOperationRequest{OperationID: uuid.New(), Wait: time.Second}); err == nil {
		t.Error("an operation that there is not was found by who had gone")
	}
}
