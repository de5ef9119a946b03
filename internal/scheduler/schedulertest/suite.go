package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/bus/event"
	"github.com/novacron/novacron/internal/platform/errs"
	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/scheduler"
)

// Subject is an implementation under test, with the handles that the contract does not have. It begins empty; it promises 16 vCPUs for each
// hardware thread, all of the memory and all of the storage, and has no default quota.
type Subject struct {
	Service   scheduler.Service
	Heartbeat func(h event.NodeHeartbeat)
	SetQuota  func(tenant uuid.UUID, q scheduler.Quota)
	Expire    func(vmID uuid.UUID) // makes the time of a reservation be up, without giving it back
	Sweep     func()               // gives back what has expired
}

const gib = int64(1) << 30

// Heartbeat makes the heartbeat of a healthy KVM node.
func Heartbeat(name string, threads int, memory, storage int64) event.NodeHeartbeat {
	return event.NodeHeartbeat{NodeID: uuid.Must(uuid.NewV7()), Name: name, Epoch: 1, Timestamp: time.Now().UTC(), Version: "test",
		Capacity:    event.Capacity{VCPUs: threads, MemoryBytes: memory, StorageBytes: storage},
		StorageFree: storage, Architecture: "x86_64", CPUModel: "test", Accelerator: "tcg", Hypervisors: []string{"kvm"},
		Hypervisor: "9.0.0", Health: scheduler.HealthHealthy}
}

// Request makes a request for 1 vCPU, 1 GiB of memory and 1 GiB of storage.
func Request(tenant uuid.UUID) scheduler.ReserveRequest {
	return scheduler.ReserveRequest{VMID: uuid.Must(uuid.NewV7()), TenantID: tenant, VCPUs: 1, MemoryBytes: gib, StorageBytes: gib, HypervisorType: "kvm", TTL: time.Minute}
}

// Run puts an implementation through the suite. New makes a fresh one for each test.
func Run(t *testing.T, newSubject func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Subject)
	}{
		{"a place is taken, confirmed and given back", lifecycle},
		{"every step may be repeated", repeats},
		{"a place of another size is refused", mismatch},
		{"wrong requests are refused", invalid},
		{"an expired reservation is given back", expiry},
		{"an expired reservation can be made again before the sweep", expiredAgain},
		{"what does not fit says why, for each node", noFit},
		{"without a node there is a reason too", noNodes},
		{"quota is charged and given back", quota},
		{"storage is taken alone, on a node of choice", storage},
		{"a place grows and shrinks", resizeStorage},
		{"machines are spread", spread},
		{"degraded nodes come last", degraded},
		{"nodes are listed newest first, in pages", listNodes},
		{"allocations are listed newest first, in pages", listAllocations},
		{"many at once get exactly what there is", stampede},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newSubject(t))
		})
	}
}

func lifecycle(t *testing.T, s Subject) {
	ctx := t.Context()
	node := Heartbeat("kvm-01", 4, 8*gib, 100*gib)
	s.Heartbeat(node)
	req := Request(uuid.New())
	begun := time.Now()
	resp, err := s.Service.Reserve(ctx, req)
	must(t, err)
	a := resp.Allocation
	if resp.NodeName != "kvm-01" || a.NodeID != node.NodeID || a.VMID != req.VMID || a.TenantID != req.TenantID || a.VCPUs != 1 ||
		a.MemoryBytes != gib || a.StorageBytes != gib || a.HypervisorType != "kvm" || a.Status != scheduler.AllocationReserved {
		t.Fatalf("reserved %+v", resp)
	}
	if a.ExpiresAt == nil || a.ExpiresAt.Before(begun.Add(req.TTL/2)) || a.ExpiresAt.After(time.Now().Add(2*req.TTL)) {
		t.Fatalf("expires at %v", a.ExpiresAt)
	}
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 1, MemoryBytes: gib, StorageBytes: gib}, 1)

	confirmed, err := s.Service.Confirm(ctx, scheduler.ConfirmRequest{VMID: req.VMID})
	must(t, err)
	if c := confirmed.Allocation; c.Status != scheduler.AllocationConfirmed || c.ExpiresAt != nil || c.NodeID != node.NodeID {
		t.Fatalf("confirmed %+v", c)
	}
	got, err := s.Service.GetAllocation(ctx, scheduler.GetAllocationRequest{VMID: req.VMID})
	must(t, err)
	if got.Allocation.Status != scheduler.AllocationConfirmed {
		t.Fatalf("got %+v", got)
	}
	s.Expire(req.VMID)
	s.Sweep()
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 1, MemoryBytes: gib, StorageBytes: gib}, 1)

	_, err = s.Service.Release(ctx, scheduler.ReleaseRequest{VMID: req.VMID})
	must(t, err)
	_, err = s.Service.GetAllocation(ctx, scheduler.GetAllocationRequest{VMID: req.VMID})
	is(t, err, scheduler.ErrAllocationNotFound)
	allocated(t, s, node.NodeID, scheduler.Resources{}, 0)
}

