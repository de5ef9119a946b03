package placement_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/novacron/novacron/internal/scheduler"
	"github.com/novacron/novacron/internal/scheduler/internal/placement"
)

const gib = int64(1) << 30

var policy = placement.Policy{OvercommitVCPU: 16, OvercommitMemory: 1.5, MemoryReserve: gib, StorageReserve: 10 * gib, NodeTimeout: 30 * time.Second}

func node(name string, id byte) scheduler.Node {
	n := scheduler.Node{ID: uuid.UUID{15: id}, Name: name, State: scheduler.NodeReady, Health: scheduler.HealthHealthy, Hypervisors: []string{"kvm"},
		Capacity: scheduler.Resources{VCPUs: 4, MemoryBytes: 9 * gib, StorageBytes: 110 * gib}, StorageFreeBytes: 110 * gib}
	n.Limits = policy.Limits(n.Capacity)
	return n
}

func TestLimits(t *testing.T) {
	if got, want := node("a", 1).Limits, (scheduler.Resources{VCPUs: 64, MemoryBytes: 12 * gib, StorageBytes: 100 * gib}); got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
	if got := policy.Limits(scheduler.Resources{VCPUs: 1, MemoryBytes: 1, StorageBytes: 1}); got != (scheduler.Resources{VCPUs: 16}) {
		t.Errorf("a node smaller than what is kept for the host: %+v", got)
	}
}

func TestState(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]scheduler.NodeState{
		0: scheduler.NodeReady, 30 * time.Second: scheduler.NodeReady, 30*time.Second + 1: scheduler.NodeUnreachable, -time.Hour: scheduler.NodeReady,
	} {
		if got := policy.State(now.Add(-age), now); got != want {
			t.Errorf("after %v: %s, want %s", age, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	small := placement.Request{VCPUs: 1, MemoryBytes: gib, StorageBytes: gib, HypervisorType: "kvm"}
	for name, c := range map[string]struct {
		change    func(*scheduler.Node, *placement.Request)
		want      string
		permanent bool
	}{
		"fits":          {func(*scheduler.Node, *placement.Request) {}, "", false},
		"exactly":       {func(n *scheduler.Node, r *placement.Request) { n.Allocated.VCPUs, r.VCPUs = 60, 4 }, "", false},
		"vcpus":         {func(n *scheduler.Node, r *placement.Request) { n.Allocated.VCPUs, r.VCPUs = 60, 5 }, "needs 5 vCPUs, has 4 free of 64 (4 hardware threads × 16)", false},
		"vcpus, ever":   {func(_ *scheduler.Node, r *placement.Request) { r.VCPUs = 65 }, "needs 65 vCPUs, has 64 free of 64 (4 hardware threads × 16)", true},
		"memory":        {func(n *scheduler.Node, r *placement.Request) { n.Allocated.MemoryBytes = 12*gib - 512<<20 }, "needs 1 GiB of memory, has 512 MiB free of 12 GiB", false},
		"memory, ever":  {func(_ *scheduler.Node, r *placement.Request) { r.MemoryBytes = math.MaxInt64 }, "needs 7.9 EiB of memory, has 12 GiB free of 12 GiB", true},
		"node shrank":   {func(n *scheduler.Node, _ *placement.Request) { n.Allocated.MemoryBytes = 20 * gib }, "needs 1 GiB of memory, has 0 B free of 12 GiB", false},
		"storage":       {func(n *scheduler.Node, _ *placement.Request) { n.Allocated.StorageBytes = 100 * gib }, "needs 1 GiB of storage, has 0 B free of 100 GiB", false},
		"storage, ever": {func(_ *scheduler.Node, r *placement.Request) { r.StorageBytes = 101 * gib }, "needs 101 GiB of storage, has 100 GiB free of 100 GiB", true},
		"disk is full":  {func(n *scheduler.Node, _ *placement.Request) { n.StorageFreeBytes = 10*gib - 1 }, "has only 9.9 GiB left in the file system of its disks, of which 10 GiB are kept", false},
		"cordoned":      {func(n *scheduler.Node, _ *placement.Request) { n.Cordoned = true }, "is cordoned", false},
		"hypervisor":    {func(_ *scheduler.Node, r *placement.Request) { r.HypervisorType = "lxc" }, "does not run lxc, only [kvm]", true},
		"unreachable":   {func(n *scheduler.Node, _ *placement.Request) { n.State = scheduler.NodeUnreachable }, "is unreachable: its last heartbeat came at 0001-01-01T00:00:00Z", false},
		"several at once": {func(n *scheduler.Node, r *placement.Request) { n.Cordoned, r.VCPUs = true, 65 },
			"is cordoned; needs 65 vCPUs, has 64 free of 64 (4 hardware threads × 16)", true},
	} {
		n, r := node("a", 1), small
		c.change(&n, &r)
		v := placement.Verdict{Node: n, Reasons: policy.Check(n, r)}
		permanent := false
		for _, reason := range v.Reasons {
			permanent = permanent || reason.Permanent
		}
		if got := v.Explain(true); got != c.want || permanent != c.permanent || v.Fits() != (c.want == "") {
			t.Errorf("%s: %q permanent %v, want %q %v", name, got, permanent, c.want, c.permanent)
		}
	}
}

func TestRank(t *testing.T) {
	fuller, sick, busy, twin, first, out := node("fuller", 1), node("sick", 2), node("busy", 3), node("twin", 5), node("first", 4), node("out", 6)
	fuller.Allocated.MemoryBytes = gib
	sick.Health = scheduler.HealthDegraded
	busy.Allocated.VCPUs = 8
	out.Cordoned = true
	nodes := []scheduler.Node{out, fuller, sick, busy, twin, first}
	r := placement.Request{VCPUs: 1, MemoryBytes: gib, HypervisorType: "kvm"}
	for range len(nodes) { // whatever order they come in
		nodes = append(nodes[1:], nodes[0])
		var got string
		for _, v := range policy.Rank(nodes, r) {
			got += v.Node.Name + " "
		}
		if want := "first twin busy fuller sick out "; got != want {
			t.Fatalf("ranked %s, want %s", got, want)
		}
	}
}

func TestNoFit(t *testing.T) {
	a, b := node("a", 1), node("b", 2)
	a.Cordoned = true
	verdicts := policy.Rank([]scheduler.Node{b, a}, placement.Request{VCPUs: 65, MemoryBytes: gib, HypervisorType: "kvm"})
	e := placement.NoFit(verdicts, false)
	if e.Message != "no node fits: 1 of 2 are cordoned, 2 of 2 lack vCPUs" || e.Retryable || len(e.Fields) != 2 ||
		e.Fields[0].Message != "takes no new machines; has, even when empty, not enough vCPUs" || e.Fields[1].Location != "node.2" {
		t.Errorf("%q %+v retryable %v", e.Message, e.Fields, e.Retryable)
	}
	if e = placement.NoFit(policy.Rank([]scheduler.Node{a}, placement.Request{VCPUs: 1, MemoryBytes: 1, HypervisorType: "kvm"}), true); !e.Retryable {
		t.Error("a cordoned node may be uncordoned: a retry can help")
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 3 * gib: "3 GiB",
		gib + gib/10 + 1: "1.1 GiB", 2*gib - 1: "1.9 GiB", math.MaxInt64: "7.9 EiB"} {
		if got := placement.Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
