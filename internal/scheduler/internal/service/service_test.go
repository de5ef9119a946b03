package service_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/novacron/novacron/internal/platform/identity"
	"github.com/novacron/novacron/internal/platform/pg"
	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
	"github.com/novacron/novacron/internal/scheduler/internal/service"
	"github.com/novacron/novacron/internal/scheduler/internal/store"
	"github.com/novacron/novacron/internal/scheduler/schedulertest"
)

func TestConformance(t *testing.T) {
	schedulertest.Run(t, func(t *testing.T) schedulertest.Subject { return newRig(t).subject(t) })
}

// TestStampedeOfOneTenant has 50 machines of one tenant after a quota of 10, with room for all of them.
func TestStampedeOfOneTenant(t *testing.T) {
	r := newRig(t, func(c *store.Config) { c.DefaultQuota = scheduler.Quota{VMs: 10} })
	for i := range 3 {
		r.heartbeat(schedulertest.Heartbeat(fmt.Sprintf("kvm-%d", i), 8, 64*gib, 640*gib))
	}
	tenant := uuid.New()
	errsOf := make(chan error, 50)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := r.Reserve(t.Context(), schedulertest.Request(tenant))
			errsOf <- err
		})
	}
	wg.Wait()
	close(errsOf)
	placed := 0
	for err := range errsOf {
		if err == nil {
			placed++
		} else if !errors.Is(err, scheduler.ErrQuotaExceeded) {
			t.Errorf("refused with %v", err)
		}
	}
	r.noDrift(t)
	if placed != 10 {
		t.Errorf("%d placed, the quota is 10", placed)
	}
	if want := map[string]int{service.ResultReserved: 10, service.ResultQuota: 40}; !maps.Equal(r.counts.of, want) {
		t.Errorf("recorded %v, want %v", r.counts.of, want)
	}
}