func repeats(t *testing.T, s Subject) {
	ctx := t.Context()
	node := Heartbeat("kvm-01", 4, 8*gib, 100*gib)
	s.Heartbeat(node)
	one := scheduler.Resources{VCPUs: 1, MemoryBytes: gib, StorageBytes: gib}
	req := Request(uuid.New())
	first, err := s.Service.Reserve(ctx, req)
	must(t, err)
	second, err := s.Service.Reserve(ctx, req)
	must(t, err)
	if first.Allocation.NodeID != second.Allocation.NodeID || !first.Allocation.AllocatedAt.Equal(second.Allocation.AllocatedAt) ||
		second.Allocation.ExpiresAt.Before(*first.Allocation.ExpiresAt) {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	for range 2 {
		_, err := s.Service.Confirm(ctx, scheduler.ConfirmRequest{VMID: req.VMID})
		must(t, err)
	}
	again, err := s.Service.Reserve(ctx, req)
	must(t, err)
	if again.Allocation.Status != scheduler.AllocationConfirmed || again.Allocation.ExpiresAt != nil || again.NodeName != "kvm-01" {
		t.Fatalf("reserved again %+v", again)
	}
	allocated(t, s, node.NodeID, one, 1)
	for range 2 {
		_, err := s.Service.Release(ctx, scheduler.ReleaseRequest{VMID: req.VMID})
		must(t, err)
	}
	_, err = s.Service.Release(ctx, scheduler.ReleaseRequest{VMID: uuid.New()})
	must(t, err)
	allocated(t, s, node.NodeID, scheduler.Resources{}, 0)
	_, err = s.Service.Confirm(ctx, scheduler.ConfirmRequest{VMID: req.VMID})
	is(t, err, scheduler.ErrReservationExpired)
}

func mismatch(t *testing.T, s Subject) {
	node := Heartbeat("kvm-01", 4, 8*gib, 100*gib)
	node.Hypervisors = []string{"kvm", "lxc"}
	s.Heartbeat(node)
	req := Request(uuid.New())
	_, err := s.Service.Reserve(t.Context(), req)
	must(t, err)
	for name, change := range map[string]func(*scheduler.ReserveRequest){
		"vcpus":      func(r *scheduler.ReserveRequest) { r.VCPUs++ },
		"memory":     func(r *scheduler.ReserveRequest) { r.MemoryBytes++ },
		"storage":    func(r *scheduler.ReserveRequest) { r.StorageBytes++ },
		"hypervisor": func(r *scheduler.ReserveRequest) { r.HypervisorType = "lxc" },
		"tenant":     func(r *scheduler.ReserveRequest) { r.TenantID = uuid.New() },
	} {
		other := req
		change(&other)
		if _, err := s.Service.Reserve(t.Context(), other); !errors.Is(err, scheduler.ErrReservationMismatch) {
			t.Errorf("other %s: %v", name, err)
		}
	}
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 1, MemoryBytes: gib, StorageBytes: gib}, 1)
}

func invalid(t *testing.T, s Subject) {
	s.Heartbeat(Heartbeat("kvm-01", 4, 8*gib, 100*gib))
	for name, change := range map[string]func(*scheduler.ReserveRequest){
		"no machine":       func(r *scheduler.ReserveRequest) { r.VMID = uuid.Nil },
		"no tenant":        func(r *scheduler.ReserveRequest) { r.TenantID = uuid.Nil },
		"no vcpus":         func(r *scheduler.ReserveRequest) { r.VCPUs = 0 },
		"negative memory":  func(r *scheduler.ReserveRequest) { r.MemoryBytes = -1 },
		"negative storage": func(r *scheduler.ReserveRequest) { r.StorageBytes = -1 },
		"no hypervisor":    func(r *scheduler.ReserveRequest) { r.HypervisorType = "" },
		"negative time":    func(r *scheduler.ReserveRequest) { r.TTL = -time.Second },
	} {
		req := Request(uuid.New())
		change(&req)
		if _, err := s.Service.Reserve(t.Context(), req); !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func expiry(t *testing.T, s Subject) {
	ctx := t.Context()
	node := Heartbeat("kvm-01", 4, 1*gib, 100*gib)
	s.Heartbeat(node)
	tenant := uuid.New()
	s.SetQuota(tenant, scheduler.Quota{VMs: 1})
	req := Request(tenant)
	_, err := s.Service.Reserve(ctx, req)
	must(t, err)
	s.Sweep()
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 1, MemoryBytes: gib, StorageBytes: gib}, 1)
	s.Expire(req.VMID)
	_, err = s.Service.Confirm(ctx, scheduler.ConfirmRequest{VMID: req.VMID})
	is(t, err, scheduler.ErrReservationExpired)
	s.Sweep()
	_, err = s.Service.GetAllocation(ctx, scheduler.GetAllocationRequest{VMID: req.VMID})
	is(t, err, scheduler.ErrAllocationNotFound)
	allocated(t, s, node.NodeID, scheduler.Resources{}, 0)
	_, err = s.Service.Reserve(ctx, Request(tenant))
	must(t, err)
}

func expiredAgain(t *testing.T, s Subject) {
	node := Heartbeat("kvm-01", 4, 1*gib, 100*gib)
	s.Heartbeat(node)
	req := Request(uuid.New())
	_, err := s.Service.Reserve(t.Context(), req)
	must(t, err)
	s.Expire(req.VMID)
	req.VCPUs = 2 // what is gone binds nobody
	_, err = s.Service.Reserve(t.Context(), req)
	must(t, err)
	_, err = s.Service.Confirm(t.Context(), scheduler.ConfirmRequest{VMID: req.VMID})
	must(t, err)
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 2, MemoryBytes: gib, StorageBytes: gib}, 1)
}