// TestOneMachineAtOnce reserves, confirms and releases the same machine from many sides at the same time.
func TestOneMachineAtOnce(t *testing.T) {
	r := newRig(t)
	r.heartbeat(schedulertest.Heartbeat("kvm-1", 8, 64*gib, 640*gib))
	r.heartbeat(schedulertest.Heartbeat("kvm-2", 8, 64*gib, 640*gib))
	req := schedulertest.Request(uuid.New())
	places := make(chan scheduler.Allocation, 20)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			resp, err := r.Reserve(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			places <- resp.Allocation
		})
	}
	wg.Wait()
	close(places)
	nodes := map[uuid.UUID]bool{}
	for a := range places {
		nodes[a.NodeID] = true
	}
	if len(nodes) != 1 {
		t.Errorf("one machine got places on %d nodes", len(nodes))
	}
	r.noDrift(t)
	for range 10 {
		wg.Go(func() {
			if _, err := r.Release(t.Context(), scheduler.ReleaseRequest{VMID: req.VMID}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := r.SweepOnce(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.noDrift(t)
	if resp, err := r.ListAllocations(t.Context(), scheduler.ListAllocationsRequest{}); err != nil || len(resp.Allocations) != 0 {
		t.Errorf("left %v, %v", resp, err)
	}
}

// TestTwoTenantsOneMachine has two tenants reserve for one id at the same time: one of them gets it, whoever it is.
func TestTwoTenantsOneMachine(t *testing.T) {
	r := newRig(t)
	r.heartbeat(schedulertest.Heartbeat("kvm-1", 8, 64*gib, 640*gib))
	for range 10 {
		id := uuid.New()
		results := make(chan error, 2)
		for range 2 {
			req := schedulertest.Request(uuid.New())
			req.VMID = id
			go func() {
				_, err := r.Reserve(t.Context(), req)
				results <- err
			}()
		}
		a, b := <-results, <-results
		if a != nil {
			a, b = b, a
		}
		if a != nil || !errors.Is(b, scheduler.ErrReservationMismatch) {
			t.Fatalf("got %v and %v", a, b)
		}
	}
	r.noDrift(t)
}

// TestManyAtOnce runs random requests of several tenants against nodes that keep filling up; nothing may fail, be over-committed or leak.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t, func(c *store.Config) { c.DefaultQuota = scheduler.Quota{VMs: 12} })
	for i := range 3 {
		r.heartbeat(schedulertest.Heartbeat(fmt.Sprintf("kvm-%d", i), 8, 8*gib, 640*gib))
	}
	var machines []scheduler.ReserveRequest
	for i := range 40 {
		req := schedulertest.Request(uuid.UUID{15: byte(i%4 + 1)})
		req.VCPUs, req.MemoryBytes = i%3+1, int64(i%2+1)*gib
		machines = append(machines, req)
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		rnd := rand.New(rand.NewPCG(1, uint64(worker)))
		wg.Go(func() {
			for range 60 {
				req := machines[rnd.IntN(len(machines))]
				var err error
				switch rnd.IntN(6) {
				case 0, 1, 2:
					if _, err = r.Reserve(t.Context(), req); errors.Is(err, scheduler.ErrNoFit) || errors.Is(err, scheduler.ErrQuotaExceeded) {
						err = nil
					}
				case 3:
					if _, err = r.Confirm(t.Context(), scheduler.ConfirmRequest{VMID: req.VMID}); errors.Is(err, scheduler.ErrReservationExpired) {
						err = nil
					}
				case 4:
					_, err = r.Release(t.Context(), scheduler.ReleaseRequest{VMID: req.VMID})
				case 5:
					_, err = r.pool.Exec(t.Context(), "UPDATE resource_allocations SET expires_at = now() WHERE vm_id = $1 AND status = 'reserved'", req.VMID)
					err = errors.Join(err, r.SweepOnce(t.Context()))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.noDrift(t)
	resp, err := r.ListNodes(t.Context(), scheduler.ListNodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range resp.Nodes {
		if n.Allocated.MemoryBytes > n.Limits.MemoryBytes || n.Allocated.VCPUs > n.Limits.VCPUs {
			t.Errorf("node %s is over-committed: %+v of %+v", n.Name, n.Allocated, n.Limits)
		}
	}
}

// TestCountersFollow is the property: whatever is asked in whatever order, counters are the sums of the allocations, and the contract's
// promises hold.
func TestCountersFollow(t *testing.T) {
	r := newRig(t, func(c *store.Config) { c.DefaultQuota = scheduler.Quota{VCPUs: 8, VMs: 4} })
	rapid.Check(t, func(t *rapid.T) {
		r.exec("TRUNCATE nodes, resource_allocations, quotas, quota_usage")
		for i := range 2 {
			r.heartbeat(schedulertest.Heartbeat(fmt.Sprintf("kvm-%d", i), 1, 4*gib, 10*gib))
		}
		tenants := []uuid.UUID{uuid.New(), uuid.New()}
		machines := make([]scheduler.ReserveRequest, 6)
		for i := range machines {
			machines[i] = schedulertest.Request(tenants[i%2])
			machines[i].VCPUs = rapid.IntRange(1, 17).Draw(t, "vcpus")
			machines[i].MemoryBytes = rapid.Int64Range(1, 5*gib).Draw(t, "memory")
			machines[i].StorageBytes = rapid.Int64Range(0, 11*gib).Draw(t, "storage")
		}
		model := map[uuid.UUID]string{} // machine -> reserved, expired or confirmed
		machine := func(t *rapid.T) scheduler.ReserveRequest { return rapid.SampledFrom(machines).Draw(t, "machine") }
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				req := machine(t)
				_, err := r.Reserve(context.Background(), req)
				was := model[req.VMID]
				switch {
				case was == "reserved" || was == "confirmed":
					if err != nil {
						t.Fatalf("a %s machine cannot be reserved again: %v", was, err)
					}
				case err == nil:
					model[req.VMID] = "reserved"
				case errors.Is(err, scheduler.ErrNoFit), errors.Is(err, scheduler.ErrQuotaExceeded):
					delete(model, req.VMID) // an expired one is given back on the way
				default:
					t.Fatalf("reserve: %v", err)
				}
			},
			"confirm": func(t *rapid.T) {
				req := machine(t)
				_, err := r.Confirm(context.Background(), scheduler.ConfirmRequest{VMID: req.VMID})
				switch was := model[req.VMID]; {
				case was == "reserved" || was == "confirmed":
					if err != nil {
						t.Fatalf("confirm %s: %v", was, err)
					}
					model[req.VMID] = "confirmed"
				case !errors.Is(err, scheduler.ErrReservationExpired):
					t.Fatalf("confirm a machine without a place (%q): %v", was, err)
				}
			},
			"release": func(t *rapid.T) {
				req := machine(t)
				if _, err := r.Release(context.Background(), scheduler.ReleaseRequest{VMID: req.VMID}); err != nil {
					t.Fatalf("release: %v", err)
				}
				delete(model, req.VMID)
			},
			"expire": func(t *rapid.T) {
				req := machine(t)
				r.expire(req.VMID)
				if model[req.VMID] == "reserved" {
					model[req.VMID] = "expired"
				}
			},
			"sweep": func(t *rapid.T) {
				if err := r.SweepOnce(context.Background()); err != nil {
					t.Fatalf("sweep: %v", err)
				}
				maps.DeleteFunc(model, func(_ uuid.UUID, was string) bool { return was == "expired" })
			},
			"": func(t *rapid.T) {
				r.noDrift(t)
				resp, err := r.ListAllocations(context.Background(), scheduler.ListAllocationsRequest{})
				if err != nil {
					t.Fatalf("list: %v", err)
				}
				if len(resp.Allocations) != len(model) {
					t.Fatalf("%d allocations, the model has %d", len(resp.Allocations), len(model))
				}
				for _, a := range resp.Allocations {
					if was := model[a.VMID]; (was == "confirmed") != (a.Status == scheduler.AllocationConfirmed) || was == "" {
						t.Fatalf("allocation %+v, the model says %q", a, was)
					}
				}
			},
		})
	})
}

func TestHeartbeatsOutOfOrder(t *testing.T) {
	r := newRig(t)
	h := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	h.Epoch = 7
	r.heartbeat(h)
	older := h
	older.Timestamp, older.Name = h.Timestamp.Add(-time.Second), "older"
	r.heartbeat(older)
	lastLife := h
	lastLife.Epoch, lastLife.Timestamp, lastLife.Name = 6, h.Timestamp.Add(time.Hour), "last-life"
	r.heartbeat(lastLife)
	if n := r.node(h.NodeID); n.Name != "kvm-1" || n.Epoch != 7 {
		t.Errorf("an older heartbeat won: %+v", n)
	}
	newer := h
	newer.Timestamp, newer.Capacity.VCPUs, newer.Health, newer.Reason = h.Timestamp.Add(time.Second), 8, scheduler.HealthDegraded, "disk is slow"
	r.heartbeat(newer)
	if n := r.node(h.NodeID); n.Capacity.VCPUs != 8 || n.Limits.VCPUs != 128 || n.Health != scheduler.HealthDegraded || n.Reason != "disk is slow" {
		t.Errorf("a newer heartbeat lost: %+v", n)
	}
	r.exec("UPDATE nodes SET last_heartbeat = now() - interval '31 minutes'")
	r.heartbeat(lastLife)
	if n := r.node(h.NodeID); n.Epoch != 7 {
		t.Errorf("the heartbeat of an earlier start won: %+v", n)
	}
	setBack := h
	setBack.Timestamp, setBack.Name = h.Timestamp.Add(-time.Hour), "kvm-1a"
	r.heartbeat(setBack)
	if n := r.node(h.NodeID); n.Name != "kvm-1a" || time.Since(n.LastHeartbeat) > 15*time.Minute {
		t.Errorf("a node whose clock was set back is not heard: %+v", n)
	}
	nextLife := h // its clock was set back
	nextLife.Epoch, nextLife.Timestamp, nextLife.Name = 8, h.Timestamp.Add(-time.Hour), "kvm-1b"
	r.heartbeat(nextLife)
	if n := r.node(h.NodeID); n.Name != "kvm-1b" || n.Epoch != 8 {
		t.Errorf("the heartbeat of a later start lost: %+v", n)
	}
}

func TestHeartbeatsThatMakeNoSense(t *testing.T) {
	r := newRig(t)
	nameless := schedulertest.Heartbeat("", 4, 8*gib, 100*gib)
	r.heartbeat(nameless)
	nobody := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	nobody.NodeID = uuid.Nil
	r.heartbeat(nobody)
	odd := schedulertest.Heartbeat("kvm-2", -4, -8, -100)
	odd.StorageFree, odd.Hypervisors = -1, nil
	r.heartbeat(odd)
	resp, err := r.ListNodes(t.Context(), scheduler.ListNodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Nodes) != 1 || resp.Nodes[0].Name != "kvm-2" || resp.Nodes[0].Capacity != (scheduler.Resources{}) {
		t.Errorf("registered %+v", resp.Nodes)
	}
}

func TestUnreachableNode(t *testing.T) {
	r := newRig(t)
	h := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	r.heartbeat(h)
	r.exec("UPDATE nodes SET last_heartbeat = now() - interval '61 minutes'")
	n := r.node(h.NodeID)
	if n.State != scheduler.NodeUnreachable || !strings.HasPrefix(n.Reason, "no heartbeat since ") {
		t.Errorf("node %+v", n)
	}
	_, err := r.Reserve(t.Context(), schedulertest.Request(uuid.New()))
	if !errors.Is(err, scheduler.ErrNoFit) || !strings.Contains(err.Error(), "1 of 1 are unreachable") {
		t.Errorf("reserve: %v", err)
	}
	h.Timestamp = h.Timestamp.Add(time.Second)
	r.heartbeat(h)
	if n := r.node(h.NodeID); n.State != scheduler.NodeReady || n.Reason != "" {
		t.Errorf("came back as %+v", n)
	}
}

func TestCordonAndLabels(t *testing.T) {
	r := newRig(t)
	h := schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib)
	r.heartbeat(h)
	yes, rack, zone := true, "b7", "west"
	n, err := r.UpdateNode(t.Context(), h.NodeID, store.NodeChange{Cordoned: &yes, Labels: map[string]*string{"rack": &rack, "zone": &zone}})
	if err != nil || !n.Cordoned || !maps.Equal(n.Labels, map[string]string{"rack": "b7", "zone": "west"}) {
		t.Fatalf("changed to %+v, %v", n, err)
	}
	if _, err := r.Reserve(t.Context(), schedulertest.Request(uuid.New())); !errors.Is(err, scheduler.ErrNoFit) || !strings.Contains(err.Error(), "cordoned") {
		t.Errorf("reserve on a cordoned node: %v", err)
	}
	h.Timestamp = h.Timestamp.Add(time.Second)
	r.heartbeat(h) // must not undo what the administrator did
	if got := r.node(h.NodeID); !got.Cordoned || len(got.Labels) != 2 || got.Revision != n.Revision {
		t.Errorf("after a heartbeat %+v", got)
	}
	again, err := r.UpdateNode(t.Context(), h.NodeID, store.NodeChange{Cordoned: &yes, Labels: map[string]*string{"rack": &rack, "none": nil}})
	if err != nil || again.Revision != n.Revision {
		t.Errorf("no change made revision %d of %d, %v", again.Revision, n.Revision, err)
	}
	old := n.Revision - 1
	if _, err := r.UpdateNode(t.Context(), h.NodeID, store.NodeChange{Revision: &old, Labels: map[string]*string{"zone": nil}}); !errors.Is(err, scheduler.ErrVersion) {
		t.Errorf("change of an old revision: %v", err)
	}
	if n, err = r.UpdateNode(t.Context(), h.NodeID, store.NodeChange{Revision: &n.Revision, Labels: map[string]*string{"zone": nil}}); err != nil || len(n.Labels) != 1 {
		t.Errorf("removed: %+v, %v", n.Labels, err)
	}
	many := map[string]*string{}
	for i := range store.MaxLabels {
		many[fmt.Sprint(i)] = &zone
	}
	long := strings.Repeat("x", 256)
	for name, labels := range map[string]map[string]*string{"too many": many, "empty name": {"": &zone}, "long name": {long: &zone}, "long value": {"x": &long}} {
		if _, err := r.UpdateNode(t.Context(), h.NodeID, store.NodeChange{Labels: labels}); !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.UpdateNode(t.Context(), uuid.New(), store.NodeChange{Cordoned: &yes}); !errors.Is(err, scheduler.ErrNodeNotFound) {
		t.Errorf("unknown node: %v", err)
	}
}

func TestQuotaPermissions(t *testing.T) {
	r := newRig(t, func(c *store.Config) { c.DefaultQuota = scheduler.Quota{VCPUs: 8} })
	own, foreign := uuid.New(), uuid.New()
	tenant := identity.With(t.Context(), identity.Principal{TenantID: own, Permissions: []string{"*"}, Scope: identity.ScopeTenant})
	platform := identity.With(t.Context(), identity.Principal{TenantID: own, Permissions: []string{"*"}, Scope: identity.ScopePlatform})
	q, err := r.Quota(tenant, own)
	if err != nil || q.Own || q.Limits.VCPUs != 8 || q.Revision != 0 || q.TenantID != own {
		t.Errorf("default: %+v, %v", q, err)
	}
	if _, err := r.Quota(tenant, foreign); !errors.Is(err, scheduler.ErrTenantNotFound) {
		t.Errorf("read a foreign quota: %v", err)
	}
	if _, err := r.SetQuota(tenant, own, scheduler.Quota{}, nil); !errors.Is(err, scheduler.ErrPlatformOnly) {
		t.Errorf("a tenant set its own quota: %v", err)
	}
	if _, err := r.SetQuota(tenant, foreign, scheduler.Quota{}, nil); !errors.Is(err, scheduler.ErrTenantNotFound) {
		t.Errorf("a tenant set a foreign quota: %v", err)
	}
	zero := int64(0)
	if q, err = r.SetQuota(platform, foreign, scheduler.Quota{VMs: 3}, &zero); err != nil || !q.Own || q.Limits != (scheduler.Quota{VMs: 3}) || q.Revision != 1 {
		t.Errorf("set: %+v, %v", q, err)
	}
	if _, err = r.SetQuota(platform, foreign, scheduler.Quota{VMs: 4}, &zero); !errors.Is(err, scheduler.ErrVersion) {
		t.Errorf("set an old revision: %v", err)
	}
	r.heartbeat(schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib))
	if _, err := r.Reserve(t.Context(), schedulertest.Request(foreign)); err != nil {
		t.Fatal(err)
	}
	// Less than is in use takes nothing away.
	if q, err = r.SetQuota(platform, foreign, scheduler.Quota{MemoryBytes: 1}, nil); err != nil || q.Usage.VMs != 1 || q.Usage.MemoryBytes != gib || q.Revision != 2 {
		t.Errorf("shrunk: %+v, %v", q, err)
	}
	r.noDrift(t)
}

func TestTry(t *testing.T) {
	r := newRig(t)
	a, b := schedulertest.Heartbeat("kvm-1", 2, 8*gib, 100*gib), schedulertest.Heartbeat("kvm-2", 4, 4*gib, 100*gib)
	r.heartbeat(a)
	r.heartbeat(b)
	reader := identity.With(t.Context(), identity.Principal{Permissions: []string{"scheduler:read", "node:read"}})
	p, err := r.Try(reader, placement.Request{VCPUs: 40, MemoryBytes: gib, HypervisorType: "kvm"})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Fits || p.NodeName != "kvm-2" || p.NodeID == nil || *p.NodeID != b.NodeID || p.Summary != "1 of 2 nodes fit" || len(p.Nodes) != 2 ||
		!p.Nodes[0].Fits || p.Nodes[1].Fits || !p.Nodes[1].Permanent || p.Nodes[1].Free.VCPUs != 32 ||
		p.Nodes[1].Reasons[0] != "needs 40 vCPUs, has 32 free of 32 (2 hardware threads × 16)" {
		t.Errorf("%+v", p)
	}
	p, err = r.Try(t.Context(), placement.Request{VCPUs: 40, MemoryBytes: 6 * gib, HypervisorType: "kvm"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Fits || p.NodeID != nil || p.NodeName != "" || len(p.Nodes) != 2 || p.Nodes[0].Node != "1" || p.Nodes[0].Free != nil || p.Nodes[0].NodeID != nil ||
		p.Summary != "no node fits: 1 of 2 lack vCPUs, 1 of 2 lack memory" ||
		p.Advice != "It would fit if the machine asked for less, or a larger node were added (nodes lack vCPUs)." {
		t.Errorf("%+v", p)
	}
	if _, err := r.Try(reader, placement.Request{}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("nothing asked: %v", err)
	}
	if resp, err := r.ListAllocations(t.Context(), scheduler.ListAllocationsRequest{}); err != nil || len(resp.Allocations) != 0 {
		t.Errorf("a try took %v, %v", resp, err)
	}
}

// TestWithoutDatabase shows that a scheduler that is stopped, or whose database is gone, says so and nothing else.
func TestWithoutDatabase(t *testing.T) {
	r := newRig(t)
	r.heartbeat(schedulertest.Heartbeat("kvm-1", 4, 8*gib, 100*gib))
	r.pool.Close()
	if _, err := r.Reserve(t.Context(), schedulertest.Request(uuid.New())); err == nil || errors.Is(err, scheduler.ErrNoFit) {
		t.Errorf("reserve on a closed pool: %v", err)
	}
	stopped := service.New(service.Config{ReservationTTL: time.Minute}, store.New(store.Config{}), r.counts, nil)
	if _, err := stopped.Reserve(t.Context(), schedulertest.Request(uuid.New())); !errors.Is(err, scheduler.ErrNotRunning) {
		t.Errorf("reserve while stopped: %v", err)
	}
	if err := stopped.Ready(t.Context()); !errors.Is(err, scheduler.ErrNotRunning) {
		t.Errorf("ready while stopped: %v", err)
	}
	// A request whose time is up fails as such.
	live := newRig(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := live.Reserve(ctx, schedulertest.Request(uuid.New())); !errors.Is(err, pg.ErrDeadline) {
		t.Errorf("reserve after the deadline: %v", err)
	}
}