func noFit(t *testing.T, s Subject) {
	node := Heartbeat("kvm-01", 2, 4*gib, 100*gib)
	s.Heartbeat(node)
	tenant := uuid.New()
	small := Request(tenant)
	small.VCPUs = 2
	_, err := s.Service.Reserve(t.Context(), small)
	must(t, err)

	reader := identity.With(t.Context(), identity.Principal{Permissions: []string{"node:read"}})
	large := Request(tenant)
	large.VCPUs = 64
	_, err = s.Service.Reserve(reader, large)
	e := is(t, err, scheduler.ErrNoFit)
	want := errs.Field{Location: "node.kvm-01", Message: "needs 64 vCPUs, has 30 free of 32 (2 hardware threads × 16)"}
	if len(e.Fields) != 1 || e.Fields[0] != want || e.Message != "no node fits: 1 of 1 lack vCPUs" || e.Retryable {
		t.Errorf("too many vCPUs: %q %+v retryable %v", e.Message, e.Fields, e.Retryable)
	}

	full := Request(tenant)
	full.MemoryBytes = 4 * gib
	_, err = s.Service.Reserve(reader, full)
	e = is(t, err, scheduler.ErrNoFit)
	want.Message = "needs 4 GiB of memory, has 3 GiB free of 4 GiB"
	if len(e.Fields) != 1 || e.Fields[0] != want || e.Message != "no node fits: 1 of 1 lack memory" || !e.Retryable {
		t.Errorf("full: %q %+v retryable %v", e.Message, e.Fields, e.Retryable)
	}

	disk := Request(tenant)
	disk.StorageBytes, disk.HypervisorType = 101*gib, "lxc"
	for name, ctx := range map[string]context.Context{
		"tenant":    identity.With(t.Context(), identity.Principal{Permissions: []string{"vm:*"}}),
		"anonymous": t.Context(),
	} {
		_, err = s.Service.Reserve(ctx, disk)
		e = is(t, err, scheduler.ErrNoFit)
		if len(e.Fields) != 1 || e.Fields[0].Location != "node.1" || e.Fields[0].Message == "" {
			t.Errorf("%s: %+v", name, e.Fields)
		}
		if text := fmt.Sprint(e.Message, e.Fields, e.Meta, e.Action); strings.Contains(text, "kvm-01") || strings.Contains(text, "GiB") || strings.Contains(text, node.NodeID.String()) {
			t.Errorf("%s learns too much: %s", name, text)
		}
		if e.Message != "no node fits: 1 of 1 lack the hypervisor type, 1 of 1 lack storage" {
			t.Errorf("%s: %q", name, e.Message)
		}
	}
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 2, MemoryBytes: gib, StorageBytes: gib}, 1)
	for _, id := range []uuid.UUID{large.VMID, full.VMID, disk.VMID} {
		_, err = s.Service.GetAllocation(t.Context(), scheduler.GetAllocationRequest{VMID: id})
		is(t, err, scheduler.ErrAllocationNotFound)
	}
}

func noNodes(t *testing.T, s Subject) {
	_, err := s.Service.Reserve(t.Context(), Request(uuid.New()))
	if e := is(t, err, scheduler.ErrNoFit); !e.Retryable || len(e.Fields) != 0 || !strings.Contains(e.Message, "no node has registered") {
		t.Errorf("%+v", e)
	}
}

func quota(t *testing.T, s Subject) {
	ctx := t.Context()
	s.Heartbeat(Heartbeat("kvm-01", 64, 640*gib, 6400*gib))
	tenant := uuid.New()
	s.SetQuota(tenant, scheduler.Quota{VCPUs: 4, MemoryBytes: 4 * gib, StorageBytes: 40 * gib, VMs: 2})
	first := Request(tenant)
	first.VCPUs, first.MemoryBytes = 3, 2*gib
	_, err := s.Service.Reserve(ctx, first)
	must(t, err)
	second := Request(tenant)
	second.VCPUs, second.MemoryBytes, second.StorageBytes = 2, 3*gib, 39*gib
	_, err = s.Service.Reserve(ctx, second)
	e := is(t, err, scheduler.ErrQuotaExceeded)
	if len(e.Fields) != 2 || e.Fields[0].Location != "quota.vcpus" || e.Fields[1].Location != "quota.memory_bytes" {
		t.Errorf("fields %+v", e.Fields)
	}
	second.VCPUs, second.MemoryBytes = 1, 2*gib // to the brim
	_, err = s.Service.Reserve(ctx, second)
	must(t, err)
	third := Request(tenant)
	_, err = s.Service.Reserve(ctx, third)
	e = is(t, err, scheduler.ErrQuotaExceeded)
	if len(e.Fields) != 4 {
		t.Errorf("fields %+v", e.Fields)
	}
	_, err = s.Service.Reserve(ctx, Request(uuid.New())) // others are not touched
	must(t, err)
	_, err = s.Service.Release(ctx, scheduler.ReleaseRequest{VMID: second.VMID})
	must(t, err)
	_, err = s.Service.Reserve(ctx, third)
	must(t, err)
	_, err = s.Service.Reserve(ctx, first) // a repeat is not charged again
	must(t, err)
}

func spread(t *testing.T, s Subject) {
	a, b := Heartbeat("kvm-01", 4, 8*gib, 100*gib), Heartbeat("kvm-02", 4, 8*gib, 100*gib)
	s.Heartbeat(b)
	s.Heartbeat(a)
	tenant := uuid.New()
	var names []string
	for range 4 {
		resp, err := s.Service.Reserve(t.Context(), Request(tenant))
		must(t, err)
		names = append(names, resp.NodeName)
	}
	// a has the smaller id, being the older UUIDv7, so it wins among equals.
	if got := strings.Join(names, " "); got != "kvm-01 kvm-02 kvm-01 kvm-02" {
		t.Errorf("placed on %s", got)
	}
}

func degraded(t *testing.T, s Subject) {
	a, b := Heartbeat("kvm-01", 4, 80*gib, 100*gib), Heartbeat("kvm-02", 4, 2*gib, 100*gib)
	a.Health, a.Reason = scheduler.HealthDegraded, "libvirt does not answer"
	s.Heartbeat(a)
	s.Heartbeat(b)
	var names []string
	for range 3 {
		resp, err := s.Service.Reserve(t.Context(), Request(uuid.New()))
		must(t, err)
		names = append(names, resp.NodeName)
	}
	if got := strings.Join(names, " "); got != "kvm-02 kvm-02 kvm-01" {
		t.Errorf("placed on %s", got)
	}
}

func listNodes(t *testing.T, s Subject) {
	ctx := t.Context()
	for i := range 5 {
		s.Heartbeat(Heartbeat(fmt.Sprintf("kvm-%02d", i), 4, 8*gib, 100*gib))
	}
	var names []string
	var after *scheduler.Position
	for {
		resp, err := s.Service.ListNodes(ctx, scheduler.ListNodesRequest{After: after, Limit: 2})
		must(t, err)
		for _, n := range resp.Nodes {
			names = append(names, n.Name)
			after = &scheduler.Position{Time: n.RegisteredAt, ID: n.ID}
		}
		if len(resp.Nodes) < 2 {
			break
		}
	}
	if got := strings.Join(names, " "); got != "kvm-04 kvm-03 kvm-02 kvm-01 kvm-00" {
		t.Errorf("listed %s", got)
	}
	all, err := s.Service.ListNodes(ctx, scheduler.ListNodesRequest{})
	must(t, err)
	if len(all.Nodes) != 5 {
		t.Fatalf("%d nodes", len(all.Nodes))
	}
	one, err := s.Service.GetNode(ctx, scheduler.GetNodeRequest{NodeID: all.Nodes[0].ID})
	must(t, err)
	n := one.Node
	if n.State != scheduler.NodeReady || n.Cordoned || n.Capacity.VCPUs != 4 || n.Limits.VCPUs != 64 || n.Limits.MemoryBytes != 8*gib ||
		n.Limits.StorageBytes != 100*gib || n.Accelerator != "tcg" || len(n.Hypervisors) != 1 || n.Labels == nil || n.Epoch != 1 ||
		n.Health != scheduler.HealthHealthy || n.RegisteredAt.IsZero() || n.LastHeartbeat.IsZero() {
		t.Errorf("node %+v", n)
	}
	_, err = s.Service.GetNode(ctx, scheduler.GetNodeRequest{NodeID: uuid.New()})
	is(t, err, scheduler.ErrNodeNotFound)
}

func listAllocations(t *testing.T, s Subject) {
	ctx := t.Context()
	a, b := Heartbeat("kvm-01", 4, 8*gib, 100*gib), Heartbeat("kvm-02", 4, 8*gib, 100*gib)
	s.Heartbeat(a)
	s.Heartbeat(b)
	tenants := []uuid.UUID{uuid.New(), uuid.New()}
	var made []uuid.UUID
	for i := range 6 { // node: 0 1 0 1 0 1, tenant: 0 0 1 1 0 0
		req := Request(tenants[i/2%2])
		_, err := s.Service.Reserve(ctx, req)
		must(t, err)
		made = append(made, req.VMID)
	}
	list := func(req scheduler.ListAllocationsRequest) (found string) {
		t.Helper()
		for {
			resp, err := s.Service.ListAllocations(ctx, req)
			must(t, err)
			for _, item := range resp.Allocations {
				for i, id := range made {
					if item.VMID == id {
						found += fmt.Sprint(i)
					}
				}
				req.After = &scheduler.Position{Time: item.AllocatedAt, ID: item.VMID}
			}
			if len(resp.Allocations) < req.Limit || req.Limit == 0 {
				return found
			}
		}
	}
	for _, c := range []struct {
		req  scheduler.ListAllocationsRequest
		want string
	}{
		{scheduler.ListAllocationsRequest{}, "543210"},
		{scheduler.ListAllocationsRequest{Limit: 4}, "543210"},
		{scheduler.ListAllocationsRequest{Limit: 2, NodeID: &a.NodeID}, "420"},
		{scheduler.ListAllocationsRequest{Limit: 2, TenantID: &tenants[0]}, "5410"},
		{scheduler.ListAllocationsRequest{Limit: 1, TenantID: &tenants[1], NodeID: &b.NodeID}, "3"},
	} {
		if got := list(c.req); got != c.want {
			t.Errorf("%+v: listed %s, want %s", c.req, got, c.want)
		}
	}
}

// stampede has room for ten on each of two sides: the node's memory, and one tenant's quota.
func stampede(t *testing.T, s Subject) {
	node := Heartbeat("kvm-01", 64, 10*gib, 1000*gib)
	s.Heartbeat(node)
	results := make(chan error, 50)
	var wg sync.WaitGroup
	for i := range 50 {
		tenant := uuid.UUID{15: byte(i%5 + 1)} // few tenants, so that both locks are fought for
		wg.Go(func() {
			_, err := s.Service.Reserve(t.Context(), Request(tenant))
			results <- err
		})
	}
	wg.Wait()
	close(results)
	placed := 0
	for err := range results {
		if err == nil {
			placed++
		} else if !errors.Is(err, scheduler.ErrNoFit) {
			t.Errorf("refused with %v", err)
		}
	}
	if placed != 10 {
		t.Errorf("%d placed, there is room for 10", placed)
	}
	allocated(t, s, node.NodeID, scheduler.Resources{VCPUs: 10, MemoryBytes: 10 * gib, StorageBytes: 10 * gib}, 10)
}

// allocated checks the counters of a node.
func allocated(t *testing.T, s Subject, node uuid.UUID, want scheduler.Resources, vms int) {
	t.Helper()
	resp, err := s.Service.GetNode(t.Context(), scheduler.GetNodeRequest{NodeID: node})
	must(t, err)
	if resp.Node.Allocated != want || resp.Node.VMs != vms {
		t.Errorf("allocated %+v to %d machines, want %+v to %d", resp.Node.Allocated, resp.Node.VMs, want, vms)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err error, want *errs.Error) *errs.Error {
	t.Helper()
	var e *errs.Error
	if !errors.Is(err, want) || !errors.As(err, &e) {
		t.Fatalf("got %v, want %s", err, want.Code)
	}
	return e
}

// storageOf makes a request for storage alone.
func storageOf(tenant uuid.UUID, node *uuid.UUID, bytes int64) scheduler.ReserveRequest {
	return scheduler.ReserveRequest{Kind: scheduler.AllocationVolume, VMID: uuid.Must(uuid.NewV7()), TenantID: tenant, NodeID: node,
		StorageBytes: bytes, TTL: time.Minute}
}

func storage(t *testing.T, s Subject) {
	ctx, tenant := t.Context(), uuid.New()
	small, large := Heartbeat("kvm-01", 4, 8*gib, 10*gib), Heartbeat("kvm-02", 4, 8*gib, 100*gib)
	s.Heartbeat(small)
	s.Heartbeat(large)
	s.SetQuota(tenant, scheduler.Quota{VMs: 1, StorageBytes: 60 * gib})
	req := storageOf(tenant, &small.NodeID, 8*gib)
	resp, err := s.Service.Reserve(ctx, req)
	must(t, err)
	if a := resp.Allocation; a.NodeID != small.NodeID || a.Kind != scheduler.AllocationVolume || a.VCPUs != 0 || a.StorageBytes != 8*gib {
		t.Errorf("took %+v", a)
	}
	again, err := s.Service.Reserve(ctx, req)
	must(t, err)
	if again.Allocation.VMID != req.VMID {
		t.Errorf("the second time it took %+v", again.Allocation)
	}
	if _, err := s.Service.Reserve(ctx, storageOf(tenant, &small.NodeID, 8*gib)); !errors.Is(err, scheduler.ErrNoFit) {
		t.Errorf("more than the node has: %v", err)
	}
	if resp, err = s.Service.Reserve(ctx, storageOf(tenant, nil, 50*gib)); err != nil || resp.Allocation.NodeID != large.NodeID {
		t.Errorf("without a choice it took %+v, %v", resp.Allocation, err)
	}
	if _, err := s.Service.Reserve(ctx, storageOf(tenant, &large.NodeID, 3*gib)); !errors.Is(err, scheduler.ErrQuotaExceeded) {
		t.Errorf("more than the quota: %v", err)
	}
	_, err = s.Service.Reserve(ctx, Request(tenant)) // storage counts as no machine
	must(t, err)
	for _, wrong := range []func(*scheduler.ReserveRequest){
		func(r *scheduler.ReserveRequest) { r.VCPUs = 1 }, func(r *scheduler.ReserveRequest) { r.MemoryBytes = 1 },
		func(r *scheduler.ReserveRequest) { r.HypervisorType = "kvm" }, func(r *scheduler.ReserveRequest) { r.StorageBytes = -1 },
	} {
		req := storageOf(tenant, nil, gib)
		wrong(&req)
		if _, err := s.Service.Reserve(ctx, req); !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	node, err := s.Service.GetNode(ctx, scheduler.GetNodeRequest{NodeID: small.NodeID})
	must(t, err)
	if node.Node.VMs+func() int {
		other, err := s.Service.GetNode(ctx, scheduler.GetNodeRequest{NodeID: large.NodeID})
		must(t, err)
		return other.Node.VMs
	}() != 1 {
		t.Error("storage was counted as a machine")
	}
}

func resizeStorage(t *testing.T, s Subject) {
	ctx, tenant := t.Context(), uuid.New()
	node := Heartbeat("kvm-01", 4, 8*gib, 20*gib)
	s.Heartbeat(node)
	s.SetQuota(tenant, scheduler.Quota{StorageBytes: 15 * gib})
	req := storageOf(tenant, nil, 4*gib)
	_, err := s.Service.Reserve(ctx, req)
	must(t, err)
	resize := func(bytes int64) error {
		_, err := s.Service.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: req.VMID, StorageBytes: bytes})
		return err
	}
	held := func(want int64) {
		t.Helper()
		n, err := s.Service.GetNode(ctx, scheduler.GetNodeRequest{NodeID: node.NodeID})
		must(t, err)
		if n.Node.Allocated.StorageBytes != want {
			t.Errorf("the node counts %d, want %d", n.Node.Allocated.StorageBytes, want)
		}
	}
	_, err = s.Service.ResizeStorage(ctx, scheduler.ResizeStorageRequest{VMID: req.VMID, StorageBytes: 10 * gib, DryRun: true})
	must(t, err)
	held(4 * gib)
	must(t, resize(10*gib))
	must(t, resize(10*gib))
	held(10 * gib)
	if err := resize(16 * gib); !errors.Is(err, scheduler.ErrQuotaExceeded) {
		t.Errorf("beyond the quota: %v", err)
	}
	s.SetQuota(tenant, scheduler.Quota{})
	if err := resize(21 * gib); !errors.Is(err, scheduler.ErrNoFit) {
		t.Errorf("beyond the node: %v", err)
	}
	held(10 * gib)
	must(t, resize(2*gib))
	held(2 * gib)
	_, err = s.Service.Release(ctx, scheduler.ReleaseRequest{VMID: req.VMID})
	must(t, err)
	held(0)
	if err := resize(gib); !errors.Is(err, scheduler.ErrAllocationNotFound) {
		t.Errorf("of a place that is given back: %v", err)
	}
}
